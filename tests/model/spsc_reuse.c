/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: an owner has died, was settled, and its number is taken by another, who takes the role again.
 * May one who was slow to settle the dead take it away from the living? He looks whether the number's owner
 * lives after he has found it in the role.
 */
#include "checker.h"

#include <noria/spsc.h>

#define CAPACITY 256

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];
static uint32_t lives; /* relaxed: the role's word alone orders the look after the birth */

static void *live(void *unused)
{
    struct noria_spsc_producer producer;

    (void)unused;
    start_together(2);
    noria_store_relaxed32(&lives, 1);
    assert(noria_spsc_join_producer(&producer, memory, sizeof(memory), 1) == 0);
    return NULL;
}

static void *settle(void *unused)
{
    uint64_t word;

    (void)unused;
    start_together(2);
    word = noria_spsc_find(memory, NORIA_SPSC_PRODUCER);
    if (NORIA_SPSC_OWNER(word) == 1 && noria_load_relaxed32(&lives) == 0)
        noria_spsc_settle(memory, NORIA_SPSC_PRODUCER, word);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {live, settle};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed32(&lives, 0);
        assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 0) == 0);
        run_threads(threads, 2);
        assert(NORIA_SPSC_OWNER(noria_spsc_find(memory, NORIA_SPSC_PRODUCER)) == 1);
    }
    return 0;
}
