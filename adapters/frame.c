/* SPDX-License-Identifier: BSD-2-Clause */
#include "frame.h"

#include <errno.h>

#include "crc32c.h"

/* Whether what is there of the magic is right. */
static bool may_begin(const uint8_t *bytes, size_t len)
{
    const uint32_t magic = NORIA_FRAME_MAGIC;

    return memcmp(bytes, &magic, len < sizeof(magic) ? len : sizeof(magic)) == 0;
}

int noria_frame_parse(const uint8_t *bytes, size_t len, const struct noria_frame_limits *limits,
                      struct noria_frame *frame)
{
    struct noria_frame found;
    size_t size;

    if (len < NORIA_FRAME_HEADER)
        return may_begin(bytes, len) ? 0 : -EBADMSG;
    memcpy(&found, bytes, sizeof(found));
    if (!noria_frame_is_plausible(&found, limits))
        return -EBADMSG;
    size = noria_frame_size(&found);
    if (len < size)
        return 0;
    if (noria_frame_has_tail(&found)) {
        uint32_t tail;
        memcpy(&tail, bytes + size - sizeof(tail), sizeof(tail));
        if (tail !=
            ((found.flags & NORIA_FRAME_CRC) != 0 ? noria_crc32c(0, bytes, size - sizeof(tail)) : noria_frame_tail(&found)))
            return -EBADMSG;
    }
    *frame = found;
    return (int)size;
}

/* The i-th place where a frame may be cut, in no order; 0: there is none. There are 2 * (size / page). */
static size_t cut_place(size_t size, size_t page, size_t i)
{
    size_t at = i % 2 == 0 ? size % page + i / 2 * page : (i / 2 + 1) * page;

    return at < size ? at : 0;
}

bool noria_frame_is_ambiguous(const struct noria_frame *frame, const uint8_t *payload, size_t page)
{
    size_t size = noria_frame_size(frame);

    if (size % page != 0 && size % page < NORIA_FRAME_HEADER)
        return true; /* the header itself might be cut */
    for (size_t i = 0; i < 2 * (size / page); i++) {
        size_t at = cut_place(size, page, i);
        if (at != 0 && may_begin(payload + at - NORIA_FRAME_HEADER, size - at))
            return true;
    }
    return false;
}

size_t noria_frame_find_cut(const uint8_t *bytes, size_t len, const struct noria_frame_limits *limits, size_t page,
                            struct noria_frame *left)
{
    struct noria_frame frame, other;
    size_t size;

    if (len < NORIA_FRAME_HEADER)
        return 0;
    memcpy(&frame, bytes, sizeof(frame));
    size = noria_frame_size(&frame);
    if (size <= page || frame.flags != NORIA_FRAME_TAIL || !noria_frame_is_plausible(&frame, limits))
        return 0;
    for (size_t i = 0; i < 2 * (size / page); i++) {
        size_t at = cut_place(size, page, i);
        if (at < NORIA_FRAME_HEADER || at + NORIA_FRAME_HEADER > len || at - NORIA_FRAME_HEADER > frame.length)
            continue; /* behind its payload a frame of nobody's is cut: what went in has no more bytes than it says */
        memcpy(&other, bytes + at, sizeof(other));
        if (!noria_frame_is_plausible(&other, limits))
            continue;
        *left = frame;
        left->flags = 0;
        left->length = (uint32_t)(at - NORIA_FRAME_HEADER);
        return at;
    }
    return 0;
}

size_t noria_frame_skip(const uint8_t *bytes, size_t len)
{
    size_t skip = 1;

    while (skip < len && !may_begin(bytes + skip, len - skip))
        skip++;
    return skip;
}
