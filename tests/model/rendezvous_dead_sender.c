/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a sender dies before any store of an offer, and whoever settles it uses the slot for a message of
 * his own. Does a receiver get the dead one's message whole, or not at all, and his?
 *
 * check: -DDIE_AT=2
 * check: -DDIE_AT=5
 * check: -DDIE_AT=7
 * check: -DDIE_AT=8
 */
#include "dying.h"

#include "rendezvous_small.h"

enum { STORES = 7 /* claim, length, sender, reach, two for the ticket, offer */, VICTIM = 2 };

static unsigned die_at;
static bool taken[3];

static void *victim(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;

    (void)unused;
    join_small(&handle, VICTIM);
    start_together(3);
    stores_to_live = die_at;
    offer_number(&handle, 1, &offer);
    stores_to_live = 0;
    die();
    return NULL;
}

static void *succeed(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;
    bool certified = false, done;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    do {
        uint32_t slot = 0;
        uint64_t word;
        bool found = noria_rendezvous_find(&handle, VICTIM, &slot, &word) == 1;
        done = certified && !found; /* who was dead before the look left nothing that it did not find */
        certified = is_dead();
        if (certified && found)
            noria_rendezvous_settle(&handle, slot, word, VICTIM);
    } while (!done && try_again());
    if (certified)
        offer_number(&handle, 2, &offer);
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;

    (void)unused;
    join_small(&handle, 1);
    start_together(3);
    do {
        uint64_t number;
        int rc;
        if (!claim_one(&handle, &record))
            continue;
        number = number_in(&record);
        rc = noria_rendezvous_finish(&handle, &record);
        assert(rc == 0 || (rc == -EAGAIN && number == 1));
        assert(number <= 2 && (rc != 0 || (!taken[number] && !taken[2])));
        taken[number] = taken[number] || rc == 0;
    } while (!taken[2] && try_again());
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {victim, succeed, receive};

    taken[1] = taken[2] = false;
    dead = 0;
    format_small();
    run_threads(threads, 3);
    assert(noria_rendezvous_invariant(memory, sizeof(memory)));
}

int main(void)
{
#ifdef DIE_AT
    die_at = DIE_AT;
    one_round();
#else
    for (int round = 0; round < ROUNDS / 20 + 1; round++)
        for (die_at = 1; die_at <= STORES + 1; die_at++)
            one_round();
#endif
    return 0;
}
