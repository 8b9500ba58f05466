/* SPDX-License-Identifier: BSD-2-Clause */
/* What a participant of a recorded run writes down, in memory that all share, and the clock they all read. */
#ifndef NORIA_TESTS_RECORDER_H
#define NORIA_TESTS_RECORDER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <noria/atomic.h>

#include "history.h"

/* Per participant. A receiver may get everything that all senders sent. */
enum { RECORDER_CALLS = 120000, RECORDER_REFUSALS = 30000 };

struct recorder {
    struct history_event calls[RECORDER_CALLS];
    uint64_t n;
    uint64_t refusals; /* "full" and "empty" that were written down */
    uint64_t random;
    uint64_t moved; /* records sent or received */
    uint64_t late;  /* commits that found themselves stepped over */
    uint64_t wrong; /* answers that no healthy ring gives */
};

static inline uint64_t recorder_random(struct recorder *recorder)
{
    recorder->random ^= recorder->random << 13;
    recorder->random ^= recorder->random >> 7;
    recorder->random ^= recorder->random << 17;
    return recorder->random >> 11;
}

/* Now, for everybody. The fence: what we stored is visible to others before the time is taken, so that a call
 * that has ended has taken effect; and no load of the call begins before the time is taken. With `ticks` the
 * time stamp counter, which is one clock for all processors where the kernel itself uses it as its clock. */
static inline uint64_t recorder_now(bool ticks)
{
    struct timespec now;

#if defined(__x86_64__)
    __builtin_ia32_mfence();
    __builtin_ia32_lfence();
    if (ticks) {
        uint64_t stamp = __builtin_ia32_rdtsc();
        __builtin_ia32_lfence();
        return stamp;
    }
#else
    (void)ticks;
    noria_fence_seq_cst();
#endif
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void recorder_add(struct recorder *recorder, enum history_kind kind, uint64_t value,
                                uint64_t start, uint64_t end)
{
    bool refusal = kind == HISTORY_EMPTY || kind == HISTORY_FULL;

    if (refusal && (recorder->refusals == RECORDER_REFUSALS || recorder->n == RECORDER_CALLS))
        return; /* one "empty" less to judge, no harm */
    recorder->refusals += refusal;
    recorder->moved += !refusal;
    if (recorder->n == RECORDER_CALLS) {
        recorder->wrong++; /* more than can be recorded: not to be judged as lost */
        return;
    }
    recorder->calls[recorder->n++] = (struct history_event){start, end, value, kind};
}

#endif
