/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: nobody alive is declared dead, and everybody dead is noticed, whatever happens to the process that holds a message:
 * its number is given to another one, its threads end one by one, its descriptors are closed, or it lives in another pid
 * namespace. On each kind of memory that has a name, and on memfd. (Zombies, exec and fork: death_test, fork_test.)
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "memfd"}, \
    {NORIA_KIND_SPSC, "shm"}, {NORIA_KIND_SPSC, "sysv"}
#include "variants_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peers.h"

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

static void hold_one(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    struct noria_span span;

    PEER_REQUIRES(noria_peek(mine, &span, 60 * SECOND, NULL) == 0);
}

static void hold_one_and_live(void)
{
    hold_one();
    say();
    await_end();
}

/* Our own channel with one message, which the next to come holds; an MPMC one has room for more receivers. */
static void send_one(void)
{
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 10);
}

/* Nobody else gets it, by whatever he can do to find somebody dead. */
static void expect_alive(void)
{
    noria_channel *other = NULL;

    if (is_spsc()) {
        assert_fails(try_open(&other, NORIA_RECV), EBUSY);
    } else {
        uint8_t bytes[64];
        other = open_handle(NORIA_RECV);
        assert_fails((int)noria_recv(other, bytes, sizeof(bytes), 100 * MS, NULL), ETIMEDOUT);
        close_handle(&other);
    }
    assert_int_equal(stat_of(ch.tx).deaths, 0);
    assert_int_equal(stat_of(ch.tx).receivers, 1);
}

/* Another gets it, flagged. */
static void expect_noticed(void)
{
    uint8_t bytes[64];
    struct noria_info info;

    if (ch.rx == NULL)
        ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 20 * SECOND, &info), 10);
    verify_message(bytes, 1, 10);
    assert_int_equal(info.flags & NORIA_REDELIVERED, NORIA_REDELIVERED);
    assert_int_equal(stat_of(ch.tx).deaths, 1);
}

/* ---------------------------------------------------------------------------------------------------------- threads */

static void *hold_in_thread(void *nothing)
{
    (void)nothing;
    hold_one();
    return NULL;
}

static void *stay(void *nothing)
{
    (void)nothing;
    say();
    await_end();
    syscall(SYS_exit_group, 0);
    return NULL;
}

/* The thread that opened ends, then the first one; a third lives on. */
static void lose_threads(void)
{
    pthread_t holder, other;

    PEER_REQUIRES(pthread_create(&holder, NULL, hold_in_thread, NULL) == 0 && pthread_join(holder, NULL) == 0);
    PEER_REQUIRES(pthread_create(&other, NULL, stay, NULL) == 0);
    syscall(SYS_exit, 0);
}

/* Its state, as ps shows it, and when it was started, in clock ticks. */
static char state_of_process(pid_t pid, unsigned long long *started)
{
    char path[32], state = '?';
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return '?';
    if (fscanf(file, "%*d (%*[^)]) %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, started) != 2)
        state = '?';
    fclose(file);
    return state;
}

static void threads_may_end(void **state)
{
    /* Claim: a participant lives until the last thread of its process ends, the thread that opened the handle or the
     * first one having ended long before. */
    unsigned long long started;
    pid_t peer;

    (void)state;
    send_one();
    peer = start_peer(lose_threads);
    await_peer();
    while (state_of_process(peer, &started) != 'Z') /* its first thread */
        sched_yield();
    expect_alive();
    kill_peer(peer);
    expect_noticed();
}

/* ------------------------------------------------------------------------------------------------------ descriptors */

static void hold_one_and_close_descriptors(void)
{
    hold_one();
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    say();
    await_end();
}

static void daemons_may_close_descriptors(void **state)
{
    /* Claim: who closes all descriptors that it does not know, as daemons do, lives on as a participant. */
    pid_t peer;

    (void)state;
    send_one();
    peer = start_peer(hold_one_and_close_descriptors);
    await_peer();
    expect_alive();
    kill_peer(peer);
    expect_noticed();
}

/* --------------------------------------------------------------------------------------------------- pid namespaces */

enum { NO_RIGHT = 77 };

/* The body is the first process of a pid namespace of its own, with its own /proc. */
static pid_t start_in_namespace(void (*body)(void))
{
    pid_t pid, first;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid != 0)
        return pid;
    be_child();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        _exit(NO_RIGHT);
    first = fork();
    if (first == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (mount("proc", "/proc", "proc", 0, NULL) != 0)
            _exit(NO_RIGHT);
        body();
        exit(0);
    }
    waitpid(first, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
}

static bool may_have_namespaces(void)
{
    int status;
    pid_t pid = start_in_namespace(say);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status == 0)
        await_peer();
    else
        print_message("skipped: no right to make a pid namespace\n");
    return status == 0;
}

static void namespaces_may_be_apart(void **state)
{
    /* Claim: a participant in another pid namespace, whose number means nothing here, is alive until it is killed. */
    int64_t until;
    pid_t peer;

    (void)state;
    if (!may_have_namespaces())
        skip();
    send_one();
    peer = start_in_namespace(hold_one_and_live);
    await_peer();
    expect_alive();
    until = now_ns() + 20 * SECOND;
    kill(peer, SIGKILL); /* and then the kernel the one inside, of whose end nobody tells us */
    assert_int_equal(waitpid(peer, NULL, 0), peer);
    while (try_open(&ch.rx, NORIA_RECV) != 0 && now_ns() < until)
        sched_yield();
    expect_noticed();
}

/* Starts a peer that has this number, in another tick of the clock: what is of one tick cannot be told apart. */
static void be_born_again(pid_t number, unsigned long long tick, void (*body)(void))
{
    unsigned long long started = tick;

    while (started == tick) {
        FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "we");
        if (last == NULL || fprintf(last, "%d", (int)number - 1) < 0 || fclose(last) != 0)
            _exit(NO_RIGHT);
        PEER_REQUIRES(start_peer(body) == number && state_of_process(number, &started) != '?');
        if (started == tick)
            kill_peer(number);
    }
}

/* The same process as before by its number, with the same memory mapped; but it holds nothing. */
static void open_only(void)
{
    noria_channel *mine = NULL;

    await_order();
    PEER_REQUIRES(noria_open(&mine, ch.address, 0, NULL) == 0);
    say();
    await_end();
}

static void live_with_the_reborn(void)
{
    unsigned long long tick = 0;
    pid_t number;

    ch.tx = open_handle(NORIA_SEND);
    PEER_REQUIRES(noria_send(ch.tx, "0123456789", 10, 0) == 0);
    number = start_peer(hold_one_and_live);
    await_peer();
    PEER_REQUIRES(state_of_process(number, &tick) != '?');
    kill_peer(number);
    be_born_again(number, tick, open_only);
    tell_peer();
    await_peer();
    ch.rx = open_handle(NORIA_RECV);
    PEER_REQUIRES(noria_recv(ch.rx, (uint8_t[64]){0}, 64, 20 * SECOND, NULL) == 10);
    PEER_REQUIRES(stat_of(ch.tx).deaths == 1 && stat_of(ch.tx).observers == 1);
    kill_peer(number);
    PEER_REQUIRES(noria_close(ch.rx) == 0 && noria_close(ch.tx) == 0);
}

static void numbers_may_be_reborn(void **state)
{
    /* Claim: when the number of a dead participant is at once given to another process, which has the channel open, too,
     * the dead one is noticed and the other one is not taken for dead. */
    int status;
    pid_t pid;

    (void)state;
    if (!may_have_namespaces())
        skip();
    pid = start_in_namespace(live_with_the_reborn);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_RIGHT)
        skip(); /* to choose numbers */
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(threads_may_end),
        EVERYWHERE(daemons_may_close_descriptors),
        EVERYWHERE(namespaces_may_be_apart),
        EVERYWHERE(numbers_may_be_reborn),
    };

    return run_variants_with("identity", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
