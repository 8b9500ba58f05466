/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whatever a hostile peer writes between any two instructions of a send or a receive, into any word that the
 * call looks at, the call returns: no signal, no access outside of the segment, no call of 150 ms of processor time.
 *
 * A write between two instructions matters only in front of one that looks at the segment, so these are found: the
 * segment is out of reach, each access faults, and is made in one single step. In front of access k, for every k,
 * the words near anything that the call touches get each of the values, one run each. x86-64 only.
 *
 * For comparison ck_ring goes through the same, and has to fail: it tries again without an end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <ck_ring.h>

#include <noria/noria.h>

#include "segment_channel.h"

#include "fenced_map.h"
#include "shapes.h"

enum { HANG_US = 150000, MOST_ACCESSES = 400, NEAR = 32, RING_HEADER = 640, MOST_WORDS = 2048 };
enum { TRAP_FLAG = 0x100, HUNG = 90 };

/* --------------------------------------------------------------------------------------------------- who is
 * attacked */

static struct {
    void (*call)(void);
    uint8_t *base; /* as the victim sees the memory */
    size_t size;
    uint8_t *alias; /* as the attacker does */
    size_t table, ring; /* where they begin */
    void *handle;   /* the victim's private state, to be the same in every run */
    size_t handle_size;
} victim;

static noria_channel *tx, *rx;

static void send_one(void)
{
    (void)!noria_send(tx, "0123456789abcdef", 16, 0);
}

static void recv_one(void)
{
    uint8_t bytes[64];

    (void)!noria_recv(rx, bytes, sizeof(bytes), 0, NULL);
}

static void *alias_of(int fd, size_t size)
{
    return (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void open_channel(const struct shape *shape, bool sends, uint32_t trust)
{
    struct noria_segment_channel *channel;
    struct noria_options options;

    take_shape(shape, &options);
    options.trust = trust;
    assert_int_equal(noria_open(&tx, "anon:", NORIA_SEND | NORIA_CREATE, &options), 0);
    assert_int_equal(noria_reopen(&rx, tx, NORIA_RECV), 0);
    for (int i = 0; i < 2; i++) {
        send_one();
        recv_one();
    }
    send_one();
    send_one();
    channel = (struct noria_segment_channel *)(void *)(sends ? tx : rx);
    victim.call = sends ? send_one : recv_one;
    victim.base = channel->segment.base;
    victim.size = channel->segment.size;
    victim.alias = alias_of(channel->segment.fd, victim.size);
    victim.table = NORIA_SEGMENT_CONTENT + (size_t)channel->geometry.table_offset;
    victim.ring = NORIA_SEGMENT_CONTENT + (size_t)channel->geometry.ring_offset;
    victim.handle = channel;
    victim.handle_size = sizeof(*channel);
}

static void close_channel(void)
{
    syscall(SYS_munmap, victim.alias, victim.size);
    assert_int_equal(noria_close(rx), 0);
    assert_int_equal(noria_close(tx), 0);
}

/* ----------------------------------------------------------------------------------------------------- step by step */

static int accesses;                     /* so far in this run */
static int attack_at;                    /* in front of which one; 0: none */
static uint64_t *attacked;               /* the word, as the attacker sees it */
static uint64_t attack_value;
static size_t touched[MOST_ACCESSES];    /* offsets, of a run without attack */
static bool watching;

static void protect(int protection)
{
    syscall(SYS_mprotect, victim.base, in_pages(victim.size), protection);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    size_t offset = (size_t)((uint8_t *)info->si_addr - victim.base);

    if (!watching || offset >= victim.size) {
        signal(number, SIG_DFL); /* outside: it is a fault */
        return;
    }
    if (accesses < MOST_ACCESSES)
        touched[accesses] = offset;
    accesses++;
    protect(PROT_READ | PROT_WRITE);
    if (accesses == attack_at) {
        *attacked = attack_value;
        watching = false; /* the rest runs freely */
        return;
    }
    machine->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;

    (void)number;
    (void)info;
    machine->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    if (watching)
        protect(PROT_NONE);
}

static void on_timer(int number)
{
    (void)number;
    _exit(HUNG);
}

static void watch_signals(void)
{
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGTRAP, &step, NULL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    signal(SIGPROF, on_timer);
}

static void run_call(void)
{
    struct itimerval limit = {.it_value = {.tv_usec = HANG_US}}, none = {{0, 0}, {0, 0}};

    accesses = 0;
    watching = true;
    setitimer(ITIMER_PROF, &limit, NULL);
    protect(PROT_NONE);
    victim.call();
    watching = false;
    protect(PROT_READ | PROT_WRITE);
    setitimer(ITIMER_PROF, &none, NULL);
}

/* ----------------------------------------------------------------------------------------------------------- attack */

static uint8_t *image, *handle_image;

static void reset(void)
{
    memcpy(victim.alias, image, victim.size);
    memcpy(victim.handle, handle_image, victim.handle_size);
}

/* In a child: every access of the call, with this word and value. */
static void attack_everywhere(uint64_t *word, uint64_t value, int calls)
{
    watch_signals();
    for (int k = 1; k <= calls; k++) {
        reset();
        attacked = word;
        attack_value = value;
        attack_at = k;
        run_call();
    }
    _exit(0);
}

static struct {
    int runs, signals, hangs;
    char worst[160];
} score;

static void attack(size_t offset, uint64_t value, int calls)
{
    uint64_t *word = (uint64_t *)(void *)(victim.alias + offset);
    int status;
    pid_t pid = fork();

    if (pid == 0)
        attack_everywhere(word, value, calls);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    score.runs += calls;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    score.signals += WIFSIGNALED(status);
    score.hangs += !WIFSIGNALED(status);
    snprintf(score.worst, sizeof(score.worst), "word at %zu, value %#llx: status %#x", offset, (unsigned long long)value,
             (unsigned)status);
}

/* The offsets of all words near something that the call touches. With NORIA_LONG also all in front of the table and the
 * ring's first ones: a call may go another way after a write. */
static size_t find_words(size_t *words, size_t most, int calls)
{
    const bool all = getenv("NORIA_LONG") != NULL;
    size_t n = 0;

    for (size_t offset = 0; offset + 8 <= victim.size && n < most; offset += 8) {
        bool near = all && (offset < victim.table || (offset >= victim.ring && offset < victim.ring + RING_HEADER));
        for (int i = 0; i < calls && i < MOST_ACCESSES && !near; i++)
            near = offset + NEAR > touched[i] && offset < touched[i] + NEAR;
        if (near)
            words[n++] = offset;
    }
    return n;
}

static void attack_all(int stride)
{
    size_t words[MOST_WORDS], n;
    int calls;

    memset(&score, 0, sizeof(score));
    image = malloc(victim.size);
    handle_image = malloc(victim.handle_size);
    memcpy(image, victim.alias, victim.size);
    memcpy(handle_image, victim.handle, victim.handle_size);
    watch_signals();
    attack_at = 0;
    run_call();
    calls = accesses;
    reset();
    assert_true(calls > 0 && calls < MOST_ACCESSES);
    n = find_words(words, MOST_WORDS, calls);
    for (size_t i = 0; i < n; i++) {
        uint64_t old;
        memcpy(&old, image + words[i], sizeof(old));
        const uint64_t values[] = {0, 1, UINT64_MAX, INT64_MAX, old + 1, old - 1, old ^ UINT64_C(0xffffffff00000000)};
        for (size_t v = i % (size_t)stride; v < sizeof(values) / sizeof(values[0]); v += (size_t)stride)
            attack(words[i], values[v], calls);
    }
    print_message("    %d accesses, %zu words, %d writes, %d signals, %d hangs\n", calls, n, score.runs, score.signals,
                  score.hangs);
    free(image);
    free(handle_image);
}

static void nothing_fells_a_channel(void **state)
{
    /* Claim: see above, for send and receive of every kind of channel; of each kind one trusts nobody. */
    int stride = getenv("NORIA_LONG") != NULL ? 1 : 2;

    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int sends = 0; sends < 2; sends++) {
            print_message("  %s, %s\n", shapes[i].name, sends ? "send" : "receive");
            open_channel(&shapes[i], sends != 0, (i + sends) % 2 == 0 ? NORIA_TRUST_SAME_USER : NORIA_TRUST_NONE);
            attack_all(stride);
            close_channel();
            if (score.signals + score.hangs != 0)
                fail_msg("%s: %s", shapes[i].name, score.worst);
        }
}

/* ------------------------------------------------------------------------------------------------- for comparison */

static struct ck_memory {
    ck_ring_t ring;
    ck_ring_buffer_t buffer[16];
} *ck;

static void ck_send(void)
{
    ck_ring_enqueue_mpmc(&ck->ring, ck->buffer, ck);
}

static void ck_recv(void)
{
    void *value;

    ck_ring_dequeue_mpmc(&ck->ring, ck->buffer, &value);
}

static void ck_ring_falls(void **state)
{
    /* Claim: the attack finds what there is to find. */
    int fd = memfd_create("ck", MFD_CLOEXEC), felled = 0;

    (void)state;
    assert_int_equal(ftruncate(fd, sizeof(*ck)), 0);
    ck = mmap(NULL, sizeof(*ck), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(ck != MAP_FAILED);
    ck_ring_init(&ck->ring, 16);
    for (int i = 0; i < 3; i++)
        ck_send();
    victim.base = (uint8_t *)ck;
    victim.size = sizeof(*ck);
    victim.table = victim.ring = victim.size;
    victim.alias = alias_of(fd, sizeof(*ck));
    victim.handle = &ck; /* it has no state of its own */
    victim.handle_size = sizeof(ck);
    for (int sends = 0; sends < 2; sends++) {
        print_message("  ck_ring mpmc, %s\n", sends ? "enqueue" : "dequeue");
        victim.call = sends ? ck_send : ck_recv;
        attack_all(1);
        felled += score.signals + score.hangs;
    }
    assert_true(felled > 0);
    close(fd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_fells_a_channel),
        cmocka_unit_test(ck_ring_falls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
