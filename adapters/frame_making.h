/* SPDX-License-Identifier: BSD-2-Clause */
/* The frames of a handle's messages. */
#ifndef NORIA_FRAME_MAKING_H
#define NORIA_FRAME_MAKING_H

#include "adapter.h"
#include "crc32c.h"

/* Adds bytes that go out behind the others; as a piece of their own unless they stand behind the last one. */
static inline void noria_piece_add(struct iovec *pieces, int *n, const uint8_t *bytes, size_t len)
{
    struct iovec *last = *n > 0 ? &pieces[*n - 1] : NULL;

    if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == bytes)
        last->iov_len += len;
    else
        pieces[(*n)++] = (struct iovec){(void *)(uintptr_t)bytes, len};
}

/* Bytes around what a frame brings, unless it may be cut. */
static inline size_t noria_frame_around(const struct noria_adapter *adapter)
{
    return adapter->piece - adapter->most_in_frame;
}

NORIA_FAST_PATH struct noria_frame noria_frame_of(const struct noria_adapter *adapter,
                                                  const struct noria_outgoing *message, size_t length, uint64_t sequence)
{
    bool is_long = length > adapter->most_in_frame; /* so it may be cut */
    uint8_t fds = message->fds != NULL ? NORIA_FRAME_FDS : 0;

    return (struct noria_frame){.flags = fds | (adapter->crc != 0 ? NORIA_FRAME_CRC
                                                : is_long         ? NORIA_FRAME_TAIL
                                                                  : 0),
                                .priority = (uint8_t)message->priority,
                                .length = (uint32_t)length,
                                .total = (uint32_t)message->len,
                                .offset = (uint32_t)(fds != 0 ? (size_t)message->fd_count : message->offset),
                                .sender = adapter->sender,
                                .sequence = sequence};
}

NORIA_FAST_PATH void noria_frame_head(const struct noria_adapter *adapter, const struct noria_outgoing *message,
                                      size_t length, uint64_t sequence, uint8_t *to)
{
    struct noria_frame frame = noria_frame_of(adapter, message, length, sequence);

    noria_frame_seal(&frame, to);
}

/* The whole frame into `to`. Its size. */
NORIA_FAST_PATH size_t noria_frame_make(const struct noria_adapter *adapter, const struct noria_outgoing *message,
                                        size_t length, uint64_t sequence, uint8_t *to)
{
    size_t size = NORIA_FRAME_HEADER + length;

    noria_frame_head(adapter, message, length, sequence, to);
    if (length != 0)
        memcpy(to + NORIA_FRAME_HEADER, message->data + message->offset, length);
    if (adapter->crc != 0) {
        uint32_t crc = noria_crc32c(0, to, size);
        memcpy(to + size, &crc, sizeof(crc));
        size += sizeof(crc);
    }
    return size;
}

static inline uint32_t noria_frame_crc_of(const uint8_t *header, const uint8_t *payload, size_t length)
{
    return noria_crc32c(noria_crc32c(0, header, NORIA_FRAME_HEADER), payload, length);
}

#endif
