/* SPDX-License-Identifier: BSD-2-Clause */
/* A pair of Unix sockets that keep message boundaries (SOCK_SEQPACKET). Batches by sendmmsg and recvmmsg. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "../contestant.h"

struct socket_side {
    int end[2]; /* 0 receives, 1 sends */
    int flags;
    uint32_t ready;
    uint8_t *scratch;
    struct iovec part[BENCH_BATCH];
    struct mmsghdr message[BENCH_BATCH];
};

static size_t socket_footprint(const struct cell *cell)
{
    (void)cell;
    return sizeof(int[2]);
}

static int socket_format(void *memory, const struct cell *cell)
{
    int *end = memory, bytes = (int)(cell_slots(cell) * cell->size);

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, end) != 0)
        return -errno;
    if (setsockopt(end[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
        setsockopt(end[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return 0;
}

static int socket_join(struct socket_side *side, const struct seat *seat)
{
    memcpy(side->end, seat->memory, sizeof side->end);
    side->scratch = seat->scratch;
    side->flags = seat->cell->mpmc && !seat->cell->round_trip ? MSG_DONTWAIT : 0;
    for (uint32_t i = 0; i < seat->cell->batch; i++) {
        side->part[i] = (struct iovec){side->scratch + (size_t)i * seat->cell->size, seat->cell->size};
        side->message[i].msg_hdr = (struct msghdr){.msg_iov = &side->part[i], .msg_iovlen = 1};
    }
    return 0;
}

static inline uint8_t *socket_place(struct socket_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return side->scratch + i * size;
}

static inline uint32_t socket_publish(struct socket_side *side, uint32_t from, uint32_t to, size_t size,
                                      uint32_t batch)
{
    int sent;

    if (batch == 1)
        return send(side->end[1], side->scratch, size, side->flags) == (ssize_t)size;
    sent = sendmmsg(side->end[1], &side->message[from], to - from, side->flags);
    return sent > 0 ? (uint32_t)sent : 0;
}

static inline const uint8_t *socket_arrived(struct socket_side *side, uint32_t i, size_t size, uint32_t batch)
{
    int got;

    if (batch == 1)
        return recv(side->end[0], side->scratch, size, side->flags) == (ssize_t)size ? side->scratch : NULL;
    if (i == 0) {
        got = recvmmsg(side->end[0], side->message, batch, side->flags | MSG_WAITFORONE, NULL);
        side->ready = got > 0 ? (uint32_t)got : 0;
    }
    return i < side->ready ? side->scratch + i * size : NULL;
}

static inline void socket_release(struct socket_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void socket_wait(struct socket_side *side, enum role role)
{
    struct pollfd end = {.fd = side->end[role == ROLE_PRODUCER],
                         .events = role == ROLE_PRODUCER ? POLLOUT : POLLIN};

    poll(&end, 1, 1);
}

#define CONTESTANT socket
#define CONTESTANT_NAME "unix socket"
#define CONTESTANT_CALLS \
    "SOCK_SEQPACKET send, recv, sendmmsg, recvmmsg; blocking, with many participants poll"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC | WAITS_ITSELF | USES_KERNEL)
#define CONTESTANT_WAIT socket_wait
#include "../traffic.h"

/* The same where the others send batches: what putting several messages into one call is measured against. */
struct single_socket_side {
    struct socket_side side;
};

static size_t single_socket_footprint(const struct cell *cell)
{
    return cell->batch > 1 ? socket_footprint(cell) : 0;
}

static int single_socket_format(void *memory, const struct cell *cell)
{
    return socket_format(memory, cell);
}

static int single_socket_join(struct single_socket_side *side, const struct seat *seat)
{
    return socket_join(&side->side, seat);
}

static inline uint8_t *single_socket_place(struct single_socket_side *side, uint32_t i, size_t size,
                                           uint32_t batch)
{
    return socket_place(&side->side, i, size, batch);
}

static inline uint32_t single_socket_publish(struct single_socket_side *side, uint32_t from, uint32_t to,
                                             size_t size, uint32_t batch)
{
    uint32_t i = from;

    (void)batch;
    while (i < to && send(side->side.end[1], side->side.scratch + i * size, size, side->side.flags) == (ssize_t)size)
        i++;
    return i - from;
}

static inline const uint8_t *single_socket_arrived(struct single_socket_side *side, uint32_t i, size_t size,
                                                   uint32_t batch)
{
    (void)i, (void)batch;
    return socket_arrived(&side->side, 0, size, 1);
}

static inline void single_socket_release(struct single_socket_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void single_socket_wait(struct single_socket_side *side, enum role role)
{
    socket_wait(&side->side, role);
}

#define CONTESTANT single_socket
#define CONTESTANT_NAME "unix socket one by one"
#define CONTESTANT_CALLS "send, recv of one message each, also in batches"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT single_socket_wait
#include "../traffic.h"
