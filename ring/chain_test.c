/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the chain of links: one call after the other, where who stops or dies in between is simulated by
 * handles that do not go on; and then with others in front of each access of a victim, who goes on or dies
 * there. The memory of ranges that have no pages is filled with rubbish, so that whoever touches it falls
 * over. Each test states its claim.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <watched_test.h>

#include <noria/chain.h>

enum { ALICE = 1, BOB = 2, CAROL = 3, OWNERS = 4, MESSAGE = 40, SIZE = 128 << 10 };

static uint8_t *memory;
static struct noria_chain_handle handles[OWNERS + 1];
static struct noria_chain_view views[OWNERS + 1][NORIA_CHAIN_RANGES];
static struct noria_chain_handle *const alice = &handles[ALICE];
static struct noria_chain_handle *const bob = &handles[BOB];
static struct noria_chain_handle *const carol = &handles[CAROL];

static void make_chain_of(uint64_t capacity, uint64_t first_position)
{
    struct noria_chain_config config = {.capacity = capacity,
                                        .size = SIZE,
                                        .first_position = first_position,
                                        .max_message = MESSAGE,
                                        .owners = OWNERS};

    memset(&watch, 0, sizeof(watch));
    free(memory);
    memory = aligned_alloc(NORIA_CHAIN_PAGE, SIZE);
    assert_non_null(memory);
    memset(memory, 0xa5, SIZE);
    memset(views, 0, sizeof(views));
    assert_int_equal(noria_chain_format(memory, SIZE, &config), 0);
    for (uint32_t owner = 1; owner <= OWNERS; owner++) {
        assert_int_equal(noria_chain_read_geometry(&handles[owner], memory, SIZE), 0);
        assert_int_equal(noria_chain_start(&handles[owner], owner, 3, views[owner]), 0);
    }
}

static void make_chain(uint64_t first_position)
{
    make_chain_of(4, first_position);
}

static int setup(void **state)
{
    (void)state;
    make_chain(UINT64_MAX - 40);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    free(memory);
    memory = NULL;
    return 0;
}

static void give_back(struct noria_chain_handle *h, unsigned range, uint64_t mine)
{
    memset(noria_chain_memory(h, range), 0xa5, (size_t)h->range[range].size);
    noria_chain_free(h, range, mine);
}

static void reclaim_all(struct noria_chain_handle *h)
{
    uint64_t mine = 0;

    for (unsigned range = 0; range < h->ranges; range++)
        if (noria_chain_reclaim(h, range, &mine) == 0)
            give_back(h, range, mine);
}

/* Sends one, with growth. */
static int send_number(struct noria_chain_handle *h, uint64_t number)
{
    uint64_t tail = 0, mine = 0;
    unsigned range = 0;
    int rc = noria_chain_send(h, &number, sizeof(number), &tail);

    if (rc != -EAGAIN)
        return rc;
    rc = noria_chain_claim(h, tail, NORIA_CHAIN_TAIL_RANGE(tail) + 1, &range, &mine);
    if (rc != 0)
        return rc;
    assert_int_equal(noria_chain_link(h, tail, range, mine), 0);
    return noria_chain_send(h, &number, sizeof(number), &tail);
}

static int receive(struct noria_chain_handle *h, uint64_t *number, uint64_t *sequence)
{
    struct noria_mpmc_record record;
    unsigned links;
    int rc = noria_chain_recv(h, number, sizeof(*number), &record, &links);

    if (rc == 0 && sequence != NULL)
        *sequence = record.sequence;
    return rc;
}

static void expect(struct noria_chain_handle *h, uint64_t expected)
{
    uint64_t number;

    assert_int_equal(receive(h, &number, NULL), 0);
    assert_int_equal(number, expected);
}

static void expect_nothing(struct noria_chain_handle *h)
{
    uint64_t number;

    assert_int_equal(receive(h, &number, NULL), -EAGAIN);
}

static unsigned ranges_in(unsigned kind)
{
    unsigned n = 0;

    for (unsigned range = 0; range < alice->ranges; range++)
        n += NORIA_CHAIN_KIND(alice->words[range]) == kind;
    return n;
}

static void grows_in_order(void **state)
{
    /* Claim: messages over many links come in order, with growing sequences, also where positions wrap;
     * ranges that were drained are free again, and used again. */
    uint64_t last = 0;

    (void)state;
    assert_true(alice->ranges >= 4);
    for (unsigned round = 0; round < 50; round++) {
        uint64_t sent = 0, number = 0, sequence = 0;
        while (send_number(alice, sent) == 0)
            sent++;
        assert_true(sent > 1000);
        for (uint64_t i = 0; i < sent; i++) {
            assert_int_equal(receive(bob, &number, &sequence), 0);
            assert_int_equal(number, i);
            assert_true((round == 0 && i == 0) || (int64_t)(sequence - last) > 0);
            last = sequence;
        }
        expect_nothing(bob);
        reclaim_all(bob);
        assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
        assert_int_equal(ranges_in(NORIA_CHAIN_FREE), alice->ranges - 1);
    }
}

static void ranges_fit(void **state)
{
    /* Claim: ranges do not overlap, grow and then shrink, and end below the ceiling. */
    uint64_t at = noria_chain_control_bytes(OWNERS);

    (void)state;
    for (unsigned range = 0; range < alice->ranges; range++) {
        assert_int_equal(alice->range[range].offset, at);
        assert_int_equal(alice->range[range].size % NORIA_CHAIN_PAGE, 0);
        assert_true(range == 0 || alice->range[range].slots <= 2 * alice->range[range - 1].slots);
        at += alice->range[range].size;
    }
    assert_true(at <= SIZE);
}

static void losers_give_back(void **state)
{
    /* Claim: of two who grow at once one links; the other's range is free again, and the tail is the
     * winner's. */
    uint64_t tail = noria_chain_tail(alice), of_alice = 0, of_bob = 0;
    unsigned range_alice = 0, range_bob = 0;

    (void)state;
    assert_int_equal(noria_chain_claim(alice, tail, 1, &range_alice, &of_alice), 0);
    assert_int_equal(noria_chain_claim(bob, tail, 1, &range_bob, &of_bob), 0);
    assert_int_not_equal(range_alice, range_bob);
    assert_int_equal(noria_chain_link(bob, tail, range_bob, of_bob), 0);
    assert_int_equal(noria_chain_link(alice, tail, range_alice, of_alice), -EAGAIN);
    give_back(alice, range_alice, of_alice);
    assert_int_equal(NORIA_CHAIN_TAIL_RANGE(noria_chain_tail(alice)), range_bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_BUILDING), 0);
}

static void visitors_keep_a_link(void **state)
{
    /* Claim: as long as somebody is in a retired link its range is not reclaimed; who comes later does not
     * get in. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1}, later = {.generation = 1};
    uint64_t mine = 0, n = 0;

    (void)state;
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i);
    expect_nothing(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_RETIRED), 1);
    assert_int_equal(noria_chain_reclaim(bob, 0, &mine), -EAGAIN);
    assert_int_equal(noria_chain_enter(alice, &later, &spare), -EAGAIN);
    assert_int_equal(noria_mpmc_send(link.ring, &n, sizeof(n)), -EAGAIN); /* it is closed */
    noria_chain_leave(carol, &link);
    assert_int_equal(noria_chain_reclaim(bob, 0, &mine), 0);
    give_back(bob, 0, mine);
    assert_int_equal(noria_chain_enter(carol, &link, &spare), -EAGAIN);
}

static void slow_senders_keep_their_order(void **state)
{
    /* Claim: a sender that is slow to commit in an old link holds up nobody; what it then sends into a
     * newer link comes after what it committed in the old one, even to a receiver that had seen the old
     * one empty. The old link goes when it is done. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};
    struct noria_mpmc_record slow = {0};
    uint64_t n = 0, thousand = 1000;

    (void)state;
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    assert_int_equal(noria_mpmc_reserve(link.ring, &slow), 0);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i); /* over the slow one's slot */
    expect_nothing(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 2);
    memcpy(slow.data, &thousand, sizeof(thousand));
    assert_int_equal(noria_mpmc_commit(link.ring, &slow, sizeof(thousand)), 0);
    noria_chain_leave(carol, &link);
    assert_int_equal(send_number(carol, 1001), 0);
    assert_true(noria_chain_may_receive(bob));
    expect(bob, 1000);
    expect(bob, 1001);
    expect_nothing(bob);
    reclaim_all(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
}

static void a_link_in_use_for_long(void **state)
{
    /* Claim: any number of messages passes behind a link that somebody stays in, half-done. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};
    struct noria_mpmc_record slow = {0};
    uint64_t n = 0;

    (void)state;
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    assert_int_equal(noria_mpmc_reserve(link.ring, &slow), 0);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i);
    for (uint64_t i = 0; i < 20000; i++) {
        assert_int_equal(send_number(alice, i), 0);
        expect(bob, i);
    }
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 2);
    assert_int_equal(noria_mpmc_abort(link.ring, &slow), 0);
    noria_chain_leave(carol, &link);
    expect_nothing(bob);
    reclaim_all(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
}

static void many_slow_ones(void **state)
{
    /* Claim: the same with more slow senders than a handle keeps in mind. */
    enum { SLOW = NORIA_CHAIN_OPEN + 4 };
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};
    struct noria_mpmc_record slow[SLOW];
    uint64_t n = 0;

    (void)state;
    make_chain_of(2 * SLOW, 0);
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    for (unsigned i = 0; i < SLOW; i++)
        assert_int_equal(noria_mpmc_reserve(link.ring, &slow[i]), 0);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i);
    expect_nothing(bob);
    for (unsigned i = SLOW; i-- > 0;) {
        uint64_t number = 1000 + i;
        memcpy(slow[i].data, &number, sizeof(number));
        assert_int_equal(noria_mpmc_commit(link.ring, &slow[i], sizeof(number)), 0);
        assert_int_equal(send_number(alice, 2000), 0);
        expect(bob, 1000 + i);
        expect(bob, 2000);
    }
    noria_chain_leave(carol, &link);
    expect_nothing(bob);
    reclaim_all(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
}

static void dead_builders(void **state)
{
    /* Claim: who dies building leaves a range that is taken over and freed; if it was linked already, it
     * is a link. A settler that dies over it is no different. */
    uint64_t tail = noria_chain_tail(alice), mine = 0, word = 0, inherited = 0;
    unsigned range = 0;

    (void)state;
    assert_int_equal(noria_chain_claim(alice, tail, 1, &range, &mine), 0);
    range = 0;
    assert_int_equal(noria_chain_find(bob, ALICE, &range, &word), 1);
    assert_int_equal(noria_chain_inherit(bob, range, word, &inherited), 0);
    assert_int_equal(noria_chain_inherit(carol, range, word, &mine), -EAGAIN);
    range = 0;
    assert_int_equal(noria_chain_find(carol, BOB, &range, &word), 1); /* bob died, too */
    assert_int_equal(noria_chain_inherit(carol, range, word, &inherited), 0);
    give_back(carol, range, inherited);
    assert_int_equal(ranges_in(NORIA_CHAIN_FREE), alice->ranges - 1);

    assert_int_equal(noria_chain_claim(alice, tail, 1, &range, &mine), 0);
    assert_int_equal(noria_chain_link(alice, tail, range, mine), 0);
    alice->words[range] = mine; /* she died before she said LIVE */
    word = mine;
    assert_int_equal(noria_chain_inherit(bob, range, word, &inherited), -EAGAIN);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 2);
    assert_int_equal(send_number(bob, 5), 0);
    expect(carol, 5);
}

static void dead_visitors(void **state)
{
    /* Claim: a dead visitor is forgotten; one of a later life is not. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};

    (void)state;
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    assert_true(noria_chain_is_visited(bob, 0));
    noria_chain_forget(bob, CAROL, 2);
    assert_true(noria_chain_is_visited(bob, 0));
    noria_chain_forget(bob, CAROL, 3);
    assert_false(noria_chain_is_visited(bob, 0));
}

static void threads_that_stop_while_they_open(void **state)
{
    /* Claim: a thread that stopped while it filled the process' view of a link keeps no other from sending,
     * and none from receiving in order: the link counts as it stands. */
    uint64_t number = 0;

    (void)state;
    while (ranges_in(NORIA_CHAIN_LIVE) < 3)
        assert_int_equal(send_number(alice, number++), 0);
    for (unsigned range = 0; range < alice->ranges; range++) {
        carol->views[range].generation = 2 * NORIA_CHAIN_GENERATION(alice->words[range]) + 1;
        bob->views[range].generation = 2 * NORIA_CHAIN_GENERATION(alice->words[range]) + 1;
    }
    assert_int_equal(send_number(bob, number), 0);
    for (uint64_t i = 0; i <= number; i++)
        expect(carol, i);
    expect_nothing(carol);
    reclaim_all(carol);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
}

static void views_that_were_not_filled(void **state)
{
    /* Claim: who comes while another thread opens the process' view of a link that turns out to be none reads
     * nothing out of a view of its own that was not filled: nobody is said to be in the way. */
    struct noria_mpmc *ring = (struct noria_mpmc *)noria_chain_memory(carol, 0);
    struct noria_chain_link link = {.generation = 1};
    struct noria_chain_view spare;

    (void)state;
    memset(&spare, 0xa5, sizeof(spare));
    carol->views[0].generation = 2 * link.generation + 1;
    ring->magic ^= 1;
    assert_int_equal(noria_chain_enter(carol, &link, &spare), -EBADMSG);
    assert_int_equal(carol->in_the_way, 0);
    assert_false(noria_chain_is_visited(carol, 0));
}

static void links_that_never_were(void **state)
{
    /* Claim: generation 0, which no link has but views start with, is not taken for an opened one. */
    struct noria_chain *chain = (struct noria_chain *)(void *)memory;
    uint64_t number = 7, tail;

    (void)state;
    alice->words[1] = NORIA_CHAIN_WORD(0, 0, NORIA_CHAIN_LIVE);
    chain->tail = NORIA_CHAIN_TAIL(0, 1);
    assert_int_equal(noria_chain_send(bob, &number, sizeof(number), &tail), -EBADMSG);
    assert_int_equal(receive(bob, &number, NULL), -EBADMSG);
}

/* ------------------------------------------------------ others in front of each access of a victim's call */

enum { DAVE = 4, NUMBERS = 400, NOBODY = 1000000 };
static struct noria_chain_handle *const dave = &handles[DAVE];

static jmp_buf death;
static int accesses_left;
static void (*intrusion)(void);
static bool dies;

static uint64_t numbers_sent;
static unsigned times_got[NUMBERS];
static uint64_t victims_buffer; /* of which message it is not known whether the victim has received it, */
static uint64_t victims_number; /* or has sent it */

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

/* Runs the victim's life with an intrusion, or its death, in front of its n-th access. False: it has not so
 * many. */
static bool interrupt(void (*life)(void), int at)
{
    accesses_left = at;
    watch.before = before_access;
    if (setjmp(death) == 0)
        life();
    watch.before = NULL;
    watch.busy = false; /* as a death leaves it */
    return accesses_left <= 0;
}

/* As a channel sends: who loses the race to grow gives his range back and tries again. */
static int send_and_grow(struct noria_chain_handle *h, uint64_t number)
{
    uint64_t tail = 0, mine = 0;
    unsigned range = 0;

    for (int tries = 0; tries < 10; tries++) {
        int rc = noria_chain_send(h, &number, sizeof(number), &tail);
        if (rc != -EAGAIN)
            return rc;
        rc = noria_chain_claim(h, tail, NORIA_CHAIN_TAIL_RANGE(tail) + 1, &range, &mine);
        if (rc != 0)
            return rc;
        rc = noria_chain_link(h, tail, range, mine);
        if (rc == -EAGAIN)
            give_back(h, range, mine);
        else if (rc != 0)
            return rc;
    }
    return -EAGAIN;
}

static void send_next(struct noria_chain_handle *h)
{
    if (numbers_sent < NUMBERS && send_and_grow(h, numbers_sent) == 0)
        numbers_sent++;
}

static bool take_next(struct noria_chain_handle *h)
{
    uint64_t number = NOBODY;
    int rc = receive(h, &number, NULL);

    assert_true(rc == 0 || rc == -EAGAIN);
    if (rc != 0)
        return false;
    assert_true(number < NUMBERS);
    times_got[number]++;
    return true;
}

/* What a receiver gets is newer and newer, but for what a dead one had taken, and what the victim sent at the
 * same time as others. */
static void drain_in_order(struct noria_chain_handle *h)
{
    uint64_t number, last = 0;
    struct noria_mpmc_record record;
    unsigned links;

    while (noria_chain_recv(h, &number, sizeof(number), &record, &links) == 0) {
        assert_true(number < NUMBERS);
        times_got[number]++;
        if ((record.flags & NORIA_MPMC_REDELIVERED) != 0 || number == victims_number)
            continue;
        assert_true(number >= last);
        last = number;
    }
}

static void others_do_nothing(void)
{
}

static void others_send(void)
{
    for (int i = 0; i < 30; i++)
        send_next(alice);
}

static void others_receive(void)
{
    take_next(bob);
}

static void others_drain(void)
{
    while (take_next(bob))
        continue;
    reclaim_all(bob);
}

static void others_turn(void)
{
    for (int i = 0; i < 40; i++) {
        send_next(alice);
        take_next(bob);
    }
    reclaim_all(bob);
}

static void victim_sends(void)
{
    int rc;

    victims_number = victims_buffer = numbers_sent++;
    rc = send_and_grow(carol, victims_number);
    assert_true(rc == 0 || rc == -EAGAIN);
    assert_true(rc == 0 || times_got[victims_number] == 0);
    victims_buffer = rc == 0 ? NOBODY : victims_number;
}

static void victim_receives(void)
{
    struct noria_mpmc_record record;
    unsigned links;

    for (int i = 0; i < 2; i++) {
        int rc;
        victims_buffer = NOBODY;
        rc = noria_chain_recv(carol, &victims_buffer, sizeof(victims_buffer), &record, &links);
        assert_true(rc == 0 || rc == -EAGAIN);
        if (rc == 0)
            times_got[victims_buffer]++;
    }
    victims_buffer = NOBODY;
}

static void victim_tidies(void)
{
    noria_chain_retire_empty(carol);
    reclaim_all(carol);
}

/* Takes over what a builder left that died before all this. */
static void victim_inherits(void)
{
    uint64_t word = 0, mine = 0;

    for (unsigned range = 0; noria_chain_find(carol, DAVE, &range, &word) == 1; range++)
        if (noria_chain_inherit(carol, range, word, &mine) == 0)
            give_back(carol, range, mine);
}

static void victim_asks(void)
{
    (void)noria_chain_may_send(carol);
    (void)noria_chain_may_receive(carol);
}

/* As a channel buries: ranges first, for what the dead one has just linked is looked at, too. */
static void bury(uint32_t owner)
{
    struct noria_chain_link links[NORIA_CHAIN_RANGES];
    struct noria_chain_view spare;
    uint64_t word = 0, mine = 0, tail;

    for (unsigned range = 0; noria_chain_find(bob, owner, &range, &word) == 1; range++)
        if (noria_chain_inherit(bob, range, word, &mine) == 0)
            give_back(bob, range, mine);
    for (unsigned n = noria_chain_links(bob, &tail, links); n-- > 0;) {
        uint64_t index = 0;
        assert_int_equal(noria_chain_enter(bob, &links[n], &spare), 0);
        while (noria_mpmc_find(links[n].ring, owner, &index, &word) == 1)
            assert_int_equal(noria_mpmc_settle(links[n].ring, index, word), 1);
        noria_mpmc_announce(links[n].ring);
        noria_chain_leave(bob, &links[n]);
    }
    noria_chain_forget(bob, owner, 3);
    assert_false(noria_chain_has_traces(bob, owner));
}

/* Some numbers are sent, some of them received, and dave died building, in a range of his own. */
static void prepare(unsigned sent, unsigned taken)
{
    uint64_t mine;
    unsigned range;

    make_chain(UINT64_MAX - 40);
    numbers_sent = 0;
    memset(times_got, 0, sizeof(times_got));
    victims_buffer = victims_number = NOBODY;
    while (numbers_sent < sent)
        send_next(alice);
    for (unsigned i = 0; i < taken; i++)
        assert_true(take_next(bob));
    assert_int_equal(noria_chain_claim(dave, noria_chain_tail(dave), alice->ranges - 1, &range, &mine), 0);
}

/* Each message was received once; that which the dead one held once or not at all. No range is lost. */
static void expect_good_end(void)
{
    drain_in_order(bob);
    for (uint64_t number = 0; number < numbers_sent; number++)
        if (times_got[number] != 1)
            assert_true(times_got[number] == 0 && number == victims_buffer);
    victim_inherits();
    noria_chain_retire_empty(bob);
    reclaim_all(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1);
    assert_int_equal(ranges_in(NORIA_CHAIN_FREE), alice->ranges - 1);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        assert_false(noria_chain_has_traces(bob, owner));
}

static void (*const lives[])(void) = {victim_sends, victim_receives, victim_tidies, victim_inherits,
                                      victim_asks};
static const unsigned fillings[][2] = {{3, 1}, {4, 0}, {4, 4}, {10, 3}, {40, 23}};
enum { LIVES = sizeof(lives) / sizeof(lives[0]), FILLINGS = sizeof(fillings) / sizeof(fillings[0]) };

static void whoever_is_stopped_anywhere_goes_on(void **state)
{
    /* Claim: whatever others do in front of any access of a sender who grows, of a receiver, of who tidies
     * up, takes over from the dead, or only asks: nothing is lost, nothing comes twice, no range leaks. */
    static void (*const intrusions[])(void) = {others_send, others_receive, others_drain, others_turn};
    int stops = 0;

    (void)state;
    dies = false;
    for (int life = 0; life < LIVES; life++)
        for (int filling = 0; filling < FILLINGS; filling++)
            for (int who = 0; who < 4; who++) {
                bool stopped = true;
                for (int at = 1; stopped; at++) {
                    prepare(fillings[filling][0], fillings[filling][1]);
                    intrusion = intrusions[who];
                    stopped = interrupt(lives[life], at);
                    expect_good_end();
                    stops += stopped;
                }
            }
    print_message("%d stops\n", stops);
    assert_true(stops > 3000);
}

static void whoever_dies_anywhere_is_mended(void **state)
{
    /* Claim: the same when the victim dies there: once it is settled nothing that was committed is lost,
     * what it had released does not come back, and no range leaks. */
    int deaths = 0;

    (void)state;
    intrusion = others_do_nothing;
    dies = true;
    for (int life = 0; life < LIVES; life++)
        for (int filling = 0; filling < FILLINGS; filling++) {
            bool died = true;
            for (int at = 1; died; at++) {
                prepare(fillings[filling][0], fillings[filling][1]);
                died = interrupt(lives[life], at);
                if (died)
                    bury(CAROL);
                expect_good_end();
                deaths += died;
            }
        }
    print_message("%d deaths\n", deaths);
    assert_true(deaths > 1000);
}

/* ------------------------------------------------------------------------- swaps that are lost, and liars */

static const void *watched;
static int looks_until, looks_so_far;

static void before_that_word(const void *word)
{
    if (word == watched && ++looks_so_far == looks_until)
        intrusion();
}

/* Lets something happen in front of the n-th access to one word. */
static void intrude_on(const void *word, int at, void (*what)(void))
{
    watched = word;
    looks_until = at;
    looks_so_far = 0;
    intrusion = what;
    watch.before = before_that_word;
}

static struct noria_chain *head(void)
{
    return (struct noria_chain *)(void *)memory;
}

static uint64_t bobs_range_word, bobs_tail;
static unsigned bobs_range;

static void bob_claims_it(void)
{
    assert_int_equal(noria_chain_claim(bob, bobs_tail, 1, &bobs_range, &bobs_range_word), 0);
}

static void a_range_that_is_lost_is_gone_around(void **state)
{
    /* Claim: of two who go for the same free range, the one whose swap is lost takes another; with none
     * left it is -EAGAIN. */
    uint64_t tail = noria_chain_tail(alice), mine = 0;
    unsigned range = 0;

    (void)state;
    bobs_tail = tail;
    intrude_on(&alice->words[1], 2, bob_claims_it); /* her look, her swap */
    assert_int_equal(noria_chain_claim(alice, tail, 1, &range, &mine), 0);
    watch.before = NULL;
    assert_int_equal(bobs_range, 1);
    assert_int_equal(range, 2);
    assert_int_equal(alice->words[1], bobs_range_word);
    assert_int_equal(alice->words[2], mine);
    while (noria_chain_claim(alice, tail, 1, &range, &mine) == 0)
        continue;
    assert_int_equal(ranges_in(NORIA_CHAIN_FREE), 0);
    assert_int_equal(ranges_in(NORIA_CHAIN_BUILDING), alice->ranges - 1);
}

static uint64_t builders_word;
static unsigned built_range;

static void the_chain_grows_once_more(void)
{
    uint64_t tail = noria_chain_tail(bob);

    assert_int_equal(noria_chain_claim(bob, tail, 3, &bobs_range, &bobs_range_word), 0);
    assert_int_equal(noria_chain_link(bob, tail, bobs_range, bobs_range_word), 0);
}

static void bob_makes_it_live(void)
{
    struct noria_chain_view spare;
    struct noria_chain_link link = {.range = built_range,
                                    .generation = NORIA_CHAIN_GENERATION(builders_word)};

    assert_int_equal(noria_chain_enter(bob, &link, &spare), 0);
    noria_chain_leave(bob, &link);
}

/* A link whose builder has stopped before it said LIVE. */
static struct noria_chain_link link_not_live_yet(void)
{
    uint64_t tail;
    struct noria_chain_link link = {0, 0, NULL, NULL};

    make_chain(0);
    tail = noria_chain_tail(alice);
    assert_int_equal(noria_chain_claim(alice, tail, 1, &built_range, &builders_word), 0);
    assert_int_equal(noria_chain_link(alice, tail, built_range, builders_word), 0);
    alice->words[built_range] = builders_word;
    link.range = built_range;
    link.generation = NORIA_CHAIN_GENERATION(builders_word);
    return link;
}

static void a_builder_is_helped(void **state)
{
    /* Claim: a tail whose builder stopped before it said LIVE is gone into and made LIVE by whoever comes,
     * also when another one does that at the same time, or the chain grows meanwhile. One that is not the
     * tail is not gone into. */
    static void (*const others[])(void) = {bob_makes_it_live, the_chain_grows_once_more};
    struct noria_chain_view spare;
    struct noria_chain_link link;

    (void)state;
    for (int who = 0; who < 2; who++)
        for (int at = 1; at <= 3; at++) { /* the look, (a second look, or) the swap */
            link = link_not_live_yet();
            intrude_on(&alice->words[built_range], at, others[who]);
            assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
            watch.before = NULL;
            noria_chain_leave(carol, &link);
            assert_int_equal(alice->words[built_range],
                             NORIA_CHAIN_WORD(link.generation, 0, NORIA_CHAIN_LIVE));
            link = link_not_live_yet();
            intrude_on(&head()->tail, at, others[who]);
            assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
            watch.before = NULL;
            noria_chain_leave(carol, &link);
        }
    link = link_not_live_yet();
    head()->tail = NORIA_CHAIN_TAIL(1, 0);
    assert_int_equal(noria_chain_enter(carol, &link, &spare), -EAGAIN);
    assert_int_equal(alice->words[built_range], builders_word);
    assert_false(noria_chain_is_visited(carol, built_range));
}

static void a_link_that_came_too_late(void **state)
{
    /* Claim: who has made a ring of its range and then finds another link behind the tail links nothing;
     * its range stays its own, to be given back. */
    uint64_t tail = noria_chain_tail(alice), mine = 0;
    unsigned range = 0;

    (void)state;
    assert_int_equal(noria_chain_claim(alice, tail, 1, &range, &mine), 0);
    intrude_on(&head()->tail, 2, the_chain_grows_once_more); /* her look, her swap */
    assert_int_equal(noria_chain_link(alice, tail, range, mine), -EAGAIN);
    watch.before = NULL;
    assert_int_equal(noria_chain_tail(alice),
                     NORIA_CHAIN_TAIL(NORIA_CHAIN_GENERATION(bobs_range_word), bobs_range));
    assert_int_equal(alice->words[range], mine);
    give_back(alice, range, mine);
    tail = NORIA_CHAIN_TAIL(1, 200); /* there is no such range */
    head()->tail = tail;
    assert_int_equal(noria_chain_claim(alice, tail, 1, &range, &mine), 0);
    assert_int_equal(noria_chain_link(alice, tail, range, mine), -EBADMSG);
    assert_int_equal(head()->tail, tail);
}

static void carol_opens_it(void)
{
    uint64_t number = 77, tail;

    watch.before = NULL; /* another thread with the same handle */
    assert_int_equal(noria_chain_send(carol, &number, sizeof(number), &tail), 0);
}

static void carol_stops_opening_it(void)
{
    watch.before = NULL;
    carol->views[0].generation = 2 * 1 + 1;
}

static void threads_open_a_link_together(void **state)
{
    /* Claim: a thread that loses the swap for the process' view of a link uses it if the winner has filled
     * it, and else a view of its own; it sends either way. */
    static void (*const others[])(void) = {carol_opens_it, carol_stops_opening_it};
    uint64_t number = 78, tail;

    (void)state;
    for (int who = 0; who < 2; who++) {
        make_chain(0);
        intrude_on(&carol->views[0].generation, 2, others[who]); /* its look, its swap */
        assert_int_equal(noria_chain_send(carol, &number, sizeof(number), &tail), 0);
        assert_null(watch.before);
        if (who == 0)
            expect(bob, 77);
        expect(bob, 78);
        expect_nothing(bob);
    }
}

static struct noria_mpmc_handle as_it_was;

static void view_is_whole(const void *word)
{
    const struct noria_mpmc_handle *ring = &carol->views[0].ring;

    (void)word;
    assert_ptr_equal(ring->ring, as_it_was.ring);
    assert_ptr_equal(ring->slots, as_it_was.slots);
    assert_int_equal(ring->mask, as_it_was.mask);
    assert_int_equal(ring->slot_size, as_it_was.slot_size);
    assert_int_equal(ring->owners, as_it_was.owners);
}

static void a_view_in_use_stays_whole(void **state)
{
    /* Claim: when the words lie and say that the range a thread is in has become another link, the view it
     * uses is never seen half-opened by it, while another thread of the process opens that link; nor is it
     * changed by a ring that cannot be. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1}, other = {.generation = 9};
    struct noria_mpmc *ring = (struct noria_mpmc *)noria_chain_memory(carol, 0);

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        make_chain(0);
        ring = (struct noria_mpmc *)noria_chain_memory(carol, 0);
        assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
        assert_ptr_equal(link.view, &carol->views[0]);
        as_it_was = *link.ring;
        carol->words[0] = NORIA_CHAIN_WORD(9, 0, NORIA_CHAIN_LIVE);
        ring->owners += broken != 0;
        watch.before = view_is_whole;
        assert_int_equal(noria_chain_enter(carol, &other, &spare), broken ? -EBADMSG : 0);
        watch.before = NULL;
        view_is_whole(NULL);
    }
}

static void hostile_rings_are_refused(void **state)
{
    /* Claim: a link whose ring is none, or has another geometry than its range, is -EBADMSG to send to and
     * to receive from, and is looked at again the next time. */
    struct noria_mpmc *ring = (struct noria_mpmc *)noria_chain_memory(alice, 0);
    struct noria_mpmc whole = *ring;
    uint64_t number = 5, tail;

    (void)state;
    for (int lie = 0; lie < 6; lie++) {
        if (lie == 0)
            ring->magic++;
        else if (lie == 1)
            ring->slots = ring->slots / 2;
        else if (lie == 2)
            ring->max_message--;
        else if (lie == 3)
            ring->owners++;
        else if (lie == 4)
            ring->pack = 2, ring->slots = 8, ring->max_message = 1;
        else
            ring->pack = 0;
        assert_int_equal(noria_chain_send(alice, &number, sizeof(number), &tail), -EBADMSG);
        assert_int_equal(receive(bob, &number, NULL), -EBADMSG);
        assert_false(noria_chain_is_visited(alice, 0));
        memcpy(ring, &whole, sizeof(whole));
    }
    assert_int_equal(noria_chain_send(alice, &number, sizeof(number), &tail), 0);
    expect(bob, number);
}

static uint64_t restless_bits;
static int restless_accesses;

static void change_that_word(const void *word)
{
    restless_accesses++;
    if (word == watched)
        *(uint64_t *)(uintptr_t)watched ^= restless_bits;
}

static void restless_tails_end_every_call(void **state)
{
    /* Claim: a tail that changes in front of every look, between two full links, or between two looks for
     * what is in the chain, ends every call after a counted number of accesses. */
    enum { MOST = 1000 * NORIA_CHAIN_TRIES };
    struct noria_chain_link links[NORIA_CHAIN_RANGES];
    struct noria_mpmc_record record;
    uint64_t n = 0, tail, one, other;
    unsigned count;

    (void)state;
    one = head()->tail;
    while (ranges_in(NORIA_CHAIN_LIVE) < 2)
        assert_int_equal(send_number(alice, n++), 0);
    other = head()->tail;
    while (noria_chain_send(alice, &n, sizeof(n), &tail) == 0)
        n++;
    watched = &head()->tail;
    restless_bits = one ^ other;
    for (int i = 0; i < 5; i++) {
        restless_accesses = 0;
        watch.before = change_that_word;
        if (i == 0)
            assert_int_equal(noria_chain_send(alice, &n, sizeof(n), &tail), -EAGAIN);
        else if (i == 1)
            assert_int_equal(noria_chain_links(alice, &tail, links), 0);
        else if (i == 2)
            assert_int_equal(noria_chain_recv(alice, &n, sizeof(n), &record, &count), -EAGAIN);
        else if (i == 3)
            noria_chain_retire_empty(alice);
        else
            assert_false(noria_chain_may_receive(alice));
        watch.before = NULL;
        assert_true(restless_accesses > NORIA_CHAIN_TRIES && restless_accesses < MOST);
    }
}

static void others_retire_it(void)
{
    assert_true(take_next(bob));
    expect_nothing(bob);
    assert_int_equal(ranges_in(NORIA_CHAIN_RETIRED), 1);
}

static void a_link_that_goes_is_gone_around(void **state)
{
    /* Claim: a receiver, one who asks and one who tidies up go on with the next link when one has been
     * retired since they looked which there are. */
    uint64_t n = 0, number = 0;

    (void)state;
    for (int who = 0; who < 3; who++) {
        make_chain(0);
        n = 0;
        while (ranges_in(NORIA_CHAIN_LIVE) == 1)
            assert_int_equal(send_number(alice, n++), 0);
        for (uint64_t i = 0; i < n - 1; i++)
            expect(bob, i);
        intrude_on(noria_chain_visits(carol, CAROL, 0), 1, others_retire_it); /* she counts herself in */
        if (who == 0) {
            assert_int_equal(receive(carol, &number, NULL), -EAGAIN);
        } else if (who == 1) {
            assert_false(noria_chain_may_receive(carol));
        } else {
            noria_chain_retire_empty(carol);
        }
        watch.before = NULL;
        assert_int_equal(looks_so_far >= looks_until, 1);
        assert_int_equal(send_number(alice, 9), 0);
        assert_true(noria_chain_may_receive(carol));
        expect(carol, 9);
    }
}

/* Some links of which the first is in use by carol, half-done; the last number sent is returned. */
static uint64_t links_behind_a_slow_one(struct noria_chain_link *link, struct noria_mpmc_record *slow,
                                        struct noria_chain_view *spare)
{
    uint64_t n = 0;

    make_chain(0);
    memset(slow, 0, sizeof(*slow));
    assert_int_equal(noria_chain_enter(carol, link, spare), 0);
    assert_int_equal(noria_mpmc_reserve(link->ring, slow), 0);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    return n;
}

static void an_orphan_in_a_later_link_comes_first(void **state)
{
    /* Claim: behind an old link that is still in use, too, what a dead receiver held is given to the next
     * one, first and flagged; an announcement of one that another was faster to take is no record. A length
     * it cannot have is -EBADMSG, once: the slot is not lost. */
    struct noria_chain_view spare, spares;
    struct noria_chain_link link = {.generation = 1}, tail_link;
    struct noria_mpmc_record slow = {0}, held = {0}, record;
    uint64_t n, number, index, word;
    unsigned links;

    (void)state;
    for (int hostile = 0; hostile < 2; hostile++) {
        n = links_behind_a_slow_one(&link, &slow, &spare);
        assert_int_equal(send_number(alice, n), 0);
        for (uint64_t i = 0; i < n - 1; i++)
            expect(bob, i);
        assert_true(noria_chain_tail_link(dave, noria_chain_tail(dave), &tail_link));
        assert_int_equal(noria_chain_enter(dave, &tail_link, &spares), 0);
        assert_int_equal(noria_mpmc_peek(tail_link.ring, &held), 0);
        noria_chain_leave(dave, &tail_link);
        assert_int_equal(noria_chain_enter(bob, &tail_link, &spares), 0);
        index = 0;
        assert_int_equal(noria_mpmc_find(tail_link.ring, DAVE, &index, &word), 1);
        assert_int_equal(noria_mpmc_settle(tail_link.ring, index, word), 1);
        if (hostile != 0)
            noria_mpmc_slot_at(tail_link.ring, index)->length = MESSAGE + 1;
        noria_chain_leave(bob, &tail_link);
        if (hostile == 0) {
            assert_int_equal(noria_chain_recv(bob, &number, sizeof(number), &record, &links), 0);
            assert_int_equal(number, n - 1);
            assert_int_equal(record.flags, NORIA_MPMC_REDELIVERED);
        } else {
            uint8_t large[2 * MESSAGE];
            assert_int_equal(noria_chain_recv(bob, large, sizeof(large), &record, &links), -EBADMSG);
        }
        expect(alice, n); /* who has heard of the orphan, too */
        expect_nothing(alice);
        assert_int_equal(noria_mpmc_abort(link.ring, &slow), 0);
        noria_chain_leave(carol, &link);
        while (ranges_in(NORIA_CHAIN_LIVE) < 3)
            assert_int_equal(send_number(alice, ++n), 0);
        while (receive(bob, &number, NULL) == 0)
            continue;
        reclaim_all(bob);
        assert_int_equal(ranges_in(NORIA_CHAIN_LIVE), 1); /* no slot is left in use anywhere */
    }
}

static struct noria_chain_link slow_link;
static struct noria_mpmc_record slow_record;

static void the_slow_one_commits(void)
{
    uint64_t number = 4711;

    memcpy(slow_record.data, &number, sizeof(number));
    assert_int_equal(noria_mpmc_commit(slow_link.ring, &slow_record, sizeof(number)), 0);
    noria_chain_leave(carol, &slow_link);
    assert_int_equal(send_number(carol, number + 1), 0);
}

static void bob_receives_two(void)
{
    uint64_t number;

    for (uint64_t i = 0; i < 2 && receive(bob, &number, NULL) == 0; i++)
        assert_int_equal(number, 4711 + times_got[0]++);
}

static void slow_senders_keep_their_order_at_any_access(void **state)
{
    /* Claim: a sender that commits in an old link in front of any access of a receiver, and then sends into
     * the newest, has its messages received in this order. */
    bool happened = true;
    int at;

    (void)state;
    intrusion = the_slow_one_commits;
    dies = false;
    for (at = 1; happened; at++) {
        struct noria_chain_view spare;
        uint64_t n;
        slow_link.range = 0;
        slow_link.generation = 1;
        n = links_behind_a_slow_one(&slow_link, &slow_record, &spare);
        for (uint64_t i = 0; i < n; i++)
            expect(bob, i);
        times_got[0] = 0;
        happened = interrupt(bob_receives_two, at);
        bob_receives_two();
        assert_int_equal(times_got[0], happened ? 2 : 0);
    }
    assert_true(at > 40);
}

static void short_buffers_leave_the_message(void **state)
{
    /* Claim: a message longer than the buffer stays first in whichever link, and its length is told: in the
     * tail, in an older link, behind one in use, and when it could not be closed before. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};
    struct noria_mpmc_record slow = {0}, record;
    uint64_t number, n;
    unsigned links;

    (void)state;
    for (int where = 0; where < 3; where++) {
        n = links_behind_a_slow_one(&link, &slow, &spare);
        for (uint64_t i = 0; where > 0 && i < (where == 1 ? n - 1 : n); i++)
            expect(bob, i);
        number = n;
        if (where == 2)
            assert_int_equal(noria_mpmc_commit(link.ring, &slow, sizeof(number)), 0);
        for (int tries = 0; tries < 3; tries++) {
            record.len = 0;
            assert_int_equal(noria_chain_recv(bob, &number, 3, &record, &links), -EMSGSIZE);
            assert_int_equal(record.len, sizeof(number));
        }
        assert_int_equal(receive(bob, &number, NULL), 0);
        if (where != 2)
            assert_int_equal(number, where == 0 ? 0 : n - 1);
    }
}

static void a_full_chain_says_so(void **state)
{
    /* Claim: may_send is true while the newest link has room, and false in a chain that is full to its ceiling
     * or has no tail that can be; may_grow is true while a range is free; may_receive is true as long as a receive would
     * find something, whichever link it is in. */
    uint64_t sent = 0, tail;

    (void)state;
    while (noria_chain_may_send(alice) || noria_chain_may_grow(alice)) {
        assert_int_equal(send_number(alice, sent++), 0);
        assert_true(noria_chain_may_receive(bob));
    }
    assert_int_equal(send_number(alice, sent), -EAGAIN);
    assert_int_equal(ranges_in(NORIA_CHAIN_FREE), 0);
    assert_false(noria_chain_may_send(alice));
    tail = head()->tail;
    head()->tail = NORIA_CHAIN_TAIL(1, 255);
    assert_false(noria_chain_may_send(alice));
    head()->tail = NORIA_CHAIN_TAIL(NORIA_CHAIN_TAIL_GENERATION(tail) + 1, NORIA_CHAIN_TAIL_RANGE(tail));
    assert_false(noria_chain_may_send(alice));
    head()->tail = tail;
    for (uint64_t i = 0; i < sent; i++) {
        assert_true(noria_chain_may_receive(bob));
        expect(bob, i);
    }
    assert_true(noria_chain_may_send(alice)); /* the newest link is empty; no range was given back yet */
    assert_int_equal(ranges_in(NORIA_CHAIN_FREE), 0);
    assert_false(noria_chain_may_grow(alice));
    assert_false(noria_chain_may_receive(bob));
    reclaim_all(bob);
    assert_true(noria_chain_may_grow(alice));
}

static void carol_reclaims_it(void)
{
    uint64_t mine;

    assert_int_equal(noria_chain_reclaim(carol, 0, &mine), 0);
}

static void one_reclaims(void **state)
{
    /* Claim: of two who reclaim a retired range at once, one gets it; a range that is not retired nobody
     * does. */
    uint64_t n = 0, mine = 0;

    (void)state;
    assert_int_equal(noria_chain_reclaim(bob, 0, &mine), -EAGAIN);
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i);
    expect_nothing(bob);
    intrude_on(&bob->words[0], 2, carol_reclaims_it); /* his look, his swap */
    assert_int_equal(noria_chain_reclaim(bob, 0, &mine), -EAGAIN);
    watch.before = NULL;
    assert_int_equal(NORIA_CHAIN_OWNER(bob->words[0]), CAROL);
    assert_int_equal(NORIA_CHAIN_KIND(bob->words[0]), NORIA_CHAIN_CLOSING);
}

static void a_settler_that_comes_too_late(void **state)
{
    /* Claim: who found the word of a dead owner, and comes back when that owner's number lives again and has
     * the range once more, takes nothing from it: no word comes back. */
    uint64_t seen = 0, of_alice = 0, of_carol = 0, of_bob = 0, n = 0;
    unsigned range = 0;

    (void)state;
    while (ranges_in(NORIA_CHAIN_LIVE) == 1)
        assert_int_equal(send_number(alice, n++), 0);
    for (uint64_t i = 0; i < n; i++)
        expect(bob, i);
    expect_nothing(bob);
    assert_int_equal(noria_chain_reclaim(alice, 0, &of_alice), 0); /* and dies */
    assert_int_equal(noria_chain_find(bob, ALICE, &range, &seen), 1);
    assert_int_equal(noria_chain_inherit(carol, 0, seen, &of_carol), 0);         /* and dies */
    assert_int_equal(noria_chain_inherit(alice, 0, of_carol, &of_alice), 0); /* reborn */
    assert_int_equal(noria_chain_inherit(bob, 0, seen, &of_bob), -EAGAIN);
    assert_int_equal(bob->words[0], of_alice);
}

static void traces_are_seen(void **state)
{
    /* Claim: who is counted in somewhere, builds or closes has traces; a LIVE range that names him, which
     * none of ours does, is nothing to settle. */
    struct noria_chain_view spare;
    struct noria_chain_link link = {.generation = 1};
    uint64_t mine, word;
    unsigned range = 0;

    (void)state;
    assert_false(noria_chain_has_traces(bob, CAROL));
    assert_int_equal(noria_chain_enter(carol, &link, &spare), 0);
    assert_true(noria_chain_has_traces(bob, CAROL));
    noria_chain_leave(carol, &link);
    assert_false(noria_chain_has_traces(bob, CAROL));
    assert_int_equal(noria_chain_claim(carol, noria_chain_tail(carol), 1, &range, &mine), 0);
    assert_true(noria_chain_has_traces(bob, CAROL));
    noria_chain_free(carol, range, mine);
    bob->words[0] = NORIA_CHAIN_WORD(1, CAROL, NORIA_CHAIN_LIVE);
    range = 0;
    assert_int_equal(noria_chain_find(bob, CAROL, &range, &word), 0);
    assert_false(noria_chain_has_traces(bob, CAROL));
}

static void ranges_are_as_many_as_can_be(void **state)
{
    /* Claim: however much memory, even more than there is, is cut into at most RANGES ranges, none larger
     * than a ring can be, that lie behind each other inside of it. */
    static struct noria_chain_range range[NORIA_CHAIN_RANGES];
    uint64_t last = 0;

    (void)state;
    for (uint64_t size = NORIA_CHAIN_PAGE; size != 0; size *= 2) {
        uint64_t at = noria_chain_control_bytes(OWNERS);
        uint32_t n = noria_chain_cut(range, 16, size, MESSAGE, OWNERS);
        assert_true(n <= NORIA_CHAIN_RANGES && n >= last);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(range[i].offset, at);
            assert_true(range[i].slots <= NORIA_MPMC_MAX_SLOTS);
            assert_true(range[i].size >= range[i].slots * noria_mpmc_slot_bytes(MESSAGE, 1));
            at += range[i].size;
        }
        assert_true(n == 0 || at <= size);
        last = n;
    }
    assert_int_equal(last, NORIA_CHAIN_RANGES);
}

static void hostile_geometry(void **state)
{
    /* Claim: memory that is no chain, or says what cannot be, is refused; a tail that cannot be is
     * -EBADMSG. */
    struct noria_chain *chain = head();
    struct noria_chain_config config = {
        .capacity = 4, .size = 4096, .max_message = MESSAGE, .owners = OWNERS};
    struct noria_chain_handle h;
    uint64_t tail;

    (void)state;
    assert_int_equal(noria_chain_read_geometry(&h, memory, SIZE), 0);
    assert_int_equal(noria_chain_start(&h, 0, 1, views[1]), -EINVAL);
    assert_int_equal(noria_chain_start(&h, OWNERS + 1, 1, views[1]), -EINVAL);
    assert_int_equal(noria_chain_read_geometry(&h, memory, sizeof(*chain) - 1), -EBADMSG);
    assert_int_equal(noria_chain_read_geometry(&h, memory + 8, SIZE - 8), -EBADMSG);
    assert_int_equal(noria_chain_read_geometry(&h, memory, SIZE - 1), -EBADMSG);
    chain->tail = NORIA_CHAIN_TAIL(1, 200);
    assert_int_equal(noria_chain_send(alice, &tail, sizeof(tail), &tail), -EBADMSG);
    for (int lie = 0; lie < 9; lie++) {
        struct noria_chain whole = *chain;
        if (lie == 0)
            chain->first_slots = NORIA_MPMC_MIN_SLOTS / 2, chain->owners = 1;
        else if (lie == 1)
            chain->first_slots = 24;
        else if (lie == 2)
            chain->first_slots = UINT64_C(1) << 40;
        else if (lie == 3)
            chain->first_slots = 8; /* not one more than the owners may need */
        else if (lie == 4)
            chain->owners = 0;
        else if (lie == 5)
            chain->owners = 0x10000;
        else if (lie == 6)
            chain->max_message = NORIA_MPMC_MAX_MESSAGE + 1;
        else if (lie == 7)
            chain->size = sizeof(*chain);
        else
            chain->magic = 0;
        assert_int_equal(noria_chain_read_geometry(&h, memory, SIZE), -EBADMSG);
        memcpy(chain, &whole, sizeof(whole));
    }
    assert_int_equal(noria_chain_read_geometry(&h, memory, SIZE), 0);

    assert_int_equal(noria_chain_format(memory, SIZE, &config), -EINVAL);
    config.size = noria_chain_least_size(&config);
    assert_int_equal(noria_chain_format(memory, (size_t)config.size - 1, &config), -EINVAL);
    assert_int_equal(noria_chain_format(memory + 8, SIZE - 8, &config), -EINVAL);
    assert_int_equal(noria_chain_format(memory, (size_t)config.size, &config), 0);
    config.owners = 0;
    assert_int_equal(noria_chain_least_size(&config), 0);
    assert_int_equal(noria_chain_format(memory, SIZE, &config), -EINVAL);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int hostile_accesses;

/* Spoils the 8 bytes in shared memory of which the accessed word, which may have 4, is a part. */
static void spoil(const void *accessed)
{
    uint64_t *word = (uint64_t *)((uintptr_t)accessed & ~(uintptr_t)7);

    hostile_accesses++;
    if ((uint8_t *)word < memory || (uint8_t *)word >= memory + SIZE || next_random() % 16 != 0)
        return;
    *word = next_random() % 3 == 0 ? next_random() : *word ^ UINT64_C(1) << next_random() % 64;
}

static void hostile_words_are_bounded(void **state)
{
    /* Claim: whatever stands in the chain, also when it changes in front of any access, calls end after a
     * bounded number of accesses with a result, and read and write nothing outside of it (the sanitizers
     * watch). */
    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint64_t number = 0, tail = 0, mine = 0, word = 0;
        unsigned range = 0;
        make_chain(next_random());
        for (uint64_t n = next_random() % 40; n-- > 0;)
            (void)send_number(alice, n);
        for (uint64_t n = next_random() % 40; n-- > 0;)
            (void)receive(bob, &number, NULL);
        hostile_accesses = 0;
        watch.before = spoil;
        for (int i = 0; i < 4; i++) {
            if (noria_chain_send(alice, &number, sizeof(number), &tail) == -EAGAIN &&
                noria_chain_claim(alice, tail, (unsigned)next_random(), &range, &mine) == 0)
                (void)noria_chain_link(alice, tail, range, mine);
            (void)receive(bob, &number, NULL);
            range = 0;
            if (noria_chain_find(bob, ALICE, &range, &word) == 1)
                (void)noria_chain_inherit(bob, range, word, &mine);
            (void)noria_chain_reclaim(carol, (unsigned)next_random() % carol->ranges, &mine);
            noria_chain_retire_empty(carol);
            (void)noria_chain_may_send(carol);
            (void)noria_chain_may_receive(carol);
            noria_chain_forget(carol, ALICE, next_random());
            (void)noria_chain_has_traces(carol, BOB);
        }
        watch.before = NULL;
        assert_true(hostile_accesses < 1000000);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(grows_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(losers_give_back, setup, teardown),
        cmocka_unit_test_setup_teardown(visitors_keep_a_link, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_senders_keep_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_in_use_for_long, setup, teardown),
        cmocka_unit_test_setup_teardown(many_slow_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_builders, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_visitors, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_that_stop_while_they_open, setup, teardown),
        cmocka_unit_test_setup_teardown(views_that_were_not_filled, setup, teardown),
        cmocka_unit_test_setup_teardown(links_that_never_were, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_geometry, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_is_stopped_anywhere_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_dies_anywhere_is_mended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_that_is_lost_is_gone_around, setup, teardown),
        cmocka_unit_test_setup_teardown(a_builder_is_helped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_that_came_too_late, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_open_a_link_together, setup, teardown),
        cmocka_unit_test_setup_teardown(a_view_in_use_stays_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_rings_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(restless_tails_end_every_call, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_that_goes_is_gone_around, setup, teardown),
        cmocka_unit_test_setup_teardown(an_orphan_in_a_later_link_comes_first, setup, teardown),
        cmocka_unit_test_setup_teardown(slow_senders_keep_their_order_at_any_access, setup, teardown),
        cmocka_unit_test_setup_teardown(short_buffers_leave_the_message, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_chain_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(one_reclaims, setup, teardown),
        cmocka_unit_test_setup_teardown(a_settler_that_comes_too_late, setup, teardown),
        cmocka_unit_test_setup_teardown(traces_are_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_are_as_many_as_can_be, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_words_are_bounded, setup, teardown),
    };

    return cmocka_run_group_tests_name("chain of links", tests, NULL, NULL);
}
