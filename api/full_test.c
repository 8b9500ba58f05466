/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a channel whose policy drops messages loses none in silence: sent = received + reported lost. */
#include "variants_test.h"

#include <pthread.h>
#include <sched.h>

#include "segment_channel.h"

/* Sends numbered messages into nobody's hands; all succeed at once. */
static unsigned send_all(unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(try_send(from + i, 64), 0);
    return from + n;
}

static void drop_newest_keeps_the_first_and_tells(void **state)
{
    /* Claim: with DROP_NEWEST a send to a full channel succeeds without waiting, what came first stays,
     * and the receiver is told once how many are missing; so is stat. */
    enum { SENT = 40 };
    uint8_t bytes[64];
    unsigned got = 0;
    uint64_t told = 0;
    struct noria_info info;

    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    send_all(1, SENT);
    while (noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info) == 64) {
        verify_message(bytes, ++got, 64);
        assert_int_equal((info.flags & NORIA_LOST) != 0, info.lost != 0);
        assert_true(told == 0 || info.lost == 0);
        told += info.lost;
    }
    assert_true(got >= 8 && got < SENT);
    assert_int_equal(told, SENT - got);
    assert_int_equal(stat_of(ch.rx).lost, SENT - got);
    assert_int_equal(stat_of(ch.rx).full, NORIA_FULL_DROP_NEWEST);
    assert_int_equal(send_all(100, 1), 101); /* there is room again, and nothing to tell */
    assert_int_equal(expect(100, 64).lost, 0);
}

static void drop_newest_with_a_timeout_does_not_wait(void **state)
{
    /* Claim: neither a timeout nor a batch waits for room: a batch goes in as far as it fits, and then
     * whole batches are dropped, each message counted; a reservation, which has no message yet, says that
     * the channel is full. */
    struct iovec batch[4];
    uint8_t bytes[64] = {0};
    struct noria_span span;
    uint64_t before;

    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    while (stat_of(ch.tx).lost == 0)
        assert_int_equal(noria_send(ch.tx, bytes, 64, -1), 0);
    before = stat_of(ch.tx).lost;
    for (int i = 0; i < 4; i++)
        batch[i] = (struct iovec){bytes, 64};
    assert_int_equal(noria_send_many(ch.tx, batch, 4, -1), 4);
    assert_int_equal(stat_of(ch.tx).lost, before + 4);
    assert_fails(noria_reserve(ch.tx, 64, &span, 0), EAGAIN);
    assert_int_equal(stat_of(ch.tx).lost, before + 4);
}

static uint64_t received; /* by all */

static void *add_up_losses(void *rx)
{
    noria_channel *channel = rx;
    uint8_t bytes[64];
    struct noria_info info;
    uint64_t lost = 0, got = 0;

    while (noria_recv(channel, bytes, sizeof(bytes), -1, &info) == 64) {
        assert_true(info.lost < UINT32_MAX);
        lost += info.lost;
        got++;
    }
    __atomic_add_fetch(&received, got, __ATOMIC_RELAXED);
    noria_close(channel);
    return (void *)(uintptr_t)lost;
}

static void each_loss_is_told_to_one_receiver(void **state)
{
    /* Claim (MPMC): with two receivers, in threads of their own, each dropped message is told of once, by
     * one of them. */
    enum { ROUNDS = 20000 };
    pthread_t threads[2];
    void *told[2];

    (void)state;
    received = 0;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_up_losses, open_handle(NORIA_RECV)), 0);
    for (unsigned i = 0; i < ROUNDS; i++)
        assert_int_equal(try_send(1, 64), 0);
    assert_true(stat_of(ch.rx).lost > 0);
    while (stat_of(ch.tx).messages != 0)
        sched_yield();
    send_numbered(2, 64); /* with which the last losses are told */
    while (stat_of(ch.tx).messages != 0)
        sched_yield();
    close_handle(&ch.rx);
    close_handle(&ch.tx); /* the end of the stream */
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], &told[i]), 0);
    assert_int_equal((uintptr_t)told[0] + (uintptr_t)told[1] + received, ROUNDS + 1);
}

static void dropped_messages_do_not_reach_the_count_of_sent(void **state)
{
    /* Claim: stat.sent counts what went into the channel, stat.lost what did not; together, what was asked
     * for. */
    struct noria_stat stat;

    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    send_all(1, 50);
    stat = stat_of(ch.tx);
    assert_int_equal(stat.sent + stat.lost, 50);
    assert_true(stat.lost > 0);
}

/* --------------------------------------------------------------------------------------- overwrite oldest */

/* Receives what is there, which must be numbered `from` on; adds up what was told to be lost. The next
 * number. */
static unsigned receive_all(unsigned from, uint64_t *told)
{
    uint8_t bytes[64];
    struct noria_info info;

    while (noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info) == 64) {
        verify_message(bytes, from++, 64);
        assert_int_equal((info.flags & NORIA_LOST) != 0, info.lost != 0);
        *told += info.lost;
    }
    return from;
}

static void overwriting_keeps_the_last_and_tells(void **state)
{
    /* Claim: with OVERWRITE_OLDEST a send always succeeds; as many as the capacity stay, the last ones, in
     * order; nothing goes while there is room; the receiver is told once how many are missing; stat says
     * the same. Also where positions wrap. */
    static const uint64_t starts[] = {0, UINT64_MAX - 20, (UINT64_C(1) << 48) - 20};

    (void)state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        uint64_t told = 0;
        ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
        ch.options.first_position = starts[i];
        open_pair();
        send_all(0, 8);
        assert_int_equal(stat_of(ch.tx).lost, 0);
        send_all(8, 92);
        assert_int_equal(stat_of(ch.rx).lost, 92);
        assert_int_equal(stat_of(ch.rx).sent, 100);
        assert_int_equal(receive_all(92, &told), 100);
        assert_int_equal(told, 92);
        send_all(100, 9);
        assert_int_equal(receive_all(101, &told), 109);
        assert_int_equal(told, 93);
        assert_int_equal(stat_of(ch.rx).full, NORIA_FULL_OVERWRITE_OLDEST);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            break; /* the memory has its channel */
    }
}

static void batches_and_reservations_overwrite_too(void **state)
{
    /* Claim: a batch larger than the capacity goes in whole and leaves its end; a reservation in a full
     * channel makes room, and its commit is the last message. */
    uint8_t bytes[20][64];
    struct iovec batch[20];
    struct noria_span span;
    uint64_t told = 0;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    for (unsigned i = 0; i < 20; i++) {
        fill_message(bytes[i], i, 64);
        batch[i] = (struct iovec){bytes[i], 64};
    }
    assert_int_equal(noria_send_many(ch.tx, batch, 20, 0), 20);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    fill_message(span.data, 20, 64);
    assert_int_equal(noria_commit(ch.tx, &span, 64, 0), 0);
    assert_int_equal(receive_all(13, &told), 21);
    assert_int_equal(told, 13);
}

static void what_is_held_is_not_overwritten(void **state)
{
    /* Claim: a message that a receiver has peeked stays as it is however many are sent over it, is not
     * counted as lost, and costs the others nothing of the capacity. */
    struct noria_span spans[3];
    uint64_t told = 0;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    send_all(0, 8);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(noria_peek(ch.rx, &spans[i], 0, NULL), 0);
    send_all(8, 500);
    for (unsigned i = 0; i < 3; i++) {
        verify_message(spans[i].data, i, 64);
        assert_int_equal(noria_release(ch.rx, &spans[i]), 0);
    }
    assert_int_equal(stat_of(ch.rx).lost, 508 - 3 - 8);
    assert_int_equal(receive_all(500, &told), 508);
    assert_int_equal(told, 508 - 3 - 8);
}

static void sends_beside_a_reservation_are_refused(void **state)
{
    /* Claim: with a reservation out neither a message nor a batch goes (-EBUSY): it would overtake it; the
     * reservation stands, and nothing was dropped. */
    uint8_t bytes[64] = {0};
    struct iovec batch = {bytes, 64};
    struct noria_span span;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    send_all(0, 7);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    assert_fails(try_send(9, 64), EBUSY);
    assert_fails(noria_send_many(ch.tx, &batch, 1, 0), EBUSY);
    fill_message(span.data, 7, 64);
    assert_int_equal(noria_commit(ch.tx, &span, 64, 0), 0);
    assert_int_equal(stat_of(ch.tx).lost, 0);
    for (unsigned n = 0; n < 8; n++)
        expect(n, 64);
}

static void one_thread_of_a_handle_drops_at_a_time(void **state)
{
    /* Claim: while another thread of the handle drops, and does not get on, a send and a reservation that
     * need room end with -EAGAIN after some turns, and drop nothing beside it; when it has got on they
     * go. */
    struct noria_span span;
    uint32_t *busy;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    send_all(0, 8);
    busy = &noria_segment_channel_of(ch.tx)->part.overwrite.busy;
    noria_store_release32(busy, 1);
    assert_fails(try_send(8, 64), EAGAIN);
    assert_fails(noria_reserve(ch.tx, 64, &span, 0), EAGAIN);
    assert_int_equal(stat_of(ch.tx).lost, 0);
    noria_store_release32(busy, 0);
    send_all(8, 1);
    assert_int_equal(expect(1, 64).lost, 1);
}

static void refuse_to_overwrite(void)
{
    noria_channel *none = NULL;

    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    assert_non_null(strstr(noria_detail(), "cannot overwrite the oldest message"));
}

static void overwriting_is_refused_where_it_has_no_sense(void **state)
{
    /* Claim: an SPSC channel, whose sender cannot take what the receiver reads, a rendezvous, priorities and a
     * channel that grows refuse to overwrite, and one that overwrites refuses groups, with a sentence. */
    noria_channel *none = NULL;
    struct noria_options plain;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.options.max_held = 1;
    plain = ch.options;
    if (is_spsc()) {
        refuse_to_overwrite();
        return;
    }
    ch.options.priorities = 2;
    refuse_to_overwrite();
    ch.options = plain;
    ch.options.capacity = 0;
    refuse_to_overwrite();
    ch.options = plain;
    ch.options.max_bytes = 1 << 20;
    refuse_to_overwrite();
    ch.options = plain;
    ch.options.pack = 4;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    assert_non_null(strstr(noria_detail(), "cannot pack"));
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(drop_newest_keeps_the_first_and_tells),
        EVERYWHERE(drop_newest_with_a_timeout_does_not_wait),
        ONLY_MPMC(each_loss_is_told_to_one_receiver),
        EVERYWHERE(dropped_messages_do_not_reach_the_count_of_sent),
        ONLY_MPMC(overwriting_keeps_the_last_and_tells),
        ONLY_MPMC(batches_and_reservations_overwrite_too),
        ONLY_MPMC(what_is_held_is_not_overwritten),
        ONLY_MPMC(sends_beside_a_reservation_are_refused),
        {"one_thread_of_a_handle_drops_at_a_time", one_thread_of_a_handle_drops_at_a_time, NORIA_KIND_MPMC,
         "anon"},
        ONCE(overwriting_is_refused_where_it_has_no_sense),
    };

    return run_variants("full", tests, sizeof(tests) / sizeof(tests[0]));
}
