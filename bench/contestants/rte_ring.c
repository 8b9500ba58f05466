/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DPDK's rte_ring, on our own memory by rte_ring_init, without EAL. Copying with elements of the message's
 * size, zero copy (single producer and consumer only), the default MP/MC mode and the head-tail-sync mode.
 * With many producers, messages above 8 B lie in a pool and two rings carry their addresses, as with DPDK's
 * mempools.
 */
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>

#include "../contestant.h"

struct rte_side {
    struct rte_ring *ring, *free_ring;
    uint8_t *scratch;
    uint64_t held[BENCH_BATCH];
    struct rte_ring_zc_data span;
    uint32_t ready; /* messages of this batch: room found or copied out */
};

static size_t rte_ring_bytes(uint32_t element, uint32_t count)
{
    return (size_t)rte_ring_get_memsize_elem(element, count);
}

static int rte_join(struct rte_side *side, const struct seat *seat)
{
    side->ring = seat->memory;
    side->scratch = seat->scratch;
    return 0;
}

static size_t rte_spsc_footprint(const struct cell *cell)
{
    return rte_ring_bytes(cell->size, cell_slots(cell));
}

static int rte_spsc_format(void *memory, const struct cell *cell)
{
    return rte_ring_init(memory, "bench", cell_slots(cell), RING_F_SP_ENQ | RING_F_SC_DEQ);
}

/* --------------------------------------------------------------------------------- one to one, copying */

#define rte_spsc_side rte_side
#define rte_spsc_join rte_join

static inline uint8_t *rte_spsc_place(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return side->scratch + i * size;
}

static inline uint32_t rte_spsc_publish(struct rte_side *side, uint32_t from, uint32_t to, size_t size,
                                        uint32_t batch)
{
    (void)batch;
    return rte_ring_sp_enqueue_burst_elem(side->ring, side->scratch + from * size, (unsigned)size, to - from,
                                          NULL);
}

static inline const uint8_t *rte_spsc_arrived(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (i == 0)
        side->ready = rte_ring_sc_dequeue_burst_elem(side->ring, side->scratch, (unsigned)size, batch, NULL);
    return i < side->ready ? side->scratch + i * size : NULL;
}

static inline void rte_spsc_release(struct rte_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

#define CONTESTANT rte_spsc
#define CONTESTANT_NAME "rte_ring sp/sc"
#define CONTESTANT_CALLS "rte_ring_sp_enqueue_burst_elem, rte_ring_sc_dequeue_burst_elem"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"

/* -------------------------------------------------------------------------------- one to one, zero copy */

#define rte_zc_side rte_side
#define rte_zc_footprint rte_spsc_footprint
#define rte_zc_format rte_spsc_format
#define rte_zc_join rte_join

static inline uint8_t *rte_zc_slot(struct rte_side *side, uint32_t i, size_t size)
{
    if (i >= side->ready)
        return NULL;
    if (i < side->span.n1)
        return (uint8_t *)side->span.ptr1 + i * size;
    return (uint8_t *)side->span.ptr2 + (i - side->span.n1) * size;
}

static inline uint8_t *rte_zc_place(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (i == 0)
        side->ready =
            rte_ring_enqueue_zc_burst_elem_start(side->ring, (unsigned)size, batch, &side->span, NULL);
    return rte_zc_slot(side, i, size);
}

static inline uint32_t rte_zc_publish(struct rte_side *side, uint32_t from, uint32_t to, size_t size,
                                      uint32_t batch)
{
    (void)size, (void)batch;
    rte_ring_enqueue_zc_elem_finish(side->ring, to - from);
    return to - from;
}

static inline const uint8_t *rte_zc_arrived(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (i == 0)
        side->ready =
            rte_ring_dequeue_zc_burst_elem_start(side->ring, (unsigned)size, batch, &side->span, NULL);
    return rte_zc_slot(side, i, size);
}

static inline void rte_zc_release(struct rte_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)size, (void)batch;
    rte_ring_dequeue_zc_elem_finish(side->ring, n);
}

#define CONTESTANT rte_zc
#define CONTESTANT_NAME "rte_ring zero-copy"
#define CONTESTANT_CALLS "rte_ring_enqueue_zc_burst_elem_start and _finish, the same for dequeue"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"

/* --------------------------------------------------------------------- many to many: ring of 8-byte words */

static size_t rte_words_bytes(const struct cell *cell)
{
    return rte_ring_bytes(8, cell_slots(cell));
}

/* Ring, ring of free slots, slots. */
static size_t rte_mpmc_footprint(const struct cell *cell)
{
    return 2 * rte_words_bytes(cell) + (size_t)cell_slots(cell) * cell->size;
}

static int rte_words_format(void *memory, const struct cell *cell, unsigned flags)
{
    size_t bytes = rte_words_bytes(cell);
    struct rte_ring *free_ring = (struct rte_ring *)((uint8_t *)memory + bytes);
    uint8_t *pool = (uint8_t *)memory + 2 * bytes;
    int error = rte_ring_init(memory, "bench", cell_slots(cell), flags);

    if (error == 0)
        error = rte_ring_init(free_ring, "free", cell_slots(cell), flags);
    for (uint32_t i = 0; error == 0 && i < cell_slots(cell) - 1; i++)
        error = rte_ring_enqueue(free_ring, pool + (size_t)i * cell->size);
    return error;
}

static int rte_words_join(struct rte_side *side, const struct seat *seat)
{
    side->free_ring = (struct rte_ring *)((uint8_t *)seat->memory + rte_words_bytes(seat->cell));
    return rte_join(side, seat);
}

/* Bursts take what there is, which is how DPDK's own users batch; the ring's mode decides what is called
 * below. */
static inline uint8_t *rte_words_place(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (size == 8)
        return (uint8_t *)&side->held[i];
    if (i == 0)
        side->ready = rte_ring_dequeue_burst_elem(side->free_ring, side->held, 8, batch, NULL);
    return i < side->ready ? (uint8_t *)(uintptr_t)side->held[i] : NULL;
}

static inline uint32_t rte_words_publish(struct rte_side *side, uint32_t from, uint32_t to, size_t size,
                                         uint32_t batch)
{
    (void)size, (void)batch;
    return rte_ring_enqueue_burst_elem(side->ring, &side->held[from], 8, to - from, NULL);
}

static inline const uint8_t *rte_words_arrived(struct rte_side *side, uint32_t i, size_t size, uint32_t batch)
{
    if (i == 0)
        side->ready = rte_ring_dequeue_burst_elem(side->ring, side->held, 8, batch, NULL);
    if (i >= side->ready)
        return NULL;
    return size == 8 ? (uint8_t *)&side->held[i] : (uint8_t *)(uintptr_t)side->held[i];
}

static inline void rte_words_release(struct rte_side *side, uint32_t n, size_t size, uint32_t batch)
{
    uint32_t done = 0;

    (void)batch;
    while (size > 8 && done < n)
        done += rte_ring_enqueue_burst_elem(side->free_ring, &side->held[done], 8, n - done, NULL);
}

#define rte_mpmc_side rte_side
#define rte_mpmc_join rte_words_join
#define rte_mpmc_place rte_words_place
#define rte_mpmc_publish rte_words_publish
#define rte_mpmc_arrived rte_words_arrived
#define rte_mpmc_release rte_words_release

static int rte_mpmc_format(void *memory, const struct cell *cell)
{
    return rte_words_format(memory, cell, 0);
}

#define CONTESTANT rte_mpmc
#define CONTESTANT_NAME "rte_ring default"
#define CONTESTANT_CALLS \
    "MP/MC: rte_ring_enqueue_burst_elem, rte_ring_dequeue_burst_elem; above 8 B in place in a pool"
#define CONTESTANT_TRAITS TAKES_MPMC
#include "../traffic.h"

#define rte_hts_side rte_side
#define rte_hts_footprint rte_mpmc_footprint
#define rte_hts_join rte_words_join
#define rte_hts_place rte_words_place
#define rte_hts_publish rte_words_publish
#define rte_hts_arrived rte_words_arrived
#define rte_hts_release rte_words_release

static int rte_hts_format(void *memory, const struct cell *cell)
{
    return rte_words_format(memory, cell, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ);
}

#define CONTESTANT rte_hts
#define CONTESTANT_NAME "rte_ring hts"
#define CONTESTANT_CALLS "head-tail-sync mode, the same calls"
#define CONTESTANT_TRAITS TAKES_MPMC
#include "../traffic.h"
