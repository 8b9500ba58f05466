/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a channel is to the layers above: one table of verbs that each kind of channel and each adapter fills, and the
 * one loop that turns "try" into "wait".
 *
 * A verb tries once and never blocks. A call enters the handle, calls one verb and leaves (call.h); only when it answers
 * -EAGAIN and the caller has time does the loop in wait.c take over.
 *
 * A call in progress stands in a read section of liburcu (the bp flavour: threads of the user need not register), so
 * that close can wait for it without a lock on the hot path, or, a short one, in its role's lane (call.h). A read section
 * never spans a sleep: a call that waits is counted in `waiting` instead, and close wakes and waits for those.
 */
#ifndef NORIA_TRANSPORT_H
#define NORIA_TRANSPORT_H

#include <errno.h>
#include <stdbool.h>

#include <noria/noria.h>

#include "atomic.h"
#include "clock.h"
#include "role.h"

enum noria_side { NORIA_SIDE_SEND = 0, NORIA_SIDE_RECV = 1 };

/* Where a message comes from that is passed on. The same source (0: it cannot be told), level and sequence are the same
 * message. */
struct noria_origin {
    uint64_t source, sequence;
    unsigned level;
    bool redelivered;
};
struct noria_auto;

/* All tries: 0 or a count, -EAGAIN full or empty, or another -errno. Outputs are untouched on failure. send and recv may be
 * missing where send_call and recv_call make tries of their own. */
struct noria_verbs {
    int (*send)(noria_channel *channel, const void *data, size_t len, unsigned priority);
    int (*send_many)(noria_channel *channel, const struct iovec *messages, int n); /* NULL: by the next one, */
    /* a whole call; `drops`: as of struct noria_attempt. NULL, too: one at a time, by send_call. */
    int (*send_many_call)(noria_channel *channel, const struct iovec *messages, int n, int drops, int64_t timeout_ns);
    ssize_t (*recv)(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info);
    int (*recv_many)(noria_channel *channel, struct iovec *buffers, int n, struct noria_info *info);
    int (*reserve)(noria_channel *channel, size_t max_len, struct noria_span *span);
    int (*commit)(noria_channel *channel, struct noria_span *span, size_t len);
    int (*abort)(noria_channel *channel, struct noria_span *span);
    int (*peek)(noria_channel *channel, struct noria_span *span, struct noria_info *info);
    int (*release)(noria_channel *channel, struct noria_span *span);
    /* What was peeked at is the next message again. NULL: only closing gives it back. */
    int (*put_back)(noria_channel *channel, struct noria_span *span);
    /* Whole calls around send and recv, waiting included: NORIA_WHOLE_CALLS, or noria_send_call and noria_recv_call. */
    int (*send_call)(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns);
    ssize_t (*recv_call)(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                         int64_t timeout_ns);
    /* As send_call, but the message may stay in the handle until flush_call puts it out. NULL: it goes at once, and there is
     * nothing to put out. */
    int (*gather_call)(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns);
    int (*flush_call)(noria_channel *channel, int64_t timeout_ns);
    /* As send_call, of a message that is passed on: what says at the destination that it has been there before. NULL: this
     * channel cannot tell. */
    int (*send_origin)(noria_channel *channel, const void *data, size_t len, unsigned priority,
                       const struct noria_origin *origin, int64_t timeout_ns);
    /* Whole calls, of messages that bring descriptors; NULL: this channel carries none. */
    int (*send_fds)(noria_channel *channel, const void *data, size_t len, const int *fds, int n, int64_t timeout_ns);
    ssize_t (*recv_fds)(noria_channel *channel, void *buffer, size_t capacity, int *fds, int *n, int64_t timeout_ns,
                        struct noria_info *info);
    /* A call has waited in vain: what it returns instead of -EAGAIN or -ETIMEDOUT. NULL: just that. */
    ssize_t (*excuse)(noria_channel *channel, enum noria_side side, ssize_t rc);
    /* Messages were dropped by policy. */
    void (*count_lost)(noria_channel *channel, uint64_t n);
    /* After a failed try: a moment away from the other side's cache line. */
    void (*back_off)(noria_channel *channel, enum noria_side side);
    /* After a failed try: why nothing moves. 0 no reason, 1 something was mended: try again, -EPIPE nobody is there on the
     * other side: try once more, for the last one may have sent before it left, and ask has_ended. */
    int (*look_round)(noria_channel *channel, enum noria_side side);
    bool (*has_ended)(noria_channel *channel, enum noria_side side);
    /* Sleeps until notified, until the deadline, or until ready() says there is nothing to wait for. 0, or -EINTR if a
     * signal handler ran. */
    int (*sleep)(noria_channel *channel, enum noria_side side, int64_t deadline_ns, bool (*ready)(void *),
                 void *context);
    /* Wakes all who wait, on both sides. */
    void (*wake)(noria_channel *channel);
    /* A descriptor that becomes readable when a try on that side may get on; belongs to the handle. Or -errno. */
    int (*fd)(noria_channel *channel, enum noria_side side);
    /* Before the last try of somebody who will then wait at the descriptor or for a signal: asks for notice of what comes
     * after it. With `quiet` earlier notices are taken back first; whether there were any, which others may need. */
    bool (*arm)(noria_channel *channel, enum noria_side side, bool quiet);
    /* A try that takes nothing: 0 another one would get on just now, a sender's with a message of that level; -EAGAIN. */
    ssize_t (*ready)(noria_channel *channel, enum noria_side side, unsigned priority);
    int (*notify_signal)(noria_channel *channel, int signo, int how);
    int (*stat)(noria_channel *channel, struct noria_stat *stat);
    int (*sync)(noria_channel *channel); /* NULL: nothing of it is on a disk */
    int (*share)(noria_channel *channel, int socket); /* NULL: it is not memory */
    int (*reopen)(noria_channel **mine, const noria_channel *inherited, int flags);
    /* The last verb: nobody else is inside. `stale`: this process inherited the handle over fork. */
    void (*close)(noria_channel *channel, bool stale);
};

/* CORRUPT, LOST: of watched handles, for good: a call met what cannot be, a peer has truncated the segment. */
enum { NORIA_HANDLE_OPEN = 0, NORIA_HANDLE_SHUT = 1, NORIA_HANDLE_CORRUPT = 2, NORIA_HANDLE_LOST = 3 };

/* The part of a handle that every transport has; it is the first member of theirs. */
struct noria_channel {
    const struct noria_verbs *verbs;
    uint64_t fork_stamp; /* equal to *noria_fork_page in the process that opened it */
    uint32_t state;
    uint32_t flags; /* of noria_open */
    uint32_t full; /* enum noria_full */
    uint32_t priorities;  /* levels; 0 and 1: none */
    uint32_t one_caller;  /* per side: a second call at once gets -EDEADLK */
    uint32_t looks_first; /* a sender asks whether anybody is there before it sends */
    uint32_t lane_suffices; /* with one_caller: neither looks_first nor watched, so a call may go by its lane alone */
    struct noria_role roles[2]; /* with one_caller, per side */
    /* Lower half: calls outside of a read section that will come back, for which close waits; upper half: how often one has
     * gone out. */
    uint64_t waiting;
    uint32_t spins[2]; /* tries before sleeping, per side; adapts */
    uint32_t waits[2]; /* calls that spun, per side */
    uint32_t most_spins;
    uint32_t quick_tries;   /* of a receiver, before all that waiting takes */
    uint32_t fenced;  /* this process could not register for the asymmetric fence: who notifies fences himself */
    uint32_t returns_eintr; /* a sleep that a signal handler interrupts ends the call */
    uint32_t polls[2];      /* per side: a try that finds nothing arms the descriptor or the signal */
    uint32_t never_sleeps;  /* tries until it gets on */
    uint32_t distrusts;     /* what cannot be makes the handle CORRUPT */
    uint32_t watched;       /* distrusts, or its segment is guarded: noria_call_judge sees each result */
    void (*pace)(void);     /* what to do between two tries; NULL: nothing but to back off */
    uint64_t max_message;
    struct noria_auto *chosen; /* opened by auto: what carries it, and why (api/auto.h) */
    bool asks_system; /* failures of the system were explained where they were found */
};

/* How each public function names itself in a transport's table; an address is SCHEME:REST. */
struct noria_transport {
    const char *scheme;
    int (*open)(noria_channel **channel, const char *rest, int flags, const struct noria_options *options);
    int (*unlink)(const char *rest);
    int (*in_use)(const char *rest); /* where nothing can be inspected: whether somebody is known to use it, or -errno */
};

/* ---------------------------------------------------------------------------------------------- entering, leaving */

/* One private page that reads as zero in a forked child. Hidden: read without a detour with every message. */
extern const uint64_t *noria_fork_page __attribute__((visibility("hidden")));

static inline bool noria_is_stale(const noria_channel *channel)
{
    return channel->fork_stamp != *noria_fork_page;
}

/* Why the handle is not open. */
static inline int noria_state_error(uint32_t state)
{
    return state == NORIA_HANDLE_CORRUPT ? -EBADMSG : state == NORIA_HANDLE_LOST ? -EIO : -ECANCELED;
}

/* The result of a call on a watched handle, in whose read section we still are: what was done on lost memory is not done,
 * and a handle that distrusts its peers stays CORRUPT. */
ssize_t noria_call_judge(noria_channel *channel, ssize_t rc);
/* Puts a failure into words, if that was not done where it was found. */
void noria_call_explain(const noria_channel *channel, ssize_t rc);

/* Begins a call, or a look of a waiting one: a read section. 0, -ESTALE, -ECANCELED, -EBADMSG, -EIO. */
int noria_enter(noria_channel *channel);
void noria_leave(void);
/* Enters whatever state the handle is in: a call that is counted as waiting comes back to finish. */
void noria_rejoin(void);
/* Between two looks of one call: leaves the read section, in which nobody must stay for long, counted in `waiting`, by which
 * close waits; and comes back. */
void noria_step_out(noria_channel *channel);
void noria_step_in(noria_channel *channel);
static inline uint32_t noria_calls_waiting(const noria_channel *channel)
{
    return (uint32_t)noria_load_acquire64(&channel->waiting); /* pairs with noria_step_in */
}

/* Makes this process ready for handles: the fork page, what happens at fork. 0 or -errno. */
int noria_process_prepare(void);

/* -EINVAL with a sentence: the program promises to ignore SIGPIPE, and does not. */
int noria_options_check_promise(const struct noria_options *options);

/* Initialises the common part. */
void noria_channel_init(noria_channel *channel, const struct noria_verbs *verbs, int flags, uint64_t max_message,
                        uint32_t full);

/* How often a call may try before it sleeps. */
void noria_channel_limit_spins(noria_channel *channel, uint32_t most);

/* Shuts the handle and returns when no call is inside any more. */
void noria_channel_shut(noria_channel *channel);
void noria_channel_drain(noria_channel *channel);

/* Descriptors whose open file description a forked child must not share (its locks are this process', or its being open
 * tells others that this process lives). In the child each is replaced by a description of its own on the same file, or, if
 * it `drops` them, by one of nothing. */
struct noria_fork_guard {
    struct noria_fork_guard *next, *previous;
    int fd;
    bool drops;
};
void noria_fork_guard_add(struct noria_fork_guard *guard, int fd);
void noria_fork_guard_remove(struct noria_fork_guard *guard);

/* -------------------------------------------------------------------------------------------------------- waiting */

/* A try with its arguments, to be repeated. */
struct noria_attempt {
    ssize_t (*run)(noria_channel *channel, void *arguments);
    void *arguments;
    bool begins; /* something new; false: it finishes what was begun */
    int drops;   /* messages that go, counted, if the channel is full and drops the newest; 0: there is none yet */
    /* The last step of a call that found nothing at first and is about to fail with `rc`: takes back what the tries began.
     * What it returns is what the call returns. NULL: a try that failed leaves nothing behind. */
    ssize_t (*end)(noria_channel *channel, void *arguments, ssize_t rc);
};

/* The whole calls of any kind, by its verbs send and recv. */
int noria_send_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns);
ssize_t noria_recv_call(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                        int64_t timeout_ns);

#endif
