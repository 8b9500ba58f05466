/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the tables, the processor's instruction, and that in three chains at once all give CRC32C as it is defined, bit
 * by bit, whatever the length, the alignment and what stands before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "crc32c.c" /* for each way */

enum { MOST = 6500, ALIGNMENTS = 16 }; /* three chains take up to 6144 bytes at once, what is left over comes behind */
static uint8_t bytes[MOST + ALIGNMENTS];

static uint32_t by_definition(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = (crc >> 1) ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
    return crc;
}

/* All lengths, from all alignments. */
static void compare(uint32_t (*way)(uint32_t, const uint8_t *, size_t), uint32_t seed)
{
    for (size_t from = 0; from < ALIGNMENTS; from++) {
        uint32_t crc = seed;
        for (size_t len = 0; len <= MOST; len++) {
            if (way(seed, bytes + from, len) != crc)
                fail_msg("%zu bytes from %zu on", len, from);
            crc = by_definition(crc, bytes[from + len]);
        }
    }
}

static void every_way_is_as_defined(uint32_t seed)
{
    bool had_product = has_product;

    compare(by_tables, seed);
    if (!has_instruction)
        return;
    compare(by_instruction, seed);
    has_product = false;
    compare(by_instruction, seed);
    has_product = had_product;
}

static void all_are_as_defined(void **state)
{
    uint32_t next = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        next = next * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(next >> 24);
    }
    every_way_is_as_defined(0);
    every_way_is_as_defined(UINT32_MAX);
    every_way_is_as_defined(next);
}

static void it_is_the_one_of_the_standard(void **state)
{
    (void)state;
    assert_int_equal(~by_tables(UINT32_MAX, (const uint8_t *)"123456789", 9), 0xe3069283);
    assert_int_equal(noria_crc32c(0, "123456789", 9), 0xe3069283);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_is_the_one_of_the_standard), cmocka_unit_test(all_are_as_defined)};

    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
