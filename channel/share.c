/* SPDX-License-Identifier: BSD-2-Clause */
/* Handing a channel without a name to another process: its descriptor travels over a Unix socket, once both sides
 * know whom they talk to. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "detail.h"
#include "segment_channel.h"

#define GREETING_MAGIC UINT64_C(0x3152485361697230) /* "0riaSHR1" */

struct greeting {
    uint64_t magic;
    uint32_t version; /* of the segment's layout */
    uint32_t reserved;
};

/* One descriptor beside the greeting; room for a second one, to see that there is none, and for the credentials that come
 * first on a socket that asks for them. */
union ancillary {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/* Who connected the socket, or made the pair. 0, -ENOTSOCK, -EINVAL. */
static int find_peer(int socket, struct ucred *peer)
{
    socklen_t size = sizeof(*peer), domain_size = sizeof(int);
    int domain = 0;

    if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) != 0)
        return noria_fail(-errno, "descriptor %d is no socket: %s", socket, noria_error_words(errno));
    if (domain != AF_UNIX || getsockopt(socket, SOL_SOCKET, SO_PEERCRED, peer, &size) != 0 || peer->uid == (uid_t)-1)
        return noria_fail(-EINVAL, "socket %d is not a connected Unix socket: only those can carry a channel", socket);
    return 0;
}

static bool is_trusted(const struct ucred *peer)
{
    return peer->uid == geteuid() || peer->uid == 0;
}

int noria_segment_channel_descriptor(noria_channel *base)
{
    return noria_lock_own_description(noria_segment_channel_of(base)->segment.fd);
}

int noria_segment_channel_share(noria_channel *base, int socket)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct greeting greeting = {.magic = GREETING_MAGIC, .version = NORIA_SEGMENT_VERSION};
    struct iovec bytes = {&greeting, sizeof(greeting)};
    union ancillary ancillary;
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = ancillary.bytes,
                             .msg_controllen = CMSG_SPACE(sizeof(int))};
    struct cmsghdr *header;
    struct ucred peer;
    int rc, fd;

    if (channel->segment.backend != &noria_segment_memfd)
        return noria_fail(-ENOTSUP, "only memory without a name (anon:, memfd:) is handed over; tell the other its "
                          "address");
    rc = find_peer(socket, &peer);
    if (rc != 0)
        return rc;
    if (!is_trusted(&peer) && (channel->geometry.mode & 0006) != 0006)
        return noria_fail(-EACCES, "the process at the other end is user %u's, and the channel's mode %04o is not "
                          "open to all", (unsigned)peer.uid, channel->geometry.mode);
    /* A description of its own: ours has our locks, which would live on with it. */
    fd = noria_lock_own_description(channel->segment.fd);
    if (fd < 0)
        return noria_fail(fd, "cannot reopen the channel's memory through /proc/self/fd: %s", noria_error_words(fd));
    memset(&ancillary, 0, sizeof(ancillary));
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    /* Not to wait in here, where every close of the process would wait for us. */
    rc = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(greeting) ? 0 : -errno;
    close(fd);
    return rc == 0 ? 0 : noria_fail(rc, "cannot send the channel over socket %d: %s", socket, noria_error_words(rc));
}

/* All descriptors that came: one is kept, if it is the only one. -1: it was not one. */
static int take_descriptor(struct msghdr *message)
{
    enum { MOST = sizeof(union ancillary) / sizeof(int) };
    int fds[MOST], count = 0;

    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len && count < MOST; at += sizeof(int))
            memcpy(&fds[count++], CMSG_DATA(header) + at, sizeof(int));
    }
    if (count == 1 && (message->msg_flags & MSG_CTRUNC) == 0)
        return fds[0];
    while (count > 0)
        close(fds[--count]);
    return -1;
}

static int await(int socket, int64_t until_ns)
{
    struct pollfd poll = {.fd = socket, .events = POLLIN};

    for (;;) {
        int64_t left_ns = until_ns - noria_now_ns();
        struct timespec left = noria_timespec_of(left_ns > 0 ? left_ns : 0);
        int rc = ppoll(&poll, 1, &left, NULL);
        if (rc > 0)
            return 0;
        if (rc == 0)
            return noria_fail(-ETIMEDOUT, "no channel came over socket %d", socket);
        if (errno != EINTR)
            return noria_fail(-errno, "cannot wait at socket %d: %s", socket, noria_error_words(errno));
    }
}

int noria_receive_descriptor(int socket, bool foreign, int64_t timeout_ns)
{
    struct greeting greeting;
    struct iovec bytes = {&greeting, sizeof(greeting)};
    union ancillary ancillary;
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = ancillary.bytes,
                             .msg_controllen = sizeof(ancillary.bytes)};
    struct ucred peer;
    ssize_t got;
    int rc = find_peer(socket, &peer), fd;

    if (rc == 0 && !is_trusted(&peer) && !foreign)
        rc = noria_fail(-EACCES, "the process at the other end is user %u's, you are %u; set options.foreign "
                        "to trust it",
                        (unsigned)peer.uid, (unsigned)geteuid());
    if (rc == 0)
        rc = await(socket, noria_deadline_ns(timeout_ns));
    if (rc != 0)
        return rc;
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return noria_fail(-errno, "cannot receive over socket %d: %s", socket, noria_error_words(errno));
    fd = take_descriptor(&message);
    if (got == 0 && fd < 0)
        return noria_fail(-EPIPE, "the other end has closed socket %d", socket);
    if (fd >= 0 && got == (ssize_t)sizeof(greeting) && greeting.magic == GREETING_MAGIC)
        return fd;
    if (fd >= 0)
        close(fd);
    return noria_fail(-EBADMSG, "what came over socket %d is not a channel of noria_share", socket);
}
