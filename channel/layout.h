/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a channel puts into a segment, behind the superblock: geometry, event words, counters, the table of
 * participants, the ring. Every byte is in docs/LAYOUT.md; a change here is a new NORIA_SEGMENT_VERSION.
 */
#ifndef NORIA_LAYOUT_H
#define NORIA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "atomic.h"

/* Written by the creator, constant from then on; each handle works with a checked private copy. */
struct noria_geometry {
    uint32_t kind;
    uint32_t order;
    uint32_t pack;
    uint32_t full;
    uint32_t wait;
    uint32_t orphans;
    uint32_t lifetime;
    uint32_t mode;
    uint32_t trust;
    uint32_t max_message;
    uint32_t max_held;
    uint32_t max_participants;
    uint64_t capacity;
    uint64_t first_position;
    uint64_t table_offset; /* from the start of the content, like ring_offset */
    uint64_t ring_offset;
    uint64_t ring_size;
    uint64_t reserved[5];
};
NORIA_STATIC_ASSERT(sizeof(struct noria_geometry) == 128, "geometry is two lines");
NORIA_STATIC_ASSERT(offsetof(struct noria_geometry, capacity) == 48, "the same for 32 and 64 bits");

struct noria_header {
    struct noria_geometry geometry;
    uint32_t not_empty; /* event words: receivers sleep on this one */
    uint32_t reserved0[31];
    uint32_t not_full; /* and senders on this one */
    uint32_t reserved1[31];
    uint64_t roster;           /* changes when somebody joined, left or was cleaned up */
    uint64_t senders_joined;   /* ever */
    uint64_t receivers_joined; /* ever */
    uint64_t deaths;
    uint64_t redelivered;
    uint64_t lost;
    uint64_t lost_told; /* of `lost`, how many a receiver has been told of */
    uint64_t reserved2[9];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_header, not_empty) == 128, "event words have a line pair each");
NORIA_STATIC_ASSERT(offsetof(struct noria_header, not_full) == 256, "event words have a line pair each");
NORIA_STATIC_ASSERT(offsetof(struct noria_header, roster) == 384, "counters come last");
NORIA_STATIC_ASSERT(sizeof(struct noria_header) == 512, "the table follows");

/*
 * A participant. Its number is its index + 1; the lock byte of that index, held on the handle's own open file
 * description, is the claim. Identity is written under the lock, then the word goes LIVE.
 *
 *     word = incarnation (60 bits) | flags: NORIA_SEND, NORIA_RECV (2) | state (2): FREE, LIVE
 */
struct noria_entry {
    uint64_t word;
    uint64_t start_time;
    uint64_t pid_namespace;
    int64_t joined_ns; /* CLOCK_REALTIME */
    int32_t pid;
    uint32_t reserved0[7];
    uint64_t sent; /* these four: the owner alone writes; counts go on over incarnations, so nothing is lost */
    uint64_t received;
    uint64_t sent_before; /* at join */
    uint64_t received_before;
    uint64_t reserved1[4];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_entry, sent) == 64, "counters have a line of their own");
NORIA_STATIC_ASSERT(sizeof(struct noria_entry) == 128, "an entry is a line pair");

enum { NORIA_ENTRY_FREE = 0, NORIA_ENTRY_LIVE = 1 };
#define NORIA_ENTRY_STATE(word) ((unsigned)((word) & 3))
#define NORIA_ENTRY_FLAGS(word) ((unsigned)((word) >> 2 & 3))
#define NORIA_ENTRY_INCARNATION UINT64_C(16)

#endif
