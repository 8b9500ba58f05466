/* SPDX-License-Identifier: BSD-2-Clause */
#include "image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "survivors.h"

struct tried tried;

static struct {
    unsigned char ring[RING_BYTES_MAX];
    struct books books;
    size_t ring_bytes;
} image;

enum {
    PREPARATION_MS = 60000, /* nothing is tested by it */
    FULL_ENOUGH = 64        /* for a broadcast that is never full */
};

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "stopkill: %s, %s, %s: cannot prepare: %s: %s\n", contestant.name, tried.operation->name,
            tried.situation->name, what, strerror(-rc));
    exit(2);
}

static void ring_format(void)
{
    int bytes = contestant.format(arena->ring, tried.situation);

    must(bytes, "format");
    image.ring_bytes = (size_t)bytes;
}

static int send_n(struct party *sender, int n)
{
    int rc = 0;

    for (int i = 0; i < n && rc == 0; i++)
        rc = ledger_send(sender, contestant.max_message < 24 ? contestant.max_message : 24);
    return rc;
}

static int count_full(void)
{
    struct party *filler = party_of(FIRST_SURVIVOR);
    int n = 0;

    books_clear();
    ring_format();
    must(contestant.join(filler, SENDS), "join");
    if (contestant.broadcasts) /* without receivers nobody is held up */
        must(contestant.join(party_of(SECOND_SURVIVOR), RECEIVES), "join");
    while ((!contestant.broadcasts || n < FULL_ENOUGH) &&
           ledger_send(filler, contestant.max_message < 24 ? contestant.max_message : 24) == 0)
        n++;
    if (contestant.broadcasts)
        must(contestant.leave(party_of(SECOND_SURVIVOR)), "leave");
    must(contestant.leave(filler), "leave");
    return n;
}

static unsigned survivor_role(void)
{
    if (!contestant.one_partner)
        return SENDS | RECEIVES;
    return tried.operation->role == SENDS ? RECEIVES : SENDS;
}

static void join_parties(unsigned dead)
{
    must(contestant.join(party_of(FIRST_SURVIVOR), survivor_role()), "join");
    if (!contestant.one_partner)
        must(contestant.join(party_of(SECOND_SURVIVOR), SENDS | RECEIVES), "join");
    if (joined_beforehand(tried.operation))
        must(contestant.join(party_of(FIRST_VICTIM), tried.operation->role), "join");
    if (tried.situation->still != 0)
        must(contestant.join(party_of(STILL), SENDS | RECEIVES), "join");
    if (dead != 0)
        must(contestant.join(party_of(CORPSE),
                             contestant.one_partner ? tried.operation->role : SENDS | RECEIVES),
             "join");
}

/* Whoever sends the messages that wait; a visitor if nobody else can. */
static struct party *find_filler(void)
{
    static const uint32_t candidates[] = {FIRST_SURVIVOR, FIRST_VICTIM, CORPSE};

    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++)
        if ((party_of(candidates[i])->roles & SENDS) != 0)
            return party_of(candidates[i]);
    must(contestant.join(party_of(SECOND_SURVIVOR), SENDS), "join");
    return party_of(SECOND_SURVIVOR);
}

static void send_batch(struct party *sender)
{
    ledger_prepare(sender, BATCH, 0);
    contestant.send_batch(sender);
    must(sender->result == BATCH ? 0 : -EPROTO, "batch");
    ledger_settle_accounts(sender);
}

static void hold(uint32_t id, unsigned roles)
{
    struct party *holder = party_of(id);

    ledger_prepare(holder, (roles & SENDS) != 0, (roles & RECEIVES) != 0);
    if ((roles & RECEIVES) != 0)
        must(ledger_hold(holder, RECEIVES), "hold");
    if ((roles & SENDS) != 0)
        must(ledger_hold(holder, SENDS), "hold");
}

static unsigned dead_holds(void)
{
    return tried.operation->repairs ? tried.operation->dead : tried.situation->dead;
}

static int messages_of(int fill)
{
    if (fill == COMPLETELY_FULL)
        return tried.full;
    return fill == ONE_BELOW_FULL ? tried.full - 1 : fill;
}

static int fill_wanted(void)
{
    return messages_of(tried.situation->fill);
}

/* Whoever holds a record takes it before the others arrive, so that it is in their way. */
static void fill_and_hold(struct party *filler)
{
    unsigned held = tried.situation->still | dead_holds();
    int rc;

    if (contestant.one_partner)
        must(send_n(filler, fill_wanted()), "fill");
    else if ((held & RECEIVES) != 0)
        must(send_n(filler, 1), "fill");
    if (tried.situation->still != 0)
        hold(STILL, tried.situation->still);
    if (dead_holds() != 0)
        hold(CORPSE, dead_holds());
    if (tried.situation->batch)
        send_batch(filler);
    if (contestant.one_partner)
        return;
    rc = send_n(filler, fill_wanted()); /* full may come earlier beside those who hold a slot */
    must(rc == -EAGAIN && held != 0 ? 0 : rc, "fill");
}

static void image_prepare(void)
{
    struct party *filler;

    ring_format();
    join_parties(dead_holds());
    filler = find_filler();
    fill_and_hold(filler);
    if (contestant.one_partner && filler == party_of(SECOND_SURVIVOR))
        must(contestant.leave(filler), "leave");
    if (dead_holds() != 0)
        arena->books.dead |= 1u << CORPSE;
    if (tried.situation->repaired)
        must(contestant.recover(party_of(FIRST_SURVIVOR), party_of(CORPSE)), "recover");
}

void image_build(const struct operation *of, const struct situation *in)
{
    tried.operation = of;
    tried.situation = in;
    tried.full = count_full();
    books_clear();
    if (!contestant.joins_each_time)
        image_prepare();
    memcpy(image.ring, arena->ring, image.ring_bytes);
    image.books = arena->books;
}

/* The same with every party in a process of its own, before each position. */
static void must_do(uint32_t party, enum job_kind kind, uint32_t amount, unsigned role)
{
    struct job job = {.kind = kind, .amount = amount, .role = role};
    int patience_ms = survivors_set_patience(PREPARATION_MS), rc;

    rc = job_do(party, &job).rc;
    survivors_set_patience(patience_ms);
    must(kind == JOB_SEND && rc == -EAGAIN ? 0 : rc > 0 ? -ETIMEDOUT : rc, "a situation");
}

static void live_holder(uint32_t id, unsigned roles)
{
    survivor_start(id);
    must_do(id, JOB_JOIN, id, contestant.one_partner ? tried.operation->role : SENDS | RECEIVES);
    party_of(id)->depth = tried.operation->depth;
    if ((contestant.one_partner || contestant.dies_inside) && roles == SENDS)
        must_do(id, JOB_SEND, (uint32_t)fill_wanted(), 0);
    must_do(id, JOB_HOLD, 0, roles);
}

static void live_holders(void)
{
    if (tried.situation->still != 0) {
        live_holder(STILL, tried.situation->still);
        survivor_freeze(STILL, true);
    }
    if (dead_holds() == 0)
        return;
    live_holder(CORPSE, dead_holds());
    survivor_stop(CORPSE);
    arena->books.dead |= 1u << CORPSE;
    ledger_settle_accounts(party_of(CORPSE));
}

static void live_prepare(void)
{
    bool visitor = contestant.one_partner && tried.operation->role == SENDS && dead_holds() == 0;
    uint32_t filler = visitor ? SECOND_SURVIVOR : FIRST_SURVIVOR;
    uint32_t fill = (uint32_t)fill_wanted();

    ring_format();
    must_do(FIRST_SURVIVOR, JOB_JOIN, FIRST_SURVIVOR, survivor_role());
    if (!contestant.one_partner)
        must_do(SECOND_SURVIVOR, JOB_JOIN, SECOND_SURVIVOR, SENDS | RECEIVES);
    if (visitor)
        must_do(filler, JOB_JOIN, filler, SENDS);
    if (contestant.one_partner && (party_of(filler)->roles & SENDS) != 0)
        must_do(filler, JOB_SEND, fill, 0);
    else if (!contestant.one_partner && ((tried.situation->still | dead_holds()) & RECEIVES) != 0)
        must_do(filler, JOB_SEND, 1, 0);
    live_holders();
    if (!contestant.one_partner)
        must_do(filler, JOB_SEND, fill, 0);
    if (tried.situation->repaired)
        must_do(FIRST_SURVIVOR, JOB_RECOVER, 0, 0);
    if (visitor)
        must_do(filler, JOB_LEAVE, 0, 0);
}

static void live_join(uint32_t id, unsigned role)
{
    if (id != FIRST_SURVIVOR && id != SECOND_SURVIVOR)
        survivor_start(id);
    must_do(id, JOB_JOIN, id, role);
}

/* Beside a victim that sends, the first survivor receives; beside one that receives, the first sends and the
 * second receives, too. */
static void live_broadcast(void)
{
    bool victim_sends = tried.operation->role == SENDS;
    uint32_t receiver = victim_sends ? FIRST_SURVIVOR : SECOND_SURVIVOR;
    uint32_t filler = !victim_sends ? FIRST_SURVIVOR : dead_holds() == SENDS ? CORPSE : SECOND_SURVIVOR;

    ring_format();
    live_join(receiver, RECEIVES);
    if (tried.situation->still != 0)
        live_join(STILL, RECEIVES);
    if (dead_holds() != 0)
        live_join(CORPSE, dead_holds());
    if (filler != CORPSE)
        live_join(filler, SENDS);
    must_do(filler, JOB_SEND, (uint32_t)messages_of(tried.situation->earlier), 0);
    must_do(receiver, JOB_DRAIN, 0, 0);
    must_do(filler, JOB_SEND, (uint32_t)fill_wanted(), 0);
    if (tried.situation->still != 0)
        survivor_freeze(STILL, true);
    if (filler == SECOND_SURVIVOR)
        must_do(filler, JOB_LEAVE, 0, 0);
    if (dead_holds() == 0)
        return;
    must_do(CORPSE, JOB_HOLD, 0, dead_holds());
    survivor_stop(CORPSE);
    arena->books.dead |= 1u << CORPSE;
}

void image_restore(void)
{
    memcpy(arena->ring, image.ring, image.ring_bytes);
    arena->books = image.books;
    if (contestant.broadcasts)
        live_broadcast();
    else if (contestant.joins_each_time)
        live_prepare();
}

void image_end(void)
{
    static const struct job leave = {.kind = JOB_LEAVE};

    if (!contestant.joins_each_time)
        return;
    survivor_stop(STILL);
    survivor_stop(CORPSE);
    for (uint32_t id = FIRST_SURVIVOR; id <= SECOND_SURVIVOR; id++)
        if (party_of(id)->roles != 0)
            job_do(id, &leave);
}
