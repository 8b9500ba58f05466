/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a channel with max_bytes grows while messages pile up and shrinks when they are drained; below
 * the ceiling no sender waits, at the ceiling `full` decides. */
#include "unbounded_test.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include "segment_channel.h"

static void grows_and_shrinks(void **state)
{
    /* Claim: what is sent beyond the first link's room goes into new memory, in order; drained, the memory
     * goes back to what it was; and so again and again. */
    uint64_t small;

    (void)state;
    open_pair();
    small = stat_of(ch.tx).footprint;
    assert_true(small < 200 * KIB);
    assert_int_equal(stat_of(ch.tx).max_bytes, MIB);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t sequence = 0;
        send_from(0, 2000);
        assert_int_equal(stat_of(ch.tx).messages, 2000);
        assert_int_equal(stat_of(ch.tx).bytes, 2000 * LEN);
        assert_true(stat_of(ch.tx).footprint > small + 200 * KIB);
        for (unsigned i = 0; i < 2000; i++) {
            struct noria_info info = expect(i, LEN);
            assert_true(i == 0 || info.sequence > sequence);
            sequence = info.sequence;
        }
        expect_footprint_to_fall(small);
    }
}

static void a_trickle_keeps_no_memory(void **state)
{
    /* Claim: after a flood the memory goes back although messages go on coming, one by one; while as much comes again
     * and again as a large link is for, it stays. */
    uint64_t small, large;

    (void)state;
    open_pair();
    small = stat_of(ch.tx).footprint;
    send_from(0, 2000);
    for (unsigned i = 0; i < 2000; i++)
        expect(i, LEN);
    expect_nothing(EAGAIN);
    large = stat_of(ch.tx).footprint;
    assert_true(large > small + 100 * KIB);
    for (unsigned round = 0; round < 100; round++) {
        send_from(0, 1000);
        for (unsigned i = 0; i < 1000; i++)
            expect(i, LEN);
        expect_nothing(EAGAIN);
        assert_true(stat_of(ch.tx).footprint >= large);
    }
    for (unsigned i = 0; i < 40; i++) {
        send_from(i, 1);
        expect(i, LEN);
        expect_nothing(EAGAIN);
    }
    assert_true(stat_of(ch.tx).footprint <= small + (is_at("file") ? 65536 : 0));
}

static void positions_wrap(void **state)
{
    /* Claim: the same where positions wrap. */
    (void)state;
    ch.options.first_position = UINT64_MAX - 300;
    open_pair();
    for (unsigned round = 0; round < 5; round++) {
        send_from(0, 1500);
        for (unsigned i = 0; i < 1500; i++)
            expect(i, LEN);
        expect_nothing(EAGAIN);
    }
}

static void ceiling_holds(void **state)
{
    /* Claim: memory stays below the ceiling; there a send says that the channel is full, and once messages
     * are taken there is room again. */
    unsigned fitted, again;

    (void)state;
    open_pair();
    fitted = send_until_full(0);
    assert_true(fitted > 4000);
    assert_true(stat_of(ch.tx).footprint <= MIB);
    for (unsigned i = 0; i < fitted; i++)
        expect(i, LEN);
    again = send_until_full(0);
    assert_true(again + again / 4 > fitted); /* the smallest link may be in another place */
    for (unsigned i = 0; i < again; i++)
        expect(i, LEN);
    expect_nothing(EAGAIN);
}

static void room_at_every_moment(void **state)
{
    /* Claim: a drained channel has all its room however often a receiver has looked since: also just when it
     * has gone on in a small link and nobody has taken the large one out yet. */
    unsigned room;
    uint64_t small;

    (void)state;
    open_pair();
    small = stat_of(ch.rx).footprint;
    room = send_until_full(0);
    for (unsigned i = 0; i < room; i++)
        expect(i, LEN);
    expect_footprint_to_fall(small);
    for (unsigned looks = 1; looks <= 40; looks++) {
        unsigned fitted;
        send_from(0, room / 2); /* into the largest link */
        for (unsigned i = 0; i < room / 2; i++)
            expect(i, LEN);
        for (unsigned i = 0; i < looks; i++)
            expect_nothing(EAGAIN);
        fitted = send_until_full(0);
        assert_true(fitted + fitted / 8 > room);
        for (unsigned i = 0; i < fitted; i++)
            expect(i, LEN);
        expect_footprint_to_fall(small);
    }
}

static bool has_room(void)
{
    struct noria_ready wait = {.channel = ch.tx, .side = NORIA_SEND};
    int rc = noria_wait_any(&wait, 1, 0);

    assert_int_equal(rc, wait.ready);
    return rc == 1;
}

static void room_at_the_ceiling_is_told(void **state)
{
    /* Claim: at the ceiling whoever waits for room is told as soon as a send would find some: also when a receiver
     * has just taken the last message of an older link, and does not come again. */
    unsigned sent, found = 0;

    (void)state;
    open_pair();
    sent = send_until_full(0);
    for (unsigned got = 0; got < 3000; got++) {
        bool told;
        expect(got, LEN);
        told = has_room();
        assert_int_equal(try_send(sent, LEN), told ? 0 : -EAGAIN);
        sent += told;
        found += told;
    }
    assert_true(found > 0);
}

static void policies_at_the_ceiling(void **state)
{
    /* Claim: with DROP_NEWEST nothing is lost below the ceiling, and what is lost at it is counted and
     * told. */
    unsigned got = 0;
    uint64_t told = 0;
    uint8_t bytes[LEN];
    struct noria_info info;

    (void)state;
    ch.options.full = NORIA_FULL_DROP_NEWEST;
    open_pair();
    send_from(0, 3000);
    assert_int_equal(stat_of(ch.tx).lost, 0);
    send_from(3000, 20000);
    while (noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info) == LEN) {
        verify_message(bytes, got++, LEN);
        told += info.lost;
    }
    assert_true(told > 0);
    assert_int_equal(got + told, 23000);
    assert_int_equal(stat_of(ch.rx).lost, told);
}

static void *drain_slowly(void *n)
{
    for (unsigned i = 0; i < *(unsigned *)n; i++) {
        uint8_t bytes[LEN];
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), -1, NULL), LEN);
        verify_message(bytes, i, LEN);
    }
    return NULL;
}

static void blocks_at_the_ceiling(void **state)
{
    /* Claim: with BLOCK a sender waits at the ceiling, and goes on when a receiver has made room. */
    unsigned n = 60000;
    uint8_t bytes[LEN];
    pthread_t receiver;

    (void)state;
    open_pair();
    unsigned fitted = send_until_full(0);
    assert_fails(noria_send(ch.tx, bytes, LEN, 5 * MS), ETIMEDOUT);
    assert_int_equal(pthread_create(&receiver, NULL, drain_slowly, &n), 0);
    for (unsigned i = fitted; i < n; i++) {
        fill_message(bytes, i, LEN);
        assert_int_equal(noria_send(ch.tx, bytes, LEN, -1), 0);
    }
    pthread_join(receiver, NULL);
    assert_true(stat_of(ch.tx).footprint <= MIB);
}

static void refusals(void **state)
{
    /* Claim: a ceiling below one segment, and what a growing channel cannot do, is -EINVAL; zero copy is
     * -ENOTSUP. */
    struct noria_span span = {0};

    (void)state;
    ch.options.max_bytes = 4096;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    ch.options.max_bytes = MIB;
    ch.options.capacity = 1 << 20;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    ch.options.capacity = 8;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    ch.options.full = NORIA_FULL_BLOCK;
    ch.options.priorities = 4;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    ch.options.priorities = 1;
    ch.options.kind = NORIA_KIND_SPSC;
    assert_fails(try_open(&ch.tx, NORIA_SEND), EINVAL);
    ch.options.kind = NORIA_KIND_MPMC;
    open_pair();
    assert_fails(noria_reserve(ch.tx, 8, &span, 0), ENOTSUP);
    assert_fails(noria_peek(ch.rx, &span, 0, NULL), ENOTSUP);
}

static void late_openers_see_it_all(void **state)
{
    /* Claim: a handle opened while the chain has many links receives from the oldest on. */
    (void)state;
    ch.keeper = NULL;
    ch.tx = open_handle(NORIA_SEND);
    send_from(0, 3000);
    ch.rx = open_handle(NORIA_RECV);
    for (unsigned i = 0; i < 3000; i++)
        expect(i, LEN);
    expect_nothing(EAGAIN);
}

/* ------------------------------------------------------------------------------------------------ corrupt */

static struct noria_chain_handle *chain_of(noria_channel *channel)
{
    return &noria_segment_channel_of(channel)->part.unbounded.chain;
}

static void short_buffers(void **state)
{
    /* Claim: a buffer that is too short is -EMSGSIZE, and the message stays first, also behind links that are
     * empty. */
    uint8_t bytes[LEN];

    (void)state;
    open_pair();
    send_from(0, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        assert_fails(noria_recv(ch.rx, bytes, LEN - 1, 0, NULL), EMSGSIZE);
        expect(i, LEN);
    }
}

static void the_end_waits_for_what_others_hold(void **state)
{
    /* Claim: with no sender left a receiver of an empty channel is not told of the end while another one is
     * just taking a message, which would come back if he died. */
    struct noria_chain_handle *chain;
    struct noria_chain_link link;
    struct noria_chain_view spare;
    struct noria_mpmc_record record = {.count = 1};
    noria_channel *other;

    (void)state;
    ch.rx = open_handle(NORIA_RECV); /* who is there before the first sender */
    ch.tx = open_handle(NORIA_SEND);
    other = open_handle(NORIA_RECV);
    send_from(0, 2);
    expect(0, LEN);
    chain = chain_of(other);
    assert_true(noria_chain_tail_link(chain, noria_chain_tail(chain), &link));
    assert_int_equal(noria_chain_enter(chain, &link, &spare), 0);
    assert_int_equal(noria_mpmc_peek(link.ring, &record), 0);
    close_handle(&ch.tx);
    expect_nothing(EAGAIN);
    assert_int_equal(noria_mpmc_release(link.ring, &record), 0);
    noria_chain_leave(chain, &link);
    expect_nothing(EPIPE);
    close_handle(&other);
}

static void corrupt_tails(void **state)
{
    /* Claim: a tail that names no range is -EBADMSG to a sender, room to nobody, and no end of the chain to a
     * receiver, who gets what is there; where no link can be found there is nothing to count. */
    uint64_t *tail, *words, kept[2];

    (void)state;
    open_pair();
    send_from(0, 2);
    tail = &chain_of(ch.tx)->chain->tail;
    words = chain_of(ch.tx)->words;
    kept[0] = *tail;
    kept[1] = words[0];
    *tail |= 0xff;
    assert_fails(try_send(2, LEN), EBADMSG);
    *tail = kept[0];
    expect(0, LEN);
    words[0] = 0;
    *tail = NORIA_CHAIN_TAIL(1, 200);
    assert_int_equal(stat_of(ch.rx).messages, -1);
    assert_int_equal(stat_of(ch.rx).bytes, -1);
    close_handle(&ch.rx); /* finds nothing of its own, and goes */
    words[0] = kept[1];
    *tail = kept[0];
    ch.rx = open_handle(NORIA_RECV);
    expect(1, LEN);
}

static void corrupt_links(void **state)
{
    /* Claim: a link that is no ring any more is -EBADMSG to whoever comes new to it; stat leaves it out, and
     * closing gets past it; who was inside before goes on. */
    noria_channel *late;
    struct noria_mpmc *ring;
    uint8_t bytes[LEN];

    (void)state;
    open_pair();
    send_from(0, 2);
    expect(0, LEN);
    ring = noria_chain_memory(chain_of(ch.tx), 0);
    ring->magic ^= 1;
    late = open_handle(NORIA_RECV | NORIA_SEND);
    assert_int_equal(stat_of(late).messages, 0);
    assert_fails(noria_recv(late, bytes, LEN, 0, NULL), EBADMSG);
    assert_fails(noria_send(late, bytes, LEN, 0), EBADMSG);
    close_handle(&late);
    expect(1, LEN);
    ring->magic ^= 1;
}

/* ------------------------------------------------------------------------------------------- many threads */

enum { CREW = 3, EACH = 30000 };

static struct {
    uint32_t received[CREW * EACH];
    uint32_t left;
} tally;

/* cmocka's own assertions are for the test's thread alone. */
#define REQUIRE_IN_THREAD(holds) \
    ((holds) ? (void)0 : (fprintf(stderr, "line %d: %s: %s\n", __LINE__, #holds, noria_detail()), abort()))

static void *send_mine(void *context)
{
    uint64_t first = *(unsigned *)context;

    for (uint64_t i = 0; i < EACH; i++) {
        uint64_t message[8] = {first + i, ~(first + i)};
        REQUIRE_IN_THREAD(noria_send(ch.tx, message, sizeof(message), -1) == 0);
        if (i % 5000 == 4999)
            sched_yield();
    }
    return NULL;
}

static void *receive_any(void *context)
{
    uint64_t last[CREW] = {0};

    (void)context;
    while (noria_load_relaxed32(&tally.left) != 0) {
        uint64_t message[8];
        ssize_t rc = noria_recv(ch.rx, message, sizeof(message), 2 * MS, NULL);
        if (rc == -ETIMEDOUT || rc == -EAGAIN)
            continue;
        REQUIRE_IN_THREAD(rc == (ssize_t)sizeof(message));
        REQUIRE_IN_THREAD(message[1] == ~message[0] && message[0] < CREW * EACH);
        REQUIRE_IN_THREAD(message[0] >= last[message[0] / EACH]); /* order of one sender, at one receiver */
        last[message[0] / EACH] = message[0];
        noria_add_relaxed32(&tally.received[message[0]], 1);
        noria_sub_release32(&tally.left, 1);
    }
    return NULL;
}

static void many_threads(void **state)
{
    /* Claim: many threads on shared handles, while links come and go: each message comes once, and those
     * of one sender in order. */
    pthread_t senders[CREW], receivers[CREW];
    unsigned first[CREW];

    (void)state;
    memset(&tally, 0, sizeof(tally));
    tally.left = CREW * EACH;
    open_pair();
    for (unsigned i = 0; i < CREW; i++) {
        first[i] = i * EACH;
        pthread_create(&senders[i], NULL, send_mine, &first[i]);
        pthread_create(&receivers[i], NULL, receive_any, NULL);
    }
    for (unsigned i = 0; i < CREW; i++) {
        pthread_join(senders[i], NULL);
        pthread_join(receivers[i], NULL);
    }
    for (unsigned i = 0; i < CREW * EACH; i++)
        assert_int_equal(tally.received[i], 1);
}

/* -------------------------------------------------------------------------------------- full file systems */

enum { CANNOT = 77, FELL_SHORT = 1 };

/* Whether who waits for room that the file system does not have is told of it no more often than it is looked for. */
static bool waits_in_peace(noria_channel *channel)
{
    struct noria_ready wait = {.channel = channel, .side = NORIA_SEND};
    int64_t until = now_ns() + 200 * MS;
    uint8_t bytes[LEN] = {0};
    int told = 0, rc = 0;

    while (rc >= 0 && now_ns() < until && noria_send(channel, bytes, LEN, 0) == -EAGAIN) {
        rc = noria_wait_any(&wait, 1, 20 * MS);
        told += rc;
    }
    return now_ns() >= until && told <= 200 * MS / ch.options.recheck_ns;
}

/* In a process with a /dev/shm of its own that has 600 KiB. */
static int fill_small_file_system(void)
{
    noria_channel *channel;
    uint8_t bytes[LEN] = {0};
    unsigned fitted[2];

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=600k") != 0)
        return CANNOT;
    ch.options.max_bytes = 64 * MIB;
    if (noria_open(&channel, "shm:/small", NORIA_CREATE | NORIA_SEND | NORIA_RECV, &ch.options) != 0)
        return FELL_SHORT;
    for (int round = 0; round < 2; round++) {
        int rc;
        for (fitted[round] = 0; (rc = noria_send(channel, bytes, LEN, 0)) == 0; fitted[round]++)
            continue;
        if (rc != -EAGAIN || noria_send(channel, bytes, LEN, 2 * MS) != -ETIMEDOUT || !waits_in_peace(channel))
            return FELL_SHORT;
        for (unsigned i = 0; i < fitted[round]; i++)
            if (noria_recv(channel, bytes, LEN, 0, NULL) != LEN)
                return FELL_SHORT;
        for (int i = 0; i < 100; i++)
            noria_recv(channel, bytes, LEN, 0, NULL);
    }
    return fitted[0] > 1000 && fitted[1] + fitted[1] / 4 > fitted[0] && noria_close(channel) == 0
               ? 0
               : FELL_SHORT;
}

static void full_file_system(void **state)
{
    /* Claim: where the file system has no memory left below the ceiling, the channel is full, without a
     * signal, and who waits for room sleeps; and what is drained can be filled again. */
    int status;
    pid_t child;

    (void)state;
    child = fork();
    if (child == 0)
        _exit(fill_small_file_system());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT) {
        print_message("skipped: no right to mount a small /dev/shm\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONLY_MPMC(grows_and_shrinks),
        ONLY_MPMC(a_trickle_keeps_no_memory),
        ONLY_MPMC(positions_wrap),
        ONLY_MPMC(ceiling_holds),
        ONLY_MPMC(room_at_every_moment),
        ONLY_MPMC(room_at_the_ceiling_is_told),
        ONLY_MPMC(policies_at_the_ceiling),
        ONLY_MPMC(blocks_at_the_ceiling),
        ONLY_MPMC(refusals),
        ONLY_MPMC(late_openers_see_it_all),
        ONLY_MPMC(short_buffers),
        ONLY_MPMC(the_end_waits_for_what_others_hold),
        ONLY_MPMC(corrupt_tails),
        ONLY_MPMC(corrupt_links),
        ONLY_MPMC(many_threads),
        {"full_file_system", full_file_system, NORIA_KIND_MPMC, "shm"},
    };

    return run_variants_with("unbounded", tests, sizeof(tests) / sizeof(tests[0]), setup_unbounded, teardown);
}
