/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: what cannot be waited with or for is refused with a code and a sentence, and nothing stays behind:
 * not after a refusal, and not after the channel. */
#include "ways_test.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "segment_channel.h"

/* Permissions that nothing else here has: by them a test finds what belongs to its channel. None to
 * execute, which a FIFO does not get. */
enum { RARE_MODE = 0604 };

static int count_files(void)
{
    DIR *directory = opendir("/dev/shm");
    struct dirent *entry;
    struct stat status;
    int count = 0;

    while (directory != NULL && (entry = readdir(directory)) != NULL)
        count += fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                 (status.st_mode & 0777) == RARE_MODE;
    closedir(directory);
    return count;
}

/* One with the rare permissions; how many there are. */
static int find_semaphore_sets(int *found)
{
    FILE *list = fopen("/proc/sysvipc/sem", "re");
    char line[256];
    unsigned mode;
    int count = 0, set;

    while (list != NULL && fgets(line, sizeof(line), list) != NULL)
        if (sscanf(line, "%*d %d %o", &set, &mode) == 2 && (mode & 0777) == RARE_MODE) {
            *found = set;
            count++;
        }
    if (list != NULL)
        fclose(list);
    return count;
}

static int count_semaphore_sets(void)
{
    int set;

    return find_semaphore_sets(&set);
}

static int count_things(void)
{
    return count_files() + count_semaphore_sets();
}

/* ----------------------------------------------------------------------------------------------- unknown */

static void an_unknown_strategy_is_refused(void **state)
{
    /* Claim: options.wait beyond the list is -EINVAL, and no channel comes to be. */
    static const uint32_t unknown[] = {8, 99, UINT32_MAX};
    noria_channel *channel;

    (void)state;
    ch.options.mode = RARE_MODE;
    for (int i = 0; i < 3; i++) {
        ch.options.wait = unknown[i];
        assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);
        assert_non_null(strstr(noria_detail(), "wait"));
        assert_int_equal(count_things(), 0);
        assert_int_equal(access(ch.path, F_OK), -1);
    }
}

/* As a library would have made it that knows more. */
static void set_strategy_in_file(uint32_t wait)
{
    int fd = open(ch.path, O_RDWR | O_CLOEXEC);
    off_t at = NORIA_SEGMENT_CONTENT + offsetof(struct noria_geometry, wait);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &wait, sizeof(wait), at), sizeof(wait));
    close(fd);
}

static void a_strategy_this_build_lacks_is_refused(void **state)
{
    /* Claim: a channel whose participants wait in a way that this library does not know is -ENOTSUP, with
     * or without CREATE, and stays as it is; known again, it is the channel it was. */
    noria_channel *channel;
    uint8_t byte = 0;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_send(ch.tx, "x", 1, 0), 0);
    set_strategy_in_file(99);
    assert_fails(noria_open(&channel, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "99"));
    assert_fails(noria_open(&channel, ch.address, NORIA_RECV, NULL), ENOTSUP);
    set_strategy_in_file(wait_of_test());
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(noria_recv(ch.rx, &byte, 1, 0, NULL), 1);
    assert_int_equal(byte, 'x');
}

static void another_strategy_than_the_channels_is_survived(void **state)
{
    /* Claim: a file that says it waits by another known strategy, for which it has other room or none, is
     * refused or works; no crash, nothing left open. */
    (void)state;
    ch.options.recheck_ns = 5 * MS;
    for (uint32_t wait = 0; wait < STRATEGIES; wait++) {
        noria_channel *channel = NULL;
        int rc;
        ch.tx = open_handle(NORIA_SEND);
        set_strategy_in_file(wait);
        rc = noria_open(&channel, ch.address, NORIA_RECV, &ch.options);
        assert_true(rc == 0 || rc == -EBADMSG || rc == -ENOTSUP || rc == -EPERM);
        if (rc == 0) {
            assert_int_equal(noria_send(ch.tx, "y", 1, 0), 0);
            assert_int_equal(noria_recv(channel, &(uint8_t){0}, 1, PATIENCE, NULL), 1);
            close_handle(&channel);
            assert_int_equal(noria_unlink(ch.address), 0); /* what that one made */
        }
        close_handle(&ch.tx);
        if (rc == 0)
            continue;
        set_strategy_in_file(wait_of_test());
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

/* ----------------------------------------------------------------------------------- no descriptors left */

/* The lowest number that is free: no more than that many descriptors and `more` may be open. */
static void leave_descriptors(int more)
{
    int lowest = dup(0);
    struct rlimit limit;

    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)(lowest + more);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void restore_descriptors(const struct rlimit *limit)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, limit), 0);
}

/* With ever more descriptors until it works; how many it took. */
static int open_at_the_limit(noria_channel **channel, int flags)
{
    struct rlimit limit;
    int more = 0, rc = -1;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (; more < 32; more++) {
        char detail[256];
        int error;
        leave_descriptors(more);
        rc = noria_open(channel, ch.address, flags, &ch.options);
        error = rc;
        snprintf(detail, sizeof(detail), "%s", noria_detail());
        restore_descriptors(&limit);
        if (error != 0 && error != -EMFILE)
            fail_msg("%s: with %d descriptors to be had: %d, %s", name_of_test(), more, error, detail);
        if (error != 0)
            assert_true(strlen(detail) > 10);
        if (error != 0 && (flags & NORIA_CREATE) != 0) {
            noria_unlink(ch.address); /* the channel, whole, may be there: its creator could not join */
            assert_int_equal(count_things(), 0);
        }
        if (rc == 0)
            break;
    }
    assert_int_equal(rc, 0);
    return more;
}

static void the_limit_of_descriptors_is_told(void **state)
{
    /* Claim: with fewer descriptors to be had than a handle needs, creating and attaching is -EMFILE with a
     * sentence; no descriptor and no further name stays; with enough the channel works. */
    int descriptors, took;

    (void)state;
    ch.options.mode = RARE_MODE;
    descriptors = count_descriptors();
    took = open_at_the_limit(&ch.tx, NORIA_SEND | NORIA_CREATE);
    close_handle(&ch.tx);
    assert_int_equal(count_descriptors(), descriptors);
    ch.tx = open_handle(NORIA_SEND);
    print_message("%s: creating took %d, ", name_of_test(), took);
    took = open_at_the_limit(&ch.rx, NORIA_RECV);
    print_message("attaching %d descriptors\n", took);
    assert_int_equal(noria_send(ch.tx, "z", 1, 0), 0);
    assert_int_equal(noria_recv(ch.rx, &(uint8_t){0}, 1, PATIENCE, NULL), 1);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(count_things(), 0);
    assert_int_equal(count_descriptors(), descriptors);
}

static void a_descriptor_to_poll_is_refused_at_the_limit(void **state)
{
    /* Claim: noria_fd without a descriptor to be had is -EMFILE, or the one that the strategy has anyway;
     * later it works. */
    struct rlimit limit;
    int fd;

    (void)state;
    open_pair();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    leave_descriptors(0);
    fd = noria_fd(ch.rx, NORIA_RECV);
    restore_descriptors(&limit);
    assert_true(fd == -EMFILE || fd >= 0);
    if (fd < 0)
        assert_true(strlen(noria_detail()) > 10);
    assert_true(noria_fd(ch.rx, NORIA_RECV) >= 0);
}

/* ---------------------------------------------------------------------------------------- bad timeouts */

static void negative_timeouts_are_refused(void **state)
{
    /* Claim: a timeout below -1 is -EINVAL in each call, also where it need not wait. */
    static const int64_t timeouts[] = {-2, -SECOND, INT64_MIN};
    struct noria_ready place;
    struct noria_span span;
    uint8_t bytes[64] = {0};
    struct iovec vector = {bytes, 1};

    (void)state;
    open_pair();
    place = (struct noria_ready){ch.rx, NORIA_RECV, 0, 0};
    for (int i = 0; i < 3; i++) {
        assert_fails(noria_send(ch.tx, bytes, 1, timeouts[i]), EINVAL);
        assert_fails(noria_send_many(ch.tx, &vector, 1, timeouts[i]), EINVAL);
        assert_fails(noria_reserve(ch.tx, 1, &span, timeouts[i]), EINVAL);
        assert_int_equal(noria_send(ch.tx, bytes, 1, 0), 0);
        assert_fails(noria_recv(ch.rx, bytes, 64, timeouts[i], NULL), EINVAL);
        assert_fails(noria_recv_many(ch.rx, &vector, 1, timeouts[i], NULL), EINVAL);
        assert_fails(noria_peek(ch.rx, &span, timeouts[i], NULL), EINVAL);
        assert_fails(noria_wait_any(&place, 1, timeouts[i]), EINVAL);
        assert_int_equal(noria_recv(ch.rx, bytes, 64, 0, NULL), 1);
    }
}

/* ------------------------------------------------------------------------------------- what stays behind */

static void receive_for_ever(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t byte;

    say();
    while (noria_recv(mine, &byte, 1, -1, NULL) == 1)
        say();
}

static void pass_one(void)
{
    assert_int_equal(noria_send(ch.tx, "a", 1, PATIENCE), 0);
    await_peer();
}

static void names_go_with_the_channel(void **state)
{
    /* Claim: whatever a strategy keeps outside of the segment goes with noria_unlink, after closing, after
     * killing, and with the last to close if it comes before; with UNLINK_LAST without it. */
    pid_t peer;

    (void)state;
    ch.options.mode = RARE_MODE;
    for (int how = 0; how < 4; how++) { /* closed, killed, unlinked first, unlinked by the last */
        ch.options.lifetime = how == 3 ? NORIA_UNLINK_LAST : NORIA_PERSIST;
        assert_int_equal(count_things(), 0);
        ch.tx = open_handle(NORIA_SEND);
        peer = start_peer(receive_for_ever);
        await_peer();
        await_blocked(peer);
        assert_true(noria_fd(ch.tx, NORIA_SEND) >= 0);
        pass_one();
        if (how == 2)
            assert_int_equal(noria_unlink(ch.address), 0);
        if (how == 2)
            pass_one(); /* those who have it go on */
        if (how != 0)
            kill_peer(peer);
        close_handle(&ch.tx);
        if (how == 0)
            expect_end(peer); /* by the end of the stream */
        if (how < 2)
            assert_int_equal(noria_unlink(ch.address), 0);
        assert_int_equal(count_files(), 0);
        assert_int_equal(count_semaphore_sets(), 0);
    }
}

static void copy_file(const char *from, const char *to)
{
    uint8_t bytes[4096];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t got;

    assert_true(in >= 0 && out >= 0);
    while ((got = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)got), got);
    close(in);
    close(out);
}

static void a_copy_of_the_file_is_another_channel(void **state)
{
    /* Claim: who copies a channel's file, to look at it later, and unlinks the copy takes nothing of the
     * channel away: what its participants wait with is there, and wakes those who come later, too. */
    char copy[80], path[96];
    pid_t peer;
    int things;

    (void)state;
    ch.options.mode = RARE_MODE;
    ch.options.recheck_ns = HOUR;
    snprintf(copy, sizeof(copy), "%s-copy", ch.address);
    snprintf(path, sizeof(path), "%s-copy", ch.path);
    ch.tx = open_handle(NORIA_SEND);
    assert_true(noria_fd(ch.tx, NORIA_SEND) >= 0);
    things = count_things();
    unlink(path); /* of a test that failed */
    copy_file(ch.path, path);
    assert_int_equal(noria_unlink(copy), 0);
    assert_int_equal(count_things(), things);
    peer = start_peer(receive_for_ever);
    await_peer();
    await_blocked(peer);
    pass_one();
    close_handle(&ch.tx);
    expect_end(peer);
}

/* Removes /dev/shm/WHATnoria-ID-SIDE. Whether it was there. */
static bool take_away(const char *what, const uint64_t id[2], char side)
{
    char name[128];

    snprintf(name, sizeof(name), "/dev/shm/%snoria-%016llx%016llx-%c", what, (unsigned long long)id[0],
             (unsigned long long)id[1], side);
    return unlink(name) == 0;
}

static void ask_for_a_descriptor(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    PEER_REQUIRES(noria_fd(mine, NORIA_RECV) >= 0);
    say();
    await_end();
}

static void what_stays_after_a_kill_is_as_told(void **state)
{
    /* Claim: if the last user of a channel that was unlinked while in use is killed, what stays is what
     * noria(7) names, under these names, and nothing else: the FIFO of each side that had one, two
     * semaphores, one set. */
    uint32_t wait = wait_of_test();
    uint64_t id[2];
    pid_t last;
    int set = -1;

    (void)state;
    ch.options.mode = RARE_MODE;
    ch.tx = open_handle(NORIA_SEND);
    memcpy(id, noria_segment_channel_of(ch.tx)->place.id, sizeof(id));
    last = start_peer(ask_for_a_descriptor);
    await_peer();
    close_handle(&ch.tx);
    assert_int_equal(noria_unlink(ch.address), 0);
    kill_peer(last);
    assert_int_equal(take_away("", id, 'r'), wait != NORIA_WAIT_EVENTFD);
    assert_int_equal(take_away("", id, 's'), wait == NORIA_WAIT_FIFO);
    assert_int_equal(take_away("sem.", id, 'r'), wait == NORIA_WAIT_SEMAPHORE);
    assert_int_equal(take_away("sem.", id, 's'), wait == NORIA_WAIT_SEMAPHORE);
    assert_int_equal(find_semaphore_sets(&set), wait == NORIA_WAIT_SYSV_SEMAPHORE);
    if (set >= 0)
        assert_int_equal(semctl(set, 0, IPC_RMID), 0);
    assert_int_equal(count_things(), 0);
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(an_unknown_strategy_is_refused, ONCE_PER_PROGRAM),
        CLAIM(a_strategy_this_build_lacks_is_refused, ALL_WAYS),
        CLAIM(another_strategy_than_the_channels_is_survived, ALL_WAYS),
        CLAIM(the_limit_of_descriptors_is_told, ALL_WAYS),
        CLAIM(a_descriptor_to_poll_is_refused_at_the_limit, ALL_WAYS),
        CLAIM(negative_timeouts_are_refused, ALL_WAYS),
        CLAIM(names_go_with_the_channel, ALL_WAYS),
        CLAIM(a_copy_of_the_file_is_another_channel, ALL_WAYS),
        CLAIM(what_stays_after_a_kill_is_as_told, ALL_WAYS),
    };

    /* What two strategies for one channel leave of System V goes with a space of our own, where that is to be had. */
    if (unshare(CLONE_NEWIPC) != 0 && errno != EPERM)
        return 1;
    return run_ways("waiting refusal", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
