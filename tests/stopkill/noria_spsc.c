/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of an SPSC operation wedges the ring, loses a
 * committed message or brings back a released one; its partner's calls return, and a successor takes its role
 * over. */
#include <errno.h>
#include <string.h>

#include <noria/spsc.h>

#include "contestant.h"

enum { CAPACITY = 256, MESSAGE = 40, RING_SIZE = RING_BYTES_MAX };

struct spsc_party {
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record held[BATCH];
    int maybe_seen; /* records after a takeover that the dead consumer may have seen: flagged */
};
_Static_assert(sizeof(struct spsc_party) <= sizeof(((struct party *)0)->handle), "a handle fits its place");

static struct spsc_party *party_spsc(struct party *me)
{
    return (struct spsc_party *)(void *)me->handle;
}

static int format(void *memory, const struct situation *situation)
{
    int rc = noria_spsc_format(memory, RING_SIZE, CAPACITY, situation->first_position);

    return rc != 0 ? rc : (int)noria_spsc_footprint(CAPACITY);
}

static int join(struct party *me, unsigned roles)
{
    struct spsc_party *mine = party_spsc(me);
    int rc = 0;

    if ((roles & SENDS) != 0)
        rc = noria_spsc_join_producer(&mine->producer, me->memory, RING_SIZE, me->owner);
    else
        rc = noria_spsc_join_consumer(&mine->consumer, me->memory, RING_SIZE, me->owner);
    if (rc != 0)
        return rc;
    mine->maybe_seen = (roles & RECEIVES) != 0 && mine->consumer.taken_over ? BATCH : 0;
    me->roles |= roles;
    return 0;
}

static int leave(struct party *me)
{
    if ((me->roles & SENDS) != 0)
        noria_spsc_leave_producer(&party_spsc(me)->producer);
    if ((me->roles & RECEIVES) != 0)
        noria_spsc_leave_consumer(&party_spsc(me)->consumer);
    me->roles = 0;
    return 0;
}

static int send(struct party *me, const void *data, size_t len)
{
    return noria_spsc_send(&party_spsc(me)->producer, data, len);
}

/* The ring does not flag records; the consumer that took a dead one's role over does. */
static uint32_t flags_of_next(struct spsc_party *mine)
{
    if (mine->maybe_seen == 0)
        return 0;
    mine->maybe_seen--;
    return REDELIVERED;
}

static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    int rc = noria_spsc_recv(&party_spsc(me)->consumer, buffer, cap, len);

    if (rc == 0)
        *flags = flags_of_next(party_spsc(me));
    return rc;
}

static void wait(struct party *me, unsigned role)
{
    if (role == SENDS)
        noria_spsc_wait_producer(&party_spsc(me)->producer);
    else
        noria_spsc_wait_consumer(&party_spsc(me)->consumer);
}

static void recover_role(struct party *me, const struct party *dead, int role)
{
    uint64_t word = noria_spsc_find(me->memory, role);

    if (NORIA_SPSC_OWNER(word) == dead->owner && party_is_dead(dead))
        noria_spsc_settle(me->memory, role, word);
}

static int recover(struct party *me, const struct party *dead)
{
    recover_role(me, dead, NORIA_SPSC_PRODUCER);
    recover_role(me, dead, NORIA_SPSC_CONSUMER);
    return 0;
}

static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation;
    (void)stopped;
    return full;
}

static bool invariant(const void *memory)
{
    return noria_spsc_invariant(memory, RING_SIZE);
}

static void describe(const void *memory, FILE *out)
{
    const struct noria_spsc *ring = (const struct noria_spsc *)memory;

    fprintf(out, "      read_pos %#lx producer %#lx consumer %#lx\n", (unsigned long)ring->read_pos,
            (unsigned long)ring->role[NORIA_SPSC_PRODUCER], (unsigned long)ring->role[NORIA_SPSC_CONSUMER]);
    for (uint64_t i = 0; i < CAPACITY; i += 8)
        fprintf(out, "%s%016lx%s", i % 64 == 0 ? "      " : " ",
                (unsigned long)*noria_spsc_word_at((const uint8_t *)(ring + 1), i), i % 64 == 56 ? "\n" : "");
}

/* -------------------------------------------------------------------------------------- operations */

static int reserve_and_write(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);
    int rc = noria_spsc_reserve(&mine->producer, me->out[0].len, &mine->held[0]);

    if (rc == 0)
        memcpy(mine->held[0].data, me->out[0].data, me->out[0].len);
    return rc;
}

static int peek_and_read(struct party *me, int i)
{
    struct spsc_party *mine = party_spsc(me);
    struct incoming *in = &me->in[i];
    int rc = noria_spsc_peek(&mine->consumer, &mine->held[i]);

    if (rc != 0)
        return rc;
    in->len = mine->held[i].len;
    in->flags = flags_of_next(mine);
    memcpy(in->data, mine->held[i].data, in->len);
    incoming_is(in, SEEN);
    return 0;
}

static void read_again(struct party *me, int i) /* still the same bytes? */
{
    memcpy(me->in[i].data, party_spsc(me)->held[i].data, me->in[i].len);
    incoming_is(&me->in[i], RELEASING);
}

static int hold(struct party *me, unsigned role)
{
    return role == SENDS ? reserve_and_write(me) : peek_and_read(me, 0);
}

static void run_send(struct party *me)
{
    int rc = noria_spsc_send(&party_spsc(me)->producer, me->out[0].data, me->out[0].len);

    outgoing_is(&me->out[0], rc);
    me->result = rc;
}

static void run_receive(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);
    struct incoming *in = &me->in[0];

    me->result = noria_spsc_recv(&mine->consumer, in->data, sizeof(in->data), &in->len);
    if (me->result != 0)
        return;
    in->flags = flags_of_next(mine);
    incoming_is(in, RELEASED);
}

static void run_reserve_commit(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);

    me->result = reserve_and_write(me);
    if (me->result == 0) {
        me->result = noria_spsc_commit(&mine->producer, &mine->held[0], me->out[0].len);
        if (me->result == -EAGAIN)
            me->result = -EPROTO; /* a reservation must not find the ring full */
    }
    outgoing_is(&me->out[0], me->result);
}

static void run_reserve_abort(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);

    me->result = reserve_and_write(me);
    if (me->result == 0)
        noria_spsc_abort(&mine->producer, &mine->held[0]);
    outgoing_is(&me->out[0], -ECANCELED);
}

static void run_send_many(struct party *me)
{
    struct noria_spsc_producer *producer = &party_spsc(me)->producer;
    struct noria_spsc_record record;
    int staged = 0;

    me->result = 0;
    while (staged < BATCH && me->result == 0) {
        const struct outgoing *out = &me->out[staged];
        me->result = noria_spsc_reserve(producer, out->len, &record);
        if (me->result != 0)
            break;
        memcpy(record.data, out->data, out->len);
        me->result = noria_spsc_stage(producer, &record, out->len);
        staged += me->result == 0;
    }
    noria_spsc_publish(producer);
    for (int i = 0; i < BATCH; i++)
        outgoing_is(&me->out[i], i < staged ? 0 : -EAGAIN);
}

static void run_peek_release(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);

    me->result = peek_and_read(me, 0);
    if (me->result != 0)
        return;
    read_again(me, 0);
    me->result = noria_spsc_release(&mine->consumer, &mine->held[0]);
    if (me->result == 0)
        incoming_is(&me->in[0], RELEASED);
}

static void run_receive_many(struct party *me)
{
    struct spsc_party *mine = party_spsc(me);
    int n = 0;

    while (n < BATCH && (me->result = peek_and_read(me, n)) == 0)
        n++;
    if (n == 0)
        return;
    for (int i = 0; i < n; i++)
        read_again(me, i);
    me->result = noria_spsc_release_through(&mine->consumer, &mine->held[n - 1]);
    for (int i = 0; i < n && me->result == 0; i++)
        incoming_is(&me->in[i], RELEASED);
}

static void run_join_producer(struct party *me)
{
    me->result = join(me, SENDS);
}

static void run_join_consumer(struct party *me)
{
    me->result = join(me, RECEIVES);
}

static void run_leave(struct party *me)
{
    me->result = leave(me);
}

static void run_recover(struct party *me)
{
    me->result = recover(me, me->corpse);
}

/* 32 bytes a record, so that with `at the wrap` the next one does not fit before the end of the data. */
static const struct situation situations[] = {
    {.name = "two messages",
     .fill = 2,
     .first_position = UINT64_MAX - 127,
     .every_instruction = true,
     .contended = true},
    {.name = "empty", .fill = 0, .first_position = UINT32_MAX - 63, .contended = true},
    {.name = "at the wrap", .fill = 2, .first_position = CAPACITY - 3 * 32 + 16, .contended = true},
    {.name = "one below full", .fill = ONE_BELOW_FULL, .first_position = UINT64_MAX - 71, .contended = true},
    {.name = "full", .fill = COMPLETELY_FULL, .contended = true},
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "send", .role = SENDS, .sends = 1, .run = run_send},
    {.name = "receive", .role = RECEIVES, .receives = 1, .run = run_receive},
    {.name = "reserve, commit", .role = SENDS, .sends = 1, .run = run_reserve_commit},
    {.name = "reserve, abort", .role = SENDS, .sends = 1, .run = run_reserve_abort},
    {.name = "peek, release", .role = RECEIVES, .receives = 1, .run = run_peek_release},
    {.name = "send many", .role = SENDS, .sends = BATCH, .run = run_send_many},
    {.name = "receive many", .role = RECEIVES, .receives = BATCH, .run = run_receive_many},
    {.name = "join as producer", .role = SENDS, .joins = true, .run = run_join_producer},
    {.name = "join as consumer", .role = RECEIVES, .joins = true, .run = run_join_consumer},
    {.name = "leave as producer", .role = SENDS, .leaves = true, .run = run_leave},
    {.name = "leave as consumer", .role = RECEIVES, .leaves = true, .run = run_leave},
    {.name = "settle a producer", .role = SENDS, .repairs = true, .dead = SENDS, .run = run_recover},
    {.name = "settle a consumer", .role = RECEIVES, .repairs = true, .dead = RECEIVES, .run = run_recover},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = "noria spsc",
    .one_partner = true,
    .redelivers = true,
    .recovers = true,
    .max_message = MESSAGE,
    .patience_ms = 60,
    .situations = situations,
    .operations = operations,
    .format = format,
    .join = join,
    .leave = leave,
    .send = send,
    .receive = receive,
    .wait = wait,
    .recover = recover,
    .hold = hold,
    .room = room,
    .invariant = invariant,
    .describe = describe,
};
