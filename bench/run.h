/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One run: one contestant in one cell for one window, in processes of its own, so that neither a crash nor a
 * hang of a contestant reaches the harness.
 *
 *     bench          sleeps until the leader is gone; kills the run when the watchdog's time is over
 *     `- leader      formats the memory, starts the participants, sleeps through the window, raises the stop
 * flag
 *         `- participants, one per seat, pinned (threads of the leader where the contestant needs that)
 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "contestant.h"

enum { MOST_CORES = 64, DISTURBED_PERCENT = 2 };

struct settings {
    uint32_t core[MOST_CORES];
    uint32_t cores;
    uint64_t window_ns;
    uint64_t watchdog_ns; /* on top of the window */
    uint32_t least;       /* messages each producer sends, however long it takes; 0: only the window counts */
    double ticks_per_ns;
};

enum verdict {
    RUN_OK,
    RUN_MISORDERED, /* all there, but not in each producer's order */
    RUN_DUPLICATED,
    RUN_LOST,
    RUN_GARBAGE,
    RUN_STUCK, /* ended by the watchdog; the rate is what it had moved by then */
    RUN_CRASHED,
    RUN_REFUSED, /* could not be set up */
};

enum placement { PLACED_NEAR, PLACED_FAR, PLACED_MIXED };

/* Of one way, that is of half a round trip. The mean is of all, by the clock at begin and end: finer than what the counter
 * tells of each. */
enum figure { FIGURE_P50, FIGURE_P99, FIGURE_P999, FIGURE_MEAN, FIGURES };

struct outcome {
    enum verdict verdict;
    enum placement placement;
    bool disturbed;       /* other processes took more than DISTURBED_PERCENT of a participant's time */
    int detail;           /* signal, or 256 + exit status, or -errno */
    double rate;          /* messages per second; 0 for a round trip */
    double one_way_ns[FIGURES];
    double canary_ns[2];
};

/* "correct", "LOST MESSAGES", ... */
const char *run_verdict_text(enum verdict verdict);

/* Fills in the cores this process may use (at most `most`) and the tick rate. */
void run_defaults(struct settings *settings, uint32_t most);

void run_measure(const struct contestant *contestant, const struct cell *cell, uint32_t pauses,
                 const struct settings *settings, struct outcome *outcome);

#endif
