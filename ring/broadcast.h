/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria broadcast ring: one sender, any number of receivers, and each receiver gets every record, from its
 * own position.
 *
 * Records of any size stand in a byte ring as in spsc.h (the header word is the flag), so a small one
 * costs each receiver one line transfer. What differs is who may overwrite what, and that is chosen at
 * format:
 *
 *     RELIABLE   each receiver has a cursor, and the sender stays behind the slowest of them
 *     EVICTING   the same, and the sender may evict a receiver that holds it up
 *     LOSSY      receivers write nothing, their memory may be mapped read-only; the sender overwrites, and
 *                a receiver that was overtaken learns exactly how many records it missed
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0      magic, capacity, first position, mode, owners      written by format, then never again
 *     line 1      role word: who sends; listeners, most_owner        written at join, leave, settle, change
 *     line 2      kept, marked                                       written by the sender, once per chunk
 *     line 4 ..   marks: 16 x {position, sequence}                   written by the sender, once per chunk
 *     line 8 ..   cursors: one line pair per owner (LOSSY: none)     written by it; `life` also by others
 *     then        data: `capacity` bytes                             written by the sender
 *
 *     record = header word (8 bytes) | payload, padded to 8 bytes
 *     header = 0: nothing here yet | sequence << 34, PAD, COMMITTED, length (of a pad: up to the data's end)
 *
 * Positions count bytes, sequences count records; both are 64 bits wide and never go back. A header has
 * the low 30 bits of its sequence, a receiver counts the rest. The data is divided into 8 chunks. `kept`
 * is the start of a chunk: records that begin before it may be overwritten. The mark of a chunk says where
 * its first record begins, with which sequence; marks exist from `kept` to `marked`. So whoever joins, or
 * was overtaken, finds a record and its number without reading everything.
 *
 * Invariants
 *   I1  write position + 8 <= the sender's limit <= kept + capacity.
 *   I2  Every position from the mark of `kept` up to the write position starts a committed record or lies
 *       inside one.
 *   I3  The header at the write position is 0: it was zeroed before the record in front of it was published.
 *   I4  limit <= position of each receiver that has joined and lives, + capacity (not LOSSY).
 *   I5  The mark of chunk c stays as it is while kept <= c. (There are 16, and the sender writes at most 9
 *       chunks ahead.)
 *
 * Orders
 *
 *     sender                                      receiver
 *     load cursors               (D)              load header                         (B)
 *     write payload                               read payload
 *     zero the next header                        store its cursor's position         (C)
 *     store own header           (A)
 *
 *   A pairs with B, C with D, as in spsc.h. E and F: the role word and the lives of cursors; who takes one
 *   sees what its last holder did. L: `kept` and `marked` are stored with release and loaded with acquire;
 *   the marks they speak of are there.
 *
 *     sender gives a chunk away                   receiver whose bytes may go (LOSSY; G, H)
 *     store kept, or life EVICTED  (G)            read header and payload, relaxed
 *     fence release                               fence acquire
 *     write, relaxed                              load kept, or life                  (H): changed? not read
 *
 *     sender gives a chunk away                   receiver joins (not LOSSY; J, K)
 *     store kept                   (J)            store position, life LIVE           (K)
 *     fence seq_cst                               fence seq_cst
 *     load lives and positions                    load kept: not beyond position? else on to the mark of kept
 *
 *   Store mine, look at yours: at least one sees the other. Either the sender counts the newcomer, or the
 *   newcomer sees that his position is no longer kept. The fence comes once per chunk or less often, not per
 *   record; in between the sender looks with plain loads at the cursors it knows, for a receiver it does not
 *   know stands at `kept` or later.
 *
 * Progress and crash: every call is wait-free but joining and catching up, which try 64 times against a
 * sender that runs ahead. A stopped receiver holds the sender in RELIABLE (the documented exception); a
 * dead one until its cursor is settled. A dead sender's record is there if A was stored; its successor
 * walks from the mark of `kept` to the zero header, and makes the marks once more, which come out the
 * same.
 *
 * May run together: one call of the sender, one call of each receiver, any number of find, settle, count.
 * Two calls of one receiver may not. No call may be made from a signal handler that interrupted a call in
 * the same role.
 *
 * Nothing read from the memory is trusted: the shape is a private copy, lengths and positions are bounded
 * against it, and a value that cannot be ends in -EBADMSG. A cursor that cannot be a receiver's holds
 * nobody.
 *
 * Results: 0 done; -EAGAIN full or empty; -EMSGSIZE, -EINVAL, -EBUSY, -EBADMSG. Sizes are bytes.
 */
#ifndef NORIA_BROADCAST_H
#define NORIA_BROADCAST_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <noria/atomic.h>

#define NORIA_BROADCAST_MAGIC UINT64_C(0x3154534342697230) /* "0riBCST1" */
#define NORIA_BROADCAST_COMMITTED (UINT64_C(1) << 32)
#define NORIA_BROADCAST_PAD (UINT64_C(1) << 33)
#define NORIA_BROADCAST_ONE (UINT64_C(1) << 34) /* of a sequence, in a header */
#define NORIA_BROADCAST_HEADER 8u
#ifndef NORIA_BROADCAST_MIN_CAPACITY /* these limits may be smaller for model checkers */
#define NORIA_BROADCAST_MIN_CAPACITY 512u
#endif
#define NORIA_BROADCAST_MAX_CAPACITY (UINT64_C(1) << 40)
#ifndef NORIA_BROADCAST_CHUNKS
#define NORIA_BROADCAST_CHUNKS 8u
#endif
#define NORIA_BROADCAST_MARKS 16u
#define NORIA_BROADCAST_AHEAD 256u /* bytes */
#define NORIA_BROADCAST_BACKOFF 64 /* pauses at most after a failed try */
#ifndef NORIA_BROADCAST_TRIES
#define NORIA_BROADCAST_TRIES 64
#endif

enum noria_broadcast_mode {
    NORIA_BROADCAST_RELIABLE = 0,
    NORIA_BROADCAST_EVICTING = 1,
    NORIA_BROADCAST_LOSSY = 2
};
enum noria_broadcast_start {
    NORIA_BROADCAST_NOW = 0,
    NORIA_BROADCAST_OLDEST = 1,
    NORIA_BROADCAST_POSITION = 2
};

/* The role word never recurs: epoch (47 bits, one more at each change) | unclean (1) | owner (16, 0 =
 * nobody). */
#define NORIA_BROADCAST_OWNER(word) ((uint32_t)((word) & 0xffff))
#define NORIA_BROADCAST_UNCLEAN (UINT64_C(1) << 16)
#define NORIA_BROADCAST_EPOCH (UINT64_C(1) << 17)

/* Nor does a cursor's life: epoch (62 bits, one more at each birth) | state. */
enum { NORIA_CURSOR_FREE = 0, NORIA_CURSOR_LIVE = 1, NORIA_CURSOR_EVICTED = 2 };
#define NORIA_CURSOR_STATE(life) ((unsigned)((life) & 3))
#define NORIA_CURSOR_EPOCH UINT64_C(4)

struct noria_broadcast_mark {
    uint64_t position;
    uint64_t sequence;
};

struct noria_broadcast_cursor {
    uint64_t life;
    uint64_t position; /* records before it may be overwritten for this receiver's sake */
    uint64_t reserved[14];
};

struct noria_broadcast {
    uint64_t magic; /* written last by format */
    uint64_t capacity;
    uint64_t first_position;
    uint32_t mode;
    uint32_t owners; /* cursors: 0 if LOSSY */
    uint64_t reserved0[4];
    uint64_t sender;     /* role word */
    uint64_t listeners;  /* receivers that the sender counted last; a hint */
    uint64_t most_owner; /* no cursor beyond it was ever used */
    uint64_t reserved1[5];
    uint64_t kept;   /* start of the first chunk that is not given away */
    uint64_t marked; /* start of the last chunk that has a mark */
    uint64_t reserved2[14];
    struct noria_broadcast_mark marks[NORIA_BROADCAST_MARKS];
    /* cursors and data follow */
};
NORIA_STATIC_ASSERT(offsetof(struct noria_broadcast, sender) == 64, "the role word stands in line 1");
NORIA_STATIC_ASSERT(offsetof(struct noria_broadcast, kept) == 128, "kept stands in line 2");
NORIA_STATIC_ASSERT(offsetof(struct noria_broadcast, marks) == 256, "marks start at line 4");
NORIA_STATIC_ASSERT(sizeof(struct noria_broadcast) == 512, "cursors start at line 8");
NORIA_STATIC_ASSERT(sizeof(struct noria_broadcast_cursor) == 128, "a cursor is a line pair");

/* What format decided, in a checked private copy, and where things stand. */
struct noria_broadcast_shape {
    struct noria_broadcast *ring;
    struct noria_broadcast_cursor *cursors;
    uint8_t *data;
    uint64_t capacity, mask, chunk;
    uint32_t owners;
    uint32_t mode;
    uint32_t chunk_shift;
};

/* Private to the process. One per role, so that a sender cannot be passed where a receiver is meant. */
/* What a receiver may do in place. Lines of its own it writes, see noria_broadcast_own_line. */
enum noria_broadcast_reach {
    NORIA_BROADCAST_READS, /* beside others */
    NORIA_BROADCAST_OWNS,  /* nobody else listens */
    NORIA_BROADCAST_COPIES /* records may go before they are read */
};

/* What a record changes stands apart: neighbours would be stored as a pair, which the next record waits
 * for. */
struct noria_broadcast_sender {
    struct noria_broadcast_shape shape;
    uint64_t write_pos;    /* next header to write; staged records lie before it */
    /* limit or next_mark, whichever comes first: up to there a record is nothing else */
    uint64_t quiet;
    uint64_t sequence;     /* of the next record */
    uint64_t first_staged; /* where the header stands that is withheld until publish */
    uint64_t first_header; /* its value; 0 when nothing is staged */
    uint64_t limit;        /* write below this */
    uint64_t next_mark;    /* start of the first chunk without a mark; those of staged records count */
    uint64_t marked;       /* the last that has one, as announced */
    uint64_t kept;
    uint32_t first_cursor, last_cursor; /* those that lived when we last counted lie in [first, last) */
    uint64_t role_word;
    bool taken_over; /* the last sender died in its role */
    struct noria_backoff backoff;
};

struct noria_broadcast_receiver {
    struct noria_broadcast_shape shape;
    uint64_t position;  /* next record to read */
    uint64_t last_size; /* of the last record looked at closely, and its header */
    uint64_t last_header;
    /* a record like it that ends here or before lies within the lap, and what is written */
    uint64_t quiet;
    uint64_t sequence; /* of the next record */
    enum noria_broadcast_reach reach; /* as when we last looked closely */
    uint64_t released; /* first record not released */
    struct noria_broadcast_cursor *cursor; /* LOSSY: NULL */
    uint64_t life;     /* of our cursor */
    uint64_t missed;   /* records that were gone before we came to them; the caller takes it down */
    struct noria_backoff backoff;
};

/* A reservation or a record found. `data` is 8-byte aligned. */
struct noria_broadcast_record {
    void *data;
    size_t len;        /* reserve: bytes that may be written; else bytes of the record */
    /* reserve: of the record's own header; else where the step began (a pad may stand there) */
    uint64_t position;
    uint64_t next;     /* position after the record */
};

/* The receiver that holds the sender up. */
struct noria_broadcast_slowest {
    uint64_t life;
    uint64_t position;
    uint32_t owner; /* 0: nobody */
};

static inline uint64_t noria_broadcast_size_of(uint64_t len)
{
    return NORIA_BROADCAST_HEADER + ((len + 7) & ~UINT64_C(7));
}

/* a before b; positions and sequences wrap. */
static inline bool noria_broadcast_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

static inline uint64_t *noria_broadcast_word_at(const struct noria_broadcast_shape *shape, uint64_t position)
{
    return (uint64_t *)(uintptr_t)(shape->data + (position & shape->mask));
}

static inline uint64_t noria_broadcast_header_of(uint64_t sequence, uint64_t len)
{
    return sequence * NORIA_BROADCAST_ONE | NORIA_BROADCAST_COMMITTED | len;
}

/* ------------------------------------------------------------------------------------------ format, shape */

/* Bytes needed; 0 if the capacity is not a power of two in range, or owners are more than can be told
 * apart. */
static inline size_t noria_broadcast_footprint(uint64_t capacity, uint32_t owners)
{
    uint64_t before =
        sizeof(struct noria_broadcast) + owners * (uint64_t)sizeof(struct noria_broadcast_cursor);

    if (capacity < NORIA_BROADCAST_MIN_CAPACITY || capacity > NORIA_BROADCAST_MAX_CAPACITY ||
        (capacity & (capacity - 1)) != 0 || owners > 0xffff || capacity > SIZE_MAX - before)
        return 0;
    return (size_t)(before + capacity);
}

/* The longest record for which there is always room, whatever stands where: at worst a pad of nearly its
 * size stands in front of it, and what is given away is whole chunks. */
static inline uint64_t noria_broadcast_max_record(uint64_t capacity)
{
    uint64_t whole = capacity - capacity / NORIA_BROADCAST_CHUNKS - NORIA_BROADCAST_HEADER;

    return ((whole / 2) & ~UINT64_C(7)) - NORIA_BROADCAST_HEADER;
}

/* The smallest capacity that always keeps `records` records of up to `max_record` bytes, pads included; 0
 * if too large. */
static inline uint64_t noria_broadcast_capacity_for(uint64_t records, uint64_t max_record)
{
    uint64_t capacity = NORIA_BROADCAST_MIN_CAPACITY;
    uint64_t size = noria_broadcast_size_of(max_record);

    if (max_record > UINT32_MAX || records > NORIA_BROADCAST_MAX_CAPACITY / size)
        return 0;
    /* Room for two, and a header, is what max_record asks for. */
    while (capacity - capacity / NORIA_BROADCAST_CHUNKS < (records + 2) * size + NORIA_BROADCAST_HEADER)
        capacity *= 2;
    return capacity <= NORIA_BROADCAST_MAX_CAPACITY ? capacity : 0;
}

static inline struct noria_broadcast_mark *noria_broadcast_mark_of(const struct noria_broadcast_shape *shape,
                                                                   uint64_t chunk_start)
{
    return &shape->ring->marks[(chunk_start >> shape->chunk_shift) % NORIA_BROADCAST_MARKS];
}

static inline void noria_broadcast_point(struct noria_broadcast_shape *shape, struct noria_broadcast *ring,
                                         uint64_t capacity, uint32_t owners, uint32_t mode)
{
    shape->ring = ring;
    shape->cursors = (struct noria_broadcast_cursor *)(uintptr_t)(ring + 1);
    shape->data = (uint8_t *)(uintptr_t)(shape->cursors + owners);
    shape->capacity = capacity;
    shape->mask = capacity - 1;
    shape->chunk = capacity / NORIA_BROADCAST_CHUNKS;
    shape->chunk_shift = (uint32_t)__builtin_ctzll(shape->chunk);
    shape->owners = owners;
    shape->mode = mode;
}

/* Makes an empty ring whose first record has position and sequence `first_position` (rounded down to 8 as
 * a position). The caller alone uses the memory until this returns. 64-byte aligned. `owners`: as many as
 * may join, each with a number 1.. of its own. */
static inline int noria_broadcast_format(void *memory, size_t size, uint64_t capacity, uint32_t owners,
                                         enum noria_broadcast_mode mode, uint64_t first_position)
{
    struct noria_broadcast *ring = (struct noria_broadcast *)memory;
    uint32_t cursors = mode == NORIA_BROADCAST_LOSSY ? 0 : owners;
    size_t need = noria_broadcast_footprint(capacity, cursors);
    uint64_t position = first_position & ~UINT64_C(7);
    struct noria_broadcast_shape shape;
    struct noria_broadcast_mark *mark;

    if (need == 0 || size < need || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0 ||
        (unsigned)mode > NORIA_BROADCAST_LOSSY)
        return -EINVAL;
    noria_broadcast_point(&shape, ring, capacity, cursors, mode);
    memset(memory, 0, sizeof(*ring) + cursors * sizeof(struct noria_broadcast_cursor));
    ring->capacity = capacity;
    ring->first_position = first_position;
    ring->mode = mode;
    ring->owners = cursors;
    noria_store_relaxed64(&ring->kept, position & ~(shape.chunk - 1));
    noria_store_relaxed64(&ring->marked, position & ~(shape.chunk - 1));
    mark = noria_broadcast_mark_of(&shape, position);
    noria_store_relaxed64(&mark->position, position);
    noria_store_relaxed64(&mark->sequence, first_position);
    noria_store_relaxed64(noria_broadcast_word_at(&shape, position), 0);
    noria_store_release64(&ring->magic, NORIA_BROADCAST_MAGIC); /* E: who sees the magic sees a whole ring */
    return 0;
}

/* What kind of ring is there. 0, -EBADMSG: none that fits into `size`. */
static inline int noria_broadcast_read_shape(struct noria_broadcast_shape *shape, const void *memory,
                                             size_t size)
{
    struct noria_broadcast *ring = (struct noria_broadcast *)(uintptr_t)memory;
    uint64_t capacity;
    uint32_t owners, mode;
    size_t need;

    if (size < sizeof(*ring) || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0 ||
        noria_load_acquire64(&ring->magic) != NORIA_BROADCAST_MAGIC) /* F: pairs with E in format */
        return -EBADMSG;
    capacity = noria_load_relaxed64(&ring->capacity); /* constant since format, these three */
    owners = noria_load_relaxed32(&ring->owners);
    mode = noria_load_relaxed32(&ring->mode);
    need = noria_broadcast_footprint(capacity, owners);
    if (need == 0 || need > size || mode > NORIA_BROADCAST_LOSSY ||
        (mode == NORIA_BROADCAST_LOSSY) != (owners == 0))
        return -EBADMSG;
    noria_broadcast_point(shape, ring, capacity, owners, mode);
    return 0;
}

/* Reads a header that is not 0 into length and step. 0 a record, 1 a pad, -EBADMSG no sender of ours wrote
 * it there. */
static inline int noria_broadcast_parse(const struct noria_broadcast_shape *shape, uint64_t word,
                                        uint64_t position, uint64_t sequence, uint64_t *len, uint64_t *step)
{
    uint64_t room = shape->capacity - (position & shape->mask);
    bool pad = (word & NORIA_BROADCAST_PAD) != 0;

    *len = word & UINT32_MAX;
    *step = pad ? *len : noria_broadcast_size_of(*len);
    if ((word & NORIA_BROADCAST_COMMITTED) == 0 || ((word >> 34) ^ sequence) << 34 != 0)
        return -EBADMSG;
    if (pad)
        return *step == room ? 1 : -EBADMSG;
    return *step <= room ? 0 : -EBADMSG;
}

/* One step of a walk over what is published: 0 over a record, 1 over a pad, -EAGAIN the end, -EBADMSG. */
static inline int noria_broadcast_step(const struct noria_broadcast_shape *shape,
                                       struct noria_broadcast_mark *at, uint64_t *len)
{
    /* B: a successor must see the zero behind the last header it finds. */
    uint64_t word = noria_load_acquire64(noria_broadcast_word_at(shape, at->position)), step;
    int rc = word == 0 ? -EAGAIN : noria_broadcast_parse(shape, word, at->position, at->sequence, len, &step);

    if (rc < 0)
        return rc;
    at->position += step;
    at->sequence += rc == 0;
    return rc;
}

/* The mark of the chunk that begins at `chunk_start`; -EAGAIN if that chunk is being given away. */
static inline int noria_broadcast_find_mark(const struct noria_broadcast_shape *shape, uint64_t chunk_start,
                                            struct noria_broadcast_mark *found)
{
    const struct noria_broadcast_mark *mark = noria_broadcast_mark_of(shape, chunk_start);

    found->position = noria_load_relaxed64(&mark->position);
    found->sequence = noria_load_relaxed64(&mark->sequence);
    noria_fence_acquire(); /* H: a mark of a later lap was stored after kept had passed this chunk (I5) */
    if (noria_broadcast_before(chunk_start, noria_load_relaxed64(&shape->ring->kept)))
        return -EAGAIN;
    return (found->position & 7) != 0 || (chunk_start & (shape->chunk - 1)) != 0 ||
                   found->position - chunk_start > shape->capacity ? -EBADMSG : 0;
}

/* -------------------------------------------------------------------------------------- the sender's role */

/* Who sends; NORIA_BROADCAST_OWNER(word) is 0 if nobody does. */
static inline uint64_t noria_broadcast_find_sender(const void *memory)
{
    /* F: whoever looks after this whether the owner is dead sees at least the life in which it took the
     * role. */
    return noria_load_acquire64(&((const struct noria_broadcast *)memory)->sender);
}

/* Frees the role of an owner that the caller, after loading `word` by find, has certified to be dead. 1
 * freed by us, 0 the word had changed. Any number of settlers may run together; a word never recurs. */
static inline int noria_broadcast_settle_sender(void *memory, uint64_t word)
{
    uint64_t expected = word;
    uint64_t next = ((word & ~(NORIA_BROADCAST_EPOCH - 1)) + NORIA_BROADCAST_EPOCH) | NORIA_BROADCAST_UNCLEAN;

    if (NORIA_BROADCAST_OWNER(word) == 0)
        return 0;
    /* E, F */
    return noria_cas_acq_rel64(&((struct noria_broadcast *)memory)->sender, &expected, next) ? 1 : 0;
}

static inline int noria_broadcast_claim_role(struct noria_broadcast *ring, uint32_t owner, uint64_t *word)
{
    uint64_t old = noria_load_acquire64(&ring->sender); /* F */

    for (int i = 0; i < NORIA_BROADCAST_TRIES && NORIA_BROADCAST_OWNER(old) == 0; i++) {
        uint64_t mine = ((old & ~(NORIA_BROADCAST_EPOCH - 1)) + NORIA_BROADCAST_EPOCH) | owner;
        if (noria_cas_acq_rel64(&ring->sender, &old, mine)) { /* F: the last holder's work; E: our birth */
            *word = mine | (old & NORIA_BROADCAST_UNCLEAN);
            return 0;
        }
    }
    return -EBUSY; /* somebody has it, or others took it and left it as often as we tried */
}

static inline void noria_broadcast_leave_role(struct noria_broadcast *ring, uint64_t word, bool unclean)
{
    uint64_t expected = word;
    uint64_t next = ((word & ~(NORIA_BROADCAST_EPOCH - 1)) + NORIA_BROADCAST_EPOCH) |
                    (unclean ? NORIA_BROADCAST_UNCLEAN : 0);

    /* E: publishes all we did in the role. If it fails, somebody settled us: then there is nothing to
     * leave. */
    noria_cas_acq_rel64(&ring->sender, &expected, next);
}

/* ------------------------------------------------------------------------------- what the sender looks at */

/* The least position among the cursors in [first, last) that live, but at most `most`; who has it. */
static inline uint64_t noria_broadcast_slowest_of(struct noria_broadcast_sender *sender, uint64_t most,
                                                  struct noria_broadcast_slowest *slowest)
{
    for (uint32_t i = sender->first_cursor; i < sender->last_cursor; i++) {
        const struct noria_broadcast_cursor *cursor = &sender->shape.cursors[i];
        /* F before D: a life that we see brings the position it was born with, or a later one. */
        uint64_t life = noria_load_acquire64(&cursor->life);
        uint64_t position = noria_load_acquire64(&cursor->position); /* D: pairs with C */

        /* Behind what is given away already stands only a newcomer who has not looked at kept yet (or
         * nobody of ours). */
        if (NORIA_CURSOR_STATE(life) != NORIA_CURSOR_LIVE ||
            position + sender->shape.capacity - sender->limit > sender->shape.capacity ||
            !noria_broadcast_before(position, most))
            continue;
        most = position;
        slowest->owner = i + 1;
        slowest->life = life;
        slowest->position = position;
    }
    return most;
}

/* Counts all cursors that live, and remembers between which they lie. Complete after a fence only. */
static inline void noria_broadcast_count_listeners(struct noria_broadcast_sender *sender)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    /* after the fence: see K */
    uint64_t most = noria_load_acquire64(&shape->ring->most_owner), listeners = 0;

    sender->first_cursor = 0;
    sender->last_cursor = 0;
    for (uint32_t i = 0; i < shape->owners && i < most; i++) {
        uint64_t life = noria_load_acquire64(&shape->cursors[i].life); /* F */
        if (NORIA_CURSOR_STATE(life) != NORIA_CURSOR_LIVE)
            continue;
        sender->first_cursor = listeners++ == 0 ? i : sender->first_cursor;
        sender->last_cursor = i + 1;
    }
    if (noria_load_relaxed64(&shape->ring->listeners) != listeners) /* a hint: orders nothing */
        noria_store_relaxed64(&shape->ring->listeners, listeners);
}

/* Gives everything before `kept` away. */
static inline void noria_broadcast_give_away(struct noria_broadcast_sender *sender, uint64_t kept)
{
    sender->kept = kept;
    /* G, J by the fences below; L: its mark is there */
    noria_store_release64(&sender->shape.ring->kept, kept);
    if (sender->shape.mode == NORIA_BROADCAST_LOSSY) {
        noria_fence_release(); /* G: pairs with H; whoever reads what we write from now on sees kept */
        return;
    }
    noria_fence_seq_cst(); /* J: pairs with K */
    noria_broadcast_count_listeners(sender);
}

/* How much to give away, if up to `kept` must go. Each time costs a fence that waits for all our stores to
 * arrive, so while somebody listens it is what all have read, up to three quarters of the ring, at once.
 * Without listeners, and LOSSY (no full fence), as little as possible: all of it is history for who comes
 * later. */
static inline uint64_t noria_broadcast_give_away_until(struct noria_broadcast_sender *sender, uint64_t kept)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    uint64_t most = kept + shape->capacity / 4 * 3;
    struct noria_broadcast_slowest slowest;

    if (sender->last_cursor == 0)
        return kept;
    if (noria_broadcast_before(sender->marked, most))
        most = sender->marked;
    most = noria_broadcast_slowest_of(sender, most, &slowest) & ~(shape->chunk - 1);
    return noria_broadcast_before(kept, most) ? most : kept;
}

static inline void noria_broadcast_set_quiet(struct noria_broadcast_sender *sender)
{
    sender->quiet =
        noria_broadcast_before(sender->limit, sender->next_mark) ? sender->limit : sender->next_mark;
}

/* The first chunk that can stay when we write up to `end`. */
static inline uint64_t noria_broadcast_kept_for(const struct noria_broadcast_sender *sender, uint64_t end)
{
    const struct noria_broadcast_shape *shape = &sender->shape;

    return (end - shape->capacity + shape->chunk - 1) & ~(shape->chunk - 1);
}

/* Whether no receiver stands where we would write up to `end` if `kept` were the oldest kept. Looks only. */
static inline bool noria_broadcast_is_clear(struct noria_broadcast_sender *sender, uint64_t kept,
                                            uint64_t end)
{
    struct noria_broadcast_slowest slowest;

    return !noria_broadcast_before(
        noria_broadcast_slowest_of(sender, kept, &slowest) + sender->shape.capacity, end);
}

/* Whether we may write up to `end` if everything before `kept` goes: staged records may fill the ring, which
 * are to be published first, or a receiver may stand there. Looks only. */
static inline bool noria_broadcast_may_give_away(struct noria_broadcast_sender *sender, uint64_t kept,
                                                 uint64_t end)
{
    if (noria_broadcast_before(sender->marked, kept))
        return false;
    noria_broadcast_count_listeners(sender);
    return noria_broadcast_is_clear(sender, kept, end);
}

/* How far may we write by now? */
static inline int noria_broadcast_find_room(struct noria_broadcast_sender *sender, uint64_t end)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    struct noria_broadcast_slowest slowest;
    uint64_t kept = noria_broadcast_kept_for(sender, end);

    if (noria_broadcast_before(sender->kept, kept)) {
        if (!noria_broadcast_may_give_away(sender, kept, end)) /* nothing is given away in vain */
            return -EAGAIN;
        noria_broadcast_give_away(sender, noria_broadcast_give_away_until(sender, kept));
    }
    sender->limit = noria_broadcast_slowest_of(sender, sender->kept, &slowest) + shape->capacity;
    noria_broadcast_set_quiet(sender);
    return noria_broadcast_before(sender->limit, end) ? -EAGAIN : 0;
}

/* After -EAGAIN of reserve or send: which receiver is it? The caller may evict it when its time is over. */
static inline void noria_broadcast_find_slowest(struct noria_broadcast_sender *sender,
                                                struct noria_broadcast_slowest *slowest)
{
    slowest->owner = 0;
    slowest->life = 0;
    slowest->position = 0;
    noria_broadcast_count_listeners(sender);
    noria_broadcast_slowest_of(sender, sender->write_pos, slowest);
}

/* The receiver no longer holds us up; it learns of it at its next call. 1 evicted, 0 it has left or is
 * evicted. EVICTING only. */
static inline int noria_broadcast_evict(struct noria_broadcast_sender *sender,
                                        const struct noria_broadcast_slowest *slowest)
{
    uint64_t life = slowest->life, evicted = (life & ~UINT64_C(3)) | NORIA_CURSOR_EVICTED;

    if (sender->shape.mode != NORIA_BROADCAST_EVICTING || slowest->owner == 0 ||
        slowest->owner > sender->shape.owners)
        return 0;
    if (!noria_cas_acq_rel64(&sender->shape.cursors[slowest->owner - 1].life, &life, evicted))
        return 0;
    /* G: pairs with H; whoever reads what we write over his records sees that he is evicted */
    noria_fence_release();
    return 1;
}

/* ------------------------------------------------------------------------------------- join as the sender */

/* Sets the marks of the chunks that begin in (.., to]: their first record begins at `to`, with this
 * sequence. Readers believe them when `marked` says so. */
static inline void noria_broadcast_mark_through(struct noria_broadcast_sender *sender, uint64_t to,
                                                uint64_t sequence)
{
    for (; !noria_broadcast_before(to, sender->next_mark); sender->next_mark += sender->shape.chunk) {
        struct noria_broadcast_mark *mark = noria_broadcast_mark_of(&sender->shape, sender->next_mark);
        /* I5: its old chunk was given away, with a fence behind it */
        noria_store_relaxed64(&mark->position, to);
        noria_store_relaxed64(&mark->sequence, sequence);
    }
}

static inline void noria_broadcast_announce_marks(struct noria_broadcast_sender *sender)
{
    sender->marked = sender->next_mark - sender->shape.chunk;
    /* L: the marks, and the records before them */
    noria_store_release64(&sender->shape.ring->marked, sender->marked);
}

/* Finds the end, from the mark of kept, and makes all marks up to there anew. */
static inline int noria_broadcast_walk_as_sender(struct noria_broadcast_sender *sender)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    struct noria_broadcast_mark at;
    /* only senders write it: the last one's, by F */
    uint64_t kept = noria_load_acquire64(&shape->ring->kept), len;
    int rc = noria_broadcast_find_mark(shape, kept, &at);

    if (rc != 0)
        return -EBADMSG; /* nobody but a sender changes what is kept */
    sender->kept = kept;
    sender->next_mark = kept + shape->chunk;
    while (rc >= 0 && at.position - kept <= shape->capacity - NORIA_BROADCAST_HEADER) {
        noria_broadcast_mark_through(sender, at.position, at.sequence);
        rc = noria_broadcast_step(shape, &at, &len);
    }
    if (rc != -EAGAIN)
        return -EBADMSG;
    sender->write_pos = at.position;
    sender->sequence = at.sequence;
    return 0;
}

/* Becomes the sender. `owner` 1..65535 is whatever the caller uses to tell the living from the dead. */
static inline int noria_broadcast_join_sender(struct noria_broadcast_sender *sender, void *memory,
                                              size_t size, uint32_t owner)
{
    struct noria_broadcast_shape *shape = &sender->shape;
    uint64_t word;
    int rc = noria_broadcast_read_shape(shape, memory, size);

    if (rc != 0)
        return rc;
    if (owner == 0 || owner > 0xffff)
        return -EINVAL;
    rc = noria_broadcast_claim_role(shape->ring, owner, &word);
    if (rc != 0)
        return rc;
    rc = noria_broadcast_walk_as_sender(sender);
    if (rc != 0) {
        noria_broadcast_leave_role(shape->ring, word & ~NORIA_BROADCAST_UNCLEAN, true);
        return rc;
    }
    noria_broadcast_announce_marks(sender);
    sender->first_header = 0;
    sender->first_cursor = 0;
    sender->last_cursor = 0;
    sender->role_word = word & ~NORIA_BROADCAST_UNCLEAN;
    sender->taken_over = (word & NORIA_BROADCAST_UNCLEAN) != 0;
    sender->backoff.position = sender->sequence;
    sender->backoff.pauses = 1;
    /* I3 was written; anything more is asked for */
    sender->limit = sender->write_pos + NORIA_BROADCAST_HEADER;
    noria_broadcast_set_quiet(sender);
    noria_broadcast_give_away(sender, sender->kept); /* the last sender may have died before it counted */
    return 0;
}

/* --------------------------------------------------------------------------------- reserve, commit, abort */

/* Where a record of up to `max_len` bytes would stand, and what is written then ends. 0, -EMSGSIZE. */
static inline int noria_broadcast_place_for(const struct noria_broadcast_sender *sender, size_t max_len,
                                            uint64_t *place, uint64_t *end)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    uint64_t position = sender->write_pos, offset = position & shape->mask, size;

    if (max_len > UINT32_MAX - NORIA_BROADCAST_HEADER ||
        max_len > noria_broadcast_max_record(shape->capacity))
        return -EMSGSIZE;
    size = noria_broadcast_size_of(max_len);
    if (size > shape->capacity - offset) /* contiguous: the rest of the lap becomes a pad */
        position += shape->capacity - offset;
    *place = position;
    *end = position + size + NORIA_BROADCAST_HEADER; /* the next header must be ours to zero (I3) */
    return 0;
}

/* Slow path of reserve: the first record of a chunk, of a lap, or where nothing is known to be free. */
NORIA_SLOW_PATH int noria_broadcast_find_place(struct noria_broadcast_sender *sender, size_t max_len,
                                               uint64_t *place)
{
    uint64_t end = 0;
    int rc = noria_broadcast_place_for(sender, max_len, place, &end);

    return rc == 0 && noria_broadcast_before(sender->limit, end) ? noria_broadcast_find_room(sender, end)
                                                                 : rc;
}

/* Whether reserve would find room for a record of up to `max_len` bytes just now. A hint, which gives nothing
 * away: who asks again and again takes no record from those who come late or are slow. */
static inline bool noria_broadcast_may_send(struct noria_broadcast_sender *sender, size_t max_len)
{
    uint64_t place, end, kept;

    if (noria_broadcast_place_for(sender, max_len, &place, &end) != 0 ||
        !noria_broadcast_before(sender->limit, end))
        return true; /* what is too long a send says at once */
    kept = noria_broadcast_kept_for(sender, end);
    if (noria_broadcast_before(sender->kept, kept))
        return noria_broadcast_may_give_away(sender, kept, end);
    return noria_broadcast_is_clear(sender, sender->kept, end);
}

/* Room for a record of up to `max_len` bytes. Changes nothing that receivers see, but that old records may
 * go; a second call before commit or stage gives the same place again. -EAGAIN full (LOSSY: only when
 * staged records fill it), -EMSGSIZE. */
static inline int noria_broadcast_reserve(struct noria_broadcast_sender *sender, size_t max_len,
                                          struct noria_broadcast_record *record)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    uint64_t position = sender->write_pos, size = noria_broadcast_size_of(max_len),
             quiet = sender->quiet - position;

    if (__builtin_expect(max_len >= quiet || size + NORIA_BROADCAST_HEADER > quiet, 0)) {
        uint64_t place; /* not `position`, which would have to live in memory for its address */
        int rc = noria_broadcast_find_place(sender, max_len, &place);
        if (rc != 0)
            return rc;
        position = place;
    }
    record->data = shape->data + (position & shape->mask) + NORIA_BROADCAST_HEADER;
    record->len = max_len;
    record->position = position;
    record->next = position + size;
    return 0;
}

/* Whether a record there, with the header after it, is a record and nothing else; see `quiet`. */
static inline bool noria_broadcast_is_quiet(const struct noria_broadcast_sender *sender,
                                            const struct noria_broadcast_record *record, size_t len)
{
    uint64_t end = noria_broadcast_size_of(len) + NORIA_BROADCAST_HEADER;

    return len <= record->len && record->position == sender->write_pos &&
           end <= sender->quiet - sender->write_pos;
}

static inline void noria_broadcast_put_header(struct noria_broadcast_sender *sender, uint64_t header)
{
    if (sender->first_header != 0) { /* relaxed: hidden behind first_staged, whose header is still 0 */
        noria_store_relaxed64(noria_broadcast_word_at(&sender->shape, sender->write_pos), header);
        return;
    }
    sender->first_staged = sender->write_pos;
    sender->first_header = header;
}

/* Slow path of stage: with a pad before it, or with marks to set after it. It is not given the record itself, which would
 * then have to be in memory in the fast path, too. */
NORIA_SLOW_PATH int noria_broadcast_stage_slowly(struct noria_broadcast_sender *sender, uint64_t position,
                                                 size_t most, size_t len)
{
    const struct noria_broadcast_shape *shape = &sender->shape;
    uint64_t header = noria_broadcast_header_of(sender->sequence, len), start = sender->write_pos;

    if (len > most || position - start > shape->capacity - NORIA_BROADCAST_HEADER)
        return -EINVAL;
    if (position != start) {
        /* The record went to the start of the next lap; what stands at `start` is the pad in front of it.
         * Relaxed: nobody can come here before `start` is published. */
        noria_store_relaxed64(noria_broadcast_word_at(shape, position), header);
        header = noria_broadcast_header_of(sender->sequence, position - start) | NORIA_BROADCAST_PAD;
        noria_broadcast_mark_through(sender, position, sender->sequence);
    }
    noria_broadcast_put_header(sender, header);
    sender->write_pos = position + noria_broadcast_size_of(len);
    sender->sequence++;
    noria_broadcast_mark_through(sender, sender->write_pos, sender->sequence);
    noria_broadcast_set_quiet(sender);
    return 0;
}

/* As noria_spsc_ask_ahead: a line that our stores come to soon behind a record of `size` bytes that ends at `end`, if the
 * receivers have done with it for certain. `limit`, `data` and `mask` are the sender's: when they are loaded is the
 * caller's, for behind a store to the ring they would be loaded again. */
static inline void noria_broadcast_ask_ahead(uint64_t limit, const uint8_t *data, uint64_t mask, uint64_t end,
                                             uint64_t size)
{
    if (size <= NORIA_CACHE_LINE / 2 &&
        !noria_broadcast_before(limit, end + NORIA_BROADCAST_AHEAD + NORIA_CACHE_LINE))
        noria_prefetch_write(data + ((end + NORIA_BROADCAST_AHEAD) & mask));
}

/* Finishes a reserved record with its first `len` bytes, without publishing it. -EINVAL if len is more
 * than was reserved or the record is not the last. */
static inline int noria_broadcast_stage(struct noria_broadcast_sender *sender,
                                        const struct noria_broadcast_record *record, size_t len)
{
    if (__builtin_expect(!noria_broadcast_is_quiet(sender, record, len), 0))
        return noria_broadcast_stage_slowly(sender, record->position, record->len, len);
    noria_broadcast_put_header(sender, noria_broadcast_header_of(sender->sequence++, len));
    sender->write_pos += noria_broadcast_size_of(len);
    noria_broadcast_ask_ahead(sender->limit, sender->shape.data, sender->shape.mask, sender->write_pos,
                              noria_broadcast_size_of(len));
    return 0;
}

/* Shows what stands from `start` on, whose header is still 0, up to `end`. */
static inline void noria_broadcast_show(const struct noria_broadcast_shape *shape, uint64_t start,
                                        uint64_t header, uint64_t end)
{
    uint8_t *data = shape->data; /* once: the first store might be to anything */
    uint64_t mask = shape->mask;

    /* I3. Relaxed: A orders it. */
    noria_store_relaxed64((uint64_t *)(uintptr_t)(data + (end & mask)), 0);
    /* A: release, pairs with B; the payloads, the headers after the first, and the zero. */
    noria_store_release64((uint64_t *)(uintptr_t)(data + (start & mask)), header);
}

/* Shows all staged records to the receivers, in one store. */
static inline void noria_broadcast_publish(struct noria_broadcast_sender *sender)
{
    if (sender->first_header == 0)
        return;
    noria_broadcast_show(&sender->shape, sender->first_staged, sender->first_header, sender->write_pos);
    sender->first_header = 0;
    if (__builtin_expect(sender->next_mark - sender->shape.chunk != sender->marked, 0))
        noria_broadcast_announce_marks(sender); /* after A: nobody begins behind a record that is not there */
}

/* Slow path of commit: behind what is staged, or what stage does slowly. Given values, as there. */
NORIA_SLOW_PATH int noria_broadcast_commit_slowly(struct noria_broadcast_sender *sender, uint64_t position,
                                                  size_t most, size_t len)
{
    const struct noria_broadcast_record record = {NULL, most, position, 0};
    int rc = noria_broadcast_stage(sender, &record, len);

    if (rc == 0)
        noria_broadcast_publish(sender);
    return rc;
}

/* Stage and publish. The record is there, or not, from one instruction (A) to the next. */
static inline int noria_broadcast_commit(struct noria_broadcast_sender *sender,
                                         const struct noria_broadcast_record *record, size_t len)
{
    uint64_t start = sender->write_pos, end = start + noria_broadcast_size_of(len);
    /* once, and here: the stores below might be to anything */
    uint64_t limit = sender->limit, mask = sender->shape.mask;
    const uint8_t *data = sender->shape.data;

    if (__builtin_expect(sender->first_header != 0 || !noria_broadcast_is_quiet(sender, record, len), 0))
        return noria_broadcast_commit_slowly(sender, record->position, record->len, len);
    sender->write_pos = end;
    noria_broadcast_show(&sender->shape, start, noria_broadcast_header_of(sender->sequence, len), end);
    /* Behind the stores it is one addition to memory, where a load and a store around them cost a cycle more. */
    sender->sequence++;
    noria_broadcast_ask_ahead(limit, data, mask, end, end - start);
    return 0;
}

/* Gives a reservation up. Nothing was shared, so nothing is to be done. */
static inline void noria_broadcast_abort(struct noria_broadcast_sender *sender,
                                         struct noria_broadcast_record *record)
{
    (void)sender;
    record->data = NULL;
    record->len = 0;
}

/* Copies into the ring while receivers who were overtaken may still read there: whole words, relaxed (they
 * find out, H). */
static inline void noria_broadcast_copy_in(uint8_t *to, const void *from, size_t len)
{
    const uint8_t *bytes = (const uint8_t *)from;
    uint64_t word;

    for (; len >= sizeof(word); len -= sizeof(word), to += sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        noria_store_relaxed64((uint64_t *)(uintptr_t)to, word);
    }
    if (len != 0) {
        word = 0;
        memcpy(&word, bytes, len);
        noria_store_relaxed64((uint64_t *)(uintptr_t)to, word);
    }
}

/* The other half: whole words up to the padded end of the record. */
static inline void noria_broadcast_copy_out(void *to, const uint8_t *from, size_t len)
{
    uint8_t *bytes = (uint8_t *)to;
    uint64_t word;

    for (; len >= sizeof(word); len -= sizeof(word), from += sizeof(word), bytes += sizeof(word)) {
        word = noria_load_relaxed64((const uint64_t *)(uintptr_t)from);
        memcpy(bytes, &word, sizeof(word));
    }
    if (len != 0) {
        word = noria_load_relaxed64((const uint64_t *)(uintptr_t)from);
        memcpy(bytes, &word, len);
    }
}

/* Fills a reservation, in the way its ring's receivers read. */
static inline void noria_broadcast_fill(struct noria_broadcast_sender *sender,
                                        const struct noria_broadcast_record *record, const void *data,
                                        size_t len)
{
    if (sender->shape.mode == NORIA_BROADCAST_RELIABLE)
        noria_copy(record->data, data, len);
    else
        noria_broadcast_copy_in((uint8_t *)record->data, data, len);
}

/* Copies one record in. 0, -EAGAIN full, -EMSGSIZE. */
static inline int noria_broadcast_send(struct noria_broadcast_sender *sender, const void *data, size_t len)
{
    struct noria_broadcast_record record;
    int rc = noria_broadcast_reserve(sender, len, &record);

    if (rc != 0)
        return rc;
    noria_broadcast_fill(sender, &record, data, len);
    return noria_broadcast_commit(sender, &record, len);
}

/* ------------------------------------------------------------------------------------- join as a receiver */

static inline void noria_broadcast_go_to(struct noria_broadcast_receiver *receiver,
                                         const struct noria_broadcast_mark *at)
{
    receiver->position = at->position;
    receiver->released = at->position;
    receiver->sequence = at->sequence;
    receiver->last_header = 0; /* nobody's */
    receiver->last_size = NORIA_BROADCAST_HEADER;
    receiver->quiet = at->position; /* nothing is known */
    receiver->reach = NORIA_BROADCAST_COPIES;
}

/* 0, -EBADMSG: the word fell, which it never does. */
static inline int noria_broadcast_raise_most_owner(struct noria_broadcast *ring, uint32_t owner)
{
    uint64_t most = noria_load_relaxed64(&ring->most_owner); /* the swap below orders it */

    for (uint32_t i = 0; i < owner && most < owner; i++) /* a swap that is lost found it higher */
        if (noria_cas_acq_rel64(&ring->most_owner, &most, owner))
            return 0;
    return most < owner ? -EBADMSG : 0;
}

static inline void noria_broadcast_leave_receiver(struct noria_broadcast_receiver *receiver);

/* Makes the sender stay behind `at`, or, if that is given away already, behind the oldest record kept;
 * `at` says then which. The cursor is FREE or EVICTED. 0, -EAGAIN the sender is faster than we are,
 * -EBADMSG, -EBUSY the cursor is somebody else's. */
static inline int noria_broadcast_pin(struct noria_broadcast_receiver *receiver,
                                      struct noria_broadcast_mark *at)
{
    const struct noria_broadcast_shape *shape = &receiver->shape;
    struct noria_broadcast_cursor *cursor = receiver->cursor;
    uint64_t life = noria_load_acquire64(&cursor->life), kept;
    uint64_t mine = (life & ~UINT64_C(3)) + NORIA_CURSOR_EPOCH + NORIA_CURSOR_LIVE;
    int rc = 0;

    if (NORIA_CURSOR_STATE(life) == NORIA_CURSOR_LIVE)
        return -EBUSY;
    noria_store_release64(&cursor->position, at->position); /* K; before the life that makes it count */
    if (!noria_cas_acq_rel64(&cursor->life, &life, mine))   /* E */
        return -EBUSY;
    receiver->life = mine;
    for (int i = 0; i < NORIA_BROADCAST_TRIES; i++) {
        noria_fence_seq_cst(); /* K: pairs with J */
        kept = noria_load_acquire64(&shape->ring->kept);
        if (rc == 0 && !noria_broadcast_before(at->position, kept))
            return 0;
        rc = noria_broadcast_find_mark(shape, kept, at);
        if (rc == -EBADMSG)
            break;
        if (rc == 0)
            noria_store_release64(&cursor->position, at->position); /* K */
    }
    noria_broadcast_leave_receiver(receiver);
    return rc == -EBADMSG ? rc : -EAGAIN;
}

/* Walks on to the wanted sequence, or to the end. 0, -EAGAIN somebody gave away what we walk on (LOSSY),
 * -EBADMSG. */
static inline int noria_broadcast_walk_to(const struct noria_broadcast_receiver *receiver,
                                          struct noria_broadcast_mark *at, enum noria_broadcast_start start,
                                          uint64_t wanted)
{
    const struct noria_broadcast_shape *shape = &receiver->shape;
    uint64_t from = at->position, len;
    int rc = 0;

    while (rc >= 0 && at->position - from <= shape->capacity &&
           (start == NORIA_BROADCAST_NOW || noria_broadcast_before(at->sequence, wanted)))
        rc = noria_broadcast_step(shape, at, &len);
    if (shape->mode != NORIA_BROADCAST_RELIABLE) {
        noria_fence_acquire(); /* H */
        if (shape->mode == NORIA_BROADCAST_LOSSY
                ? noria_broadcast_before(from, noria_load_relaxed64(&shape->ring->kept))
                : noria_load_relaxed64(&receiver->cursor->life) != receiver->life)
            return -EAGAIN;
    }
    /* More than the ring holds is no walk over records. */
    return rc == -EBADMSG || at->position - from > shape->capacity ? -EBADMSG : 0;
}

/* Finds the place to begin, with the cursor there. One try. */
static inline int noria_broadcast_find_start(struct noria_broadcast_receiver *receiver,
                                             enum noria_broadcast_start start, uint64_t wanted)
{
    const struct noria_broadcast_shape *shape = &receiver->shape;
    uint64_t chunk_start = noria_load_acquire64(start == NORIA_BROADCAST_NOW ? &shape->ring->marked /* L */
                                                                            : &shape->ring->kept);
    struct noria_broadcast_mark at;
    int rc = noria_broadcast_find_mark(shape, chunk_start, &at);

    if (rc == 0 && receiver->cursor != NULL)
        rc = noria_broadcast_pin(receiver, &at);
    if (rc == 0 && start != NORIA_BROADCAST_OLDEST)
        rc = noria_broadcast_walk_to(receiver, &at, start, wanted);
    if (rc != 0)
        return rc;
    noria_broadcast_go_to(receiver, &at);
    if (receiver->cursor != NULL)
        noria_store_release64(&receiver->cursor->position, at.position); /* C */
    if (start == NORIA_BROADCAST_POSITION && noria_broadcast_before(wanted, at.sequence))
        receiver->missed = at.sequence - wanted;
    return 0;
}

/* Becomes a receiver, from now on, from the oldest record kept, or from the sequence `wanted` (or the
 * oldest after it: the others are missed). -EAGAIN: the sender ran ahead of us each time. */
static inline int noria_broadcast_join_receiver(struct noria_broadcast_receiver *receiver, void *memory,
                                                size_t size, uint32_t owner, enum noria_broadcast_start start,
                                                uint64_t wanted)
{
    int rc = noria_broadcast_read_shape(&receiver->shape, memory, size);

    if (rc != 0)
        return rc;
    if (owner == 0 || (receiver->shape.mode != NORIA_BROADCAST_LOSSY && owner > receiver->shape.owners))
        return -EINVAL;
    receiver->cursor = NULL;
    receiver->life = 0;
    receiver->missed = 0;
    if (receiver->shape.mode != NORIA_BROADCAST_LOSSY) {
        receiver->cursor = &receiver->shape.cursors[owner - 1];
        if (NORIA_CURSOR_STATE(noria_load_acquire64(&receiver->cursor->life)) != NORIA_CURSOR_FREE) /* F */
            return -EBUSY;
        rc = noria_broadcast_raise_most_owner(receiver->shape.ring, owner);
        if (rc != 0)
            return rc;
    }
    receiver->backoff.position = wanted; /* any will do */
    receiver->backoff.pauses = 1;
    for (int i = 0; i < NORIA_BROADCAST_TRIES; i++) {
        rc = noria_broadcast_find_start(receiver, start, wanted);
        if (rc != 0)
            noria_broadcast_leave_receiver(receiver);
        if (rc != -EAGAIN)
            break;
    }
    return rc;
}

/* ------------------------------------------------------------------------------------------ look, release */

/* Same kind, same length; the sequence is not looked at. */
static inline bool noria_broadcast_is_alike(uint64_t header, uint64_t other)
{
    return (header ^ other) << 30 == 0;
}

/* A header unlike the last, or the first in another lap. Sets what is expected from now on, and how far. */
NORIA_SLOW_PATH int noria_broadcast_look_closer(struct noria_broadcast_receiver *receiver, uint64_t word,
                                                uint64_t *position)
{
    const struct noria_broadcast_shape *shape = &receiver->shape;
    uint64_t len, step, end;
    int rc =
        word == 0 ? -EAGAIN : noria_broadcast_parse(shape, word, *position, receiver->sequence, &len, &step);

    if (rc == 1) {
        *position += step;
        /* Relaxed: written before the pad's header was published, which we have acquired. */
        word = noria_load_relaxed64(noria_broadcast_word_at(shape, *position));
        rc = noria_broadcast_parse(shape, word, *position, receiver->sequence, &len, &step);
        rc = rc == 1 ? -EBADMSG : rc;
    }
    end = receiver->released + shape->capacity; /* more cannot have been written */
    if (rc != 0 || noria_broadcast_before(end, *position + step))
        return rc != 0 ? rc : -EBADMSG;
    receiver->last_header = word;
    receiver->last_size = step;
    receiver->quiet = (*position | shape->mask) + 1;
    if (*position != receiver->position) /* we still stand in front of the pad: nothing is known there */
        receiver->quiet = receiver->position;
    else if (noria_broadcast_before(end, receiver->quiet))
        receiver->quiet = end;
    if (shape->mode == NORIA_BROADCAST_RELIABLE) /* `listeners` is a hint: relaxed */
        receiver->reach =
            noria_load_relaxed64(&shape->ring->listeners) <= 1 ? NORIA_BROADCAST_OWNS : NORIA_BROADCAST_READS;
    return 0;
}

/* Writes the header of a record it holds once more, unchanged, so that its line migrates to the sender at
 * his first touch; see noria_spsc_own_line. Several receivers would write the same value, and the sender
 * none before all have released; but they would pull the line from each other, so only who listens alone
 * does it. */
static inline void noria_broadcast_own_line(uint8_t *data, uint64_t offset, uint64_t mask, uint64_t header)
{
    noria_store_release64((uint64_t *)(uintptr_t)(data + offset), header);
    noria_prefetch_write(data + ((offset + NORIA_BROADCAST_AHEAD) & mask));
}

/* Looks; with `in_place` a record that is there is the caller's to read where it stands. */
static inline int noria_broadcast_look_for(struct noria_broadcast_receiver *receiver,
                                           struct noria_broadcast_record *record, bool in_place)
{
    uint8_t *data = receiver->shape.data; /* once, like the rest: the store of the header might be to anything */
    uint64_t mask = receiver->shape.mask, start = receiver->position, position = start;
    uint64_t next = start + receiver->last_size;
    /* B: acquire, pairs with A in publish; the payload, and every header up to the next zero. */
    uint64_t word = noria_load_acquire64((const uint64_t *)(uintptr_t)(data + (start & mask)));

    /* As in spsc.h: records of one length are common, and then the processor predicts where the next one
     * stands. */
    if (__builtin_expect(!noria_broadcast_is_alike(word, receiver->last_header) ||
                             noria_broadcast_before(receiver->quiet, next),
                         0)) {
        uint64_t place = start; /* not `position`, which would have to live in memory for its address */
        int rc = noria_broadcast_look_closer(receiver, word, &place);
        if (rc != 0)
            return rc;
        position = place;
        next = position + receiver->last_size;
        word = receiver->last_header;
    }
    if (in_place && __builtin_expect(receiver->reach == NORIA_BROADCAST_OWNS, 1))
        noria_broadcast_own_line(data, position & mask, mask, word);
    else if (in_place && receiver->reach == NORIA_BROADCAST_COPIES)
        return -EINVAL;
    record->data = data + (position & mask) + NORIA_BROADCAST_HEADER;
    record->len = (size_t)(word & UINT32_MAX); /* which is the last header's */
    record->position = start;
    record->next = next;
    return 0;
}

/* The next record, in place; nothing is taken. -EAGAIN: at the instant of the look no further record was
 * published. Where records may go before they are read (EVICTING, LOSSY), nothing this says holds before
 * noria_broadcast_is_overtaken. */
static inline int noria_broadcast_look(struct noria_broadcast_receiver *receiver,
                                       struct noria_broadcast_record *record)
{
    return noria_broadcast_look_for(receiver, record, false);
}

/* The same for who reads it there, RELIABLE only. */
static inline int noria_broadcast_look_in_place(struct noria_broadcast_receiver *receiver,
                                                struct noria_broadcast_record *record)
{
    return noria_broadcast_look_for(receiver, record, true);
}

/* Goes behind a record that was looked at. */
static inline void noria_broadcast_pass(struct noria_broadcast_receiver *receiver,
                                        const struct noria_broadcast_record *record)
{
    receiver->position = record->next;
    receiver->sequence++;
}

/* The next record, in place, RELIABLE only. May be called again for the one after it; nothing is given
 * back before release. */
static inline int noria_broadcast_peek(struct noria_broadcast_receiver *receiver,
                                       struct noria_broadcast_record *record)
{
    int rc = noria_broadcast_look_in_place(receiver, record);

    if (rc == 0)
        noria_broadcast_pass(receiver, record);
    return rc;
}

/* Gives back everything before `next`. */
static inline void noria_broadcast_release_before(struct noria_broadcast_receiver *receiver, uint64_t next)
{
    receiver->released = next;
    if (receiver->cursor != NULL) /* C: release, pairs with D; our reads of the bytes before it are done. */
        noria_store_release64(&receiver->cursor->position, next);
}

/* Gives back all peeked records up to and including this one. -EINVAL if it was released before. */
static inline int noria_broadcast_release_through(struct noria_broadcast_receiver *receiver,
                                                  const struct noria_broadcast_record *record)
{
    uint64_t held = receiver->position - receiver->released;

    if (record->next == receiver->released || record->next - receiver->released > held)
        return -EINVAL;
    receiver->released = record->next;
    /* C: as above. Who holds something has a cursor: RELIABLE. */
    noria_store_release64(&receiver->cursor->position, record->next);
    return 0;
}

/* Gives back the oldest record held. -EINVAL if it is not the oldest. */
static inline int noria_broadcast_release(struct noria_broadcast_receiver *receiver,
                                          const struct noria_broadcast_record *record)
{
    if (record->position != receiver->released)
        return -EINVAL;
    return noria_broadcast_release_through(receiver, record);
}

/* -------------------------------------------------------------------- where records may go under our eyes */

/* Whether what was just looked at at `position` may have been overwritten meanwhile. */
static inline bool noria_broadcast_is_overtaken(const struct noria_broadcast_receiver *receiver,
                                                uint64_t position)
{
    /* H: pairs with G; what we read of a later lap was written after kept or life had said so */
    noria_fence_acquire();
    if (receiver->cursor != NULL)
        return receiver->shape.mode == NORIA_BROADCAST_EVICTING &&
               noria_load_relaxed64(&receiver->cursor->life) != receiver->life;
    return noria_broadcast_before(position, noria_load_relaxed64(&receiver->shape.ring->kept));
}

/* LOSSY: a record to go on from, the oldest kept; after some failures in a row a younger one, so that we
 * get away. */
static inline int noria_broadcast_find_ahead(const struct noria_broadcast_receiver *receiver,
                                             unsigned failures, struct noria_broadcast_mark *at)
{
    const struct noria_broadcast_shape *shape = &receiver->shape;
    /* L; first: what is marked then, is so from kept on */
    uint64_t kept = noria_load_acquire64(&shape->ring->kept);
    uint64_t marked = noria_load_acquire64(&shape->ring->marked);
    uint64_t chunks = failures / 8 % NORIA_BROADCAST_CHUNKS;

    if (chunks > (marked - kept) / shape->chunk)
        chunks = 0;
    return noria_broadcast_find_mark(shape, kept + chunks * shape->chunk, at);
}

/* After is_overtaken: goes on from the oldest record kept (or where it is, if that is still kept), and
 * counts what is missed. 0, -EAGAIN, -EBADMSG, -EOWNERDEAD others took us for dead and freed our cursor. */
static inline int noria_broadcast_catch_up(struct noria_broadcast_receiver *receiver, unsigned failures)
{
    struct noria_broadcast_mark at;
    int rc;

    at.position = receiver->position;
    at.sequence = receiver->sequence;
    if (receiver->cursor == NULL)
        rc = noria_broadcast_find_ahead(receiver, failures, &at);
    else if (receiver->life != 0 && noria_load_acquire64(&receiver->cursor->life) !=
                                        ((receiver->life & ~UINT64_C(3)) | NORIA_CURSOR_EVICTED))
        return -EOWNERDEAD; /* 0: an earlier try gave up, and the cursor is free */
    else
        rc = noria_broadcast_pin(receiver, &at);
    if (rc != 0)
        return rc;
    receiver->missed += at.sequence - receiver->sequence;
    noria_broadcast_go_to(receiver, &at);
    return 0;
}

/* Copies the next record out, and goes behind it without giving it back. -EMSGSIZE if `cap` is too small:
 * then *len says how long it is and it stays first. EVICTING and LOSSY: what is copied is whole, and
 * receiver->missed counts what was not there. */
static inline int noria_broadcast_copy_next(struct noria_broadcast_receiver *receiver, void *buffer,
                                            size_t cap, size_t *len)
{
    struct noria_broadcast_record record = {NULL, 0, 0, 0};

    for (unsigned failures = 0; failures < NORIA_BROADCAST_TRIES; failures++) {
        int rc = noria_broadcast_look(receiver, &record);
        if (rc == 0 && record.len <= cap)
            noria_broadcast_copy_out(buffer, (const uint8_t *)record.data, record.len);
        if (!noria_broadcast_is_overtaken(receiver, receiver->position)) {
            if (rc != 0)
                return rc;
            *len = record.len;
            if (record.len > cap)
                return -EMSGSIZE;
            noria_broadcast_pass(receiver, &record);
            return 0;
        }
        rc = noria_broadcast_catch_up(receiver, failures);
        if (rc != 0 && rc != -EAGAIN)
            return rc;
    }
    return -EAGAIN;
}

/* Copies one record out and gives it back. */
static inline int noria_broadcast_recv(struct noria_broadcast_receiver *receiver, void *buffer, size_t cap,
                                       size_t *len)
{
    struct noria_broadcast_record record;
    int rc;

    if (receiver->shape.mode != NORIA_BROADCAST_RELIABLE) {
        rc = noria_broadcast_copy_next(receiver, buffer, cap, len);
        if (rc == 0)
            noria_broadcast_release_before(receiver, receiver->position);
        return rc;
    }
    rc = noria_broadcast_look_in_place(receiver, &record);
    if (rc != 0)
        return rc;
    *len = record.len;
    if (record.len > cap)
        return -EMSGSIZE;
    noria_copy(buffer, record.data, record.len);
    noria_broadcast_pass(receiver, &record);
    noria_broadcast_release_before(receiver, record.next);
    return 0;
}

/* ------------------------------------------------------------------------------ waiting, leaving, looking */

static inline void noria_broadcast_wait_sender(struct noria_broadcast_sender *sender)
{
    noria_backoff_wait(&sender->backoff, sender->sequence, 1, NORIA_BROADCAST_BACKOFF);
}

static inline void noria_broadcast_wait_receiver(struct noria_broadcast_receiver *receiver)
{
    noria_backoff_wait(&receiver->backoff, receiver->position, receiver->last_size, NORIA_BROADCAST_BACKOFF);
}

/* Gives the role back. Records staged and not published are gone, as if never sent. */
static inline void noria_broadcast_leave_sender(struct noria_broadcast_sender *sender)
{
    noria_broadcast_leave_role(sender->shape.ring, sender->role_word, false);
}

/* Gives the cursor back. */
static inline void noria_broadcast_leave_receiver(struct noria_broadcast_receiver *receiver)
{
    uint64_t life = receiver->life, mine = life & ~UINT64_C(3);

    if (receiver->cursor == NULL || life == 0)
        return;
    /* E */
    if (!noria_cas_acq_rel64(&receiver->cursor->life, &life, mine) && life == (mine | NORIA_CURSOR_EVICTED))
        noria_cas_acq_rel64(&receiver->cursor->life, &life, mine); /* nobody but settlers, who free it too */
    receiver->life = 0;
}

/* The life of a receiver's cursor; NORIA_CURSOR_STATE is FREE if it has none. */
static inline uint64_t noria_broadcast_find_cursor(const struct noria_broadcast_shape *shape, uint32_t owner)
{
    /* F */
    return owner == 0 || owner > shape->owners ? 0 : noria_load_acquire64(&shape->cursors[owner - 1].life);
}

/* Frees the cursor of an owner that the caller, after loading `life` by find, has certified to be dead. 1
 * freed by us. */
static inline int noria_broadcast_settle_cursor(const struct noria_broadcast_shape *shape, uint32_t owner,
                                                uint64_t life)
{
    uint64_t expected = life;

    if (owner == 0 || owner > shape->owners || NORIA_CURSOR_STATE(life) == NORIA_CURSOR_FREE)
        return 0;
    /* E, F */
    return noria_cas_acq_rel64(&shape->cursors[owner - 1].life, &expected, life & ~UINT64_C(3)) ? 1 : 0;
}

/* Where the slowest receiver stands, or what is kept if there is none, from outside. */
static inline int noria_broadcast_oldest_wanted(const struct noria_broadcast_shape *shape, uint64_t *position)
{
    struct noria_broadcast_mark at;
    uint64_t kept = noria_load_acquire64(&shape->ring->kept),
             most = noria_load_acquire64(&shape->ring->most_owner);
    bool found = false;
    int rc = noria_broadcast_find_mark(shape, kept, &at);

    *position = at.position;
    for (uint32_t i = 0; i < shape->owners && i < most && rc == 0; i++) {
        uint64_t life = noria_load_acquire64(&shape->cursors[i].life);        /* F */
        uint64_t here = noria_load_acquire64(&shape->cursors[i].position);    /* D */
        if (NORIA_CURSOR_STATE(life) != NORIA_CURSOR_LIVE ||
            (found && !noria_broadcast_before(here, *position)))
            continue;
        *position = here;
        found = true;
    }
    return rc;
}

/* Records, and their bytes, that the slowest receiver has not released (without receivers, or LOSSY: that
 * are kept). Exact while nobody moves; -EAGAIN if it found out that somebody did. */
static inline int noria_broadcast_count(const struct noria_broadcast_shape *shape, uint64_t *records,
                                        uint64_t *bytes)
{
    uint64_t from, again, position, len;
    int rc = noria_broadcast_oldest_wanted(shape, &from);

    *records = 0;
    *bytes = 0;
    if (rc != 0 || (from & 7) != 0)
        return rc != 0 ? rc : -EBADMSG;
    for (position = from; position - from <= shape->capacity - NORIA_BROADCAST_HEADER;) {
        uint64_t word = noria_load_acquire64(noria_broadcast_word_at(shape, position)), step; /* B */
        rc = word == 0 ? -EAGAIN : noria_broadcast_parse(shape, word, position, word >> 34, &len, &step);
        if (rc < 0)
            break;
        *records += rc == 0;
        *bytes += rc == 0 ? len : 0;
        position += step;
    }
    if (noria_broadcast_oldest_wanted(shape, &again) != 0 || again != from)
        return -EAGAIN;
    return rc == -EAGAIN ? 0 : -EBADMSG;
}

/* I1..I3, I5, for tests, fuzzers and fsck. Meaningful while nobody moves. */
static inline bool noria_broadcast_invariant(const void *memory, size_t size)
{
    struct noria_broadcast_shape shape;
    struct noria_broadcast_mark at, mark;
    uint64_t kept, marked, len, next;
    int rc = noria_broadcast_read_shape(&shape, memory, size);

    if (rc != 0)
        return false;
    kept = noria_load_acquire64(&shape.ring->kept);
    marked = noria_load_acquire64(&shape.ring->marked);
    next = kept + shape.chunk;
    rc = noria_broadcast_find_mark(&shape, kept, &at);
    while (rc >= 0 && at.position - kept <= shape.capacity - NORIA_BROADCAST_HEADER) {
        for (; !noria_broadcast_before(at.position, next) && !noria_broadcast_before(marked, next);
             next += shape.chunk)
            if (noria_broadcast_find_mark(&shape, next, &mark) != 0 || mark.position != at.position ||
                mark.sequence != at.sequence)
                return false;
        rc = noria_broadcast_step(&shape, &at, &len);
    }
    return rc == -EAGAIN && next == marked + shape.chunk;
}

#endif
