/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does a receiver with a small buffer ever hear "too long" of a message that nobody offers? The
 * second sender of the slot dies before it offers its longer one.
 */
#include "dying.h"

#include "rendezvous_small.h"

enum { LAST_STORE = 6 /* claim, length, sender, two for the ticket, offer: reach is there already */ };

static void *pass(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;
    uint64_t number = 1;

    (void)unused;
    join_small(&handle, 1);
    start_together(2);
    assert(noria_rendezvous_offer(&handle, &number, 0, &offer) == 0);
    if (noria_rendezvous_withdraw(&handle, &offer) != -ECANCELED)
        return NULL;
    stores_to_live = LAST_STORE;
    noria_rendezvous_offer(&handle, &number, sizeof(number), &offer);
    stores_to_live = 0;
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;
    int rc;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    rc = noria_rendezvous_claim(&handle, 0, &record);
    assert(rc == -EAGAIN || (rc == 0 && record.len == 0));
    if (rc == 0)
        noria_rendezvous_finish(&handle, &record);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {pass, receive};

    for (int round = 0; round < ROUNDS; round++) {
        dead = 0;
        format_small();
        run_threads(threads, 2);
    }
    return 0;
}
