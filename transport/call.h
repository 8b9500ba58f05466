/* SPDX-License-Identifier: BSD-2-Clause */
/* A whole call: enter, try, and if that was nothing wait as long as the timeout allows, leave. Inlined, with its attempt. */
#ifndef NORIA_CALL_H
#define NORIA_CALL_H

#include "section.h"

/* The try has found nothing: waits, if there is time to, and ends the call. */
ssize_t noria_call_on(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                      const struct noria_attempt *attempt, enum noria_role_way way);

/* What the attempt returned; or -EAGAIN (with timeout 0, without sleeping), -ETIMEDOUT, -EPIPE, -ECANCELED, -ESTALE,
 * -EDEADLK, -EINTR. */
static inline ssize_t noria_call(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                                 const struct noria_attempt *attempt)
{
    enum noria_role_way way = NORIA_ROLE_BY_FLAG;
    ssize_t rc = noria_section_enter(channel);

    if (__builtin_expect(rc != 0, 0))
        return rc;
    if (channel->one_caller != 0) {
        way = noria_role_enter(&channel->roles[side], noria_section_thread());
        if (__builtin_expect(way == NORIA_ROLE_TAKEN, 0)) {
            noria_section_leave();
            return -EDEADLK;
        }
    }
    if (attempt->begins && side == NORIA_SIDE_SEND && channel->looks_first != 0 &&
        channel->verbs->look_round(channel, side) == -EPIPE)
        rc = -EPIPE;
    else
        rc = attempt->run(channel, attempt->arguments);
    if (__builtin_expect(rc == -EAGAIN, 0))
        return noria_call_on(channel, side, timeout_ns, attempt, way);
    if (channel->one_caller != 0)
        noria_role_leave(&channel->roles[side], way);
    noria_section_leave();
    return rc;
}

#endif
