/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a call on a channel (built once per KIND, FULL,
 * number of LEVELS and EVICT_NS) harms the others: nothing lost, nothing back after its release, no capacity
 * gone, a dead one's place taken without a restart. In a broadcast everybody gets the same stream, or is told
 * exactly what it missed; only where the sender blocks, and may not evict, a stopped receiver holds it up, in
 * bounded calls. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/uio.h>
#include <sys/wait.h>

#include <noria/noria.h>

#include "inside.h"
#include "of_channel.h"

#ifndef MAX_BYTES
#define MAX_BYTES 0 /* else the channel grows; then it has no zero copy */
#endif

enum { CAPACITY = MAX_BYTES != 0 ? 2 : 8, MESSAGE = 40, RECHECK_NS = 1000000, LONG_ENOUGH_NS = 20000000 };
#ifndef LEVELS
#define LEVELS 1
#endif
#ifndef EVICT_NS
#define EVICT_NS 0
#endif
enum { IS_SPSC = (int)KIND == (int)NORIA_KIND_SPSC, IS_CAST = (int)KIND == (int)NORIA_KIND_BROADCAST };
enum { IS_LOSSY = IS_CAST && (int)FULL == (int)NORIA_FULL_OVERWRITE_OLDEST, EVICTS = EVICT_NS != 0 };
enum { OVERTAKES = IS_LOSSY || EVICTS, ONE_PARTNER = IS_SPSC || IS_CAST };
enum { OVERWRITES = !IS_CAST && (int)FULL == (int)NORIA_FULL_OVERWRITE_OLDEST };
/* With OVERWRITES survivors, who want to lose nothing, send only while there is more than this free: each may
 * be about to. Only the operation under test overwrites. */
enum { MARGIN = 2 };
/* What a sender and a receiver are joined as: with one partner each role is one party's. */
enum {
    SENDER = ONE_PARTNER ? SENDS : SENDS | RECEIVES,
    RECEIVER = ONE_PARTNER ? RECEIVES : SENDS | RECEIVES
};
/* A chunk of the broadcast ring and a pad, in messages: how much less may fit at one position than at
 * another. */
enum { CAST_SLACK = 6 };

/* How far a send had come with making room when its sender died: the oldest message is taken; the log says that it is
 * being dropped; its slot is free, and the log still open. The loss counts only then. */
enum drop_stage { NOT_YET, TOOK, LOGGED, FREED, COUNTED, LONGEST_SEND = 1 << 14 /* instructions */ };

enum { HAS_LEVELS = LEVELS > 1, GROWS = MAX_BYTES != 0 };
enum { TWO_LINKS = 3 /* messages, where two fill the first link */ };

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

static struct noria_options options_of(const struct situation *situation)
{
    struct noria_options options;

    noria_options_init(&options);
    options.kind = KIND;
    options.full = FULL;
    options.priorities = LEVELS;
    options.capacity = CAPACITY;
    options.max_message = MESSAGE;
    options.evict_ns = EVICT_NS;
    options.max_held = IS_SPSC || (IS_CAST && !OVERTAKES) ? BATCH : 1;
    options.max_participants = GROWS ? 41 : 40; /* a victim that recovers has two handles */
    options.max_bytes = MAX_BYTES;
    options.first_position = situation->first_position;
    return options;
}

/* Instructions of a send that grows, and of a receive. */
static long length_of_growing, length_of_receiving;
/* Instructions of a send to a full channel, until it has come so far. */
static long drop_instruction[COUNTED];
/* How many receives find a channel that had two links empty before one shrinks it. */
static int looks_before_shrinking;
enum { MANY_LOOKS = 100 };

static void send_anything(void *channel)
{
    noria_send(channel, "anything", 8, 0);
}

static void receive_anything(void *channel)
{
    char bytes[MESSAGE];

    noria_recv(channel, bytes, sizeof(bytes), 0, NULL);
}

static uint64_t footprint_of(noria_channel *channel)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    return stat.footprint;
}

/* The one that puts the small link behind again: it can be told by the memory. */
static int count_looks_before_shrinking(noria_channel *channel)
{
    uint64_t before;
    int looks = -1;

    do {
        before = footprint_of(channel);
        receive_anything(channel);
    } while (++looks < MANY_LOOKS && footprint_of(channel) <= before);
    return looks;
}

/* A drop's log cannot be seen: open, with the slot taken, is TOOK as well. */
static enum drop_stage drop_stage_of(noria_channel *channel)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    if (stat.lost != 0)
        return COUNTED;
    if (stat.held != 0)
        return TOOK;
    return stat.messages == CAPACITY ? NOT_YET : FREED;
}

/* In a process of its own: what a send to a full channel has done that is left at this instruction. */
static enum drop_stage drop_stage_at(long instruction)
{
    struct noria_options options = options_of(&(struct situation){.name = "full"});
    noria_channel *channel;
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (noria_open(&channel, "anon:", NORIA_SEND | NORIA_RECV | NORIA_CREATE, &options) != 0)
            _exit(COUNTED);
        for (int i = 0; i < CAPACITY; i++)
            send_anything(channel);
        call_left_inside(send_anything, channel, instruction);
        _exit((int)drop_stage_of(channel));
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : COUNTED;
}

/* The instruction after which a send has reached the stage. The release is the one that frees the slot, so the log was open
 * just before. */
static long instruction_of(enum drop_stage stage)
{
    long before = 0, reached = LONGEST_SEND;
    enum drop_stage seen = stage == LOGGED ? FREED : stage;

    while (reached - before > 1) {
        long middle = (before + reached) / 2;
        if (drop_stage_at(middle) >= seen)
            reached = middle;
        else
            before = middle;
    }
    return stage == LOGGED ? before : reached;
}

/* On a channel of its own. */
static int measure_calls(const struct situation *situation)
{
    struct noria_options options = options_of(situation);
    noria_channel *channel;
    int rc = noria_open(&channel, "anon:", NORIA_SEND | NORIA_RECV | NORIA_CREATE, &options);

    if (rc != 0)
        return rc;
    for (int i = 0; i < CAPACITY; i++)
        send_anything(channel);
    length_of_growing = call_length(send_anything, channel);
    receive_anything(channel); /* the first has things to find out */
    length_of_receiving = call_length(receive_anything, channel);
    receive_anything(channel); /* the last */
    looks_before_shrinking = count_looks_before_shrinking(channel);
    rc = noria_close(channel);
    return rc == 0 && looks_before_shrinking == MANY_LOOKS ? -EPROTO : rc;
}

static int format(void *memory, const struct situation *situation)
{
    struct noria_options options = options_of(situation);
    int rc = GROWS && length_of_growing == 0 ? measure_calls(situation) : 0;

    if (rc != 0)
        return rc;
    for (enum drop_stage stage = TOOK; OVERWRITES && stage < COUNTED && drop_instruction[FREED] == 0; stage++)
        drop_instruction[stage] = instruction_of(stage);
    return format_channel(memory, &options);
}

static int join(struct party *me, unsigned roles)
{
    struct noria_options options;

    noria_options_init(&options);
    options.start = NORIA_START_OLDEST; /* heeded by a broadcast only */
    options.recheck_ns = RECHECK_NS;
    return join_channel(me, &party_channel(me)->channel, roles, &options);
}

static int leave(struct party *me)
{
    return leave_channel(me, channel_of(me));
}

/* One level per party, so that the order of its messages is that of the level; the victim shares a
 * survivor's. */
static unsigned level_of(const struct party *me)
{
    return me->id % LEVELS;
}

static bool has_room(noria_channel *channel)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    return stat.messages >= 0 && stat.messages < CAPACITY - MARGIN;
}

static uint64_t lost(const void *memory)
{
    struct noria_stat stat = {0};
    noria_channel *observer;

    if (noria_open(&observer, memory, 0, NULL) != 0)
        return UINT64_MAX;
    noria_stat(observer, &stat);
    noria_close(observer);
    return stat.lost;
}

static int send(struct party *me, const void *data, size_t len)
{
    bool fills_up = me->depth != 0; /* about to overwrite */

    if (OVERWRITES && !fills_up && !has_room(channel_of(me)))
        return -EAGAIN;
    return noria_send_prio(channel_of(me), data, len, level_of(me), 0);
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
    me->place = info.sequence;
    me->lost = info.lost;
    return 0;
}

static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation;
    if (GROWS && stopped != 0)
        return CAPACITY; /* it may keep the one link that it is in, or builds */
    return IS_LOSSY ? 0 : full;
}

static int leave_inside(struct party *me, unsigned role);
static int leave_inside_a_drop(struct party *me);

static int hold(struct party *me, unsigned role)
{
    struct channel_party *mine = party_channel(me);
    struct noria_info info;
    int rc;

    if (GROWS)
        return leave_inside(me, role);
    if (me->depth != 0)
        return leave_inside_a_drop(me);
    if (role == SENDS) {
        rc = noria_reserve(mine->channel, me->out[0].len, &mine->reserved, 0);
        if (rc == 0)
            memcpy(mine->reserved.data, me->out[0].data, me->out[0].len);
        return rc;
    }
    if (OVERTAKES)
        return -EAGAIN; /* nothing can be held in place */
    rc = noria_peek(mine->channel, &mine->peeked, 0, &info);
    if (rc != 0)
        return rc == -EPIPE ? -EAGAIN : rc;
    me->in[0].len = mine->peeked.len;
    me->in[0].flags = flags_of(&info);
    me->in[0].place = info.sequence;
    me->in[0].lost = info.lost;
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
    me->result = noria_send_prio(channel_of(me), me->out[0].data, me->out[0].len, level_of(me), 0);
    outgoing_is(&me->out[0], me->result);
}

static void run_receive(struct party *me)
{
    struct incoming *in = &me->in[0];

    me->result = receive(me, in->data, sizeof(in->data), &in->len, &in->flags);
    in->place = me->place;
    in->lost = me->lost;
    if (me->result == 0)
        incoming_is(in, RELEASED);
}

static void send_of(void *me)
{
    run_send(me);
}

static void receive_of(void *me)
{
    run_receive(me);
}

static int leave_inside(struct party *me, unsigned role)
{
    long length = role == SENDS ? length_of_growing : length_of_receiving;

    /* One that was through before would be no corpse of the kind that is wanted. */
    return call_left_inside(role == SENDS ? send_of : receive_of, me, length * me->depth / 100) ? 0 : -EPROTO;
}

/* The message it would make room for is certainly not sent. */
static int leave_inside_a_drop(struct party *me)
{
    enum drop_stage stage = (enum drop_stage)me->depth;
    int rc = 0;

    for (int i = 0; i < CAPACITY && rc == 0; i++)
        rc = ledger_send(me, me->out[0].len);
    if (rc != 0 || !call_left_inside(send_anything, channel_of(me), drop_instruction[stage]))
        return rc != 0 ? rc : -EPROTO;
    outgoing_is(&me->out[0], -ECANCELED);
    return drop_stage_of(channel_of(me)) == (stage == LOGGED ? TOOK : stage) ? 0 : -EPROTO;
}

/* What survivors leave free. The message under test comes after these. */
static int fill_margin(struct party *me)
{
    int rc = 0;

    arena->books.next_sequence[me->id] = me->out[0].sequence;
    me->depth = 1;
    for (int i = 0; i < MARGIN && rc == 0; i++)
        rc = ledger_send(me, me->out[0].len);
    me->depth = 0;
    ledger_prepare(me, 1, 0);
    return rc;
}

/* Receives all, and looks on until the next look is to shrink the channel. An earlier victim may have done it. */
static int drain_and_look(struct party *me)
{
    for (int i = 0; i < TWO_LINKS; i++) {
        struct incoming *in = &me->in[i];
        int rc = receive(me, in->data, sizeof(in->data), &in->len, &in->flags);
        if (rc == 0)
            incoming_is(in, RELEASED);
        else if (rc != -EAGAIN)
            return rc;
    }
    for (int i = 0; i < looks_before_shrinking; i++)
        receive_anything(channel_of(me));
    return 0;
}

static void run_receive_and_shrink(struct party *me)
{
    struct incoming *in = &me->in[TWO_LINKS];

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
    struct noria_info infos[BATCH];

    for (int i = 0; i < BATCH; i++)
        buffers[i] = (struct iovec){me->in[i].data, sizeof(me->in[i].data)};
    me->result = noria_recv_many(channel_of(me), buffers, BATCH, 0, infos);
    for (int i = 0; i < me->result; i++) {
        me->in[i].len = buffers[i].iov_len;
        me->in[i].flags = flags_of(&infos[i]);
        me->in[i].place = IS_CAST ? infos[i].sequence : 0;
        me->in[i].lost = IS_CAST ? infos[i].lost : 0;
        incoming_is(&me->in[i], RELEASED);
    }
    if (me->result == -EPIPE)
        me->result = -EAGAIN;
}

static int64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The receiver that stands still has held us up for long enough when the call under test begins. Unless an
 * earlier victim has evicted it: then the message is sent by now. */
static int be_held_up(struct party *me)
{
    int rc = noria_send(channel_of(me), me->out[0].data, me->out[0].len, 0);
    int64_t start = nanoseconds();

    if (rc == 0)
        outgoing_is(&me->out[0], 0);
    while (nanoseconds() - start < 2 * EVICT_NS)
        continue;
    return rc == -EAGAIN ? 0 : rc;
}

/* The eviction is part of it, so it succeeds. */
static void run_evicting_send(struct party *me)
{
    me->result = 0;
    if (me->out[0].result == UNTRIED)
        run_send(me);
    if (me->result == -EAGAIN)
        me->result = -EPROTO;
}

/* A sender of its own, that dies with a reservation. Whoever opens after that cleans up after it. */
static int let_a_sender_die(struct party *me)
{
    noria_channel *channel;
    struct noria_span span;
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (noria_open(&channel, me->memory, NORIA_SEND, NULL) == 0 && noria_reserve(channel, 8, &span, 0) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) ? 0 : -EPROTO;
}

/* A receiver that has nothing left to receive, and has not got on for long enough to ask after the others in the call under
 * test. It finds its sender dead; a lossy one opens its page for that. */
static int be_left_by_a_sender(struct party *me)
{
    int rc = join(me, RECEIVER);

    if (rc == 0)
        rc = let_a_sender_die(me);
    while (rc == 0)
        rc = ledger_receive(me);
    nanosleep(&(struct timespec){0, LONG_ENOUGH_NS}, NULL);
    return rc == -EAGAIN ? 0 : rc;
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
    me->result = recover_channel(me, me->corpse);
}

static const struct situation situations[] = {
    {.name = "two messages", .fill = 2, .contended = true, .every_instruction = true},
    {.name = "empty", .fill = 0},
    {.name = "one below full", .fill = ONE_BELOW_FULL},
    {.name = NULL},
};

static const struct situation overwriting_situations[] = {
    {.name = "full", .fill = COMPLETELY_FULL, .contended = true, .every_instruction = true},
    {.name = "full, a receiver stopped", .fill = COMPLETELY_FULL, .still = RECEIVES},
    {.name = "full, a receiver dead", .fill = COMPLETELY_FULL, .dead = RECEIVES},
    {.name = "empty", .fill = 0},
    {.name = NULL},
};

/* Two fill the first link: a send has to grow, a batch received goes over the end of a link and retires it. */
static const struct situation growing[] = {
    {.name = "the first link full", .fill = 2},
    {.name = "two links", .fill = TWO_LINKS},
    {.name = "empty", .fill = 0},
    {.name = NULL},
};

/* Dead inside of a call, for there is no zero copy: before the new link has its memory, while it is made, when it is about to
 * take the message; in the middle of a receive. */
#define RECOVERY(of, who, percent) \
    {.name = of, .role = who == SENDS ? SENDER : RECEIVER, .repairs = true, .dead = who, .depth = percent, \
     .fill = CAPACITY, .stride = 61, .is_long = true, .run = run_recover}
static const struct operation growing_operations[] = {
    {.name = "send", .role = SENDER, .sends = 1, .is_long = true, .run = run_send},
    {.name = "receive", .role = RECEIVER, .receives = 1, .is_long = true, .run = run_receive},
    {.name = "send many", .role = SENDER, .sends = BATCH, .is_long = true, .run = run_send_many},
    {.name = "receive many", .role = RECEIVER, .receives = BATCH, .is_long = true, .run = run_receive_many},
    {.name = "receive, shrinking", .role = RECEIVER, .receives = BATCH, .fill = TWO_LINKS, .is_long = true,
     .every_turn = true, .prepare = drain_and_look, .run = run_receive_and_shrink},
    {.name = "open as sender", .role = SENDER, .joins = true, .is_long = true, .run = run_open_sender},
    {.name = "open as receiver", .role = RECEIVER, .joins = true, .is_long = true, .run = run_open_receiver},
    {.name = "close as sender", .role = SENDER, .leaves = true, .is_long = true, .run = run_close},
    {.name = "close as receiver", .role = RECEIVER, .leaves = true, .is_long = true, .run = run_close},
    RECOVERY("recover one who began to grow", SENDS, 9),
    RECOVERY("recover one who was growing", SENDS, 50),
    RECOVERY("recover one who had grown", SENDS, 97),
    RECOVERY("recover a receiver", RECEIVES, 50),
    {.name = NULL},
};

/* Its loss must be counted once by whoever finishes it, however many begin to and die; before the log there is none. */
#define DROP_RECOVERY(of, stage) \
    {.name = of, .role = SENDER, .repairs = true, .dead = SENDS, .depth = stage, .fill = COMPLETELY_FULL, .stride = 5, \
     .is_long = true, .run = run_recover}

/* With MARGIN free the last two of the batch overwrite. */
static const struct operation overwriting_operations[] = {
    {.name = "send, overwriting", .role = SENDER, .sends = 1, .fill = COMPLETELY_FULL, .prepare = fill_margin, .run = run_send},
    {.name = "send many, overwriting", .role = SENDER, .sends = BATCH, .run = run_send_many},
    {.name = "receive", .role = RECEIVER, .receives = 1, .run = run_receive},
    {.name = "peek, release", .role = RECEIVER, .receives = 1, .run = run_peek_release},
    {.name = "close as sender", .role = SENDER, .leaves = true, .is_long = true, .run = run_close},
    DROP_RECOVERY("recover one who took the oldest", TOOK),
    DROP_RECOVERY("recover one who logged a drop", LOGGED),
    DROP_RECOVERY("recover one who freed its slot", FREED),
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "reserve, commit", .role = SENDER, .sends = 1, .run = run_reserve_commit},
    {.name = "reserve, abort", .role = SENDER, .sends = 1, .run = run_reserve_abort},
    {.name = "peek, release", .role = RECEIVER, .receives = 1, .run = run_peek_release},
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
    {.name = "send", .role = SENDER, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVER, .receives = 1, .run = run_receive},
    {.name = "send many", .role = SENDER, .sends = BATCH, .run = run_send_many},
    {.name = "receive many", .role = RECEIVER, .receives = BATCH, .run = run_receive_many},
    {.name = "open as sender", .role = SENDER, .joins = true, .is_long = true, .run = run_open_sender},
    {.name = "open as receiver", .role = RECEIVER, .joins = true, .is_long = true, .run = run_open_receiver},
    {.name = "close as sender", .role = SENDER, .leaves = true, .is_long = true, .run = run_close},
    {.name = "close as receiver", .role = RECEIVER, .leaves = true, .is_long = true, .run = run_close},
    {.name = NULL},
};

/* What is sent without a level goes at the lowest, out of the order of its sender's others. */
static const struct operation operations_of_levels[] = {
    {.name = "send", .role = SENDER, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVER, .receives = 1, .run = run_receive},
    {.name = "peek, release", .role = RECEIVER, .receives = 1, .run = run_peek_release},
    {.name = "receive many", .role = RECEIVER, .receives = BATCH, .run = run_receive_many},
    {.name = "open as sender", .role = SENDER, .joins = true, .is_long = true, .run = run_open_sender},
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

static const struct situation broadcast_situations[] = {
    {.name = "two messages", .fill = 2, .contended = true, .every_instruction = true, .brief = true},
    {.name = "end of a lap", .earlier = COMPLETELY_FULL},
    {.name = "one below full", .fill = ONE_BELOW_FULL, .first_position = UINT64_MAX - 500, .brief = true},
    {.name = NULL},
};

static const struct situation overtaking_situations[] = {
    {.name = "two messages", .fill = 2, .contended = true, .every_instruction = true, .brief = true},
    {.name = "a receiver stopped", .still = RECEIVES, .earlier = COMPLETELY_FULL},
    {.name = "full, positions wrap",
     .fill = COMPLETELY_FULL,
     .first_position = UINT64_MAX - 500,
     .brief = true},
    {.name = NULL},
};

static const struct operation broadcast_operations[] = {
    {.name = "send", .role = SENDS, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVES, .receives = 1, .run = run_receive},
    {.name = "reserve, commit", .role = SENDS, .sends = 1, .run = run_reserve_commit},
    {.name = "reserve, abort", .role = SENDS, .sends = 1, .run = run_reserve_abort},
    {.name = "peek, release", .role = RECEIVES, .receives = 1, .run = run_peek_release},
    {.name = "send many", .role = SENDS, .sends = BATCH, .is_long = true, .run = run_send_many},
    {.name = "receive many", .role = RECEIVES, .receives = BATCH, .is_long = true, .run = run_receive_many},
    {.name = "open as sender", .role = SENDS, .joins = true, .is_long = true, .run = run_open_sender},
    {.name = "succeed a dead sender",
     .role = SENDS,
     .joins = true,
     .repairs = true,
     .dead = SENDS,
     .is_long = true,
     .run = run_open_sender},
    {.name = "open as receiver", .role = RECEIVES, .joins = true, .is_long = true, .run = run_open_receiver},
    {.name = "close as sender", .role = SENDS, .leaves = true, .is_long = true, .run = run_close},
    {.name = "close as receiver", .role = RECEIVES, .leaves = true, .is_long = true, .run = run_close},
    {.name = "recover a sender",
     .role = SENDS,
     .repairs = true,
     .dead = SENDS,
     .is_long = true,
     .run = run_recover},
    {.name = "recover a receiver",
     .role = RECEIVES,
     .repairs = true,
     .dead = RECEIVES,
     .is_long = true,
     .run = run_recover},
    {.name = NULL},
};

/* What is the same where receivers are overtaken is tried in the other. */
static const struct operation overtaking_operations[] = {
    {.name = "send", .role = SENDS, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVES, .receives = 1, .run = run_receive},
    {.name = "send many", .role = SENDS, .sends = BATCH, .is_long = true, .run = run_send_many},
    {.name = "receive many", .role = RECEIVES, .receives = BATCH, .is_long = true, .run = run_receive_many},
    {.name = "succeed a dead sender",
     .role = SENDS,
     .joins = true,
     .repairs = true,
     .dead = SENDS,
     .is_long = true,
     .run = run_open_sender},
    {.name = "open as receiver", .role = RECEIVES, .joins = true, .is_long = true, .run = run_open_receiver},
    {.name = "close as receiver", .role = RECEIVES, .leaves = true, .is_long = true, .run = run_close},
    {.name = "recover a sender",
     .role = SENDS,
     .repairs = true,
     .dead = SENDS,
     .is_long = true,
     .run = run_recover},
    {.name = "receive, its sender dead",
     .role = SENDS,
     .receives = 1,
     .joins = true,
     .is_long = true,
     .prepare = be_left_by_a_sender,
     .run = run_receive},
    {.name = "recover a receiver",
     .role = RECEIVES,
     .repairs = true,
     .dead = RECEIVES,
     .is_long = true,
     .run = run_recover},
    {.name = EVICTS ? "send, evicting" : NULL, /* the last, or it would end the table */
     .role = SENDS,
     .sends = 1,
     .still = RECEIVES,
     .prepare = be_held_up,
     .run = run_evicting_send},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = GROWS        ? "noria channel unbounded"
            : IS_LOSSY   ? "noria channel broadcast, lossy"
            : EVICTS     ? "noria channel broadcast, evicting"
            : IS_CAST    ? "noria channel broadcast"
            : IS_SPSC    ? "noria channel spsc"
            : OVERWRITES ? "noria channel overwrite"
            : HAS_LEVELS ? "noria channel priorities"
                         : "noria channel mpmc",
    .one_partner = ONE_PARTNER,
    .broadcasts = IS_CAST,
    .overtakes = OVERTAKES,
    .shares_code = OVERWRITES || HAS_LEVELS || EVICTS || IS_LOSSY, /* with mpmc, or with broadcast */
    .joins_each_time = true,
    .dies_inside = GROWS,
    .redelivers = !IS_CAST, /* there each other receiver gets it anyway */
    .recovers = true,
    .full_slack = IS_CAST ? CAST_SLACK : IS_SPSC || GROWS ? 2 : 0, /* growing: a link that is just given back */
    .max_message = MESSAGE,
    .patience_ms = 300,
    .segment = "/dev/shm/noria-stopkill",
    .situations = GROWS        ? growing
                  : OVERTAKES  ? overtaking_situations
                  : IS_CAST    ? broadcast_situations
                  : OVERWRITES ? overwriting_situations
                               : situations,
    .operations = GROWS        ? growing_operations
                  : OVERTAKES  ? overtaking_operations
                  : IS_CAST    ? broadcast_operations
                  : OVERWRITES ? overwriting_operations
                  : HAS_LEVELS ? operations_of_levels
                               : operations,
    .lost = OVERWRITES ? lost : NULL,
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
