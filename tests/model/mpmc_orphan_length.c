/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Question: does a receiver with a small buffer ever hear that an orphan is too long, because it read the
 * length of a record that stood in the slot before? Only empty records become orphans here. With -DAGAIN
 * the slot has an orphan from the start, a long record, and another orphan.
 *
 * check: -DONCE
 * check: -DAGAIN
 */
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 16
#endif
#include "mpmc_small.h"

static struct noria_mpmc_handle doomed, receiver;

static void pass_one(struct noria_mpmc_handle *handle, size_t size)
{
    uint64_t bytes = 5;
    size_t len;

    assert(noria_mpmc_send(handle, &bytes, size) == 0);
    assert(noria_mpmc_recv(handle, &bytes, size, &len) == 0);
}

/* From a slot to itself. */
static void turn_wheel(struct noria_mpmc_handle *handle)
{
    for (unsigned i = 1; i < SLOTS; i++)
        pass_one(handle, 0);
}

/* A receiver dies with an empty record at the next position. */
static void make_orphan(struct noria_mpmc_handle *handle)
{
    struct noria_mpmc_record record;
    uint64_t index = 0, word;

    assert(noria_mpmc_send(handle, "", 0) == 0 && noria_mpmc_peek(&doomed, &record) == 0);
    assert(noria_mpmc_find(handle, 1, &index, &word) == 1 && noria_mpmc_settle(handle, index, word) == 1);
}

static void *turn(void *unused)
{
    struct noria_mpmc_handle handle;

    (void)unused;
    join_small(&handle, 2);
    start_together(2);
#ifdef AGAIN
    struct noria_mpmc_record record;
    if (noria_mpmc_adopt(&handle, 1, 0, &record) != 0)
        return NULL; /* the other has it */
    assert(noria_mpmc_release(&handle, &record) == 0);
#endif
    turn_wheel(&handle);
#ifdef AGAIN
    for (unsigned i = 0; i < 2; i++) /* settling and adopting took the slot two laps on */
        turn_wheel(&handle);
    pass_one(&handle, 8);
    turn_wheel(&handle);
#endif
    make_orphan(&handle);
    return NULL;
}

static void *receive(void *unused)
{
    struct noria_mpmc_record record;

    (void)unused;
    start_together(2);
    assert(noria_mpmc_adopt(&receiver, 1, 0, &record) != -EMSGSIZE);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {turn, receive};

    for (int round = 0; round < ROUNDS; round++) {
        struct noria_mpmc_handle handle;
        format_small();
        join_small(&doomed, 1);
        join_small(&receiver, 3);
        join_small(&handle, 4);
#ifdef AGAIN
        make_orphan(&handle);
#else
        pass_one(&handle, 8);
#endif
        run_threads(threads, 2);
        assert(noria_mpmc_invariant(memory, sizeof(memory)));
    }
    return 0;
}
