/* SPDX-License-Identifier: BSD-2-Clause */
#include "role.h"

#include "barrier.h"

uint32_t *noria_role_enter_slowly(struct noria_role *role, uint64_t self)
{
    uint64_t owner = noria_load_acquire64(&role->owner); /* CLOSED: pairs with the store below, behind somebody's barrier */

    if (owner == NORIA_LANE_FREE && noria_cas_acq_rel64(&role->owner, &owner, self))
        owner = self;
    if (owner == self) /* now, or since a signal handler made the first call just before us */
        return noria_role_enter(role, self);
    if (owner != NORIA_LANE_CLOSED) {
        noria_role_close_lane(role);
        noria_barrier_heavy();
        noria_store_release64(&role->owner, NORIA_LANE_CLOSED);
    }
    if (noria_exchange_acquire32(&role->busy, 1) != 0) /* pairs with leave */
        return NULL;
    if (!noria_role_lane_is_used(role))
        return &role->busy;
    noria_store_release32(&role->busy, 0);
    return NULL;
}
