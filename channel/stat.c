/* SPDX-License-Identifier: BSD-2-Clause */
/* What a channel tells about itself. */
#include <string.h>

#include "segment_channel.h"

/* Receivers that may tell of losses while one is about to. */
enum { MOST_TELLERS = 64 };

/* All that were ever lost: counted in common, and by those who dropped them to make room. Only grows. */
static uint64_t count_losses(const struct noria_segment_channel *channel)
{
    uint64_t lost = noria_load_acquire64(&channel->shared->lost);

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        lost += noria_load_acquire64(&channel->table[number - 1].dropped) >> 1;
    return lost;
}

void noria_losses_changed(struct noria_segment_channel *channel)
{
    noria_add_release64(&channel->shared->losses, 1); /* pairs with the load in noria_fill_info; the count */
}

/* Something was lost since this handle looked. Of all receivers one tells it. False: others tell at the
 * same time, and there may be something left. */
static bool tell_losses(struct noria_segment_channel *channel, struct noria_info *info)
{
    /* First what was told, and acquire: whoever told it had counted no more than we are going to. */
    uint64_t told = noria_load_acquire64(&channel->shared->lost_told);
    uint64_t lost = count_losses(channel);

    for (int i = 0; i < MOST_TELLERS && (int64_t)(lost - told) > 0; i++)
        /* Lost to another receiver: he told what he had counted, and if that was less the rest is ours to
         * tell. */
        if (noria_cas_acq_rel64(&channel->shared->lost_told, &told, lost)) {
            info->flags |= NORIA_LOST;
            info->lost = lost - told;
            return true;
        }
    return (int64_t)(lost - told) <= 0;
}

void noria_fill_info(struct noria_segment_channel *channel, struct noria_info *info, size_t size,
                     uint32_t sender, uint64_t sequence, bool redelivered)
{
    uint64_t losses = noria_load_acquire64(&channel->shared->losses);

    memset(info, 0, sizeof(*info));
    info->size = (uint32_t)size;
    info->flags = redelivered ? NORIA_REDELIVERED : 0;
    info->sender = sender;
    info->sequence = sequence;
    /* Private; a race of threads costs a look. */
    if (losses != noria_load_relaxed64(&channel->losses_seen) && tell_losses(channel, info))
        noria_store_relaxed64(&channel->losses_seen, losses);
}

void noria_segment_count_lost(noria_channel *channel, uint64_t n)
{
    struct noria_segment_channel *segment_channel = noria_segment_channel_of(channel);

    noria_count(&segment_channel->shared->lost, n);
    noria_losses_changed(segment_channel);
}

static void count_participants(struct noria_segment_channel *channel, struct noria_stat *stat)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        const struct noria_entry *entry = &channel->table[number - 1];
        uint64_t word = noria_load_acquire64(&entry->word); /* pairs with join */
        unsigned flags = NORIA_ENTRY_FLAGS(word);

        stat->sent += noria_load_relaxed64(&entry->sent); /* statistics */
        stat->received += noria_load_relaxed64(&entry->received);
        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_LIVE ||
            noria_participant_is_dead(channel, number, word, true))
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
    stat->abilities = channel->kind->abilities;
    if (channel->base.distrusts == 0 || channel->segment.backend->named) /* see noria_segment_fd */
        stat->abilities |= NORIA_CAN_POLL;
    stat->nameless = channel->segment.backend->named && noria_segment_is_orphaned(&channel->segment);
    if (channel->segment.backend->named && geometry->lifetime == NORIA_PERSIST && stat->nameless == 0)
        stat->abilities |= NORIA_CAN_OUTLIVE;
    stat->max_message = noria_geometry_longest(geometry);
    stat->max_held = geometry->max_held;
    stat->max_participants = geometry->max_participants;
    stat->self = channel->number;
    stat->capacity = geometry->capacity;
    stat->footprint = channel->segment.size;
    stat->max_bytes = geometry->max_bytes;
    stat->evict_ns = geometry->evict_ns;
    stat->priorities = geometry->priorities;
    stat->granted = channel->granted;
    stat->checksum = geometry->checksum;
    stat->torn = noria_load_relaxed64(&channel->shared->torn); /* statistics, here and below */
    stat->created_ns = channel->segment.super.created_ns;
    stat->deaths = noria_load_relaxed64(&channel->shared->deaths);
    stat->redelivered = noria_load_relaxed64(&channel->shared->redelivered);
    stat->lost = count_losses(channel) + noria_load_relaxed64(&channel->shared->missed);
    count_participants(channel, stat);
    channel->kind->count(channel, stat);
    return 0;
}
