/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two close a ring of which a record is still being read. When one of them finds all slots closed,
 * is the reading over, so that the memory may go?
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle reader;
static struct noria_mpmc_record held;
static uint32_t gone; /* relaxed, it orders nothing */

static void *read_on(void *unused)
{
    (void)unused;
    start_together(3);
    assert(*(const uint64_t *)held.data == 7);
    assert(noria_mpmc_release(&reader, &held) == 0);
    return NULL;
}

static void *close_all(void *which)
{
    struct noria_mpmc_handle handle;
    uint64_t index = 0;
    int rc;

    join_small(&handle, 1 + (uint32_t)(uintptr_t)which);
    start_together(3);
    while ((rc = noria_mpmc_close(&handle, &index)) == 0 && try_again())
        ;
    if (rc == 1 && noria_add_relaxed32(&gone, 1) == 0)
        *(uint64_t *)held.data = 0; /* as if the pages were given back */
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {read_on, close_all, close_all};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        noria_store_relaxed32(&gone, 0);
        format_small();
        join_small(&handle, 4);
        join_small(&reader, 5);
        assert(send_number(&handle, 7) && noria_mpmc_peek(&reader, &held) == 0);
        run_threads(threads, 3);
    }
    return 0;
}
