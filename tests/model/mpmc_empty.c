/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: is "empty" ever said to a receiver who knows of a committed record that nobody else takes,
 * with a writer stopped in front of it, who may go on meanwhile?
 */
#include "mpmc_small.h"

static struct noria_mpmc_handle stopped;
static struct noria_mpmc_record reserved;
static uint32_t sent;

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
    assert(send_number(&handle, 2));
    noria_store_release32(&sent, 1);
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;
    bool known;

    (void)unused;
    join_small(&handle, 3);
    start_together(3);
    do
        known = noria_load_acquire32(&sent) != 0;
    while (!known && try_again());
    if (known)
        assert(recv_number(&handle, &number));
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {go_on, send, receive};

    for (int round = 0; round < ROUNDS; round++) {
        sent = 0;
        format_small();
        join_small(&stopped, 1);
        assert(noria_mpmc_reserve(&stopped, &reserved) == 0);
        run_threads(threads, 3);
    }
    return 0;
}
