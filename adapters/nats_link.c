/* SPDX-License-Identifier: BSD-2-Clause */
#include "nats_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "detail.h"

enum { MOST_MOVES = 256, RECONNECT_MS = 50, DOWN_MS = 100, INBOX_ROOM = 128 };

/* ------------------------------------------------------------------------------------- what the client calls us for */

static natsStatus watch(struct noria_nats_link *link, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.fd = link->fd}};

    return epoll_ctl(link->epoll, how, link->fd, &event) == 0 ? NATS_OK : NATS_ERR;
}

/* There is a connection, the first one or a new one. */
static natsStatus attach(void **data, void *loop, natsConnection *connection, natsSock socket)
{
    struct noria_nats_link *link = loop;

    (void)connection;
    *data = link;
    link->fd = socket;
    fcntl(socket, F_SETFD, FD_CLOEXEC);
    link->guard.drops = true;
    noria_fork_guard_add(&link->guard, socket);
    if (watch(link, EPOLL_CTL_ADD, EPOLLIN) != NATS_OK)
        return NATS_ERR;
    noria_add_relaxed32(&link->connects, 1);
    noria_store_release32(&link->is_up, 1); /* pairs with noria_nats_link_is_up */
    return NATS_OK;
}

static natsStatus on_read(void *data, bool add)
{
    struct noria_nats_link *link = data;

    if (add || link->fd < 0)
        return NATS_OK;
    noria_store_release32(&link->is_up, 0); /* pairs with noria_nats_link_is_up */
    link->down_since_ns = noria_now_ns();
    noria_store_release32(&link->wants_to_write, 0);
    watch(link, EPOLL_CTL_DEL, 0);
    noria_fork_guard_remove(&link->guard);
    link->guard = (struct noria_fork_guard){0};
    link->fd = -1; /* the client closes it */
    return NATS_OK;
}

static natsStatus on_write(void *data, bool add)
{
    struct noria_nats_link *link = data;

    noria_store_release32(&link->wants_to_write, add); /* pairs with the load in pump */
    return link->fd < 0 ? NATS_OK : watch(link, EPOLL_CTL_MOD, add ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* It is closed for good, by us or by the server. The client's own notice comes from a thread of its, when there may be no
 * link any more. */
static natsStatus detach(void *data)
{
    struct noria_nats_link *link = data;

    noria_store_release32(&link->is_closed, 1); /* pairs with the load in pump */
    return NATS_OK;
}

/* Without it the client prints. */
static void ignore_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *data)
{
    (void)connection;
    (void)subscription;
    (void)status;
    (void)data;
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

void noria_nats_begin_quiet(struct noria_nats_quiet *quiet, bool tls)
{
    sigset_t signals, pending;

    quiet->is_on = tls;
    if (!tls)
        return;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    sigemptyset(&pending);
    pthread_sigmask(SIG_BLOCK, &signals, &quiet->mask);
    sigpending(&pending);
    quiet->was_pending = sigismember(&pending, SIGPIPE) == 1;
}

void noria_nats_end_quiet(struct noria_nats_quiet *quiet)
{
    const struct timespec at_once = {0, 0};
    sigset_t signals;

    if (!quiet->is_on)
        return;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    while (!quiet->was_pending && sigtimedwait(&signals, NULL, &at_once) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &quiet->mask, NULL);
}

static natsStatus set_security(const struct noria_nats_client *client, const struct noria_nats_address *address,
                               natsOptions *options)
{
    natsStatus status = NATS_OK;

    if (address->user != NULL && address->password != NULL)
        status = client->natsOptions_SetUserInfo(options, address->user, address->password);
    else if (address->user != NULL)
        status = client->natsOptions_SetToken(options, address->user);
    if (status == NATS_OK && address->creds != NULL)
        status = client->natsOptions_SetUserCredentialsFromFiles(options, address->creds, NULL);
    if (status == NATS_OK && address->tls)
        status = client->natsOptions_SetSecure(options, true);
    if (status == NATS_OK && address->ca != NULL)
        status = client->natsOptions_LoadCATrustedCertificates(options, address->ca);
    if (status == NATS_OK && address->cert != NULL)
        status = client->natsOptions_LoadCertificatesChain(options, address->cert, address->key);
    return status;
}

int noria_nats_options_make(const struct noria_nats_client *client, const struct noria_nats_address *address,
                            int64_t timeout_ns, natsOptions **options)
{
    int64_t timeout_ms = timeout_ns / NORIA_NS_PER_MS / address->server_count;
    natsStatus status = client->natsOptions_Create(options);

    if (status != NATS_OK)
        return noria_nats_fail(client, status, 0, address->shown);
    status = client->natsOptions_SetServers(*options, (const char **)(uintptr_t)address->servers, address->server_count);
    if (status == NATS_OK)
        status = client->natsOptions_SetTimeout(*options, timeout_ms > 10 ? timeout_ms : 10);
    if (status == NATS_OK)
        status = client->natsOptions_SetName(*options, "noria");
    if (status == NATS_OK)
        status = client->natsOptions_SetSendAsap(*options, true); /* else there is a thread that writes */
    if (status == NATS_OK)
        status = client->natsOptions_SetErrorHandler(*options, ignore_error, NULL);
    if (status == NATS_OK)
        status = set_security(client, address, *options);
    if (status == NATS_OK)
        return 0;
    client->natsOptions_Destroy(*options);
    *options = NULL;
    return noria_nats_fail(client, status, 0, address->shown);
}

static natsStatus subscribe(struct noria_nats_link *link, natsSubscription **subscription, const char *kind)
{
    char subject[INBOX_ROOM];

    snprintf(subject, sizeof(subject), "%s.%s.*", link->inbox, kind);
    return link->client->natsConnection_SubscribeSync(subscription, link->connection, subject);
}

static natsStatus connect_link(struct noria_nats_link *link, natsOptions *options)
{
    const struct noria_nats_client *client = link->client;
    natsStatus status = client->natsOptions_SetEventLoop(options, link, attach, on_read, on_write, detach);

    if (status == NATS_OK)
        status = client->natsOptions_SetMaxReconnect(options, -1);
    if (status == NATS_OK)
        status = client->natsOptions_SetReconnectWait(options, RECONNECT_MS);
    if (status == NATS_OK)
        status = client->natsOptions_SetReconnectJitter(options, RECONNECT_MS, RECONNECT_MS);
    if (status == NATS_OK)
        status = client->natsConnection_Connect(&link->connection, options);
    if (status == NATS_OK)
        status = client->natsInbox_Create(&link->inbox);
    if (status == NATS_OK)
        status = subscribe(link, &link->answers, "a");
    if (status == NATS_OK)
        status = subscribe(link, &link->messages, "m");
    return status;
}

#define ATTEMPT_NS (5 * NORIA_NS_PER_S) /* to connect, at each server */

int noria_nats_link_open(struct noria_nats_link *link, const struct noria_nats_client *client,
                         const struct noria_nats_address *address, int64_t timeout_ns)
{
    natsOptions *options = NULL;
    struct noria_nats_quiet quiet;
    /* Later attempts take as long, and noria_close waits for one that is under way. */
    int64_t most_ns = ATTEMPT_NS * address->server_count;
    natsStatus status;
    int rc;

    *link = (struct noria_nats_link){.client = client, .fd = -1, .tls = address->tls};
    link->epoll = epoll_create1(EPOLL_CLOEXEC);
    link->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (link->epoll < 0 || link->timer < 0) {
        rc = noria_fail(-errno, "no descriptor for a connection: %s", strerror(errno));
        noria_nats_link_close(link, false);
        return rc;
    }
    rc = noria_nats_options_make(client, address, timeout_ns < most_ns ? timeout_ns : most_ns, &options);
    if (rc == 0) {
        noria_nats_begin_quiet(&quiet, address->tls);
        status = connect_link(link, options);
        noria_nats_end_quiet(&quiet);
        rc = status == NATS_OK ? 0 : noria_nats_fail(client, status, 0, address->shown);
        client->natsOptions_Destroy(options);
    }
    if (rc != 0)
        noria_nats_link_close(link, false);
    return rc;
}

void noria_nats_link_close(struct noria_nats_link *link, bool stale)
{
    const struct noria_nats_client *client = link->client;
    struct noria_nats_quiet quiet;

    if (client == NULL)
        return;
    noria_nats_begin_quiet(&quiet, link->tls);
    if (!stale) {
        client->natsSubscription_Destroy(link->answers);
        client->natsSubscription_Destroy(link->messages);
        noria_nats_link_pump(link); /* for what the client has to say it waits half a second, and nobody would say it */
        client->natsConnection_Destroy(link->connection);
        client->natsInbox_Destroy(link->inbox);
    } else if (link->fd >= 0) {
        noria_fork_guard_remove(&link->guard); /* the descriptor is one of nothing by now */
        close(link->fd);
    }
    noria_nats_end_quiet(&quiet);
    if (link->epoll >= 0)
        close(link->epoll);
    if (link->timer >= 0)
        close(link->timer);
    link->client = NULL;
}

/* ------------------------------------------------------------------------------------------------------------ moving */

/* One step. Whether there may be another one. */
static bool move(struct noria_nats_link *link)
{
    bool writes = noria_load_acquire32(&link->wants_to_write) != 0; /* pairs with on_write */
    struct epoll_event event;
    int n = epoll_wait(link->epoll, &event, 1, 0);

    if (n <= 0)
        return false;
    if (writes && (event.events & EPOLLOUT) != 0)
        link->client->natsConnection_ProcessWriteEvent(link->connection);
    if ((event.events & ~(uint32_t)EPOLLOUT) != 0)
        link->client->natsConnection_ProcessReadEvent(link->connection);
    return true;
}

int noria_nats_link_pump(struct noria_nats_link *link)
{
    struct noria_nats_quiet quiet;
    int moves = 0;

    noria_nats_begin_quiet(&quiet, link->tls);
    while (noria_nats_link_is_up(link) && moves < MOST_MOVES && move(link))
        moves++;
    noria_nats_end_quiet(&quiet);
    return noria_load_acquire32(&link->is_closed) == 0 ? 0 : noria_nats_link_trouble(link); /* pairs with detach */
}

int noria_nats_link_trouble(struct noria_nats_link *link)
{
    const char *why = NULL;
    natsStatus status;

    if (link->connection == NULL)
        return 0;
    if (!noria_nats_link_is_up(link) && noria_load_acquire32(&link->is_closed) == 0) /* pairs with detach */
        return 0;
    status = link->client->natsConnection_GetLastError(link->connection, &why);
    if (status == NATS_NOT_PERMITTED)
        return noria_fail(-EACCES, "the server does not permit this user that: %s", why);
    if (noria_load_acquire32(&link->is_closed) == 0)
        return 0;
    return noria_fail(-EACCES, "the server has closed the connection for good: %s", why != NULL ? why : "no reason is known");
}

void noria_nats_link_await(struct noria_nats_link *link, int64_t until_ns)
{
    struct pollfd set[2] = {{.fd = link->epoll, .events = POLLIN}, {.fd = link->timer, .events = POLLIN}};
    int64_t left_ns = until_ns - noria_now_ns();
    struct timespec left = noria_timespec_of(left_ns > 0 ? left_ns : 0);

    ppoll(set, 2, &left, NULL);
}

void noria_nats_link_wake_at(struct noria_nats_link *link, int64_t time_ns)
{
    struct itimerspec when;

    if (time_ns == 0 && !link->is_timed)
        return;
    if (time_ns != 0 && !noria_nats_link_is_up(link)) /* what is due is so until there is a connection */
        time_ns = noria_now_ns() + DOWN_MS * NORIA_NS_PER_MS;
    when = (struct itimerspec){.it_value = noria_timespec_of(time_ns)};
    timerfd_settime(link->timer, TFD_TIMER_ABSTIME, &when, NULL); /* takes an expiry back, too */
    link->is_timed = time_ns != 0;
}

/* --------------------------------------------------------------------------------------------- questions and answers */

int noria_nats_link_ask(struct noria_nats_link *link, const char *subject, const char *word, const void *data, int len)
{
    char reply[INBOX_ROOM];
    natsStatus status;

    if (!noria_nats_link_is_up(link))
        return -EAGAIN;
    snprintf(reply, sizeof(reply), "%s.%s", link->inbox, word != NULL ? word : "");
    status = word != NULL ? link->client->natsConnection_PublishRequest(link->connection, subject, reply, data, len)
                          : link->client->natsConnection_Publish(link->connection, subject, data, len);
    return status == NATS_OK ? 0 : noria_nats_fail(link->client, status, 0, "cannot ask the server");
}

natsMsg *noria_nats_link_next(struct noria_nats_link *link, natsSubscription *from, bool *nobody)
{
    natsMsg *message = NULL;
    natsStatus status = link->client->natsSubscription_NextMsg(&message, from, 0);

    *nobody = *nobody || status == NATS_NO_RESPONDERS;
    return status == NATS_OK ? message : NULL;
}

const char *noria_nats_link_word(const struct noria_nats_link *link, natsMsg *answer)
{
    const char *subject = link->client->natsMsg_GetSubject(answer);
    size_t length = strlen(link->inbox);

    return subject != NULL && strncmp(subject, link->inbox, length) == 0 && subject[length] == '.' ? subject + length + 1
                                                                                                  : "";
}

/* What stands behind "name": in the server's answer, which is flat where we look; NULL: nothing does. */
static const char *find_member(const char *json, const char *name)
{
    char quoted[32];
    const char *at;

    snprintf(quoted, sizeof(quoted), "\"%s\":", name);
    at = strstr(json, quoted);
    return at != NULL ? at + strlen(quoted) + strspn(at + strlen(quoted), " \t") : NULL;
}

int noria_nats_link_error(const struct noria_nats_link *link, natsMsg *answer, char *words, size_t size)
{
    const char *data = link->client->natsMsg_GetData(answer);
    size_t length = (size_t)link->client->natsMsg_GetDataLength(answer);
    char json[1024];
    const char *code, *description;

    length = data == NULL ? 0 : length < sizeof(json) - 1 ? length : sizeof(json) - 1; /* errors come first */
    if (length != 0)
        memcpy(json, data, length);
    json[length] = '\0';
    words[0] = '\0';
    if (find_member(json, "error") == NULL) /* good news names the stream: PubAck, stream info, consumer info */
        return find_member(json, "stream") != NULL || find_member(json, "stream_name") != NULL ||
                       find_member(json, "config") != NULL
                   ? 0
                   : -1;
    code = find_member(json, "err_code");
    if (code == NULL)
        code = find_member(json, "code");
    description = find_member(json, "description");
    if (description != NULL && *description == '"')
        snprintf(words, size, "%.*s", (int)strcspn(description + 1, "\""), description + 1);
    return code != NULL && atoi(code) != 0 ? atoi(code) : -1;
}
