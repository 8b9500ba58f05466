/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: whatever a channel's participants wait with, a handle that threads wait on can be shut down, closed,
 * closed in a forked child, and its threads cancelled, and nobody hangs over it. */
#include "ways_test.h"

#include "blocked.h"

/* Nothing here may depend on the re-check. */
static void rely_on_the_bell(void)
{
    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
}

/* If what must return does not, neither does this process. */
static void with_watchdog(void (*act)(void))
{
    alarm(60);
    act();
    alarm(0);
}

static void close_receiver(void)
{
    close_handle(&ch.rx);
}

static void shut_receiver_down(void)
{
    assert_int_equal(noria_shutdown(ch.rx), 0);
}

/* ----------------------------------------------------------------------------------------- noria_wait_any */

static ssize_t wait_at_one(noria_channel *channel)
{
    struct noria_ready place = {channel, NORIA_RECV, 0, 0};
    int rc = noria_wait_any(&place, 1, -1);

    return rc == 1 && place.ready == 0 ? -ENOMSG : rc;
}

static void close_ends_a_wait_at_many(void **state)
{
    /* Claim: a thread in noria_wait_any is a call in progress: noria_close ends it (ready: the try would say
     * -ECANCELED) and waits until it has left, before the handle is freed. */
    struct blocked blocked = {.call = wait_at_one};

    (void)state;
    rely_on_the_bell();
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < 3; i++) {
        ch.rx = open_handle(NORIA_RECV);
        blocked.channel = ch.rx;
        blocked.tid = 0;
        assert_int_equal(pthread_create(&blocked.thread, NULL, block, &blocked), 0);
        await_blocked_thread(&blocked, true); /* at descriptors everybody sleeps */
        with_watchdog(close_receiver);
        expect_all_to_return(&blocked, 1, 1);
    }
}

/* -------------------------------------------------------------------------------------------------- fork */

static void close_inherited(void)
{
    alarm(60);
    PEER_REQUIRES(noria_recv(ch.rx, &(uint8_t){0}, 1, 0, NULL) == -ESTALE);
    PEER_REQUIRES(noria_close(ch.rx) == 0);
    ch.rx = NULL;
}

static void a_child_closes_what_threads_wait_on(void **state)
{
    /* Claim: a child forked while threads of its parent wait on a handle closes what it has inherited,
     * without waiting for threads that it does not have; the parent's go on and get what is sent. */
    struct blocked crowd[CROWD_OF_THREADS];
    int n;

    (void)state;
    rely_on_the_bell();
    open_pair();
    n = start_crowd(crowd, ch.rx, receive_blocking);
    for (int i = 0; i < 2; i++)
        expect_end(start_peer(close_inherited));
    alarm(60);
    for (int i = 0; i < n; i++)
        assert_int_equal(noria_send(ch.tx, "to one", 6, PATIENCE), 0);
    expect_all_to_return(crowd, n, 6);
    alarm(0);
}

/* ----------------------------------------------------------------------------------------- pthread_cancel */

/* Of one that is cancelled nobody can say whether its call came back first: only that the thread ends. */
static void join_all(struct blocked *crowd, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_join(crowd[i].thread, NULL), 0);
}

static void start_and_cancel(struct blocked *crowd, int *n)
{
    *n = start_crowd(crowd, ch.rx, receive_blocking);
    for (int i = 0; i < *n; i++)
        assert_int_equal(pthread_cancel(crowd[i].thread), 0);
}

static void a_cancelled_thread_leaves_the_handle_usable(void **state)
{
    /* Claim: a thread that is cancelled while it waits in noria_recv takes neither the role nor a count
     * with it: others receive on the same handle, and noria_close returns. */
    struct blocked crowd[CROWD_OF_THREADS];
    int n;

    (void)state;
    rely_on_the_bell();
    open_pair();
    alarm(60);
    start_and_cancel(crowd, &n);
    for (int i = 0; i < n; i++)
        assert_int_equal(noria_send(ch.tx, "x", 1, PATIENCE), 0);
    join_all(crowd, n);
    /* Neither -EDEADLK nor a message left. */
    assert_fails(noria_recv(ch.rx, &(uint8_t){0}, 1, 0, NULL), EAGAIN);
    assert_int_equal(noria_send(ch.tx, "y", 1, PATIENCE), 0);
    assert_int_equal(noria_recv(ch.rx, &(uint8_t){0}, 1, PATIENCE, NULL), 1);
    start_and_cancel(crowd, &n);
    with_watchdog(close_receiver);
    join_all(crowd, n);
}

/* ---------------------------------------------------------------------------- with other processes asleep */

enum { CROWD_OF_PROCESSES = 3 };

static void receive_once(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    say();
    PEER_REQUIRES(receive_blocking(mine) == 1);
    say();
}

static void shutdown_beside_sleeping_processes_ends_calls(void **state)
{
    /* Claim (MPMC): the threads of a handle that is shut down get -ECANCELED without a re-check, although
     * processes asleep at the same bell hear it, too, and may take the ring back. Those sleep on and get
     * what is sent. */
    struct blocked crowd[CROWD_OF_THREADS];
    pid_t processes[CROWD_OF_PROCESSES];

    (void)state;
    rely_on_the_bell();
    open_pair();
    for (int i = 0; i < CROWD_OF_PROCESSES; i++) {
        processes[i] = start_peer(receive_once);
        await_peer();
        await_blocked(processes[i]);
    }
    for (int round = 0; round < 5; round++) {
        int n = start_crowd(crowd, ch.rx, receive_blocking);
        with_watchdog(shut_receiver_down);
        alarm(60);
        expect_all_to_return(crowd, n, -ECANCELED);
        alarm(0);
        close_handle(&ch.rx);
        ch.rx = open_handle(NORIA_RECV);
    }
    for (int i = 0; i < CROWD_OF_PROCESSES; i++) {
        assert_int_equal(noria_send(ch.tx, "z", 1, PATIENCE), 0);
        await_peer();
    }
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(close_ends_a_wait_at_many, ALL_WAYS),
        CLAIM(a_child_closes_what_threads_wait_on, ALL_WAYS),
        CLAIM(a_cancelled_thread_leaves_the_handle_usable, ALL_WAYS),
        CLAIM(shutdown_beside_sleeping_processes_ends_calls, SLEEPING | MPMC),
    };

    return run_ways("waiting closing", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
