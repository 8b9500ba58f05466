/* SPDX-License-Identifier: BSD-2-Clause */
#include "framing.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PREFIX_SIZE = 4, READ_AHEAD = 256 * 1024 };

int input_open(struct input *input, int fd, enum framing framing, size_t max_message, size_t raw_size)
{
    *input = (struct input){.fd = fd, .framing = framing, .max_message = max_message, .raw_size = raw_size};
    input->size = max_message + PREFIX_SIZE + READ_AHEAD;
    input->buffer = malloc(input->size);
    return input->buffer == NULL ? -ENOMEM : 0;
}

void input_close(struct input *input)
{
    free(input->buffer);
    input->buffer = NULL;
}

static void wait_until_ready(int fd, short events)
{
    struct pollfd each = {.fd = fd, .events = events};
    poll(&each, 1, -1);
}

/* Reads once, whatever there is: a line typed on a terminal goes out at once. 1, 0 at the end, or -errno. */
static int read_more(struct input *input)
{
    if (input->at_end)
        return 0;
    memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
    input->end -= input->begin;
    input->begin = 0;
    for (;;) {
        ssize_t got = read(input->fd, input->buffer + input->end, input->size - input->end);
        if (got > 0) {
            input->end += (size_t)got;
            return 1;
        }
        if (got == 0) {
            input->at_end = true; /* asked once only: a terminal would go on after it */
            return 0;
        }
        if (errno == EAGAIN)
            wait_until_ready(input->fd, POLLIN);
        else if (errno != EINTR)
            return -errno;
    }
}

/* Gives out the next `len` bytes of the buffer and steps over `skipped` more. */
static int give(struct input *input, struct message *message, size_t len, size_t skipped)
{
    *message = (struct message){.data = input->buffer + input->begin, .len = len};
    input->begin += len + skipped;
    return 1;
}

/* What follows the last newline. If it is so long that the mark does not fit behind it, it goes in two
 * pieces. */
static int next_without_newline(struct input *input, struct message *message)
{
    size_t rest = input->end - input->begin;
    if (rest == 0)
        return 0;
    if (rest > input->max_message || input->max_message <= NO_NEWLINE_MARK_SIZE)
        return -EMSGSIZE;
    size_t room = input->max_message - NO_NEWLINE_MARK_SIZE;
    give(input, message, rest < room ? rest : room, 0);
    message->no_newline = true;
    return 1;
}

static int next_line(struct input *input, struct message *message)
{
    size_t searched = 0;
    for (;;) {
        size_t there = input->end - input->begin;
        const unsigned char *begin = input->buffer + input->begin;
        const unsigned char *newline = memchr(begin + searched, '\n', there - searched);
        if (newline != NULL && (size_t)(newline - begin) <= input->max_message)
            return give(input, message, (size_t)(newline - begin), 1);
        if (newline != NULL || there > input->max_message)
            return -EMSGSIZE;
        searched = there;
        int got = read_more(input);
        if (got <= 0)
            return got < 0 ? got : next_without_newline(input, message);
    }
}

/* Reads on until `len` bytes are there, or the end. 1: they are; 0: the stream ended before. */
static int gather(struct input *input, size_t len)
{
    while (input->end - input->begin < len) {
        int got = read_more(input);
        if (got <= 0)
            return got;
    }
    return 1;
}

static int next_with_length(struct input *input, struct message *message)
{
    int got = gather(input, PREFIX_SIZE);
    if (got <= 0)
        return got == 0 && input->end != input->begin ? -EBADMSG : got;
    const unsigned char *prefix = input->buffer + input->begin;
    size_t len =
        (size_t)prefix[0] | (size_t)prefix[1] << 8 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 24;
    if (len > input->max_message)
        return -EMSGSIZE;
    got = gather(input, PREFIX_SIZE + len);
    if (got <= 0)
        return got == 0 ? -EBADMSG : got;
    input->begin += PREFIX_SIZE;
    return give(input, message, len, 0);
}

static int next_piece(struct input *input, struct message *message)
{
    if (input->raw_size > input->max_message)
        return -EMSGSIZE;
    int got = gather(input, input->raw_size);
    if (got < 0)
        return got;
    size_t there = input->end - input->begin;
    if (there == 0)
        return 0;
    return give(input, message, there < input->raw_size ? there : input->raw_size, 0);
}

int input_next(struct input *input, struct message *message)
{
    input->number++;
    switch (input->framing) {
    case FRAMING_LENGTH:
        return next_with_length(input, message);
    case FRAMING_RAW:
        return next_piece(input, message);
    default:
        return next_line(input, message);
    }
}

/* Drops the first `done` bytes of the parts. */
static void step_over(struct iovec *parts, int n, size_t done)
{
    for (int i = 0; i < n && done > 0; i++) {
        size_t taken = done < parts[i].iov_len ? done : parts[i].iov_len;
        if (taken == 0)
            continue;
        parts[i].iov_base = (char *)parts[i].iov_base + taken;
        parts[i].iov_len -= taken;
        done -= taken;
    }
}

static int write_all(int fd, struct iovec *parts, int n)
{
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        ssize_t done = writev(fd, parts, n);
        if (done >= 0)
            step_over(parts, n, (size_t)done);
        else if (errno == EAGAIN)
            wait_until_ready(fd, POLLOUT);
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static bool ends_with_mark(const void *data, size_t len)
{
    return len >= NO_NEWLINE_MARK_SIZE && memcmp((const char *)data + len - NO_NEWLINE_MARK_SIZE,
                                                 NO_NEWLINE_MARK, NO_NEWLINE_MARK_SIZE) == 0;
}

int output_message(int fd, enum framing framing, const void *data, size_t len)
{
    unsigned char prefix[PREFIX_SIZE] = {len & 0xff, len >> 8 & 0xff, len >> 16 & 0xff, len >> 24 & 0xff};
    char newline = '\n';
    const struct iovec nothing = {.iov_base = NULL, .iov_len = 0};
    struct iovec body = {.iov_base = (void *)(uintptr_t)data, .iov_len = len}, parts[2] = {body, nothing};
    if (framing == FRAMING_LENGTH) {
        parts[0] = (struct iovec){.iov_base = prefix, .iov_len = PREFIX_SIZE};
        parts[1] = body;
    } else if (framing == FRAMING_LINE && ends_with_mark(data, len)) {
        parts[0].iov_len -= NO_NEWLINE_MARK_SIZE;
    } else if (framing == FRAMING_LINE) {
        parts[1] = (struct iovec){.iov_base = &newline, .iov_len = 1};
    }
    return write_all(fd, parts, 2);
}
