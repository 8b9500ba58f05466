/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls of four owners on an MPMC ring. Each call may be left standing in front of any access to the
 * ring while others go on, and any owner may die there, be settled by others, and be born again under its old
 * number. The ledger knows from the words what is committed, taken, orphaned and released, and judges every
 * change and every answer.
 */
#include "fiber.h"
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/mpmc.h>

static _Noreturn void ledger_broken(const char *claim)
{
    fuzz_broken(claim);
}

#include <mpmc_ledger_test.h>

enum { ACTORS = 4, SURVIVOR = ACTORS + 1, MOST_HELD = 3, MOST_STEPS = 600, BATCH = 5, LONGEST = 48 };

/* Changes by others during one call that excuse -EAGAIN for contention: the ring's own bounds are 64. */
enum { MUCH_CONTENTION = 60 };

enum operation {
    SEND,
    SEND_MANY,
    RESERVE,
    COMMIT,
    ABORT,
    RECV,
    RECV_MANY,
    PEEK,
    RELEASE,
    SETTLE,
    LEAVE,
    DIE,
    OPERATIONS
};

/* What was true when a call began. */
struct witness {
    uint64_t times_empty, times_full, changes, switches;
    uint64_t newest; /* the last position committed */
    bool any_commit, empty, full;
};

struct actor {
    struct fiber fiber;
    struct noria_mpmc_handle handle;
    bool alive, has_reservation, settles_unannounced;
    uint32_t victim, amount, accesses_left;
    void *buffer; /* of a receive that is going on */
    enum operation operation;
    struct noria_mpmc_record reservation;
    struct witness at_reserve, before;
    struct noria_mpmc_record held[MOST_HELD];
    uint32_t held_count;
};

static struct actor actors[ACTORS + 1]; /* by owner; 0 is nobody */
static struct noria_mpmc_handle survivor;
static struct noria_mpmc_config config;
static struct noria_mpmc *ring;
static size_t ring_size;
static uint64_t switches, newest_commit;
static bool any_commit, orphan_unannounced;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

/* --------------------------------------------------------------------------------------- in front of each
 * access */

static void pause_when_due(const void *word)
{
    struct fiber *fiber = fiber_current();
    struct actor *actor = (struct actor *)(void *)fiber; /* the first member */

    if (fiber == NULL || (uintptr_t)word - (uintptr_t)ring >= ring_size)
        return;
    if (actor->accesses_left == 0 || --actor->accesses_left != 0)
        return;
    watch.busy = false;
    fiber_pause();
    watch.busy = true;
}

static void see_change(const void *word, uint64_t old_value, uint64_t new_value)
{
    uint64_t commits = ledger.commits, orphaned = ledger.orphaned;

    ledger_changed(word, old_value, new_value);
    if (ledger.commits != commits) {
        uint64_t index = ((uintptr_t)word - (uintptr_t)ledger.view.slots) / ledger.view.slot_size;
        uint64_t sequence = ledger.slots[index].sequence;
        if (!any_commit || noria_mpmc_before(newest_commit, sequence))
            newest_commit = sequence;
        any_commit = true;
    }
    if (ledger.orphaned > orphaned)
        orphan_unannounced = true;
    if (word == &ring->orphans)
        orphan_unannounced = false;
    check(noria_mpmc_invariant(ring, ring_size), "invariant() after each change of a word");
}

/* ------------------------------------------------------------------------------------------ how answers are
 * judged */

static struct witness look(void)
{
    struct witness witness = {.times_empty = ledger.times_empty,
                              .times_full = ledger.times_full,
                              .changes = ledger.changes,
                              .switches = switches,
                              .newest = newest_commit,
                              .any_commit = any_commit,
                              .empty = ledger.committed == 0,
                              .full = ledger.committed >= ledger.view.capacity || !ledger_has_free_slot()};
    return witness;
}

static bool alone_since(const struct witness *before)
{
    return switches == before->switches;
}

static bool contended(const struct witness *before)
{
    return ledger.changes - before->changes >= MUCH_CONTENTION;
}

static void judge_room(const struct witness *before, int rc)
{
    check(rc >= 0 || rc == -EAGAIN, "an honest ring has room or is full");
    if (rc == -EAGAIN && !contended(before))
        check(before->full || ledger.times_full != before->times_full,
              "full only if it was, at some instant");
    if (rc >= 0 && alone_since(before))
        check(!before->full, "no room beyond the capacity");
}

static void judge_record(const struct witness *before, int rc, size_t len, size_t limit)
{
    check(rc >= 0 || rc == -EAGAIN || rc == -EMSGSIZE, "an honest ring has a record or is empty");
    if (rc == -EAGAIN && !contended(before))
        check(before->empty || ledger.times_empty != before->times_empty,
              "empty only if it was, at some instant");
    if (rc == -EAGAIN && alone_since(before) && !orphan_unannounced)
        check(ledger.orphaned == 0, "announced orphans are found");
    if (rc == -EMSGSIZE)
        check(len > limit && len <= config.max_message, "too long, and it says how long");
    if (rc == -EMSGSIZE && alone_since(before) && config.pack == 1)
        check(ledger.committed + ledger.orphaned != 0, "there is a record that is too long");
}

/* --------------------------------------------------------------------------------------------------- the
 * messages */

static void fill(uint8_t *bytes, size_t len, uint8_t seed)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(seed + i * 7 + len);
}

static void check_message(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        check(bytes[i] == (uint8_t)(bytes[0] + i * 7), "a message is what its sender wrote");
}

static uint8_t next_seed(void)
{
    static uint8_t seed;

    return seed = (uint8_t)(seed * 5 + 3);
}

static size_t length_of(uint32_t amount)
{
    return amount % (config.max_message + 1);
}

/* ------------------------------------------------------------------------------------------------------
 * operations */

static void do_send(struct actor *actor)
{
    uint8_t bytes[LONGEST + 1] = {0};
    size_t len = actor->amount % 64 == 63 ? config.max_message + 1u : length_of(actor->amount);
    int rc;

    fill(bytes, len, next_seed());
    rc = noria_mpmc_send(&actor->handle, bytes, len);
    if (len > config.max_message)
        check(rc == -EMSGSIZE, "too long is -EMSGSIZE");
    else
        judge_room(&actor->before, rc);
}

static void do_send_many(struct actor *actor)
{
    uint8_t bytes[BATCH][LONGEST + 1] = {{0}};
    struct iovec vectors[BATCH];
    int n = 1 + (int)(actor->amount % BATCH), rc;

    for (int i = 0; i < n; i++) {
        vectors[i] = (struct iovec){bytes[i], length_of(actor->amount / 5 + (uint32_t)i * 3)};
        fill(bytes[i], vectors[i].iov_len, next_seed());
    }
    if (actor->amount % 16 == 15)
        vectors[n - 1].iov_len = config.max_message + 1u;
    rc = noria_mpmc_send_many(&actor->handle, vectors, n);
    if (rc == -EMSGSIZE)
        check(vectors[0].iov_len > config.max_message, "the first one is too long");
    else
        check(rc == -EAGAIN || (rc >= 1 && rc <= n), "some of them went in");
    if (rc == -EAGAIN)
        judge_room(&actor->before, rc);
}

static void do_reserve(struct actor *actor)
{
    int rc;

    actor->at_reserve = actor->before;
    rc = noria_mpmc_reserve(&actor->handle, &actor->reservation);
    judge_room(&actor->before, rc);
    actor->has_reservation = rc == 0;
    if (rc == 0)
        memset(actor->reservation.data, 0xee, actor->reservation.len); /* it is all ours */
}

static void do_commit(struct actor *actor)
{
    size_t len = length_of(actor->amount);
    int rc;

    fill(actor->reservation.data, len, next_seed());
    rc = noria_mpmc_commit(&actor->handle, &actor->reservation, len);
    if (rc == -EAGAIN) {
        check(contended(&actor->before), "a commit is never told that the ring is full");
        return;
    }
    check(rc == 0, "a living owner's commit succeeds");
    check(!actor->at_reserve.any_commit ||
              noria_mpmc_before(actor->at_reserve.newest, actor->reservation.sequence),
          "a record stands behind all that were committed before it was reserved");
    actor->has_reservation = false;
}

static void do_abort(struct actor *actor)
{
    check(noria_mpmc_abort(&actor->handle, &actor->reservation) == 0, "a living owner may abort");
    actor->has_reservation = false;
}

static void forget_buffer(struct actor *actor)
{
    free(actor->buffer);
    actor->buffer = NULL;
}

static void do_recv(struct actor *actor)
{
    size_t limit = length_of(actor->amount), len = 0;
    uint8_t *bytes = actor->buffer =
        malloc(limit); /* exactly as large as we say, so that one byte more is seen */
    int rc;

    check(bytes != NULL || limit == 0, "memory");
    rc = noria_mpmc_recv(&actor->handle, bytes, limit, &len);
    judge_record(&actor->before, rc, len, limit);
    if (rc == 0) {
        check(len <= limit, "no more than fits");
        check_message(bytes, len);
    }
    forget_buffer(actor);
}

static void do_recv_many(struct actor *actor)
{
    uint8_t bytes[BATCH][LONGEST];
    struct iovec vectors[BATCH];
    int n = 1 + (int)(actor->amount % BATCH), rc;

    for (int i = 0; i < n; i++)
        vectors[i] = (struct iovec){bytes[i], config.max_message};
    rc = noria_mpmc_recv_many(&actor->handle, vectors, n);
    judge_record(&actor->before, rc, 0, 0);
    for (int i = 0; i < rc; i++)
        check_message(bytes[i], vectors[i].iov_len);
}

static void do_peek(struct actor *actor)
{
    struct noria_mpmc_record *record = &actor->held[actor->held_count];
    size_t limit = actor->amount % 4 == 0 ? length_of(actor->amount / 4) : SIZE_MAX;
    int rc = noria_mpmc_peek_within(&actor->handle, limit, record);

    judge_record(&actor->before, rc, record->len, limit);
    if (rc != 0)
        return;
    ledger_check_peeked(&actor->handle, record);
    check(record->len <= limit && record->len <= config.max_message, "no more than fits");
    check_message(record->data, record->len);
    actor->held_count++;
}

static void do_release(struct actor *actor)
{
    uint32_t which = actor->amount % actor->held_count;
    struct noria_mpmc_record *record = &actor->held[which];
    bool in_order = true;
    int rc;

    for (uint32_t i = 0; i < which; i++)
        in_order = in_order && (actor->held[i].position != record->position || record->count == 1);
    ledger_check_peeked(&actor->handle, record);
    rc = noria_mpmc_release(&actor->handle, record);
    check(rc == (in_order ? 0 : -EINVAL), "a living owner releases what it holds; a group in its order");
    if (rc == 0)
        memmove(record, record + 1, (--actor->held_count - which) * sizeof(*record));
}

/* Settles a dead owner's slots as the channel does: load, certify, compare-and-swap; announce at the end. */
static void do_settle(struct actor *actor)
{
    const struct actor *victim = &actors[actor->victim];
    uint64_t index = 0, word = 0;

    while (noria_mpmc_find(&actor->handle, actor->victim, &index, &word) == 1) {
        if (victim->alive)
            return;
        if (actor->amount % 4 == 3)
            (void)noria_mpmc_discard(&actor->handle, index, word);
        else
            (void)noria_mpmc_settle(&actor->handle, index, word);
    }
    noria_mpmc_announce(&actor->handle);
}

static int count_written_by(uint32_t owner)
{
    int count = 0;

    for (uint64_t i = 0; i <= ledger.view.mask; i++) {
        uint64_t word = __atomic_load_n(noria_mpmc_state_at(&ledger.view, i), __ATOMIC_RELAXED);
        count += NORIA_MPMC_KIND(word) == NORIA_MPMC_WRITING && NORIA_MPMC_OWNER(word) == owner;
    }
    return count;
}

static void run_operation(void *argument)
{
    struct actor *actor = argument;
    static void (*const operations[])(struct actor *) = {
        [SEND] = do_send,       [SEND_MANY] = do_send_many, [RESERVE] = do_reserve,     [COMMIT] = do_commit,
        [ABORT] = do_abort,     [RECV] = do_recv,           [RECV_MANY] = do_recv_many, [PEEK] = do_peek,
        [RELEASE] = do_release, [SETTLE] = do_settle,
    };

    actor->before = look();
    operations[actor->operation](actor);
    check(count_written_by(actor->handle.owner) == actor->has_reservation,
          "no slot is left behind half written");
}

/* ------------------------------------------------------------------------------------------------- life and
 * death */

static bool is_named(uint32_t owner)
{
    uint64_t index = 0, word = 0;

    return noria_mpmc_find(&survivor, owner, &index, &word) == 1;
}

static void be_born(uint32_t owner)
{
    struct actor *actor = &actors[owner];

    if (is_named(owner))
        return; /* its number is not free yet */
    check(noria_mpmc_join(&actor->handle, ring, ring_size, owner) == 0, "whoever is settled may join again");
    actor->alive = true;
    actor->has_reservation = false;
    actor->held_count = 0;
}

static void die(uint32_t owner)
{
    fiber_kill(&actors[owner].fiber);
    watch.busy = false;
    forget_buffer(&actors[owner]);
    actors[owner].alive = false;
    actors[owner].has_reservation = false;
    actors[owner].held_count = 0;
}

/* What this actor can do instead, if it cannot do that. */
static enum operation feasible(const struct actor *actor, enum operation operation)
{
    if (operation == RESERVE && actor->has_reservation)
        return COMMIT;
    if ((operation == COMMIT || operation == ABORT) && !actor->has_reservation)
        return RESERVE;
    if ((operation == SEND || operation == SEND_MANY) && actor->has_reservation)
        return COMMIT; /* one reservation at a time */
    if (operation == PEEK && actor->held_count >= config.max_held)
        return RELEASE;
    if ((operation == RECV || operation == RECV_MANY) && actor->held_count != 0)
        return RELEASE;
    if (operation == RELEASE && actor->held_count == 0)
        return PEEK;
    if (operation == LEAVE &&
        (actor->has_reservation || actor->held_count != 0 || is_named(actor->handle.owner)))
        return DIE;
    return operation;
}

static void go_on(struct actor *actor, struct fuzz_input *input)
{
    actor->accesses_left = fuzz_byte(input); /* 0: to the end of the call */
    switches++;
    fiber_continue(&actor->fiber);
    watch.busy = false;
}

static void begin(struct actor *actor, enum operation operation, struct fuzz_input *input)
{
    actor->operation = feasible(actor, operation);
    actor->amount = fuzz_byte(input);
    actor->victim = 1 + actor->amount / 4 % ACTORS;
    if (actor->operation == DIE || actor->operation == LEAVE) {
        die(actor->handle.owner);
        return;
    }
    if (actor->operation == SETTLE && actors[actor->victim].alive)
        return;
    fiber_start(&actor->fiber, run_operation, actor);
    go_on(actor, input);
}

static void step(struct fuzz_input *input)
{
    uint8_t byte = fuzz_byte(input);
    uint32_t owner = 1 + byte % ACTORS;
    struct actor *actor = &actors[owner];
    uint32_t what = byte / ACTORS % (OPERATIONS + 4);

    if (!actor->alive)
        be_born(owner);
    else if (!actor->fiber.busy)
        begin(actor, what < OPERATIONS ? (enum operation)what : what % 2 == 0 ? SEND : PEEK, input);
    else if (what == DIE)
        die(owner);
    else
        go_on(actor, input);
}

/* -------------------------------------------------------------------------------------------- beginning and
 * end */

static void make_ring(struct fuzz_input *input)
{
    static const uint64_t starts[] = {0, UINT64_C(1) << 32, UINT64_C(1) << 47, UINT64_C(1) << 48,
                                      UINT64_C(1) << 63};

    config.capacity = 1 + fuzz_below(input, 8);
    config.slots = fuzz_below(input, 2) == 0 ? 0 : UINT64_C(8) << fuzz_below(input, 3);
    config.first_position = starts[fuzz_below(input, 5)] - fuzz_below(input, 64);
    config.max_message = fuzz_below(input, LONGEST + 1);
    config.pack = 1 + fuzz_below(input, 4);
    config.owners = SURVIVOR;
    config.max_held = 1 + fuzz_below(input, MOST_HELD);
    ring_size = noria_mpmc_footprint(&config);
    check(ring_size != 0, "the configuration is valid");
    ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
    check(ring != NULL && noria_mpmc_format(ring, ring_size, &config) == 0, "format");
    check(noria_mpmc_join(&survivor, ring, ring_size, SURVIVOR) == 0, "join");
    for (uint32_t owner = 1; owner <= ACTORS; owner++)
        be_born(owner);
    switches = newest_commit = 0;
    any_commit = orphan_unannounced = false;
    ledger_open(ring, ring_size);
    watch.before = pause_when_due;
    watch.changed = see_change;
    watch.busy = false;
}

static void drain(void)
{
    struct noria_mpmc_record record = {0};
    struct witness before = look();
    int rc;

    while ((rc = noria_mpmc_peek(&survivor, &record)) == 0) {
        ledger_check_peeked(&survivor, &record);
        check(noria_mpmc_release(&survivor, &record) == 0, "release");
        before = look();
    }
    judge_record(&before, rc, 0, 0);
}

/* Everybody is finished or dead; one survivor finds every record and the whole capacity. */
static void end_well(bool mercy)
{
    for (uint32_t owner = 1; owner <= ACTORS; owner++) {
        actors[owner].accesses_left = 0;
        while (mercy && actors[owner].fiber.busy) {
            switches++;
            fiber_continue(&actors[owner].fiber);
            watch.busy = false;
        }
        die(owner);
    }
    for (uint32_t owner = 1; owner <= ACTORS; owner++) {
        uint64_t index = 0, word = 0;
        while (noria_mpmc_find(&survivor, owner, &index, &word) == 1)
            check(noria_mpmc_settle(&survivor, index, word) == 1, "nobody else moves");
    }
    noria_mpmc_announce(&survivor);
    drain();
    check(ledger.committed == 0 && ledger.orphaned == 0, "everything has come out");
    check(ledger.commits == ledger.takes && ledger.takes == ledger.releases, "and once");
    for (uint64_t i = 0; i < 4 * (ledger.view.mask + 1);
         i++) { /* positions lost by steps come back as the wheel turns */
        check(noria_mpmc_send(&survivor, "", 0) == 0, "an empty ring takes a record");
        drain();
    }
    for (uint64_t i = 0; i < config.capacity; i++)
        check(noria_mpmc_send(&survivor, "", 0) == 0, "the whole capacity is there");
    check(noria_mpmc_send(&survivor, "", 0) == -EAGAIN, "and no more");
    drain();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    bool mercy = fuzz_below(&input, 2) == 0;

    memset(&watch, 0, sizeof(watch));
    make_ring(&input);
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++) {
        step(&input);
        check(noria_mpmc_invariant(ring, ring_size), "invariant() after each step");
    }
    end_well(mercy);
    memset(&watch, 0, sizeof(watch));
    ledger_close();
    free(ring);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
