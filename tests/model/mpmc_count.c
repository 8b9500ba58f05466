/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does an observer who counts the records and their bytes while one is sent ever add up the
 * length of a record that stood in the slot before?
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 1);
    start_together(2);
    assert(send_number(&handle, 1));
    return NULL;
}

static void *observe(void *unused)
{
    struct noria_mpmc_handle handle;
    struct noria_mpmc_census census;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    noria_mpmc_count(&handle, &census);
    assert(census.full <= 1 && census.bytes == 8 * census.full);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {send, observe};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        uint64_t nothing;
        size_t len;
        format_small();
        join_small(&handle, 3);
        for (int i = 0; i < SLOTS; i++)
            assert(noria_mpmc_send(&handle, "", 0) == 0 && noria_mpmc_recv(&handle, &nothing, 8, &len) == 0);
        run_threads(threads, 2);
    }
    return 0;
}
