/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages of any size over a pipe or a stream, as a careful program does it by hand: a length in front of each, put
 * together where they are sent from and sent by one call; the receiver reads as much as there is and hands messages out
 * where they lie. It is what keeping boundaries costs at least: no numbers, no second writer, nobody who begins in the
 * middle.
 */
#ifndef BENCH_FRAMED_H
#define BENCH_FRAMED_H

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../contestant.h"

/* Four bytes of length, and four before them, by which messages lie aligned: their words are read where they are. */
enum { FRAMED_LENGTH = sizeof(uint32_t), FRAMED_BEFORE = 2 * FRAMED_LENGTH };
enum { FRAMED_PAGE = 4096, FRAMED_MOST_READ = 128 << 10 }; /* copies between pages that begin alike are the fast ones */

struct framed_side {
    int fd;
    uint8_t *buffer;
    size_t from, to; /* what has been read and not been handed out */
};

static int framed_join(struct framed_side *side, const struct seat *seat)
{
    bool sends = seat->role == ROLE_PRODUCER;
    size_t bytes = sends ? (FRAMED_BEFORE + seat->cell->size) * (size_t)seat->cell->batch : FRAMED_MOST_READ;
    void *buffer = NULL;
    int error = posix_memalign(&buffer, FRAMED_PAGE, bytes);

    side->fd = ((const int *)seat->memory)[sends];
    side->buffer = buffer;
    return -error;
}

static inline uint8_t *framed_place(struct framed_side *side, uint32_t i, size_t size)
{
    return side->buffer + i * (FRAMED_BEFORE + size) + FRAMED_BEFORE;
}

static inline uint32_t framed_publish(struct framed_side *side, uint32_t from, uint32_t to, size_t size, bool is_socket)
{
    const uint8_t *next = framed_place(side, from, size) - FRAMED_BEFORE, *end = framed_place(side, to, size) - FRAMED_BEFORE;
    const uint32_t length = (uint32_t)size;

    for (uint32_t i = from; i < to; i++)
        memcpy(framed_place(side, i, size) - FRAMED_LENGTH, &length, sizeof length);
    while (next < end) {
        size_t left = (size_t)(end - next);
        ssize_t wrote = is_socket ? send(side->fd, next, left, MSG_NOSIGNAL) : write(side->fd, next, left);

        if (wrote > 0)
            next += wrote;
        else if (errno != EINTR)
            abort();
    }
    return to - from;
}

/* The next message that has wholly been read, or NULL. */
static inline const uint8_t *framed_take(struct framed_side *side, size_t size)
{
    const uint8_t *message = side->buffer + side->from + FRAMED_BEFORE;
    size_t held = side->to - side->from;
    uint32_t length;

    if (held < FRAMED_BEFORE)
        return NULL;
    memcpy(&length, message - FRAMED_LENGTH, sizeof length);
    if (length > size)
        abort();
    if (held - FRAMED_BEFORE < length)
        return NULL;
    side->from += FRAMED_BEFORE + length;
    return message;
}

static inline bool framed_read(struct framed_side *side, bool is_socket)
{
    size_t held = side->to - side->from;
    ssize_t got;

    memmove(side->buffer, side->buffer + side->from, held);
    got = is_socket ? recv(side->fd, side->buffer + held, FRAMED_MOST_READ - held, 0)
                    : read(side->fd, side->buffer + held, FRAMED_MOST_READ - held);
    side->from = 0;
    side->to = held + (got > 0 ? (size_t)got : 0);
    return got > 0;
}

/* Sleeps for the first one of a batch; those that lie behind it come without a call. */
static inline const uint8_t *framed_arrived(struct framed_side *side, uint32_t i, size_t size, bool is_socket)
{
    const uint8_t *message;

    while ((message = framed_take(side, size)) == NULL && i == 0 && framed_read(side, is_socket))
        ;
    return message;
}

#define FRAMED(name, is_socket) \
    struct name##_side { \
        struct framed_side side; \
    }; \
    static int name##_join(struct name##_side *side, const struct seat *seat) \
    { \
        return framed_join(&side->side, seat); \
    } \
    static inline uint8_t *name##_place(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        (void)batch; \
        return framed_place(&side->side, i, size); \
    } \
    static inline uint32_t name##_publish(struct name##_side *side, uint32_t from, uint32_t to, size_t size, \
                                          uint32_t batch) \
    { \
        (void)batch; \
        return framed_publish(&side->side, from, to, size, is_socket); \
    } \
    static inline const uint8_t *name##_arrived(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        (void)batch; \
        return framed_arrived(&side->side, i, size, is_socket); \
    } \
    static inline void name##_release(struct name##_side *side, uint32_t n, size_t size, uint32_t batch) \
    { \
        (void)side, (void)n, (void)size, (void)batch; \
    }

#endif
