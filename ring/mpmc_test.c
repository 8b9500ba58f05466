/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit tests of the MPMC ring, one call after the other; mpmc_interleaving_test.c lets calls meet in the
 * middle. Each test states its claim in its first line; invariant() is asked after each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <noria/mpmc.h>

enum { OWNERS = 8, BUFFER = 4096 };

static struct noria_mpmc *ring;
static size_t ring_size;
static struct noria_mpmc_config geometry;
static struct noria_mpmc_handle handles[OWNERS + 1]; /* by owner */

static struct noria_mpmc_handle *const alice = &handles[1];
static struct noria_mpmc_handle *const bob = &handles[2];
static struct noria_mpmc_handle *const carol = &handles[3];
static struct noria_mpmc_handle *const dave = &handles[4];

static const struct noria_mpmc_config plain = {
    .capacity = 4, .slots = 8, .max_message = 64, .pack = 1, .owners = OWNERS, .max_held = 1};
static const struct noria_mpmc_config packing = {
    .capacity = 4, .slots = 8, .max_message = 64, .pack = 4, .owners = OWNERS, .max_held = 1};

static void check(void)
{
    assert_true(noria_mpmc_invariant(ring, ring_size));
}

static void make_ring(const struct noria_mpmc_config *config)
{
    geometry = *config;
    free(ring);
    ring_size = noria_mpmc_footprint(config);
    ring = aligned_alloc(NORIA_CACHE_LINE, (ring_size + 63) & ~(size_t)63);
    assert_non_null(ring);
    memset(ring, 0xa5, ring_size); /* format must not depend on zeroed memory */
    assert_int_equal(noria_mpmc_format(ring, ring_size, config), 0);
    for (uint32_t owner = 1; owner <= OWNERS && owner <= config->owners; owner++)
        assert_int_equal(noria_mpmc_join(&handles[owner], ring, ring_size, owner), 0);
    check();
}

static void make_plain_ring_at(uint64_t first_position)
{
    struct noria_mpmc_config config = plain;

    config.first_position = first_position;
    make_ring(&config);
}

static int setup(void **state)
{
    (void)state;
    make_ring(&plain);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(ring);
    ring = NULL;
    return 0;
}

static int send_number(struct noria_mpmc_handle *h, uint64_t number)
{
    int rc = noria_mpmc_send(h, &number, sizeof(number));

    check();
    return rc;
}

static struct noria_mpmc_record reserve(struct noria_mpmc_handle *h)
{
    struct noria_mpmc_record record = {0};

    assert_int_equal(noria_mpmc_reserve(h, &record), 0);
    assert_int_equal(record.len, geometry.max_message);
    assert_int_equal((uintptr_t)record.data & 7, 0);
    check();
    return record;
}

/* How many slots name this owner. */
static int held_by(uint32_t owner)
{
    uint64_t word = 0;
    int held = 0;

    for (uint64_t index = 0; noria_mpmc_find(dave, owner, &index, &word) == 1; index++)
        held++;
    return held;
}

static void commit_number(struct noria_mpmc_handle *h, struct noria_mpmc_record *record, uint64_t number)
{
    int held = held_by(h->owner);

    memcpy(record->data, &number, sizeof(number));
    assert_int_equal(noria_mpmc_commit(h, record, sizeof(number)), 0);
    assert_int_equal(held_by(h->owner), held - 1);
    check();
}

static uint64_t number_of(const struct noria_mpmc_record *record)
{
    uint64_t number;

    assert_int_equal(record->len, sizeof(number));
    memcpy(&number, record->data, sizeof(number));
    return number;
}

static struct noria_mpmc_record peek(struct noria_mpmc_handle *h)
{
    struct noria_mpmc_record record = {0};

    assert_int_equal(noria_mpmc_peek(h, &record), 0);
    check();
    return record;
}

static void release(struct noria_mpmc_handle *h, struct noria_mpmc_record *record)
{
    assert_int_equal(noria_mpmc_release(h, record), 0);
    check();
}

/* The next record is this number, and no redelivery. */
static void expect(struct noria_mpmc_handle *h, uint64_t number)
{
    struct noria_mpmc_record record = peek(h);

    assert_int_equal(number_of(&record), number);
    assert_int_equal(record.flags, 0);
    release(h, &record);
}

static void expect_again(struct noria_mpmc_handle *h, uint64_t number)
{
    struct noria_mpmc_record record = peek(h);

    assert_int_equal(number_of(&record), number);
    assert_int_equal(record.flags, NORIA_MPMC_REDELIVERED);
    release(h, &record);
}

static void expect_empty(struct noria_mpmc_handle *h)
{
    struct noria_mpmc_record record = {0};

    assert_int_equal(noria_mpmc_peek(h, &record), -EAGAIN);
    check();
}

/* Settles every slot that names `owner`, as somebody who knows that it is dead. How many there were. */
static int bury(uint32_t owner)
{
    uint64_t index = 0, word = 0;
    int settled = 0;

    while (noria_mpmc_find(dave, owner, &index, &word) == 1) {
        assert_int_equal(noria_mpmc_settle(dave, index, word), 1);
        check();
        settled++;
    }
    return settled;
}

static void expect_capacity(struct noria_mpmc_handle *sender, struct noria_mpmc_handle *receiver)
{
    for (uint64_t i = 0; i < geometry.capacity; i++)
        assert_int_equal(send_number(sender, i), 0);
    assert_int_equal(send_number(sender, 999), -EAGAIN);
    for (uint64_t i = 0; i < geometry.capacity; i++)
        expect(receiver, i);
    expect_empty(receiver);
}

/* Lets the wheel turn: n records through the ring, one by one. */
static void turn(struct noria_mpmc_handle *sender, struct noria_mpmc_handle *receiver, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(send_number(sender, i), 0);
        expect(receiver, i);
    }
}

/* --------------------------------------------------------------------------------------------- geometry */

static void bad_configuration_has_no_footprint(void **state)
{
    /* Claim: each single value out of range makes footprint 0 and format -EINVAL; the edges are inside. */
    static const struct noria_mpmc_config bad[] = {
        {0, 8, 0, 8, 1, 1, 1},
        {NORIA_MPMC_MAX_SLOTS + 1, 0, 0, 8, 1, 1, 1},
        {NORIA_MPMC_MAX_SLOTS, 0, 0, 8, 1, 1, 1}, /* no room for the absent */
        {4, 0, 0, 8, 1, 0, 1},
        {4, 0, 0, 8, 1, 65536, 1},
        {4, 0, 0, 8, 0, 1, 1},
        {4, 0, 0, 8, 65536, 1, 1},
        {4, 0, 0, NORIA_MPMC_MAX_MESSAGE + 1, 1, 1, 1},
        {4, 0, 0, NORIA_MPMC_MAX_MESSAGE, 1, 1, 1}, /* with its header the slot is too large */
        {4, 0, 0, NORIA_MPMC_MAX_MESSAGE / 4, 8, 1, 1},
        {4, 4, 0, 8, 1, 1, 1},
        {4, 12, 0, 8, 1, 1, 1},
        {9, 8, 0, 8, 1, 1, 1},
        {4, NORIA_MPMC_MAX_SLOTS * 2, 0, 8, 1, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(noria_mpmc_footprint(&bad[i]), 0);
        assert_int_equal(noria_mpmc_format(ring, SIZE_MAX, &bad[i]), -EINVAL);
    }
}

static void slots_leave_room_for_the_absent(void **state)
{
    /* Claim: derived slots are the next power of two of capacity + owners * (max_held + 2); a slot of 8 bytes
     * is 32. */
    struct noria_mpmc_config config = {
        .capacity = 16, .max_message = 8, .pack = 1, .owners = 4, .max_held = 2};

    (void)state;
    assert_int_equal(noria_mpmc_slots(&config), 32);
    config.capacity = 17;
    assert_int_equal(noria_mpmc_slots(&config), 64);
    config.capacity = 1;
    config.owners = 1;
    assert_int_equal(noria_mpmc_slots(&config), 8);
    assert_int_equal(noria_mpmc_footprint(&config), sizeof(struct noria_mpmc) + 8 * 32);
    config.max_message = 9;
    assert_int_equal(noria_mpmc_footprint(&config), sizeof(struct noria_mpmc) + 8 * 64);
    config.max_message = 0;
    assert_int_equal(noria_mpmc_footprint(&config), sizeof(struct noria_mpmc) + 8 * 32);
}

static void format_checks_its_memory(void **state)
{
    /* Claim: format refuses memory that is too small or not aligned to a line. */
    uint8_t *memory = aligned_alloc(NORIA_CACHE_LINE, 4096);
    size_t need = noria_mpmc_footprint(&plain);

    (void)state;
    assert_non_null(memory);
    assert_int_equal(noria_mpmc_format(memory, need - 1, &plain), -EINVAL);
    assert_int_equal(noria_mpmc_format(memory + 8, need, &plain), -EINVAL);
    assert_int_equal(noria_mpmc_format(memory, need, &plain), 0);
    free(memory);
}

static void join_checks_memory_and_owner(void **state)
{
    /* Claim: join refuses owners outside the table and memory whose first line cannot be; nothing else is
     * read. */
    struct noria_mpmc_handle h;
    struct noria_mpmc kept = *ring;

    (void)state;
    assert_int_equal(noria_mpmc_join(&h, ring, ring_size, 0), -EINVAL);
    assert_int_equal(noria_mpmc_join(&h, ring, ring_size, OWNERS + 1), -EINVAL);
    assert_int_equal(noria_mpmc_join(&h, ring, sizeof(struct noria_mpmc) - 1, 1), -EBADMSG);
    assert_int_equal(noria_mpmc_join(&h, ring, ring_size - 1, 1), -EBADMSG);
    assert_int_equal(noria_mpmc_join(&h, (uint8_t *)ring + 8, ring_size - 8, 1), -EBADMSG);
    assert_false(noria_mpmc_invariant(ring, ring_size - 1));
#define REFUSES(field, value)                                            \
    ring->field = (value);                                               \
    assert_int_equal(noria_mpmc_join(&h, ring, ring_size, 1), -EBADMSG); \
    *ring = kept
    REFUSES(magic, 0);
    REFUSES(slots, 0);
    REFUSES(slots, 7);
    REFUSES(slots, 16);
    REFUSES(slots, UINT64_MAX);
    REFUSES(capacity, 0);
    REFUSES(capacity, 9);
    REFUSES(max_message, 1000);
    REFUSES(max_message, UINT32_MAX);
    REFUSES(pack, 0);
    REFUSES(pack, 100);
    REFUSES(owners, 0);
    REFUSES(owners, 65536);
#undef REFUSES
    assert_int_equal(noria_mpmc_join(&h, ring, ring_size, OWNERS), 0);
}

/* ------------------------------------------------------------------------------------------ FIFO, wraps */

static void numbers_come_out_as_they_went_in(void **state)
{
    /* Claim: strict FIFO over many laps, from positions below 2^32, 2^64 and where 45-bit laps of 8 slots
     * wrap. */
    static const uint64_t starts[] = {0, 5, (UINT64_C(1) << 32) - 3, UINT64_MAX - 20,
                                      (UINT64_C(1) << 48) - 11};

    (void)state;
    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        uint64_t in = 0, out = 0;
        make_plain_ring_at(starts[s]);
        while (out < 300) {
            for (uint64_t i = 0; i <= out % 5; i++)
                if (send_number(&handles[1 + in % 3], in) == 0)
                    in++;
            while (out < in - out % 2)
                expect(&handles[4 + out % 3], out), out++;
        }
        while (out < in)
            expect(bob, out++);
        expect_empty(bob);
        expect_capacity(alice, bob);
    }
}

static void narrow_laps_of_large_rings_wrap(void **state)
{
    /* Claim: a ring of 2^20 slots, whose laps have 44 bits, passes the wrap of positions and laps. */
    struct noria_mpmc_config config = {.capacity = 1000,
                                       .slots = UINT64_C(1) << 20,
                                       .max_message = 8,
                                       .pack = 1,
                                       .owners = OWNERS,
                                       .max_held = 1};
    struct noria_mpmc_record stopped;

    (void)state;
    config.first_position = UINT64_MAX - 20;
    make_ring(&config);
    stopped = reserve(carol);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(noria_mpmc_send(alice, &i, sizeof(i)), 0);
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t number;
        size_t len;
        assert_int_equal(noria_mpmc_recv(bob, &number, sizeof(number), &len), 0);
        assert_int_equal(number, i);
    }
    check();
    commit_number(carol, &stopped, 77);
    assert_int_equal(stopped.sequence, 20);
    expect(bob, 77);
    stopped = reserve(carol);
    for (uint64_t i = 0; i < config.slots + 100;
         i++) { /* until the words of the last lap meet those of lap 0 */
        uint64_t number = 0;
        size_t len = 0;
        assert_int_equal(noria_mpmc_send(alice, &i, sizeof(i)), 0);
        assert_int_equal(noria_mpmc_recv(bob, &number, sizeof(number), &len), 0);
        assert_int_equal(number, i);
    }
    commit_number(carol, &stopped, 78);
    expect(bob, 78);
    expect_empty(bob);
    assert_true(ring->write_pos < 2 * config.slots);
}

static void capacity_is_exact(void **state)
{
    /* Claim: a ring takes exactly `capacity` records, at every place of the wheel and whatever its slots. */
    (void)state;
    for (uint64_t capacity = 1; capacity <= 8; capacity++) {
        struct noria_mpmc_config config = plain;
        config.capacity = capacity;
        make_ring(&config);
        for (int i = 0; i < 20; i++) {
            expect_capacity(&handles[1 + i % 3], &handles[4 + i % 2]);
            turn(alice, bob, 1);
        }
    }
}

static void stopped_owners_do_not_take_capacity(void **state)
{
    /* Claim: with all others stopped, holding all they may, at any place of the wheel, two still have
     * `capacity`. */
    (void)state;
    for (uint32_t held = 0; held <= 2; held++)
        for (uint64_t offset = 0; offset < 16; offset++) {
            struct noria_mpmc_config config = plain;
            config.slots = 0;
            config.capacity = 5;
            config.max_held = held;
            make_ring(&config);
            turn(alice, bob, offset);
            for (uint32_t owner = 3; owner <= OWNERS; owner++) {
                for (uint32_t i = 0; i < held; i++) {
                    assert_int_equal(send_number(alice, 1), 0);
                    (void)peek(&handles[owner]);
                }
                (void)reserve(&handles[owner]);
                turn(alice, bob, offset % 3);
            }
            for (int lap = 0; lap < 5; lap++)
                expect_capacity(alice, bob);
            for (uint32_t owner = 3; owner <= OWNERS; owner++)
                assert_int_equal(bury(owner), held + 1);
            for (uint32_t i = 0; i < held * (OWNERS - 2); i++)
                expect_again(bob, 1);
            expect_capacity(alice, bob);
        }
}

static void late_hints_do_no_harm(void **state)
{
    /* Claim: a handle that slept for many laps finds the first record and the first room, over the hint. */
    (void)state;
    make_plain_ring_at((UINT64_C(1) << 48) - 64);
    for (uint64_t asleep = 1; asleep < 200; asleep += 7) {
        turn(alice, bob, asleep);
        assert_int_equal(send_number(carol, asleep), 0);
        expect(carol, asleep);
        assert_false(noria_mpmc_before(handles[3].write_guess, ring->write_pos));
    }
    expect_empty(bob);
    assert_true((int64_t)(alice->write_guess - ring->write_pos) < 2 * NORIA_MPMC_HINT_LAG);
}

/* ------------------------------------------------------------------------ copies, lengths, held records */

static void copying_calls_move_bytes(void **state)
{
    /* Claim: send and recv copy records of 0..max_message bytes; longer ones are -EMSGSIZE and nothing is
     * sent. */
    uint8_t in[65], out[65];
    size_t len = 77;

    (void)state;
    assert_int_equal(noria_mpmc_recv(bob, out, sizeof(out), &len), -EAGAIN);
    assert_int_equal(len, 77);
    for (size_t size = 0; size <= 64; size++) {
        memset(in, (int)size, sizeof(in));
        memset(out, 255, sizeof(out));
        assert_int_equal(noria_mpmc_send(alice, in, size), 0);
        check();
        assert_int_equal(noria_mpmc_recv(bob, out, sizeof(out), &len), 0);
        assert_int_equal(len, size);
        assert_memory_equal(in, out, size);
        assert_int_equal(out[size], 255);
        check();
    }
    assert_int_equal(noria_mpmc_send(alice, in, 65), -EMSGSIZE);
    expect_empty(bob);
}

static void too_long_for_the_buffer_stays_first(void **state)
{
    /* Claim: a record longer than the buffer is -EMSGSIZE with its length, stays first, and nothing passes
     * it. */
    char buffer[64];
    size_t len = 0;

    (void)state;
    assert_int_equal(noria_mpmc_send(alice, "twelve bytes", 12), 0);
    assert_int_equal(noria_mpmc_send(alice, "next", 4), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(noria_mpmc_recv(&handles[2 + i], buffer, 11, &len), -EMSGSIZE);
        assert_int_equal(len, 12);
        check();
    }
    assert_int_equal(noria_mpmc_recv(bob, buffer, 12, &len), 0);
    assert_memory_equal(buffer, "twelve bytes", 12);
    assert_int_equal(noria_mpmc_recv(bob, buffer, 4, &len), 0);
    assert_int_equal(len, 4);
}

static void records_tell_who_and_when(void **state)
{
    /* Claim: sender and sequence of a record are the committing owner and the position; commit bounds the
     * length. */
    struct noria_mpmc_record record;

    (void)state;
    for (uint32_t owner = 1; owner <= OWNERS; owner++) {
        record = reserve(&handles[owner]);
        assert_int_equal(noria_mpmc_commit(&handles[owner], &record, geometry.max_message + 1), -EINVAL);
        commit_number(&handles[owner], &record, 5);
        assert_int_equal(record.sequence, owner - 1);
        record = peek(bob);
        assert_int_equal(record.sender, owner);
        assert_int_equal(record.sequence, owner - 1);
        assert_int_equal(record.count, 1);
        release(bob, &record);
        assert_int_equal(noria_mpmc_release(bob, &record), -EOWNERDEAD); /* twice: no longer mine */
    }
}

static void releases_come_in_any_order(void **state)
{
    /* Claim: held records may be released in any order, and make room one by one wherever they stand. */
    struct noria_mpmc_record held[4] = {{0}};

    (void)state;
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(send_number(alice, i), 0);
    for (int i = 0; i < 4; i++)
        held[i] = peek(bob);
    expect_capacity(alice, carol);
    release(bob, &held[2]);
    release(bob, &held[0]);
    expect_capacity(alice, carol);
    release(bob, &held[3]);
    release(bob, &held[1]);
    expect_capacity(alice, carol);
}

static void aborted_reservations_leave_nothing(void **state)
{
    /* Claim: an aborted reservation is never delivered, others pass it, and its slot serves again. */
    struct noria_mpmc_record record;

    (void)state;
    for (uint64_t i = 0; i < 50; i++) {
        record = reserve(alice);
        assert_int_equal(send_number(carol, i), 0);
        assert_int_equal(noria_mpmc_abort(alice, &record), 0);
        check();
        expect(bob, i);
        assert_int_equal(noria_mpmc_abort(alice, &record), -EOWNERDEAD);
        assert_int_equal(noria_mpmc_commit(alice, &record, 0), -EOWNERDEAD);
    }
    expect_capacity(alice, bob);
}

static void waiting_ends(void **state)
{
    /* Claim: the back-off of both sides grows with a stream of records, as far as more and more come, and returns. */
    (void)state;
    for (int i = 0; i < 10; i++) {
        for (int lap = 0; lap < NORIA_MPMC_BACKOFF / 8 + 2; lap++)
            expect_capacity(alice, bob);
        noria_mpmc_wait(alice, NORIA_MPMC_SENDER);
        noria_mpmc_wait(bob, NORIA_MPMC_RECEIVER);
    }
    assert_int_equal(alice->send_backoff.pauses, NORIA_MPMC_BACKOFF);
    assert_int_equal(bob->recv_backoff.pauses, NORIA_MPMC_BACKOFF);
}

/* -------------------------------------------------------------------------- stopped writers and readers */

static void receivers_step_over_a_stopped_writer(void **state)
{
    /* Claim: records behind a stopped writer come out; it is marked late, and later commits behind what was
     * there. */
    for (uint64_t start = (UINT64_C(1) << 48) - 16; start != (UINT64_C(1) << 48) + 2; start++) {
        struct noria_mpmc_record stopped, moved;
        make_plain_ring_at(start);
        stopped = reserve(carol);
        expect_empty(bob); /* nothing committed: nobody is stepped over */
        assert_int_equal(noria_mpmc_slot_at(carol, start)->state & NORIA_MPMC_LATE, 0);
        for (uint64_t i = 0; i < 3; i++)
            assert_int_equal(send_number(alice, i), 0);
        expect(bob, 0);
        assert_int_equal(noria_mpmc_slot_at(carol, start)->state & NORIA_MPMC_LATE, NORIA_MPMC_LATE);
        assert_int_equal(bob->in_the_way & ~NORIA_MPMC_LATE, bob->in_the_way);
        assert_int_equal(NORIA_MPMC_OWNER(bob->in_the_way), 3);
        commit_number(carol, &stopped, 3);
        assert_int_equal(stopped.sequence, start + 4);
        for (uint64_t i = 1; i < 3; i++)
            expect(bob, i);
        moved = peek(bob);
        assert_int_equal(number_of(&moved), 3);
        assert_int_equal(moved.sender, 3);
        release(bob, &moved);
        expect_empty(bob);
        expect_capacity(alice, bob);
    }
    (void)state;
}

static void stopped_writer_may_sleep_for_laps(void **state)
{
    /* Claim: a writer stepped over in many laps commits once, and no record in front or behind changes its
     * order. */
    (void)state;
    for (uint64_t asleep = 0; asleep < 40; asleep++)
        for (uint64_t waiting = 0; waiting <= 3; waiting++) {
            struct noria_mpmc_record stopped, record;
            uint64_t next = 0, position = 0, last = 0;
            make_plain_ring_at((UINT64_C(1) << 48) - 20);
            stopped = reserve(carol);
            turn(alice, bob, asleep);
            for (uint64_t i = 0; i < waiting; i++)
                assert_int_equal(send_number(alice, i), 0);
            commit_number(carol, &stopped, 100);
            for (uint64_t i = 0; i <= waiting; i++) {
                record = peek(bob);
                if (number_of(&record) == 100)
                    position = i + 1;
                else
                    assert_int_equal(number_of(&record), next++);
                assert_true(i == 0 || noria_mpmc_before(last, record.sequence));
                last = record.sequence;
                release(bob, &record);
            }
            assert_int_equal(next, waiting);
            assert_int_not_equal(position, 0);
            assert_true(asleep != 0 ||
                        position == 1); /* never stepped over: it keeps its place at the front */
            expect_empty(bob);
            expect_capacity(alice, bob);
        }
}

static void late_commit_stays_where_no_place_is_free(void **state)
{
    /* Claim: with every position up to its own claimed, a late writer commits in place, and is not called
     * full. */
    struct noria_mpmc_config config = plain;
    struct noria_mpmc_record stopped;

    (void)state;
    config.capacity = 8;
    make_ring(&config);
    stopped = reserve(carol);
    for (uint64_t i = 1; i < 8; i++)
        assert_int_equal(send_number(alice, i), 0);
    expect(bob, 1);                             /* steps over position 0: carol's word now names position 8 */
    assert_int_equal(send_number(alice, 9), 0); /* at position 9; 10 is FULL(lap - 1) */
    commit_number(carol, &stopped, 8);
    assert_int_equal(stopped.sequence, 8);
    for (uint64_t i = 2; i < 10; i++)
        expect(bob, i);
    expect_empty(bob);
}

static void late_commit_walks_past_readers(void **state)
{
    /* Claim: a late writer between readers that block every other slot commits in place: its own slot is
     * room. */
    struct noria_mpmc_config config = plain;
    struct noria_mpmc_record stopped, held;

    (void)state;
    config.capacity = 8;
    make_ring(&config);
    turn(alice, bob, 2); /* positions 0 and 1 */
    for (uint64_t i = 2; i < 8; i++) {
        assert_int_equal(send_number(alice, i), 0);
        held = peek(bob);
    }
    stopped = reserve(carol);                   /* 8 */
    assert_int_equal(send_number(alice, 9), 0); /* 9 */
    held = peek(bob); /* over 8: carol's word names 16, and 10 .. 15 are bob's readings */
    assert_int_equal(number_of(&held), 9);
    commit_number(carol, &stopped, 16);
    assert_int_equal(stopped.sequence, 16);
    expect(dave, 16);
    expect_empty(dave);
    assert_int_equal(bury(2), 7);
}

static void senders_step_over_stopped_writers(void **state)
{
    /* Claim: a sender that meets a writer of the lap before walks on if there is room; the writer commits in
     * order. */
    struct noria_mpmc_record stopped, given_up;

    (void)state;
    stopped = reserve(carol); /* position 0 */
    for (int i = 1; i < 8; i++) {
        given_up = reserve(alice);
        assert_int_equal(noria_mpmc_abort(alice, &given_up), 0);
        check();
    }
    assert_int_equal(send_number(alice, 1), 0); /* position 9: over 8, which is carol's now */
    assert_int_equal(NORIA_MPMC_OWNER(alice->in_the_way), 3);
    commit_number(carol, &stopped, 0);
    assert_int_equal(stopped.sequence, 8);
    expect(bob, 0);
    expect(bob, 1);
    expect_empty(bob);
    expect_capacity(alice, bob);
}

static void any_number_of_stopped_owners_is_stepped_over(void **state)
{
    /* Claim: one call passes however many stopped writers or readers stand in a row, if there is something beyond. */
    enum { MANY = 200 };
    struct noria_mpmc_config config = {.capacity = 4, .slots = 512, .max_message = 8, .pack = 1, .owners = MANY + 2};
    struct noria_mpmc_handle *many = calloc(MANY + 1, sizeof(*many));
    struct noria_mpmc_record record = {0};

    (void)state;
    assert_non_null(many);
    make_ring(&config);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(noria_mpmc_join(&many[i], ring, ring_size, i + 3), 0);
        assert_int_equal(noria_mpmc_reserve(&many[i], &record), 0);
    }
    assert_int_equal(send_number(alice, 1), 0);
    expect(bob, 1);
    for (uint32_t i = 0; i < MANY; i++) { /* and they are readers now, all in a row */
        assert_int_equal(bury(i + 3), 1);
        assert_int_equal(send_number(alice, 2), 0);
        assert_int_equal(noria_mpmc_peek(&many[i], &record), 0);
    }
    turn(alice, bob, 2 * config.slots);
    free(many);
}

static void stopped_writers_all_round_are_full(void **state)
{
    /* Claim: with a writer in each slot there is no room and no record: -EAGAIN on both sides, nobody stepped
     * over. */
    struct noria_mpmc_record stopped[8] = {{0}};
    struct noria_mpmc_record record;

    (void)state;
    for (int i = 0; i < 8; i++)
        stopped[i] = reserve(&handles[1 + i % 4]);
    assert_int_equal(noria_mpmc_reserve(&handles[5], &record), -EAGAIN);
    expect_empty(&handles[6]);
    check();
    for (int i = 7; i >= 0; i--)
        commit_number(&handles[1 + i % 4], &stopped[i], (uint64_t)i);
    for (uint64_t i = 0; i < 8; i++)
        expect(bob, i);
}

static void senders_step_over_stopped_readers(void **state)
{
    /* Claim: a slot whose reader stopped is passed while there is room, for laps; its release makes it serve
     * again. */
    (void)state;
    for (uint64_t start = (UINT64_C(1) << 48) - 12; start != (UINT64_C(1) << 48) + 2; start++) {
        struct noria_mpmc_record stopped;
        make_plain_ring_at(start);
        assert_int_equal(send_number(alice, 42), 0);
        stopped = peek(carol);
        turn(alice, bob, 40);
        expect_capacity(alice, bob);
        assert_int_equal(number_of(&stopped), 42);
        release(carol, &stopped);
        expect_capacity(alice, bob);
    }
}

static void readers_all_round_are_full(void **state)
{
    /* Claim: with a reader in each slot a sender gets -EAGAIN and steps over nobody, and one release is room
     * for one. */
    struct noria_mpmc_config config = plain;
    struct noria_mpmc_record held[8] = {{0}};

    (void)state;
    config.capacity = 8;
    make_ring(&config);
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(send_number(alice, i), 0);
    for (int i = 0; i < 8; i++)
        held[i] = peek(bob);
    for (int i = 0; i < 100; i++)
        assert_int_equal(send_number(alice, 1), -EAGAIN);
    for (int i = 0; i < 8; i++)
        assert_int_equal(noria_mpmc_ahead(bob, noria_mpmc_slot_at(bob, held[i].position)->state, 0), 1);
    release(bob, &held[5]);
    assert_int_equal(send_number(alice, 1), 0);
    assert_int_equal(send_number(alice, 2), -EAGAIN);
    expect(carol, 1);
}

/* -------------------------------------------------------------------------------------- death, settling */

static void dead_writer_leaves_a_free_slot(void **state)
{
    /* Claim: a settled writer's record is gone, its slot serves again, and waking up it learns -EOWNERDEAD.
     */
    (void)state;
    for (uint64_t asleep = 0; asleep < 20; asleep++) {
        struct noria_mpmc_record dead;
        make_ring(&plain);
        dead = reserve(carol);
        turn(alice, bob, asleep);
        assert_int_equal(bury(3), 1);
        assert_int_equal(bury(3), 0);
        expect_empty(bob);
        expect_capacity(alice, bob);
        assert_int_equal(noria_mpmc_commit(carol, &dead, 8), -EOWNERDEAD);
        assert_int_equal(noria_mpmc_abort(carol, &dead), -EOWNERDEAD);
        check();
        expect_capacity(alice, bob);
    }
}

static void dead_readers_record_is_adopted(void **state)
{
    /* Claim: what a dead reader held comes first, flagged, with sender and sequence as before; again and
     * again. */
    struct noria_mpmc_record first, again;

    (void)state;
    turn(alice, bob, 5);
    assert_int_equal(send_number(alice, 1), 0);
    assert_int_equal(send_number(alice, 2), 0);
    first = peek(carol);
    turn(alice, bob, 0);
    assert_int_equal(bury(3), 1);
    for (uint32_t owner = 5; owner <= OWNERS; owner++) { /* each adopter dies too */
        again = peek(&handles[owner]);
        assert_int_equal(number_of(&again), 1);
        assert_int_equal(again.flags, NORIA_MPMC_REDELIVERED);
        assert_int_equal(again.sequence, first.sequence);
        assert_int_equal(again.sender, 1);
        assert_int_equal(noria_mpmc_release(carol, &first), -EOWNERDEAD);
        check();
        assert_int_equal(bury(owner), 1);
    }
    expect_again(bob, 1);
    expect(bob, 2);
    expect_empty(bob);
    expect_capacity(alice, bob);
}

static void orphans_survive_laps(void **state)
{
    /* Claim: orphans that nobody asked for stand while the wheel turns, and every one of them is delivered
     * once. */
    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(send_number(alice, i), 0);
    for (int i = 0; i < 3; i++)
        (void)peek(carol);
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(send_number(alice, i), i < 4 ? 0 : -EAGAIN);
    assert_int_equal(bury(3), 3);
    for (uint64_t i = 0; i < 3; i++)
        expect_again(bob, i);
    for (uint64_t i = 0; i < 4; i++)
        expect(bob, i);
    expect_empty(bob);
    expect_empty(alice);
}

static void orphan_too_long_stays_first(void **state)
{
    /* Claim: an orphan longer than the buffer is -EMSGSIZE and stays an orphan for a larger one. */
    char buffer[64];
    size_t len = 0;

    (void)state;
    assert_int_equal(noria_mpmc_send(alice, "twelve bytes", 12), 0);
    (void)peek(carol);
    assert_int_equal(bury(3), 1);
    assert_int_equal(noria_mpmc_recv(bob, buffer, 11, &len), -EMSGSIZE);
    assert_int_equal(len, 12);
    check();
    assert_int_equal(noria_mpmc_recv(bob, buffer, 12, &len), 0);
    assert_memory_equal(buffer, "twelve bytes", 12);
    assert_int_equal(noria_mpmc_recv(bob, buffer, 12, &len), -EAGAIN);
}

static void settle_needs_the_exact_word(void **state)
{
    /* Claim: each word is settled once; stale words and words without an owner are 0 and change nothing. */
    struct noria_mpmc_record record;
    uint64_t index = 0, word = 0, stale;

    (void)state;
    assert_int_equal(noria_mpmc_find(dave, 3, &index, &word), 0);
    assert_int_equal(index, 8);
    record = reserve(carol);
    index = 0;
    assert_int_equal(noria_mpmc_find(dave, 3, &index, &word), 1);
    assert_int_equal(NORIA_MPMC_OWNER(word), 3);
    stale = word;
    assert_int_equal(noria_mpmc_settle(dave, index, word), 1);
    assert_int_equal(noria_mpmc_settle(dave, index, word), 0);
    assert_int_equal(noria_mpmc_settle(dave, index, noria_mpmc_slot_at(dave, 0)->state), 0); /* EMPTY */
    assert_int_equal(noria_mpmc_settle(dave, index, 1000 | NORIA_MPMC_FULL), 0);
    assert_int_equal(noria_mpmc_settle(dave, index, NORIA_MPMC_READING), 0); /* an orphan: to be adopted */
    turn(alice, bob, 7);
    record = reserve(carol); /* the same slot and owner, another life */
    assert_int_equal(record.position & 7, 0);
    assert_int_equal(noria_mpmc_settle(dave, index, stale), 0);
    check();
    commit_number(carol, &record, 1);
    expect(bob, 1);
}

static void dropping_is_settling_without_redelivery(void **state)
{
    /* Claim: discard frees slots of dead writers, dead readers and orphans; nothing comes again; it is exact,
     * too. */
    uint64_t index = 0, word = 0;

    (void)state;
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(send_number(alice, i), 0);
        (void)peek(carol);
    }
    (void)reserve(carol);
    assert_int_equal(noria_mpmc_find(dave, 3, &index, &word), 1);
    assert_int_equal(noria_mpmc_settle(dave, index, word), 1); /* one is made an orphan first */
    assert_int_equal(noria_mpmc_find(dave, 0, &index, &word), 1);
    assert_int_equal(noria_mpmc_discard(dave, index, word), 1);
    assert_int_equal(noria_mpmc_discard(dave, index, word), 0);
    check();
    index = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(noria_mpmc_find(dave, 3, &index, &word), 1);
        assert_int_equal(noria_mpmc_discard(dave, index, word), 1);
        check();
    }
    assert_int_equal(noria_mpmc_discard(dave, 0, noria_mpmc_slot_at(dave, 0)->state), 0); /* EMPTY */
    expect_empty(bob);
    expect_capacity(alice, bob);
}

static void announcement_makes_all_look_again(void **state)
{
    /* Claim: an orphan whose settler died before announcing it is found after the next announcement. */
    uint64_t index = 0, word = 0;

    (void)state;
    assert_int_equal(send_number(alice, 1), 0);
    (void)peek(carol);
    expect_empty(bob);
    assert_int_equal(noria_mpmc_find(dave, 3, &index, &word), 1);
    noria_mpmc_slot_at(dave, index)->state = noria_mpmc_become(dave, word, 1, NORIA_MPMC_READING, 0);
    check();
    noria_mpmc_announce(dave);
    expect_again(bob, 1);
}

static void count_tells_what_is_there(void **state)
{
    /* Claim: the census counts committed records and bytes, writers, readers and orphans. */
    struct noria_mpmc_census census;

    (void)state;
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(send_number(alice, i), 0);
    (void)peek(carol);
    (void)peek(bob);
    (void)reserve(bob);
    assert_int_equal(bury(3), 1);
    noria_mpmc_count(dave, &census);
    assert_int_equal(census.full, 2);
    assert_int_equal(census.bytes, 16);
    assert_int_equal(census.reading, 2);
    assert_int_equal(census.orphans, 1);
    assert_int_equal(census.writing, 1);
}

/* ----------------------------------------------------------------------------------------------- groups */

static uint8_t group_buffers[16][64];

/* n vectors of lengths 1, 2, 3 … whose bytes tell their number. */
static void fill_vectors(struct iovec *vectors, int n, unsigned first)
{
    for (int i = 0; i < n; i++) {
        vectors[i].iov_base = group_buffers[i];
        vectors[i].iov_len = (first + (unsigned)i) % 64 + 1;
        memset(group_buffers[i], (int)(first + (unsigned)i), vectors[i].iov_len);
    }
}

static void expect_vector(const struct noria_mpmc_record *record, unsigned number)
{
    assert_int_equal(record->len, number % 64 + 1);
    for (size_t i = 0; i < record->len; i++)
        assert_int_equal(((const uint8_t *)record->data)[i], number & 0xff);
}

static void batches_move_whole(void **state)
{
    /* Claim: send_many and recv_many move any batch in order, packed or not, mixed with single calls. */
    static const struct noria_mpmc_config *const configs[] = {&plain, &packing};

    (void)state;
    for (int c = 0; c < 2; c++) {
        unsigned in = 0, out = 0;
        make_ring(configs[c]);
        while (out < 500) {
            struct iovec vectors[16];
            int n = (int)(in % 7) + 1, rc;
            fill_vectors(vectors, n, in);
            rc = in % 5 == 0 ? noria_mpmc_send(alice, vectors[0].iov_base, vectors[0].iov_len)
                             : noria_mpmc_send_many(alice, vectors, n);
            check();
            in += rc > 0 ? (unsigned)rc : rc == 0;
            if (rc >= 0 && in % 3 != 0)
                continue;
            for (int i = 0; i < 16; i++) {
                vectors[i].iov_base = group_buffers[i];
                vectors[i].iov_len = 64;
            }
            rc = noria_mpmc_recv_many(bob, vectors, (int)(out % 16) + 1);
            check();
            for (int i = 0; i < rc; i++) {
                struct noria_mpmc_record seen = {.data = vectors[i].iov_base, .len = vectors[i].iov_len};
                expect_vector(&seen, out++);
            }
        }
    }
}

static void batches_stop_at_what_does_not_fit(void **state)
{
    /* Claim: send_many says how many went in before a full ring or a long record; for the first one it says
     * why. */
    struct iovec vectors[16];

    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        struct noria_mpmc_record record;
        make_ring(packed ? &packing : &plain);
        fill_vectors(vectors, 16, 0);
        vectors[2].iov_len = 65;
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 16), 2);
        assert_int_equal(noria_mpmc_send_many(alice, vectors + 2, 14), -EMSGSIZE);
        fill_vectors(vectors, 16, 2);
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 16), packed ? 12 : 2);
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 16), -EAGAIN);
        check();
        for (unsigned i = 0; i < (packed ? 14 : 4); i++) {
            record = peek(bob);
            expect_vector(&record, i);
            release(bob, &record);
        }
        expect_empty(bob);
        assert_int_equal(noria_mpmc_recv_many(bob, vectors, 16), -EAGAIN);
    }
}

static void group_is_released_in_its_order(void **state)
{
    /* Claim: records of a group are released first to last, -EINVAL otherwise; then the slot is free. */
    struct noria_mpmc_record records[4] = {{0}};
    struct iovec vectors[4];

    (void)state;
    make_ring(&packing);
    fill_vectors(vectors, 4, 0);
    assert_int_equal(noria_mpmc_send_many(alice, vectors, 4), 4);
    for (unsigned i = 0; i < 4; i++) {
        records[i] = peek(bob);
        expect_vector(&records[i], i);
        assert_int_equal(records[i].index, i);
        assert_int_equal(records[i].count, 4);
        assert_int_equal(records[i].sender, 1);
    }
    expect_empty(carol);
    assert_int_equal(noria_mpmc_release(bob, &records[1]), -EINVAL);
    assert_int_equal(noria_mpmc_release(bob, &records[3]), -EINVAL);
    for (int i = 0; i < 4; i++) {
        release(bob, &records[i]);
        if (i < 3)
            assert_int_equal(noria_mpmc_release(bob, &records[i]), -EINVAL);
    }
    assert_int_equal(noria_mpmc_abort(bob, &records[3]), -EOWNERDEAD);
    fill_vectors(vectors, 1, 7);
    for (int i = 0; i < 4; i++)
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 1), 1);
    assert_int_equal(noria_mpmc_send_many(alice, vectors, 1), -EAGAIN);
}

static void group_comes_again_from_the_first_unreleased(void **state)
{
    /* Claim: after a death a group is delivered from its first unreleased record on, with the same sequences,
     * flagged. */
    (void)state;
    for (unsigned released = 0; released < 4; released++) {
        struct noria_mpmc_record records[4] = {{0}};
        struct iovec vectors[4];
        make_ring(&packing);
        fill_vectors(vectors, 4, 0);
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 4), 4);
        for (unsigned i = 0; i < 4; i++)
            records[i] = peek(carol);
        for (unsigned i = 0; i < released; i++)
            release(carol, &records[i]);
        assert_int_equal(bury(3), 1);
        for (unsigned i = released; i < 4; i++) {
            struct noria_mpmc_record again = peek(bob);
            expect_vector(&again, i);
            assert_int_equal(again.flags, NORIA_MPMC_REDELIVERED);
            assert_int_equal(again.sequence, records[i].sequence);
            assert_int_equal(again.sender, 1);
            release(bob, &again);
        }
        expect_empty(bob);
        turn(alice, bob, 20);
    }
}

static void short_buffer_in_the_middle_of_a_group(void **state)
{
    /* Claim: a record of a group that is longer than the buffer is -EMSGSIZE, stays first, and nothing is
     * overrun. */
    struct iovec vectors[3];
    size_t len = 0;

    (void)state;
    for (int inherited = 0; inherited < 2;
         inherited++) { /* the group's first record is short, and released */
        uint8_t *buffer = malloc(4);
        struct noria_mpmc_record record;
        assert_non_null(buffer);
        make_ring(&packing);
        fill_vectors(vectors, 3, 0);
        vectors[1].iov_len = 64;
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 3), 3);
        record = peek(inherited ? carol : bob);
        release(inherited ? carol : bob, &record);
        if (inherited)
            assert_int_equal(bury(3), 1);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(noria_mpmc_recv(bob, buffer, 4, &len), -EMSGSIZE);
            assert_int_equal(len, 64);
            check();
        }
        record = peek(bob);
        assert_int_equal(record.len, 64);
        assert_int_equal(record.flags, inherited ? NORIA_MPMC_REDELIVERED : 0);
        release(bob, &record);
        assert_int_equal(noria_mpmc_recv(bob, buffer, 4, &len), 0);
        assert_int_equal(len, 3);
        free(buffer);
    }
}

static void long_first_record_of_a_group_is_no_obstacle_once_released(void **state)
{
    /* Claim: an inherited group whose long first record was released is delivered into a buffer that fits the
     * rest. */
    struct iovec vectors[2];
    struct noria_mpmc_record record;
    uint8_t buffer[4];
    size_t len = 0;

    (void)state;
    make_ring(&packing);
    fill_vectors(vectors, 2, 0);
    vectors[0].iov_len = 64;
    assert_int_equal(noria_mpmc_send_many(alice, vectors, 2), 2);
    record = peek(carol);
    release(carol, &record);
    assert_int_equal(bury(3), 1);
    assert_int_equal(noria_mpmc_recv(bob, buffer, sizeof(buffer), &len), 0);
    assert_int_equal(len, 2);
    expect_empty(bob);
}

static void stopped_group_sender_is_stepped_over(void **state)
{
    /* Claim: a writer on a packing ring that was stepped over moves its whole record, group words and all. */
    struct noria_mpmc_record stopped;

    (void)state;
    make_ring(&packing);
    stopped = reserve(carol);
    turn(alice, bob, 21);
    commit_number(carol, &stopped, 9);
    expect(bob, 9);
    expect_empty(bob);
}

/* ------------------------------------------------------------------------- looking before taking, closing */

static void what_was_found_is_taken_or_gone(void **state)
{
    /* Claim: take_found takes exactly the record that look found: not once another receiver has it, nor the
     * next one in its slot; one that is too long stays first; one whose length cannot be is dropped, and its
     * slot is not lost. */
    struct noria_mpmc_record found = {0};
    uint64_t word = 0;

    (void)state;
    assert_int_equal(noria_mpmc_look(bob, &found, &word), -EAGAIN);
    for (uint64_t laps = 0; laps < 3; laps++) {
        assert_int_equal(send_number(alice, 1), 0);
        assert_int_equal(noria_mpmc_look(bob, &found, &word), 0);
        expect(carol, 1);
        turn(alice, carol, laps * 8);
        assert_int_equal(noria_mpmc_take_found(bob, word, SIZE_MAX, &found), -EAGAIN);
        assert_int_equal(send_number(alice, 2), 0);
        assert_int_equal(noria_mpmc_look(bob, &found, &word), 0);
        assert_int_equal(noria_mpmc_take_found(bob, word, 7, &found), -EMSGSIZE);
        assert_int_equal(found.len, 8);
        assert_int_equal(noria_mpmc_take_found(bob, word, 8, &found), 0);
        assert_int_equal(number_of(&found), 2);
        release(bob, &found);
    }
    assert_int_equal(send_number(alice, 3), 0);
    assert_int_equal(noria_mpmc_look(bob, &found, &word), 0);
    noria_mpmc_slot_at(bob, found.position)->length = geometry.max_message + 1;
    assert_int_equal(noria_mpmc_take_found(bob, word, SIZE_MAX, &found), -EBADMSG);
    assert_int_equal(held_by(bob->owner), 0);
    expect_capacity(alice, bob);
}

static void closed_slots_take_nothing_new(void **state)
{
    /* Claim: closing ends at a slot that is in use; in a closed one nothing new is sent, what was begun before
     * is committed in place and received, and once each slot is closed the ring is empty for good. */
    struct noria_mpmc_record slow, record = {0};
    uint64_t index = 0, number = 7, found = 0, word;
    int in_use = 0;

    (void)state;
    turn(alice, bob, 9);
    slow = reserve(carol);
    assert_int_equal(send_number(alice, 5), 0);
    for (; noria_mpmc_close(bob, &index) == 0; index++)
        in_use++;
    assert_int_equal(in_use, 2);
    assert_int_equal(noria_mpmc_send(alice, &number, sizeof(number)), -EAGAIN);
    assert_int_equal(noria_mpmc_reserve(dave, &record), -EAGAIN);
    memcpy(slow.data, &number, sizeof(number));
    assert_int_equal(noria_mpmc_commit(carol, &slow, sizeof(number)), 0);
    for (index = 0; index <= bob->mask; index++) {
        word = noria_mpmc_close_slot(bob, index);
        if (NORIA_MPMC_KIND(word) != NORIA_MPMC_FULL)
            continue;
        record.position = index;
        assert_int_equal(noria_mpmc_take_found(bob, word, SIZE_MAX, &record), 0);
        found += number_of(&record);
        assert_int_equal(noria_mpmc_release(bob, &record), 0);
    }
    assert_int_equal(found, 5 + 7);
    index = 0;
    assert_int_equal(noria_mpmc_close(bob, &index), 1);
    assert_int_equal(noria_mpmc_send(alice, &number, sizeof(number)), -EAGAIN);
    assert_int_equal(noria_mpmc_peek(bob, &record), -EAGAIN);
    assert_int_equal(noria_mpmc_look(bob, &record, &word), -EAGAIN);
}

static void hints_err_on_the_side_of_true(void **state)
{
    /* Claim: whenever a reservation or a peek succeeds, may_send or may_receive had said true just before,
     * whoever is stopped halfway through the ring meanwhile. */
    struct noria_mpmc_record out[2] = {{0}}, in[2] = {{0}}, record;
    int reserved = 0, peeked = 0;
    uint64_t random = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct noria_mpmc_handle *const stopped = &handles[5 + round % 2];
        bool may_send = noria_mpmc_may_send(alice), may_receive = noria_mpmc_may_receive(bob);
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        if (random % 7 < 2) {
            reserved += may_send;
            if (noria_mpmc_send(alice, &random, sizeof(random)) == 0)
                assert_true(may_send);
        } else if (random % 7 < 4) {
            peeked += may_receive;
            if (noria_mpmc_peek(bob, &record) == 0) {
                assert_true(may_receive);
                release(bob, &record);
            }
        } else if (out[round % 2].data == NULL && random % 7 == 4) {
            (void)noria_mpmc_reserve(stopped, &out[round % 2]);
        } else if (in[round % 2].data == NULL && random % 7 == 5) {
            (void)noria_mpmc_peek(stopped, &in[round % 2]);
        } else {
            if (out[round % 2].data != NULL && random % 3 == 0)
                assert_int_equal(noria_mpmc_commit(stopped, &out[round % 2], 8), 0);
            else if (out[round % 2].data != NULL)
                assert_int_equal(noria_mpmc_abort(stopped, &out[round % 2]), 0);
            if (in[round % 2].data != NULL)
                release(stopped, &in[round % 2]);
            out[round % 2].data = in[round % 2].data = NULL;
        }
        check();
    }
    assert_true(reserved > 500 && peeked > 500);
}

/* ------------------------------------------------------------------------------------------- bad memory */

static void set_word(uint64_t position, uint64_t word)
{
    noria_mpmc_slot_at(dave, position)->state = word;
}

static void all_words(int64_t laps, unsigned kind, uint32_t owner)
{
    for (uint64_t i = 0; i < 8; i++)
        set_word(i, noria_mpmc_word(dave, i + (uint64_t)laps * 8, kind, owner));
}

static void impossible_words_end_the_walk(void **state)
{
    /* Claim: words that no peer wrote are -EBADMSG or a plain answer, never an endless walk, for sender and
     * receiver. */
    struct noria_mpmc_record record;

    (void)state;
    all_words(50, NORIA_MPMC_EMPTY, 0); /* all passed, and no hint says so */
    assert_int_equal(noria_mpmc_reserve(alice, &record), -EBADMSG);
    assert_int_equal(noria_mpmc_peek(bob, &record), -EBADMSG);
    make_ring(&plain);
    all_words(-2, NORIA_MPMC_EMPTY, 0); /* beyond the first unclaimed one */
    assert_int_equal(noria_mpmc_reserve(alice, &record), -EBADMSG);
    assert_int_equal(noria_mpmc_peek(bob, &record), -EBADMSG);
    make_ring(&plain);
    all_words(0, NORIA_MPMC_READING, 3); /* I3: a reader of lap 0 read a record of lap -1 */
    assert_int_equal(noria_mpmc_reserve(alice, &record), -EAGAIN);
    assert_int_equal(noria_mpmc_peek(bob, &record), -EAGAIN);
    make_ring(&plain);
    all_words(-1, NORIA_MPMC_FULL, 0);
    assert_int_equal(noria_mpmc_reserve(alice, &record), -EAGAIN);
    assert_int_equal(noria_mpmc_peek(bob, &record), -EBADMSG);
    make_ring(&plain);
    all_words(-1, NORIA_MPMC_READING, 3);
    assert_int_equal(noria_mpmc_reserve(alice, &record), -EBADMSG);
}

static void impossible_words_end_a_look(void **state)
{
    /* Claim: the same for who only looks: an answer, and never that of a record which is not there. The two
     * hints say true of what cannot be, so that the call is made which tells. */
    struct noria_mpmc_record record;
    uint64_t word;

    (void)state;
    all_words(50, NORIA_MPMC_EMPTY, 0);
    assert_int_equal(noria_mpmc_look(bob, &record, &word), -EBADMSG);
    assert_true(noria_mpmc_may_receive(bob) && noria_mpmc_may_send(bob));
    make_ring(&plain);
    all_words(-2, NORIA_MPMC_EMPTY, 0);
    assert_int_equal(noria_mpmc_look(bob, &record, &word), -EBADMSG);
    assert_true(noria_mpmc_may_receive(bob) && noria_mpmc_may_send(bob));
    make_ring(&plain);
    all_words(-1, NORIA_MPMC_READING, 3);
    assert_true(noria_mpmc_may_send(bob));
    make_ring(&plain);
    all_words(0, NORIA_MPMC_WRITING, OWNERS + 1); /* no owner of ours */
    assert_int_equal(noria_mpmc_look(bob, &record, &word), -EBADMSG);
}

static void impossible_hints_are_survived(void **state)
{
    /* Claim: hints that lie ahead by anything end in an answer in bounded time. */
    static const uint64_t leaps[] = {
        1, 8, 100, UINT64_C(1) << 47, UINT64_C(1) << 48, UINT64_C(1) << 63, UINT64_MAX};
    struct noria_mpmc_record record;

    (void)state;
    for (size_t i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
        int rc;
        make_ring(&plain);
        turn(alice, bob, 3);
        ring->write_pos += leaps[i];
        ring->read_pos += leaps[i];
        rc = noria_mpmc_reserve(carol, &record);
        assert_true(rc == 0 || rc == -EAGAIN || rc == -EBADMSG);
        rc = noria_mpmc_peek(dave, &record);
        assert_true(rc == 0 || rc == -EAGAIN || rc == -EBADMSG);
    }
}

static void impossible_lengths_are_refused(void **state)
{
    /* Claim: a record longer than a slot is -EBADMSG for peek and never copied. */
    uint8_t buffer[64];
    size_t len = 0;
    struct noria_mpmc_record record;

    (void)state;
    for (int i = 0; i < 2; i++) {
        make_ring(&plain);
        assert_int_equal(send_number(alice, 1), 0);
        noria_mpmc_slot_at(alice, 0)->length = i == 0 ? 65 : UINT32_MAX;
        assert_false(noria_mpmc_invariant(ring, ring_size));
        assert_int_equal(noria_mpmc_recv(bob, buffer, sizeof(buffer), &len), -EMSGSIZE);
        assert_int_equal(noria_mpmc_peek(bob, &record), -EBADMSG);
        assert_int_equal(held_by(2), 0);
        expect_capacity(alice, bob);
    }
}

static void impossible_groups_are_refused(void **state)
{
    /* Claim: group counts and lengths that cannot be are -EBADMSG once, wherever they stand, and cost no
     * slot. */
    static const struct {
        size_t at; /* byte of the payload */
        uint32_t value;
        int good; /* records that come before the bad one */
    } damage[] = {
        {0, 0, 0},          {0, 5, 0},   {0, UINT32_MAX, 0},       {4, 4, 0}, {4, UINT32_MAX, 0}, {8, 65, 0},
        {8, UINT32_MAX, 0}, {24, 65, 1}, {24, UINT32_MAX - 16, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        struct noria_mpmc_record good = {0}, record = {0};
        struct iovec vectors[4];
        make_ring(&packing);
        fill_vectors(vectors, 4, 0);
        assert_int_equal(noria_mpmc_send_many(alice, vectors, 4), 4);
        memcpy(noria_mpmc_payload(noria_mpmc_slot_at(alice, 0)) + damage[i].at, &damage[i].value, 4);
        for (int n = 0; n < damage[i].good; n++)
            assert_int_equal(noria_mpmc_peek(bob, &good), 0);
        if (damage[i].good != 0 && i % 2 == 0)
            assert_int_equal(noria_mpmc_release(bob, &good), 0);
        assert_int_equal(noria_mpmc_peek(bob, &record), -EBADMSG);
        if (damage[i].good != 0 && i % 2 != 0)
            assert_int_equal(noria_mpmc_release(bob, &good), 0);
        assert_int_equal(held_by(2), 0);
        expect_capacity(alice, bob);
    }
}

static void invariant_sees_damage(void **state)
{
    /* Claim: invariant() is false for words, hints and gaps that no sequence of calls can leave. */
    uint64_t good;

    (void)state;
    turn(alice, bob, 3);
    assert_int_equal(send_number(alice, 1), 0);
    good = noria_mpmc_slot_at(alice, 3)->state;
#define DAMAGED(statement)                               \
    statement;                                           \
    assert_false(noria_mpmc_invariant(ring, ring_size)); \
    set_word(3, good)
    check();
    DAMAGED(set_word(3, good | NORIA_MPMC_OWNED_BY(1)));
    DAMAGED(set_word(3, good | NORIA_MPMC_LATE));
    DAMAGED(set_word(3, noria_mpmc_word(alice, 3, NORIA_MPMC_WRITING, 0)));
    DAMAGED(set_word(3, noria_mpmc_word(alice, 3, NORIA_MPMC_READING, OWNERS + 1)));
    DAMAGED(set_word(3, noria_mpmc_word(alice, 11, NORIA_MPMC_FULL, 0))); /* beyond the first unclaimed one */
    check();
    ring->write_pos = 5;
    assert_false(noria_mpmc_invariant(ring, ring_size));
    ring->write_pos = 4;
    ring->read_pos = 4;
    assert_false(noria_mpmc_invariant(ring, ring_size));
    ring->read_pos = 3;
    check();
#undef DAMAGED
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(bad_configuration_has_no_footprint),
        TEST(slots_leave_room_for_the_absent),
        TEST(format_checks_its_memory),
        TEST(join_checks_memory_and_owner),
        TEST(numbers_come_out_as_they_went_in),
        TEST(narrow_laps_of_large_rings_wrap),
        TEST(capacity_is_exact),
        TEST(stopped_owners_do_not_take_capacity),
        TEST(late_hints_do_no_harm),
        TEST(copying_calls_move_bytes),
        TEST(too_long_for_the_buffer_stays_first),
        TEST(records_tell_who_and_when),
        TEST(releases_come_in_any_order),
        TEST(aborted_reservations_leave_nothing),
        TEST(waiting_ends),
        TEST(receivers_step_over_a_stopped_writer),
        TEST(stopped_writer_may_sleep_for_laps),
        TEST(late_commit_stays_where_no_place_is_free),
        TEST(late_commit_walks_past_readers),
        TEST(senders_step_over_stopped_writers),
        TEST(any_number_of_stopped_owners_is_stepped_over),
        TEST(stopped_writers_all_round_are_full),
        TEST(senders_step_over_stopped_readers),
        TEST(readers_all_round_are_full),
        TEST(dead_writer_leaves_a_free_slot),
        TEST(dead_readers_record_is_adopted),
        TEST(orphans_survive_laps),
        TEST(orphan_too_long_stays_first),
        TEST(settle_needs_the_exact_word),
        TEST(dropping_is_settling_without_redelivery),
        TEST(announcement_makes_all_look_again),
        TEST(count_tells_what_is_there),
        TEST(batches_move_whole),
        TEST(batches_stop_at_what_does_not_fit),
        TEST(group_is_released_in_its_order),
        TEST(group_comes_again_from_the_first_unreleased),
        TEST(short_buffer_in_the_middle_of_a_group),
        TEST(long_first_record_of_a_group_is_no_obstacle_once_released),
        TEST(stopped_group_sender_is_stepped_over),
        TEST(what_was_found_is_taken_or_gone),
        TEST(closed_slots_take_nothing_new),
        TEST(hints_err_on_the_side_of_true),
        TEST(impossible_words_end_the_walk),
        TEST(impossible_words_end_a_look),
        TEST(impossible_hints_are_survived),
        TEST(impossible_lengths_are_refused),
        TEST(impossible_groups_are_refused),
        TEST(invariant_sees_damage),
    };
#undef TEST
    return cmocka_run_group_tests_name("mpmc", tests, NULL, NULL);
}
