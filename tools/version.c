/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include "command.h"

static int run_version(const struct command *self, int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return wrong_usage(self, "it takes no arguments");
    printf("noria %s\n", NORIA_VERSION);
    return DONE;
}

const struct command version_command = {
    .name = "version",
    .synopsis = "version",
    .summary = "Says which version this is",
    .options = "",
    .run = run_version,
};
