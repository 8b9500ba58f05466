/* SPDX-License-Identifier: BSD-2-Clause */
/* The process in which a run happens; see run.h. */
#ifndef BENCH_LEADER_H
#define BENCH_LEADER_H

#include "participant.h"
#include "run.h"

__attribute__((noreturn)) void leader_main(struct run *run, const struct contestant *contestant,
                                           const struct cell *cell, uint32_t pauses,
                                           const struct settings *settings);

#endif
