/* SPDX-License-Identifier: BSD-2-Clause */
#include "crc32c.h"

#include <string.h>

/* By tables of 8 x 256 words, eight bytes a step. */
static uint32_t tables[8][256];

/* Before constructors of the program, which may send. */
__attribute__((constructor(101))) static void make_tables(void)
{
    const uint32_t polynomial = UINT32_C(0x82f63b78); /* Castagnoli's, mirrored */

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
        tables[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (int byte = 0; byte < 256; byte++)
            tables[table][byte] = (tables[table - 1][byte] >> 8) ^ tables[0][tables[table - 1][byte] & 0xff];
}

uint32_t noria_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    crc = ~crc;
    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        word ^= crc;
        crc = 0;
        for (int i = 0; i < 8; i++)
            crc ^= tables[7 - i][word >> (8 * i) & 0xff];
    }
    for (; len > 0; len--, at++)
        crc = (crc >> 8) ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}
