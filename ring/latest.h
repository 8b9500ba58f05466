/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria latest-value cell: whoever receives gets the newest message, whatever he missed; a send never waits.
 *
 * Choose it for sensors and configuration. Works on any memory its caller owns: no system calls, no
 * allocation, no library. Each writer has two buffers and fills the one that is not current, so that a writer
 * stopped or killed in the middle harms nobody; one compare-and-swap makes it current. The buffers are
 * guarded as Linux' seqlocks are; that the pointer is one word with a version in it is the idea of Simpson's
 * four-slot mechanism and of ck's sequence locks, for many writers.
 *
 * Memory (see docs/LAYOUT.md for the bytes):
 *
 *     line 0        magic and geometry                     written by format, then never again
 *     line 2        current                                written by whoever publishes
 *     line 4 ..     buffers: two per owner                 written by their owner
 *
 *     current = version (47 bits) | owner (16; 0: nothing was sent yet) | which of his two buffers (1)
 *     stamp of a buffer = version it has, or is about to have << 1 | it is being written
 *
 * Invariants
 *   I1  The version in current grows by one with each publication, so no word comes back (before 2^47
 *       publications).
 *   I2  A buffer that is current is not written: its owner, who alone writes it, is the only one who could
 *       have made it current, and he takes the other one.
 *   I3  What is read between two looks at a stamp that is the same, even, and of the version that current
 *       named, is that version's message.
 *
 * Orders
 *
 *     writer                                         reader
 *     load current                      (D)          load current                      (B)
 *     stamp = writing                                load stamp: the version of current (F)
 *     store bytes, length               (E)          load bytes, length                (E)
 *     stamp = version                   (C)          load stamp again: unchanged
 *     CAS current                       (A)
 *
 *   A pairs with B: who sees the version in current sees its bytes and its stamp.
 *   C: release, pairs with F, acquire: the same for who looks at the stamp alone.
 *   E: each word of the bytes is stored with release and loaded with acquire. Who reads a word of a later
 *      message sees the stamp that says "writing", which was stored before, when he looks again. (On x86 that
 *      costs nothing. Fences, the other way to say it, are not understood by ThreadSanitizer.)
 *   D: acquire, pairs with A; the version we go on from. Our own choice of a buffer needs no order: see I2.
 *
 * Progress and crash: a send is wait-free: its swap of current fails only if another publication came
 * between, which is newer; then ours counts as sent and overwritten at once, before it. A receive tries again
 * when it was overtaken while it copied, which takes two publications by one writer; after RESTARTS of that
 * -EAGAIN. Killed anywhere before A: nothing happened, the buffer's next use stamps it anew. After A: it is
 * sent. Nobody has anything to mend.
 *
 * May run together: everything, from any number of threads and processes, except format with anything, and
 * two sends with one handle (its caller excludes them). Receives may share a handle: each version goes to one
 * of them.
 *
 * Nothing read from the memory is trusted: geometry is a private copy, each word is loaded once, owners and
 * lengths are bounded, every loop counted.
 *
 * Results: 0 or a length is done; -EAGAIN nothing new; -EMSGSIZE, -EINVAL, -EBADMSG. Sizes are bytes.
 */
#ifndef NORIA_LATEST_H
#define NORIA_LATEST_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <noria/atomic.h>

#define NORIA_LATEST_MAGIC UINT64_C(0x3154534c61697230) /* "0riaLST1" */
#define NORIA_LATEST_MAX_MESSAGE (UINT32_C(1) << 30)
#define NORIA_LATEST_VERSION_SHIFT 17
#define NORIA_LATEST_VERSIONS (UINT64_C(1) << 47)
#define NORIA_LATEST_VERSION(word) ((word) >> NORIA_LATEST_VERSION_SHIFT)
#define NORIA_LATEST_OWNER(word) ((uint32_t)((word) >> 1 & 0xffff))

#ifndef NORIA_LATEST_RESTARTS
#define NORIA_LATEST_RESTARTS 64 /* copies of a receive that were overtaken */
#endif

struct noria_latest {
    uint64_t magic; /* written last by format */
    uint32_t max_message;
    uint32_t owners;
    uint64_t first_version;
    uint64_t reserved0[13];
    uint64_t current;
    uint64_t reserved1[15];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_latest, current) == 128, "current stands in line 2");
NORIA_STATIC_ASSERT(sizeof(struct noria_latest) == 256, "buffers start at line 4");

struct noria_latest_buffer {
    uint64_t stamp;
    uint32_t length;
    uint32_t reserved0;
    /* payload follows, in whole words */
};
NORIA_STATIC_ASSERT(sizeof(struct noria_latest_buffer) == 16, "payload shares the line of the stamp");

/* Private to the process. Atomics because receiving threads may share a handle. */
struct noria_latest_handle {
    struct noria_latest *cell;
    uint64_t buffer_size;
    uint32_t max_message;
    uint32_t owners;
    uint32_t owner;
    uint32_t reserved;
    uint64_t seen; /* the version last received, or the one before the first that we may get */
};

/* What came with a message. */
struct noria_latest_message {
    size_t len;
    uint64_t version;
    uint64_t missed; /* versions between the one last received and this */
    uint32_t sender;
};

/* ------------------------------------------------------------------------------------------- format, join */

/* Bytes needed, 0 if that is not valid. */
static inline size_t noria_latest_footprint(uint32_t max_message, uint32_t owners)
{
    uint64_t buffer, size;

    if (owners == 0 || owners > 0xffff || max_message > NORIA_LATEST_MAX_MESSAGE)
        return 0;
    buffer = (sizeof(struct noria_latest_buffer) + (uint64_t)max_message + NORIA_CACHE_LINE - 1) &
             ~(uint64_t)(NORIA_CACHE_LINE - 1);
    size = sizeof(struct noria_latest) + 2 * owners * buffer;
    return size <= SIZE_MAX ? (size_t)size : 0;
}

/* Makes an empty cell. The caller alone uses the memory until this returns. 64-byte aligned memory. */
static inline int noria_latest_format(void *memory, size_t size, uint32_t max_message, uint32_t owners,
                                      uint64_t first_version)
{
    struct noria_latest *cell = (struct noria_latest *)memory;
    size_t need = noria_latest_footprint(max_message, owners);

    if (need == 0 || need > size || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0)
        return -EINVAL;
    memset(memory, 0, need);
    cell->max_message = max_message;
    cell->owners = owners;
    cell->first_version = first_version % NORIA_LATEST_VERSIONS;
    /* The magic publishes it. */
    noria_store_relaxed64(&cell->current, cell->first_version << NORIA_LATEST_VERSION_SHIFT);
    noria_store_release64(&cell->magic, NORIA_LATEST_MAGIC); /* A: who sees the magic sees a whole cell */
    return 0;
}

/* The geometry of a cell that was formatted. 0 or -EBADMSG. */
static inline int noria_latest_read_geometry(struct noria_latest_handle *h, void *memory, size_t size)
{
    struct noria_latest *cell = (struct noria_latest *)memory;
    size_t need;

    memset(h, 0, sizeof(*h));
    if (size < sizeof(*cell) || ((uintptr_t)memory & (NORIA_CACHE_LINE - 1)) != 0 ||
        noria_load_acquire64(&cell->magic) != NORIA_LATEST_MAGIC) /* B: pairs with the store in format */
        return -EBADMSG;
    h->max_message = noria_load_relaxed32(&cell->max_message); /* constant since format */
    h->owners = noria_load_relaxed32(&cell->owners);
    need = noria_latest_footprint(h->max_message, h->owners);
    if (need == 0 || need > size)
        return -EBADMSG;
    h->buffer_size = (need - sizeof(*cell)) / 2 / h->owners;
    h->cell = cell;
    return 0;
}

/* Makes a handle whose geometry was read ready for calls: it will get the message that is current now. 0,
 * -EINVAL. */
static inline int noria_latest_start(struct noria_latest_handle *h, uint32_t owner)
{
    uint64_t current;

    if (owner == 0 || owner > h->owners)
        return -EINVAL;
    h->owner = owner;
    current = noria_load_acquire64(&h->cell->current); /* B */
    h->seen = NORIA_LATEST_VERSION(current);
    if (NORIA_LATEST_OWNER(current) != 0)
        h->seen = (h->seen - 1) % NORIA_LATEST_VERSIONS;
    return 0;
}

/* Opens a handle on a formatted cell, for `owner` 1..owners, which no two live handles share. 0, -EINVAL,
 * -EBADMSG. */
static inline int noria_latest_join(struct noria_latest_handle *h, void *memory, size_t size, uint32_t owner)
{
    int rc = noria_latest_read_geometry(h, memory, size);

    return rc != 0 ? rc : noria_latest_start(h, owner);
}

static inline struct noria_latest_buffer *noria_latest_buffer_at(const struct noria_latest_handle *h,
                                                                 uint32_t owner, uint64_t which)
{
    return (struct noria_latest_buffer *)(uintptr_t)((uint8_t *)(h->cell + 1) +
                                                     (2 * (uint64_t)(owner - 1) + which) * h->buffer_size);
}

static inline uint64_t *noria_latest_words(struct noria_latest_buffer *buffer)
{
    return (uint64_t *)(void *)(buffer + 1);
}

/* --------------------------------------------------------------------------------------------------- send */

/* E, writer's side. The last word is filled up with zeros. */
static inline void noria_latest_store_bytes(struct noria_latest_buffer *buffer, const void *data, size_t len)
{
    const uint8_t *bytes = (const uint8_t *)data;
    uint64_t *words = noria_latest_words(buffer), word;

    noria_store_release32(&buffer->length, (uint32_t)len);
    for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        noria_store_release64(words++, word);
    }
    if (len != 0) {
        word = 0;
        memcpy(&word, bytes, len);
        noria_store_release64(words, word);
    }
}

/* Makes a copy of the message the current one. 0; 1: sent, and overwritten at once by another sender's;
 * -EMSGSIZE. */
static inline int noria_latest_send(struct noria_latest_handle *h, const void *data, size_t len)
{
    uint64_t current = noria_load_acquire64(&h->cell->current); /* D */
    uint64_t version = (NORIA_LATEST_VERSION(current) + 1) % NORIA_LATEST_VERSIONS;
    uint64_t which = NORIA_LATEST_OWNER(current) == h->owner ? ~current & 1 : 0; /* I2 */
    struct noria_latest_buffer *buffer = noria_latest_buffer_at(h, h->owner, which);
    uint64_t next = version << NORIA_LATEST_VERSION_SHIFT | (uint64_t)h->owner << 1 | which;

    if (len > h->max_message)
        return -EMSGSIZE;
    noria_store_relaxed64(&buffer->stamp, version << 1 | 1); /* E publishes it, with every word */
    noria_latest_store_bytes(buffer, data, len);
    noria_store_release64(&buffer->stamp, version << 1); /* C */
    return noria_cas_acq_rel64(&h->cell->current, &current, next) ? 0 : 1; /* A */
}

/* ------------------------------------------------------------------------------------------------ receive */

/* E, reader's side: up to `cap` bytes of the `len`. */
static inline void noria_latest_load_bytes(struct noria_latest_buffer *buffer, void *data, size_t len)
{
    uint64_t *words = noria_latest_words(buffer), word;
    uint8_t *bytes = (uint8_t *)data;

    for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
        word = noria_load_acquire64(words++);
        memcpy(bytes, &word, sizeof(word));
    }
    if (len != 0) {
        word = noria_load_acquire64(words);
        memcpy(bytes, &word, len);
    }
}

/* Copies the message of `current` out. 0, -EMSGSIZE (message->len says its length), -EAGAIN overtaken,
 * -EBADMSG. */
static inline int noria_latest_copy(struct noria_latest_handle *h, uint64_t current, void *data, size_t cap,
                                    struct noria_latest_message *message)
{
    struct noria_latest_buffer *buffer = noria_latest_buffer_at(h, NORIA_LATEST_OWNER(current), current & 1);
    uint64_t stamp = noria_load_acquire64(&buffer->stamp); /* F: pairs with C */
    size_t len;

    if (stamp != NORIA_LATEST_VERSION(current) << 1)
        return -EAGAIN;
    len = noria_load_acquire32(&buffer->length); /* E */
    if (len <= cap && len <= h->max_message)
        noria_latest_load_bytes(buffer, data, len);
    if (noria_load_relaxed64(&buffer->stamp) != stamp) /* ordered by E: I3 */
        return -EAGAIN;
    message->len = len;
    message->version = NORIA_LATEST_VERSION(current);
    message->sender = NORIA_LATEST_OWNER(current);
    if (len > h->max_message)
        return -EBADMSG;
    return len <= cap ? 0 : -EMSGSIZE;
}

/* Whether a receive would find something just now. A hint. */
static inline bool noria_latest_may_receive(const struct noria_latest_handle *h)
{
    uint64_t current = noria_load_acquire64(&h->cell->current); /* B */

    return NORIA_LATEST_OWNER(current) != 0 &&
           NORIA_LATEST_VERSION(current) != noria_load_relaxed64(&h->seen); /* private; receive looks again */
}

/* Copies the newest message out, if this handle has not had it. 0, -EAGAIN nothing new, or overtaken again
 * and again (then bytes of the buffer were changed), -EMSGSIZE `cap` is too small: then message->len says
 * how long it is and it stays the current one, -EBADMSG. */
static inline int noria_latest_recv(struct noria_latest_handle *h, void *data, size_t cap,
                                    struct noria_latest_message *message)
{
    for (int i = 0; i < NORIA_LATEST_RESTARTS; i++) {
        /* Before current: another thread's is then not newer. */
        uint64_t seen = noria_load_acquire64(&h->seen);
        uint64_t current = noria_load_acquire64(&h->cell->current); /* B: pairs with A */
        int rc;

        if (NORIA_LATEST_OWNER(current) == 0 || NORIA_LATEST_VERSION(current) == seen)
            return -EAGAIN;
        if (NORIA_LATEST_OWNER(current) > h->owners)
            return -EBADMSG;
        rc = noria_latest_copy(h, current, data, cap, message);
        if (rc == -EAGAIN)
            continue;
        if (rc != 0)
            return rc;
        message->missed = (message->version - seen - 1) % NORIA_LATEST_VERSIONS;
        /* Of threads that share the handle, one has it. */
        if (noria_cas_acq_rel64(&h->seen, &seen, message->version))
            return 0;
    }
    return -EAGAIN;
}

/* What can be said while nobody moves: the current buffer is whole. For tests, fuzzers and fsck. */
static inline bool noria_latest_invariant(void *memory, size_t size)
{
    struct noria_latest_handle h;
    struct noria_latest_buffer *buffer;
    uint64_t current;

    if (noria_latest_read_geometry(&h, memory, size) != 0)
        return false;
    current = noria_load_acquire64(&h.cell->current); /* B */
    if (NORIA_LATEST_OWNER(current) == 0)
        return true;
    if (NORIA_LATEST_OWNER(current) > h.owners)
        return false;
    buffer = noria_latest_buffer_at(&h, NORIA_LATEST_OWNER(current), current & 1);
    return noria_load_acquire64(&buffer->stamp) == NORIA_LATEST_VERSION(current) << 1 && /* F */
           noria_load_acquire32(&buffer->length) <= h.max_message;
}

#endif
