/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who takes part. The table has no mutex: the kernel's lock on byte i is the claim of entry i, and every change of an
 * entry's word is a compare-and-swap from an exact word that never comes back (its incarnation grows).
 *
 *     join     lock byte i, find FREE, write the identity, FREE(k) -> LIVE(k + 1)          by the holder of the lock
 *     leave    LIVE -> FREE(same incarnation), unlock                                      by the owner
 *     free     LIVE -> FREE, after everything the dead one held is settled                 by any recoverer (recovery.c)
 *
 * Where exec keeps locks (System V), whoever frees the entry of a process that became another program says before that
 * its lock is left. The process, should it open the channel again, gives it back; nobody else can have taken it till then.
 *
 *     lock_left   less -> incarnation k          by a recoverer who has seen LIVE(k) dead and its lock held
 *                 k -> k | 1, unlock             by a thread of that process, while the word is FREE(k)
 *                 k -> k | 1                     by a joiner who holds the lock: that process has ended
 *
 * Killed between two steps of a join: the lock is free again and the word FREE, or LIVE and dead. A stopped joiner costs
 * its entry, nothing else. A's lock on a FREE entry means that somebody is joining or leaving there: others go on.
 */
#include <errno.h>

#include "detail.h"
#include "segment_channel.h"

static struct noria_entry *entry_of(const struct noria_segment_channel *channel, uint32_t number)
{
    return &channel->table[number - 1];
}

static uint64_t incarnation_of(uint64_t word)
{
    return word & ~(NORIA_ENTRY_INCARNATION - 1);
}

void noria_roster_changed(struct noria_segment_channel *channel)
{
    noria_add_release64(&channel->shared->roster, 1); /* pairs with the load in count_roster; the entry's word */
    noria_notify_receivers(channel);
    noria_notify_senders(channel);
}

/* With the lock of a FREE entry held: makes it ours. */
static int settle_in(struct noria_segment_channel *channel, uint32_t number, uint64_t word, int flags)
{
    struct noria_entry *entry = entry_of(channel, number);
    uint64_t left = incarnation_of(word), mine = left + NORIA_ENTRY_INCARNATION;

    mine |= (uint64_t)(flags & (NORIA_SEND | NORIA_RECV)) << 2 | NORIA_ENTRY_LIVE;
    /* The lock is ours, if one was left here its process has ended: from now on nobody gives it back, for the identity that
     * stands here next is ours. */
    if (left != 0)
        noria_cas_acq_rel64(&entry->lock_left, &left, left | 1);
    /* Relaxed stores: the word, released below, publishes them; the lock keeps others from writing. */
    noria_store_relaxed64(&entry->start_time, channel->self.start_time);
    noria_store_relaxed64(&entry->pid_namespace, channel->self.pid_namespace);
    noria_store_relaxed64(&entry->image, channel->self.image);
    noria_store_relaxed32(&entry->program, channel->self.program);
    noria_store_relaxed64((uint64_t *)&entry->joined_ns, (uint64_t)noria_clock_read(CLOCK_REALTIME));
    noria_store_relaxed32((uint32_t *)&entry->pid, (uint32_t)channel->self.pid);
    noria_store_relaxed32(&entry->signal, 0); /* of an earlier incarnation */
    noria_signal_recover(channel, number);    /* what that one may have taken while it left, and died */
    noria_store_relaxed64(&entry->sent_before, noria_load_relaxed64(&entry->sent));
    noria_store_relaxed64(&entry->received_before, noria_load_relaxed64(&entry->received));
    if (!noria_cas_acq_rel64(&entry->word, &word, mine)) /* pairs with the loads of participants' words everywhere */
        return -EAGAIN;
    channel->number = number;
    channel->own = entry;
    channel->entry_word = mine;
    return 0;
}

static int claim_free_entry(struct noria_segment_channel *channel, int flags)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        struct noria_entry *entry = entry_of(channel, number);
        uint64_t word = noria_load_acquire64(&entry->word);

        int rc;

        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_FREE)
            continue;
        rc = channel->segment.backend->lock(&channel->segment, number);
        if (rc == -EAGAIN)
            continue;
        if (rc != 0)
            return noria_fail(rc, "the kernel refuses a lock on the segment: %s", noria_error_words(rc));
        word = noria_load_acquire64(&entry->word);
        if (NORIA_ENTRY_STATE(word) == NORIA_ENTRY_FREE && settle_in(channel, number, word, flags) == 0)
            return 0;
        channel->segment.backend->unlock(&channel->segment, number);
    }
    return -EAGAIN;
}

/* Relaxed: the caller has acquired the entry's word. */
static struct noria_process identity_in(const struct noria_entry *entry)
{
    return (struct noria_process){.start_time = noria_load_relaxed64(&entry->start_time),
                                  .pid_namespace = noria_load_relaxed64(&entry->pid_namespace),
                                  .image = noria_load_relaxed64(&entry->image),
                                  .program = noria_load_relaxed32(&entry->program),
                                  .pid = (int32_t)noria_load_relaxed32((const uint32_t *)&entry->pid)};
}

/* ------------------------------------------------------------------------------------------- locks that exec keeps */

void noria_participant_note_lock(struct noria_segment_channel *channel, uint32_t number, uint64_t word)
{
    struct noria_entry *entry = entry_of(channel, number);
    uint64_t left = noria_load_relaxed64(&entry->lock_left);

    /* It only grows: whoever was stopped here for long changes nothing. */
    if (!channel->segment.backend->locks_survive_exec || left >= incarnation_of(word) ||
        channel->segment.backend->held(&channel->segment, number) != 1)
        return;
    /* Lost: another recoverer was faster. Published with the entry's word, which is freed after this. */
    noria_cas_acq_rel64(&entry->lock_left, &left, incarnation_of(word));
}

void noria_participant_give_lock_back(struct noria_segment_channel *channel, uint32_t number)
{
    struct noria_entry *entry = entry_of(channel, number);
    uint64_t word = noria_load_acquire64(&entry->word); /* pairs with who freed it: lock_left */
    uint64_t left = incarnation_of(word);
    const struct noria_process process = identity_in(entry);

    if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_FREE || left == 0 || process.pid != channel->self.pid ||
        process.pid_namespace != channel->self.pid_namespace || process.start_time != channel->self.start_time)
        return;
    if (noria_cas_acq_rel64(&entry->lock_left, &left, left | 1))
        channel->segment.backend->unlock(&channel->segment, number);
}

/* Places that nobody has, but the kernel keeps locked: of processes that became another program without closing their handles,
 * where locks outlive that. (Or somebody is just joining there.) */
static uint32_t count_kept(struct noria_segment_channel *channel)
{
    uint32_t kept = 0;

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        kept += NORIA_ENTRY_STATE(noria_load_relaxed64(&entry_of(channel, number)->word)) == NORIA_ENTRY_FREE &&
                channel->segment.backend->held(&channel->segment, number) == 1;
    return kept;
}

static int tell_of_no_place(struct noria_segment_channel *channel)
{
    uint32_t most = channel->geometry.max_participants;
    uint32_t kept = channel->segment.backend->locks_survive_exec ? count_kept(channel) : 0;

    if (kept == 0)
        return noria_fail(-EBUSY, "all %u participants' places are taken by live handles; create the channel with a "
                          "larger max_participants", most);
    return noria_fail(-EBUSY, "all %u participants' places are taken, %u by processes that became another program with "
                      "handles open (exec), until they end: close handles before exec, or create the channel with a larger "
                      "max_participants", most, kept);
}

int noria_participant_join(struct noria_segment_channel *channel, int flags)
{
    int rc;

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        noria_participant_give_lock_back(channel, number);
    rc = claim_free_entry(channel, flags);
    if (rc == -EAGAIN) {
        noria_recover_all(channel, true); /* or another recoverer was faster */
        rc = claim_free_entry(channel, flags);
    }
    if (rc != 0 && rc != -EAGAIN)
        return rc;
    return rc == 0 ? 0 : tell_of_no_place(channel);
}

void noria_participant_announce(struct noria_segment_channel *channel, int flags)
{
    noria_roster_changed(channel);
    /* After the roster, and release: who counts us as having been here finds us in the table, or gone again. */
    if ((flags & NORIA_SEND) != 0)
        noria_add_release64(&channel->shared->senders_joined, 1);
    if ((flags & NORIA_RECV) != 0)
        noria_add_release64(&channel->shared->receivers_joined, 1);
}

void noria_participant_leave(struct noria_segment_channel *channel)
{
    uint64_t word = channel->entry_word;

    if (channel->number == 0 || channel->left)
        return;
    /* What is to be woken yet is woken in nobody's name: the number may soon be another's. */
    channel->place.number = channel->poll_place.number = 0;
    /* Release: whoever finds us gone finds all we sent. Fails if we were taken for dead: then it is done already. */
    if (noria_cas_acq_rel64(&entry_of(channel, channel->number)->word, &word,
                            (word & ~(NORIA_ENTRY_INCARNATION - 1)) | NORIA_ENTRY_FREE))
        channel->segment.backend->unlock(&channel->segment, channel->number); /* else it may be a successor's lock */
    channel->left = true;
    noria_roster_changed(channel);
}

/* What the kernel says of an identity. A held lock means alive, unless the process is certainly gone (a forked child
 * can hold its parent's description). A free lock means dead, unless the process still maps the segment (it may have
 * closed descriptors it did not know). Where locks survive execve, so does a held one that no longer does. A process
 * that opens the channel again after execve maps it again; that it was another program then, its identity tells. */
static bool is_gone(const struct noria_segment_channel *channel, uint32_t number, const struct noria_process *process,
                    bool thorough)
{
    int held = channel->segment.backend->held(&channel->segment, number);
    enum noria_process_state state;

    if (held < 0)
        return false;
    state = noria_process_look(&channel->self, process, thorough || held == 0);
    if (state != NORIA_PROCESS_EXISTS)
        return held == 0 || state == NORIA_PROCESS_GONE;
    if (held == 1 && !(thorough && channel->segment.backend->locks_survive_exec))
        return false;
    return channel->segment.inode != 0 &&
           noria_process_maps(process->pid, channel->segment.device, channel->segment.inode) == 0;
}

bool noria_participant_is_dead(struct noria_segment_channel *channel, uint32_t number, uint64_t word, bool thorough)
{
    struct noria_entry *entry = entry_of(channel, number);
    struct noria_process process;

    if (noria_participant_is_self(channel, number) || NORIA_ENTRY_STATE(word) != NORIA_ENTRY_LIVE)
        return false;
    process = identity_in(entry); /* acquired with the word; if another incarnation writes it, the word below differs */
    return is_gone(channel, number, &process, thorough) && noria_load_acquire64(&entry->word) == word;
}

uint32_t noria_participants_live(const struct noria_segment_channel *channel, unsigned flag)
{
    uint32_t live = 0;

    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        uint64_t word = noria_load_acquire64(&entry_of(channel, number)->word); /* pairs with leave: what they sent */
        live += NORIA_ENTRY_STATE(word) == NORIA_ENTRY_LIVE && (NORIA_ENTRY_FLAGS(word) & flag) != 0;
    }
    return live;
}
