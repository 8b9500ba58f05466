/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a receiver is told of the end of the stream when, and only when, nothing can come any more; a sender
 * with need_receiver when nobody is left to receive. */
#include "variants_test.h"

#include <sys/wait.h>

#include "transport.h"

static void empty_channel_waits_for_its_first_sender(void **state)
{
    /* Claim: before any sender was there, an empty channel is -EAGAIN or -ETIMEDOUT, not the end. */
    uint8_t bytes[64];
    struct noria_span span;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    expect_nothing(EAGAIN);
    assert_fails(noria_recv(ch.rx, bytes, 64, 10 * MS, NULL), ETIMEDOUT);
    assert_fails(noria_peek(ch.rx, &span, 30 * MS, NULL), ETIMEDOUT); /* longer than a look round takes */
}

static void last_sender_takes_the_stream_along(void **state)
{
    /* Claim: after the last sender left, what it sent is drained; then every form of receiving is -EPIPE, at
     * once. */
    uint8_t bytes[64];
    struct iovec buffer = {bytes, 64};
    struct noria_span span;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 5; n++)
        send_numbered(n, 10);
    close_handle(&ch.tx);
    for (unsigned n = 0; n < 5; n++)
        expect(n, 10);
    assert_fails(noria_recv(ch.rx, bytes, 64, 0, NULL), EPIPE);
    assert_fails(noria_recv(ch.rx, bytes, 64, -1, NULL), EPIPE);
    assert_fails(noria_recv_many(ch.rx, &buffer, 1, -1, NULL), EPIPE);
    assert_fails(noria_peek(ch.rx, &span, -1, NULL), EPIPE);
}

static void a_sender_that_sent_nothing_was_there(void **state)
{
    /* Claim: a sender that came and went without a message ends the stream of a receiver that was there. */
    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    ch.tx = open_handle(NORIA_SEND);
    close_handle(&ch.tx);
    expect_nothing(EPIPE);
}

static void end_is_not_for_ever(void **state)
{
    /* Claim: a new sender reopens the stream, its leaving ends it again. */
    (void)state;
    open_pair();
    for (unsigned n = 0; n < 5; n++) {
        send_numbered(n, 1);
        expect(n, 1);
        expect_nothing(EAGAIN);
        close_handle(&ch.tx);
        expect_nothing(EPIPE);
        ch.tx = open_handle(NORIA_SEND);
        expect_nothing(EAGAIN);
    }
}

static void late_receiver_drains_and_ends(void **state)
{
    /* Claim: a receiver that opens after the sender left gets its messages and then the end: it has seen a
     * message. */
    (void)state;
    ch.keeper = open_handle(0);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 1);
    send_numbered(2, 2);
    close_handle(&ch.tx);
    ch.rx = open_handle(NORIA_RECV);
    expect(1, 1);
    expect(2, 2);
    expect_nothing(EPIPE);
}

static void late_receiver_of_nothing_waits(void **state)
{
    /* Claim: a receiver that opens on an empty channel, whose sender left before, waits for another one. */
    (void)state;
    ch.keeper = open_handle(0);
    ch.tx = open_handle(NORIA_SEND);
    close_handle(&ch.tx);
    ch.rx = open_handle(NORIA_RECV);
    expect_nothing(EAGAIN);
}

static void every_sender_has_to_leave(void **state)
{
    /* Claim (MPMC): the stream ends with the last of several senders, not with the first. */
    noria_channel *second;

    (void)state;
    open_pair();
    second = open_handle(NORIA_SEND);
    close_handle(&ch.tx);
    expect_nothing(EAGAIN);
    close_handle(&second);
    expect_nothing(EPIPE);
}

static void message_in_another_hand_may_come_back(void **state)
{
    /* Claim (MPMC): while another receiver holds a message the stream has not ended: it may come back. It
     * ends with the release; if the other one leaves without, the message comes, flagged. */
    noria_channel *other;
    struct noria_span span;

    (void)state;
    open_pair();
    other = open_handle(NORIA_RECV);
    send_numbered(1, 8);
    assert_int_equal(noria_peek(other, &span, 0, NULL), 0);
    close_handle(&ch.tx);
    expect_nothing(EAGAIN);
    assert_int_equal(noria_release(other, &span), 0);
    expect_nothing(EPIPE);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(2, 8);
    assert_int_equal(noria_peek(other, &span, 0, NULL), 0);
    close_handle(&ch.tx);
    expect_nothing(EAGAIN);
    close_handle(&other);
    assert_int_equal(expect(2, 8).flags, NORIA_REDELIVERED);
    expect_nothing(EPIPE);
}

static void own_messages_in_hand_do_not_count(void **state)
{
    /* Claim: what this receiver holds itself does not keep its stream open. */
    struct noria_span span, next;

    (void)state;
    open_pair();
    send_numbered(1, 8);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    close_handle(&ch.tx);
    assert_fails(noria_peek(ch.rx, &next, 0, NULL), EPIPE);
    assert_fails(noria_peek(ch.rx, &next, -1, NULL), EPIPE);
    assert_int_equal(noria_release(ch.rx, &span), 0);
}

static void sender_of_both_roles_is_a_sender(void **state)
{
    /* Claim: a handle that may send keeps the stream open for its own receiving, too. */
    uint8_t bytes[64];

    (void)state;
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    assert_fails(noria_recv(ch.tx, bytes, 64, 0, NULL), EAGAIN);
    assert_fails(noria_recv(ch.tx, bytes, 64, 20 * MS, NULL), ETIMEDOUT);
}

static void observers_are_not_senders(void **state)
{
    /* Claim: neither an observer nor another receiver keeps the stream open. */
    noria_channel *observer;

    (void)state;
    open_pair();
    observer = open_handle(is_spsc() ? 0 : NORIA_RECV);
    send_numbered(1, 1);
    close_handle(&ch.tx);
    expect(1, 1);
    expect_nothing(EPIPE);
    close_handle(&observer);
}

/* Another process, for what must happen in the middle of a call of this one. */
static int orders[2], reports[2];

static void await_byte(int fd)
{
    char byte;

    if (read(fd, &byte, 1) != 1)
        _exit(1);
}

static void write_byte(int fd)
{
    if (write(fd, "b", 1) != 1)
        _exit(1);
}

static void send_and_leave_when_told(void)
{
    noria_channel *mine;

    if (noria_reopen(&mine, ch.rx, NORIA_SEND) != 0)
        _exit(1);
    write_byte(reports[1]);
    await_byte(orders[0]);
    if (noria_send(mine, "farewell", 8, 0) != 0 || noria_close(mine) != 0)
        _exit(1);
    write_byte(reports[1]);
    _exit(0);
}

/* A table of verbs in which the last sender sends once more and leaves, right after a receiver
 * found nothing. */
static struct noria_verbs meddled;
static const struct noria_verbs *true_verbs;
static int meddle_after;

static ssize_t receive_then_meddle(noria_channel *channel, void *buffer, size_t capacity,
                                   struct noria_info *info)
{
    ssize_t rc = true_verbs->recv(channel, buffer, capacity, info);

    if (rc == -EAGAIN && meddle_after-- == 0) {
        write_byte(orders[1]);
        await_byte(reports[0]);
    }
    return rc;
}

static void last_message_comes_before_the_end(void **state)
{
    /* Claim: if the last sender sends and leaves just after a receiver's try found nothing, the receiver gets
     * the message and not the end, be it in the first try or in a later one. */
    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(pipe2(orders, O_CLOEXEC) + pipe2(reports, O_CLOEXEC), 0);
    true_verbs = ch.rx->verbs;
    meddled = *true_verbs;
    meddled.recv = receive_then_meddle;
    meddled.recv_call = noria_recv_call;
    for (int after = 0; after < 4; after++) {
        uint8_t bytes[64];
        pid_t sender = fork();
        if (sender == 0)
            send_and_leave_when_told();
        await_byte(reports[0]);
        expect_nothing(EAGAIN);
        meddle_after = after;
        ch.rx->verbs = &meddled;
        assert_int_equal(noria_recv(ch.rx, bytes, 64, after == 0 ? 0 : -1, NULL), 8);
        ch.rx->verbs = true_verbs;
        assert_memory_equal(bytes, "farewell", 8);
        expect_nothing(EPIPE);
        assert_int_equal(waitpid(sender, NULL, 0), sender);
    }
    for (int i = 0; i < 2; i++) {
        close(orders[i]);
        close(reports[i]);
    }
}

/* ------------------------------------------------------------------------------------------ need_receiver */

static void sender_may_need_a_receiver(void **state)
{
    /* Claim: with need_receiver every form of sending is -EPIPE once receivers were there and all are gone,
     * room or not; before the first, and after a new one came, it is not. */
    struct iovec message = {(char[]){"x"}, 1};
    struct noria_span span;

    (void)state;
    ch.options.need_receiver = 1;
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 1); /* none was there yet */
    ch.rx = open_handle(NORIA_RECV);
    send_numbered(2, 1);
    close_handle(&ch.rx);
    assert_fails(noria_send(ch.tx, "x", 1, 0), EPIPE);
    assert_fails(noria_send(ch.tx, "x", 1, -1), EPIPE);
    assert_fails(noria_send_many(ch.tx, &message, 1, 0), EPIPE);
    assert_fails(noria_reserve(ch.tx, 1, &span, -1), EPIPE);
    ch.rx = open_handle(NORIA_RECV);
    send_numbered(3, 1);
    for (unsigned n = 1; n <= 3; n++)
        expect(n, 1);
}

static void full_channel_without_receivers_is_an_end_too(void **state)
{
    /* Claim: with need_receiver a sender that waits for room is -EPIPE when the receivers are gone. */
    uint8_t bytes[64] = {0};

    (void)state;
    ch.options.need_receiver = 1;
    open_pair();
    while (try_send(1, 64) == 0)
        continue;
    close_handle(&ch.rx);
    assert_fails(noria_send(ch.tx, bytes, 64, -1), EPIPE);
}

static void channel_outlives_its_receivers(void **state)
{
    /* Claim: without need_receiver a channel fills up with nobody there, and the next receiver finds
     * it all. */
    unsigned sent = 0;

    (void)state;
    open_pair();
    close_handle(&ch.rx);
    while (try_send(sent, 64) == 0)
        sent++;
    assert_true(sent >= 8);
    assert_fails(noria_send(ch.tx, "x", 1, 20 * MS), ETIMEDOUT);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned n = 0; n < sent; n++)
        expect(n, 64);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(empty_channel_waits_for_its_first_sender),
        EVERYWHERE(last_sender_takes_the_stream_along),
        EVERYWHERE(a_sender_that_sent_nothing_was_there),
        EVERYWHERE(end_is_not_for_ever),
        EVERYWHERE(late_receiver_drains_and_ends),
        EVERYWHERE(late_receiver_of_nothing_waits),
        ONLY_MPMC(every_sender_has_to_leave),
        ONLY_MPMC(message_in_another_hand_may_come_back),
        EVERYWHERE(own_messages_in_hand_do_not_count),
        ONCE(sender_of_both_roles_is_a_sender),
        ONCE(observers_are_not_senders),
        ONCE(last_message_comes_before_the_end),
        EVERYWHERE(sender_may_need_a_receiver),
        ONCE(full_channel_without_receivers_is_an_end_too),
        ONCE(channel_outlives_its_receivers),
    };

    return run_variants("stream", tests, sizeof(tests) / sizeof(tests[0]));
}
