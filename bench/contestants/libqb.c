/* SPDX-License-Identifier: BSD-2-Clause */
/* libqb's ring buffer between processes, without its semaphore: chunk_alloc, commit, peek and reclaim, in
 * place. */
#include <qb/qbrb.h>

#include <stdio.h>
#include <unistd.h>

#include "../contestant.h"

struct qb_side {
    qb_ringbuffer_t *ring;
    uint8_t *scratch;
};

static size_t qb_bytes(const struct cell *cell)
{
    return (size_t)cell_slots(cell) * (cell->size + 8);
}

static size_t qb_footprint(const struct cell *cell)
{
    (void)cell;
    return sizeof(qb_ringbuffer_t *); /* the ring maps its own files; participants inherit the mapping */
}

static int qb_format(void *memory, const struct cell *cell)
{
    static int made;
    static const char *const parts[] = {"header", "data"};
    char name[64], path[128];
    qb_ringbuffer_t *ring;

    snprintf(name, sizeof name, "noria-bench-%d-%d", (int)getpid(), made++);
    ring = qb_rb_open(name, qb_bytes(cell),
                      QB_RB_FLAG_CREATE | QB_RB_FLAG_SHARED_PROCESS | QB_RB_FLAG_NO_SEMAPHORE, 0);
    if (ring == NULL)
        return -errno;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/dev/shm/qb-%s-%s", name, parts[i]);
        unlink(path); /* nothing is left behind if the run is killed */
    }
    *(qb_ringbuffer_t **)memory = ring;
    return 0;
}

static int qb_join(struct qb_side *side, const struct seat *seat)
{
    side->ring = *(qb_ringbuffer_t **)seat->memory;
    side->scratch = seat->scratch;
    return 0;
}

static inline uint8_t *qb_place(struct qb_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    if (i > 0)
        qb_rb_chunk_commit(side->ring, size);
    return qb_rb_chunk_alloc(side->ring, size);
}

/* A short batch ended with a failed alloc: its last message is committed already. */
static inline uint32_t qb_publish(struct qb_side *side, uint32_t from, uint32_t to, size_t size,
                                  uint32_t batch)
{
    if (to == batch)
        qb_rb_chunk_commit(side->ring, size);
    return to - from;
}

static inline const uint8_t *qb_arrived(struct qb_side *side, uint32_t i, size_t size, uint32_t batch)
{
    void *chunk;

    (void)batch;
    if (i > 0)
        qb_rb_chunk_reclaim(side->ring);
    return qb_rb_chunk_peek(side->ring, &chunk, 0) == (ssize_t)size ? chunk : NULL;
}

static inline void qb_release(struct qb_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)size;
    if (n == batch)
        qb_rb_chunk_reclaim(side->ring);
}

#define CONTESTANT qb
#define CONTESTANT_NAME "libqb"
#define CONTESTANT_CALLS "qb_rb_chunk_alloc, commit; peek, reclaim; no semaphore"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"
