/* SPDX-License-Identifier: BSD-2-Clause */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t size_of(const struct noria_pages *pages)
{
    return pages->count * ((size_t)pages->page + sizeof(*pages->ends));
}

/* As many as fit into the pipe, and so many that behind those, or before them, there are always enough in one piece. One
 * mapping, so that a handler may give it back. */
static int make(struct noria_pages *pages, int pipe)
{
    int size = fcntl(pipe, F_GETPIPE_SZ);
    void *bytes;

    pages->page = (uint32_t)sysconf(_SC_PAGESIZE);
    if (size <= 0)
        return -ENOTSUP;
    pages->count = (uint32_t)size / pages->page + 2 * NORIA_MOST_LENT;
    bytes = mmap(NULL, size_of(pages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return -ENOTSUP;
    pages->bytes = bytes;
    pages->ends = (uint64_t *)(void *)(pages->bytes + (size_t)pages->count * pages->page);
    return 0;
}

/* Whether NORIA_MOST_LENT pages from that one on are there, and read. */
static bool are_out(const struct noria_pages *pages, uint32_t first)
{
    if (first + NORIA_MOST_LENT > pages->count)
        return false;
    for (uint32_t i = first; i < first + NORIA_MOST_LENT; i++)
        if (pages->ends[i] > pages->out)
            return false;
    return true;
}

/* How many bytes the pipe has, and so which pages are out; -1. Asked seldom: it takes the pipe's lock from who reads. */
static int ask(struct noria_pages *pages, int pipe)
{
    int held;

    if (ioctl(pipe, FIONREAD, &held) != 0)
        return -1;
    if (held >= 0 && (uint64_t)held <= pages->put)
        pages->out = pages->put - (uint64_t)held;
    return held;
}

/* How many pages fit into a pipe that was full, at most: others in it may not be full. */
static int room_of(struct noria_pages *pages, int pipe)
{
    int held = ask(pages, pipe), size = fcntl(pipe, F_GETPIPE_SZ);
    int room = held < 0 || size < 0 ? NORIA_MOST_LENT : (size - held) / (int)pages->page;

    return room < NORIA_MOST_LENT ? room : NORIA_MOST_LENT;
}

int noria_pages_take(struct noria_pages *pages, const struct noria_end *end, uint8_t **first)
{
    int room = NORIA_MOST_LENT;

    if (pages->bytes == NULL && make(pages, end->fd) != 0)
        return -ENOTSUP;
    if (pages->was_full && (room = room_of(pages, end->fd)) <= 0)
        return -EAGAIN;
    if (!are_out(pages, pages->next)) {
        if (!pages->was_full) /* else it has just been asked */
            ask(pages, end->fd);
        if (are_out(pages, 0))
            pages->next = 0;
        else if (!are_out(pages, pages->next))
            return -ENOTSUP;
    }
    *first = pages->bytes + (size_t)pages->next * pages->page;
    return room;
}

static void note_put(struct noria_pages *pages, const struct iovec *pieces, size_t taken)
{
    for (; taken != 0; pieces++) {
        size_t at = (size_t)((uint8_t *)pieces->iov_base - pages->bytes);
        size_t to = at + (pieces->iov_len < taken ? pieces->iov_len : taken);
        taken -= to - at;
        while (at < to) {
            size_t page = at / pages->page, end = (page + 1) * pages->page;
            pages->put += (end < to ? end : to) - at;
            pages->ends[page] = pages->put;
            pages->next = (uint32_t)page + 1;
            at = end;
        }
    }
}

ssize_t noria_pages_put(struct noria_pages *pages, struct noria_end *end, const struct iovec *pieces, int n)
{
    ssize_t taken = noria_end_lend(end, pieces, n);
    size_t size = 0;

    for (int i = 0; i < n; i++)
        size += pieces[i].iov_len;
    pages->was_full = taken < (ssize_t)size;
    if (taken > 0)
        note_put(pages, pieces, (size_t)taken);
    return taken;
}

void noria_pages_free(struct noria_pages *pages)
{
    if (pages->bytes != NULL)
        munmap(pages->bytes, size_of(pages));
    *pages = (struct noria_pages){0};
}
