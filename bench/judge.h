/* SPDX-License-Identifier: BSD-2-Clause */
/* What a finished run amounts to: correct or not, near or far, how fast. */
#ifndef BENCH_JUDGE_H
#define BENCH_JUDGE_H

#include "participant.h"
#include "run.h"

/* `ended`: by itself, not by the watchdog. */
void judge(const struct run *run, const struct cell *cell, const struct settings *settings, bool ended,
           struct outcome *outcome);

#endif
