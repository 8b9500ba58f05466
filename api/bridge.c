/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages from one channel into another. */
#include <errno.h>
#include <stdlib.h>

#include "detail.h"
#include "transport.h"

/* A channel that waits for its next receiver refuses once; one that refuses again and again has no other. */
enum { MOST_REFUSALS = 8 };

struct bridge {
    noria_channel *from, *to;
    struct noria_bridge_counts counts;
    uint32_t levels; /* priorities of the destination */
    bool holds;      /* a message is released at the source when the destination has it */
    void *buffer;    /* where messages cannot be held */
    size_t room;
};

/* Of a destination that has lost its receiver the next one gets the message. */
static int pass_on(struct bridge *bridge, const void *data, size_t len, const struct noria_info *info)
{
    unsigned priority = info->priority < bridge->levels ? info->priority : bridge->levels - 1;
    int rc;

    for (int refusals = 0; refusals < MOST_REFUSALS; refusals++) {
        rc = noria_send_prio(bridge->to, data, len, bridge->levels > 1 ? priority : 0, -1);
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
}

static int carry_held(struct bridge *bridge)
{
    struct noria_span span;
    struct noria_info info;
    int rc = noria_peek(bridge->from, &span, -1, &info);

    if (rc != 0)
        return rc;
    rc = pass_on(bridge, span.data, span.len, &info);
    if (rc == 0)
        rc = noria_release(bridge->from, &span);
    if (rc == 0)
        count(bridge, info.size, &info);
    return rc; /* a message that was not released goes to another receiver when the handle is closed */
}

static int carry_copy(struct bridge *bridge)
{
    struct noria_info info;
    ssize_t len = noria_recv(bridge->from, bridge->buffer, bridge->room, -1, &info);
    int rc = len < 0 ? (int)len : pass_on(bridge, bridge->buffer, (size_t)len, &info);

    if (rc == 0)
        count(bridge, (size_t)len, &info);
    return rc;
}

static int prepare(struct bridge *bridge)
{
    struct noria_stat from = {.size = sizeof(from)}, to = {.size = sizeof(to)};
    int rc = noria_stat(bridge->from, &from);

    if (rc == 0)
        rc = noria_stat(bridge->to, &to);
    if (rc != 0)
        return rc;
    bridge->levels = to.priorities > 0 ? to.priorities : 1;
    bridge->holds = (from.abilities & NORIA_CAN_REDELIVER) != 0;
    bridge->room = from.max_message;
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
        rc = bridge.holds ? carry_held(&bridge) : carry_copy(&bridge);
        if (counts != NULL)
            *counts = bridge.counts;
    }
    free(bridge.buffer);
    return rc == -EPIPE ? 0 : rc;
}
