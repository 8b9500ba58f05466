/* SPDX-License-Identifier: BSD-2-Clause */
#include "inside.h"

#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <ucontext.h>

static sigjmp_buf way_out;
static volatile long made, limit, next_limit;

static void after_instruction(int signo)
{
    (void)signo; /* the flag is off in here */
    if (++made == limit)
        siglongjmp(way_out, 1);
}

static void stop_after_instruction(int signo, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;

    (void)signo, (void)info;
    if (++made != limit)
        return;
    limit = next_limit;
    if (limit == made)
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
    raise(SIGSTOP);
}

/* Below the red zone. */
static inline void trap(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
                     ::: "memory", "cc");
}

static inline void trap_no_more(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
                     ::: "memory", "cc");
}

bool call_left_inside(call_body *call, void *argument, long instruction)
{
    const struct sigaction action = {.sa_handler = after_instruction};
    struct sigaction before;
    volatile bool left = true;

    made = 0;
    limit = instruction;
    sigaction(SIGTRAP, &action, &before);
    if (sigsetjmp(way_out, 1) == 0) {
        trap();
        call(argument);
        trap_no_more();
        left = false;
    }
    sigaction(SIGTRAP, &before, NULL);
    return left;
}

bool call_stopped_inside(call_body *call, void *argument, long instruction, long more)
{
    const struct sigaction action = {.sa_sigaction = stop_after_instruction, .sa_flags = SA_SIGINFO};
    struct sigaction before;

    made = 0;
    limit = instruction;
    next_limit = instruction + more;
    sigaction(SIGTRAP, &action, &before);
    trap();
    call(argument);
    trap_no_more();
    sigaction(SIGTRAP, &before, NULL);
    return made >= instruction;
}

bool wait_until_it_stops(pid_t pid)
{
    int status;

    return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

long call_length(call_body *call, void *argument)
{
    call_left_inside(call, argument, LONG_MAX);
    return made;
}
