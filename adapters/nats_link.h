/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection to NATS that waits for nobody: the client's own way is a thread that reads, and calls that wait for it;
 * here it is told that there is an event loop, and whoever makes a call moves what can be moved. Each side of a handle
 * has a link of its own, used with the side taken.
 *
 * When the connection is lost the client makes a thread that tries again and again; it calls us back when there is a new
 * one. While it is at that it holds the client's locks, so nothing of the client's is called while the link is down.
 */
#ifndef NORIA_NATS_LINK_H
#define NORIA_NATS_LINK_H

#include <signal.h>

#include "nats_address.h"
#include "nats_client.h"
#include "transport.h"

/* While TLS may write: what it writes to a connection that is gone is answered by SIGPIPE, in the thread that wrote. */
struct noria_nats_quiet {
    sigset_t mask;
    bool is_on, was_pending;
};
void noria_nats_begin_quiet(struct noria_nats_quiet *quiet, bool tls);
void noria_nats_end_quiet(struct noria_nats_quiet *quiet);

struct noria_nats_link {
    const struct noria_nats_client *client; /* NULL: the side has no link */
    natsConnection *connection;
    natsSubscription *answers, *messages; /* below `inbox` */
    natsInbox *inbox;
    bool tls;
    int fd;    /* of the client's socket, watched by epoll; -1: none */
    int epoll; /* readable when there is something to move */
    int timer; /* and this when something is to be done again */
    bool is_timed;
    struct noria_fork_guard guard;
    uint32_t is_up, wants_to_write; /* written by the client's thread, too, like the next three */
    uint32_t connects;              /* how often it was connected */
    uint32_t is_closed;             /* for good: the server does not want us any more */
    int64_t down_since_ns;
};

/* Connects, within the time. `waits_for`: 0, -ECONNREFUSED and the like with a sentence. */
int noria_nats_link_open(struct noria_nats_link *link, const struct noria_nats_client *client,
                         const struct noria_nats_address *address, int64_t timeout_ns);
/* `stale`: of a child that inherited it, to whom nothing of it belongs. */
void noria_nats_link_close(struct noria_nats_link *link, bool stale);

/* The options of a connection to that address. 0, -errno with a sentence; then *options is NULL. */
int noria_nats_options_make(const struct noria_nats_client *client, const struct noria_nats_address *address,
                            int64_t timeout_ns, natsOptions **options);

/* Reads and writes what can be read and written. 0; -EACCES, -ENOTCONN: the connection is closed for good. */
int noria_nats_link_pump(struct noria_nats_link *link);
/* Why an answer may never come: 0 nothing is known; -EACCES. */
int noria_nats_link_trouble(struct noria_nats_link *link);
static inline bool noria_nats_link_is_up(struct noria_nats_link *link)
{
    return noria_load_acquire32(&link->is_up) != 0; /* pairs with the store of the client's thread */
}
/* Waits until there is something to pump, so long at most. */
void noria_nats_link_await(struct noria_nats_link *link, int64_t until_ns);

/* Sends bytes to a subject; answers come under the inbox and that word (NULL: none are wanted). 0, -errno. */
int noria_nats_link_ask(struct noria_nats_link *link, const char *subject, const char *word, const void *data, int len);
/* The next of one of its subscriptions. NULL: none; *nobody: nobody there to be asked has been reported. */
natsMsg *noria_nats_link_next(struct noria_nats_link *link, natsSubscription *from, bool *nobody);
/* The word an answer has come under. */
const char *noria_nats_link_word(const struct noria_nats_link *link, natsMsg *answer);
/* The code of a server's error in an answer; 0: it is none. Its description into `words`. */
int noria_nats_link_error(const struct noria_nats_link *link, natsMsg *answer, char *words, size_t size);

/* Readable not later than that; 0: no such wish. */
void noria_nats_link_wake_at(struct noria_nats_link *link, int64_t time_ns);

#endif
