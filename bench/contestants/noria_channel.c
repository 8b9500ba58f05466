/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria's channels, through the library, in each way to wait. "asleep" goes to sleep at once when there is nothing (most_spins
 * 0); otherwise a call spins as long as that pays. "by fd" waits in poll, at the descriptor of noria_fd. With "32
 * priorities" each sender has a level of its own; "in turn" it sends each message at another one, and its order is that of
 * each level.
 */
#include <noria/noria.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../contestant.h"

enum { BY_CALL = 0, BY_FD = 1, BY_LEVEL = 2, BY_LEVEL_IN_TURN = 3, LEVELS = 32, MOST_SPINS = 1000 };
#define HAS_LEVELS(how) ((how) == BY_LEVEL || (how) == BY_LEVEL_IN_TURN)

struct channel_side {
    noria_channel *channel;
    uint8_t *scratch;
    uint32_t ready;
    uint32_t level;
    int fd; /* -1: waits in the call */
};

static int channel_format(void *memory, const struct cell *cell, uint32_t wait, uint32_t most_spins, int how)
{
    static unsigned made;
    struct noria_options options;
    char address[64];
    int rc;

    noria_options_init(&options);
    options.kind = cell->mpmc ? NORIA_KIND_MPMC : NORIA_KIND_SPSC;
    options.capacity = cell_slots(cell);
    options.max_message = cell->size;
    options.max_participants = 2 * BENCH_MOST_SIDE;
    options.wait = wait;
    options.priorities = HAS_LEVELS(how) ? LEVELS : 1;
    options.most_spins = most_spins;
    snprintf(address, sizeof address, "shm:/noria-bench-%d-%u", getpid(), made++);
    rc = noria_open(memory, address, NORIA_CREATE | NORIA_EXCL, &options);
    if (rc == 0)
        noria_unlink(address); /* the participants have the handle; what is left goes with the last one */
    return rc;
}

static void channel_close(void *memory)
{
    noria_close(*(noria_channel **)memory);
}

/* The participants are children of the process that formats, or threads of it. */
static int channel_join(struct channel_side *side, const struct seat *seat, int how)
{
    int flags = seat->role == ROLE_PRODUCER ? NORIA_SEND : NORIA_RECV;
    int rc = noria_reopen(&side->channel, *(noria_channel **)seat->memory, flags);

    side->scratch = seat->scratch;
    side->fd = -1;
    side->level = (seat->index * 7 + 3) % LEVELS;
    if (rc == 0 && how == BY_FD && seat->role == ROLE_CONSUMER)
        side->fd = rc = noria_fd(side->channel, NORIA_RECV);
    return rc < 0 ? rc : 0;
}

static inline uint32_t channel_level(const struct channel_side *side, const uint8_t *message, int how)
{
    uint64_t tag;

    memcpy(&tag, message, sizeof tag);
    return how == BY_LEVEL ? side->level : (uint32_t)(message_sequence(tag) % LEVELS);
}

static inline uint32_t channel_publish(struct channel_side *side, uint32_t from, uint32_t to, size_t size, int how)
{
    struct iovec messages[BENCH_BATCH];
    int sent;

    if (HAS_LEVELS(how)) {
        const uint8_t *message = side->scratch + from * size;
        return noria_send_prio(side->channel, message, size, channel_level(side, message, how), -1) == 0;
    }
    if (to - from == 1)
        return noria_send(side->channel, side->scratch + from * size, size, -1) == 0;
    for (uint32_t i = from; i < to; i++)
        messages[i - from] = (struct iovec){side->scratch + i * size, size};
    sent = noria_send_many(side->channel, messages, (int)(to - from), -1);
    return sent > 0 ? (uint32_t)sent : 0;
}

/* Many receivers must not wait for ever: the last message of a run goes to one of them. */
static inline const uint8_t *channel_arrived(struct channel_side *side, uint32_t i, size_t size, uint32_t batch,
                                             int64_t timeout_ns)
{
    struct iovec buffers[BENCH_BATCH];
    int got;

    if (i > 0)
        return i < side->ready ? side->scratch + i * size : NULL;
    for (uint32_t k = 0; k < batch; k++)
        buffers[k] = (struct iovec){side->scratch + k * size, size};
    if (batch == 1)
        got = noria_recv(side->channel, side->scratch, size, side->fd < 0 ? timeout_ns : 0, NULL) >= 0;
    else
        got = noria_recv_many(side->channel, buffers, (int)batch, side->fd < 0 ? timeout_ns : 0, NULL);
    side->ready = got > 0 ? (uint32_t)got : 0;
    return got > 0 ? side->scratch : NULL;
}

static inline void channel_wait(struct channel_side *side)
{
    struct pollfd fd = {.fd = side->fd, .events = POLLIN};

    if (side->fd >= 0)
        poll(&fd, 1, 100);
}

/* The seven functions of one way to wait. Only the default takes part in streams. */
#define CHANNEL(name, wait, most_spins, how, in_streams) \
    struct name##_side { \
        struct channel_side side; \
    }; \
    static size_t name##_footprint(const struct cell *cell) \
    { \
        return cell->round_trip ? (cell->size == 8 && !HAS_LEVELS(how) ? sizeof(noria_channel *) : 0) \
                                : ((in_streams) && (!HAS_LEVELS(how) || (cell->mpmc && cell->batch == 1)) \
                                       ? sizeof(noria_channel *) : 0); \
    } \
    static int name##_format(void *memory, const struct cell *cell) \
    { \
        return channel_format(memory, cell, wait, most_spins, how); \
    } \
    static int name##_join(struct name##_side *side, const struct seat *seat) \
    { \
        return channel_join(&side->side, seat, how); \
    } \
    static inline uint8_t *name##_place(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        (void)batch; \
        return side->side.scratch + i * size; \
    } \
    static inline uint32_t name##_publish(struct name##_side *side, uint32_t from, uint32_t to, size_t size, \
                                          uint32_t batch) \
    { \
        (void)batch; \
        return channel_publish(&side->side, from, to, size, how); \
    } \
    static inline const uint8_t *name##_arrived(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        return channel_arrived(&side->side, i, size, batch, (in_streams) ? 1000000 : -1); \
    } \
    static inline void name##_release(struct name##_side *side, uint32_t n, size_t size, uint32_t batch) \
    { \
        (void)side, (void)n, (void)size, (void)batch; \
    } \
    static inline void name##_wait(struct name##_side *side, enum role role) \
    { \
        if (role == ROLE_CONSUMER) \
            channel_wait(&side->side); \
    }

#define CONTESTANT_TRAITS_OF_CHANNELS (TAKES_SPSC | TAKES_MPMC | WAITS_ITSELF | IS_YARDSTICK)

CHANNEL(by_default, NORIA_WAIT_FUTEX, MOST_SPINS, BY_CALL, true)
#define CONTESTANT by_default
#define CONTESTANT_NAME "noria channel"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms; spins, then sleeps on a futex"
#define CONTESTANT_TRAITS CONTESTANT_TRAITS_OF_CHANNELS
#define CONTESTANT_WAIT by_default_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(by_level, NORIA_WAIT_FUTEX, MOST_SPINS, BY_LEVEL, true)
#define CONTESTANT by_level
#define CONTESTANT_NAME "noria channel 32 priorities"
#define CONTESTANT_CALLS "noria_send_prio at one of 32 levels, noria_recv"
#define CONTESTANT_TRAITS (TAKES_MPMC | WAITS_ITSELF | IS_YARDSTICK)
#define CONTESTANT_WAIT by_level_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(by_level_in_turn, NORIA_WAIT_FUTEX, MOST_SPINS, BY_LEVEL_IN_TURN, true)
#define CONTESTANT by_level_in_turn
#define CONTESTANT_NAME "noria channel 32 priorities in turn"
#define CONTESTANT_CALLS "noria_send_prio at one of 32 levels after the other, noria_recv"
#define CONTESTANT_TRAITS (TAKES_MPMC | WAITS_ITSELF | IS_YARDSTICK)
#define CONTESTANT_WAIT by_level_in_turn_wait
#define CONTESTANT_CLOSE channel_close
#define CONTESTANT_LANES LEVELS
#include "../traffic.h"

CHANNEL(on_spin, NORIA_WAIT_SPIN, MOST_SPINS, BY_CALL, false)
#define CONTESTANT on_spin
#define CONTESTANT_NAME "noria channel spin"
#define CONTESTANT_CALLS "noria_send, noria_recv; never sleeps"
#define CONTESTANT_TRAITS CONTESTANT_TRAITS_OF_CHANNELS
#define CONTESTANT_WAIT on_spin_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_yield, NORIA_WAIT_YIELD, MOST_SPINS, BY_CALL, false)
#define CONTESTANT on_yield
#define CONTESTANT_NAME "noria channel yield"
#define CONTESTANT_CALLS "noria_send, noria_recv; never sleeps, yields"
#define CONTESTANT_TRAITS CONTESTANT_TRAITS_OF_CHANNELS
#define CONTESTANT_WAIT on_yield_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_futex, NORIA_WAIT_FUTEX, 0, BY_CALL, false)
#define CONTESTANT on_futex
#define CONTESTANT_NAME "noria channel futex, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_futex_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_mutex, NORIA_WAIT_MUTEX, 0, BY_CALL, false)
#define CONTESTANT on_mutex
#define CONTESTANT_NAME "noria channel mutex, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_mutex_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_semaphore, NORIA_WAIT_SEMAPHORE, 0, BY_CALL, false)
#define CONTESTANT on_semaphore
#define CONTESTANT_NAME "noria channel semaphore, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_semaphore_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_sysv_semaphore, NORIA_WAIT_SYSV_SEMAPHORE, 0, BY_CALL, false)
#define CONTESTANT on_sysv_semaphore
#define CONTESTANT_NAME "noria channel sysv-semaphore, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_sysv_semaphore_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_eventfd, NORIA_WAIT_EVENTFD, 0, BY_CALL, false)
#define CONTESTANT on_eventfd
#define CONTESTANT_NAME "noria channel eventfd, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_eventfd_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(on_fifo, NORIA_WAIT_FIFO, 0, BY_CALL, false)
#define CONTESTANT on_fifo
#define CONTESTANT_NAME "noria channel fifo, asleep"
#define CONTESTANT_CALLS "noria_send, noria_recv; sleeps at once"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT on_fifo_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"

CHANNEL(by_fd, NORIA_WAIT_FIFO, 0, BY_FD, false)
#define CONTESTANT by_fd
#define CONTESTANT_NAME "noria channel fifo, by fd"
#define CONTESTANT_CALLS "noria_send; noria_recv with timeout 0, then poll"
#define CONTESTANT_TRAITS (CONTESTANT_TRAITS_OF_CHANNELS | USES_KERNEL)
#define CONTESTANT_WAIT by_fd_wait
#define CONTESTANT_CLOSE channel_close
#include "../traffic.h"
