/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same tests over every transport, shared memory included. A test finds `it`, the transport it runs on, opens
 * handles by open_sender and open_receiver, and sends numbered messages whose bytes say whose they are. Included by one
 * file per program.
 */
#ifndef NORIA_SUITE_H
#define NORIA_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

#include "fails_test.h"
#include "nats_server.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define A_WHILE (20 * SECOND) /* for what hangs */
enum { KIB = 1024, MIB = 1024 * KIB };

struct transport {
    const char *name;
    const char *format;     /* of the address, with a number that is this test's own; NULL: descriptors are passed */
    bool by_descriptors;    /* the sender's and the receiver's end are there before: pipe:R,W, fd:N */
    bool renews;            /* a new sender reopens the stream, a new receiver takes over */
    bool keeps_for_nobody;  /* messages can be sent before a receiver is there, and stay if all leave */
    bool has_no_descriptor; /* noria_fd is -ENOTSUP */
    bool is_endless;        /* nobody can tell that the last sender has left */
    bool is_served;         /* by a server, which is started; only if it is asked for by name */
    bool cannot_be_claimed; /* by one receiver: a socket that was passed */
    bool deals;             /* the sender listens and makes the name, receivers connect; a second sender is refused */
    bool promises;          /* that SIGPIPE is ignored, which it then is, and that the reader copies */
    bool comes_later;       /* who has connected is seen by the listener a little later */
    uint32_t longest;       /* message that the test sends */
    int (*make_ends)(int ends[2]);
};

static struct {
    const struct transport *transport;
    char address[128], sender_address[64];
    int ends[2];
    struct noria_options options;
    noria_channel *tx, *rx;
    int descriptors;
} it;

static unsigned made;

/* Names and ports that programs of this suite, which run at the same time, do not share: a block of numbers for each
 * process, its own as long as it has the block's file locked. Below the ports that the system gives to connections. */
enum { FIRST_NUMBER = 20000, NUMBERS_IN_BLOCK = 300, BLOCKS = 36 };

static inline unsigned claim_block(void)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        unsigned block = ((unsigned)getpid() + i) % BLOCKS;
        char path[64];
        int fd;
        snprintf(path, sizeof(path), "/tmp/noria-suite-block-%u", block);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            return FIRST_NUMBER + block * NUMBERS_IN_BLOCK; /* the lock goes with the process */
        if (fd >= 0)
            close(fd);
    }
    fail_msg("%d programs of this suite run already", BLOCKS);
    return 0;
}

static inline unsigned next_number(void)
{
    static unsigned block;

    if (block == 0)
        block = claim_block();
    return block + made++ % NUMBERS_IN_BLOCK;
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

static inline int make_pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC);
}

static inline int make_stream_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
}

static inline int make_packet_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

/* ------------------------------------------------------------------------------------------------------ one channel */

static inline const char *address_of(int flags)
{
    return it.transport->by_descriptors && (flags & NORIA_SEND) != 0 ? it.sender_address : it.address;
}

static inline int try_open(noria_channel **channel, int flags)
{
    return noria_open(channel, address_of(flags), flags | NORIA_CREATE, &it.options);
}

static inline noria_channel *open_handle(int flags)
{
    noria_channel *channel = NULL;
    int rc = try_open(&channel, flags);

    if (rc != 0)
        print_message("%s: %d, %s\n", address_of(flags), rc, noria_detail());
    assert_int_equal(rc, 0);
    return channel;
}

/* The ends that were passed are closed by whoever does not need them any more, as with every pipe. */
static inline void close_end(int which)
{
    if (it.ends[which] >= 0)
        close(it.ends[which]);
    it.ends[which] = -1;
}

static inline void open_receiver(void)
{
    it.rx = open_handle(NORIA_RECV);
    close_end(0);
}

static inline struct noria_stat stat_of(noria_channel *channel)
{
    struct noria_stat stat = {0};

    assert_int_equal(noria_stat(channel, &stat), 0);
    return stat;
}

/* A receiver that connects does so in its calls, of which TCP may need several, and its sender hears of it in its own: until
 * so many are known there. */
static inline void look_for_sender(noria_channel *receiver, uint32_t known)
{
    struct noria_ready here = {receiver, NORIA_RECV, 0, 0}, there = {it.tx, NORIA_SEND, 0, 0};
    int64_t until_ns = now_ns() + A_WHILE;

    if (!it.transport->deals || receiver == NULL)
        return;
    while (stat_of(it.tx).receivers < known) {
        noria_wait_any(&here, 1, 0);
        noria_wait_any(&there, 1, 0);
        sched_yield();
        assert_true(now_ns() < until_ns);
    }
}

static inline void open_sender(void)
{
    it.tx = open_handle(NORIA_SEND);
    close_end(1);
    look_for_sender(it.rx, 1);
}

static inline void open_pair(void)
{
    open_receiver();
    open_sender();
}

static inline void close_handle(noria_channel **channel)
{
    if (*channel != NULL)
        assert_int_equal(noria_close(*channel), 0);
    *channel = NULL;
}

static inline int setup(void **state)
{
    unsigned number = next_number();
    char left[64];

    snprintf(left, sizeof(left), "/tmp/noria-suite-%u", number);
    unlink(left); /* of whatever kind: a program that was killed may have had the number before */
    memset(&it, 0, sizeof(it));
    it.transport = *state;
    it.ends[0] = it.ends[1] = -1;
    it.descriptors = count_descriptors();
    noria_options_init(&it.options);
    it.options.max_message = it.transport->longest;
    it.options.capacity = 8;
    it.options.open_timeout_ns = A_WHILE; /* others may be slow to create */
    it.options.sigpipe_ignored = it.options.reader_copies = it.transport->promises;
    signal(SIGPIPE, it.transport->promises ? SIG_IGN : SIG_DFL);
    if (it.transport->by_descriptors) {
        assert_int_equal(it.transport->make_ends(it.ends), 0);
        snprintf(it.address, sizeof(it.address), it.transport->format, it.ends[0]);
        snprintf(it.sender_address, sizeof(it.sender_address), it.transport->format, it.ends[1]);
        if (strncmp(it.address, "pipe", 4) == 0) {
            snprintf(it.address, sizeof(it.address), "pipe:%d,", it.ends[0]);
            snprintf(it.sender_address, sizeof(it.sender_address), "pipe:,%d", it.ends[1]);
        }
    } else {
        snprintf(it.address, sizeof(it.address), it.transport->format,
                 it.transport->is_served ? nats_nodes[0].port : number, number);
        noria_unlink(it.address);
    }
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    close_handle(&it.tx);
    close_handle(&it.rx);
    close_end(0);
    close_end(1);
    if (!it.transport->by_descriptors)
        noria_unlink(it.address);
    assert_int_equal(count_descriptors(), it.descriptors); /* nothing is left open, whatever failed */
    return 0;
}

static inline bool can(noria_channel *channel, uint32_t ability)
{
    return (stat_of(channel).abilities & ability) != 0;
}

/* ------------------------------------------------------------------------------------------------ numbered messages */

struct stamp {
    uint32_t whose, number, len;
};

/* Fills `len` bytes: a stamp, as much of it as fits, and bytes that follow from it. */
static inline void fill(uint8_t *bytes, uint32_t whose, uint32_t number, uint32_t len)
{
    struct stamp stamp = {whose, number, len};
    uint32_t seed = whose * 2654435761u ^ number * 40503u ^ len;

    for (uint32_t i = 0; i < len; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
    memcpy(bytes, &stamp, len < sizeof(stamp) ? len : sizeof(stamp));
}

/* Whether it is that message, byte for byte. */
static inline bool is_message(const uint8_t *bytes, size_t size, uint32_t whose, uint32_t number, uint32_t len)
{
    static uint8_t expected[MIB];

    if (size != len)
        return false;
    fill(expected, whose, number, len);
    return memcmp(bytes, expected, len) == 0;
}

/* Whether the bytes are a message at all, whole and unmixed: the stamp says which. */
static inline bool is_sound(const uint8_t *bytes, size_t size, struct stamp *stamp)
{
    if (size < sizeof(*stamp))
        return false;
    memcpy(stamp, bytes, sizeof(*stamp));
    return is_message(bytes, size, stamp->whose, stamp->number, stamp->len);
}

static inline int send_numbered(noria_channel *channel, uint32_t whose, uint32_t number, uint32_t len,
                                int64_t timeout_ns)
{
    static uint8_t bytes[MIB];

    fill(bytes, whose, number, len);
    return noria_send(channel, bytes, len, timeout_ns);
}

static uint8_t received[MIB];

static inline void check_received(ssize_t rc, const struct noria_info *info, uint32_t whose, uint32_t number, uint32_t len)
{
    if (rc < 0)
        print_message("message %u of %u bytes: %zd, %s\n", number, len, rc, noria_detail());
    assert_int_equal(rc, len);
    assert_true(is_message(received, (size_t)rc, whose, number, len));
    assert_int_equal(info->size, len);
}

static inline struct noria_info expect(uint32_t whose, uint32_t number, uint32_t len)
{
    struct noria_info info = {0};
    ssize_t rc = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);

    check_received(rc, &info, whose, number, len);
    return info;
}

/* The first message of a sender that came when all others had left: until its connection is seen here the stream has ended. */
static inline struct noria_info expect_of_new(uint32_t whose, uint32_t number, uint32_t len)
{
    int64_t until_ns = now_ns() + A_WHILE;
    struct noria_info info = {0};
    ssize_t rc;

    do
        rc = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);
    while (rc == -EPIPE && it.transport->comes_later && now_ns() < until_ns);
    check_received(rc, &info, whose, number, len);
    return info;
}

/* -------------------------------------------------------------------------------------------------------- processes */

/* Runs `life` in a child, which inherits nothing of `it` but what to open. */
static inline pid_t start(int (*life)(void))
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (it.tx != NULL)
            noria_close(it.tx);
        if (it.rx != NULL)
            noria_close(it.rx);
        it.tx = it.rx = NULL;
        _exit(life());
    }
    return child;
}

static inline void expect_end(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0)
        print_message("a child ended with status %x\n", (unsigned)status);
    assert_int_equal(status, 0);
}

/* The last sender has left, and all that it sent has been received. */
static inline void expect_stream_end(int64_t timeout_ns)
{
    ssize_t rc = noria_recv(it.rx, received, sizeof(received), it.transport->is_endless ? 0 : timeout_ns, NULL);

    assert_int_equal(rc, it.transport->is_endless ? -EAGAIN : -EPIPE);
    assert_true(strlen(noria_detail()) > 3);
}

static inline void kill_child(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

#define CHILD_REQUIRES(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "child, line %d: %s (%s)\n", __LINE__, #condition, noria_detail()); \
            return 1; \
        } \
    } while (0)

static inline bool is_long(void)
{
    return getenv("NORIA_LONG") != NULL;
}

/* --------------------------------------------------------------------------------------------------------- the list */

static const struct transport transports[] = {
    {.name = "shm", .format = "shm:/noria-suite-%u", .renews = true, .keeps_for_nobody = true, .longest = MIB},
    {.name = "pipe", .format = "pipe:%d", .by_descriptors = true, .longest = MIB, .make_ends = make_pipe},
    {.name = "pipe, promised",
     .format = "pipe:%d",
     .by_descriptors = true,
     .longest = MIB,
     .make_ends = make_pipe,
     .promises = true},
    {.name = "fd of a pipe", .format = "fd:%d", .by_descriptors = true, .longest = MIB, .make_ends = make_pipe},
    {.name = "fd of a stream",
     .format = "fd:%d",
     .by_descriptors = true,
     .longest = MIB,
     .make_ends = make_stream_pair,
     .cannot_be_claimed = true},
    {.name = "fd of packets",
     .format = "fd:%d",
     .by_descriptors = true,
     .longest = MIB,
     .make_ends = make_packet_pair,
     .cannot_be_claimed = true},
    {.name = "fifo", .format = "fifo:/tmp/noria-suite-%u", .renews = true, .longest = MIB},
    {.name = "fifo, promised", .format = "fifo:/tmp/noria-suite-%u", .renews = true, .longest = MIB, .promises = true},
    {.name = "unix", .format = "unix:/tmp/noria-suite-%u", .renews = true, .longest = MIB},
    {.name = "unix packets", .format = "unix:/tmp/noria-suite-%u?seqpacket", .renews = true, .longest = MIB},
    {.name = "tcp", .format = "tcp::%u", .renews = true, .comes_later = true, .longest = MIB},
    {.name = "tcp, IPv6", .format = "tcp:[::1]:%u", .renews = true, .comes_later = true, .longest = MIB},
    {.name = "unix, dealing", .format = "unix:/tmp/noria-suite-%u?deal", .renews = true, .deals = true, .longest = MIB},
    {.name = "unix packets, dealing",
     .format = "unix:/tmp/noria-suite-%u?seqpacket&deal",
     .renews = true,
     .deals = true,
     .longest = MIB},
    {.name = "tcp, dealing", .format = "tcp::%u?deal", .renews = true, .deals = true, .longest = MIB},
    {.name = "mq", .format = "mq:/noria-suite-%u", .renews = true, .keeps_for_nobody = true, .longest = MIB},
    {.name = "mq, short", .format = "mq:/noria-suite-%u", .renews = true, .keeps_for_nobody = true, .longest = 8000},
    {.name = "svmq",
     .format = "svmq:%u",
     .renews = true,
     .keeps_for_nobody = true,
     .has_no_descriptor = true,
     .longest = MIB},
    {.name = "svmq, short",
     .format = "svmq:%u",
     .renews = true,
     .keeps_for_nobody = true,
     .has_no_descriptor = true,
     .longest = 8000},
    {.name = "nats",
     .format = "nats://127.0.0.1:%u/suite.%u?memory",
     .renews = true,
     .keeps_for_nobody = true,
     .is_endless = true,
     .is_served = true,
     .longest = MIB},
};
enum { TRANSPORTS = sizeof(transports) / sizeof(transports[0]) };

static inline const struct transport *named(const char *name)
{
    for (size_t i = 0; i < TRANSPORTS; i++)
        if (strcmp(transports[i].name, name) == 0)
            return &transports[i];
    fail();
    return NULL;
}

static inline int begin(const char *name)
{
    void *transport = (void *)(uintptr_t)named(name);

    return setup(&transport);
}

struct named_test {
    const char *name;
    CMUnitTestFunction run;
};

/* On those that `belong`, NULL: all. NORIA_TRANSPORT_TESTED=NAME: only that one. */
static inline int run_suite_of(const char *group, bool (*belongs)(const struct transport *), const struct named_test *named,
                               size_t n, CMFixtureFunction before, CMFixtureFunction after)
{
    struct CMUnitTest *tests = calloc(n * TRANSPORTS, sizeof(*tests));
    char(*names)[128] = calloc(n * TRANSPORTS, sizeof(*names));
    const char *only = getenv("NORIA_TRANSPORT_TESTED");
    size_t used = 0;
    int failed;

    for (size_t t = 0; t < TRANSPORTS; t++)
        for (size_t i = 0; i < n; i++) {
            if (belongs != NULL && !belongs(&transports[t]))
                continue;
            if (only != NULL ? strcmp(only, transports[t].name) != 0 : transports[t].is_served)
                continue;
            snprintf(names[used], sizeof(names[used]), "%s, %s", named[i].name, transports[t].name);
            tests[used] = (struct CMUnitTest){names[used], named[i].run, before, after,
                                              (void *)(uintptr_t)&transports[t]};
            used++;
        }
    if (only != NULL && strcmp(only, "nats") == 0) {
        nats_extra = "max_payload: 2MB";
        nats_start(1);
    }
    failed = _cmocka_run_group_tests(group, tests, used, NULL, NULL);
    nats_stop();
    free(tests);
    free(names);
    return failed;
}

static inline int run_suite_with(const char *group, const struct named_test *named, size_t n, CMFixtureFunction before,
                                 CMFixtureFunction after)
{
    return run_suite_of(group, NULL, named, n, before, after);
}

static inline int run_suite(const char *group, const struct named_test *named, size_t n)
{
    return run_suite_with(group, named, n, setup, teardown);
}

#endif
