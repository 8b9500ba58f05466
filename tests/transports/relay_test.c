/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: messages from a ring through a cluster of three nats-servers into another ring: nothing is lost, what comes twice
 * is flagged, and each sender's come in order, while nodes, both bridges and the consumer are killed and start again.
 * 10,000 messages, NORIA_LONG 100,000.
 */
#include <inttypes.h>
#include <sched.h>
#include <sys/mman.h>

#include <noria/noria.h>

#include "nats_server.h"

#define SECOND INT64_C(1000000000)
enum { SENDERS = 2, HELD_UP_S = 120 };

struct message {
    uint32_t sender, number;
};

/* In shared memory, so that a death takes nothing of it along. */
static struct ledger {
    uint64_t next[SENDERS]; /* number expected */
    uint64_t again, wrong;
} * ledger;

static char from[64], to[64], through[256];
static uint64_t total, each;
static noria_channel *source; /* the ring that is sent to the cluster, as an observer sees it */


#define REQUIRES(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, noria_detail()); \
            return 1; \
        } \
    } while (0)

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int open_ring(noria_channel **channel, const char *address, int flags)
{
    struct noria_options options;

    noria_options_init(&options);
    options.max_message = sizeof(struct message);
    return noria_open(channel, address, flags | NORIA_CREATE, &options);
}

/* A cluster takes its time until it has a leader, again after each death. */
static int open_stream(noria_channel **channel, int flags)
{
    struct noria_options options;
    int64_t until_ns = now_ns() + HELD_UP_S * SECOND;
    int rc;

    noria_options_init(&options);
    options.open_timeout_ns = 5 * SECOND;
    while ((rc = noria_open(channel, through, flags | NORIA_CREATE, &options)) != 0 && now_ns() < until_ns)
        nats_nap_ms(100);
    return rc;
}

/* -------------------------------------------------------------------------------------------------------- processes */

static uint32_t whose;

static int send_numbers(void)
{
    noria_channel *channel = NULL;

    REQUIRES(open_ring(&channel, from, NORIA_SEND) == 0);
    for (uint32_t i = 0; i < each; i++) {
        struct message message = {whose, i};
        REQUIRES(noria_send(channel, &message, sizeof(message), -1) == 0);
    }
    return noria_close(channel) == 0 ? 0 : 1;
}

static int bridge_out(void)
{
    noria_channel *source = NULL, *target = NULL;

    REQUIRES(open_ring(&source, from, NORIA_RECV) == 0);
    REQUIRES(open_stream(&target, NORIA_SEND) == 0);
    REQUIRES(noria_bridge(source, target, NULL) == 0);
    return 1; /* there is always somebody who may send */
}

static int bridge_in(void)
{
    noria_channel *source = NULL, *target = NULL;

    REQUIRES(open_ring(&target, to, NORIA_SEND) == 0);
    REQUIRES(open_stream(&source, NORIA_RECV) == 0);
    REQUIRES(noria_bridge(source, target, NULL) == 0);
    return 1;
}

static int enter(const struct message *message, const struct noria_info *info)
{
    uint64_t next = message->sender < SENDERS ? ledger->next[message->sender] : 0;

    if (message->sender < SENDERS && message->number == next) {
        __atomic_store_n(&ledger->next[message->sender], next + 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    if (message->sender < SENDERS && message->number < next && (info->flags & NORIA_REDELIVERED) != 0) {
        ledger->again++;
        return 0;
    }
    ledger->wrong++;
    fprintf(stderr, "message %u of sender %u, flags %u, where %" PRIu64 " was due\n", message->number, message->sender,
            info->flags, next);
    return 1;
}

static int consume(void)
{
    noria_channel *channel = NULL;

    REQUIRES(open_ring(&channel, to, NORIA_RECV) == 0);
    for (;;) {
        struct noria_span span;
        struct noria_info info;
        REQUIRES(noria_peek(channel, &span, -1, &info) == 0);
        REQUIRES(span.len == sizeof(struct message) && enter(span.data, &info) == 0);
        REQUIRES(noria_release(channel, &span) == 0);
    }
}

static pid_t start(int (*life)(void))
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(life());
    }
    return pid;
}

static struct worker {
    const char *name;
    int (*life)(void);
    pid_t pid;
} workers[] = {{"bridge to the cluster", bridge_out, 0},
                                  {"bridge from the cluster", bridge_in, 0},
                                  {"consumer", consume, 0}};
enum { WORKERS = sizeof(workers) / sizeof(workers[0]), EVENTS_IN_ROUND = WORKERS + 1, HEALED = 100 };
static unsigned rounds;

/* ----------------------------------------------------------------------------------------------------------- killing */

static uint64_t received(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < SENDERS; i++)
        sum += __atomic_load_n(&ledger->next[i], __ATOMIC_SEQ_CST);
    return sum;
}

/* Until so many have come. False: nothing comes any more, or somebody has met what cannot be. */
static bool await(uint64_t count)
{
    int64_t until_ns = now_ns() + HELD_UP_S * SECOND;
    uint64_t seen = received(), now;

    while ((now = received()) < count) {
        int status;
        if (now != seen)
            until_ns = now_ns() + HELD_UP_S * SECOND;
        seen = now;
        for (int i = 0; i < WORKERS; i++)
            if (waitpid(workers[i].pid, &status, WNOHANG) != 0) {
                fprintf(stderr, "the %s ended with %x after %" PRIu64 " messages\n", workers[i].name, (unsigned)status, now);
                return false;
            }
        if (now_ns() > until_ns) {
            fprintf(stderr, "nothing has come for %d s, after %" PRIu64 " messages\n", HELD_UP_S, now);
            return false;
        }
        nats_nap_ms(1);
    }
    return true;
}

/* How many messages have gone to the cluster. */
static uint64_t stored(void)
{
    struct noria_stat stat = {.size = sizeof(stat)};

    return noria_stat(source, &stat) == 0 ? stat.received : 0;
}

/* A node that is back before the others have gone on without it is another test, of the server: what it had acknowledged
 * last it may not have written, and two who lack a message can outvote the one that has it. */
static bool kill_node(unsigned node)
{
    uint64_t before = stored(), count = received();

    nats_kill(node);
    for (int64_t until_ns = now_ns() + HELD_UP_S * SECOND; stored() < before + HEALED && stored() < total;)
        if (now_ns() > until_ns || !await(count))
            return false;
        else
            nats_nap_ms(10);
    if (!await(count + HEALED < total ? count + HEALED : total))
        return false;
    nats_restart(node);
    return true;
}

/* The event-th of the deaths: of the workers in turn, and of a node. */
static bool kill_one(unsigned event)
{
    unsigned turn = event % EVENTS_IN_ROUND;

    if (turn == WORKERS)
        return kill_node(event / EVENTS_IN_ROUND % NATS_NODES);
    kill(workers[turn].pid, SIGKILL);
    waitpid(workers[turn].pid, NULL, 0);
    workers[turn].pid = start(workers[turn].life);
    return true;
}

static bool run(void)
{
    unsigned events = rounds * EVENTS_IN_ROUND;

    for (unsigned event = 0; event < events; event++)
        if (!await(total * (event + 1) / (events + 1)) || !kill_one(event))
            return false;
    return await(total);
}

int main(void)
{
    noria_channel *keep[3] = {NULL};
    pid_t senders[SENDERS];
    bool good;
    int status;

    total = getenv("NORIA_LONG") != NULL ? 100000 : 10000;
    rounds = getenv("NORIA_LONG") != NULL ? 6 : 1;
    each = total / SENDERS;
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    nats_start(NATS_NODES);
    snprintf(from, sizeof(from), "shm:/noria-relay-from-%d", getpid());
    snprintf(to, sizeof(to), "shm:/noria-relay-to-%d", getpid());
    snprintf(through, sizeof(through), "%s", nats_address("relay?replicas=3&ack_wait=2&strict"));
    good = open_ring(&keep[0], from, NORIA_SEND) == 0 && open_ring(&keep[1], to, NORIA_SEND) == 0 &&
           open_stream(&keep[2], 0) == 0;
    if (!good)
        fprintf(stderr, "%s\n", noria_detail());
    if (good) {
        for (int i = 0; i < WORKERS; i++)
            workers[i].pid = start(workers[i].life);
        for (whose = 0; whose < SENDERS; whose++)
            senders[whose] = start(send_numbers);
        source = keep[0];
        good = run();
        for (int i = 0; i < WORKERS; i++)
            kill(workers[i].pid, SIGKILL);
        for (int i = 0; i < SENDERS; i++) {
            if (!good)
                kill(senders[i], SIGKILL);
            good = waitpid(senders[i], &status, 0) == senders[i] && status == 0 && good;
        }
    }
    for (int i = 0; i < 3; i++)
        if (keep[i] != NULL)
            noria_close(keep[i]);
    noria_unlink(from);
    noria_unlink(to);
    nats_stop();
    printf("%" PRIu64 " messages, %" PRIu64 " of them again and flagged, %" PRIu64 " wrong; %u nodes, %d times each bridge and the "
           "consumer killed\n",
           received(), ledger->again, ledger->wrong, rounds, rounds);
    return good && ledger->wrong == 0 && received() == total ? 0 : 1;
}
