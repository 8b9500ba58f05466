/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria chain: a queue without a fixed size, made of MPMC rings ("links") of doubling size that come and go.
 *
 * Choose it when a sender must not wait while memory is left. One range of memory as large as the ceiling
 * is cut, once and for all, into smaller ranges; a link lives in one of them. Who finds the newest link
 * full takes a free range and puts a new link behind; who finds an old link empty closes it and gives its
 * range back. So nothing has a name or a descriptor that could leak, and the words of the ranges say who
 * is at work on what. The idea of linked rings is that of LCRQ and of moodycamel's blocks.
 *
 * This file makes no system calls: between claiming a range and linking it, and between reclaiming and
 * freeing it, the caller gets and gives back the pages.
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0        magic and geometry                           written by format, then never again
 *     line 2        tail: the newest link, generation and range  written by who grows
 *     line 4 ..     a word per range
 *     then          per owner, per range: how many of its threads are in that link   written by that owner
 *     4096 n        the ranges
 *
 *     range = generation (45 bits) | owner (16) | kind (3)
 *
 *     FREE -> BUILDING(owner) -> LIVE -> RETIRED -> CLOSING(owner) -> FREE
 *                     |                                  ^
 *                     +----------------------------------+--- did not become the tail, or its owner died
 *
 * Invariants
 *   I1  The generation of a range grows with each claim and each change of owner, and is larger than that of
 *       the tail it is claimed behind; so no word comes back.
 *   I2  A link is in the chain if its range is LIVE, or BUILDING and named by the tail. Its place in the
 *       chain is its generation. The tail moves on only when the range it named is LIVE.
 *   I3  A link that is not the tail gets nothing new but what was begun while it was. It is retired when each
 *       of its slots is closed.
 *   I4  Nobody touches the memory of a link without having counted himself in and seen, after that, that it
 *       is in the chain. A RETIRED range is reclaimed only when nobody is counted in. So pages that are given
 *       back are in nobody's use.
 *   I5  The pages of a range are got and given back by the owner of BUILDING or CLOSING alone.
 *
 * FIFO: a receiver takes from the oldest link first. A link behind the tail can still get the record of a
 * sender that was slow. That send began before the next link was there, so it overlaps what was sent into
 * later links before it ended; what its sender (or who knows of it) sends after that must come after it.
 * So behind a link that is still in use a receiver finds a record, looks at the older links once more, and
 * takes exactly the one it had found.
 *
 * Orders
 *
 *     visitor                                   who retires
 *     count himself in                          LIVE -> RETIRED
 *     fence                        (V)          fence                       (V)
 *     load the range: LIVE?                     load all counts: 0?
 *     use the link; count out      (L)          acquire (L): reclaim
 *
 *   V: either the visitor sees that the link has gone or the other sees the visitor. The one place that needs
 *      sequential consistency.
 *   L: release, acquire: his use of the link is over. Also for the next visitor of the same owner, and for
 *      who builds there again.
 *   K: the swap of the tail, release, pairs with its loads, acquire: a whole ring. The same for the words of
 *      ranges.
 *
 * Progress and crash: all calls are bounded. A stopped builder costs the range it builds, a stopped
 * visitor or holder of a slot the one link it is in; others grow and shrink around it. What the dead
 * leave, the caller mends with find, inherit and forget.
 *
 * May run together: everything, from any number of threads and processes, except format with anything.
 * Nothing read from the memory is trusted.
 */
#ifndef NORIA_CHAIN_H
#define NORIA_CHAIN_H

#include <noria/mpmc.h>

#define NORIA_CHAIN_MAGIC UINT64_C(0x314e484330697230) /* "0ri0CHN1" */
#define NORIA_CHAIN_PAGE UINT64_C(4096)

enum { NORIA_CHAIN_RANGES = 64, NORIA_CHAIN_TRIES = 64, NORIA_CHAIN_OPEN = 16 };

enum noria_chain_kind {
    NORIA_CHAIN_FREE = 0,
    NORIA_CHAIN_BUILDING = 1,
    NORIA_CHAIN_LIVE = 2,
    NORIA_CHAIN_RETIRED = 3,
    NORIA_CHAIN_CLOSING = 4
};
#define NORIA_CHAIN_KIND(word) ((unsigned)((word) & 7))
#define NORIA_CHAIN_OWNER(word) ((uint32_t)(((word) >> 3) & 0xffff))
#define NORIA_CHAIN_GENERATION(word) ((word) >> 19)
#define NORIA_CHAIN_WORD(generation, owner, kind) \
    ((uint64_t)(generation) << 19 | (uint64_t)(owner) << 3 | (kind))
#define NORIA_CHAIN_TAIL(generation, range) ((uint64_t)(generation) << 8 | (range))
#define NORIA_CHAIN_TAIL_RANGE(tail) ((unsigned)((tail) & 0xff))
#define NORIA_CHAIN_TAIL_GENERATION(tail) ((tail) >> 8)

struct noria_chain {
    uint64_t magic; /* written last by format */
    uint64_t size;
    uint64_t first_slots; /* of a link in the smallest range */
    uint64_t first_position;
    uint32_t max_message;
    uint32_t owners;
    uint32_t ranges;
    uint32_t reserved0;
    uint64_t reserved1[10];
    uint64_t tail;
    uint64_t reserved2[15];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_chain, tail) == 128, "tail stands in line 2");
NORIA_STATIC_ASSERT(sizeof(struct noria_chain) == 256, "the ranges' words start at line 4");

struct noria_chain_config {
    uint64_t capacity;       /* records that fit into the first link for certain */
    uint64_t size;           /* bytes in all: the ceiling */
    uint64_t first_position; /* where positions start; 0 unless a test wants a wrap */
    uint32_t max_message;    /* bytes */
    uint32_t owners;         /* owners are numbered 1..owners */
};

/* Where a range lies, computed from the geometry. */
struct noria_chain_range {
    uint64_t offset; /* from the chain's start; whole pages */
    uint64_t size;
    uint64_t slots;
};

/* This process' view of the link in one range. */
struct noria_chain_view {
    uint64_t generation; /* of the link that `ring` is for, times 2; odd: a thread is just opening it */
    uint64_t closed_to;  /* slots before it are closed, or named in `open` */
    uint64_t open[NORIA_CHAIN_OPEN]; /* slot + 1 that was in use when the others were closed; 0: none */
    struct noria_mpmc_handle ring;
};

/* Private to the process; threads may share it. */
struct noria_chain_handle {
    struct noria_chain *chain;
    uint64_t *words;  /* [ranges] */
    uint64_t *visits; /* [owners][stride]: life << 16 | threads inside */
    uint32_t stride;
    uint32_t ranges;
    uint32_t owners;
    uint32_t owner;
    uint32_t max_message;
    uint32_t reserved;
    uint64_t first_slots;
    uint64_t in_the_way; /* an owner that had to be stepped over; the caller may ask after him */
    struct noria_chain_range range[NORIA_CHAIN_RANGES];
    struct noria_chain_view *views; /* [ranges], the caller's, zeroed */
};

/* A link; `view` and `ring` once the caller has counted himself in. */
struct noria_chain_link {
    unsigned range;
    uint64_t generation;
    struct noria_chain_view *view;
    struct noria_mpmc_handle *ring;
};

/* ----------------------------------------------------------------------------------------------- geometry */

static inline uint64_t noria_chain_align(uint64_t size, uint64_t to)
{
    return (size + to - 1) & ~(to - 1);
}

static inline struct noria_mpmc_config noria_chain_link_config(uint64_t slots, uint32_t max_message,
                                                               uint32_t owners, uint64_t first_position)
{
    struct noria_mpmc_config config;

    /* What an owner holds, reserves, and loses when it is stepped over: see noria_mpmc_slots. */
    config.capacity = slots - 3 * (uint64_t)owners;
    config.slots = slots;
    config.first_position = first_position;
    config.max_message = max_message;
    config.pack = 1;
    config.owners = owners;
    config.max_held = 1;
    return config;
}

static inline uint64_t noria_chain_link_bytes(uint64_t slots, uint32_t max_message)
{
    return noria_chain_align(sizeof(struct noria_mpmc) + slots * noria_mpmc_slot_bytes(max_message, 1),
                             NORIA_CHAIN_PAGE);
}

static inline uint32_t noria_chain_stride(uint32_t ranges)
{
    return (uint32_t)noria_chain_align(ranges, NORIA_LINE_PAIR / 8);
}

/* Bytes in front of the ranges. The words have room for as many ranges as there can be. */
static inline uint64_t noria_chain_control_bytes(uint32_t owners)
{
    return noria_chain_align(sizeof(struct noria_chain) + NORIA_CHAIN_RANGES * 8 +
                                 (uint64_t)owners * noria_chain_stride(NORIA_CHAIN_RANGES) * 8,
                             NORIA_CHAIN_PAGE);
}

/* Cuts the memory: ranges that double while they fit, then smaller ones. How many; 0: not one fits. */
static inline uint32_t noria_chain_cut(struct noria_chain_range *range, uint64_t first_slots, uint64_t size,
                                       uint32_t max_message, uint32_t owners)
{
    uint64_t at = noria_chain_control_bytes(owners), slots = first_slots;
    bool grows = true;
    uint32_t n = 0;

    while (n < NORIA_CHAIN_RANGES && slots >= first_slots) {
        uint64_t bytes = noria_chain_link_bytes(slots, max_message);
        if (slots <= NORIA_MPMC_MAX_SLOTS && at <= size && bytes <= size - at) {
            range[n].offset = at;
            range[n].size = bytes;
            range[n++].slots = slots;
            at += bytes;
            slots = grows ? slots * 2 : slots;
        } else {
            grows = false;
            slots /= 2;
        }
    }
    return n;
}

/* Slots of the smallest link, 0 if the configuration is not valid. */
static inline uint64_t noria_chain_first_slots(const struct noria_chain_config *config)
{
    struct noria_mpmc_config link;

    memset(&link, 0, sizeof(link));
    link.capacity = config->capacity;
    link.max_message = config->max_message;
    link.pack = 1;
    link.owners = config->owners;
    link.max_held = 1;
    return noria_mpmc_slots(&link);
}

/* Bytes needed for the smallest chain, of one link; 0 if the configuration is not valid. */
static inline uint64_t noria_chain_least_size(const struct noria_chain_config *config)
{
    uint64_t slots = noria_chain_first_slots(config);

    return slots == 0 ? 0
                      : noria_chain_control_bytes(config->owners) +
                            noria_chain_link_bytes(slots, config->max_message);
}

/* Takes the geometry out of the memory once and checks it. 0 or -EBADMSG. */
static inline int noria_chain_take_geometry(struct noria_chain_handle *h, struct noria_chain *chain, size_t size)
{
    uint64_t bytes;

    memset(h, 0, sizeof(*h));
    bytes = noria_load_relaxed64(&chain->size); /* constant since format, like the rest of line 0 */
    h->first_slots = noria_load_relaxed64(&chain->first_slots);
    h->max_message = noria_load_relaxed32(&chain->max_message);
    h->owners = noria_load_relaxed32(&chain->owners);
    if (bytes > size || h->owners == 0 || h->owners > 0xffff || h->max_message > NORIA_MPMC_MAX_MESSAGE ||
        h->first_slots > NORIA_MPMC_MAX_SLOTS || h->first_slots <= 3 * (uint64_t)h->owners ||
        h->first_slots < NORIA_MPMC_MIN_SLOTS || (h->first_slots & (h->first_slots - 1)) != 0)
        return -EBADMSG;
    h->ranges = noria_chain_cut(h->range, h->first_slots, bytes, h->max_message, h->owners);
    if (h->ranges == 0)
        return -EBADMSG;
    h->chain = chain;
    h->words = (uint64_t *)(void *)(chain + 1);
    h->visits = h->words + NORIA_CHAIN_RANGES;
    h->stride = noria_chain_stride(NORIA_CHAIN_RANGES);
    return 0;
}

/* The geometry of a chain that was formatted. 0 or -EBADMSG. */
static inline int noria_chain_read_geometry(struct noria_chain_handle *h, void *memory, size_t size)
{
    struct noria_chain *chain = (struct noria_chain *)memory;

    if (size < sizeof(*chain) || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0 ||
        noria_load_acquire64(&chain->magic) != NORIA_CHAIN_MAGIC) /* K: pairs with the store in format */
        return -EBADMSG;
    return noria_chain_take_geometry(h, chain, size);
}

static inline void *noria_chain_memory(const struct noria_chain_handle *h, unsigned range)
{
    return (uint8_t *)h->chain + h->range[range].offset;
}

/* Makes a chain of one link. The caller alone uses the memory until this returns; of the ranges only the
 * first must have pages. Page-aligned memory. 0, -EINVAL. */
static inline int noria_chain_format(void *memory, size_t size, const struct noria_chain_config *config)
{
    struct noria_chain *chain = (struct noria_chain *)memory;
    uint64_t least = noria_chain_least_size(config);
    struct noria_chain_handle h;
    struct noria_mpmc_config link;

    if (least == 0 || config->size < least || config->size > size ||
        ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0)
        return -EINVAL;
    memset(chain, 0, (size_t)noria_chain_control_bytes(config->owners));
    chain->size = config->size;
    chain->first_slots = noria_chain_first_slots(config);
    chain->first_position = config->first_position;
    chain->max_message = config->max_message;
    chain->owners = config->owners;
    if (noria_chain_take_geometry(&h, chain, size) != 0)
        return -EINVAL;
    chain->ranges = h.ranges;
    link = noria_chain_link_config(h.first_slots, h.max_message, h.owners, config->first_position);
    if (noria_mpmc_format(noria_chain_memory(&h, 0), (size_t)h.range[0].size, &link) != 0)
        return -EINVAL;
    /* Relaxed, these two: the magic publishes them. */
    noria_store_relaxed64(&h.words[0], NORIA_CHAIN_WORD(1, 0, NORIA_CHAIN_LIVE));
    noria_store_relaxed64(&chain->tail, NORIA_CHAIN_TAIL(1, 0));
    noria_store_release64(&chain->magic, NORIA_CHAIN_MAGIC); /* K: who sees the magic sees a whole chain */
    return 0;
}

/* Makes a handle whose geometry was read ready for calls. `life` tells this use of the number from earlier
 * ones; `views` is zeroed memory for as many as there are ranges. 0, -EINVAL. */
static inline int noria_chain_start(struct noria_chain_handle *h, uint32_t owner, uint64_t life,
                                    struct noria_chain_view *views)
{
    if (owner == 0 || owner > h->owners)
        return -EINVAL;
    h->owner = owner;
    h->views = views;
    /* L: nobody of ours is inside yet, and an earlier life's use of the links is over, which whoever reclaims
     * learns from our word alone. */
    for (uint32_t range = 0; range < h->ranges; range++)
        noria_store_release64(&h->visits[(owner - 1) * (size_t)h->stride + range], life << 16);
    return 0;
}

/* -------------------------------------------------------------------------------------- going into a link */

static inline uint64_t noria_chain_tail(const struct noria_chain_handle *h)
{
    return noria_load_acquire64(&h->chain->tail); /* K: pairs with link */
}

/* I2: the word says that the link of this generation is in the chain. Makes a tail that is BUILDING still
 * LIVE. */
static inline bool noria_chain_is_linked(struct noria_chain_handle *h, unsigned range, uint64_t generation)
{
    uint64_t word = noria_load_acquire64(&h->words[range]); /* K; V comes before */

    uint64_t live = NORIA_CHAIN_WORD(generation, 0, NORIA_CHAIN_LIVE);

    if (NORIA_CHAIN_GENERATION(word) != generation || NORIA_CHAIN_KIND(word) != NORIA_CHAIN_BUILDING)
        return word == live;
    if (noria_chain_tail(h) == NORIA_CHAIN_TAIL(generation, range))
        return noria_cas_acq_rel64(&h->words[range], &word, live) || word == live; /* K; or another did it */
    /* The tail may have moved on between our two looks: then the range was made LIVE before (I2), and we
     * see that now. */
    return noria_load_acquire64(&h->words[range]) == live; /* K */
}

/* A view that cannot be filled stays as it was. Where the words lie, another thread of ours may be using this
 * one for the link that was in the range before: so a ring is never seen there half-opened. */
static inline int noria_chain_fill_view(struct noria_chain_handle *h, unsigned range,
                                        struct noria_chain_view *view)
{
    struct noria_mpmc_handle ring;
    int rc = noria_mpmc_join(&ring, noria_chain_memory(h, range), (size_t)h->range[range].size, h->owner);

    if (rc != 0 || ring.mask + 1 != h->range[range].slots || ring.max_message != h->max_message ||
        ring.owners != h->owners || ring.pack != 1)
        return -EBADMSG;
    view->closed_to = 0;
    memset(view->open, 0, sizeof(view->open));
    view->ring = ring;
    return 0;
}

/* The first thread to come fills the process' view of the link. One that comes while another is at it, who may
 * have been stopped there, or be what a signal handler interrupted, makes do with a view of its own. 0,
 * -EBADMSG. */
static inline int noria_chain_open_view(struct noria_chain_handle *h, struct noria_chain_link *link,
                                        struct noria_chain_view *spare)
{
    struct noria_chain_view *view = &h->views[link->range];
    uint64_t seen = noria_load_acquire64(&view->generation); /* pairs with the store below: a filled view */
    int rc = 0;

    if (seen != 2 * link->generation) {
        if ((seen & 1) == 0 && noria_cas_acq_rel64(&view->generation, &seen, 2 * link->generation + 1)) {
            rc = noria_chain_fill_view(h, link->range, view);
            noria_store_release64(&view->generation, rc == 0 ? 2 * link->generation : 0);
        } else if (seen != 2 * link->generation) {
            view = spare;
            rc = noria_chain_fill_view(h, link->range, view);
        }
    }
    if (rc != 0) /* what was not filled is read by nobody, not even on the way out */
        return rc;
    link->view = view;
    link->ring = &view->ring;
    return 0;
}

static inline uint64_t *noria_chain_visits(const struct noria_chain_handle *h, uint32_t owner, unsigned range)
{
    return &h->visits[(owner - 1) * (size_t)h->stride + range];
}

/* Counts the caller out again. */
static inline void noria_chain_leave(struct noria_chain_handle *h, const struct noria_chain_link *link)
{
    if (link->ring != NULL) {
        uint64_t word = noria_load_relaxed64(&link->ring->in_the_way); /* private; a hint for the caller */
        if (word != 0) {
            noria_store_relaxed64(&link->ring->in_the_way, 0);
            noria_store_relaxed64(&h->in_the_way, NORIA_MPMC_OWNER(word));
        }
    }
    noria_add_release64(noria_chain_visits(h, h->owner, link->range), UINT64_MAX); /* L: minus one */
}

/* Goes into a link. 0: link->ring may be used until leave; `spare` is memory for a view until then. -EAGAIN:
 * it is not in the chain any more; -EBADMSG. */
static inline int noria_chain_enter(struct noria_chain_handle *h, struct noria_chain_link *link,
                                    struct noria_chain_view *spare)
{
    int rc = -EAGAIN;

    link->view = NULL;
    link->ring = NULL;
    if (link->generation == 0) /* none that was ever made; the views start with it */
        return -EBADMSG;
    /* L: acquire, our own threads' use of the view for an earlier link in this range is over. */
    noria_add_acquire64(noria_chain_visits(h, h->owner, link->range), 1);
    noria_fence_seq_cst(); /* V */
    if (noria_chain_is_linked(h, link->range, link->generation))
        rc = noria_chain_open_view(h, link, spare);
    if (rc != 0)
        noria_chain_leave(h, link);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ sending */

static inline bool noria_chain_tail_link(const struct noria_chain_handle *h, uint64_t tail,
                                         struct noria_chain_link *link)
{
    link->range = NORIA_CHAIN_TAIL_RANGE(tail);
    link->generation = NORIA_CHAIN_TAIL_GENERATION(tail);
    return link->range < h->ranges;
}

/* Copies a record into the newest link. 0; -EAGAIN: the link that *tail names is full, the chain has to
 * grow; -EMSGSIZE, -EBADMSG. */
static inline int noria_chain_send(struct noria_chain_handle *h, const void *data, size_t len, uint64_t *tail)
{
    for (int i = 0; i < NORIA_CHAIN_TRIES; i++) {
        struct noria_chain_link link;
        struct noria_chain_view spare;
        int rc;

        *tail = noria_chain_tail(h);
        if (!noria_chain_tail_link(h, *tail, &link))
            return -EBADMSG;
        rc = noria_chain_enter(h, &link, &spare);
        if (rc == 0) {
            rc = noria_mpmc_send(link.ring, data, len);
            noria_chain_leave(h, &link);
            if (rc == -EAGAIN && noria_chain_tail(h) == *tail)
                return rc;
        }
        if (rc != -EAGAIN)
            return rc;
    }
    return -EAGAIN;
}

/* ------------------------------------------------------------------------------------------------ growing */

/* Claims a free range for a link behind `tail`: the one numbered `wanted` or the next larger that is free,
 * else the largest smaller one. 0: the caller owns it until link or free; -EAGAIN none is free. */
static inline int noria_chain_claim(struct noria_chain_handle *h, uint64_t tail, unsigned wanted,
                                    unsigned *range, uint64_t *mine)
{
    for (unsigned i = 0; i < h->ranges; i++) {
        unsigned at = wanted + i < h->ranges ? wanted + i : h->ranges - 1 - i;
        uint64_t word = noria_load_acquire64(&h->words[at]); /* K: pairs with free; its pages are gone */
        uint64_t generation = NORIA_CHAIN_GENERATION(word);
        if (NORIA_CHAIN_KIND(word) != NORIA_CHAIN_FREE)
            continue;
        if (generation < NORIA_CHAIN_TAIL_GENERATION(tail))
            generation = NORIA_CHAIN_TAIL_GENERATION(tail);
        *mine = NORIA_CHAIN_WORD(generation + 1, h->owner, NORIA_CHAIN_BUILDING); /* I1 */
        if (noria_cas_acq_rel64(&h->words[at], &word, *mine)) { /* K */
            *range = at;
            /* L: nobody is in an earlier link of this range any more; our own threads' part of that. */
            (void)noria_load_acquire64(noria_chain_visits(h, h->owner, at));
            return 0;
        }
    }
    return -EAGAIN;
}

/* Where the positions of a link behind `tail` start: beyond all that can be used in the tail, so that
 * sequences grow. */
static inline int noria_chain_next_position(struct noria_chain_handle *h, uint64_t tail, uint64_t *position)
{
    struct noria_chain_view spare;
    struct noria_chain_link link;
    int rc = noria_chain_tail_link(h, tail, &link) ? noria_chain_enter(h, &link, &spare) : -EBADMSG;

    if (rc != 0)
        return rc;
    /* G of mpmc.h. */
    *position = noria_load_acquire64(&link.ring->ring->write_pos) + 64 * (link.ring->mask + 1);
    noria_chain_leave(h, &link);
    return 0;
}

/* The claimed range has pages now: makes a link of it, the newest one. 0; -EAGAIN another one was faster:
 * the caller still owns the range, gives its pages back and frees it. */
static inline int noria_chain_link(struct noria_chain_handle *h, uint64_t tail, unsigned range, uint64_t mine)
{
    uint64_t generation = NORIA_CHAIN_GENERATION(mine), position;
    struct noria_mpmc_config config;
    int rc = noria_chain_tail(h) == tail ? noria_chain_next_position(h, tail, &position) : -EAGAIN;

    if (rc != 0)
        return rc;
    config = noria_chain_link_config(h->range[range].slots, h->max_message, h->owners, position);
    if (noria_mpmc_format(noria_chain_memory(h, range), (size_t)h->range[range].size, &config) != 0)
        return -EBADMSG;
    /* I2: next_position has gone into the tail, so its range is LIVE. */
    if (!noria_cas_acq_rel64(&h->chain->tail, &tail, NORIA_CHAIN_TAIL(generation, range))) /* K: a ring */
        return -EAGAIN;
    /* K; or another one did it. */
    noria_cas_acq_rel64(&h->words[range], &mine, NORIA_CHAIN_WORD(generation, 0, NORIA_CHAIN_LIVE));
    return 0;
}

/* The caller owns a range in BUILDING or CLOSING and has given its pages back. */
static inline void noria_chain_free(struct noria_chain_handle *h, unsigned range, uint64_t mine)
{
    noria_cas_acq_rel64(&h->words[range], &mine,
                        NORIA_CHAIN_WORD(NORIA_CHAIN_GENERATION(mine), 0, NORIA_CHAIN_FREE)); /* K */
}

/* ---------------------------------------------------------------------------------------------- receiving */

/* The links of the chain, oldest first. Consistent: no link is missing that is older than one of them. How
 * many; 0: the chain grew whenever we looked, or is not one. */
static inline unsigned noria_chain_links(struct noria_chain_handle *h, uint64_t *tail,
                                         struct noria_chain_link *links)
{
    unsigned n = 0;

    for (int i = 0; i < NORIA_CHAIN_TRIES; i++) {
        *tail = noria_chain_tail(h);
        n = 0;
        for (unsigned range = 0; range < h->ranges; range++) {
            uint64_t word = noria_load_acquire64(&h->words[range]); /* K */
            uint64_t generation = NORIA_CHAIN_GENERATION(word);
            unsigned at = n;
            if (NORIA_CHAIN_KIND(word) != NORIA_CHAIN_LIVE && *tail != NORIA_CHAIN_TAIL(generation, range))
                continue;
            for (; at > 0 && links[at - 1].generation > generation; at--)
                links[at] = links[at - 1];
            links[at].range = range;
            links[at].generation = generation;
            links[at].ring = NULL;
            n++;
        }
        if (noria_chain_tail(h) == *tail) /* nothing was linked meanwhile; what was retired is empty */
            return n;
    }
    return 0;
}

/* Keeps in mind that a slot could not be closed. False: too many are. */
static inline bool noria_chain_remember(struct noria_chain_view *view, uint64_t slot)
{
    for (unsigned i = 0; i < NORIA_CHAIN_OPEN; i++) {
        uint64_t nothing = 0;
        if (noria_load_relaxed64(&view->open[i]) == slot + 1 ||
            noria_cas_acq_rel64(&view->open[i], &nothing, slot + 1))
            return true; /* private to the process; threads may do the same at the same time */
    }
    return false;
}

/* Closes what is empty in a link that is not the tail, and looks at what could not be closed before. 1 all
 * is closed; 0 not, but it holds no record; -EEXIST: a record stands in slot record->position, *word:
 * take_found. */
static inline int noria_chain_close(const struct noria_chain_link *link, struct noria_mpmc_record *record,
                                    uint64_t *word)
{
    struct noria_chain_view *view = link->view;
    uint64_t index = noria_load_acquire64(&view->closed_to); /* pairs with the store below: what is open */
    int all = 1;

    while (noria_mpmc_close(link->ring, &index) == 0 && noria_chain_remember(view, index))
        index++;
    noria_store_release64(&view->closed_to, index);
    for (unsigned i = 0; i < NORIA_CHAIN_OPEN; i++) {
        uint64_t slot = noria_load_acquire64(&view->open[i]);
        if (slot == 0)
            continue;
        *word = noria_mpmc_close_slot(link->ring, slot - 1);
        record->position = slot - 1;
        if (NORIA_MPMC_KIND(*word) == NORIA_MPMC_FULL)
            return -EEXIST;
        if (noria_mpmc_is_closed(*word))
            noria_cas_acq_rel64(&view->open[i], &slot, 0);
        else
            all = 0;
    }
    for (; index <= link->ring->mask; index++) { /* more are in use than we can keep in mind */
        *word = noria_mpmc_close_slot(link->ring, index);
        record->position = index;
        if (NORIA_MPMC_KIND(*word) == NORIA_MPMC_FULL)
            return -EEXIST;
        all = 0;
    }
    return all;
}

/* Takes a link out whose slots are all closed. */
static inline void noria_chain_retire(struct noria_chain_handle *h, const struct noria_chain_link *link)
{
    uint64_t word = NORIA_CHAIN_WORD(link->generation, 0, NORIA_CHAIN_LIVE);

    noria_cas_acq_rel64(&h->words[link->range], &word,
                        NORIA_CHAIN_WORD(link->generation, 0, NORIA_CHAIN_RETIRED)); /* K */
}

/* Takes out the links older than the tail that are empty and in nobody's use. For a sender without room:
 * receivers take them out when they come by, but nobody need be receiving just now. */
static inline void noria_chain_retire_empty(struct noria_chain_handle *h)
{
    struct noria_chain_link link[NORIA_CHAIN_RANGES];
    uint64_t tail, word;
    unsigned n = noria_chain_links(h, &tail, link);

    for (unsigned i = 0; i < n && link[i].generation < NORIA_CHAIN_TAIL_GENERATION(tail); i++) {
        struct noria_mpmc_record record;
        struct noria_chain_view spare;
        if (noria_chain_enter(h, &link[i], &spare) != 0)
            continue;
        if (noria_mpmc_look(link[i].ring, &record, &word) == -EAGAIN &&
            noria_chain_close(&link[i], &record, &word) == 1)
            noria_chain_retire(h, &link[i]);
        noria_chain_leave(h, &link[i]);
    }
}

/* Whether one of the links holds a record by now. */
static inline bool noria_chain_any_record(struct noria_chain_handle *h, struct noria_chain_link *links,
                                          unsigned n)
{
    struct noria_mpmc_record record;
    struct noria_chain_view spare;
    uint64_t word;
    bool any = false;

    for (unsigned i = 0; i < n && !any; i++) {
        if (noria_chain_enter(h, &links[i], &spare) != 0)
            continue; /* retired: it is empty for good */
        any = noria_mpmc_look(links[i].ring, &record, &word) == 0 ||
              noria_chain_close(&links[i], &record, &word) == -EEXIST;
        noria_chain_leave(h, &links[i]);
    }
    return any;
}

/*
 * Takes the first record of a link, behind `older` ones that were found empty but are still in somebody's
 * use. Whoever uses one may have put a record there since, and then another one here, which must not come
 * first. So: find a record here, look once more at the older links, and take exactly that one. -EAGAIN,
 * *again: look at all of them again.
 */
static inline int noria_chain_take(struct noria_chain_handle *h, struct noria_chain_link *link, bool is_tail,
                                   struct noria_chain_link *older, unsigned n, size_t cap,
                                   struct noria_mpmc_record *record, bool *again, bool *closed)
{
    uint64_t word = 0;
    int rc = n == 0 ? noria_mpmc_peek_within(link->ring, cap, record)
                    : noria_mpmc_look(link->ring, record, &word);

    *closed = false;
    if (n == 0 && rc != -EAGAIN)
        return rc;
    if (rc == -EAGAIN && !is_tail) {
        rc = noria_chain_close(link, record, &word);
        *closed = rc == 1;
        rc = rc == -EEXIST ? 0 : -EAGAIN;
    }
    if (rc != 0)
        return rc;
    if (n != 0 && noria_chain_any_record(h, older, n)) {
        *again = true;
        return -EAGAIN;
    }
    rc = noria_mpmc_take_found(link->ring, word, cap, record);
    *again = rc == -EAGAIN;
    return rc;
}

/* Orphans of an old link come as soon as somebody has settled their holder: they were due long ago. */
static inline int noria_chain_take_orphan(struct noria_chain_link *link, size_t cap,
                                          struct noria_mpmc_record *record)
{
    uint64_t announced = noria_load_acquire64(&link->ring->ring->orphans); /* F of mpmc.h */
    int rc;

    if (announced == noria_load_relaxed64(&link->ring->orphans_seen)) /* private */
        return -EAGAIN;
    rc = noria_mpmc_adopt(link->ring, announced, cap, record);
    if (rc != 0)
        return rc;
    record->flags = NORIA_MPMC_REDELIVERED;
    rc = noria_mpmc_open_record(link->ring, cap, record);
    if (rc != 0) /* drop it, so that the slot is not lost with it */
        noria_mpmc_give_back(link->ring, record->position, NORIA_MPMC_READING);
    return rc;
}

/* Copies the first record of one link out. As noria_mpmc_recv. */
static inline int noria_chain_recv_from(struct noria_chain_handle *h, struct noria_chain_link *link,
                                        bool is_tail, struct noria_chain_link *older, unsigned *n,
                                        void *buffer, size_t cap, struct noria_mpmc_record *record,
                                        bool *again)
{
    struct noria_chain_view spare;
    bool closed = false;
    int rc = noria_chain_enter(h, link, &spare);

    if (rc != 0)
        return rc;
    rc = *n != 0 ? noria_chain_take_orphan(link, cap, record) : -EAGAIN;
    if (rc == -EAGAIN)
        rc = noria_chain_take(h, link, is_tail, older, *n, cap, record, again, &closed);
    if (rc == 0) {
        uint64_t position = record->position;
        noria_copy(buffer, record->data, record->len);
        rc = noria_mpmc_release(link->ring, record);
        record->position = position;
    }
    if (closed)
        noria_chain_retire(h, link);
    else if (rc == -EAGAIN)
        older[(*n)++] = *link;
    noria_chain_leave(h, link);
    return rc;
}

/* Copies the oldest record out; record->data is not valid any more. 0, -EMSGSIZE (record->len), -EBADMSG;
 * -EAGAIN: each link was empty, one after the other. *links: how many there were. */
static inline int noria_chain_recv(struct noria_chain_handle *h, void *buffer, size_t cap,
                                   struct noria_mpmc_record *record, unsigned *links)
{
    struct noria_chain_link link[NORIA_CHAIN_RANGES], older[NORIA_CHAIN_RANGES];
    int second_look = 1, rc = -EAGAIN;
    uint64_t tail;

    for (int i = 0; i < NORIA_CHAIN_TRIES; i++) {
        unsigned in_use = 0;
        bool again = false;
        *links = noria_chain_links(h, &tail, link);
        for (unsigned n = 0; n < *links && !again; n++) {
            bool is_tail = link[n].generation >= NORIA_CHAIN_TAIL_GENERATION(tail);
            rc = noria_chain_recv_from(h, &link[n], is_tail, older, &in_use, buffer, cap, record, &again);
            if (rc != -EAGAIN)
                return rc;
        }
        /* Again if the chain has grown, and once if there were more: a slow sender may have committed in
         * the first. */
        if (!again && noria_chain_tail(h) == tail && (*links <= 1 || second_look-- == 0))
            return -EAGAIN;
    }
    return -EAGAIN;
}

/* ------------------------------------------------------------------------------ giving back, and the dead */

/* Whether somebody is counted in to the link in a range. */
static inline bool noria_chain_is_visited(const struct noria_chain_handle *h, unsigned range)
{
    for (uint32_t owner = 1; owner <= h->owners; owner++)
        if ((noria_load_acquire64(noria_chain_visits(h, owner, range)) & 0xffff) != 0) /* L */
            return true;
    return false;
}

/* Makes a RETIRED range that nobody is in any more the caller's: he gives its pages back and frees it. 0,
 * -EAGAIN not (yet). */
static inline int noria_chain_reclaim(struct noria_chain_handle *h, unsigned range, uint64_t *mine)
{
    uint64_t word = noria_load_acquire64(&h->words[range]); /* K */

    if (NORIA_CHAIN_KIND(word) != NORIA_CHAIN_RETIRED)
        return -EAGAIN;
    noria_fence_seq_cst(); /* V */
    if (noria_chain_is_visited(h, range))
        return -EAGAIN;
    *mine = NORIA_CHAIN_WORD(NORIA_CHAIN_GENERATION(word), h->owner, NORIA_CHAIN_CLOSING);
    return noria_cas_acq_rel64(&h->words[range], &word, *mine) ? 0 : -EAGAIN; /* K, L */
}

/* Looks for a range that `owner` builds or closes, from *range on. 1: *word names it; 0: none. */
static inline int noria_chain_find(const struct noria_chain_handle *h, uint32_t owner, unsigned *range,
                                   uint64_t *word)
{
    for (; *range < h->ranges; ++*range) {
        *word = noria_load_acquire64(&h->words[*range]); /* F of mpmc.h */
        if (NORIA_CHAIN_OWNER(*word) == owner && (NORIA_CHAIN_KIND(*word) == NORIA_CHAIN_BUILDING ||
                                                  NORIA_CHAIN_KIND(*word) == NORIA_CHAIN_CLOSING))
            return 1;
    }
    return 0;
}

/* Takes the range over from an owner whose death the caller has certified AFTER loading `word` by find. 0:
 * it is the caller's, who gives its pages back and frees it; -EAGAIN: it is a link, or another one's, by
 * now. */
static inline int noria_chain_inherit(struct noria_chain_handle *h, unsigned range, uint64_t word,
                                      uint64_t *mine)
{
    uint64_t generation = NORIA_CHAIN_GENERATION(word);

    /* The dead one links nothing any more: what the tail says now of this generation stands (I2). */
    if (NORIA_CHAIN_KIND(word) == NORIA_CHAIN_BUILDING &&
        noria_chain_tail(h) == NORIA_CHAIN_TAIL(generation, range)) {
        noria_chain_is_linked(h, range, generation); /* which makes it LIVE */
        return -EAGAIN;
    }
    *mine = NORIA_CHAIN_WORD(generation + 1, h->owner, NORIA_CHAIN_CLOSING); /* I1 */
    return noria_cas_acq_rel64(&h->words[range], &word, *mine) ? 0 : -EAGAIN; /* K */
}

/* Whether `owner` is counted in somewhere, or owns a range. */
static inline bool noria_chain_has_traces(const struct noria_chain_handle *h, uint32_t owner)
{
    unsigned from = 0;
    uint64_t word;

    for (unsigned range = 0; range < h->ranges; range++)
        if ((noria_load_relaxed64(noria_chain_visits(h, owner, range)) & 0xffff) !=
            0) /* a hint; forget decides */
            return true;
    return noria_chain_find(h, owner, &from, &word) == 1;
}

/* Nobody of `owner`, who is certainly dead since `life`, is in any link. A later life is not touched. */
static inline void noria_chain_forget(struct noria_chain_handle *h, uint32_t owner, uint64_t life)
{
    for (unsigned range = 0; range < h->ranges; range++) {
        uint64_t *visits = noria_chain_visits(h, owner, range);
        uint64_t word = noria_load_relaxed64(visits); /* the swap decides */
        if (word >> 16 == (life << 16 >> 16) && (word & 0xffff) != 0)
            noria_cas_acq_rel64(visits, &word, life << 16);
    }
}

/* Whether a range is free to grow into just now. A hint. */
static inline bool noria_chain_may_grow(const struct noria_chain_handle *h)
{
    for (unsigned range = 0; range < h->ranges; range++)
        if (NORIA_CHAIN_KIND(noria_load_relaxed64(&h->words[range])) == NORIA_CHAIN_FREE)
            return true;
    return false;
}

/* Whether a send would find room in the newest link just now. A hint. If not, it may still link another one: see may_grow. */
static inline bool noria_chain_may_send(struct noria_chain_handle *h)
{
    struct noria_chain_view spare;
    struct noria_chain_link link;
    bool may = false;

    if (noria_chain_tail_link(h, noria_chain_tail(h), &link) &&
        noria_chain_enter(h, &link, &spare) == 0) {
        may = noria_mpmc_may_send(link.ring);
        noria_chain_leave(h, &link);
    }
    return may;
}

/* Whether a receive would find something just now. A hint. */
static inline bool noria_chain_may_receive(struct noria_chain_handle *h)
{
    struct noria_chain_link link[NORIA_CHAIN_RANGES];
    uint64_t tail;
    unsigned n = noria_chain_links(h, &tail, link);
    bool may = false;

    for (unsigned i = 0; i < n && !may; i++) {
        struct noria_mpmc_record record;
        struct noria_chain_view spare;
        uint64_t word;
        if (noria_chain_enter(h, &link[i], &spare) != 0)
            continue;
        may = noria_mpmc_may_receive(link[i].ring) ||
              (link[i].generation < NORIA_CHAIN_TAIL_GENERATION(tail) &&
               noria_chain_close(&link[i], &record, &word) == -EEXIST);
        noria_chain_leave(h, &link[i]);
    }
    return may;
}

#endif
