/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting without sleeping: for a processor of one's own (spin), or to let others run in between (yield). */
#include <sched.h>

#include "strategy.h"

static void yield(void)
{
    sched_yield();
}

const struct noria_strategy noria_strategy_spin = {.name = "spin"};
const struct noria_strategy noria_strategy_yield = {.name = "yield", .pace = yield};
