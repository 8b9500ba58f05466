/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a sender dies before any store while another sends and a third settles and receives. Is its
 * record there once if it was committed and else not at all, is the other's there once, and is no slot
 * lost?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 * check: -DDIE_AT=4
 * check: -DDIE_AT=5
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "dying.h"
#include "mpmc_small.h"

#define STORES 12 /* more than a send makes, its step aside included */

static unsigned die_at;
static bool committed;
static uint32_t seen[3]; /* how often each number came; relaxed, it orders nothing */

static void take(uint64_t number)
{
    assert(number == 1 || number == 2);
    assert(noria_add_relaxed32(&seen[number], 1) == 0);
}

static void *victim(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 1);
    start_together(3);
    stores_to_live = die_at;
    committed = send_number(&handle, 1);
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

static void *settle_and_receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    if (is_dead())
        settle_all(&handle);
    if (recv_number(&handle, &number))
        take(number);
    return NULL;
}

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(3);
    assert(send_number(&handle, 2));
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {victim, send, settle_and_receive};
    struct noria_mpmc_handle handle;
    uint64_t number;

    committed = false;
    dead = 0;
    seen[1] = seen[2] = 0;
    format_small();
    run_threads(threads, 3);
    join_small(&handle, 5);
    settle_all(&handle);
    while (recv_number(&handle, &number))
        take(number);
    assert(seen[2] == 1 && (seen[1] == 1 || !committed));
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
