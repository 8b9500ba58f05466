/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions for those who wait elsewhere than in a call: at a descriptor, at many channels, for a signal. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "call.h"
#include "detail.h"

/* Between two looks at channels that give no notice, because a sender was killed before it could. */
#define LOOK_EVERY_NS (50 * NORIA_NS_PER_MS)

/* `priority`: of a sender. */
static int check_side(const noria_channel *channel, int side, unsigned priority)
{
    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    if (side != NORIA_SEND && side != NORIA_RECV)
        return noria_fail(-EINVAL, "side %d: NORIA_RECV waits for messages, NORIA_SEND for room", side);
    if ((channel->flags & (unsigned)side) == 0)
        return noria_fail(-EINVAL, "the handle was opened without %s", side == NORIA_SEND ? "NORIA_SEND" : "NORIA_RECV");
    if (side == NORIA_SEND && priority != 0 && priority >= channel->priorities)
        return noria_fail(-EINVAL, "priority %u: the channel has %u level(s), from 0", priority,
                          channel->priorities == 0 ? 1 : channel->priorities);
    return 0;
}

static enum noria_side side_of(int side)
{
    return side == NORIA_SEND ? NORIA_SIDE_SEND : NORIA_SIDE_RECV;
}

struct look {
    enum noria_side side;
    unsigned priority;
};

static ssize_t try_ready(noria_channel *channel, void *arguments)
{
    const struct look *look = arguments;

    return channel->verbs->ready(channel, look->side, look->priority);
}

/* -EAGAIN: nothing, and armed. Everything else is worth a try. */
static ssize_t is_ready(noria_channel *channel, enum noria_side side, unsigned priority)
{
    struct look look = {side, priority};
    bool muted = noria_detail_mute(true); /* that there is nothing is no failure */
    ssize_t rc = noria_call(channel, side, 0, &(struct noria_attempt){try_ready, &look, false, 0, NULL});

    noria_detail_mute(muted);
    return rc;
}

/* Begins a call of more than one step: close waits until it has let go. 0, -ESTALE, -ECANCELED with a sentence. The
 * caller is not to be cancelled, or close would wait for ever. */
static int hold(noria_channel *channel)
{
    int rc = noria_enter(channel);

    if (rc != 0)
        return noria_fail_plain(rc);
    noria_step_out(channel);
    return 0;
}

static void let_go(noria_channel *channel)
{
    noria_step_in(channel);
    noria_leave();
}

/* In a held handle. */
static int descriptor_of(noria_channel *channel, enum noria_side side)
{
    int rc = noria_enter(channel);

    if (rc != 0)
        return noria_fail_plain(rc);
    rc = channel->verbs->fd(channel, side);
    noria_leave();
    return rc;
}

int noria_fd(noria_channel *channel, int side)
{
    int rc = check_side(channel, side, 0), fd = rc, cancels;

    if (rc != 0)
        return rc;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = hold(channel);
    if (rc == 0) {
        fd = descriptor_of(channel, side_of(side));
        if (fd >= 0)
            is_ready(channel, side_of(side), 0); /* arms it, so that a poll before the first try misses nothing */
        let_go(channel);
    }
    pthread_setcancelstate(cancels, NULL);
    return rc == 0 ? fd : rc;
}

/* In a held handle. */
static int register_signal(noria_channel *channel, int signo, int how)
{
    int rc = noria_enter(channel);

    if (rc != 0)
        return noria_fail_plain(rc);
    rc = channel->verbs->notify_signal(channel, signo, how);
    noria_leave();
    if (rc == 0 && signo != 0)
        is_ready(channel, NORIA_SIDE_RECV, 0); /* arms it, if the channel is empty */
    return rc;
}

int noria_notify_signal(noria_channel *channel, int signo, int how)
{
    int rc = check_side(channel, NORIA_RECV, 0), cancels;

    if (rc != 0)
        return rc;
    if (signo < 0 || signo > SIGRTMAX || (signo > 31 && signo < SIGRTMIN) || signo == SIGKILL || signo == SIGSTOP ||
        (how != NORIA_NOTIFY_ONCE && how != NORIA_NOTIFY_ALWAYS))
        return noria_fail(-EINVAL, "signal %d, how %d: a signal that can be caught (0 cancels), ONCE or ALWAYS", signo,
                          how);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = hold(channel);
    if (rc == 0) {
        rc = register_signal(channel, signo, how);
        let_go(channel);
    }
    pthread_setcancelstate(cancels, NULL);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- many at once */

/* Tries all. How many are ready. */
static int look_at_all(struct noria_ready *waits, int n)
{
    int ready = 0;

    for (int i = 0; i < n; i++) {
        waits[i].ready = is_ready(waits[i].channel, side_of(waits[i].side), waits[i].priority) != -EAGAIN;
        ready += waits[i].ready;
    }
    return ready;
}

/* How many handles are held: n, or fewer with *rc saying why. */
static int hold_all(const struct noria_ready *waits, int n, int *rc)
{
    int held = 0;

    for (*rc = 0; held < n && *rc == 0; held += *rc == 0) {
        *rc = check_side(waits[held].channel, waits[held].side, waits[held].priority);
        if (*rc == 0)
            *rc = hold(waits[held].channel);
    }
    return held;
}

static int open_all(const struct noria_ready *waits, struct pollfd *fds, int n)
{
    for (int i = 0; i < n; i++) {
        int fd = descriptor_of(waits[i].channel, side_of(waits[i].side));
        if (fd < 0)
            return fd;
        fds[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    return 0;
}

/* Sleeps until one rings. 0, or -errno. */
static int sleep_at_all(struct pollfd *fds, int n, int64_t deadline_ns)
{
    int64_t left = deadline_ns - noria_now_ns();
    struct timespec most;

    left = left < 0 ? 0 : left > LOOK_EVERY_NS ? LOOK_EVERY_NS : left;
    most = noria_timespec_of(left);
    return ppoll(fds, (nfds_t)n, &most, NULL) < 0 ? -errno : 0;
}

/* With all handles held. */
static int wait_at_all(struct noria_ready *waits, struct pollfd *fds, int n, int64_t timeout_ns)
{
    int64_t deadline_ns = noria_deadline_ns(timeout_ns);
    int rc = open_all(waits, fds, n);

    while (rc == 0 && (rc = look_at_all(waits, n)) == 0) {
        if (timeout_ns == 0 || noria_now_ns() >= deadline_ns)
            break;
        rc = sleep_at_all(fds, n, deadline_ns);
        if (rc == -EINTR && !waits[0].channel->returns_eintr)
            rc = 0;
        else if (rc != 0)
            noria_fail_plain(rc);
    }
    return rc;
}

int noria_wait_any(struct noria_ready *waits, int n, int64_t timeout_ns)
{
    struct pollfd *fds;
    int rc, held, cancels;

    if (waits == NULL || n <= 0 || timeout_ns < -1)
        return noria_fail(-EINVAL, "noria_wait_any takes at least one place, and a timeout of -1, 0 or nanoseconds");
    fds = calloc((size_t)n, sizeof(*fds));
    if (fds == NULL)
        return noria_fail(-ENOMEM, "out of memory for %d places to wait at", n);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    held = hold_all(waits, n, &rc);
    if (rc == 0)
        rc = wait_at_all(waits, fds, n, timeout_ns);
    while (held > 0)
        let_go(waits[--held].channel);
    pthread_setcancelstate(cancels, NULL);
    free(fds);
    return rc;
}
