/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no wake-up is lost: processes that answer each other, asleep before each message and with a re-
 * check an hour away, get on for 100,000 round trips (long form: a million). A watchdog sees who does not. */
#include "ways_test.h"

#include <sys/wait.h>

enum { CROWD = 3 }; /* on each side */

/* For as many round trips, but who never sleeps may end after so long: it shares its processor with its
 * peer, perhaps. */
#define LONG_ENOUGH (5 * SECOND)
#define NO_PROGRESS (10 * SECOND)

static char back_address[80];

static int64_t rounds(void)
{
    return is_long_form() ? 1000000 : 50000; /* on each kind of channel */
}

/* How often number i was counted by its player. */
static int64_t *count_of(int i)
{
    return &peers->numbers[8 + i];
}

static void sit_on(int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    (void)!sched_setaffinity(0, sizeof(set), &set); /* with one processor it is the other players' */
}

static noria_channel *open_other(int flags)
{
    noria_channel *channel = NULL;

    PEER_REQUIRES(noria_open(&channel, back_address, flags | NORIA_CREATE, &ch.options) == 0);
    return channel;
}

/* Passes on what comes. */
static void forward(noria_channel *from, noria_channel *to, int64_t *count)
{
    uint32_t number;

    for (;;) {
        PEER_REQUIRES(noria_recv(from, &number, sizeof(number), -1, NULL) == sizeof(number));
        PEER_REQUIRES(noria_send(to, &number, sizeof(number), -1) == 0);
        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    }
}

static void play_ping(void)
{
    noria_channel *to = open_handle(NORIA_SEND), *from = open_other(NORIA_RECV);

    sit_on(0);
    say();
    await_order();
    /* One of them throws in the ball. */
    if (__atomic_exchange_n(&peers->numbers[1], 0, __ATOMIC_RELAXED) != 0)
        PEER_REQUIRES(noria_send(to, &(uint32_t){1}, 4, -1) == 0);
    forward(from, to, count_of(0));
}

static void play_pong(void)
{
    noria_channel *from = open_handle(NORIA_RECV), *to = open_other(NORIA_SEND);

    sit_on(1);
    say();
    await_order();
    forward(from, to, count_of(1));
}

static void expect_progress(int64_t wanted, bool may_end_early)
{
    int64_t start = now_ns(), moved = start, last = -1;

    while (last < wanted) {
        const struct timespec pause = {.tv_nsec = 10 * MS}; /* the watchdog looks now and then */
        int64_t count = __atomic_load_n(count_of(0), __ATOMIC_RELAXED);
        if (count != last)
            moved = now_ns();
        last = count;
        if (now_ns() - moved > NO_PROGRESS)
            fail_msg("%s: a wake-up was lost: nothing moves after %lld and %lld messages", name_of_test(),
                     (long long)*count_of(0), (long long)*count_of(1));
        if (may_end_early && now_ns() - start > LONG_ENOUGH)
            break;
        nanosleep(&pause, NULL);
    }
    print_message("%s: %lld round trips in %.1f s, %.1f us each\n", name_of_test(), (long long)last,
                  (double)(now_ns() - start) / SECOND, (double)(now_ns() - start) / 1000 / (double)last);
}

static void play(int players, int64_t wanted)
{
    snprintf(back_address, sizeof(back_address), "%s-back", ch.address);
    noria_unlink(back_address); /* of a test that failed */
    ch.options.recheck_ns = HOUR;
    ch.options.most_spins = 0;
    peers->numbers[1] = 1;
    for (int i = 0; i < players; i++) {
        start_peer(play_ping);
        start_peer(play_pong);
        await_peer();
        await_peer();
    }
    for (int i = 0; i < 2 * players; i++)
        tell_peer();
    expect_progress(wanted, !sleeps());
    peers_end(); /* before the second name goes */
    peers_begin();
    noria_unlink(back_address);
}

static void two_answer_each_other(void **state)
{
    /* Claim: one on each of two processors. */
    (void)state;
    play(1, rounds());
}

static void a_crowd_passes_one_ball(void **state)
{
    /* Claim (MPMC): three on each side and one message on its way: whoever of them is woken passes it on. */
    (void)state;
    play(CROWD, rounds() / 20);
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(two_answer_each_other, ALL_WAYS),
        CLAIM(a_crowd_passes_one_ball, SLEEPING | MPMC),
    };

    return run_ways("waiting lost", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
