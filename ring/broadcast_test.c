/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the broadcast ring. Each test states its claim in its first line; the invariant is asked
 * after each step of the sender. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <watched_test.h>

#include <noria/broadcast.h>

enum { CAPACITY = 1024, OWNERS = 6, LONGEST = 200 };

static struct noria_broadcast *ring;
static size_t ring_size;
static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receivers[OWNERS];
static uint64_t first;
static jmp_buf death;
static int accesses_left;

/* Positions worth starting at: zero, and just below the wraps of 32 and of 64 bits. */
static const uint64_t starts[] = {0, (UINT64_C(1) << 32) - 40, UINT64_MAX - 39, UINT64_C(0xabcdef12345) };
enum { STARTS = sizeof(starts) / sizeof(starts[0]) };

static void check(void)
{
    assert_true(noria_broadcast_invariant(ring, ring_size));
}

static void make_ring(enum noria_broadcast_mode mode, uint64_t first_position)
{
    free(ring);
    ring_size = noria_broadcast_footprint(CAPACITY, mode == NORIA_BROADCAST_LOSSY ? 0 : OWNERS);
    ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
    assert_non_null(ring);
    memset(ring, 0xa5, ring_size); /* format must not depend on zeroed memory */
    assert_int_equal(noria_broadcast_format(ring, ring_size, CAPACITY, OWNERS, mode, first_position), 0);
    first = first_position;
    check();
    assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 1), 0);
    check();
}

static int setup(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(ring);
    ring = NULL;
    return 0;
}

static void join_at(unsigned owner, enum noria_broadcast_start start, uint64_t wanted)
{
    assert_int_equal(
        noria_broadcast_join_receiver(&receivers[owner - 1], ring, ring_size, owner, start, wanted), 0);
}

static void join(unsigned owner)
{
    join_at(owner, NORIA_BROADCAST_NOW, 0);
}

/* A record whose bytes and length tell its number. */
static size_t length_of(uint64_t number)
{
    return (size_t)(number * 7 % 61);
}

static void fill(uint8_t *bytes, uint64_t number, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(number * 31 + i);
}

static int put(uint64_t number)
{
    uint8_t bytes[LONGEST];
    int rc;

    fill(bytes, number, length_of(number));
    rc = noria_broadcast_send(&sender, bytes, length_of(number));
    check();
    return rc;
}

static void put_all(uint64_t from, uint64_t to)
{
    for (; from != to; from++)
        assert_int_equal(put(from), 0);
}

/* Numbers count from `first`, as sequences do. */
static int take(unsigned owner, uint64_t *number)
{
    uint8_t bytes[LONGEST], wanted[LONGEST];
    size_t len = 0;
    struct noria_broadcast_receiver *receiver = &receivers[owner - 1];
    int rc = noria_broadcast_recv(receiver, bytes, sizeof(bytes), &len);

    if (rc != 0)
        return rc;
    *number = receiver->sequence - 1;
    assert_int_equal(len, length_of(*number));
    fill(wanted, *number, len);
    assert_memory_equal(bytes, wanted, len);
    return 0;
}

static void expect(unsigned owner, uint64_t number)
{
    uint64_t got = 0;

    assert_int_equal(take(owner, &got), 0);
    assert_int_equal(got, number);
}

static void expect_empty(unsigned owner)
{
    uint64_t got;

    assert_int_equal(take(owner, &got), -EAGAIN);
}

static void expect_cursor(unsigned owner, unsigned cursor_state)
{
    assert_int_equal(NORIA_CURSOR_STATE(noria_broadcast_find_cursor(&sender.shape, owner)), cursor_state);
}

/* Somebody else than those of receivers[] tries to join. */
static int try_to_join(unsigned owner, enum noria_broadcast_start start)
{
    struct noria_broadcast_receiver late;

    return noria_broadcast_join_receiver(&late, ring, ring_size, owner, start, 0);
}

static void bury_receiver(unsigned owner)
{
    uint64_t life = noria_broadcast_find_cursor(&sender.shape, owner);

    assert_int_not_equal(NORIA_CURSOR_STATE(life), NORIA_CURSOR_FREE);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, owner, life), 1);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, owner, life), 0);
}

static void succeed_sender(void)
{
    assert_int_equal(noria_broadcast_settle_sender(ring, noria_broadcast_find_sender(ring)), 1);
    assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 2), 0);
    assert_true(sender.taken_over);
    check();
}

/* ----------------------------------------------------------------------------------------------- geometry */

static void geometry_is_checked(void **state)
{
    /* Claim: format takes powers of two in range, and shape only what format made; sizes for records hold
     * them. */
    struct noria_broadcast_shape shape;

    (void)state;
    assert_int_equal(noria_broadcast_footprint(256, 1), 0);
    assert_int_equal(noria_broadcast_footprint(1000, 1), 0);
    assert_int_equal(noria_broadcast_footprint(1024, 0x10000), 0);
    assert_int_equal(noria_broadcast_footprint(2 * NORIA_BROADCAST_MAX_CAPACITY, 1), 0);
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    assert_int_equal(
        noria_broadcast_format(ring, ring_size - 1, CAPACITY, OWNERS, NORIA_BROADCAST_RELIABLE, 0), -EINVAL);
    assert_int_equal(noria_broadcast_format(ring, ring_size, 1000, OWNERS, NORIA_BROADCAST_RELIABLE, 0),
                     -EINVAL);
    assert_int_equal(
        noria_broadcast_format(ring, ring_size, CAPACITY, OWNERS, (enum noria_broadcast_mode)3, 0), -EINVAL);
    assert_int_equal(noria_broadcast_format((uint8_t *)ring + 8, ring_size, CAPACITY, 1,
                                            NORIA_BROADCAST_RELIABLE, 0),
                     -EINVAL);
    assert_int_equal(noria_broadcast_read_shape(&shape, (uint8_t *)ring + 8, ring_size), -EBADMSG);
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, sizeof(*ring) - 1), -EBADMSG);
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size - 1), -EBADMSG);
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), 0);
    assert_int_equal(shape.capacity, CAPACITY);
    ring->owners = 0;
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), -EBADMSG);
    ring->owners = OWNERS;
    ring->mode = NORIA_BROADCAST_LOSSY; /* which has no cursors */
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), -EBADMSG);
    ring->mode = NORIA_BROADCAST_LOSSY + 1;
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), -EBADMSG);
    ring->mode = NORIA_BROADCAST_RELIABLE;
    ring->capacity++;
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), -EBADMSG);
    ring->capacity--;
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), 0);
    ring->magic++;
    assert_int_equal(noria_broadcast_read_shape(&shape, ring, ring_size), -EBADMSG);
}

/* ----------------------------------------------------------------------------------------------- reliable */

static void everybody_gets_everything(void **state)
{
    /* Claim: each receiver gets every record in order, whatever its pace, over many laps, wherever positions
     * start. */
    (void)state;
    for (unsigned s = 0; s < STARTS; s++) {
        uint64_t sent = starts[s], got[3] = {starts[s], starts[s], starts[s]};
        make_ring(NORIA_BROADCAST_RELIABLE, starts[s]);
        for (unsigned owner = 1; owner <= 3; owner++)
            join(owner);
        for (int round = 0; round < 4000; round++) {
            unsigned owner = (unsigned)(round * 5 / 3) % 3;
            sent += put(sent) == 0;
            if (got[owner] != sent)
                expect(owner + 1, got[owner]++);
        }
        for (unsigned owner = 0; owner < 3; owner++) {
            while (got[owner] != sent)
                expect(owner + 1, got[owner]++);
            expect_empty(owner + 1);
        }
    }
}

static void the_slowest_holds_the_sender(void **state)
{
    /* Claim: nothing of a receiver that stands still is overwritten: full is said, until it goes on, leaves
     * or is settled. */
    uint64_t sent = 0, number;

    (void)state;
    for (int how = 0; how < 3; how++) {
        make_ring(NORIA_BROADCAST_RELIABLE, 0);
        sent = 0;
        join(1);
        join(4);
        for (int i = 0; i < 500; i++) {
            sent += put(sent) == 0;
            take(1, &number);
        }
        assert_true(sent >= 15 && sent < 40);
        assert_int_equal(put(sent), -EAGAIN);
        if (how == 0)
            for (uint64_t i = 0; i < 5; i++)
                expect(4, i);
        else if (how == 1)
            noria_broadcast_leave_receiver(&receivers[3]);
        else
            bury_receiver(4);
        assert_int_equal(put(sent), 0);
    }
}

static void without_receivers_nothing_is_held(void **state)
{
    /* Claim: a sender without receivers never finds the ring full, and who comes late may have what is
     * kept. */
    uint64_t number;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 77);
    put_all(77, 1077);
    join_at(2, NORIA_BROADCAST_OLDEST, 0);
    assert_int_equal(take(2, &number), 0);
    assert_true(number > 1020 && number < 1060);
    while (++number < 1077)
        expect(2, number);
    expect_empty(2);
}

static void latecomers_choose_where_to_begin(void **state)
{
    /* Claim: NOW begins with the next record, OLDEST with the oldest kept, POSITION with that sequence or the
     * oldest after it, saying how many are missed; a sequence that is still to come begins with the next. */
    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (unsigned s = 0; s < STARTS; s++) {
            uint64_t at = starts[s], number = 0;
            make_ring((enum noria_broadcast_mode)mode, at);
            put_all(at, at + 10);
            join_at(1, NORIA_BROADCAST_NOW, 0);
            join_at(2, NORIA_BROADCAST_OLDEST, 0);
            join_at(3, NORIA_BROADCAST_POSITION, at + 4);
            join_at(4, NORIA_BROADCAST_POSITION, at - 3);
            join_at(5, NORIA_BROADCAST_POSITION, at + 100);
            assert_int_equal(put(at + 10), 0);
            expect(1, at + 10);
            expect(2, at);
            expect(3, at + 4);
            expect(4, at);
            expect(5, at + 10);
            assert_int_equal(
                receivers[0].missed + receivers[1].missed + receivers[2].missed + receivers[4].missed, 0);
            assert_int_equal(receivers[3].missed, 3);
            noria_broadcast_leave_receiver(&receivers[1]);
            (void)number;
        }
}

static void peeks_may_be_several(void **state)
{
    /* Claim: peeked records stay in place until released, in order only; a second release is refused. */
    struct noria_broadcast_record held[3];
    int sent = 0;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    put_all(0, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(noria_broadcast_peek(&receivers[0], &held[i]), 0);
    assert_int_equal(noria_broadcast_release(&receivers[0], &held[1]), -EINVAL);
    for (uint64_t n = 3; put(n) == 0; n++)
        sent++;
    assert_true(sent > 10);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t wanted[LONGEST];
        fill(wanted, i, held[i].len);
        assert_int_equal(held[i].len, length_of(i));
        assert_memory_equal(held[i].data, wanted, held[i].len);
        assert_int_equal(noria_broadcast_release(&receivers[0], &held[i]), 0);
        assert_int_equal(noria_broadcast_release(&receivers[0], &held[i]), -EINVAL);
    }
}

static void a_batch_appears_at_once(void **state)
{
    /* Claim: staged records are seen together at publish, over pads and marks too; unpublished ones go with
     * the sender. */
    struct noria_broadcast_record record;
    uint64_t at = 0, next = 0;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    for (int round = 0; round < 300; round++) {
        uint64_t from = at;
        for (int i = 0; i < 9 && noria_broadcast_reserve(&sender, length_of(at), &record) == 0; i++, at++) {
            fill(record.data, at, length_of(at));
            assert_int_equal(noria_broadcast_stage(&sender, &record, length_of(at)), 0);
        }
        expect_empty(1);
        if (round % 3 == 0) {
            succeed_sender();
            at = from;
        } else {
            noria_broadcast_publish(&sender);
        }
        check();
        for (; next != at; next++)
            expect(1, next);
    }
}

static void a_batch_never_overwrites_itself(void **state)
{
    /* Claim: without receivers, too, a batch is full when the ring is, and nothing unpublished is given
     * away. */
    struct noria_broadcast_record record;
    int staged = 0;

    (void)state;
    make_ring(NORIA_BROADCAST_LOSSY, 0);
    put_all(0, 100);
    while (staged < 1000 && noria_broadcast_reserve(&sender, 40, &record) == 0) {
        assert_int_equal(noria_broadcast_stage(&sender, &record, 40), 0);
        staged++;
    }
    assert_true(staged > 10 && staged < 30);
    noria_broadcast_publish(&sender);
    check();
    assert_int_equal(noria_broadcast_reserve(&sender, 40, &record), 0);
}

static void records_have_a_largest_size(void **state)
{
    /* Claim: the longest record always fits, wherever the ring stands; one byte more is -EMSGSIZE. */
    static uint8_t bytes[CAPACITY];
    size_t most = (size_t)noria_broadcast_max_record(CAPACITY);

    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (size_t before = 0; before < 200; before++) {
            size_t len;
            make_ring((enum noria_broadcast_mode)mode, 0);
            join(1);
            for (size_t i = 0; i < before; i++) {
                assert_int_equal(noria_broadcast_send(&sender, bytes, i % 40), 0);
                assert_int_equal(noria_broadcast_recv(&receivers[0], bytes, sizeof(bytes), &len), 0);
            }
            assert_int_equal(noria_broadcast_send(&sender, bytes, most + 1), -EMSGSIZE);
            assert_int_equal(noria_broadcast_send(&sender, bytes, most), 0);
            check();
            assert_int_equal(noria_broadcast_recv(&receivers[0], bytes, 3, &len), -EMSGSIZE);
            assert_int_equal(len, most);
            assert_int_equal(noria_broadcast_recv(&receivers[0], bytes, sizeof(bytes), &len), 0);
            assert_int_equal(noria_broadcast_send(&sender, bytes, most), 0);
        }
}

static void capacity_is_enough(void **state)
{
    /* Claim: capacity_for keeps that many records of that size: for a receiver that has not read any, and for
     * one that comes when a LOSSY sender has gone on for long. */
    (void)state;
    for (uint64_t records = 1; records < 40; records += 3)
        for (uint64_t size = 0; size < 300; size += 7) {
            uint64_t capacity = noria_broadcast_capacity_for(records, size);
            uint8_t bytes[300] = {0};
            ring_size = noria_broadcast_footprint(capacity, 0);
            free(ring);
            ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
            noria_broadcast_format(ring, ring_size, capacity, 0, NORIA_BROADCAST_LOSSY, 0);
            assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 1), 0);
            for (uint64_t i = 1; i < 3 * capacity / (size + 8); i++) {
                uint64_t kept, all;
                assert_int_equal(noria_broadcast_send(&sender, bytes, size), 0);
                assert_int_equal(noria_broadcast_count(&sender.shape, &kept, &all), 0);
                assert_true(kept >= records || kept == i);
            }
        }
}

static void capacity_has_an_end(void **state)
{
    /* Claim: capacity_for says 0 for what no ring holds, and else the smallest capacity that does. */
    (void)state;
    assert_int_equal(noria_broadcast_capacity_for(1, UINT64_C(1) << 32), 0);
    assert_int_equal(noria_broadcast_capacity_for(UINT64_MAX, 8), 0);
    assert_int_equal(noria_broadcast_capacity_for(NORIA_BROADCAST_MAX_CAPACITY / 16, 8), 0);
    assert_int_equal(noria_broadcast_capacity_for(NORIA_BROADCAST_MAX_CAPACITY / 32, 8),
                     NORIA_BROADCAST_MAX_CAPACITY);
    assert_int_equal(noria_broadcast_capacity_for(1, 0), NORIA_BROADCAST_MIN_CAPACITY);
    for (uint64_t records = 0; records < 3; records++)
        for (uint64_t size = 0; size < 10000; size++) {
            uint64_t capacity = noria_broadcast_capacity_for(records, size);
            assert_true(noria_broadcast_max_record(capacity) >= size);
            assert_true(capacity == NORIA_BROADCAST_MIN_CAPACITY ||
                        capacity / 2 - capacity / 16 < (records + 2) * noria_broadcast_size_of(size) + 8);
        }
}

static void what_was_not_reserved_is_refused(void **state)
{
    /* Claim: commit and stage refuse more bytes than were reserved, and a reservation whose place has been
     * used since; nothing is shown then. What no ring of this capacity takes is not reserved. */
    struct noria_broadcast_record record, again, late;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    assert_int_equal(noria_broadcast_reserve(&sender, SIZE_MAX, &record), -EMSGSIZE);
    assert_int_equal(noria_broadcast_reserve(&sender, UINT32_MAX, &record), -EMSGSIZE);
    assert_int_equal(noria_broadcast_reserve(&sender, CAPACITY / 2, &record), -EMSGSIZE);
    assert_int_equal(noria_broadcast_reserve(&sender, length_of(0), &record), 0);
    assert_int_equal(noria_broadcast_commit(&sender, &record, length_of(0) + 1), -EINVAL);
    assert_int_equal(noria_broadcast_stage(&sender, &record, length_of(0) + 1), -EINVAL);
    noria_broadcast_publish(&sender); /* there is nothing */
    expect_empty(1);
    assert_int_equal(noria_broadcast_reserve(&sender, length_of(0), &again), 0);
    assert_ptr_equal(again.data, record.data); /* the same place */
    fill(again.data, 0, length_of(0));
    assert_int_equal(noria_broadcast_commit(&sender, &again, length_of(0)), 0);
    assert_int_equal(noria_broadcast_commit(&sender, &record, length_of(0)), -EINVAL);
    check();
    expect(1, 0);
    expect_empty(1);
    for (uint64_t n = 1; n < 30; n++) { /* to the end of the lap, where a pad comes */
        assert_int_equal(noria_broadcast_reserve(&sender, LONGEST, &late), 0);
        if (late.position != sender.write_pos)
            break;
        assert_int_equal(put(n), 0);
        expect(1, n);
    }
    assert_true(late.position % CAPACITY == 0 && sender.write_pos % CAPACITY != 0);
    assert_int_equal(noria_broadcast_commit(&sender, &late, LONGEST + 1), -EINVAL);
    noria_broadcast_abort(&sender, &late);
    assert_null(late.data);
    check();
    expect_empty(1);
}

static void a_batch_and_a_record_go_together(void **state)
{
    /* Claim: a commit behind staged records shows all of them, in order. */
    struct noria_broadcast_record record;
    uint64_t sent = 0, got = 0;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 4; i++, sent++) {
            assert_int_equal(noria_broadcast_reserve(&sender, length_of(sent), &record), 0);
            fill(record.data, sent, length_of(sent));
            if (i < 3)
                assert_int_equal(noria_broadcast_stage(&sender, &record, length_of(sent)), 0);
            else
                assert_int_equal(noria_broadcast_commit(&sender, &record, length_of(sent)), 0);
            if (i < 3)
                expect_empty(1);
        }
        check();
        while (got != sent)
            expect(1, got++);
    }
}

static void releases_have_borders(void **state)
{
    /* Claim: several peeked records can be given back at once, each only once, and nothing that was not
     * peeked. */
    struct noria_broadcast_record held[4], foreign;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    put_all(0, 4);
    for (int i = 0; i < 3; i++)
        assert_int_equal(noria_broadcast_peek(&receivers[0], &held[i]), 0);
    assert_int_equal(noria_broadcast_look(&receivers[0], &held[3]), 0);
    assert_int_equal(noria_broadcast_release_through(&receivers[0], &held[3]), -EINVAL);
    assert_int_equal(noria_broadcast_release_through(&receivers[0], &held[1]), 0);
    assert_int_equal(noria_broadcast_release_through(&receivers[0], &held[1]), -EINVAL);
    assert_int_equal(noria_broadcast_release_through(&receivers[0], &held[0]), -EINVAL);
    foreign = held[2];
    foreign.next += CAPACITY;
    assert_int_equal(noria_broadcast_release(&receivers[0], &foreign), -EINVAL);
    assert_int_equal(noria_broadcast_release(&receivers[0], &held[2]), 0);
    assert_int_equal(receivers[0].cursor->position, held[2].next);
    expect(1, 3);
    assert_int_equal(noria_broadcast_peek(&receivers[0], &foreign), -EAGAIN);
}

static void records_are_held_over_the_end_of_a_lap(void **state)
{
    /* Claim: a receiver that holds the last records of a lap gets those of the next in place, and what it
     * holds stays whole until it gives it back, wherever positions start. */
    (void)state;
    for (unsigned s = 0; s < STARTS; s++) {
        struct noria_broadcast_record held[4];
        uint64_t sent = starts[s], got = sent, back = sent;
        make_ring(NORIA_BROADCAST_RELIABLE, starts[s]);
        join(1);
        for (int round = 0; round < 500; round++) {
            uint8_t wanted[LONGEST];
            struct noria_broadcast_record *oldest = &held[back % 4];
            sent += put(sent) == 0;
            while (got != sent && got - back < 4)
                assert_int_equal(noria_broadcast_peek(&receivers[0], &held[got++ % 4]), 0);
            assert_false(noria_broadcast_is_overtaken(&receivers[0], oldest->position));
            fill(wanted, back, length_of(back));
            assert_int_equal(oldest->len, length_of(back));
            assert_memory_equal(oldest->data, wanted, oldest->len);
            if (got - back == 4 || round % 3 == 0) {
                assert_int_equal(noria_broadcast_release(&receivers[0], oldest), 0);
                back++;
            }
            if (back == got)
                sent += put(sent) == 0;
            if (back == got)
                assert_int_equal(noria_broadcast_peek(&receivers[0], &held[got++ % 4]), 0);
        }
        assert_true(got - starts[s] > 200);
    }
}

static void in_place_is_for_what_stays(void **state)
{
    /* Claim: where records may go before they are read, none is given out to be read in place. */
    struct noria_broadcast_record record;

    (void)state;
    for (int mode = NORIA_BROADCAST_EVICTING; mode <= NORIA_BROADCAST_LOSSY; mode++) {
        make_ring((enum noria_broadcast_mode)mode, 0);
        join(1);
        put_all(0, 1);
        assert_int_equal(noria_broadcast_peek(&receivers[0], &record), -EINVAL);
        expect(1, 0);
    }
}

/* Whether asking says what reserve then says, and changes nothing but the count of listeners, which is a
 * hint. */
static bool ask(size_t len)
{
    static uint8_t before[8192];
    struct noria_broadcast_record record;
    uint64_t kept = sender.kept;
    bool may;

    assert_true(ring_size <= sizeof(before));
    memcpy(before, ring, ring_size);
    may = noria_broadcast_may_send(&sender, len);
    ((struct noria_broadcast *)(void *)before)->listeners = ring->listeners;
    assert_memory_equal(before, ring, ring_size);
    assert_int_equal(sender.kept, kept);
    assert_int_equal(noria_broadcast_reserve(&sender, len, &record) != -EAGAIN, may);
    return may;
}

static void asking_gives_nothing_away(void **state)
{
    /* Claim: may_send says what reserve would, at any place of the ring and for any length, with receivers
     * that are there, slow, or not there, and with staged records; but unlike reserve it takes no record
     * from anybody. */
    int times_full = 0, times_free = 0;

    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (unsigned pace = 0; pace <= 3; pace++) {
            uint64_t sent = 0;
            make_ring((enum noria_broadcast_mode)mode, 0);
            if (pace < 3)
                join(2);
            for (int round = 0; round < 400; round++) {
                struct noria_broadcast_record record;
                bool may = ask((size_t)(round * 37 % 600));
                times_full += !may;
                times_free += may;
                if (round % 50 > 40) {
                    if (noria_broadcast_reserve(&sender, 40, &record) == 0)
                        assert_int_equal(noria_broadcast_stage(&sender, &record, 40), 0);
                    continue;
                }
                noria_broadcast_publish(&sender);
                sent += put(sent) == 0;
                if (pace < 3 && round % 3 < (int)pace) {
                    uint8_t bytes[LONGEST];
                    size_t len;
                    noria_broadcast_recv(&receivers[1], bytes, sizeof(bytes), &len);
                }
            }
        }
    assert_true(times_full > 300 && times_free > 1000);
}

static void a_slow_receiver_loses_nothing_by_questions(void **state)
{
    /* Claim: a lossy sender that asks for room as often as it likes takes no record from a receiver, which
     * one reserve would. */
    struct noria_broadcast_record record;
    uint64_t sent = 0, kept;

    (void)state;
    make_ring(NORIA_BROADCAST_LOSSY, 0);
    join(1);
    for (kept = sender.kept; sender.kept == kept; sent++)
        assert_int_equal(put(sent), 0);
    make_ring(NORIA_BROADCAST_LOSSY, 0);
    join(1);
    put_all(0, sent - 1); /* the next one needs the room of the oldest */
    for (int i = 0; i < 100; i++)
        assert_true(noria_broadcast_may_send(&sender, LONGEST));
    expect(1, 0);
    assert_int_equal(receivers[0].missed, 0);
    assert_int_equal(noria_broadcast_reserve(&sender, LONGEST, &record), 0);
    while (receivers[0].missed == 0 && sent-- > 0)
        take(1, &kept);
    assert_true(receivers[0].missed > 0);
}

/* ----------------------------------------------------------------------------------------------- eviction */

static void an_evicted_receiver_learns_how_many(void **state)
{
    /* Claim: after the eviction the sender goes on; the receiver goes on from the oldest kept and knows
     * exactly how many it missed: none, if nothing of its own was overwritten. */
    struct noria_broadcast_slowest slowest;

    (void)state;
    for (unsigned more = 0; more < 60; more++) {
        uint64_t sent = 0, number = 0;
        make_ring(NORIA_BROADCAST_EVICTING, 0);
        join(1);
        join(3);
        for (; put(sent) == 0; sent++)
            expect(1, sent);
        noria_broadcast_find_slowest(&sender, &slowest);
        assert_int_equal(slowest.owner, 3);
        assert_int_equal(noria_broadcast_evict(&sender, &slowest), 1);
        assert_int_equal(noria_broadcast_evict(&sender, &slowest), 0);
        for (unsigned i = 0; i < more; i++, sent++) {
            assert_int_equal(put(sent), 0);
            expect(1, sent);
        }
        assert_int_equal(take(3, &number), 0);
        assert_int_equal(receivers[2].missed, number);
        assert_true(more > 0 || number == 0);
        assert_true(more < 30 || number > 0);
        while (++number != sent)
            expect(3, number);
        expect_empty(3);
        assert_int_equal(receivers[2].life & 3, NORIA_CURSOR_LIVE);
    }
}

static unsigned overtake_at;
static uint64_t overtake_sent;

/* In front of the receiver's n-th access: the sender evicts it and overwrites all it may. */
static void evict_in_between(const void *word)
{
    struct noria_broadcast_slowest slowest;

    (void)word;
    if (overtake_at-- != 0)
        return;
    for (int i = 0; i < 60; i++) {
        if (put(overtake_sent) == 0) {
            overtake_sent++;
            continue;
        }
        noria_broadcast_find_slowest(&sender, &slowest);
        noria_broadcast_evict(&sender, &slowest);
    }
}

static void a_receiver_overtaken_at_any_access_gets_whole_records(void **state)
{
    /* Claim: evicted (or LOSSY: overtaken) in front of any of its accesses, a receive gives a whole record,
     * in order, and missed + received is what was sent. */
    (void)state;
    for (int mode = NORIA_BROADCAST_EVICTING; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (unsigned at = 0; at < 60; at++) {
            uint64_t number = 0, last = 0, got = 0;
            make_ring((enum noria_broadcast_mode)mode, 0);
            join(1);
            for (overtake_sent = 0; overtake_sent < 10; overtake_sent++)
                assert_int_equal(put(overtake_sent), 0);
            overtake_at = at;
            watch.before = evict_in_between;
            while (take(1, &number) == 0) {
                assert_true(got == 0 || number > last);
                last = number;
                got++;
            }
            watch.before = NULL;
            assert_int_equal(last + 1, overtake_sent);
            assert_int_equal(got + receivers[0].missed, overtake_sent);
        }
}

static uint64_t join_sent;

static void send_in_between(const void *word)
{
    (void)word;
    if (overtake_at-- != 0)
        return;
    for (int i = 0; i < 70 && put(join_sent) == 0; i++)
        join_sent++;
}

static void a_join_at_any_instant_is_a_join(void **state)
{
    /* Claim: whoever joins while the sender laps it, in front of any of the join's accesses, then gets whole
     * records without a gap from where it begins, and holds the sender (RELIABLE, EVICTING). */
    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (int start = 0; start <= NORIA_BROADCAST_POSITION; start++)
            for (unsigned at = 0; at < 80; at++) {
                uint64_t number = 0, next;
                make_ring((enum noria_broadcast_mode)mode, 5);
                for (join_sent = 5; join_sent < 60; join_sent++)
                    assert_int_equal(put(join_sent), 0);
                overtake_at = at;
                watch.before = send_in_between;
                join_at(2, (enum noria_broadcast_start)start, 58);
                watch.before = NULL;
                while (mode != NORIA_BROADCAST_LOSSY && put(join_sent) == 0)
                    join_sent++;
                if (mode == NORIA_BROADCAST_LOSSY)
                    assert_int_equal(put(join_sent++), 0);
                if (start == NORIA_BROADCAST_POSITION && receivers[1].sequence != 58)
                    assert_int_equal(receivers[1].missed, receivers[1].sequence - 58);
                assert_int_equal(take(2, &number), 0);
                for (next = number + 1; next != join_sent; next++)
                    expect(2, next);
            }
}

static int join_start;

static void join_in_between(const void *word)
{
    (void)word;
    if (overtake_at-- == 0)
        join_at(3, (enum noria_broadcast_start)join_start, 0);
}

static void a_join_during_a_send_holds_the_sender(void **state)
{
    /* Claim: whoever joins in front of any access of a send gets every record from where it begins: the
     * sender has counted it, or it has seen what was given away. */
    (void)state;
    for (join_start = 0; join_start <= NORIA_BROADCAST_OLDEST; join_start++)
        for (uint64_t filled = 20; filled < 70; filled++)
            for (unsigned at = 0; at < 30; at++) {
                uint64_t sent = filled, number = 0;
                make_ring(NORIA_BROADCAST_RELIABLE, 0);
                put_all(0, filled);
                overtake_at = at;
                watch.before = join_in_between;
                assert_int_equal(noria_broadcast_send(&sender, "abc", 0), 0);
                watch.before = NULL;
                if (overtake_at < at)
                    continue; /* a send has not so many accesses */
                while (noria_broadcast_send(&sender, "abc", 0) == 0)
                    assert_true(sent++ < 1000);
                number = receivers[2].sequence;
                while (number < sent + 1) {
                    size_t len;
                    uint8_t bytes[LONGEST];
                    assert_int_equal(noria_broadcast_recv(&receivers[2], bytes, sizeof(bytes), &len), 0);
                    assert_int_equal(len, number < filled ? length_of(number) : 0);
                    number++;
                }
                expect_empty(3);
            }
}

static void only_who_holds_the_sender_up_is_evicted(void **state)
{
    /* Claim: nobody is evicted from a reliable ring, nor is a number that is no owner's, nor who has left
     * since he was found. */
    struct noria_broadcast_slowest slowest, nobody = {0, 0, 0}, beyond = {0, 0, OWNERS + 1};
    uint64_t n;

    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_EVICTING; mode++) {
        make_ring((enum noria_broadcast_mode)mode, 0);
        noria_broadcast_find_slowest(&sender, &slowest);
        assert_int_equal(slowest.owner, 0);
        join(3);
        for (n = 0; put(n) == 0; n++)
            assert_true(n < 100);
        noria_broadcast_find_slowest(&sender, &slowest);
        assert_int_equal(slowest.owner, 3);
        assert_int_equal(noria_broadcast_evict(&sender, &nobody), 0);
        assert_int_equal(noria_broadcast_evict(&sender, &beyond), 0);
        if (mode == NORIA_BROADCAST_RELIABLE) {
            assert_int_equal(noria_broadcast_evict(&sender, &slowest), 0);
            expect(3, 0);
            continue;
        }
        noria_broadcast_leave_receiver(&receivers[2]);
        join(3);
        assert_int_equal(noria_broadcast_evict(&sender, &slowest), 0);
        expect_cursor(3, NORIA_CURSOR_LIVE);
    }
}

static void who_leaves_frees_its_cursor(void **state)
{
    /* Claim: a receiver that leaves frees its cursor, evicted or not, once; one that was settled for dead
     * frees nothing of the next one who has its number. */
    struct noria_broadcast_receiver old;
    struct noria_broadcast_slowest slowest;
    uint64_t n;

    (void)state;
    make_ring(NORIA_BROADCAST_EVICTING, 0);
    join(3);
    for (n = 0; put(n) == 0; n++)
        assert_true(n < 100);
    noria_broadcast_find_slowest(&sender, &slowest);
    assert_int_equal(noria_broadcast_evict(&sender, &slowest), 1);
    assert_int_equal(try_to_join(3, NORIA_BROADCAST_NOW), -EBUSY);
    noria_broadcast_leave_receiver(&receivers[2]);
    expect_cursor(3, NORIA_CURSOR_FREE);
    join(3);
    old = receivers[2];
    bury_receiver(3);
    join(3);
    noria_broadcast_leave_receiver(&old);
    noria_broadcast_leave_receiver(&old);
    assert_int_equal(noria_broadcast_find_cursor(&sender.shape, 3), receivers[2].life);
}

static void a_settled_receiver_is_told(void **state)
{
    /* Claim: a receiver that was settled for dead while it lived is told so, whoever has its cursor now. */
    struct noria_broadcast_receiver old;
    uint8_t bytes[LONGEST];
    size_t len;

    (void)state;
    for (int again = 0; again < 2; again++) {
        make_ring(NORIA_BROADCAST_EVICTING, 0);
        join(3);
        put_all(0, 5);
        old = receivers[2];
        bury_receiver(3);
        if (again)
            join(3);
        assert_int_equal(noria_broadcast_recv(&old, bytes, sizeof(bytes), &len), -EOWNERDEAD);
        assert_int_equal(old.sequence, 0);
    }
}

/* -------------------------------------------------------------------------------------------------- lossy */

static void a_lossy_receiver_counts_its_gaps(void **state)
{
    /* Claim: received + missed = sent, at any pace and wherever positions start; the receiver writes
     * nothing. */
    (void)state;
    for (unsigned s = 0; s < STARTS; s++)
        for (unsigned pace = 1; pace < 90; pace += 4) {
            uint64_t sent = starts[s], number = 0, got = 0, last = starts[s] - 1;
            uint8_t *copy;
            make_ring(NORIA_BROADCAST_LOSSY, starts[s]);
            copy = malloc(ring_size);
            join(1);
            for (int round = 0; round < 50; round++) {
                for (unsigned i = 0; i < pace; i++)
                    assert_int_equal(put(sent++), 0);
                memcpy(copy, ring, ring_size);
                assert_int_equal(take(1, &number), 0);
                assert_memory_equal(copy, ring, ring_size);
                assert_true((int64_t)(number - last) > 0);
                last = number;
                got++;
            }
            while (take(1, &number) == 0)
                got++;
            assert_int_equal(number + 1, sent);
            assert_int_equal(got + receivers[0].missed, sent - starts[s]);
            free(copy);
        }
}

/* ------------------------------------------------------------------------------------------------- deaths */

static void die(const void *word)
{
    (void)word;
    if (accesses_left-- == 0) {
        watch.busy = false;
        watch.before = NULL;
        longjmp(death, 1);
    }
}

static void send_and_die(uint64_t number, int at)
{
    uint8_t bytes[LONGEST];
    struct noria_broadcast_sender dying = sender;

    fill(bytes, number, length_of(number));
    accesses_left = at;
    if (setjmp(death) != 0)
        return;
    watch.before = die;
    noria_broadcast_send(&dying, bytes, length_of(number));
    watch.before = NULL;
}

static void join_and_die(int at)
{
    accesses_left = at;
    if (setjmp(death) != 0)
        return;
    watch.before = die;
    noria_broadcast_join_receiver(&receivers[0], ring, ring_size, 1, NORIA_BROADCAST_OLDEST, 0);
    watch.before = NULL;
}

static void a_dead_sender_has_a_successor(void **state)
{
    /* Claim: whichever access a sender dies in front of, its successor finds the end: the record under way is
     * there or not, all others are, and the marks fit. */
    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (uint64_t filled = 20; filled < 60; filled += 3)
            for (int at = 0; at < 40; at++) {
                uint64_t sent = 0, next = 0, number = 0;
                make_ring((enum noria_broadcast_mode)mode, 0);
                join(1);
                for (; sent < filled; sent++) {
                    assert_int_equal(put(sent), 0);
                    expect(1, sent);
                }
                next = sent;
                send_and_die(filled, at);
                succeed_sender();
                assert_true(sender.sequence == filled || sender.sequence == filled + 1);
                sent = sender.sequence;
                put_all(sent, sent + 5);
                sent += 5;
                join_at(2, NORIA_BROADCAST_OLDEST, 0);
                for (; next != sent; next++)
                    expect(1, next);
                assert_int_equal(take(2, &number), 0);
                while (++number != sent)
                    expect(2, number);
            }
}

static void a_dead_joiner_is_settled(void **state)
{
    /* Claim: a receiver that dies in front of any access of its join leaves a cursor that can be settled, and
     * then the sender goes on and the place can be taken again. */
    (void)state;
    for (int at = 0; at < 60; at++) {
        make_ring(NORIA_BROADCAST_RELIABLE, 0);
        put_all(0, 50);
        join_and_die(at);
        noria_broadcast_settle_cursor(&sender.shape, 1, noria_broadcast_find_cursor(&sender.shape, 1));
        put_all(50, 150);
        join(1);
        put_all(150, 151);
        expect(1, 150);
    }
}

static void a_settled_life_never_comes_back(void **state)
{
    /* Claim: a settler that comes too late, with the life of an earlier owner at the very same position,
     * frees nothing. */
    uint64_t life;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    life = noria_broadcast_find_cursor(&sender.shape, 1);
    bury_receiver(1);
    join(1);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, 1, life), 0);
    for (uint64_t i = 0; put(i) == 0; i++)
        assert_true(i < 100);
}

/* ------------------------------------------------------------------------------------------------ hostile */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static unsigned hostile_accesses;

/* Spoils the 8 bytes of which the accessed word, which may have 4, is a part. */
static void spoil(const void *accessed)
{
    uint64_t *word = (uint64_t *)((uintptr_t)accessed & ~(uintptr_t)7);

    hostile_accesses++;
    if (next_random() % 8 == 0)
        *word = next_random() % 3 == 0 ? next_random() : *word ^ UINT64_C(1) << next_random() % 64;
}

static void hostile_bytes_are_bounded(void **state)
{
    /* Claim: whatever stands in the ring, also when it changes in front of any access, calls end after a
     * bounded number of accesses with a result, and read and write nothing outside of it (the sanitizers
     * watch). */
    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[CAPACITY];
        size_t len;
        uint64_t records, all;
        int mode = round % 3;
        make_ring((enum noria_broadcast_mode)mode, starts[round % STARTS]);
        join(1);
        join(2);
        put_all(first, first + 8);
        for (int i = 0; i < 4; i++)
            ((uint64_t *)(void *)ring)[8 + next_random() % (ring_size / 8 - 8)] =
                next_random() % 2 ? next_random() : 1;
        hostile_accesses = 0;
        watch.before = spoil;
        for (int i = 0; i < 10; i++) {
            struct noria_broadcast_slowest slowest;
            noria_broadcast_send(&sender, bytes, next_random() % 100);
            noria_broadcast_find_slowest(&sender, &slowest);
            noria_broadcast_evict(&sender, &slowest);
            noria_broadcast_recv(&receivers[0], bytes, sizeof(bytes), &len);
            noria_broadcast_recv(&receivers[1], bytes, 10, &len);
        }
        noria_broadcast_count(&sender.shape, &records, &all);
        noria_broadcast_join_receiver(&receivers[2], ring, ring_size, 3,
                                      (enum noria_broadcast_start)(round % 4 % 3), next_random());
        noria_broadcast_join_sender(&sender, ring, ring_size, 2);
        noria_broadcast_leave_sender(&sender);
        noria_broadcast_join_sender(&sender, ring, ring_size, 2);
        watch.before = NULL;
        assert_true(hostile_accesses < 100000);
    }
}

/* In front of each access to one word, something happens. */
static const void *watched;
static int looks_so_far, looks_until, all_accesses;
static void (*intrusion)(void);

static void before_that_word(const void *word)
{
    all_accesses++;
    if (word == watched && (looks_until == 0 || ++looks_so_far == looks_until))
        intrusion();
}

/* At the n-th access, or (0) at each. */
static void intrude_on(const void *word, int at, void (*what)(void))
{
    watched = word;
    looks_until = at;
    looks_so_far = 0;
    all_accesses = 0;
    intrusion = what;
    watch.before = before_that_word;
}

static void another_sends_and_leaves(void)
{
    static struct noria_broadcast_sender other;

    assert_int_equal(noria_broadcast_join_sender(&other, ring, ring_size, 2), 0);
    assert_int_equal(noria_broadcast_send(&other, "", 0), 0);
    noria_broadcast_leave_sender(&other);
}

static void another_sends_on(void)
{
    static struct noria_broadcast_sender other;

    assert_int_equal(noria_broadcast_join_sender(&other, ring, ring_size, 2), 0);
}

static void roles_change(void)
{
    ring->sender += NORIA_BROADCAST_EPOCH;
}

static void there_is_one_sender(void **state)
{
    /* Claim: of two who want to send one does; whoever loses the swap to one who has left again takes the
     * role all the same; a word that changes in front of every swap ends the call after a counted number of
     * them. Nobody's role is not settled. */
    struct noria_broadcast_sender late;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 0), -EINVAL);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 0x10000), -EINVAL);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size - 1, 3), -EBADMSG);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 3), -EBUSY);
    noria_broadcast_leave_sender(&sender);
    assert_int_equal(noria_broadcast_settle_sender(ring, noria_broadcast_find_sender(ring)), 0);
    intrude_on(&ring->sender, 2, another_sends_and_leaves);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 3), 0);
    watch.before = NULL;
    assert_int_equal(late.sequence, 1);
    assert_false(late.taken_over);
    noria_broadcast_leave_sender(&late);
    intrude_on(&ring->sender, 2, another_sends_on);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 3), -EBUSY);
    watch.before = NULL;
    assert_int_equal(NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(ring)), 2);
    ring->sender &= ~(NORIA_BROADCAST_EPOCH - 1);
    intrude_on(&ring->sender, 0, roles_change);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 3), -EBUSY);
    watch.before = NULL;
    assert_true(all_accesses >= NORIA_BROADCAST_TRIES && all_accesses < 2 * NORIA_BROADCAST_TRIES);
    assert_int_equal(noria_broadcast_join_sender(&late, ring, ring_size, 3), 0);
}

static void five_joins(void)
{
    join(5);
}

static void two_joins(void)
{
    join(2);
}

static uint64_t falls_to;

static void most_owner_falls(void)
{
    ring->most_owner = falls_to ^= 1;
}

static void the_highest_owner_is_known(void **state)
{
    /* Claim: when two join at once the higher number stays, so that the sender looks at both cursors; a word
     * that falls in front of every swap is corrupt, after a counted number of them. */
    (void)state;
    for (int higher = 0; higher < 2; higher++)
        for (int at = 1; at <= 2; at++) { /* the look, the swap */
            make_ring(NORIA_BROADCAST_RELIABLE, 0);
            intrude_on(&ring->most_owner, at, higher ? five_joins : two_joins);
            join(3);
            watch.before = NULL;
            assert_int_equal(ring->most_owner, higher ? 5 : 3);
            put_all(0, 2);
            expect(3, 0);
            expect(higher ? 5 : 2, 0);
        }
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    intrude_on(&ring->most_owner, 0, most_owner_falls);
    assert_int_equal(try_to_join(5, NORIA_BROADCAST_NOW), -EBADMSG);
    watch.before = NULL;
    assert_true(all_accesses > 5 && all_accesses < 20);
    assert_int_equal(noria_broadcast_find_cursor(&sender.shape, 5), 0);
}

static void a_twin_joins(void)
{
    join(3);
}

static void a_number_is_one_receivers(void **state)
{
    /* Claim: of two who join with one number, one in front of whichever access of the other to its cursor,
     * one gets it and the other is told so, and does not disturb it. Numbers that are no owner's are
     * refused. */
    (void)state;
    for (int at = 1; at <= 3; at++) { /* two looks, the swap */
        make_ring(NORIA_BROADCAST_RELIABLE, 0);
        intrude_on(&sender.shape.cursors[2].life, at, a_twin_joins);
        assert_int_equal(try_to_join(3, NORIA_BROADCAST_NOW), -EBUSY);
        watch.before = NULL;
        assert_int_equal(looks_so_far, at);
        assert_int_equal(noria_broadcast_find_cursor(&sender.shape, 3), receivers[2].life);
        put_all(0, 3);
        expect(3, 0);
    }
    assert_int_equal(try_to_join(0, NORIA_BROADCAST_NOW), -EINVAL);
    assert_int_equal(try_to_join(OWNERS + 1, NORIA_BROADCAST_NOW), -EINVAL);
    ring->magic++;
    assert_int_equal(try_to_join(1, NORIA_BROADCAST_NOW), -EBADMSG);
    assert_int_equal(noria_broadcast_find_cursor(&sender.shape, 0), 0);
    assert_int_equal(noria_broadcast_find_cursor(&sender.shape, OWNERS + 1), 0);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, 0, NORIA_CURSOR_LIVE), 0);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, OWNERS + 1, NORIA_CURSOR_LIVE), 0);
    assert_int_equal(noria_broadcast_settle_cursor(&sender.shape, 6, 0), 0);
}

/* The sender goes round the ring once more, faster than anybody finds his place. */
static void kept_runs(void)
{
    ring->kept += CAPACITY;
}

static void kept_runs_and_it_is_evicted(void)
{
    uint64_t *life = &sender.shape.cursors[2].life;

    kept_runs();
    if (NORIA_CURSOR_STATE(*life) == NORIA_CURSOR_LIVE)
        *life = (*life & ~UINT64_C(3)) | NORIA_CURSOR_EVICTED;
}

static void who_never_finds_its_place_leaves_nothing(void **state)
{
    /* Claim: a join against a sender that is always ahead ends with -EAGAIN after a counted number of
     * accesses, and its cursor is free, also if it was evicted meanwhile: the number can be used again. */
    (void)state;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (int start = 0; start <= NORIA_BROADCAST_POSITION; start++)
            for (int evicted = 0; evicted <= (mode == NORIA_BROADCAST_EVICTING); evicted++) {
                make_ring((enum noria_broadcast_mode)mode, 0);
                put_all(0, 50);
                intrude_on(&ring->kept, 0, evicted ? kept_runs_and_it_is_evicted : kept_runs);
                assert_int_equal(try_to_join(3, (enum noria_broadcast_start)start), -EAGAIN);
                watch.before = NULL;
                assert_true(all_accesses < 100000);
                expect_cursor(3, NORIA_CURSOR_FREE);
                ring->kept = sender.kept;
                join(3);
                put_all(50, 51);
                expect(3, 50);
            }
}

/* As soon as it has a cursor it is evicted and lapped, again and again. */
static void evict_and_lap(void)
{
    static const uint8_t bytes[LONGEST];
    struct noria_broadcast_slowest slowest;

    if (NORIA_CURSOR_STATE(noria_broadcast_find_cursor(&sender.shape, 3)) == NORIA_CURSOR_FREE)
        return;
    for (int i = 0; i < 8; i++)
        if (noria_broadcast_send(&sender, bytes, sizeof(bytes)) == -EAGAIN) {
            noria_broadcast_find_slowest(&sender, &slowest);
            noria_broadcast_evict(&sender, &slowest);
        }
    check();
}

static void who_is_evicted_before_it_is_there_leaves_nothing(void **state)
{
    /* Claim: a receiver that is evicted and lapped again and again while it joins ends with -EAGAIN, and its
     * cursor is free: the number can be used again. */
    (void)state;
    make_ring(NORIA_BROADCAST_EVICTING, 0);
    put_all(0, 50);
    intrude_on(&ring->kept, 0, evict_and_lap);
    assert_int_equal(try_to_join(3, NORIA_BROADCAST_OLDEST), -EAGAIN);
    watch.before = NULL;
    assert_true(all_accesses < 1000000);
    expect_cursor(3, NORIA_CURSOR_FREE);
    assert_int_equal(try_to_join(3, NORIA_BROADCAST_NOW), 0);
}

static void who_loses_its_place_may_find_it_later(void **state)
{
    /* Claim: an evicted receiver that cannot catch up with the sender is told so after a counted number of
     * accesses, and when the sender has slowed down it goes on, and knows how many it missed. */
    struct noria_broadcast_slowest slowest;
    uint64_t n, number = 0;

    (void)state;
    for (int evicted = 0; evicted < 2; evicted++) {
        make_ring(NORIA_BROADCAST_EVICTING, 0);
        join(3);
        for (n = 0; put(n) == 0; n++)
            assert_true(n < 100);
        noria_broadcast_find_slowest(&sender, &slowest);
        assert_int_equal(noria_broadcast_evict(&sender, &slowest), 1);
        put_all(n, n + 50);
        intrude_on(&ring->kept, 0, evicted ? kept_runs_and_it_is_evicted : kept_runs);
        assert_int_equal(take(3, &number), -EAGAIN);
        watch.before = NULL;
        assert_true(all_accesses < 100000);
        ring->kept = sender.kept;
        assert_int_equal(take(3, &number), 0);
        assert_int_equal(receivers[2].missed, number);
        while (++number != n + 50)
            expect(3, number);
        expect_empty(3);
    }
}

static size_t room_asked_for;

/* With more room asked for than is used there are fewer chunks with records. */
static void lap_it(void)
{
    struct noria_broadcast_record record;

    for (int i = 0; i < 40; i++, join_sent++) {
        assert_int_equal(noria_broadcast_reserve(&sender, room_asked_for, &record), 0);
        noria_broadcast_copy_in(record.data, "                                                             ",
                                length_of(join_sent));
        assert_int_equal(noria_broadcast_commit(&sender, &record, length_of(join_sent)), 0);
    }
    check();
}

static int looks_from_lap, looks_left;

static void lap_it_at_times(void)
{
    if (looks_left-- != 0)
        return;
    looks_left = looks_from_lap;
    lap_it();
}

static void who_is_always_overtaken_gives_up(void **state)
{
    /* Claim: a lossy receiver that is lapped in front of each look whether it was, or also while it looks
     * where to go on, gives up after TRIES copies, without a record; later it goes on, and missed + received
     * is what was sent. */
    static const size_t rooms[] = {LONGEST, 400};
    uint8_t bytes[LONGEST];
    uint64_t got = 0;
    size_t len;

    (void)state;
    for (int i = 0; i < 4; i++) {
        make_ring(NORIA_BROADCAST_LOSSY, 0);
        join(1);
        join_sent = 0;
        room_asked_for = rooms[i % 2];
        looks_from_lap = i / 2 * 2; /* where to go on takes two */
        looks_left = 0;
        lap_it();
        intrude_on(&ring->kept, 0, lap_it_at_times);
        assert_int_equal(noria_broadcast_recv(&receivers[0], bytes, sizeof(bytes), &len), -EAGAIN);
        watch.before = NULL;
        assert_true(join_sent > 40 * NORIA_BROADCAST_TRIES);
        for (got = 0; noria_broadcast_recv(&receivers[0], bytes, sizeof(bytes), &len) == 0; got++)
            assert_int_equal(len, length_of(receivers[0].sequence - 1));
        assert_int_equal(receivers[0].missed + got, join_sent);
        assert_int_equal(receivers[0].sequence, join_sent);
    }
}

/* A pad as long as the whole ring at its start: who follows it walks for ever. */
static void make_endless_pad(void)
{
    uint64_t header = NORIA_BROADCAST_COMMITTED | NORIA_BROADCAST_PAD | CAPACITY;

    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    *noria_broadcast_word_at(&sender.shape, 0) = header;
}

static void endless_pads_are_not_followed(void **state)
{
    /* Claim: a pad that leads back to itself is corrupt: for a receiver, for who becomes one or the sender,
     * for who counts; and the role is free again. */
    struct noria_broadcast_receiver late;
    uint64_t records, bytes, number;

    (void)state;
    make_endless_pad();
    assert_false(noria_broadcast_invariant(ring, ring_size));
    assert_int_equal(take(1, &number), -EBADMSG);
    assert_int_equal(noria_broadcast_count(&sender.shape, &records, &bytes), -EBADMSG);
    for (int start = 0; start <= NORIA_BROADCAST_POSITION; start++) {
        int rc = noria_broadcast_join_receiver(&late, ring, ring_size, 3,
                                               (enum noria_broadcast_start)start, 9);
        assert_int_equal(rc, start == NORIA_BROADCAST_OLDEST ? 0 : -EBADMSG);
        noria_broadcast_leave_receiver(&late);
        expect_cursor(3, NORIA_CURSOR_FREE);
    }
    noria_broadcast_leave_sender(&sender);
    assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 2), -EBADMSG);
    assert_int_equal(NORIA_BROADCAST_OWNER(noria_broadcast_find_sender(ring)), 0);
    *noria_broadcast_word_at(&sender.shape, 0) = 0;
    assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 2), 0);
    assert_true(sender.taken_over);
}

static void headers_that_cannot_be_are_refused(void **state)
{
    /* Claim: a header without its mark of being whole, of another sequence, longer than the rest of the lap,
     * a pad that does not end with the lap, a second pad, or a record over what the receiver holds: -EBADMSG,
     * and the receiver stays where it is. */
    const uint64_t good = NORIA_BROADCAST_COMMITTED, one = NORIA_BROADCAST_ONE;
    struct noria_broadcast_record held, record;
    uint64_t *first_word, *second_word;

    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    join(1);
    assert_int_equal(noria_broadcast_send(&sender, "", 0), 0);
    assert_int_equal(noria_broadcast_peek(&receivers[0], &held), 0);
    first_word = noria_broadcast_word_at(&sender.shape, 0);
    second_word = noria_broadcast_word_at(&sender.shape, 8);
    for (int lie = 0; lie < 7; lie++) {
        uint64_t room = CAPACITY - 8;
        if (lie == 0)
            *second_word = one | 8;
        else if (lie == 1)
            *second_word = 2 * one | good | 8;
        else if (lie == 2)
            *second_word = one | good | room;
        else if (lie == 3)
            *second_word = one | good | NORIA_BROADCAST_PAD | (room - 8);
        else
            *second_word = one | good | NORIA_BROADCAST_PAD | room;
        if (lie == 4)
            *first_word = one | good | NORIA_BROADCAST_PAD | CAPACITY;
        else if (lie == 5)
            *first_word = one | good | 1; /* over the record that is held */
        else if (lie == 6)
            *first_word = 0;
        assert_int_equal(noria_broadcast_peek(&receivers[0], &record), -EBADMSG);
        assert_int_equal(receivers[0].position, 8);
        assert_int_equal(receivers[0].sequence, 1);
    }
    *second_word = 0;
    assert_int_equal(noria_broadcast_peek(&receivers[0], &record), -EAGAIN);
}

static void invariant_sees_damage(void **state)
{
    /* Claim: the invariant holds with records in all chunks, and sees a mark, a header or a word of line 2
     * that is not as a sender leaves it. */
    struct noria_broadcast whole;
    uint64_t *header, kept;

    (void)state;
    make_ring(NORIA_BROADCAST_LOSSY, 0);
    put_all(0, 70);
    whole = *ring;
    kept = ring->kept;
    for (uint64_t chunk = kept; chunk != ring->marked + CAPACITY / NORIA_BROADCAST_CHUNKS;
         chunk += CAPACITY / NORIA_BROADCAST_CHUNKS) {
        struct noria_broadcast_mark *mark = noria_broadcast_mark_of(&sender.shape, chunk);
        mark->position += 8;
        assert_false(noria_broadcast_invariant(ring, ring_size));
        mark->position -= 7;
        assert_false(noria_broadcast_invariant(ring, ring_size));
        mark->position--;
        mark->sequence++;
        assert_false(noria_broadcast_invariant(ring, ring_size));
        mark->sequence--;
        check();
    }
    ring->marked -= CAPACITY / NORIA_BROADCAST_CHUNKS;
    check(); /* as who dies before it announces its marks leaves it */
    ring->marked += 2 * CAPACITY / NORIA_BROADCAST_CHUNKS;
    assert_false(noria_broadcast_invariant(ring, ring_size));
    *ring = whole;
    header = noria_broadcast_word_at(&sender.shape, noria_broadcast_mark_of(&sender.shape, kept)->position);
    *header ^= NORIA_BROADCAST_COMMITTED;
    assert_false(noria_broadcast_invariant(ring, ring_size));
    *header ^= NORIA_BROADCAST_COMMITTED;
    check();
    *noria_broadcast_word_at(&sender.shape, sender.write_pos) = 1; /* I3 */
    assert_false(noria_broadcast_invariant(ring, ring_size));
    ring->magic++;
    assert_false(noria_broadcast_invariant(ring, ring_size));
}

static int looks_at_kept;

static void move_kept(const void *word)
{
    if (word == &ring->kept && ++looks_at_kept == 2)
        ring->kept += CAPACITY / NORIA_BROADCAST_CHUNKS;
}

static void a_sender_joins_a_whole_ring_only(void **state)
{
    /* Claim: if what is kept changes while a sender joins, which no sender did, the ring is corrupt: the
     * mark that was read is not believed. */
    (void)state;
    make_ring(NORIA_BROADCAST_RELIABLE, 0);
    noria_broadcast_leave_sender(&sender);
    ring->marks[0].position = CAPACITY - 1;
    looks_at_kept = 0;
    watch.before = move_kept;
    assert_int_equal(noria_broadcast_join_sender(&sender, ring, ring_size, 1), -EBADMSG);
    watch.before = NULL;
    assert_int_equal(looks_at_kept, 2);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(geometry_is_checked),
        TEST(everybody_gets_everything),
        TEST(the_slowest_holds_the_sender),
        TEST(without_receivers_nothing_is_held),
        TEST(latecomers_choose_where_to_begin),
        TEST(peeks_may_be_several),
        TEST(a_batch_appears_at_once),
        TEST(a_batch_never_overwrites_itself),
        TEST(records_have_a_largest_size),
        TEST(capacity_is_enough),
        TEST(capacity_has_an_end),
        TEST(what_was_not_reserved_is_refused),
        TEST(a_batch_and_a_record_go_together),
        TEST(releases_have_borders),
        TEST(records_are_held_over_the_end_of_a_lap),
        TEST(in_place_is_for_what_stays),
        TEST(asking_gives_nothing_away),
        TEST(a_slow_receiver_loses_nothing_by_questions),
        TEST(an_evicted_receiver_learns_how_many),
        TEST(a_receiver_overtaken_at_any_access_gets_whole_records),
        TEST(a_join_at_any_instant_is_a_join),
        TEST(a_join_during_a_send_holds_the_sender),
        TEST(only_who_holds_the_sender_up_is_evicted),
        TEST(who_leaves_frees_its_cursor),
        TEST(a_settled_receiver_is_told),
        TEST(a_lossy_receiver_counts_its_gaps),
        TEST(a_dead_sender_has_a_successor),
        TEST(a_dead_joiner_is_settled),
        TEST(a_settled_life_never_comes_back),
        TEST(hostile_bytes_are_bounded),
        TEST(a_sender_joins_a_whole_ring_only),
        TEST(there_is_one_sender),
        TEST(the_highest_owner_is_known),
        TEST(a_number_is_one_receivers),
        TEST(who_never_finds_its_place_leaves_nothing),
        TEST(who_is_evicted_before_it_is_there_leaves_nothing),
        TEST(who_loses_its_place_may_find_it_later),
        TEST(who_is_always_overtaken_gives_up),
        TEST(endless_pads_are_not_followed),
        TEST(headers_that_cannot_be_are_refused),
        TEST(invariant_sees_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
