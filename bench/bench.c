/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench: noria and its rivals on identical traffic. For each cell all contestants take turns, run after run,
 * so that whatever the machine does in the meantime happens to all of them. See README.md for the method.
 */
#include <stdio.h>
#include <stdlib.h>

#include "options.h"
#include "report.h"
#include "result.h"
#include "selftest.h"

enum {
    STUCK_ENOUGH = 2
}; /* runs ended by the watchdog after which a contestant is left alone in this cell */

static const uint32_t backoffs[] = {1, 16, 64};

/* Rivals get a longer pause as well where messages are smallest: it is worth more than most designs. */
static void enter(struct result *result, const struct contestant *contestant)
{
    const struct cell *cell = result->cell;
    bool variants = cell->size == 8 && !cell->round_trip && (contestant->traits & WAITS_ITSELF) == 0;

    for (int i = 0; i < (variants ? 3 : 1); i++) {
        struct entry *entry = &result->entry[result->entries];

        if (result->entries == MOST_ENTRIES)
            return;
        entry->contestant = contestant;
        entry->pauses = backoffs[i];
        entry->runs = 0;
        result->entries++;
    }
}

static void run_once(struct entry *entry, const struct cell *cell, const struct settings *settings)
{
    uint32_t stuck = 0;

    for (uint32_t i = 0; i < entry->runs; i++)
        stuck += entry->run[i].verdict >= RUN_STUCK;
    if (stuck < STUCK_ENOUGH && entry->runs < MOST_RUNS)
        run_measure(entry->contestant, cell, entry->pauses, settings, &entry->run[entry->runs++]);
}

/* Near and undisturbed. */
static uint32_t good_runs(const struct entry *entry)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < entry->runs; i++)
        count += entry->run[i].placement == PLACED_NEAR && !entry->run[i].disturbed;
    return count;
}

/* Some good runs and some not: give those that lack good ones more chances, as many rounds again at most. */
static void more_good_runs(struct result *result, const struct options *options)
{
    uint32_t wanted = (options->runs + 1) / 2;
    bool any = false, lacking = true;

    for (uint32_t i = 0; i < result->entries; i++)
        any = any || good_runs(&result->entry[i]) > 0;
    for (uint32_t round = 0; any && lacking && round < options->runs; round++) {
        lacking = false;
        for (uint32_t i = 0; i < result->entries; i++) {
            if (good_runs(&result->entry[i]) >= wanted)
                continue;
            lacking = true;
            run_once(&result->entry[i], result->cell, &options->settings);
        }
    }
}

static void measure(struct result *result, const struct options *options)
{
    for (uint32_t round = 0; round < options->runs; round++)
        for (uint32_t i = 0; i < result->entries; i++) /* each round starts with another one */
            run_once(&result->entry[(i + round) % result->entries], result->cell, &options->settings);
    more_good_runs(result, options);
    result_summarise(result);
}

static bool ours_correct(const struct result *result)
{
    for (uint32_t i = 0; i < result->entries; i++)
        if (entry_is_ours(&result->entry[i]) && result->entry[i].worst != RUN_OK)
            return false;
    return true;
}

/* True: noria lost, invented or misplaced nothing. */
static bool measure_all(const struct options *options)
{
    static struct result result;
    size_t count;
    const struct cell *cells = cell_table(&count);
    bool first = true, correct = true;

    for (size_t i = 0; i < count; i++) {
        if (!options_want_cell(options, &cells[i]))
            continue;
        result.cell = &cells[i];
        result.entries = 0;
        for (const struct contestant *one = contestant_list(); one != NULL; one = one->next)
            if (options_want_contestant(options, one, &cells[i]))
                enter(&result, one);
        if (result.entries == 0)
            continue;
        measure(&result, options);
        goals_judge(&result);
        correct = ours_correct(&result) && correct;
        if (options->json)
            json_result(&result, first);
        else
            report_result(&result);
        first = false;
    }
    return correct;
}

int main(int argc, char **argv)
{
    struct options options;
    struct goal *goals;
    uint32_t count;
    bool correct;

    options_parse(&options, argc, argv);
    if (options.list) {
        report_list();
        return 0;
    }
    if (options.selftest)
        return selftest(&options.settings) == 0 ? 0 : 1;
    if (options.json)
        json_begin(&options);
    else
        report_machine(&options);
    correct = measure_all(&options);
    goals = goals_table(&count);
    if (options.json)
        json_end(goals, count);
    else
        report_goals(goals, count);
    if (!correct)
        fprintf(stderr, "bench: noria delivered something wrong; see above\n");
    return correct ? 0 : 1;
}
