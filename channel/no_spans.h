/* SPDX-License-Identifier: BSD-2-Clause */
/* The verbs of kinds whose messages cannot be used in place: -ENOTSUP with a sentence. */
#ifndef NORIA_NO_SPANS_H
#define NORIA_NO_SPANS_H

#include "segment_channel.h"

int noria_no_reserve(noria_channel *base, size_t max_len, struct noria_span *span);
int noria_no_commit(noria_channel *base, struct noria_span *span, size_t len);
int noria_no_peek(noria_channel *base, struct noria_span *span, struct noria_info *info);
int noria_no_end(noria_channel *base, struct noria_span *span);

#define NORIA_NO_SPANS \
    .reserve = noria_no_reserve, .commit = noria_no_commit, .abort = noria_no_end, .peek = noria_no_peek, \
    .release = noria_no_end

#endif
