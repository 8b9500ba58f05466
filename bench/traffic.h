/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes the four loops of a contestant out of its seven functions (contestant.h) and registers it. Include it
 * once per contestant, after
 *
 *     #define CONTESTANT          prefix of the functions
 *     #define CONTESTANT_NAME     "what the report prints"
 *     #define CONTESTANT_CALLS    "which calls are measured"
 *     #define CONTESTANT_TRAITS   TAKES_SPSC | ...
 *     #define CONTESTANT_WAIT(side, role) ...      only if it has a wait of its own
 *     #define CONTESTANT_CLOSE(memory) ...         only if format makes more than memory; once, after the run
 *     #define CONTESTANT_LANES    n                only if message number i of a producer is in order only among those
 *                                                  with the same i % n
 *
 * All of them are undefined again at the end, so that one file can hold several forms of a rival.
 */
#include "participant.h"

#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#define BENCH_JOIN_WORDS(a, b) a##b
#define BENCH_WORD(a, b) BENCH_JOIN_WORDS(a, b)

#ifdef __cplusplus
#define BENCH_ZERO {}
#else
#define BENCH_ZERO {0}
#endif

enum { BENCH_STOP_CHECK = 64 }; /* messages between two looks at the stop flag */

/* Sizes and batches become constants in the loops, as they would be in a program with one message type. */
#define BENCH_BY_BATCH(loop, size) \
    ((me)->cell->batch == 1 ? loop(me, &side, size, 1) : loop(me, &side, size, BENCH_BATCH))
#define BENCH_BY_SHAPE(loop) \
    switch (me->cell->size) { \
    case 8: BENCH_BY_BATCH(loop, 8); break; \
    case 64: BENCH_BY_BATCH(loop, 64); break; \
    case 256: BENCH_BY_BATCH(loop, 256); break; \
    case 1024: BENCH_BY_BATCH(loop, 1024); break; \
    case 4096: BENCH_BY_BATCH(loop, 4096); break; \
    case 65536: BENCH_BY_BATCH(loop, 65536); break; \
    default: break; \
    }
#define BENCH_BY_SIZE(loop) \
    switch (me->cell->size) { \
    case 8: loop(me, &sides[0], &sides[1], 8); break; \
    case 64: loop(me, &sides[0], &sides[1], 64); break; \
    case 256: loop(me, &sides[0], &sides[1], 256); break; \
    case 1024: loop(me, &sides[0], &sides[1], 1024); break; \
    case 4096: loop(me, &sides[0], &sides[1], 4096); break; \
    case 65536: loop(me, &sides[0], &sides[1], 65536); break; \
    default: break; \
    }

#endif

#define OF(function) BENCH_WORD(CONTESTANT, function)

#ifndef CONTESTANT_LANES
#define CONTESTANT_LANES 1
#endif

/* After a failed try, the `failures`-th in a row. */
static inline void OF(_failed)(const struct participant *me, struct OF(_side) *side, enum role role,
                               uint32_t *failures)
{
#ifdef CONTESTANT_WAIT
    CONTESTANT_WAIT(side, role);
#else
    (void)side;
    (void)role;
    participant_pause(me);
#endif
    if (++*failures % YIELD_AFTER == 0 && me->yields)
        sched_yield();
}

/* Sends one batch, or the part of it there was room for; returns how many messages. */
BENCH_INLINE uint32_t OF(_put)(struct participant *me, struct OF(_side) *side, uint64_t tag, size_t size,
                               uint32_t batch)
{
    uint32_t filled = 0, published = 0, failures = 0;
    uint8_t *where;

    for (;;) {
        while (filled < batch && (where = OF(_place)(side, filled, size, batch)) != NULL) {
            message_fill(where, size, tag + filled);
            filled++;
        }
        if (filled > 0)
            break;
        OF(_failed)(me, side, ROLE_PRODUCER, &failures);
    }
    for (;;) {
        published += OF(_publish)(side, published, filled, size, batch);
        if (published == filled)
            return filled;
        OF(_failed)(me, side, ROLE_PRODUCER, &failures);
    }
}

BENCH_INLINE void OF(_stream_out)(struct participant *me, struct OF(_side) *side, size_t size,
                                  uint32_t batch)
{
    struct tally sum = BENCH_ZERO;
    uint64_t first = message_tag(me->seat[0].index, MESSAGE_FIRST), tag = first;

    participant_begin(me);
    while (!participant_stopped(me, tag - first)) {
        for (uint32_t sent = 0; sent < BENCH_STOP_CHECK; sent += batch)
            tag += OF(_put)(me, side, tag, size, batch);
        if (me->cell->mpmc)
            participant_progress(me, tag - first);
    }
    if (!me->cell->mpmc)
        OF(_put)(me, side, MESSAGE_END, size, 1);
    sum.count = tag - first;
    participant_end(me, &sum);
}

BENCH_INLINE void OF(_stream_in_order)(struct participant *me, struct OF(_side) *side, size_t size,
                                       uint32_t batch)
{
    struct tally sum = BENCH_ZERO;
    uint64_t expected = MESSAGE_FIRST;
    uint32_t failures = 0;
    bool ended = false;

    participant_begin(me);
    while (!ended) {
        const uint8_t *message;
        uint32_t n = 0;

        while (n < batch && !ended && (message = OF(_arrived)(side, n, size, batch)) != NULL) {
            bool whole;
            uint64_t tag = message_read(message, size, &whole);

            n++;
            if (__builtin_expect(tag == expected && whole, 1))
                expected++;
            else if (tag == MESSAGE_END && whole)
                ended = true;
            else
                expected = participant_misfit(&sum, tag, whole, expected);
        }
        if (n > 0) {
            OF(_release)(side, n, size, batch);
            failures = 0;
        } else {
            OF(_failed)(me, side, ROLE_CONSUMER, &failures);
            if (failures % YIELD_AFTER == 0)
                participant_progress(me, expected - MESSAGE_FIRST);
        }
    }
    sum.count += expected - MESSAGE_FIRST;
    participant_end(me, &sum);
}

BENCH_INLINE void OF(_stream_in_any)(struct participant *me, struct OF(_side) *side, size_t size,
                                     uint32_t batch)
{
    struct ledger ledger = BENCH_ZERO;
    uint64_t idle_since_ns = 0;
    uint32_t failures = 0, batches = 0;

    participant_begin(me);
    for (;;) {
        const uint8_t *message;
        uint32_t n = 0;

        while (n < batch && (message = OF(_arrived)(side, n, size, batch)) != NULL) {
            ledger_enter(&ledger, message, size, CONTESTANT_LANES);
            n++;
        }
        if (n > 0) {
            OF(_release)(side, n, size, batch);
            failures = 0;
            idle_since_ns = 0;
            if (++batches % BENCH_STOP_CHECK == 0)
                participant_progress(me, ledger.sum.count);
            continue;
        }
        OF(_failed)(me, side, ROLE_CONSUMER, &failures);
        if (failures % YIELD_AFTER == 0 && participant_drained(me, ledger.sum.count, &idle_since_ns))
            break;
    }
    participant_end(me, &ledger.sum);
}

/* Waits for the next message of a round trip and returns its tag. */
BENCH_INLINE uint64_t OF(_await)(struct participant *me, struct OF(_side) *side, size_t size,
                                 struct tally *sum)
{
    const uint8_t *message;
    uint32_t failures = 0;
    uint64_t tag;
    bool whole;

    while ((message = OF(_arrived)(side, 0, size, 1)) == NULL)
        OF(_failed)(me, side, ROLE_CONSUMER, &failures);
    tag = message_read(message, size, &whole);
    OF(_release)(side, 1, size, 1);
    sum->garbage += !whole;
    return tag;
}

BENCH_INLINE void OF(_ping_loop)(struct participant *me, struct OF(_side) *out, struct OF(_side) *in,
                                 size_t size)
{
    struct tally sum = BENCH_ZERO;
    uint64_t tag = MESSAGE_FIRST;

    participant_begin(me);
    while (!participant_stopped(me, tag - MESSAGE_FIRST)) {
        uint64_t begin = ticks_now(), back;

        OF(_put)(me, out, tag, size, 1);
        back = OF(_await)(me, in, size, &sum);
        participant_sample(me, ticks_now() - begin);
        sum.misplaced += back != tag;
        tag++;
    }
    OF(_put)(me, out, MESSAGE_END, size, 1);
    sum.count = tag - MESSAGE_FIRST;
    participant_end(me, &sum);
}

BENCH_INLINE void OF(_echo_loop)(struct participant *me, struct OF(_side) *out, struct OF(_side) *in,
                                 size_t size)
{
    struct tally sum = BENCH_ZERO;
    uint64_t expected = MESSAGE_FIRST, tag;

    participant_begin(me);
    while ((tag = OF(_await)(me, in, size, &sum)) != MESSAGE_END) {
        sum.misplaced += tag != expected++;
        OF(_put)(me, out, tag, size, 1);
    }
    sum.count = expected - MESSAGE_FIRST;
    participant_end(me, &sum);
}

/* Joins the ring of a stream or the two of a round trip. A failed join ends the run with its error. */
BENCH_INLINE void OF(_join_all)(struct participant *me, struct OF(_side) *sides, int rings)
{
    for (int i = 0; i < rings; i++) {
        int error = OF(_join)(&sides[i], &me->seat[i]);

        if (error != 0)
            participant_fail(me, error);
    }
    participant_ready(me);
}

static void OF(_produce)(struct participant *me)
{
    struct OF(_side) side = BENCH_ZERO;

    OF(_join_all)(me, &side, 1);
    BENCH_BY_SHAPE(OF(_stream_out));
}

static void OF(_consume)(struct participant *me)
{
    struct OF(_side) side = BENCH_ZERO;

    OF(_join_all)(me, &side, 1);
    if (me->cell->mpmc) {
        BENCH_BY_SHAPE(OF(_stream_in_any));
    } else {
        BENCH_BY_SHAPE(OF(_stream_in_order));
    }
}

static void OF(_ping)(struct participant *me)
{
    struct OF(_side) sides[2] = BENCH_ZERO;

    OF(_join_all)(me, sides, 2);
    BENCH_BY_SIZE(OF(_ping_loop));
}

static void OF(_echo)(struct participant *me)
{
    struct OF(_side) sides[2] = BENCH_ZERO;

    OF(_join_all)(me, sides, 2);
    BENCH_BY_SIZE(OF(_echo_loop));
}

#ifdef CONTESTANT_CLOSE
static void OF(_close)(void *memory)
{
    CONTESTANT_CLOSE(memory);
}
#endif

__attribute__((constructor)) static void OF(_register)(void)
{
    static struct contestant self;

    self.name = CONTESTANT_NAME;
    self.calls = CONTESTANT_CALLS;
    self.traits = CONTESTANT_TRAITS;
    self.footprint = OF(_footprint);
    self.format = OF(_format);
#ifdef CONTESTANT_CLOSE
    self.close = OF(_close);
#endif
    self.produce = OF(_produce);
    self.consume = OF(_consume);
    self.ping = OF(_ping);
    self.echo = OF(_echo);
    contestant_register(&self);
}

#undef OF
#undef CONTESTANT
#undef CONTESTANT_NAME
#undef CONTESTANT_CALLS
#undef CONTESTANT_TRAITS
#undef CONTESTANT_WAIT
#undef CONTESTANT_CLOSE
#undef CONTESTANT_LANES
