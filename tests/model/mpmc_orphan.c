/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two receivers look for the record of a dead one while senders step over its slot. Is it
 * delivered again, once, flagged and whole, and not forgotten when a step comes between look and claim?
 *
 * check: -DNUMBERS=2 -DRECEIVERS=1
 * check: -DNUMBERS=0 -DRECEIVERS=2
 * long: -DNUMBERS=2 -DRECEIVERS=2
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

#ifndef NUMBERS
#define NUMBERS (SLOTS + 1) /* sends until the orphan's slot is in the way */
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif

static uint32_t adopted; /* relaxed, it orders nothing */

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(1 + RECEIVERS);
    for (uint64_t i = 10; i < 10 + NUMBERS; i++)
        noria_mpmc_send(&handle, &i, sizeof(i));
    return NULL;
}

static void *receive(void *which)
{
    struct noria_mpmc_handle handle;
    struct noria_mpmc_record record;

    join_small(&handle, 2 + (uint32_t)(uintptr_t)which);
    start_together(1 + RECEIVERS);
    for (int tries = 0; tries < THREADS_OR_CHECKER(NUMBERS, 1); tries++) {
        if (noria_mpmc_peek(&handle, &record) != 0)
            continue;
        assert((record.flags != 0) == (*(uint64_t *)record.data == 7));
        if (record.flags != 0)
            assert(noria_add_relaxed32(&adopted, 1) == 0);
        assert(noria_mpmc_release(&handle, &record) == 0);
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {send, receive, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle dead, handle;
        struct noria_mpmc_record record;
        uint64_t index = 0, word, number;
        adopted = 0;
        format_small();
        join_small(&dead, 1);
        join_small(&handle, 5);
        assert(send_number(&handle, 7) && noria_mpmc_peek(&dead, &record) == 0);
        assert(noria_mpmc_find(&handle, 1, &index, &word) == 1);
        assert(noria_mpmc_settle(&handle, index, word) == 1);
        run_threads(threads, 1 + RECEIVERS);
        assert(adopted == 1);
        while (recv_number(&handle, &number))
            assert(number >= 10);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
