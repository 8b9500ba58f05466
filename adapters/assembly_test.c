/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages put together from the frames of many senders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "assembly.h"

static struct noria_assembly assembly;
static uint8_t *message;
static uint64_t lost;

static int setup(void **state)
{
    (void)state;
    assembly = (struct noria_assembly){.most_bytes = 100000};
    message = NULL;
    lost = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(message);
    noria_assembly_free(&assembly);
    return 0;
}

/* `total` bytes that all have the value of `sequence`, in pieces. */
static int take(uint32_t sender, uint64_t sequence, uint32_t offset, uint32_t length, uint32_t total)
{
    struct noria_frame frame = {
        .length = length, .total = total, .offset = offset, .sender = sender, .sequence = sequence};
    uint8_t payload[1000];

    memset(payload, (int)(sequence + sender), sizeof(payload));
    free(message);
    message = NULL;
    return noria_assembly_take(&assembly, &frame, payload, &assembly, &message, &lost);
}

static void expect_message(uint32_t sender, uint64_t sequence, uint32_t total)
{
    assert_non_null(message);
    for (uint32_t i = 0; i < total; i++)
        assert_int_equal(message[i], (uint8_t)(sequence + sender));
}

static void pieces_of_many_do_not_mix(void **state)
{
    /* Claim: with 100 senders whose pieces alternate, each gets its own message whole, and nothing is said to be lost.
     */
    (void)state;
    for (uint64_t sequence = 0; sequence < 3; sequence++)
        for (uint32_t offset = 0; offset < 900; offset += 300)
            for (uint32_t sender = 1; sender <= 100; sender++) {
                assert_int_equal(take(sender, sequence, offset, 300, 900),
                                 offset == 600 ? NORIA_ASSEMBLY_DONE : NORIA_ASSEMBLY_MORE);
                if (offset == 600) {
                    expect_message(sender, sequence, 900);
                    assert_int_equal(lost, 0);
                }
            }
    assert_int_equal(assembly.bytes, 0);
}

static void gaps_are_counted_exactly(void **state)
{
    /* Claim: what is missing of a sender is told with its next message, from its first one on; a message begun and
     * never finished is missing, too; what comes twice or late is refused. */
    (void)state;
    assert_int_equal(take(7, 5, 0, 10, 10), NORIA_ASSEMBLY_WHOLE);
    assert_int_equal(lost, 5);
    assert_int_equal(take(7, 6, 0, 10, 10), NORIA_ASSEMBLY_WHOLE);
    assert_int_equal(lost, 0);
    assert_int_equal(take(7, 7, 0, 10, 20), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 8, 0, 10, 10), NORIA_ASSEMBLY_WHOLE);
    assert_int_equal(lost, 1);
    assert_int_equal(take(7, 8, 0, 10, 10), -EBADMSG);
    assert_int_equal(take(7, 3, 0, 10, 20), -EBADMSG);
    assert_int_equal(assembly.bytes, 0);
}

static void a_message_begun_anew_is_that_one(void **state)
{
    /* Claim: a sender that gave a message up may send it, or another one, with the same number, and nothing is lost. */
    (void)state;
    assert_int_equal(take(7, 0, 0, 10, 30), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 0, 0, 20, 40), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 0, 20, 20, 40), NORIA_ASSEMBLY_DONE);
    expect_message(7, 0, 40);
    assert_int_equal(lost, 0);
    assert_int_equal(take(7, 1, 0, 10, 30), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 1, 0, 5, 5), NORIA_ASSEMBLY_WHOLE);
    assert_int_equal(lost, 0);
}

static void pieces_out_of_place_make_no_message(void **state)
{
    /* Claim: a message of which the first or a middle piece is missing, or whose pieces contradict each other, is never
     * put together, and is lost for the next one to tell. */
    (void)state;
    assert_int_equal(take(7, 0, 10, 10, 20), NORIA_ASSEMBLY_MORE); /* no beginning */
    assert_int_equal(take(7, 1, 0, 10, 30), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 1, 20, 10, 30), NORIA_ASSEMBLY_MORE); /* no middle */
    assert_int_equal(take(7, 2, 0, 10, 30), NORIA_ASSEMBLY_MORE);
    assert_int_equal(take(7, 2, 10, 10, 20), NORIA_ASSEMBLY_MORE); /* another total */
    assert_int_equal(take(7, 3, 0, 10, 10), NORIA_ASSEMBLY_WHOLE);
    assert_int_equal(lost, 3);
}

static void memory_is_bounded(void **state)
{
    /* Claim: whoever begins messages and sends numbers without end, senders and bytes that are remembered stay within
     * the bounds; the oldest goes first. */
    (void)state;
    for (uint32_t sender = 1; sender <= 20000; sender++) {
        assert_true(take(sender, 0, 0, 10, 30000) == NORIA_ASSEMBLY_MORE);
        assert_true(assembly.bytes <= 100000);
        assert_true(assembly.count <= NORIA_MOST_SENDERS);
    }
    assert_int_equal(take(20000, 0, 10, 10, 30000), NORIA_ASSEMBLY_MORE);
    assert_int_equal(noria_assembly_end_source(&assembly, &assembly), 3);
    assert_int_equal(assembly.bytes, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pieces_of_many_do_not_mix),
        TEST(gaps_are_counted_exactly),
        TEST(a_message_begun_anew_is_that_one),
        TEST(pieces_out_of_place_make_no_message),
        TEST(memory_is_bounded),
    };
    return cmocka_run_group_tests_name("assembly", tests, NULL, NULL);
}
