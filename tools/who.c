/* SPDX-License-Identifier: BSD-2-Clause */
/* noria who: the handles open on a channel, the dead ones too. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <noria/inspect.h>

#include "command.h"
#include "json.h"
#include "words.h"

static void print_rows(const struct noria_participant *participants, int n)
{
    char joined[32];
    printf("%6s %8s %-9s %-6s %5s %12s %12s %s\n", "NUMBER", "PID", "ROLE", "ALIVE", "HELD", "SENT",
           "RECEIVED", "JOINED");
    for (const struct noria_participant *each = participants; each < participants + n; each++)
        printf("%6" PRIu32 " %8" PRId32 " %-9s %-6s %5" PRIu32 " %12" PRIu64 " %12" PRIu64 " %s%s\n",
               each->number, each->pid, role_words(each->flags), each->alive ? "yes" : "dead", each->held,
               each->sent, each->received, utc_time(each->joined_ns, joined, sizeof joined),
               each->foreign ? " (another pid namespace)" : "");
}

static void print_json(const struct noria_participant *participants, int n)
{
    struct json json = {0};
    char joined[32];
    json_begin_array(&json, NULL);
    for (const struct noria_participant *each = participants; each < participants + n; each++) {
        json_begin_object(&json, NULL);
        json_unsigned(&json, "number", each->number);
        json_number(&json, "pid", each->pid);
        json_string(&json, "role", role_words(each->flags));
        json_bool(&json, "alive", each->alive != 0);
        json_bool(&json, "foreign", each->foreign != 0);
        json_unsigned(&json, "held", each->held);
        json_unsigned(&json, "sent", each->sent);
        json_unsigned(&json, "received", each->received);
        json_string(&json, "joined", utc_time(each->joined_ns, joined, sizeof joined));
        json_end_object(&json);
    }
    json_end_array(&json);
}

/* How many there are, all in *participants, which the caller frees; negative: a failure, and it was told. */
static int all_participants(const char *address, struct noria_participant **participants)
{
    int room = 64;
    for (;;) {
        *participants = calloc((size_t)room, sizeof **participants);
        if (*participants == NULL)
            return -fail("there is no memory for %d participants", room);
        int n = noria_who(address, *participants, room);
        if (n < 0)
            fail_detail();
        if (n <= room)
            return n;
        free(*participants);
        room = 2 * n; /* more may be coming */
    }
}

static int run_who(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j')
            return other_option(self, option);
        json = true;
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address, or file with a slash in its name, is needed");
    struct noria_participant *participants;
    int n = all_participants(argv[optind], &participants);
    if (n >= 0 && json)
        print_json(participants, n);
    else if (n >= 0)
        print_rows(participants, n);
    free(participants);
    return n >= 0 ? DONE : FAILED;
}

const struct command who_command = {
    .name = "who",
    .synopsis = "who ADDR|FILE [--json]",
    .summary = "Lists the handles open on a channel: their processes, roles and what they hold",
    .options = "  --json                    as a JSON array\n",
    .run = run_who,
};
