/* SPDX-License-Identifier: BSD-2-Clause */
#include "rpc.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct server {
    const char *address;
    rpc_service *service;
    void *context;
    noria_channel *answers; /* of the client that asked last, who mostly is the one who asks next */
    char answer_to[RPC_ADDRESS];
};

static int is_late(int64_t until_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec >= until_ns;
}

/* Whether it is a question of ours, and its client there. */
static int find_client(struct server *server, const struct rpc_question *question)
{
    if (memchr(question->answer_to, '\0', RPC_ADDRESS) == NULL ||
        strncmp(question->answer_to, server->address, strlen(server->address)) != 0)
        return 0;
    if (server->answers != NULL && strcmp(question->answer_to, server->answer_to) == 0)
        return 1;
    noria_close(server->answers);
    server->answers = NULL;
    strcpy(server->answer_to, question->answer_to);
    return noria_open(&server->answers, server->answer_to, NORIA_SEND, NULL) == 0;
}

static void answer(struct server *server, const struct rpc_question *question, int was_tried)
{
    struct rpc_answer out = {.id = question->id, .status = -EOWNERDEAD};

    if (is_late(question->until_ns) || !find_client(server, question))
        return;
    if (!was_tried || question->may_repeat) {
        ssize_t rc = server->service(server->context, question->data, question->size, out.data);
        out.status = rc < 0 ? (int32_t)rc : 0;
        out.size = rc < 0 ? 0 : (uint32_t)rc;
    }
    /* Not waiting: a client that takes no answers must not hold up the others. */
    noria_send(server->answers, &out, offsetof(struct rpc_answer, data) + out.size, 0);
}

int rpc_serve(const char *address, rpc_service *service, void *context)
{
    struct server server = {.address = address, .service = service, .context = context};
    struct rpc_question question;
    struct noria_options options;
    noria_channel *questions;
    struct noria_span span;
    struct noria_info info;
    int rc;

    noria_options_init(&options);
    options.max_message = sizeof question;
    /* A sender, too: that clients come and go is then no end of the stream. */
    rc = noria_open(&questions, address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &options);
    if (rc != 0)
        return rc;
    /* Released when it is answered: until then another server gets it if we die. */
    while ((rc = noria_peek(questions, &span, -1, &info)) == 0) {
        size_t len = span.len < sizeof question ? span.len : sizeof question;
        memcpy(&question, span.data, len); /* what is looked at twice must not change in between */
        if (len >= offsetof(struct rpc_question, data) && question.size == len - offsetof(struct rpc_question, data))
            answer(&server, &question, (info.flags & NORIA_REDELIVERED) != 0);
        rc = noria_release(questions, &span);
        if (rc != 0)
            break;
    }
    noria_close(server.answers);
    noria_close(questions);
    return rc;
}
