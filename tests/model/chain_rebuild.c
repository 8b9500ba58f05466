/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two want the same free range, one after the other. Does whoever claims it come after all that the
 * other did to its pages?
 */
#include "chain_small.h"

static void *build_in_vain(void *which)
{
    struct noria_chain_handle *handle = &handles[1 + (uintptr_t)which];
    unsigned range;
    uint64_t mine;

    start_together(2);
    if (noria_chain_claim(handle, NORIA_CHAIN_TAIL(1, 0), 1, &range, &mine) == 0) {
        give_pages_back(range);
        noria_chain_free(handle, range, mine);
    }
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {build_in_vain, build_in_vain};

    for (int round = 0; round < ROUNDS; round++) {
        format_chain();
        join_chain(1, 1);
        join_chain(2, 1);
        run_threads(threads, 2);
    }
    return 0;
}
