/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a peer that truncates a segment, to any size and at any moment of opening, sending, receiving, waiting and
 * closing, ends no guarded process: calls are -EIO or another error code, and the next channel works. Without the guard
 * the same is a signal, so that the test can fail.
 */
#define KINDS_TO_TEST {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "file"}
#include "variants_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "peers.h"
#include "shapes.h"

static void count(int place)
{
    __atomic_fetch_add(&peers->numbers[place], 1, __ATOMIC_RELAXED);
}

/* What one call came to: 0 done, or a failure that may be. */
static void note(ssize_t rc)
{
    if (rc == -EIO)
        count(1);
    count(0);
}

/* Opens, talks to itself, waits in vain, closes. */
static void live_once(void)
{
    static uint8_t bytes[2000];
    noria_channel *tx = NULL, *rx = NULL;
    struct noria_stat stat = {0};
    struct noria_span span;
    int rc = noria_open(&tx, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);

    note(rc);
    if (rc == 0)
        note(noria_open(&rx, ch.address, NORIA_RECV, &ch.options));
    for (int i = 0; i < 8 && rx != NULL; i++) {
        note(noria_send(tx, bytes, 1 + (size_t)i * 100, i % 8 == 0 ? MS : 0));
        if (noria_reserve(tx, 2000, &span, 0) == 0) {
            memset(span.data, i, 2000);
            note(noria_commit(tx, &span, 100, 0));
        }
        if (noria_peek(rx, &span, 0, NULL) == 0) {
            memcpy(bytes, span.data, span.len);
            note(noria_release(rx, &span));
        }
        note(noria_recv(rx, bytes, 2000, i % 4 == 0 ? MS : 0, NULL));
        note(noria_stat(rx, &stat));
    }
    if (rx != NULL)
        noria_close(rx);
    if (tx != NULL)
        noria_close(tx);
    count(2);
}

static void live_for_ever(void)
{
    for (;;)
        live_once();
}

/* Some calls later, and somewhere in one. */
static void await_random_moment(uint64_t *random)
{
    int64_t enough;

    *random = *random * 6364136223846793005u + 1442695040888963407u;
    enough = __atomic_load_n(&peers->numbers[0], __ATOMIC_RELAXED) + (int64_t)(*random >> 58);
    while (__atomic_load_n(&peers->numbers[0], __ATOMIC_RELAXED) < enough)
        sched_yield();
    for (uint64_t spin = (*random >> 40) & 0x3fff; spin > 0; spin--)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* 0, or a page of it, or nearly all of it. A memfd refuses. */
static void truncate_somewhere(uint64_t random)
{
    struct stat status;

    if (stat(ch.path, &status) == 0)
        (void)!truncate(ch.path, (off_t)((uint64_t)status.st_size * (random >> 62) / 4));
}

static int64_t losses(void)
{
    return __atomic_load_n(&peers->numbers[1], __ATOMIC_RELAXED);
}

/* Truncates again and again, until some of it came in the middle of a call; *signal: by which the victim ended. How many
 * rounds it survived. */
static int attack(const struct shape *shape, int least, int *signal)
{
    int64_t lost_before = losses();
    int rounds = least;
    uint64_t random = 1 + (uint64_t)(shape - shapes);
    int survived = 0, status;
    pid_t peer;

    take_shape(shape, &ch.options);
    ch.options.max_message = 2000;
    ch.options.recheck_ns = MS;
    ch.options.guard = 1;
    peer = start_peer(live_for_ever);
    while (survived < rounds && waitpid(peer, &status, WNOHANG) == 0) {
        int64_t lives = __atomic_load_n(&peers->numbers[2], __ATOMIC_RELAXED), now = now_ns();
        await_random_moment(&random);
        truncate_somewhere(random);
        while (__atomic_load_n(&peers->numbers[2], __ATOMIC_RELAXED) < lives + 2) {
            if (now_ns() - now > 60 * SECOND)
                fail_msg("%s: hangs after %d truncations", shape->name, survived);
            sched_yield();
        }
        noria_unlink(ch.address); /* or it goes on with what the next creation makes of it */
        unlink(ch.path);
        survived++;
        rounds += survived == rounds && rounds < 100 * least && losses() < lost_before + 2;
    }
    if (survived < rounds) {
        *signal = WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
        return survived;
    }
    *signal = 0;
    kill_peer(peer);
    return survived;
}

static void nobody_dies(void **state)
{
    /* Claim: see above, for every kind of channel. */
    int rounds = getenv("NORIA_LONG") != NULL ? 100 : 10, signal;

    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        int survived = attack(&shapes[i], rounds, &signal);
        if (signal != 0)
            fail_msg("%s: ended by %d after %d truncations", shapes[i].name, signal, survived);
    }
    print_message("%lld calls, %lld of them -EIO\n", (long long)peers->numbers[0], (long long)peers->numbers[1]);
    assert_true(losses() >= 2 * SHAPES); /* it was in time */
}

/* Not one of this process' children, which the test would miss. */
static void unguarded(void)
{
    noria_channel *channel = NULL;

    signal(SIGBUS, SIG_DFL); /* the test's framework has one of its own */
    ch.options.guard = 0;
    PEER_REQUIRES(noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options) == 0);
    say();
    await_order();
    noria_send(channel, "x", 1, 0);
}

static void without_the_guard_it_is_a_signal(void **state)
{
    /* Claim: what the guard is for. */
    siginfo_t end;
    pid_t peer;

    (void)state;
    take_shape(&shapes[1], &ch.options);
    peer = start_peer(unguarded);
    await_peer();
    assert_int_equal(truncate(ch.path, 0), 0);
    tell_peer();
    assert_int_equal(waitid(P_PID, (id_t)peer, &end, WEXITED | WNOWAIT), 0);
    assert_true(end.si_code != CLD_EXITED || end.si_status != 0); /* a sanitizer turns the signal into a status */
    kill_peer(peer); /* which reaps it */
}

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

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(nobody_dies),
        EVERYWHERE(without_the_guard_it_is_a_signal),
    };

    return run_variants_with("truncate", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
