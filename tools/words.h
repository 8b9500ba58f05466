/* SPDX-License-Identifier: BSD-2-Clause */
/* The words for the numbers of noria.h and inspect.h, the same in options, tables and JSON. */
#ifndef NORIA_TOOLS_WORDS_H
#define NORIA_TOOLS_WORDS_H

#include <stddef.h>
#include <stdint.h>

/* Lists that end with NULL; the place is the number. */
extern const char *const kind_words[],
    *const order_words[], *const full_words[], *const wait_words[], *const orphans_words[],
                                                                        *const lifetime_words[],
                                                                            *const trust_words[],
                                                                                *const condition_words[];

/* "?" for a number without a word. */
const char *word_of(const char *const *words, uint32_t number);

/* Each writes into `text` and returns it. */
const char *user_name(uint32_t uid, char *text, size_t size);
const char *utc_time(int64_t realtime_ns, char *text, size_t size);
/* How long ago that was: "12s", "5m", "3h", "2d". */
const char *age_words(int64_t realtime_ns, char *text, size_t size);
const char *role_words(uint32_t flags);
/* "-" for a count that is not known. */
const char *count_or_dash(int64_t count, char *text, size_t size);

#endif
