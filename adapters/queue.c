/* SPDX-License-Identifier: BSD-2-Clause */
#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "detail.h"

enum { SENDERS = 1, RECEIVERS = 2, LONG_SENDERS = 3 }; /* lock bytes */

/* 0, -EAGAIN somebody has it otherwise, or -errno. */
static int lock(int fd, int64_t byte, short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

/* Whether anybody else has it. */
static bool is_locked(int fd, int64_t byte)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

/* A sender of long messages and a receiver each say first that they are there, and look then: one of them sees the
 * other. */
static int take_receiver(struct noria_kernel_queue *queue, bool takes_long)
{
    int rc = lock(queue->locks, RECEIVERS, takes_long ? F_WRLCK : F_RDLCK);

    if (rc == 0 && !takes_long && is_locked(queue->locks, LONG_SENDERS))
        rc = lock(queue->locks, RECEIVERS, F_WRLCK);
    if (rc == 0)
        return 0;
    return noria_fail(
        rc == -EAGAIN ? -EBUSY : rc,
        "'%s:%s' has a receiver, and pieces of messages above %zu bytes, which somebody sends or this receiver "
        "asks for, can go to one only",
        queue->adapter.mechanism->scheme, queue->adapter.rest, (size_t)queue->adapter.most_in_frame);
}

static int take_sender(struct noria_kernel_queue *queue, bool sends_long)
{
    struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = RECEIVERS, .l_len = 1};
    int rc = lock(queue->locks, SENDERS, F_RDLCK);

    if (rc == 0 && sends_long)
        rc = lock(queue->locks, LONG_SENDERS, F_RDLCK);
    if (rc != 0)
        return noria_fail(rc, "'%s:%s' cannot be locked: %s", queue->adapter.mechanism->scheme, queue->adapter.rest,
                          strerror(-rc));
    if (!sends_long)
        return 0;
    /* One receiver can have the byte for itself; several, or one of short messages, share it. */
    range.l_type = F_WRLCK;
    if (fcntl(queue->locks, F_OFD_GETLK, &range) == 0 && range.l_type == F_RDLCK)
        return noria_fail(
            -EBUSY, "'%s:%s' has receivers of messages up to %zu bytes only; open them with a larger max_message",
            queue->adapter.mechanism->scheme, queue->adapter.rest, (size_t)queue->adapter.most_in_frame);
    return 0;
}

/* ---------------------------------------------------------------------------------------------- life and statistics */

void noria_kernel_queue_begin(struct noria_kernel_queue *queue, int locks)
{
    queue->locks = locks;
    queue->guard.drops = true;
    noria_fork_guard_add(&queue->guard, locks);
}

void noria_kernel_queue_leave(struct noria_kernel_queue *queue)
{
    noria_fork_guard_remove(&queue->guard);
    close(queue->locks);
}

int noria_kernel_queue_take_part(struct noria_kernel_queue *queue, uint32_t piece, int flags)
{
    struct noria_adapter *adapter = &queue->adapter;
    const struct noria_end nowhere = {.fd = -1};
    uint64_t wanted = adapter->options.max_message;
    bool is_long;
    int rc = noria_adapter_shape(adapter, wanted, piece);

    is_long = wanted > adapter->most_in_frame;
    if (!is_long)
        adapter->base.max_message = adapter->most_in_frame;
    if (rc == 0 && (flags & NORIA_SEND) != 0)
        rc = take_sender(queue, is_long);
    if (rc == 0 && (flags & NORIA_RECV) != 0)
        rc = take_receiver(queue, is_long);
    if (rc == 0 && (flags & NORIA_RECV) != 0 && noria_adapter_add_inlet(adapter, &nowhere) == NULL)
        rc = -ENOMEM;
    return rc;
}

int noria_kernel_queue_attach(struct noria_adapter *adapter)
{
    (void)adapter;
    return 0;
}

int noria_kernel_queue_end(struct noria_adapter *adapter)
{
    (void)adapter;
    return -EPIPE;
}

bool noria_kernel_queue_is_loss(struct noria_adapter *adapter)
{
    struct noria_kernel_queue *queue = noria_kernel_queue_of(adapter);

    if (!queue->shared)
        queue->shared = is_locked(queue->locks, RECEIVERS);
    return !queue->shared;
}

int noria_kernel_queue_look_round(struct noria_adapter *adapter, enum noria_side side)
{
    if (side == NORIA_SIDE_SEND || (adapter->base.flags & NORIA_SEND) != 0)
        return 0; /* the queue is there for receivers that are not */
    if (is_locked(noria_kernel_queue_of(adapter)->locks, SENDERS)) {
        adapter->seen_sender = true;
        return 0;
    }
    return adapter->seen_sender ? -EPIPE : 0;
}

bool noria_kernel_queue_is_used(int locks)
{
    return is_locked(locks, SENDERS) || is_locked(locks, RECEIVERS);
}

void noria_kernel_queue_stat(struct noria_adapter *adapter, struct noria_stat *stat)
{
    if (adapter->base.max_message > adapter->most_in_frame)
        stat->abilities &= ~(uint32_t)NORIA_CAN_MANY_RECEIVERS;
}
