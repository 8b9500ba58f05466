/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a forked child does not act as its parent: inherited handles are refused, reopened ones are its own,
 * and neither its life nor its exit, its exec nor its closing changes what the parent is to others. */
#include "variants_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peers.h"
#include "transport.h"

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

#define PEER_FAILS(call, error) PEER_REQUIRES((call) == -(error) && strlen(noria_detail()) > 3)

/* Every call on both inherited handles. */
static void try_everything(void)
{
    uint8_t bytes[64] = {0};
    struct iovec vector = {bytes, sizeof(bytes)};
    struct noria_span span = {bytes, 8, {0, 0}};
    struct noria_stat stat = {0};

    PEER_FAILS(noria_send(ch.tx, bytes, 8, 0), ESTALE);
    PEER_FAILS(noria_send(ch.tx, bytes, 8, -1), ESTALE);
    PEER_FAILS(noria_send_prio(ch.tx, bytes, 8, 0, 0), ESTALE);
    PEER_FAILS(noria_send_many(ch.tx, &vector, 1, 0), ESTALE);
    PEER_FAILS(noria_reserve(ch.tx, 8, &span, 0), ESTALE);
    PEER_FAILS(noria_commit(ch.tx, &span, 8, 0), ESTALE);
    PEER_FAILS(noria_abort(ch.tx, &span), ESTALE);
    PEER_FAILS(noria_recv(ch.rx, bytes, 64, -1, NULL), ESTALE);
    PEER_FAILS(noria_recv_many(ch.rx, &vector, 1, 0, NULL), ESTALE);
    PEER_FAILS(noria_peek(ch.rx, &span, 0, NULL), ESTALE);
    PEER_FAILS(noria_release(ch.rx, &span), ESTALE);
    PEER_FAILS(noria_stat(ch.rx, &stat), ESTALE);
    PEER_FAILS(noria_shutdown(ch.tx), ESTALE);
    PEER_REQUIRES(strstr(noria_detail(), "noria_reopen") != NULL);
}

static void try_everything_and_close(void)
{
    try_everything();
    PEER_REQUIRES(noria_close(ch.tx) == 0);
    PEER_REQUIRES(noria_close(ch.rx) == 0);
}

static void inherited_handles_are_stale(void **state)
{
    /* Claim: every call on an inherited handle is -ESTALE with a sentence that says what to do; the child's
     * closing it, or exiting without, leaves the parent's handles, messages and places as they were. */
    struct noria_stat before, after;

    (void)state;
    open_pair();
    send_numbered(1, 10);
    before = stat_of(ch.tx);
    expect_end(start_peer(try_everything_and_close));
    expect_end(start_peer(try_everything));
    after = stat_of(ch.tx);
    assert_memory_equal(&before, &after, sizeof(after));
    send_numbered(2, 10);
    expect(1, 10);
    expect(2, 10);
    ch.keeper = open_handle(0);
    assert_int_equal(stat_of(ch.keeper).senders, 1); /* another handle's view: the parent lives */
    assert_int_equal(stat_of(ch.keeper).deaths, 0);
}

static void answer_with_own_handles(void)
{
    noria_channel *mine;
    struct noria_stat stat = {0};
    uint8_t bytes[64];
    struct noria_info info;

    PEER_REQUIRES(noria_reopen(&mine, ch.tx, is_spsc() ? NORIA_RECV : NORIA_SEND | NORIA_RECV) == 0);
    PEER_REQUIRES(noria_stat(mine, &stat) == 0);
    peers->numbers[0] = stat.self;
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), -1, &info) == 10);
    PEER_REQUIRES(info.flags == 0);
    peers->numbers[1] = info.sender;
    if (!is_spsc())
        PEER_REQUIRES(noria_send(mine, bytes, 10, -1) == 0);
    PEER_FAILS(noria_send(ch.tx, bytes, 8, 0), ESTALE); /* reopening does not revive it */
    PEER_REQUIRES(noria_close(mine) == 0);
    PEER_REQUIRES(noria_close(ch.tx) == 0);
}

static void child_becomes_a_participant(void **state)
{
    /* Claim: noria_reopen makes the child a participant of its own, at any kind of address, who sends and
     * receives. */
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND | (is_spsc() ? 0 : NORIA_RECV));
    peer = start_peer(answer_with_own_handles);
    send_numbered(4, 10);
    if (is_spsc()) {
        expect_end(peer);
    } else {
        while (peers->numbers[1] == 0) /* the child takes it: we look only at what it sends back */
            sched_yield();
        expect_end(peer);
        assert_int_equal(expect_on(ch.tx, 4, 10).sender, peers->numbers[0]);
    }
    assert_int_equal(peers->numbers[1], stat_of(ch.tx).self);
    assert_true(peers->numbers[0] != (int64_t)stat_of(ch.tx).self);
    assert_int_equal(stat_of(ch.tx).deaths, 0);
}

static void reopen_a_taken_role(void)
{
    noria_channel *mine = NULL;

    PEER_FAILS(noria_reopen(&mine, ch.tx, NORIA_SEND), EBUSY);
    PEER_REQUIRES(mine == NULL);
    PEER_REQUIRES(noria_reopen(&mine, ch.tx, 0) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void role_of_the_parent_stays_taken(void **state)
{
    /* Claim (SPSC): a child cannot take the role its parent has, with the parent's handle or without. */
    (void)state;
    open_pair();
    expect_end(start_peer(reopen_a_taken_role));
    send_numbered(1, 1);
    expect(1, 1);
}

static void reopen_in_a_grandchild(void)
{
    noria_channel *mine, *again;
    int status;
    pid_t pid;

    PEER_REQUIRES(noria_reopen(&mine, ch.rx, NORIA_SEND) == 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        PEER_FAILS(noria_send(mine, "x", 1, 0), ESTALE);
        PEER_FAILS(noria_recv(ch.rx, NULL, 0, 0, NULL), ESTALE);
        PEER_REQUIRES(noria_reopen(&again, mine, 0) == 0);
        PEER_REQUIRES(noria_close(again) == 0);
        PEER_REQUIRES(noria_reopen(&again, ch.rx, 0) == 0);
        PEER_REQUIRES(noria_close(again) == 0);
        exit(0);
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && status == 0);
    PEER_REQUIRES(noria_send(mine, "x", 1, 0) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void grandchildren_are_children(void **state)
{
    /* Claim: a child's own handle is as stale in its child as the parent's is, and both can be reopened
     * there. */
    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    expect_end(start_peer(reopen_in_a_grandchild));
    assert_int_equal(noria_recv(ch.rx, (char[1]){0}, 1, 0, NULL), 1);
    assert_int_equal(stat_of(ch.rx).deaths, 0);
}

/* --------------------------------------------------------------------- children that outlive their parent */

static void hold(noria_channel *mine)
{
    struct noria_span span;

    PEER_REQUIRES(noria_peek(mine, &span, -1, NULL) == 0);
}

static void live_on(void)
{
    say();
    for (;;)
        pause();
}

static void hold_and_fork(void)
{
    hold(open_handle(NORIA_RECV));
    fflush(NULL);
    if (fork() == 0) {
        peers->numbers[3] = getpid();
        live_on();
    }
    live_on();
}

/* A fork of which no library hears: the child shares the parent's open file descriptions. */
static void hold_and_clone(void)
{
    hold(open_handle(NORIA_RECV));
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
        peers->numbers[3] = getpid();
        live_on();
    }
    live_on();
}

static void expect_back_without_the_parent(void (*body)(void), bool reaped)
{
    pid_t parent = start_peer(body);
    uint8_t bytes[64];
    struct noria_info info;
    int64_t start;

    await_peer();
    await_peer(); /* the child's word */
    if (reaped)
        kill_peer(parent);
    else
        kill_unreaped(parent);
    start = now_ns();
    ch.rx = open_handle(NORIA_RECV); /* SPSC: the role is free */
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
    peers->numbers[4] = now_ns() - start;
    verify_message(bytes, 5, 10);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    close_handle(&ch.rx);
    kill((pid_t)peers->numbers[3], SIGKILL);
    if (!reaped)
        kill_peer(parent);
}

static void child_does_not_keep_its_parent_alive(void **state)
{
    /* Claim: when a parent is killed, a child that it forked with the handle open, by fork or by a bare
     * clone, does not make it look alive: what it held comes back within 100 ms (the best of three), reaped
     * or a zombie. */
    int64_t best = INT64_MAX;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < 3; i++)
        for (int way = 0; way < 4; way++) {
            send_numbered(5, 10);
            expect_back_without_the_parent(way % 2 == 0 ? hold_and_fork : hold_and_clone, way < 2);
            best = peers->numbers[4] < best ? peers->numbers[4] : best;
        }
    assert_true(best < 100 * MS);
}

/* --------------------------------------------------------------------------------------------------- exec */

static void become_another_program(void)
{
    hold(open_handle(NORIA_RECV));
    /* Says how many descriptors of ours it has, and lives until it is killed. */
    if (dup2((int)peers->numbers[5], 1) != 1)
        exit(1);
    execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd | grep -c -e noria -e variant; exec sleep 1000",
          (char *)NULL);
    exit(1);
}

static void exec_ends_the_participant(void **state)
{
    /* Claim: a process that turns into another program has left: what it held comes back, though its number
     * lives; no descriptor of ours goes along. */
    int report[2];
    char text[16] = "";
    uint8_t bytes[64];
    struct noria_info info;
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(5, 10);
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    peers->numbers[5] = report[1];
    peer = start_peer(become_another_program);
    assert_true(read(report[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "0\n");
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, &info), 10);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    kill_peer(peer);
    close(report[0]);
    close(report[1]);
}

/* ------------------------------------------------------------------------- threads in the forking process */

static void *receive_until_cancelled(void *channel)
{
    uint8_t bytes[64];
    ssize_t rc;

    while ((rc = noria_recv(channel, bytes, sizeof(bytes), -1, NULL)) >= 0)
        continue;
    return (void *)(intptr_t)rc;
}

static void use_a_handle_of_ones_own(void)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_close(ch.rx) == 0); /* though a thread that is not here was inside */
    PEER_REQUIRES(noria_open(&mine, "anon:", NORIA_SEND | NORIA_RECV, &ch.options) == 0);
    PEER_REQUIRES(noria_send(mine, "x", 1, 0) == 0);
    PEER_REQUIRES(noria_recv(mine, (char[1]){0}, 1, 0, NULL) == 1);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void forking_beside_busy_threads(void **state)
{
    /* Claim: a child forked while other threads are inside calls, asleep or not, can close, open and use
     * handles; those threads go on. */
    pthread_t thread;
    void *rc;

    (void)state;
    open_pair();
    ch.keeper = open_handle(0);
    assert_int_equal(pthread_create(&thread, NULL, receive_until_cancelled, ch.rx), 0);
    for (unsigned round = 0; round < 20; round++) {
        if (round % 2 == 0)
            while (noria_calls_waiting(ch.rx) == 0)
                sched_yield();
        else
            send_numbered(round, 10);
        expect_end(start_peer(use_a_handle_of_ones_own));
    }
    while (stat_of(ch.keeper).received < 10)
        sched_yield();
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, -ECANCELED);
}

static void reopen_nothing(void)
{
    noria_channel *mine = NULL;
    struct rlimit limit, none;

    PEER_REQUIRES(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    PEER_REQUIRES(setrlimit(RLIMIT_NOFILE, &none) == 0);
    if (!is_at("sysv")) { /* which takes no descriptors */
        PEER_REQUIRES(noria_reopen(&mine, ch.tx, NORIA_SEND) < 0 && strlen(noria_detail()) > 10);
        PEER_REQUIRES(mine == NULL);
    }
    PEER_REQUIRES(noria_close(ch.tx) == 0);
    PEER_REQUIRES(setrlimit(RLIMIT_NOFILE, &limit) == 0); /* the end of the process may need some */
}

static void reopening_can_fail(void **state)
{
    /* Claim: a child without descriptors to spare is told so, and the inherited handle can still
     * be closed. */
    (void)state;
    open_pair();
    expect_end(start_peer(reopen_nothing));
    send_numbered(1, 1);
    expect(1, 1);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(inherited_handles_are_stale),
        EVERYWHERE(child_becomes_a_participant),
        ONLY_SPSC(role_of_the_parent_stays_taken),
        EVERYWHERE(grandchildren_are_children),
        EVERYWHERE(child_does_not_keep_its_parent_alive),
        EVERYWHERE(exec_ends_the_participant),
        ONCE(forking_beside_busy_threads),
        EVERYWHERE(reopening_can_fail),
    };

    return run_variants_with("fork", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
