/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: may a handle rely on the words it finds where a hint sends it, or on its own walk, while another
 * sends and receives? It would call a word that is too old for its position corrupt, and take an old FULL for
 * a full ring or an old EMPTY for an empty one. It joins in the middle, or with -DEARLY before, and walks.
 * There is always room when it sends (-DSEND) and always a record when it receives (-DRECEIVE); with -DREADY it only
 * asks whether it may.
 *
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DSEND
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DSEND -DEARLY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE -DEARLY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=16 -DSEND -DEARLY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=16 -DRECEIVE -DEARLY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DSEND -DEARLY -DREADY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE -DEARLY -DREADY
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE -DEARLY -DGLANCE
 * check: -DNUMBERS=2 -DNORIA_MPMC_HINT_LAG=2 -DRECEIVE -DEARLY -DLOOK
 * long: -DNUMBERS=3 -DNORIA_MPMC_HINT_LAG=3 -DSEND -DEARLY
 * long: -DNUMBERS=3 -DNORIA_MPMC_HINT_LAG=3 -DRECEIVE -DEARLY
 * long: -DNUMBERS=3 -DNORIA_MPMC_HINT_LAG=16 -DSEND -DEARLY
 */
#include "mpmc_small.h"

#ifndef NUMBERS
#define NUMBERS 40
#endif
#ifdef SEND
#define SENDS true
#else
#define SENDS false
#endif

static struct noria_mpmc_handle latecomer;
static uint32_t turned; /* relaxed, it orders nothing */

static void *pass_numbers(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 1);
    start_together(2);
    for (uint64_t i = 1; i <= NUMBERS && send_number(&handle, i); i++)
        recv_number(&handle, &number);
    noria_store_relaxed32(&turned, 1);
    return NULL;
}

static void *come_late(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
    if (noria_load_relaxed32(&turned) == 0 && !THREADS_OR_CHECKER(true, false))
        return NULL; /* the checker looks at the others only */
#ifndef EARLY
    join_small(&latecomer, 2);
#endif
    assert(SENDS ? MAY_SEND(&latecomer, 99) : MAY_RECV(&latecomer, &number));
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {pass_numbers, come_late};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        turned = 0;
        format_small();
        join_small(&handle, 3);
        assert(SENDS || send_number(&handle, 50));
#ifdef EARLY
        join_small(&latecomer, 2);
#endif
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
