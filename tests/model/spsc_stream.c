/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does the consumer get every record whole and in order, over pads and wraps, in a ring that is
 * often full?
 *
 * check: -DMESSAGES=4 -DFIRST=0
 * check: -DMESSAGES=4 -DFIRST=120
 * check: -DMESSAGES=4 -DFIRST=64 -DSIZE=56
 */
#include "checker.h"

#include <noria/spsc.h>

#ifndef MESSAGES
#define MESSAGES THREADS_OR_CHECKER(500, 4)
#endif
#ifndef SIZE
#define SIZE 112 /* two of them fill the ring, and the third needs a pad */
#endif
#ifndef FIRST
#define FIRST 0
#endif
#define CAPACITY 256

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];

static void *produce(void *unused)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    start_together(2);
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        int rc;
        while ((rc = noria_spsc_reserve(&producer, SIZE, &record)) == -EAGAIN && try_again())
            ;
        if (rc == -EAGAIN)
            break;
        assert(rc == 0);
        *(uint64_t *)record.data = i;
        assert(noria_spsc_commit(&producer, &record, SIZE) == 0);
    }
    noria_spsc_leave_producer(&producer);
    return NULL;
}

static void *consume(void *unused)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 2) == 0);
    start_together(2);
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        int rc;
        while ((rc = noria_spsc_peek(&consumer, &record)) == -EAGAIN && try_again())
            ;
        if (rc == -EAGAIN)
            break;
        assert(rc == 0 && record.len == SIZE && *(uint64_t *)record.data == i);
        assert(noria_spsc_release(&consumer, &record) == 0);
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
