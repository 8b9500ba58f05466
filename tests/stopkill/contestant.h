/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the stop-and-kill test asks of a ring or channel: fill one struct in one small file (see ck_mpmc.c,
 * the shortest) and link it with the rest of this folder.
 *
 * The test runs a victim process one instruction after the other through one call, stops or kills it there,
 * lets the survivors send and receive, and then looks through the ledger of all messages. A contestant only
 * says how a call is made. All its functions return 0, a count or a negative errno; -EAGAIN is full or empty
 * and never a mistake.
 *
 * All processes are forked from one driver and see the arena (ring memory, parties, ledger) at the same
 * address, so handles may hold pointers into it. Before each position the driver copies a prepared image of
 * the arena back; hence handles must be plain bytes in party->handle. Where joining means more than that (a
 * channel: descriptors, locks, mappings) `joins_each_time` is set: then format and each join are done anew
 * before each position, every party joins in its own process, and all leave afterwards.
 */
#ifndef STOPKILL_CONTESTANT_H
#define STOPKILL_CONTESTANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SENDS = 1, RECEIVES = 2 };
enum { REDELIVERED = 1, FLAG_UNKNOWN = 2 /* a call that does not tell */ };
enum { BATCH = 4, MESSAGE_MAX = 64, RING_BYTES_MAX = 64 * 1024 };

/* A message that the operation under test sends. The result is stored as soon as the call returned. */
struct outgoing {
    uint32_t sequence;
    uint32_t len;
    int result; /* UNTRIED until then */
    unsigned char data[MESSAGE_MAX];
};
enum { UNTRIED = 1 };

/* What may happen to a message when its holder dies. */
enum incoming_stage {
    IN_CALL,   /* the application has not seen it, unless `data` is complete */
    SEEN,      /* peeked: must be delivered again, flagged */
    RELEASING, /* may be delivered again, flagged */
    RELEASED   /* must not come again */
};

/* A message that the operation under test receives. */
struct incoming {
    uint32_t stage;
    uint32_t flags;
    size_t len;
    uint64_t place, lost; /* as in struct party */
    unsigned char data[MESSAGE_MAX];
};

/* Operations say with these what has happened, in order, so that it is known when they die at the next
 * instruction. */
static inline void incoming_is(struct incoming *in, enum incoming_stage stage)
{
    __atomic_store_n(&in->stage, (uint32_t)stage, __ATOMIC_SEQ_CST);
}

static inline void outgoing_is(struct outgoing *out, int result)
{
    __atomic_store_n(&out->result, result, __ATOMIC_SEQ_CST);
}

/* One participant. */
struct party {
    uint32_t id;
    uint32_t owner;             /* what the ring is told: the id, or that of a dead party it succeeds */
    unsigned roles;             /* joined as */
    int result;                 /* of the operation under test */
    void *memory;               /* of the ring */
    const struct party *corpse; /* whom a repairing operation repairs */
    uint64_t place, lost; /* broadcast: where in the stream the message received last stands; misses before */
    int depth;            /* of the operation; for hold */
    uint32_t sends;             /* how many of out[] and in[] the operation uses */
    uint32_t receives;
    struct outgoing out[BATCH];
    struct incoming in[BATCH];
    _Alignas(64) unsigned char handle[1024];
};

/* A state of the ring in which operations are tried. */
struct situation {
    const char *name;
    int fill;       /* messages waiting; or one of the two below */
    unsigned still; /* another process was stopped before: SENDS with a reservation, RECEIVES with a record */
    unsigned dead;  /* the same, but it died and nobody has repaired anything yet */
    bool repaired;  /* somebody has */
    int earlier;    /* broadcast: as `fill`, before these; received by all but who stands still */
    bool groups;    /* a receiver may hold more than it has handed out */
    bool batch;     /* a batch of BATCH messages waits in front of them */
    uint64_t first_position;
    int layout;             /* passed to format, for its own use */
    bool contended;         /* short run: foreign rounds too */
    bool every_instruction; /* short run: here not only those that touch the ring */
    bool brief;             /* short run: without the long operations */
};
enum { ONE_BELOW_FULL = -1, COMPLETELY_FULL = -2 };

struct operation {
    const char *name;
    unsigned role;  /* what the victim is joined as beforehand, or the role the operation is about */
    uint32_t sends; /* at most so many messages */
    uint32_t receives;
    bool joins;   /* the victim is not joined beforehand */
    bool leaves;  /* it gives its role up */
    bool repairs; /* it repairs what a dead party holds (`dead`); with one partner it is not joined itself */
    unsigned dead;
    int depth;      /* how far into its call the dead one got, in the contestant's measure */
    int fill;       /* only in situations with so many messages; 0: in all */
    int stride;     /* short run: only at each so many-th position; 0: at all */
    bool every_turn; /* a batch, and each of its positions is tried all the same */
    unsigned still; /* only in situations where such a one stands still */
    bool is_long; /* only at accesses of the segment and at system calls, and right after, also where every
                     instruction is tried */
    int (*prepare)(struct party *me); /* just before, in the victim. May be NULL. */
    void (*run)(struct party *me);
};

struct contestant {
    const char *name;
    bool expected_bad; /* a rival that is known to wedge: the run passes if bad positions were found */
    bool one_partner; /* one sender and one receiver: a stopped one may hold up the other, in bounded calls */
    bool broadcasts; /* with one_partner: one sender, any number of receivers, and each gets every message */
    bool overtakes;  /* broadcast: who stands still holds nobody up for long, and is told what it missed */
    bool shares_code; /* most of what it does is what another contestant does: its short run is shorter */
    bool joins_each_time; /* nothing can be prepared by copying bytes, see above */
    bool dies_inside; /* nothing can be held: a dead party sent what waits, and then left a call in the middle */
    bool redelivers;      /* a dead receiver's message comes again, or it has seen all of it */
    bool recovers;        /* after recovery the full capacity is there again */
    int full_slack;       /* by how many messages the full count may differ with the position (pads) */
    uint32_t max_message;
    int patience_ms;                    /* how long survivors may go without progress */
    const char *segment;                /* part of its name in /proc/PID/maps; NULL: party->memory */
    const struct situation *situations; /* ends with name NULL */
    const struct operation *operations; /* ends with name NULL */

    /* Makes an empty ring at `memory` (RING_BYTES_MAX bytes) and returns how many bytes it uses. */
    int (*format)(void *memory, const struct situation *situation);
    /* At the very end. May be NULL. */
    void (*remove)(void *memory);
    int (*join)(struct party *me, unsigned roles);
    int (*leave)(struct party *me);
    int (*send)(struct party *me, const void *data, size_t len);
    int (*receive)(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags);
    /* After a failed try, as an application would. May be NULL. */
    void (*wait)(struct party *me, unsigned role);
    /* Settles what `dead` left. Its death is certain before the call. NULL: the calls do it by themselves. */
    int (*recover)(struct party *me, const struct party *dead);
    /* Takes a reservation with out[0] or a record into in[0] and keeps it; lets it go again. */
    int (*hold)(struct party *me, unsigned role);
    int (*finish)(struct party *me, unsigned role);
    /* Sends out[0] to out[BATCH - 1] in one batch. Only for situations that want one. */
    void (*send_batch)(struct party *me);
    /* How many messages must fit while `stopped` parties are absent; the full count otherwise. */
    int (*room)(const struct situation *situation, int full, int stopped);
    /* How many times the ring may have to be filled and emptied, per victim, before a slot that was in use by
     * a dead or stopped party counts as room again. NULL: at once. */
    int (*laps_to_heal)(const struct situation *situation);
    /* After everything was received and everybody is alive or settled. May be NULL. */
    bool (*invariant)(const void *memory);
    /* How many messages it says it has dropped by policy. NULL: it drops none. */
    uint64_t (*lost)(const void *memory);
    /* Words of the ring, for a report. May be NULL. */
    void (*describe)(const void *memory, FILE *out);
};

extern const struct contestant contestant;

static inline bool joined_beforehand(const struct operation *operation)
{
    return !operation->joins && !(operation->repairs && contestant.one_partner);
}

/* The death certificate: the driver has waited for the process. A settler loads the word, then asks. */
bool party_is_dead(const struct party *party);

#endif
