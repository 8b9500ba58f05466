/* SPDX-License-Identifier: BSD-2-Clause */
#include "event.h"

#include <ck_ec.h>
#include <linux/futex.h>
#include <limits.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "barrier.h"
#include "clock.h"

static int read_clock(const struct ck_ec_ops *ops, struct timespec *out)
{
    (void)ops;
    return clock_gettime(CLOCK_MONOTONIC, out);
}

static void futex_wait(const struct ck_ec_wait_state *state, const uint32_t *word, uint32_t expected,
                       const struct timespec *deadline)
{
    (void)state;
    /* BITSET, because its timeout is an absolute instant of CLOCK_MONOTONIC. Early returns are fine. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void futex_wake(const struct ck_ec_ops *ops, const uint32_t *word)
{
    (void)ops;
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static const struct ck_ec_ops futex_between_processes = {
    .gettime = read_clock,
    .wait32 = futex_wait,
    .wake32 = futex_wake,
    .busy_loop_iter = 1, /* the caller has spun already */
    .initial_wait_ns = 1000000,
};
static const struct ck_ec_mode many_notifiers = {.ops = &futex_between_processes, .single_producer = false};

void noria_event_wake(uint32_t *word)
{
    ck_ec32_inc((struct ck_ec32 *)(void *)word, &many_notifiers);
}

struct sleep {
    int64_t deadline_ns;
    int64_t recheck_ns;
    bool (*ready)(void *);
    void *context;
};

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NORIA_NS_PER_S, .tv_nsec = ns % NORIA_NS_PER_S};
}

/* Called by ck_ec with the flag set, before each sleep; sets how long that one may last. */
static int look_again(const struct ck_ec_wait_state *state, struct timespec *until)
{
    const struct sleep *sleep = state->data;
    int64_t next = noria_now_ns() + sleep->recheck_ns;

    noria_barrier_heavy(); /* S */
    *until = timespec_of(next < sleep->deadline_ns ? next : sleep->deadline_ns);
    return sleep->ready(sleep->context) ? 1 : 0;
}

void noria_event_sleep(uint32_t *word, int64_t deadline_ns, int64_t recheck_ns, bool (*ready)(void *), void *context)
{
    struct ck_ec32 *event = (struct ck_ec32 *)(void *)word;
    struct sleep sleep = {deadline_ns, recheck_ns, ready, context};
    struct timespec deadline = timespec_of(deadline_ns);

    ck_ec32_wait_pred(event, &many_notifiers, ck_ec32_value(event), look_again, &sleep,
                      deadline_ns == NORIA_FOREVER ? NULL : &deadline);
}
