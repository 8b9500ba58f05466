/* SPDX-License-Identifier: BSD-2-Clause */
/* POSIX message queue, as many messages as the system allows up to the common number of slots. Waits as
 * pipe.c does. */
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../contestant.h"

enum { MQ_MESSAGES_LEAST = 10, MQ_SIZE_MOST = 8192 };

struct mq_side {
    mqd_t queue;
    char *scratch;
};

static size_t mq_footprint(const struct cell *cell)
{
    return cell->size > MQ_SIZE_MOST ? 0 : sizeof(mqd_t);
}

static int mq_format(void *memory, const struct cell *cell)
{
    static int made;
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    int flags = O_RDWR | O_CREAT | O_EXCL | (cell->mpmc && !cell->round_trip ? O_NONBLOCK : 0);
    struct mq_attr shape = {.mq_maxmsg = cell_slots(cell), .mq_msgsize = cell->size};
    char name[64];
    mqd_t queue;

    setrlimit(RLIMIT_MSGQUEUE, &all); /* works for the privileged only */
    snprintf(name, sizeof name, "/noria-bench-%d-%d", (int)getpid(), made++);
    while ((queue = mq_open(name, flags, 0600, &shape)) < 0 && shape.mq_maxmsg > MQ_MESSAGES_LEAST)
        shape.mq_maxmsg = shape.mq_maxmsg / 2 > MQ_MESSAGES_LEAST ? shape.mq_maxmsg / 2 : MQ_MESSAGES_LEAST;
    if (queue < 0)
        return -errno;
    mq_unlink(name);
    *(mqd_t *)memory = queue;
    return 0;
}

static int mq_join(struct mq_side *side, const struct seat *seat)
{
    side->queue = *(mqd_t *)seat->memory;
    side->scratch = seat->scratch;
    return 0;
}

static inline uint8_t *mq_place(struct mq_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return (uint8_t *)side->scratch + i * size;
}

static inline uint32_t mq_publish(struct mq_side *side, uint32_t from, uint32_t to, size_t size,
                                  uint32_t batch)
{
    uint32_t i = from;

    (void)batch;
    while (i < to && mq_send(side->queue, side->scratch + i * size, size, 0) == 0)
        i++;
    return i - from;
}

static inline const uint8_t *mq_arrived(struct mq_side *side, uint32_t i, size_t size, uint32_t batch)
{
    char *message = side->scratch + i * size;

    (void)batch;
    return mq_receive(side->queue, message, size, NULL) == (ssize_t)size ? (uint8_t *)message : NULL;
}

static inline void mq_release(struct mq_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void mq_wait(struct mq_side *side, enum role role)
{
    struct pollfd queue = {.fd = side->queue, .events = role == ROLE_PRODUCER ? POLLOUT : POLLIN};

    poll(&queue, 1, 1);
}

#define CONTESTANT mq
#define CONTESTANT_NAME "posix mq"
#define CONTESTANT_CALLS "mq_send, mq_receive; blocking, with many participants poll"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC | WAITS_ITSELF | USES_KERNEL)
#define CONTESTANT_WAIT mq_wait
#include "../traffic.h"
