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
                     "stopkill_end: int3" ::
                         : "memory");
}

_Noreturn static void victim_life(const struct operation *operation, struct party *me)
{
    signal(SIGALRM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (joined_beforehand(operation) && me->roles == 0 && contestant.join(me, operation->role) != 0)
        _exit(3);
    if (operation->prepare != NULL && operation->prepare(me) != 0)
        _exit(5);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(4);
    run_between_traps(operation, me);
    ledger_settle_accounts(me);
    victim_afterlife(me);
    _exit(0);
}

/* ----------------------------------------------------------------------------- stops and registers */

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

/* An int3 in the victim's own copy of the code. Not a debug register: some virtual machines take it and never stop. */
static void set_breakpoint(const struct victim *victim, uint64_t pc, long *code)
{
    *code = ptrace(PTRACE_PEEKTEXT, victim->pid, pc, NULL);
    ptrace(PTRACE_POKETEXT, victim->pid, pc, (*code & ~0xffL) | 0xcc);
}

static void clear_breakpoint(const struct victim *victim, uint64_t pc, long code)
{
    ptrace(PTRACE_POKETEXT, victim->pid, pc, code);
}

/* Goes on until the instruction at `pc` is to be executed the next time. */
static enum arrival proceed_to(struct victim *victim, uint64_t pc)
{
    enum arrival arrival = ARRIVED;
    long code;

    if (victim->pc == pc)
        arrival = single_step(victim);
    if (arrival != ARRIVED || victim->pc == pc)
        return arrival;
    set_breakpoint(victim, pc, &code);
    arrival = proceed(victim);
    if (victim->pid != 0 && arrival != HUNG)
        clear_breakpoint(victim, pc, code);
    if ((arrival == ARRIVED || arrival == ENDED) && victim->pc == pc + 1) {
        victim->pc = pc;
        ptrace(PTRACE_POKEUSER, victim->pid, offsetof(struct user_regs_struct, rip), pc);
    }
    return arrival;
}

/* ------------------------------------------------------------------------------------------- lives */

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

/* ----------------------------------------------------------------------------------------- tracing */

/* Where the victim has the shared memory. */
enum { REGIONS = 8 };
static struct region {
    unsigned long start, end;
} regions[REGIONS];
static int region_count;

/* A channel's operations map and unmap segments, so this is asked again after each system call. */
static void find_regions(const struct victim *victim)
{
    char path[64], line[512];
    FILE *maps;

    region_count = 0;
    if (contestant.segment == NULL) {
        regions[region_count++] = (struct region){(unsigned long)arena->ring,
                                                  (unsigned long)(arena->ring + sizeof(arena->ring))};
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/maps", victim->pid);
    maps = fopen(path, "re");
    while (maps != NULL && region_count < REGIONS && fgets(line, sizeof(line), maps) != NULL) {
        struct region *region = &regions[region_count];
        if (strstr(line, contestant.segment) != NULL &&
            sscanf(line, "%lx-%lx", &region->start, &region->end) == 2)
            region_count++;
    }
    if (maps != NULL)
        fclose(maps);
}

/* Makes the victim call mprotect, as if it stood in its own code here. */
static void inject_mprotect(struct victim *victim, const struct region *region, unsigned long protection)
{
    struct user_regs_struct saved, injected;

    ptrace(PTRACE_GETREGS, victim->pid, NULL, &saved);
    injected = saved;
    injected.rip = (unsigned long)stopkill_syscall;
    injected.rax = SYS_mprotect;
    injected.orig_rax = ~0ul;
    injected.rdi = region->start;
    injected.rsi = region->end - region->start;
    injected.rdx = protection;
    ptrace(PTRACE_SETREGS, victim->pid, NULL, &injected);
    single_step(victim);
    ptrace(PTRACE_SETREGS, victim->pid, NULL, &saved);
    victim->pc = saved.rip;
}

static void protect_regions(struct victim *victim, unsigned long protection)
{
    for (int i = 0; i < region_count; i++)
        inject_mprotect(victim, &regions[i], protection);
}

static bool fault_in_region(const struct victim *victim)
{
    siginfo_t info;

    if (ptrace(PTRACE_GETSIGINFO, victim->pid, NULL, &info) != 0 || info.si_signo != SIGSEGV)
        return false;
    for (int i = 0; i < region_count; i++)
        if ((unsigned long)info.si_addr >= regions[i].start && (unsigned long)info.si_addr < regions[i].end)
            return true;
    return false;
}

static bool at_system_call(const struct victim *victim)
{
    long text = ptrace(PTRACE_PEEKTEXT, victim->pid, victim->pc, NULL);

    return (text & 0xffff) == 0x050f;
}

/* One step with the shared memory in reach. */
static enum arrival step_allowed(struct victim *victim)
{
    enum arrival arrival;

    protect_regions(victim, PROT_READ | PROT_WRITE);
    arrival = single_step(victim);
    if (arrival == ARRIVED)
        protect_regions(victim, PROT_NONE);
    return arrival;
}

/* One step with it out of reach: *touches tells whether the instruction wanted it. */
static enum arrival step_watched(struct victim *victim, bool *touches)
{
    enum arrival arrival;

    *touches = at_system_call(victim);
    if (*touches) { /* the kernel may want it on the victim's behalf, or map more of it */
        protect_regions(victim, PROT_READ | PROT_WRITE);
        arrival = single_step(victim);
        if (arrival != ARRIVED)
            return arrival;
        find_regions(victim);
        protect_regions(victim, PROT_NONE);
        return arrival;
    }
    arrival = single_step(victim);
    if (arrival != CRASHED || victim->pid == 0 || !fault_in_region(victim))
        return arrival;
    *touches = true;
    return step_allowed(victim);
}

enum arrival victim_trace(struct victim *victim, struct trace *trace)
{
    enum arrival arrival = ARRIVED;

    trace->length = 0;
    set_alarm(20 * patience_ms);
    find_regions(victim);
    protect_regions(victim, PROT_NONE);
    trace->pc[0] = victim->pc;
    while (arrival == ARRIVED && trace->length < TRACE_MAX) {
        trace->calls[trace->length] = at_system_call(victim);
        arrival = step_watched(victim, &trace->touches[trace->length]);
        trace->pc[++trace->length] = victim->pc;
    }
    set_alarm(0);
    trace->touches[trace->length] = false;
    return arrival == ARRIVED ? HUNG : arrival;
}

/* ----------------------------------------------------------------------------------------- advance */

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

enum arrival victim_step(struct victim *victim, int n)
{
    enum arrival arrival = ARRIVED;

    for (int i = 0; i < n && arrival == ARRIVED; i++)
        arrival = single_step(victim);
    return arrival;
}

enum arrival victim_advance(struct victim *victim, const struct trace *trace, int to)
{
    enum arrival arrival = ARRIVED;
    int stops, at = cheapest_anchor(trace, to, &stops);

    set_alarm(patience_ms);
    for (int i = 0; i < stops && arrival == ARRIVED; i++)
        arrival = proceed_to(victim, trace->pc[at]);
    if (arrival == ARRIVED)
        arrival = victim_step(victim, to - at);
    set_alarm(0);
    return arrival;
}
