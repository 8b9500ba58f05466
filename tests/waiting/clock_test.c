/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: neither a CLOCK_REALTIME that jumps nor a storm of signals makes a wait shorter or longer, or
 * changes what it returns. */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/time.h>

#include "ways_test.h"

/* ------------------------------------------------------------------------ a clock that the test can step */

/* These take the place of the C library's in the whole program, the library under test included. */
static int64_t real_time_off_by_s;

static int64_t offset_of(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE
               ? __atomic_load_n(&real_time_off_by_s, __ATOMIC_RELAXED)
               : 0;
}

typedef int clock_reader(clockid_t, struct timespec *);

static clock_reader *find_real_one(void)
{
    static clock_reader *kept;
    clock_reader *real = __atomic_load_n(&kept, __ATOMIC_RELAXED);
    void *found;

    if (real != NULL)
        return real;
    found = dlsym(RTLD_NEXT, "clock_gettime");
    memcpy(&real, &found, sizeof(real));
    __atomic_store_n(&kept, real, __ATOMIC_RELAXED);
    return real;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = find_real_one()(clock, now);

    now->tv_sec += offset_of(clock);
    return rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time_now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time_now);
    *now = (struct timeval){.tv_sec = time_now.tv_sec, .tv_usec = time_now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now)
{
    struct timespec time_now;

    clock_gettime(CLOCK_REALTIME, &time_now);
    if (now != NULL)
        *now = time_now.tv_sec;
    return time_now.tv_sec;
}

static bool keeps_stepping;

static void *step_to_and_fro(void *unused)
{
    const struct timespec pause = {.tv_nsec = MS};

    while (__atomic_load_n(&keeps_stepping, __ATOMIC_RELAXED)) {
        __atomic_store_n(&real_time_off_by_s, real_time_off_by_s > 0 ? -3600 : 3600, __ATOMIC_RELAXED);
        nanosleep(&pause, NULL); /* steps are to fall into waits */
    }
    __atomic_store_n(&real_time_off_by_s, 0, __ATOMIC_RELAXED);
    return unused;
}

static void expect_to_take(int64_t timeout_ns)
{
    int64_t start = now_ns(), took;
    uint8_t bytes[64];

    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), timeout_ns, NULL), ETIMEDOUT);
    took = now_ns() - start;
    assert_true(took >= timeout_ns);
    assert_true(took < PATIENCE);
}

static void steps_of_the_clock_change_no_timeout(void **state)
{
    /* Claim: while CLOCK_REALTIME jumps an hour back and forth each millisecond, timed receives end, and
     * not early, with re-checks shorter and longer than they; so do noria_wait_any and opening a name that
     * does not come. */
    static const int64_t rechecks[] = {5 * MS, HOUR};
    struct noria_ready place;
    noria_channel *none;
    pthread_t thread;
    int64_t start;

    (void)state;
    __atomic_store_n(&keeps_stepping, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_create(&thread, NULL, step_to_and_fro, NULL), 0);
    for (int r = 0; r < 2; r++) {
        ch.options.recheck_ns = rechecks[r];
        open_pair();
        for (int i = 0; i < 5; i++)
            expect_to_take(20 * MS);
        place = (struct noria_ready){ch.rx, NORIA_RECV, 0};
        start = now_ns();
        assert_int_equal(noria_wait_any(&place, 1, 60 * MS), 0);
        assert_true(now_ns() - start >= 60 * MS);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
    }
    ch.options.wait_create_ns = 20 * MS;
    start = now_ns();
    assert_fails(noria_open(&none, "shm:/noria-no-such-name", NORIA_RECV, &ch.options), ENOENT);
    assert_true(now_ns() - start >= 20 * MS);
    __atomic_store_n(&keeps_stepping, false, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* -------------------------------------------------------------------------------------------- the storm */

static volatile sig_atomic_t signals;

static void on_signal(int signo)
{
    (void)signo;
    signals++;
}

/* Every `microseconds`, to a handler that does not ask for restarts. */
static void begin_storm(int microseconds)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void end_storm(void)
{
    assert_int_equal(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL), 0);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

enum { TIMEOUT_MS = 10, MOST_WAITS = 100000 };

/* The same wait without noria: asleep or not, as the strategy is, until the same kind of deadline. */
static void wait_plainly(int64_t deadline_ns)
{
    const struct timespec deadline = {deadline_ns / SECOND, deadline_ns % SECOND};

    if (sleeps())
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR)
            continue;
    else
        while (now_ns() < deadline_ns)
            if (wait_of_test() == NORIA_WAIT_YIELD)
                sched_yield();
}

struct delays {
    int64_t ns[MOST_WAITS];
    int n, late; /* waits, and those that came more than 10 ms after their deadline */
};

static void note_delay(struct delays *delays, int64_t start)
{
    int64_t delay = now_ns() - start - TIMEOUT_MS * MS;

    assert_true(delay >= 0);
    delays->ns[delays->n++] = delay;
    delays->late += delay > 10 * MS;
}

/* Timed receives and plain waits in turn, for so long. */
static void collect_delays(struct delays *ours, struct delays *plain, int64_t duration_ns)
{
    int64_t until = now_ns() + duration_ns;
    uint8_t bytes[64];

    ours->n = ours->late = plain->n = plain->late = 0;
    while (now_ns() < until && ours->n < MOST_WAITS) {
        int64_t start = now_ns();
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), TIMEOUT_MS * MS, NULL), -ETIMEDOUT);
        note_delay(ours, start);
        start = now_ns();
        wait_plainly(start + TIMEOUT_MS * MS);
        note_delay(plain, start);
    }
    qsort(ours->ns, (size_t)ours->n, sizeof(ours->ns[0]), by_value);
    qsort(plain->ns, (size_t)plain->n, sizeof(plain->ns[0]), by_value);
}

static int64_t duration_of_storm(void)
{
    if (is_long_form())
        return 60 * SECOND;
    return is_spsc() ? SECOND / 2 : 3 * SECOND / 2; /* two seconds for each strategy */
}

static void a_storm_of_signals_drifts_no_timeout(void **state)
{
    /* Claim: with a signal every 100 us and no SA_RESTART, no timed receive returns early or with -EINTR, and they
     * are not more than 10 ms late. What a busy machine makes late by itself is told by plain waits in
     * between: as many again may be, and one in twenty, and not by a quarter of a second; there are three attempts. */
    static struct delays ours, plain;
    bool good = false;

    (void)state;
    ch.options.recheck_ns = 25 * MS;
    open_pair();
    for (int attempt = 0; attempt < 3 && !good; attempt++) {
        signals = 0;
        begin_storm(100);
        collect_delays(&ours, &plain, duration_of_storm());
        end_storm();
        good = ours.late <= 2 * plain.late + ours.n / 20 && ours.ns[ours.n / 2] <= plain.ns[plain.n / 2] + 10 * MS &&
               ours.ns[ours.n - 1] <= 4 * plain.ns[plain.n - 1] + SECOND / 4;
        print_message("%s: %d waits, %d signals; median %.3f ms late (plain %.3f), latest %.3f (%.3f), by more than 10: "
                      "%d (%d)\n",
                      name_of_test(), ours.n, (int)signals, (double)ours.ns[ours.n / 2] / MS,
                      (double)plain.ns[plain.n / 2] / MS, (double)ours.ns[ours.n - 1] / MS,
                      (double)plain.ns[plain.n - 1] / MS, ours.late, plain.late);
    }
    assert_true(signals > 100);
    assert_true(good);
}

static char back_address[80];

static void echo_in_a_storm(void)
{
    noria_channel *from = open_handle(NORIA_RECV), *to = NULL;
    uint32_t number;

    PEER_REQUIRES(noria_open(&to, back_address, NORIA_SEND | NORIA_CREATE, &ch.options) == 0);
    say();
    begin_storm(100);
    for (;;) {
        PEER_REQUIRES(noria_recv(from, &number, sizeof(number), -1, NULL) == sizeof(number));
        PEER_REQUIRES(noria_send(to, &number, sizeof(number), -1) == 0);
    }
}

static void a_storm_of_signals_changes_no_result(void **state)
{
    /* Claim: two processes in such a storm that answer each other asleep, without a re-check: every number
     * comes back. */
    noria_channel *back = NULL;

    (void)state;
    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
    snprintf(back_address, sizeof(back_address), "%s-back", ch.address);
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_open(&back, back_address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    start_peer(echo_in_a_storm);
    await_peer();
    begin_storm(100);
    for (uint32_t i = 0; i < (sleeps() ? 1000 : 100); i++) {
        uint32_t number = i;
        assert_int_equal(noria_send(ch.tx, &number, sizeof(number), -1), 0);
        assert_int_equal(noria_recv(back, &number, sizeof(number), PATIENCE, NULL), sizeof(number));
        assert_int_equal(number, i);
    }
    end_storm();
    peers_end();
    peers_begin();
    close_handle(&back);
    assert_int_equal(noria_unlink(back_address), 0);
}

static void interrupted_sleeps_end_if_asked_for(void **state)
{
    /* Claim: with returns_eintr a sleep that a signal handler interrupted is -EINTR, for any timeout and on
     * both sides; a call that need not sleep is not, and nothing is lost by it. The strategy mutex cannot:
     * its sleeps go on. */
    uint8_t bytes[64] = {0};
    bool can = wait_of_test() != NORIA_WAIT_MUTEX;

    (void)state;
    ch.options.returns_eintr = 1;
    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
    open_pair();
    begin_storm(5000);
    assert_int_equal(noria_recv(ch.rx, bytes, 64, 100 * MS, NULL), can ? -EINTR : -ETIMEDOUT);
    if (can)
        assert_int_equal(noria_recv(ch.rx, bytes, 64, -1, NULL), -EINTR);
    while (noria_send(ch.tx, bytes, 64, 0) == 0)
        continue;
    assert_int_equal(noria_send(ch.tx, bytes, 64, 100 * MS), can ? -EINTR : -ETIMEDOUT);
    for (int i = 0; i < 8; i++)
        assert_int_equal(noria_recv(ch.rx, bytes, 64, -1, NULL), 64);
    end_storm();
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(steps_of_the_clock_change_no_timeout, ALL_WAYS),
        CLAIM(a_storm_of_signals_drifts_no_timeout, ALL_WAYS),
        CLAIM(a_storm_of_signals_changes_no_result, ALL_WAYS),
        CLAIM(interrupted_sleeps_end_if_asked_for, SLEEPING),
    };

    return run_ways("waiting clock", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
