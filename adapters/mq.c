/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "mq:/name" a POSIX message queue (mq_overview(7)). Priorities are the queue's own. Who is there is told
 * by locks on its file (queue.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters.h"
#include "detail.h"
#include "nap.h"
#include "queue.h"

enum { LEAST_SIZE = 128, USUAL_SIZE = 8192, MOST_MESSAGES = 65536 /* of any queue, for anybody */ };

struct mq_handle {
    struct noria_kernel_queue base;
    mqd_t queue; /* its descriptor is base.locks, too */
    long most;   /* messages of the queue */
    int signo, how;
    bool armed;
};

static struct mq_handle *mq_of(struct noria_adapter *adapter)
{
    return (struct mq_handle *)(void *)adapter;
}

/* --------------------------------------------------------------------------------------------------------- messages */

static ssize_t put(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority)
{
    int rc;

    (void)n;
    do {
        rc = mq_send(mq_of(adapter)->queue, pieces->iov_base, pieces->iov_len, priority);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return (ssize_t)pieces->iov_len;
    return errno == EAGAIN ? -EAGAIN : noria_fail(-errno, "cannot send to 'mq:%s': %s", adapter->rest, strerror(errno));
}

static ssize_t get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    ssize_t got;

    (void)inlet;
    do {
        got = mq_receive(mq_of(adapter)->queue, bytes, room, NULL);
    } while (got < 0 && errno == EINTR);
    if (got == 0) /* of no noria: it has not even a header */
        return -EAGAIN;
    if (got > 0)
        return got;
    return errno == EAGAIN ? -EAGAIN
                           : noria_fail(-errno, "cannot receive from 'mq:%s': %s", adapter->rest, strerror(errno));
}

static int descriptor(const struct noria_adapter *adapter)
{
    return (int)((const struct mq_handle *)(const void *)adapter)->queue;
}

static int watch(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    return noria_adapter_watch(epoll, descriptor(adapter), side == NORIA_SIDE_SEND ? EPOLLOUT : EPOLLIN);
}

/* ---------------------------------------------------------------------------------------------------------- signals */

/* The queue tells when it was empty and is not any more, once; so it is asked anew when it was found empty. */
static bool arm(struct noria_adapter *adapter)
{
    struct mq_handle *handle = mq_of(adapter);
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = handle->signo, .sigev_value = {.sival_ptr = adapter}};

    if (handle->signo != 0 && !(handle->armed && handle->how == NORIA_NOTIFY_ONCE))
        handle->armed = mq_notify(handle->queue, &event) == 0 || handle->armed;
    return false;
}

static int notify_signal(struct noria_adapter *adapter, int signo, int how)
{
    struct mq_handle *handle = mq_of(adapter);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo, .sigev_value = {.sival_ptr = adapter}};

    if (handle->signo != 0)
        mq_notify(handle->queue, NULL);
    handle->signo = 0;
    noria_store_release32(&adapter->base.polls[NORIA_SIDE_RECV], 0);
    if (signo == 0)
        return 0;
    if (mq_notify(handle->queue, &event) != 0)
        return noria_fail(-errno,
                          errno == EBUSY
                              ? "another process has asked to be told of messages in 'mq:%s', and a queue tells one"
                              : "'mq:%s' does not tell of messages",
                          adapter->rest);
    handle->signo = signo;
    handle->how = how;
    handle->armed = true;
    noria_store_release32(&adapter->base.polls[NORIA_SIDE_RECV], 1); /* pairs with the load in noria_call_on */
    return 0;
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

static long limit(const char *name, long otherwise)
{
    char path[64];
    FILE *file;
    long value = otherwise;

    snprintf(path, sizeof(path), "/proc/sys/fs/mqueue/%s", name);
    file = fopen(path, "re");
    if (file == NULL)
        return otherwise;
    if (fscanf(file, "%ld", &value) != 1)
        value = otherwise;
    fclose(file);
    return value;
}

/* `attributes`: of the queue that was to be made; NULL: of one that is there. */
static int fail_to_open(int rc, const char *name, const struct mq_attr *attributes)
{
    switch (rc) {
    case -ENOENT:
        return noria_fail(rc, "there is no queue 'mq:%s'; NORIA_CREATE makes it", name);
    case -EEXIST:
        return noria_fail(rc, "'mq:%s' is there already", name);
    case -EINVAL:
        return noria_fail(
            rc,
            "'mq:%s': a queue's name is one slash and up to 255 characters, and it has up to %ld messages of up to %ld "
            "bytes here (/proc/sys/fs/mqueue/msg_max, msgsize_max)",
            name, limit("msg_max", 10), limit("msgsize_max", 8192));
    case -EMFILE:
        if (attributes == NULL) /* nothing was to be made */
            return noria_fail(rc, "'mq:%s': this process has too many files open (ulimit -n)", name);
        return noria_fail(rc,
                          "'mq:%s' would take %ld bytes, more than the queues of this user may have left (ulimit -q), "
                          "or this process "
                          "has too many files open",
                          name, attributes->mq_maxmsg * attributes->mq_msgsize);
    case -ENOSPC:
        return noria_fail(rc, "'mq:%s': there are as many queues as there may be, %ld (/proc/sys/fs/mqueue/queues_max)",
                          name, limit("queues_max", 256));
    default:
        return noria_fail(rc, "'mq:%s': %s", name, strerror(-rc));
    }
}

/* As large as is asked for and may be: a queue is memory of the kernel, and limited. */
static struct mq_attr attributes_of(const struct noria_options *options)
{
    long msg_max = limit("msg_max", 10), msgsize_max = limit("msgsize_max", 8192);
    long size = (long)options->max_message + NORIA_FRAME_HEADER;

    size = size > USUAL_SIZE ? size : USUAL_SIZE; /* several small ones share one */
    size = size < NORIA_MOST_PIECE ? size : NORIA_MOST_PIECE;
    return (struct mq_attr){.mq_maxmsg = options->capacity < (uint64_t)msg_max ? (long)options->capacity : msg_max,
                            .mq_msgsize = size < msgsize_max ? size : msgsize_max};
}

/* As many messages as are asked for: who may pass msg_max gets them, if the queues of this user have the bytes left;
 * everybody else what the limits say. */
static mqd_t create_queue(const char *name, int how, const struct noria_options *options,
                          const struct mq_attr *limited)
{
    struct mq_attr asked = *limited;
    mqd_t queue;

    asked.mq_maxmsg = options->capacity < MOST_MESSAGES ? (long)options->capacity : MOST_MESSAGES;
    queue = mq_open(name, how, options->mode & 0777, &asked);
    if (queue >= 0 || (errno != EINVAL && errno != EMFILE && errno != ENOMEM))
        return queue;
    asked = *limited;
    return mq_open(name, how, options->mode & 0777, &asked);
}

static mqd_t open_queue(const char *name, int flags, const struct noria_options *options, int *rc)
{
    int64_t until_ns = noria_deadline_ns(options->wait_create_ns);
    struct mq_attr attributes = attributes_of(options);
    int how = O_RDWR | O_NONBLOCK | O_CLOEXEC | ((flags & NORIA_CREATE) != 0 ? O_CREAT : 0) |
              ((flags & NORIA_EXCL) != 0 ? O_EXCL : 0);
    mqd_t queue;

    while ((queue = create_queue(name, how, options, &attributes)) < 0 && errno == ENOENT &&
           (flags & NORIA_CREATE) == 0 && noria_now_ns() < until_ns)
        noria_nap(until_ns);
    *rc = queue < 0 ? fail_to_open(-errno, name, &attributes) : 0;
    return queue;
}

/* What the umask took away, if the queue is new; whose it is. */
static int check_owner(int fd, const char *name, int flags, const struct noria_options *options)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return noria_fail(-errno, "'mq:%s': %s", name, strerror(errno));
    if (status.st_uid != geteuid() && status.st_uid != 0 && options->foreign == 0)
        return noria_fail(-EACCES, "'mq:%s' belongs to user %u; options.foreign (--foreign) says that this is meant",
                          name, status.st_uid);
    if ((flags & NORIA_CREATE) != 0 && status.st_uid == geteuid() &&
        (status.st_mode & 0777) != (options->mode & 0777) && (status.st_mode & 0777 & ~options->mode) == 0)
        fchmod(fd, options->mode & 0777);
    return 0;
}

static int take_part(struct mq_handle *handle, int flags)
{
    struct noria_adapter *adapter = &handle->base.adapter;
    struct mq_attr attributes;
    int rc = check_owner((int)handle->queue, adapter->rest, flags, &adapter->options);

    if (rc != 0)
        return rc;
    mq_getattr(handle->queue, &attributes);
    handle->most = attributes.mq_maxmsg;
    if (attributes.mq_msgsize < LEAST_SIZE || attributes.mq_msgsize > NORIA_MOST_PIECE)
        return noria_fail(-EINVAL, "'mq:%s' has messages of %ld bytes; noria takes 128 to 65536", adapter->rest,
                          attributes.mq_msgsize);
    return noria_kernel_queue_take_part(&handle->base, (uint32_t)attributes.mq_msgsize, flags);
}

static void close_queue(struct noria_adapter *adapter, bool stale)
{
    struct mq_handle *handle = mq_of(adapter);

    if (!stale && handle->signo != 0)
        mq_notify(handle->queue, NULL);
    noria_kernel_queue_leave(&handle->base); /* with the descriptor; in a child it is one of nothing */
}

static int open_mq(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    int rc = noria_adapter_make(&adapter, &noria_mechanism_mq, sizeof(struct mq_handle), rest, flags, options);

    if (rc != 0)
        return rc;
    mq_of(adapter)->queue = open_queue(rest, flags, &adapter->options, &rc);
    if (rc == 0) {
        noria_kernel_queue_begin(&mq_of(adapter)->base, (int)mq_of(adapter)->queue);
        rc = take_part(mq_of(adapter), flags);
        if (rc != 0)
            close_queue(adapter, false);
    }
    if (rc != 0)
        noria_adapter_free(adapter);
    else
        *out = &adapter->base;
    return rc;
}

static void stat_queue(struct noria_adapter *adapter, struct noria_stat *stat)
{
    noria_kernel_queue_stat(adapter, stat);
    stat->capacity = (uint64_t)mq_of(adapter)->most;
}

static int unlink_mq(const char *rest)
{
    return mq_unlink(rest) == 0 ? 0 : fail_to_open(-errno, rest, NULL);
}

static int in_use(const char *rest)
{
    mqd_t queue = mq_open(rest, O_RDONLY | O_CLOEXEC);
    int rc;

    if (queue < 0)
        return fail_to_open(-errno, rest, NULL);
    rc = noria_kernel_queue_is_used((int)queue);
    mq_close(queue);
    return rc;
}

const struct noria_mechanism noria_mechanism_mq = {.scheme = "mq",
                                                   NORIA_KERNEL_QUEUE_MECHANISM(NORIA_CAN_POLL),
                                                   .put = put,
                                                   .get = get,
                                                   .look_round = noria_kernel_queue_look_round,
                                                   .watch = watch,
                                                   .descriptor = descriptor,
                                                   .notify_signal = notify_signal,
                                                   .arm = arm,
                                                   .stat = stat_queue,
                                                   .open = open_mq,
                                                   .close = close_queue};
const struct noria_transport noria_transport_mq = {"mq", open_mq, unlink_mq, in_use};
