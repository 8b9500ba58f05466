/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include "command.h"

static int run_help(const struct command *self, int argc, char **argv)
{
    if (argc > 2)
        return wrong_usage(self, "one command can be asked for");
    if (argc == 2) {
        const struct command *command = find_command(argv[1]);
        if (command == NULL)
            return wrong_usage(self, "there is no command '%s'", argv[1]);
        print_help(command);
        return DONE;
    }
    puts("noria: messages between processes through shared memory\n");
    for (const struct command *const *each = commands; *each != NULL; each++)
        printf("  %-8s %s\n", (*each)->name, (*each)->summary);
    puts("\nAn address is shm:/NAME, or, without shared memory, fifo:/PATH, unix:/PATH, tcp:HOST:PORT, mq:/NAME,\n"
         "svmq:KEY or fd:N. Sizes take K, M, G; durations are like 500ms, 2s.\n"
         "`noria help COMMAND` lists its options. Exit status: 0 done, 1 failed, 2 wrong usage.");
    return DONE;
}

const struct command help_command = {
    .name = "help",
    .synopsis = "help [COMMAND]",
    .summary = "Lists the commands, or the options of one",
    .options = "",
    .run = run_help,
};
