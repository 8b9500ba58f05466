/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: nobody who is killed or stopped while a channel grows or shrinks leaves anything behind, or holds up
 * the others. */
#include "unbounded_test.h"

#include "segment_channel.h"

static void send_one_more(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    uint8_t bytes[LEN] = {0};

    mark();
    noria_send(mine, bytes, LEN, 0);
    mark();
}

static void receive_the_rest(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t bytes[LEN];

    mark();
    while (noria_recv(mine, bytes, LEN, 0, NULL) >= 0)
        continue;
    mark();
}

/* Lets a child die after so many steps of its call. False: it had ended before. */
static bool die_after(void (*life)(void), unsigned steps)
{
    pid_t child = start_stepped(life);
    bool inside = true;

    for (unsigned i = 0; i < steps && inside; i++)
        inside = step(child);
    end_stepped(child);
    return inside;
}

/* Lets a child die at the so-manieth place before or after a system call in its call. False: it had ended. */
static bool die_at_system_call(void (*life)(void), unsigned places)
{
    pid_t child = start_stepped(life);
    int signal = SIGTRAP;

    for (unsigned i = 0; i < places && signal == SIGTRAP; i++) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        signal = await_stop(child);
    }
    end_stepped(child);
    return signal == SIGTRAP;
}

static unsigned drain_all(void)
{
    uint8_t bytes[LEN];
    unsigned n = 0;

    while (noria_recv(ch.rx, bytes, LEN, 10 * MS, NULL) == LEN)
        n++;
    return n;
}

/* The messages that fill the first link and one more, all that fit, and the size of the drained channel. */
static unsigned measure_room(unsigned *first_link, uint64_t *small)
{
    unsigned room;

    *first_link = 0;
    *small = stat_of(ch.rx).footprint;
    while (stat_of(ch.tx).footprint == *small) {
        send_from(0, 1);
        ++*first_link;
    }
    assert_int_equal(drain_all(), *first_link);
    expect_footprint_to_fall(*small);
    room = send_until_full(0);
    assert_int_equal(drain_all(), room);
    expect_footprint_to_fall(*small);
    return room;
}

/* All fits that fitted before, as soon as the dead are noticed: waiting at the drained channel does it. */
static void expect_room(unsigned room)
{
    unsigned fitted = 0;

    for (int i = 0; i < 100 && fitted + 3 < room; i++) {
        fitted = send_until_full(0);
        assert_int_equal(drain_all(), fitted);
    }
    assert_true(fitted + 3 >= room);
}

static void killed_while_it_grows(void **state)
{
    /* Claim: a sender killed anywhere while it puts a link behind the chain leaves nothing behind: all
     * that was sent comes, the whole room below the ceiling is there again, and the memory falls back. */
    unsigned first_link, room;
    uint64_t small;

    (void)state;
    ch.options.recheck_ns = 1 * MS;
    open_pair();
    room = measure_room(&first_link, &small);
    for (unsigned steps = 1;; steps += steps) {
        unsigned sent = send_from(0, first_link - 1), got;
        bool more = die_after(send_one_more, steps);
        got = drain_all();
        assert_true(got == sent || got == sent + 1);
        expect_footprint_to_fall(small);
        if (!more)
            break;
    }
    expect_room(room);
}

/* Messages of several links, a receiver that dies over them, and what must be true then. False: it had ended; *shrank: it had
 * given memory back. */
static bool survives_shrinking(bool (*die)(void (*life)(void), unsigned), unsigned places, uint64_t small, bool *shrank)
{
    uint64_t large;
    bool more;

    send_from(0, 90);
    large = stat_of(ch.rx).footprint;
    more = die(receive_the_rest, places);
    *shrank = stat_of(ch.rx).footprint < large;
    assert_true(drain_all() <= 90);
    expect_footprint_to_fall(small);
    return more;
}

static void killed_while_it_shrinks(void **state)
{
    /* Claim: the same of a receiver killed anywhere while it drains and gives back, and before or after each of
     * its system calls, which are those that give memory back: all messages come but the one it was just taking,
     * which comes again or has been taken. */
    unsigned steps = 1, places = 1;
    bool shrank = true;
    uint64_t small;

    (void)state;
    ch.options.recheck_ns = 1 * MS;
    open_pair();
    small = stat_of(ch.rx).footprint;
    while (survives_shrinking(die_after, steps, small, &shrank))
        steps += steps;
    assert_true(survives_shrinking(die_at_system_call, places, small, &shrank) && !shrank);
    while (survives_shrinking(die_at_system_call, ++places, small, &shrank))
        continue;
    assert_true(shrank);
}

static void stopped_while_it_grows(void **state)
{
    /* Claim: a sender stopped anywhere while it grows holds up nobody; when it goes on its message comes. */
    uint64_t small;
    unsigned first_link;

    (void)state;
    ch.options.recheck_ns = 1 * MS;
    open_pair();
    measure_room(&first_link, &small);
    for (unsigned steps = 1;; steps += steps) {
        pid_t child;
        bool inside = true;
        unsigned got;
        send_from(0, first_link - 1);
        child = start_stepped(send_one_more);
        for (unsigned i = 0; i < steps && inside; i++)
            inside = step(child);
        send_from(0, 500);
        got = drain_all();
        assert_true(got == first_link - 1 + 500 || got == first_link + 500);
        if (inside)
            run_to_mark(child, 0);
        got += drain_all();
        assert_int_equal(got, first_link + 500);
        end_stepped(child);
        expect_footprint_to_fall(small);
        if (!inside)
            break;
    }
}

static void open_once(void)
{
    mark();
    open_handle(NORIA_RECV);
    mark();
}

static void killed_while_it_recovers(void **state)
{
    /* Claim: who is killed before or after any system call while it opens, and cleans up after one that died
     * with the memory of a new link in its hands, leaves nothing behind either. */
    unsigned first_link, room, growing = 1, got;
    bool more = true;
    uint64_t small;

    (void)state;
    ch.options.recheck_ns = 1 * MS;
    open_pair();
    room = measure_room(&first_link, &small);
    for (bool has_grown = false; !has_grown; growing++) {
        send_from(0, first_link - 1);
        assert_true(die_at_system_call(send_one_more, growing));
        has_grown = stat_of(ch.rx).footprint > small; /* nobody has cleaned up yet */
        drain_all();
        expect_footprint_to_fall(small);
    }
    for (unsigned opening = 1; more; opening++) {
        send_from(0, first_link - 1);
        die_at_system_call(send_one_more, growing - 1);
        more = die_at_system_call(open_once, opening);
        got = drain_all();
        assert_int_equal(got, first_link - 1);
        expect_footprint_to_fall(small);
        expect_room(room);
        expect_footprint_to_fall(small);
    }
}

static void all_places_taken_by_the_dead(void **state)
{
    /* Claim: where all who were there died growing, and the table is full of them, the next to open cleans up
     * after them without having a place: nothing is missing, neither messages nor room. */
    unsigned first_link, room;
    uint64_t small;

    (void)state;
    ch.options.max_participants = 2;
    open_pair();
    room = measure_room(&first_link, &small);
    for (unsigned steps = 64; steps < 100000; steps *= 2) {
        pid_t children[2];
        unsigned got;
        send_from(0, first_link - 1);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        for (unsigned i = 0; i < 2; i++) {
            children[i] = start_stepped(send_one_more);
            for (unsigned k = 0; k < steps && step(children[i]); k++)
                continue;
        }
        end_stepped(children[0]);
        end_stepped(children[1]);
        open_pair();
        got = drain_all();
        assert_true(got >= first_link - 1 && got <= first_link + 1);
        expect_footprint_to_fall(small);
        expect_room(room);
        expect_footprint_to_fall(small);
    }
}

/* ------------------------------------------------------------------------------ as the killed leave it */

static struct noria_chain_handle *chain_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.unbounded.chain;
}

/* A process that opens so many handles and is killed. The number of the last. */
static uint32_t let_die(unsigned handles)
{
    pid_t child;
    int status;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < handles; i++)
            open_handle(NORIA_SEND);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    for (uint32_t number = ch.options.max_participants; ch.tx != NULL && number > 0; number--)
        if (NORIA_ENTRY_STATE(noria_segment_channel_of(ch.tx)->table[number - 1].word) == NORIA_ENTRY_LIVE)
            return number;
    return 0;
}

static void open_and_close(void)
{
    noria_channel *newcomer = open_handle(0);

    assert_int_equal(noria_close(newcomer), 0);
}

/* Takes the guest's lock, as another guest would. The descriptor that holds it. */
static int lock_out_guests(void)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = NORIA_LOCK_PARTICIPANTS + ch.options.max_participants + 1,
                         .l_len = 1};
    int fd = open(ch.path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

static void one_guest_at_a_time(void **state)
{
    /* Claim: who has no place of his own and finds another one at work as the guest does not clean up beside
     * him: the channel has no place (-EBUSY) until that one is done. */
    noria_channel *none = NULL;
    int guest;

    (void)state;
    ch.options.max_participants = 2;
    let_die(2);
    guest = lock_out_guests();
    assert_fails(try_open(&none, NORIA_RECV), EBUSY);
    close(guest);
    open_pair();
    assert_int_equal(stat_of(ch.rx).deaths, 2);
}

static void a_dead_guest_leaves_nothing(void **state)
{
    /* Claim: what a guest who was killed leaves, a range that he was giving back and a link that he was in,
     * the next to open gives back; not while another guest is at work, whose it may be. */
    uint64_t *visits, *word, before, closing;
    uint32_t guest;
    int other;

    (void)state;
    open_pair();
    guest = ch.options.max_participants + 1;
    visits = noria_chain_visits(chain_of(ch.tx), guest, 0);
    word = &chain_of(ch.tx)->words[1];
    before = *word;
    closing = NORIA_CHAIN_WORD(NORIA_CHAIN_GENERATION(before) + 1, guest, NORIA_CHAIN_CLOSING);
    *visits = 1;
    *word = closing;
    other = lock_out_guests();
    open_and_close();
    assert_int_equal(*visits, 1);
    assert_int_equal(*word, closing);
    close(other);
    open_and_close();
    assert_int_equal(*visits, 0);
    assert_int_equal(NORIA_CHAIN_KIND(*word), NORIA_CHAIN_FREE);
    assert_true(NORIA_CHAIN_GENERATION(*word) > NORIA_CHAIN_GENERATION(before));
}

static void a_link_of_the_dead_is_a_link(void **state)
{
    /* Claim: who is killed between making his link the tail and saying so has linked it: `who` shows that he
     * had it in hands, cleaning up makes it a link like others, and nothing in it is lost. */
    uint64_t *word, live;
    uint32_t dead;
    struct noria_participant who[8];
    int n;

    (void)state;
    open_pair();
    send_from(0, 3);
    word = &chain_of(ch.tx)->words[0];
    live = *word;
    dead = let_die(1);
    *word = NORIA_CHAIN_WORD(NORIA_CHAIN_GENERATION(live), dead, NORIA_CHAIN_BUILDING);
    n = noria_who(ch.address, who, 8);
    assert_int_equal(n, 3);
    assert_int_equal(who[n - 1].number, dead);
    assert_int_equal(who[n - 1].alive, 0);
    assert_int_equal(who[n - 1].held, 1);
    assert_int_equal(who[0].held, 0);
    open_and_close();
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    assert_int_equal(*word, live);
    for (unsigned n_received = 0; n_received < 3; n_received++)
        expect(n_received, LEN);
}

static void nobody_is_given_up_over_a_corrupt_link(void **state)
{
    /* Claim: as long as a link cannot be looked into, because it is corrupt, or no link can be found, a dead
     * participant stays in the table, for he may hold something there; then he goes. */
    struct noria_mpmc *ring;
    uint64_t *word, live;

    (void)state;
    open_pair();
    send_from(0, 1);
    let_die(1);
    ring = noria_chain_memory(chain_of(ch.tx), 0);
    ring->magic ^= 1;
    open_and_close();
    assert_int_equal(stat_of(ch.rx).deaths, 0);
    ring->magic ^= 1;
    word = &chain_of(ch.tx)->words[0];
    live = *word;
    *word = 0;
    chain_of(ch.tx)->chain->tail += UINT64_C(100) << 8;
    open_and_close();
    assert_int_equal(stat_of(ch.rx).deaths, 0);
    *word = live;
    chain_of(ch.tx)->chain->tail -= UINT64_C(100) << 8;
    open_and_close();
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    expect(0, LEN);
}

int main(void)
{
    static const struct named_test tests[] = {
        {"killed_while_it_grows", killed_while_it_grows, NORIA_KIND_MPMC, "shm"},
        {"killed_while_it_shrinks", killed_while_it_shrinks, NORIA_KIND_MPMC, "shm"},
        {"stopped_while_it_grows", stopped_while_it_grows, NORIA_KIND_MPMC, "shm"},
        {"killed_while_it_recovers", killed_while_it_recovers, NORIA_KIND_MPMC, "shm"},
        {"all_places_taken_by_the_dead", all_places_taken_by_the_dead, NORIA_KIND_MPMC, "shm"},
        {"one_guest_at_a_time", one_guest_at_a_time, NORIA_KIND_MPMC, "shm"},
        {"a_dead_guest_leaves_nothing", a_dead_guest_leaves_nothing, NORIA_KIND_MPMC, "shm"},
        {"a_link_of_the_dead_is_a_link", a_link_of_the_dead_is_a_link, NORIA_KIND_MPMC, "shm"},
        {"nobody_is_given_up_over_a_corrupt_link", nobody_is_given_up_over_a_corrupt_link, NORIA_KIND_MPMC,
         "shm"},
    };

    return run_variants_with("unbounded, deaths", tests, sizeof(tests) / sizeof(tests[0]), setup_unbounded,
                             teardown);
}
