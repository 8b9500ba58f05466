/* SPDX-License-Identifier: BSD-2-Clause */
/* A broadcast ring of a few numbers, as all broadcast clients of this folder use it: number n is the n-th
 * record. */
#ifndef NORIA_MODEL_BROADCAST_SMALL_H
#define NORIA_MODEL_BROADCAST_SMALL_H

#include "checker.h"

#ifdef MODEL_CHECKER
/* The checker sees every store, so it gets few: the ring's memory is zero from the start. Of 16 bytes
 * each, a record fills a chunk, and three records the ring. */
static inline void leave_zero(void *to, size_t size)
{
    (void)to, (void)size;
}
#undef ZERO
#define ZERO(to) leave_zero

#define NORIA_BROADCAST_MIN_CAPACITY 64u
#define NORIA_BROADCAST_CHUNKS 4u
#define NORIA_BROADCAST_TRIES 2
#endif

#include <noria/broadcast.h>

enum { CAPACITY = NORIA_BROADCAST_MIN_CAPACITY, OWNERS = 3, SENDER = 3 };

static _Alignas(64) uint64_t
    memory[(sizeof(struct noria_broadcast) + OWNERS * sizeof(struct noria_broadcast_cursor) + CAPACITY) / 8];

static inline void format_small(enum noria_broadcast_mode mode)
{
    assert(noria_broadcast_format(memory, sizeof(memory), CAPACITY, OWNERS, mode, 0) == 0);
}

static inline void join_as_sender(struct noria_broadcast_sender *sender)
{
    assert(noria_broadcast_join_sender(sender, memory, sizeof(memory), SENDER) == 0);
}

static inline void join_as_receiver(struct noria_broadcast_receiver *receiver, uint32_t owner)
{
    assert(noria_broadcast_join_receiver(receiver, memory, sizeof(memory), owner, NORIA_BROADCAST_OLDEST,
                                         0) == 0);
}

/* True if it was sent; full is the only other answer there may be. */
static inline bool send_next(struct noria_broadcast_sender *sender)
{
    uint64_t number = sender->sequence;
    int rc = noria_broadcast_send(sender, &number, sizeof(number));

    assert(rc == 0 || rc == -EAGAIN);
    return rc == 0;
}

/* True if one was received, and then it is the one that the receiver takes it for; empty is the only other
 * answer. */
static inline bool recv_next(struct noria_broadcast_receiver *receiver)
{
    uint64_t number = 0;
    size_t len = 0;
    int rc = noria_broadcast_recv(receiver, &number, sizeof(number), &len);

    assert(rc == -EAGAIN || (rc == 0 && len == sizeof(number) && number == receiver->sequence - 1));
    return rc == 0;
}

#endif
