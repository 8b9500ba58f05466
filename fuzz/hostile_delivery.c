/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * As hostile_ring.c, for the rings of the other kinds of delivery: broadcast, latest value, rendezvous. A
 * hostile or broken peer writes into the memory between calls, and in front of any access in the middle of a
 * call. Whatever it writes, each call ends with a documented result and touches nothing outside of the ring,
 * which stands in an allocation of exactly its size for AddressSanitizer to guard. In a plain run (--live) a
 * second thread writes without end instead.
 */
#include "input.h"
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <watched_test.h>

#include <noria/broadcast.h>
#include <noria/latest.h>
#include <noria/rendezvous.h>

enum { MOST_STEPS = 300, HANDLES = 3, MOST_HELD = 4, LONGEST = 64 };

/* No call may look at the ring more often than this. */
enum { MOST_ACCESSES = 50000000 };

enum ring_kind { BROADCAST, LATEST, RENDEZVOUS, RING_KINDS };

static uint8_t *memory;
static size_t memory_size, header_size;
static enum ring_kind ring_kind;

static struct noria_broadcast_shape shape;
static struct noria_broadcast_sender sender;
static struct noria_broadcast_receiver receivers[HANDLES]; /* the first one sends */
static struct noria_broadcast_record reserved, held[HANDLES][MOST_HELD];
static struct noria_latest_handle cells[HANDLES];
static struct noria_rendezvous_handle tables[HANDLES];
static struct noria_rendezvous_offer offers[HANDLES];
static struct noria_rendezvous_record taking[HANDLES];
static bool joined[HANDLES], has_reserved, is_taking[HANDLES];
static uint32_t held_count[HANDLES];

static uint32_t accesses, strike_at, strikes_left;
static uint64_t strike_value;
static bool strike_here;
static size_t strike_offset;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static void check_result(int rc)
{
    check(rc >= 0 || rc == -EAGAIN || rc == -EMSGSIZE || rc == -EINVAL || rc == -EOWNERDEAD ||
              rc == -EBADMSG || rc == -EBUSY || rc == -ECANCELED,
          "each call ends with a documented result");
}

/* ------------------------------------------------------------------------------------------- the bad peer */

static void scribble(size_t offset, uint64_t value)
{
    __atomic_store_n((uint64_t *)(void *)(memory + offset), value, __ATOMIC_RELAXED);
}

/* A value that might mean something where it is written: `kind` says how far it goes. */
static uint64_t plausible(size_t offset, uint32_t kind, uint64_t noise)
{
    uint64_t old = __atomic_load_n((uint64_t *)(void *)(memory + offset), __ATOMIC_RELAXED);

    switch (kind % 10) {
    case 0: return noise;
    case 1: return noise % 128;
    case 2: return old + noise % 33 - 16;
    case 3: return old ^ UINT64_C(1) << noise % 64;
    case 4: return (old & ~UINT64_C(7)) | noise % 8; /* another state of a slot, a cursor, a buffer */
    case 5: return old + (noise % 5 - 2) * NORIA_BROADCAST_ONE;
    case 6: return NORIA_BROADCAST_COMMITTED | (noise & 1 ? NORIA_BROADCAST_PAD : 0) | (noise >> 8 & 0x1ff) |
                   (old & ~(NORIA_BROADCAST_ONE - 1));
    case 7: return old + (noise % 33 - 16) * 64;
    case 8: return noise % 8 | (noise >> 8 & 3) << 3 | (noise >> 16 & 3) << 5 | old >> 8 << 8;
    default: return UINT64_MAX - noise % 64;
    }
}

static void strike(const void *word)
{
    size_t offset = (size_t)((uintptr_t)word - (uintptr_t)memory);

    if (offset >= memory_size)
        return;
    check(++accesses < MOST_ACCESSES, "each call comes to an end");
    if (strike_at == 0 || --strike_at != 0)
        return;
    offset = strike_here ? offset & ~(size_t)7 : strike_offset;
    scribble(offset, plausible(offset, (uint32_t)(strike_value >> 56), strike_value));
    if (--strikes_left != 0) { /* and once more, soon */
        strike_at = 1 + (uint32_t)(strike_value & 3);
        strike_value = strike_value * UINT64_C(0xd1342543de82ef95) + 1;
    }
}

/* ------------------------------------------------------------------------------------- what calls give us */

static void touch(const void *data, size_t len, bool write)
{
    const uint8_t *bytes = data;
    volatile uint8_t sum = 0;

    check(bytes >= memory && len <= memory_size && (size_t)(bytes - memory) <= memory_size - len,
          "a record lies inside the ring");
    if (write)
        memset(memory + (bytes - memory), 0x77, len);
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
}

static uint8_t *buffer_of(size_t limit)
{
    uint8_t *bytes = malloc(limit == 0 ? 1 : limit);

    check(bytes != NULL, "memory");
    return limit == 0 ? bytes + 1 : bytes; /* exactly as large as we say */
}

static void free_buffer(uint8_t *bytes, size_t limit)
{
    free(limit == 0 ? bytes - 1 : bytes);
}

static const uint8_t bytes_to_send[2 * LONGEST];

/* ---------------------------------------------------------------------------------------- broadcast calls */

static void broadcast_join(uint32_t who, uint32_t amount)
{
    struct noria_broadcast_sender fresh_sender;
    struct noria_broadcast_receiver fresh;
    uint64_t role = noria_broadcast_find_sender(memory), life = noria_broadcast_find_cursor(&shape, who + 1);
    int rc;

    if (amount % 4 != 0)
        check_result(who == 0 ? noria_broadcast_settle_sender(memory, role)
                              : noria_broadcast_settle_cursor(&shape, who + 1, life));
    rc = who == 0 ? noria_broadcast_join_sender(&fresh_sender, memory, memory_size, amount % 8)
                  : noria_broadcast_join_receiver(&fresh, memory, memory_size, who + 1,
                                                  (enum noria_broadcast_start)(amount / 4 % 3), amount / 16);
    check_result(rc);
    if (rc != 0)
        return;
    if (who == 0)
        sender = fresh_sender;
    else
        receivers[who] = fresh; /* whatever it held is forgotten, as by a dead process */
    joined[who] = true;
    has_reserved = has_reserved && who != 0;
    held_count[who] = 0;
}

static void broadcast_reserve(uint32_t amount)
{
    int rc = noria_broadcast_reserve(&sender, amount, &reserved);

    check_result(rc);
    has_reserved = rc == 0;
    if (rc == 0)
        touch(reserved.data, reserved.len, true);
}

static void broadcast_finish(uint32_t amount)
{
    if (!has_reserved) {
        broadcast_reserve(amount);
        return;
    }
    touch(reserved.data, reserved.len, true);
    check_result(noria_broadcast_stage(&sender, &reserved, amount % (reserved.len + 2)));
    if (amount % 4 != 0)
        noria_broadcast_publish(&sender);
    has_reserved = amount % 8 == 7; /* sometimes once more */
}

static void broadcast_peek_or_release(uint32_t who, uint32_t amount)
{
    struct noria_broadcast_record *record = &held[who][held_count[who] % MOST_HELD];
    int rc;

    if (amount % 2 == 0 && held_count[who] != 0) {
        record = &held[who][amount % held_count[who]];
        check_result(amount % 4 == 0 ? noria_broadcast_release(&receivers[who], record)
                                     : noria_broadcast_release_through(&receivers[who], record));
        held_count[who] -= amount % 5 != 0;
        return;
    }
    rc = noria_broadcast_peek(&receivers[who], record);
    check_result(rc);
    if (rc != 0)
        return;
    touch(record->data, record->len, false);
    held_count[who] += held_count[who] < MOST_HELD;
}

static void broadcast_receive(uint32_t who, uint32_t amount)
{
    size_t limit = amount % LONGEST, len = 0;
    uint8_t *bytes = buffer_of(limit);
    int rc = noria_broadcast_recv(&receivers[who], bytes, limit, &len);

    check_result(rc);
    check(rc != 0 || len <= limit, "no more than fits");
    free_buffer(bytes, limit);
}

static void broadcast_look(uint32_t who, uint32_t amount)
{
    uint64_t records, bytes;

    check_result(noria_broadcast_count(&shape, &records, &bytes));
    (void)noria_broadcast_invariant(memory, memory_size);
    if (amount % 4 != 0)
        return;
    if (who == 0)
        noria_broadcast_leave_sender(&sender);
    else
        noria_broadcast_leave_receiver(&receivers[who]);
    joined[who] = false;
}

static void broadcast_evict(void)
{
    struct noria_broadcast_slowest slowest;

    noria_broadcast_find_slowest(&sender, &slowest);
    check_result(noria_broadcast_evict(&sender, &slowest));
}

static void broadcast_call(uint32_t what, uint32_t who, uint32_t amount)
{
    switch (joined[who] ? what % 12 : 0) {
    case 0: broadcast_join(who, amount); break;
    case 1: broadcast_look(who, amount); break;
    case 2: case 3: case 4:
        if (who == 0)
            broadcast_finish(amount);
        else
            broadcast_peek_or_release(who, amount);
        break;
    case 5:
        if (who == 0)
            broadcast_evict();
        break;
    default:
        if (who == 0)
            check_result(noria_broadcast_send(&sender, bytes_to_send, amount % sizeof(bytes_to_send)));
        else
            broadcast_receive(who, amount);
    }
}

/* ------------------------------------------------------------------------------------- latest-value calls */

static void latest_receive(uint32_t who, uint32_t amount)
{
    struct noria_latest_message message;
    size_t limit = amount % LONGEST;
    uint8_t *bytes = buffer_of(limit);
    int rc = noria_latest_recv(&cells[who], bytes, limit, &message);

    check_result(rc);
    check(rc != 0 || message.len <= limit, "no more than fits");
    free_buffer(bytes, limit);
}

static void latest_call(uint32_t what, uint32_t who, uint32_t amount)
{
    struct noria_latest_handle fresh;
    int rc;

    if (joined[who] && what % 8 < 3) {
        check_result(noria_latest_send(&cells[who], bytes_to_send, amount % sizeof(bytes_to_send)));
    } else if (joined[who] && what % 8 < 7) {
        (void)noria_latest_may_receive(&cells[who]);
        latest_receive(who, amount);
    } else {
        (void)noria_latest_invariant(memory, memory_size);
        rc = noria_latest_join(&fresh, memory, memory_size, amount % 5);
        check_result(rc);
        if (rc == 0)
            cells[who] = fresh;
        joined[who] = joined[who] || rc == 0;
    }
}

/* --------------------------------------------------------------------------------------- rendezvous calls */

static void rendezvous_join(uint32_t who, uint32_t amount)
{
    struct noria_rendezvous_handle fresh;
    int rc = noria_rendezvous_join(&fresh, memory, memory_size, amount % 5, amount / 4);

    check_result(rc);
    if (rc != 0)
        return;
    tables[who] = fresh;
    offers[who].word = 0;
    joined[who] = true;
    is_taking[who] = false;
}

static void rendezvous_send(uint32_t who, uint32_t amount)
{
    if (offers[who].word == 0)
        check_result(noria_rendezvous_offer(&tables[who], bytes_to_send, amount % sizeof(bytes_to_send),
                                            &offers[who]));
    else
        check_result(amount % 4 == 0 ? noria_rendezvous_withdraw(&tables[who], &offers[who])
                                     : noria_rendezvous_look(&tables[who], &offers[who]));
}

static void rendezvous_receive(uint32_t who, uint32_t amount)
{
    size_t limit = amount % 3 == 0 ? amount % LONGEST : SIZE_MAX;
    int rc;

    if (is_taking[who]) {
        touch(taking[who].data, taking[who].len, false);
        is_taking[who] = amount % 8 == 7; /* sometimes once more */
        check_result(noria_rendezvous_finish(&tables[who], &taking[who]));
        return;
    }
    rc = noria_rendezvous_claim(&tables[who], limit, &taking[who]);
    check_result(rc);
    is_taking[who] = rc == 0;
    check(rc != 0 || taking[who].len <= limit, "no more than fits");
    if (rc == 0)
        touch(taking[who].data, taking[who].len, false);
}

static void rendezvous_recover(uint32_t who, uint32_t amount)
{
    struct noria_rendezvous_census census;
    uint32_t slot = 0, dead = amount % 6;
    uint64_t word;

    for (uint32_t i = 0; i < 256 && noria_rendezvous_find(&tables[who], dead, &slot, &word) == 1; i++)
        check_result(noria_rendezvous_settle(&tables[who], slot, word, dead));
    if (dead >= 1 && dead <= tables[who].owners)
        noria_rendezvous_forget(&tables[who], dead, amount / 4);
    noria_rendezvous_count(&tables[who], &census);
    (void)noria_rendezvous_is_awaited(&tables[who]);
    (void)noria_rendezvous_may_receive(&tables[who]);
    (void)noria_rendezvous_invariant(memory, memory_size);
}

static void rendezvous_call(uint32_t what, uint32_t who, uint32_t amount)
{
    switch (joined[who] ? what % 12 : 0) {
    case 0: rendezvous_join(who, amount); break;
    case 1: rendezvous_recover(who, amount); break;
    case 2: noria_rendezvous_await(&tables[who]); break;
    case 3: noria_rendezvous_await_no_more(&tables[who]); break;
    case 4: case 5: case 6: case 7: rendezvous_send(who, amount); break;
    default: rendezvous_receive(who, amount);
    }
}

/* -------------------------------------------------------------------------------------------------- a run */

static void (*const calls[RING_KINDS])(uint32_t what, uint32_t who, uint32_t amount) = {
    [BROADCAST] = broadcast_call, [LATEST] = latest_call, [RENDEZVOUS] = rendezvous_call,
};

static void call(uint32_t what, uint32_t who, uint32_t amount)
{
    accesses = 0;
    calls[ring_kind](what, who, amount);
}

static int format_ring(struct fuzz_input *input, uint64_t first_position)
{
    uint32_t max_message = fuzz_below(input, LONGEST), mode = fuzz_below(input, 3);
    struct noria_rendezvous_config config = {first_position, max_message, HANDLES + 1,
                                             1 + fuzz_below(input, 8)};
    uint64_t capacity = UINT64_C(512) << fuzz_below(input, 2);

    header_size = ring_kind == BROADCAST ? 512 : ring_kind == LATEST ? 256 : 384;
    memory_size = ring_kind == BROADCAST
                      ? noria_broadcast_footprint(capacity, mode == NORIA_BROADCAST_LOSSY ? 0 : 4)
                  : ring_kind == LATEST ? noria_latest_footprint(max_message, HANDLES + 1)
                                        : noria_rendezvous_footprint(&config);
    memory = aligned_alloc(NORIA_CACHE_LINE, memory_size);
    check(memory != NULL && memory_size % NORIA_CACHE_LINE == 0, "exactly as large as the ring");
    memset(memory, fuzz_byte(input), memory_size);
    if (ring_kind == LATEST)
        return noria_latest_format(memory, memory_size, max_message, HANDLES + 1, first_position);
    if (ring_kind == RENDEZVOUS)
        return noria_rendezvous_format(memory, memory_size, &config);
    return noria_broadcast_format(memory, memory_size, capacity, 4, (enum noria_broadcast_mode)mode,
                                  first_position);
}

static void make_ring(struct fuzz_input *input)
{
    uint64_t first_position = fuzz_below(input, 4) == 0 ? UINT64_MAX - fuzz_byte(input) : fuzz_byte(input);

    ring_kind = (enum ring_kind)fuzz_below(input, RING_KINDS);
    check(format_ring(input, first_position) == 0, "format");
    if (ring_kind == BROADCAST)
        check(noria_broadcast_read_shape(&shape, memory, memory_size) == 0, "shape");
    memset(joined, 0, sizeof(joined));
    memset(held_count, 0, sizeof(held_count));
    memset(is_taking, 0, sizeof(is_taking));
    has_reserved = false;
    for (uint32_t who = 0; who < HANDLES; who++)
        call(0, who, who + 1);
}

static void step(struct fuzz_input *input)
{
    uint32_t what = fuzz_byte(input), who = fuzz_below(input, HANDLES), amount = fuzz_byte(input);
    size_t offset = (amount + 256u * fuzz_byte(input)) % (memory_size / 8) * 8;

    strike_at = 0;
    switch (what % 8) {
    case 0: /* write a word */
        scribble(offset, plausible(offset, who + what / 8, fuzz_word(input)));
        break;
    case 1: /* write a word of the header, or of the first lines behind it */
        offset = what / 8 % 2 == 0 ? offset % header_size : header_size + offset % 256;
        offset %= memory_size;
        scribble(offset, plausible(offset, what / 8, fuzz_word(input)));
        break;
    case 2: /* write in the middle of the call */
    case 3:
        strike_at = 1 + fuzz_byte(input) % 16u;
        strikes_left = what % 32 < 16 ? 1 : 1 + fuzz_byte(input) % 64u;
        strike_here = what % 16 < 8;
        strike_offset = offset;
        strike_value = fuzz_word(input);
        call(what / 8, who, amount);
        break;
    default:
        call(what / 8, who, amount);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};

    memset(&watch, 0, sizeof(watch));
    make_ring(&input);
    watch.before = strike;
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++)
        step(&input);
    memset(&watch, 0, sizeof(watch));
    free(memory);
    return 0;
}

/* ------------------------------------------------------------------------------------- the live scribbler */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t scribbler_ends;

static void *scribble_live(void *seed)
{
    uint64_t state = *(const uint64_t *)seed;

    while (noria_load_acquire64(&scribbler_ends) == 0) {
        uint64_t random = next_random(&state);
        size_t offset = (size_t)(random >> 16) % (memory_size / 8) * 8;
        if (random % 4 != 0) /* rather the words that are looked at most */
            offset %= header_size + 512 < memory_size ? header_size + 512 : memory_size;
        scribble(offset, plausible(offset, (uint32_t)(random >> 8), next_random(&state)));
        for (uint64_t pause = next_random(&state) % 256; pause != 0; pause--)
            noria_pause();
    }
    return NULL;
}

static void live_round(uint64_t *state, uint32_t rounds)
{
    uint8_t bytes[16];
    struct fuzz_input input = {bytes, sizeof(bytes)};
    uint64_t seed = next_random(state) | 1;
    pthread_t thread;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(next_random(state) >> 24);
    make_ring(&input);
    noria_store_release64(&scribbler_ends, 0);
    check(pthread_create(&thread, NULL, scribble_live, &seed) == 0, "a second thread");
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t random = next_random(state) >> 8;
        call((uint32_t)random & 0xff, (uint32_t)(random >> 8) % HANDLES, (uint32_t)(random >> 16) & 0xff);
        if (i % 1024 == 0)
            fuzz_still_alive();
    }
    noria_store_release64(&scribbler_ends, 1);
    pthread_join(thread, NULL);
    free(memory);
}

static void run_live(unsigned seconds, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    struct timespec start, now;

    memset(&watch, 0, sizeof(watch));
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        live_round(&state, 20000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < (time_t)seconds);
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = run_live;
