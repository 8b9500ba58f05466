/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the MPMC ring in which calls meet in the middle: a victim is stopped or killed in front of each
 * access to the ring, one after the other, and others run meanwhile. The ledger watches every word. Each test
 * states its claim.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <watched_test.h>

#include <noria/mpmc.h>

#include <mpmc_ledger_test.h>

enum { VICTIM = 1, SENDER = 2, RECEIVER = 3, SETTLER = 4, OWNERS = 5, BATCH = 6 };

static struct noria_mpmc *ring;
static size_t ring_size;
static struct noria_mpmc_handle handles[OWNERS + 1];
static struct noria_mpmc_handle *const victim = &handles[VICTIM];
static struct noria_mpmc_handle *const sender = &handles[SENDER];
static struct noria_mpmc_handle *const receiver = &handles[RECEIVER];
static struct noria_mpmc_handle *const settler = &handles[SETTLER];

static jmp_buf death;
static int accesses_left;
static void (*intrusion)(void);
static bool victim_was_settled;
static int intrusions_so_far;
static bool announcement_is_due; /* the victim may stand between making an orphan and saying so */

static const struct noria_mpmc_config plain = {.capacity = 4,
                                               .slots = 8,
                                               .first_position = (UINT64_C(1) << 48) - 12,
                                               .max_message = 24,
                                               .pack = 1,
                                               .owners = OWNERS,
                                               .max_held = 1};
static const struct noria_mpmc_config packing = {.capacity = 4,
                                                 .slots = 16,
                                                 .first_position = UINT64_MAX - 12,
                                                 .max_message = 24,
                                                 .pack = 3,
                                                 .owners = OWNERS,
                                                 .max_held = 1};

static void ledger_broken(const char *claim)
{
    fail_msg("broken: %s", claim);
    abort();
}

static void make_ring(const struct noria_mpmc_config *config)
{
    memset(&watch, 0, sizeof(watch));
    free(ring);
    ring_size = noria_mpmc_footprint(config);
    ring = aligned_alloc(NORIA_CACHE_LINE, (ring_size + 63) & ~(size_t)63);
    assert_non_null(ring);
    assert_int_equal(noria_mpmc_format(ring, ring_size, config), 0);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        assert_int_equal(noria_mpmc_join(&handles[owner], ring, ring_size, owner), 0);
    ledger_open(ring, ring_size);
    watch.changed = ledger_changed;
    victim_was_settled = false;
    announcement_is_due = false;
}

static int teardown(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    ledger_close();
    free(ring);
    ring = NULL;
    return 0;
}

static void check(void)
{
    assert_true(noria_mpmc_invariant(ring, ring_size));
}

/* ----------------------------------------------------------------------- calls whose answers are judged */

/* What was true at the start of a call, to judge a "full" or an "empty" by. */
struct witness {
    uint64_t empty, full;
    int intrusions;
    bool empty_now, full_now;
};

static struct witness look(void)
{
    struct witness witness = {ledger.times_empty, ledger.times_full, intrusions_so_far, ledger.committed == 0,
                              ledger.committed >= ledger.view.capacity || !ledger_has_free_slot()};
    return witness;
}

static void judge_send(const struct witness *before, int rc)
{
    if (rc == -EAGAIN)
        assert_true(before->full_now || ledger.times_full != before->full);
    else
        assert_true(rc >= 0 || (rc == -EOWNERDEAD && victim_was_settled));
}

static void judge_recv(const struct witness *before, int rc)
{
    if (rc == -EAGAIN)
        assert_true(before->empty_now || ledger.times_empty != before->empty);
    if (rc == -EAGAIN && before->intrusions == intrusions_so_far && !announcement_is_due)
        assert_int_equal(ledger.orphaned, 0);
    if (rc != -EAGAIN)
        assert_true(rc >= 0 || (rc == -EOWNERDEAD && victim_was_settled));
}

static int send_one(struct noria_mpmc_handle *h)
{
    static uint64_t number;
    struct witness before = look();
    int rc = noria_mpmc_send(h, &number, sizeof(number));

    number++;
    judge_send(&before, rc);
    return rc;
}

static int recv_one(struct noria_mpmc_handle *h)
{
    struct noria_mpmc_record record = {0};
    struct witness before = look();
    int rc = noria_mpmc_peek(h, &record);

    judge_recv(&before, rc);
    if (rc != 0)
        return rc;
    if (!victim_was_settled)
        ledger_check_peeked(h, &record);
    rc = noria_mpmc_release(h, &record);
    assert_true(rc == 0 || (rc == -EOWNERDEAD && h == victim && victim_was_settled));
    return rc;
}

static void turn(int n)
{
    for (int i = 0; i < n; i++) {
        (void)send_one(sender);
        (void)recv_one(receiver);
    }
}

static void bury(uint32_t owner)
{
    uint64_t index = 0, word = 0;

    while (noria_mpmc_find(settler, owner, &index, &word) == 1) {
        assert_int_equal(noria_mpmc_settle(settler, index, word), 1);
        check();
    }
    noria_mpmc_announce(settler);
}

/* Who lives and has finished its calls names no slot. */
static void expect_nothing_held(uint32_t owner)
{
    uint64_t index = 0, word = 0;

    assert_int_equal(noria_mpmc_find(settler, owner, &index, &word), 0);
}

/* Nothing is lost, nothing is left over, and the whole capacity is there. */
static void expect_good_end(void)
{
    check();
    while (recv_one(receiver) == 0)
        continue;
    assert_int_equal(ledger.committed, 0);
    assert_int_equal(ledger.orphaned, 0);
    assert_int_equal(ledger.commits, ledger.takes);
    assert_int_equal(ledger.takes, ledger.releases);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < ledger.view.capacity; i++)
            assert_int_equal(send_one(sender), 0);
        assert_int_equal(send_one(sender), -EAGAIN);
        for (uint64_t i = 0; i < ledger.view.capacity; i++)
            assert_int_equal(recv_one(receiver), 0);
        assert_int_equal(recv_one(receiver), -EAGAIN);
    }
    check();
}

/* ----------------------------------------------------------------------------------- what a victim does */

static void victim_sends(void)
{
    (void)send_one(victim);
    (void)send_one(victim);
}

static void victim_sends_many(void)
{
    uint8_t bytes[BATCH][24] = {{0}};
    struct iovec vectors[BATCH];
    struct witness before = look();

    for (int i = 0; i < BATCH; i++) {
        memset(bytes[i], i, sizeof(bytes[i]));
        vectors[i] = (struct iovec){bytes[i], (size_t)(i * 5 % 25)};
    }
    judge_send(&before, noria_mpmc_send_many(victim, vectors, BATCH));
}

static void victim_reserves(void)
{
    struct noria_mpmc_record record = {0};
    struct witness before = look();
    int rc = noria_mpmc_reserve(victim, &record);

    judge_send(&before, rc);
    if (rc != 0)
        return;
    memset(record.data, 7, record.len);
    rc = noria_mpmc_commit(victim, &record, record.len);
    assert_true(rc == 0 || (rc == -EOWNERDEAD && victim_was_settled));
}

static void victim_aborts(void)
{
    struct noria_mpmc_record record = {0};

    if (noria_mpmc_reserve(victim, &record) == 0) {
        int rc = noria_mpmc_abort(victim, &record);
        assert_true(rc == 0 || (rc == -EOWNERDEAD && victim_was_settled));
    }
}

static void victim_receives(void)
{
    (void)recv_one(victim);
    (void)recv_one(victim);
}

static void victim_receives_many(void)
{
    uint8_t bytes[BATCH][24];
    struct iovec vectors[BATCH];
    struct witness before = look();

    for (int i = 0; i < BATCH; i++)
        vectors[i] = (struct iovec){bytes[i], sizeof(bytes[i])};
    judge_recv(&before, noria_mpmc_recv_many(victim, vectors, BATCH));
}

static void victim_settles(void)
{
    uint64_t index = 0, word = 0;

    announcement_is_due = true;
    while (noria_mpmc_find(victim, OWNERS, &index, &word) == 1)
        (void)noria_mpmc_settle(victim, index, word);
    noria_mpmc_announce(victim);
    announcement_is_due = false;
}

static void (*const lives[])(void) = {victim_sends,    victim_sends_many,    victim_reserves, victim_aborts,
                                      victim_receives, victim_receives_many, victim_settles};
enum { LIVES = sizeof(lives) / sizeof(lives[0]) };

/* ----------------------------------------------------------------------------- what others do meanwhile */

static void others_move_a_little(void)
{
    turn(1);
}

static void others_move_for_laps(void)
{
    turn(21);
}

static void others_fill_the_ring(void)
{
    while (send_one(sender) == 0)
        continue;
}

static void others_empty_the_ring(void)
{
    while (recv_one(receiver) == 0)
        continue;
}

static void others_settle_the_victim(void)
{
    victim_was_settled = true;
    bury(VICTIM);
    turn(2);
}

static void others_settle_what_is_dead(void)
{
    bury(OWNERS);
    others_empty_the_ring();
}

static void others_settle_and_leave_it(void)
{
    bury(OWNERS);
}

/* The wheel turns without a record: senders step over whoever stands in the way, orphans too. */
static void others_reserve_and_abort(void)
{
    struct noria_mpmc_record record = {0};

    for (uint64_t i = 0; i < 2 * (ledger.view.mask + 1) && noria_mpmc_reserve(sender, &record) == 0; i++)
        assert_int_equal(noria_mpmc_abort(sender, &record), 0);
}

static void others_settle_and_abort(void)
{
    bury(OWNERS);
    others_reserve_and_abort();
}

static void (*const intrusions[])(void) = {
    others_move_a_little,       others_move_for_laps,     others_fill_the_ring,
    others_empty_the_ring,      others_settle_the_victim, others_settle_what_is_dead,
    others_settle_and_leave_it, others_reserve_and_abort, others_settle_and_abort};
enum { INTRUSIONS = sizeof(intrusions) / sizeof(intrusions[0]) };

static void act_when_due(const void *word)
{
    if ((uintptr_t)word - (uintptr_t)ring >= ring_size || accesses_left-- != 0)
        return;
    watch.busy = false; /* the ledger watches the others as well */
    if (intrusion == NULL)
        longjmp(death, 1);
    watch.before = NULL;
    intrusions_so_far++;
    intrusion();
}

/* Lets the victim live; in front of its access `when` it dies (intrusion NULL) or others run. True if it got
 * so far. */
static bool live_until(int when, void (*life)(void))
{
    watch.busy = false;
    accesses_left = when;
    watch.before = act_when_due;
    if (setjmp(death) == 0)
        life();
    watch.before = NULL;
    watch.busy = false;
    return accesses_left < 0;
}

/* A ring some way round, with `filled` records in it, and a dead writer, a dead reader or an orphan if asked
 * for. */
static void prepare(const struct noria_mpmc_config *config, uint64_t filled, int dead)
{
    struct noria_mpmc_record record = {0};

    make_ring(config);
    turn(3);
    if (dead >= 2)
        assert_int_equal(send_one(sender), 0);
    if (dead == 1)
        assert_int_equal(noria_mpmc_reserve(&handles[OWNERS], &record), 0);
    if (dead >= 2)
        assert_int_equal(noria_mpmc_peek(&handles[OWNERS], &record), 0);
    if (dead == 3)
        bury(OWNERS);
    for (uint64_t i = 0; i < filled; i++)
        assert_int_equal(send_one(sender), 0);
}

/* How much fuller the ring is from one round to the next; NORIA_LONG=1: by one record. */
static uint64_t fill_step(uint64_t usual)
{
    return getenv("NORIA_LONG") != NULL ? 1 : usual;
}

static void victim_may_die_anywhere(void **state)
{
    /* Claim: a victim killed in front of any access costs at most its own half-done record, once it is
     * settled. */
    static const struct noria_mpmc_config *const configs[] = {&plain, &packing};
    int deaths = 0;

    (void)state;
    intrusion = NULL;
    for (int c = 0; c < 2; c++)
        for (uint64_t filled = 0; filled <= configs[c]->capacity; filled += fill_step(c == 0 ? 1 : 2))
            for (int dead = 0; dead < 4; dead++)
                for (int life = 0; life < LIVES; life++) {
                    bool died = true;
                    for (int when = 0; died; when++) {
                        prepare(configs[c], filled, dead);
                        died = live_until(when, lives[life]);
                        check();
                        turn(when % 11); /* nobody waits for the funeral */
                        bury(VICTIM);
                        bury(OWNERS);
                        announcement_is_due = false;
                        expect_good_end();
                        deaths++;
                    }
                }
    print_message("%d deaths\n", deaths);
}

static void victim_may_be_stopped_anywhere(void **state)
{
    /* Claim: whatever others do in front of any access of a victim, its call ends well, and FIFO and capacity
     * hold. */
    static const struct noria_mpmc_config *const configs[] = {&plain, &packing};
    int stops = 0;

    (void)state;
    for (int c = 0; c < 2; c++)
        for (uint64_t filled = 0; filled <= configs[c]->capacity; filled += fill_step(c == 0 ? 2 : 4))
            for (int dead = 0; dead < 4; dead++)
                for (int life = 0; life < LIVES; life++)
                    for (int i = 0; i < INTRUSIONS; i++) {
                        bool stopped = true;
                        for (int when = 0; stopped; when++) {
                            intrusion = intrusions[i];
                            prepare(configs[c], filled, dead);
                            stopped = live_until(when, lives[life]);
                            check();
                            bury(OWNERS);
                            expect_nothing_held(VICTIM);
                            expect_good_end();
                            stops++;
                        }
                    }
    print_message("%d stops\n", stops);
}

static void stopped_writers_may_be_stepped_over_anywhere(void **state)
{
    /* Claim: a late commit may be stopped in front of each access, in each place of the wheel, and still is
     * in order. */
    (void)state;
    for (int i = 0; i < INTRUSIONS; i++)
        for (int asleep = 0; asleep < 18; asleep++) {
            bool stopped = true;
            for (int when = 0; stopped; when++) {
                struct noria_mpmc_record record = {0};
                int rc;
                prepare(&plain, 0, 0);
                assert_int_equal(noria_mpmc_reserve(victim, &record), 0);
                turn(asleep);
                watch.before = act_when_due;
                intrusion = intrusions[i];
                accesses_left = when;
                rc = noria_mpmc_commit(victim, &record, 8);
                watch.before = NULL;
                stopped = accesses_left < 0;
                assert_true(rc == 0 || (rc == -EOWNERDEAD && victim_was_settled));
                expect_nothing_held(VICTIM);
                expect_good_end();
            }
        }
}

/* ----------------------------------------------------------------------------- no end to the contention */

static void pass_the_writer(const void *word)
{
    uint64_t value;

    if ((uintptr_t)word < (uintptr_t)ledger.view.slots || (uintptr_t)word - (uintptr_t)ring >= ring_size)
        return;
    if (((uintptr_t)word - (uintptr_t)ledger.view.slots) % ledger.view.slot_size != 0)
        return;
    value = *(const uint64_t *)word;
    if (NORIA_MPMC_KIND(value) != NORIA_MPMC_WRITING || NORIA_MPMC_OWNER(value) != VICTIM)
        return;
    watch.before = NULL;
    watch.busy = false;
    turn(1);
    watch.before = pass_the_writer;
}

static void unlucky_commit_gives_up_and_may_be_repeated(void **state)
{
    /* Claim: a commit that is overtaken at every look ends with -EAGAIN, keeps its reservation, and works
     * later. */
    struct noria_mpmc_record record = {0};

    (void)state;
    make_ring(&plain);
    assert_int_equal(noria_mpmc_reserve(victim, &record), 0);
    memset(record.data, 9, 24);
    watch.before = pass_the_writer;
    assert_int_equal(noria_mpmc_commit(victim, &record, 24), -EAGAIN);
    watch.before = NULL;
    check();
    assert_int_equal(noria_mpmc_commit(victim, &record, 24), 0);
    expect_good_end();
}

static void unlucky_send_leaves_nothing(void **state)
{
    /* Claim: send and send_many that are overtaken at every look end with -EAGAIN and leave no reservation.
     */
    uint64_t index = 0, word = 0;
    struct iovec vector = {"abc", 3};

    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        make_ring(packed ? &packing : &plain);
        watch.before = pass_the_writer;
        assert_int_equal(noria_mpmc_send(victim, "abc", 3), -EAGAIN);
        assert_int_equal(noria_mpmc_send_many(victim, &vector, 1), -EAGAIN);
        watch.before = NULL;
        index = 0;
        assert_int_equal(noria_mpmc_find(settler, VICTIM, &index, &word), 0);
        expect_good_end();
    }
}

static struct noria_mpmc_record held[7];

/* In front of the last look of a sender around the wheel: all slots are moved under its feet, and one is
 * always free. */
static void free_what_was_seen_taken(const void *word)
{
    if (word != noria_mpmc_state_at(victim, 7) || accesses_left-- != 0)
        return;
    watch.before = NULL;
    watch.busy = false;
    for (int i = 1; i < 7; i++) {
        assert_int_equal(noria_mpmc_release(settler, &held[i]), 0);
        assert_int_equal(send_one(sender), 0);
    }
    assert_int_equal(recv_one(receiver), 0);
    assert_int_equal(send_one(sender), 0);
}

static void moving_room_is_not_missed(void **state)
{
    /* Claim: a sender is not told "full" while a slot is free at every instant, even if never where it looks.
     */
    struct noria_mpmc_config config = plain;

    (void)state;
    config.capacity = 8;
    config.first_position = 0;
    make_ring(&config);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(send_one(sender), 0);
        assert_int_equal(noria_mpmc_peek(settler, &held[i]), 0);
    }
    turn(1);
    accesses_left = 1; /* the walk to the first unclaimed position comes by once */
    watch.before = free_what_was_seen_taken;
    assert_int_equal(send_one(victim), 0);
    assert_null(watch.before);
    assert_int_equal(noria_mpmc_release(settler, &held[0]), 0);
    expect_good_end();
}

static struct noria_mpmc_record half_done;

/* In front of the count's look at the last of four positions, of which three hold a record and one is being
 * written. */
static void take_one_and_commit_one(const void *word)
{
    if (word != noria_mpmc_state_at(victim, plain.first_position + 3) || accesses_left-- != 0)
        return;
    watch.before = NULL;
    watch.busy = false;
    assert_int_equal(recv_one(receiver), 0);
    assert_int_equal(noria_mpmc_commit(settler, &half_done, 8), 0);
}

static void full_is_true_at_one_instant(void **state)
{
    /* Claim: records that were never there together are not added up to a full ring. */
    (void)state;
    make_ring(&plain);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send_one(sender), 0);
    assert_int_equal(noria_mpmc_reserve(settler, &half_done), 0);
    memset(half_done.data, 0, 8);
    accesses_left = 1; /* the walk to the first unclaimed position comes by once */
    watch.before = take_one_and_commit_one;
    assert_int_equal(send_one(victim), 0);
    assert_null(watch.before);
    expect_good_end();
}

static uint64_t *restless_word;
static uint64_t restless_step;

/* A hostile peer that changes one word in front of every access to it. */
static void change_the_word(const void *word)
{
    if (word == restless_word)
        *restless_word += restless_step;
}

static void restless_words_end_every_call(void **state)
{
    /* Claim: a word that changes at every look ends each call with -EAGAIN, -EBADMSG or -EOWNERDEAD, in
     * bounded time. */
    static const uint64_t steps[] = {UINT64_C(1) << NORIA_MPMC_LAP_SHIFT, 1, 8, UINT64_C(1) << 47};
    struct noria_mpmc_record record = {0};

    (void)state;
    for (int target = 0; target < 4; target++)
        for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++)
            for (int call = 0; call < 5; call++) {
                int rc = 0;
                make_ring(&plain);
                turn(3);
                if (call == 1 || call == 2)
                    assert_int_equal(noria_mpmc_reserve(victim, &record), 0);
                if (call == 4) {
                    assert_int_equal(send_one(sender), 0);
                    assert_int_equal(noria_mpmc_peek(victim, &record), 0);
                }
                watch.changed = NULL;
                watch.before = change_the_word;
                restless_step = steps[s];
                restless_word = target == 0   ? noria_mpmc_state_at(victim, plain.first_position + 3)
                                : target == 1 ? noria_mpmc_state_at(victim, plain.first_position + 4)
                                : target == 2 ? &ring->write_pos
                                              : &ring->read_pos;
                for (int i = 0; i < 100; i++)
                    rc = call == 0   ? noria_mpmc_reserve(victim, &record)
                         : call == 1 ? noria_mpmc_commit(victim, &record, 1)
                         : call == 2 ? noria_mpmc_abort(victim, &record)
                         : call == 3 ? noria_mpmc_peek(victim, &record)
                                     : noria_mpmc_release(victim, &record);
                assert_true(rc == 0 || rc == -EAGAIN || rc == -EBADMSG || rc == -EOWNERDEAD);
                watch.before = NULL;
            }
}

static uint64_t hint_step;

static void move_the_hint(const void *word)
{
    if (word == &ring->write_pos)
        ring->write_pos += hint_step;
    if (word == &ring->read_pos)
        ring->read_pos += hint_step;
}

static void hints_that_run_away_end_the_walk(void **state)
{
    /* Claim: passed positions without end and a hint that moves at every look are -EAGAIN after a while. */
    struct noria_mpmc_record record = {0};

    (void)state;
    make_ring(&plain);
    watch.changed = NULL;
    for (uint64_t i = 0; i < 8; i++)
        *noria_mpmc_state_at(victim, i) =
            noria_mpmc_word(victim, plain.first_position + (UINT64_C(1) << 40) + i, NORIA_MPMC_EMPTY, 0);
    watch.before = move_the_hint;
    hint_step = 1;
    assert_int_equal(noria_mpmc_reserve(victim, &record), -EAGAIN);
    assert_int_equal(noria_mpmc_peek(victim, &record), -EAGAIN);
    hint_step = 0;
    assert_int_equal(noria_mpmc_reserve(victim, &record), -EBADMSG);
    assert_int_equal(noria_mpmc_peek(victim, &record), -EBADMSG);
}

static uint32_t length_then;

static void lengthen_the_record(const void *word)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(victim, plain.first_position);

    if (word == &slot->state && accesses_left-- == 0)
        slot->length = length_then;
}

static void length_is_bounded_where_it_is_used(void **state)
{
    /* Claim: a length that grows between the look and the claim is not copied into a buffer that is too
     * small. */
    static const uint32_t lengths[] = {5, 24, 25, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t buffer[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        size_t len = 0;
        make_ring(&plain);
        assert_int_equal(noria_mpmc_send(sender, "abcd", 4), 0);
        watch.changed = NULL;
        length_then = lengths[i / 2];
        accesses_left =
            1 + (int)(i % 2); /* the look for orphans, then before the look of take, or after it */
        watch.before = lengthen_the_record;
        assert_true(noria_mpmc_recv(victim, buffer, 4, &len) < 0);
        watch.before = NULL;
        assert_memory_equal(buffer + 4, "\5\6\7\10", 4);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, teardown)
    const struct CMUnitTest tests[] = {
        TEST(victim_may_die_anywhere),
        TEST(victim_may_be_stopped_anywhere),
        TEST(stopped_writers_may_be_stepped_over_anywhere),
        TEST(unlucky_commit_gives_up_and_may_be_repeated),
        TEST(unlucky_send_leaves_nothing),
        TEST(moving_room_is_not_missed),
        TEST(full_is_true_at_one_instant),
        TEST(restless_words_end_every_call),
        TEST(hints_that_run_away_end_the_walk),
        TEST(length_is_bounded_where_it_is_used),
    };
#undef TEST
    return cmocka_run_group_tests_name("mpmc interleaving", tests, NULL, NULL);
}
