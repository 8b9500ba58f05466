/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no argument of a public function, however wrong, does more than return an error code with a
 * sentence. */
#include "variants_test.h"

#include <limits.h>

static int never_called(const struct noria_listing *listing, void *context)
{
    (void)listing;
    (void)context;
    return 0;
}

static void missing_handles_are_refused(void **state)
{
    /* Claim: NULL where a handle belongs is -EINVAL everywhere. */
    uint8_t bytes[8] = {0};
    struct iovec vector = {bytes, 8};
    struct noria_span span = {bytes, 8, {0, 0}};
    struct noria_stat stat = {0};
    noria_channel *channel;
    int number = 1;

    (void)state;
    assert_fails(noria_send(NULL, bytes, 8, 0), EINVAL);
    assert_fails(noria_send_prio(NULL, bytes, 8, 0, 0), EINVAL);
    assert_fails(noria_send_many(NULL, &vector, 1, 0), EINVAL);
    assert_fails(noria_gather(NULL, bytes, 8, 0, 0), EINVAL);
    assert_fails(noria_flush(NULL, 0), EINVAL);
    assert_fails(noria_recv(NULL, bytes, 8, 0, NULL), EINVAL);
    assert_fails(noria_recv_many(NULL, &vector, 1, 0, NULL), EINVAL);
    assert_fails(noria_send_fds(NULL, bytes, 8, &number, 1, 0), EINVAL);
    assert_fails(noria_recv_fds(NULL, bytes, 8, &number, &number, 0, NULL), EINVAL);
    assert_fails(noria_reserve(NULL, 8, &span, 0), EINVAL);
    assert_fails(noria_commit(NULL, &span, 8, 0), EINVAL);
    assert_fails(noria_abort(NULL, &span), EINVAL);
    assert_fails(noria_peek(NULL, &span, 0, NULL), EINVAL);
    assert_fails(noria_release(NULL, &span), EINVAL);
    assert_fails(noria_stat(NULL, &stat), EINVAL);
    assert_fails(noria_shutdown(NULL), EINVAL);
    assert_fails(noria_close(NULL), EINVAL);
    assert_fails(noria_reopen(&channel, NULL, NORIA_SEND), EINVAL);
    assert_true(noria_fd(NULL, NORIA_RECV) < 0);
}

static void missing_pointers_are_refused(void **state)
{
    /* Claim: NULL for data with a length, for vectors, spans, places and functions is -EINVAL and moves
     * nothing. */
    struct iovec hollow = {NULL, 8}, half[2] = {{(char[]){"x"}, 1}, {NULL, 8}};
    struct noria_listing listing;
    noria_channel *channel;
    uint8_t bytes[8] = {0};
    int number = 1;

    (void)state;
    open_pair();
    send_numbered(1, 1);
    assert_fails(noria_send(ch.tx, NULL, 8, 0), EINVAL);
    assert_fails(noria_gather(ch.tx, NULL, 8, 0, 0), EINVAL);
    assert_fails(noria_flush(ch.rx, 0), EINVAL);
    assert_fails(noria_send_many(ch.tx, NULL, 1, 0), EINVAL);
    assert_fails(noria_send_many(ch.tx, &hollow, 1, 0), EINVAL);
    assert_fails(noria_send_many(ch.tx, half, 2, 0), EINVAL);
    assert_fails(noria_reserve(ch.tx, 8, NULL, 0), EINVAL);
    assert_fails(noria_commit(ch.tx, NULL, 8, 0), EINVAL);
    assert_fails(noria_abort(ch.tx, NULL), EINVAL);
    assert_fails(noria_send_fds(ch.tx, bytes, 8, NULL, 1, 0), EINVAL);
    assert_fails(noria_recv_fds(ch.rx, bytes, 8, NULL, &number, 0, NULL), EINVAL);
    assert_fails(noria_recv_fds(ch.rx, bytes, 8, &number, NULL, 0, NULL), EINVAL);
    assert_fails(noria_recv(ch.rx, NULL, 8, 0, NULL), EINVAL);
    assert_fails(noria_recv_many(ch.rx, NULL, 1, 0, NULL), EINVAL);
    assert_fails(noria_recv_many(ch.rx, &hollow, 1, 0, NULL), EINVAL);
    assert_fails(noria_peek(ch.rx, NULL, 0, NULL), EINVAL);
    assert_fails(noria_release(ch.rx, NULL), EINVAL);
    assert_fails(noria_stat(ch.rx, NULL), EINVAL);
    assert_fails(noria_reopen(NULL, ch.rx, 0), EINVAL);
    assert_fails(noria_open(NULL, "anon:", NORIA_SEND, NULL), EINVAL);
    assert_fails(noria_open(&channel, NULL, NORIA_SEND, NULL), EINVAL);
    assert_fails(noria_unlink(NULL), EINVAL);
    assert_fails(noria_remove(NULL, 1), EINVAL);
    assert_fails(noria_inspect(NULL, &listing), EINVAL);
    assert_fails(noria_inspect(ch.address, NULL), EINVAL);
    assert_fails(noria_who(NULL, NULL, 0), EINVAL);
    assert_fails(noria_who(ch.address, NULL, 1), EINVAL);
    assert_fails(noria_list(NULL, NULL), EINVAL);
    noria_options_init(NULL);
    expect(1, 1);
    expect_nothing(EAGAIN);
}

static void impossible_counts_and_timeouts_are_refused(void **state)
{
    /* Claim: a count that is not positive and a timeout below -1 are -EINVAL; the largest timeout is one. */
    uint8_t bytes[8] = {0};
    struct iovec vector = {bytes, 8};
    struct noria_span span;
    static const int counts[] = {0, -1, INT_MIN};
    static const int64_t timeouts[] = {-2, INT64_MIN};

    (void)state;
    open_pair();
    for (size_t i = 0; i < 3; i++) {
        int room = counts[i];
        assert_fails(noria_send_fds(ch.tx, bytes, 8, &room, counts[i], 0), EINVAL);
        if (room < 0)
            assert_fails(noria_recv_fds(ch.rx, bytes, 8, &room, &room, 0, NULL), EINVAL);
        assert_fails(noria_send_many(ch.tx, &vector, counts[i], 0), EINVAL);
        assert_fails(noria_recv_many(ch.rx, &vector, counts[i], 0, NULL), EINVAL);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_fails(noria_send(ch.tx, bytes, 8, timeouts[i]), EINVAL);
        assert_fails(noria_send_many(ch.tx, &vector, 1, timeouts[i]), EINVAL);
        assert_fails(noria_gather(ch.tx, bytes, 8, 0, timeouts[i]), EINVAL);
        assert_fails(noria_flush(ch.tx, timeouts[i]), EINVAL);
        assert_fails(noria_reserve(ch.tx, 8, &span, timeouts[i]), EINVAL);
        assert_fails(noria_recv(ch.rx, bytes, 8, timeouts[i], NULL), EINVAL);
        assert_fails(noria_recv_many(ch.rx, &vector, 1, timeouts[i], NULL), EINVAL);
        assert_fails(noria_peek(ch.rx, &span, timeouts[i], NULL), EINVAL);
    }
    assert_int_equal(noria_reserve(ch.tx, 8, &span, INT64_MAX), 0);
    assert_fails(noria_commit(ch.tx, &span, 8, -2), EINVAL);
    assert_int_equal(noria_commit(ch.tx, &span, 8, INT64_MAX), 0);
    assert_int_equal(noria_recv(ch.rx, bytes, 8, INT64_MAX, NULL), 8);
    assert_int_equal(noria_who(ch.address, NULL, INT_MIN) < 0, ch.path[0] == '\0');
}

static void reopen_knows_its_flags(void **state)
{
    /* Claim: reopen takes SEND and RECV; any other flag is -EINVAL. */
    noria_channel *channel;

    (void)state;
    open_pair();
    assert_fails(noria_reopen(&channel, ch.rx, NORIA_CREATE), EINVAL);
    assert_fails(noria_reopen(&channel, ch.rx, -1), EINVAL);
    assert_fails(noria_reopen(&channel, ch.rx, 16), EINVAL);
}

/* A span as a broken program might have it. */
static void try_span(struct noria_span span)
{
    struct noria_span copy = span;

    (void)!noria_release(ch.rx, &copy);
    copy = span;
    (void)!noria_commit(ch.tx, &copy, copy.len < 8 ? copy.len : 8, 0);
    copy = span;
    (void)!noria_abort(ch.tx, &copy);
}

static void strange_spans_do_no_harm(void **state)
{
    /* Claim: spans that no call has given out end in an error code, and what is committed or held stays as it
     * is. */
    static const uint64_t words[] = {
        0, 1, 4, 8, 64, 4096, UINT64_C(1) << 32, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
    struct noria_span held, mine;
    uint8_t bytes[64];

    (void)state;
    open_pair();
    for (unsigned n = 0; n < 4; n++)
        send_numbered(n, 40);
    assert_int_equal(noria_peek(ch.rx, &held, 0, NULL), 0);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        for (size_t j = 0; j < sizeof(words) / sizeof(words[0]); j++) {
            struct noria_span span = {bytes, 8, {words[i], words[j]}};
            struct noria_span stolen = held;
            assert_fails(noria_commit(ch.tx, &span, 8, 0), EINVAL);
            assert_fails(noria_abort(ch.tx, &span), EINVAL);
            if (span.token[0] == held.token[0])
                continue;
            assert_true(noria_release(ch.rx, &span) < 0);
            stolen.token[0] = words[i];
            assert_true(noria_release(ch.rx, &stolen) < 0);
        }
    assert_int_equal(noria_reserve(ch.tx, 8, &mine, 0), 0);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i] != mine.token[0] && words[i] != held.token[0])
            try_span((struct noria_span){mine.data, 8, {words[i], words[i]}});
    (void)!noria_abort(ch.tx, &mine);
    verify_message(held.data, 0, 40);
    assert_int_equal(noria_release(ch.rx, &held), 0);
    for (unsigned n = 1; n < 4; n++)
        expect(n, 40);
    expect_nothing(EAGAIN);
}

static void a_span_from_elsewhere_is_not_committed(void **state)
{
    /* Claim: with a reservation out a span that is not its own, as one of another channel is not, is -EINVAL;
     * the reservation stands. */
    struct noria_span mine, foreign;

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 40, &mine, 0), 0);
    for (unsigned away = 8; away <= 64; away += 8) {
        foreign = mine;
        foreign.token[0] += away;
        assert_fails(noria_commit(ch.tx, &foreign, 8, 0), EINVAL);
        assert_fails(noria_abort(ch.tx, &foreign), EINVAL);
    }
    fill_message(mine.data, 1, 40);
    assert_int_equal(noria_commit(ch.tx, &mine, 40, 0), 0);
    expect(1, 40);
    expect_nothing(EAGAIN);
}

static void every_error_has_a_sentence(void **state)
{
    /* Claim: strerror has words for any number, and detail is never NULL. */
    static const int numbers[] = {0, 1, -1, EPIPE, -EPIPE, INT_MAX, INT_MIN, -4096};

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_non_null(noria_strerror(numbers[i]));
        assert_true(strlen(noria_strerror(numbers[i])) > 0);
    }
    assert_non_null(noria_detail());
    assert_string_equal(noria_strerror(EPIPE), noria_strerror(-EPIPE));
    assert_int_equal(noria_list(never_called, NULL), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONCE(missing_handles_are_refused),
        EVERYWHERE(missing_pointers_are_refused),
        EVERYWHERE(impossible_counts_and_timeouts_are_refused),
        ONCE(reopen_knows_its_flags),
        ONCE(strange_spans_do_no_harm),
        ONCE(a_span_from_elsewhere_is_not_committed),
        ONCE(every_error_has_a_sentence),
    };

    return run_variants("bad input", tests, sizeof(tests) / sizeof(tests[0]));
}
