/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: is a ring in which there is always a record ever called empty, because the walk crossed the
 * thread that put in one and then took another? With -DSTOPPED a writer stands in front of them, with
 * -DORPHAN the record taken is one that a dead receiver had; with -DREADY the receiver only asks whether it may.
 *
 * check: -DSLOTS=4 -DSTOPPED
 * check: -DSLOTS=4 -DORPHAN
 * check: -DSLOTS=4 -DSTOPPED -DREADY
 * check: -DSLOTS=4 -DORPHAN -DREADY
 * check: -DSLOTS=4 -DSTOPPED -DLOOK
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle receiver;

static void *send_then_take(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    assert(send_number(&handle, 2) && recv_number(&handle, &number));
    return NULL;
}

static void *receive(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
    assert(MAY_RECV(&receiver, &number));
    return NULL;
}

static void prepare(struct noria_mpmc_handle *absent)
{
    struct noria_mpmc_handle handle;
    struct noria_mpmc_record record;
    uint64_t index = 0, word;

    join_small(absent, 1);
    join_small(&handle, 4);
#ifdef ORPHAN
    assert(send_number(&handle, 1) && noria_mpmc_peek(absent, &record) == 0);
    assert(noria_mpmc_find(&handle, 1, &index, &word) == 1);
    assert(noria_mpmc_settle(&handle, index, word) == 1);
#else
    (void)index, (void)word;
    assert(noria_mpmc_reserve(absent, &record) == 0 && send_number(&handle, 1));
#endif
}

int main(void)
{
    void *(*const threads[])(void *) = {send_then_take, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle absent;
        format_small();
        join_small(&receiver, 3);
        prepare(&absent);
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
