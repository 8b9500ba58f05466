/* SPDX-License-Identifier: BSD-2-Clause */
/* Shows that the harness notices what it is there to notice. */
#ifndef BENCH_SELFTEST_H
#define BENCH_SELFTEST_H

#include "run.h"

enum fault { FAULT_NONE, FAULT_DROP, FAULT_DUPLICATE, FAULT_REORDER, FAULT_TEAR, FAULT_STALL, FAULT_CRASH };

extern enum fault broken_fault; /* what contestants/broken.c does wrong */

/* The number of faults that were not recognised (or seen where there was none). Prints one line each. */
int selftest(const struct settings *settings);

#endif
