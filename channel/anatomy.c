/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rings seen from outside, for `noria dump` and `noria fsck`: their pieces one by one, and whether their words go
 * together. The handle has only been attached (kind->attach), nothing is taken, and nothing read is trusted.
 */
#include <stdio.h>
#include <string.h>

#include "segment_channel.h"

static uint64_t distance(const struct noria_segment_channel *channel, const void *at)
{
    return (uint64_t)((const uint8_t *)at - (const uint8_t *)channel->ring);
}

static size_t ring_size(const struct noria_segment_channel *channel)
{
    return (size_t)channel->geometry.ring_size;
}

#define SAY(piece, ...) snprintf((piece)->text, sizeof((piece)->text), __VA_ARGS__)

/* ------------------------------------------------------------------------------------------------------------ SPSC */

static bool spsc_intact(const struct noria_segment_channel *channel)
{
    return noria_spsc_invariant(channel->ring, ring_size(channel));
}

/* The record at which the walk is, and on to the next. */
static bool spsc_record(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    const struct noria_spsc *ring = channel->ring;
    uint64_t capacity = noria_spsc_capacity(ring, ring_size(channel)), len, step, offset, position;

    if (index == 0) {
        piece->from = noria_load_acquire64(&ring->read_pos); /* pairs with the consumer's release */
        piece->walked = 0;
    }
    position = piece->from + piece->walked;
    offset = position & (capacity - 1) & ~UINT64_C(7);
    piece->word = noria_load_acquire64(noria_spsc_word_at(noria_spsc_data(ring), offset)); /* A: pairs with publish */
    if (piece->word == 0 || piece->walked >= capacity ||
        noria_spsc_parse(piece->word, offset, capacity, &len, &step) < 0 || step == 0)
        return false;
    piece->walked += step;
    piece->part = "record";
    piece->number = index;
    piece->offset = distance(channel, noria_spsc_word_at(noria_spsc_data(ring), offset));
    SAY(piece, "%s of %llu bytes at position %llu", (piece->word >> 33 & 1) != 0 ? "pad" : "message",
        (unsigned long long)len, (unsigned long long)position);
    return true;
}

static bool spsc_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    const struct noria_spsc *ring = channel->ring;

    if (index >= 2)
        return spsc_record(channel, index - 2, piece);
    piece->part = "role";
    piece->number = index;
    piece->offset = distance(channel, &ring->role[index]);
    piece->word = noria_load_acquire64(&ring->role[index]); /* F */
    SAY(piece, "%s: participant %u%s", index == NORIA_SPSC_PRODUCER ? "producer" : "consumer",
        NORIA_SPSC_OWNER(piece->word), (piece->word & NORIA_SPSC_UNCLEAN) != 0 ? ", the last one died" : "");
    return true;
}

static const struct noria_field *spsc_header(void)
{
    NORIA_FIELDS_OF(noria_spsc, SPSC);
    return fields;
}

const struct noria_anatomy noria_spsc_anatomy = {spsc_header, spsc_intact, spsc_piece};

/* ------------------------------------------------------------------------------------------------------------ MPMC */

static bool mpmc_slot(const struct noria_segment_channel *channel, const struct noria_mpmc_handle *ring, uint64_t index,
                      struct noria_piece *piece)
{
    static const char *const kinds[] = {"READING", "EMPTY", "WRITING", "FULL"};
    const struct noria_mpmc_slot *slot;

    if (index > ring->mask)
        return false;
    slot = noria_mpmc_slot_at(ring, index);
    piece->part = "slot";
    piece->number = index;
    piece->offset = distance(channel, slot);
    piece->word = noria_load_acquire64(&slot->state); /* pairs with every change of a state word */
    SAY(piece, "%s%s lap %llu owner %u length %u sender %u sequence %llu", kinds[NORIA_MPMC_KIND(piece->word)],
        (piece->word & NORIA_MPMC_LATE) != 0 ? " late" : "", (unsigned long long)NORIA_MPMC_LAP(piece->word),
        NORIA_MPMC_OWNER(piece->word), noria_load_relaxed32(&slot->length), noria_load_relaxed32(&slot->sender),
        (unsigned long long)noria_load_relaxed64(&slot->sequence)); /* to be shown */
    return true;
}

static bool mpmc_intact(const struct noria_segment_channel *channel)
{
    return noria_mpmc_invariant(channel->ring, ring_size(channel));
}

static bool mpmc_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    return mpmc_slot(channel, &channel->part.mpmc.ring, index, piece);
}

static const struct noria_field *mpmc_header(void)
{
    NORIA_FIELDS_OF(noria_mpmc, MPMC);
    return fields;
}

const struct noria_anatomy noria_mpmc_anatomy = {mpmc_header, mpmc_intact, mpmc_piece};

/* ------------------------------------------------------------------------------------------------------ priorities */

static void *level_memory(const struct noria_segment_channel *channel, uint64_t level)
{
    return (uint8_t *)channel->ring + sizeof(struct noria_priority) + level * channel->part.priority.stride;
}

static bool priority_intact(const struct noria_segment_channel *channel)
{
    for (uint32_t level = 0; level < channel->geometry.priorities; level++)
        if (!noria_mpmc_invariant(level_memory(channel, level), channel->part.priority.stride))
            return false;
    return true;
}

static bool priority_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    uint64_t slots = channel->part.priority.out.ring.mask + 1; /* all levels are alike: attach has checked it */
    struct noria_mpmc_handle ring;

    if (index / slots >= channel->geometry.priorities ||
        noria_mpmc_read_geometry(&ring, level_memory(channel, index / slots), channel->part.priority.stride) != 0 ||
        !mpmc_slot(channel, &ring, index % slots, piece))
        return false;
    piece->part = "slot of a level";
    piece->number = index;
    return true;
}

static const struct noria_field *priority_header(void)
{
    NORIA_FIELDS_OF(noria_priority, PRIORITY);
    return fields;
}

const struct noria_anatomy noria_priority_anatomy = {priority_header, priority_intact, priority_piece};

/* ---------------------------------------------------------------------------------------------------- latest value */

static bool latest_intact(const struct noria_segment_channel *channel)
{
    return noria_latest_invariant(channel->ring, ring_size(channel));
}

static bool latest_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    struct noria_latest_handle cell;
    const struct noria_latest_buffer *buffer;

    if (noria_latest_read_geometry(&cell, channel->ring, ring_size(channel)) != 0 || index >= 2 * (uint64_t)cell.owners)
        return false;
    buffer = noria_latest_buffer_at(&cell, (uint32_t)(index / 2) + 1, (unsigned)(index & 1));
    piece->part = "buffer";
    piece->number = index;
    piece->offset = distance(channel, buffer);
    piece->word = noria_load_acquire64(&buffer->stamp); /* F */
    SAY(piece, "participant %llu, version %llu%s, length %u", (unsigned long long)(index / 2 + 1),
        (unsigned long long)(piece->word >> 1), (piece->word & 1) != 0 ? " being written" : "",
        noria_load_acquire32(&buffer->length));
    return true;
}

static const struct noria_field *latest_header(void)
{
    NORIA_FIELDS_OF(noria_latest, LATEST);
    return fields;
}

const struct noria_anatomy noria_latest_anatomy = {latest_header, latest_intact, latest_piece};

/* ------------------------------------------------------------------------------------------------------ rendezvous */

static bool rendezvous_intact(const struct noria_segment_channel *channel)
{
    return noria_rendezvous_invariant(channel->ring, ring_size(channel));
}

static bool rendezvous_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    static const char *const kinds[] = {"FREE", "FILLING", "OFFERED", "TAKING", "TAKEN", "LOST", "WITHDRAWN", "?"};
    const struct noria_rendezvous_handle *table = &channel->part.rendezvous.table;
    const struct noria_rendezvous_slot *slot;

    if (index >= table->slot_count)
        return false;
    slot = noria_rendezvous_slot_at(table, (uint32_t)index);
    piece->part = "slot";
    piece->number = index;
    piece->offset = distance(channel, slot);
    piece->word = noria_load_acquire64(&slot->state); /* pairs with every change of a state word */
    SAY(piece, "%s owner %u taker %u length %u", kinds[NORIA_RENDEZVOUS_KIND(piece->word)],
        noria_rendezvous_owner_of(table, piece->word), noria_rendezvous_taker_of(table, piece->word),
        noria_load_relaxed32(&slot->length)); /* to be shown */
    return true;
}

static const struct noria_field *rendezvous_header(void)
{
    NORIA_FIELDS_OF(noria_rendezvous, RENDEZVOUS);
    return fields;
}

const struct noria_anatomy noria_rendezvous_anatomy = {rendezvous_header, rendezvous_intact, rendezvous_piece};

/* ----------------------------------------------------------------------------------------------------------- chain */

/* A link that is just being built or closed need not be whole, so only its range's word is looked at. */
static bool chain_intact(const struct noria_segment_channel *channel)
{
    const struct noria_chain_handle *chain = &channel->part.unbounded.chain;
    unsigned range = NORIA_CHAIN_TAIL_RANGE(noria_load_acquire64(&chain->chain->tail));
    bool intact = range < chain->ranges;

    for (uint32_t i = 0; i < chain->ranges; i++) {
        uint64_t word = noria_load_acquire64(&chain->words[i]);
        intact = intact && NORIA_CHAIN_KIND(word) <= NORIA_CHAIN_CLOSING && NORIA_CHAIN_OWNER(word) <= chain->owners;
    }
    return intact;
}

static bool chain_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    static const char *const kinds[] = {"FREE", "BUILDING", "LIVE", "RETIRED", "CLOSING", "?", "?", "?"};
    const struct noria_chain_handle *chain = &channel->part.unbounded.chain;

    if (index >= chain->ranges)
        return false;
    piece->part = "range";
    piece->number = index;
    piece->offset = distance(channel, &chain->words[index]);
    piece->word = noria_load_acquire64(&chain->words[index]); /* pairs with every change of a range's word */
    SAY(piece, "%s owner %u generation %llu", kinds[piece->word & 7], NORIA_CHAIN_OWNER(piece->word),
        (unsigned long long)(piece->word >> 19));
    return true;
}

static const struct noria_field *chain_header(void)
{
    NORIA_FIELDS_OF(noria_chain, CHAIN);
    return fields;
}

const struct noria_anatomy noria_chain_anatomy = {chain_header, chain_intact, chain_piece};

/* ------------------------------------------------------------------------------------------------------- broadcast */

static bool broadcast_intact(const struct noria_segment_channel *channel)
{
    return noria_broadcast_invariant(channel->ring, ring_size(channel));
}

static bool broadcast_piece(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece)
{
    static const char *const states[] = {"FREE", "LIVE", "EVICTED", "?"};
    const struct noria_broadcast_shape *shape = &channel->part.broadcast.shape;
    const struct noria_broadcast_cursor *cursor;

    piece->number = index;
    if (index == 0) {
        piece->part = "role";
        piece->offset = distance(channel, &shape->ring->sender);
        piece->word = noria_load_acquire64(&shape->ring->sender);
        SAY(piece, "sender: participant %u", NORIA_BROADCAST_OWNER(piece->word));
        return true;
    }
    if (index > shape->owners)
        return false;
    cursor = &shape->cursors[index - 1];
    piece->part = "cursor";
    piece->offset = distance(channel, cursor);
    piece->word = noria_load_acquire64(&cursor->life); /* pairs with join, leave, evict */
    SAY(piece, "%s at position %llu", states[NORIA_CURSOR_STATE(piece->word)],
        (unsigned long long)noria_load_relaxed64(&cursor->position)); /* to be shown */
    return true;
}

static const struct noria_field *broadcast_header(void)
{
    NORIA_FIELDS_OF(noria_broadcast, BROADCAST);
    return fields;
}

const struct noria_anatomy noria_broadcast_anatomy = {broadcast_header, broadcast_intact, broadcast_piece};
