/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: whoever waits at a pair of robust mutex and condition variable is woken, and whoever is stopped or
 * killed, at any instruction, holds up no waker and no waiter but where mutex.c says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#define LONGEST_NS INT64_C(3600000000000) /* no wait ends by itself: who is woken was rung */
#include "mutex.c"                        /* the tests die in the middle of it */

#define MS NORIA_NS_PER_MS
#define PATIENCE_MS 2000
#define SOON_MS 200 /* far below PATIENCE_MS, far above the time a wake takes on a busy machine */

enum { WAITER = 1, WAKER = 2, OTHER = 3, PARTICIPANTS = 3, LANES = 16 };

/* A channel of its own for each of several experiments that go on at the same time. */
struct lane {
    uint32_t event[2];
    uint32_t words[2][4];
    uint32_t go, returned;
    int64_t until_ns, returned_ns;
    _Alignas(64) struct pair pairs[PARTICIPANTS * 2];
};
static struct lane *lanes;
static pthread_cond_t *trap_cond;
static pthread_mutex_t *trap_mutex;

/* One participant's bell for side 1. */
struct seat {
    struct noria_bell_place place;
    struct noria_bell bell;
};

static void *share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static int setup(void **state)
{
    (void)state;
    lanes = share(sizeof(*lanes) * LANES);
    return lanes == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return munmap(lanes, sizeof(*lanes) * LANES);
}

/* Without open: for those who only ring. */
static void sit(struct seat *seat, struct lane *lane, uint32_t number)
{
    *seat = (struct seat){
        .place = {.participants = PARTICIPANTS, .number = number, .memory = lane->pairs,
                  .words = {lane->words[0], lane->words[1]}},
        .bell = {.word = &lane->event[1], .side = 1, .fd = -1, .set = -1}};
    seat->bell.place = &seat->place;
}

static void sit_and_open(struct seat *seat, struct lane *lane, uint32_t number)
{
    sit(seat, lane, number);
    if (open_bell(&seat->bell) != 0)
        abort();
}

static pid_t start(void (*life)(struct lane *), struct lane *lane)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        life(lane);
        _exit(0);
    }
    return pid;
}

/* The watchdog: whether the process ends within that time. Reaped then. */
static bool ends_within(pid_t pid, int ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), n;
    struct pollfd end = {.fd = fd, .events = POLLIN};

    do
        n = poll(&end, 1, ms);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n == 1 && waitpid(pid, NULL, 0) == pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void await_state(pid_t pid, char wanted)
{
    char path[32], text[512], state = '?';

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    while (state != wanted) {
        FILE *file = fopen(path, "re");
        size_t n = fread(text, 1, sizeof(text) - 1, file);
        text[n] = 0;
        fclose(file);
        state = strrchr(text, ')')[2];
        if (state == 'Z' || state == 't') /* it is over: ended, or at its next step after a short sleep */
            return;
        sched_yield();
    }
}

/* Until it waits, or has already waited. */
static void await_waiter(const struct lane *lane, pid_t pid)
{
    while (noria_load_acquire32(&lane->pairs[1].armed) == 0 && noria_load_acquire32(&lane->returned) == 0)
        sched_yield();
    if (noria_load_acquire32(&lane->returned) == 0)
        await_state(pid, 'S');
}

/* Waits once, until lane->until_ns from now. */
static void wait_once(struct lane *lane)
{
    struct seat seat;

    sit_and_open(&seat, lane, WAITER);
    wait_at(&seat.bell, 0, noria_now_ns() + lane->until_ns);
    lane->returned_ns = noria_now_ns();
    noria_store_release32(&lane->returned, 1);
}

static pid_t start_waiter(struct lane *lane, int64_t for_ns)
{
    pid_t pid;

    lane->until_ns = for_ns;
    lane->returned = 0;
    pid = start(wait_once, lane);
    await_waiter(lane, pid);
    return pid;
}

static void ring_once(struct lane *lane)
{
    struct seat seat;

    sit(&seat, lane, OTHER);
    ring(&seat.bell);
}

static void ring_often(struct lane *lane)
{
    for (int i = 0; i < 1000; i++)
        ring_once(lane);
}

static void come(struct lane *lane)
{
    struct seat seat;

    sit_and_open(&seat, lane, OTHER);
}

static void sleep_a_little(struct lane *lane)
{
    struct seat seat;

    sit(&seat, lane, OTHER); /* came before */
    seat.bell.object = make_shelter();
    seat.bell.state = lane->words[1][RINGS];
    make_pair(&lane->pairs[(OTHER - 1) * 2 + 1]);
    wait_at(&seat.bell, 0, noria_now_ns() + MS);
}

/* Whether a life of that kind gets to its end in bounded time. */
static bool is_bounded(void (*life)(struct lane *), struct lane *lane)
{
    pid_t pid = start(life, lane);

    if (ends_within(pid, PATIENCE_MS))
        return true;
    end(pid);
    return false;
}

/* --------------------------------------------------------------------------------------- why all this */

static void wait_in_trap(struct lane *lane)
{
    (void)lane;
    pthread_mutex_lock(trap_mutex);
    for (;;)
        pthread_cond_wait(trap_cond, trap_mutex);
}

static void signal_trap(struct lane *lane)
{
    (void)lane;
    pthread_cond_broadcast(trap_cond);
}

static bool glibc_is_older_than(int minor)
{
#ifdef __GLIBC__
    return atoi(gnu_get_libc_version() + 2) < minor;
#else
    (void)minor;
    return false;
#endif
}

static bool signaller_hangs(void)
{
    bool hangs = false;

    for (int i = 0; i < 4 && !hangs; i++) {
        pid_t waiter = start(wait_in_trap, NULL), signaller;
        await_state(waiter, 'S');
        if (i % 2 == 0)
            end(waiter); /* keeps its reference for ever */
        signaller = start(signal_trap, NULL);
        hangs = !ends_within(signaller, SOON_MS);
        if (hangs)
            end(signaller);
        if (i % 2 != 0)
            end(waiter);
    }
    return hangs;
}

static void one_variable_for_all_would_block_its_wakers(void **state)
{
    /* Claim: in glibc before 2.41 who signals one shared condition variable blocks for ever behind a killed
     * waiter. */
    enum { TRIES = 3 };
    int hung = 0;

    (void)state;
    if (!glibc_is_older_than(41))
        skip();
    trap_cond = share(sizeof(*trap_cond));
    trap_mutex = share(sizeof(*trap_mutex));
    for (int i = 0; i < TRIES; i++) {
        assert_int_equal(make_cond(trap_cond, PTHREAD_PROCESS_SHARED), 0);
        assert_int_equal(make_mutex(trap_mutex), 0);
        hung += signaller_hangs();
    }
    print_message("one condition variable for all: the waker hung in %d of %d tries\n", hung, TRIES);
    assert_true(hung > 0);
}

/* --------------------------------------------------------------------------------------------- waiting */

static void ring_wakes(void **state)
{
    /* Claim: a ring wakes a sleeper, long before its deadline. */
    (void)state;
    for (int i = 0; i < 100; i++) {
        pid_t waiter = start_waiter(&lanes[0], 10 * PATIENCE_MS * MS);
        ring_once(&lanes[0]);
        assert_true(ends_within(waiter, PATIENCE_MS));
    }
}

static void wait_ends_at_its_deadline(void **state)
{
    /* Claim: without a ring a wait lasts until its deadline, and is over soon after. */
    struct seat seat;
    int64_t until = noria_now_ns() + 20 * MS, late;

    (void)state;
    sit_and_open(&seat, &lanes[0], WAITER);
    wait_at(&seat.bell, 0, until);
    late = noria_now_ns() - until;
    assert_true(late >= 0 && late < SOON_MS * MS);
    close_bell(&seat.bell);
}

static void ring_stays_until_taken_back(void **state)
{
    /* Claim: a ring before the wait is not lost; wait leaves it, quiet takes it back; a changed event word is
     * like one. */
    struct seat seat;
    int64_t never = noria_now_ns() + 100 * PATIENCE_MS * MS;

    (void)state;
    sit_and_open(&seat, &lanes[0], WAITER);
    assert_false(quiet(&seat.bell));
    ring_once(&lanes[0]);
    wait_at(&seat.bell, 0, never);
    wait_at(&seat.bell, 0, never);
    assert_true(quiet(&seat.bell));
    assert_false(quiet(&seat.bell));
    wait_at(&seat.bell, 7, never);
    assert_true(is_bounded(wait_once, &lanes[0])); /* takes no notice of the earlier ring: its time is over */
    close_bell(&seat.bell);
}

static struct seat shared_seat;

static void *wait_in_thread(void *unused)
{
    wait_at(&shared_seat.bell, 0, noria_now_ns() + 10 * PATIENCE_MS * MS);
    return unused;
}

static void wait_with_four_threads(struct lane *lane)
{
    pthread_t threads[4];

    sit_and_open(&shared_seat, lane, WAITER);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, wait_in_thread, NULL);
    noria_store_release32(&lane->go, 1);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void ring_wakes_all_threads(void **state)
{
    /* Claim: one ring wakes all threads of a handle, those before the wait included. */
    (void)state;
    for (int i = 0; i < 50; i++) {
        pid_t pid;
        lanes[0].go = 0;
        pid = start(wait_with_four_threads, &lanes[0]);
        while (noria_load_acquire32(&lanes[0].go) == 0)
            sched_yield();
        ring_once(&lanes[0]);
        assert_true(ends_within(pid, PATIENCE_MS));
    }
}

/* ------------------------------------------------------------------------------------ stopped and dead */

static void dead_waiter_holds_up_nobody(void **state)
{
    /* Claim: behind a waiter killed in its sleep 1000 rings return, and its successor is woken as ever. */
    (void)state;
    for (int i = 0; i < 20; i++) {
        end(start_waiter(&lanes[0], 10 * PATIENCE_MS * MS));
        assert_true(is_bounded(ring_often, &lanes[0]));
    }
    ring_wakes(state);
}

static void stopped_waiter_holds_up_nobody(void **state)
{
    /* Claim: 1000 rings for a stopped waiter return, and it has heard them when it goes on. */
    pid_t waiter = start_waiter(&lanes[0], 10 * PATIENCE_MS * MS);

    (void)state;
    kill(waiter, SIGSTOP);
    await_state(waiter, 'T');
    assert_true(is_bounded(ring_often, &lanes[0]));
    kill(waiter, SIGCONT);
    assert_true(ends_within(waiter, PATIENCE_MS));
}

static void die_with_mutex(struct lane *lane)
{
    take(&lane->pairs[1].mutex, PAUSES, YIELDS);
    kill(getpid(), SIGKILL);
}

static void die_with_turn(struct lane *lane)
{
    take(&lane->pairs[1].turn, PAUSES, YIELDS);
    kill(getpid(), SIGKILL);
}

/* In the middle of pthread_cond_broadcast. */
static void die_in_broadcast(struct lane *lane)
{
    take(&lane->pairs[1].turn, PAUSES, YIELDS);
    lane->pairs[1].armed = 0;
#ifdef __GLIBC__
    lane->pairs[1].cond.__data.__g1_orig_size |= 1;
#endif
    kill(getpid(), SIGKILL);
}

static void stop_with_turn(struct lane *lane)
{
    take(&lane->pairs[1].turn, PAUSES, YIELDS);
    kill(getpid(), SIGSTOP);
    pthread_mutex_unlock(&lane->pairs[1].turn);
}

static void wait_out(struct lane *lane)
{
    struct seat seat;
    int64_t until = noria_now_ns() + 50 * MS;

    sit_and_open(&seat, lane, WAITER);
    noria_store_release32(&lane->go, 1);
    while (noria_now_ns() < until)
        wait_at(&seat.bell, 0, until);
}

static void dead_waker_is_mended(void **state)
{
    /* Claim: after a waker that died with a mutex the waiter is back by its deadline, and rings reach it
     * afterwards. */
    void (*const deaths[])(struct lane *) = {die_with_mutex, die_with_turn};

    (void)state;
    for (int i = 0; i < 2; i++) {
        pid_t waiter = start_waiter(&lanes[0], 50 * MS);
        assert_true(is_bounded(deaths[i], &lanes[0]));
        assert_true(is_bounded(ring_often, &lanes[0]));
        assert_true(ends_within(waiter, PATIENCE_MS));
        ring_wakes(state);
    }
}

static void stopped_waker_does_not_keep_a_pair(void **state)
{
    /* Claim: who inherits a pair with a stopped waker inside waits without it, and with it when the waker has
     * gone on. */
    pid_t waker, waiter;

    assert_true(is_bounded(wait_once, &lanes[0])); /* the pair is made */
    waker = start(stop_with_turn, &lanes[0]);
    await_state(waker, 'T');
    lanes[0].go = 0;
    waiter = start(wait_out, &lanes[0]);
    while (noria_load_acquire32(&lanes[0].go) == 0)
        sched_yield();
    assert_true(is_bounded(ring_often, &lanes[0]));
    assert_true(ends_within(waiter, PATIENCE_MS));
    kill(waker, SIGCONT);
    assert_true(ends_within(waker, PATIENCE_MS));
    ring_wakes(state);
}

static void passers_by_free_a_stuck_waiter(void **state)
{
    /* Claim: a waiter stuck behind a waker that died inside the condition variable is freed by the next ring,
     * by a participant that comes and by a sleeper whose wait runs out. */
    void (*const helpers[])(struct lane *) = {ring_once, come, sleep_a_little};

    (void)state;
    for (int i = 0; i < 3; i++) {
        pid_t waiter = start_waiter(&lanes[0], 5 * MS);
        assert_true(is_bounded(die_in_broadcast, &lanes[0]));
        while (noria_now_ns() - (int64_t)lanes[0].pairs[1].until_ns <= OVERDUE_NS)
            sched_yield();
        assert_true(is_bounded(helpers[i], &lanes[0]));
        assert_true(ends_within(waiter, PATIENCE_MS));
        ring_wakes(state);
    }
}

/* --------------------------------------------------------------------------- at every instruction */

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* What is done to whom. */
struct experiment {
    const char *name;
    void (*life)(struct lane *); /* of the traced process, between two traps */
    bool kill;                   /* or stop */
    bool is_rung;                /* a traced waiter: wakes by a ring, not by its deadline */
};

static struct count {
    int positions;
    int late;      /* the waiter was not back by its deadline without help */
    int held;      /* nor after somebody had come by */
    int unbounded; /* a ring of somebody else did not return */
    int deaf;      /* afterwards the waiter or its successor was not woken by a ring */
} count;

static void ring_traced(struct lane *lane)
{
    struct seat seat;

    sit(&seat, lane, WAKER);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    __asm__ volatile("int3" ::: "memory");
    ring(&seat.bell);
    __asm__ volatile("int3" ::: "memory");
    ptrace(PTRACE_DETACH, 0, NULL, NULL);
}

static void wait_traced(struct lane *lane)
{
    struct seat seat;
    int64_t until;

    sit_and_open(&seat, lane, WAITER);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    until = noria_now_ns() + lane->until_ns;
    __asm__ volatile("int3" ::: "memory");
    wait_at(&seat.bell, 0, until);
    __asm__ volatile("int3" ::: "memory");
}

/* Whether the next instruction sleeps on a futex. */
static bool is_about_to_sleep(pid_t pid)
{
    struct user_regs_struct regs;

    ptrace(PTRACE_GETREGS, pid, NULL, &regs);
    return regs.rax == SYS_futex && (ptrace(PTRACE_PEEKTEXT, pid, regs.rip, NULL) & 0xffff) == 0x050f &&
           ((regs.rsi & 0x7f) == FUTEX_WAIT || (regs.rsi & 0x7f) == FUTEX_WAIT_BITSET);
}

/* One instruction; whether it was one and not the trap at the end. */
static bool step(pid_t pid, const struct experiment *experiment, struct lane *lane)
{
    bool sleeps = experiment->is_rung && is_about_to_sleep(pid);
    struct user_regs_struct regs;
    int status;

    ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
    if (sleeps) {
        await_state(pid, 'S');
        is_bounded(ring_once, lane);
    }
    waitpid(pid, &status, 0);
    ptrace(PTRACE_GETREGS, pid, NULL, &regs);
    return (ptrace(PTRACE_PEEKTEXT, pid, regs.rip, NULL) & 0xff) != 0xcc;
}

/* Starts the victim and brings it to a position; how far it came. */
static int bring_to(const struct experiment *experiment, struct lane *lane, int position, pid_t *pid)
{
    int at = 0;

    *pid = start(experiment->life, lane);
    waitpid(*pid, NULL, 0);
    while (at < position && step(*pid, experiment, lane))
        at++;
    return at;
}

/* The trap at the end ends it, too. */
static void go_on(pid_t pid)
{
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

static int stride_of(int wanted)
{
    const char *is_long = getenv("NORIA_LONG");

    return is_long != NULL && is_long[0] == '1' ? 1 : wanted;
}

static int count_positions(const struct experiment *experiment, struct lane *lane)
{
    pid_t pid;
    int n = bring_to(experiment, lane, INT_MAX, &pid);

    end(pid);
    return n;
}

static void report(const struct experiment *experiment)
{
    print_message("%s: %d positions; waiter late %d, still held after help %d, others' rings unbounded %d, "
                  "deaf afterwards %d\n",
                  experiment->name, count.positions, count.late, count.held, count.unbounded, count.deaf);
}

static const int64_t deadline_ns = 30 * MS;

static void expect_ring_wakes(struct lane *lane, pid_t waiter)
{
    count.unbounded += !is_bounded(ring_once, lane);
    if (!ends_within(waiter, PATIENCE_MS)) {
        count.deaf++;
        end(waiter);
    }
}

/* After its deadline the waiter should be back; else somebody comes by. */
static void judge_waiter(const struct experiment *experiment, struct lane *lane, pid_t waiter, pid_t waker)
{
    bool back = ends_within(waiter, 60);

    count.positions++;
    count.late += !back;
    count.unbounded += !is_bounded(ring_once, lane);
    if (!back) {
        back = ends_within(waiter, 100);
        count.held += !back;
    }
    if (!experiment->kill) {
        go_on(waker);
        if (!ends_within(waker, PATIENCE_MS))
            end(waker);
    }
    if (!back && !ends_within(waiter, PATIENCE_MS)) {
        count.deaf++;
        end(waiter);
    }
    expect_ring_wakes(lane, start_waiter(lane, 10 * PATIENCE_MS * MS));
}

/* Stops or kills a waker at a position, in time before the waiter's deadline. */
static pid_t start_attack(const struct experiment *experiment, struct lane *lane, int position, pid_t *waker)
{
    for (;;) {
        pid_t waiter = start_waiter(lane, deadline_ns);
        bring_to(experiment, lane, position, waker);
        if (noria_now_ns() < (int64_t)lane->pairs[1].until_ns - MS || lane->returned != 0) {
            if (experiment->kill)
                end(*waker);
            return waiter;
        }
        end(*waker); /* the machine was busy */
        end(waiter);
    }
}

static void attack_waker(const struct experiment *experiment, int wanted_stride)
{
    pid_t waiters[LANES], wakers[LANES];
    int n, stride = stride_of(wanted_stride);

    count = (struct count){0};
    waiters[0] = start_waiter(&lanes[0], 10 * PATIENCE_MS * MS);
    n = count_positions(experiment, &lanes[0]);
    end(waiters[0]);
    for (int first = 0; first < n; first += LANES * stride) {
        int used = 0;
        for (; used < LANES && first + used * stride < n; used++) {
            waiters[used] = start_attack(experiment, &lanes[used], first + used * stride, &wakers[used]);
        }
        for (int i = 0; i < used; i++)
            judge_waiter(experiment, &lanes[i], waiters[i], wakers[i]);
    }
    report(experiment);
}

static void attack_waiter(const struct experiment *experiment, int wanted_stride)
{
    struct lane *lane = &lanes[0];
    int n, stride = stride_of(wanted_stride);

    count = (struct count){0};
    lane->until_ns = experiment->is_rung ? 10 * PATIENCE_MS * MS : MS / 2;
    n = count_positions(experiment, lane);
    for (int position = 0; position < n; position += stride) {
        pid_t waiter;
        lane->until_ns = experiment->is_rung ? 10 * PATIENCE_MS * MS : MS / 2;
        bring_to(experiment, lane, position, &waiter);
        if (experiment->kill)
            end(waiter);
        count.positions++;
        count.unbounded += !is_bounded(ring_once, lane);
        count.unbounded += !is_bounded(ring_once, lane);
        if (!experiment->kill) {
            go_on(waiter);
            if (!ends_within(waiter, 30)) {
                count.late++;
                expect_ring_wakes(lane, waiter);
            }
        }
        expect_ring_wakes(lane, start_waiter(lane, 10 * PATIENCE_MS * MS));
    }
    report(experiment);
}

static void waker_killed_at_every_instruction(void **state)
{
    /* Claim: a waker killed at any instruction holds up no other waker; the waiter is back by its deadline,
     * or if it was inside the condition variable, when the next one comes by. */
    const struct experiment experiment = {"waker killed", ring_traced, true, false};

    (void)state;
    attack_waker(&experiment, 7);
    assert_int_equal(count.unbounded + count.held + count.deaf, 0);
    assert_true(count.late <= count.positions / 5); /* the internal lock: 80 of 539 */
}

static void waker_stopped_at_every_instruction(void **state)
{
    /* Claim: the same of a stopped one, until it goes on if it has the waiter's mutex. */
    const struct experiment experiment = {"waker stopped", ring_traced, false, false};

    (void)state;
    attack_waker(&experiment, 17);
    assert_int_equal(count.unbounded + count.deaf, 0);
    assert_true(count.held <= count.positions / 5); /* while it has the waiter's mutex: 89 of 539 */
}

static void waiter_killed_at_every_instruction(void **state)
{
    /* Claim: a waiter killed at any instruction holds up no waker, and its successor is woken. */
    const struct experiment rung = {"waiter killed, rung", wait_traced, true, true};
    const struct experiment timed = {"waiter killed, time-out", wait_traced, true, false};

    (void)state;
    attack_waiter(&rung, 17);
    assert_int_equal(count.unbounded + count.deaf, 0);
    attack_waiter(&timed, 17);
    assert_int_equal(count.unbounded + count.deaf, 0);
}

static void waiter_stopped_at_every_instruction(void **state)
{
    /* Claim: a waiter stopped at any instruction holds up no waker, and is woken after it goes on by a
     * ring at the latest. */
    const struct experiment rung = {"waiter stopped, rung", wait_traced, false, true};
    const struct experiment timed = {"waiter stopped, time-out", wait_traced, false, false};

    (void)state;
    attack_waiter(&rung, 17);
    assert_int_equal(count.unbounded + count.deaf, 0);
    attack_waiter(&timed, 17);
    assert_int_equal(count.unbounded + count.deaf, 0);
}
#endif

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(one_variable_for_all_would_block_its_wakers),
        CLAIM(ring_wakes),
        CLAIM(wait_ends_at_its_deadline),
        CLAIM(ring_stays_until_taken_back),
        CLAIM(ring_wakes_all_threads),
        CLAIM(dead_waiter_holds_up_nobody),
        CLAIM(stopped_waiter_holds_up_nobody),
        CLAIM(dead_waker_is_mended),
        CLAIM(stopped_waker_does_not_keep_a_pair),
        CLAIM(passers_by_free_a_stuck_waiter),
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        CLAIM(waker_killed_at_every_instruction),
        CLAIM(waker_stopped_at_every_instruction),
        CLAIM(waiter_killed_at_every_instruction),
        CLAIM(waiter_stopped_at_every_instruction),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
