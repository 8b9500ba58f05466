/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames as bytes: what is a frame and what is not, cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "frame.h"

static const struct noria_frame_limits limits = {1000, 5000, 0};

static size_t make(uint8_t *to, uint8_t flags, uint32_t length, uint32_t total, uint32_t offset)
{
    struct noria_frame frame = {.flags = flags,
                                .priority = 3,
                                .length = length,
                                .total = total,
                                .offset = offset,
                                .sender = 0x12345678,
                                .sequence = 77};
    uint32_t crc;

    noria_frame_seal(&frame, to);
    for (uint32_t i = 0; i < length; i++)
        to[NORIA_FRAME_HEADER + i] = (uint8_t)(i * 7);
    crc = noria_crc32c(0, to, NORIA_FRAME_HEADER + length);
    if (noria_frame_has_tail(&frame))
        memcpy(to + NORIA_FRAME_HEADER + length, &crc, sizeof(crc));
    return noria_frame_size(&frame);
}

/* Parses a copy of exactly so many bytes, so that reading beyond them is seen. */
static int parse(const uint8_t *bytes, size_t len, struct noria_frame *frame)
{
    uint8_t *exact = malloc(len + (len == 0));
    int rc;

    memcpy(exact, bytes, len);
    rc = noria_frame_parse(exact, len, &limits, frame);
    free(exact);
    return rc;
}

static void frames_come_back(void **state)
{
    /* Claim: what was sealed is parsed with the same fields, with and without CRC, whatever follows it. */
    uint8_t bytes[2048] = {0};

    (void)state;
    for (uint8_t flags = 0; flags < 2; flags++)
        for (uint32_t length = 0; length <= 1000; length += 1 + length / 3) {
            struct noria_frame frame = {0};
            size_t size = make(bytes, flags, length, length == 0 ? 0 : length + 5, length == 0 ? 0 : 2);
            assert_int_equal(parse(bytes, size + 9, &frame), size);
            assert_int_equal(frame.length, length);
            assert_int_equal(frame.sender, 0x12345678);
            assert_int_equal(frame.sequence, 77);
            assert_int_equal(frame.priority, 3);
        }
}

static void a_cut_frame_waits_for_more(void **state)
{
    /* Claim: cut at each byte 0 to n - 1 a frame is not taken and not refused, and the rest makes it whole. */
    uint8_t bytes[256];
    struct noria_frame frame;

    (void)state;
    for (uint8_t flags = 0; flags < 2; flags++) {
        size_t size = make(bytes, flags, 100, 100, 0);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(parse(bytes, cut, &frame), 0);
        assert_int_equal(parse(bytes, size, &frame), size);
    }
}

static void a_damaged_frame_is_none(void **state)
{
    /* Claim: a header of which one bit is another is -EBADMSG, and with a CRC so is a payload. */
    uint8_t bytes[256];
    struct noria_frame frame;

    (void)state;
    for (uint8_t flags = 0; flags < 2; flags++) {
        size_t size = make(bytes, flags, 60, 60, 0);
        for (size_t bit = 0; bit < 8 * (flags != 0 ? size : NORIA_FRAME_HEADER); bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(parse(bytes, size, &frame), -EBADMSG);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void descriptors_come_where_they_can(void **state)
{
    /* Claim: a frame that says it brings descriptors is one where some can come, if it is a whole message, or a greeting, and
     * says how many, up to the bound; with a CRC or without, not with a tail. Elsewhere it is none. */
    static const struct noria_frame_limits without = {1000, 5000, 0}, with = {1000, 5000, 16};
    static const struct {
        uint8_t flags;
        uint32_t length, total, count;
        bool is_one;
    } cases[] = {{NORIA_FRAME_FDS, 100, 100, 1, true},
                 {NORIA_FRAME_FDS | NORIA_FRAME_CRC, 100, 100, 16, true},
                 {NORIA_FRAME_FDS, 0, 0, 16, true},
                 {NORIA_FRAME_FDS | NORIA_FRAME_HELLO, 0, 0, 1, true},
                 {NORIA_FRAME_FDS | NORIA_FRAME_HELLO, 10, 10, 1, false},
                 {NORIA_FRAME_FDS | NORIA_FRAME_TAIL, 100, 100, 1, false},
                 {NORIA_FRAME_FDS, 100, 101, 1, false},
                 {NORIA_FRAME_FDS, 100, 100, 0, false},
                 {NORIA_FRAME_FDS, 100, 100, 17, false},
                 {NORIA_FRAME_FDS, 100, 100, UINT32_MAX, false},
                 {NORIA_FRAME_FDS | 16, 100, 100, 1, false}};
    uint8_t bytes[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct noria_frame frame;
        size_t size = make(bytes, cases[i].flags, cases[i].length, cases[i].total, cases[i].count);
        uint32_t tail;
        memcpy(&frame, bytes, sizeof(frame));
        tail = noria_frame_tail(&frame);
        if (noria_frame_has_tail(&frame) && (cases[i].flags & NORIA_FRAME_CRC) == 0)
            memcpy(bytes + size - sizeof(tail), &tail, sizeof(tail));
        assert_int_equal(size, NORIA_FRAME_HEADER + cases[i].length + (noria_frame_has_tail(&frame) ? 4 : 0));
        assert_int_equal(noria_frame_parse(bytes, size, &with, &frame), cases[i].is_one ? (int)size : -EBADMSG);
        assert_int_equal(noria_frame_parse(bytes, size, &without, &frame), -EBADMSG);
    }
}

static void sizes_are_bounded(void **state)
{
    /* Claim: a frame or message above the receiver's bounds, a piece outside of its message, and an empty piece of a
     * message that is not empty are refused as soon as the header is there. */
    static const uint32_t wrong[][3] = {{1001, 2000, 0},
                                        {10, 5001, 0},
                                        {10, 20, 11},
                                        {10, 9, 0},
                                        {10, 20, UINT32_MAX},
                                        {0, 1, 0},
                                        {UINT32_MAX, UINT32_MAX, 0},
                                        {0, 0, 1}};
    uint8_t bytes[NORIA_FRAME_HEADER];
    struct noria_frame frame;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct noria_frame bad = {.length = wrong[i][0], .total = wrong[i][1], .offset = wrong[i][2]};
        noria_frame_seal(&bad, bytes);
        assert_int_equal(parse(bytes, sizeof(bytes), &frame), -EBADMSG);
    }
}

static void a_greeting_is_nothing_else(void **state)
{
    /* Claim: a greeting is a header without lengths and its tail; one with a payload, or with other flags, is none. */
    uint8_t bytes[NORIA_FRAME_HEADER + NORIA_FRAME_TAIL_BYTES];
    struct noria_frame frame;

    (void)state;
    for (uint8_t flags = NORIA_FRAME_HELLO; flags < 8; flags++)
        for (uint32_t total = 0; total < 2; total++) {
            struct noria_frame hello = {.flags = flags, .total = total, .length = total, .sender = 5};
            uint32_t tail;
            noria_frame_seal(&hello, bytes);
            tail = noria_frame_tail(&hello);
            memcpy(bytes + NORIA_FRAME_HEADER, &tail, sizeof(tail));
            assert_int_equal(parse(bytes, sizeof(bytes), &frame),
                             flags == NORIA_FRAME_HELLO && total == 0 ? (int)sizeof(bytes) : -EBADMSG);
        }
}

static void the_next_frame_is_found(void **state)
{
    /* Claim: skipping from anywhere in rubbish leads to the next frame and never over one. */
    uint8_t bytes[512];
    struct noria_frame frame;
    size_t at = 0, size;

    (void)state;
    for (size_t i = 0; i < 200; i++)
        bytes[i] = (uint8_t) "NRF1NRFNN"[i % 9]; /* looks like it all the time */
    size = make(bytes + 200, 0, 50, 50, 0);
    while (at < 200) {
        assert_int_equal(parse(bytes + at, 200 + size - at, &frame), -EBADMSG);
        at += noria_frame_skip(bytes + at, 200 + size - at);
    }
    assert_int_equal(at, 200);
    assert_int_equal(parse(bytes + at, size, &frame), size);
}

static void a_cut_leaves_no_more_than_there_was(void **state)
{
    /* Claim: what is left of a frame that was cut, wherever its size lets that be, is no longer than its payload was, so
     * that no message grows; a cut in its tail, where no sender's is, is none. */
    enum { PAGE = 64 };
    uint8_t bytes[8 * PAGE];
    struct noria_frame frame, left;
    const struct noria_frame other = {.length = 10, .total = 10, .sender = 6};
    uint32_t found = 0;

    (void)state;
    for (uint32_t length = PAGE - NORIA_FRAME_HEADER; length < 4 * PAGE; length++)
        for (size_t at = NORIA_FRAME_HEADER; at < NORIA_FRAME_HEADER + length + NORIA_FRAME_TAIL_BYTES; at++) {
            size_t cut;
            memset(bytes, 0, sizeof(bytes));
            make(bytes, NORIA_FRAME_TAIL, length, length, 0);
            frame = other;
            noria_frame_seal(&frame, bytes + at);
            cut = noria_frame_find_cut(bytes, sizeof(bytes), &limits, PAGE, &left);
            assert_true(cut == 0 || cut == at);
            if (cut == 0)
                continue;
            found++;
            assert_true(left.length <= length && left.offset + left.length <= left.total);
            assert_int_equal(noria_frame_size(&left), at);
        }
    assert_true(found > 100);
}

static void the_crc_is_crc32c(void **state)
{
    /* Claim: the CRC is the one of RFC 3720 (B.4), and may be had in pieces. */
    uint8_t bytes[48] = {0};

    (void)state;
    assert_int_equal(noria_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(noria_crc32c(0, bytes, 32), 0x8a9136aa);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(noria_crc32c(0, bytes, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(noria_crc32c(noria_crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46dd794e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),        cmocka_unit_test(a_cut_frame_waits_for_more),
        cmocka_unit_test(a_damaged_frame_is_none), cmocka_unit_test(descriptors_come_where_they_can),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(the_next_frame_is_found), cmocka_unit_test(the_crc_is_crc32c),
        cmocka_unit_test(a_greeting_is_nothing_else), cmocka_unit_test(a_cut_leaves_no_more_than_there_was),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
