/* SPDX-License-Identifier: BSD-2-Clause */
/* noria, the command: finds the subcommand in a table and runs it. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <noria/noria.h>

#include "command.h"

const struct command *const commands[] = {&create_command, &send_command,    &recv_command, &ls_command,
                                          &stat_command,   &who_command,     &rm_command,   &size_command,
                                          &dump_command,   &fsck_command,    &gc_command,   &doctor_command,
                                          &help_command,   &version_command, NULL};

const struct command *find_command(const char *name)
{
    for (const struct command *const *each = commands; *each != NULL; each++) {
        if (strcmp((*each)->name, name) == 0)
            return *each;
    }
    return NULL;
}

int fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("noria: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return FAILED;
}

int fail_detail(void)
{
    return fail("%s", noria_detail());
}

int wrong_usage(const struct command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "noria %s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nusage: noria %s\n", command->synopsis);
    va_end(arguments);
    return WRONG_USAGE;
}

void print_help(const struct command *command)
{
    printf("usage: noria %s\n%s.\n%s", command->synopsis, command->summary, command->options);
}

int other_option(const struct command *command, int option)
{
    if (option == 'h') {
        print_help(command);
        return DONE;
    }
    fprintf(stderr, "usage: noria %s\n", command->synopsis);
    return WRONG_USAGE;
}

static int run(const struct command *command, int argc, char **argv)
{
    char name[32];
    snprintf(name, sizeof name, "noria %s", command->name);
    argv[0] = name; /* as getopt_long begins its own sentences */
    int status = DONE;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) /* those without options take it, too */
        print_help(command);
    else
        status = command->run(command, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (status == DONE)
            status = fail("standard output cannot be written: %s", strerror(errno));
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: noria COMMAND ...; `noria help` lists the commands\n", stderr);
        return WRONG_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    const struct command *command = find_command(name);
    if (command == NULL) {
        fprintf(stderr, "noria: there is no command '%s'; `noria help` lists them\n", name);
        return WRONG_USAGE;
    }
    return run(command, argc - 1, argv + 1);
}
