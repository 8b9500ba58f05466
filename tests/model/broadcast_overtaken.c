/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a sender overwrites what a receiver is just reading. Is whatever the receiver believes a whole
 * record, the one it takes it for, and does it know exactly how many it missed? Lossy, the sender just
 * goes on; with -DEVICT it evicts the receiver that holds it up.
 *
 * check: -DAFTER=1
 * check: -DAFTER=2
 * check: -DAFTER=1 -DEVICT
 * check: -DAFTER=2 -DEVICT
 */
#include "broadcast_small.h"

#ifndef AFTER
#define AFTER 2
#endif
enum {
    BEFORE = 3,
    MESSAGES = THREADS_OR_CHECKER(2000, BEFORE + AFTER),
    TAKES = THREADS_OR_CHECKER(1 << 30, 1)
};

static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receiver;
static uint64_t got;

static void send_or_evict(void)
{
    struct noria_broadcast_slowest slowest;

    while (!send_next(&sender)) {
        noria_broadcast_find_slowest(&sender, &slowest);
        if (slowest.owner != 0)
            noria_broadcast_evict(&sender, &slowest);
        else if (!try_again())
            break;
    }
}

static void *transmit(void *unused)
{
    (void)unused;
    start_together(2);
    while (sender.sequence < MESSAGES) {
        uint64_t before = sender.sequence;
        send_or_evict();
        if (sender.sequence == before)
            break;
    }
    return NULL;
}

static void *listen(void *unused)
{
    (void)unused;
    start_together(2);
    for (int i = 0; i < TAKES && receiver.sequence < MESSAGES; i++) {
        bool came = recv_next(&receiver);
        got += came;
        if (!came && !try_again())
            break;
    }
    return NULL;
}

static void one_round(enum noria_broadcast_mode mode)
{
    void *(*const threads[])(void *) = {transmit, listen};

    format_small(mode);
    join_as_sender(&sender);
    join_as_receiver(&receiver, 1);
    got = 0;
    for (int i = 0; i < BEFORE; i++)
        assert(send_next(&sender));
    run_threads(threads, 2);
    while (recv_next(&receiver))
        got++;
    assert(receiver.sequence == sender.sequence && got + receiver.missed == sender.sequence);
    assert(noria_broadcast_invariant(memory, sizeof(memory)));
}

int main(void)
{
    for (int round = 0; round < ROUNDS / 50 + 1; round++) {
#if !defined(MODEL_CHECKER) || !defined(EVICT)
        one_round(NORIA_BROADCAST_LOSSY);
#endif
#if !defined(MODEL_CHECKER) || defined(EVICT)
        one_round(NORIA_BROADCAST_EVICTING);
#endif
    }
    return 0;
}
