/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One caller at a time in a role of a handle, and a second one is told so. The first thread to call gets the role's fast
 * lane: its calls mark themselves with plain stores, 4.5 ns less than a locked operation. The first call of any other thread closes the lane for
 * good, and from then on everybody takes a locked flag.
 *
 *     thread in the lane                      another thread
 *     in_lane = 1                             owner = closed
 *     compiler fence                          barrier_heavy
 *     load owner: still mine?                 load in_lane: 0?
 *
 *   Either the one sees that the lane is closed or the other that it is in use (the asymmetric fence, sync/barrier.h).
 */
#ifndef NORIA_ROLE_H
#define NORIA_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"

struct noria_role {
    /* The thread in whose lane calls go; NORIA_LANE_FREE: nobody has called yet; CLOSING: it is closed; CLOSED: and whoever is
     * in it can be seen. */
    uint64_t owner;
    uint32_t in_lane; /* the owner is inside; written by the owner alone */
    uint32_t busy;    /* somebody is inside who came without the lane */
};

#define NORIA_LANE_FREE 1 /* nobody's name, not even that of a thread without one (0) */
#define NORIA_LANE_CLOSING 2 /* whoever wants to rely on it passes the barrier himself */
#define NORIA_LANE_CLOSED UINT64_MAX

/* For all who are not the owner. */
uint32_t *noria_role_enter_slowly(struct noria_role *role, uint64_t self);

/* Whether the call may go by the lane of `self`, which it had when the caller looked; it is marked then. */
static inline bool noria_role_enter_lane(struct noria_role *role, uint64_t self)
{
    noria_store_relaxed32(&role->in_lane, 1);
    noria_fence_compiler();
    if (__builtin_expect(noria_load_relaxed64(&role->owner) == self, 1))
        return true;
    noria_store_release32(&role->in_lane, 0);
    return false;
}

/* Begins a call. `self` names the thread (not 0). What it marked, for leave; NULL: another call is inside. */
static inline uint32_t *noria_role_enter(struct noria_role *role, uint64_t self)
{
    if (noria_load_relaxed64(&role->owner) == self) { /* ours to give away: nobody but us sets it to us */
        if (noria_load_relaxed32(&role->in_lane) != 0)
            return NULL; /* by ourselves: a signal handler */
        if (noria_role_enter_lane(role, self))
            return &role->in_lane;
    }
    return noria_role_enter_slowly(role, self);
}

/* Begins to close the lane, for good. After noria_barrier_heavy the owner is inside only as long as in_lane says so. */
static inline void noria_role_close_lane(struct noria_role *role)
{
    noria_store_release64(&role->owner, NORIA_LANE_CLOSING);
}

/* Whether the owner of a lane that was closed is still inside. */
static inline bool noria_role_lane_is_used(const struct noria_role *role)
{
    return noria_load_acquire32(&role->in_lane) != 0; /* pairs with the owner's leave */
}

static inline void noria_role_leave(uint32_t *mark)
{
    noria_store_release32(mark, 0); /* pairs with the next enter */
}

#endif
