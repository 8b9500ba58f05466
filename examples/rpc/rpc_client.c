/* SPDX-License-Identifier: BSD-2-Clause */
#include "rpc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int rpc_connect(struct rpc_client *client, const char *service)
{
    struct noria_options options;
    uint64_t name;
    int rc;

    /* A name that was never used before: an answer that comes too late for a client must not find another one. */
    if (getrandom(&name, sizeof name, 0) != sizeof name)
        return -EAGAIN;
    if (snprintf(client->answer_to, RPC_ADDRESS, "%s-%016" PRIx64, service, name) >= RPC_ADDRESS)
        return -ENAMETOOLONG;
    client->last_id = 0;
    noria_options_init(&options);
    options.max_message = sizeof(struct rpc_question);
    rc = noria_open(&client->questions, service, NORIA_SEND | NORIA_CREATE, &options);
    if (rc != 0)
        return rc;
    options.max_message = sizeof(struct rpc_answer);
    options.capacity = 16;
    options.lifetime = NORIA_UNLINK_CREATOR;
    /* A sender, too: that servers come and go is then no end of the stream. */
    rc = noria_open(&client->answers, client->answer_to, NORIA_SEND | NORIA_RECV | NORIA_CREATE | NORIA_EXCL, &options);
    if (rc != 0)
        noria_close(client->questions);
    return rc;
}

static ssize_t take_answer(const struct rpc_answer *answer, ssize_t len, void *out, size_t room)
{
    if (answer->status < 0)
        return answer->status;
    if (answer->size != (size_t)len - offsetof(struct rpc_answer, data) || answer->size > room)
        return -EMSGSIZE;
    memcpy(out, answer->data, answer->size);
    return (ssize_t)answer->size;
}

ssize_t rpc_call(struct rpc_client *client, const void *question, size_t len, void *answer, size_t room, int may_repeat,
                 int64_t timeout_ns)
{
    struct rpc_question asked = {.id = ++client->last_id, .may_repeat = may_repeat, .until_ns = now_ns() + timeout_ns};
    struct rpc_answer got;
    ssize_t rc;

    if (len > RPC_MOST)
        return -EMSGSIZE;
    asked.size = (uint32_t)len;
    memcpy(asked.answer_to, client->answer_to, RPC_ADDRESS);
    memcpy(asked.data, question, len);
    rc = noria_send(client->questions, &asked, offsetof(struct rpc_question, data) + len, timeout_ns);
    while (rc >= 0) {
        int64_t left_ns = asked.until_ns - now_ns();
        rc = noria_recv(client->answers, &got, sizeof got, left_ns > 0 ? left_ns : 0, NULL);
        /* Another id: the late answer to a call that was given up, or a second one. */
        if (rc >= (ssize_t)offsetof(struct rpc_answer, data) && got.id == asked.id)
            return take_answer(&got, rc, answer, room);
        if (rc == -EAGAIN || rc == -ETIMEDOUT)
            return -ETIMEDOUT;
    }
    return rc == -EAGAIN || rc == -ETIMEDOUT ? -EBUSY : rc;
}

void rpc_disconnect(struct rpc_client *client)
{
    noria_close(client->questions);
    noria_close(client->answers);
}
