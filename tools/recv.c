/* SPDX-License-Identifier: BSD-2-Clause */
/* noria recv: messages go to standard output; one that can be held is written out before it is released. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "framing.h"
#include "geometry.h"
#include "quantity.h"

struct request {
    const char *address;
    enum framing framing;
    uint64_t count;
    bool follow;
    int64_t timeout_ns;
    struct noria_options options;
};

/* An open channel. */
struct source {
    noria_channel *channel;
    bool in_place;         /* messages can be written out before they are released */
    bool keeps_one;        /* the latest value */
    unsigned char *buffer; /* of the others */
    size_t room;
};

enum { LOOK_AGAIN_MS = 50 };

/* A message that was not written is not released: closing the channel gives it to another receiver. */
static int receive_in_place(const struct request *request, noria_channel *channel, struct noria_info *info)
{
    struct noria_span span;
    int rc = noria_peek(channel, &span, request->timeout_ns, info);
    if (rc == -EPIPE)
        return rc;
    if (rc < 0) {
        fail_detail();
        return rc;
    }
    rc = output_message(STDOUT_FILENO, request->framing, span.data, span.len);
    if (rc != 0) {
        fail("standard output cannot be written: %s; the message stays in '%s'", strerror(-rc),
             request->address);
        return rc == -EPIPE ? -EIO : rc; /* not to be taken for the end of the stream */
    }
    rc = noria_release(channel, &span);
    if (rc < 0)
        fail_detail();
    return rc < 0 ? rc : 0;
}

/* Where a message is not the receiver's to hold. */
static int receive_copy(const struct request *request, const struct source *source, struct noria_info *info)
{
    ssize_t len = noria_recv(source->channel, source->buffer, source->room, request->timeout_ns, info);
    if (len == -EPIPE)
        return -EPIPE;
    if (len < 0) {
        fail_detail();
        return (int)len;
    }
    int rc = output_message(STDOUT_FILENO, request->framing, source->buffer, (size_t)len);
    if (rc != 0)
        fail("standard output cannot be written: %s", strerror(-rc));
    return rc == -EPIPE ? -EIO : rc; /* not to be taken for the end of the stream */
}

static int receive_one(struct request *request, const struct source *source)
{
    struct noria_info info;
    int rc = source->in_place ? receive_in_place(request, source->channel, &info)
                              : receive_copy(request, source, &info);
    if (rc == 0 && request->follow) { /* with a new handle, too; of broadcast channels only */
        request->options.start = NORIA_START_POSITION;
        request->options.start_position = info.sequence + 1;
    }
    return rc;
}

static int open_source(const struct request *request, struct source *source)
{
    struct noria_stat stat = {.size = sizeof stat};
    *source = (struct source){0};
    int rc = open_as_it_is(&source->channel, request->address, NORIA_RECV, &request->options);
    if (rc == 0)
        rc = noria_stat(source->channel, &stat);
    if (rc != 0) {
        fail_detail();
        return rc;
    }
    source->in_place = (stat.abilities & NORIA_CAN_ZERO_COPY) != 0;
    source->keeps_one = stat.full == NORIA_FULL_OVERWRITE_OLDEST && stat.capacity == 1;
    source->room = stat.max_message;
    source->buffer = malloc(source->room + 1);
    if (source->buffer == NULL)
        fail("there is no memory for messages of %zu bytes", source->room);
    return source->buffer == NULL ? -ENOMEM : 0;
}

static void close_source(struct source *source)
{
    noria_close(source->channel);
    free(source->buffer);
}

/* Receives until the end of the stream (0), the wanted count (0) or a failure. */
static int receive_stream(struct request *request, uint64_t *left)
{
    const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
    struct source source;
    int rc = open_source(request, &source);
    while (rc == 0 && *left > 0) {
        rc = receive_one(request, &source);
        *left -= rc == 0;
        /* A new handle would be given the latest value once more. */
        for (; rc == -EPIPE && request->follow && source.keeps_one; rc = 0)
            nanosleep(&pause, NULL);
    }
    close_source(&source);
    return rc == -EPIPE ? 0 : rc;
}

/* A handle that has seen the end of a stream says so at once each time; a new one waits for the next sender.
 */
static int receive_request(struct request *request)
{
    uint64_t left = request->count;
    int rc;
    do {
        rc = receive_stream(request, &left);
    } while (rc == 0 && request->follow && left > 0);
    return rc == 0 ? DONE : FAILED;
}

static int parse_start(const char *text, struct noria_options *options)
{
    static const char *const words[] = {"now", "oldest", NULL};
    if (parse_word(text, words, &options->start) == 0)
        return 0;
    options->start = NORIA_START_POSITION;
    return parse_size(text, &options->start_position);
}

/* In `recv ADDR --raw 4096` the size says nothing, but whoever wrote it for send may write it here. */
static void skip_raw_size(int argc, char **argv)
{
    uint64_t size;
    if (optarg == NULL && optind < argc && parse_size(argv[optind], &size) == 0)
        optind++;
}

/* 0, or the exit status to end with. */
static int take_option(const struct command *self, struct request *request, int option)
{
    int rc = 0;
    if (option == 'l')
        request->framing = FRAMING_LENGTH;
    else if (option == 'r')
        request->framing = FRAMING_RAW;
    else if (option == 'f')
        request->follow = true;
    else if (option == 'c')
        rc = parse_size(optarg, &request->count);
    else if (option == 't')
        rc = parse_duration_ns(optarg, &request->timeout_ns);
    else if (option == 's')
        rc = parse_start(optarg, &request->options);
    else if (option == 'F')
        request->options.foreign = 1;
    else
        rc = parse_duration_ns(optarg, &request->options.wait_create_ns);
    return rc == 0 ? 0 : wrong_usage(self, "'%s' is not a value of that option", optarg);
}

static int run_recv(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {{"length", no_argument, NULL, 'l'},
                                          {"raw", optional_argument, NULL, 'r'},
                                          {"count", required_argument, NULL, 'c'},
                                          {"follow", no_argument, NULL, 'f'},
                                          {"start", required_argument, NULL, 's'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"foreign", no_argument, NULL, 'F'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct request request = {.count = UINT64_MAX, .timeout_ns = -1};
    noria_options_init(&request.options);
    request.options.wait_create_ns = INT64_C(5000000000);
    request.options.open_timeout_ns = OPEN_PATIENCE_NS;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option == 'h' || option == '?')
            return other_option(self, option);
        int status = take_option(self, &request, option);
        if (status != 0)
            return status;
        if (option == 'r')
            skip_raw_size(argc, argv);
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address is needed");
    request.address = argv[optind];
    if (check_address(request.address) != DONE)
        return FAILED;
    return receive_request(&request);
}

const struct command recv_command = {
    .name = "recv",
    .synopsis = "recv ADDR [OPTION]...",
    .summary = "Writes messages to standard output, one per line, until all senders have left",
    .options = "  --length                  each message after its length, 32 bits, little-endian\n"
               "  --raw                     each message as it is, with nothing added\n"
               "  --count N                 end after N messages\n"
               "  --follow                  do not end when the senders have left; wait for the next one\n"
               "  --start now|oldest|N      of a broadcast channel: where to begin; N counts messages (now)\n"
               "  --timeout DURATION        fail when no message comes for so long (never)\n"
               "  --wait DURATION           wait so long for a channel that is not there yet (5s)\n"
               "  --foreign                 also from a channel that another user has made\n",
    .run = run_recv,
};
