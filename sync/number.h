/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers as text, for paths and files of /proc. Async-signal-safe, which snprintf and strtoul are not. */
#ifndef NORIA_NUMBER_H
#define NORIA_NUMBER_H

#include <stdint.h>

/* The longest text: 20 digits, and the NUL. */
enum { NORIA_NUMBER_BYTES = 21 };

/* Writes the number in base 10 or 16, with zeros before it up to so many digits, and a NUL. Where the NUL
 * stands. */
char *noria_number_print(char *at, uint64_t number, unsigned base, unsigned digits);

/* Reads a number. What follows it; NULL if the text begins with none, or with one that does not fit. */
const char *noria_number_parse(const char *text, unsigned base, uint64_t *number);

#endif
