/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: may a receiver that saw the announcement of an orphan, and found none, look no more until the
 * next one? With -DREADY it only asks whether it may receive.
 *
 * check: -DTAKE
 * check: -DREADY
 * check: -DGLANCE
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle dead, receiver;
static bool received;

static void *settle(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t index = 0, word;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    assert(noria_mpmc_find(&handle, 1, &index, &word) == 1);
    assert(noria_mpmc_settle(&handle, index, word) == 1);
    return NULL;
}

static void *receive(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
    received = MAY_RECV(&receiver, &number);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {settle, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        struct noria_mpmc_record record;
        uint64_t number;
        format_small();
        join_small(&dead, 1);
        join_small(&receiver, 3);
        join_small(&handle, 4);
        assert(send_number(&handle, 7) && noria_mpmc_peek(&dead, &record) == 0);
        run_threads(threads, 2);
        assert(received || MAY_RECV(&receiver, &number));
    }
    return 0;
}
