/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does whoever sees the magic see a whole chain, even if nothing but the magic orders him after
 * format?
 */
#include "chain_small.h"

static uint32_t formatted; /* relaxed, it orders nothing */

static void *format(void *unused)
{
    (void)unused;
    start_together(2);
    format_chain();
    noria_store_relaxed32(&formatted, 1);
    return NULL;
}

static void *join(void *unused)
{
    struct noria_chain_handle *handle = &handles[1];
    struct noria_chain_link link;
    struct noria_chain_view spare;
    int rc;

    (void)unused;
    start_together(2);
    while (THREADS_OR_CHECKER(noria_load_relaxed32(&formatted) == 0, false))
        if (!try_again())
            return NULL;
    rc = noria_chain_read_geometry(handle, chain_memory, sizeof(chain_memory));
    if (rc == -EBADMSG && THREADS_OR_CHECKER(false, true))
        return NULL; /* it has not seen the magic yet */
    assert(rc == 0 && noria_chain_start(handle, 1, 1, views[1]) == 0);
    assert(noria_chain_tail_link(handle, noria_chain_tail(handle), &link));
    assert(noria_chain_enter(handle, &link, &spare) == 0);
    noria_chain_leave(handle, &link);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {format, join};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed64((uint64_t *)(void *)chain_memory, 0);
        noria_store_relaxed32(&formatted, 0);
        for (int range = 0; range < RANGES; range++)
            noria_store_relaxed64(&views[1][range].generation, 0);
        run_threads(threads, 2);
    }
    return 0;
}
