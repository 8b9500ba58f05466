/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A channel in a segment: what its kinds (spsc_kind.c, mpmc_kind.c) share. A kind is a table of functions over one
 * ring; participants.c says who is there, recovery.c mends what the dead left, lifecycle.c opens and closes.
 */
#ifndef NORIA_SEGMENT_CHANNEL_H
#define NORIA_SEGMENT_CHANNEL_H

#include <noria/broadcast.h>
#include <noria/chain.h>
#include <noria/latest.h>
#include <noria/mpmc.h>
#include <noria/rendezvous.h>
#include <noria/spsc.h>

#include "bytes.h"
#include "event.h"
#include "layout.h"
#include "liveness.h"
#include "segment.h"
#include "transport.h"

struct noria_segment_channel;

enum { NORIA_MOST_PRIORITIES = 32 };

/* What a geometry may ask for beyond a plain queue, and a kind may grant. */
enum {
    NORIA_TAKES_PACK = 1,           /* pack > 1 */
    NORIA_TAKES_MANY_HELD = 2,      /* max_held > 1 */
    NORIA_TAKES_ORPHANS_DROP = 4,
    NORIA_TAKES_DROP_NEWEST = 8,
    NORIA_TAKES_OVERWRITE = 16,     /* OVERWRITE_OLDEST */
    NORIA_TAKES_PRIORITIES = 32,
    NORIA_TAKES_GROWTH = 64,        /* max_bytes */
    NORIA_TAKES_EVICTION = 128,     /* evict_ns */
    NORIA_TAKES_NO_CAPACITY = 256   /* capacity 0 */
};

/* A piece of a ring, for `noria dump`. */
struct noria_piece {
    const char *part; /* what it is one of: "slot", "record", "cursor" ... */
    uint64_t number;
    uint64_t offset;  /* of `word`, from the start of the ring */
    uint64_t word;
    char text[96];    /* what it says */
    uint64_t from, walked; /* where the walk began, and how far it is: of pieces that have no places of their own */
};

/* How a ring looks from outside (anatomy.c). Reads only, trusts nothing. */
struct noria_anatomy {
    const struct noria_field *(*header)(void); /* of the ring's first bytes */
    /* Whether its words go together. Certain only while nobody moves. */
    bool (*intact)(const struct noria_segment_channel *channel);
    /* Piece `index`; to be asked for one after the other from 0, with the same struct. False: there are no more. */
    bool (*piece)(const struct noria_segment_channel *channel, uint64_t index, struct noria_piece *piece);
};
extern const struct noria_anatomy noria_spsc_anatomy, noria_mpmc_anatomy, noria_priority_anatomy, noria_latest_anatomy,
    noria_rendezvous_anatomy, noria_chain_anatomy, noria_broadcast_anatomy;

struct noria_kind_table {
    struct noria_verbs verbs;
    const struct noria_verbs *sealed; /* of channels with checksums; NULL: there are none */
    const char *name;
    uint32_t takes; /* NORIA_TAKES_...: everything else is refused */
    /* Bytes of the ring; 0 if the geometry is not valid. */
    size_t (*footprint)(const struct noria_geometry *geometry);
    /* Bytes of it that get their pages when the channel is made, the others being holes; NULL: all. */
    size_t (*initial)(const struct noria_geometry *geometry);
    int (*format)(void *ring, size_t size, const struct noria_geometry *geometry);
    /* Checks the ring against the geometry and makes it readable; nothing is taken yet. 0, -EBADMSG. */
    int (*attach)(struct noria_segment_channel *channel);
    /* Takes the roles that flags name. -EBUSY if one is taken. */
    int (*join)(struct noria_segment_channel *channel, int flags);
    /* Gives up roles and whatever is held. */
    void (*leave)(struct noria_segment_channel *channel);
    /* Frees what join allocated. */
    void (*dispose)(struct noria_segment_channel *channel);
    /* Takes away what a dead participant holds in the ring, certifying before each step. 0 nothing is left. */
    int (*settle)(struct noria_segment_channel *channel, uint32_t owner, uint64_t entry_word);
    /* Whether another receiver holds a message that could come back. */
    bool (*held_elsewhere)(struct noria_segment_channel *channel);
    /* Whether a try on that side would get on just now, a sender's at that level. A hint; takes no
     * message. */
    bool (*ready)(struct noria_segment_channel *channel, enum noria_side side, unsigned level);
    /* Any number that changes when the given side gets on. */
    uint64_t (*progress)(const struct noria_segment_channel *channel, enum noria_side side);
    void (*count)(const struct noria_segment_channel *channel, struct noria_stat *stat);
    /* Slots that name an owner, for `who`. */
    uint32_t (*held_by)(const struct noria_segment_channel *channel, uint32_t owner);
    const struct noria_anatomy *anatomy;
    uint32_t abilities;
    bool one_caller; /* per role at a time */
    bool reads_only; /* receivers make the ring's pages read-only, which has to be ordinary ones for that */
};

extern const struct noria_kind_table noria_spsc_kind, noria_mpmc_kind, noria_overwrite_kind, noria_priority_kind,
    noria_latest_kind, noria_rendezvous_kind, noria_unbounded_kind,
    noria_broadcast_kind, noria_evicting_kind, noria_lossy_kind;
/* The kind that a geometry leads to; NULL: none that this library knows. The only place that knows the list. */
const struct noria_kind_table *noria_kind_of(const struct noria_geometry *geometry);

struct noria_spsc_part {
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    uint32_t roles;        /* taken: NORIA_SEND, NORIA_RECV */
    uint32_t reserved;     /* a reservation is out */
    uint64_t reserved_at;  /* its position */
    uint32_t held;         /* records peeked and not released */
    uint32_t in_doubt;     /* records still to be flagged after a takeover */
    uint32_t last_sender;
};

enum { NORIA_RESERVING_THREADS = 64 };

/* A record that is peeked and not released. */
struct noria_holding {
    uint64_t key; /* which slot and place in its group, + 1; 0: free */
    uint64_t position;
};

struct noria_mpmc_part {
    struct noria_mpmc_handle ring;
    uint32_t group_busy; /* pack > 1: a thread is inside the open group */
    uint32_t held_count;
    /* One reservation per thread: two would commit in either order and break FIFO. 0: a free line. */
    uint64_t reserving[NORIA_RESERVING_THREADS];
    uint64_t reserved_position[NORIA_RESERVING_THREADS];
    struct noria_holding *held; /* max_held places */
};

struct noria_overwrite_part {
    struct noria_mpmc_part queue; /* first: in all that it shares with mpmc_kind.c it is one */
    uint32_t busy;                /* a thread of the handle drops a message */
};

struct noria_priority_part {
    struct noria_mpmc_part out;      /* what is reserved and peeked; its ring is only read for its geometry */
    struct noria_mpmc_handle *rings; /* by level */
    struct noria_priority *shared;
    size_t stride;                   /* bytes from ring to ring */
    uint32_t all;                    /* a bit for each level */
    uint64_t moved[2];               /* messages by side, roughly: threads may race */
    struct noria_backoff backoffs[2];
    uint64_t most_pauses;            /* of a wait for room */
    uint32_t vain_waits;             /* for room, in a row */
    uint32_t misses[NORIA_MOST_PRIORITIES]; /* looks in a row, with success below, that found nothing at this level */
};

struct noria_latest_part {
    struct noria_latest_handle cell;
    uint32_t busy; /* a thread of the handle sends */
    struct noria_backoff backoff;
};

struct noria_rendezvous_part {
    struct noria_rendezvous_handle table;
    uint64_t sent, received; /* by this handle; only to see that they grow */
    uint32_t crowded;        /* a sender of this handle found no free slot */
};

struct noria_unbounded_part {
    struct noria_chain_handle chain;
    struct noria_chain_view *views;
    uint64_t sent, received; /* by this handle; only to see that they grow */
    uint32_t idle;           /* looks that found nothing since so many were received, */
    uint64_t idle_since;     /* little having come between them */
    /* Growing found no memory behind this tail (0: it did not), with these words of the ranges, at this time. */
    uint64_t starved_tail, starved_words, starved_at_ns;
    struct noria_backoff backoff[2];
};

struct noria_broadcast_part {
    struct noria_broadcast_shape shape;
    struct noria_broadcast_sender sender;
    struct noria_broadcast_receiver receiver;
    struct noria_broadcast_slowest slowest; /* who held the sender up at its last failed try */
    int64_t held_up_since;                  /* 0: nobody did */
    uint64_t untold;       /* messages missed that no info has told of yet */
    uint64_t dropped_told; /* of shared->lost */
    uint32_t roles;        /* taken: NORIA_SEND, NORIA_RECV */
    uint32_t reserved;     /* a reservation is out */
    uint64_t reserved_at;  /* its position */
    uint32_t held;         /* records peeked and not released */
    uint32_t last_sender;
    bool is_protected;     /* the ring is mapped read-only */
};

struct noria_segment_channel {
    struct noria_channel base;
    const struct noria_kind_table *kind;
    struct noria_segment segment;
    struct noria_header *shared;
    struct noria_entry *table;
    void *ring;
    struct noria_geometry geometry;
    struct noria_process self;
    struct noria_fork_guard fork_guard;
    uint64_t entry_word;  /* of our entry while we live */
    uint32_t number;      /* our participant number; still known when we have left */
    struct noria_entry *own; /* its entry in the table */
    bool left;            /* our entry may be another's now */
    bool need_receiver;
    uint32_t sync;        /* enum noria_sync_when */
    uint32_t wishes, granted; /* enum noria_wish */
    int32_t node;
    uint32_t start;       /* enum noria_start */
    uint64_t start_position;
    uint32_t seen_sender; /* or a message: from then on "nobody there" is end of stream */
    uint64_t senders_at_open;
    int64_t recheck_ns;
    struct noria_bell_place place;
    struct noria_event events[2]; /* by side */
    struct noria_bell_place poll_place;
    struct noria_bell poll_bells[2]; /* of noria_fd; see enum in waiting.c for their state */
    uint32_t poll_state[2];
    uint32_t poll_kinds[2]; /* enum noria_poll_bell, of those that are open */
    /* Housekeeping, relaxed: threads may race, and then look round once too often. */
    uint64_t stuck_at[2];   /* progress when a side last failed */
    uint64_t stuck_since[2];
    uint64_t last_probe;    /* coarse ns */
    uint64_t last_thorough;
    uint64_t last_round;
    uint64_t roster_seen;   /* see who_is_there; 0: count again */
    uint64_t losses_seen;   /* shared->losses when a receiver was last told */
    union {
        struct noria_spsc_part spsc;
        struct noria_mpmc_part mpmc;
        struct noria_overwrite_part overwrite;
        struct noria_priority_part priority;
        struct noria_latest_part latest;
        struct noria_rendezvous_part rendezvous;
        struct noria_unbounded_part unbounded;
        struct noria_broadcast_part broadcast;
    } part;
    char name[256]; /* of the segment, for the last one to remove */
};

static inline struct noria_segment_channel *noria_segment_channel_of(noria_channel *channel)
{
    return (struct noria_segment_channel *)(void *)channel; /* base is the first member */
}

/* ---------------------------------------------------------------------------------------------------- participants */

/* Claims an entry. -EBUSY the table is full of the living. */
int noria_participant_join(struct noria_segment_channel *channel, int flags);
/* Tells the others, as soon as they can be woken. */
void noria_participant_announce(struct noria_segment_channel *channel, int flags);
void noria_participant_leave(struct noria_segment_channel *channel);
/* Whether that is our own place in the table. */
static inline bool noria_participant_is_self(const struct noria_segment_channel *channel, uint32_t number)
{
    return number == channel->number && !channel->left;
}
/* Whether it is still: not if the others took us for dead. By then another handle may have it, under the same number. */
static inline bool noria_participant_is_alive(const struct noria_segment_channel *channel)
{
    /* Pairs with join. Of a line that is seldom written. */
    return __builtin_expect(noria_load_acquire64(&channel->own->word) == channel->entry_word, 1);
}
/* Whether the incarnation that `word` (an entry's, LIVE) names is certainly dead. Loads the entry again afterwards. */
bool noria_participant_is_dead(struct noria_segment_channel *channel, uint32_t number, uint64_t word, bool thorough);
/* Of a dead incarnation whose entry is about to be freed: whether the lock is still held, where exec keeps it, is noted. */
void noria_participant_note_lock(struct noria_segment_channel *channel, uint32_t number, uint64_t word);
/* Of a free entry: unlocks it if that was noted, and an earlier program of this process has left it. */
void noria_participant_give_lock_back(struct noria_segment_channel *channel, uint32_t number);
/* How many live entries have the flag, from the table. */
uint32_t noria_participants_live(const struct noria_segment_channel *channel, unsigned flag);
/* Tells everybody that the roster changed. */
void noria_roster_changed(struct noria_segment_channel *channel);

/* -------------------------------------------------------------------------------------------------------- recovery */

/* Cleans up after a participant if it is dead. 1 cleaned up by us, 0 not. */
int noria_recover(struct noria_segment_channel *channel, uint32_t number, bool thorough);
/* Asks after everybody but us. How many were cleaned up. */
int noria_recover_all(struct noria_segment_channel *channel, bool thorough);
/* The shared verbs of both kinds. */
int noria_segment_look_round(noria_channel *channel, enum noria_side side);
bool noria_segment_has_ended(noria_channel *channel, enum noria_side side);
/* After a release, where several may receive: if nobody sends any more, the others may have waited for what was held. */
void noria_tell_of_end(struct noria_segment_channel *channel);
/* Called now and then on a busy ring: the owner of a slot that had to be stepped over may be dead. */
void noria_ask_after(struct noria_segment_channel *channel, uint32_t number);

/* --------------------------------------------------------------------------------------------- waiting (waiting.c) */

/* What the strategy and noria_fd keep in the segment for a channel of so many participants. */
size_t noria_waiting_bell_size(const struct noria_geometry *geometry);
size_t noria_waiting_poll_size(const struct noria_geometry *geometry);
/* Opens this participant's bells. 0, or -errno with a sentence. */
int noria_waiting_open(struct noria_segment_channel *channel);
void noria_waiting_close(struct noria_segment_channel *channel);
/* Removes what the channel's waiting has left outside of the segment. */
void noria_waiting_remove(const struct noria_segment_channel *channel);
/* What their names are made of. */
void noria_waiting_name(const struct noria_segment_channel *channel, uint64_t id[2]);
bool noria_waiting_name_is_of_file(const uint64_t id[2]);

/* The flag was seen: wakes all who wait on that side, in whichever way they do. */
void noria_wake_side(struct noria_segment_channel *channel, enum noria_side side);

/* Something was done that the side may wait for: a load, if nobody does. */
static inline void noria_notify(struct noria_segment_channel *channel, enum noria_side side)
{
    if (noria_event_has_sleepers(&channel->shared->rooms[side].count, channel->base.fenced))
        noria_wake_side(channel, side);
}

static inline void noria_notify_receivers(struct noria_segment_channel *channel)
{
    noria_notify(channel, NORIA_SIDE_RECV);
}

static inline void noria_notify_senders(struct noria_segment_channel *channel)
{
    noria_notify(channel, NORIA_SIDE_SEND);
}

/* The shared verbs. */
int noria_segment_sleep(noria_channel *channel, enum noria_side side, int64_t deadline_ns, bool (*ready)(void *),
                        void *context);
void noria_segment_wake(noria_channel *channel); /* both sides, whatever the flags say */
int noria_segment_fd(noria_channel *channel, enum noria_side side);
bool noria_segment_arm(noria_channel *channel, enum noria_side side, bool quiet);
ssize_t noria_segment_ready(noria_channel *channel, enum noria_side side, unsigned priority);

/* The verbs that all kinds share. */
#define NORIA_SEGMENT_VERBS \
    .count_lost = noria_segment_count_lost, .look_round = noria_segment_look_round, .has_ended = noria_segment_has_ended, .sleep = noria_segment_sleep, \
    .wake = noria_segment_wake, .fd = noria_segment_fd, .arm = noria_segment_arm, .ready = noria_segment_ready, \
    .notify_signal = noria_segment_notify_signal, .stat = noria_segment_stat, .sync = noria_segment_channel_sync, .share = noria_segment_channel_share, \
    .reopen = noria_segment_channel_reopen, .close = noria_segment_channel_close

/* ------------------------------------------------------------------------------------------------ signals (notify.c) */

/* Registers for a signal, see noria_notify_signal. */
int noria_segment_notify_signal(noria_channel *channel, int signo, int how);
/* This handle found nothing: from now on a message is news. */
void noria_signal_arm(struct noria_segment_channel *channel);
/* A participant died, perhaps about to send some: they are due again. The caller then wakes everybody. */
void noria_signal_recover(struct noria_segment_channel *channel, uint32_t dead);
/* Sends the signals that are due. Async-signal-safe. */
void noria_signal_send(struct noria_segment_channel *channel);

/* ------------------------------------------------------------------------------------------------------- lifecycle */

int noria_segment_stat(noria_channel *channel, struct noria_stat *stat);
int noria_segment_channel_reopen(noria_channel **mine, const noria_channel *inherited, int flags);
void noria_segment_channel_close(noria_channel *channel, bool stale);
int noria_segment_channel_sync(noria_channel *channel);
int noria_segment_channel_share(noria_channel *channel, int socket);
/* The memory of a channel without a name, by a description of the caller's own. -errno. */
int noria_segment_channel_descriptor(noria_channel *channel);
/* What noria_share has sent: a descriptor, or -errno. */
int noria_receive_descriptor(int socket, bool foreign, int64_t timeout_ns);
/* If the machine was booted since the channel was last used: settles what those left who used it then. Bounded. */
int noria_settle_reboot(struct noria_segment_channel *channel, int64_t deadline_ns);
/* Whether anybody lives in, or just creates, what stands at the address; whatever its layout. 1, 0, -errno. */
int noria_name_in_use(const char *address);
/* The backend of an address, and the name in it. NULL: of none that has names. */
const struct noria_segment_backend *noria_backend_of(const char *address, const char **name);
/* Calls `each` with every backend whose names can be listed, until it returns non-zero, and returns that. */
int noria_backends_with_names(int (*each)(const struct noria_segment_backend *backend, void *context), void *context);
/* Calls `each` with the path of every file of a directory at which a channel may stand, in order of name, until it returns
 * non-zero, and returns that; -errno. */
int noria_files_of_folder(const char *folder, int (*each)(const char *name, void *context), void *context);
/* Checks the geometry of a mapped segment and points the handle at its parts. 0, -EBADMSG, -ENOTSUP. */
int noria_segment_channel_adopt(struct noria_segment_channel *channel);
/* Maps a named channel read-only, without joining; its segment is to be closed. 0, 1 unfinished, -errno. */
int noria_segment_channel_look_into(struct noria_segment_channel *channel,
                                    const struct noria_segment_backend *backend, const char *name);

/* The same without mapping, and so without copying, it: only its locks and noria_waiting_remove and _name may be used. */
int noria_segment_channel_peek(struct noria_segment_channel *channel, const struct noria_segment_backend *backend,
                               const char *name);

/* Looks into any address that has a name, or reads the file that it is the path of. */
int noria_segment_channel_look_at(struct noria_segment_channel *channel, const char *address);
/* The same for a file that is nobody's memory; whether an address means one. */
int noria_segment_channel_read(struct noria_segment_channel *channel, const char *path);
bool noria_is_path(const char *address);
/* Who lives and who is dead in a channel that was looked into, and whether its ring goes together. */
struct noria_health;
void noria_segment_channel_examine(struct noria_segment_channel *channel, struct noria_health *health);

/* ------------------------------------------------------------------------------------------------------- geometry */

/* What the options ask for, laid out. 0, -EINVAL, -ENOTSUP with a sentence. */
int noria_geometry_make(const struct noria_options *options, struct noria_geometry *geometry);
/* Whether a handle that trusts nobody may use such a channel. 0, -ENOTSUP. */
int noria_geometry_check_trust(const struct noria_geometry *geometry, const struct noria_segment_backend *backend,
                               bool guarded);
/* Bytes of the whole segment, and how many of them get their pages when it is made. */
uint64_t noria_geometry_size(const struct noria_geometry *geometry, uint64_t *solid);
/* Whether a geometry found in a segment with `room` bytes of content can be true. 0, -EBADMSG, -ENOTSUP. */
int noria_geometry_check(const struct noria_geometry *geometry, uint64_t room);
/* Bytes of the longest message. */
static inline uint32_t noria_geometry_longest(const struct noria_geometry *geometry)
{
    return geometry->max_message - (geometry->checksum != 0 ? (uint32_t)NORIA_SEAL : 0);
}
/* Whether an existing channel is what the caller asked for: it wins otherwise. 0, -EINVAL. */
int noria_geometry_compare(const struct noria_geometry *geometry, const struct noria_options *wanted);

extern const struct noria_transport noria_transport_shm, noria_transport_file, noria_transport_memory, noria_transport_sysv, noria_transport_memfd, noria_transport_anon;

/* --------------------------------------------------------- what an MPMC handle has out (holdings.c): quotas and sanity */

/* This thread begins a reservation. 0, -EBUSY it has one already. */
int noria_reservation_begin(struct noria_mpmc_part *part);
void noria_reservation_set(struct noria_mpmc_part *part, uint64_t position);
bool noria_reservation_is_at(struct noria_mpmc_part *part, uint64_t position);
/* Ends it. -EINVAL this thread has none at that position: the span was finished before. */
int noria_reservation_end(struct noria_mpmc_part *part, uint64_t position);
/* Whether this thread has one. */
bool noria_reservation_exists(struct noria_mpmc_part *part);
/* A record is peeked: takes a place, to say then which record, or 0. -EBUSY max_held are, -EAGAIN some are just
 * being taken or given back. */
int noria_holding_begin(struct noria_mpmc_part *part, uint32_t max_held, struct noria_holding **place);
/* The place of a record that is held; NULL it is not. */
struct noria_holding *noria_holding_find(struct noria_mpmc_part *part, uint32_t max_held, uint64_t key,
                                         uint64_t position);

/* What a receiver is told along with a message. */
void noria_fill_info(struct noria_segment_channel *channel, struct noria_info *info, size_t size, uint32_t sender,
                     uint64_t sequence, bool redelivered);

/* Messages were dropped by policy. */
void noria_segment_count_lost(noria_channel *channel, uint64_t n);
/* A message may have been lost: receivers look whether there is something to tell. After the count. */
void noria_losses_changed(struct noria_segment_channel *channel);

/* A count that only this handle writes, read by anybody. */
static inline void noria_count(uint64_t *counter, uint64_t by)
{
    noria_add_relaxed64(counter, by); /* statistics order nothing */
}

/* The same of our own counter, in one role: no read-modify-write needed. */
static inline void noria_count_alone(uint64_t *counter, uint64_t by)
{
    noria_store_relaxed64(counter, noria_load_relaxed64(counter) + by);
}

#endif
