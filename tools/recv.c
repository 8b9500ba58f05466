/* SPDX-License-Identifier: BSD-2-Clause */
/* noria recv: messages go to standard output, each written out before it is released. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
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

/* A message that was not written is not released: closing the channel gives it to another receiver. */
static int receive_one(const struct request *request, noria_channel *channel)
{
    struct noria_span span;
    int rc = noria_peek(channel, &span, request->timeout_ns, NULL);
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

/* Receives until the end of the stream (0), the wanted count (0) or a failure. */
static int receive_stream(const struct request *request, uint64_t *left)
{
    noria_channel *channel;
    int rc = open_as_it_is(&channel, request->address, NORIA_RECV, &request->options);
    if (rc != 0) {
        fail_detail();
        return rc;
    }
    while (rc == 0 && *left > 0) {
        rc = receive_one(request, channel);
        *left -= rc == 0;
    }
    noria_close(channel);
    return rc == -EPIPE ? 0 : rc;
}

/* A handle that has seen the end of a stream says so at once each time; a new one waits for the next sender.
 */
static int receive_request(const struct request *request)
{
    uint64_t left = request->count;
    int rc;
    do {
        rc = receive_stream(request, &left);
    } while (rc == 0 && request->follow && left > 0);
    return rc == 0 ? DONE : FAILED;
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
                                          {"timeout", required_argument, NULL, 't'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"foreign", no_argument, NULL, 'F'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct request request = {.count = UINT64_MAX, .timeout_ns = -1};
    noria_options_init(&request.options);
    request.options.wait_create_ns = INT64_C(5000000000);
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
               "  --timeout DURATION        fail when no message comes for so long (never)\n"
               "  --wait DURATION           wait so long for a channel that is not there yet (5s)\n"
               "  --foreign                 also from a channel that another user has made\n",
    .run = run_recv,
};
