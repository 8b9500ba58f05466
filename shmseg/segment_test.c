/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a segment is made once, by one creator who may die or stop anywhere, and found whole or not at all
 * by everybody else; whatever another program put at the name is refused and left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "liveness.h"
#include "meminfo_test.h"
#include "other_user_test.h"
#include "segment.h"

/* Asked by a leak checker at exit: it cannot work in a child, which may have no descriptors or a stopped
 * thread. */
static int is_child;
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return is_child;
}

#define MS NORIA_NS_PER_MS
#define SIZE UINT64_C(20480)
#define CONTENT_BYTE 0x5a

static char name[64], path[80], second_path[96], name_of_daemon[80], path_of_daemon[96];
static int descriptors_before;

static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static int setup(void **state)
{
    (void)state;
    snprintf(name, sizeof(name), "/noria-segment-test-%d", (int)getpid());
    snprintf(path, sizeof(path), "/dev/shm%s", name);
    snprintf(second_path, sizeof(second_path), "%s-second", path);
    snprintf(name_of_daemon, sizeof(name_of_daemon), "%s-of-daemon", name);
    snprintf(path_of_daemon, sizeof(path_of_daemon), "%s-of-daemon", path);
    unlink(path);
    descriptors_before = count_descriptors();
    noria_fail(0, "%s", "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    rmdir(path);
    unlink(second_path);
    assert_int_equal(count_descriptors(), descriptors_before); /* no call keeps a descriptor it should not */
    return 0;
}

static int fill(void *content, size_t size, void *context)
{
    int *calls = context;

    memset(content, CONTENT_BYTE, size);
    if (calls != NULL)
        ++*calls;
    return 0;
}

static struct noria_segment_request request_for(bool create)
{
    return (struct noria_segment_request){.backend = &noria_segment_posix,
                                          .name = name,
                                          .create = create,
                                          .mode = 0600,
                                          .size = SIZE,
                                          .open_timeout_ns = 50 * MS,
                                          .format = fill};
}

static struct noria_segment_request memfd_request(const char *descriptor, bool create)
{
    struct noria_segment_request request = request_for(create);

    request.backend = &noria_segment_memfd;
    request.name = descriptor;
    return request;
}

static int open_named(struct noria_segment *segment, bool create)
{
    const struct noria_segment_request request = request_for(create);

    return noria_segment_open(segment, &request);
}

/* Opens, expecting a refusal: with a sentence, without a mapping or a descriptor. */
static void expect_refusal(bool create, int expected)
{
    struct noria_segment segment;

    noria_fail(0, "%s", "");
    assert_int_equal(open_named(&segment, create), expected);
    assert_true(strlen(noria_last_detail()) > 10);
    assert_null(segment.base);
}

static void expect_created(struct noria_segment *segment)
{
    assert_int_equal(open_named(segment, true), 0);
    assert_true(segment->created);
    assert_int_equal(segment->size, SIZE);
    assert_int_equal(segment->super.version, NORIA_SEGMENT_VERSION);
    for (size_t i = 0; i < SIZE - NORIA_SEGMENT_CONTENT; i++)
        assert_int_equal(((uint8_t *)noria_segment_content(segment))[i], CONTENT_BYTE);
}

static void plant(const void *bytes, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    if (size != 0)
        assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

/* The file at the name, to see that nobody has changed it. */
static uint64_t hash_of_file(void)
{
    uint8_t bytes[4096];
    uint64_t hash = 14695981039346656037u;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    ssize_t got;

    assert_true(fd >= 0);
    while ((got = read(fd, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < got; i++)
            hash = (hash ^ bytes[i]) * 1099511628211u;
    close(fd);
    return hash;
}

/* -------------------------------------------------------------------------------------- create and attach */

static void first_creates_second_attaches(void **state)
{
    /* Claim: with `create` the first one formats, once, and whoever comes later finds that very segment. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment first, second, third;
    int calls = 0;

    (void)state;
    request.context = &calls;
    assert_int_equal(noria_segment_open(&first, &request), 0);
    assert_int_equal(noria_segment_open(&second, &request), 0);
    assert_int_equal(open_named(&third, false), 0);
    assert_int_equal(calls, 1);
    assert_true(first.created && !second.created && !third.created);
    assert_memory_equal(&first.super, &second.super, sizeof(first.super));
    assert_true(third.inode == first.inode && third.size == SIZE);
    ((uint8_t *)noria_segment_content(&first))[7] = 1;
    assert_int_equal(((uint8_t *)noria_segment_content(&third))[7], 1);
    assert_true((fcntl(first.fd, F_GETFD) & FD_CLOEXEC) != 0);
    noria_segment_close(&first);
    noria_segment_close(&second);
    noria_segment_close(&third);
}

static void exclusive_creation_wants_a_free_name(void **state)
{
    /* Claim: with `exclusive` an existing segment is -EEXIST and stays as it is. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment, second;
    uint64_t before;

    (void)state;
    request.exclusive = true;
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    before = hash_of_file();
    assert_int_equal(noria_segment_open(&second, &request), -EEXIST);
    assert_true(strlen(noria_last_detail()) > 10);
    assert_true(hash_of_file() == before);
    noria_segment_close(&segment);
}

static void missing_name_is_told_at_once(void **state)
{
    /* Claim: without `create` a missing name is -ENOENT, at once and without making it. */
    struct noria_segment_request request = request_for(false);
    struct noria_segment segment;
    int64_t start = noria_now_ns();

    (void)state;
    request.open_timeout_ns = 3600 * NORIA_NS_PER_S;
    assert_int_equal(noria_segment_open(&segment, &request), -ENOENT);
    assert_true(strlen(noria_last_detail()) > 10);
    assert_true(noria_now_ns() - start < 60 * NORIA_NS_PER_S); /* not that timeout; the machine may be busy */
    assert_int_equal(access(path, F_OK), -1);
}

static void waiting_for_a_name_ends(void **state)
{
    /* Claim: wait_create_ns waits that long for the name, then it is -ENOENT. */
    struct noria_segment_request request = request_for(false);
    struct noria_segment segment;
    int64_t start = noria_now_ns();

    (void)state;
    request.wait_create_ns = 60 * MS;
    assert_int_equal(noria_segment_open(&segment, &request), -ENOENT);
    assert_true(noria_now_ns() - start >= 60 * MS);
}

static void *create_later(void *out)
{
    open_named(out, true);
    return NULL;
}

static void waiting_for_a_name_finds_it(void **state)
{
    /* Claim: a waiter attaches to the segment that appears while it waits. */
    struct noria_segment_request request = request_for(false);
    struct noria_segment segment, made;
    pthread_t creator;

    (void)state;
    request.wait_create_ns = 20 * NORIA_NS_PER_S;
    assert_int_equal(pthread_create(&creator, NULL, create_later, &made), 0);
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    assert_int_equal(pthread_join(creator, NULL), 0);
    assert_true(segment.inode == made.inode);
    noria_segment_close(&segment);
    noria_segment_close(&made);
}

static void removed_segments_live_on(void **state)
{
    /* Claim: unlink takes the name; who has the segment goes on and can tell; the next creator makes another
     * one. */
    struct noria_segment old, fresh;

    (void)state;
    expect_created(&old);
    assert_false(noria_segment_is_orphaned(&old));
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    assert_true(noria_segment_is_orphaned(&old));
    ((uint8_t *)noria_segment_content(&old))[0] = 3;
    expect_created(&fresh);
    assert_true(fresh.inode != old.inode);
    noria_segment_close(&old);
    noria_segment_close(&fresh);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), -ENOENT);
    assert_true(strlen(noria_last_detail()) > 10);
}

static void names_are_checked(void **state)
{
    /* Claim: a name has one slash, at its start, and something behind it; anything else is refused with a
     * sentence. */
    static const char *const wrong[] = {"", "/", "name", "//", "/a/b", "/../x", "/.", "/..", "x/y"};
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;
    char long_name[300];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        request.name = wrong[i];
        noria_fail(0, "%s", "");
        assert_int_equal(noria_segment_open(&segment, &request), -EINVAL);
        assert_true(strlen(noria_last_detail()) > 10);
    }
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[0] = '/';
    long_name[sizeof(long_name) - 1] = '\0';
    request.name = long_name;
    assert_int_equal(noria_segment_open(&segment, &request), -ENAMETOOLONG);
}

static void mode_is_what_was_asked_for(void **state)
{
    /* Claim: the permissions are the request's, whatever the umask takes away or leaves. */
    static const mode_t modes[] = {0600, 0660, 0666, 0640};
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;
    struct stat status;

    (void)state;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        for (int with_umask = 0; with_umask < 2; with_umask++) {
            mode_t old = umask(with_umask ? 0077 : 0);
            int rc;
            request.mode = modes[i];
            rc = noria_segment_open(&segment, &request);
            umask(old);
            assert_int_equal(rc, 0);
            assert_int_equal(stat(path, &status), 0);
            assert_int_equal(status.st_mode & 07777, modes[i]);
            noria_segment_close(&segment);
            assert_int_equal(unlink(path), 0);
        }
}

/* ---------------------------------------------------------------------------- what others put at the name */

static void planted_links_are_refused(void **state)
{
    /* Claim: a symbolic link at the name, dangling or not, is refused, and nothing is written through it. */
    struct stat status;

    (void)state;
    assert_int_equal(symlink(second_path, path), 0);
    expect_refusal(true, -ELOOP);
    expect_refusal(false, -ELOOP);
    assert_int_equal(access(second_path, F_OK), -1);
    close(open(second_path, O_RDWR | O_CREAT, 0600));
    expect_refusal(true, -ELOOP);
    assert_int_equal(stat(second_path, &status), 0);
    assert_int_equal(status.st_size, 0);
    assert_true(noria_segment_unlink(&noria_segment_posix, name) < 0);
    assert_int_equal(lstat(path, &status), 0); /* not ours, so not removed */
}

static void planted_hard_links_are_refused(void **state)
{
    /* Claim: a file with a second name is refused, a segment as well as an empty file that could be taken
     * over. */
    struct noria_segment segment;

    (void)state;
    plant("", 0);
    assert_int_equal(link(path, second_path), 0);
    expect_refusal(true, -EACCES);
    unlink(path);
    unlink(second_path);
    expect_created(&segment);
    noria_segment_close(&segment);
    assert_int_equal(link(path, second_path), 0);
    expect_refusal(true, -EACCES);
    expect_refusal(false, -EACCES);
}

static void other_kinds_of_files_are_refused(void **state)
{
    /* Claim: a FIFO, a directory, a socket at the name are refused without waiting for anybody, and stay. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat status;

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(true, -EINVAL);
    expect_refusal(false, -EINVAL);
    assert_true(noria_segment_unlink(&noria_segment_posix, name) < 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refusal(true, -EINVAL);
    assert_true(noria_segment_unlink(&noria_segment_posix, name) < 0);
    assert_int_equal(rmdir(path), 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(server, (const struct sockaddr *)&address, sizeof(address)), 0);
    expect_refusal(true, -ENXIO);
    assert_true(noria_segment_unlink(&noria_segment_posix, name) < 0);
    assert_int_equal(lstat(path, &status), 0);
    close(server);
}

static void expect_untouched(int expected)
{
    uint64_t before = hash_of_file();
    struct stat old, now;

    assert_int_equal(stat(path, &old), 0);
    expect_refusal(true, expected);
    expect_refusal(false, expected);
    assert_true(hash_of_file() == before);
    assert_int_equal(stat(path, &now), 0);
    assert_true(now.st_ino == old.st_ino && now.st_size == old.st_size);
}

static void foreign_files_are_left_alone(void **state)
{
    /* Claim: a file that is no segment (text, zeros, a few bytes) is refused and not changed by a byte. */
    static const uint8_t zeros[8192];

    (void)state;
    plant("somebody's notes, not a segment", 31);
    expect_untouched(-EINVAL);
    plant(zeros, sizeof(zeros));
    expect_untouched(-EINVAL);
    plant(zeros, NORIA_SEGMENT_CONTENT);
    expect_untouched(-EINVAL);
    plant(zeros, 1);
    expect_untouched(-EINVAL);
    plant("0iraSEG", 7); /* not even the whole mark of an unfinished one */
    expect_untouched(-EINVAL);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), -EINVAL);
    assert_int_equal(access(path, F_OK), 0);
}

static void empty_file_is_taken_over(void **state)
{
    /* Claim: an empty file of our own is what a creator leaves that died at once: the next creator finishes
     * it, with the permissions asked for; who may not create does not wait for long. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;
    struct stat status;
    int64_t start = noria_now_ns();
    int rc;

    (void)state;
    plant("", 0);
    rc = open_named(&segment, false);
    assert_true(rc == -ENOENT || rc == -ETIMEDOUT);
    assert_true(noria_now_ns() - start < 60 * NORIA_NS_PER_S);
    request.mode = 0640;
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    assert_true(segment.created);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    noria_segment_close(&segment);
}

/* -------------------------------------------------------------------------------- versions and truncation */

static void patch(size_t offset, const void *bytes, size_t size)
{
    int fd = open(path, O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void make_segment(void)
{
    struct noria_segment segment;

    unlink(path);
    expect_created(&segment);
    noria_segment_close(&segment);
}

static void other_versions_are_refused(void **state)
{
    /* Claim: another layout version, or a feature bit this library does not know, is -EPROTO, whatever stands
     * behind. */
    static const uint32_t versions[] = {0, NORIA_SEGMENT_VERSION - 1, NORIA_SEGMENT_VERSION + 1, 0x01000000, UINT32_MAX};
    static const uint32_t features[] = {2, UINT32_C(1) << 31};
    const uint64_t magic = NORIA_SEGMENT_MAGIC;

    (void)state;
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        make_segment();
        patch(offsetof(struct noria_superblock, version), &versions[i], 4);
        expect_untouched(-EPROTO);
    }
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        make_segment();
        patch(offsetof(struct noria_superblock, features), &features[i], 4);
        expect_untouched(-EPROTO);
    }
    for (size_t size = 8; size < 16; size++) { /* the magic and not all of the version */
        uint8_t bytes[16] = {0};
        memcpy(bytes, &magic, sizeof(magic));
        plant(bytes, size);
        expect_untouched(-EPROTO);
    }
}

static void truncated_files_are_refused(void **state)
{
    /* Claim: a file shorter than its segment, at whatever length, is an error code and no signal. */
    static const off_t sizes[] = {16, 17, 255, 256, 4095, 4096, SIZE - 1};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make_segment();
        assert_int_equal(truncate(path, sizes[i]), 0);
        expect_untouched(-EBADMSG);
    }
    make_segment();
    assert_int_equal(truncate(path, SIZE + 4096), 0); /* longer does no harm */
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
}

static void punch(off_t offset, off_t size)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size), 0);
    close(fd);
}

static off_t place_of_file(void)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return status.st_blocks * 512;
}

static void holes_are_filled(void **state)
{
    /* Claim: a file of the right length that lacks pages, which might not be had when they are touched, as a sparse copy
     * does, gets them from who attaches; to look at it changes nothing. One that grew gets what it is to have for good,
     * unless somebody is there. */
    struct noria_segment segment, view;
    const uint64_t solid = 12288;
    bool unfinished;

    (void)state;
    make_segment();
    punch(8192, 4096);
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    assert_int_equal(((uint8_t *)view.base)[4096], CONTENT_BYTE);
    assert_int_equal(((uint8_t *)view.base)[8192], 0);
    noria_segment_close(&view);
    assert_int_equal(place_of_file(), SIZE - 4096);
    assert_int_equal(open_named(&segment, false), 0);
    assert_int_equal(((uint8_t *)segment.base)[8192], 0);
    assert_int_equal(place_of_file(), SIZE);
    patch(offsetof(struct noria_superblock, solid), &solid, 8);
    noria_segment_close(&segment);
    punch(8192, 4096); /* and yet there is more than is to be solid */
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    noria_segment_close(&view);
    assert_int_equal(place_of_file(), SIZE - 4096);
    assert_int_equal(open_named(&segment, false), 0);
    assert_int_equal(place_of_file(), SIZE);
    noria_segment_close(&segment);
}

static void memfds_with_holes_are_refused(void **state)
{
    /* Claim: nobody copies into a memfd by leaving holes out, and nothing bounds what would fill them. */
    struct noria_segment_request request = memfd_request("", true);
    struct noria_segment segment, second;
    char number[16];

    (void)state;
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    assert_int_equal(fallocate(segment.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096), 0);
    snprintf(number, sizeof(number), "%d", segment.fd);
    request = memfd_request(number, false);
    assert_int_equal(noria_segment_open(&second, &request), -EBADMSG);
    assert_true(strstr(noria_last_detail(), "holes") != NULL);
    noria_segment_close(&segment);
}

static void impossible_sizes_are_refused(void **state)
{
    /* Claim: whatever size the superblock claims, the mapping stays within the file. */
    static const uint64_t sizes[] = {0,
                                     1,
                                     255,
                                     SIZE + 1,
                                     SIZE * 2,
                                     UINT64_C(1) << 31,
                                     UINT64_C(1) << 32,
                                     NORIA_SEGMENT_MAX_SIZE,
                                     NORIA_SEGMENT_MAX_SIZE + 1,
                                     UINT64_C(1) << 63,
                                     UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make_segment();
        patch(offsetof(struct noria_superblock, size), &sizes[i], 8);
        expect_untouched(-EBADMSG);
    }
}

static void unmappable_sizes_are_refused(void **state)
{
    /* Claim: a sparse file as large as its superblock says, whose holes could not be filled, is an error
     * code. */
    const uint64_t huge = NORIA_SEGMENT_MAX_SIZE;

    (void)state;
    make_segment();
    patch(offsetof(struct noria_superblock, size), &huge, 8);
    if (truncate(path, (off_t)huge) != 0) {
        print_message("skipped: the file system has no files of %llu bytes\n", (unsigned long long)huge);
        skip();
    }
    for (int i = 0; i < 8; i++) { /* one may fit into the address space: eight do not */
        struct noria_segment segments[8];
        int opened = 0, rc = 0;
        while (opened < 8 && (rc = open_named(&segments[opened], false)) == 0)
            opened++;
        assert_int_equal(rc, -ENOMEM);
        while (opened > 0)
            noria_segment_close(&segments[--opened]);
    }
}

/* ------------------------------------------------------------------------------ creators that die or stop */

enum { POINTS = 3 }; /* before the segment is whole; at point POINTS it only lacks its seal */
static int death_point;
static int death_signal;

static void fall(void)
{
    kill(getpid(), death_signal);
}

/* A backend that dies at a point of a creation: 0 before the name is there, 1 right after, 2 when the space
 * is. */
static int obtain_and_fall(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    int rc;

    if (death_point == 0)
        fall();
    rc = noria_segment_posix.obtain(segment, request, made);
    if (death_point == 1)
        fall();
    return rc;
}

static int seal_and_fall(struct noria_segment *segment)
{
    if (death_point == POINTS)
        fall();
    return noria_segment_posix.seal(segment);
}

static int format_and_fall(void *content, size_t size, void *context)
{
    memset(content, 0x77, size / 2); /* half done */
    if (death_point == 2)
        fall();
    return fill(content, size, context);
}

static void create_and_fall(void)
{
    struct noria_segment_backend falling = noria_segment_posix;
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;

    falling.obtain = obtain_and_fall;
    falling.seal = seal_and_fall;
    request.backend = &falling;
    request.format = format_and_fall;
    request.open_timeout_ns = 60 * NORIA_NS_PER_S; /* it goes on while it is stopped */
    _exit(noria_segment_open(&segment, &request) == 0 ? 0 : 1);
}

static pid_t start_creator(int point, int with_signal)
{
    pid_t pid;
    int status;

    death_point = point;
    death_signal = with_signal;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        create_and_fall();
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(with_signal == SIGSTOP ? WIFSTOPPED(status) : WIFSIGNALED(status));
    return pid;
}

static void creator_killed_before_sealing_is_not_missed(void **state)
{
    /* Claim: a creator that is killed between the magic and the seal leaves a whole segment, to which others
     * attach. */
    struct noria_segment segment;

    (void)state;
    start_creator(POINTS, SIGKILL);
    assert_int_equal(open_named(&segment, false), 0);
    assert_false(segment.created);
    noria_segment_close(&segment);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
}

static void killed_creator_is_replaced(void **state)
{
    /* Claim: wherever a creator is killed, nobody finds half a segment, and the next creator makes a whole
     * one. */
    (void)state;
    for (int point = 0; point < POINTS; point++) {
        struct noria_segment segment;
        int rc;

        start_creator(point, SIGKILL);
        rc = open_named(&segment, false);
        assert_true(rc == -ENOENT || rc == -ETIMEDOUT);
        expect_created(&segment);
        noria_segment_close(&segment);
        assert_int_equal(open_named(&segment, false), 0);
        noria_segment_close(&segment);
        assert_int_equal(unlink(path), 0);
    }
}

static void killed_creators_leftover_may_grow(void **state)
{
    /* Claim: the successor of a dead creator may want another size, and gets a segment of exactly
     * that one. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;
    struct stat status;

    (void)state;
    for (uint64_t size = 4096; size <= 65536; size *= 4) {
        start_creator(2, SIGKILL);
        request.size = size;
        assert_int_equal(noria_segment_open(&segment, &request), 0);
        assert_int_equal(segment.size, size);
        assert_int_equal(fstat(segment.fd, &status), 0);
        assert_int_equal(status.st_size, size);
        noria_segment_close(&segment);
        assert_int_equal(unlink(path), 0);
    }
}

static void stopped_creator_bounds_the_wait(void **state)
{
    /* Claim: while a creator is stopped with its work half done, others get -ETIMEDOUT after open_timeout_ns;
     * when it goes on, the segment is there; the name can be removed under it. */
    (void)state;
    for (int point = 2; point < POINTS; point++) {
        pid_t creator = start_creator(point, SIGSTOP);
        struct noria_segment segment;
        int64_t start = noria_now_ns();
        int status;

        expect_refusal(true, -ETIMEDOUT);
        expect_refusal(false, -ETIMEDOUT);
        assert_true(noria_now_ns() - start >= 2 * 50 * MS);
        kill(creator, SIGCONT);
        assert_int_equal(waitpid(creator, &status, 0), creator);
        assert_int_equal(status, 0);
        assert_int_equal(open_named(&segment, false), 0);
        noria_segment_close(&segment);
        assert_int_equal(unlink(path), 0);
    }
}

static void name_of_a_stopped_creator_can_be_removed(void **state)
{
    /* Claim: removing the name of an unfinished segment frees it for a new one; the old creator ends up on
     * its own. */
    pid_t creator = start_creator(3, SIGSTOP);
    struct noria_segment segment;
    int status;

    (void)state;
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    expect_created(&segment);
    kill(creator, SIGCONT);
    assert_int_equal(waitpid(creator, &status, 0), creator);
    assert_false(noria_segment_is_orphaned(&segment));
    noria_segment_close(&segment);
}

static void creator_that_stops_before_the_lock_is_overtaken(void **state)
{
    /* Claim: a creator stopped between making the name and taking the lock does not hold anybody up, and
     * attaches to what the other one made. */
    pid_t creator = start_creator(1, SIGSTOP);
    struct noria_segment segment;
    int status;

    (void)state;
    expect_created(&segment);
    kill(creator, SIGCONT);
    assert_int_equal(waitpid(creator, &status, 0), creator);
    assert_int_equal(status, 0);
    assert_false(noria_segment_is_orphaned(&segment));
    noria_segment_close(&segment);
}

static int refuse(void *content, size_t size, void *context)
{
    (void)content;
    (void)size;
    (void)context;
    return noria_fail(-EINVAL, "the content is not wanted");
}

static void failed_creation_leaves_nothing(void **state)
{
    /* Claim: a creation that fails leaves no name behind, and the failure's sentence is the one that
     * is told. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;

    (void)state;
    request.format = refuse;
    assert_int_equal(noria_segment_open(&segment, &request), -EINVAL);
    assert_string_equal(noria_last_detail(), "the content is not wanted");
    assert_int_equal(access(path, F_OK), -1);
}

/* ------------------------------------------------------------------------------------------ many creators */

enum { CREATORS = 6, ROUNDS = 30 };

static int run_creator(void)
{
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;
    int rc;

    request.open_timeout_ns = 20000 * MS; /* the machine may be busy, and only one of them creates */
    rc = noria_segment_open(&segment, &request);
    if (rc != 0) {
        fprintf(stderr, "a creator fails: %s\n", noria_last_detail());
        return 2;
    }
    for (size_t i = 0; i < SIZE - NORIA_SEGMENT_CONTENT; i += 512)
        if (((uint8_t *)noria_segment_content(&segment))[i] != CONTENT_BYTE)
            return 3;
    return segment.created ? 1 : 0;
}

static void many_creators_make_one(void **state)
{
    /* Claim: of processes that create at once exactly one does, and all have the same whole segment. */
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[CREATORS];
        int gate[2], created = 0, status;

        assert_int_equal(pipe(gate), 0);
        fflush(NULL);
        for (int i = 0; i < CREATORS; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                char byte;
                close(gate[1]);
                (void)!read(gate[0], &byte, 1); /* ends when the test closes its side */
                _exit(run_creator());
            }
        }
        close(gate[0]);
        close(gate[1]);
        for (int i = 0; i < CREATORS; i++) {
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            created += WEXITSTATUS(status);
        }
        assert_int_equal(created, 1);
        assert_int_equal(unlink(path), 0);
    }
}

static void name_that_vanishes_is_looked_up_again(void **state)
{
    /* Claim: a creator that finds its file without a name when it has the lock starts over. */
    pid_t creator = start_creator(1, SIGSTOP);
    struct noria_segment segment;
    int status;

    (void)state;
    assert_int_equal(unlink(path), 0);
    kill(creator, SIGCONT);
    assert_int_equal(waitpid(creator, &status, WUNTRACED), creator); /* it falls again, on its second try */
    assert_true(WIFSTOPPED(status));
    kill(creator, SIGCONT);
    assert_int_equal(waitpid(creator, &status, 0), creator);
    assert_int_equal(status, 0);
    assert_int_equal(open_named(&segment, false), 0);
    noria_segment_close(&segment);
}

/* -------------------------------------------------------------------------------- full, and not permitted */

/* Runs `body` in a child of its own; it ends with 0, or 77 if the test cannot be made here. */
static void run_apart(void (*body)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        is_child = 1;
        body();
        exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: this needs root\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void require(bool condition, int line)
{
    if (!condition) {
        fprintf(stderr, "segment_test.c:%d does not hold in the child: %s\n", line, noria_last_detail());
        exit(1);
    }
}
#define REQUIRE(condition) require(condition, __LINE__)

static void have_little_shared_memory(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k") != 0)
        exit(77);
}

static void fill_the_shared_memory(void)
{
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;

    have_little_shared_memory();
    for (uint64_t size = 61440; size <= 131072; size += 4096) {
        int rc;
        request.size = size;
        rc = noria_segment_open(&segment, &request);
        REQUIRE(rc == 0 || rc == -ENOSPC);
        REQUIRE(rc == (size <= 65536 ? 0 : -ENOSPC));
        if (rc == 0) {
            noria_segment_close(&segment);
            REQUIRE(noria_segment_unlink(&noria_segment_posix, name) == 0);
        }
        REQUIRE(rc == 0 || strstr(noria_last_detail(), "free") != NULL);
        REQUIRE(access(path, F_OK) != 0); /* nothing left behind */
    }
    request.size = UINT64_C(1) << 40;
    REQUIRE(noria_segment_open(&segment, &request) == -ENOSPC);
    /* A dead creator's leftover that cannot be finished stays one that can. */
    request.size = SIZE;
    REQUIRE(noria_segment_open(&segment, &request) == 0);
    noria_segment_close(&segment);
}

static void full_shared_memory_is_an_error_code(void **state)
{
    /* Claim: without space a creation is -ENOSPC with the figures, leaves no name, and nothing ends in a
     * signal. */
    (void)state;
    run_apart(fill_the_shared_memory);
}

static int touch_all(const struct noria_segment *view)
{
    int sum = 0;

    for (size_t i = 0; i < view->size; i += 4096)
        sum += ((volatile uint8_t *)view->base)[i];
    return sum;
}

static void copy_into_full_memory(void)
{
    struct noria_segment segment, view;
    bool unfinished;
    int fd;

    have_little_shared_memory();
    REQUIRE(open_named(&segment, true) == 0);
    noria_segment_close(&segment);
    punch(8192, 8192);
    fd = open(second_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(posix_fallocate(fd, 0, 65536 - SIZE + 4096) == 0); /* a page is left, of the two */
    REQUIRE(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished) == 0);
    REQUIRE(touch_all(&view) > 0);
    noria_segment_close(&view);
    REQUIRE(open_named(&segment, true) == -ENOSPC);
    REQUIRE(strstr(noria_last_detail(), "8192 bytes") != NULL && strstr(noria_last_detail(), "remove") != NULL);
    REQUIRE(ftruncate(fd, 0) == 0 && close(fd) == 0);
    REQUIRE(open_named(&segment, true) == 0);
    REQUIRE(touch_all(&segment) > 0);
    noria_segment_close(&segment);
}

static void holes_without_place_are_an_error_code(void **state)
{
    /* Claim: where the holes of a copy cannot be filled, opening it is -ENOSPC with the figures, and neither that nor a look
     * at it ends in a signal; where there is place again, it opens. */
    (void)state;
    run_apart(copy_into_full_memory);
}

static void become_nobody(void)
{
    if (geteuid() != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        exit(77);
}

static void look_at_a_private_segment(void)
{
    struct noria_segment segment;
    bool unfinished;

    become_nobody();
    REQUIRE(open_named(&segment, false) == -EACCES);
    REQUIRE(strlen(noria_last_detail()) > 10);
    REQUIRE(open_named(&segment, true) == -EACCES);
    REQUIRE(noria_segment_inspect(&segment, &noria_segment_posix, name, &unfinished) == -EACCES);
    REQUIRE(noria_segment_unlink(&noria_segment_posix, name) == -EACCES);
}

static void others_may_not_open_a_private_segment(void **state)
{
    /* Claim: a segment of mode 0600 is -EACCES for another user, in every way, and stays. */
    struct noria_segment segment;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: this needs root\n");
        skip();
    }
    expect_created(&segment);
    run_apart(look_at_a_private_segment);
    assert_false(noria_segment_is_orphaned(&segment));
    noria_segment_close(&segment);
}

static void trust_only_oneself_and_root(void)
{
    struct noria_segment_request request = request_for(false);
    struct noria_segment segment;

    become_nobody();
    REQUIRE(open_named(&segment, true) == 0); /* root's, open to all: that is trusted */
    noria_segment_close(&segment);
    REQUIRE(setresuid(65534, 65534, 65534) == 0);
    request.name = name_of_daemon;
    REQUIRE(noria_segment_open(&segment, &request) == -EACCES);
    REQUIRE(strstr(noria_last_detail(), "belongs to user 1") != NULL);
    request.create = true;
    REQUIRE(noria_segment_open(&segment, &request) == -EACCES);
    request.foreign = true;
    REQUIRE(noria_segment_open(&segment, &request) == 0);
    noria_segment_close(&segment);
}

static void files_of_other_users_need_consent(void **state)
{
    /* Claim: a segment that another user, not root, has made is refused unless the request says `foreign`. */
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment, daemons;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: this needs root\n");
        skip();
    }
    request.mode = 0666;
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    noria_segment_close(&segment);
    request.name = name_of_daemon;
    unlink(path_of_daemon);
    assert_int_equal(noria_segment_open(&daemons, &request), 0);
    assert_int_equal(fchown(daemons.fd, 1, 1), 0);
    noria_segment_close(&daemons);
    assert_int_equal(noria_segment_open(&daemons, &request), -EACCES); /* root trusts nobody else either */
    run_apart(trust_only_oneself_and_root);
    unlink(path_of_daemon);
}

static void limit_file_sizes(void)
{
    struct noria_segment_request request = request_for(true);
    struct rlimit limit = {SIZE - 1, RLIM_INFINITY};
    struct noria_segment segment;

    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(noria_segment_open(&segment, &request) == -EFBIG);
    REQUIRE(strstr(noria_last_detail(), "ulimit -f") != NULL);
    REQUIRE(access(path, F_OK) != 0);
    request = memfd_request("", true);
    REQUIRE(noria_segment_open(&segment, &request) == -EFBIG);
    limit.rlim_cur = SIZE;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(noria_segment_open(&segment, &request) == 0);
    noria_segment_close(&segment);
}

static void limited_file_sizes_are_an_error_code(void **state)
{
    /* Claim: a segment above the limit for files is -EFBIG with the cure, instead of the signal; one at the limit is made. */
    (void)state;
    run_apart(limit_file_sizes);
}

static void more_than_all_memory_is_an_error_code(void **state)
{
    /* Claim: memory without a name that the machine does not have is -ENOMEM with the figures, before anything is taken. */
    struct noria_segment_request request = memfd_request("", true);
    struct noria_segment segment;

    (void)state;
    request.size = UINT64_C(1) << 46;
    assert_int_equal(noria_segment_open(&segment, &request), -ENOMEM);
    assert_true(strstr(noria_last_detail(), "available") != NULL);
}

static void exhaust_descriptors(void)
{
    const struct noria_segment_request request = memfd_request("", true);
    struct noria_segment segment;
    int last = -1, fd;

    while ((fd = dup(0)) >= 0)
        last = fd;
    REQUIRE(open_named(&segment, true) == -EMFILE);
    REQUIRE(strstr(noria_last_detail(), "ulimit") != NULL);
    REQUIRE(access(path, F_OK) != 0);
    REQUIRE(noria_segment_open(&segment, &request) == -EMFILE);
    for (fd = last; fd > last - 8; fd--)
        close(fd); /* the end of the process may need some */
}

static void too_many_files_is_an_error_code(void **state)
{
    /* Claim: without a free descriptor opening is -EMFILE, with what to do about it. */
    (void)state;
    run_apart(exhaust_descriptors);
}

/* --------------------------------------------------------------------------------------------- inspection */

static void inspection_changes_nothing(void **state)
{
    /* Claim: looking at a segment needs no right to write and gives none; an unfinished one is told apart. */
    struct noria_segment segment, view;
    bool unfinished = true;
    uint64_t before;

    (void)state;
    make_segment();
    assert_int_equal(chmod(path, 0400), 0);
    before = hash_of_file();
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    assert_false(unfinished);
    assert_int_equal(view.size, SIZE);
    assert_int_equal(((uint8_t *)noria_segment_content(&view))[9], CONTENT_BYTE);
    noria_segment_close(&view);
    assert_true(hash_of_file() == before);
    unlink(path);
    start_creator(2, SIGKILL);
    assert_int_equal(noria_segment_inspect(&segment, &noria_segment_posix, name, &unfinished), 0);
    assert_true(unfinished);
    assert_null(segment.base);
    noria_segment_close(&segment);
    plant("text", 4);
    assert_int_equal(noria_segment_inspect(&segment, &noria_segment_posix, name, &unfinished), -EINVAL);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(noria_segment_inspect(&segment, &noria_segment_posix, name, &unfinished), -EINVAL);
}

static int fill_a_page(void *content, size_t size, void *context)
{
    (void)context;
    memset(content, CONTENT_BYTE, size < 4096 ? size : 4096);
    return 0;
}

/* Another user's segment of 1 MiB, holes but for its first pages and, if told so, its middle. */
static void make_foreign_segment_with_holes(bool has_middle)
{
    struct noria_segment_request request = request_for(true);
    struct noria_segment segment;

    request.size = 1 << 20;
    request.solid = 8192;
    request.format = fill_a_page;
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    if (has_middle)
        ((uint8_t *)segment.base)[1 << 19] = 7;
    assert_int_equal(fchown(segment.fd, 1, 1), 0);
    noria_segment_close(&segment);
}

static void anothers_segment_is_looked_at_in_a_copy(void **state)
{
    /* Claim: what another user could cut off under us is copied, holes and all, but not filled: whatever he does
     * afterwards, the copy stays. One that has shrunk is told. */
    struct noria_segment view;
    struct stat before, after;
    bool unfinished;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: this needs root\n");
        skip();
    }
    for (int has_middle = 0; has_middle < 2; has_middle++) {
        make_foreign_segment_with_holes(has_middle != 0);
        assert_int_equal(stat(path, &before), 0);
        assert_true(before.st_blocks * 512 <= 4 * 4096);
        assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(after.st_blocks, before.st_blocks);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(view.size, 1 << 20);
        assert_int_equal(((uint8_t *)noria_segment_content(&view))[9], CONTENT_BYTE);
        assert_int_equal(((uint8_t *)view.base)[1 << 19], has_middle != 0 ? 7 : 0);
        assert_int_equal(((uint8_t *)view.base)[(1 << 20) - 1], 0);
        noria_segment_close(&view);
        unlink(path);
    }
    make_foreign_segment_with_holes(true);
    assert_int_equal(truncate(path, 1 << 18), 0);
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), -EBADMSG);
    unlink(path);
    make_segment();
    assert_int_equal(chown(path, 1, 1), 0);
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    assert_int_equal(((uint8_t *)view.base)[SIZE - 1], CONTENT_BYTE);
    noria_segment_close(&view);
}

/* ------------------------------------------------------------------------------- what the kernel says, in its place */

static const char *huge_pages;      /* what shmem_enabled holds; "": it cannot be read; NULL: the true one */
static int advice_error, lock_error, lseek_error, flock_error, read_error;

/* The one file that is opened to be read by hand: to find out about huge pages. */
int open(const char *file, int flags, ...)
{
    mode_t mode = 0;
    va_list rest;

    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if (huge_pages != NULL && strstr(file, "shmem_enabled") != NULL) {
        int fd = huge_pages[0] != '\0' ? memfd_create("text", MFD_CLOEXEC) : -1;
        if (fd >= 0 && (write(fd, huge_pages, strlen(huge_pages)) < 0 || syscall(SYS_lseek, fd, 0, SEEK_SET) != 0))
            abort();
        return fd;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, file, flags, mode);
}

int madvise(void *start, size_t size, int advice)
{
    errno = advice_error;
    return advice_error != 0 ? -1 : (int)syscall(SYS_madvise, start, size, advice);
}

int mlock(const void *start, size_t size)
{
    errno = lock_error;
    return lock_error != 0 ? -1 : (int)syscall(SYS_mlock, start, size);
}

int flock(int fd, int operation)
{
    errno = flock_error;
    return flock_error != 0 ? -1 : (int)syscall(SYS_flock, fd, operation);
}

ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    errno = read_error;
    if (read_error == EINTR)
        read_error = 0; /* once */
    return errno != 0 ? -1 : (ssize_t)syscall(SYS_pread64, fd, to, size, offset);
}

off_t lseek(int fd, off_t offset, int whence)
{
    errno = lseek_error;
    return lseek_error != 0 ? -1 : (off_t)syscall(SYS_lseek, fd, offset, whence);
}

static void the_kernel_is_itself_again(void)
{
    meminfo = huge_pages = NULL;
    advice_error = lock_error = lseek_error = flock_error = read_error = 0;
}

static void copies_are_bounded(void **state)
{
    /* Claim: of another user's segment the data is copied, not the holes, however large it says it is; of data no more
     * than a quarter of the memory that is free, otherwise it is refused with a sentence. Where a file system does not
     * know its holes the whole is data. Reading that fails is told. */
    const uint64_t size = UINT64_C(1) << 42, solid = 0;
    struct noria_segment view;
    bool unfinished;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: this needs root\n");
        skip();
    }
    make_foreign_segment_with_holes(true);
    patch(offsetof(struct noria_superblock, size), &size, 8);
    patch(offsetof(struct noria_superblock, solid), &solid, 8); /* all of it, it says */
    assert_int_equal(truncate(path, (off_t)size), 0);
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    assert_int_equal(view.size, size);
    assert_int_equal(((uint8_t *)view.base)[1 << 19], 7);
    noria_segment_close(&view);
    meminfo = "MemAvailable: 40 kB\n"; /* the data is 12 KiB and more */
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), -EFBIG);
    assert_non_null(strstr(noria_last_detail(), "quarter"));
    meminfo = "MemAvailable: 1000 kB\n";
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), 0);
    noria_segment_close(&view);
    assert_int_equal(noria_segment_read(&view, path), 0);
    noria_segment_close(&view);
    meminfo = "MemAvailable: 40 kB\n";
    assert_int_equal(noria_segment_read(&view, path), -EFBIG);
    assert_non_null(strstr(noria_last_detail(), "quarter"));
    meminfo = "nothing is known\n";
    assert_int_equal(noria_segment_read(&view, path), 0);
    noria_segment_close(&view);
    meminfo = "MemAvailable: 1000 kB\n";
    lseek_error = EINVAL;
    assert_int_equal(noria_segment_read(&view, path), -EFBIG);
    the_kernel_is_itself_again();
    read_error = EINTR; /* of the superblock */
    assert_int_equal(noria_segment_read(&view, path), -EINTR);
    read_error = EIO;
    assert_int_equal(noria_segment_read(&view, path), -EIO);
    assert_true(strlen(noria_last_detail()) > 10);
    assert_int_equal(noria_segment_inspect(&view, &noria_segment_posix, name, &unfinished), -EIO);
    the_kernel_is_itself_again();
}

static void removal_waits_for_others_who_remove(void **state)
{
    /* Claim: while somebody else who removes the name does not get on, it is -EBUSY after a while; what the kernel says
     * otherwise is told; a name that means another segment by now is left to that. */
    struct noria_segment segment, other;
    int fd;

    (void)state;
    make_segment();
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), -EBUSY);
    assert_non_null(strstr(noria_last_detail(), "kill"));
    close(fd);
    flock_error = ENOLCK;
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), -ENOLCK);
    the_kernel_is_itself_again();
    assert_int_equal(open_named(&segment, false), 0);
    unlink(path);
    assert_int_equal(segment.backend->unlink(&segment, name, 0), NORIA_SEGMENT_VANISHED);
    assert_int_equal(open_named(&other, true), 0);
    assert_int_equal(segment.backend->unlink(&segment, name, 0), NORIA_SEGMENT_VANISHED);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(other.backend->unlink(&other, name, 0), 0);
    noria_segment_close(&segment);
    noria_segment_close(&other);
}

static void keys_are_checked(void **state)
{
    /* Claim: what is no key, path with a project, or id, is -EINVAL with what it should be; a path too long or missing is
     * told; nothing is made. */
    static const struct {
        const char *name;
        int error;
    } wrong[] = {{"/tmp", EINVAL}, {"/tmp:", EINVAL}, {"/tmp:0", EINVAL}, {"/tmp:256", EINVAL}, {"/tmp:ab", EINVAL},
                 {"/noria-is-not-there:1", ENOENT}, {"id:", EINVAL}, {"id:-1", EINVAL}, {"id:99999999999", EINVAL},
                 {"0", EINVAL}, {"-1", EINVAL}, {"+1", EINVAL}, {"12x", EINVAL}, {"4294967296", EINVAL}, {"x", EINVAL},
                 {"99999999999999999999999", EINVAL}, {"0x6e6f0001", EINVAL}, {"id:2147483647", ENOENT},
                 {"0x76543210", ENOENT}, {"/tmp:x", ENOENT}, {"/tmp:200", ENOENT}};
    struct noria_segment_request request = request_for(false);
    struct noria_segment_facts facts;
    struct noria_segment segment;
    char long_name[400];
    bool unfinished;

    (void)state;
    request.backend = &noria_segment_sysv;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        request.name = wrong[i].name;
        if (noria_segment_open(&segment, &request) != -wrong[i].error)
            fail_msg("%s: %s", wrong[i].name, noria_last_detail());
        assert_true(strlen(noria_last_detail()) > 10);
        assert_true(noria_segment_inspect(&segment, request.backend, request.name, &unfinished) < 0);
        assert_true(request.backend->describe(request.name, &facts) < 0);
        assert_true(noria_segment_unlink(request.backend, request.name) < 0);
    }
    memset(long_name, 'a', sizeof(long_name));
    long_name[0] = '/';
    strcpy(long_name + sizeof(long_name) - 3, ":1");
    request.name = long_name;
    assert_int_equal(noria_segment_open(&segment, &request), -ENAMETOOLONG);
    assert_int_equal(noria_segment_inspect(&segment, request.backend, "", &unfinished), -EINVAL); /* is always new */
    assert_true(request.backend->describe("", &facts) < 0);
}

static void wishes_are_granted_or_not(void **state)
{
    /* Claim: of what is wished, exactly that is granted which the kernel did; no failure is one of the segment's. */
    const uint32_t all = NORIA_SEGMENT_HUGE_PAGES | NORIA_SEGMENT_POPULATED | NORIA_SEGMENT_LOCKED | NORIA_SEGMENT_NODE;
    struct noria_segment segment;

    (void)state;
    expect_created(&segment);
    assert_int_equal(noria_segment_wish(&segment, 0, 0), 0);
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_LOCKED, 0), NORIA_SEGMENT_LOCKED);
    lock_error = EPERM;
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_LOCKED, 0), 0);
    lock_error = 0;
    advice_error = EINVAL; /* also of a kernel that knows no such advice */
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_POPULATED | NORIA_SEGMENT_HUGE_PAGES, 0), 0);
    the_kernel_is_itself_again();
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_NODE, -1), 0);
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_NODE, 100000), 0);
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_NODE, 1000), 0); /* not on this machine */
    huge_pages = "always within_size advise [never] deny force\n";
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_HUGE_PAGES, 0), 0);
    huge_pages = "always within_size advise never [deny] force\n";
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_HUGE_PAGES, 0), 0);
    huge_pages = "";
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_HUGE_PAGES, 0), 0);
    huge_pages = "always within_size [advise] never deny force\n";
    assert_int_equal(noria_segment_wish(&segment, all, 0) & ~all, 0);
    the_kernel_is_itself_again();
    segment.super.solid = 4096; /* then only that is filled and locked */
    assert_int_equal(noria_segment_wish(&segment, NORIA_SEGMENT_POPULATED, 0) & ~(uint32_t)NORIA_SEGMENT_POPULATED, 0);
    noria_segment_close(&segment);
}

static void corrupt_segments_can_be_removed(void **state)
{
    /* Claim: a segment of another version, truncated or unfinished can be unlinked: nobody has to use rm. */
    const uint32_t version = 99;

    (void)state;
    make_segment();
    patch(offsetof(struct noria_superblock, version), &version, 4);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    make_segment();
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    start_creator(2, SIGKILL);
    assert_int_equal(noria_segment_unlink(&noria_segment_posix, name), 0);
    assert_int_equal(access(path, F_OK), -1);
}

/* -------------------------------------------------------------------------------------------------- memfd */

static void memfd_is_shared_by_descriptor(void **state)
{
    /* Claim: who has the descriptor attaches, on a description of its own; the size is sealed; there is no
     * name. */
    struct noria_segment_request request = memfd_request("", true);
    struct noria_segment first, second, third;
    char number[16];

    (void)state;
    assert_int_equal(noria_segment_open(&first, &request), 0);
    snprintf(number, sizeof(number), "%d", first.fd);
    request = memfd_request(number, false);
    assert_int_equal(noria_segment_open(&second, &request), 0);
    assert_false(second.created);
    assert_true(second.inode == first.inode);
    assert_int_equal(noria_lock_try(first.fd, 5), 0);
    assert_int_equal(noria_lock_try(second.fd, 5), -EAGAIN);
    assert_int_equal(ftruncate(second.fd, 100), -1);
    assert_int_equal(ftruncate(second.fd, SIZE * 2), -1);
    assert_int_equal(noria_segment_attach(&third, &first), 0);
    assert_int_equal(noria_lock_try(third.fd, 5), -EAGAIN);
    assert_int_equal(noria_segment_unlink(&noria_segment_memfd, number), -ENOTSUP);
    noria_segment_close(&first);
    ((uint8_t *)noria_segment_content(&second))[1] = 4;
    assert_int_equal(((uint8_t *)noria_segment_content(&third))[1], 4);
    noria_segment_close(&second);
    noria_segment_close(&third);
}

static void memfd_that_is_empty_needs_a_creator(void **state)
{
    /* Claim: an empty memfd is -ENOENT without `create`, becomes a segment with it, and is not made twice. */
    int fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct noria_segment_request request;
    struct noria_segment segment, second;
    char number[16];

    (void)state;
    snprintf(number, sizeof(number), "%d", fd);
    request = memfd_request(number, false);
    assert_int_equal(noria_segment_open(&segment, &request), -ENOENT);
    assert_true(strstr(noria_last_detail(), "NORIA_CREATE") != NULL);
    request = memfd_request(number, true);
    assert_int_equal(noria_segment_open(&segment, &request), 0);
    assert_true(segment.created);
    request.exclusive = true;
    assert_int_equal(noria_segment_open(&second, &request), -EEXIST);
    request.exclusive = false;
    assert_int_equal(noria_segment_open(&second, &request), 0);
    assert_false(second.created);
    noria_segment_close(&segment);
    noria_segment_close(&second);
    close(fd);
}

static void memfd_addresses_are_checked(void **state)
{
    /* Claim: what is not the number of an open, sealable descriptor is refused with a sentence. */
    static const char *const wrong[] = {"x",          "-1",    "3x", " ",  "99999999999999999999",
                                        "2147483648", "19999", "+",  "0x3"};
    struct noria_segment_request request;
    struct noria_segment segment;
    char number[16];
    int plain = memfd_create("plain", MFD_CLOEXEC), directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        request = memfd_request(wrong[i], true);
        noria_fail(0, "%s", "");
        assert_int_equal(noria_segment_open(&segment, &request), -EINVAL);
        assert_true(strlen(noria_last_detail()) > 10);
    }
    request = memfd_request("", false);
    assert_int_equal(noria_segment_open(&segment, &request), -EINVAL);
    snprintf(number, sizeof(number), "%d", directory);
    request = memfd_request(number, true);
    assert_int_equal(noria_segment_open(&segment, &request), -EINVAL);
    snprintf(number, sizeof(number), "%d", plain);
    request = memfd_request(number, true);
    assert_true(noria_segment_open(&segment, &request) < 0); /* cannot be sealed against shrinking */
    assert_true(strstr(noria_last_detail(), "MFD_ALLOW_SEALING") != NULL);
    close(plain);
    close(directory);
}

/* As after a fork: only the descriptor of the other handle counts. */
static int attach_behind(struct noria_segment *segment, int fd)
{
    const struct noria_segment other = {.backend = &noria_segment_posix, .fd = fd};

    return noria_segment_attach(segment, &other);
}

static void attaching_checks_as_opening_does(void **state)
{
    /* Claim: a descriptor of something else, of an empty file or of a truncated segment cannot
     * be attached. */
    struct noria_segment segment;
    int fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING), pipes[2];

    (void)state;
    assert_true(attach_behind(&segment, fd) < 0);
    assert_int_equal(write(fd, "something else", 14), 14);
    assert_int_equal(attach_behind(&segment, fd), -EINVAL);
    close(fd);
    assert_true(attach_behind(&segment, fd) < 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_true(attach_behind(&segment, pipes[0]) < 0);
    close(pipes[0]);
    close(pipes[1]);
    make_segment();
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(attach_behind(&segment, fd), -EBADMSG);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(first_creates_second_attaches),
        TEST(exclusive_creation_wants_a_free_name),
        TEST(missing_name_is_told_at_once),
        TEST(waiting_for_a_name_ends),
        TEST(waiting_for_a_name_finds_it),
        TEST(removed_segments_live_on),
        TEST(names_are_checked),
        TEST(mode_is_what_was_asked_for),
        TEST(planted_links_are_refused),
        TEST(planted_hard_links_are_refused),
        TEST(other_kinds_of_files_are_refused),
        TEST(foreign_files_are_left_alone),
        TEST(empty_file_is_taken_over),
        TEST(other_versions_are_refused),
        TEST(truncated_files_are_refused),
        TEST(holes_are_filled),
        TEST(holes_without_place_are_an_error_code),
        TEST(memfds_with_holes_are_refused),
        TEST(impossible_sizes_are_refused),
        TEST(unmappable_sizes_are_refused),
        TEST(creator_killed_before_sealing_is_not_missed),
        TEST(killed_creator_is_replaced),
        TEST(killed_creators_leftover_may_grow),
        TEST(stopped_creator_bounds_the_wait),
        TEST(name_of_a_stopped_creator_can_be_removed),
        TEST(creator_that_stops_before_the_lock_is_overtaken),
        TEST(failed_creation_leaves_nothing),
        TEST(many_creators_make_one),
        TEST(name_that_vanishes_is_looked_up_again),
        TEST(full_shared_memory_is_an_error_code),
        TEST(others_may_not_open_a_private_segment),
        TEST(files_of_other_users_need_consent),
        TEST(limited_file_sizes_are_an_error_code),
        TEST(more_than_all_memory_is_an_error_code),
        TEST(too_many_files_is_an_error_code),
        TEST(inspection_changes_nothing),
        TEST(anothers_segment_is_looked_at_in_a_copy),
        TEST(corrupt_segments_can_be_removed),
        TEST(copies_are_bounded),
        TEST(removal_waits_for_others_who_remove),
        TEST(keys_are_checked),
        TEST(wishes_are_granted_or_not),
        TEST(memfd_is_shared_by_descriptor),
        TEST(memfd_that_is_empty_needs_a_creator),
        TEST(memfd_addresses_are_checked),
        TEST(attaching_checks_as_opening_does),
    };
#undef TEST
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
