/* SPDX-License-Identifier: BSD-2-Clause */
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapter.h"
#include "call.h"
#include "detail.h"

#ifndef SCM_PIDFD /* Linux 6.5, newer than many headers */
#define SCM_PIDFD 0x04
#endif

int noria_adapter_refuse_fds(const struct noria_adapter *adapter)
{
    return noria_fail(-ENOTSUP, "'%s:%s' carries no descriptors; unix:/path without ?deal does, and fd:N of a Unix socket",
                      adapter->mechanism->scheme, adapter->rest);
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* No word of the kernel's says which descriptor it is. */
static int explain_bad_descriptor(const int *fds, int count)
{
    int i = 0;

    while (i < count - 1 && fcntl(fds[i], F_GETFD) >= 0)
        i++;
    return noria_fail(-EBADF, "descriptor %d, number %d of %d, is not open", fds[i], i + 1, count);
}

static ssize_t write_fds(const struct noria_end *end, const struct iovec *pieces, int n, const int *fds, int count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(NORIA_MOST_FDS * sizeof(int))];
    } control = {.bytes = {0}};
    size_t size = (size_t)count * sizeof(int);
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)n,
                             .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(size)};
    ssize_t rc;

    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), fds, size);
    do {
        rc = sendmsg(end->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        return rc;
    if (errno == EBADF)
        return explain_bad_descriptor(fds, count);
    if (errno == ETOOMANYREFS)
        return noria_fail(-ETOOMANYREFS, "this user has as many descriptors under way as one may have open (ulimit -n), and "
                          "nobody has received them yet");
    return noria_end_refused_write(errno);
}

/* The greeting that says that descriptors will come, and brings one that means nothing. */
static int announce(struct noria_adapter *adapter)
{
    uint8_t bytes[NORIA_FRAME_HELLO_BYTES];
    const struct iovec piece = {bytes, sizeof(bytes)};
    int nothing = eventfd(0, EFD_CLOEXEC);
    ssize_t rc;

    if (nothing < 0)
        return noria_fail(-errno, "no descriptor to send others with: %s", strerror(errno));
    noria_frame_greet(adapter->sender, NORIA_FRAME_SENDER, 1, bytes);
    rc = write_fds(&adapter->out, &piece, 1, &nothing, 1);
    close(nothing);
    if (rc < 0)
        return (int)rc;
    adapter->fds_announced = rc == (ssize_t)sizeof(bytes);
    if (adapter->fds_announced)
        return 0;
    /* No kernel cuts so little. The rest goes out, and then another one, whole. */
    adapter->owed_from = 0;
    adapter->owed_to = sizeof(bytes) - (size_t)rc;
    memcpy(adapter->frames, bytes + rc, adapter->owed_to);
    return -EAGAIN;
}

ssize_t noria_adapter_put_fds(struct noria_adapter *adapter, const struct noria_outgoing *message,
                              const struct iovec *pieces, int n)
{
    ssize_t rc = adapter->fds_announced ? 0 : announce(adapter);

    if (rc == 0)
        rc = write_fds(&adapter->out, pieces, n, message->fds, message->fd_count);
    if (rc > 0) /* behind a socket that was passed there may be another receiver by the next time */
        adapter->fds_announced = adapter->mechanism->detach != NULL;
    return rc;
}

/* -------------------------------------------------------------------------------------------------------- receiving */

static void forget(struct noria_brought *brought)
{
    brought->held = brought->cut = false;
    brought->count = 0;
}

/* Of a set with more descriptors than any frame brings the first ones are here; the caller closed the others. */
static int here(const struct noria_brought *brought)
{
    return brought->count < NORIA_MOST_FDS ? brought->count : NORIA_MOST_FDS;
}

/* A receive that takes what has come holds its side, and may be cancelled. */
static void close_all(struct noria_brought *brought)
{
    int cancels;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    for (int i = 0; i < here(brought); i++) {
        noria_fork_guard_remove(&brought->guards[i]);
        close(brought->fds[i]);
    }
    forget(brought);
    pthread_setcancelstate(cancels, NULL);
}

void noria_adapter_drop_fds(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    if (!inlet->brought.held)
        return;
    adapter->dropped_fds += (uint64_t)inlet->brought.count;
    close_all(&inlet->brought);
}

/* The rest of a frame that has its descriptors brought others: none of them are any frame's. */
static void refuse_more(struct noria_adapter *adapter, struct noria_brought *brought, const int *fds, int count)
{
    for (int i = 0; i < count && i < NORIA_MOST_FDS; i++)
        close(fds[i]);
    adapter->dropped_fds += (uint64_t)count;
    brought->to = count > 0 ? 0 : brought->to;
}

void noria_adapter_hold_fds(struct noria_adapter *adapter, struct noria_inlet *inlet, const int *fds, int count, bool cut,
                            size_t at, size_t len)
{
    struct noria_brought *brought = &inlet->brought;

    if (brought->held) {
        refuse_more(adapter, brought, fds, count);
        return;
    }
    brought->held = true;
    brought->cut = cut;
    brought->count = count;
    brought->from = at;
    brought->to = at + len;
    for (int i = 0; i < here(brought); i++) {
        brought->fds[i] = fds[i];
        brought->guards[i].drops = true;
        noria_fork_guard_add(&brought->guards[i], fds[i]);
    }
}

/* Room for what else a socket that was passed may have been told to bring: who sends, and his label. */
union ancillary {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(NORIA_MOST_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)) +
               CMSG_SPACE(256)];
};

/* The descriptors of one header. How many there are then. */
static int collect(struct cmsghdr *header, int *fds, int count)
{
    int fd;

    for (size_t at = 0; CMSG_LEN(at + sizeof(fd)) <= header->cmsg_len; at += sizeof(fd)) {
        memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
        if (header->cmsg_type == SCM_PIDFD || count >= NORIA_MOST_FDS)
            close(fd);
        else
            fds[count] = fd;
        count += header->cmsg_type == SCM_RIGHTS;
    }
    return count;
}

ssize_t noria_adapter_read_fds(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    union ancillary ancillary;
    struct iovec piece = {bytes, room};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = ancillary.bytes,
                             .msg_controllen = sizeof(ancillary.bytes)};
    int fds[NORIA_MOST_FDS], count = 0;
    ssize_t rc;

    do {
        rc = recvmsg(inlet->end.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return noria_end_refused_read(&inlet->end, errno);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && (header->cmsg_type == SCM_RIGHTS || header->cmsg_type == SCM_PIDFD))
            count = collect(header, fds, count);
    if (count > 0 || (message.msg_flags & MSG_CTRUNC) != 0)
        noria_adapter_hold_fds(adapter, inlet, fds, count, (message.msg_flags & MSG_CTRUNC) != 0,
                               (size_t)((uint8_t *)bytes - inlet->bytes), (size_t)rc);
    return rc;
}

int noria_inlet_find_fds(const struct noria_inlet *inlet, const struct noria_frame *frame)
{
    const struct noria_brought *brought = &inlet->brought;
    int claimed = (int)frame->offset;

    if (!brought->held || inlet->from < brought->from || inlet->from >= brought->to)
        return -EBADMSG;
    return brought->count == claimed || (brought->cut && brought->count < claimed) ? 0 : -EBADMSG;
}

void noria_inlet_expect_fds(struct noria_inlet *inlet, const struct noria_frame *frame)
{
    inlet->takes_fds = inlet->asks = true;
    if (noria_inlet_find_fds(inlet, frame) == 0)
        close_all(&inlet->brought); /* it was asked for it before, and its own descriptor means nothing */
}

void noria_adapter_announce_fds(struct noria_adapter *adapter, const struct noria_frame *frame)
{
    struct noria_inlet *inlet = adapter->incoming.inlet;
    uint32_t lost = frame->offset - (uint32_t)inlet->brought.count;

    adapter->incoming.info.flags |= NORIA_FDS;
    if (lost == 0)
        return;
    noria_adapter_drop_fds(adapter, inlet); /* some of them are of no use to anybody */
    adapter->dropped_fds += lost;
}

int noria_adapter_keep_fds(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    if (inlet->from < inlet->brought.to)
        return 0;
    noria_adapter_drop_fds(adapter, inlet);
    return adapter->mechanism->drops_strangers ? -EBADMSG : 0;
}

void noria_brought_move(struct noria_brought *brought, size_t by)
{
    brought->from = brought->from > by ? brought->from - by : 0;
    brought->to = brought->to > by ? brought->to - by : 0;
}

size_t noria_inlet_missing(const struct noria_inlet *inlet)
{
    size_t there = inlet->to - inlet->from;
    struct noria_frame frame;

    if (there < NORIA_FRAME_HEADER)
        return NORIA_FRAME_HEADER - there;
    memcpy(&frame, inlet->bytes + inlet->from, sizeof(frame)); /* that it may be one was found when frames were taken */
    return noria_frame_size(&frame) - there;
}

/* -------------------------------------------------------------------------------------------------------- the verb */

struct receipt {
    void *buffer;
    size_t capacity;
    int *fds, *n;
    struct noria_info *info;
};

/* With the side taken, and a message there. */
static ssize_t receive(struct noria_adapter *adapter, const struct receipt *receipt)
{
    const struct noria_incoming *incoming = &adapter->incoming;
    struct noria_brought *brought = &incoming->inlet->brought;
    bool has_some = (incoming->info.flags & NORIA_FDS) != 0;
    int count = !has_some ? 0 : brought->held ? brought->count : -EMFILE;
    ssize_t len;

    if (!incoming->held && count > *receipt->n)
        return noria_fail(-EMSGSIZE, "the next message has %d descriptors, there is room for %d; it stays", count,
                          *receipt->n);
    len = noria_adapter_copy_out(adapter, receipt->buffer, receipt->capacity, receipt->info);
    if (len < 0)
        return len;
    for (int i = 0; i < count; i++) {
        noria_fork_guard_remove(&brought->guards[i]);
        receipt->fds[i] = brought->fds[i];
    }
    if (count > 0)
        forget(brought);
    *receipt->n = count;
    noria_adapter_release_incoming(adapter, false);
    return len;
}

static ssize_t try_recv(noria_channel *channel, void *arguments)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    ssize_t rc = noria_adapter_lock(adapter, NORIA_SIDE_RECV);

    if (rc != 0)
        return rc;
    rc = noria_adapter_next(adapter);
    if (rc == 0)
        rc = receive(adapter, arguments);
    noria_adapter_unlock(adapter, NORIA_SIDE_RECV);
    return rc;
}

ssize_t noria_adapter_recv_fds(noria_channel *channel, void *buffer, size_t capacity, int *fds, int *n,
                               int64_t timeout_ns, struct noria_info *info)
{
    struct receipt receipt = {buffer, capacity, fds, n, info};

    if (noria_adapter_of(channel)->most_fds == 0)
        return noria_adapter_refuse_fds(noria_adapter_of(channel));
    return noria_call(channel, NORIA_SIDE_RECV, timeout_ns,
                      &(struct noria_attempt){try_recv, &receipt, true, 0, NULL});
}
