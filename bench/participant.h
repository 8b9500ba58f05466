/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A participant: one process (or thread) of a run, its tally, and what it does after a failed try.
 * The loops of traffic.h are written in these terms; run.c makes participants and adds their tallies up.
 */
#ifndef BENCH_PARTICIPANT_H
#define BENCH_PARTICIPANT_H

#include <pthread.h>
#include <sched.h>

#include "contestant.h"
#include "ticks.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_ALIGNED __attribute__((aligned(128)))

enum { YIELD_AFTER = 64, HISTOGRAM_BUCKETS = 32768 };

/* What one participant did; shared, one pair of cache lines each, written at the end and now and then before.
 */
struct BENCH_ALIGNED tally {
    uint64_t count; /* sent or received */
    uint64_t mix;   /* sum of the scrambled tags */
    uint64_t begin_ns, end_ns;
    uint64_t misplaced;  /* after a later message of the same producer */
    uint64_t garbage;    /* torn, or from nowhere */
    uint64_t delayed_ns; /* runnable, but something else had the core */
    uint32_t finished;
};

/* Shared between the participants of one run and the process that reports it. */
struct run {
    pthread_barrier_t seated, ready, over;
    BENCH_ALIGNED uint32_t stop;
    uint32_t least;              /* messages that each producer sends whatever the window says */
    BENCH_ALIGNED uint64_t ball; /* of the canary */
    BENCH_ALIGNED double canary_ns[2];
    int32_t refused; /* -errno of format or join */
    int32_t crashed; /* signal, or 256 + exit status, of a participant */
    struct tally producer[BENCH_MOST_SIDE], consumer[BENCH_MOST_SIDE];
    uint32_t histogram[HISTOGRAM_BUCKETS]; /* of round trips, in ticks */
};

struct participant {
    struct run *run;
    const struct cell *cell;
    struct tally *tally;
    struct seat seat[2]; /* [1]: the way back of a round trip */
    uint32_t canary;     /* 1 and 2: the two that play ping-pong before and after */
    uint32_t pauses;     /* after a failed try */
    bool yields;         /* after YIELD_AFTER failed tries in a row */
    bool one_core;       /* there is only one: nobody may spin */
};

BENCH_INLINE bool participant_stopped(const struct participant *me, uint64_t sent)
{
    return __atomic_load_n(&me->run->stop, __ATOMIC_RELAXED) != 0 && sent >= me->run->least;
}

static inline void participant_pause(const struct participant *me)
{
    for (uint32_t i = 0; i < me->pauses; i++)
        cpu_pause();
}

/* The parent reads the counts of a run that it has to end by force. */
static inline void participant_progress(struct participant *me, uint64_t count)
{
    __atomic_store_n(&me->tally->count, count, __ATOMIC_RELAXED);
}

/* The way into and out of the loops: both wait for everybody, and the canary runs on the quiet cores in
 * between. */
void participant_ready(struct participant *me);
void participant_begin(struct participant *me);
__attribute__((noreturn)) void participant_fail(struct participant *me, int error);
void participant_end(struct participant *me, const struct tally *sum);

/* An MPMC consumer found nothing for YIELD_AFTER tries. True: everything sent has been received, or will
 * never be. */
bool participant_drained(struct participant *me, uint64_t count, uint64_t *idle_since_ns);

/* A consumer's book-keeping for SPSC, off the fast path: `tag` came where `expected` was due. Returns what is
 * due next. */
uint64_t participant_misfit(struct tally *sum, uint64_t tag, bool whole, uint64_t expected);

/* Round trips are counted in buckets; the second function gives a bucket's ticks back. */
void participant_sample(struct participant *me, uint64_t ticks);
uint64_t participant_bucket_ticks(uint32_t bucket);

/* The consumer's side of MPMC: what was last seen of each producer. */
struct ledger {
    struct tally sum;
    uint64_t last[BENCH_MOST_LANES][BENCH_MOST_SIDE];
};

/* `lanes`: so many messages of a producer after each other keep no order among themselves. */
BENCH_INLINE void ledger_enter(struct ledger *ledger, const uint8_t *message, size_t size, uint32_t lanes)
{
    uint64_t *last;
    bool whole;
    uint64_t tag = message_read(message, size, &whole);
    uint32_t producer = message_producer(tag);

    ledger->sum.count++;
    ledger->sum.mix += message_scramble(tag);
    if (__builtin_expect(!whole || producer >= BENCH_MOST_SIDE, 0)) {
        ledger->sum.garbage++;
        return;
    }
    last = &ledger->last[message_sequence(tag) % lanes][producer];
    ledger->sum.misplaced += message_sequence(tag) <= *last;
    *last = message_sequence(tag);
}

#ifdef __cplusplus
}
#endif

#endif
