/* SPDX-License-Identifier: BSD-2-Clause */
#include "strategy.h"

/* In the order of enum noria_wait. */
static const struct noria_strategy *const strategies[] = {
    &noria_strategy_futex,   &noria_strategy_mutex, &noria_strategy_semaphore, &noria_strategy_sysv_semaphore,
    &noria_strategy_eventfd, &noria_strategy_fifo,  &noria_strategy_spin,      &noria_strategy_yield,
};

const struct noria_strategy *noria_strategy_find(uint32_t wait)
{
    return wait < sizeof(strategies) / sizeof(strategies[0]) ? strategies[wait] : NULL;
}
