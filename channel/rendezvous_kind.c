/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels without capacity: a send returns when a receiver has the message (ring/rendezvous.h). Threads may
 * share a handle.
 *
 * A call that waits is more than one try here: its first try offers the message, later ones look whether it
 * was taken, and the call's end withdraws the offer if it was not. A call that does not wait (timeout 0, or a
 * channel whose full policy is not BLOCK) offers only if somebody is known to wait for a message, and gives
 * him a moment.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "call.h"
#include "detail.h"
#include "no_spans.h"
#include "one_by_one.h"

/* How long a call that does not wait leaves its offer standing: a sleeper needs 15 to 50 us to come. */
#define MOMENT_NS (200 * INT64_C(1000))

enum { PAUSES = 64 };

static struct noria_rendezvous_handle *table_of(struct noria_segment_channel *channel)
{
    return &channel->part.rendezvous.table;
}

/* ------------------------------------------------------------------------------------------------ sending */

/* A send, from its first try to its end. */
struct sending {
    const void *data;
    size_t len;
    bool waits;
    struct noria_rendezvous_offer offer;
};

/* The offer is decided, one way or the other: its slot is free, for which a sender may wait whom the table
 * had no room for. */
static int decided(struct noria_segment_channel *channel, int rc)
{
    if (rc == 0) {
        noria_count(&channel->own->sent, 1);
        noria_store_relaxed64(&channel->part.rendezvous.sent,
                              noria_load_relaxed64(&channel->part.rendezvous.sent) + 1);
    }
    /* Of this handle; others look again by themselves. */
    if (noria_load_relaxed32(&channel->part.rendezvous.crowded) != 0) {
        noria_store_relaxed32(&channel->part.rendezvous.crowded, 0);
        noria_notify_senders(channel);
    }
    return rc;
}

static int offer(struct noria_segment_channel *channel, struct sending *sending)
{
    int rc = noria_rendezvous_offer(table_of(channel), sending->data, sending->len, &sending->offer);

    if (rc == -EAGAIN)
        noria_store_relaxed32(&channel->part.rendezvous.crowded, 1);
    if (rc == 0)
        noria_notify_receivers(channel);
    return rc;
}

/* Whether somebody is there for a message just now, as far as can be known: in a call, asleep, or at a
 * descriptor. */
static bool is_awaited(struct noria_segment_channel *channel)
{
    return noria_rendezvous_is_awaited(table_of(channel)) ||
           noria_event_has_sleepers(&channel->shared->rooms[NORIA_SIDE_RECV].count, channel->base.fenced);
}

/* Leaves the offer standing for a moment. */
static int look_for_a_moment(struct noria_segment_channel *channel, struct sending *sending)
{
    int64_t until = noria_now_ns() + MOMENT_NS;
    int rc;

    do {
        rc = noria_rendezvous_look(table_of(channel), &sending->offer);
        for (int i = 0; rc == -EAGAIN && i < PAUSES; i++)
            noria_pause();
        if (rc == -EAGAIN)
            sched_yield();
    } while (rc == -EAGAIN && noria_now_ns() < until);
    return rc;
}

static ssize_t try_sending(noria_channel *base, void *arguments)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct sending *sending = arguments;
    int rc;

    if (sending->offer.word != 0) {
        rc = noria_rendezvous_look(table_of(channel), &sending->offer);
        return rc == -EAGAIN ? rc : decided(channel, rc);
    }
    if (!sending->waits && !is_awaited(channel))
        return -EAGAIN;
    rc = offer(channel, sending);
    if (rc != 0)
        return rc;
    rc = sending->waits ? noria_rendezvous_look(table_of(channel), &sending->offer)
                        : look_for_a_moment(channel, sending);
    return rc == -EAGAIN ? rc : decided(channel, rc);
}

/* The call fails: so its offer must be gone; and if it was taken at last, the call has not failed. */
static ssize_t end_sending(noria_channel *base, void *arguments, ssize_t failure)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct sending *sending = arguments;
    int rc;

    if (sending->offer.word == 0)
        return failure;
    rc = decided(channel, noria_rendezvous_withdraw(table_of(channel), &sending->offer));
    return rc == -ECANCELED ? failure : rc;
}

static int send_call(noria_channel *base, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    struct sending sending = {data, len, timeout_ns != 0 && base->full == NORIA_FULL_BLOCK, {0, 0}};
    ssize_t rc = noria_call(base, NORIA_SIDE_SEND, timeout_ns,
                            &(struct noria_attempt){try_sending, &sending, true, 1, end_sending});

    (void)priority;
    return rc < 0 ? (int)rc : 0;
}

/* ---------------------------------------------------------------------------------------------- receiving */

/* A receive, from its first try to its end. */
struct receiving {
    void *buffer;
    size_t capacity;
    struct noria_info *info;
    bool waits;
    bool counted; /* among those who wait */
};

static ssize_t take(struct noria_segment_channel *channel, const struct receiving *receiving)
{
    struct noria_rendezvous_record record = {0};
    int rc = -EAGAIN;

    for (int i = 0; i < NORIA_RENDEZVOUS_TRIES && rc == -EAGAIN; i++) {
        rc = noria_rendezvous_claim(table_of(channel), receiving->capacity, &record);
        if (rc == -EMSGSIZE)
            noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", record.len,
                       receiving->capacity);
        if (rc != 0)
            return rc;
        noria_copy(receiving->buffer, record.data, record.len);
        /* -EAGAIN: the sender gave up; perhaps there is another. */
        rc = noria_rendezvous_finish(table_of(channel), &record);
    }
    if (rc != 0)
        return rc;
    if (receiving->info != NULL)
        noria_fill_info(channel, receiving->info, record.len, record.sender, record.sequence, false);
    return (ssize_t)record.len;
}

/* Nobody offers anything: whoever sends without waiting is to know that somebody waits. */
static void begin_to_wait(struct noria_segment_channel *channel, struct receiving *receiving)
{
    if (receiving->counted || !receiving->waits)
        return;
    receiving->counted = true;
    noria_rendezvous_await(table_of(channel));
    noria_notify_senders(channel); /* who polls */
}

static void end_to_wait(struct noria_segment_channel *channel, struct receiving *receiving)
{
    if (receiving->counted)
        noria_rendezvous_await_no_more(table_of(channel));
    receiving->counted = false;
}

static ssize_t try_receiving(noria_channel *base, void *arguments)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct receiving *receiving = arguments;
    ssize_t rc = take(channel, receiving);

    if (rc == -EAGAIN) {
        begin_to_wait(channel, receiving);
        return rc;
    }
    end_to_wait(channel, receiving);
    if (rc < 0)
        return rc;
    noria_count(&channel->own->received, 1);
    noria_store_relaxed64(&channel->part.rendezvous.received,
                          noria_load_relaxed64(&channel->part.rendezvous.received) + 1);
    if (noria_load_relaxed32(&channel->seen_sender) == 0)
        noria_store_relaxed32(&channel->seen_sender, 1);
    noria_notify_senders(channel);
    return rc;
}

static ssize_t end_receiving(noria_channel *base, void *arguments, ssize_t failure)
{
    end_to_wait(noria_segment_channel_of(base), arguments);
    return failure;
}

static ssize_t recv_call(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info,
                         int64_t timeout_ns)
{
    struct receiving receiving = {buffer, capacity, info, timeout_ns != 0, false};

    return noria_call(base, NORIA_SIDE_RECV, timeout_ns,
                      &(struct noria_attempt){try_receiving, &receiving, true, 0, end_receiving});
}

static ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct receiving receiving = {buffer, capacity, info, false, false};

    return try_receiving(base, &receiving);
}

/* As many as are offered just now. */
static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    return noria_recv_one_by_one(base, buffers, n, info, recv_one);
}

/* ----------------------------------------------------------------------------------- joining and recovery */

static struct noria_rendezvous_config config_of(const struct noria_geometry *geometry)
{
    return (struct noria_rendezvous_config){.first_position = geometry->first_position,
                                            .max_message = geometry->max_message,
                                            .owners = geometry->max_participants};
}

static size_t footprint(const struct noria_geometry *geometry)
{
    struct noria_rendezvous_config config = config_of(geometry);

    return noria_rendezvous_footprint(&config);
}

static int format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    struct noria_rendezvous_config config = config_of(geometry);

    return noria_rendezvous_format(ring, size, &config);
}

static int attach(struct noria_segment_channel *channel)
{
    struct noria_rendezvous_handle *table = table_of(channel);
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = noria_rendezvous_read_geometry(table, channel->ring, (size_t)geometry->ring_size);

    if (rc == 0 && table->max_message == geometry->max_message && table->owners == geometry->max_participants)
        return 0;
    return noria_fail(-EBADMSG, "the table of offers is corrupt: its geometry is not the channel's; remove "
                      "the channel");
}

static int join(struct noria_segment_channel *channel, int flags)
{
    (void)flags; /* sending and receiving need no role */
    return noria_rendezvous_start(table_of(channel), channel->number, NORIA_ENTRY_LIFE(channel->entry_word));
}

/* All calls have ended, and each has taken its offer along. */
static void leave(struct noria_segment_channel *channel)
{
    struct noria_rendezvous_handle *table = table_of(channel);
    uint32_t slot = 0;
    uint64_t word;

    for (; noria_rendezvous_find(table, channel->number, &slot, &word); slot++)
        noria_rendezvous_settle(table, slot, word, channel->number);
}

static void dispose(struct noria_segment_channel *channel)
{
    (void)channel;
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_rendezvous_handle *table = table_of(channel);
    uint32_t slot = 0;
    uint64_t word;
    int looks = 0;

    while (noria_rendezvous_find(table, owner, &slot, &word)) {
        /* After the load: a word read before its owner died must not be taken from one reborn. */
        if (!noria_participant_is_dead(channel, owner, entry_word, true))
            return -EAGAIN;
        if (noria_rendezvous_settle(table, slot, word, owner)) {
            looks = 0;
            slot++;
        } else if (++looks > NORIA_RENDEZVOUS_TRIES) {
            return -EAGAIN;
        }
    }
    noria_rendezvous_forget(table, owner, NORIA_ENTRY_LIFE(entry_word));
    return 0;
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    (void)channel;
    return false; /* what a receiver has, it has for good */
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    (void)level;
    return side == NORIA_SIDE_RECV ? noria_rendezvous_may_receive(table_of(channel)) : is_awaited(channel);
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_rendezvous_part *part = &channel->part.rendezvous;

    return noria_load_relaxed64(side == NORIA_SIDE_SEND ? &part->sent : &part->received);
}

/* An offer, or its taker, is a few lines away: one pause. */
static void back_off(noria_channel *base, enum noria_side side)
{
    (void)base, (void)side;
    noria_pause();
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    struct noria_rendezvous_census census;

    noria_rendezvous_count(&channel->part.rendezvous.table, &census);
    stat->messages = (int64_t)census.offered;
    stat->bytes = (int64_t)census.bytes;
    stat->held = census.taking;
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    uint32_t slot = 0, held = 0;
    uint64_t word;

    for (; noria_rendezvous_find(&channel->part.rendezvous.table, owner, &slot, &word); slot++)
        held++;
    return held;
}

const struct noria_kind_table noria_rendezvous_kind = {
    .name = "rendezvous",
    .takes = NORIA_TAKES_NO_CAPACITY | NORIA_TAKES_DROP_NEWEST,
    .verbs = {.recv_many = recv_many, .back_off = back_off, .send_call = send_call, .recv_call = recv_call,
              NORIA_NO_SPANS, NORIA_SEGMENT_VERBS},
    .footprint = footprint, .format = format, .attach = attach, .join = join, .leave = leave,
    .dispose = dispose, .settle = settle, .held_elsewhere = held_elsewhere, .ready = ready,
    .progress = progress, .count = count, .held_by = held_by, .anatomy = &noria_rendezvous_anatomy,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS,
};
