/* SPDX-License-Identifier: BSD-2-Clause */
/* The sentence behind noria_detail(): what failed last in this thread, and what to do about it. */
#ifndef NORIA_DETAIL_H
#define NORIA_DETAIL_H

#include <stdbool.h>

/* Records the sentence and returns `rc`, so that a failing function can end in `return noria_fail(...)`. */
__attribute__((format(printf, 2, 3))) int noria_fail(int rc, const char *sentence, ...);

/* The same with the error's own words: cheap, for failures that come often. */
int noria_fail_plain(int rc);

/* While muted, this thread's failures leave no sentence. What it was before, to be put back: a handler may
 * have interrupted somebody who is muted. */
bool noria_detail_mute(bool mute);

/* The thread's last sentence; "" before any failure. */
const char *noria_last_detail(void);

/* What an error number means, in plain words. */
const char *noria_error_words(int rc);

#endif
