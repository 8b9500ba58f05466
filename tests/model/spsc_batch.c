/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does a batch appear at once, also when a pad stands in it, and may its records be held and
 * released in one go?
 *
 * check: -DFIRST=0
 * check: -DFIRST=120
 */
#include "checker.h"

#include <noria/spsc.h>

#ifndef FIRST
#define FIRST 120 /* the second record of the first batch needs a pad */
#endif
#define BATCHES THREADS_OR_CHECKER(500, 2)
#define CAPACITY 256
#define SIZE 72 /* two of them and the longest pad between them fit into an empty ring */

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];

static bool stage(struct noria_spsc_producer *producer, uint64_t number)
{
    struct noria_spsc_record record;
    int rc;

    while ((rc = noria_spsc_reserve(producer, SIZE, &record)) == -EAGAIN && try_again())
        ;
    if (rc == -EAGAIN)
        return false;
    assert(rc == 0);
    *(uint64_t *)record.data = number;
    assert(noria_spsc_stage(producer, &record, SIZE) == 0);
    return true;
}

static void *produce(void *unused)
{
    struct noria_spsc_producer producer;

    (void)unused;
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    start_together(2);
    for (uint64_t batch = 0; batch < BATCHES; batch++) {
        if (!stage(&producer, 2 * batch + 1) || !stage(&producer, 2 * batch + 2))
            break; /* leaves with a record staged: as if never sent */
        noria_spsc_publish(&producer);
    }
    noria_spsc_leave_producer(&producer);
    return NULL;
}

static void *consume(void *unused)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record one, two;

    (void)unused;
    assert(noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 2) == 0);
    start_together(2);
    for (uint64_t batch = 0; batch < BATCHES; batch++) {
        int rc;
        while ((rc = noria_spsc_peek(&consumer, &one)) == -EAGAIN && try_again())
            ;
        if (rc == -EAGAIN)
            break;
        assert(rc == 0 && noria_spsc_peek(&consumer, &two) == 0);
        assert(*(uint64_t *)one.data == 2 * batch + 1 && *(uint64_t *)two.data == 2 * batch + 2);
        assert(noria_spsc_release_through(&consumer, &two) == 0);
    }
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {produce, consume};

    for (int round = 0; round < ROUNDS / 50 + 1; round++) {
        assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, FIRST) == 0);
        run_threads(threads, 2);
        assert(noria_spsc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
