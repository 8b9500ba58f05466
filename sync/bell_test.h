/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of bells with a descriptor share: participants of a make-believe channel, and claims that
 * hold for each of them. A test file includes this once, with STRATEGY defined as the strategy's name. */
#ifndef NORIA_BELL_TEST_H
#define NORIA_BELL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "strategy.h"

#define MS NORIA_NS_PER_MS
#define LONG_NS (20 * NORIA_NS_PER_S) /* nobody waits so long unless something is wrong */

enum { PARTICIPANTS = 32, CROWD = 16 };

static const struct noria_strategy *const strategy = &STRATEGY;

/* The segment. */
struct page {
    uint32_t events[2];
    uint32_t words[2][4];
    uint32_t values[8];
    uint32_t pids[PARTICIPANTS + 1]; /* by number; 0: not a participant */
    uint32_t seen[PARTICIPANTS + 1]; /* what each wants to tell */
    _Alignas(64) char memory[PARTICIPANTS * 64];
    uint64_t id[2];
};
static struct page *page;

struct participant {
    struct noria_bell_place place;
    struct noria_bell bell; /* side 1 */
};

static bool is_alive(pid_t pid)
{
    return pid != 0 && kill(pid, 0) == 0;
}

static bool find_peer(void *context, bool (*each)(void *mine, uint32_t number, pid_t pid), void *mine)
{
    const struct participant *self = context;

    for (uint32_t i = 1; i <= PARTICIPANTS; i++) {
        pid_t pid = (pid_t)noria_load_acquire32(&page->pids[i]);
        if (i != self->place.number && is_alive(pid) && each(mine, i, pid))
            return true;
    }
    return false;
}

static void prepare(struct participant *self, uint32_t number)
{
    self->place = (struct noria_bell_place){.id = {page->id[0], page->id[1]}, .mode = 0600,
        .owner = geteuid(), .group = getegid(), .participants = PARTICIPANTS, .number = number, .memory = page->memory,
        .words = {page->words[0], page->words[1]}, .find_peer = find_peer, .context = self};
    self->bell = (struct noria_bell){
        .place = &self->place, .word = &page->events[1], .side = 1, .fd = -1, .set = -1};
    noria_store_release32(&page->pids[number], (uint32_t)getpid());
}

static int join(struct participant *self, uint32_t number)
{
    prepare(self, number);
    return strategy->open(&self->bell);
}

static void leave(struct participant *self)
{
    strategy->close(&self->bell);
    noria_store_release32(&page->pids[self->place.number], 0);
}

static int setup(void **state)
{
    (void)state;
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || getrandom(page->id, sizeof(page->id), 0) != sizeof(page->id))
        return -1;
    return strategy->footprint == NULL || strategy->footprint(PARTICIPANTS) <= sizeof(page->memory) ? 0 : -1;
}

static int teardown(void **state)
{
    struct participant anybody;

    (void)state;
    prepare(&anybody, 1);
    if (strategy->remove != NULL)
        strategy->remove(&anybody.place);
    return munmap(page, sizeof(*page));
}

/* In a process of its own an assertion cannot fail a test, so it exits with the line. */
#define CHECK(claim) ((claim) ? (void)0 : check_failed(__LINE__, #claim))
static void check_failed(int line, const char *claim)
{
    fprintf(stderr, "line %d: %s (%s)\n", line, claim, noria_last_detail());
    _exit(1);
}

static pid_t start_process(void (*run)(uint32_t), uint32_t number)
{
    pid_t pid = fork();

    if (pid == 0) {
        alarm(30);
        run(number);
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void expect_end(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void end_by_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void await(const uint32_t *word, uint32_t at_least)
{
    while (noria_load_acquire32(word) < at_least)
        sched_yield();
}

static void await_asleep(pid_t pid)
{
    char path[64], text[256] = "";
    const char *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    do {
        FILE *file = fopen(path, "r");
        sched_yield();
        if (file == NULL)
            continue;
        at = fgets(text, sizeof(text), file);
        fclose(file);
        at = at != NULL ? strrchr(text, ')') : NULL;
        if (at != NULL && at[2] == 'S')
            return;
    } while (is_alive(pid));
}

/* Waits at most so long; how long it took. */
static int64_t waited_ns(struct participant *self, int64_t timeout_ns)
{
    int64_t begin = noria_now_ns();

    strategy->wait(&self->bell, noria_load_relaxed32(self->bell.word), begin + timeout_ns);
    return noria_now_ns() - begin;
}

/* As a sleeper of the event count does it: looks, and sleeps again for a re-check's time. */
static bool hears_within_rechecks(struct participant *self, int rechecks)
{
    for (int i = 0; i < rechecks; i++) {
        waited_ns(self, 5 * MS);
        if (strategy->quiet(&self->bell))
            return true;
    }
    return false;
}

static void make_silent(struct participant *self)
{
    while (strategy->quiet(&self->bell))
        ;
}

/* One rings, the other hears, both ways. */
static void expect_both_hear(struct participant *one, struct participant *other)
{
    make_silent(one);
    make_silent(other);
    strategy->ring(&one->bell);
    assert_true(hears_within_rechecks(other, 20));
    make_silent(one);
    strategy->ring(&other->bell);
    assert_true(hears_within_rechecks(one, 20));
}

static void sleep_until_rung(uint32_t number)
{
    struct participant self;

    CHECK(join(&self, number) == 0);
    noria_store_release32(&page->values[0], 1);
    CHECK(waited_ns(&self, LONG_NS) < LONG_NS);
    CHECK(strategy->quiet(&self.bell));
    leave(&self);
}

static void unrelated_process_is_woken(void **state)
{
    /* Claim: a process that opened its bell itself is woken by another that did the same. */
    pid_t sleeper = start_process(sleep_until_rung, 2);
    struct participant self;

    (void)state;
    await(&page->values[0], 1);
    assert_int_equal(join(&self, 1), 0);
    await_asleep(sleeper);
    strategy->ring(&self.bell);
    expect_end(sleeper);
    leave(&self);
}

static void answer(uint32_t number)
{
    struct participant self;

    CHECK(join(&self, number) == 0);
    noria_store_release32(&page->values[1], 1);
    await(&page->values[2], 1);
    CHECK(waited_ns(&self, LONG_NS) < LONG_NS);
    noria_store_release32(&page->values[1], 2);
    await(&page->values[2], 2);
    CHECK(!strategy->quiet(&self.bell)); /* the other has taken it back */
    CHECK(waited_ns(&self, 10 * MS) >= 10 * MS);
    leave(&self);
}

static void ring_stays_until_it_is_taken_back(void **state)
{
    /* Claim: a ring before the wait ends it at once, also for a second sleeper in another process, until
     * quiet takes it back from all. */
    pid_t other = start_process(answer, 2);
    struct participant self;

    (void)state;
    await(&page->values[1], 1);
    assert_int_equal(join(&self, 1), 0);
    assert_false(strategy->quiet(&self.bell));
    strategy->ring(&self.bell);
    assert_true(waited_ns(&self, LONG_NS) < LONG_NS);
    assert_true(waited_ns(&self, LONG_NS) < LONG_NS);
    noria_store_release32(&page->values[2], 1);
    await(&page->values[1], 2);
    assert_true(strategy->quiet(&self.bell));
    noria_store_release32(&page->values[2], 2);
    expect_end(other);
    leave(&self);
}

static void changed_word_or_past_deadline_ends_a_wait(void **state)
{
    /* Claim: wait returns at once if the event word is another or the deadline has passed. */
    struct participant self;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(strategy->wait(&self.bell, 77, noria_now_ns() + LONG_NS), 0);
    assert_int_equal(strategy->wait(&self.bell, 0, noria_now_ns() - LONG_NS), 0);
    assert_int_equal(strategy->wait(&self.bell, 0, 0), 0);
    leave(&self);
}

static void tick(int signal)
{
    (void)signal;
}

static void signal_handler_ends_a_wait(void **state)
{
    /* Claim: wait says -EINTR if a handler ran. */
    struct sigaction action = {.sa_handler = tick}, old;
    const struct itimerval often = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
    struct participant self;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_int_equal(strategy->wait(&self.bell, 0, noria_now_ns() + LONG_NS), -EINTR);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
    leave(&self);
}

static void ring_many_times(uint32_t number)
{
    struct participant self;

    CHECK(join(&self, number) == 0);
    for (int i = 0; i < 200000; i++)
        strategy->ring(&self.bell);
    leave(&self);
}

static void ringing_without_end_never_blocks(void **state)
{
    /* Claim: however often somebody rings without anybody listening he is not held up, and two calls of
     * quiet take all of it back. */
    struct participant self;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    expect_end(start_process(ring_many_times, 2));
    assert_true(strategy->quiet(&self.bell));
    strategy->quiet(&self.bell);
    assert_false(strategy->quiet(&self.bell));
    leave(&self);
}

/* Takes every number below `most`; they are given back by closing them. */
static void fill_descriptors(int most)
{
    int fd;

    do
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd < most);
}

static void use_high_descriptors(uint32_t number)
{
    struct rlimit limit;
    struct participant self, other;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_max < 1100)
        return;
    fill_descriptors(1030);
    CHECK(join(&self, number) == 0 && join(&other, number + 1) == 0);
    CHECK(self.bell.fd > 1024 && other.bell.fd > 1024);
    CHECK(waited_ns(&self, 10 * MS) >= 10 * MS);
    strategy->ring(&other.bell);
    CHECK(waited_ns(&self, LONG_NS) < LONG_NS);
    CHECK(strategy->quiet(&self.bell) && !strategy->quiet(&other.bell));
}

static void descriptors_above_1024_work(void **state)
{
    /* Claim: a bell whose descriptor does not fit into an fd_set works as any other. */
    (void)state;
    expect_end(start_process(use_high_descriptors, 1));
}

static void reach_the_limit(uint32_t number)
{
    struct rlimit limit = {64, 64};
    struct participant self;

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int spare = 0; spare < 3; spare++) { /* it may need some for a moment */
        int rc;
        fill_descriptors(64);
        for (int i = 0; i < spare; i++)
            close(63 - i);
        rc = join(&self, number);
        if (rc != 0)
            CHECK(rc == -EMFILE && strstr(noria_last_detail(), "ulimit") != NULL && self.bell.fd == -1);
        CHECK(spare != 0 || rc == -EMFILE);
        CHECK(spare != 2 || rc == 0);
        if (rc == 0)
            leave(&self);
    }
}

static void limit_of_descriptors_is_named(void **state)
{
    /* Claim: without a free descriptor opening fails with -EMFILE and a sentence, and leaks none. */
    (void)state;
    expect_end(start_process(reach_the_limit, 1));
}

static void poll_and_epoll_see_it(void **state)
{
    /* Claim: the descriptor is readable for poll and epoll from a ring until quiet. */
    struct participant self, other;
    struct epoll_event event = {.events = EPOLLIN};
    struct pollfd poll_one;
    int set = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(join(&other, 2), 0);
    poll_one = (struct pollfd){.fd = self.bell.fd, .events = POLLIN};
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, self.bell.fd, &event), 0);
    assert_int_equal(poll(&poll_one, 1, 0), 0);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 0);
    strategy->ring(&other.bell);
    assert_int_equal(poll(&poll_one, 1, 0), 1);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 1);
    assert_true(strategy->quiet(&self.bell));
    assert_int_equal(poll(&poll_one, 1, 0), 0);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 0);
    assert_true((fcntl(self.bell.fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(set);
    leave(&self);
    leave(&other);
}

static void join_at_once(uint32_t number)
{
    struct participant self;

    await(&page->values[0], 1);
    CHECK(join(&self, number) == 0);
    noria_add_relaxed32(&page->values[1], 1);
    await(&page->values[1], CROWD); /* those who came last have decided */
    strategy->quiet(&self.bell); /* and the first hear of it here */
    noria_add_relaxed32(&page->values[2], 1);
    await(&page->values[2], CROWD);
    noria_store_release32(&page->seen[number], noria_load_relaxed32(&self.bell.state));
    if (number == 1)
        strategy->ring(&self.bell);
    CHECK(waited_ns(&self, LONG_NS) < LONG_NS);
    noria_add_relaxed32(&page->values[3], 1);
    await(&page->values[3], CROWD);
    leave(&self);
}

static void crowd_agrees(void **state)
{
    /* Claim: of many processes that open at once all get the same object, and one ring reaches all. */
    pid_t crowd[CROWD + 1];

    (void)state;
    for (int round = 0; round < 10; round++) {
        memset(page->values, 0, sizeof(page->values));
        memset(page->words, 0, sizeof(page->words));
        for (uint32_t i = 1; i <= CROWD; i++)
            crowd[i] = start_process(join_at_once, i);
        noria_store_release32(&page->values[0], 1);
        for (uint32_t i = 1; i <= CROWD; i++)
            expect_end(crowd[i]);
        for (uint32_t i = 2; i <= CROWD; i++)
            assert_int_equal(page->seen[i], page->seen[1]);
    }
}

static void make_under_watch(uint32_t number)
{
    struct participant self;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    CHECK(join(&self, number) == 0);
    noria_store_release32(&page->values[0], 1);
    await(&page->values[1], 1); /* the other one has rung */
    strategy->renew(&self.bell);
    noria_store_release32(&page->seen[number], noria_load_relaxed32(&self.bell.state));
    CHECK(waited_ns(&self, LONG_NS) < LONG_NS);
    make_silent(&self);
    noria_store_release32(&page->values[2], 1);
    await(&page->values[3], 1);
    strategy->ring(&self.bell);
    noria_store_release32(&page->values[4], 1);
    await(&page->values[5], 1);
    leave(&self);
}

/* Lets it go on to the next point before or after a system call. False: it has joined, or cannot be traced. */
static bool next_stop(pid_t maker)
{
    int status;

    assert_int_equal(ptrace(PTRACE_SYSCALL, maker, NULL, NULL), 0);
    assert_int_equal(waitpid(maker, &status, 0), maker);
    assert_true(WIFSTOPPED(status));
    return noria_load_acquire32(&page->values[0]) == 0;
}

/* Stops a maker before or after so many system calls, has another one join, and expects both to have the same. False: the
 * maker was through before that. */
static bool agree_with_one_stopped_at(int stop)
{
    struct participant self;
    pid_t maker = start_process(make_under_watch, 2);
    bool stopped = true;
    int status;

    assert_int_equal(waitpid(maker, &status, 0), maker);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* nobody may be traced here */
    for (int i = 0; i < stop && stopped; i++)
        stopped = next_stop(maker);
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(ptrace(PTRACE_DETACH, maker, NULL, NULL), 0);
    await(&page->values[0], 1);
    strategy->renew(&self.bell); /* both have decided */
    strategy->ring(&self.bell);
    noria_store_release32(&page->values[1], 1);
    await(&page->values[2], 1);
    assert_int_equal(page->seen[2], noria_load_relaxed32(&self.bell.state));
    make_silent(&self);
    noria_store_release32(&page->values[3], 1);
    await(&page->values[4], 1);
    assert_true(strategy->quiet(&self.bell));
    noria_store_release32(&page->values[5], 1);
    expect_end(maker);
    leave(&self);
    if (strategy->remove != NULL)
        strategy->remove(&self.place);
    return stopped;
}

static void makers_race_is_decided_wherever_one_stops(void **state)
{
    /* Claim: a maker stopped before or after any system call of its open, and another who opens meanwhile, end with
     * the same object, and each hears the other. */
    int stop = 0;

    (void)state;
    do {
        memset(page->values, 0, sizeof(page->values));
        memset(page->words, 0, sizeof(page->words));
        memset(page->memory, 0, sizeof(page->memory));
        page->seen[2] = 0;
    } while (agree_with_one_stopped_at(stop++));
    assert_true(stop > 6); /* it made something */
}

static void come_and_go(uint32_t number)
{
    struct participant self;

    for (;;) {
        CHECK(join(&self, number) == 0);
        strategy->ring(&self.bell);
        leave(&self);
        noria_add_relaxed32(&page->values[0], 1);
    }
}

static void killed_makers_wedge_nobody(void **state)
{
    /* Claim: wherever those who make, take and leave are killed, the next ones find each other. */
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct participant one, other;
        pid_t first = start_process(come_and_go, 3), second = start_process(come_and_go, 4);

        await(&page->values[0], noria_load_relaxed32(&page->values[0]) + 1);
        for (int64_t until = noria_now_ns() + rand_r(&seed) % 400000; noria_now_ns() < until;)
            sched_yield();
        end_by_kill(first);
        if (round % 2 == 0) /* with a live one beside, and without */
            end_by_kill(second);
        assert_int_equal(join(&one, 1), 0);
        assert_int_equal(join(&other, 2), 0);
        if (round % 2 != 0)
            end_by_kill(second);
        expect_both_hear(&one, &other);
        leave(&one);
        leave(&other);
        if (round % 3 == 0 && strategy->remove != NULL)
            strategy->remove(&one.place);
    }
}

static void hold_for_ever(uint32_t number)
{
    struct participant self;

    CHECK(join(&self, number) == 0);
    noria_store_release32(&page->values[0], 1);
    for (;;)
        waited_ns(&self, LONG_NS);
}

static void stopped_holder_holds_up_nobody(void **state)
{
    /* Claim: with a stopped process asleep at the bell others open, ring and hear. */
    pid_t stopped = start_process(hold_for_ever, 3);
    struct participant one, other;

    (void)state;
    await(&page->values[0], 1);
    kill(stopped, SIGSTOP);
    assert_int_equal(waitpid(stopped, NULL, WUNTRACED), stopped);
    assert_int_equal(join(&one, 1), 0);
    assert_int_equal(join(&other, 2), 0);
    expect_both_hear(&one, &other);
    end_by_kill(stopped);
    leave(&one);
    leave(&other);
}

static void second_bell_of_a_handle_is_the_same(void **state)
{
    /* Claim: a bell that the same handle opens and closes beside the first one, names removed or not,
     * rings the same object and takes nothing away from those who come later. */
    struct participant self, spare, other;
    uint32_t identity;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(join(&self, 1), 0);
        identity = self.bell.state;
        if (strategy->remove != NULL && i == 1)
            strategy->remove(&self.place);
        for (int order = 0; order < 2; order++) {
            make_silent(&self);
            assert_int_equal(join(&spare, 1), 0);
            assert_int_equal(spare.bell.state, identity);
            strategy->ring(&spare.bell);
            strategy->close(&spare.bell);
            assert_true(strategy->quiet(&self.bell));
            assert_int_equal(join(&other, 2), 0);
            assert_int_equal(other.bell.state, identity);
            leave(&other);
        }
        assert_int_equal(join(&spare, 1), 0);
        strategy->close(&self.bell); /* the first one goes, the second stays */
        strategy->quiet(&spare.bell);
        assert_int_equal(join(&other, 2), 0);
        assert_int_equal(other.bell.state, identity);
        expect_both_hear(&spare, &other);
        leave(&other);
        leave(&spare);
    }
}

static void closed_by_the_user(void **state)
{
    /* Claim: a wait at a descriptor that the user has closed by mistake lasts until its deadline and burns
     * no core. */
    struct participant self;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    close(self.bell.fd);
    assert_true(waited_ns(&self, 10 * MS) >= 10 * MS);
    assert_false(strategy->quiet(&self.bell));
    strategy->ring(&self.bell);
    self.bell.fd = -1;
    leave(&self);
}

static void *ring_and_listen(void *mine)
{
    struct participant *self = mine;

    while (noria_load_acquire32(&page->values[0]) == 0) {
        strategy->ring(&self->bell);
        waited_ns(self, MS);
        strategy->quiet(&self->bell);
    }
    return NULL;
}

static void threads_follow_together(void **state)
{
    /* Claim: threads that use one bell while word and objects change under them end with one that works. */
    struct participant self, other;
    pthread_t threads[3];

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ring_and_listen, &self), 0);
    for (int round = 0; round < 60; round++) {
        noria_store_relaxed32(&page->words[1][0], (uint32_t)round);
        noria_store_relaxed32(&page->words[1][3], (uint32_t)round);
        if (strategy->remove != NULL)
            strategy->remove(&self.place);
        assert_int_equal(join(&other, 2), 0);
        strategy->ring(&other.bell);
        leave(&other);
    }
    noria_store_release32(&page->values[0], 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(join(&other, 2), 0);
    expect_both_hear(&self, &other);
    leave(&self);
    leave(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TESTS_OF_EVERY_BELL                                                                                 \
    TEST(unrelated_process_is_woken), TEST(ring_stays_until_it_is_taken_back),                              \
    TEST(changed_word_or_past_deadline_ends_a_wait), TEST(signal_handler_ends_a_wait),                      \
    TEST(ringing_without_end_never_blocks), TEST(descriptors_above_1024_work),                              \
    TEST(limit_of_descriptors_is_named), TEST(poll_and_epoll_see_it), TEST(crowd_agrees),                   \
    TEST(makers_race_is_decided_wherever_one_stops), TEST(killed_makers_wedge_nobody), TEST(stopped_holder_holds_up_nobody), TEST(threads_follow_together),  \
    TEST(second_bell_of_a_handle_is_the_same), TEST(closed_by_the_user)

#endif
