/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mending what the dead left, by whoever notices: a sender who finds the ring full, a receiver who finds it empty, a
 * sleeper at his re-check, the next one to open. Recoverers may run together, stop or die at any instruction: every
 * step is one compare-and-swap from an exact word, and the entry, freed last, keeps the dead one findable until then.
 *
 *     certify           the incarnation in the entry is dead (else a scan could pass a slot that it claims later)
 *     settle the ring   each word: load, certify again, compare-and-swap
 *     certify, free     LIVE -> FREE: from here on the number may be reborn
 *
 * No call on a ring that moves makes a system call. A side that has not got on for 10 ms asks after everybody, at most
 * once per 10 ms; a side that fails now and then, every 50 ms.
 */
#include <errno.h>
#include <pthread.h>

#include "segment_channel.h"

#define PROBE_EVERY_NS (10 * NORIA_NS_PER_MS)
#define THOROUGH_EVERY_NS (100 * NORIA_NS_PER_MS)
#define ROUND_EVERY_NS (50 * NORIA_NS_PER_MS)

static int recover(struct noria_segment_channel *channel, uint32_t number, bool thorough)
{
    uint64_t *entry = &channel->table[number - 1].word;
    uint64_t word = noria_load_acquire64(entry), expected = word;

    if (!noria_participant_is_dead(channel, number, word, thorough))
        return 0;
    if (channel->kind->settle(channel, number, word) != 0)
        return 0;
    if (!noria_participant_is_dead(channel, number, word, true))
        return 0;
    noria_signal_recover(channel, number);
    noria_losses_changed(channel); /* it may have lost a message and died before it said so */
    noria_participant_note_lock(channel, number, word);
    if (!noria_cas_acq_rel64(entry, &expected, (word & ~(NORIA_ENTRY_INCARNATION - 1)) | NORIA_ENTRY_FREE))
        return 0;
    noria_participant_give_lock_back(channel, number); /* if it was an earlier program of this process */
    noria_count(&channel->shared->deaths, 1);
    noria_roster_changed(channel);
    noria_segment_wake(&channel->base); /* it may have died between taking a flag back and ringing */
    return 1;
}

/* What the kernel is asked may be a point of cancellation, and a thread must not vanish in the middle of a call. */
int noria_recover(struct noria_segment_channel *channel, uint32_t number, bool thorough)
{
    int cancels, recovered;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    recovered = recover(channel, number, thorough);
    pthread_setcancelstate(cancels, NULL);
    return recovered;
}

int noria_recover_all(struct noria_segment_channel *channel, bool thorough)
{
    int recovered = 0;

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        if (!noria_participant_is_self(channel, number) &&
            NORIA_ENTRY_STATE(noria_load_relaxed64(&channel->table[number - 1].word)) == NORIA_ENTRY_LIVE)
            recovered += noria_recover(channel, number, thorough); /* which loads the word with acquire */
    return recovered;
}

/* Whether a time kept in `last` is `every` ago; then it is now. */
static bool is_due(uint64_t *last, int64_t now, int64_t every)
{
    if (now - (int64_t)noria_load_relaxed64(last) < every) /* private housekeeping; a race costs one look too many */
        return false;
    noria_store_relaxed64(last, (uint64_t)now);
    return true;
}

void noria_ask_after(struct noria_segment_channel *channel, uint32_t number)
{
    int64_t now = noria_now_coarse_ns();

    if (number == 0 || number > channel->geometry.max_participants ||
        noria_participant_is_self(channel, number) || !is_due(&channel->last_probe, now, PROBE_EVERY_NS))
        return;
    noria_recover(channel, number, is_due(&channel->last_thorough, now, THOROUGH_EVERY_NS));
}

/* Asks after everybody. How many were cleaned up. */
static int go_round(struct noria_segment_channel *channel, int64_t now)
{
    noria_store_relaxed64(&channel->last_round, (uint64_t)now);
    noria_store_relaxed64(&channel->roster_seen, 0); /* whoever died between leaving and saying so left it wrong */
    return noria_recover_all(channel, is_due(&channel->last_thorough, now, THOROUGH_EVERY_NS));
}

/* A round, if this side has stood still for a while, or has failed now and then for longer: a ring that trickles never
 * stands still, and still a dead receiver's message must not wait until the wheel comes round. */
static int probe_if_stuck(struct noria_segment_channel *channel, enum noria_side side)
{
    int64_t now = noria_now_coarse_ns();
    uint64_t progress = channel->kind->progress(channel, side);

    if (noria_load_relaxed64(&channel->last_round) == 0)
        noria_store_relaxed64(&channel->last_round, (uint64_t)now);
    if (now - (int64_t)noria_load_relaxed64(&channel->last_round) >= ROUND_EVERY_NS &&
        is_due(&channel->last_probe, now, PROBE_EVERY_NS))
        return go_round(channel, now);
    if (progress != noria_load_relaxed64(&channel->stuck_at[side]) ||
        noria_load_relaxed64(&channel->stuck_since[side]) == 0) {
        noria_store_relaxed64(&channel->stuck_at[side], progress);
        noria_store_relaxed64(&channel->stuck_since[side], (uint64_t)now);
        return 0;
    }
    if (now - (int64_t)noria_load_relaxed64(&channel->stuck_since[side]) < PROBE_EVERY_NS ||
        !is_due(&channel->last_probe, now, PROBE_EVERY_NS))
        return 0;
    return go_round(channel, now);
}

enum { SENDERS_THERE = 1, RECEIVERS_THERE = 2 };

/* Who is there, counted again only if the roster has changed. Cached in one word with the roster it is of, so that
 * threads cannot mix two counts. */
static unsigned who_is_there(struct noria_segment_channel *channel)
{
    uint64_t roster = (noria_load_acquire64(&channel->shared->roster) + 1) << 2; /* pairs with noria_roster_changed */
    uint64_t cached = noria_load_relaxed64(&channel->roster_seen); /* private */

    if ((cached & ~UINT64_C(3)) != roster || roster == 0) {
        cached = roster | (noria_participants_live(channel, NORIA_SEND) != 0 ? SENDERS_THERE : 0) |
                 (noria_participants_live(channel, NORIA_RECV) != 0 ? RECEIVERS_THERE : 0);
        noria_store_relaxed64(&channel->roster_seen, cached);
    }
    return (unsigned)(cached & 3);
}

/* End of stream for a receiver whose ring was just empty: no sender is there, and somebody was there once. */
static int end_for_receiver(struct noria_segment_channel *channel)
{
    /* Before the roster, with which it was published: who is counted here is there, or has left. */
    uint64_t joined = noria_load_acquire64(&channel->shared->senders_joined);

    if ((who_is_there(channel) & SENDERS_THERE) != 0) {
        noria_store_relaxed32(&channel->seen_sender, 1);
        return 0;
    }
    if (noria_load_relaxed32(&channel->seen_sender) == 0) {
        if (joined == channel->senders_at_open)
            return 0;
        noria_store_relaxed32(&channel->seen_sender, 1);
    }
    return -EPIPE;
}

/* No sender was there, and then the ring was empty: so nothing more comes, but from a receiver who dies holding it. */
bool noria_segment_has_ended(noria_channel *base, enum noria_side side)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    return side == NORIA_SIDE_SEND || !channel->kind->held_elsewhere(channel);
}

void noria_tell_of_end(struct noria_segment_channel *channel)
{
    /* As in noria_notify: what was released stands before the load. */
    if (noria_event_has_sleepers(&channel->shared->rooms[NORIA_SIDE_RECV].count, channel->base.fenced) &&
        (who_is_there(channel) & SENDERS_THERE) == 0)
        noria_wake_side(channel, NORIA_SIDE_RECV);
}

/* For a sender with need_receiver: receivers were there and are gone. */
static int end_for_sender(struct noria_segment_channel *channel)
{
    /* As in end_for_receiver. */
    uint64_t joined = noria_load_acquire64(&channel->shared->receivers_joined);

    if (!channel->need_receiver || (who_is_there(channel) & RECEIVERS_THERE) != 0 || joined == 0)
        return 0;
    return -EPIPE;
}

int noria_segment_look_round(noria_channel *base, enum noria_side side)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    if (probe_if_stuck(channel, side) > 0)
        return 1;
    return side == NORIA_SIDE_RECV ? end_for_receiver(channel) : end_for_sender(channel);
}
