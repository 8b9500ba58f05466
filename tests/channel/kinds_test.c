/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: what is promised of every channel holds for each kind of delivery: batches, readiness, shut handles,
 * what the tools show, memory that is corrupt, and participants that died. Shared words are written here as
 * somebody hostile, or somebody killed between two instructions, would leave them.
 */
#define KINDS_TO_TEST {NORIA_KIND_MPMC, "shm"}
#include "variants_test.h"

#include <sys/wait.h>

#include "mpmc_ring.h"
#include "peers.h"

enum { LEN = 24 };

static struct noria_segment_channel *inside(noria_channel *channel)
{
    return noria_segment_channel_of(channel);
}

/* --------------------------------------------------------------------------------------------- the kinds */

struct delivery {
    const char *name;
    uint32_t kind, capacity, full, priorities;
    int64_t evict_ns;
    uint64_t max_bytes;
};

enum { OVERWRITE, PRIORITY, LATEST, UNBOUNDED, BROADCAST, EVICTING, LOSSY, RENDEZVOUS, KINDS };

static const struct delivery deliveries[KINDS] = {
    {"overwrite", NORIA_KIND_MPMC, 8, NORIA_FULL_OVERWRITE_OLDEST, 1, 0, 0},
    {"priority", NORIA_KIND_MPMC, 8, NORIA_FULL_BLOCK, 4, 0, 0},
    {"latest value", NORIA_KIND_MPMC, 1, NORIA_FULL_OVERWRITE_OLDEST, 1, 0, 0},
    {"unbounded", NORIA_KIND_MPMC, 8, NORIA_FULL_BLOCK, 1, 0, 1 << 20},
    {"broadcast", NORIA_KIND_BROADCAST, 8, NORIA_FULL_BLOCK, 1, 0, 0},
    {"broadcast with eviction", NORIA_KIND_BROADCAST, 8, NORIA_FULL_BLOCK, 1, 3600 * SECOND, 0},
    {"broadcast that overwrites", NORIA_KIND_BROADCAST, 8, NORIA_FULL_OVERWRITE_OLDEST, 1, 0, 0},
    {"rendezvous", NORIA_KIND_MPMC, 0, NORIA_FULL_BLOCK, 1, 0, 0},
};

static void choose(unsigned kind)
{
    const struct delivery *delivery = &deliveries[kind];

    ch.options.kind = delivery->kind;
    ch.options.capacity = delivery->capacity;
    ch.options.full = delivery->full;
    ch.options.priorities = delivery->priorities;
    ch.options.evict_ns = delivery->evict_ns;
    ch.options.max_bytes = delivery->max_bytes;
    ch.options.max_held = kind == OVERWRITE || kind == PRIORITY || kind == BROADCAST ? 3 : 1;
}

static void close_all(void)
{
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    close_handle(&ch.keeper);
    unlink(ch.path);
}

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

static struct iovec message_of(uint8_t *bytes, unsigned number, size_t len)
{
    fill_message(bytes, number, len);
    return (struct iovec){bytes, len};
}

/* --------------------------------------------------------------------------------------- what all promise */

static void batches_end_where_they_must(void **state)
{
    /* Claim: a batch goes as far as its first message that is too long, whose own turn is -EMSGSIZE; a batch
     * is received, with and without info, as far as its first buffer that is too short, and if that is the
     * very first it is -EMSGSIZE and takes nothing. */
    (void)state;
    for (unsigned kind = 0; kind < RENDEZVOUS; kind++) {
        uint8_t bytes[4][100], got[4][64];
        struct iovec batch[4], buffers[4];
        struct noria_info infos[4];
        bool one = kind == LATEST; /* whose last message is all there is */
        choose(kind);
        open_pair();
        for (unsigned i = 0; i < 4; i++)
            batch[i] = message_of(bytes[i], i, i == 3 ? 65 : LEN);
        assert_int_equal(noria_send_many(ch.tx, batch, 4, 0), 3);
        assert_fails(noria_send_many(ch.tx, &batch[3], 1, 0), EMSGSIZE);
        for (unsigned i = 0; i < 4; i++)
            buffers[i] = (struct iovec){got[i], 3};
        assert_fails(noria_recv_many(ch.rx, buffers, 2, 0, infos), EMSGSIZE);
        buffers[0].iov_len = 64;
        assert_int_equal(noria_recv_many(ch.rx, buffers, 2, 0, infos), 1);
        assert_int_equal(buffers[0].iov_len, LEN);
        assert_int_equal(infos[0].size, LEN);
        verify_message(got[0], one ? 2 : 0, LEN);
        for (unsigned i = 0; i < 4; i++)
            buffers[i] = (struct iovec){got[i], 64};
        if (!one) {
            assert_int_equal(noria_recv_many(ch.rx, buffers, 2, 0, NULL), 2);
            verify_message(got[0], 1, LEN);
            verify_message(got[1], 2, LEN);
        }
        assert_fails(noria_recv_many(ch.rx, buffers, 1, 0, NULL), EAGAIN);
        send_numbered(9, LEN);
        assert_int_equal(noria_recv(ch.rx, got[0], 64, 0, NULL), LEN);
        verify_message(got[0], 9, LEN);
        close_all();
    }
}

static bool is_ready_at(noria_channel *channel, int side, unsigned level)
{
    struct noria_ready ready = {channel, side, -1, level};
    int rc = noria_wait_any(&ready, 1, 0);

    assert_true(rc == 0 || rc == 1);
    assert_int_equal(ready.ready, rc);
    return rc == 1;
}

static bool is_ready(noria_channel *channel, int side)
{
    return is_ready_at(channel, side, 0);
}

static void a_side_is_ready_when_it_can_get_on(void **state)
{
    /* Claim: a receiver's side is ready when, and only when, there is a message for it; a sender's while
     * there is room, at the level it asks for. */
    (void)state;
    for (unsigned kind = 0; kind < RENDEZVOUS; kind++) {
        choose(kind);
        open_pair();
        assert_false(is_ready(ch.rx, NORIA_RECV));
        assert_true(is_ready(ch.tx, NORIA_SEND));
        send_numbered(1, LEN);
        assert_true(is_ready(ch.rx, NORIA_RECV));
        expect(1, LEN);
        assert_false(is_ready(ch.rx, NORIA_RECV));
        if (kind == PRIORITY || kind == UNBOUNDED || kind == BROADCAST || kind == EVICTING) {
            for (unsigned level = 0; level < deliveries[kind].priorities; level++) {
                uint8_t bytes[64] = {0};
                assert_true(is_ready_at(ch.tx, NORIA_SEND, level));
                while (noria_send_prio(ch.tx, bytes, 64, level, 0) == 0)
                    continue;
                assert_false(is_ready_at(ch.tx, NORIA_SEND, level));
            }
        }
        close_all();
    }
}

static void a_shut_handle_does_nothing(void **state)
{
    /* Claim: after noria_shutdown sends and receives are -ECANCELED, whatever is there. */
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint8_t bytes[64];
        choose(kind);
        open_pair();
        if (kind != RENDEZVOUS)
            send_numbered(1, LEN);
        assert_int_equal(noria_shutdown(ch.tx), 0);
        assert_int_equal(noria_shutdown(ch.rx), 0);
        assert_fails(try_send(2, LEN), ECANCELED);
        assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), ECANCELED);
        close_all();
    }
}

static void what_has_no_spans_says_so(void **state)
{
    /* Claim: where nothing can be used in place each of the five calls says -ENOTSUP, and moves nothing. */
    static const unsigned kinds[] = {LATEST, UNBOUNDED, RENDEZVOUS};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t bytes[64];
        struct noria_span span = {bytes, 64, {0, 0}};
        choose(kinds[i]);
        open_pair();
        if (kinds[i] != RENDEZVOUS)
            send_numbered(1, LEN);
        assert_fails(noria_reserve(ch.tx, 8, &span, 0), ENOTSUP);
        assert_fails(noria_commit(ch.tx, &span, 8, 0), ENOTSUP);
        assert_fails(noria_abort(ch.tx, &span), ENOTSUP);
        assert_fails(noria_peek(ch.rx, &span, 0, NULL), ENOTSUP);
        assert_fails(noria_release(ch.rx, &span), ENOTSUP);
        assert_non_null(strstr(noria_detail(), "in place"));
        if (kinds[i] != RENDEZVOUS)
            expect(1, LEN);
        expect_nothing(EAGAIN);
        close_all();
    }
}

static void impossible_sizes_are_refused(void **state)
{
    /* Claim: a capacity of messages that no memory can hold is -EINVAL for every kind, whichever sum
     * overflows. */
    static const uint64_t capacities[] = {UINT64_C(1) << 28, UINT64_C(1) << 30, UINT64_C(1) << 40,
                                          UINT64_MAX};

    (void)state;
    for (unsigned kind = 0; kind < RENDEZVOUS; kind++)
        for (unsigned i = 0; i < 4 && kind != LATEST; i++) {
            noria_channel *none = NULL;
            choose(kind);
            ch.options.capacity = capacities[i];
            ch.options.max_message = 1 << 30;
            assert_fails(noria_open(&none, "anon:", NORIA_SEND, &ch.options), EINVAL);
        }
}

/* --------------------------------------------------------------------------------------- corrupt geometry */

/* A word of the ring's geometry, and what it might say instead. */
struct lie {
    unsigned kind;
    size_t offset, size;
    uint64_t value;
};

static const struct lie lies[] = {
    {LATEST, offsetof(struct noria_latest, magic), 8, 0},
    {LATEST, offsetof(struct noria_latest, max_message), 4, 32},
    {LATEST, offsetof(struct noria_latest, owners), 4, 4},
    {RENDEZVOUS, offsetof(struct noria_rendezvous, magic), 8, 0},
    {RENDEZVOUS, offsetof(struct noria_rendezvous, max_message), 4, 32},
    {RENDEZVOUS, offsetof(struct noria_rendezvous, owners), 4, 4},
    {UNBOUNDED, offsetof(struct noria_chain, magic), 8, 0},
    {UNBOUNDED, offsetof(struct noria_chain, max_message), 4, 32},
    {UNBOUNDED, offsetof(struct noria_chain, owners), 4, 4},
    {BROADCAST, offsetof(struct noria_broadcast, magic), 8, 0},
    {BROADCAST, offsetof(struct noria_broadcast, capacity), 8, 512},
    {BROADCAST, offsetof(struct noria_broadcast, mode), 4, NORIA_BROADCAST_EVICTING},
    {BROADCAST, offsetof(struct noria_broadcast, owners), 4, 4},
    {LOSSY, offsetof(struct noria_broadcast, mode), 4, NORIA_BROADCAST_RELIABLE},
    {OVERWRITE, offsetof(struct noria_mpmc, magic), 8, 0},
    {OVERWRITE, offsetof(struct noria_mpmc, max_message), 4, 32},
    {OVERWRITE, offsetof(struct noria_mpmc, owners), 4, 4},
    {PRIORITY, sizeof(struct noria_priority) + offsetof(struct noria_mpmc, magic), 8, 0},
    {PRIORITY, sizeof(struct noria_priority) + offsetof(struct noria_mpmc, owners), 4, 4},
};

static void rings_that_contradict_the_channel_are_refused(void **state)
{
    /* Claim: a ring whose own geometry is not the channel's, though it would be a sound one, is -EBADMSG with
     * a sentence to whoever opens, and to the tools a corrupt channel; set right it opens again. */
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct noria_listing listing;
        uint64_t truth = 0;
        uint8_t *word;
        choose(lies[i].kind);
        ch.keeper = open_handle(NORIA_SEND);
        word = (uint8_t *)inside(ch.keeper)->ring + lies[i].offset;
        memcpy(&truth, word, lies[i].size);
        memcpy(word, &lies[i].value, lies[i].size);
        assert_fails(try_open(&ch.rx, NORIA_RECV), EBADMSG);
        assert_int_equal(noria_inspect(ch.address, &listing), 0);
        assert_int_equal(listing.condition, NORIA_CONDITION_CORRUPT);
        memcpy(word, &truth, lies[i].size);
        ch.rx = open_handle(NORIA_RECV);
        close_all();
    }
}

static void a_level_that_is_corrupt(void **state)
{
    /* Claim: where one level's ring turns corrupt under open handles, stat says that it cannot count, who
     * that nothing is held there, and the other levels go on. */
    struct noria_participant who[4];
    struct noria_mpmc *ring;
    uint8_t bytes[LEN] = {0};

    (void)state;
    choose(PRIORITY);
    open_pair();
    assert_int_equal(noria_send_prio(ch.tx, bytes, LEN, 3, 0), 0);
    assert_int_equal(stat_of(ch.rx).messages, 1);
    ring = inside(ch.tx)->part.priority.rings[2].ring;
    ring->owners = 4;
    assert_int_equal(stat_of(ch.rx).messages, -1);
    assert_int_equal(stat_of(ch.rx).bytes, -1);
    assert_int_equal(noria_who(ch.address, who, 4), -EBADMSG);
    assert_int_equal(noria_recv(ch.rx, bytes, LEN, 0, NULL), LEN);
    ring->owners = ch.options.max_participants;
    assert_int_equal(stat_of(ch.rx).messages, 0);
    assert_int_equal(noria_who(ch.address, who, 4), 2);
}

/* ------------------------------------------------------------------------------------- what the dead held */

static void live_on(void)
{
    say();
    for (;;)
        pause();
}

/* Peeks one message: its sequence, and who we are. */
static void hold_one(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    struct noria_span span;
    struct noria_info info;

    PEER_REQUIRES(noria_peek(mine, &span, -1, &info) == 0);
    peers->numbers[0] = (int64_t)info.sequence;
    peers->numbers[1] = stat_of(mine).self;
    live_on();
}

/* A dead one is cleaned up after by whoever opens. */
static void open_and_close(void)
{
    noria_channel *newcomer = open_handle(0);

    assert_int_equal(noria_close(newcomer), 0);
}

static uint32_t held_by(uint32_t number)
{
    struct noria_participant who[8];
    int n = noria_who(ch.address, who, 8);

    for (int i = 0; i < n; i++)
        if (who[i].number == number)
            return who[i].held;
    fail_msg("participant %u is not there", number);
    return 0;
}

static void a_level_gets_back_what_the_dead_held(void **state)
{
    /* Claim: `who` counts what a participant holds at any level; when it is killed just while it takes a hint
     * back, the hint is there again with all others, and the message comes again, flagged, at its level. */
    struct noria_priority *shared;
    struct noria_info info;
    uint8_t bytes[LEN] = {0};
    pid_t peer;

    (void)state;
    choose(PRIORITY);
    open_pair();
    shared = inside(ch.tx)->part.priority.shared;
    assert_int_equal(noria_send_prio(ch.tx, bytes, LEN, 2, 0), 0);
    peer = start_peer(hold_one);
    await_peer();
    assert_int_equal(held_by((uint32_t)peers->numbers[1]), 1);
    assert_int_equal(held_by(stat_of(ch.rx).self), 0);
    noria_store_release64(&shared->hints, (uint64_t)peers->numbers[1] << 40 | UINT64_C(3) << 32);
    kill_peer(peer);
    open_and_close();
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    assert_int_equal(noria_load_acquire64(&shared->hints), 0xf);
    assert_int_equal(noria_recv(ch.rx, bytes, LEN, 0, &info), LEN);
    assert_int_equal(info.priority, 2);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    assert_true((int64_t)info.sequence == peers->numbers[0]);
}

static void nobody_is_given_up_over_a_corrupt_level(void **state)
{
    /* Claim: as long as one level cannot be looked into, a dead holder stays in the table, for he may hold
     * something there; then he goes, and his message comes again. */
    struct noria_mpmc *ring;
    uint8_t bytes[LEN] = {0};
    pid_t peer;

    (void)state;
    choose(PRIORITY);
    open_pair();
    assert_int_equal(noria_send_prio(ch.tx, bytes, LEN, 2, 0), 0);
    peer = start_peer(hold_one);
    await_peer();
    ring = inside(ch.tx)->part.priority.rings[1].ring;
    ring->owners = 4;
    kill_peer(peer);
    assert_fails(noria_recv(ch.rx, bytes, LEN, 150 * MS, NULL), ETIMEDOUT); /* who waits looks round */
    assert_int_equal(stat_of(ch.rx).deaths, 0);
    ring->owners = ch.options.max_participants;
    assert_int_equal(noria_recv(ch.rx, bytes, LEN, 30 * SECOND, NULL), LEN);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
}

static void a_dead_taker_of_hints_is_settled_for_itself(void **state)
{
    /* Claim: settling somebody ends his own taking back of a hint, and nobody else's. */
    struct noria_priority *shared;
    uint64_t others;
    uint8_t bytes[LEN] = {0};
    pid_t peer;

    (void)state;
    choose(PRIORITY);
    open_pair();
    shared = inside(ch.tx)->part.priority.shared;
    assert_int_equal(noria_send_prio(ch.tx, bytes, LEN, 0, 0), 0);
    peer = start_peer(hold_one);
    await_peer();
    others = (uint64_t)stat_of(ch.rx).self << 40 | UINT64_C(2) << 32;
    noria_store_release64(&shared->hints, others);
    kill_peer(peer);
    open_and_close();
    /* the newcomer, who left, settled himself, too */
    assert_int_equal(noria_load_acquire64(&shared->hints), others | 0xf);
}

/* ------------------------------------------------------------------------ the log of a dropped message */

/* The dead one had written this sequence into its log, and opened it. */
static void open_log(uint32_t number, uint64_t sequence)
{
    struct noria_entry *entry = &inside(ch.tx)->table[number - 1];

    noria_store_relaxed64(&entry->dropping, sequence);
    noria_store_release64(&entry->dropped, noria_load_relaxed64(&entry->dropped) | 1);
}

static pid_t let_one_hold(void)
{
    pid_t peer = start_peer(hold_one);

    await_peer();
    return peer;
}

/* Kills the holder of message 0, whose log says that it was dropping `sequence`, and cleans up. */
static void die_dropping(pid_t peer, uint64_t sequence)
{
    open_log((uint32_t)peers->numbers[1], sequence);
    kill_peer(peer);
    open_and_close();
    assert_int_equal(stat_of(ch.tx).deaths, 1);
    assert_int_equal(stat_of(ch.tx).lost, 1); /* told by the log, whatever else there is to do */
}

static void a_drop_is_finished_for_the_dead(void **state)
{
    /* Claim: who was killed after it logged that it drops the message it holds has dropped it: it is counted,
     * once, does not come again, and its slot is free. */
    (void)state;
    choose(OVERWRITE);
    open_pair();
    for (unsigned n = 0; n < 3; n++)
        send_numbered(n, LEN);
    die_dropping(let_one_hold(), 0);
    assert_int_equal(expect(1, LEN).lost, 1);
    assert_int_equal(expect(2, LEN).flags, 0);
    expect_nothing(EAGAIN);
    assert_int_equal(stat_of(ch.rx).redelivered, 0);
    assert_int_equal(stat_of(ch.rx).held, 0);
}

static void a_drop_that_was_done_is_only_counted(void **state)
{
    /* Claim: where the logged message's slot is free, or full again, or another one holds it, or the dead one
     * itself holds a later message in it, the log is counted and closed, and nobody's message goes with it:
     * what the dead one held comes again. */
    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        uint64_t slots;
        struct noria_span span;
        pid_t peer;
        choose(OVERWRITE);
        open_pair();
        slots = inside(ch.tx)->part.overwrite.queue.ring.mask + 1;
        for (unsigned n = 0; n < 3; n++)
            send_numbered(n, LEN);
        peer = let_one_hold();
        if (way == 2)
            assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
        die_dropping(peer, way == 0 ? slots - 1 : way == 3 ? slots : 1);
        assert_int_equal(stat_of(ch.rx).held, way == 2 ? 1 : 0);
        assert_int_equal(expect(0, LEN).flags, NORIA_REDELIVERED | NORIA_LOST);
        if (way == 2) {
            verify_message(span.data, 1, LEN);
            assert_int_equal(noria_release(ch.rx, &span), 0);
        } else {
            expect(1, LEN);
        }
        assert_int_equal(expect(2, LEN).flags, 0);
        expect_nothing(EAGAIN);
        close_all();
    }
}

static void a_log_that_is_not_ours_ends_the_send(void **state)
{
    /* Claim: a sender whose log somebody else has opened, having taken him for dead, does not drop beside it:
     * -EOWNERDEAD, and nothing is counted. */
    uint64_t *dropped;

    (void)state;
    choose(OVERWRITE);
    open_pair();
    for (unsigned n = 0; n < 8; n++)
        send_numbered(n, LEN);
    dropped = &inside(ch.tx)->table[stat_of(ch.tx).self - 1].dropped;
    noria_store_release64(dropped, 1);
    assert_fails(try_send(8, LEN), EOWNERDEAD);
    assert_int_equal(noria_load_acquire64(dropped), 1);
    assert_int_equal(stat_of(ch.rx).lost, 0);
}

static void a_length_that_cannot_be_is_dropped_all_the_same(void **state)
{
    /* Claim: an oldest message whose length is corrupt makes room like any other. */
    struct noria_mpmc_handle *ring;

    (void)state;
    choose(OVERWRITE);
    open_pair();
    for (unsigned n = 0; n < 8; n++)
        send_numbered(n, LEN);
    ring = &inside(ch.tx)->part.overwrite.queue.ring;
    noria_mpmc_slot_at(ring, 0)->length = 65;
    send_numbered(8, LEN);
    assert_int_equal(expect(1, LEN).lost, 1);
    for (unsigned n = 2; n < 9; n++)
        expect(n, LEN);
}

static void corrupt_slots_end_the_send(void **state)
{
    /* Claim: a full ring whose oldest slot is of a lap that cannot be is -EBADMSG to a send and to a
     * reservation that need room, not a wait. */
    struct noria_mpmc_handle *ring;
    struct noria_span span;

    (void)state;
    choose(OVERWRITE);
    open_pair();
    for (unsigned n = 0; n < 8; n++)
        send_numbered(n, LEN);
    ring = &inside(ch.tx)->part.overwrite.queue.ring;
    *noria_mpmc_state_at(ring, 0) -= UINT64_C(1) << NORIA_MPMC_LAP_SHIFT;
    send_numbered(8, LEN); /* in that one's stead */
    assert_fails(noria_reserve(ch.tx, LEN, &span, 0), EBADMSG);
    assert_fails(try_send(9, LEN), EBADMSG);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(batches_end_where_they_must),
        EVERYWHERE(a_side_is_ready_when_it_can_get_on),
        EVERYWHERE(a_shut_handle_does_nothing),
        EVERYWHERE(what_has_no_spans_says_so),
        EVERYWHERE(impossible_sizes_are_refused),
        EVERYWHERE(rings_that_contradict_the_channel_are_refused),
        EVERYWHERE(a_level_that_is_corrupt),
        EVERYWHERE(a_level_gets_back_what_the_dead_held),
        EVERYWHERE(nobody_is_given_up_over_a_corrupt_level),
        EVERYWHERE(a_dead_taker_of_hints_is_settled_for_itself),
        EVERYWHERE(a_drop_is_finished_for_the_dead),
        EVERYWHERE(a_drop_that_was_done_is_only_counted),
        EVERYWHERE(a_log_that_is_not_ours_ends_the_send),
        EVERYWHERE(a_length_that_cannot_be_is_dropped_all_the_same),
        EVERYWHERE(corrupt_slots_end_the_send),
    };

    return run_variants_with("kinds", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
