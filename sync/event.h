/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An event count on one shared 32-bit word: sleep until somebody notifies, at the cost of one load for the notifier
 * while nobody sleeps.
 *
 * The word and its protocol are Concurrency Kit's ck_ec32 (ck_ec.h): top bit = somebody sleeps, the rest counts
 * notifications. What is added: futex between processes, the asymmetric fence, and a bounded re-check. It is only a
 * hint: the ring is the truth.
 *
 *     sleeper                                 notifier
 *     set the flag                            commit to the ring
 *     barrier_heavy                (S)        compiler fence               (N)
 *     look at the ring: nothing               load the word: flag?
 *     sleep while the word stands             flag: count + 1, clear it, wake all
 *
 *   S against N: either the look sees the commit or the load sees the flag.
 *   A notifier killed between commit and wake leaves a sleeper beside a message, so nobody sleeps longer than
 *   `recheck_ns` without looking for himself. A killed sleeper leaves a flag that costs one wake.
 */
#ifndef NORIA_EVENT_H
#define NORIA_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"

#define NORIA_EVENT_SLEEPERS (UINT32_C(1) << 31)

/* Counts one and wakes all sleepers. */
void noria_event_wake(uint32_t *word);

/* `fenced`: this process could not register for the asymmetric fence and must fence itself. */
static inline void noria_event_notify(uint32_t *word, bool fenced)
{
    if (fenced)
        noria_fence_seq_cst();
    else
        noria_fence_compiler(); /* N */
    if ((noria_load_relaxed32(word) & NORIA_EVENT_SLEEPERS) != 0) /* relaxed: ordered by the fence */
        noria_event_wake(word);
}

/* Sleeps until a notification, the deadline, or until ready() says that there is nothing to wait for; ready is asked
 * after the flag is set, and again every recheck_ns. */
void noria_event_sleep(uint32_t *word, int64_t deadline_ns, int64_t recheck_ns, bool (*ready)(void *), void *context);

#endif
