/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lets one thread of a client die just before its n-th store to shared memory. Include it before the ring
 * headers: they stay as they are, but each of their stores asks first. A death is seen by others as the
 * kernel shows it: everything the dead one stored has arrived (release), and `is_dead` is the certificate
 * (acquire).
 */
#ifndef NORIA_MODEL_DYING_H
#define NORIA_MODEL_DYING_H

#include "checker.h"

#include <noria/atomic.h>

static _Thread_local unsigned stores_to_live; /* 0: immortal; n: dies before the n-th store */
static uint32_t dead;

static inline void die(void)
{
    noria_store_release32(&dead, 1);
    pthread_exit(NULL);
}

static inline bool is_dead(void)
{
    return noria_load_acquire32(&dead) != 0;
}

static inline void may_die(void)
{
    if (stores_to_live != 0 && --stores_to_live == 0)
        die();
}

#define noria_store_relaxed64(word, value) (may_die(), noria_store_relaxed64(word, value))
#define noria_store_release64(word, value) (may_die(), noria_store_release64(word, value))
#define noria_store_relaxed32(word, value) (may_die(), noria_store_relaxed32(word, value))
#define noria_store_release32(word, value) (may_die(), noria_store_release32(word, value))
#define noria_cas_acq_rel64(word, expected, desired) (may_die(), noria_cas_acq_rel64(word, expected, desired))
#define noria_add_release64(word, value) (may_die(), noria_add_release64(word, value))
#define noria_add_relaxed64(word, value) (may_die(), noria_add_relaxed64(word, value))
#ifdef noria_cas_weakened64 /* by weaken.sh */
#undef noria_cas_weakened64
#define noria_cas_weakened64(success, failure, word, expected, desired) \
    (may_die(), !((failure) == __ATOMIC_RELAXED && noria_fails_relaxed(word, expected)) && \
                    (__atomic_compare_exchange_n(word, expected, desired, false, success, __ATOMIC_RELAXED) || \
                     noria_failed(failure)))
#endif

#endif
