/* SPDX-License-Identifier: BSD-2-Clause */
#include "goals.h"

#include <string.h>

static struct goal table[] = {
    {.text = "SPSC 8 B one by one", .cell = "spsc-8", .rival = {"ck_ring spsc", NULL}, .wanted = 2.5},
    {.text = "MPMC 8 B 1P1C",
     .cell = "mpmc-8-1p1c",
     .rival = {"ck_ring mpmc", "rte_ring default"},
     .wanted = 3},
    {.text = "MPMC 8 B 2P2C",
     .cell = "mpmc-8-2p2c",
     .rival = {"ck_ring mpmc", "rte_ring default"},
     .wanted = 3},
    {.text = "MPMC 8 B 4P4C",
     .cell = "mpmc-8-4p4c",
     .rival = {"ck_ring mpmc", "rte_ring default"},
     .wanted = 10},
};

struct goal *goals_table(uint32_t *count)
{
    *count = sizeof table / sizeof table[0];
    return table;
}

static bool is_rival(const struct goal *goal, const struct entry *entry)
{
    if (entry->pauses > 1 || !entry->eligible || !entry->as_placed || entry->value[0] <= 0)
        return false;
    for (int i = 0; i < 2; i++)
        if (goal->rival[i] != NULL && strcmp(goal->rival[i], entry->contestant->name) == 0)
            return true;
    return false;
}

static void judge_one(struct goal *goal, const struct result *result)
{
    const struct entry *rival = NULL;

    for (uint32_t i = 0; i < result->entries; i++)
        if (is_rival(goal, &result->entry[i]) &&
            (rival == NULL || result->entry[i].value[0] > rival->value[0]))
            rival = &result->entry[i];
    goal->ratio = result_ratio(result, result->ours, rival);
    goal->against = rival != NULL ? rival->contestant->name : NULL;
    goal->near = result->near;
}

void goals_judge(const struct result *result)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].cell, result->cell->name) == 0)
            judge_one(&table[i], result);
}
