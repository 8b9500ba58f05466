/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A cell is one question: this traffic, this size, this many participants. All contestants of a cell get the
 * same question in turn. Contestants see only this struct; they decide by it whether they take part and how
 * to lay out.
 */
#ifndef BENCH_CELL_H
#define BENCH_CELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BENCH_SLOTS = 1024,
    BENCH_MAX_BYTES = 4 << 20, /* slots x size: everybody gets the same memory */
    BENCH_BATCH = 32,
    BENCH_MOST_SIDE = 8, /* producers, and consumers, at most */
    BENCH_MOST_LANES = 32, /* of one producer, each with an order of its own */
};

struct cell {
    char name[32];
    bool mpmc;       /* contestants for many producers and consumers, else for one and one */
    bool round_trip; /* ping-pong through two rings instead of a stream through one */
    bool spin;       /* never yield, even with more participants than cores */
    bool quick;      /* part of --quick */
    uint32_t size;   /* bytes of a message */
    uint32_t batch;  /* messages per publication: 1 or BENCH_BATCH */
    uint32_t producers, consumers;
};

/* A constant expression in C++ as well, for rivals whose capacity is a template argument. */
#define BENCH_SLOTS_FOR(size) \
    ((size_t)(size)*BENCH_SLOTS <= BENCH_MAX_BYTES ? (size_t)BENCH_SLOTS \
                                                   : (size_t)BENCH_MAX_BYTES / (size_t)(size))

static inline uint32_t cell_slots(const struct cell *cell)
{
    return (uint32_t)BENCH_SLOTS_FOR(cell->size);
}

/* All cells, in the order of the report. */
const struct cell *cell_table(size_t *count);

#ifdef __cplusplus
}
#endif

#endif
