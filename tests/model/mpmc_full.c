/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: is "full" ever said to a sender who knows that a record of a full ring was released?
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static uint32_t released;

static void *receive(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number;

    (void)unused;
    join_small(&handle, 1);
    start_together(2);
    assert(recv_number(&handle, &number) && number == 0);
    assert(recv_number(&handle, &number) && number == 1);
    noria_store_release32(&released, 1);
    return NULL;
}

static void *send(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t number = 9;
    bool known;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    if (noria_mpmc_send(&handle, &number, sizeof(number)) == 0)
        return NULL;
    do
        known = noria_load_acquire32(&released) != 0;
    while (!known && try_again());
    if (known)
        assert(noria_mpmc_send(&handle, &number, sizeof(number)) == 0);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {receive, send};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        released = 0;
        format_small();
        join_small(&handle, 3);
        for (uint64_t i = 0; i < SLOTS; i++)
            assert(send_number(&handle, i));
        run_threads(threads, 2);
    }
    return 0;
}
