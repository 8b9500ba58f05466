/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A System V semaphore set per channel as the bell: for programs that know semget, and for its one advantage
 * over the POSIX kind: the kernel does each step as a whole.
 *
 * A set, found by a key that is derived from the channel's id:
 *
 *     [0] side 0, [1] side 1:  0 is rung, 1 is quiet      [2]  15 bits mixed of the id: the set is ours
 *     [3] .. [11]  the whole id, 15 bits in each          [12] how many bells are open at it
 *
 *   wait is "wait for zero", ring sets 0, quiet sets 1 if it was 0. So all sleepers are woken by one call,
 *   none changes anything by being woken, a new set is a rung one (nobody who comes to it sleeps past a
 *   message), and any other value is as good as 1. Nothing is ever held across calls, so there is nothing to
 *   undo but the count of open bells, which is taken with SEM_UNDO and says whether anybody lives.
 *
 *   Cost: ring is one system call, wait one, quiet one or two. The set's lock is the kernel's: nobody is ever
 *   stopped or killed with it. Killed and stopped processes leave nothing behind and hold up nobody.
 *
 *   The set. Made by whoever comes first; a maker killed before it wrote [2] leaves a set that is all zero
 *   and was never operated on, which anybody with the same rights completes, in one atomic step. A set that
 *   is not ours under our key is left alone and the next derived key is used, of 8. If [2] is tampered with,
 *   handles opened before and after use different sets, and between them only the re-check works.
 *
 *   Removed under our feet (ipcrm): sleepers return, nap (nap.h) and make it anew with their next wait;
 *   ringers find the new one. remove() says in the segment, if it is given its words, that it has been, so
 *   that nobody makes it again: open handles then nap, for a removed set has no life without its name. A
 *   set outlives every process and has no file: if the last ones of an unlinked channel are killed it stays,
 *   until `noria gc` finds it by the id that stands in it, and nobody counted. What cannot be counted (no
 *   memory for an undo, a set whose handle was inherited by fork) can at worst be removed under somebody, who
 *   makes it anew.
 *
 *   Async-signal-safe: ring. wait returns -EINTR also after SIGCONT without any handler; Linux does so
 *   (signal(7)).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "named_bell.h"
#include "nap.h"

enum { RUNG = 0, QUIET = 1 };
enum { MARK = 2, ID = 3, ID_PIECES = 9, USERS = ID + ID_PIECES, SEMAPHORES };
enum { KEYS = 8, FIND_TRIES = 16 };
enum { STUCK = 1 };   /* bell->state: the level cannot be taken back */

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static key_t key_of(const struct noria_bell_place *place, unsigned attempt)
{
    uint64_t low = place->id[1] + (attempt + 1) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t key = (uint32_t)mix(place->id[0] + mix(low));

    return (key_t)(key == 0 ? 1 : key); /* 0 is IPC_PRIVATE */
}

static int mark_of(const struct noria_bell_place *place)
{
    return 1 + (int)(mix(place->id[0] ^ mix(place->id[1])) % 32767); /* 0 is a set that is not yet marked */
}

static bool is_gone(int error)
{
    return error == EIDRM || error == EINVAL;
}

enum verdict { OURS, UNMARKED, FOREIGN, GONE };

/* Touches nothing. `of_anybody`: to remove it, by whoever may, also without knowing the mode. */
static enum verdict examine(const struct noria_bell_place *place, int set, bool of_anybody)
{
    struct semid_ds status;
    int mark;

    if (semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0)
        return is_gone(errno) ? GONE : FOREIGN;
    if (status.sem_nsems != SEMAPHORES || (!of_anybody && !noria_bell_is_trusted(place, status.sem_perm.uid)))
        return FOREIGN;
    mark = semctl(set, MARK, GETVAL);
    if (mark < 0)
        return is_gone(errno) ? GONE : FOREIGN;
    if (mark == mark_of(place))
        return OURS;
    if (mark == 0 && status.sem_otime == 0 &&
        (of_anybody || (status.sem_perm.mode & 0777) == (place->mode & 0777)) &&
        noria_bell_is_trusted(place, status.sem_perm.uid) && semctl(set, 0, GETVAL) == 0 && semctl(set, 1, GETVAL) == 0)
        return UNMARKED;
    return FOREIGN;
}

/* 15 bits of the 128, from bit 15 * piece on. */
static unsigned short piece_of(const uint64_t id[2], unsigned piece)
{
    unsigned from = 15 * piece, word = from / 64, bit = from % 64;
    uint64_t bits = id[word] >> bit;

    if (bit > 64 - 15 && word == 0)
        bits |= id[1] << (64 - bit);
    return (unsigned short)(bits & 0x7fff);
}

/* At once or not at all; if another was quicker, his mark stands. */
static void put_mark(const struct noria_bell_place *place, int set)
{
    struct sembuf steps[2 + ID_PIECES] = {
        {.sem_num = MARK, .sem_op = 0, .sem_flg = IPC_NOWAIT},
        {.sem_num = MARK, .sem_op = (short)mark_of(place), .sem_flg = IPC_NOWAIT}};

    for (unsigned piece = 0; piece < ID_PIECES; piece++) /* adding nothing means to wait for 0, which it is */
        steps[2 + piece] = (struct sembuf){.sem_num = (unsigned short)(ID + piece),
                                           .sem_op = (short)piece_of(place->id, piece), .sem_flg = IPC_NOWAIT};
    semop(set, steps, 2 + ID_PIECES);
}

/* Counts an open bell, or one less. */
static void count_user(struct noria_bell *bell, int set, short by)
{
    struct sembuf step = {.sem_num = USERS, .sem_op = by, .sem_flg = IPC_NOWAIT | SEM_UNDO};

    bool counted = semop(set, &step, 1) == 0;

    /* Whose it is: undoing is not inherited. Not counted, it must not be taken off again: that would be another's. */
    bell->object = by > 0 && counted ? (void *)(intptr_t)getpid() : NULL;
}

/* Ours by creation, whoever has the channel. If it cannot be given away it stays ours. */
static void give_to_owner(const struct noria_bell_place *place, int set)
{
    struct semid_ds status;

    if (place->owner == geteuid() && place->group == getegid())
        return;
    if (semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0)
        return;
    status.sem_perm.uid = geteuid() == 0 ? place->owner : geteuid();
    status.sem_perm.gid = place->group;
    semctl(set, 0, IPC_SET, (union semun){.buf = &status});
}

/* A set that its maker was killed over, or that only seems to be one. */
static enum verdict complete(const struct noria_bell_place *place, int set)
{
    give_to_owner(place, set);
    put_mark(place, set);
    return examine(place, set, false);
}

/* Our set under any of the keys; else the first one that is to be completed; or -ENOENT with the first key that is free,
 * -EEXIST, -EAGAIN look again. */
static int look_up(const struct noria_bell_place *place, key_t *free_key)
{
    int rc = -EEXIST, unmarked = -1;

    for (unsigned attempt = 0; attempt < KEYS; attempt++) {
        key_t key = key_of(place, attempt);
        int set = semget(key, 0, 0);
        enum verdict verdict = set >= 0 ? examine(place, set, false) : errno == ENOENT ? GONE : FOREIGN;

        if (verdict == OURS)
            return set;
        if (verdict == UNMARKED && unmarked < 0)
            unmarked = set;
        if (verdict == GONE && rc == -EEXIST) {
            *free_key = key;
            rc = -ENOENT;
        }
    }
    if (unmarked >= 0)
        switch (complete(place, unmarked)) {
        case OURS:
            return unmarked;
        case GONE:
            return -EAGAIN;
        default:
            break;
        }
    return rc;
}

static int make(const struct noria_bell_place *place, key_t key)
{
    int set = semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | (int)(place->mode & 0777));

    if (set < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    give_to_owner(place, set);
    put_mark(place, set);
    noria_fence_seq_cst(); /* I make, then look for `removed`; remove() says it, then looks for the set */
    if (noria_bell_is_removed(place)) {
        semctl(set, 0, IPC_RMID);
        return -ENOENT;
    }
    return examine(place, set, false) == OURS ? set : -EAGAIN;
}

/* The set's id, or -errno without a sentence. Async-signal-safe. */
static int find(const struct noria_bell_place *place, bool may_make)
{
    int rc = -EAGAIN;

    for (int tries = 0; tries < FIND_TRIES && rc == -EAGAIN; tries++) {
        key_t free_key = 0;

        if (noria_bell_is_removed(place))
            return -ENOENT;
        rc = look_up(place, &free_key);
        if (rc == -ENOENT && may_make)
            rc = make(place, free_key);
    }
    return rc;
}

/* Threads share the bell. The number says all, so relaxed is enough. */
static int known_set(const struct noria_bell *bell)
{
    return (int)noria_load_relaxed32((const uint32_t *)&bell->set);
}

static void remember_set(struct noria_bell *bell, int set)
{
    noria_store_relaxed32((uint32_t *)&bell->set, (uint32_t)(set < 0 ? -1 : set));
}

static int open_bell(struct noria_bell *bell)
{
    int set = find(bell->place, true);

    remember_set(bell, set);
    if (set >= 0)
        count_user(bell, set, 1);
    if (set >= 0 || (set == -ENOENT && noria_bell_is_removed(bell->place))) /* it lives on without names; we nap */
        return 0;
    if (set == -ENOSPC)
        return noria_fail(set, "the system allows no further System V semaphore set: raise the second "
                          "(SEMMNS) or fourth (SEMMNI) figure in /proc/sys/kernel/sem, or remove unused "
                          "sets (`ipcs -s`, `ipcrm -s ID`)");
    if (set == -EEXIST)
        return noria_fail(set, "all %d System V keys of this channel belong to others (`ipcs -s`), the first "
                          "is 0x%08x; remove those sets or choose another way of waiting", KEYS,
                          (unsigned)key_of(bell->place, 0));
    if (set == -EAGAIN)
        return noria_fail(set, "somebody keeps removing the System V semaphores of the channel; try again");
    return noria_fail(set, "cannot make System V semaphores: %s; choose another way of waiting",
                      strerror(-set));
}

static void close_bell(struct noria_bell *bell)
{
    if (known_set(bell) >= 0 && bell->object == (void *)(intptr_t)getpid())
        count_user(bell, known_set(bell), -1);
    remember_set(bell, -1);
}

static void remove_set(const struct noria_bell_place *place)
{
    noria_bell_mark_removed(place);
    for (unsigned attempt = 0; attempt < KEYS; attempt++) {
        int set = semget(key_of(place, attempt), 0, 0);
        enum verdict verdict = set >= 0 ? examine(place, set, true) : GONE;

        if (verdict == OURS || verdict == UNMARKED)
            semctl(set, 0, IPC_RMID);
    }
}

/* ------------------------------------------------------------------------------------------ what the killed have left */

/* Whose set it is, if it is one of ours that nobody has open. */
static bool is_unused(int set, key_t key, struct noria_bell_place *place)
{
    unsigned short values[SEMAPHORES];
    struct semid_ds status;
    bool is_ours = false;

    if (semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0 || status.sem_nsems != SEMAPHORES ||
        (status.sem_perm.uid != geteuid() && geteuid() != 0) ||
        semctl(set, 0, GETALL, (union semun){.array = values}) != 0)
        return false;
    *place = (struct noria_bell_place){.id = {0, 0}};
    for (unsigned piece = 0; piece < ID_PIECES; piece++) {
        unsigned from = 15 * piece, word = from / 64, bit = from % 64;
        place->id[word] |= (uint64_t)values[ID + piece] << bit;
        if (bit > 64 - 15 && word == 0)
            place->id[1] |= (uint64_t)values[ID + piece] >> (64 - bit);
    }
    for (unsigned attempt = 0; attempt < KEYS; attempt++)
        is_ours = is_ours || key_of(place, attempt) == key;
    return is_ours && values[MARK] == mark_of(place) && values[USERS] == 0;
}

size_t noria_sysv_semaphore_find_unused(struct noria_unused_set *sets, size_t room)
{
    FILE *file = fopen("/proc/sysvipc/sem", "re");
    char line[256];
    size_t found = 0;

    while (file != NULL && found < room && fgets(line, sizeof(line), file) != NULL) {
        struct noria_bell_place place;
        int key, set;
        if (sscanf(line, "%d %d", &key, &set) != 2 || !is_unused(set, (key_t)key, &place))
            continue;
        sets[found++] = (struct noria_unused_set){.set = set, .key = (uint32_t)key, .id = {place.id[0], place.id[1]}};
    }
    if (file != NULL)
        fclose(file);
    return found;
}

int noria_sysv_semaphore_remove_unused(const struct noria_unused_set *unused, bool dry_run)
{
    struct noria_bell_place place;

    if (!is_unused(unused->set, (key_t)unused->key, &place) || place.id[0] != unused->id[0] || place.id[1] != unused->id[1])
        return 0;
    if (dry_run || semctl(unused->set, 0, IPC_RMID) == 0)
        return 1;
    return is_gone(errno) ? 0 : -errno;
}

static bool set_level(const struct noria_bell *bell, int set, int level)
{
    return semctl(set, (int)bell->side, SETVAL, (union semun){.val = level}) == 0;
}

/* If the set is gone, those who slept in it have been woken by that, and who makes a new one makes it rung.
 * */
static void ring(struct noria_bell *bell)
{
    int set = known_set(bell);

    if (set >= 0 && (set_level(bell, set, RUNG) || !is_gone(errno)))
        return;
    set = find(bell->place, false);
    remember_set(bell, set);
    if (set >= 0)
        set_level(bell, set, RUNG);
}

static bool quiet(struct noria_bell *bell)
{
    int set = known_set(bell);
    bool taken;

    if (set < 0 || semctl(set, (int)bell->side, GETVAL) != RUNG)
        return false;
    /* A ring in between is taken back too, and we say so. */
    taken = set_level(bell, set, QUIET);
    noria_store_relaxed32(&bell->state, taken ? 0 : STUCK); /* a hint for wait */
    return true;
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    struct sembuf until_rung = {.sem_num = (unsigned short)bell->side, .sem_op = 0, .sem_flg = 0};
    int64_t left_ns = until_ns - noria_now_ns();
    struct timespec left = noria_timespec_of(left_ns);
    int set = known_set(bell);

    if (noria_load_relaxed32(bell->word) != expected || left_ns <= 0) /* a look; what is sent later rings */
        return 0;
    if (set < 0) {
        set = find(bell->place, true);
        remember_set(bell, set);
        if (set >= 0)
            count_user(bell, set, 1);
    }
    if (set < 0 || noria_load_relaxed32(&bell->state) == STUCK)
        return noria_nap(until_ns);
    if (semtimedop(set, &until_rung, 1, &left) == 0 || errno == EAGAIN)
        return 0;
    if (errno == EINTR)
        return -EINTR;
    if (is_gone(errno))
        remember_set(bell, -1);
    return noria_nap(until_ns);
}

const struct noria_strategy noria_strategy_sysv_semaphore = {
    .name = "sysv-semaphore", .sleeps = true, .open = open_bell, .close = close_bell, .remove = remove_set,
    .ring = ring, .quiet = quiet, .wait = wait_at,
};
