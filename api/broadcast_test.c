/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: on a broadcast channel every receiver gets every message, from where it chose to begin; what it does
 * not get, it is told of exactly; and what the sender does about a slow receiver is what the channel was
 * created with. */
#define KINDS_TO_TEST \
    {NORIA_KIND_BROADCAST, "shm"}, {NORIA_KIND_BROADCAST, "memfd"}, {NORIA_KIND_BROADCAST, "anon"}
#include "variants_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "segment_channel.h"

enum { LEN = 24, MOST = 4 };

static noria_channel *more[MOST]; /* further receivers */
static const uint8_t long_one[LEN];

static int before(void **state)
{
    int rc = setup(state);

    ch.options.max_held = 1;
    return rc;
}

static int after(void **state)
{
    for (int i = 0; i < MOST; i++)
        close_handle(&more[i]);
    return teardown(state);
}

/* Sends numbers from..to-1. */
static void send_all(unsigned from, unsigned to)
{
    for (; from < to; from++)
        send_numbered(from, LEN);
}

static unsigned fill_up(unsigned from)
{
    while (try_send(from, LEN) == 0)
        from++;
    return from;
}

static void expect_all(noria_channel *channel, unsigned from, unsigned to)
{
    for (; from < to; from++) {
        struct noria_info info = expect_on(channel, from, LEN);
        assert_int_equal(info.sequence, from);
        assert_int_equal(info.lost, 0);
        assert_int_equal(info.flags, 0);
    }
}

static void expect_empty(noria_channel *channel)
{
    uint8_t bytes[LEN];

    assert_fails(noria_recv(channel, bytes, sizeof(bytes), 0, NULL), EAGAIN);
}

/* Receives one message, whichever it is. Its number, and how many are said to be lost before it. */
static unsigned take(noria_channel *channel, uint64_t *lost)
{
    uint8_t bytes[LEN];
    struct noria_info info;

    assert_int_equal(noria_recv(channel, bytes, sizeof(bytes), 0, &info), LEN);
    verify_message(bytes, (unsigned)info.sequence, LEN);
    assert_int_equal((info.flags & NORIA_LOST) != 0, info.lost != 0);
    *lost += info.lost;
    return (unsigned)info.sequence;
}

static noria_channel *open_at(enum noria_start start, uint64_t position)
{
    ch.options.start = start;
    ch.options.start_position = position;
    return open_handle(NORIA_RECV);
}

/* ---------------------------------------------------------------------------------------------- everybody */

static void everybody_gets_everything(void **state)
{
    /* Claim: by every form of the calls, in order, with a dense sequence and the sender's number. */
    uint8_t bytes[4][64];
    struct iovec messages[4], buffers[4];
    struct noria_info infos[4];
    struct noria_span span;

    (void)state;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    for (unsigned round = 0; round < 300; round++) {
        unsigned n = round * 6;
        send_numbered(n, n % 65);
        for (unsigned i = 0; i < 4; i++) {
            fill_message(bytes[i], n + 1 + i, (n + i) % 60);
            messages[i] = (struct iovec){bytes[i], (n + i) % 60};
        }
        assert_int_equal(noria_send_many(ch.tx, messages, 4, 0), 4);
        assert_int_equal(noria_reserve(ch.tx, 30, &span, 0), 0);
        fill_message(span.data, n + 5, 11);
        assert_int_equal(noria_commit(ch.tx, &span, 11, 0), 0);

        assert_int_equal(expect(n, n % 65).sequence, n);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(expect(n + 1 + i, (n + i) % 60).sequence, n + 1 + i);
        assert_int_equal(noria_peek(ch.rx, &span, 0, &infos[0]), 0);
        verify_message(span.data, n + 5, 11);
        assert_int_equal(infos[0].sequence, n + 5);
        assert_int_equal(noria_release(ch.rx, &span), 0);
        expect_empty(ch.rx);

        assert_int_equal(expect_on(more[0], n, n % 65).sender, stat_of(ch.tx).self);
        for (unsigned i = 0; i < 4; i++)
            buffers[i] = (struct iovec){bytes[i], 64};
        assert_int_equal(noria_recv_many(more[0], buffers, 4, 0, infos), 4);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(buffers[i].iov_len, (n + i) % 60);
            verify_message(bytes[i], n + 1 + i, buffers[i].iov_len);
            assert_int_equal(infos[i].sequence, n + 1 + i);
        }
        expect_on(more[0], n + 5, 11);
        expect_empty(more[0]);
    }
}

static void everybody_gets_everything_wherever_it_starts(void **state)
{
    /* Claim: positions and sequences wrap at 2^32 and at 2^64 without anybody noticing, in each of the three
     * ways. */
    static const uint64_t firsts[] = {(UINT64_C(1) << 32) - 100, UINT64_MAX - 100};

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        uint64_t next = firsts[i % 2];
        ch.options.first_position = firsts[i % 2];
        ch.options.evict_ns = i / 2 == 1 ? SECOND : 0;
        ch.options.full = i / 2 == 2 ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        open_pair();
        more[0] = open_at(NORIA_START_POSITION, next);
        for (unsigned n = 0; n < 1000; n++, next++) {
            send_numbered(n, n % 65);
            assert_int_equal(expect(n, n % 65).sequence, next);
            assert_int_equal(expect_on(more[0], n, n % 65).sequence, next);
        }
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        close_handle(&more[0]);
        if (ch.memfd >= 0)
            return; /* the memory keeps its first channel */
    }
}

static void messages_may_be_long(void **state)
{
    /* Claim: messages of a megabyte arrive whole, at everybody, with capacity for the promised number. */
    enum { SIZE = (1 << 20) + 3 };
    uint8_t *bytes = malloc(SIZE), *copy = malloc(SIZE);

    (void)state;
    ch.options.max_message = SIZE;
    ch.options.capacity = 2;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    for (unsigned i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * i >> 8);
    for (int i = 0; i < 2; i++)
        assert_int_equal(noria_send(ch.tx, bytes, SIZE, 0), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(noria_recv(i % 2 != 0 ? ch.rx : more[0], copy, SIZE, 0, NULL), SIZE);
        assert_memory_equal(bytes, copy, SIZE);
    }
    free(bytes);
    free(copy);
}

static void a_short_buffer_takes_nothing(void **state)
{
    /* Claim: -EMSGSIZE, and the message stays first, in each of the three ways. */
    uint8_t bytes[8];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        ch.options.evict_ns = i == 1 ? SECOND : 0;
        ch.options.full = i == 2 ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        open_pair();
        send_numbered(1, LEN);
        assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EMSGSIZE);
        expect(1, LEN);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        if (ch.memfd >= 0)
            return;
    }
}

/* --------------------------------------------------------------------------------- one after the other */

static struct noria_broadcast_part *part_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.broadcast;
}

static void calls_out_of_turn_are_refused(void **state)
{
    /* Claim: with a reservation out nothing else can be sent (-EBUSY), with a message held nothing be
     * received by copy; what is finished without having been begun, or twice, or with another span, is
     * -EINVAL; and nothing of that is lost or sent. */
    struct iovec message = {(void *)(uintptr_t)long_one, LEN};
    struct noria_span span, other;
    uint8_t bytes[LEN];

    (void)state;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, LEN, &span, 0), 0);
    assert_fails(try_send(7, LEN), EBUSY);
    assert_fails(noria_send_many(ch.tx, &message, 1, 0), EBUSY);
    assert_fails(noria_reserve(ch.tx, LEN, &other, 0), EBUSY);
    other = span;
    other.token[0] += 8;
    assert_fails(noria_commit(ch.tx, &other, LEN, 0), EINVAL);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
    assert_fails(noria_commit(ch.tx, &span, LEN, 0), EINVAL);
    assert_fails(noria_peek(ch.rx, &span, 0, NULL), EAGAIN);
    send_all(0, 2);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    message.iov_base = bytes;
    assert_fails(noria_recv(ch.rx, bytes, LEN, 0, NULL), EBUSY);
    assert_fails(noria_recv_many(ch.rx, &message, 1, 0, NULL), EBUSY);
    assert_fails(noria_peek(ch.rx, &other, 0, NULL), EBUSY);
    assert_int_equal(stat_of(ch.rx).held, 1);
    assert_int_equal(noria_release(ch.rx, &span), 0);
    assert_fails(noria_release(ch.rx, &span), EINVAL);
    expect_all(ch.rx, 1, 2);
    expect_empty(ch.rx);
    assert_int_equal(stat_of(ch.tx).sent, 2);
}

static void sides_are_ready(void **state)
{
    /* Claim: the sender's side is ready while there is room, or a reservation to finish; a receiver's when a
     * message waits, and when it was left behind, of which its next call tells. */
    struct noria_ready sending, receiving;
    struct noria_span span;

    (void)state;
    ch.options.evict_ns = 3600 * SECOND;
    open_pair();
    sending = (struct noria_ready){ch.tx, NORIA_SEND, 0, 0};
    receiving = (struct noria_ready){ch.rx, NORIA_RECV, 0, 0};
    assert_int_equal(noria_reserve(ch.tx, LEN, &span, 0), 0);
    assert_int_equal(noria_wait_any(&sending, 1, 0), 1);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    fill_up(0);
    assert_int_equal(noria_wait_any(&sending, 1, 0), 0);
    while (noria_recv(ch.rx, &span, sizeof(span), 0, NULL) == LEN)
        continue;
    assert_int_equal(noria_wait_any(&receiving, 1, 0), 0);
    part_of(ch.rx)->receiver.cursor->life ^= 3; /* LIVE to EVICTED, as the sender would */
    assert_int_equal(noria_wait_any(&receiving, 1, 0), 1);
}

/* -------------------------------------------------------------------------------- when a receiver is slow */

static void block_waits_for_the_slowest(void **state)
{
    /* Claim: with BLOCK the promised capacity fits, then the slowest receiver holds the sender, whose calls
     * end in time; one receive makes room; a receiver that leaves holds nobody. */
    unsigned sent;

    (void)state;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    sent = fill_up(0);
    assert_true(sent >= 8);
    expect_all(ch.rx, 0, sent);
    assert_fails(noria_send(ch.tx, long_one, LEN, 0), EAGAIN);
    assert_fails(noria_send(ch.tx, long_one, LEN, 5 * MS), ETIMEDOUT);
    assert_int_equal(stat_of(ch.tx).messages, sent);
    for (unsigned i = 0; i < 4; i++)
        expect_on(more[0], i, LEN);
    sent = fill_up(sent);
    close_handle(&more[0]);
    send_all(sent, sent + 1);
}

static void *receive_when_the_sender_waits(void *channel)
{
    while (noria_calls_waiting(ch.tx) == 0)
        sched_yield();
    expect_on(channel, 0, LEN);
    expect_on(channel, 1, LEN);
    expect_on(channel, 2, LEN);
    expect_on(channel, 3, LEN);
    return NULL;
}

static void a_waiting_sender_is_woken_by_the_slowest(void **state)
{
    /* Claim: a blocked send goes on when the slowest receiver makes room, and all sleeping receivers are
     * woken by a message. */
    pthread_t thread;
    unsigned sent;

    (void)state;
    ch.options.recheck_ns = 3600 * SECOND;
    open_pair();
    sent = fill_up(0);
    assert_int_equal(pthread_create(&thread, NULL, receive_when_the_sender_waits, ch.rx), 0);
    assert_int_equal(noria_send(ch.tx, long_one, LEN, 30 * SECOND), 0);
    pthread_join(thread, NULL);
    assert_true(sent > 4);
}

static void fail_does_not_wait(void **state)
{
    /* Claim: with FAIL a full channel is -EAGAIN whatever the timeout, and nothing is lost. */
    unsigned sent;

    (void)state;
    ch.options.full = NORIA_FULL_FAIL;
    open_pair();
    sent = fill_up(0);
    assert_fails(noria_send(ch.tx, long_one, LEN, -1), EAGAIN);
    expect_all(ch.rx, 0, sent);
    assert_int_equal(stat_of(ch.rx).lost, 0);
}

static void drop_newest_tells_everybody(void **state)
{
    /* Claim: with DROP_NEWEST sends succeed, what came first stays, and each receiver is told once how many
     * were dropped while it was there. */
    unsigned fits;
    uint64_t lost[3] = {0};

    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    send_all(0, 50);
    more[1] = open_handle(NORIA_RECV);
    fits = (unsigned)stat_of(ch.rx).sent;
    assert_true(fits >= 8 && fits < 50);
    for (unsigned i = 0; i < fits; i++) {
        assert_int_equal(take(ch.rx, &lost[0]), i);
        assert_int_equal(take(more[0], &lost[1]), i);
    }
    assert_int_equal(noria_send(ch.tx, NULL, 0, 0), 0);
    assert_int_equal(noria_recv(more[1], NULL, 0, 0, NULL), 0);
    assert_int_equal(lost[0], 50 - fits);
    assert_int_equal(lost[1], 50 - fits);
    assert_int_equal(stat_of(ch.rx).lost, 50 - fits);
}

static void evicted_receivers_know_what_they_missed(void **state)
{
    /* Claim: a receiver that holds up the sender for evict_ns is left behind; it goes on from the oldest kept
     * and is told exactly how many it missed; others get everything. */
    unsigned sent, got = 1, number;
    uint64_t lost = 0;
    int64_t start;

    (void)state;
    ch.options.evict_ns = 30 * MS;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    start = now_ns();
    sent = fill_up(0);
    expect_all(more[0], 0, sent);
    assert_int_equal(try_send(sent, LEN), -EAGAIN);
    while (try_send(sent, LEN) != 0)
        assert_true(now_ns() - start < 20 * SECOND);
    assert_true(now_ns() - start >= 30 * MS);
    for (unsigned end = ++sent + 100; sent < end; sent++) {
        expect_all(more[0], sent - 1, sent);
        send_numbered(sent, LEN);
    }
    expect_all(more[0], sent - 1, sent);
    number = take(ch.rx, &lost);
    assert_int_equal(lost, number);
    assert_true(number > 0 && sent - number >= 8);
    while (++number < sent)
        got += take(ch.rx, &lost) == number;
    assert_int_equal(got + lost, sent);
    assert_int_equal(stat_of(ch.rx).lost, lost);
    expect_empty(ch.rx);
    sent = fill_up(sent); /* it counts again */
    assert_true(sent > got);
}

static void a_blocked_send_evicts(void **state)
{
    /* Claim: a send without a timeout waits no longer than evict_ns and a re-check for a receiver that stands
     * still. */
    unsigned sent;
    int64_t start;

    (void)state;
    ch.options.evict_ns = 30 * MS;
    open_pair();
    sent = fill_up(0);
    start = now_ns();
    assert_int_equal(noria_send(ch.tx, long_one, LEN, -1), 0);
    assert_true(now_ns() - start >= 30 * MS);
    assert_true(now_ns() - start < 20 * SECOND);
    assert_true(sent > 0);
}

static void all_that_send_evict(void **state)
{
    /* Claim: so do a batch, a reservation, and a sender that waits at noria_wait_any for room. */
    struct iovec messages[2] = {{(void *)(uintptr_t)long_one, LEN}, {(void *)(uintptr_t)long_one, LEN}};
    struct noria_ready ready;
    struct noria_span span;
    uint64_t lost = 0, before_it;
    int64_t start;

    (void)state;
    ch.options.evict_ns = 20 * MS;
    open_pair();
    for (unsigned way = 0; way < 3; way++) {
        uint8_t bytes[LEN];
        struct noria_info info = {0};
        before_it = stat_of(ch.rx).lost;
        fill_up(0);
        start = now_ns();
        if (way == 0)
            assert_true(noria_send_many(ch.tx, messages, 2, -1) > 0);
        ready = (struct noria_ready){ch.tx, NORIA_SEND, 0, 0};
        if (way == 1)
            assert_int_equal(noria_wait_any(&ready, 1, 30 * SECOND), 1);
        if (way != 0)
            assert_int_equal(noria_reserve(ch.tx, LEN, &span, way == 1 ? 0 : -1), 0);
        if (way != 0)
            assert_int_equal(noria_commit(ch.tx, &span, 0, 0), 0);
        assert_true(now_ns() - start >= 20 * MS);
        while (noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info) >= 0)
            lost += info.lost;
        assert_true(stat_of(ch.rx).lost > before_it);
        assert_int_equal(stat_of(ch.rx).lost, lost);
    }
}

/* As if the sender had been held up for ever, by whom it was last. */
static void wait_for_ever(void)
{
    assert_true(part_of(ch.tx)->held_up_since != 0);
    part_of(ch.tx)->held_up_since -= ch.options.evict_ns; /* below 0 soon after the machine's start */
}

static void each_receiver_has_its_own_time(void **state)
{
    /* Claim: the time a receiver is given begins with itself, and again when it moves: neither one that
     * comes after another left, nor one that has been reborn under the same number, nor one that has taken
     * a message since pays for the time before. */
    uint8_t long_message[64] = {0};
    int64_t began_ns = noria_now_ns();
    uint32_t first;
    noria_channel **holder;

    (void)state;
    ch.options.evict_ns = 3600 * SECOND;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    fill_up(0);
    wait_for_ever();
    first = part_of(ch.tx)->slowest.owner;
    holder = first == stat_of(ch.rx).self ? &ch.rx : &more[0];
    close_handle(holder); /* the other one stands at the same place */
    assert_fails(noria_send(ch.tx, long_message, LEN, 0), EAGAIN);
    assert_int_not_equal(part_of(ch.tx)->slowest.owner, first);
    holder = holder == &ch.rx ? &more[0] : &ch.rx;
    wait_for_ever();
    expect_on(*holder, 0, LEN);
    assert_fails(noria_send(ch.tx, long_message, sizeof(long_message), 0), EAGAIN);
    wait_for_ever();
    part_of(*holder)->receiver.cursor->life += NORIA_CURSOR_EPOCH; /* as after a death and a birth */
    part_of(*holder)->receiver.life += NORIA_CURSOR_EPOCH;
    assert_fails(noria_send(ch.tx, long_message, sizeof(long_message), 0), EAGAIN);
    assert_true(part_of(ch.tx)->held_up_since >= began_ns); /* it counts anew */
    expect_on(*holder, 1, LEN);
    assert_int_equal(stat_of(ch.tx).lost, 0);
    wait_for_ever(); /* it works: who stands still goes */
    assert_fails(noria_send(ch.tx, long_message, sizeof(long_message), 0), EAGAIN);
    wait_for_ever();
    assert_int_equal(noria_send(ch.tx, long_message, sizeof(long_message), 0), 0);
    assert_int_equal(NORIA_CURSOR_STATE(part_of(*holder)->receiver.cursor->life), NORIA_CURSOR_EVICTED);
}

static void who_gets_on_is_not_evicted(void **state)
{
    /* Claim: a slow receiver that takes one message now and then is never evicted. */
    unsigned sent, next = 0;
    int64_t start = now_ns();

    (void)state;
    ch.options.evict_ns = 500 * MS;
    open_pair();
    sent = fill_up(0);
    while (now_ns() - start < 800 * MS) {
        int64_t turn = now_ns();
        while (now_ns() - turn < 10 * MS)
            sent += try_send(sent, LEN) == 0;
        expect_all(ch.rx, next, next + 1);
        next++;
    }
    expect_all(ch.rx, next, sent);
}

static void nothing_in_place_where_it_may_go(void **state)
{
    /* Claim: peek is -ENOTSUP where messages may be overwritten under the receiver's eyes. */
    struct noria_span span = {0};

    (void)state;
    ch.options.evict_ns = ch.variant->scheme[0] == 'a' ? SECOND : 0;
    ch.options.full = ch.options.evict_ns != 0 ? NORIA_FULL_BLOCK : NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    send_numbered(0, LEN);
    assert_fails(noria_peek(ch.rx, &span, 0, NULL), ENOTSUP);
    assert_non_null(strstr(noria_detail(), "in place"));
    assert_fails(noria_release(ch.rx, &span), EINVAL);
    assert_int_equal(stat_of(ch.rx).abilities & NORIA_CAN_ZERO_COPY, 0);
    expect(0, LEN);
}

/* -------------------------------------------------------------------------------------------------- lossy */

static void lossy_gaps_are_exact(void **state)
{
    /* Claim: with OVERWRITE_OLDEST no send ever waits, at least `capacity` messages are kept, and received +
     * told lost = sent for each receiver, by recv and by recv_many, at any pace. */
    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    more[0] = open_handle(NORIA_RECV);
    for (unsigned pace = 1, sent = 0, got = 0, many = 0; pace < 120; pace += 7) {
        static uint64_t lost, lost_many;
        uint8_t bytes[3][LEN];
        struct iovec buffers[3];
        struct noria_info infos[3];
        unsigned last = 0, n = 0;
        if (pace == 1)
            lost = lost_many = 0;
        send_all(sent, sent + pace);
        sent += pace;
        for (; n == 0 || last + 1 != sent; got++, n++)
            last = take(ch.rx, &lost);
        assert_true(n >= (pace < 8 ? pace : 8));
        assert_int_equal(got + lost, sent);
        for (int rc = 3; rc > 0;) {
            for (int i = 0; i < 3; i++)
                buffers[i] = (struct iovec){bytes[i], LEN};
            rc = noria_recv_many(more[0], buffers, 3, 0, infos);
            for (int i = 0; i < rc; i++, many++) {
                verify_message(bytes[i], (unsigned)infos[i].sequence, LEN);
                lost_many += infos[i].lost;
            }
        }
        assert_int_equal(many + lost_many, sent);
        expect_empty(ch.rx);
        assert_int_equal(stat_of(ch.rx).lost, lost + lost_many);
    }
}

static void lost_is_told_when_asked(void **state)
{
    /* Claim: receives without info do not swallow the number; the next one with info tells all of it. */
    uint8_t bytes[LEN];
    uint64_t lost = 0;
    unsigned first;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    open_pair();
    send_all(0, 100);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), LEN);
    first = take(ch.rx, &lost);
    assert_int_equal(lost, first - 1);
}

/* Bytes of this process' mappings of channels that have the permission, and where one of them is. */
static size_t mapped(const char *permissions, uintptr_t *somewhere)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    size_t bytes = 0;

    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end;
        char has[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, has) == 3 && strncmp(has, permissions, 4) == 0) {
            bytes += end - start;
            *somewhere = start;
        }
    }
    if (maps != NULL)
        fclose(maps);
    return bytes;
}

static void lossy_receivers_cannot_write_the_ring(void **state)
{
    /* Claim: a lossy receiver's mapping of the ring is read-only: a store there is a fault; what is left
     * writable is header and table. A sender's is writable. */
    uintptr_t read_only = 0, writable = 0;
    size_t before_bytes = mapped("rw-s", &writable), ring;
    int status;
    pid_t child;

    (void)state;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.rx = open_handle(NORIA_RECV);
    ring = mapped("r--s", &read_only);
    assert_true(ring >= 8 * 64);
    assert_true(ring + (mapped("rw-s", &writable) - before_bytes) >= stat_of(ch.rx).footprint);
    child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile uint8_t *)read_only = 1;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(mapped("r--s", &read_only), ring);
    send_numbered(0, LEN);
    expect(0, LEN);
}

/* ----------------------------------------------------------------------------------------------- corrupt */

/* The header of the receiver's next record. */
static uint64_t *next_header(void)
{
    struct noria_broadcast_part *writer = part_of(ch.tx);

    return noria_broadcast_word_at(&writer->sender.shape, part_of(ch.rx)->receiver.position);
}

static void lengths_that_cannot_be(void **state)
{
    /* Claim: a record longer than the channel's messages is -EBADMSG by every way of receiving, whatever room
     * the buffer has, and a header that no sender wrote is, too: then stat cannot count. */
    uint8_t bytes[128];
    struct iovec buffer = {bytes, sizeof(bytes)};
    struct noria_span span;
    uint64_t header;

    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        ch.options.evict_ns = way == 1 ? SECOND : 0;
        ch.options.full = way == 2 ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        open_pair();
        send_all(0, 10);
        header = *next_header();
        *next_header() = header + 72 - LEN;
        assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EBADMSG);
        assert_fails(noria_recv(ch.rx, bytes, 8, 0, NULL), EBADMSG);
        assert_fails(noria_recv_many(ch.rx, &buffer, 1, 0, NULL), EBADMSG);
        if (way == 0)
            assert_fails(noria_peek(ch.rx, &span, 0, NULL), EBADMSG);
        *next_header() = header & ~NORIA_BROADCAST_COMMITTED;
        assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EBADMSG);
        assert_int_equal(stat_of(ch.tx).messages, -1);
        assert_int_equal(stat_of(ch.tx).bytes, -1);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        if (ch.memfd >= 0)
            return;
    }
}

static void nobody_joins_a_corrupt_ring(void **state)
{
    /* Claim: where the marks lead to no record a sender and a receiver who come are told so (-EBADMSG); a
     * role that is taken by a number that cannot be is -EBUSY. */
    noria_channel *none = NULL;
    struct noria_broadcast *ring;

    (void)state;
    ch.keeper = open_handle(0);
    ring = noria_segment_channel_of(ch.keeper)->ring;
    ring->marks[0].position = 4;
    ch.options.start = NORIA_START_OLDEST;
    if (strcmp(ch.variant->scheme, "anon") != 0)
        assert_fails(try_open(&none, NORIA_RECV), EBADMSG);
    assert_fails(try_open(&none, NORIA_SEND), EBADMSG);
    ring->marks[0].position = 0;
    ring->sender |= 0xffff;
    assert_fails(try_open(&none, NORIA_SEND), EBUSY);
    ring->sender &= ~UINT64_C(0xffff);
    open_pair();
    send_all(0, 1);
    expect_all(ch.rx, 0, 1);
}

/* --------------------------------------------------------------------------------------- coming and going */

static void latecomers_choose_where_to_begin(void **state)
{
    /* Claim: NOW, OLDEST, POSITION; before the first receiver nobody holds the sender; what a POSITION is
     * late for is told. */
    uint64_t lost = 0;
    unsigned oldest;

    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        ch.options.evict_ns = way == 1 ? SECOND : 0;
        ch.options.full = way == 2 ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        ch.tx = open_handle(NORIA_SEND);
        send_all(0, 100);
        if (strcmp(ch.variant->scheme, "anon") == 0)
            return; /* handles come by reopen there: see below */
        ch.rx = open_at(NORIA_START_NOW, 0);
        more[0] = open_at(NORIA_START_OLDEST, 0);
        more[1] = open_at(NORIA_START_POSITION, 95);
        more[2] = open_at(NORIA_START_POSITION, 3);
        more[3] = open_at(NORIA_START_POSITION, 1000);
        send_all(100, 101);
        expect_all(ch.rx, 100, 101);
        oldest = take(more[0], &lost);
        assert_int_equal(lost, 0);
        assert_true(oldest > 0 && oldest <= 92);
        expect_all(more[0], oldest + 1, 101);
        expect_all(more[1], 95, 101);
        assert_int_equal(take(more[2], &lost), oldest);
        assert_int_equal(lost, oldest - 3);
        expect_all(more[2], oldest + 1, 101);
        expect_all(more[3], 100, 101);
        lost = 0;
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        for (int i = 0; i < MOST; i++)
            close_handle(&more[i]);
        if (ch.memfd >= 0)
            return;
    }
}

static void children_begin_as_their_parent_would(void **state)
{
    /* Claim: noria_reopen passes on where the inherited handle was told to begin. */
    uint64_t lost = 0;

    (void)state;
    ch.options.start = NORIA_START_OLDEST;
    ch.tx = open_handle(NORIA_SEND);
    send_all(0, 5);
    assert_int_equal(noria_reopen(&ch.rx, ch.tx, NORIA_RECV), 0);
    assert_int_equal(take(ch.rx, &lost), 0);
    expect_all(ch.rx, 1, 5);
}

static void there_is_one_sender(void **state)
{
    /* Claim: a second sender is -EBUSY while the first lives; after it has left, the next one goes on with
     * the sequence. */
    noria_channel *second = NULL;

    (void)state;
    open_pair();
    send_all(0, 3);
    assert_fails(try_open(&second, NORIA_SEND), EBUSY);
    close_handle(&ch.tx);
    ch.tx = open_handle(NORIA_SEND);
    send_all(3, 5);
    expect_all(ch.rx, 0, 5);
}

static void the_stream_ends_for_everybody(void **state)
{
    /* Claim: after the last sender has left each receiver gets the rest and then -EPIPE, in each of the three
     * ways. */
    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        ch.options.evict_ns = way == 1 ? SECOND : 0;
        ch.options.full = way == 2 ? NORIA_FULL_OVERWRITE_OLDEST : NORIA_FULL_BLOCK;
        remove_name();
        open_pair();
        more[0] = open_handle(NORIA_RECV);
        send_all(0, 5);
        close_handle(&ch.tx);
        expect_all(ch.rx, 0, 5);
        expect_nothing(EPIPE);
        expect_all(more[0], 0, 5);
        assert_fails(noria_recv(more[0], NULL, 0, -1, NULL), EPIPE);
        close_handle(&ch.rx);
        close_handle(&more[0]);
        if (ch.memfd >= 0)
            return;
    }
}

static void nonsense_is_refused(void **state)
{
    /* Claim: what a broadcast channel cannot be is -EINVAL with a sentence. */
    noria_channel *channel = NULL;

    (void)state;
#define REFUSED(change)                                                                                    \
    do {                                                                                                   \
        struct noria_options kept = ch.options;                                                            \
        change;                                                                                            \
        assert_fails(noria_open(&channel, "anon:", NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);       \
        ch.options = kept;                                                                                 \
    } while (0)
    REFUSED(ch.options.pack = 2);
    REFUSED(ch.options.priorities = 2);
    REFUSED(ch.options.capacity = 0);
    REFUSED(ch.options.max_bytes = 1 << 20);
    REFUSED(ch.options.orphans = NORIA_ORPHANS_DROP);
    REFUSED(ch.options.evict_ns = -1);
    REFUSED((ch.options.evict_ns = SECOND, ch.options.full = NORIA_FULL_OVERWRITE_OLDEST));
    REFUSED((ch.options.evict_ns = SECOND, ch.options.max_held = 2));
    REFUSED(ch.options.start = 3);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(everybody_gets_everything),
        EVERYWHERE(everybody_gets_everything_wherever_it_starts),
        ONCE(messages_may_be_long),
        EVERYWHERE(a_short_buffer_takes_nothing),
        EVERYWHERE(calls_out_of_turn_are_refused),
        ONCE(sides_are_ready),
        EVERYWHERE(block_waits_for_the_slowest),
        EVERYWHERE(a_waiting_sender_is_woken_by_the_slowest),
        EVERYWHERE(fail_does_not_wait),
        EVERYWHERE(drop_newest_tells_everybody),
        EVERYWHERE(evicted_receivers_know_what_they_missed),
        EVERYWHERE(a_blocked_send_evicts),
        ONCE(all_that_send_evict),
        ONCE(each_receiver_has_its_own_time),
        ONCE(who_gets_on_is_not_evicted),
        EVERYWHERE(nothing_in_place_where_it_may_go),
        EVERYWHERE(lossy_gaps_are_exact),
        EVERYWHERE(lost_is_told_when_asked),
        EVERYWHERE(lossy_receivers_cannot_write_the_ring),
        EVERYWHERE(latecomers_choose_where_to_begin),
        EVERYWHERE(children_begin_as_their_parent_would),
        EVERYWHERE(there_is_one_sender),
        EVERYWHERE(the_stream_ends_for_everybody),
        EVERYWHERE(lengths_that_cannot_be),
        EVERYWHERE(nobody_joins_a_corrupt_ring),
        ONCE(nonsense_is_refused),
    };

    return run_variants_with("broadcast", tests, sizeof(tests) / sizeof(tests[0]), before, after);
}
