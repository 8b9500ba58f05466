/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages of our own that are lent to a pipe instead of being copied into it (vmsplice). A page stays the pipe's until its
 * last byte is read; filled anew before, it would change under the reader's hands. When it is out, the pipe's own count of
 * bytes tells: as many as it holds (FIONREAD) were the last ones put, so all before them are read. That holds whatever the
 * kernel keeps them in, and with other writers, whose bytes only make it more; but not if who reads moves pages on
 * (splice, tee), who then holds them himself.
 *
 * Each page goes in whole or not at all, so frames that do not reach over a page's end are never mixed with others'.
 */
#ifndef NORIA_PAGES_H
#define NORIA_PAGES_H

#include "ends.h"

enum { NORIA_MOST_LENT = 64 }; /* pages, at a time */

struct noria_pages {
    uint8_t *bytes; /* NULL: none yet */
    uint64_t *ends; /* of each page the count of bytes put with its last one; behind the pages */
    uint32_t count, next, page;
    bool was_full;     /* the pipe, at the last put */
    uint64_t put, out; /* bytes: put altogether, also otherwise, and of those read for certain */
};

/* NORIA_MOST_LENT pages to fill, one behind the other. How many of them the pipe may take, -EAGAIN: it is full, -ENOTSUP:
 * there are none now. */
int noria_pages_take(struct noria_pages *pages, const struct noria_end *end, uint8_t **first);
/* Puts pieces of pages that were taken. As noria_end_write; -ENOTSUP: the kernel does not do it. */
ssize_t noria_pages_put(struct noria_pages *pages, struct noria_end *end, const struct iovec *pieces, int n);
/* What the pipe still has it keeps. */
void noria_pages_free(struct noria_pages *pages);

#endif
