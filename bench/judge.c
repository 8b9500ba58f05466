/* SPDX-License-Identifier: BSD-2-Clause */
/* Adds the tallies up. What was sent is known exactly: producer p sent the sequence numbers 1 to its count.
 */
#include "judge.h"

#include "canary.h"

static const char *const verdict_texts[] = {
    [RUN_OK] = "correct",          [RUN_MISORDERED] = "BREAKS ORDER", [RUN_DUPLICATED] = "DUPLICATES",
    [RUN_LOST] = "LOSES MESSAGES", [RUN_GARBAGE] = "GARBAGE",         [RUN_STUCK] = "STUCK",
    [RUN_CRASHED] = "CRASHED",     [RUN_REFUSED] = "could not start",
};

const char *run_verdict_text(enum verdict verdict)
{
    return verdict_texts[verdict];
}

static uint64_t mix_of_sent(const struct run *run, const struct cell *cell)
{
    uint64_t mix = 0;

    for (uint32_t p = 0; p < cell->producers; p++)
        for (uint64_t sequence = 1; sequence <= run->producer[p].count; sequence++)
            mix += message_scramble(message_tag(p, sequence));
    return mix;
}

static enum verdict judge_messages(const struct run *run, const struct cell *cell)
{
    uint64_t sent = 0, received = 0, mix = 0, misplaced = 0, garbage = 0;

    for (uint32_t p = 0; p < cell->producers; p++) {
        sent += run->producer[p].count;
        misplaced += run->producer[p].misplaced;
        garbage += run->producer[p].garbage;
    }
    for (uint32_t c = 0; c < cell->consumers; c++) {
        received += run->consumer[c].count;
        mix += run->consumer[c].mix;
        misplaced += run->consumer[c].misplaced;
        garbage += run->consumer[c].garbage;
    }
    if (garbage > 0)
        return RUN_GARBAGE;
    if (received != sent)
        return received < sent ? RUN_LOST : RUN_DUPLICATED;
    if (cell->mpmc && !cell->round_trip && mix != mix_of_sent(run, cell))
        return RUN_DUPLICATED;
    return misplaced > 0 ? RUN_MISORDERED : RUN_OK;
}

static enum verdict judge_run(const struct run *run, const struct cell *cell, bool ended, int *detail)
{
    *detail = 0;
    if (run->refused != 0) {
        *detail = run->refused;
        return RUN_REFUSED;
    }
    if (run->crashed != 0) {
        *detail = run->crashed;
        return RUN_CRASHED;
    }
    if (!ended)
        return RUN_STUCK;
    for (uint32_t c = 0; c < cell->consumers; c++)
        if (run->consumer[c].finished == 0)
            return RUN_CRASHED; /* the leader itself went down */
    return judge_messages(run, cell);
}

static double judge_rate(const struct run *run, const struct cell *cell)
{
    uint64_t begin_ns = UINT64_MAX, end_ns = 0, received = 0;

    for (uint32_t p = 0; p < cell->producers; p++)
        if (run->producer[p].begin_ns != 0 && run->producer[p].begin_ns < begin_ns)
            begin_ns = run->producer[p].begin_ns;
    for (uint32_t c = 0; c < cell->consumers; c++) {
        uint64_t consumer_end_ns = run->consumer[c].finished != 0 ? run->consumer[c].end_ns : clock_ns();

        received += run->consumer[c].count;
        if (consumer_end_ns > end_ns)
            end_ns = consumer_end_ns;
    }
    return end_ns > begin_ns ? (double)received * 1e9 / (double)(end_ns - begin_ns) : 0;
}

static void judge_round_trips(const struct run *run, const struct settings *settings, double one_way_ns[FIGURES])
{
    static const double shares[FIGURE_MEAN] = {0.5, 0.99, 0.999};
    const struct tally *pinger = &run->producer[0];
    uint64_t samples = 0, below = 0;
    int next = 0;

    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
        samples += run->histogram[bucket];
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS && samples > 0; bucket++) {
        below += run->histogram[bucket];
        while (next < FIGURE_MEAN && (double)below >= shares[next] * (double)samples)
            one_way_ns[next++] = (double)participant_bucket_ticks(bucket) / settings->ticks_per_ns / 2;
    }
    if (pinger->finished != 0 && samples > 0)
        one_way_ns[FIGURE_MEAN] = (double)(pinger->end_ns - pinger->begin_ns) / (double)samples / 2;
}

/* With more participants than cores they delay each other, and nothing can be told. */
static bool judge_disturbed(const struct run *run, const struct cell *cell, const struct settings *settings)
{
    bool disturbed = false;

    if (cell->producers + cell->consumers > settings->cores)
        return false;
    for (uint32_t i = 0; i < BENCH_MOST_SIDE; i++) {
        const struct tally *sides[2] = {&run->producer[i], &run->consumer[i]};

        for (int side = 0; side < 2; side++) {
            uint64_t lasted_ns = sides[side]->end_ns - sides[side]->begin_ns;

            if (sides[side]->finished != 0 && sides[side]->delayed_ns * 100 > lasted_ns * DISTURBED_PERCENT)
                disturbed = true;
        }
    }
    return disturbed;
}

static enum placement judge_placement(const double canary_ns[2])
{
    bool before = canary_ns[0] < CANARY_NEAR_NS, after = canary_ns[1] < CANARY_NEAR_NS;

    if (before != after)
        return PLACED_MIXED;
    return before ? PLACED_NEAR : PLACED_FAR;
}

void judge(const struct run *run, const struct cell *cell, const struct settings *settings, bool ended,
           struct outcome *outcome)
{
    outcome->verdict = judge_run(run, cell, ended, &outcome->detail);
    outcome->canary_ns[0] = run->canary_ns[0];
    outcome->canary_ns[1] = outcome->verdict == RUN_STUCK ? run->canary_ns[0] : run->canary_ns[1];
    outcome->disturbed = judge_disturbed(run, cell, settings);
    outcome->placement = judge_placement(outcome->canary_ns);
    if (cell->round_trip)
        judge_round_trips(run, settings, outcome->one_way_ns);
    else
        outcome->rate = judge_rate(run, cell);
}
