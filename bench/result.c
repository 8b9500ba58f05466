/* SPDX-License-Identifier: BSD-2-Clause */
/* Medians of runs that are comparable: near ones where there are any, and never of a run that was not
 * correct. */
#include "result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool entry_is_ours(const struct entry *entry)
{
    return strncmp(entry->contestant->name, "noria", 5) == 0;
}

const char *entry_label(const struct entry *entry, char *label, size_t size)
{
    if (entry->pauses > 1)
        snprintf(label, size, "%s, back-off %u", entry->contestant->name, entry->pauses);
    else
        snprintf(label, size, "%s", entry->contestant->name);
    return label;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    if (count == 0)
        return 0;
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* A run ended by the watchdog still tells a rate; it is the rate of a collapse. */
static bool has_figure(const struct outcome *run, const struct cell *cell)
{
    return run->verdict == RUN_OK || run->verdict == RUN_MISORDERED ||
           (run->verdict == RUN_STUCK && !cell->round_trip);
}

static void summarise_verdicts(struct entry *entry)
{
    entry->worst = RUN_OK;
    entry->eligible = entry->runs > 0;
    entry->near_runs = entry->disturbed_runs = 0;
    for (uint32_t i = 0; i < entry->runs; i++) {
        const struct outcome *run = &entry->run[i];

        entry->near_runs += run->placement == PLACED_NEAR;
        entry->disturbed_runs += run->disturbed;
        entry->eligible = entry->eligible && (run->verdict == RUN_OK || run->verdict == RUN_STUCK);
        if (run->verdict > entry->worst) {
            entry->worst = run->verdict;
            entry->worst_detail = run->detail;
        }
    }
}

/* Collects the figures of comparable runs; returns how many. */
static uint32_t collect(const struct entry *entry, const struct cell *cell, int which, bool near_only,
                        bool quiet_only, double *figures)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < entry->runs; i++) {
        const struct outcome *run = &entry->run[i];

        if (!has_figure(run, cell) || (near_only && run->placement != PLACED_NEAR) ||
            (quiet_only && run->disturbed))
            continue;
        figures[count++] = cell->round_trip ? run->one_way_ns[which] : run->rate;
    }
    return count;
}

/* Undisturbed runs count where there are any. */
static void summarise_figures(struct entry *entry, const struct cell *cell, bool near_only)
{
    double figures[MOST_RUNS];

    for (int which = 0; which < (cell->round_trip ? FIGURES : 1); which++) {
        uint32_t count = collect(entry, cell, which, near_only, true, figures);

        if (count == 0)
            count = collect(entry, cell, which, near_only, false, figures);
        entry->value[which] = median(figures, count);
        if (which == 0) {
            entry->lowest = count > 0 ? figures[0] : 0;
            entry->highest = count > 0 ? figures[count - 1] : 0;
        }
    }
}

/* Near counts if noria has near runs (without noria: if anybody has). */
static bool choose_near(const struct result *result)
{
    bool ours = false, ours_near = false, any_near = false;

    for (uint32_t i = 0; i < result->entries; i++) {
        const struct entry *entry = &result->entry[i];

        any_near = any_near || entry->near_runs > 0;
        ours = ours || entry_is_ours(entry);
        ours_near = ours_near || (entry_is_ours(entry) && entry->near_runs > 0);
    }
    return ours ? ours_near : any_near;
}

static double median_canary(const struct result *result)
{
    static double canaries[MOST_ENTRIES * MOST_RUNS];
    uint32_t count = 0;

    for (uint32_t e = 0; e < result->entries; e++)
        for (uint32_t i = 0; i < result->entry[e].runs; i++)
            if (!result->near || result->entry[e].run[i].placement == PLACED_NEAR)
                canaries[count++] = result->entry[e].run[i].canary_ns[0];
    return median(canaries, count);
}

static bool better(const struct result *result, const struct entry *entry, const struct entry *than)
{
    if (!entry->eligible || !entry->as_placed || entry->value[0] <= 0)
        return false;
    return than == NULL || result_ratio(result, entry, than) > 1;
}

static void choose_best(struct result *result)
{
    result->ours = result->best_peer = result->best_backoff = NULL;
    for (uint32_t i = 0; i < result->entries; i++) {
        const struct entry *entry = &result->entry[i];

        if (entry_is_ours(entry)) {
            if (better(result, entry, result->ours))
                result->ours = entry;
            continue;
        }
        if ((entry->contestant->traits & IS_YARDSTICK) != 0)
            continue;
        if (entry->pauses <= 1 && better(result, entry, result->best_peer))
            result->best_peer = entry;
        if (better(result, entry, result->best_backoff))
            result->best_backoff = entry;
    }
}

void result_summarise(struct result *result)
{
    for (uint32_t i = 0; i < result->entries; i++)
        summarise_verdicts(&result->entry[i]);
    result->near = choose_near(result);
    for (uint32_t i = 0; i < result->entries; i++) {
        struct entry *entry = &result->entry[i];

        entry->as_placed = !result->near || entry->near_runs > 0;
        summarise_figures(entry, result->cell, result->near && entry->as_placed);
    }
    result->canary_ns = median_canary(result);
    choose_best(result);
}

double result_ratio(const struct result *result, const struct entry *entry, const struct entry *other)
{
    if (entry == NULL || other == NULL || entry->value[0] <= 0 || other->value[0] <= 0)
        return 0;
    return result->cell->round_trip ? other->value[0] / entry->value[0] : entry->value[0] / other->value[0];
}
