/* SPDX-License-Identifier: BSD-2-Clause */
/* The one waiting loop: try, spin a little, then sleep, until an absolute deadline. */
#include <errno.h>
#include <pthread.h>

#include "call.h"

enum { QUICK_TRIES = 16, FIRST_SPINS = 100, FEWEST_SPINS = 8, TURNS_IN_SECTION = 32, YIELDS_IN_SECTION = 4, PROBE_EVERY = 16 };

/* After -EAGAIN: asks why nothing moves, and tries again if something was mended or the other side has left. */
static ssize_t reconsider(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt)
{
    int found = channel->verbs->look_round(channel, side);
    ssize_t rc;

    if (found == 0)
        return -EAGAIN;
    rc = attempt->run(channel, attempt->arguments);
    return rc == -EAGAIN && found == -EPIPE && channel->verbs->has_ended(channel, side) ? -EPIPE : rc;
}

/* One try of a call in its read section. */
static ssize_t try_inside(noria_channel *channel, const struct noria_attempt *attempt)
{
    uint32_t state = noria_load_acquire32(&channel->state); /* pairs with shut */

    if (state != NORIA_HANDLE_OPEN)
        return noria_state_error(state);
    return attempt->run(channel, attempt->arguments);
}

/* A try, with a look round if it fails. */
static ssize_t try_fully(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt)
{
    ssize_t rc = attempt->run(channel, attempt->arguments);

    return rc == -EAGAIN ? reconsider(channel, side, attempt) : rc;
}

/* The same, guarded. */
static ssize_t try_once(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt)
{
    ssize_t rc = noria_section_enter(channel);

    if (rc != 0)
        return rc;
    rc = try_fully(channel, side, attempt);
    noria_section_leave();
    return rc;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void noria_channel_limit_spins(noria_channel *channel, uint32_t most)
{
    channel->most_spins = most;
    channel->quick_tries = least(QUICK_TRIES, most);
    channel->spins[NORIA_SIDE_SEND] = channel->spins[NORIA_SIDE_RECV] = least(FIRST_SPINS, most);
}

/* The i-th try in a row, in the call's read section: why nothing moves, and whether the time is over, is asked now and
 * then. -ETIMEDOUT: it is. */
static ssize_t spin_once(noria_channel *channel, enum noria_side side, uint32_t i, int64_t deadline_ns,
                         const struct noria_attempt *attempt)
{
    uint32_t turns = channel->pace != NULL ? YIELDS_IN_SECTION : TURNS_IN_SECTION;
    ssize_t rc;
    int cancels;

    channel->verbs->back_off(channel, side);
    if (channel->pace != NULL)
        channel->pace();
    rc = try_inside(channel, attempt);
    if (rc != -EAGAIN || i % turns != turns - 1)
        return rc;
    noria_step_out(channel);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = try_once(channel, side, attempt);
    pthread_setcancelstate(cancels, NULL);
    noria_step_in(channel);
    return rc == -EAGAIN && noria_now_ns() >= deadline_ns ? -ETIMEDOUT : rc;
}

/* Spins as long as spinning has paid lately: a success that took long raises the number at once to twice what was needed,
 * failures lower it. Two who answer each other asleep would never find out that they could do without, so now and then one spins as
 * long as it may: then the other's answer finds it awake, and comes back before the other sleeps. */
static ssize_t spin(noria_channel *channel, enum noria_side side, int64_t deadline_ns,
                    const struct noria_attempt *attempt)
{
    uint32_t spins = noria_load_relaxed32(&channel->spins[side]); /* private to the process, a heuristic */
    uint32_t waits = noria_load_relaxed32(&channel->waits[side]) + 1;
    uint32_t most = waits % PROBE_EVERY == 0 ? channel->most_spins : spins;
    ssize_t rc = -EAGAIN;

    noria_store_relaxed32(&channel->waits[side], waits);
    for (uint32_t i = 0; i < most && rc == -EAGAIN; i++) {
        rc = spin_once(channel, side, i, deadline_ns, attempt);
        if (rc != -EAGAIN && rc != -ETIMEDOUT) {
            uint32_t wanted = 2 * i + FEWEST_SPINS, slower = spins - spins / 8;
            noria_store_relaxed32(&channel->spins[side], least(wanted > slower ? wanted : slower, channel->most_spins));
            return rc;
        }
    }
    spins -= spins / 4;
    noria_store_relaxed32(&channel->spins[side],
                          least(spins > FEWEST_SPINS ? spins : FEWEST_SPINS, channel->most_spins));
    return rc;
}

/* For channels whose participants never sleep. */
static ssize_t spin_on(noria_channel *channel, enum noria_side side, int64_t deadline_ns,
                       const struct noria_attempt *attempt)
{
    ssize_t rc = -EAGAIN;

    for (uint32_t i = 0; rc == -EAGAIN; i++)
        rc = spin_once(channel, side, i, deadline_ns, attempt);
    return rc;
}

struct look {
    noria_channel *channel;
    enum noria_side side;
    const struct noria_attempt *attempt;
    ssize_t result;
};

/* Asked by the strategy when the sleeper has announced itself: is there still nothing to do? */
static bool ready(void *context)
{
    struct look *look = context;

    look->result = try_once(look->channel, look->side, look->attempt);
    return look->result != -EAGAIN;
}

/* Sleeps until the attempt does something else or the deadline has passed. */
static ssize_t sleep_on(noria_channel *channel, enum noria_side side, int64_t deadline_ns,
                        const struct noria_attempt *attempt)
{
    struct look look = {channel, side, attempt, -EAGAIN};
    uint32_t state = noria_load_acquire32(&channel->state); /* pairs with shut, which woke nobody here */
    ssize_t rc = -EAGAIN;

    if (state != NORIA_HANDLE_OPEN)
        return noria_state_error(state);
    noria_step_out(channel);
    while (rc == -EAGAIN) {
        int slept;
        look.result = -EAGAIN;
        slept = channel->verbs->sleep(channel, side, deadline_ns, ready, &look);
        rc = look.result;
        if (rc == -EAGAIN)
            rc = try_once(channel, side, attempt);
        if (rc == -EAGAIN && noria_now_ns() >= deadline_ns)
            rc = -ETIMEDOUT;
        if (rc == -EAGAIN && slept == -EINTR && channel->returns_eintr)
            rc = -EINTR;
    }
    noria_step_in(channel);
    return rc;
}

/* The call found nothing, and the handle's user waits at a descriptor or for a signal: arms it, and looks once more, for
 * what came before that gives no notice: a message, or that the last of the other side has left. */
static ssize_t arm_and_try(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt,
                           ssize_t found)
{
    /* At the end of the stream the descriptor stays readable, as a pipe's does: all who poll it shall know. */
    bool taken_back = channel->verbs->arm(channel, side, found != -EPIPE);
    ssize_t rc = try_fully(channel, side, attempt);

    if (rc == -EAGAIN)
        return found;
    if (taken_back)
        channel->verbs->wake(channel); /* the notice may have been meant for others, too */
    return rc;
}

ssize_t noria_call_on(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                      const struct noria_attempt *attempt, uint32_t *mark)
{
    bool by_policy = side == NORIA_SIDE_SEND && attempt->begins; /* what was begun is finished, policy or not */
    bool drops = by_policy && channel->full == NORIA_FULL_DROP_NEWEST;
    bool fails = by_policy && channel->full == NORIA_FULL_FAIL;
    bool waits = timeout_ns != 0 && !fails && !drops;
    int64_t deadline_ns = waits ? noria_deadline_ns(timeout_ns) : 0;
    ssize_t rc = -EAGAIN;
    int cancels;

    if (waits)
        rc = (channel->never_sleeps != 0 ? spin_on : spin)(channel, side, deadline_ns, attempt);
    if (rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EPIPE || (rc < 0 && attempt->end != NULL)) {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels); /* what is asked of the kernel here may be a point of it */
        if (rc == -EAGAIN)
            rc = waits ? sleep_on(channel, side, deadline_ns, attempt) : reconsider(channel, side, attempt);
        /* After the end of the stream, too: a new sender may come. */
        if ((rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EPIPE) &&
            noria_load_acquire32(&channel->polls[side]) != 0) /* pairs with fd */
            rc = arm_and_try(channel, side, attempt, rc);
        if (rc < 0 && attempt->end != NULL)
            rc = attempt->end(channel, attempt->arguments, rc);
        if ((rc == -EAGAIN || rc == -ETIMEDOUT) && channel->verbs->excuse != NULL)
            rc = channel->verbs->excuse(channel, side, rc);
        if (rc == -EAGAIN && drops && attempt->drops != 0) {
            channel->verbs->count_lost(channel, (uint64_t)attempt->drops);
            rc = attempt->drops;
        }
        pthread_setcancelstate(cancels, NULL);
    }
    return noria_call_end(channel, mark, rc);
}

/* -------------------------------------------------------------------------------------- sending and receiving as wholes */

struct message {
    const void *data;
    size_t len;
    unsigned priority;
};

static ssize_t try_send(noria_channel *channel, void *arguments)
{
    const struct message *message = arguments;

    return channel->verbs->send(channel, message->data, message->len, message->priority);
}

int noria_send_on(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns,
                  uint32_t *mark)
{
    struct message message = {data, len, priority};

    ssize_t rc = noria_call_on(channel, NORIA_SIDE_SEND, timeout_ns,
                               &(struct noria_attempt){try_send, &message, true, 1, NULL}, mark);

    return rc < 0 ? (int)rc : 0; /* sent, or dropped */
}

int noria_send_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    struct message message = {data, len, priority};

    ssize_t rc = noria_call(channel, NORIA_SIDE_SEND, timeout_ns, &(struct noria_attempt){try_send, &message, true, 1, NULL});

    return rc < 0 ? (int)rc : 0;
}

int noria_send_on_from_lane(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns,
                            int rc)
{
    uint32_t *mark = &channel->roles[NORIA_SIDE_SEND].in_lane;

    noria_rejoin();
    return rc == -EAGAIN ? noria_send_on(channel, data, len, priority, timeout_ns, mark)
                         : (int)noria_call_end(channel, mark, rc);
}

struct buffer {
    void *data;
    size_t capacity;
    struct noria_info *info;
};

static ssize_t try_recv(noria_channel *channel, void *arguments)
{
    const struct buffer *buffer = arguments;

    return channel->verbs->recv(channel, buffer->data, buffer->capacity, buffer->info);
}

ssize_t noria_recv_on(noria_channel *channel, void *data, size_t capacity, struct noria_info *info,
                      int64_t timeout_ns, uint32_t *mark)
{
    struct buffer buffer = {data, capacity, info};

    return noria_call_on(channel, NORIA_SIDE_RECV, timeout_ns, &(struct noria_attempt){try_recv, &buffer, true, 0, NULL}, mark);
}

ssize_t noria_recv_call(noria_channel *channel, void *data, size_t capacity, struct noria_info *info,
                        int64_t timeout_ns)
{
    struct buffer buffer = {data, capacity, info};

    return noria_call(channel, NORIA_SIDE_RECV, timeout_ns, &(struct noria_attempt){try_recv, &buffer, true, 0, NULL});
}

ssize_t noria_recv_on_from_lane(noria_channel *channel, void *data, size_t capacity, struct noria_info *info,
                                int64_t timeout_ns, ssize_t rc)
{
    uint32_t *mark = &channel->roles[NORIA_SIDE_RECV].in_lane;

    noria_rejoin();
    return rc == -EAGAIN ? noria_recv_on(channel, data, capacity, info, timeout_ns, mark)
                         : noria_call_end(channel, mark, rc);
}
