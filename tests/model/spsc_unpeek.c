/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: records of other lengths than the one before, over pads, each looked at first with too small a
 * buffer. Does it stay first, and does the next look get it whole? With -DLEAVE a consumer who only looks
 * leaves, and its successor, whom nothing but the role orders after it, takes the records.
 *
 * check: -DFIRST=0
 * check: -DFIRST=176
 * check: -DFIRST=176 -DLEAVE
 */
#include "checker.h"

#include <noria/spsc.h>

#ifndef FIRST
#define FIRST 176 /* 80 bytes before the end of the lap: one short record, then a pad in front of a long one */
#endif
#define CAPACITY 256
#ifdef LEAVE
#define THREADS 3
#else
#define THREADS 2
#endif
#define MESSAGES THREADS_OR_CHECKER(500, 3)

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];

static size_t length_of(uint64_t number)
{
    return number % 2 != 0 ? 40 : 104;
}

static void *produce(void *unused)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    start_together(THREADS);
    for (uint64_t number = 1; number <= MESSAGES; number++) {
        size_t len = length_of(number);
        int rc;
        while ((rc = noria_spsc_reserve(&producer, len, &record)) == -EAGAIN && try_again())
            ;
        if (rc == -EAGAIN)
            break;
        assert(rc == 0);
        ((uint64_t *)record.data)[0] = number;
        ((uint64_t *)record.data)[len / 8 - 1] = number;
        assert(noria_spsc_commit(&producer, &record, len) == 0);
    }
    return NULL;
}

/* True if a record is there: then it is this one, too long for 8 bytes, and stays. */
static bool look_in_vain(struct noria_spsc_consumer *consumer, uint64_t number)
{
    uint64_t too_small;
    size_t len = 0;
    int rc;

    while ((rc = noria_spsc_recv(consumer, &too_small, sizeof(too_small), &len)) == -EAGAIN && try_again())
        ;
    assert(rc == -EAGAIN || (rc == -EMSGSIZE && len == length_of(number)));
    return rc != -EAGAIN;
}

static void take(struct noria_spsc_consumer *consumer, uint64_t number)
{
    struct noria_spsc_record record;

    assert(noria_spsc_peek(consumer, &record) == 0 && record.len == length_of(number));
    assert(((uint64_t *)record.data)[0] == number && ((uint64_t *)record.data)[record.len / 8 - 1] == number);
    assert(noria_spsc_release(consumer, &record) == 0);
}

/* False if another consumes, and the checker does not wait. */
static bool join(struct noria_spsc_consumer *consumer, uint32_t owner)
{
    int rc;

    while ((rc = noria_spsc_join_consumer(consumer, memory, sizeof(memory), owner)) == -EBUSY && try_again())
        ;
    assert(rc == 0 || rc == -EBUSY);
    assert(rc != 0 || !consumer->taken_over); /* what was only looked at is not held */
    return rc == 0;
}

static void *consume(void *unused)
{
    struct noria_spsc_consumer consumer;

    (void)unused;
    start_together(THREADS);
    if (!join(&consumer, 2))
        return NULL;
    for (uint64_t number = 1; number <= MESSAGES && look_in_vain(&consumer, number); number++)
        take(&consumer, number);
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}

#ifdef LEAVE
static void *glance(void *unused)
{
    struct noria_spsc_consumer consumer;

    (void)unused;
    start_together(THREADS);
    if (!join(&consumer, 3))
        return NULL;
    if (consumer.read_pos == FIRST)
        look_in_vain(&consumer, 1);
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}
#endif

int main(void)
{
#ifdef LEAVE
    void *(*const threads[])(void *) = {produce, consume, glance};
#else
    void *(*const threads[])(void *) = {produce, consume};
#endif

    for (int round = 0; round < ROUNDS / 50 + 1; round++) {
        assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, FIRST) == 0);
        run_threads(threads, THREADS);
        assert(noria_spsc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
