/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: is a ring in which there is always room ever called full? With -DCOMMITTED because records were
 * counted that never stood in it together; with -DSHARED because two threads count for one handle; with
 * -DHELD, where all slots but one are held, because another slot was released before that one was taken.
 *
 * check: -DCOMMITTED -DSLOTS=4 -DCAPACITY=2
 * check: -DSHARED -DSLOTS=8 -DCAPACITY=3 -DNORIA_MPMC_HINT_LAG=4
 * check: -DHELD -DSLOTS=4
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#if !defined(COMMITTED) && !defined(SHARED) && !defined(HELD)
#define HELD
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle slow, sender;
static struct noria_mpmc_record reserved, held[SLOTS];

/* Makes room first, and then takes some. */
static void *make_room(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number = 3;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
#if defined(COMMITTED)
    assert(recv_number(&handle, &number) && number == 1);
    assert(noria_mpmc_commit(&slow, &reserved, sizeof(number)) == 0);
#elif defined(SHARED)
    assert(recv_number(&handle, &number) && number == 1);
    noria_mpmc_reserve(&sender, &reserved);
#else
    assert(noria_mpmc_release(&slow, &held[2]) == 0);
    noria_mpmc_send(&handle, &number, sizeof(number));
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
    assert(noria_mpmc_reserve(handle, &reserved) == 0 && noria_mpmc_abort(handle, &reserved) == 0);
}

static void prepare(void)
{
    format_small();
    join_small(&slow, 1);
    assert(send_number(&slow, 1));
#if defined(COMMITTED) /* one record, and a second when the first is gone */
    assert(noria_mpmc_reserve(&slow, &reserved) == 0);
#elif defined(SHARED) /* two of three */
    waste(&slow);
    assert(send_number(&slow, 2));
    waste(&slow);
    waste(&slow);
#else
    for (uint64_t i = 1; i < SLOTS; i++)
        assert(send_number(&slow, 1 + i));
    for (unsigned i = 0; i < SLOTS; i++)
        assert(noria_mpmc_peek(&slow, &held[i]) == 0);
    assert(noria_mpmc_release(&slow, &held[1]) == 0);
#endif
    (void)waste;
    join_small(&sender, 3);
}

int main(void)
{
    void *(*const threads[])(void *) = {make_room, send};

    for (int round = 0; round < ROUNDS; round++) {
        prepare();
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
