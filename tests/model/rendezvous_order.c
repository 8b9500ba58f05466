/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a slot is used for a younger message than the one in the slot behind it. Does a receiver still
 * take the older first?
 */
#define SLOTS 2
#include "rendezvous_small.h"

static struct noria_rendezvous_handle sender;
static struct noria_rendezvous_offer offers[4]; /* by number */

static void *renew(void *unused)
{
    (void)unused;
    start_together(2);
    noria_rendezvous_withdraw(&sender, &offers[1]); /* or it was taken */
    offer_number(&sender, 3, &offers[3]);
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;
    uint64_t last = 0;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    for (int i = 0; i < THREADS_OR_CHECKER(3, 2); i++) {
        uint64_t number;
        if (!claim_one(&handle, &record))
            continue;
        number = number_in(&record);
        if (noria_rendezvous_finish(&handle, &record) != 0)
            continue; /* taken back meanwhile */
        assert(number > last);
        last = number;
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {renew, receive};

    for (int round = 0; round < ROUNDS; round++) {
        format_small();
        join_small(&sender, 1);
        for (uint64_t number = 1; number <= 2; number++)
            assert(offer_number(&sender, number, &offers[number]));
        run_threads(threads, 2);
        assert(noria_rendezvous_invariant(memory, sizeof(memory)));
    }
    return 0;
}
