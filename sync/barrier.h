/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The asymmetric fence. Two sides each store a word and then look at the other's: the one that does it for every
 * message only keeps the compiler in order, the one that is about to sleep makes every processor that runs a
 * registered process pass a full barrier (membarrier, Linux 4.16).
 */
#ifndef NORIA_BARRIER_H
#define NORIA_BARRIER_H

#include <stdbool.h>

/* Registers this process, once. False where the kernel or a sandbox refuses: then the fast side must fence itself. */
bool noria_barrier_register(void);

/* The slow side's part. Where membarrier is refused it is a fence of this processor alone, and the sleeper's bounded
 * re-check is what catches a message it missed. */
void noria_barrier_heavy(void);

#endif
