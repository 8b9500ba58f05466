/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a channel with priorities gives the highest level first and keeps the order of each level. */
#include "variants_test.h"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

#include "mpmc_ring.h"

static void open_levels(uint32_t levels)
{
    ch.options.priorities = levels;
    open_pair();
}

static int try_prio(unsigned number, unsigned priority)
{
    uint8_t bytes[64];

    fill_message(bytes, number, sizeof(bytes));
    return noria_send_prio(ch.tx, bytes, sizeof(bytes), priority, 0);
}

static void send_prio(unsigned number, unsigned priority)
{
    assert_int_equal(try_prio(number, priority), 0);
}

static void expect_prio(unsigned number, unsigned priority)
{
    assert_int_equal(expect(number, 64).priority, priority);
}

static void the_highest_comes_first_and_in_order(void **state)
{
    /* Claim: whatever the order of sending, the highest level comes first, each level in the order it was
     * sent, and the receiver is told the level; at any number of levels, also where positions wrap. */
    static const uint32_t levels[] = {2, 3, 31, 32};

    (void)state;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        ch.options.first_position = i % 2 == 0 ? 0 : UINT64_MAX - 3;
        open_levels(levels[i]);
        for (unsigned round = 0; round < 50; round++) {
            for (unsigned n = 0; n < 4 * levels[i]; n++)
                send_prio(n, n * 7 % levels[i]);
            for (unsigned level = levels[i]; level-- > 0;)
                for (unsigned n = 0; n < 4 * levels[i]; n++)
                    if (n * 7 % levels[i] == level)
                        expect_prio(n, level);
            expect_nothing(EAGAIN);
        }
        assert_int_equal(stat_of(ch.rx).priorities, levels[i]);
        assert_true((stat_of(ch.rx).abilities & NORIA_CAN_PRIORITY) != 0);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
        if (ch.memfd >= 0)
            break; /* the memory has its channel */
    }
}

static void a_level_long_unused_is_first_all_the_same(void **state)
{
    /* Claim: after any number of messages at a low level, which lets receivers forget the higher ones, the
     * next message at a higher level still comes first; to every receiver. */
    noria_channel *other;

    (void)state;
    open_levels(32);
    other = open_handle(NORIA_RECV);
    close_handle(&other); /* who leaves makes all look everywhere */
    other = open_handle(NORIA_RECV);
    for (unsigned vain = 0; vain < 300; vain++) {
        noria_channel *next = vain % 2 == 0 ? ch.rx : other;
        for (unsigned n = 0; n < vain; n++) {
            send_prio(n, 0);
            assert_int_equal(expect_on(next, n, 64).priority, 0);
        }
        send_prio(1, 0);
        send_prio(2, vain % 31 + 1);
        assert_int_equal(expect_on(next, 2, 64).priority, vain % 31 + 1);
        assert_int_equal(expect_on(next, 1, 64).priority, 0);
    }
    close_handle(&other);
}

static void each_level_has_the_whole_capacity(void **state)
{
    /* Claim: a full level refuses, alone; the capacity is each level's; what is refused is not sent; stat
     * counts all levels together. */
    (void)state;
    open_levels(3);
    for (unsigned level = 0; level < 3; level++) {
        for (unsigned n = 0; n < 8; n++)
            send_prio(n, level);
        assert_fails(try_prio(8, level), EAGAIN);
    }
    assert_int_equal(stat_of(ch.rx).messages, 24);
    assert_int_equal(stat_of(ch.rx).bytes, 24 * 64);
    for (unsigned level = 3; level-- > 0;)
        for (unsigned n = 0; n < 8; n++)
            expect_prio(n, level);
    expect_nothing(EAGAIN);
}

static void a_full_level_may_drop(void **state)
{
    /* Claim: with DROP_NEWEST a message at a full level goes, counted and told; other levels are not
     * touched. */
    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_levels(2);
    for (unsigned n = 0; n < 20; n++)
        send_prio(n, 1);
    send_prio(50, 0);
    assert_int_equal(stat_of(ch.tx).lost, 12);
    assert_int_equal(expect(0, 64).lost, 12);
    for (unsigned n = 1; n < 8; n++)
        expect_prio(n, 1);
    expect_prio(50, 0);
}

static int wait_for_room(unsigned priority, int64_t timeout_ns)
{
    struct noria_ready place = {ch.tx, NORIA_SEND, -1, priority};
    int rc = noria_wait_any(&place, 1, timeout_ns);

    if (rc >= 0)
        assert_int_equal(place.ready, rc);
    return rc;
}

static void *wait_for_room_above(void *rc)
{
    *(int *)rc = wait_for_room(2, -1);
    return NULL;
}

static void a_sender_waits_for_room_at_its_level(void **state)
{
    /* Claim: noria_wait_any takes a sender for ready if the level it names has room, whatever room others have; a
     * message received at another level does not end the wait, one at its own does; a level that is not there
     * is -EINVAL. */
    pthread_t thread;
    int rc = 0;

    (void)state;
    open_levels(3);
    for (unsigned n = 0; n < 8; n++)
        send_prio(n, 2);
    assert_int_equal(wait_for_room(0, 0), 1);
    assert_int_equal(wait_for_room(1, 0), 1);
    assert_int_equal(wait_for_room(2, 0), 0);
    assert_int_equal(wait_for_room(2, 60000000), 0); /* longer than between two looks */
    assert_fails(wait_for_room(3, 0), EINVAL);
    expect_prio(0, 2);
    assert_int_equal(wait_for_room(2, 0), 1);
    send_prio(8, 2);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_room_above, &rc), 0);
    expect_prio(1, 2);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, 1);
    if (has_name())
        assert_int_equal(noria_unlink(ch.address), 0); /* with its bells */
}

static bool rings_for_room(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    return poll(&entry, 1, 0) == 1;
}

static void a_peek_tells_of_the_room_it_makes(void **state)
{
    /* Claim: as soon as a message of a full level is peeked, at the lowest level or above, the level has room and a
     * sender that polls for it is told. */
    struct noria_span span;

    (void)state;
    open_levels(2);
    for (unsigned level = 0; level < 2; level++) {
        int fd = noria_fd(ch.tx, NORIA_SEND);
        assert_true(fd >= 0);
        for (unsigned n = 0; n < 8; n++)
            send_prio(n, level);
        assert_fails(try_prio(8, level), EAGAIN);
        assert_false(rings_for_room(fd));
        assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
        assert_true(rings_for_room(fd));
        send_prio(8, level);
        assert_int_equal(noria_release(ch.rx, &span), 0);
        for (unsigned n = 1; n < 9; n++)
            expect_prio(n, level);
    }
}

static void levels_that_are_not_there_are_refused(void **state)
{
    /* Claim: a level beyond the channel's is -EINVAL and sends nothing; a channel without priorities takes
     * level 0 only (-ENOTSUP); more than 32 levels, groups, overwriting and SPSC do not go together with
     * priorities. */
    noria_channel *none = NULL;

    (void)state;
    if (is_spsc()) {
        ch.options.priorities = 2;
        assert_fails(try_open(&none, NORIA_SEND), EINVAL);
        ch.options.priorities = 1;
        open_pair();
        send_prio(1, 0);
        assert_fails(try_prio(2, 1), ENOTSUP);
        expect(1, 64);
        return;
    }
    ch.options.priorities = 33;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    ch.options.priorities = 4;
    ch.options.pack = 2;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    ch.options.pack = 1;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    assert_fails(try_open(&none, NORIA_SEND), EINVAL);
    ch.options.full = NORIA_FULL_BLOCK;
    open_pair();
    assert_fails(try_prio(1, 4), EINVAL);
    expect_nothing(EAGAIN);
}

static void spans_know_their_level(void **state)
{
    /* Claim: peek gives the highest first, spans of several levels are held together and released in any
     * order, once; reserve and send_many send at the lowest level. */
    struct noria_span spans[3], reserved;
    struct noria_info info;
    uint8_t bytes[2][64];
    struct iovec batch[2] = {{bytes[0], 64}, {bytes[1], 64}};

    (void)state;
    open_levels(5);
    fill_message(bytes[0], 10, 64);
    fill_message(bytes[1], 11, 64);
    assert_int_equal(noria_reserve(ch.tx, 64, &reserved, 0), 0);
    fill_message(reserved.data, 9, 64);
    assert_fails(try_prio(1, 4), EBUSY);
    assert_int_equal(noria_commit(ch.tx, &reserved, 64, 0), 0);
    assert_int_equal(noria_send_many(ch.tx, batch, 2, 0), 2);
    send_prio(4, 4);
    send_prio(2, 2);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(noria_peek(ch.rx, &spans[i], 0, &info), 0);
        assert_int_equal(info.priority, i == 0 ? 4 : i == 1 ? 2 : 0);
        verify_message(spans[i].data, i == 0 ? 4 : i == 1 ? 2 : 9, 64);
    }
    assert_fails(noria_peek(ch.rx, &reserved, 0, NULL), EBUSY);
    assert_int_equal(noria_release(ch.rx, &spans[1]), 0);
    assert_fails(noria_release(ch.rx, &spans[1]), EINVAL);
    assert_int_equal(noria_release(ch.rx, &spans[2]), 0);
    assert_int_equal(noria_release(ch.rx, &spans[0]), 0);
    expect_prio(10, 0);
    expect_prio(11, 0);
    expect_nothing(EAGAIN);
}

static void what_a_leaver_held_comes_back_at_its_level(void **state)
{
    /* Claim: what a receiver that closes had not released comes again, flagged, with its level, before
     * what is lower. */
    noria_channel *other;
    struct noria_span span;
    struct noria_info info;

    (void)state;
    open_levels(8);
    send_prio(6, 6);
    other = open_handle(NORIA_RECV);
    assert_int_equal(noria_peek(other, &span, 0, NULL), 0);
    send_prio(3, 3);
    send_prio(7, 7);
    close_handle(&other);
    expect_prio(7, 7);
    info = expect(6, 64);
    assert_int_equal(info.priority, 6);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    expect_prio(3, 3);
}

static void reservations_take_their_turn(void **state)
{
    /* Claim: with a reservation out a batch is -EBUSY, too; an aborted one leaves nothing and is over, as
     * is a committed one (-EINVAL); a full lowest level refuses batches and reservations, not messages
     * above it. */
    uint8_t bytes[64] = {0};
    struct iovec batch = {bytes, 64};
    struct noria_span span;

    (void)state;
    open_levels(3);
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    assert_fails(noria_send_many(ch.tx, &batch, 1, 0), EBUSY);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
    assert_fails(noria_commit(ch.tx, &span, 64, 0), EINVAL);
    expect_nothing(EAGAIN);
    for (unsigned n = 0; n < 8; n++)
        send_prio(n, 0);
    assert_fails(noria_send_many(ch.tx, &batch, 1, 0), EAGAIN);
    assert_fails(noria_reserve(ch.tx, 64, &span, 0), EAGAIN);
    send_prio(8, 1);
    expect_prio(8, 1);
    expect_prio(0, 0);
}

static void spans_that_are_not_held_are_refused(void **state)
{
    /* Claim: a span with a level that is not there, or that holds nothing, is -EINVAL to release; an empty
     * channel cannot be peeked, and the place for what is held is free again afterwards; a buffer that is too
     * short takes nothing, whichever level's message comes first. */
    struct noria_span span, other;
    uint8_t bytes[8];

    (void)state;
    ch.options.max_held = 1;
    open_levels(3);
    for (unsigned i = 0; i < 3; i++)
        assert_fails(noria_peek(ch.rx, &span, 0, NULL), EAGAIN);
    send_prio(1, 2);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EMSGSIZE);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    for (uint64_t level = 0; level < 5; level++) {
        other = span;
        other.token[1] = level == 4 ? UINT64_MAX : level;
        if (level != 2)
            assert_fails(noria_release(ch.rx, &other), EINVAL);
    }
    assert_int_equal(noria_release(ch.rx, &span), 0);
}

static struct noria_segment_channel *inside(noria_channel *channel)
{
    return noria_segment_channel_of(channel);
}

static void who_was_taken_for_dead_is_told(void **state)
{
    /* Claim: a holder whose slot was settled, because others took it for dead, is told so at its release
     * (-EOWNERDEAD), once. */
    struct noria_mpmc_handle *ring;
    struct noria_span span;

    (void)state;
    open_levels(2);
    send_prio(1, 1);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    ring = &inside(ch.tx)->part.priority.rings[1];
    assert_int_equal(noria_mpmc_settle(ring, 0, *noria_mpmc_state_at(ring, 0)), 1);
    assert_fails(noria_release(ch.rx, &span), EOWNERDEAD);
    assert_fails(noria_release(ch.rx, &span), EINVAL);
    assert_int_equal(expect(1, 64).flags, NORIA_REDELIVERED);
}

static void the_end_waits_for_what_others_hold(void **state)
{
    /* Claim: with no sender left a receiver of an empty channel is not told of the end while another one
     * holds a message, at whichever level: it may come back, and does. */
    noria_channel *other;
    struct noria_span span;

    (void)state;
    open_levels(4);
    other = open_handle(NORIA_RECV);
    send_prio(3, 3);
    assert_int_equal(noria_peek(other, &span, 0, NULL), 0);
    close_handle(&ch.tx);
    expect_nothing(EAGAIN);
    close_handle(&other);
    assert_int_equal(expect(3, 64).priority, 3);
    expect_nothing(EPIPE);
}

/* ----------------------------------------------------------------------------------------------- hints */

static void send_and_take(unsigned level, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        send_prio(i, level);
        expect_prio(i, level);
    }
}

static void lost_hints_strand_nothing(void **state)
{
    /* Claim: a message whose sender was killed before it could set the hint is found by the first receiver
     * that finds nothing else, who sets the hint. */
    uint64_t *hints;

    (void)state;
    open_levels(8);
    hints = &inside(ch.tx)->part.priority.shared->hints;
    send_and_take(0, 1);
    send_prio(1, 5);
    noria_store_release64(hints, 0);
    expect_prio(1, 5);
    assert_int_equal(noria_load_acquire64(hints), 1 << 5);
    send_and_take(0, 1);
    assert_int_equal(noria_load_acquire64(hints), 1 << 5 | 1);
}

static void a_level_whose_hint_is_taken_back_is_looked_at(void **state)
{
    /* Claim: while one who was stopped is taking a level's hint back the others look there all the same, and
     * what stands there comes first; none of them takes back another hint, or ends that taking back. */
    uint64_t *hints;
    uint64_t taking;

    (void)state;
    open_levels(4);
    hints = &inside(ch.tx)->part.priority.shared->hints;
    taking = UINT64_C(7) << 40 | UINT64_C(3) << 32; /* number 7, level 2 */
    send_and_take(0, 1); /* the look at all levels that comes at first */
    send_prio(1, 0);
    send_prio(2, 2);
    noria_store_release64(hints, taking | 1 << 1 | 1);
    expect_prio(2, 2);
    expect_prio(1, 0);
    noria_store_release64(hints, taking | 1 << 1 | 1);
    send_and_take(0, 500);
    assert_int_equal(noria_load_acquire64(hints), taking | 1 << 1 | 1);
    noria_store_release64(hints, 1 << 1 | 1);
    send_and_take(0, 500);
    assert_int_equal(noria_load_acquire64(hints), 1); /* the other one, when nobody is at it */
}

static void it_ends_when_all_levels_are_empty(void **state)
{
    /* Claim: the end of the stream comes after the last message of the lowest level. */
    (void)state;
    open_levels(4);
    send_prio(1, 0);
    send_prio(2, 3);
    close_handle(&ch.tx);
    expect_prio(2, 3);
    expect_prio(1, 0);
    expect_nothing(EPIPE);
}

/* ------------------------------------------------------------------------------------------- many threads */

enum { CREW = 3, EACH = 20000, MANY_LEVELS = 8 };

static uint32_t times_got[CREW * EACH], left;

/* cmocka's own assertions are for the test's thread alone. */
#define REQUIRE_IN_THREAD(holds) \
    ((holds) ? (void)0 : (fprintf(stderr, "line %d: %s: %s\n", __LINE__, #holds, noria_detail()), abort()))

static unsigned level_of(uint64_t number)
{
    return (unsigned)(number * 5 / 3 % MANY_LEVELS);
}

static void *send_mine(void *first)
{
    for (uint64_t i = 0; i < EACH; i++) {
        uint64_t number = *(unsigned *)first + i;
        REQUIRE_IN_THREAD(noria_send_prio(ch.tx, &number, sizeof(number), level_of(number), -1) == 0);
    }
    return NULL;
}

static void *receive_any(void *context)
{
    uint64_t last[CREW][MANY_LEVELS] = {{0}};

    (void)context;
    while (noria_load_relaxed32(&left) != 0) {
        struct noria_info info;
        uint64_t number, *before;
        ssize_t rc = noria_recv(ch.rx, &number, sizeof(number), 2 * MS, &info);
        if (rc == -ETIMEDOUT)
            continue;
        REQUIRE_IN_THREAD(rc == (ssize_t)sizeof(number) && number < CREW * EACH);
        REQUIRE_IN_THREAD(info.priority == level_of(number));
        before = &last[number / EACH][info.priority];
        REQUIRE_IN_THREAD(number >= *before); /* order of one sender at one level, at one receiver */
        *before = number;
        noria_add_relaxed32(&times_got[number], 1);
        noria_sub_release32(&left, 1);
    }
    return NULL;
}

static void threads_share_a_handle(void **state)
{
    /* Claim: threads may share a sender's and a receiver's handle: each message comes once, with its level, and those
     * of one sender at one level in order. */
    pthread_t senders[CREW], receivers[CREW];
    unsigned first[CREW];

    (void)state;
    memset(times_got, 0, sizeof(times_got));
    left = CREW * EACH;
    open_levels(MANY_LEVELS);
    for (unsigned i = 0; i < CREW; i++) {
        first[i] = i * EACH;
        assert_int_equal(pthread_create(&senders[i], NULL, send_mine, &first[i]), 0);
        assert_int_equal(pthread_create(&receivers[i], NULL, receive_any, NULL), 0);
    }
    for (unsigned i = 0; i < CREW; i++) {
        pthread_join(senders[i], NULL);
        pthread_join(receivers[i], NULL);
    }
    for (unsigned i = 0; i < CREW * EACH; i++)
        assert_int_equal(times_got[i], 1);
    expect_nothing(EAGAIN);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONLY_MPMC(the_highest_comes_first_and_in_order),
        ONLY_MPMC(a_level_long_unused_is_first_all_the_same),
        ONLY_MPMC(each_level_has_the_whole_capacity),
        ONLY_MPMC(a_full_level_may_drop),
        ONLY_MPMC(a_sender_waits_for_room_at_its_level),
        ONLY_MPMC(a_peek_tells_of_the_room_it_makes),
        ONCE(levels_that_are_not_there_are_refused),
        ONLY_MPMC(spans_know_their_level),
        ONLY_MPMC(what_a_leaver_held_comes_back_at_its_level),
        ONLY_MPMC(reservations_take_their_turn),
        ONLY_MPMC(spans_that_are_not_held_are_refused),
        {"who_was_taken_for_dead_is_told", who_was_taken_for_dead_is_told, NORIA_KIND_MPMC, "anon"},
        ONLY_MPMC(the_end_waits_for_what_others_hold),
        {"lost_hints_strand_nothing", lost_hints_strand_nothing, NORIA_KIND_MPMC, "anon"},
        {"a_level_whose_hint_is_taken_back_is_looked_at", a_level_whose_hint_is_taken_back_is_looked_at,
         NORIA_KIND_MPMC, "anon"},
        ONLY_MPMC(it_ends_when_all_levels_are_empty),
        ONLY_MPMC(threads_share_a_handle),
    };

    return run_variants("priorities", tests, sizeof(tests) / sizeof(tests[0]));
}
