/* SPDX-License-Identifier: BSD-2-Clause */
/* What kinds over MPMC rings do seldom with each of their rings: attach, leave, settle, count. */
#include <errno.h>
#include <string.h>

#include "detail.h"
#include "mpmc_ring.h"

struct noria_mpmc_config noria_mpmc_config_of(const struct noria_geometry *geometry)
{
    return (struct noria_mpmc_config){.capacity = geometry->capacity,
                                      .first_position = geometry->first_position,
                                      .max_message = geometry->max_message,
                                      .pack = geometry->pack,
                                      .owners = geometry->max_participants,
                                      .max_held = geometry->max_held};
}

int noria_mpmc_attach(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                      void *memory, size_t size)
{
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = noria_mpmc_read_geometry(ring, memory, size);

    if (rc == 0 && ring->pack == geometry->pack && ring->max_message == geometry->max_message &&
        ring->owners == geometry->max_participants)
        return 0;
    return noria_fail(-EBADMSG, "the ring is corrupt: its geometry is not the channel's; remove the channel");
}

int noria_mpmc_reserve_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                            struct noria_mpmc_handle *ring, size_t max_len, struct noria_span *span)
{
    struct noria_mpmc_record record;
    int rc = noria_participant_is_alive(channel) ? noria_reservation_begin(part) : -EOWNERDEAD;

    if (rc != 0)
        return rc;
    noria_reservation_set(part, 0);
    rc = noria_mpmc_reserve(ring, &record);
    if (rc != 0) {
        noria_reservation_end(part, 0);
        return rc;
    }
    noria_reservation_set(part, record.position);
    span->data = record.data;
    span->len = max_len;
    span->token[0] = record.position;
    span->token[1] = 0;
    return 0;
}

int noria_mpmc_commit_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                           struct noria_mpmc_handle *ring, struct noria_span *span, size_t len)
{
    struct noria_mpmc_record record = {
        .data = span->data, .len = span->len, .position = span->token[0], .count = 1};
    int rc;

    if (!noria_reservation_is_at(part, span->token[0]))
        return -EINVAL;
    rc = noria_participant_is_alive(channel) ? noria_mpmc_commit(ring, &record, len) : -EOWNERDEAD;
    if (rc != -EAGAIN) /* contention; the reservation stands */
        noria_reservation_end(part, span->token[0]);
    return rc;
}

int noria_mpmc_abort_span(const struct noria_segment_channel *channel, struct noria_mpmc_part *part,
                          struct noria_mpmc_handle *ring, struct noria_span *span)
{
    struct noria_mpmc_record record = {.position = span->token[0]};
    int rc = noria_reservation_end(part, span->token[0]);

    if (rc == 0)
        rc = noria_participant_is_alive(channel) ? noria_mpmc_abort(ring, &record) : -EOWNERDEAD;
    return rc;
}

int noria_mpmc_release_record(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                              struct noria_mpmc_record *record)
{
    return noria_participant_is_alive(channel) ? noria_mpmc_release(ring, record) : -EOWNERDEAD;
}

void noria_mpmc_leave(const struct noria_segment_channel *channel, struct noria_mpmc_handle *ring)
{
    uint64_t index = 0, word;

    for (uint64_t looks = 0; looks <= 2 * ring->mask && noria_mpmc_find(ring, channel->number, &index, &word);
         looks++)
        noria_mpmc_settle(ring, index, word); /* which announces what it orphans */
}

/* How many messages are lost with a dropped slot. */
static uint64_t records_in(struct noria_mpmc_handle *ring, uint64_t index)
{
    struct noria_mpmc_group group;

    if (ring->pack == 1)
        return 1;
    group = noria_mpmc_load_group(ring, index);
    return group.count <= ring->pack && group.done < group.count ? group.count - group.done : 0;
}

static int settle_slot(struct noria_segment_channel *channel, struct noria_mpmc_handle *ring, uint64_t index,
                       uint64_t word)
{
    uint64_t lost;

    if (channel->geometry.orphans == NORIA_ORPHANS_REDELIVER || NORIA_MPMC_KIND(word) != NORIA_MPMC_READING)
        return noria_mpmc_settle(ring, index, word);
    lost = records_in(ring, index);
    if (noria_mpmc_discard(ring, index, word) == 0)
        return 0;
    noria_segment_count_lost(&channel->base, lost);
    return 1;
}

int noria_mpmc_settle_owner(struct noria_segment_channel *channel, struct noria_mpmc_handle *ring,
                            uint32_t owner, uint64_t entry_word)
{
    uint64_t index = 0, word;
    int looks = 0;

    while (noria_mpmc_find(ring, owner, &index, &word)) {
        /* After the load: a word read before its owner died must not be taken from one reborn. */
        if (!noria_participant_is_dead(channel, owner, entry_word, true))
            return -EAGAIN;
        if (settle_slot(channel, ring, index, word)) {
            looks = 0;
            index++;
        } else if (++looks > NORIA_MPMC_TRIES) {
            return -EAGAIN;
        }
    }
    noria_mpmc_announce(ring); /* an earlier settler may have died before it did */
    return 0;
}

bool noria_mpmc_held_elsewhere(const struct noria_mpmc_handle *ring, uint32_t number)
{
    for (uint64_t index = 0; index <= ring->mask; index++) {
        uint64_t word = noria_load_acquire64(noria_mpmc_state_at(ring, index)); /* pairs with the take */
        if (NORIA_MPMC_KIND(word) == NORIA_MPMC_READING && NORIA_MPMC_OWNER(word) != number)
            return true;
    }
    return false;
}

void noria_mpmc_fill_stat(const struct noria_mpmc_handle *ring, struct noria_stat *stat)
{
    struct noria_mpmc_census census, again;
    bool exact;

    noria_mpmc_count(ring, &census);
    noria_mpmc_count(ring, &again);
    exact = census.words == again.words; /* nobody moved between */
    /* Of a group only its slot is counted. */
    stat->messages = -1;
    if (exact && (ring->pack == 1 || census.full + census.orphans == 0))
        stat->messages = (int64_t)(census.full + census.orphans);
    stat->bytes = exact && ring->pack == 1 && census.orphans == 0 ? (int64_t)census.bytes : -1;
    stat->held = census.reading - census.orphans;
}

uint32_t noria_mpmc_held_by(const struct noria_mpmc_handle *ring, uint32_t owner)
{
    uint64_t index = 0, word;
    uint32_t held = 0;

    for (; noria_mpmc_find(ring, owner, &index, &word); index++)
        held++;
    return held;
}
