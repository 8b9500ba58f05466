/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: an owner dies while it writes a record, or with -DREADING while it reads one. May the bytes of
 * its slot be written again when somebody has settled it, or with -DDISCARD has thrown away what was in it?
 *
 * check: -DWRITING
 * check: -DREADING
 * check: -DWRITING -DDISCARD
 * check: -DREADING -DDISCARD
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "dying.h"
#include "mpmc_small.h"

#ifdef DISCARD
#define take_away noria_mpmc_discard
#else
#define take_away noria_mpmc_settle
#endif

static struct noria_mpmc_handle doomed;
static struct noria_mpmc_record last; /* of the victim */

static void *victim(void *unused)
{
    (void)unused;
    start_together(3);
#ifdef READING
    assert(*(uint64_t *)last.data == 1);
#else
    *(uint64_t *)last.data = 2;
#endif
    die();
    return NULL;
}

static void *settle(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t index = 0, word;

    (void)unused;
    join_small(&handle, 2);
    start_together(3);
    while (!is_dead())
        if (!try_again())
            return NULL;
    assert(noria_mpmc_find(&handle, 1, &index, &word) == 1);
    while (take_away(&handle, index, word) == 0)
        assert(noria_mpmc_find(&handle, 1, &index, &word) == 1); /* it was stepped over */
    return NULL;
}

/* Once round the wheel, without waiting for anybody. */
static void *use_again(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number = 9;

    (void)unused;
    start_together(3);
    while (!is_dead() && THREADS_OR_CHECKER(true, false))
        try_again();
    join_small(&handle, 3);
#if defined(READING) && !defined(DISCARD)
    recv_number(&handle, &number); /* the orphan, if it is one yet */
#endif
    for (int i = 0; i < SLOTS; i++)
        noria_mpmc_send(&handle, &number, sizeof(number));
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {victim, settle, use_again};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        dead = 0;
        format_small();
        join_small(&doomed, 1);
        join_small(&handle, 4);
#ifdef READING
        assert(send_number(&handle, 1) && noria_mpmc_peek(&doomed, &last) == 0);
#else
        assert(noria_mpmc_reserve(&doomed, &last) == 0);
#endif
        run_threads(threads, 3);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
