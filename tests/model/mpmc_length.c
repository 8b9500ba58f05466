/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does a receiver with a small buffer ever hear "too long" although the first record fits,
 * because it read the length of the record that took the place of one consumed meanwhile?
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static void *take_one(void *which)
{
    struct noria_mpmc_handle handle;
    uint64_t nothing;
    size_t len;

    join_small(&handle, 1 + (uint32_t)(uintptr_t)which);
    start_together(3);
    assert(noria_mpmc_recv(&handle, &nothing, 0, &len) == 0 && len == 0);
    return NULL;
}

static void *send_long(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    send_number(&handle, 1);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {take_one, take_one, send_long};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        format_small();
        join_small(&handle, 4);
        for (unsigned i = 0; i < SLOTS; i++)
            assert(noria_mpmc_send(&handle, "", 0) == 0);
        for (unsigned i = 0; i < SLOTS - 2; i++) {
            uint64_t nothing;
            size_t len;
            assert(noria_mpmc_recv(&handle, &nothing, 0, &len) == 0);
        }
        run_threads(threads, 3);
    }
    return 0;
}
