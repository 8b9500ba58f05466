/* SPDX-License-Identifier: BSD-2-Clause */
/* Tables for people. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "canary.h"
#include "machine.h"

void report_machine(const struct options *options)
{
    struct machine machine;

    machine_describe(&machine, &options->settings);
    printf("machine   %s, cores %s of %s, one PAUSE %.0f ns\n", machine.processor, machine.cores,
           machine.kernel, machine.pause_ns);
    printf("built by  %s\n", machine.compiler);
    printf("method    %u interleaved runs of %.0f ms, every message verified; near = a cache line crosses in "
           "< %d ns\n",
           options->runs, (double)options->settings.window_ns / 1e6, CANARY_NEAR_NS);
    printf("          medians (lowest - highest); \"noria is\" = noria's best / this row, for times the "
           "other way round\n");
    if (options->settings.cores == 1)
        printf("          only ONE core: everybody yields, and the figures say little\n");
}

static void print_heading(const struct result *result)
{
    const struct cell *cell = result->cell;
    const char *unit = cell->round_trip ? "round trip, one way in ns" : "M messages/s";
    char size[16], crowd[64] = "";

    snprintf(size, sizeof size, cell->size < 1024 ? "%u B" : "%u KiB",
             cell->size < 1024 ? cell->size : cell->size / 1024);
    if (cell->mpmc)
        snprintf(crowd, sizeof crowd, ", %uP%uC%s", cell->producers, cell->consumers,
                 cell->spin ? ", nobody yields" : "");
    printf("\n%s: %s %s%s, %s, %s; %s, canary %.0f ns\n", cell->name, cell->mpmc ? "MPMC" : "SPSC", size,
           crowd, cell->batch > 1 ? "batches of 32" : "one by one", unit, result->near ? "near" : "FAR",
           result->canary_ns);
}

/* Figures next to other load say little: how much of it there was. */
static void print_disturbance(const struct result *result)
{
    uint32_t disturbed = 0, runs = 0;

    for (uint32_t i = 0; i < result->entries; i++) {
        disturbed += result->entry[i].disturbed_runs;
        runs += result->entry[i].runs;
    }
    if (disturbed > 0)
        printf("  other processes took more than %d %% of a core in %u of %u runs\n", DISTURBED_PERCENT,
               disturbed, runs);
}

static void print_remarks(const struct entry *entry)
{
    bool threads = (entry->contestant->traits & NEEDS_THREADS) != 0;

    if (threads)
        printf("  threads");
    if (!entry->as_placed)
        printf("  far");
    if (entry->runs > 0 && entry->disturbed_runs == entry->runs)
        printf("  disturbed");
    if (entry->worst != RUN_OK) {
        uint32_t runs = 0;

        for (uint32_t i = 0; i < entry->runs; i++)
            runs += entry->run[i].verdict == entry->worst;
        printf("  %s in %u of %u runs", run_verdict_text(entry->worst), runs, entry->runs);
        if (entry->worst_detail < 0)
            printf(": %s", strerror(-entry->worst_detail));
        else if (entry->worst_detail > 0)
            printf(": %s %d", entry->worst_detail < 256 ? "signal" : "exit status",
                   entry->worst_detail % 256);
    }
}

static void print_row(const struct result *result, const struct entry *entry)
{
    double scale = result->cell->round_trip ? 1 : 1e-6, ratio = result_ratio(result, result->ours, entry);
    char label[64], range[48], ratio_text[16] = "";

    printf("  %-42s", entry_label(entry, label, sizeof label));
    snprintf(range, sizeof range, "(%.*f - %.*f)", entry->lowest * scale < 10 ? 2 : 0, entry->lowest * scale,
             entry->highest * scale < 10 ? 2 : 0, entry->highest * scale);
    if (ratio > 0 && !entry_is_ours(entry))
        snprintf(ratio_text, sizeof ratio_text, ratio < 100 ? "%.2fx" : "%.0fx", ratio);
    if (entry->value[0] <= 0)
        printf(" %9s %-18s %16s %9s", "-", "", "", "");
    else if (result->cell->round_trip)
        printf(" %9.0f %-18s %9.1f %7.0f %8.0f %9s", entry->value[FIGURE_P50], range, entry->value[FIGURE_MEAN],
               entry->value[FIGURE_P99], entry->value[FIGURE_P999], ratio_text);
    else
        printf(" %9.*f %-18s %16.2f %9s",
               entry->value[0] * scale < 1     ? 3
               : entry->value[0] * scale < 100 ? 2
                                               : 1,
               entry->value[0] * scale, range, entry->value[0] * result->cell->size / 1e9, ratio_text);
    print_remarks(entry);
    printf("\n");
}

static const struct result *sorted_result;

static int compare_entries(const void *left, const void *right)
{
    const struct entry *a = *(const struct entry *const *)left, *b = *(const struct entry *const *)right;
    double x = a->value[0], y = b->value[0];

    if (x <= 0 || y <= 0)
        return (x <= 0) - (y <= 0);
    return sorted_result->cell->round_trip ? (x > y) - (x < y) : (x < y) - (x > y);
}

static void print_verdict(const struct result *result)
{
    char label[64];

    if (result->ours == NULL || result->best_peer == NULL)
        return;
    printf("  => %.2fx the best peer (%s)", result_ratio(result, result->ours, result->best_peer),
           entry_label(result->best_peer, label, sizeof label));
    if (result->best_backoff != result->best_peer)
        printf(", %.2fx with back-off (%s)", result_ratio(result, result->ours, result->best_backoff),
               entry_label(result->best_backoff, label, sizeof label));
    printf("\n");
}

void report_result(const struct result *result)
{
    const struct entry *order[MOST_ENTRIES];

    print_heading(result);
    print_disturbance(result);
    if (result->cell->round_trip)
        printf("  %-42s %9s %-18s %9s %7s %8s %9s\n", "", "p50", "", "mean", "p99", "p99.9", "noria is");
    else
        printf("  %-42s %9s %-18s %16s %9s\n", "", "M/s", "", "GB/s", "noria is");
    for (uint32_t i = 0; i < result->entries; i++)
        order[i] = &result->entry[i];
    sorted_result = result;
    qsort(order, result->entries, sizeof order[0], compare_entries);
    for (uint32_t i = 0; i < result->entries; i++)
        print_row(result, order[i]);
    print_verdict(result);
    fflush(stdout);
}

void report_goals(const struct goal *goals, uint32_t count)
{
    printf("\ngoals (against the peers' usual one PAUSE after a failed try)\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct goal *goal = &goals[i];

        if (goal->ratio <= 0)
            printf("  %-24s >= %5.2fx  not measured\n", goal->text, goal->wanted);
        else
            printf("  %-24s >= %5.2fx  %6.2fx  %-8s against %s%s\n", goal->text, goal->wanted, goal->ratio,
                   goal->ratio >= goal->wanted ? "reached" : "MISSED", goal->against,
                   goal->near ? "" : " (far)");
    }
}

void report_list(void)
{
    size_t count;
    const struct cell *cells = cell_table(&count);

    printf("cells (q: in --quick)\n");
    for (size_t i = 0; i < count; i++)
        printf("  %s%s", cells[i].quick ? "q " : "  ", cells[i].name), printf("\n");
    printf("contestants\n");
    for (const struct contestant *one = contestant_list(); one != NULL; one = one->next)
        if ((one->traits & BROKEN_ON_PURPOSE) == 0)
            printf("    %-24s%s%s  %s%s\n", one->name, (one->traits & TAKES_SPSC) != 0 ? " spsc" : "     ",
                   (one->traits & TAKES_MPMC) != 0 ? " mpmc" : "     ", one->calls,
                   (one->traits & NEEDS_THREADS) != 0 ? " (threads)" : "");
}
