/* SPDX-License-Identifier: BSD-2-Clause */
/* Channels over the SPSC ring: one sender, one receiver, each role taken over from a dead handle only. */
#include <errno.h>
#include <string.h>

#include "call.h"
#include "detail.h"
#include "one_by_one.h"
#include "seal.h"

static struct noria_spsc_part *part_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.spsc;
}

NORIA_FAST_PATH int sent(struct noria_segment_channel *channel, int n)
{
    noria_count_alone(&channel->own->sent, (uint64_t)n);
    noria_notify_receivers(channel);
    return n;
}

NORIA_FAST_PATH void received(struct noria_segment_channel *channel, uint32_t n)
{
    struct noria_spsc_part *part = &channel->part.spsc;

    noria_count_alone(&channel->own->received, n);
    noria_store_relaxed32(&channel->seen_sender, 1);
    if (part->in_doubt != 0) {
        part->in_doubt = part->in_doubt > n ? part->in_doubt - n : 0;
        part->consumer.taken_over = part->in_doubt != 0;
    }
    noria_notify_senders(channel);
}

/* -------------------------------------------------------------------------------------------------------- sending */

/* 0, or why this handle may not send just now. The ring's words do not know who stores them, so whoever was taken for dead
 * has to stop here, and not beside a successor; a receiver, at its look. */
static inline int may_begin(const struct noria_segment_channel *channel)
{
    if (channel->part.spsc.reserved != 0)
        return -EBUSY;
    return noria_participant_is_alive(channel) ? 0 : -EOWNERDEAD;
}

NORIA_FAST_PATH int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int rc = may_begin(channel);

    (void)priority;
    if (rc == 0)
        rc = noria_spsc_send(&channel->part.spsc.producer, data, len);
    if (rc == 0)
        sent(channel, 1);
    return rc;
}

/* Stages as many as there is room for and publishes them with one store. */
static int stage_many(struct noria_segment_channel *channel, const struct iovec *messages, int n)
{
    struct noria_spsc_producer *producer = &channel->part.spsc.producer;
    struct noria_spsc_record record;
    int staged = 0, rc = 0;

    while (staged < n && rc == 0) {
        size_t len = messages[staged].iov_len;
        rc = len > channel->base.max_message ? -EMSGSIZE : noria_spsc_reserve(producer, len, &record);
        if (rc != 0)
            break;
        noria_copy(record.data, messages[staged].iov_base, len);
        rc = noria_spsc_stage(producer, &record, len);
        staged += rc == 0;
    }
    if (staged == 0)
        return rc;
    noria_spsc_publish(producer);
    return sent(channel, staged);
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    int rc = may_begin(channel);

    return rc == 0 ? stage_many(channel, messages, n) : rc;
}

static struct noria_spsc_record record_of(const struct noria_span *span)
{
    return (struct noria_spsc_record){span->data, span->len, span->token[0], span->token[1]};
}

static void set_span(struct noria_span *span, const struct noria_spsc_record *record)
{
    span->data = record->data;
    span->len = record->len;
    span->token[0] = record->position;
    span->token[1] = record->next;
}

static int reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_spsc_part *part = &channel->part.spsc;
    struct noria_spsc_record record;
    int rc = may_begin(channel);

    if (rc == 0)
        rc = noria_spsc_reserve(&part->producer, max_len, &record);
    if (rc == 0) {
        part->reserved = 1;
        part->reserved_at = record.position;
        set_span(span, &record);
    }
    return rc;
}

static bool is_reserved(const struct noria_spsc_part *part, const struct noria_span *span)
{
    return part->reserved != 0 && span->token[0] == part->reserved_at;
}

static int commit(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_spsc_part *part = &channel->part.spsc;
    struct noria_spsc_record record = record_of(span);
    int rc;

    if (!is_reserved(part, span))
        return -EINVAL;
    rc = noria_participant_is_alive(channel) ? noria_spsc_commit(&part->producer, &record, len) : -EOWNERDEAD;
    if (rc == 0 || rc == -EOWNERDEAD)
        part->reserved = 0;
    if (rc == 0)
        sent(channel, 1);
    return rc;
}

static int abort_reservation(noria_channel *base, struct noria_span *span)
{
    struct noria_spsc_part *part = part_of(base);

    if (!is_reserved(part, span))
        return -EINVAL;
    part->reserved = 0;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- receiving */

static void fill_info(struct noria_segment_channel *channel, struct noria_info *info,
                      const struct noria_spsc_record *record, uint32_t records_before)
{
    struct noria_spsc_part *part = &channel->part.spsc;
    bool in_doubt = part->in_doubt > records_before;

    if (in_doubt)
        noria_count(&channel->shared->redelivered, 1);
    if (info != NULL) {
        uint32_t sender = NORIA_SPSC_OWNER(noria_spsc_find(channel->ring, NORIA_SPSC_PRODUCER));
        part->last_sender = sender != 0 ? sender : part->last_sender;
        noria_fill_info(channel, info, record->len, part->last_sender, record->position, in_doubt);
    }
}

/* Peeks a record of at most `capacity` bytes; a longer one stays first. */
NORIA_FAST_PATH int peek_within(struct noria_segment_channel *channel, size_t capacity, struct noria_spsc_record *record)
{
    struct noria_spsc_consumer *consumer = &channel->part.spsc.consumer;
    int rc = noria_participant_is_alive(channel) ? noria_spsc_peek(consumer, record) : -EOWNERDEAD;

    if (rc == 0 && record->len > channel->geometry.max_message) {
        noria_spsc_unpeek(consumer, record);
        return -EBADMSG;
    }
    if (rc == 0 && record->len > capacity) {
        noria_spsc_unpeek(consumer, record);
        return noria_fail(-EMSGSIZE, "the message has %zu bytes, the buffer %zu; it stays first", record->len, capacity);
    }
    return rc;
}

NORIA_FAST_PATH ssize_t receive_one(struct noria_segment_channel *channel, void *buffer, size_t capacity,
                           struct noria_info *info)
{
    struct noria_spsc_record record;
    int rc = peek_within(channel, capacity, &record);

    if (rc != 0)
        return rc;
    noria_copy(buffer, record.data, record.len);
    fill_info(channel, info, &record, 0);
    noria_spsc_release_through(&channel->part.spsc.consumer, &record);
    received(channel, 1);
    return (ssize_t)record.len;
}

NORIA_FAST_PATH ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    return part_of(base)->held != 0 ? -EBUSY
                                    : receive_one(noria_segment_channel_of(base), buffer, capacity, info);
}

/* A look at the next record, as peek_within; its data are then the message. */
typedef int look(struct noria_segment_channel *channel, size_t capacity, struct noria_spsc_record *record);

/* Copies out what is there and releases all of it with one store. */
static int receive_many(struct noria_segment_channel *channel, struct iovec *buffers, int n, struct noria_info *info,
                        look *peek_one)
{
    struct noria_spsc_record record, last = {NULL, 0, 0, 0};
    int taken = 0, rc = 0;

    while (taken < n) {
        rc = peek_one(channel, buffers[taken].iov_len, &record);
        if (rc != 0)
            break;
        noria_copy(buffers[taken].iov_base, record.data, record.len);
        buffers[taken].iov_len = record.len;
        fill_info(channel, info != NULL ? &info[taken] : NULL, &record, (uint32_t)taken);
        last = record;
        taken++;
    }
    if (taken == 0)
        return rc;
    noria_spsc_release_through(&channel->part.spsc.consumer, &last);
    received(channel, (uint32_t)taken);
    return taken;
}

static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    return part_of(base)->held != 0 ? -EBUSY
                                    : receive_many(noria_segment_channel_of(base), buffers, n, info, peek_within);
}

static int hold(noria_channel *base, struct noria_span *span, struct noria_info *info, look *peek_one)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_spsc_part *part = &channel->part.spsc;
    struct noria_spsc_record record;
    int rc = part->held >= channel->geometry.max_held ? -EBUSY : peek_one(channel, SIZE_MAX, &record);

    if (rc == 0) {
        set_span(span, &record);
        fill_info(channel, info, &record, part->held);
        part->held++;
    }
    return rc;
}

static int peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    return hold(base, span, info, peek_within);
}

static int release(noria_channel *base, struct noria_span *span)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_spsc_part *part = &channel->part.spsc;
    struct noria_spsc_record record = record_of(span);
    int rc = -EINVAL;

    if (part->held != 0)
        rc = noria_participant_is_alive(channel) ? noria_spsc_release(&part->consumer, &record) : -EOWNERDEAD;
    if (rc == -EOWNERDEAD)
        part->held = 0;
    if (rc == 0) {
        part->held--;
        received(channel, 1);
    }
    return rc;
}

/* --------------------------------------------------------------------------------------------------- with checksums */

static int send_sealed(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_spsc_part *part = part_of(base);
    struct noria_spsc_record record;
    int rc = part->reserved != 0 ? -EBUSY : len > base->max_message ? -EMSGSIZE : 0;

    (void)priority;
    if (rc == 0 && !noria_participant_is_alive(noria_segment_channel_of(base)))
        rc = -EOWNERDEAD;
    if (rc == 0)
        rc = noria_spsc_reserve(&part->producer, len + NORIA_SEAL, &record);
    if (rc != 0)
        return rc;
    noria_copy((uint8_t *)record.data + NORIA_SEAL, data, len);
    noria_seal_put(record.data, len, record.position);
    rc = noria_spsc_commit(&part->producer, &record, len + NORIA_SEAL);
    if (rc == 0)
        sent(noria_segment_channel_of(base), 1);
    return rc;
}

static int reserve_sealed(noria_channel *base, size_t max_len, struct noria_span *span)
{
    int rc = reserve(base, noria_with_seal(max_len), span);

    if (rc == 0) {
        span->data = (uint8_t *)span->data + NORIA_SEAL;
        span->len = max_len;
    }
    return rc;
}

static int commit_sealed(noria_channel *base, struct noria_span *span, size_t len)
{
    struct noria_spsc_part *part = part_of(base);
    struct noria_span whole = *span;

    /* Before its place is written to. */
    if (!is_reserved(part, span) || len > span->len)
        return -EINVAL;
    if (!noria_participant_is_alive(noria_segment_channel_of(base)))
        return commit(base, span, 0); /* which says so */
    whole.data = (uint8_t *)span->data - NORIA_SEAL;
    whole.len = span->len + NORIA_SEAL;
    noria_seal_put(whole.data, len, span->token[0]);
    return commit(base, &whole, len + NORIA_SEAL);
}

/* Passes over what is torn: each record is one less, and so is a lie. */
static int peek_sealed(struct noria_segment_channel *channel, size_t capacity, struct noria_spsc_record *record)
{
    struct noria_spsc_part *part = &channel->part.spsc;
    int rc;

    for (uint64_t bytes = 0; bytes <= channel->geometry.ring_size; bytes += record->next - record->position) {
        rc = peek_within(channel, SIZE_MAX, record);
        if (rc != 0)
            return rc;
        /* Its own position: where the step began a pad may stand. */
        if (noria_seal_holds(record->data, record->len, record->next - noria_spsc_size_of(record->len))) {
            record->data = (uint8_t *)record->data + NORIA_SEAL;
            record->len -= NORIA_SEAL;
            if (record->len <= capacity)
                return 0;
            noria_spsc_unpeek(&part->consumer, record);
            return noria_fail(-EMSGSIZE, "the message has %zu bytes, the buffer %zu; it stays first", record->len,
                              capacity);
        }
        if (record->position != part->consumer.read_pos) { /* releases are in order */
            noria_spsc_unpeek(&part->consumer, record);
            return -EBUSY;
        }
        noria_spsc_release_through(&part->consumer, record);
        received(channel, 1);
        noria_seal_broken(channel);
    }
    return -EBADMSG;
}

static ssize_t recv_sealed(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct iovec one = {buffer, capacity};
    int rc = part_of(base)->held != 0
                 ? -EBUSY : receive_many(noria_segment_channel_of(base), &one, 1, info, peek_sealed);

    return rc == 1 ? (ssize_t)one.iov_len : rc;
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
    return hold(base, span, info, peek_sealed);
}

/* --------------------------------------------------------------------------------------------- roles and recovery */

static size_t footprint(const struct noria_geometry *geometry)
{
    return noria_spsc_footprint(noria_spsc_capacity_for(geometry->capacity, geometry->max_message));
}

static int format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    return noria_spsc_format(ring, size, noria_spsc_capacity_for(geometry->capacity, geometry->max_message),
                             geometry->first_position & ~UINT64_C(7));
}

static int attach(struct noria_segment_channel *channel)
{
    if (noria_spsc_capacity(channel->ring, (size_t)channel->geometry.ring_size) != 0)
        return 0;
    return noria_fail(-EBADMSG, "the ring is corrupt: its geometry is not the channel's; remove the channel");
}

static int join_role(struct noria_segment_channel *channel, int role)
{
    struct noria_spsc_part *part = &channel->part.spsc;
    size_t size = (size_t)channel->geometry.ring_size;

    if (role == NORIA_SPSC_PRODUCER)
        return noria_spsc_join_producer(&part->producer, channel->ring, size, channel->number);
    return noria_spsc_join_consumer(&part->consumer, channel->ring, size, channel->number);
}

/* Takes a role, from a dead owner if need be. */
static int take_role(struct noria_segment_channel *channel, int role)
{
    uint32_t owner = NORIA_SPSC_OWNER(noria_spsc_find(channel->ring, role));
    int rc = join_role(channel, role);

    if (rc == -EBUSY && owner != 0 && owner <= channel->geometry.max_participants) {
        noria_recover(channel, owner, true); /* or another recoverer is faster */
        rc = join_role(channel, role);
    }
    if (rc == -EBUSY)
        return noria_fail(-EBUSY, "the channel has a %s already, and it is alive (see `noria who`); an SPSC channel "
                          "takes one", role == NORIA_SPSC_PRODUCER ? "sender" : "receiver");
    if (rc == -EBADMSG)
        return noria_fail(-EBADMSG, "the ring is corrupt: its records do not end where the sender would go on");
    return rc;
}

static void leave(struct noria_segment_channel *channel)
{
    struct noria_spsc_part *part = &channel->part.spsc;

    if ((part->roles & NORIA_SEND) != 0)
        noria_spsc_leave_producer(&part->producer);
    if ((part->roles & NORIA_RECV) != 0)
        noria_spsc_leave_consumer(&part->consumer);
    part->roles = 0;
}

static int join(struct noria_segment_channel *channel, int flags)
{
    struct noria_spsc_part *part = &channel->part.spsc;
    int rc = 0;

    if ((flags & NORIA_SEND) != 0)
        rc = take_role(channel, NORIA_SPSC_PRODUCER);
    if (rc == 0)
        part->roles |= (uint32_t)flags & NORIA_SEND;
    if (rc == 0 && (flags & NORIA_RECV) != 0) {
        rc = take_role(channel, NORIA_SPSC_CONSUMER);
        if (rc == 0) {
            part->roles |= NORIA_RECV;
            part->in_doubt = part->consumer.taken_over ? channel->geometry.max_held : 0;
        }
    }
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
    for (int role = NORIA_SPSC_PRODUCER; role <= NORIA_SPSC_CONSUMER; role++) {
        uint64_t word = noria_spsc_find(channel->ring, role);
        if (NORIA_SPSC_OWNER(word) != owner)
            continue;
        if (!noria_participant_is_dead(channel, owner, entry_word, true))
            return -EAGAIN;
        noria_spsc_settle(channel->ring, role, word); /* lost: another settled it, for the dead cannot */
    }
    return 0;
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    struct noria_spsc_part *part = &channel->part.spsc;
    struct noria_spsc_record record;
    int rc;

    (void)level;
    if (!noria_participant_is_alive(channel))
        return true; /* the call says so */
    if (side == NORIA_SIDE_SEND) /* with a reservation out a send says so; one that is never committed leaves no trace */
        return part->reserved != 0 ||
               noria_spsc_reserve(&part->producer, channel->geometry.max_message, &record) != -EAGAIN;
    rc = noria_spsc_peek(&part->consumer, &record);
    if (rc == 0)
        noria_spsc_unpeek(&part->consumer, &record);
    return rc != -EAGAIN; /* what is corrupt the receiver is told */
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    (void)channel; /* we are the only receiver */
    return false;
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_spsc_part *part = &channel->part.spsc;

    return side == NORIA_SIDE_SEND ? noria_load_relaxed64(&part->producer.write_pos)
                                   : noria_load_relaxed64(&part->consumer.peek_pos);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    struct noria_spsc_part *part = part_of(base);

    if (side == NORIA_SIDE_SEND)
        noria_spsc_wait_producer(&part->producer);
    else
        noria_spsc_wait_consumer(&part->consumer);
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    uint64_t records, bytes;
    int rc = noria_spsc_count(channel->ring, (size_t)channel->geometry.ring_size, &records, &bytes);

    stat->messages = rc == 0 ? (int64_t)records : -1;
    stat->bytes = rc == 0 ? (int64_t)bytes : -1;
    if (rc == 0 && channel->geometry.checksum != 0)
        stat->bytes -= (int64_t)records * NORIA_SEAL;
    stat->held = 0; /* the receiver alone knows */
    if ((channel->part.spsc.roles & NORIA_RECV) != 0) {
        stat->held = channel->part.spsc.held;
        stat->messages -= rc == 0 ? (int64_t)stat->held : 0;
    }
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    uint32_t roles = 0;

    for (int role = NORIA_SPSC_PRODUCER; role <= NORIA_SPSC_CONSUMER; role++)
        roles += NORIA_SPSC_OWNER(noria_spsc_find(channel->ring, role)) == owner;
    return roles;
}

NORIA_LANE_CALLS(send_one, recv_one)

static const struct noria_verbs sealed = {
    .send = send_sealed, .send_many = send_many_sealed, .recv = recv_sealed, .recv_many = recv_many_sealed,
    .reserve = reserve_sealed, .commit = commit_sealed, .abort = abort_reservation, .peek = hold_sealed,
    .release = release, .back_off = back_off, .send_call = noria_send_call, .recv_call = noria_recv_call, NORIA_SEGMENT_VERBS};

const struct noria_kind_table noria_spsc_kind = {
    .name = "spsc", .sealed = &sealed, .takes = NORIA_TAKES_MANY_HELD | NORIA_TAKES_DROP_NEWEST,
    .verbs = {.send = send_one, .send_many = send_many, .recv = recv_one, .recv_many = recv_many, .reserve = reserve,
              .commit = commit, .abort = abort_reservation, .peek = peek, .release = release, .back_off = back_off,
              .send_call = send_call, .recv_call = recv_call,
              NORIA_SEGMENT_VERBS},
    .footprint = footprint, .format = format, .attach = attach, .join = join, .leave = leave, .dispose = dispose, .settle = settle,
    .held_elsewhere = held_elsewhere, .ready = ready, .progress = progress, .count = count, .held_by = held_by,
    .anatomy = &noria_spsc_anatomy,
    .abilities = NORIA_CAN_REDELIVER | NORIA_CAN_ZERO_COPY, .one_caller = true,
};
