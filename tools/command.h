/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A subcommand of noria is one file that defines one struct command; main.c holds the table of them.
 */
#ifndef NORIA_TOOLS_COMMAND_H
#define NORIA_TOOLS_COMMAND_H

/* Exit statuses, as the manual page promises them. */
enum { DONE = 0, FAILED = 1, WRONG_USAGE = 2 };

struct command {
    const char *name;
    const char *synopsis;                                          /* what follows "noria" */
    const char *summary;                                           /* one line, for the list of commands */
    const char *options;                                           /* lines for `noria help NAME` */
    int (*run)(const struct command *self, int argc, char **argv); /* argv[0] is "noria NAME" */
};

extern const struct command create_command, send_command, recv_command, ls_command, stat_command, who_command,
    rm_command, doctor_command, help_command, version_command, size_command, dump_command, fsck_command, gc_command;

/* The table, ended by NULL. */
extern const struct command *const commands[];
const struct command *find_command(const char *name);

/* What getopt_long returned for an option that is not the command's own: --help is answered and gives DONE,
 * anything else has been named on stderr by getopt_long and gives WRONG_USAGE. */
int other_option(const struct command *command, int option);
void print_help(const struct command *command);

/* One sentence on stderr. They return the exit status. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int fail_detail(void); /* the library's own sentence about what failed last */
int wrong_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
