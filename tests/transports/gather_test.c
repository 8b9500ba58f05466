/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages that are gathered and flushed: over every transport, shared memory included, where they go at once. */
#include "suite.h"

/* Whether messages stay in the handle until they are flushed. */
static bool gathers(void)
{
    return strcmp(it.transport->name, "shm") != 0 && !it.transport->is_served && !it.transport->deals;
}

static int gather_numbered(uint32_t number, uint32_t len, int64_t timeout_ns)
{
    static uint8_t bytes[MIB];

    fill(bytes, 1, number, len);
    return noria_gather(it.tx, bytes, len, 0, timeout_ns);
}

static void expect_none(void)
{
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EAGAIN);
}

static void connect_both(void)
{
    open_pair();
    assert_int_equal(send_numbered(it.tx, 1, 0, 20, A_WHILE), 0);
    expect(1, 0, 20);
}

static void gathered_messages_wait_for_the_flush(void **state)
{
    /* Claim: noria_gather takes messages, and nothing of them is to be received before noria_flush, which puts all out, in
     * order; where each send is no system call they are there at once. A flush of nothing is 0. */
    (void)state;
    connect_both();
    assert_int_equal(noria_flush(it.tx, 0), 0);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(gather_numbered(i, i * 30, A_WHILE), 0);
        if (gathers())
            expect_none();
        assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(expect(1, i, i * 30).flags, 0);
        if (!it.transport->is_served)
            expect_none();
        assert_int_equal(noria_flush(it.tx, 0), 0);
    }
}

static void other_sends_go_behind(void **state)
{
    /* Claim: whatever is sent next goes behind what was gathered: messages, long ones, batches, reservations. A message too
     * long to be gathered is sent. Closing puts out what is there. */
    static uint8_t bytes[2][100];
    struct iovec batch[2] = {{bytes[0], 100}, {bytes[1], 100}};
    struct noria_span span;
    uint32_t n = 1;

    (void)state;
    connect_both();
    assert_int_equal(gather_numbered(n, 50, A_WHILE), 0);
    assert_int_equal(send_numbered(it.tx, 1, n + 1, 60, A_WHILE), 0);
    expect(1, n, 50), expect(1, n + 1, 60);
    assert_int_equal(gather_numbered(n, 50, A_WHILE), 0);
    assert_int_equal(gather_numbered(n + 1, 7900, A_WHILE), 0);
    assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
    expect(1, n, 50), expect(1, n + 1, 7900);
    assert_int_equal(gather_numbered(n, 50, A_WHILE), 0);
    fill(bytes[0], 1, n + 1, 100), fill(bytes[1], 1, n + 2, 100);
    for (int sent = 0; sent < 2;) {
        int rc = noria_send_many(it.tx, batch + sent, 2 - sent, A_WHILE);
        assert_true(rc > 0);
        sent += rc;
    }
    expect(1, n, 50), expect(1, n + 1, 100), expect(1, n + 2, 100);
    assert_int_equal(gather_numbered(n, 50, A_WHILE), 0);
    assert_int_equal(noria_reserve(it.tx, 100, &span, A_WHILE), 0);
    assert_fails(gather_numbered(n + 1, 50, 0), EBUSY);
    fill(span.data, 1, n + 1, 100);
    assert_int_equal(noria_commit(it.tx, &span, 100, A_WHILE), 0);
    expect(1, n, 50), expect(1, n + 1, 100);
    assert_int_equal(gather_numbered(n, 50, A_WHILE), 0);
    close_handle(&it.tx);
    expect(1, n, 50);
}

static void a_full_channel_holds_them(void **state)
{
    /* Claim: when what was gathered does not go out, the next message is refused at once or at the deadline, so is the
     * flush, and all that was taken arrives when there is room, in order, once. */
    uint32_t taken = 0;
    int rc;

    (void)state;
    connect_both();
    if (it.transport->is_served) /* nobody waits there for room in the handle */
        return;
    do { /* tcp: what is full makes itself larger for a while */
        while ((rc = gather_numbered(taken, 500, 0)) == 0)
            taken++;
        assert_int_equal(rc, -EAGAIN);
        rc = gather_numbered(taken, 500, 100 * MS);
        taken += rc == 0;
    } while (rc == 0);
    assert_int_equal(rc, -ETIMEDOUT);
    if (gathers()) {
        assert_fails(noria_flush(it.tx, 0), EAGAIN);
        assert_fails(noria_flush(it.tx, 20 * MS), ETIMEDOUT);
    }
    for (uint32_t i = 0; i < taken; i++) {
        struct noria_info info;
        ssize_t len;
        while ((len = noria_recv(it.rx, received, sizeof(received), 10 * MS, &info)) == -ETIMEDOUT)
            noria_flush(it.tx, 0);
        assert_true(len >= 0 && is_message(received, (size_t)len, 1, i, 500));
        assert_int_equal(info.flags, 0);
    }
    assert_int_equal(noria_flush(it.tx, 0), 0);
    expect_none();
}

static void lost_with_the_receiver(void **state)
{
    /* Claim: when the receiver has gone the flush says so, what was gathered is lost and counted, and nothing of it comes to
     * the next receiver, nor is missed by him. */
    struct noria_stat stat;
    int rc = 0;

    (void)state;
    connect_both();
    if (!gathers() || it.transport->keeps_for_nobody)
        return;
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(gather_numbered(i, 100, 0), 0);
    close_handle(&it.rx);
    for (int i = 0; i < 1000 && rc == 0; i++) { /* a connection may take one more put */
        rc = noria_flush(it.tx, A_WHILE);
        if (rc == 0)
            rc = gather_numbered(9, 100, 0);
    }
    assert_int_equal(rc, -EPIPE);
    stat = stat_of(it.tx);
    assert_true(stat.lost >= 1);
    assert_true(stat.lost == 5 || strncmp(it.transport->name, "tcp", 3) == 0);
    assert_true(stat.sent == 1 || strncmp(it.transport->name, "tcp", 3) == 0);
    assert_int_equal(noria_flush(it.tx, 0), 0);
    if (!it.transport->renews)
        return;
    open_receiver();
    assert_int_equal(gather_numbered(10, 100, A_WHILE), 0);
    assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
    assert_int_equal(expect(1, 10, 100).lost, stat.sent); /* which the other one has, or had when it went */
}

static void a_wait_for_room_keeps_the_news(void **state)
{
    /* Claim: noria_wait_any puts out what was gathered; if the receiver has gone it says "try", and the next call says why. */
    struct noria_ready side = {NULL, NORIA_SEND, 0, 0};

    (void)state;
    connect_both();
    if (!gathers() || it.transport->has_no_descriptor)
        return;
    side.channel = it.tx;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(gather_numbered(i, 100, 0), 0);
    assert_int_equal(noria_wait_any(&side, 1, A_WHILE), 1);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(expect(1, i, 100).flags, 0);
    if (it.transport->keeps_for_nobody || strncmp(it.transport->name, "tcp", 3) == 0) /* a network tells later */
        return;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(gather_numbered(i, 100, 0), 0);
    close_handle(&it.rx);
    for (int i = 0; i < 2; i++)
        assert_int_equal(noria_wait_any(&side, 1, A_WHILE), 1);
    assert_fails(noria_flush(it.tx, 0), EPIPE);
    assert_int_equal(stat_of(it.tx).lost, 3);
    assert_int_equal(noria_flush(it.tx, 0), 0);
}

static int gather_and_die(void)
{
    it.tx = open_handle(NORIA_SEND);
    CHILD_REQUIRES(send_numbered(it.tx, 1, 1, 100, A_WHILE) == 0);
    for (uint32_t i = 2; i < 5; i++)
        CHILD_REQUIRES(gather_numbered(i, 100, A_WHILE) == 0);
    return 0;
}

static void lost_with_the_sender(void **state)
{
    /* Claim: a process that ends without flush or close takes with it what it had gathered, and only that. */
    pid_t child;

    (void)state;
    open_receiver();
    child = start(gather_and_die);
    close_end(1);
    expect(1, 1, 100);
    expect_end(child);
    if (gathers())
        expect_stream_end(A_WHILE);
    else
        expect(1, 2, 100);
}

static int gather_all(void)
{
    it.tx = open_handle(NORIA_SEND);
    for (uint32_t i = 0; i < 2000; i++) {
        CHILD_REQUIRES(gather_numbered(i, i % 300, A_WHILE) == 0);
        if (i % 37 == 0)
            CHILD_REQUIRES(noria_flush(it.tx, A_WHILE) == 0);
    }
    CHILD_REQUIRES(noria_flush(it.tx, A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void a_stream_of_them(void **state)
{
    /* Claim: through a channel that is full again and again they come whole, in order, once. */
    pid_t child;

    (void)state;
    open_receiver();
    child = start(gather_all);
    close_end(1);
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(expect(1, i, i % 300).flags & NORIA_LOST, 0);
    expect_stream_end(A_WHILE);
    expect_end(child);
}

static void priorities_are_kept(void **state)
{
    /* Claim: each gathered message goes at its priority. */
    static const unsigned priorities[] = {0, 0, 2, 2, 1, 0};
    static const uint32_t expected[] = {2, 3, 4, 0, 1, 5};
    uint8_t bytes[50];

    (void)state;
    it.options.priorities = 3;
    if (strcmp(it.transport->name, "mq, short") != 0 && strcmp(it.transport->name, "svmq, short") != 0 &&
        strcmp(it.transport->name, "shm") != 0)
        return;
    open_pair();
    for (uint32_t i = 0; i < 6; i++) {
        fill(bytes, 1, i, sizeof(bytes));
        assert_int_equal(noria_gather(it.tx, bytes, sizeof(bytes), priorities[i], 0), 0);
    }
    assert_fails(noria_gather(it.tx, bytes, sizeof(bytes), 3, 0), EINVAL);
    assert_int_equal(noria_flush(it.tx, 0), 0);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(expect(1, expected[i], sizeof(bytes)).priority, priorities[expected[i]]);
}

int main(void)
{
#define TEST(name) \
    { \
#name, name \
    }
    static const struct named_test tests[] = {
        TEST(gathered_messages_wait_for_the_flush),
        TEST(other_sends_go_behind),
        TEST(a_full_channel_holds_them),
        TEST(lost_with_the_receiver),
        TEST(a_wait_for_room_keeps_the_news),
        TEST(lost_with_the_sender),
        TEST(a_stream_of_them),
        TEST(priorities_are_kept),
    };
    return run_suite("gathering", tests, sizeof(tests) / sizeof(tests[0]));
}
