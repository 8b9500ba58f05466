/* SPDX-License-Identifier: BSD-2-Clause */
/* The ratios noria set itself, and what this run of the bench says about them. */
#ifndef BENCH_GOALS_H
#define BENCH_GOALS_H

#include "result.h"

struct goal {
    const char *text;
    const char *cell;
    const char *ours;     /* of noria's; NULL: its best */
    const char *rival[2]; /* the better of these, with one PAUSE after a failed try */
    double wanted;

    /* after goals_judge */
    double ratio; /* 0: not measured */
    const char *against;
    bool near;
};

/* Notes what `result` says about the goals of its cell. */
void goals_judge(const struct result *result);

struct goal *goals_table(uint32_t *count);

#endif
