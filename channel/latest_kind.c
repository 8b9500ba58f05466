/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels that keep the newest message: every receiver gets it, once, and what it missed is only counted. A
 * late joiner gets what is current at once. Sending waits for nobody: threads that share a handle take turns,
 * processes do not.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "call.h"
#include "detail.h"
#include "no_spans.h"
#include "one_by_one.h"

/* How often a send lets another thread of the handle finish its own. */
enum { MOST_TURNS = 64 };

static struct noria_latest_part *part_of(noria_channel *base)
{
    return &noria_segment_channel_of(base)->part.latest;
}

/* ------------------------------------------------------------------------------------------ send, receive */

/* The two buffers are the handle's, so its threads go in one by one. A handler that interrupted its own
 * thread in here gets -EAGAIN. */
static bool enter(struct noria_latest_part *part)
{
    for (int i = 0; i < MOST_TURNS; i++) {
        if (noria_exchange_acquire32(&part->busy, 1) == 0) /* pairs with the store in send_one */
            return true;
        sched_yield();
    }
    return false;
}

static int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_latest_part *part = part_of(base);
    int rc;

    (void)priority;
    if (!enter(part))
        return -EAGAIN;
    rc = noria_latest_send(&part->cell, data, len);
    noria_store_release32(&part->busy, 0);
    if (rc < 0)
        return rc;
    noria_count(&channel->own->sent, 1);
    if (rc == 1)
        noria_segment_count_lost(base, 1); /* it never got a version that receivers could miss */
    noria_notify_receivers(channel);
    return 0;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    return noria_send_one_by_one(base, messages, n, send_one);
}

static void fill_info(struct noria_info *info, const struct noria_latest_message *message)
{
    memset(info, 0, sizeof(*info));
    info->size = (uint32_t)message->len;
    info->sender = message->sender;
    info->sequence = message->version;
    info->lost = message->missed;
    info->flags = message->missed != 0 ? NORIA_LOST : 0;
}

static ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_latest_message message;
    int rc = noria_latest_recv(&part_of(base)->cell, buffer, capacity, &message);

    if (rc == -EMSGSIZE)
        return noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays", message.len, capacity);
    if (rc != 0)
        return rc;
    noria_count(&channel->own->received, 1);
    if (noria_load_relaxed32(&channel->seen_sender) == 0)
        noria_store_relaxed32(&channel->seen_sender, 1);
    if (info != NULL)
        fill_info(info, &message);
    return (ssize_t)message.len;
}

/* There is never more than one. */
static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    (void)n;
    return noria_recv_one_by_one(base, buffers, 1, info, recv_one);
}

/* ----------------------------------------------------------------------------------- joining and recovery */

static size_t footprint(const struct noria_geometry *geometry)
{
    return noria_latest_footprint(geometry->max_message, geometry->max_participants);
}

static int format(void *area, size_t size, const struct noria_geometry *geometry)
{
    return noria_latest_format(area, size, geometry->max_message, geometry->max_participants,
                               geometry->first_position);
}

static int attach(struct noria_segment_channel *channel)
{
    struct noria_latest_handle *cell = &channel->part.latest.cell;
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = noria_latest_read_geometry(cell, channel->ring, (size_t)geometry->ring_size);

    if (rc == 0 && cell->max_message == geometry->max_message && cell->owners == geometry->max_participants)
        return 0;
    return noria_fail(-EBADMSG, "the cell is corrupt: its geometry is not the channel's; remove the channel");
}

static int join(struct noria_segment_channel *channel, int flags)
{
    (void)flags; /* sending and receiving need no role */
    return noria_latest_start(&channel->part.latest.cell, channel->number);
}

static void nothing_to_give_back(struct noria_segment_channel *channel)
{
    (void)channel;
}

static int nothing_to_settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    (void)channel, (void)owner, (void)entry_word;
    return 0;
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    (void)channel;
    return false;
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    (void)channel, (void)owner;
    return 0;
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    (void)level;
    return side == NORIA_SIDE_SEND || noria_latest_may_receive(&channel->part.latest.cell);
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_latest_handle *cell = &channel->part.latest.cell;

    return side == NORIA_SIDE_SEND ? noria_load_relaxed64(&cell->cell->current)
                                   : noria_load_relaxed64(&cell->seen);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    struct noria_latest_part *part = part_of(base);

    (void)side; /* senders never fail but behind another thread */
    noria_backoff_wait(&part->backoff, noria_load_relaxed64(&part->cell.seen), 1, 8); /* private */
}

static void count(const struct noria_segment_channel *channel, struct noria_stat *stat)
{
    uint64_t current = noria_load_relaxed64(&channel->part.latest.cell.cell->current); /* statistics */

    stat->messages = NORIA_LATEST_OWNER(current) != 0;
    stat->bytes = stat->messages == 0 ? 0 : -1;
}

NORIA_WHOLE_CALLS(send_one, recv_one)

const struct noria_kind_table noria_latest_kind = {
    .name = "latest value",
    .takes = NORIA_TAKES_OVERWRITE,
    .verbs = {.send = send_one, .send_many = send_many, .recv = recv_one, .recv_many = recv_many,
              .back_off = back_off, .send_call = send_call, .recv_call = recv_call, NORIA_NO_SPANS,
              NORIA_SEGMENT_VERBS},
    .footprint = footprint, .format = format, .attach = attach, .join = join, .leave = nothing_to_give_back,
    .dispose = nothing_to_give_back, .settle = nothing_to_settle, .held_elsewhere = held_elsewhere,
    .ready = ready, .progress = progress, .count = count, .held_by = held_by,
    .anatomy = &noria_latest_anatomy,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS,
};
