/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whatever several processes saw of a channel that overwrites its oldest message, or of one with
 * priorities, some order of their calls explains it: nothing overtaken, the oldest lost, only while it was full, and each
 * loss counted, the highest level first, no false "empty".
 *
 * usage: linearizability_kinds     NORIA_LONG=1: 40 times as long
 */
#include "history.h"
#include "recorder.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

enum { PARTICIPANTS = 4, SENDERS = 2, SENDS_EACH = 25000 };

/* On a loaded machine a sched_yield is a wait of milliseconds: a sender ends early then. One that is refused
 * for so long without a single send is wedged, and says so. */
enum { SENDER_LASTS_S = 10, WEDGED_AFTER_S = 60, WEDGED = 3 /* the exit status that says so */ };

struct setting {
    const char *name;
    uint32_t full, levels;
    uint64_t capacity, first_position;
    uint32_t yield_in; /* a sender gives up the processor after one of so many calls */
};

static const struct setting settings[] = {
    {"overwriting, capacity 2", NORIA_FULL_OVERWRITE_OLDEST, 1, 2, 0, 2},
    {"overwriting, capacity 8", NORIA_FULL_OVERWRITE_OLDEST, 1, 8, UINT64_MAX - 4095, 4},
    {"overwriting, capacity 256", NORIA_FULL_OVERWRITE_OLDEST, 1, 256, 0, 64},
    {"2 levels, capacity 4", NORIA_FULL_BLOCK, 2, 4, 0, 0},
    {"4 levels, capacity 64", NORIA_FULL_BLOCK, 4, 64, UINT64_MAX - 4095, 16},
    {"32 levels, capacity 4", NORIA_FULL_BLOCK, 32, 4, 0, 8},
    {"32 levels, capacity 256", NORIA_FULL_BLOCK, 32, 256, 0, 0},
};

static struct recorder *recorders; /* shared */
static uint32_t *attached;         /* shared: how many participants have opened the channel */
static bool ticks;

static time_t seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Without this the first sender might come and go before the second is there: the end of the stream, after
 * which no receiver is left for the second. */
static void wait_for_all(void)
{
    noria_add_relaxed32(attached, 1); /* nothing else is passed on */
    while (noria_load_relaxed32(attached) < PARTICIPANTS)
        sched_yield();
}

static void be_sender(noria_channel *channel, struct recorder *recorder, const struct setting *setting,
                      uint64_t first)
{
    time_t started = seconds_now(), moved = started;

    for (uint64_t i = 0; i < SENDS_EACH && (moved - started < SENDER_LASTS_S || i == 0);) {
        uint64_t value = first + recorder_random(recorder) % setting->levels, start = recorder_now(ticks),
                 end;
        unsigned level = (unsigned)(value % setting->levels);
        int rc = noria_send_prio(channel, &value, sizeof(value), level, 0);
        end = recorder_now(ticks);
        if (rc == -EAGAIN) {
            sched_yield();
            if (seconds_now() - moved > WEDGED_AFTER_S)
                _exit(WEDGED);
            continue;
        }
        moved = seconds_now();
        recorder->wrong += rc != 0;
        recorder_add(recorder, HISTORY_SEND, value, start, end);
        first += setting->levels;
        i++;
        if (setting->yield_in != 0 && recorder_random(recorder) % setting->yield_in == 0)
            sched_yield();
    }
}

static void be_receiver(noria_channel *channel, struct recorder *recorder, const struct setting *setting)
{
    for (;;) {
        struct noria_info info;
        uint64_t value = 0, start = recorder_now(ticks), end;
        ssize_t rc = noria_recv(channel, &value, sizeof(value), 0, &info);
        end = recorder_now(ticks);
        if (rc == -EPIPE)
            return;
        if (rc == -EAGAIN) {
            recorder_add(recorder, HISTORY_EMPTY, 0, start, end);
            sched_yield();
            continue;
        }
        recorder->wrong += rc != sizeof(value) || info.priority != value % setting->levels;
        recorder_add(recorder, HISTORY_RECV, value, start, end);
    }
}

static void take_part(const noria_channel *inherited, const struct setting *setting, uint32_t number)
{
    struct recorder *recorder = &recorders[number];
    noria_channel *mine;
    bool sends = number < SENDERS;

    recorder->random = UINT64_C(0x9e3779b97f4a7c15) * (number + 1);
    if (noria_reopen(&mine, inherited, sends ? NORIA_SEND : NORIA_RECV) != 0)
        _exit(1);
    wait_for_all();
    if (sends)
        be_sender(mine, recorder, setting, ((uint64_t)number + 1) << 32);
    else
        be_receiver(mine, recorder, setting);
    noria_close(mine);
    _exit(0);
}

static bool judge(const struct setting *setting, uint64_t lost)
{
    struct history_event *calls = malloc(sizeof(*calls) * RECORDER_CALLS * PARTICIPANTS);
    uint64_t n = 0, wrong = 0, kinds[4] = {0};
    struct history_verdict verdict = {.fault = HISTORY_NO_MEMORY};

    if (calls == NULL)
        return false;
    for (uint32_t i = 0; i < PARTICIPANTS; i++) {
        memcpy(calls + n, recorders[i].calls, sizeof(*calls) * recorders[i].n);
        n += recorders[i].n;
        wrong += recorders[i].wrong;
    }
    for (uint64_t i = 0; i < n; i++)
        kinds[calls[i].kind]++;
    verdict = setting->levels > 1 ? history_check_levels(calls, n, setting->levels)
                                  : history_check_overwriting(calls, n, lost, setting->capacity);
    printf("%-30s %7lu sent, %7lu received, %7lu lost, %7lu empty: %s\n", setting->name, kinds[HISTORY_SEND],
           kinds[HISTORY_RECV], lost, kinds[HISTORY_EMPTY],
           wrong != 0 ? "answers that cannot be" : history_fault_name(verdict.fault));
    if (verdict.fault != HISTORY_GOOD)
        printf("    call %d of value %lx, from %lu to %lu; other: value %lx, from %lu to %lu\n",
               (int)verdict.witness.kind, verdict.witness.value, verdict.witness.start, verdict.witness.end,
               verdict.other.value, verdict.other.start, verdict.other.end);
    free(calls);
    return verdict.fault == HISTORY_GOOD && wrong == 0 && kinds[HISTORY_SEND] != 0 &&
           kinds[HISTORY_RECV] != 0;
}

static void say_wedged(const struct setting *setting, noria_channel *channel)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    printf("%s: a sender was refused for %d s; %ld messages, %lu held, %u senders, %u receivers\n", setting->name,
           WEDGED_AFTER_S, (long)stat.messages, stat.held, stat.senders, stat.receivers);
}

static bool run_setting(const struct setting *setting)
{
    noria_channel *channel;
    struct noria_options options;
    struct noria_stat stat = {0};
    pid_t children[PARTICIPANTS];
    bool good = true;

    memset(recorders, 0, sizeof(*recorders) * PARTICIPANTS);
    noria_store_relaxed32(attached, 0); /* before the others are there */
    noria_options_init(&options);
    options.max_message = 8;
    options.max_participants = 8;
    options.full = setting->full;
    options.priorities = setting->levels;
    options.capacity = setting->capacity;
    options.first_position = setting->first_position;
    if (noria_open(&channel, "anon:", 0, &options) != 0)
        return false;
    for (uint32_t i = 0; i < PARTICIPANTS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            take_part(channel, setting, i);
        }
        good = good && children[i] > 0;
    }
    for (uint32_t i = 0; i < PARTICIPANTS; i++) {
        int status = 1;
        good = children[i] > 0 && waitpid(children[i], &status, 0) > 0 && status == 0 && good;
        if (WIFEXITED(status) && WEXITSTATUS(status) == WEDGED)
            say_wedged(setting, channel);
    }
    noria_stat(channel, &stat);
    noria_close(channel);
    return good && judge(setting, stat.lost);
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

int main(void)
{
    int rounds = getenv("NORIA_LONG") != NULL ? 40 : 1, bad = 0;

    ticks = ticks_are_one_clock();
    recorders = mmap(NULL, sizeof(*recorders) * PARTICIPANTS, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    attached = mmap(NULL, sizeof(*attached), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (recorders == MAP_FAILED || attached == MAP_FAILED)
        return 1;
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
            bad += !run_setting(&settings[i]);
    return bad != 0;
}
