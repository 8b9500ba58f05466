/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What unix.c and tcp.c share, and dealing.c uses, where it is the sender that listens. The receiver listens, any number of
 * senders connect: each connection is an inlet of its own, so what one sender does, a stranger most of all, is nothing to
 * the others. A sender connects in its first send, waits for a receiver that is not there yet, is told once (-EPIPE) when
 * it has gone, and then connects to the next one.
 */
#ifndef NORIA_SOCKET_H
#define NORIA_SOCKET_H

#include <netdb.h>
#include <sys/socket.h>

#include "adapter.h"

struct noria_socket {
    struct noria_adapter adapter;
    int listener;
    struct noria_fork_guard listener_guard;
    struct sockaddr_storage address;
    socklen_t address_size;
    struct addrinfo *found, *turn; /* all addresses of a host, and which of them that is; NULL: there is one */
    int type;      /* SOCK_STREAM, SOCK_SEQPACKET */
    bool deals;    /* the sender listens (dealing.h) */
    bool asks_who; /* a peer of another user is a stranger */
    bool rests;    /* the listener, while there is no room for one more */
    uint32_t turns;
    int64_t accepted_ns; /* the newest inlet */
};

static inline struct noria_socket *noria_socket_of(struct noria_adapter *adapter)
{
    return (struct noria_socket *)(void *)adapter;
}

/* Whether the handle's role is the one that listens; and what that one is called. */
static inline bool noria_socket_listens(const struct noria_socket *of)
{
    return (of->adapter.base.flags & (of->deals ? NORIA_SEND : NORIA_RECV)) != 0;
}

static inline const char *noria_socket_listener(bool deals)
{
    return deals ? "sender" : "receiver";
}

/* Takes the addresses that were found, the first one first. */
void noria_socket_take_addresses(struct noria_socket *socket, struct addrinfo *found);
/* A socket of the address's family, that never waits. -errno with a sentence. */
int noria_socket_make(const struct noria_socket *socket);
/* Takes a bound socket to listen at. */
int noria_socket_listen(struct noria_socket *socket, int fd);
/* Whether somebody listens at the address: 1, 0, -errno. */
int noria_socket_is_served(const struct noria_socket *socket);

/* Takes in who knocks, and never waits: the connection's descriptor; -EAGAIN: nobody does, or one who has gone; -EMFILE: there
 * is no room in this process, or this machine; -EACCES: a peer of another user, who was counted. */
int noria_socket_accept(struct noria_socket *socket);
/* Of a connection over TCP: what is sent goes at once, and a peer that vanishes is missed. */
void noria_socket_tune(const struct noria_socket *socket, int fd);

int noria_socket_attach(struct noria_adapter *adapter);
ssize_t noria_socket_get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room);
int noria_socket_choose(struct noria_adapter *adapter);
int noria_socket_end(struct noria_adapter *adapter);
int noria_socket_watch(struct noria_adapter *adapter, enum noria_side side, int epoll);
int noria_socket_list(struct noria_adapter *adapter, enum noria_side side, struct pollfd *ends);
void noria_socket_stat(struct noria_adapter *adapter, struct noria_stat *stat);
void noria_socket_close(struct noria_adapter *adapter, bool stale);

#define NORIA_SOCKET_MECHANISM \
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_POLL, .drops_strangers = true, .attach = noria_socket_attach, \
    .detach = noria_adapter_close_out, .put = noria_adapter_put_out, .get = noria_socket_get, \
    .choose = noria_socket_choose, .end = noria_socket_end, .watch = noria_socket_watch, .list = noria_socket_list, \
    .stat = noria_socket_stat, .close = noria_socket_close

#endif
