/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a System V set is a bell with a level, whoever dies, whatever its values, and also after ipcrm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "level_bell_test.h"
#include "sysv_semaphore.c" /* for the keys: a set has no name to be found by */

static const struct noria_strategy *const strategy = &noria_strategy_sysv_semaphore;

/* Sets at our keys, whosever they are. */
static int litter(void)
{
    int count = 0;

    for (unsigned attempt = 0; attempt < KEYS; attempt++)
        count += semget(key_of(&place, attempt), 0, 0) >= 0;
    return count;
}

static void status_of(int set, struct semid_ds *status)
{
    assert_int_equal(semctl(set, 0, IPC_STAT, (union semun){.buf = status}), 0);
}

/* The set of the place: a bell tells. */
static int set_of_place(void)
{
    struct noria_bell bell = opened(1);
    int set = bell.set;

    strategy->close(&bell);
    return set;
}

static mode_t mode_of_object(void)
{
    struct semid_ds status;

    status_of(set_of_place(), &status);
    return (mode_t)(status.sem_perm.mode & 0777);
}

static void expect_level(struct noria_bell *bell)
{
    int64_t until_ns = in(LONG_NS);

    take_back_everything(bell);
    assert_int_equal(strategy->wait(bell, 0, in(5 * MS)), 0);
    strategy->ring(bell);
    assert_int_equal(strategy->wait(bell, 0, until_ns), 0);
    assert_true(noria_now_ns() < until_ns);
    assert_true(strategy->quiet(bell));
    assert_false(strategy->quiet(bell));
}

static void any_value_does_no_harm(void **state)
{
    /* Claim: whatever values the set holds, the next quiet and ring make it a bell again. */
    static const int values[] = {0, 1, 2, 32767};
    struct noria_bell bell = opened(1);

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        for (int number = 0; number < 3; number++) {
            assert_int_equal(semctl(bell.set, number, SETVAL, (union semun){.val = values[i]}), 0);
            expect_level(&bell);
        }
    semctl(bell.set, MARK, SETVAL, (union semun){.val = mark_of(&place)}); /* for remove */
    strategy->close(&bell);
}

static void sleep_until_removed_and_hear(void)
{
    struct noria_bell bell;
    int64_t until_ns = in(LONG_NS);

    REQUIRE(open_at(&bell, 1) == 0);
    arrive();
    REQUIRE(strategy->wait(&bell, 0, until_ns) == 0); /* removed */
    REQUIRE(noria_now_ns() < until_ns);
    strategy->wait(&bell, 0, until_ns); /* makes it again, rung */
    while (strategy->quiet(&bell))
        continue;
    arrive();
    REQUIRE(strategy->wait(&bell, 0, until_ns) == 0);
    REQUIRE(noria_now_ns() < until_ns);
}

static void a_removed_set_is_made_again(void **state)
{
    /* Claim: a sleeper whose set was removed returns and makes it again; a ringer of the old one finds the
     * new one. */
    struct noria_bell bell = opened(1);
    pid_t sleeper;

    (void)state;
    take_back_everything(&bell);
    sleeper = start_process(sleep_until_removed_and_hear);
    await_arrivals(1);
    await_state(sleeper, 'S');
    assert_int_equal(semctl(bell.set, 0, IPC_RMID), 0);
    await_arrivals(2);
    await_state(sleeper, 'S');
    strategy->ring(&bell);
    expect_end(sleeper);
    assert_int_equal(litter(), 1);
    strategy->close(&bell);
}

static void a_set_removed_again_and_again_burns_no_core(void **state)
{
    /* Claim: while somebody keeps removing the set, a sleeper rests most of the time. */
    struct noria_bell bell = opened(1);
    int64_t cpu_ns = noria_clock_read(CLOCK_PROCESS_CPUTIME_ID), start_ns = noria_now_ns();

    (void)state;
    for (int i = 0; i < 100; i++) {
        int set = set_of_place();

        strategy->quiet(&bell);
        semctl(set, 0, IPC_RMID);
        assert_int_equal(strategy->wait(&bell, 0, in(LONG_NS)), 0);
    }
    assert_true(noria_clock_read(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns < (noria_now_ns() - start_ns) / 4);
    strategy->close(&bell);
}

static void become_nobody(void)
{
    REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

static void nap_at_a_level_that_stays(void)
{
    struct noria_bell bell;
    struct semid_ds status;
    int64_t start_ns;

    if (geteuid() == 0)
        become_nobody(); /* root may do everything */
    REQUIRE(open_at(&bell, 1) == 0);
    status_of(bell.set, &status);
    status.sem_perm.mode = 0400;
    REQUIRE(semctl(bell.set, 0, IPC_SET, (union semun){.buf = &status}) == 0);
    start_ns = noria_now_ns();
    for (int i = 0; i < 10; i++) {
        strategy->quiet(&bell);
        REQUIRE(strategy->wait(&bell, 0, in(LONG_NS)) == 0);
    }
    REQUIRE(noria_now_ns() - start_ns > 10 * MS);
}

static void a_level_that_stays_burns_no_core(void **state)
{
    /* Claim: where the level cannot be taken back for want of permission, a sleeper naps. */
    (void)state;
    expect_end(start_process(nap_at_a_level_that_stays));
}

static void an_unfinished_set_is_completed(void **state)
{
    /* Claim: a set whose maker was killed before it marked it is completed by the next one, once, by whoever
     * it is. */
    key_t key = key_of(&place, 0);
    struct noria_bell bell;
    int set;

    (void)state;
    set = semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(set >= 0);
    bell = opened(1);
    assert_int_equal(bell.set, set);
    expect_level(&bell);
    assert_int_equal(set_of_place(), set);
    strategy->close(&bell);
}

static void an_unfinished_set_is_removed(void **state)
{
    /* Claim: remove takes an unfinished set of ours with it. */
    key_t key = key_of(&place, 0);

    (void)state;
    assert_true(semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600) >= 0);
    place.mode = 0; /* remove need not know it */
    strategy->remove(&place);
    assert_int_equal(litter(), 0);
}

/* A set of somebody else at our key: other size, other values, or used by semop although all zero. */
static int plant(key_t key, int kind)
{
    int set = semget(key, kind == 0 ? 1 : kind == 1 ? SEMAPHORES + 1 : SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600);
    struct sembuf use[] = {{0, 1, 0}, {0, -1, 0}};

    assert_true(set >= 0);
    if (kind == 2)
        assert_int_equal(semctl(set, 2, SETVAL, (union semun){.val = 5}), 0);
    if (kind == 3)
        assert_int_equal(semctl(set, 1, SETVAL, (union semun){.val = 5}), 0);
    if (kind == 4)
        assert_int_equal(semop(set, use, 2), 0);
    return set;
}

static void get_values(int set, int values[3])
{
    for (int number = 0; number < 3; number++)
        values[number] = semctl(set, number, GETVAL); /* -1 where there is none */
}

static void foreign_sets_are_untouched(void **state)
{
    /* Claim: a set at our key that is not ours is left alone, by remove too, and all handles meet at another
     * key. */
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        int before[3], after[3];
        struct semid_ds status_before, status_after;
        key_t key = key_of(&place, 0);
        struct noria_bell bell, other;
        int foreign;

        foreign = plant(key, kind);
        get_values(foreign, before);
        status_of(foreign, &status_before);
        bell = opened(1);
        other = opened(1);
        assert_int_not_equal(bell.set, foreign);
        assert_int_equal(bell.set, other.set);
        take_back_everything(&bell);
        strategy->ring(&other);
        assert_true(strategy->quiet(&bell));
        strategy->remove(&place);
        assert_int_equal(litter(), 1);
        get_values(foreign, after);
        assert_memory_equal(before, after, sizeof(before));
        status_of(foreign, &status_after);
        assert_int_equal(status_before.sem_otime, status_after.sem_otime);
        assert_int_equal(semctl(foreign, 0, IPC_RMID), 0);
        noria_store_relaxed32(&page->words[0][0], 0);
        strategy->close(&bell);
        strategy->close(&other);
    }
}

static void who_comes_later_finds_the_set_at_a_later_key(void **state)
{
    /* Claim: handles opened after a foreign set went away from our first key use the set that is there, also if an
     * unfinished one has come to the first. */
    key_t key = key_of(&place, 0);
    struct noria_bell bell;
    int foreign;

    (void)state;
    foreign = plant(key, 0);
    bell = opened(1);
    assert_int_equal(semctl(foreign, 0, IPC_RMID), 0);
    assert_int_equal(set_of_place(), bell.set);
    assert_true(semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600) >= 0);
    assert_int_equal(set_of_place(), bell.set);
    strategy->close(&bell);
}

static void who_completes_a_set_gives_it_to_its_owner(void **state)
{
    /* Claim: root who completes a set gives it to the channel's owner. */
    struct semid_ds status;
    int set = semget(key_of(&place, 0), SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600);

    (void)state;
    status_of(set, &status);
    status.sem_perm.uid = 65533;
    if (!may_become(65534) || semctl(set, 0, IPC_SET, (union semun){.buf = &status}) != 0) {
        assert_int_equal(semctl(set, 0, IPC_RMID), 0);
        skip();
    }
    status.sem_perm.uid = 0; /* as its maker was killed */
    assert_int_equal(semctl(set, 0, IPC_SET, (union semun){.buf = &status}), 0);
    place.owner = 65533;
    assert_int_equal(set_of_place(), set);
    status_of(set, &status);
    assert_int_equal(status.sem_perm.uid, 65533);
}

static void all_keys_taken_is_an_error(void **state)
{
    /* Claim: with foreign sets at all derived keys, open fails with a sentence. */
    struct noria_bell bell;
    int planted[KEYS];

    (void)state;
    for (unsigned attempt = 0; attempt < KEYS; attempt++)
        planted[attempt] = plant(key_of(&place, attempt), 0);
    assert_int_equal(open_at(&bell, 1), -EEXIST);
    assert_non_null(strstr(noria_last_detail(), "ipcs -s"));
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(semctl(planted[i], 0, IPC_RMID), 0);
}

static void make_as_nobody(void)
{
    struct noria_bell bell;

    become_nobody();
    REQUIRE(open_at(&bell, 1) == 0);
}

static void another_users_set_is_not_used(void **state)
{
    /* Claim: a set of another user, not root, is not used unless the channel's mode lets others in. */
    struct noria_bell bell;

    (void)state;
    if (!may_become(65534))
        skip();
    expect_end(start_process(make_as_nobody));
    bell = opened(1);
    assert_int_equal(litter(), 2);
    strategy->close(&bell);
    strategy->remove(&place); /* both: root may, and the mark says that they are the channel's */
    assert_int_equal(litter(), 0);
    noria_store_relaxed32(&page->words[0][0], 0);
    place.mode = 0666;
    expect_end(start_process(make_as_nobody));
    bell = opened(1);
    assert_int_equal(litter(), 1);
    strategy->close(&bell);
}

static void open_without_room(void)
{
    struct noria_bell bell;
    int fd;

    if (unshare(CLONE_NEWIPC) != 0)
        _exit(2);
    fd = open("/proc/sys/kernel/sem", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "32000 1024000000 500 0", 22) != 22)
        _exit(2);
    REQUIRE(open_at(&bell, 1) == -ENOSPC);
    REQUIRE(strstr(noria_last_detail(), "/proc/sys/kernel/sem") != NULL);
    REQUIRE(strategy->wait(&bell, 0, in(MS)) == 0); /* a nap */
    strategy->ring(&bell);
}

static void no_room_names_the_limit(void **state)
{
    /* Claim: when the system allows no more sets, the sentence names the file with the limits. */
    pid_t child = start_process(open_without_room);
    int status;

    (void)state;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2)
        skip(); /* needs a name space of its own */
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIMS_OF_ALL,
        CLAIM(any_value_does_no_harm),
        CLAIM(a_removed_set_is_made_again),
        CLAIM(a_set_removed_again_and_again_burns_no_core),
        CLAIM(a_level_that_stays_burns_no_core),
        CLAIM(an_unfinished_set_is_completed),
        CLAIM(an_unfinished_set_is_removed),
        CLAIM(foreign_sets_are_untouched),
        CLAIM(who_comes_later_finds_the_set_at_a_later_key),
        CLAIM(who_completes_a_set_gives_it_to_its_owner),
        CLAIM(all_keys_taken_is_an_error),
        CLAIM(another_users_set_is_not_used),
        CLAIM(no_room_names_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
