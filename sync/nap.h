/* SPDX-License-Identifier: BSD-2-Clause */
/* What a sleeper does whose bell is broken: it looks for itself in short intervals, which costs latency but
 * no core. */
#ifndef NORIA_NAP_H
#define NORIA_NAP_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "clock.h"

#define NORIA_NAP_NS (2 * NORIA_NS_PER_MS)

/* Sleeps a nap, until `until_ns` (CLOCK_MONOTONIC) at the latest. 0, or -EINTR if a signal handler ran. */
static inline int noria_nap(int64_t until_ns)
{
    int64_t end_ns = noria_now_ns() + NORIA_NAP_NS;
    struct timespec end;

    if (until_ns < end_ns)
        end_ns = until_ns < 0 ? 0 : until_ns;
    end = noria_timespec_of(end_ns);
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR ? -EINTR : 0;
}

#endif
