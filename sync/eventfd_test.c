/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: unrelated processes of one user share one eventfd, whatever stands in the segment, and no
 * descriptor that is not the channel's is ever touched. */
#define STRATEGY noria_strategy_eventfd
#include "bell_test.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>

/* As eventfd.c has it. */
struct claim {
    uint32_t number, pid, identity, unused;
};

static struct claim *claim_of(uint32_t number)
{
    return (struct claim *)(void *)page->memory + 2 * (number - 1) + 1;
}

static uint64_t count_of(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void nothing_is_left_behind(void **state)
{
    /* Claim: open and close, also refused ones, leave no descriptor and no claim; who closes what it
     * inherited over fork leaves its parent's claim alone. */
    struct participant self;
    int before = open("/dev/null", O_RDONLY), after;
    pid_t child;

    (void)state;
    close(before);
    assert_int_equal(join(&self, 1), 0);
    child = fork();
    if (child == 0) {
        strategy->close(&self.bell);
        _exit(0);
    }
    expect_end(child);
    assert_int_equal(claim_of(1)->number, self.bell.fd + 1);
    leave(&self);
    after = open("/dev/null", O_RDONLY);
    close(after);
    assert_int_equal(after, before);
    assert_int_equal(claim_of(1)->number, 0);
}

static void closing_one_bell_keeps_the_other_known(void **state)
{
    /* Claim: of two bells of one handle the one that stays is found by newcomers after it has looked around once,
     * also if they knew the other; and who has left the table claims nothing in the name of whoever comes next. */
    struct participant self, spare;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(join(&spare, 1), 0);
    assert_int_equal(claim_of(1)->number, self.bell.fd + 1);
    claim_of(1)->number = (uint32_t)spare.bell.fd + 1; /* as if it had been the first */
    leave(&spare);
    assert_int_equal(claim_of(1)->number, 0);
    assert_false(strategy->renew(&self.bell)); /* it need not change itself */
    assert_int_equal(claim_of(1)->number, self.bell.fd + 1);

    self.place.number = 0;
    claim_of(1)->number = 0;
    strategy->ring(&self.bell);
    assert_int_equal(claim_of(1)->number, 0);
    leave(&self);
}

static void taking_leaves_nothing_behind(void **state)
{
    /* Claim: to take the eventfd from another process costs one descriptor, none after close. */
    pid_t holder = start_process(hold_for_ever, 3);
    struct participant self;
    int before = open("/dev/null", O_RDONLY), after;

    (void)state;
    close(before);
    await(&page->values[0], 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(join(&self, 1), 0);
        assert_int_equal(self.bell.state, claim_of(3)->identity);
        assert_true(self.bell.fd <= before + 2); /* pidfd and fdinfo are open only for a moment */
        after = open("/dev/null", O_RDONLY);
        close(after);
        assert_true(after <= before + 1);
        leave(&self);
    }
    end_by_kill(holder);
    after = open("/dev/null", O_RDONLY);
    close(after);
    assert_int_equal(after, before);
}

static void last_word_is_replaced(void **state)
{
    /* Claim: if all who had the eventfd are gone, the next one makes another. */
    struct participant one, other;

    (void)state;
    assert_int_equal(join(&one, 1), 0);
    leave(&one);
    assert_int_not_equal(page->words[1][0], 0);
    assert_int_equal(join(&one, 1), 0);
    assert_int_equal(join(&other, 2), 0);
    expect_both_hear(&one, &other);
    leave(&one);
    leave(&other);
}

static void hold_undumpable(uint32_t number)
{
    struct participant self;
    int status;
    pid_t child;

    if (geteuid() == 0)
        CHECK(setresuid(65534, 65534, 65534) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
    CHECK(join(&self, number) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct participant mine;
        CHECK(join(&mine, number + 1) == 0);
        CHECK(mine.bell.state == self.bell.state && mine.bell.fd != self.bell.fd);
        strategy->ring(&mine.bell);
        leave(&mine);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(strategy->quiet(&self.bell));
    noria_store_release32(&page->values[0], 1);
    await(&page->values[0], 2);
    CHECK(self.bell.state == page->words[1][0]); /* the one who was refused has changed nothing */
    leave(&self);
}

static void be_refused(uint32_t number)
{
    struct participant self;

    if (geteuid() == 0)
        CHECK(setresuid(65534, 65534, 65534) == 0);
    CHECK(join(&self, number) == -EPERM);
    CHECK(strstr(noria_last_detail(), "choose wait = fifo") != NULL);
    CHECK(self.bell.fd == -1);
}

static void permission_is_needed_but_by_children(void **state)
{
    /* Claim: a process that may not trace the holder is refused with a sentence that names the FIFO; a
     * forked child of the holder needs no permission. */
    pid_t holder = start_process(hold_undumpable, 1);

    (void)state;
    await(&page->values[0], 1);
    expect_end(start_process(be_refused, 3));
    noria_store_release32(&page->values[0], 2);
    expect_end(holder);
}

static void tampered_words_are_put_right(void **state)
{
    /* Claim: whatever is written over the word, those who are there keep their eventfd and newcomers get
     * it. */
    static const uint32_t nonsense[] = {0, 1, 2, 0x7fffffff, 0x80000000, UINT32_MAX, UINT32_MAX - 1};
    struct participant one, other, newcomer;

    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        uint32_t identity;
        assert_int_equal(join(&one, 1), 0);
        assert_int_equal(join(&other, 2), 0);
        identity = one.bell.state;
        page->words[1][0] = nonsense[i];
        expect_both_hear(&one, &other);
        page->words[1][0] = nonsense[i];
        assert_int_equal(join(&newcomer, 3), 0);
        expect_both_hear(&newcomer, &other);
        expect_both_hear(&newcomer, &one);
        assert_int_equal(newcomer.bell.state, identity);
        assert_int_equal(page->words[1][0], identity);
        leave(&one);
        leave(&other);
        leave(&newcomer);
    }
}

static void hold_other_things(uint32_t number)
{
    struct participant self;
    int ends[2], unrelated = eventfd(5, EFD_NONBLOCK);

    CHECK(unrelated >= 0 && pipe2(ends, O_NONBLOCK) == 0 && join(&self, number) == 0);
    noria_store_release32(&page->values[1], (uint32_t)ends[1]);
    noria_store_release32(&page->values[2], (uint32_t)unrelated);
    noria_store_release32(&page->values[0], 1);
    await(&page->values[0], 2);
    CHECK(count_of(unrelated) == 5);
    CHECK(read(ends[0], ends, sizeof(ends)) == -1 && errno == EAGAIN);
    strategy->ring(&self.bell); /* and follows what was made meanwhile */
    CHECK(hears_within_rechecks(&self, 20));
    CHECK(self.bell.state == page->words[1][0]);
}

static void tampered_claims_do_no_harm(void **state)
{
    /* Claim: with any descriptor number in a claim, of another kind, of an eventfd that is not the
     * channel's, or of none, opening works and nobody touches that descriptor; those who are there follow. */
    pid_t holder = start_process(hold_other_things, 1);
    struct participant self;

    (void)state;
    await(&page->values[0], 1);
    const uint32_t numbers[] = {page->values[1] + 1, page->values[2] + 1, 1, 0, UINT32_MAX, 0x80000000,
                                0x7fffffff, 100000};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        claim_of(1)->number = numbers[i];
        assert_int_equal(join(&self, 2), 0);
        assert_true(waited_ns(&self, 2 * MS) >= 2 * MS); /* a new one, not the one with 5 in it */
        strategy->ring(&self.bell);
        assert_true(strategy->quiet(&self.bell));
        if (i + 1 < sizeof(numbers) / sizeof(numbers[0]))
            leave(&self);
    }
    noria_store_release32(&page->values[0], 2);
    expect_end(holder);
    leave(&self);
}

static void claim_of_a_dead_predecessor_is_not_believed(void **state)
{
    /* Claim: a claim with another pid than the live participant's is passed over, even if number and
     * identity fit. */
    struct participant self;
    int unrelated = eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK);
    pid_t holder;

    (void)state;
    holder = start_process(hold_for_ever, 3);
    await(&page->values[0], 1);
    claim_of(3)->pid = 1;
    assert_int_equal(join(&self, 1), 0);
    assert_int_not_equal(self.bell.state, claim_of(3)->identity);
    end_by_kill(holder);
    leave(&self);
    assert_int_equal(count_of(unrelated), 7);
    close(unrelated);
}

static void lost_agreement_comes_back(void **state)
{
    /* Claim: if word and claims are all wiped, so that two eventfds exist, those who are there follow at
     * their next call, under the same number and after a ring of the old one. */
    struct participant one, other, newcomer;
    struct pollfd poll_other;
    int fd;

    (void)state;
    assert_int_equal(join(&one, 1), 0);
    assert_int_equal(join(&other, 2), 0);
    fd = one.bell.fd;
    memset(page->memory, 0, sizeof(page->memory));
    memset(page->words, 0, sizeof(page->words));
    assert_int_equal(join(&newcomer, 3), 0);
    assert_int_not_equal(newcomer.bell.state, one.bell.state);
    strategy->ring(&one.bell);
    poll_other = (struct pollfd){.fd = other.bell.fd, .events = POLLIN};
    assert_int_equal(poll(&poll_other, 1, 0), 1);
    assert_true(strategy->quiet(&newcomer.bell));
    assert_int_equal(one.bell.fd, fd);
    expect_both_hear(&newcomer, &other);
    expect_both_hear(&newcomer, &one);
    expect_both_hear(&one, &other);
    leave(&one);
    leave(&other);
    leave(&newcomer);
}

static void full_count_is_rung_enough(void **state)
{
    /* Claim: with the count at its maximum, and even if somebody made the eventfd blocking, neither ring nor
     * quiet blocks. */
    struct participant self;
    const uint64_t most = UINT64_MAX - 1;

    (void)state;
    alarm(20);
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(write(self.bell.fd, &most, sizeof(most)), sizeof(most));
    strategy->ring(&self.bell);
    assert_true(strategy->quiet(&self.bell));
    assert_int_equal(write(self.bell.fd, &most, sizeof(most)), sizeof(most));
    assert_int_equal(fcntl(self.bell.fd, F_SETFL, 0), 0);
    strategy->ring(&self.bell);
    assert_true(strategy->quiet(&self.bell));
    assert_int_equal(fcntl(self.bell.fd, F_SETFL, 0), 0);
    assert_false(strategy->quiet(&self.bell));
    alarm(0);
    leave(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TESTS_OF_EVERY_BELL,
        TEST(nothing_is_left_behind),
        TEST(closing_one_bell_keeps_the_other_known),
        TEST(taking_leaves_nothing_behind),
        TEST(last_word_is_replaced),
        TEST(permission_is_needed_but_by_children),
        TEST(tampered_words_are_put_right),
        TEST(tampered_claims_do_no_harm),
        TEST(claim_of_a_dead_predecessor_is_not_believed),
        TEST(lost_agreement_comes_back),
        TEST(full_count_is_rung_enough),
    };
    return cmocka_run_group_tests_name("eventfd", tests, NULL, NULL);
}
