/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: numbers are printed as printf does and read back as they were; what is no number is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

static const uint64_t samples[] = {0, 1, 9, 10, 15, 16, 255, 4096, INT32_MAX, UINT32_MAX,
                                   UINT64_MAX - 1, UINT64_MAX};

static void expect_printed(const char *expected, uint64_t number, unsigned base, unsigned digits)
{
    char text[64];
    char *end = noria_number_print(text, number, base, digits);
    uint64_t again = 0;

    assert_string_equal(text, expected);
    assert_ptr_equal(end, text + strlen(text));
    assert_ptr_equal(noria_number_parse(text, base, &again), end);
    assert_true(again == number);
}

static void prints_as_printf(void **state)
{
    char expected[64];

    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        snprintf(expected, sizeof(expected), "%" PRIu64, samples[i]);
        expect_printed(expected, samples[i], 10, 1);
        snprintf(expected, sizeof(expected), "%" PRIx64, samples[i]);
        expect_printed(expected, samples[i], 16, 1);
        snprintf(expected, sizeof(expected), "%016" PRIx64, samples[i]);
        expect_printed(expected, samples[i], 16, 16);
    }
}

static void tells_what_is_no_number(void **state)
{
    /* Claim: no digit at the start, or more than 64 bits, is NULL, and the number stays as it was. */
    static const char *const none[] = {"", " 1", "-1", "x", "f",
                                       "18446744073709551616", "99999999999999999999"};
    uint64_t number = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_null(noria_number_parse(none[i], 10, &number));
    assert_null(noria_number_parse("10000000000000000", 16, &number));
    assert_true(number == 7);
}

static void stops_behind_the_number(void **state)
{
    /* Claim: what follows the last digit is given back. */
    uint64_t number = 0;

    (void)state;
    assert_string_equal(noria_number_parse("12ab:", 10, &number), "ab:");
    assert_true(number == 12);
    assert_string_equal(noria_number_parse("12ab:", 16, &number), ":");
    assert_true(number == 0x12ab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_as_printf),
        cmocka_unit_test(tells_what_is_no_number),
        cmocka_unit_test(stops_behind_the_number),
    };

    return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
