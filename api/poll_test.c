/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: who tries until -EAGAIN and then polls noria_fd, on either side, in whichever way, misses nothing
 * and is not woken for nothing; noria_wait_any does the same for many channels at once.
 */
#include "stepping_test.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "transport.h"

enum { PATIENCE_MS = 20000 };

static bool is_readable(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    int events = poll(&entry, 1, 0);

    assert_true(events == 0 || (events == 1 && entry.revents == POLLIN));
    return events == 1;
}

static uint32_t drain(noria_channel *channel)
{
    uint8_t bytes[64];
    uint32_t count = 0;

    while (noria_recv(channel, bytes, sizeof(bytes), 0, NULL) >= 0)
        count++;
    return count;
}

static uint32_t fill_up(noria_channel *channel)
{
    uint8_t bytes[64] = {0};
    uint32_t count = 0;

    while (noria_send(channel, bytes, sizeof(bytes), 0) == 0)
        count++;
    return count;
}

static int open_fd(noria_channel *channel, int side)
{
    int fd = noria_fd(channel, side);

    assert_true(fd >= 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(noria_fd(channel, side), fd); /* one for ever */
    return fd;
}

/* ----------------------------------------------------------------------------------------- the contract */

static void receiver_is_told(void **state)
{
    /* Claim: after a receive that found nothing the descriptor is not readable; a send makes it so, and it
     * stays so until a receive finds nothing again. */
    int fd;

    (void)state;
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    for (unsigned i = 0; i < 30; i++) {
        drain(ch.rx);
        assert_false(is_readable(fd));
        send_numbered(i, 8);
        assert_true(is_readable(fd));
        assert_true(is_readable(fd));
        send_numbered(i, 8);
        expect(i, 8);
        assert_true(is_readable(fd));
        expect(i, 8);
        expect_nothing(EAGAIN);
        assert_false(is_readable(fd));
    }
}

static void sender_is_told(void **state)
{
    /* Claim: the same for a sender that found the channel full, and a receive; of what is peeked an MPMC channel's is
     * told at once, for it counts as a message no more and a send finds room, an SPSC channel's when it is released. */
    struct noria_span span;
    int fd;

    (void)state;
    open_pair();
    fd = open_fd(ch.tx, NORIA_SEND);
    for (int i = 0; i < 30; i++) {
        fill_up(ch.tx);
        assert_false(is_readable(fd));
        if (i % 2 == 0) {
            assert_int_equal(drain(ch.rx) > 0, 1);
        } else {
            assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
            assert_int_equal(is_readable(fd), !is_spsc());
            assert_int_equal(try_send(0, 64), is_spsc() ? -EAGAIN : 0);
            assert_int_equal(noria_release(ch.rx, &span), 0);
        }
        assert_true(is_readable(fd));
    }
}

static void first_message_is_not_missed(void **state)
{
    /* Claim: who asks for the descriptor of an empty channel and polls before any try is told of the first
     * message. */
    int fd;

    (void)state;
    open_pair();
    fd = noria_fd(ch.rx, NORIA_RECV);
    assert_false(is_readable(fd));
    send_numbered(1, 8);
    assert_true(is_readable(fd));
}

static void message_before_arming_is_received(void **state)
{
    /* Claim: a message from before noria_fd is found by the try that the contract asks for. */
    int fd;

    (void)state;
    open_pair();
    send_numbered(1, 8);
    fd = open_fd(ch.rx, NORIA_RECV);
    assert_int_equal(drain(ch.rx), 1);
    assert_false(is_readable(fd));
    send_numbered(1, 8);
    assert_true(is_readable(fd));
}

static void any_form_arms(void **state)
{
    /* Claim: every form of try that ends in -EAGAIN or -ETIMEDOUT arms. */
    uint8_t bytes[64];
    struct iovec vector = {bytes, sizeof(bytes)};
    struct noria_span span;
    int fd;

    (void)state;
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    for (int form = 0; form < 4; form++) {
        send_numbered(1, 8);
        assert_int_equal(drain(ch.rx), 1);
        send_numbered(1, 8);
        assert_true(is_readable(fd));
        expect(1, 8);
        if (form == 0)
            assert_int_equal(noria_recv_many(ch.rx, &vector, 1, 0, NULL), -EAGAIN);
        else if (form == 1)
            assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), -EAGAIN);
        else if (form == 2)
            assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), MS, NULL), -ETIMEDOUT);
        else
            assert_int_equal(noria_recv_many(ch.rx, &vector, 1, MS, NULL), -ETIMEDOUT);
        assert_false(is_readable(fd));
        send_numbered(1, 8);
        assert_true(is_readable(fd));
        drain(ch.rx);
    }
}

static void blocking_calls_go_on_beside(void **state)
{
    /* Claim: a handle that has given out a descriptor still receives and sends in the blocking way. */
    (void)state;
    open_pair();
    open_fd(ch.rx, NORIA_RECV);
    open_fd(ch.tx, NORIA_SEND);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t bytes[64];
        send_numbered(i, 8);
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), -1, NULL), 8);
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), MS, NULL), -ETIMEDOUT);
        fill_up(ch.tx);
        assert_int_equal(noria_send(ch.tx, bytes, 64, MS), -ETIMEDOUT);
        drain(ch.rx);
    }
}

static void end_of_stream_is_told(void **state)
{
    /* Claim: the last sender's leaving makes the receiver's descriptor readable, and a new sender's message
     * again one that was armed in between. */
    uint8_t bytes[64];
    int fd;

    (void)state;
    ch.keeper = open_handle(0);
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    drain(ch.rx);
    assert_false(is_readable(fd));
    close_handle(&ch.tx);
    assert_true(is_readable(fd));
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -EPIPE);
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -EAGAIN);
    assert_false(is_readable(fd));
    send_numbered(1, 8);
    assert_true(is_readable(fd));
}

static void shutdown_is_told(void **state)
{
    /* Claim: a shutdown by another thread makes the descriptor readable; the try that follows says
     * -ECANCELED. */
    uint8_t bytes[64];
    int fd;

    (void)state;
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    drain(ch.rx);
    assert_false(is_readable(fd));
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_true(is_readable(fd));
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -ECANCELED);
    assert_true(is_readable(fd));
}

static void everybody_is_told_of_the_end(void **state)
{
    /* Claim (MPMC): of two polling receivers the second hears of the end of the stream, although the first
     * has tried and found it. */
    noria_channel *second;
    uint8_t bytes[64];
    int fd;

    (void)state;
    open_pair();
    second = open_handle(NORIA_RECV);
    fd = open_fd(second, NORIA_RECV);
    open_fd(ch.rx, NORIA_RECV);
    drain(second);
    drain(ch.rx);
    assert_false(is_readable(fd));
    close_handle(&ch.tx);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -EPIPE);
    assert_true(is_readable(fd));
    close_handle(&second);
}

static void every_strategy_can_be_polled(void **state)
{
    /* Claim: whichever way a channel's participants wait, there is a descriptor that tells, on both sides. */
    (void)state;
    for (uint32_t wait = NORIA_WAIT_FUTEX; wait <= NORIA_WAIT_YIELD; wait++) {
        ch.options.wait = wait;
        receiver_is_told(state);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        sender_is_told(state);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static void bad_sides_are_refused(void **state)
{
    /* Claim: a side that is none, or that the handle was not opened for, no handle and one that was shut down
     * are error codes with a sentence. */
    (void)state;
    open_pair();
    assert_fails(noria_fd(ch.rx, 0), EINVAL);
    assert_fails(noria_fd(ch.rx, NORIA_SEND | NORIA_RECV), EINVAL);
    assert_fails(noria_fd(ch.rx, -1), EINVAL);
    assert_fails(noria_fd(ch.rx, NORIA_CREATE), EINVAL);
    assert_fails(noria_fd(ch.rx, NORIA_SEND), EINVAL);
    assert_fails(noria_fd(ch.tx, NORIA_RECV), EINVAL);
    assert_fails(noria_fd(NULL, NORIA_RECV), EINVAL);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_fails(noria_fd(ch.rx, NORIA_RECV), ECANCELED);
}

static void descriptor_limit_is_an_error(void **state)
{
    /* Claim: with no descriptors left noria_fd says so, and a send whose receiver polls goes on without one.
     */
    struct rlimit limit, less;
    noria_channel *other;
    int fd;

    (void)state;
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    other = open_handle(0);
    drain(ch.rx);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    less = (struct rlimit){3, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    assert_fails(noria_fd(ch.tx, NORIA_SEND), EMFILE);
    send_numbered(1, 8);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(drain(ch.rx), 1);
    assert_false(is_readable(fd));
    send_numbered(1, 8);
    assert_true(is_readable(fd));
    close_handle(&other);
}

static void large_descriptors_serve(void **state)
{
    /* Claim: descriptors above 1024, which select() cannot take, are as good as any. */
    struct rlimit limit, more;
    int low = dup(2), held[1100], n = 0, fd, set;
    struct epoll_event event = {.events = EPOLLIN};

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    more = (struct rlimit){limit.rlim_max < 4096 ? limit.rlim_max : 4096, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    while (n < 1100 && (held[n] = dup(low)) >= 0)
        n++;
    open_pair();
    fd = open_fd(ch.rx, NORIA_RECV);
    assert_true(fd > 1024);
    set = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
    for (int i = 0; i < 10; i++) {
        drain(ch.rx);
        assert_int_equal(epoll_wait(set, &event, 1, 0), 0);
        send_numbered(1, 8);
        assert_int_equal(epoll_wait(set, &event, 1, 0), 1);
    }
    close(set);
    close(low);
    while (n > 0)
        close(held[--n]);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* ------------------------------------------------------------------------------------ between processes */

/* How somebody waits for the descriptor. */
enum way { POLL, LEVEL, EDGE, WAYS };

struct waiter {
    enum way way;
    int fd, set;
};

static bool open_waiter(struct waiter *waiter, noria_channel *channel, int side, enum way way)
{
    struct epoll_event event = {.events = EPOLLIN | (way == EDGE ? (uint32_t)EPOLLET : 0)};

    *waiter = (struct waiter){way, noria_fd(channel, side), -1};
    if (waiter->fd < 0 || way == POLL)
        return waiter->fd >= 0;
    waiter->set = epoll_create1(EPOLL_CLOEXEC);
    return epoll_ctl(waiter->set, EPOLL_CTL_ADD, waiter->fd, &event) == 0;
}

static uint32_t waits;
static uint64_t first_of_all; /* received before */

/* Sleeps until there is something. False: nothing for so long that it is lost. */
static bool wait_at(const struct waiter *waiter)
{
    struct pollfd entry = {.fd = waiter->fd, .events = POLLIN};
    struct epoll_event event;
    int events;

    waits++;
    do
        events = waiter->way == POLL ? poll(&entry, 1, PATIENCE_MS)
                                     : epoll_wait(waiter->set, &event, 1, PATIENCE_MS);
    while (events < 0 && errno == EINTR);
    return events == 1;
}

static uint64_t received_by_all(noria_channel *channel)
{
    struct noria_stat stat = {0};

    return noria_stat(channel, &stat) == 0 ? stat.received : 0;
}

/* How often this process has gone to sleep: each ring wakes it in the kernel, even if the level is gone by then. */
static long sleeps_so_far(void)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

enum { RINGS_OF_A_STREAM = 12, WAITS_IN_VAIN = 3 };

/* The same beside others, who may take what each event tells of before we have seen it, again and again. False: lost. What
 * a wait in vain means is told by what happened meanwhile:
 *
 *     others received, and it was woken dozens of times      it was too late each time: it goes on
 *     others received, and it slept through                  it is not told; the machine may have stood still after
 *                                                            the first of them, so twice in a row is lost
 *     nobody received                                        the machine stood still, or nobody is told: three times
 *                                                            in a row is lost
 */
static bool wait_beside_others(const struct waiter *waiter, noria_channel *channel)
{
    int slept_through = 0, nothing = 0;

    while (slept_through < 2 && nothing < WAITS_IN_VAIN) {
        uint64_t received = received_by_all(channel);
        long woken = sleeps_so_far();

        if (wait_at(waiter))
            return true;
        woken = sleeps_so_far() - woken;
        received = received_by_all(channel) - received;
        print_message("process %d, way %d: nothing in %d ms; slept %ld times, %llu received by others, the descriptor is "
                      "%sreadable\n",
                      (int)getpid(), (int)waiter->way, (int)PATIENCE_MS, woken, (unsigned long long)received,
                      is_readable(waiter->fd) ? "" : "not ");
        fflush(NULL); /* the process may end by _exit */
        nothing = received == 0 ? nothing + 1 : 0;
        slept_through = received != 0 && woken < RINGS_OF_A_STREAM ? slept_through + 1 : 0;
    }
    return false;
}

static void close_waiter(struct waiter *waiter)
{
    if (waiter->set >= 0)
        close(waiter->set);
}

/* Until so many messages have been received, and a moment longer. */
static void await_reception(noria_channel *tx, uint64_t n, uint32_t moment)
{
    struct noria_stat stat = {0};

    do
        sched_yield();
    while (noria_stat(tx, &stat) == 0 && stat.received - first_of_all < n);
    for (volatile uint32_t i = 0; i < moment; i++)
        continue;
}

/* Sends `n` numbers with tries and polls alone; `in_turns` with the receiver. 0, or which step failed. */
static int send_polling(noria_channel *tx, uint32_t n, enum way way, bool in_turns)
{
    struct waiter waiter;

    if (!open_waiter(&waiter, tx, NORIA_SEND, way))
        return 1;
    for (uint32_t i = 0; i < n; i++) {
        int rc;
        while ((rc = noria_send(tx, &i, sizeof(i), 0)) == -EAGAIN)
            if (!wait_beside_others(&waiter, tx))
                return 30 + (int)way;
        if (rc != 0)
            return 3;
        if (in_turns &&
            i % 8 != 0) /* mostly the receiver runs empty; the next message meets it anywhere in its arming */
            await_reception(tx, i + 1, i * 2654435761U % 512);
    }
    close_waiter(&waiter);
    return noria_close(tx) == 0 ? 0 : 4;
}

/* Receives until the end of the stream, numbers in order. How many, or minus which step failed. */
static int64_t receive_polling(noria_channel *rx, enum way way)
{
    struct waiter waiter;
    int64_t count = 0, last = -1;

    if (!open_waiter(&waiter, rx, NORIA_RECV, way))
        return -1;
    for (;;) {
        uint32_t number;
        ssize_t rc = noria_recv(rx, &number, sizeof(number), 0, NULL);
        if (rc == -EPIPE)
            break;
        if (rc == sizeof(number)) {
            if (number <= last)
                return -2;
            last = number;
            count++;
        } else if (rc != -EAGAIN) {
            return -3;
        } else if (!wait_at(&waiter)) {
            return -4;
        }
    }
    close_waiter(&waiter);
    return count;
}

static noria_channel *known; /* a handle from before the fork */

static noria_channel *open_in_child(int flags)
{
    noria_channel *channel = NULL;
    int rc = strcmp(ch.variant->scheme, "anon") == 0 ? noria_reopen(&channel, known, flags)
                                                     : noria_open(&channel, ch.address, flags, &ch.options);

    if (rc != 0)
        _exit(10);
    return channel;
}

static pid_t fork_child(void)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

static void reap(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void no_event_is_lost(void **state)
{
    /* Claim: two processes that only ever try and poll pass all messages, whether with poll or epoll, level-
     * or edge-triggered. */
    uint32_t n = getenv("NORIA_LONG") != NULL             ? 1000000
                 : strcmp(ch.variant->scheme, "shm") == 0 ? 100000
                                                          : 5000;

    (void)state;
    for (int way = POLL; way < WAYS; way++) {
        pid_t sender;
        uint32_t share = way == LEVEL ? n - 2 * (n / 3) : n / 3;
        known = ch.rx = open_handle(NORIA_RECV);
        first_of_all = stat_of(ch.rx).received;
        waits = 0;
        sender = fork_child();
        if (sender == 0)
            _exit(send_polling(open_in_child(NORIA_SEND), share, (enum way)way, true));
        assert_int_equal(receive_polling(ch.rx, (enum way)way), share);
        reap(sender);
        assert_true(waits > 0); /* it did sleep; how often depends on the machine */
        close_handle(&ch.rx);
    }
}

static void several_pollers_share_a_channel(void **state)
{
    /* Claim (MPMC): receivers in several processes, each with a poll set of its own kind, take all that
     * several polling senders send, and all hear of its end. */
    enum { SENDERS = 2, RECEIVERS = 3, EACH = 4000 };
    pid_t senders[SENDERS], receivers[RECEIVERS];
    int64_t *taken = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t total = 0;

    (void)state;
    known = ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < RECEIVERS; i++)
        if ((receivers[i] = fork_child()) == 0) {
            noria_channel *rx = open_in_child(NORIA_RECV);
            struct waiter waiter;
            uint32_t number;
            ssize_t rc;
            if (!open_waiter(&waiter, rx, NORIA_RECV, (enum way)i))
                _exit(1);
            while ((rc = noria_recv(rx, &number, sizeof(number), 0, NULL)) != -EPIPE)
                if (rc >= 0)
                    taken[i]++;
                else if (rc != -EAGAIN)
                    _exit(2);
                else if (!wait_beside_others(&waiter, rx))
                    _exit(20 + i); /* which way of waiting lost an event */
            _exit(noria_close(rx) == 0 ? 0 : 3);
        }
    for (int i = 0; i < SENDERS; i++)
        if ((senders[i] = fork_child()) == 0)
            _exit(send_polling(open_in_child(NORIA_SEND), EACH, (enum way)(1 + i), false));
    for (int i = 0; i < SENDERS; i++)
        reap(senders[i]);
    close_handle(&ch.tx);
    for (int i = 0; i < RECEIVERS; i++) {
        reap(receivers[i]);
        total += taken[i];
    }
    assert_int_equal(total, SENDERS * EACH);
    munmap(taken, 4096);
}

static void sender_life(void)
{
    noria_channel *tx = open_in_child(NORIA_SEND);

    mark();
    noria_send(tx, "last", 4, 0);
    mark();
}

/* Kills a sender so many instructions into its send, the first that has to ring. How many it made: fewer if
 * it was over before. */
static int kill_sender_after(int steps, int fd)
{
    pid_t sender = start_stepped(sender_life);
    int made = 0;

    set_patience(20);
    drain(ch.rx);
    assert_false(is_readable(fd));
    while (made < steps && step(sender))
        made++;
    end_stepped(sender);
    return made;
}

static void next_sender_is_told(int fd)
{
    ch.tx = open_handle(NORIA_SEND);
    drain(ch.rx);
    assert_false(is_readable(fd));
    send_numbered(1, 8);
    assert_true(is_readable(fd));
    assert_int_equal(drain(ch.rx), 1);
    close_handle(&ch.tx);
}

static void last_release_tells_of_the_end(void **state)
{
    /* Claim (MPMC): while one receiver still holds the last message, which may come back, the others have not reached the
     * end; its release tells them. */
    noria_channel *other;
    struct noria_span span;
    int fd;

    (void)state;
    open_pair();
    other = open_handle(NORIA_RECV);
    fd = open_fd(other, NORIA_RECV);
    send_numbered(1, 8);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    close_handle(&ch.tx);
    assert_int_equal(drain(other), 0);
    assert_false(is_readable(fd));
    assert_int_equal(noria_release(ch.rx, &span), 0);
    assert_true(is_readable(fd));
    assert_fails(noria_recv(other, &fd, sizeof(fd), 0, NULL), EPIPE);
    close_handle(&other);
}

static void killed_sender_delays_at_most(void **state)
{
    /* Claim: a sender killed at any instruction of its send leaves a descriptor that a try after a timeout
     * puts right: the message is there, or was never sent, and the next sender's message is told. */
    int rounds = 0, found = 0, told = 0, fd, length, stride;

    (void)state;
    known = ch.rx = open_handle(NORIA_RECV);
    fd = open_fd(ch.rx, NORIA_RECV);
    length = kill_sender_after(INT32_MAX, fd);
    stride = getenv("NORIA_LONG") != NULL ? 1 : 1 + length / 100;
    for (int steps = length; steps >= 0; steps -= stride, rounds++) {
        /* The first is killed behind its send, however long that is; what another has left may make it longer. */
        kill_sender_after(steps == length ? INT32_MAX : steps, fd);
        told += is_readable(fd);
        found += (int)drain(ch.rx);
        next_sender_is_told(fd);
    }
    /* It was killed before and after; between commit and ring if the samples were so lucky. */
    assert_true(told > 0 && told <= found && found < rounds);
}

static void try_in_vain_life(void)
{
    noria_channel *rx = open_in_child(NORIA_RECV);
    uint8_t bytes[64];

    open_fd(rx, NORIA_RECV); /* so that its tries arm */
    mark();
    noria_recv(rx, bytes, sizeof(bytes), 0, NULL);
    mark();
}

/* Has rung, for a message that another has taken. */
static void leave_a_ring_behind(int fd)
{
    uint8_t bytes[64];

    drain(ch.rx);
    send_numbered(1, 8);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), 8);
    assert_true(is_readable(fd));
}

/* Stops another receiver so many instructions after it has taken the ring back. False if its try is over by then. */
static bool message_is_told_beside_one_stopped_after(int steps, int fd)
{
    pid_t other = start_stepped(try_in_vain_life);
    bool more = true;

    set_patience(20);
    leave_a_ring_behind(fd);
    while (is_readable(fd)) {
        more = step(other);
        assert_true(more); /* or it never takes it back */
    }
    for (; more && steps > 0; steps--)
        more = step(other);
    send_numbered(1, 8);
    assert_true(is_readable(fd));
    end_stepped(other);
    return more;
}

static void stopped_receiver_silences_nobody(void **state)
{
    /* Claim (MPMC): a receiver that finds nothing takes the ring back for all who poll; stopped at any instruction of that,
     * if nobody sends just then, it leaves the others at a descriptor that tells of the next message. */
    int fd, steps = 0, fineness = getenv("NORIA_LONG") != NULL ? 64 : 8;

    (void)state;
    open_pair();
    known = ch.rx;
    fd = open_fd(ch.rx, NORIA_RECV);
    while (message_is_told_beside_one_stopped_after(steps, fd))
        steps += 1 + steps / fineness; /* each of the first: it asks to be told right after */
    assert_true(steps > 20); /* the last look at the ring lies behind it */
}

static const char sender_word[] = "--send-to";

/* What this program does when it is run anew: nothing is shared with the test but the address. */
static int unrelated_sender(const char *address, const char *count)
{
    noria_channel *tx;

    if (noria_open(&tx, address, NORIA_SEND, NULL) != 0)
        return 11;
    return send_polling(tx, (uint32_t)strtoul(count, NULL, 10), LEVEL, true);
}

static void unrelated_processes(void **state)
{
    /* Claim: it works between programs that were started apart. */
    pid_t between;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    between = fork_child();
    if (between == 0) {
        if (fork() == 0) { /* an orphan, so that nobody is anybody's descendant */
            execl("/proc/self/exe", "poll_test", sender_word, ch.address, "20000", (char *)NULL);
            _exit(12);
        }
        _exit(0);
    }
    reap(between);
    assert_int_equal(receive_polling(ch.rx, LEVEL), 20000);
}

static void unrelated_processes_with_an_eventfd(void **state)
{
    /* Claim: so it does where the descriptor is an eventfd, which each takes from one who has it. */
    if (!may_trace_the_unrelated()) {
        print_message("skipped: no right to take a descriptor from another process\n");
        skip();
    }
    ch.options.wait = NORIA_WAIT_EVENTFD;
    unrelated_processes(state);
}

/* ----------------------------------------------------------------------------------- at the same instant */

enum { MAKERS = 2 };

/* What the processes of a test share. */
struct crossing {
    uint32_t here, told, may_try;
    noria_channel *handle; /* of the child */
    uint32_t closed;
};

static struct crossing *make_crossing(void)
{
    struct crossing *crossing = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(crossing != MAP_FAILED);
    return crossing;
}

/* False: it does not come to that. */
static bool comes_to(const uint32_t *count, uint32_t wanted)
{
    int64_t until = now_ns() + PATIENCE_MS * MS;

    while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < wanted) {
        if (now_ns() > until)
            return false;
        sched_yield();
    }
    return true;
}

static void count_one(uint32_t *count)
{
    __atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL);
}

static int ask_at_once(struct crossing *crossing, int side)
{
    noria_channel *mine = open_in_child(side);
    struct waiter waiter = {POLL, -1, -1};
    int fd;

    alarm(60);
    count_one(&crossing->here);
    while (__atomic_load_n(&crossing->here, __ATOMIC_ACQUIRE) < MAKERS)
        continue; /* without sched_yield: at the same instant */
    fd = noria_fd(mine, side);
    if (fd < 0)
        return 2;
    if (side == NORIA_RECV)
        drain(mine);
    else
        fill_up(mine);
    waiter.fd = fd;
    count_one(&crossing->told);
    if (!wait_at(&waiter))
        return 3;
    count_one(&crossing->told);
    /* A try would take the ring back before the other has seen it. */
    return comes_to(&crossing->may_try, 1) && noria_close(mine) == 0 ? 0 : 4;
}

static void two_ask_at_once(void **state)
{
    /* Claim (MPMC): two processes that ask at the same instant for the first descriptor of a side get one
     * each that tells, whoever of them has made what is behind it. */
    (void)state;
    for (int round = 0; round < 40; round++) {
        int side = round % 2 == 0 ? NORIA_RECV : NORIA_SEND;
        struct crossing *crossing = make_crossing();
        pid_t makers[MAKERS];

        known = ch.keeper = open_handle(side == NORIA_RECV ? NORIA_SEND : NORIA_RECV);
        for (int i = 0; i < MAKERS; i++)
            if ((makers[i] = fork_child()) == 0)
                _exit(ask_at_once(crossing, side));
        assert_true(comes_to(&crossing->told, MAKERS));
        if (side == NORIA_RECV)
            assert_int_equal(noria_send(ch.keeper, "x", 1, 0), 0);
        else
            assert_true(drain(ch.keeper) > 0);
        assert_true(comes_to(&crossing->told, 2 * MAKERS));
        count_one(&crossing->may_try);
        for (int i = 0; i < MAKERS; i++)
            reap(makers[i]);
        drain(ch.keeper);
        close_handle(&ch.keeper);
        munmap(crossing, 4096);
        if (ch.path[0] != '\0')
            assert_int_equal(noria_unlink(ch.address), 0);
    }
}

/* ------------------------------------------------------------------------------- close beside such a call */

static struct crossing *crossing_of_child;
static void (*call_of_child)(noria_channel *channel);

static void *close_when_told(void *unused)
{
    struct crossing *crossing = crossing_of_child;

    (void)unused;
    while (__atomic_load_n(&crossing->may_try, __ATOMIC_ACQUIRE) == 0)
        sched_yield(); /* it dies with the test */
    count_one(&crossing->told);
    if (noria_close(crossing->handle) != 0)
        _exit(5);
    count_one(&crossing->closed);
    return NULL;
}

/* Two threads: this one is led through the call, the other closes the handle. */
static void call_and_close_life(void)
{
    pthread_t closer;

    crossing_of_child->handle = open_in_child(NORIA_RECV);
    if (pthread_create(&closer, NULL, close_when_told, NULL) != 0)
        _exit(6);
    mark();
    call_of_child(crossing_of_child->handle);
    mark();
    pthread_join(closer, NULL);
    _exit(0);
}

static void call_fd(noria_channel *channel)
{
    noria_fd(channel, NORIA_RECV);
}

static void call_notify_signal(noria_channel *channel)
{
    noria_notify_signal(channel, SIGURG, NORIA_NOTIFY_ALWAYS); /* which is ignored */
}

static void call_wait_any(noria_channel *channel)
{
    struct noria_ready place = {channel, NORIA_RECV, 0, 0};

    noria_wait_any(&place, 1, 0);
}

static uint32_t calls_in_progress(pid_t child)
{
    return (uint32_t)ptrace(PTRACE_PEEKDATA, child, &crossing_of_child->handle->waiting, NULL);
}

/* Leads a child so many steps beyond where its call has begun, and has the handle closed there. Whether
 * the call was still in progress. */
static bool close_in_call_after(int steps)
{
    bool in_progress = false;
    pid_t child;

    memset(crossing_of_child, 0, sizeof(*crossing_of_child));
    child = start_stepped(call_and_close_life);
    set_patience(20);
    while (!in_progress) {
        assert_true(step(child)); /* or close is never told of the call */
        in_progress = calls_in_progress(child) != 0;
    }
    for (; in_progress && steps > 0; steps--)
        in_progress = step(child) && calls_in_progress(child) != 0;
    if (in_progress) {
        count_one(&crossing_of_child->may_try);
        assert_true(comes_to(&crossing_of_child->told, 1));
        for (int i = 0; i < 50; i++)
            sched_yield();
        assert_int_equal(__atomic_load_n(&crossing_of_child->closed, __ATOMIC_ACQUIRE), 0);
        run_to_mark(child, 0);
        assert_int_equal(ptrace(PTRACE_CONT, child, NULL, NULL), 0);
        reap(child);
    } else {
        end_stepped(child);
    }
    return in_progress;
}

static void close_waits_for_a_call_of_several_steps(void **state)
{
    /* Claim: noria_fd, noria_notify_signal and noria_wait_any look at a channel several times; a close by
     * another thread that comes anywhere between waits until the call has left, and then frees the handle. */
    static void (*const calls[])(noria_channel *) = {call_fd, call_notify_signal, call_wait_any};

    (void)state;
    crossing_of_child = make_crossing();
    known = ch.keeper = open_handle(0);
    for (int i = 0; i < 3; i++) {
        int steps = 0, places = 0;

        call_of_child = calls[i];
        for (; close_in_call_after(steps); steps += 1 + steps)
            places++;
        assert_true(places > 5); /* such a call has hundreds of steps, or thousands */
    }
    munmap(crossing_of_child, 4096);
}

/* ----------------------------------------------------------------------------------------- many at once */

static struct noria_ready place(noria_channel *channel, int side)
{
    return (struct noria_ready){channel, side, -1, 0};
}

static void waits_for_either_side(void **state)
{
    /* Claim: wait_any says which of its places can get on: a message, room, neither, both. */
    struct noria_ready places[2];

    (void)state;
    open_pair();
    drain(ch.rx);
    places[0] = place(ch.rx, NORIA_RECV);
    places[1] = place(ch.tx, NORIA_SEND);
    assert_int_equal(noria_wait_any(places, 2, 0), 1);
    assert_true(places[0].ready == 0 && places[1].ready == 1);
    send_numbered(1, 8);
    assert_int_equal(noria_wait_any(places, 2, -1), 2);
    assert_true(places[0].ready == 1 && places[1].ready == 1);
    fill_up(ch.tx);
    assert_int_equal(noria_wait_any(places, 2, -1), 1);
    assert_true(places[0].ready == 1 && places[1].ready == 0);
    drain(ch.rx);
    assert_int_equal(noria_wait_any(places, 1, 0), 0);
    assert_int_equal(places[0].ready, 0);
}

static void waits_no_longer_than_told(void **state)
{
    /* Claim: with nothing to do it returns 0 when its time is over, not before and at most 10 ms after. */
    static const int64_t timeouts[] = {0, 1, 100000, 3 * MS, 40 * MS};
    struct noria_ready waiting;

    (void)state;
    open_pair();
    waiting = place(ch.rx, NORIA_RECV);
    drain(ch.rx);
    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
        int64_t best = INT64_MAX;
        for (int n = 0; n < 5; n++) {
            int64_t start = now_ns(), took;
            assert_int_equal(noria_wait_any(&waiting, 1, timeouts[i]), 0);
            took = now_ns() - start;
            assert_true(took >= timeouts[i]);
            best = took < best ? took : best;
        }
        assert_true(best < timeouts[i] + 10 * MS); /* a loaded machine makes single ones late */
    }
}

static void end_of_stream_is_ready(void **state)
{
    /* Claim: a channel at its end is worth a try: the call says so. */
    struct noria_ready waiting;
    uint8_t bytes[64];

    (void)state;
    ch.keeper = open_handle(0);
    open_pair();
    drain(ch.rx);
    waiting = place(ch.rx, NORIA_RECV);
    close_handle(&ch.tx);
    assert_int_equal(noria_wait_any(&waiting, 1, -1), 1);
    assert_int_equal(waiting.ready, 1);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -EPIPE);
}

static void wrong_places_are_refused(void **state)
{
    /* Claim: no places, no handle, a wrong side, a wrong timeout and a handle that was shut down are error
     * codes with a sentence, wherever in the list they stand. */
    struct noria_ready places[2];

    (void)state;
    open_pair();
    places[0] = place(ch.tx, NORIA_SEND);
    places[1] = place(NULL, NORIA_RECV);
    assert_fails(noria_wait_any(places, 2, -1), EINVAL);
    places[1] = place(ch.rx, NORIA_SEND);
    assert_fails(noria_wait_any(places, 2, -1), EINVAL);
    places[1] = place(ch.rx, 0);
    assert_fails(noria_wait_any(places, 2, -1), EINVAL);
    places[1] = place(ch.rx, NORIA_RECV);
    assert_fails(noria_wait_any(places, 2, -2), EINVAL);
    assert_fails(noria_wait_any(places, 2, INT64_MIN), EINVAL);
    assert_fails(noria_wait_any(places, 0, -1), EINVAL);
    assert_fails(noria_wait_any(places, -1, -1), EINVAL);
    assert_fails(noria_wait_any(NULL, 1, -1), EINVAL);
    assert_int_equal(noria_wait_any(places, 2, -1), 1);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_fails(noria_wait_any(places, 2, -1), ECANCELED);
}

static noria_channel *open_numbered(int number, int flags)
{
    struct noria_options options = ch.options;
    noria_channel *channel = NULL;
    char address[80];

    options.kind = number % 2 == 0 ? NORIA_KIND_MPMC : NORIA_KIND_SPSC;
    options.lifetime = NORIA_UNLINK_LAST;
    snprintf(address, sizeof(address), "%s-%d", ch.address, number);
    if (noria_open(&channel, address, flags | NORIA_CREATE, &options) != 0)
        return NULL;
    return channel;
}

enum { MANY = 200, ROUNDS = 2000 };

/* Every channel in turn that is a multiple of a stride, one message each. */
static int send_to_many(void)
{
    static noria_channel *tx[MANY];

    for (int i = 0; i < MANY; i++)
        if ((tx[i] = open_numbered(i, NORIA_SEND)) == NULL)
            return 1;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        if (noria_send(tx[i * 37 % MANY], &i, sizeof(i), 20 * SECOND) != 0)
            return 2;
        if (i % 5 == 0)
            sched_yield();
    }
    for (int i = 0; i < MANY; i++)
        if (noria_close(tx[i]) != 0)
            return 3;
    return 0;
}

static void waits_at_two_hundred(void **state)
{
    /* Claim: one process waits at 200 channels of both kinds at once, and misses none of another's messages.
     */
    static noria_channel *rx[MANY];
    static struct noria_ready places[MANY];
    uint32_t received = 0;
    int open = MANY;
    pid_t sender;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        rx[i] = open_numbered(i, NORIA_RECV);
        assert_non_null(rx[i]);
        places[i] = place(rx[i], NORIA_RECV);
    }
    sender = fork_child();
    if (sender == 0)
        _exit(send_to_many());
    while (open > 0) {
        int ready = noria_wait_any(places, open, 20 * SECOND), seen = 0;
        assert_true(ready > 0);
        for (int i = open - 1; i >= 0; i--) {
            uint8_t bytes[64];
            ssize_t rc = 0;
            seen += places[i].ready;
            while (places[i].ready &&
                   (rc = noria_recv(places[i].channel, bytes, sizeof(bytes), 0, NULL)) >= 0)
                received++;
            if (rc == -EPIPE)
                places[i] = places[--open];
        }
        assert_int_equal(seen, ready);
    }
    reap(sender);
    assert_int_equal(received, ROUNDS);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(noria_close(rx[i]), 0);
}

/* Takes the descriptors' own names away with the channel's. */
static int teardown_poll(void **state)
{
    if (ch.path[0] != '\0')
        noria_unlink(ch.address);
    return teardown(state);
}

int main(int argc, char **argv)
{
    static const struct named_test tests[] = {
        EVERYWHERE(receiver_is_told),
        EVERYWHERE(sender_is_told),
        EVERYWHERE(first_message_is_not_missed),
        ONCE(message_before_arming_is_received),
        ONCE(any_form_arms),
        EVERYWHERE(blocking_calls_go_on_beside),
        EVERYWHERE(end_of_stream_is_told),
        ONCE(shutdown_is_told),
        ONLY_MPMC(everybody_is_told_of_the_end),
        AT("shm", every_strategy_can_be_polled),
        ONCE(bad_sides_are_refused),
        EVERYWHERE(descriptor_limit_is_an_error),
        EVERYWHERE(large_descriptors_serve),
        EVERYWHERE(no_event_is_lost),
        ONLY_MPMC(several_pollers_share_a_channel),
        ONLY_MPMC(last_release_tells_of_the_end),
        EVERYWHERE(killed_sender_delays_at_most),
        ONLY_MPMC(stopped_receiver_silences_nobody),
        AT("shm", unrelated_processes),
        AT("shm", unrelated_processes_with_an_eventfd),
        ONLY_MPMC(two_ask_at_once),
        {"close_waits_for_a_call_of_several_steps", close_waits_for_a_call_of_several_steps,
         NORIA_KIND_MPMC, "shm"},
        EVERYWHERE(waits_for_either_side),
        ONCE(waits_no_longer_than_told),
        EVERYWHERE(end_of_stream_is_ready),
        ONCE(wrong_places_are_refused),
        {"waits_at_two_hundred", waits_at_two_hundred, NORIA_KIND_MPMC, "shm"},
    };

    if (argc == 4 && strcmp(argv[1], sender_word) == 0)
        return unrelated_sender(argv[2], argv[3]);
    return run_variants_with("poll", tests, sizeof(tests) / sizeof(tests[0]), setup, teardown_poll);
}
