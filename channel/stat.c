/* SPDX-License-Identifier: BSD-2-Clause */
/* What a channel tells about itself. */
#include <string.h>

#include "segment_channel.h"

void noria_fill_info(struct noria_segment_channel *channel, struct noria_info *info, size_t size, uint32_t sender,
                     uint64_t sequence, bool redelivered)
{
    uint64_t lost = noria_load_relaxed64(&channel->shared->lost); /* statistics; the swap below makes it once only */
    uint64_t told = noria_load_relaxed64(&channel->shared->lost_told);

    memset(info, 0, sizeof(*info));
    info->size = (uint32_t)size;
    info->flags = redelivered ? NORIA_REDELIVERED : 0;
    info->sender = sender;
    info->sequence = sequence;
    if (lost != told && noria_cas_acq_rel64(&channel->shared->lost_told, &told, lost)) {
        info->flags |= NORIA_LOST;
        info->lost = lost - told;
    }
}

static void count_participants(struct noria_segment_channel *channel, struct noria_stat *stat)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        const struct noria_entry *entry = &channel->table[number - 1];
        uint64_t word = noria_load_acquire64(&entry->word); /* pairs with join */
        unsigned flags = NORIA_ENTRY_FLAGS(word);

        stat->sent += noria_load_relaxed64(&entry->sent); /* statistics */
        stat->received += noria_load_relaxed64(&entry->received);
        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_LIVE || noria_participant_is_dead(channel, number, word, true))
            continue;
        stat->senders += (flags & NORIA_SEND) != 0;
        stat->receivers += (flags & NORIA_RECV) != 0;
        stat->observers += flags == 0;
    }
}

int noria_segment_stat(noria_channel *base, struct noria_stat *stat)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    const struct noria_geometry *geometry = &channel->geometry;

    memset(stat, 0, sizeof(*stat));
    stat->kind = geometry->kind;
    stat->order = geometry->order;
    stat->pack = geometry->pack;
    stat->full = geometry->full;
    stat->wait = geometry->wait;
    stat->orphans = geometry->orphans;
    stat->lifetime = geometry->lifetime;
    stat->trust = geometry->trust;
    stat->mode = geometry->mode;
    stat->abilities = channel->kind->abilities | NORIA_CAN_POLL;
    if (channel->backend != NULL && channel->backend->named && geometry->lifetime == NORIA_PERSIST)
        stat->abilities |= NORIA_CAN_OUTLIVE;
    stat->max_message = geometry->max_message;
    stat->max_held = geometry->max_held;
    stat->max_participants = geometry->max_participants;
    stat->self = channel->number;
    stat->capacity = geometry->capacity;
    stat->footprint = channel->segment.size;
    stat->created_ns = channel->segment.super.created_ns;
    stat->deaths = noria_load_relaxed64(&channel->shared->deaths); /* statistics, here and below */
    stat->redelivered = noria_load_relaxed64(&channel->shared->redelivered);
    stat->lost = noria_load_relaxed64(&channel->shared->lost);
    count_participants(channel, stat);
    channel->kind->count(channel, stat);
    return 0;
}
