/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of cells: both kinds of ring, every size, one by one and batched, streams and round trips. */
#include <stdio.h>
#include <string.h>

#include "cell.h"

enum { MOST_CELLS = 128 };

static struct cell table[MOST_CELLS];
static size_t used;

static const uint32_t sizes[] = {8, 64, 256, 1024, 4096, 65536};
static const uint32_t crowds[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 4}};

enum { SIZES = sizeof sizes / sizeof sizes[0], CROWDS = sizeof crowds / sizeof crowds[0] };

static void add(struct cell cell)
{
    char size[8], batch[8] = "", crowd[8] = "";

    if (cell.size < 1024)
        snprintf(size, sizeof size, "%u", cell.size & 0xfff);
    else
        snprintf(size, sizeof size, "%uK", (cell.size >> 10) & 0xfff);
    if (cell.batch > 1)
        snprintf(batch, sizeof batch, "-b%u", cell.batch & 0xff);
    if (cell.mpmc && !cell.round_trip)
        snprintf(crowd, sizeof crowd, "-%up%uc", cell.producers & 0xf, cell.consumers & 0xf);
    snprintf(cell.name, sizeof cell.name, "%s%s-%s%s%s%s", cell.mpmc ? "mpmc" : "spsc",
             cell.round_trip ? "-rtt" : "", size, batch, crowd, cell.spin ? "-spin" : "");
    table[used++] = cell;
}

static void add_spsc(void)
{
    for (int i = 0; i < SIZES; i++)
        for (uint32_t batch = 1; batch <= BENCH_BATCH; batch += BENCH_BATCH - 1)
            add((struct cell){
                .size = sizes[i], .batch = batch, .producers = 1, .consumers = 1, .quick = sizes[i] <= 64});
}

static void add_round_trips(bool mpmc)
{
    for (int i = 0; i < SIZES; i++)
        add((struct cell){.mpmc = mpmc,
                          .round_trip = true,
                          .size = sizes[i],
                          .batch = 1,
                          .producers = 1,
                          .consumers = 1,
                          .quick = sizes[i] <= 64 && !mpmc});
}

static void add_mpmc(void)
{
    for (int i = 0; i < SIZES; i++)
        for (uint32_t batch = 1; batch <= BENCH_BATCH; batch += BENCH_BATCH - 1)
            for (int k = 0; k < CROWDS; k++)
                add((struct cell){.mpmc = true,
                                  .size = sizes[i],
                                  .batch = batch,
                                  .producers = crowds[k][0],
                                  .consumers = crowds[k][1],
                                  .quick = sizes[i] == 8 && batch == 1 && crowds[k][0] == crowds[k][1]});
    add((struct cell){.mpmc = true, .size = 8, .batch = 1, .producers = 4, .consumers = 4, .spin = true});
}

const struct cell *cell_table(size_t *count)
{
    if (used == 0) {
        add_spsc();
        add_round_trips(false);
        add_mpmc();
        add_round_trips(true);
    }
    *count = used;
    return table;
}
