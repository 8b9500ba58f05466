/* SPDX-License-Identifier: BSD-2-Clause */
/* Question: are the pages of a link ever given back while somebody who went into it still reads there? */
#include "chain_small.h"

static void *visit(void *unused)
{
    struct noria_chain_link link = {0, 1, NULL, NULL};
    struct noria_chain_view spare;
    int rc;

    (void)unused;
    start_together(2);
    rc = noria_chain_enter(&handles[1], &link, &spare); /* reads the ring's geometry in there */
    assert(rc == 0 || rc == -EAGAIN);
    if (rc == 0)
        noria_chain_leave(&handles[1], &link);
    return NULL;
}

static void *reclaim(void *unused)
{
    (void)unused;
    start_together(2);
    retire_and_reclaim(2, 0);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {visit, reclaim};

    for (int round = 0; round < ROUNDS; round++) {
        format_chain();
        join_chain(1, 1);
        join_chain(2, 1);
        run_threads(threads, 2);
    }
    return 0;
}
