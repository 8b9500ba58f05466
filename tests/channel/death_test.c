/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: processes that are killed or stopped cost the others nothing: no message, no room, no role, no
 * waiting beyond a tenth of a second, and no operator. */
#include "variants_test.h"

#include <sched.h>
#include <sys/wait.h>

#include "peers.h"

#define NOTICED (100 * MS)

static int with_peers(void **state)
{
    peers_begin();
    return setup(state);
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

/* -------------------------------------------------------------------------------------- what peers may do */

static void hold_three(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    for (int i = 0; i < 3; i++) {
        struct noria_span span;
        struct noria_info info;
        PEER_REQUIRES(noria_peek(mine, &span, -1, &info) == 0);
        peers->numbers[i] = (int64_t)info.sequence;
    }
    live_on();
}

static void hold_three_and_release_when_told(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    struct noria_span spans[3];

    for (int i = 0; i < 3; i++)
        PEER_REQUIRES(noria_peek(mine, &spans[i], -1, NULL) == 0);
    say();
    await_order();
    for (unsigned i = 0; i < 3; i++) {
        verify_message(spans[i].data, i, 10);
        PEER_REQUIRES(noria_release(mine, &spans[i]) == 0);
    }
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void receive_three(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t bytes[64];

    for (int i = 0; i < 3; i++)
        PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), -1, NULL) == 10);
    live_on();
}

static void receive_for_ever(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t bytes[64];

    say();
    while (noria_recv(mine, bytes, sizeof(bytes), -1, NULL) >= 0)
        continue;
    PEER_REQUIRES(false);
}

static void send_two_and_reserve(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    struct noria_span span;
    uint8_t bytes[10];

    for (unsigned i = 0; i < 2; i++) {
        fill_message(bytes, i, sizeof(bytes));
        PEER_REQUIRES(noria_send(mine, bytes, sizeof(bytes), -1) == 0);
    }
    PEER_REQUIRES(noria_reserve(mine, 64, &span, -1) == 0);
    memset(span.data, 0xee, 64);
    live_on();
}

static void reserve_and_commit_when_told(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    struct noria_span span;

    PEER_REQUIRES(noria_reserve(mine, 64, &span, -1) == 0);
    say();
    await_order();
    fill_message(span.data, 77, 10);
    PEER_REQUIRES(noria_commit(mine, &span, 10, -1) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void take_both_roles(void)
{
    open_handle(NORIA_SEND | NORIA_RECV);
    live_on();
}

static void observe(void)
{
    open_handle(0);
    live_on();
}

/* A receiver's handle for the test: SPSC has one receiver at a time, so it comes after the peer's death. */
static void open_receiver(void)
{
    if (ch.rx == NULL)
        ch.rx = open_handle(NORIA_RECV);
}

static void send_from_to(unsigned first, unsigned end)
{
    for (unsigned n = first; n < end; n++)
        send_numbered(n, 10);
}

/* --------------------------------------------------------------------------------------------- redelivery */

static void held_messages_come_back(void **state)
{
    /* Claim: what a killed receiver held goes to another one, in order, flagged, with the same sequences;
     * then come the others. Nothing is lost, nothing comes twice. */
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    if (!is_spsc())
        ch.rx = open_handle(NORIA_RECV);
    send_from_to(0, 6);
    peer = start_peer(hold_three);
    await_peer();
    kill_peer(peer);
    open_receiver();
    if (!is_spsc()) /* whoever waits for it notices the death */
        ch.options.recheck_ns = 5 * MS;
    for (unsigned n = 0; n < 3; n++) {
        uint8_t bytes[64];
        struct noria_info info;
        if (!is_spsc() && n == 0) { /* those behind are there already: nobody need notice anything */
            for (unsigned behind = 3; behind < 6; behind++)
                assert_int_equal(expect(behind, 10).flags, 0);
        }
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
        verify_message(bytes, n, 10);
        assert_int_equal(info.flags, NORIA_REDELIVERED);
        assert_true((int64_t)info.sequence == peers->numbers[n]);
    }
    for (unsigned n = 3; is_spsc() && n < 6; n++)
        assert_int_equal(expect(n, 10).flags, 0);
    expect_nothing(EAGAIN);
    assert_int_equal(stat_of(ch.rx).redelivered, 3);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    assert_int_equal(stat_of(ch.rx).lost, 0);
}

static void held_messages_come_back_again(void **state)
{
    /* Claim: if the next holder is killed too, they come back again, until one releases them. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_from_to(0, 3);
    for (int deaths = 0; deaths < 3; deaths++) {
        pid_t peer = start_peer(hold_three);
        await_peer();
        kill_peer(peer);
    }
    open_receiver();
    for (unsigned n = 0; n < 3; n++)
        assert_int_equal(expect(n, 10).flags, NORIA_REDELIVERED);
    expect_nothing(EAGAIN);
    assert_int_equal(stat_of(ch.rx).deaths, 3);
}

static void released_messages_stay_away(void **state)
{
    /* Claim: what a killed receiver had released never comes back. */
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_from_to(0, 5);
    peer = start_peer(receive_three);
    await_peer();
    kill_peer(peer);
    open_receiver();
    for (unsigned n = 3; n < 5; n++)
        assert_int_equal(expect(n, 10).flags,
                         is_spsc() ? NORIA_REDELIVERED : 0); /* SPSC: "may have been seen" */
    expect_nothing(EAGAIN);
}

static void dropped_messages_are_counted(void **state)
{
    /* Claim (MPMC, orphans = DROP): what a killed receiver held is gone, counted in stat, and told once, with
     * the next message. */
    struct noria_info info;
    pid_t peer;

    (void)state;
    ch.options.orphans = NORIA_ORPHANS_DROP;
    open_pair();
    send_from_to(0, 3);
    peer = start_peer(hold_three);
    await_peer();
    kill_peer(peer);
    while (stat_of(ch.rx).lost == 0)
        assert_int_equal(noria_recv(ch.rx, NULL, 0, 20 * MS, NULL), -ETIMEDOUT);
    send_from_to(3, 5);
    info = expect(3, 10);
    assert_int_equal(info.flags, NORIA_LOST);
    assert_int_equal(info.lost, 3);
    info = expect(4, 10);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.lost, 0);
    assert_int_equal(stat_of(ch.rx).lost, 3);
    assert_int_equal(stat_of(ch.rx).redelivered, 0);
    peer = start_peer(send_two_and_reserve);
    await_peer();
    kill_peer(peer);
    expect(0, 10);
    expect(1, 10);
    while (stat_of(ch.rx).deaths < 2)
        assert_int_equal(noria_recv(ch.rx, NULL, 0, 20 * MS, NULL), -ETIMEDOUT);
    assert_int_equal(stat_of(ch.rx).lost, 3); /* what was never sent is not lost */
}

static void hold_two_of_a_group(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    struct noria_span spans[3];

    for (int i = 0; i < 3; i++)
        PEER_REQUIRES(noria_peek(mine, &spans[i], -1, NULL) == 0);
    PEER_REQUIRES(noria_release(mine, &spans[0]) == 0);
    live_on();
}

static void send_group_of_four(void)
{
    uint8_t bytes[4][10];
    struct iovec messages[4];

    for (unsigned i = 0; i < 4; i++) {
        fill_message(bytes[i], i, 10);
        messages[i] = (struct iovec){bytes[i], 10};
    }
    assert_int_equal(noria_send_many(ch.tx, messages, 4, 0), 4);
}

static void rest_of_a_group_comes_back(void **state)
{
    /* Claim (MPMC, pack 4): of a group the unreleased rest comes back, flagged; the released part does not.
     * With DROP the rest is counted. */
    (void)state;
    ch.options.pack = 4;
    for (uint32_t policy = NORIA_ORPHANS_REDELIVER; policy <= NORIA_ORPHANS_DROP; policy++) {
        pid_t peer;
        ch.options.orphans = policy;
        open_pair();
        send_group_of_four();
        peer = start_peer(hold_two_of_a_group);
        await_peer();
        kill_peer(peer);
        if (policy == NORIA_ORPHANS_REDELIVER) {
            for (unsigned n = 1; n < 4; n++) {
                uint8_t bytes[64];
                struct noria_info info;
                assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
                verify_message(bytes, n, 10);
                assert_int_equal(info.flags, NORIA_REDELIVERED);
            }
        } else {
            while (stat_of(ch.rx).lost == 0)
                assert_int_equal(noria_recv(ch.rx, NULL, 0, 20 * MS, NULL), -ETIMEDOUT);
            assert_int_equal(stat_of(ch.rx).lost, 3);
        }
        expect_nothing(EAGAIN);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            return;
    }
}

/* ---------------------------------------------------------------------------------- dead and slow senders */

static void unfinished_messages_are_never_seen(void **state)
{
    /* Claim: of a killed sender everything committed is received and its half-written message is not; its
     * room is free. */
    unsigned sent = 0;
    pid_t peer;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(send_two_and_reserve);
    await_peer();
    kill_peer(peer);
    expect(0, 10);
    expect(1, 10);
    ch.tx = open_handle(NORIA_SEND);
    expect_nothing(EAGAIN);
    while (try_send(sent, 64) == 0)
        sent++;
    assert_true(is_spsc() ? sent >= 8 : sent == 8);
    for (unsigned n = 0; n < sent; n++)
        expect(n, 64);
}

static void stopped_sender_holds_nobody_up(void **state)
{
    /* Claim (MPMC): a sender stopped with a reservation costs the others nothing; continued, it commits, and
     * its message is received after those sent before that. */
    pid_t peer;

    (void)state;
    open_pair();
    peer = start_peer(reserve_and_commit_when_told);
    await_peer();
    stop_peer(peer);
    for (unsigned lap = 0; lap < 60; lap++) {
        for (unsigned n = 0; n < 8; n++)
            send_numbered(n, 10);
        assert_int_equal(try_send(8, 10), -EAGAIN);
        for (unsigned n = 0; n < 8; n++)
            expect(n, 10);
        expect_nothing(EAGAIN);
    }
    send_numbered(5, 10);
    continue_peer(peer);
    tell_peer();
    expect_end(peer);
    expect(5, 10);
    expect(77, 10);
}

static void stopped_receiver_keeps_its_messages(void **state)
{
    /* Claim: a receiver that is stopped with messages in hand keeps them; MPMC goes on with its whole
     * capacity without it, SPSC's sender gets -ETIMEDOUT and a second receiver -EBUSY; continued, it finds
     * its messages as they were. */
    noria_channel *second;
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_from_to(0, 3);
    peer = start_peer(hold_three_and_release_when_told);
    await_peer();
    stop_peer(peer);
    if (is_spsc()) {
        uint8_t bytes[64] = {0};
        int64_t start = now_ns();
        while (try_send(3, 10) == 0)
            continue;
        assert_fails(noria_send(ch.tx, bytes, 10, 50 * MS), ETIMEDOUT);
        assert_fails(try_open(&second, NORIA_RECV), EBUSY);
        assert_true(now_ns() - start < 20 * SECOND);
    } else {
        open_receiver();
        for (unsigned lap = 0; lap < 60; lap++) {
            for (unsigned n = 0; n < 8; n++)
                send_numbered(n, 10);
            assert_int_equal(try_send(8, 10), -EAGAIN);
            for (unsigned n = 0; n < 8; n++)
                assert_int_equal(expect(n, 10).flags, 0);
        }
        assert_fails(noria_recv(ch.rx, NULL, 0, 30 * MS, NULL),
                     ETIMEDOUT); /* longer than a look round takes */
        assert_int_equal(stat_of(ch.rx).deaths, 0);
    }
    continue_peer(peer);
    tell_peer();
    expect_end(peer);
    open_receiver();
    assert_int_equal(stat_of(ch.rx).redelivered, 0);
    if (is_spsc())
        expect(3, 10);
}

static void hold_all_that_is_allowed(void)
{
    noria_channel *mine = open_handle(NORIA_SEND | NORIA_RECV);
    struct noria_span span;

    for (int i = 0; i < 3; i++)
        PEER_REQUIRES(noria_peek(mine, &span, -1, NULL) == 0);
    PEER_REQUIRES(noria_reserve(mine, 64, &span, -1) == 0);
    live_on();
}

static void a_crowd_of_stopped_holders_leaves_the_capacity(void **state)
{
    /* Claim (MPMC): with every other participant stopped, each with max_held messages and a reservation in
     * hand, exactly `capacity` messages fit, lap after lap; when they are killed all they held comes back,
     * and still `capacity` fit. */
    enum { CROWD = 6 };
    pid_t crowd[CROWD];
    unsigned back = 0;

    (void)state;
    open_pair();
    for (int i = 0; i < CROWD; i++) {
        send_from_to(0, 3);
        crowd[i] = start_peer(hold_all_that_is_allowed);
        await_peer();
        stop_peer(crowd[i]);
    }
    for (unsigned lap = 0; lap < 100; lap++) {
        for (unsigned n = 0; n < 8; n++)
            send_numbered(n, 64);
        assert_int_equal(try_send(8, 64), -EAGAIN);
        for (unsigned n = 0; n < 8; n++)
            expect(n, 64);
    }
    for (int i = 0; i < CROWD; i++)
        kill_peer(crowd[i]);
    while (back < 3 * CROWD) {
        uint8_t bytes[64];
        struct noria_info info;
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
        assert_int_equal(info.flags, NORIA_REDELIVERED);
        back++;
    }
    for (unsigned n = 0; n < 8; n++)
        send_numbered(n, 64);
    assert_int_equal(try_send(8, 64), -EAGAIN);
}

static void deaths_do_not_eat_the_capacity(void **state)
{
    /* Claim: after many receivers killed with messages in hand and many senders killed with reservations,
     * `capacity` messages fit as on the first day. */
    unsigned sent = 0;

    (void)state;
    ch.keeper = open_handle(0);
    for (int round = 0; round < 12; round++) {
        pid_t peer;
        ch.tx = open_handle(NORIA_SEND);
        send_from_to(0, 3);
        close_handle(&ch.tx);
        peer = start_peer(hold_three);
        await_peer();
        kill_peer(peer);
        peer = start_peer(send_two_and_reserve);
        await_peer();
        kill_peer(peer);
        open_receiver();
        for (unsigned n = 0; n < 3; n++)
            assert_int_equal(expect(n, 10).flags, NORIA_REDELIVERED);
        expect(0, 10);
        expect(1, 10);
        close_handle(&ch.rx);
    }
    open_pair();
    assert_int_equal(stat_of(ch.rx).deaths, 24);
    while (try_send(sent, 64) == 0)
        sent++;
    assert_true(is_spsc() ? sent >= 8 : sent == 8);
}

/* ---------------------------------------------------------------------------------- noticed, and how soon */

/* Each try kills somebody and says how long it took until that had its effect. A loaded machine makes some of them late;
 * three of the first five are in time on any other. */
static void expect_noticed(int64_t (*try_it)(void))
{
    int in_time = 0;

    for (int i = 0; i < 15 && in_time < 3; i++) {
        int64_t took = try_it();
        print_message("noticed after %.1f ms\n", (double)took / MS);
        in_time += took < NOTICED;
    }
    assert_int_equal(in_time, 3);
}

static void wait_for_a_message(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t bytes[64];
    struct noria_info info;

    say();
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), -1, &info) == 10);
    peers->numbers[8] = now_ns();
    PEER_REQUIRES(info.flags == NORIA_REDELIVERED);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static int64_t kill_a_holder(void)
{
    pid_t holder, waiting;
    int64_t start;

    send_from_to(0, 3);
    holder = start_peer(hold_three);
    await_peer();
    waiting = start_peer(wait_for_a_message);
    await_peer();
    while (!is_asleep(waiting))
        sched_yield();
    start = now_ns();
    kill_peer(holder);
    expect_end(waiting);
    open_receiver();
    for (int n = 0; n < 2; n++)
        assert_int_equal(noria_recv(ch.rx, (uint8_t[64]){0}, 64, 30 * SECOND, NULL), 10);
    close_handle(&ch.rx);
    return peers->numbers[8] - start;
}

static void sleeping_receiver_notices_a_death(void **state)
{
    /* Claim (MPMC): a receiver that sleeps gets what a killed one held within 100 ms. */
    (void)state;
    ch.options.recheck_ns = 25 * MS; /* the default */
    ch.tx = open_handle(NORIA_SEND);
    expect_noticed(kill_a_holder);
}

static void wait_for_the_end(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t bytes[64];

    for (int i = 0; i < 2; i++)
        PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), -1, NULL) == 10);
    say();
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), -1, NULL) == -EPIPE);
    peers->numbers[8] = now_ns();
    PEER_REQUIRES(noria_close(mine) == 0);
}

static int64_t kill_the_last_sender(void)
{
    pid_t sender = start_peer(send_two_and_reserve), receiver;
    int64_t start;

    await_peer();
    receiver = start_peer(wait_for_the_end);
    await_peer();
    while (!is_asleep(receiver))
        sched_yield();
    start = now_ns();
    kill_peer(sender);
    expect_end(receiver);
    return peers->numbers[8] - start;
}

static void killed_sender_ends_the_stream(void **state)
{
    /* Claim: a killed sender has left: a sleeping receiver is told of the end within 100 ms. */
    (void)state;
    ch.options.recheck_ns = 25 * MS;
    ch.keeper = open_handle(0);
    expect_noticed(kill_the_last_sender);
}

static int64_t kill_the_last_receiver(void)
{
    pid_t receiver = start_peer(receive_for_ever);
    int64_t start;
    int rc;

    await_peer();
    while (stat_of(ch.tx).messages != 0) /* of the last round */
        sched_yield();
    send_numbered(1, 10);
    start = now_ns();
    kill_peer(receiver);
    do
        rc = noria_send(ch.tx, "0123456789", 10, SECOND);
    while (rc == 0);
    start = now_ns() - start;
    assert_int_equal(rc, -EPIPE);
    return start;
}

static void killed_receiver_ends_the_stream_too(void **state)
{
    /* Claim: with need_receiver a sender is told within 100 ms that the last receiver was killed, while it
     * fills the channel and when that is full. */
    (void)state;
    ch.options.recheck_ns = 25 * MS;
    ch.options.need_receiver = 1;
    ch.tx = open_handle(NORIA_SEND);
    expect_noticed(kill_the_last_receiver);
}

static int64_t take_over_roles(bool reaped)
{
    pid_t peer = start_peer(take_both_roles);
    noria_channel *mine = NULL;
    int64_t start;

    await_peer();
    assert_fails(try_open(&mine, NORIA_SEND), EBUSY);
    if (reaped)
        kill_peer(peer);
    else
        kill_unreaped(peer);
    start = now_ns();
    assert_int_equal(try_open(&mine, NORIA_SEND | NORIA_RECV), 0);
    start = now_ns() - start;
    close_handle(&mine);
    if (!reaped)
        kill_peer(peer);
    return start;
}

static int64_t take_over_from_reaped(void)
{
    return take_over_roles(true);
}

static int64_t take_over_from_zombie(void)
{
    return take_over_roles(false);
}

static void roles_of_the_killed_are_taken_over(void **state)
{
    /* Claim (SPSC): both roles of a killed process, reaped or a zombie, can be taken within 100 ms, at the
     * first try. */
    (void)state;
    ch.keeper = open_handle(0);
    expect_noticed(take_over_from_reaped);
    expect_noticed(take_over_from_zombie);
}

static void places_of_the_killed_are_free(void **state)
{
    /* Claim: a table of participants full of the dead has room at once. */
    pid_t observers[7];
    noria_channel *mine;

    (void)state;
    ch.keeper = open_handle(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 7; i++) {
            observers[i] = start_peer(observe);
            await_peer();
        }
        assert_fails(try_open(&mine, 0), EBUSY);
        kill_peer(observers[round]);
        assert_int_equal(try_open(&mine, 0), 0);
        close_handle(&mine);
        for (int i = 0; i < 7; i++)
            if (i != round)
                kill_peer(observers[i]);
    }
    open_pair();
    assert_int_equal(stat_of(ch.rx).deaths, 21);
    assert_int_equal(stat_of(ch.rx).observers, 1);
}

/* --------------------------------------------------------------------------------- what others get to see */

static void the_dead_are_told_from_the_living(void **state)
{
    /* Claim: stat counts the living only, stopped ones included; who tells the dead apart until they are
     * settled. */
    struct noria_participant who[8];
    pid_t peer;

    (void)state;
    ch.keeper = open_handle(0);
    peer = start_peer(take_both_roles);
    await_peer();
    stop_peer(peer);
    assert_int_equal(stat_of(ch.keeper).senders, 1);
    assert_int_equal(stat_of(ch.keeper).receivers, 1);
    assert_int_equal(noria_who(ch.address, who, 8), 2);
    assert_int_equal(who[1].pid, peer);
    assert_int_equal(who[1].alive, 1);
    kill_unreaped(peer);
    assert_int_equal(stat_of(ch.keeper).senders, 0);
    assert_int_equal(stat_of(ch.keeper).receivers, 0);
    assert_int_equal(stat_of(ch.keeper).deaths, 0); /* looking settles nothing */
    assert_int_equal(noria_who(ch.address, who, 8), 2);
    assert_int_equal(who[1].alive, 0);
    open_pair();
    assert_int_equal(noria_who(ch.address, who, 8), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(who[i].alive, 1);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
}

static void the_dead_do_not_keep_a_name(void **state)
{
    /* Claim: with UNLINK_LAST the last living handle takes the name along, however many dead are in the
     * table; remove takes a channel whose participants are all dead. */
    pid_t peer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.keeper = open_handle(0);
    for (int i = 0; i < 3; i++) {
        peer = start_peer(observe);
        await_peer();
        kill_peer(peer);
    }
    close_handle(&ch.keeper);
    assert_false(name_exists());
    peer = start_peer(observe);
    await_peer();
    assert_fails(noria_remove(ch.address, 0), EBUSY);
    kill_peer(peer);
    assert_true(name_exists()); /* nobody was there to notice */
    assert_int_equal(noria_remove(ch.address, 0), 0);
}

static void killed_sleepers_take_nobody_along(void **state)
{
    /* Claim: receivers killed in their sleep leave the waking of the others as it was. */
    (void)state;
    ch.options.recheck_ns = 3600 * SECOND;
    ch.tx = open_handle(NORIA_SEND);
    for (int round = 0; round < 5; round++) {
        pid_t first = start_peer(receive_for_ever), second;
        await_peer();
        while (!is_asleep(first))
            sched_yield();
        kill_peer(first);
        second = start_peer(receive_for_ever);
        await_peer();
        while (!is_asleep(second))
            sched_yield();
        send_numbered(1, 10);
        while (stat_of(ch.tx).received < (uint64_t)round + 1)
            sched_yield();
        kill_peer(second);
    }
}

static void stream_waits_for_another_hand(void **state)
{
    /* Claim (MPMC): with no sender left and a message in another receiver's hand a receiver waits; that one
     * is killed: the message comes, flagged, and then the end. */
    uint8_t bytes[64];
    struct noria_info info;
    pid_t peer;

    (void)state;
    open_pair();
    send_from_to(0, 3);
    peer = start_peer(hold_three);
    await_peer();
    close_handle(&ch.tx);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * MS, NULL), ETIMEDOUT);
    kill_peer(peer);
    for (unsigned n = 0; n < 3; n++) {
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), -1, &info), 10);
        assert_int_equal(info.flags, NORIA_REDELIVERED);
        verify_message(bytes, n, 10);
    }
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), -1, NULL), EPIPE);
}

/* Where its number means nothing to others, and with the descriptor closed that holds its lock: as a program
 * does that closes all it does not know, in a container. */
static void lose_ones_lock_and_go_on(void)
{
    noria_channel *mine = open_handle(NORIA_SEND | NORIA_RECV);
    struct noria_span held, reserved;

    PEER_REQUIRES(noria_peek(mine, &held, -1, NULL) == 0);
    PEER_REQUIRES(noria_reserve(mine, 10, &reserved, -1) == 0);
    PEER_REQUIRES(close_range(3, ~0U, 0) == 0);
    say();
    await_order();
    PEER_REQUIRES(noria_commit(mine, &reserved, 10, -1) == -EOWNERDEAD && strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_release(mine, &held) == -EOWNERDEAD && strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void lose_ones_role_and_go_on(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    struct noria_span reserved;
    uint8_t bytes[64] = {0};

    PEER_REQUIRES(noria_reserve(mine, 10, &reserved, -1) == 0);
    PEER_REQUIRES(close_range(3, ~0U, 0) == 0);
    say();
    await_order();
    PEER_REQUIRES(noria_commit(mine, &reserved, 10, -1) == -EOWNERDEAD && strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_send(mine, bytes, 64, -1) == -EOWNERDEAD && strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void be_taken_for_dead(void (*body)(void))
{
    int status;
    pid_t pid;

    if (unshare(CLONE_NEWPID) != 0)
        exit(77);
    pid = fork();
    if (pid == 0) {
        body();
        exit(0);
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    exit(WEXITSTATUS(status));
}

static void receiver_taken_for_dead(void)
{
    be_taken_for_dead(lose_ones_lock_and_go_on);
}

static void sender_taken_for_dead(void)
{
    be_taken_for_dead(lose_ones_role_and_go_on);
}

static void who_was_taken_for_dead_is_told(void **state)
{
    /* Claim (MPMC): a live handle that the others had to take for dead gets -EOWNERDEAD for what it held, and
     * does no harm with it: the message went to another receiver, once, and its reservation is nobody's. Nor
     * does its closing, to what a newcomer holds under the same number. */
    noria_channel *newcomer;
    struct noria_span peeked, reserved;
    uint8_t bytes[64];
    struct noria_info info;
    unsigned sent = 0;
    pid_t peer;

    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can make a pid namespace\n");
        skip();
    }
    open_pair();
    send_numbered(4, 10);
    peer = start_peer(receiver_taken_for_dead);
    await_peer();
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    verify_message(bytes, 4, 10);
    while (try_send(sent, 64) == 0)
        sent++;
    assert_int_equal(sent, 8);
    newcomer = open_handle(NORIA_SEND | NORIA_RECV);
    assert_int_equal(noria_peek(newcomer, &peeked, 0, NULL), 0);
    assert_int_equal(noria_reserve(newcomer, 64, &reserved, 0), 0);
    tell_peer();
    expect_end(peer);
    expect(1, 64); /* what the newcomer holds does not come back */
    verify_message(peeked.data, 0, 64);
    assert_int_equal(noria_release(newcomer, &peeked), 0);
    fill_message(reserved.data, 8, 64);
    assert_int_equal(noria_commit(newcomer, &reserved, 64, 0), 0);
    close_handle(&newcomer);
    for (unsigned n = 2; n <= sent; n++)
        expect(n, 64);
    expect_nothing(EAGAIN);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    assert_int_equal(stat_of(ch.rx).held, 0);
}

static void sender_with_a_successor_is_told(void **state)
{
    /* Claim (SPSC): a live sender that the others had to take for dead, and whose role another one has, gets
     * -EOWNERDEAD, and nothing of it comes between the successor's messages. */
    pid_t peer;

    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can make a pid namespace\n");
        skip();
    }
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(sender_taken_for_dead);
    await_peer();
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(0, 64);
    tell_peer();
    expect_end(peer);
    send_numbered(1, 64);
    expect(0, 64);
    expect(1, 64);
    expect_nothing(EAGAIN);
}

int main(void)
{
    static const struct named_test tests[] = {
        {"sender_with_a_successor_is_told", sender_with_a_successor_is_told, NORIA_KIND_SPSC, "shm"},
        {"who_was_taken_for_dead_is_told", who_was_taken_for_dead_is_told, NORIA_KIND_MPMC, "shm"},
        EVERYWHERE(held_messages_come_back),
        EVERYWHERE(held_messages_come_back_again),
        EVERYWHERE(released_messages_stay_away),
        ONLY_MPMC(dropped_messages_are_counted),
        ONLY_MPMC(rest_of_a_group_comes_back),
        EVERYWHERE(unfinished_messages_are_never_seen),
        ONLY_MPMC(stopped_sender_holds_nobody_up),
        EVERYWHERE(stopped_receiver_keeps_its_messages),
        ONLY_MPMC(a_crowd_of_stopped_holders_leaves_the_capacity),
        EVERYWHERE(deaths_do_not_eat_the_capacity),
        ONLY_MPMC(sleeping_receiver_notices_a_death),
        EVERYWHERE(killed_sender_ends_the_stream),
        EVERYWHERE(killed_receiver_ends_the_stream_too),
        ONLY_SPSC(roles_of_the_killed_are_taken_over),
        EVERYWHERE(places_of_the_killed_are_free),
        BY_NAME(the_dead_are_told_from_the_living),
        BY_NAME(the_dead_do_not_keep_a_name),
        ONCE(killed_sleepers_take_nobody_along),
        ONLY_MPMC(stream_waits_for_another_hand),
    };

    return run_variants_with("death", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
