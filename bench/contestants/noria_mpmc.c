/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria's MPMC ring by its header alone. One by one in place on both sides; batches either record by record,
 * or with `pack`, several records to a slot.
 */
#include <noria/mpmc.h>

#include <stdlib.h>

#include "../contestant.h"

struct noria_many_side {
    struct noria_mpmc_handle handle;
    struct noria_mpmc_record sending;
    struct noria_mpmc_record held[BENCH_BATCH];
    struct iovec part[BENCH_BATCH];
};

static struct noria_mpmc_config noria_many_config(const struct cell *cell, uint32_t pack)
{
    struct noria_mpmc_config config = {.capacity = cell_slots(cell) / pack, .slots = cell_slots(cell) / pack};

    config.max_message = cell->size;
    config.pack = pack;
    config.owners = cell->producers + cell->consumers;
    config.max_held = cell->batch;
    return config;
}

static void noria_many_join_as(struct noria_many_side *side, const struct seat *seat, uint32_t pack)
{
    struct noria_mpmc_config config = noria_many_config(seat->cell, pack);

    if (noria_mpmc_join(&side->handle, seat->memory, noria_mpmc_footprint(&config), seat->owner) != 0)
        abort();
    for (uint32_t i = 0; i < seat->cell->batch; i++)
        side->part[i] =
            (struct iovec){(uint8_t *)seat->scratch + (size_t)i * seat->cell->size, seat->cell->size};
}

static inline void noria_many_wait(struct noria_many_side *side, enum role role)
{
    noria_mpmc_wait(&side->handle, role == ROLE_PRODUCER ? NORIA_MPMC_SENDER : NORIA_MPMC_RECEIVER);
}

static inline const uint8_t *noria_many_arrived(struct noria_many_side *side, uint32_t i, size_t size,
                                                uint32_t batch)
{
    int result = noria_mpmc_peek(&side->handle, &side->held[i]);

    (void)size, (void)batch;
    if (result != 0 && result != -EAGAIN)
        abort();
    return result == 0 ? side->held[i].data : NULL;
}

static inline void noria_many_release(struct noria_many_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)size, (void)batch;
    for (uint32_t i = 0; i < n; i++)
        if (noria_mpmc_release(&side->handle, &side->held[i]) != 0)
            abort();
}

/* ----------------------------------------------------------------------------------------- a slot per record
 */

static size_t noria_many_footprint(const struct cell *cell)
{
    struct noria_mpmc_config config = noria_many_config(cell, 1);

    return noria_mpmc_footprint(&config);
}

static int noria_many_format(void *memory, const struct cell *cell)
{
    struct noria_mpmc_config config = noria_many_config(cell, 1);

    return noria_mpmc_format(memory, noria_mpmc_footprint(&config), &config);
}

static int noria_many_join(struct noria_many_side *side, const struct seat *seat)
{
    noria_many_join_as(side, seat, 1);
    return 0;
}

static inline void noria_many_commit(struct noria_many_side *side, size_t size)
{
    int result;

    while ((result = noria_mpmc_commit(&side->handle, &side->sending, size)) == -EAGAIN)
        noria_mpmc_wait(&side->handle, NORIA_MPMC_SENDER);
    if (result != 0)
        abort();
}

/* One reservation at a time, so that the order of one producer is kept: the next one commits the last. */
static inline uint8_t *noria_many_place(struct noria_many_side *side, uint32_t i, size_t size, uint32_t batch)
{
    int result;

    (void)batch;
    if (i > 0)
        noria_many_commit(side, size);
    result = noria_mpmc_reserve(&side->handle, &side->sending);
    if (result != 0 && result != -EAGAIN)
        abort();
    return result == 0 ? side->sending.data : NULL;
}

/* A short batch ended with a failed reserve: its last record is committed already. */
static inline uint32_t noria_many_publish(struct noria_many_side *side, uint32_t from, uint32_t to,
                                          size_t size, uint32_t batch)
{
    if (to == batch)
        noria_many_commit(side, size);
    return to - from;
}

#define CONTESTANT noria_many
#define CONTESTANT_NAME "noria mpmc"
#define CONTESTANT_CALLS "strict order: reserve, commit; peek, release; its own wait"
#define CONTESTANT_TRAITS (TAKES_MPMC | WAITS_ITSELF)
#define CONTESTANT_WAIT noria_many_wait
#include "../traffic.h"

/* -------------------------------------------------------------------------------------- many records per
 * slot */

/* At least 8 slots, and the same bytes as everybody. */
static uint32_t noria_packed_pack(const struct cell *cell)
{
    return cell_slots(cell) / 8 < BENCH_BATCH ? cell_slots(cell) / 8 : BENCH_BATCH;
}

static size_t noria_packed_footprint(const struct cell *cell)
{
    struct noria_mpmc_config config = noria_many_config(cell, noria_packed_pack(cell));

    return cell->batch > 1 ? noria_mpmc_footprint(&config) : 0;
}

static int noria_packed_format(void *memory, const struct cell *cell)
{
    struct noria_mpmc_config config = noria_many_config(cell, noria_packed_pack(cell));

    return noria_mpmc_format(memory, noria_mpmc_footprint(&config), &config);
}

static int noria_packed_join(struct noria_many_side *side, const struct seat *seat)
{
    noria_many_join_as(side, seat, noria_packed_pack(seat->cell));
    return 0;
}

static inline uint8_t *noria_packed_place(struct noria_many_side *side, uint32_t i, size_t size,
                                          uint32_t batch)
{
    (void)size, (void)batch;
    return side->part[i].iov_base;
}

static inline uint32_t noria_packed_publish(struct noria_many_side *side, uint32_t from, uint32_t to,
                                            size_t size, uint32_t batch)
{
    int sent = noria_mpmc_send_many(&side->handle, &side->part[from], (int)(to - from));

    (void)size, (void)batch;
    if (sent < 0 && sent != -EAGAIN)
        abort();
    return sent > 0 ? (uint32_t)sent : 0;
}

#define noria_packed_side noria_many_side
#define noria_packed_arrived noria_many_arrived
#define noria_packed_release noria_many_release

#define CONTESTANT noria_packed
#define CONTESTANT_NAME "noria mpmc packed"
#define CONTESTANT_CALLS "pack = 32: send_many; peek, release; batches only"
#define CONTESTANT_TRAITS (TAKES_MPMC | WAITS_ITSELF)
#define CONTESTANT_WAIT noria_many_wait
#include "../traffic.h"
