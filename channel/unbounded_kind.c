/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channels that grow up to a ceiling (ring/chain.h): many senders, many receivers, strict FIFO. Threads
 * may share a handle.
 *
 * The segment is as large as the ceiling and has holes; a range gets its pages (fallocate) before anybody
 * touches it and loses them when nobody can any more. So a full file system is a full channel, never a
 * SIGBUS, and whoever dies leaves nothing but words.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <noria/chain.h>

#include "call.h"
#include "detail.h"
#include "mpmc_ring.h"
#include "no_spans.h"
#include "one_by_one.h"

/* Pages are got piece by piece, so that a signal that comes again and again cannot undo all of it for
 * ever. */
#define PIECE (UINT64_C(4) << 20)

enum { PIECE_TRIES = 100, IDLE_LOOKS = 16, MUCH = 8 /* of a link: one part of so many */, MOST_PAUSES = 256 };

static struct noria_chain_handle *chain_of(struct noria_segment_channel *channel)
{
    return &channel->part.unbounded.chain;
}

static void ask_after_stepped(struct noria_segment_channel *channel)
{
    uint64_t owner = noria_load_relaxed64(&chain_of(channel)->in_the_way); /* private */

    if (owner == 0)
        return;
    noria_store_relaxed64(&chain_of(channel)->in_the_way, 0);
    noria_ask_after(channel, (uint32_t)owner);
}

/* --------------------------------------------------------------------------------------- pages of a range */

static uint64_t place_of(struct noria_segment_channel *channel, unsigned range)
{
    return NORIA_SEGMENT_CONTENT + channel->geometry.ring_offset + chain_of(channel)->range[range].offset;
}

/* For a link behind `tail`. 0, or -errno: -ENOSPC the file system is full, -EAGAIN another one was faster. */
static int get_pages(struct noria_segment_channel *channel, unsigned range, uint64_t tail)
{
    uint64_t size = chain_of(channel)->range[range].size, done = 0;
    int tries = 0;

    while (done < size) {
        uint64_t piece = size - done < PIECE ? size - done : PIECE;
        int rc;
        if (noria_chain_tail(chain_of(channel)) != tail)
            return -EAGAIN;
        rc = channel->segment.backend->fill(&channel->segment, place_of(channel, range) + done, piece);
        if (rc == -EINTR && ++tries < PIECE_TRIES)
            continue;
        if (rc != 0)
            return rc;
        done += piece;
    }
    return 0;
}

static int drop_pages(struct noria_segment_channel *channel, unsigned range)
{
    return channel->segment.backend->drop(&channel->segment, place_of(channel, range),
                                          chain_of(channel)->range[range].size);
}

/* The caller owns the range. Its pages go, whoever had them; if that is refused they wait there for the next
 * link. */
static void give_back(struct noria_segment_channel *channel, unsigned range, uint64_t mine)
{
    int tries = 0;

    while (drop_pages(channel, range) == -EINTR && ++tries < PIECE_TRIES)
        continue;
    noria_chain_free(chain_of(channel), range, mine);
}

/* Frees what receivers have retired and nobody uses any more. */
static void reclaim(struct noria_segment_channel *channel)
{
    struct noria_chain_handle *chain = chain_of(channel);
    bool reclaimed = false;
    uint64_t mine;

    for (unsigned range = 0; range < chain->ranges; range++)
        if (noria_chain_reclaim(chain, range, &mine) == 0) {
            give_back(channel, range, mine);
            reclaimed = true;
        }
    if (reclaimed)
        noria_notify_senders(channel);
}

/* No two states of the chain have the same, or hardly: generations only grow. */
static uint64_t sum_of_words(const struct noria_chain_handle *chain)
{
    uint64_t sum = 0;

    for (unsigned range = 0; range < chain->ranges; range++)
        sum += noria_load_relaxed64(&chain->words[range]); /* a hint, like all of this */
    return sum;
}

/* Private, these three; threads that mix theirs up are wrong for recheck_ns at most. */
static void note_starved(struct noria_segment_channel *channel, uint64_t tail)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;

    noria_store_relaxed64(&part->starved_words, sum_of_words(&part->chain));
    noria_store_relaxed64(&part->starved_at_ns, (uint64_t)noria_now_ns());
    noria_store_relaxed64(&part->starved_tail, tail);
}

/* Whether it was just tried to grow, and there was no memory to be had. Links that go may have left some since;
 * other files may, too, of which nobody tells us. */
static bool is_starved(struct noria_segment_channel *channel)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;

    return noria_load_relaxed64(&part->starved_tail) == noria_chain_tail(&part->chain) &&
           noria_load_relaxed64(&part->starved_words) == sum_of_words(&part->chain) &&
           (uint64_t)noria_now_ns() - noria_load_relaxed64(&part->starved_at_ns) < (uint64_t)channel->recheck_ns;
}

/* Puts a link behind the tail. 0 it, or another, is there; -EAGAIN the ceiling, or the file system, allows
 * no more. */
static int grow(struct noria_segment_channel *channel, uint64_t tail, unsigned wanted)
{
    struct noria_chain_handle *chain = chain_of(channel);
    bool starved;
    unsigned range;
    uint64_t mine;
    int rc = noria_chain_claim(chain, tail, wanted, &range, &mine);

    if (rc != 0) {
        noria_chain_retire_empty(chain);
        reclaim(channel);
        rc = noria_chain_claim(chain, tail, wanted, &range, &mine);
    }
    if (rc != 0)
        return noria_chain_tail(chain) != tail ? 0 : rc;
    rc = get_pages(channel, range, tail);
    starved = rc != 0 && rc != -EAGAIN && rc != -EINTR;
    if (rc == 0)
        rc = noria_chain_link(chain, tail, range, mine);
    if (rc == 0) {
        noria_notify_senders(channel);
        return 0;
    }
    give_back(channel, range, mine);
    if (starved)
        note_starved(channel, tail);
    if (rc == -EBADMSG)
        return rc;
    return noria_chain_tail(chain) != tail ? 0 : -EAGAIN;
}

/* ------------------------------------------------------------------------------------------------ sending */

static void sent(struct noria_segment_channel *channel)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;

    noria_count(&channel->own->sent, 1);
    noria_store_relaxed64(&part->sent, noria_load_relaxed64(&part->sent) + 1); /* only to be seen growing */
    noria_notify_receivers(channel);
    ask_after_stepped(channel);
}

static int send_one(noria_channel *base, const void *data, size_t len, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    uint64_t tail;
    int rc;

    (void)priority;
    for (int i = 0; i < NORIA_CHAIN_TRIES; i++) {
        rc = noria_chain_send(chain_of(channel), data, len, &tail);
        if (rc == 0)
            sent(channel);
        if (rc != -EAGAIN)
            return rc;
        rc = grow(channel, tail, NORIA_CHAIN_TAIL_RANGE(tail) + 1);
        if (rc != 0)
            return rc;
    }
    return -EAGAIN;
}

static int send_many(noria_channel *base, const struct iovec *messages, int n)
{
    return noria_send_one_by_one(base, messages, n, send_one);
}

/* ---------------------------------------------------------------------------------------------- receiving */

/* Drained again and again while the newest link is a large one that little goes through: goes on in the
 * smallest, so that the large one can go. A trickle is little, however long it lasts. */
static void shrink(struct noria_segment_channel *channel, unsigned links)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;
    struct noria_chain_handle *chain = chain_of(channel);
    uint64_t tail = noria_chain_tail(chain);
    unsigned range = NORIA_CHAIN_TAIL_RANGE(tail);
    /* Private, these three; a race changes only when it happens. */
    uint32_t idle = noria_load_relaxed32(&part->idle);
    uint64_t received = noria_load_relaxed64(&part->received);
    uint64_t came = received - noria_load_relaxed64(&part->idle_since);
    bool is_little;

    if (links > 1 || range == 0 || range >= chain->ranges ||
        NORIA_CHAIN_KIND(noria_load_relaxed64(&chain->words[0])) != NORIA_CHAIN_FREE)
        return;
    noria_store_relaxed32(&part->idle, idle + 1);
    is_little = came <= chain->range[range].slots / MUCH + IDLE_LOOKS;
    if (is_little && idle < IDLE_LOOKS)
        return;
    noria_store_relaxed32(&part->idle, 0);
    noria_store_relaxed64(&part->idle_since, received);
    if (is_little)
        grow(channel, tail, 0);
}

static void received(struct noria_segment_channel *channel)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;

    noria_count(&channel->own->received, 1);
    noria_store_relaxed64(&part->received, noria_load_relaxed64(&part->received) + 1); /* as in sent */
    if (noria_load_relaxed32(&channel->seen_sender) == 0)
        noria_store_relaxed32(&channel->seen_sender, 1);
    noria_notify_senders(channel);
    noria_tell_of_end(channel);
    ask_after_stepped(channel);
}

static ssize_t recv_one(noria_channel *base, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_mpmc_record record;
    unsigned links = 1;
    int rc = noria_chain_recv(chain_of(channel), buffer, capacity, &record, &links);

    if (links > 1 || rc == -EAGAIN)
        reclaim(channel);
    if (rc == -EAGAIN)
        shrink(channel, links);
    if (rc == -EMSGSIZE)
        noria_fail(rc, "the message has %zu bytes, the buffer %zu; it stays first", record.len, capacity);
    if (rc != 0)
        return rc;
    noria_mpmc_fill_info(channel, info, &record);
    received(channel);
    return (ssize_t)record.len;
}

static int recv_many(noria_channel *base, struct iovec *buffers, int n, struct noria_info *info)
{
    return noria_recv_one_by_one(base, buffers, n, info, recv_one);
}

/* ----------------------------------------------------------------------------------- joining and recovery */

static struct noria_chain_config config_of(const struct noria_geometry *geometry)
{
    uint64_t taken = NORIA_SEGMENT_CONTENT + geometry->ring_offset;

    return (struct noria_chain_config){.capacity = geometry->capacity,
                                       .size = geometry->max_bytes > taken ? geometry->max_bytes - taken : 0,
                                       .first_position = geometry->first_position,
                                       .max_message = geometry->max_message,
                                       .owners = geometry->max_participants + 1}; /* the guest: see below */
}

/* All that is below the ceiling. */
static size_t footprint(const struct noria_geometry *geometry)
{
    struct noria_chain_config config = config_of(geometry);
    uint64_t least = noria_chain_least_size(&config);

    return least == 0 || config.size < least || config.size > SIZE_MAX ? 0 : (size_t)config.size;
}

static size_t initial(const struct noria_geometry *geometry)
{
    struct noria_chain_config config = config_of(geometry);

    return (size_t)noria_chain_least_size(&config);
}

static int format(void *ring, size_t size, const struct noria_geometry *geometry)
{
    struct noria_chain_config config = config_of(geometry);

    return noria_chain_format(ring, size, &config);
}

static int attach(struct noria_segment_channel *channel)
{
    struct noria_chain_handle *chain = chain_of(channel);
    const struct noria_geometry *geometry = &channel->geometry;
    int rc = noria_chain_read_geometry(chain, channel->ring, (size_t)geometry->ring_size);

    if (rc == 0 && chain->max_message == geometry->max_message &&
        chain->owners == geometry->max_participants + 1)
        return 0;
    return noria_fail(-EBADMSG,
                      "the chain is corrupt: its geometry is not the channel's; remove the channel");
}

/* 0, -ENOMEM with a sentence. */
static int make_views(struct noria_unbounded_part *part)
{
    if (part->views == NULL)
        part->views = calloc(part->chain.ranges, sizeof(*part->views));
    return part->views != NULL
               ? 0
               : noria_fail(-ENOMEM, "out of memory for a view of %u links", part->chain.ranges);
}

static void dispose(struct noria_segment_channel *channel)
{
    free(channel->part.unbounded.views);
}

/* Settles the slots of a dead owner in all links; entry_word 0: our own. */
static int settle_links(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_chain_handle *chain = chain_of(channel);
    struct noria_chain_link links[NORIA_CHAIN_RANGES];
    uint64_t tail;
    unsigned n = noria_chain_links(chain, &tail, links);
    int rc = n == 0 ? -EAGAIN : 0;

    for (unsigned i = 0; i < n && rc == 0; i++) {
        struct noria_chain_view spare;
        int entered = noria_chain_enter(chain, &links[i], &spare);
        if (entered == -EAGAIN)
            continue; /* retired meanwhile: no slot of it is in use */
        if (entered != 0)
            return entered;
        if (entry_word == 0)
            noria_mpmc_leave(channel, links[i].ring);
        else
            rc = noria_mpmc_settle_owner(channel, links[i].ring, owner, entry_word);
        noria_chain_leave(chain, &links[i]);
    }
    return rc;
}

/* What it was building, or giving back. entry_word 0: a guest who is gone for certain, see below. */
static int settle_ranges(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_chain_handle *chain = chain_of(channel);
    uint64_t word, mine;

    for (unsigned range = 0; noria_chain_find(chain, owner, &range, &word); range++) {
        if (entry_word != 0 && !noria_participant_is_dead(channel, owner, entry_word, true))
            return -EAGAIN;
        if (noria_chain_inherit(chain, range, word, &mine) == 0)
            give_back(channel, range, mine);
    }
    return 0;
}

static int settle_as_participant(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    int rc = settle_ranges(channel, owner, entry_word); /* first: what it has just linked is looked at, too */

    if (rc == 0)
        rc = settle_links(channel, owner, entry_word);
    if (rc == 0)
        noria_chain_forget(chain_of(channel), owner, NORIA_ENTRY_LIFE(entry_word));
    return rc;
}

/*
 * Whoever opens a channel whose table is full of the dead has no number yet, but has to count himself in
 * and to own what he gives back like anybody else. For him there is one number more than there are
 * participants, the guest's, which is his as long as he holds the kernel's lock on its byte. What a guest
 * leaves who dies over it, the next one to get that lock gives back: the next guest, or whoever opens
 * next.
 */
static uint32_t guest_of(const struct noria_segment_channel *channel)
{
    return channel->geometry.max_participants + 1;
}

static bool lock_guest(const struct noria_segment_channel *channel)
{
    return channel->segment.backend->lock(&channel->segment, guest_of(channel)) == 0;
}

static void unlock_guest(const struct noria_segment_channel *channel)
{
    channel->segment.backend->unlock(&channel->segment, guest_of(channel));
}

static int settle_as_guest(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;
    int rc = make_views(part);

    if (rc != 0 || !lock_guest(channel))
        return rc != 0 ? rc : -EAGAIN;
    noria_chain_start(&part->chain, guest_of(channel), 0, part->views); /* the guest before us is gone */
    settle_ranges(channel, guest_of(channel), 0);
    rc = settle_as_participant(channel, owner, entry_word);
    unlock_guest(channel);
    part->chain.owner = 0;
    free(part->views); /* they were opened under the guest's number */
    part->views = NULL;
    return rc;
}

/* Gives back what a dead guest left. */
static void look_after_guest(struct noria_segment_channel *channel)
{
    struct noria_chain_handle *chain = chain_of(channel);

    if (!noria_chain_has_traces(chain, guest_of(channel)) ||
        !lock_guest(channel))
        return;
    settle_ranges(channel, guest_of(channel), 0);
    noria_chain_forget(chain, guest_of(channel), 0);
    unlock_guest(channel);
}

static int join(struct noria_segment_channel *channel, int flags)
{
    struct noria_unbounded_part *part = &channel->part.unbounded;
    int rc = make_views(part);

    (void)flags; /* sending and receiving need no role */
    if (rc != 0 || part->chain.owner != 0) /* by a settle that came first */
        return rc;
    rc = noria_chain_start(&part->chain, channel->number, NORIA_ENTRY_LIFE(channel->entry_word), part->views);
    if (rc == 0)
        look_after_guest(channel);
    return rc;
}

static int settle(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word)
{
    int rc = 0;

    if (channel->number == 0)
        return settle_as_guest(channel, owner, entry_word);
    if (channel->part.unbounded.chain.owner == 0) /* we are just joining */
        rc = join(channel, 0);
    else
        look_after_guest(channel);
    return rc == 0 ? settle_as_participant(channel, owner, entry_word) : rc;
}

/* Gives back what a call of ours left, of which there is none if it was not cut off. */
static void leave(struct noria_segment_channel *channel)
{
    settle_links(channel, channel->number, 0);
}

static bool held_elsewhere(struct noria_segment_channel *channel)
{
    struct noria_chain_handle *chain = chain_of(channel);
    struct noria_chain_link links[NORIA_CHAIN_RANGES];
    uint64_t tail;
    unsigned n = noria_chain_links(chain, &tail, links);
    bool held = false;

    for (unsigned i = 0; i < n && !held; i++) {
        struct noria_chain_view spare;
        if (noria_chain_enter(chain, &links[i], &spare) != 0)
            continue;
        held = noria_mpmc_held_elsewhere(links[i].ring, channel->number);
        noria_chain_leave(chain, &links[i]);
    }
    return held;
}

static bool finds_room(struct noria_segment_channel *channel)
{
    struct noria_chain_handle *chain = chain_of(channel);

    return noria_chain_may_send(chain) || (noria_chain_may_grow(chain) && !is_starved(channel));
}

/* At the ceiling a send takes out what is empty before it says that the channel is full. So does who asks for
 * room: he may be the only one who comes by. */
static bool has_room(struct noria_segment_channel *channel)
{
    if (finds_room(channel))
        return true;
    noria_chain_retire_empty(chain_of(channel));
    reclaim(channel);
    return finds_room(channel);
}

static bool ready(struct noria_segment_channel *channel, enum noria_side side, unsigned level)
{
    (void)level;
    return side == NORIA_SIDE_SEND ? has_room(channel) : noria_chain_may_receive(chain_of(channel));
}

static uint64_t progress(const struct noria_segment_channel *channel, enum noria_side side)
{
    const struct noria_unbounded_part *part = &channel->part.unbounded;

    return noria_load_relaxed64(side == NORIA_SIDE_SEND ? &part->sent : &part->received);
}

static void back_off(noria_channel *base, enum noria_side side)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    noria_backoff_wait(&channel->part.unbounded.backoff[side], progress(channel, side), 1, MOST_PAUSES);
}

/* A tool that only reads must not touch a link: it cannot say that it is in there. */
static void count(const struct noria_segment_channel *base, struct noria_stat *stat)
{
    struct noria_segment_channel *channel = (void *)(uintptr_t)base; /* it counts itself in */
    struct noria_chain_handle *chain = chain_of(channel);
    struct noria_chain_link links[NORIA_CHAIN_RANGES];
    uint64_t tail, full = 0, bytes = 0;
    struct noria_segment_facts facts;
    bool exact = channel->number != 0;
    unsigned n = exact ? noria_chain_links(chain, &tail, links) : 0;

    if (channel->segment.backend->look(&channel->segment, &facts) == 0)
        stat->footprint = facts.filled;
    for (unsigned i = 0; i < n; i++) {
        struct noria_mpmc_census census, again;
        struct noria_chain_view spare;
        if (noria_chain_enter(chain, &links[i], &spare) != 0)
            continue;
        noria_mpmc_count(links[i].ring, &census);
        noria_mpmc_count(links[i].ring, &again);
        noria_chain_leave(chain, &links[i]);
        exact = exact && census.words == again.words; /* nobody moved between */
        full += census.full + census.orphans;
        bytes += census.bytes;
        stat->held += census.reading - census.orphans;
    }
    exact = exact && n != 0 && noria_chain_tail(chain) == tail;
    stat->messages = exact ? (int64_t)full : -1;
    stat->bytes = exact ? (int64_t)bytes : -1;
}

static uint32_t held_by(const struct noria_segment_channel *channel, uint32_t owner)
{
    const struct noria_chain_handle *chain = &channel->part.unbounded.chain;
    uint32_t held = 0;
    uint64_t word;

    for (unsigned range = 0; noria_chain_find(chain, owner, &range, &word); range++)
        held++;
    return held;
}

NORIA_WHOLE_CALLS(send_one, recv_one)

const struct noria_kind_table noria_unbounded_kind = {
    .name = "unbounded",
    .takes = NORIA_TAKES_GROWTH | NORIA_TAKES_DROP_NEWEST | NORIA_TAKES_ORPHANS_DROP,
    .verbs = {.send = send_one,
              .send_many = send_many,
              .recv = recv_one,
              .recv_many = recv_many,
              .back_off = back_off,
              .send_call = send_call,
              .recv_call = recv_call,
              NORIA_NO_SPANS,
              NORIA_SEGMENT_VERBS},
    .footprint = footprint,
    .initial = initial,
    .format = format,
    .attach = attach,
    .join = join,
    .leave = leave,
    .dispose = dispose,
    .settle = settle,
    .held_elsewhere = held_elsewhere,
    .ready = ready,
    .progress = progress,
    .count = count,
    .held_by = held_by,
    .anatomy = &noria_chain_anatomy,
    .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_REDELIVER,
};
