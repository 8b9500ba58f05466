/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls of a sender and three receivers on a broadcast ring: reliable, evicting or lossy. Each call
 * may be left standing in front of any access while others go on, and anybody may die there, be settled by
 * others, and have a successor. The model is the list of records: it grows at the one store that publishes. A
 * receiver gets each of them, whole and in order, but for those that it is told, exactly, to have missed; and
 * it misses some only if it was evicted, or if they were overwritten.
 */
#include "fiber.h"
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/broadcast.h>

enum { SEATS = 4, MOST_STEPS = 700, MOST_RECORDS = 4096, MOST_STAGED = 16, MOST_HELD = 4 };

/* Changes by others during one call that excuse -EAGAIN for contention: the ring's own bounds are 64. */
enum { MUCH_CONTENTION = 60 };

enum operation {
    JOIN,
    LEAVE,
    SETTLE,
    SENDER_OPERATIONS,
    RESERVE = SENDER_OPERATIONS,
    COMMIT,
    STAGE,
    ABORT,
    PUBLISH,
    EVICT,
    SEND,
    RECEIVER_OPERATIONS,
    PEEK = RECEIVER_OPERATIONS,
    RELEASE,
    RELEASE_THROUGH,
    RECV,
    OPERATIONS
};

struct message {
    size_t len;
    uint8_t seed;
};

/* What was true when a call began. */
struct witness {
    uint64_t changes, published, kept, births, evictions;
};

/* Seat 0 is the sender's, the others are receivers'; a seat's owner number is one more. */
struct seat {
    struct fiber fiber;
    enum operation operation;
    uint32_t amount, accesses_left, victim;
    bool alive, joined;
    uint64_t life; /* how many have sat here */
    struct witness before;
    struct noria_broadcast_receiver receiver;
    uint64_t evictions, evictions_known;
    struct noria_broadcast_record held[MOST_HELD];
    uint32_t held_count;
    uint8_t *buffer;
};

static struct seat seats[SEATS];
static struct noria_broadcast_sender sender;
static struct noria_broadcast_record reservation;
static bool has_reservation;

static struct message records[MOST_RECORDS], staged[MOST_STAGED], tentative;
static uint32_t staged_count;
static bool has_tentative, role_unclean, all_short;
static uint64_t published, changes, births, first_sequence, keeps, longest;
static uint64_t shown; /* the header there is the next that receivers will see */

static struct noria_broadcast *ring;
static struct noria_broadcast_shape shape;
static size_t ring_size;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static struct seat *current_seat(void)
{
    return (struct seat *)(void *)fiber_current(); /* the fiber is its first member */
}

static uint32_t owner_of(const struct seat *seat)
{
    return (uint32_t)(seat - seats) + 1;
}

static bool is_cursor_live(uint32_t i)
{
    return i < shape.owners && NORIA_CURSOR_STATE(shape.cursors[i].life) == NORIA_CURSOR_LIVE;
}

/* How many records stood before the oldest that is kept. */
static uint64_t kept_number(void)
{
    return noria_broadcast_mark_of(&shape, ring->kept)->sequence - first_sequence;
}

/* ---------------------------------------------------------------------- in front of and after each access */

static void pause_when_due(const void *word)
{
    struct seat *seat = current_seat();

    if (seat == NULL || (uintptr_t)word - (uintptr_t)ring >= ring_size)
        return;
    if (seat->accesses_left == 0 || --seat->accesses_left != 0)
        return;
    watch.busy = false;
    fiber_pause();
    watch.busy = true;
}

static void publish_staged(void)
{
    check(staged_count + has_tentative != 0, "nothing is published that was not sent");
    check(published + MOST_STAGED < MOST_RECORDS, "this harness sends no more");
    for (uint32_t i = 0; i < staged_count; i++)
        records[published++] = staged[i];
    if (has_tentative)
        records[published++] = tentative;
    staged_count = 0;
    has_tentative = false;
    shown = sender.write_pos;
}

/* The sender never comes to write over what a receiver that lives has not given back. */
static void check_distance(void)
{
    for (uint32_t i = 1; i < SEATS; i++)
        if (seats[0].joined && seats[i].joined && !seats[i].fiber.busy && is_cursor_live(i))
            check(!noria_broadcast_before(seats[i].receiver.released + shape.capacity, sender.limit),
                  "the limit stays behind each receiver that has joined and lives");
}

static void role_changed(uint64_t word)
{
    if (NORIA_BROADCAST_OWNER(word) != 0)
        return;
    role_unclean = current_seat() != &seats[0] || seats[0].operation == SETTLE;
    check(((word & NORIA_BROADCAST_UNCLEAN) != 0) == role_unclean,
          "the next sender is told whether the last one died");
}

static void see_change(const void *word, uint64_t old_value, uint64_t new_value)
{
    const struct seat *seat = current_seat();

    changes++;
    if (word == &ring->kept)
        check(noria_broadcast_before(old_value, new_value) || old_value == new_value,
              "what was given away stays so");
    if (word == &ring->sender)
        role_changed(new_value);
    if (seat == &seats[0] && seat->joined && word == noria_broadcast_word_at(&shape, shown) && new_value != 0)
        publish_staged();
    for (uint32_t i = 1; i < SEATS && i < shape.owners; i++)
        if (word == &shape.cursors[i].life) {
            births += NORIA_CURSOR_STATE(new_value) == NORIA_CURSOR_LIVE;
            seats[i].evictions += NORIA_CURSOR_STATE(new_value) == NORIA_CURSOR_EVICTED;
        }
    check(noria_broadcast_invariant(ring, ring_size), "invariant() after each change of a word");
    check_distance();
}

/* ------------------------------------------------------------------------------------------- the messages */

static struct message next_message(size_t len)
{
    static uint8_t seed;

    return (struct message){len, seed = (uint8_t)(seed * 5 + 3)};
}

static void fill(uint8_t *bytes, const struct message *message)
{
    for (size_t i = 0; i < message->len; i++)
        bytes[i] = (uint8_t)(message->seed + i * 7);
}

static void check_message(const uint8_t *bytes, size_t len, uint64_t number)
{
    check(number < published, "what is received was published");
    check(len == records[number].len, "a record has the length it was sent with");
    for (size_t i = 0; i < len; i++)
        check(bytes[i] == (uint8_t)(records[number].seed + i * 7), "a record has the bytes it was sent with");
}

static size_t length_of(uint32_t amount)
{
    size_t most = (size_t)noria_broadcast_max_record(shape.capacity);

    if (amount % 16 < 2)
        all_short = false;
    return amount % 16 == 0   ? most - amount / 64
           : amount % 16 == 1 ? most + 1 + amount
                              : amount * 7 % (longest + 1);
}

/* --------------------------------------------------------------------------------------------- the sender */

/* Where a record of `len`, and the header behind it, would end. */
static uint64_t end_of(size_t len)
{
    uint64_t start = sender.write_pos, rest = shape.capacity - (start & shape.mask),
             size = noria_broadcast_size_of(len);

    return start + size + (size > rest ? rest : 0) + NORIA_BROADCAST_HEADER;
}

static bool is_held_up(uint64_t end)
{
    for (uint32_t i = 1; i < SEATS; i++)
        if (is_cursor_live(i) && noria_broadcast_before(shape.cursors[i].position + shape.capacity, end))
            return true;
    return false;
}

static void judge_room(const struct seat *seat, int rc, size_t len, uint64_t end, bool was_held_up)
{
    if (len > noria_broadcast_max_record(shape.capacity)) {
        check(rc == -EMSGSIZE, "longer than there is always room for");
        return;
    }
    check(rc == 0 || rc == -EAGAIN, "there is room, or not");
    if (rc == -EAGAIN && staged_count == 0)
        check(was_held_up || is_held_up(end) || births != seat->before.births,
              "full only if some receiver that lives stands in the way");
}

static void do_reserve(struct seat *seat)
{
    size_t len = length_of(seat->amount);
    uint64_t end = end_of(len);
    bool was_held_up = is_held_up(end);
    int rc = noria_broadcast_reserve(&sender, len, &reservation);

    judge_room(seat, rc, len, end, was_held_up);
    has_reservation = rc == 0;
    if (rc == 0)
        check((uint8_t *)reservation.data >= shape.data && reservation.len == len &&
                  (uint8_t *)reservation.data + len <= shape.data + shape.capacity,
              "a reservation lies inside the data");
}

static void stage_reservation(const struct seat *seat)
{
    uint8_t bytes[2048];
    struct message message = next_message(seat->amount % (reservation.len + 1));

    fill(bytes, &message);
    noria_broadcast_fill(&sender, &reservation, bytes, message.len);
    staged[staged_count++] = message;
    has_reservation = false;
}

static void do_stage(struct seat *seat)
{
    size_t len = seat->amount % (reservation.len + 1);

    stage_reservation(seat);
    check(noria_broadcast_stage(&sender, &reservation, len) == 0, "what was reserved is staged");
}

static void do_commit(struct seat *seat)
{
    size_t len = seat->amount % (reservation.len + 1);

    stage_reservation(seat);
    check(noria_broadcast_commit(&sender, &reservation, len) == 0, "what was reserved is committed");
    check(staged_count == 0, "and published");
}

static void do_abort(struct seat *seat)
{
    (void)seat;
    noria_broadcast_abort(&sender, &reservation);
    has_reservation = false;
}

static void do_publish(struct seat *seat)
{
    (void)seat;
    noria_broadcast_publish(&sender);
    check(staged_count == 0, "all that was staged is published");
}

static void do_send(struct seat *seat)
{
    uint8_t bytes[2048] = {0};
    size_t len = length_of(seat->amount);
    uint64_t end = end_of(len), count = published;
    bool was_held_up = is_held_up(end);
    int rc;

    tentative = next_message(len);
    fill(bytes, &tentative);
    has_tentative = true;
    rc = noria_broadcast_send(&sender, bytes, len);
    judge_room(seat, rc, len, end, was_held_up);
    check((rc == 0) == (published != count), "sent, or not");
    has_tentative = false;
}

static void do_evict(struct seat *seat)
{
    struct noria_broadcast_slowest slowest;

    (void)seat;
    noria_broadcast_find_slowest(&sender, &slowest);
    check(slowest.owner <= shape.owners, "the slowest is one of them, or nobody");
    check(noria_broadcast_evict(&sender, &slowest) == 0 || shape.mode == NORIA_BROADCAST_EVICTING,
          "only where that was asked for");
}

static void join_as_sender(struct seat *seat)
{
    bool was_unclean = role_unclean;
    int rc = noria_broadcast_join_sender(&sender, ring, ring_size, owner_of(seat));

    check(rc == 0, "whoever comes finds the role free and the ring whole");
    check(sender.taken_over == was_unclean, "a successor is told whether the last sender died");
    check(sender.sequence - first_sequence == published, "and goes on behind the last record published");
    shown = sender.write_pos;
    seat->joined = true;
}

/* ------------------------------------------------------------------------------------------ the receivers */

static uint64_t number_of(const struct seat *seat)
{
    return seat->receiver.sequence - first_sequence;
}

static void judge_start(const struct seat *seat, uint32_t start, uint64_t wanted)
{
    uint64_t number = number_of(seat);

    if (start == NORIA_BROADCAST_NOW)
        check(number >= seat->before.published && number <= published, "from now on");
    if (start == NORIA_BROADCAST_OLDEST)
        check(number >= seat->before.kept && number <= kept_number(), "from the oldest kept");
    if (start == NORIA_BROADCAST_POSITION)
        check(number >= (wanted < seat->before.published ? wanted : seat->before.published) &&
                  number <= (wanted > kept_number() ? wanted : kept_number()),
              "from the sequence wanted, or the oldest after it");
    check(seat->receiver.missed ==
              (start == NORIA_BROADCAST_POSITION && wanted < number ? number - wanted : 0),
          "and what was wanted and is gone counts as missed");
}

static void join_as_receiver(struct seat *seat)
{
    uint32_t start = seat->amount % 3;
    uint64_t wanted = published + 8 - seat->amount / 3 % 32;
    int rc;

    wanted = wanted > published + 8 ? 0 : wanted;
    rc = noria_broadcast_join_receiver(&seat->receiver, ring, ring_size, owner_of(seat),
                                       (enum noria_broadcast_start)start, wanted + first_sequence);
    check(rc == 0 || (rc == -EAGAIN && changes - seat->before.changes >= MUCH_CONTENTION),
          "whoever comes finds a place, unless the sender runs ahead");
    if (rc != 0)
        return;
    judge_start(seat, start, wanted);
    seat->receiver.missed = 0;
    seat->evictions_known = seat->before.evictions; /* it may have been evicted since it had its cursor */
    seat->joined = true;
}

static void do_join(struct seat *seat)
{
    if (seat == &seats[0])
        join_as_sender(seat);
    else
        join_as_receiver(seat);
}

static void do_leave(struct seat *seat)
{
    if (seat == &seats[0])
        noria_broadcast_leave_sender(&sender);
    else
        noria_broadcast_leave_receiver(&seat->receiver);
    seat->joined = false;
    staged_count = seat == &seats[0] ? 0 : staged_count;
    has_reservation = has_reservation && seat != &seats[0];
    seat->held_count = 0;
}

/* What a receive did not give, it said so, and had a reason. `number`, `position`: where it stood before. */
static void judge_gap(struct seat *seat, uint64_t number, uint64_t position, bool received)
{
    uint64_t missed = seat->receiver.missed;

    check(number_of(seat) == number + missed + received, "what was missed is counted exactly");
    if (missed != 0 && shape.mode == NORIA_BROADCAST_RELIABLE)
        check(false, "a reliable ring loses nothing");
    if (missed != 0 && shape.mode == NORIA_BROADCAST_EVICTING)
        check(seat->evictions != seat->evictions_known, "who was not evicted misses nothing");
    if (missed != 0 && shape.mode == NORIA_BROADCAST_LOSSY)
        check(noria_broadcast_before(position, ring->kept), "what is missed was overwritten");
    if (is_cursor_live(owner_of(seat) - 1))
        seat->evictions_known = seat->evictions; /* it has come back from all of them */
    seat->receiver.missed = 0;
}

static void judge_nothing(const struct seat *seat)
{
    bool may_fail =
        shape.mode != NORIA_BROADCAST_RELIABLE && changes - seat->before.changes >= MUCH_CONTENTION;

    check(number_of(seat) >= seat->before.published || may_fail,
          "nothing only if no further record was there");
}

static void do_recv(struct seat *seat)
{
    size_t limit = seat->amount % 8 == 0 ? seat->amount / 8 : 2048, len = 0;
    uint64_t number = number_of(seat), position = seat->receiver.position;
    int rc;

    /* Exactly as large as we say, so that one byte more is seen. */
    seat->buffer = malloc(limit == 0 ? 1 : limit);
    check(seat->buffer != NULL, "memory");
    rc = noria_broadcast_recv(&seat->receiver, seat->buffer, limit, &len);
    check(rc == 0 || rc == -EAGAIN || rc == -EMSGSIZE, "an honest ring has a record or none");
    judge_gap(seat, number, position, rc == 0);
    if (rc == 0)
        check_message(seat->buffer, len, number_of(seat) - 1);
    if (rc == -EAGAIN)
        judge_nothing(seat);
    if (rc == -EMSGSIZE)
        check(len > limit && len == records[number_of(seat)].len, "too long, and it says how long");
    free(seat->buffer);
    seat->buffer = NULL;
}

static void do_peek(struct seat *seat)
{
    struct noria_broadcast_record *record = &seat->held[seat->held_count];
    uint64_t number = number_of(seat);
    int rc = noria_broadcast_peek(&seat->receiver, record);

    if (shape.mode != NORIA_BROADCAST_RELIABLE) {
        check(rc < 0, "nothing is shown that may go");
        return;
    }
    check(rc == 0 || rc == -EAGAIN, "an honest ring has a record or none");
    if (rc == -EAGAIN)
        judge_nothing(seat);
    if (rc != 0)
        return;
    check_message(record->data, record->len, number);
    seat->held_count++;
}

static void do_release(struct seat *seat)
{
    uint32_t which = seat->amount % seat->held_count, gone = seat->operation == RELEASE ? 1 : which + 1;
    uint64_t number = number_of(seat) - seat->held_count;
    int rc;

    for (uint32_t i = 0; i < seat->held_count; i++)
        check_message(seat->held[i].data, seat->held[i].len, number + i);
    rc = seat->operation == RELEASE ? noria_broadcast_release(&seat->receiver, &seat->held[which])
                                    : noria_broadcast_release_through(&seat->receiver, &seat->held[which]);
    check(rc == (seat->operation == RELEASE && which != 0 ? -EINVAL : 0),
          "records are released in their order");
    if (rc != 0)
        return;
    seat->held_count -= gone;
    memmove(seat->held, seat->held + gone, seat->held_count * sizeof(seat->held[0]));
}

/* Settles the dead as the channel does: load, certify, compare-and-swap. */
static void do_settle(struct seat *seat)
{
    const struct seat *victim = &seats[seat->victim];
    uint64_t life = victim->life, role = noria_broadcast_find_sender(ring);
    uint64_t cursor = noria_broadcast_find_cursor(&shape, owner_of(victim));

    if (victim->alive || victim->life != life)
        return;
    if (NORIA_BROADCAST_OWNER(role) == owner_of(victim))
        noria_broadcast_settle_sender(ring, role);
    if (NORIA_CURSOR_STATE(cursor) != NORIA_CURSOR_FREE)
        noria_broadcast_settle_cursor(&shape, owner_of(victim), cursor);
}

static void run_operation(void *argument)
{
    struct seat *seat = argument;
    static void (*const operations[])(struct seat *) = {
        [JOIN] = do_join,       [LEAVE] = do_leave, [SETTLE] = do_settle,   [RESERVE] = do_reserve,
        [COMMIT] = do_commit,   [STAGE] = do_stage, [ABORT] = do_abort,     [PUBLISH] = do_publish,
        [EVICT] = do_evict,     [SEND] = do_send,   [PEEK] = do_peek,       [RELEASE] = do_release,
        [RELEASE_THROUGH] = do_release, [RECV] = do_recv,
    };

    seat->before = (struct witness){.changes = changes,
                                    .published = published,
                                    .kept = kept_number(),
                                    .births = births,
                                    .evictions = seat->evictions};
    operations[seat->operation](seat);
}

/* ----------------------------------------------------------------------------------------- life and death */

static bool is_named(uint32_t i)
{
    return NORIA_BROADCAST_OWNER(ring->sender) == i + 1 ||
           (i < shape.owners && NORIA_CURSOR_STATE(shape.cursors[i].life) != NORIA_CURSOR_FREE);
}

static void die(uint32_t i)
{
    struct seat *seat = &seats[i];

    fiber_kill(&seat->fiber);
    watch.busy = false;
    free(seat->buffer);
    seat->buffer = NULL;
    seat->alive = seat->joined = false;
    seat->held_count = 0;
    if (i != 0)
        return;
    staged_count = 0;
    has_tentative = has_reservation = false;
}

static void be_born(uint32_t i)
{
    if (is_named(i))
        return; /* its number is not free yet */
    seats[i].alive = true;
    seats[i].joined = false;
    seats[i].life++;
    seats[i].evictions = seats[i].evictions_known = 0;
}

/* What the seat's holder can do instead, if it cannot do that. */
static enum operation feasible(const struct seat *seat, enum operation operation)
{
    bool sends = seat == &seats[0];

    if (operation == SETTLE)
        return SETTLE;
    if (!seat->joined)
        return JOIN;
    if (operation == JOIN)
        operation = sends ? SEND : RECV;
    if (sends && operation >= RESERVE && operation != ABORT && operation != EVICT &&
        staged_count == MOST_STAGED)
        return PUBLISH;
    if (sends && (operation == RESERVE || operation == SEND) && has_reservation)
        return COMMIT;
    if (sends && (operation == COMMIT || operation == STAGE || operation == ABORT) && !has_reservation)
        return RESERVE;
    if (!sends && operation == PEEK && seat->held_count == MOST_HELD)
        return RELEASE_THROUGH;
    if (!sends && (operation == RELEASE || operation == RELEASE_THROUGH) && seat->held_count == 0)
        return RECV;
    if (!sends && operation == RECV && seat->held_count != 0)
        return RELEASE;
    return operation;
}

static enum operation choose(const struct seat *seat, uint32_t what)
{
    uint32_t sent = RECEIVER_OPERATIONS - SENDER_OPERATIONS, received = OPERATIONS - RECEIVER_OPERATIONS;

    if (what < SENDER_OPERATIONS)
        return (enum operation)what;
    return (enum operation)(seat == &seats[0] ? SENDER_OPERATIONS + what % sent
                                              : RECEIVER_OPERATIONS + what % received);
}

static void go_on(struct seat *seat, struct fuzz_input *input)
{
    seat->accesses_left = fuzz_byte(input); /* 0: to the end of the call */
    fiber_continue(&seat->fiber);
    watch.busy = false;
}

static void begin(struct seat *seat, enum operation operation, struct fuzz_input *input)
{
    seat->operation = feasible(seat, operation);
    seat->amount = fuzz_byte(input);
    seat->victim = seat->amount / 4 % SEATS;
    if (seat->operation == SETTLE && seats[seat->victim].alive)
        return;
    fiber_start(&seat->fiber, run_operation, seat);
    go_on(seat, input);
}

static void step(struct fuzz_input *input)
{
    uint8_t byte = fuzz_byte(input);
    uint32_t i = byte % SEATS, what = byte / SEATS % 32;
    struct seat *seat = &seats[i];

    if (!seat->alive)
        be_born(i);
    else if (what == 31)
        die(i);
    else if (!seat->fiber.busy)
        begin(seat, choose(seat, what), input);
    else
        go_on(seat, input);
}

/* What can be said when no call is going on. */
static void check_at_rest(void)
{
    uint64_t count = 0, bytes = 0, slowest = UINT64_MAX;

    for (uint32_t i = 0; i < SEATS; i++) {
        if (seats[i].fiber.busy || (!seats[i].alive && is_named(i)))
            return;
        if (i != 0 && seats[i].joined && is_cursor_live(i) &&
            number_of(&seats[i]) - seats[i].held_count < slowest)
            slowest = number_of(&seats[i]) - seats[i].held_count;
    }
    slowest = slowest == UINT64_MAX ? kept_number() : slowest;
    check(noria_broadcast_count(&shape, &count, &bytes) == 0,
          "what is there can be counted while nobody moves");
    check(count == published - slowest, "and is what the slowest receiver has not given back");
    if (shape.mode == NORIA_BROADCAST_LOSSY && all_short && staged_count == 0)
        check(published - kept_number() >= (published < keeps ? published : keeps),
              "as many are kept as were asked for");
}

/* -------------------------------------------------------------------------------------- beginning and end */

static void make_ring(struct fuzz_input *input)
{
    enum noria_broadcast_mode mode = (enum noria_broadcast_mode)fuzz_below(input, 3);
    uint64_t first_position = (fuzz_below(input, 2) == 0 ? 4096 : 0) - UINT64_C(8) * fuzz_below(input, 256);
    uint64_t capacity;

    keeps = 1 + fuzz_below(input, 8);
    longest = fuzz_byte(input);
    capacity = noria_broadcast_capacity_for(keeps, longest);
    ring_size = noria_broadcast_footprint(capacity, mode == NORIA_BROADCAST_LOSSY ? 0 : SEATS);
    ring = aligned_alloc(NORIA_CACHE_LINE, ring_size);
    check(ring != NULL && ring_size != 0, "memory");
    memset(ring, 0xa5, ring_size);
    check(noria_broadcast_format(ring, ring_size, capacity, SEATS, mode, first_position) == 0, "format");
    check(noria_broadcast_read_shape(&shape, ring, ring_size) == 0, "shape");
    first_sequence = first_position;
    published = changes = births = 0;
    staged_count = 0;
    has_tentative = has_reservation = role_unclean = false;
    all_short = true;
    for (uint32_t i = 0; i < SEATS; i++) {
        seats[i].life = seats[i].evictions = seats[i].evictions_known = 0;
        be_born(i);
    }
}

static void run_to_end(uint32_t i, enum operation operation, uint32_t amount)
{
    struct seat *seat = &seats[i];

    seat->operation = operation;
    seat->amount = amount;
    seat->accesses_left = 0;
    fiber_start(&seat->fiber, run_operation, seat);
    while (!fiber_continue(&seat->fiber))
        continue;
    watch.busy = false;
}

/* All calls end, or their callers die. Who lives reads all that is there; a successor sends, and a
 * newcomer reads that. */
static void end_well(bool mercy)
{
    uint64_t count;

    for (uint32_t i = 0; i < SEATS; i++) {
        seats[i].accesses_left = 0;
        while (mercy && seats[i].fiber.busy) {
            fiber_continue(&seats[i].fiber);
            watch.busy = false;
        }
        if (!mercy || i == 0 || !seats[i].joined)
            die(i);
    }
    for (uint32_t i = 1; i < SEATS; i++) {
        uint32_t tries = 0;
        if (seats[i].joined && seats[i].held_count != 0)
            run_to_end(i, RELEASE_THROUGH, seats[i].held_count - 1);
        while (seats[i].joined && number_of(&seats[i]) != published && tries++ < MOST_RECORDS)
            run_to_end(i, RECV, 1);
        check(tries < MOST_RECORDS, "who reads on comes to the end");
        die(i);
    }
    for (uint32_t i = 0; i < SEATS; i++) {
        seats[0].victim = i;
        run_to_end(0, SETTLE, 0);
        check(!is_named(i), "the dead are settled");
    }
    be_born(0);
    be_born(1);
    run_to_end(0, JOIN, 0);
    run_to_end(1, JOIN, NORIA_BROADCAST_OLDEST);
    count = published;
    for (uint32_t i = 0; i <= 32; i++) {
        while (number_of(&seats[1]) != published)
            run_to_end(1, RECV, 1);
        check(published == count + i, "a successor sends");
        run_to_end(0, SEND, 2 + i % 8);
    }
    die(0);
    die(1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    bool mercy = fuzz_below(&input, 2) == 0;

    memset(&watch, 0, sizeof(watch));
    make_ring(&input);
    watch.before = pause_when_due;
    watch.changed = see_change;
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++) {
        step(&input);
        check_at_rest();
    }
    end_well(mercy);
    memset(&watch, 0, sizeof(watch));
    free(ring);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
