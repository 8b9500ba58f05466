/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Receivers pull: a request for one message stands at the server while a receiver looks for one, for two seconds at a
 * time, so that one that a dying leader forgets is soon made again. noria_recv_many asks for as many as it has room for, of
 * those that are there; what comes later goes to who looks then, unless all that may be out are. A message is the receiver's
 * until it is acknowledged; if that does not happen for ack_wait the server gives it to another one, with a count by which it
 * is flagged.
 *
 * noria_recv acknowledges what it has copied and does not wait for the server to say so; noria_release returns when the
 * server has the acknowledgement: what it has released does not come again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"
#include "nats_handle.h"

#define PULL_NS (2 * NORIA_NS_PER_S)
#define GRACE_NS (500 * NORIA_NS_PER_MS) /* after which a request without an answer is forgotten */
#define CONFIRM_NS (20 * NORIA_NS_PER_S) /* a new leader takes some */
#define ASK_AGAIN_NS NORIA_NS_PER_S
#define LEAVE_NS (500 * NORIA_NS_PER_MS)
#define SETTLE_NS (20 * NORIA_NS_PER_MS) /* for what is under way when a receiver closes */
enum { INBOX_WORD = 40 };

static struct noria_nats_link *link_of(struct noria_nats *nats)
{
    return &nats->links[NORIA_SIDE_RECV];
}

/* ----------------------------------------------------------------------------------------------------------- pulling */

static bool is_due(struct noria_nats *nats)
{
    const struct noria_nats_receiver *receiver = &nats->receiver;

    if (!receiver->is_pulling)
        return noria_now_ns() >= receiver->again_ns;
    return receiver->connects != noria_load_relaxed32(&link_of(nats)->connects) ||
           noria_now_ns() > receiver->pulled_ns + PULL_NS + GRACE_NS;
}

static int pull(struct noria_nats *nats)
{
    struct noria_nats_receiver *receiver = &nats->receiver;
    char subject[NORIA_NATS_SUBJECT], word[INBOX_WORD], request[80];
    uint32_t wanted = nats->adapter.wanted < receiver->most_pulled ? nats->adapter.wanted : receiver->most_pulled;
    int len = snprintf(request, sizeof(request), "{\"expires\":%" PRId64 ",\"batch\":%" PRIu32 "%s}", (int64_t)PULL_NS, wanted,
                       wanted > 1 ? ",\"no_wait\":true" : ""); /* those that are there, or the next one */
    int rc = 0;

    if (receiver->is_pulling) { /* in vain: is it forbidden, or is there no consumer any more? */
        rc = noria_nats_link_trouble(link_of(nats));
        noria_nats_probe(nats, NORIA_SIDE_RECV);
    }
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s", nats->address.stream, nats->address.consumer);
    snprintf(word, sizeof(word), "m.%" PRIu64, ++receiver->pulls);
    receiver->connects = noria_load_relaxed32(&link_of(nats)->connects);
    receiver->pulled_ns = noria_now_ns();
    receiver->is_pulling = true;
    receiver->has_come = false;
    receiver->due = wanted;
    return rc != 0 ? rc : noria_nats_link_ask(link_of(nats), subject, word, request, len);
}

static void stop_pulling(struct noria_nats *nats, int64_t for_ns)
{
    nats->receiver.is_pulling = false;
    nats->receiver.again_ns = for_ns != 0 ? noria_now_ns() + for_ns : 0;
}

/* The server says something about a request, the last one or an older one. */
static void take_status(struct noria_nats *nats, natsMsg *message)
{
    struct noria_nats_receiver *receiver = &nats->receiver;
    const char *status = NULL, *why = NULL, *word = noria_nats_link_word(link_of(nats), message);

    if (strncmp(word, "m.", 2) != 0 || strtoull(word + 2, NULL, 10) != receiver->pulls ||
        nats->client->natsMsgHeader_Get(message, "Status", &status) != NATS_OK || status == NULL || status[0] == '1')
        return;
    if (strcmp(status, "404") == 0 || strcmp(status, "408") == 0) { /* nothing, or nothing more, has come; at once: all are out */
        stop_pulling(nats, receiver->has_come || noria_now_ns() > receiver->pulled_ns + PULL_NS / 2 ? 0 : NORIA_NATS_AGAIN_NS);
        return;
    }
    if (receiver->due > 1 && nats->client->natsMsgHeader_Get(message, "Description", &why) == NATS_OK && why != NULL &&
        strstr(why, "MaxRequestBatch") != NULL)
        receiver->most_pulled = receiver->due / 2;
    stop_pulling(nats, NORIA_NATS_AGAIN_NS);
    noria_nats_probe(nats, NORIA_SIDE_RECV);
}

static bool is_delivery(struct noria_nats *nats, natsMsg *message)
{
    const char *reply = nats->client->natsMsg_GetReply(message);

    return reply != NULL && strncmp(reply, "$JS.ACK.", 8) == 0;
}

/* The next message that has come. */
static natsMsg *next(struct noria_nats *nats)
{
    struct noria_nats_link *link = link_of(nats);
    bool nobody = false;
    natsMsg *message;

    while ((message = noria_nats_link_next(link, link->messages, &nobody)) != NULL && !is_delivery(nats, message)) {
        take_status(nats, message);
        nats->client->natsMsg_Destroy(message);
    }
    if (nobody && message == NULL) {
        stop_pulling(nats, NORIA_NATS_AGAIN_NS);
        noria_nats_probe(nats, NORIA_SIDE_RECV);
    }
    if (message != NULL) {
        nats->receiver.has_come = true;
        if (nats->receiver.due == 0 || --nats->receiver.due == 0)
            stop_pulling(nats, 0);
    }
    return message;
}

/* Answers but those to pulls: whether the consumer is there, whether an acknowledgement has come (then *confirmed). */
static int collect(struct noria_nats *nats, bool *confirmed)
{
    struct noria_nats_link *link = link_of(nats);
    bool nobody = false;
    natsMsg *answer;
    int rc = 0;

    while (rc == 0 && (answer = noria_nats_link_next(link, link->answers, &nobody)) != NULL) {
        const char *word = noria_nats_link_word(link, answer);
        if (strcmp(word, "a.there") == 0)
            rc = noria_nats_verdict(nats, answer);
        else if (strncmp(word, "a.", 2) == 0 && strtoull(word + 2, NULL, 10) == nats->receiver.confirms)
            *confirmed = true;
        nats->client->natsMsg_Destroy(answer);
    }
    return rc;
}

/* ---------------------------------------------------------------------------------------------------------- receiving */

/* The sender's number is in the ids that noria gives. */
static uint32_t sender_of(const struct noria_nats *nats, natsMsg *message)
{
    const char *id = NULL;
    char digits[9] = "";

    if (nats->client->natsMsgHeader_Get(message, "Nats-Msg-Id", &id) != NATS_OK || id == NULL ||
        strspn(id, "0123456789abcdef") < sizeof(digits) - 1)
        return 0;
    memcpy(digits, id, sizeof(digits) - 1);
    return (uint32_t)strtoul(digits, NULL, 16);
}

static void announce(struct noria_nats *nats, natsMsg *message)
{
    struct noria_incoming *incoming = &nats->adapter.incoming;
    const char *again = NULL;
    jsMsgMetaData *place = NULL;
    bool redelivered = nats->client->natsMsgHeader_Get(message, "Noria-Redelivered", &again) == NATS_OK && again != NULL;

    *incoming = (struct noria_incoming){.there = true,
                                        .data = (const uint8_t *)nats->client->natsMsg_GetData(message),
                                        .info = {.size = (uint32_t)nats->client->natsMsg_GetDataLength(message),
                                                 .sender = sender_of(nats, message)}};
    if (nats->client->natsMsg_GetMetaData(&place, message) == NATS_OK) {
        incoming->info.sequence = place->Sequence.Stream;
        /* The count is not always right, and a new leader may not have heard of the first time. */
        redelivered = redelivered || place->NumDelivered > 1 || place->Sequence.Stream <= nats->receiver.highest;
        if (place->Sequence.Stream > nats->receiver.highest)
            nats->receiver.highest = place->Sequence.Stream;
        nats->client->jsMsgMetaData_Destroy(place);
    }
    incoming->info.flags = redelivered ? NORIA_REDELIVERED : 0;
    nats->receiver.redelivered += redelivered;
    nats->receiver.message = message;
    nats->adapter.seen_sender = true;
}

/* An acknowledgement that found no connection goes over the next one. */
static void send_unsent(struct noria_nats *nats)
{
    struct noria_nats_receiver *receiver = &nats->receiver;

    if (receiver->unsent == NULL || noria_nats_link_ask(link_of(nats), receiver->unsent, NULL, "+ACK", 4) == -EAGAIN)
        return;
    free(receiver->unsent);
    receiver->unsent = NULL;
}

int noria_nats_take(struct noria_adapter *adapter)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    struct noria_nats_receiver *receiver = &nats->receiver;
    struct noria_nats_link *link = link_of(nats);
    natsMsg *message = next(nats); /* of those that came together */
    bool confirmed = false;

    for (int looks = 0; looks < 2 && message == NULL; looks++) {
        int rc = noria_nats_link_pump(link);
        if (rc == 0 && adapter->wanted != 0) /* else nobody is told of it */
            rc = collect(nats, &confirmed);
        if (rc != 0)
            return rc;
        send_unsent(nats);
        message = next(nats);
        if (message == NULL && looks == 0 && adapter->wanted != 0 && noria_nats_link_is_up(link) && is_due(nats))
            rc = pull(nats);
        if (rc != 0 && rc != -EAGAIN)
            return rc;
    }
    noria_nats_link_wake_at(link, message != NULL        ? 0
                                  : receiver->is_pulling ? receiver->pulled_ns + PULL_NS + GRACE_NS
                                                         : receiver->again_ns);
    if (message == NULL)
        return -EAGAIN;
    announce(nats, message);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ acknowledging */

/* Until the server has it. */
static int confirm(struct noria_nats *nats, const char *reply)
{
    struct noria_nats_link *link = link_of(nats);
    int64_t until_ns = noria_now_ns() + CONFIRM_NS, again_ns = 0;
    char word[INBOX_WORD];
    uint32_t connects = 0;
    bool confirmed = false;
    int rc = 0;

    snprintf(word, sizeof(word), "a.%" PRIu64, ++nats->receiver.confirms);
    while (!confirmed && noria_now_ns() < until_ns &&
           noria_load_acquire32(&nats->adapter.base.state) == NORIA_HANDLE_OPEN) { /* pairs with shut */
        if (noria_nats_link_is_up(link) &&
            (noria_now_ns() >= again_ns || connects != noria_load_relaxed32(&link->connects))) {
            connects = noria_load_relaxed32(&link->connects);
            again_ns = noria_now_ns() + ASK_AGAIN_NS;
            noria_nats_link_ask(link, reply, word, "+ACK", 4);
        }
        rc = noria_nats_link_pump(link);
        if (rc == 0)
            rc = collect(nats, &confirmed);
        if (rc != 0 || confirmed)
            break;
        noria_step_out(&nats->adapter.base);
        noria_nats_link_await(link, noria_now_ns() + nats->adapter.options.recheck_ns);
        noria_step_in(&nats->adapter.base);
    }
    if (rc != 0 || confirmed)
        return rc;
    return noria_fail(-ENOTCONN, "%s: no server has confirmed that the message is released; it may come again",
                      nats->address.shown);
}

int noria_nats_taken(struct noria_adapter *adapter, bool surely)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    struct noria_nats_receiver *receiver = &nats->receiver;
    const char *reply = nats->client->natsMsg_GetReply(receiver->message);
    int rc = 0;

    if (surely) {
        rc = confirm(nats, reply);
    } else if (noria_nats_link_ask(link_of(nats), reply, NULL, "+ACK", 4) == -EAGAIN) {
        free(receiver->unsent); /* of one before: it comes again, flagged */
        receiver->unsent = strdup(reply);
    } else if (adapter->wanted != 0) {
        noria_nats_link_pump(link_of(nats)); /* the client only keeps it */
    }
    nats->client->natsMsg_Destroy(receiver->message);
    receiver->message = NULL;
    return rc;
}

void noria_nats_taken_many(struct noria_adapter *adapter)
{
    noria_nats_link_pump(link_of(noria_nats_of(adapter)));
}

/* What is not wanted any more goes to others at once. */
static void give_back(struct noria_nats *nats, natsMsg *message)
{
    noria_nats_link_ask(link_of(nats), nats->client->natsMsg_GetReply(message), NULL, "-NAK", 4);
    nats->client->natsMsg_Destroy(message);
}

static void give_back_all(struct noria_nats *nats)
{
    natsMsg *message;

    while ((message = next(nats)) != NULL)
        give_back(nats, message);
}

void noria_nats_end_receiving(struct noria_nats *nats, bool stale)
{
    struct noria_nats_receiver *receiver = &nats->receiver;
    struct noria_nats_link *link = link_of(nats);
    int64_t until_ns = noria_now_ns() + LEAVE_NS, settled_ns = noria_now_ns() + SETTLE_NS;

    if (link->client != NULL && !stale) {
        noria_nats_link_pump(link);
        send_unsent(nats);
        if (receiver->message != NULL)
            give_back(nats, receiver->message);
        give_back_all(nats);
        while (receiver->is_pulling && receiver->due > 1 && noria_nats_link_is_up(link) && noria_now_ns() < settled_ns) {
            noria_nats_link_await(link, settled_ns); /* several were asked for, and may be under way */
            noria_nats_link_pump(link);
            give_back_all(nats);
        }
        while (noria_nats_link_pump(link) == 0 && noria_load_acquire32(&link->wants_to_write) != 0 &&
               noria_nats_link_is_up(link) && noria_now_ns() < until_ns) /* pairs with on_write */
            noria_nats_link_await(link, until_ns);
    }
    receiver->message = NULL;
    free(receiver->unsent);
    receiver->unsent = NULL;
}
