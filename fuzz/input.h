/* SPDX-License-Identifier: BSD-2-Clause */
/* The bytes a fuzz target is given, read as numbers. Behind the end there are zeros without end. */
#ifndef NORIA_FUZZ_INPUT_H
#define NORIA_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

/* A number below `below`, which is at most 256. */
static inline uint32_t fuzz_below(struct fuzz_input *input, uint32_t below)
{
    return fuzz_byte(input) % below;
}

static inline uint64_t fuzz_word(struct fuzz_input *input)
{
    uint64_t word = 0;

    for (int i = 0; i < 8; i++)
        word = word << 8 | fuzz_byte(input);
    return word;
}

#endif
