/* SPDX-License-Identifier: BSD-2-Clause */
#include "demo.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *who)
{
    fprintf(stderr, "demo: %s %s\n", who, noria_detail());
    return 1;
}

static int fail_file(const char *who)
{
    fprintf(stderr, "demo: %s %s\n", who, strerror(errno));
    return 1;
}

void channel_options(const struct pass *pass, int which, struct noria_options *options)
{
    noria_options_init(options);
    options->kind = pass->kind;
    options->capacity = 64;
    options->max_message = which == DATA ? sizeof(struct chunk) : sizeof(uint64_t);
}

static int open_end(const struct pass *pass, int which, int flags, noria_channel **channel)
{
    struct noria_options options;
    channel_options(pass, which, &options);
    return noria_open(channel, pass->names[which], flags, &options);
}

static size_t bytes_of_chunk(const struct pass *pass, uint64_t number)
{
    uint64_t offset = number * CHUNK;
    return number >= pass->chunks ? 0 : pass->bytes - offset < CHUNK ? (size_t)(pass->bytes - offset) : CHUNK;
}

/* Reads the chunk from the file straight into the ring. */
static int send_chunk(const struct pass *pass, noria_channel *data, uint64_t number)
{
    struct noria_span span;
    size_t len = bytes_of_chunk(pass, number);
    if (noria_reserve(data, sizeof(struct chunk), &span, -1) < 0)
        return fail("producer:");
    struct chunk *chunk = span.data;
    chunk->number = number;
    if (len > 0 && !read_fully(pass->input, chunk->bytes, len, number * CHUNK))
        return fail_file("input:");
    if (noria_commit(data, &span, offsetof(struct chunk, bytes) + len, -1) < 0)
        return fail("producer:");
    return 0;
}

/* The order is released when its chunk is committed: who dies before leaves it to a successor. */
int produce(const struct pass *pass)
{
    noria_channel *orders, *data;
    if (open_end(pass, ORDERS, NORIA_RECV, &orders) != 0 || open_end(pass, DATA, NORIA_SEND, &data) != 0)
        return fail("producer:");
    uint64_t number = 0;
    while (number != GO_HOME) {
        struct noria_span order;
        if (noria_peek(orders, &order, -1, NULL) < 0)
            return fail("producer:");
        memcpy(&number, order.data, sizeof number);
        if (send_chunk(pass, data, number) != 0)
            return 1;
        if (noria_release(orders, &order) < 0)
            return fail("producer:");
    }
    return noria_close(data) != 0 || noria_close(orders) != 0 ? fail("producer:") : 0;
}

static int write_chunk(const struct pass *pass, const struct noria_span *span, uint64_t *number)
{
    const struct chunk *chunk = span->data;
    *number = chunk->number;
    size_t len = bytes_of_chunk(pass, *number);
    if ((*number >= pass->chunks && *number != GO_HOME) || span->len != offsetof(struct chunk, bytes) + len) {
        fprintf(stderr, "demo: consumer: a message that nobody sent\n");
        return 1;
    }
    if (len > 0 && !write_fully(pass->output, chunk->bytes, len, *number * CHUNK))
        return fail_file("output:");
    return 0;
}

/* The next chunk. End of stream means here that all producers were just killed; a new handle waits. */
static int next_chunk(const struct pass *pass, noria_channel **data, struct noria_span *span)
{
    int rc;
    while ((rc = noria_peek(*data, span, -1, NULL)) == -EPIPE) {
        noria_close(*data);
        if (open_end(pass, DATA, NORIA_RECV, data) != 0)
            return fail("consumer:");
    }
    return rc < 0 ? fail("consumer:") : 0;
}

/* The chunk is released when it is written and reported. */
int consume(const struct pass *pass)
{
    noria_channel *data, *done;
    if (open_end(pass, DATA, NORIA_RECV, &data) != 0 || open_end(pass, DONE, NORIA_SEND, &done) != 0)
        return fail("consumer:");
    uint64_t number = 0;
    while (number != GO_HOME) {
        struct noria_span span;
        if (next_chunk(pass, &data, &span) != 0 || write_chunk(pass, &span, &number) != 0)
            return 1;
        if (number != GO_HOME && noria_send(done, &number, sizeof number, -1) < 0)
            return fail("consumer:");
        if (noria_release(data, &span) < 0)
            return fail("consumer:");
    }
    return noria_close(done) != 0 || noria_close(data) != 0 ? fail("consumer:") : 0;
}
