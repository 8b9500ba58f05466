/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages that bring descriptors: Unix sockets of both kinds, listening and passed; all others refuse. */
#include "suite.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "frame.h"

enum { NOBODY = 65534, HELLO_BYTES = NORIA_FRAME_HEADER + NORIA_FRAME_TAIL_BYTES, FULL_READ = 128 * KIB };

/* ------------------------------------------------------------------------------------------------ things to be sent */

/* A file with a number in it. */
static int make_thing(uint32_t number)
{
    int fd = memfd_create("thing", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &number, sizeof(number), 0), sizeof(number));
    return fd;
}

static bool is_thing(int fd, uint32_t number)
{
    uint32_t found = ~number;

    return pread(fd, &found, sizeof(found), 0) == sizeof(found) && found == number;
}

static void close_all(const int *fds, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(close(fds[i]), 0);
}

/* A message with its number and as many things, numbered on from there; the sender's own are closed when it is sent. */
static int send_things(noria_channel *channel, uint32_t number, uint32_t len, int n, int64_t timeout_ns)
{
    static uint8_t bytes[MIB];
    int fds[NORIA_MOST_FDS], rc;

    for (int i = 0; i < n; i++)
        fds[i] = make_thing(number * 100 + (uint32_t)i);
    fill(bytes, 1, number, len);
    rc = noria_send_fds(channel, bytes, len, fds, n, timeout_ns);
    close_all(fds, n);
    return rc;
}

/* Receives that message; what it brings is whole, closed on exec, and nothing else. */
static struct noria_info expect_things(uint32_t number, uint32_t len, int n)
{
    int fds[NORIA_MOST_FDS], got = NORIA_MOST_FDS;
    struct noria_info info = {0};
    ssize_t rc = noria_recv_fds(it.rx, received, sizeof(received), fds, &got, A_WHILE, &info);

    if (rc < 0)
        print_message("message %u of %u bytes with %d: %zd, %s\n", number, len, n, rc, noria_detail());
    assert_int_equal(rc, len);
    assert_true(is_message(received, (size_t)rc, 1, number, len));
    assert_int_equal(got, n);
    assert_int_equal(info.flags & NORIA_FDS, n > 0 ? NORIA_FDS : 0);
    for (int i = 0; i < n; i++) {
        assert_true(is_thing(fds[i], number * 100 + (uint32_t)i));
        assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
    }
    close_all(fds, n);
    return info;
}

/* One is through, so the connection is there, and nothing lies in it; each side has waited, so it has what it waits at. */
static void begin_with_one(void)
{
    open_pair();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
    assert_true(noria_fd(it.tx, NORIA_SEND) >= 0 && noria_fd(it.rx, NORIA_RECV) >= 0);
}

static bool is_listening(void)
{
    return !it.transport->by_descriptors;
}

static bool is_packets(void)
{
    return strstr(it.transport->name, "packets") != NULL;
}

static uint32_t longest_frame(void)
{
    return (uint32_t)((is_packets() ? 32 : 64) * KIB - NORIA_FRAME_HEADER -
                      (strcmp(it.transport->name, "fd of a stream") == 0 ? NORIA_FRAME_TAIL_BYTES : 0));
}

/* --------------------------------------------------------------------------------------------------------- promises */

static void messages_bring_descriptors(void **state)
{
    /* Claim: a message of any length that fits into a frame brings as many descriptors as it may, in order, as
     * duplicates; one without brings none. What is too long, or not open, is refused with a sentence, and nothing goes. */
    const uint32_t lengths[] = {0, 1, 12, 1000, 1024, 1025, 20000, longest_frame()};
    int wrong[3] = {0, 999, 1}, many[NORIA_MOST_FDS + 1] = {0};
    uint32_t number = 1;

    (void)state;
    begin_with_one();
    assert_true(can(it.tx, NORIA_CAN_FDS) && can(it.rx, NORIA_CAN_FDS));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        for (int n = 0; n <= NORIA_MOST_FDS; n += n < 2 ? 1 : NORIA_MOST_FDS - 2) {
            int before = count_descriptors();
            if (n == 0)
                assert_int_equal(send_numbered(it.tx, 1, number, lengths[i], A_WHILE), 0);
            else
                assert_int_equal(send_things(it.tx, number, lengths[i], n, A_WHILE), 0);
            expect_things(number++, lengths[i], n);
            assert_int_equal(count_descriptors(), before);
        }
    assert_fails(send_things(it.tx, number, longest_frame() + 1, 1, 0), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "one frame"));
    assert_fails(noria_send_fds(it.tx, "x", 1, wrong, 3, 0), EBADF);
    assert_non_null(strstr(noria_detail(), "descriptor 999, number 2 of 3"));
    assert_fails(noria_send_fds(it.tx, "x", 1, many, NORIA_MOST_FDS + 1, 0), EINVAL);
    assert_int_equal(send_things(it.tx, number, 5, 1, A_WHILE), 0);
    assert_int_equal(expect_things(number, 5, 1).flags, NORIA_FDS);
    assert_int_equal(stat_of(it.rx).dropped_fds, 0);
}

static void batch(uint32_t first, int n, uint32_t len)
{
    static uint8_t bytes[64][1000];
    struct iovec messages[64];

    for (int i = 0; i < n; i++) {
        fill(bytes[i], 1, first + (uint32_t)i, len);
        messages[i] = (struct iovec){bytes[i], len};
    }
    assert_int_equal(noria_send_many(it.tx, messages, n, A_WHILE), n);
}

static void they_stand_in_order(void **state)
{
    /* Claim: messages with descriptors stand among others as they were sent, each with its own, also where one read would
     * bring many; messages of several frames between them come, too. */
    static const int things[] = {0, 1, 3, 0, 0, NORIA_MOST_FDS, 1, 1, 0, 2};
    enum { STEPS = sizeof(things) / sizeof(things[0]), IN_BATCH = 7 };
    uint32_t number = 1;

    (void)state;
    begin_with_one();
    for (int round = 0; round < 20; round++) {
        uint32_t sent = number, len = (uint32_t)(round * 37 % 400);
        for (int i = 0; i < STEPS; i++) {
            if (things[i] > 0) {
                assert_int_equal(send_things(it.tx, sent++, len, things[i], A_WHILE), 0);
                continue;
            }
            batch(sent, IN_BATCH, len);
            sent += IN_BATCH;
        }
        for (int i = 0; i < STEPS; i++) {
            for (int of_batch = 0; things[i] == 0 && of_batch < IN_BATCH; of_batch++)
                assert_int_equal(expect_things(number++, len, 0).flags, 0);
            if (things[i] > 0)
                assert_int_equal(expect_things(number++, len, things[i]).flags, NORIA_FDS);
        }
        assert_int_equal(number, sent);
        fill(received, 1, number, 20); /* what was gathered goes first */
        assert_int_equal(noria_gather(it.tx, received, 20, 0, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, number + 1, 10, 1, A_WHILE), 0);
        expect_things(number++, 20, 0);
        expect_things(number++, 10, 1);
        if (is_packets())
            continue;
        assert_int_equal(send_numbered(it.tx, 1, number, 70000, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, number + 1, 10, 2, A_WHILE), 0);
        expect_things(number++, 70000, 0);
        expect_things(number++, 10, 2);
    }
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
    assert_int_equal(stat_of(it.rx).dropped_fds, 0);
}

static void full_reads_cut_anywhere(void **state)
{
    /* Claim: wherever a read that has filled its room ends, in what says that descriptors will come or in the message that
     * brings them, they come. */
    enum { LEN = 40 };

    (void)state;
    open_receiver();
    for (uint32_t i = 2; i < 2 * (HELLO_BYTES + NORIA_FRAME_HEADER + LEN); i++) {
        uint32_t second = FULL_READ - 64 * KIB - NORIA_FRAME_HEADER - i / 2;
        it.tx = open_handle(NORIA_SEND);
        assert_int_equal(i % 2 == 0 ? send_numbered(it.tx, 1, 0, 100, A_WHILE) : send_things(it.tx, 0, 100, 1, A_WHILE), 0);
        expect_things(0, 100, i % 2);
        assert_int_equal(send_numbered(it.tx, 1, 1, longest_frame(), A_WHILE), 0);
        assert_int_equal(send_numbered(it.tx, 1, 2, second, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, 3, LEN, 2, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, 4, LEN, 1, A_WHILE), 0);
        expect_things(1, longest_frame(), 0);
        expect_things(2, second, 0);
        expect_things(3, LEN, 2);
        expect_things(4, LEN, 1);
        close_handle(&it.tx);
    }
    assert_int_equal(stat_of(it.rx).strangers, 0);
}

enum { SENDERS = 4, OF_EACH = 300 };

static int be_a_sender(void)
{
    for (uint32_t i = 0; i < OF_EACH; i++) {
        uint32_t number = (uint32_t)getpid() % 100000 * 1000 + i;
        int n = (int)(i % 4);
        if (i == 0)
            CHILD_REQUIRES(try_open(&it.tx, NORIA_SEND) == 0);
        CHILD_REQUIRES((n == 0 ? send_numbered(it.tx, 1, number, 50, A_WHILE)
                               : send_things(it.tx, number, 50, n, A_WHILE)) == 0);
    }
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void many_senders_have_their_own(void **state)
{
    /* Claim: of several senders at a time each message brings its own descriptors, and those of one sender are in order. */
    int64_t until_ns = now_ns() + 2 * A_WHILE;
    pid_t children[SENDERS];
    int before;

    (void)state;
    it.rx = open_handle(NORIA_RECV);
    it.tx = open_handle(NORIA_SEND); /* somebody is there all the time */
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
    assert_true(noria_fd(it.rx, NORIA_RECV) >= 0);
    before = count_descriptors();
    for (int i = 0; i < SENDERS; i++)
        children[i] = start(be_a_sender);
    for (uint32_t i = 0; i < SENDERS * OF_EACH; i++) {
        int fds[NORIA_MOST_FDS], n = NORIA_MOST_FDS;
        struct stamp stamp;
        ssize_t len = noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, NULL);
        assert_int_equal(len, 50);
        assert_true(is_sound(received, 50, &stamp));
        assert_int_equal(n, stamp.number % 1000 % 4);
        for (int each = 0; each < n; each++)
            assert_true(is_thing(fds[each], stamp.number * 100 + (uint32_t)each));
        close_all(fds, n);
    }
    for (int i = 0; i < SENDERS; i++)
        expect_end(children[i]);
    do
        assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
    while (count_descriptors() != before && now_ns() < until_ns);
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(stat_of(it.rx).dropped_fds, 0);
}

/* The end of a pipe to read, whose other one goes with a message and is left nowhere else. */
static int send_pipe(uint32_t number)
{
    int ends[2];
    uint8_t bytes[10];

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    fill(bytes, 1, number, sizeof(bytes));
    assert_int_equal(noria_send_fds(it.tx, bytes, sizeof(bytes), &ends[1], 1, A_WHILE), 0);
    close(ends[1]);
    return ends[0];
}

static bool is_closed(int pipe)
{
    char byte;

    return read(pipe, &byte, 1) == 0;
}

static void other_receives_close_them(void **state)
{
    /* Claim: noria_recv, recv_many, the release of a peeked message and noria_close close what a message has brought, which
     * info and noria_stat tell; until then it is there. */
    struct iovec buffer = {received, sizeof(received)};
    struct noria_span span;
    struct noria_info info;
    int pipe;

    (void)state;
    begin_with_one();
    pipe = send_pipe(1);
    assert_int_equal(expect(1, 1, 10).flags, NORIA_FDS);
    assert_true(is_closed(pipe));
    close(pipe);

    pipe = send_pipe(2);
    assert_int_equal(noria_recv_many(it.rx, &buffer, 1, A_WHILE, &info), 1);
    assert_int_equal(info.flags, NORIA_FDS);
    assert_true(is_closed(pipe));
    close(pipe);

    pipe = send_pipe(3);
    assert_int_equal(noria_peek(it.rx, &span, A_WHILE, &info), 0);
    assert_int_equal(info.flags, NORIA_FDS);
    assert_false(is_closed(pipe));
    assert_int_equal(noria_release(it.rx, &span), 0);
    assert_true(is_closed(pipe));
    close(pipe);
    assert_int_equal(stat_of(it.rx).dropped_fds, 3);

    assert_int_equal(noria_wait_any(&(struct noria_ready){.channel = it.rx, .side = NORIA_RECV}, 1, 0), 0);
    pipe = send_pipe(4);
    assert_int_equal(noria_wait_any(&(struct noria_ready){.channel = it.rx, .side = NORIA_RECV}, 1, A_WHILE), 1);
    assert_false(is_closed(pipe));
    close_handle(&it.rx);
    assert_true(is_closed(pipe));
    close(pipe);
}

static void too_little_room(void **state)
{
    /* Claim: a message with more bytes, or more descriptors, than there is room for is -EMSGSIZE with a sentence, changes
     * nothing and stays first, with all it has; one that somebody holds is -EBUSY. */
    struct noria_span span;
    int fds[NORIA_MOST_FDS], n = 2, before;

    (void)state;
    begin_with_one();
    before = count_descriptors();
    assert_int_equal(send_things(it.tx, 1, 100, 3, A_WHILE), 0);
    memset(fds, 0x55, sizeof(fds));
    assert_fails(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, NULL), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "3 descriptors"));
    assert_int_equal(n, 2);
    assert_int_equal(fds[0], 0x55555555);
    n = 0;
    assert_fails(noria_recv_fds(it.rx, received, sizeof(received), NULL, &n, 0, NULL), EMSGSIZE);
    n = 3;
    assert_fails(noria_recv_fds(it.rx, received, 99, fds, &n, 0, NULL), EMSGSIZE);
    assert_int_equal(noria_peek(it.rx, &span, 0, NULL), 0);
    n = 0;
    assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), NULL, &n, 0, NULL), -EBUSY);
    assert_int_equal(noria_release(it.rx, &span), 0);
    assert_int_equal(send_things(it.tx, 2, 100, 3, A_WHILE), 0);
    n = 2;
    assert_fails(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, NULL), EMSGSIZE);
    expect_things(2, 100, 3);
    assert_int_equal(send_numbered(it.tx, 1, 3, 100, A_WHILE), 0);
    n = 0;
    assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), NULL, &n, A_WHILE, NULL), 100);
    assert_int_equal(count_descriptors(), before);
}

/* This process may open so many files more, or as many as before (-1). */
static void limit_descriptors(int more)
{
    static struct rlimit before;
    struct rlimit limit;
    int last = -1;

    if (more < 0) {
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        return;
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0, fds[NORIA_MOST_FDS]; i <= more; i++) {
        last = fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        for (int each = 0; i == more && each <= i; each++)
            close(fds[each]);
    }
    limit = (struct rlimit){(rlim_t)last, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void who_can_take_no_more(void **state)
{
    /* Claim: a receiver whose process may open too few files more gets the message, is told by *n that what it brought is
     * lost, and keeps none of it; the next message is a message as any. */
    int before;

    (void)state;
    begin_with_one();
    assert_int_equal(send_things(it.tx, 1, 100, 1, A_WHILE), 0); /* from here on it asks */
    expect_things(1, 100, 1);
    before = count_descriptors();
    for (int more = 0; more < 4; more++) {
        int fds[NORIA_MOST_FDS], n = NORIA_MOST_FDS;
        uint32_t number = 2 + 2 * (uint32_t)more;
        struct noria_info info;
        assert_int_equal(send_things(it.tx, number, 100, 3, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, number + 1, 100, 1, A_WHILE), 0);
        limit_descriptors(more);
        assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, &info), 100);
        limit_descriptors(-1);
        assert_true(is_message(received, 100, 1, number, 100));
        assert_int_equal(info.flags, NORIA_FDS);
        assert_int_equal(n, more < 3 ? -EMFILE : 3);
        close_all(fds, n > 0 ? n : 0);
        expect_things(number + 1, 100, 1);
        assert_int_equal(count_descriptors(), before);
    }
    assert_int_equal(stat_of(it.rx).dropped_fds, 9);
}

static void room_for_none_is_told(void **state)
{
    /* Claim: a full socket takes a message with its descriptors wholly or not at all: each that was sent comes once, each
     * that was refused never, whatever the timeout. */
    uint32_t sent = 1, refused = 0;
    int before;

    (void)state;
    begin_with_one();
    before = count_descriptors();
    for (uint32_t number = 1; number < 3000; number++) {
        int rc = send_things(it.tx, sent, 2000, 2, number % 3 == 0 ? MS / 4 : 0);
        assert_true(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        sent += rc == 0;
        refused += rc != 0;
        if (rc != 0 && refused % 20 != 0)
            continue;
        for (; rc != 0 && sent > 20; sent = 1) /* some are read, and numbered anew */
            for (uint32_t each = 1; each < sent; each++)
                expect_things(each, 2000, 2);
    }
    for (uint32_t each = 1; each < sent; each++)
        expect_things(each, 2000, 2);
    assert_true(refused > 20);
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(stat_of(it.rx).dropped_fds, 0);
}

static int send_too_many(void)
{
    const struct rlimit few = {64, 64};
    int rc = 0;

    if (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return 77;
    it.options.foreign = 1;
    CHILD_REQUIRES(try_open(&it.tx, NORIA_SEND) == 0);
    CHILD_REQUIRES(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (uint32_t i = 0; i < 30 && rc == 0; i++)
        rc = send_things(it.tx, i, 10, NORIA_MOST_FDS, A_WHILE);
    CHILD_REQUIRES(rc == -ETOOMANYREFS && strstr(noria_detail(), "under way") != NULL);
    return noria_close(it.tx);
}

static void too_many_under_way(void **state)
{
    /* Claim: a user who has as many descriptors under way as he may have open is told so, at once; what went comes. */
    pid_t child;
    int status;

    (void)state;
    it.options.mode = 0666;
    it.options.foreign = 1;
    open_receiver();
    child = start(send_too_many);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
    close_end(1);
    for (uint32_t i = 0; i < 4; i++)
        expect_things(i, 10, NORIA_MOST_FDS);
}

/* ------------------------------------------------------------------------------------------------ cuts and deaths */

/* The next put of this process: at most so many bytes of it go, with all that it brings; then it dies, or goes on. */
static struct {
    int puts_before;
    size_t most_bytes;
    bool dies;
} cut = {.puts_before = -1};

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct msghdr some = *message;
    uint8_t bytes[128 * KIB];
    struct iovec piece = {bytes, 0};
    ssize_t rc;

    if (cut.puts_before < 0 || cut.puts_before-- > 0)
        return syscall(SYS_sendmsg, fd, message, flags);
    for (size_t i = 0; i < message->msg_iovlen; piece.iov_len += message->msg_iov[i++].iov_len)
        memcpy(bytes + piece.iov_len, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    piece.iov_len = piece.iov_len < cut.most_bytes ? piece.iov_len : cut.most_bytes;
    some.msg_iov = &piece;
    some.msg_iovlen = 1;
    rc = syscall(SYS_sendmsg, fd, &some, flags);
    if (cut.dies)
        raise(SIGKILL);
    return rc;
}

enum { OF_CUT = 30 };

static size_t frame_of_cut(void)
{
    return NORIA_FRAME_HEADER + OF_CUT + (strncmp(it.address, "fd", 2) == 0 ? NORIA_FRAME_TAIL_BYTES : 0);
}

static void short_writes_bring_them_once(void **state)
{
    /* Claim: of a put with descriptors that the kernel takes a part of, wherever it ends, the rest follows without, and the
     * message comes once, with them; so it does if what says that they will come is cut. */
    uint32_t number = 1;
    int before;

    (void)state;
    begin_with_one();
    before = count_descriptors();
    for (size_t taken = 1; taken < HELLO_BYTES; taken++) {
        if (is_listening()) { /* it is said once a connection */
            close_handle(&it.tx);
            assert_int_equal(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), -EPIPE);
            it.tx = open_handle(NORIA_SEND);
            assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
            expect(1, 0, 100);
            assert_true(noria_fd(it.tx, NORIA_SEND) >= 0);
        }
        cut.puts_before = 0;
        cut.most_bytes = taken;
        assert_int_equal(send_things(it.tx, number, OF_CUT, 2, A_WHILE), 0);
        assert_int_equal(cut.puts_before, -1);
        assert_int_equal(expect_things(number++, OF_CUT, 2).flags, NORIA_FDS);
    }
    for (size_t taken = 1; taken < frame_of_cut(); taken++) {
        cut.puts_before = is_listening() ? 0 : 1;
        cut.most_bytes = taken;
        assert_int_equal(send_things(it.tx, number, OF_CUT, 2, A_WHILE), 0);
        assert_int_equal(cut.puts_before, -1);
        expect_things(number++, OF_CUT, 2);
    }
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(stat_of(it.rx).dropped_fds, 0);
}

/* Dies in the put before the last one of two messages, the first of which is whole. */
static int die_in_a_put(void)
{
    int puts_before = cut.puts_before;

    cut.puts_before = -1;
    CHILD_REQUIRES(try_open(&it.tx, NORIA_SEND) == 0);
    CHILD_REQUIRES(send_numbered(it.tx, 1, 1, 10, A_WHILE) == 0);
    CHILD_REQUIRES(send_things(it.tx, 2, 10, 1, A_WHILE) == 0);
    cut.puts_before = puts_before;
    cut.dies = true;
    send_things(it.tx, 3, OF_CUT, NORIA_MOST_FDS, A_WHILE);
    return 1;
}

static void killed_in_the_middle(void **state)
{
    /* Claim: a sender killed with a part of a message's bytes under way, however many, leaves its receiver no descriptor of
     * that message; what it had sent before comes, with them. */
    int before, n = 1, fd;

    (void)state;
    it.rx = open_handle(NORIA_RECV);
    assert_true(noria_fd(it.rx, NORIA_RECV) >= 0);
    if (is_listening()) { /* somebody is there all the time */
        it.tx = open_handle(NORIA_SEND);
        assert_int_equal(send_numbered(it.tx, 1, 0, 10, A_WHILE), 0);
        expect_things(0, 10, 0);
    }
    before = count_descriptors();
    for (size_t taken = 1; taken <= frame_of_cut(); taken++) {
        struct noria_info info;
        bool comes = taken == frame_of_cut();
        int64_t until_ns = now_ns() + A_WHILE;
        pid_t child;
        cut.puts_before = is_listening() ? 0 : 1;
        cut.most_bytes = taken;
        child = start(die_in_a_put);
        cut.puts_before = -1;
        expect_things(1, 10, 0);
        expect_things(2, 10, 1);
        assert_int_equal(waitpid(child, NULL, 0), child);
        if (comes)
            expect_things(3, OF_CUT, NORIA_MOST_FDS);
        do
            assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), &fd, &n, 0, &info), -EAGAIN);
        while (is_listening() && count_descriptors() != before && now_ns() < until_ns);
        if (is_listening()) {
            assert_int_equal(count_descriptors(), before);
            continue;
        }
        close_handle(&it.rx); /* the socket stays open: half a frame in it waits for its rest */
        it.rx = open_handle(NORIA_RECV);
        assert_true(noria_fd(it.rx, NORIA_RECV) >= 0);
        assert_int_equal(count_descriptors(), before);
    }
}

static void no_growth(void **state)
{
    /* Claim: after many rounds, with each way to receive, this process has as many descriptors open as before. */
    uint32_t rounds = is_long() ? 100000 : 4000;
    int before;

    (void)state;
    begin_with_one();
    before = count_descriptors();
    for (uint32_t i = 1; i <= rounds; i++) {
        assert_int_equal(send_things(it.tx, i, i % 300, 1 + (int)(i % NORIA_MOST_FDS), A_WHILE), 0);
        if (i % 3 == 0)
            expect(1, i, i % 300);
        else
            expect_things(i, i % 300, 1 + (int)(i % NORIA_MOST_FDS));
    }
    assert_int_equal(count_descriptors(), before);
}

/* ---------------------------------------------------------------------------------------------------------- children */

/* Says that it is there, and stays until it is told. */
static int live_until_told(int fd)
{
    char byte = 0;

    return write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1 ? 0 : 1;
}

static void children_have_none_of_them(void **state)
{
    /* Claim: what a receiver has taken in and not given out is not open in a child of a fork, whether that closes the
     * inherited handle or not; the parent's is untouched. */
    int pipe, told[2];
    char byte;
    struct noria_span span;
    pid_t child;

    (void)state;
    begin_with_one();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, told), 0);
    pipe = send_pipe(1);
    assert_int_equal(noria_peek(it.rx, &span, A_WHILE, NULL), 0); /* it is in this process now */
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(live_until_told(told[1]));
    }
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_false(is_closed(pipe));
    assert_int_equal(noria_release(it.rx, &span), 0);
    assert_true(is_closed(pipe)); /* and the child lives */
    close(pipe);
    assert_int_equal(write(told[0], "x", 1), 1);
    expect_end(child);
    close(told[0]);
    close(told[1]);
    assert_int_equal(send_things(it.tx, 2, 10, 1, A_WHILE), 0);
    expect_things(2, 10, 1);
}

static void the_next_receiver_takes_them(void **state)
{
    /* Claim: behind a socket that was passed a handle that takes over gets descriptors, too, although its predecessor had
     * been told that there would be some; so it is for a new listener. */
    (void)state;
    it.tx = open_handle(NORIA_SEND);
    for (uint32_t i = 0; i < 20; i++) {
        it.rx = open_handle(NORIA_RECV);
        if (is_listening() && i > 0)
            assert_int_equal(send_things(it.tx, 3 * i, 10, 1, A_WHILE), -EPIPE);
        assert_int_equal(send_things(it.tx, 3 * i, 10, 1, A_WHILE), 0);
        assert_int_equal(send_things(it.tx, 3 * i + 1, 10, 2, A_WHILE), 0);
        expect_things(3 * i, 10, 1);
        expect_things(3 * i + 1, 10, 2);
        close_handle(&it.rx);
    }
}

/* --------------------------------------------------------------------------------------------------------- strangers */

static int connect_stranger(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, (is_packets() ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%.*s", (int)strcspn(it.address + 5, "?"), it.address + 5);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Bytes, and with them `n` descriptors of nothing much. */
static void put(int fd, const void *bytes, size_t len, int n)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(300 * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec piece = {(void *)(uintptr_t)bytes, len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    if (n > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN((size_t)n * sizeof(int)), .cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS};
        for (int i = 0; i < n; i++)
            memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
    }
    assert_int_equal(syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL), len);
}

/* A frame that says what it likes. */
static size_t make_frame(uint8_t *to, uint8_t flags, uint32_t claimed, uint64_t sequence, uint32_t len)
{
    struct noria_frame frame = {.flags = flags, .length = len, .total = len, .offset = claimed, .sender = 77,
                                .sequence = sequence};
    uint32_t tail;

    noria_frame_seal(&frame, to);
    fill(to + NORIA_FRAME_HEADER, 1, (uint32_t)sequence, len);
    tail = noria_frame_tail(&frame);
    if (noria_frame_has_tail(&frame))
        memcpy(to + NORIA_FRAME_HEADER + len, &tail, sizeof(tail));
    return noria_frame_size(&frame);
}

static void announce(int fd)
{
    uint8_t hello[HELLO_BYTES];

    put(fd, hello, make_frame(hello, NORIA_FRAME_HELLO | NORIA_FRAME_FDS, 1, 0, 0), 1);
}

static struct {
    uint32_t good; /* messages of a sender of ours */
    int before;
} at;

/* A sender of ours gets through. */
static void ours_comes(void)
{
    at.good++;
    assert_int_equal(send_things(it.tx, at.good, 10, 1, A_WHILE), 0);
    expect_things(at.good, 10, 1);
}

/* Ours come until so many descriptors are open here. */
static void await_descriptors(int n)
{
    int64_t until_ns = now_ns() + A_WHILE;

    do
        ours_comes();
    while (count_descriptors() != n && now_ns() < until_ns);
    assert_int_equal(count_descriptors(), n);
}

/* What was sent there made its sender a stranger, of whom nothing is left. */
static void expect_stranger(int fd)
{
    uint64_t strangers = stat_of(it.rx).strangers;
    int64_t until_ns = now_ns() + A_WHILE;

    do
        ours_comes();
    while (stat_of(it.rx).strangers == strangers && now_ns() < until_ns);
    assert_int_equal(stat_of(it.rx).strangers, strangers + 1);
    close(fd);
    assert_int_equal(count_descriptors(), at.before);
}

static void strangers_leave_nothing(void **state)
{
    /* Claim: descriptors that come without a frame, with one that does not say so, with one that says more or less, that
     * nobody has announced, or in several sets, make a stranger of who sends them; none of them stays open, and others'
     * messages come. */
    static const struct {
        const char *what;
        bool announces;
        uint8_t flags;
        uint32_t claimed;
        int brings;
    } cases[] = {{"none came", true, NORIA_FRAME_FDS, 1, 0},
                 {"fewer came", true, NORIA_FRAME_FDS, 3, 2},
                 {"more came", true, NORIA_FRAME_FDS, 3, 4},
                 {"more than any may have came", true, NORIA_FRAME_FDS, NORIA_MOST_FDS, NORIA_MOST_FDS + 1},
                 {"as many came as the kernel takes", true, NORIA_FRAME_FDS, NORIA_MOST_FDS, 253},
                 {"as many are claimed", true, NORIA_FRAME_FDS, 253, 253},
                 {"none are claimed", true, NORIA_FRAME_FDS, 0, 1},
                 {"nobody has announced them", false, NORIA_FRAME_FDS, 1, 1},
                 {"a cut frame", true, NORIA_FRAME_FDS | NORIA_FRAME_TAIL, 1, 1},
                 {"an unknown flag", true, NORIA_FRAME_FDS | 16, 1, 1},
                 {"a greeting with too many", true, NORIA_FRAME_FDS | NORIA_FRAME_HELLO, 1, 2}};
    uint8_t frame[200];

    (void)state;
    begin_with_one();
    at.good = 0;
    ours_comes();
    at.before = count_descriptors();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t len = (cases[i].flags & NORIA_FRAME_HELLO) != 0 ? 0 : 20;
        int fd = connect_stranger();
        print_message("%s\n", cases[i].what);
        if (cases[i].announces)
            announce(fd);
        put(fd, frame, make_frame(frame, cases[i].flags, cases[i].claimed, 0, len), cases[i].brings);
        expect_stranger(fd);
    }
}

static void rubbish_brings_nothing(void **state)
{
    /* Claim: so it is with rubbish that brings some, before and after they were announced. */
    (void)state;
    begin_with_one();
    at.good = 0;
    ours_comes();
    at.before = count_descriptors();
    for (int announces = 0; announces < 2; announces++) {
        int fd = connect_stranger();
        if (announces)
            announce(fd);
        put(fd, "GET / HTTP/1.1\r\n\r\n and more than a header has", 46, 5);
        expect_stranger(fd);
    }
}

static void one_set_at_a_time(void **state)
{
    /* Claim: a stranger who sends each byte of a frame with a set of its own is dropped at the second one; one who sends
     * half a frame with its set and stays has that one set here, and when he leaves it is closed; one whose ordinary frame
     * brings some is dropped. */
    uint8_t frame[200];
    size_t size = make_frame(frame, NORIA_FRAME_FDS, 2, 0, 20);
    int fd;

    (void)state;
    begin_with_one();
    at.good = 0;
    ours_comes();
    at.before = count_descriptors();
    fd = connect_stranger();
    announce(fd);
    for (size_t i = 0; i < 40; i++)
        put(fd, frame + i, 1, 2);
    expect_stranger(fd);

    fd = connect_stranger(); /* nor do they come with the second part */
    announce(fd);
    put(fd, frame, 10, 0);
    await_descriptors(at.before + 2); /* he is taken in, */
    for (int i = 0; i < 40; i++)      /* and read */
        ours_comes();
    put(fd, frame + 10, size - 10, 2);
    expect_stranger(fd);

    fd = connect_stranger();
    announce(fd);
    make_frame(frame, 0, 0, 0, 20);
    put(fd, frame, NORIA_FRAME_HEADER + 20, 3);
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), 20); /* it is a message; */
    expect_stranger(fd);                                                                  /* but the set is none's */

    make_frame(frame, NORIA_FRAME_FDS, 2, 0, 20);
    for (size_t half = 1; half < size; half++) {
        fd = connect_stranger();
        announce(fd);
        put(fd, frame, half, 2);
        await_descriptors(at.before + 4); /* both ends of his connection, and one set */
        ours_comes();
        assert_int_equal(count_descriptors(), at.before + 4);
        close(fd);
        await_descriptors(at.before);
    }
}

static void a_peer_that_keeps_to_it(void **state)
{
    /* Claim: who keeps to docs/FRAMES.md byte by byte is understood: announced, cut anywhere, the set with the first byte. */
    uint8_t frame[200];
    int fd;

    (void)state;
    begin_with_one();
    at.before = count_descriptors();
    fd = connect_stranger();
    announce(fd);
    for (uint32_t i = 0; i < NORIA_FRAME_HEADER + 20; i++) {
        int fds[2], n = 2;
        size_t size = make_frame(frame, NORIA_FRAME_FDS, 2, i, 20);
        put(fd, frame, is_packets() || i == 0 ? size : i, 2);
        if (!is_packets() && i > 0) {
            assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, 0, NULL), -EAGAIN);
            put(fd, frame + i, size - i, 0);
        }
        assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, NULL), 20);
        assert_int_equal(n, 2);
        assert_true(is_message(received, 20, 1, i, 20));
        close_all(fds, n);
    }
    close(fd);
    assert_int_equal(stat_of(it.rx).strangers, 0);
    ours_comes();
    assert_int_equal(count_descriptors(), at.before);
}

static void a_set_moves_with_its_bytes(void **state)
{
    /* Claim: a set that comes with the first part of its frame, in a read that began in the middle of the inlet's bytes and
     * filled the rest of them, is there when they have been moved to the beginning and the second part has come. */
    enum { FIRST = 60000, CUT = 20, LEN = 40, READ_FIRST = FIRST + 2 * NORIA_FRAME_HEADER + 4968 };
    static uint8_t frame[64 * KIB];
    uint32_t third = FULL_READ - READ_FIRST - (FIRST - 4968) - NORIA_FRAME_HEADER - CUT;
    int fds[2], n = 2, fd;
    size_t size;

    (void)state;
    it.rx = open_handle(NORIA_RECV);
    fd = connect_stranger();
    announce(fd);
    put(fd, frame, make_frame(frame, 0, 0, 0, FIRST), 0);
    size = make_frame(frame, 0, 0, 1, FIRST);
    put(fd, frame, NORIA_FRAME_HEADER + 4968, 0);
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), FIRST);
    put(fd, frame + NORIA_FRAME_HEADER + 4968, size - NORIA_FRAME_HEADER - 4968, 0);
    put(fd, frame, make_frame(frame, 0, 0, 2, third), 0);
    put(fd, frame, make_frame(frame, NORIA_FRAME_FDS, 2, 3, LEN), 2);
    expect_things(1, FIRST, 0);
    expect_things(2, third, 0);
    assert_int_equal(noria_recv_fds(it.rx, received, sizeof(received), fds, &n, A_WHILE, NULL), LEN);
    assert_int_equal(n, 2);
    close_all(fds, n);
    close(fd);
}

/* ------------------------------------------------------------------------------------------------------------ others */

static void others_refuse(void **state)
{
    /* Claim: whatever carries no descriptors says so, -ENOTSUP, with a sentence, and goes on. */
    int fd = 0, n = 1;

    (void)state;
    open_pair();
    assert_int_equal(stat_of(it.tx).abilities & NORIA_CAN_FDS, 0);
    assert_int_equal(stat_of(it.rx).abilities & NORIA_CAN_FDS, 0);
    assert_fails(noria_send_fds(it.tx, "x", 1, &fd, 1, 0), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "no descriptors"));
    assert_fails(noria_recv_fds(it.rx, received, sizeof(received), &fd, &n, 0, NULL), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "no descriptors"));
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
}

static void *bridge(void *counts)
{
    noria_channel *to = NULL;

    assert_int_equal(noria_open(&to, "anon:", NORIA_SEND | NORIA_RECV, NULL), 0);
    assert_int_equal(noria_bridge(it.rx, to, counts), 0);
    assert_int_equal(noria_close(to), 0);
    return NULL;
}

static void a_bridge_passes_none_on(void **state)
{
    /* Claim: a bridge passes the bytes on, closes what they brought, and counts such messages. */
    struct noria_bridge_counts counts = {0};
    pthread_t thread;
    int pipe;

    (void)state;
    begin_with_one();
    pipe = send_pipe(1);
    assert_int_equal(send_numbered(it.tx, 1, 2, 100, A_WHILE), 0);
    assert_int_equal(send_things(it.tx, 3, 100, 2, A_WHILE), 0);
    assert_int_equal(pthread_create(&thread, NULL, bridge, &counts), 0);
    close_handle(&it.tx);
    close_end(1);
    pthread_join(thread, NULL);
    assert_int_equal(counts.messages, 3);
    assert_int_equal(counts.without_fds, 2);
    assert_int_equal(stat_of(it.rx).dropped_fds, 3);
    assert_true(is_closed(pipe));
    close(pipe);
}

static int make_datagram_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends);
}

static const struct transport datagrams = {.name = "fd of packets, datagrams", .format = "fd:%d", .by_descriptors = true,
                                           .longest = MIB, .make_ends = make_datagram_pair, .cannot_be_claimed = true};

/* ------------------------------------------------------------------------------------------------------------- main */

enum { LISTENING = 1, STREAMS = 2, NOT_STREAM_FD = 4 };

static const struct {
    const char *name;
    CMUnitTestFunction run;
    int where;
} tests[] = {{"messages bring descriptors", messages_bring_descriptors, 0},
             {"they stand in order", they_stand_in_order, 0},
             {"full reads cut anywhere", full_reads_cut_anywhere, LISTENING | STREAMS},
             {"many senders have their own", many_senders_have_their_own, NOT_STREAM_FD},
             {"other receives close them", other_receives_close_them, 0},
             {"too little room", too_little_room, 0},
             {"who can take no more", who_can_take_no_more, 0},
             {"room for none is told", room_for_none_is_told, 0},
             {"too many under way", too_many_under_way, NOT_STREAM_FD},
             {"short writes bring them once", short_writes_bring_them_once, STREAMS},
             {"killed in the middle", killed_in_the_middle, STREAMS},
             {"no growth", no_growth, 0},
             {"children have none of them", children_have_none_of_them, 0},
             {"the next receiver takes them", the_next_receiver_takes_them, 0},
             {"strangers leave nothing", strangers_leave_nothing, LISTENING},
             {"rubbish brings nothing", rubbish_brings_nothing, LISTENING},
             {"one set at a time", one_set_at_a_time, LISTENING | STREAMS},
             {"a peer that keeps to it", a_peer_that_keeps_to_it, LISTENING},
             {"a set moves with its bytes", a_set_moves_with_its_bytes, LISTENING | STREAMS},
             {"a bridge passes none on", a_bridge_passes_none_on, LISTENING}};

static bool carries_descriptors(const struct transport *transport)
{
    return (strncmp(transport->name, "unix", 4) == 0 && strstr(transport->name, "dealing") == NULL) ||
           transport->make_ends == make_stream_pair || transport->make_ends == make_packet_pair;
}

static bool runs(int where, const struct transport *transport)
{
    bool is_stream = strstr(transport->name, "packets") == NULL;

    return ((where & LISTENING) == 0 || !transport->by_descriptors) && ((where & STREAMS) == 0 || is_stream) &&
           ((where & NOT_STREAM_FD) == 0 || !transport->by_descriptors || !is_stream);
}

int main(void)
{
    enum { MOST = TRANSPORTS * (sizeof(tests) / sizeof(tests[0]) + 1) };
    static struct CMUnitTest list[MOST];
    static char names[MOST][128];
    size_t used = 0;

    for (size_t t = 0; t <= TRANSPORTS; t++) {
        const struct transport *transport = t < TRANSPORTS ? &transports[t] : &datagrams;
        void *context = (void *)(uintptr_t)transport;
        if (transport->is_served)
            continue;
        if (t < TRANSPORTS && !carries_descriptors(transport)) {
            snprintf(names[used], sizeof(names[used]), "others refuse, %s", transport->name);
            list[used] = (struct CMUnitTest){names[used], others_refuse, setup, teardown, context};
            used++;
            continue;
        }
        for (size_t i = 0; i < (t < TRANSPORTS ? sizeof(tests) / sizeof(tests[0]) : 2); i++) {
            if (!runs(tests[i].where, transport))
                continue;
            snprintf(names[used], sizeof(names[used]), "%s, %s", tests[i].name, transport->name);
            list[used] = (struct CMUnitTest){names[used], tests[i].run, setup, teardown, context};
            used++;
        }
    }
    return _cmocka_run_group_tests("descriptors", list, used, NULL, NULL);
}
