/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals as asynchronous notification, as mq_notify gives it: a receiver registers in its entry of the table, and whoever
 * wakes receivers sends the signal, with the receiver's handle as value. A registration is armed whenever its handle
 * has found the channel empty; one armed registration leads to one signal.
 *
 *     entry.signal = participant who is just sending it (16 bits) | armed | once | signo (8 bits)
 *
 *     armed  ->  taken by n      the notifier n, by compare-and-swap: so one of them sends
 *                send
 *     taken by n  ->  signo, or nothing if it was to come once
 *
 * If n dies in between, whoever cleans up after n arms the registration again and wakes everybody. The process is
 * checked to be the one that registered, by its start time and through a pidfd, so that a reused pid is not hit. All of
 * this is words of the segment, so a peer could make us send a signal of his choice to any process of ours that maps it:
 * a handle that distrusts neither registers nor sends.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "detail.h"
#include "segment_channel.h"

#define SIGNAL_NUMBER UINT32_C(0xff)
#define SIGNAL_ONCE UINT32_C(0x100)
#define SIGNAL_ARMED UINT32_C(0x200)
#define SIGNAL_TAKEN_BY(number) ((uint32_t)(number) << 16)
#define SIGNAL_TAKER(word) ((word) >> 16)

enum { ARM_TRIES = 16 };

int noria_segment_notify_signal(noria_channel *base, int signo, int how)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);
    struct noria_entry *entry = channel->own;
    uint32_t word = (uint32_t)signo | (how == NORIA_NOTIFY_ONCE ? SIGNAL_ONCE : 0);

    if (!noria_participant_is_alive(channel))
        return signo == 0 ? 0 : noria_fail_plain(-EOWNERDEAD);
    if (signo == 0) {
        noria_store_release32(&entry->signal, 0);
        return 0;
    }
    if (base->distrusts)
        return noria_fail(-ENOTSUP, "with trust `none` nobody sends signals, for a peer could forge which, and to whom: wait "
                          "in noria_recv, or with noria_fd");
    if (channel->self.pid_namespace == 0 || channel->self.start_time == 0)
        return noria_fail(-ENOTSUP, "signals need /proc, to tell this process from a later one with its number");
    /* Release: the value before the word that makes it count. */
    noria_store_relaxed64(&entry->signal_value, (uint64_t)(uintptr_t)base);
    noria_store_release32(&entry->signal, word);
    noria_store_release32(&channel->shared->rooms[NORIA_SIDE_RECV].signals, 1);
    noria_store_release32(&base->polls[NORIA_SIDE_RECV], 1); /* pairs with the load in noria_call_on: arm from now on */
    return 0;
}

void noria_signal_arm(struct noria_segment_channel *channel)
{
    uint32_t *signal = &channel->own->signal;
    uint32_t word = noria_load_relaxed32(signal); /* the swap below decides */

    if (!noria_participant_is_alive(channel))
        return;
    /* Lost: it was cancelled by another thread, or is sent; after that nobody but us changes it. */
    for (int tries = 0; tries < ARM_TRIES; tries++) {
        uint32_t armed = (word & (SIGNAL_NUMBER | SIGNAL_ONCE)) | SIGNAL_ARMED;
        if ((word & SIGNAL_NUMBER) == 0 || ((word & SIGNAL_ONCE) != 0 && SIGNAL_TAKER(word) != 0))
            return; /* none, or the one signal is under way */
        if (word == armed || noria_cas_acq_rel32(signal, &word, armed))
            return;
    }
}

void noria_signal_recover(struct noria_segment_channel *channel, uint32_t dead)
{
    bool found = false;

    if (noria_load_acquire32(&channel->shared->rooms[NORIA_SIDE_RECV].signals) == 0)
        return;
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        uint32_t *signal = &channel->table[number - 1].signal;
        uint32_t word = noria_load_acquire32(signal);
        if (SIGNAL_TAKER(word) == dead)
            found |= noria_cas_acq_rel32(signal, &word, (word & (SIGNAL_NUMBER | SIGNAL_ONCE)) | SIGNAL_ARMED);
    }
    if (found) /* also if we die before we wake: the next notifier sees the flag */
        noria_event_arm(&channel->shared->rooms[NORIA_SIDE_RECV].count);
}

/* What registering refuses, for the word may have been written by somebody else: what cannot be caught,
 * and the C library's own. */
static bool may_be_sent(int signo)
{
    return signo > 0 && signo <= SIGRTMAX && (signo < 32 || signo >= SIGRTMIN) && signo != SIGKILL &&
           signo != SIGSTOP;
}

/* Whether somebody with other rights than ours can write into the segment, so that its words could make us signal
 * whomever he likes. */
static bool is_shared_with_others(const struct noria_segment_channel *channel)
{
    struct noria_segment_facts facts;

    return channel->segment.backend->look(&channel->segment, &facts) != 0 || facts.owner != geteuid() ||
           (facts.mode & 022) != 0;
}

/* Sends to the process of an entry, if it still takes part: neither to a later one with its number, nor to what it has
 * become by exec. False: it is there, and we could not. */
static bool send_to(struct noria_segment_channel *channel, uint32_t number, uint64_t entry_word, int signo)
{
    const struct noria_entry *entry = &channel->table[number - 1];
    pid_t pid = (pid_t)noria_load_relaxed32((const uint32_t *)&entry->pid); /* the caller acquired the entry's word */
    int pidfd, maps = 1;
    siginfo_t info;
    bool sent;

    if (noria_load_relaxed64(&entry->pid_namespace) != channel->self.pid_namespace)
        return false; /* its number means somebody else here */
    pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return pid <= 0 || errno == ESRCH;
    memset(&info, 0, sizeof(info));
    info.si_signo = signo;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)(uintptr_t)noria_load_relaxed64(&entry->signal_value);
    if (is_shared_with_others(channel))
        maps = noria_process_maps(pid, channel->segment.device, channel->segment.inode);
    /* After pidfd_open: the process that the pidfd means is the one that is looked at. */
    sent = maps == 0 || noria_participant_is_dead(channel, number, entry_word, true);
    if (!sent && maps == 1)
        sent = syscall(SYS_pidfd_send_signal, pidfd, signo, &info, 0) == 0 || errno == ESRCH;
    close(pidfd);
    return sent;
}

void noria_signal_send(struct noria_segment_channel *channel)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        struct noria_entry *entry = &channel->table[number - 1];
        uint64_t entry_word = noria_load_acquire64(&entry->word); /* pairs with join: the identity */
        uint32_t word = noria_load_acquire32(&entry->signal); /* pairs with the registration: the value */
        uint32_t taken = (word & (SIGNAL_NUMBER | SIGNAL_ONCE)) | SIGNAL_TAKEN_BY(channel->number);
        uint32_t after = (word & SIGNAL_ONCE) != 0 ? 0 : word & SIGNAL_NUMBER;
        int signo = (int)(word & SIGNAL_NUMBER);
        bool sent;

        if ((word & SIGNAL_ARMED) == 0 || !may_be_sent(signo) ||
            NORIA_ENTRY_STATE(entry_word) != NORIA_ENTRY_LIVE)
            continue;
        if (!noria_cas_acq_rel32(&entry->signal, &word, taken))
            continue;
        sent = send_to(channel, number, entry_word, signo);
        if (!sent)
            after = (taken & (SIGNAL_NUMBER | SIGNAL_ONCE)) | SIGNAL_ARMED;
        noria_cas_acq_rel32(&entry->signal, &taken, after); /* lost: armed again, or cancelled */
        if (!sent) /* the next notifier tries: he may have the right, or a descriptor left */
            noria_event_arm(&channel->shared->rooms[NORIA_SIDE_RECV].count);
    }
}
