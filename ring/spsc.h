/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria SPSC ring: one producer, one consumer, records of any size, contiguous, zero copy.
 *
 * Choose it when exactly one handle sends and one receives: no read-modify-write at all, and header and payload of a
 * small record travel in one cache line. The shape is the in-band commit of Aeron's and BPF's rings (the header word
 * is the flag), with the consumer's position read lazily as in Lamport queues with cached indices (B-Queue,
 * FastForward, rigtorp). Works on any memory its caller owns: no system calls, no allocation, no library.
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0      magic, capacity, first position          written by format, then never again
 *     line 1      role words: who produces, who consumes   written at join, leave and settle only
 *     line 2      read_pos                                 written by the consumer
 *     line 4 ..   data: `capacity` bytes                   written by the producer
 *
 *     record = header word (8 bytes) | payload, padded to 8 bytes
 *     header = 0: nothing here yet | COMMITTED, length | COMMITTED + PAD, bytes to skip up to the end of the data
 *
 * Positions count bytes, 64 bits wide, and never go back; position & (capacity - 1) is the offset.
 *
 * Invariants
 *   I1  read_pos <= write position <= read_pos + capacity - 8.
 *   I2  Every position from read_pos up to the write position starts a committed record or lies inside one.
 *   I3  The header at the write position is 0: it was zeroed before the record in front of it was published.
 *       (Bytes of an older lap could otherwise pass for a header.)
 *   I4  Only the producer writes data, only the consumer writes read_pos; except that the consumer stores the header of
 *       a record it holds once more, unchanged (see noria_spsc_own_line).
 *
 * Orders
 *
 *     producer                                    consumer
 *     load read_pos              (D)              load header                 (B)
 *     write payload                               read payload
 *     zero the next header                        store read_pos              (C)
 *     store own header           (A)
 *
 *   A pairs with B: who sees the header sees the payload behind it and the zero after it.
 *   C pairs with D: who sees the position knows that the bytes before it have been read and may be overwritten.
 *   E pairs with F: the role words. Who takes a role sees everything its last holder did in it.
 *   Release and acquire suffice: each side looks at one word the other writes, there is no "store mine, look at yours".
 *
 * Progress and crash: every call is wait-free. A stopped producer leaves whatever it has published; a stopped consumer
 * leaves a ring that fills up. A dead producer's record is there if A was stored and is not if A was not; its successor
 * walks from read_pos to the zero header (I3) and goes on. A dead consumer's successor starts at read_pos, so records
 * it had read and not released are read again (`taken_over` of the handle says so).
 *
 * May run together: one call of the producer, one call of the consumer, any number of find, settle, count. Two calls
 * in the same role may not (the channel API checks this; here it is the caller's duty). Nothing blocks. No call may be
 * made from a signal handler that interrupted a call in the same role.
 *
 * Nothing read from the memory is trusted: capacity is a private copy, lengths and positions are bounded against it,
 * every word is read once, and a value that cannot be ends in -EBADMSG.
 *
 * Results: 0 done; -EAGAIN full or empty; -EMSGSIZE, -EINVAL, -EBUSY, -EBADMSG. Sizes are bytes.
 */
#ifndef NORIA_SPSC_H
#define NORIA_SPSC_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <noria/atomic.h>

#define NORIA_SPSC_MAGIC UINT64_C(0x3153505361697230) /* "0riaSPS1" */
#define NORIA_SPSC_COMMITTED (UINT64_C(1) << 32)
#define NORIA_SPSC_PAD (UINT64_C(1) << 33)
#define NORIA_SPSC_HEADER 8u
#define NORIA_SPSC_MIN_CAPACITY 256u
#define NORIA_SPSC_MAX_CAPACITY (UINT64_C(1) << 40)
#define NORIA_SPSC_AHEAD 256u /* bytes */
#define NORIA_SPSC_BACKOFF 64 /* pauses at most after a failed try */
#define NORIA_SPSC_TRIES 64   /* swaps for a role that others take and leave meanwhile */

enum { NORIA_SPSC_PRODUCER = 0, NORIA_SPSC_CONSUMER = 1 };

/* A role word never recurs: epoch (47 bits, one more at each change) | unclean (1) | owner (16, 0 = nobody). */
#define NORIA_SPSC_OWNER(word) ((uint32_t)((word) & 0xffff))
#define NORIA_SPSC_UNCLEAN (UINT64_C(1) << 16)
#define NORIA_SPSC_EPOCH (UINT64_C(1) << 17)

struct noria_spsc {
    uint64_t magic; /* written last by format */
    uint64_t capacity;
    uint64_t first_position;
    uint64_t reserved0[5];
    uint64_t role[2];
    uint64_t reserved1[6];
    uint64_t read_pos;
    uint64_t reserved2[15];
    /* data follows */
};
NORIA_STATIC_ASSERT(offsetof(struct noria_spsc, role) == 64, "role words stand in line 1");
NORIA_STATIC_ASSERT(offsetof(struct noria_spsc, read_pos) == 128, "read_pos stands in line 2");
NORIA_STATIC_ASSERT(sizeof(struct noria_spsc) == 256, "data starts at line 4");

/* Private to the process. One per role, so that a producer cannot be passed where a consumer is meant. */
struct noria_spsc_producer {
    struct noria_spsc *ring;
    uint8_t *data;
    uint64_t capacity;
    uint64_t mask;
    uint64_t write_pos;    /* next header to write; staged records lie before it */
    uint64_t quiet;        /* up to here a record needs nothing but itself: there is room, the lap goes on, and it is
                            * not longer than one may be. Never before write_pos. */
    uint64_t first_staged; /* where the header stands that is withheld until publish */
    uint64_t first_header; /* its value; 0: nothing is staged */
    uint64_t read_limit;   /* read_pos as last seen, plus capacity: write below this */
    uint64_t wanted;       /* bytes, of the last reserve that found no room */
    uint64_t role_word;
    bool taken_over; /* the last producer died in its role */
    struct noria_backoff backoff;
};

struct noria_spsc_consumer {
    struct noria_spsc *ring;
    const uint8_t *data;
    uint64_t capacity;
    uint64_t mask;
    uint64_t peek_pos;    /* next record to peek. Apart from read_pos: stored as a pair, the next peek waits for them */
    uint64_t last_header; /* of the last record peeked, and its size: see peek */
    uint64_t last_size;
    uint64_t read_pos;    /* first record not released; the shared word, which only we write, says the same */
    uint64_t quiet;       /* up to here another record like the last one is within the ring. Never before peek_pos. */
    uint64_t role_word;
    bool taken_over; /* records at read_pos may have been seen: the last consumer died, or left with some unreleased.
                      * The caller clears it when it has released as many as could have been held. */
    struct noria_backoff backoff;
};

/* A reservation or a peeked record. `data` is 8-byte aligned and valid until commit, abort or release. */
struct noria_spsc_record {
    void *data;
    size_t len;        /* reserve: bytes that may be written; peek: bytes of the record */
    uint64_t position; /* reserve: of the record's own header; peek: where the step began (a pad may stand there) */
    uint64_t next;     /* position after the record */
};

static inline uint64_t noria_spsc_size_of(uint64_t len)
{
    return NORIA_SPSC_HEADER + ((len + 7) & ~UINT64_C(7));
}

/* Not a flexible array member, which C++ does not have. */
static inline uint8_t *noria_spsc_data(const struct noria_spsc *ring)
{
    return (uint8_t *)(uintptr_t)(ring + 1);
}

static inline uint64_t *noria_spsc_word_at(const uint8_t *data, uint64_t offset)
{
    return (uint64_t *)(uintptr_t)(data + offset);
}

/* ------------------------------------------------------------------------------------------------ format, join */

/* Bytes needed for a ring with `capacity` bytes of data; 0 if the capacity is not a power of two in range. */
static inline size_t noria_spsc_footprint(uint64_t capacity)
{
    if (capacity < NORIA_SPSC_MIN_CAPACITY || capacity > NORIA_SPSC_MAX_CAPACITY || (capacity & (capacity - 1)) != 0)
        return 0;
    if (capacity > SIZE_MAX - sizeof(struct noria_spsc))
        return 0;
    return sizeof(struct noria_spsc) + (size_t)capacity;
}

/* The longest record for which an empty ring always has room: at worst a pad of nearly its size stands in front. */
static inline uint64_t noria_spsc_max_record(uint64_t capacity)
{
    return (((capacity - NORIA_SPSC_HEADER) / 2) & ~UINT64_C(7)) - NORIA_SPSC_HEADER;
}

/* The smallest capacity that holds `records` records of up to `max_record` bytes, pads included; 0 if too large. */
static inline uint64_t noria_spsc_capacity_for(uint64_t records, uint64_t max_record)
{
    uint64_t capacity = NORIA_SPSC_MIN_CAPACITY;
    uint64_t size = noria_spsc_size_of(max_record);

    if (max_record > UINT32_MAX || records > NORIA_SPSC_MAX_CAPACITY / size)
        return 0;
    while (capacity < (records + 1) * size + NORIA_SPSC_HEADER || noria_spsc_max_record(capacity) < max_record)
        capacity *= 2;
    return capacity <= NORIA_SPSC_MAX_CAPACITY ? capacity : 0;
}

/* Makes an empty ring. The caller alone uses the memory until this returns. 64-byte aligned memory. */
static inline int noria_spsc_format(void *memory, size_t size, uint64_t capacity, uint64_t first_position)
{
    struct noria_spsc *ring = (struct noria_spsc *)memory;
    size_t need = noria_spsc_footprint(capacity);

    if (need == 0 || size < need || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0 || (first_position & 7) != 0)
        return -EINVAL;
    memset(memory, 0, sizeof(struct noria_spsc));
    ring->capacity = capacity;
    ring->first_position = first_position;
    noria_store_relaxed64(&ring->read_pos, first_position);
    noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), first_position & (capacity - 1)), 0);
    noria_store_release64(&ring->magic, NORIA_SPSC_MAGIC); /* E: who sees the magic sees a whole ring */
    return 0;
}

/* The capacity, if `memory` holds a ring that fits into `size`; 0 otherwise. */
static inline uint64_t noria_spsc_capacity(const void *memory, size_t size)
{
    const struct noria_spsc *ring = (const struct noria_spsc *)memory;
    uint64_t capacity;
    size_t need;

    if (size < sizeof(struct noria_spsc) || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0)
        return 0;
    if (noria_load_acquire64(&ring->magic) != NORIA_SPSC_MAGIC) /* F: pairs with E in format */
        return 0;
    capacity = noria_load_relaxed64(&ring->capacity); /* constant since format */
    need = noria_spsc_footprint(capacity);
    return need != 0 && need <= size ? capacity : 0;
}

/* Reads the header word of the record at `position` into its length and the position after it.
 * 0 a record, 1 a pad, -EBADMSG a word that no producer of ours wrote. */
static inline int noria_spsc_parse(uint64_t word, uint64_t offset, uint64_t capacity, uint64_t *len, uint64_t *step)
{
    uint64_t size;

    *len = word & UINT32_MAX;
    if ((word >> 32) == 1) {
        size = noria_spsc_size_of(*len);
        *step = size;
        return size <= capacity - offset ? 0 : -EBADMSG;
    }
    *step = *len;
    return (word >> 32) == 3 && *len == capacity - offset ? 1 : -EBADMSG;
}

/* Walks over committed records from `position` to the first zero header. Counts what it passes.
 * Racy against a live producer or consumer: exact only while neither moves. */
static inline int noria_spsc_walk(const uint8_t *data, uint64_t capacity, uint64_t *position, uint64_t *records,
                                  uint64_t *bytes)
{
    uint64_t start = *position, at = start, len, step;

    *records = 0;
    *bytes = 0;
    while (at - start <= capacity - NORIA_SPSC_HEADER) {
        /* B: the successor of a dead producer must see the zero behind the last header it finds. */
        uint64_t word = noria_load_acquire64(noria_spsc_word_at(data, at & (capacity - 1)));
        int rc;
        if (word == 0) {
            *position = at;
            return 0;
        }
        rc = noria_spsc_parse(word, at & (capacity - 1), capacity, &len, &step);
        if (rc < 0)
            return rc;
        *records += rc == 0;
        *bytes += rc == 0 ? len : 0;
        at += step;
    }
    return -EBADMSG;
}

/* Takes a free role. -EBUSY if another owner has it (dead ones must be settled first). */
static inline int noria_spsc_claim_role(struct noria_spsc *ring, int role, uint32_t owner, uint64_t *word)
{
    uint64_t old = noria_load_acquire64(&ring->role[role]); /* F */

    for (int i = 0; i < NORIA_SPSC_TRIES && NORIA_SPSC_OWNER(old) == 0; i++) {
        uint64_t mine = ((old & ~(NORIA_SPSC_EPOCH - 1)) + NORIA_SPSC_EPOCH) | owner;
        if (noria_cas_acq_rel64(&ring->role[role], &old, mine)) { /* F: the last holder's work; E: our birth */
            *word = mine | (old & NORIA_SPSC_UNCLEAN);
            return 0;
        }
    }
    return -EBUSY; /* somebody has it, or others took it and left it as often as we tried */
}

static inline void noria_spsc_leave_role(struct noria_spsc *ring, int role, uint64_t word, bool unclean)
{
    uint64_t expected = word;
    uint64_t next = ((word & ~(NORIA_SPSC_EPOCH - 1)) + NORIA_SPSC_EPOCH) | (unclean ? NORIA_SPSC_UNCLEAN : 0);

    /* E: publishes all we did in the role. If it fails, somebody settled us: then there is nothing to leave. */
    noria_cas_acq_rel64(&ring->role[role], &expected, next);
}

/* The role's word; NORIA_SPSC_OWNER(word) is 0 if nobody has it. */
static inline uint64_t noria_spsc_find(const void *memory, int role)
{
    /* F: whoever looks after this whether the owner is dead sees at least the life in which it took the role. */
    return noria_load_acquire64(&((const struct noria_spsc *)memory)->role[role]);
}

/* Frees the role of an owner that the caller, after loading `word` by find, has certified to be dead.
 * 1 freed by us, 0 the word had changed. Any number of settlers may run together; a word never recurs. */
static inline int noria_spsc_settle(void *memory, int role, uint64_t word)
{
    uint64_t expected = word;
    uint64_t next = ((word & ~(NORIA_SPSC_EPOCH - 1)) + NORIA_SPSC_EPOCH) | NORIA_SPSC_UNCLEAN;

    if (NORIA_SPSC_OWNER(word) == 0)
        return 0;
    return noria_cas_acq_rel64(&((struct noria_spsc *)memory)->role[role], &expected, next) ? 1 : 0; /* E, F */
}

/* Becomes the producer. `owner` 1..65535 is whatever the caller uses to tell the living from the dead. */
static inline int noria_spsc_join_producer(struct noria_spsc_producer *producer, void *memory, size_t size,
                                           uint32_t owner)
{
    struct noria_spsc *ring = (struct noria_spsc *)memory;
    uint64_t capacity = noria_spsc_capacity(memory, size), position, word, records, bytes;
    int rc;

    if (capacity == 0)
        return -EBADMSG;
    if (owner == 0 || owner > 0xffff)
        return -EINVAL;
    rc = noria_spsc_claim_role(ring, NORIA_SPSC_PRODUCER, owner, &word);
    if (rc != 0)
        return rc;
    position = noria_load_acquire64(&ring->read_pos); /* D */
    producer->read_limit = position + capacity;
    /* The consumer may move on meanwhile; that leaves every header from here on as it was. */
    rc = (position & 7) != 0 ? -EBADMSG : noria_spsc_walk(noria_spsc_data(ring), capacity, &position, &records, &bytes);
    if (rc != 0) {
        noria_spsc_leave_role(ring, NORIA_SPSC_PRODUCER, word & ~NORIA_SPSC_UNCLEAN, true);
        return rc;
    }
    producer->ring = ring;
    producer->data = noria_spsc_data(ring);
    producer->capacity = capacity;
    producer->mask = capacity - 1;
    producer->write_pos = position;
    producer->quiet = position; /* the first reserve sets it */
    producer->first_staged = position;
    producer->first_header = 0;
    producer->role_word = word & ~NORIA_SPSC_UNCLEAN;
    producer->taken_over = (word & NORIA_SPSC_UNCLEAN) != 0;
    producer->wanted = 0;
    producer->backoff.position = position;
    producer->backoff.pauses = 1;
    return 0;
}

/* Becomes the consumer. */
static inline int noria_spsc_join_consumer(struct noria_spsc_consumer *consumer, void *memory, size_t size,
                                           uint32_t owner)
{
    struct noria_spsc *ring = (struct noria_spsc *)memory;
    uint64_t capacity = noria_spsc_capacity(memory, size), position, word;
    int rc;

    if (capacity == 0)
        return -EBADMSG;
    if (owner == 0 || owner > 0xffff)
        return -EINVAL;
    rc = noria_spsc_claim_role(ring, NORIA_SPSC_CONSUMER, owner, &word);
    if (rc != 0)
        return rc;
    position = noria_load_acquire64(&ring->read_pos); /* D: the last consumer's */
    if ((position & 7) != 0) {
        noria_spsc_leave_role(ring, NORIA_SPSC_CONSUMER, word & ~NORIA_SPSC_UNCLEAN, true);
        return -EBADMSG;
    }
    consumer->ring = ring;
    consumer->data = noria_spsc_data(ring);
    consumer->capacity = capacity;
    consumer->mask = capacity - 1;
    consumer->peek_pos = position;
    consumer->read_pos = position;
    consumer->last_header = NORIA_SPSC_COMMITTED;
    consumer->last_size = NORIA_SPSC_HEADER;
    consumer->quiet = position;
    consumer->role_word = word & ~NORIA_SPSC_UNCLEAN;
    consumer->taken_over = (word & NORIA_SPSC_UNCLEAN) != 0;
    consumer->backoff.position = position;
    consumer->backoff.pauses = 1;
    return 0;
}

/* -------------------------------------------------------------------------------------- reserve, commit, abort */

/* The longest record that may be sent. */
static inline uint64_t noria_spsc_longest(const struct noria_spsc_producer *producer)
{
    uint64_t longest = noria_spsc_max_record(producer->capacity);

    return longest < UINT32_MAX - NORIA_SPSC_HEADER ? longest : (UINT32_MAX - NORIA_SPSC_HEADER) & ~UINT64_C(7);
}

/* See `quiet`. With write_pos where it is, and the limit known. */
static inline void noria_spsc_set_quiet(struct noria_spsc_producer *producer)
{
    uint64_t position = producer->write_pos;
    uint64_t lap_ends = (position | producer->mask) + 1 - position, room = producer->read_limit - position;
    uint64_t longest = noria_spsc_size_of(noria_spsc_longest(producer)) + NORIA_SPSC_HEADER;
    /* A record may end where the lap does; the header after it then stands at the start of the next one. */
    uint64_t least = lap_ends + NORIA_SPSC_HEADER < room ? lap_ends + NORIA_SPSC_HEADER : room;

    if (room > producer->capacity) /* a caller has staged more than was reserved */
        least = 0;
    producer->quiet = position + (least < longest ? least : longest);
}

/* Looks how far the consumer has come. */
static inline int noria_spsc_reload_limit(struct noria_spsc_producer *producer, uint64_t end)
{
    uint64_t limit = noria_load_acquire64(&producer->ring->read_pos) + producer->capacity; /* D: pairs with C */

    /* I1, and positions only grow: anything else was not written by a consumer. So the limit never falls behind what
     * was reserved under it. */
    if (limit - producer->write_pos > producer->capacity || limit - producer->read_limit > producer->capacity)
        return -EBADMSG;
    producer->read_limit = limit;
    if (limit - producer->write_pos >= end - producer->write_pos)
        return 0;
    producer->wanted = end - producer->write_pos;
    return -EAGAIN;
}

/* Slow path of reserve: where the record may go, behind a pad if need be. */
NORIA_SLOW_PATH int noria_spsc_find_place(struct noria_spsc_producer *producer, size_t max_len, uint64_t *position)
{
    uint64_t start = producer->write_pos, left = producer->capacity - (start & producer->mask), size, end;
    int rc = 0;

    if (max_len > noria_spsc_longest(producer))
        return -EMSGSIZE;
    size = noria_spsc_size_of(max_len);
    *position = size > left ? start + left : start; /* contiguous: the rest of the lap becomes a pad */
    end = *position + size + NORIA_SPSC_HEADER;     /* the next header must be ours to zero (I3) */
    if (producer->read_limit - start < end - start || producer->read_limit - start > producer->capacity)
        rc = noria_spsc_reload_limit(producer, end);
    if (rc != -EBADMSG)
        noria_spsc_set_quiet(producer);
    return rc;
}

/* Room for a record of up to `max_len` bytes. Changes nothing that others see; a second call before commit or stage
 * gives the same place again. -EAGAIN full, -EMSGSIZE longer than an empty ring could always take. */
static inline int noria_spsc_reserve(struct noria_spsc_producer *producer, size_t max_len,
                                     struct noria_spsc_record *record)
{
    uint64_t position = producer->write_pos, size = noria_spsc_size_of(max_len), quiet = producer->quiet - position;

    if (__builtin_expect(max_len >= quiet || size + NORIA_SPSC_HEADER > quiet, 0)) {
        uint64_t place;
        int rc = noria_spsc_find_place(producer, max_len, &place);
        if (rc != 0)
            return rc;
        position = place;
    }
    record->data = producer->data + (position & producer->mask) + NORIA_SPSC_HEADER;
    record->len = max_len;
    record->position = position;
    record->next = position + size;
    return 0;
}

/* Whether a record there, with the header after it, is a record and nothing else; see `quiet`. */
static inline bool noria_spsc_is_quiet(const struct noria_spsc_producer *producer,
                                       const struct noria_spsc_record *record, size_t len)
{
    return len <= record->len && record->position == producer->write_pos &&
           noria_spsc_size_of(len) + NORIA_SPSC_HEADER <= producer->quiet - producer->write_pos;
}

static inline void noria_spsc_put_header(struct noria_spsc_producer *producer, uint64_t header)
{
    if (producer->first_header != 0) { /* relaxed: hidden behind first_staged, whose header is still 0 */
        noria_store_relaxed64(noria_spsc_word_at(producer->data, producer->write_pos & producer->mask), header);
        return;
    }
    producer->first_staged = producer->write_pos;
    producer->first_header = header;
}

/* Slow path of stage: behind a pad, or what should not be. It is not given the record itself, which would then have to
 * be in memory in the fast path, too. */
NORIA_SLOW_PATH int noria_spsc_stage_slowly(struct noria_spsc_producer *producer, uint64_t position, size_t most,
                                            size_t len)
{
    uint64_t header = NORIA_SPSC_COMMITTED | len, start = producer->write_pos;

    if (len > most || position - start > producer->capacity - NORIA_SPSC_HEADER)
        return -EINVAL;
    if (position != start) {
        /* The record went to the start of the next lap; what stands at `start` is the pad in front of it.
         * Relaxed: nobody can come here before `start` is published. */
        noria_store_relaxed64(noria_spsc_word_at(producer->data, position & producer->mask), header);
        header = NORIA_SPSC_COMMITTED | NORIA_SPSC_PAD | (producer->capacity - (start & producer->mask));
    }
    noria_spsc_put_header(producer, header);
    producer->write_pos = position + noria_spsc_size_of(len);
    noria_spsc_set_quiet(producer);
    return 0;
}

/* Asks for a line that our stores come to soon, if the consumer has done with it for certain. For small records this is the
 * wait that is left: 1.3 to 1.6 times the messages of 8 bytes; for larger ones it gains nothing. */
static inline void noria_spsc_ask_ahead(const struct noria_spsc_producer *producer, uint64_t size)
{
    uint64_t end = producer->write_pos;

    if (size <= NORIA_CACHE_LINE / 2 && producer->read_limit - end >= NORIA_SPSC_AHEAD + NORIA_CACHE_LINE)
        noria_prefetch_write(producer->data + ((end + NORIA_SPSC_AHEAD) & producer->mask));
}

/* Finishes a reserved record with its first `len` bytes, without publishing it: the consumer sees nothing until
 * publish, then everything staged at once. -EINVAL if len is more than was reserved or the record is not the last. */
static inline int noria_spsc_stage(struct noria_spsc_producer *producer, const struct noria_spsc_record *record,
                                   size_t len)
{
    if (__builtin_expect(!noria_spsc_is_quiet(producer, record, len), 0))
        return noria_spsc_stage_slowly(producer, record->position, record->len, len);
    noria_spsc_put_header(producer, NORIA_SPSC_COMMITTED | len);
    producer->write_pos = record->position + noria_spsc_size_of(len);
    noria_spsc_ask_ahead(producer, noria_spsc_size_of(len));
    return 0;
}

/* Shows what stands from `first` on, whose header is still 0, up to `end`. */
static inline void noria_spsc_show(const struct noria_spsc_producer *producer, uint64_t first, uint64_t header,
                                   uint64_t end)
{
    uint8_t *data = producer->data; /* once: the first store might be to anything */
    uint64_t mask = producer->mask;

    /* I3. Relaxed: A orders it. */
    noria_store_relaxed64(noria_spsc_word_at(data, end & mask), 0);
    /* A: release, pairs with B in peek; the payloads, the headers after the first, and the zero. */
    noria_store_release64(noria_spsc_word_at(data, first & mask), header);
}

/* Shows all staged records to the consumer, in one store. */
static inline void noria_spsc_publish(struct noria_spsc_producer *producer)
{
    if (producer->first_header == 0)
        return;
    noria_spsc_show(producer, producer->first_staged, producer->first_header, producer->write_pos);
    producer->first_header = 0;
}

/* Stage and publish. The record is there, or not, from one instruction (A) to the next. */
static inline int noria_spsc_commit(struct noria_spsc_producer *producer, const struct noria_spsc_record *record,
                                    size_t len)
{
    uint64_t start = producer->write_pos, end = start + noria_spsc_size_of(len);
    int rc;

    if (__builtin_expect(producer->first_header == 0 && noria_spsc_is_quiet(producer, record, len), 1)) {
        producer->write_pos = end;
        noria_spsc_show(producer, start, NORIA_SPSC_COMMITTED | len, end);
        noria_spsc_ask_ahead(producer, end - start);
        return 0;
    }
    rc = noria_spsc_stage(producer, record, len);
    if (rc == 0)
        noria_spsc_publish(producer);
    return rc;
}

/* Gives a reservation up. Nothing was shared, so nothing is to be done. */
static inline void noria_spsc_abort(struct noria_spsc_producer *producer, struct noria_spsc_record *record)
{
    (void)producer;
    record->data = NULL;
    record->len = 0;
}

/* Copies one record in. 0, -EAGAIN full, -EMSGSIZE. */
static inline int noria_spsc_send(struct noria_spsc_producer *producer, const void *data, size_t len)
{
    struct noria_spsc_record record;
    int rc = noria_spsc_reserve(producer, len, &record);

    if (rc != 0)
        return rc;
    noria_copy(record.data, data, len);
    return noria_spsc_commit(producer, &record, len);
}

/* ------------------------------------------------------------------------------------------------ peek, release */

/* Slow path of peek: a record that is not like the last one, or near an end. `position`: where `word` was read; goes on to
 * the record if a pad stood there. 0, or -EBADMSG. */
NORIA_SLOW_PATH int noria_spsc_learn(struct noria_spsc_consumer *consumer, uint64_t word, uint64_t *position)
{
    uint64_t capacity = consumer->capacity, limit = consumer->read_pos + capacity, len, size, lap_ends;

    if ((word >> 32) != 1) { /* the pad at the end of a lap, or a word that should not be */
        if (noria_spsc_parse(word, *position & consumer->mask, capacity, &len, &size) != 1)
            return -EBADMSG;
        *position += size;
        /* Relaxed: written before the pad's header was published, which we have acquired. */
        word = noria_load_relaxed64(noria_spsc_word_at(consumer->data, *position & consumer->mask));
        if ((word >> 32) != 1)
            return -EBADMSG;
    }
    size = noria_spsc_size_of(word & UINT32_MAX);
    lap_ends = (*position | consumer->mask) + 1;
    if (size > lap_ends - *position || *position + size - consumer->read_pos > capacity)
        return -EBADMSG;
    consumer->last_header = word;
    consumer->last_size = size;
    consumer->quiet = lap_ends - *position < limit - *position ? lap_ends : limit;
    return 0;
}

/* Writes the header back as it is, and asks for the lines ahead to write them. A line that was only read stays shared, and
 * the producer's next write to it must first invalidate our copy, one line after the other; a line we have written
 * migrates to him at his first touch. Between cores far from each other that is 2 to 5 times the messages.
 * Release, so that a successor who reads our store still sees what the producer wrote before his (A); free on x86. */
static inline void noria_spsc_own_line(const uint8_t *data, uint64_t offset, uint64_t mask, uint64_t header)
{
    noria_store_release64(noria_spsc_word_at(data, offset), header);
    noria_prefetch_write(data + ((offset + NORIA_SPSC_AHEAD) & mask));
}

/* The next record, in place. May be called again for the one after it; nothing is given back before release.
 * -EAGAIN: at the instant of the look no further record was published. */
static inline int noria_spsc_peek(struct noria_spsc_consumer *consumer, struct noria_spsc_record *record)
{
    const uint8_t *data = consumer->data; /* once, like the rest: the store of the header might be to anything */
    uint64_t mask = consumer->mask, start = consumer->peek_pos, position = start, size = consumer->last_size;
    uint64_t header = consumer->last_header;
    /* B: acquire, pairs with A in publish; the payload, and every header up to the next zero. */
    uint64_t word = noria_load_acquire64(noria_spsc_word_at(data, start & mask));

    /* Records of one length are common, and comparing with the last header lets the processor predict where the next
     * one stands instead of waiting for this load: 0.4 of the time per record. */
    if (__builtin_expect(word != header || size > consumer->quiet - start, 0)) {
        uint64_t place = start; /* not `position`, which would have to live in memory for its address */
        int rc;
        if (word == 0)
            return -EAGAIN;
        rc = noria_spsc_learn(consumer, word, &place);
        if (rc != 0)
            return rc;
        position = place;
        header = consumer->last_header;
        size = consumer->last_size;
    }
    noria_spsc_own_line(data, position & mask, mask, header);
    record->data = (uint8_t *)(uintptr_t)(data + (position & mask) + NORIA_SPSC_HEADER);
    record->len = (size_t)(header & UINT32_MAX);
    record->position = start;
    record->next = position + size;
    consumer->peek_pos = record->next;
    return 0;
}

/* Takes back the peek of the last record peeked; it is the next one again. */
static inline void noria_spsc_unpeek(struct noria_spsc_consumer *consumer, const struct noria_spsc_record *record)
{
    consumer->peek_pos = record->position;
    consumer->quiet = record->position; /* there a pad may stand */
}

/* Gives back all peeked records up to and including this one, in one store. -EINVAL if it was released before. */
static inline int noria_spsc_release_through(struct noria_spsc_consumer *consumer,
                                             const struct noria_spsc_record *record)
{
    uint64_t held = consumer->peek_pos - consumer->read_pos;

    if (record->next == consumer->read_pos || record->next - consumer->read_pos > held)
        return -EINVAL;
    consumer->read_pos = record->next;
    /* C: release, pairs with D in reserve; our reads of the bytes before it are done. */
    noria_store_release64(&consumer->ring->read_pos, record->next);
    return 0;
}

/* Gives back the oldest record held. -EINVAL if it is not the oldest. */
static inline int noria_spsc_release(struct noria_spsc_consumer *consumer, const struct noria_spsc_record *record)
{
    if (record->position != consumer->read_pos)
        return -EINVAL;
    return noria_spsc_release_through(consumer, record);
}

/* Copies one record out. -EMSGSIZE if `cap` is too small: then *len says how long it is and it stays first. */
static inline int noria_spsc_recv(struct noria_spsc_consumer *consumer, void *buffer, size_t cap, size_t *len)
{
    struct noria_spsc_record record;
    int rc = noria_spsc_peek(consumer, &record);

    if (rc != 0)
        return rc;
    *len = record.len;
    if (record.len > cap) {
        noria_spsc_unpeek(consumer, &record);
        return -EMSGSIZE;
    }
    noria_copy(buffer, record.data, record.len);
    return noria_spsc_release_through(consumer, &record);
}

/* ------------------------------------------------------------------------------------- waiting, leaving, looking */

/* Stays away from the other side's line for a moment after a failed try (see noria_backoff_wait). */
static inline void noria_spsc_wait_producer(struct noria_spsc_producer *producer)
{
    noria_backoff_wait(&producer->backoff, producer->write_pos, producer->wanted, NORIA_SPSC_BACKOFF);
}

static inline void noria_spsc_wait_consumer(struct noria_spsc_consumer *consumer)
{
    noria_backoff_wait(&consumer->backoff, consumer->peek_pos, consumer->last_size, NORIA_SPSC_BACKOFF);
}

/* Gives the role back. Records staged and not published are gone, as if never sent. */
static inline void noria_spsc_leave_producer(struct noria_spsc_producer *producer)
{
    noria_spsc_leave_role(producer->ring, NORIA_SPSC_PRODUCER, producer->role_word, false);
}

/* Gives the role back. Records peeked and not released are read again by the next consumer, which learns of it. */
static inline void noria_spsc_leave_consumer(struct noria_spsc_consumer *consumer)
{
    noria_spsc_leave_role(consumer->ring, NORIA_SPSC_CONSUMER, consumer->role_word,
                          consumer->peek_pos != consumer->read_pos || consumer->taken_over);
}

/* Committed records and their bytes, from outside. Exact while nobody moves; -EAGAIN if somebody moved meanwhile. */
static inline int noria_spsc_count(const void *memory, size_t size, uint64_t *records, uint64_t *bytes)
{
    const struct noria_spsc *ring = (const struct noria_spsc *)memory;
    uint64_t capacity = noria_spsc_capacity(memory, size), start, position;
    int rc;

    if (capacity == 0)
        return -EBADMSG;
    start = noria_load_acquire64(&ring->read_pos); /* D */
    position = start;
    if ((start & 7) != 0)
        return -EBADMSG;
    rc = noria_spsc_walk(noria_spsc_data(ring), capacity, &position, records, bytes);
    if (noria_load_acquire64(&ring->read_pos) != start) /* D */
        return -EAGAIN;
    return rc;
}

/* I1..I3, for tests, fuzzers and fsck. Meaningful while nobody moves. */
static inline bool noria_spsc_invariant(const void *memory, size_t size)
{
    uint64_t records, bytes;

    return noria_spsc_count(memory, size, &records, &bytes) == 0;
}

#endif
