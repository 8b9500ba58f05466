/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A channel whose segment a bad peer writes to. Claim: every call of noria.h ends, with a documented result,
 * and touches nothing but the segment and its own arguments, whatever stands in superblock, header, table and
 * ring.
 *
 * The input chooses the channel, of any kind of delivery, then goes on with calls of a sender, a receiver and
 * newcomers, and with words that are written into the shared memory between them. --live: a second thread
 * writes while the calls run.
 */
#include "forged_signals.h"
#include "input.h"
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

#include "documented.h"

enum { MOST_STEPS = 400, ROOM = 96, BATCH = 5 };

static int fd = -1;
static uint8_t *shared;
static size_t shared_size;
static char address[32];
static struct noria_options options;
static noria_channel *sender, *receiver;
static struct noria_span reserved, peeked;
static bool has_reserved, has_peeked;

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static void check_result(ssize_t rc)
{
    check(is_documented(rc), "every call ends with a documented result");
    check(rc >= 0 || noria_detail()[0] != '\0', "a failure has a sentence");
}

/* Reads every byte of a span, so that one outside of the segment is a fault. */
static void touch(const struct noria_span *span)
{
    const volatile uint8_t *bytes = span->data;
    uint8_t sum = 0;

    check(span->len <= options.max_message, "no message is longer than max_message");
    for (size_t i = 0; i < span->len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    (void)sum;
}

/* -------------------------------------------------------------------------------------------- the channel */

/* Every kind of delivery that noria_open knows. */
enum delivery {
    SPSC,
    MPMC,
    PACKED,
    DROPS_NEWEST,
    OVERWRITES,
    LATEST,
    PRIORITIES,
    RENDEZVOUS,
    GROWS,
    RELIABLE,
    EVICTING,
    LOSSY,
    DELIVERIES
};

static void choose_delivery(enum delivery delivery, struct fuzz_input *input)
{
    uint32_t number = fuzz_byte(input);
    bool holds_one =
        delivery == LATEST || delivery == RENDEZVOUS || delivery == EVICTING || delivery == LOSSY;

    options.kind = delivery == SPSC      ? NORIA_KIND_SPSC
                   : delivery < RELIABLE ? NORIA_KIND_MPMC
                                         : NORIA_KIND_BROADCAST;
    options.max_held = holds_one ? 1 : 1 + number % 3;
    if (delivery == MPMC || delivery == PACKED || delivery == OVERWRITES || delivery == PRIORITIES)
        options.orphans = number / 4 % 2;
    if (delivery == PACKED)
        options.pack = 2 + number / 8 % 2;
    if (delivery == LATEST || delivery == RENDEZVOUS)
        options.capacity = delivery == LATEST;
    else if (options.capacity == 1 && (delivery == OVERWRITES || delivery == LOSSY))
        options.capacity = 2;
    if (delivery == OVERWRITES || delivery == LATEST || delivery == LOSSY)
        options.full = NORIA_FULL_OVERWRITE_OLDEST;
    else if (delivery == DROPS_NEWEST || (delivery >= PRIORITIES && number % 2 == 0))
        options.full = NORIA_FULL_DROP_NEWEST;
    if (delivery == PRIORITIES)
        options.priorities = 2 + number / 8 % 31;
    if (delivery == EVICTING)
        options.evict_ns = 1 + number;
    if (delivery == GROWS) {
        options.max_held = 1;
        options.max_bytes = UINT64_C(256) * 1024 << number % 3;
    }
}

static void open_both(struct fuzz_input *input)
{
    enum delivery delivery = (enum delivery)fuzz_below(input, DELIVERIES);
    uint32_t number;
    struct stat status;

    noria_options_init(&options);
    options.capacity = 1 + fuzz_below(input, 16);
    options.max_message = fuzz_below(input, ROOM);
    options.max_participants = 4;
    number = fuzz_byte(input);
    options.start = number % 3;
    options.trust = number / 3 % 2;
    outlive_forged_signals(options.trust != NORIA_TRUST_NONE);
    choose_delivery(delivery, input);
    fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    check(fd >= 0, "a memfd");
    snprintf(address, sizeof(address), "memfd:%d", fd);
    check(noria_open(&sender, address, NORIA_SEND | NORIA_CREATE, &options) == 0, "a channel");
    check(noria_open(&receiver, address, NORIA_RECV, &options) == 0, "a receiver");
    check(fstat(fd, &status) == 0, "its size");
    shared_size = (size_t)status.st_size;
    shared = mmap(NULL, shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(shared != MAP_FAILED, "a mapping");
    has_reserved = has_peeked = false;
}

static void close_both(void)
{
    check(noria_close(sender) == 0 && noria_close(receiver) == 0, "handles can always be closed");
    munmap(shared, shared_size);
    close(fd);
}

/* ----------------------------------------------------------------------------------------------- the peer */

/* Rather where words are looked at: superblock, header, table, and the start of the ring. */
static size_t place(uint32_t where, uint64_t word)
{
    static const size_t starts[] = {0, 256, 896, 4096};
    static const size_t lengths[] = {256, 640, 4 * 128, 4096};
    size_t offset = where % 8 < 4 ? starts[where % 4] + word % lengths[where % 4] : word % shared_size;

    return offset % shared_size & ~(size_t)7;
}

static uint64_t plausible(uint32_t how, size_t offset, uint64_t word)
{
    uint64_t now;

    memcpy(&now, shared + offset, sizeof(now));
    switch (how % 8) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return now + 1;
    case 3: return now - 1;
    case 4: return now ^ UINT64_C(1) << word % 64;
    case 5: return word % 256;
    case 6: return now ^ (word & 0xffff) << word % 48;
    default: return word;
    }
}

static void scribble(uint32_t where, uint32_t how, uint64_t word)
{
    size_t offset = place(where, word >> 8);

    __atomic_store_n((uint64_t *)(void *)(shared + offset), plausible(how, offset, word), __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------------------------------------- the calls */

/* Mostly none; now and then the call may wait, or sleep, and must end all the same. */
static int64_t patience(uint32_t n)
{
    return n % 16 == 15 ? 20000 : 0;
}

static void send_some(uint32_t n)
{
    static const uint8_t bytes[ROOM];
    struct iovec messages[BATCH];

    for (int i = 0; i < BATCH; i++)
        messages[i] = (struct iovec){(void *)(uintptr_t)bytes, (n + (uint32_t)i) % ROOM};
    switch (n % 5) {
    case 0: check_result(noria_send_many(sender, messages, BATCH, patience(n))); break;
    case 1: check_result(noria_send_prio(sender, bytes, n % ROOM, n / 8, patience(n))); break;
    default: check_result(noria_send(sender, bytes, n % ROOM, patience(n)));
    }
}

static void receive_some(uint32_t n)
{
    struct noria_info info[BATCH];
    struct iovec buffers[BATCH];
    size_t room = n % 5 == 0 ? n % ROOM : ROOM;
    ssize_t rc;

    for (int i = 0; i < BATCH; i++)
        buffers[i] =
            (struct iovec){malloc(room == 0 ? 1 : room), room}; /* exact, for AddressSanitizer to guard */
    if (n % 3 == 0) {
        rc = noria_recv_many(receiver, buffers, BATCH, patience(n), info);
        for (int i = 0; i < rc; i++)
            check(buffers[i].iov_len <= room, "no message is longer than its buffer");
    } else {
        rc = noria_recv(receiver, buffers[0].iov_base, room, patience(n), n % 2 == 0 ? info : NULL);
        check(rc <= (ssize_t)room, "no message is longer than its buffer");
    }
    check_result(rc);
    for (int i = 0; i < BATCH; i++)
        free(buffers[i].iov_base);
}

static void reserve_or_finish(uint32_t n)
{
    int rc;

    if (!has_reserved) {
        rc = noria_reserve(sender, n % (options.max_message + 1), &reserved, 0);
        has_reserved = rc == 0;
        if (has_reserved)
            memset(reserved.data, 0x55, reserved.len);
    } else {
        rc = n % 2 == 0 ? noria_commit(sender, &reserved, reserved.len, 0) : noria_abort(sender, &reserved);
        has_reserved = rc == -EAGAIN;
    }
    check_result(rc);
}

static void peek_or_release(void)
{
    int rc;

    if (!has_peeked) {
        rc = noria_peek(receiver, &peeked, 0, NULL);
        has_peeked = rc == 0;
        if (has_peeked)
            touch(&peeked);
    } else {
        rc = noria_release(receiver, &peeked);
        has_peeked = false;
    }
    check_result(rc);
}

/* Somebody opens the channel as it stands, looks, and leaves. */
static void come_and_go(uint32_t n)
{
    struct noria_stat stat = {.size = sizeof(stat)};
    noria_channel *newcomer;
    bool asks = n % 8 < 4 || options.trust == NORIA_TRUST_NONE; /* what the channel itself says may be forged by now */
    int rc = noria_open(&newcomer, address, (int)(n % 4), asks ? &options : NULL);

    check_result(rc);
    if (rc != 0)
        return;
    check_result(noria_stat(newcomer, &stat));
    if (n / 8 % 2 == 1)
        check_result(noria_shutdown(newcomer));
    check(noria_close(newcomer) == 0, "handles can always be closed");
}

static void call(uint32_t which, uint32_t n)
{
    struct noria_stat stat = {.size = sizeof(stat)};

    switch (which % 16) {
    case 0: come_and_go(n); break;
    case 1: check_result(noria_stat(n % 2 == 0 ? sender : receiver, &stat)); break;
    case 2: case 3: reserve_or_finish(n); break;
    case 4: case 5: case 6: peek_or_release(); break;
    case 7: case 8: case 9: case 10: receive_some(n); break;
    default: send_some(n); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};

    open_both(&input);
    for (int i = 0; i < MOST_STEPS && input.left != 0; i++) {
        uint32_t step = fuzz_byte(&input);
        if (step < 96)
            scribble(fuzz_byte(&input), fuzz_byte(&input), fuzz_word(&input));
        else
            call(step, fuzz_byte(&input));
    }
    close_both();
    return 0;
}

/* ------------------------------------------------------------------------------------- the live scribbler */

static uint32_t scribbler_ends;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *scribble_live(void *seed)
{
    uint64_t state = *(const uint64_t *)seed;

    while (__atomic_load_n(&scribbler_ends, __ATOMIC_ACQUIRE) == 0) {
        uint64_t random = next_random(&state);
        scribble((uint32_t)random, (uint32_t)(random >> 8), next_random(&state));
    }
    return NULL;
}

static void live_round(uint64_t *state)
{
    uint64_t seed = next_random(state) | 1;
    struct fuzz_input input = {(const uint8_t *)&seed, sizeof(seed)};
    pthread_t thread;

    open_both(&input);
    __atomic_store_n(&scribbler_ends, 0, __ATOMIC_RELEASE);
    check(pthread_create(&thread, NULL, scribble_live, &seed) == 0, "a second thread");
    for (int i = 0; i < 2000; i++)
        call((uint32_t)next_random(state) >> 8, (uint32_t)(next_random(state) >> 16));
    __atomic_store_n(&scribbler_ends, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    close_both();
    fuzz_still_alive();
}

static void run_live(unsigned seconds, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        live_round(&state);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < (time_t)seconds);
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = run_live;
