/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a call on a channel (built once per kind, KIND)
 * harms the others: nothing lost, nothing back after its release, no capacity gone, a dead one's place taken
 * without a restart. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <sys/uio.h>

#include <noria/noria.h>

#include "contestant.h"

enum { CAPACITY = 8, MESSAGE = 40, ADDRESS = 64 };
enum { IS_SPSC = (int)KIND == (int)NORIA_KIND_SPSC };
/* What a sender and a receiver are joined as: with one partner each role is one party's. */
enum { SENDER = IS_SPSC ? SENDS : SENDS | RECEIVES, RECEIVER = IS_SPSC ? RECEIVES : SENDS | RECEIVES };

struct channel_party {
    noria_channel *channel;
    struct noria_span reserved, peeked;
};

static struct channel_party *party_channel(struct party *me)
{
    return (struct channel_party *)(void *)me->handle;
}

static noria_channel *channel_of(struct party *me)
{
    return party_channel(me)->channel;
}

/* The ring's memory in the arena holds the address; the channel has a segment of its own. */
static int format(void *memory, const struct situation *situation)
{
    struct noria_options options;
    noria_channel *channel;
    int rc;

    snprintf(memory, ADDRESS, "shm:/noria-stopkill-%d", (int)getpid());
    noria_options_init(&options);
    options.kind = KIND;
    options.capacity = CAPACITY;
    options.max_message = MESSAGE;
    options.max_held = IS_SPSC ? BATCH : 1;
    options.max_participants = 40; /* a victim that recovers has two handles */
    options.first_position = situation->first_position;
    options.recheck_ns = 1000000;
    noria_unlink(memory);
    rc = noria_open(&channel, memory, NORIA_CREATE | NORIA_EXCL, &options);
    if (rc == 0)
        rc = noria_close(channel);
    return rc == 0 ? ADDRESS : rc;
}

static void remove_ring(void *memory)
{
    noria_unlink(memory);
}

static int join(struct party *me, unsigned roles)
{
    int flags = ((roles & SENDS) != 0 ? NORIA_SEND : 0) | ((roles & RECEIVES) != 0 ? NORIA_RECV : 0);
    int rc = noria_open(&party_channel(me)->channel, me->memory, flags, NULL);

    if (rc == 0)
        me->roles |= roles;
    return rc;
}

static int leave(struct party *me)
{
    int rc = noria_close(channel_of(me));

    me->roles = 0;
    return rc;
}

static int send(struct party *me, const void *data, size_t len)
{
    return noria_send(channel_of(me), data, len, 0);
}

static uint32_t flags_of(const struct noria_info *info)
{
    return (info->flags & NORIA_REDELIVERED) != 0 ? REDELIVERED : 0;
}

static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    struct noria_info info;
    ssize_t n = noria_recv(channel_of(me), buffer, cap, 0, &info);

    if (n < 0)
        return n == -EPIPE ? -EAGAIN : (int)n; /* no sender is left: empty all the same */
    *len = (size_t)n;
    *flags = flags_of(&info);
    return 0;
}

/* A newcomer looks for the dead first. (How soon those present notice by themselves is another test's
 * question.) */
static int recover(struct party *me, const struct party *dead)
{
    noria_channel *observer;
    int rc = noria_open(&observer, me->memory, 0, NULL);

    (void)dead;
    return rc == 0 ? noria_close(observer) : rc;
}

static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation;
    (void)stopped;
    return IS_SPSC ? CAPACITY : full;
}

static int hold(struct party *me, unsigned role)
{
    struct channel_party *mine = party_channel(me);
    struct noria_info info;
    int rc;

    if (role == SENDS) {
        rc = noria_reserve(mine->channel, me->out[0].len, &mine->reserved, 0);
        if (rc == 0)
            memcpy(mine->reserved.data, me->out[0].data, me->out[0].len);
        return rc;
    }
    rc = noria_peek(mine->channel, &mine->peeked, 0, &info);
    if (rc != 0)
        return rc == -EPIPE ? -EAGAIN : rc;
    me->in[0].len = mine->peeked.len;
    me->in[0].flags = flags_of(&info);
    memcpy(me->in[0].data, mine->peeked.data, mine->peeked.len);
    incoming_is(&me->in[0], SEEN);
    return 0;
}

static int finish(struct party *me, unsigned role)
{
    struct channel_party *mine = party_channel(me);
    int rc;

    if (role == SENDS) {
        rc = noria_commit(mine->channel, &mine->reserved, me->out[0].len, 0);
        outgoing_is(&me->out[0], rc);
        return rc;
    }
    memcpy(me->in[0].data, mine->peeked.data, mine->peeked.len); /* still the same bytes? */
    incoming_is(&me->in[0], RELEASING);
    rc = noria_release(mine->channel, &mine->peeked);
    if (rc == 0)
        incoming_is(&me->in[0], RELEASED);
    return rc;
}

/* ------------------------------------------------------------------------------------ operations */

static void run_send(struct party *me)
{
    me->result = send(me, me->out[0].data, me->out[0].len);
    outgoing_is(&me->out[0], me->result);
}

static void run_receive(struct party *me)
{
    struct incoming *in = &me->in[0];

    me->result = receive(me, in->data, sizeof(in->data), &in->len, &in->flags);
    if (me->result == 0)
        incoming_is(in, RELEASED);
}

static void run_reserve_commit(struct party *me)
{
    me->result = hold(me, SENDS);
    if (me->result != 0) {
        outgoing_is(&me->out[0], me->result);
        return;
    }
    me->result = finish(me, SENDS);
    if (me->result == -EAGAIN)
        me->result = -EPROTO; /* a reservation must not find the ring full */
}

static void run_reserve_abort(struct party *me)
{
    me->result = hold(me, SENDS);
    if (me->result == 0)
        me->result = noria_abort(channel_of(me), &party_channel(me)->reserved);
    outgoing_is(&me->out[0], -ECANCELED);
}

static void run_peek_release(struct party *me)
{
    me->result = hold(me, RECEIVES);
    if (me->result == 0)
        me->result = finish(me, RECEIVES);
}

static void run_send_many(struct party *me)
{
    struct iovec messages[BATCH];

    for (int i = 0; i < BATCH; i++)
        messages[i] = (struct iovec){me->out[i].data, me->out[i].len};
    me->result = noria_send_many(channel_of(me), messages, BATCH, 0);
    for (int i = 0; i < BATCH; i++)
        outgoing_is(&me->out[i], i < me->result ? 0 : -EAGAIN);
}

static void run_receive_many(struct party *me)
{
    struct iovec buffers[BATCH];

    for (int i = 0; i < BATCH; i++)
        buffers[i] = (struct iovec){me->in[i].data, sizeof(me->in[i].data)};
    me->result = noria_recv_many(channel_of(me), buffers, BATCH, 0, NULL);
    for (int i = 0; i < me->result; i++) {
        me->in[i].len = buffers[i].iov_len;
        me->in[i].flags = FLAG_UNKNOWN;
        incoming_is(&me->in[i], RELEASED);
    }
    if (me->result == -EPIPE)
        me->result = -EAGAIN;
}

static void run_open_sender(struct party *me)
{
    me->result = join(me, SENDER);
}

static void run_open_receiver(struct party *me)
{
    me->result = join(me, RECEIVER);
}

static void run_close(struct party *me)
{
    me->result = leave(me);
}

static void run_recover(struct party *me)
{
    me->result = recover(me, me->corpse);
}

static const struct situation situations[] = {
    {.name = "two messages", .fill = 2, .contended = true, .every_instruction = true},
    {.name = "empty", .fill = 0},
    {.name = "one below full", .fill = ONE_BELOW_FULL},
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "send", .role = SENDER, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVER, .receives = 1, .run = run_receive},
    {.name = "reserve, commit", .role = SENDER, .sends = 1, .run = run_reserve_commit},
    {.name = "reserve, abort", .role = SENDER, .sends = 1, .run = run_reserve_abort},
    {.name = "peek, release", .role = RECEIVER, .receives = 1, .run = run_peek_release},
    {.name = "send many", .role = SENDER, .sends = BATCH, .run = run_send_many},
    {.name = "receive many", .role = RECEIVER, .receives = BATCH, .run = run_receive_many},
    {.name = "open as sender", .role = SENDER, .joins = true, .is_long = true, .run = run_open_sender},
    {.name = "open as receiver", .role = RECEIVER, .joins = true, .is_long = true, .run = run_open_receiver},
    {.name = "close as sender", .role = SENDER, .leaves = true, .is_long = true, .run = run_close},
    {.name = "close as receiver", .role = RECEIVER, .leaves = true, .is_long = true, .run = run_close},
    {.name = "recover a sender",
     .role = SENDER,
     .repairs = true,
     .dead = SENDS,
     .is_long = true,
     .run = run_recover},
    {.name = "recover a receiver",
     .role = RECEIVER,
     .repairs = true,
     .dead = RECEIVES,
     .is_long = true,
     .run = run_recover},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = IS_SPSC ? "noria channel spsc" : "noria channel mpmc",
    .one_partner = IS_SPSC,
    .joins_each_time = true,
    .redelivers = true,
    .recovers = true,
    .full_slack = IS_SPSC ? 2 : 0,
    .max_message = MESSAGE,
    .patience_ms = 300,
    .segment = "/dev/shm/noria-stopkill",
    .situations = situations,
    .operations = operations,
    .format = format,
    .remove = remove_ring,
    .join = join,
    .leave = leave,
    .send = send,
    .receive = receive,
    .recover = recover,
    .hold = hold,
    .finish = finish,
    .room = room,
};
