/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes through a pair of stream sockets, messages of one size: Unix sockets, and TCP on loopback. Buffers are the
 * system's. What noria's adapters over them are told against, so only in the cells of those goals.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../contestant.h"
#include "framed.h"

struct stream_side {
    int fd;
    uint8_t *scratch;
    uint32_t ready;
};

static size_t stream_footprint(const struct cell *cell)
{
    return cell->mpmc || cell->round_trip || (cell->size != 64 && cell->size != 4096) ? 0 : sizeof(int[2]);
}

static int format_unix(int end[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM, 0, end) == 0 ? 0 : -errno;
}

static int format_tcp(int end[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    const int yes = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0), rc = 0;

    end[1] = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0 ||
        connect(end[1], (struct sockaddr *)&at, size) != 0 || (end[0] = accept(listener, NULL, NULL)) < 0 ||
        setsockopt(end[1], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        rc = -errno;
    close(listener);
    return rc;
}

static void stream_close(void *memory)
{
    int *end = memory;

    close(end[0]);
    close(end[1]);
}

static int stream_join(struct stream_side *side, const struct seat *seat)
{
    side->fd = ((const int *)seat->memory)[seat->role == ROLE_PRODUCER];
    side->scratch = seat->scratch;
    return 0;
}

static inline uint32_t stream_publish(struct stream_side *side, uint32_t from, uint32_t to, size_t size)
{
    size_t done = 0, bytes = (to - from) * size;

    while (done < bytes) {
        ssize_t sent = send(side->fd, side->scratch + from * size + done, bytes - done, MSG_NOSIGNAL);

        if (sent < 0 && done == 0)
            return 0;
        if (sent > 0)
            done += (size_t)sent;
    }
    return to - from;
}

static inline const uint8_t *stream_arrived(struct stream_side *side, uint32_t i, size_t size, uint32_t batch)
{
    size_t done = 0;

    if (i > 0)
        return i < side->ready ? side->scratch + i * size : NULL;
    do {
        ssize_t got = recv(side->fd, side->scratch + done, size * batch - done, 0);

        if (got <= 0 && done == 0)
            return NULL;
        if (got > 0)
            done += (size_t)got;
    } while (done % size != 0);
    side->ready = (uint32_t)(done / size);
    return side->scratch;
}

/* `of`: so many messages at once. */
#define STREAM(name, make, of) \
    struct name##_side { \
        struct stream_side side; \
    }; \
    static size_t name##_footprint(const struct cell *cell) \
    { \
        return of == 1 && cell->batch == 1 ? 0 : stream_footprint(cell); \
    } \
    static int name##_format(void *memory, const struct cell *cell) \
    { \
        (void)cell; \
        return make(memory); \
    } \
    static int name##_join(struct name##_side *side, const struct seat *seat) \
    { \
        return stream_join(&side->side, seat); \
    } \
    static inline uint8_t *name##_place(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        (void)batch; \
        return side->side.scratch + i * size; \
    } \
    static inline uint32_t name##_publish(struct name##_side *side, uint32_t from, uint32_t to, size_t size, \
                                          uint32_t batch) \
    { \
        uint32_t i = from; \
\
        (void)batch; \
        if (of != 1) \
            return stream_publish(&side->side, from, to, size); \
        while (i < to && stream_publish(&side->side, i, i + 1, size) == 1) \
            i++; \
        return i - from; \
    } \
    static inline const uint8_t *name##_arrived(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        return of == 1 ? stream_arrived(&side->side, 0, size, 1) : stream_arrived(&side->side, i, size, batch); \
    } \
    static inline void name##_release(struct name##_side *side, uint32_t n, size_t size, uint32_t batch) \
    { \
        (void)side, (void)n, (void)size, (void)batch; \
    } \
    static inline void name##_wait(struct name##_side *side, enum role role) \
    { \
        (void)side, (void)role; \
    }

STREAM(unix_stream, format_unix, BENCH_BATCH)
#define CONTESTANT unix_stream
#define CONTESTANT_NAME "unix stream"
#define CONTESTANT_CALLS "SOCK_STREAM send, recv; blocking"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT unix_stream_wait
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"

STREAM(single_unix_stream, format_unix, 1)
#define CONTESTANT single_unix_stream
#define CONTESTANT_NAME "unix stream one by one"
#define CONTESTANT_CALLS "send, recv of one message each, also in batches"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT single_unix_stream_wait
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"

STREAM(tcp, format_tcp, BENCH_BATCH)
#define CONTESTANT tcp
#define CONTESTANT_NAME "tcp"
#define CONTESTANT_CALLS "send, recv on loopback, TCP_NODELAY; blocking"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT tcp_wait
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"

STREAM(single_tcp, format_tcp, 1)
#define CONTESTANT single_tcp
#define CONTESTANT_NAME "tcp one by one"
#define CONTESTANT_CALLS "send, recv of one message each, also in batches"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT single_tcp_wait
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"

/* With boundaries: what noria's adapters are told against where the job is the same. */
#define FRAMED_STREAM(name, make) \
    FRAMED(name, true) \
    static int name##_format(void *memory, const struct cell *cell) \
    { \
        (void)cell; \
        return make(memory); \
    }

FRAMED_STREAM(unix_framed, format_unix)
#define unix_framed_footprint stream_footprint
#define CONTESTANT unix_framed
#define CONTESTANT_NAME "unix stream framed"
#define CONTESTANT_CALLS "send, recv; a length in front of each message"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"

FRAMED_STREAM(tcp_framed, format_tcp)
#define tcp_framed_footprint stream_footprint
#define CONTESTANT tcp_framed
#define CONTESTANT_NAME "tcp framed"
#define CONTESTANT_CALLS "the same of TCP on loopback"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_CLOSE stream_close
#include "../traffic.h"
