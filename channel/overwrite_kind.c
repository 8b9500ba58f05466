/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels over the MPMC ring whose sender makes room himself: when the ring is full the oldest message goes.
 * In all else a queue of one ring (mpmc_kind.c).
 *
 * A message goes only at an instant at which the ring is full; the sender's own takes its place a moment later.
 *
 * Every message dropped so is counted, exactly once, whoever is killed at whichever instruction. So the count
 * stands beside a log in the dropper's entry, which only he writes while he lives:
 *
 *     take      FULL -> READING(me)                      killed before the log: an orphan, delivered again
 *     log       dropping = its sequence
 *               dropped = count << 1 | 1, release (L)    from here on it is lost, whoever gets on with it
 *     release   READING(me) -> EMPTY
 *     done      dropped = (count + 1) << 1
 *
 * Who settles a dead participant finishes an open log first, before its slots: if a slot that the dead one
 * reads still has that sequence, it is freed; then dropped goes from exactly the open word to count + 1. The
 * word only grows, so however many settle together, die, or come too late with an old word, one of them
 * counts it and nobody twice. A sequence names one message for ever, so a slot that the dead one had taken
 * again since is told from the logged one.
 */
#include <errno.h>
#include <sched.h>

#include "call.h"
#include "mpmc_ring.h"
#include "one_by_one.h"

/* What one send drops at most, and how often it waits for another thread of the handle that is dropping. */
enum { MOST_ROUNDS = 64 };

/* ----------------------------------------------------------------------------------------------- dropping */

/* 0, or -EOWNERDEAD: the others took us for dead, and the log is no longer ours. */
static int drop(struct noria_segment_channel *channel, struct noria_mpmc_record *record)
{
    struct noria_entry *entry = channel->own;
    /* Relaxed: while we live we alone write it, under the handle's lock; the swap checks it. */
    uint64_t closed = noria_load_relaxed64(&entry->dropped) & ~UINT64_C(1), open = closed | 1;
    int rc;

    noria_store_relaxed64(&entry->dropping, record->sequence);
    /* L: pairs with settle_log; publishes the sequence. */
    if (!noria_cas_acq_rel64(&entry->dropped, &closed, open))
        return -EOWNERDEAD;
    rc = noria_mpmc_release(&channel->part.overwrite.queue.ring, record);
    noria_cas_acq_rel64(&entry->dropped, &open, open + 1); /* L: who counts the loss finds the slot free */
    noria_losses_changed(channel);
    return rc;
}

/* Takes the oldest message, if the ring is full in that moment; who stood still for a while before it must not drop what
 * would have room by now. So first the oldest is looked for, then the room, and what is taken is that very one: as long as
 * it stood nobody took one behind it. A record that a dead receiver held goes only if there is no other: the capacity does
 * not count it, but the slot may be needed. 1 taken, 0 there is room, or another was faster, -EAGAIN, -EBADMSG. */
static int take_oldest(struct noria_mpmc_handle *ring, struct noria_mpmc_record *record)
{
    uint64_t word = 0;
    int rc = noria_mpmc_look(ring, record, &word);

    if (rc != 0 && rc != -EAGAIN)
        return rc;
    if (noria_mpmc_may_send(ring))
        return 0;
    if (rc == 0 && !noria_mpmc_claim_found(ring, word, record))
        return 0;
    if (rc == 0)
        noria_mpmc_advance(&ring->read_guess, &ring->ring->read_pos, &ring->read_hint_known, record->position + 1);
    else /* F: the load pairs with the settler's announcement */
        rc = noria_mpmc_adopt(ring, noria_load_acquire64(&ring->ring->orphans), SIZE_MAX, record);
    if (rc != 0)
        return rc;
    if (noria_mpmc_open_record(ring, SIZE_MAX, record) != 0)
        record->sequence = record->position; /* its length cannot be; it goes all the same */
    return 1;
}

/* The ring was full. 0: try again, -EAGAIN: all that is there is held or half done, -EBADMSG. */
static int make_room(struct noria_segment_channel *channel)
{
    struct noria_overwrite_part *part = &channel->part.overwrite;
    struct noria_mpmc_record record = {.count = 1};
    int rc;

    /* Pairs with the store below: the log is one per handle. */
    if (noria_exchange_acquire32(&part->busy, 1) != 0) {
        sched_yield();
        return 0;
    }
    rc = take_oldest(&part->queue.ring, &record);
    if (rc == 1)
        rc = drop(channel, &record);
    noria_store_release32(&part->busy, 0);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ sending */

static int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_handle *ring = &channel->part.overwrite.queue.ring;
    int rc;

    (void)priority;
    if (noria_reservation_exists(&channel->part.overwrite.queue))
        return -EBUSY; /* it would overtake the reservation, or not */
    rc = noria_mpmc_send(ring, data, len);
    for (int round = 0; rc == -EAGAIN && round < MOST_ROUNDS; round++) {
        rc = make_room(channel);
        if (rc != 0)
            return rc;
        rc = noria_mpmc_send(ring, data, len);
    }
    if (rc == 0)
        noria_mpmc_sent(channel, ring, 1);
    return rc;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    return noria_send_one_by_one(base, messages, n, send_one);
}

static int reserve(noria_channel *base, size_t max_len, struct noria_span *span)
{
    int rc = noria_queue_reserve(base, max_len, span);

    for (int round = 0; rc == -EAGAIN && round < MOST_ROUNDS; round++) {
        rc = make_room(noria_segment_channel_of(base));
        if (rc != 0)
            return rc;
        rc = noria_queue_reserve(base, max_len, span);
    }
    return rc;
}

/* ----------------------------------------------------------------------------------------------- recovery */

/* Frees the slot of an open log, if the dead one had not. False: somebody else is at it, or the owner
 * lives again. */
static bool settle_slot(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word,
                        uint64_t sequence)
{
    struct noria_mpmc_handle *ring = &channel->part.overwrite.queue.ring;
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(ring, sequence);
    uint64_t word = noria_load_acquire64(&slot->state); /* pairs with the take */

    /* Acquired with the word; stands as long as that does. */
    if (NORIA_MPMC_KIND(word) != NORIA_MPMC_READING || NORIA_MPMC_OWNER(word) != owner ||
        noria_load_relaxed64(&slot->sequence) != sequence)
        return true;
    /* After the load, as in noria_mpmc_settle_owner. */
    if (!noria_participant_is_dead(channel, owner, entry_word, true))
        return false;
    return noria_mpmc_discard(ring, sequence & ring->mask, word) == 1;
}

/* Finishes what the dead one had begun to drop. False: not yet. */
static bool settle_log(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_entry *entry = &channel->table[owner - 1];

    for (int looks = 0; looks < NORIA_MPMC_TRIES; looks++) {
        uint64_t dropped = noria_load_acquire64(&entry->dropped); /* L: brings the sequence */
        uint64_t sequence = noria_load_relaxed64(&entry->dropping);
        if ((dropped & 1) == 0)
            return true;
        /* After the load: the log of somebody reborn under this number is his own business. */
        if (!noria_participant_is_dead(channel, owner, entry_word, true))
            return false;
        /* A lost swap of the slot was a sender's step over it, or another settler's: look again. */
        if (!settle_slot(channel, owner, entry_word, sequence))
            continue;
        /* After the slot; lost: another one counted it. */
        noria_cas_acq_rel64(&entry->dropped, &dropped, dropped + 1);
    }
    return false;
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    if (!settle_log(channel, owner, entry_word))
        return -EAGAIN;
    return noria_queue_settle(channel, owner, entry_word);
}

NORIA_WHOLE_CALLS(send_one, noria_queue_recv)

const struct noria_kind_table noria_overwrite_kind = {
    .name = "overwrite",
    .takes = NORIA_TAKES_MANY_HELD | NORIA_TAKES_ORPHANS_DROP | NORIA_TAKES_OVERWRITE,
    .verbs = {.send = send_one, .send_many = send_many, .reserve = reserve, .send_call = send_call,
              .recv_call = recv_call, NORIA_QUEUE_VERBS, NORIA_SEGMENT_VERBS},
    NORIA_QUEUE_FUNCTIONS,
    .settle = settle,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER |
                 NORIA_CAN_ZERO_COPY,
};
