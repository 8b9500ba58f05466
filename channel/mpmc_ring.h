/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What kinds over MPMC rings share. First what is done with one ring, whichever of a channel's it is; then
 * the verbs of a channel that is one ring (mpmc_kind.c), for kinds that differ from it in a few.
 */
#ifndef NORIA_MPMC_RING_H
#define NORIA_MPMC_RING_H

#include "segment_channel.h"

/* ------------------------------------------------------------------------------------------ with one ring */

/* After a step over somebody: he may be dead, and a busy ring never gets stuck enough to ask otherwise. */
static inline void noria_mpmc_ask_after_stepped(struct noria_segment_channel *channel,
                                                struct noria_mpmc_handle *ring)
{
    uint64_t word = noria_load_relaxed64(&ring->in_the_way); /* private */

    if (word == 0)
        return;
    noria_store_relaxed64(&ring->in_the_way, 0);
    noria_ask_after(channel, NORIA_MPMC_OWNER(word));
}

static inline void noria_mpmc_sent(struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                                   int n)
{
    noria_count(&channel->own->sent, (uint64_t)n);
    noria_notify_receivers(channel);
    noria_mpmc_ask_after_stepped(channel, ring);
}

static inline void noria_mpmc_received(struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                                       int n)
{
    noria_count(&channel->own->received, (uint64_t)n);
    if (noria_load_relaxed32(&channel->seen_sender) == 0)
        noria_store_relaxed32(&channel->seen_sender, 1);
    noria_notify_senders(channel);
    noria_tell_of_end(channel);
    noria_mpmc_ask_after_stepped(channel, ring);
}

static inline void noria_mpmc_fill_info(struct noria_segment_channel *channel, struct noria_info *info,
                                        const struct noria_mpmc_record *record)
{
    bool redelivered = (record->flags & NORIA_MPMC_REDELIVERED) != 0;

    if (redelivered)
        noria_count(&channel->shared->redelivered, 1);
    if (info != NULL)
        noria_fill_info(channel, info, record->len, record->sender, record->sequence, redelivered);
}

struct noria_mpmc_config noria_mpmc_config_of(const struct noria_geometry *geometry);
/* Reads the geometry of a ring, which must be the channel's. 0, -EBADMSG with a sentence. */
int noria_mpmc_attach(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                      void *memory, size_t size);
/* A reservation, of which a thread has one at a time: the verbs reserve, commit and abort, for one ring. They and release
 * ask whether our place is ours still: the slot's word knows the number, not which handle had it. */
int noria_mpmc_reserve_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                            struct noria_mpmc_handle *ring, size_t max_len, struct noria_span *span);
int noria_mpmc_commit_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                           struct noria_mpmc_handle *ring, struct noria_span *span, size_t len);
int noria_mpmc_abort_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                          struct noria_mpmc_handle *ring, struct noria_span *span);
int noria_mpmc_release_record(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                              struct noria_mpmc_record *record);
/* Gives back what our threads reserved or peeked and did not finish: peeked records go to other receivers. */
void noria_mpmc_leave(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring);
/* The kind's settle, for one ring. */
int noria_mpmc_settle_owner(struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                            uint32_t owner, uint64_t entry_word);
bool noria_mpmc_held_elsewhere(const struct noria_mpmc_handle *ring, uint32_t number);
/* messages, bytes and held of one ring. */
void noria_mpmc_fill_stat(const struct noria_mpmc_handle *ring, struct noria_stat *stat);
uint32_t noria_mpmc_held_by(const struct noria_mpmc_handle *ring, uint32_t owner);

/* ----------------------------------------------------------------------------- with a channel of one ring */

ssize_t noria_queue_recv(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info);
int noria_queue_recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info);
int noria_queue_reserve(noria_channel *base, size_t max_len, struct noria_span *span);
int noria_queue_commit(noria_channel *base, struct noria_span *span, size_t len);
int noria_queue_abort(noria_channel *base, struct noria_span *span);
int noria_queue_peek(noria_channel *base, struct noria_span *span, struct noria_info *info);
int noria_queue_release(noria_channel *base, struct noria_span *span);
void noria_queue_back_off(noria_channel *base, enum noria_side side);
#define NORIA_QUEUE_VERBS \
    .recv = noria_queue_recv, .recv_many = noria_queue_recv_many, .commit = noria_queue_commit, \
    .abort = noria_queue_abort, .peek = noria_queue_peek, .release = noria_queue_release, \
    .back_off = noria_queue_back_off

size_t noria_queue_footprint(const struct noria_geometry *geometry);
int noria_queue_format(void *ring, size_t size, const struct noria_geometry *geometry);
int noria_queue_attach(struct noria_segment_channel *channel);
int noria_queue_join(struct noria_segment_channel *channel, int flags);
void noria_queue_leave(struct noria_segment_channel *channel);
void noria_queue_dispose(struct noria_segment_channel *channel);
int noria_queue_settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word);
bool noria_queue_held_elsewhere(struct noria_segment_channel *channel);
bool noria_queue_ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level);
uint64_t noria_queue_progress(const struct noria_segment_channel *channel, enum noria_side side);
void noria_queue_count(const struct noria_segment_channel *channel, struct noria_stat *stat);
uint32_t noria_queue_held_by(const struct noria_segment_channel *channel, uint32_t owner);
#define NORIA_QUEUE_FUNCTIONS \
    .footprint = noria_queue_footprint, .format = noria_queue_format, .attach = noria_queue_attach, \
    .join = noria_queue_join, .leave = noria_queue_leave, .dispose = noria_queue_dispose, \
    .held_elsewhere = noria_queue_held_elsewhere, .ready = noria_queue_ready, \
    .progress = noria_queue_progress, .count = noria_queue_count, .held_by = noria_queue_held_by, \
    .anatomy = &noria_mpmc_anatomy

#endif
