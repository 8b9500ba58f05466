/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nats://[user[:password]@]host[:port][,host[:port]...]/subject[?option[=value][&...]]
 *
 *     stream=NAME consumer=NAME    other names than those that follow from the subject
 *     replicas=N memory            of a stream that is made: on so many nodes; not on disk
 *     window=SECONDS               of a stream that is made: how long a message's id is remembered (120)
 *     ack_wait=SECONDS             of a consumer that is made: how long a receiver may hold a message (30)
 *     strict                       of a consumer that is made: one message is out at a time, so that order survives deaths
 *     tls ca=FILE cert=FILE key=FILE creds=FILE
 *
 * A user without a password is a token. %XX stands for a byte in users, passwords and values.
 */
#ifndef NORIA_NATS_ADDRESS_H
#define NORIA_NATS_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { NORIA_NATS_SERVERS = 16 };

struct noria_nats_address {
    char *text; /* where the strings stand */
    char *shown; /* without what is secret, for sentences */
    const char *servers[NORIA_NATS_SERVERS];
    int server_count;
    const char *user, *password; /* NULL: none */
    const char *subject;
    const char *stream, *consumer;
    const char *ca, *cert, *key, *creds; /* files; NULL: none */
    bool tls, memory, strict, names_stream;
    uint64_t replicas;
    uint64_t window_s, ack_wait_s;
};

/* Takes an address apart. 0, -EINVAL, -ENOMEM with a sentence. */
int noria_nats_address_parse(struct noria_nats_address *address, const char *rest);
void noria_nats_address_free(struct noria_nats_address *address);

#endif
