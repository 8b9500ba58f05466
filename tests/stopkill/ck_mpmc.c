/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the test can fail. ck_ring's MPMC form (Concurrency Kit) claims a position first and publishes in
 * order, so a producer stopped or killed in between makes every later producer spin for ever. */
#include <ck_ring.h>

#include "value_ring.h"

struct shared {
    ck_ring_t ring;
    _Alignas(64) ck_ring_buffer_t buffer[8];
};

static int value_format(void *memory)
{
    struct shared *shared = (struct shared *)memory;

    memset(shared, 0, sizeof(*shared));
    ck_ring_init(&shared->ring, sizeof(shared->buffer) / sizeof(shared->buffer[0]));
    return sizeof(*shared);
}

static inline bool value_enqueue(void *memory, uint64_t value)
{
    struct shared *shared = (struct shared *)memory;

    return ck_ring_enqueue_mpmc(&shared->ring, shared->buffer, (void *)(uintptr_t)value);
}

static inline bool value_dequeue(void *memory, uint64_t *value)
{
    struct shared *shared = (struct shared *)memory;

    return ck_ring_dequeue_mpmc(&shared->ring, shared->buffer, value);
}

const struct contestant contestant = VALUE_RING("ck_ring mpmc");
