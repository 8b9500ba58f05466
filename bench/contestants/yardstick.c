/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Not rivals but a yardstick: two minimal hand-written SPSC rings without any safety, in the same harness.
 * They show what the machine gives today, and that the harness is not what holds the others back.
 *
 *     cached indices   Lamport's ring, the opposite index read again only when the ring seems full or empty
 *     flag in slot     8 bytes of sequence in front of each message and no shared index at all
 */
#include "../contestant.h"

struct yard_ring {
    uint64_t write_pos __attribute__((aligned(128)));
    uint64_t read_pos __attribute__((aligned(128)));
    uint8_t data[] __attribute__((aligned(128)));
};

struct yard_side {
    struct yard_ring *ring;
    uint64_t slots, position; /* ours: next to write, next to read */
    uint64_t opposite;        /* as last seen */
};

static size_t yard_footprint(const struct cell *cell)
{
    return sizeof(struct yard_ring) + (size_t)cell_slots(cell) * (cell->size + 8);
}

static int yard_join(struct yard_side *side, const struct seat *seat)
{
    side->ring = seat->memory;
    side->slots = cell_slots(seat->cell);
    return 0;
}

/* ---------------------------------------------------------------------------------------- cached indices */

#define cached_side yard_side
#define cached_footprint yard_footprint
#define cached_join yard_join

static int cached_format(void *memory, const struct cell *cell)
{
    (void)memory, (void)cell;
    return 0;
}

static inline uint8_t *cached_place(struct yard_side *side, uint32_t i, size_t size, uint32_t batch)
{
    uint64_t at = side->position + i;

    (void)batch;
    if (at - side->opposite >= side->slots) {
        side->opposite = __atomic_load_n(&side->ring->read_pos, __ATOMIC_ACQUIRE);
        if (at - side->opposite >= side->slots)
            return NULL;
    }
    return side->ring->data + (at & (side->slots - 1)) * size;
}

static inline uint32_t cached_publish(struct yard_side *side, uint32_t from, uint32_t to, size_t size,
                                      uint32_t batch)
{
    (void)size, (void)batch;
    side->position += to - from;
    __atomic_store_n(&side->ring->write_pos, side->position, __ATOMIC_RELEASE);
    return to - from;
}

static inline const uint8_t *cached_arrived(struct yard_side *side, uint32_t i, size_t size, uint32_t batch)
{
    uint64_t at = side->position + i;

    (void)batch;
    if (at == side->opposite) {
        side->opposite = __atomic_load_n(&side->ring->write_pos, __ATOMIC_ACQUIRE);
        if (at == side->opposite)
            return NULL;
    }
    return side->ring->data + (at & (side->slots - 1)) * size;
}

static inline void cached_release(struct yard_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)size, (void)batch;
    side->position += n;
    __atomic_store_n(&side->ring->read_pos, side->position, __ATOMIC_RELEASE);
}

#define CONTESTANT cached
#define CONTESTANT_NAME "yardstick cached indices"
#define CONTESTANT_CALLS "hand-written, no safety"
#define CONTESTANT_TRAITS (TAKES_SPSC | IS_YARDSTICK)
#include "../traffic.h"

/* ------------------------------------------------------------------------------------------ flag in slot */

#define flag_side yard_side
#define flag_footprint yard_footprint
#define flag_join yard_join

/* The flag of a slot: position p may be written when it is p, read when it is p + 1, written again at p +
 * slots. */
static uint64_t *flag_of(struct yard_side *side, uint64_t at, size_t size)
{
    return (uint64_t *)(void *)(side->ring->data + (at & (side->slots - 1)) * (size + 8));
}

static int flag_format(void *memory, const struct cell *cell)
{
    struct yard_side side = {.ring = memory, .slots = cell_slots(cell)};

    for (uint64_t at = 0; at < side.slots; at++)
        *flag_of(&side, at, cell->size) = at;
    return 0;
}

static inline uint8_t *flag_place(struct yard_side *side, uint32_t i, size_t size, uint32_t batch)
{
    uint64_t *flag = flag_of(side, side->position + i, size);

    (void)batch;
    return __atomic_load_n(flag, __ATOMIC_ACQUIRE) == side->position + i ? (uint8_t *)(flag + 1) : NULL;
}

static inline uint32_t flag_publish(struct yard_side *side, uint32_t from, uint32_t to, size_t size,
                                    uint32_t batch)
{
    (void)batch;
    for (uint32_t i = from; i < to; i++, side->position++)
        __atomic_store_n(flag_of(side, side->position, size), side->position + 1, __ATOMIC_RELEASE);
    return to - from;
}

static inline const uint8_t *flag_arrived(struct yard_side *side, uint32_t i, size_t size, uint32_t batch)
{
    uint64_t *flag = flag_of(side, side->position + i, size);

    (void)batch;
    return __atomic_load_n(flag, __ATOMIC_ACQUIRE) == side->position + i + 1 ? (uint8_t *)(flag + 1) : NULL;
}

static inline void flag_release(struct yard_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)batch;
    for (uint32_t i = 0; i < n; i++, side->position++)
        __atomic_store_n(flag_of(side, side->position, size), side->position + side->slots, __ATOMIC_RELEASE);
}

#define CONTESTANT flag
#define CONTESTANT_NAME "yardstick flag in slot"
#define CONTESTANT_CALLS "hand-written, no safety"
#define CONTESTANT_TRAITS (TAKES_SPSC | IS_YARDSTICK)
#include "../traffic.h"
