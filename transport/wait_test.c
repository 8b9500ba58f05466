/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a call tries, looks round, spins and sleeps as its verbs and its timeout say, and every way out of
 * it is told apart: done, in time, too late, ended, shut down, inherited, re-entered. The verbs here are
 * fakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "call.h"
#include "event.h"
#include "liveness.h"
#include "nap.h"

/* Asked by a leak checker at exit: it cannot work in a child, which may have no descriptors or a stopped
 * thread. */
static int is_child;
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return is_child;
}

#define MS NORIA_NS_PER_MS

/* What the fake channel does, and what was asked of it. */
static struct {
    struct noria_channel channel;
    uint32_t word;
    struct noria_event event;
    int64_t recheck_ns;
    int tries, looks, sleeps, back_offs, wakes;
    int succeed_at;  /* the try that returns `success`; 0: none */
    ssize_t success;
    int mend_at;     /* the look that says "mended" */
    int leave_at;    /* the look from which on nobody is there */
    bool ended;
    int shut_at; /* the try in which the handle is shut from elsewhere */
    int call_again_at;
    ssize_t rc_again, rc_other_side;
    int64_t slept_until_ns;
} fake;

static int look_round(noria_channel *channel, enum noria_side side)
{
    (void)channel;
    (void)side;
    fake.looks++;
    if (fake.mend_at == fake.looks)
        return 1;
    return fake.leave_at != 0 && fake.looks >= fake.leave_at ? -EPIPE : 0;
}

static bool has_ended(noria_channel *channel, enum noria_side side)
{
    (void)channel;
    (void)side;
    return fake.ended;
}

static void back_off(noria_channel *channel, enum noria_side side)
{
    (void)channel;
    (void)side;
    fake.back_offs++;
}

static int sleep_on_event(noria_channel *channel, enum noria_side side, int64_t deadline_ns,
                           bool (*ready)(void *), void *context)
{
    (void)channel;
    (void)side;
    fake.sleeps++;
    fake.slept_until_ns = deadline_ns;
    return noria_event_sleep(&fake.event, deadline_ns, fake.recheck_ns, ready, context);
}

static void wake(noria_channel *channel)
{
    (void)channel;
    __atomic_add_fetch(&fake.wakes, 1, __ATOMIC_RELAXED);
    noria_event_wake(&fake.event);
}

static const struct noria_verbs fakes = {.look_round = look_round,
                                         .has_ended = has_ended,
                                         .back_off = back_off,
                                         .sleep = sleep_on_event,
                                         .wake = wake};

static ssize_t do_nothing(noria_channel *channel, void *unused)
{
    (void)channel;
    (void)unused;
    return 3;
}

static ssize_t try_it(noria_channel *channel, void *context)
{
    const struct noria_attempt other = {do_nothing, NULL, true, 0, NULL};

    assert_ptr_equal(context, &fake);
    fake.tries++;
    if (fake.tries == fake.shut_at)
        noria_store_release32(&channel->state, NORIA_HANDLE_SHUT);
    if (fake.tries == fake.call_again_at) {
        fake.rc_again = noria_call(channel, NORIA_SIDE_RECV, -1, &other);
        fake.rc_other_side = noria_call(channel, NORIA_SIDE_SEND, -1, &other);
    }
    return fake.succeed_at != 0 && fake.tries >= fake.succeed_at ? fake.success : -EAGAIN;
}

static const struct noria_attempt attempt = {try_it, &fake, true, 0, NULL};

static void reset(bool fails_when_full)
{
    memset(&fake, 0, sizeof(fake));
    fake.recheck_ns = 5 * MS;
    fake.success = 7;
    noria_event_open(&fake.event, &fake.word, &noria_strategy_futex, NULL, 0);
    noria_channel_init(&fake.channel, &fakes, NORIA_SEND | NORIA_RECV, 64,
                       fails_when_full ? NORIA_FULL_FAIL : NORIA_FULL_BLOCK);
}

static int setup(void **state)
{
    (void)state;
    if (noria_process_prepare() != 0)
        return -1;
    reset(false);
    return 0;
}

static ssize_t receive(int64_t timeout_ns)
{
    return noria_call(&fake.channel, NORIA_SIDE_RECV, timeout_ns, &attempt);
}

/* ------------------------------------------------------------------------------------------- a single try */

static void success_costs_one_try(void **state)
{
    /* Claim: a first try that succeeds is all there is: no look round, no sleep, whatever the timeout. */
    static const int64_t timeouts[] = {0, 1, MS, -1, INT64_MAX};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        reset(false);
        fake.succeed_at = 1;
        assert_int_equal(receive(timeouts[i]), 7);
        assert_int_equal(fake.tries, 1);
        assert_int_equal(fake.looks + fake.sleeps + fake.back_offs, 0);
    }
}

static void errors_end_the_call(void **state)
{
    /* Claim: any other error than -EAGAIN ends the call, at whichever try it comes. */
    static const int at[] = {1, 2, 5, 150, 400};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        reset(false);
        fake.succeed_at = at[i];
        fake.success = -EBADMSG;
        fake.recheck_ns = 1;
        assert_int_equal(receive(-1), -EBADMSG);
        assert_int_equal(fake.tries, at[i]);
    }
}

static void timeout_0_never_sleeps(void **state)
{
    /* Claim: with timeout 0 a failed try is followed by one look round and nothing else. */
    (void)state;
    assert_int_equal(receive(0), -EAGAIN);
    assert_int_equal(fake.tries, 1);
    assert_int_equal(fake.looks, 1);
    assert_int_equal(fake.sleeps + fake.back_offs, 0);
}

static void what_was_mended_is_tried_again(void **state)
{
    /* Claim: if the look round mended something, the same call tries again and returns what it then finds. */
    (void)state;
    fake.mend_at = 1;
    fake.succeed_at = 2;
    assert_int_equal(receive(0), 7);
    reset(false);
    fake.mend_at = 1;
    assert_int_equal(receive(0), -EAGAIN);
    assert_int_equal(fake.tries, 2);
}

static void end_needs_a_last_look(void **state)
{
    /* Claim: when nobody is left on the other side, the call tries once more, and says -EPIPE only if that
     * finds nothing and nothing can come back. */
    (void)state;
    fake.leave_at = 1;
    fake.ended = true;
    assert_int_equal(receive(0), -EPIPE);
    assert_int_equal(fake.tries, 2);
    assert_int_equal(receive(-1), -EPIPE);
    reset(false);
    fake.leave_at = 1;
    fake.ended = true;
    fake.succeed_at = 2;
    assert_int_equal(receive(0), 7);
    reset(false);
    fake.leave_at = 1;
    assert_int_equal(receive(0), -EAGAIN); /* somebody holds a message */
    assert_int_equal(receive(2 * MS), -ETIMEDOUT);
}

static void full_may_mean_fail(void **state)
{
    /* Claim: a sender whose channel fails when full does not wait; a receiver of the same does. */
    (void)state;
    reset(true);
    assert_int_equal(noria_call(&fake.channel, NORIA_SIDE_SEND, -1, &attempt), -EAGAIN);
    assert_int_equal(fake.tries, 1);
    assert_int_equal(fake.sleeps, 0);
    assert_int_equal(receive(2 * MS), -ETIMEDOUT);
    assert_true(fake.sleeps > 0);
}

static void senders_may_look_first(void **state)
{
    /* Claim: with looks_first a sender asks whether anybody is there before it tries; a receiver does not. */
    (void)state;
    fake.channel.looks_first = 1;
    fake.leave_at = 1;
    fake.succeed_at = 1;
    assert_int_equal(noria_call(&fake.channel, NORIA_SIDE_SEND, -1, &attempt), -EPIPE);
    assert_int_equal(fake.tries, 0);
    assert_int_equal(receive(0), 7);
}

/* ------------------------------------------------------------------------------------- spinning, sleeping */

/* Overshoot of the best of some calls: a loaded machine makes single ones late, never all of them. */
static int64_t best_overshoot(int64_t timeout_ns)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < 5; i++) {
        int64_t start = noria_now_ns(), late;
        assert_int_equal(receive(timeout_ns), -ETIMEDOUT);
        late = noria_now_ns() - start - timeout_ns;
        assert_true(late >= 0);
        best = late < best ? late : best;
    }
    return best;
}

static void deadlines_are_kept(void **state)
{
    /* Claim: a wait ends with -ETIMEDOUT, never early and within 10 ms, whatever the re-check interval. */
    static const int64_t timeouts[] = {1, 50000, 2 * MS, 23 * MS};
    static const int64_t rechecks[] = {MS, 7 * MS, 3600 * NORIA_NS_PER_S};

    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++) {
            reset(false);
            fake.recheck_ns = rechecks[j];
            assert_true(best_overshoot(timeouts[i]) < 10 * MS);
        }
}

static void long_spins_look_at_the_clock(void **state)
{
    /* Claim: a deadline that passes while the call still spins ends it, too. */
    (void)state;
    for (int i = 0; i < 20; i++) {
        int64_t start = noria_now_ns();
        fake.channel.spins[NORIA_SIDE_RECV] = 1000;
        assert_int_equal(receive(1), -ETIMEDOUT);
        assert_true(noria_now_ns() - start >= 1);
    }
    assert_true(fake.back_offs < 20 * 1000);
}

static void sleeper_sees_success_later(void **state)
{
    /* Claim: a try that succeeds while the call sleeps (its own looks, no notification) ends it. */
    (void)state;
    fake.succeed_at = 110; /* more than the first call spins */
    fake.recheck_ns = 100000;
    assert_int_equal(receive(-1), 7);
    assert_true(fake.sleeps > 0);
    assert_true(fake.slept_until_ns == NORIA_FOREVER);
}

static void spinning_adapts(void **state)
{
    /* Claim: a side whose spinning never pays spins less and less, down to a few tries; one that is served
     * while it spins goes on spinning, and never beyond a bound. */
    uint32_t *spins = &fake.channel.spins[NORIA_SIDE_RECV];

    (void)state;
    for (int i = 0; i < 40; i++) /* long enough for all the spins */
        assert_int_equal(receive(MS), -ETIMEDOUT);
    assert_int_equal(*spins, 8);
    assert_int_equal(fake.channel.spins[NORIA_SIDE_SEND], 100); /* each side for itself */
    for (int i = 0; i < 300; i++) {
        uint32_t before = *spins;
        fake.tries = 0;
        fake.succeed_at = (int)before; /* in the last spin */
        assert_int_equal(receive(-1), 7);
        assert_true(*spins >= before);
        assert_true(*spins <= 1000);
    }
    assert_true(*spins > 100);
}

static void tick(int signal)
{
    (void)signal;
}

static void signals_do_not_shorten_a_wait(void **state)
{
    /* Claim: interrupted sleeps (EINTR) go on to the deadline. */
    struct sigaction action = {.sa_handler = tick}, old;
    const struct itimerval often = {{0, 700}, {0, 700}}, off = {{0, 0}, {0, 0}};

    (void)state;
    fake.recheck_ns = NORIA_NS_PER_S;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_true(best_overshoot(25 * MS) < 10 * MS);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
}

/* ---------------------------------------------------------------------------------------- one caller only */

static void one_caller_per_side(void **state)
{
    /* Claim: with one_caller a call inside a call of the same side is -EDEADLK, in the first try and in a
     * later one; the other side is free; afterwards the side is free again, however the call ended. */
    static const int at[] = {1, 3, 130};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (int ends_well = 0; ends_well < 2; ends_well++) {
            reset(false);
            fake.channel.one_caller = 1;
            fake.call_again_at = at[i];
            fake.succeed_at = at[i] + 2;
            fake.success = ends_well ? 7 : -EBADMSG;
            fake.recheck_ns = 1;
            assert_int_equal(receive(-1), fake.success);
            assert_int_equal(fake.rc_again, -EDEADLK);
            assert_int_equal(fake.rc_other_side, 3);
            assert_int_equal(fake.channel.roles[0].busy + fake.channel.roles[1].busy +
                             fake.channel.roles[0].in_lane + fake.channel.roles[1].in_lane, 0);
        }
    reset(false); /* and without it, calls may nest */
    fake.call_again_at = 1;
    fake.succeed_at = 1;
    assert_int_equal(receive(0), 7);
    assert_int_equal(fake.rc_again, 3);
}

/* -------------------------------------------------------------------------------------------- calls in their lane */

static uint32_t lane_seen; /* in_lane, as the try found it */

static int try_to_send(noria_channel *channel, const void *data, size_t len, unsigned priority)
{
    (void)data;
    (void)len;
    (void)priority;
    lane_seen = channel->roles[NORIA_SIDE_SEND].in_lane;
    fake.tries++;
    return fake.succeed_at != 0 && fake.tries >= fake.succeed_at ? (int)fake.success : -EAGAIN;
}

static ssize_t try_to_receive(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info)
{
    (void)buffer;
    (void)capacity;
    (void)info;
    lane_seen = channel->roles[NORIA_SIDE_RECV].in_lane;
    fake.tries++;
    return fake.succeed_at != 0 && fake.tries >= fake.succeed_at ? fake.success : -EAGAIN;
}

NORIA_LANE_CALLS(try_to_send, try_to_receive)

static ssize_t call_by_lane(enum noria_side side, int64_t timeout_ns)
{
    fake.tries = 0;
    lane_seen = UINT32_MAX;
    return side == NORIA_SIDE_SEND ? send_call(&fake.channel, "", 1, 0, timeout_ns)
                                   : recv_call(&fake.channel, NULL, 0, NULL, timeout_ns);
}

static void expect_nobody_inside(void)
{
    for (int side = 0; side < 2; side++)
        assert_int_equal(fake.channel.roles[side].in_lane + fake.channel.roles[side].busy, 0);
    assert_int_equal(noria_calls_waiting(&fake.channel), 0);
}

static void lanes_are_marked_and_left(void **state)
{
    /* Claim: a call is marked in its lane while it tries, the thread's first and the later ones, which have nothing but the lane;
     * and no longer when it has returned, however it ended: at once, in a first look, while it spun or slept, or in failure. */
    static const int at[] = {1, 2, 30, 150};
    struct noria_verbs verbs = fakes;

    (void)state;
    verbs.send = try_to_send;
    verbs.recv = try_to_receive;
    for (uint32_t suffices = 0; suffices < 2; suffices++)
        for (int side = 0; side < 2; side++) {
            reset(false);
            fake.channel.verbs = &verbs;
            fake.channel.one_caller = 1;
            fake.channel.lane_suffices = suffices;
            fake.recheck_ns = 1;
            for (int i = 0; i < 12; i++) {
                fake.succeed_at = at[i % 4];
                fake.success = i % 3 == 2 ? -EBADMSG : side == NORIA_SIDE_SEND ? 0 : 7;
                assert_int_equal(call_by_lane((enum noria_side)side, -1), fake.success);
                assert_int_equal(lane_seen, 1);
                expect_nobody_inside();
            }
            fake.succeed_at = 0;
            assert_int_equal(call_by_lane((enum noria_side)side, 0), -EAGAIN);
            assert_int_equal(call_by_lane((enum noria_side)side, MS), -ETIMEDOUT);
            assert_int_equal(fake.channel.roles[side].owner, noria_section_thread());
            noria_channel_shut(&fake.channel);
            assert_int_equal(call_by_lane((enum noria_side)side, 0), -ECANCELED);
            assert_int_equal(call_by_lane((enum noria_side)side, -1), -ECANCELED);
            assert_int_equal(lane_seen, UINT32_MAX);
            expect_nobody_inside();
        }
}

/* ------------------------------------------------------------------------------------- shutting, draining */

static void shut_handles_are_cancelled(void **state)
{
    /* Claim: a handle that is shut before or during a call, spinning or sleeping, ends it with -ECANCELED. */
    static const int at[] = {1, 4, 120, 300};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        reset(false);
        fake.shut_at = at[i];
        fake.recheck_ns = 1;
        assert_int_equal(receive(-1), -ECANCELED);
        assert_int_equal(noria_calls_waiting(&fake.channel), 0);
        assert_int_equal(receive(0), -ECANCELED);
        assert_int_equal(receive(-1), -ECANCELED);
    }
}

static void shut_calls_do_not_go_to_sleep(void **state)
{
    /* Claim: a call that learns at its last try that the handle was shut does not count itself as waiting again, whatever
     * number of tries it had: close may have looked at the count by then. */
    (void)state;
    for (uint32_t most = 1; most <= 130; most++) {
        reset(false);
        noria_channel_limit_spins(&fake.channel, most);
        fake.channel.spins[NORIA_SIDE_RECV] = most;
        fake.shut_at = (int)most + 1 + (int)(most / 32); /* every 32nd turn tries twice */
        assert_int_equal(receive(-1), -ECANCELED);
        assert_int_equal(fake.sleeps, 0);
    }
}

static int64_t dropped;

static void count_lost(noria_channel *channel, uint64_t n)
{
    (void)channel;
    dropped += (int64_t)n;
}

static void what_may_be_dropped_is(void **state)
{
    /* Claim: with DROP_NEWEST a try that begins something and finds no room neither waits nor sleeps: its messages are
     * counted and it succeeds; one that has no message yet is -EAGAIN; one that finishes what was begun waits. */
    struct noria_verbs verbs = fakes;
    struct noria_attempt sends = {try_it, &fake, true, 3, NULL}, reserves = {try_it, &fake, true, 0, NULL},
                         commits = {try_it, &fake, false, 0, NULL};

    (void)state;
    verbs.count_lost = count_lost;
    dropped = 0;
    reset(false);
    fake.channel.verbs = &verbs;
    fake.channel.full = NORIA_FULL_DROP_NEWEST;
    assert_int_equal(noria_call(&fake.channel, NORIA_SIDE_SEND, -1, &sends), 3);
    assert_int_equal(dropped, 3);
    assert_int_equal(noria_call(&fake.channel, NORIA_SIDE_SEND, -1, &reserves), -EAGAIN);
    assert_int_equal(dropped, 3);
    assert_int_equal(fake.sleeps, 0);
    fake.tries = 0;
    fake.succeed_at = 150;
    fake.recheck_ns = 1;
    assert_int_equal(noria_call(&fake.channel, NORIA_SIDE_SEND, -1, &commits), 7);
    assert_true(fake.sleeps > 0);
    assert_int_equal(dropped, 3);
}

/* Somebody leaves, and rings, between the call's look round and its arming, which takes the ring back. */
static bool arm_after_the_last_has_left(noria_channel *channel, enum noria_side side, bool quiet)
{
    (void)channel;
    (void)side;
    fake.leave_at = fake.looks + 1;
    fake.ended = true;
    return quiet;
}

static void arming_looks_for_the_end_of_the_stream(void **state)
{
    /* Claim: who arms a descriptor learns of an end of the stream whose notice his arming took back, and passes it on. */
    struct noria_verbs verbs = fakes;

    (void)state;
    verbs.arm = arm_after_the_last_has_left;
    for (int timed = 0; timed < 2; timed++) {
        reset(false);
        fake.recheck_ns = 1;
        fake.channel.verbs = &verbs;
        fake.channel.polls[NORIA_SIDE_RECV] = 1;
        assert_int_equal(receive(timed ? MS : 0), -EPIPE);
        assert_int_equal(fake.wakes, 1);
    }
}

static void *receive_for_ever(void *rc)
{
    *(ssize_t *)rc = receive(-1);
    return NULL;
}

static void draining_waits_for_every_call(void **state)
{
    /* Claim: after shut and drain no call is inside, however many were asleep; drain wakes them itself. */
    pthread_t threads[5];
    ssize_t rc[5];

    (void)state;
    fake.recheck_ns = 3600 * NORIA_NS_PER_S;
    for (int i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, receive_for_ever, &rc[i]), 0);
    while (noria_calls_waiting(&fake.channel) < 5)
        sched_yield();
    noria_channel_shut(&fake.channel);
    noria_channel_drain(&fake.channel);
    assert_int_equal(noria_calls_waiting(&fake.channel), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(rc[i], -ECANCELED);
    }
    assert_true(fake.wakes > 0);
}

static struct {
    uint32_t in_its_last_turn, closing, closed, closed_under_it;
} late;

static void take_some_naps(void)
{
    for (int i = 0; i < 10; i++)
        noria_nap(NORIA_FOREVER);
}

/* Stays in the read section of the 32nd turn, after which a call looks up, until somebody waits for that section's end. */
static ssize_t try_until_somebody_closes(noria_channel *channel, void *unused)
{
    (void)channel;
    (void)unused;
    if (++fake.tries == 33) {
        noria_store_release32(&late.in_its_last_turn, 1);
        while (noria_load_acquire32(&late.closing) == 0)
            sched_yield();
        take_some_naps();
    }
    return -EAGAIN;
}

static ssize_t end_slowly(noria_channel *channel, void *unused, ssize_t rc)
{
    (void)channel;
    (void)unused;
    take_some_naps();
    late.closed_under_it = noria_load_acquire32(&late.closed);
    return rc;
}

static void *receive_slowly(void *rc)
{
    const struct noria_attempt slow = {try_until_somebody_closes, NULL, true, 0, end_slowly};

    *(ssize_t *)rc = noria_call(&fake.channel, NORIA_SIDE_RECV, -1, &slow);
    return NULL;
}

static void draining_waits_for_who_comes_back(void **state)
{
    /* Claim: a call that leaves its read section and comes back into one while drain waits for the first is waited for. */
    pthread_t thread;
    ssize_t rc;

    (void)state;
    memset(&late, 0, sizeof(late));
    assert_int_equal(pthread_create(&thread, NULL, receive_slowly, &rc), 0);
    while (noria_load_acquire32(&late.in_its_last_turn) == 0)
        sched_yield();
    noria_store_release32(&late.closing, 1);
    noria_channel_shut(&fake.channel);
    noria_channel_drain(&fake.channel);
    noria_store_release32(&late.closed, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, -ECANCELED);
    assert_int_equal(late.closed_under_it, 0);
}

/* --------------------------------------------------------------------------------------------------- fork */

/* Runs `body` in a forked child and returns its exit status. */
static int in_child(int (*body)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        is_child = 1;
        exit(body());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int child_is_refused(void)
{
    fake.succeed_at = 1;
    if (receive(0) != -ESTALE || receive(-1) != -ESTALE || fake.tries != 0)
        return 1;
    /* A handle of its own is not stale, not even in a child of the child that opened nothing. */
    if (noria_process_prepare() != 0)
        return 2;
    if (receive(0) != -ESTALE)
        return 3;
    reset(false);
    fake.succeed_at = 1;
    return receive(0) == 7 ? 0 : 4;
}

static int grandchild_is_refused(void)
{
    if (noria_process_prepare() != 0)
        return 10;
    reset(false); /* the child's own */
    return in_child(child_is_refused);
}

static void inherited_handles_are_stale(void **state)
{
    /* Claim: in a child, and in its child, calls on inherited handles are -ESTALE and reach no verb; own ones
     * work. */
    (void)state;
    assert_int_equal(in_child(child_is_refused), 0);
    assert_int_equal(in_child(grandchild_is_refused), 0);
    fake.succeed_at = 1;
    assert_int_equal(receive(0), 7);
}

static int guarded, plain;
static struct noria_fork_guard guard;

/* In the child a guarded descriptor is a description of its own: the parent's lock on it is
 * somebody else's. */
static int child_has_its_own(void)
{
    if (noria_lock_held(guarded, 5) != 1 || noria_lock_try(guarded, 5) != -EAGAIN)
        return 1;
    if ((fcntl(guarded, F_GETFD) & FD_CLOEXEC) == 0)
        return 2;
    return noria_lock_try(plain, 6) == 0 ? 0 : 3; /* inherited as it is */
}

static int child_has_the_parents(void)
{
    return noria_lock_try(guarded, 5) == 0 ? 0 : 1;
}

static void guarded_descriptions_are_not_inherited(void **state)
{
    /* Claim: a child does not hold the locks of guarded descriptors; once the guard is removed it would. */
    (void)state;
    guarded = memfd_create("guarded", MFD_CLOEXEC);
    plain = memfd_create("plain", MFD_CLOEXEC);
    assert_int_equal(noria_lock_try(guarded, 5), 0);
    assert_int_equal(noria_lock_try(plain, 6), 0);
    noria_fork_guard_add(&guard, guarded);
    assert_int_equal(in_child(child_has_its_own), 0);
    assert_int_equal(in_child(child_has_its_own), 0);
    noria_fork_guard_remove(&guard);
    assert_int_equal(in_child(child_has_the_parents), 0);
    close(guarded);
    close(plain);
}

static struct stat guarded_file;

/* Without a descriptor to spare the child cannot reopen: then it must not hold the parent's lock either, and
 * the number must not come to name something else. */
static int child_without_descriptors(void)
{
    int next = dup(plain);
    struct rlimit limit;
    struct stat now;

    if (next == guarded)
        return 1;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max; /* the end of the process may need some */
    setrlimit(RLIMIT_NOFILE, &limit);
    return fstat(guarded, &now) == 0 && now.st_ino == guarded_file.st_ino && noria_lock_try(guarded, 5) == 0
               ? 2
               : 0;
}

static void children_without_descriptors_hold_nothing(void **state)
{
    /* Claim: if a child cannot reopen a guarded descriptor, it loses the lock all the same, and no file of
     * its own gets the number by which the inherited handle would close it. */
    struct rlimit old, none;

    (void)state;
    guarded = memfd_create("guarded", MFD_CLOEXEC);
    plain = memfd_create("plain", MFD_CLOEXEC);
    assert_int_equal(noria_lock_try(guarded, 5), 0);
    assert_int_equal(fstat(guarded, &guarded_file), 0);
    noria_fork_guard_add(&guard, guarded);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)plain + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(in_child(child_without_descriptors), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    noria_fork_guard_remove(&guard);
    close(guarded);
    close(plain);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(success_costs_one_try),
        TEST(errors_end_the_call),
        TEST(timeout_0_never_sleeps),
        TEST(what_was_mended_is_tried_again),
        TEST(end_needs_a_last_look),
        TEST(full_may_mean_fail),
        TEST(senders_may_look_first),
        TEST(deadlines_are_kept),
        TEST(long_spins_look_at_the_clock),
        TEST(sleeper_sees_success_later),
        TEST(spinning_adapts),
        TEST(signals_do_not_shorten_a_wait),
        TEST(one_caller_per_side),
        TEST(shut_handles_are_cancelled),
        TEST(arming_looks_for_the_end_of_the_stream),
        TEST(shut_calls_do_not_go_to_sleep),
        TEST(what_may_be_dropped_is),
        TEST(lanes_are_marked_and_left),
        TEST(draining_waits_for_every_call),
        TEST(draining_waits_for_who_comes_back),
        TEST(inherited_handles_are_stale),
        TEST(guarded_descriptions_are_not_inherited),
        TEST(children_without_descriptors_hold_nothing),
    };
#undef TEST
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
