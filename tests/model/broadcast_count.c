/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does an observer who counts records while others send and receive ever take old bytes for a
 * header? The ring's data is full of them from the start.
 */
#include "broadcast_small.h"

static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receiver;

static void *transmit(void *unused)
{
    (void)unused;
    start_together(3);
    for (int i = 0; i < THREADS_OR_CHECKER(200, 1); i++)
        send_next(&sender);
    return NULL;
}

static void *listen(void *unused)
{
    (void)unused;
    start_together(3);
    for (int i = 0; i < THREADS_OR_CHECKER(200, 1); i++)
        recv_next(&receiver);
    return NULL;
}

static void *observe(void *unused)
{
    (void)unused;
    start_together(3);
    for (int i = 0; i < THREADS_OR_CHECKER(200, 1); i++) {
        uint64_t records = 0, bytes = 0;
        int rc = noria_broadcast_count(&sender.shape, &records, &bytes);
        assert(rc == -EAGAIN || (rc == 0 && records <= CAPACITY / 16 && bytes == records * 8));
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {transmit, listen, observe};

    for (int round = 0; round < ROUNDS / 10 + 1; round++) {
        for (size_t i = 0; i < CAPACITY / 8; i++)
            memory[sizeof(memory) / 8 - 1 - i] = UINT64_MAX;
        format_small(NORIA_BROADCAST_RELIABLE);
        join_as_sender(&sender);
        join_as_receiver(&receiver, 1);
        assert(send_next(&sender));
        run_threads(threads, 3);
    }
    return 0;
}
