/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a contestant is to the harness: a name, a footprint, a format and four loops.
 *
 * A contestant's file does not write the loops. It writes seven small functions and includes traffic.h, which
 * makes the loops out of them, so that everything inlines and no rival pays for a call through a pointer per
 * message:
 *
 *     struct NAME_side                     private state of one participant in one role
 *     size_t   NAME_footprint(cell)        bytes of shared memory; 0 = does not take part in this cell
 *     int      NAME_format(memory, cell)   0 or -errno; once, before the participants exist; memory is zeroed
 *     int      NAME_join(side, seat)       0 or -errno; in the participant
 *     uint8_t *NAME_place(side, i, size, batch)             where to write the i-th message of this batch, or
 * NULL: full uint32_t NAME_publish(side, from, to, size, batch)    publish messages from..to-1 of the batch;
 * how many it did const uint8_t *NAME_arrived(side, i, size, batch)     the i-th message of this batch, or
 * NULL: empty void     NAME_release(side, n, size, batch)           done with the n messages of this batch
 *
 * After a NULL from place the harness publishes what it has filled so far. `size` and `batch` are constants
 * after inlining. A rival that copies hands out seat->scratch (batch x size bytes, private, 64-byte aligned)
 * and copies in publish and arrived.
 */
#ifndef BENCH_CONTESTANT_H
#define BENCH_CONTESTANT_H

#include <errno.h>

#include "cell.h"
#include "message.h"

#ifdef __cplusplus
extern "C" {
#endif

enum contestant_traits {
    TAKES_SPSC = 1,
    TAKES_MPMC = 2,
    NEEDS_THREADS = 4,     /* keeps messages on its heap: threads of one process instead of processes */
    WAITS_ITSELF = 8,      /* has a wait of its own, or blocks: no PAUSE policy is imposed on it */
    USES_KERNEL = 16,      /* a system call per message or batch: left out of --quick */
    IS_YARDSTICK = 32,     /* no rival: printed, but nobody's best peer */
    BROKEN_ON_PURPOSE = 64 /* only for --selftest */
};

enum role { ROLE_PRODUCER, ROLE_CONSUMER };

/* Where a participant sits. */
struct seat {
    void *memory;
    void *scratch;
    const struct cell *cell;
    enum role role;
    uint32_t index; /* among its role */
    uint32_t owner; /* 1.., different for everybody on the same ring */
};

struct participant;

struct contestant {
    const char *name;
    const char *calls; /* which of its interfaces is measured */
    unsigned traits;
    size_t (*footprint)(const struct cell *cell);
    int (*format)(void *memory, const struct cell *cell);
    void (*close)(void *memory); /* NULL: nothing is left behind outside of the memory */
    void (*produce)(struct participant *me);
    void (*consume)(struct participant *me);
    void (*ping)(struct participant *me);
    void (*echo)(struct participant *me);
    struct contestant *next;
};

/* Called by constructors before main; the list is sorted by name, noria first. */
void contestant_register(struct contestant *contestant);
const struct contestant *contestant_list(void);

#ifdef __cplusplus
}
#endif

#endif
