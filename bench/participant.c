/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of a participant that are not worth inlining: the way in and out, and what happens off the fast
 * path. */
#include "participant.h"

#include <stdio.h>
#include <unistd.h>

#include "canary.h"

static const uint64_t LOST_AFTER_NS = 200 * 1000 * 1000; /* with all producers done and nothing arriving */

static void play(struct participant *me, uint32_t game)
{
    double one_way_ns;

    if (me->canary == 0)
        return;
    one_way_ns = canary_play(&me->run->ball, game, me->canary == 1, me->one_core);
    if (me->canary == 1)
        me->run->canary_ns[game] = one_way_ns;
}

/* How long this thread has waited for a core so far, as the scheduler counts it; 0 where it does not. */
static uint64_t delayed_so_far_ns(void)
{
    unsigned long long ran_ns, delayed_ns = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &ran_ns, &delayed_ns) != 2)
        delayed_ns = 0;
    fclose(file);
    return delayed_ns;
}

void participant_ready(struct participant *me)
{
    pthread_barrier_wait(&me->run->seated);
    play(me, 0);
    pthread_barrier_wait(&me->run->ready);
}

/* Ends the whole run: the leader sees a child that failed, or is this very process. */
void participant_fail(struct participant *me, int error)
{
    me->run->refused = error;
    _exit(1);
}

void participant_begin(struct participant *me)
{
    me->tally->delayed_ns = delayed_so_far_ns();
    me->tally->begin_ns = clock_ns();
}

void participant_end(struct participant *me, const struct tally *sum)
{
    struct tally *tally = me->tally;

    tally->end_ns = clock_ns();
    tally->delayed_ns = delayed_so_far_ns() - tally->delayed_ns;
    tally->mix = sum->mix;
    tally->misplaced = sum->misplaced;
    tally->garbage = sum->garbage;
    participant_progress(me, sum->count);
    __atomic_store_n(&tally->finished, 1, __ATOMIC_RELEASE);
    pthread_barrier_wait(&me->run->over);
    play(me, 1);
}

static uint64_t total(const struct tally *tallies, uint32_t count, bool *finished)
{
    uint64_t sum = 0;

    *finished = true;
    for (uint32_t i = 0; i < count; i++) {
        if (__atomic_load_n(&tallies[i].finished, __ATOMIC_ACQUIRE) == 0)
            *finished = false;
        sum += __atomic_load_n(&tallies[i].count, __ATOMIC_RELAXED);
    }
    return sum;
}

bool participant_drained(struct participant *me, uint64_t count, uint64_t *idle_since_ns)
{
    bool all_sent, all_received;
    uint64_t sent, now_ns;

    participant_progress(me, count);
    sent = total(me->run->producer, me->cell->producers, &all_sent);
    if (!all_sent)
        return false;
    if (total(me->run->consumer, me->cell->consumers, &all_received) >= sent)
        return true;
    now_ns = clock_ns();
    if (*idle_since_ns == 0)
        *idle_since_ns = now_ns;
    return now_ns - *idle_since_ns > LOST_AFTER_NS;
}

/* A gap lowers the count by what is missing, a latecomer raises it again: in the end it is what really
 * arrived. */
uint64_t participant_misfit(struct tally *sum, uint64_t tag, bool whole, uint64_t expected)
{
    if (!whole || tag == 0 || tag > expected + (UINT64_C(1) << 32)) {
        sum->garbage++;
        return expected + 1;
    }
    if (tag > expected) {
        sum->count -= tag - expected;
        return tag + 1;
    }
    sum->count++;
    sum->misplaced++;
    return expected;
}

/* One tick wide up to 2048 ticks, 1/1024 of the value above. */
static uint32_t bucket_of(uint64_t ticks)
{
    uint32_t exponent, bucket;

    if (ticks < 2048)
        return (uint32_t)ticks;
    exponent = 63 - (uint32_t)__builtin_clzll(ticks);
    bucket = 2048 + (exponent - 11) * 1024 + (uint32_t)(ticks >> (exponent - 10) & 1023);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

void participant_sample(struct participant *me, uint64_t ticks)
{
    me->run->histogram[bucket_of(ticks)]++;
}

uint64_t participant_bucket_ticks(uint32_t bucket)
{
    uint32_t exponent;

    if (bucket < 2048)
        return bucket;
    exponent = (bucket - 2048) / 1024 + 11;
    return (1024 + (uint64_t)(bucket - 2048) % 1024) << (exponent - 10);
}
