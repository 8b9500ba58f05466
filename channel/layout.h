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
    uint32_t max_message; /* of a record: with checksums NORIA_SEAL more than of a message */
    uint32_t max_held;
    uint32_t max_participants;
    uint64_t capacity;
    uint64_t first_position;
    uint64_t table_offset; /* from the start of the content, like ring_offset */
    uint64_t ring_offset;
    uint64_t ring_size;
    uint64_t bell_offset; /* what the waiting strategy keeps in the segment */
    uint64_t bell_size;
    uint64_t poll_offset; /* what noria_fd keeps there */
    uint64_t poll_size;
    uint64_t max_bytes;
    int64_t evict_ns;
    uint32_t priorities;
    uint32_t checksum; /* 1: records have a seal (seal.h) */
    uint64_t reserved1[14];
};
NORIA_STATIC_ASSERT(sizeof(struct noria_geometry) == 256, "geometry is four lines");
NORIA_STATIC_ASSERT(offsetof(struct noria_geometry, capacity) == 48, "the same for 32 and 64 bits");

/* Where one side waits: sync/event.h. All but `count` is looked at only by who has to wake somebody. */
struct noria_waiting_room {
    uint32_t count;    /* the event word */
    uint32_t polled;   /* some handle has given out a descriptor: enum noria_poll_bell. Never goes back to 0 */
    uint32_t signals;  /* some receiver once asked for a signal. Never goes back to 0 */
    uint32_t reserved0;
    uint32_t strategy[4]; /* words for the waiting strategy */
    uint32_t poll[4];     /* words for the bell of noria_fd */
    uint32_t reserved1[20];
};
NORIA_STATIC_ASSERT(sizeof(struct noria_waiting_room) == 128, "a line pair for each side");

/* Bytes that a checksum takes in front of a message. */
enum { NORIA_SEAL = 8 };

enum noria_poll_bell { NORIA_POLL_NONE = 0, NORIA_POLL_FIFO = 1, NORIA_POLL_EVENTFD = 2 };

struct noria_header {
    struct noria_geometry geometry;
    struct noria_waiting_room rooms[2]; /* 0: senders wait for room, 1: receivers for messages (enum noria_side) */
    uint64_t roster;           /* changes when somebody joined, left or was cleaned up */
    uint64_t senders_joined;   /* ever */
    uint64_t receivers_joined; /* ever */
    uint64_t deaths;
    uint64_t redelivered;
    uint64_t lost;
    uint64_t lost_told; /* of `lost`, how many a receiver has been told of */
    uint64_t missed; /* BROADCAST: by receivers that were overtaken or evicted, each counted for itself */
    uint64_t losses; /* changes when a message was lost, or may have been: somebody has to be told */
    uint64_t torn; /* of `lost`: records whose checksum did not hold */
    uint64_t reserved3[6];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_header, rooms) == 256, "event words have a line pair each");
NORIA_STATIC_ASSERT(offsetof(struct noria_header, roster) == 512, "counters come last");
NORIA_STATIC_ASSERT(offsetof(struct noria_header, losses) == 576, "a line that only losses change");
NORIA_STATIC_ASSERT(sizeof(struct noria_header) == 640, "the table follows");

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
    uint32_t signal; /* the owner wants this signal when a message comes, see notify.c; 0: none */
    uint64_t signal_value;
    uint64_t image; /* which of its programs the process was, see liveness.h; 0 unknown */
    uint32_t program; /* the same as far as others can tell it; 0 unknown */
    uint32_t reserved0;
    uint64_t sent; /* these four: the owner alone writes; counts go on over incarnations, so nothing is lost */
    uint64_t received;
    uint64_t sent_before; /* at join */
    uint64_t received_before;
    uint64_t dropping; /* sequence of the message that the owner drops to make room, see overwrite_kind.c */
    uint64_t dropped;  /* how many it has dropped << 1 | it is just dropping one; goes on over incarnations */
    uint64_t lock_left; /* incarnation whose lock exec has kept, | 1 when it was given back, see participants.c */
    uint64_t reserved1;
};
NORIA_STATIC_ASSERT(offsetof(struct noria_entry, sent) == 64, "counters have a line of their own");
NORIA_STATIC_ASSERT(sizeof(struct noria_entry) == 128, "an entry is a line pair");

/* In front of the rings of a channel with priorities, see priority_kind.c. */
struct noria_priority {
    uint64_t hints; /* level by level, a bit: look here; above, what is just being taken back */
    uint64_t reserved0[15];
};
NORIA_STATIC_ASSERT(sizeof(struct noria_priority) == 128, "a line pair; the rings follow");

enum { NORIA_ENTRY_FREE = 0, NORIA_ENTRY_LIVE = 1 };
#define NORIA_ENTRY_STATE(word) ((unsigned)((word) & 3))
#define NORIA_ENTRY_FLAGS(word) ((unsigned)((word) >> 2 & 3))
#define NORIA_ENTRY_INCARNATION UINT64_C(16)
/* Which life of a participant an entry's word names. */
#define NORIA_ENTRY_LIFE(word) ((word) / NORIA_ENTRY_INCARNATION)

#endif
