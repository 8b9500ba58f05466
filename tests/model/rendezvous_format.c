/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does whoever sees the magic see a whole table, even if nothing but the magic orders him after
 * format?
 */
#include "rendezvous_small.h"

static uint32_t formatted; /* relaxed, it orders nothing */

static void *format(void *unused)
{
    (void)unused;
    start_together(2);
    format_small();
    noria_store_relaxed32(&formatted, 1);
    return NULL;
}

static void *join(void *unused)
{
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer offer;
    int rc;

    (void)unused;
    start_together(2);
    while (noria_load_relaxed32(&formatted) == 0)
        if (!try_again())
            return NULL;
    rc = noria_rendezvous_join(&handle, memory, sizeof(memory), 1, 1);
    if (rc == -EBADMSG && THREADS_OR_CHECKER(false, true))
        return NULL; /* it has not seen the magic yet */
    assert(rc == 0 && offer_number(&handle, 1, &offer));
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {format, join};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed64(&memory[0], 0);
        noria_store_relaxed32(&formatted, 0);
        run_threads(threads, 2);
    }
    return 0;
}
