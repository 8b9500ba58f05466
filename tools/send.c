/* SPDX-License-Identifier: BSD-2-Clause */
/* noria send: standard input or a file becomes messages. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "framing.h"
#include "geometry.h"
#include "quantity.h"

enum { DEFAULT_MAX_MESSAGE = 64 * 1024, DEFAULT_CAPACITY = 256 };

struct request {
    const char *address;
    const char *file; /* "-" is standard input */
    enum framing framing;
    uint64_t raw_size;
    uint32_t priority;
    int64_t timeout_ns;
    unsigned asked; /* options of the geometry on the command line, a bit each */
    struct noria_options options;
};

/* 0, or the exit status to end with. */
static int send_one(const struct request *request, noria_channel *channel, const struct message *message)
{
    const void *data = message->data;
    size_t len = message->len;
    unsigned char *marked = NULL;
    if (message->no_newline) {
        marked = malloc(len + NO_NEWLINE_MARK_SIZE);
        if (marked == NULL)
            return fail("there is no memory for a message of %zu bytes", len);
        memcpy(marked, data, len);
        memcpy(marked + len, NO_NEWLINE_MARK, NO_NEWLINE_MARK_SIZE);
        data = marked;
        len += NO_NEWLINE_MARK_SIZE;
    }
    int rc = noria_send_prio(channel, data, len, request->priority, request->timeout_ns);
    free(marked);
    return rc == 0 ? DONE : fail_detail();
}

static int fail_input(const struct request *request, const struct input *input, int error)
{
    bool lines = request->framing == FRAMING_LINE;
    if (error == -EMSGSIZE && request->framing == FRAMING_RAW)
        return fail("--raw %" PRIu64
                    " is more than the %zu bytes a message of '%s' may have; create the channel "
                    "with a larger --max-message",
                    request->raw_size, input->max_message, request->address);
    if (error == -EMSGSIZE)
        return fail("%s %" PRIu64
                    " is longer than the %zu bytes a message of '%s' may have; create the channel "
                    "with a larger --max-message%s",
                    lines ? "line" : "message", input->number, input->max_message, request->address,
                    lines ? ", or use --raw BYTES if lines do not matter" : "");
    if (error == -EBADMSG)
        return fail("the input ends in the middle of message %" PRIu64, input->number);
    return fail("'%s' cannot be read: %s", request->file, strerror(-error));
}

static int send_all(const struct request *request, noria_channel *channel, int fd)
{
    struct noria_stat stat = {.size = sizeof stat};
    if (noria_stat(channel, &stat) != 0)
        return fail_detail();
    struct input input;
    if (input_open(&input, fd, request->framing, stat.max_message, request->raw_size) != 0)
        return fail("there is no memory for messages of %" PRIu32 " bytes", stat.max_message);

    int status = DONE;
    struct message message;
    int got;
    while (status == DONE && (got = input_next(&input, &message)) != 0) {
        status = got < 0 ? fail_input(request, &input, got) : send_one(request, channel, &message);
    }
    input_close(&input);
    return status;
}

/* An existing channel is taken as it is, if it is what the command line asks for. What it is an observer finds out: the
 * end of a sender that has sent nothing yet would be the end of the stream for a receiver that waits. */
static int open_to_send(struct request *request, noria_channel **channel)
{
    int rc = open_as_it_is(channel, request->address, request->asked != 0 ? 0 : NORIA_SEND, &request->options);

    if (rc == 0 && request->asked != 0) {
        struct noria_stat stat = {.size = sizeof stat};
        rc = noria_stat(*channel, &stat);
        noria_close(*channel);
        if (rc != 0)
            return rc;
        ask_for_no_more(&request->options, request->asked, &stat);
        rc = -ENOENT; /* once more, so that the rest is compared */
    }
    return rc != -ENOENT ? rc : noria_open(channel, request->address, NORIA_SEND | NORIA_CREATE, &request->options);
}

static int send_request(struct request *request)
{
    int fd = STDIN_FILENO;
    if (strcmp(request->file, "-") != 0)
        fd = open(request->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail("'%s' cannot be opened: %s", request->file, strerror(errno));

    int status = FAILED;
    noria_channel *channel;
    if (open_to_send(request, &channel) == 0) {
        status = send_all(request, channel, fd);
        if (noria_close(channel) != 0 && status == DONE)
            status = fail_detail();
    } else {
        fail_detail();
    }
    if (fd != STDIN_FILENO)
        close(fd);
    return status;
}

/* 0, or the exit status to end with. */
static int take_option(const struct command *self, struct request *request, int option)
{
    int rc;
    if (option == 'l') {
        request->framing = FRAMING_LENGTH;
        return 0;
    } else if (option == 'r') {
        request->framing = FRAMING_RAW;
        rc = parse_size(optarg, &request->raw_size) != 0 || request->raw_size == 0;
    } else if (option == 'F') {
        request->options.foreign = 1;
        return 0;
    } else if (option == 'p') {
        rc = parse_size32(optarg, &request->priority);
    } else if (option == 't') {
        rc = parse_duration_ns(optarg, &request->timeout_ns);
    } else {
        request->asked |= ASKED(option);
        rc = set_geometry(&request->options, option, optarg);
    }
    return rc == 0 ? 0 : wrong_usage(self, "'%s' is not a value of that option", optarg);
}

static void set_defaults(struct request *request)
{
    *request = (struct request){.file = "-", .timeout_ns = -1};
    noria_options_init(&request->options);
    request->options.max_message = DEFAULT_MAX_MESSAGE;
    request->options.capacity = DEFAULT_CAPACITY;
    request->options.open_timeout_ns = OPEN_PATIENCE_NS;
}

static int run_send(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {{"length", no_argument, NULL, 'l'},
                                          {"raw", required_argument, NULL, 'r'},
                                          {"priority", required_argument, NULL, 'p'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {"foreign", no_argument, NULL, 'F'},
                                          GEOMETRY_OPTIONS,
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct request request;
    set_defaults(&request);
    bool max_message_given = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option == 'h' || option == '?')
            return other_option(self, option);
        int status = take_option(self, &request, option);
        if (status != 0)
            return status;
        max_message_given |= option == OPTION_MAX_MESSAGE;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return wrong_usage(self, "an address is needed, and at most one file");
    request.address = argv[optind];
    if (check_address(request.address) != DONE)
        return FAILED;
    if (argc - optind == 2)
        request.file = argv[optind + 1];
    if (!max_message_given && request.raw_size > DEFAULT_MAX_MESSAGE && request.raw_size <= UINT32_MAX)
        request.options.max_message = (uint32_t)request.raw_size;
    return send_request(&request);
}

const struct command send_command = {
    .name = "send",
    .synopsis = "send ADDR [FILE] [OPTION]...",
    .summary = "Sends each line of FILE or standard input as a message; makes the channel if it is missing",
    .options = "  --length                  each message comes after its length, 32 bits, little-endian\n"
               "  --raw BYTES               messages are pieces of so many bytes, the last one shorter\n"
               "  --priority N              at this level of a channel with priorities, highest first (0)\n"
               "  --timeout DURATION        give up when the channel is full so long (never)\n"
               "  --foreign                 also to a channel that another user has made\n" GEOMETRY_HELP(
                   "256", "64K"),
    .run = run_send,
};
