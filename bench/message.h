/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is in a message, and how the receiver knows that it is the right one.
 *
 * Word 0 is the tag: producer (16 bits) | sequence number (48 bits, from 1, so that 0 never occurs: one rival
 * uses it for "empty"). Word i is tag + i. The receiver adds up all words, so each byte is read, and a torn
 * message or one that mixes two laps has another sum.
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_INLINE static inline __attribute__((always_inline))

#define MESSAGE_END UINT64_MAX /* tag of the last message of an SPSC stream or a round trip */
#define MESSAGE_FIRST UINT64_C(1)

BENCH_INLINE uint64_t message_tag(uint32_t producer, uint64_t sequence)
{
    return (uint64_t)producer << 48 | sequence;
}

BENCH_INLINE uint32_t message_producer(uint64_t tag)
{
    return (uint32_t)(tag >> 48);
}

BENCH_INLINE uint64_t message_sequence(uint64_t tag)
{
    return tag & ((UINT64_C(1) << 48) - 1);
}

BENCH_INLINE void message_fill(uint8_t *where, size_t size, uint64_t tag)
{
    uint64_t *words = (uint64_t *)__builtin_assume_aligned(where, 8);

    for (size_t i = 0; i < size / 8; i++)
        words[i] = tag + i;
}

/* The tag, and whether every word belongs to it. */
BENCH_INLINE uint64_t message_read(const uint8_t *where, size_t size, bool *whole)
{
    const uint64_t *words = (const uint64_t *)__builtin_assume_aligned(where, 8);
    const uint64_t count = size / 8;
    uint64_t tag = words[0], sum = 0;

    for (size_t i = 0; i < size / 8; i++)
        sum += words[i];
    *whole = size == 8 || sum == count * tag + count * (count - 1) / 2;
    return tag;
}

/* Any set of tags leaves this sum behind, whoever received them in whatever order. */
BENCH_INLINE uint64_t message_scramble(uint64_t tag)
{
    uint64_t mixed = tag * UINT64_C(0x9e3779b97f4a7c15);

    return mixed ^ mixed >> 29;
}

#endif
