/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria's channels where there is no shared memory, against the bare mechanism in the same run (pipe.c,
 * unix_socket.c, stream_socket.c, posix_mq.c, sysv_mq.c): what frames, many senders and the end of a stream cost, and
 * what packing several messages into one call gives.
 */
#include <noria/noria.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../contestant.h"

struct adapter_side {
    noria_channel *channel;
    uint8_t *scratch;
    uint32_t ready;
};

/* What is in the shared memory: two descriptors that the participants inherit, or a name's number. */
struct adapter_memory {
    int end[2];
    unsigned number;
};

enum carrier { BY_PIPE, BY_GUARDED_PIPE, BY_PACKETS, BY_STREAM, BY_QUEUE, BY_SYSV, BY_UNIX, BY_TCP, BY_FIFO };
enum { PIPE_MOST = 1 << 20 };

static bool has_name(enum carrier carrier)
{
    return carrier >= BY_QUEUE;
}

static bool is_pipe(enum carrier carrier)
{
    return carrier == BY_PIPE || carrier == BY_GUARDED_PIPE;
}

/* What came first takes part everywhere, the others where there is something to tell them against. */
static size_t adapter_footprint(const struct cell *cell, enum carrier carrier)
{
    bool always = carrier == BY_PIPE || carrier == BY_PACKETS || carrier == BY_QUEUE;

    if (cell->mpmc || (!always && (cell->round_trip || (cell->size != 64 && cell->size != 4096))))
        return 0;
    return sizeof(struct adapter_memory);
}

/* The name, of the harness' process and that number. */
static void name_it(char *address, size_t size, enum carrier carrier, int harness, unsigned number)
{
    switch (carrier) {
    case BY_QUEUE: snprintf(address, size, "mq:/noria-bench-%d-%u", harness, number); break;
    case BY_SYSV: snprintf(address, size, "svmq:%u", 100000000 + (unsigned)harness % 100000 * 10000 + number); break;
    case BY_UNIX: snprintf(address, size, "unix:/tmp/noria-bench-%d-%u", harness, number); break;
    case BY_TCP: snprintf(address, size, "tcp::%u", 31000 + ((unsigned)harness + number) % 1700); break;
    default: snprintf(address, size, "fifo:/tmp/noria-bench-%d-%u", harness, number); break;
    }
}

/* As the bare ones: the packets' and the pipe's buffers are large enough, the others the system's; queues are of who may
 * pass limits. */
static int adapter_format(void *memory, const struct cell *cell, enum carrier carrier)
{
    static unsigned made;
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    struct adapter_memory *shared = memory;
    size_t bytes = (size_t)cell_slots(cell) * cell->size;
    int rc = 0;

    shared->number = made++;
    if (is_pipe(carrier))
        rc = pipe(shared->end);
    else if (carrier == BY_PACKETS || carrier == BY_STREAM)
        rc = socketpair(AF_UNIX, carrier == BY_STREAM ? SOCK_STREAM : SOCK_SEQPACKET, 0, shared->end);
    else if (carrier == BY_QUEUE)
        setrlimit(RLIMIT_MSGQUEUE, &all);
    if (rc == 0 && is_pipe(carrier) && bytes > 65536)
        fcntl(shared->end[1], F_SETPIPE_SZ, bytes < PIPE_MOST ? (int)bytes : PIPE_MOST);
    if (rc == 0 && carrier == BY_PACKETS &&
        setsockopt(shared->end[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(int)) != 0)
        setsockopt(shared->end[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(int));
    return rc == 0 ? 0 : -errno;
}

static void adapter_close(void *memory, enum carrier carrier)
{
    struct adapter_memory *shared = memory;
    char address[64];

    name_it(address, sizeof address, carrier, getpid(), shared->number);
    if (has_name(carrier))
        noria_unlink(address);
    else
        close(shared->end[0]), close(shared->end[1]);
}

static int adapter_join(struct adapter_side *side, const struct seat *seat, enum carrier carrier)
{
    const struct adapter_memory *shared = seat->memory;
    int which = seat->role == ROLE_PRODUCER;
    struct noria_options options;
    char address[64];

    noria_options_init(&options);
    options.max_message = seat->cell->size;
    options.capacity = cell_slots(seat->cell);
    if (carrier == BY_PIPE || carrier == BY_FIFO) {
        signal(SIGPIPE, SIG_IGN);
        options.sigpipe_ignored = 1;
        options.reader_copies = 1;
    }
    side->scratch = seat->scratch;
    if (has_name(carrier))
        name_it(address, sizeof address, carrier, getppid(), shared->number);
    else
        snprintf(address, sizeof address, "fd:%d", shared->end[which]);
    return noria_open(&side->channel, address, (which ? NORIA_SEND : NORIA_RECV) | NORIA_CREATE, &options);
}

static inline uint32_t adapter_publish(struct adapter_side *side, uint32_t from, uint32_t to, size_t size)
{
    struct iovec messages[BENCH_BATCH];
    int sent;

    if (to - from == 1)
        return noria_send(side->channel, side->scratch + from * size, size, -1) == 0;
    for (uint32_t i = from; i < to; i++)
        messages[i - from] = (struct iovec){side->scratch + i * size, size};
    sent = noria_send_many(side->channel, messages, (int)(to - from), -1);
    return sent > 0 ? (uint32_t)sent : 0;
}

static inline const uint8_t *adapter_arrived(struct adapter_side *side, uint32_t i, size_t size, uint32_t batch)
{
    struct iovec buffers[BENCH_BATCH];
    int got;

    if (i > 0)
        return i < side->ready ? side->scratch + i * size : NULL;
    for (uint32_t k = 0; k < batch; k++)
        buffers[k] = (struct iovec){side->scratch + k * size, size};
    got = batch == 1 ? noria_recv(side->channel, side->scratch, size, -1, NULL) >= 0
                     : noria_recv_many(side->channel, buffers, (int)batch, -1, NULL);
    side->ready = got > 0 ? (uint32_t)got : 0;
    return got > 0 ? side->scratch : NULL;
}

#define ADAPTER(name, carrier) \
    struct name##_side { \
        struct adapter_side side; \
    }; \
    static size_t name##_footprint(const struct cell *cell) \
    { \
        return adapter_footprint(cell, carrier); \
    } \
    static int name##_format(void *memory, const struct cell *cell) \
    { \
        return adapter_format(memory, cell, carrier); \
    } \
    static void name##_close_all(void *memory) \
    { \
        adapter_close(memory, carrier); \
    } \
    static int name##_join(struct name##_side *side, const struct seat *seat) \
    { \
        return adapter_join(&side->side, seat, carrier); \
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
        return adapter_publish(&side->side, from, to, size); \
    } \
    static inline const uint8_t *name##_arrived(struct name##_side *side, uint32_t i, size_t size, uint32_t batch) \
    { \
        return adapter_arrived(&side->side, i, size, batch); \
    } \
    static inline void name##_release(struct name##_side *side, uint32_t n, size_t size, uint32_t batch) \
    { \
        (void)side, (void)n, (void)size, (void)batch; \
    } \
    static inline void name##_wait(struct name##_side *side, enum role role) \
    { \
        (void)side, (void)role; \
    }

ADAPTER(over_pipe, BY_PIPE)
#define CONTESTANT over_pipe
#define CONTESTANT_NAME "noria over a pipe"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at fd:N"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT over_pipe_wait
#define CONTESTANT_CLOSE over_pipe_close_all
#include "../traffic.h"

ADAPTER(over_guarded_pipe, BY_GUARDED_PIPE)
#define CONTESTANT over_guarded_pipe
#define CONTESTANT_NAME "noria over a pipe, guarded"
#define CONTESTANT_CALLS "the same; the program does not promise to ignore SIGPIPE"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT over_guarded_pipe_wait
#define CONTESTANT_CLOSE over_guarded_pipe_close_all
#include "../traffic.h"

ADAPTER(over_packets, BY_PACKETS)
#define CONTESTANT over_packets
#define CONTESTANT_NAME "noria over a unix socket"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at fd:N"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT over_packets_wait
#define CONTESTANT_CLOSE over_packets_close_all
#include "../traffic.h"

ADAPTER(over_queue, BY_QUEUE)
#define CONTESTANT over_queue
#define CONTESTANT_NAME "noria over a posix mq"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at mq:/name"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT over_queue_wait
#define CONTESTANT_CLOSE over_queue_close_all
#include "../traffic.h"

ADAPTER(over_stream, BY_STREAM)
#define CONTESTANT over_stream
#define CONTESTANT_NAME "noria over a unix stream"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at fd:N"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT over_stream_wait
#define CONTESTANT_CLOSE over_stream_close_all
#include "../traffic.h"

ADAPTER(at_unix, BY_UNIX)
#define CONTESTANT at_unix
#define CONTESTANT_NAME "noria at unix:"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at unix:/path"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT at_unix_wait
#define CONTESTANT_CLOSE at_unix_close_all
#include "../traffic.h"

ADAPTER(at_tcp, BY_TCP)
#define CONTESTANT at_tcp
#define CONTESTANT_NAME "noria at tcp:"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at tcp::port"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT at_tcp_wait
#define CONTESTANT_CLOSE at_tcp_close_all
#include "../traffic.h"

ADAPTER(at_fifo, BY_FIFO)
#define CONTESTANT at_fifo
#define CONTESTANT_NAME "noria at fifo:"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at fifo:/path"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT at_fifo_wait
#define CONTESTANT_CLOSE at_fifo_close_all
#include "../traffic.h"

ADAPTER(at_svmq, BY_SYSV)
#define CONTESTANT at_svmq
#define CONTESTANT_NAME "noria at svmq:"
#define CONTESTANT_CALLS "noria_send, noria_recv, and their many-forms, at svmq:KEY"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT at_svmq_wait
#define CONTESTANT_CLOSE at_svmq_close_all
#include "../traffic.h"
