/* SPDX-License-Identifier: BSD-2-Clause */
/* An MPMC ring of a few slots of 8-byte numbers, as all mpmc clients of this folder use it. */
#ifndef NORIA_MODEL_MPMC_SMALL_H
#define NORIA_MODEL_MPMC_SMALL_H

#include "checker.h"

#ifdef MODEL_CHECKER
/* The checker sees every store, so it gets few: the ring's memory is zero from the start, and of the
 * structs only the members that are read before they are written (it reports any other as uninitialized). */
struct noria_mpmc;
struct noria_mpmc_handle;
struct noria_mpmc_walk;
static inline void zero_ring(struct noria_mpmc *ring, size_t size);
static inline void zero_handle(struct noria_mpmc_handle *handle, size_t size);
static inline void zero_walk(struct noria_mpmc_walk *walk, size_t size);
#undef ZERO
#define ZERO(to) \
    _Generic((to), struct noria_mpmc *: zero_ring, struct noria_mpmc_handle *: zero_handle, \
             struct noria_mpmc_walk *: zero_walk, default: zero_words)

#define NORIA_MPMC_MIN_SLOTS 2
#define NORIA_MPMC_PATIENCE 0
#ifndef NORIA_MPMC_HINT_LAG
#define NORIA_MPMC_HINT_LAG 1
#endif
#endif

#include <noria/mpmc.h>

#ifdef MODEL_CHECKER
static inline void zero_ring(struct noria_mpmc *ring, size_t size)
{
    (void)ring, (void)size;
}

static inline void zero_handle(struct noria_mpmc_handle *handle, size_t size)
{
    (void)size;
    handle->lap_shift = 0;
#ifdef WHOLE_HANDLES /* they are copied: every member, in its own size */
    handle->lap_drop = handle->owner = handle->patience = handle->prefetch = 0;
    handle->write_guess = handle->write_hint_known = handle->read_floor = handle->solid_to = handle->in_the_way = 0;
    handle->send_backoff.position = handle->send_backoff.pauses = 0;
    handle->recv_backoff.position = handle->recv_backoff.pauses = 0;
    for (int i = 0; i < 5; i++)
        handle->reserved[i] = 0;
    handle->read_guess = handle->read_hint_known = handle->orphans_seen = 0;
    handle->open.position = handle->open.offset = handle->open.cut_position = 0;
    handle->open.next = handle->open.count = handle->open.flags = handle->open.cut_count = 0;
#endif
}

static inline void zero_walk(struct noria_mpmc_walk *walk, size_t size)
{
    (void)size;
    walk->renewals = 0;
    walk->restarts = 0;
    walk->passed = 0;
}
#endif

#ifndef SLOTS
#define SLOTS THREADS_OR_CHECKER(8, 2)
#endif
#ifndef CAPACITY
#define CAPACITY SLOTS
#endif
#define OWNERS 8

static _Alignas(64) uint64_t memory[(sizeof(struct noria_mpmc) + SLOTS * 32) / 8];

static inline void format_small(void)
{
    struct noria_mpmc_config config = {0};

    config.capacity = CAPACITY;
    config.slots = SLOTS;
    config.max_message = 8;
    config.pack = 1;
    config.owners = OWNERS;
    config.max_held = 1;
    assert(noria_mpmc_format(memory, sizeof(memory), &config) == 0);
}

static inline void join_small(struct noria_mpmc_handle *handle, uint32_t owner)
{
    assert(noria_mpmc_join(handle, memory, sizeof(memory), owner) == 0);
}

/* True if it was sent; full is the only other answer there may be. */
static inline bool send_number(struct noria_mpmc_handle *handle, uint64_t number)
{
    int rc;

    while ((rc = noria_mpmc_send(handle, &number, sizeof(number))) == -EAGAIN && try_again())
        ;
    assert(rc == 0 || rc == -EAGAIN);
    return rc == 0;
}

#ifdef LOOK
/* With -DLOOK a record is looked at first, and then taken if it is still there, as a chain does it. */
static inline bool recv_number(struct noria_mpmc_handle *handle, uint64_t *number)
{
    struct noria_mpmc_record record;
    uint64_t word;
    int rc;

    do {
        rc = noria_mpmc_look(handle, &record, &word);
        assert(rc == 0 || rc == -EAGAIN);
        if (rc == -EAGAIN)
            return false;
        rc = noria_mpmc_take_found(handle, word, sizeof(*number), &record);
    } while (rc == -EAGAIN); /* another one was faster */
    assert(rc == 0 && record.len == sizeof(*number));
    *number = *(const uint64_t *)record.data;
    assert(noria_mpmc_release(handle, &record) == 0);
    return true;
}
#else
/* True if one was received; empty is the only other answer there may be. */
static inline bool recv_number(struct noria_mpmc_handle *handle, uint64_t *number)
{
    size_t len;
    int rc = noria_mpmc_recv(handle, number, sizeof(*number), &len);

    assert(rc == -EAGAIN || (rc == 0 && len == sizeof(*number)));
    return rc == 0;
}
#endif

/* With -DREADY the clients ask whether they may, instead of doing it; with -DGLANCE, whether nothing is there for certain. */
#ifdef READY
#define MAY_SEND(handle, number) ((void)(number), noria_mpmc_may_send(handle))
#define MAY_RECV(handle, number) ((void)(number), noria_mpmc_may_receive(handle))
#elif defined(GLANCE)
#define MAY_RECV(handle, number) ((void)(number), !noria_mpmc_starts_empty(handle))
#define MAY_SEND(handle, number) send_number(handle, number)
#else
#define MAY_SEND(handle, number) send_number(handle, number)
#define MAY_RECV(handle, number) recv_number(handle, number)
#endif

/* In an empty ring with nobody in it every slot is EMPTY. Those that were stepped over are some laps
 * ahead; when the wheel has come round that often, all can be full. */
static inline void assert_no_slot_lost(struct noria_mpmc_handle *handle)
{
    uint64_t turns = THREADS_OR_CHECKER(4 * SLOTS, 0), number;

    for (uint64_t i = 0; i < SLOTS; i++)
        assert(NORIA_MPMC_KIND(noria_load_acquire64(noria_mpmc_state_at(handle, i))) == NORIA_MPMC_EMPTY);
    for (uint64_t i = 0; i < turns; i++)
        assert(noria_mpmc_send(handle, &i, sizeof(i)) == 0 && recv_number(handle, &number) && number == i);
    for (uint64_t i = 0; i < SLOTS && turns != 0; i++)
        assert(noria_mpmc_send(handle, &i, sizeof(i)) == 0);
}

#endif
