/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels over the broadcast ring: one sender, every receiver gets every message. Three kinds by what the
 * sender does about a receiver that does not get on: it waits (reliable), waits for so long and leaves it
 * behind (evicting), or overwrites (lossy). The sender's half is the same; receivers of the last two copy
 * first and ask afterwards whether it held.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "call.h"
#include "detail.h"
#include "segment_channel.h"

static struct noria_broadcast_part *part_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.broadcast;
}

/* ------------------------------------------------------------------------------------------------ sending */

static int sent(struct noria_segment_channel *channel, int n)
{
    channel->part.broadcast.held_up_since = 0;
    noria_count_alone(&channel->own->sent, (uint64_t)n);
    noria_notify_receivers(channel);
    return n;
}

/* The ring is full: whether a receiver, the slowest, has held us up, standing still, for evict_ns. Counts
 * from the first send, or the first look for room, that it held up. */
static bool eviction_is_due(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_slowest slowest;
    int64_t now;

    if (channel->geometry.evict_ns == 0)
        return false;
    now = noria_now_ns();
    noria_broadcast_find_slowest(&part->sender, &slowest);
    if (part->held_up_since == 0 || slowest.life != part->slowest.life ||
        slowest.owner != part->slowest.owner || slowest.position != part->slowest.position) {
        part->slowest = slowest;
        part->held_up_since = now;
        return false;
    }
    return now - part->held_up_since >= channel->geometry.evict_ns;
}

/* Whether a receiver had to be left behind just now. */
static bool evict_if_due(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;

    return eviction_is_due(channel) && noria_broadcast_evict(&part->sender, &part->slowest) == 1;
}

/* 0, or why this handle may not send just now: the ring's words do not know who stores them. */
static inline int may_begin(const struct noria_segment_channel *channel)
{
    if (__builtin_expect(channel->part.broadcast.reserved != 0, 0))
        return -EBUSY;
    return noria_participant_is_alive(channel) ? 0 : -EOWNERDEAD;
}

static inline int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_part *part = &channel->part.broadcast;
    int rc = may_begin(channel);

    (void)priority;
    if (rc == 0)
        rc = noria_broadcast_send(&part->sender, data, len);
    if (rc == -EAGAIN && evict_if_due(channel))
        rc = noria_broadcast_send(&part->sender, data, len);
    if (rc == 0)
        sent(channel, 1);
    return rc;
}

/* Stages as many as there is room for and publishes them with one store. */
static int stage_many(struct noria_segment_channel *channel, const struct iovec *messages, int n)
{
    struct noria_broadcast_sender *sender = &channel->part.broadcast.sender;
    struct noria_broadcast_record record;
    int staged = 0, rc = 0;

    while (staged < n && rc == 0) {
        size_t len = messages[staged].iov_len;
        rc = len > channel->base.max_message ? -EMSGSIZE : noria_broadcast_reserve(sender, len, &record);
        if (rc != 0)
            break;
        noria_broadcast_fill(sender, &record, messages[staged].iov_base, len);
        rc = noria_broadcast_stage(sender, &record, len);
        staged += rc == 0;
    }
    if (staged == 0)
        return rc;
    noria_broadcast_publish(sender);
    return sent(channel, staged);
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int rc = may_begin(channel);

    if (rc == 0)
        rc = stage_many(channel, messages, n);
    return rc == -EAGAIN && evict_if_due(channel) ? stage_many(channel, messages, n) : rc;
}

static struct noria_broadcast_record record_of(const struct noria_span *span)
{
    return (struct noria_broadcast_record){span->data, span->len, span->token[0], span->token[1]};
}

static void set_span(struct noria_span *span, const struct noria_broadcast_record *record)
{
    span->data = record->data;
    span->len = record->len;
    span->token[0] = record->position;
    span->token[1] = record->next;
}

static int reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_record record;
    int rc = may_begin(channel);

    if (rc == 0)
        rc = noria_broadcast_reserve(&part->sender, max_len, &record);
    if (rc == -EAGAIN && evict_if_due(channel))
        rc = noria_broadcast_reserve(&part->sender, max_len, &record);
    if (rc == 0) {
        part->reserved = 1;
        part->reserved_at = record.position;
        set_span(span, &record);
    }
    return rc;
}

static bool is_reserved(const struct noria_broadcast_part *part, const struct noria_span *span)
{
    return part->reserved != 0 && span->token[0] == part->reserved_at;
}

static int commit(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_record record = record_of(span);
    int rc;

    if (!is_reserved(part, span))
        return -EINVAL;
    rc = noria_participant_is_alive(channel) ? noria_broadcast_commit(&part->sender, &record, len) : -EOWNERDEAD;
    if (rc == 0 || rc == -EOWNERDEAD)
        part->reserved = 0;
    if (rc == 0)
        sent(channel, 1);
    return rc;
}

static int abort_reservation(noria_channel *base, struct noria_span *span)
{
    struct noria_broadcast_part *part = part_of(base);

    if (!is_reserved(part, span))
        return -EINVAL;
    part->reserved = 0;
    return 0;
}

/* ---------------------------------------------------------------------------------------------- receiving */

static void received(struct noria_segment_channel *channel, uint32_t n)
{
    noria_count_alone(&channel->own->received, n);
    noria_store_relaxed32(&channel->seen_sender, 1);
    if (channel->geometry.full != NORIA_FULL_OVERWRITE_OLDEST) /* whose sender never waits */
        noria_notify_senders(channel);
}

/* What this receiver missed since the last message that said so: what was dropped for all, and what went
 * before it came. */
static uint64_t take_losses(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    uint64_t dropped = noria_load_relaxed64(&channel->shared->lost); /* statistics */
    uint64_t lost = part->untold + (dropped - part->dropped_told);

    part->untold = 0;
    part->dropped_told = dropped;
    return lost;
}

static inline void fill_info(struct noria_segment_channel *channel, struct noria_info *info, size_t len,
                             uint64_t sequence)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    uint32_t sender;

    if (part->receiver.missed != 0) {
        part->untold += part->receiver.missed;
        noria_count(&channel->shared->missed, part->receiver.missed);
        part->receiver.missed = 0;
    }
    if (info == NULL)
        return;
    sender = NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(channel->ring));
    part->last_sender = sender != 0 ? sender : part->last_sender;
    memset(info, 0, sizeof(*info));
    info->size = (uint32_t)len;
    info->sender = part->last_sender;
    info->sequence = sequence;
    info->lost = take_losses(channel);
    info->flags = info->lost != 0 ? NORIA_LOST : 0;
}

static int explain_too_long(struct noria_segment_channel *channel, size_t len, size_t capacity)
{
    if (len > channel->base.max_message)
        return -EBADMSG;
    return noria_fail(-EMSGSIZE, "the message has %zu bytes, the buffer %zu; it stays first", len, capacity);
}

/* Reliable: what is looked at stays until it is released. */
static int look_within(struct noria_segment_channel *channel, size_t capacity,
                       struct noria_broadcast_record *record)
{
    int rc = noria_participant_is_alive(channel)
                 ? noria_broadcast_look_in_place(&channel->part.broadcast.receiver, record)
                 : -EOWNERDEAD;

    if (rc == 0 && (record->len > capacity || record->len > channel->base.max_message))
        return explain_too_long(channel, record->len, capacity);
    return rc;
}

static inline ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_receiver *receiver = &channel->part.broadcast.receiver;
    struct noria_broadcast_record record;
    int rc = channel->part.broadcast.held != 0 ? -EBUSY : look_within(channel, capacity, &record);

    if (rc != 0)
        return rc;
    noria_copy(buffer, record.data, record.len);
    fill_info(channel, info, record.len, receiver->sequence);
    noria_broadcast_pass(receiver, &record);
    noria_broadcast_release_before(receiver, record.next);
    received(channel, 1);
    return (ssize_t)record.len;
}

/* Copies out what is there and releases all of it with one store. */
static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_receiver *receiver = &channel->part.broadcast.receiver;
    struct noria_broadcast_record record;
    int taken = 0, rc = channel->part.broadcast.held != 0 ? -EBUSY : 0;

    while (taken < n && rc == 0) {
        rc = look_within(channel, buffers[taken].iov_len, &record);
        if (rc != 0)
            break;
        noria_copy(buffers[taken].iov_base, record.data, record.len);
        buffers[taken].iov_len = record.len;
        fill_info(channel, info != NULL ? &info[taken] : NULL, record.len, receiver->sequence);
        noria_broadcast_pass(receiver, &record);
        taken++;
    }
    if (taken == 0)
        return rc;
    noria_broadcast_release_before(receiver, receiver->position);
    received(channel, (uint32_t)taken);
    return taken;
}

static int peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_record record;
    int rc = part->held >= channel->geometry.max_held ? -EBUSY : look_within(channel, SIZE_MAX, &record);

    if (rc == 0) {
        set_span(span, &record);
        fill_info(channel, info, record.len, part->receiver.sequence);
        noria_broadcast_pass(&part->receiver, &record);
        part->held++;
    }
    return rc;
}

static int release(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_record record = record_of(span);
    int rc = -EINVAL;

    if (part->held != 0)
        rc = noria_participant_is_alive(channel) ? noria_broadcast_release(&part->receiver, &record) : -EOWNERDEAD;
    if (rc == -EOWNERDEAD)
        part->held = 0;
    if (rc == 0) {
        part->held--;
        received(channel, 1);
    }
    return rc;
}

/* -------------------------------------------------------- receiving what may go under the receiver's eyes */

static int copy_next(struct noria_segment_channel *channel, void *buffer, size_t capacity, size_t *len)
{
    int rc = noria_participant_is_alive(channel)
                 ? noria_broadcast_copy_next(&channel->part.broadcast.receiver, buffer, capacity, len)
                 : -EOWNERDEAD;

    if (rc == -EMSGSIZE || (rc == 0 && *len > channel->base.max_message))
        return explain_too_long(channel, *len, capacity);
    return rc;
}

static inline ssize_t copy_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_receiver *receiver = &channel->part.broadcast.receiver;
    size_t len = 0;
    int rc = copy_next(channel, buffer, capacity, &len);

    if (rc != 0)
        return rc;
    fill_info(channel, info, len, receiver->sequence - 1);
    noria_broadcast_release_before(receiver, receiver->position);
    received(channel, 1);
    return (ssize_t)len;
}

static int copy_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_broadcast_receiver *receiver = &channel->part.broadcast.receiver;
    int taken = 0, rc = 0;

    while (taken < n) {
        size_t len = 0;
        rc = copy_next(channel, buffers[taken].iov_base, buffers[taken].iov_len, &len);
        if (rc != 0)
            break;
        buffers[taken].iov_len = len;
        fill_info(channel, info != NULL ? &info[taken] : NULL, len, receiver->sequence - 1);
        taken++;
    }
    if (taken == 0)
        return rc;
    noria_broadcast_release_before(receiver, receiver->position);
    received(channel, (uint32_t)taken);
    return taken;
}

/* In place there is nothing to see that could not change meanwhile. */
static int refuse_to_peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    (void)base;
    (void)span;
    (void)info;
    return noria_fail(-ENOTSUP, "a message that may be overwritten cannot be used in place; use noria_recv");
}

static int refuse_to_release(noria_channel *base, struct noria_span *span)
{
    (void)base;
    (void)span;
    return -EINVAL; /* nothing was peeked */
}

/* ------------------------------------------------------------------------------------- roles and recovery */

static enum noria_broadcast_mode mode_of(const struct noria_geometry *geometry)
{
    if (geometry->full == NORIA_FULL_OVERWRITE_OLDEST)
        return NORIA_BROADCAST_LOSSY;
    return geometry->evict_ns != 0 ? NORIA_BROADCAST_EVICTING : NORIA_BROADCAST_RELIABLE;
}

static uint64_t capacity_of(const struct noria_geometry *geometry)
{
    return noria_broadcast_capacity_for(geometry->capacity, geometry->max_message);
}

static size_t footprint(const struct noria_geometry *geometry)
{
    return noria_broadcast_footprint(
        capacity_of(geometry), mode_of(geometry) == NORIA_BROADCAST_LOSSY ? 0 : geometry->max_participants);
}

static int format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    return noria_broadcast_format(ring, size, capacity_of(geometry), geometry->max_participants,
                                  mode_of(geometry), geometry->first_position);
}

static int attach(struct noria_segment_channel *channel)
{
    const struct noria_geometry *geometry = &channel->geometry;
    struct noria_broadcast_shape *shape = &channel->part.broadcast.shape;
    int rc = noria_broadcast_read_shape(shape, channel->ring, (size_t)geometry->ring_size);

    if (rc != 0 || shape->capacity != capacity_of(geometry) || shape->mode != (uint32_t)mode_of(geometry) ||
        (shape->owners != 0 && shape->owners != geometry->max_participants))
        return noria_fail(-EBADMSG, "the ring contradicts the channel's geometry; remove the channel");
    return 0;
}

static int join_as_sender(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    size_t size = (size_t)channel->geometry.ring_size;
    uint32_t owner = NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(channel->ring));
    int rc = noria_broadcast_join_sender(&part->sender, channel->ring, size, channel->number);

    if (rc == -EBUSY && owner != 0 && owner <= channel->geometry.max_participants) {
        noria_recover(channel, owner, true); /* or another recoverer is faster */
        rc = noria_broadcast_join_sender(&part->sender, channel->ring, size, channel->number);
    }
    if (rc == -EBUSY)
        return noria_fail(
            -EBUSY,
            "the channel has a sender already, and it is alive (see `noria who`); a broadcast channel "
            "takes one");
    if (rc != 0)
        return noria_fail(rc, "the ring is corrupt: its records do not end where the sender would go on");
    part->roles |= NORIA_SEND;
    return 0;
}

static int join_as_receiver(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    int rc = noria_broadcast_join_receiver(
        &part->receiver, channel->ring, (size_t)channel->geometry.ring_size, channel->number,
        (enum noria_broadcast_start)channel->start, channel->start_position);

    if (rc == -EAGAIN)
        return noria_fail(
            -EAGAIN,
            "the sender overwrites the ring faster than this process finds its place in it; try again, "
            "or create the channel with a larger capacity");
    if (rc != 0)
        return noria_fail(-EBADMSG, "the ring is corrupt: no record is where its marks say");
    part->roles |= NORIA_RECV;
    part->dropped_told = noria_load_relaxed64(&channel->shared->lost); /* before our time */
    return 0;
}

static void leave(struct noria_segment_channel *channel)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;

    if ((part->roles & NORIA_SEND) != 0)
        noria_broadcast_leave_sender(&part->sender);
    if ((part->roles & NORIA_RECV) != 0)
        noria_broadcast_leave_receiver(&part->receiver);
    part->roles = 0;
}

static int join(struct noria_segment_channel *channel, int flags)
{
    int rc = (flags & NORIA_SEND) != 0 ? join_as_sender(channel) : 0;

    if (rc == 0 && (flags & NORIA_RECV) != 0)
        rc = join_as_receiver(channel);
    if (rc != 0)
        leave(channel);
    return rc;
}

static void dispose(struct noria_segment_channel *channel)
{
    (void)channel; /* nothing was allocated */
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    const struct noria_broadcast_shape *shape = &channel->part.broadcast.shape;
    uint64_t role = noria_broadcast_find_sender(channel->ring),
             life = noria_broadcast_find_cursor(shape, owner);
    bool sends = NORIA_BROADCAST_OWNER(role) == owner,
         receives = NORIA_CURSOR_STATE(life) != NORIA_CURSOR_FREE;

    if ((sends || receives) && !noria_participant_is_dead(channel, owner, entry_word, true))
        return -EAGAIN;
    /* A swap that is lost: another settled it, for the dead cannot. */
    if (sends)
        noria_broadcast_settle_sender(channel->ring, role);
    if (receives)
        noria_broadcast_settle_cursor(shape, owner, life);
    return 0;
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    struct noria_broadcast_part *part = &channel->part.broadcast;
    struct noria_broadcast_record record;

    (void)level;
    if (!noria_participant_is_alive(channel))
        return true; /* the call says so */
    if (side == NORIA_SIDE_SEND) /* with a reservation out a send says so */
        return part->reserved != 0 ||
               noria_broadcast_may_send(&part->sender, channel->geometry.max_message) ||
               eviction_is_due(channel); /* which the send then does */
    /* what is corrupt the receiver is told */
    return noria_broadcast_look(&part->receiver, &record) != -EAGAIN ||
           noria_broadcast_is_overtaken(&part->receiver, part->receiver.position);
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    (void)channel;
    return false; /* what another receiver holds is its own copy of the stream */
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_broadcast_part *part = &channel->part.broadcast;

    return noria_load_relaxed64(side == NORIA_SIDE_SEND ? &part->sender.write_pos : &part->receiver.position);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    struct noria_broadcast_part *part = part_of(base);

    if (side == NORIA_SIDE_SEND)
        noria_broadcast_wait_sender(&part->sender);
    else
        noria_broadcast_wait_receiver(&part->receiver);
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    uint64_t records, bytes;
    int rc = noria_broadcast_count(&channel->part.broadcast.shape, &records, &bytes);

    stat->messages = rc == 0 ? (int64_t)records : -1;
    stat->bytes = rc == 0 ? (int64_t)bytes : -1;
    stat->held = channel->part.broadcast.held; /* by others, they alone know */
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    uint64_t life = noria_broadcast_find_cursor(&channel->part.broadcast.shape, owner);

    return (uint32_t)(NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(channel->ring)) == owner) +
           (uint32_t)(NORIA_CURSOR_STATE(life) != NORIA_CURSOR_FREE);
}

/* ------------------------------------------------------------------------------------ read-only receivers */

/* The whole pages of the ring among its first `bytes`, for a handle that does not send. */
static int protect(struct noria_segment_channel *channel, size_t bytes, int protection)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)channel->ring + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)channel->ring + bytes + page - 1) & ~(page - 1);

    if (start >= end || mprotect((void *)start, end - start, protection) == 0)
        return 0;
    return noria_fail(-errno, "cannot make the ring read-only: %s", noria_error_words(errno));
}

static int join_lossy(struct noria_segment_channel *channel, int flags)
{
    bool protects = (flags & NORIA_SEND) == 0 && !channel->segment.backend->is_shared_in_process;
    int rc = protects ? protect(channel, (size_t)channel->geometry.ring_size, PROT_READ) : 0;

    channel->part.broadcast.is_protected = protects;
    return rc != 0 ? rc : join(channel, flags);
}

/* The role word of a dead sender is the one word of the ring that a receiver may have to write, and never two
 * threads at once: a handle that does not send has one caller, and opens and closes alone. */
static int settle_lossy(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    bool opens = channel->part.broadcast.is_protected &&
                 NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(channel->ring)) == owner;
    int rc;

    if (opens && protect(channel, sizeof(struct noria_broadcast), PROT_READ | PROT_WRITE) != 0)
        return -EAGAIN;
    rc = settle(channel, owner, entry_word);
    if (opens)
        protect(channel, sizeof(struct noria_broadcast), PROT_READ);
    return rc;
}

/* ---------------------------------------------------------------------------------------- the three kinds */

#define SENDER_VERBS \
    .send = send_one, .send_many = send_many, .reserve = reserve, .commit = commit, \
    .abort = abort_reservation, .back_off = back_off, NORIA_SEGMENT_VERBS

#define COPYING_VERBS \
    .recv = copy_one, .recv_many = copy_many, .peek = refuse_to_peek, .release = refuse_to_release, \
    .send_call = noria_send_call, .recv_call = noria_recv_call

#define SHARED_FUNCTIONS \
    .footprint = footprint, .format = format, .attach = attach, .leave = leave, .dispose = dispose, \
    .held_elsewhere = held_elsewhere, .ready = ready, .progress = progress, .count = count, \
    .held_by = held_by, .anatomy = &noria_broadcast_anatomy, .one_caller = true

NORIA_LANE_CALLS(send_one, recv_one)

const struct noria_kind_table noria_broadcast_kind = {
    .name = "broadcast",
    .takes = NORIA_TAKES_MANY_HELD | NORIA_TAKES_DROP_NEWEST,
    .verbs = {.recv = recv_one,
              .recv_many = recv_many,
              .peek = peek,
              .release = release,
              .send_call = send_call,
              .recv_call = recv_call,
              SENDER_VERBS},
    .join = join,
    .settle = settle,
    SHARED_FUNCTIONS,
    .abilities = NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_ZERO_COPY,
};

const struct noria_kind_table noria_evicting_kind = {
    .name = "broadcast with eviction", .takes = NORIA_TAKES_DROP_NEWEST | NORIA_TAKES_EVICTION,
    .verbs = {COPYING_VERBS, SENDER_VERBS},
    .join = join, .settle = settle, SHARED_FUNCTIONS,
    .abilities = NORIA_CAN_MANY_RECEIVERS,
};

const struct noria_kind_table noria_lossy_kind = {
    .name = "broadcast that overwrites", .takes = NORIA_TAKES_OVERWRITE,
    .verbs = {COPYING_VERBS, SENDER_VERBS},
    .join = join_lossy, .settle = settle_lossy, SHARED_FUNCTIONS,
    .abilities = NORIA_CAN_MANY_RECEIVERS, .reads_only = true,
};
