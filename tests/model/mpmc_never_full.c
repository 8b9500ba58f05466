/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: is a ring in which there is always room ever called full, because records were counted that never
 * stood in it together? With -DSHARED two threads count for one handle.
 *
 * check: -DSLOTS=4 -DCAPACITY=2
 * check: -DSLOTS=8 -DCAPACITY=3 -DSHARED
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle slow, sender;
static struct noria_mpmc_record reserved;

/* The first record goes before the other comes, so that there is one at most; with -DSHARED two, of three. */
static void *make_room(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    assert(recv_number(&handle, &number) && number == 1);
#ifdef SHARED
    noria_mpmc_send(&sender, &number, sizeof(number));
#else
    assert(noria_mpmc_commit(&slow, &reserved, sizeof(number)) == 0);
#endif
    return NULL;
}

static void *send(void *unused)
{
    uint64_t number = 9;

    (void)unused;
    start_together(2);
    assert(noria_mpmc_send(&sender, &number, sizeof(number)) == 0);
    return NULL;
}

/* Claims the next position and leaves it unused. */
static void waste(struct noria_mpmc_handle *handle)
{
    struct noria_mpmc_record record;

    assert(noria_mpmc_reserve(handle, &record) == 0 && noria_mpmc_abort(handle, &record) == 0);
}

int main(void)
{
    void *(*const threads[])(void *) = {make_room, send};

    for (int round = 0; round < ROUNDS; round++) {
        format_small();
        join_small(&slow, 1);
        join_small(&sender, 3);
        assert(send_number(&slow, 1));
#ifdef SHARED
        waste(&slow);
        assert(send_number(&slow, 2));
        waste(&slow);
        waste(&slow);
#else
        (void)waste;
        assert(noria_mpmc_reserve(&slow, &reserved) == 0);
#endif
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
