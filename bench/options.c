/* SPDX-License-Identifier: BSD-2-Clause */
#include "options.h"

#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "result.h"

static const char usage[] =
    "usage: bench [options]\n"
    "  --quick         the cells of the goals and their neighbours, about 2 minutes\n"
    "  --cell NAME     only this cell; a pattern such as 'mpmc-64-*', may be repeated\n"
    "  --only A,B      only contestants whose names begin so; noria is not added by itself\n"
    "  --runs N        interleaved runs per contestant and cell (default 5)\n"
    "  --window MS     length of a run (default 60)\n"
    "  --cores A,B     cores to pin to (default: the first two this process may use)\n"
    "  --json          one JSON document instead of tables\n"
    "  --list          cells and contestants\n"
    "  --selftest      does the harness notice broken contestants?\n";

enum {
    OPT_QUICK = 1,
    OPT_CELL,
    OPT_ONLY,
    OPT_RUNS,
    OPT_WINDOW,
    OPT_CORES,
    OPT_JSON,
    OPT_LIST,
    OPT_SELFTEST,
    OPT_HELP
};

static const struct option known[] = {
    {"quick", no_argument, NULL, OPT_QUICK},
    {"cell", required_argument, NULL, OPT_CELL},
    {"only", required_argument, NULL, OPT_ONLY},
    {"runs", required_argument, NULL, OPT_RUNS},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"cores", required_argument, NULL, OPT_CORES},
    {"json", no_argument, NULL, OPT_JSON},
    {"list", no_argument, NULL, OPT_LIST},
    {"selftest", no_argument, NULL, OPT_SELFTEST},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

__attribute__((noreturn)) static void wrong(const char *what, const char *value)
{
    fprintf(stderr, "bench: %s: %s\n%s", what, value, usage);
    exit(2);
}

static uint32_t number(const char *what, const char *text, uint32_t least, uint32_t most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || value < least || value > most)
        wrong(what, text);
    return (uint32_t)value;
}

static void parse_cores(struct settings *settings, char *list)
{
    settings->cores = 0;
    for (char *core = strtok(list, ","); core != NULL; core = strtok(NULL, ",")) {
        if (settings->cores == MOST_CORES)
            wrong("too many cores", core);
        settings->core[settings->cores++] = number("--cores", core, 0, 4095);
    }
    if (settings->cores == 0)
        wrong("--cores", "empty");
}

static void parse_only(struct options *options, char *list)
{
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        if (options->onlys == MOST_PATTERNS)
            wrong("too many names", name);
        options->only[options->onlys++] = name;
    }
}

static void parse_one(struct options *options, int option)
{
    switch (option) {
    case OPT_QUICK: options->quick = true; break;
    case OPT_JSON: options->json = true; break;
    case OPT_LIST: options->list = true; break;
    case OPT_SELFTEST: options->selftest = true; break;
    case OPT_ONLY: parse_only(options, optarg); break;
    case OPT_CORES: parse_cores(&options->settings, optarg); break;
    case OPT_RUNS: options->runs = number("--runs", optarg, 1, MOST_RUNS / 2); break;
    case OPT_WINDOW:
        options->settings.window_ns = number("--window", optarg, 1, 10000) * UINT64_C(1000000);
        break;
    case OPT_CELL:
        if (options->cells == MOST_PATTERNS)
            wrong("too many cells", optarg);
        options->cell[options->cells++] = optarg;
        break;
    case OPT_HELP: fputs(usage, stdout); exit(0);
    default: fputs(usage, stderr); exit(2);
    }
}

void options_parse(struct options *options, int argc, char **argv)
{
    int option;

    memset(options, 0, sizeof *options);
    options->runs = 5;
    options->settings.window_ns = 60 * 1000 * 1000;
    options->settings.watchdog_ns = UINT64_C(2000) * 1000 * 1000;
    run_defaults(&options->settings, 2);
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        parse_one(options, option);
    if (options->quick)
        options->settings.watchdog_ns /= 2;
    if (optind < argc)
        wrong("unknown argument", argv[optind]);
}

bool options_want_cell(const struct options *options, const struct cell *cell)
{
    if (options->quick && !cell->quick)
        return false;
    for (uint32_t i = 0; i < options->cells; i++)
        if (fnmatch(options->cell[i], cell->name, FNM_CASEFOLD) == 0)
            return true;
    return options->cells == 0;
}

bool options_want_contestant(const struct options *options, const struct contestant *contestant,
                             const struct cell *cell)
{
    if ((contestant->traits & BROKEN_ON_PURPOSE) != 0)
        return false;
    if ((contestant->traits & (cell->mpmc ? TAKES_MPMC : TAKES_SPSC)) == 0 ||
        contestant->footprint(cell) == 0)
        return false;
    for (uint32_t i = 0; i < options->onlys; i++)
        if (strncasecmp(options->only[i], contestant->name, strlen(options->only[i])) == 0)
            return true;
    return options->onlys == 0 && !(options->quick && (contestant->traits & USES_KERNEL) != 0);
}
