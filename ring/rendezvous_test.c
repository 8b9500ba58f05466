/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the rendezvous table: one call after the other, and then with others in front of each access of a
 * victim to the table, who is stopped, killed or goes on. Each test states its claim.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <watched_test.h>

#include <noria/rendezvous.h>

enum { ALICE = 1, BOB = 2, CAROL = 3, DAVE = 4, OWNERS = 5, SLOTS = 4, LONGEST = 40 };

static struct noria_rendezvous *table;
static size_t table_size;
static struct noria_rendezvous_handle handles[OWNERS + 1];
static struct noria_rendezvous_handle *const alice = &handles[ALICE];
static struct noria_rendezvous_handle *const bob = &handles[BOB];
static struct noria_rendezvous_handle *const carol = &handles[CAROL];
static struct noria_rendezvous_handle *const dave = &handles[DAVE];

static void make_table(uint64_t first_position)
{
    struct noria_rendezvous_config config = {
        .first_position = first_position, .max_message = LONGEST, .owners = OWNERS, .slots = SLOTS};

    memset(&watch, 0, sizeof(watch));
    free(table);
    table_size = noria_rendezvous_footprint(&config);
    table = aligned_alloc(NORIA_CACHE_LINE, (table_size + 63) & ~(size_t)63);
    assert_non_null(table);
    memset(table, 0xa5, table_size); /* format must not depend on zeroed memory */
    assert_int_equal(noria_rendezvous_format(table, table_size, &config), 0);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        assert_int_equal(noria_rendezvous_join(&handles[owner], table, table_size, owner, 7), 0);
}

static int setup(void **state)
{
    (void)state;
    make_table(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    free(table);
    table = NULL;
    return 0;
}

static void check(void)
{
    assert_true(noria_rendezvous_invariant(table, table_size));
}

static uint64_t slots_used(void)
{
    struct noria_rendezvous_census census;

    noria_rendezvous_count(dave, &census);
    return census.used;
}

static struct noria_rendezvous_offer offer_by(struct noria_rendezvous_handle *h, uint64_t number)
{
    struct noria_rendezvous_offer offer = {0, 0};

    assert_int_equal(noria_rendezvous_offer(h, &number, sizeof(number), &offer), 0);
    check();
    return offer;
}

static struct noria_rendezvous_record claim_by(struct noria_rendezvous_handle *h, uint64_t number)
{
    struct noria_rendezvous_record record = {0};

    assert_int_equal(noria_rendezvous_claim(h, LONGEST, &record), 0);
    assert_int_equal(record.len, sizeof(number));
    assert_memory_equal(record.data, &number, sizeof(number));
    check();
    return record;
}

static void expect_no_offer(void)
{
    struct noria_rendezvous_record record;

    assert_int_equal(noria_rendezvous_claim(bob, LONGEST, &record), -EAGAIN);
    assert_false(noria_rendezvous_may_receive(bob));
}

/* Everything that names the owner goes, as after its death. */
static void bury(uint32_t owner)
{
    uint32_t slot = 0;
    uint64_t word;

    for (; noria_rendezvous_find(dave, owner, &slot, &word) == 1; slot++)
        assert_int_equal(noria_rendezvous_settle(dave, slot, word, owner), 1);
    check();
}

/* ------------------------------------------------------------------------------------ one after the other */

static void hand_to_hand(void **state)
{
    /* Claim: a sender learns that its message was taken when the receiver has finished with it, not
     * before; then nothing is left. */
    struct noria_rendezvous_offer offer;
    struct noria_rendezvous_record record;

    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        offer = offer_by(alice, i);
        assert_int_equal(noria_rendezvous_look(alice, &offer), -EAGAIN);
        assert_true(noria_rendezvous_may_receive(bob));
        record = claim_by(bob, i);
        assert_int_equal(record.sender, ALICE);
        assert_int_equal(noria_rendezvous_look(alice, &offer), -EAGAIN);
        assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
        assert_int_equal(noria_rendezvous_look(alice, &offer), 0);
        assert_int_equal(slots_used(), 0);
        expect_no_offer();
    }
}

static void oldest_offer_first(void **state)
{
    /* Claim: offers are taken in the order in which they were made, whatever slots they stand in, also
     * where the count of tickets wraps; sequences grow in that order. */
    (void)state;
    make_table(UINT64_MAX - 6);
    for (uint64_t round = 0; round < 20; round++) {
        struct noria_rendezvous_offer offers[3];
        uint64_t last = 0;
        offers[0] = offer_by(alice, 3 * round);
        offers[1] = offer_by(bob, 3 * round + 1);
        /* Its slot is the next one's. */
        assert_int_equal(noria_rendezvous_withdraw(alice, &offers[0]), -ECANCELED);
        offers[2] = offer_by(carol, 3 * round + 2);
        offers[0] = offer_by(alice, 3 * round);
        for (int i = 0; i < 3; i++) {
            static const uint64_t order[] = {1, 2, 0};
            struct noria_rendezvous_record record = claim_by(dave, 3 * round + order[i]);
            assert_true(i == 0 || (int64_t)(record.sequence - last) > 0);
            last = record.sequence;
            assert_int_equal(noria_rendezvous_finish(dave, &record), 0);
        }
        assert_int_equal(noria_rendezvous_look(alice, &offers[0]), 0);
        assert_int_equal(noria_rendezvous_look(bob, &offers[1]), 0);
        assert_int_equal(noria_rendezvous_look(carol, &offers[2]), 0);
    }
}

static void withdrawn_offers_are_gone(void **state)
{
    /* Claim: an offer that was withdrawn is not taken; one that was taken cannot be, and says so. */
    struct noria_rendezvous_offer offer = offer_by(alice, 1);
    struct noria_rendezvous_record record;

    (void)state;
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -ECANCELED);
    expect_no_offer();
    assert_int_equal(slots_used(), 0);
    offer = offer_by(alice, 2);
    record = claim_by(bob, 2);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), 0);
    assert_int_equal(slots_used(), 0);
}

static void withdrawn_while_it_is_copied(void **state)
{
    /* Claim: an offer withdrawn from a receiver that is just copying it is void for that receiver; until
     * it knows, nobody else writes into the slot it copies from. */
    struct noria_rendezvous_offer offer = offer_by(alice, 1), other;
    struct noria_rendezvous_record record = claim_by(bob, 1);
    uint64_t one = 1;

    (void)state;
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -ECANCELED);
    other = offer_by(carol, 2);
    assert_int_not_equal(other.slot, record.slot);
    assert_memory_equal(record.data, &one, sizeof(one));
    assert_int_equal(noria_rendezvous_finish(bob, &record), -EAGAIN);
    assert_int_equal(slots_used(), 1);
    record = claim_by(bob, 2);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
    assert_int_equal(noria_rendezvous_look(carol, &other), 0);
}

static void long_messages_stay(void **state)
{
    /* Claim: a message longer than the receiver's buffer stays first; one longer than the table takes is
     * refused. */
    uint8_t bytes[LONGEST + 1] = {0};
    struct noria_rendezvous_offer offer;
    struct noria_rendezvous_record record;

    (void)state;
    assert_int_equal(noria_rendezvous_offer(alice, bytes, LONGEST + 1, &offer), -EMSGSIZE);
    assert_int_equal(noria_rendezvous_offer(alice, bytes, LONGEST, &offer), 0);
    assert_int_equal(noria_rendezvous_claim(bob, LONGEST - 1, &record), -EMSGSIZE);
    assert_int_equal(record.len, LONGEST);
    assert_int_equal(noria_rendezvous_look(alice, &offer), -EAGAIN);
    assert_int_equal(noria_rendezvous_claim(bob, LONGEST, &record), 0);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
}

static void as_many_offers_as_slots(void **state)
{
    /* Claim: as many offers stand at a time as there are slots; one more is -EAGAIN and changes nothing. */
    struct noria_rendezvous_offer offers[SLOTS], more;
    uint64_t number = 9;

    (void)state;
    for (uint64_t i = 0; i < SLOTS; i++)
        offers[i] = offer_by(alice, i);
    assert_int_equal(noria_rendezvous_offer(bob, &number, sizeof(number), &more), -EAGAIN);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(noria_rendezvous_withdraw(alice, &offers[i]), -ECANCELED);
    assert_int_equal(slots_used(), 0);
}

static void dead_receivers(void **state)
{
    /* Claim: the sender learns that its receiver died over the message; a receiver that died over a
     * withdrawn one leaves nothing. */
    struct noria_rendezvous_offer offer = offer_by(alice, 1);
    struct noria_rendezvous_record record = claim_by(bob, 1);

    (void)state;
    bury(BOB);
    assert_int_equal(noria_rendezvous_finish(bob, &record), -EOWNERDEAD); /* it was not dead after all */
    assert_int_equal(noria_rendezvous_look(alice, &offer), -EOWNERDEAD);
    assert_int_equal(slots_used(), 0);
    offer = offer_by(alice, 2);
    claim_by(bob, 2);
    bury(BOB);
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -EOWNERDEAD);
    offer = offer_by(alice, 3);
    claim_by(bob, 3);
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -ECANCELED);
    bury(BOB);
    assert_int_equal(slots_used(), 0);
}

static void dead_senders(void **state)
{
    /* Claim: the offers of a dead sender go; a receiver that was just copying one finds it void. */
    struct noria_rendezvous_record record;

    (void)state;
    offer_by(alice, 1);
    bury(ALICE);
    expect_no_offer();
    offer_by(alice, 2);
    record = claim_by(bob, 2);
    bury(ALICE);
    assert_int_equal(noria_rendezvous_finish(bob, &record), -EAGAIN);
    offer_by(alice, 3);
    record = claim_by(bob, 3);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
    bury(ALICE);
    offer_by(alice, 4);
    claim_by(bob, 4);
    bury(ALICE);
    bury(BOB);
    assert_int_equal(slots_used(), 0);
}

static void who_waits(void **state)
{
    /* Claim: receivers that wait are counted while they do; those of the dead are forgotten, those of a
     * later life are not. */
    (void)state;
    assert_false(noria_rendezvous_is_awaited(alice));
    noria_rendezvous_await(bob);
    assert_true(noria_rendezvous_is_awaited(alice));
    noria_rendezvous_forget(dave, BOB, 6);
    assert_true(noria_rendezvous_is_awaited(alice));
    noria_rendezvous_forget(dave, BOB, 7);
    assert_false(noria_rendezvous_is_awaited(alice));
    noria_rendezvous_await(carol);
    noria_rendezvous_await_no_more(carol);
    assert_false(noria_rendezvous_is_awaited(alice));
}

static void hostile_geometry(void **state)
{
    /* Claim: memory that is no table, or says what cannot be, is refused. */
    struct noria_rendezvous_config config = {.max_message = 8, .owners = 0};
    struct noria_rendezvous_handle h;

    (void)state;
    assert_int_equal(noria_rendezvous_footprint(&config), 0);
    assert_int_equal(noria_rendezvous_format(table, table_size, &config), -EINVAL);
    config.owners = 70000;
    assert_int_equal(noria_rendezvous_footprint(&config), 0);
    config.owners = 1;
    config.slots = NORIA_RENDEZVOUS_MAX_SLOTS + 1;
    assert_int_equal(noria_rendezvous_footprint(&config), 0);
    config.slots = 1;
    config.max_message = NORIA_RENDEZVOUS_MAX_MESSAGE + 1;
    assert_int_equal(noria_rendezvous_footprint(&config), 0);
    config.max_message = 8;
    assert_int_equal(noria_rendezvous_format(table, noria_rendezvous_footprint(&config) - 1, &config),
                     -EINVAL);
    assert_int_equal(noria_rendezvous_format((uint8_t *)table + 8, table_size, &config), -EINVAL);
    assert_int_equal(noria_rendezvous_join(&h, (uint8_t *)table + 8, table_size, 1, 0), -EBADMSG);
    assert_int_equal(noria_rendezvous_join(&h, table, sizeof(*table) - 1, 1, 0), -EBADMSG);
    assert_int_equal(noria_rendezvous_join(&h, table, table_size - 1, 1, 0), -EBADMSG);
    assert_int_equal(noria_rendezvous_join(&h, table, table_size, 0, 0), -EINVAL);
    assert_int_equal(noria_rendezvous_join(&h, table, table_size, OWNERS + 1, 0), -EINVAL);
    table->slots = 0;
    assert_int_equal(noria_rendezvous_join(&h, table, table_size, 1, 0), -EBADMSG);
    table->slots = 1u << 30;
    assert_int_equal(noria_rendezvous_join(&h, table, table_size, 1, 0), -EBADMSG);
    table->magic = 0;
    assert_int_equal(noria_rendezvous_join(&h, table, table_size, 1, 0), -EBADMSG);
}

/* ------------------------------------------------------ others in front of each access of a victim's call */

/* How often a message was given away, received, and taken back, as the parties see it. */
static int given, received, taken_back, lost;
static int accesses_left;
static void (*intrusion)(void);
static jmp_buf death;
static bool dies;

static void before_access(const void *word)
{
    (void)word;
    if (--accesses_left != 0)
        return;
    if (intrusion != NULL)
        intrusion();
    if (dies)
        longjmp(death, 1);
}

static void receive_by(struct noria_rendezvous_handle *h)
{
    struct noria_rendezvous_record record;

    if (noria_rendezvous_claim(h, LONGEST, &record) == 0)
        received += noria_rendezvous_finish(h, &record) == 0;
}

static void send_and_count(struct noria_rendezvous_handle *h, bool withdraws)
{
    struct noria_rendezvous_offer offer = {0, 0};
    uint64_t number = 5;
    int rc = noria_rendezvous_offer(h, &number, sizeof(number), &offer);

    assert_int_equal(rc, 0);
    rc = noria_rendezvous_look(h, &offer);
    if (rc == -EAGAIN && withdraws)
        rc = noria_rendezvous_withdraw(h, &offer);
    given += rc == 0;
    taken_back += rc == -ECANCELED;
    lost += rc == -EOWNERDEAD;
    assert_true(rc == 0 || rc == -ECANCELED || rc == -EOWNERDEAD);
}

static struct noria_rendezvous_record standing;
static bool stands;

static void other_begins_to_take(void)
{
    if (!stands && noria_rendezvous_claim(bob, LONGEST, &standing) == 0)
        stands = true;
}

static void other_takes(void)
{
    receive_by(bob);
}

static void other_dies_over_it(void)
{
    other_begins_to_take();
    if (stands)
        bury(BOB);
    stands = false;
}

/* Runs the victim's life with an intrusion in front of its n-th access. False: it has fewer accesses. */
static bool intrude(void (*life)(void), int n)
{
    given = received = taken_back = lost = 0;
    stands = false;
    accesses_left = n;
    watch.before = before_access;
    if (setjmp(death) == 0)
        life();
    watch.before = NULL;
    watch.busy = false; /* as a death leaves it */
    return accesses_left <= 0;
}

static void victim_sends(void)
{
    send_and_count(alice, true);
}

static void sender_and_receiver_agree(void **state)
{
    /* Claim: whatever a receiver does in front of any access of a sender, both agree: given = received. */
    static void (*const others[])(void) = {other_begins_to_take, other_takes, other_dies_over_it};

    (void)state;
    dies = false;
    for (int i = 0; i < 3; i++) {
        int n = 1;
        intrusion = others[i];
        for (; intrude(victim_sends, n); n++) {
            if (stands) { /* it goes on copying after the sender's call has ended */
                int rc = noria_rendezvous_finish(bob, &standing);
                assert_true(rc == 0 || rc == -EAGAIN);
                received += rc == 0;
            }
            assert_int_equal(given, received);
            assert_int_equal(given + taken_back + lost, 1);
            assert_int_equal(slots_used(), 0);
            check();
        }
        assert_true(n > 10);
    }
}

static struct noria_rendezvous_offer from_carol;

static void carol_withdraws(void)
{
    int rc = noria_rendezvous_withdraw(carol, &from_carol);

    given += rc == 0;
    taken_back += rc == -ECANCELED;
}

static void carol_dies(void)
{
    bury(CAROL);
    taken_back++;
}

static void dave_takes_it(void)
{
    receive_by(dave);
}

static void victim_receives(void)
{
    receive_by(alice);
}

static void receiver_at_each_access(void **state)
{
    /* Claim: the same with a sender, or a second receiver, in front of any access of a receiver. */
    static void (*const others[])(void) = {carol_withdraws, carol_dies, dave_takes_it};

    (void)state;
    dies = false;
    for (int i = 0; i < 3; i++) {
        bool more = true;
        intrusion = others[i];
        for (int n = 1; more; n++) {
            from_carol = offer_by(carol, 5);
            more = intrude(victim_receives, n);
            if (i == 2 || !more)
                given += noria_rendezvous_withdraw(carol, &from_carol) == 0;
            if (i != 1)
                assert_int_equal(given, received);
            if (i == 1 && more && received == 1) /* it had it before its sender died */
                assert_int_equal(taken_back, 1);
            assert_int_equal(slots_used(), 0);
            check();
        }
    }
}

static void deaths_at_each_access(void **state)
{
    /* Claim: a sender or receiver that dies in front of any access leaves, once it is settled, a table in
     * which the others go on, and no sender is told that a message was received which was not. */
    int n;

    (void)state;
    intrusion = NULL;
    dies = true;
    for (n = 1; intrude(victim_sends, n); n++) {
        bury(ALICE);
        assert_int_equal(slots_used(), 0);
        check();
    }
    assert_true(n > 10);
    for (n = 1;; n++) {
        bool died;
        int rc;
        from_carol = offer_by(carol, 5);
        died = intrude(victim_receives, n);
        bury(ALICE);
        rc = noria_rendezvous_look(carol, &from_carol);
        assert_true(rc == 0 || rc == -EOWNERDEAD || (rc == -EAGAIN && died));
        assert_int_equal(rc == 0 && !died, received);
        if (rc == -EAGAIN)
            assert_int_equal(noria_rendezvous_withdraw(carol, &from_carol), -ECANCELED);
        assert_int_equal(slots_used(), 0);
        check();
        if (!died)
            break;
    }
    assert_true(n > 6);
}

static void settler_dies(void)
{
    bury(ALICE);
}

static void deaths_of_settlers(void **state)
{
    /* Claim: who settles may die at any access; the next one finds what is left. */
    int deaths = 0;

    (void)state;
    for (int n = 1; n < 40; n++) {
        offer_by(alice, 1);
        claim_by(alice, 1);
        offer_by(alice, 2);
        intrusion = NULL;
        dies = true;
        deaths += intrude(settler_dies, n);
        bury(ALICE);
        assert_int_equal(slots_used(), 0);
    }
    assert_true(deaths > 10);
}

/* ------------------------------------------------------------------------- swaps that are lost, and liars */

static const void *watched;
static int looks_until, looks_so_far;

/* Lets the intrusion happen in front of the n-th access to one word. */
static void before_that_word(const void *word)
{
    if (word == watched && ++looks_so_far == looks_until)
        intrusion();
}

static void intrude_on(const void *word, int at, void (*what)(void))
{
    watched = word;
    looks_until = at;
    looks_so_far = 0;
    intrusion = what;
    watch.before = before_that_word;
}

static uint64_t *state_of(uint32_t slot)
{
    return noria_rendezvous_state_at(dave, slot);
}

static void alice_is_settled(void)
{
    bury(ALICE);
}

static void settled_while_it_fills(void **state)
{
    /* Claim: a sender that is taken for dead while it writes its message is told so, and offers nothing:
     * neither its message nor over that of the next sender, who has the slot by then. */
    struct noria_rendezvous_offer offer = {0, 0}, next;
    struct noria_rendezvous_record record;
    uint64_t number = 1;

    (void)state;
    intrude_on(state_of(0), 3, alice_is_settled); /* her look, her claim, her offer */
    assert_int_equal(noria_rendezvous_offer(alice, &number, sizeof(number), &offer), -EOWNERDEAD);
    watch.before = NULL;
    assert_int_equal(offer.word, 0);
    assert_int_equal(slots_used(), 0);
    expect_no_offer();
    next = offer_by(carol, 2);
    assert_int_equal(next.slot, 0);
    record = claim_by(bob, 2);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
}

static void a_settled_offer_is_nobodys(void **state)
{
    /* Claim: an offer that was settled is over for who made it, whoever has its slot then: nobody, another
     * sender, or the same one with a new offer; and that new offer is not touched. */
    (void)state;
    for (int slot_goes_to = 0; slot_goes_to < 3; slot_goes_to++)
        for (int withdraws = 0; withdraws < 2; withdraws++) {
            struct noria_rendezvous_handle *const heir = slot_goes_to == 1 ? carol : alice;
            struct noria_rendezvous_offer old = offer_by(alice, 1), fresh = {0, 0};
            bury(ALICE);
            if (slot_goes_to != 0) {
                fresh = offer_by(heir, 2);
                assert_int_equal(fresh.slot, old.slot);
            }
            assert_int_equal(withdraws ? noria_rendezvous_withdraw(alice, &old)
                                       : noria_rendezvous_look(alice, &old),
                             -EOWNERDEAD);
            assert_int_equal(old.word, 0);
            assert_int_equal(slots_used(), slot_goes_to != 0);
            if (slot_goes_to != 0) {
                assert_int_equal(noria_rendezvous_look(heir, &fresh), -EAGAIN);
                assert_int_equal(noria_rendezvous_withdraw(heir, &fresh), -ECANCELED);
            }
        }
}

static void bob_is_settled(void)
{
    bury(BOB);
}

static void settled_on_the_last_step(void **state)
{
    /* Claim: a receiver whose sender went away, and that is then taken for dead while it frees the slot,
     * is told so, and does not free what the next sender put there. */
    struct noria_rendezvous_offer offer = offer_by(alice, 1), next;
    struct noria_rendezvous_record record = claim_by(bob, 1);

    (void)state;
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -ECANCELED);
    intrude_on(state_of(record.slot), 2, bob_is_settled); /* his swap to TAKEN, his swap to FREE */
    assert_int_equal(noria_rendezvous_finish(bob, &record), -EOWNERDEAD);
    watch.before = NULL;
    assert_int_equal(slots_used(), 0);
    next = offer_by(carol, 2);
    assert_int_equal(noria_rendezvous_finish(bob, &record), -EOWNERDEAD);
    assert_int_equal(noria_rendezvous_look(carol, &next), -EAGAIN);
}

static struct noria_rendezvous_offer from_alice, from_dave;

static void carol_offers_a_long_one_there(void)
{
    static const uint8_t bytes[LONGEST] = {0};

    assert_int_equal(noria_rendezvous_withdraw(alice, &from_alice), -ECANCELED);
    assert_int_equal(noria_rendezvous_offer(carol, bytes, LONGEST, &from_carol), 0);
    assert_int_equal(from_carol.slot, 0);
}

static void too_long_is_said_of_the_oldest(void **state)
{
    /* Claim: when the slot just found gets another, longer message before its length is looked at, nothing is
     * said about that: the oldest offer by then, which is short enough, is taken. */
    struct noria_rendezvous_record record;

    (void)state;
    from_alice = offer_by(alice, 1);
    from_dave = offer_by(dave, 2);
    intrude_on(&noria_rendezvous_slot_at(bob, 0)->length, 1, carol_offers_a_long_one_there);
    assert_int_equal(noria_rendezvous_claim(bob, LONGEST - 1, &record), 0);
    watch.before = NULL;
    assert_int_equal(record.slot, from_dave.slot);
    assert_int_equal(from_carol.slot, 0);
    assert_int_equal(noria_rendezvous_look(carol, &from_carol), -EAGAIN);
}

static uint32_t false_length;

static void length_becomes_false(void)
{
    noria_rendezvous_slot_at(dave, 0)->length = false_length;
}

static void hostile_lengths_are_bounded(void **state)
{
    /* Claim: a length that cannot be, or that has grown beyond the receiver's buffer since the claim, is
     * -EBADMSG; the sender learns that its message was lost, and the slot is free again. */
    static const uint32_t lengths[] = {UINT32_MAX, LONGEST + 1, LONGEST};
    uint64_t number = 1;

    (void)state;
    for (int i = 0; i < 3; i++)
        for (int look = 1; look <= 2; look++) {
            struct noria_rendezvous_offer offer = {0, 0};
            struct noria_rendezvous_record record;
            int rc;
            assert_int_equal(noria_rendezvous_offer(alice, &number, sizeof(number), &offer), 0);
            false_length = lengths[i];
            intrude_on(&noria_rendezvous_slot_at(bob, 0)->length, look, length_becomes_false);
            rc = noria_rendezvous_claim(bob, look == 1 ? SIZE_MAX : sizeof(number), &record);
            watch.before = NULL;
            if (rc == 0) {
                assert_true(look == 1 && record.len == LONGEST);
                assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
                assert_int_equal(noria_rendezvous_look(alice, &offer), 0);
            } else {
                assert_true(rc == -EBADMSG && !(look == 1 && false_length == LONGEST));
                assert_int_equal(noria_rendezvous_look(alice, &offer), -EOWNERDEAD);
            }
            assert_int_equal(slots_used(), 0);
        }
}

static void carol_offers(void)
{
    from_carol = offer_by(carol, 5);
}

static void a_slot_that_is_lost_is_gone_around(void **state)
{
    /* Claim: of two senders who go for the same free slot, the one whose swap is lost takes the next. */
    (void)state;
    intrude_on(state_of(0), 2, carol_offers); /* alice's look, her swap */
    from_alice = offer_by(alice, 6);
    watch.before = NULL;
    assert_int_equal(from_carol.slot, 0);
    assert_int_equal(from_alice.slot, 1);
    assert_int_equal(slots_used(), 2);
}

static void reach_is_raised_by_the_higher(void **state)
{
    /* Claim: who raises `reach` when another has just raised it higher leaves it there: both offers are
     * found. */
    struct noria_rendezvous_record record;

    (void)state;
    intrude_on(&table->reach, 2, carol_offers); /* alice's load, her swap */
    from_alice = offer_by(alice, 6);
    watch.before = NULL;
    assert_int_equal(from_carol.slot, 1);
    assert_int_equal(table->reach, 2);
    record = claim_by(bob, 5);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
    record = claim_by(bob, 6);
    assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
}

static uint64_t restless_bits;
static int restless_accesses;

/* In front of each access the bits change; so every swap is lost. */
static void change_that_word(const void *word)
{
    restless_accesses++;
    if (word == watched)
        *(uint64_t *)(uintptr_t)watched ^= restless_bits;
}

static void restless_words_end_every_call(void **state)
{
    /* Claim: a word that changes in front of every access, so that each swap of it is lost, ends every call
     * after a counted number of accesses, with an answer that is no success. */
    enum { MOST = 8 * NORIA_RENDEZVOUS_TRIES };
    const uint64_t generation = noria_rendezvous_next_generation(alice, 0);
    struct noria_rendezvous_record record;
    struct noria_rendezvous_offer offer;
    uint64_t number = 7;

    (void)state;
    offer = offer_by(alice, 1);
    watched = state_of(0);
    watch.before = change_that_word;
    restless_bits = generation; /* another message each time */
    assert_int_equal(noria_rendezvous_claim(bob, LONGEST, &record), -EAGAIN);
    assert_true(restless_accesses > NORIA_RENDEZVOUS_TRIES && restless_accesses < MOST);

    *state_of(0) = offer.word;
    restless_bits = NORIA_RENDEZVOUS_OFFERED ^ NORIA_RENDEZVOUS_FILLING;
    restless_accesses = 0;
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -EOWNERDEAD);
    assert_true(restless_accesses > NORIA_RENDEZVOUS_TRIES && restless_accesses < MOST);

    make_table(0);
    for (int i = 0; i < SLOTS - 1; i++)
        offer_by(carol, 2);
    watched = &table->reach;
    watch.before = change_that_word;
    restless_bits = 1;
    restless_accesses = 0;
    assert_int_equal(noria_rendezvous_offer(alice, &number, sizeof(number), &offer), 0);
    assert_true(restless_accesses > SLOTS && restless_accesses < MOST);
    watch.before = NULL;
    assert_int_equal(noria_rendezvous_withdraw(alice, &offer), -ECANCELED);
}

static void a_free_slot_is_nobodys(void **state)
{
    /* Claim: a word that says FREE and names an owner, which none of ours does, is not his offer. */
    struct noria_rendezvous_offer offer = offer_by(alice, 1);

    (void)state;
    *state_of(0) = noria_rendezvous_become(alice, offer.word, NORIA_RENDEZVOUS_FREE, ALICE, 0);
    assert_int_equal(noria_rendezvous_look(alice, &offer), -EOWNERDEAD);
    assert_int_equal(slots_used(), 0);
}

static void slots_by_themselves(void **state)
{
    /* Claim: without a wish there are two slots for each owner, and at least LEAST_SLOTS. */
    struct noria_rendezvous_config config = {.max_message = 8, .owners = 1};

    (void)state;
    assert_int_equal(noria_rendezvous_slots(&config), NORIA_RENDEZVOUS_LEAST_SLOTS);
    config.owners = NORIA_RENDEZVOUS_LEAST_SLOTS;
    assert_int_equal(noria_rendezvous_slots(&config), 2 * NORIA_RENDEZVOUS_LEAST_SLOTS);
    config.slots = 3;
    assert_int_equal(noria_rendezvous_slots(&config), 3);
}

static void hostile_reach_is_bounded(void **state)
{
    /* Claim: a `reach` beyond the table is bounded by the slots there are. */
    struct noria_rendezvous_record record;

    (void)state;
    table->reach = UINT64_MAX;
    expect_no_offer();
    for (uint64_t i = 0; i < SLOTS; i++)
        offer_by(alice, i);
    for (uint64_t i = 0; i < SLOTS; i++) {
        record = claim_by(bob, i);
        assert_int_equal(noria_rendezvous_finish(bob, &record), 0);
    }
    expect_no_offer();
}

static void invariant_sees_damage(void **state)
{
    /* Claim: of all words with owners and takers up to one too many, the invariant holds for those that the
     * arrows lead to, and only below `reach`. */
    (void)state;
    for (unsigned kind = 0; kind <= 7; kind++)
        for (uint32_t owner = 0; owner <= OWNERS + 1; owner++)
            for (uint32_t taker = 0; taker <= OWNERS + 1; taker++) {
                bool owns = kind >= NORIA_RENDEZVOUS_FILLING && kind <= NORIA_RENDEZVOUS_LOST;
                bool takes = kind == NORIA_RENDEZVOUS_TAKING || kind == NORIA_RENDEZVOUS_WITHDRAWN;
                bool valid = kind != 7 && owner <= OWNERS && taker <= OWNERS && (owner != 0) == owns &&
                             (taker != 0) == takes;
                *state_of(1) = noria_rendezvous_become(dave, 0, kind, owner, taker);
                table->reach = 2;
                assert_int_equal(noria_rendezvous_invariant(table, table_size), valid);
                table->reach = 1;
                assert_int_equal(noria_rendezvous_invariant(table, table_size),
                                 valid && kind <= NORIA_RENDEZVOUS_FILLING);
            }
    table->magic++;
    assert_false(noria_rendezvous_invariant(table, table_size));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hand_to_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(oldest_offer_first, setup, teardown),
        cmocka_unit_test_setup_teardown(withdrawn_offers_are_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(withdrawn_while_it_is_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(long_messages_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(as_many_offers_as_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_receivers, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_senders, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_geometry, setup, teardown),
        cmocka_unit_test_setup_teardown(sender_and_receiver_agree, setup, teardown),
        cmocka_unit_test_setup_teardown(receiver_at_each_access, setup, teardown),
        cmocka_unit_test_setup_teardown(deaths_at_each_access, setup, teardown),
        cmocka_unit_test_setup_teardown(deaths_of_settlers, setup, teardown),
        cmocka_unit_test_setup_teardown(settled_while_it_fills, setup, teardown),
        cmocka_unit_test_setup_teardown(a_settled_offer_is_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(settled_on_the_last_step, setup, teardown),
        cmocka_unit_test_setup_teardown(too_long_is_said_of_the_oldest, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_lengths_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_that_is_lost_is_gone_around, setup, teardown),
        cmocka_unit_test_setup_teardown(reach_is_raised_by_the_higher, setup, teardown),
        cmocka_unit_test_setup_teardown(a_free_slot_is_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(slots_by_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(restless_words_end_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_reach_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(invariant_sees_damage, setup, teardown),
    };

    return cmocka_run_group_tests_name("rendezvous table", tests, NULL, NULL);
}
