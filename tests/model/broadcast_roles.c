/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does whoever takes the sender's role go on exactly where the last one stopped, with nothing but
 * the role word between them? The first leaves, or with -DDIES dies and is settled by a third.
 *
 * check: -DLEAVES
 * check: -DDIES
 */
#include "dying.h"

#include "broadcast_small.h"

#ifndef LEAVES
#define FIRST_DIES true
#define THREADS 3
#else
#define FIRST_DIES false
#define THREADS 2
#endif

static struct noria_broadcast_sender first;
static bool second_sent;

static void *send_first(void *unused)
{
    (void)unused;
    start_together(THREADS);
    assert(send_next(&first));
    if (FIRST_DIES)
        die();
    noria_broadcast_leave_sender(&first);
    return NULL;
}

static void *send_second(void *unused)
{
    struct noria_broadcast_sender second;
    int rc;

    (void)unused;
    start_together(THREADS);
    while ((rc = noria_broadcast_join_sender(&second, memory, sizeof(memory), 2)) == -EBUSY && try_again())
        ;
    if (rc == -EBUSY)
        return NULL;
    assert(rc == 0 && second.taken_over == FIRST_DIES && second.sequence == 2);
    second_sent = send_next(&second);
    return NULL;
}

#if THREADS == 3
static void *settle(void *unused)
{
    bool certified = false, done;

    (void)unused;
    start_together(THREADS);
    do {
        uint64_t word = noria_broadcast_find_sender(memory);
        bool found = NORIA_BROADCAST_OWNER(word) == SENDER;
        done = certified && !found; /* who was dead before the look left nothing that it did not find */
        certified = is_dead();
        if (certified && found)
            noria_broadcast_settle_sender(memory, word);
    } while (!done && try_again());
    return NULL;
}
#endif

int main(void)
{
    void *(*const threads[])(void *) = {send_first, send_second,
#if THREADS == 3
                                        settle
#endif
    };

    for (int round = 0; round < ROUNDS / 10 + 1; round++) {
        struct noria_broadcast_receiver receiver;
        dead = 0;
        second_sent = false;
        format_small(NORIA_BROADCAST_RELIABLE);
        join_as_sender(&first);
        join_as_receiver(&receiver, 1);
        assert(send_next(&first));
        run_threads(threads, THREADS);
        while (recv_next(&receiver))
            continue;
        assert(receiver.sequence == 2 + (uint64_t)second_sent);
        assert(noria_broadcast_invariant(memory, sizeof(memory)));
    }
    return 0;
}
