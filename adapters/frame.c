/* SPDX-License-Identifier: BSD-2-Clause */
#include "frame.h"

#include <errno.h>

#include "crc32c.h"

static bool has_a_place(const struct noria_frame *frame)
{
    return frame->offset <= frame->total && frame->length <= frame->total - frame->offset;
}

/* A greeting, or a whole message, that brings descriptors, as many as may come. */
static bool may_bring_fds(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    uint8_t kind = frame->flags & (uint8_t)~NORIA_FRAME_FDS;

    return (kind <= NORIA_FRAME_CRC || (kind == NORIA_FRAME_HELLO && frame->total == 0)) &&
           noria_frame_is_whole(frame) && frame->offset > 0 && frame->offset <= limits->most_fds;
}

static bool is_of_a_kind(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    if (noria_frame_is_plain(frame))
        return has_a_place(frame);
    if (frame->flags == NORIA_FRAME_HELLO)
        return frame->total == 0 && has_a_place(frame);
    return (frame->flags & NORIA_FRAME_FDS) != 0 && may_bring_fds(frame, limits);
}

static bool is_plausible(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    return frame->magic == NORIA_FRAME_MAGIC && frame->length <= limits->most_length &&
           frame->total <= limits->most_total && is_of_a_kind(frame, limits) &&
           (frame->length > 0 || frame->total == 0) && frame->check == noria_frame_check(frame);
}

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
    if (!is_plausible(&found, limits))
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
    if (size <= page || frame.flags != NORIA_FRAME_TAIL || !is_plausible(&frame, limits))
        return 0;
    for (size_t i = 0; i < 2 * (size / page); i++) {
        size_t at = cut_place(size, page, i);
        if (at < NORIA_FRAME_HEADER || at + NORIA_FRAME_HEADER > len || at - NORIA_FRAME_HEADER > frame.length)
            continue; /* behind its payload a frame of nobody's is cut: what went in has no more bytes than it says */
        memcpy(&other, bytes + at, sizeof(other));
        if (!is_plausible(&other, limits))
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
