/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria rendezvous: a message passes from hand to hand. Nothing is kept: a sender waits until a receiver has
 * its message.
 *
 * Choose it when a sender must know that its message was taken, or when nothing may pile up. It is Hoare's
 * channel (CSP, occam, Go's unbuffered chan) across processes that may stop or die at any instruction. Works
 * on any memory its caller owns: no system calls, no allocation, no waiting; each call tries once.
 *
 * A sender puts its message into a slot of a table and offers it; a receiver takes the oldest offer, copies
 * it and says so. One word per slot carries the whole truth, changed by one compare-and-swap at a time; so
 * sender and receiver agree whatever happens.
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0        magic and geometry                        written by format, then never again
 *     line 2        tickets, a count: who offered first       written by senders
 *     line 4        reach: slots from here on were never used written by senders, seldom
 *     line 6 ..     per owner: how many of its receivers wait written by that owner
 *     then          slots: state word, ticket, length, sender, payload
 *
 *     state = generation | taker | owner | kind (3 bits); an owner takes as many bits as the largest needs
 *
 *     FREE                  for the next sender
 *     FILLING(owner)        the sender writes its message
 *     OFFERED(owner)        a receiver may take it
 *     TAKING(owner, taker)  the receiver copies it out
 *     TAKEN(owner)          the receiver has it; the sender has still to see that
 *     LOST(owner)           the receiver died while it copied; the sender has still to see that
 *     WITHDRAWN(taker)      the sender went away during the copy; the receiver has still to see that
 *
 *          FREE -> FILLING -> OFFERED -> TAKING -> TAKEN -> FREE
 *                                |         |-----> LOST -> FREE
 *                                v         v
 *                               FREE    WITHDRAWN -> FREE
 *
 * Invariants
 *   I1  Within a generation a word moves along these arrows only, and claiming a FREE slot begins the next
 *       generation. So no word comes back and a stale compare-and-swap does no harm.
 *   I2  The bytes of a slot are written by the owner of FILLING alone, and read by the taker of TAKING and
 *       WITHDRAWN alone. Hence WITHDRAWN: a slot that is still being copied is not filled again.
 *   I3  A message was received if and only if its slot went to TAKEN; one swap decides between TAKEN, LOST
 *       and WITHDRAWN.
 *   I4  Every slot that is not FREE lies below `reach`.
 *
 * Orders
 *
 *     sender                                    receiver
 *     load state: FREE              (D)         load state: OFFERED             (B)
 *     CAS -> FILLING                (D)         CAS -> TAKING                   (B)
 *     write length, payload                     copy the payload
 *     CAS -> OFFERED                (A)         CAS -> TAKEN, or WITHDRAWN -> FREE (C)
 *     load state: TAKEN             (E)
 *     CAS -> FREE                   (C)
 *
 *   A pairs with B: who takes an offer sees the message. C pairs with D: who fills a slot knows that the last
 *   reader is done.
 *   C pairs with E: who is told that the message was taken sees what its receiver did before.
 *   F: swaps and looks of settling, as in mpmc.h: whoever asks whether an owner is dead has seen the life in
 *   which it wrote the word.
 *   G: reach is raised before the offer it is for (release, acquire).
 *   H: a slot's length, which a receiver may look at before it claims the slot.
 *
 * Progress and crash: every call is bounded and waits for nobody. A stopped sender leaves an offer that can
 * be taken (its call returns 0 when it goes on), or a slot that is just being filled, which others go around.
 * A stopped receiver in TAKING holds up the one sender whose message it is copying, until that withdraws, and
 * one slot until it goes on. What the dead leave, settle mends: an offer is freed, a TAKING becomes LOST, or
 * WITHDRAWN if it was the sender who died.
 *
 * May run together: everything, from any number of threads and processes, except format with anything. A
 * handle may be shared by threads; an offer belongs to who made it. Nothing read from the memory is trusted:
 * words are loaded once, indices bounded, lengths bounded, every loop counted.
 *
 * Results: 0 is done; -EAGAIN not now; -EMSGSIZE, -EINVAL, -EOWNERDEAD, -ECANCELED, -EBADMSG.
 */
#ifndef NORIA_RENDEZVOUS_H
#define NORIA_RENDEZVOUS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <noria/atomic.h>

#define NORIA_RENDEZVOUS_MAGIC UINT64_C(0x31445652306e6972) /* "rin0RVD1" */
#define NORIA_RENDEZVOUS_MAX_SLOTS (UINT32_C(1) << 18)
#define NORIA_RENDEZVOUS_MAX_MESSAGE (UINT32_C(1) << 30)

enum noria_rendezvous_kind {
    NORIA_RENDEZVOUS_FREE = 0,
    NORIA_RENDEZVOUS_FILLING = 1,
    NORIA_RENDEZVOUS_OFFERED = 2,
    NORIA_RENDEZVOUS_TAKING = 3,
    NORIA_RENDEZVOUS_TAKEN = 4,
    NORIA_RENDEZVOUS_LOST = 5,
    NORIA_RENDEZVOUS_WITHDRAWN = 6
};
#define NORIA_RENDEZVOUS_KIND(word) ((unsigned)((word) & 7))

#ifndef NORIA_RENDEZVOUS_LEAST_SLOTS
#define NORIA_RENDEZVOUS_LEAST_SLOTS 64 /* threads that can offer at a time, at least */
#endif
#ifndef NORIA_RENDEZVOUS_TRIES
#define NORIA_RENDEZVOUS_TRIES 64 /* looks for an offer that others were faster to take, or that has gone */
#endif

struct noria_rendezvous {
    uint64_t magic; /* written last by format */
    uint64_t first_position;
    uint32_t slots;
    uint32_t max_message;
    uint32_t owners;
    uint32_t slot_size;
    uint64_t reserved0[12];
    uint64_t tickets;
    uint64_t reserved1[15];
    uint64_t reach;
    uint64_t reserved2[15];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_rendezvous, tickets) == 128, "tickets stands in line 2");
NORIA_STATIC_ASSERT(offsetof(struct noria_rendezvous, reach) == 256, "reach stands in line 4");
NORIA_STATIC_ASSERT(sizeof(struct noria_rendezvous) == 384, "the waiting counts start at line 6");

struct noria_rendezvous_slot {
    uint64_t state;
    uint64_t ticket;
    uint32_t length;
    uint32_t sender;
    /* payload follows */
};
NORIA_STATIC_ASSERT(sizeof(struct noria_rendezvous_slot) == 24, "payload shares the line of the state word");

struct noria_rendezvous_config {
    uint64_t first_position; /* where tickets start; 0 unless a test wants a wrap */
    uint32_t max_message;    /* bytes */
    uint32_t owners;         /* owners are numbered 1..owners */
    /* Offers at a time; 0: two for each owner, at least NORIA_RENDEZVOUS_LEAST_SLOTS. */
    uint32_t slots;
};

/* Private to the process, constant after join; threads may share it. */
struct noria_rendezvous_handle {
    struct noria_rendezvous *table;
    uint64_t *waiting; /* [owners], of owner n at n - 1: life << 16 | how many of its receivers wait */
    uint8_t *slots;
    uint32_t slot_count;
    uint32_t slot_size;
    uint32_t max_message;
    uint32_t owners;
    uint32_t owner_bits;
    uint32_t owner;
};

/* A message that is offered. All zero: none. */
struct noria_rendezvous_offer {
    uint64_t word; /* the slot's, when it was offered */
    uint32_t slot;
};

/* A message that is being taken. `data` is valid until finish. */
struct noria_rendezvous_record {
    const void *data;
    size_t len;
    uint64_t sequence; /* grows in the order of offers */
    uint64_t word;
    uint32_t slot;
    uint32_t sender;
};

/* -------------------------------------------------------------------------------------------------- words */

static inline struct noria_rendezvous_slot *noria_rendezvous_slot_at(const struct noria_rendezvous_handle *h,
                                                                     uint32_t slot)
{
    return (struct noria_rendezvous_slot *)(void *)(h->slots + (size_t)slot * h->slot_size);
}

static inline uint64_t *noria_rendezvous_state_at(const struct noria_rendezvous_handle *h, uint32_t slot)
{
    return &noria_rendezvous_slot_at(h, slot)->state;
}

/* Not a flexible array member, which C++ does not have. */
static inline uint8_t *noria_rendezvous_payload(const struct noria_rendezvous_handle *h, uint32_t slot)
{
    return (uint8_t *)(noria_rendezvous_slot_at(h, slot) + 1);
}

static inline uint32_t noria_rendezvous_owner_of(const struct noria_rendezvous_handle *h, uint64_t word)
{
    return (uint32_t)(word >> 3 & ((UINT64_C(1) << h->owner_bits) - 1));
}

static inline uint32_t noria_rendezvous_taker_of(const struct noria_rendezvous_handle *h, uint64_t word)
{
    return (uint32_t)(word >> (3 + h->owner_bits) & ((UINT64_C(1) << h->owner_bits) - 1));
}

/* The same generation in another state. */
static inline uint64_t noria_rendezvous_become(const struct noria_rendezvous_handle *h, uint64_t word,
                                               unsigned kind, uint32_t owner, uint32_t taker)
{
    unsigned shift = 3 + 2 * h->owner_bits;

    return word >> shift << shift | (uint64_t)taker << (3 + h->owner_bits) | (uint64_t)owner << 3 | kind;
}

static inline uint64_t noria_rendezvous_next_generation(const struct noria_rendezvous_handle *h,
                                                        uint64_t word)
{
    return word + (UINT64_C(1) << (3 + 2 * h->owner_bits)); /* wraps */
}

/* ------------------------------------------------------------------------------------------- format, join */

static inline uint64_t noria_rendezvous_slot_bytes(uint32_t max_message)
{
    uint64_t size = sizeof(struct noria_rendezvous_slot) + (uint64_t)max_message;

    return (size + NORIA_CACHE_LINE - 1) & ~(uint64_t)(NORIA_CACHE_LINE - 1);
}

static inline uint32_t noria_rendezvous_slots(const struct noria_rendezvous_config *config)
{
    uint32_t slots = config->slots;

    if (config->owners == 0 || config->owners > 0xffff ||
        config->max_message > NORIA_RENDEZVOUS_MAX_MESSAGE || slots > NORIA_RENDEZVOUS_MAX_SLOTS)
        return 0;
    if (slots == 0)
        slots = 2 * config->owners > NORIA_RENDEZVOUS_LEAST_SLOTS ? 2 * config->owners
                                                                  : NORIA_RENDEZVOUS_LEAST_SLOTS;
    return slots;
}

static inline uint64_t noria_rendezvous_waiting_bytes(uint32_t owners)
{
    return ((uint64_t)owners * 8 + NORIA_LINE_PAIR - 1) & ~(uint64_t)(NORIA_LINE_PAIR - 1);
}

/* Bytes needed, 0 if the configuration is not valid. */
static inline size_t noria_rendezvous_footprint(const struct noria_rendezvous_config *config)
{
    uint64_t slots = noria_rendezvous_slots(config), size;

    if (slots == 0)
        return 0;
    size = sizeof(struct noria_rendezvous) + noria_rendezvous_waiting_bytes(config->owners) +
           slots * noria_rendezvous_slot_bytes(config->max_message);
    return size <= SIZE_MAX ? (size_t)size : 0;
}

/* Takes the geometry out of the memory once and checks it. 0 or -EBADMSG. */
static inline int noria_rendezvous_take_geometry(struct noria_rendezvous_handle *h,
                                                 struct noria_rendezvous *table, size_t size)
{
    struct noria_rendezvous_config config;

    memset(h, 0, sizeof(*h));
    config.first_position = 0;
    config.slots = noria_load_relaxed32(&table->slots); /* constant since format, like the rest of line 0 */
    config.max_message = noria_load_relaxed32(&table->max_message);
    config.owners = noria_load_relaxed32(&table->owners);
    if (config.slots == 0 || noria_rendezvous_footprint(&config) == 0 ||
        noria_rendezvous_footprint(&config) > size)
        return -EBADMSG;
    h->table = table;
    h->waiting = (uint64_t *)(void *)(table + 1);
    h->slots = (uint8_t *)(table + 1) + noria_rendezvous_waiting_bytes(config.owners);
    h->slot_count = config.slots;
    h->slot_size = (uint32_t)noria_rendezvous_slot_bytes(config.max_message);
    h->max_message = config.max_message;
    h->owners = config.owners;
    while (config.owners >> h->owner_bits != 0)
        h->owner_bits++;
    return 0;
}

/* The geometry of a table that was formatted. 0 or -EBADMSG. */
static inline int noria_rendezvous_read_geometry(struct noria_rendezvous_handle *h,
                                                 struct noria_rendezvous *table, size_t size)
{
    if (size < sizeof(*table) || ((uintptr_t)table & (NORIA_CACHE_LINE - 1)) != 0)
        return -EBADMSG;
    if (noria_load_acquire64(&table->magic) != NORIA_RENDEZVOUS_MAGIC) /* B: pairs with the store in format */
        return -EBADMSG;
    return noria_rendezvous_take_geometry(h, table, size);
}

/* Makes an empty table. The caller alone uses the memory until this returns. 64-byte aligned memory. 0,
 * -EINVAL. */
static inline int noria_rendezvous_format(void *memory, size_t size,
                                          const struct noria_rendezvous_config *config)
{
    struct noria_rendezvous *table = (struct noria_rendezvous *)memory;
    struct noria_rendezvous_handle h;
    size_t need = noria_rendezvous_footprint(config);

    if (need == 0 || need > size || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0)
        return -EINVAL;
    memset(table, 0, sizeof(*table));
    table->first_position = config->first_position;
    table->slots = noria_rendezvous_slots(config);
    table->max_message = config->max_message;
    table->owners = config->owners;
    table->slot_size = (uint32_t)noria_rendezvous_slot_bytes(config->max_message);
    noria_store_relaxed64(&table->tickets, config->first_position); /* the magic publishes all of it */
    if (noria_rendezvous_take_geometry(&h, table, size) != 0)
        return -EINVAL;
    memset(h.waiting, 0, (size_t)noria_rendezvous_waiting_bytes(h.owners));
    for (uint32_t slot = 0; slot < h.slot_count; slot++)
        noria_store_relaxed64(noria_rendezvous_state_at(&h, slot), NORIA_RENDEZVOUS_FREE);
    /* A: who sees the magic sees a whole table. */
    noria_store_release64(&table->magic, NORIA_RENDEZVOUS_MAGIC);
    return 0;
}

/* Makes a handle whose geometry was read ready for calls. `life` tells this use of the number from earlier
 * ones. 0, -EINVAL. */
static inline int noria_rendezvous_start(struct noria_rendezvous_handle *h, uint32_t owner, uint64_t life)
{
    if (owner == 0 || owner > h->owners)
        return -EINVAL;
    h->owner = owner;
    /* Ours from here on; a hint, which orders nothing. */
    noria_store_relaxed64(&h->waiting[owner - 1], life << 16);
    return 0;
}

/* Opens a handle on a formatted table. No two live handles may have the same owner. 0, -EINVAL, -EBADMSG. */
static inline int noria_rendezvous_join(struct noria_rendezvous_handle *h, void *memory, size_t size,
                                        uint32_t owner, uint64_t life)
{
    int rc = noria_rendezvous_read_geometry(h, (struct noria_rendezvous *)memory, size);

    return rc != 0 ? rc : noria_rendezvous_start(h, owner, life);
}

/* ---------------------------------------------------------------------------------- offer, look, withdraw */

/* Raises `reach` over a slot. */
static inline void noria_rendezvous_reach(struct noria_rendezvous_handle *h, uint32_t slot)
{
    uint64_t reach = noria_load_relaxed64(&h->table->reach); /* the swap acquires */

    for (uint32_t i = 0; reach <= slot && i <= h->slot_count; i++) /* it only grows */
        if (noria_cas_acq_rel64(&h->table->reach, &reach, (uint64_t)slot + 1)) /* G */
            return;
}

/* Claims the first free slot, so that few are ever used. 0, -EAGAIN none. */
static inline int noria_rendezvous_claim_slot(struct noria_rendezvous_handle *h,
                                              struct noria_rendezvous_offer *offer)
{
    for (uint32_t slot = 0; slot < h->slot_count; slot++) {
        uint64_t *state = noria_rendezvous_state_at(h, slot);
        /* D: pairs with C; the last reader is done with the bytes. */
        uint64_t word = noria_load_acquire64(state);
        uint64_t mine = noria_rendezvous_become(h, noria_rendezvous_next_generation(h, word),
                                                NORIA_RENDEZVOUS_FILLING, h->owner, 0);
        /* D, F. */
        if (NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_FREE && noria_cas_acq_rel64(state, &word, mine)) {
            offer->word = mine;
            offer->slot = slot;
            return 0;
        }
    }
    return -EAGAIN;
}

/* Offers a message to whoever comes for it first. 0, -EAGAIN no slot is free, -EMSGSIZE, -EOWNERDEAD
 * somebody settled us. */
static inline int noria_rendezvous_offer(struct noria_rendezvous_handle *h, const void *data, size_t len,
                                         struct noria_rendezvous_offer *offer)
{
    struct noria_rendezvous_offer mine;
    struct noria_rendezvous_slot *slot;
    uint64_t offered;
    int rc = len > h->max_message ? -EMSGSIZE : noria_rendezvous_claim_slot(h, &mine);

    if (rc != 0)
        return rc;
    slot = noria_rendezvous_slot_at(h, mine.slot);
    /* H: after our claim of the slot; see noria_rendezvous_fits. */
    noria_store_release32(&slot->length, (uint32_t)len);
    noria_store_relaxed32(&slot->sender, h->owner);      /* A publishes these */
    noria_copy(noria_rendezvous_payload(h, mine.slot), data, len);
    noria_rendezvous_reach(h, mine.slot);
    noria_store_relaxed64(&slot->ticket, noria_add_relaxed64(&h->table->tickets, 1)); /* only compared */
    offered = noria_rendezvous_become(h, mine.word, NORIA_RENDEZVOUS_OFFERED, h->owner, 0);
    /* A: pairs with B; the message, and reach (G). */
    if (!noria_cas_acq_rel64(&slot->state, &mine.word, offered))
        return -EOWNERDEAD;
    offer->word = offered;
    offer->slot = mine.slot;
    return 0;
}

/* What became of the offer, when that is decided: the slot is free again. 0 taken, -EOWNERDEAD its
 * receiver died. */
static inline int noria_rendezvous_close_offer(struct noria_rendezvous_handle *h,
                                               struct noria_rendezvous_offer *offer, uint64_t word)
{
    bool taken = NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_TAKEN;

    /* C. Fails if we were taken for dead: then it is free already, and what became of the message stands. */
    noria_cas_acq_rel64(noria_rendezvous_state_at(h, offer->slot), &word,
                        noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_FREE, 0, 0));
    offer->word = 0;
    return taken ? 0 : -EOWNERDEAD;
}

static inline bool noria_rendezvous_is_decided(uint64_t word)
{
    return NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_TAKEN ||
           NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_LOST;
}

/* Whether the offer is still ours: in the generation and hands in which we made it. */
static inline bool noria_rendezvous_is_ours(const struct noria_rendezvous_handle *h,
                                            const struct noria_rendezvous_offer *offer, uint64_t word)
{
    uint64_t as_offered = noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_OFFERED, h->owner, 0);
    bool owned = noria_rendezvous_owner_of(h, word) == h->owner &&
                 NORIA_RENDEZVOUS_KIND(word) != NORIA_RENDEZVOUS_FREE;

    return owned && as_offered == offer->word;
}

/* Whether the message was taken. 0 it was; -EAGAIN not yet; -EOWNERDEAD who was taking it died, or we were
 * settled for dead. The offer is over unless -EAGAIN. */
static inline int noria_rendezvous_look(struct noria_rendezvous_handle *h,
                                        struct noria_rendezvous_offer *offer)
{
    /* E: pairs with C in finish. */
    uint64_t word = noria_load_acquire64(noria_rendezvous_state_at(h, offer->slot));

    if (!noria_rendezvous_is_ours(h, offer, word)) {
        offer->word = 0;
        return -EOWNERDEAD;
    }
    return noria_rendezvous_is_decided(word) ? noria_rendezvous_close_offer(h, offer, word) : -EAGAIN;
}

/* Takes the offer back. -ECANCELED nobody has the message or will; 0 it was taken before; -EOWNERDEAD as
 * in look. */
static inline int noria_rendezvous_withdraw(struct noria_rendezvous_handle *h,
                                            struct noria_rendezvous_offer *offer)
{
    uint64_t *state = noria_rendezvous_state_at(h, offer->slot);
    uint64_t word = noria_load_acquire64(state); /* E */

    /* OFFERED, TAKING, decided: an honest word changes at most twice. */
    for (int i = 0; i < NORIA_RENDEZVOUS_TRIES && noria_rendezvous_is_ours(h, offer, word); i++) {
        bool copied = NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_TAKING;
        uint64_t next = copied ? noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_WITHDRAWN, 0,
                                                         noria_rendezvous_taker_of(h, word))
                               : noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_FREE, 0, 0);
        if (noria_rendezvous_is_decided(word))
            return noria_rendezvous_close_offer(h, offer, word);
        if (noria_cas_acq_rel64(state, &word, next)) { /* C, F; I3: from here on the taker's swap fails */
            offer->word = 0;
            return -ECANCELED;
        }
    }
    offer->word = 0;
    return -EOWNERDEAD;
}

/* ------------------------------------------------------------------------------------------ claim, finish */

/* The oldest offer. 0, -EAGAIN none. Offers that come while it looks may be seen or not. */
static inline int noria_rendezvous_oldest(struct noria_rendezvous_handle *h,
                                          struct noria_rendezvous_record *record)
{
    uint64_t reach = noria_load_acquire64(&h->table->reach); /* G */
    bool found = false;

    for (uint32_t slot = 0; slot < reach && slot < h->slot_count; slot++) {
        /* B: pairs with A; the message. */
        uint64_t word = noria_load_acquire64(noria_rendezvous_state_at(h, slot));
        uint64_t ticket;
        if (NORIA_RENDEZVOUS_KIND(word) != NORIA_RENDEZVOUS_OFFERED)
            continue;
        ticket = noria_load_relaxed64(&noria_rendezvous_slot_at(h, slot)->ticket); /* B acquired it */
        if (found && (int64_t)(ticket - record->sequence) >= 0)
            continue;
        found = true;
        record->slot = slot;
        record->word = word;
        record->sequence = ticket;
    }
    return found ? 0 : -EAGAIN;
}

/* Whether the message fits. While the word stands, so does the length; if it changes the claim fails. */
static inline bool noria_rendezvous_fits(const struct noria_rendezvous_handle *h,
                                         struct noria_rendezvous_record *record, size_t limit)
{
    struct noria_rendezvous_slot *slot = noria_rendezvous_slot_at(h, record->slot);

    record->len = noria_load_acquire32(&slot->length); /* H: a later length brings its FILLING word with it */
    return record->len <= limit || noria_load_relaxed64(&slot->state) != record->word; /* ordered by H */
}

/* Begins to take the oldest message of at most `limit` bytes. 0, -EAGAIN nobody offers any, -EMSGSIZE the
 * oldest is longer (record->len) and stays, -EBADMSG. */
static inline int noria_rendezvous_claim(struct noria_rendezvous_handle *h, size_t limit,
                                         struct noria_rendezvous_record *record)
{
    for (int i = 0; i < NORIA_RENDEZVOUS_TRIES; i++) {
        int rc = noria_rendezvous_oldest(h, record);
        uint32_t owner;
        uint64_t mine, word;
        struct noria_rendezvous_slot *slot;

        if (rc != 0)
            return rc;
        owner = noria_rendezvous_owner_of(h, record->word);
        slot = noria_rendezvous_slot_at(h, record->slot);
        if (!noria_rendezvous_fits(h, record, limit))
            return -EMSGSIZE;
        word = record->word;
        mine = noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_TAKING, owner, h->owner);
        if (!noria_cas_acq_rel64(&slot->state, &word, mine)) /* B, F */
            continue;
        record->word = mine;
        record->data = noria_rendezvous_payload(h, record->slot);
        /* Once more, and bounded: the copy uses what was checked. */
        record->len = noria_load_relaxed32(&slot->length);
        record->sender = noria_load_relaxed32(&slot->sender);
        if (record->len <= h->max_message && record->len <= limit)
            return 0;
        /* A length that cannot be: the sender is told that it was lost. */
        noria_cas_acq_rel64(&slot->state, &mine,
                            noria_rendezvous_become(h, mine, NORIA_RENDEZVOUS_LOST, owner, 0));
        return -EBADMSG;
    }
    return -EAGAIN;
}

/* The message was copied. 0: it is the receiver's, and the sender knows. -EAGAIN: the sender has gone, the
 * copy is void. -EOWNERDEAD: somebody settled us for dead, and the sender was told so. */
static inline int noria_rendezvous_finish(struct noria_rendezvous_handle *h,
                                          struct noria_rendezvous_record *record)
{
    uint64_t *state = noria_rendezvous_state_at(h, record->slot);
    uint64_t word = record->word;
    uint64_t withdrawn = noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_WITHDRAWN, 0, h->owner);

    /* C: pairs with D and E; our reads are done. I3: this decides. */
    if (noria_cas_acq_rel64(state, &word, noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_TAKEN,
                                                                  noria_rendezvous_owner_of(h, word), 0)))
        return 0;
    /* C. */
    if (word == withdrawn &&
        noria_cas_acq_rel64(state, &word, noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_FREE, 0, 0)))
        return -EAGAIN;
    return -EOWNERDEAD;
}

/* Whether a claim would find something just now. A hint. */
static inline bool noria_rendezvous_may_receive(struct noria_rendezvous_handle *h)
{
    struct noria_rendezvous_record record;

    return noria_rendezvous_oldest(h, &record) == 0;
}

/* ------------------------------------------------------------------------- who waits for a message: hints */

/* One receiver of this handle begins, or ends, to wait. */
static inline void noria_rendezvous_await(struct noria_rendezvous_handle *h)
{
    noria_add_relaxed64(&h->waiting[h->owner - 1], 1); /* a hint; who sleeps is found by the event count */
}

static inline void noria_rendezvous_await_no_more(struct noria_rendezvous_handle *h)
{
    noria_add_relaxed64(&h->waiting[h->owner - 1], UINT64_MAX); /* minus one */
}

/* Whether some receiver waits. */
static inline bool noria_rendezvous_is_awaited(const struct noria_rendezvous_handle *h)
{
    for (uint32_t i = 0; i < h->owners; i++)
        if ((noria_load_relaxed64(&h->waiting[i]) & 0xffff) != 0) /* a hint */
            return true;
    return false;
}

/* None of `owner`, who is certainly dead since `life`, waits. A later life is not touched. */
static inline void noria_rendezvous_forget(struct noria_rendezvous_handle *h, uint32_t owner, uint64_t life)
{
    uint64_t word = noria_load_relaxed64(&h->waiting[owner - 1]); /* the swap decides */

    if (word >> 16 == (life << 16 >> 16))
        noria_cas_acq_rel64(&h->waiting[owner - 1], &word, life << 16);
}

/* ------------------------------------------------------------------------------------ find, settle, count */

/* Looks for a slot that names `owner`, from slot *slot on. 1: *word at *slot names it; 0: none. */
static inline int noria_rendezvous_find(const struct noria_rendezvous_handle *h, uint32_t owner,
                                        uint32_t *slot, uint64_t *word)
{
    for (; *slot < h->slot_count; ++*slot) {
        *word = noria_load_acquire64(noria_rendezvous_state_at(h, *slot)); /* F */
        if (NORIA_RENDEZVOUS_KIND(*word) != NORIA_RENDEZVOUS_FREE &&
            (noria_rendezvous_owner_of(h, *word) == owner || noria_rendezvous_taker_of(h, *word) == owner))
            return 1;
    }
    return 0;
}

/* What a word becomes when `dead` is taken out of it. */
static inline uint64_t noria_rendezvous_without(const struct noria_rendezvous_handle *h, uint64_t word,
                                                uint32_t dead)
{
    uint32_t owner = noria_rendezvous_owner_of(h, word), taker = noria_rendezvous_taker_of(h, word);

    if (NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_TAKING && owner != dead)
        return noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_LOST, owner, 0);
    if (NORIA_RENDEZVOUS_KIND(word) == NORIA_RENDEZVOUS_TAKING && taker != dead)
        return noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_WITHDRAWN, 0, taker);
    return noria_rendezvous_become(h, word, NORIA_RENDEZVOUS_FREE, 0, 0);
}

/* Takes `dead` out of a slot, whose death the caller has certified AFTER loading `word` by find. 1 done by
 * us, 0 the word had changed (find it and certify again). Settlers may run together, stop or die; each
 * change is one compare-and-swap. */
static inline int noria_rendezvous_settle(struct noria_rendezvous_handle *h, uint32_t slot, uint64_t word,
                                          uint32_t dead)
{
    /* F. */
    return noria_cas_acq_rel64(noria_rendezvous_state_at(h, slot), &word,
                               noria_rendezvous_without(h, word, dead));
}

/* What the slots hold. Exact while nobody moves. */
struct noria_rendezvous_census {
    uint64_t offered;
    uint64_t bytes; /* of those */
    uint64_t taking;
    uint64_t used; /* slots that are not free */
};

static inline void noria_rendezvous_count(const struct noria_rendezvous_handle *h,
                                          struct noria_rendezvous_census *census)
{
    memset(census, 0, sizeof(*census));
    for (uint32_t slot = 0; slot < h->slot_count; slot++) {
        uint64_t word = noria_load_acquire64(noria_rendezvous_state_at(h, slot)); /* B */
        unsigned kind = NORIA_RENDEZVOUS_KIND(word);
        census->used += kind != NORIA_RENDEZVOUS_FREE;
        census->taking += kind == NORIA_RENDEZVOUS_TAKING;
        census->offered += kind == NORIA_RENDEZVOUS_OFFERED;
        /* B acquired it. */
        if (kind == NORIA_RENDEZVOUS_OFFERED)
            census->bytes += noria_load_relaxed32(&noria_rendezvous_slot_at(h, slot)->length);
    }
}

/* Whether one slot's word can be, and I4. Meaningful while nobody moves. */
static inline bool noria_rendezvous_slot_valid(const struct noria_rendezvous_handle *h, uint32_t slot)
{
    uint64_t word = noria_load_acquire64(noria_rendezvous_state_at(h, slot));
    uint32_t owner = noria_rendezvous_owner_of(h, word), taker = noria_rendezvous_taker_of(h, word);
    bool has_owner, has_taker;

    switch (NORIA_RENDEZVOUS_KIND(word)) {
    case NORIA_RENDEZVOUS_FREE: has_owner = has_taker = false; break;
    case NORIA_RENDEZVOUS_TAKING: has_owner = has_taker = true; break;
    case NORIA_RENDEZVOUS_WITHDRAWN: has_owner = false, has_taker = true; break;
    case 7: return false;
    default: has_owner = true, has_taker = false; break;
    }
    return owner <= h->owners && taker <= h->owners && (owner != 0) == has_owner &&
           (taker != 0) == has_taker &&
           (NORIA_RENDEZVOUS_KIND(word) < NORIA_RENDEZVOUS_OFFERED ||
            slot < noria_load_acquire64(&h->table->reach));
}

/* For tests, fuzzers and fsck. */
static inline bool noria_rendezvous_invariant(const void *memory, size_t size)
{
    struct noria_rendezvous_handle h;

    if (noria_rendezvous_read_geometry(&h, (struct noria_rendezvous *)(uintptr_t)memory, size) != 0)
        return false;
    for (uint32_t slot = 0; slot < h.slot_count; slot++)
        if (!noria_rendezvous_slot_valid(&h, slot))
            return false;
    return true;
}

#endif
