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

#include "clock.h"
#include "detail.h"

enum { BACKLOG = 128, TURNS_OF_ONE = 8, TURNS_ALONE = 64, MOST_ACCEPTED = 16, MOST_POLLED = 64 };
enum { IDLE_S = 30, BETWEEN_S = 10, PROBES = 3 };
#define GRACE_NS NORIA_NS_PER_S /* for the greeting of who has connected */

static void take_address(struct noria_socket *of, struct addrinfo *address)
{
    of->turn = address;
    memcpy(&of->address, address->ai_addr, address->ai_addrlen);
    of->address_size = address->ai_addrlen;
}

void noria_socket_take_addresses(struct noria_socket *of, struct addrinfo *found)
{
    of->found = found;
    take_address(of, found);
}

/* Goes on to the host's next address. false: that was the last one, and it is the first one's turn. */
static bool turn(struct noria_socket *of)
{
    if (of->found == NULL)
        return false;
    take_address(of, of->turn->ai_next != NULL ? of->turn->ai_next : of->found);
    return of->turn != of->found;
}

static bool is_tcp(const struct noria_socket *of)
{
    return of->found != NULL;
}

int noria_socket_make(const struct noria_socket *of)
{
    int fd = socket(of->address.ss_family, of->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd >= 0 ? fd
                   : noria_fail(-errno, "no socket for '%s:%s': %s", of->adapter.mechanism->scheme, of->adapter.rest,
                                strerror(errno));
}

/* Whose machine has vanished without a word is missed after IDLE_S + PROBES * BETWEEN_S: he keeps no inlet. What is
 * under way to one the system gives up by itself (tcp_retries2). No TCP_USER_TIMEOUT: it would also end the connection
 * to a receiver that is alive and does not read for so long, and a full channel may stay full. */
static void ask_now_and_then(int fd)
{
    const int yes = 1, idle = IDLE_S, between = BETWEEN_S, probes = PROBES;

    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof(between));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
}

void noria_socket_tune(const struct noria_socket *of, int fd)
{
    const int at_once = 1;

    if (!is_tcp(of))
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
    ask_now_and_then(fd);
}

/* Whether a peer's user is ours, or options.foreign. A peer of another one is neither believed nor told anything. Of a
 * listener it is who began to listen. */
static bool is_welcome(const struct noria_socket *of, int fd)
{
    struct ucred who;
    socklen_t size = sizeof(who);

    if (!of->asks_who || of->adapter.options.foreign != 0)
        return true;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == geteuid() || who.uid == 0);
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* Whether nobody is there, or has time, or the way is blocked: all that may change. */
static bool may_pass(int error)
{
    static const int passing[] = {ECONNREFUSED, ENOENT,     EAGAIN,   EINTR,     ECONNRESET, ECONNABORTED,  ETIMEDOUT,
                                  EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN, ENOBUFS,    EADDRNOTAVAIL, ENETRESET};

    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (error == passing[i])
            return true;
    return false;
}

static int begin_to_connect(struct noria_adapter *adapter)
{
    struct noria_socket *of = noria_socket_of(adapter);
    struct noria_end end = {.fd = noria_socket_make(of), .kind = NORIA_END_SOCKET};

    if (end.fd < 0)
        return end.fd;
    noria_socket_tune(of, end.fd);
    if (connect(end.fd, (struct sockaddr *)&of->address, of->address_size) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(end.fd);
        if (error == EACCES || error == EPERM)
            return noria_fail(-error, "'%s:%s': this user may not connect", adapter->mechanism->scheme, adapter->rest);
        return may_pass(error) ? -EAGAIN
                               : noria_fail(-error, "'%s:%s': cannot connect: %s", adapter->mechanism->scheme,
                                            adapter->rest, strerror(error));
    }
    noria_adapter_set_out(adapter, &end);
    return 0;
}

/* Where nobody listens at a port, connecting to it from the very same one succeeds, and it is ours alone. */
static bool is_connected_to_itself(const struct noria_socket *of, int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer);

    return is_tcp(of) && getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 && own_size == peer_size &&
           memcmp(&own, &peer, own_size) == 0;
}

static int refuse_listener(struct noria_adapter *adapter)
{
    noria_adapter_close_out(adapter);
    return noria_fail(-EACCES, "another user listens at '%s:%s'; options.foreign (--foreign) says that this is meant",
                      adapter->mechanism->scheme, adapter->rest);
}

/* 0; -EAGAIN: it is on its way, or has failed and the next try may do better; -errno. */
static int connect_to_address(struct noria_adapter *adapter)
{
    const struct noria_socket *of = noria_socket_of(adapter);
    struct pollfd set = {.events = POLLOUT};
    int rc = adapter->out.fd < 0 ? begin_to_connect(adapter) : 0, error = 0;
    socklen_t size = sizeof(error);

    if (rc != 0)
        return rc;
    set.fd = adapter->out.fd;
    if (poll(&set, 1, 0) <= 0)
        return -EAGAIN; /* on its way, or full at once */
    if (getsockopt(set.fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0 &&
        !is_connected_to_itself(of, set.fd))
        return is_welcome(of, set.fd) ? 0 : refuse_listener(adapter);
    noria_adapter_close_out(adapter);
    return -EAGAIN;
}

int noria_socket_attach(struct noria_adapter *adapter)
{
    int rc = connect_to_address(adapter);

    while (rc != 0 && adapter->out.fd < 0 && turn(noria_socket_of(adapter))) {
        int other = connect_to_address(adapter);
        if (other == 0 || other == -EAGAIN) /* as long as one may do there is hope */
            rc = other;
    }
    return rc;
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
    int fd = noria_socket_make(of), error = 0;

    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)&of->address, of->address_size) != 0)
        error = errno;
    close(fd);
    return error != ECONNREFUSED && error != ENOENT; /* of another type, too full, not for us: somebody is there */
}

/* Whether nothing lies in the connection. */
static bool is_idle(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* A connection that may give way: nothing has ever come from it. What a sender was told is sent may lie in the others.
 * The oldest. */
static struct noria_inlet *find_silent(const struct noria_adapter *adapter)
{
    struct noria_inlet *silent = NULL;

    for (struct noria_inlet *inlet = adapter->inlets; inlet != NULL; inlet = inlet->next)
        if (!inlet->speaks && inlet->from == inlet->to && is_idle(inlet->end.fd))
            silent = inlet; /* the list begins with the newest */
    return silent;
}

/* Room for one more. */
static bool make_room(struct noria_adapter *adapter)
{
    struct noria_inlet *silent;
    char byte;

    if (adapter->inlet_count < adapter->options.max_participants)
        return true;
    silent = find_silent(adapter);
    if (silent == NULL)
        return false;
    shutdown(silent->end.fd, SHUT_RD); /* a Unix peer's next send is -EPIPE; what was just sent is still there */
    if (recv(silent->end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        return false; /* it is read, and then ends */
    noria_assembly_end_source(&adapter->assembly, silent);
    noria_adapter_remove_inlet(adapter, silent);
    adapter->strangers++;
    return true;
}

/* The listener is waited at while there is room; full, it would always be ready. Who wants to connect waits in it, and
 * so does what he sends. */
static void rest(struct noria_socket *of)
{
    int epoll = of->adapter.epolls[NORIA_SIDE_RECV];

    of->rests = true;
    if (epoll >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, of->listener, NULL);
}

static bool somebody_knocks(const struct noria_socket *of)
{
    struct pollfd set = {.fd = of->listener, .events = POLLIN};

    return poll(&set, 1, 0) > 0;
}

int noria_socket_accept(struct noria_socket *of)
{
    int fd = accept4(of->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM ? -EMFILE : -EAGAIN;
    if (is_welcome(of, fd))
        return fd;
    close(fd);
    of->adapter.strangers++;
    return -EACCES;
}

static void take_in(struct noria_adapter *adapter, int fd)
{
    struct noria_end end = {.fd = fd, .kind = NORIA_END_SOCKET};

    if (is_tcp(noria_socket_of(adapter)))
        ask_now_and_then(fd);
    noria_socket_of(adapter)->accepted_ns = noria_now_ns();
    noria_adapter_add_inlet(adapter, &end);
}

/* Whether the listener rests although there is room: somebody knocked who could not be taken in, for want of a
 * descriptor, and what he has sent lies there with him. */
static bool may_work_again(const struct noria_socket *of)
{
    return of->rests && of->adapter.inlet_count < of->adapter.options.max_participants;
}

/* Takes in who wants to connect; `knocks`: somebody does. How many inlets there are more. */
static int accept_all(struct noria_adapter *adapter, bool knocks)
{
    struct noria_socket *of = noria_socket_of(adapter);
    uint32_t before = adapter->inlet_count;
    bool changes = may_work_again(of);

    if (of->rests && !changes)
        return 0;
    of->rests = false;
    for (int i = 0; i < MOST_ACCEPTED && (i == 0 ? knocks : somebody_knocks(of)); i++) {
        int fd;
        if (!make_room(adapter)) {
            rest(of);
            break;
        }
        fd = noria_socket_accept(of);
        if (fd == -EMFILE)
            rest(of); /* until the next look */
        if (fd == -EMFILE || fd == -EAGAIN)
            break;
        if (fd >= 0)
            take_in(adapter, fd);
        changes = true;
    }
    if (changes)
        noria_adapter_rewatch(adapter, NORIA_SIDE_RECV);
    return (int)adapter->inlet_count - (int)before;
}

ssize_t noria_socket_get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    uint32_t turns = adapter->inlet_count > 1 ? TURNS_OF_ONE : TURNS_ALONE;

    if (++noria_socket_of(adapter)->turns % turns == 0)
        return -EAGAIN; /* others have a turn, if they have something */
    return noria_adapter_read(adapter, inlet, bytes, room);
}

/* The next one after the current one that has something; first of all one whose sender has gone, the oldest, because another
 * one may have taken his place meanwhile (with TCP something of his may still be under way, and then he does not seem gone).
 * All are asked in one call, and the listener with them: whether somebody knocks. */
static struct noria_inlet *find_ready(struct noria_adapter *adapter, bool *knocks)
{
    struct noria_socket *of = noria_socket_of(adapter);
    struct noria_inlet *inlet = adapter->inlet, *polled[MOST_POLLED], *ready = NULL;
    struct pollfd set[MOST_POLLED] = {{.fd = of->rests && !may_work_again(of) ? -1 : of->listener, .events = POLLIN}};
    uint32_t left = adapter->inlet_count, n;
    bool is_gone = false;

    *knocks = false;
    do {
        for (n = 1; n < MOST_POLLED && left > 0; n++, left--) {
            inlet = inlet != NULL && inlet->next != NULL ? inlet->next : adapter->inlets;
            set[n] = (struct pollfd){.fd = inlet->end.fd, .events = POLLIN | POLLRDHUP};
            polled[n] = inlet;
        }
        if (poll(set, n, 0) <= 0)
            continue;
        *knocks = *knocks || set[0].revents != 0;
        for (uint32_t i = 1; i < n; i++) {
            bool has_gone = (set[i].revents & (POLLHUP | POLLRDHUP)) != 0;
            if (set[i].revents == 0)
                continue;
            if (ready == NULL || (has_gone && (!is_gone || polled[i]->number < ready->number))) {
                ready = polled[i];
                is_gone = has_gone;
            }
        }
    } while (left > 0 && ready == NULL);
    return ready;
}

/* Nothing lies in any connection. Whether no sender is there: what has come from none of them is a frame, nor the header
 * of one, and a sender says as soon as it is connected that it is there. */
static bool only_strangers_are_there(struct noria_adapter *adapter)
{
    for (const struct noria_inlet *inlet = adapter->inlets; inlet != NULL; inlet = inlet->next)
        if (inlet->speaks || inlet->to - inlet->from >= NORIA_FRAME_HEADER)
            return false;
    return adapter->inlets == NULL || noria_now_ns() - noria_socket_of(adapter)->accepted_ns > GRACE_NS;
}

int noria_socket_choose(struct noria_adapter *adapter)
{
    bool knocks;
    struct noria_inlet *ready = find_ready(adapter, &knocks);

    if ((knocks || may_work_again(noria_socket_of(adapter))) && accept_all(adapter, knocks) > 0 && ready == NULL)
        ready = find_ready(adapter, &knocks);
    if (ready != NULL)
        adapter->inlet = ready;
    if (ready == NULL && adapter->seen_sender && !may_work_again(noria_socket_of(adapter)) && only_strangers_are_there(adapter))
        return -EPIPE;
    return ready != NULL ? 0 : -EAGAIN;
}

int noria_socket_end(struct noria_adapter *adapter)
{
    bool knocks;
    struct noria_inlet *ready = find_ready(adapter, &knocks);

    adapter->inlet = ready != NULL ? ready : adapter->inlets;
    if (adapter->inlet != NULL || accept_all(adapter, knocks) > 0)
        return 1;
    return adapter->seen_sender && !may_work_again(noria_socket_of(adapter)) ? -EPIPE : -EAGAIN;
}

int noria_socket_watch(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    int rc = noria_adapter_watch_ends(adapter, side, epoll);

    if (rc == 0 && side == NORIA_SIDE_RECV && !noria_socket_of(adapter)->rests)
        rc = noria_adapter_watch(epoll, noria_socket_of(adapter)->listener, EPOLLIN);
    return rc;
}

int noria_socket_list(struct noria_adapter *adapter, enum noria_side side, struct pollfd *ends)
{
    int n = 0;

    if (side == NORIA_SIDE_SEND) {
        *ends = (struct pollfd){.fd = adapter->out.fd, .events = POLLOUT};
        return adapter->out.fd >= 0;
    }
    if (adapter->inlet_count >= NORIA_MOST_LISTED)
        return -1;
    if (!noria_socket_of(adapter)->rests)
        ends[n++] = (struct pollfd){.fd = noria_socket_of(adapter)->listener, .events = POLLIN};
    for (const struct noria_inlet *inlet = adapter->inlets; inlet != NULL; inlet = inlet->next)
        ends[n++] = (struct pollfd){.fd = inlet->end.fd, .events = POLLIN};
    return n;
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
    if (of->found != NULL)
        freeaddrinfo(of->found);
    if (of->listener < 0)
        return;
    noria_fork_guard_remove(&of->listener_guard);
    close(of->listener);
}
