/* SPDX-License-Identifier: BSD-2-Clause */
/* Shows that the harness notices what it is there to notice. */
#ifndef BENCH_SELFTEST_H
#define BENCH_SELFTEST_H

#include "run.h"

enum fault { FAULT_NONE, FAULT_DROP, FAULT_DUPLICATE, FAULT_REORDER, FAULT_TEAR, FAULT_STALL, FAULT_CRASH };

/* The fault is committed at message FAULT_AT of producer 0, which sends at least SELFTEST_MESSAGES; a late
 * message comes DELAY messages later. */
enum { FAULT_AT = 500, DELAY = 1000, SELFTEST_MESSAGES = 2000 };

extern enum fault broken_fault; /* what contestants/broken.c does wrong */

/* The number of faults that were not recognised (or seen where there was none). Prints one line each. */
int selftest(const struct settings *settings);

#endif
