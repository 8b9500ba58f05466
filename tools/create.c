/* SPDX-License-Identifier: BSD-2-Clause */
/* noria create: makes a channel and leaves it for others to use. */
#include <stdlib.h>

#include "command.h"
#include "geometry.h"

static int create(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        GEOMETRY_OPTIONS, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct noria_options options;
    noria_options_init(&options);
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (!is_geometry_option(option))
            return other_option(self, option);
        if (set_geometry(&options, option, optarg) != 0)
            return wrong_usage(self, "'%s' is not a value of that option", optarg);
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address is needed");

    options.guard = 1;
    if (check_address(argv[optind]) != DONE)
        return FAILED;
    noria_channel *channel;
    if (noria_open(&channel, argv[optind], NORIA_CREATE | NORIA_EXCL, &options) != 0)
        return fail_detail();
    if (noria_close(channel) != 0)
        return fail_detail();
    return DONE;
}

const struct command create_command = {
    .name = "create",
    .synopsis = "create ADDR [OPTION]...",
    .summary = "Makes a channel; it stays until `noria rm`",
    .options = GEOMETRY_HELP("1024", "256"),
    .run = create,
};
