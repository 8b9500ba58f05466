/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sender waits, and looks, at one epoll set: the listener, each connection for what comes from it (a greeting, its end,
 * rubbish), and each receiver's for room. Asked for one event at a time the kernel goes round among those that are ready:
 * that is the turn. So a message costs one question more than over a connection of its own, however many receivers there are.
 *
 * Where in the middle of a message, or of its last frame, a receiver has no more room, the call waits for it: it may just be
 * reading. After a while, if another one has room, that one gets the message from its beginning (the frames that went out are
 * of a message that never becomes whole), unless the last frame was begun: then the message counts as sent, and the rest is
 * owed to its receiver and nobody else waits for it. A receiver that was left in the middle goes on there if it is its turn
 * again, so that the message comes out however slow all of them are.
 */
#include "dealing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "adapters.h"
#include "address.h"
#include "clock.h"
#include "detail.h"
#include "nap.h"

enum { MOST_ACCEPTED = 16, MOST_EVENTS = 64 };
#define PATIENCE_NS (5 * NORIA_NS_PER_MS)
#define FLUSH_NS NORIA_NS_PER_S

/* What of the handle (struct noria_adapter) is each receiver's own. */
struct outlet {
    uint32_t sender;
    uint64_t sequence;
    uint8_t *frames;
    size_t owed_from, owed_to;
};

struct noria_connection {
    struct noria_end end;
    struct noria_fork_guard guard;
    uint32_t number;
    struct outlet outlet;
    uint64_t message; /* of which so much went here; */
    size_t offset;
    bool receives;    /* it has said so */
    bool has_some;    /* something was sent to it */
    uint8_t heard[NORIA_FRAME_HELLO_BYTES];
    uint32_t heard_bytes;
    struct noria_connection *next;
};

static struct noria_dealer *dealer_of(struct noria_adapter *adapter)
{
    return (struct noria_dealer *)(void *)adapter; /* its socket's adapter is the first member */
}

static struct noria_adapter *adapter_of(struct noria_dealer *dealer)
{
    return &dealer->socket.adapter;
}

static int set_of(struct noria_dealer *dealer)
{
    return dealer->socket.adapter.epolls[NORIA_SIDE_SEND];
}

/* ------------------------------------------------------------------------------------------------------ connections */

static void change_events(struct noria_dealer *dealer, int how, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.fd = fd}};

    epoll_ctl(set_of(dealer), how, fd, &event);
}

/* The listener is not looked at while there is no room; whoever wants to connect waits in it. */
static void rest(struct noria_dealer *dealer)
{
    dealer->socket.rests = true;
    change_events(dealer, EPOLL_CTL_DEL, dealer->socket.listener, 0);
}

static void work_again(struct noria_dealer *dealer)
{
    if (!dealer->socket.rests || dealer->count >= adapter_of(dealer)->options.max_participants)
        return;
    dealer->socket.rests = false;
    change_events(dealer, EPOLL_CTL_ADD, dealer->socket.listener, EPOLLIN);
}

static void free_connection(struct noria_connection *connection)
{
    noria_fork_guard_remove(&connection->guard);
    close(connection->end.fd);
    free(connection->outlet.frames);
    free(connection);
}

/* It has ended, or is not listened to any more. What it had been given is lost with it: that is news. */
static void drop(struct noria_dealer *dealer, struct noria_connection *connection, bool is_stranger)
{
    struct noria_connection **place = &dealer->connections;

    while (*place != connection)
        place = &(*place)->next;
    *place = connection->next;
    dealer->count--;
    dealer->receivers -= connection->receives;
    adapter_of(dealer)->strangers += is_stranger;
    adapter_of(dealer)->owes_news |= connection->has_some;
    change_events(dealer, EPOLL_CTL_DEL, connection->end.fd, 0);
    free_connection(connection);
    work_again(dealer);
}

/* A new one, which owns the descriptor. */
static void take_in(struct noria_dealer *dealer, int fd)
{
    struct noria_connection *connection = calloc(1, sizeof(*connection));

    if (connection != NULL)
        connection->outlet.frames = malloc(NORIA_FRAMES_ROOM);
    if (connection == NULL || connection->outlet.frames == NULL) {
        free(connection);
        close(fd);
        return;
    }
    connection->end = (struct noria_end){.fd = fd, .kind = NORIA_END_SOCKET};
    connection->number = connection->outlet.sender = noria_adapter_choose_number();
    connection->guard.drops = true;
    noria_fork_guard_add(&connection->guard, fd);
    connection->next = dealer->connections;
    dealer->connections = connection;
    dealer->count++;
    noria_socket_tune(&dealer->socket, fd);
    change_events(dealer, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP);
}

/* Whether all of a receiver's greeting has come, and it could be answered. -EAGAIN: not yet; -EBADMSG: it is none. */
static int greet(struct noria_connection *connection)
{
    const struct noria_frame_limits nothing = {0, 0, 0};
    uint8_t answer[NORIA_FRAME_HELLO_BYTES];
    struct iovec piece = {answer, sizeof(answer)};
    struct noria_frame frame;
    int size = noria_frame_parse(connection->heard, connection->heard_bytes, &nothing, &frame);

    if (size <= 0)
        return size == 0 ? -EAGAIN : size;
    if (frame.flags != NORIA_FRAME_HELLO || frame.sequence != NORIA_FRAME_RECEIVER)
        return -EBADMSG;
    noria_frame_greet(connection->number, NORIA_FRAME_SENDER, 0, answer);
    return noria_end_write(&connection->end, &piece, 1) == (ssize_t)sizeof(answer) ? 0 : -EPIPE; /* it was empty */
}

/* Something has come, or there is an end: a receiver says one thing, and nothing after it. false: it was dropped. */
static bool hear(struct noria_dealer *dealer, struct noria_connection *connection)
{
    uint8_t *to = connection->heard + connection->heard_bytes, more;
    size_t room = sizeof(connection->heard) - connection->heard_bytes;
    ssize_t got = connection->receives ? noria_end_read(&connection->end, &more, 1)
                                       : noria_end_read(&connection->end, to, room);
    int rc = got > 0 ? -EBADMSG : -EPIPE;

    if (got == -EAGAIN)
        return true;
    if (got > 0 && !connection->receives) {
        connection->heard_bytes += (uint32_t)got;
        rc = greet(connection);
    }
    if (rc == 0) {
        connection->receives = true;
        dealer->receivers++;
        change_events(dealer, EPOLL_CTL_MOD, connection->end.fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
    }
    if (rc != 0 && rc != -EAGAIN)
        drop(dealer, connection, rc == -EBADMSG);
    return rc == 0 || rc == -EAGAIN;
}

/* Of those that have said nothing yet the oldest one gives way. */
static bool make_room(struct noria_dealer *dealer)
{
    struct noria_connection *silent = NULL, *next;

    if (dealer->count < adapter_of(dealer)->options.max_participants)
        return true;
    for (struct noria_connection *each = dealer->connections; each != NULL; each = next) {
        next = each->next;
        if (!each->receives && hear(dealer, each) && !each->receives)
            silent = each;
    }
    if (dealer->count >= adapter_of(dealer)->options.max_participants && silent != NULL)
        drop(dealer, silent, true);
    return dealer->count < adapter_of(dealer)->options.max_participants;
}

/* Takes in who knocks. */
static void accept_all(struct noria_dealer *dealer)
{
    for (int i = 0; i < MOST_ACCEPTED; i++) {
        int fd = make_room(dealer) ? noria_socket_accept(&dealer->socket) : -EMFILE;
        if (fd == -EMFILE)
            rest(dealer);
        if (fd == -EMFILE || fd == -EAGAIN)
            return;
        if (fd >= 0)
            take_in(dealer, fd);
    }
}

static struct noria_connection *find_by_descriptor(struct noria_dealer *dealer, int fd)
{
    struct noria_connection *found = dealer->connections;

    while (found != NULL && found->end.fd != fd)
        found = found->next;
    return found;
}

static struct noria_connection *find_receiver(struct noria_dealer *dealer, uint32_t number)
{
    struct noria_connection *found = dealer->connections;

    while (found != NULL && found->number != number)
        found = found->next;
    return found;
}

/* ---------------------------------------------------------------------------------------------------------- turns */

static void exchange(struct noria_adapter *adapter, struct outlet *outlet)
{
    struct outlet here = {adapter->sender, adapter->sequences[0], adapter->frames, adapter->owed_from, adapter->owed_to};

    adapter->sender = outlet->sender;
    adapter->sequences[0] = outlet->sequence;
    adapter->frames = outlet->frames;
    adapter->owed_from = outlet->owed_from;
    adapter->owed_to = outlet->owed_to;
    *outlet = here;
}

/* What is put goes to that one, with its numbers. Messages that were dropped by policy since the last turn (count_lost) were
 * nobody's: this one is told. */
static void begin_turn(struct noria_dealer *dealer, struct noria_connection *connection)
{
    struct noria_adapter *adapter = adapter_of(dealer);

    connection->outlet.sequence += adapter->sequences[0];
    adapter->sequences[0] = 0;
    dealer->current = connection;
    exchange(adapter, &connection->outlet);
}

static void end_turn(struct noria_dealer *dealer)
{
    exchange(adapter_of(dealer), &dealer->current->outlet);
    dealer->current = NULL;
}

ssize_t noria_dealing_put(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority)
{
    struct noria_connection *current = dealer_of(adapter)->current;
    ssize_t rc = noria_end_write(&current->end, pieces, n);

    (void)priority;
    current->has_some |= rc > 0;
    return rc;
}

/* Calls that wait do so for that one. */
static void favour(struct noria_dealer *dealer, const struct noria_connection *connection, int64_t until_ns)
{
    dealer->favourite = connection->number;
    dealer->patience_ns = until_ns;
}

static bool owes(const struct noria_connection *connection)
{
    return connection->outlet.owed_from < connection->outlet.owed_to;
}

/* What is owed to it. 0: nothing any more; -EPIPE: it has gone, and was dropped. */
static int pay(struct noria_dealer *dealer, struct noria_connection *connection)
{
    int rc;

    if (!owes(connection))
        return 0;
    begin_turn(dealer, connection);
    rc = noria_adapter_flush(adapter_of(dealer));
    end_turn(dealer);
    if (rc == -EPIPE)
        drop(dealer, connection, false);
    return rc;
}

/* Somebody knocks, says something, ends or has room. Who it is if he is a receiver that has, and to whom nothing is owed. */
static struct noria_connection *attend(struct noria_dealer *dealer, const struct epoll_event *event)
{
    struct noria_connection *who = find_by_descriptor(dealer, event->data.fd);

    if (who == NULL && event->data.fd == dealer->socket.listener)
        accept_all(dealer);
    if (who == NULL || ((event->events & ~(uint32_t)EPOLLOUT) != 0 && !hear(dealer, who)))
        return NULL;
    return (event->events & EPOLLOUT) != 0 && pay(dealer, who) == 0 ? who : NULL;
}

/* The next receiver that has room. -EAGAIN: none has; -EPIPE: one has gone that was given something. */
static int next_in_turn(struct noria_dealer *dealer, struct noria_connection **next)
{
    const struct noria_adapter *adapter = adapter_of(dealer);
    uint32_t most = 2 * dealer->count + MOST_ACCEPTED; /* looks: what is ready and of no use comes again */

    work_again(dealer);
    for (uint32_t looks = 0; looks < most && !adapter->owes_news; looks++) {
        struct epoll_event event;
        if (epoll_wait(set_of(dealer), &event, 1, 0) <= 0)
            return -EAGAIN;
        *next = attend(dealer, &event);
        if (*next != NULL)
            return 0;
    }
    return adapter->owes_news ? -EPIPE : -EAGAIN;
}

/* Whether somebody has, without taking his turn: asked for all at once, the kernel leaves them in their order. */
static bool has_room(struct noria_dealer *dealer)
{
    struct epoll_event events[MOST_EVENTS];
    bool has = false;
    int n;

    work_again(dealer);
    n = epoll_wait(set_of(dealer), events, MOST_EVENTS, 0);
    for (int i = 0; i < n; i++)
        has = attend(dealer, &events[i]) != NULL || has;
    return has;
}

static struct noria_connection *find_owed(struct noria_connection *from)
{
    while (from != NULL && !owes(from))
        from = from->next;
    return from;
}

/* Whatever is owed to any. 0: nothing any more; -EAGAIN. */
static int settle(struct noria_dealer *dealer)
{
    struct noria_connection *next;
    int rc = 0;

    for (struct noria_connection *each = find_owed(dealer->connections); each != NULL; each = find_owed(next)) {
        next = each->next;
        if (pay(dealer, each) == -EAGAIN) {
            favour(dealer, each, noria_now_ns() + PATIENCE_NS);
            rc = -EAGAIN;
        }
    }
    return rc;
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* The call ends with that: what was under way is given up, and news is told once. */
static int tell(struct noria_adapter *adapter, int rc)
{
    if (rc != -EPIPE)
        return rc;
    adapter->owes_news = false;
    adapter->under_way = NULL;
    return rc;
}

/* As much of the message as the receiver takes. 0: all of it; 1: more of it than before; -EAGAIN: nothing. */
static int deal_to(struct noria_dealer *dealer, struct noria_connection *to, struct noria_outgoing *message)
{
    struct noria_adapter *adapter = adapter_of(dealer);
    size_t before = to->message == dealer->messages ? to->offset : 0, elsewhere = message->offset;
    int rc;

    message->offset = before;
    begin_turn(dealer, to);
    rc = noria_adapter_flush(adapter);
    if (rc == 0)
        rc = noria_adapter_put_message(adapter, message);
    end_turn(dealer);
    to->message = dealer->messages;
    to->offset = message->offset;
    if (rc == -EPIPE) {
        adapter->sent -= message->last_is_out; /* not all of it */
        message->last_is_out = false;
        drop(dealer, to, false);
        return adapter->owes_news ? -EPIPE : -EAGAIN;
    }
    if (rc != -EAGAIN)
        return rc;
    if (message->offset == before && !message->last_is_out) {
        message->offset = elsewhere;
        return rc;
    }
    message->receiver = to->number;
    message->patience_ns = noria_now_ns() + PATIENCE_NS;
    favour(dealer, to, message->patience_ns);
    return 1;
}

/* The last frame was begun: the rest of it. */
static int send_rest(struct noria_dealer *dealer, struct noria_outgoing *message)
{
    struct noria_connection *to = find_receiver(dealer, message->receiver);
    int rc;

    if (to == NULL || to->outlet.sequence != message->sequence + 1)
        return 0; /* all of it was out when another thread's was sent, or its receiver went */
    rc = pay(dealer, to);
    if (rc == -EPIPE) {
        adapter_of(dealer)->sent--;
        message->last_is_out = false;
    }
    if (rc == -EAGAIN && noria_now_ns() >= message->patience_ns && has_room(dealer))
        return 0;
    return tell(adapter_of(dealer), rc);
}

int noria_dealing_send(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    struct noria_dealer *dealer = dealer_of(adapter);
    struct noria_connection *to = NULL;
    int rc = -EAGAIN;

    if (message->last_is_out)
        return send_rest(dealer, message);
    if (adapter->under_way != NULL && adapter->under_way != message)
        return -EAGAIN; /* another thread's */
    if (adapter->under_way == NULL) { /* from the beginning */
        dealer->messages++;
        message->receiver = 0;
        message->offset = 0;
    } else {
        to = find_receiver(dealer, message->receiver);
    }
    if (to != NULL)
        rc = deal_to(dealer, to, message);
    if (to == NULL || (rc == -EAGAIN && noria_now_ns() >= message->patience_ns))
        for (uint32_t i = 0; rc == -EAGAIN && i <= dealer->receivers; i++) {
            rc = next_in_turn(dealer, &to);
            if (rc != 0)
                break;
            rc = deal_to(dealer, to, message);
        }
    return rc == 1 ? -EAGAIN : tell(adapter, rc);
}

/* Each put goes to the next one. */
int noria_dealing_send_many(struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    struct noria_dealer *dealer = dealer_of(adapter);
    struct noria_connection *to;
    int sent = 0, rc = 0;

    if (adapter->under_way != NULL)
        return -EAGAIN;
    for (uint32_t vain = 0; sent < n && vain <= dealer->receivers && (rc = next_in_turn(dealer, &to)) == 0;) {
        int before = sent;
        begin_turn(dealer, to);
        rc = noria_adapter_put_batch(adapter, messages + sent, n - sent, &sent);
        end_turn(dealer);
        vain += sent == before;
        if (rc == -EPIPE)
            drop(dealer, to, false);
        else if (rc != 0 && rc != -EAGAIN)
            break;
        rc = -EAGAIN;
    }
    return sent > 0 ? sent : tell(adapter, rc);
}

int noria_dealing_may_send(struct noria_adapter *adapter)
{
    struct noria_dealer *dealer = dealer_of(adapter);

    settle(dealer);
    return adapter->owes_news || has_room(dealer) || adapter->owes_news ? 0 : -EAGAIN; /* a try tells the news */
}

int noria_dealing_settle(struct noria_adapter *adapter)
{
    int rc = settle(dealer_of(adapter));

    return tell(adapter, adapter->owes_news ? -EPIPE : rc);
}

int noria_dealing_favourite(struct noria_adapter *adapter, int64_t *until_ns)
{
    struct noria_dealer *dealer = dealer_of(adapter);
    const struct noria_connection *favourite = NULL;
    int fd = -1;

    if (noria_adapter_lock(adapter, NORIA_SIDE_SEND) != 0)
        return -1;
    if (noria_now_ns() < dealer->patience_ns)
        favourite = find_receiver(dealer, dealer->favourite);
    if (favourite != NULL) {
        fd = favourite->end.fd; /* closed meanwhile, the call sleeps no longer than that moment */
        *until_ns = dealer->patience_ns < *until_ns ? dealer->patience_ns : *until_ns;
    }
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return fd;
}

/* -------------------------------------------------------------------------------------------------------- receiving */

/* The connection stands: says that a receiver is there. */
static int receive_from(struct noria_adapter *adapter)
{
    struct noria_end end = adapter->out;
    uint8_t greeting[NORIA_FRAME_HELLO_BYTES];
    struct iovec piece = {greeting, sizeof(greeting)};

    noria_fork_guard_remove(&adapter->out_guard);
    adapter->out.fd = -1;
    if (adapter->epolls[NORIA_SIDE_RECV] >= 0) /* it was waited at until it stood */
        epoll_ctl(adapter->epolls[NORIA_SIDE_RECV], EPOLL_CTL_DEL, end.fd, NULL);
    if (noria_adapter_add_inlet(adapter, &end) == NULL)
        return -ENOMEM;
    noria_frame_greet(adapter->sender, NORIA_FRAME_RECEIVER, 0, greeting);
    noria_end_write(&end, &piece, 1); /* it is empty; if it has gone already, a read tells */
    noria_adapter_rewatch(adapter, NORIA_SIDE_RECV);
    return 0;
}

int noria_dealing_choose(struct noria_adapter *adapter)
{
    int rc = adapter->inlet == NULL ? noria_socket_attach(adapter) : -EAGAIN;

    if (rc == 0)
        return receive_from(adapter);
    if (adapter->out.fd >= 0)
        noria_adapter_rewatch(adapter, NORIA_SIDE_RECV);
    return rc == -EAGAIN && adapter->inlet == NULL && adapter->seen_sender ? -EPIPE : rc;
}

int noria_dealing_end(struct noria_adapter *adapter)
{
    return adapter->seen_sender ? -EPIPE : -EAGAIN;
}

/* ------------------------------------------------------------------------------------------------------ both sides */

/* Whether the options make sense: 0, -EINVAL with a sentence. */
static int check(const struct noria_adapter *adapter)
{
    const uint32_t both = NORIA_SEND | NORIA_RECV;

    if ((adapter->base.flags & both) == both)
        return noria_fail(-EINVAL, "'%s:%s': who deals does not receive; open a handle for each role",
                          adapter->mechanism->scheme, adapter->rest);
    return 0;
}

static int begin_to_deal(struct noria_dealer *dealer)
{
    struct noria_adapter *adapter = adapter_of(dealer);
    int set = epoll_create1(EPOLL_CLOEXEC), rc;

    if (set < 0)
        return noria_fail(-errno, "no descriptor to wait at: %s", strerror(errno));
    adapter->epolls[NORIA_SIDE_SEND] = set;
    rc = noria_adapter_watch(set, adapter->wake, EPOLLIN);
    return rc == 0 ? noria_adapter_watch(set, dealer->socket.listener, EPOLLIN) : rc;
}

/* What a handle of either side does when it is opened and its name is there. 0, -errno with a sentence. */
static int begin(struct noria_adapter *adapter)
{
    bool muted;

    if ((adapter->base.flags & NORIA_SEND) != 0)
        return begin_to_deal(dealer_of(adapter));
    if ((adapter->base.flags & NORIA_RECV) == 0)
        return 0;
    muted = noria_detail_mute(true);
    noria_dealing_choose(adapter); /* a sender that is there may deal at once; what is wrong the first receive says */
    noria_detail_mute(muted);
    return 0;
}

int noria_socket_open(noria_channel **out, const struct noria_socket_scheme *scheme, const char *rest, int flags,
                      const struct noria_options *options)
{
    bool deals = noria_address_has(rest, "deal");
    struct noria_adapter *adapter;
    struct noria_socket *of;
    int rc = noria_adapter_make(&adapter, deals ? scheme->dealing : scheme->plain,
                                deals ? sizeof(struct noria_dealer) : sizeof(*of), rest, flags, options);

    if (rc != 0)
        return rc;
    of = noria_socket_of(adapter);
    of->listener = -1;
    of->deals = deals;
    adapter->most_fds = deals ? 0 : scheme->most_fds;
    rc = scheme->make_address(of, rest);
    if (rc == 0)
        rc = noria_adapter_shape(adapter, noria_adapter_bound(&adapter->options),
                                 of->type == SOCK_STREAM ? NORIA_MOST_PIECE : NORIA_MOST_PIECE / 2);
    if (rc == 0 && deals)
        rc = check(adapter);
    if (rc == 0)
        rc = scheme->take_role(of, flags);
    if (rc == 0 && deals)
        rc = begin(adapter);
    if (rc == 0) {
        *out = &adapter->base;
        return 0;
    }
    adapter->mechanism->close(adapter, false);
    noria_adapter_free(adapter);
    return rc;
}

/* A sender's set is complete from the beginning. */
int noria_dealing_watch(struct noria_adapter *adapter, enum noria_side side, int epoll)
{
    int rc = 0;

    if (side == NORIA_SIDE_SEND)
        return 0;
    if (adapter->out.fd >= 0)
        rc = noria_adapter_watch(epoll, adapter->out.fd, EPOLLOUT);
    return rc == 0 ? noria_adapter_watch_ends(adapter, side, epoll) : rc;
}

void noria_dealing_stat(struct noria_adapter *adapter, struct noria_stat *stat)
{
    stat->senders += adapter->inlet_count;
    stat->receivers += dealer_of(adapter)->receivers;
    stat->max_participants = adapter->options.max_participants;
}

/* Who has just connected shall know that a sender was there; and what is owed is part of a message that was sent. */
static void take_leave(struct noria_dealer *dealer)
{
    int64_t until_ns = noria_now_ns() + FLUSH_NS;
    struct noria_connection *next;

    noria_rejoin();
    accept_all(dealer);
    for (struct noria_connection *each = dealer->connections; each != NULL; each = next) {
        next = each->next;
        if (!each->receives)
            hear(dealer, each);
    }
    while (settle(dealer) == -EAGAIN && noria_now_ns() < until_ns)
        noria_nap(NORIA_FOREVER);
    noria_leave();
}

void noria_dealing_close(struct noria_adapter *adapter, bool stale)
{
    struct noria_dealer *dealer = dealer_of(adapter);

    if (!stale && adapter->epolls[NORIA_SIDE_SEND] >= 0)
        take_leave(dealer);
    while (dealer->connections != NULL) {
        struct noria_connection *each = dealer->connections;
        dealer->connections = each->next;
        free_connection(each);
    }
    noria_socket_close(adapter, stale);
}
