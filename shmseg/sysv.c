/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System V shared memory.
 *
 *     KEY          decimal or 0x...: what shmget takes              id:N    whatever has the id N (ipcs -m)
 *     /path:PROJ   the key that ftok makes of them                  ""      new memory without a key, gone with its
 *     last user
 *
 * What POSIX has by itself has to be made here.
 *
 * Locks. A set of semaphores per segment, found by a key that the segment's id is part of, so that it can be found from
 * the id and the other way round:
 *
 *     [0] creation, [1] .. [locks] participants: 0 is free, 1 is held      [locks + 1] says that the set is ours
 *
 *   A lock is taken by one semop ("wait for 0, add 1") with SEM_UNDO, so the kernel frees it when its holder ends. That
 *   belongs to a process, not to a description: threads share it and it stays until the last one ends; a second
 *   handle of the process is refused like anybody else, for the semop waits for 0; a forked child does not inherit
 *   it; but it survives execve. So a held lock whose process no longer maps the segment is taken for what it is:
 *   dead (locks_survive). Such a process costs one place in the table until it ends.
 *
 * Creation. A new segment is all zero, as another program's may be. So the set is made first, and nobody attaches
 * before: zeros with our set, or never attached at all, is what a dead creator leaves. Its size cannot be changed: a
 * leftover of another size, or with too few locks, is removed and made anew.
 *
 * Removal. IPC_RMID takes the key away at once, as unlink does the name, and the memory with the last user; SHM_DEST
 * tells the others. The set has to outlive that: the last one to leave removes it. If that one was killed, the next
 * one to create or remove a segment does (sweep), or gc, as they do with memory without a key whose creator died before
 * he attached it.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "detail.h"
#include "liveness.h"
#include "segment.h"

#ifndef MADV_POPULATE_WRITE /* newer than Debian 12's headers */
#define MADV_POPULATE_WRITE 23
#endif

#define SET_KEY UINT32_C(0xee6f7261)     /* its top bit, which no id has, keeps keys from being IPC_PRIVATE */
#define PRIVATE_KEY UINT32_C(0x6e6f0000) /* memory without a key has one of these until it is attached */
#define PRIVATE_MASK UINT32_C(0xffff0000)

enum { TRIES = 100, OTHER_SEMAPHORES = 2 };

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

/* ---------------------------------------------------------------------------------------------------------- names */

enum naming { BY_KEY, BY_ID, NEW };

struct target {
    enum naming naming;
    key_t key;
    int id;
};

static bool parse_number(const char *text, unsigned long most, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && text[0] != '+' && *number <= most;
}

static int check_key(const char *name, key_t key)
{
    if (((uint32_t)key & PRIVATE_MASK) != PRIVATE_KEY)
        return 0;
    return noria_fail(-EINVAL, "'sysv:%s': the keys 0x%x to 0x%x are for memory without a name, which is swept away; take "
                      "another key, or another project", name, PRIVATE_KEY, PRIVATE_KEY | ~PRIVATE_MASK);
}

static int parse_path(const char *name, struct target *target)
{
    const char *colon = strrchr(name, ':');
    unsigned long project = 0;
    bool is_letter = colon != NULL && isalpha((unsigned char)colon[1]) && colon[2] == '\0';
    char path[256];

    if (colon == NULL || (!is_letter && (!parse_number(colon + 1, 255, &project) || project == 0)))
        return noria_fail(-EINVAL, "'sysv:%s': after the path stands the project, a number from 1 to 255 or a letter, "
                          "as in sysv:/path:1", name);
    if (is_letter)
        project = (unsigned char)colon[1];
    if (colon - name >= (ptrdiff_t)sizeof(path))
        return noria_fail(-ENAMETOOLONG, "the path in 'sysv:%.40s...' has more than 255 characters", name);
    memcpy(path, name, (size_t)(colon - name));
    path[colon - name] = '\0';
    target->key = ftok(path, (int)project);
    if (target->key == -1)
        return noria_fail(-errno, "no key can be made of '%s': %s; the file has to exist", path,
                          noria_error_words(errno));
    return check_key(name, target->key);
}

static int parse(const char *name, struct target *target)
{
    unsigned long number;

    *target = (struct target){.naming = BY_KEY, .id = -1};
    if (name[0] == '/')
        return parse_path(name, target);
    if (strncmp(name, "id:", 3) == 0) {
        if (!parse_number(name + 3, INT32_MAX, &number))
            return noria_fail(-EINVAL, "'sysv:%s' names no segment: write sysv:id:N with an id of `ipcs -m`", name);
        target->naming = BY_ID;
        target->id = (int)number;
        return 0;
    }
    if (name[0] == '\0') {
        target->naming = NEW;
        return 0;
    }
    if (!parse_number(name, UINT32_MAX, &number) || number == 0)
        return noria_fail(-EINVAL, "'sysv:%s' is no key: write sysv:0x1234 (not 0), sysv:/path:PROJ, sysv:id:N, or "
                          "sysv: for new memory", name);
    target->key = (key_t)(uint32_t)number;
    return check_key(name, target->key);
}

static bool is_gone(int error)
{
    return error == EIDRM || error == EINVAL;
}

static unsigned long long limit_of(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long limit = 0;

    if (file != NULL) {
        if (fscanf(file, "%llu", &limit) != 1)
            limit = 0;
        fclose(file);
    }
    return limit;
}

static int report(const char *name, uint64_t size, int error)
{
    if (error == ENOENT)
        return noria_fail(-ENOENT, "there is no channel 'sysv:%s'; create it with NORIA_CREATE or `noria "
                          "create`", name);
    if (error == EACCES || error == EPERM)
        return noria_segment_refuse_access(&noria_segment_sysv, name);
    if (error == ENOSPC)
        return noria_fail(-ENOSPC, "no segment of %llu bytes can be had for 'sysv:%s': the system has %llu at most, "
                          "of %llu pages together; remove some (`ipcs -m`, `noria rm`), or raise kernel.shmmni "
                          "and kernel.shmall",
                          (unsigned long long)size, name, limit_of("/proc/sys/kernel/shmmni"),
                          limit_of("/proc/sys/kernel/shmall"));
    if (error == EINVAL)
        return noria_fail(-EINVAL, "'sysv:%s' needs %llu bytes, a segment may have %llu: ask for less capacity, or "
                          "raise kernel.shmmax", name, (unsigned long long)size, limit_of("/proc/sys/kernel/shmmax"));
    if (error == ENOMEM)
        return noria_fail(-ENOMEM, "the system has no memory for the %llu bytes of 'sysv:%s': ask for less capacity",
                          (unsigned long long)size, name);
    return noria_fail(-error, "cannot open 'sysv:%s': %s", name, noria_error_words(error));
}

/* ---------------------------------------------------------------------------------------------------- sets of locks */

static key_t set_key_of(int id)
{
    return (key_t)((uint32_t)id ^ SET_KEY);
}

static int mark_of(int id)
{
    uint64_t x = (uint64_t)(uint32_t)id * UINT64_C(0x9e3779b97f4a7c15);

    return 1 + (int)((x ^ x >> 32) % 32767); /* 0 is a set that is not yet marked */
}

/* At once or not at all; if another was quicker, his mark stands. */
static void put_mark(int set, int id, unsigned short last)
{
    struct sembuf steps[] = {{.sem_num = last, .sem_op = 0, .sem_flg = IPC_NOWAIT},
                             {.sem_num = last, .sem_op = (short)mark_of(id), .sem_flg = IPC_NOWAIT}};

    semop(set, steps, 2);
}

/* Of root, for another one, or of a segment of another group: its owner and group have to be able to use it. Where root
 * was killed before, its next look does this. */
static void give_set(int set, const struct shmid_ds *segment)
{
    const uid_t us = geteuid();
    struct semid_ds status = {.sem_perm = {.uid = us == 0 ? segment->shm_perm.uid : us, .gid = segment->shm_perm.gid,
                                           .mode = segment->shm_perm.mode & 0777}};

    if ((us == 0 && segment->shm_perm.uid != 0) || segment->shm_perm.gid != getegid())
        semctl(set, 0, IPC_SET, (union semun){.buf = &status});
}

/* Whether the set is that of the segment: made by somebody to whom the segment belongs, or root. */
static bool is_set_of(int set, int id, const struct shmid_ds *segment)
{
    struct semid_ds status;
    unsigned short last;
    int mark;

    if (semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0 || status.sem_nsems <= OTHER_SEMAPHORES)
        return false;
    if (segment != NULL && status.sem_perm.cuid != segment->shm_perm.cuid &&
        status.sem_perm.cuid != segment->shm_perm.uid && status.sem_perm.cuid != 0)
        return false;
    last = (unsigned short)(status.sem_nsems - 1);
    mark = semctl(set, last, GETVAL);
    if (mark == 0 && status.sem_otime == 0) { /* its maker died, or is just about to */
        put_mark(set, id, last);
        mark = semctl(set, last, GETVAL);
    }
    if (mark != mark_of(id)) /* a stranger's, which is not ours to give */
        return false;
    if (segment != NULL && status.sem_perm.uid == 0 && geteuid() == 0)
        give_set(set, segment);
    return true;
}

/* The set, -EEXIST it is another's, -EIDRM it was removed just now. Plain. */
static int known_set(int set, int id, const struct shmid_ds *segment)
{
    struct semid_ds status;

    if (is_set_of(set, id, segment))
        return set;
    return semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0 && is_gone(errno) ? -EIDRM : -EEXIST;
}

/* Whether a set whose segment is gone was made by us for it, and marked. Touches nothing: it may be a stranger's. */
static bool is_marked(int set, int id)
{
    struct semid_ds status;

    return semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) == 0 && status.sem_nsems > OTHER_SEMAPHORES &&
           status.sem_otime != 0 && semctl(set, (int)status.sem_nsems - 1, GETVAL) == mark_of(id);
}

/* The set, or -ENOENT there is none, -EACCES, -EEXIST something else has the key. Plain. */
static int find_set(int id, const struct shmid_ds *segment)
{
    int set = semget(set_key_of(id), 0, 0);

    if (set < 0)
        return -errno;
    return known_set(set, id, segment);
}

static int refuse_set(const struct noria_segment_request *request, int id, int error)
{
    uint32_t count = request->locks + OTHER_SEMAPHORES;

    if (error == EINVAL)
        return noria_fail(-EINVAL, "%u semaphores are needed for 'sysv:%s', a set may have %llu: ask for fewer "
                          "max_participants, or raise the first figure of kernel.sem", count, request->name,
                          limit_of("/proc/sys/kernel/sem"));
    if (error == ENOSPC)
        return noria_fail(-ENOSPC, "the system allows no further set of %u semaphores for 'sysv:%s': remove unused "
                          "ones (`ipcs -s`), or raise the second and fourth figure of kernel.sem", count,
                          request->name);
    if (error == EEXIST)
        return noria_fail(-EEXIST, "the key 0x%08x, for the locks of 'sysv:%s', is another's: remove that set (`ipcrm "
                          "-S 0x%08x`) or take another key", (unsigned)set_key_of(id), request->name,
                          (unsigned)set_key_of(id));
    return noria_fail(-error, "cannot make locks for 'sysv:%s': %s", request->name, noria_error_words(error));
}

/* The set, or plain -errno. Only those to whom the segment belongs may. */
static int make_set(int id, const struct shmid_ds *segment, uint32_t locks)
{
    const uid_t us = geteuid();
    int set, count = (int)locks + OTHER_SEMAPHORES;

    if (us != segment->shm_perm.cuid && us != segment->shm_perm.uid && us != 0)
        return -EACCES;
    set = semget(set_key_of(id), count, IPC_CREAT | IPC_EXCL | (int)(segment->shm_perm.mode & 0777));
    if (set < 0)
        return errno == EEXIST ? find_set(id, segment) : -errno;
    give_set(set, segment);
    put_mark(set, id, (unsigned short)(count - 1));
    return known_set(set, id, segment);
}

static void remove_set(int id)
{
    int set = find_set(id, NULL);

    if (set >= 0)
        semctl(set, 0, IPC_RMID);
}

/* --------------------------------------------------------------------------------------------- all there is (/proc) */

struct row {
    uint32_t key;
    int id;
    unsigned mode;
    unsigned long long size, resident, swapped;
    int creator;
    unsigned long attached;
    unsigned uid, gid, cuid;
};

/* Calls `each` for every segment of the system, until it returns non-zero, and returns that. */
static int each_segment(int (*each)(const struct row *row, void *context), void *context)
{
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    char line[512];
    int rc = 0;

    if (file == NULL)
        return noria_fail(-errno, "cannot list System V segments: %s", noria_error_words(errno));
    while (rc == 0 && fgets(line, sizeof(line), file) != NULL) {
        struct row row;
        int key;
        if (sscanf(line, "%d %d %o %llu %d %*d %lu %u %u %u %*u %*d %*d %*d %llu %llu", &key, &row.id, &row.mode,
                   &row.size, &row.creator, &row.attached, &row.uid, &row.gid, &row.cuid, &row.resident,
                   &row.swapped) != 11)
            continue; /* the heading */
        row.key = (uint32_t)key;
        rc = each(&row, context);
    }
    fclose(file);
    return rc;
}

static int is_row_of(const struct row *row, void *context)
{
    struct row *wanted = context;

    if (row->id != wanted->id)
        return 0;
    *wanted = *row;
    return 1;
}

/* Who sweeps, and whom to tell. */
struct sweeping {
    bool dry_run;
    noria_segment_remnant *each;
    void *context;
};

/* Root removes what others left only if it was asked to: a mark has 15 bits, and may be a stranger's by chance. */
static bool is_ours_to_remove(uid_t uid, const struct sweeping *sweeping)
{
    return uid == geteuid() || (geteuid() == 0 && sweeping->each != NULL);
}

/* rc as of a call that removes. */
static void tell(const struct sweeping *sweeping, const char *what, bool is_memory, int rc)
{
    int result = rc == 0 ? 0 : -errno;

    if (sweeping->each != NULL && !is_gone(-result)) /* another was faster */
        sweeping->each(what, is_memory, result, sweeping->context);
}

/* Memory without a key that nobody could attach any more, for its creator died before he could. */
static int sweep_segment(const struct row *row, void *context)
{
    const struct sweeping *sweeping = context;
    char what[32];

    if ((row->key & PRIVATE_MASK) == PRIVATE_KEY && row->attached == 0 && is_ours_to_remove(row->uid, sweeping) &&
        row->creator > 0 && kill(row->creator, 0) != 0 && errno == ESRCH) {
        snprintf(what, sizeof(what), "sysv:id:%d", row->id);
        tell(sweeping, what, true, sweeping->dry_run ? 0 : shmctl(row->id, IPC_RMID, NULL));
        if (!sweeping->dry_run)
            remove_set(row->id);
    }
    return 0;
}

static void sweep_set(int set, uint32_t key, const struct sweeping *sweeping)
{
    int segment = (int)(key ^ SET_KEY);
    struct shmid_ds status;
    char what[32];

    if (segment < 0 || shmctl(segment, IPC_STAT, &status) == 0 || !is_gone(errno) || !is_marked(set, segment))
        return;
    snprintf(what, sizeof(what), "System V set 0x%08x", key);
    tell(sweeping, what, false, sweeping->dry_run ? 0 : semctl(set, 0, IPC_RMID));
}

/* Removes what killed users of this uid left, or of all if root is to tell of it: sets of locks whose segments are gone, and such
 * memory. */
static void sweep(bool dry_run, noria_segment_remnant *each, void *context)
{
    struct sweeping sweeping = {dry_run, each, context};
    FILE *file = fopen("/proc/sysvipc/sem", "re");
    char line[256];

    each_segment(sweep_segment, &sweeping);
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        int key, set;
        unsigned uid;
        if (sscanf(line, "%d %d %*o %*u %u", &key, &set, &uid) == 3 && is_ours_to_remove(uid, &sweeping))
            sweep_set(set, (uint32_t)key, &sweeping);
    }
    if (file != NULL)
        fclose(file);
}

/* ------------------------------------------------------------------------------------------------------- obtaining */

/* The id of a new segment, or -errno plain. */
static int make_keyed(key_t key, const struct noria_segment_request *request)
{
    /* What is to be another group's is nobody else's until set_mode. */
    const mode_t mode = request->mode & (request->group == (gid_t)-1 ? 0777 : 0700);
    const int flags = IPC_CREAT | IPC_EXCL | (int)mode;
    /* Not with holes: they would be of whole huge pages. */
    bool huge = request->huge && noria_segment_solid(request) == request->size;
    int id = huge ? shmget(key, (size_t)request->size, flags | SHM_HUGETLB) : -1;

    if (id < 0) /* too few are reserved, or we may not have them: then others */
        id = shmget(key, (size_t)request->size, flags);
    return id >= 0 ? id : -errno;
}

/* Under a key of ours that is taken away as soon as it is attached. */
static int make_private(const struct noria_segment_request *request)
{
    int id = -EEXIST;

    for (int tries = 0; tries < TRIES && id == -EEXIST; tries++) {
        uint16_t random = (uint16_t)tries;
        (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
        id = make_keyed((key_t)(PRIVATE_KEY | random), request);
    }
    return id;
}

/* The id of what the name means, or -errno with a sentence. */
static int find_or_make(const struct noria_segment_request *request, const struct target *target, bool *made)
{
    int id = target->id;

    *made = false;
    if (target->naming == BY_ID)
        return id;
    if (request->size > SIZE_MAX)
        return noria_fail(-ENOMEM, "'sysv:%s' needs more bytes than this process can address", request->name);
    for (int tries = 0; tries < TRIES; tries++) {
        id = target->naming == NEW ? -1 : shmget(target->key, 0, 0);
        if (id >= 0)
            return id;
        if (target->naming == BY_KEY && (errno != ENOENT || !request->create))
            return report(request->name, request->size, errno);
        sweep(false, NULL, NULL); /* first: it makes room, and until the new one has its locks it is not known to be ours */
        id = target->naming == NEW ? make_private(request) : make_keyed(target->key, request);
        if (id >= 0) {
            *made = true;
            return id;
        }
        if (id != -EEXIST)
            return report(request->name, request->size, -id);
    }
    return noria_fail(-EAGAIN, "'sysv:%s' appears and vanishes all the time", request->name);
}

static int attach(struct noria_segment *segment, int flags)
{
    void *base = shmat(segment->id, NULL, flags);

    if (base == (void *)-1)
        return -errno;
    segment->base = base;
    if (noria_process_mapping(base, &segment->device, &segment->inode) != 0)
        segment->inode = 0; /* not known: nobody can be asked whether he maps it */
    return 0;
}

static void detach(struct noria_segment *segment)
{
    if (segment->base != NULL)
        shmdt(segment->base);
    segment->base = NULL;
}

/* A set's id, or -errno, in which case there is none. */
static void remember_set(struct noria_segment *segment, int set)
{
    struct semid_ds status;

    segment->set = set >= 0 ? set : -1;
    if (set >= 0 && semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) == 0)
        segment->locks = (uint32_t)status.sem_nsems - OTHER_SEMAPHORES;
}

static uint64_t first_word(const struct noria_segment *segment)
{
    return noria_load_acquire64(segment->base); /* pairs with the release of the magic */
}

/* Whether what we have attached is a channel's, although its locks are gone. */
static bool has_lost_its_set(const struct noria_segment *segment)
{
    uint64_t word = segment->base != NULL && segment->size >= NORIA_SEGMENT_CONTENT ? first_word(segment) : 0;

    return word == NORIA_SEGMENT_MAGIC || word == NORIA_SEGMENT_UNFINISHED;
}

/* Its key was taken away, before its locks were. */
static bool is_removed(int id)
{
    struct shmid_ds status;

    return shmctl(id, IPC_STAT, &status) != 0 ? is_gone(errno) : (status.shm_perm.mode & SHM_DEST) != 0;
}

/* Attaches and finds the locks, in the order that the head of this file tells. 0, VANISHED, or -errno with a
 * sentence. */
static int take_hold(struct noria_segment *segment, const struct noria_segment_request *request, bool made)
{
    struct shmid_ds status;
    int set, rc;

    if (shmctl(segment->id, IPC_STAT, &status) != 0)
        return is_gone(errno) ? NORIA_SEGMENT_VANISHED : report(request->name, request->size, errno);
    segment->size = status.shm_segsz;
    set = find_set(segment->id, &status);
    if (set == -ENOENT && request->create && (made || status.shm_atime == 0))
        set = make_set(segment->id, &status, request->locks);
    if (set == -EIDRM)
        return NORIA_SEGMENT_VANISHED;
    if (set == -ENOENT && status.shm_atime == 0)
        return 0; /* its creator is just about to make them, or dead */
    if (set < 0 && set != -ENOENT)
        return refuse_set(request, segment->id, -set);
    rc = attach(segment, 0);
    if (rc != 0)
        return is_gone(-rc) ? NORIA_SEGMENT_VANISHED : report(request->name, request->size, -rc);
    if (set == -ENOENT && !has_lost_its_set(segment) && is_removed(segment->id))
        return NORIA_SEGMENT_VANISHED;
    /* Who asks for no locks, as gc does, makes none: a set that is too small nobody would take for ours. */
    if (set == -ENOENT && has_lost_its_set(segment) && request->locks != 0) {
        set = make_set(segment->id, &status, request->locks);
        if (set == -EIDRM)
            return NORIA_SEGMENT_VANISHED;
        if (set < 0)
            return refuse_set(request, segment->id, -set);
    }
    remember_set(segment, set);
    return 0;
}

/* What we have just made and cannot use: nobody has attached it, so nobody misses it. */
static void throw_away(int id)
{
    struct shmid_ds status;

    if (shmctl(id, IPC_STAT, &status) != 0 || status.shm_nattch != 0)
        return;
    shmctl(id, IPC_RMID, NULL);
    remove_set(id);
}

static int obtain(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    struct shmid_ds status;
    struct target target;
    int rc = parse(request->name, &target);

    if (rc != 0)
        return rc;
    rc = find_or_make(request, &target, made);
    if (rc < 0)
        return rc;
    segment->id = rc;
    rc = take_hold(segment, request, *made);
    if (rc == 0 && target.naming == NEW && shmctl(segment->id, IPC_RMID, NULL) != 0)
        rc = report(request->name, request->size, errno); /* from here on it would go with its last user */
    if (rc != 0 && *made) {
        detach(segment);
        throw_away(segment->id);
        *made = false;
        return rc;
    }
    if (rc == NORIA_SEGMENT_VANISHED && target.naming == BY_ID)
        return report(request->name, 0, ENOENT);
    /* Found by its id although the key is gone: then a key is not what keeps it. */
    if (rc == 0 && target.naming == BY_ID && shmctl(segment->id, IPC_STAT, &status) == 0 &&
        (status.shm_perm.mode & SHM_DEST) != 0)
        segment->backend = &noria_segment_sysv_private;
    return rc;
}

static int obtain_view(struct noria_segment *segment, const char *name)
{
    const struct noria_segment_request request = {.backend = segment->backend, .name = name};
    struct target target;
    struct shmid_ds status;
    bool made;
    int rc = parse(name, &target);

    if (rc == 0 && target.naming == NEW)
        return noria_fail(-EINVAL, "'sysv:' is always new memory; look at it by its id, as sysv:id:N");
    if (rc == 0)
        rc = find_or_make(&request, &target, &made);
    if (rc < 0)
        return rc;
    segment->id = rc;
    if (shmctl(segment->id, IPC_STAT, &status) != 0)
        return report(name, 0, is_gone(errno) ? ENOENT : errno);
    segment->size = status.shm_segsz;
    remember_set(segment, find_set(segment->id, &status));
    if (segment->set < 0 && status.shm_atime == 0)
        return 0;
    rc = attach(segment, SHM_RDONLY);
    if (rc == 0 && segment->set < 0 && !has_lost_its_set(segment) && is_removed(segment->id))
        rc = -EIDRM;
    return rc == 0 ? 0 : report(name, 0, is_gone(-rc) ? ENOENT : -rc);
}

static int obtain_again(struct noria_segment *segment, const struct noria_segment *other)
{
    struct shmid_ds status;
    int rc;

    segment->id = other->id;
    segment->locks = other->locks;
    rc = attach(segment, 0);
    if (rc != 0)
        return noria_fail(rc, "cannot attach the inherited segment %d: %s", other->id, noria_error_words(rc));
    if (shmctl(segment->id, IPC_STAT, &status) != 0)
        return noria_fail(-errno, "cannot look at the inherited segment: %s", noria_error_words(errno));
    segment->size = status.shm_segsz;
    rc = find_set(segment->id, &status);
    if (rc == -ENOENT) /* its last user took it along, for no handle of his was counted but ours */
        rc = make_set(segment->id, &status, segment->locks);
    remember_set(segment, rc);
    return rc >= 0 ? 0 : noria_fail(rc, "the locks of the inherited segment are not to be had: %s",
                                    noria_error_words(rc));
}

/* -------------------------------------------------------------------------------------------------------- looking */

/* A segment belongs to its creator as well as to its owner: either could be a stranger. */
static uid_t less_trusted(uid_t owner, uid_t creator)
{
    return creator == geteuid() || creator == 0 ? owner : creator;
}

static int look(const struct noria_segment *segment, struct noria_segment_facts *facts)
{
    struct shmid_ds status;
    struct row row = {.id = segment->id};

    if (shmctl(segment->id, IPC_STAT, &status) != 0) {
        *facts = (struct noria_segment_facts){.possible = true};
        return is_gone(errno) ? 0 : -errno; /* gone altogether: it has no name */
    }
    *facts = (struct noria_segment_facts){.size = status.shm_segsz,
                                          .filled = status.shm_segsz,
                                          .owner = less_trusted(status.shm_perm.uid, status.shm_perm.cuid),
                                          .group = status.shm_perm.gid,
                                          .mode = status.shm_perm.mode & 0777,
                                          .names = (status.shm_perm.mode & SHM_DEST) != 0 ? 0 : 1,
                                          .possible = true};
    /* Only of what has holes it is worth reading a list. */
    if (segment->super.solid != 0 && each_segment(is_row_of, &row) == 1)
        facts->filled = row.resident + row.swapped;
    return 0;
}

/* A superblock that is still zero counts as nothing there yet, if the segment is ours. */
static ssize_t read_bytes(const struct noria_segment *segment, void *to, size_t size, uint64_t offset)
{
    uint64_t there = segment->size > offset ? segment->size - offset : 0;

    if (segment->base == NULL)
        return 0;
    if (segment->size >= sizeof(uint64_t) && segment->set >= 0 && first_word(segment) == 0)
        return 0;
    if (size > there)
        size = (size_t)there;
    memcpy(to, (const uint8_t *)segment->base + offset, size);
    return (ssize_t)size;
}

/* It was attached as a whole, and cannot shrink. */
static int map(struct noria_segment *segment, uint64_t size)
{
    if (segment->base == NULL || size > segment->size)
        return -EBADMSG;
    segment->size = (size_t)size;
    return 0;
}

static int describe(const char *name, struct noria_segment_facts *facts)
{
    struct target target;
    struct row row;

    if (parse(name, &target) != 0 || target.naming == NEW)
        return -EINVAL;
    row.id = target.naming == BY_ID ? target.id : shmget(target.key, 0, 0);
    if (row.id < 0)
        return -errno;
    if (each_segment(is_row_of, &row) != 1)
        return -ENOENT;
    *facts = (struct noria_segment_facts){.size = row.size, .filled = row.resident + row.swapped, .owner = row.uid,
                                          .group = row.gid, .mode = row.mode & 0777,
                                          .names = (row.mode & SHM_DEST) != 0 ? 0 : 1, .possible = true};
    return 0;
}

struct listing {
    int (*each)(const char *name, void *context);
    void *context;
};

/* Those with a set of locks: others are not noria's, and are not attached to be looked at. */
static int list_row(const struct row *row, void *context)
{
    const struct listing *listing = context;
    char name[32];

    if (semget(set_key_of(row->id), 0, 0) < 0)
        return 0;
    if (row->key != 0)
        snprintf(name, sizeof(name), "0x%08x", row->key);
    else
        snprintf(name, sizeof(name), "id:%d", row->id);
    return listing->each(name, listing->context);
}

static int list(int (*each)(const char *name, void *context), void *context)
{
    struct listing listing = {each, context};

    if (access("/proc/sysvipc/shm", R_OK) != 0)
        return 0; /* a kernel without System V, or no /proc: nothing to be listed */
    return each_segment(list_row, &listing);
}

/* ---------------------------------------------------------------------------------------------------------- space */

static int set_mode(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct shmid_ds status;
    struct semid_ds set;
    bool has_group = request->group != (gid_t)-1;
    int rc = semctl(segment->set, 0, IPC_STAT, (union semun){.buf = &set});

    /* The set first: whoever may use the segment looks at its set. */
    if (rc == 0) {
        set.sem_perm.mode = (unsigned short)(request->mode & 0777);
        set.sem_perm.gid = has_group ? request->group : set.sem_perm.gid;
        rc = semctl(segment->set, 0, IPC_SET, (union semun){.buf = &set});
    }
    if (rc == 0)
        rc = shmctl(segment->id, IPC_STAT, &status);
    if (rc == 0) {
        status.shm_perm.mode = (unsigned short)(request->mode & 0777);
        status.shm_perm.gid = has_group ? request->group : status.shm_perm.gid;
        rc = shmctl(segment->id, IPC_SET, &status);
    }
    if (rc != 0 && errno == EINVAL && has_group && shmctl(segment->id, IPC_STAT, &status) == 0)
        return noria_segment_refuse_group(request); /* the segment is there, so it is the number */
    if (rc != 0 && is_gone(errno)) /* removed by somebody while we made it */
        return NORIA_SEGMENT_VANISHED;
    return rc == 0 ? 0 : noria_fail(-errno, "cannot set the mode of the segment: %s", noria_error_words(errno));
}

static uint8_t *page_of(const struct noria_segment *segment, uint64_t offset)
{
    return (uint8_t *)segment->base + (offset & ~(uint64_t)(sysconf(_SC_PAGESIZE) - 1));
}

/* Before Linux 5.14: by touching, and if there is nothing left the kernel ends somebody. */
static void touch(uint8_t *from, const uint8_t *end)
{
    for (uint8_t *page = from; page < end; page += sysconf(_SC_PAGESIZE))
        noria_add_relaxed32((uint32_t *)(void *)page, 0); /* adds nothing, and orders nothing */
}

static int fill(const struct noria_segment *segment, uint64_t offset, uint64_t size)
{
    uint8_t *from = page_of(segment, offset), *end = (uint8_t *)segment->base + offset + size;

    if (size == 0 || madvise(from, (size_t)(end - from), MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == EFAULT || errno == ENOMEM)
        return -ENOMEM;
    if (errno != EINVAL)
        return -errno;
    touch(from, end);
    return 0;
}

static int drop(const struct noria_segment *segment, uint64_t offset, uint64_t size)
{
    return madvise(page_of(segment, offset), (size_t)size, MADV_REMOVE) == 0 ? 0 : -errno;
}

/* A leftover that is not of the wanted size cannot be made so. */
static int replace(struct noria_segment *segment)
{
    int set = segment->set;

    if (shmctl(segment->id, IPC_RMID, NULL) != 0 && !is_gone(errno))
        return noria_fail(-errno, "cannot remove what a dead creator left under the key: %s", noria_error_words(errno));
    semctl(set, 0, IPC_RMID);
    return NORIA_SEGMENT_VANISHED;
}

static int reserve(struct noria_segment *segment, const struct noria_segment_request *request)
{
    uint64_t *mark = segment->base;
    int rc;

    if (segment->size != request->size || segment->locks < request->locks)
        return replace(segment);
    rc = noria_segment_check_memory(request->backend, request->name, noria_segment_solid(request));
    if (rc != 0)
        return rc;
    if (first_word(segment) != 0)
        memset((uint8_t *)segment->base + sizeof(*mark), 0, (size_t)(noria_segment_solid(request) - sizeof(*mark)));
    noria_store_release64(mark, NORIA_SEGMENT_UNFINISHED);
    rc = fill(segment, 0, noria_segment_solid(request));
    return rc == 0 ? 0 : noria_fail(rc, "cannot get %llu bytes for 'sysv:%s': %s",
                                    (unsigned long long)noria_segment_solid(request), request->name,
                                    noria_error_words(rc));
}

static int leave_unsealed(struct noria_segment *segment)
{
    (void)segment; /* its size cannot change */
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- removal */

static int any_held(const struct noria_segment *segment);

/* By its id: the key may have come to mean another one. */
static int remove_name(struct noria_segment *segment, const char *name, int64_t until_ns)
{
    struct shmid_ds status;
    int set = segment->set >= 0 ? segment->set : find_set(segment->id, NULL);

    (void)until_ns;
    if (shmctl(segment->id, IPC_STAT, &status) == 0 && (status.shm_perm.mode & SHM_DEST) != 0)
        return NORIA_SEGMENT_VANISHED; /* another was faster */
    if (shmctl(segment->id, IPC_RMID, NULL) != 0)
        return is_gone(errno) ? NORIA_SEGMENT_VANISHED : report(name, 0, errno);
    if (set >= 0 && any_held(segment) == 0) /* otherwise the last participant does */
        semctl(set, 0, IPC_RMID);
    sweep(false, NULL, NULL);
    return 0;
}

static void forget(struct noria_segment *segment)
{
    remove_set(segment->id); /* by the segment: another may have made it anew */
    segment->set = -1;
}

/* ---------------------------------------------------------------------------------------------------------- locks */

/* The set was removed under us: that of now, or -errno. Who never had one does not make one: its creator will. */
static int find_set_again(const struct noria_segment *segment, bool make)
{
    struct shmid_ds status;
    int set;

    if (shmctl(segment->id, IPC_STAT, &status) != 0)
        return -errno;
    set = find_set(segment->id, &status);
    return set == -ENOENT && make && segment->locks != 0 ? make_set(segment->id, &status, segment->locks) : set;
}

static int lock(const struct noria_segment *segment, uint32_t lock)
{
    struct sembuf steps[] = {{.sem_num = (unsigned short)lock, .sem_op = 0, .sem_flg = IPC_NOWAIT},
                             {.sem_num = (unsigned short)lock, .sem_op = 1, .sem_flg = IPC_NOWAIT | SEM_UNDO}};
    int set = segment->set, rc;

    if (lock > segment->locks)
        return -ENOLCK;
    do
        rc = semop(set, steps, 2);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (set >= 0 && !is_gone(errno))
        return -errno;
    set = find_set_again(segment, true);
    if (set < 0)
        return set;
    return semop(set, steps, 2) == 0 ? 0 : -errno;
}

static void unlock(const struct noria_segment *segment, uint32_t lock)
{
    struct sembuf step = {.sem_num = (unsigned short)lock, .sem_op = -1, .sem_flg = IPC_NOWAIT | SEM_UNDO};
    int set = segment->set;

    if (semop(set, &step, 1) == 0 || !is_gone(errno))
        return;
    set = find_set_again(segment, false);
    if (set >= 0)
        semop(set, &step, 1);
}

static int held(const struct noria_segment *segment, uint32_t lock)
{
    int value = semctl(segment->set, (int)lock, GETVAL), set;

    if (value < 0 && is_gone(errno)) {
        set = find_set_again(segment, false);
        value = set < 0 ? -1 : semctl(set, (int)lock, GETVAL);
    }
    return value < 0 ? -errno : value != 0;
}

static int any_held(const struct noria_segment *segment)
{
    struct semid_ds status;
    unsigned short *values;
    int any = 0, set = segment->set;

    if (semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0) {
        if (!is_gone(errno))
            return -errno;
        set = find_set_again(segment, false);
        if (set < 0 || semctl(set, 0, IPC_STAT, (union semun){.buf = &status}) != 0)
            return 0; /* what is not there is not held */
    }
    values = calloc(status.sem_nsems, sizeof(*values));
    if (values == NULL)
        return -ENOMEM;
    if (semctl(set, 0, GETALL, (union semun){.array = values}) != 0)
        any = -errno;
    for (size_t i = 1; any == 0 && i + 1 < status.sem_nsems; i++)
        any = values[i] != 0;
    free(values);
    return any;
}

#define SYSV_VERBS \
    .fills_holes = true, .locks_survive_exec = true, .obtain = obtain, .obtain_view = obtain_view, \
    .obtain_again = obtain_again, .look = look, .read = read_bytes, .set_mode = set_mode, .reserve = reserve, \
    .seal = leave_unsealed, .map = map, .map_view = map, .close = detach, .unlink = remove_name, .forget = forget, \
    .lock = lock, .unlock = unlock, .held = held, .any_held = any_held, .fill = fill, .drop = drop

const struct noria_segment_backend noria_segment_sysv = {
    .scheme = "sysv", .named = true, .describe = describe, .list = list, .sweep = sweep, SYSV_VERBS};
const struct noria_segment_backend noria_segment_sysv_private = {.scheme = "sysv", .named = false, SYSV_VERBS};
