/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting without sleeping, for a processor of one's own: tries again at once, and nobody has to ring. */
#include "strategy.h"

const struct noria_strategy noria_strategy_spin = {.name = "spin"};
