/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: on a channel without capacity a send returns when a receiver has the message, and not otherwise;
 * both sides always agree, whoever waits, gives up, is stopped or dies. */
#include "stepping_test.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "segment_channel.h"

#define HOUR (3600 * SECOND)

static int setup_rendezvous(void **state)
{
    int rc = setup(state);

    ch.options.capacity = 0;
    ch.options.max_held = 1;
    ch.options.max_participants = 16;
    return rc;
}

static void await_waiting(noria_channel *channel, uint32_t n)
{
    while (noria_calls_waiting(channel) < n)
        sched_yield();
}

/* A call that a thread makes, and what came of it. */
struct call {
    noria_channel *channel;
    unsigned number;
    bool sends;
    int64_t timeout_ns;
    ssize_t rc;
    uint32_t returned;
    uint8_t bytes[64];
    pthread_t thread;
};

static void *make_call(void *context)
{
    struct call *call = context;

    if (call->sends) {
        fill_message(call->bytes, call->number, 64);
        call->rc = noria_send(call->channel, call->bytes, 64, call->timeout_ns);
    } else {
        call->rc = noria_recv(call->channel, call->bytes, 64, call->timeout_ns, NULL);
    }
    noria_store_release32(&call->returned, 1);
    return NULL;
}

static void start_call(struct call *call, noria_channel *channel, bool sends, unsigned number)
{
    *call = (struct call){.channel = channel, .sends = sends, .number = number, .timeout_ns = -1};
    assert_int_equal(pthread_create(&call->thread, NULL, make_call, call), 0);
}

static ssize_t finish_call(struct call *call)
{
    assert_int_equal(pthread_join(call->thread, NULL), 0);
    return call->rc;
}

/* ------------------------------------------------------------------------------------------- hand to hand */

static void send_returns_when_taken(void **state)
{
    /* Claim: a send waits until its message was taken, then returns 0; nothing is kept. */
    struct call call;

    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    for (unsigned i = 0; i < 20; i++) {
        start_call(&call, ch.tx, true, i);
        await_waiting(ch.tx, 1);
        assert_int_equal(stat_of(ch.rx).messages, 1);
        assert_int_equal(noria_load_acquire32(&call.returned), 0);
        expect(i, 64);
        assert_int_equal(finish_call(&call), 0);
        assert_int_equal(stat_of(ch.rx).messages, 0);
        expect_nothing(EAGAIN);
    }
    assert_int_equal(stat_of(ch.rx).sent, 20);
    assert_int_equal(stat_of(ch.rx).received, 20);
    assert_int_equal(stat_of(ch.rx).capacity, 0);
}

static void recv_waits_for_a_sender(void **state)
{
    /* Claim: a receiver that waits, awake or asleep, gets the message of a send that comes, also of one
     * that does not wait. */
    struct call call;

    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    for (unsigned i = 0; i < 20; i++) {
        int rc;
        start_call(&call, ch.rx, false, 0);
        if (i % 2 == 0)
            await_waiting(ch.rx, 1);
        do /* its moment may be over before the receiver has come */
            rc = try_send(i, 64);
        while (rc == -EAGAIN);
        assert_int_equal(rc, 0);
        assert_int_equal(finish_call(&call), 64);
        verify_message(call.bytes, i, 64);
    }
}

static void nobody_there(void **state)
{
    /* Claim: without a receiver a send with timeout 0 is -EAGAIN, one with a timeout -ETIMEDOUT in time,
     * and neither message can be had afterwards. */
    uint8_t bytes[64] = {0};
    int64_t start;

    (void)state;
    open_pair();
    assert_fails(try_send(1, 64), EAGAIN);
    expect_nothing(EAGAIN);
    start = now_ns();
    assert_fails(noria_send(ch.tx, bytes, 64, 20 * MS), ETIMEDOUT);
    assert_true(now_ns() - start >= 20 * MS && now_ns() - start < 2 * SECOND);
    expect_nothing(EAGAIN);
    assert_int_equal(stat_of(ch.rx).sent, 0);
}

static void policies(void **state)
{
    /* Claim: FAIL does not wait for a receiver; DROP_NEWEST drops and counts what nobody waits for. */
    uint8_t bytes[64] = {0};

    (void)state;
    ch.options.full = NORIA_FULL_FAIL;
    open_pair();
    assert_fails(noria_send(ch.tx, bytes, 64, -1), EAGAIN);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    if (ch.memfd >= 0 || ch.path[0] != '\0')
        return; /* the same memory would be found */
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    assert_int_equal(noria_send(ch.tx, bytes, 64, -1), 0);
    assert_int_equal(stat_of(ch.tx).lost, 1);
    assert_int_equal(stat_of(ch.tx).sent, 0);
    expect_nothing(EAGAIN);
}

static void many_is_one(void **state)
{
    /* Claim: send_many sends one and says so; recv_many takes what is offered. */
    uint8_t bytes[3][64];
    struct iovec messages[3] = {{bytes[0], 64}, {bytes[1], 64}, {bytes[2], 64}};
    struct call call;

    (void)state;
    open_pair();
    fill_message(bytes[0], 7, 64);
    start_call(&call, ch.rx, false, 0);
    assert_int_equal(noria_send_many(ch.tx, messages, 3, -1), 1);
    assert_int_equal(finish_call(&call), 64);
    verify_message(call.bytes, 7, 64);
    start_call(&call, ch.tx, true, 8);
    assert_int_equal(noria_recv_many(ch.rx, messages, 3, -1, NULL), 1);
    assert_int_equal(finish_call(&call), 0);
    verify_message(bytes[0], 8, 64);
}

static void long_messages_stay(void **state)
{
    /* Claim: a receiver with too small a buffer is told the length, and the message stays for another. */
    uint8_t bytes[63];
    struct call call;

    (void)state;
    open_pair();
    start_call(&call, ch.tx, true, 3);
    await_waiting(ch.tx, 1);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EMSGSIZE);
    expect(3, 64);
    assert_int_equal(finish_call(&call), 0);
}

static void nothing_in_place(void **state)
{
    /* Claim: there is no zero copy where nothing is kept: -ENOTSUP. */
    struct noria_span span = {0};

    (void)state;
    open_pair();
    assert_fails(noria_reserve(ch.tx, 8, &span, 0), ENOTSUP);
    assert_fails(noria_peek(ch.rx, &span, 0, NULL), ENOTSUP);
    assert_int_equal(stat_of(ch.rx).abilities & NORIA_CAN_ZERO_COPY, 0);
}

static void refuse(uint32_t *option, uint32_t value)
{
    uint32_t kept = *option;

    *option = value;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    *option = kept;
}

static void nonsense(void **state)
{
    /* Claim: what a rendezvous cannot be is -EINVAL: overwriting, priorities, packs, holding, growing, one
     * sender only. */
    (void)state;
    refuse(&ch.options.full, NORIA_FULL_OVERWRITE_OLDEST);
    refuse(&ch.options.priorities, 2);
    refuse(&ch.options.pack, 2);
    refuse(&ch.options.max_held, 2);
    refuse(&ch.options.orphans, NORIA_ORPHANS_DROP);
    refuse(&ch.options.kind, NORIA_KIND_SPSC);
    ch.options.max_bytes = 1 << 20;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
}

static void readable_when_offered(void **state)
{
    /* Claim: a descriptor of the receiving side becomes readable when a message is offered, one of the
     * sending side when a receiver waits. */
    struct noria_ready ready;
    struct call call;

    (void)state;
    open_pair();
    ready = (struct noria_ready){ch.rx, NORIA_RECV, 0, 0};
    assert_int_equal(noria_wait_any(&ready, 1, 0), 0);
    start_call(&call, ch.tx, true, 1);
    assert_int_equal(noria_wait_any(&ready, 1, -1), 1);
    expect(1, 64);
    assert_int_equal(finish_call(&call), 0);
    assert_int_equal(try_send(9, 64), -EAGAIN); /* who waited for the offer may still have been asking for notice */
    ready = (struct noria_ready){ch.tx, NORIA_SEND, 0, 0};
    assert_int_equal(noria_wait_any(&ready, 1, 0), 0);
    start_call(&call, ch.rx, false, 0);
    assert_int_equal(noria_wait_any(&ready, 1, -1), 1);
    while (try_send(2, 64) != 0)
        continue;
    assert_int_equal(finish_call(&call), 64);
}

/* The other threads of a process, each with an offer of its own. */
enum { CROWD = 64 };
static struct noria_rendezvous_offer crowd[CROWD];

static struct noria_rendezvous_handle *table_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.rendezvous.table;
}

static void make_crowd(noria_channel *channel)
{
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(noria_rendezvous_offer(table_of(channel), "crowd", 5, &crowd[i]), 0);
}

static void crowded_table(void **state)
{
    /* Claim: when as many threads offer as the table has places a further sender waits as for a receiver, in
     * bounded calls; as soon as one of them is served or gives up he takes the place, and his message comes
     * after theirs. */
    struct call call;
    uint8_t bytes[64] = {0};
    struct noria_listing listing;

    (void)state;
    open_pair();
    make_crowd(ch.tx);
    assert_int_equal(stat_of(ch.rx).messages, CROWD);
    assert_int_equal(stat_of(ch.rx).bytes, CROWD * 5);
    assert_fails(noria_send(ch.tx, bytes, 64, 2 * MS), ETIMEDOUT);
    if (ch.path[0] != '\0') {
        struct noria_participant who[2];
        assert_int_equal(noria_who(ch.address, who, 2), 2);
        assert_int_equal(who[stat_of(ch.tx).self - 1].held, CROWD);
        assert_int_equal(noria_inspect(ch.address, &listing), 0);
        assert_int_equal(listing.stat.messages, CROWD);
    }
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    assert_int_equal(noria_rendezvous_withdraw(table_of(ch.tx), &crowd[0]), -ECANCELED);
    for (unsigned i = 1; i < CROWD; i++) {
        assert_int_equal(noria_recv(ch.rx, bytes, 64, -1, NULL), 5);
        assert_memory_equal(bytes, "crowd", 5);
        assert_int_equal(noria_rendezvous_look(table_of(ch.tx), &crowd[i]), 0);
    }
    assert_int_equal(noria_recv(ch.rx, bytes, 64, -1, NULL), 64);
    verify_message(bytes, 1, 64);
    assert_int_equal(finish_call(&call), 0);
    assert_int_equal(noria_load_acquire32(&noria_segment_channel_of(ch.tx)->part.rendezvous.crowded), 0);
}

static void batches_of_what_is_offered(void **state)
{
    /* Claim: recv_many takes, with info, all that is offered just now and fits, in the order of the
     * offers. */
    uint8_t bytes[3][64];
    struct iovec buffers[3] = {{bytes[0], 64}, {bytes[1], 64}, {bytes[2], 64}};
    struct noria_info infos[3];
    struct noria_rendezvous_offer offers[3];

    (void)state;
    ch.rx = open_handle(NORIA_RECV); /* who is there before the first sender */
    ch.tx = open_handle(NORIA_SEND);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(noria_rendezvous_offer(table_of(ch.tx), "abc", i + 1, &offers[i]), 0);
    assert_int_equal(noria_recv_many(ch.rx, buffers, 2, 0, infos), 2);
    assert_int_equal(buffers[1].iov_len, 2);
    assert_int_equal(infos[1].size, 2);
    assert_true(infos[1].sequence > infos[0].sequence);
    assert_int_equal(infos[0].sender, stat_of(ch.tx).self);
    buffers[0].iov_len = 64;
    assert_int_equal(noria_recv_many(ch.rx, buffers, 3, 0, infos), 1);
    assert_memory_equal(bytes[0], "abc", 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(noria_rendezvous_look(table_of(ch.tx), &offers[i]), 0);
}

static void who_leaves_takes_offers_along(void **state)
{
    /* Claim: what a closing handle still had offered, because one of its calls was cut off, nobody gets. */
    noria_channel *other;

    (void)state;
    open_pair();
    other = open_handle(NORIA_SEND);
    make_crowd(other);
    close_handle(&other);
    assert_int_equal(stat_of(ch.rx).messages, 0);
    expect_nothing(EAGAIN);
}

static void lengths_that_cannot_be(void **state)
{
    /* Claim: an offer whose length is corrupt is -EBADMSG to the receiver, and lost to the sender, who is
     * told (-EOWNERDEAD). */
    struct noria_rendezvous_offer offer;
    uint8_t bytes[128];

    (void)state;
    open_pair();
    assert_int_equal(noria_rendezvous_offer(table_of(ch.tx), "abc", 3, &offer), 0);
    noria_rendezvous_slot_at(table_of(ch.tx), offer.slot)->length = 65;
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EBADMSG);
    assert_int_equal(noria_rendezvous_look(table_of(ch.tx), &offer), -EOWNERDEAD);
    expect_nothing(EAGAIN);
}

/* -------------------------------------------------------------------------------------- ends of all sorts */

static void shutdown_withdraws(void **state)
{
    /* Claim: shutdown ends calls of both sides with -ECANCELED, and takes the message back. */
    struct call call;

    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    assert_int_equal(noria_shutdown(ch.tx), 0);
    assert_int_equal(finish_call(&call), -ECANCELED);
    assert_int_equal(stat_of(ch.rx).messages, 0);
    expect_nothing(EAGAIN);
    start_call(&call, ch.rx, false, 0);
    await_waiting(ch.rx, 1);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_int_equal(finish_call(&call), -ECANCELED);
}

static void close_withdraws(void **state)
{
    /* Claim: so does close, which returns; and the receiver then finds the end of the stream. */
    struct call call;

    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    close_handle(&ch.tx);
    assert_int_equal(finish_call(&call), -ECANCELED);
    expect_nothing(EPIPE);
}

static void last_receiver_leaves(void **state)
{
    /* Claim: with need_receiver a sender that waits learns that the last receiver has left: -EPIPE, and
     * nobody has the message. */
    struct call call;

    (void)state;
    ch.options.need_receiver = 1;
    open_pair();
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    close_handle(&ch.rx);
    assert_int_equal(finish_call(&call), -EPIPE);
    assert_int_equal(stat_of(ch.tx).messages, 0);
}

/* ------------------------------------------------------------------------------ many, giving up at random */

enum { CREW = 4, EACH = 1500 };

static struct {
    uint32_t sent[CREW * EACH + 1], received[CREW * EACH + 1];
    uint32_t senders_left;
} tally;

static void *send_impatiently(void *context)
{
    unsigned first = *(unsigned *)context, seed = first;

    for (unsigned i = 0; i < EACH; i++) {
        uint64_t message[2] = {first + i, ~(uint64_t)(first + i)};
        int64_t timeout =
            rand_r(&seed) % 4 == 0 ? -1 : rand_r(&seed) % (rand_r(&seed) % 2 == 0 ? 2000 : 200 * 1000);
        int rc = noria_send(ch.tx, message, sizeof(message), timeout);
        if (rc == 0)
            noria_add_relaxed32(&tally.sent[first + i], 1);
        else if (rc != -EAGAIN && rc != -ETIMEDOUT)
            abort();
    }
    noria_sub_release32(&tally.senders_left, 1);
    return NULL;
}

static void *receive_impatiently(void *context)
{
    unsigned seed = *(unsigned *)context;

    while (noria_load_acquire32(&tally.senders_left) != 0) {
        uint64_t message[2];
        ssize_t rc = noria_recv(ch.rx, message, sizeof(message), rand_r(&seed) % (200 * 1000), NULL);
        if (rc == (ssize_t)sizeof(message) && message[1] == ~message[0] && message[0] < CREW * EACH)
            noria_add_relaxed32(&tally.received[message[0]], 1);
        else if (rc != -EAGAIN && rc != -ETIMEDOUT)
            abort();
    }
    return NULL;
}

/* How many messages moved, of CREW * EACH. */
static unsigned play_round(void)
{
    pthread_t senders[CREW], receivers[CREW];
    unsigned first[CREW], moved = 0;

    memset(&tally, 0, sizeof(tally));
    tally.senders_left = CREW;
    for (unsigned i = 0; i < CREW; i++) {
        first[i] = i * EACH;
        pthread_create(&senders[i], NULL, send_impatiently, &first[i]);
        pthread_create(&receivers[i], NULL, receive_impatiently, &first[i]);
    }
    for (unsigned i = 0; i < CREW; i++) {
        pthread_join(senders[i], NULL);
        pthread_join(receivers[i], NULL);
    }
    for (unsigned i = 0; i < CREW * EACH; i++) {
        assert_int_equal(tally.sent[i], tally.received[i]);
        assert_true(tally.sent[i] <= 1);
        moved += tally.sent[i];
    }
    return moved;
}

static void both_sides_agree(void **state)
{
    /* Claim: many threads send and receive with random timeouts: a message was received, once, if and only
     * if its send returned 0. It is played until somebody has given up, which on a quick machine is rare. */
    unsigned played = 0, moved = 0;

    (void)state;
    open_pair();
    while (played < 50 * CREW * EACH && moved == played) {
        moved += play_round();
        played += CREW * EACH;
    }
    assert_true(moved > 0 && moved < played);
    assert_int_equal(stat_of(ch.tx).messages, 0);
    assert_int_equal(stat_of(ch.tx).sent, moved);
}

/* --------------------------------------------------------------------------------------- stops and deaths */

static void receive_once(void)
{
    uint8_t bytes[64];
    noria_channel *mine = open_handle(NORIA_RECV);

    mark();
    noria_recv(mine, bytes, sizeof(bytes), 0, NULL);
    mark();
}

/* Steps a receiver into the middle of its taking. */
static pid_t step_into_taking(void)
{
    pid_t child = start_stepped(receive_once);

    while (stat_of(ch.tx).held == 0)
        assert_true(step(child));
    return child;
}

static void receiver_dies_over_it(void **state)
{
    /* Claim: a sender whose receiver was killed while it took the message is told so: -EOWNERDEAD. Then it
     * goes on. */
    struct call call;
    pid_t child;

    (void)state;
    open_pair();
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    child = step_into_taking();
    assert_int_equal(noria_load_acquire32(&call.returned), 0);
    end_stepped(child);
    assert_int_equal(finish_call(&call), -EOWNERDEAD);
    assert_int_equal(stat_of(ch.tx).held, 0);
    start_call(&call, ch.tx, true, 2);
    await_waiting(ch.tx, 1);
    expect(2, 64);
    assert_int_equal(finish_call(&call), 0);
}

static void receiver_stops_over_it(void **state)
{
    /* Claim: a sender whose receiver was stopped while it took the message can withdraw it; then that
     * receiver, when it goes on, has not got it. */
    struct call call;
    pid_t child;

    (void)state;
    open_pair();
    start_call(&call, ch.tx, true, 1);
    await_waiting(ch.tx, 1);
    child = step_into_taking();
    assert_int_equal(noria_shutdown(ch.tx), 0);
    assert_int_equal(finish_call(&call), -ECANCELED);
    assert_int_equal(stat_of(ch.rx).held, 0);
    run_to_mark(child, 0);
    assert_int_equal(stat_of(ch.rx).received, 0);
    end_stepped(child);
}

static void send_and_wait(void)
{
    uint8_t bytes[64] = {0};
    noria_channel *mine = open_handle(NORIA_SEND);

    mark();
    noria_send(mine, bytes, sizeof(bytes), -1);
    mark();
}

static void sender_dies_waiting(void **state)
{
    /* Claim: the offer of a killed sender goes as soon as somebody notices, and others are not held up. */
    pid_t child;
    struct call call;

    (void)state;
    open_pair();
    child = start_stepped(send_and_wait);
    while (stat_of(ch.rx).messages == 0)
        assert_true(step(child));
    end_stepped(child);
    start_call(&call, ch.tx, true, 5);
    for (int got = 0; got < 1;) {
        uint8_t bytes[64];
        /* The dead one's may still come, or not. */
        assert_int_equal(noria_recv(ch.rx, bytes, 64, -1, NULL), 64);
        got += bytes[0] == (uint8_t)(5 * 31);
    }
    assert_int_equal(finish_call(&call), 0);
    assert_int_equal(stat_of(ch.rx).messages, 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONLY_MPMC(send_returns_when_taken),
        ONLY_MPMC(recv_waits_for_a_sender),
        ONLY_MPMC(nobody_there),
        ONLY_MPMC(policies),
        ONLY_MPMC(many_is_one),
        ONLY_MPMC(long_messages_stay),
        ONLY_MPMC(nothing_in_place),
        ONLY_MPMC(nonsense),
        ONLY_MPMC(readable_when_offered),
        ONLY_MPMC(crowded_table),
        ONLY_MPMC(batches_of_what_is_offered),
        ONLY_MPMC(who_leaves_takes_offers_along),
        {"lengths_that_cannot_be", lengths_that_cannot_be, NORIA_KIND_MPMC, "anon"},
        ONLY_MPMC(shutdown_withdraws),
        ONLY_MPMC(close_withdraws),
        ONLY_MPMC(last_receiver_leaves),
        ONLY_MPMC(both_sides_agree),
        ONLY_MPMC(receiver_dies_over_it),
        ONLY_MPMC(receiver_stops_over_it),
        ONLY_MPMC(sender_dies_waiting),
    };

    return run_variants_with("rendezvous", tests, sizeof(tests) / sizeof(tests[0]), setup_rendezvous,
                             teardown);
}
