/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of an MPMC operation wedges the ring, loses a
 * committed message, brings back a released one, or costs a slot for good. */
#include <errno.h>
#include <string.h>

#include <noria/mpmc.h>

#include "contestant.h"

enum { CAPACITY = 8, OWNERS = 17, MESSAGE = 40, RING_SIZE = RING_BYTES_MAX };
/* TIGHT: as many slots as messages, so that one lost slot shows. SPARE: some for absent peers. PACKED:
 * groups. */
enum { TIGHT, SPARE, PACKED };

struct mpmc_party {
    struct noria_mpmc_handle handle;
    struct noria_mpmc_record reserved, peeked; /* what hold took */
};
_Static_assert(sizeof(struct mpmc_party) <= sizeof(((struct party *)0)->handle), "a handle fits its place");

static struct mpmc_party *party_mpmc(struct party *me)
{
    return (struct mpmc_party *)(void *)me->handle;
}

static struct noria_mpmc_handle *handle_of(struct party *me)
{
    return &party_mpmc(me)->handle;
}

static int format(void *memory, const struct situation *situation)
{
    struct noria_mpmc_config config = {
        .capacity = CAPACITY,
        .slots = situation->layout == TIGHT ? CAPACITY : 0,
        .first_position = situation->first_position,
        .max_message = MESSAGE,
        .pack = situation->layout == PACKED ? BATCH : 1,
        .owners = OWNERS,
        .max_held = 1,
    };
    int rc = noria_mpmc_format(memory, RING_SIZE, &config);

    return rc != 0 ? rc : (int)noria_mpmc_footprint(&config);
}

static int join(struct party *me, unsigned roles)
{
    int rc = noria_mpmc_join(handle_of(me), me->memory, RING_SIZE, me->owner);

    if (rc == 0)
        me->roles |= roles;
    return rc;
}

static int leave(struct party *me)
{
    me->roles = 0;
    return 0;
}

static int send(struct party *me, const void *data, size_t len)
{
    return noria_mpmc_send(handle_of(me), data, len);
}

static int receive(struct party *me, void *buffer, size_t cap, size_t *len, uint32_t *flags)
{
    struct noria_mpmc_record record;
    int rc = noria_mpmc_peek(handle_of(me), &record);

    if (rc != 0)
        return rc;
    if (record.len > cap)
        return -EMSGSIZE;
    memcpy(buffer, record.data, record.len);
    *len = record.len;
    *flags = record.flags != 0 ? REDELIVERED : 0;
    return noria_mpmc_release(handle_of(me), &record);
}

static void wait(struct party *me, unsigned role)
{
    noria_mpmc_wait(handle_of(me), role == SENDS ? NORIA_MPMC_SENDER : NORIA_MPMC_RECEIVER);
}

static int recover(struct party *me, const struct party *dead)
{
    struct noria_mpmc_handle *handle = handle_of(me);
    uint64_t index = 0, word;

    while (noria_mpmc_find(handle, dead->owner, &index, &word) == 1) {
        if (!party_is_dead(dead))
            return 0;
        noria_mpmc_settle(handle, index, word);
    }
    noria_mpmc_announce(handle);
    return 0;
}

static int room(const struct situation *situation, int full, int stopped)
{
    /* A writer stopped while it moves its record has two slots. */
    return situation->layout == TIGHT ? full - 2 * stopped : full;
}

/* Stepping over, settling and adopting push a slot a lap on; where no slot is to spare it is missed until the
 * wheel has come round as often. */
static int laps_to_heal(const struct situation *situation)
{
    return situation->layout == TIGHT ? 2 : 0;
}

static bool invariant(const void *memory)
{
    return noria_mpmc_invariant(memory, RING_SIZE);
}

static void describe(const void *memory, FILE *out)
{
    static const char *const kinds[] = {"READING", "EMPTY", "WRITING", "FULL"};
    struct noria_mpmc_handle handle;

    if (noria_mpmc_join(&handle, (void *)(uintptr_t)memory, RING_SIZE, 1) != 0)
        return;
    fprintf(out, "      write_pos %#lx read_pos %#lx orphans %lu\n", (unsigned long)handle.ring->write_pos,
            (unsigned long)handle.ring->read_pos, (unsigned long)handle.ring->orphans);
    for (uint64_t i = 0; i <= handle.mask; i++) {
        uint64_t word = *noria_mpmc_state_at(&handle, i);
        fprintf(out, "      slot %lu: lap %#lx %s%s owner %u\n", (unsigned long)i,
                (unsigned long)NORIA_MPMC_LAP(word), kinds[NORIA_MPMC_KIND(word)],
                (word & NORIA_MPMC_LATE) != 0 ? " late" : "", NORIA_MPMC_OWNER(word));
    }
}

/* -------------------------------------------------------------------------------------- operations */

static int hold(struct party *me, unsigned role)
{
    struct mpmc_party *mine = party_mpmc(me);
    int rc;

    if (role == SENDS) {
        rc = noria_mpmc_reserve(&mine->handle, &mine->reserved);
        if (rc == 0)
            memcpy(mine->reserved.data, me->out[0].data, me->out[0].len);
        return rc;
    }
    rc = noria_mpmc_peek(&mine->handle, &mine->peeked);
    if (rc != 0)
        return rc;
    me->in[0].len = mine->peeked.len;
    me->in[0].flags = mine->peeked.flags != 0 ? REDELIVERED : 0;
    memcpy(me->in[0].data, mine->peeked.data, mine->peeked.len);
    incoming_is(&me->in[0], SEEN);
    return 0;
}

static int finish(struct party *me, unsigned role)
{
    struct mpmc_party *mine = party_mpmc(me);
    int rc;

    if (role == SENDS) {
        rc = noria_mpmc_commit(&mine->handle, &mine->reserved, me->out[0].len);
        outgoing_is(&me->out[0], rc);
        return rc;
    }
    memcpy(me->in[0].data, mine->peeked.data, mine->peeked.len); /* still the same bytes? */
    incoming_is(&me->in[0], RELEASING);
    rc = noria_mpmc_release(&mine->handle, &mine->peeked);
    if (rc == 0)
        incoming_is(&me->in[0], RELEASED);
    return rc;
}

static void run_send(struct party *me)
{
    int rc = noria_mpmc_send(handle_of(me), me->out[0].data, me->out[0].len);

    outgoing_is(&me->out[0], rc);
    me->result = rc;
}

static void run_receive(struct party *me)
{
    struct incoming *in = &me->in[0];

    me->result = noria_mpmc_recv(handle_of(me), in->data, sizeof(in->data), &in->len);
    in->flags = FLAG_UNKNOWN;
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
    struct mpmc_party *mine = party_mpmc(me);

    me->result = hold(me, SENDS);
    if (me->result == 0)
        me->result = noria_mpmc_abort(&mine->handle, &mine->reserved);
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
    int n;

    for (int i = 0; i < BATCH; i++)
        messages[i] = (struct iovec){me->out[i].data, me->out[i].len};
    n = noria_mpmc_send_many(handle_of(me), messages, BATCH);
    for (int i = 0; i < BATCH; i++)
        outgoing_is(&me->out[i], i < n ? 0 : -EAGAIN);
    me->result = n;
}

static void run_receive_many(struct party *me)
{
    struct iovec buffers[BATCH];
    int n;

    for (int i = 0; i < BATCH; i++)
        buffers[i] = (struct iovec){me->in[i].data, sizeof(me->in[i].data)};
    n = noria_mpmc_recv_many(handle_of(me), buffers, BATCH);
    for (int i = 0; i < n; i++) {
        me->in[i].len = buffers[i].iov_len;
        me->in[i].flags = FLAG_UNKNOWN;
        incoming_is(&me->in[i], RELEASED);
    }
    me->result = n;
}

static void run_join(struct party *me)
{
    me->result = join(me, SENDS | RECEIVES);
}

/* The victim looks through the ring as any handle may; it is joined for that, but has nothing of its own. */
static void run_recover(struct party *me)
{
    me->result = recover(me, me->corpse);
}

/* Positions start where a counter, 32 bits of it, or a lap (45 bits) is about to wrap. */
static const struct situation situations[] = {
    {.name = "two messages",
     .fill = 2,
     .first_position = UINT64_MAX - 15,
     .contended = true,
     .every_instruction = true},
    {.name = "empty", .fill = 0, .first_position = UINT32_MAX - 7, .contended = true},
    {.name = "one below full",
     .fill = ONE_BELOW_FULL,
     .first_position = (UINT64_C(1) << 48) - 16,
     .contended = true},
    {.name = "full", .fill = COMPLETELY_FULL},
    {.name = "spare slots, two", .fill = 2, .layout = SPARE},
    {.name = "spare slots, full - 1", .fill = ONE_BELOW_FULL, .layout = SPARE},
    {.name = "beside a stopped writer", .fill = 2, .still = SENDS, .contended = true},
    {.name = "beside a stopped reader", .fill = 2, .still = RECEIVES},
    {.name = "beside dead ones", .fill = 2, .dead = SENDS | RECEIVES},
    {.name = "an orphan waits", .fill = 2, .dead = RECEIVES, .repaired = true, .contended = true},
    {.name = "packed, two", .fill = 2, .layout = PACKED, .groups = true, .contended = true},
    {.name = "packed, a group",
     .fill = 2,
     .layout = PACKED,
     .groups = true,
     .batch = true,
     .contended = true},
    {.name = NULL},
};

#define BOTH (SENDS | RECEIVES)
static const struct operation operations[] = {
    {.name = "send", .role = BOTH, .sends = 1, .run = run_send},
    {.name = "receive", .role = BOTH, .receives = 1, .run = run_receive},
    {.name = "reserve, commit", .role = BOTH, .sends = 1, .run = run_reserve_commit},
    {.name = "reserve, abort", .role = BOTH, .sends = 1, .run = run_reserve_abort},
    {.name = "peek, release", .role = BOTH, .receives = 1, .run = run_peek_release},
    {.name = "send many", .role = BOTH, .sends = BATCH, .run = run_send_many},
    {.name = "receive many", .role = BOTH, .receives = BATCH, .run = run_receive_many},
    {.name = "join", .role = BOTH, .joins = true, .run = run_join},
    {.name = "settle a writer", .role = BOTH, .repairs = true, .dead = SENDS, .run = run_recover},
    {.name = "settle a reader", .role = BOTH, .repairs = true, .dead = RECEIVES, .run = run_recover},
    {.name = "settle both", .role = BOTH, .repairs = true, .dead = BOTH, .run = run_recover},
    {.name = NULL},
};

const struct contestant contestant = {
    .name = "noria mpmc",
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
    .finish = finish,
    .send_batch = run_send_many,
    .room = room,
    .laps_to_heal = laps_to_heal,
    .invariant = invariant,
    .describe = describe,
};
