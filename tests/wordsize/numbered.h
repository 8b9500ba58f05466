/* SPDX-License-Identifier: BSD-2-Clause */
/* Message i of an exchange: its length and its bytes follow from i. */
#ifndef NORIA_NUMBERED_H
#define NORIA_NUMBERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SHORTEST = 8, LONGEST = 64 };

static inline size_t fill_numbered(uint8_t *bytes, uint64_t i)
{
    size_t len = SHORTEST + (size_t)(i % (LONGEST - SHORTEST + 1));

    memcpy(bytes, &i, sizeof(i));
    for (size_t at = sizeof(i); at < len; at++)
        bytes[at] = (uint8_t)(i * 31 + at);
    return len;
}

static inline bool is_numbered(const uint8_t *bytes, size_t len, uint64_t i)
{
    uint8_t right[LONGEST];

    return len == fill_numbered(right, i) && memcmp(bytes, right, len) == 0;
}

#endif
