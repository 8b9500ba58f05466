/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory, seats, participants, window. */
#include "leader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { MOST_PARTICIPANTS = 2 * BENCH_MOST_SIDE };

struct chair { /* a participant before it exists */
    struct participant participant;
    void (*loop)(struct participant *me);
    uint32_t core;
    size_t ring_bytes;
};

static struct chair chairs[MOST_PARTICIPANTS];
static struct run *this_run;
static volatile sig_atomic_t children;

static void on_child(int signal_number)
{
    int status, saved = errno;

    (void)signal_number;
    while (waitpid(-1, &status, WNOHANG) > 0) {
        children--;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        this_run->crashed = WIFSIGNALED(status) ? WTERMSIG(status) : 256 + WEXITSTATUS(status);
        _exit(1);
    }
    errno = saved;
}

/*
 * Neighbours in this order get different cores, and on two cores each has producers and consumers, so that
 * producers really run against each other: P0 C0 C1 P1 P2 C2 C3 P3 ...
 */
static uint32_t core_of(enum role role, uint32_t index, const struct settings *settings)
{
    uint32_t second = role == ROLE_PRODUCER ? index % 2 : 1 - index % 2;

    return settings->core[(2 * index + second) % settings->cores];
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static void pin(uint32_t core)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* In the participant: its core, its page tables, its private buffer, its loop. */
static void *sit_down(void *argument)
{
    struct chair *chair = argument;
    struct participant *me = &chair->participant;
    size_t bytes = (size_t)me->cell->size * me->cell->batch;

    pin(chair->core);
    for (int i = 0; i < 2; i++) {
        if (me->seat[i].memory == NULL)
            continue;
        madvise(me->seat[i].memory, chair->ring_bytes, MADV_POPULATE_WRITE);
        me->seat[i].scratch =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (me->seat[i].scratch == MAP_FAILED)
            participant_fail(me, -ENOMEM);
    }
    chair->loop(me);
    return NULL;
}

static void take_seat(struct seat *seat, void *memory, const struct cell *cell, enum role role,
                      uint32_t index)
{
    *seat = (struct seat){.memory = memory, .cell = cell, .role = role, .index = index};
    seat->owner = 1 + index + (role == ROLE_CONSUMER ? cell->producers : 0);
}

/* Stream: everybody on ring 0. Round trip: the first sends on 0 and receives on 1, the second the other way.
 */
static void assign(struct chair *chair, void *const memory[2], enum role role, uint32_t index)
{
    struct participant *me = &chair->participant;
    const struct cell *cell = me->cell;

    if (cell->round_trip) {
        take_seat(&me->seat[0], memory[role == ROLE_PRODUCER ? 0 : 1], cell, ROLE_PRODUCER, 0);
        take_seat(&me->seat[1], memory[role == ROLE_PRODUCER ? 1 : 0], cell, ROLE_CONSUMER, 0);
    } else {
        take_seat(&me->seat[0], memory[0], cell, role, index);
    }
    me->tally = role == ROLE_PRODUCER ? &me->run->producer[index] : &me->run->consumer[index];
    me->canary = index == 0 ? (role == ROLE_PRODUCER ? 1 : 2) : 0;
}

static void prepare_barriers(struct run *run, uint32_t participants)
{
    pthread_barrierattr_t shared;

    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&run->seated, &shared, participants);
    pthread_barrier_init(&run->ready, &shared, participants + 1); /* the leader times the window */
    pthread_barrier_init(&run->over, &shared, participants);
}

static size_t format_rings(struct run *run, const struct contestant *contestant, const struct cell *cell,
                           void *memory[2])
{
    size_t bytes = contestant->footprint(cell);

    for (int i = 0; i < (cell->round_trip ? 2 : 1); i++) {
        int error =
            (memory[i] = shared_memory(bytes)) == NULL ? -ENOMEM : contestant->format(memory[i], cell);

        if (error != 0) {
            run->refused = error;
            _exit(1);
        }
    }
    return bytes;
}

static void start_process(struct chair *chair)
{
    pid_t leader = getpid(), child = fork();

    if (child < 0)
        participant_fail(&chair->participant, -errno);
    if (child > 0)
        return;
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != leader)
        _exit(1);
    sit_down(chair);
    _exit(0);
}

static void sleep_until(uint64_t wake_ns)
{
    struct timespec wake = {.tv_sec = (time_t)(wake_ns / 1000000000u),
                            .tv_nsec = (long)(wake_ns % 1000000000u)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR)
        continue;
}

static void time_window(struct run *run, const struct settings *settings)
{
    pthread_barrier_wait(&run->ready);
    sleep_until(clock_ns() + settings->window_ns);
    __atomic_store_n(&run->stop, 1, __ATOMIC_RELEASE);
}

static void with_processes(struct run *run, uint32_t count, const struct settings *settings)
{
    sigset_t none, child;

    children = (sig_atomic_t)count;
    signal(SIGCHLD, on_child);
    for (uint32_t i = 0; i < count; i++)
        start_process(&chairs[i]);
    sigemptyset(&none);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &none, NULL);
    time_window(run, settings);
    sigprocmask(SIG_BLOCK, &child, NULL);
    while (children > 0)
        sigsuspend(&none);
}

static void with_threads(struct run *run, uint32_t count, const struct settings *settings)
{
    pthread_t thread[MOST_PARTICIPANTS];

    for (uint32_t i = 0; i < count; i++)
        if (pthread_create(&thread[i], NULL, sit_down, &chairs[i]) != 0)
            participant_fail(&chairs[i].participant, -EAGAIN);
    time_window(run, settings);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
}

/*
 * Where we may, other load gets little of the cores while a run lasts. With autogroups a nice value counts
 * only within a session, so the run gets a session of its own and that session the value.
 */
static void take_precedence(void)
{
    int autogroup;

    setsid();
    setpriority(PRIO_PROCESS, 0, -20);
    autogroup = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (autogroup < 0)
        return;
    if (write(autogroup, "-20", 3) != 3)
        errno = 0; /* not allowed: the disturbance is measured anyway */
    close(autogroup);
}

static void fill_chair(struct chair *chair, const struct contestant *contestant, enum role role,
                       uint32_t index, const struct settings *settings)
{
    bool round_trip = chair->participant.cell->round_trip;

    chair->core = core_of(role, index, settings);
    if (role == ROLE_PRODUCER)
        chair->loop = round_trip ? contestant->ping : contestant->produce;
    else
        chair->loop = round_trip ? contestant->echo : contestant->consume;
}

void leader_main(struct run *run, const struct contestant *contestant, const struct cell *cell,
                 uint32_t pauses, const struct settings *settings)
{
    uint32_t count = cell->producers + cell->consumers;
    void *memory[2] = {NULL, NULL};
    size_t bytes;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    take_precedence();
    this_run = run;
    run->least = settings->least;
    bytes = format_rings(run, contestant, cell, memory);
    prepare_barriers(run, count);
    for (uint32_t i = 0; i < count; i++) {
        enum role role = i < cell->producers ? ROLE_PRODUCER : ROLE_CONSUMER;
        uint32_t index = role == ROLE_PRODUCER ? i : i - cell->producers;
        struct participant *me = &chairs[i].participant;

        me->run = run;
        me->cell = cell;
        me->pauses = pauses;
        me->yields = settings->cores == 1 || (count > settings->cores && !cell->spin);
        me->one_core = settings->cores == 1;
        chairs[i].ring_bytes = bytes;
        fill_chair(&chairs[i], contestant, role, index, settings);
        assign(&chairs[i], memory, role, index);
    }
    if ((contestant->traits & NEEDS_THREADS) != 0)
        with_threads(run, count, settings);
    else
        with_processes(run, count, settings);
    for (int i = 0; i < (cell->round_trip ? 2 : 1) && contestant->close != NULL; i++)
        contestant->close(memory[i]);
    _exit(0);
}
