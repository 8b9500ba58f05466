/* SPDX-License-Identifier: BSD-2-Clause */
/* noria's broadcast ring with one receiver, by its header alone, in place on both sides: what it costs beside
 * SPSC. */
#include <noria/broadcast.h>

#include "../contestant.h"

enum { OWNERS = 4 };

struct noria_cast_side {
    struct noria_broadcast_sender producer;
    struct noria_broadcast_receiver consumer;
    struct noria_broadcast_record record;
};

/* A record has a header of 8 bytes. The ring never holds more messages than a rival's slots do. */
static uint64_t noria_cast_capacity(const struct cell *cell)
{
    uint64_t capacity = 512, bytes = (uint64_t)cell_slots(cell) * (cell->size + 8);

    while (capacity * 2 <= bytes)
        capacity *= 2;
    return capacity;
}

static size_t noria_cast_footprint(const struct cell *cell)
{
    return noria_broadcast_footprint(noria_cast_capacity(cell), OWNERS);
}

static int noria_cast_format(void *memory, const struct cell *cell)
{
    return noria_broadcast_format(memory, noria_cast_footprint(cell), noria_cast_capacity(cell), OWNERS,
                                  NORIA_BROADCAST_RELIABLE, 0);
}

static int noria_cast_join(struct noria_cast_side *side, const struct seat *seat)
{
    size_t bytes = noria_cast_footprint(seat->cell);

    if (seat->role == ROLE_PRODUCER)
        return noria_broadcast_join_sender(&side->producer, seat->memory, bytes, seat->owner);
    return noria_broadcast_join_receiver(&side->consumer, seat->memory, bytes, seat->owner,
                                         NORIA_BROADCAST_OLDEST, 0);
}

static inline uint8_t *noria_cast_place(struct noria_cast_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    if (i > 0)
        noria_broadcast_stage(&side->producer, &side->record, size);
    return noria_broadcast_reserve(&side->producer, size, &side->record) == 0 ? side->record.data : NULL;
}

/* A short batch ended with a failed reserve: everything is staged already. */
static inline uint32_t noria_cast_publish(struct noria_cast_side *side, uint32_t from, uint32_t to,
                                          size_t size, uint32_t batch)
{
    if (batch == 1)
        return noria_broadcast_commit(&side->producer, &side->record, size) == 0;
    if (to == batch)
        noria_broadcast_stage(&side->producer, &side->record, size);
    noria_broadcast_publish(&side->producer);
    return to - from;
}

static inline const uint8_t *noria_cast_arrived(struct noria_cast_side *side, uint32_t i, size_t size,
                                               uint32_t batch)
{
    (void)i, (void)size, (void)batch;
    return noria_broadcast_peek(&side->consumer, &side->record) == 0 ? side->record.data : NULL;
}

static inline void noria_cast_release(struct noria_cast_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)n, (void)size;
    if (batch == 1)
        noria_broadcast_release(&side->consumer, &side->record);
    else
        noria_broadcast_release_through(&side->consumer, &side->record);
}

static inline void noria_cast_wait(struct noria_cast_side *side, enum role role)
{
    if (role == ROLE_PRODUCER)
        noria_broadcast_wait_sender(&side->producer);
    else
        noria_broadcast_wait_receiver(&side->consumer);
}

#define CONTESTANT noria_cast
#define CONTESTANT_NAME "noria broadcast"
#define CONTESTANT_CALLS "reserve, commit (stage, publish); peek, release (release_through); its own wait"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | IS_YARDSTICK)
#define CONTESTANT_WAIT noria_cast_wait
#include "../traffic.h"
