/* SPDX-License-Identifier: BSD-2-Clause */
#include "victim.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger.h"

/* Where an operation ends, and a system call instruction that a victim can be made to execute. */
extern const char stopkill_end[], stopkill_syscall[];
__asm__(".pushsection .text\n"
        ".globl stopkill_syscall\n"
        "stopkill_syscall: syscall\n"
        "int3\n"
        ".popsection\n");

static int last_signal;
static int patience_ms = 1000;

/* The operation under test, between two traps. */
__attribute__((noinline)) static void run_between_traps(const struct operation *operation, struct party *me)
{
    __asm__ volatile("int3" ::: "memory");
    operation->run(me);
    __asm__ volatile(".globl stopkill_end\n"
                     "stopkill_end: int3" ::: "memory");
}

_Noreturn static void victim_life(const struct operation *operation, struct party *me)
{
    signal(SIGALRM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (joined_beforehand(operation) && me->roles == 0 && contestant.join(me, operation->role) != 0)
        _exit(3);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(4);
    run_between_traps(operation, me);
    ledger_settle_accounts(me);
    victim_afterlife(me);
    _exit(0);
}

/* ------------------------------------------------------------------------------------------ stops and registers */

static void on_alarm(int sig)
{
    (void)sig;
}

void victim_set_patience(int ms)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm; /* without SA_RESTART: it ends a waitpid */
    sigaction(SIGALRM, &action, NULL);
    patience_ms = ms;
}

/* Fires again and again, so that an alarm between two waits does not get lost. */
static void set_alarm(int ms)
{
    struct itimerval timer = {{ms / 1000, ms % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static uint64_t read_pc(pid_t pid)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), NULL);
}

/* Waits for the next stop of the victim. The signal that stopped it, 0 if it is gone, -1 out of patience. */
static int wait_stop(struct victim *victim)
{
    int status;

    if (waitpid(victim->pid, &status, __WALL) != victim->pid)
        return -1;
    if (!WIFSTOPPED(status)) {
        last_signal = WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
        victim->pid = 0;
        return 0;
    }
    return WSTOPSIG(status);
}

static enum arrival judge_stop(struct victim *victim, int sig)
{
    if (sig < 0)
        return HUNG;
    if (sig == 0)
        return CRASHED;
    victim->pc = read_pc(victim->pid);
    if (sig != SIGTRAP) {
        last_signal = sig;
        return CRASHED;
    }
    if (victim->pc == (uint64_t)stopkill_end || victim->pc == (uint64_t)stopkill_end + 1)
        return ENDED;
    return ARRIVED;
}

static enum arrival single_step(struct victim *victim)
{
    ptrace(PTRACE_SINGLESTEP, victim->pid, NULL, NULL);
    return judge_stop(victim, wait_stop(victim));
}

static enum arrival proceed(struct victim *victim)
{
    ptrace(PTRACE_CONT, victim->pid, NULL, NULL);
    return judge_stop(victim, wait_stop(victim));
}

static void set_breakpoint(const struct victim *victim, uint64_t pc)
{
    ptrace(PTRACE_POKEUSER, victim->pid, offsetof(struct user, u_debugreg[0]), pc);
    ptrace(PTRACE_POKEUSER, victim->pid, offsetof(struct user, u_debugreg[7]), 1L);
}

static void clear_breakpoint(const struct victim *victim)
{
    ptrace(PTRACE_POKEUSER, victim->pid, offsetof(struct user, u_debugreg[7]), 0L);
}

/* --------------------------------------------------------------------------------------------------------- lives */

enum arrival victim_start(struct victim *victim, const struct operation *operation, struct party *party)
{
    int sig;

    victim->party = party;
    victim->pid = fork();
    if (victim->pid < 0) {
        perror("stopkill: fork");
        exit(2);
    }
    if (victim->pid == 0)
        victim_life(operation, party);
    set_alarm(patience_ms);
    sig = wait_stop(victim);
    set_alarm(0);
    return judge_stop(victim, sig);
}

enum arrival victim_resume(struct victim *victim)
{
    enum arrival arrival = ENDED;

    set_alarm(patience_ms);
    if (victim->pc != (uint64_t)stopkill_end + 1)
        arrival = proceed(victim);
    set_alarm(0);
    if (arrival == ENDED)
        ptrace(PTRACE_CONT, victim->pid, NULL, NULL);
    return arrival;
}

void victim_kill(struct victim *victim)
{
    if (victim->pid == 0)
        return;
    set_alarm(0);
    kill(victim->pid, SIGKILL);
    do
        last_signal = 0;
    while (wait_stop(victim) > 0);
}

int victim_signal(void)
{
    return last_signal;
}

/* -------------------------------------------------------------------------------------------------------- tracing */

/* Makes the victim change the protection of the ring, as if it had called mprotect itself here. */
static void protect_ring(struct victim *victim, unsigned long protection)
{
    struct user_regs_struct saved, injected;

    ptrace(PTRACE_GETREGS, victim->pid, NULL, &saved);
    injected = saved;
    injected.rip = (unsigned long)stopkill_syscall;
    injected.rax = SYS_mprotect;
    injected.orig_rax = ~0ul;
    injected.rdi = (unsigned long)arena->ring;
    injected.rsi = sizeof(arena->ring);
    injected.rdx = protection;
    ptrace(PTRACE_SETREGS, victim->pid, NULL, &injected);
    single_step(victim);
    ptrace(PTRACE_SETREGS, victim->pid, NULL, &saved);
    victim->pc = saved.rip;
}

static bool fault_in_ring(const struct victim *victim)
{
    siginfo_t info;

    return ptrace(PTRACE_GETSIGINFO, victim->pid, NULL, &info) == 0 && info.si_signo == SIGSEGV &&
           (unsigned char *)info.si_addr >= arena->ring &&
           (unsigned char *)info.si_addr < arena->ring + sizeof(arena->ring);
}

static bool at_system_call(const struct victim *victim)
{
    long text = ptrace(PTRACE_PEEKTEXT, victim->pid, victim->pc, NULL);

    return (text & 0xffff) == 0x050f;
}

/* One step with the ring out of bounds: *touches tells whether the instruction wanted it. */
static enum arrival step_watched(struct victim *victim, bool *touches)
{
    enum arrival arrival;

    *touches = at_system_call(victim);
    if (*touches) { /* the kernel may want the ring on its behalf */
        protect_ring(victim, PROT_READ | PROT_WRITE);
        arrival = single_step(victim);
        if (arrival == ARRIVED)
            protect_ring(victim, PROT_NONE);
        return arrival;
    }
    arrival = single_step(victim);
    if (arrival != CRASHED || victim->pid == 0 || !fault_in_ring(victim))
        return arrival;
    *touches = true;
    protect_ring(victim, PROT_READ | PROT_WRITE);
    arrival = single_step(victim);
    if (arrival == ARRIVED)
        protect_ring(victim, PROT_NONE);
    return arrival;
}

enum arrival victim_trace(struct victim *victim, struct trace *trace)
{
    enum arrival arrival = ARRIVED;

    trace->length = 0;
    set_alarm(20 * patience_ms);
    protect_ring(victim, PROT_NONE);
    trace->pc[0] = victim->pc;
    while (arrival == ARRIVED && trace->length < TRACE_MAX) {
        arrival = step_watched(victim, &trace->touches[trace->length]);
        trace->pc[++trace->length] = victim->pc;
    }
    set_alarm(0);
    trace->touches[trace->length] = false;
    return arrival == ARRIVED ? HUNG : arrival;
}

/* ------------------------------------------------------------------------------------------------------- advance */

/* How often the instruction at position `at` is come by on the way from `from` to there. */
static int passes(const struct trace *trace, int from, int at)
{
    int n = 0;

    for (int i = from + 1; i <= at; i++)
        n += trace->pc[i] == trace->pc[at];
    return n;
}

/* The position for the breakpoint: the fewest stops before it plus steps after it. */
static int cheapest_anchor(const struct trace *trace, int from, int to, int *stops)
{
    int best = from, cost = to - from;

    *stops = 0;
    for (int at = to; at > from && to - at < cost; at--) {
        int n = passes(trace, from, at);
        if (n + to - at < cost) {
            cost = n + to - at;
            best = at;
            *stops = n;
        }
    }
    return best;
}

enum arrival victim_advance(struct victim *victim, const struct trace *trace, int from, int to)
{
    enum arrival arrival = ARRIVED;
    int stops, at = cheapest_anchor(trace, from, to, &stops);

    set_alarm(patience_ms);
    if (stops != 0) {
        set_breakpoint(victim, trace->pc[at]);
        for (int i = 0; i < stops && arrival == ARRIVED; i++)
            arrival = proceed(victim);
        if (arrival != CRASHED && arrival != HUNG)
            clear_breakpoint(victim);
    }
    for (; at < to && arrival == ARRIVED; at++)
        arrival = single_step(victim);
    set_alarm(0);
    return arrival;
}
