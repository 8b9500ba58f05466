/* SPDX-License-Identifier: BSD-2-Clause */
#include "goals.h"

#include <string.h>

/* An adapter against the calls that it is made of. */
#define ADAPTER_GOALS(what, adapter, bare) \
    {.text = what " 64 B", .cell = "spsc-64", .ours = adapter, .rival = {bare, NULL}, .wanted = 0.95}, \
        {.text = what " 4 KiB", .cell = "spsc-4K", .ours = adapter, .rival = {bare, NULL}, .wanted = 0.95}
#define SEND_MANY_GOALS(what, adapter, bare) \
    {.text = what " 64 B, many", .cell = "spsc-64-b32", .ours = adapter, .rival = {bare, NULL}, .wanted = 3}, \
        {.text = what " 4 KiB, many", .cell = "spsc-4K-b32", .ours = adapter, .rival = {bare, NULL}, .wanted = 3}
/* A channel there and back: asleep against a pipe, polling against the bare ring. */
#define ROUND_TRIP_GOAL(what, channel, bare, least) \
    {.text = what " 8 B", .cell = "spsc-rtt-8", .ours = channel, .rival = {bare, NULL}, .wanted = least}
/* What priorities may cost, and a broadcast to one receiver. */
#define PRIORITIES_GOAL(crowd, its_cell) \
    {.text = "32 priorities " crowd, .cell = its_cell, .ours = "noria channel 32 priorities", \
     .rival = {"noria channel", NULL}, .wanted = 0.7}
#define BROADCAST_GOAL(size, its_cell) \
    {.text = "broadcast to one " size, .cell = its_cell, .ours = "noria broadcast", .rival = {"noria spsc", NULL}, .wanted = 0.9}

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
    BROADCAST_GOAL("8 B", "spsc-8"),
    BROADCAST_GOAL("64 B", "spsc-64"),
    PRIORITIES_GOAL("8 B 1P1C", "mpmc-8-1p1c"),
    PRIORITIES_GOAL("8 B 2P2C", "mpmc-8-2p2c"),
    ADAPTER_GOALS("pipe", "noria over a pipe", "pipe"),
    SEND_MANY_GOALS("pipe", "noria over a pipe", "pipe one by one"),
    ADAPTER_GOALS("unix socket", "noria over a unix socket", "unix socket"),
    SEND_MANY_GOALS("unix socket", "noria over a unix socket", "unix socket one by one"),
    ADAPTER_GOALS("posix mq", "noria over a posix mq", "posix mq"),
    ROUND_TRIP_GOAL("asleep by futex", "noria channel futex, asleep", "pipe", 0.95),
    ROUND_TRIP_GOAL("asleep by eventfd", "noria channel eventfd, asleep", "pipe", 0.95),
    ROUND_TRIP_GOAL("at the fd of a fifo", "noria channel fifo, by fd", "pipe", 0.95),
    ROUND_TRIP_GOAL("polling by channel", "noria channel", "noria spsc", 0.90),
    ADAPTER_GOALS("unix stream", "noria over a unix stream", "unix stream"),
    SEND_MANY_GOALS("unix stream", "noria over a unix stream", "unix stream one by one"),
    ADAPTER_GOALS("unix:", "noria at unix:", "unix stream"),
    SEND_MANY_GOALS("unix:", "noria at unix:", "unix stream one by one"),
    ADAPTER_GOALS("tcp:", "noria at tcp:", "tcp"),
    SEND_MANY_GOALS("tcp:", "noria at tcp:", "tcp one by one"),
    ADAPTER_GOALS("fifo:", "noria at fifo:", "fifo"),
    SEND_MANY_GOALS("fifo:", "noria at fifo:", "pipe one by one"),
    ADAPTER_GOALS("svmq:", "noria at svmq:", "sysv mq"),
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

static const struct entry *ours_of(const struct goal *goal, const struct result *result)
{
    if (goal->ours == NULL)
        return result->ours;
    for (uint32_t i = 0; i < result->entries; i++)
        if (strcmp(goal->ours, result->entry[i].contestant->name) == 0 && result->entry[i].as_placed)
            return &result->entry[i];
    return NULL;
}

static void judge_one(struct goal *goal, const struct result *result)
{
    const struct entry *rival = NULL;

    for (uint32_t i = 0; i < result->entries; i++)
        if (is_rival(goal, &result->entry[i]) &&
            (rival == NULL || result->entry[i].value[0] > rival->value[0]))
            rival = &result->entry[i];
    goal->ratio = result_ratio(result, ours_of(goal, result), rival);
    goal->against = rival != NULL ? rival->contestant->name : NULL;
    goal->near = result->near;
}

void goals_judge(const struct result *result)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].cell, result->cell->name) == 0)
            judge_one(&table[i], result);
}
