/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "?deal" of unix.c and tcp.c: work for many receivers. The sender listens, any number of receivers connect and say that
 * they are there, and each message goes to one of them, in turn among those that have room just now. Who has none is left
 * out until he has: a stopped receiver holds up nobody.
 *
 * To each receiver the handle is a sender of its own, with a number and a sequence of its own, so nobody takes for a gap what
 * went to somebody else, and what is lost on the way to one is told to that one, exactly.
 */
#ifndef NORIA_DEALING_H
#define NORIA_DEALING_H

#include "socket.h"

struct noria_dealer {
    struct noria_socket socket;
    struct noria_connection *connections; /* the newest one first */
    uint32_t count, receivers;            /* of those the ones that have said what they are */
    struct noria_connection *current;     /* what is put goes there */
    uint64_t messages;                    /* number of the one that is under way */
    uint32_t favourite;                   /* number of a receiver: see noria_dealing_favourite */
    int64_t patience_ns;
};

/* How unix: and tcp: differ when a handle is opened. */
struct noria_socket_scheme {
    const struct noria_mechanism *plain, *dealing;
    uint32_t most_fds; /* unless it deals: a connection is told of descriptors beforehand, and dealt messages have many */
    int (*make_address)(struct noria_socket *socket, const char *rest);
    int (*take_role)(struct noria_socket *socket, int flags); /* listens, or will connect */
};
int noria_socket_open(noria_channel **out, const struct noria_socket_scheme *scheme, const char *rest, int flags,
                      const struct noria_options *options);

int noria_dealing_send(struct noria_adapter *adapter, struct noria_outgoing *message);
int noria_dealing_send_many(struct noria_adapter *adapter, const struct iovec *messages, int n);
int noria_dealing_may_send(struct noria_adapter *adapter);
int noria_dealing_settle(struct noria_adapter *adapter);
int noria_dealing_favourite(struct noria_adapter *adapter, int64_t *until_ns);
ssize_t noria_dealing_put(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority);

int noria_dealing_choose(struct noria_adapter *adapter);
int noria_dealing_end(struct noria_adapter *adapter);

int noria_dealing_watch(struct noria_adapter *adapter, enum noria_side side, int epoll);
void noria_dealing_stat(struct noria_adapter *adapter, struct noria_stat *stat);
void noria_dealing_close(struct noria_adapter *adapter, bool stale);

#define NORIA_DEALING_MECHANISM \
    .abilities = NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_POLL, .drops_strangers = true, .put = noria_dealing_put, \
    .deal = noria_dealing_send, .deal_many = noria_dealing_send_many, .may_give = noria_dealing_may_send, \
    .settle = noria_dealing_settle, .favourite = noria_dealing_favourite, .get = noria_adapter_get_in, \
    .choose = noria_dealing_choose, .end = noria_dealing_end, .watch = noria_dealing_watch, \
    .stat = noria_dealing_stat, .close = noria_dealing_close

#endif
