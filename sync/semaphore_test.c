/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a named POSIX semaphore is a bell with a level, whoever dies, and whatever its file holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>

#include "level_bell_test.h"

static const struct noria_strategy *const strategy = &noria_strategy_semaphore;

static const char *path_of(unsigned side)
{
    static char path[2][80];

    snprintf(path[side], sizeof(path[side]), "/dev/shm/sem.noria-%016llx%016llx-%c",
             (unsigned long long)place.id[0], (unsigned long long)place.id[1], side == 0 ? 's' : 'r');
    return path[side];
}

/* By the number alone, so that names that are not expected count too. */
static int litter(void)
{
    char id[40];
    DIR *directory = opendir("/dev/shm");
    struct dirent *entry;
    int count = 0;

    snprintf(id, sizeof(id), "%016llx%016llx", (unsigned long long)place.id[0],
             (unsigned long long)place.id[1]);
    while ((entry = readdir(directory)) != NULL)
        count += strstr(entry->d_name, id) != NULL;
    closedir(directory);
    return count;
}

static mode_t mode_of_object(void)
{
    struct stat status;

    assert_int_equal(stat(path_of(1), &status), 0);
    return status.st_mode & 0777;
}

/* Writes into the file as somebody with an editor could. */
static void tamper(size_t offset, const void *bytes, size_t size)
{
    int fd = open(path_of(1), O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void the_value_stays_small(void **state)
{
    /* Claim: however often it rings and wakes, the value does not grow. */
    struct noria_bell bell = opened(1);
    int value;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        strategy->ring(&bell);
        assert_int_equal(strategy->wait(&bell, 0, in(LONG_NS)), 0);
    }
    assert_int_equal(sem_getvalue(bell.object, &value), 0);
    assert_int_equal(value, 1);
    strategy->close(&bell);
}

static int64_t used_ns(void)
{
    return noria_clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

static void a_huge_value_burns_no_core(void **state)
{
    /* Claim: with a value that takes minutes to take back, calls are bounded and a sleeper rests most of the
     * time. */
    static const uint32_t values[] = {SEM_VALUE_MAX, UINT32_MAX, (uint32_t)SEM_VALUE_MAX + 1};
    struct noria_bell bell = opened(1);

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        int64_t start_ns = noria_now_ns(), cpu_ns = used_ns();

        tamper(0, &values[i], sizeof(values[i]));
        assert_true(strategy->quiet(&bell));
        for (int call = 0; call < 50; call++) {
            assert_int_equal(strategy->wait(&bell, 0, in(LONG_NS)), 0);
            assert_true(strategy->quiet(&bell));
        }
        assert_true(used_ns() - cpu_ns < (noria_now_ns() - start_ns) / 4);
        strategy->ring(&bell);
    }
    strategy->close(&bell);
}

static void a_large_value_is_taken_back(void **state)
{
    /* Claim: a tampered value is taken back over some calls, and then the bell is as ever. */
    const uint32_t value = 100000;
    struct noria_bell bell = opened(1);
    int64_t until_ns;

    (void)state;
    tamper(0, &value, sizeof(value));
    take_back_everything(&bell);
    until_ns = in(20 * MS);
    assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
    assert_true(noria_now_ns() >= until_ns);
    strategy->ring(&bell);
    until_ns = in(LONG_NS);
    assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
    assert_true(noria_now_ns() < until_ns);
    strategy->close(&bell);
}

static void use_every_call(struct noria_bell *bell)
{
    strategy->wait(bell, 0, in(MS / 4));
    strategy->ring(bell);
    strategy->wait(bell, 0, in(MS / 4));
    for (int i = 0; i < 3; i++)
        strategy->quiet(bell);
    strategy->wait(bell, 0, in(MS / 4));
}

static void any_bytes_do_no_harm(void **state)
{
    /* Claim: whatever bytes the file holds, each call returns and the process lives. */
    struct noria_bell bell = opened(1);
    uint8_t bytes[sizeof(sem_t)];

    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    tamper(0, bytes, sizeof(bytes));
    use_every_call(&bell);
    for (size_t offset = 0; offset < sizeof(bytes); offset++) /* one after the other, none repaired by us */
        for (unsigned value = 1; value < 256; value = value * 2 + (value == 4)) {
            const uint8_t byte = (uint8_t)value;

            memset(bytes, 0, sizeof(bytes));
            tamper(0, bytes, sizeof(bytes));
            tamper(offset, &byte, 1);
            use_every_call(&bell);
        }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(getrandom(bytes, sizeof(bytes), 0), sizeof(bytes));
        tamper(0, bytes, sizeof(bytes));
        use_every_call(&bell);
    }
    strategy->close(&bell);
}

static void a_wrong_kind_of_semaphore_still_wakes(void **state)
{
    /* Claim: bytes that say "between threads" are put right before they make a ring deaf. */
    struct noria_bell bell = opened(1);
    sem_t between_threads;
    pid_t sleeper;

    (void)state;
    memset(&between_threads, 0, sizeof(between_threads));
    sem_init(&between_threads, 0, 0);
    tamper(0, &between_threads, sizeof(between_threads));
    sleeper = start_process(hear_one_ring);
    await_arrivals(1);
    await_state(sleeper, 'S');
    strategy->ring(&bell);
    expect_end(sleeper);
    strategy->close(&bell);
}

static void a_removed_name_leaves_the_open_ones_working(void **state)
{
    /* Claim: after an administrator removed the file, open handles wake each other; a new one makes it again.
     * */
    struct noria_bell bell = opened(1), other = opened(1), late;
    int64_t until_ns = in(LONG_NS);

    (void)state;
    assert_int_equal(unlink(path_of(1)), 0);
    strategy->ring(&other);
    assert_int_equal(strategy->wait(&bell, 0, until_ns), 0);
    assert_true(noria_now_ns() < until_ns);
    late = opened(1);
    assert_int_equal(litter(), 1);
    assert_false(strategy->quiet(&late));
    strategy->close(&late);
    strategy->close(&other);
    strategy->close(&bell);
}

static void expect_refusal(int wanted)
{
    struct noria_bell bell;

    assert_int_equal(open_at(&bell, 1), wanted);
    assert_non_null(strstr(noria_last_detail(), path_of(1)));
    assert_null(bell.object);
}

static void foreign_objects_are_refused_and_untouched(void **state)
{
    /* Claim: a link, a directory, a FIFO, a file of another size at the name are errors and stay as they are;
     * remove leaves the first three alone. */
    static const char *const target = "/dev/null";
    int fd;

    (void)state;
    assert_int_equal(symlink(target, path_of(1)), 0);
    expect_refusal(-EEXIST);
    strategy->remove(&place);
    assert_int_equal(unlink(path_of(1)), 0);
    assert_int_equal(mkdir(path_of(1), 0700), 0);
    expect_refusal(-EEXIST);
    strategy->remove(&place);
    assert_int_equal(rmdir(path_of(1)), 0);
    assert_int_equal(mkfifo(path_of(1), 0600), 0);
    expect_refusal(-EEXIST);
    strategy->remove(&place);
    assert_int_equal(unlink(path_of(1)), 0);
    fd = open(path_of(1), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    for (int64_t size = 0; size <= 4096; size += size == 0 ? 7 : 4089) {
        struct stat status;

        assert_int_equal(ftruncate(fd, size), 0);
        expect_refusal(-EEXIST);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(status.st_size, size);
    }
    close(fd);
}

static void become_nobody(void)
{
    REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

static void make_as_nobody(void)
{
    struct noria_bell bell;

    become_nobody();
    REQUIRE(open_at(&bell, 1) == 0);
}

static void another_users_file_is_refused(void **state)
{
    /* Claim: a semaphore of another user, not root, is refused unless the channel's mode lets others in. */
    struct noria_bell bell;

    (void)state;
    if (!may_become(65534))
        skip();
    expect_end(start_process(make_as_nobody));
    expect_refusal(-EACCES);
    place.mode = 0666;
    assert_int_equal(open_at(&bell, 1), 0);
    strategy->close(&bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIMS_OF_ALL,
        CLAIM(the_value_stays_small),
        CLAIM(a_huge_value_burns_no_core),
        CLAIM(a_large_value_is_taken_back),
        CLAIM(any_bytes_do_no_harm),
        CLAIM(a_wrong_kind_of_semaphore_still_wakes),
        CLAIM(a_removed_name_leaves_the_open_ones_working),
        CLAIM(foreign_objects_are_refused_and_untouched),
        CLAIM(another_users_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
