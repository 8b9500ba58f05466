/* SPDX-License-Identifier: BSD-2-Clause */
/* Channels over the MPMC ring: many senders, many receivers, strict FIFO. Threads may share a handle. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "detail.h"
#include "mpmc_ring.h"
#include "one_by_one.h"
#include "seal.h"

static struct noria_mpmc_handle *ring_in(struct noria_segment_channel *channel)
{
    return &channel->part.mpmc.ring;
}

static struct noria_mpmc_handle *ring_of(noria_channel *channel)
{
    return ring_in(noria_segment_channel_of(channel));
}

/* -------------------------------------------------------------------------------------------------------- sending */

NORIA_FAST_PATH int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    int rc;

    (void)priority;
    if (noria_reservation_exists(&noria_segment_channel_of(base)->part.mpmc))
        return -EBUSY; /* it would overtake the reservation, or not */
    rc = noria_mpmc_send(ring_of(base), data, len);
    if (rc == 0)
        noria_mpmc_sent(noria_segment_channel_of(base), ring_of(base), 1);
    return rc;
}

/* One that may have been seen before, where it comes from. */
static ssize_t try_send_again(noria_channel *base, void *arguments)
{
    const struct iovec *message = arguments;
    struct noria_mpmc_record record;
    int rc;

    if (noria_reservation_exists(&noria_segment_channel_of(base)->part.mpmc))
        return -EBUSY;
    rc = noria_mpmc_reserve(ring_of(base), &record);
    if (rc != 0)
        return rc;
    noria_copy(record.data, message->iov_base, message->iov_len);
    record.flags = NORIA_MPMC_REDELIVERED;
    rc = noria_mpmc_commit(ring_of(base), &record, message->iov_len);
    if (rc == 0)
        noria_mpmc_sent(noria_segment_channel_of(base), ring_of(base), 1);
    else if (rc == -EAGAIN)
        noria_mpmc_abort(ring_of(base), &record);
    return rc;
}

static int send_origin(noria_channel *base, const void *data, size_t len, unsigned priority,
                       const struct noria_origin *origin, int64_t timeout_ns)
{
    struct iovec message = {(void *)(uintptr_t)data, len};
    ssize_t rc;

    if (!origin->redelivered)
        return base->verbs->send_call(base, data, len, priority, timeout_ns);
    rc = noria_call(base, NORIA_SIDE_SEND, timeout_ns, &(struct noria_attempt){try_send_again, &message, true, 1, NULL});
    return rc < 0 ? (int)rc : 0;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    int rc = noria_reservation_exists(&noria_segment_channel_of(base)->part.mpmc)
                 ? -EBUSY
                 : noria_mpmc_send_many(ring_of(base), messages, n);

    if (rc > 0)
        noria_mpmc_sent(noria_segment_channel_of(base), ring_of(base), rc);
    return rc;
}

int noria_queue_reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    return noria_mpmc_reserve_span(channel, &channel->part.mpmc, ring_in(channel), max_len, span);
}

int noria_queue_commit(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int rc = noria_mpmc_commit_span(channel, &channel->part.mpmc, ring_in(channel), span, len);

    if (rc == 0)
        noria_mpmc_sent(channel, ring_in(channel), 1);
    return rc;
}

int noria_queue_abort(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int rc = noria_mpmc_abort_span(channel, &channel->part.mpmc, ring_in(channel), span);

    if (rc != -EINVAL)
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

NORIA_FAST_PATH int take(struct noria_segment_channel *channel, size_t capacity, struct noria_mpmc_record *record)
{
    int rc = noria_mpmc_peek_within(&channel->part.mpmc.ring, capacity, record);

    if (rc == -EMSGSIZE)
        noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", record->len, capacity);
    return rc;
}

NORIA_FAST_PATH ssize_t receive_one(struct noria_segment_channel *channel, void *buffer, size_t capacity,
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
    noria_copy(buffer, record.data, record.len);
    noria_mpmc_fill_info(channel, info, &record);
    rc = noria_mpmc_release(&channel->part.mpmc.ring, &record);
    return rc == 0 ? (ssize_t)record.len : rc;
}

NORIA_FAST_PATH ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    ssize_t rc;

    lock_group(channel);
    rc = receive_one(channel, buffer, capacity, info);
    unlock_group(channel);
    if (rc >= 0)
        noria_mpmc_received(channel, ring_in(channel), 1);
    return rc;
}

ssize_t noria_queue_recv(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    return recv_one(base, buffer, capacity, info);
}

int noria_queue_recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
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
    noria_mpmc_received(channel, ring_in(channel), taken);
    return taken;
}

/* Names a held record among those held: a slot is held once, and a group's records have their places in it. */
static uint64_t key_of(const struct noria_segment_channel *channel, uint64_t position, uint64_t index)
{
    return (position & channel->part.mpmc.ring.mask) * channel->geometry.pack + index + 1;
}

/* Takes the next record if its message has at most `capacity` bytes. */
typedef int taker(struct noria_segment_channel *channel, size_t capacity, struct noria_mpmc_record *record);

static int hold(noria_channel *base, struct noria_span *span, struct noria_info *info, taker *take_one)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    struct noria_holding *place;
    int rc = noria_participant_is_alive(channel)
                 ? noria_holding_begin(&channel->part.mpmc, channel->geometry.max_held, &place)
                 : -EOWNERDEAD;

    if (rc != 0)
        return rc;
    lock_group(channel);
    rc = take_one(channel, SIZE_MAX, &record);
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
    noria_mpmc_fill_info(channel, info, &record);
    noria_notify_senders(channel); /* what is held counts as a message no more: there is room */
    return 0;
}

int noria_queue_peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    return hold(base, span, info, take);
}

int noria_queue_release(noria_channel *base, struct noria_span *span)
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
    rc = noria_mpmc_release_record(channel, ring_in(channel), &record);
    noria_store_release64(&place->key, rc == -EINVAL ? key : 0); /* out of its group's order: still held */
    if (rc == -EINVAL)
        return rc;
    noria_sub_release32(&channel->part.mpmc.held_count, 1);
    if (rc == 0)
        noria_mpmc_received(channel, ring_in(channel), 1);
    return rc;
}

/* --------------------------------------------------------------------------------------------------- with checksums */

static int send_sealed(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    int rc = noria_reservation_exists(&channel->part.mpmc) ? -EBUSY : len > base->max_message ? -EMSGSIZE : 0;

    (void)priority;
    if (rc == 0)
        rc = noria_mpmc_reserve(ring_in(channel), &record);
    if (rc != 0)
        return rc;
    noria_copy((uint8_t *)record.data + NORIA_SEAL, data, len);
    noria_seal_put(record.data, len, 0);
    rc = noria_mpmc_commit(ring_in(channel), &record, len + NORIA_SEAL);
    if (rc == -EAGAIN)
        noria_mpmc_abort(ring_in(channel), &record);
    if (rc == 0)
        noria_mpmc_sent(channel, ring_in(channel), 1);
    return rc;
}

static int reserve_sealed(noria_channel *base, size_t max_len, struct noria_span *span)
{
    int rc = noria_queue_reserve(base, noria_with_seal(max_len), span);

    if (rc == 0) {
        span->data = (uint8_t *)span->data + NORIA_SEAL;
        span->len = max_len;
    }
    return rc;
}

static int commit_sealed(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_span whole = *span;

    /* Before its place is written to. */
    if (!noria_reservation_is_at(&channel->part.mpmc, span->token[0]) || len > span->len)
        return -EINVAL;
    if (!noria_participant_is_alive(channel))
        return noria_queue_commit(base, span, 0); /* which says so */
    whole.data = (uint8_t *)span->data - NORIA_SEAL;
    whole.len = span->len + NORIA_SEAL;
    noria_seal_put(whole.data, len, 0);
    return noria_queue_commit(base, &whole, len + NORIA_SEAL);
}

/* Passes over what is torn, as many as there can be: more are a lie. */
static int take_sealed(struct noria_segment_channel *channel, size_t capacity, struct noria_mpmc_record *record)
{
    for (uint64_t torn = 0; torn <= ring_in(channel)->mask; torn++) {
        int rc = take(channel, noria_with_seal(capacity), record);
        if (rc == -EMSGSIZE && record->len >= NORIA_SEAL)
            return noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", record->len - NORIA_SEAL,
                              capacity);
        if (rc != 0)
            return rc;
        if (noria_seal_holds(record->data, record->len, 0)) {
            record->data = (uint8_t *)record->data + NORIA_SEAL;
            record->len -= NORIA_SEAL;
            return 0;
        }
        rc = noria_mpmc_release(ring_in(channel), record);
        if (rc != 0)
            return rc;
        noria_mpmc_received(channel, ring_in(channel), 1);
        noria_seal_broken(channel);
    }
    return -EBADMSG;
}

static ssize_t recv_sealed(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    int rc = take_sealed(channel, capacity, &record);

    if (rc != 0)
        return rc;
    noria_copy(buffer, record.data, record.len);
    noria_mpmc_fill_info(channel, info, &record);
    rc = noria_mpmc_release(ring_in(channel), &record);
    if (rc != 0)
        return rc;
    noria_mpmc_received(channel, ring_in(channel), 1);
    return (ssize_t)record.len;
}

static int send_many_sealed(noria_channel *base, const struct iovec *messages, int n)
{
    return noria_send_one_by_one(base, messages, n, send_sealed);
}

static int recv_many_sealed(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    return noria_recv_one_by_one(base, buffers, n, info, recv_sealed);
}

static int hold_sealed(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    return hold(base, span, info, take_sealed);
}

/* -------------------------------------------------------------------------------------------- joining and recovery */

size_t noria_queue_footprint(const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = noria_mpmc_config_of(geometry);

    return noria_mpmc_footprint(&config);
}

int noria_queue_format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    struct noria_mpmc_config config = noria_mpmc_config_of(geometry);

    return noria_mpmc_format(ring, size, &config);
}

int noria_queue_attach(struct noria_segment_channel *channel)
{
    return noria_mpmc_attach(channel, ring_in(channel), channel->ring, (size_t)channel->geometry.ring_size);
}

int noria_queue_join(struct noria_segment_channel *channel, int flags)
{
    int rc = noria_mpmc_start(ring_in(channel), channel->number); /* with the geometry that attach checked */

    (void)flags; /* sending and receiving need no role */
    if (rc != 0)
        return noria_fail(rc, "the ring is corrupt; remove the channel");
    channel->part.mpmc.held = calloc(channel->geometry.max_held, sizeof(*channel->part.mpmc.held));
    return channel->part.mpmc.held != NULL ? 0 : noria_fail(-ENOMEM, "out of memory for max_held %u",
                                                            channel->geometry.max_held);
}

void noria_queue_leave(struct noria_segment_channel *channel)
{
    noria_mpmc_leave(channel, ring_in(channel));
}

int noria_queue_settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    return noria_mpmc_settle_owner(channel, ring_in(channel), owner, entry_word);
}

bool noria_queue_held_elsewhere(struct noria_segment_channel *channel)
{
    return noria_mpmc_held_elsewhere(ring_in(channel), channel->number);
}

bool noria_queue_ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;
    bool may;

    (void)level;
    if (side == NORIA_SIDE_SEND)
        return noria_mpmc_may_send(ring);
    lock_group(channel);
    may = noria_mpmc_may_receive(ring);
    unlock_group(channel);
    return may;
}

void noria_queue_dispose(struct noria_segment_channel *channel)
{
    free(channel->part.mpmc.held);
}

uint64_t noria_queue_progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_mpmc_handle *ring = &channel->part.mpmc.ring;

    return noria_load_relaxed64(side == NORIA_SIDE_SEND ? &ring->write_guess : &ring->read_guess);
}

void noria_queue_back_off(noria_channel *base, enum noria_side side)
{
    noria_mpmc_wait(ring_of(base), side == NORIA_SIDE_SEND ? NORIA_MPMC_SENDER : NORIA_MPMC_RECEIVER);
}

void noria_queue_count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    noria_mpmc_fill_stat(&channel->part.mpmc.ring, stat);
    if (channel->geometry.checksum != 0 && stat->bytes > 0)
        stat->bytes -= stat->messages * NORIA_SEAL; /* both are known */
}

uint32_t noria_queue_held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    return noria_mpmc_held_by(&channel->part.mpmc.ring, owner);
}

NORIA_WHOLE_CALLS(send_one, recv_one)

static const struct noria_verbs sealed = {
    .send = send_sealed, .send_many = send_many_sealed, .recv = recv_sealed, .recv_many = recv_many_sealed,
    .reserve = reserve_sealed, .commit = commit_sealed, .abort = noria_queue_abort, .peek = hold_sealed,
    .release = noria_queue_release, .back_off = noria_queue_back_off, .send_call = noria_send_call, .recv_call = noria_recv_call, NORIA_SEGMENT_VERBS};

const struct noria_kind_table noria_mpmc_kind = {
    .name = "mpmc", .sealed = &sealed,
    .takes = NORIA_TAKES_PACK | NORIA_TAKES_MANY_HELD | NORIA_TAKES_ORPHANS_DROP | NORIA_TAKES_DROP_NEWEST,
    .verbs = {.send = send_one, .send_many = send_many, .reserve = noria_queue_reserve, .send_call = send_call,
              .send_origin = send_origin, .recv_call = recv_call, NORIA_QUEUE_VERBS, NORIA_SEGMENT_VERBS},
    NORIA_QUEUE_FUNCTIONS,
    .settle = noria_queue_settle,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER | NORIA_CAN_ZERO_COPY,
};
