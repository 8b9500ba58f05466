/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes, durations and words as people write them on a command line. All return 0 or -EINVAL and leave the
 * output untouched on failure. */
#ifndef NORIA_TOOLS_QUANTITY_H
#define NORIA_TOOLS_QUANTITY_H

#include <stdint.h>

/* "4096", "64K", "1M", "2G": powers of 1024. */
int parse_size(const char *text, uint64_t *size);
int parse_size32(const char *text, uint32_t *size);
/* "2s", "500ms", "250us", "100ns", "5m", "1.5s"; without a unit it is seconds. */
int parse_duration_ns(const char *text, int64_t *duration_ns);
/* Octal permissions, "0600" or "600". */
int parse_mode(const char *text, uint32_t *mode);
/* The name of a group, or its number. */
int parse_group(const char *text, uint32_t *group);
/* The place of `text` in a list of words that ends with NULL. */
int parse_word(const char *text, const char *const *words, uint32_t *place);

#endif
