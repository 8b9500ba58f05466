/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: an owner has died, was settled, and its number is taken by another, who becomes the sender,
 * or, with -DRECEIVE, a receiver. May one who was slow to settle the dead take role or cursor away from
 * the living? He looks whether the number's owner lives after he has found it there.
 *
 * check: -DSEND
 * check: -DRECEIVE
 */
#include "broadcast_small.h"

static uint32_t lives; /* relaxed: the word alone orders the look after the birth */
static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receiver;

static void *live(void *unused)
{
    (void)unused;
    start_together(2);
    noria_store_relaxed32(&lives, 1);
#ifdef RECEIVE
    join_as_receiver(&receiver, 1);
#else
    join_as_sender(&sender);
#endif
    return NULL;
}

static void *settle(void *unused)
{
    struct noria_broadcast_shape shape;
    uint64_t word;

    (void)unused;
    assert(noria_broadcast_read_shape(&shape, memory, sizeof(memory)) == 0);
    start_together(2);
#ifdef RECEIVE
    word = noria_broadcast_find_cursor(&shape, 1);
    if (NORIA_CURSOR_STATE(word) != NORIA_CURSOR_FREE && noria_load_relaxed32(&lives) == 0)
        noria_broadcast_settle_cursor(&shape, 1, word);
#else
    word = noria_broadcast_find_sender(memory);
    if (NORIA_BROADCAST_OWNER(word) == SENDER && noria_load_relaxed32(&lives) == 0)
        noria_broadcast_settle_sender(memory, word);
#endif
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {live, settle};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed32(&lives, 0);
        format_small(NORIA_BROADCAST_RELIABLE);
        run_threads(threads, 2);
#ifdef RECEIVE
        (void)sender;
        assert(NORIA_CURSOR_STATE(noria_broadcast_find_cursor(&receiver.shape, 1)) == NORIA_CURSOR_LIVE);
#else
        (void)receiver;
        assert(NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(memory)) == SENDER);
#endif
    }
    return 0;
}
