/* SPDX-License-Identifier: BSD-2-Clause */
/* noria gc: removes what nobody holds and nobody can want. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <noria/inspect.h>

#include "command.h"
#include "json.h"
#include "listing.h"

struct report {
    struct json json;
    bool as_json, dry_run;
    int failures;
};

static const char *const kinds[] = {"unknown", "unfinished channel", "deserted channel", "FIFO", "semaphore"};

static void report_one(const struct noria_leftover *leftover, void *context)
{
    struct report *report = context;
    /* Others have channels of their own, which are no business of ours. */
    bool private = leftover->kind == NORIA_LEFTOVER_UNKNOWN && leftover->result == -EACCES;
    report->failures += leftover->result != 0 && !private;
    if (report->as_json) {
        json_begin_object(&report->json, NULL);
        json_string(&report->json, "name", leftover->name);
        json_string(&report->json, "kind", kinds[leftover->kind]);
        json_bool(&report->json, "removed", leftover->result == 0 && !report->dry_run);
        if (leftover->result != 0)
            json_string(&report->json, "error", noria_strerror(leftover->result));
        json_end_object(&report->json);
        return;
    }
    if (leftover->result != 0)
        printf("%-18s %s stays: %s\n", kinds[leftover->kind], leftover->name, noria_strerror(leftover->result));
    else
        printf("%-18s %s%s\n", kinds[leftover->kind], leftover->name, report->dry_run ? " would be removed" : "");
}

static int run_gc(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {{"json", no_argument, NULL, 'j'},
                                          {"dry-run", no_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct report report = {.as_json = false};
    for (int option; (option = getopt_long(argc, argv, "nh", table, NULL)) != -1;) {
        if (option != 'j' && option != 'n')
            return other_option(self, option);
        report.as_json = report.as_json || option == 'j';
        report.dry_run = report.dry_run || option == 'n';
    }
    for (int i = optind; i < argc; i++)
        if (!is_copy(argv[i]) && strchr(argv[i], ':') != NULL)
            return wrong_usage(self, "it takes no address; `noria rm` removes one channel");
    if (report.as_json)
        json_begin_array(&report.json, NULL);
    const char *const *folders = (const char *const *)(argv + optind);
    int rc = noria_gc_folders(folders, argc - optind, report.dry_run, report_one, &report);
    if (report.as_json)
        json_end_array(&report.json);
    if (rc < 0)
        return fail_detail();
    if (report.failures != 0)
        return fail("%d could not be looked at or removed by this user; each line says why", report.failures);
    return DONE;
}

const struct command gc_command = {
    .name = "gc",
    .synopsis = "gc [DIR...] [--dry-run] [--json]",
    .summary = "Removes what dead processes left and nobody can want, also of channels in files in DIR",
    .options = "  -n, --dry-run             only tell\n"
               "  --json                    as a JSON array\n",
    .run = run_gc,
};
