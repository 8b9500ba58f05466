/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a sender dies before any store, in a ring where it gives away what the receiver has read. Is
 * every record it published received once, and does its successor, who joins after somebody else settled
 * the role, go on behind them, with the next number, and stay behind the receiver?
 *
 * check: -DDIE_AT=1
 * check: -DDIE_AT=2
 * check: -DDIE_AT=3
 * check: -DDIE_AT=4
 * check: -DDIE_AT=5
 * check: -DDIE_AT=6
 * check: -DDIE_AT=7
 */
#include "dying.h"

#include "broadcast_small.h"

enum { STORES = 6 /* of a send that gives away, with one mark */, BEFORE = 3 };

static struct noria_broadcast_sender doomed;
static struct noria_broadcast_receiver receiver;
static unsigned die_at;
static uint64_t committed, sent; /* read after their ends */

static void *victim(void *unused)
{
    (void)unused;
    start_together(3);
    stores_to_live = die_at;
    if (send_next(&doomed))
        committed++;
    stores_to_live = 0;
    die();
    return NULL;
}

/* Settles, and succeeds. */
static void *succeed(void *unused)
{
    struct noria_broadcast_sender sender;

    (void)unused;
    start_together(3);
    do {
        uint64_t word = noria_broadcast_find_sender(memory);
        if (!is_dead() || NORIA_BROADCAST_OWNER(word) != SENDER)
            continue;
        assert(noria_broadcast_settle_sender(memory, word) == 1);
        join_as_sender(&sender);
        assert(sender.taken_over);
        assert(sender.sequence >= BEFORE + committed && sender.sequence <= BEFORE + 1);
        committed = sender.sequence - BEFORE;
        sent = send_next(&sender);
        return NULL;
    } while (try_again());
    return NULL;
}

static void *listen(void *unused)
{
    (void)unused;
    start_together(3);
    for (int i = 0; i < 3; i++)
        recv_next(&receiver);
    return NULL;
}

static void one_round(void)
{
    void *(*const threads[])(void *) = {victim, succeed, listen};

    committed = sent = 0;
    dead = 0;
    format_small(NORIA_BROADCAST_RELIABLE);
    join_as_sender(&doomed);
    join_as_receiver(&receiver, 1);
    for (int i = 0; i < BEFORE; i++)
        assert(send_next(&doomed));
    assert(recv_next(&receiver));
    run_threads(threads, 3);
    while (recv_next(&receiver))
        continue;
    assert(receiver.missed == 0 && receiver.sequence >= BEFORE + committed + sent);
    assert(receiver.sequence <= BEFORE + 2);
    if (NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(memory)) == SENDER && sent != 0)
        assert(noria_broadcast_invariant(memory, sizeof(memory)));
}

int main(void)
{
#ifdef DIE_AT
    die_at = DIE_AT;
    one_round();
#else
    for (int round = 0; round < ROUNDS / 10 + 1; round++)
        for (die_at = 1; die_at <= STORES + 1; die_at++)
            one_round();
#endif
    return 0;
}
