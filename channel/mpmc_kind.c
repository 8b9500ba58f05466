/* SPDX-License-Identifier: BSD-2-Clause */
/* Channels over the MPMC ring: many senders, many receivers, strict FIFO. Threads may share a handle. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

static struct noria_mpmc_handle *ring_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.mpmc.ring;
}

/* After a step over somebody: he may be dead, and a busy ring never gets stuck enough to ask otherwise. */
static void ask_after_stepped(struct noria_segment_channel *channel)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    uint64_t word = noria_load_relaxed64(&ring->in_the_way); /* private */

    if (word == 0)
        return;
    noria_store_relaxed64(&ring->in_the_way, 0);
    noria_ask_after(channel, NORIA_MPMC_OWNER(word));
}

static void sent(struct noria_segment_channel *channel, int n)
{
    noria_count(&channel->table[channel->number - 1].sent, (uint64_t)n);
    noria_notify_receivers(channel);
    ask_after_stepped(channel);
}

static void received(struct noria_segment_channel *channel, int n)
{
    noria_count(&channel->table[channel->number - 1].received, (uint64_t)n);
    if (noria_load_relaxed32(&channel->seen_sender) == 0)
        noria_store_relaxed32(&channel->seen_sender, 1);
    noria_notify_senders(channel);
    ask_after_stepped(channel);
}

/* -------------------------------------------------------------------------------------------------------- sending */

static int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    int rc;

    (void)priority;
    if (noria_reservation_exists(&noria_segment_channel_of(base)->part.mpmc))
        return -EBUSY; /* it would overtake the reservation, or not */
    rc = noria_mpmc_send(ring_of(base), data, len);
    if (rc == 0)
        sent(noria_segment_channel_of(base), 1);
    return rc;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    int rc = noria_reservation_exists(&noria_segment_channel_of(base)->part.mpmc)
                 ? -EBUSY
                 : noria_mpmc_send_many(ring_of(base), messages, n);

    if (rc > 0)
        sent(noria_segment_channel_of(base), rc);
    return rc;
}

static int reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    int rc = noria_reservation_begin(&channel->part.mpmc);

    if (rc != 0)
        return rc;
    noria_reservation_set(&channel->part.mpmc, 0);
    rc = noria_mpmc_reserve(&channel->part.mpmc.ring, &record);
    if (rc != 0) {
        noria_reservation_end(&channel->part.mpmc, 0);
        return rc;
    }
    noria_reservation_set(&channel->part.mpmc, record.position);
    span->data = record.data;
    span->len = max_len;
    span->token[0] = record.position;
    span->token[1] = 0;
    return 0;
}

static int commit(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record = {.data = span->data, .len = span->len, .position = span->token[0], .count = 1};
    int rc;

    if (!noria_reservation_is_at(&channel->part.mpmc, span->token[0]))
        return -EINVAL;
    rc = noria_mpmc_commit(&channel->part.mpmc.ring, &record, len);
    if (rc == -EAGAIN) /* contention; the reservation stands */
        return rc;
    noria_reservation_end(&channel->part.mpmc, span->token[0]);
    if (rc == 0)
        sent(channel, 1);
    return rc;
}

static int abort_reservation(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record = {.position = span->token[0]};
    int rc = noria_reservation_end(&channel->part.mpmc, span->token[0]);

    if (rc != 0)
        return rc;
    rc = noria_mpmc_abort(&channel->part.mpmc.ring, &record);
    noria_notify_senders(channel); /* there is room again */
    return rc;
}

/* ------------------------------------------------------------------------------------------------------- receiving */

/* With pack > 1 the group that is being handed out is one cursor of the handle; threads take turns at it. */
static void lock_group(struct noria_segment_channel *channel)
{
    if (channel->geometry.pack > 1)
        while (noria_exchange_acquire32(&channel->part.mpmc.group_busy, 1) != 0) /* pairs with unlock_group */
            sched_yield();
}

static void unlock_group(struct noria_segment_channel *channel)
{
    if (channel->geometry.pack > 1)
        noria_store_release32(&channel->part.mpmc.group_busy, 0);
}

static void fill_info(struct noria_segment_channel *channel, struct noria_info *info,
                      const struct noria_mpmc_record *record)
{
    bool redelivered = (record->flags & NORIA_MPMC_REDELIVERED) != 0;

    if (redelivered)
        noria_count(&channel->shared->redelivered, 1);
    if (info != NULL)
        noria_fill_info(channel, info, record->len, record->sender, record->sequence, redelivered);
}

static int take(struct noria_segment_channel *channel, size_t capacity, struct noria_mpmc_record *record)
{
    int rc = noria_mpmc_peek_within(&channel->part.mpmc.ring, capacity, record);

    if (rc == -EMSGSIZE)
        noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", record->len, capacity);
    return rc;
}

static ssize_t receive_one(struct noria_segment_channel *channel, void *buffer, size_t capacity,
                           struct noria_info *info)
{
    struct noria_mpmc_record record;
    int rc;

    /* A group is released in its order, so a copy cannot overtake what was peeked. */
    if (channel->geometry.pack > 1 && noria_load_relaxed32(&channel->part.mpmc.held_count) != 0)
        return -EBUSY;
    rc = take(channel, capacity, &record);
    if (rc != 0)
        return rc;
    if (record.len != 0)
        memcpy(buffer, record.data, record.len);
    fill_info(channel, info, &record);
    rc = noria_mpmc_release(&channel->part.mpmc.ring, &record);
    return rc == 0 ? (ssize_t)record.len : rc;
}

static ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    ssize_t rc;

    lock_group(channel);
    rc = receive_one(channel, buffer, capacity, info);
    unlock_group(channel);
    if (rc >= 0)
        received(channel, 1);
    return rc;
}

static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int taken = 0;
    ssize_t rc = 0;

    lock_group(channel);
    while (taken < n) {
        rc = receive_one(channel, buffers[taken].iov_base, buffers[taken].iov_len, info != NULL ? &info[taken] : NULL);
        if (rc < 0)
            break;
        buffers[taken++].iov_len = (size_t)rc;
    }
    unlock_group(channel);
    if (taken == 0)
        return (int)rc;
    received(channel, taken);
    return taken;
}

/* Names a held record among those held: a slot is held once, and a group's records have their places in it. */
static uint64_t key_of(const struct noria_segment_channel *channel, uint64_t position, uint64_t index)
{
    return (position & channel->part.mpmc.ring.mask) * channel->geometry.pack + index + 1;
}

static int peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    struct noria_holding *place;
    int rc = noria_holding_begin(&channel->part.mpmc, channel->geometry.max_held, &place);

    if (rc != 0)
        return rc;
    lock_group(channel);
    rc = take(channel, SIZE_MAX, &record);
    if (rc == 0)
        noria_add_relaxed32(&channel->part.mpmc.held_count, 1); /* under the lock: see receive_one */
    unlock_group(channel);
    if (rc != 0) {
        noria_store_release64(&place->key, 0);
        return rc;
    }
    span->data = record.data;
    span->len = record.len;
    span->token[0] = record.position;
    span->token[1] = (uint64_t)record.index << 32 | record.count;
    noria_store_relaxed64(&place->position, record.position); /* the key publishes it: noria_holding_find */
    noria_store_release64(&place->key, key_of(channel, record.position, record.index));
    fill_info(channel, info, &record);
    return 0;
}

static int release(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record = {.position = span->token[0],
                                       .index = (uint32_t)(span->token[1] >> 32),
                                       .count = (uint32_t)span->token[1]};
    uint64_t key = key_of(channel, record.position, record.index);
    struct noria_holding *place;
    int rc;

    if (record.count == 0 || record.count > channel->geometry.pack || record.index >= record.count)
        return -EINVAL;
    place = noria_holding_find(&channel->part.mpmc, channel->geometry.max_held, key, record.position);
    if (place == NULL || !noria_cas_acq_rel64(&place->key, &key, UINT64_MAX)) /* of two releases at once, one goes on */
        return -EINVAL;
    rc = noria_mpmc_release(&channel->part.mpmc.ring, &record);
    noria_store_release64(&place->key, rc == -EINVAL ? key : 0); /* out of its group's order: still held */
    if (rc == -EINVAL)
        return rc;
    noria_sub_release32(&channel->part.mpmc.held_count, 1);
    if (rc == 0)
        received(channel, 1);
    return rc;
}

/* -------------------------------------------------------------------------------------------- joining and recovery */

static struct noria_mpmc_config config_of(const struct noria_geometry *geometry)
{
    return (struct noria_mpmc_config){.capacity = geometry->capacity,
                                      .first_position = geometry->first_position,
                                      .max_message = geometry->max_message,
                                      .pack = geometry->pack,
                                      .owners = geometry->max_participants,
                                      .max_held = geometry->max_held};
}

static size_t footprint(const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = config_of(geometry);

    return noria_mpmc_footprint(&config);
}

static int format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = config_of(geometry);

    return noria_mpmc_format(ring, size, &config);
}

static int attach(struct noria_segment_channel *channel)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = noria_mpmc_read_geometry(ring, channel->ring, (size_t)geometry->ring_size);

    if (rc == 0 && ring->pack == geometry->pack && ring->max_message == geometry->max_message &&
        ring->owners == geometry->max_participants)
        return 0;
    return noria_fail(-EBADMSG, "the ring is corrupt: its geometry is not the channel's; remove the channel");
}

static int join(struct noria_segment_channel *channel, int flags)
{
    int rc = noria_mpmc_start(&channel->part.mpmc.ring, channel->number); /* with the geometry that attach checked */

    (void)flags; /* sending and receiving need no role */
    if (rc != 0)
        return noria_fail(rc, "the ring is corrupt; remove the channel");
    channel->part.mpmc.held = calloc(channel->geometry.max_held, sizeof(*channel->part.mpmc.held));
    return channel->part.mpmc.held != NULL ? 0 : noria_fail(-ENOMEM, "out of memory for max_held %u",
                                                            channel->geometry.max_held);
}

/* Gives back what a thread of ours reserved or peeked and did not finish: peeked records go to other receivers. */
static void leave(struct noria_segment_channel *channel)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    uint64_t index = 0, word;

    for (uint64_t looks = 0; looks <= 2 * ring->mask && noria_mpmc_find(ring, channel->number, &index, &word); looks++)
        noria_mpmc_settle(ring, index, word); /* which announces what it orphans */
}

/* How many messages are lost with a dropped slot. */
static uint64_t records_in(struct noria_mpmc_handle *ring, uint64_t index)
{
    struct noria_mpmc_group group;

    if (ring->pack == 1)
        return 1;
    group = noria_mpmc_load_group(ring, index);
    return group.count <= ring->pack && group.done < group.count ? group.count - group.done : 0;
}

static int settle_slot(struct noria_segment_channel *channel, uint64_t index, uint64_t word)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    uint64_t lost;

    if (channel->geometry.orphans == NORIA_ORPHANS_REDELIVER || NORIA_MPMC_KIND(word) != NORIA_MPMC_READING)
        return noria_mpmc_settle(ring, index, word);
    lost = records_in(ring, index);
    if (noria_mpmc_discard(ring, index, word) == 0)
        return 0;
    noria_count(&channel->shared->lost, lost);
    return 1;
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    uint64_t index = 0, word;
    int looks = 0;

    while (noria_mpmc_find(ring, owner, &index, &word)) {
        /* After the load: a word read before its owner died and was reborn must not be taken from the living. */
        if (!noria_participant_is_dead(channel, owner, entry_word, true))
            return -EAGAIN;
        if (settle_slot(channel, index, word)) {
            looks = 0;
            index++;
        } else if (++looks > NORIA_MPMC_TRIES) {
            return -EAGAIN;
        }
    }
    noria_mpmc_announce(ring); /* an earlier settler may have died before it did */
    return 0;
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    const struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;

    for (uint64_t index = 0; index <= ring->mask; index++) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(ring, index)); /* pairs with the take */
        if (NORIA_MPMC_KIND(word) == NORIA_MPMC_READING && NORIA_MPMC_OWNER(word) != channel->number)
            return true;
    }
    return false;
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;

    bool may;

    if (side == NORIA_SIDE_SEND)
        return noria_mpmc_may_send(ring);
    lock_group(channel);
    may = noria_mpmc_may_receive(ring);
    unlock_group(channel);
    return may;
}

static void dispose(struct noria_segment_channel *channel)
{
    free(channel->part.mpmc.held);
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;

    return noria_load_relaxed64(side == NORIA_SIDE_SEND ? &ring->write_guess : &ring->read_guess);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    noria_mpmc_wait(ring_of(base), side == NORIA_SIDE_SEND ? NORIA_MPMC_SENDER : NORIA_MPMC_RECEIVER);
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    const struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    struct noria_mpmc_census census, again;
    bool exact;

    noria_mpmc_count(ring, &census);
    noria_mpmc_count(ring, &again);
    exact = census.words == again.words; /* nobody moved between */
    /* Of a group only its slot is counted. */
    stat->messages = -1;
    if (exact && (ring->pack == 1 || census.full + census.orphans == 0))
        stat->messages = (int64_t)(census.full + census.orphans);
    stat->bytes = exact && ring->pack == 1 && census.orphans == 0 ? (int64_t)census.bytes : -1;
    stat->held = census.reading - census.orphans;
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    uint64_t index = 0, word;
    uint32_t held = 0;

    for (; noria_mpmc_find(&channel->part.mpmc.ring, owner, &index, &word); index++)
        held++;
    return held;
}

const struct noria_kind_table noria_mpmc_kind = {
    .verbs = {.send = send_one, .send_many = send_many, .recv = recv_one, .recv_many = recv_many, .reserve = reserve,
              .commit = commit, .abort = abort_reservation, .peek = peek, .release = release, .back_off = back_off,
              NORIA_SEGMENT_VERBS},
    .footprint = footprint, .format = format, .attach = attach, .join = join, .leave = leave, .dispose = dispose, .settle = settle,
    .held_elsewhere = held_elsewhere, .ready = ready, .progress = progress, .count = count, .held_by = held_by,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER | NORIA_CAN_ZERO_COPY,
};
