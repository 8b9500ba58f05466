/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls of a producer and a consumer on an SPSC ring. Each call may be left standing in front of any
 * access to the ring while the other side goes on, and each side may die there, be settled, and have a
 * successor. The model is a plain queue: it grows at the one store that publishes, and shrinks at the one
 * store that releases.
 */
#include "fiber.h"
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/spsc.h>

enum { MOST_STEPS = 800, MOST_RECORDS = 256, MOST_STAGED = 16, MOST_HELD = 8, ROLES = 2 };

enum operation {
    RESERVE,
    STAGE,
    PUBLISH,
    COMMIT,
    ABORT,
    SEND,
    AGAIN_STALE,
    PRODUCER_OPERATIONS,
    PEEK = 0,
    RELEASE,
    RELEASE_THROUGH,
    RECV,
    CONSUMER_OPERATIONS
};

struct message {
    uint64_t end; /* position after it */
    size_t len;
    uint8_t seed;
};

struct side {
    struct fiber fiber;
    bool alive;   /* somebody lives in this role, or tries to */
    bool joined;  /* and has joined */
    bool unclean; /* what the next one must be told */
    uint32_t owner, amount, accesses_left;
    int operation;
    uint64_t word; /* the role's word as somebody saw it once */
};

static struct side sides[ROLES];
static struct noria_spsc_producer producer;
static struct noria_spsc_consumer consumer;
static struct noria_spsc_record reservation, stale;
static bool has_reservation, has_stale;
static struct noria_spsc_record held[MOST_HELD];
static uint32_t held_count;
static void *buffer; /* of a receive that is going on */
static uint8_t sent[4096];

static struct message queue[MOST_RECORDS], staged[MOST_STAGED];
static uint32_t queue_count, staged_count;
static uint64_t staged_from; /* where the first of them begins */

static struct noria_spsc *ring;
static size_t ring_size;
static uint64_t capacity;
static uint32_t births;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

/* --------------------------------------------------------------------------------- in front of and after
 * each access */

static void pause_when_due(const void *word)
{
    struct fiber *fiber = fiber_current();
    struct side *side = (struct side *)(void *)fiber; /* the first member */

    if (fiber == NULL || (uintptr_t)word - (uintptr_t)ring >= ring_size)
        return;
    if (side->accesses_left == 0 || --side->accesses_left != 0)
        return;
    watch.busy = false;
    fiber_pause();
    watch.busy = true;
}

static void published(void)
{
    check(queue_count + staged_count <= MOST_RECORDS, "a ring of this size holds no more records");
    memcpy(queue + queue_count, staged, staged_count * sizeof(*staged));
    queue_count += staged_count;
    staged_count = 0;
}

static void released(uint64_t read_pos)
{
    uint32_t n = 0;

    while (n < queue_count && queue[n].end != read_pos)
        n++;
    check(n < queue_count, "a release ends where a record ends");
    queue_count -= n + 1;
    memmove(queue, queue + n + 1, queue_count * sizeof(*queue));
}

static void see_change(const void *word, uint64_t old_value, uint64_t new_value)
{
    const uint8_t *data = noria_spsc_data(ring);
    uint64_t records = 0, bytes = 0, expected = 0;

    (void)old_value;
    if (word == &ring->read_pos)
        released(new_value);
    else if (staged_count != 0 && word == data + (staged_from & (capacity - 1)))
        published();
    for (uint32_t i = 0; i < queue_count; i++)
        expected += queue[i].len;
    check(noria_spsc_count(ring, ring_size, &records, &bytes) == 0,
          "invariant() after each change of a word");
    check(records == queue_count && bytes == expected, "what the ring shows is what was published");
}

/* --------------------------------------------------------------------------------------------------- the
 * messages */

static uint8_t next_seed(void)
{
    static uint8_t seed;

    return seed = (uint8_t)(seed * 5 + 3);
}

static void fill(uint8_t *bytes, size_t len, uint8_t seed)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(seed + i * 7);
}

static void check_message(const uint8_t *bytes, size_t len, const struct message *expected)
{
    check(len == expected->len, "a record has the length it was sent with");
    for (size_t i = 0; i < len; i++)
        check(bytes[i] == (uint8_t)(expected->seed + i * 7), "a record has the bytes it was sent with");
}

static size_t length_of(uint32_t amount)
{
    size_t most = noria_spsc_max_record(capacity);

    return amount % 16 == 0 ? most - amount / 64 : amount % 16 == 1 ? most + 1 + amount : amount / 4;
}

/* Where a record of `len` would end. */
static uint64_t end_of(size_t len)
{
    uint64_t start = producer.write_pos, rest = capacity - (start & (capacity - 1));
    uint64_t size = noria_spsc_size_of(len);

    return start + size + (size > rest ? rest : 0);
}

/* Whether a record of `len`, and the header behind it, fit now. */
static bool has_room(size_t len)
{
    uint64_t end = end_of(len) + NORIA_SPSC_HEADER;

    return end - __atomic_load_n(&ring->read_pos, __ATOMIC_RELAXED) <= capacity;
}

/* ------------------------------------------------------------------------------------------------------ the
 * producer */

static void judge_room(int rc, size_t len, bool had_room)
{
    if (len > noria_spsc_max_record(capacity))
        check(rc == -EMSGSIZE, "longer than an empty ring could always take");
    else if (had_room)
        check(rc == 0, "there was room");
    else
        check(rc == -EAGAIN || rc == 0, "full, or the consumer released meanwhile");
}

/* Before the call that stages. */
static void note_start(void)
{
    if (staged_count == 0)
        staged_from = producer.write_pos;
}

static void note_staged(uint64_t end, size_t len, uint8_t seed)
{
    check(staged_count < MOST_STAGED, "this harness stages no more");
    staged[staged_count++] = (struct message){end, len, seed};
}

static void do_reserve(const struct side *side)
{
    size_t len = length_of(side->amount);
    bool had_room = has_room(len);
    int rc = noria_spsc_reserve(&producer, len, &reservation);

    judge_room(rc, len, had_room);
    has_reservation = rc == 0;
    check(rc != 0 || has_room(len), "what is reserved is free");
    if (rc == 0)
        memset(reservation.data, 0xee, reservation.len); /* it is all ours */
}

static void do_stage(const struct side *side)
{
    size_t len = reservation.len - (side->amount % 4 == 0 ? 0 : side->amount % (reservation.len + 1));
    uint8_t seed = next_seed();

    check(noria_spsc_stage(&producer, &reservation, reservation.len + 1) == -EINVAL, "longer than reserved");
    fill(reservation.data, len, seed);
    note_start();
    check(noria_spsc_stage(&producer, &reservation, len) == 0, "stage");
    note_staged(producer.write_pos, len, seed);
    stale = reservation;
    has_stale = true;
    has_reservation = false;
}

static void do_publish(const struct side *side)
{
    (void)side;
    noria_spsc_publish(&producer);
    check(staged_count == 0, "published is seen");
}

static void do_commit(const struct side *side)
{
    size_t len = reservation.len - (side->amount % 4 == 0 ? 0 : side->amount % (reservation.len + 1));
    uint8_t seed = next_seed();

    fill(reservation.data, len, seed);
    note_start();
    note_staged(reservation.position + noria_spsc_size_of(len), len, seed);
    check(noria_spsc_commit(&producer, &reservation, len) == 0, "commit");
    check(staged_count == 0, "committed is seen");
    stale = reservation;
    has_stale = true;
    has_reservation = false;
}

static void do_abort(const struct side *side)
{
    (void)side;
    noria_spsc_abort(&producer, &reservation);
    has_reservation = false;
}

/* send publishes in its middle, so the model has to know before. */
static void do_send(const struct side *side)
{
    size_t len = length_of(side->amount);
    bool had_room = has_room(len);
    uint32_t staged_before = staged_count;
    uint8_t seed = next_seed();
    int rc;

    fill(sent, len, seed);
    note_start();
    note_staged(end_of(len), len, seed);
    rc = noria_spsc_send(&producer, sent, len);
    if (rc != 0)
        staged_count = staged_before;
    judge_room(rc, len, had_room);
    has_reservation = false; /* another record stands there now */
}

static void do_again_stale(const struct side *side)
{
    (void)side;
    if (has_stale)
        check(noria_spsc_stage(&producer, &stale, stale.len) == -EINVAL, "staged once is enough");
}

/* ------------------------------------------------------------------------------------------------------ the
 * consumer */

static void judge_record(int rc, bool had_record)
{
    if (had_record)
        check(rc == 0 || rc == -EMSGSIZE, "there was a record");
    else
        check(rc == -EAGAIN || queue_count > held_count, "empty, or something was published meanwhile");
}

static void do_peek(const struct side *side)
{
    bool had_record = queue_count > held_count;
    int rc = noria_spsc_peek(&consumer, &held[held_count]);

    (void)side;
    judge_record(rc, had_record);
    if (rc != 0)
        return;
    check_message(held[held_count].data, held[held_count].len, &queue[held_count]);
    check(held[held_count].next == queue[held_count].end, "a record ends where it was staged");
    held_count++;
}

static void do_release_through(const struct side *side)
{
    uint32_t which = side->amount % held_count;

    for (uint32_t i = 0; i < held_count; i++)
        check_message(held[i].data, held[i].len, &queue[i]); /* it is ours until here */
    check(noria_spsc_release_through(&consumer, &held[which]) == 0, "release_through");
    held_count -= which + 1;
    memmove(held, held + which + 1, held_count * sizeof(*held));
}

static void do_release(const struct side *side)
{
    uint32_t which = side->amount % held_count;
    struct noria_spsc_record record = held[which];

    check(noria_spsc_release(&consumer, &record) == (which == 0 ? 0 : -EINVAL), "in order only");
    if (which != 0)
        return;
    held_count--;
    memmove(held, held + 1, held_count * sizeof(*held));
    check(noria_spsc_release(&consumer, &record) == -EINVAL, "released once");
}

static void forget_buffer(void)
{
    free(buffer);
    buffer = NULL;
}

static void do_recv(const struct side *side)
{
    bool had_record = queue_count != 0;
    struct message first = queue[0]; /* stays first: we alone take */
    size_t limit = side->amount % 2 == 0 ? side->amount : noria_spsc_max_record(capacity), len = 0;
    int rc;

    buffer = malloc(limit); /* exactly as large as we say, so that one byte more is seen */
    rc = noria_spsc_recv(&consumer, buffer, limit, &len);
    if (!had_record) {
        check(rc == -EAGAIN || queue_count != 0 || rc == 0, "empty, or something was published meanwhile");
    } else if (first.len > limit) {
        check(rc == -EMSGSIZE && len == first.len, "too long stays first");
        check(queue_count != 0 && queue[0].end == first.end, "and is not consumed");
    } else {
        check(rc == 0, "there was a record");
        check_message(buffer, len, &first);
    }
    forget_buffer();
}

/* ---------------------------------------------------------------------------------------------------- life
 * and death */

static void do_join(const struct side *side)
{
    bool sends = side == &sides[NORIA_SPSC_PRODUCER], unclean = side->unclean;
    int rc = sends ? noria_spsc_join_producer(&producer, ring, ring_size, side->owner)
                   : noria_spsc_join_consumer(&consumer, ring, ring_size, side->owner);

    check(rc == 0, "a free role can be had");
    check((sends ? producer.taken_over : consumer.taken_over) == unclean,
          "a successor is told, and nobody else");
    if (sends)
        check(queue_count == 0 || producer.write_pos == queue[queue_count - 1].end,
              "it goes on behind the last record");
    sides[sends ? NORIA_SPSC_PRODUCER : NORIA_SPSC_CONSUMER].joined = true;
    sides[sends ? NORIA_SPSC_PRODUCER : NORIA_SPSC_CONSUMER].unclean = false;
}

static void run_operation(void *argument)
{
    const struct side *side = argument;
    static void (*const sending[])(const struct side *) = {do_reserve, do_stage, do_publish,    do_commit,
                                                           do_abort,   do_send,  do_again_stale};
    static void (*const receiving[])(const struct side *) = {do_peek, do_release, do_release_through,
                                                             do_recv};

    if (!side->joined)
        do_join(side);
    else if (side == &sides[NORIA_SPSC_PRODUCER])
        sending[side->operation](side);
    else
        receiving[side->operation](side);
}

static void forget(int role)
{
    if (role == NORIA_SPSC_PRODUCER) {
        has_reservation = has_stale = false;
        staged_count = 0;
    } else {
        held_count = 0;
        forget_buffer();
    }
    sides[role].alive = sides[role].joined = false;
}

static void die(int role)
{
    fiber_kill(&sides[role].fiber);
    watch.busy = false;
    forget(role);
}

static void leave(int role)
{
    struct side *side = &sides[role];

    if (role == NORIA_SPSC_PRODUCER) {
        noria_spsc_leave_producer(&producer);
    } else {
        side->unclean = held_count != 0 || consumer.taken_over;
        noria_spsc_leave_consumer(&consumer);
    }
    forget(role);
}

/* Frees the role of a dead owner. A word that somebody saw in an earlier life does nothing. */
static void settle(int role)
{
    struct side *side = &sides[role];
    uint64_t word = noria_spsc_find(ring, role);

    if (side->word != word)
        check(noria_spsc_settle(ring, role, side->word) == 0, "a stale word settles nothing");
    check(noria_spsc_find(ring, role) == word, "and changes nothing");
    side->word = word;
    if (side->alive || NORIA_SPSC_OWNER(word) == 0)
        return;
    check(noria_spsc_settle(ring, role, word) == 1, "a dead owner's role is freed");
    check(noria_spsc_settle(ring, role, word) == 0, "once");
    side->unclean = true;
}

static void intrude(int role)
{
    struct noria_spsc_producer p;
    struct noria_spsc_consumer c;

    if (NORIA_SPSC_OWNER(noria_spsc_find(ring, role)) == 0)
        return;
    check((role == NORIA_SPSC_PRODUCER ? noria_spsc_join_producer(&p, ring, ring_size, 9)
                                       : noria_spsc_join_consumer(&c, ring, ring_size, 9)) == -EBUSY,
          "a role that is taken is taken");
}

/* ---------------------------------------------------------------------------------------------------------
 * the steps */

static void go_on(struct side *side, struct fuzz_input *input)
{
    side->accesses_left = fuzz_byte(input) % 32; /* 0: to the end of the call */
    fiber_continue(&side->fiber);
    watch.busy = false;
}

static int feasible(int role, int operation)
{
    if (role == NORIA_SPSC_PRODUCER) {
        if (staged_count == MOST_STAGED)
            return PUBLISH;
        if ((operation == STAGE || operation == COMMIT || operation == ABORT) && !has_reservation)
            return RESERVE;
        return operation;
    }
    if (operation == RECV && held_count != 0)
        return RELEASE;
    if (operation == PEEK && held_count == MOST_HELD)
        return RELEASE_THROUGH;
    return (operation == RELEASE || operation == RELEASE_THROUGH) && held_count == 0 ? PEEK : operation;
}

static void begin(int role, uint32_t what, struct fuzz_input *input)
{
    struct side *side = &sides[role];
    uint32_t operations = role == NORIA_SPSC_PRODUCER ? PRODUCER_OPERATIONS : CONSUMER_OPERATIONS;

    side->amount = fuzz_byte(input);
    side->operation = feasible(role, (int)(what % operations));
    fiber_start(&side->fiber, run_operation, side);
    go_on(side, input);
}

static void be_born(int role, struct fuzz_input *input)
{
    struct side *side = &sides[role];

    settle(role);
    side->alive = true;
    side->owner = 1 + births++ % 3; /* numbers come again */
    fiber_start(&side->fiber, run_operation, side);
    go_on(side, input);
}

static void step(struct fuzz_input *input)
{
    uint8_t byte = fuzz_byte(input);
    int role = byte % ROLES;
    uint32_t what = byte / ROLES % 32;
    struct side *side = &sides[role];

    if (what == 31)
        settle(role);
    else if (what == 30)
        intrude(role);
    else if (!side->alive)
        be_born(role, input);
    else if (what == 29)
        die(role);
    else if (side->fiber.busy)
        go_on(side, input);
    else if (what == 28)
        leave(role);
    else
        begin(role, what, input);
}

static void make_ring(struct fuzz_input *input)
{
    static const uint64_t starts[] = {0, UINT64_C(1) << 32, UINT64_C(1) << 63};

    capacity = UINT64_C(256) << fuzz_below(input, 3);
    ring_size = noria_spsc_footprint(capacity);
    ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
    check(ring != NULL, "memory");
    memset(ring, 0xa5, ring_size);
    check(noria_spsc_format(ring, ring_size, capacity,
                            starts[fuzz_below(input, 3)] - 8u * fuzz_byte(input)) == 0,
          "format");
    queue_count = staged_count = births = 0;
    for (int role = 0; role < ROLES; role++) {
        sides[role].unclean = sides[role].alive = sides[role].joined = false;
        sides[role].word = 0;
    }
    watch.before = pause_when_due;
    watch.changed = see_change;
    watch.busy = false;
}

/* Both sides are finished or dead; their successors find every record and the whole capacity. */
static void end_well(bool mercy, struct fuzz_input *input)
{
    const uint64_t fit = (capacity - NORIA_SPSC_HEADER) / 16;

    for (int role = 0; role < ROLES; role++) {
        while (mercy && sides[role].fiber.busy)
            go_on(&sides[role], input);
        die(role);
    }
    for (int role = 0; role < ROLES; role++) {
        be_born(role, input);
        check(sides[role].joined, "with nobody in between it joins at once");
    }
    while (queue_count != 0) {
        do_peek(NULL);
        do_release(&(struct side){.amount = 0});
    }
    do_peek(NULL);
    for (uint64_t i = 0; i < fit; i++) {
        check(noria_spsc_reserve(&producer, 8, &reservation) == 0, "the whole capacity is there");
        do_commit(&(struct side){.amount = 0});
    }
    check(noria_spsc_reserve(&producer, 8, &reservation) == -EAGAIN, "and no more");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    bool mercy = fuzz_below(&input, 2) == 0;

    memset(&watch, 0, sizeof(watch));
    make_ring(&input);
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++) {
        step(&input);
        check(noria_spsc_invariant(ring, ring_size), "invariant() after each step");
    }
    input.left = 0;
    end_well(mercy, &input);
    for (int role = 0; role < ROLES; role++)
        forget(role);
    memset(&watch, 0, sizeof(watch));
    free(ring);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
