/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a channel's participants wait for each other. A side has one event word in the header; who finds its flag set has to
 * wake somebody, and does it in every way that somebody may be waiting: at the bell of the channel's strategy, at the
 * descriptor of noria_fd, for a signal. While nobody waits, all of this is one load (noria_notify).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "detail.h"
#include "segment_channel.h"

static size_t footprint(const struct noria_strategy *strategy, uint32_t participants)
{
    size_t size = strategy != NULL && strategy->footprint != NULL ? strategy->footprint(participants) : 0;

    return (size + NORIA_LINE_PAIR - 1) & ~(size_t)(NORIA_LINE_PAIR - 1);
}

size_t noria_waiting_bell_size(const struct noria_geometry *geometry)
{
    return footprint(noria_strategy_find(geometry->wait), geometry->max_participants);
}

size_t noria_waiting_poll_size(const struct noria_geometry *geometry)
{
    return footprint(&noria_strategy_eventfd, geometry->max_participants);
}

/* Tells a strategy who else is here. A pid of another namespace means somebody else here. */
static bool find_peer(void *context, bool (*each)(void *mine, uint32_t number, pid_t pid), void *mine)
{
    struct noria_segment_channel *channel = context;

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        const struct noria_entry *entry = &channel->table[number - 1];
        uint64_t word = noria_load_acquire64(&entry->word); /* pairs with join: the identity */
        int32_t pid = (int32_t)noria_load_relaxed32((const uint32_t *)&entry->pid);
        if (pid <= 0)
            continue;
        if (noria_load_relaxed64(&entry->pid_namespace) != channel->self.pid_namespace)
            pid = -pid;
        if (!noria_participant_is_self(channel, number) && NORIA_ENTRY_STATE(word) == NORIA_ENTRY_LIVE &&
            !noria_participant_is_dead(channel, number, word, false) && each(mine, number, pid))
            return true;
    }
    return false;
}

bool noria_waiting_name_is_of_file(const uint64_t id[2])
{
    return (id[0] & NORIA_SEGMENT_ID_OF_FILE) != 0;
}

/* What the names of things outside of the segment are made of: the channel's id, and its file, for a copy
 * of the file has the same id. Whoever can open the channel knows both. */
void noria_waiting_name(const struct noria_segment_channel *channel, uint64_t id[2])
{
    id[0] = channel->segment.super.id[0];
    id[1] = channel->segment.super.id[1] ^ (uint64_t)channel->segment.inode;
}

static struct noria_bell_place place_of(struct noria_segment_channel *channel, const struct noria_segment_facts *facts,
                                        uint64_t offset, uint64_t size, uint32_t *senders, uint32_t *receivers)
{
    struct noria_bell_place place = {
        .mode = channel->geometry.mode & 0777,
        .owner = facts->owner,
        .group = facts->group,
        .participants = channel->geometry.max_participants,
        .number = channel->number,
        .memory = size != 0 ? (uint8_t *)channel->shared + offset : NULL,
        .words = {senders, receivers},
        .find_peer = find_peer,
        .context = channel};

    noria_waiting_name(channel, place.id);
    return place;
}

int noria_waiting_open(struct noria_segment_channel *channel)
{
    const struct noria_geometry *geometry = &channel->geometry;
    const struct noria_strategy *strategy = noria_strategy_find(geometry->wait);
    struct noria_waiting_room *rooms = channel->shared->rooms;
    struct noria_segment_facts facts;
    int rc = 0;

    if (channel->segment.backend->look(&channel->segment, &facts) != 0)
        facts = (struct noria_segment_facts){.owner = geteuid(), .group = getegid()}; /* no reason not to open */
    channel->place = place_of(channel, &facts, geometry->bell_offset, geometry->bell_size,
                              rooms[NORIA_SIDE_SEND].strategy, rooms[NORIA_SIDE_RECV].strategy);
    channel->poll_place = place_of(channel, &facts, geometry->poll_offset, geometry->poll_size,
                                   rooms[NORIA_SIDE_SEND].poll, rooms[NORIA_SIDE_RECV].poll);
    for (unsigned side = 0; side < 2 && rc == 0; side++)
        rc = noria_event_open(&channel->events[side], &rooms[side].count, strategy, &channel->place, side);
    if (rc != 0)
        noria_waiting_close(channel);
    return rc;
}

/* A poll bell in its handle: opened by whichever thread needs it first. */
enum { POLL_CLOSED = 0, POLL_OPENING = 1, POLL_OPEN = 2 };

static const struct noria_strategy *poll_strategy(uint32_t polled)
{
    return polled == NORIA_POLL_EVENTFD ? &noria_strategy_eventfd : &noria_strategy_fifo;
}

void noria_waiting_close(struct noria_segment_channel *channel)
{
    for (unsigned side = 0; side < 2; side++) {
        noria_event_close(&channel->events[side]);
        if (channel->poll_state[side] == POLL_OPEN)
            poll_strategy(channel->poll_kinds[side])->close(&channel->poll_bells[side]);
        channel->poll_state[side] = POLL_CLOSED;
    }
}

void noria_waiting_remove(const struct noria_segment_channel *channel)
{
    const struct noria_strategy *strategy = noria_strategy_find(channel->geometry.wait);
    struct noria_bell_place place = {.words = {NULL, NULL}};

    noria_waiting_name(channel, place.id);
    if (channel->place.participants != 0) /* a participant, not a tool that only reads */
        place = channel->place;           /* with its words, where late openers see it */
    if (strategy != NULL && strategy->remove != NULL)
        strategy->remove(&place);
    noria_strategy_fifo.remove(&place);
}

/* ----------------------------------------------------------------------------------------------- the bell of noria_fd */

/* Opens this handle's bell on that side. 0, or -errno with a sentence. */
static int open_poll_bell(struct noria_segment_channel *channel, enum noria_side side, uint32_t polled,
                          struct noria_bell *bell)
{
    *bell = (struct noria_bell){.place = &channel->poll_place, .word = &channel->shared->rooms[side].count,
                                .side = side, .fd = -1, .set = -1};
    return poll_strategy(polled)->open(bell);
}

/* The handle's own bell, opened once. 0, or -errno with a sentence. Lock-free: a signal handler may have interrupted
 * the same thread in here, so the loser does not wait for the winner but is given `spare`, to close when used. */
static int find_poll_bell(struct noria_segment_channel *channel, enum noria_side side, uint32_t polled,
                          struct noria_bell *spare, struct noria_bell **bell)
{
    uint32_t expected = POLL_CLOSED;
    int rc;

    *bell = &channel->poll_bells[side];
    if (noria_load_acquire32(&channel->poll_state[side]) == POLL_OPEN) /* pairs with the store below */
        return 0;
    rc = open_poll_bell(channel, side, polled, spare);
    if (rc != 0)
        return rc;
    if (!noria_cas_acq_rel32(&channel->poll_state[side], &expected, POLL_OPENING)) {
        *bell = spare;
        return 0;
    }
    channel->poll_bells[side] = *spare;
    channel->poll_kinds[side] = polled; /* for the segment's word may be another by now */
    noria_store_release32(&channel->poll_state[side], POLL_OPEN);
    return 0;
}

/* The loser's. Others may have known the handle's bell by it. */
static void close_spare(struct noria_segment_channel *channel, enum noria_side side, uint32_t polled,
                        struct noria_bell *spare)
{
    poll_strategy(polled)->close(spare);
    if (noria_load_acquire32(&channel->poll_state[side]) == POLL_OPEN) /* pairs with the store in find_poll_bell */
        poll_strategy(channel->poll_kinds[side])->renew(&channel->poll_bells[side]);
}

static void ring_poll_bell(struct noria_segment_channel *channel, enum noria_side side, uint32_t polled)
{
    struct noria_bell spare, *bell;
    bool muted = noria_detail_mute(true); /* formatting is not async-signal-safe, and nobody asked */
    int rc = find_poll_bell(channel, side, polled, &spare, &bell);

    noria_detail_mute(muted);
    if (rc != 0) { /* no descriptors left, or the like: the next one who has something to tell tries again */
        noria_event_arm_again(&channel->shared->rooms[side].count);
        return;
    }
    poll_strategy(bell == &spare ? polled : channel->poll_kinds[side])->ring(bell);
    if (bell == &spare)
        close_spare(channel, side, polled, bell);
}

/* An eventfd is taken from a peer by a number of his, who could name any other one that he or we have (see `trusting`). So who
 * distrusts has a descriptor where the channel has a name, and a FIFO has one. */
static bool may_poll(const struct noria_segment_channel *channel)
{
    return !channel->base.distrusts || channel->segment.backend->named;
}

static bool may_be_rung(const struct noria_segment_channel *channel, uint32_t polled)
{
    return may_poll(channel) &&
           (polled == NORIA_POLL_FIFO || (polled == NORIA_POLL_EVENTFD && !channel->base.distrusts));
}

/* What kind of bell the side's descriptors are. The first to ask decides for all. */
static uint32_t choose_poll_bell(struct noria_segment_channel *channel, enum noria_side side)
{
    uint32_t *polled = &channel->shared->rooms[side].polled;
    uint32_t expected = NORIA_POLL_NONE;
    uint32_t mine = channel->segment.backend->named ? NORIA_POLL_FIFO : NORIA_POLL_EVENTFD;

    return noria_cas_acq_rel32(polled, &expected, mine) ? mine : expected;
}

static int refuse_to_poll(uint32_t polled)
{
    if (polled != NORIA_POLL_EVENTFD)
        return noria_fail(-EBADMSG, "the channel's header says that its descriptors are of kind %u: it is corrupt", polled);
    return noria_fail(-ENOTSUP, "with trust `none` a channel without a name has no descriptor: it would be taken from a "
                      "peer, who could forge which; wait in the call, or take a name and options.guard");
}

int noria_segment_fd(noria_channel *base, enum noria_side side)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_bell spare, *bell = &channel->events[side].bell;

    if (!channel->events[side].strategy->pollable) {
        uint32_t polled = may_poll(channel) ? choose_poll_bell(channel, side) : NORIA_POLL_EVENTFD;
        int rc = may_be_rung(channel, polled) ? find_poll_bell(channel, side, polled, &spare, &bell)
                                              : refuse_to_poll(polled);
        if (rc != 0)
            return rc;
        if (bell == &spare) { /* another thread is just opening it */
            close_spare(channel, side, polled, bell);
            return noria_fail(-EBUSY, "another thread is just asking for the same descriptor; ask again");
        }
    }
    noria_store_release32(&base->polls[side], 1); /* pairs with the load in noria_call_on: arm from now on */
    return bell->fd;
}

/* Before the last look of somebody who will wait at a descriptor or for a signal: asks to be woken for what comes after
 * it. Whether an earlier ring was taken back that others may need.
 *
 * The flag is raised twice. After the ring was taken back, because that may be the ring of one who took the flag down just
 * before. And before it, for the others: whoever is stopped or killed in between must not leave them at a silent bell that
 * nobody is asked to ring. (What is left: one who rings between the two, or committed before the first while the flag was
 * down, and then a stop between quiet and the second.) */
bool noria_segment_arm(noria_channel *base, enum noria_side side, bool quiet)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    const struct noria_strategy *strategy = channel->events[side].strategy;
    bool had_rung = false;

    if (quiet)
        noria_event_arm_again(&channel->shared->rooms[side].count);
    if (quiet && strategy->pollable)
        had_rung = strategy->quiet(&channel->events[side].bell);
    else if (quiet && noria_load_acquire32(&channel->poll_state[side]) == POLL_OPEN)
        had_rung = poll_strategy(channel->poll_kinds[side])->quiet(&channel->poll_bells[side]);
    if (side == NORIA_SIDE_RECV)
        noria_signal_arm(channel);
    noria_event_arm(&channel->shared->rooms[side].count);
    return had_rung;
}

/* ------------------------------------------------------------------------------------------------- sleeping and waking */

/* Besides the sleepers at the strategy's bell, which are the event's. */
static void wake_the_others(struct noria_segment_channel *channel, enum noria_side side)
{
    struct noria_waiting_room *room = &channel->shared->rooms[side];
    uint32_t polled = noria_load_acquire32(&room->polled); /* stored before the flag was set that brought us here */
    bool signals = side == NORIA_SIDE_RECV && noria_load_acquire32(&room->signals) != 0;

    if (may_be_rung(channel, polled))
        ring_poll_bell(channel, side, polled);
    if (signals && !channel->base.distrusts)
        noria_signal_send(channel);
    if (channel->base.distrusts && (signals || polled == NORIA_POLL_EVENTFD))
        noria_event_arm_again(&room->count); /* what we do not do is left to who does */
}

void noria_wake_side(struct noria_segment_channel *channel, enum noria_side side)
{
    int cancels;

    if (channel->events[side].strategy == NULL)
        return; /* this handle is just joining, or has left: it wakes all when it can */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels); /* write, for instance, is a point of it */
    noria_event_wake(&channel->events[side]);
    wake_the_others(channel, side);
    pthread_setcancelstate(cancels, NULL);
}

int noria_segment_sleep(noria_channel *base, enum noria_side side, int64_t deadline_ns, bool (*ready)(void *),
                        void *context)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    return noria_event_sleep(&channel->events[side], deadline_ns, channel->recheck_ns, ready, context);
}

void noria_segment_wake(noria_channel *base)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    for (unsigned side = 0; side < 2 && channel->events[side].strategy != NULL; side++) {
        noria_event_wake_all(&channel->events[side]);
        wake_the_others(channel, side);
    }
}

ssize_t noria_segment_ready(noria_channel *base, enum noria_side side, unsigned priority)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    return channel->kind->ready(channel, side, priority) ? 0 : -EAGAIN;
}
