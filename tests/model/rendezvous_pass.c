/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two senders use one slot, one after the other. Does each message pass whole, once, and does its
 * sender, told that it was taken, see what the receiver did before?
 *
 * check: -DMESSAGES=1
 * check: -DMESSAGES=2 -DSENDERS=1
 */
#include "rendezvous_small.h"

#ifndef MESSAGES
#define MESSAGES THREADS_OR_CHECKER(20, 1)
#endif
#ifndef SENDERS
#define SENDERS 2
#endif

static uint64_t copied[SENDERS]; /* by the receiver: plain, the slot's word alone protects it */

static void *send(void *which)
{
    uint32_t owner = 1 + (uint32_t)(uintptr_t)which;
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;

    join_small(&handle, owner);
    start_together(SENDERS + 1);
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        int rc;
        if (!offer_number(&handle, owner << 16 | i, &offer))
            return NULL;
        while ((rc = noria_rendezvous_look(&handle, &offer)) == -EAGAIN && try_again())
            ;
        if (rc == -EAGAIN)
            return NULL;
        assert(rc == 0 && copied[owner - 1] == i);
    }
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;

    (void)unused;
    join_small(&handle, OWNERS);
    start_together(SENDERS + 1);
    for (int i = 0; i < SENDERS * MESSAGES; i++) {
        uint64_t number;
        bool came;
        while (!(came = claim_one(&handle, &record)) && try_again())
            ;
        if (!came)
            return NULL;
        number = number_in(&record);
        assert(number >> 16 == record.sender && (number & 0xffff) == copied[record.sender - 1] + 1);
        copied[record.sender - 1]++;
        assert(noria_rendezvous_finish(&handle, &record) == 0);
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {send,
#if SENDERS > 1
                                        send,
#endif
                                        receive};

    for (int round = 0; round < ROUNDS / 10 + 1; round++) {
        format_small();
        for (int i = 0; i < SENDERS; i++)
            copied[i] = 0;
        run_threads(threads, SENDERS + 1);
        assert(noria_rendezvous_invariant(memory, sizeof(memory)));
    }
    return 0;
}
