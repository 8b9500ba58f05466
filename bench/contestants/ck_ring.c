/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Concurrency Kit's ck_ring. It carries pointers: 8-byte messages travel as the pointer itself; larger ones
 * lie in a pool of slots and the ring carries their addresses. With one producer the pool is used in ring
 * order; with many, free slots come from a second ring, as ck's users do it.
 */
#include <ck_ring.h>

#include "../contestant.h"

/* The ring holds slots - 1 entries. `entry` is followed by the free ring's entries and the pool. */
struct ck_shared {
    ck_ring_t ring;
    ck_ring_t free_ring;
    ck_ring_buffer_t entry[] __attribute__((aligned(128)));
};

struct ck_side {
    struct ck_shared *shared;
    ck_ring_buffer_t *free_entry;
    uint8_t *pool;
    uint64_t *scratch;
    uint32_t slots, position;
    uint8_t *held[BENCH_BATCH];
};

static size_t ck_footprint(const struct cell *cell)
{
    uint32_t slots = cell_slots(cell);

    return sizeof(struct ck_shared) + 2 * slots * sizeof(ck_ring_buffer_t) + (size_t)slots * cell->size;
}

static uint8_t *ck_pool(struct ck_shared *shared, uint32_t slots)
{
    return (uint8_t *)&shared->entry[2 * slots];
}

static int ck_format(void *memory, const struct cell *cell)
{
    struct ck_shared *shared = memory;
    uint32_t slots = cell_slots(cell);

    ck_ring_init(&shared->ring, slots);
    ck_ring_init(&shared->free_ring, slots);
    for (uint32_t i = 0; i < slots - 1; i++)
        ck_ring_enqueue_mpmc(&shared->free_ring, &shared->entry[slots],
                             ck_pool(shared, slots) + (size_t)i * cell->size);
    return 0;
}

static int ck_join(struct ck_side *side, const struct seat *seat)
{
    side->shared = seat->memory;
    side->slots = cell_slots(seat->cell);
    side->free_entry = &side->shared->entry[side->slots];
    side->pool = ck_pool(side->shared, side->slots);
    side->scratch = seat->scratch;
    return 0;
}

/* ------------------------------------------------------------------------------------------- one to one */

#define ck_spsc_side ck_side
#define ck_spsc_footprint ck_footprint
#define ck_spsc_format ck_format
#define ck_spsc_join ck_join

static inline uint8_t *ck_spsc_place(struct ck_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (size == 8)
        return (uint8_t *)&side->scratch[i];
    /* The consumer may still read `batch` slots that have left the ring. */
    if (ck_ring_size(&side->shared->ring) + i + batch + 1 > side->slots)
        return NULL;
    return side->pool + size * ((side->position + i) & (side->slots - 1));
}

static inline uint32_t ck_spsc_publish(struct ck_side *side, uint32_t from, uint32_t to, size_t size,
                                       uint32_t batch)
{
    (void)batch;
    for (uint32_t i = from; i < to; i++) {
        void *entry = size == 8 ? (void *)(uintptr_t)side->scratch[i]
                                : side->pool + size * (side->position & (side->slots - 1));

        if (!ck_ring_enqueue_spsc(&side->shared->ring, side->shared->entry, entry))
            return i - from;
        side->position++;
    }
    return to - from;
}

static inline const uint8_t *ck_spsc_arrived(struct ck_side *side, uint32_t i, size_t size, uint32_t batch)
{
    void *entry;

    (void)batch;
    if (!ck_ring_dequeue_spsc(&side->shared->ring, side->shared->entry, &entry))
        return NULL;
    if (size > 8)
        return entry;
    side->scratch[i] = (uintptr_t)entry;
    return (uint8_t *)&side->scratch[i];
}

static inline void ck_spsc_release(struct ck_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

#define CONTESTANT ck_spsc
#define CONTESTANT_NAME "ck_ring spsc"
#define CONTESTANT_CALLS "ck_ring_enqueue_spsc, ck_ring_dequeue_spsc; above 8 B in place in a pool"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"

/* ----------------------------------------------------------------------------------------- many to many */

#define ck_mpmc_side ck_side
#define ck_mpmc_footprint ck_footprint
#define ck_mpmc_format ck_format
#define ck_mpmc_join ck_join

static inline uint8_t *ck_mpmc_place(struct ck_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    if (size == 8)
        return (uint8_t *)&side->scratch[i];
    if (!ck_ring_dequeue_mpmc(&side->shared->free_ring, side->free_entry, &side->held[i]))
        return NULL;
    return side->held[i];
}

static inline uint32_t ck_mpmc_publish(struct ck_side *side, uint32_t from, uint32_t to, size_t size,
                                       uint32_t batch)
{
    (void)batch;
    for (uint32_t i = from; i < to; i++) {
        void *entry = size == 8 ? (void *)(uintptr_t)side->scratch[i] : side->held[i];

        if (!ck_ring_enqueue_mpmc(&side->shared->ring, side->shared->entry, entry))
            return i - from;
    }
    return to - from;
}

static inline const uint8_t *ck_mpmc_arrived(struct ck_side *side, uint32_t i, size_t size, uint32_t batch)
{
    void *entry;

    (void)batch;
    if (!ck_ring_dequeue_mpmc(&side->shared->ring, side->shared->entry, &entry))
        return NULL;
    if (size > 8)
        return side->held[i] = entry;
    side->scratch[i] = (uintptr_t)entry;
    return (uint8_t *)&side->scratch[i];
}

static inline void ck_mpmc_release(struct ck_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)batch;
    for (uint32_t i = 0; i < n && size > 8; i++)
        while (!ck_ring_enqueue_mpmc(&side->shared->free_ring, side->free_entry, side->held[i]))
            ck_pr_stall();
}

#define CONTESTANT ck_mpmc
#define CONTESTANT_NAME "ck_ring mpmc"
#define CONTESTANT_CALLS \
    "ck_ring_enqueue_mpmc, ck_ring_dequeue_mpmc; above 8 B in place, free slots in a second ring"
#define CONTESTANT_TRAITS TAKES_MPMC
#include "../traffic.h"
