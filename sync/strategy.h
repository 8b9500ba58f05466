/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a sleeper sleeps and is woken: one file per strategy, chosen when a channel is created.
 *
 * The event count (event.h) decides who has to sleep and who has to wake; a strategy is the bell it uses. A bell may ring
 * too often, and its level may be anything after a crash or by tampering: whoever hears it looks at the ring, which is
 * the truth. What a bell must not do is stay silent:
 *
 *     sleeper                              waker, if the event word has the flag
 *     set the flag
 *     quiet: take back earlier rings       count 1 on the event word, clear the flag
 *     look at the ring: nothing            ring
 *     wait, unless the event word changed
 *
 *   A ring is a level that stays until somebody takes it back (a futex needs none: it compares the word itself). Who
 *   takes it back looks at the ring afterwards, and rings again if he finds something, for the ring may have been meant for another sleeper too.
 *
 * A bell belongs to one handle and one side (event); its objects are shared. Threads of the handle use it together.
 * Nothing here is trusted: a semaphore, descriptor or id that is not what it should be makes the sleeper rely on its
 * bounded re-check.
 */
#ifndef NORIA_STRATEGY_H
#define NORIA_STRATEGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "atomic.h"

/* Where the objects of one channel are. One per handle, alive as long as its bells. */
struct noria_bell_place {
    uint64_t id[2];        /* of the channel, random: names of what lies outside the segment are made of it */
    mode_t mode;           /* permissions of the channel */
    uid_t owner;           /* of the channel: whoever makes an object for it makes it his, if he may */
    gid_t group;
    uint32_t participants; /* places in the table */
    uint32_t number;       /* this handle's, from 1 */
    void *memory;          /* in the segment: footprint(participants) bytes, 64-byte aligned; NULL if that is 0 */
    uint32_t *words[2];    /* in the segment: per side four words beside the event word, 0 at first, for a strategy's use */
    /* Calls `each` for every live participant but this one, with its pid, until it returns true. Of another pid
     * namespace: minus the pid that it has there, by which nobody here can be asked. */
    bool (*find_peer)(void *context, bool (*each)(void *mine, uint32_t number, pid_t pid), void *mine);
    void *context;
};

struct noria_bell {
    struct noria_bell_place *place;
    uint32_t *word;  /* the event word */
    unsigned side;   /* 0: senders wait here, 1: receivers */
    int fd;          /* -1: none */
    int set;         /* System V: the set's id; -1: none */
    void *object;
    uint32_t state;  /* the strategy's own, for instance which generation of an object this is */
};

struct noria_strategy {
    const char *name;
    bool sleeps;   /* false: waiting is trying again and again, nobody has to ring */
    bool pollable; /* its bell has a descriptor */
    bool trusting; /* who tampers with its objects can crash who uses them, or turn them on others of his */
    /* Bytes in the segment; NULL: none. */
    size_t (*footprint)(uint32_t participants);
    /* Makes or opens the objects for this bell. 0, or -errno with a sentence. May be NULL, like the rest. */
    int (*open)(struct noria_bell *bell);
    void (*close)(struct noria_bell *bell);
    /* Removes what has a name outside of the segment, for both sides. */
    void (*remove)(const struct noria_bell_place *place);
    /* Wakes everybody who waits at the bell. Bounded, never blocks, async-signal-safe unless stated. */
    void (*ring)(struct noria_bell *bell);
    /* Takes back earlier rings; whether there were any. NULL: a ring does not stay. */
    bool (*quiet)(struct noria_bell *bell);
    /* Looks whether its object is still the channel's, and known to the others as that; whether it had to be changed. NULL:
     * there is nothing to look at. */
    bool (*renew)(struct noria_bell *bell);
    /* Waits for a ring, until `until_ns` (CLOCK_MONOTONIC) at the latest, if *bell->word still is `expected`. May return
     * early. 0, or -EINTR if a signal handler ran. */
    int (*wait)(struct noria_bell *bell, uint32_t expected, int64_t until_ns);
    /* Between two tries, if it does not sleep. */
    void (*pace)(void);
};

/* Numbers as in noria.h (enum noria_wait). NULL: this library does not know it. */
const struct noria_strategy *noria_strategy_find(uint32_t wait);

extern const struct noria_strategy noria_strategy_futex, noria_strategy_mutex, noria_strategy_semaphore,
    noria_strategy_sysv_semaphore, noria_strategy_eventfd, noria_strategy_fifo, noria_strategy_spin,
    noria_strategy_yield;

#endif
