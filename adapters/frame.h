/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames: how a message travels where there is no shared memory (docs/FRAMES.md). A message is one frame, or, if it is
 * longer than what goes out at once, several, each with its place in the message. Every frame says of whom and of which
 * message it is, so that many writers of one pipe may interleave frames as they like.
 *
 *     0  magic     "NRF1"               4 bytes
 *     4  flags     CRC, TAIL, HELLO, FDS 1 byte
 *     5  priority                       1 byte
 *     6  check     of the other 30      2 bytes
 *     8  length    of what follows      4 bytes
 *    12  total     of the message       4 bytes
 *    16  offset    in the message       4 bytes; with FDS the number of descriptors
 *    20  sender    number of the handle 4 bytes
 *    24  sequence  of its messages      8 bytes
 *    32  `length` bytes of the message, then with CRC the CRC32C of all before it, 4 bytes, with TAIL or HELLO a
 *        word that follows from the header
 *
 * HELLO brings no message: a sender is there, or, by the sequence NORIA_FRAME_RECEIVER, somebody who wants messages.
 * FDS: descriptors come with the first byte; only a whole message, or HELLO, brings some.
 */
#ifndef NORIA_FRAME_H
#define NORIA_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NORIA_FRAME_MAGIC UINT32_C(0x3146524e) /* "NRF1" */

enum { NORIA_FRAME_HEADER = 32, NORIA_FRAME_TAIL_BYTES = 4 };
enum { NORIA_FRAME_CRC = 1, NORIA_FRAME_TAIL = 2, NORIA_FRAME_HELLO = 4 }; /* flags, one of them at most, */
enum { NORIA_FRAME_FDS = 8 };                                              /* and this one with or without CRC or HELLO */
enum { NORIA_FRAME_SENDER = 0, NORIA_FRAME_RECEIVER = 1 };                 /* sequence of HELLO: who says it */
enum { NORIA_FRAME_HELLO_BYTES = NORIA_FRAME_HEADER + NORIA_FRAME_TAIL_BYTES };

/* As it stands in a frame: little-endian, which all machines are that noria is built for. */
struct noria_frame {
    uint32_t magic;
    uint8_t flags, priority;
    uint16_t check;
    uint32_t length, total, offset, sender;
    uint64_t sequence;
};
_Static_assert(sizeof(struct noria_frame) == NORIA_FRAME_HEADER, "no padding");
_Static_assert(offsetof(struct noria_frame, length) == 8 && offsetof(struct noria_frame, sequence) == 24, "as drawn");

/* Of a header as the four words that it is. */
static inline uint64_t noria_frame_sum_of(uint64_t first, uint64_t second, uint64_t third, uint64_t fourth)
{
    const uint64_t words[4] = {first & ~(UINT64_C(0xffff) << 48) /* the check itself */, second, third, fourth};
    uint64_t sum = 0;

    for (int i = 0; i < 4; i++) {
        sum = (sum ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 32;
    }
    return sum;
}

static inline uint64_t noria_frame_sum(const struct noria_frame *frame)
{
    uint64_t words[4];

    memcpy(words, frame, sizeof(words));
    return noria_frame_sum_of(words[0], words[1], words[2], words[3]);
}

/* The check of a header: tells it from message bytes that merely look like one, and a damaged one from a good one. */
static inline uint16_t noria_frame_check(const struct noria_frame *frame)
{
    return (uint16_t)(noria_frame_sum(frame) >> 16);
}

/* What ends a frame that may be cut: whatever else came behind the cut is not this. */
static inline uint32_t noria_frame_tail(const struct noria_frame *frame)
{
    return (uint32_t)(noria_frame_sum(frame) >> 32);
}

static inline bool noria_frame_is_whole(const struct noria_frame *frame)
{
    return frame->length == frame->total;
}

/* A piece of a message, and nothing else. */
static inline bool noria_frame_is_plain(const struct noria_frame *frame)
{
    return __builtin_expect(frame->flags <= NORIA_FRAME_TAIL, 1);
}

/* Whether four bytes more follow the payload. */
static inline bool noria_frame_has_tail(const struct noria_frame *frame)
{
    return (frame->flags & ~NORIA_FRAME_FDS) != 0;
}

/* Of the frame on the way, all that belongs to it. */
static inline size_t noria_frame_size(const struct noria_frame *frame)
{
    return NORIA_FRAME_HEADER + (size_t)frame->length + (noria_frame_has_tail(frame) ? NORIA_FRAME_TAIL_BYTES : 0);
}

/* Fills in magic and check of a header whose other fields are set, and writes it. By words: read as such, what was just
 * stored field by field would have to reach the cache first. */
static inline void noria_frame_seal(struct noria_frame *frame, uint8_t *to)
{
    uint64_t first = NORIA_FRAME_MAGIC | (uint64_t)frame->flags << 32 | (uint64_t)frame->priority << 40;
    uint64_t second = frame->length | (uint64_t)frame->total << 32;
    uint64_t third = frame->offset | (uint64_t)frame->sender << 32;
    uint64_t sum = noria_frame_sum_of(first, second, third, frame->sequence);
    uint64_t words[4] = {first | (sum >> 16 & 0xffff) << 48, second, third, frame->sequence};

    memcpy(to, words, sizeof(words));
    frame->magic = NORIA_FRAME_MAGIC;
    frame->check = (uint16_t)(sum >> 16);
}

/* Writes NORIA_FRAME_HELLO_BYTES, which go with `fds` descriptors. */
static inline void noria_frame_greet(uint32_t number, uint64_t who, uint32_t fds, uint8_t *to)
{
    struct noria_frame hello = {.flags = (uint8_t)(NORIA_FRAME_HELLO | (fds != 0 ? NORIA_FRAME_FDS : 0)),
                                .offset = fds, .sender = number, .sequence = who};
    uint32_t tail;

    noria_frame_seal(&hello, to);
    tail = noria_frame_tail(&hello);
    memcpy(to + NORIA_FRAME_HEADER, &tail, sizeof(tail));
}

/* What a receiver takes: more is not a frame for it. Checked before anything is allocated or waited for. */
struct noria_frame_limits {
    uint32_t most_length; /* of one frame */
    uint32_t most_total;  /* of a message */
    uint32_t most_fds;    /* with a message; 0: none can come */
};

static inline bool noria_frame_has_a_place(const struct noria_frame *frame)
{
    return frame->offset <= frame->total && frame->length <= frame->total - frame->offset;
}

/* A greeting, or a whole message, that brings descriptors, as many as may come. */
static inline bool noria_frame_may_bring_fds(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    uint8_t kind = frame->flags & (uint8_t)~NORIA_FRAME_FDS;

    return (kind <= NORIA_FRAME_CRC || (kind == NORIA_FRAME_HELLO && frame->total == 0)) &&
           noria_frame_is_whole(frame) && frame->offset > 0 && frame->offset <= limits->most_fds;
}

static inline bool noria_frame_is_of_a_kind(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    if (noria_frame_is_plain(frame))
        return noria_frame_has_a_place(frame);
    if (frame->flags == NORIA_FRAME_HELLO)
        return frame->total == 0 && noria_frame_has_a_place(frame);
    return (frame->flags & NORIA_FRAME_FDS) != 0 && noria_frame_may_bring_fds(frame, limits);
}

static inline bool noria_frame_is_plausible(const struct noria_frame *frame, const struct noria_frame_limits *limits)
{
    return frame->magic == NORIA_FRAME_MAGIC && frame->length <= limits->most_length &&
           frame->total <= limits->most_total && noria_frame_is_of_a_kind(frame, limits) &&
           (frame->length > 0 || frame->total == 0) && frame->check == noria_frame_check(frame);
}

/*
 * Reads the frame at the beginning of bytes of a stranger. Its size: it stands there whole, and its payload behind the
 * header; 0: it may be one, more bytes are needed; -EBADMSG: what stands there is none.
 */
int noria_frame_parse(const uint8_t *bytes, size_t len, const struct noria_frame_limits *limits,
                      struct noria_frame *frame);

/*
 * A frame with TAIL, of more than PIPE_BUF bytes, that is put into a pipe in one write may be cut when the pipe is
 * full, and another writer's frame stands behind what went in. Linux cuts at whole pages: counted from the frame's
 * beginning, or from where its last, incomplete page has gone in first, to fill up a page that was there. So there are
 * few such places, and senders see to it that no payload looks like a frame there. What went in is a frame of the
 * message, a shorter one.
 */

/* Whether bytes at such a place of a frame of `size` bytes could be taken for another frame's beginning. */
bool noria_frame_is_ambiguous(const struct noria_frame *frame, const uint8_t *payload, size_t page);
/* Whether there is a reason to look where. */
static inline bool noria_frame_may_be_cut(const uint8_t *bytes, size_t len)
{
    return len >= NORIA_FRAME_HEADER && bytes[offsetof(struct noria_frame, flags)] == NORIA_FRAME_TAIL;
}
/* Where the frame at the beginning of the bytes was cut, by the frame that stands there, and what is left of it; 0: as
 * far as the bytes go it was not. */
size_t noria_frame_find_cut(const uint8_t *bytes, size_t len, const struct noria_frame_limits *limits, size_t page,
                            struct noria_frame *left);

/* How many bytes from the beginning on, at least 1, cannot be the beginning of a frame. */
size_t noria_frame_skip(const uint8_t *bytes, size_t len);

#endif
