/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile or broken peer writes into the memory of a ring: between calls, and in front of any access in the
 * middle of a call. Whatever it writes, each call ends with a documented result and touches nothing outside
 * the ring, which stands in an allocation of exactly its size for AddressSanitizer to guard. In a plain run
 * (--live) a second thread writes without end instead, and the watchdog sees calls that do not return.
 */
#include "input.h"
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <watched_test.h>

#include <noria/mpmc.h>
#include <noria/spsc.h>

enum { MOST_STEPS = 300, HANDLES = 3, MOST_HELD = 4, BATCH = 4, LONGEST = 64 };

/* No call may look at the ring more often than this. The ring's own bounds multiply to some millions. */
enum { MOST_ACCESSES = 50000000 };

static uint8_t *memory;
static size_t memory_size;
static bool is_mpmc;
static struct noria_mpmc_config config;
static uint64_t capacity;

static struct noria_mpmc_handle handles[HANDLES];
static struct noria_mpmc_record reserved[HANDLES], held[HANDLES][MOST_HELD];
static struct noria_spsc_producer producer;
static struct noria_spsc_consumer consumer;
static struct noria_spsc_record spsc_reserved, spsc_held[MOST_HELD];
static bool joined[HANDLES], has_reserved[HANDLES];
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
              rc == -EBADMSG || rc == -EBUSY,
          "each call ends with a documented result");
}

/* ---------------------------------------------------------------------------------------------------- the
 * bad peer */

static void scribble(size_t offset, uint64_t value)
{
    __atomic_store_n((uint64_t *)(void *)(memory + offset), value, __ATOMIC_RELAXED);
}

/* A value that might mean something where it is written: `kind` says how far it goes. */
static uint64_t plausible(size_t offset, uint32_t kind, uint64_t noise)
{
    uint64_t old = __atomic_load_n((uint64_t *)(void *)(memory + offset), __ATOMIC_RELAXED);
    uint64_t lap = (old >> NORIA_MPMC_LAP_SHIFT) + noise % 5 - 2;

    switch (kind % 8) {
    case 0:
        return noise;
    case 1:
        return noise % 128;
    case 2:
        return old + noise % 33 - 16;
    case 3:
        return lap << NORIA_MPMC_LAP_SHIFT | (noise >> 8 & 0x3f);
    case 4:
        return lap << NORIA_MPMC_LAP_SHIFT | NORIA_MPMC_OWNED_BY(1 + (noise >> 8) % HANDLES) |
               (noise >> 16 & 7);
    case 5:
        return old ^ UINT64_C(1) << noise % 64;
    case 6:
        return NORIA_SPSC_COMMITTED | (noise & 1 ? NORIA_SPSC_PAD : 0) | (noise >> 8 & 0x1ff);
    default:
        return UINT64_MAX - noise % 64;
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

/* ---------------------------------------------------------------------------------------------- what calls
 * give us */

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

static void receive_copy(uint32_t who, uint32_t amount)
{
    size_t limit = amount % LONGEST, len = 0;
    uint8_t *bytes = malloc(limit);
    int rc = is_mpmc ? noria_mpmc_recv(&handles[who], bytes, limit, &len)
                     : noria_spsc_recv(&consumer, bytes, limit, &len);

    check_result(rc);
    check(rc != 0 || len <= limit, "no more than fits");
    free(bytes);
}

static void receive_many(uint32_t who, uint32_t amount)
{
    uint8_t *bytes[BATCH];
    struct iovec vectors[BATCH];
    int rc;

    for (uint32_t i = 0; i < BATCH; i++) {
        size_t limit = (amount + i * 7) % LONGEST;
        bytes[i] = malloc(limit);
        vectors[i] = (struct iovec){bytes[i], limit};
    }
    rc = noria_mpmc_recv_many(&handles[who], vectors, BATCH);
    check_result(rc);
    check(rc <= BATCH, "no more than asked for");
    for (uint32_t i = 0; i < BATCH; i++) {
        check((int)i >= rc || vectors[i].iov_len <= (amount + i * 7) % LONGEST, "no more than fits");
        free(bytes[i]);
    }
}

static void send_copy(uint32_t who, uint32_t amount)
{
    static const uint8_t bytes[2 * LONGEST];
    size_t len = amount % (2 * LONGEST);

    check_result(is_mpmc ? noria_mpmc_send(&handles[who], bytes, len)
                         : noria_spsc_send(&producer, bytes, len));
}

static void send_many(uint32_t who, uint32_t amount)
{
    static uint8_t bytes[LONGEST];
    struct iovec vectors[BATCH];
    int rc;

    for (uint32_t i = 0; i < BATCH; i++)
        vectors[i] = (struct iovec){bytes, (amount + i * 7) % LONGEST};
    rc = noria_mpmc_send_many(&handles[who], vectors, BATCH);
    check_result(rc);
    check(rc <= BATCH, "no more than given");
}

/* -------------------------------------------------------------------------------------------------------
 * MPMC calls */

static void mpmc_join(uint32_t who, uint32_t amount)
{
    struct noria_mpmc_handle fresh;
    int rc = noria_mpmc_join(&fresh, memory, memory_size, amount % 5);

    check_result(rc);
    if (rc != 0)
        return;
    handles[who] = fresh; /* whatever it held is forgotten, as by a dead process */
    joined[who] = true;
    has_reserved[who] = false;
    held_count[who] = 0;
}

static void mpmc_reserve(uint32_t who, uint32_t amount)
{
    int rc = noria_mpmc_reserve(&handles[who], &reserved[who]);

    (void)amount;
    check_result(rc);
    has_reserved[who] = rc == 0;
    if (rc == 0)
        touch(reserved[who].data, reserved[who].len, true);
}

static void mpmc_commit(uint32_t who, uint32_t amount)
{
    if (!has_reserved[who]) {
        mpmc_reserve(who, amount);
        return;
    }
    touch(reserved[who].data, reserved[who].len, true);
    check_result(amount % 4 == 0 ? noria_mpmc_abort(&handles[who], &reserved[who])
                                 : noria_mpmc_commit(&handles[who], &reserved[who], amount % LONGEST));
    has_reserved[who] = amount % 8 == 7; /* sometimes once more */
}

static void mpmc_peek(uint32_t who, uint32_t amount)
{
    struct noria_mpmc_record *record = &held[who][held_count[who] % MOST_HELD];
    int rc = noria_mpmc_peek_within(&handles[who], amount % 3 == 0 ? amount : SIZE_MAX, record);

    check_result(rc);
    if (rc != 0)
        return;
    touch(record->data, record->len, false);
    held_count[who] += held_count[who] < MOST_HELD;
}

static void mpmc_release(uint32_t who, uint32_t amount)
{
    if (held_count[who] == 0)
        return;
    check_result(noria_mpmc_release(&handles[who], &held[who][amount % held_count[who]]));
    held_count[who] -= amount % 5 != 0;
}

static void mpmc_recover(uint32_t who, uint32_t amount)
{
    uint64_t index = 0, word = 0;
    struct noria_mpmc_census census;

    for (uint64_t i = 0;
         i <= handles[who].mask && noria_mpmc_find(&handles[who], amount % 6, &index, &word) == 1; i++)
        check_result(amount % 7 == 0 ? noria_mpmc_discard(&handles[who], index, word)
                                     : noria_mpmc_settle(&handles[who], index, word));
    noria_mpmc_announce(&handles[who]);
    noria_mpmc_count(&handles[who], &census);
    (void)noria_mpmc_invariant(memory, memory_size);
    noria_mpmc_wait(&handles[who], (int)(amount % 2));
}

static void (*const mpmc_calls[])(uint32_t who, uint32_t amount) = {
    mpmc_join,    mpmc_reserve, mpmc_commit, mpmc_commit, mpmc_peek,    mpmc_peek,
    mpmc_release, mpmc_recover, send_copy,   send_many,   receive_copy, receive_many,
};

/* -------------------------------------------------------------------------------------------------------
 * SPSC calls */

static void spsc_join(uint32_t who, uint32_t amount)
{
    struct noria_spsc_producer fresh_producer;
    struct noria_spsc_consumer fresh_consumer;
    int role = who == 0 ? NORIA_SPSC_PRODUCER : NORIA_SPSC_CONSUMER;
    int rc;

    if (amount % 4 != 0)
        check_result(noria_spsc_settle(memory, role, noria_spsc_find(memory, role)));
    rc = who == 0 ? noria_spsc_join_producer(&fresh_producer, memory, memory_size, amount)
                  : noria_spsc_join_consumer(&fresh_consumer, memory, memory_size, amount);
    check_result(rc);
    if (rc != 0)
        return;
    if (who == 0)
        producer = fresh_producer;
    else
        consumer = fresh_consumer;
    joined[who == 0 ? 0 : 1] = true;
    has_reserved[0] = has_reserved[0] && who != 0;
    held_count[1] = who == 0 ? held_count[1] : 0;
}

static void spsc_reserve(uint32_t who, uint32_t amount)
{
    int rc = noria_spsc_reserve(&producer, amount, &spsc_reserved);

    (void)who;
    check_result(rc);
    has_reserved[0] = rc == 0;
    if (rc == 0)
        touch(spsc_reserved.data, spsc_reserved.len, true);
}

static void spsc_commit(uint32_t who, uint32_t amount)
{
    if (!has_reserved[0]) {
        spsc_reserve(who, amount);
        return;
    }
    touch(spsc_reserved.data, spsc_reserved.len, true);
    check_result(noria_spsc_stage(&producer, &spsc_reserved, amount % (spsc_reserved.len + 2)));
    if (amount % 4 != 0)
        noria_spsc_publish(&producer);
    has_reserved[0] = amount % 8 == 7; /* sometimes once more */
}

static void spsc_peek(uint32_t who, uint32_t amount)
{
    struct noria_spsc_record *record = &spsc_held[held_count[1] % MOST_HELD];
    int rc = noria_spsc_peek(&consumer, record);

    (void)who, (void)amount;
    check_result(rc);
    if (rc != 0)
        return;
    touch(record->data, record->len, false);
    held_count[1] += held_count[1] < MOST_HELD;
}

static void spsc_release(uint32_t who, uint32_t amount)
{
    (void)who;
    if (held_count[1] == 0)
        return;
    check_result(amount % 2 == 0 ? noria_spsc_release(&consumer, &spsc_held[amount % held_count[1]])
                                 : noria_spsc_release_through(&consumer, &spsc_held[amount % held_count[1]]));
    held_count[1] -= amount % 5 != 0;
}

static void spsc_look(uint32_t who, uint32_t amount)
{
    uint64_t records, bytes;

    check_result(noria_spsc_count(memory, memory_size, &records, &bytes));
    (void)noria_spsc_invariant(memory, memory_size);
    if (amount % 4 == 0 && who == 0)
        noria_spsc_leave_producer(&producer);
    else if (amount % 4 == 0)
        noria_spsc_leave_consumer(&consumer);
    joined[who == 0 ? 0 : 1] = amount % 4 != 0;
}

static void (*const spsc_calls[])(uint32_t who, uint32_t amount) = {
    spsc_join,    spsc_reserve, spsc_commit, spsc_commit, spsc_peek,    spsc_peek,
    spsc_release, spsc_look,    send_copy,   send_copy,   receive_copy, receive_copy,
};

enum { CALLS = sizeof(mpmc_calls) / sizeof(mpmc_calls[0]) };

/* -----------------------------------------------------------------------------------------------------------
 * a run */

static void call(uint32_t what, uint32_t who, uint32_t amount)
{
    accesses = 0;
    if (is_mpmc)
        mpmc_calls[joined[who] ? what % CALLS : 0](who, amount);
    else if (joined[0] && joined[1])
        spsc_calls[what % CALLS](who % 2, amount);
    else
        spsc_join(joined[0] ? 1 : 0, amount | 1);
}

static void format_ring(uint64_t first_position)
{
    int rc = is_mpmc ? noria_mpmc_format(memory, memory_size, &config)
                     : noria_spsc_format(memory, memory_size, capacity, first_position & ~UINT64_C(7));

    check(rc == 0, "format");
    memset(joined, 0, sizeof(joined));
    memset(has_reserved, 0, sizeof(has_reserved));
    memset(held_count, 0, sizeof(held_count));
    for (uint32_t who = 0; who < HANDLES; who++)
        call(0, who, who + 1);
}

static void make_ring(struct fuzz_input *input)
{
    uint64_t first_position = fuzz_below(input, 4) == 0 ? UINT64_MAX - fuzz_byte(input) : fuzz_byte(input);

    is_mpmc = fuzz_below(input, 3) != 0;
    capacity = UINT64_C(256) << fuzz_below(input, 3);
    config = (struct noria_mpmc_config){.capacity = 1 + fuzz_below(input, 8),
                                        .slots = UINT64_C(8) << fuzz_below(input, 2),
                                        .first_position = first_position,
                                        .max_message = fuzz_below(input, LONGEST),
                                        .pack = 1 + fuzz_below(input, 4),
                                        .owners = HANDLES + 1,
                                        .max_held = 1};
    memory_size = is_mpmc ? noria_mpmc_footprint(&config) : noria_spsc_footprint(capacity);
    memory = aligned_alloc(NORIA_CACHE_LINE, memory_size);
    check(memory != NULL && memory_size % NORIA_CACHE_LINE == 0, "exactly as large as the ring");
    memset(memory, fuzz_byte(input), memory_size);
    format_ring(first_position);
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
    case 1: /* write a word of the first slot, or header, that is looked at most */
        offset = (is_mpmc ? 512 : 256) + offset % 64;
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

/* ------------------------------------------------------------------------------------------------ the live
 * scribbler */

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
        if (random % 4 != 0 && is_mpmc) /* rather the words that are looked at most */
            offset = sizeof(struct noria_mpmc) +
                     (offset / 8) % 8 * noria_mpmc_slot_bytes(config.max_message, config.pack) +
                     (random >> 60) / 4 * 8;
        scribble(offset, plausible(offset, (uint32_t)(random >> 8), next_random(&state)));
        for (uint64_t pause = next_random(&state) % 256; pause != 0; pause--)
            noria_pause();
    }
    return NULL;
}

static void live_round(uint64_t *state, uint32_t calls)
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
    for (uint32_t i = 0; i < calls; i++) {
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
