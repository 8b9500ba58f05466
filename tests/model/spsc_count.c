/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does an observer who counts records while others send and receive ever take old bytes for a
 * header? The ring's memory is full of them from the start.
 */
#include "checker.h"

#include <noria/spsc.h>

#define CAPACITY 256
#define SIZE 56
#define RECORDS THREADS_OR_CHECKER(200, 2)

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];

static void *produce(void *unused)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    start_together(3);
    for (int i = 0; i < RECORDS; i++)
        if (noria_spsc_reserve(&producer, SIZE, &record) == 0)
            assert(noria_spsc_commit(&producer, &record, SIZE) == 0);
    return NULL;
}

static void *consume(void *unused)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 2) == 0);
    start_together(3);
    for (int i = 0; i < THREADS_OR_CHECKER(200, 1); i++)
        if (noria_spsc_peek(&consumer, &record) == 0)
            assert(noria_spsc_release(&consumer, &record) == 0);
    return NULL;
}

static void *observe(void *unused)
{
    (void)unused;
    start_together(3);
    for (int i = 0; i < THREADS_OR_CHECKER(200, 1); i++) {
        uint64_t records, bytes;
        int rc = noria_spsc_count(memory, sizeof(memory), &records, &bytes);
        assert(rc == -EAGAIN || (rc == 0 && records <= 3 && bytes == records * SIZE));
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {produce, consume, observe};

    for (int round = 0; round < ROUNDS / 10 + 1; round++) {
        for (size_t i = 0; i < CAPACITY / 8; i++)
            memory[256 / 8 + i] = UINT64_MAX;
        assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 0) == 0);
        run_threads(threads, 3);
    }
    return 0;
}
