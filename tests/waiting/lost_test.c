/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no wake-up is lost: processes that answer each other, asleep before each message and with a re-check an hour
 * away, get on for 50,000 round trips on each kind of channel (long form: a million), and no message lies beside a
 * sleeper for more than 100 ms. A watchdog sees who does not get on. By mutex a sleep ends after 50 ms by itself: so a
 * message that was waited for that long is looked for, too. */
#include "ways_test.h"

#include <sys/wait.h>

enum {
    CROWD = 3,       /* on each side */
    PORTION = 50000, /* round trips */
    HANDFUL = 5,     /* messages of a portion that may be late */
    ATTEMPTS = 10    /* at a portion: on a busy machine players wait for others */
};
#define LATE (40 * MS)
#define TOO_LATE (100 * MS)

/* For as many round trips, but who never sleeps may end after so long, once there were some: it shares its processor
 * with its peer, perhaps. */
#define LONG_ENOUGH (5 * SECOND)
#define SOME 1000
#define NO_PROGRESS (10 * SECOND)

static char back_address[80];

static int portions(void)
{
    return is_long_form() ? 20 : 1; /* on each kind of channel */
}

/* How often number i was counted by its player. */
static int64_t *count_of(int i)
{
    return &peers->numbers[8 + i];
}

/* How long messages lay there, from before the send until they were received. Whoever has the ball writes here. */
enum lateness { OVER_40_MS, OVER_100_MS, SLOWEST_NS };

static int64_t lateness(enum lateness which)
{
    return __atomic_load_n(&peers->numbers[2 + which], __ATOMIC_RELAXED);
}

static void set_lateness(enum lateness which, int64_t value)
{
    __atomic_store_n(&peers->numbers[2 + which], value, __ATOMIC_RELAXED);
}

static void note_lateness(int64_t took)
{
    if (took > lateness(SLOWEST_NS))
        set_lateness(SLOWEST_NS, took);
    if (took > LATE)
        set_lateness(OVER_40_MS, lateness(OVER_40_MS) + 1);
    if (took > TOO_LATE)
        set_lateness(OVER_100_MS, lateness(OVER_100_MS) + 1);
}

/* Who never sleeps may have to wait for the processor that the other one spins on. */
static bool is_in_time(void)
{
    return !sleeps() || (lateness(OVER_40_MS) <= HANDFUL && lateness(OVER_100_MS) == 0);
}

static void sit_on(int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) /* with one processor it is the other players' */
        fprintf(stderr, "%s: a player is not alone on processor %d: %s\n", name_of_test(), processor, strerror(errno));
}

static bool goes_first;

/* Before everybody else on this machine, where that is allowed: then who is late is so by his own doing. Niceness would
 * not do, for it counts within a session. */
static void go_first(void)
{
    if (goes_first)
        (void)!sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1});
}

/* From nothing up to what it takes to fall asleep, so that messages meet sleepers anywhere on their way: who goes first
 * would answer before they get there. */
static void pass_a_moment(int64_t count)
{
    int64_t until = now_ns() + count * 7919 % 32 * 1000;

    while (goes_first && now_ns() < until)
        continue;
}

static noria_channel *open_other(int flags)
{
    noria_channel *channel = NULL;

    PEER_REQUIRES(noria_open(&channel, back_address, flags | NORIA_CREATE, &ch.options) == 0);
    return channel;
}

static void throw_ball(noria_channel *to)
{
    int64_t thrown_ns = now_ns();

    PEER_REQUIRES(noria_send(to, &thrown_ns, sizeof(thrown_ns), -1) == 0);
}

/* Passes on what comes. */
static void forward(noria_channel *from, noria_channel *to, int64_t *count)
{
    int64_t thrown_ns;

    for (;;) {
        PEER_REQUIRES(noria_recv(from, &thrown_ns, sizeof(thrown_ns), -1, NULL) == sizeof(thrown_ns));
        note_lateness(now_ns() - thrown_ns);
        pass_a_moment(*count);
        throw_ball(to);
        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    }
}

static void play_ping(void)
{
    noria_channel *to = open_handle(NORIA_SEND), *from = open_other(NORIA_RECV);

    sit_on(0);
    go_first();
    say();
    await_order();
    /* One of them throws in the ball. */
    if (__atomic_exchange_n(&peers->numbers[1], 0, __ATOMIC_RELAXED) != 0)
        throw_ball(to);
    forward(from, to, count_of(0));
}

static void play_pong(void)
{
    noria_channel *from = open_handle(NORIA_RECV), *to = open_other(NORIA_SEND);

    sit_on(1);
    go_first();
    say();
    await_order();
    forward(from, to, count_of(1));
}

/* Until they have got so far, or too many were late already. */
static void expect_progress(int64_t wanted, bool may_end_early)
{
    int64_t start = now_ns(), moved = start, last = -1;

    while (last < wanted && is_in_time()) {
        const struct timespec pause = {.tv_nsec = 10 * MS}; /* the watchdog looks now and then */
        int64_t count = __atomic_load_n(count_of(0), __ATOMIC_RELAXED);
        if (count != last)
            moved = now_ns();
        last = count;
        if (now_ns() - moved > NO_PROGRESS)
            fail_msg("%s: a wake-up was lost: nothing moves after %lld and %lld messages", name_of_test(),
                     (long long)*count_of(0), (long long)*count_of(1));
        if (may_end_early && last >= SOME && now_ns() - start > LONG_ENOUGH)
            break;
        nanosleep(&pause, NULL);
    }
    print_message("%s: %lld round trips in %.1f s, %.1f us each; a message lay there for %.1f ms at most, %lld for more "
                  "than 40 ms, %lld for more than 100\n",
                  name_of_test(), (long long)last, (double)(now_ns() - start) / SECOND,
                  (double)(now_ns() - start) / 1000 / (double)last, (double)lateness(SLOWEST_NS) / MS,
                  (long long)lateness(OVER_40_MS), (long long)lateness(OVER_100_MS));
}

/* Whether the messages came in time. */
static bool play_once(int players, int64_t wanted)
{
    bool in_time;

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
    in_time = is_in_time();
    peers_end(); /* before the names go, and with them the ball */
    peers_begin();
    noria_unlink(back_address);
    noria_unlink(ch.address);
    return in_time;
}

static void play(int players, int64_t wanted)
{
    for (int portion = 0; portion < portions(); portion++) {
        goes_first = false;
        for (int attempt = 1; !play_once(players, wanted); attempt++) {
            if (attempt == ATTEMPTS)
                fail_msg("%s: %d times some messages lay beside a sleeper for long", name_of_test(), ATTEMPTS);
            goes_first = true;
        }
    }
}

static void two_answer_each_other(void **state)
{
    /* Claim: one on each of two processors. */
    (void)state;
    play(1, PORTION);
}

static void a_crowd_passes_one_ball(void **state)
{
    /* Claim (MPMC): three on each side and one message on its way: whoever of them is woken passes it on. */
    (void)state;
    play(CROWD, PORTION / 20);
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(two_answer_each_other, ALL_WAYS),
        CLAIM(a_crowd_passes_one_ball, SLEEPING | MPMC),
    };

    return run_ways("waiting lost", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
