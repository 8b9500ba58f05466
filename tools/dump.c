/* SPDX-License-Identifier: BSD-2-Clause */
/* noria dump: the words of a channel, also of a copied file. */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include <noria/inspect.h>

#include "command.h"
#include "json.h"

static int print_line(const struct noria_dumped *dumped, void *context)
{
    char which[48];
    (void)context;
    if (dumped->field[0] != '\0')
        snprintf(which, sizeof which, "%s", dumped->field);
    else
        snprintf(which, sizeof which, "%" PRIu64, dumped->number);
    printf("%08" PRIx64 "  %-14s ", dumped->offset, dumped->part);
    if (dumped->field[0] != '\0' && dumped->number != 0)
        printf("%-5" PRIu64 " ", dumped->number);
    printf("%-18s %016" PRIx64, which, dumped->value);
    if (dumped->text[0] != '\0')
        printf("  %s\n", dumped->text);
    else
        printf("  %" PRIu64 "\n", dumped->value);
    return 0;
}

static int print_json(const struct noria_dumped *dumped, void *context)
{
    struct json *json = context;
    json_begin_object(json, NULL);
    json_string(json, "part", dumped->part);
    json_unsigned(json, "number", dumped->number);
    if (dumped->field[0] != '\0')
        json_string(json, "field", dumped->field);
    json_unsigned(json, "offset", dumped->offset);
    json_unsigned(json, "value", dumped->value);
    if (dumped->text[0] != '\0')
        json_string(json, "text", dumped->text);
    json_end_object(json);
    return 0;
}

static int run_dump(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct json json = {0};
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j')
            return other_option(self, option);
        as_json = true;
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address, or file with a slash in its name, is needed");
    if (as_json)
        json_begin_array(&json, NULL);
    int rc = noria_dump(argv[optind], as_json ? print_json : print_line, &json);
    if (as_json)
        json_end_array(&json);
    return rc < 0 ? fail_detail() : DONE;
}

const struct command dump_command = {
    .name = "dump",
    .synopsis = "dump ADDR|FILE [--json]",
    .summary = "Shows every word of a channel but its messages; also of a file copied from a crashed system",
    .options = "  --json                    as a JSON array\n",
    .run = run_dump,
};
