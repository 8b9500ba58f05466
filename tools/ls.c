/* SPDX-License-Identifier: BSD-2-Clause */
/* noria ls: the channels this user can see, with columns like those of ipcs. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "listing.h"
#include "words.h"

static int print_row(const struct noria_listing *listing, void *context)
{
    (void)context;
    const struct noria_stat *stat = &listing->stat;
    char owner[64], used[24], backend[16], age[24] = "-";
    user_name(listing->uid, owner, sizeof owner);
    if (listing->condition == NORIA_CONDITION_OK)
        printf("%-24s %-7s %-9s %8" PRIu64 " %8s %7" PRIu32 " %9" PRIu32 " ", listing->address,
               backend_of(listing, backend, sizeof backend), word_of(kind_words, stat->kind), stat->capacity,
               count_or_dash(stat->messages, used, sizeof used), stat->senders, stat->receivers);
    else
        printf("%-24s %-7s %-9s %8s %8s %7s %9s ", listing->address,
               backend_of(listing, backend, sizeof backend), "-", "-", "-", "-", "-");
    if (listing->condition == NORIA_CONDITION_OK)
        age_words(listing->created_ns, age, sizeof age);
    printf("%-10s %04" PRIo32 " %-10s %10" PRIu64 " %5s\n", owner, listing->mode & 07777, state_of(listing),
           listing->footprint, age);
    return 0;
}

static int print_json(const struct noria_listing *listing, void *context)
{
    json_listing(context, listing);
    return 0;
}

/* What the system has a list of, and then what is in the directories. */
static int list_all(int (*each)(const struct noria_listing *, void *), void *context, char **folders)
{
    int rc = noria_list(each, context);
    for (; rc == 0 && *folders != NULL; folders++)
        rc = noria_list_folder(*folders, each, context);
    return rc;
}

static int list_json(char **folders)
{
    struct json json = {0};
    json_begin_array(&json, NULL);
    int rc = list_all(print_json, &json, folders);
    json_end_array(&json);
    return rc;
}

static int list_table(char **folders)
{
    printf("%-24s %-7s %-9s %8s %8s %7s %9s %-10s %-4s %-10s %10s %5s\n", "NAME", "BACKEND", "KIND", "CAPACITY", "USED",
           "SENDERS", "RECEIVERS", "OWNER", "MODE", "STATE", "BYTES", "AGE");
    return list_all(print_row, NULL, folders);
}

static int run_ls(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j')
            return other_option(self, option);
        json = true;
    }
    for (int i = optind; i < argc; i++)
        if (strchr(argv[i], ':') != NULL)
            return wrong_usage(self, "it lists all channels and takes no address; `noria stat` shows one");
    int rc = json ? list_json(argv + optind) : list_table(argv + optind);
    return rc < 0 ? fail_detail() : DONE;
}

const struct command ls_command = {
    .name = "ls",
    .synopsis = "ls [DIR...] [--json]",
    .summary = "Lists the channels in POSIX and System V shared memory, and in files in DIR",
    .options = "  --json                    as a JSON array\n",
    .run = run_ls,
};
