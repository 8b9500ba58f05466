/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the SPSC ring. Each test states its claim in its first line; invariant() is asked after each
 * step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <watched_test.h>

#include <noria/spsc.h>

enum { CAPACITY = 256 };

static struct noria_spsc *ring;
static size_t ring_size;
static struct noria_spsc_producer producer;
static struct noria_spsc_consumer consumer;
static jmp_buf death;
static int accesses_left;
static int role_to_change;

/* Positions worth starting at: zero, and just below the wraps of 32 and of 64 bits. */
static const uint64_t starts[] = {0, (UINT64_C(1) << 32) - 40, UINT64_MAX - 39};

static void check(void)
{
    assert_true(noria_spsc_invariant(ring, ring_size));
}

static void make_ring(uint64_t capacity, uint64_t first_position)
{
    free(ring);
    ring_size = noria_spsc_footprint(capacity);
    ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
    assert_non_null(ring);
    memset(ring, 0xa5, ring_size); /* format must not depend on zeroed memory */
    assert_int_equal(noria_spsc_format(ring, ring_size, capacity, first_position), 0);
    check();
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 1), 0);
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 2), 0);
    check();
}

static int setup(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    make_ring(CAPACITY, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(ring);
    ring = NULL;
    return 0;
}

/* A record whose bytes tell its number. */
static int put(unsigned number, size_t len)
{
    struct noria_spsc_record record = {0};
    int rc = noria_spsc_reserve(&producer, len, &record);

    if (rc == 0) {
        assert_int_equal(record.len, len);
        assert_int_equal((uintptr_t)record.data & 7, 0);
        memset(record.data, (int)number & 0xff, len);
        assert_int_equal(noria_spsc_commit(&producer, &record, len), 0);
    }
    check();
    return rc;
}

static void verify(const struct noria_spsc_record *record, unsigned number, size_t len)
{
    assert_int_equal(record->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(((const uint8_t *)record->data)[i], number & 0xff);
}

static void expect(unsigned number, size_t len)
{
    struct noria_spsc_record record = {0};

    assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
    verify(&record, number, len);
    assert_int_equal(noria_spsc_release(&consumer, &record), 0);
    check();
}

static void expect_empty(void)
{
    struct noria_spsc_record record = {0};

    assert_int_equal(noria_spsc_peek(&consumer, &record), -EAGAIN);
}

static void bury(int role)
{
    uint64_t word = noria_spsc_find(ring, role);

    assert_int_not_equal(NORIA_SPSC_OWNER(word), 0);
    assert_int_equal(noria_spsc_settle(ring, role, word), 1);
    assert_int_equal(NORIA_SPSC_OWNER(noria_spsc_find(ring, role)), 0);
}

static void successor_of_producer(void)
{
    bury(NORIA_SPSC_PRODUCER);
    check();
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 3), 0);
    assert_true(producer.taken_over);
    check();
}

static void successor_of_consumer(void)
{
    bury(NORIA_SPSC_CONSUMER);
    check();
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 4), 0);
    assert_true(consumer.taken_over);
    check();
}

/* --------------------------------------------------------------------------------------------- geometry */

static void geometry_is_checked_by_format(void **state)
{
    /* Claim: footprint and format accept powers of two in range, in aligned memory that is large enough,
     * only. */
    uint8_t *memory = aligned_alloc(NORIA_CACHE_LINE, 1024);

    (void)state;
    assert_non_null(memory);
    assert_int_equal(noria_spsc_footprint(0), 0);
    assert_int_equal(noria_spsc_footprint(128), 0);
    assert_int_equal(noria_spsc_footprint(300), 0);
    assert_int_equal(noria_spsc_footprint(NORIA_SPSC_MAX_CAPACITY * 2), 0);
    assert_int_equal(noria_spsc_footprint(UINT64_MAX), 0);
    assert_int_equal(noria_spsc_footprint(256), 512);
    assert_int_equal(noria_spsc_format(memory, 1024, 300, 0), -EINVAL);
    assert_int_equal(noria_spsc_format(memory, 511, 256, 0), -EINVAL);
    assert_int_equal(noria_spsc_format(memory + 8, 1000, 256, 0), -EINVAL);
    assert_int_equal(noria_spsc_format(memory, 1024, 256, 4), -EINVAL);
    assert_int_equal(noria_spsc_format(memory, 512, 256, 8), 0);
    free(memory);
}

static void capacity_for_holds_what_it_says(void **state)
{
    /* Claim: a ring of capacity_for(n, len) takes n records of len, wherever the wheel stands, and refuses
     * nonsense. */
    static const uint64_t lengths[] = {0, 1, 8, 100, 1000};

    (void)state;
    assert_int_equal(noria_spsc_capacity_for(1, UINT64_C(1) << 33), 0);
    assert_int_equal(noria_spsc_capacity_for(UINT64_MAX, 8), 0);
    assert_int_equal(noria_spsc_capacity_for(NORIA_SPSC_MAX_CAPACITY / 16, 8), 0);
    for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
        for (uint64_t records = 1; records < 20; records += 3) {
            make_ring(noria_spsc_capacity_for(records, lengths[l]), 0);
            for (unsigned round = 0; round < 50; round++) {
                for (unsigned i = 0; i < records; i++)
                    assert_int_equal(put(i, lengths[l]), 0);
                for (unsigned i = 0; i < records; i++)
                    expect(i, lengths[l]);
                assert_int_equal(put(round, round % (lengths[l] + 1)), 0); /* shifts the wheel */
                expect(round, round % (lengths[l] + 1));
            }
        }
}

static void join_checks_memory_and_owner(void **state)
{
    /* Claim: join refuses memory that holds no whole ring, and owners that do not fit into a role word. */
    struct noria_spsc_producer p;
    struct noria_spsc_consumer c;
    uint64_t records, bytes;

    (void)state;
    noria_spsc_leave_producer(&producer);
    noria_spsc_leave_consumer(&consumer);
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 0), -EINVAL);
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 65536), -EINVAL);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 0), -EINVAL);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 65536), -EINVAL);
    assert_int_equal(noria_spsc_join_producer(&p, ring, 100, 1), -EBADMSG);
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size - 1, 1), -EBADMSG);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size - 1, 1), -EBADMSG);
    assert_int_equal(noria_spsc_join_consumer(&c, (uint8_t *)ring + 8, ring_size - 8, 1), -EBADMSG);
    ring->capacity = 300;
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 1), -EBADMSG);
    ring->capacity = CAPACITY;
    ring->magic++;
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 1), -EBADMSG);
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), -EBADMSG);
    ring->magic--;
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 65535), 0);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 65535), 0);
}

/* ------------------------------------------------------------------------------------------ FIFO, wraps */

static void records_come_out_as_they_went_in(void **state)
{
    /* Claim: records of all lengths come out in order and whole, over many laps, from each starting position.
     */
    (void)state;
    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        size_t most;
        make_ring(CAPACITY, starts[s]);
        most = noria_spsc_max_record(CAPACITY);
        for (unsigned i = 0, out = 0; i < 4000; i++) {
            while (put(i, (i * 7) % (most + 1)) == -EAGAIN) {
                expect(out, (out * 7) % (most + 1));
                out++;
            }
            if (i % 5 == 0)
                for (; out <= i; out++)
                    expect(out, (out * 7) % (most + 1));
        }
    }
}

static void longest_record_always_fits_an_empty_ring(void **state)
{
    /* Claim: at every offset an empty ring takes a record of max_record bytes, and no longer one is ever
     * taken. */
    size_t most = noria_spsc_max_record(CAPACITY);
    struct noria_spsc_record record = {0};

    (void)state;
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8) {
        make_ring(CAPACITY, UINT64_MAX - CAPACITY + 1 + offset);
        assert_int_equal(put(1, most), 0);
        expect(1, most);
        expect_empty();
        assert_int_equal(noria_spsc_reserve(&producer, most + 1, &record), -EMSGSIZE);
        assert_int_equal(noria_spsc_reserve(&producer, SIZE_MAX, &record), -EMSGSIZE);
        assert_int_equal(noria_spsc_reserve(&producer, UINT32_MAX, &record), -EMSGSIZE);
    }
}

static void full_ring_says_so_and_recovers(void **state)
{
    /* Claim: a ring takes (capacity - 8) / 16 records of 8 bytes, then -EAGAIN, and one more for each
     * released. */
    const unsigned fit = (CAPACITY - 8) / 16;

    (void)state;
    for (unsigned i = 0; i < fit; i++)
        assert_int_equal(put(i, 8), 0);
    assert_int_equal(put(99, 8), -EAGAIN);
    for (unsigned i = fit; i < 500; i++) {
        expect(i - fit, 8);
        assert_int_equal(put(i, 8), 0);
        assert_int_equal(put(99, 8), -EAGAIN);
    }
}

static void pads_keep_records_contiguous(void **state)
{
    /* Claim: a record that does not fit in front of the end stands at the start; the pad is never delivered.
     */
    struct noria_spsc_record record = {0};
    uint64_t records, bytes;

    (void)state;
    for (uint64_t rest = 8; rest <= 64; rest += 8) {
        make_ring(CAPACITY, CAPACITY - rest);
        assert_int_equal(noria_spsc_reserve(&producer, 100, &record), 0);
        assert_int_equal(record.position, CAPACITY);
        assert_ptr_equal(record.data, noria_spsc_data(ring) + 8);
        memset(record.data, 7, 100);
        assert_int_equal(noria_spsc_commit(&producer, &record, 100), 0);
        check();
        assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), 0);
        assert_int_equal(records, 1);
        assert_int_equal(bytes, 100);
        expect(7, 100);
        expect_empty();
    }
}

static void commit_may_be_shorter_than_reserved(void **state)
{
    /* Claim: what is committed short is delivered short, the rest is not lost, and longer than reserved is
     * -EINVAL. */
    struct noria_spsc_record record = {0};

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(noria_spsc_reserve(&producer, 100, &record), 0);
        assert_int_equal(noria_spsc_commit(&producer, &record, 101), -EINVAL);
        memset(record.data, (int)i, 100);
        assert_int_equal(noria_spsc_commit(&producer, &record, i % 101), 0);
        check();
        expect(i, i % 101);
    }
    expect_empty();
}

/* -------------------------------------------------------------------------------- batches, abort, order */

static void staged_records_appear_together(void **state)
{
    /* Claim: staged records stay unseen until publish and then all stand there, also across the end of the
     * data. */
    struct noria_spsc_record record = {0};

    (void)state;
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8) {
        make_ring(CAPACITY, offset);
        noria_spsc_publish(&producer); /* nothing staged: does nothing */
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(noria_spsc_reserve(&producer, 20 + i, &record), 0);
            memset(record.data, (int)i, 20 + i);
            assert_int_equal(noria_spsc_stage(&producer, &record, 20 + i), 0);
            expect_empty();
            check();
        }
        noria_spsc_publish(&producer);
        check();
        for (unsigned i = 0; i < 4; i++)
            expect(i, 20 + i);
        expect_empty();
    }
}

static void staged_records_die_with_the_producer(void **state)
{
    /* Claim: staged and unpublished records are gone when their producer leaves or dies, and hinder nobody.
     */
    struct noria_spsc_record record = {0};

    (void)state;
    for (int dies = 0; dies < 2; dies++)
        for (uint64_t offset = 0; offset < CAPACITY; offset += 8) {
            make_ring(CAPACITY, offset);
            assert_int_equal(put(1, 30), 0);
            for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(noria_spsc_reserve(&producer, 40, &record), 0);
                memset(record.data, 0x5a, 40);
                assert_int_equal(noria_spsc_stage(&producer, &record, 40), 0);
            }
            if (dies) {
                successor_of_producer();
            } else {
                noria_spsc_leave_producer(&producer);
                assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 9), 0);
                assert_false(producer.taken_over);
            }
            assert_int_equal(put(2, 50), 0);
            expect(1, 30);
            expect(2, 50);
            expect_empty();
        }
}

static void reservation_may_be_given_up(void **state)
{
    /* Claim: abort leaves no trace, a second reserve gives the same place, and a stale reservation is
     * -EINVAL. */
    struct noria_spsc_record first = {0}, second = {0};

    (void)state;
    assert_int_equal(noria_spsc_reserve(&producer, 10, &first), 0);
    assert_int_equal(noria_spsc_reserve(&producer, 20, &second), 0);
    assert_ptr_equal(first.data, second.data);
    noria_spsc_abort(&producer, &second);
    assert_null(second.data);
    check();
    expect_empty();
    assert_int_equal(put(1, 10), 0);
    assert_int_equal(noria_spsc_commit(&producer, &first, 10), -EINVAL);
    expect(1, 10);
    expect_empty();
}

static void releases_come_in_order(void **state)
{
    /* Claim: out of order, twice or after release_through is -EINVAL and changes nothing; through releases
     * all. */
    struct noria_spsc_record records[4] = {{0}};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(put(i, i), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(noria_spsc_peek(&consumer, &records[i]), 0);
        verify(&records[i], i, i);
    }
    expect_empty();
    assert_int_equal(noria_spsc_release(&consumer, &records[1]), -EINVAL);
    assert_int_equal(noria_spsc_release(&consumer, &records[0]), 0);
    check();
    assert_int_equal(noria_spsc_release(&consumer, &records[0]), -EINVAL);
    assert_int_equal(noria_spsc_release_through(&consumer, &records[0]), -EINVAL);
    assert_int_equal(noria_spsc_release_through(&consumer, &records[2]), 0);
    check();
    assert_int_equal(noria_spsc_release_through(&consumer, &records[1]), -EINVAL);
    assert_int_equal(noria_spsc_release(&consumer, &records[3]), 0);
    check();
    assert_int_equal(ring->read_pos, producer.write_pos);
}

static void copying_calls_move_bytes(void **state)
{
    /* Claim: send and recv copy whole records, empty ones included; a short buffer is -EMSGSIZE and loses
     * nothing. */
    char buffer[1000] = {0};
    size_t len = 77;

    (void)state;
    assert_int_equal(noria_spsc_recv(&consumer, buffer, sizeof(buffer), &len), -EAGAIN);
    assert_int_equal(len, 77);
    assert_int_equal(noria_spsc_send(&producer, "hello", 5), 0);
    assert_int_equal(noria_spsc_send(&producer, NULL, 0), 0);
    assert_int_equal(noria_spsc_send(&producer, buffer, sizeof(buffer)), -EMSGSIZE);
    check();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(noria_spsc_recv(&consumer, buffer, 4, &len), -EMSGSIZE);
        assert_int_equal(len, 5);
        check();
    }
    assert_int_equal(noria_spsc_recv(&consumer, buffer, 5, &len), 0);
    assert_int_equal(len, 5);
    assert_memory_equal(buffer, "hello", 5);
    assert_int_equal(noria_spsc_recv(&consumer, buffer, 0, &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(noria_spsc_recv(&consumer, buffer, sizeof(buffer), &len), -EAGAIN);
    while (noria_spsc_send(&producer, buffer, 40) == 0)
        check();
    assert_int_equal(noria_spsc_send(&producer, buffer, 40), -EAGAIN);
}

static void short_buffer_in_front_of_a_pad_loses_nothing(void **state)
{
    /* Claim: -EMSGSIZE on a record behind a pad leaves pad and record where they were. */
    char buffer[100];
    size_t len;

    (void)state;
    make_ring(CAPACITY, CAPACITY - 16);
    memset(buffer, 3, sizeof(buffer));
    assert_int_equal(noria_spsc_send(&producer, buffer, 100), 0);
    assert_int_equal(noria_spsc_recv(&consumer, buffer, 99, &len), -EMSGSIZE);
    assert_int_equal(len, 100);
    expect(3, 100);
    expect_empty();
}

/* ----------------------------------------------------------------------------------- roles, life, death */

static void each_role_has_one_owner(void **state)
{
    /* Claim: a second producer or consumer is -EBUSY until the first leaves; leaving cleanly is no takeover.
     */
    struct noria_spsc_producer p;
    struct noria_spsc_consumer c;

    (void)state;
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 3), -EBUSY);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 3), -EBUSY);
    noria_spsc_leave_producer(&producer);
    noria_spsc_leave_consumer(&consumer);
    check();
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 3), 0);
    assert_int_equal(noria_spsc_join_consumer(&c, ring, ring_size, 3), 0);
    assert_false(p.taken_over);
    assert_false(c.taken_over);
}

static void settle_needs_the_exact_word(void **state)
{
    /* Claim: settling works once per word; a stale word, an empty role and a late leave change nothing. */
    struct noria_spsc_producer old = producer;
    uint64_t word = noria_spsc_find(ring, NORIA_SPSC_PRODUCER);

    (void)state;
    assert_int_equal(NORIA_SPSC_OWNER(word), 1);
    assert_int_equal(noria_spsc_settle(ring, NORIA_SPSC_PRODUCER, word), 1);
    assert_int_equal(noria_spsc_settle(ring, NORIA_SPSC_PRODUCER, word), 0);
    assert_int_equal(noria_spsc_settle(ring, NORIA_SPSC_PRODUCER, noria_spsc_find(ring, NORIA_SPSC_PRODUCER)),
                     0);
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 1), 0);
    assert_int_equal(noria_spsc_settle(ring, NORIA_SPSC_PRODUCER, word),
                     0); /* same owner number, another life */
    noria_spsc_leave_producer(&old);
    assert_int_equal(NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_PRODUCER)), 1);
    assert_int_equal(put(1, 1), 0);
    expect(1, 1);
}

static void die_when_due(const void *word)
{
    (void)word;
    if (accesses_left-- == 0)
        longjmp(death, 1);
}

/* Runs `life`, killed in front of its access number `when`. False if it came to its end before that. */
static bool killed_at(int when, void (*life)(void))
{
    bool killed = true;

    watch.busy = false;
    accesses_left = when;
    watch.before = die_when_due;
    if (setjmp(death) == 0) {
        life();
        killed = false;
    }
    watch.before = NULL;
    watch.busy = false;
    return killed;
}

static void life_of_a_producer(void)
{
    struct noria_spsc_record record = {0};

    for (unsigned i = 0; i < 4; i++) {
        (void)noria_spsc_reserve(&producer, 40, &record);
        memset(record.data, (int)i, 40);
        (void)noria_spsc_stage(&producer, &record, 40);
        if (i % 2 == 1)
            noria_spsc_publish(&producer);
    }
    noria_spsc_leave_producer(&producer);
    (void)noria_spsc_join_producer(&producer, ring, ring_size, 1);
}

static void producer_may_die_anywhere(void **state)
{
    /* Claim: killed before any access, a producer leaves whole records in order, all published ones, and a
     * free role. */
    (void)state;
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8) {
        bool killed = true;
        for (int when = 0; killed; when++) {
            struct noria_spsc_record record = {0};
            unsigned count = 0;
            make_ring(CAPACITY, UINT64_MAX - CAPACITY + 1 + offset);
            killed = killed_at(when, life_of_a_producer);
            check();
            if (NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_PRODUCER)) != 0)
                bury(NORIA_SPSC_PRODUCER);
            assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 5), 0);
            for (; noria_spsc_peek(&consumer, &record) == 0; count++) {
                verify(&record, count, 40);
                assert_int_equal(noria_spsc_release(&consumer, &record), 0);
                check();
            }
            assert_int_equal(count % 2, 0); /* a batch is there or not */
            assert_true(killed || count == 4);
            assert_int_equal(put(9, 100), 0);
            expect(9, 100);
        }
    }
}

static unsigned released;

static void life_of_a_consumer(void)
{
    struct noria_spsc_record record = {0};

    for (released = 0; noria_spsc_peek(&consumer, &record) == 0; released++)
        (void)noria_spsc_release(&consumer, &record);
    noria_spsc_leave_consumer(&consumer);
    (void)noria_spsc_join_consumer(&consumer, ring, ring_size, 2);
}

static void consumer_may_die_anywhere(void **state)
{
    /* Claim: killed before any access, a consumer loses nothing: its successor begins at the first unreleased
     * record. */
    bool killed = true;

    (void)state;
    for (int when = 0; killed; when++) {
        make_ring(CAPACITY, CAPACITY - 80);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(put(i, 20), 0);
        killed = killed_at(when, life_of_a_consumer);
        check();
        if (NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_CONSUMER)) != 0)
            bury(NORIA_SPSC_CONSUMER);
        assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 5), 0);
        for (unsigned i = released; i < 5; i++)
            expect(i, 20);
        expect_empty();
    }
}

static void unreleased_records_are_read_again(void **state)
{
    /* Claim: records peeked by a dead consumer come again to its successor, who is told; full rings stay
     * full. */
    struct noria_spsc_record record = {0};

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(i, 30), 0);
    expect(0, 30);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
        verify(&record, i, 30);
    }
    successor_of_consumer();
    for (unsigned i = 1; i < 5; i++)
        expect(i, 30);
    expect_empty();
}

static void leaving_with_records_in_hand_is_told(void **state)
{
    /* Claim: a consumer that leaves with unreleased records makes its successor a taker-over, a clean one
     * does not. */
    struct noria_spsc_record record = {0};

    (void)state;
    assert_int_equal(put(1, 1), 0);
    assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
    noria_spsc_leave_consumer(&consumer);
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 2), 0);
    assert_true(consumer.taken_over);
    expect(1, 1);
    assert_int_equal(put(2, 2), 0);
    assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
    assert_int_equal(noria_spsc_release(&consumer, &record), 0);
    expect_empty();
}

static void warning_outlives_a_short_visitor(void **state)
{
    /* Claim: who takes over and leaves without releasing passes the warning on; once cleared by its user it
     * is gone. */
    struct noria_spsc_record record = {0};

    (void)state;
    assert_int_equal(put(1, 1), 0);
    assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
    successor_of_consumer();
    noria_spsc_leave_consumer(&consumer);
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 5), 0);
    assert_true(consumer.taken_over);
    expect(1, 1);
    consumer.taken_over = false;
    noria_spsc_leave_consumer(&consumer);
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 6), 0);
    assert_false(consumer.taken_over);
}

static void take_role_first(const void *word)
{
    struct noria_spsc_producer other;

    if (word != &ring->role[role_to_change] || accesses_left-- != 0)
        return;
    assert_int_equal(noria_spsc_join_producer(&other, ring, ring_size, 7), 0);
}

static void two_joining_producers_get_one_role(void **state)
{
    /* Claim: a producer that joins between another's look and its claim wins, and the other one gets -EBUSY.
     */
    struct noria_spsc_producer p;

    (void)state;
    noria_spsc_leave_producer(&producer);
    role_to_change = NORIA_SPSC_PRODUCER;
    accesses_left = 1; /* the look passes, the compare-and-swap meets the other */
    watch.before = take_role_first;
    assert_int_equal(noria_spsc_join_producer(&p, ring, ring_size, 8), -EBUSY);
    watch.before = NULL;
    assert_int_equal(NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_PRODUCER)), 7);
}

static void release_one_meanwhile(const void *word)
{
    struct noria_spsc_record record = {0};

    if (word == &ring->read_pos && accesses_left-- == 0) {
        assert_int_equal(noria_spsc_peek(&consumer, &record), 0);
        assert_int_equal(noria_spsc_release(&consumer, &record), 0);
    }
}

static void count_knows_when_it_was_overtaken(void **state)
{
    /* Claim: count says how many records and bytes there are, and -EAGAIN if the consumer moved meanwhile. */
    uint64_t records, bytes;

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(i, 10 + i), 0);
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), 0);
    assert_int_equal(records, 5);
    assert_int_equal(bytes, 60);
    accesses_left = 1;
    watch.before = release_one_meanwhile;
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), -EAGAIN);
    watch.before = NULL;
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), 0);
    assert_int_equal(records, 4);
}

static void release_all_meanwhile(const void *word)
{
    struct noria_spsc_record record = {0};

    if (word == &ring->read_pos)
        return;
    while (noria_spsc_peek(&consumer, &record) == 0)
        assert_int_equal(noria_spsc_release(&consumer, &record), 0);
}

static void producer_may_join_a_moving_ring(void **state)
{
    /* Claim: a producer that takes over while the consumer moves finds the same end of the records. */
    uint64_t end;

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(i, 40), 0);
    end = producer.write_pos;
    bury(NORIA_SPSC_PRODUCER);
    watch.before = release_all_meanwhile;
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 3), 0);
    watch.before = NULL;
    assert_int_equal(producer.write_pos, end);
    assert_int_equal(put(6, 90), 0);
    expect(6, 90);
}

/* ------------------------------------------------------------------------------------------- bad memory */

/* Puts `header` where the consumer looks next, and asks everybody. */
static void meet_header(uint64_t header)
{
    uint64_t records, bytes;
    struct noria_spsc_record record = {0};

    noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), consumer.read_pos & consumer.mask),
                          header);
    assert_int_equal(noria_spsc_peek(&consumer, &record), -EBADMSG);
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), -EBADMSG);
    assert_false(noria_spsc_invariant(ring, ring_size));
    bury(NORIA_SPSC_PRODUCER);
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 3), -EBADMSG);
    assert_int_equal(NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_PRODUCER)), 0);
}

static void impossible_headers_are_refused(void **state)
{
    /* Claim: a header that no producer wrote is -EBADMSG for consumer, successor and count, and frees the
     * role again. */
    static const uint64_t headers[] = {
        1,                                           /* not committed */
        NORIA_SPSC_COMMITTED | (CAPACITY - 15),      /* one byte too long for the offset */
        NORIA_SPSC_COMMITTED | UINT32_MAX,           /* as long as can be */
        NORIA_SPSC_COMMITTED | NORIA_SPSC_PAD,       /* a pad that leads nowhere */
        NORIA_SPSC_COMMITTED | NORIA_SPSC_PAD | 248, /* a pad that ends before the end */
        NORIA_SPSC_PAD | 256,                        /* a pad that is not committed */
        UINT64_MAX,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        make_ring(CAPACITY, 8 * CAPACITY + 8);
        noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), 8), 0);
        meet_header(headers[i]);
    }
}

static void record_behind_a_pad_is_checked(void **state)
{
    /* Claim: behind a valid pad only a record may stand: a zero, a second pad or a long one is -EBADMSG. */
    static const uint64_t headers[] = {0, NORIA_SPSC_COMMITTED | NORIA_SPSC_PAD | CAPACITY,
                                       NORIA_SPSC_COMMITTED | CAPACITY};
    struct noria_spsc_record record = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        make_ring(CAPACITY, CAPACITY - 64);
        noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), CAPACITY - 64),
                              NORIA_SPSC_COMMITTED | NORIA_SPSC_PAD | 64);
        noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), 0), headers[i]);
        assert_int_equal(noria_spsc_peek(&consumer, &record), -EBADMSG);
        assert_int_equal(consumer.peek_pos, CAPACITY - 64);
    }
}

static void endless_records_end(void **state)
{
    /* Claim: data full of headers with no zero among them stops the walk, and the consumer after one lap. */
    struct noria_spsc_record record = {0};
    uint64_t records, bytes;
    int peeked = 0;

    (void)state;
    for (uint64_t offset = 0; offset < CAPACITY; offset += 8)
        noria_store_relaxed64(noria_spsc_word_at(noria_spsc_data(ring), offset), NORIA_SPSC_COMMITTED);
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), -EBADMSG);
    while (noria_spsc_peek(&consumer, &record) == 0)
        peeked++;
    assert_int_equal(noria_spsc_peek(&consumer, &record), -EBADMSG);
    assert_true(peeked <= CAPACITY / 8);
}

static void impossible_read_positions_are_refused(void **state)
{
    /* Claim: a read position that is unaligned or out of reach is -EBADMSG for joiners, producer and count.
     */
    struct noria_spsc_record record = {0};
    uint64_t records, bytes;

    (void)state;
    while (put(1, 8) == 0)
        continue;
    noria_store_relaxed64(&ring->read_pos, producer.write_pos + 8);
    assert_int_equal(noria_spsc_reserve(&producer, 8, &record), -EBADMSG);
    noria_store_relaxed64(&ring->read_pos, UINT64_C(0) - 4096);
    assert_int_equal(noria_spsc_reserve(&producer, 8, &record), -EBADMSG);
    noria_store_relaxed64(&ring->read_pos, 4);
    assert_int_equal(noria_spsc_count(ring, ring_size, &records, &bytes), -EBADMSG);
    bury(NORIA_SPSC_PRODUCER);
    bury(NORIA_SPSC_CONSUMER);
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 3), -EBADMSG);
    assert_int_equal(noria_spsc_join_consumer(&consumer, ring, ring_size, 3), -EBADMSG);
    assert_int_equal(NORIA_SPSC_OWNER(noria_spsc_find(ring, NORIA_SPSC_CONSUMER)), 0);
}

/* --------------------------------------------------------------------------------------------- back-off */

static void back_off_tells_streams_from_talk(void **state)
{
    /* Claim: pauses double up to the most while tries fail after many steps, are one while talking, and halve when
     * idle. */
    (void)state;
    noria_spsc_wait_producer(&producer);
    assert_int_equal(producer.backoff.pauses, 1);
    for (unsigned round = 0; round < 10; round++) {
        while (put(round, 8) == 0)
            continue;
        noria_spsc_wait_producer(&producer);
        for (unsigned i = 0; i < (CAPACITY - 8) / 16; i++)
            expect(round, 8);
        noria_spsc_wait_consumer(&consumer);
    }
    assert_int_equal(producer.backoff.pauses, NORIA_SPSC_BACKOFF);
    assert_int_equal(consumer.backoff.pauses, NORIA_SPSC_BACKOFF);
    noria_spsc_wait_producer(&producer);
    assert_int_equal(producer.backoff.pauses, NORIA_SPSC_BACKOFF / 2);
    assert_int_equal(put(1, 8), 0);
    noria_spsc_wait_producer(&producer);
    assert_int_equal(producer.backoff.pauses, 1);
}

/* Takes turns with oneself: `turn` records of `size` bytes, then tries that fail. The longest pause of the consumer. */
static uint64_t longest_pause(size_t size, unsigned turn)
{
    uint64_t longest = 0;

    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < turn; i++)
            assert_int_equal(put(round, size), 0);
        for (unsigned i = 0; i < turn; i++)
            expect(round, size);
        for (unsigned i = 0; i < 3; i++) {
            noria_spsc_wait_consumer(&consumer);
            if (consumer.backoff.pauses > longest)
                longest = consumer.backoff.pauses;
        }
    }
    return longest;
}

static void back_off_counts_records_not_bytes(void **state)
{
    /* Claim: whoever gets one record at a time pauses once, however long the record; whoever gets two at a time
     * never pauses for longer than eight. */
    static const size_t sizes[] = {0, 8, 24, 56}; /* these need no pads, which count */

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make_ring(CAPACITY, 0);
        assert_int_equal(longest_pause(sizes[i], 1), 1);
        assert_true(longest_pause(sizes[i], 2) <= NORIA_BACKOFF_STREAM);
    }
}

static int changes_of_role;

static void role_changes(const void *word)
{
    if (word == &ring->role[NORIA_SPSC_PRODUCER]) {
        ring->role[NORIA_SPSC_PRODUCER] += NORIA_SPSC_EPOCH; /* somebody took it, and left again */
        changes_of_role++;
    }
}

static void restless_roles_end_the_join(void **state)
{
    /* Claim: a role that changes hands in front of every swap ends a join after a counted number of swaps;
     * when it rests, it can be had. */
    (void)state;
    noria_spsc_leave_producer(&producer);
    changes_of_role = 0;
    watch.before = role_changes;
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 1), -EBUSY);
    watch.before = NULL;
    assert_true(changes_of_role >= NORIA_SPSC_TRIES && changes_of_role < 2 * NORIA_SPSC_TRIES);
    assert_int_equal(noria_spsc_join_producer(&producer, ring, ring_size, 1), 0);
    assert_int_equal(put(1, 1), 0);
    expect(1, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(geometry_is_checked_by_format),
        TEST(capacity_for_holds_what_it_says),
        TEST(join_checks_memory_and_owner),
        TEST(records_come_out_as_they_went_in),
        TEST(longest_record_always_fits_an_empty_ring),
        TEST(full_ring_says_so_and_recovers),
        TEST(pads_keep_records_contiguous),
        TEST(commit_may_be_shorter_than_reserved),
        TEST(staged_records_appear_together),
        TEST(staged_records_die_with_the_producer),
        TEST(reservation_may_be_given_up),
        TEST(releases_come_in_order),
        TEST(copying_calls_move_bytes),
        TEST(short_buffer_in_front_of_a_pad_loses_nothing),
        TEST(each_role_has_one_owner),
        TEST(settle_needs_the_exact_word),
        TEST(producer_may_die_anywhere),
        TEST(consumer_may_die_anywhere),
        TEST(unreleased_records_are_read_again),
        TEST(leaving_with_records_in_hand_is_told),
        TEST(warning_outlives_a_short_visitor),
        TEST(two_joining_producers_get_one_role),
        TEST(count_knows_when_it_was_overtaken),
        TEST(producer_may_join_a_moving_ring),
        TEST(impossible_headers_are_refused),
        TEST(record_behind_a_pad_is_checked),
        TEST(endless_records_end),
        TEST(impossible_read_positions_are_refused),
        TEST(back_off_tells_streams_from_talk),
        TEST(restless_roles_end_the_join),
        TEST(back_off_counts_records_not_bytes),
    };
#undef TEST
    return cmocka_run_group_tests_name("spsc", tests, NULL, NULL);
}
