/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whatever several senders and receivers saw of a ring, as threads or as processes over shared memory,
 * some order of their calls explains it: FIFO, nothing lost, nothing twice, no false "empty", no false
 * "full".
 *
 * usage: linearizability threads|processes     NORIA_LONG=1: 40 times as long
 */
#include "history.h"
#include "recorder.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/mpmc.h>
#include <noria/spsc.h>

enum { MOST_PARTICIPANTS = 8, YIELD_AFTER = 64 /* refusals */, GROUP = 4, SPSC_BYTES_EACH = 16 };

/* A sender ends when it has sent so many, or when time is up and it has sent the fewest that tell something.
 */
enum { SENDS_EACH = 20000, FEWEST_SENDS_EACH = 300 };

struct setting {
    const char *name;
    uint32_t senders, receivers;
    uint64_t capacity; /* records; SPSC: bytes */
    uint64_t slots;    /* 0: as many as the capacity needs; else "full" is not judged */
    uint32_t pack;     /* 0: the SPSC ring */
    uint64_t first_position;
    bool one_handle;   /* all threads share a handle */
    uint32_t yield_in; /* one of so many calls gives up the processor in its middle, 0: none */
};

static const struct setting settings[] = {
    {"SPSC, 256 bytes", 1, 1, 256, 0, 0, UINT64_MAX - 4095, false, 0},
    {"SPSC, 64 KiB", 1, 1, 65536, 0, 0, 0, false, 0},
    {"MPMC 2P2C, capacity 2", 2, 2, 2, 0, 1, UINT64_MAX - 4095, false, 0},
    {"MPMC 2P2C, capacity 2, interrupted", 2, 2, 2, 0, 1, 0, false, 16},
    {"MPMC 2P2C, 8 slots, interrupted", 2, 2, 8, 8, 1, (UINT64_C(1) << 48) - 4096, false, 16},
    {"MPMC 2P2C, capacity 1024", 2, 2, 1024, 0, 1, 0, false, 0},
    {"MPMC 2P2C, one handle", 2, 2, 8, 0, 1, 0, true, 16},
    {"MPMC 2P2C, groups of 4, interrupted", 2, 2, 4, 0, GROUP, 0, false, 16},
    {"MPMC 4P4C, capacity 8", 4, 4, 8, 0, 1, 0, false, 0},
    {"MPMC 4P4C, capacity 4, interrupted", 4, 4, 4, 0, 1, UINT64_MAX - 4095, false, 16},
    {"MPMC 4P4C, 8 slots, interrupted", 4, 4, 8, 8, 1, 0, false, 8},
    {"MPMC 4P4C, capacity 1024, interrupted", 4, 4, 1024, 0, 1, (UINT64_C(1) << 47) - 4096, false, 64},
    {"MPMC 4P4C, one handle", 4, 4, 8, 0, 1, 0, true, 16},
};

/* Shared by all participants of one run. */
struct run {
    struct setting setting;
    bool ticks;
    uint64_t until; /* by recorder_now */
    uint64_t arrived, senders_gone, sent, received;
    struct recorder recorders[MOST_PARTICIPANTS];
    size_t ring_size;
    struct noria_mpmc_handle shared_handle;
    _Alignas(NORIA_CACHE_LINE) uint64_t ring[];
};

struct participant {
    struct run *run;
    uint32_t number;
    struct recorder *recorder;
    struct noria_mpmc_handle own, *handle;
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    uint64_t group_start; /* when the receive began that took the group */
    uint64_t next_value, refusals;
};

/* ------------------------------------------------------------------------------------------------------ one
 * call */

static void maybe_yield(struct participant *p)
{
    uint32_t yield_in = p->run->setting.yield_in;

    if (yield_in != 0 && recorder_random(p->recorder) % yield_in == 0)
        sched_yield();
}

static int send_group(struct participant *p)
{
    struct iovec vectors[GROUP];
    uint64_t values[GROUP];
    int n = 1 + (int)(recorder_random(p->recorder) % GROUP);

    for (int i = 0; i < n; i++) {
        values[i] = p->next_value + (uint64_t)i;
        vectors[i] = (struct iovec){&values[i], sizeof(values[i])};
    }
    return noria_mpmc_send_many(p->handle, vectors, n);
}

/* How many records went in, or -EAGAIN. */
static int send_some(struct participant *p)
{
    struct noria_mpmc_record record = {0};
    uint64_t value = p->next_value;
    int rc;

    if (p->run->setting.pack == 0)
        return noria_spsc_send(&p->producer, &value, sizeof(value)) == 0 ? 1 : -EAGAIN;
    if (p->run->setting.pack > 1)
        return send_group(p);
    rc = noria_mpmc_reserve(p->handle, &record);
    if (rc != 0)
        return rc;
    memcpy(record.data, &value, sizeof(value));
    maybe_yield(p);
    while ((rc = noria_mpmc_commit(p->handle, &record, sizeof(value))) == -EAGAIN)
        sched_yield(); /* too much contention: the reservation stands */
    p->recorder->late += record.sequence != record.position;
    return rc == 0 ? 1 : rc;
}

/* 0 with a value and its time, or -EAGAIN. A record is received when it is peeked, and all of a group when
 * its first record is; the release comes later. */
static int receive_one(struct participant *p, struct history_event *call)
{
    struct noria_mpmc_record record = {0};
    size_t len = 0;
    int rc;

    call->kind = HISTORY_RECV;
    call->start = recorder_now(p->run->ticks);

    if (p->run->setting.pack == 0) {
        rc = noria_spsc_recv(&p->consumer, &call->value, sizeof(call->value), &len);
        call->end = recorder_now(p->run->ticks);
        return rc == 0 && len != sizeof(call->value) ? -EBADMSG : rc;
    }
    rc = noria_mpmc_peek(p->handle, &record);
    call->end = recorder_now(p->run->ticks);
    if (rc != 0)
        return rc;
    if (record.len != sizeof(call->value) || record.flags != 0)
        return -EBADMSG;
    memcpy(&call->value, record.data, sizeof(call->value));
    if (record.index == 0)
        p->group_start = call->start;
    call->start = p->group_start;
    maybe_yield(p);
    return noria_mpmc_release(p->handle, &record);
}

/* --------------------------------------------------------------------------------------------------
 * participants */

static void refused(struct participant *p, enum history_kind kind, int rc, uint64_t start, uint64_t end)
{
    if (rc == -EAGAIN)
        recorder_add(p->recorder, kind, 0, start, end);
    else
        p->recorder->wrong++;
    if (p->run->setting.pack != 0)
        noria_mpmc_wait(p->handle, kind == HISTORY_FULL ? NORIA_MPMC_SENDER : NORIA_MPMC_RECEIVER);
    if (++p->refusals % YIELD_AFTER == 0)
        sched_yield();
}

static void be_sender(struct participant *p)
{
    struct run *run = p->run;
    uint64_t now = 0;

    while (p->recorder->moved < (now < run->until ? SENDS_EACH : FEWEST_SENDS_EACH) &&
           p->recorder->wrong < 10) {
        uint64_t start = recorder_now(run->ticks);
        int rc = send_some(p);
        now = recorder_now(run->ticks);
        if (rc < 0)
            refused(p, HISTORY_FULL, rc, start, now);
        for (int i = 0; i < rc; i++)
            recorder_add(p->recorder, HISTORY_SEND, p->next_value++, start, now);
        if (rc > 0)
            noria_add_release64(&run->sent, (uint64_t)rc);
    }
    noria_add_release64(&run->senders_gone, 1);
}

static bool all_is_received(struct run *run)
{
    return noria_load_acquire64(&run->senders_gone) == run->setting.senders &&
           noria_load_acquire64(&run->received) >= noria_load_acquire64(&run->sent);
}

/* Receives until everything has come out, or nothing has come for long: then something is lost. */
static void be_receiver(struct participant *p)
{
    struct run *run = p->run;
    uint64_t idle = 0;

    while (!all_is_received(run) && idle < 1000000 && p->recorder->wrong < 10) {
        struct history_event call;
        int rc = receive_one(p, &call);
        if (rc != 0) {
            refused(p, HISTORY_EMPTY, rc, call.start, call.end);
            idle += noria_load_acquire64(&run->senders_gone) == run->setting.senders;
            continue;
        }
        idle = 0;
        recorder_add(p->recorder, HISTORY_RECV, call.value, call.start, call.end);
        noria_add_release64(&run->received, 1);
    }
}

static void join(struct participant *p)
{
    struct run *run = p->run;
    bool sender = p->number < run->setting.senders;
    int rc;

    p->recorder = &run->recorders[p->number];
    p->recorder->random = UINT64_C(0x9e3779b97f4a7c15) * (p->number + 1);
    p->next_value = ((uint64_t)p->number + 1) << 32;
    p->handle = run->setting.one_handle ? &run->shared_handle : &p->own;
    if (run->setting.pack == 0)
        rc = sender ? noria_spsc_join_producer(&p->producer, run->ring, run->ring_size, 1)
                    : noria_spsc_join_consumer(&p->consumer, run->ring, run->ring_size, 2);
    else
        rc = run->setting.one_handle ? 0 : noria_mpmc_join(&p->own, run->ring, run->ring_size, p->number + 1);
    p->recorder->wrong += rc != 0;
}

static void *take_part(void *argument)
{
    struct participant *p = argument;
    struct run *run = p->run;

    join(p);
    noria_add_release64(&run->arrived, 1);
    while (noria_load_acquire64(&run->arrived) != run->setting.senders + run->setting.receivers)
        sched_yield();
    if (p->number < run->setting.senders)
        be_sender(p);
    else
        be_receiver(p);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- one
 * run */

static int run_threads(struct participant *participants, uint32_t n)
{
    pthread_t threads[MOST_PARTICIPANTS];
    uint32_t started = 0;

    while (started < n && pthread_create(&threads[started], NULL, take_part, &participants[started]) == 0)
        started++;
    if (started < n)
        return -1; /* those who did start wait for the others: the process is at its end anyway */
    for (uint32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static int run_processes(struct participant *participants, uint32_t n)
{
    pid_t children[MOST_PARTICIPANTS];
    int failed = 0;

    for (uint32_t i = 0; i < n; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            take_part(&participants[i]);
            _exit(0);
        }
        failed |= children[i] < 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        int status = 1;
        if (children[i] > 0 && failed)
            kill(children[i], SIGKILL);
        if (children[i] > 0 && (waitpid(children[i], &status, 0) < 0 || status != 0))
            failed = 1;
    }
    return failed ? -1 : 0;
}

static int format_ring(struct run *run, const struct noria_mpmc_config *config)
{
    const struct setting *setting = &run->setting;

    if (setting->pack == 0)
        return noria_spsc_format(run->ring, run->ring_size, setting->capacity, setting->first_position);
    if (noria_mpmc_format(run->ring, run->ring_size, config) != 0)
        return -1;
    return noria_mpmc_join(&run->shared_handle, run->ring, run->ring_size, 1);
}

/* The capacity that a "full" is judged by, 0 if it is not: with few slots, those in use count too, not only
 * records. */
static uint64_t judged_capacity(const struct setting *setting)
{
    if (setting->pack == 0)
        return (setting->capacity - NORIA_SPSC_HEADER) / SPSC_BYTES_EACH;
    return setting->slots == 0 && setting->pack == 1 ? setting->capacity : 0;
}

static bool judge(const struct run *run, uint32_t participants)
{
    struct history_event *calls = malloc(sizeof(*calls) * RECORDER_CALLS * participants);
    uint64_t n = 0, late = 0, wrong = 0, kinds[4] = {0};
    struct history_verdict verdict = {.fault = HISTORY_NO_MEMORY};

    for (uint32_t i = 0; i < participants && calls != NULL; i++) {
        memcpy(calls + n, run->recorders[i].calls, sizeof(*calls) * run->recorders[i].n);
        n += run->recorders[i].n;
        late += run->recorders[i].late;
        wrong += run->recorders[i].wrong;
    }
    for (uint64_t i = 0; i < n; i++)
        kinds[calls[i].kind]++;
    if (calls != NULL)
        verdict = history_check(calls, n, judged_capacity(&run->setting));
    printf("%-40s %7lu sent, %7lu received, %7lu empty, %7lu full, %5lu stepped over: %s\n",
           run->setting.name, kinds[HISTORY_SEND], kinds[HISTORY_RECV], kinds[HISTORY_EMPTY],
           kinds[HISTORY_FULL], late,
           wrong != 0 ? "answers that cannot be" : history_fault_name(verdict.fault));
    if (verdict.fault != HISTORY_GOOD)
        printf("    call %d of value %lx, from %lu to %lu; other: value %lx, from %lu to %lu\n",
               (int)verdict.witness.kind, verdict.witness.value, verdict.witness.start, verdict.witness.end,
               verdict.other.value, verdict.other.start, verdict.other.end);
    free(calls);
    return verdict.fault == HISTORY_GOOD && wrong == 0 && kinds[HISTORY_SEND] != 0;
}

/* Whether the kernel trusts the time stamp counter to be one clock for all processors. */
static bool ticks_are_one_clock(void)
{
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    char name[16] = "";

    if (file != NULL) {
        if (fgets(name, sizeof(name), file) == NULL)
            name[0] = 0;
        fclose(file);
    }
    return strncmp(name, "tsc", 3) == 0;
}

/* How far the clock moves in the given time. */
static uint64_t clock_distance(bool ticks, uint64_t duration_ns)
{
    uint64_t from = recorder_now(false), first = recorder_now(ticks), now;

    while ((now = recorder_now(false)) - from < 2000000)
        continue;
    return (recorder_now(ticks) - first) * (duration_ns / 1000) / ((now - from) / 1000);
}

static bool run_setting(const struct setting *setting, bool threads, uint64_t duration_ns)
{
    struct noria_mpmc_config config = {.capacity = setting->capacity,
                                       .slots = setting->slots,
                                       .first_position = setting->first_position,
                                       .max_message = 8,
                                       .pack = setting->pack,
                                       .owners = MOST_PARTICIPANTS,
                                       .max_held = 1};
    size_t ring_size =
        setting->pack == 0 ? noria_spsc_footprint(setting->capacity) : noria_mpmc_footprint(&config);
    size_t size = sizeof(struct run) + ring_size + NORIA_CACHE_LINE;
    uint32_t n = setting->senders + setting->receivers;
    struct participant participants[MOST_PARTICIPANTS];
    struct run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool good = false;

    if (run == MAP_FAILED)
        return false;
    run->setting = *setting;
    run->ring_size = ring_size;
    run->ticks = ticks_are_one_clock();
    memset(participants, 0, sizeof(participants));
    for (uint32_t i = 0; i < n; i++) {
        participants[i].run = run;
        participants[i].number = i;
    }
    if (format_ring(run, &config) == 0) {
        run->until = recorder_now(run->ticks) + clock_distance(run->ticks, duration_ns);
        good =
            (threads ? run_threads(participants, n) : run_processes(participants, n)) == 0 && judge(run, n);
    }
    munmap(run, size);
    return good;
}

int main(int argc, char **argv)
{
    bool threads = argc == 2 && strcmp(argv[1], "threads") == 0;
    uint64_t rounds = getenv("NORIA_LONG") != NULL ? 40 : 1;
    int bad = 0;

    if (!threads && (argc != 2 || strcmp(argv[1], "processes") != 0)) {
        fprintf(stderr, "usage: linearizability threads|processes\n");
        return 2;
    }
    for (uint64_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
            if (threads || !settings[i].one_handle)
                bad += !run_setting(&settings[i], threads, 500000000);
    return bad != 0;
}
