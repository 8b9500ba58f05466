/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "fd:N" whatever a descriptor that is there leads to: standard input and output, a pipe, a socket, a terminal, a file.
 * In a file and on a stream socket, where a writer that dies may leave half a frame for others to go on behind, each
 * frame has a CRC. On a stream socket two who write at the same time may also cut each other's frames anywhere, so it is
 * said to have one sender.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter.h"
#include "adapters.h"
#include "detail.h"

struct fd_handle {
    struct noria_adapter adapter;
    bool is_stream; /* a socket's */
};

static struct fd_handle *fd_of(struct noria_adapter *adapter)
{
    return (struct fd_handle *)(void *)adapter;
}

static int attach(struct noria_adapter *adapter)
{
    (void)adapter;
    return 0;
}

static int end(struct noria_adapter *adapter)
{
    (void)adapter;
    return -EPIPE;
}

/* What one write takes whole, or what may be cut. */
static uint32_t piece_of(const struct stat *status, bool is_stream)
{
    if (S_ISSOCK(status->st_mode))
        return is_stream ? NORIA_MOST_PIECE : NORIA_MOST_PIECE / 2;
    return S_ISREG(status->st_mode) ? NORIA_MOST_PIECE : PIPE_BUF;
}

static int take_roles(struct noria_adapter *adapter, int fd)
{
    struct noria_end own;
    int rc = 0;

    if ((adapter->base.flags & NORIA_RECV) != 0) {
        rc = noria_end_open(&own, fd, O_RDONLY);
        if (rc == 0 && noria_adapter_add_inlet(adapter, &own) == NULL)
            rc = -ENOMEM;
        if (rc == 0)
            rc = noria_end_claim(&own, "fd", adapter->rest);
        adapter->seen_sender = true; /* where nobody writes any more nobody will */
    }
    if (rc == 0 && (adapter->base.flags & NORIA_SEND) != 0) {
        rc = noria_end_open(&own, fd, O_WRONLY);
        if (rc == 0)
            noria_adapter_set_out(adapter, &own);
    }
    return rc;
}

static int open_fd(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    struct stat status;
    char *behind;
    long fd = strtol(rest, &behind, 10);
    int rc;

    if (*rest < '0' || *rest > '9' || *behind != '\0' || fd > INT_MAX)
        return noria_fail(-EINVAL, "'fd:%s': write fd:0 or the number of another descriptor", rest);
    rc = noria_adapter_make(&adapter, &noria_mechanism_fd, sizeof(struct fd_handle), rest, flags, options);
    if (rc != 0)
        return rc;
    if (fstat((int)fd, &status) != 0)
        rc = noria_fail(-errno, "'fd:%s': this process has no such descriptor", rest);
    fd_of(adapter)->is_stream = rc == 0 && noria_end_ask((int)fd, SO_TYPE) == SOCK_STREAM;
    adapter->most_fds = rc == 0 && noria_end_ask((int)fd, SO_DOMAIN) == AF_UNIX ? NORIA_MOST_FDS : 0;
    if (rc == 0 && (S_ISREG(status.st_mode) || fd_of(adapter)->is_stream))
        adapter->crc = 1;
    if (rc == 0)
        rc = noria_adapter_shape(adapter, noria_adapter_bound(&adapter->options),
                                 piece_of(&status, fd_of(adapter)->is_stream));
    if (rc == 0)
        rc = take_roles(adapter, (int)fd);
    if (rc != 0)
        noria_adapter_free(adapter);
    else
        *out = &adapter->base;
    return rc;
}

static void stat_fd(struct noria_adapter *adapter, struct noria_stat *stat)
{
    if (fd_of(adapter)->is_stream)
        stat->abilities &= ~(uint32_t)NORIA_CAN_MANY_SENDERS;
}

static int unlink_fd(const char *rest)
{
    return noria_fail(-EINVAL, "'fd:%s' has no name that could be removed", rest);
}

const struct noria_mechanism noria_mechanism_fd = {.scheme = "fd",
                                                   .may_lend = true,
                                                   .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_POLL,
                                                   .attach = attach,
                                                   .put = noria_adapter_put_out,
                                                   .get = noria_adapter_get_in,
                                                   .end = end,
                                                   .watch = noria_adapter_watch_ends,
                                                   .stat = stat_fd,
                                                   .open = open_fd};
const struct noria_transport noria_transport_fd = {"fd", open_fd, unlink_fd, unlink_fd};
