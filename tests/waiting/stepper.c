/* SPDX-License-Identifier: BSD-2-Clause */
#include "stepper.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../channel/peers.h"

enum { PATIENCE_US = 20000000, ASLEEP_US = 1000 };

/* Led step by step, a call takes so long that it would ask after its peers, now and then. So for a victim
 * the clock that this is measured by stands still. Takes the C library's place in the whole program. */
static bool is_victim;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (is_victim && clock == CLOCK_MONOTONIC_COARSE) {
        *now = (struct timespec){.tv_sec = 1};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

/* Where the calls begin and end; a trap's process stands one byte behind it. */
extern const char stepper_start[], stepper_end[];

__attribute__((noinline)) static void run_between_traps(void (*call)(void))
{
    __asm__ volatile(".globl stepper_start\n"
                     "stepper_start: int3" ::
                         : "memory");
    call();
    __asm__ volatile(".globl stepper_end\n"
                     "stepper_end: int3" ::
                         : "memory");
}

_Noreturn void stepper_serve(void (*call)(void))
{
    is_victim = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    PEER_REQUIRES(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    for (;;)
        run_between_traps(call);
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static uint64_t pc_of(pid_t victim)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, victim, offsetof(struct user_regs_struct, rip), NULL);
}

static _Noreturn void give_up(const char *what, int status)
{
    fprintf(stderr, "stepper: %s (status %#x)\n", what, (unsigned)status);
    abort();
}

/* The one that is set, and the code in whose place it stands; 0: none. */
static uint64_t breakpoint;
static long code;

/* An int3 in the victim's own copy of the code. Not a debug register: some virtual machines take it and never stop. */
static void set_breakpoint(pid_t victim, uint64_t pc)
{
    breakpoint = pc;
    code = ptrace(PTRACE_PEEKTEXT, victim, pc, NULL);
    ptrace(PTRACE_POKETEXT, victim, pc, (code & ~0xffL) | 0xcc);
}

static void clear_breakpoint(pid_t victim)
{
    if (breakpoint != 0)
        ptrace(PTRACE_POKETEXT, victim, breakpoint, code);
    breakpoint = 0;
}

/* It stands behind an int3 of ours: the instruction there is still to be executed. */
static bool is_at_breakpoint(pid_t victim)
{
    uint64_t pc = breakpoint;

    if (pc == 0 || pc_of(victim) != pc + 1)
        return false;
    clear_breakpoint(victim);
    ptrace(PTRACE_POKEUSER, victim, offsetof(struct user_regs_struct, rip), pc);
    return true;
}

static enum whereabouts judge(pid_t victim, int status)
{
    if (!WIFSTOPPED(status))
        return GONE;
    if (WSTOPSIG(status) != SIGTRAP)
        give_up("the victim was stopped by another signal", status);
    if (is_at_breakpoint(victim))
        return STANDS;
    return pc_of(victim) == (uint64_t)stepper_end + 1 ? ENDED : STANDS;
}

/* Until the victim stops, or has slept for a millisecond. */
static enum whereabouts await_stop(pid_t victim, bool may_sleep)
{
    int64_t start = now_us(), awake = start, now = start;
    int status;

    for (int tries = 0; now - start < PATIENCE_US; tries++) {
        pid_t found = waitpid(victim, &status, WNOHANG);
        if (found == victim)
            return judge(victim, status);
        now = now_us();
        if (tries < 10 || !is_asleep(victim))
            awake = now;
        if (may_sleep && now - awake > ASLEEP_US && waitpid(victim, &status, WNOHANG) == 0)
            return SLEEPS;
        sched_yield();
    }
    return GONE;
}

/* It is our fork, so its code is ours, too. */
static bool is_system_call(uint64_t pc)
{
    return *(const uint8_t *)pc == 0x0f && *(const uint8_t *)(pc + 1) == 0x05;
}

enum whereabouts stepper_step(pid_t victim)
{
    bool enters_kernel = is_system_call(pc_of(victim));
    int status;

    ptrace(PTRACE_SINGLESTEP, victim, NULL, NULL);
    if (enters_kernel)
        return await_stop(victim, true);
    if (waitpid(victim, &status, 0) != victim)
        give_up("no victim", errno);
    return judge(victim, status);
}

enum whereabouts stepper_run(pid_t victim)
{
    ptrace(PTRACE_CONT, victim, NULL, NULL);
    return await_stop(victim, true);
}

enum whereabouts stepper_trace(pid_t victim, struct trace *trace)
{
    enum whereabouts where = STANDS;

    for (trace->length = 0; where == STANDS && trace->length < TRACE_MAX; trace->length++) {
        trace->pc[trace->length] = pc_of(victim);
        where = stepper_step(victim);
    }
    return where;
}

/* -------------------------------------------------------------------------------------------- breakpoints */

/* A string instruction is stepped round by round, but a breakpoint on it is hit only when it is entered. */
static bool in_string_instruction(const struct trace *trace, int at)
{
    return at > 0 && trace->pc[at] == trace->pc[at - 1];
}

/* How often the instruction at position `at` is entered on the way there. */
static int passes(const struct trace *trace, int at)
{
    int n = 0;

    for (int i = 1; i <= at; i++)
        n += trace->pc[i] == trace->pc[at] && !in_string_instruction(trace, i);
    return n;
}

/* The position for the breakpoint: the fewest stops before it plus steps after it. */
static int cheapest_anchor(const struct trace *trace, int to, int *stops)
{
    int best = 0, cost = to;

    *stops = 0;
    for (int at = to; at > 0 && to - at < cost; at--) {
        int n = in_string_instruction(trace, at) ? cost : passes(trace, at);
        if (n + to - at < cost) {
            cost = n + to - at;
            best = at;
            *stops = n;
        }
    }
    return best;
}

/* Goes on until the instruction at `pc` is to be executed the next time. A victim that falls asleep before keeps the
 * breakpoint. */
static enum whereabouts run_to(pid_t victim, uint64_t pc)
{
    enum whereabouts where = pc_of(victim) == pc ? stepper_step(victim) : STANDS;

    if (where != STANDS || pc_of(victim) == pc)
        return where;
    set_breakpoint(victim, pc);
    where = stepper_run(victim);
    if (where == STANDS || where == ENDED)
        clear_breakpoint(victim);
    return where;
}

enum whereabouts stepper_advance(pid_t victim, const struct trace *trace, int k)
{
    enum whereabouts where = STANDS;
    int stops, at = cheapest_anchor(trace, k, &stops);

    clear_breakpoint(victim); /* of a call before */
    for (int i = 0; i < stops && where == STANDS; i++)
        where = run_to(victim, trace->pc[at]);
    if (where == SLEEPS) /* it came another way */
        return where;
    for (int i = at; i < k && where == STANDS; i++)
        where = stepper_step(victim);
    return where;
}

enum whereabouts stepper_await_wake(pid_t victim)
{
    return await_stop(victim, false);
}

void stepper_await_call(pid_t victim)
{
    if (await_stop(victim, false) != STANDS)
        give_up("the victim does not come to its call", 0);
}

bool stepper_finish(pid_t victim, enum whereabouts where)
{
    clear_breakpoint(victim); /* if it did not come that way */
    if (where == ENDED)
        return true;
    ptrace(PTRACE_CONT, victim, NULL, NULL);
    return await_stop(victim, false) == ENDED;
}

void stepper_next(pid_t victim)
{
    ptrace(PTRACE_CONT, victim, NULL, NULL);
    stepper_await_call(victim);
}
