/* SPDX-License-Identifier: BSD-2-Clause */
/* Ping-pong on one cache line, in chunks of which the median counts: a preemption spoils one chunk only. */
#include "canary.h"

#include <sched.h>
#include <stdlib.h>

#include "ticks.h"

static void await(uint64_t *ball, uint64_t value, bool yields)
{
    while (__atomic_load_n(ball, __ATOMIC_ACQUIRE) != value) {
        cpu_pause();
        if (yields)
            sched_yield();
    }
}

static int compare_times(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

double canary_play(uint64_t *ball, uint32_t game, bool serves, bool yields)
{
    uint64_t value = (uint64_t)game * CANARY_CHUNKS * CANARY_ROUNDS * 2;
    double one_way_ns[CANARY_CHUNKS];

    for (int chunk = 0; chunk < CANARY_CHUNKS; chunk++) {
        uint64_t begin_ns = clock_ns();

        for (int round = 0; round < CANARY_ROUNDS; round++, value += 2) {
            if (serves) {
                __atomic_store_n(ball, value + 1, __ATOMIC_RELEASE);
                await(ball, value + 2, yields);
            } else {
                await(ball, value + 1, yields);
                __atomic_store_n(ball, value + 2, __ATOMIC_RELEASE);
            }
        }
        one_way_ns[chunk] = (double)(clock_ns() - begin_ns) / (2.0 * CANARY_ROUNDS);
    }
    qsort(one_way_ns, CANARY_CHUNKS, sizeof one_way_ns[0], compare_times);
    return one_way_ns[CANARY_CHUNKS / 2];
}
