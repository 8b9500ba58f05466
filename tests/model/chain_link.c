/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: one puts a new link behind the tail while another goes into the tail it sees. Is what he finds
 * there a whole ring, and in the chain, also before its builder has said so? An older ring stood in its range.
 */
#include "chain_small.h"

static void *grow(void *unused)
{
    unsigned range;
    uint64_t mine;

    (void)unused;
    start_together(2);
    assert(noria_chain_claim(&handles[1], NORIA_CHAIN_TAIL(1, 0), 1, &range, &mine) == 0 && range == 1);
    assert(noria_chain_link(&handles[1], NORIA_CHAIN_TAIL(1, 0), range, mine) == 0);
    return NULL;
}

static void *visit(void *unused)
{
    struct noria_chain_link link;
    struct noria_chain_view spare;

    (void)unused;
    start_together(2);
    assert(noria_chain_tail_link(&handles[2], noria_chain_tail(&handles[2]), &link));
    assert(noria_chain_enter(&handles[2], &link, &spare) == 0);
    noria_chain_leave(&handles[2], &link);
    return NULL;
}

static void leave_old_ring(void)
{
    const struct noria_chain_range *range = &handles[1].range[1];
    struct noria_mpmc_config config = noria_chain_link_config(range->slots, 8, MEMBERS, 0);

    assert(noria_mpmc_format(noria_chain_memory(&handles[1], 1), (size_t)range->size, &config) == 0);
}

int main(void)
{
    void *(*const threads[])(void *) = {grow, visit};

    for (int round = 0; round < ROUNDS; round++) {
        unsigned range = 0;
        uint64_t word;
        format_chain();
        join_chain(1, 1);
        join_chain(2, 1);
        leave_old_ring();
        run_threads(threads, 2);
        assert(noria_chain_find(&handles[2], 1, &range, &word) == 0); /* nothing is being built any more */
    }
    return 0;
}
