/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: however many processes create, open, close and remove at one name at once, those who have it open at
 * a time have the same channel, and nothing is left when it is to go. */
#include "variants_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "peers.h"
#include "segment.h"

enum { CROWD = 5 };

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

/* Starts so many peers on their way to `body`, which begins with await_order(), and lets them go together. */
static void start_crowd(pid_t *crowd, int n, void (*body)(void))
{
    for (int i = 0; i < n; i++)
        crowd[i] = start_peer(body);
    for (int i = 0; i < n; i++)
        await_peer();
    for (int i = 0; i < n; i++)
        tell_peer();
}

/* A number that no other peer of the crowd gets. */
static unsigned draw_number(void)
{
    return (unsigned)__atomic_fetch_add(&peers->numbers[0], 1, __ATOMIC_RELAXED);
}

static void create_and_send(void)
{
    noria_channel *mine = NULL;
    uint8_t bytes[64];
    unsigned number = draw_number();

    say();
    await_order();
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == 0);
    fill_message(bytes, number, 10);
    PEER_REQUIRES(noria_send(mine, bytes, 10, 0) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void all_creators_meet(void **state)
{
    /* Claim (MPMC): processes that open with CREATE at once find themselves on one channel: each one's
     * message is there. */
    pid_t crowd[CROWD];

    (void)state;
    for (int round = 0; round < 15; round++) {
        bool seen[CROWD] = {false};
        peers->numbers[0] = 0;
        start_crowd(crowd, CROWD, create_and_send);
        for (int i = 0; i < CROWD; i++)
            expect_end(crowd[i]);
        assert_int_equal(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), 0);
        for (int i = 0; i < CROWD; i++) {
            uint8_t bytes[64], expected[64];
            assert_int_equal(noria_recv(ch.rx, bytes, 64, 0, NULL), 10);
            for (unsigned number = 0; number < CROWD; number++) {
                fill_message(expected, number, 10);
                if (memcmp(bytes, expected, 10) == 0)
                    seen[number] = true;
            }
        }
        for (int i = 0; i < CROWD; i++)
            assert_true(seen[i]);
        close_handle(&ch.rx);
        if (ch.memfd >= 0)
            return;
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static void create_exclusively(void)
{
    noria_channel *mine = NULL;
    int rc;

    say();
    await_order();
    rc = noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE | NORIA_EXCL, &ch.options);
    if (rc == 0) {
        __atomic_fetch_add(&peers->numbers[1], 1, __ATOMIC_RELAXED);
        PEER_REQUIRES(noria_close(mine) == 0);
    } else {
        PEER_REQUIRES(rc == -EEXIST);
    }
}

static void one_of_the_exclusive_creates(void **state)
{
    /* Claim: of processes that create with EXCL at once exactly one does; the others get -EEXIST. */
    pid_t crowd[CROWD];

    (void)state;
    for (int round = 0; round < 15; round++) {
        peers->numbers[1] = 0;
        start_crowd(crowd, CROWD, create_exclusively);
        for (int i = 0; i < CROWD; i++)
            expect_end(crowd[i]);
        assert_int_equal(peers->numbers[1], 1);
        if (ch.memfd >= 0)
            return;
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static void take_the_sender_role(void)
{
    noria_channel *mine = NULL;
    int rc;

    say();
    await_order();
    rc = noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
    PEER_REQUIRES(rc == 0 || rc == -EBUSY);
    if (rc == 0)
        __atomic_fetch_add(&peers->numbers[1], 1, __ATOMIC_RELAXED);
    say();
    await_end();
    if (rc == 0)
        PEER_REQUIRES(noria_close(mine) == 0);
}

static void one_gets_the_role(void **state)
{
    /* Claim (SPSC): of processes that open the sender's role at once exactly one has it, also right after its
     * last owner was killed; the others get -EBUSY. */
    pid_t crowd[CROWD];

    (void)state;
    for (int round = 0; round < 15; round++) {
        peers->numbers[1] = 0;
        start_crowd(crowd, CROWD, take_the_sender_role);
        for (int i = 0; i < CROWD; i++)
            await_peer();
        assert_int_equal(peers->numbers[1], 1);
        if (round % 2 == 0) {
            for (int i = 0; i < CROWD; i++)
                kill_peer(crowd[i]);
        } else {
            for (int i = 0; i < CROWD; i++)
                tell_peer_to_end();
            for (int i = 0; i < CROWD; i++)
                expect_end(crowd[i]);
        }
    }
}

/* -------------------------------------------------------------------------------------- the last one goes */

static void require_the_same_name(noria_channel *mine)
{
    struct noria_stat stat = {0};
    struct noria_listing listing;

    PEER_REQUIRES(noria_stat(mine, &stat) == 0);
    PEER_REQUIRES(noria_inspect(ch.address, &listing) == 0);
    PEER_REQUIRES(listing.created_ns ==
                  stat.created_ns); /* the name is my channel's as long as I have it open */
}

static void come_and_go(void)
{
    say();
    await_order();
    for (int i = 0; i < 150; i++) {
        noria_channel *mine = NULL;
        PEER_REQUIRES(
            noria_open(&mine, ch.address, (i % 3 == 0 ? NORIA_SEND : 0) | NORIA_CREATE, &ch.options) == 0);
        require_the_same_name(mine);
        if (i % 3 == 0)
            PEER_REQUIRES(noria_send(mine, "x", 1, 0) == 0 || true);
        require_the_same_name(mine);
        PEER_REQUIRES(noria_close(mine) == 0);
    }
}

static void name_stays_while_anybody_has_it_open(void **state)
{
    /* Claim (UNLINK_LAST): while a process has the channel open its name refers to that very channel, however
     * others come and go; when all have gone, so has the name. */
    pid_t crowd[CROWD];

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.options.kind = NORIA_KIND_MPMC;
    start_crowd(crowd, CROWD, come_and_go);
    for (int i = 0; i < CROWD; i++)
        expect_end(crowd[i]);
    assert_int_equal(access(ch.path, F_OK), -1);
}

static void come_and_go_for_ever(void)
{
    for (;;) {
        noria_channel *mine = NULL;
        int rc = noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
        PEER_REQUIRES(rc == 0 ||
                      rc == -EBUSY); /* the table may be full of the killed who are not yet reaped */
        if (rc == 0)
            PEER_REQUIRES(noria_close(mine) == 0);
        __atomic_fetch_add(&peers->numbers[2], 1, __ATOMIC_RELAXED);
    }
}

static void killed_on_the_way_in_or_out(void **state)
{
    /* Claim: processes killed at any moment of opening and closing leave a name that the next one can open,
     * or none; and with the last living handle it goes. */
    uint64_t pause = 12345;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.options.kind = NORIA_KIND_MPMC;
    for (int round = 0; round < 60; round++) {
        noria_channel *mine = NULL;
        pid_t crowd[2];
        int64_t enough;
        for (int i = 0; i < 2; i++)
            crowd[i] = start_peer(come_and_go_for_ever);
        pause = pause * 6364136223846793005u + 1442695040888963407u;
        enough = peers->numbers[2] + 1 + (int64_t)(pause >> 62);
        while (__atomic_load_n(&peers->numbers[2], __ATOMIC_RELAXED) < enough)
            sched_yield();
        for (uint64_t spin = pause >> 44; spin > 0; spin--)
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
        for (int i = 0; i < 2; i++)
            kill_peer(crowd[i]);
        assert_int_equal(noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options),
                         0);
        assert_int_equal(noria_send(mine, "x", 1, 0), 0);
        assert_int_equal(noria_recv(mine, (char[1]){0}, 1, 0, NULL), 1);
        close_handle(&mine);
        assert_int_equal(access(ch.path, F_OK), -1);
    }
}

/* As a process that was stopped in the middle of opening or closing. */
static void hold_the_name(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NORIA_LOCK_CREATE, .l_len = 1};
    int fd = open(ch.path, O_RDWR | O_CLOEXEC);

    PEER_REQUIRES(fcntl(fd, F_OFD_SETLK, &lock) == 0);
    say();
    await_end();
}

static void stopped_on_the_way_in_or_out(void **state)
{
    /* Claim (UNLINK_LAST): while a process is stopped in the middle of opening or closing, opening is
     * -ETIMEDOUT after its timeout and closing returns within about a second; when that one goes on, all is
     * as before. */
    noria_channel *mine = NULL;
    int64_t start;
    pid_t peer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.options.open_timeout_ns = 50 * MS;
    ch.options.kind = NORIA_KIND_MPMC;
    open_pair();
    peer = start_peer(hold_the_name);
    await_peer();
    start = now_ns();
    assert_fails(noria_open(&mine, ch.address, NORIA_SEND, &ch.options), ETIMEDOUT);
    assert_true(now_ns() - start >= 50 * MS);
    assert_int_equal(noria_send(ch.tx, "x", 1, 0), 0); /* traffic goes on */
    assert_int_equal(noria_recv(ch.rx, (char[1]){0}, 1, 0, NULL), 1);
    close_handle(&ch.tx);
    assert_true(now_ns() - start < 20 * SECOND);
    tell_peer_to_end();
    expect_end(peer);
    assert_int_equal(noria_open(&mine, ch.address, NORIA_SEND, &ch.options), 0);
    close_handle(&mine);
    close_handle(&ch.rx);
    assert_int_equal(access(ch.path, F_OK), -1);
}

static void remove_for_ever(void)
{
    int rc;

    for (;;) {
        rc = noria_unlink(ch.address);
        PEER_REQUIRES(rc == 0 || rc == -ENOENT);
        __atomic_fetch_add(&peers->numbers[3], rc == 0, __ATOMIC_RELAXED);
    }
}

static void names_that_are_removed_all_the_time(void **state)
{
    /* Claim: while somebody removes the name again and again, an open with CREATE ends, with a channel or
     * -EAGAIN, and leaves nothing open. */
    pid_t remover;

    (void)state;
    ch.options.open_timeout_ns = 200 * MS;
    remover = start_peer(remove_for_ever);
    for (int i = 0; i < 300 || peers->numbers[3] < 20; i++) {
        noria_channel *mine = NULL;
        int rc = noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
        if (rc != 0 && rc != -EAGAIN)
            fail_msg("%d: %s", rc, noria_detail());
        close_handle(&mine);
    }
    kill_peer(remover);
}

int main(void)
{
    static const struct named_test tests[] = {
        {"all_creators_meet", all_creators_meet, NORIA_KIND_MPMC, "shm"},
        {"all_creators_meet", all_creators_meet, NORIA_KIND_MPMC, "memfd"},
        BY_NAME(one_of_the_exclusive_creates),
        AT("memfd", one_of_the_exclusive_creates),
        {"one_gets_the_role", one_gets_the_role, NORIA_KIND_SPSC, "shm"},
        {"one_gets_the_role", one_gets_the_role, NORIA_KIND_SPSC, "memfd"},
        {"name_stays_while_anybody_has_it_open", name_stays_while_anybody_has_it_open, NORIA_KIND_MPMC,
         "shm"},
        {"killed_on_the_way_in_or_out", killed_on_the_way_in_or_out, NORIA_KIND_MPMC, "shm"},
        {"stopped_on_the_way_in_or_out", stopped_on_the_way_in_or_out, NORIA_KIND_MPMC, "shm"},
        BY_NAME(names_that_are_removed_all_the_time),
    };

    return run_variants_with("names", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
