/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a receiver that asks for a signal gets one, with its handle as value, when a message comes to the
 * channel that it found empty: at least one per arming, and no storm.
 */
#include "signals_test.h"

#include <sched.h>

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
    };

    block_signals();
    return run_variants_with("signals", tests, sizeof(tests) / sizeof(tests[0]), setup_signals, teardown);
}
