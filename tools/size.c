/* SPDX-License-Identifier: BSD-2-Clause */
/* noria size: how many bytes a channel would take. Makes nothing. */
#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "geometry.h"
#include "json.h"

static void print_json(int64_t bytes, const struct noria_options *options)
{
    struct json json = {0};
    json_begin_object(&json, NULL);
    json_number(&json, "bytes", bytes);
    json_unsigned(&json, "capacity", options->capacity);
    json_unsigned(&json, "max_message", options->max_message);
    json_unsigned(&json, "max_bytes", options->max_bytes);
    json_end_object(&json);
}

static int run_size(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        GEOMETRY_OPTIONS, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct noria_options options;
    bool json = false;
    noria_options_init(&options);
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option == 'j')
            json = true;
        else if (!is_geometry_option(option))
            return other_option(self, option);
        else if (set_geometry(&options, option, optarg) != 0)
            return wrong_usage(self, "'%s' is not a value of that option", optarg);
    }
    if (argc != optind)
        return wrong_usage(self, "it takes no address; `noria stat` tells the bytes of a channel that is there");
    int64_t bytes = noria_footprint(&options);
    if (bytes < 0)
        return fail_detail();
    if (json)
        print_json(bytes, &options);
    else
        printf("%" PRId64 "\n", bytes);
    return DONE;
}

const struct command size_command = {
    .name = "size",
    .synopsis = "size [OPTION]... [--json]",
    .summary = "Tells how many bytes of shared memory a channel would take; one that grows, at first",
    .options = GEOMETRY_HELP("1024", "256") "  --json                    as a JSON object\n",
    .run = run_size,
};
