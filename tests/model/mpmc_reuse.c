/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: an owner has died, was settled, and its number is taken by another. May one who was slow to
 * settle the dead take away a slot of the living? He looks whether the number's owner lives after he has
 * found it in a slot. With -DRECEIVE the living one receives, with -DWALK it walks to its slot.
 *
 * check: -DSEND
 * check: -DSEND -DWALK
 * check: -DRECEIVE
 * check: -DRECEIVE -DWALK
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle living;
static uint32_t lives; /* relaxed: the slot's word alone orders the look after the birth */

static void *live(void *unused)
{
    struct noria_mpmc_record record;

    (void)unused;
    start_together(2);
    noria_store_relaxed32(&lives, 1);
#ifdef RECEIVE
    assert(noria_mpmc_peek(&living, &record) == 0);
    assert(noria_mpmc_release(&living, &record) == 0);
#else
    assert(noria_mpmc_reserve(&living, &record) == 0);
    *(uint64_t *)record.data = 1;
    assert(noria_mpmc_commit(&living, &record, 8) == 0);
#endif
    return NULL;
}

static void *settle(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t index = 0, word;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    while (noria_mpmc_find(&handle, 1, &index, &word) == 1) {
        if (noria_load_relaxed32(&lives) == 0)
            noria_mpmc_settle(&handle, index, word);
        index++;
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {live, settle};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        noria_store_relaxed32(&lives, 0);
        format_small();
        join_small(&living, 1);
        join_small(&handle, 3);
#ifdef WALK
        uint64_t number;
        assert(send_number(&handle, 7) && recv_number(&handle, &number));
#endif
#ifdef RECEIVE
        assert(send_number(&handle, 8));
#endif
        run_threads(threads, 2);
    }
    return 0;
}
