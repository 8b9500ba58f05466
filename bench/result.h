/* SPDX-License-Identifier: BSD-2-Clause */
/* The runs of a cell, and what they amount to. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "run.h"

enum { MOST_ENTRIES = 64, MOST_RUNS = 64 };

/* A contestant with one policy after a failed try. */
struct entry {
    const struct contestant *contestant;
    uint32_t pauses; /* 1; more: a variant with back-off */
    struct outcome run[MOST_RUNS];
    uint32_t runs;

    /* after result_summarise */
    double value[FIGURES];  /* median of messages per second, or of each figure of a round trip in ns; 0: no figure */
    double lowest, highest; /* of value[0] */
    uint32_t near_runs;
    uint32_t disturbed_runs;
    bool as_placed; /* the figure is of the cell's placement */
    bool eligible;  /* all runs were correct, so that it may count as somebody's best peer */
    enum verdict worst;
    int worst_detail;
};

struct result {
    const struct cell *cell;
    struct entry entry[MOST_ENTRIES];
    uint32_t entries;

    bool near;                        /* the figures are of near runs; otherwise of all */
    double canary_ns;                 /* median of all runs that count */
    const struct entry *ours;         /* best of noria */
    const struct entry *best_peer;    /* one PAUSE, or its own wait */
    const struct entry *best_backoff; /* best of all, back-off variants included */
};

bool entry_is_ours(const struct entry *entry);

/* "ck_ring spsc, back-off 16" */
const char *entry_label(const struct entry *entry, char *label, size_t size);

void result_summarise(struct result *result);

/* How many times better `entry` is than `other`: rate over rate, or time over time the other way round. 0:
 * unknown. */
double result_ratio(const struct result *result, const struct entry *entry, const struct entry *other);

#endif
