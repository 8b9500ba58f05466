/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read sections of liburcu, inlined: they are entered and left with every message. The functions taken from its static
 * header are among those that it names as short enough to be used by programs of any licence.
 */
#ifndef NORIA_SECTION_H
#define NORIA_SECTION_H

#include <errno.h>

#include <urcu/urcu-bp.h>
#include <urcu/static/urcu-bp.h>

#include "transport.h"

/* As noria_enter. */
static inline int noria_section_enter(const noria_channel *channel)
{
    if (noria_is_stale(channel))
        return -ESTALE;
    _urcu_bp_read_lock();
    if (noria_load_acquire32(&channel->state) == NORIA_HANDLE_OPEN) /* pairs with shut */
        return 0;
    _urcu_bp_read_unlock();
    return -ECANCELED;
}

static inline void noria_section_leave(void)
{
    _urcu_bp_read_unlock();
}

/* Names the calling thread, which is in a read section, as long as it lives. */
static inline uint64_t noria_section_thread(void)
{
    return (uint64_t)(uintptr_t)URCU_TLS(urcu_bp_reader);
}

#endif
