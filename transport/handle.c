/* SPDX-License-Identifier: BSD-2-Clause */
/* The common life of handles: calls in progress, shutdown, fork. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "barrier.h"
#include "detail.h"
#include "liveness.h"
#include "nap.h"
#include "section.h"

/* 2 ms each; a second altogether. */
enum { SHUT_RINGS = 100, SHUT_NAPS = 500 };
enum { MOST_SPINS = 1000 };

static const uint64_t no_page; /* before the first open: equal to no handle's stamp, for those are never 0 */
const uint64_t *noria_fork_page = &no_page;

int noria_enter(noria_channel *channel)
{
    return noria_section_enter(channel);
}

ssize_t noria_call_judge(noria_channel *channel, ssize_t rc)
{
    uint32_t open = NORIA_HANDLE_OPEN;

    if (noria_load_acquire32(&channel->state) == NORIA_HANDLE_LOST) /* pairs with the guard's handler */
        return -EIO;
    if (rc == -EBADMSG && channel->distrusts != 0)
        noria_cas_acq_rel32(&channel->state, &open, NORIA_HANDLE_CORRUPT);
    return rc;
}

/* -EAGAIN and -ETIMEDOUT come often and are cheap; a receiver's -EMSGSIZE was explained where both lengths were known, and
 * -ENOTSUP where it was found; whoever asks the system says of its answer what it was about. */
void noria_call_explain(const noria_channel *channel, ssize_t rc)
{
    if (rc == -EMSGSIZE || rc == -ENOTSUP)
        return;
    switch (channel->asks_system ? -rc : 0) {
    case EBADMSG: case EIO: case ENOMEM: case ENOENT: case EACCES: case EPERM: case ENOSPC: case EMFILE: case ENFILE: case EBADF:
    case ENOTCONN: case ETOOMANYREFS:
        return;
    default:
        noria_fail_plain((int)rc);
    }
}

void noria_leave(void)
{
    noria_section_leave();
}

void noria_rejoin(void)
{
    urcu_bp_read_lock();
}

void noria_step_out(noria_channel *channel)
{
    /* In the section: close, which waits for sections, finds the count changed after that. */
    noria_add_relaxed64(&channel->waiting, (UINT64_C(1) << 32) + 1);
    noria_leave();
}

void noria_step_in(noria_channel *channel)
{
    noria_rejoin();
    noria_sub_release64(&channel->waiting, 1); /* pairs with noria_calls_waiting */
}

/* ----------------------------------------------------------------------------------------------------------- fork */

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static struct noria_fork_guard guards = {&guards, &guards, -1, false};
static bool hooks_installed;

static void before_fork(void)
{
    pthread_mutex_lock(&process_lock);
    urcu_bp_before_fork();
}

static void after_fork_in_parent(void)
{
    urcu_bp_after_fork_parent();
    pthread_mutex_unlock(&process_lock);
}

/* Replaces a shared description by one of the child's own, or of nothing; only calls that are safe right after fork. */
static void unshare_description(int fd, bool drop)
{
    int own = drop ? -1 : noria_lock_own_description(fd);

    if (own < 0) { /* rather a descriptor of nothing than the parent's locks: noria_reopen will say so */
        close(fd);
        own = eventfd(0, EFD_CLOEXEC);
    }
    if (own < 0 || own == fd)
        return;
    dup3(own, fd, O_CLOEXEC);
    close(own);
}

static void after_fork_in_child(void)
{
    for (struct noria_fork_guard *guard = guards.next; guard != &guards; guard = guard->next)
        unshare_description(guard->fd, guard->drops);
    urcu_bp_after_fork_child();
    pthread_mutex_unlock(&process_lock);
}

void noria_fork_guard_add(struct noria_fork_guard *guard, int fd)
{
    pthread_mutex_lock(&process_lock);
    guard->fd = fd;
    guard->next = guards.next;
    guard->previous = &guards;
    guards.next->previous = guard;
    guards.next = guard;
    pthread_mutex_unlock(&process_lock);
}

void noria_fork_guard_remove(struct noria_fork_guard *guard)
{
    pthread_mutex_lock(&process_lock); /* the neighbours' removal writes this guard's links */
    if (guard->next != NULL) {         /* else never added: it has no description that could be shared */
        guard->next->previous = guard->previous;
        guard->previous->next = guard->next;
    }
    pthread_mutex_unlock(&process_lock);
}

/* Maps the page whose words a child sees as zero. */
static int map_fork_page(void)
{
    uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return noria_fail(-errno, "cannot map a page: %s", noria_error_words(errno));
    if (madvise(page, 4096, MADV_WIPEONFORK) != 0) {
        munmap(page, 4096);
        return noria_fail(-ENOTSUP, "the kernel lacks MADV_WIPEONFORK (Linux 4.14), which fork detection needs");
    }
    noria_fork_page = page;
    return 0;
}

int noria_process_prepare(void)
{
    int rc = 0;

    pthread_mutex_lock(&process_lock);
    if (!hooks_installed) {
        rc = map_fork_page();
        if (rc == 0) {
            pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
            hooks_installed = true;
        }
    }
    /* A stamp no ancestor had, or its handles would look like ours. */
    if (rc == 0 && *noria_fork_page == 0)
        *(uint64_t *)(uintptr_t)noria_fork_page = ((uint64_t)noria_now_ns() << 20 ^ (uint64_t)getpid()) | 1;
    pthread_mutex_unlock(&process_lock);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

static bool somebody_in_lane(const noria_channel *channel)
{
    return noria_role_lane_is_used(&channel->roles[NORIA_SIDE_SEND]) ||
           noria_role_lane_is_used(&channel->roles[NORIA_SIDE_RECV]);
}

void noria_channel_init(noria_channel *channel, const struct noria_verbs *verbs, int flags, uint64_t max_message,
                        uint32_t full)
{
    channel->verbs = verbs;
    channel->fork_stamp = *noria_fork_page;
    channel->flags = (uint32_t)flags;
    channel->full = full;
    channel->fenced = !noria_barrier_register();
    channel->roles[NORIA_SIDE_SEND].owner = channel->roles[NORIA_SIDE_RECV].owner =
        channel->fenced ? NORIA_LANE_CLOSED : NORIA_LANE_FREE;
    noria_channel_limit_spins(channel, MOST_SPINS);
    channel->max_message = max_message;
}

void noria_channel_shut(noria_channel *channel)
{
    noria_store_release32(&channel->state, NORIA_HANDLE_SHUT); /* pairs with the load in enter */
    for (int side = 0; side < 2; side++)
        noria_role_close_lane(&channel->roles[side]);
    if (channel->verbs->notify_signal != NULL)
        channel->verbs->notify_signal(channel, 0, 0); /* or the wake would send us our own signal */
    channel->verbs->wake(channel);
    /* A sleeper of another handle may have taken the ring back before ours, woken but not yet running,
     * looked at its level. So it rings until they have left, and lets them run; bounded, for they may be
     * stopped: the re-check is the net. */
    for (int i = 0; i < SHUT_RINGS + SHUT_NAPS && noria_calls_waiting(channel) != 0; i++) {
        if (i < SHUT_RINGS)
            sched_yield();
        else
            noria_nap(NORIA_FOREVER);
        channel->verbs->wake(channel);
    }
}

/* A call that is seen neither in a lane, nor waiting, nor by the sections' end, had left: had it gone on meanwhile, it would
 * have left its lane for the end of the call, or `waiting` would have changed. */
void noria_channel_drain(noria_channel *channel)
{
    uint64_t waiting;

    if (channel->one_caller != 0)
        noria_barrier_heavy(); /* who comes by a lane from now on sees that it is closed */
    do {
        for (int i = 0; somebody_in_lane(channel) || noria_calls_waiting(channel) != 0; i++) {
            if (noria_calls_waiting(channel) != 0)
                channel->verbs->wake(channel);
            if (i < SHUT_RINGS)
                sched_yield();
            else
                noria_nap(NORIA_FOREVER);
        }
        waiting = noria_load_relaxed64(&channel->waiting); /* what is in a section now, its end orders */
        noria_sections_await();
    } while ((uint32_t)waiting != 0 || noria_load_acquire64(&channel->waiting) != waiting); /* pairs with noria_step_in */
}
