/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An event count: sleep until somebody notifies, at the cost of one load for the notifier while nobody sleeps.
 *
 * The word in the segment and the sleeper's part are Concurrency Kit's ck_ec32 (ck_ec.h): top bit = somebody sleeps, the
 * rest counts the times somebody was woken. What is added: any strategy to sleep (strategy.h), the asymmetric fence, a
 * bounded re-check, and a notifier that changes the word only if somebody sleeps. (CK's counts each time. Then it may
 * count and take the flag down in two steps; this one must not.) It is only a hint: the ring is the truth.
 *
 *     sleeper                                 notifier
 *     set the flag                            commit to the ring
 *     barrier_heavy                (S)        compiler fence               (N)
 *     look at the ring: nothing               load the word: flag?
 *     sleep while the word stands             flag: clear it and count + 1 by compare-and-swap, wake all
 *
 *   S against N: either the look sees the commit or the load sees the flag.
 *   A notifier killed between commit and wake leaves a sleeper beside a message, so nobody sleeps longer than
 *   `recheck_ns` without looking for himself. A killed sleeper leaves a flag that costs one wake.
 */
#ifndef NORIA_EVENT_H
#define NORIA_EVENT_H

#include "strategy.h"

#define NORIA_EVENT_SLEEPERS (UINT32_C(1) << 31)

/* One side's event, as one handle sees it. */
struct noria_event {
    uint32_t *word; /* in the segment */
    const struct noria_strategy *strategy;
    struct noria_bell bell;
};

/* Opens the bell of a strategy; `word` lies in the segment. 0, or -errno with a sentence. */
int noria_event_open(struct noria_event *event, uint32_t *word, const struct noria_strategy *strategy,
                     struct noria_bell_place *place, unsigned side);
void noria_event_close(struct noria_event *event);

/* The flag was seen: counts one and wakes all sleepers. Async-signal-safe as far as the strategy is. */
void noria_event_wake(struct noria_event *event);
/* The same whatever the flag says. */
void noria_event_wake_all(struct noria_event *event);

/* Whether somebody sleeps who has to be woken for what was done before the call. `fenced`: this process could not
 * register for the asymmetric fence and must fence itself. */
static inline bool noria_event_has_sleepers(const uint32_t *word, bool fenced)
{
    if (fenced)
        noria_fence_seq_cst();
    else
        noria_fence_compiler(); /* N */
    return (noria_load_relaxed32(word) & NORIA_EVENT_SLEEPERS) != 0; /* relaxed: ordered by the fence */
}

static inline void noria_event_notify(struct noria_event *event, bool fenced)
{
    if (noria_event_has_sleepers(event->word, fenced))
        noria_event_wake(event);
}

/* Sleeps until a notification, the deadline, or until ready() says that there is nothing to wait for; ready is asked
 * after the flag is set, and again every recheck_ns. 0, or -EINTR if a signal handler ran. */
int noria_event_sleep(struct noria_event *event, int64_t deadline_ns, int64_t recheck_ns, bool (*ready)(void *),
                      void *context);

/* For those who wait somewhere else (poll): asks to be woken by the next notification. Whoever looks at the ring after this
 * and finds nothing will be. */
void noria_event_arm(uint32_t *word);
/* The flag alone, for whoever does not rely on it for a look of his own: a notifier who could not ring (the next one is to
 * try), a poller who is about to take a ring back from others. */
void noria_event_arm_again(uint32_t *word);

#endif
