/* SPDX-License-Identifier: BSD-2-Clause */
/* Time as noria counts it: nanoseconds of CLOCK_MONOTONIC, which no administrator can step. */
#ifndef NORIA_CLOCK_H
#define NORIA_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NORIA_NS_PER_S INT64_C(1000000000)
#define NORIA_NS_PER_MS INT64_C(1000000)
#define NORIA_FOREVER INT64_MAX

static inline struct timespec noria_timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NORIA_NS_PER_S), .tv_nsec = (long)(ns % NORIA_NS_PER_S)};
}

static inline int64_t noria_clock_read(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * NORIA_NS_PER_S + now.tv_nsec;
}

static inline int64_t noria_now_ns(void)
{
    return noria_clock_read(CLOCK_MONOTONIC);
}

/* A few milliseconds coarse, and a few nanoseconds cheap: for housekeeping on a hot path. */
static inline int64_t noria_now_coarse_ns(void)
{
    return noria_clock_read(CLOCK_MONOTONIC_COARSE);
}

/* The instant a timeout that starts now ends; negative timeouts never end. */
static inline int64_t noria_deadline_ns(int64_t timeout_ns)
{
    int64_t now;

    if (timeout_ns < 0)
        return NORIA_FOREVER;
    now = noria_now_ns();
    return timeout_ns < NORIA_FOREVER - now ? now + timeout_ns : NORIA_FOREVER;
}

#endif
