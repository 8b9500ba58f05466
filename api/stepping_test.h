/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A child whose every instruction can be watched: it marks where a call begins and ends by stopping itself,
 * and is single-stepped in between. Included by one file per program.
 */
#ifndef NORIA_STEPPING_TEST_H
#define NORIA_STEPPING_TEST_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "stepped_clock_test.h"
#include "variants_test.h"

/* In the child, before and after each call. */
static inline void mark(void)
{
    raise(SIGSTOP);
}

static inline void end_of_patience(int signal)
{
    (void)signal; /* it ends a waitpid */
}

/* Again and again, so that one that comes between two waits is not lost. */
static inline void set_patience(int seconds)
{
    struct sigaction action = {.sa_handler = end_of_patience};
    struct itimerval timer = {{seconds, 0}, {seconds, 0}};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* The signal that the child stopped with. Fails if it is gone, or does not stop at all: it hangs. */
static inline int await_stop(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        print_message("the child died of signal %d\n", WTERMSIG(status));
    if (WIFEXITED(status))
        print_message("the child ended with %d\n", WEXITSTATUS(status));
    assert_true(WIFSTOPPED(status));
    return WSTOPSIG(status);
}

enum { NO_TRACING = 99 };

/* Elsewhere a step between a load-linked and its store makes the store fail, for ever. */
static inline bool machine_steps_well(void)
{
    struct utsname machine;

    return uname(&machine) == 0 && strcmp(machine.machine, "x86_64") == 0;
}

/* Starts a child that does `life`, and lets it run to its first mark. Skips the test where nothing can be
 * stepped. */
static inline pid_t start_stepped(void (*life)(void))
{
    siginfo_t info = {0};
    pid_t child;

    if (!machine_steps_well()) {
        print_message("skipped: single steps are for x86-64\n");
        skip();
    }

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(NO_TRACING);
        life();
        _exit(0);
    }
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WNOWAIT), 0);
    if (info.si_code == CLD_EXITED && info.si_status == NO_TRACING) {
        waitpid(child, NULL, 0);
        print_message("skipped: no right to trace children\n");
        skip();
    }
    assert_int_equal(await_stop(child), SIGSTOP);
    return child;
}

/* One instruction on. False if the child is at its next mark. */
static inline bool step(pid_t child)
{
    int signal;

    assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
    signal = await_stop(child);
    assert_true(signal == SIGTRAP || signal == SIGSTOP);
    return signal == SIGTRAP;
}

/* Lets it run on, with a signal first if it is not 0, to its next mark. */
static inline void run_to_mark(pid_t child, int signal)
{
    assert_int_equal(ptrace(PTRACE_CONT, child, NULL, (void *)(intptr_t)signal), 0);
    assert_int_equal(await_stop(child), SIGSTOP);
}

static inline void end_stepped(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

#endif
