/* SPDX-License-Identifier: BSD-2-Clause */
/* Batches of kinds that move one message at a time: as many as go, or why not even the first. */
#ifndef NORIA_ONE_BY_ONE_H
#define NORIA_ONE_BY_ONE_H

#include "segment_channel.h"

/* At the lowest level. */
static inline int noria_send_one_by_one(noria_channel *channel, const struct iovec *messages, int n,
                                        int (*send)(noria_channel *, const void *, size_t, unsigned))
{
    int sent = 0, rc = 0;

    while (sent < n && rc == 0) {
        rc = send(channel, messages[sent].iov_base, messages[sent].iov_len, 0);
        sent += rc == 0;
    }
    return sent != 0 ? sent : rc;
}

static inline int noria_recv_one_by_one(noria_channel *channel, struct iovec *buffers, int n,
                                        struct noria_info *info,
                                        ssize_t (*recv)(noria_channel *, void *, size_t, struct noria_info *))
{
    int taken = 0;
    ssize_t rc = 0;

    while (taken < n) {
        rc = recv(channel, buffers[taken].iov_base, buffers[taken].iov_len,
                  info != NULL ? &info[taken] : NULL);
        if (rc < 0)
            break;
        buffers[taken++].iov_len = (size_t)rc;
    }
    return taken != 0 ? taken : (int)rc;
}

#endif
