/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the FIFO bell wakes whoever may open it, follows what happens to its name, and touches nothing
 * that was planted. */
#define STRATEGY noria_strategy_fifo
#include "bell_test.h"
#include "other_user_test.h"

static char name_text[96];

static const char *name_of(unsigned side)
{
    snprintf(name_text, sizeof(name_text), "/dev/shm/noria-%016llx%016llx-%c",
             (unsigned long long)page->id[0], (unsigned long long)page->id[1], side == 1 ? 'r' : 's');
    return name_text;
}

static mode_t mode_at(const char *name)
{
    struct stat status;

    assert_int_equal(lstat(name, &status), 0);
    return status.st_mode;
}

static void mode_is_the_channels(void **state)
{
    /* Claim: the FIFO has the channel's mode whatever the umask, and an owner mends one that a dead maker
     * left. */
    mode_t old = umask(0777);
    struct participant self;

    (void)state;
    prepare(&self, 1);
    self.place.mode = 0660;
    assert_int_equal(strategy->open(&self.bell), 0);
    umask(old);
    assert_int_equal(mode_at(name_of(1)), S_IFIFO | 0660);
    leave(&self);
    assert_int_equal(chmod(name_of(1), 0), 0);
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(mode_at(name_of(1)), S_IFIFO | 0600);
    leave(&self);
}

static void become_nobody(void)
{
    if (geteuid() == 0)
        CHECK(setresuid(65534, 65534, 65534) == 0);
}

static void make_without_privilege(uint32_t number)
{
    struct participant self;

    become_nobody();
    umask(0777);
    CHECK(join(&self, number) == 0);
    CHECK(waited_ns(&self, MS) >= MS);
    leave(&self);
    CHECK(chmod(name_of(1), 0) == 0);
    CHECK(join(&self, number) == 0);
    leave(&self);
    strategy->remove(&self.place);
}

static void mode_is_mended_without_privilege(void **state)
{
    /* Claim: the same for a user who may not open what a dead maker left. */
    (void)state;
    expect_end(start_process(make_without_privilege, 1));
}

static void expect_refused(int error, const char *word)
{
    struct participant self;

    assert_int_equal(join(&self, 1), error);
    assert_non_null(strstr(noria_last_detail(), word));
    assert_int_equal(self.bell.fd, -1);
    assert_int_equal(unlink(name_of(1)), 0);
    assert_int_equal(join(&self, 1), 0); /* nothing of it is left in the segment */
    leave(&self);
    unlink(name_of(1));
}

static void planted_files_are_refused(void **state)
{
    /* Claim: a symbolic link, other file, directory, hard link or stranger's FIFO at the name is an error
     * with a sentence, and is not changed. */
    char target[128], text[8] = "";
    int fd;

    (void)state;
    snprintf(target, sizeof(target), "%s.target", name_of(1));
    fd = open(target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    assert_int_equal(write(fd, "precious", 8), 8);
    assert_int_equal(symlink(target, name_of(1)), 0);
    expect_refused(-EACCES, "symbolic link");
    assert_int_equal(link(target, name_of(1)), 0);
    expect_refused(-EINVAL, "not a FIFO");
    assert_int_equal(pread(fd, text, 8, 0), 8);
    assert_memory_equal(text, "precious", 8);
    assert_int_equal(mode_at(target), S_IFREG | 0640);
    close(fd);
    unlink(target);
    assert_int_equal(mkfifo(target, 0640), 0);
    assert_int_equal(symlink(target, name_of(1)), 0);
    expect_refused(-EACCES, "symbolic link");
    assert_int_equal(link(target, name_of(1)), 0);
    expect_refused(-EACCES, "second name");
    assert_int_equal(mode_at(target), S_IFIFO | 0640);
    unlink(target);
}

static void planted_folder_is_refused(void **state)
{
    /* Claim: nor is a folder at the name taken for a FIFO. */
    struct participant self;

    (void)state;
    assert_int_equal(mkdir(name_of(1), 0700), 0);
    assert_int_equal(join(&self, 1), -EINVAL);
    assert_int_equal(rmdir(name_of(1)), 0);
}

static void strangers_fifo_is_refused(void **state)
{
    /* Claim: another user's FIFO is refused on a channel that is not shared, accepted on one that is. */
    struct participant self;

    (void)state;
    if (!may_become(65534))
        skip();
    assert_int_equal(mkfifo(name_of(1), 0600), 0);
    assert_int_equal(chown(name_of(1), 65534, 65534), 0);
    expect_refused(-EACCES, "another user");
    assert_int_equal(mkfifo(name_of(1), 0600), 0);
    assert_int_equal(chown(name_of(1), 65534, 65534), 0);
    prepare(&self, 1);
    self.place.mode = 0660;
    assert_int_equal(strategy->open(&self.bell), 0);
    leave(&self);
}

static void hear_without_privilege(uint32_t number)
{
    struct participant self;

    CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    CHECK(join(&self, number) == 0);
    CHECK(strategy->quiet(&self.bell));
    leave(&self);
}

static void root_makes_it_the_owners(void **state)
{
    /* Claim: the FIFO that root makes for another user's private channel is that user's, so it is not in his way; one
     * that a root who died left as his own becomes it with the next that opens. */
    struct participant self;
    struct stat status;

    (void)state;
    if (!may_become(65534))
        skip();
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            assert_int_equal(mkfifo(name_of(1), 0600), 0);
        prepare(&self, 1);
        self.place.owner = self.place.group = 65534;
        assert_int_equal(strategy->open(&self.bell), 0);
        assert_int_equal(lstat(name_of(1), &status), 0);
        assert_int_equal(status.st_uid, 65534);
        assert_int_equal(status.st_gid, 65534);
        assert_int_equal(status.st_mode, S_IFIFO | 0600);
        strategy->ring(&self.bell);
        expect_end(start_process(hear_without_privilege, 2));
        leave(&self);
        strategy->remove(&self.place);
    }
}

static void remove_leaves_nothing(void **state)
{
    /* Claim: remove takes away the names of both sides, and is silent if there are none. */
    struct participant self;

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    leave(&self);
    self.bell.side = 0;
    assert_int_equal(strategy->open(&self.bell), 0);
    leave(&self);
    assert_int_equal(access(name_of(0), F_OK), 0);
    assert_int_equal(access(name_of(1), F_OK), 0);
    strategy->remove(&self.place);
    assert_int_equal(access(name_of(0), F_OK), -1);
    assert_int_equal(access(name_of(1), F_OK), -1);
    strategy->remove(&self.place);
}

static void ring_newcomer(uint32_t number)
{
    struct participant self;

    await(&page->values[0], 1);
    CHECK(join(&self, number) == 0);
    strategy->ring(&self.bell);
    leave(&self);
}

static void newcomer_joins_those_who_are_there(void **state)
{
    /* Claim: after the name was removed a newcomer in another process gets the FIFO that live handles
     * have: an epoll set armed before hears him, and no second name appears. */
    pid_t newcomer = start_process(ring_newcomer, 2); /* now, lest it inherits the descriptor */
    struct participant self;
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    assert_int_equal(join(&self, 1), 0);
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, self.bell.fd, &event), 0);
    strategy->remove(&self.place);
    noria_store_release32(&page->values[0], 1);
    expect_end(newcomer);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 1);
    assert_true(strategy->quiet(&self.bell));
    assert_int_equal(access(name_of(1), F_OK), -1);
    close(set);
    leave(&self);
}

static void another_fifo_is_followed(void **state)
{
    /* Claim: if a newcomer cannot find those who are there and makes a second FIFO, all follow, sleeper
     * and waker alike, under the same descriptor number. */
    struct participant one, other, newcomer;
    struct pollfd poll_one;
    int fd;

    (void)state;
    assert_int_equal(join(&one, 1), 0);
    assert_int_equal(join(&other, 2), 0);
    fd = one.bell.fd;
    strategy->remove(&one.place);
    prepare(&newcomer, 3);
    newcomer.place.find_peer = NULL;
    page->words[1][3] = 0; /* for a newcomer in this very process would find it */
    assert_int_equal(strategy->open(&newcomer.bell), 0);
    assert_int_equal(access(name_of(1), F_OK), 0);
    one.place.find_peer = other.place.find_peer = NULL;
    strategy->ring(&one.bell); /* the waker follows, and wakes those who still wait at the old one */
    poll_one = (struct pollfd){.fd = other.bell.fd, .events = POLLIN};
    assert_int_equal(poll(&poll_one, 1, 0), 1);
    assert_true(strategy->quiet(&newcomer.bell));
    expect_both_hear(&newcomer, &one);
    expect_both_hear(&newcomer, &other);
    expect_both_hear(&one, &other);
    assert_int_equal(one.bell.fd, fd);
    strategy->ring(&newcomer.bell);
    poll_one.fd = fd;
    assert_int_equal(poll(&poll_one, 1, 0), 1);
    leave(&one);
    leave(&other);
    leave(&newcomer);
}

static void tampered_words_are_put_right(void **state)
{
    /* Claim: whatever is written over the word, those who are there and newcomers hear each other. */
    static const uint32_t nonsense[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX, UINT32_MAX - 1};
    struct participant one, other, newcomer;

    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]) * 2; i++) {
        assert_int_equal(join(&one, 1), 0);
        assert_int_equal(join(&other, 2), 0);
        if (i % 2 != 0)
            strategy->remove(&one.place);
        page->words[1][3] = nonsense[i / 2];
        expect_both_hear(&one, &other);
        page->words[1][3] = nonsense[i / 2];
        assert_int_equal(join(&newcomer, 3), 0);
        expect_both_hear(&newcomer, &other);
        expect_both_hear(&newcomer, &one);
        leave(&one);
        leave(&other);
        leave(&newcomer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TESTS_OF_EVERY_BELL,
        TEST(mode_is_the_channels),
        TEST(mode_is_mended_without_privilege),
        TEST(planted_files_are_refused),
        TEST(planted_folder_is_refused),
        TEST(strangers_fifo_is_refused),
        TEST(root_makes_it_the_owners),
        TEST(remove_leaves_nothing),
        TEST(newcomer_joins_those_who_are_there),
        TEST(another_fifo_is_followed),
        TEST(tampered_words_are_put_right),
    };
    return cmocka_run_group_tests_name("fifo", tests, NULL, NULL);
}
