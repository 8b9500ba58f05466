/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: do P producers and C consumers pass every number exactly once, and each producer's in its order?
 *
 * check: -DP=1 -DC=1 -DK=2
 * check: -DP=2 -DC=1 -DK=1
 * check: -DP=1 -DC=2 -DK=1
 * long: -DP=1 -DC=1 -DK=3
 * long: -DP=2 -DC=1 -DK=2 -DNORIA_MPMC_HINT_LAG=16
 * long: -DP=2 -DC=2 -DK=1 -DNORIA_MPMC_HINT_LAG=16
 */
#include "mpmc_small.h"

#ifndef P
#define P 2
#endif
#ifndef C
#define C 2
#endif
#ifndef K
#define K 2000
#endif

#define LIMIT THREADS_OR_CHECKER(P * K, K) /* of one consumer */

static uint64_t got[C][P * K], count[C];
static uint64_t sent[P]; /* how many of each producer */
static uint32_t senders; /* that have not finished; only the threads need it */

static void *produce(void *which)
{
    struct noria_mpmc_handle handle;
    uint64_t me = (uintptr_t)which;

    join_small(&handle, (uint32_t)me + 1);
    start_together(P + C);
    while (sent[me] < K && send_number(&handle, me * K + sent[me]))
        sent[me]++;
    if (THREADS_OR_CHECKER(true, false))
        noria_sub_release32(&senders, 1);
    return NULL;
}

static void *consume(void *which)
{
    struct noria_mpmc_handle handle;
    uint64_t me = (uintptr_t)which - P;

    join_small(&handle, P + (uint32_t)me + 1);
    start_together(P + C);
    while (count[me] < LIMIT) {
        bool last = THREADS_OR_CHECKER(noria_load_acquire32(&senders) == 0, true);
        if (recv_number(&handle, &got[me][count[me]]))
            count[me]++;
        else if (last || !try_again())
            break;
    }
    return NULL;
}

static void check_all(void)
{
    struct noria_mpmc_handle handle;
    uint64_t seen[P * K] = {0}, received = 0, sum = 0, number;

    for (unsigned c = 0; c < C; c++)
        for (uint64_t i = 0; i < count[c]; i++) {
            number = got[c][i];
            assert(number < P * K && !seen[number]);
            seen[number] = 1;
            for (uint64_t j = 0; j < i; j += THREADS_OR_CHECKER(K / 4, 1))
                assert(got[c][j] / K != number / K || got[c][j] < number);
            received++;
        }
    join_small(&handle, OWNERS);
    while (recv_number(&handle, &number)) {
        assert(number < P * K && !seen[number]);
        seen[number] = 1;
        received++;
    }
    for (unsigned p = 0; p < P; p++)
        sum += sent[p];
    assert(received == sum && noria_mpmc_invariant(memory, sizeof(memory)));
}

int main(void)
{
    void *(*bodies[P + C])(void *);

    for (unsigned i = 0; i < P + C; i++)
        bodies[i] = i < P ? produce : consume;
    for (int round = 0; round < ROUNDS / 10 + 1; round++) {
        for (unsigned c = 0; c < C; c++)
            count[c] = 0;
        for (unsigned p = 0; p < P; p++)
            sent[p] = 0;
        senders = P;
        format_small();
        run_threads(bodies, P + C);
        check_all();
    }
    return 0;
}
