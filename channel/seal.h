/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seal of a record, on channels that are created with checksums: 8 bytes in front of the message, in the record.
 *
 *     0  4  CRC32C of position (8 bytes), length (4 bytes) and message        4  4  0
 *
 * It stands in front, and not behind, because a disk writes sectors: whatever part of a record is of an earlier time,
 * a new seal does not go with it, and an old seal not with the new position. An MPMC record may be committed at another
 * position than it was reserved at; there the position counts as 0, and the seal stands in the sector of the slot's words,
 * which are of the same time for that reason.
 */
#ifndef NORIA_SEAL_H
#define NORIA_SEAL_H

#include <string.h>

#include "crc32c.h"
#include "segment_channel.h"

static inline uint32_t noria_seal_of(const void *message, size_t len, uint64_t position)
{
    uint32_t length = (uint32_t)len, crc = noria_crc32c(0, &position, sizeof(position));

    return noria_crc32c(noria_crc32c(crc, &length, sizeof(length)), message, len);
}

/* The record's message, of `len` bytes, is there. */
static inline void noria_seal_put(void *record, size_t len, uint64_t position)
{
    const uint32_t seal[2] = {noria_seal_of((uint8_t *)record + NORIA_SEAL, len, position), 0};

    memcpy(record, seal, sizeof(seal));
}

static inline bool noria_seal_holds(const void *record, size_t len, uint64_t position)
{
    uint32_t seal[2];

    if (len < NORIA_SEAL)
        return false;
    memcpy(seal, record, sizeof(seal));
    return seal[1] == 0 &&
           seal[0] == noria_seal_of((const uint8_t *)record + NORIA_SEAL, len - NORIA_SEAL, position);
}

/* A record was passed over because its seal does not hold. */
static inline void noria_seal_broken(struct noria_segment_channel *channel)
{
    noria_count(&channel->shared->torn, 1);
    noria_segment_count_lost(&channel->base, 1);
}

/* What is asked of a ring to get so much of a message. */
static inline size_t noria_with_seal(size_t len)
{
    return len > SIZE_MAX - NORIA_SEAL ? SIZE_MAX : len + NORIA_SEAL;
}

#endif
