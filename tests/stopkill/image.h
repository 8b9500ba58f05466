/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state that all positions of one operation in one situation start from: ring, handles and ledger,
 * prepared once and copied back each time, or, where copying is not enough, built anew each time by the
 * parties themselves.
 */
#ifndef STOPKILL_IMAGE_H
#define STOPKILL_IMAGE_H

#include "ledger.h"

extern struct tried {
    const struct operation *operation;
    const struct situation *situation;
    int full; /* how many messages fit */
} tried;

void image_build(const struct operation *operation, const struct situation *situation);
/* Before and after each position. */
void image_restore(void);
void image_end(void);

#endif
