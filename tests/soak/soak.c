/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: four processes that pass numbered messages over channels in shared memory, and are killed, stopped
 * and continued at random every 0 to 5 ms, never wedge, never see garbage, a duplicate without its flag, a
 * released message again or a sender's messages out of order, and lose nothing that was committed. With
 * priorities each level is in order; a channel that overwrites loses exactly what it counts as lost, but for
 * messages that were in the hands of somebody killed.
 *
 * usage: soak mpmc|mpmc-copy|spsc|priorities|overwrite SECONDS     (NORIA_LONG=1: 60 s and at least 5,000
 * kills)
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/inspect.h>
#include <noria/noria.h>

#include "crew.h"
#include "ledger.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define WEDGED_AFTER                                                                                         \
    (20 * SECOND) /* without a message received, though nobody is stopped for longer than some ms */

static char addresses[2][64];
static noria_channel *observers[2];
static int channels; /* in use */
static uint64_t capacity = 16;
static uint32_t levels = 1;
static bool overwrites;
static uint64_t lost; /* as the channel counts, in the end */

static struct {
    struct seat seat;
    pid_t pid;
    bool stopped;
    uint64_t incarnation;
} crew[SEATS];

static struct {
    uint64_t kills, stops;
    uint64_t window; /* messages that killed copying receivers may have taken along */
} done;

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void start(int i)
{
    crew[i].incarnation++;
    crew[i].stopped = false;
    fflush(NULL);
    crew[i].pid = fork();
    if (crew[i].pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody stays behind, whatever becomes of this program */
        work(&crew[i].seat, (uint32_t)i, crew[i].incarnation);
    }
    if (crew[i].pid < 0) {
        perror("fork");
        exit(1);
    }
}

static void kill_and_replace(int i)
{
    kill(crew[i].pid, SIGKILL);
    waitpid(crew[i].pid, NULL, 0);
    done.window += __atomic_exchange_n(&ledger->seats[i].window, 0, __ATOMIC_ACQ_REL);
    done.kills++;
    start(i);
}

static void harass(void)
{
    int i = (int)draw(SEATS);
    const struct timespec pause = {.tv_nsec = (long)draw((uint64_t)(5 * MS))};

    nanosleep(&pause, NULL); /* the rhythm of the faults */
    switch (draw(4)) {
    case 0:
    case 1:
        kill_and_replace(i);
        break;
    case 2:
        kill(crew[i].pid, SIGSTOP);
        crew[i].stopped = true;
        done.stops++;
        break;
    default:
        for (i = 0; i < SEATS; i++)
            if (crew[i].stopped)
                kill(crew[i].pid, SIGCONT);
    }
}

static uint64_t received(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < SEATS; i++)
        sum += __atomic_load_n(&ledger->seats[i].received, __ATOMIC_ACQUIRE);
    return sum;
}

static void tell_who_is_where(void)
{
    for (int c = 0; c < channels; c++) {
        struct noria_participant who[16];
        struct noria_stat stat = {0};
        int n = noria_who(addresses[c], who, 16);
        noria_stat(observers[c], &stat);
        printf("%s: %lld messages, %llu held\n", addresses[c], (long long)stat.messages,
               (unsigned long long)stat.held);
        for (int i = 0; i < n && i < 16; i++)
            printf("  %u: process %d, %s, holds %u\n", who[i].number, who[i].pid,
                   who[i].alive ? "alive" : "dead", who[i].held);
    }
}

/* Stops the test if a process has found something wrong, or nothing moves. */
static void watch(uint64_t *seen, int64_t *since)
{
    uint64_t now = received();

    if (__atomic_load_n(&ledger->failed, __ATOMIC_ACQUIRE) == 2) {
        printf("FAILED after %llu kills: %s\n", (unsigned long long)done.kills, ledger->failure);
        tell_who_is_where();
        exit(1);
    }
    if (now != *seen) {
        *seen = now;
        *since = now_ns();
    } else if (now_ns() - *since > WEDGED_AFTER) {
        printf("FAILED: wedged after %llu kills and %llu messages\n", (unsigned long long)done.kills,
               (unsigned long long)now);
        tell_who_is_where();
        exit(1);
    }
}

/* Everybody awake and at work; then the senders end, and with their leaving the receivers. */
static void wind_up(void)
{
    uint64_t seen = 0;
    int64_t since = now_ns();

    for (int i = 0; i < SEATS; i++) {
        kill(crew[i].pid, SIGCONT);
        while (__atomic_load_n(&ledger->seats[i].opened, __ATOMIC_ACQUIRE) != crew[i].incarnation) {
            watch(&seen, &since);
            usleep(1000);
        }
    }
    __atomic_store_n(&ledger->ending, 1, __ATOMIC_RELEASE);
    since = now_ns();
    for (int i = 0; i < SEATS; i++) {
        int status = -1;
        while (waitpid(crew[i].pid, &status, WNOHANG) == 0) {
            watch(&seen, &since);
            usleep(1000);
        }
        if (status != 0) {
            watch(&seen, &since);
            printf("FAILED: process %d in seat %d ended with status 0x%x\n", (int)crew[i].pid, i,
                   (unsigned)status);
            exit(1);
        }
    }
}

/* Sends until nothing more fits at each level. How many are there then. */
static uint64_t fill_up(noria_channel *both)
{
    struct noria_stat stat = {0};
    char bytes[MOST_LENGTH] = {0};

    for (uint32_t level = 0; level < levels; level++)
        for (uint64_t i = 0; i < 4 * capacity; i++)
            if (noria_send_prio(both, bytes, sizeof(bytes), level, 0) != 0)
                break;
    noria_stat(both, &stat);
    return (uint64_t)stat.messages;
}

/* After all that, a channel is as good as new. */
static bool is_intact(int c)
{
    struct noria_stat stat = {0};
    noria_channel *both;
    uint64_t fit;

    if (noria_open(&both, addresses[c], NORIA_SEND | NORIA_RECV, NULL) != 0)
        return false;
    noria_stat(both, &stat);
    lost += stat.lost;
    fit = fill_up(both);
    noria_close(both);
    if (stat.messages != 0 || stat.held != 0 || stat.senders != 1 || stat.receivers != 1 ||
        fit < levels * capacity || (stat.kind == NORIA_KIND_MPMC && fit != levels * capacity)) {
        printf("FAILED: in the end %lld messages, %llu held, %u senders, %u receivers, %llu of %llu fit\n",
               (long long)stat.messages, (unsigned long long)stat.held, stat.senders, stat.receivers,
               (unsigned long long)fit, (unsigned long long)(levels * capacity));
        return false;
    }
    return true;
}

/* What was dropped to make room is counted; what was in the hands of somebody killed may be counted, too. */
static bool is_accounted_for(uint64_t missing, uint64_t in_hands)
{
    if (!overwrites)
        return missing <= done.window && lost == 0;
    printf("%llu lost, %llu in somebody's hands\n", (unsigned long long)lost, (unsigned long long)in_hands);
    return missing > 0 && missing <= lost && lost <= missing + in_hands;
}

static bool settle_accounts(const char *name)
{
    struct balance balance;
    uint64_t messages = 0, missing = 0, doubtful = 0, arrived = 0, again = 0, redelivered = 0, in_hands = 0;
    bool intact = true, accounted;

    for (uint32_t s = 0; s < STREAMS; s++) {
        strike_balance(s, &balance);
        messages += balance.sent;
        missing += balance.missing;
        doubtful += balance.in_doubt;
        arrived += balance.doubtful_arrived;
        again += balance.taken_again;
        in_hands += balance.in_hands;
    }
    for (int i = 0; i < SEATS; i++)
        redelivered += ledger->seats[i].redelivered;
    for (int c = 0; c < channels; c++)
        intact = is_intact(c) && intact;
    printf("%s: %llu kills, %llu stops, %llu messages, %llu redelivered (%llu had been seen before)\n", name,
           (unsigned long long)done.kills, (unsigned long long)done.stops, (unsigned long long)messages,
           (unsigned long long)redelivered, (unsigned long long)again);
    printf("%s: %llu were in a killed sender's hands, %llu of them arrived; %llu committed ones missing",
           name, (unsigned long long)doubtful, (unsigned long long)arrived, (unsigned long long)missing);
    printf(done.window != 0 ? ", %llu may be in killed receivers' buffers\n" : "\n",
           (unsigned long long)done.window);
    accounted = is_accounted_for(missing, in_hands + doubtful);
    if (!accounted)
        printf("FAILED: committed messages are lost and not counted, or counted and not lost\n");
    if (messages < 1000)
        printf("FAILED: hardly any message\n");
    return accounted && messages >= 1000 && intact;
}

static void create(const char *name, uint32_t kind)
{
    struct noria_options options;

    noria_options_init(&options);
    options.kind = kind;
    options.capacity = capacity;
    options.max_message = MOST_LENGTH;
    options.max_held = 3;
    options.max_participants = 8;
    options.priorities = levels;
    options.full = overwrites ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
    snprintf(addresses[channels], sizeof(addresses[channels]), "shm:/noria-soak-%s-%d-%d", name, channels,
             (int)getpid());
    if (noria_open(&observers[channels], addresses[channels], NORIA_CREATE, &options) != 0) {
        printf("FAILED: %s\n", noria_detail());
        exit(1);
    }
    channels++;
}

static void remove_names(void)
{
    for (int c = 0; c < channels; c++)
        noria_unlink(addresses[c]);
}

/* MPMC: two senders, two receivers. SPSC: two channels with one of each, of which one receiver copies. */
static void assign(const char *mode)
{
    bool spsc = strcmp(mode, "spsc") == 0, copies = strcmp(mode, "mpmc-copy") == 0;

    levels = strcmp(mode, "priorities") == 0 ? LEVELS : 1;
    overwrites = strcmp(mode, "overwrite") == 0;
    create(mode, spsc ? NORIA_KIND_SPSC : NORIA_KIND_MPMC);
    if (spsc)
        create(mode, NORIA_KIND_SPSC);
    for (uint32_t i = 0; i < SEATS; i++)
        crew[i].seat = (struct seat){.address = addresses[spsc ? i % 2 : 0], .sends = i < 2, .stream = i,
                                     .copies = i == 3 && (spsc || copies), .alone = spsc,
                                     .hurries = overwrites, .levels = levels};
}

int main(int argc, char **argv)
{
    bool long_form = getenv("NORIA_LONG") != NULL;
    int64_t begin = now_ns(), since = begin;
    uint64_t seen = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: soak mpmc|mpmc-copy|spsc|priorities|overwrite SECONDS\n");
        return 2;
    }
    random_state = (uint64_t)begin | 1;
    printf("%s: seed %llu\n", argv[1], (unsigned long long)random_state);
    ledger_begin();
    assign(argv[1]);
    atexit(remove_names);
    for (int i = 0; i < SEATS; i++)
        start(i);
    while (now_ns() - begin < (long_form ? 60 : atoi(argv[2])) * SECOND || (long_form && done.kills < 5000)) {
        harass();
        watch(&seen, &since);
    }
    wind_up();
    if (!settle_accounts(argv[1]))
        return 1;
    for (int c = 0; c < channels; c++)
        noria_close(observers[c]);
    ledger_end();
    return 0;
}
