/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the test can fail. DPDK's rte_ring in its default MP/MC mode moves its tails in the order of the
 * claims, so a process stopped or killed in between makes all later ones on that side spin for ever. */
#include <rte_ring.h>

#include "value_ring.h"

enum { SLOTS = 8 };

/* As rte_ring_init does; written out so that none of DPDK's libraries is needed. */
static int value_format(void *memory)
{
    struct rte_ring *ring = (struct rte_ring *)memory;

    memset(ring, 0, sizeof(*ring) + SLOTS * sizeof(void *));
    ring->size = SLOTS;
    ring->mask = SLOTS - 1;
    ring->capacity = SLOTS - 1;
    ring->prod.sync_type = RTE_RING_SYNC_MT;
    ring->cons.sync_type = RTE_RING_SYNC_MT;
    return sizeof(*ring) + SLOTS * sizeof(void *);
}

static inline bool value_enqueue(void *memory, uint64_t value)
{
    return rte_ring_mp_enqueue((struct rte_ring *)memory, (void *)(uintptr_t)value) == 0;
}

static inline bool value_dequeue(void *memory, uint64_t *value)
{
    return rte_ring_mc_dequeue((struct rte_ring *)memory, (void **)value) == 0;
}

const struct contestant contestant = VALUE_RING("rte_ring mp/mc");
