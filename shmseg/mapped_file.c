/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "liveness.h"

/* ------------------------------------------------------------------------------------------------------ opening */

int noria_file_open_or_make(noria_file_opener *opener, const struct noria_segment_request *request, bool *made)
{
    bool interrupted = false;

    for (int tries = 0; tries < 100; tries++) {
        int fd;
        *made = interrupted = false;
        /* O_NONBLOCK, lest a planted FIFO holds us up. */
        fd = opener(request->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
        interrupted = fd < 0 && errno == EINTR;
        if (interrupted)
            continue;
        if (fd >= 0 || errno != ENOENT || !request->create)
            return fd;
        fd = opener(request->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    (request->mode & S_IRWXU) | NORIA_SEGMENT_NEW_MODE);
        if (fd >= 0) {
            *made = true;
            return fd;
        }
        if (errno != EEXIST && errno != EINTR)
            return -1;
    }
    errno = interrupted ? EINTR : EAGAIN;
    return -1;
}

int noria_file_obtained(struct noria_segment *segment, int fd)
{
    struct stat status;

    segment->fd = fd;
    if (fstat(fd, &status) != 0)
        return noria_fail(-errno, "cannot look at the segment: %s", noria_error_words(errno));
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    return 0;
}

int noria_file_obtain_again(struct noria_segment *segment, const struct noria_segment *other)
{
    int fd = noria_lock_own_description(other->fd);

    if (fd < 0)
        return noria_fail(fd, "cannot reopen the segment through /proc/self/fd/%d: %s", other->fd,
                          noria_error_words(fd));
    return noria_file_obtained(segment, fd);
}

/* A mapping keeps its open file description alive, with its locks, also in a forked child. So locks are taken on a
 * second description that is never mapped. Without /proc the first one has to do. */
void noria_file_settle(struct noria_segment *segment)
{
    int own = noria_lock_own_description(segment->fd);

    if (own < 0)
        return;
    close(segment->fd);
    segment->fd = own;
}

void noria_file_close(struct noria_segment *segment)
{
    if (segment->base != NULL)
        munmap(segment->base, segment->size);
    if (segment->fd >= 0)
        close(segment->fd);
}

/* ------------------------------------------------------------------------------------------------------- unlinking */

/* With the flock held. */
static int unlink_locked(const struct noria_segment *segment, const char *name, const char *path)
{
    struct stat status, own; /* asked for: a look in vain may be why it goes */

    if (fstat(segment->fd, &own) != 0)
        return noria_fail(-errno, "cannot look at '%s:%s': %s", segment->backend->scheme, name, noria_error_words(errno));
    if (lstat(path, &status) == 0) {
        if (status.st_dev != own.st_dev || status.st_ino != own.st_ino)
            return NORIA_SEGMENT_VANISHED;
        if (unlink(path) == 0)
            return 0;
    }
    if (errno == ENOENT)
        return NORIA_SEGMENT_VANISHED;
    return noria_fail(-errno, "cannot remove '%s:%s': %s; see the owner and mode of it and of its directory",
                      segment->backend->scheme, name, noria_error_words(errno));
}

int noria_file_unlink(struct noria_segment *segment, const char *name, const char *path, int64_t until_ns)
{
    const struct timespec moment = {.tv_nsec = NORIA_NS_PER_MS};
    int rc;

    while (flock(segment->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return noria_fail(-errno, "cannot lock '%s:%s' to remove it: %s", segment->backend->scheme, name,
                              noria_error_words(errno));
        if (noria_now_ns() >= until_ns)
            return noria_fail(-EBUSY, "'%s:%s' is just being removed by a process that does not get on; continue or "
                              "kill it", segment->backend->scheme, name);
        nanosleep(&moment, NULL); /* there is nothing to be woken by */
    }
    rc = unlink_locked(segment, name, path);
    flock(segment->fd, LOCK_UN); /* a child that is just being forked keeps the description, but not this */
    return rc;
}

/* ------------------------------------------------------------------------------------------------------ looking */

void noria_file_facts_of(const struct stat *status, struct noria_segment_facts *facts)
{
    *facts = (struct noria_segment_facts){.size = (uint64_t)status->st_size,
                                          .filled = (uint64_t)status->st_blocks * 512,
                                          .owner = status->st_uid,
                                          .group = status->st_gid,
                                          .mode = status->st_mode & 07777,
                                          .names = (uint32_t)status->st_nlink,
                                          .possible = S_ISREG(status->st_mode)};
}

int noria_file_look(const struct noria_segment *segment, struct noria_segment_facts *facts)
{
    struct stat status;

    if (fstat(segment->fd, &status) != 0)
        return -errno;
    noria_file_facts_of(&status, facts);
    return 0;
}

ssize_t noria_file_read(const struct noria_segment *segment, void *to, size_t size, uint64_t offset)
{
    ssize_t got;

    do
        got = pread(segment->fd, to, size, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got >= 0 ? got : -errno;
}

/* ------------------------------------------------------------------------------------------------------ mapping */

int noria_file_map(struct noria_segment *segment, uint64_t size)
{
    segment->size = (size_t)size;
    segment->base = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
    if (segment->base != MAP_FAILED)
        return 0;
    segment->base = NULL;
    return -errno;
}

/* Where data begins and ends behind `from`; what lies between is zeros. False: there is none before `size`. */
static bool next_data(int fd, uint64_t from, uint64_t size, uint64_t *begin, uint64_t *end)
{
    off_t data = lseek(fd, (off_t)from, SEEK_DATA), hole;

    if (data < 0 && errno == ENXIO)
        return false;
    *begin = data >= 0 ? (uint64_t)data : from; /* a file system that does not know says so */
    hole = lseek(fd, (off_t)*begin, SEEK_HOLE);
    *end = hole > (off_t)*begin && (uint64_t)hole < size ? (uint64_t)hole : size;
    return *begin < size;
}

/* The data of the file, into zeros. */
static int copy_data(int fd, uint8_t *to, uint64_t size)
{
    uint64_t left = noria_segment_memory_available() / 4, at = 0, begin, end;

    for (left = left != 0 ? left : UINT64_MAX; next_data(fd, at, size, &begin, &end); at = end) {
        if (end - begin > left)
            return -EFBIG;
        left -= end - begin;
        while (begin < end) {
            ssize_t got = pread(fd, to + begin, (size_t)(end - begin), (off_t)begin);
            if (got < 0 && errno != EINTR)
                return -errno;
            if (got == 0)
                return -EBADMSG; /* it shrank while it was read */
            begin += got > 0 ? (uint64_t)got : 0;
        }
    }
    return 0;
}

int noria_file_copy(struct noria_segment *segment, uint64_t size)
{
    segment->size = (size_t)size;
    segment->base = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment->base != MAP_FAILED)
        return copy_data(segment->fd, segment->base, size);
    segment->base = NULL;
    return -ENOMEM;
}

/* Looking at a hole of shared memory takes a page, which may not be there to be had: SIGBUS. */
static bool has_dangerous_holes(const struct noria_segment *segment, const struct stat *status)
{
    return !segment->backend->on_disk && noria_segment_may_have_holes(segment, (uint64_t)status->st_blocks * 512);
}

/* A private copy of another user's, who could truncate the file under a mapping, and of what has holes. */
int noria_file_map_view(struct noria_segment *segment, uint64_t size)
{
    struct stat status;

    if (fstat(segment->fd, &status) != 0)
        return -errno;
    if (status.st_uid != geteuid() || has_dangerous_holes(segment, &status))
        return noria_file_copy(segment, size);
    segment->size = (size_t)size;
    segment->base = mmap(NULL, segment->size, PROT_READ, MAP_SHARED, segment->fd, 0);
    if (segment->base != MAP_FAILED)
        return 0;
    segment->base = NULL;
    return -errno;
}

/* -------------------------------------------------------------------------------------------------------- space */

int noria_file_set_mode(struct noria_segment *segment, const struct noria_segment_request *request)
{
    bool given = request->group == (gid_t)-1;

    if (!segment->backend->named)
        return 0;
    /* Not the mode first, nor an old one: no other group is to have the rights of this one, not even for a moment. */
    given = given || (fchmod(segment->fd, request->mode & 0700) == 0 &&
                      fchown(segment->fd, (uid_t)-1, request->group) == 0);
    if (!given && (errno == EPERM || errno == EINVAL))
        return noria_segment_refuse_group(request);
    if (given && fchmod(segment->fd, request->mode) == 0)
        return 0;
    return noria_fail(-errno, "cannot set the mode of the segment: %s", noria_error_words(errno));
}

static int no_space(const struct noria_segment_request *request, const struct statvfs *fs)
{
    return noria_fail(-ENOSPC, "'%s:%s' needs %llu bytes, %llu are free: ask for less capacity, remove old channels, "
                      "or enlarge the file system%s", request->backend->scheme, request->name,
                      (unsigned long long)noria_segment_solid(request),
                      (unsigned long long)fs->f_bavail * fs->f_frsize,
                      request->backend->on_disk ? "" : " (docker: --shm-size)");
}

/* Limits that the kernel would tell with a signal, or only when it is too late. */
static int check_limits(int fd, const struct noria_segment_request *request)
{
    struct rlimit limit;
    struct statvfs fs;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && request->size > limit.rlim_cur)
        return noria_fail(-EFBIG, "'%s:%s' needs %llu bytes, files may have %llu; raise `ulimit -f`",
                          request->backend->scheme, request->name, (unsigned long long)request->size,
                          (unsigned long long)limit.rlim_cur);
    if (request->backend->named && fstatvfs(fd, &fs) == 0 &&
        noria_segment_solid(request) > (uint64_t)fs.f_blocks * fs.f_frsize)
        return no_space(request, &fs);
    return request->backend->on_disk
               ? 0
               : noria_segment_check_memory(request->backend, request->name, noria_segment_solid(request));
}

/* Gets the blocks now: an error here instead of a SIGBUS at the first touch. */
int noria_file_reserve(struct noria_segment *segment, const struct noria_segment_request *request)
{
    const uint64_t mark = NORIA_SEGMENT_UNFINISHED;
    int fd = segment->fd, rc = check_limits(fd, request);
    struct statvfs fs;

    if (rc != 0)
        return rc;
    /* The mark first: a file that has grown without it is not ours to take over. Then a dead creator's half work
     * goes. */
    if (pwrite(fd, &mark, sizeof(mark), 0) != (ssize_t)sizeof(mark) || ftruncate(fd, sizeof(mark)) != 0)
        rc = errno;
    while (rc == 0 || rc == EINTR) {
        rc = posix_fallocate(fd, 0, (off_t)noria_segment_solid(request));
        if (rc == 0 && ftruncate(fd, (off_t)request->size) == 0)
            return 0;
        rc = rc == 0 ? errno : rc;
    }
    if (rc == ENOSPC && fstatvfs(fd, &fs) == 0)
        return no_space(request, &fs);
    return noria_fail(-rc, "cannot get %llu bytes for '%s:%s': %s", (unsigned long long)request->size,
                      request->backend->scheme, request->name, noria_error_words(rc));
}

int noria_file_leave_unsealed(struct noria_segment *segment)
{
    (void)segment;
    return 0;
}

int noria_file_fill(const struct noria_segment *segment, uint64_t offset, uint64_t size)
{
    return -posix_fallocate(segment->fd, (off_t)offset, (off_t)size);
}

int noria_file_drop(const struct noria_segment *segment, uint64_t offset, uint64_t size)
{
    return fallocate(segment->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) == 0 ? 0
                                                                                                             : -errno;
}

/* -------------------------------------------------------------------------------------------------------- locks */

static int64_t byte_of(uint32_t lock)
{
    return lock == NORIA_SEGMENT_CREATION ? NORIA_LOCK_CREATE : NORIA_LOCK_PARTICIPANTS + lock;
}

int noria_file_lock(const struct noria_segment *segment, uint32_t lock)
{
    return noria_lock_try(segment->fd, byte_of(lock));
}

void noria_file_unlock(const struct noria_segment *segment, uint32_t lock)
{
    noria_lock_free(segment->fd, byte_of(lock));
}

int noria_file_held(const struct noria_segment *segment, uint32_t lock)
{
    return noria_lock_held(segment->fd, byte_of(lock));
}

int noria_file_any_held(const struct noria_segment *segment)
{
    return noria_lock_any_held(segment->fd, NORIA_LOCK_PARTICIPANTS, 0x10001); /* and the guest's */
}
