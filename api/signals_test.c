/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a receiver that asks for a signal gets one, with its handle as value, when a message comes to the
 * channel that it found empty: at least one per arming, and no storm; nobody else ever gets it; a notifier's
 * death delays it at most.
 */
#include "stepping_test.h"

#include <sched.h>

#include "segment_channel.h"

#define SIGNAL (SIGRTMIN + 3)

/* The next pending signal of that number within the time. False: none. */
static bool take_signal(int signo, int64_t timeout_ns, siginfo_t *info)
{
    struct timespec timeout = {timeout_ns / SECOND, timeout_ns % SECOND};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    for (;;) {
        int taken = sigtimedwait(&set, info, &timeout);
        if (taken == signo)
            return true;
        if (errno != EINTR)
            return false;
    }
}

static int count_signals(int signo)
{
    siginfo_t info;
    int count = 0;

    while (take_signal(signo, 0, &info))
        count++;
    return count;
}

static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    sigaddset(&set, SIGNAL + 1);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Receives until the channel is empty, which arms. How many. */
static uint32_t drain(noria_channel *channel)
{
    uint8_t bytes[64];
    uint32_t count = 0;
    ssize_t rc;

    while ((rc = noria_recv(channel, bytes, sizeof(bytes), 0, NULL)) >= 0)
        count++;
    assert_true(rc == -EAGAIN || rc == -EPIPE);
    return count;
}

/* ---------------------------------------------------------------------------------- when, and how often */

static void once_is_once(void **state)
{
    /* Claim: ONCE gives one signal for the first message to the empty channel, then the registration is gone.
     */
    siginfo_t info = {0};

    (void)state;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ONCE), 0);
    assert_int_equal(count_signals(SIGNAL), 0);
    send_numbered(1, 8);
    assert_true(take_signal(SIGNAL, 0, &info));
    assert_int_equal(info.si_code, SI_QUEUE);
    assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
    assert_int_equal(info.si_pid, getpid());
    assert_int_equal(info.si_uid, getuid());
    for (int i = 0; i < 3; i++) {
        send_numbered(2, 8);
        drain(ch.rx);
    }
    assert_int_equal(count_signals(SIGNAL), 0);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ONCE), 0); /* and again */
    send_numbered(3, 8);
    assert_int_equal(count_signals(SIGNAL), 1);
}

static void always_is_once_per_arming(void **state)
{
    /* Claim: ALWAYS gives one signal for the first message after each receive that found nothing, of
     * whichever form. */
    struct noria_span span;
    uint8_t bytes[64];

    (void)state;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    for (int i = 0; i < 50; i++) {
        for (int n = 0; n < 4; n++) {
            send_numbered(1, 8);
            assert_int_equal(count_signals(SIGNAL), n == 0);
        }
        for (int n = 0; n < 3; n++) { /* not empty: not armed */
            expect(1, 8);
            send_numbered(1, 8);
            assert_int_equal(count_signals(SIGNAL), 0);
        }
        for (int n = 0; n < 4; n++)
            expect(1, 8);
        if (i % 3 == 0)
            expect_nothing(EAGAIN);
        else if (i % 3 == 1)
            assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), MS, NULL), -ETIMEDOUT);
        else
            assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), -EAGAIN);
    }
}

static void full_channel_is_no_news(void **state)
{
    /* Claim: a registration on a channel with messages in it is armed only when they have been received. */
    (void)state;
    open_pair();
    send_numbered(1, 8);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGNAL), 0);
    assert_int_equal(drain(ch.rx), 2);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGNAL), 1);
}

static void zero_cancels_and_a_new_one_replaces(void **state)
{
    /* Claim: signal 0 cancels, also what is not there; a second registration replaces the first; signals that
     * do not queue serve, too. */
    siginfo_t info;

    (void)state;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ONCE), 0);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ALWAYS), 0);
    send_numbered(1, 8);
    drain(ch.rx);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGNAL), 0);
    drain(ch.rx);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    assert_int_equal(noria_notify_signal(ch.rx, SIGUSR1, NORIA_NOTIFY_ONCE), 0);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGNAL), 0);
    assert_true(take_signal(SIGUSR1, 0, &info));
    assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
    drain(ch.rx);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGUSR1) + count_signals(SIGNAL), 0);
}

static void registration_dies_with_its_handle(void **state)
{
    /* Claim: after close nobody is signalled, and the next handle, which gets the same place, starts without.
     */
    (void)state;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    close_handle(&ch.rx);
    send_numbered(1, 8);
    ch.rx = open_handle(NORIA_RECV);
    drain(ch.rx);
    send_numbered(1, 8);
    drain(ch.rx);
    assert_int_equal(count_signals(SIGNAL), 0);
}

static void each_receiver_has_its_own(void **state)
{
    /* Claim (MPMC): every receiver that is registered and armed gets a signal of its own, with its own
     * handle. */
    noria_channel *other;
    siginfo_t info;

    (void)state;
    open_pair();
    other = open_handle(NORIA_SEND | NORIA_RECV);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    assert_int_equal(noria_notify_signal(other, SIGNAL + 1, NORIA_NOTIFY_ONCE), 0);
    send_numbered(1, 8);
    assert_true(take_signal(SIGNAL, 0, &info));
    assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
    assert_true(take_signal(SIGNAL + 1, 0, &info));
    assert_ptr_equal(info.si_value.sival_ptr, other);
    close_handle(&other);
}

static volatile sig_atomic_t received_in_handler;

static void receive_in_handler(int signo, siginfo_t *info, void *context)
{
    uint8_t bytes[64];
    int error = errno;

    (void)signo;
    (void)context;
    while (noria_recv(info->si_value.sival_ptr, bytes, sizeof(bytes), 0, NULL) >= 0)
        received_in_handler = received_in_handler + 1;
    errno = error;
}

static void handler_may_receive(void **state)
{
    /* Claim: a handler that receives until there is nothing more gets every message. */
    struct sigaction action = {.sa_sigaction = receive_in_handler, .sa_flags = SA_SIGINFO}, old;

    (void)state;
    open_pair();
    received_in_handler = 0;
    sigaction(SIGUSR2, &action, &old);
    assert_int_equal(noria_notify_signal(ch.rx, SIGUSR2, NORIA_NOTIFY_ALWAYS), 0);
    for (int i = 1; i <= 100; i++) {
        send_numbered(1, 8);
        assert_int_equal(received_in_handler, i);
    }
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ALWAYS), 0);
    sigaction(SIGUSR2, &old, NULL);
}

static void bad_input_is_refused(void **state)
{
    /* Claim: signals that are none or cannot be caught, unknown ways, handles that do not receive, closed and
     * missing handles are error codes with a sentence. */
    static const int not_signals[] = {-1, INT32_MAX, INT32_MIN, SIGKILL, SIGSTOP};

    (void)state;
    open_pair();
    for (size_t i = 0; i < sizeof(not_signals) / sizeof(not_signals[0]); i++)
        assert_fails(noria_notify_signal(ch.rx, not_signals[i], NORIA_NOTIFY_ONCE), EINVAL);
    assert_fails(noria_notify_signal(ch.rx, SIGRTMAX + 1, NORIA_NOTIFY_ONCE), EINVAL);
    assert_fails(noria_notify_signal(ch.rx, SIGNAL, 2), EINVAL);
    assert_fails(noria_notify_signal(ch.rx, SIGNAL, -1), EINVAL);
    assert_fails(noria_notify_signal(ch.tx, SIGNAL, NORIA_NOTIFY_ONCE), EINVAL);
    assert_fails(noria_notify_signal(NULL, SIGNAL, NORIA_NOTIFY_ONCE), EINVAL);
    assert_int_equal(noria_notify_signal(ch.rx, SIGRTMAX, NORIA_NOTIFY_ONCE), 0);
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ONCE), 0);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_fails(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ONCE), ECANCELED);
}

static void every_strategy_notifies(void **state)
{
    /* Claim: whichever way a channel's participants wait, a signal comes. */
    (void)state;
    for (uint32_t wait = NORIA_WAIT_FUTEX; wait <= NORIA_WAIT_YIELD; wait++) {
        ch.options.wait = wait;
        open_pair();
        assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
        for (int i = 0; i < 3; i++) {
            send_numbered(1, 8);
            assert_int_equal(count_signals(SIGNAL), 1);
            drain(ch.rx);
        }
        close_handle(&ch.tx);
        assert_int_equal(count_signals(SIGNAL), 1); /* that the last sender left is news, too */
        close_handle(&ch.rx);
        assert_int_equal(count_signals(SIGNAL), 0);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

/* ------------------------------------------------------------------------------------ between processes */

static uint32_t each_sends;
static noria_channel *known; /* a handle from before the fork */

static noria_channel *open_in_child(int flags)
{
    noria_channel *channel = NULL;
    int rc = strcmp(ch.variant->scheme, "anon") == 0 ? noria_reopen(&channel, known, flags)
                                                     : noria_open(&channel, ch.address, flags, &ch.options);

    if (rc != 0)
        _exit(1);
    return channel;
}

static pid_t start_sender(uint32_t pauses)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        noria_channel *tx = open_in_child(NORIA_SEND);
        for (uint32_t i = 0; i < each_sends; i++) {
            if (noria_send(tx, &i, sizeof(i), 20 * SECOND) != 0)
                _exit(2);
            for (uint32_t n = 0; n < (i * 7 + pauses) % 5; n++)
                sched_yield(); /* so that the channel runs empty at different moments */
        }
        _exit(noria_close(tx) == 0 ? 0 : 3);
    }
    return child;
}

static void reap(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void senders_in_other_processes(void **state)
{
    /* Claim: a receiver that only receives when it was signalled gets all messages of senders in other
     * processes, with a signal for each time it found nothing, and no more. */
    uint32_t crew = is_spsc() ? 1 : 3, received = 0, armings = 1, signals = 0, total;
    pid_t senders[3];
    siginfo_t info;

    (void)state;
    each_sends = getenv("NORIA_LONG") != NULL ? 50000 : 3000;
    total = crew * each_sends;
    known = ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    assert_int_equal(drain(ch.rx), 0);
    for (uint32_t i = 0; i < crew; i++)
        senders[i] = start_sender(i);
    while (received < total) {
        assert_true(take_signal(SIGNAL, 20 * SECOND, &info)); /* or it is lost */
        assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
        assert_int_equal(info.si_code, SI_QUEUE);
        signals++;
        received += drain(ch.rx);
        armings++;
    }
    for (uint32_t i = 0; i < crew; i++)
        reap(senders[i]);
    signals += (uint32_t)count_signals(SIGNAL);
    assert_int_equal(received, total);
    assert_true(signals <= armings + received); /* a receive that armed may have found a message after all */
}

/* A child that has registered, and waits to be killed. */
static void registered_life(void)
{
    noria_channel *rx = open_in_child(NORIA_RECV);

    if (noria_notify_signal(rx, SIGNAL, NORIA_NOTIFY_ALWAYS) != 0)
        _exit(1);
    mark();
}

static void stranger_life(void)
{
    mark(); /* a signal that comes stays pending */
    _exit(count_signals(SIGNAL) == 0 && count_signals(SIGUSR1) == 0 ? 0 : 1);
}

static void reused_pid_is_not_hit(void **state)
{
    /* Claim: a registered process was killed, and its number is another's now: that one gets no signal. */
    struct timespec tick = {.tv_nsec = 30 * MS}; /* start times count 10 ms */
    struct noria_segment_channel *channel;
    pid_t registered, stranger;
    uint32_t number = 0;

    (void)state;
    known = ch.tx = open_handle(NORIA_SEND);
    channel = noria_segment_channel_of(ch.tx);
    registered = start_stepped(registered_life);
    while (channel->table[number].pid != registered || channel->table[number].signal == 0)
        number++;
    end_stepped(registered);
    nanosleep(&tick, NULL);
    stranger = start_stepped(stranger_life);
    channel->table[number].pid = stranger;
    send_numbered(1, 8);
    assert_true(noria_load_acquire32(&channel->table[number].signal) !=
                0); /* it has been dealt with: not armed any more */
    assert_int_equal(
        noria_load_acquire32(&channel->shared->rooms[NORIA_SIDE_RECV].count) & NORIA_EVENT_SLEEPERS, 0);
    assert_int_equal(ptrace(PTRACE_CONT, stranger, NULL, NULL), 0);
    reap(stranger);
}

/* ---------------------------------------------------------------------------- a notifier that is killed */

static void notifier_life(void)
{
    noria_channel *tx = open_in_child(NORIA_SEND);

    mark();
    noria_send(tx, "news", 4, 0);
    mark();
}

static uint32_t *registration(void)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(ch.rx);

    return &channel->table[channel->number - 1].signal;
}

/* Kills the notifier so many instructions after it took the registration. How many it made: fewer if it sent
 * the signal before. */
static int kill_after(pid_t notifier, int steps)
{
    uint32_t armed = noria_load_acquire32(registration());
    sigset_t pending;
    int made = 0;

    while (noria_load_acquire32(registration()) == armed)
        assert_true(step(notifier));
    for (;; made++) {
        sigpending(&pending);
        if (made == steps || sigismember(&pending, SIGNAL))
            break;
        assert_true(step(notifier));
    }
    end_stepped(notifier);
    return made;
}

static int killed_at(int how, int steps)
{
    pid_t notifier = start_stepped(notifier_life);
    noria_channel *other;
    siginfo_t info;
    int made;

    set_patience(20);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, how), 0);
    assert_int_equal(drain(ch.rx), 0);
    count_signals(SIGNAL); /* that it joined was news */
    made = kill_after(notifier, steps);
    other = open_handle(0); /* whoever opens notices */
    assert_true(take_signal(SIGNAL, 0, &info));
    assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
    assert_int_equal(drain(ch.rx), 1);
    close_handle(&other);
    return made;
}

static void killed_notifier_only_delays(void **state)
{
    /* Claim: a notifier killed between taking the registration and sending delays the signal until somebody
     * notices its death; the message was there. */
    (void)state;
    known = ch.rx = open_handle(NORIA_RECV);
    for (int how = NORIA_NOTIFY_ONCE; how <= NORIA_NOTIFY_ALWAYS; how++) {
        int length = killed_at(how, INT32_MAX), steps = 0;
        int stride = getenv("NORIA_LONG") != NULL ? 1 : 1 + length / 40;
        assert_true(length > 100); /* there is something in between */
        while (killed_at(how, steps) == steps)
            steps += stride;
        assert_true(steps > length / 2);
    }
}

/* Whoever closes rings, too: what earlier tests left is taken away. */
static int setup_signals(void **state)
{
    count_signals(SIGNAL);
    count_signals(SIGNAL + 1);
    count_signals(SIGUSR1);
    return setup(state);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(once_is_once),
        ONCE(always_is_once_per_arming),
        ONCE(full_channel_is_no_news),
        ONCE(zero_cancels_and_a_new_one_replaces),
        EVERYWHERE(registration_dies_with_its_handle),
        ONLY_MPMC(each_receiver_has_its_own),
        ONCE(handler_may_receive),
        ONCE(bad_input_is_refused),
        AT("shm", every_strategy_notifies),
        EVERYWHERE(senders_in_other_processes),
        AT("shm", reused_pid_is_not_hit),
        AT("shm", killed_notifier_only_delays),
    };

    block_signals();
    return run_variants_with("signals", tests, sizeof(tests) / sizeof(tests[0]), setup_signals, teardown);
}
