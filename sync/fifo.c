/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A FIFO per side beside the segment, /dev/shm/noria-<id>-r for receivers and -s for senders: for poll and
 * epoll between processes that share nothing but the permission to open it. Also used beside another
 * strategy for noria_fd().
 *
 * Cost: ring is one write of one byte, quiet one read, a sleep one ppoll. One descriptor per handle and
 * side, and two names, which remove() removes. ring always writes: asking first whether the level is set
 * would be another system call on the waker's way, and the sleeper drains all at once.
 *
 * Everybody opens it for reading and writing, so nobody ever meets SIGPIPE, ENXIO or end of file. Whoever
 * finds no name makes the FIFO; mode and group are mended by everybody who owns it, so a maker that dies in
 * between does no harm to his user's processes. Root gives it to the owner of the channel. Another user who
 * shares the channel gets -EACCES until one of the owner's opens it.
 *
 * A name can be taken away under living handles: by hand, or by noria_unlink before another handle asks
 * for its FIFO. Then two FIFOs could exist. So the segment has a word per side:
 *
 *     word     identity of the channel's FIFO (made of its inode number), 0 = none yet
 *     I hold mine open, so its inode is not used again: word == mine means that mine is the channel's
 *
 *     open: the name leads to the one in word      done
 *           a live participant has that one open   open it through his /proc/PID/fd, name or not
 *           else                                   the one at the name, made if need be; compare-and-swap the
 *                                                  word to it
 *
 *   ring, quiet and wait look whether the word is still theirs and follow it, under the same descriptor
 *   number, with a ring of the old one. So a newcomer joins those who are there, whatever happened to the
 *   name. Only if he may not look into any of them (another user, another pid namespace) a second FIFO is
 *   made; those who sleep in noria follow within one re-check, and an epoll set has to be given noria_fd()
 *   again, because the kernel forgets the file behind it.
 *
 * A symbolic link, hard link, other kind of file or stranger's FIFO at the name is refused and not touched.
 * What hostile bytes can do: wake somebody in vain.
 *
 * ring is async-signal-safe if the place's find_peer is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "detail.h"
#include "named_bell.h"
#include "strategy.h"

enum { TRIES = 16, OPEN_FLAGS = O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY };

/* A page of bytes; a FIFO has 16 by default. */
enum { DRAIN_BYTES = 4096, DRAINS = 16, DESCRIPTORS_MOST = 1 << 20 };

static const char one = 1;

/* The last of the side's words: the first ones belong to the strategy that this bell may stand beside. */
static uint32_t *word_of(const struct noria_bell *bell)
{
    return &bell->place->words[bell->side][3];
}

static struct noria_path path_of(const struct noria_bell_place *place, unsigned side)
{
    struct noria_path path = {.length = 0};

    noria_path_add(&path, "/dev/shm/noria-");
    noria_path_add_number(&path, place->id[0], 16, 16);
    noria_path_add_number(&path, place->id[1], 16, 16);
    noria_path_add(&path, side == 1 ? "-r" : "-s");
    return path;
}

static mode_t mode_of(const struct noria_bell_place *place)
{
    return place->mode & 0666;
}

static uint32_t identity_from(const struct stat *status)
{
    return (uint32_t)(status->st_ino % (NORIA_DESCRIPTOR_CHANGING - 1)) + 1; /* neither 0 nor CHANGING */
}

/* The name is known only to those who may read the segment. A FIFO of another user than the channel's is right if the
 * channel is shared with others. */
static bool may_be_owned_by(const struct noria_bell_place *place, uid_t owner)
{
    uid_t us = geteuid();

    return owner == us || owner == 0 || owner == place->owner || (mode_of(place) & 0066) != 0;
}

/* 0, -ENOTTY: not a FIFO, -EXDEV: a second name, -EPERM: a stranger's. */
static int check(const struct noria_bell_place *place, int fd, struct stat *status)
{
    if (fstat(fd, status) != 0)
        return -errno;
    if (!S_ISFIFO(status->st_mode))
        return -ENOTTY;
    if (status->st_nlink > 1)
        return -EXDEV;
    return may_be_owned_by(place, status->st_uid) ? 0 : -EPERM;
}

/* Owned by us, but of another mode: its maker died, or the umask made it so. Or not the channel's owner's or group's, who
 * could then not open it: we are root, or of several groups. */
static bool has_to_be_mended(const struct noria_bell_place *place, const struct stat *status)
{
    return status->st_uid == geteuid() &&
           ((status->st_mode & 07777) != mode_of(place) || status->st_gid != place->group ||
            (status->st_uid == 0 && place->owner != 0));
}

static int mend(const struct noria_bell_place *place, int fd)
{
    /* First whose it is: nobody else is to have their rights, not even for a moment. */
    int error = noria_bell_give(place, fd);

    return fchmod(fd, mode_of(place)) != 0 ? -errno : -error;
}

/* The maker died before its mode was right, and we may not even open it. Whether that could be changed. */
static bool mend_closed(const struct noria_bell_place *place, const char *name)
{
    struct noria_path path = {.length = 0};
    int fd = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    bool mended = false;

    if (fd < 0)
        return false;
    if (check(place, fd, &status) == 0 && has_to_be_mended(place, &status)) {
        noria_path_add(&path, "/proc/self/fd/");
        noria_path_add_number(&path, (uint64_t)fd, 10, 1);
        mended = chmod(path.text, mode_of(place)) == 0;
    }
    close(fd);
    return mended;
}

/* The descriptor, or -errno as from open and check. */
static int open_name(const struct noria_bell_place *place, const char *name, uint32_t *identity)
{
    int fd = open(name, OPEN_FLAGS | O_NOFOLLOW);
    struct stat status;
    int rc;

    if (fd < 0 && errno == EACCES && mend_closed(place, name))
        fd = open(name, OPEN_FLAGS | O_NOFOLLOW);
    if (fd < 0)
        return errno == EISDIR || errno == ENXIO ? -ENOTTY : -errno;
    rc = check(place, fd, &status);
    if (rc == 0 && has_to_be_mended(place, &status))
        rc = mend(place, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *identity = identity_from(&status);
    return fd;
}

struct search {
    const struct noria_bell *bell;
    const char *name;
    uint32_t wanted;
    int fd;
};

/* What the kernel writes into the buffer of getdents64. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t bytes;
    uint8_t kind;
    char name[];
};

/* Opens what a process has open as `number` if that is the wanted FIFO. */
static int open_of_peer(const struct search *search, int folder, const char *number)
{
    struct stat status;
    char target[sizeof(((struct noria_path *)0)->text)];
    ssize_t length = readlinkat(folder, number, target, sizeof(target));
    size_t expected = strlen(search->name);
    int fd;

    if (length < (ssize_t)expected || memcmp(target, search->name, expected) != 0)
        return -ENOENT;
    fd = openat(folder, number, OPEN_FLAGS);
    if (fd < 0)
        return -errno;
    if (check(search->bell->place, fd, &status) == 0 && identity_from(&status) == search->wanted)
        return fd;
    close(fd);
    return -ENOENT;
}

static bool look_into(void *mine, uint32_t number, pid_t pid)
{
    struct search *search = mine;
    struct noria_path path = {.length = 0};
    _Alignas(8) char buffer[2048];
    int folder, seen = 0;
    long got;

    (void)number;
    if (pid <= 0)
        return false; /* not to be looked into */
    noria_path_add(&path, "/proc/");
    noria_path_add_number(&path, (uint64_t)pid, 10, 1);
    noria_path_add(&path, "/fd");
    folder = open(path.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return false;
    /* Not readdir, which allocates. */
    while (search->fd < 0 && seen < DESCRIPTORS_MOST &&
           (got = syscall(SYS_getdents64, folder, buffer, sizeof(buffer))) > 0)
        for (long at = 0; at < got && search->fd < 0; seen++) {
            const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
            search->fd = open_of_peer(search, folder, entry->name);
            at += entry->bytes;
        }
    close(folder);
    return search->fd >= 0;
}

static int open_through_peers(const struct noria_bell *bell, const char *name, uint32_t wanted)
{
    struct search search = {bell, name, wanted, -ENOENT};

    if (wanted != 0 && bell->place->find_peer != NULL)
        bell->place->find_peer(bell->place->context, look_into, &search);
    if (wanted != 0 && search.fd < 0)
        look_into(&search, bell->place->number, getpid()); /* another bell of this handle */
    return search.fd >= 0 ? search.fd : -ENOENT;
}

/* The FIFO that the word names, or else the one at the name. -ENOENT: neither is there. */
static int find(const struct noria_bell *bell, const char *name, uint32_t wanted, uint32_t *identity)
{
    int named = open_name(bell->place, name, identity);
    int other;

    if ((named >= 0 && *identity == wanted) || (named < 0 && named != -ENOENT))
        return named;
    other = open_through_peers(bell, name, wanted);
    if (other < 0)
        return named;
    if (named >= 0)
        close(named);
    *identity = wanted;
    return other;
}

/* See the head of the file. */
static int settle(struct noria_bell *bell, uint32_t *identity)
{
    struct noria_path path = path_of(bell->place, bell->side);
    uint32_t *word = word_of(bell);

    for (int tries = 0; tries < TRIES; tries++) {
        uint32_t wanted = noria_load_acquire32(word), found = 0;
        int fd, rc;

        if (bell->fd >= 0 && *identity == wanted)
            return 0;
        fd = find(bell, path.text, wanted, &found);
        if (fd == -ENOENT && bell->fd < 0) {
            /* For its owner alone before it has its group: it is mended then. */
            if (mkfifo(path.text, mode_of(bell->place) & (bell->place->group == getegid() ? 0777 : 0700)) != 0 && errno != EEXIST)
                return errno == ENOENT ? -ENODEV : -errno;
            continue;
        }
        if (fd < 0 && fd != -ENOENT)
            return fd;
        if (fd >= 0) {
            rc = noria_descriptor_adopt(bell, fd, &one, sizeof(one));
            if (rc != 0)
                return rc;
            *identity = found;
        }
        noria_cas_acq_rel32(word, &wanted, *identity); /* lost: the next round sees whose it is */
    }
    return bell->fd >= 0 ? 0 : -EAGAIN; /* somebody plays with word or name */
}

static bool renew(struct noria_bell *bell)
{
    return !noria_descriptor_is_current(bell, word_of(bell)) && noria_descriptor_agree(bell, settle) == 1;
}

static int refuse(const char *name, int rc)
{
    switch (-rc) {
    case ELOOP:
        return noria_fail(-EACCES, "'%s' is a symbolic link, refused: somebody planted it; remove it", name);
    case EXDEV:
        return noria_fail(-EACCES, "'%s' has a second name (hard link), refused: somebody planted it", name);
    case EPERM:
        return noria_fail(-EACCES, "'%s' belongs to another user, refused: somebody planted it", name);
    case ENOTTY:
        return noria_fail(-EINVAL, "'%s' is not a FIFO but another kind of file: remove it", name);
    case EACCES:
        return noria_fail(-EACCES, "no permission for '%s': see its owner and mode with `ls -l`", name);
    case EMFILE:
    case ENFILE:
        return noria_fail(rc, "too many open files for '%s'; raise `ulimit -n`", name);
    case ENODEV:
        return noria_fail(-ENOTSUP, "there is no /dev/shm to make a FIFO in: choose another way to wait");
    case EAGAIN:
        return noria_fail(-EAGAIN, "'%s' appears and vanishes all the time", name);
    default:
        return noria_fail(rc, "cannot open '%s': %s", name, noria_error_words(rc));
    }
}

static void close_bell(struct noria_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
    bell->state = 0;
}

static int open_bell(struct noria_bell *bell)
{
    struct noria_path path = path_of(bell->place, bell->side);
    int rc;

    bell->fd = -1;
    bell->state = 0;
    rc = noria_descriptor_agree(bell, settle);
    if (rc >= 0)
        return 0;
    close_bell(bell);
    return refuse(path.text, rc);
}

static void remove_names(const struct noria_bell_place *place)
{
    for (unsigned side = 0; side < 2; side++) {
        struct noria_path path = path_of(place, side);
        unlink(path.text);
    }
}

static void ring(struct noria_bell *bell)
{
    renew(bell);
    if (write(bell->fd, &one, sizeof(one)) < 0)
        return; /* full: it has rung enough */
}

static bool quiet(struct noria_bell *bell)
{
    bool rung = renew(bell); /* then a ring of the old one may have been for us */
    char bytes[DRAIN_BYTES];

    for (int i = 0; i < DRAINS; i++) {
        ssize_t got = read(bell->fd, bytes, sizeof(bytes));
        rung = rung || got > 0;
        if (got < (ssize_t)sizeof(bytes))
            break;
    }
    return rung;
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    if (renew(bell) || noria_load_relaxed32(bell->word) != expected) /* relaxed: only a hint */
        return 0;
    return noria_descriptor_wait(bell->fd, until_ns);
}

const struct noria_strategy noria_strategy_fifo = {
    .name = "fifo", .sleeps = true, .pollable = true, .open = open_bell, .close = close_bell,
    .remove = remove_names, .ring = ring, .quiet = quiet, .renew = renew, .wait = wait_at};
