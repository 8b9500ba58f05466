/* SPDX-License-Identifier: BSD-2-Clause */
/* noria bridge: messages from one channel into another, whatever carries them. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <noria/noria.h>

#include "command.h"
#include "geometry.h"

static int carry(noria_channel *from, noria_channel *to, const char *const *addresses, bool quiet)
{
    struct noria_bridge_counts counts = {0};
    struct noria_stat stat = {.size = sizeof stat};
    if (noria_stat(from, &stat) != 0)
        return fail_detail();
    if (!quiet)
        fprintf(stderr, "noria bridge: %s to %s, %s\n", addresses[0], addresses[1],
                stat.abilities & NORIA_CAN_REDELIVER ? "each message at least once"
                                                     : "each message at most once: the source cannot deliver again");
    int rc = noria_bridge(from, to, &counts);
    int status = rc == 0 ? DONE : fail_detail();
    if (counts.kept != NULL) /* the source cannot take it back, and this process ends */
        fprintf(stderr, "noria bridge: one message of %" PRIu32 " bytes had left the source and is lost\n",
                counts.kept_info.size);
    free(counts.kept);
    if (!quiet)
        fprintf(stderr,
                "noria bridge: %" PRIu64 " messages, %" PRIu64 " bytes, %" PRIu64 " redelivered, %" PRIu64
                " lost before\n",
                counts.messages, counts.bytes, counts.redelivered, counts.lost);
    if (counts.without_fds != 0)
        fprintf(stderr, "noria bridge: %" PRIu64 " messages brought descriptors, which were closed: a bridge passes none on\n",
                counts.without_fds);
    return status;
}

static int run_bridge(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"quiet", no_argument, NULL, 'q'}, {"foreign", no_argument, NULL, 'F'}, GEOMETRY_OPTIONS,
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct noria_options options;
    bool quiet = false;
    noria_options_init(&options);
    options.max_message = 64 * 1024;
    options.capacity = 256;
    options.open_timeout_ns = OPEN_PATIENCE_NS;
    for (int option; (option = getopt_long(argc, argv, "qh", table, NULL)) != -1;) {
        if (option == 'q')
            quiet = true;
        else if (option == 'F')
            options.foreign = 1;
        else if (!is_geometry_option(option))
            return other_option(self, option);
        else if (set_geometry(&options, option, optarg) != 0)
            return wrong_usage(self, "'%s' is not a value of that option", optarg);
    }
    if (argc - optind != 2)
        return wrong_usage(self, "two addresses are needed: where messages come from and where they go");
    const char *addresses[2] = {argv[optind], argv[optind + 1]};
    if (check_address(addresses[0]) != DONE || check_address(addresses[1]) != DONE)
        return FAILED;
    noria_channel *from, *to;
    struct noria_options source = options;
    source.wait_create_ns = OPEN_PATIENCE_NS;
    if (open_as_it_is(&from, addresses[0], NORIA_RECV, &source) != 0)
        return fail_detail();
    int rc = open_as_it_is(&to, addresses[1], NORIA_SEND, &options);
    if (rc == -ENOENT)
        rc = noria_open(&to, addresses[1], NORIA_SEND | NORIA_CREATE, &options);
    int status = rc == 0 ? carry(from, to, addresses, quiet) : fail_detail();
    if (rc == 0 && noria_close(to) != 0 && status == DONE)
        status = fail_detail();
    noria_close(from);
    return status;
}

const struct command bridge_command = {
    .name = "bridge",
    .synopsis = "bridge FROM TO [OPTION]...",
    .summary = "Receives from one channel and sends to another until the first one's senders have left",
    .options = "  --quiet                   no counts on standard error\n"
               "  --foreign                 also with channels that another user has made\n" GEOMETRY_HELP(
                   "256", "64K"),
    .run = run_bridge,
};
