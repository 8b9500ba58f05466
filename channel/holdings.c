/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an MPMC handle has out: reservations, one per thread, and peeked records, up to max_held. Kept so that a span
 * that is finished twice, or with another handle, is -EINVAL instead of a change to somebody else's slot. Private to
 * the process; threads share it.
 */
#include <errno.h>

#include "segment_channel.h"

/* A place that a thread is just taking or giving back. */
#define IN_TRANSIT UINT64_MAX

/* Reservations of this thread on any handle: while there are none, no line needs to be looked for. */
static _Thread_local uint32_t reservations_out __attribute__((tls_model("initial-exec")));

/* A number no other living thread has. */
static uint64_t this_thread(void)
{
    return (uint64_t)(uintptr_t)&reservations_out;
}

/* Where a thread begins to look: threads' storage lies pages apart. */
static unsigned first_line(void)
{
    return (unsigned)(this_thread() >> 12) % NORIA_RESERVING_THREADS;
}

static int line_of_this_thread(struct noria_mpmc_part *part)
{
    uint64_t me = this_thread();

    for (unsigned i = 0; i < NORIA_RESERVING_THREADS; i++) {
        unsigned line = (first_line() + i) % NORIA_RESERVING_THREADS;
        if (noria_load_relaxed64(&part->reserving[line]) == me) /* only we write our number */
            return (int)line;
    }
    return -EINVAL;
}

int noria_reservation_begin(struct noria_mpmc_part *part)
{
    if (noria_reservation_exists(part))
        return -EBUSY;
    for (unsigned i = 0; i < NORIA_RESERVING_THREADS; i++) {
        uint64_t nobody = 0, *line = &part->reserving[(first_line() + i) % NORIA_RESERVING_THREADS];
        if (noria_load_relaxed64(line) == 0 && noria_cas_acq_rel64(line, &nobody, this_thread())) {
            reservations_out++; /* the line is ours */
            return 0;
        }
    }
    return -EBUSY;
}

bool noria_reservation_exists(struct noria_mpmc_part *part)
{
    return reservations_out != 0 && line_of_this_thread(part) >= 0;
}

void noria_reservation_set(struct noria_mpmc_part *part, uint64_t position)
{
    int line = line_of_this_thread(part);

    if (line >= 0)
        noria_store_relaxed64(&part->reserved_position[line], position); /* our own line */
}

bool noria_reservation_is_at(struct noria_mpmc_part *part, uint64_t position)
{
    int line = line_of_this_thread(part);

    return line >= 0 && noria_load_relaxed64(&part->reserved_position[line]) == position; /* our own line */
}

int noria_reservation_end(struct noria_mpmc_part *part, uint64_t position)
{
    int line = line_of_this_thread(part);

    if (line < 0 || noria_load_relaxed64(&part->reserved_position[line]) != position)
        return -EINVAL;
    reservations_out--;
    noria_store_release64(&part->reserving[line], 0); /* the line is free */
    return 0;
}

int noria_holding_begin(struct noria_mpmc_part *part, uint32_t max_held, struct noria_holding **place)
{
    bool in_transit = false;

    for (uint32_t i = 0; i < max_held; i++) {
        uint64_t key = noria_load_relaxed64(&part->held[i].key); /* the swap checks it */
        if (key == 0 && noria_cas_acq_rel64(&part->held[i].key, &key, IN_TRANSIT)) {
            *place = &part->held[i];
            return 0;
        }
        in_transit = in_transit || key == IN_TRANSIT || key == 0;
    }
    return in_transit ? -EAGAIN : -EBUSY;
}

struct noria_holding *noria_holding_find(struct noria_mpmc_part *part, uint32_t max_held, uint64_t key,
                                         uint64_t position)
{
    for (uint32_t i = 0; i < max_held; i++)
        if (noria_load_acquire64(&part->held[i].key) == key && /* pairs with the store when it was peeked */
            noria_load_relaxed64(&part->held[i].position) == position)
            return &part->held[i];
    return NULL;
}
