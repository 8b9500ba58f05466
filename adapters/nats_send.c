/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A message goes out under an id and is sent again, under the same one, until the stream has it: NATS knows the ids of the
 * last minutes and stores each once. The id is this sender's name and the number of the message; of a message that is
 * passed on it is where that comes from, so that a bridge that was killed and starts anew makes no second one either.
 *
 *     NEW -> SENT -> STORED                     answered: the stream has it
 *             |  \-> REFUSED -> SENT            answered: full, or no leader: again a little later
 *             \-> SENT                          not answered in time, or the connection is another one: again
 *
 * A call can end before the answer has come. With timeout 0 the message then counts as sent, and is owed: later calls, and
 * noria_close, see to it before anything else. A call that has waited until its deadline fails; if the same bytes
 * are sent next they are the same message, and stored once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "detail.h"
#include "nats_handle.h"

/* Whether there is room is not told, so it is asked: soon, then more and more seldom. */
enum { FIRST_LOOK_MS = 2, LAST_LOOK_MS = 25, LAST_WORD_MS = 250, MOST_KEPT_WORDS = 200 };
enum { FLUSH_MS = 20000, FLUSH_DOWN_MS = 1000 }; /* that closing waits, with a connection and without */

static struct noria_nats_link *link_of(struct noria_nats *nats)
{
    return &nats->links[NORIA_SIDE_SEND];
}

int noria_nats_begin_sending(struct noria_nats *nats)
{
    uint8_t random[(sizeof(nats->sender.name) - 1) / 2];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return noria_fail(-EIO, "no random number for the name of a sender");
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(nats->sender.name + 2 * i, 3, "%02x", random[i]);
    memcpy(&nats->adapter.sender, random, sizeof(nats->adapter.sender));
    nats->adapter.sender = __builtin_bswap32(nats->adapter.sender); /* the first eight digits of the name */
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- going out */

static int make_message(struct noria_nats *nats, natsMsg **message)
{
    struct noria_nats_sender *sender = &nats->sender;
    const struct noria_nats_client *client = nats->client;
    char reply[128];
    natsStatus status;

    snprintf(reply, sizeof(reply), "%s.a.%" PRIu64, link_of(nats)->inbox, sender->number);
    status = client->natsMsg_Create(message, nats->address.subject, reply, (const char *)sender->data, (int)sender->len);
    if (status == NATS_OK)
        status = client->natsMsgHeader_Set(*message, "Nats-Msg-Id", sender->id);
    if (status == NATS_OK)
        status = client->natsMsgHeader_Set(*message, "Nats-Expected-Stream", nats->address.stream);
    if (status == NATS_OK && sender->redelivered)
        status = client->natsMsgHeader_Set(*message, "Noria-Redelivered", "1");
    return status == NATS_OK ? 0 : noria_nats_fail(client, status, 0, "no message can be made");
}

static int put_out(struct noria_nats *nats)
{
    struct noria_nats_sender *sender = &nats->sender;
    natsMsg *message = NULL;
    natsStatus status = NATS_OK;
    int rc = make_message(nats, &message);

    if (rc == 0)
        status = nats->client->natsConnection_PublishMsg(link_of(nats)->connection, message);
    nats->client->natsMsg_Destroy(message);
    if (rc != 0 || status == NATS_MAX_PAYLOAD)
        return rc != 0 ? rc : noria_nats_fail(nats->client, status, 0, nats->address.shown);
    sender->state = NORIA_NATS_SENT; /* if that failed the connection is lost, and it goes again over the next one */
    sender->tries++;
    sender->unanswered++;
    sender->connects = noria_load_relaxed32(&link_of(nats)->connects);
    sender->sent_ns = noria_now_ns();
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------- answers */

static void refuse(struct noria_nats_sender *sender, int64_t in_ns)
{
    sender->state = NORIA_NATS_REFUSED;
    sender->again_ns = noria_now_ns() + in_ns;
}

/* Full, or a failure that will not go away. */
static int judge_failure(struct noria_nats *nats, int code, const char *words)
{
    struct noria_nats_sender *sender = &nats->sender;
    int64_t ms = sender->tries < 4 ? (int64_t)FIRST_LOOK_MS << sender->tries : LAST_LOOK_MS;

    switch (code) {
    case JSStreamStoreFailedErr:
        if (strstr(words, "maximum") == NULL)
            break;
        refuse(sender, (ms < LAST_LOOK_MS ? ms : LAST_LOOK_MS) * NORIA_NS_PER_MS);
        return 0;
    case JSClusterNotAvailErr:
    case JSClusterNotLeaderErr:
    case JSClusterIncompleteErr:
    case JSClusterNoPeersErr:
    case 503:
        refuse(sender, NORIA_NATS_AGAIN_NS);
        return 0;
    case JSStreamNotFoundErr:
        return noria_fail(-ENOENT, "%s: its stream is gone: %s", nats->address.shown, words);
    case JSStreamMessageExceedsMaximumErr:
        return noria_fail(-EMSGSIZE, "%s: the stream does not take so long a message: %s", nats->address.shown, words);
    case JSStreamNotMatchErr:
        return noria_fail(-EINVAL, "%s: the subject belongs to another stream than '%s'", nats->address.shown,
                          nats->address.stream);
    default:
        break;
    }
    return noria_fail(-ENOSPC, "%s: the server cannot store the message: %s (%d)", nats->address.shown, words, code);
}

/* An answer to one of the tries; to an older one, perhaps. */
static int judge_answer(struct noria_nats *nats, natsMsg *answer)
{
    struct noria_nats_sender *sender = &nats->sender;
    char words[MOST_KEPT_WORDS];
    int code = noria_nats_link_error(link_of(nats), answer, words, sizeof(words));

    if (sender->unanswered > 0)
        sender->unanswered--;
    if (code == 0)
        sender->state = NORIA_NATS_STORED;
    else if (sender->state != NORIA_NATS_STORED)
        return judge_failure(nats, code, words);
    return 0;
}

static int collect(struct noria_nats *nats)
{
    struct noria_nats_link *link = link_of(nats);
    struct noria_nats_sender *sender = &nats->sender;
    bool nobody = false;
    natsMsg *answer;
    int rc = 0;

    while (rc == 0 && (answer = noria_nats_link_next(link, link->answers, &nobody)) != NULL) {
        const char *word = noria_nats_link_word(link, answer);
        if (strcmp(word, "a.there") == 0)
            rc = noria_nats_verdict(nats, answer);
        else if (strncmp(word, "a.", 2) == 0 && strtoull(word + 2, NULL, 10) == sender->number)
            rc = judge_answer(nats, answer);
        nats->client->natsMsg_Destroy(answer);
    }
    if (rc == 0 && nobody && sender->state == NORIA_NATS_SENT) { /* no leader, or no stream: that is asked */
        sender->unanswered -= sender->unanswered > 0;
        refuse(sender, NORIA_NATS_AGAIN_NS);
        noria_nats_probe(nats, NORIA_SIDE_SEND);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------------------------------- steps */

static bool is_due(struct noria_nats *nats)
{
    const struct noria_nats_sender *sender = &nats->sender;

    switch (sender->state) {
    case NORIA_NATS_NEW:
        return true;
    case NORIA_NATS_SENT:
        return sender->connects != noria_load_relaxed32(&link_of(nats)->connects) ||
               noria_now_ns() - sender->sent_ns > NORIA_NATS_ANSWER_NS;
    case NORIA_NATS_REFUSED:
        return noria_now_ns() >= sender->again_ns;
    default:
        return false;
    }
}

static int look(struct noria_nats *nats)
{
    int rc = noria_nats_link_pump(link_of(nats));

    return rc == 0 ? collect(nats) : rc;
}

/* 0: stored; -EAGAIN; or it never will be. */
static int advance(struct noria_nats *nats)
{
    struct noria_nats_sender *sender = &nats->sender;
    int rc = look(nats);

    if (rc == 0 && noria_nats_link_is_up(link_of(nats)) && is_due(nats)) {
        if (sender->state == NORIA_NATS_SENT && sender->tries > 1) /* twice not answered: is it forbidden? */
            rc = noria_nats_link_trouble(link_of(nats));
        if (rc == 0)
            rc = put_out(nats);
        if (rc == 0)
            rc = look(nats);
    }
    if (rc != 0)
        return rc;
    noria_nats_link_wake_at(link_of(nats), sender->state == NORIA_NATS_REFUSED ? sender->again_ns
                                           : sender->state == NORIA_NATS_SENT  ? sender->sent_ns + NORIA_NATS_ANSWER_NS
                                                                               : 0);
    return sender->state == NORIA_NATS_STORED ? 0 : -EAGAIN;
}

/* --------------------------------------------------------------------------------------------------- what calls ask for */

static void name_message(struct noria_nats_sender *sender, const struct noria_origin *origin)
{
    sender->number++;
    sender->redelivered = origin != NULL && origin->redelivered;
    if (origin != NULL && origin->source != 0)
        snprintf(sender->id, sizeof(sender->id), "%016" PRIx64 ".%u.%" PRIu64, origin->source, origin->level, origin->sequence);
    else
        snprintf(sender->id, sizeof(sender->id), "%s.%" PRIu64, sender->name, sender->number);
}

static void begin(struct noria_nats_sender *sender, const struct noria_outgoing *message)
{
    bool same = sender->is_doubtful && message->origin == NULL && sender->len == message->len &&
                (message->len == 0 || memcmp(sender->kept, message->data, message->len) == 0);

    sender->is_doubtful = false;
    sender->message = message;
    sender->data = message->data;
    sender->len = message->len;
    if (same)
        return;
    name_message(sender, message->origin);
    sender->state = NORIA_NATS_NEW;
    sender->tries = sender->unanswered = 0;
}

/* What an earlier call has left. 0: nothing any more; -EAGAIN; or why it cannot be stored, told once. */
static int pay(struct noria_nats *nats)
{
    struct noria_nats_sender *sender = &nats->sender;
    int rc = sender->is_owed ? advance(nats) : 0;

    if (rc != -EAGAIN)
        sender->is_owed = false;
    if (rc != 0 && rc != -EAGAIN)
        nats->adapter.lost++;
    return rc;
}

int noria_nats_give(struct noria_adapter *adapter, const struct noria_outgoing *message)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    struct noria_nats_sender *sender = &nats->sender;
    int rc = 0;

    if (sender->message != message) {
        rc = pay(nats);
        if (rc != 0)
            return rc;
        begin(sender, message);
    }
    rc = advance(nats);
    if (rc != -EAGAIN)
        sender->message = NULL;
    return rc;
}

static bool keep(struct noria_nats_sender *sender)
{
    uint8_t *kept = realloc(sender->kept, sender->len != 0 ? sender->len : 1);

    if (kept == NULL)
        return false;
    sender->kept = kept;
    if (sender->len != 0)
        memcpy(kept, sender->data, sender->len);
    sender->data = kept;
    return true;
}

/* At a deadline, with an answer outstanding: a moment for it. */
static int await_answer(struct noria_nats *nats)
{
    struct noria_nats_sender *sender = &nats->sender;
    int64_t until_ns = noria_now_ns() + LAST_WORD_MS * NORIA_NS_PER_MS;
    int rc = 0;

    while (rc == 0 && sender->unanswered > 0 && sender->state != NORIA_NATS_STORED && noria_now_ns() < until_ns &&
           noria_nats_link_is_up(link_of(nats))) {
        noria_step_out(&nats->adapter.base);
        noria_nats_link_await(link_of(nats), until_ns);
        noria_step_in(&nats->adapter.base);
        rc = look(nats);
    }
    return rc;
}

int noria_nats_give_up(struct noria_adapter *adapter, const struct noria_outgoing *message, int rc)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    struct noria_nats_sender *sender = &nats->sender;

    if (sender->message != message)
        return rc;
    if (rc == -ETIMEDOUT)
        await_answer(nats);
    sender->message = NULL;
    if (sender->state == NORIA_NATS_STORED) {
        adapter->sent++;
        return 0;
    }
    if (sender->unanswered == 0 || !keep(sender)) /* it is not there, and will not be */
        return rc;
    sender->is_owed = rc == -EAGAIN;
    sender->is_doubtful = !sender->is_owed;
    adapter->sent += sender->is_owed;
    return sender->is_owed ? 0 : rc;
}

int noria_nats_settle(struct noria_adapter *adapter)
{
    return pay(noria_nats_of(adapter));
}

int noria_nats_may_give(struct noria_adapter *adapter)
{
    struct noria_nats *nats = noria_nats_of(adapter);
    int rc = nats->sender.is_owed ? pay(nats) : noria_nats_link_pump(link_of(nats));

    if (rc != 0)
        return rc == -EAGAIN ? rc : 0; /* the next call says what is wrong */
    return noria_nats_link_is_up(link_of(nats)) ? 0 : -EAGAIN;
}

void noria_nats_end_sending(struct noria_nats *nats, bool stale)
{
    struct noria_nats_link *link = link_of(nats);
    int64_t now_ns = noria_now_ns(), until_ns = now_ns + FLUSH_MS * NORIA_NS_PER_MS;
    int64_t down_until_ns = now_ns + FLUSH_DOWN_MS * NORIA_NS_PER_MS; /* a server that is away may stay away */

    if (link->client != NULL && !stale)
        while (pay(nats) == -EAGAIN && noria_now_ns() < (noria_nats_link_is_up(link) ? until_ns : down_until_ns))
            noria_nats_link_await(link, noria_nats_link_is_up(link) ? until_ns : down_until_ns);
    free(nats->sender.kept);
    nats->sender.kept = NULL;
}
