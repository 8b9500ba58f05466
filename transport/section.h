/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read sections of liburcu, inlined: they are entered and left with every message, but for calls in their lane (call.h). The functions taken from its static
 * header are among those that it names as short enough to be used by programs of any licence.
 */
#ifndef NORIA_SECTION_H
#define NORIA_SECTION_H

#include <errno.h>

#include <urcu/urcu-bp.h>
#include <urcu/static/urcu-bp.h>

#include "transport.h"

/* liburcu's library is not built for ThreadSanitizer, which therefore cannot see that a section that was waited for is over:
 * it is told here. Whoever did not wait gains nothing by it: an acquire without the wait is nowhere. */
#if defined(__SANITIZE_THREAD__)
#define NORIA_SECTION_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NORIA_SECTION_TSAN 1
#endif
#endif
#ifdef NORIA_SECTION_TSAN
#include <sanitizer/tsan_interface.h>
#define NORIA_SECTION_ENDS() __tsan_release(&noria_fork_page)
#define NORIA_SECTIONS_OVER() __tsan_acquire(&noria_fork_page)
#else
#define NORIA_SECTION_ENDS() ((void)0)
#define NORIA_SECTIONS_OVER() ((void)0)
#endif

static inline void noria_section_leave(void)
{
    NORIA_SECTION_ENDS();
    _urcu_bp_read_unlock();
}

/* As noria_enter. */
static inline int noria_section_enter(const noria_channel *channel)
{
    uint32_t state;

    if (noria_is_stale(channel))
        return -ESTALE;
    _urcu_bp_read_lock();
    state = noria_load_acquire32(&channel->state); /* pairs with shut */
    if (__builtin_expect(state == NORIA_HANDLE_OPEN, 1))
        return 0;
    noria_section_leave();
    return noria_state_error(state);
}

/* Returns when all sections that were entered before are left. */
static inline void noria_sections_await(void)
{
    urcu_bp_synchronize_rcu();
    NORIA_SECTIONS_OVER();
}

/* Names the calling thread as long as it lives; 0 before its first section. */
static inline uint64_t noria_section_thread(void)
{
    return (uint64_t)(uintptr_t)URCU_TLS(urcu_bp_reader);
}

#endif
