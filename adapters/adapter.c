/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of an adapter's handle, and waiting at it. */
#include "adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapters.h"
#include "call.h"
#include "descriptor.h"
#include "detail.h"
#include "nap.h"
#include "side.h"

enum { INLET_ALIGNED = 4096 }; /* a page of a pipe is copied faster to where a page begins than to 16 bytes behind it */
enum { INLET_ROOM = 2 * NORIA_MOST_PIECE, FLUSH_MS = 1000, MOST_PIPE = 1 << 20, MOST_LOOKS = 16 };
enum { MOST_COPIED_BY_ITSELF = 12 << 10 }; /* where one piece goes by a cheaper call than several */
enum { MOST_PACKET = 48 << 10 };
enum { FEWEST_PAUSES = 16, PROBE_PAUSES = 128, MOST_PAUSES = 256, PROBE_EVERY = 16 };
enum { MOST_PAUSES_AT_QUEUE = 64 }; /* one of 16 KiB, as System V's are, is full and empty again while 256 go by */
#define MOST_UNFINISHED (UINT64_C(64) << 20) /* bytes of messages that are just coming, unless one alone is longer */

/* ------------------------------------------------------------------------------------------------------------ locks */

int noria_adapter_hold_late(struct noria_adapter *adapter, enum noria_side side, uint64_t self)
{
    uint64_t holder = 0;

    while (!noria_cas_acq_rel64(&adapter->locks[side], &holder, self)) { /* pairs with let_go */
        if (holder == self) /* only we write our own name: a signal handler's call */
            return -EDEADLK;
        sched_yield(); /* another thread's try, which does not wait for anybody */
        holder = 0;
    }
    return 0;
}

int noria_adapter_lock(struct noria_adapter *adapter, enum noria_side side)
{
    int cancels, rc;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = noria_adapter_hold(adapter, side);
    if (rc == 0)
        adapter->cancels[side] = cancels;
    else
        pthread_setcancelstate(cancels, NULL);
    return rc;
}

void noria_adapter_unlock(struct noria_adapter *adapter, enum noria_side side)
{
    int cancels = adapter->cancels[side];

    noria_adapter_let_go(adapter, side);
    pthread_setcancelstate(cancels, NULL);
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

int noria_adapter_watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.fd = fd}};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST)
        return 0;
    return -errno;
}

void noria_adapter_rewatch(struct noria_adapter *adapter, enum noria_side side)
{
    if (adapter->epolls[side] >= 0)
        adapter->mechanism->watch(adapter, side, adapter->epolls[side]);
}

/* The set of what that side waits at. Made when somebody waits for the first time: a pipe that was never polled tells
 * its writers nothing they have to pay for. -errno. */
static int epoll_of(struct noria_adapter *adapter, enum noria_side side)
{
    int rc = noria_adapter_lock(adapter, side);

    if (rc != 0)
        return rc;
    if (adapter->epolls[side] < 0) {
        adapter->epolls[side] = epoll_create1(EPOLL_CLOEXEC);
        if (adapter->epolls[side] < 0)
            rc = -errno;
        else
            rc = noria_adapter_watch(adapter->epolls[side], adapter->wake, EPOLLIN);
        if (rc == 0)
            rc = adapter->mechanism->watch(adapter, side, adapter->epolls[side]);
    }
    if (rc == 0)
        rc = adapter->epolls[side];
    noria_adapter_unlock(adapter, side);
    return rc;
}

/* In a call that is counted as waiting: close waits for us, and the handle stays. */
static int set_to_wait_at(struct noria_adapter *adapter, enum noria_side side)
{
    int fd;

    noria_rejoin();
    fd = adapter->mechanism->watch != NULL ? epoll_of(adapter, side) : -ENOTSUP;
    noria_leave();
    return fd;
}

/* The one descriptor of that side, or -1. */
static int end_of(const struct noria_adapter *adapter, enum noria_side side)
{
    if (adapter->mechanism->descriptor != NULL)
        return adapter->mechanism->descriptor(adapter);
    if (adapter->mechanism->watch != noria_adapter_watch_ends)
        return -1;
    if (side == NORIA_SIDE_RECV)
        return adapter->inlets->end.fd;
    return adapter->mechanism->detach == NULL ? adapter->out.fd
                                              : -1; /* otherwise another thread may just be changing it */
}

/* As set_to_wait_at. */
static int favourite_of(struct noria_adapter *adapter, int64_t *until_ns)
{
    int fd;

    noria_rejoin();
    fd = adapter->mechanism->favourite(adapter, until_ns);
    noria_leave();
    return fd;
}

/* Those of a mechanism that has now more and now less of them. What another thread adds meanwhile the next list has,
 * after recheck_ns at the latest. */
static int list_ends(struct noria_adapter *adapter, enum noria_side side, struct pollfd *ends)
{
    int n = -1;

    if (adapter->mechanism->list == NULL)
        return -1;
    noria_rejoin();
    if (noria_adapter_lock(adapter, side) == 0) {
        if (adapter->epolls[side] < 0)
            n = adapter->mechanism->list(adapter, side, ends);
        noria_adapter_unlock(adapter, side);
    }
    noria_leave();
    return n;
}

/* Where there are few ends to wait at they are waited at themselves: through a set each message would cost its sender a
 * step more, and also while nobody sleeps. How many; -1: there are many, or a set is there already. */
static int find_ends(struct noria_adapter *adapter, enum noria_side side, struct pollfd *ends)
{
    int fd = end_of(adapter, side);

    if (fd < 0)
        return list_ends(adapter, side, ends);
    *ends = (struct pollfd){.fd = fd, .events = side == NORIA_SIDE_SEND ? POLLOUT : POLLIN};
    return 1;
}

/* With room for one more behind them. */
static int sleep_at_ends(struct noria_adapter *adapter, struct pollfd *ends, int n, int64_t until_ns)
{
    int64_t left_ns = until_ns - noria_now_ns();
    struct timespec left = noria_timespec_of(left_ns > 0 ? left_ns : 0);

    ends[n] = (struct pollfd){.fd = adapter->wake, .events = POLLIN};
    return ppoll(ends, (nfds_t)n + 1, &left, NULL) < 0 && errno == EINTR ? -EINTR : 0;
}

static int sleep_at(noria_channel *channel, enum noria_side side, int64_t deadline_ns, bool (*ready)(void *),
                    void *context)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int64_t again_ns = noria_now_ns() + adapter->options.recheck_ns;
    int64_t until_ns = deadline_ns < again_ns ? deadline_ns : again_ns;
    struct pollfd ends[NORIA_MOST_LISTED + 1];
    int fd, n;

    if (side == NORIA_SIDE_SEND && adapter->mechanism->favourite != NULL) {
        ends[0] = (struct pollfd){.fd = favourite_of(adapter, &until_ns), .events = POLLOUT};
        n = ends[0].fd >= 0 ? 1 : -1;
    } else {
        n = find_ends(adapter, side, ends);
    }
    if (n >= 0)
        return sleep_at_ends(adapter, ends, n, until_ns);
    fd = set_to_wait_at(adapter, side);
    if (fd >= 0)
        return noria_descriptor_wait(fd, until_ns);
    /* Nothing to wait at: more and more seldom, until something comes. */
    for (int64_t nap_ns = 20000; !ready(context) && noria_now_ns() < deadline_ns; nap_ns += nap_ns / 4) {
        int64_t left_ns = deadline_ns - noria_now_ns();
        int64_t most_ns = adapter->options.recheck_ns / 8;
        struct timespec time;
        nap_ns = nap_ns < most_ns ? nap_ns : most_ns;
        time = noria_timespec_of(nap_ns < left_ns || left_ns < 0 ? nap_ns : left_ns);
        if (nanosleep(&time, NULL) != 0)
            return -EINTR;
    }
    return 0;
}

static void wake(noria_channel *channel)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    /* It stays readable: all who wait shall see it. Only the end of the handle is a reason. */
    if (noria_load_acquire32(&channel->state) != NORIA_HANDLE_OPEN) /* pairs with shut */
        eventfd_write(adapter->wake, 1);
}

static int fd_of(noria_channel *channel, enum noria_side side)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int fd;

    if (adapter->mechanism->watch == NULL)
        return noria_fail(-ENOTSUP, "a channel of %s: has no descriptor to wait at; wait in a call",
                          adapter->mechanism->scheme);
    fd = epoll_of(adapter, side);
    return fd >= 0 ? fd : noria_fail(fd, "no descriptor to wait at: %s", strerror(-fd));
}

/* Puts what is owed. That the receiver has gone is news, which the next call that sends tells. */
static int get_ready_or_news(struct noria_adapter *adapter)
{
    int rc = adapter->owes_news ? -EPIPE : noria_adapter_get_ready(adapter);

    adapter->owes_news = rc == -EPIPE;
    return rc;
}

/* Whether a put would get on: asks the kernel, for nothing but what is owed is to be put. Who has found no receiver yet
 * looks for one, for nothing that could be waited at would tell. */
static int may_send(struct noria_adapter *adapter)
{
    struct pollfd set = {.fd = adapter->mechanism->watch != NULL ? epoll_of(adapter, NORIA_SIDE_SEND) : -1,
                         .events = POLLIN};
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc != 0)
        return rc;
    if (adapter->mechanism->may_give != NULL)
        rc = adapter->mechanism->may_give(adapter);
    else
        rc = get_ready_or_news(adapter);
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    if (adapter->mechanism->may_give != NULL)
        return rc;
    return rc == 0 && set.fd >= 0 && poll(&set, 1, 0) <= 0 ? -EAGAIN : rc;
}

static ssize_t ready(noria_channel *channel, enum noria_side side, unsigned priority)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc;

    (void)priority; /* the mechanism's queue is one */
    if (side == NORIA_SIDE_SEND)
        return may_send(adapter);
    rc = noria_adapter_lock(adapter, side);
    if (rc != 0)
        return rc;
    rc = noria_adapter_next(adapter);
    noria_adapter_unlock(adapter, side);
    return rc;
}

static int look_round(noria_channel *channel, enum noria_side side)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    return adapter->mechanism->look_round != NULL ? adapter->mechanism->look_round(adapter, side) : 0;
}

static bool has_ended(noria_channel *channel, enum noria_side side)
{
    (void)channel;
    (void)side;
    return true; /* look_round knows */
}

static ssize_t excuse(noria_channel *channel, enum noria_side side, ssize_t rc)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    return adapter->mechanism->excuse != NULL ? adapter->mechanism->excuse(adapter, side, (int)rc) : rc;
}

/* Each look takes the mechanism's lock away from the other side, so they come more and more seldom. Where messages stream
 * they begin so, and the next one finds several; where one answers the other it is asked for soon. Which of both it is
 * tells a late look now and then: several have come, or the one. Of threads that share a handle this is a guess. */
static uint32_t choose_pauses(struct noria_adapter *adapter, enum noria_side side, uint32_t since)
{
    uint32_t most = adapter->mechanism->in_one_piece ? MOST_PAUSES_AT_QUEUE : MOST_PAUSES;
    uint32_t pauses = 2 * noria_load_relaxed32(&adapter->pauses[side]), singles;

    if (since == 1) {
        singles = noria_load_relaxed32(&adapter->singles[side]) + 1;
        noria_store_relaxed32(&adapter->singles[side], singles);
        return singles % PROBE_EVERY == 0 ? PROBE_PAUSES : FEWEST_PAUSES;
    }
    pauses = pauses > FEWEST_PAUSES ? pauses : FEWEST_PAUSES;
    return pauses < most ? pauses : most;
}

static void back_off(noria_channel *channel, enum noria_side side)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    uint32_t moved = noria_load_relaxed32(&adapter->moved[side]);
    uint32_t pauses = choose_pauses(adapter, side, moved - noria_load_relaxed32(&adapter->seen[side]));

    noria_store_relaxed32(&adapter->seen[side], moved);
    noria_store_relaxed32(&adapter->pauses[side], pauses);
    noria_adapter_pause(pauses);
}

static bool arm(noria_channel *channel, enum noria_side side, bool quiet)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    (void)quiet;
    return side == NORIA_SIDE_RECV && adapter->mechanism->arm != NULL && adapter->mechanism->arm(adapter);
}

static int notify_signal(noria_channel *channel, int signo, int how)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    if (adapter->mechanism->notify_signal != NULL)
        return adapter->mechanism->notify_signal(adapter, signo, how);
    return signo == 0
               ? 0
               : noria_fail(-ENOTSUP, "a channel of %s: sends no signals; noria_fd gives a descriptor to wait at",
                            adapter->mechanism->scheme);
}

/* ------------------------------------------------------------------------------------------------------- statistics */

/* The sequence tells the receiver what is missing. */
static void count_lost(noria_channel *channel, uint64_t n)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    if (noria_adapter_lock(adapter, NORIA_SIDE_SEND) != 0)
        return;
    adapter->sequences[0] += n; /* whichever level it was: what counts is how many */
    adapter->lost += n;
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
}

static int stat(noria_channel *channel, struct noria_stat *stat)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    memset(stat, 0, sizeof(*stat));
    stat->kind = adapter->options.kind;
    stat->full = channel->full;
    stat->pack = 1;
    stat->mode = adapter->options.mode;
    stat->abilities = adapter->mechanism->abilities | (adapter->most_fds != 0 ? NORIA_CAN_FDS : 0);
    stat->max_message = (uint32_t)channel->max_message;
    stat->max_held = 1;
    stat->checksum = adapter->crc;
    stat->priorities = channel->priorities;
    stat->senders = (channel->flags & NORIA_SEND) != 0; /* this handle; of the others a mechanism may know */
    stat->receivers = (channel->flags & NORIA_RECV) != 0;
    stat->observers = (channel->flags & (NORIA_SEND | NORIA_RECV)) == 0;
    stat->self = adapter->sender;
    stat->messages = stat->bytes = -1;
    stat->held = adapter->incoming.held;
    stat->sent = adapter->sent;
    stat->received = adapter->received;
    stat->lost = adapter->lost;
    stat->strangers = adapter->strangers;
    stat->skipped = adapter->skipped;
    stat->dropped_fds = adapter->dropped_fds;
    stat->created_ns = adapter->opened_ns;
    if (adapter->mechanism->stat != NULL)
        adapter->mechanism->stat(adapter, stat);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- inlets */

static bool is_packet_socket(int fd)
{
    int type = noria_end_ask(fd, SO_TYPE);

    return type >= 0 && type != SOCK_STREAM;
}

struct noria_inlet *noria_adapter_add_inlet(struct noria_adapter *adapter, const struct noria_end *end)
{
    struct noria_inlet *inlet = calloc(1, sizeof(*inlet));

    if (inlet != NULL)
        inlet->bytes = aligned_alloc(INLET_ALIGNED, INLET_ROOM);
    if (inlet == NULL || inlet->bytes == NULL) {
        free(inlet);
        if (end->fd >= 0)
            close(end->fd);
        noria_fail(-ENOMEM, "out of memory for %d bytes of what comes in", (int)INLET_ROOM);
        return NULL;
    }
    inlet->end = *end;
    inlet->room = INLET_ROOM;
    inlet->page = end->kind == NORIA_END_PIPE ? (size_t)sysconf(_SC_PAGESIZE) : 0;
    inlet->keeps_boundaries = adapter->mechanism->in_one_piece || is_packet_socket(end->fd);
    inlet->number = ++adapter->inlets_added;
    inlet->guard.drops = true;
    if (end->fd >= 0)
        noria_fork_guard_add(&inlet->guard, end->fd);
    inlet->next = adapter->inlets;
    adapter->inlets = inlet;
    adapter->inlet_count++;
    if (adapter->inlet == NULL)
        adapter->inlet = inlet;
    return inlet;
}

void noria_adapter_remove_inlet(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    struct noria_inlet **place = &adapter->inlets;

    while (*place != inlet)
        place = &(*place)->next;
    *place = inlet->next;
    adapter->inlet_count--;
    if (adapter->inlet == inlet)
        adapter->inlet = NULL;
    noria_adapter_drop_fds(adapter, inlet);
    if (inlet->end.fd >= 0) {
        noria_fork_guard_remove(&inlet->guard);
        close(inlet->end.fd);
    }
    free(inlet->bytes);
    free(inlet);
}

ssize_t noria_adapter_get_in(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    return noria_adapter_read(adapter, inlet, bytes, room);
}

ssize_t noria_adapter_put_out(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority)
{
    (void)priority;
    return noria_end_write(&adapter->out, pieces, n);
}

static void limit_copies(struct noria_adapter *adapter, uint32_t most)
{
    adapter->most_copied = adapter->most_in_frame < most ? adapter->most_in_frame : most;
}

/* What several frames may take together: of a stream the call takes what it can. Of Unix packets several fit into the
 * socket's buffer, so that the one is read while the next is written; of others a frame is the most that is known to go. */
static uint32_t most_together(const struct noria_adapter *adapter, const struct noria_end *end)
{
    if (end->kind == NORIA_END_FILE || !is_packet_socket(end->fd))
        return NORIA_MOST_TOGETHER;
    if (noria_end_ask(end->fd, SO_DOMAIN) == AF_UNIX && noria_end_ask(end->fd, SO_SNDBUF) / 4 >= MOST_PACKET)
        return MOST_PACKET;
    return adapter->piece;
}

void noria_adapter_set_out(struct noria_adapter *adapter, const struct noria_end *end)
{
    adapter->out = *end;
    adapter->out.is_promised = adapter->options.sigpipe_ignored != 0;
    adapter->stretch = end->kind == NORIA_END_PIPE && adapter->crc == 0 ? NORIA_MOST_PIECE : 0;
    adapter->page = (uint32_t)sysconf(_SC_PAGESIZE);
    adapter->lends = end->kind == NORIA_END_PIPE && adapter->options.reader_copies != 0;
    adapter->fds_announced = false;
    if (end->kind == NORIA_END_SOCKET || adapter->out.is_promised)
        limit_copies(adapter, MOST_COPIED_BY_ITSELF);
    if (end->kind == NORIA_END_SOCKET || end->kind == NORIA_END_FILE)
        adapter->together = most_together(adapter, end);
    adapter->out_guard.drops = true;
    noria_fork_guard_add(&adapter->out_guard, end->fd);
    noria_adapter_rewatch(adapter, NORIA_SIDE_SEND);
}

void noria_adapter_close_out(struct noria_adapter *adapter)
{
    adapter->attached = false;
    if (adapter->out.fd >= 0) { /* first: until then a receiver that comes to the same pipe has seen a sender */
        noria_fork_guard_remove(&adapter->out_guard);
        close(adapter->out.fd);
        adapter->out.fd = -1;
    }
    noria_pages_free(&adapter->pages); /* the pipe that has some may come back, to others */
}

static int watch_end(struct noria_adapter *adapter, const struct noria_end *end, int epoll, uint32_t events)
{
    if (end->fd < 0)
        return 0;
    if (end->kind != NORIA_END_FILE)
        return noria_adapter_watch(epoll, end->fd, events);
    eventfd_write(adapter->wake, 1); /* it cannot be polled, and makes nobody wait */
    return 0;
}

int noria_adapter_watch_ends(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    int rc = 0;

    if (side == NORIA_SIDE_SEND)
        return watch_end(adapter, &adapter->out, epoll, EPOLLOUT);
    for (struct noria_inlet *inlet = adapter->inlets; inlet != NULL && rc == 0; inlet = inlet->next)
        rc = watch_end(adapter, &inlet->end, epoll, EPOLLIN);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

static int refuse(const struct noria_mechanism *mechanism, const char *what)
{
    return noria_fail(-ENOTSUP, "a channel of %s: %s; that takes a segment, as shm:/name", mechanism->scheme, what);
}

/* What only a ring can do, of what is asked for besides kind, priorities and policy. */
static int check_extras(const struct noria_mechanism *mechanism, const struct noria_options *options)
{
    if (options->max_bytes != 0)
        return refuse(mechanism, "does not grow");
    if (options->max_held > 1)
        return refuse(mechanism, "lends one message at a time (max_held 1)");
    if (options->lifetime == NORIA_UNLINK_LAST)
        return refuse(mechanism, "does not know who is the last to leave");
    if (options->lifetime != NORIA_PERSIST)
        return refuse(mechanism, "does not know who has made it; noria_unlink removes its name");
    if (options->need_receiver != 0 && (mechanism->abilities & NORIA_CAN_OUTLIVE) != 0)
        return refuse(mechanism, "keeps messages for receivers that are not there (need_receiver 0)");
    if (options->group != UINT32_MAX)
        return refuse(mechanism, "has the group of its maker");
    if (options->checksum > 1)
        return noria_fail(-EINVAL, "checksum is 0 or 1");
    if (options->checksum != 0 && mechanism->give != NULL)
        return refuse(mechanism, "carries messages as they are, without checksums");
    return 0;
}

static int check_options(const struct noria_mechanism *mechanism, const struct noria_options *options)
{
    if (options->kind == NORIA_KIND_BROADCAST)
        return refuse(mechanism, "gives each message to one receiver, not to all");
    if (options->kind != NORIA_KIND_SPSC && options->kind != NORIA_KIND_MPMC)
        return noria_fail(-EINVAL, "there is no kind %u of channels", options->kind);
    if (options->capacity == 0)
        return refuse(mechanism, "cannot hand messages over from hand to hand");
    if (options->full == NORIA_FULL_OVERWRITE_OLDEST)
        return refuse(mechanism, "cannot take back what is under way to overwrite it");
    if (options->full > NORIA_FULL_OVERWRITE_OLDEST)
        return noria_fail(-EINVAL, "there is no policy %u for full channels", options->full);
    if (options->full == NORIA_FULL_DROP_NEWEST && mechanism->give != NULL)
        return noria_fail(-ENOTSUP, "a channel of %s: is known to be full only when the server has said so; it waits or fails",
                          mechanism->scheme);
    if (options->priorities > 1 && (mechanism->abilities & NORIA_CAN_PRIORITY) == 0)
        return refuse(mechanism, "knows no priorities (mq: and svmq: do)");
    if (options->priorities > NORIA_LEVELS)
        return noria_fail(-EINVAL, "%u priorities: up to 32 can be had", options->priorities);
    return check_extras(mechanism, options);
}

static int reopen(noria_channel **mine, const noria_channel *inherited, int flags)
{
    const struct noria_adapter *adapter = (const struct noria_adapter *)(const void *)inherited;
    int rc = noria_options_check_promise(&adapter->options); /* the child may have taken it back */

    if (rc != 0)
        return rc;
    if (adapter->mechanism->reopen != NULL)
        return adapter->mechanism->reopen(mine, inherited, flags);
    return adapter->mechanism->open(mine, adapter->rest, flags, &adapter->options);
}

/* What is owed is part of a message that was sent: a moment for it. */
static void settle_debts(struct noria_adapter *adapter)
{
    int64_t until_ns = noria_now_ns() + FLUSH_MS * NORIA_NS_PER_MS;

    noria_rejoin();
    while (adapter->attached && adapter->owed_from < adapter->owed_to && noria_adapter_flush(adapter) == -EAGAIN &&
           noria_now_ns() < until_ns)
        noria_nap(NORIA_FOREVER);
    noria_leave();
}

static void close_handle(noria_channel *channel, bool stale)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    if (!stale)
        settle_debts(adapter);
    if (adapter->mechanism->close != NULL)
        adapter->mechanism->close(adapter, stale);
    noria_adapter_free(adapter);
}

#define VERBS \
    .send = noria_adapter_send, .recv = noria_adapter_recv, .recv_many = noria_adapter_recv_many, \
    .reserve = noria_adapter_reserve, .commit = noria_adapter_commit, .abort = noria_adapter_abort, \
    .peek = noria_adapter_peek, .release = noria_adapter_release, .put_back = noria_adapter_put_back, \
    .send_call = noria_adapter_send_call, .recv_call = noria_adapter_recv_call, .excuse = excuse, .count_lost = count_lost, \
    .back_off = back_off, .look_round = look_round, .has_ended = has_ended, .sleep = sleep_at, .wake = wake, \
    .flush_call = noria_adapter_flush_call, \
    .fd = fd_of, .arm = arm, .ready = ready, .notify_signal = notify_signal, .stat = stat, .reopen = reopen, \
    .close = close_handle

static const struct noria_verbs verbs = {VERBS, .send_many_call = noria_adapter_send_many_call,
                                         .gather_call = noria_adapter_gather_call,
                                         .send_fds = noria_adapter_send_fds, .recv_fds = noria_adapter_recv_fds};
static const struct noria_verbs verbs_of_whole_messages = {VERBS, .send_origin = noria_adapter_send_origin};

void noria_adapter_free(struct noria_adapter *adapter)
{
    while (adapter->inlets != NULL)
        noria_adapter_remove_inlet(adapter, adapter->inlets);
    noria_adapter_close_out(adapter);
    for (int side = 0; side < 2; side++)
        if (adapter->epolls[side] >= 0)
            close(adapter->epolls[side]);
    if (adapter->wake >= 0)
        close(adapter->wake);
    noria_assembly_free(&adapter->assembly);
    free(adapter->incoming.owned);
    free(adapter->reserved);
    free(adapter->frames);
    free(adapter->rest);
    free(adapter);
}

uint32_t noria_adapter_choose_number(void)
{
    uint32_t number = 0;

    while (number == 0)
        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
            number = (uint32_t)noria_now_ns() ^ (uint32_t)getpid() << 16;
    return number;
}

int noria_adapter_shape(struct noria_adapter *adapter, uint64_t most_message, uint32_t piece)
{
    adapter->base.max_message = most_message;
    adapter->piece = adapter->together = piece;
    adapter->most_in_frame = piece - NORIA_FRAME_HEADER - (adapter->crc != 0 ? NORIA_FRAME_TAIL_BYTES : 0);
    limit_copies(adapter, adapter->mechanism->in_one_piece ? piece : NORIA_MOST_COPIED);
    adapter->assembly.most_bytes = MOST_UNFINISHED;
    if ((adapter->base.flags & NORIA_SEND) == 0)
        return 0;
    adapter->frames = malloc(NORIA_FRAMES_ROOM);
    return adapter->frames != NULL ? 0 : noria_fail(-ENOMEM, "out of memory for %d bytes of frames", NORIA_FRAMES_ROOM);
}

int noria_adapter_make(struct noria_adapter **out, const struct noria_mechanism *mechanism, size_t size,
                       const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    struct noria_options all;
    int rc = noria_process_prepare();

    if (options == NULL)
        noria_options_init(&all);
    else
        all = *options;
    if (rc == 0)
        rc = check_options(mechanism, &all);
    if (rc != 0)
        return rc;
    adapter = calloc(1, size);
    if (adapter == NULL || (adapter->rest = strdup(rest)) == NULL) {
        free(adapter);
        return noria_fail(-ENOMEM, "out of memory for a handle");
    }
    noria_channel_init(&adapter->base, mechanism->give != NULL ? &verbs_of_whole_messages : &verbs,
                       flags, 0, all.full);
    /* Each look is a system call, so there are few; but a receiver that takes all that is there would else sleep after
     * each message, and each send would pay for waking it. */
    noria_channel_limit_spins(&adapter->base, all.most_spins < MOST_LOOKS ? all.most_spins : MOST_LOOKS);
    adapter->base.asks_system = true;
    adapter->base.priorities = all.priorities;
    adapter->base.returns_eintr = all.returns_eintr;
    adapter->mechanism = mechanism;
    adapter->options = all;
    adapter->crc = all.checksum;
    adapter->opened_ns = noria_clock_read(CLOCK_REALTIME);
    adapter->sender = noria_adapter_choose_number();
    adapter->wanted = 1;
    adapter->epolls[0] = adapter->epolls[1] = adapter->out.fd = -1;
    adapter->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (adapter->wake < 0) {
        rc = noria_fail(-errno, "no descriptor for a handle: %s", strerror(errno));
        noria_adapter_free(adapter);
        return rc;
    }
    *out = adapter;
    return 0;
}

/* -------------------------------------------------------------------------------------------- what streams can take */

uint64_t noria_adapter_bound(const struct noria_options *options)
{
    uint64_t bound = options->max_message > NORIA_LEAST_BOUND ? options->max_message : NORIA_LEAST_BOUND;

    return bound < NORIA_MOST_BOUND ? bound : NORIA_MOST_BOUND;
}

void noria_adapter_widen(int pipe, const struct noria_options *options)
{
    struct noria_options defaults;
    uint64_t wanted;

    noria_options_init(&defaults);
    if (options == NULL)
        options = &defaults;
    wanted = options->capacity * (options->max_message + NORIA_FRAME_HEADER);
    if (options->capacity > MOST_PIPE || wanted > MOST_PIPE)
        wanted = MOST_PIPE; /* what users may have without asking */
    if ((int64_t)wanted > fcntl(pipe, F_GETPIPE_SZ))
        fcntl(pipe, F_SETPIPE_SZ, (int)wanted); /* refused: it stays as it is */
}
