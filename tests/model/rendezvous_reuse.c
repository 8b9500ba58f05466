/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: an owner has died, was settled, and its number is taken by another. May one who was slow to settle
 * the dead take a slot away from the living? He looks whether the number's owner lives after he has found it
 * in a slot. With -DRECEIVE the living one receives.
 *
 * check: -DSEND
 * check: -DRECEIVE
 */
#include "rendezvous_small.h"

static struct noria_rendezvous_handle living;
static uint32_t lives; /* relaxed: the slot's word alone orders the look after the birth */

static void *live(void *unused)
{
    (void)unused;
    start_together(2);
    noria_store_relaxed32(&lives, 1);
#ifdef RECEIVE
    struct noria_rendezvous_record record;
    assert(claim_one(&living, &record) && number_in(&record) == 7);
    assert(noria_rendezvous_finish(&living, &record) == 0);
#else
    struct noria_rendezvous_offer offer;
    assert(offer_number(&living, 7, &offer));
    assert(noria_rendezvous_look(&living, &offer) == -EAGAIN);
#endif
    return NULL;
}

static void *settle(void *unused)
{
    struct noria_rendezvous_handle handle;
    uint32_t slot = 0;
    uint64_t word;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    if (noria_rendezvous_find(&handle, 1, &slot, &word) == 1 && noria_load_relaxed32(&lives) == 0)
        noria_rendezvous_settle(&handle, slot, word, 1);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {live, settle};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed32(&lives, 0);
        format_small();
        join_small(&living, 1);
#ifdef RECEIVE
        struct noria_rendezvous_handle handle;
        struct noria_rendezvous_offer offer;
        join_small(&handle, 3);
        assert(offer_number(&handle, 7, &offer));
#endif
        run_threads(threads, 2);
    }
    return 0;
}
