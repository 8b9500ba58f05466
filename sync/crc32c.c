/* SPDX-License-Identifier: BSD-2-Clause */
#include "crc32c.h"

#include <stdbool.h>
#include <string.h>

/* By tables of 8 x 256 words, eight bytes a step; or by the processor's instruction for it, six times as fast. */
static uint32_t tables[8][256];
static bool has_instruction;

#if defined(__x86_64__)
static bool find_instruction(void)
{
    __builtin_cpu_init(); /* the C library's own constructor may come later */
    return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = crc;

    for (; len >= 8; len -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; len > 0; len--, at++)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return crc;
}
#else
static bool find_instruction(void)
{
    return false;
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    (void)at;
    (void)len;
    return crc;
}
#endif

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
    has_instruction = find_instruction();
}

static uint32_t by_tables(uint32_t crc, const uint8_t *at, size_t len)
{
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
    return crc;
}

uint32_t noria_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    return ~(has_instruction ? by_instruction : by_tables)(~crc, bytes, len);
}
