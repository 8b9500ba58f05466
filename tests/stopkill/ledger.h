/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ledger: who sent which message, who received it, and whether that adds up.
 *
 * Lives with the ring in the arena, one shared mapping that the driver makes before it forks anybody. A
 * message is its sender, a sequence number, a length and bytes that follow from these, so that any mixture is
 * recognised as garbage.
 */
#ifndef STOPKILL_LEDGER_H
#define STOPKILL_LEDGER_H

#include "contestant.h"

enum {
    FIRST_SURVIVOR = 1,
    SECOND_SURVIVOR,
    CORPSE,
    STILL,
    FIRST_VICTIM,
    VICTIMS = 12,
    PARTIES = FIRST_VICTIM + VICTIMS
};
enum { SEQUENCES = 1024, RECEIPTS = 2048 };

/* What a sender knows about a message of his. */
enum sent_state { NOT_SENT, IN_SEND, COMMITTED, REFUSED };

/* The part of the arena that is copied back before each position; the ring's memory stands before it. */
struct books {
    struct party party[PARTIES];
    uint8_t sent[PARTIES][SEQUENCES];
    uint32_t next_sequence[PARTIES];
    uint32_t receipts[PARTIES];
    uint32_t dead;          /* bit per party: the driver has seen it die */
    uint32_t finished;      /* bit per party: its operation under test ran to the end */
    uint32_t mark[PARTIES]; /* messages from here on are the traffic the survivors were asked for */
    uint32_t traffic_goal;
    uint32_t last[PARTIES]; /* broadcast: the last message of this traffic; whoever has it is through */
    uint32_t traffic_received;
    uint32_t progress;
    uint32_t receivers_died; /* of parties reborn since */
};

struct receipt {
    uint32_t sender, sequence, flags;
    bool garbage;
    uint64_t place, lost; /* broadcast: as the receiver was told */
};

struct arena {
    _Alignas(4096) unsigned char ring[RING_BYTES_MAX];
    struct books books;
    /* Valid up to the count in the books. */
    _Alignas(64) struct receipt receipts[PARTIES][RECEIPTS];
};

extern struct arena *arena;

/* The shared mapping, known by this name in /proc/PID/maps. */
#define ARENA_NAME "stopkill-arena"
void arena_create(void);
/* No messages, nobody dead or joined. */
void books_clear(void);

static inline struct party *party_of(uint32_t id)
{
    return &arena->books.party[id];
}

/* Sends the party's next message / receives one and enters it. The contestant's result. */
int ledger_send(struct party *me, uint32_t len);
int ledger_receive(struct party *me);
/* How long the next message shall be, so that lengths vary. */
uint32_t ledger_next_len(const struct party *me);

/* Before an operation under test: writes its messages into out[] and enters the intent. */
void ledger_prepare(struct party *me, uint32_t sends, uint32_t receives);
/* After it: enters what it says it has done. For the dead: what they had got to know. */
void ledger_settle_accounts(struct party *me);

/* The party takes a reservation or a record and keeps it, if there is one to be had. 0 or what went wrong. */
int ledger_hold(struct party *me, unsigned role);

/* Whether these bytes are a message, whole and of a sequence number that its sender has reached. */
bool ledger_read(const unsigned char *data, size_t len, struct receipt *receipt);

/* A sentence with the message it is about. */
const char *ledger_complaint(const char *what, uint32_t sender, uint32_t sequence);

/* NULL if every message is where it should be, or a sentence. Everything that was committed must have been
 * received by now; a `lossy` contestant may lose what a dead receiver was about to receive. `any_flag`:
 * messages may carry the flag although nobody is known to have received them before. */
const char *ledger_audit(bool lossy, bool any_flag);
/* The same where each receiver gets every message. `first`: the place of the stream's first one. */
const char *ledger_audit_broadcast(uint64_t first);

#endif
