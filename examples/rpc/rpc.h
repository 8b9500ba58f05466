/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls with answers, over two channels: one for the questions of all clients, which all servers of a service share, and one
 * for the answers of each client. To copy and change: rpc_client.c and rpc_server.c are all of it.
 *
 * A server that dies over a call leaves the question to another one, flagged. That one does it again if it may be done
 * twice, and says -EOWNERDEAD otherwise: the client hears at once, from somebody who lives, that it may have been done.
 */
#ifndef EXAMPLES_RPC_H
#define EXAMPLES_RPC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <noria/noria.h>

enum { RPC_MOST = 256, RPC_ADDRESS = 64 };

struct rpc_question {
    uint64_t id;       /* of the call, among those of this client */
    int64_t until_ns;  /* CLOCK_MONOTONIC; after that nobody waits for the answer */
    int32_t may_repeat;
    uint32_t size;     /* of data */
    char answer_to[RPC_ADDRESS];
    unsigned char data[RPC_MOST];
};

struct rpc_answer {
    uint64_t id;
    int32_t status; /* 0 or -errno */
    uint32_t size;
    unsigned char data[RPC_MOST];
};

struct rpc_client {
    noria_channel *questions, *answers;
    uint64_t last_id;
    char answer_to[RPC_ADDRESS];
};

/* `service` is an address of shared memory: shm:/adder, say. 0, or -errno as noria_open. */
int rpc_connect(struct rpc_client *client, const char *service);
/* The size of the answer, or: -EBUSY the question found no room, and nothing was done; -ETIMEDOUT nobody answered in time;
 * -EOWNERDEAD a server died over it (the last two: it may have been done, or not); or what the service says. After
 * each of them the next call is as good as the first. One call at a time. */
ssize_t rpc_call(struct rpc_client *client, const void *question, size_t len, void *answer, size_t room, int may_repeat,
                 int64_t timeout_ns);
void rpc_disconnect(struct rpc_client *client);

/* The size of the answer, which has RPC_MOST bytes of room, or -errno for the client. */
typedef ssize_t rpc_service(void *context, const void *question, size_t len, void *answer);
/* Answers until something fails; a server is ended by a signal, at any time. -errno. */
int rpc_serve(const char *address, rpc_service *service, void *context);

#endif
