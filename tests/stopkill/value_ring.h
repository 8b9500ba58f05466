/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A rival that carries 64-bit values and knows neither parties nor recovery. Its file defines value_format,
 * value_enqueue and value_dequeue, and includes this for all the rest.
 */
#ifndef STOPKILL_VALUE_RING_H
#define STOPKILL_VALUE_RING_H

#include <errno.h>
#include <string.h>

#include "contestant.h"

static int value_format(void *memory);
static inline bool value_enqueue(void *memory, uint64_t value);
static inline bool value_dequeue(void *memory, uint64_t *value);

static int format(void *memory, const struct situation *situation)
{
    (void)situation;
    return value_format(memory);
}

static int join(struct party *me, unsigned roles)
{
    me->roles |= roles;
    return 0;
}

static int leave(struct party *me)
{
    me->roles = 0;
    return 0;
}

static int send(struct party *me, const void *data, size_t len)
{
    uint64_t value;

    if (len != sizeof(value))
        return -EMSGSIZE;
    memcpy(&value, data, sizeof(value));
    return value_enqueue(me->memory, value) ? 0 : -EAGAIN;
}

static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    uint64_t value;

    (void)flags;
    if (cap < sizeof(value))
        return -EMSGSIZE;
    if (!value_dequeue(me->memory, &value))
        return -EAGAIN;
    memcpy(buffer, &value, sizeof(value));
    *len = sizeof(value);
    return 0;
}

static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation;
    return full - stopped;
}

static void run_send(struct party *me)
{
    me->result = send(me, me->out[0].data, me->out[0].len);
    outgoing_is(&me->out[0], me->result);
}

static void run_receive(struct party *me)
{
    me->result = receive(me, me->in[0].data, sizeof(me->in[0].data), &me->in[0].len, &me->in[0].flags);
    if (me->result == 0)
        incoming_is(&me->in[0], RELEASED);
}

static const struct situation situations[] = {
    {.name = "two messages", .fill = 2, .every_instruction = true},
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "send", .role = SENDS | RECEIVES, .sends = 1, .run = run_send},
    {.name = "receive", .role = SENDS | RECEIVES, .receives = 1, .run = run_receive},
    {.name = NULL},
};

#define VALUE_RING(ring_name)                                                                                \
    {                                                                                                        \
        .name = (ring_name), .expected_bad = true, .max_message = 8, .patience_ms = 20,                      \
        .situations = situations, .operations = operations, .format = format, .join = join, .leave = leave,  \
        .send = send, .receive = receive, .room = room                                                       \
    }

#endif
