/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: may a handle rely on the words it finds where a hint sends it, while others send and receive?
 * (It would call a word that is too old for its position corrupt.) It joins in the middle, or with -DEARLY
 * before and jumps on the way.
 *
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DSEND
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE
 * check: -DNUMBERS=3 -DNORIA_MPMC_HINT_LAG=3 -DSEND -DEARLY
 * check: -DNUMBERS=3 -DNORIA_MPMC_HINT_LAG=3 -DRECEIVE -DEARLY
 */
#include "mpmc_small.h"

#ifndef NUMBERS
#define NUMBERS 40
#endif
#define LATE 99
#ifdef SEND
#define SENDS true
#else
#define SENDS false
#endif

static struct noria_mpmc_handle latecomer;

/* Relaxed: knowing it orders nothing. */
static bool hint_moved(void)
{
    struct noria_mpmc *ring = (struct noria_mpmc *)(void *)memory;

    return noria_load_relaxed64(SENDS ? &ring->write_pos : &ring->read_pos) == NUMBERS;
}

static void *pass_numbers(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 1);
    start_together(2);
    for (uint64_t i = 1; i <= NUMBERS && send_number(&handle, i); i++)
        recv_number(&handle, &number);
    return NULL;
}

static void *come_late(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
    if (!hint_moved() && !THREADS_OR_CHECKER(true, false))
        return NULL; /* the checker looks at the others only */
#ifndef EARLY
    join_small(&latecomer, 2);
#endif
    if (THREADS_OR_CHECKER(true, SENDS))
        send_number(&latecomer, LATE);
    if (THREADS_OR_CHECKER(true, !SENDS))
        recv_number(&latecomer, &number);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {pass_numbers, come_late};

    for (int round = 0; round < ROUNDS; round++) {
        format_small();
#ifdef EARLY
        join_small(&latecomer, 2);
#endif
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
