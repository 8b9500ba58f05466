/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a channel of capacity 1 that overwrites keeps the newest message, for every receiver, once. */
#include "variants_test.h"

#include <pthread.h>

#include "segment_channel.h"

static void open_latest(void)
{
    ch.options.capacity = 1;
    ch.options.max_held = 1;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
}

static void the_newest_comes_once(void **state)
{
    /* Claim: a receiver gets the newest message and is told how many it missed; then nothing until there
     * is a newer one; also where versions wrap, and for both kinds that lead to it. */
    static const uint32_t kinds[] = {NORIA_KIND_MPMC, NORIA_KIND_BROADCAST};
    static const uint64_t starts[] = {0, (UINT64_C(1) << 47) - 5};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t sequence;
        ch.options.kind = kinds[i];
        ch.options.first_position = starts[i];
        open_latest();
        expect_nothing(EAGAIN);
        send_numbered(0, 64);
        assert_int_equal(expect(0, 64).lost, 0);
        expect_nothing(EAGAIN);
        for (unsigned n = 1; n <= 10; n++)
            send_numbered(n, n);
        assert_int_equal(stat_of(ch.rx).messages, 1);
        sequence = expect(10, 10).sequence;
        expect_nothing(EAGAIN);
        send_numbered(11, 0);
        send_numbered(12, 63);
        assert_int_equal(expect(12, 63).lost, 1);
        assert_true(sequence < UINT64_C(1) << 47);
        assert_int_equal(stat_of(ch.rx).sent, 13);
        assert_int_equal(stat_of(ch.rx).received, 3);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            break; /* the memory has its channel */
    }
}

static void every_receiver_gets_it_and_newcomers_at_once(void **state)
{
    /* Claim: receivers do not take it from each other; who comes late gets what is current, and has missed
     * nothing; what was sent by somebody who has left is still there; then the stream has ended. */
    noria_channel *late;
    uint8_t bytes[64];

    (void)state;
    open_latest();
    send_numbered(1, 64);
    send_numbered(2, 64);
    assert_int_equal(expect(2, 64).lost, 1);
    late = open_handle(NORIA_RECV);
    assert_int_equal(expect_on(late, 2, 64).lost, 0);
    send_numbered(3, 64);
    close_handle(&ch.tx);
    assert_int_equal(expect_on(late, 3, 64).lost, 0);
    assert_int_equal(expect(3, 64).lost, 0);
    expect_nothing(EPIPE);
    assert_fails(noria_recv(late, bytes, sizeof(bytes), 0, NULL), EPIPE);
    close_handle(&late);
}

static void senders_overwrite_each_other(void **state)
{
    /* Claim: whoever sent last is current, through any number of handles; info says who it was. */
    noria_channel *senders[4];
    uint8_t bytes[64];

    (void)state;
    open_latest();
    for (unsigned i = 0; i < 4; i++)
        senders[i] = open_handle(NORIA_SEND);
    for (unsigned n = 0; n < 1000; n++) {
        unsigned who = n * 7 / 3 % 4;
        fill_message(bytes, n, 64);
        assert_int_equal(noria_send(senders[who], bytes, 64, 0), 0);
        if (n % 3 == 0)
            assert_int_equal(expect(n, 64).sender, stat_of(senders[who]).self);
    }
    for (unsigned i = 0; i < 4; i++)
        close_handle(&senders[i]);
}

static void batches_leave_their_last(void **state)
{
    /* Claim: send_many sends all, of which the last stays; recv_many gives one. */
    uint8_t bytes[5][64], got[2][64];
    struct iovec batch[5], buffers[2] = {{got[0], 64}, {got[1], 64}};
    struct noria_info info[2];

    (void)state;
    open_latest();
    for (unsigned i = 0; i < 5; i++) {
        fill_message(bytes[i], i, 64);
        batch[i] = (struct iovec){bytes[i], 64};
    }
    assert_int_equal(noria_send_many(ch.tx, batch, 5, 0), 5);
    assert_int_equal(noria_recv_many(ch.rx, buffers, 2, 0, info), 1);
    assert_int_equal(buffers[0].iov_len, 64);
    assert_int_equal(info[0].lost, 4);
    verify_message(got[0], 4, 64);
}

static void what_makes_no_sense_is_refused(void **state)
{
    /* Claim: zero copy is -ENOTSUP; a buffer too small is -EMSGSIZE, and the message stays; holding
     * several, and groups, are -EINVAL. Each time a sentence says what is the matter. */
    struct noria_span span;
    noria_channel *none = NULL;
    uint8_t bytes[8];

    (void)state;
    open_latest();
    send_numbered(1, 64);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EMSGSIZE);
    expect(1, 64);
    assert_fails(noria_reserve(ch.tx, 64, &span, 0), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "latest value"));
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EAGAIN);
    assert_fails(noria_peek(ch.rx, &span, 0, NULL), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "latest value"));
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    ch.options.max_held = 2;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    ch.options.max_held = 1;
    ch.options.pack = 2;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
}

static void one_thread_of_a_handle_sends_at_a_time(void **state)
{
    /* Claim: a send that finds another thread of the handle in its send, and stays out for it in vain, is
     * -EAGAIN (a handler that interrupted that very send cannot wait), or -ETIMEDOUT in time; a batch stops
     * there; nothing is sent. Other handles are not held up. */
    uint8_t bytes[64] = {0};
    struct iovec batch = {bytes, 64};
    noria_channel *other;
    uint32_t *busy;

    (void)state;
    open_latest();
    busy = &noria_segment_channel_of(ch.tx)->part.latest.busy;
    noria_store_release32(busy, 1);
    assert_fails(try_send(1, 64), EAGAIN);
    assert_fails(noria_send(ch.tx, bytes, 64, 5 * MS), ETIMEDOUT);
    assert_fails(noria_send_many(ch.tx, &batch, 1, 0), EAGAIN);
    expect_nothing(EAGAIN);
    other = open_handle(NORIA_SEND);
    fill_message(bytes, 2, 64);
    assert_int_equal(noria_send(other, bytes, 64, 0), 0);
    expect(2, 64);
    noria_store_release32(busy, 0);
    send_numbered(3, 64);
    expect(3, 64);
    close_handle(&other);
}

static void corrupt_cells_are_told(void **state)
{
    /* Claim: a length that cannot be is -EBADMSG; a stamp that fits no version is nothing to receive, however
     * often one asks; the next send mends both. */
    struct noria_latest_handle *cell;
    struct noria_latest_buffer *buffer;
    uint8_t bytes[128];
    uint64_t current;

    (void)state;
    open_latest();
    send_numbered(1, 64);
    cell = &noria_segment_channel_of(ch.rx)->part.latest.cell;
    current = noria_load_acquire64(&cell->cell->current);
    buffer = noria_latest_buffer_at(cell, NORIA_LATEST_OWNER(current), current & 1);
    buffer->length = 65;
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EBADMSG);
    buffer->length = 64;
    buffer->stamp ^= 2;
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EAGAIN);
    send_numbered(2, 64);
    expect(2, 64);
}

/* ------------------------------------------------------------------------------------------- many threads */

enum { CREW = 3, EACH = 10000 };

static uint32_t threads_at_work;

/* cmocka's own assertions are for the test's thread alone. */
static void *send_mine(void *whose)
{
    for (uint64_t i = 1; i <= EACH; i++) {
        uint64_t message[8] = {*(unsigned *)whose, i, ~i, 0, 0, 0, 0, ~i};
        if (noria_send(ch.tx, message, sizeof(message), -1) != 0)
            abort();
    }
    noria_sub_release32(&threads_at_work, 1);
    return NULL;
}

static void threads_share_a_sender(void **state)
{
    /* Claim: threads may share a sender's handle: what a receiver gets is whole, of each of them newer and newer, and in
     * the end the last message of one of them. */
    pthread_t senders[CREW];
    unsigned numbers[CREW];
    uint64_t message[8], last[CREW] = {0}, newest = 0;
    bool over = false;

    (void)state;
    open_latest();
    threads_at_work = CREW;
    for (unsigned i = 0; i < CREW; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&senders[i], NULL, send_mine, &numbers[i]), 0);
    }
    for (;;) {
        ssize_t rc;
        over = noria_load_acquire32(&threads_at_work) == 0; /* pairs with the end of send_mine */
        rc = noria_recv(ch.rx, message, sizeof(message), 0, NULL);
        if (rc == -EAGAIN && over)
            break;
        if (rc == -EAGAIN)
            continue;
        assert_int_equal(rc, sizeof(message));
        assert_true(message[0] < CREW && message[2] == ~message[1] && message[7] == ~message[1]);
        assert_true(message[1] > last[message[0]]);
        newest = last[message[0]] = message[1];
    }
    for (unsigned i = 0; i < CREW; i++)
        pthread_join(senders[i], NULL);
    assert_int_equal(newest, EACH);
    assert_int_equal(stat_of(ch.rx).sent, CREW * EACH);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONLY_MPMC(the_newest_comes_once),
        ONLY_MPMC(every_receiver_gets_it_and_newcomers_at_once),
        ONLY_MPMC(senders_overwrite_each_other),
        ONLY_MPMC(batches_leave_their_last),
        ONLY_MPMC(one_thread_of_a_handle_sends_at_a_time),
        ONLY_MPMC(threads_share_a_sender),
        {"corrupt_cells_are_told", corrupt_cells_are_told, NORIA_KIND_MPMC, "anon"},
        {"what_makes_no_sense_is_refused", what_makes_no_sense_is_refused, NORIA_KIND_MPMC, "anon"},
    };

    return run_variants("latest value", tests, sizeof(tests) / sizeof(tests[0]));
}
