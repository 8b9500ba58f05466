/* SPDX-License-Identifier: BSD-2-Clause */
/* The same as report.c, as one JSON document. The strings are our own and need no escaping, the processor's
 * aside. */
#include <stdio.h>

#include "machine.h"
#include "report.h"

static const char *const placement_names[] = {"near", "far", "mixed"};

static void print_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= ' ' && *text != '"' && *text != '\\')
            putchar(*text);
    putchar('"');
}

void json_begin(const struct options *options)
{
    struct machine machine;

    machine_describe(&machine, &options->settings);
    printf("{\"machine\":{\"processor\":");
    print_string(machine.processor);
    printf(",\"kernel\":");
    print_string(machine.kernel);
    printf(",\"compiler\":");
    print_string(machine.compiler);
    printf(",\"cores\":\"%s\",\"pause_ns\":%.1f},\n\"runs\":%u,\"window_ms\":%.0f,\n\"cells\":[",
           machine.cores, machine.pause_ns, options->runs, (double)options->settings.window_ns / 1e6);
}

static void print_run(const struct cell *cell, const struct outcome *run)
{
    if (cell->round_trip)
        printf("{\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"p999_ns\":%.1f,\"mean_ns\":%.1f", run->one_way_ns[FIGURE_P50],
               run->one_way_ns[FIGURE_P99], run->one_way_ns[FIGURE_P999], run->one_way_ns[FIGURE_MEAN]);
    else
        printf("{\"per_second\":%.0f", run->rate);
    printf(",\"placement\":\"%s\",\"disturbed\":%s,\"canary_ns\":[%.1f,%.1f],\"verdict\":\"%s\"}",
           placement_names[run->placement], run->disturbed ? "true" : "false", run->canary_ns[0],
           run->canary_ns[1], run_verdict_text(run->verdict));
}

static void print_entry(const struct result *result, const struct entry *entry)
{
    printf("{\"name\":\"%s\",\"backoff\":%u,\"threads\":%s,\"correct\":%s,\"as_placed\":%s,",
           entry->contestant->name, entry->pauses,
           (entry->contestant->traits & NEEDS_THREADS) != 0 ? "true" : "false",
           entry->eligible ? "true" : "false", entry->as_placed ? "true" : "false");
    if (result->cell->round_trip)
        printf("\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"p999_ns\":%.1f,\"mean_ns\":%.1f,", entry->value[FIGURE_P50],
               entry->value[FIGURE_P99], entry->value[FIGURE_P999], entry->value[FIGURE_MEAN]);
    else
        printf("\"per_second\":%.0f,", entry->value[0]);
    printf("\"lowest\":%.1f,\"highest\":%.1f,\"runs\":[", entry->lowest, entry->highest);
    for (uint32_t i = 0; i < entry->runs; i++) {
        printf(i == 0 ? "" : ",");
        print_run(result->cell, &entry->run[i]);
    }
    printf("]}");
}

void json_result(const struct result *result, bool first)
{
    const struct cell *cell = result->cell;

    printf(
        "%s\n{\"cell\":\"%s\",\"size\":%u,\"batch\":%u,\"producers\":%u,\"consumers\":%u,\"round_trip\":%s,",
        first ? "" : ",", cell->name, cell->size, cell->batch, cell->producers, cell->consumers,
        cell->round_trip ? "true" : "false");
    printf(
        "\"placement\":\"%s\",\"canary_ns\":%.1f,\"ratio_to_best_peer\":%.3f,\"ratio_with_backoff\":%.3f,\n"
        " \"contestants\":[",
        result->near ? "near" : "far", result->canary_ns,
        result_ratio(result, result->ours, result->best_peer),
        result_ratio(result, result->ours, result->best_backoff));
    for (uint32_t i = 0; i < result->entries; i++) {
        printf(i == 0 ? "\n  " : ",\n  ");
        print_entry(result, &result->entry[i]);
    }
    printf("]}");
}

void json_end(const struct goal *goals, uint32_t count)
{
    printf("],\n\"goals\":[");
    for (uint32_t i = 0; i < count; i++)
        printf("%s\n{\"goal\":\"%s\",\"cell\":\"%s\",\"wanted\":%.2f,\"ratio\":%.3f,\"reached\":%s}",
               i == 0 ? "" : ",", goals[i].text, goals[i].cell, goals[i].wanted, goals[i].ratio,
               goals[i].ratio <= 0                 ? "null"
               : goals[i].ratio >= goals[i].wanted ? "true"
                                                   : "false");
    printf("]}\n");
}
