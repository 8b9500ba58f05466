/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a signal handler may try to send on the handle whose call it interrupted, wherever that was. A child
 * is interrupted at each instruction of a call, while somebody sleeps who has to be woken; and a timer does
 * it at random.
 */
#include "stepping_test.h"

#include <pthread.h>
#include <sched.h>

#include "segment_channel.h"

#define HOUR (3600 * SECOND)

enum operation { SEND, RECV };
enum { IDS = 64, PATIENCE_S = 20 };

/* What was sent and seen of the numbered messages of one round; shared with the child. */
static struct ledger {
    uint64_t next;
    uint32_t sent[IDS], seen[IDS];
    int32_t strange; /* a result that nobody expects */
    uint32_t handled;
} * ledger;

static void send_one(noria_channel *channel, int64_t timeout_ns)
{
    uint64_t id = noria_add_relaxed64(&ledger->next, 1) % IDS;
    int rc = noria_send(channel, &id, sizeof(id), timeout_ns);

    if (rc == 0)
        noria_add_relaxed32(&ledger->sent[id], 1);
    else if (rc != -EAGAIN && !(is_spsc() && rc == -EDEADLK))
        ledger->strange = rc;
}

static ssize_t receive_one(noria_channel *channel, int64_t timeout_ns)
{
    uint64_t id;
    ssize_t rc = noria_recv(channel, &id, sizeof(id), timeout_ns, NULL);

    if (rc == sizeof(id) && id < IDS)
        noria_add_relaxed32(&ledger->seen[id], 1);
    else if (rc != -EAGAIN)
        ledger->strange = (int32_t)rc;
    return rc;
}

static void operate(enum operation operation, noria_channel *channel, int64_t timeout_ns)
{
    if (operation == SEND)
        send_one(channel, timeout_ns);
    else
        receive_one(channel, timeout_ns);
}

/* --------------------------------------------------------------------------------- at every instruction */

static enum operation outer, inner;
static noria_channel *mine; /* the child's */

static void handle(int signal)
{
    int error = errno;

    (void)signal;
    operate(inner, mine, 0);
    ledger->handled++;
    errno = error;
}

static void interrupted_life(void)
{
    struct sigaction action = {.sa_handler = handle};

    if (noria_open(&mine, ch.address, is_spsc() ? NORIA_SEND : NORIA_SEND | NORIA_RECV, NULL) != 0)
        _exit(1);
    sigaction(SIGUSR1, &action, NULL);
    for (;;) {
        mark();
        operate(outer, mine, 0);
    }
}

static void *sleep_and_operate(void *unused)
{
    (void)unused;
    operate(outer == SEND ? RECV : SEND, outer == SEND ? ch.rx : ch.tx, -1);
    return NULL;
}

static void await_sleeper(enum noria_side side)
{
    const uint32_t *word = &noria_segment_channel_of(ch.rx)->shared->rooms[side].count;

    while ((noria_load_acquire32(word) & NORIA_EVENT_SLEEPERS) == 0)
        sched_yield();
}

static void drain(void)
{
    while (receive_one(ch.rx, 0) >= 0)
        continue;
}

static uint64_t total(const uint32_t *counts)
{
    uint64_t sum = 0;

    for (int i = 0; i < IDS; i++)
        sum += counts[i];
    return sum;
}

static void begin_round(void)
{
    memset(ledger, 0, sizeof(*ledger));
    if (outer == RECV)
        do
            send_one(ch.tx, 0);
        while (total(ledger->sent) == ledger->next);
}

static void assert_each_arrived_once(void)
{
    assert_int_equal(ledger->strange, 0);
    for (int i = 0; i < IDS; i++)
        assert_int_equal(ledger->sent[i], ledger->seen[i]);
}

/* Interrupts the child's call after `steps` instructions. How many it made: fewer if the call was over
 * before, for a child that is just stopping itself gets the signal when it goes on. */
static int interrupt_after(pid_t child, int steps, bool anybody_sleeps)
{
    pthread_t sleeper;
    int made = 0;

    set_patience(PATIENCE_S);
    begin_round();
    if (anybody_sleeps) {
        assert_int_equal(pthread_create(&sleeper, NULL, sleep_and_operate, NULL), 0);
        await_sleeper(outer == SEND ? NORIA_SIDE_RECV : NORIA_SIDE_SEND);
    }
    while (made < steps && step(child))
        made++;
    if (made == steps)
        run_to_mark(child, SIGUSR1);
    if (anybody_sleeps && inner != outer) /* the handler may have taken what the sleeper was woken for */
        operate(outer, outer == SEND ? ch.tx : ch.rx, 0);
    if (anybody_sleeps)
        assert_int_equal(pthread_join(sleeper, NULL), 0);
    drain();
    assert_each_arrived_once();
    return ledger->handled == 1 ? steps : made - (made == steps);
}

static bool never_sleeps(void)
{
    return ch.options.wait == NORIA_WAIT_SPIN || ch.options.wait == NORIA_WAIT_YIELD;
}

/* As many of a call's instructions as can be reached with so many steps in all; 0: each of them. */
static void sweep(enum operation call, enum operation handler, int64_t most_steps)
{
    int length, stride = 1, steps = 0;
    pid_t child;

    outer = call;
    inner = handler;
    if (is_spsc()) /* the sender is the child */
        close_handle(&ch.tx);
    child = start_stepped(interrupted_life);
    interrupt_after(child, INT32_MAX, !never_sleeps()); /* the first call is longer: it links, and opens bells */
    length = interrupt_after(child, INT32_MAX, !never_sleeps());
    assert_true(length > 100); /* it was a call */
    if (most_steps != 0)
        stride += (int)((int64_t)length * length / 2 / most_steps);
    while (interrupt_after(child, steps, !never_sleeps()) == steps)
        steps += stride;
    assert_true(steps > length / 2);
    end_stepped(child);
}

static const uint32_t safe_strategies[] = {
    NORIA_WAIT_FUTEX, NORIA_WAIT_SEMAPHORE, NORIA_WAIT_SYSV_SEMAPHORE, NORIA_WAIT_EVENTFD,
    NORIA_WAIT_FIFO,  NORIA_WAIT_SPIN,      NORIA_WAIT_YIELD};
enum { SAFE_STRATEGIES = sizeof(safe_strategies) / sizeof(safe_strategies[0]) };

static void open_with(uint32_t wait)
{
    ch.options.wait = wait;
    ch.options.recheck_ns = HOUR; /* a wake-up that is lost is lost */
    open_pair();
}

static void handler_sends_within_a_send(void **state)
{
    /* Claim: a handler that tries to send within a send (MPMC) is served, wherever it interrupted it; both
     * messages arrive once, and the sleeping receiver is woken. SPSC: -EDEADLK or served. */
    bool thorough = getenv("NORIA_LONG") != NULL; /* else each instruction only of the most usual case */

    (void)state;
    for (int i = 0; i < SAFE_STRATEGIES; i++) {
        open_with(safe_strategies[i]);
        sweep(SEND, SEND, thorough ? 0 : i == 0 && !is_spsc() ? 250000 : 20000);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static void handler_serves_within_any_call(void **state)
{
    /* Claim (MPMC, pack 1): the same for a try to receive, and within a receive while a sender sleeps. */
    static const struct {
        enum operation outer, inner;
    } pairs[] = {{RECV, SEND}, {SEND, RECV}, {RECV, RECV}};

    (void)state;
    open_with(NORIA_WAIT_FUTEX);
    for (int i = 0; i < 3; i++)
        sweep(pairs[i].outer, pairs[i].inner, getenv("NORIA_LONG") != NULL ? 0 : 20000);
}

static int setup_handler(void **state)
{
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return ledger == MAP_FAILED ? -1 : setup(state);
}

static int teardown_handler(void **state)
{
    munmap(ledger, sizeof(*ledger));
    return teardown(state);
}

/* ------------------------------------------------------------------------------------------- by a timer */

enum { INTERRUPTIONS = 1500 };

static volatile uint64_t accepted_in_handler, interruptions;

static void send_from_timer(int signal)
{
    int error = errno;
    uint64_t number = UINT64_MAX;
    int rc = noria_send(ch.tx, &number, sizeof(number), 0);

    (void)signal;
    interruptions = interruptions + 1;
    if (rc == 0)
        accepted_in_handler = accepted_in_handler + 1;
    else if (rc != -EAGAIN && !(is_spsc() && rc == -EDEADLK))
        ledger->strange = rc;
    errno = error;
}

struct reception {
    uint64_t in_order, from_handler;
    ssize_t rc;
};

static void *receive_all(void *context)
{
    struct reception *reception = context;
    uint64_t number;

    while ((reception->rc = noria_recv(ch.rx, &number, sizeof(number), -1, NULL)) == sizeof(number))
        if (number == UINT64_MAX)
            reception->from_handler++;
        else if (number == reception->in_order)
            reception->in_order++;
        else
            break;
    return NULL;
}

static void block_timer(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(how, &set, NULL);
}

/* Interrupts this process every 100 us; the handler runs in this thread, because the others block it. */
static timer_t start_timer(void)
{
    struct sigaction action = {.sa_handler = send_from_timer};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerspec every = {{0, 100000}, {0, 100000}};
    timer_t timer;

    sigaction(SIGUSR2, &action, NULL);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
    return timer;
}

static void timer_sends_within_blocking_sends(uint32_t wait)
{
    struct reception reception = {0};
    uint64_t sent = 0;
    pthread_t receiver;
    timer_t timer;

    open_with(wait);
    accepted_in_handler = interruptions = 0;
    ledger->strange = 0;
    block_timer(SIG_BLOCK);
    assert_int_equal(pthread_create(&receiver, NULL, receive_all, &reception), 0);
    timer = start_timer();
    block_timer(SIG_UNBLOCK);
    for (; interruptions < INTERRUPTIONS; sent++)
        assert_int_equal(noria_send(ch.tx, &sent, sizeof(sent), -1), 0);
    timer_delete(timer);
    close_handle(&ch.tx);
    assert_int_equal(pthread_join(receiver, NULL), 0);
    assert_int_equal(reception.rc, -EPIPE);
    assert_int_equal(reception.in_order, sent);
    assert_int_equal(reception.from_handler, accepted_in_handler);
    assert_int_equal(ledger->strange, 0);
    close_handle(&ch.rx);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void timer_interrupts_blocking_sends(void **state)
{
    /* Claim: a handler that runs every 100 us and tries to send, within sends that fill the channel and
     * sleep, makes no message lost, doubled or out of order, and nothing hang. */
    (void)state;
    for (int i = 0; i < SAFE_STRATEGIES; i++)
        timer_sends_within_blocking_sends(safe_strategies[i]);
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("shm", handler_sends_within_a_send),
        {"handler_serves_within_any_call", handler_serves_within_any_call, NORIA_KIND_MPMC, "shm"},
        AT("shm", timer_interrupts_blocking_sends),
    };

    return run_variants_with("handler", tests, sizeof(tests) / sizeof(tests[0]), setup_handler,
                             teardown_handler);
}
