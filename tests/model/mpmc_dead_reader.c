/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a receiver dies before any store while another settles it and a third receives. Is the record
 * released once, by the dead one or by another, and does it carry the flag if and only if it was taken
 * before?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 * check: -DDIE_AT=4
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "dying.h"
#include "mpmc_small.h"

#define STORES 8 /* more than a receive makes */

static unsigned die_at;
static bool peeked, released; /* by the victim; read after its death */
static uint32_t others;       /* releases by others; relaxed, it orders nothing */

static void *victim(void *unused)
{
    struct noria_mpmc_handle handle;
    struct noria_mpmc_record record;

    (void)unused;
    join_small(&handle, 1);
    start_together(3);
    stores_to_live = die_at;
    if (noria_mpmc_peek(&handle, &record) == 0) {
        assert(record.flags == 0 && record.len == 8 && *(uint64_t *)record.data == 7);
        peeked = true;
        assert(noria_mpmc_release(&handle, &record) == 0);
        released = true;
    }
    stores_to_live = 0;
    die();
    return NULL;
}

static void settle_all(struct noria_mpmc_handle *handle)
{
    uint64_t index = 0, word;

    while (noria_mpmc_find(handle, 1, &index, &word) == 1)
        noria_mpmc_settle(handle, index, word);
}

static void *settle(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 4);
    start_together(3);
    while (!is_dead() && try_again())
        ;
    if (is_dead())
        settle_all(&handle);
    return NULL;
}

/* What was taken by the dead one comes flagged, everything else plain. */
static void take(struct noria_mpmc_handle *handle)
{
    struct noria_mpmc_record record;

    if (noria_mpmc_peek(handle, &record) != 0)
        return;
    assert(record.len == 8 && *(uint64_t *)record.data == 7);
    assert(record.flags == 0 || (record.flags == NORIA_MPMC_REDELIVERED && !released));
    assert(record.flags != 0 || !peeked);
    assert(noria_mpmc_release(handle, &record) == 0);
    noria_add_relaxed32(&others, 1);
}

static void *receive(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    take(&handle);
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {victim, settle, receive};
    struct noria_mpmc_handle handle;

    peeked = released = false;
    others = 0;
    dead = 0;
    format_small();
    join_small(&handle, 5);
    assert(send_number(&handle, 7));
    run_threads(threads, 3);
    settle_all(&handle);
    noria_mpmc_announce(&handle);
    take(&handle);
    assert(others + (released ? 1 : 0) == 1);
    assert_no_slot_lost(&handle);
}

int main(void)
{
#ifdef DIE_AT
    die_at = DIE_AT;
    one_round();
#else
    for (int round = 0; round < ROUNDS / STORES; round++)
        for (die_at = 1; die_at <= STORES; die_at++)
            one_round();
#endif
    return 0;
}
