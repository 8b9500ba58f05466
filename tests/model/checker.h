/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the clients in this folder need to run as threads and, with -DMODEL_CHECKER, under a C11 model
 * checker. They include the shipped ring headers unchanged. As threads they do much and try again after
 * "full" or "empty"; under the checker they do little, once, in every order that the memory model allows.
 */
#ifndef NORIA_MODEL_CHECKER_H
#define NORIA_MODEL_CHECKER_H

#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef MODEL_CHECKER

#include <errno.h>
#ifndef EOWNERDEAD /* GenMC brings an errno.h of its own */
#define EOWNERDEAD 130
#endif
#ifndef ECANCELED
#define ECANCELED 125
#endif

#define THREADS_OR_CHECKER(threads, checker) (checker)

static inline void zero_words(void *to, size_t size)
{
    for (size_t i = 0; i < size / 8; i++)
        ((uint64_t *)to)[i] = 0;
}

/* Payloads of whole words. */
static inline void *model_memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size / 8; i++)
        ((uint64_t *)to)[i] = ((const uint64_t *)from)[i];
    return to;
}

#define ZERO(to) zero_words
#define memset(to, value, size) ZERO(to)(to, size)
#define memcpy model_memcpy

/* A pause and a fence for the compiler alone: nothing to a model checker, which might take them for more. */
#define NORIA_NO_MACHINE_CODE
#define __atomic_signal_fence(order) ((void)0)

static inline void start_together(unsigned threads)
{
    (void)threads;
}

/* After a failed try: the checker explores the other order anyway. */
static inline bool try_again(void)
{
    return false;
}

#else

#include <sched.h>

#define THREADS_OR_CHECKER(threads, checker) (threads)

/* All threads of a round leave here together, so that they meet in the ring. */
static inline void start_together(unsigned threads)
{
    static unsigned arrived;
    unsigned mine = __atomic_add_fetch(&arrived, 1, __ATOMIC_RELAXED);
    unsigned whole = (mine + threads - 1) / threads * threads;

    while ((int)(__atomic_load_n(&arrived, __ATOMIC_RELAXED) - whole) < 0)
        sched_yield();
}

static inline bool try_again(void)
{
    sched_yield();
    return true;
}

#endif

#define ROUNDS THREADS_OR_CHECKER(1000, 1)

/* Runs the threads of a round and waits for them. */
static inline void run_threads(void *(*const bodies[])(void *), unsigned threads)
{
    pthread_t ids[8];

    for (unsigned i = 0; i < threads; i++)
        assert(pthread_create(&ids[i], NULL, bodies[i], (void *)(uintptr_t)i) == 0);
    for (unsigned i = 0; i < threads; i++)
        assert(pthread_join(ids[i], NULL) == 0);
}

#endif
