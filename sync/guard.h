/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that a peer may take away. A mapping of a file that somebody truncates answers an access with SIGBUS, in
 * whatever instruction it happens. A guarded range gets anonymous zeros in place of all its pages then, and a flag
 * is set: the instruction goes on, on bytes that nobody trusts anyway, and the call looks at the flag when it ends.
 *
 *     refused: a jump out of the handler (sigsetjmp around every call). It costs 10 to 20 ns per call, and leaves read
 *     sections, role marks and quotas of the middle of a call behind.
 *
 * The handler is installed with the first guarded range and calls the one that was there before for every SIGBUS
 * that is not in a guarded range; with the last range it is taken back, if it still is ours. A program that installs
 * its own afterwards has to call ours for what it does not know, also when the last range is gone; a thread that blocks
 * SIGBUS is ended by the kernel.
 */
#ifndef NORIA_GUARD_H
#define NORIA_GUARD_H

#include <stddef.h>
#include <stdint.h>

struct noria_guard {
    uint32_t lost;    /* set for good by the handler */
    uint64_t state;   /* address of a word that also gets `verdict`; 0: none */
    uint32_t verdict;
    uint32_t place;   /* in the handler's table, + 1; 0: not guarded */
};

/* Guards a mapping. 0, -EMFILE too many are, -errno; with a sentence. */
int noria_guard_add(struct noria_guard *guard, void *start, size_t size);
/* Nobody uses the range any more. Before it is unmapped. */
void noria_guard_remove(struct noria_guard *guard);

/* From now on the loss is told to `state`, too. */
void noria_guard_tell(struct noria_guard *guard, uint32_t *state, uint32_t verdict);

#endif
