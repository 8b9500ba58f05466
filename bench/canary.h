/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The canary: how far apart the two cores are right now.
 *
 * Hosts move virtual cores about, and a ring between cores of different cache clusters runs 3 to 10 times
 * slower. So a bare cache line bounces between the two cores before and after every single measurement, and a
 * figure counts as "near" only if both times it took less than CANARY_NEAR_NS one way.
 */
#ifndef BENCH_CANARY_H
#define BENCH_CANARY_H

#include <stdbool.h>
#include <stdint.h>

enum { CANARY_NEAR_NS = 80, CANARY_CHUNKS = 9, CANARY_ROUNDS = 300 };

/* Both sides call it with the same `game` (0, 1, ...; each once per ball). Returns the one-way time in ns. */
double canary_play(uint64_t *ball, uint32_t game, bool serves, bool yields);

#endif
