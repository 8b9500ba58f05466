/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a consumer dies before any store while the producer sends into a ring that is full. Does its
 * successor get every record that was not released, whole, and only those, and does it know that they may
 * have been seen before?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 */
#include "dying.h"

#include <noria/spsc.h>

#define CAPACITY 256
#define SIZE 112
#define STORES 2 /* of two releases */

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];
static struct noria_spsc_consumer doomed;
static unsigned die_at;
static uint64_t released; /* by the victim; who settles it knows of it through the certificate */
static uint64_t sent;

static void *produce(void *unused)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    start_together(4);
    for (uint64_t number = 1; number <= 3; number++) {
        int rc = noria_spsc_reserve(&producer, SIZE, &record);
        assert(rc == 0 || rc == -EAGAIN); /* the position never goes back, whoever stores it */
        if (rc != 0)
            break;
        *(uint64_t *)record.data = number;
        assert(noria_spsc_commit(&producer, &record, SIZE) == 0);
        sent = number;
    }
    return NULL;
}

static void *victim(void *unused)
{
    struct noria_spsc_record record;

    (void)unused;
    start_together(4);
    stores_to_live = die_at;
    while (released < 2 && noria_spsc_peek(&doomed, &record) == 0) {
        assert(*(uint64_t *)record.data == released + 1);
        assert(noria_spsc_release(&doomed, &record) == 0);
        released++;
    }
    stores_to_live = 0;
    die();
    return NULL;
}

static void *settle(void *unused)
{
    bool certified = false, done;

    (void)unused;
    start_together(4);
    do {
        uint64_t word = noria_spsc_find(memory, NORIA_SPSC_CONSUMER);
        bool found = NORIA_SPSC_OWNER(word) == 2;
        done = certified && !found; /* who was dead before the look left nothing that it did not find */
        certified = is_dead();
        if (certified && found)
            noria_spsc_settle(memory, NORIA_SPSC_CONSUMER, word);
    } while (!done && try_again());
    return NULL;
}

static void *succeed(void *unused)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;
    uint64_t number;
    int rc;

    (void)unused;
    start_together(4);
    while ((rc = noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 3)) == -EBUSY && try_again())
        ;
    if (rc != 0)
        return NULL;
    assert(consumer.taken_over);
    number = released; /* no race: its role came from the dead one through the settler */
    while (noria_spsc_peek(&consumer, &record) == 0) {
        assert(*(uint64_t *)record.data == ++number);
        assert(noria_spsc_release(&consumer, &record) == 0);
    }
    released = number;
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {produce, victim, settle, succeed};
    uint64_t records, bytes;

    released = sent = 0;
    dead = 0;
    assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 0) == 0);
    assert(noria_spsc_join_consumer(&doomed, memory, sizeof(memory), 2) == 0);
    run_threads(threads, 4);
    assert(noria_spsc_count(memory, sizeof(memory), &records, &bytes) == 0);
    assert(records == sent - released);
}

int main(void)
{
#ifdef DIE_AT
    die_at = DIE_AT;
    one_round();
#else
    for (int round = 0; round < ROUNDS / 10 + 1; round++)
        for (die_at = 1; die_at <= STORES + 1; die_at++)
            one_round();
#endif
    return 0;
}
