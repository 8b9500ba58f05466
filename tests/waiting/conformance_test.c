/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: whatever a channel's participants wait with, they wait alike: woken by what they wait for, by
 * shutdown and by the end of the stream, in time, with others asleep, stopped or killed beside them. */
#include "ways_test.h"

#include "blocked.h"

#include <sys/resource.h>

/* Where every participant lives and gets on, nothing may depend on the re-check. */
static void rely_on_the_bell(void)
{
    ch.options.recheck_ns = HOUR;
}

static const uint32_t spin_limits[] = {0, 1000}; /* asleep at once, and the default */
enum { SPIN_LIMITS = sizeof(spin_limits) / sizeof(spin_limits[0]) };

static void reset_channel(void)
{
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    close_handle(&ch.keeper);
    assert_int_equal(noria_unlink(ch.address), 0);
}

/* ------------------------------------------------------------------------------------------ what peers do */

static void receive_one_number(noria_channel *mine)
{
    uint32_t number;

    PEER_REQUIRES(noria_recv(mine, &number, sizeof(number), -1, NULL) == sizeof(number));
    __atomic_add_fetch(&peers->numbers[0], number, __ATOMIC_RELAXED);
    say();
}

static void receive_numbers(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    say();
    for (;;)
        receive_one_number(mine);
}

/* One after each order, so that two can never serve one sleeper. */
static void receive_one_per_order(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    say();
    for (;;) {
        receive_one_number(mine);
        await_order();
    }
}

static void send_one_number(noria_channel *mine)
{
    const uint32_t number = 1;

    PEER_REQUIRES(noria_send(mine, &number, sizeof(number), -1) == 0);
    say();
}

static void fill_then_send_one_per_order(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    uint32_t number = 1;

    while (noria_send(mine, &number, sizeof(number), 0) == 0)
        peers->numbers[1]++;
    say();
    for (;;) {
        send_one_number(mine);
        await_order();
    }
}

static void send_number(uint32_t number)
{
    assert_int_equal(noria_send(ch.tx, &number, sizeof(number), PATIENCE), 0);
}

static uint32_t receive_number(void)
{
    uint32_t number;

    assert_int_equal(noria_recv(ch.rx, &number, sizeof(number), PATIENCE, NULL), sizeof(number));
    return number;
}

static int64_t sum_received(void)
{
    return __atomic_load_n(&peers->numbers[0], __ATOMIC_RELAXED);
}

/* ----------------------------------------------------------------------------------------------- blocking */

static void a_send_wakes_a_receiver(void **state)
{
    /* Claim: a receiver blocked without a re-check gets what is sent, time and again, whether it spins
     * first or not. */
    (void)state;
    rely_on_the_bell();
    for (int i = 0; i < SPIN_LIMITS; i++) {
        pid_t peer;
        ch.options.most_spins = spin_limits[i];
        ch.tx = open_handle(NORIA_SEND);
        peer = start_peer(receive_numbers);
        await_peer();
        for (uint32_t n = 0; n < 20; n++) {
            await_blocked(peer);
            peers->numbers[0] = 0;
            send_number(n);
            await_peer();
            assert_int_equal(sum_received(), n);
        }
        kill_peer(peer);
        reset_channel();
    }
}

static void a_receive_wakes_a_sender(void **state)
{
    /* Claim: a sender blocked on a full channel without a re-check gets on when a message is received. */
    (void)state;
    rely_on_the_bell();
    for (int i = 0; i < SPIN_LIMITS; i++) {
        pid_t peer;
        ch.options.most_spins = spin_limits[i];
        ch.rx = open_handle(NORIA_RECV);
        peer = start_peer(fill_then_send_one_per_order);
        await_peer();
        for (int n = 0; n < 20; n++) {
            await_blocked(peer);
            assert_int_equal(receive_number(), 1);
            await_peer();
            tell_peer();
        }
        kill_peer(peer);
        reset_channel();
    }
}

static void a_held_span_wakes_a_sender(void **state)
{
    /* Claim: so it does when a peeked message is released (SPSC), or as soon as it is peeked (MPMC: what is held counts
     * as a message no more), and a commit wakes a receiver. */
    struct noria_span span;
    pid_t peer;

    (void)state;
    rely_on_the_bell();
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(fill_then_send_one_per_order);
    await_peer();
    if (!is_spsc())
        await_blocked(peer);
    assert_int_equal(noria_peek(ch.rx, &span, PATIENCE, NULL), 0);
    if (is_spsc())
        await_blocked(peer);
    else
        await_peer();
    assert_int_equal(noria_release(ch.rx, &span), 0);
    if (is_spsc())
        await_peer();
    kill_peer(peer);
    reset_channel();

    ch.tx = open_handle(NORIA_SEND);
    peer = start_peer(receive_numbers);
    await_peer();
    peers->numbers[0] = 0;
    assert_int_equal(noria_reserve(ch.tx, 4, &span, PATIENCE), 0);
    memcpy(span.data, &(uint32_t){7}, 4);
    await_blocked(peer);
    assert_int_equal(noria_commit(ch.tx, &span, 4, PATIENCE), 0);
    await_peer();
    assert_int_equal(sum_received(), 7);
}

/* ----------------------------------------------------------------------------------------- timed and try */

static ssize_t timed_receive(int64_t timeout_ns)
{
    uint8_t bytes[64];

    return noria_recv(ch.rx, bytes, sizeof(bytes), timeout_ns, NULL);
}

static ssize_t timed_peek(int64_t timeout_ns)
{
    struct noria_span span;

    return noria_peek(ch.rx, &span, timeout_ns, NULL);
}

static ssize_t timed_send(int64_t timeout_ns)
{
    static const uint8_t bytes[64];

    return noria_send(ch.tx, bytes, sizeof(bytes), timeout_ns);
}

static ssize_t timed_reserve(int64_t timeout_ns)
{
    struct noria_span span;

    return noria_reserve(ch.tx, 64, &span, timeout_ns);
}

static ssize_t (*const timed_calls[])(int64_t) = {timed_receive, timed_peek, timed_send, timed_reserve};

static void fill_channel(void)
{
    while (timed_send(0) == 0)
        continue;
}

/* Empty for the first two of the calls, full for the others. */
static void prepare_call(int call)
{
    if (call == 2)
        fill_channel();
}

static void timed_calls_end_in_time(void **state)
{
    /* Claim: on an empty or full channel a timed call returns -ETIMEDOUT, never early, and it does return;
     * with re-checks that end before, with, and long after it. */
    static const int64_t timeouts[] = {1, 100000, MS, 30 * MS};
    static const int64_t rechecks[] = {5 * MS, HOUR};

    (void)state;
    for (int r = 0; r < 2; r++) {
        ch.options.recheck_ns = rechecks[r];
        ch.options.most_spins = spin_limits[r];
        open_pair();
        for (int call = 0; call < 4; call++) {
            prepare_call(call);
            for (int i = 0; i < 4; i++) {
                int64_t start = now_ns(), took;
                assert_fails(timed_calls[call](timeouts[i]), ETIMEDOUT);
                took = now_ns() - start;
                assert_true(took >= timeouts[i]);
                assert_true(took < PATIENCE);
            }
        }
        reset_channel();
    }
}

static void a_message_in_time_ends_a_timed_call(void **state)
{
    /* Claim: a timed receive returns the message that comes before its deadline, not at the deadline. */
    pid_t peer;
    int64_t start;

    (void)state;
    rely_on_the_bell();
    ch.rx = open_handle(NORIA_RECV);
    peer = start_peer(fill_then_send_one_per_order);
    await_peer();
    while (noria_recv(ch.rx, &(uint32_t){0}, 4, 0, NULL) == 4)
        continue;
    await_peer();
    while (noria_recv(ch.rx, &(uint32_t){0}, 4, 0, NULL) == 4)
        continue;
    start = now_ns();
    tell_peer();
    assert_int_equal(noria_recv(ch.rx, &(uint32_t){0}, 4, HOUR, NULL), 4);
    assert_true(now_ns() - start < PATIENCE);
    kill_peer(peer);
}

/* How often this thread has gone to sleep. */
static long sleeps_so_far(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
    return usage.ru_nvcsw;
}

static void a_try_never_sleeps(void **state)
{
    /* Claim: 1000 tries on an empty and on a full channel are 1000 times -EAGAIN, and the kernel has not
     * put the thread to sleep once. (It may for reasons of its own, as when it reads /proc: three
     * attempts.) */
    (void)state;
    open_pair();
    for (int call = 0; call < 4; call++) {
        long slept = 1;
        prepare_call(call);
        for (int attempt = 0; attempt < 3 && slept != 0; attempt++) {
            slept = sleeps_so_far();
            for (int i = 0; i < 1000; i++)
                assert_int_equal(timed_calls[call](0), -EAGAIN);
            slept = sleeps_so_far() - slept;
        }
        assert_int_equal(slept, 0);
    }
}

/* -------------------------------------------------------------------------------- shutdown, close and end */

static void end_and_expect_canceled(bool sends_, bool closes)
{
    noria_channel **channel = sends_ ? &ch.tx : &ch.rx;
    struct blocked crowd[CROWD_OF_THREADS];
    int n;

    open_pair();
    if (sends_)
        fill_channel();
    n = start_crowd(crowd, *channel, sends_ ? send_blocking : receive_blocking);
    alarm(60); /* if they do not come back, neither does this process */
    if (closes)
        close_handle(channel);
    else
        assert_int_equal(noria_shutdown(*channel), 0);
    expect_all_to_return(crowd, n, -ECANCELED);
    alarm(0);
    reset_channel();
}

static void shutdown_and_close_end_blocked_calls(void **state)
{
    /* Claim: noria_shutdown and noria_close make calls that other threads are blocked in return -ECANCELED,
     * at once and without a re-check, receivers and senders. */
    (void)state;
    rely_on_the_bell();
    for (int i = 0; i < SPIN_LIMITS; i++) {
        ch.options.most_spins = spin_limits[i];
        end_and_expect_canceled(false, false);
        end_and_expect_canceled(true, false);
        end_and_expect_canceled(false, true);
        end_and_expect_canceled(true, true);
    }
}

static void shutdown_of_one_handle_leaves_the_others_asleep(void **state)
{
    /* Claim: while one handle is shut down and closed, a receiver in another process goes on waiting and
     * gets the next message. (That one may hear the bell that was meant for the threads of the closed
     * handle: then they leave at their re-check.) */
    struct blocked crowd[CROWD_OF_THREADS];
    pid_t peer;
    int n;

    (void)state;
    open_pair();
    peer = start_peer(receive_numbers);
    await_peer();
    await_blocked(peer);
    n = start_crowd(crowd, ch.rx, receive_blocking);
    close_handle(&ch.rx);
    expect_all_to_return(crowd, n, -ECANCELED);
    send_number(5);
    await_peer();
    assert_int_equal(sum_received(), 5);
}

static void receive_until_the_end(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint32_t number;

    say();
    while (noria_recv(mine, &number, sizeof(number), -1, NULL) == sizeof(number))
        continue;
    PEER_REQUIRES(noria_recv(mine, &number, sizeof(number), -1, NULL) == -EPIPE);
    PEER_REQUIRES(noria_close(mine) == 0);
    say();
}

static void the_end_of_the_stream_wakes_receivers(void **state)
{
    /* Claim: when the last sender closes, a blocked receiver gets -EPIPE without a re-check. */
    pid_t peers_[3];
    int n = is_spsc() ? 1 : 3;

    (void)state;
    rely_on_the_bell();
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < n; i++) {
        peers_[i] = start_peer(receive_until_the_end);
        await_peer();
    }
    for (int i = 0; i < n; i++)
        await_blocked(peers_[i]);
    close_handle(&ch.tx);
    for (int i = 0; i < n; i++)
        expect_end(peers_[i]);
}

static void send_one_and_live(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);

    send_one_number(mine);
    for (;;)
        pause();
}

static void the_death_of_the_last_sender_wakes_receivers(void **state)
{
    /* Claim: when the last sender is killed, a blocked receiver finds out at a re-check and gets -EPIPE. */
    pid_t sender, peer;

    (void)state;
    sender = start_peer(send_one_and_live);
    await_peer();
    peer = start_peer(receive_until_the_end);
    await_peer();
    await_blocked(peer);
    kill_peer(sender);
    expect_end(peer);
}

/* -------------------------------------------------------------------------------------------- many asleep */

enum { CROWD = 4 };

/* Four that never sleep get on slowly on two processors. */
static int bursts(void)
{
    return sleeps() ? 40 : 8;
}

static void await_many(int n)
{
    for (int i = 0; i < n; i++)
        await_peer();
}

static void tell_many(int n)
{
    for (int i = 0; i < n; i++)
        tell_peer();
}

/* Of CROWD receivers at least one sleeps for each message of a burst. The odd bursts do not wait until they
 * sleep. */
static void send_bursts(const pid_t *processes, int n)
{
    for (int burst = 0; burst < bursts(); burst++) {
        int size = 1 + burst % CROWD;
        for (int i = 0; i < n && burst % 2 == 0; i++)
            await_blocked(processes[i]);
        for (int i = 0; i < size; i++)
            send_number(1);
        await_many(size);
        tell_many(size);
    }
    assert_int_equal(sum_received(), bursts() / CROWD * (1 + 2 + 3 + 4));
}

static void no_receiver_sleeps_beside_a_message(void **state)
{
    /* Claim (MPMC): of four receivers, each in its process and taking one message and no second, as many
     * wake as there are messages, in every burst, without a re-check: one that slept on beside a message
     * would do so for ever. */
    pid_t processes[CROWD];

    (void)state;
    rely_on_the_bell();
    ch.options.most_spins = 0;
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < CROWD; i++) {
        processes[i] = start_peer(receive_one_per_order);
        await_peer();
    }
    send_bursts(processes, CROWD);
}

static void *receive_in_thread(void *channel)
{
    uint32_t number;

    while (noria_recv(channel, &number, sizeof(number), -1, NULL) == sizeof(number)) {
        __atomic_add_fetch(&peers->numbers[0], number, __ATOMIC_RELAXED);
        say();
        await_order();
    }
    return NULL;
}

static void no_thread_sleeps_beside_a_message(void **state)
{
    /* Claim (MPMC): the same if two of them are threads that share one handle. */
    pid_t processes[CROWD];
    pthread_t threads[CROWD / 2];

    (void)state;
    rely_on_the_bell();
    ch.options.most_spins = 0;
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < CROWD / 2; i++) {
        processes[i] = start_peer(receive_one_per_order);
        await_peer();
    }
    ch.rx = open_handle(NORIA_RECV);
    for (int i = 0; i < CROWD / 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, receive_in_thread, ch.rx), 0);
    send_bursts(processes, CROWD / 2);
    for (int i = 0; i < CROWD / 2; i++)
        kill_peer(processes[i]);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    for (int i = 0; i < CROWD / 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void no_sender_sleeps_beside_room(void **state)
{
    /* Claim (MPMC): of four senders blocked on a full channel as many get on as messages are received. */
    pid_t processes[CROWD];

    (void)state;
    rely_on_the_bell();
    ch.options.most_spins = 0;
    ch.rx = open_handle(NORIA_RECV);
    for (int i = 0; i < CROWD; i++) {
        processes[i] = start_peer(fill_then_send_one_per_order);
        await_peer();
    }
    for (int burst = 0; burst < bursts(); burst++) {
        int size = 1 + burst % CROWD;
        for (int i = 0; i < CROWD && burst % 2 == 0; i++)
            await_blocked(processes[i]);
        for (int i = 0; i < size; i++)
            receive_number();
        await_many(size);
        tell_many(size);
    }
}

/* ------------------------------------------------------------------------------------ killed and stopped */

static void killed_receivers_leave_the_bell_working(void **state)
{
    /* Claim: receivers killed in their sleep, one after another, take no wake-up with them: without a re-
     * check the living get every message. */
    pid_t living = 0;

    (void)state;
    rely_on_the_bell();
    ch.options.most_spins = 0;
    ch.tx = open_handle(NORIA_SEND);
    if (!is_spsc()) {
        living = start_peer(receive_numbers);
        await_peer();
    }
    for (uint32_t death = 0; death < 10; death++) {
        pid_t victim = start_peer(receive_numbers);
        await_peer();
        await_blocked(victim);
        if (is_spsc() && death % 2 == 0) {
            send_number(death);
            await_peer();
            await_blocked(victim);
        }
        kill_peer(victim);
        if (is_spsc())
            continue;
        await_blocked(living);
        send_number(death);
        await_peer();
    }
    if (!is_spsc())
        return;
    living = start_peer(receive_numbers); /* after five deaths asleep */
    await_peer();
    await_blocked(living);
    peers->numbers[0] = 0;
    send_number(5);
    await_peer();
    assert_int_equal(sum_received(), 5);
}

static void killed_senders_leave_the_bell_working(void **state)
{
    /* Claim: nor do senders killed in their sleep: the one that lives gets on when there is room. */
    pid_t living;

    (void)state;
    rely_on_the_bell();
    ch.options.most_spins = 0;
    ch.rx = open_handle(NORIA_RECV);
    for (int death = 0; death < 5; death++) {
        pid_t victim = start_peer(fill_then_send_one_per_order);
        await_peer();
        await_blocked(victim);
        kill_peer(victim);
    }
    living = start_peer(fill_then_send_one_per_order);
    await_peer();
    for (int i = 0; i < 5; i++) {
        await_blocked(living);
        receive_number();
        await_peer();
        tell_peer();
    }
}

/* Somewhere between zero and 300 microseconds, without sleeping. */
static void pass_a_moment(unsigned seed)
{
    int64_t until = now_ns() + (int64_t)(seed * 7919 % 300) * 1000;

    while (now_ns() < until)
        continue;
}

static void a_receiver_killed_at_any_moment_strands_nobody(void **state)
{
    /* Claim (MPMC): with a receiver killed while it falls asleep or wakes or works, the other one gets a
     * message sent afterwards, at a re-check at the latest. */
    pid_t living;

    (void)state;
    ch.options.most_spins = 0;
    ch.tx = open_handle(NORIA_SEND);
    living = start_peer(receive_numbers);
    await_peer();
    for (unsigned death = 0; death < 30; death++) {
        pid_t victim = start_peer(receive_numbers);
        await_peer();
        for (unsigned i = 0; i < 4; i++)
            send_number(0);
        pass_a_moment(death);
        kill_peer(victim);
        peers->numbers[0] = 0;
        send_number(1000);
        while (sum_received() < 1000)
            await_peer();
    }
    assert_true(kill(living, 0) == 0);
}

static void a_stopped_receiver_holds_nobody_up_and_misses_nothing(void **state)
{
    /* Claim: with a receiver stopped somewhere on its way to sleep, others send and receive; what is sent
     * meanwhile and not received by others, it gets when it is continued, without a re-check. */
    pid_t stopped;

    (void)state;
    rely_on_the_bell();
    ch.tx = open_handle(NORIA_SEND);
    if (!is_spsc())
        ch.rx = open_handle(NORIA_RECV);
    for (unsigned i = 0; i < 30; i++) {
        ch.options.most_spins = spin_limits[i % SPIN_LIMITS];
        stopped = start_peer(receive_numbers);
        await_peer();
        pass_a_moment(i);
        stop_peer(stopped);
        for (uint32_t n = 0; n < 8 && !is_spsc(); n++) {
            send_number(n);
            assert_int_equal(receive_number(), n);
        }
        peers->numbers[0] = 0;
        send_number(i);
        continue_peer(stopped);
        await_peer();
        assert_int_equal(sum_received(), i);
        kill_peer(stopped);
    }
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(a_send_wakes_a_receiver, ALL_WAYS),
        CLAIM(a_receive_wakes_a_sender, ALL_WAYS),
        CLAIM(a_held_span_wakes_a_sender, ALL_WAYS),
        CLAIM(timed_calls_end_in_time, ALL_WAYS),
        CLAIM(a_message_in_time_ends_a_timed_call, ALL_WAYS),
        CLAIM(a_try_never_sleeps, ALL_WAYS),
        CLAIM(shutdown_and_close_end_blocked_calls, ALL_WAYS),
        CLAIM(shutdown_of_one_handle_leaves_the_others_asleep, MPMC),
        CLAIM(the_end_of_the_stream_wakes_receivers, ALL_WAYS),
        CLAIM(the_death_of_the_last_sender_wakes_receivers, ALL_WAYS),
        CLAIM(no_receiver_sleeps_beside_a_message, MPMC),
        CLAIM(no_thread_sleeps_beside_a_message, MPMC),
        CLAIM(no_sender_sleeps_beside_room, MPMC),
        CLAIM(killed_receivers_leave_the_bell_working, ALL_WAYS),
        CLAIM(killed_senders_leave_the_bell_working, ALL_WAYS),
        CLAIM(a_receiver_killed_at_any_moment_strands_nobody, MPMC),
        CLAIM(a_stopped_receiver_holds_nobody_up_and_misses_nothing, ALL_WAYS),
    };

    return run_ways("waiting conformance", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
