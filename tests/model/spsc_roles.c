/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two want to produce and two want to consume, one after the other. Does whoever takes a role
 * from one who left go on exactly where that one stopped, with nothing but the role word between them?
 */
#include "checker.h"

#include <noria/spsc.h>

#define CAPACITY 256
#define SIZE 56

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];
static uint32_t sent, received; /* counts; relaxed, so that they order nothing */
static uint64_t order[4];       /* what the consumers got, by the role's order */
static uint64_t got;            /* how many: plain, the role word alone protects it */

static void *produce(void *which)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_record record;
    uint32_t owner = 1 + (uint32_t)(uintptr_t)which;
    int rc;

    start_together(4);
    while ((rc = noria_spsc_join_producer(&producer, memory, sizeof(memory), owner)) == -EBUSY && try_again())
        ;
    if (rc == -EBUSY)
        return NULL;
    assert(rc == 0 && !producer.taken_over);
    assert(noria_spsc_reserve(&producer, SIZE, &record) == 0);
    *(uint64_t *)record.data = owner;
    assert(noria_spsc_commit(&producer, &record, SIZE) == 0);
    noria_add_relaxed32(&sent, 1);
    noria_spsc_leave_producer(&producer);
    return NULL;
}

static void *consume(void *which)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;
    uint32_t owner = 1 + (uint32_t)(uintptr_t)which;
    int rc;

    start_together(4);
    while ((rc = noria_spsc_join_consumer(&consumer, memory, sizeof(memory), owner)) == -EBUSY && try_again())
        ;
    if (rc == -EBUSY)
        return NULL;
    assert(rc == 0 && !consumer.taken_over);
    if (noria_spsc_peek(&consumer, &record) == 0) {
        order[got++] = *(uint64_t *)record.data;
        assert(noria_spsc_release(&consumer, &record) == 0);
        noria_add_relaxed32(&received, 1);
    }
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {produce, produce, consume, consume};

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t records, bytes;
        sent = received = 0;
        got = 0;
        assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 0) == 0);
        run_threads(threads, 4);
        assert(noria_spsc_count(memory, sizeof(memory), &records, &bytes) == 0);
        assert(records == sent - received && got == received);
        assert(got < 2 || order[0] != order[1]);
    }
    return 0;
}
