/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a producer dies before any store while the consumer reads. Is every record it committed
 * delivered once, none that it did not, and does its successor, who joins after somebody else settled the
 * role, go on behind them?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 * check: -DDIE_AT=4
 * check: -DDIE_AT=5
 */
#include "dying.h"

#include <noria/spsc.h>

#define CAPACITY 256
#define SIZE 112
#define STORES 4 /* of two sends */

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];
static struct noria_spsc_producer doomed;
static unsigned die_at;
static uint64_t committed; /* by the victim; read after its death */
static uint64_t sent;      /* by the successor; read after its end */
static uint64_t received, next_number;

static int send_number(struct noria_spsc_producer *producer, uint64_t number)
{
    struct noria_spsc_record record;
    int rc = noria_spsc_reserve(producer, SIZE, &record);

    if (rc != 0)
        return rc;
    *(uint64_t *)record.data = number;
    return noria_spsc_commit(producer, &record, SIZE);
}

static void *victim(void *unused)
{
    (void)unused;
    start_together(4);
    stores_to_live = die_at;
    for (uint64_t number = 1; number <= 2; number++)
        if (send_number(&doomed, number) == 0)
            committed = number;
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
        uint64_t word = noria_spsc_find(memory, NORIA_SPSC_PRODUCER);
        bool found = NORIA_SPSC_OWNER(word) == 1;
        done = certified && !found; /* who was dead before the look left nothing that it did not find */
        certified = is_dead();
        if (certified && found)
            noria_spsc_settle(memory, NORIA_SPSC_PRODUCER, word);
    } while (!done && try_again());
    return NULL;
}

/* Knows of the death only by finding the role free, or not at all. */
static void *succeed(void *unused)
{
    struct noria_spsc_producer producer;
    int rc;

    (void)unused;
    start_together(4);
    while ((rc = noria_spsc_join_producer(&producer, memory, sizeof(memory), 3)) == -EBUSY && try_again())
        ;
    if (rc == 0 && send_number(&producer, 9) == 0)
        sent = 1;
    return NULL;
}

/* Numbers 1, 2 of the victim in order; 9 of the successor at any place, for it may come before or after. */
static void take(const struct noria_spsc_record *record)
{
    uint64_t number = *(const uint64_t *)record->data;

    assert(record->len == SIZE);
    received++;
    if (number != 9)
        assert(number == ++next_number);
}

static void *consume(void *unused)
{
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;

    (void)unused;
    assert(noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 2) == 0);
    start_together(4);
    for (int tries = 0; tries < 2; tries++)
        if (noria_spsc_peek(&consumer, &record) == 0) {
            take(&record);
            assert(noria_spsc_release(&consumer, &record) == 0);
        }
    noria_spsc_leave_consumer(&consumer);
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {victim, settle, succeed, consume};
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;

    committed = sent = received = next_number = 0;
    dead = 0;
    assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 0) == 0);
    assert(noria_spsc_join_producer(&doomed, memory, sizeof(memory), 1) == 0);
    run_threads(threads, 4);
    assert(noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 4) == 0);
    while (noria_spsc_peek(&consumer, &record) == 0)
        take(&record);
    assert(next_number == committed && received == committed + sent);
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
