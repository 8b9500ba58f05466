/* SPDX-License-Identifier: BSD-2-Clause */
/* A rendezvous of a few slots for 8-byte numbers, as all rendezvous clients of this folder use it. */
#ifndef NORIA_MODEL_RENDEZVOUS_SMALL_H
#define NORIA_MODEL_RENDEZVOUS_SMALL_H

#include "checker.h"

#ifdef MODEL_CHECKER
/* The checker sees every store, so it gets few: the table's memory is zero from the start, and of the handle
 * only what is read before it is written (it reports any other as uninitialized). */
struct noria_rendezvous_handle;
static inline void zero_handle(struct noria_rendezvous_handle *handle, size_t size);
static inline void leave_zero(void *to, size_t size)
{
    (void)to, (void)size;
}
#undef ZERO
#define ZERO(to) _Generic((to), struct noria_rendezvous_handle *: zero_handle, default: leave_zero)

#define NORIA_RENDEZVOUS_TRIES 3 /* a word that changes twice */
#endif

#include <noria/rendezvous.h>

#ifdef MODEL_CHECKER
static inline void zero_handle(struct noria_rendezvous_handle *handle, size_t size)
{
    (void)size;
    handle->owner_bits = 0;
}
#endif

#ifndef SLOTS
#define SLOTS 1
#endif
enum { OWNERS = 3 };

static _Alignas(64) uint64_t memory[(sizeof(struct noria_rendezvous) + NORIA_LINE_PAIR + SLOTS * 64) / 8];

static inline void format_small(void)
{
    struct noria_rendezvous_config config;

    config.first_position = 0;
    config.max_message = 8;
    config.owners = OWNERS;
    config.slots = SLOTS;
    assert(noria_rendezvous_format(memory, sizeof(memory), &config) == 0);
}

static inline void join_small(struct noria_rendezvous_handle *handle, uint32_t owner)
{
    assert(noria_rendezvous_join(handle, memory, sizeof(memory), owner, 1) == 0);
}

/* True if it is offered; no slot free is the only other answer there may be. */
static inline bool offer_number(struct noria_rendezvous_handle *handle, uint64_t number,
                                struct noria_rendezvous_offer *offer)
{
    int rc;

    while ((rc = noria_rendezvous_offer(handle, &number, sizeof(number), offer)) == -EAGAIN && try_again())
        ;
    assert(rc == 0 || rc == -EAGAIN);
    return rc == 0;
}

/* True if a message is being taken; that there is none is the only other answer there may be. */
static inline bool claim_one(struct noria_rendezvous_handle *handle, struct noria_rendezvous_record *record)
{
    int rc = noria_rendezvous_claim(handle, sizeof(uint64_t), record);

    assert(rc == -EAGAIN || (rc == 0 && record->len == sizeof(uint64_t)));
    return rc == 0;
}

static inline uint64_t number_in(const struct noria_rendezvous_record *record)
{
    return *(const uint64_t *)record->data;
}

#endif
