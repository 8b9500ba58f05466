/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a stream of bytes becomes messages and comes out the same.
 *
 *     line     One message per line, without its newline; the way out adds one. Any other byte passes, NUL
 *              too, and an empty line is an empty message. What follows the last newline of a file must not
 *              gain one on the way out: it is sent with a mark behind it, "\n\004", which no line can hold.
 *     length   Each message after its length, 32 bits, little-endian.
 *     raw      Pieces of a fixed size, the last one shorter; the way out adds nothing.
 */
#ifndef NORIA_TOOLS_FRAMING_H
#define NORIA_TOOLS_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing { FRAMING_LINE, FRAMING_LENGTH, FRAMING_RAW };

#define NO_NEWLINE_MARK "\n\004"
enum { NO_NEWLINE_MARK_SIZE = 2 };

/* A stream of messages. Only input_open and input_next touch it. */
struct input {
    int fd;
    enum framing framing;
    size_t max_message;
    size_t raw_size;
    unsigned char *buffer;
    size_t size, begin, end; /* what was read and not yet given out is buffer[begin..end) */
    uint64_t number;         /* of the message last asked for, from 1 */
    bool at_end;
};

struct message {
    const unsigned char *data; /* valid until the next call */
    size_t len;
    bool no_newline; /* send it with the mark */
};

/* 0 or -ENOMEM. */
int input_open(struct input *input, int fd, enum framing framing, size_t max_message, size_t raw_size);
/* 1: *message is the next one; 0: end of the stream; -EMSGSIZE: the next one is longer than max_message;
 * -EBADMSG: the stream ends inside a message; else -errno of read. */
int input_next(struct input *input, struct message *message);
void input_close(struct input *input);

/* Writes one message to the descriptor, wholly, past any buffer: once it returned 0, it is written. Else
 * -errno. */
int output_message(int fd, enum framing framing, const void *data, size_t len);

#endif
