/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs each test on every kind of channel at every kind of address; with NORIA_TEST_SCHEME=sysv (or file) in the
 * environment at such addresses instead, those tests that do not name one. The scheme "keyless" is the address
 * "sysv:", "memory" has memory of its own. A test finds `ch`: the options it may
 * change before open_pair(), and afterwards a sender's and a receiver's handle on one channel. Included by
 * one file per program.
 */
#ifndef NORIA_VARIANTS_TEST_H
#define NORIA_VARIANTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <noria/inspect.h>
#include <noria/noria.h>

#include "fails_test.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

struct variant {
    uint32_t kind;
    const char *scheme;
};

#ifndef KINDS_TO_TEST /* or those of the file that includes this */
#define KINDS_TO_TEST \
    {NORIA_KIND_SPSC, "shm"}, {NORIA_KIND_SPSC, "memfd"}, {NORIA_KIND_SPSC, "anon"}, \
    {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "memfd"}, {NORIA_KIND_MPMC, "anon"}
#endif
static const struct variant variants[] = {KINDS_TO_TEST};
enum { VARIANTS = sizeof(variants) / sizeof(variants[0]) };

static struct {
    const struct variant *variant;
    struct noria_options options;
    noria_channel *tx, *rx;
    noria_channel *keeper; /* if a test opens one: an observer, so that anon: outlives the other two */
    char address[64], path[80];
    int memfd;
    int descriptors;
} ch;

static inline bool is_spsc(void)
{
    return ch.variant->kind == NORIA_KIND_SPSC;
}

static inline bool is_at(const char *scheme)
{
    return strcmp(ch.variant->scheme, scheme) == 0;
}

static inline bool has_name(void)
{
    return is_at("shm") || is_at("sysv") || is_at("file");
}

static inline bool name_exists(void)
{
    struct noria_listing listing;

    return has_name() && noria_inspect(ch.address, &listing) == 0;
}

/* If there is one. */
static inline void remove_name(void)
{
    if (is_at("sysv"))
        noria_unlink(ch.address);
    else if (has_name())
        unlink(ch.path);
}

static inline int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static inline int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

enum { MEMORY_BYTES = 1 << 20 }; /* at memory: */

static int setup(void **state)
{
    memset(&ch, 0, sizeof(ch));
    ch.variant = *state;
    noria_options_init(&ch.options);
    ch.options.kind = ch.variant->kind;
    ch.options.capacity = 8;
    ch.options.max_message = 64;
    ch.options.max_held = 3;
    ch.options.max_participants = 8;
    ch.options.recheck_ns = 5 * MS;
    ch.descriptors = count_descriptors();
    ch.memfd = -1;
    snprintf(ch.address, sizeof(ch.address), "%s:", ch.variant->scheme);
    if (is_at("memfd")) {
        ch.memfd = memfd_create("variant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        snprintf(ch.address, sizeof(ch.address), "memfd:%d", ch.memfd);
    } else if (is_at("shm")) {
        snprintf(ch.address, sizeof(ch.address), "shm:/noria-api-test-%d", (int)getpid());
        snprintf(ch.path, sizeof(ch.path), "/dev/shm/noria-api-test-%d", (int)getpid());
        unlink(ch.path);
    } else if (is_at("sysv")) {
        snprintf(ch.address, sizeof(ch.address), "sysv:0x%08x", 0x74000000u + (unsigned)getpid());
        noria_unlink(ch.address);
    } else if (is_at("memory")) {
        ch.options.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ch.options.memory_size = MEMORY_BYTES;
    } else if (is_at("keyless")) {
        snprintf(ch.address, sizeof(ch.address), "sysv:");
    } else if (is_at("file")) {
        snprintf(ch.path, sizeof(ch.path), "/var/tmp/noria-api-test-%d", (int)getpid());
        snprintf(ch.address, sizeof(ch.address), "file:/var/tmp/noria-api-test-%d", (int)getpid());
        unlink(ch.path);
    }
    return 0;
}

static inline void close_handle(noria_channel **channel)
{
    if (*channel != NULL)
        assert_int_equal(noria_close(*channel), 0);
    *channel = NULL;
}

static int teardown(void **state)
{
    (void)state;
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    close_handle(&ch.keeper);
    if (ch.memfd >= 0)
        close(ch.memfd);
    if (is_at("memory"))
        munmap(ch.options.memory, MEMORY_BYTES);
    remove_name();
    assert_int_equal(count_descriptors(), ch.descriptors); /* nothing is left open, whatever failed */
    return 0;
}

/* Opens the channel, or one more handle on it. anon: has no name, so a further handle comes from one that is
 * there. */
static inline int try_open(noria_channel **channel, int flags)
{
    const noria_channel *other = ch.tx != NULL ? ch.tx : ch.rx != NULL ? ch.rx : ch.keeper;

    if ((is_at("anon") || is_at("keyless")) && other != NULL)
        return noria_reopen(channel, other, flags);
    return noria_open(channel, ch.address, flags | NORIA_CREATE, &ch.options);
}

static inline noria_channel *open_handle(int flags)
{
    noria_channel *channel = NULL;

    assert_int_equal(try_open(&channel, flags), 0);
    assert_non_null(channel);
    return channel;
}

static inline void open_pair(void)
{
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
}

/* Whether a descriptor may be taken from a process that is no descendant. */
static inline bool may_trace_the_unrelated(void)
{
    FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    int scope = 0;

    if (file == NULL)
        return true;
    if (fscanf(file, "%d", &scope) != 1)
        scope = 0;
    fclose(file);
    return scope == 0 || (scope < 3 && geteuid() == 0);
}

/* -------------------------------------------------------------------------------------- numbered messages */

static inline void fill_message(uint8_t *bytes, unsigned number, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(number * 31 + i);
}

static inline int try_send(unsigned number, size_t len)
{
    uint8_t bytes[4096];

    assert_true(len <= sizeof(bytes));
    fill_message(bytes, number, len);
    return noria_send(ch.tx, bytes, len, 0);
}

static inline void send_numbered(unsigned number, size_t len)
{
    assert_int_equal(try_send(number, len), 0);
}

static inline void verify_message(const void *data, unsigned number, size_t len)
{
    uint8_t bytes[4096];

    fill_message(bytes, number, len);
    assert_memory_equal(data, bytes, len);
}

static inline struct noria_info expect_on(noria_channel *channel, unsigned number, size_t len)
{
    uint8_t bytes[4096];
    struct noria_info info;

    assert_int_equal(noria_recv(channel, bytes, sizeof(bytes), 0, &info), len);
    assert_int_equal(info.size, len);
    verify_message(bytes, number, len);
    return info;
}

static inline struct noria_info expect(unsigned number, size_t len)
{
    return expect_on(ch.rx, number, len);
}

static inline void expect_nothing(int error)
{
    uint8_t bytes[4096];

    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), error);
}

static inline struct noria_stat stat_of(noria_channel *channel)
{
    struct noria_stat stat = {0};

    assert_int_equal(noria_stat(channel, &stat), 0);
    return stat;
}

/* -------------------------------------------------------------------------------------------- the program */

struct named_test {
    const char *name;
    CMUnitTestFunction run;
    uint32_t kind;      /* 0: both */
    const char *scheme; /* of them; NULL: all */
};
#define EVERYWHERE(test) {#test, test, 0, NULL}
#define ONLY_SPSC(test) {#test, test, NORIA_KIND_SPSC, NULL}
#define ONLY_MPMC(test) {#test, test, NORIA_KIND_MPMC, NULL}
#define AT(scheme, test) {#test, test, 0, scheme}
#define BY_NAME(test) {#test, test, 0, "shm, sysv, file"}
#define ONCE(test) AT("anon", test) /* nothing in it depends on the address */

static const char *const kind_names[] = {"?", "spsc", "mpmc", "broadcast"};

/* The variants to run: those of this file, or its kinds at the addresses that the environment names. */
static inline size_t choose_variants(struct variant chosen[VARIANTS])
{
    const char *scheme = getenv("NORIA_TEST_SCHEME");
    size_t used = 0;

    for (size_t v = 0; v < VARIANTS; v++)
        if (scheme == NULL)
            chosen[used++] = variants[v];
        else if (strcmp(variants[v].scheme, "shm") == 0)
            chosen[used++] = (struct variant){variants[v].kind, scheme};
    return used;
}

static inline int run_variants_with(const char *group, const struct named_test *named, size_t n,
                                    CMFixtureFunction before, CMFixtureFunction after)
{
    struct CMUnitTest *tests = calloc(n * VARIANTS, sizeof(*tests));
    char(*names)[128] = calloc(n * VARIANTS, sizeof(*names));
    static struct variant chosen[VARIANTS];
    size_t used = 0, count = choose_variants(chosen);
    int failed;

    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < count; v++) {
            const struct variant *variant = &chosen[v];
            if ((named[i].kind != 0 && named[i].kind != variant->kind) ||
                (named[i].scheme != NULL && strstr(named[i].scheme, variant->scheme) == NULL))
                continue;
            snprintf(names[used], sizeof(names[used]), "%s, %s %s:", named[i].name, kind_names[variant->kind & 3],
                     variant->scheme);
            tests[used] =
                (struct CMUnitTest){names[used], named[i].run, before, after, (void *)(uintptr_t)variant};
            used++;
        }
    failed = _cmocka_run_group_tests(group, tests, used, NULL, NULL);
    free(tests);
    free(names);
    return failed;
}

static inline int run_variants(const char *group, const struct named_test *named, size_t n)
{
    return run_variants_with(group, named, n, setup, teardown);
}

#endif
