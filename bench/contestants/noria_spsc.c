/* SPDX-License-Identifier: BSD-2-Clause */
/* noria's SPSC ring by its header alone, in place on both sides; a batch is staged and published once. */
#include <noria/spsc.h>

#include "../contestant.h"

struct noria_one_side {
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;
};

/* A record has a header of 8 bytes. The ring never holds more messages than a rival's slots do. */
static uint64_t noria_one_capacity(const struct cell *cell)
{
    uint64_t capacity = 256, bytes = (uint64_t)cell_slots(cell) * (cell->size + 8);

    while (capacity * 2 <= bytes)
        capacity *= 2;
    return capacity;
}

static size_t noria_one_footprint(const struct cell *cell)
{
    return noria_spsc_footprint(noria_one_capacity(cell));
}

static int noria_one_format(void *memory, const struct cell *cell)
{
    return noria_spsc_format(memory, noria_one_footprint(cell), noria_one_capacity(cell), 0);
}

static int noria_one_join(struct noria_one_side *side, const struct seat *seat)
{
    size_t bytes = noria_one_footprint(seat->cell);

    if (seat->role == ROLE_PRODUCER)
        return noria_spsc_join_producer(&side->producer, seat->memory, bytes, seat->owner);
    return noria_spsc_join_consumer(&side->consumer, seat->memory, bytes, seat->owner);
}

static inline uint8_t *noria_one_place(struct noria_one_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    if (i > 0)
        noria_spsc_stage(&side->producer, &side->record, size);
    return noria_spsc_reserve(&side->producer, size, &side->record) == 0 ? side->record.data : NULL;
}

/* A short batch ended with a failed reserve: everything is staged already. */
static inline uint32_t noria_one_publish(struct noria_one_side *side, uint32_t from, uint32_t to, size_t size,
                                         uint32_t batch)
{
    if (batch == 1)
        return noria_spsc_commit(&side->producer, &side->record, size) == 0;
    if (to == batch)
        noria_spsc_stage(&side->producer, &side->record, size);
    noria_spsc_publish(&side->producer);
    return to - from;
}

static inline const uint8_t *noria_one_arrived(struct noria_one_side *side, uint32_t i, size_t size,
                                               uint32_t batch)
{
    (void)i, (void)size, (void)batch;
    return noria_spsc_peek(&side->consumer, &side->record) == 0 ? side->record.data : NULL;
}

static inline void noria_one_release(struct noria_one_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)n, (void)size;
    if (batch == 1)
        noria_spsc_release(&side->consumer, &side->record);
    else
        noria_spsc_release_through(&side->consumer, &side->record);
}

static inline void noria_one_wait(struct noria_one_side *side, enum role role)
{
    if (role == ROLE_PRODUCER)
        noria_spsc_wait_producer(&side->producer);
    else
        noria_spsc_wait_consumer(&side->consumer);
}

#define CONTESTANT noria_one
#define CONTESTANT_NAME "noria spsc"
#define CONTESTANT_CALLS "reserve, commit (stage, publish); peek, release (release_through); its own wait"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF)
#define CONTESTANT_WAIT noria_one_wait
#include "../traffic.h"
