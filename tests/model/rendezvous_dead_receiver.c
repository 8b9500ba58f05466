/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a receiver dies before any store while it takes a message, and somebody settles it. Is its sender
 * told the truth, and may it fill the slot again, with nothing but the slot's word between them?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 */
#include "dying.h"

#include "rendezvous_small.h"

enum { STORES = 2 /* the claim and the finish */, VICTIM = 2 };

static unsigned die_at;
static bool received; /* by the victim; read after all ends */
static int told;

static void *send(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;

    (void)unused;
    join_small(&handle, 1);
    start_together(3);
    assert(offer_number(&handle, 1, &offer));
    while ((told = noria_rendezvous_look(&handle, &offer)) == -EAGAIN && try_again())
        if (is_dead()) { /* perhaps before it took anything */
            told = noria_rendezvous_withdraw(&handle, &offer);
            break;
        }
    if (told != -EAGAIN)
        assert(offer_number(&handle, 2, &offer));
    return NULL;
}

static void *victim(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;

    (void)unused;
    join_small(&handle, VICTIM);
    start_together(3);
    stores_to_live = die_at;
    if (claim_one(&handle, &record)) {
        assert(number_in(&record) == 1);
        received = noria_rendezvous_finish(&handle, &record) == 0;
    }
    stores_to_live = 0;
    die();
    return NULL;
}

static void *settle(void *unused)
{
    struct noria_rendezvous_handle handle;
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
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {send, victim, settle};

    received = false;
    told = -EAGAIN;
    dead = 0;
    format_small();
    run_threads(threads, 3);
    assert(told == -EAGAIN || (told == 0) == received);
    assert(noria_rendezvous_invariant(memory, sizeof(memory)));
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
