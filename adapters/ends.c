/* SPDX-License-Identifier: BSD-2-Clause */
#include "ends.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "detail.h"

#ifndef RWF_NOSIGNAL /* Linux 6.18, newer than many headers */
#define RWF_NOSIGNAL 0x00000100
#endif

static enum noria_end_kind kind_of(int fd)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return NORIA_END_OTHER;
    return S_ISFIFO(status.st_mode)   ? NORIA_END_PIPE
           : S_ISSOCK(status.st_mode) ? NORIA_END_SOCKET
           : S_ISREG(status.st_mode)  ? NORIA_END_FILE
                                      : NORIA_END_OTHER;
}

int noria_end_ask(int fd, int what)
{
    int value;
    socklen_t size = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, what, &value, &size) == 0 ? value : -1;
}

int noria_end_open(struct noria_end *end, int fd, int access)
{
    int flags = fcntl(fd, F_GETFL);
    char path[40];

    if (flags < 0)
        return noria_fail(-errno, "descriptor %d: %s", fd, strerror(errno));
    if ((flags & O_ACCMODE) != access && (flags & O_ACCMODE) != O_RDWR)
        return noria_fail(-EINVAL, "descriptor %d is not open to %s", fd, access == O_RDONLY ? "read" : "write");
    *end = (struct noria_end){.fd = -1, .kind = kind_of(fd)};
    /* O_NONBLOCK is the description's, and this one may be other processes', too: so one of our own. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (end->kind == NORIA_END_PIPE)
        end->fd = open(path, access | O_NONBLOCK | O_CLOEXEC);
    if (end->fd < 0) {
        end->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (end->kind == NORIA_END_PIPE) /* no /proc */
            end->kind = NORIA_END_OTHER;
    }
    return end->fd >= 0 ? 0 : noria_fail(-errno, "descriptor %d cannot be duplicated: %s", fd, strerror(errno));
}

/* Whether a call would not wait. */
static bool is_ready(int fd, short events)
{
    struct pollfd poll_set = {.fd = fd, .events = events};

    return poll(&poll_set, 1, 0) > 0;
}

static ssize_t lend(int pipe, const struct iovec *pieces, int n)
{
    return vmsplice(pipe, pieces, (size_t)n, SPLICE_F_NONBLOCK);
}

/* A write that may be answered by SIGPIPE: the signal is held back, and taken away unless it was there before. */
static ssize_t masked(ssize_t (*write_pieces)(int, const struct iovec *, int), int fd, const struct iovec *pieces, int n)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe_signal, before, pending;
    ssize_t rc;
    int error;

    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigemptyset(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    sigpending(&pending);
    rc = write_pieces(fd, pieces, n);
    error = errno;
    if (rc < 0 && error == EPIPE && sigismember(&pending, SIGPIPE) != 1)
        while (sigtimedwait(&pipe_signal, NULL, &at_once) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return rc;
}

static inline ssize_t write_quietly(struct noria_end *end, const struct iovec *pieces, int n)
{
    ssize_t rc;

    if (end->kind == NORIA_END_SOCKET) {
        struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)n};
        return n == 1 ? send(end->fd, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
                      : sendmsg(end->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (end->is_promised)
        return n == 1 ? write(end->fd, pieces->iov_base, pieces->iov_len) : writev(end->fd, pieces, n);
    if (!end->masks) {
        rc = pwritev2(end->fd, pieces, n, -1, RWF_NOSIGNAL);
        if (rc >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
            return rc;
        end->masks = true;
    }
    return masked(writev, end->fd, pieces, n);
}

ssize_t noria_end_refused_write(int error)
{
    if (error == EAGAIN || error == ENOBUFS || error == EPIPE)
        return error == EPIPE ? -EPIPE : -EAGAIN;
    if (error == ECONNRESET || error == ENOTCONN || error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH)
        return -EPIPE;
    return noria_fail(-error, "cannot write: %s", strerror(error));
}

ssize_t noria_end_write(struct noria_end *end, const struct iovec *pieces, int n)
{
    ssize_t rc;

    if (end->kind == NORIA_END_OTHER && !is_ready(end->fd, POLLOUT))
        return -EAGAIN;
    do {
        rc = write_quietly(end, pieces, n);
    } while (__builtin_expect(rc < 0, 0) && errno == EINTR);
    return __builtin_expect(rc >= 0, 1) ? rc : noria_end_refused_write(errno);
}

ssize_t noria_end_lend(struct noria_end *end, const struct iovec *pieces, int n)
{
    ssize_t rc;

    do {
        rc = end->is_promised ? lend(end->fd, pieces, n) : masked(lend, end->fd, pieces, n);
    } while (rc < 0 && errno == EINTR);
    if (rc >= 0 || errno == EAGAIN || errno == EPIPE)
        return rc >= 0 ? rc : noria_end_refused_write(errno);
    return -ENOTSUP; /* forbidden, or not known */
}

ssize_t noria_end_refused_read(const struct noria_end *end, int error)
{
    if (error == EAGAIN)
        return -EAGAIN;
    if (error == EIO && end->kind == NORIA_END_OTHER && isatty(end->fd)) /* nobody has its other end open */
        return 0;
    if (error == ECONNRESET || error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH)
        return -ECONNRESET;
    return noria_fail(-error, "cannot read: %s", strerror(error));
}

ssize_t noria_end_read(const struct noria_end *end, void *bytes, size_t room)
{
    ssize_t rc;

    if (end->kind == NORIA_END_OTHER && !is_ready(end->fd, POLLIN))
        return -EAGAIN;
    do {
        rc = end->kind == NORIA_END_SOCKET ? recv(end->fd, bytes, room, MSG_DONTWAIT) : read(end->fd, bytes, room);
    } while (rc < 0 && errno == EINTR);
    return rc >= 0 ? rc : noria_end_refused_read(end, errno);
}

int noria_end_claim(const struct noria_end *end, const char *scheme, const char *name)
{
    if (end->kind == NORIA_END_PIPE && flock(end->fd, LOCK_EX | LOCK_NB) != 0)
        return noria_fail(-EBUSY,
                          "'%s:%s' has a receiver, and can have one only: two would take pieces of each other's "
                          "messages",
                          scheme, name);
    return 0;
}
