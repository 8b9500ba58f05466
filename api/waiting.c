/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions for those who wait elsewhere than in a call: at a descriptor, at many channels, for a signal. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "call.h"
#include "detail.h"

/* Between two looks at channels that give no notice, because a sender was killed before it could. */
#define LOOK_EVERY_NS (25 * NORIA_NS_PER_MS)

static int check_side(const noria_channel *channel, int side)
{
    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    if (side != NORIA_SEND && side != NORIA_RECV)
        return noria_fail(-EINVAL, "side %d: NORIA_RECV waits for messages, NORIA_SEND for room", side);
    if ((channel->flags & (unsigned)side) == 0)
        return noria_fail(-EINVAL, "the handle was opened without %s", side == NORIA_SEND ? "NORIA_SEND" : "NORIA_RECV");
    return 0;
}

static enum noria_side side_of(int side)
{
    return side == NORIA_SEND ? NORIA_SIDE_SEND : NORIA_SIDE_RECV;
}

static ssize_t try_ready(noria_channel *channel, void *side)
{
    return channel->verbs->ready(channel, *(enum noria_side *)side);
}

/* -EAGAIN: nothing, and armed. Everything else is worth a try. */
static ssize_t is_ready(noria_channel *channel, enum noria_side side)
{
    return noria_call(channel, side, 0, &(struct noria_attempt){try_ready, &side, false});
}

/* One guarded call of a verb. */
static int descriptor_of(noria_channel *channel, enum noria_side side)
{
    int rc = (int)noria_enter(channel);

    if (rc != 0)
        return noria_fail_plain(rc);
    rc = channel->verbs->fd(channel, side);
    noria_leave();
    return rc;
}

int noria_fd(noria_channel *channel, int side)
{
    int rc = check_side(channel, side), fd;

    if (rc != 0)
        return rc;
    fd = descriptor_of(channel, side_of(side));
    if (fd >= 0)
        is_ready(channel, side_of(side)); /* arms it, so that a poll before the first try misses nothing */
    return fd;
}

int noria_notify_signal(noria_channel *channel, int signo, int how)
{
    int rc = check_side(channel, NORIA_RECV);

    if (rc != 0)
        return rc;
    if (signo < 0 || signo > SIGRTMAX || signo == SIGKILL || signo == SIGSTOP ||
        (how != NORIA_NOTIFY_ONCE && how != NORIA_NOTIFY_ALWAYS))
        return noria_fail(-EINVAL, "signal %d, how %d: a signal that can be caught (0 cancels), ONCE or ALWAYS", signo,
                          how);
    rc = (int)noria_enter(channel);
    if (rc != 0)
        return noria_fail_plain(rc);
    rc = channel->verbs->notify_signal(channel, signo, how);
    noria_leave();
    if (rc == 0 && signo != 0)
        is_ready(channel, NORIA_SIDE_RECV); /* arms it, if the channel is empty */
    return rc;
}

/* ------------------------------------------------------------------------------------------------- many at once */

/* Tries all. How many are ready. */
static int look_at_all(struct noria_ready *waits, int n)
{
    int ready = 0;

    for (int i = 0; i < n; i++) {
        waits[i].ready = is_ready(waits[i].channel, side_of(waits[i].side)) != -EAGAIN;
        ready += waits[i].ready;
    }
    return ready;
}

static int open_all(const struct noria_ready *waits, struct pollfd *fds, int n)
{
    for (int i = 0; i < n; i++) {
        int fd = check_side(waits[i].channel, waits[i].side);
        if (fd == 0)
            fd = descriptor_of(waits[i].channel, side_of(waits[i].side));
        if (fd < 0)
            return fd;
        fds[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    return 0;
}

/* Sleeps until one rings. 0, or -EINTR. */
static int sleep_at_all(struct pollfd *fds, int n, int64_t deadline_ns)
{
    int64_t left = deadline_ns - noria_now_ns();
    struct timespec most;

    left = left < 0 ? 0 : left > LOOK_EVERY_NS ? LOOK_EVERY_NS : left;
    most = (struct timespec){.tv_sec = left / NORIA_NS_PER_S, .tv_nsec = left % NORIA_NS_PER_S};
    return ppoll(fds, (nfds_t)n, &most, NULL) < 0 && errno == EINTR ? -EINTR : 0;
}

int noria_wait_any(struct noria_ready *waits, int n, int64_t timeout_ns)
{
    int64_t deadline_ns;
    struct pollfd *fds;
    int rc;

    if (waits == NULL || n <= 0 || timeout_ns < -1)
        return noria_fail(-EINVAL, "noria_wait_any takes at least one place, and a timeout of -1, 0 or nanoseconds");
    fds = calloc((size_t)n, sizeof(*fds));
    if (fds == NULL)
        return noria_fail(-ENOMEM, "out of memory for %d places to wait at", n);
    deadline_ns = noria_deadline_ns(timeout_ns);
    rc = open_all(waits, fds, n);
    while (rc == 0 && (rc = look_at_all(waits, n)) == 0) {
        if (timeout_ns == 0 || noria_now_ns() >= deadline_ns)
            break;
        if (sleep_at_all(fds, n, deadline_ns) == -EINTR && waits[0].channel->returns_eintr)
            rc = noria_fail_plain(-EINTR);
    }
    free(fds);
    return rc;
}
