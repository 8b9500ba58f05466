/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Robust process-shared mutex and condition variable: the textbook way to wait, and POSIX alone.
 *
 * One condition variable for all who wait would be a trap: in glibc before 2.41 signal and broadcast block
 * for ever behind a waiter that was killed (mutex_test.c keeps the proof). So each participant has a pair of
 * its own per side, and is the only one who ever waits there, with one thread at a time. Wakers go round the
 * pairs and try, never lock.
 *
 *     struct pair          turn   mutex: who may signal now. Wakers only try it; the waiter takes it to arm
 *                          mutex  the waiter's; held from arming until it is on the condition variable
 *                          cond   CLOCK_MONOTONIC
 *
 *     waiter                                  waker
 *     turn: nobody is inside the cond         count 1 on the side's ring count, which is the level
 *     mutex; armed = 1; release turn          fence                                            (F)
 *     fence                            (F)    armed? no: next pair
 *     count and event word unchanged?         try turn: busy means that somebody else sees to it
 *     wait (releases mutex)                   try mutex: had it, so the waiter is on the cond
 *     armed = 0; release mutex                armed = 0; release mutex; broadcast; release turn
 *
 *   F with F: either the waiter sees the count or the waker sees armed.
 *   Only with turn does armed go from 0 to 1, or does anybody broadcast. So there are never two broadcasts at
 *   once, nor one whose target has waited before and has not yet left: these two would block. The third is a
 *   waiter stopped or killed while it cancels its wait after a time-out, with the variable's internal lock:
 *   so nobody rings a waiter within DARK_NS of its deadline; it comes by itself.
 *
 * Cost: one load per participant and ring; a wake is two uncontended robust mutexes and one system call.
 *
 * What it survives, and what not (mutex_test.c kills and stops at every instruction):
 *   - A ring returns in bounded time whoever is stopped or killed wherever. (Except that a waker loses the
 *     processor for DARK_NS just before its broadcast, and in the same moment the waiter is stopped or killed
 *     in its few instructions of cancelling.)
 *   - Waker or waiter killed with a mutex: EOWNERDEAD, made consistent by the next one. If it was `turn` the
 *     variable cannot be trusted: it is marked broken, and its waiter makes it anew before it waits again.
 *   - A pair that cannot be had (a stopped waker is inside): its waiter sleeps NAP_NS at a time instead.
 *   - A waiter stopped between arming and waiting, or without its processor there for long: rings give up on
 *     it. So no wait at the pair lasts longer than LONGEST_NS, whatever the channel's own re-check.
 *   - NOT: a waker killed or stopped inside pthread_cond_broadcast while it has the internal lock (some 80
 *     instructions, no system call): the waiter sticks at its next time-out, because cancelling takes that
 *     lock. No timed wait of glibc can do without, and the stuck thread cannot help itself. All others can: a
 *     ring, a participant that comes, and each sleeper whose wait runs out look for overdue waiters and open
 *     the lock. So it lasts until one of these comes by.
 *   - NOT: a waker stopped while it has `mutex` (some 90 instructions, no system call) keeps the waiter until
 *     it goes on or is killed; nobody can mend this.
 *   - A signal handler does not end the sleep, so there is no -EINTR but from a nap.
 *   - Tampering: these objects hold pointers. Only for channels whose participants trust each other.
 *
 * ring() is not async-signal-safe.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "nap.h"
#include "strategy.h"

/* One wait at the pair: a ring may have given up on a waiter that lost the processor. (A test that is to see rings alone
 * makes it longer.) */
#ifndef LONGEST_NS
#define LONGEST_NS INT64_C(50000000)
#endif

enum {
    NAP_NS = 1000000,      /* between looks while the pair cannot be used */
    DARK_NS = 200000,      /* before its deadline nobody rings a waiter */
    OVERDUE_NS = 10000000, /* so long after its deadline a waiter is taken to be stuck */
    PAUSES = 100,          /* tries before giving up a mutex that is held for some hundred instructions */
    YIELDS = 50,
    ANNOUNCE_TRIES = 0x10000,
    PAIR_BYTES = 2 * NORIA_LINE_PAIR
};

/* One participant and side. In the segment. */
struct pair {
    union {
        struct {
            uint32_t armed;    /* a waiter wants a broadcast; 1 with turn and mutex, 0 with mutex */
            uint32_t broken;   /* cond may be anything: nobody but its waiter, with turn, may touch it */
            uint32_t ready;    /* made for objects of these sizes (READY) */
            uint32_t given_up; /* a waker has tried mutex long enough for this wait */
            uint64_t until_ns; /* the waiter's deadline while it waits, else 0 */
            pthread_mutex_t turn;
            pthread_mutex_t mutex;
            pthread_cond_t cond;
        };
        uint8_t lines[PAIR_BYTES];
    };
};
NORIA_STATIC_ASSERT(sizeof(struct pair) == PAIR_BYTES, "grow PAIR_BYTES, by line pairs");

/* Two builds that share a segment must mean the same by a mutex. */
#define READY                                                                                        \
    (UINT32_C(0x6d000000) | (uint32_t)sizeof(pthread_mutex_t) << 12 | (uint32_t)sizeof(pthread_cond_t))

/* What the side's words are used for. */
enum { RINGS, HIGHEST_NUMBER };

/* In this process: one thread at a time waits at the pair, the others wait here until it leaves. */
struct shelter {
    pthread_mutex_t mutex;
    pthread_cond_t left;
    bool taken;
};

static struct pair *pair_of(const struct noria_bell_place *place, uint32_t number, unsigned side)
{
    return (struct pair *)place->memory + (size_t)(number - 1) * 2 + side;
}

/* ------------------------------------------------------------------------------------------- mutexes */

/* Tries for a while, never blocks. 0, EOWNERDEAD (had, made consistent), or why not. */
static int take(pthread_mutex_t *mutex, int pauses, int yields)
{
    int rc = pthread_mutex_trylock(mutex);

    for (int i = 0; rc == EBUSY && i < pauses + yields; i++) {
        if (i < pauses)
            noria_pause();
        else
            sched_yield();
        rc = pthread_mutex_trylock(mutex);
    }
    if (rc == EOWNERDEAD)
        pthread_mutex_consistent(mutex);
    return rc;
}

static int make_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    int rc = pthread_mutexattr_init(&attributes);

    if (rc != 0)
        return rc;
    rc = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (rc == 0)
        rc = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (rc == 0)
        rc = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return rc;
}

static int make_cond(pthread_cond_t *cond, int shared)
{
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);

    if (rc != 0)
        return rc;
    rc = pthread_condattr_setpshared(&attributes, shared);
    if (rc == 0)
        rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return rc;
}

/* -------------------------------------------------------------------------------------------- repair */

/* The caller has turn and nobody waits there: neither a waker nor a waiter is inside. */
static bool renew(struct pair *pair)
{
    int rc = take(&pair->mutex, PAUSES, YIELDS);

    if (rc == EBUSY)
        return false;
    if (rc == 0 || rc == EOWNERDEAD)
        pthread_mutex_unlock(&pair->mutex);
    else if (make_mutex(&pair->mutex) != 0) /* not recoverable */
        return false;
    if (make_cond(&pair->cond, PTHREAD_PROCESS_SHARED) != 0)
        return false;
    noria_store_relaxed32(&pair->broken, 0); /* relaxed, like all of these: turn orders them */
    return true;
}

/*
 * Opens the internal lock of a condition variable that a dead or stopped waker has left locked, so that its
 * waiter comes out. Whatever state it is in then, only the waiter will touch it again, to make it anew. A
 * lock that is free may still have the waiter asleep on it: its holder died between release and wake.
 */
static void open_internal_lock(struct pair *pair)
{
#ifdef __GLIBC__
    uint32_t *lock = &pair->cond.__data.__g1_orig_size; /* its two low bits, in all versions since 2.25 */

    if ((noria_load_acquire32(lock) & 3) != 0) {
        noria_store_release32(&pair->broken, 1);
        noria_and_acq_rel32(lock, ~UINT32_C(3));
    }
    syscall(SYS_futex, lock, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#else
    (void)pair;
#endif
}

static void help_if_stuck(struct pair *pair)
{
    uint64_t until = noria_load_relaxed64(&pair->until_ns); /* a hint: at worst it is made anew in vain */

    if (until != 0 && (uint64_t)noria_now_ns() > until && (uint64_t)noria_now_ns() - until > OVERDUE_NS)
        open_internal_lock(pair);
}

static uint32_t count_numbers(const struct noria_bell_place *place, unsigned side)
{
    uint32_t highest = noria_load_acquire32(&place->words[side][HIGHEST_NUMBER]);

    return highest < place->participants ? highest : place->participants;
}

static void help_all(const struct noria_bell_place *place)
{
    for (unsigned side = 0; side < 2; side++)
        for (uint32_t number = 1; number <= count_numbers(place, side); number++)
            help_if_stuck(pair_of(place, number, side));
}

/* ---------------------------------------------------------------------------------------------- wait */

static bool has_rung(struct noria_bell *bell, uint32_t expected)
{
    uint32_t rings = noria_load_acquire32(&bell->place->words[bell->side][RINGS]);

    return rings != noria_load_relaxed32(&bell->state) || noria_load_acquire32(bell->word) != expected;
}

/* Leaves with the mutex, armed; false: the pair cannot be used now. */
static bool arm(struct pair *pair, int64_t until_ns)
{
    int rc = take(&pair->turn, PAUSES, YIELDS);
    bool armed = false;

    if (rc == EOWNERDEAD)
        noria_store_relaxed32(&pair->broken, 1);
    else if (rc != 0)
        return false;
    if (noria_load_acquire32(&pair->broken) == 0 || renew(pair)) {
        rc = take(&pair->mutex, PAUSES, YIELDS);
        armed = rc == 0 || rc == EOWNERDEAD; /* without turn nobody waits or signals: no harm done */
    }
    if (armed) {
        noria_store_relaxed32(&pair->given_up, 0);
        noria_store_relaxed64(&pair->until_ns, (uint64_t)until_ns);
        noria_store_relaxed32(&pair->armed, 1);
    }
    pthread_mutex_unlock(&pair->turn);
    return armed;
}

static void disarm(struct pair *pair)
{
    noria_store_relaxed32(&pair->armed, 0);
    noria_store_relaxed64(&pair->until_ns, 0);
}

static int nap(int64_t until_ns)
{
    int64_t end_ns = noria_now_ns() + NAP_NS;

    return noria_nap(end_ns < until_ns ? end_ns : until_ns);
}

static int wait_at_pair(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    struct pair *pair = pair_of(bell->place, bell->place->number, bell->side);
    struct timespec until = noria_timespec_of(until_ns);
    int rc = 0;

    if (noria_load_relaxed32(&pair->ready) != READY || !arm(pair, until_ns))
        return nap(until_ns);
    noria_fence_seq_cst(); /* F */
    if (!has_rung(bell, expected))
        rc = pthread_cond_timedwait(&pair->cond, &pair->mutex, &until);
    if (rc == EOWNERDEAD) /* a waker has died while it had the mutex, so not in the variable */
        pthread_mutex_consistent(&pair->mutex);
    disarm(pair);
    if (rc == 0 || rc == ETIMEDOUT || rc == EOWNERDEAD)
        pthread_mutex_unlock(&pair->mutex);
    else
        noria_store_release32(&pair->broken, 1);
    if (rc == ETIMEDOUT)
        help_all(bell->place);
    return 0;
}

/* Whether the caller is to wait at the pair; if not, somebody has been there in its place. */
static bool enter(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    struct shelter *shelter = bell->object;
    struct timespec until = noria_timespec_of(until_ns);
    bool first;

    pthread_mutex_lock(&shelter->mutex);
    first = !shelter->taken;
    shelter->taken = true;
    if (!first && !has_rung(bell, expected))
        pthread_cond_timedwait(&shelter->left, &shelter->mutex, &until);
    pthread_mutex_unlock(&shelter->mutex);
    return first;
}

static void leave(struct noria_bell *bell)
{
    struct shelter *shelter = bell->object;

    pthread_mutex_lock(&shelter->mutex);
    shelter->taken = false;
    pthread_cond_broadcast(&shelter->left); /* only threads of this process: none dies alone */
    pthread_mutex_unlock(&shelter->mutex);
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    int64_t longest_ns = noria_now_ns() + LONGEST_NS;
    int rc = 0, cancelling;

    if (has_rung(bell, expected))
        return 0;
    if (until_ns > longest_ns)
        until_ns = longest_ns;
    /* A cancelled thread would take the pair with it. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling);
    if (enter(bell, expected, until_ns)) {
        rc = wait_at_pair(bell, expected, until_ns);
        leave(bell);
    }
    pthread_setcancelstate(cancelling, NULL);
    return rc;
}

static bool quiet(struct noria_bell *bell)
{
    uint32_t rings = noria_load_acquire32(&bell->place->words[bell->side][RINGS]);

    return noria_exchange_acquire32(&bell->state, rings) != rings;
}

/* ---------------------------------------------------------------------------------------------- ring */

/* Whether the waiter is on the condition variable and wants a broadcast, which is up to the caller then. */
static bool disarm_waiter(struct pair *pair)
{
    bool patient = noria_load_relaxed32(&pair->given_up) == 0; /* relaxed: saves time, nothing else */
    int rc = take(&pair->mutex, patient ? PAUSES : 0, patient ? YIELDS : 0);
    uint64_t until;
    uint32_t armed;

    if (rc != 0 && rc != EOWNERDEAD) {
        noria_store_relaxed32(&pair->given_up, 1);
        return false;
    }
    /* From here to the unlock the waiter depends on us, so nothing else is done. */
    armed = noria_load_relaxed32(&pair->armed);
    until = noria_load_relaxed64(&pair->until_ns);
    noria_store_relaxed32(&pair->armed, 0);
    pthread_mutex_unlock(&pair->mutex);
    return armed != 0 && until > (uint64_t)noria_now_ns() + DARK_NS;
}

static void ring_pair(struct pair *pair)
{
    int rc = take(&pair->turn, 0, 0);

    if (rc != 0 && rc != EOWNERDEAD)
        return; /* another waker, or the waiter, which will look at the count */
    if (rc == EOWNERDEAD) {
        noria_store_release32(&pair->broken, 1);
        open_internal_lock(pair);
    }
    if (noria_load_acquire32(&pair->broken) == 0 && disarm_waiter(pair))
        pthread_cond_broadcast(&pair->cond);
    pthread_mutex_unlock(&pair->turn);
}

static void ring(struct noria_bell *bell)
{
    struct noria_bell_place *place = bell->place;

    noria_fence_seq_cst(); /* who takes the ring back sees what it is about */
    noria_add_relaxed32(&place->words[bell->side][RINGS], 1);
    noria_fence_seq_cst(); /* F */
    for (uint32_t number = 1; number <= count_numbers(place, bell->side); number++) {
        struct pair *pair = pair_of(place, number, bell->side);

        if (noria_load_relaxed64(&pair->until_ns) == 0)
            continue;
        if (noria_load_relaxed32(&pair->armed) != 0 && noria_load_acquire32(&pair->ready) == READY)
            ring_pair(pair);
        help_if_stuck(pair);
    }
}

/* ---------------------------------------------------------------------------------------- open, close */

static size_t footprint(uint32_t participants)
{
    return (size_t)participants * 2 * sizeof(struct pair);
}

static int make_pair(struct pair *pair)
{
    int rc;

    noria_store_relaxed32(&pair->armed, 0);
    noria_store_relaxed64(&pair->until_ns, 0);
    rc = make_mutex(&pair->turn);
    if (rc == 0)
        rc = make_mutex(&pair->mutex);
    if (rc == 0)
        rc = make_cond(&pair->cond, PTHREAD_PROCESS_SHARED);
    if (rc == 0)
        noria_store_release32(&pair->ready, READY);
    return rc;
}

/* After the participant that had it before. A stopped waker may be inside: then it stays broken for now. */
static void inherit_pair(struct pair *pair)
{
    int rc;

    noria_store_release32(&pair->broken, 1);
    rc = take(&pair->turn, PAUSES, YIELDS);
    if (rc != 0 && rc != EOWNERDEAD)
        return;
    disarm(pair);
    renew(pair);
    pthread_mutex_unlock(&pair->turn);
}

static void announce(uint32_t *highest, uint32_t number)
{
    uint32_t seen = noria_load_relaxed32(highest); /* relaxed: the exchange decides */

    /* Each time it is lost another participant has come, unless somebody plays with the word. */
    for (uint32_t tries = 0; seen < number && tries < ANNOUNCE_TRIES; tries++)
        if (noria_cas_acq_rel32(highest, &seen, number))
            return;
}

static struct shelter *make_shelter(void)
{
    struct shelter *shelter = calloc(1, sizeof(*shelter));

    if (shelter == NULL)
        return NULL;
    if (pthread_mutex_init(&shelter->mutex, NULL) != 0 ||
        make_cond(&shelter->left, PTHREAD_PROCESS_PRIVATE) != 0) {
        free(shelter);
        return NULL;
    }
    return shelter;
}

static int open_bell(struct noria_bell *bell)
{
    struct noria_bell_place *place = bell->place;
    struct pair *pair = pair_of(place, place->number, bell->side);
    int rc = 0;

    if (noria_load_acquire32(&pair->ready) == READY)
        inherit_pair(pair);
    else
        rc = make_pair(pair);
    if (rc != 0)
        return noria_fail(-rc, "this system cannot make a robust process-shared mutex; create the channel "
                               "with another way to wait, for instance futex");
    bell->object = make_shelter();
    if (bell->object == NULL)
        return noria_fail(-ENOMEM, "no memory for waiting; free some and open again");
    bell->state = noria_load_acquire32(&place->words[bell->side][RINGS]);
    announce(&place->words[bell->side][HIGHEST_NUMBER], place->number);
    help_all(place);
    return 0;
}

static void close_bell(struct noria_bell *bell)
{
    struct shelter *shelter = bell->object;

    if (shelter == NULL)
        return;
    free(shelter); /* not destroyed before: in a forked child that would wait for the parent's waiters, for ever */
    bell->object = NULL;
}

const struct noria_strategy noria_strategy_mutex = {
    .name = "mutex",
    .sleeps = true,
    .trusting = true,
    .footprint = footprint,
    .open = open_bell,
    .close = close_bell,
    .ring = ring,
    .quiet = quiet,
    .wait = wait_at,
};
