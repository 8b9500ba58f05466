/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels with priorities: one MPMC ring per level, the highest level first, FIFO within a level. So a level
 * has the whole capacity, and one that is full holds up nobody who sends at another. Low levels starve as
 * long as higher ones have messages: that is what priorities are.
 *
 * A receiver must not look at 32 rings for each message, so one word hints where there are some.
 *
 *     hints = hint, a bit per level (32) | level + 1 of the hint that is just being taken back (8) | by whom
 *     (16) | 0 (8)
 *
 *     sender                                     receiver who takes the hint of a level back
 *     commit: CAS in the ring         (M)        hints: bit away, "being taken back" there, in one CAS (N)
 *     full fence                                 full fence
 *     look at hints: set the bit if              look into the ring: something there: set the bit  (O)
 *     it is not there                 (P)        "being taken back" away                           (Q)
 *
 *   Promise: a receive that starts after a send at some level has returned gives no message of a lower level
 *   while that message is there. For when the send returned the bit was set, and a receiver looks at every
 *   level whose bit is set or just being taken back. It is away for good only after O, and there the fences
 *   decide: either the sender at P sees the bit away and sets it, or the receiver at O sees the record (store
 *   buffering with a fence on each side; M and N are compare-and-swaps, so that on x86 the fences cost
 *   nothing). Without "being taken back" a receiver that is stopped between N and O would hide a level from
 *   the others.
 *   Only one hint is taken back at a time; whoever finds another at it leaves his where it is, which costs a
 *   look. So nobody waits for a stopped one. A dead one is cleared away by whoever settles it, with all bits
 *   set.
 *
 * Hints only save looks; what is true stands in the rings. Before a receiver says "empty" it looks at all
 * levels, and at every 64th message, too: a sender killed between M and P strands nothing. It looks at one
 * after the other, so a message may come above behind its back while the last one below goes. Whoever took
 * that one had begun before the send above returned (the promise), so it may be said to have come first, and
 * between the two the channel was empty. A hint is taken back after 64 vain looks in a row at a level above
 * one that had a message: to set it again costs the next sender more than a few looks do.
 *
 * Progress and crash: those of the rings; a sender adds a load and at most one change of a word, a receiver
 * at most 32 looks, nobody waits. Zero copy: reserve sends at level 0; the token of a span names its level.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "detail.h"
#include "mpmc_ring.h"
#include "one_by_one.h"

enum { LOOK_AT_ALL_EVERY = 64, VAIN_LOOKS = 64, MOST_TRIES = 64 };
enum { MOST_PAUSES = 512, PATIENT_WAITS = 8, MOST_VAIN_WAITS = 64 }; /* for room */
#define TAKEN_BACK_SHIFT 32
#define TAKER_SHIFT 40

static struct noria_priority_part *part_of(noria_channel *base)
{
    return &noria_segment_channel_of(base)->part.priority;
}

static uint64_t bit_of(unsigned level)
{
    return UINT64_C(1) << level;
}

static unsigned highest_of(uint32_t levels)
{
    return 31u - (unsigned)__builtin_clz(levels);
}

/* -------------------------------------------------------------------------------------------------- hints */

/* After a commit at the level, and before the send returns. */
NORIA_FAST_PATH void hint(struct noria_priority_part *part, unsigned level)
{
    noria_fence_after_swap(); /* between M and P */
    /* P: relaxed, for the fence decides; what the receiver then reads is ordered by the rings. */
    if ((noria_load_relaxed64(&part->shared->hints) & bit_of(level)) == 0)
        noria_or_acq_rel64(&part->shared->hints, bit_of(level));
}

/* The levels at which a receiver must look. */
NORIA_FAST_PATH uint32_t hinted(const struct noria_priority_part *part)
{
    /* Acquire: who finds a bit away on the strength of Q sees what the receiver at O saw. */
    uint64_t word = noria_load_acquire64(&part->shared->hints);
    unsigned taken_back = (unsigned)(word >> TAKEN_BACK_SHIFT) & 0xff;

    return ((uint32_t)word | (taken_back != 0 ? UINT32_C(1) << ((taken_back - 1) & 31) : 0)) & part->all;
}

/* Ends the taking back that `upper`, the upper half of the word, says. */
static void end_taking_back(struct noria_priority *shared, uint64_t upper)
{
    uint64_t word = noria_load_relaxed64(&shared->hints); /* the swap checks it */

    for (int i = 0; i < MOST_TRIES && word >> TAKEN_BACK_SHIFT == upper; i++)
        if (noria_cas_acq_rel64(&shared->hints, &word, word & UINT32_MAX)) /* Q: release, what we saw at O */
            return;
}

static void take_back(struct noria_priority_part *part, unsigned level, uint32_t number)
{
    uint64_t word = noria_load_relaxed64(&part->shared->hints); /* the swap checks it */
    uint64_t upper = (uint64_t)number << (TAKER_SHIFT - TAKEN_BACK_SHIFT) | (level + 1);

    /* N. */
    if (word >> TAKEN_BACK_SHIFT != 0 || (word & bit_of(level)) == 0 ||
        !noria_cas_acq_rel64(&part->shared->hints, &word,
                             (word & ~bit_of(level)) | upper << TAKEN_BACK_SHIFT))
        return;
    noria_fence_after_swap(); /* between N and O */
    if (noria_mpmc_may_receive(&part->rings[level])) /* O */
        noria_or_acq_rel64(&part->shared->hints, bit_of(level));
    end_taking_back(part->shared, upper);
}

/* A message was found below: the levels that were looked at in vain. */
static void count_misses(struct noria_segment_channel *channel, uint32_t levels)
{
    struct noria_priority_part *part = &channel->part.priority;

    for (; levels != 0; levels &= levels - 1) {
        unsigned level = (unsigned)__builtin_ctz(levels);
        uint32_t misses = noria_load_relaxed32(&part->misses[level]) + 1; /* private; a race costs a look */
        noria_store_relaxed32(&part->misses[level], misses % VAIN_LOOKS);
        if (misses == VAIN_LOOKS)
            take_back(part, level, channel->number);
    }
}

/* ------------------------------------------------------------------------------------------------ sending */

NORIA_FAST_PATH void sent(struct noria_segment_channel *channel, unsigned level, int n)
{
    struct noria_priority_part *part = &channel->part.priority;

    hint(part, level);
    noria_store_relaxed64(&part->moved[NORIA_SIDE_SEND], /* private; a race loses a count */
                          noria_load_relaxed64(&part->moved[NORIA_SIDE_SEND]) + (uint64_t)n);
    noria_mpmc_sent(channel, &part->rings[level], n);
}

NORIA_FAST_PATH int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_priority_part *part = part_of(base);
    int rc =
        noria_reservation_exists(&part->out) ? -EBUSY : noria_mpmc_send(&part->rings[priority], data, len);

    if (rc == 0)
        sent(noria_segment_channel_of(base), priority, 1);
    return rc;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    struct noria_priority_part *part = part_of(base);
    int rc =
        noria_reservation_exists(&part->out) ? -EBUSY : noria_mpmc_send_many(&part->rings[0], messages, n);

    if (rc > 0)
        sent(noria_segment_channel_of(base), 0, rc);
    return rc;
}

static int reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    struct noria_priority_part *part = part_of(base);

    return noria_mpmc_reserve_span(noria_segment_channel_of(base), &part->out, &part->rings[0], max_len, span);
}

static int commit(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_priority_part *part = part_of(base);
    int rc = noria_mpmc_commit_span(channel, &part->out, &part->rings[0], span, len);

    if (rc == 0)
        sent(channel, 0, 1);
    return rc;
}

static int abort_reservation(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_priority_part *part = part_of(base);
    int rc = noria_mpmc_abort_span(channel, &part->out, &part->rings[0], span);

    if (rc != -EINVAL)
        noria_notify_senders(channel); /* there is room again */
    return rc;
}

/* ---------------------------------------------------------------------------------------------- receiving */

struct find {
    struct noria_mpmc_record record;
    unsigned level;
};

/* Takes the first message of the highest of `levels` that has one. `vain`: those above it. */
NORIA_FAST_PATH int take_among(struct noria_priority_part *part, uint32_t levels, size_t capacity,
                               struct find *find, uint32_t *vain)
{
    for (*vain = 0; levels != 0;) {
        unsigned level = highest_of(levels);
        struct noria_mpmc_handle *ring = &part->rings[level];
        /* A look first saves work at levels that are empty, which the last one to look at seldom is. */
        if ((levels & (levels - 1)) == 0 || !noria_mpmc_starts_empty(ring)) {
            int rc = noria_mpmc_peek_within(ring, capacity, &find->record);
            if (rc != -EAGAIN) {
                find->level = level;
                return rc;
            }
        }
        *vain |= UINT32_C(1) << level;
        levels &= ~(UINT32_C(1) << level);
    }
    return -EAGAIN;
}

/* Where no hint says that there is anything. */
static __attribute__((noinline)) int take_unhinted(struct noria_priority_part *part, uint32_t hinted_levels,
                                                   size_t capacity, struct find *find)
{
    uint32_t vain;
    int rc = take_among(part, part->all & ~hinted_levels, capacity, find, &vain);

    if (rc == 0)
        hint(part, find->level); /* its sender has not got so far; there may be more */
    return rc;
}

NORIA_FAST_PATH int take(struct noria_segment_channel *channel, size_t capacity, struct find *find)
{
    struct noria_priority_part *part = &channel->part.priority;
    uint64_t moved = noria_load_relaxed64(&part->moved[NORIA_SIDE_RECV]); /* private, like the stores below */
    uint32_t levels = moved % LOOK_AT_ALL_EVERY == 0 ? part->all : hinted(part), vain;
    int rc = take_among(part, levels, capacity, find, &vain);

    if (rc == -EAGAIN && levels != part->all) {
        rc = take_unhinted(part, levels, capacity, find);
        vain = 0;
    }
    if (rc == -EMSGSIZE)
        return noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", find->record.len,
                          capacity);
    if (rc != 0)
        return rc;
    noria_store_relaxed64(&part->moved[NORIA_SIDE_RECV], moved + 1);
    if (noria_load_relaxed32(&part->misses[find->level]) != 0)
        noria_store_relaxed32(&part->misses[find->level], 0);
    if (__builtin_expect(vain != 0, 0))
        count_misses(channel, vain);
    return 0;
}

static void fill_info(struct noria_segment_channel *channel, struct noria_info *info, const struct find *find)
{
    noria_mpmc_fill_info(channel, info, &find->record);
    if (info != NULL)
        info->priority = find->level;
}

NORIA_FAST_PATH ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_handle *ring;
    struct find find;
    int rc = take(channel, capacity, &find);

    if (rc != 0)
        return rc;
    ring = &channel->part.priority.rings[find.level];
    noria_copy(buffer, find.record.data, find.record.len);
    fill_info(channel, info, &find);
    rc = noria_mpmc_release(ring, &find.record);
    if (rc != 0)
        return rc;
    noria_mpmc_received(channel, ring, 1);
    return (ssize_t)find.record.len;
}

static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    return noria_recv_one_by_one(base, buffers, n, info, recv_one);
}

/* Names a held record among those held. */
static uint64_t key_of(const struct noria_priority_part *part, uint64_t position, uint64_t level)
{
    return (position & part->rings[level].mask) * NORIA_MOST_PRIORITIES + level + 1;
}

static int peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_priority_part *part = part_of(base);
    struct noria_holding *place;
    struct find find;
    int rc = noria_participant_is_alive(channel)
                 ? noria_holding_begin(&part->out, channel->geometry.max_held, &place)
                 : -EOWNERDEAD;

    if (rc != 0)
        return rc;
    rc = take(channel, SIZE_MAX, &find);
    if (rc != 0) {
        noria_store_release64(&place->key, 0);
        return rc;
    }
    span->data = find.record.data;
    span->len = find.record.len;
    span->token[0] = find.record.position;
    span->token[1] = find.level;
    /* The key publishes it: noria_holding_find. */
    noria_store_relaxed64(&place->position, find.record.position);
    noria_store_release64(&place->key, key_of(part, find.record.position, find.level));
    fill_info(channel, info, &find);
    noria_notify_senders(channel); /* what is held counts as a message no more: there is room */
    return 0;
}

static int release(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_priority_part *part = part_of(base);
    struct noria_mpmc_record record = {.position = span->token[0], .count = 1};
    uint64_t level = span->token[1], key;
    struct noria_holding *place;
    int rc;

    if (level >= channel->geometry.priorities)
        return -EINVAL;
    key = key_of(part, record.position, level);
    place = noria_holding_find(&part->out, channel->geometry.max_held, key, record.position);
    /* Of two releases at once, one goes on. */
    if (place == NULL || !noria_cas_acq_rel64(&place->key, &key, UINT64_MAX))
        return -EINVAL;
    rc = noria_mpmc_release_record(channel, &part->rings[level], &record);
    noria_store_release64(&place->key, 0);
    if (rc == 0)
        noria_mpmc_received(channel, &part->rings[level], 1);
    return rc;
}

/* ----------------------------------------------------------------------------------- joining and recovery */

static size_t stride_of(const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = noria_mpmc_config_of(geometry);
    size_t size = noria_mpmc_footprint(&config);

    return size == 0 || size > SIZE_MAX / (NORIA_MOST_PRIORITIES + 1)
               ? 0
               : (size + NORIA_LINE_PAIR - 1) & ~(size_t)(NORIA_LINE_PAIR - 1);
}

static size_t footprint(const struct noria_geometry *geometry)
{
    size_t stride = stride_of(geometry);

    return stride == 0 ? 0 : sizeof(struct noria_priority) + stride * geometry->priorities;
}

static void *ring_memory(void *area, size_t stride, uint32_t level)
{
    return (uint8_t *)area + sizeof(struct noria_priority) + stride * level;
}

static int format(void *area, size_t size, const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = noria_mpmc_config_of(geometry);
    size_t stride = stride_of(geometry);
    int rc = 0;

    (void)size; /* the footprint */
    memset(area, 0, sizeof(struct noria_priority));
    for (uint32_t level = 0; rc == 0 && level < geometry->priorities; level++)
        rc = noria_mpmc_format(ring_memory(area, stride, level), stride, &config);
    return rc;
}

static int read_ring(const struct noria_segment_channel *channel, uint32_t level,
                     struct noria_mpmc_handle *ring)
{
    size_t stride = channel->part.priority.stride;

    return noria_mpmc_attach(channel, ring, ring_memory(channel->ring, stride, level), stride);
}

static int attach(struct noria_segment_channel *channel)
{
    struct noria_priority_part *part = &channel->part.priority;
    int rc = 0;

    part->stride = stride_of(&channel->geometry);
    part->shared = channel->ring;
    part->all = (uint32_t)(bit_of(channel->geometry.priorities) - 1);
    for (uint32_t level = 0; rc == 0 && level < channel->geometry.priorities; level++)
        rc = read_ring(channel, level, &part->out.ring);
    return rc;
}

static int join(struct noria_segment_channel *channel, int flags)
{
    struct noria_priority_part *part = &channel->part.priority;
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = 0;

    (void)flags; /* sending and receiving need no role */
    part->most_pauses = geometry->capacity / 2 < MOST_PAUSES ? geometry->capacity / 2 : MOST_PAUSES;
    part->rings = calloc(geometry->priorities, sizeof(*part->rings));
    part->out.held = calloc(geometry->max_held, sizeof(*part->out.held));
    if (part->rings == NULL || part->out.held == NULL)
        return noria_fail(-ENOMEM, "out of memory for %u levels and max_held %u", geometry->priorities,
                          geometry->max_held);
    for (uint32_t level = 0; rc == 0 && level < geometry->priorities; level++) {
        rc = read_ring(channel, level, &part->rings[level]);
        if (rc == 0)
            rc = noria_mpmc_start(&part->rings[level], channel->number);
    }
    return rc;
}

static void dispose(struct noria_segment_channel *channel)
{
    free(channel->part.priority.rings);
    free(channel->part.priority.out.held);
}

/* Orphans may be anywhere, and the hint that the owner was just taking back is there again. */
static void settle_hints(struct noria_priority_part *part, uint32_t owner)
{
    uint64_t word = noria_load_relaxed64(&part->shared->hints); /* the swap checks it */

    /* In one swap. If it is taken back by somebody reborn meanwhile, his bit is set by it; in two he might
     * have taken it away in between, and nothing would say so. */
    for (int i = 0; i < MOST_TRIES; i++) {
        bool his = (word >> TAKER_SHIFT & 0xffff) == owner;
        if (noria_cas_acq_rel64(&part->shared->hints, &word, (his ? word & UINT32_MAX : word) | part->all))
            return;
    }
    noria_or_acq_rel64(&part->shared->hints, part->all); /* "taken back" stays, which costs others a look */
}

static void leave(struct noria_segment_channel *channel)
{
    struct noria_priority_part *part = &channel->part.priority;

    for (uint32_t level = 0; level < channel->geometry.priorities; level++)
        noria_mpmc_leave(channel, &part->rings[level]);
    settle_hints(part, channel->number);
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_priority_part *part = &channel->part.priority;
    int rc = 0;

    for (uint32_t level = 0; rc == 0 && level < channel->geometry.priorities; level++) {
        struct noria_mpmc_handle ring; /* recovery may come before our join */
        rc = read_ring(channel, level, &ring);
        if (rc == 0)
            rc = noria_mpmc_settle_owner(channel, &ring, owner, entry_word);
    }
    settle_hints(part, owner);
    return rc;
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    for (uint32_t level = 0; level < channel->geometry.priorities; level++)
        if (noria_mpmc_held_elsewhere(&channel->part.priority.rings[level], channel->number))
            return true;
    return false;
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    struct noria_mpmc_handle *rings = channel->part.priority.rings;

    if (side == NORIA_SIDE_SEND)
        return noria_mpmc_may_send(&rings[level]);
    for (level = 0; level < channel->geometry.priorities; level++)
        if (noria_mpmc_may_receive(&rings[level]))
            return true;
    return false;
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    return noria_load_relaxed64(&channel->part.priority.moved[side]);
}

/*
 * How long a sender waits for room at a full level before it looks again. Its receiver comes there last, after
 * all levels above: a sender who took the first place that is freed would be back after one message, and
 * meanwhile the two would take each other's lines with every message. So unlike in noria_backoff_wait a wait in
 * vain does not make the next one shorter before PATIENT_WAITS were, nor does it change what has paid. Not more
 * pauses than half of the level, which a receiver takes about one a pause: it is not to run dry meanwhile.
 */
static void wait_for_room(struct noria_priority_part *part)
{
    struct noria_backoff *backoff = &part->backoffs[NORIA_SIDE_SEND]; /* all of it is private; a race costs a pause */
    uint64_t moved = noria_load_relaxed64(&part->moved[NORIA_SIDE_SEND]), pauses;
    uint32_t vain = noria_load_relaxed32(&part->vain_waits);

    if (moved != noria_load_relaxed64(&backoff->position)) {
        noria_store_relaxed32(&part->vain_waits, 0);
        noria_backoff_wait(backoff, moved, 1, part->most_pauses);
        return;
    }
    if (vain < MOST_VAIN_WAITS)
        noria_store_relaxed32(&part->vain_waits, vain + 1);
    pauses = noria_load_relaxed64(&backoff->pauses) >> (vain < PATIENT_WAITS ? 0 : vain - PATIENT_WAITS + 1);
    do
        noria_pause();
    while (pauses-- > 1);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    struct noria_priority_part *part = part_of(base);

    if (side == NORIA_SIDE_SEND)
        wait_for_room(part);
    else /* private */
        noria_backoff_wait(&part->backoffs[side], noria_load_relaxed64(&part->moved[side]), 1, NORIA_MPMC_BACKOFF);
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    stat->messages = stat->bytes = 0;
    stat->held = 0;
    for (uint32_t level = 0; level < channel->geometry.priorities; level++) {
        struct noria_mpmc_handle ring; /* an inspector has not joined */
        struct noria_stat one = {.messages = -1, .bytes = -1};
        if (read_ring(channel, level, &ring) == 0)
            noria_mpmc_fill_stat(&ring, &one);
        stat->messages = one.messages < 0 || stat->messages < 0 ? -1 : stat->messages + one.messages;
        stat->bytes = one.bytes < 0 || stat->bytes < 0 ? -1 : stat->bytes + one.bytes;
        stat->held += one.held;
    }
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    uint32_t held = 0;

    for (uint32_t level = 0; level < channel->geometry.priorities; level++) {
        struct noria_mpmc_handle ring;
        if (read_ring(channel, level, &ring) == 0)
            held += noria_mpmc_held_by(&ring, owner);
    }
    return held;
}

NORIA_WHOLE_CALLS(send_one, recv_one)

const struct noria_kind_table noria_priority_kind = {
    .name = "priority",
    .takes = NORIA_TAKES_MANY_HELD | NORIA_TAKES_ORPHANS_DROP | NORIA_TAKES_DROP_NEWEST |
             NORIA_TAKES_PRIORITIES,
    .verbs = {.send = send_one, .send_many = send_many, .recv = recv_one, .recv_many = recv_many,
              .reserve = reserve, .commit = commit, .abort = abort_reservation, .peek = peek,
              .release = release, .back_off = back_off, .send_call = send_call, .recv_call = recv_call,
              NORIA_SEGMENT_VERBS},
    .footprint = footprint, .format = format, .attach = attach, .join = join, .leave = leave,
    .dispose = dispose, .settle = settle, .held_elsewhere = held_elsewhere, .ready = ready,
    .progress = progress, .count = count, .held_by = held_by, .anatomy = &noria_priority_anatomy,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER |
                 NORIA_CAN_ZERO_COPY | NORIA_CAN_PRIORITY,
};
