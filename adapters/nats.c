/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "nats://host:port/subject": messages through NATS, kept by a stream of JetStream. A send returns when the stream has the
 * message; a receiver pulls from a durable consumer that all receivers of the channel share, and what it has not released
 * goes to another one, flagged. Payloads are the messages as they are, so that other programs can read and write them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "adapters.h"
#include "detail.h"
#include "nats_handle.h"

static int watch(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    struct noria_nats_link *link = &noria_nats_of(adapter)->links[side];
    int rc;

    if (link->client == NULL) /* the handle was not opened for that side */
        return 0;
    rc = noria_adapter_watch(epoll, link->epoll, EPOLLIN);
    return rc == 0 ? noria_adapter_watch(epoll, link->timer, EPOLLIN) : rc;
}

static int excuse(struct noria_adapter *adapter, enum noria_side side, int rc)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    struct noria_nats_link *link = &nats->links[side];

    if (noria_nats_link_is_up(link))
        return rc;
    return noria_fail(-ENOTCONN, "%s: no server has answered for %lld ms; the handle goes on when one does",
                      nats->address.shown, (long long)((noria_now_ns() - link->down_since_ns) / NORIA_NS_PER_MS));
}

static void stat(struct noria_adapter *adapter, struct noria_stat *stat)
{
    struct noria_nats *nats = noria_nats_of(adapter);

    stat->created_ns = nats->created_ns;
    stat->capacity = nats->capacity;
    stat->redelivered = nats->receiver.redelivered;
}

static void close_nats(struct noria_adapter *adapter, bool stale)
{
    struct noria_nats *nats = noria_nats_of(adapter);

    noria_nats_end_sending(nats, stale);
    noria_nats_end_receiving(nats, stale);
    noria_nats_link_close(&nats->links[NORIA_SIDE_SEND], stale);
    noria_nats_link_close(&nats->links[NORIA_SIDE_RECV], stale);
    noria_nats_address_free(&nats->address);
}

static int open_sides(struct noria_nats *nats, int flags)
{
    int64_t timeout_ns = nats->adapter.options.open_timeout_ns;
    int rc = 0;

    if (timeout_ns < 0)
        timeout_ns = 3600 * NORIA_NS_PER_S;
    for (int side = 0; side < 2 && rc == 0; side++)
        if ((flags & (side == NORIA_SIDE_SEND ? NORIA_SEND : NORIA_RECV)) != 0)
            rc = noria_nats_link_open(&nats->links[side], nats->client, &nats->address, timeout_ns);
    return rc == 0 && (flags & NORIA_SEND) != 0 ? noria_nats_begin_sending(nats) : rc;
}

static int open_nats(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    struct noria_nats *nats;
    int rc = noria_adapter_make(&adapter, &noria_mechanism_nats, sizeof(*nats), rest, flags, options);

    if (rc != 0)
        return rc;
    nats = noria_nats_of(adapter);
    rc = noria_nats_address_parse(&nats->address, rest);
    if (rc == 0)
        nats->client = noria_nats_client(&rc);
    if (rc == 0)
        rc = noria_nats_setup(nats, flags);
    if (rc == 0)
        rc = open_sides(nats, flags);
    if (rc != 0) {
        close_nats(adapter, false);
        noria_adapter_free(adapter);
    } else {
        *out = &adapter->base;
    }
    return rc;
}

const struct noria_mechanism noria_mechanism_nats = {
    .scheme = "nats",
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER | NORIA_CAN_POLL |
                 NORIA_CAN_OUTLIVE,
    .give = noria_nats_give,
    .give_up = noria_nats_give_up,
    .may_give = noria_nats_may_give,
    .settle = noria_nats_settle,
    .take = noria_nats_take,
    .taken = noria_nats_taken,
    .taken_many = noria_nats_taken_many,
    .excuse = excuse,
    .watch = watch,
    .stat = stat,
    .open = open_nats,
    .close = close_nats};

const struct noria_transport noria_transport_nats = {"nats", open_nats, noria_nats_unlink, noria_nats_in_use};
