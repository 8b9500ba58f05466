/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stream that keeps a channel's messages and the consumer its receivers share. This is asked over a connection of
 * its own, used in the client's way, which is closed when it is done: calls that open and remove may wait.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"
#include "nap.h"
#include "nats_handle.h"

/* By this a stream of ours is known when it is to be removed. */
static const char mark[] = "noria";

enum { HEADERS = 512 }; /* bytes of a message's headers, at most: they count as payload */

/* How long a receiver is looked for, and how long it is between two looks. */
#define LOOK_NS NORIA_NS_PER_S
enum { NAPS_OF_A_LOOK = 25 };

struct desk {
    const struct noria_nats_client *client;
    const struct noria_nats_address *address;
    natsConnection *connection;
    jsCtx *jetstream;
    struct noria_nats_quiet quiet; /* as long as it is open */
};

static int open_desk(struct desk *desk, int64_t timeout_ns)
{
    const struct noria_nats_client *client = desk->client;
    natsOptions *options = NULL;
    jsOptions wait;
    natsStatus status;
    int rc = noria_nats_options_make(client, desk->address, timeout_ns, &options);

    noria_nats_begin_quiet(&desk->quiet, desk->address->tls);
    if (rc != 0)
        return rc;
    client->jsOptions_Init(&wait);
    wait.Wait = timeout_ns / NORIA_NS_PER_MS > 10 ? timeout_ns / NORIA_NS_PER_MS : 10;
    status = client->natsOptions_SetAllowReconnect(options, false);
    if (status == NATS_OK)
        status = client->natsConnection_Connect(&desk->connection, options);
    if (status == NATS_OK)
        status = client->natsConnection_JetStream(&desk->jetstream, desk->connection, &wait);
    client->natsOptions_Destroy(options);
    return status == NATS_OK ? 0 : noria_nats_fail(client, status, 0, desk->address->shown);
}

static void close_desk(struct desk *desk)
{
    desk->client->jsCtx_Destroy(desk->jetstream);
    desk->client->natsConnection_Destroy(desk->connection);
    noria_nats_end_quiet(&desk->quiet);
}

/* What a request comes to. One that is not answered may have been one that is not permitted. */
static int judge(struct desk *desk, natsStatus status, jsErrCode code, const char *what)
{
    const char *why = NULL;
    char about[600];

    if (status == NATS_OK)
        return 0;
    snprintf(about, sizeof(about), "%s: %s", desk->address->shown, what);
    if (status == NATS_TIMEOUT &&
        desk->client->natsConnection_GetLastError(desk->connection, &why) == NATS_NOT_PERMITTED)
        return noria_fail(-EACCES, "%s: %s", about, why);
    return noria_nats_fail(desk->client, status, code, about);
}

/* ------------------------------------------------------------------------------------------------------------ streams */

static int find_stream(struct desk *desk, jsStreamInfo **info)
{
    jsErrCode code = 0;
    natsStatus status =
        desk->client->js_GetStreamInfo(info, desk->jetstream, desk->address->stream, NULL, &code);

    return status == NATS_NOT_FOUND ? noria_fail(-ENOENT, "%s: there is no stream '%s'; NORIA_CREATE makes it",
                                                 desk->address->shown, desk->address->stream)
                                    : judge(desk, status, code, "its stream");
}

/* Whether there is one of that name by now. */
static bool is_there(struct desk *desk)
{
    jsStreamInfo *info = NULL;
    bool found = find_stream(desk, &info) == 0;

    desk->client->jsStreamInfo_Destroy(info);
    return found;
}

/* 1: there is one of that name. Who makes it at the same time as another may be told of its subject first. */
static int make_stream(struct desk *desk, const struct noria_options *options, jsStreamInfo **info)
{
    const struct noria_nats_address *address = desk->address;
    const char *subjects[] = {address->subject};
    jsStreamConfig config;
    jsErrCode code = 0;
    natsStatus status;

    desk->client->jsStreamConfig_Init(&config);
    config.Name = address->stream;
    config.Description = mark;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Retention = js_WorkQueuePolicy; /* what is released is gone */
    config.Discard = js_DiscardNew;        /* a full channel is full */
    /* Replicas judge for themselves whether there is room, and do not agree (2.9): then what one has refused another one
     * has acknowledged, and the next leader does not have it. So a stream of several is not bounded by us. */
    if (address->replicas == 1)
        config.MaxMsgs = (int64_t)(options->capacity < INT64_MAX ? options->capacity : INT64_MAX);
    config.Storage = address->memory ? js_MemoryStorage : js_FileStorage;
    config.Replicas = (int64_t)address->replicas;
    config.Duplicates = (int64_t)address->window_s * NORIA_NS_PER_S;
    status = desk->client->js_AddStream(info, desk->jetstream, &config, NULL, &code);
    if ((int)code == JSStreamNameExistErr)
        return 1;
    if ((int)code == JSStreamSubjectOverlapErr)
        return is_there(desk) ? 1 : noria_fail(-EEXIST, "%s: another stream has that subject; stream=NAME says which one", address->shown);
    return judge(desk, status, code, "a stream for it cannot be made");
}

/* The stream, once it is there. */
static int get_stream(struct desk *desk, int flags, const struct noria_options *options, jsStreamInfo **info)
{
    int64_t until_ns = noria_deadline_ns(options->wait_create_ns);
    int rc;

    while ((rc = find_stream(desk, info)) == -ENOENT && (flags & NORIA_CREATE) == 0 && noria_now_ns() < until_ns)
        noria_nap(until_ns);
    if (rc == 0 && (flags & NORIA_EXCL) != 0) {
        desk->client->jsStreamInfo_Destroy(*info);
        *info = NULL;
        return noria_fail(-EEXIST, "%s: the stream '%s' is there already", desk->address->shown, desk->address->stream);
    }
    if (rc != -ENOENT || (flags & NORIA_CREATE) == 0)
        return rc;
    rc = make_stream(desk, options, info);
    if (rc == 1 && (flags & NORIA_EXCL) == 0) /* somebody else has just made it */
        return find_stream(desk, info);
    return rc != 1 ? rc
                   : noria_fail(-EEXIST, "%s: the stream '%s' is there already", desk->address->shown,
                                desk->address->stream);
}

/* ---------------------------------------------------------------------------------------------------------- consumers */

static int check_consumer(struct desk *desk, const jsConsumerConfig *config)
{
    if (config == NULL || config->AckPolicy != js_AckExplicit ||
        (config->DeliverSubject != NULL && config->DeliverSubject[0] != '\0'))
        return noria_fail(-EINVAL,
                          "%s: '%s' is no pull consumer with explicit acknowledgements; consumer=NAME names another one",
                          desk->address->shown, desk->address->consumer);
    return 0;
}

static int make_consumer(struct desk *desk, jsConsumerInfo **info)
{
    const struct noria_nats_address *address = desk->address;
    jsConsumerConfig config;
    jsErrCode code = 0;
    natsStatus status;

    desk->client->jsConsumerConfig_Init(&config);
    config.Durable = address->consumer;
    config.Description = mark;
    config.DeliverPolicy = js_DeliverAll;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = (int64_t)address->ack_wait_s * NORIA_NS_PER_S;
    config.MaxDeliver = -1;
    config.MaxAckPending = address->strict ? 1 : 0; /* 0: the server's own limit */
    config.FilterSubject = address->subject;
    status = desk->client->js_AddConsumer(info, desk->jetstream, address->stream, &config, NULL, &code);
    return judge(desk, status, code, "a consumer for it cannot be made");
}

/* Where few may be out, the rest of a request for several would stand on, and be answered when nobody looks. */
static uint32_t how_many_at_once(int64_t most_out)
{
    return most_out > 0 && most_out < NORIA_NATS_MOST_PULLED ? 1 : NORIA_NATS_MOST_PULLED;
}

/* The receiver's `highest`: no sequence above it has been given to anybody before. The server's record goes back by one when a
 * message is due again and whoever asked for one has died meanwhile (nats-server 2.9, nextWaiting), and what it gives then
 * counts as new: so many may be missing in it as there are messages that were given more than once. */
static int get_consumer(struct desk *desk, struct noria_nats_receiver *receiver)
{
    const struct noria_nats_address *address = desk->address;
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus status =
        desk->client->js_GetConsumerInfo(&info, desk->jetstream, address->stream, address->consumer, NULL, &code);
    int rc = status == NATS_NOT_FOUND ? make_consumer(desk, &info) : judge(desk, status, code, "its consumer");

    if (rc == 0)
        rc = check_consumer(desk, info->Config);
    if (rc == 0) {
        receiver->highest = info->Delivered.Stream + (uint64_t)info->NumRedelivered;
        receiver->most_pulled = how_many_at_once(info->Config->MaxAckPending);
    }
    if (rc != -ENOENT && info != NULL)
        desk->client->jsConsumerInfo_Destroy(info);
    return rc;
}

/* ------------------------------------------------------------------------------------------------------- the functions */

static int64_t patience_of(int64_t open_timeout_ns)
{
    return open_timeout_ns < 0 ? 3600 * NORIA_NS_PER_S : open_timeout_ns;
}

/* What the server takes, less headers, is the longest message. */
static int set_longest(struct noria_nats *nats, const struct desk *desk)
{
    int64_t payload = desk->client->natsConnection_GetMaxPayload(desk->connection);
    uint64_t asked = nats->adapter.options.max_message;

    if (payload <= HEADERS)
        return noria_fail(-EMSGSIZE, "%s: the server's max_payload, %lld, leaves no room for messages",
                          nats->address.shown, (long long)payload);
    if (asked > (uint64_t)payload - HEADERS)
        return noria_fail(-EMSGSIZE,
                          "%s: max_message %llu is more than the server takes, %lld (its max_payload, less %d for headers)",
                          nats->address.shown, (unsigned long long)asked, (long long)payload - HEADERS, HEADERS);
    nats->adapter.base.max_message = (uint64_t)payload - HEADERS < NORIA_MOST_BOUND ? (uint64_t)payload - HEADERS
                                                                                    : NORIA_MOST_BOUND;
    return 0;
}

int noria_nats_setup(struct noria_nats *nats, int flags)
{
    const struct noria_options *options = &nats->adapter.options;
    struct desk desk = {.client = nats->client, .address = &nats->address};
    jsStreamInfo *info = NULL;
    int rc = open_desk(&desk, patience_of(options->open_timeout_ns));

    if (rc == 0) /* before anything is made */
        rc = set_longest(nats, &desk);
    if (rc == 0)
        rc = get_stream(&desk, flags, options, &info);
    if (rc == 0) {
        nats->created_ns = info->Created;
        nats->capacity = info->Config->MaxMsgs > 0 ? (uint64_t)info->Config->MaxMsgs : UINT64_MAX;
        desk.client->jsStreamInfo_Destroy(info);
    }
    if (rc == 0 && (flags & NORIA_RECV) != 0)
        rc = get_consumer(&desk, &nats->receiver);
    close_desk(&desk);
    return rc;
}

/* The desk of an address alone. */
static int visit(const char *rest, struct noria_nats_address *address, struct desk *desk)
{
    int rc = noria_nats_address_parse(address, rest);

    if (rc != 0)
        return rc;
    *desk = (struct desk){.address = address, .client = noria_nats_client(&rc)};
    if (rc == 0)
        rc = open_desk(desk, NORIA_NS_PER_S * 5);
    if (rc != 0) {
        if (desk->client != NULL)
            close_desk(desk);
        noria_nats_address_free(address);
    }
    return rc;
}

int noria_nats_unlink(const char *rest)
{
    struct noria_nats_address address;
    struct desk desk;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    int rc = visit(rest, &address, &desk);

    if (rc != 0)
        return rc;
    rc = find_stream(&desk, &info);
    if (rc == 0 && (info->Config->Description == NULL || strcmp(info->Config->Description, mark) != 0))
        rc = noria_fail(-EINVAL, "%s: noria has not made the stream '%s', and does not remove it", address.shown,
                        address.stream);
    if (rc == 0)
        rc = judge(&desk, desk.client->js_DeleteStream(desk.jetstream, address.stream, NULL, &code), code,
                   "its stream cannot be removed");
    desk.client->jsStreamInfo_Destroy(info);
    close_desk(&desk);
    noria_nats_address_free(&address);
    return rc;
}

/* Receivers that wait are known, others are not. Between two requests none of theirs stands at the server, so who is
 * not seen is looked for again for a while. */
static int look_for_receivers(struct desk *desk)
{
    int64_t until_ns = noria_now_ns() + LOOK_NS;
    bool seen = false, last = false;

    while (!seen && !last) {
        jsConsumerInfo *consumer = NULL;
        last = noria_now_ns() >= until_ns;
        if (desk->client->js_GetConsumerInfo(&consumer, desk->jetstream, desk->address->stream, desk->address->consumer,
                                             NULL, NULL) != NATS_OK)
            return 0; /* nobody has received yet */
        seen = consumer->NumWaiting > 0 || consumer->NumAckPending > 0;
        desk->client->jsConsumerInfo_Destroy(consumer);
        for (int naps = 0; naps < NAPS_OF_A_LOOK && !seen && !last; naps++)
            noria_nap(until_ns);
    }
    return seen;
}

int noria_nats_in_use(const char *rest)
{
    struct noria_nats_address address;
    struct desk desk;
    jsStreamInfo *info = NULL;
    int rc = visit(rest, &address, &desk);

    if (rc != 0)
        return rc;
    rc = find_stream(&desk, &info);
    if (rc == 0)
        rc = look_for_receivers(&desk);
    desk.client->jsStreamInfo_Destroy(info);
    close_desk(&desk);
    noria_nats_address_free(&address);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- whether they still are */

void noria_nats_probe(struct noria_nats *nats, enum noria_side side)
{
    char subject[NORIA_NATS_SUBJECT];

    if (side == NORIA_SIDE_SEND)
        snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.%s", nats->address.stream);
    else
        snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.INFO.%s.%s", nats->address.stream, nats->address.consumer);
    noria_nats_link_ask(&nats->links[side], subject, "a.there", NULL, 0);
}

int noria_nats_verdict(struct noria_nats *nats, natsMsg *answer)
{
    char words[128];
    int code;

    for (int side = 0; side < 2; side++)
        if (nats->links[side].client != NULL && strcmp(noria_nats_link_word(&nats->links[side], answer), "a.there") == 0) {
            code = noria_nats_link_error(&nats->links[side], answer, words, sizeof(words));
            if (code == JSStreamNotFoundErr || code == JSConsumerNotFoundErr)
                return noria_fail(-ENOENT, "%s: %s: it has been removed; open the channel anew", nats->address.shown, words);
        }
    return 0;
}
