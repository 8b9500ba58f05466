/* SPDX-License-Identifier: BSD-2-Clause */
#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "atomic.h"
#include "detail.h"

enum { MOST_GUARDED = 4096 };

/* What the handler looks through. A place is written under the lock, `size` last, and 0 while it is free. The
 * handler runs in a thread that just touches the range, so that one is not removed meanwhile. */
static struct place {
    uint64_t start, size;
    struct noria_guard *guard;
} places[MOST_GUARDED];
static uint32_t used; /* no place beyond was ever used */
static uint32_t guarded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Puts zeros in place of the whole range: of a file that shrank once no page can be trusted to stay. */
static bool replace(const struct place *place, uint64_t size)
{
    return mmap((void *)(uintptr_t)place->start, (size_t)size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static void tell(struct noria_guard *guard)
{
    uint64_t state;

    noria_store_release32(&guard->lost, 1);
    state = noria_load_acquire64(&guard->state); /* pairs with noria_guard_tell: `verdict` */
    if (state != 0)
        noria_store_release32((uint32_t *)(uintptr_t)state, guard->verdict);
}

/* Whether a place in use has the address: its size, or 0. */
static uint64_t covers(const struct place *place, uint64_t address)
{
    uint64_t size = noria_load_acquire64(&place->size); /* pairs with noria_guard_add */

    return size != 0 && address >= place->start && address - place->start < size ? size : 0;
}

/* Several handles may lie in one memory: all of them have lost it. */
static bool mend(uint64_t address)
{
    uint32_t most = noria_load_acquire32(&used);
    bool mended = false;

    for (uint32_t i = 0; i < most; i++) {
        uint64_t size = covers(&places[i], address);
        if (size == 0 || (!mended && !replace(&places[i], size)))
            continue;
        mended = true;
        tell(places[i].guard);
    }
    return mended;
}

/* ------------------------------------------------------------------------------------------------------- the handler */

/*
 * A handler of the program that was installed over ours calls ours for what it does not know. When the last guard goes,
 * ours cannot be taken back then: it is left in that chain. Were the same function put on top of the chain with the next
 * guard, it would come round to itself. So each time it is another function, with a predecessor of its own, of as many as
 * there are here; after that one of those in the chain has to do.
 */
enum { HANDLERS = 8 };
static struct predecessor {
    struct sigaction action;
    bool left; /* in somebody's chain, for all we know */
} predecessors[HANDLERS];
static int current; /* the one that was installed last */

/* What the program had in mind for SIGBUS before. */
static void pass_on(const struct sigaction *before, int number, siginfo_t *info, void *context)
{
    if ((before->sa_flags & SA_SIGINFO) != 0) {
        before->sa_sigaction(number, info, context);
        return;
    }
    if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(number);
        return;
    }
    if (before->sa_handler == SIG_IGN && info->si_code <= 0)
        return; /* sent by somebody */
    /* The kernel ignores no fault either: the instruction is run again and ends the process as if we were not there. */
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    if (info->si_code <= 0) /* sent by somebody, so nothing would be run again */
        raise(SIGBUS);
}

static void on_sigbus(const struct predecessor *before, int number, siginfo_t *info, void *context)
{
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    int error = errno;
    /* A fault, and not what a process sent with an address of its choice. */
    bool mended = info->si_code > 0 && mend(address);

    errno = error;
    if (!mended)
        pass_on(&before->action, number, info, context);
}

#define HANDLER(n) \
    static void on_sigbus_##n(int number, siginfo_t *info, void *context) \
    { \
        on_sigbus(&predecessors[n], number, info, context); \
    }
HANDLER(0)
HANDLER(1)
HANDLER(2)
HANDLER(3)
HANDLER(4)
HANDLER(5)
HANDLER(6)
HANDLER(7)
static void (*const handlers[HANDLERS])(int, siginfo_t *, void *) = {
    on_sigbus_0, on_sigbus_1, on_sigbus_2, on_sigbus_3, on_sigbus_4, on_sigbus_5, on_sigbus_6, on_sigbus_7};

/* Which of ours it is; HANDLERS: none. */
static int which(const struct sigaction *action)
{
    int i = 0;

    while (i < HANDLERS && ((action->sa_flags & SA_SIGINFO) == 0 || action->sa_sigaction != handlers[i]))
        i++;
    return i;
}

/* With the lock held. The stack may be a thread's small one: an alternative one is used if there is. */
static int install(void)
{
    struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
    int fresh = 0;

    if (guarded != 0)
        return 0;
    if (sigaction(SIGBUS, NULL, &now) == 0 && which(&now) != HANDLERS) {
        current = which(&now); /* put back by who had been installed over it */
        return 0;
    }
    while (fresh < HANDLERS && predecessors[fresh].left)
        fresh++;
    if (fresh == HANDLERS && (now.sa_flags & SA_SIGINFO) == 0 && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN))
        fresh = 0; /* what has no handler leads back to none of ours */
    if (fresh == HANDLERS)
        return 0; /* whoever is on top leads to one of ours, through those that were put over it */
    predecessors[fresh].action = now; /* before anybody can come there */
    ours.sa_sigaction = handlers[fresh];
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, NULL) == 0) {
        current = fresh;
        return 0;
    }
    return noria_fail(-errno, "cannot guard the segment: no handler for SIGBUS: %s", noria_error_words(errno));
}

/* Takes ours back if it is on top. Otherwise whichever was there last is left where it is. */
static void uninstall(void)
{
    struct sigaction now;
    int ours;

    if (guarded != 0 || sigaction(SIGBUS, NULL, &now) != 0)
        return;
    ours = which(&now);
    if (ours != HANDLERS && sigaction(SIGBUS, &predecessors[ours].action, NULL) == 0)
        predecessors[ours].left = false;
    else
        predecessors[current].left = true;
}

/* A child forked while another thread is in here finds the lock free and the table whole. */
static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

static uint32_t find_place(void)
{
    uint32_t i = 0;

    while (i < MOST_GUARDED && places[i].size != 0)
        i++;
    return i;
}

int noria_guard_add(struct noria_guard *guard, void *start, size_t size)
{
    static pthread_once_t watched = PTHREAD_ONCE_INIT;
    uint32_t i;
    int rc;

    pthread_once(&watched, watch_forks);
    pthread_mutex_lock(&lock);
    i = find_place();
    rc = i == MOST_GUARDED ? noria_fail(-EMFILE, "%d segments are guarded already, and no more can be", MOST_GUARDED)
                           : install();
    if (rc == 0) {
        *guard = (struct noria_guard){.place = i + 1};
        places[i].start = (uint64_t)(uintptr_t)start;
        places[i].guard = guard;
        noria_store_release64(&places[i].size, size);
        if (i >= used)
            noria_store_release32(&used, i + 1);
        guarded++;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void noria_guard_remove(struct noria_guard *guard)
{
    if (guard->place == 0)
        return;
    pthread_mutex_lock(&lock);
    noria_store_release64(&places[guard->place - 1].size, 0);
    guard->place = 0;
    guarded--;
    uninstall();
    pthread_mutex_unlock(&lock);
}

void noria_guard_tell(struct noria_guard *guard, uint32_t *state, uint32_t verdict)
{
    guard->verdict = verdict;
    noria_store_release64(&guard->state, (uint64_t)(uintptr_t)state);
    if (noria_load_acquire32(&guard->lost) != 0) /* it was lost before */
        noria_store_release32(state, verdict);
}
