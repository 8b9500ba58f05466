/* SPDX-License-Identifier: BSD-2-Clause */
#include "number.h"

#include <limits.h>
#include <stddef.h>

char *noria_number_print(char *at, uint64_t number, unsigned base, unsigned digits)
{
    char backwards[NORIA_NUMBER_BYTES];
    size_t length = 0;

    do {
        backwards[length++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0 || (length < digits && length < sizeof(backwards) - 1));
    while (length > 0)
        *at++ = backwards[--length];
    *at = '\0';
    return at;
}

static unsigned digit_of(char character)
{
    if (character >= 'a' && character <= 'f')
        return (unsigned)(character - 'a') + 10;
    return character >= '0' && character <= '9' ? (unsigned)(character - '0') : UINT_MAX;
}

const char *noria_number_parse(const char *text, unsigned base, uint64_t *number)
{
    const char *at = text;
    uint64_t sum = 0;

    for (; digit_of(*at) < base; at++) {
        if (sum > (UINT64_MAX - digit_of(*at)) / base)
            return NULL;
        sum = sum * base + digit_of(*at);
    }
    if (at == text)
        return NULL;
    *number = sum;
    return at;
}
