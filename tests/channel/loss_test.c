/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: under overload, with processes killed at random, a channel that drops messages accounts for each
 * one: sent = received + reported lost. Counted apart are those whose sender was killed inside the send, at
 * most one per kill, and where receivers are killed too those that one had seen and not given back for
 * certain. Receivers are told of each loss once: of all that is lost if none of them dies, of no more if some do.
 */
#include "variants_test.h"

#include <sched.h>
#include <sys/wait.h>

#include "peers.h"

enum { SENDERS = 3, RECEIVERS = 2, LIVES = 200, EACH = 1 << 16 };
enum { NEVER = 0, IN_SEND = 1, SENT = 2 };
enum { UNSEEN = 0, SEEN = 1, RELEASED = 2 };
enum { MARKER = LIVES * EACH }; /* a message that is in no account */

struct books {
    uint8_t sent[LIVES * EACH];     /* by message */
    uint8_t received[LIVES * EACH];
    uint32_t begun[LIVES]; /* messages of a life */
    uint32_t taken;        /* by receivers, all lives */
    uint64_t told;         /* to receivers, that so many were lost */
    uint32_t enough;       /* senders go */
};

static struct books *books;
static uint32_t this_life;

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void set(uint8_t *state, uint8_t value)
{
    __atomic_store_n(state, value, __ATOMIC_RELEASE);
}

/* ------------------------------------------------------------------------------------------ what peers do */

static void send_on(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);

    for (uint32_t i = 0; i < EACH && load(&books->enough) == 0; i++) {
        uint32_t id = this_life * EACH + i;
        __atomic_store_n(&books->begun[this_life], i + 1, __ATOMIC_RELEASE);
        set(&books->sent[id], IN_SEND);
        PEER_REQUIRES(noria_send(mine, &id, sizeof(id), -1) == 0);
        set(&books->sent[id], SENT);
    }
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void receive_on(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    for (;;) {
        struct noria_span span;
        struct noria_info info;
        uint32_t id;
        int rc = noria_peek(mine, &span, 1 * MS, &info);
        if (rc == -ETIMEDOUT || rc == -EPIPE || rc == -EAGAIN) {
            if (load(&books->enough) != 0)
                break;
            continue;
        }
        PEER_REQUIRES(rc == 0 && span.len == sizeof(id));
        __atomic_add_fetch(&books->told, info.lost, __ATOMIC_RELAXED);
        memcpy(&id, span.data, sizeof(id));
        PEER_REQUIRES(id < LIVES * EACH && books->sent[id] != NEVER && books->received[id] != RELEASED);
        set(&books->received[id], SEEN);
        __atomic_add_fetch(&books->taken, 1, __ATOMIC_RELAXED);
        PEER_REQUIRES(noria_release(mine, &span) == 0);
        set(&books->received[id], RELEASED);
    }
    PEER_REQUIRES(noria_close(mine) == 0);
}

/* ------------------------------------------------------------------------------------------- the accounts */

struct totals {
    uint64_t sent, received, in_doubt, in_hands, missing;
};

static struct totals add_up(void)
{
    struct totals totals = {0};

    for (uint32_t id = 0; id < LIVES * EACH; id++) {
        totals.sent += books->sent[id] == SENT;
        totals.received += books->received[id] == RELEASED;
        totals.in_hands += books->received[id] == SEEN;
        totals.in_doubt += books->sent[id] == IN_SEND && books->received[id] == UNSEEN;
        totals.missing += books->sent[id] == SENT && books->received[id] == UNSEEN;
    }
    return totals;
}

/* The next message, which tells what was lost. */
static bool receive_one(noria_channel *from, uint32_t *id)
{
    struct noria_info info;

    if (noria_recv(from, id, sizeof(*id), 0, &info) != (ssize_t)sizeof(*id))
        return false;
    books->told += info.lost;
    return true;
}

/* The last losses are told with a message that comes after them. */
static void drain(void)
{
    noria_channel *mine = open_handle(NORIA_RECV), *last = open_handle(NORIA_SEND);
    uint32_t id, marker = MARKER;

    noria_close(open_handle(0)); /* a newcomer settles the dead */
    while (receive_one(mine, &id)) {
        assert_true(id < LIVES * EACH && books->received[id] != RELEASED);
        set(&books->received[id], RELEASED);
    }
    assert_int_equal(noria_send(last, &marker, sizeof(marker), 0), 0);
    assert_true(receive_one(mine, &id));
    assert_int_equal(id, MARKER);
    noria_close(last);
    noria_close(mine);
}

static uint32_t random_up_to(uint32_t *seed, uint32_t most)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % most;
}

static void overload(uint32_t full, bool receivers_die)
{
    pid_t senders[SENDERS], receivers[RECEIVERS];
    uint32_t lives[SENDERS], seed = 7, next = 0, killed = 0;
    struct totals totals;
    uint64_t lost;
    int64_t end = now_ns() + 3 * SECOND;

    books = mmap(NULL, sizeof(*books), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(books != MAP_FAILED);
    ch.options.full = full;
    ch.keeper = open_handle(0);
    for (int i = 0; i < SENDERS; i++) {
        lives[i] = this_life = next++;
        senders[i] = start_peer(send_on);
    }
    for (int i = 0; i < RECEIVERS; i++)
        receivers[i] = start_peer(receive_on);
    while (next < LIVES && now_ns() < end) {
        uint32_t i = random_up_to(&seed, SENDERS), after = 1 + random_up_to(&seed, EACH / 8);
        while (load(&books->begun[lives[i]]) < after && now_ns() < end + 10 * SECOND)
            sched_yield();
        for (uint32_t spins = random_up_to(&seed, 2000); spins > 0; spins--)
            __asm__ volatile("" ::: "memory"); /* to another instruction */
        kill_peer(senders[i]);
        killed++;
        lives[i] = this_life = next++;
        senders[i] = start_peer(send_on);
        if (receivers_die && next % 3 == 0) {
            i = random_up_to(&seed, RECEIVERS);
            kill_peer(receivers[i]);
            receivers[i] = start_peer(receive_on);
        }
    }
    __atomic_store_n(&books->enough, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < SENDERS; i++)
        expect_end(senders[i]);
    for (int i = 0; i < RECEIVERS; i++)
        expect_end(receivers[i]);
    drain();
    totals = add_up();
    lost = stat_of(ch.keeper).lost;
    print_message("%u kills: %llu sent, %llu received, %llu lost, %llu told; %llu in a killed send, %llu in a killed "
                  "receiver's hands\n",
                  killed, (unsigned long long)totals.sent, (unsigned long long)totals.received,
                  (unsigned long long)lost, (unsigned long long)books->told, (unsigned long long)totals.in_doubt,
                  (unsigned long long)totals.in_hands);
    assert_true(killed > 3 && lost > 0 && totals.received > 0);
    assert_true(totals.in_doubt <= killed);
    assert_true(receivers_die || totals.in_hands == 0);
    assert_true(lost >= totals.missing);
    assert_true(lost <= totals.missing + totals.in_doubt + totals.in_hands);
    assert_true(receivers_die ? books->told <= lost : books->told == lost);
    munmap(books, sizeof(*books));
}

static void overwriting_counts_all_when_senders_die(void **state)
{
    (void)state;
    overload(NORIA_FULL_OVERWRITE_OLDEST, false);
}

static void overwriting_counts_all_when_anybody_dies(void **state)
{
    (void)state;
    overload(NORIA_FULL_OVERWRITE_OLDEST, true);
}

static void dropping_the_newest_counts_all_when_senders_die(void **state)
{
    (void)state;
    overload(NORIA_FULL_DROP_NEWEST, false);
}

static void dropping_the_newest_counts_all_when_anybody_dies(void **state)
{
    (void)state;
    overload(NORIA_FULL_DROP_NEWEST, true);
}

/* --------------------------------------------------------------------------------------- the latest value */

enum { LATEST_BYTES = 56 };

static void send_values(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    uint8_t bytes[LATEST_BYTES];

    for (uint32_t i = 1; load(&books->enough) == 0; i++) {
        uint32_t value[2] = {this_life, i};
        fill_message(bytes, this_life * 7 + i, sizeof(bytes));
        memcpy(bytes, value, sizeof(value));
        PEER_REQUIRES(noria_send(mine, bytes, sizeof(bytes), 0) == 0); /* waits for nobody, whoever died */
        __atomic_store_n(&books->begun[this_life], i, __ATOMIC_RELEASE); /* this one has been sent */
    }
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void killed_senders_of_values_harm_nobody(void **state)
{
    /* Claim: senders of a latest value that are killed at random, often inside a send, leave a whole
     * message current; a receiver gets newer and newer ones, and none that is older than one whose send
     * had returned before it asked. */
    pid_t senders[SENDERS];
    uint32_t seed = 11, next = 0, killed = 0, seen[LIVES] = {0};
    uint64_t received = 0, sequence = 0;
    int64_t end = now_ns() + 2 * SECOND, change = 0;

    (void)state;
    books = mmap(NULL, sizeof(*books), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(books != MAP_FAILED);
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.options.capacity = 1;
    ch.options.max_held = 1;
    ch.rx = open_handle(NORIA_RECV);
    ch.keeper = open_handle(NORIA_SEND); /* no end of stream while all the others are being replaced */
    for (int i = 0; i < SENDERS; i++) {
        this_life = next++;
        senders[i] = start_peer(send_values);
    }
    while (now_ns() < end || received < 1000) {
        uint8_t bytes[LATEST_BYTES], expected[LATEST_BYTES];
        uint32_t value[2], before[LIVES];
        struct noria_info info;
        ssize_t rc;
        for (uint32_t life = 0; life < next; life++)
            before[life] = load(&books->begun[life]);
        rc = noria_recv(ch.rx, bytes, sizeof(bytes), 20 * SECOND, &info);
        assert_int_equal(rc, LATEST_BYTES);
        memcpy(value, bytes, sizeof(value));
        assert_true(value[0] < next);
        fill_message(expected, value[0] * 7 + value[1], sizeof(expected));
        memcpy(expected, value, sizeof(value));
        assert_memory_equal(bytes, expected, sizeof(bytes));
        assert_true(value[1] >= before[value[0]] && value[1] > seen[value[0]]);
        assert_true(received == 0 || info.sequence == sequence + info.lost + 1);
        sequence = info.sequence;
        seen[value[0]] = value[1];
        received++;
        if (now_ns() > change && next < LIVES) {
            uint32_t i = random_up_to(&seed, SENDERS);
            kill_peer(senders[i]);
            killed++;
            this_life = next++;
            senders[i] = start_peer(send_values);
            change = now_ns() + random_up_to(&seed, 10) * MS;
        }
    }
    __atomic_store_n(&books->enough, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < SENDERS; i++)
        expect_end(senders[i]);
    print_message("%u kills: %llu received\n", killed, (unsigned long long)received);
    assert_true(killed > 3);
    munmap(books, sizeof(*books));
}

static int with_peers(void **state)
{
    peers_begin();
    return setup(state);
}

static int without_peers(void **state)
{
    peers_end();
    return teardown(state);
}

int main(void)
{
    static const struct named_test tests[] = {
        {"overwriting_counts_all_when_senders_die", overwriting_counts_all_when_senders_die, NORIA_KIND_MPMC,
         "shm"},
        {"overwriting_counts_all_when_anybody_dies", overwriting_counts_all_when_anybody_dies,
         NORIA_KIND_MPMC, "shm"},
        {"dropping_the_newest_counts_all_when_senders_die", dropping_the_newest_counts_all_when_senders_die,
         NORIA_KIND_MPMC, "shm"},
        {"dropping_the_newest_counts_all_when_anybody_dies", dropping_the_newest_counts_all_when_anybody_dies,
         NORIA_KIND_MPMC, "shm"},
        {"killed_senders_of_values_harm_nobody", killed_senders_of_values_harm_nobody, NORIA_KIND_MPMC,
         "shm"},
    };

    return run_variants_with("loss", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
