/* SPDX-License-Identifier: BSD-2-Clause */
#include "crc32c.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <wmmintrin.h>
#endif

/* By tables of 8 x 256 words, eight bytes a step; or by the processor's instruction for it, six times as fast; of long
 * inputs in three chains at once, which is three times as fast again. */
static uint32_t tables[8][256];
static bool has_instruction;

#if defined(__x86_64__)
static bool has_product;

/*
 * The instruction takes eight bytes in one cycle, and its result is there after three: so three parts of the same length
 * are taken at once. What stands before `words` words counts x^(64 * words) times, modulo the polynomial. The product of
 * two mirrored remainders is a bit too low in its 64, and the instruction, which takes it for eight bytes of input,
 * multiplies by x^32 besides: the factor is x^(64 * words - 33).
 */
enum { MOST_WORDS = 256, LEAST_CHAINED = 192 };
static uint32_t factors[2 * MOST_WORDS + 1];

__attribute__((target("sse4.2"))) static void make_factors(void)
{
    factors[1] = 1; /* x^31, mirrored */
    for (int words = 2; words <= 2 * MOST_WORDS; words++)
        factors[words] = (uint32_t)__builtin_ia32_crc32di(factors[words - 1], 0);
}

static bool find_instruction(void)
{
    __builtin_cpu_init(); /* the C library's own constructor may come later */
    if (!__builtin_cpu_supports("sse4.2"))
        return false;
    make_factors();
    has_product = __builtin_cpu_supports("pclmul") != 0;
    return true;
}

static inline uint64_t word_at(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t by_one_chain(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = crc;

    for (; len >= 8; len -= 8, at += 8)
        wide = __builtin_ia32_crc32di(wide, word_at(at));
    crc = (uint32_t)wide;
    for (; len > 0; len--, at++)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return crc;
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t product(uint64_t crc, uint32_t factor)
{
    __m128i one = _mm_cvtsi64_si128((long long)crc), other = _mm_cvtsi64_si128(factor);

    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(one, other, 0));
}

/* Three times so many words. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t by_three_chains(uint32_t crc, const uint8_t *at, size_t words)
{
    size_t part = 8 * words;
    uint64_t first = crc, second = 0, third = 0;

    for (const uint8_t *end = at + part; at < end; at += 8) {
        first = __builtin_ia32_crc32di(first, word_at(at));
        second = __builtin_ia32_crc32di(second, word_at(at + part));
        third = __builtin_ia32_crc32di(third, word_at(at + 2 * part));
    }
    first = product(first, factors[2 * words]) ^ product(second, factors[words]);
    return (uint32_t)(__builtin_ia32_crc32di(0, first) ^ third);
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    while (len >= LEAST_CHAINED && has_product) {
        size_t words = len / 24 < MOST_WORDS ? len / 24 : MOST_WORDS;
        crc = by_three_chains(crc, at, words);
        at += 24 * words;
        len -= 24 * words;
    }
    return by_one_chain(crc, at, len);
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
