/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: whoever sleeps on an event word is woken by the next notification, and looks for himself at least
 * every recheck_ns; who notifies without sleepers pays one load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "barrier.h"
#include "clock.h"
#include "event.h"

#define MS NORIA_NS_PER_MS
#define RECHECK_NEVER (INT64_C(3600) * NORIA_NS_PER_S)

enum { BALLAST = 40 };

/* What the processes of a test share. */
struct page {
    uint32_t events[4];
    uint32_t values[4]; /* the "ring": what sleepers wait for */
    uint32_t looks;
    struct {
        uint32_t word;
        uint8_t rest_of_line[60];
    } ballast[BALLAST];
};
static struct page *page;
static bool fenced;
static struct noria_event events[4]; /* on the page's words */

static int setup(void **state)
{
    (void)state;
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fenced = !noria_barrier_register();
    for (unsigned i = 0; i < 4 && page != MAP_FAILED; i++)
        noria_event_open(&events[i], &page->events[i], &noria_strategy_futex, NULL, 0);
    return page == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return munmap(page, sizeof(*page));
}

/* A sleeper's question: has values[which] reached `wanted`? */
struct question {
    uint32_t which, wanted;
    uint32_t looks;
};

static bool has_come(void *context)
{
    struct question *question = context;

    question->looks++;
    noria_store_relaxed32(&page->looks, question->looks);
    return noria_load_acquire32(&page->values[question->which]) >= question->wanted;
}

static bool never(void *context)
{
    (void)context;
    return false;
}

/* Waits as the channel does: sleep again until it is there. */
static void wait_for(uint32_t which, uint32_t wanted)
{
    struct question question = {which, wanted, 0};

    while (noria_load_acquire32(&page->values[which]) < wanted)
        noria_event_sleep(&events[which], NORIA_FOREVER, RECHECK_NEVER, has_come, &question);
}

static void say(uint32_t which, uint32_t value)
{
    noria_store_release32(&page->values[which], value);
    noria_event_notify(&events[which], fenced);
}

static void await_sleeper(uint32_t which)
{
    while ((noria_load_relaxed32(&page->events[which]) & NORIA_EVENT_SLEEPERS) == 0)
        sched_yield();
}

/* Until the process has announced itself and the kernel says that it sleeps. */
static void await_sleeping_process(uint32_t which, pid_t pid)
{
    char path[32], state = '?';

    await_sleeper(which);
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    while (state != 'S') {
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
        fclose(file);
        sched_yield();
    }
}

static pid_t start_process(void (*body)(void))
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        body();
        exit(0);
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

static void notifying_nobody_changes_nothing(void **state)
{
    /* Claim: with no sleeper a notification leaves the word alone; with one it counts and clears the flag. */
    (void)state;
    page->events[0] = 41;
    noria_event_notify(&events[0], false);
    noria_event_notify(&events[0], true);
    assert_int_equal(page->events[0], 41);
    page->events[0] |= NORIA_EVENT_SLEEPERS;
    noria_event_notify(&events[0], fenced);
    assert_int_equal(page->events[0], 42);
}

static void sleeper_looks_with_its_flag_up(void **state)
{
    /* Claim: a sleeper asks ready() after it announced itself, and does not sleep when there is something. */
    struct question question = {0, 1, 0};

    (void)state;
    page->values[0] = 1;
    noria_event_sleep(&events[0], NORIA_FOREVER, RECHECK_NEVER, has_come, &question);
    assert_int_equal(question.looks, 1);
    assert_true((page->events[0] & NORIA_EVENT_SLEEPERS) != 0);
}

/* Overshoot of the best of some tries: a loaded machine makes single ones late, never all of them. */
static int64_t best_overshoot(int64_t timeout_ns, int64_t recheck_ns)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < 5; i++) {
        int64_t deadline = noria_deadline_ns(timeout_ns), late;
        while (noria_event_sleep(&events[0], deadline, recheck_ns, never, NULL) == -EINTR)
            continue;
        late = noria_now_ns() - deadline;
        assert_true(late >= 0);
        best = late < best ? late : best;
    }
    return best;
}

static void deadlines_are_kept(void **state)
{
    /* Claim: a sleep ends at its deadline, not before and at most 10 ms after, whatever the interval of
     * looks. */
    (void)state;
    assert_true(best_overshoot(30 * MS, RECHECK_NEVER) < 10 * MS);
    assert_true(best_overshoot(30 * MS, MS) < 10 * MS);
    assert_true(best_overshoot(0, RECHECK_NEVER) < 10 * MS);
    assert_true(best_overshoot(30 * MS, 25 * MS) < 10 * MS);
}

static void tick(int signal)
{
    (void)signal;
}

static void signals_do_not_shorten_a_sleep(void **state)
{
    /* Claim: a sleep that signals interrupt says so, and taken up again as often as that lasts until its
     * deadline. */
    struct sigaction action = {.sa_handler = tick}, old; /* no SA_RESTART */
    const struct itimerval often = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};

    (void)state;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_true(best_overshoot(40 * MS, RECHECK_NEVER) < 10 * MS);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
}

static void sleep_until_it_has_come(void)
{
    struct question question = {1, 1, 0};

    while (noria_load_acquire32(&page->values[1]) == 0)
        noria_event_sleep(&events[1], NORIA_FOREVER, 5 * MS, has_come, &question);
}

static void lost_notification_costs_one_interval(void **state)
{
    /* Claim: if the notifier dies before it notifies, the sleeper finds the message at its next look. */
    pid_t sleeper = start_process(sleep_until_it_has_come);

    (void)state;
    await_sleeping_process(1, sleeper);
    noria_store_release32(&page->values[1], 1); /* and no notification */
    expect_end(sleeper);
}

static void sleep_for_ever(void)
{
    noria_event_sleep(&events[1], NORIA_FOREVER, RECHECK_NEVER, never, NULL);
}

static void killed_sleeper_costs_one_wake(void **state)
{
    /* Claim: the flag of a killed sleeper is cleared by the next notification; the one after that changes
     * nothing. */
    pid_t sleeper = start_process(sleep_for_ever);
    uint32_t after;

    (void)state;
    await_sleeping_process(1, sleeper);
    kill(sleeper, SIGKILL);
    assert_int_equal(waitpid(sleeper, NULL, 0), sleeper);
    assert_true((page->events[1] & NORIA_EVENT_SLEEPERS) != 0);
    noria_event_notify(&events[1], fenced);
    after = page->events[1];
    assert_true((after & NORIA_EVENT_SLEEPERS) == 0);
    noria_event_notify(&events[1], fenced);
    assert_int_equal(page->events[1], after);
}

static void wait_for_one(void)
{
    wait_for(0, 1);
}

static void one_notification_wakes_all(void **state)
{
    /* Claim: every sleeper on the word, in whichever process, is woken by one notification. */
    pid_t sleepers[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        sleepers[i] = start_process(wait_for_one);
    await_sleeper(0);
    say(0, 1);
    for (int i = 0; i < 4; i++)
        expect_end(sleepers[i]);
}

static uint32_t rounds(void)
{
    return getenv("NORIA_LONG") != NULL ? 1000000 : 30000;
}

/* A lost wake-up would sleep for an hour. */
static void limit_patience(void)
{
    alarm(getenv("NORIA_LONG") != NULL ? 600 : 60);
}

static void answer_each(void)
{
    for (uint32_t i = 1; i <= rounds(); i++) {
        wait_for(0, i);
        say(1, i);
    }
}

static void no_wake_up_is_lost(void **state)
{
    /* Claim: two processes that pass a number to and fro, sleeping each time with no re-check to save them,
     * get on. */
    pid_t other = start_process(answer_each);

    (void)state;
    limit_patience();
    for (uint32_t i = 1; i <= rounds(); i++) {
        say(0, i);
        wait_for(1, i);
    }
    alarm(0);
    expect_end(other);
}

/* The two-sided case: both sides are notifier and sleeper on words that move at the same time. */
static void push(uint32_t mine, uint32_t theirs)
{
    uint32_t credit = 8;

    for (uint32_t i = 1; i <= rounds(); i++) {
        say(mine, i);
        if (i > credit)
            wait_for(theirs, i - credit);
    }
    wait_for(theirs, rounds());
}

static void push_back(void)
{
    push(1, 0);
}

static void no_wake_up_is_lost_in_a_window(void **state)
{
    /* Claim: the same with a window of 8, where sleeping and notifying overlap in every way. */
    pid_t other = start_process(push_back);

    (void)state;
    limit_patience();
    push(0, 1);
    alarm(0);
    expect_end(other);
}

/* Stores to lines that the other processor has just written: until it has got them all, what is stored next
 * waits. */
static void load_ballast(uint32_t value)
{
    for (int i = 0; i < BALLAST; i++)
        noria_store_relaxed32(&page->ballast[i].word, value);
}

/* Answers without sleeping, after a pause that sweeps over the moment in which the other side goes
 * to sleep. */
static void answer_at_once(void)
{
    for (uint32_t i = 1; i <= 5 * rounds(); i++) {
        while (noria_load_acquire32(&page->values[0]) < i)
            noria_pause();
        for (uint32_t pause = i * 7 % 61; pause > 0; pause--)
            noria_fence_compiler();
        load_ballast(i);
        say(1, i);
    }
}

static void ask_each(void)
{
    for (uint32_t i = 1; i <= 5 * rounds(); i++) {
        struct question question = {1, i, 0};
        load_ballast(i);
        noria_store_release32(&page->values[0], i);
        while (noria_load_acquire32(&page->values[1]) < i)
            noria_event_sleep(&events[1], NORIA_FOREVER, RECHECK_NEVER, has_come, &question);
    }
}

static void no_wake_up_is_lost_between_two_stores(void **state)
{
    /* Claim: a notification at the very moment in which the sleeper raises its flag and looks is not lost:
     * the flag and the message are stored by two processors that then look at each other's (without the
     * barrier this fails on x86, too). */
    pid_t other = start_process(answer_at_once);

    (void)state;
    limit_patience();
    ask_each();
    alarm(0);
    expect_end(other);
}

enum { NO_FILTERS = 77 };

/* From here on this process is refused membarrier. */
static void do_without_membarrier(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(rules) / sizeof(rules[0]), rules};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        exit(NO_FILTERS);
    fenced = !noria_barrier_register();
    if (!fenced)
        exit(1);
}

static void answer_fenced(void)
{
    do_without_membarrier();
    limit_patience();
    answer_at_once();
}

static void ask_fenced(void)
{
    do_without_membarrier();
    limit_patience();
    ask_each();
}

static void no_wake_up_is_lost_without_membarrier(void **state)
{
    /* Claim: nor is it where membarrier is refused, and the notifier fences itself. */
    pid_t asker = start_process(ask_fenced), answerer = start_process(answer_fenced);
    int asked, answered;

    (void)state;
    assert_int_equal(waitpid(asker, &asked, 0), asker);
    assert_int_equal(waitpid(answerer, &answered, 0), answerer);
    if (WIFEXITED(asked) && WEXITSTATUS(asked) == NO_FILTERS) {
        print_message("skipped: no seccomp filters here\n");
        skip();
    }
    assert_int_equal(asked, 0);
    assert_int_equal(answered, 0);
}

static void *sleep_as_thread(void *unused)
{
    (void)unused;
    wait_for(2, 1);
    return NULL;
}

static void threads_are_woken_too(void **state)
{
    /* Claim: sleepers may be threads of the notifier's own process. */
    pthread_t threads[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_as_thread, NULL), 0);
    await_sleeper(2);
    say(2, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ------------------------------------------------------------------------------ rings that are taken back */

/* A bell whose level and calls the test sees. */
static struct {
    bool level;
    int rings, waits;
} fake;

static void ring_fake(struct noria_bell *bell)
{
    (void)bell;
    fake.level = true;
    fake.rings++;
}

static bool quiet_fake(struct noria_bell *bell)
{
    bool had_rung = fake.level;

    (void)bell;
    fake.level = false;
    return had_rung;
}

/* Somebody else wakes, at once. */
static int wait_fake(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    (void)until_ns;
    fake.waits++;
    noria_store_release32(bell->word, (expected + 1) & ~NORIA_EVENT_SLEEPERS);
    return 0;
}

static const struct noria_strategy fake_strategy = {
    .name = "fake", .sleeps = true, .ring = ring_fake, .quiet = quiet_fake, .wait = wait_fake};

/* What a sleeper's last look meets. */
enum meeting { NOTHING, SOMETHING, A_WAKER };

static bool look_and_meet(void *context)
{
    const enum meeting *meeting = context;
    uint32_t word = page->events[3];

    if (*meeting == A_WAKER) /* counts and clears the flag; its ring is meant for those who slept already */
        page->events[3] = (word + 1) & ~NORIA_EVENT_SLEEPERS;
    return *meeting == SOMETHING;
}

/* How often a sleeper rings who, with the bell at that level, sleeps and meets that. */
static int rings_of_sleeper(bool level, enum meeting meeting)
{
    struct noria_event event;

    assert_int_equal(noria_event_open(&event, &page->events[3], &fake_strategy, NULL, 0), 0);
    page->events[3] = 40;
    fake.level = level;
    fake.rings = fake.waits = 0;
    assert_int_equal(noria_event_sleep(&event, NORIA_FOREVER, RECHECK_NEVER, look_and_meet, &meeting), 0);
    assert_int_equal(fake.waits, meeting == NOTHING);
    noria_event_close(&event);
    return fake.rings;
}

static void a_ring_taken_back_is_passed_on(void **state)
{
    /* Claim: a sleeper that has taken back a ring rings again if its look finds something, or if it does
     * not sleep because the word has moved, for the ring may have been meant for others asleep on the
     * older word. One that then sleeps on the word as it is, or took none back, does not: who slept before
     * it has asked for notice. */
    (void)state;
    assert_int_equal(rings_of_sleeper(true, SOMETHING), 1);
    assert_int_equal(rings_of_sleeper(true, A_WAKER), 1);
    assert_true(fake.level);
    assert_int_equal(rings_of_sleeper(true, NOTHING), 0);
    assert_int_equal(rings_of_sleeper(false, SOMETHING), 0);
    assert_int_equal(rings_of_sleeper(false, A_WAKER), 0);
    assert_int_equal(rings_of_sleeper(false, NOTHING), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(notifying_nobody_changes_nothing),
        TEST(sleeper_looks_with_its_flag_up),
        TEST(deadlines_are_kept),
        TEST(signals_do_not_shorten_a_sleep),
        TEST(lost_notification_costs_one_interval),
        TEST(killed_sleeper_costs_one_wake),
        TEST(one_notification_wakes_all),
        TEST(no_wake_up_is_lost),
        TEST(no_wake_up_is_lost_in_a_window),
        TEST(no_wake_up_is_lost_between_two_stores),
        TEST(no_wake_up_is_lost_without_membarrier),
        TEST(threads_are_woken_too),
        TEST(a_ring_taken_back_is_passed_on),
    };
#undef TEST
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
