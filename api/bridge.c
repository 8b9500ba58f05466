/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages from one channel into another. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "call.h"
#include "detail.h"
#include "nap.h"
#include "transport.h"

/* A channel that waits for its next receiver refuses once; one that refuses again and again has no other. */
enum { MOST_REFUSALS = 8 };

struct bridge {
    noria_channel *from, *to;
    struct noria_bridge_counts counts;
    uint32_t levels; /* priorities of the destination */
    uint64_t source; /* which channel the source is, of all there are; 0: its sequences are not known to be unique */
    bool copies;     /* of a source that lends no messages */
    void *buffer;
    size_t room; /* of it: what is too long for the destination stays at the source */
    bool keeps;  /* what is in the buffer: it is nowhere else */
    struct noria_info kept;
};

/* Of a destination that has lost its receiver the next one gets the message; one that does not wait while it is full is
 * asked again. */
static int send_on(struct bridge *bridge, const void *data, size_t len, const struct noria_info *info, unsigned priority)
{
    struct noria_origin origin = {bridge->source, info->sequence, info->priority, (info->flags & NORIA_REDELIVERED) != 0};

    /* What is wrong with it noria_send_prio finds. */
    if (bridge->to->verbs->send_origin == NULL || len > bridge->to->max_message || (bridge->to->flags & NORIA_SEND) == 0)
        return noria_send_prio(bridge->to, data, len, priority, -1);
    return bridge->to->verbs->send_origin(bridge->to, data, len, priority, &origin, -1);
}

static int pass_on(struct bridge *bridge, const void *data, size_t len, const struct noria_info *info)
{
    unsigned priority = info->priority < bridge->levels ? info->priority : bridge->levels - 1;
    int rc;

    for (int refusals = 0; refusals < MOST_REFUSALS; refusals++) {
        while ((rc = send_on(bridge, data, len, info, bridge->levels > 1 ? priority : 0)) == -EAGAIN)
            noria_nap(NORIA_FOREVER);
        if (rc != -EPIPE && rc != -EOWNERDEAD)
            return rc;
        bridge->counts.refused++;
    }
    return noria_fail(-ENOTCONN, "the destination has no receiver any more, and can get no other one");
}

static void count(struct bridge *bridge, size_t len, const struct noria_info *info)
{
    bridge->counts.messages++;
    bridge->counts.bytes += len;
    bridge->counts.redelivered += (info->flags & NORIA_REDELIVERED) != 0;
    bridge->counts.lost += info->lost;
    bridge->counts.without_fds += (info->flags & NORIA_FDS) != 0;
}

static ssize_t try_put_back(noria_channel *channel, void *span)
{
    return channel->verbs->put_back(channel, span);
}

/* The destination did not take it. Where it cannot be put back it goes to another receiver, or comes again, when the
 * source's handle is closed. */
static void put_back(noria_channel *from, struct noria_span *span)
{
    bool muted = noria_detail_mute(true); /* the sentence is the destination's */

    if (from->verbs->put_back != NULL)
        noria_call(from, NORIA_SIDE_RECV, 0, &(struct noria_attempt){try_put_back, span, false, 0, NULL});
    noria_detail_mute(muted);
}

static int carry_held(struct bridge *bridge)
{
    struct noria_span span;
    struct noria_info info;
    int rc = noria_peek(bridge->from, &span, -1, &info);

    if (rc != 0)
        return rc;
    rc = pass_on(bridge, span.data, span.len, &info);
    if (rc != 0) {
        put_back(bridge->from, &span);
        return rc;
    }
    rc = noria_release(bridge->from, &span);
    if (rc == -ENOTCONN) /* it is over there, and comes again, flagged, if the source has not heard of it */
        rc = 0;
    if (rc == 0)
        count(bridge, info.size, &info);
    return rc;
}

static int carry_copy(struct bridge *bridge)
{
    ssize_t len = noria_recv(bridge->from, bridge->buffer, bridge->room, -1, &bridge->kept);
    int rc = len < 0 ? (int)len : pass_on(bridge, bridge->buffer, (size_t)len, &bridge->kept);

    bridge->keeps = len >= 0 && rc != 0;
    if (rc == 0)
        count(bridge, (size_t)len, &bridge->kept);
    return rc;
}

/* What the source cannot take back goes to the caller. */
static void hand_over(struct bridge *bridge, struct noria_bridge_counts *counts)
{
    *counts = bridge->counts;
    if (!bridge->keeps)
        return;
    counts->kept = bridge->buffer;
    counts->kept_info = bridge->kept;
    bridge->buffer = NULL;
}

/* The moment it was made, on this machine; of kinds whose sequences never come twice. */
static uint64_t source_of(const struct noria_stat *from)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    char machine[256] = "";

    if ((from->abilities & NORIA_CAN_REDELIVER) == 0 || from->created_ns == 0 || from->max_bytes != 0 ||
        from->full == NORIA_FULL_OVERWRITE_OLDEST)
        return 0;
    gethostname(machine, sizeof(machine) - 1);
    for (const char *at = machine; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
    hash ^= (uint64_t)from->created_ns * UINT64_C(0x9e3779b97f4a7c15);
    return hash != 0 ? hash : 1;
}

static int prepare(struct bridge *bridge)
{
    struct noria_stat from = {.size = sizeof(from)}, to = {.size = sizeof(to)};
    int rc = noria_stat(bridge->from, &from);

    if (rc == 0)
        rc = noria_stat(bridge->to, &to);
    if (rc != 0)
        return rc;
    bridge->source = source_of(&from);
    bridge->levels = to.priorities > 0 ? to.priorities : 1;
    bridge->room = from.max_message < to.max_message ? from.max_message : to.max_message;
    bridge->buffer = malloc(bridge->room + 1);
    return bridge->buffer != NULL ? 0 : noria_fail(-ENOMEM, "out of memory for a message of %zu bytes", bridge->room);
}

int noria_bridge(noria_channel *from, noria_channel *to, struct noria_bridge_counts *counts)
{
    struct bridge bridge = {.from = from, .to = to};
    int rc;

    if (from == NULL || to == NULL)
        return noria_fail(-EINVAL, "noria_bridge takes a channel to receive from and one to send to");
    rc = prepare(&bridge);
    while (rc == 0) {
        rc = bridge.copies ? -ENOTSUP : carry_held(&bridge);
        if (rc == -ENOTSUP) {
            bridge.copies = true;
            rc = carry_copy(&bridge);
        }
        if (counts != NULL)
            *counts = bridge.counts;
    }
    if (counts != NULL)
        hand_over(&bridge, counts);
    free(bridge.buffer);
    return rc == -EPIPE ? 0 : rc;
}
