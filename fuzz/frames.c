/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a receiver makes of a byte stream: frames, some of them cut, damaged, doubled or out of place, and rubbish
 * between them, cut into reads at any place. Claim: nothing outside of the bytes that came is read, nothing that does
 * not keep to the bounds is taken, memory is bounded, and a message that comes out whole is the one that its sender put
 * in.
 */
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assembly.h"
#include "crc32c.h"

void (*const fuzz_live)(unsigned, uint64_t) = NULL;

enum { PAGE = 64 }; /* where a pipe may cut */
enum { MOST_STREAM = 1 << 12, MOST_LENGTH = 300, MOST_TOTAL = 900, MOST_UNFINISHED = 6000, SENDERS = 5 };
static const struct noria_frame_limits limits = {MOST_LENGTH, MOST_TOTAL};

static uint8_t stream[MOST_STREAM];
static size_t stream_size;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static uint8_t byte_of(uint32_t sender, uint64_t sequence, uint32_t at)
{
    return (uint8_t)(sender * 31 + sequence * 7 + at);
}

/* A frame as a sender makes it, of any sender, message and place. */
static void append_frame(struct fuzz_input *input)
{
    struct noria_frame frame = {.flags = (uint8_t)fuzz_below(input, NORIA_FRAME_TAIL + 1),
                                .sender = fuzz_below(input, SENDERS),
                                .sequence = fuzz_below(input, 8),
                                .total = (uint32_t)(fuzz_word(input) % (MOST_TOTAL + 50))};
    uint8_t *to = stream + stream_size;
    uint32_t crc;

    if (fuzz_byte(input) % 16 == 0) {
        frame.flags = NORIA_FRAME_HELLO;
        frame.total = frame.sequence == 0; /* which makes it none */
    }
    frame.offset = frame.total != 0 && fuzz_byte(input) % 2 == 0
                       ? (uint32_t)(fuzz_word(input) % frame.total) / 100 * 100
                       : 0;
    frame.length = frame.total - frame.offset;
    frame.length = frame.length < 100 || fuzz_byte(input) % 4 == 0 ? frame.length : 100;
    frame.length = frame.length < MOST_LENGTH + 10 ? frame.length : MOST_LENGTH + 10;
    if (stream_size + noria_frame_size(&frame) > MOST_STREAM)
        return;
    noria_frame_seal(&frame, to);
    for (uint32_t i = 0; i < frame.length; i++)
        to[NORIA_FRAME_HEADER + i] = byte_of(frame.sender, frame.sequence, frame.offset + i);
    crc = frame.flags == NORIA_FRAME_CRC ? noria_crc32c(0, to, NORIA_FRAME_HEADER + frame.length)
                                        : noria_frame_tail(&frame);
    if (frame.flags != 0)
        memcpy(to + NORIA_FRAME_HEADER + frame.length, &crc, sizeof(crc));
    stream_size += noria_frame_size(&frame);
}

/* A frame that is cut where a pipe does that, if it is one that may be. */
static void append_cut_frame(struct fuzz_input *input)
{
    size_t before = stream_size, size, at;

    append_frame(input);
    size = stream_size - before;
    if (size == 0 || stream[before + 4] == 0)
        return;
    at = fuzz_below(input, 8) * (size_t)PAGE + (fuzz_byte(input) % 2 == 0 ? size % PAGE : 0);
    if (at < size)
        stream_size = before + at;
}

static void append_rubbish(struct fuzz_input *input)
{
    for (uint32_t n = fuzz_below(input, 80); n > 0 && stream_size < MOST_STREAM; n--)
        stream[stream_size++] = fuzz_byte(input);
}

/* Damage inside of frames makes messages whose bytes are not to be compared. */
static bool damage(struct fuzz_input *input)
{
    if (stream_size == 0)
        return false;
    stream[fuzz_word(input) % stream_size] ^= (uint8_t)(1u << fuzz_below(input, 8));
    return true;
}

static void check_message(const struct noria_frame *frame, const uint8_t *message)
{
    for (uint32_t i = 0; i < frame->total; i++)
        check(message[i] == byte_of(frame->sender, frame->sequence, i), "a message is the one that was sent");
}

/* Takes all that can be taken of `len` bytes. How many are left over. */
static size_t take_all(struct noria_assembly *assembly, const uint8_t *bytes, size_t len, const void *source,
                       bool compare)
{
    while (len > 0) {
        struct noria_frame frame;
        uint8_t *message = NULL;
        uint64_t lost = 0;
        int size = (int)noria_frame_find_cut(bytes, len, &limits, PAGE, &frame), rc;
        check(size == 0 || ((size_t)size + NORIA_FRAME_HEADER <= len && size >= NORIA_FRAME_HEADER),
              "a frame is cut where another one begins");
        check(size == 0 || noria_frame_size(&frame) == (size_t)size, "what is left of a cut frame ends there");
        if (size == NORIA_FRAME_HEADER) { /* nothing is left of it */
            bytes += size;
            len -= (size_t)size;
            continue;
        }
        if (size == 0)
            size = noria_frame_parse(bytes, len, &limits, &frame);
        if (size == 0)
            return len;
        rc = size < 0 ? -EBADMSG
                      : noria_assembly_take(assembly, &frame, bytes + NORIA_FRAME_HEADER, source, &message, &lost);
        check(size <= (int)len, "a frame is within what came");
        check(rc >= 0 || rc == -EBADMSG, "a documented result");
        if (rc == NORIA_ASSEMBLY_WHOLE && compare)
            check_message(&frame, bytes + NORIA_FRAME_HEADER);
        if (rc == NORIA_ASSEMBLY_DONE && compare)
            check_message(&frame, message);
        free(message);
        check(assembly->bytes <= MOST_UNFINISHED && assembly->count <= NORIA_MOST_SENDERS, "memory is bounded");
        size = rc < 0 ? (int)noria_frame_skip(bytes, len) : size;
        bytes += size;
        len -= (size_t)size;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    struct noria_assembly assembly = {.most_bytes = MOST_UNFINISHED};
    bool compare = true;
    size_t at = 0, left = 0;

    stream_size = 0;
    for (uint32_t steps = 0; steps < 60 && input.left > 0; steps++) {
        uint32_t what = fuzz_below(&input, 16);
        if (what < 9)
            append_frame(&input);
        else if (what < 11)
            append_cut_frame(&input);
        else if (what < 14)
            append_rubbish(&input);
        else
            compare &= !damage(&input);
    }
    while (at < stream_size) { /* in reads of any size, each in memory of exactly that size */
        size_t more = 1 + fuzz_byte(&input) * (size_t)(1 + fuzz_below(&input, 9));
        uint8_t *exact;
        if (more > stream_size - at)
            more = stream_size - at;
        at += more;
        exact = malloc(left + more);
        memcpy(exact, stream + at - left - more, left + more);
        left = take_all(&assembly, exact, left + more, &assembly.bytes, compare);
        free(exact);
    }
    noria_assembly_end_source(&assembly, &assembly.bytes);
    check(assembly.bytes == 0, "what has ended leaves nothing");
    noria_assembly_free(&assembly);
    return 0;
}
