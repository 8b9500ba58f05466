/* SPDX-License-Identifier: BSD-2-Clause */
#include "crew.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

#include "ledger.h"

#define PATIENCE_NS INT64_C(20000000)
#define BREATH_NS INT64_C(50000)
enum { BATCH = 5, HELD = 3, BURST = 32 };

static struct seat_record *record; /* of this seat */
static noria_channel *channel;
static uint64_t last[STREAMS][LEVELS]; /* numbers this process has received in order */

static bool ending(void)
{
    return __atomic_load_n(&ledger->ending, __ATOMIC_ACQUIRE) != 0;
}

static void add(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELEASE); /* one living process per seat */
}

static void check(const char *call, int rc)
{
    if (rc != -ETIMEDOUT && rc != -EAGAIN && rc != -EPIPE)
        accuse("%s returned %d: %s", call, rc, noria_detail());
}

/* ------------------------------------------------------------------------------------------------ sending */

static int send_one(uint32_t stream, uint64_t number, uint32_t levels)
{
    struct message message;
    uint32_t level = (uint32_t)(number / 3 % levels);
    size_t length = make_message(&message, stream, number, level);

    return noria_send_prio(channel, &message, length, level, PATIENCE_NS);
}

static int send_in_place(uint32_t stream, uint64_t number)
{
    struct message message;
    struct noria_span span;
    size_t length = make_message(&message, stream, number, 0);
    int rc = noria_reserve(channel, sizeof(message), &span, PATIENCE_NS);

    if (rc != 0)
        return rc;
    if (number % 7 == 0 && noria_abort(channel, &span) != 0)
        accuse("abort: %s", noria_detail());
    if (number % 7 == 0)
        return -EAGAIN;
    memcpy(span.data, &message, length);
    do
        rc = noria_commit(channel, &span, length, PATIENCE_NS);
    while (rc == -EAGAIN || rc == -ETIMEDOUT);
    return rc;
}

static int send_batch(uint32_t stream, uint64_t first)
{
    struct message messages[BATCH];
    struct iovec vectors[BATCH];

    for (uint32_t i = 0; i < BATCH; i++)
        vectors[i] = (struct iovec){&messages[i], make_message(&messages[i], stream, first + i, 0)};
    return noria_send_many(channel, vectors, BATCH, PATIENCE_NS);
}

static void send_until_told(const struct seat *seat)
{
    const struct timespec pause = {.tv_nsec = BREATH_NS};
    uint32_t stream = seat->stream;
    uint64_t next = next_number(stream);
    unsigned aborted = 0;

    while (!ending() && next + BATCH < MOST_MESSAGES) {
        int way = (int)(next + aborted) % 3, rc;
        note_attempt(stream, way == 0 ? next + BATCH - 1 : next);
        rc = way == 0   ? send_batch(stream, next)
             : way == 1 ? send_one(stream, next, seat->levels)
                        : send_in_place(stream, next);
        if (rc < 0)
            check("send", rc);
        if (rc < 0)
            aborted++; /* the same number another way */
        else
            next += way == 0 ? (uint64_t)rc : 1;
        note_committed(stream, next - 1);
        if (rc >= 0)
            add(&record->sent, 1);
        if (seat->hurries && record->sent % BURST == 0) /* waits for nobody, but the ledger has an end */
            nanosleep(&pause, NULL);
    }
}

/* ---------------------------------------------------------------------------------------------- receiving */

/* Goes on after an empty moment. False at the end of the stream, when that is wanted. */
static bool go_on(const char *call, int rc)
{
    check(call, rc);
    if (rc == -EPIPE)
        sched_yield(); /* both senders are dead just now */
    return rc != -EPIPE || !ending();
}

static void count(uint64_t messages, const struct noria_info *info)
{
    add(&record->received, messages);
    if ((info->flags & NORIA_REDELIVERED) != 0)
        add(&record->redelivered, 1);
}

/* Peeks up to HELD messages, then releases them. Nothing is released that was not noted before. */
static bool receive_in_place(bool alone)
{
    struct noria_span spans[HELD];
    struct noria_info info;
    int held = 0, rc = 0, most = 1 + (int)(record->received % HELD);

    while (held < most && (rc = noria_peek(channel, &spans[held], held == 0 ? -1 : 0, &info)) == 0) {
        note_taken(spans[held].data, spans[held].len, &info, last, alone);
        count(1, &info);
        held++;
    }
    for (int i = 0; i < held; i++) {
        struct message copy;
        memcpy(&copy, spans[i].data, spans[i].len);
        rc = noria_release(channel, &spans[i]);
        if (rc != 0)
            accuse("release returned %d: %s", rc, noria_detail());
        note_released(&copy);
    }
    return held != 0 || go_on("peek", rc);
}

static bool receive_copies(bool alone)
{
    struct message messages[BATCH];
    struct iovec vectors[BATCH];
    struct noria_info infos[BATCH];
    int n = record->received % 2 == 0 ? 1 : BATCH, rc;

    for (int i = 0; i < n; i++)
        vectors[i] = (struct iovec){&messages[i], sizeof(messages[i])};
    __atomic_store_n(&record->window, (uint64_t)n, __ATOMIC_RELEASE);
    if (n == 1) {
        ssize_t length = noria_recv(channel, &messages[0], sizeof(messages[0]), -1, infos);
        rc = length < 0 ? (int)length : 1;
        vectors[0].iov_len = length < 0 ? 0 : (size_t)length;
    } else {
        rc = noria_recv_many(channel, vectors, n, -1, infos);
    }
    for (int i = 0; i < rc; i++) {
        note_taken(&messages[i], vectors[i].iov_len, &infos[i], last, alone);
        count(1, &infos[i]);
    }
    __atomic_store_n(&record->window, 0, __ATOMIC_RELEASE);
    for (int i = 0; i < rc; i++)
        note_released(&messages[i]);
    return rc > 0 || go_on("recv", rc);
}

void work(const struct seat *seat, uint32_t number, uint64_t incarnation)
{
    struct noria_options options;
    int rc;

    noria_options_init(&options);
    options.recheck_ns = 5000000;
    record = &ledger->seats[number];
    rc = noria_open(&channel, seat->address, seat->sends ? NORIA_SEND : NORIA_RECV, &options);
    if (rc != 0)
        accuse("open returned %d: %s", rc, noria_detail());
    __atomic_store_n(&record->opened, incarnation, __ATOMIC_RELEASE);
    if (seat->sends)
        send_until_told(seat);
    else
        while (seat->copies ? receive_copies(seat->alone) : receive_in_place(seat->alone))
            continue;
    noria_close(channel);
    _exit(0);
}
