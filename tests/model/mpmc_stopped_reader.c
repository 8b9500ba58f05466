/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a receiver stops while it holds a record, senders step over its slot and receivers pass it,
 * then it goes on. Does it still find its record whole, and is everything else delivered once and in
 * order?
 *
 * check: -DALONE -DNORIA_MPMC_HINT_LAG=16
 * check: -DALONE -DNORIA_MPMC_HINT_LAG=1
 * long: -DNORIA_MPMC_HINT_LAG=16
 * long: -DNORIA_MPMC_HINT_LAG=1
 */
#include "mpmc_small.h"

#define NUMBERS THREADS_OR_CHECKER(40, 2)

static struct noria_mpmc_handle stopped;
static struct noria_mpmc_record held;
static uint64_t sent, last;

static void *go_on(void *unused)
{
    (void)unused;
    start_together(3);
    assert(*(uint64_t *)held.data == 1);
    assert(noria_mpmc_release(&stopped, &held) == 0);
    return NULL;
}

static void take(uint64_t number)
{
    assert(number == last + 1);
    last = number;
}

#ifdef ALONE
/* One thread that does both, in turn: less for the checker. */
static void *send_and_receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 2);
    for (sent = 1; sent < 1 + NUMBERS && send_number(&handle, sent + 1); sent++)
        if (recv_number(&handle, &number))
            take(number);
    return NULL;
}

#else
static void *send(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(3);
    sent = 1;
    while (sent < 1 + NUMBERS && send_number(&handle, sent + 1))
        sent++;
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    do
        while (recv_number(&handle, &number))
            take(number);
    while (last < 1 + NUMBERS && try_again());
    return NULL;
}

#endif

int main(void)
{
#ifdef ALONE
    void *(*const threads[])(void *) = {go_on, send_and_receive};
#else
    void *(*const threads[])(void *) = {go_on, send, receive};
#endif

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        uint64_t number;
        last = 1;
        format_small();
        join_small(&stopped, 1);
        join_small(&handle, 4);
        assert(send_number(&handle, 1) && noria_mpmc_peek(&stopped, &held) == 0);
        run_threads(threads, sizeof(threads) / sizeof(threads[0]));
        while (recv_number(&handle, &number))
            take(number);
        assert(last == sent && noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
