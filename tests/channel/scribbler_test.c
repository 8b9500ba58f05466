/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: while another process writes into the segment all the time, random words, plausible words, or evil values into
 * the words that matter, everything that is called on the channel returns: no signal, no access outside of the segment,
 * no call of 150 ms of processor time, whatever kind of channel it is; half of them trust nobody.
 *
 * The scribbler is this process, the victim a child for each attempt. For comparison ck_ring goes through the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <ck_ring.h>

#include <noria/noria.h>

#include "layout.h"
#include "segment.h"

#include "fenced_map.h"
#include "shapes.h"

enum { ROUNDS = 100, HANG_NS = 150000000, PATTERNS = 3 };

static struct page {
    uint32_t ready; /* the victim has its handles */
    uint32_t calls; /* of the victim's */
    uint32_t written; /* words, by the scribbler */
} *page;

/* ----------------------------------------------------------------------------------------------------------- victim */

static void done(void)
{
    noria_add_relaxed32(&page->calls, 1);
}

static void one_round(noria_channel *tx, noria_channel *rx, int i)
{
    static uint8_t bytes[64];
    struct iovec out[2] = {{bytes, 20}, {bytes, 3}}, in[2] = {{bytes, 64}, {bytes, 64}};
    struct noria_stat stat = {0};
    struct noria_info info[2];
    struct noria_span span;

    (void)!noria_send(tx, bytes, (size_t)(i % 65), i % 16 == 0 ? 20000 : 0);
    done();
    if (i % 3 == 0)
        (void)!noria_send_many(tx, out, 2, 0);
    done();
    if (i % 4 == 0 && noria_reserve(tx, 64, &span, 0) == 0) {
        memset(span.data, i, span.len);
        (void)!(i % 8 == 0 ? noria_abort(tx, &span) : noria_commit(tx, &span, 30, 0));
    }
    done();
    (void)!noria_recv(rx, bytes, 64, i % 16 == 1 ? 20000 : 0, info);
    done();
    if (i % 3 == 1)
        (void)!noria_recv_many(rx, in, 2, 0, info);
    done();
    if (i % 4 == 1 && noria_peek(rx, &span, 0, info) == 0) {
        for (size_t at = 0; at < span.len; at++) /* all of it is there to be read */
            bytes[at % 64] ^= ((const uint8_t *)span.data)[at];
        (void)!noria_release(rx, &span);
    }
    done();
    if (i % 50 == 0)
        (void)!noria_stat(rx, &stat);
    done();
}

static _Noreturn void be_victim(const struct shape *shape, const char *address, uint32_t trust)
{
    struct noria_options options;
    noria_channel *tx = NULL, *rx = NULL, *late = NULL;

    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL); /* not what the test's framework makes of it */
    take_shape(shape, &options);
    options.trust = trust;
    if (noria_open(&tx, address, NORIA_SEND | NORIA_CREATE, &options) != 0 ||
        noria_open(&rx, address, NORIA_RECV, NULL) != 0)
        _exit(3);
    noria_store_release32(&page->ready, 1);
    for (int i = 0; i < ROUNDS; i++)
        one_round(tx, rx, i);
    if (noria_open(&late, address, NORIA_RECV, &options) == 0) /* what the channel itself says of trust may be forged */
        noria_close(late);
    done();
    noria_close(rx);
    done();
    noria_close(tx);
    _exit(0);
}

/* -------------------------------------------------------------------------------------------------------- scribbler */

static uint64_t seed = 88172645463325252u;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Something that could stand there, or nearly. */
static uint64_t plausible(const uint64_t *words, size_t n, size_t at)
{
    switch (draw() % 6) {
    case 0: return draw() % 16;
    case 1: return words[at] + 1;
    case 2: return words[at] - 1;
    case 3: return words[draw() % n];
    case 4: return words[at] ^ UINT64_C(1) << draw() % 64;
    default: return words[at] ^ (draw() % 32) << 3; /* another owner */
    }
}

/* A word that matters: of the geometry, event words, counters, table, the ring's header, its first pieces. */
static size_t targeted(const uint8_t *bytes, size_t n)
{
    const struct noria_header *header = (const struct noria_header *)(const void *)(bytes + NORIA_SEGMENT_CONTENT);
    size_t ring = (NORIA_SEGMENT_CONTENT + (size_t)header->geometry.ring_offset) / 8;
    size_t at = draw() % 4 == 0 ? (NORIA_SEGMENT_CONTENT + draw() % (sizeof(*header) + 512)) / 8 : ring + draw() % 256;

    return at % n;
}

static void scribble(uint8_t *bytes, size_t size, int pattern)
{
    static const uint64_t evil[] = {0, 1, UINT64_MAX, INT64_MAX, UINT32_MAX, UINT64_C(1) << 63, UINT64_C(1) << 31};
    uint64_t *words = (uint64_t *)(void *)bytes;
    size_t n = size / 8, at = draw() % n;

    if (pattern == 0)
        words[at] = draw();
    else if (pattern == 1)
        words[at] = plausible(words, n, at);
    else {
        at = targeted(bytes, n);
        words[at] = draw() % 2 == 0 ? evil[draw() % 7] : plausible(words, n, at);
    }
}

static int64_t cpu_ns(clockid_t clock)
{
    struct timespec now = {0, 0};

    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Scribbles until the victim ends. Its wait status; -1 if a call of it hangs. */
static int scribble_on(pid_t pid, uint8_t *bytes, size_t size, int pattern)
{
    uint32_t calls = 0, pauses = (uint32_t)(draw() % 2000);
    clockid_t clock;
    int64_t since;
    int status;

    clock_getcpuclockid(pid, &clock);
    since = cpu_ns(clock); /* its first call may hang */
    for (unsigned i = 0;; i++) {
        if (noria_load_acquire32(&page->ready) != 0) {
            scribble(bytes, size, pattern);
            noria_add_relaxed32(&page->written, 1);
        }
        for (uint32_t pause = 0; pause < pauses; pause++)
            noria_pause();
        if (i % 64 != 0)
            continue;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        if (noria_load_relaxed32(&page->calls) != calls) {
            calls = noria_load_relaxed32(&page->calls);
            since = cpu_ns(clock);
        } else if (cpu_ns(clock) - since > HANG_NS) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        sched_yield();
    }
}

static int attempt(const struct shape *shape, int pattern, uint32_t trust)
{
    int fd = memfd_create("scribbled", MFD_CLOEXEC | MFD_ALLOW_SEALING), status;
    char address[32];
    uint8_t *bytes;
    off_t size;
    pid_t pid;

    snprintf(address, sizeof(address), "memfd:%d", fd);
    memset(page, 0, sizeof(*page));
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        be_victim(shape, address, trust);
    while (noria_load_acquire32(&page->ready) == 0) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        sched_yield();
    }
    size = lseek(fd, 0, SEEK_END);
    bytes = (uint8_t *)syscall(SYS_mmap, NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    status = scribble_on(pid, bytes, (size_t)size, pattern);
    munmap(bytes, (size_t)size);
    close(fd);
    return status;
}

static void nothing_fells_the_victim(void **state)
{
    /* Claim: see above. */
    static const char *const patterns[PATTERNS] = {"random words", "plausible words", "targeted words"};
    int attempts = getenv("NORIA_LONG") != NULL ? 1000 : 100;

    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        print_message("  %s\n", shapes[i].name);
        for (int pattern = 0; pattern < PATTERNS; pattern++)
            for (int n = 0; n < attempts; n++) {
                uint64_t from = seed;
                int status = attempt(&shapes[i], pattern, n % 2 == 0 ? NORIA_TRUST_SAME_USER : NORIA_TRUST_NONE);
                if (status != 0)
                    fail_msg("%s, %s, attempt %d from seed %llu: %s, status %#x", shapes[i].name, patterns[pattern], n,
                             (unsigned long long)from, status == -1 ? "hangs" : "felled", (unsigned)status);
            }
    }
    print_message("%d attempts\n", SHAPES * PATTERNS * attempts);
}

/* -------------------------------------------------------------------------------------------------- for comparison */

struct ck_memory {
    ck_ring_t ring;
    ck_ring_buffer_t buffer[16];
};

static _Noreturn void be_ck_victim(int fd)
{
    struct ck_memory *ck = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *value;

    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    ck_ring_init(&ck->ring, 16);
    noria_store_release32(&page->ready, 1);
    for (int i = 0; i < 20000 || noria_load_relaxed32(&page->written) < 1000; i++) {
        ck_ring_enqueue_mpmc(&ck->ring, ck->buffer, ck);
        done();
        (void)ck_ring_dequeue_mpmc(&ck->ring, ck->buffer, &value);
        done();
    }
    _exit(0);
}

/* Whether the victim survives. */
static bool attempt_ck(int pattern)
{
    int fd = memfd_create("ck", MFD_CLOEXEC), status;
    uint8_t *bytes;
    pid_t pid;

    assert_int_equal(ftruncate(fd, 4096), 0);
    memset(page, 0, sizeof(*page));
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        be_ck_victim(fd);
    bytes = (uint8_t *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    while (noria_load_acquire32(&page->ready) == 0)
        sched_yield();
    status = scribble_on(pid, bytes, sizeof(struct ck_memory), pattern);
    munmap(bytes, 4096);
    close(fd);
    return status == 0;
}

static void ck_ring_falls(void **state)
{
    /* Claim: the attack finds what there is to find. */
    const int attempts = getenv("NORIA_LONG") != NULL ? 60 : 12;
    int survived = 0;

    (void)state;
    for (int n = 0; n < attempts; n++)
        survived += attempt_ck(n % PATTERNS);
    print_message("ck_ring mpmc survives %d of %d\n", survived, attempts);
    assert_true(survived < attempts);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_fells_the_victim), cmocka_unit_test(ck_ring_falls)};

    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
