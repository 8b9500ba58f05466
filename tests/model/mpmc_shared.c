/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: two threads share one handle. May the second go on where the first one's guess sends it, with
 * nothing else between them? There is always room when it sends (-DSEND) and always a record when it receives
 * (-DRECEIVE). With -DANYTIME the guess may move on between its looks at it.
 *
 * check: -DNUMBERS=3 -DSEND
 * check: -DNUMBERS=3 -DRECEIVE
 * check: -DNUMBERS=1 -DRECEIVE -DANYTIME
 * check: -DNUMBERS=3 -DSEND -DREADY
 * check: -DNUMBERS=3 -DRECEIVE -DREADY
 * check: -DNUMBERS=3 -DRECEIVE -DGLANCE
 * check: -DNUMBERS=3 -DRECEIVE -DLOOK
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

#ifndef NUMBERS
#define NUMBERS 40
#endif
#ifdef SEND
#define SENDS true
#else
#define SENDS false
#endif

static struct noria_mpmc_handle shared;

static void *pass_numbers(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
#ifdef ANYTIME
    assert(recv_number(&shared, &number));
#endif
    for (uint64_t i = 1; i <= NUMBERS && send_number(&shared, i); i++)
        recv_number(&shared, &number);
    return NULL;
}

#ifdef LOOK
enum { BEHIND = 1 }; /* a look leaves the guess at what it found */
#else
enum { BEHIND = 0 };
#endif

/* Relaxed: knowing it orders nothing. */
static inline bool guess_moved(void)
{
    return noria_load_relaxed64(SENDS ? &shared.write_guess : &shared.read_guess) == NUMBERS - BEHIND;
}

static void *join_in(void *unused)
{
    uint64_t number;

    (void)unused;
    start_together(2);
#ifndef ANYTIME
    if (!guess_moved() && !THREADS_OR_CHECKER(true, false))
        return NULL; /* the checker looks at the others only */
#endif
    assert(SENDS ? MAY_SEND(&shared, 99) : MAY_RECV(&shared, &number));
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {pass_numbers, join_in};

    for (int round = 0; round < ROUNDS; round++) {
        format_small();
        join_small(&shared, 1);
        assert(SENDS || send_number(&shared, 50));
#ifdef ANYTIME
        assert(send_number(&shared, 51));
#endif
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
