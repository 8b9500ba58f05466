/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all adapters share: a handle that sends frames into something and takes frames out of something. A mechanism
 * (pipe.c, fifo.c, …) says how bytes are put and got without waiting; frames, messages of several frames, buffers,
 * waiting, zero copy emulated in a private buffer, closing and the verbs are here, once.
 *
 *     adapter.c    a handle's life, waiting, statistics      sending.c    messages into frames
 *     ends.h       bytes into and out of a descriptor        receiving.c  frames into messages
 *     descriptors.h  messages that bring descriptors         dealing.h    a sender that has many receivers
 *     side.h       how a try takes its side
 *
 * Every try takes its side of the handle for itself, so threads may share handles.
 */
#ifndef NORIA_ADAPTER_H
#define NORIA_ADAPTER_H

#include <poll.h>

#include "assembly.h"
#include "descriptors.h"
#include "ends.h"
#include "frame.h"
#include "pages.h"
#include "transport.h"

enum { NORIA_LEVELS = 32 };                   /* priorities */
enum { NORIA_MOST_PIECE = 64 << 10 };         /* bytes of a frame, at most */
enum { NORIA_MOST_LISTED = 8 };               /* ends that are waited at without a set */
enum { NORIA_MOST_TOGETHER = 256 << 10 };     /* of frames that go out at once */
/* Where frames are made: one, and behind that a batch's. What goes in one piece makes its batch at the beginning. */
enum { NORIA_FRAMES_ROOM = 2 * NORIA_MOST_PIECE };
enum { NORIA_MOST_COPIED = 1 << 10 };         /* of a message behind its header, where it could be put from its place */
#define NORIA_LEAST_BOUND (UINT32_C(1) << 20) /* what every byte stream takes, whatever its options */
#define NORIA_MOST_BOUND (UINT32_C(1) << 30)

struct noria_adapter;
struct noria_outgoing;

/* Where frames come from: the end of a pipe, one of many connections. */
struct noria_inlet {
    struct noria_end end;
    bool speaks; /* a frame has come from it */
    uint8_t *bytes;
    size_t room, from, to; /* of bytes: what has come and is not yet taken */
    size_t page;           /* of a pipe, where long frames may be cut; 0 of others */
    bool keeps_boundaries; /* one get brings whole frames, or rubbish: packets, a queue's messages */
    bool takes_fds;        /* a sender has said that descriptors will come, */
    bool asks;             /* so the next read asks for them */
    uint64_t skipped;      /* bytes that were no frames */
    uint64_t number;       /* the later the higher */
    struct noria_fork_guard guard;
    struct noria_inlet *next;
    struct noria_brought brought;
};

/* Tries that never wait. 0 or a count, -EAGAIN, or another -errno with a sentence if it is not -EPIPE. */
struct noria_mechanism {
    const char *scheme;
    uint32_t abilities;
    bool in_one_piece;    /* put takes one iovec only */
    bool may_lend;        /* what it puts into may be a pipe */
    bool drops_strangers; /* an inlet that brings something else than frames is closed; otherwise the bytes are skipped
                           */
    /* Before anything is put, when `attached` is not set: finds a receiver. -EAGAIN: there is none yet. */
    int (*attach)(struct noria_adapter *adapter);
    /* The receiver has gone: `attached` is not set any more. */
    void (*detach)(struct noria_adapter *adapter);
    /* Puts whole frames, or as much of them as goes in. -EPIPE: nobody is there any more. */
    ssize_t (*put)(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority);
    /* Gets bytes, of packets whole ones. 0: nothing will come any more. */
    ssize_t (*get)(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room);
    /* Makes an inlet the current one that may have something; NULL where there is always the same. */
    int (*choose)(struct noria_adapter *adapter);
    /* The current inlet has ended. -EPIPE: so has the stream; -EAGAIN: others may come; 1: another one is current. */
    int (*end)(struct noria_adapter *adapter);
    /* Messages of a sender are missing here. Whether they are lost: others may have them. NULL: always. */
    bool (*is_loss)(struct noria_adapter *adapter);
    /* As in struct noria_verbs; NULL: never a reason. */
    int (*look_round)(struct noria_adapter *adapter, enum noria_side side);
    /* What to wait at, added to an epoll set by noria_adapter_watch. NULL: nothing, it is asked again and again. */
    int (*watch)(struct noria_adapter *adapter, enum noria_side side, int epoll);
    /* The same, listed; how many, at most NORIA_MOST_LISTED, or -1: there are more. NULL: a set is made. */
    int (*list)(struct noria_adapter *adapter, enum noria_side side, struct pollfd *ends);
    /* The one descriptor that both sides wait at, the same as long as the handle lives. NULL: there is no such one. */
    int (*descriptor)(const struct noria_adapter *adapter);
    int (*notify_signal)(struct noria_adapter *adapter, int signo, int how); /* NULL: cannot */
    bool (*arm)(struct noria_adapter *adapter);
    void (*stat)(struct noria_adapter *adapter, struct noria_stat *stat); /* what else there is to tell; NULL */
    /* Of a mechanism that carries whole messages and not bytes, which is asked for nothing of attach to is_loss. */
    int (*give)(struct noria_adapter *adapter, const struct noria_outgoing *message);
    /* The call that gives it is over, with rc: 0 the mechanism sees to it, or what the call returns. */
    int (*give_up)(struct noria_adapter *adapter, const struct noria_outgoing *message, int rc);
    int (*may_give)(struct noria_adapter *adapter); /* also of one that deals: whether there is room, 0, -EAGAIN */
    int (*settle)(struct noria_adapter *adapter); /* what an earlier give, or deal, has left under way: 0 nothing any more */
    /* Of a sender with many receivers (dealing.c), which is asked for nothing of attach and detach. */
    int (*deal)(struct noria_adapter *adapter, struct noria_outgoing *message);
    int (*deal_many)(struct noria_adapter *adapter, const struct iovec *messages, int n);
    /* The receiver that has a part of what the caller waits for, and until when others are left waiting for it; or -1. */
    int (*favourite)(struct noria_adapter *adapter, int64_t *until_ns);
    int (*take)(struct noria_adapter *adapter); /* the next message into `incoming` */
    /* That has been received. `surely`: returns only when it cannot come again. */
    int (*taken)(struct noria_adapter *adapter, bool surely);
    void (*taken_many)(struct noria_adapter *adapter); /* the call that has received several is over; `wanted` was 0 meanwhile */
    int (*excuse)(struct noria_adapter *adapter, enum noria_side side, int rc); /* as the verb; NULL */
    int (*open)(noria_channel **out, const char *rest, int flags, const struct noria_options *options);
    int (*reopen)(noria_channel **mine, const noria_channel *inherited, int flags); /* NULL: opened once more */
    void (*close)(struct noria_adapter *adapter, bool stale);
};

/* A message on its way out. */
struct noria_outgoing {
    const uint8_t *data;
    size_t len, offset;
    unsigned priority;
    const struct noria_origin *origin; /* of a message that is passed on; NULL */
    const int *fds; /* that go with it; NULL */
    int fd_count;
    bool last_is_out; /* of its frames, or a part of it: there is no way back */
    uint64_t sequence; /* with that: its own */
    uint32_t receiver; /* of many: number of who has a part of it; 0 */
    int64_t patience_ns; /* until then others have no turn */
};

/* The message that comes next, taken apart. */
struct noria_incoming {
    bool there, held;
    const uint8_t *data;
    uint8_t *owned;    /* to be freed; NULL: it lies in its inlet's buffer, */
    size_t frame_size; /* where it takes so much */
    struct noria_inlet *inlet;
    struct noria_info info;
};

struct noria_adapter {
    struct noria_channel base;
    const struct noria_mechanism *mechanism;
    struct noria_options options;
    char *rest; /* of the address */
    uint64_t locks[2]; /* of the sides: the thread inside, or 0 */
    int cancels[2];    /* whether that thread could be cancelled before it came in */
    int wake, epolls[2];
    uint32_t moved[2]; /* messages, per side; */
    uint32_t seen[2];  /* of those before the last failed look, */
    uint32_t singles[2]; /* how often just one, */
    uint32_t pauses[2]; /* and how long the next look was waited for */
    uint32_t crc; /* frames are sent with their CRC */
    uint32_t most_fds; /* that a message may bring: of a Unix socket; else 0 */
    bool fds_announced; /* to the receiver there is */
    uint64_t dropped_fds;
    uint64_t sent, received, lost, skipped, strangers;
    int64_t opened_ns;
    uint64_t notified; /* signals: enum noria_notify + 1 while armed for one; see notify in mq.c */

    /* Sending. */
    bool attached, was_attached;
    bool owes_news; /* that the receiver has gone: the call that met it had sent something */
    bool lends, owes_pages; /* batches are lent by pages; what is owed are bytes of `pages` */
    struct noria_end out;
    struct noria_fork_guard out_guard;
    uint32_t sender;
    uint32_t piece;                         /* bytes of frames that one put takes, whole or, of a socket, a part */
    uint32_t together;                      /* and of a batch's */
    uint32_t most_in_frame;                 /* bytes of a message; of one in one put */
    uint32_t most_copied;                   /* bytes of a message behind the header; more are put from their place */
    uint32_t stretch;                       /* of one frame that a pipe may cut at a page; 0: it takes none */
    uint32_t page;
    uint64_t sequences[NORIA_LEVELS];       /* of the next message, by priority */
    uint8_t *frames;                        /* NORIA_FRAMES_ROOM bytes; System V: of one piece */
    size_t owed_from, owed_to;              /* bytes of it that have to go out before anything else; */
    size_t gathered;                        /* so many at their end were gathered: whole frames, */
    unsigned gathered_priority;             /* all of one priority */
    const struct noria_outgoing *under_way; /* a message of which there are frames out */
    uint8_t *reserved;                      /* max_message bytes of a reservation */
    bool is_reserved;
    uint64_t reservation;
    struct noria_outgoing committing;
    struct noria_pages pages;

    /* Receiving. */
    struct noria_inlet *inlets, *inlet; /* all, and the current one */
    uint32_t inlet_count;
    uint64_t inlets_added;
    bool seen_sender;
    uint32_t wanted; /* so many messages the call would take; 0: only what has come already */
    struct noria_assembly assembly;
    struct noria_incoming incoming;
    uint64_t peeks;
    uint64_t before_look;    /* messages received before the last look for bytes; */
    size_t bytes_brought;    /* by it, */
    uint64_t messages_brought; /* and messages by the one before */
    uint32_t patience;       /* PAUSEs before the next one; see learn in receiving.c */
    bool was_raised;         /* for the last one */
    uint32_t lone_looks;     /* that found one message, and at once */
    bool misses;             /* the last one found nothing, */
    bool missed;             /* or the one before that which brought the last messages */
};

static inline struct noria_adapter *noria_adapter_of(noria_channel *channel)
{
    return (struct noria_adapter *)(void *)channel; /* base is the first member */
}

/* ------------------------------------------------------------------------------------------------- life (adapter.c) */

/* A handle of `size` bytes, which begins with a struct noria_adapter. `bound`: the longest message. NULL options are
 * the defaults. 0, or -errno with a sentence: options that mean nothing here are refused. */
int noria_adapter_make(struct noria_adapter **out, const struct noria_mechanism *mechanism, size_t size,
                       const char *rest, int flags, const struct noria_options *options);
/* The longest message, and what one put takes; once, before anything is sent or received. 0, -ENOMEM. */
int noria_adapter_shape(struct noria_adapter *adapter, uint64_t most_message, uint32_t piece);
/* A number that no other sender has, as far as chance goes. */
uint32_t noria_adapter_choose_number(void);
/* Frees a handle that was not given out; its mechanism closes what it opened. */
void noria_adapter_free(struct noria_adapter *adapter);

/* A new inlet, which owns the end's descriptor; the end is closed if there is no memory for it: NULL. */
struct noria_inlet *noria_adapter_add_inlet(struct noria_adapter *adapter, const struct noria_end *end);
void noria_adapter_remove_inlet(struct noria_adapter *adapter, struct noria_inlet *inlet);

/* There is more that the mechanism waits at. With the side taken. */
void noria_adapter_rewatch(struct noria_adapter *adapter, enum noria_side side);
/* In watch: the descriptor is one of those. 0, -errno. */
int noria_adapter_watch(int epoll, int fd, uint32_t events);

/* Bytes out of an inlet's descriptor, as a get. */
static inline ssize_t noria_adapter_read(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    if (__builtin_expect(inlet->asks, 0))
        return noria_adapter_read_fds(adapter, inlet, bytes, room);
    return noria_end_read(&inlet->end, bytes, room);
}

/* Puts and gets of mechanisms that read and write a descriptor. */
ssize_t noria_adapter_put_out(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority);
ssize_t noria_adapter_get_in(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room);
/* The descriptor that is written to, which the handle owns from now on; and its end. */
void noria_adapter_set_out(struct noria_adapter *adapter, const struct noria_end *end);
void noria_adapter_close_out(struct noria_adapter *adapter);
/* Waits at that, and at the inlets. */
int noria_adapter_watch_ends(struct noria_adapter *adapter, enum noria_side side, int epoll);

/* So many messages have gone through that side, which is taken. */
static inline void noria_adapter_count(struct noria_adapter *adapter, enum noria_side side, uint32_t n)
{
    *(side == NORIA_SIDE_SEND ? &adapter->sent : &adapter->received) += n;
    noria_store_relaxed32(&adapter->moved[side], adapter->moved[side] + n); /* for a guess, in back_off */
}

static inline void noria_adapter_pause(uint32_t pauses)
{
    for (uint32_t i = 0; i < pauses; i++)
        noria_pause();
}

/* Takes that side of the handle, and the thread cannot be cancelled meanwhile. 0; -EDEADLK: this thread has it, and is in a
 * signal handler. */
int noria_adapter_lock(struct noria_adapter *adapter, enum noria_side side);
void noria_adapter_unlock(struct noria_adapter *adapter, enum noria_side side);

/* ----------------------------------------------------------------------------------------------- sending, receiving */

int noria_adapter_send_call(noria_channel *channel, const void *data, size_t len, unsigned priority,
                            int64_t timeout_ns);
int noria_adapter_send_origin(noria_channel *channel, const void *data, size_t len, unsigned priority,
                              const struct noria_origin *origin, int64_t timeout_ns);
int noria_adapter_send_fds(noria_channel *channel, const void *data, size_t len, const int *fds, int n,
                           int64_t timeout_ns);
int noria_adapter_send(noria_channel *channel, const void *data, size_t len, unsigned priority);
int noria_adapter_gather_call(noria_channel *channel, const void *data, size_t len, unsigned priority,
                              int64_t timeout_ns);
int noria_adapter_flush_call(noria_channel *channel, int64_t timeout_ns);
int noria_adapter_send_many_call(noria_channel *channel, const struct iovec *messages, int n, int drops,
                                 int64_t timeout_ns);
int noria_adapter_reserve(noria_channel *channel, size_t max_len, struct noria_span *span);
int noria_adapter_commit(noria_channel *channel, struct noria_span *span, size_t len);
int noria_adapter_abort(noria_channel *channel, struct noria_span *span);
/* Puts what is left of the message, of whose frames the last one may be owed then. 0, -EAGAIN, -EPIPE, -errno. With the side
 * taken, like the next one. */
int noria_adapter_put_message(struct noria_adapter *adapter, struct noria_outgoing *message);
/* One put of as many as go into it. The same, and -EMSGSIZE: the first one is too long for that. */
int noria_adapter_put_batch(struct noria_adapter *adapter, const struct iovec *messages, int n, int *sent);
/* Whether frames can be put: somebody is there, and nothing is owed. With the side taken. */
int noria_adapter_get_ready(struct noria_adapter *adapter);
/* Puts what is owed: 0 nothing is any more. With the side taken. */
int noria_adapter_flush(struct noria_adapter *adapter);

ssize_t noria_adapter_recv_call(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                                int64_t timeout_ns);
ssize_t noria_adapter_recv(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info);
int noria_adapter_recv_many(noria_channel *channel, struct iovec *buffers, int n, struct noria_info *info);
int noria_adapter_peek(noria_channel *channel, struct noria_span *span, struct noria_info *info);
int noria_adapter_release(noria_channel *channel, struct noria_span *span);
int noria_adapter_put_back(noria_channel *channel, struct noria_span *span);
/* Whether there is a message: 0, or why not. With the side taken. */
int noria_adapter_next(struct noria_adapter *adapter);
/* The message that is there is copied, and stays: its length, -EBUSY, -EMSGSIZE; and goes. With the side taken. */
ssize_t noria_adapter_copy_out(struct noria_adapter *adapter, void *buffer, size_t capacity, struct noria_info *info);
int noria_adapter_release_incoming(struct noria_adapter *adapter, bool surely);

#endif
