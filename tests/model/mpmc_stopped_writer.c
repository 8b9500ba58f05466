/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a writer stops between reserve and commit, others send and receive past it, then it goes on.
 * Is everything delivered once, does the commit never fail, and is no receiver told "empty" beside a
 * committed record for good?
 *
 * check: -DNORIA_MPMC_HINT_LAG=16
 * check: -DNORIA_MPMC_HINT_LAG=1
 */
#include "mpmc_small.h"

static struct noria_mpmc_handle stopped;
static struct noria_mpmc_record reserved;
static uint32_t seen[3]; /* how often each number came; relaxed, it orders nothing */
static bool sent;

static void take(uint64_t number)
{
    assert(number == 1 || number == 2);
    assert(noria_add_relaxed32(&seen[number], 1) == 0);
}

static void *go_on(void *unused)
{
    (void)unused;
    start_together(3);
    *(uint64_t *)reserved.data = 1;
    assert(noria_mpmc_commit(&stopped, &reserved, 8) == 0);
    return NULL;
}

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(3);
    sent = send_number(&handle, 2);
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

int main(void)
{
    void *(*const threads[])(void *) = {go_on, send, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        uint64_t number;
        seen[1] = seen[2] = 0;
        format_small();
        join_small(&stopped, 1);
        assert(noria_mpmc_reserve(&stopped, &reserved) == 0);
        run_threads(threads, 3);
        join_small(&handle, 4);
        while (recv_number(&handle, &number))
            take(number);
        assert(seen[1] == 1 && seen[2] == (sent ? 1 : 0) && sent);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
