/* SPDX-License-Identifier: BSD-2-Clause */
#include "event.h"

#include <ck_ec.h>
#include <errno.h>
#include <string.h>

#include "barrier.h"
#include "clock.h"

enum { WAKE_TRIES = 64 };

/* One sleep: what ck_ec's operations find their way back with. */
struct call {
    struct ck_ec_ops ops;
    struct ck_ec_mode mode;
    struct noria_event *event;
    int64_t deadline_ns;
    int64_t recheck_ns;
    bool (*ready)(void *);
    void *context;
    bool interrupted;
    bool had_rung; /* before the last look an earlier ring was taken back */
};

static int read_clock(const struct ck_ec_ops *ops, struct timespec *out)
{
    (void)ops;
    return clock_gettime(CLOCK_MONOTONIC, out);
}

static void wait_at_bell(const struct ck_ec_wait_state *state, const uint32_t *word, uint32_t expected,
                         const struct timespec *deadline)
{
    struct call *call = state->data;

    if (noria_load_acquire32(word) != expected) {
        if (call->had_rung)
            call->event->strategy->ring(&call->event->bell); /* others may have gone to sleep on the older word */
        return;
    }
    if (call->event->strategy->wait(&call->event->bell, expected,
                                    deadline->tv_sec * NORIA_NS_PER_S + deadline->tv_nsec) == -EINTR)
        call->interrupted = true;
}

static void begin(struct call *call, struct noria_event *event)
{
    memset(call, 0, sizeof(*call));
    call->ops.gettime = read_clock;
    call->ops.wait32 = wait_at_bell;
    call->ops.busy_loop_iter = 1; /* the caller has spun already */
    call->ops.initial_wait_ns = 1000000;
    call->mode.ops = &call->ops;
    call->mode.single_producer = false;
    call->event = event;
}

static struct ck_ec32 *count_of(uint32_t *word)
{
    return (struct ck_ec32 *)(void *)word;
}

int noria_event_open(struct noria_event *event, uint32_t *word, const struct noria_strategy *strategy,
                     struct noria_bell_place *place, unsigned side)
{
    event->word = word;
    event->strategy = strategy;
    event->bell = (struct noria_bell){.place = place, .word = word, .side = side, .fd = -1, .set = -1};
    return strategy->open != NULL ? strategy->open(&event->bell) : 0;
}

void noria_event_close(struct noria_event *event)
{
    if (event->strategy != NULL && event->strategy->close != NULL)
        event->strategy->close(&event->bell);
    event->strategy = NULL;
}

void noria_event_wake(struct noria_event *event)
{
    uint32_t seen = noria_load_relaxed32(event->word); /* the swap decides */

    /* Flag and count in one step: with two, a sleeper that announces itself in between could take a later flag for its
     * own (tests/model/bell.pml). Lost: another has counted, or somebody more sleeps. */
    for (int tries = 0; tries < WAKE_TRIES && (seen & NORIA_EVENT_SLEEPERS) != 0; tries++)
        if (noria_cas_acq_rel32(event->word, &seen, (seen + 1) & ~NORIA_EVENT_SLEEPERS)) {
            if (event->strategy->ring != NULL)
                event->strategy->ring(&event->bell);
            return;
        }
}

void noria_event_wake_all(struct noria_event *event)
{
    noria_event_wake(event); /* which rings if the flag is there */
    if (event->strategy->ring != NULL)
        event->strategy->ring(&event->bell);
}

/* Called by ck_ec with the flag set, before each sleep; sets how long that one may last. */
static int look_again(const struct ck_ec_wait_state *state, struct timespec *until)
{
    struct call *call = state->data;
    const struct noria_strategy *strategy = call->event->strategy;
    int64_t next = noria_now_ns() + call->recheck_ns;

    if (call->interrupted)
        return 1;
    call->had_rung = strategy->quiet != NULL && strategy->quiet(&call->event->bell);
    noria_barrier_heavy(); /* S */
    *until = noria_timespec_of(next < call->deadline_ns ? next : call->deadline_ns);
    if (!call->ready(call->context))
        return 0;
    if (call->had_rung)
        strategy->ring(&call->event->bell); /* it may have been meant for others, too */
    return 1;
}

int noria_event_sleep(struct noria_event *event, int64_t deadline_ns, int64_t recheck_ns, bool (*ready)(void *),
                      void *context)
{
    struct timespec deadline = noria_timespec_of(deadline_ns);
    struct call call;

    begin(&call, event);
    call.deadline_ns = deadline_ns;
    call.recheck_ns = recheck_ns;
    call.ready = ready;
    call.context = context;
    ck_ec32_wait_pred(count_of(event->word), &call.mode, ck_ec32_value(count_of(event->word)), look_again, &call,
                      deadline_ns == NORIA_FOREVER ? NULL : &deadline);
    return call.interrupted ? -EINTR : 0;
}

void noria_event_arm_again(uint32_t *word)
{
    noria_or_acq_rel32(word, NORIA_EVENT_SLEEPERS); /* whoever commits after this sees it; what came before only a look tells */
}

void noria_event_arm(uint32_t *word)
{
    noria_event_arm_again(word); /* ordered against the look by the barrier */
    noria_barrier_heavy();       /* S */
}
