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

static void the_library_reads_the_clock_that_is_stepped(void **state)
{
    /* Claim: what these tests step is what the library reads: a handle opened while it is an hour off has joined an hour
     * from now. */
    struct noria_participant who;
    struct timespec truth;
    int64_t off_ns;

    (void)state;
    __atomic_store_n(&real_time_off_by_s, 3600, __ATOMIC_RELAXED);
    ch.rx = open_handle(NORIA_RECV);
    __atomic_store_n(&real_time_off_by_s, 0, __ATOMIC_RELAXED);
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &truth), 0);
    assert_int_equal(noria_who(ch.address, &who, 1), 1);
    off_ns = who.joined_ns - (truth.tv_sec * SECOND + truth.tv_nsec);
    assert_true(off_ns > 1800 * SECOND && off_ns < 5400 * SECOND);
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
        place = (struct noria_ready){ch.rx, NORIA_RECV, 0, 0};
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

enum { TIMEOUT_MS = 10, MOST_LATE_MS = 10 };

/* A thread on the same processor that sleeps until the same deadline by the kernel alone: so late is the machine. */
struct twin {
    pthread_t thread;
    pthread_barrier_t begin, end;
    int64_t deadline_ns; /* 0: leave */
    int64_t late_ns;
};

static void *sleep_plainly(void *argument)
{
    struct twin *twin = argument;

    for (;;) {
        struct timespec deadline;
        pthread_barrier_wait(&twin->begin);
        if (twin->deadline_ns == 0)
            return NULL;
        deadline = (struct timespec){twin->deadline_ns / SECOND, twin->deadline_ns % SECOND};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR)
            continue;
        twin->late_ns = now_ns() - twin->deadline_ns;
        pthread_barrier_wait(&twin->end);
    }
}

/* Both on one processor. The mask that this thread had before is the caller's to restore. */
static void start_twin(struct twin *twin, cpu_set_t *before)
{
    int processor = sched_getcpu();
    cpu_set_t here;

    assert_true(processor >= 0);
    CPU_ZERO(&here);
    CPU_SET((size_t)processor, &here);
    assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
    assert_int_equal(sched_setaffinity(0, sizeof(here), &here), 0);
    assert_int_equal(pthread_barrier_init(&twin->begin, NULL, 2), 0);
    assert_int_equal(pthread_barrier_init(&twin->end, NULL, 2), 0);
    assert_int_equal(pthread_create(&twin->thread, NULL, sleep_plainly, twin), 0);
}

static void end_twin(struct twin *twin, const cpu_set_t *before)
{
    twin->deadline_ns = 0;
    pthread_barrier_wait(&twin->begin);
    assert_int_equal(pthread_join(twin->thread, NULL), 0);
    pthread_barrier_destroy(&twin->begin);
    pthread_barrier_destroy(&twin->end);
    assert_int_equal(sched_setaffinity(0, sizeof(*before), before), 0);
}

/* How long this thread could have run and was not let, in all; 0 if the kernel does not count it. */
static int64_t waited_for_processor_ns(void)
{
    FILE *file = fopen("/proc/thread-self/schedstat", "re");
    long long ran = 0, waited = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lld %lld", &ran, &waited) != 2)
        waited = 0;
    fclose(file);
    return waited;
}

struct drift {
    int waits, late, excused;    /* late: by more than 10 ms, and no excuse for it */
    int64_t latest_ns, drift_ns; /* the longest delay, and the longest without what was the machine's */
};

static noria_channel *full; /* a sender's handle */

/* Until its time is over: in a receive, in a send to a full channel, at several channels, in turn. */
static void wait_in_vain(int turn)
{
    struct noria_ready places[2] = {{ch.rx, NORIA_RECV, -1, 0}, {full, NORIA_SEND, -1, 0}};
    uint8_t bytes[64] = {0};

    if (turn % 3 == 0)
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), TIMEOUT_MS * MS, NULL), -ETIMEDOUT);
    else if (turn % 3 == 1)
        assert_int_equal(noria_send(full, bytes, sizeof(bytes), TIMEOUT_MS * MS), -ETIMEDOUT);
    else
        assert_int_equal(noria_wait_any(places, 2, TIMEOUT_MS * MS), 0);
}

static void wait_once(struct twin *twin, struct drift *drift)
{
    int64_t waited = waited_for_processor_ns(), start, late, own;

    twin->deadline_ns = now_ns() + TIMEOUT_MS * MS;
    pthread_barrier_wait(&twin->begin);
    start = now_ns();
    wait_in_vain(drift->waits);
    late = now_ns() - start - TIMEOUT_MS * MS;
    assert_true(late >= 0);
    waited = waited_for_processor_ns() - waited;
    pthread_barrier_wait(&twin->end);
    own = late - waited - twin->late_ns;
    drift->waits++;
    drift->late += own > MOST_LATE_MS * MS;
    drift->excused += late > MOST_LATE_MS * MS && own <= MOST_LATE_MS * MS;
    drift->latest_ns = late > drift->latest_ns ? late : drift->latest_ns;
    drift->drift_ns = own > drift->drift_ns ? own : drift->drift_ns;
}

static int64_t duration_of_storm(void)
{
    if (is_long_form())
        return 60 * SECOND;
    return is_spsc() ? SECOND / 2 : 3 * SECOND / 2; /* two seconds for each strategy */
}

static struct drift measure_drift(struct twin *twin)
{
    struct drift drift = {0, 0, 0, 0, 0};
    int64_t until;

    signals = 0;
    begin_storm(100);
    for (until = now_ns() + duration_of_storm(); now_ns() < until;)
        wait_once(twin, &drift);
    end_storm();
    print_message("%s: %d waits, %d signals; at most %.3f ms late, %.3f of them its own; more than 10 ms: %d, and %d "
                  "by the machine\n",
                  name_of_test(), drift.waits, (int)signals, (double)drift.latest_ns / MS, (double)drift.drift_ns / MS,
                  drift.late, drift.excused);
    return drift;
}

static void a_storm_of_signals_drifts_no_timeout(void **state)
{
    /* Claim: with a signal every 100 us and no SA_RESTART, no timed receive, no timed send and no noria_wait_any returns
     * early or with -EINTR, and none is more than 10 ms late. Not its own fault are the time for which the thread was ready
     * to run and was not let, and the delay of a bare sleep on the same processor until the same deadline. What else a
     * virtual machine does to a thread that runs nobody can tell: so there are three attempts, each with none late. */
    char full_address[80];
    struct twin twin;
    cpu_set_t before;
    bool good = false;

    (void)state;
    ch.options.recheck_ns = 25 * MS;
    open_pair();
    snprintf(full_address, sizeof(full_address), "%s-full", ch.address);
    assert_int_equal(noria_open(&full, full_address, NORIA_SEND | NORIA_CREATE, &ch.options), 0);
    while (noria_send(full, "", 1, 0) == 0)
        continue;
    start_twin(&twin, &before);
    for (int attempt = 0; attempt < 3 && !good; attempt++)
        good = measure_drift(&twin).late == 0;
    end_twin(&twin, &before);
    close_handle(&full);
    assert_int_equal(noria_unlink(full_address), 0);
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
     * comes back, and noria_wait_any goes on until its time is over. */
    struct noria_ready place;
    noria_channel *back = NULL;
    int64_t until;

    (void)state;
    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
    snprintf(back_address, sizeof(back_address), "%s-back", ch.address);
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_open(&back, back_address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    start_peer(echo_in_a_storm);
    await_peer();
    begin_storm(100);
    until = is_long_form() ? now_ns() + duration_of_storm() : 0;
    for (uint32_t i = 0; i < (sleeps() ? 1000 : 100) || now_ns() < until; i++) {
        uint32_t number = i;
        assert_int_equal(noria_send(ch.tx, &number, sizeof(number), -1), 0);
        assert_int_equal(noria_recv(back, &number, sizeof(number), PATIENCE, NULL), sizeof(number));
        assert_int_equal(number, i);
    }
    place = (struct noria_ready){back, NORIA_RECV, -1, 0};
    until = now_ns() + 60 * MS; /* longer than between two of its looks */
    assert_int_equal(noria_wait_any(&place, 1, 60 * MS), 0);
    assert_true(now_ns() >= until);
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
     * its sleeps go on. noria_wait_any can always. */
    struct noria_ready place;
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
    place = (struct noria_ready){ch.rx, NORIA_RECV, -1, 0};
    assert_int_equal(noria_wait_any(&place, 1, -1), -EINTR);
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
        CLAIM(the_library_reads_the_clock_that_is_stepped, ONCE_PER_PROGRAM),
        CLAIM(steps_of_the_clock_change_no_timeout, ALL_WAYS),
        CLAIM(a_storm_of_signals_drifts_no_timeout, ALL_WAYS),
        CLAIM(a_storm_of_signals_changes_no_result, ALL_WAYS),
        CLAIM(interrupted_sleeps_end_if_asked_for, SLEEPING),
    };

    return run_ways("waiting clock", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
