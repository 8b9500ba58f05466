/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: what is sent is received, once, in order and unchanged, by every form of the calls; what cannot be
 * is refused and changes nothing. */
#include "variants_test.h"

/* --------------------------------------------------------------------------------------- send and receive */

static void messages_come_out_as_they_went_in(void **state)
{
    /* Claim: length, bytes, order, sender and a growing sequence arrive, for every length a message
     * can have. */
    uint64_t last_sequence = 0;

    (void)state;
    open_pair();
    for (unsigned len = 0; len <= 64; len++) {
        struct noria_info info;
        send_numbered(len, len);
        info = expect(len, len);
        assert_int_equal(info.flags, 0);
        assert_int_equal(info.priority, 0);
        assert_int_equal(info.lost, 0);
        assert_int_equal(info.sender, stat_of(ch.tx).self);
        assert_true(len == 0 || info.sequence > last_sequence);
        last_sequence = info.sequence;
    }
    expect_nothing(EAGAIN);
}

static void order_is_kept_over_many_laps(void **state)
{
    /* Claim: FIFO, whatever the fill of the channel and however often it wraps. */
    unsigned sent = 0, taken = 0;

    (void)state;
    open_pair();
    while (taken < 3000) {
        for (unsigned burst = 1 + sent % 8; burst > 0 && try_send(sent, sent % 65) == 0; burst--)
            sent++;
        for (unsigned burst = 1 + taken % 5; burst > 0 && taken < sent; burst--, taken++)
            expect(taken, taken % 65);
    }
}

static void length_zero_is_a_message(void **state)
{
    /* Claim: empty messages are sent, counted and received as such, with and without pointers, by
     * every form. */
    struct iovec nothing[2] = {{NULL, 0}, {NULL, 0}};
    struct noria_span span;
    struct noria_info info;

    (void)state;
    open_pair();
    assert_int_equal(noria_send(ch.tx, NULL, 0, 0), 0);
    assert_int_equal(noria_send_many(ch.tx, nothing, 2, 0), 2);
    assert_int_equal(noria_reserve(ch.tx, 0, &span, 0), 0);
    assert_int_equal(noria_commit(ch.tx, &span, 0, 0), 0);
    assert_int_equal(noria_recv(ch.rx, NULL, 0, 0, &info), 0);
    assert_int_equal(info.size, 0);
    assert_int_equal(noria_recv_many(ch.rx, nothing, 2, 0, NULL), 2);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    assert_int_equal(span.len, 0);
    assert_int_equal(noria_release(ch.rx, &span), 0);
    expect_nothing(EAGAIN);
}

static void nothing_is_touched_when_nothing_is_there(void **state)
{
    /* Claim: a receive that finds nothing leaves buffer, info, span and lengths as they were. */
    uint8_t bytes[8], untouched[8];
    struct iovec buffer = {bytes, sizeof(bytes)};
    struct noria_info info, old_info;
    struct noria_span span, old_span;

    (void)state;
    open_pair();
    memset(bytes, 0x55, sizeof(bytes));
    memset(untouched, 0x55, sizeof(untouched));
    memset(&info, 0x55, sizeof(info));
    memset(&span, 0x55, sizeof(span));
    old_info = info;
    old_span = span;
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info), EAGAIN);
    assert_fails(noria_recv_many(ch.rx, &buffer, 1, 0, &info), EAGAIN);
    assert_fails(noria_peek(ch.rx, &span, 0, &info), EAGAIN);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), MS, &info), ETIMEDOUT);
    assert_memory_equal(bytes, untouched, sizeof(bytes));
    assert_memory_equal(&info, &old_info, sizeof(info));
    assert_memory_equal(&span, &old_span, sizeof(span));
    assert_int_equal(buffer.iov_len, sizeof(bytes));
    while (try_send(1, 64) == 0)
        continue;
    assert_fails(noria_reserve(ch.tx, 64, &span, 0), EAGAIN);
    assert_memory_equal(&span, &old_span, sizeof(span));
}

static void messages_may_be_long(void **state)
{
    /* Claim: messages of a megabyte and one byte arrive whole, copied or in place. */
    size_t size = (1 << 20) + 1;
    uint8_t *bytes = malloc(size), *copy = malloc(size);
    struct noria_span span;

    (void)state;
    ch.options.max_message = (uint32_t)size;
    ch.options.capacity = 2;
    open_pair();
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * i >> 8);
    assert_int_equal(noria_send(ch.tx, bytes, size, 0), 0);
    assert_int_equal(noria_reserve(ch.tx, size, &span, 0), 0);
    memcpy(span.data, bytes, size);
    assert_int_equal(noria_commit(ch.tx, &span, size, 0), 0);
    assert_int_equal(noria_recv(ch.rx, copy, size, 0, NULL), size);
    assert_memory_equal(copy, bytes, size);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    assert_int_equal(span.len, size);
    assert_memory_equal(span.data, bytes, size);
    assert_int_equal(noria_release(ch.rx, &span), 0);
    free(bytes);
    free(copy);
}

static void positions_wrap(void **state)
{
    /* Claim: channels whose positions start just below 2^32 and 2^64 work on across the wrap. */
    static const uint64_t starts[] = {(UINT64_C(1) << 32) - 8, UINT64_MAX - 7, (UINT64_C(1) << 63) - 8,
                                      (UINT64_C(1) << 48) - 16};

    (void)state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        ch.options.first_position = starts[i];
        open_pair();
        for (unsigned n = 0; n < 500; n++) {
            send_numbered(n, n % 65);
            send_numbered(n + 1, 64);
            expect(n, n % 65);
            expect(n + 1, 64);
        }
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            return; /* a memfd is one channel for good */
    }
}

/* ----------------------------------------------------------------------------------------------- capacity */

static unsigned send_until_full(void)
{
    unsigned sent = 0;
    int rc;

    while ((rc = try_send(sent, 64)) == 0)
        sent++;
    assert_int_equal(rc, -EAGAIN);
    return sent;
}

static void capacity_is_what_was_asked_for(void **state)
{
    /* Claim: `capacity` messages of max_message bytes fit at every phase of the ring; in MPMC not
     * one more. */
    static const unsigned capacities[] = {1, 2, 3, 8, 33};

    (void)state;
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        ch.options.capacity = capacities[i];
        open_pair();
        for (unsigned phase = 0; phase < 40; phase++) {
            unsigned sent = send_until_full();
            assert_true(sent >= capacities[i]);
            if (!is_spsc())
                assert_int_equal(sent, capacities[i]);
            assert_int_equal(stat_of(ch.rx).messages, sent);
            for (unsigned n = 0; n < sent; n++)
                expect(n, 64);
            send_numbered(phase, phase); /* moves the phase */
            expect(phase, phase);
        }
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            return;
    }
}

static void room_comes_back_message_by_message(void **state)
{
    /* Claim: a channel with `capacity` messages in it takes one more as soon as it has given up one, at every
     * phase. */
    unsigned n = 0;

    (void)state;
    open_pair();
    while (n < 8)
        send_numbered(n++, 64);
    for (; n < 500; n++) {
        expect(n - 8, 64);
        send_numbered(n, 64);
    }
}

static void held_messages_leave_the_capacity_alone(void **state)
{
    /* Claim (MPMC): messages that receivers hold do not count: `capacity` more fit. */
    struct noria_span spans[3];

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 3; n++) {
        send_numbered(n, 8);
        assert_int_equal(noria_peek(ch.rx, &spans[n], 0, NULL), 0);
    }
    for (unsigned lap = 0; lap < 50; lap++) {
        assert_int_equal(send_until_full(), 8);
        for (unsigned n = 0; n < 8; n++)
            expect(n, 64);
    }
    for (unsigned n = 0; n < 3; n++) {
        verify_message(spans[n].data, n, 8);
        assert_int_equal(noria_release(ch.rx, &spans[n]), 0);
    }
}

static void reservations_leave_the_capacity_alone(void **state)
{
    /* Claim (MPMC): a reservation that is not committed for long does not count: `capacity` more fit, and it
     * is still committed in the end, in the order of commits. */
    noria_channel *second;
    struct noria_span span;

    (void)state;
    open_pair();
    second = open_handle(NORIA_SEND);
    assert_int_equal(noria_reserve(second, 64, &span, 0), 0);
    for (unsigned lap = 0; lap < 50; lap++) {
        assert_int_equal(send_until_full(), 8);
        for (unsigned n = 0; n < 8; n++)
            expect(n, 64);
    }
    send_numbered(1, 9);
    fill_message(span.data, 2, 10);
    assert_int_equal(noria_commit(second, &span, 10, 0), 0);
    expect(1, 9);
    expect(2, 10);
    close_handle(&second);
}

static void full_may_mean_fail(void **state)
{
    /* Claim: with full = FAIL a send on a full channel is -EAGAIN at once, whatever its timeout; a receive
     * still waits. */
    struct noria_span span;
    int64_t start;
    uint8_t bytes[64] = {0};

    (void)state;
    ch.options.full = NORIA_FULL_FAIL;
    open_pair();
    send_until_full();
    start = now_ns();
    assert_fails(noria_send(ch.tx, bytes, 64, 60 * SECOND), EAGAIN);
    assert_fails(noria_send(ch.tx, bytes, 64, -1), EAGAIN);
    assert_fails(noria_reserve(ch.tx, 64, &span, 60 * SECOND), EAGAIN);
    assert_true(now_ns() - start < 30 * SECOND);
    while (noria_recv(ch.rx, bytes, 64, 0, NULL) == 64)
        continue;
    start = now_ns();
    assert_fails(noria_recv(ch.rx, bytes, 64, 20 * MS, NULL), ETIMEDOUT);
    assert_true(now_ns() - start >= 20 * MS);
}

static void aborts_do_not_eat_the_capacity(void **state)
{
    /* Claim: giving up reservations again and again leaves room for `capacity` messages. */
    struct noria_span span;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 100; n++) {
        assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
        assert_int_equal(noria_abort(ch.tx, &span), 0);
    }
    assert_true(send_until_full() >= 8);
}

/* -------------------------------------------------------------------------------------------- wrong sizes */

static void too_long_a_message_is_refused(void **state)
{
    /* Claim: a message of max_message + 1 bytes is -EMSGSIZE in every form, with both lengths in the
     * sentence. */
    uint8_t bytes[65] = {0};
    struct iovec message = {bytes, sizeof(bytes)};
    struct noria_span span;

    (void)state;
    open_pair();
    assert_fails(noria_send(ch.tx, bytes, 65, -1), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "65"));
    assert_non_null(strstr(noria_detail(), "64"));
    assert_fails(noria_send(ch.tx, bytes, SIZE_MAX, -1), EMSGSIZE);
    assert_fails(noria_send_many(ch.tx, &message, 1, -1), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "65"));
    assert_fails(noria_reserve(ch.tx, 65, &span, -1), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "65"));
    expect_nothing(EAGAIN);
    send_numbered(1, 64);
    expect(1, 64);
}

static void short_buffer_leaves_the_message_first(void **state)
{
    /* Claim: a buffer shorter than the message is -EMSGSIZE with the length in the sentence; the message
     * stays first, for this receiver and with the same sequence. */
    uint8_t bytes[64];
    struct iovec buffer = {bytes, 40};
    struct noria_info info;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 60; n++) {
        send_numbered(n, 41);
        send_numbered(n + 1, 3);
        assert_fails(noria_recv(ch.rx, bytes, 40, n % 2 == 0 ? 0 : -1, &info), EMSGSIZE);
        assert_non_null(strstr(noria_detail(), "41"));
        assert_fails(noria_recv_many(ch.rx, &buffer, 1, 0, NULL), EMSGSIZE);
        assert_non_null(strstr(noria_detail(), "41"));
        assert_int_equal(buffer.iov_len, 40);
        assert_fails(noria_recv(ch.rx, NULL, 0, 0, NULL), EMSGSIZE);
        assert_int_equal(stat_of(ch.rx).held, 0);
        expect(n, 41);
        expect(n + 1, 3);
    }
}

/* ------------------------------------------------------------------------------------------- many at once */

static void many_go_in_and_come_out_in_order(void **state)
{
    /* Claim: send_many sends what fits, recv_many takes what is there, lengths and infos are each message's
     * own. */
    uint8_t out[20][64], in[20][64];
    struct iovec messages[20], buffers[20];
    struct noria_info infos[20];
    unsigned next_out = 0, next_in = 0;

    (void)state;
    open_pair();
    for (int round = 0; round < 60; round++) {
        int sent, taken, got = 0;
        for (unsigned i = 0; i < 20; i++) {
            messages[i] = (struct iovec){out[i], (next_out + i) % 65};
            fill_message(out[i], next_out + i, messages[i].iov_len);
        }
        sent = noria_send_many(ch.tx, messages, 20, 0);
        assert_true(sent >= 8 && sent <= 20);
        next_out += (unsigned)sent;
        while (got < sent) {
            for (unsigned i = 0; i < 20; i++)
                buffers[i] = (struct iovec){in[i], 64};
            taken = noria_recv_many(ch.rx, buffers, 1 + round % 20, 0, infos);
            assert_true(taken >= 1 && taken <= 1 + round % 20);
            for (int i = 0; i < taken; i++, next_in++) {
                assert_int_equal(buffers[i].iov_len, next_in % 65);
                assert_int_equal(infos[i].size, next_in % 65);
                assert_true(i == 0 || infos[i].sequence > infos[i - 1].sequence);
                verify_message(in[i], next_in, next_in % 65);
            }
            for (int i = taken; i < 20; i++)
                assert_int_equal(buffers[i].iov_len, 64);
            got += taken;
        }
    }
    assert_int_equal(next_in, next_out);
}

static void later_errors_come_with_the_next_call(void **state)
{
    /* Claim: the many-forms return what they did, and the error that stopped them on the next call. */
    uint8_t bytes[65] = {0}, in[3][64];
    struct iovec messages[3] = {{bytes, 1}, {bytes, 65}, {bytes, 2}};
    struct iovec buffers[3] = {{in[0], 64}, {in[1], 4}, {in[2], 64}};

    (void)state;
    open_pair();
    assert_int_equal(noria_send_many(ch.tx, messages, 3, 0), 1);
    assert_fails(noria_send_many(ch.tx, messages + 1, 2, 0), EMSGSIZE);
    send_numbered(5, 5);
    send_numbered(6, 6);
    assert_int_equal(noria_recv_many(ch.rx, buffers, 3, 0, NULL), 1);
    assert_int_equal(buffers[0].iov_len, 1);
    assert_int_equal(buffers[1].iov_len, 4);
    assert_fails(noria_recv_many(ch.rx, buffers + 1, 2, 0, NULL), EMSGSIZE);
    expect(5, 5);
    expect(6, 6);
}

static void many_wait_for_the_first_only(void **state)
{
    /* Claim: recv_many with all time in the world returns as soon as one message is there. */
    uint8_t in[4][64];
    struct iovec buffers[4] = {{in[0], 64}, {in[1], 64}, {in[2], 64}, {in[3], 64}};

    (void)state;
    open_pair();
    send_numbered(1, 1);
    assert_int_equal(noria_recv_many(ch.rx, buffers, 4, -1, NULL), 1);
    assert_fails(noria_recv_many(ch.rx, buffers, 4, 10 * MS, NULL), ETIMEDOUT);
}

/* ------------------------------------------------------------------------------------- reserve and commit */

static void reservations_are_written_in_place(void **state)
{
    /* Claim: a reservation is aligned room of the length asked for; commit sends as much of it as it says. */
    struct noria_span span;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 200; n++) {
        size_t room = n % 65, used = room - room % 3;
        assert_int_equal(noria_reserve(ch.tx, room, &span, 0), 0);
        assert_int_equal((uintptr_t)span.data % 8, 0);
        assert_true(span.len >= room);
        memset(span.data, 0xee, room);
        expect_nothing(EAGAIN); /* nobody sees it yet */
        fill_message(span.data, n, used);
        assert_int_equal(noria_commit(ch.tx, &span, used, 0), 0);
        expect(n, used);
    }
}

static void reservation_may_be_given_up(void **state)
{
    /* Claim: an aborted reservation is as if it had never been. */
    struct noria_span span;

    (void)state;
    open_pair();
    send_numbered(1, 10);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    memset(span.data, 0xee, 64);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    send_numbered(2, 20);
    expect(1, 10);
    expect(2, 20);
    expect_nothing(EAGAIN);
}

static void one_reservation_at_a_time(void **state)
{
    /* Claim: a thread's second reservation on a handle is -EBUSY until the first is committed or aborted. */
    struct noria_span first, second, on_another;
    noria_channel *other = NULL;
    struct noria_options options = ch.options;

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 8, &first, 0), 0);
    assert_fails(noria_reserve(ch.tx, 8, &second, 0), EBUSY);
    assert_fails(noria_reserve(ch.tx, 8, &second, -1), EBUSY);
    assert_int_equal(noria_open(&other, "anon:", NORIA_SEND, &options), 0);
    assert_int_equal(noria_reserve(other, 8, &on_another, 0), 0); /* another handle, another reservation */
    assert_int_equal(noria_commit(ch.tx, &first, 8, 0), 0);
    assert_int_equal(noria_reserve(ch.tx, 8, &second, 0), 0);
    assert_int_equal(noria_abort(ch.tx, &second), 0);
    assert_int_equal(noria_reserve(ch.tx, 8, &second, 0), 0);
    assert_int_equal(noria_abort(ch.tx, &second), 0);
    assert_int_equal(noria_abort(other, &on_another), 0);
    close_handle(&other);
}

static void spans_are_used_once(void **state)
{
    /* Claim: committing or aborting what is not reserved any more is -EINVAL, and the committed message is as
     * it was. */
    struct noria_span span;

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    fill_message(span.data, 1, 50);
    assert_int_equal(noria_commit(ch.tx, &span, 50, 0), 0);
    assert_fails(noria_commit(ch.tx, &span, 7, 0), EINVAL);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
    expect(1, 50);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
    assert_fails(noria_commit(ch.tx, &span, 7, 0), EINVAL);
    expect_nothing(EAGAIN);
    memset(&span, 0, sizeof(span));
    assert_fails(noria_commit(ch.tx, &span, 0, 0), EINVAL);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
}

static void more_than_reserved_cannot_be_committed(void **state)
{
    /* Claim: committing more bytes than were reserved is -EINVAL and leaves the reservation standing. */
    struct noria_span span;

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 16, &span, 0), 0);
    assert_fails(noria_commit(ch.tx, &span, span.len + 1, 0), EINVAL);
    assert_fails(noria_commit(ch.tx, &span, SIZE_MAX, 0), EINVAL);
    fill_message(span.data, 4, 16);
    assert_int_equal(noria_commit(ch.tx, &span, 16, 0), 0);
    expect(4, 16);
}

static void closed_reservations_do_not_add_up(void **state)
{
    /* Claim: a thread may close any number of handles with a reservation out, and reserve on the next one. */
    (void)state;
    for (int i = 0; i < 200; i++) {
        noria_channel *channel = NULL;
        struct noria_span span;
        assert_int_equal(noria_open(&channel, "anon:", NORIA_SEND, &ch.options), 0);
        assert_int_equal(noria_reserve(channel, 8, &span, 0), 0);
        close_handle(&channel);
    }
}

static void sending_waits_for_the_reservation(void **state)
{
    /* Claim: a send while this thread's reservation is out is -EBUSY, for it would overtake it. */
    struct noria_span span;
    struct iovec message = {NULL, 0};

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 8, &span, 0), 0);
    assert_fails(noria_send(ch.tx, "x", 1, 0), EBUSY);
    assert_fails(noria_send_many(ch.tx, &message, 1, 0), EBUSY);
    assert_int_equal(noria_commit(ch.tx, &span, 0, 0), 0);
    assert_int_equal(noria_send(ch.tx, "x", 1, 0), 0);
}

/* --------------------------------------------------------------------------------------- peek and release */

static void messages_are_read_in_place(void **state)
{
    /* Claim: peek shows the next message where it lies, aligned; it goes on its way with the release. */
    struct noria_span span;
    struct noria_info info;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 200; n++) {
        send_numbered(n, n % 65);
        assert_int_equal(noria_peek(ch.rx, &span, 0, &info), 0);
        assert_int_equal((uintptr_t)span.data % 8, 0);
        assert_int_equal(span.len, n % 65);
        assert_int_equal(info.size, n % 65);
        assert_int_equal(info.flags, 0);
        verify_message(span.data, n, span.len);
        assert_int_equal(noria_release(ch.rx, &span), 0);
    }
    assert_fails(noria_peek(ch.rx, &span, 0, &info), EAGAIN);
}

static void at_most_max_held_are_held(void **state)
{
    /* Claim: max_held messages can be peeked at a time, in order; one more is -EBUSY until one
     * is released. */
    struct noria_span spans[4];

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 5; n++)
        send_numbered(n, 8);
    for (unsigned n = 0; n < 3; n++) {
        assert_int_equal(noria_peek(ch.rx, &spans[n], 0, NULL), 0);
        verify_message(spans[n].data, n, 8);
    }
    assert_fails(noria_peek(ch.rx, &spans[3], 0, NULL), EBUSY);
    assert_fails(noria_peek(ch.rx, &spans[3], -1, NULL), EBUSY);
    assert_int_equal(stat_of(ch.rx).held, 3);
    assert_int_equal(stat_of(ch.rx).messages, 2);
    assert_int_equal(noria_release(ch.rx, &spans[0]), 0);
    assert_int_equal(noria_peek(ch.rx, &spans[3], 0, NULL), 0);
    verify_message(spans[3].data, 3, 8);
    for (unsigned n = 1; n < 4; n++)
        assert_int_equal(noria_release(ch.rx, &spans[n]), 0);
    expect(4, 8);
}

static void releases_come_in_order(void **state)
{
    /* Claim: SPSC takes releases in order only (-EINVAL otherwise, harmless), MPMC in any order. */
    struct noria_span spans[3];

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 3; n++) {
        send_numbered(n, 8);
        assert_int_equal(noria_peek(ch.rx, &spans[n], 0, NULL), 0);
    }
    if (is_spsc()) {
        assert_fails(noria_release(ch.rx, &spans[1]), EINVAL);
        assert_fails(noria_release(ch.rx, &spans[2]), EINVAL);
        for (unsigned n = 0; n < 3; n++)
            assert_int_equal(noria_release(ch.rx, &spans[n]), 0);
    } else {
        assert_int_equal(noria_release(ch.rx, &spans[1]), 0);
        assert_int_equal(noria_release(ch.rx, &spans[2]), 0);
        assert_int_equal(noria_release(ch.rx, &spans[0]), 0);
    }
    assert_int_equal(stat_of(ch.rx).held, 0);
    send_numbered(7, 8);
    expect(7, 8);
}

static void messages_are_released_once(void **state)
{
    /* Claim: releasing a message again, or one never peeked, is -EINVAL and takes nothing off the quota. */
    struct noria_span spans[4], none;

    (void)state;
    open_pair();
    memset(&none, 0, sizeof(none));
    assert_fails(noria_release(ch.rx, &none), EINVAL);
    for (int round = 0; round < 3; round++) {
        send_numbered(1, 8);
        assert_int_equal(noria_peek(ch.rx, &spans[0], 0, NULL), 0);
        assert_int_equal(noria_release(ch.rx, &spans[0]), 0);
        assert_fails(noria_release(ch.rx, &spans[0]), EINVAL);
    }
    for (unsigned n = 0; n < 4; n++)
        send_numbered(n, 8);
    for (unsigned n = 0; n < 3; n++)
        assert_int_equal(noria_peek(ch.rx, &spans[n], 0, NULL), 0);
    assert_fails(noria_peek(ch.rx, &spans[3], 0, NULL), EBUSY);
    for (unsigned n = 0; n < 3; n++)
        assert_int_equal(noria_release(ch.rx, &spans[n]), 0);
    assert_int_equal(stat_of(ch.rx).held, 0);
}

static void copies_do_not_overtake_what_is_held(void **state)
{
    /* Claim: recv with a message in hand is -EBUSY in SPSC, where releases have an order, and the next
     * message in MPMC. */
    uint8_t bytes[64];
    struct iovec buffer = {bytes, 64};
    struct noria_span span;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 3; n++)
        send_numbered(n, 8);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    if (is_spsc()) {
        assert_fails(noria_recv(ch.rx, bytes, 64, 0, NULL), EBUSY);
        assert_fails(noria_recv_many(ch.rx, &buffer, 1, 0, NULL), EBUSY);
    } else {
        expect(1, 8);
        assert_int_equal(noria_recv_many(ch.rx, &buffer, 1, 0, NULL), 1);
        send_numbered(1, 8);
        send_numbered(2, 8);
    }
    verify_message(span.data, 0, 8);
    assert_int_equal(noria_release(ch.rx, &span), 0);
    expect(1, 8);
    expect(2, 8);
}

static void closing_gives_back_what_was_held(void **state)
{
    /* Claim: what a handle had peeked when it closed goes to the next receiver, in order, flagged as
     * redelivered, with the same sequence; then come the others, unflagged once max_held were flagged. */
    struct noria_span span;
    struct noria_info infos[2], again;

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 6; n++)
        send_numbered(n, 8);
    for (int n = 0; n < 2; n++)
        assert_int_equal(noria_peek(ch.rx, &span, 0, &infos[n]), 0);
    close_handle(&ch.rx);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned n = 0; n < 2; n++) {
        again = expect(n, 8);
        assert_int_equal(again.flags, NORIA_REDELIVERED);
        assert_true(again.sequence == infos[n].sequence);
    }
    again = expect(2, 8);
    /* SPSC flags max_held of them: they may have been seen. */
    assert_int_equal(again.flags, is_spsc() ? NORIA_REDELIVERED : 0);
    for (unsigned n = 3; n < 6; n++)
        assert_int_equal(expect(n, 8).flags, 0);
    assert_int_equal(stat_of(ch.rx).redelivered, is_spsc() ? 3 : 2);
}

static void closing_gives_up_what_was_reserved(void **state)
{
    /* Claim: a reservation that is out when its handle closes is never seen, and costs no room. */
    struct noria_span span;

    (void)state;
    open_pair();
    send_numbered(1, 8);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    close_handle(&ch.tx);
    ch.tx = open_handle(NORIA_SEND);
    expect(1, 8);
    expect_nothing(EAGAIN);
    assert_true(send_until_full() >= 8);
}

/* -------------------------------------------------------------------------------------- groups (pack > 1) */

static void send_group(unsigned first, int n)
{
    uint8_t bytes[16][64];
    struct iovec messages[16];

    for (int i = 0; i < n; i++) {
        messages[i] = (struct iovec){bytes[i], 8 + (size_t)i};
        fill_message(bytes[i], first + (unsigned)i, messages[i].iov_len);
    }
    assert_int_equal(noria_send_many(ch.tx, messages, n, 0), n);
}

static void packed_messages_are_messages(void **state)
{
    /* Claim (MPMC, pack 4): messages that share a slot come out one by one, in order, by every form of
     * receiving. */
    uint8_t in[16][64];
    struct iovec buffers[16];
    struct noria_span span;
    uint64_t last = 0;

    (void)state;
    ch.options.pack = 4;
    open_pair();
    for (unsigned round = 0; round < 30; round++) {
        send_group(round, 10);
        send_numbered(round + 10, 18);
        for (unsigned n = 0; n < 3; n++) {
            struct noria_info info = expect(round + n, 8 + n);
            assert_true((round == 0 && n == 0) || info.sequence > last);
            last = info.sequence;
        }
        assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
        verify_message(span.data, round + 3, 11);
        assert_int_equal(noria_release(ch.rx, &span), 0);
        for (int i = 0; i < 16; i++)
            buffers[i] = (struct iovec){in[i], 64};
        assert_int_equal(noria_recv_many(ch.rx, buffers, 16, 0, NULL), 7);
        for (unsigned n = 4; n < 11; n++)
            verify_message(in[n - 4], round + n, 8 + n);
    }
    expect_nothing(EAGAIN);
}

static void packed_messages_wait_for_a_buffer(void **state)
{
    /* Claim (MPMC, pack 4): a short buffer in the middle of a group leaves that message first. */
    uint8_t bytes[64];

    (void)state;
    ch.options.pack = 4;
    open_pair();
    send_group(0, 4); /* 8, 9, 10, 11 bytes */
    expect(0, 8);
    assert_fails(noria_recv(ch.rx, bytes, 8, 0, NULL), EMSGSIZE);
    assert_non_null(strstr(noria_detail(), "9"));
    expect(1, 9);
    expect(2, 10);
    expect(3, 11);
}

static void packed_messages_release_in_order(void **state)
{
    /* Claim (MPMC, pack 4): within a group releases come in order, and a copy does not overtake what
     * is held. */
    uint8_t bytes[64];
    struct noria_span first, second;

    (void)state;
    ch.options.pack = 4;
    open_pair();
    send_group(0, 4);
    assert_int_equal(noria_peek(ch.rx, &first, 0, NULL), 0);
    assert_int_equal(noria_peek(ch.rx, &second, 0, NULL), 0);
    assert_fails(noria_release(ch.rx, &second), EINVAL);
    assert_fails(noria_recv(ch.rx, bytes, 64, 0, NULL), EBUSY);
    assert_int_equal(noria_release(ch.rx, &first), 0);
    assert_int_equal(noria_release(ch.rx, &second), 0);
    expect(2, 10);
    expect(3, 11);
}

static void rest_of_a_group_is_redelivered(void **state)
{
    /* Claim (MPMC, pack 4): of a group whose holder closed, the next receiver gets the unreleased rest,
     * flagged. */
    struct noria_span span;

    (void)state;
    ch.options.pack = 4;
    open_pair();
    send_group(0, 4);
    expect(0, 8);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    close_handle(&ch.rx);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned n = 1; n < 4; n++)
        assert_int_equal(expect(n, 8 + n).flags, NORIA_REDELIVERED);
    expect_nothing(EAGAIN);
}

static void packed_reservations_work(void **state)
{
    /* Claim (MPMC, pack 4): reserve and commit send single messages in a channel that packs. */
    struct noria_span span;

    (void)state;
    ch.options.pack = 4;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    fill_message(span.data, 3, 64);
    assert_int_equal(noria_commit(ch.tx, &span, 64, 0), 0);
    expect(3, 64);
    assert_int_equal(send_until_full(), 8);
}

/* ----------------------------------------------------------------------------------- statistics, the rest */

static void statistics_tell_what_happened(void **state)
{
    /* Claim: stat names the channel's geometry and counts messages, bytes, handles and traffic. */
    struct noria_stat stat;

    (void)state;
    open_pair();
    send_numbered(1, 10);
    send_numbered(2, 20);
    send_numbered(3, 30);
    expect(1, 10);
    stat = stat_of(ch.tx);
    assert_int_equal(stat.size, sizeof(stat));
    assert_int_equal(stat.kind, ch.variant->kind);
    assert_int_equal(stat.capacity, 8);
    assert_int_equal(stat.max_message, 64);
    assert_int_equal(stat.max_held, 3);
    assert_int_equal(stat.max_participants, 8);
    assert_int_equal(stat.mode, 0600);
    assert_int_equal(stat.messages, 2);
    assert_int_equal(stat.bytes, 50);
    assert_int_equal(stat.senders, 1);
    assert_int_equal(stat.receivers, 1);
    assert_int_equal(stat.observers, 0);
    assert_int_equal(stat.sent, 3);
    assert_int_equal(stat.received, 1);
    assert_int_equal(stat.redelivered + stat.lost + stat.deaths, 0);
    assert_true(stat.footprint > 8 * 64);
    assert_true(stat.created_ns > 0);
    assert_true(stat.self != stat_of(ch.rx).self);
    assert_int_equal((stat.abilities & NORIA_CAN_MANY_SENDERS) != 0, !is_spsc());
    assert_int_equal((stat.abilities & NORIA_CAN_MANY_RECEIVERS) != 0, !is_spsc());
    assert_int_equal((stat.abilities & NORIA_CAN_OUTLIVE) != 0, has_name());
    assert_true((stat.abilities & NORIA_CAN_ZERO_COPY) != 0);
}

static void statistics_fit_older_programs(void **state)
{
    /* Claim: stat fills as many bytes as its caller says the struct has, and no more. */
    struct {
        struct noria_stat stat;
        uint8_t guard[64];
    } place;

    (void)state;
    open_pair();
    for (uint32_t size = 1; size <= sizeof(struct noria_stat) + 32; size++) {
        memset(&place, 0x5a, sizeof(place));
        place.stat.size = size;
        assert_int_equal(noria_stat(ch.tx, &place.stat), 0);
        for (size_t i = size; i < sizeof(place); i++)
            if (i >= sizeof(uint32_t)) /* in front of that stands the size itself */
                assert_int_equal(((const uint8_t *)&place)[i], 0x5a);
    }
}

static void observers_take_no_part(void **state)
{
    /* Claim: an observer sees statistics, is none of the senders or receivers, and can neither send nor
     * receive. */
    noria_channel *observer;
    uint8_t bytes[64];
    struct noria_span span;
    struct iovec vector = {bytes, 64};

    (void)state;
    open_pair();
    observer = open_handle(0);
    assert_int_equal(stat_of(observer).observers, 1);
    assert_int_equal(stat_of(observer).senders, 1);
    assert_int_equal(stat_of(observer).receivers, 1);
    assert_fails(noria_send(observer, "x", 1, 0), EINVAL);
    assert_fails(noria_send_many(observer, &vector, 1, 0), EINVAL);
    assert_fails(noria_reserve(observer, 1, &span, 0), EINVAL);
    assert_fails(noria_recv(observer, bytes, 64, 0, NULL), EINVAL);
    assert_fails(noria_recv_many(observer, &vector, 1, 0, NULL), EINVAL);
    assert_fails(noria_peek(observer, &span, 0, NULL), EINVAL);
    close_handle(&observer);
    send_numbered(1, 1);
    expect(1, 1);
}

static void each_handle_has_its_direction(void **state)
{
    /* Claim: a sender's handle does not receive and a receiver's does not send: -EINVAL with the
     * flag's name. */
    uint8_t bytes[64];
    struct noria_span span = {bytes, 8, {0, 0}};

    (void)state;
    open_pair();
    assert_fails(noria_recv(ch.tx, bytes, 64, 0, NULL), EINVAL);
    assert_non_null(strstr(noria_detail(), "NORIA_RECV"));
    assert_fails(noria_peek(ch.tx, &span, 0, NULL), EINVAL);
    assert_fails(noria_release(ch.tx, &span), EINVAL);
    assert_fails(noria_send(ch.rx, "x", 1, 0), EINVAL);
    assert_non_null(strstr(noria_detail(), "NORIA_SEND"));
    assert_fails(noria_commit(ch.rx, &span, 1, 0), EINVAL);
    assert_fails(noria_abort(ch.rx, &span), EINVAL);
}

static void one_handle_may_do_both(void **state)
{
    /* Claim: a handle opened to send and to receive does both. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    for (unsigned n = 0; n < 100; n++) {
        send_numbered(n, n % 65);
        expect_on(ch.tx, n, n % 65);
    }
}

static void there_are_no_priorities(void **state)
{
    /* Claim: priority 0 is a plain send, any other is -ENOTSUP. */
    (void)state;
    open_pair();
    assert_int_equal(noria_send_prio(ch.tx, "x", 1, 0, 0), 0);
    assert_fails(noria_send_prio(ch.tx, "x", 1, 1, 0), ENOTSUP);
    assert_int_equal(stat_of(ch.rx).messages, 1);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(messages_come_out_as_they_went_in),
        EVERYWHERE(order_is_kept_over_many_laps),
        EVERYWHERE(length_zero_is_a_message),
        ONCE(nothing_is_touched_when_nothing_is_there),
        EVERYWHERE(messages_may_be_long),
        EVERYWHERE(positions_wrap),
        EVERYWHERE(capacity_is_what_was_asked_for),
        ONCE(room_comes_back_message_by_message),
        ONLY_MPMC(held_messages_leave_the_capacity_alone),
        ONLY_MPMC(reservations_leave_the_capacity_alone),
        ONCE(full_may_mean_fail),
        ONCE(aborts_do_not_eat_the_capacity),
        EVERYWHERE(too_long_a_message_is_refused),
        EVERYWHERE(short_buffer_leaves_the_message_first),
        EVERYWHERE(many_go_in_and_come_out_in_order),
        EVERYWHERE(later_errors_come_with_the_next_call),
        ONCE(many_wait_for_the_first_only),
        EVERYWHERE(reservations_are_written_in_place),
        EVERYWHERE(reservation_may_be_given_up),
        EVERYWHERE(one_reservation_at_a_time),
        EVERYWHERE(spans_are_used_once),
        ONCE(more_than_reserved_cannot_be_committed),
        ONCE(closed_reservations_do_not_add_up),
        ONCE(sending_waits_for_the_reservation),
        EVERYWHERE(messages_are_read_in_place),
        EVERYWHERE(at_most_max_held_are_held),
        EVERYWHERE(releases_come_in_order),
        EVERYWHERE(messages_are_released_once),
        EVERYWHERE(copies_do_not_overtake_what_is_held),
        EVERYWHERE(closing_gives_back_what_was_held),
        EVERYWHERE(closing_gives_up_what_was_reserved),
        ONLY_MPMC(packed_messages_are_messages),
        ONLY_MPMC(packed_messages_wait_for_a_buffer),
        ONLY_MPMC(packed_messages_release_in_order),
        ONLY_MPMC(rest_of_a_group_is_redelivered),
        ONLY_MPMC(packed_reservations_work),
        EVERYWHERE(statistics_tell_what_happened),
        ONCE(statistics_fit_older_programs),
        EVERYWHERE(observers_take_no_part),
        ONCE(each_handle_has_its_direction),
        EVERYWHERE(one_handle_may_do_both),
        ONCE(there_are_no_priorities),
    };

    return run_variants("transfer", tests, sizeof(tests) / sizeof(tests[0]));
}
