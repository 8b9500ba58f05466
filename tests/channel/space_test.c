/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: where /dev/shm has 64 KiB, a channel of any kind and size can be had and used to the last byte, whoever fills
 * the rest, or is refused with -ENOSPC and a sentence that says what is needed, what there is and the cure, and leaves
 * nothing. The same of descriptors and lengths of names. Never SIGBUS by our own sizes.
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "anon"}
#include "variants_test.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "own_shm.h"
#include "shapes.h"

static uint64_t free_bytes(void)
{
    struct statvfs fs;

    assert_int_equal(statvfs("/dev/shm", &fs), 0);
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* Takes all that is left. */
static void fill_up(void)
{
    static const uint8_t page[4096] = {1};
    int fd = open("/dev/shm/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    while (write(fd, page, sizeof(page)) > 0)
        ;
    close(fd);
    assert_int_equal(free_bytes(), 0);
}

/* Every byte of it is touched. */
static int use_all(noria_channel *channel)
{
    static uint8_t bytes[64];
    int sent = 0, rc = 0;

    for (int lap = 0; lap < 3; lap++) {
        while (sent < 100000 && (rc = noria_send(channel, bytes, sizeof(bytes), 0)) == 0)
            sent++;
        while (noria_recv(channel, bytes, sizeof(bytes), 0, NULL) >= 0)
            ;
    }
    assert_true(rc == 0 || rc == -EAGAIN);
    return sent;
}

static void refused_with_words(int rc, const struct noria_options *options)
{
    assert_int_equal(rc, -ENOSPC);
    assert_non_null(strstr(noria_detail(), "needs "));
    assert_non_null(strstr(noria_detail(), "free"));
    assert_non_null(strstr(noria_detail(), "less capacity"));
    assert_int_equal(access(ch.path, F_OK), -1);
    assert_int_equal(free_bytes(), 65536);
    assert_true(noria_footprint(options) > 65536 - 4096); /* and rightly so: the name takes a page, too, at most */
}

static void any_size_works_or_is_refused(void **state)
{
    /* Claim: see above, for every kind of channel, capacities from 1 to far beyond, with the rest of the memory
     * taken away after creation. */
    int had = 0, refused = 0;

    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (uint64_t capacity = 1; capacity <= 4096; capacity = capacity * 3 / 2 + 1) {
            noria_channel *channel = NULL;
            int rc;
            take_shape(&shapes[i], &ch.options);
            if (shapes[i].capacity > 1)
                ch.options.capacity = capacity;
            if (shapes[i].max_bytes != 0 && noria_footprint(&ch.options) < 0)
                continue; /* more than its ceiling */
            rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options);
            if (rc != 0) {
                refused_with_words(rc, &ch.options);
                refused++;
                continue;
            }
            had++;
            fill_up();
            (void)!use_all(channel);
            assert_int_equal(unlink("/dev/shm/filler"), 0);
            (void)!use_all(channel); /* one that grows may now */
            assert_int_equal(noria_close(channel), 0);
            assert_int_equal(noria_unlink(ch.address), 0);
            assert_int_equal(free_bytes(), 65536);
        }
    print_message("%d sizes worked, %d were refused\n", had, refused);
    assert_true(had > 20 && refused > 20);
}

static void no_room_at_all(void **state)
{
    /* Claim: in a full file system creating is -ENOSPC and leaves nothing; what is there already goes on. */
    noria_channel *channel = NULL, *second = NULL;

    (void)state;
    take_shape(&shapes[1], &ch.options);
    assert_int_equal(noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    fill_up();
    assert_int_equal(noria_open(&second, "shm:/noria-second", NORIA_SEND | NORIA_CREATE, &ch.options), -ENOSPC);
    assert_non_null(strstr(noria_detail(), "--shm-size"));
    assert_int_equal(access("/dev/shm/noria-second", F_OK), -1);
    assert_true(use_all(channel) > 0);
    assert_int_equal(noria_close(channel), 0);
    assert_int_equal(unlink("/dev/shm/filler"), 0);
}

static void descriptors_run_out(void **state)
{
    /* Claim: with no descriptor left opening is -EMFILE with the limit and the cure, and nothing is left; with one more it
     * works. */
    struct rlimit limit, few;
    noria_channel *channel = NULL;
    char number[16];
    int rc = -EMFILE;

    (void)state;
    take_shape(&shapes[1], &ch.options);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (few = limit, few.rlim_cur = 3; rc == -EMFILE && few.rlim_cur < 64; few.rlim_cur++) {
        int before = count_descriptors();
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (rc == -EMFILE) {
            snprintf(number, sizeof(number), ", %llu:", (unsigned long long)few.rlim_cur);
            assert_non_null(strstr(noria_detail(), "ulimit -n"));
            assert_non_null(strstr(noria_detail(), number));
            assert_int_equal(count_descriptors(), before);
            assert_false(name_exists());
        }
    }
    assert_int_equal(rc, 0);
    assert_true(is_at("sysv") || few.rlim_cur > 4); /* it has been too few; System V needs none */
    assert_int_equal(noria_close(channel), 0);
    assert_int_equal(has_name() ? noria_unlink(ch.address) : 0, 0);
}

static int open_as_nobody(void)
{
    noria_channel *channel = NULL;

    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        return 2;
    if (noria_open(&channel, ch.address, NORIA_SEND, &ch.options) != -EACCES)
        return 3;
    if (strstr(noria_detail(), "of user 0, group 0 and mode 0640") == NULL ||
        strstr(noria_detail(), "you are user 65534, group 65534") == NULL)
        return 4;
    return 0;
}

static void permissions_are_told(void **state)
{
    /* Claim: who may not open a channel is told whose it is, its mode, and who he is himself. */
    noria_channel *channel = NULL;
    int status;
    pid_t pid;

    (void)state;
    if (geteuid() != 0 || getegid() != 0 || !may_become(65534))
        skip();
    ch.options.mode = 0640;
    ch.options.foreign = 1;
    assert_int_equal(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), 0);
    assert_int_equal(noria_close(channel), 0);
    pid = fork();
    if (pid == 0)
        _exit(open_as_nobody());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void huge_page_files_are_refused(void **state)
{
    /* Claim: a channel cannot be a file on hugetlbfs; it is said so, and nothing is left there. */
    char folder[] = "/var/tmp/noria-huge-XXXXXX";
    noria_channel *channel = NULL;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(ch.path, sizeof(ch.path), "%s/file", folder);
    snprintf(ch.address, sizeof(ch.address), "file:%s/file", folder);
    if (mount("noria-test", folder, "hugetlbfs", 0, NULL) != 0) {
        print_message("no hugetlbfs can be mounted here\n");
        assert_int_equal(rmdir(folder), 0);
        skip();
    }
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "hugetlbfs"));
    assert_false(name_exists());
    assert_int_equal(access(ch.path, F_OK), -1);
    assert_int_equal(umount(folder), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void long_names(void **state)
{
    /* Claim: a name of 250 characters works, one of 251 is -ENAMETOOLONG with both numbers. */
    noria_channel *channel = NULL;
    char address[300] = "shm:/";

    (void)state;
    take_shape(&shapes[1], &ch.options);
    memset(address + 5, 'n', 250);
    assert_fails(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &ch.options), ENAMETOOLONG);
    assert_non_null(strstr(noria_detail(), "251"));
    assert_non_null(strstr(noria_detail(), "250"));
    address[5 + 249] = '\0';
    assert_int_equal(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &ch.options), 0);
    assert_int_equal(noria_close(channel), 0);
    assert_int_equal(noria_unlink(address), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("shm", any_size_works_or_is_refused),
        AT("shm", no_room_at_all),
        EVERYWHERE(descriptors_run_out),
        BY_NAME(permissions_are_told),
        AT("file", huge_page_files_are_refused),
        AT("shm", long_names),
    };

    if (!have_own_shm("size=64k")) {
        fprintf(stderr, "this user may not have a /dev/shm of its own\n");
        return 77; /* skipped */
    }
    return run_variants("space", tests, sizeof(tests) / sizeof(tests[0]));
}
