/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a channel without a name goes over a Unix socket to a process that is no child, sealed, once each side
 * knows that the other one is its own user's; whatever else comes over such a socket is refused and leaves no
 * descriptor.
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_SPSC, "anon"}, {NORIA_KIND_SPSC, "memfd"}, {NORIA_KIND_MPMC, "anon"}, {NORIA_KIND_MPMC, "memfd"}, \
    {NORIA_KIND_MPMC, "shm"}
#include "variants_test.h"

#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peers.h"

static int ends[2];

static int with_peers(void **state)
{
    int rc;

    peers_begin();
    rc = setup(state);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    return rc;
}

static int without_peers(void **state)
{
    peers_end();
    close(ends[0]);
    close(ends[1]);
    return teardown(state);
}

static void accept_and_receive(void)
{
    noria_channel *mine = NULL;
    uint8_t bytes[64];

    PEER_REQUIRES(noria_accept(&mine, ends[1], NORIA_RECV, NULL) == 0);
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 10 * SECOND, NULL) == 10);
    say();
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 10 * SECOND, NULL) == -EPIPE); /* the sender closes */
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void channels_go_over_a_socket(void **state)
{
    /* Claim: the receiver of the descriptor takes part like anybody else, after the giver has gone, too. */
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    peer = start_peer(accept_and_receive);
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    send_numbered(1, 10);
    await_peer();
    assert_int_equal(stat_of(ch.tx).receivers, 1);
    close_handle(&ch.tx);
    expect_end(peer);
}

static void what_is_under_way_keeps_nobody_alive(void **state)
{
    /* Claim: a channel that was sent and not yet accepted does not keep its dead giver's place. */
    noria_channel *other = NULL;
    int mine = count_descriptors();

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    close_handle(&ch.tx);
    assert_int_equal(noria_accept(&other, ends[1], NORIA_SEND, NULL), 0);
    assert_int_equal(stat_of(other).senders, 1);
    close_handle(&other);
    assert_int_equal(count_descriptors(), mine);
}

static void credentials_may_come_along(void **state)
{
    /* Claim: a socket whose messages carry credentials as well, for its program's own ends, serves. */
    const int yes = 1;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)), 0);
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    assert_int_equal(noria_accept(&ch.rx, ends[1], NORIA_RECV, NULL), 0);
    send_numbered(1, 8);
    expect(1, 8);
}

static void names_are_not_handed_over(void **state)
{
    /* Claim: a channel with a name is -ENOTSUP. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    assert_fails(noria_share(ch.tx, ends[0]), ENOTSUP);
}

static void send_with(const void *bytes, size_t size, const int *fds, size_t n)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } ancillary;
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    memset(&ancillary, 0, sizeof(ancillary));
    if (n > 0) {
        message.msg_control = ancillary.bytes;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        ancillary.header.cmsg_level = SOL_SOCKET;
        ancillary.header.cmsg_type = SCM_RIGHTS;
        ancillary.header.cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(&ancillary.header), fds, n * sizeof(int));
    }
    assert_int_equal(sendmsg(ends[0], &message, 0), size);
}

static void anything_else_is_refused(void **state)
{
    /* Claim: bytes without a descriptor, descriptors of other things, too many of them, a greeting of another kind:
     * an error code, and no descriptor stays. A closed socket is -EPIPE, silence -ETIMEDOUT, a pipe -ENOTSOCK, TCP
     * -EINVAL. */
    static const uint64_t greeting[2] = {UINT64_C(0x3152485361697230), 3};
    struct noria_options options;
    noria_channel *channel = NULL;
    int pipes[2], before, four[4], tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    before = count_descriptors();
    noria_options_init(&options);
    options.open_timeout_ns = 20 * MS;
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), ETIMEDOUT);
    send_with("0123456789abcdef", 16, NULL, 0);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EBADMSG);
    send_with(greeting, 16, NULL, 0);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EBADMSG);
    send_with("0123456789abcdef", 16, &pipes[0], 1);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EBADMSG);
    send_with(greeting, 8, &pipes[0], 1);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EBADMSG);
    send_with(greeting, 16, &pipes[0], 1);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EINVAL);
    for (int n = 2; n <= 4; n++) {
        four[0] = four[1] = four[2] = four[3] = pipes[0];
        send_with(greeting, 16, four, (size_t)n);
        assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EBADMSG);
        assert_int_equal(count_descriptors(), before);
    }
    assert_fails(noria_accept(&channel, pipes[0], NORIA_RECV, &options), ENOTSOCK);
    assert_fails(noria_accept(&channel, tcp, NORIA_RECV, &options), EINVAL);
    assert_fails(noria_accept(NULL, ends[1], NORIA_RECV, &options), EINVAL);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV | NORIA_CREATE, &options), EINVAL);
    shutdown(ends[0], SHUT_WR);
    assert_fails(noria_accept(&channel, ends[1], NORIA_RECV, &options), EPIPE);
    assert_null(channel);
    assert_int_equal(count_descriptors(), before);
    close(pipes[0]);
    close(pipes[1]);
    close(tcp);
}

/* A socket pair, and a channel sent through it, made by another user; his end goes with him. */
static int socket_of_a_stranger(void)
{
    int pair[2], status;
    pid_t pid;
    int carrier[2];
    char byte = 0;
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } ancillary;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary.bytes,
                             .msg_controllen = sizeof(ancillary.bytes)};
    int got = -1;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, carrier), 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        noria_channel *channel;
        if (setgroups(0, NULL) != 0 || setresgid(65533, 65533, 65533) != 0 || setresuid(65533, 65533, 65533) != 0 ||
            prctl(PR_SET_DUMPABLE, 1) != 0)
            _exit(77);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || noria_open(&channel, "anon:", NORIA_SEND, NULL) != 0 ||
            noria_share(channel, pair[0]) != 0)
            _exit(1);
        ends[0] = carrier[0];
        send_with(&byte, 1, &pair[1], 1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && recvmsg(carrier[1], &message, MSG_CMSG_CLOEXEC) == 1)
        memcpy(&got, CMSG_DATA(&ancillary.header), sizeof(int));
    close(carrier[0]);
    close(carrier[1]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: this needs root\n");
        skip();
    }
    assert_int_equal(status, 0);
    return got;
}

static void strangers_are_refused(void **state)
{
    /* Claim: what another user sends is refused unconditionally by default and taken with options.foreign; nothing
     * of ours is given to him, unless its mode is open to all. */
    struct noria_options options;
    noria_channel *channel = NULL;
    int his = socket_of_a_stranger();

    (void)state;
    noria_options_init(&options);
    options.open_timeout_ns = 20 * MS;
    assert_true(his >= 0);
    assert_fails(noria_accept(&channel, his, NORIA_RECV, &options), EACCES);
    ch.tx = open_handle(NORIA_SEND);
    assert_fails(noria_share(ch.tx, his), EACCES);
    close_handle(&ch.tx);
    ch.options.mode = 0666;
    ch.tx = open_handle(NORIA_SEND);
    assert_fails(noria_share(ch.tx, his), EPIPE); /* he has gone, but it was tried */
    options.foreign = 1;
    assert_int_equal(noria_accept(&channel, his, NORIA_RECV, &options), 0);
    close_handle(&channel);
    close(his);
}

/* ------------------------------------------------------------------------------------------------- unrelated programs */

static const char takes_part[] = "--take-part", is_refused[] = "--be-refused";

/* Runs this program anew, with its end of the socket; an orphan, so that nobody is anybody's descendant. */
static void start_unrelated(const char *what)
{
    char socket[16];
    pid_t between;

    snprintf(socket, sizeof(socket), "%d", ends[1]);
    fflush(NULL);
    between = fork();
    assert_true(between >= 0);
    if (between == 0) {
        if (fork() == 0) {
            fcntl(ends[1], F_SETFD, 0);
            execl("/proc/self/exe", "share_test", what, socket, (char *)NULL);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(between, NULL, 0), between);
}

static bool becomes_readable(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    return poll(&entry, 1, 20000) == 1;
}

static void tell(int socket, char word)
{
    PEER_REQUIRES(write(socket, &word, 1) == 1);
}

static char next_word(int socket)
{
    char word = 0;

    return becomes_readable(socket) && read(socket, &word, 1) == 1 ? word : '?';
}

/* What the unrelated program does. */
static int take_part(int socket)
{
    noria_channel *mine = NULL;
    uint8_t bytes[64];
    int fd;

    alarm(60);
    PEER_REQUIRES(noria_accept(&mine, socket, NORIA_RECV, NULL) == 0);
    fd = noria_fd(mine, NORIA_RECV);
    PEER_REQUIRES(fd >= 0);
    tell(socket, 'a'); /* armed */
    PEER_REQUIRES(becomes_readable(fd));
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 0, NULL) == 10);
    tell(socket, 'r'); /* received */
    PEER_REQUIRES(next_word(socket) == 'f');
    while (noria_recv(mine, bytes, sizeof(bytes), 0, NULL) >= 0)
        continue;
    tell(socket, 'd'); /* drained */
    PEER_REQUIRES(noria_close(mine) == 0);
    return 0;
}

static void descriptors_tell_unrelated_programs(void **state)
{
    /* Claim: noria_fd of a channel without a name works between programs that were started apart, on both sides: each takes
     * the descriptor of the other's side from the other. */
    int fd;

    (void)state;
    if (!may_trace_the_unrelated()) {
        print_message("skipped: no right to take a descriptor from another process\n");
        skip();
    }
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    start_unrelated(takes_part);
    fd = noria_fd(ch.tx, NORIA_SEND);
    assert_true(fd >= 0);
    assert_int_equal(next_word(ends[0]), 'a');
    send_numbered(1, 10);
    assert_int_equal(next_word(ends[0]), 'r');
    while (try_send(2, 10) == 0)
        continue;
    tell(ends[0], 'f'); /* full */
    assert_true(becomes_readable(fd));
    assert_int_equal(next_word(ends[0]), 'd');
    assert_int_equal(try_send(3, 10), 0);
}

/* A program that may not trace the one it got the channel from. */
static int be_refused(int socket)
{
    noria_channel *mine = NULL;
    uint8_t bytes[64];

    alarm(60);
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(65533, 65533, 65533) != 0 ||
                           setresuid(65533, 65533, 65533) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0)) {
        tell(socket, 's'); /* skip */
        return 0;
    }
    PEER_REQUIRES(noria_accept(&mine, socket, NORIA_RECV, NULL) == 0);
    PEER_REQUIRES(noria_fd(mine, NORIA_RECV) == -EPERM);
    PEER_REQUIRES(strstr(noria_detail(), "permission to trace it is missing") != NULL);
    tell(socket, 'e'); /* an error */
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 20 * SECOND, NULL) == 10);
    tell(socket, 'r');
    PEER_REQUIRES(noria_close(mine) == 0);
    return 0;
}

static void descriptors_that_may_not_be_taken_are_refused(void **state)
{
    /* Claim (MPMC): where the descriptor would have to be taken from a process that may not be traced, noria_fd is -EPERM with
     * a sentence, and calls wait as ever. */
    char word;

    (void)state;
    ch.options.mode = 0666;
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
    assert_true(noria_fd(ch.rx, NORIA_RECV) >= 0);
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    assert_int_equal(prctl(PR_SET_DUMPABLE, 0), 0);
    start_unrelated(is_refused);
    word = next_word(ends[0]);
    assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
    if (word == 's') {
        print_message("skipped: root, and no other user can be taken on\n");
        skip();
    }
    assert_int_equal(word, 'e');
    send_numbered(1, 10);
    assert_int_equal(next_word(ends[0]), 'r');
}

/* ------------------------------------------------------------------------------------------------- what the system refuses */

static int send_error, receive_error, poll_error; /* of the next call */

static int take(int *error)
{
    int taken = *error;

    *error = 0;
    errno = taken;
    return taken;
}

/* In place of the C library's, for the library under test, too. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return take(&send_error) != 0 ? -1 : (ssize_t)syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return take(&receive_error) != 0 ? -1 : (ssize_t)syscall(SYS_recvmsg, fd, message, flags);
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    struct timespec left = timeout != NULL ? *timeout : (struct timespec){0};

    return take(&poll_error) != 0 ? -1 : (int)syscall(SYS_ppoll, fds, n, timeout != NULL ? &left : NULL, mask, 8);
}

static void refused_calls_are_told(void **state)
{
    /* Claim: what the system refuses of handing over is an error with a sentence, an interruption is none; nothing is left,
     * and the next try succeeds. */
    noria_channel *theirs = NULL;
    struct rlimit limit, none;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_error = ENOBUFS;
    assert_fails(noria_share(ch.tx, ends[0]), ENOBUFS);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_fails(noria_share(ch.tx, ends[0]), EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_fails(noria_accept(&theirs, ends[1], NORIA_RECV, NULL), ETIMEDOUT); /* nothing of it went */
    assert_int_equal(noria_share(ch.tx, ends[0]), 0);
    poll_error = EIO;
    assert_fails(noria_accept(&theirs, ends[1], NORIA_RECV, NULL), EIO);
    receive_error = ECONNRESET;
    assert_fails(noria_accept(&theirs, ends[1], NORIA_RECV, NULL), ECONNRESET);
    assert_null(theirs);
    poll_error = EINTR;
    assert_int_equal(noria_accept(&theirs, ends[1], NORIA_RECV, NULL), 0);
    close_handle(&theirs);
    close(ends[0]);
    assert_fails(noria_accept(&theirs, ends[1], NORIA_RECV, NULL), EPIPE);
    assert_fails(noria_share(ch.tx, ends[1]), EPIPE);
    ends[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_fails(noria_share(ch.tx, ends[0]), ENOTSOCK);
    assert_fails(noria_accept(&theirs, ends[0], NORIA_RECV, NULL), ENOTSOCK);
}

int main(int argc, char **argv)
{
    static const struct named_test tests[] = {
        {"channels_go_over_a_socket", channels_go_over_a_socket, 0, "anon, memfd"},
        {"what_is_under_way_keeps_nobody_alive", what_is_under_way_keeps_nobody_alive, 0, "anon, memfd"},
        AT("shm", names_are_not_handed_over),
        {"descriptors_tell_unrelated_programs", descriptors_tell_unrelated_programs, 0, "anon, memfd"},
        {"descriptors_that_may_not_be_taken_are_refused", descriptors_that_may_not_be_taken_are_refused,
         NORIA_KIND_MPMC, "anon, memfd"},
        ONCE(credentials_may_come_along),
        ONCE(anything_else_is_refused),
        ONCE(strangers_are_refused),
        ONCE(refused_calls_are_told),
    };

    if (argc == 3 && strcmp(argv[1], takes_part) == 0)
        return take_part(atoi(argv[2]));
    if (argc == 3 && strcmp(argv[1], is_refused) == 0)
        return be_refused(atoi(argv[2]));
    return run_variants_with("share", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
