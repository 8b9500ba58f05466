/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a writer that was stepped over moves its long record into a slot whose short one was consumed.
 * Does a receiver with a small buffer, who still sees the short one there, ever hear that it is too long?
 *
 * check: -DSLOTS=4
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle slow, receiver;
static struct noria_mpmc_record reserved;

/* Consumes the short ones, for which it must step over the writer, and lets that one go on. */
static void *move(void *unused)
{
    struct noria_mpmc_handle handle;
    uint64_t nothing;
    size_t len;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
    for (int i = 0; i < 2; i++)
        noria_mpmc_recv(&handle, &nothing, 0, &len); /* the other may have taken one */
    *(uint64_t *)reserved.data = 1;
    assert(noria_mpmc_commit(&slow, &reserved, 8) == 0);
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_mpmc_record record;

    (void)unused;
    start_together(2);
    if (noria_mpmc_peek_within(&receiver, 0, &record) == -EMSGSIZE)
        assert(record.len == 8 && record.position >= SLOTS);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {move, receive};

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t nothing;
        size_t len;
        format_small();
        join_small(&slow, 1);
        join_small(&receiver, 3);
        for (unsigned i = 0; i < 2; i++)
            assert(noria_mpmc_send(&slow, "", 0) == 0 && noria_mpmc_recv(&slow, &nothing, 0, &len) == 0);
        assert(noria_mpmc_send(&slow, "", 0) == 0);
        for (unsigned i = 3; i < SLOTS; i++)
            assert(noria_mpmc_reserve(&slow, &reserved) == 0 && noria_mpmc_abort(&slow, &reserved) == 0);
        assert(noria_mpmc_reserve(&slow, &reserved) == 0);
        assert(noria_mpmc_send(&slow, "", 0) == 0);
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
