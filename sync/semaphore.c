/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A named POSIX semaphore per side as the bell: for programs and lecture notes that know semaphores. Linux
 * with glibc.
 *
 * A semaphore counts and a bell has a level, so the level is "not 0": who rings posts only if the value is
 * below 1, who hears it posts again at once for the next sleeper, who takes it back takes everything. The
 * value is never larger than the number of threads that are just posting. Waking n sleepers is a chain of n
 * posts, each by the one before.
 *
 *   Cost: ring is a load, and a system call if somebody sleeps; wait one system call; quiet none.
 *
 *   Killed or stopped between taking and posting again: the others have lost this ring. So they have when the
 *   kernel chose a stopped sleeper to be woken. Both until their re-check. A killed sleeper stays in the
 *   count of sleepers, which costs a needless system call per ring and nothing else.
 *
 *   As the chain goes from one to the next, a sleeper who takes the ring back and finds nothing for himself
 *   may cut it off before the others. They miss no message by that, for he has asked for the next ring; who
 *   rings for what concerns their handle alone (its shutdown) rings until they have left.
 *
 *   The name. The file is made without one, with its contents and the channel's mode (sem_open would apply
 *   the umask), and then linked: whoever finds the name finds it whole, and a maker who is killed leaves
 *   nothing behind. Unlinked by an administrator, open handles go on; a handle opened later makes a new
 *   one, and between the two only the re-check works. remove() says in the segment, if it is given its
 *   words, that it has been, so that no late handle makes the names again.
 *
 *   Tampered bytes. A huge value makes every sleeper nap instead (nap.h) while it is taken back bit by bit,
 *   8192 per call: no endless loop, no busy core, SEM_VALUE_MAX takes one sleeper about 11 minutes of naps at
 *   2 % of a core (at once it would be 30 s of a whole one). We do not replace the semaphore instead: whoever
 *   holds the old one would ring there. A wrong count of sleepers can keep posts from waking anybody until
 *   the file is unlinked; then the re-check is all there is. glibc hands the word that says "between
 *   processes" to the kernel unchecked and aborts or loops if the kernel dislikes it, so it is put right
 *   before each use. Who changes it in the very moment of use, or truncates the file, can still crash us:
 *   this strategy is for a channel whose participants trust each other.
 *
 *   Async-signal-safe: ring (sem_post, and sem_getvalue, which is a load in glibc).
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "named_bell.h"
#include "nap.h"

enum { OPEN_TRIES = 100, TAKEN_BACK_PER_CALL = 8192 };
enum { FLOODED = 1 }; /* bell->state: the value is nonsense and not yet taken back */
enum { WORDS_OF_SEMAPHORE = sizeof(sem_t) / sizeof(uint32_t) };

struct names {
    char semaphore[64];
    char path[80]; /* where glibc keeps it */
};

static struct names names_of(const struct noria_bell_place *place, unsigned side)
{
    struct names names;

    snprintf(names.path, sizeof(names.path), "/dev/shm/sem.noria-%016llx%016llx-%c",
             (unsigned long long)place->id[0], (unsigned long long)place->id[1], side == 0 ? 's' : 'r');
    names.semaphore[0] = '/';
    memcpy(names.semaphore + 1, names.path + strlen("/dev/shm/sem."),
           strlen(names.path) - strlen("/dev/shm/sem.") + 1);
    return names;
}

static int report(const char *path, int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return noria_fail(-EACCES, "no permission for the semaphore %s: see its owner and mode", path);
    case EMFILE:
    case ENFILE:
        return noria_fail(-error, "too many open files for the semaphore %s; raise `ulimit -n`", path);
    case ENOSPC:
        return noria_fail(-ENOSPC, "no room for the semaphore %s: see `df -i /dev/shm`", path);
    case ENOENT:
    case EISDIR:
    case EOPNOTSUPP:
        return noria_fail(-ENOTSUP, "the semaphore %s needs /proc, and a tmpfs on /dev/shm; mount them or "
                          "choose another way of waiting", path);
    default:
        return noria_fail(-error, "cannot open the semaphore %s: %s", path, strerror(error));
    }
}

/* 0 if there is a file that may be ours, -ENOENT without a sentence if there is none. Touches nothing. */
static int examine(const struct names *names, const struct noria_bell_place *place, struct stat *status)
{
    if (lstat(names->path, status) != 0)
        return errno == ENOENT ? -ENOENT : report(names->path, errno);
    if (!S_ISREG(status->st_mode) || status->st_size != (off_t)sizeof(sem_t))
        return noria_fail(-EEXIST, "%s is not a semaphore of ours: somebody planted or damaged it; "
                          "see what it is and remove it", names->path);
    if (!noria_bell_is_trusted(place, status->st_uid))
        return noria_fail(-EACCES, "the semaphore %s belongs to user %u, you are %u, and the channel's mode "
                          "lets no others in", names->path, (unsigned)status->st_uid, (unsigned)geteuid());
    return 0;
}

/* Makes the file whole and gives it its name. 0 also if somebody else was quicker. */
static int make(const struct names *names, const struct noria_bell_place *place)
{
    char unnamed[32];
    sem_t fresh;
    int error, rc = 0, fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);

    if (fd < 0)
        return report(names->path, errno);
    memset(&fresh, 0, sizeof(fresh));
    sem_init(&fresh, 1, 0); /* what glibc writes into the files it makes */
    snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (write(fd, &fresh, sizeof(fresh)) != (ssize_t)sizeof(fresh))
        rc = report(names->path, ENOSPC);
    else if (fchmod(fd, place->mode & (S_IRWXU | S_IRWXG | S_IRWXO)) != 0)
        rc = report(names->path, errno);
    else if ((error = noria_bell_give(place, fd)) != 0)
        rc = report(names->path, error);
    else if (linkat(AT_FDCWD, unnamed, AT_FDCWD, names->path, AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST)
        rc = report(names->path, errno);
    close(fd);
    return rc;
}

/* Maps the semaphore of that name if before and after it is the file that was examined: one that is too short
 * would be SIGBUS. 1; 0 if it has gone or changed meanwhile, or an error. */
static int attach(struct noria_bell *bell, const struct names *names, const struct stat *before)
{
    sem_t *semaphore = sem_open(names->semaphore, 0);
    struct stat after;
    int rc;

    if (semaphore == SEM_FAILED)
        return errno == ENOENT ? 0 : report(names->path, errno);
    rc = examine(names, bell->place, &after);
    if (rc == 0 && after.st_ino == before->st_ino && after.st_dev == before->st_dev) {
        bell->object = semaphore;
        return 1;
    }
    sem_close(semaphore);
    return rc == -ENOENT ? 0 : rc;
}

static int open_bell(struct noria_bell *bell)
{
    struct names names = names_of(bell->place, bell->side);
    struct stat status;
    int rc;

    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        rc = examine(&names, bell->place, &status);
        if (rc == -ENOENT && noria_bell_is_removed(bell->place))
            return 0; /* the channel lives on without names; we nap */
        if (rc == -ENOENT) {
            rc = make(&names, bell->place);
            noria_fence_seq_cst(); /* I link, then look at the mark; remove() marks, then unlinks */
            if (rc == 0 && noria_bell_is_removed(bell->place))
                sem_unlink(names.semaphore);
        } else if (rc == 0) {
            rc = attach(bell, &names, &status);
            if (rc == 1)
                return 0;
        }
        if (rc != 0)
            return rc;
    }
    return noria_fail(-EAGAIN, "somebody keeps removing the semaphore %s; try again", names.path);
}

static void close_bell(struct noria_bell *bell)
{
    if (bell->object != NULL)
        sem_close(bell->object);
    bell->object = NULL;
}

static void remove_names(const struct noria_bell_place *place)
{
    noria_bell_mark_removed(place);
    for (unsigned side = 0; side < 2; side++) {
        struct names names = names_of(place, side);
        struct stat status;

        /* The name holds 128 random bits; what we have not made must have been planted, and stays. */
        if (lstat(names.path, &status) == 0 && S_ISREG(status.st_mode) &&
            (status.st_uid == geteuid() || status.st_size == (off_t)sizeof(sem_t)))
            sem_unlink(names.semaphore);
    }
}

/* Puts right the word that tells a semaphore between processes from one between threads, wherever it is. */
static void mend(sem_t *semaphore)
{
    sem_t between_threads, between_processes;
    uint32_t wrong[WORDS_OF_SEMAPHORE], right[WORDS_OF_SEMAPHORE], *words = (uint32_t *)(void *)semaphore;

    memset(&between_threads, 0, sizeof(between_threads));
    memset(&between_processes, 0, sizeof(between_processes));
    sem_init(&between_threads, 0, 0);
    sem_init(&between_processes, 1, 0);
    memcpy(wrong, &between_threads, sizeof(wrong));
    memcpy(right, &between_processes, sizeof(right));
    for (int i = 0; i < WORDS_OF_SEMAPHORE; i++) /* relaxed: it never has another value */
        if (wrong[i] != right[i] && noria_load_relaxed32(&words[i]) != right[i])
            noria_store_relaxed32(&words[i], right[i]);
}

static void ring(struct noria_bell *bell)
{
    sem_t *semaphore = bell->object;
    int value;

    if (semaphore == NULL)
        return;
    mend(semaphore);
    if (sem_getvalue(semaphore, &value) == 0 && value < 1)
        sem_post(semaphore);
}

static bool quiet(struct noria_bell *bell)
{
    int taken = 0;

    if (bell->object == NULL)
        return false;
    while (taken < TAKEN_BACK_PER_CALL && sem_trywait(bell->object) == 0)
        taken++;
    noria_store_relaxed32(&bell->state, taken == TAKEN_BACK_PER_CALL ? FLOODED : 0); /* a hint for wait */
    return taken > 0;
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    struct timespec until = noria_timespec_of(until_ns);

    if (noria_load_relaxed32(bell->word) != expected) /* a look; what is sent later rings */
        return 0;
    if (bell->object == NULL || noria_load_relaxed32(&bell->state) == FLOODED)
        return noria_nap(until_ns);
    mend(bell->object);
    if (sem_clockwait(bell->object, CLOCK_MONOTONIC, &until) == 0)
        ring(bell); /* the level stays */
    else if (errno == EINTR)
        return -EINTR;
    else if (errno != ETIMEDOUT)
        return noria_nap(until_ns);
    return 0;
}

const struct noria_strategy noria_strategy_semaphore = {
    .name = "semaphore", .sleeps = true, .trusting = true, .open = open_bell, .close = close_bell, .remove = remove_names,
    .ring = ring, .quiet = quiet, .wait = wait_at,
};
