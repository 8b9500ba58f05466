/* SPDX-License-Identifier: BSD-2-Clause */
/* The bench process's side of a run: start the leader, sleep, end what hangs, read the result. */
#include "run.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "canary.h"
#include "judge.h"
#include "leader.h"
#include "participant.h"

static void measure_tick_rate(struct settings *settings)
{
    uint64_t begin_ns = clock_ns(), begin = ticks_now();
    struct timespec wait = {.tv_nsec = 20 * 1000 * 1000};

    nanosleep(&wait, NULL);
    settings->ticks_per_ns = (double)(ticks_now() - begin) / (double)(clock_ns() - begin_ns);
}

void run_defaults(struct settings *settings, uint32_t most)
{
    cpu_set_t allowed;

    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof allowed, &allowed);
    settings->cores = 0;
    for (uint32_t core = 0; core < CPU_SETSIZE && settings->cores < most; core++)
        if (CPU_ISSET(core, &allowed))
            settings->core[settings->cores++] = core;
    measure_tick_rate(settings);
}

/* Sleeps until the leader is gone or the time is over. True: gone by itself. */
static bool await_leader(pid_t leader, uint64_t deadline_ns)
{
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        uint64_t now_ns = clock_ns();
        struct timespec left;

        if (waitpid(leader, NULL, WNOHANG) == leader)
            return true;
        if (now_ns >= deadline_ns)
            return false;
        left.tv_sec = (time_t)((deadline_ns - now_ns) / 1000000000u);
        left.tv_nsec = (long)((deadline_ns - now_ns) % 1000000000u);
        sigtimedwait(&child, NULL, &left);
    }
}

/* Participants die with their leader (PR_SET_PDEATHSIG) and then are our children: nobody is left on the
 * cores. */
static void reap_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        continue;
}

static void block_child_signal(void)
{
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void run_measure(const struct contestant *contestant, const struct cell *cell, uint32_t pauses,
                 const struct settings *settings, struct outcome *outcome)
{
    struct run *run = mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool ended;
    pid_t leader;

    memset(outcome, 0, sizeof *outcome);
    outcome->verdict = RUN_REFUSED;
    outcome->detail = -ENOMEM;
    if (run == MAP_FAILED)
        return;
    block_child_signal();
    fflush(NULL);
    leader = fork();
    if (leader == 0)
        leader_main(run, contestant, cell, pauses, settings);
    ended = leader > 0 && await_leader(leader, clock_ns() + settings->window_ns + settings->watchdog_ns);
    if (leader > 0 && !ended)
        kill(leader, SIGKILL);
    reap_all();
    judge(run, cell, settings, ended, outcome);
    munmap(run, sizeof *run);
}
