/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random sends and receives of four threads on a latest-value cell; two of them share a handle to receive.
 * Each call may be left standing in front of any access while others go on, and each owner may die there and
 * be born again at once: there is nothing to settle. The model is the list of versions: it grows at the one
 * swap that publishes, and every answer is judged by what was current from the call's beginning to its end.
 */
#include "fiber.h"
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/latest.h>

enum { THREADS = 4, OWNERS = 3, MOST_STEPS = 600, MOST_VERSIONS = 1024, LONGEST = 48 };

enum operation { SEND, RECV, DIE, OPERATIONS };

struct message {
    size_t len;
    uint8_t seed;
};

/* A handle, and what its threads have been given. */
struct member {
    struct noria_latest_handle handle;
    uint64_t started;       /* the version before the first that it may get */
    uint64_t given, missed; /* versions */
    uint64_t takes;         /* times that `seen` moved */
    bool alive;
};

struct thread {
    struct fiber fiber;
    uint32_t owner;
    enum operation operation;
    uint32_t amount, accesses_left;
    struct message message; /* of a send that is going on */
    bool has_published;
    uint8_t *buffer;
    uint64_t newest_before, seen_before, takes_before;
};

static struct member members[OWNERS + 1];
static struct thread threads[THREADS];
static struct noria_latest *cell;
static size_t cell_size;
static uint64_t first_version, newest; /* how many versions there are */
static struct message versions[MOST_VERSIONS];
static uint32_t max_message;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

/* How many versions there were up to this one. */
static uint64_t number_of(uint64_t version)
{
    return (version - first_version) % NORIA_LATEST_VERSIONS;
}

/* ---------------------------------------------------------------------- in front of and after each access */

static bool is_within(const void *word, const void *start, size_t size)
{
    return (uintptr_t)word - (uintptr_t)start < size;
}

static void pause_when_due(const void *word)
{
    struct thread *thread = (struct thread *)(void *)fiber_current(); /* the fiber is its first member */

    if (thread == NULL || (!is_within(word, cell, cell_size) && !is_within(word, members, sizeof(members))))
        return;
    if (thread->accesses_left == 0 || --thread->accesses_left != 0)
        return;
    watch.busy = false;
    fiber_pause();
    watch.busy = true;
}

static void published(struct thread *thread, uint64_t old_word, uint64_t new_word)
{
    check(thread->operation == SEND && !thread->has_published, "a send publishes once");
    check(number_of(NORIA_LATEST_VERSION(new_word)) == number_of(NORIA_LATEST_VERSION(old_word)) + 1 &&
              number_of(NORIA_LATEST_VERSION(old_word)) == newest,
          "the version grows by one with each publication");
    check(NORIA_LATEST_OWNER(new_word) == thread->owner, "the word names who published");
    check(newest + 1 < MOST_VERSIONS, "this harness sends no more");
    thread->has_published = true;
    versions[++newest] = thread->message;
}

static void see_change(const void *word, uint64_t old_value, uint64_t new_value)
{
    struct thread *thread = (struct thread *)(void *)fiber_current();

    if (thread == NULL)
        return;
    if (word == &cell->current)
        published(thread, old_value, new_value);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        members[owner].takes += word == &members[owner].handle.seen;
    check(noria_latest_invariant(cell, cell_size), "invariant() after each change of a word");
}

/* ---------------------------------------------------------------------------------------------- the calls */

static void fill(uint8_t *bytes, const struct message *message)
{
    for (size_t i = 0; i < message->len; i++)
        bytes[i] = (uint8_t)(message->seed + i * 7);
}

static void check_message(const uint8_t *bytes, size_t len, const struct message *expected)
{
    check(len == expected->len, "a message has the length it was sent with");
    for (size_t i = 0; i < len; i++)
        check(bytes[i] == (uint8_t)(expected->seed + i * 7), "a message has the bytes it was sent with");
}

static void do_send(struct thread *thread)
{
    static uint8_t seed;
    uint8_t bytes[LONGEST + 1];
    int rc;

    thread->message.len = thread->amount % 32 == 31 ? max_message + 1u : thread->amount % (max_message + 1);
    thread->message.seed = seed = (uint8_t)(seed * 5 + 3);
    thread->has_published = false;
    fill(bytes, &thread->message);
    rc = noria_latest_send(&members[thread->owner].handle, bytes, thread->message.len);
    if (thread->message.len > max_message) {
        check(rc == -EMSGSIZE && !thread->has_published, "too long is -EMSGSIZE");
        return;
    }
    check(rc == (thread->has_published ? 0 : 1), "sent and current, or sent and overwritten at once");
    check(rc == 0 || newest != thread->newest_before,
          "overwritten only by another that was published meanwhile");
}

static void judge_nothing(const struct thread *thread)
{
    check(thread->newest_before == thread->seen_before ||
              members[thread->owner].takes != thread->takes_before ||
              newest - thread->newest_before >= NORIA_LATEST_RESTARTS,
          "nothing new only if it was so at some instant, or the call was overtaken again and again");
}

static void judge_message(const struct thread *thread, const struct noria_latest_message *message)
{
    uint64_t number = number_of(message->version);

    check(number >= 1 && number <= newest, "what is received was sent");
    check(number >= thread->newest_before, "nothing older than what was current when the call began");
    check(message->sender >= 1 && message->sender <= OWNERS, "its sender is known");
    check(message->len == versions[number].len, "its length is true");
}

static void do_recv(struct thread *thread)
{
    struct member *member = &members[thread->owner];
    size_t limit = thread->amount % (max_message + 1);
    struct noria_latest_message message = {0};
    int rc;

    /* Exactly as large as we say, so that one byte more is seen. */
    thread->buffer = malloc(limit == 0 ? 1 : limit);
    check(thread->buffer != NULL, "memory");
    rc = noria_latest_recv(&member->handle, thread->buffer, limit, &message);
    check(rc == 0 || rc == -EAGAIN || rc == -EMSGSIZE, "an honest cell has a message or nothing new");
    if (rc == -EAGAIN) {
        judge_nothing(thread);
    } else {
        judge_message(thread, &message);
        check((rc == -EMSGSIZE) == (message.len > limit), "what fits is received, what does not stays");
    }
    if (rc == 0) {
        check_message(thread->buffer, message.len, &versions[number_of(message.version)]);
        member->given++;
        member->missed += message.missed;
    }
    free(thread->buffer);
    thread->buffer = NULL;
}

static void run_operation(void *argument)
{
    struct thread *thread = argument;
    const struct member *member = &members[thread->owner];

    thread->newest_before = newest;
    thread->takes_before = member->takes;
    thread->seen_before = number_of(member->handle.seen);
    if (thread->operation == SEND)
        do_send(thread);
    else
        do_recv(thread);
}

/* ----------------------------------------------------------------------------------------- life and death */

static void be_born(uint32_t owner)
{
    struct member *member = &members[owner];

    check(noria_latest_join(&member->handle, cell, cell_size, owner) == 0, "anybody may join, whoever died");
    member->alive = true;
    member->given = member->missed = 0;
    member->started = number_of(member->handle.seen);
    check(member->started == (newest == 0 ? 0 : newest - 1), "a newcomer gets what is current");
}

static void die(uint32_t owner)
{
    for (int i = 0; i < THREADS; i++) {
        if (threads[i].owner != owner)
            continue;
        fiber_kill(&threads[i].fiber);
        watch.busy = false;
        free(threads[i].buffer);
        threads[i].buffer = NULL;
    }
    members[owner].alive = false;
}

/* What a handle got and what it was told to have missed is all there was. */
static void settle_accounts(uint32_t owner)
{
    const struct member *member = &members[owner];

    for (int i = 0; i < THREADS; i++)
        if (threads[i].owner == owner && threads[i].fiber.busy)
            return;
    check(member->given + member->missed == number_of(member->handle.seen) - member->started,
          "each version is received once or counted as missed");
}

static void go_on(struct thread *thread, struct fuzz_input *input)
{
    thread->accesses_left = fuzz_byte(input); /* 0: to the end of the call */
    fiber_continue(&thread->fiber);
    watch.busy = false;
}

static void step(struct fuzz_input *input)
{
    uint8_t byte = fuzz_byte(input);
    uint32_t which = byte % THREADS, what = byte / THREADS % 8;
    struct thread *thread = &threads[which];

    if (!members[thread->owner].alive) {
        be_born(thread->owner);
    } else if (what == 7) {
        die(thread->owner);
    } else if (thread->fiber.busy) {
        go_on(thread, input);
    } else {
        /* Of those who share a handle one sends. */
        thread->operation = what < 3 && which != THREADS - 1 ? SEND : RECV;
        thread->amount = fuzz_byte(input);
        fiber_start(&thread->fiber, run_operation, thread);
        go_on(thread, input);
    }
    if (members[thread->owner].alive)
        settle_accounts(thread->owner);
}

static void make_cell(struct fuzz_input *input)
{
    max_message = fuzz_below(input, LONGEST);
    first_version = (fuzz_below(input, 2) == 0 ? 0 : NORIA_LATEST_VERSIONS) - fuzz_below(input, 64);
    first_version %= NORIA_LATEST_VERSIONS;
    cell_size = noria_latest_footprint(max_message, OWNERS);
    cell = aligned_alloc(NORIA_CACHE_LINE, cell_size);
    check(cell != NULL && noria_latest_format(cell, cell_size, max_message, OWNERS, first_version) == 0,
          "format");
    newest = 0;
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        be_born(owner);
    for (uint32_t i = 0; i < THREADS; i++)
        threads[i].owner = i < OWNERS ? i + 1 : OWNERS;
}

/* All calls end; everybody gets the newest message, unless it was had. */
static void end_well(void)
{
    for (int i = 0; i < THREADS; i++) {
        threads[i].accesses_left = 0;
        while (threads[i].fiber.busy) {
            fiber_continue(&threads[i].fiber);
            watch.busy = false;
        }
    }
    for (uint32_t owner = 1; owner <= OWNERS; owner++) {
        struct member *member = &members[owner];
        struct noria_latest_message message;
        uint8_t bytes[LONGEST];
        bool has_new = member->alive && number_of(member->handle.seen) != newest;
        if (!member->alive)
            continue;
        check(noria_latest_may_receive(&member->handle) == has_new, "may_receive is true while nobody moves");
        check(noria_latest_recv(&member->handle, bytes, sizeof(bytes), &message) == (has_new ? 0 : -EAGAIN),
              "the newest is there for everybody, once");
        if (has_new)
            check_message(bytes, message.len, &versions[newest]);
        member->given += has_new;
        member->missed += has_new ? message.missed : 0;
        settle_accounts(owner);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};

    memset(&watch, 0, sizeof(watch));
    make_cell(&input);
    watch.before = pause_when_due;
    watch.changed = see_change;
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++)
        step(&input);
    end_well();
    memset(&watch, 0, sizeof(watch));
    free(cell);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
