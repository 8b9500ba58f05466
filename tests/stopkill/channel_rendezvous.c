/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a call on a channel without capacity harms the others: a
 * send says "taken" exactly if somebody has the message, whoever dies or gives up; nothing is received twice; no place in
 * the table of offers is lost; a dead one's offer or wait is nobody's trouble. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <sys/uio.h>

#include <noria/noria.h>

#include "of_channel.h"

enum { MESSAGE = 40, RECHECK_NS = 1000000 };

/* Survivors offer for a moment, and not all for the same one, or two who only send would keep missing each other. The
 * victim is a waiting call whose time is over when it has tried: it begins to wait, gives up, and ends. Who stands still
 * does so within a call that waits long enough to be stopped in it, and not much longer: it has to end at last. */
enum { SHORTEST_NS = 20 * 1000, LONGEST_NS = 160 * 1000, AT_ONCE_NS = 1, STANDS_NS = 60 * 1000 * 1000 };

enum { TRIES = 100 };

struct rendezvous_party {
    noria_channel *channel;
    uint32_t turns;
    /* Of who is in a call while its process is stopped or dies. */
    pthread_t thread;
    unsigned role;
    uint32_t thread_id; /* not 0: about to call */
    uint32_t has_ended;
};
_Static_assert(sizeof(struct rendezvous_party) <= sizeof(((struct party *)0)->handle), "a handle fits its place");

static struct rendezvous_party *party_rendezvous(struct party *me)
{
    return (struct rendezvous_party *)(void *)me->handle;
}

static noria_channel *channel_of(struct party *me)
{
    return party_rendezvous(me)->channel;
}

static int format(void *memory, const struct situation *situation)
{
    struct noria_options options;

    noria_options_init(&options);
    options.capacity = 0;
    options.max_message = MESSAGE;
    options.max_participants = 40;
    options.first_position = situation->first_position;
    return format_channel(memory, &options);
}

/* Without spinning, so that a call that waits comes by the same instructions each time. */
static int join(struct party *me, unsigned roles)
{
    struct noria_options options;

    noria_options_init(&options);
    options.recheck_ns = RECHECK_NS;
    options.most_spins = 0;
    return join_channel(me, &party_rendezvous(me)->channel, roles, &options);
}

static int leave(struct party *me)
{
    return leave_channel(me, channel_of(me));
}

/* Nobody has a message whose receiver died over it: that is as good as not sent. */
static int not_sent(int rc)
{
    return rc == -ETIMEDOUT || rc == -EOWNERDEAD ? -EAGAIN : rc;
}

static int send(struct party *me, const void *data, size_t len)
{
    uint32_t turn = ++party_rendezvous(me)->turns * 2654435761u + me->id * 40503u;

    return not_sent(noria_send(channel_of(me), data, len, SHORTEST_NS + (turn >> 8) % (LONGEST_NS - SHORTEST_NS)));
}

static int receive_for(struct party *me, void *buffer, size_t cap, size_t *len, int64_t timeout_ns)
{
    struct noria_info info;
    ssize_t n = noria_recv(channel_of(me), buffer, cap, timeout_ns, &info);

    if (n < 0)
        return n == -EPIPE || n == -ETIMEDOUT ? -EAGAIN : (int)n;
    *len = (size_t)n;
    return (info.flags & NORIA_REDELIVERED) != 0 || info.lost != 0 ? -EPROTO : 0;
}

static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    *flags = 0;
    return receive_for(me, buffer, cap, len, 0);
}

/* Nothing is kept: "full" is that nobody took it in time. */
static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation, (void)stopped;
    return full;
}

/* ------------------------------------------------------------------------------- to be in a call, and stand still there */

static void run_send_for(struct party *me, int64_t timeout_ns)
{
    me->result = not_sent(noria_send(channel_of(me), me->out[0].data, me->out[0].len, timeout_ns));
    outgoing_is(&me->out[0], me->result);
}

static void run_receive_for(struct party *me, int64_t timeout_ns)
{
    struct incoming *in = &me->in[0];

    me->result = receive_for(me, in->data, sizeof(in->data), &in->len, timeout_ns);
    if (me->result == 0)
        incoming_is(in, RELEASED);
}

/* The first call of a thread has things to find out, and may wait elsewhere. */
static void *stand(void *argument)
{
    struct party *me = argument;
    struct rendezvous_party *mine = party_rendezvous(me);
    struct noria_stat stat;

    noria_stat(mine->channel, &stat);
    __atomic_store_n(&mine->thread_id, (uint32_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    if (mine->role == SENDS)
        run_send_for(me, STANDS_NS);
    else
        run_receive_for(me, STANDS_NS);
    __atomic_store_n(&mine->has_ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static bool sleeps(uint32_t thread_id)
{
    char path[64], state = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%u/stat", thread_id);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    fclose(file);
    return state == 'S';
}

/* An offer can be seen; of a receiver one sees that it sleeps, which it does nowhere else. */
static bool stands(struct party *me)
{
    struct rendezvous_party *mine = party_rendezvous(me);
    uint32_t thread_id = __atomic_load_n(&mine->thread_id, __ATOMIC_SEQ_CST);
    struct noria_stat stat = {0};

    if (thread_id == 0)
        return false;
    noria_stat(mine->channel, &stat);
    return mine->role == SENDS ? stat.messages == 1 : sleeps(thread_id);
}

/* True when it stands; false: that was missed, and it has ended. */
static bool wait_until_it_stands(struct party *me)
{
    while (!stands(me))
        if (__atomic_load_n(&party_rendezvous(me)->has_ended, __ATOMIC_SEQ_CST) != 0)
            return false;
    return true;
}

static int hold(struct party *me, unsigned role)
{
    struct rendezvous_party *mine = party_rendezvous(me);

    for (int i = 0; i < TRIES; i++) {
        mine->role = role;
        mine->thread_id = mine->has_ended = 0;
        if (pthread_create(&mine->thread, NULL, stand, me) != 0)
            return -ENOMEM;
        if (wait_until_it_stands(me))
            return 0;
        pthread_join(mine->thread, NULL);
        outgoing_is(&me->out[0], UNTRIED);
    }
    return -ETIMEDOUT;
}

/* Its time is over by now, or its message was taken. */
static int finish(struct party *me, unsigned role)
{
    (void)role;
    if (pthread_join(party_rendezvous(me)->thread, NULL) != 0)
        return -ESRCH;
    return me->result == -EAGAIN ? 0 : me->result;
}

/* ------------------------------------------------------------------------------------------------------------ operations */

/* Offers only if somebody is known to wait, and then for a moment. */
static void run_send(struct party *me)
{
    run_send_for(me, 0);
}

static void run_send_waiting(struct party *me)
{
    run_send_for(me, AT_ONCE_NS);
}

static void run_receive(struct party *me)
{
    run_receive_for(me, 0);
}

static void run_receive_waiting(struct party *me)
{
    run_receive_for(me, AT_ONCE_NS);
}

static void run_receive_many(struct party *me)
{
    struct iovec buffers[BATCH];
    struct noria_info infos[BATCH];

    for (int i = 0; i < BATCH; i++)
        buffers[i] = (struct iovec){me->in[i].data, sizeof(me->in[i].data)};
    me->result = noria_recv_many(channel_of(me), buffers, BATCH, 0, infos);
    for (int i = 0; i < me->result; i++) {
        me->in[i].len = buffers[i].iov_len;
        incoming_is(&me->in[i], RELEASED);
    }
    if (me->result == -EPIPE)
        me->result = -EAGAIN;
}

static void run_open(struct party *me)
{
    me->result = join(me, SENDS | RECEIVES);
}

static void run_close(struct party *me)
{
    me->result = leave(me);
}

static void run_recover(struct party *me)
{
    me->result = recover_channel(me, me->corpse);
}

static const struct situation situations[] = {
    {.name = "nobody there"},
    {.name = "a stopped sender offers", .still = SENDS, .contended = true, .every_instruction = true},
    {.name = "a dead sender's offer", .dead = SENDS, .brief = true},
    {.name = "a stopped receiver waits", .still = RECEIVES, .brief = true},
    {.name = "a dead receiver's wait", .dead = RECEIVES, .brief = true},
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "send", .role = SENDS | RECEIVES, .sends = 1, .still = RECEIVES, .run = run_send},
    {.name = "send, waiting", .role = SENDS | RECEIVES, .sends = 1, .is_long = true, .run = run_send_waiting},
    {.name = "receive", .role = SENDS | RECEIVES, .receives = 1, .run = run_receive},
    {.name = "receive, waiting", .role = SENDS | RECEIVES, .receives = 1, .is_long = true, .run = run_receive_waiting},
    {.name = "receive many", .role = SENDS | RECEIVES, .receives = BATCH, .is_long = true, .run = run_receive_many},
    {.name = "open", .role = SENDS | RECEIVES, .joins = true, .is_long = true, .stride = 5, .run = run_open},
    {.name = "close", .role = SENDS | RECEIVES, .leaves = true, .is_long = true, .stride = 5, .run = run_close},
    {.name = "recover a sender", .role = SENDS | RECEIVES, .repairs = true, .dead = SENDS, .is_long = true, .stride = 5,
     .run = run_recover},
    {.name = "recover a receiver", .role = SENDS | RECEIVES, .repairs = true, .dead = RECEIVES, .is_long = true,
     .stride = 5, .run = run_recover},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = "noria channel rendezvous",
    .joins_each_time = true,
    .redelivers = true, /* nothing is lost: a receiver has all of a message before its sender hears that it was taken */
    .recovers = true,
    .max_message = MESSAGE,
    .patience_ms = 300,
    .segment = "/dev/shm/noria-stopkill",
    .situations = situations,
    .operations = operations,
    .format = format,
    .remove = remove_channel,
    .join = join,
    .leave = leave,
    .send = send,
    .receive = receive,
    .recover = recover_channel,
    .hold = hold,
    .finish = finish,
    .room = room,
};
