/* SPDX-License-Identifier: BSD-2-Clause */
/* A queue with one fault of each sort in each sort of cell, and what the harness must say about it. */
#include "selftest.h"

#include <stdio.h>
#include <string.h>

static const struct {
    enum fault fault;
    const char *text;
    enum verdict verdict;
} crimes[] = {
    {FAULT_NONE, "no fault", RUN_OK},
    {FAULT_DROP, "one message dropped", RUN_LOST},
    {FAULT_DUPLICATE, "one message twice", RUN_DUPLICATED},
    {FAULT_REORDER, "one message late", RUN_MISORDERED},
    {FAULT_TEAR, "one byte changed", RUN_GARBAGE},
    {FAULT_STALL, "a producer stuck", RUN_STUCK},
    {FAULT_CRASH, "a producer killed", RUN_CRASHED},
};

static const struct {
    const char *cell;
    bool round_trip; /* a lost message ends a round trip for good, and order has no meaning */
} scenes[] = {
    {"spsc-8", false},      {"spsc-64-b32", false},  {"mpmc-8-1p1c", false}, {"mpmc-8-2p1c", false},
    {"mpmc-8-1p2c", false}, {"mpmc-64-2p2c", false}, {"mpmc-8-4p4c", false}, {"spsc-rtt-64", true},
};

static const struct cell *cell_named(const char *name)
{
    size_t count;
    const struct cell *cells = cell_table(&count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(cells[i].name, name) == 0)
            return &cells[i];
    return NULL;
}

static const struct contestant *suspect(void)
{
    const struct contestant *contestant = contestant_list();

    while (contestant != NULL && (contestant->traits & BROKEN_ON_PURPOSE) == 0)
        contestant = contestant->next;
    return contestant;
}

static bool skipped(enum fault fault, bool round_trip)
{
    return round_trip && (fault == FAULT_REORDER || fault == FAULT_DUPLICATE);
}

int selftest(const struct settings *settings)
{
    struct settings patient = *settings;
    int missed = 0;

    patient.window_ns = 50 * 1000 * 1000;
    patient.least = SELFTEST_MESSAGES;
    for (size_t s = 0; s < sizeof scenes / sizeof scenes[0]; s++) {
        for (size_t c = 0; c < sizeof crimes / sizeof crimes[0]; c++) {
            enum verdict wanted = crimes[c].verdict;
            struct outcome outcome;

            if (skipped(crimes[c].fault, scenes[s].round_trip))
                continue;
            if (scenes[s].round_trip && wanted == RUN_LOST)
                wanted = RUN_STUCK;
            /* One that shall not be stuck may be slow. */
            patient.watchdog_ns = (wanted == RUN_STUCK ? UINT64_C(2) : UINT64_C(60)) * 1000 * 1000 * 1000;
            broken_fault = crimes[c].fault;
            run_measure(suspect(), cell_named(scenes[s].cell), 1, &patient, &outcome);
            printf("%-6s %-14s %-20s -> %s\n", outcome.verdict == wanted ? "ok" : "MISSED", scenes[s].cell,
                   crimes[c].text, run_verdict_text(outcome.verdict));
            missed += outcome.verdict != wanted;
        }
    }
    broken_fault = FAULT_NONE;
    printf("%s\n", missed == 0 ? "selftest: every fault was found" : "selftest: FAILED");
    return missed;
}
