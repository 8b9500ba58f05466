/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random offers and claims of four owners on a rendezvous table; each may have one message on offer and be
 * taking another at a time. Each call may be left standing in front of any access while others go on, and any
 * owner may die there, be settled by others, and be born again under its old number. The ledger follows each
 * slot's word along the arrows that the header allows, and knows from them what became of each message; so it
 * judges every answer of both sides.
 */
#include "fiber.h"
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/rendezvous.h>

enum { ACTORS = 4, SURVIVOR = ACTORS + 1, MOST_SLOTS = 8, MOST_STEPS = 600, LONGEST = 48 };

/* Changes by others during one call that excuse -EAGAIN for contention: the table's own bounds are 64. */
enum { MUCH_CONTENTION = 60 };

enum operation { OFFER, LOOK, WITHDRAW, CLAIM, FINISH, WAIT, SETTLE, DIE, OPERATIONS };

/* What the ledger knows of a slot. */
struct place {
    unsigned kind;
    uint32_t owner, taker;
    uint64_t since; /* changes of all slots, when it came into this state */
    size_t len;
    uint8_t seed;
};

struct actor {
    struct fiber fiber;
    struct noria_rendezvous_handle handle;
    enum operation operation;
    uint32_t amount, accesses_left, victim;
    uint64_t life, changes_before;
    bool alive, waits;
    struct noria_rendezvous_offer offer; /* word 0: none */
    size_t len;
    uint8_t seed;
    bool taken, lost; /* what became of the offer */
    bool is_taking, gone; /* a claim is to be finished; its sender has withdrawn or died */
    struct noria_rendezvous_record record;
    struct place claimed;
};

static struct actor actors[ACTORS + 1]; /* by owner; 0 is nobody */
static struct noria_rendezvous_handle survivor;
static struct place places[MOST_SLOTS];
static struct noria_rendezvous *table;
static size_t table_size;
static struct noria_rendezvous_config config;
static uint64_t changes, lives;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

/* -------------------------------------------------------------------------------- in front of each access */

static void pause_when_due(const void *word)
{
    struct actor *actor = (struct actor *)(void *)fiber_current(); /* the fiber is its first member */

    if (actor == NULL || (uintptr_t)word - (uintptr_t)table >= table_size)
        return;
    if (actor->accesses_left == 0 || --actor->accesses_left != 0)
        return;
    watch.busy = false;
    fiber_pause();
    watch.busy = true;
}

/* ------------------------------------------------------------------------------ along the arrows, by whom */

static bool is_dead(uint32_t owner)
{
    return owner != SURVIVOR && !actors[owner].alive;
}

/* A receiver takes this one: none that has stood longer may be older. */
static void check_order(const struct actor *taker, uint32_t slot)
{
    uint64_t ticket = noria_rendezvous_slot_at(&survivor, slot)->ticket;

    for (uint32_t i = 0; i < config.slots; i++)
        check(i == slot || places[i].kind != NORIA_RENDEZVOUS_OFFERED ||
                  places[i].since > taker->changes_before ||
                  (int64_t)(noria_rendezvous_slot_at(&survivor, i)->ticket - ticket) >= 0,
              "the oldest offer is taken first");
}

static bool is_settled(const struct place *before, const struct place *after)
{
    bool owner_dead = before->owner != 0 && is_dead(before->owner),
         taker_dead = before->taker != 0 && is_dead(before->taker);

    if (before->kind == NORIA_RENDEZVOUS_TAKING && after->kind == NORIA_RENDEZVOUS_LOST)
        return taker_dead && after->owner == before->owner && after->taker == 0;
    if (before->kind == NORIA_RENDEZVOUS_TAKING && after->kind == NORIA_RENDEZVOUS_WITHDRAWN)
        return owner_dead && after->taker == before->taker && after->owner == 0;
    return after->kind == NORIA_RENDEZVOUS_FREE && (owner_dead || taker_dead) &&
           before->kind != NORIA_RENDEZVOUS_FREE &&
           (before->kind != NORIA_RENDEZVOUS_TAKING || before->owner == before->taker);
}

/* Whether `me`, who lives, may change the slot so. */
static bool is_own_step(uint32_t me, const struct place *before, const struct place *after)
{
    bool mine = before->owner == me, taking = before->taker == me;

    switch (before->kind) {
    case NORIA_RENDEZVOUS_FREE:
        return after->kind == NORIA_RENDEZVOUS_FILLING && after->owner == me && after->taker == 0;
    case NORIA_RENDEZVOUS_FILLING:
        return mine && after->kind == NORIA_RENDEZVOUS_OFFERED && after->owner == me && after->taker == 0;
    case NORIA_RENDEZVOUS_OFFERED:
        return (mine && after->kind == NORIA_RENDEZVOUS_FREE) ||
               (after->kind == NORIA_RENDEZVOUS_TAKING && after->taker == me &&
                after->owner == before->owner);
    case NORIA_RENDEZVOUS_TAKING:
        return (taking && after->kind == NORIA_RENDEZVOUS_TAKEN && after->owner == before->owner &&
                after->taker == 0) ||
               (mine && after->kind == NORIA_RENDEZVOUS_WITHDRAWN && after->taker == before->taker &&
                after->owner == 0);
    case NORIA_RENDEZVOUS_TAKEN:
    case NORIA_RENDEZVOUS_LOST:
        return mine && after->kind == NORIA_RENDEZVOUS_FREE;
    default:
        return taking && after->kind == NORIA_RENDEZVOUS_FREE;
    }
}

/* What the change means for the two whom it concerns. */
static void note_outcome(const struct place *before, const struct place *after)
{
    if (before->kind != NORIA_RENDEZVOUS_TAKING)
        return;
    if (before->owner != SURVIVOR && after->kind == NORIA_RENDEZVOUS_TAKEN)
        actors[before->owner].taken = true;
    if (before->owner != SURVIVOR && after->kind == NORIA_RENDEZVOUS_LOST)
        actors[before->owner].lost = true;
    if (before->taker != SURVIVOR && after->kind == NORIA_RENDEZVOUS_WITHDRAWN)
        actors[before->taker].gone = true;
}

static void state_changed(uint32_t slot, uint64_t old_word, uint64_t new_word)
{
    const struct actor *actor = (const struct actor *)(void *)fiber_current();
    uint32_t me = actor != NULL ? actor->handle.owner : (uint32_t)SURVIVOR;
    struct place *place = &places[slot], before = *place;
    unsigned shift = 3 + 2 * survivor.owner_bits;

    place->kind = NORIA_RENDEZVOUS_KIND(new_word);
    place->owner = noria_rendezvous_owner_of(&survivor, new_word);
    place->taker = noria_rendezvous_taker_of(&survivor, new_word);
    place->since = ++changes;
    check(before.kind == NORIA_RENDEZVOUS_KIND(old_word), "nobody changes a word behind the ledger's back");
    check((new_word >> shift) - (old_word >> shift) == (before.kind == NORIA_RENDEZVOUS_FREE),
          "claiming a free slot begins the next generation");
    check(is_own_step(me, &before, place) || is_settled(&before, place), "a word moves along the arrows");
    if (place->kind == NORIA_RENDEZVOUS_OFFERED && actor != NULL) {
        place->len = actor->len;
        place->seed = actor->seed;
    }
    if (place->kind == NORIA_RENDEZVOUS_TAKING && actor != NULL)
        check_order(actor, slot);
    note_outcome(&before, place);
}

static void see_change(const void *word, uint64_t old_value, uint64_t new_value)
{
    for (uint32_t slot = 0; slot < config.slots; slot++)
        if (word == noria_rendezvous_state_at(&survivor, slot))
            state_changed(slot, old_value, new_value);
    check(noria_rendezvous_invariant(table, table_size), "invariant() after each change of a word");
}

/* --------------------------------------------------------------------------------------------- the sender */

/* A slot that has been in the state since the call began. */
static bool stood_since(const struct actor *actor, unsigned kind)
{
    for (uint32_t slot = 0; slot < config.slots; slot++)
        if (places[slot].kind == kind && places[slot].since <= actor->changes_before)
            return true;
    return false;
}

static void do_offer(struct actor *actor)
{
    static uint8_t seed;
    uint8_t bytes[LONGEST + 1];
    int rc;

    actor->len =
        actor->amount % 32 == 31 ? config.max_message + 1u : actor->amount % (config.max_message + 1);
    actor->seed = seed = (uint8_t)(seed * 5 + 3);
    actor->taken = actor->lost = false;
    for (size_t i = 0; i < actor->len; i++)
        bytes[i] = (uint8_t)(actor->seed + i * 7);
    rc = noria_rendezvous_offer(&actor->handle, bytes, actor->len, &actor->offer);
    if (actor->len > config.max_message) {
        check(rc == -EMSGSIZE, "too long is -EMSGSIZE");
        return;
    }
    check(rc == 0 || rc == -EAGAIN, "a living sender offers, or there is no room");
    if (rc == -EAGAIN)
        check(!stood_since(actor, NORIA_RENDEZVOUS_FREE), "no room only if no slot was free all the time");
    check((rc == 0) == (actor->offer.word != 0), "an offer is there, or not");
}

/* A living sender's answer, when its offer is decided. */
static void judge_decision(const struct actor *actor, int rc)
{
    check((rc == 0) == actor->taken, "0 if and only if the message was taken");
    check((rc == -EOWNERDEAD) == actor->lost, "-EOWNERDEAD if and only if its receiver died");
    check(actor->offer.word == 0, "the offer is over");
}

static void do_look(struct actor *actor)
{
    bool was_decided = actor->taken || actor->lost;
    int rc = noria_rendezvous_look(&actor->handle, &actor->offer);

    if (rc == -EAGAIN)
        check(!was_decided && actor->offer.word != 0, "not yet, if nothing was decided when the call began");
    else
        judge_decision(actor, rc);
}

static void do_withdraw(struct actor *actor)
{
    int rc = noria_rendezvous_withdraw(&actor->handle, &actor->offer);

    check(rc == 0 || rc == -EOWNERDEAD || rc == -ECANCELED,
          "a living sender is told what became of its message");
    judge_decision(actor, rc);
}

/* ------------------------------------------------------------------------------------------- the receiver */

static void check_message(const struct actor *actor)
{
    const uint8_t *bytes = actor->record.data;

    check(actor->record.len == actor->claimed.len, "a message has the length it was offered with");
    for (size_t i = 0; i < actor->record.len; i++)
        check(bytes[i] == (uint8_t)(actor->claimed.seed + i * 7),
              "and its bytes, as long as its receiver has not finished");
}

static void do_claim(struct actor *actor)
{
    size_t limit = actor->amount % 4 == 0 ? actor->amount / 4 % (config.max_message + 1) : SIZE_MAX;
    int rc = noria_rendezvous_claim(&actor->handle, limit, &actor->record);

    check(rc == 0 || rc == -EAGAIN || rc == -EMSGSIZE, "an honest table has an offer or none");
    if (rc == -EAGAIN && changes - actor->changes_before < MUCH_CONTENTION)
        check(!stood_since(actor, NORIA_RENDEZVOUS_OFFERED), "none only if no offer stood all the time");
    if (rc == -EMSGSIZE)
        check(actor->record.len > limit && actor->record.len <= config.max_message,
              "too long, and it says how long");
    actor->is_taking = rc == 0;
    if (rc != 0)
        return;
    actor->claimed = places[actor->record.slot];
    check(actor->record.len <= limit, "no more than fits");
    check(actor->gone || actor->claimed.taker == actor->handle.owner, "what is claimed is ours");
    check_message(actor);
}

static void do_finish(struct actor *actor)
{
    int rc;

    check_message(actor);
    actor->is_taking = false;
    rc = noria_rendezvous_finish(&actor->handle, &actor->record);
    check(rc == (actor->gone ? -EAGAIN : 0), "the message is the receiver's, unless its sender has gone");
    actor->gone = false;
}

static void do_wait(struct actor *actor)
{
    if (actor->waits)
        noria_rendezvous_await_no_more(&actor->handle);
    else
        noria_rendezvous_await(&actor->handle);
    actor->waits = !actor->waits;
}

/* Takes a dead one out of the table as the channel does: load, certify, compare-and-swap. */
static void settle(struct noria_rendezvous_handle *handle, uint32_t victim)
{
    uint64_t life = actors[victim].life, word = 0;
    uint32_t slot = 0;

    while (noria_rendezvous_find(handle, victim, &slot, &word) == 1) {
        if (actors[victim].alive || actors[victim].life != life)
            return;
        noria_rendezvous_settle(handle, slot, word, victim);
    }
    noria_rendezvous_forget(handle, victim, life);
}

static void do_settle(struct actor *actor)
{
    settle(&actor->handle, actor->victim);
}

static void run_operation(void *argument)
{
    struct actor *actor = argument;
    static void (*const operations[])(struct actor *) = {
        [OFFER] = do_offer, [LOOK] = do_look,     [WITHDRAW] = do_withdraw, [CLAIM] = do_claim,
        [FINISH] = do_finish, [WAIT] = do_wait, [SETTLE] = do_settle,
    };

    actor->changes_before = changes;
    operations[actor->operation](actor);
}

/* ----------------------------------------------------------------------------------------- life and death */

static bool is_named(uint32_t owner)
{
    uint32_t slot = 0;
    uint64_t word = 0;

    return noria_rendezvous_find(&survivor, owner, &slot, &word) == 1;
}

static void be_born(uint32_t owner)
{
    struct actor *actor = &actors[owner];

    if (is_named(owner))
        return; /* its number is not free yet */
    check(noria_rendezvous_join(&actor->handle, table, table_size, owner, ++lives) == 0,
          "whoever is settled may join again");
    actor->life = lives;
    actor->alive = true;
    actor->waits = actor->is_taking = actor->gone = false;
    actor->offer = (struct noria_rendezvous_offer){0, 0};
}

static void die(uint32_t owner)
{
    fiber_kill(&actors[owner].fiber);
    watch.busy = false;
    actors[owner].alive = false;
}

/* What this actor can do instead, if it cannot do that. */
static enum operation feasible(const struct actor *actor, enum operation operation)
{
    if (operation == OFFER && actor->offer.word != 0)
        return LOOK;
    if ((operation == LOOK || operation == WITHDRAW) && actor->offer.word == 0)
        return OFFER;
    if (operation == CLAIM && actor->is_taking)
        return FINISH;
    if (operation == FINISH && !actor->is_taking)
        return CLAIM;
    return operation;
}

static void go_on(struct actor *actor, struct fuzz_input *input)
{
    actor->accesses_left = fuzz_byte(input); /* 0: to the end of the call */
    fiber_continue(&actor->fiber);
    watch.busy = false;
}

static void begin(struct actor *actor, enum operation operation, struct fuzz_input *input)
{
    actor->operation = feasible(actor, operation);
    actor->amount = fuzz_byte(input);
    actor->victim = 1 + actor->amount / 4 % ACTORS;
    if (actor->operation == SETTLE && actors[actor->victim].alive)
        return;
    fiber_start(&actor->fiber, run_operation, actor);
    go_on(actor, input);
}

static void step(struct fuzz_input *input)
{
    uint8_t byte = fuzz_byte(input);
    uint32_t owner = 1 + byte % ACTORS, what = byte / ACTORS % (OPERATIONS + 4);
    struct actor *actor = &actors[owner];

    if (!actor->alive)
        be_born(owner);
    else if (what == DIE)
        die(owner);
    else if (!actor->fiber.busy)
        begin(actor, what < OPERATIONS ? (enum operation)what : what % 2 == 0 ? OFFER : CLAIM, input);
    else
        go_on(actor, input);
}

/* -------------------------------------------------------------------------------------- beginning and end */

static void make_table(struct fuzz_input *input)
{
    config.first_position = (fuzz_below(input, 2) == 0 ? 0 : UINT64_C(1) << 63) - fuzz_below(input, 64);
    config.slots = 1 + fuzz_below(input, MOST_SLOTS);
    config.max_message = fuzz_below(input, LONGEST);
    config.owners = SURVIVOR;
    table_size = noria_rendezvous_footprint(&config);
    table = aligned_alloc(NORIA_CACHE_LINE, table_size);
    check(table != NULL && noria_rendezvous_format(table, table_size, &config) == 0, "format");
    check(noria_rendezvous_join(&survivor, table, table_size, SURVIVOR, 1) == 0, "join");
    memset(places, 0, sizeof(places));
    changes = 0;
    lives = 1;
    for (uint32_t owner = 1; owner <= ACTORS; owner++)
        be_born(owner);
}

/* Everybody is finished or dead; for one survivor the table is as good as new. */
static void end_well(bool mercy)
{
    struct noria_rendezvous_offer offers[MOST_SLOTS + 1];
    struct noria_rendezvous_record record;
    struct noria_rendezvous_census census;

    for (uint32_t owner = 1; owner <= ACTORS; owner++) {
        actors[owner].accesses_left = 0;
        while (mercy && actors[owner].fiber.busy) {
            fiber_continue(&actors[owner].fiber);
            watch.busy = false;
        }
        die(owner);
    }
    for (uint32_t owner = 1; owner <= ACTORS; owner++)
        settle(&survivor, owner);
    noria_rendezvous_count(&survivor, &census);
    check(census.used == 0, "the dead keep no slot");
    check(!noria_rendezvous_is_awaited(&survivor), "nor do they wait");
    check(noria_rendezvous_claim(&survivor, SIZE_MAX, &record) == -EAGAIN, "nor do they offer");
    for (uint32_t i = 0; i < config.slots; i++)
        check(noria_rendezvous_offer(&survivor, "", 0, &offers[i]) == 0, "all slots are there");
    check(noria_rendezvous_offer(&survivor, "", 0, &offers[config.slots]) == -EAGAIN, "and no more");
    for (uint32_t i = 0; i < config.slots; i++) {
        check(noria_rendezvous_claim(&survivor, 0, &record) == 0 && record.slot == offers[i].slot,
              "in the order of offers");
        check(noria_rendezvous_finish(&survivor, &record) == 0, "finish");
        check(noria_rendezvous_look(&survivor, &offers[i]) == 0, "taken");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    bool mercy = fuzz_below(&input, 2) == 0;

    memset(&watch, 0, sizeof(watch));
    make_table(&input);
    watch.before = pause_when_due;
    watch.changed = see_change;
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++)
        step(&input);
    end_well(mercy);
    memset(&watch, 0, sizeof(watch));
    free(table);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
