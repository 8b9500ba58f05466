/* SPDX-License-Identifier: BSD-2-Clause */
/* Kinds whose messages cannot be used in place: nothing is kept of them, or it is overwritten, or its memory
 * goes. */
#include <errno.h>

#include "detail.h"
#include "no_spans.h"

static int refuse(noria_channel *base)
{
    return noria_fail(-ENOTSUP,
                      "a channel of kind %s has no messages that could be used in place; use noria_send and "
                      "noria_recv",
                      noria_segment_channel_of(base)->kind->name);
}

int noria_no_reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    (void)max_len, (void)span;
    return refuse(base);
}

int noria_no_commit(noria_channel *base, struct noria_span *span, size_t len)
{
    (void)span, (void)len;
    return refuse(base);
}

int noria_no_peek(noria_channel *base, struct noria_span *span, struct noria_info *info)
{
    (void)span, (void)info;
    return refuse(base);
}

int noria_no_end(noria_channel *base, struct noria_span *span)
{
    (void)span;
    return refuse(base);
}
