/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: one sender and eight receivers on whatever processors there are, one of them stopped again and again, one killed and
 * replaced, one slow, one that comes and goes: each gets whole messages in order, from where it came (the killed one's
 * successors and the late one: from what was sent while it came) to the last one sent; between them exactly what it is told to
 * have missed is missing. With a reliable channel nobody misses anything, and the stopped one holds the sender; an evicting
 * channel leaves it behind, and a lossy one, too, without ever waiting; a dropping one sends nobody what has no room, and tells
 * everybody.
 *
 * usage: broadcast reliable|evicting|lossy|dropping SECONDS     (NORIA_LONG=1: 60 s)
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

enum { RECEIVERS = 8, STOPPED = 0, KILLED = 1, SLOW = 2, LATE = 3, LONGEST = 100 };

/* Counting what was dropped is dear. */
enum { COUNT_EVERY = 64 };

/* The stopped one stands for 7 turns of 15 ms in every 20: much longer than it takes to fill the ring, which even
 * the slow one does not hold up for long, and than evict_ns. */
enum { TURN_MS = 15, TURNS = 20, TURNS_STOPPED = 7, SLOW_EVERY = 64 };

/* What the processes say; each receiver's line is its own. */
static struct report {
    _Alignas(128) uint64_t begun; /* lives */
    uint64_t received, missed, bad;
    uint64_t next;   /* the last life came to the end of the stream, and this was to come next */
    int64_t done;    /* it did */
    int64_t settled; /* the last life has received something */
} *reports;
static struct {
    _Alignas(128) uint64_t sent; /* that went in, as far as the sender has counted */
    uint64_t numbers, dropped;   /* all, and those that did not */
    uint64_t held;  /* sends that found no room in 20 ms, all the while the stopped one stood */
    uint64_t waits; /* all sends that did not */
    _Alignas(128) uint64_t stands; /* how often it was stopped and continued: odd while it stands */
    int over;
} *stream;
static char address[64];
static bool drops; /* a message that has no room */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void nap(int64_t ns)
{
    nanosleep(&(struct timespec){0, (long)ns}, NULL);
}

/* Its number is the sequence; where some are dropped, it says so itself. The length. */
static size_t fill(uint8_t *bytes, uint64_t number)
{
    size_t i = drops ? sizeof(number) : 0, length = i + number % 13 * 7;

    memcpy(bytes, &number, i);
    for (; i < length; i++)
        bytes[i] = (uint8_t)(number * 31 + i);
    return length;
}

static noria_channel *must_open(int flags, const struct noria_options *options)
{
    noria_channel *channel;

    if (noria_open(&channel, address, flags, options) != 0) {
        fprintf(stderr, "open: %s\n", noria_detail());
        exit(2);
    }
    return channel;
}

static void child(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* What was not dropped went in. */
static void count_sent(noria_channel *channel)
{
    struct noria_stat stat = {0};

    if (drops && noria_stat(channel, &stat) != 0)
        exit(4);
    stream->dropped = stat.lost;
    __atomic_store_n(&stream->sent, stream->numbers - stat.lost, __ATOMIC_RELEASE);
}

static void send_next(noria_channel *channel)
{
    uint64_t stands = __atomic_load_n(&stream->stands, __ATOMIC_ACQUIRE);
    uint8_t bytes[LONGEST];
    size_t length = fill(bytes, stream->numbers);
    int rc = noria_send(channel, bytes, length, 20 * MS);

    if (rc != 0 && rc != -ETIMEDOUT)
        exit(3);
    stream->numbers += rc == 0;
    stream->waits += rc != 0;
    stream->held += rc != 0 && stands % 2 == 1 && stands == __atomic_load_n(&stream->stands, __ATOMIC_ACQUIRE);
}

/* The last one goes in, so that all are told what was dropped before it. */
static void send_all(void)
{
    noria_channel *channel = must_open(NORIA_SEND, NULL);
    uint64_t dropped;

    while (__atomic_load_n(&stream->over, __ATOMIC_RELAXED) == 0) {
        send_next(channel);
        if (!drops || stream->numbers % COUNT_EVERY == 0)
            count_sent(channel);
    }
    count_sent(channel);
    do {
        dropped = stream->dropped;
        send_next(channel);
        count_sent(channel);
    } while (stream->dropped != dropped);
    noria_close(channel);
}

/* Who came now, after `before` messages had been counted and when `after` had, begins between these; some more may have been
 * sent and not yet counted. */
static bool begins_now(const struct noria_info *first, uint64_t before, uint64_t after)
{
    uint64_t begin = first->sequence - (drops ? 0 : first->lost);

    return begin >= before && begin <= after + (drops ? COUNT_EVERY : 1);
}

/* And newer than the one before, if it has a number of its own. */
static bool is_good(const uint8_t *bytes, size_t length, const struct noria_info *info, uint64_t *newest)
{
    uint64_t number = info->sequence;
    uint8_t wanted[LONGEST];
    bool newer;

    if (drops && length >= sizeof(number))
        memcpy(&number, bytes, sizeof(number));
    newer = *newest == UINT64_MAX || number > *newest;
    *newest = number;
    return newer && number >= info->sequence && length == fill(wanted, number) && memcmp(bytes, wanted, length) == 0;
}

/* Receives until the end, or for a while. Each message is checked; sequences leave out exactly what is said to be missed, or
 * nothing where it was never sent. */
static void receive(int who, const struct noria_options *options, int64_t until)
{
    uint64_t before = __atomic_load_n(&stream->sent, __ATOMIC_ACQUIRE), after;
    noria_channel *channel = must_open(NORIA_RECV, options);
    struct report *report = &reports[who];
    uint8_t bytes[LONGEST];
    struct noria_info info;
    uint64_t next = UINT64_MAX, newest = UINT64_MAX;
    ssize_t n;

    after = __atomic_load_n(&stream->sent, __ATOMIC_ACQUIRE);
    __atomic_fetch_add(&report->begun, 1, __ATOMIC_RELEASE);
    while (now_ns() < until) {
        n = noria_recv(channel, bytes, sizeof(bytes), 50 * MS, &info);
        if (n == -ETIMEDOUT)
            continue;
        if (n < 0) {
            report->bad += n != -EPIPE;
            report->done = n == -EPIPE;
            break;
        }
        report->bad += !is_good(bytes, (size_t)n, &info, &newest);
        if (next == UINT64_MAX)
            report->bad += options == NULL && !begins_now(&info, before, after);
        else
            report->bad += info.sequence != next + (drops ? 0 : info.lost);
        next = info.sequence + 1;
        report->received++;
        report->missed += info.lost;
        __atomic_store_n(&report->settled, until == INT64_MAX, __ATOMIC_RELEASE);
        if (who == SLOW && report->received % SLOW_EVERY == 0)
            nap(MS / 2);
    }
    report->next = next;
    noria_close(channel);
}

static pid_t start_receiver(int who, const struct noria_options *options, int64_t until)
{
    pid_t pid = fork();

    if (pid == 0) {
        child();
        if (who == LATE)
            while (now_ns() < until)
                receive(who, options, now_ns() + 100 * MS);
        receive(who, options, INT64_MAX);
        exit(0);
    }
    return pid;
}

static void stop(pid_t pid)
{
    kill(pid, SIGSTOP);
    waitpid(pid, NULL, WUNTRACED); /* it stands */
    __atomic_fetch_add(&stream->stands, 1, __ATOMIC_ACQ_REL);
}

static void go_on(pid_t pid)
{
    __atomic_fetch_add(&stream->stands, 1, __ATOMIC_ACQ_REL);
    kill(pid, SIGCONT);
}

/* Stops one, kills another, now and then. */
static void disturb(pid_t pids[RECEIVERS], const struct noria_options *options, int64_t until)
{
    for (unsigned turn = 0; now_ns() < until; turn++) {
        if (turn % TURNS == 0)
            stop(pids[STOPPED]);
        if (turn % TURNS == TURNS_STOPPED)
            go_on(pids[STOPPED]);
        if (turn % 3 == 0) {
            kill(pids[KILLED], SIGKILL);
            waitpid(pids[KILLED], NULL, 0);
            reports[KILLED].settled = 0;
            pids[KILLED] = start_receiver(KILLED, options, until);
        }
        nap(TURN_MS * MS);
    }
    if (stream->stands % 2 == 1)
        go_on(pids[STOPPED]);
}

/* Whether the channel did to the sender and to the stopped receiver what its policy says. */
static bool kept_policy(const char *policy)
{
    if (strcmp(policy, "reliable") == 0)
        return stream->held > 0;
    if (strcmp(policy, "evicting") != 0 && stream->waits != 0)
        return false;
    return reports[STOPPED].missed > 0 && (stream->dropped > 0) == drops;
}

static int judge(const char *policy, const pid_t pids[RECEIVERS])
{
    int failed = 0;

    for (int who = 0; who < RECEIVERS; who++) {
        const struct report *report = &reports[who];
        bool all = who != KILLED && who != LATE;
        int status = 0;
        waitpid(pids[who], &status, 0);
        printf("receiver %d: %llu lives, %llu received, %llu missed\n", who, (unsigned long long)report->begun,
               (unsigned long long)report->received, (unsigned long long)report->missed);
        if (report->bad != 0 || status != 0 || !report->done ||
            report->next != stream->sent || (all && report->received + report->missed != stream->sent + stream->dropped) ||
            (report->missed != 0 && strcmp(policy, "reliable") == 0) || report->received == 0) {
            printf("FAILED: receiver %d: bad %llu, status %d, next %llu\n", who, (unsigned long long)report->bad, status,
                   (unsigned long long)report->next);
            failed = 1;
        }
    }
    printf("%s: %llu sent, %llu dropped; %llu sends waited in vain, %llu for the stopped one, which stood %llu times\n", policy,
           (unsigned long long)stream->sent, (unsigned long long)stream->dropped, (unsigned long long)stream->waits,
           (unsigned long long)stream->held, (unsigned long long)stream->stands / 2);
    if (!kept_policy(policy)) {
        printf("FAILED: the stopped receiver did not meet with what the policy says\n");
        failed = 1;
    }
    return failed != 0 || stream->sent < 1000;
}

int main(int argc, char **argv)
{
    const char *policy = argc > 1 ? argv[1] : "reliable";
    bool is_long = getenv("NORIA_LONG") != NULL && strcmp(getenv("NORIA_LONG"), "1") == 0;
    int64_t until = now_ns() + (is_long ? 60 : argc > 2 ? atoi(argv[2]) : 10) * SECOND;
    struct noria_options options;
    noria_channel *keeper;
    pid_t pids[RECEIVERS], sender;
    int rc;

    noria_options_init(&options);
    options.kind = NORIA_KIND_BROADCAST;
    options.capacity = 256;
    options.max_message = LONGEST;
    options.max_participants = 24;
    options.evict_ns = strcmp(policy, "evicting") == 0 ? 20 * MS : 0;
    drops = strcmp(policy, "dropping") == 0;
    options.full = strcmp(policy, "lossy") == 0 ? NORIA_FULL_OVERWRITE_OLDEST
                   : drops                      ? NORIA_FULL_DROP_NEWEST
                                                : NORIA_FULL_BLOCK;
    snprintf(address, sizeof(address), "shm:/noria-broadcast-soak-%d", (int)getpid());
    reports = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stream = (void *)(reports + RECEIVERS);
    keeper = must_open(NORIA_CREATE, &options);
    options.start = NORIA_START_POSITION; /* those who are there from the beginning are to get all */
    for (int who = 0; who < RECEIVERS; who++)
        pids[who] = start_receiver(who, who == KILLED || who == LATE ? NULL : &options, until);
    for (int who = 0; who < RECEIVERS; who++)
        while (__atomic_load_n(&reports[who].begun, __ATOMIC_ACQUIRE) == 0)
            nap(MS);
    sender = fork();
    if (sender == 0) {
        child();
        send_all();
        exit(0);
    }
    disturb(pids, NULL, until);
    for (int who = 0; who < RECEIVERS; who++) /* or it would wait for a stream that has ended before it came */
        while (__atomic_load_n(&reports[who].settled, __ATOMIC_ACQUIRE) == 0)
            nap(MS);
    __atomic_store_n(&stream->over, 1, __ATOMIC_RELAXED);
    waitpid(sender, &rc, 0);
    rc |= judge(policy, pids);
    noria_close(keeper);
    noria_unlink(address);
    return rc != 0;
}
