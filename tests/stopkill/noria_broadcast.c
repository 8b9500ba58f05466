/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a call on the broadcast ring harms the others: a
 * receiver holds the sender, in bounded calls, only where nobody may evict it; whatever is committed reaches
 * everybody else, once and in order; a victim that goes on gets whole records and knows exactly what it
 * missed; a dead one leaves nothing behind.  A program of its own beside the harness of queues: its ledger
 * takes each message for one receiver's. Here each position is a fresh ring in shared memory and a fresh
 * victim, single-stepped from the start of its call. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/broadcast.h>

enum {
    CAPACITY = 512,
    OWNERS = 4,
    ME = 1,
    VICTIM = 2,
    LONGEST = 64,
    BYTES = 8192,
    PREPARED = 14,
    POSITIONS_MAX = 5000
};

static struct arena {
    _Alignas(128) uint8_t ring[BYTES];
    struct noria_broadcast_sender sender;        /* of whoever is not the victim, or of the victim */
    struct noria_broadcast_receiver mine, theirs;
    uint64_t sent;  /* by the victim, for certain */
    uint64_t taken; /* by the victim, for certain */
    int result;
} *arena;

static size_t ring_bytes;
static const char *what;
static int position, bad, positions;

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            if (bad++ < 20) \
                printf("BAD %s, instruction %d: %s (line %d)\n", what, position, #condition, __LINE__); \
            return; \
        } \
    } while (0)

/* --------------------------------------------------------------------------------------- numbered records */

static size_t length_of(uint64_t number)
{
    return (size_t)(number * 7 % 41);
}

static int put(uint64_t number)
{
    uint8_t bytes[LONGEST];

    for (size_t i = 0; i < length_of(number); i++)
        bytes[i] = (uint8_t)(number * 31 + i);
    return noria_broadcast_send(&arena->sender, bytes, length_of(number));
}

/* 0 a whole record whose number the receiver knows; -EPROTO another one. */
static int take(struct noria_broadcast_receiver *receiver)
{
    uint8_t bytes[LONGEST];
    size_t len = 0;
    int rc = noria_broadcast_recv(receiver, bytes, sizeof(bytes), &len);
    uint64_t number = receiver->sequence - 1;

    if (rc != 0)
        return rc;
    if (len != length_of(number))
        return -EPROTO;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != (uint8_t)(number * 31 + i))
            return -EPROTO;
    return 0;
}

static void prepare(enum noria_broadcast_mode mode)
{
    memset(arena, 0, sizeof(*arena));
    ring_bytes = noria_broadcast_footprint(CAPACITY, mode == NORIA_BROADCAST_LOSSY ? 0 : OWNERS);
    noria_broadcast_format(arena->ring, ring_bytes, CAPACITY, OWNERS, mode, 0);
    noria_broadcast_join_sender(&arena->sender, arena->ring, ring_bytes, VICTIM);
    noria_broadcast_join_receiver(&arena->mine, arena->ring, ring_bytes, ME, NORIA_BROADCAST_NOW, 0);
}

/* ------------------------------------------------------------------------------------------------ victims */

static void victim_sends(void)
{
    arena->result = put(PREPARED);
}

static void victim_receives(void)
{
    arena->result = take(&arena->theirs);
}

static void victim_joins(void)
{
    arena->result = noria_broadcast_join_receiver(&arena->theirs, arena->ring, ring_bytes, VICTIM,
                                                  NORIA_BROADCAST_OLDEST, 0);
}

static void victim_leaves(void)
{
    noria_broadcast_leave_receiver(&arena->theirs);
}

static void victim_succeeds(void)
{
    noria_broadcast_settle_sender(arena->ring, noria_broadcast_find_sender(arena->ring));
    arena->result = noria_broadcast_join_sender(&arena->sender, arena->ring, ring_bytes, VICTIM);
}

/* Forks a victim and leads it `position` instructions into its call. True if it is still inside. */
static bool lead(void (*call)(void), pid_t *pid)
{
    int status;

    *pid = fork();
    if (*pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        call();
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(*pid, &status, 0);
    for (int i = 0; i < position; i++) {
        ptrace(PTRACE_SINGLESTEP, *pid, NULL, NULL);
        waitpid(*pid, &status, 0);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
            return false; /* the second SIGSTOP: the call is over */
    }
    return true;
}

static void let_go_on(pid_t pid)
{
    int status;

    do {
        ptrace(PTRACE_CONT, pid, NULL, NULL);
        waitpid(pid, &status, 0);
    } while (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP);
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ------------------------------------------------------------------------------------ what must hold then */

/* Sends until nobody lets it any more, receiving as `mine`; `laps` at most. Next number to send. */
static uint64_t stream(uint64_t next, uint64_t until)
{
    while (next < until && put(next) == 0) {
        next++;
        while (take(&arena->mine) == 0)
            continue;
    }
    return next;
}

static void bury_receiver(void)
{
    noria_broadcast_settle_cursor(&arena->sender.shape, VICTIM,
                                  noria_broadcast_find_cursor(&arena->sender.shape, VICTIM));
}

/* A receiver is absent: the others get on. */
static void others_get_on(enum noria_broadcast_mode mode, bool dead)
{
    struct noria_broadcast_slowest slowest;
    uint64_t next;

    while (take(&arena->mine) == 0)
        continue;
    REQUIRE(arena->mine.sequence == PREPARED && arena->mine.missed == 0);
    if (dead)
        bury_receiver();
    next = stream(PREPARED, PREPARED + 100);
    if (mode == NORIA_BROADCAST_EVICTING && !dead)
        /* once, or once more: a newcomer may be stopped before it looks at kept */
        while (next < PREPARED + 100) {
            noria_broadcast_find_slowest(&arena->sender, &slowest);
            REQUIRE(slowest.owner == VICTIM);
            REQUIRE(noria_broadcast_evict(&arena->sender, &slowest) == 1);
            next = stream(next, PREPARED + 100);
        }
    REQUIRE(mode == NORIA_BROADCAST_RELIABLE && !dead ? next >= PREPARED : next == PREPARED + 100);
    REQUIRE(arena->mine.sequence == next && arena->mine.missed == 0);
    REQUIRE(dead || noria_broadcast_invariant(arena->ring, ring_bytes));
}

/* The victim goes on: it gets all there is from where it was, or knows how many it missed. */
static void victim_catches_up(pid_t pid, bool has_joined)
{
    uint64_t got = 0, from = has_joined ? 0 : UINT64_MAX;
    int rc;

    let_go_on(pid);
    REQUIRE(arena->result == 0);
    if (!has_joined)
        from = arena->theirs.sequence;
    else
        got = 1; /* by the call itself */
    while ((rc = take(&arena->theirs)) == 0)
        got++;
    REQUIRE(rc == -EAGAIN);
    REQUIRE(arena->theirs.sequence == arena->mine.sequence);
    REQUIRE(from + got + arena->theirs.missed == arena->mine.sequence);
}

static bool try_receiver(enum noria_broadcast_mode mode, void (*call)(void), bool dead)
{
    pid_t pid;
    bool inside, joins = call == victim_joins;

    prepare(mode);
    if (!joins)
        noria_broadcast_join_receiver(&arena->theirs, arena->ring, ring_bytes, VICTIM, NORIA_BROADCAST_NOW,
                                      0);
    for (uint64_t n = 0; n < PREPARED; n++)
        put(n);
    inside = lead(call, &pid);
    if (inside) {
        if (dead)
            end(pid);
        others_get_on(mode, dead);
        if (!dead && call != victim_leaves)
            victim_catches_up(pid, !joins);
        else if (!dead)
            let_go_on(pid);
    }
    if (!inside || !dead)
        end(pid);
    if (inside && call == victim_leaves && stream(arena->mine.sequence, arena->mine.sequence + 100) < 100 &&
        bad++ < 20)
        printf("BAD %s, instruction %d: it left, and still holds the sender\n", what, position);
    return inside;
}

/* A sender is absent: receivers get what is committed; with a successor everything goes on, with no gap and
 * no repetition. */
static void receivers_get_on(bool dead, pid_t pid, bool succeeds)
{
    uint64_t next;
    int rc;

    while ((rc = take(&arena->mine)) == 0)
        continue;
    REQUIRE(rc == -EAGAIN);
    REQUIRE(arena->mine.sequence == PREPARED || (!succeeds && arena->mine.sequence == PREPARED + 1));
    if (dead) {
        noria_broadcast_settle_sender(arena->ring, noria_broadcast_find_sender(arena->ring));
        REQUIRE(noria_broadcast_join_sender(&arena->sender, arena->ring, ring_bytes, 3) == 0);
        next = arena->sender.sequence;
        REQUIRE(next == arena->mine.sequence);
    } else {
        let_go_on(pid);
        REQUIRE(arena->result == 0);
        next = succeeds ? PREPARED : PREPARED + 1;
    }
    REQUIRE(noria_broadcast_invariant(arena->ring, ring_bytes));
    REQUIRE(stream(next, next + 100) == next + 100);
    REQUIRE(arena->mine.sequence == next + 100 && arena->mine.missed == 0);
}

static bool try_sender(enum noria_broadcast_mode mode, void (*call)(void), bool dead)
{
    pid_t pid;
    bool inside;

    prepare(mode);
    for (uint64_t n = 0; n < PREPARED; n++) {
        put(n);
        if (n < PREPARED / 2)
            take(&arena->mine);
    }
    inside = lead(call, &pid);
    if (inside && dead)
        end(pid);
    if (inside)
        receivers_get_on(dead, pid, call == victim_succeeds);
    if (!inside || !dead)
        end(pid);
    return inside;
}

static const struct {
    const char *name;
    void (*call)(void);
    bool (*attempt)(enum noria_broadcast_mode, void (*)(void), bool);
    int stride; /* in the short form; NORIA_LONG=1 tries every instruction of every call */
} calls[] = {{"send", victim_sends, try_sender, 1},        {"takeover", victim_succeeds, try_sender, 7},
             {"receive", victim_receives, try_receiver, 1}, {"join", victim_joins, try_receiver, 1},
             {"leave", victim_leaves, try_receiver, 1}};

int main(void)
{
    static const char *const modes[] = {"reliable", "evicting", "lossy"};
    static char name[64];
    bool thorough = getenv("NORIA_LONG") != NULL && strcmp(getenv("NORIA_LONG"), "1") == 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    arena = mmap(NULL, sizeof(*arena), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED)
        return 1;
    what = name;
    for (int mode = 0; mode <= NORIA_BROADCAST_LOSSY; mode++)
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
            for (int dead = 0; dead < 2; dead++) {
                int stride = thorough ? 1 : calls[i].stride;
                snprintf(name, sizeof(name), "%s, %s, %s", modes[mode], calls[i].name,
                         dead ? "killed" : "stopped");
                for (position = 0;
                     calls[i].attempt((enum noria_broadcast_mode)mode, calls[i].call, dead != 0);
                     position += stride) {
                    positions++;
                    if (position > POSITIONS_MAX)
                        return printf("FAILED: %s does not end\n", name), 1;
                }
                printf("%-40s %5d instructions\n", name, position);
            }
    printf("%d positions, %d bad\n", positions, bad);
    return bad != 0;
}
