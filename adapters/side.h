/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking a side of a handle, inlined: every message does it. Who holds it and that it is held are one word: what a signal
 * handler finds is true at every instruction.
 *
 * A thread that asks the system may be cancelled there, and must not be while it holds a side: it takes it by
 * noria_adapter_lock, or sees to that itself where it asks.
 */
#ifndef NORIA_SIDE_H
#define NORIA_SIDE_H

#include <pthread.h>

#include "adapter.h"
#include "section.h"

/* Somebody has it. 0 when it is ours; -EDEADLK: `self` has it, and is in a signal handler. */
int noria_adapter_hold_late(struct noria_adapter *adapter, enum noria_side side, uint64_t self);

/* 0, -EDEADLK. */
NORIA_FAST_PATH int noria_adapter_hold(struct noria_adapter *adapter, enum noria_side side)
{
    uint64_t self = noria_section_thread(), holder = 0;

    if (__builtin_expect(noria_cas_acq_rel64(&adapter->locks[side], &holder, self), 1)) /* pairs with let_go */
        return 0;
    return noria_adapter_hold_late(adapter, side, self);
}

NORIA_FAST_PATH void noria_adapter_let_go(struct noria_adapter *adapter, enum noria_side side)
{
    noria_store_release64(&adapter->locks[side], 0); /* pairs with hold */
}

#endif
