/* SPDX-License-Identifier: BSD-2-Clause */
/* A chain of two ranges for 8-byte numbers, as all chain clients of this folder use it. */
#ifndef NORIA_MODEL_CHAIN_SMALL_H
#define NORIA_MODEL_CHAIN_SMALL_H

#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#define WHOLE_HANDLES
#include "mpmc_small.h"

#ifdef MODEL_CHECKER
/* As there: the memory is zero from the start, and so are the handles, which are static. */
struct noria_chain;
struct noria_chain_handle;
static inline void leave_zero(void *to, size_t size)
{
    (void)to, (void)size;
}
#undef ZERO
#define ZERO(to) \
    _Generic((to), struct noria_chain *: leave_zero, struct noria_chain_handle *: leave_zero, default: zero_words)
#endif

#include <noria/chain.h>

enum { MEMBERS = 2, RANGES = 2, CHAIN_BYTES = 3 * 4096 };

static _Alignas(4096) uint8_t chain_memory[CHAIN_BYTES];
static struct noria_chain_handle handles[MEMBERS + 1]; /* by owner */
static struct noria_chain_view views[MEMBERS + 1][RANGES];

static inline void format_chain(void)
{
    struct noria_chain_config config;

    config.capacity = 1;
    config.size = CHAIN_BYTES;
    config.first_position = 0;
    config.max_message = 8;
    config.owners = MEMBERS;
    assert(noria_chain_format(chain_memory, sizeof(chain_memory), &config) == 0);
}

static inline void join_chain(uint32_t owner, uint64_t life)
{
    for (int range = 0; range < RANGES; range++)
        noria_store_relaxed64(&views[owner][range].generation, 0);
    assert(noria_chain_read_geometry(&handles[owner], chain_memory, sizeof(chain_memory)) == 0);
    assert(handles[owner].ranges == RANGES);
    assert(noria_chain_start(&handles[owner], owner, life, views[owner]) == 0);
}

/* As if its pages were given back: whoever still reads there is in a race with this. */
static inline void give_pages_back(unsigned range)
{
    memset((uint64_t *)noria_chain_memory(&handles[1], range), 0, 64);
}

/* Takes the pages of a link from under whoever is in there, if he is not seen. True if they went. */
static inline bool retire_and_reclaim(uint32_t owner, unsigned range)
{
    struct noria_chain_link link = {range, 1, NULL, NULL};
    uint64_t mine;

    noria_chain_retire(&handles[owner], &link);
    if (noria_chain_reclaim(&handles[owner], range, &mine) != 0)
        return false;
    give_pages_back(range);
    noria_chain_free(&handles[owner], range, mine);
    return true;
}

#endif
