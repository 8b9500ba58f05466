/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A handle of a nats: channel.
 *
 *     nats.c          opening, closing, statistics          nats_send.c     a message and its acknowledgement
 *     nats_setup.c    streams and consumers                 nats_receive.c  pulling, holding, acknowledging
 *     nats_link.c     a connection that waits for nobody    nats_client.c   libnats, loaded when it is wanted
 */
#ifndef NORIA_NATS_HANDLE_H
#define NORIA_NATS_HANDLE_H

#include "adapter.h"
#include "nats_link.h"

enum { NORIA_NATS_ID = 64, NORIA_NATS_SUBJECT = 1024, NORIA_NATS_MOST_PULLED = 64 };
#define NORIA_NATS_AGAIN_NS (100 * NORIA_NS_PER_MS) /* after an answer that says "not now" */
#define NORIA_NATS_ANSWER_NS (2 * NORIA_NS_PER_S)   /* what is not answered in this time is asked again */

enum noria_nats_state {
    NORIA_NATS_NEW,     /* not sent yet */
    NORIA_NATS_SENT,    /* and not answered */
    NORIA_NATS_REFUSED, /* for now */
    NORIA_NATS_STORED
};

/* One message at a time is under way, for two could overtake each other when a server dies. */
struct noria_nats_sender {
    const struct noria_outgoing *message; /* of the call that sends it; NULL: none does */
    bool is_owed;     /* its call has ended well: whoever comes next sees to it, and to nothing else before it */
    bool is_doubtful; /* its call has ended badly, and it may be there: the same bytes are the same message */
    uint8_t *kept;    /* its bytes, then */
    const uint8_t *data;
    size_t len;
    enum noria_nats_state state;
    char name[33]; /* of this sender */
    char id[NORIA_NATS_ID];
    bool redelivered;
    uint64_t number;     /* of the message */
    uint32_t tries;      /* of it */
    uint32_t unanswered; /* of those */
    uint32_t connects;   /* of the link when it was last sent */
    int64_t sent_ns, again_ns;
};

struct noria_nats_receiver {
    natsMsg *message; /* that `incoming` shows */
    char *unsent;     /* where its acknowledgement goes, as soon as there is a connection; NULL */
    bool is_pulling;
    bool has_come;        /* something of what was last asked for, */
    uint32_t due;         /* and so many more may */
    uint32_t most_pulled; /* at once */
    uint64_t pulls, confirms;
    uint32_t connects; /* of the link when it last pulled */
    int64_t pulled_ns, again_ns;
    uint64_t redelivered;
    uint64_t highest; /* sequence delivered, here, or to anybody before this handle was opened */
};

struct noria_nats {
    struct noria_adapter adapter;
    const struct noria_nats_client *client;
    struct noria_nats_address address;
    struct noria_nats_link links[2];
    struct noria_nats_sender sender;
    struct noria_nats_receiver receiver;
    uint64_t capacity;
    int64_t created_ns;
};

static inline struct noria_nats *noria_nats_of(struct noria_adapter *adapter)
{
    return (struct noria_nats *)(void *)adapter; /* the first member */
}

/* Whether the stream, and of receivers the consumer, are there, made if that is asked for. 0, -errno with a sentence. */
int noria_nats_setup(struct noria_nats *nats, int flags);
int noria_nats_unlink(const char *rest);
int noria_nats_in_use(const char *rest);
/* Asks whether they still are; the answer comes under a word that noria_nats_verdict knows. */
void noria_nats_probe(struct noria_nats *nats, enum noria_side side);
/* An answer to that. 0, -ENOENT with a sentence. */
int noria_nats_verdict(struct noria_nats *nats, natsMsg *answer);

int noria_nats_begin_sending(struct noria_nats *nats);
int noria_nats_give(struct noria_adapter *adapter, const struct noria_outgoing *message);
int noria_nats_give_up(struct noria_adapter *adapter, const struct noria_outgoing *message, int rc);
int noria_nats_may_give(struct noria_adapter *adapter);
int noria_nats_settle(struct noria_adapter *adapter);
void noria_nats_end_sending(struct noria_nats *nats, bool stale);

int noria_nats_take(struct noria_adapter *adapter);
int noria_nats_taken(struct noria_adapter *adapter, bool surely);
void noria_nats_taken_many(struct noria_adapter *adapter);
void noria_nats_end_receiving(struct noria_nats *nats, bool stale);

#endif
