/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: on a broadcast channel, too, processes that are killed or stopped cost the others nothing beyond
 * what its policy says: a stopped receiver holds the sender where it blocks without eviction, and nowhere
 * else. */
#define KINDS_TO_TEST \
    {NORIA_KIND_BROADCAST, "shm"}, {NORIA_KIND_BROADCAST, "memfd"}, {NORIA_KIND_BROADCAST, "anon"}
#include "variants_test.h"

#include <sys/wait.h>

#include "peers.h"

#define NOTICED (100 * MS)
enum { LEN = 10 };

static int with_peers(void **state)
{
    int rc;

    peers_begin();
    rc = setup(state);
    ch.options.max_held = 1;
    ch.options.max_participants = 4;
    return rc;
}

static int without_peers(void **state)
{
    peers_end();
    return teardown(state);
}

static void live_on(void)
{
    say();
    for (;;)
        pause();
}

static void listen_and_live_on(void)
{
    open_handle(NORIA_RECV);
    live_on();
}

static void send_two_and_reserve(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    struct noria_span span;
    uint8_t bytes[LEN];

    for (unsigned i = 0; i < 2; i++) {
        fill_message(bytes, i, sizeof(bytes));
        PEER_REQUIRES(noria_send(mine, bytes, sizeof(bytes), -1) == 0);
    }
    PEER_REQUIRES(noria_reserve(mine, 64, &span, -1) == 0);
    memset(span.data, 0xee, 64);
    live_on();
}

/* Counts what it gets and what it is told it missed, until the end of the stream. */
static void count_all(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint64_t got = 0, lost = 0, next = 0;
    uint8_t bytes[64];
    struct noria_info info;
    ssize_t rc;

    say();
    await_order();
    while ((rc = noria_recv(mine, bytes, sizeof(bytes), 30 * SECOND, &info)) >= 0) {
        PEER_REQUIRES(info.sequence == next + info.lost);
        next = info.sequence + 1;
        got++;
        lost += info.lost;
    }
    PEER_REQUIRES(rc == -EPIPE);
    peers->numbers[0] = (int64_t)got;
    peers->numbers[1] = (int64_t)lost;
    PEER_REQUIRES(noria_close(mine) == 0);
}

static unsigned fill_up(unsigned from)
{
    while (try_send(from, LEN) == 0)
        from++;
    return from;
}

static void a_killed_receiver_holds_nobody(void **state)
{
    /* Claim: a sender that waits for a receiver goes on when that is killed, and its place in the table is
     * free again. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned round = 0; round < 5; round++) {
        pid_t peer = start_peer(listen_and_live_on);
        unsigned n = 0;
        uint8_t bytes[LEN];
        int64_t start;
        await_peer();
        while (try_send(n, LEN) == 0)
            expect(n++, LEN);
        kill_peer(peer);
        start = now_ns();
        assert_int_equal(noria_send(ch.tx, "0123456789", LEN, 30 * SECOND), 0);
        assert_true(now_ns() - start < 20 * NOTICED);
        assert_int_equal(noria_recv(ch.rx, bytes, LEN, 0, NULL), LEN);
    }
    assert_int_equal(stat_of(ch.tx).deaths, 5);
    assert_int_equal(stat_of(ch.tx).lost, 0);
}

static void a_stopped_receiver_holds_a_blocking_sender_in_bounded_calls(void **state)
{
    /* Claim: the exception: with BLOCK a stopped receiver holds the sender, but every call ends in time,
     * others get all there is, and everything goes on with the one that is continued. */
    unsigned sent;
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(count_all);
    await_peer();
    stop_peer(peer);
    sent = fill_up(0);
    for (unsigned n = 0; n < sent; n++)
        expect(n, LEN);
    assert_fails(noria_send(ch.tx, "0123456789", LEN, 20 * MS), ETIMEDOUT);
    expect_nothing(EAGAIN);
    tell_peer();
    continue_peer(peer);
    assert_int_equal(noria_send(ch.tx, "0123456789", LEN, 30 * SECOND), 0);
    close_handle(&ch.tx);
    expect_end(peer);
    assert_int_equal(peers->numbers[0], sent + 1);
    assert_int_equal(peers->numbers[1], 0);
}

static void a_stopped_receiver_is_evicted(void **state)
{
    /* Claim: with evict_ns (or lossy) the others go on without a stopped receiver, and it knows afterwards
     * what it missed. */
    enum { SENT = 500 };

    (void)state;
    for (int lossy = 0; lossy < 2; lossy++) {
        pid_t peer;
        ch.options.evict_ns = lossy ? 0 : 20 * MS;
        ch.options.full = lossy ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        ch.tx = open_handle(NORIA_SEND);
        ch.rx = open_handle(NORIA_RECV);
        peer = start_peer(count_all);
        await_peer();
        stop_peer(peer);
        for (unsigned n = 0; n < SENT; n++) {
            uint8_t bytes[LEN];
            fill_message(bytes, n, LEN);
            assert_int_equal(noria_send(ch.tx, bytes, LEN, 30 * SECOND), 0);
            expect(n, LEN);
        }
        tell_peer();
        continue_peer(peer);
        close_handle(&ch.tx);
        expect_end(peer);
        assert_int_equal(peers->numbers[0] + peers->numbers[1], SENT);
        assert_true(peers->numbers[0] >= 8 && peers->numbers[1] > 400);
        close_handle(&ch.rx);
        if (ch.memfd >= 0)
            return;
    }
}

static void observe_and_live_on(void)
{
    open_handle(0);
    live_on();
}

static void the_dead_of_a_lossy_channel_are_cleared_away(void **state)
{
    /* Claim: where receivers cannot write the ring, one of them clears away other receivers and observers who
     * were killed; so does the sender; and neither opens the ring for it, nor touches the living sender's
     * role. */
    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned round = 0; round < 4; round++) {
        pid_t peer = start_peer(round % 2 == 0 ? listen_and_live_on : observe_and_live_on);
        uint8_t bytes[LEN];
        await_peer();
        kill_peer(peer);
        if (round < 2) /* who waits notices */
            while (stat_of(ch.rx).deaths == round)
                assert_fails(noria_recv(ch.rx, bytes, LEN, 20 * MS, NULL), ETIMEDOUT);
        else { /* or who comes */
            close_handle(&ch.tx);
            ch.tx = open_handle(NORIA_SEND);
        }
        assert_int_equal(stat_of(ch.rx).deaths, round + 1);
        send_numbered(round, LEN);
        expect(round, LEN);
    }
}

static void a_killed_sender_has_a_successor(void **state)
{
    /* Claim: of a killed sender everything committed is received, its half-written message is not, the stream
     * ends; the next sender takes over, and the sequence goes on; lossy, reading receivers included. */
    (void)state;
    for (int lossy = 0; lossy < 2; lossy++) {
        pid_t peer;
        uint8_t bytes[64];
        struct noria_info info;
        ch.options.full = lossy ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        ch.rx = open_handle(NORIA_RECV);
        peer = start_peer(send_two_and_reserve);
        await_peer();
        kill_peer(peer);
        expect(0, LEN);
        expect(1, LEN);
        assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, NULL), EPIPE);
        assert_int_equal(stat_of(ch.rx).deaths, 1);
        ch.tx = open_handle(NORIA_SEND);
        send_numbered(2, LEN);
        info = expect(2, LEN);
        assert_int_equal(info.sequence, 2);
        assert_int_equal(info.lost, 0);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        if (ch.memfd >= 0)
            return;
    }
}

static void a_stopped_sender_holds_nobody(void **state)
{
    /* Claim: what a stopped sender has committed is received, receivers' calls end in time, and its role
     * stays its own. */
    uint8_t bytes[64];
    noria_channel *second = NULL;
    pid_t peer;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(send_two_and_reserve);
    await_peer();
    stop_peer(peer);
    expect(0, LEN);
    expect(1, LEN);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 20 * MS, NULL), ETIMEDOUT);
    assert_fails(try_open(&second, NORIA_SEND), EBUSY);
    kill_peer(peer);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(7, LEN);
    expect(7, LEN);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(a_killed_receiver_holds_nobody),
        EVERYWHERE(a_stopped_receiver_holds_a_blocking_sender_in_bounded_calls),
        EVERYWHERE(a_stopped_receiver_is_evicted),
        EVERYWHERE(the_dead_of_a_lossy_channel_are_cleared_away),
        EVERYWHERE(a_killed_sender_has_a_successor),
        EVERYWHERE(a_stopped_sender_holds_nobody),
    };

    return run_variants_with("broadcast between processes", tests, sizeof(tests) / sizeof(tests[0]),
                             with_peers, without_peers);
}
