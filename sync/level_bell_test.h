/* SPDX-License-Identifier: BSD-2-Clause */
/* What every bell with a level promises, for the tests of strategies that have one. Include after cmocka.h,
 * and define `strategy`, `litter()` (how many objects of `place` have a name) and `mode_of_object()`. */
#ifndef NORIA_LEVEL_BELL_TEST_H
#define NORIA_LEVEL_BELL_TEST_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "other_user_test.h"
#include "strategy.h"

#define MS NORIA_NS_PER_MS
#define LONG_NS (5 * NORIA_NS_PER_S) /* nobody waits that long unless a ring is lost */

enum { CROWD = 16 };

/* What the processes of a test share. */
struct page {
    uint32_t event;
    uint32_t words[2][4];
    uint32_t arrived, go;
};

static struct page *page;
static struct noria_bell_place place;
static const struct noria_strategy *const strategy;

static int litter(void);
static mode_t mode_of_object(void);

static int setup(void **state)
{
    (void)state;
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    place = (struct noria_bell_place){.mode = 0600, .owner = geteuid(), .group = getegid(),
                                      .participants = 64, .number = 1};
    place.words[0] = page->words[0];
    place.words[1] = page->words[1];
    return page == MAP_FAILED || getrandom(place.id, sizeof(place.id), 0) != sizeof(place.id) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    strategy->remove(&place);
    return litter() == 0 ? munmap(page, sizeof(*page)) : -1;
}

static int open_at(struct noria_bell *bell, unsigned side)
{
    *bell = (struct noria_bell){.place = &place, .word = &page->event, .side = side, .fd = -1, .set = -1};
    return strategy->open(bell);
}

static struct noria_bell opened(unsigned side)
{
    struct noria_bell bell;

    if (open_at(&bell, side) != 0)
        fail_msg("%s", noria_last_detail());
    return bell;
}

static int64_t in(int64_t ns)
{
    return noria_now_ns() + ns;
}

static pid_t start_process(void (*body)(void))
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void expect_end(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void arrive(void)
{
    __atomic_fetch_add(&page->arrived, 1, __ATOMIC_ACQ_REL);
}

static void await_arrivals(uint32_t wanted)
{
    while (noria_load_acquire32(&page->arrived) < wanted)
        sched_yield();
}

static void await_state(pid_t pid, char wanted)
{
    char path[32], state = '?';

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    while (state != wanted) {
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
        fclose(file);
        sched_yield();
    }
}

/* For children, where cmocka's asserts would run the rest of the tests. */
static void require(bool condition, int line)
{
    if (!condition) {
        fprintf(stderr, "line %d failed in a child: %s\n", line, noria_last_detail());
        _exit(1);
    }
}
#define REQUIRE(condition) require((condition), __LINE__)

static void take_back_everything(struct noria_bell *bell)
{
    while (strategy->quiet(bell))
        continue;
}

/* A sleeper with a bell of its own: heard is heard before the time is over. */
static void hear_one_ring(void)
{
    struct noria_bell bell;
    int64_t until_ns = in(LONG_NS);

    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    REQUIRE(strategy->wait(&bell, 0, until_ns) == 0);
    REQUIRE(noria_now_ns() < until_ns);
    strategy->close(&bell);
}

static void one_ring_wakes_all_processes(void **state)
{
    /* Claim: one ring wakes all processes that sleep at the bell. */
    struct noria_bell bell = opened(1);
    pid_t sleepers[4];

    (void)state;
    take_back_everything(&bell);
    for (int i = 0; i < 4; i++)
        sleepers[i] = start_process(hear_one_ring);
    await_arrivals(4);
    for (int i = 0; i < 4; i++)
        await_state(sleepers[i], 'S');
    strategy->ring(&bell);
    for (int i = 0; i < 4; i++)
        expect_end(sleepers[i]);
    strategy->close(&bell);
}

static void a_ring_stays_until_it_is_taken_back(void **state)
{
    /* Claim: a ring before the wait is heard, by the second sleeper too; quiet takes it back and says whether
     * there was one, however often it rang. */
    struct noria_bell ringer = opened(1), bell = opened(1);
    int64_t until_ns = in(LONG_NS);

    (void)state;
    take_back_everything(&bell);
    for (int i = 0; i < 100; i++)
        strategy->ring(&ringer);
    for (int i = 0; i < 3; i++)
        assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
    assert_true(noria_now_ns() < until_ns);
    assert_true(strategy->quiet(&bell));
    assert_false(strategy->quiet(&bell));
    assert_false(strategy->quiet(&ringer));
    strategy->close(&bell);
    strategy->close(&ringer);
}

static void the_sides_have_bells_of_their_own(void **state)
{
    /* Claim: a ring on one side is not heard on the other. */
    struct noria_bell senders = opened(0), receivers = opened(1);

    (void)state;
    take_back_everything(&senders);
    take_back_everything(&receivers);
    strategy->ring(&senders);
    assert_false(strategy->quiet(&receivers));
    assert_true(strategy->quiet(&senders));
    strategy->close(&senders);
    strategy->close(&receivers);
}

static void without_a_ring_the_time_is_waited_out(void **state)
{
    /* Claim: a wait without a ring does not end before its time; one whose time is over returns. */
    struct noria_bell bell = opened(1);
    int64_t until_ns;

    (void)state;
    take_back_everything(&bell);
    for (int i = 0; i < 5; i++) {
        until_ns = in(20 * MS);
        assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
        assert_true(noria_now_ns() >= until_ns);
    }
    assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
    assert_int_equal(strategy->wait(&bell, 0, 0), 0);
    strategy->close(&bell);
}

static void a_changed_word_is_not_waited_for(void **state)
{
    /* Claim: wait returns at once if the event word is not what the sleeper saw. */
    struct noria_bell bell = opened(1);
    int64_t until_ns = in(LONG_NS);

    (void)state;
    take_back_everything(&bell);
    page->event = 7;
    assert_int_equal(strategy->wait(&bell, 6, until_ns), 0);
    assert_true(noria_now_ns() < until_ns);
    strategy->close(&bell);
}

static void tick(int number)
{
    (void)number;
}

static void a_handler_is_reported(void **state)
{
    /* Claim: a wait in which a signal handler ran returns -EINTR, SA_RESTART or not. */
    struct noria_bell bell = opened(1);
    struct sigaction action = {.sa_handler = tick};
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};

    (void)state;
    take_back_everything(&bell);
    for (int i = 0; i < 2; i++) {
        action.sa_flags = i == 0 ? 0 : SA_RESTART;
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        assert_int_equal(strategy->wait(&bell, 0, in(LONG_NS)), -EINTR);
        setitimer(ITIMER_REAL, &never, NULL);
    }
    signal(SIGALRM, SIG_DFL);
    strategy->close(&bell);
}

static void sleep_and_take_back_for_ever(void)
{
    struct noria_bell bell;

    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    for (;;) {
        strategy->wait(&bell, 0, in(LONG_NS));
        strategy->quiet(&bell);
    }
}

static void ring_for_ever(void)
{
    struct noria_bell bell;

    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    for (;;)
        strategy->ring(&bell);
}

/* A ring that a dying sleeper had just taken is lost: whoever has not heard it looks for himself and sleeps
 * again. */
static void hear_a_ring_or_look(void)
{
    struct noria_bell bell;
    int64_t until_ns = in(LONG_NS);

    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    while (noria_load_acquire32(&page->go) == 0) {
        strategy->wait(&bell, 0, in(25 * MS));
        REQUIRE(noria_now_ns() < until_ns);
    }
    strategy->close(&bell);
}

static void the_dead_leave_a_bell_that_rings(void **state)
{
    /* Claim: after sleepers and ringers were killed anywhere in their calls, the bell wakes and becomes quiet
     * as ever. */
    struct noria_bell bell = opened(1);

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        pid_t ringer, sleepers[2], witness;
        int64_t until_ns = in(LONG_NS);

        page->arrived = page->go = 0;
        witness = start_process(hear_a_ring_or_look);
        ringer = start_process(ring_for_ever);
        sleepers[0] = start_process(sleep_and_take_back_for_ever);
        sleepers[1] = start_process(sleep_and_take_back_for_ever);
        await_arrivals(4);
        for (int64_t end_ns = in((int64_t)(round * 7919 % 1000) * 1000); noria_now_ns() < end_ns;)
            sched_yield();
        end(round % 2 == 0 ? ringer : sleepers[0]);
        end(round % 2 == 0 ? sleepers[0] : ringer);
        end(sleepers[1]);
        noria_store_release32(&page->go, 1);
        strategy->ring(&bell);
        expect_end(witness);
        take_back_everything(&bell);
        strategy->ring(&bell);
        assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
        take_back_everything(&bell);
        page->arrived = 0;
        witness = start_process(hear_one_ring);
        await_arrivals(1);
        await_state(witness, 'S');
        strategy->ring(&bell);
        expect_end(witness);
        take_back_everything(&bell);
    }
    strategy->close(&bell);
}

static void stopped_processes_stop_nobody(void **state)
{
    /* Claim: with a ringer and sleepers stopped anywhere in their calls, a ring still reaches the others, by
     * their next look at the latest. */
    struct noria_bell bell = opened(1);

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        pid_t stopped[3], witness;

        page->arrived = page->go = 0;
        stopped[0] = start_process(ring_for_ever);
        stopped[1] = start_process(sleep_and_take_back_for_ever);
        stopped[2] = start_process(sleep_and_take_back_for_ever);
        witness = start_process(hear_a_ring_or_look);
        await_arrivals(4);
        for (int64_t end_ns = in((int64_t)(round * 7919 % 1000) * 1000); noria_now_ns() < end_ns;)
            sched_yield();
        for (int i = 0; i < 3; i++) {
            kill(stopped[i], SIGSTOP);
            await_state(stopped[i], 'T');
        }
        take_back_everything(&bell);
        noria_store_release32(&page->go, 1);
        strategy->ring(&bell);
        expect_end(witness);
        assert_int_equal(strategy->wait(&bell, 0, in(LONG_NS)), 0);
        for (int i = 0; i < 3; i++)
            end(stopped[i]);
    }
    strategy->close(&bell);
}

static void await_go(uint32_t wanted)
{
    while (noria_load_acquire32(&page->go) < wanted)
        sched_yield();
}

static void open_together_and_hear(void)
{
    struct noria_bell bell, other;
    int64_t until_ns = in(LONG_NS);

    arrive();
    await_go(1);
    REQUIRE(open_at(&other, getpid() % 2 == 0) == 0);
    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    await_go(2);
    REQUIRE(strategy->wait(&bell, 0, until_ns) == 0);
    REQUIRE(noria_now_ns() < until_ns);
    strategy->close(&other);
    strategy->close(&bell);
}

static void a_crowd_opens_one_bell(void **state)
{
    /* Claim: processes that open the bell at the same instant, none of them first, all get the same one;
     * remove leaves nothing behind, and is silent when there is nothing. */
    pid_t crowd[CROWD];
    struct noria_bell bell;

    (void)state;
    for (int i = 0; i < CROWD; i++)
        crowd[i] = start_process(open_together_and_hear);
    await_arrivals(CROWD);
    noria_store_release32(&page->go, 1);
    await_arrivals(2 * CROWD);
    bell = opened(1);
    take_back_everything(&bell);
    noria_store_release32(&page->go, 2);
    for (int i = 0; i < CROWD; i += 4)
        await_state(crowd[i], 'S');
    strategy->ring(&bell);
    for (int i = 0; i < CROWD; i++)
        expect_end(crowd[i]);
    assert_true(litter() > 0);
    strategy->remove(&place);
    assert_int_equal(litter(), 0);
    strategy->remove(&place);
    strategy->close(&bell);
}

static void makers_killed_anywhere_are_succeeded(void **state)
{
    /* Claim: a maker killed anywhere in open leaves a bell that the next one opens, or none, and no litter.
     * */
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        struct noria_bell bell;
        pid_t maker;

        page->arrived = 0;
        maker = start_process(hear_one_ring);
        for (int64_t end_ns = in((int64_t)(round * 7919 % 500) * 1000); noria_now_ns() < end_ns;)
            sched_yield();
        end(maker);
        bell = opened(1);
        strategy->ring(&bell);
        assert_true(strategy->quiet(&bell));
        strategy->close(&bell);
        strategy->remove(&place);
        assert_int_equal(litter(), 0);
        noria_store_relaxed32(&page->words[0][0], 0); /* as if it were the next channel */
        noria_store_relaxed32(&page->words[1][0], 0);
    }
}

static void the_mode_is_the_channels(void **state)
{
    /* Claim: the objects have the mode of the channel, whatever the umask. */
    mode_t before = umask(0177);
    struct noria_bell bell;

    (void)state;
    place.mode = 0666;
    bell = opened(1);
    umask(before);
    assert_int_equal(mode_of_object(), 0666);
    strategy->close(&bell);
}

static void make_without_privilege(void)
{
    struct noria_bell bell;

    REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    REQUIRE(open_at(&bell, 1) == 0);
    strategy->close(&bell);
}

static void hear_without_privilege(void)
{
    struct noria_bell bell;

    REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    REQUIRE(open_at(&bell, 1) == 0);
    REQUIRE(strategy->quiet(&bell));
    strategy->close(&bell);
}

static void root_makes_it_the_owners(void **state)
{
    /* Claim: what root makes for another user's private channel is that user's, so he finds it and hears; and what
     * he makes root uses. */
    struct noria_bell bell;

    (void)state;
    if (!may_become(65534))
        skip();
    place.owner = place.group = 65534;
    bell = opened(1);
    strategy->ring(&bell);
    expect_end(start_process(hear_without_privilege));
    assert_int_equal(litter(), 1);
    strategy->close(&bell);
    strategy->remove(&place);
    noria_store_relaxed32(&page->words[0][0], 0);
    place.mode = 0600;
    expect_end(start_process(make_without_privilege));
    bell = opened(1);
    assert_int_equal(litter(), 1);
    strategy->close(&bell);
}

static void nobody_makes_it_again_after_remove(void **state)
{
    /* Claim: after remove, handles that are open or just opening go on without litter; waits end in time. */
    struct noria_bell bell = opened(1), late;

    (void)state;
    strategy->remove(&place);
    assert_int_equal(open_at(&late, 1), 0);
    for (int i = 0; i < 3; i++) {
        strategy->ring(&bell);
        strategy->ring(&late);
        assert_int_equal(strategy->wait(&late, 0, in(MS)), 0);
        assert_int_equal(strategy->wait(&bell, 0, in(MS)), 0);
        strategy->quiet(&late);
        strategy->quiet(&bell);
    }
    assert_int_equal(litter(), 0);
    strategy->close(&late);
    strategy->close(&bell);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CLAIMS_OF_ALL                             \
    CLAIM(one_ring_wakes_all_processes),          \
    CLAIM(a_ring_stays_until_it_is_taken_back),   \
    CLAIM(the_sides_have_bells_of_their_own),     \
    CLAIM(without_a_ring_the_time_is_waited_out), \
    CLAIM(a_changed_word_is_not_waited_for),      \
    CLAIM(a_handler_is_reported),                 \
    CLAIM(the_dead_leave_a_bell_that_rings),      \
    CLAIM(stopped_processes_stop_nobody),         \
    CLAIM(a_crowd_opens_one_bell),                \
    CLAIM(makers_killed_anywhere_are_succeeded),  \
    CLAIM(the_mode_is_the_channels),              \
    CLAIM(root_makes_it_the_owners),              \
    CLAIM(nobody_makes_it_again_after_remove)

#endif
