/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the tables and the processor's instruction give the same, whatever the length and the alignment, and that is CRC32C. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "crc32c.c" /* for both ways */

static void both_ways_are_one(void **state)
{
    uint8_t bytes[300];
    uint32_t next = 1;

    (void)state;
    assert_int_equal(~by_tables(UINT32_MAX, (const uint8_t *)"123456789", 9), 0xe3069283);
    assert_int_equal(noria_crc32c(0, "123456789", 9), 0xe3069283);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        next = next * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(next >> 24);
    }
    if (!has_instruction)
        skip();
    for (size_t from = 0; from < 16; from++)
        for (size_t len = 0; from + len <= sizeof(bytes); len++)
            assert_int_equal(by_instruction(next + (uint32_t)len, bytes + from, len),
                             by_tables(next + (uint32_t)len, bytes + from, len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_ways_are_one)};

    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
