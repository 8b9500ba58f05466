/* SPDX-License-Identifier: BSD-2-Clause */
/* The one waiting loop: try, spin a little, then sleep, until an absolute deadline. */
#include <errno.h>
#include <pthread.h>

#include "call.h"

enum { FEWEST_SPINS = 8, CLOCK_EVERY = 32, PROBE_EVERY = 16 };

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

/* One guarded try, and no more. */
static ssize_t try_lightly(noria_channel *channel, const struct noria_attempt *attempt)
{
    ssize_t rc = noria_section_enter(channel);

    if (rc != 0)
        return rc;
    rc = attempt->run(channel, attempt->arguments);
    noria_section_leave();
    return rc;
}

/* One guarded try, with a look round if it fails. */
static ssize_t try_once(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt)
{
    ssize_t rc = noria_section_enter(channel);

    if (rc != 0)
        return rc;
    rc = attempt->run(channel, attempt->arguments);
    if (rc == -EAGAIN)
        rc = reconsider(channel, side, attempt);
    noria_section_leave();
    return rc;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The i-th try in a row: why nothing moves, and whether the time is over, is asked now and then. -ETIMEDOUT: it is. */
static ssize_t spin_once(noria_channel *channel, enum noria_side side, uint32_t i, int64_t deadline_ns,
                         const struct noria_attempt *attempt)
{
    ssize_t rc;

    channel->verbs->back_off(channel, side);
    if (channel->pace != NULL)
        channel->pace();
    if (i % CLOCK_EVERY != CLOCK_EVERY - 1)
        return try_lightly(channel, attempt);
    rc = try_once(channel, side, attempt);
    return rc == -EAGAIN && noria_now_ns() >= deadline_ns ? -ETIMEDOUT : rc;
}

/* Spins as long as spinning has paid lately: a success that took long raises the number at once to twice what was needed,
 * failures lower it. Two who answer each other asleep would never find out that they could do without, so now and then one spins as
 * long as it may: then the other's answer finds it awake, and comes back before the other sleeps. */
static ssize_t spin(noria_channel *channel, enum noria_side side, int64_t deadline_ns,
                    const struct noria_attempt *attempt)
{
    uint32_t spins = noria_load_relaxed32(&channel->spins[side]); /* private to the process, a heuristic */
    bool probes = noria_add_relaxed32(&channel->waits[side], 1) % PROBE_EVERY == PROBE_EVERY - 1;
    uint32_t most = probes ? channel->most_spins : spins;
    ssize_t rc = -EAGAIN;

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

/* After a first failure: spins, then sleeps, until the attempt does something else or the deadline has passed. */
static ssize_t wait_for(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                        const struct noria_attempt *attempt)
{
    int64_t deadline_ns = noria_deadline_ns(timeout_ns);
    struct look look = {channel, side, attempt, -EAGAIN};
    ssize_t rc;

    if (channel->pace != NULL)
        return spin_on(channel, side, deadline_ns, attempt);
    rc = spin(channel, side, deadline_ns, attempt);
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
    return rc;
}

/* The call found nothing, and the handle's user waits at a descriptor or for a signal: arms it, and looks once more, for
 * what came before that gives no notice. */
static ssize_t arm_and_try(noria_channel *channel, enum noria_side side, const struct noria_attempt *attempt,
                           ssize_t found)
{
    /* At the end of the stream the descriptor stays readable, as a pipe's does: all who poll it shall know. */
    bool taken_back = channel->verbs->arm(channel, side, found != -EPIPE);
    ssize_t rc = attempt->run(channel, attempt->arguments);

    if (rc == -EAGAIN)
        return found;
    if (taken_back)
        channel->verbs->wake(channel); /* the notice may have been meant for others, too */
    return rc;
}

ssize_t noria_call_on(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                      const struct noria_attempt *attempt, enum noria_role_way way)
{
    bool waits = timeout_ns != 0 && !(side == NORIA_SIDE_SEND && channel->fails_when_full);
    ssize_t rc;
    int cancels;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels); /* what is asked of the kernel here may be a point of it */
    if (waits) {
        /* Counted inside the read section: close first waits for those and then finds the count. */
        noria_add_relaxed32(&channel->waiting, 1);
        noria_section_leave();
        rc = wait_for(channel, side, timeout_ns, attempt);
        noria_rejoin();
    } else {
        rc = reconsider(channel, side, attempt);
    }
    /* After the end of the stream, too: a new sender may come. */
    if ((rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EPIPE) && noria_load_acquire32(&channel->polls[side]) != 0) /* pairs with fd */
        rc = arm_and_try(channel, side, attempt, rc);
    if (channel->one_caller != 0)
        noria_role_leave(&channel->roles[side], way);
    if (waits)
        noria_sub_release32(&channel->waiting, 1); /* the last touch; pairs with the load in noria_channel_drain */
    noria_section_leave();
    pthread_setcancelstate(cancels, NULL);
    return rc;
}
