/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: a visitor dies inside a link, and its number is taken by another, who starts. Does whoever
 * reclaims the link come after all that the dead one read there?
 */
#include "dying.h"

#include "chain_small.h"

static void *visit(void *unused)
{
    struct noria_chain_link link = {0, 1, NULL, NULL};
    struct noria_chain_view spare;

    (void)unused;
    start_together(3);
    assert(noria_chain_enter(&handles[1], &link, &spare) == 0); /* and is retired by nobody before the next life */
    die();
    return NULL;
}

static uint32_t started; /* relaxed, it orders nothing */

static void *live_again(void *unused)
{
    bool certified;

    (void)unused;
    start_together(3);
    do
        certified = is_dead();
    while (!certified && try_again());
    if (certified) {
        assert(noria_chain_start(&handles[1], 1, 2, views[1]) == 0);
        noria_store_relaxed32(&started, 1);
    }
    return NULL;
}

static void *reclaim(void *unused)
{
    bool has_started;

    (void)unused;
    start_together(3);
    do
        has_started = noria_load_relaxed32(&started) != 0;
    while (!has_started && try_again());
    if (has_started)
        retire_and_reclaim(2, 0);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {visit, live_again, reclaim};

    for (int round = 0; round < ROUNDS; round++) {
        dead = 0;
        noria_store_relaxed32(&started, 0);
        format_chain();
        join_chain(1, 1);
        join_chain(2, 1);
        run_threads(threads, 3);
    }
    return 0;
}
