/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "run.h"

enum { MOST_PATTERNS = 32 };

struct options {
    struct settings settings;
    const char *cell[MOST_PATTERNS]; /* patterns; none: all */
    uint32_t cells;
    char *only[MOST_PATTERNS]; /* beginnings of contestants' names; none: all */
    uint32_t onlys;
    uint32_t runs;
    bool quick, list, json, selftest;
};

/* Ends the process on --help and on wrong usage. */
void options_parse(struct options *options, int argc, char **argv);

bool options_want_cell(const struct options *options, const struct cell *cell);
bool options_want_contestant(const struct options *options, const struct contestant *contestant,
                             const struct cell *cell);

#endif
