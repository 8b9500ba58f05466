/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a rendezvous wedges the table, makes a sender believe that a message was
 * received which was not (or the reverse), or costs a slot for good. */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include <noria/rendezvous.h>

#include "contestant.h"

/* A sender waits for a taker at least so many looks; how many more differs, so that two who only send do not keep missing each other. */
enum { OWNERS = 17, SLOTS = 24, MESSAGE = 40, RING_SIZE = RING_BYTES_MAX, VICTIM_LOOKS = 3, LOOKS = 500 };

struct rendezvous_party {
    struct noria_rendezvous_handle handle;
    struct noria_rendezvous_offer held_offer; /* what hold took */
    struct noria_rendezvous_record held_record;
    uint32_t turns;
};
_Static_assert(sizeof(struct rendezvous_party) <= sizeof(((struct party *)0)->handle), "a handle fits its place");

static struct rendezvous_party *party_rendezvous(struct party *me)
{
    return (struct rendezvous_party *)(void *)me->handle;
}

static struct noria_rendezvous_handle *handle_of(struct party *me)
{
    return &party_rendezvous(me)->handle;
}

static int format(void *memory, const struct situation *situation)
{
    struct noria_rendezvous_config config = {
        .first_position = situation->first_position, .max_message = MESSAGE, .owners = OWNERS, .slots = SLOTS};
    int rc = noria_rendezvous_format(memory, RING_SIZE, &config);

    return rc != 0 ? rc : (int)noria_rendezvous_footprint(&config);
}

static int join(struct party *me, unsigned roles)
{
    int rc = noria_rendezvous_join(handle_of(me), me->memory, RING_SIZE, me->owner, 1);

    if (rc == 0)
        me->roles |= roles;
    return rc;
}

static int leave(struct party *me)
{
    me->roles = 0;
    return 0;
}

/* Nobody has a message whose receiver died over it: that is as good as not sent. */
static int not_sent(int rc)
{
    return rc == -ECANCELED || rc == -EOWNERDEAD ? -EAGAIN : rc;
}

static int send_for(struct party *me, const void *data, size_t len, uint32_t looks)
{
    struct noria_rendezvous_offer offer = {0, 0};
    int rc = noria_rendezvous_offer(handle_of(me), data, len, &offer);

    if (rc != 0)
        return rc;
    rc = -EAGAIN;
    for (uint32_t i = 0; i < looks && rc == -EAGAIN; i++) {
        rc = noria_rendezvous_look(handle_of(me), &offer);
        noria_pause();
        if (looks > VICTIM_LOOKS && i % 64 == 63)
            sched_yield();
    }
    return rc == -EAGAIN ? not_sent(noria_rendezvous_withdraw(handle_of(me), &offer)) : not_sent(rc);
}

static int send(struct party *me, const void *data, size_t len)
{
    uint32_t turn = ++party_rendezvous(me)->turns * 2654435761u + me->id * 40503u;

    return send_for(me, data, len, LOOKS + (turn >> 16) % (4 * LOOKS));
}

/* The application sees the bytes when the message is certainly its own. */
static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    struct noria_rendezvous_record record;
    unsigned char copy[MESSAGE_MAX];
    int rc = noria_rendezvous_claim(handle_of(me), cap, &record);

    if (rc != 0)
        return rc;
    memcpy(copy, record.data, record.len);
    rc = noria_rendezvous_finish(handle_of(me), &record);
    if (rc != 0)
        return rc;
    memcpy(buffer, copy, record.len);
    *len = record.len;
    *flags = 0;
    return 0;
}

static int recover(struct party *me, const struct party *dead)
{
    uint32_t slot = 0;
    uint64_t word;

    while (noria_rendezvous_find(handle_of(me), dead->owner, &slot, &word)) {
        if (!party_is_dead(dead))
            return 0; /* its number lives again */
        if (noria_rendezvous_settle(handle_of(me), slot, word, dead->owner))
            slot++;
    }
    noria_rendezvous_forget(handle_of(me), dead->owner, 1);
    return 0;
}

/* An offer that stands, or a message that is just being copied. */
static int hold(struct party *me, unsigned role)
{
    struct rendezvous_party *mine = party_rendezvous(me);

    if (role == SENDS)
        return noria_rendezvous_offer(&mine->handle, me->out[0].data, me->out[0].len, &mine->held_offer);
    return noria_rendezvous_claim(&mine->handle, MESSAGE, &mine->held_record);
}

static int finish(struct party *me, unsigned role)
{
    struct rendezvous_party *mine = party_rendezvous(me);
    int rc;

    if (role != SENDS) {
        unsigned char copy[MESSAGE_MAX];
        memcpy(copy, mine->held_record.data, mine->held_record.len);
        rc = noria_rendezvous_finish(&mine->handle, &mine->held_record);
        if (rc != 0)
            return rc == -EAGAIN ? 0 : rc;
        memcpy(me->in[0].data, copy, mine->held_record.len);
        me->in[0].len = mine->held_record.len;
        incoming_is(&me->in[0], RELEASED);
        return 0;
    }
    rc = noria_rendezvous_withdraw(&mine->handle, &mine->held_offer);
    outgoing_is(&me->out[0], not_sent(rc));
    return rc == -EOWNERDEAD || rc == -ECANCELED ? 0 : rc;
}

static int room(const struct situation *situation, int full, int stopped)
{
    (void)situation;
    (void)stopped;
    return full;
}

/* Nothing is kept, so when everybody is alive or settled no slot is in use. */
static bool invariant(const void *memory)
{
    struct noria_rendezvous_census census;
    struct noria_rendezvous_handle h;

    if (!noria_rendezvous_invariant(memory, RING_SIZE) ||
        noria_rendezvous_read_geometry(&h, (struct noria_rendezvous *)(uintptr_t)memory, RING_SIZE) != 0)
        return false;
    noria_rendezvous_count(&h, &census);
    return census.used == 0;
}

static void describe(const void *memory, FILE *out)
{
    struct noria_rendezvous_handle h;

    if (noria_rendezvous_read_geometry(&h, (struct noria_rendezvous *)(uintptr_t)memory, RING_SIZE) != 0)
        return;
    for (uint32_t slot = 0; slot < h.slot_count; slot++) {
        uint64_t word = *noria_rendezvous_state_at(&h, slot);
        if (NORIA_RENDEZVOUS_KIND(word) != NORIA_RENDEZVOUS_FREE)
            fprintf(out, "      slot %u kind %u owner %u taker %u\n", slot, NORIA_RENDEZVOUS_KIND(word),
                    noria_rendezvous_owner_of(&h, word), noria_rendezvous_taker_of(&h, word));
    }
}

/* ------------------------------------------------------------------------------------ operations */

static void run_send(struct party *me)
{
    me->result = send_for(me, me->out[0].data, me->out[0].len, VICTIM_LOOKS);
    outgoing_is(&me->out[0], me->result);
}

static void run_receive(struct party *me)
{
    struct incoming *in = &me->in[0];

    me->result = receive(me, in->data, sizeof(in->data), &in->len, &in->flags);
    if (me->result == 0)
        incoming_is(in, RELEASED);
}

static void run_recover(struct party *me)
{
    me->result = recover(me, me->corpse);
}

static const struct situation situations[] = {
    {.name = "nobody there", .contended = true, .every_instruction = true},
    {.name = "an offer of a stopped sender", .still = SENDS, .contended = true, .every_instruction = true},
    {.name = "an offer of a dead sender", .dead = SENDS, .contended = true, .every_instruction = true},
    {.name = "tickets wrap", .still = SENDS, .first_position = UINT64_MAX, .every_instruction = true},
    {.name = NULL},
};

static const struct operation operations[] = {
    {.name = "send", .role = SENDS | RECEIVES, .sends = 1, .run = run_send},
    {.name = "receive", .role = SENDS | RECEIVES, .receives = 1, .run = run_receive},
    {.name = "settle a sender", .role = SENDS | RECEIVES, .repairs = true, .dead = SENDS, .run = run_recover},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = "noria rendezvous",
    .recovers = true,
    .max_message = MESSAGE,
    .patience_ms = 200,
    .situations = situations,
    .operations = operations,
    .format = format,
    .join = join,
    .leave = leave,
    .send = send,
    .receive = receive,
    .recover = recover,
    .hold = hold,
    .finish = finish,
    .room = room,
    .invariant = invariant,
    .describe = describe,
};
