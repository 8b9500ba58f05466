/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does each of two receivers get every record whole and in order, in a reliable ring that is
 * full at first, while the sender gives away what they have read? With -DROOM they read while there is
 * room, too.
 *
 * check: -DFULL
 * check: -DROOM
 */
#include "broadcast_small.h"

#ifdef ROOM
enum { BEFORE = 1, AFTER = 1, MOST = 2 };
#else
enum { BEFORE = 3, AFTER = 1, MOST = 1 };
#endif
enum { MESSAGES = THREADS_OR_CHECKER(500, BEFORE + AFTER), TAKES = THREADS_OR_CHECKER(1 << 30, MOST) };

static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receivers[2];

static void *transmit(void *unused)
{
    (void)unused;
    start_together(3);
    while (sender.sequence < MESSAGES)
        if (!send_next(&sender) && !try_again())
            break;
    return NULL;
}

static void *listen(void *number)
{
    struct noria_broadcast_receiver *receiver = &receivers[(uintptr_t)number - 1];

    start_together(3);
    for (int i = 0; i < TAKES && receiver->sequence < MESSAGES; i++)
        if (!recv_next(receiver) && !try_again())
            break;
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {transmit, listen, listen};

    for (int round = 0; round < ROUNDS / 50 + 1; round++) {
        format_small(NORIA_BROADCAST_RELIABLE);
        join_as_sender(&sender);
        join_as_receiver(&receivers[0], 1);
        join_as_receiver(&receivers[1], 2);
        for (int i = 0; i < BEFORE; i++)
            assert(send_next(&sender));
        run_threads(threads, 3);
        for (int i = 0; i < 2; i++) {
            while (recv_next(&receivers[i]))
                continue;
            assert(receivers[i].sequence == sender.sequence && receivers[i].missed == 0);
        }
        assert(noria_broadcast_invariant(memory, sizeof(memory)));
    }
    return 0;
}
