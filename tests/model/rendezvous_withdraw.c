/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a sender takes its offer back while a receiver may be copying it, and the slot is used for
 * another message. Do both agree whether the first was received, and is a slot never filled under the eyes
 * of who copies from it? With -DOTHER another sender fills it.
 *
 * check: -DSAME
 * check: -DOTHER
 */
#include "rendezvous_small.h"

#ifdef OTHER
#define THREADS 3
#else
#define THREADS 2
#endif

static bool taken[3], told[3]; /* by number: received; the sender was told so */
static bool copied;            /* number 1, by the receiver: plain, the slot's word alone protects it */

static void *take_back(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;
    int rc;

    (void)unused;
    join_small(&handle, 1);
    start_together(THREADS);
    if (!offer_number(&handle, 1, &offer))
        return NULL;
    rc = noria_rendezvous_withdraw(&handle, &offer);
    assert(rc == 0 || rc == -ECANCELED);
    told[1] = rc == 0;
    assert(rc != 0 || copied);
#ifndef OTHER
    offer_number(&handle, 2, &offer);
#endif
    return NULL;
}

#ifdef OTHER
static void *send(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;

    (void)unused;
    join_small(&handle, 2);
    start_together(THREADS);
    offer_number(&handle, 2, &offer);
    return NULL;
}
#endif

static void *receive(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_record record;

    (void)unused;
    join_small(&handle, OWNERS);
    start_together(THREADS);
    do {
        uint64_t number;
        int rc;
        if (!claim_one(&handle, &record))
            continue;
        number = number_in(&record);
        if (number == 1)
            copied = true;
        rc = noria_rendezvous_finish(&handle, &record);
        assert(rc == 0 || (rc == -EAGAIN && number == 1));
        assert(rc != 0 || !taken[number]);
        taken[number] = taken[number] || rc == 0;
    } while (!taken[2] && try_again());
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {take_back, receive,
#ifdef OTHER
                                        send
#endif
    };

    for (int round = 0; round < ROUNDS; round++) {
        format_small();
        copied = false;
        for (int i = 1; i <= 2; i++)
            taken[i] = told[i] = false;
        run_threads(threads, THREADS);
        assert(taken[1] == told[1]);
        assert(noria_rendezvous_invariant(memory, sizeof(memory)));
    }
    return 0;
}
