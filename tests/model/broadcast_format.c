/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does whoever sees the magic see a whole ring, even if nothing but the magic orders him after
 * format?
 */
#include "broadcast_small.h"

static uint32_t formatted; /* relaxed, it orders nothing */

static void *format(void *unused)
{
    (void)unused;
    start_together(2);
    format_small(NORIA_BROADCAST_RELIABLE);
    noria_store_relaxed32(&formatted, 1);
    return NULL;
}

static void *join(void *unused)
{
    struct noria_broadcast_receiver receiver;
    int rc;

    (void)unused;
    start_together(2);
    while (noria_load_relaxed32(&formatted) == 0)
        if (!try_again())
            return NULL;
    rc = noria_broadcast_join_receiver(&receiver, memory, sizeof(memory), 1, NORIA_BROADCAST_NOW, 0);
    if (rc == -EBADMSG && THREADS_OR_CHECKER(false, true))
        return NULL; /* it has not seen the magic yet */
    assert(rc == 0 && receiver.sequence == 0 && !recv_next(&receiver));
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
