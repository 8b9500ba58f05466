/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a writer stops between reserve and commit, others send and receive past it, then it goes on. Is
 * everything delivered once, and does the commit never find the ring full? With -DSECOND_LAP the ring has
 * turned once, and the writer remembers an old record in the slot it needs next.
 *
 * check: -DNORIA_MPMC_HINT_LAG=16
 * check: -DNORIA_MPMC_HINT_LAG=1
 * check: -DNORIA_MPMC_HINT_LAG=16 -DSECOND_LAP
 */
#include "mpmc_small.h"

#ifdef SECOND_LAP
#define EARLIER (SLOTS - 1) /* numbers in the ring when the writer stops */
#else
#define EARLIER 0
#endif
#define STOPPED (EARLIER + 1)
#define LAST (EARLIER + 2)

static struct noria_mpmc_handle stopped;
static struct noria_mpmc_record reserved;
static uint32_t seen[SLOTS + 2]; /* how often each number came; relaxed, it orders nothing */

static void take(uint64_t number)
{
    assert(number >= 1 && number <= LAST);
    assert(noria_add_relaxed32(&seen[number], 1) == 0);
}

static void *go_on(void *unused)
{
    (void)unused;
    start_together(3);
    *(uint64_t *)reserved.data = STOPPED;
    assert(noria_mpmc_commit(&stopped, &reserved, 8) == 0);
    return NULL;
}

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(3);
    if (!send_number(&handle, LAST))
        take(LAST); /* full: the others had not come so far */
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    for (int tries = 0; tries < 2; tries++)
        if (recv_number(&handle, &number))
            take(number);
    return NULL;
}

/* The ring with EARLIER numbers in it, and a writer who has reserved the next place. */
static void prepare(struct noria_mpmc_handle *handle)
{
    uint64_t number;

    format_small();
    join_small(&stopped, 1);
    join_small(handle, 4);
    if (EARLIER != 0)
        assert(send_number(handle, 0) && recv_number(handle, &number) && number == 0);
    for (uint64_t i = 1; i <= LAST; i++) {
        seen[i] = 0;
        assert(i > EARLIER || send_number(handle, i));
    }
    assert(noria_mpmc_reserve(&stopped, &reserved) == 0);
}

int main(void)
{
    void *(*const threads[])(void *) = {go_on, send, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        uint64_t number;
        prepare(&handle);
        run_threads(threads, 3);
        while (recv_number(&handle, &number))
            take(number);
        for (uint64_t i = 1; i <= LAST; i++)
            assert(seen[i] == 1);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
