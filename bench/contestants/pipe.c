/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pipe, messages of one size. Calls block where one sender meets one receiver; with many receivers they
 * must not (the last message of a run goes to one of them only), so there a failed try sleeps in poll.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../contestant.h"
#include "framed.h"

enum { PIPE_BYTES_DEFAULT = 64 << 10, PIPE_BYTES_MOST = 1 << 20 };

struct pipe_side {
    int end[2];
    uint8_t *scratch;
    uint32_t ready;
};

/* Writes of more than PIPE_BUF bytes may be torn apart by other writers. */
static size_t pipe_footprint(const struct cell *cell)
{
    return cell->mpmc && !cell->round_trip && cell->size * cell->batch > PIPE_BUF ? 0 : sizeof(int[2]);
}

static void widen(int end, const struct cell *cell)
{
    size_t bytes = (size_t)cell_slots(cell) * cell->size;

    if (bytes > PIPE_BYTES_DEFAULT)
        fcntl(end, F_SETPIPE_SZ, bytes < PIPE_BYTES_MOST ? (int)bytes : PIPE_BYTES_MOST);
}

static int pipe_format(void *memory, const struct cell *cell)
{
    int *end = memory;

    if (pipe2(end, cell->mpmc && !cell->round_trip ? O_NONBLOCK : 0) != 0)
        return -errno;
    widen(end[1], cell);
    return 0;
}

static int pipe_join(struct pipe_side *side, const struct seat *seat)
{
    memcpy(side->end, seat->memory, sizeof side->end);
    side->scratch = seat->scratch;
    return 0;
}

static inline uint8_t *pipe_place(struct pipe_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return side->scratch + i * size;
}

static inline uint32_t pipe_publish(struct pipe_side *side, uint32_t from, uint32_t to, size_t size,
                                    uint32_t batch)
{
    size_t done = 0, bytes = (to - from) * size;

    (void)batch;
    while (done < bytes) {
        ssize_t wrote = write(side->end[1], side->scratch + from * size + done, bytes - done);

        if (wrote < 0 && done == 0)
            return 0;
        if (wrote > 0)
            done += (size_t)wrote;
    }
    return to - from;
}

static inline const uint8_t *pipe_arrived(struct pipe_side *side, uint32_t i, size_t size, uint32_t batch)
{
    size_t done = 0;

    if (i > 0)
        return i < side->ready ? side->scratch + i * size : NULL;
    do {
        ssize_t got = read(side->end[0], side->scratch + done, size * batch - done);

        if (got <= 0 && done == 0)
            return NULL;
        if (got > 0)
            done += (size_t)got;
    } while (done % size != 0);
    side->ready = (uint32_t)(done / size);
    return side->scratch;
}

static inline void pipe_release(struct pipe_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void pipe_wait(struct pipe_side *side, enum role role)
{
    struct pollfd end = {.fd = side->end[role == ROLE_PRODUCER],
                         .events = role == ROLE_PRODUCER ? POLLOUT : POLLIN};

    poll(&end, 1, 1);
}

#define CONTESTANT pipe
#define CONTESTANT_NAME "pipe"
#define CONTESTANT_CALLS "write, read; blocking, with many participants poll"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC | WAITS_ITSELF | USES_KERNEL)
#define CONTESTANT_WAIT pipe_wait
#include "../traffic.h"

/* The same where the others send batches: what putting several messages into one call is measured against. */
struct single_pipe_side {
    struct pipe_side side;
};

static size_t single_pipe_footprint(const struct cell *cell)
{
    return cell->batch > 1 ? pipe_footprint(cell) : 0;
}

static int single_pipe_format(void *memory, const struct cell *cell)
{
    return pipe_format(memory, cell);
}

static int single_pipe_join(struct single_pipe_side *side, const struct seat *seat)
{
    return pipe_join(&side->side, seat);
}

static inline uint8_t *single_pipe_place(struct single_pipe_side *side, uint32_t i, size_t size, uint32_t batch)
{
    return pipe_place(&side->side, i, size, batch);
}

static inline uint32_t single_pipe_publish(struct single_pipe_side *side, uint32_t from, uint32_t to, size_t size,
                                           uint32_t batch)
{
    uint32_t i = from;

    while (i < to && pipe_publish(&side->side, i, i + 1, size, batch) == 1)
        i++;
    return i - from;
}

static inline const uint8_t *single_pipe_arrived(struct single_pipe_side *side, uint32_t i, size_t size,
                                                 uint32_t batch)
{
    (void)i, (void)batch;
    return pipe_arrived(&side->side, 0, size, 1);
}

static inline void single_pipe_release(struct single_pipe_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void single_pipe_wait(struct single_pipe_side *side, enum role role)
{
    pipe_wait(&side->side, role);
}

#define CONTESTANT single_pipe
#define CONTESTANT_NAME "pipe one by one"
#define CONTESTANT_CALLS "write, read of one message each, also in batches"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT single_pipe_wait
#include "../traffic.h"

/* Named, and in a file system, which is told of each write and read. */
#define fifo_side pipe_side

static size_t fifo_footprint(const struct cell *cell)
{
    return cell->mpmc || cell->round_trip || (cell->size != 64 && cell->size != 4096) ? 0 : pipe_footprint(cell);
}

static int fifo_format(void *memory, const struct cell *cell)
{
    int *end = memory;
    char path[64];

    snprintf(path, sizeof path, "/tmp/noria-bench-bare-%d", getpid());
    if (mkfifo(path, 0600) != 0)
        return -errno;
    end[0] = open(path, O_RDONLY | O_NONBLOCK);
    end[1] = open(path, O_WRONLY);
    unlink(path);
    if (end[0] < 0 || end[1] < 0 || fcntl(end[0], F_SETFL, O_RDONLY) != 0)
        return -errno;
    widen(end[1], cell);
    return 0;
}

/* Once it is open it is a pipe. */
#define fifo_join pipe_join
#define fifo_place pipe_place
#define fifo_publish pipe_publish
#define fifo_arrived pipe_arrived
#define fifo_release pipe_release
#define fifo_wait pipe_wait
#define CONTESTANT fifo
#define CONTESTANT_NAME "fifo"
#define CONTESTANT_CALLS "write, read; blocking, of a named pipe"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT fifo_wait
#include "../traffic.h"

/* With boundaries: what noria's adapters are told against where the job is the same. */
FRAMED(pipe_framed, false)
#define pipe_framed_footprint fifo_footprint
#define pipe_framed_format pipe_format
#define CONTESTANT pipe_framed
#define CONTESTANT_NAME "pipe framed"
#define CONTESTANT_CALLS "write, read; a length in front of each message"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#include "../traffic.h"

FRAMED(fifo_framed, false)
#define fifo_framed_footprint fifo_footprint
#define fifo_framed_format fifo_format
#define CONTESTANT fifo_framed
#define CONTESTANT_NAME "fifo framed"
#define CONTESTANT_CALLS "the same of a named pipe"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#include "../traffic.h"
