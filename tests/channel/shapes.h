/* SPDX-License-Identifier: BSD-2-Clause */
/* Every kind of channel there is, small. */
#ifndef NORIA_SHAPES_H
#define NORIA_SHAPES_H

#include <noria/noria.h>

static const struct shape {
    const char *name;
    uint32_t kind, full, priorities;
    uint64_t capacity, max_bytes;
    int64_t evict_ns;
    uint32_t checksum;
} shapes[] = {
    {"spsc", NORIA_KIND_SPSC, NORIA_FULL_BLOCK, 1, 8, 0, 0, 0},
    {"mpmc", NORIA_KIND_MPMC, NORIA_FULL_BLOCK, 1, 8, 0, 0, 0},
    {"spsc with checksums", NORIA_KIND_SPSC, NORIA_FULL_BLOCK, 1, 8, 0, 0, 1},
    {"mpmc with checksums", NORIA_KIND_MPMC, NORIA_FULL_BLOCK, 1, 8, 0, 0, 1},
    {"overwrite", NORIA_KIND_MPMC, NORIA_FULL_OVERWRITE_OLDEST, 1, 8, 0, 0, 0},
    {"priorities", NORIA_KIND_MPMC, NORIA_FULL_BLOCK, 4, 8, 0, 0, 0},
    {"latest", NORIA_KIND_MPMC, NORIA_FULL_OVERWRITE_OLDEST, 1, 1, 0, 0, 0},
    {"rendezvous", NORIA_KIND_MPMC, NORIA_FULL_BLOCK, 1, 0, 0, 0, 0},
    {"growing", NORIA_KIND_MPMC, NORIA_FULL_BLOCK, 1, 8, 1 << 20, 0, 0},
    {"broadcast", NORIA_KIND_BROADCAST, NORIA_FULL_BLOCK, 1, 8, 0, 0, 0},
    {"evicting", NORIA_KIND_BROADCAST, NORIA_FULL_BLOCK, 1, 8, 0, 1000000, 0},
    {"lossy", NORIA_KIND_BROADCAST, NORIA_FULL_OVERWRITE_OLDEST, 1, 8, 0, 0, 0},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static inline void take_shape(const struct shape *shape, struct noria_options *options)
{
    noria_options_init(options);
    options->kind = shape->kind;
    options->full = shape->full;
    options->priorities = shape->priorities;
    options->capacity = shape->capacity;
    options->max_bytes = shape->max_bytes;
    options->evict_ns = shape->evict_ns;
    options->checksum = shape->checksum;
    options->max_message = 64;
    options->max_participants = 4;
}

#endif
