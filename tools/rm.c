/* SPDX-License-Identifier: BSD-2-Clause */
/* noria rm: removes the names of channels, live ones only when forced to. */
#include <getopt.h>

#include <noria/inspect.h>

#include "command.h"

static int run_rm(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"force", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int force = 0;
    for (int option; (option = getopt_long(argc, argv, "fh", table, NULL)) != -1;) {
        if (option != 'f')
            return other_option(self, option);
        force = 1;
    }
    if (argc == optind)
        return wrong_usage(self, "at least one address is needed");
    int status = DONE;
    for (int i = optind; i < argc; i++) {
        if (noria_remove(argv[i], force) != 0)
            status = fail_detail();
    }
    return status;
}

const struct command rm_command = {
    .name = "rm",
    .synopsis = "rm ADDR... [--force]",
    .summary = "Removes channels; those in use are refused",
    .options = "  -f, --force               those in use too: open handles go on without a name\n",
    .run = run_rm,
};
