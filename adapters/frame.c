/* SPDX-License-Identifier: BSD-2-Clause */
#include "frame.h"

#include <errno.h>

#include "crc32c.h"

static bool is_plausible(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    return frame->magic == NORIA_FRAME_MAGIC && (frame->flags & ~NORIA_FRAME_CRC) == 0 &&
           frame->length <= limits->most_length && frame->total <= limits->most_total &&
           frame->offset <= frame->total && frame->length <= frame->total - frame->offset &&
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
    if ((found.flags & NORIA_FRAME_CRC) != 0) {
        uint32_t crc;
        memcpy(&crc, bytes + size - sizeof(crc), sizeof(crc));
        if (crc != noria_crc32c(0, bytes, size - sizeof(crc)))
            return -EBADMSG;
    }
    *frame = found;
    return (int)size;
}

size_t noria_frame_skip(const uint8_t *bytes, size_t len)
{
    size_t skip = 1;

    while (skip < len && !may_begin(bytes + skip, len - skip))
        skip++;
    return skip;
}
