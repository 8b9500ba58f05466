/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: wherever a receiver stands on its way to sleep when a message is sent, it gets it; stopped or killed there, it
 * keeps nobody else from getting one. Every instruction of noria_recv is such a place, and of noria_send on a full
 * channel. */
#include "ways_test.h"

#include "stepper.h"

/* In the short form of everything but futex only some instructions, other ones each time round. */
static int stride(void)
{
    return is_long_form() || wait_of_test() == NORIA_WAIT_FUTEX ? 1 : 2;
}

/* Of what is led the second way round, or starts a process for each. */
static int coarse_stride(void)
{
    return is_long_form() || wait_of_test() == NORIA_WAIT_FUTEX ? 1 : 4;
}

enum { TRIES = 10 /* at once, so one bad moment of the machine may take several */ };

static noria_channel *victims;

static void receive_one(void)
{
    uint32_t number;

    PEER_REQUIRES(noria_recv(victims, &number, sizeof(number), -1, NULL) == sizeof(number));
    __atomic_store_n(&peers->numbers[0], number, __ATOMIC_RELEASE);
}

static void be_led(void)
{
    victims = open_handle(NORIA_RECV);
    stepper_serve(receive_one);
}

static void send_one(void)
{
    static uint32_t number;

    PEER_REQUIRES(noria_send(victims, &number, sizeof(number), -1) == 0);
    number++;
}

/* Each of its calls finds the channel full, for nobody takes more than it has sent. */
static void fill_and_be_led(void)
{
    const uint32_t number = 0;

    victims = open_handle(NORIA_SEND);
    while (noria_send(victims, &number, sizeof(number), 0) == 0)
        continue;
    stepper_serve(send_one);
}

static void receive_one_per_order(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint32_t number;

    say();
    for (;;) {
        PEER_REQUIRES(noria_recv(mine, &number, sizeof(number), -1, NULL) == sizeof(number));
        __atomic_store_n(&peers->numbers[1], number, __ATOMIC_RELEASE);
        say();
        await_order();
    }
}

static void send_number(uint32_t number)
{
    assert_int_equal(noria_send(ch.tx, &number, sizeof(number), PATIENCE), 0);
}

static void receive_any(uint32_t unused)
{
    uint32_t number;

    (void)unused;
    assert_int_equal(noria_recv(ch.rx, &number, sizeof(number), PATIENCE, NULL), sizeof(number));
}

/* Who is led to sleep, and what he sleeps for. */
struct side {
    void (*life)(void);
    void (*give)(uint32_t number);
    bool sends;
};
static const struct side receiving = {be_led, send_number, false}, sending = {fill_and_be_led, receive_any, true};
static const struct side *side; /* of this test's victim */

static void expect_it_to_get(pid_t victim, enum whereabouts where, uint32_t number, int position)
{
    if (where == SLEEPS)
        where = stepper_await_wake(victim);
    if (!(where == STANDS || where == ENDED) || !stepper_finish(victim, where))
        fail_msg("%s: instruction %d: there was %s while it stood there, and it sleeps on", name_of_test(), position,
                 side->sends ? "room" : "a message");
    if (!side->sends)
        assert_int_equal(peers->numbers[0], number);
}

static struct trace way_to_sleep;

/* A victim before a call whose way is known: the shortest of some, for on a slow one it meets its own re-
 * check. */
static pid_t start_victim(const struct side *of)
{
    static struct trace way;
    pid_t victim;

    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
    side = of;
    victim = start_peer(side->life);
    stepper_await_call(victim);
    way_to_sleep.length = TRACE_MAX;
    for (int call = 0; call < 20 && (call < 4 || way_to_sleep.length == TRACE_MAX); call++) {
        /* The first is longer: symbols, memory. */
        enum whereabouts where = call == 0 ? stepper_run(victim) : stepper_trace(victim, &way);
        side->give(1);
        expect_it_to_get(victim, where, 1, way.length);
        if (call > 0 && where == SLEEPS && way.length < way_to_sleep.length)
            way_to_sleep = way;
        stepper_next(victim);
    }
    assert_true(way_to_sleep.length < TRACE_MAX);
    return victim;
}

static void no_message_is_slept_through(void **state)
{
    /* Claim: a message sent while the receiver stands before instruction k of noria_recv, for every k until
     * it sleeps, is received, with no re-check to help. (By mutex a ring gives up on one who stands just before his
     * sleep; that strategy's own limit on a sleep ends it then.) */
    pid_t victim;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    victim = start_victim(&receiving);
    for (int k = first_position(stride()); k <= way_to_sleep.length; k += stride()) {
        enum whereabouts where = stepper_advance(victim, &way_to_sleep, k);
        send_number((uint32_t)k);
        expect_it_to_get(victim, where, (uint32_t)k, k);
        stepper_next(victim);
    }
    print_message("%s: asleep after %d instructions\n", name_of_test(), way_to_sleep.length);
}

static void no_room_is_slept_through(void **state)
{
    /* Claim: so does a sender that stands there on its way to sleep at a full channel, when a message is received. */
    pid_t victim;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    victim = start_victim(&sending);
    for (int k = first_position(coarse_stride()); k <= way_to_sleep.length; k += coarse_stride()) {
        enum whereabouts where = stepper_advance(victim, &way_to_sleep, k);
        receive_any(0);
        expect_it_to_get(victim, where, 0, k);
        stepper_next(victim);
    }
    print_message("%s: a sender is asleep after %d instructions\n", name_of_test(), way_to_sleep.length);
}

static int64_t deliver_past_the_stopped_one(uint32_t number)
{
    int64_t start = now_ns();

    send_number(number);
    await_peer();
    assert_int_equal(peers->numbers[1], number);
    return now_ns() - start;
}

static void a_stopped_receiver_costs_the_others_nothing(void **state)
{
    /* Claim (MPMC): with a receiver stopped before instruction k, the other one, asleep, gets the next
     * message, at its re-check at the latest; and the stopped one, continued, gets the one after it. */
    int64_t slowest = 0;
    pid_t victim, other;
    int retried = 0, tries = 0;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    victim = start_victim(&receiving);
    ch.options.recheck_ns = 25 * MS;
    other = start_peer(receive_one_per_order);
    await_peer();
    for (int k = first_position(stride()); k < way_to_sleep.length; k += tries == 0 ? stride() : 0) {
        enum whereabouts where;
        int64_t took;
        await_blocked(other);
        where = stepper_advance(victim, &way_to_sleep, k);
        if (where != STANDS) /* it came another way, and sleeps beside the other one: one for each */
            send_number((uint32_t)k);
        took = deliver_past_the_stopped_one((uint32_t)k);
        slowest = took > slowest ? took : slowest;
        /* Late may be the machine's: it is tried again. A position that is late each time is ours. */
        tries = took > 100 * MS ? tries + 1 : 0;
        retried += tries != 0;
        if (tries == TRIES)
            fail_msg("%s: instruction %d: %d times more than 100 ms late", name_of_test(), k, TRIES);
        if (where == STANDS)
            send_number((uint32_t)k);
        expect_it_to_get(victim, where, (uint32_t)k, k);
        tell_peer();
        stepper_next(victim);
    }
    print_message("%s: %d instructions; the other one waited %.1f ms at most, %d times more than 100 ms\n",
                  name_of_test(), way_to_sleep.length, (double)slowest / MS, retried);
}

/* Its first call, which the trace is not of, is behind it. */
static pid_t start_another_victim(void)
{
    pid_t victim = start_peer(be_led);
    enum whereabouts where;

    stepper_await_call(victim);
    where = stepper_run(victim);
    send_number(1);
    expect_it_to_get(victim, where, 1, 0);
    stepper_next(victim);
    return victim;
}

static void a_killed_receiver_costs_the_others_nothing(void **state)
{
    /* Claim (MPMC): with a receiver killed before instruction k, another one, asleep, gets the next message, at its re-check
     * at the latest. */
    pid_t victim, other;
    int tries = 0;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    victim = start_victim(&receiving);
    ch.options.recheck_ns = 25 * MS;
    for (int k = first_position(coarse_stride()); k < way_to_sleep.length; k += tries == 0 ? coarse_stride() : 0) {
        stepper_advance(victim, &way_to_sleep, k);
        other = start_peer(receive_one_per_order);
        await_peer();
        await_blocked(other);
        kill_peer(victim);
        tries = deliver_past_the_stopped_one((uint32_t)k) > 100 * MS ? tries + 1 : 0;
        if (tries == TRIES)
            fail_msg("%s: instruction %d: %d times more than 100 ms late", name_of_test(), k, TRIES);
        kill_peer(other);
        victim = start_another_victim();
    }
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(no_message_is_slept_through, SLEEPING),
        CLAIM(no_room_is_slept_through, SLEEPING),
        CLAIM(a_stopped_receiver_costs_the_others_nothing, SLEEPING | MPMC),
        CLAIM(a_killed_receiver_costs_the_others_nothing, SLEEPING | MPMC),
    };

    return run_ways("waiting sleeper", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
