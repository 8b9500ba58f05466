/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a receiver joins a full ring, from the oldest record kept, while the sender gives away chunks
 * that nobody holds. Does it either hold the sender, or see that its place is gone: is what it reads
 * whole, and in order from there on? With -DSTART it joins from now on, with -DMODE it holds nobody.
 *
 * check: -DAFTER=1
 * check: -DAFTER=1 -DSTART=NORIA_BROADCAST_NOW
 * check: -DAFTER=1 -DSTART=NORIA_BROADCAST_NOW -DMODE=NORIA_BROADCAST_LOSSY
 * check: -DAFTER=2 -DMODE=NORIA_BROADCAST_LOSSY
 * check: -DAFTER=2
 * long: -DAFTER=2 -DSTART=NORIA_BROADCAST_NOW
 */
#include "broadcast_small.h"

#ifndef AFTER
#define AFTER 2
#endif
#ifndef START
#define START NORIA_BROADCAST_OLDEST
#endif
#ifndef MODE
#define MODE NORIA_BROADCAST_RELIABLE
#endif
enum {
    BEFORE = 3,
    MESSAGES = THREADS_OR_CHECKER(200, BEFORE + AFTER),
    TAKES = THREADS_OR_CHECKER(1 << 30, 2)
};

static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receiver;
static bool joined;

static void *transmit(void *unused)
{
    (void)unused;
    start_together(2);
    while (sender.sequence < MESSAGES)
        if (!send_next(&sender) && !try_again())
            break;
    return NULL;
}

static void *join(void *unused)
{
    int rc;

    (void)unused;
    start_together(2);
    while ((rc = noria_broadcast_join_receiver(&receiver, memory, sizeof(memory), 1, START, 0)) != 0) {
        assert(rc == -EAGAIN);
        if (!try_again())
            return NULL;
    }
    joined = true;
    for (int i = 0; i < TAKES && receiver.sequence < MESSAGES; i++)
        if (!recv_next(&receiver) && !try_again())
            break;
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {transmit, join};

    for (int round = 0; round < ROUNDS; round++) {
        joined = false;
        format_small(MODE);
        join_as_sender(&sender);
        for (int i = 0; i < BEFORE; i++)
            assert(send_next(&sender));
        run_threads(threads, 2);
        if (!joined)
            continue;
        while (recv_next(&receiver))
            continue;
        assert(receiver.sequence == sender.sequence);
        assert(receiver.missed == 0 || MODE == NORIA_BROADCAST_LOSSY);
        assert(noria_broadcast_invariant(memory, sizeof(memory)));
    }
    return 0;
}
