/* SPDX-License-Identifier: BSD-2-Clause */
#include "socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "detail.h"

enum { BACKLOG = 128, TURNS_OF_ONE = 8, TURNS_ALONE = 64, MOST_ACCEPTED = 16 };

int noria_socket_make(const struct noria_socket *of)
{
    int fd = socket(of->address.ss_family, of->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd >= 0 ? fd
                   : noria_fail(-errno, "no socket for '%s:%s': %s", of->adapter.mechanism->scheme, of->adapter.rest,
                                strerror(errno));
}

/* ---------------------------------------------------------------------------------------------------------- sending */

static int begin_to_connect(struct noria_adapter *adapter)
{
    struct noria_socket *of = noria_socket_of(adapter);
    struct noria_end end = {.fd = noria_socket_make(of), .kind = NORIA_END_SOCKET};
    int at_once = 1;

    if (end.fd < 0)
        return end.fd;
    if (of->address.ss_family != AF_UNIX)
        setsockopt(end.fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
    if (connect(end.fd, (struct sockaddr *)&of->address, of->address_size) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(end.fd);
        if (error == EACCES || error == EPERM)
            return noria_fail(-error, "'%s:%s': this user may not connect", adapter->mechanism->scheme, adapter->rest);
        return -EAGAIN; /* nobody is there, or has time */
    }
    noria_adapter_set_out(adapter, &end);
    return 0;
}

int noria_socket_attach(struct noria_adapter *adapter)
{
    struct pollfd set = {.events = POLLOUT};
    int rc = adapter->out.fd < 0 ? begin_to_connect(adapter) : 0, error = 0;
    socklen_t size = sizeof(error);

    if (rc != 0)
        return rc;
    set.fd = adapter->out.fd;
    if (poll(&set, 1, 0) <= 0)
        return -EAGAIN; /* on its way, or full at once */
    if (getsockopt(set.fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
        return 0;
    noria_adapter_close_out(adapter);
    return -EAGAIN;
}

/* -------------------------------------------------------------------------------------------------------- receiving */

int noria_socket_listen(struct noria_socket *of, int fd)
{
    if (listen(fd, BACKLOG) != 0) {
        int rc = -errno;
        close(fd);
        return noria_fail(rc, "'%s:%s': cannot listen: %s", of->adapter.mechanism->scheme, of->adapter.rest,
                          strerror(-rc));
    }
    of->listener = fd;
    of->listener_guard.drops = true;
    noria_fork_guard_add(&of->listener_guard, fd);
    return 0;
}

int noria_socket_is_served(const struct noria_socket *of)
{
    int fd = noria_socket_make(of), rc;

    if (fd < 0)
        return fd;
    rc = connect(fd, (const struct sockaddr *)&of->address, of->address_size) == 0 || errno == EAGAIN ||
         errno == EINPROGRESS;
    close(fd);
    return rc;
}

/* Peers of another user are not asked for their messages. */
static bool is_welcome(const struct noria_socket *of, int fd)
{
    struct ucred who;
    socklen_t size = sizeof(who);

    if (!of->asks_who || of->adapter.options.foreign != 0)
        return true;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == geteuid() || who.uid == 0);
}

/* Room for one more: a connection from which nothing has come that was a message gives way, the oldest first. */
static bool make_room(struct noria_adapter *adapter)
{
    struct noria_inlet *silent = NULL;

    if (adapter->inlet_count < adapter->options.max_participants)
        return true;
    for (struct noria_inlet *inlet = adapter->inlets; inlet != NULL; inlet = inlet->next)
        if (!inlet->speaks)
            silent = inlet; /* the list begins with the newest */
    if (silent == NULL)
        return false;
    noria_assembly_end_source(&adapter->assembly, silent);
    noria_adapter_remove_inlet(adapter, silent);
    adapter->strangers++;
    return true;
}

/* Takes in who wants to connect. How many. */
static int accept_all(struct noria_adapter *adapter)
{
    struct noria_socket *of = noria_socket_of(adapter);
    int accepted = 0;

    for (int i = 0; i < MOST_ACCEPTED; i++) {
        struct noria_end end = {.fd = accept4(of->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
                                .kind = NORIA_END_SOCKET};
        if (end.fd < 0)
            break;
        if (!is_welcome(of, end.fd) || !make_room(adapter)) {
            close(end.fd);
            adapter->strangers++;
        } else if (noria_adapter_add_inlet(adapter, &end) != NULL) {
            accepted++;
        }
    }
    if (accepted > 0)
        noria_adapter_rewatch(adapter, NORIA_SIDE_RECV);
    return accepted;
}

ssize_t noria_socket_get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    uint32_t turns = adapter->inlet_count > 1 ? TURNS_OF_ONE : TURNS_ALONE;

    if (++noria_socket_of(adapter)->turns % turns == 0)
        return -EAGAIN; /* others have a turn, if they have something */
    return noria_end_read(&inlet->end, bytes, room);
}

/* The next one after the current one that has something. */
static struct noria_inlet *find_ready(struct noria_adapter *adapter)
{
    struct noria_inlet *inlet = adapter->inlet;

    for (uint32_t i = 0; i < adapter->inlet_count; i++) {
        struct pollfd set = {.events = POLLIN};
        inlet = inlet != NULL && inlet->next != NULL ? inlet->next : adapter->inlets;
        set.fd = inlet->end.fd;
        if (poll(&set, 1, 0) > 0)
            return inlet;
    }
    return NULL;
}

int noria_socket_choose(struct noria_adapter *adapter)
{
    struct noria_inlet *ready;

    accept_all(adapter);
    ready = find_ready(adapter);
    if (ready != NULL)
        adapter->inlet = ready;
    if (ready == NULL && adapter->inlets == NULL && adapter->seen_sender)
        return -EPIPE;
    return ready != NULL ? 0 : -EAGAIN;
}

int noria_socket_end(struct noria_adapter *adapter)
{
    if (adapter->inlet == NULL)
        adapter->inlet = adapter->inlets;
    return adapter->inlet != NULL || accept_all(adapter) > 0 ? 1 : adapter->seen_sender ? -EPIPE : -EAGAIN;
}

int noria_socket_watch(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    int rc = noria_adapter_watch_ends(adapter, side, epoll);

    if (rc == 0 && side == NORIA_SIDE_RECV)
        rc = noria_adapter_watch(epoll, noria_socket_of(adapter)->listener, EPOLLIN);
    return rc;
}

void noria_socket_stat(struct noria_adapter *adapter, struct noria_stat *stat)
{
    stat->senders += adapter->inlet_count;
    stat->max_participants = adapter->options.max_participants;
}

void noria_socket_close(struct noria_adapter *adapter, bool stale)
{
    struct noria_socket *of = noria_socket_of(adapter);

    (void)stale; /* an inherited descriptor leads nowhere */
    if (of->listener < 0)
        return;
    noria_fork_guard_remove(&of->listener_guard);
    close(of->listener);
}
