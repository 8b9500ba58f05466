/* SPDX-License-Identifier: BSD-2-Clause */
/* What the figures were measured on. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "options.h"

struct machine {
    char processor[128];
    char kernel[160];
    char cores[128];
    const char *compiler;
    double pause_ns;
};

void machine_describe(struct machine *machine, const struct settings *settings);

#endif
