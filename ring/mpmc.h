/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria MPMC ring: many producers, many consumers, strict FIFO, records up to a fixed size, zero copy.
 *
 * Choose it when more than one handle sends or receives. Works on any memory its caller owns: no system calls, no
 * allocation, no library. Bounded queues of the usual shape (Vyukov's, ck_ring, rte_ring) claim a position first and
 * fill it later, so that a process stopped or killed in between wedges the others. Here the slot's own word carries
 * the whole truth, changed by one compare-and-swap at a time, and whoever finds somebody absent in his way pushes that
 * slot one lap on and walks past it: an absent process costs one slot, not the ring. The ownership word follows the
 * idea of iceoryx2's RobustUniqueIndexSet and LTTng's sub-buffer owner; laps are those of Vyukov's queue and SCQ.
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0        magic and geometry                     written by format, then never again
 *     line 2        write_pos, a hint                      written by producers now and then
 *     line 4        read_pos, a hint                       written by consumers now and then
 *     line 6        orphans, a count of announcements      written by settlers
 *     line 8 ..     slots: state word, length, sender, sequence, payload
 *
 *     state = lap (45 bits) | owner (16, 0 = nobody) | late (1) | kind (2)
 *
 *     READING(lap)  its owner has taken the record of an earlier lap; owner 0: an orphan, to be delivered again
 *     EMPTY(lap)    free for the record of this lap
 *     WRITING(lap)  its owner is filling it               late: it was stepped over once, nobody is patient again
 *     FULL(lap)     the record of this lap is committed
 *     EMPTY, late   closed for good (noria_mpmc_close): no record comes here any more
 *
 *     A position is a free-running 64-bit count; slot = position mod slots, lap = position / slots.
 *
 * Invariants
 *   I1  Every change of a word moves (lap, kind) strictly forward in the order READING < EMPTY < WRITING < FULL <
 *       next lap's READING. So no word ever comes back and a stale compare-and-swap does no harm.
 *   I2  A slot with an owner is used by that owner alone; only settling, after its death, takes it away.
 *   I3  All positions below the first EMPTY one (the first unclaimed) are claimed or were stepped over; all below the
 *       first FULL or WRITING one are consumed or were stepped over. Private guesses and hints never lie beyond.
 *   I4  A record is committed at a position that no consumer has passed. With I3: strict FIFO.
 *
 * The walk (t: first unclaimed position, h: first unconsumed one)
 *
 *     reserve   EMPTY(lap): claim it. Claimed or of a later lap: t + 1. FULL(lap-1): full. READING(lap) or
 *               WRITING(lap-1): somebody is slow here; if there is room beyond, step over (lap + 1), else full.
 *     commit    WRITING -> FULL. If that fails I was stepped over, and my word names a later position p'. Claim an
 *               EMPTY one before p' and move there, or, once t > p', commit in place. So a commit never finds full.
 *     peek      FULL(lap): take it, READING(lap+1). EMPTY(lap), READING(lap): empty. WRITING(lap): if something later
 *               is FULL, step over (lap + 1, late) after a moment's patience; else empty. Later lap: h + 1.
 *     release   READING -> EMPTY of the same lap, whatever that is by now.
 *     settle    WRITING(lap, dead) -> EMPTY(lap+1); READING(lap, dead) -> READING(lap+1, nobody), an orphan, which
 *               the next receiver adopts: READING(lap+1, me), and delivers again, flagged.
 *
 * Orders
 *
 *     producer                                       consumer
 *     load state: EMPTY                 (D)          load state: FULL                  (B)
 *     CAS -> WRITING                    (E)          CAS -> READING                    (B)
 *     write payload                                  read payload
 *     CAS -> FULL                       (A)          CAS -> EMPTY                      (C)
 *     CAS write_pos hint                (G)          CAS read_pos hint                 (G)
 *
 *   A pairs with B: who sees FULL sees the payload.
 *   C pairs with D and E: who claims an EMPTY slot knows that the last reader is done with its bytes.
 *   F: every swap that lets others walk past a position is release, and every look that walks past one is acquire:
 *      claims (E) and takes (B), stepping, adopting, settling. Whoever walks past a position on the strength of a word
 *      sees what its writer had seen and done. (With relaxed steps a writer can see a stale FULL and take the ring for
 *      full in the middle of a commit; with takes that only acquire, a receiver can walk past the taker of one record
 *      to the place where that one had put another, see it EMPTY still, and call a ring empty that never was.)
 *   G: hints, guesses and counts that others go on from are release when stored and acquire when loaded: who starts
 *      there sees the words in front of it at least as new as he who wrote it, so that I3 holds for him too.
 *   H: a slot's length, which a receiver may look at before it claims the slot (noria_mpmc_fits).
 *   No sequential consistency: each decision rests on one word, or on a second look at the same word.
 *
 * Progress and crash: every call is bounded (see the bounds below) and waits for nobody; the ring as a whole is
 * lock-free, across processes that stop or die at any instruction. Killed before E: nothing happened. Between E and A:
 * a WRITING slot, settled to EMPTY. After A: the record is committed. Between B and C: a READING slot, settled to an
 * orphan and delivered again. Killed while settling: the next settler finds what is left (each step is one word).
 *
 * May run together: everything, from any number of threads and processes, except format with anything. One handle may
 * be shared by threads if pack is 1; each reservation belongs to the thread that made it. Records of one thread keep
 * their order if it has one reservation at a time. Not for signal handlers that interrupted the same handle, except
 * reserve, commit and send with pack 1.
 *
 * Nothing read from the memory is trusted: geometry is a private copy, each word is loaded once, indices are masked,
 * lengths bounded, every loop counted. A word that cannot be ends in -EBADMSG.
 *
 * Results: 0 or a count is done; -EAGAIN full or empty; -EMSGSIZE, -EINVAL, -EOWNERDEAD (somebody settled us for
 * dead), -EBADMSG. Sizes are bytes.
 */
#ifndef NORIA_MPMC_H
#define NORIA_MPMC_H

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

#include <noria/atomic.h>

#define NORIA_MPMC_MAGIC UINT64_C(0x31434d504d697230) /* "0riMPMC1" */
#define NORIA_MPMC_MAX_SLOTS (UINT64_C(1) << 32)
#define NORIA_MPMC_MAX_MESSAGE (UINT32_C(1) << 30)
#define NORIA_MPMC_REDELIVERED 1u
#define NORIA_MPMC_SEEN_BEFORE (UINT32_C(1) << 31) /* in a slot's sender: committed with that flag */

enum { NORIA_MPMC_READING = 0, NORIA_MPMC_EMPTY = 1, NORIA_MPMC_WRITING = 2, NORIA_MPMC_FULL = 3 };
enum { NORIA_MPMC_SENDER = 0, NORIA_MPMC_RECEIVER = 1 };
#define NORIA_MPMC_LATE UINT64_C(4)
#define NORIA_MPMC_LAP_SHIFT 19
#define NORIA_MPMC_LAP_BITS 45u
#define NORIA_MPMC_KIND(word) ((unsigned)((word) & 3))
#define NORIA_MPMC_OWNER(word) ((uint32_t)(((word) >> 3) & 0xffff))
#define NORIA_MPMC_LAP(word) ((word) >> NORIA_MPMC_LAP_SHIFT)
#define NORIA_MPMC_OWNED_BY(owner) ((uint64_t)(owner) << 3)

/* Bounds of every loop (P5). Honest contention that exhausts one gets -EAGAIN; a word that cannot be, -EBADMSG.
 * A model checker may set smaller ones; the algorithm does not depend on them. */
#ifndef NORIA_MPMC_RESTARTS
#define NORIA_MPMC_RESTARTS 64 /* second looks that found a changed word */
#endif
#ifndef NORIA_MPMC_RECOUNTS
#define NORIA_MPMC_RECOUNTS 4 /* counts of the records in a full ring that others interrupted by consuming */
#endif
#ifndef NORIA_MPMC_TRIES
#define NORIA_MPMC_TRIES 64 /* compare-and-swaps of a release, a hint, a commit */
#endif
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16 /* positions a hint may lag before it is brought up to date */
#endif
#ifndef NORIA_MPMC_PATIENCE
#define NORIA_MPMC_PATIENCE 64 /* pauses before a writer is stepped over, small slots */
#endif
#ifndef NORIA_MPMC_BACKOFF
#define NORIA_MPMC_BACKOFF 256 /* pauses at most after a failed try */
#endif
#ifndef NORIA_MPMC_MIN_SLOTS
#define NORIA_MPMC_MIN_SLOTS 8
#endif

struct noria_mpmc {
    uint64_t magic; /* written last by format */
    uint64_t slots; /* power of two, >= NORIA_MPMC_MIN_SLOTS */
    uint64_t capacity;
    uint64_t first_position;
    uint32_t max_message;
    uint32_t pack;
    uint32_t owners;
    uint32_t slot_size;
    uint64_t reserved0[10];
    uint64_t write_pos;
    uint64_t reserved1[15];
    uint64_t read_pos;
    uint64_t reserved2[15];
    uint64_t orphans;
    uint64_t reserved3[15];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_mpmc, write_pos) == 128, "write_pos stands in line 2");
NORIA_STATIC_ASSERT(offsetof(struct noria_mpmc, read_pos) == 256, "read_pos stands in line 4");
NORIA_STATIC_ASSERT(offsetof(struct noria_mpmc, orphans) == 384, "orphans stands in line 6");
NORIA_STATIC_ASSERT(sizeof(struct noria_mpmc) == 512, "slots start at line 8");

/* All but `state` belongs to the slot's owner. With pack > 1 the payload is a group word and packed records. */
struct noria_mpmc_slot {
    uint64_t state;
    uint32_t length;
    uint32_t sender;
    uint64_t sequence;
    /* payload follows */
};
NORIA_STATIC_ASSERT(sizeof(struct noria_mpmc_slot) == 24, "payload shares the line of the state word");

/* Group (pack > 1): how many records, how many of them were released; then per record a length and the bytes. */
struct noria_mpmc_group {
    uint32_t count;
    uint32_t done;
};

struct noria_mpmc_config {
    uint64_t capacity;       /* records (groups, with pack) that fit for certain */
    uint64_t slots;          /* 0: the next power of two of capacity + owners * (max_held + 2) */
    uint64_t first_position; /* where positions start; 0 unless a test wants a wrap */
    uint32_t max_message;    /* bytes */
    uint32_t pack;           /* records per slot that send_many may put together; 1 = none */
    uint32_t owners;         /* owners are numbered 1..owners */
    uint32_t max_held;       /* records one owner may hold unreleased */
};

/* Private to the process. The words are relaxed or acquire/release atomics because threads may share a handle. */
struct noria_mpmc_handle {
    struct noria_mpmc *ring;
    uint8_t *slots;
    uint64_t mask;
    uint64_t capacity;
    uint32_t slot_size;
    uint32_t lap_shift; /* position >> lap_shift = lap */
    uint32_t lap_drop;  /* bits of a lap that do not count: 64 - its width */
    uint32_t max_message;
    uint32_t pack;
    uint32_t owner;
    uint32_t owners;
    uint32_t patience;         /* pauses */
    uint32_t prefetch;         /* positions ahead: two lines, or the next slot */
    uint64_t write_guess;      /* a position not beyond the first unclaimed one */
    uint64_t write_hint_known; /* write_pos as last seen or written */
    uint64_t read_floor;       /* a position not beyond the first unconsumed one, as the sender knows it */
    uint64_t solid_to;         /* everything from read_floor to here was seen FULL */
    uint64_t in_the_way;       /* the last word of somebody else's that was stepped over; the caller may ask for him */
    struct noria_backoff send_backoff;
    uint64_t reserved[5];
    uint64_t read_guess;
    uint64_t read_hint_known;
    uint64_t orphans_seen;
    struct noria_backoff recv_backoff;
    struct { /* pack > 1: the group being handed out */
        uint64_t position, offset;
        uint32_t next, count, flags;
        uint64_t cut_position; /* a group that turned out corrupt at record cut_count: it ends there */
        uint32_t cut_count;
    } open;
};

/* A reservation or a peeked record. `data` is 8-byte aligned and valid until commit, abort or release. */
struct noria_mpmc_record {
    void *data;
    size_t len;        /* reserve: bytes that may be written; peek: bytes of the record */
    uint64_t position; /* which slot, and for a reservation where it was claimed */
    uint64_t sequence; /* position it was committed at: stays the same when it is delivered again */
    uint32_t sender;   /* owner who committed it */
    uint32_t flags;    /* NORIA_MPMC_REDELIVERED */
    uint32_t index;    /* in its group */
    uint32_t count;    /* of its group; 1 without pack */
};

/* ------------------------------------------------------------------------------------------- words and positions */

static inline struct noria_mpmc_slot *noria_mpmc_slot_at(const struct noria_mpmc_handle *h, uint64_t position)
{
    return (struct noria_mpmc_slot *)(uintptr_t)(h->slots + (position & h->mask) * h->slot_size);
}

/* Not a flexible array member, which C++ does not have. */
static inline uint8_t *noria_mpmc_payload(const struct noria_mpmc_slot *slot)
{
    return (uint8_t *)(uintptr_t)(slot + 1);
}

static inline uint64_t *noria_mpmc_state_at(const struct noria_mpmc_handle *h, uint64_t position)
{
    return &noria_mpmc_slot_at(h, position)->state;
}

static inline uint64_t noria_mpmc_word(const struct noria_mpmc_handle *h, uint64_t position, unsigned kind,
                                       uint32_t owner)
{
    uint64_t lap = (position >> h->lap_shift) << h->lap_drop >> h->lap_drop;

    return lap << NORIA_MPMC_LAP_SHIFT | NORIA_MPMC_OWNED_BY(owner) | kind;
}

/* How many laps the word is ahead of the position (negative: behind), in the width a lap has. */
static inline int64_t noria_mpmc_ahead(const struct noria_mpmc_handle *h, uint64_t word, uint64_t position)
{
    uint64_t difference = NORIA_MPMC_LAP(word) - (position >> h->lap_shift);

    return (int64_t)(difference << h->lap_drop) >> h->lap_drop;
}

/* The same word `laps` later, with another kind and owner; never late. */
static inline uint64_t noria_mpmc_become(const struct noria_mpmc_handle *h, uint64_t word, uint64_t laps, unsigned kind,
                                         uint32_t owner)
{
    uint64_t lap = (NORIA_MPMC_LAP(word) + laps) << h->lap_drop >> h->lap_drop;

    return lap << NORIA_MPMC_LAP_SHIFT | NORIA_MPMC_OWNED_BY(owner) | kind;
}

/* The word after a step: one lap on, same kind and owner. A writer stepped over is late from then on. */
static inline uint64_t noria_mpmc_stepped(const struct noria_mpmc_handle *h, uint64_t word)
{
    uint64_t late = NORIA_MPMC_KIND(word) == NORIA_MPMC_WRITING ? NORIA_MPMC_LATE : 0;

    return noria_mpmc_become(h, word, 1, NORIA_MPMC_KIND(word), NORIA_MPMC_OWNER(word)) | late;
}

static inline bool noria_mpmc_is_closed(uint64_t word)
{
    return (word & (NORIA_MPMC_LATE | 3)) == (NORIA_MPMC_LATE | NORIA_MPMC_EMPTY);
}

static inline bool noria_mpmc_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

/* Moves a shared hint forward to `position`, which was true when we computed it. */
static inline void noria_mpmc_publish_hint(uint64_t *hint, uint64_t *known, uint64_t position)
{
    uint64_t now = noria_load_relaxed64(hint); /* the compare-and-swap below acquires */

    for (int i = 0; i < NORIA_MPMC_TRIES && noria_mpmc_before(now, position); i++)
        if (noria_cas_acq_rel64(hint, &now, position)) { /* G: what we walked past */
            now = position;
            break;
        }
    noria_store_relaxed64(known, now); /* private; only saves work */
}

/* The budget of one walk (P5). A whole budget spent while the hint stood still is more than honest peers can cause. */
struct noria_mpmc_walk {
    uint64_t *hint_word;
    uint64_t hint;
    uint64_t steps;
    int renewals;
    int restarts;
    uint64_t looked; /* slots looked at beyond the one in the way */
    uint32_t passed;
};

static inline void noria_mpmc_start_walk(const struct noria_mpmc_handle *h, struct noria_mpmc_walk *walk, uint64_t *hint)
{
    memset(walk, 0, sizeof(*walk));
    walk->hint_word = hint;
    walk->steps = 2 * (h->mask + 1) + 16 + h->owners;
}

/* 0 go on, -EAGAIN others outran us again and again, -EBADMSG. */
static inline int noria_mpmc_spend_step(const struct noria_mpmc_handle *h, struct noria_mpmc_walk *walk)
{
    uint64_t hint;

    if (walk->steps-- != 0)
        return 0;
    hint = noria_load_acquire64(walk->hint_word); /* only compared, so acquire is more than it needs */
    if (walk->renewals != 0 && hint == walk->hint)
        return -EBADMSG;
    walk->hint = hint;
    walk->steps = 2 * (h->mask + 1) + 16 + h->owners;
    return ++walk->renewals > NORIA_MPMC_RESTARTS ? -EAGAIN : 0;
}

/* Before a look over many slots. 0, -EBADMSG an owner that cannot be, -EAGAIN too much looking in one call: k absent
 * owners in a row cost k * k / 2, and what was stepped over stays stepped over, so that the next call goes on there. */
static inline int noria_mpmc_spend_look(const struct noria_mpmc_handle *h, struct noria_mpmc_walk *walk, uint64_t word)
{
    if (NORIA_MPMC_OWNER(word) > h->owners)
        return -EBADMSG;
    return walk->looked > 2 * NORIA_MPMC_RESTARTS * (h->mask + 1) ? -EAGAIN : 0;
}

/* The position after one that is claimed or consumed: the hint, if that is ahead. */
static inline uint64_t noria_mpmc_pass(struct noria_mpmc_walk *walk, uint64_t position)
{
    walk->restarts = 0; /* at one position a word changes a few times before it is passed; 64 times is not honest */
    if (walk->passed++ % NORIA_MPMC_HINT_LAG == 0) {
        uint64_t hint = noria_load_acquire64(walk->hint_word); /* G */
        if (noria_mpmc_before(position, hint))
            return hint;
    }
    return position + 1;
}

/* Remembers how far we came, and tells the others when that is news to them. */
static inline void noria_mpmc_advance(uint64_t *guess, uint64_t *hint, uint64_t *known, uint64_t position)
{
    noria_store_release64(guess, position); /* G: threads sharing the handle start here */
    if ((int64_t)(position - noria_load_relaxed64(known)) >= NORIA_MPMC_HINT_LAG)
        noria_mpmc_publish_hint(hint, known, position);
}

/* ------------------------------------------------------------------------------------------------- format, join */

static inline uint64_t noria_mpmc_align(uint64_t size, uint64_t to)
{
    return (size + to - 1) & ~(to - 1);
}

/* Bytes of a slot: small ones share a line in full, larger ones start on a line of their own. */
static inline uint64_t noria_mpmc_slot_bytes(uint32_t max_message, uint32_t pack)
{
    uint64_t payload = noria_mpmc_align(max_message, 8);
    uint64_t size;

    if (pack > 1)
        payload = sizeof(struct noria_mpmc_group) + pack * (payload + 8);
    size = sizeof(struct noria_mpmc_slot) + payload;
    return size <= 32 ? 32 : noria_mpmc_align(size, NORIA_CACHE_LINE);
}

/* Slots a configuration leads to, or 0 if it is not valid. */
static inline uint64_t noria_mpmc_slots(const struct noria_mpmc_config *config)
{
    uint64_t need, slots = NORIA_MPMC_MIN_SLOTS;

    if (config->capacity == 0 || config->capacity > NORIA_MPMC_MAX_SLOTS || config->owners == 0 ||
        config->owners > 0xffff || config->pack == 0 || config->pack > 0xffff ||
        config->max_message > NORIA_MPMC_MAX_MESSAGE ||
        noria_mpmc_slot_bytes(config->max_message, config->pack) > NORIA_MPMC_MAX_MESSAGE)
        return 0;
    if (config->slots != 0) {
        bool valid = config->slots >= NORIA_MPMC_MIN_SLOTS && config->slots <= NORIA_MPMC_MAX_SLOTS &&
                     (config->slots & (config->slots - 1)) == 0 && config->slots >= config->capacity;
        return valid ? config->slots : 0;
    }
    /* Per owner: what it holds, what it reserves, and the position that a reservation loses when it is stepped over. */
    need = config->capacity + (uint64_t)config->owners * ((uint64_t)config->max_held + 2);
    while (slots < need)
        slots *= 2;
    return slots <= NORIA_MPMC_MAX_SLOTS ? slots : 0;
}

/* Bytes needed, 0 if the configuration is not valid. */
static inline size_t noria_mpmc_footprint(const struct noria_mpmc_config *config)
{
    uint64_t slots = noria_mpmc_slots(config), size;

    if (slots == 0)
        return 0;
    size = sizeof(struct noria_mpmc) + slots * noria_mpmc_slot_bytes(config->max_message, config->pack);
    return size <= SIZE_MAX ? (size_t)size : 0;
}

/* Takes the geometry out of the memory once and checks it. 0 or -EBADMSG. */
static inline int noria_mpmc_take_geometry(struct noria_mpmc_handle *h, struct noria_mpmc *ring, size_t size)
{
    struct noria_mpmc_config config;
    uint64_t slots;

    memset(h, 0, sizeof(*h));
    slots = noria_load_relaxed64(&ring->slots); /* constant since format, like the rest of line 0 */
    config.slots = slots == 0 ? 1 : slots;
    config.capacity = noria_load_relaxed64(&ring->capacity);
    config.first_position = 0;
    config.max_message = noria_load_relaxed32(&ring->max_message);
    config.pack = noria_load_relaxed32(&ring->pack);
    config.owners = noria_load_relaxed32(&ring->owners);
    config.max_held = 0;
    if (noria_mpmc_footprint(&config) == 0 || noria_mpmc_footprint(&config) > size)
        return -EBADMSG;
    h->ring = ring;
    h->slots = (uint8_t *)ring + sizeof(*ring);
    h->mask = slots - 1;
    h->capacity = config.capacity;
    h->slot_size = (uint32_t)noria_mpmc_slot_bytes(config.max_message, config.pack);
    h->max_message = config.max_message;
    h->pack = config.pack;
    h->owners = config.owners;
    while (slots >> h->lap_shift != 1)
        h->lap_shift++;
    /* Laps of a large ring wrap, with its positions, before 45 bits are used up. */
    h->lap_drop = h->lap_shift > 64 - NORIA_MPMC_LAP_BITS ? h->lap_shift : 64 - NORIA_MPMC_LAP_BITS;
    h->prefetch = h->slot_size < NORIA_LINE_PAIR ? NORIA_LINE_PAIR / h->slot_size : 1;
    /* At least four copies of a slot, so that a writer of large records is not sent round for ever. */
    h->patience = NORIA_MPMC_PATIENCE + h->slot_size / 32;
    return 0;
}

/* The geometry of a ring that was formatted. 0 or -EBADMSG. */
static inline int noria_mpmc_read_geometry(struct noria_mpmc_handle *h, struct noria_mpmc *ring, size_t size)
{
    if (size < sizeof(*ring) || ((uintptr_t)ring & (NORIA_CACHE_LINE - 1)) != 0)
        return -EBADMSG;
    if (noria_load_acquire64(&ring->magic) != NORIA_MPMC_MAGIC) /* B: pairs with the store in format */
        return -EBADMSG;
    return noria_mpmc_take_geometry(h, ring, size);
}

/* Makes an empty ring. The caller alone uses the memory until this returns. 64-byte aligned memory. */
static inline int noria_mpmc_format(void *memory, size_t size, const struct noria_mpmc_config *config)
{
    struct noria_mpmc *ring = (struct noria_mpmc *)memory;
    struct noria_mpmc_handle h;
    uint64_t slots = noria_mpmc_slots(config);

    if (slots == 0 || noria_mpmc_footprint(config) > size || noria_mpmc_footprint(config) == 0 ||
        ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0)
        return -EINVAL;
    memset(ring, 0, sizeof(*ring));
    ring->slots = slots;
    ring->capacity = config->capacity;
    ring->first_position = config->first_position;
    ring->max_message = config->max_message;
    ring->pack = config->pack;
    ring->owners = config->owners;
    ring->slot_size = (uint32_t)noria_mpmc_slot_bytes(config->max_message, config->pack);
    noria_store_relaxed64(&ring->write_pos, config->first_position); /* the magic publishes all of it */
    noria_store_relaxed64(&ring->read_pos, config->first_position);
    if (noria_mpmc_take_geometry(&h, ring, size) != 0)
        return -EINVAL;
    for (uint64_t i = 0; i < slots; i++) {
        uint64_t position = config->first_position + i;
        noria_store_relaxed64(noria_mpmc_state_at(&h, position), noria_mpmc_word(&h, position, NORIA_MPMC_EMPTY, 0));
    }
    noria_store_release64(&ring->magic, NORIA_MPMC_MAGIC); /* A: who sees the magic sees a whole ring */
    return 0;
}

/* Makes a handle whose geometry was read ready for calls. 0, -EINVAL. */
static inline int noria_mpmc_start(struct noria_mpmc_handle *h, uint32_t owner)
{
    if (owner == 0 || owner > h->owners)
        return -EINVAL;
    h->owner = owner;
    h->write_guess = h->write_hint_known = noria_load_acquire64(&h->ring->write_pos); /* G */
    h->read_guess = h->read_hint_known = noria_load_acquire64(&h->ring->read_pos);    /* G */
    h->read_floor = h->solid_to = h->read_guess;
    h->orphans_seen = noria_load_acquire64(&h->ring->orphans) - 1; /* look once, whatever happened before us */
    return 0;
}

/* Opens a handle on a formatted ring. `owner` 1..owners is whatever the caller uses to tell the living from the dead;
 * no two live handles may have the same. 0, -EINVAL, -EBADMSG. */
static inline int noria_mpmc_join(struct noria_mpmc_handle *h, void *memory, size_t size, uint32_t owner)
{
    int rc = noria_mpmc_read_geometry(h, (struct noria_mpmc *)memory, size);

    return rc != 0 ? rc : noria_mpmc_start(h, owner);
}

/* ------------------------------------------------------------------------------------- room: full counts records */

/* Moves the sender's idea of the first unconsumed position forward: to the hint, then over consumed positions. */
static inline uint64_t noria_mpmc_find_read_floor(struct noria_mpmc_handle *h, uint64_t limit)
{
    uint64_t floor = noria_load_relaxed64(&h->read_floor); /* ours; any older value is true as well */
    uint64_t hint = noria_load_acquire64(&h->ring->read_pos); /* G */

    if (limit - floor > h->mask + 1) /* t is claimable or claimed, so what stood a wheel before it is consumed */
        floor = limit - h->mask - 1;
    if (noria_mpmc_before(floor, hint) && !noria_mpmc_before(limit, hint))
        floor = hint;
    /* B: acquire; we go on to judge the words behind it. */
    while (noria_mpmc_before(floor, limit) &&
           noria_mpmc_ahead(h, noria_load_acquire64(noria_mpmc_state_at(h, floor)), floor) > 0)
        floor++;
    noria_store_relaxed64(&h->read_floor, floor);
    return floor;
}

/* Records from floor up to t, at most `capacity`. A run of FULL positions stays one until it is consumed from its start,
 * so it is counted once, not every time. */
static inline uint64_t noria_mpmc_count_records(struct noria_mpmc_handle *h, uint64_t floor, uint64_t t)
{
    /* G: acquire, pairs with the store below. Who goes on where another thread of the handle stopped knows what that
     * one knew: if positions from our floor on were consumed when he counted, the second look (has_room) says so. */
    uint64_t solid = noria_load_acquire64(&h->solid_to);
    uint64_t records;

    if (noria_mpmc_before(solid, floor) || noria_mpmc_before(t, solid))
        solid = floor;
    records = solid - floor;
    for (uint64_t at = solid; noria_mpmc_before(at, t) && records < h->capacity; at++) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(h, at)); /* B: as in find_read_floor */
        if (noria_mpmc_ahead(h, word, at) == 0 && NORIA_MPMC_KIND(word) == NORIA_MPMC_FULL) {
            records++;
            if (solid == at)
                solid = at + 1;
        }
    }
    noria_store_release64(&h->solid_to, solid); /* G */
    return records;
}

/* Whether fewer than `capacity` records stand before position t. Slots beyond capacity are there for absent peers, so
 * positions that hold no record (passed, or claimed and not committed) do not count. */
static inline bool noria_mpmc_has_room(struct noria_mpmc_handle *h, uint64_t t)
{
    if (t - noria_load_relaxed64(&h->read_floor) < h->capacity) /* private; may lag, never leads */
        return true;
    for (int i = 0; i < NORIA_MPMC_RECOUNTS; i++) {
        uint64_t floor = noria_mpmc_find_read_floor(h, t);
        if (t - floor < h->capacity || noria_mpmc_count_records(h, floor, t) < h->capacity)
            return true;
        /* While the first record stands nothing behind it is taken, so all that was counted was there at once. B */
        if (noria_mpmc_ahead(h, noria_load_acquire64(noria_mpmc_state_at(h, floor)), floor) <= 0)
            return false;
    }
    return false;
}

enum noria_mpmc_step { NORIA_MPMC_NO_STEP, NORIA_MPMC_STEPPED, NORIA_MPMC_CHANGED };

/* Pushes the word at `state` one lap on, so that everybody walks past it. */
static inline enum noria_mpmc_step noria_mpmc_step_over(struct noria_mpmc_handle *h, uint64_t *state, uint64_t word)
{
    /* F: release, what we saw beyond it; acquire, the owner's older words. */
    if (!noria_cas_acq_rel64(state, &word, noria_mpmc_stepped(h, word)))
        return NORIA_MPMC_CHANGED;
    noria_store_relaxed64(&h->in_the_way, word); /* private */
    return NORIA_MPMC_STEPPED;
}

/* Waits a moment for a slow writer. True if the word stayed as it was for the whole patience. */
static inline bool noria_mpmc_is_stuck(const struct noria_mpmc_handle *h, const uint64_t *state, uint64_t word)
{
    if ((word & NORIA_MPMC_LATE) != 0)
        return true;
    for (uint32_t i = 0; i < h->patience; i++) {
        if (noria_load_relaxed64(state) != word) /* the caller starts over and loads it again */
            return false;
        noria_pause();
    }
    return true;
}

/* -------------------------------------------------------------------------------------- reserve, commit, abort */

/* Somebody is slow at t (READING of t's lap or WRITING of the lap before). If there is room beyond, t is stepped over.
 * `mine` is the position my own stepped slot names, or t: it counts as room, for there I can commit in place. */
static inline enum noria_mpmc_step noria_mpmc_step_sender(struct noria_mpmc_handle *h, struct noria_mpmc_walk *walk,
                                                          uint64_t t, uint64_t word, uint64_t mine)
{
    uint64_t *state = noria_mpmc_state_at(h, t);
    bool room = false;

    for (uint64_t j = t + 1; j - t <= h->mask; j++, walk->looked++) {
        uint64_t beyond = noria_load_acquire64(noria_mpmc_state_at(h, j)); /* F */
        int64_t ahead = noria_mpmc_ahead(h, beyond, j);
        unsigned kind = NORIA_MPMC_KIND(beyond);
        room = ahead == 0 && ((kind == NORIA_MPMC_EMPTY && !noria_mpmc_is_closed(beyond)) ||
                              (j == mine && kind == NORIA_MPMC_WRITING && NORIA_MPMC_OWNER(beyond) == h->owner));
        if (room || (ahead == -1 && kind == NORIA_MPMC_FULL))
            break;
    }
    if (!room)
        return noria_load_acquire64(state) == word ? NORIA_MPMC_NO_STEP : NORIA_MPMC_CHANGED; /* D */
    if (NORIA_MPMC_KIND(word) == NORIA_MPMC_WRITING && !noria_mpmc_is_stuck(h, state, word))
        return NORIA_MPMC_CHANGED;
    return noria_mpmc_step_over(h, state, word);
}

/* Walks from *position to the first unclaimed position and claims it. With `mine` != *position only up to there.
 * 0 claimed, 1 walked past `mine`, -EAGAIN full or too much contention, -EBADMSG. */
static inline int noria_mpmc_claim(struct noria_mpmc_handle *h, uint64_t *position, uint64_t mine, bool moving)
{
    struct noria_mpmc_walk walk;
    uint64_t t = *position;
    int rc;

    noria_mpmc_start_walk(h, &walk, &h->ring->write_pos);
    while ((rc = noria_mpmc_spend_step(h, &walk)) == 0) {
        uint64_t *state = noria_mpmc_state_at(h, t);
        uint64_t word = noria_load_acquire64(state); /* D: pairs with C; the last reader's reads are done */
        int64_t ahead = noria_mpmc_ahead(h, word, t);
        unsigned kind = NORIA_MPMC_KIND(word);

        *position = t;
        if (moving && noria_mpmc_before(mine, t))
            return 1;
        if (ahead > 0 || (ahead == 0 && kind >= NORIA_MPMC_WRITING)) { /* passed, or claimed */
            t = noria_mpmc_pass(&walk, t);
            continue;
        }
        if (noria_mpmc_is_closed(word)) { /* nothing new comes in; what was begun before is committed in place */
            if (!moving)
                return -EAGAIN;
            t = noria_mpmc_pass(&walk, t);
            continue;
        }
        if (ahead == -1 && kind == NORIA_MPMC_FULL)
            return -EAGAIN;
        if (!moving && !noria_mpmc_has_room(h, t))
            return -EAGAIN;
        if (ahead == 0 && kind == NORIA_MPMC_EMPTY) {
            /* E: acquire, like D: the bytes are ours from here on. Release, F: for who walks past us. */
            if (noria_cas_acq_rel64(state, &word, noria_mpmc_become(h, word, 0, NORIA_MPMC_WRITING, h->owner)))
                return 0;
        } else if ((ahead == 0 && kind == NORIA_MPMC_READING) || (ahead == -1 && kind == NORIA_MPMC_WRITING)) {
            enum noria_mpmc_step step;
            rc = noria_mpmc_spend_look(h, &walk, word);
            if (rc != 0)
                return rc;
            step = noria_mpmc_step_sender(h, &walk, t, word, moving ? mine : t);
            if (step == NORIA_MPMC_NO_STEP ||
                (step == NORIA_MPMC_CHANGED && ++walk.restarts > NORIA_MPMC_RESTARTS))
                return -EAGAIN;
        } else {
            return -EBADMSG; /* t would lie beyond the first unclaimed position: I3 */
        }
    }
    return rc;
}

/* Where the bytes of a single record go: behind the group word and the record's length, if the ring packs. */
static inline uint8_t *noria_mpmc_first_record(const struct noria_mpmc_handle *h, struct noria_mpmc_slot *slot)
{
    return h->pack > 1 ? noria_mpmc_payload(slot) + sizeof(struct noria_mpmc_group) + 8 : noria_mpmc_payload(slot);
}

/* The usual case, in as few instructions as it takes: the guess is the first unclaimed position, EMPTY, with room. */
static inline bool noria_mpmc_claim_first(struct noria_mpmc_handle *h, uint64_t t)
{
    uint64_t *state = noria_mpmc_state_at(h, t);
    uint64_t word = noria_mpmc_word(h, t, NORIA_MPMC_EMPTY, 0);

    return noria_load_acquire64(state) == word && /* D */
           t - noria_load_relaxed64(&h->read_floor) < h->capacity && /* private; may lag, never leads */
           noria_cas_acq_rel64(state, &word, noria_mpmc_become(h, word, 0, NORIA_MPMC_WRITING, h->owner)); /* E, F */
}

/* Claims a slot. 0, -EAGAIN full (at some instant `capacity` records, or no free slot within reach), -EBADMSG. */
static inline int noria_mpmc_reserve(struct noria_mpmc_handle *h, struct noria_mpmc_record *record)
{
    uint64_t position = noria_load_acquire64(&h->write_guess); /* G */
    struct noria_mpmc_slot *slot;
    int rc = noria_mpmc_claim_first(h, position) ? 0 : noria_mpmc_claim(h, &position, 0, false);

    if (rc != 0) {
        if (noria_mpmc_before(noria_load_relaxed64(&h->write_guess), position))
            noria_mpmc_advance(&h->write_guess, &h->ring->write_pos, &h->write_hint_known, position);
        return rc;
    }
    noria_mpmc_advance(&h->write_guess, &h->ring->write_pos, &h->write_hint_known, position + 1);
    noria_prefetch_write(noria_mpmc_state_at(h, position + h->prefetch));
    slot = noria_mpmc_slot_at(h, position);
    record->data = noria_mpmc_first_record(h, slot);
    record->len = h->max_message;
    record->position = position;
    record->sequence = position;
    record->sender = h->owner;
    record->flags = 0;
    record->index = 0;
    record->count = 1;
    return 0;
}

/* WRITING(mine) -> EMPTY(lap + 1), READING(mine) -> EMPTY(same lap): the slot is free again. 0, -EOWNERDEAD, -EBADMSG */
static inline int noria_mpmc_give_back(struct noria_mpmc_handle *h, uint64_t position, unsigned kind)
{
    uint64_t *state = noria_mpmc_state_at(h, position);
    uint64_t word = noria_load_relaxed64(state); /* ours; the compare-and-swap checks it */

    for (int i = 0; i < NORIA_MPMC_TRIES; i++) {
        uint64_t laps = kind == NORIA_MPMC_WRITING ? 1 : 0;
        if (NORIA_MPMC_KIND(word) != kind || NORIA_MPMC_OWNER(word) != h->owner)
            return -EOWNERDEAD;
        /* C: release, pairs with D and E; we are done with the bytes. Fails only when stepped over (F: acquire). */
        if (noria_cas_acq_rel64(state, &word, noria_mpmc_become(h, word, laps, NORIA_MPMC_EMPTY, 0)))
            return 0;
    }
    return -EBADMSG;
}

/* WRITING(word) -> FULL at `position`. True if the record is committed. */
static inline bool noria_mpmc_fill(struct noria_mpmc_handle *h, uint64_t position, uint64_t word)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, position);

    slot->sequence = position;
    /* A: release, pairs with B in peek; the payload. If it fails: stepped over (F: acquire). */
    return noria_cas_acq_rel64(&slot->state, &word, noria_mpmc_become(h, word, 0, NORIA_MPMC_FULL, 0));
}

/* The commit found its slot stepped over. Moves the record to a position that no consumer has passed (I4): an EMPTY
 * one before the position p' that my word names now, or, if there is none, p' itself, in place. */
static inline int noria_mpmc_recommit(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint64_t bytes)
{
    struct noria_mpmc_slot *old = noria_mpmc_slot_at(h, record->position);
    uint64_t t = noria_load_acquire64(&h->write_guess); /* G */

    for (int i = 0; i < NORIA_MPMC_TRIES; i++) {
        uint64_t word = noria_load_acquire64(&old->state); /* F: pairs with the step that moved us */
        uint64_t mine = record->position +
                        (uint64_t)noria_mpmc_ahead(h, word, record->position) * (h->mask + 1);
        struct noria_mpmc_slot *fresh;
        int rc;

        if (NORIA_MPMC_KIND(word) != NORIA_MPMC_WRITING || NORIA_MPMC_OWNER(word) != h->owner)
            return -EOWNERDEAD;
        rc = noria_mpmc_claim(h, &t, mine, true);
        if (rc < 0)
            return rc;
        if (rc == 1) {
            if (noria_mpmc_fill(h, mine, word)) {
                record->sequence = mine;
                return 0;
            }
            continue;
        }
        fresh = noria_mpmc_slot_at(h, t);
        noria_store_release32(&fresh->length, noria_load_relaxed32(&old->length)); /* H; both slots are ours */
        fresh->sender = old->sender;
        memcpy(noria_mpmc_payload(fresh), noria_mpmc_payload(old), (size_t)bytes);
        if (noria_mpmc_fill(h, t, noria_mpmc_word(h, t, NORIA_MPMC_WRITING, h->owner))) {
            record->sequence = t;
            noria_mpmc_advance(&h->write_guess, &h->ring->write_pos, &h->write_hint_known, t + 1);
            return noria_mpmc_give_back(h, record->position, NORIA_MPMC_WRITING) == -EBADMSG ? -EBADMSG : 0;
        }
        if (noria_mpmc_give_back(h, t, NORIA_MPMC_WRITING) != 0)
            return -EOWNERDEAD;
        t++;
    }
    return -EAGAIN;
}

/* Commits the slot with `bytes` of payload filled. */
static inline int noria_mpmc_commit_bytes(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint32_t length,
                                          uint64_t bytes)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, record->position);

    noria_store_release32(&slot->length, length); /* H: after our claim of the slot; see noria_mpmc_fits */
    slot->sender = h->owner | (record->flags & NORIA_MPMC_REDELIVERED) * NORIA_MPMC_SEEN_BEFORE;
    if (noria_mpmc_fill(h, record->position, noria_mpmc_word(h, record->position, NORIA_MPMC_WRITING, h->owner))) {
        record->sequence = record->position;
        return 0;
    }
    return noria_mpmc_recommit(h, record, bytes);
}

/* Publishes the first `len` bytes of a reservation. Its place in the order is that of the reservation, unless somebody
 * had to step over it meanwhile: then it is that of the commit. 0, -EINVAL longer than
 * reserved, -EOWNERDEAD settled, -EAGAIN after too much contention (the reservation stands: commit again). */
static inline int noria_mpmc_commit(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, size_t len)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, record->position);
    uint64_t bytes = len;

    if (len > h->max_message)
        return -EINVAL;
    if (h->pack > 1) {
        struct noria_mpmc_group group = {1, 0};
        uint32_t length = (uint32_t)len;
        memcpy(noria_mpmc_payload(slot), &group, sizeof(group));
        memcpy(noria_mpmc_payload(slot) + sizeof(group), &length, sizeof(length));
        bytes += sizeof(group) + 8;
    }
    return noria_mpmc_commit_bytes(h, record, (uint32_t)len, bytes);
}

/* Gives a reservation up. Its position stays unused until the wheel comes round. 0, -EOWNERDEAD settled. */
static inline int noria_mpmc_abort(struct noria_mpmc_handle *h, struct noria_mpmc_record *record)
{
    return noria_mpmc_give_back(h, record->position, NORIA_MPMC_WRITING);
}

/* Copies one record in. 0, -EAGAIN full, -EMSGSIZE. */
static inline int noria_mpmc_send(struct noria_mpmc_handle *h, const void *data, size_t len)
{
    struct noria_mpmc_record record;
    int rc;

    if (len > h->max_message)
        return -EMSGSIZE;
    rc = noria_mpmc_reserve(h, &record);
    if (rc != 0)
        return rc;
    noria_copy(record.data, data, len);
    rc = noria_mpmc_commit(h, &record, len);
    if (rc == -EAGAIN)
        noria_mpmc_abort(h, &record);
    return rc;
}

/* Copies up to `pack` of `n` records into one slot. How many, or an error. */
static inline int noria_mpmc_send_group(struct noria_mpmc_handle *h, const struct iovec *messages, int n)
{
    struct noria_mpmc_record record;
    struct noria_mpmc_group group = {0, 0};
    uint64_t offset = sizeof(group);
    uint8_t *payload;
    int rc = messages[0].iov_len > h->max_message ? -EMSGSIZE : noria_mpmc_reserve(h, &record);

    if (rc != 0)
        return rc;
    payload = noria_mpmc_payload(noria_mpmc_slot_at(h, record.position));
    while (group.count < h->pack && group.count < (uint32_t)n && messages[group.count].iov_len <= h->max_message) {
        uint32_t length = (uint32_t)messages[group.count].iov_len;
        memcpy(payload + offset, &length, sizeof(length));
        noria_copy(payload + offset + 8, messages[group.count].iov_base, length);
        offset += 8 + noria_mpmc_align(length, 8);
        group.count++;
    }
    memcpy(payload, &group, sizeof(group));
    rc = noria_mpmc_commit_bytes(h, &record, (uint32_t)messages[0].iov_len, offset);
    if (rc == -EAGAIN)
        noria_mpmc_abort(h, &record);
    return rc == 0 ? (int)group.count : rc;
}

/* Copies `n` records in, in order; with pack > 1 up to that many share a slot and one claim. Returns how many went in
 * (at least 1), or the error that stopped the first one. */
static inline int noria_mpmc_send_many(struct noria_mpmc_handle *h, const struct iovec *messages, int n)
{
    int sent = 0, rc = 0;

    while (sent < n) {
        if (h->pack > 1) {
            rc = noria_mpmc_send_group(h, messages + sent, n - sent);
        } else {
            rc = noria_mpmc_send(h, messages[sent].iov_base, messages[sent].iov_len);
            rc = rc == 0 ? 1 : rc;
        }
        if (rc < 0)
            break;
        sent += rc;
    }
    return sent != 0 ? sent : rc;
}

/* ------------------------------------------------------------------------------------------------ peek, release */

/* WRITING at h. Steps over it if something later is FULL. NO_STEP: nothing committed from h on, the ring is empty. */
static inline enum noria_mpmc_step noria_mpmc_step_receiver(struct noria_mpmc_handle *h, struct noria_mpmc_walk *walk,
                                                            uint64_t at, uint64_t word)
{
    uint64_t *state = noria_mpmc_state_at(h, at);
    bool full = false;

    for (uint64_t j = at + 1; j - at <= h->mask && !full; j++, walk->looked++) {
        uint64_t beyond = noria_load_acquire64(noria_mpmc_state_at(h, j)); /* F */
        int64_t ahead = noria_mpmc_ahead(h, beyond, j);
        if (ahead < 0 || (ahead == 0 && NORIA_MPMC_KIND(beyond) < NORIA_MPMC_WRITING))
            break;
        full = ahead == 0 && NORIA_MPMC_KIND(beyond) == NORIA_MPMC_FULL;
    }
    if (!full)
        return noria_load_acquire64(state) == word ? NORIA_MPMC_NO_STEP : NORIA_MPMC_CHANGED; /* B */
    if (!noria_mpmc_is_stuck(h, state, word))
        return NORIA_MPMC_CHANGED;
    return noria_mpmc_step_over(h, state, word);
}

/* Whether the record under `word` fits into the receiver's buffer. The length may be looked at before the claim: while
 * the word stands, so does the length, and if the word changes the claim fails. */
static inline bool noria_mpmc_fits(const struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint64_t word,
                                   size_t limit)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, record->position);

    /* H: acquire, pairs with the store in commit: a length of a later lap brings that lap's word with it, so that the
     * second look below sees the change. */
    record->len = noria_load_acquire32(&slot->length);
    return record->len <= limit || noria_load_relaxed64(&slot->state) != word; /* ordered by H; changed: claim fails */
}

/* Walks to the first committed record and takes it. 0, -EAGAIN empty, -EMSGSIZE longer than limit, -EBADMSG. */
static inline int noria_mpmc_take(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    uint64_t at = noria_load_acquire64(&h->read_guess); /* G */
    struct noria_mpmc_walk walk;
    int rc;

    noria_mpmc_start_walk(h, &walk, &h->ring->read_pos);
    while ((rc = noria_mpmc_spend_step(h, &walk)) == 0) {
        uint64_t *state = noria_mpmc_state_at(h, at);
        uint64_t word = noria_load_acquire64(state); /* B: pairs with A; the payload */
        int64_t ahead = noria_mpmc_ahead(h, word, at);
        unsigned kind = NORIA_MPMC_KIND(word);

        record->position = at;
        if (ahead == 0 && kind == NORIA_MPMC_FULL) {
            if (!noria_mpmc_fits(h, record, word, limit))
                return -EMSGSIZE;
            /* B: acquire, the payload. Release, F: for who walks past us. */
            if (noria_cas_acq_rel64(state, &word, noria_mpmc_become(h, word, 1, NORIA_MPMC_READING, h->owner)))
                return 0;
        } else if (ahead == 0 && kind == NORIA_MPMC_WRITING) {
            enum noria_mpmc_step step;
            rc = noria_mpmc_spend_look(h, &walk, word);
            if (rc != 0)
                return rc;
            step = noria_mpmc_step_receiver(h, &walk, at, word);
            if (step == NORIA_MPMC_NO_STEP || (step == NORIA_MPMC_CHANGED && ++walk.restarts > NORIA_MPMC_RESTARTS))
                return -EAGAIN;
        } else if (ahead == 0) {
            return -EAGAIN;
        } else if (ahead > 0) { /* consumed, or stepped over */
            at = noria_mpmc_pass(&walk, at);
        } else {
            return -EBADMSG; /* beyond the first unclaimed position: I3 */
        }
    }
    return rc;
}

/* The usual case: the guess is the first unconsumed position, FULL, and fits. */
static inline bool noria_mpmc_take_first(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    uint64_t at = noria_load_acquire64(&h->read_guess); /* G */
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, at);
    uint64_t word = noria_mpmc_word(h, at, NORIA_MPMC_FULL, 0);

    record->position = at;
    return noria_load_acquire64(&slot->state) == word &&      /* B */
           noria_load_acquire32(&slot->length) <= limit && /* H; too long is found again, and said, by noria_mpmc_take */
           noria_cas_acq_rel64(&slot->state, &word, /* B, F */
                               noria_mpmc_become(h, word, 1, NORIA_MPMC_READING, h->owner));
}

/* Adopts a record that a dead receiver had not released. 0, -EAGAIN there is none, -EMSGSIZE. */
static inline int noria_mpmc_adopt(struct noria_mpmc_handle *h, uint64_t announced, size_t limit,
                                   struct noria_mpmc_record *record)
{
    int lost = 0;

    for (uint64_t i = 0; i <= h->mask; i++) {
        uint64_t *state = noria_mpmc_state_at(h, i);
        uint64_t word = noria_load_acquire64(state); /* F: pairs with the settler's; through it the dead one's take */
        /* Once more when the swap is lost: a sender may have stepped over the orphan, which is still nobody's. */
        while (NORIA_MPMC_KIND(word) == NORIA_MPMC_READING && NORIA_MPMC_OWNER(word) == 0) {
            record->position = i;
            if (h->pack == 1 && !noria_mpmc_fits(h, record, word, limit)) /* of a group only its holder knows the rest */
                return -EMSGSIZE;
            if (noria_cas_acq_rel64(state, &word, noria_mpmc_become(h, word, 1, NORIA_MPMC_READING, h->owner))) /* F */
                return 0;
            if (++lost > NORIA_MPMC_TRIES)
                return -EAGAIN; /* the announcement stays unseen, so the next call looks again */
        }
    }
    noria_store_relaxed64(&h->orphans_seen, announced); /* private; none left of those announced up to here */
    return -EAGAIN;
}

/* Who committed it, and whether he had it from somebody who had delivered it before. */
static inline void noria_mpmc_read_sender(const struct noria_mpmc_slot *slot, struct noria_mpmc_record *record)
{
    uint32_t sender = noria_load_relaxed32(&slot->sender); /* B acquired it; once, like the length */

    record->sender = sender & ~NORIA_MPMC_SEEN_BEFORE;
    record->flags |= (sender & NORIA_MPMC_SEEN_BEFORE) != 0 ? NORIA_MPMC_REDELIVERED : 0;
}

/* Reads the slot just taken. The length is loaded again, so it is bounded again: what the copy uses is what was checked. */
static inline int noria_mpmc_open_record(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, record->position);
    uint32_t length = noria_load_relaxed32(&slot->length); /* once: its owner could be hostile */

    record->sequence = noria_load_relaxed64(&slot->sequence); /* B acquired them; once, like the length */
    noria_mpmc_read_sender(slot, record);
    record->index = 0;
    record->count = 1;
    record->data = noria_mpmc_payload(slot);
    record->len = length;
    return length <= h->max_message && length <= limit ? 0 : -EBADMSG;
}

/* Relaxed: acquired with the slot's word (B); loaded once, for its owner could be hostile. */
static inline struct noria_mpmc_group noria_mpmc_load_group(const struct noria_mpmc_handle *h, uint64_t position)
{
    const uint32_t *word = (const uint32_t *)(const void *)noria_mpmc_payload(noria_mpmc_slot_at(h, position));
    struct noria_mpmc_group group;

    group.count = noria_load_relaxed32(word);
    group.done = noria_load_relaxed32(word + 1);
    return group;
}

/* pack > 1: the next record of the group that is being handed out. 0, -EAGAIN no group open, -EMSGSIZE, -EBADMSG. */
static inline int noria_mpmc_next_of_group(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, h->open.position);
    uint64_t room = h->slot_size - sizeof(*slot);
    uint32_t length;

    if (h->open.next == h->open.count)
        return -EAGAIN;
    if (h->open.offset + 8 > room)
        return -EBADMSG;
    length = noria_load_relaxed32((const uint32_t *)(const void *)(noria_mpmc_payload(slot) + h->open.offset));
    if (length > h->max_message || h->open.offset + 8 + length > room)
        return -EBADMSG;
    record->len = length;
    if (length > limit)
        return -EMSGSIZE;
    record->data = noria_mpmc_payload(slot) + h->open.offset + 8;
    record->position = h->open.position;
    record->sequence = noria_load_relaxed64(&slot->sequence) * h->pack + h->open.next; /* B acquired it, as above */
    record->flags = h->open.flags;
    noria_mpmc_read_sender(slot, record);
    record->index = h->open.next++;
    record->count = h->open.count;
    h->open.offset += 8 + noria_mpmc_align(length, 8);
    return 0;
}

/* pack > 1: opens the group in the slot just taken, at the first record its last holder had not released. */
static inline int noria_mpmc_open_group(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    struct noria_mpmc_group group;
    int rc = 0;

    group = noria_mpmc_load_group(h, record->position);
    if (group.count == 0 || group.count > h->pack || group.done >= group.count)
        return -EBADMSG;
    h->open.position = record->position;
    h->open.offset = sizeof(group);
    h->open.next = 0;
    h->open.count = group.count;
    h->open.flags = record->flags;
    while (rc == 0 && h->open.next < group.done)
        rc = noria_mpmc_next_of_group(h, SIZE_MAX, record);
    return rc == 0 ? noria_mpmc_next_of_group(h, limit, record) : rc;
}

/* pack > 1: the open group cannot be read on. It ends at its last good record, with whose release the slot is free. */
static inline void noria_mpmc_cut_group(struct noria_mpmc_handle *h)
{
    struct noria_mpmc_group group;

    group = noria_mpmc_load_group(h, h->open.position);
    if (group.done >= h->open.next) {
        noria_mpmc_give_back(h, h->open.position, NORIA_MPMC_READING);
    } else {
        h->open.cut_position = h->open.position;
        h->open.cut_count = h->open.next;
    }
    h->open.next = h->open.count;
}

/* Takes the first committed record. 0, -EAGAIN empty, -EMSGSIZE, -EBADMSG. */
static inline int noria_mpmc_claim_committed(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    int rc = noria_mpmc_take_first(h, limit, record) ? 0 : noria_mpmc_take(h, limit, record);

    if (rc == 0) {
        noria_mpmc_advance(&h->read_guess, &h->ring->read_pos, &h->read_hint_known, record->position + 1);
        noria_prefetch_write(noria_mpmc_state_at(h, record->position + h->prefetch));
    } else if (noria_mpmc_before(noria_load_relaxed64(&h->read_guess), record->position)) /* a walk worth keeping */
        noria_mpmc_advance(&h->read_guess, &h->ring->read_pos, &h->read_hint_known, record->position);
    return rc;
}

/* Takes an orphan if there is one, else the first committed record. */
static inline int noria_mpmc_claim_record(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    uint64_t announced = noria_load_acquire64(&h->ring->orphans); /* F: pairs with the settler's announcement */
    int rc = -EAGAIN;

    record->position = 0;
    record->flags = 0;
    if (announced != noria_load_relaxed64(&h->orphans_seen)) { /* private */
        rc = noria_mpmc_adopt(h, announced, limit, record);
        record->flags = rc == 0 ? NORIA_MPMC_REDELIVERED : 0;
    }
    return rc == -EAGAIN ? noria_mpmc_claim_committed(h, limit, record) : rc;
}

/* The first committed record of at most `limit` bytes, in place; orphans of dead receivers come first. May be called
 * again for the next one: each handle holds what it has peeked until release. -EAGAIN empty: at some instant of the
 * call nothing was committed. -EMSGSIZE: record->len says how long the first one is; it stays first. */
static inline int noria_mpmc_peek_within(struct noria_mpmc_handle *h, size_t limit, struct noria_mpmc_record *record)
{
    int rc = h->pack > 1 ? noria_mpmc_next_of_group(h, limit, record) : -EAGAIN;
    uint64_t position;

    if (rc == -EBADMSG)
        noria_mpmc_cut_group(h);
    if (rc != -EAGAIN)
        return rc;
    rc = noria_mpmc_claim_record(h, limit, record);
    if (rc != 0)
        return rc;
    position = record->position;
    rc = h->pack > 1 ? noria_mpmc_open_group(h, limit, record) : noria_mpmc_open_record(h, limit, record);
    if (rc == -EBADMSG) { /* nothing to hand out: drop it, so that the slot is not lost with it */
        h->open.next = h->open.count;
        noria_mpmc_give_back(h, position, NORIA_MPMC_READING);
    }
    return rc;
}

static inline int noria_mpmc_peek(struct noria_mpmc_handle *h, struct noria_mpmc_record *record)
{
    return noria_mpmc_peek_within(h, SIZE_MAX, record);
}

/* Releases a peeked record, in any order (of a group: in its order). 0, -EINVAL, -EOWNERDEAD settled. */
static inline int noria_mpmc_release(struct noria_mpmc_handle *h, struct noria_mpmc_record *record)
{
    if (record->count > 1) {
        struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, record->position);
        uint32_t *done = (uint32_t *)(void *)(noria_mpmc_payload(slot) + offsetof(struct noria_mpmc_group, done));
        bool cut = h->open.cut_count != 0 && h->open.cut_position == record->position;
        /* Relaxed: ours alone until the slot is given back, or until our death, when settling orders it. */
        if (noria_load_relaxed32(done) != record->index)
            return -EINVAL;
        if (record->index + 1 < (cut ? h->open.cut_count : record->count)) {
            noria_store_relaxed32(done, record->index + 1);
            return 0;
        }
        if (cut)
            h->open.cut_count = 0;
    } /* the last one is released with the slot, in one step */
    return noria_mpmc_give_back(h, record->position, NORIA_MPMC_READING);
}

/* Copies one record out. -EMSGSIZE if `cap` is too small: then *len says how long it is and it stays first. */
static inline int noria_mpmc_recv(struct noria_mpmc_handle *h, void *buffer, size_t cap, size_t *len)
{
    struct noria_mpmc_record record;
    int rc = noria_mpmc_peek_within(h, cap, &record);

    if (rc == 0 || rc == -EMSGSIZE)
        *len = record.len;
    if (rc != 0)
        return rc;
    noria_copy(buffer, record.data, record.len);
    return noria_mpmc_release(h, &record);
}

/* Copies up to `n` records out and sets each iov_len. How many (at least 1), or the error of the first one. */
static inline int noria_mpmc_recv_many(struct noria_mpmc_handle *h, struct iovec *buffers, int n)
{
    int received = 0, rc = 0;

    while (received < n && rc == 0) {
        size_t len;
        rc = noria_mpmc_recv(h, buffers[received].iov_base, buffers[received].iov_len, &len);
        if (rc == 0)
            buffers[received++].iov_len = len;
    }
    return received != 0 ? received : rc;
}

/* Stays away from the other side's lines for a moment after a failed try (see noria_backoff_wait). */
static inline void noria_mpmc_wait(struct noria_mpmc_handle *h, int side)
{
    if (side == NORIA_MPMC_SENDER)
        noria_backoff_wait(&h->send_backoff, noria_load_relaxed64(&h->write_guess), 1, NORIA_MPMC_BACKOFF); /* private */
    else
        noria_backoff_wait(&h->recv_backoff, noria_load_relaxed64(&h->read_guess), 1, NORIA_MPMC_BACKOFF);
}

/* ------------------------------------------------------------------------------------------ find, settle, count */

/* Looks for a slot that names `owner` (0: an orphan), from slot *index on. 1: *word at *index names it; 0: none. */
static inline int noria_mpmc_find(const struct noria_mpmc_handle *h, uint32_t owner, uint64_t *index, uint64_t *word)
{
    for (; *index <= h->mask; ++*index) {
        unsigned kind;
        /* F: whoever looks after us whether the owner is dead sees at least the life in which it wrote this. */
        *word = noria_load_acquire64(noria_mpmc_state_at(h, *index));
        kind = NORIA_MPMC_KIND(*word);
        if (NORIA_MPMC_OWNER(*word) == owner && (kind == NORIA_MPMC_READING || kind == NORIA_MPMC_WRITING))
            return 1;
    }
    return 0;
}

/* Makes every receiver look for orphans once more. Settling does it; whoever declares an owner's slots settled does it
 * again, because an earlier settler may have died between the word and the announcement. */
static inline void noria_mpmc_announce(struct noria_mpmc_handle *h)
{
    noria_add_release64(&h->ring->orphans, 1); /* F: pairs with the load in peek; the orphan's word */
}

/* Takes the slot away from an owner that the caller, AFTER loading `word` by find, has certified to be dead: a half
 * written record is dropped, a record taken and not released becomes an orphan. 1 done by us, 0 the word had changed
 * (find it and certify again). Settlers may run together, stop or die; each change is one compare-and-swap. */
static inline int noria_mpmc_settle(struct noria_mpmc_handle *h, uint64_t index, uint64_t word)
{
    bool reading = NORIA_MPMC_KIND(word) == NORIA_MPMC_READING;
    uint64_t next = noria_mpmc_become(h, word, 1, reading ? NORIA_MPMC_READING : NORIA_MPMC_EMPTY, 0);

    if (NORIA_MPMC_OWNER(word) == 0 || (!reading && NORIA_MPMC_KIND(word) != NORIA_MPMC_WRITING))
        return 0;
    if (!noria_cas_acq_rel64(noria_mpmc_state_at(h, index), &word, next)) /* F */
        return 0;
    if (reading)
        noria_mpmc_announce(h);
    return 1;
}

/* The same, but a record taken and not released is dropped too (also an orphan's). 1 done by us, 0 changed. */
static inline int noria_mpmc_discard(struct noria_mpmc_handle *h, uint64_t index, uint64_t word)
{
    uint64_t laps = NORIA_MPMC_KIND(word) == NORIA_MPMC_WRITING ? 1 : 0;

    if (NORIA_MPMC_KIND(word) != NORIA_MPMC_READING && NORIA_MPMC_KIND(word) != NORIA_MPMC_WRITING)
        return 0;
    return noria_cas_acq_rel64(noria_mpmc_state_at(h, index), &word,
                               noria_mpmc_become(h, word, laps, NORIA_MPMC_EMPTY, 0)); /* F */
}

/* ----------------------------------------------------------------------------------------------------------- closing */

/*
 * A ring that is to go is closed slot by slot: an EMPTY one gets the late bit, which no other word of that kind has, and no claim
 * succeeds on it; a claim that finds a closed slot says that the ring is full. A closed slot stays closed. A slot that somebody
 * fills or reads is closed when he is done, so a ring whose slots are all closed is in nobody's use, and holds no record.
 *
 * Once a slot is closed, records that were begun before may come to stand behind it, where take does not look: their slots are those
 * that could not be closed.
 */

/* Closes one slot. The word that stands there then, or that cannot be closed yet. */
static inline uint64_t noria_mpmc_close_slot(struct noria_mpmc_handle *h, uint64_t index)
{
    uint64_t *state = noria_mpmc_state_at(h, index);
    uint64_t word = noria_load_acquire64(state); /* D: pairs with C; the last reader is done with the bytes */

    if (NORIA_MPMC_KIND(word) != NORIA_MPMC_EMPTY || noria_mpmc_is_closed(word))
        return word;
    return noria_cas_acq_rel64(state, &word, word | NORIA_MPMC_LATE) ? word | NORIA_MPMC_LATE : word; /* F */
}

/* Closes the slots from *index on, up to one that is in use. 1 all are closed; 0 the one at *index is not. */
static inline int noria_mpmc_close(struct noria_mpmc_handle *h, uint64_t *index)
{
    while (*index <= h->mask && noria_mpmc_is_closed(noria_mpmc_close_slot(h, *index)))
        ++*index;
    return *index > h->mask;
}

/* Walks to the first committed record, as take does, but leaves it there: record->position, *word. 0, -EAGAIN empty,
 * -EBADMSG. */
static inline int noria_mpmc_walk_to_full(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint64_t *word)
{
    uint64_t at = noria_load_acquire64(&h->read_guess); /* G */
    struct noria_mpmc_walk walk;
    int rc;

    record->position = at;
    noria_mpmc_start_walk(h, &walk, &h->ring->read_pos);
    while ((rc = noria_mpmc_spend_step(h, &walk)) == 0) {
        int64_t ahead;

        *word = noria_load_acquire64(noria_mpmc_state_at(h, at)); /* B: pairs with A; what its sender did before */
        ahead = noria_mpmc_ahead(h, *word, at);
        record->position = at;
        if (ahead == 0 && NORIA_MPMC_KIND(*word) == NORIA_MPMC_FULL)
            return 0;
        if (ahead == 0 && NORIA_MPMC_KIND(*word) == NORIA_MPMC_WRITING) {
            enum noria_mpmc_step step;
            rc = noria_mpmc_spend_look(h, &walk, *word);
            if (rc != 0)
                return rc;
            step = noria_mpmc_step_receiver(h, &walk, at, *word);
            if (step == NORIA_MPMC_NO_STEP ||
                (step == NORIA_MPMC_CHANGED && ++walk.restarts > NORIA_MPMC_RESTARTS))
                return -EAGAIN;
        } else if (ahead > 0) {
            at = noria_mpmc_pass(&walk, at);
        } else {
            return ahead == 0 ? -EAGAIN : -EBADMSG;
        }
    }
    return rc;
}

/* The same, and remembers how far it came: a walk that began at the same place again and again would use up its budget
 * as soon as enough was received. */
static inline int noria_mpmc_look(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint64_t *word)
{
    int rc = noria_mpmc_walk_to_full(h, record, word);

    if (noria_mpmc_before(noria_load_relaxed64(&h->read_guess), record->position)) /* private; only saves work */
        noria_mpmc_advance(&h->read_guess, &h->ring->read_pos, &h->read_hint_known, record->position);
    return rc;
}

/* Claims exactly the record that was found by look. False: it is gone. While it stood nothing behind it was taken. */
static inline bool noria_mpmc_claim_found(struct noria_mpmc_handle *h, uint64_t word, struct noria_mpmc_record *record)
{
    return noria_cas_acq_rel64(noria_mpmc_state_at(h, record->position), &word, /* B, F */
                               noria_mpmc_become(h, word, 1, NORIA_MPMC_READING, h->owner));
}

/* Takes exactly the record that was found by look. 0, -EAGAIN it is gone, -EMSGSIZE, -EBADMSG. */
static inline int noria_mpmc_take_found(struct noria_mpmc_handle *h, uint64_t word, size_t limit,
                                        struct noria_mpmc_record *record)
{
    uint64_t position = record->position;
    int rc;

    record->flags = 0;
    if (!noria_mpmc_fits(h, record, word, limit))
        return -EMSGSIZE;
    if (!noria_mpmc_claim_found(h, word, record))
        return -EAGAIN;
    rc = noria_mpmc_open_record(h, limit, record);
    if (rc == -EBADMSG)
        noria_mpmc_give_back(h, position, NORIA_MPMC_READING);
    return rc;
}

/* ----------------------------------------------------------------------------------------------------- may we? */

/* Whether for certain nothing is there: the position where a receive would begin is not claimed yet, and no position behind
 * it can be (I3), nor was an orphan announced since this handle found none. False says nothing. */
static inline bool noria_mpmc_starts_empty(const struct noria_mpmc_handle *h)
{
    uint64_t at = noria_load_acquire64(&h->read_guess); /* G */

    return noria_load_acquire64(&h->ring->orphans) == noria_load_relaxed64(&h->orphans_seen) && /* F; private */
           noria_load_acquire64(noria_mpmc_state_at(h, at)) == noria_mpmc_word(h, at, NORIA_MPMC_EMPTY, 0); /* F */
}

/* Whether a receive would find something just now. Takes nothing, so it is a hint: another may be faster. Errs on the
 * side of true (a word that cannot be: the receive will say so). */
static inline bool noria_mpmc_may_receive(struct noria_mpmc_handle *h)
{
    uint64_t at = noria_load_acquire64(&h->read_guess); /* G */
    uint64_t announced = noria_load_acquire64(&h->ring->orphans); /* F */
    struct noria_mpmc_walk walk;

    if (h->open.next != h->open.count)
        return true;
    if (announced != noria_load_relaxed64(&h->orphans_seen)) { /* private */
        uint64_t index = 0, word;
        if (noria_mpmc_find(h, 0, &index, &word))
            return true;
        noria_store_relaxed64(&h->orphans_seen, announced);
    }
    noria_mpmc_start_walk(h, &walk, &h->ring->read_pos);
    while (noria_mpmc_spend_step(h, &walk) == 0) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(h, at)); /* B */
        int64_t ahead = noria_mpmc_ahead(h, word, at);
        if (ahead > 0)
            at = noria_mpmc_pass(&walk, at);
        else if (ahead == 0 && NORIA_MPMC_KIND(word) == NORIA_MPMC_WRITING)
            at++; /* a receive would step over it for a record behind it */
        else
            return ahead < 0 || NORIA_MPMC_KIND(word) == NORIA_MPMC_FULL;
    }
    return true;
}

/* Whether a send would find room just now. A hint, too. */
static inline bool noria_mpmc_may_send(struct noria_mpmc_handle *h)
{
    uint64_t t = noria_load_acquire64(&h->write_guess); /* G */
    struct noria_mpmc_walk walk;

    noria_mpmc_start_walk(h, &walk, &h->ring->write_pos);
    while (noria_mpmc_spend_step(h, &walk) == 0) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(h, t)); /* D */
        int64_t ahead = noria_mpmc_ahead(h, word, t);
        unsigned kind = NORIA_MPMC_KIND(word);
        if (ahead > 0 || (ahead == 0 && kind >= NORIA_MPMC_WRITING))
            t = noria_mpmc_pass(&walk, t);
        else if ((ahead == 0 && kind == NORIA_MPMC_READING) || (ahead == -1 && kind == NORIA_MPMC_WRITING))
            t++; /* a send would step over it for room behind it */
        else
            return ahead < -1 || (ahead == 0 && noria_mpmc_has_room(h, t)) ||
                   (ahead == -1 && kind != NORIA_MPMC_FULL);
    }
    return true;
}

/* What the slots hold. Exact while nobody moves. */
struct noria_mpmc_census {
    uint64_t full;    /* slots with a committed record or group */
    uint64_t bytes;   /* of their first records: all of them, without pack */
    uint64_t writing;
    uint64_t reading; /* orphans included */
    uint64_t orphans;
    uint64_t words; /* sum of all state words: the same twice means that nobody moved between */
};

static inline void noria_mpmc_count(const struct noria_mpmc_handle *h, struct noria_mpmc_census *census)
{
    memset(census, 0, sizeof(*census));
    for (uint64_t i = 0; i <= h->mask; i++) {
        struct noria_mpmc_slot *slot = noria_mpmc_slot_at(h, i);
        uint64_t word = noria_load_acquire64(&slot->state); /* B */
        unsigned kind = NORIA_MPMC_KIND(word);
        census->words += word;
        census->full += kind == NORIA_MPMC_FULL;
        census->bytes += kind == NORIA_MPMC_FULL ? noria_load_relaxed32(&slot->length) : 0; /* B acquired it */
        census->writing += kind == NORIA_MPMC_WRITING;
        census->reading += kind == NORIA_MPMC_READING;
        census->orphans += kind == NORIA_MPMC_READING && NORIA_MPMC_OWNER(word) == 0;
    }
}

/* Whether one slot's word can be, as far as it alone can tell. */
static inline bool noria_mpmc_word_valid(const struct noria_mpmc_handle *h, uint64_t position, uint64_t word)
{
    unsigned kind = NORIA_MPMC_KIND(word);
    uint32_t owner = NORIA_MPMC_OWNER(word);

    if (owner > h->owners || ((word & NORIA_MPMC_LATE) != 0 && kind != NORIA_MPMC_WRITING && kind != NORIA_MPMC_EMPTY))
        return false;
    if ((kind == NORIA_MPMC_EMPTY || kind == NORIA_MPMC_FULL) && owner != 0)
        return false;
    if (kind == NORIA_MPMC_WRITING && owner == 0)
        return false;
    return kind != NORIA_MPMC_FULL || noria_load_relaxed32(&noria_mpmc_slot_at(h, position)->length) <= h->max_message;
}

/* I3, I4 and the hints, for tests, fuzzers and fsck. Meaningful while nobody moves, in a ring without closed slots (behind
 * which records may come to stand). */
static inline bool noria_mpmc_invariant(const void *memory, size_t size)
{
    struct noria_mpmc_handle h;
    uint64_t base, unclaimed, unconsumed, last_full;
    bool any_full = false;

    if (noria_mpmc_read_geometry(&h, (struct noria_mpmc *)(uintptr_t)memory, size) != 0)
        return false;
    base = noria_load_acquire64(&h.ring->write_pos) & ~h.mask;
    unclaimed = unconsumed = last_full = base + 8 * (h.mask + 1);
    for (uint64_t i = 0; i <= h.mask; i++) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(&h, i));
        int64_t ahead = noria_mpmc_ahead(&h, word, base);
        uint64_t at = base + i + (uint64_t)ahead * (h.mask + 1);
        bool claimed = NORIA_MPMC_KIND(word) >= NORIA_MPMC_WRITING;
        uint64_t next = claimed ? at + h.mask + 1 : at;
        if (!noria_mpmc_word_valid(&h, i, word))
            return false;
        unclaimed = noria_mpmc_before(next, unclaimed) ? next : unclaimed;
        unconsumed = noria_mpmc_before(at, unconsumed) ? at : unconsumed;
        if (NORIA_MPMC_KIND(word) == NORIA_MPMC_FULL) {
            last_full = !any_full || noria_mpmc_before(last_full, at) ? at : last_full;
            any_full = true;
        }
    }
    return (!any_full || noria_mpmc_before(last_full, unclaimed)) &&
           !noria_mpmc_before(unclaimed, noria_load_acquire64(&h.ring->write_pos)) &&
           !noria_mpmc_before(unconsumed, noria_load_acquire64(&h.ring->read_pos)) &&
           unclaimed - unconsumed <= h.mask + 1;
}

#endif
