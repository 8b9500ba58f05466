/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting without sleeping, but with others let run between two tries; nobody has to ring. */
#include <sched.h>

#include "strategy.h"

static void yield(void)
{
    sched_yield();
}

const struct noria_strategy noria_strategy_yield = {.name = "yield", .pace = yield};
