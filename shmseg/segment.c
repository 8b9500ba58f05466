/* SPDX-License-Identifier: BSD-2-Clause */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "liveness.h"

/* One try at opening ends in one of these, or in -errno. */
enum outcome { DONE = 0, UNFINISHED = 1, VANISHED = 2 };

/* While another process holds a lock byte of the file there is nothing to be woken by. */
static void nap(void)
{
    const struct timespec moment = {.tv_nsec = NORIA_NS_PER_MS};

    nanosleep(&moment, NULL);
}

static int look_at(int fd, const char *name, struct stat *status)
{
    if (fstat(fd, status) == 0)
        return 0;
    return noria_fail(-errno, "cannot look at '%s': %s", name, noria_error_words(errno));
}

/* A file that a stranger could have planted at the name is refused before anything is read from it. */
static int check_file(const struct noria_segment_request *request, const struct stat *status)
{
    if (!S_ISREG(status->st_mode))
        return noria_fail(-EINVAL, "'%s:%s' is not a segment but another kind of file", request->backend->scheme,
                          request->name);
    if (request->backend->named && status->st_nlink > 1)
        return noria_fail(-EACCES, "'%s:%s' has a second name (hard link), which is refused: somebody planted it",
                          request->backend->scheme, request->name);
    if (!request->foreign && status->st_uid != geteuid() && status->st_uid != 0)
        return noria_fail(-EACCES, "'%s:%s' belongs to user %u, you are %u; set options.foreign to trust it",
                          request->backend->scheme, request->name, (unsigned)status->st_uid, (unsigned)geteuid());
    return 0;
}

/* Copies the superblock out and checks it against the file. */
static int read_super(int fd, const char *name, struct noria_superblock *super)
{
    ssize_t got = pread(fd, super, sizeof(*super), 0);
    struct stat status;
    int rc;

    if (got < 0)
        return noria_fail(-errno, "cannot read '%s': %s", name, noria_error_words(errno));
    if (got == 0 || ((size_t)got >= sizeof(super->magic) && super->magic == NORIA_SEGMENT_UNFINISHED))
        return UNFINISHED;
    if ((size_t)got < sizeof(super->magic) || super->magic != NORIA_SEGMENT_MAGIC)
        return noria_fail(-EINVAL, "'%s' holds something else than a noria segment; choose another name", name);
    if ((size_t)got < offsetof(struct noria_superblock, size) || super->version != NORIA_SEGMENT_VERSION ||
        super->features != 0)
        return noria_fail(-EPROTO, "'%s' has layout version %u with features 0x%x, this library speaks %u with 0x0: "
                          "rebuild one side, or remove the channel", name, super->version, super->features,
                          NORIA_SEGMENT_VERSION);
    /* After the magic: a size from before it could be that of a file its creator was just growing. */
    rc = look_at(fd, name, &status);
    if (rc != 0)
        return rc;
    if ((size_t)got < sizeof(*super) || super->size < sizeof(*super) || super->size > NORIA_SEGMENT_MAX_SIZE ||
        super->solid > super->size || super->size > (uint64_t)status.st_size)
        return noria_fail(-EBADMSG, "'%s' is truncated: %llu of %llu bytes are there; remove it with `noria rm`", name,
                          (unsigned long long)status.st_size, (unsigned long long)super->size);
    return DONE;
}

/* A mapping keeps its open file description alive, with its locks, also in a forked child. So locks are taken on a second
 * description that is never mapped. Without /proc the first one has to do. */
static void unpin_locks(struct noria_segment *segment)
{
    int own = noria_lock_own_description(segment->fd);

    if (own < 0)
        return;
    close(segment->fd);
    segment->fd = own;
}

static int map(struct noria_segment *segment, uint64_t size, int protection, const char *name)
{
    if (size > SIZE_MAX)
        return noria_fail(-ENOMEM, "'%s' needs %llu bytes, more than this process can address", name,
                          (unsigned long long)size);
    segment->size = (size_t)size;
    segment->base = mmap(NULL, segment->size, protection, MAP_SHARED, segment->fd, 0);
    if (segment->base == MAP_FAILED) {
        segment->base = NULL;
        return noria_fail(-errno, "cannot map the %llu bytes of '%s': %s", (unsigned long long)size, name,
                          noria_error_words(errno));
    }
    return 0;
}

/* A hash of the kernel's boot id: after a reboot nobody named in an old segment lives. */
static uint64_t boot_hash(void)
{
    char text[64] = "";
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof(text) - 1);
        close(fd);
        for (ssize_t i = 0; i < length; i++)
            hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* What the machine can give without killing somebody: a memfd has no other limit. 0: not known. */
static uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    unsigned long long kilobytes, available = 0;
    char line[128];

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "MemAvailable: %llu", &kilobytes) == 1 || sscanf(line, "SwapFree: %llu", &kilobytes) == 1)
            available += kilobytes * 1024;
    fclose(file);
    return available;
}

/* What must not have holes. */
static uint64_t solid_bytes(const struct noria_segment_request *request)
{
    return request->solid != 0 ? request->solid : request->size;
}

static int no_space(const struct noria_segment_request *request, const struct statvfs *fs)
{
    return noria_fail(-ENOSPC, "'%s:%s' needs %llu bytes, %llu are free: ask for less capacity, remove old channels, or "
                      "enlarge the file system (docker: --shm-size)", request->backend->scheme, request->name,
                      (unsigned long long)solid_bytes(request), (unsigned long long)fs->f_bavail * fs->f_frsize);
}

/* Gets the blocks now: an error here instead of a SIGBUS at the first touch. */
static int reserve_space(int fd, const struct noria_segment_request *request)
{
    const uint64_t mark = NORIA_SEGMENT_UNFINISHED;
    uint64_t available = memory_available();
    struct rlimit limit;
    struct statvfs fs;
    int rc = 0;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && request->size > limit.rlim_cur)
        return noria_fail(-EFBIG, "'%s:%s' needs %llu bytes, files may have %llu; raise `ulimit -f`",
                          request->backend->scheme, request->name, (unsigned long long)request->size,
                          (unsigned long long)limit.rlim_cur);
    if (request->backend->named && fstatvfs(fd, &fs) == 0 && solid_bytes(request) > (uint64_t)fs.f_blocks * fs.f_frsize)
        return no_space(request, &fs);
    if (available != 0 && solid_bytes(request) > available - available / 16)
        return noria_fail(-ENOMEM, "'%s:%s' needs %llu bytes of memory, %llu are available: ask for less capacity or "
                          "a smaller max_message", request->backend->scheme, request->name,
                          (unsigned long long)request->size, (unsigned long long)available);

    /* The mark first: a file that has grown without it is not ours to take over. Then a dead creator's half work goes. */
    if (pwrite(fd, &mark, sizeof(mark), 0) != (ssize_t)sizeof(mark) || ftruncate(fd, sizeof(mark)) != 0)
        rc = errno;
    while (rc == 0 || rc == EINTR) {
        rc = posix_fallocate(fd, 0, (off_t)solid_bytes(request));
        if (rc == 0 && ftruncate(fd, (off_t)request->size) == 0)
            return 0;
        rc = rc == 0 ? errno : rc;
    }
    if (rc == ENOSPC && fstatvfs(fd, &fs) == 0)
        return no_space(request, &fs);
    return noria_fail(-rc, "cannot get %llu bytes for '%s:%s': %s", (unsigned long long)request->size,
                      request->backend->scheme, request->name, noria_error_words(rc));
}

/* Makes the segment, with the creation lock held and no magic there. */
static int initialise(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct noria_superblock *super;
    int rc;

    rc = reserve_space(segment->fd, request);
    /* The umask is not asked, nor a dead creator's mode: it is an option of the channel. After the mark, which takes the
     * place of NEW_MODE. */
    if (rc == 0 && request->backend->named && fchmod(segment->fd, request->mode) != 0)
        rc = noria_fail(-errno, "cannot set the mode of '%s': %s", request->name, noria_error_words(errno));

    if (rc == 0)
        rc = map(segment, request->size, PROT_READ | PROT_WRITE, request->name);
    if (rc == 0)
        rc = request->format(noria_segment_content(segment), segment->size - NORIA_SEGMENT_CONTENT, request->context);
    if (rc != 0)
        return rc;
    super = segment->base;
    super->version = NORIA_SEGMENT_VERSION;
    super->features = 0;
    super->size = request->size;
    super->solid = solid_bytes(request) == request->size ? 0 : request->solid;
    super->boot = boot_hash();
    super->created_ns = noria_clock_read(CLOCK_REALTIME);
    if (getrandom(super->id, sizeof(super->id), GRND_NONBLOCK) != (ssize_t)sizeof(super->id))
        super->id[0] = (uint64_t)noria_now_ns();
    /* Release: who sees the magic sees all of the above, and the content. */
    noria_store_release64(&super->magic, NORIA_SEGMENT_MAGIC);
    segment->super = *super;
    segment->created = true;
    return request->backend->seal(segment->fd); /* after the magic: a sealed file without it could not be finished */
}

/* The segment has no magic. If its creator is dead or not there yet, the lock is free, and we may be the creator. */
static int finish(struct noria_segment *segment, const struct noria_segment_request *request, bool made)
{
    struct stat status;
    int rc;

    if (noria_lock_try(segment->fd, NORIA_LOCK_CREATE) != 0)
        return UNFINISHED;
    rc = look_at(segment->fd, request->name, &status);
    if (rc == 0)
        rc = read_super(segment->fd, request->name, &segment->super);
    if (rc == UNFINISHED && request->backend->named && status.st_nlink == 0)
        rc = VANISHED;
    else if (rc == UNFINISHED && !request->create)
        rc = noria_fail(-ENOENT, "'%s:%s' holds no channel, at most what a dead creator left; open it with NORIA_CREATE",
                        request->backend->scheme, request->name);
    else if (rc == UNFINISHED) {
        rc = initialise(segment, request);
        if (rc < 0 && made && request->backend->named && !noria_segment_is_orphaned(segment))
            request->backend->unlink(request->name); /* ours, unfinished: leave nothing behind */
    } else if (rc < 0 && made && request->backend->named && !noria_segment_is_orphaned(segment)) {
        request->backend->unlink(request->name);
    } else if (rc == DONE) {
        rc = VANISHED; /* somebody finished it between our look and our lock: look again from the start */
    }
    noria_lock_free(segment->fd, NORIA_LOCK_CREATE);
    return rc;
}

/* The file as it is after sealing: all of it there, and without holes, which could not be filled on a full file system. */
static int check_extent(const struct noria_segment *segment, const char *name)
{
    struct stat status;
    uint64_t solid;
    int rc = look_at(segment->fd, name, &status);

    if (rc != 0)
        return rc;
    solid = segment->super.solid != 0 ? segment->super.solid : segment->super.size;
    if ((uint64_t)status.st_size < segment->super.size || (uint64_t)status.st_blocks * 512 < solid)
        return noria_fail(-EBADMSG, "'%s' is truncated or has holes; remove it with `noria rm`", name);
    return 0;
}

/* We made the name and cannot go on: takes it away, unless somebody else has begun to finish it. */
static void discard(struct noria_segment *segment, const struct noria_segment_request *request)
{
    uint64_t magic = 0;

    if (!request->backend->named || noria_lock_try(segment->fd, NORIA_LOCK_CREATE) != 0)
        return;
    if (pread(segment->fd, &magic, sizeof(magic), 0) <= 0 || magic != NORIA_SEGMENT_MAGIC)
        request->backend->unlink(request->name);
    noria_lock_free(segment->fd, NORIA_LOCK_CREATE);
}

/* One look at the name. DONE: attached or created. UNFINISHED: another is creating it. VANISHED: look again. */
static int try_open(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct stat status;
    bool made = false;
    int rc = request->backend->obtain(request->name, request->create, request->mode, &segment->fd, &made);

    if (rc != 0)
        return rc;
    rc = look_at(segment->fd, request->name, &status);
    if (rc == 0) {
        segment->device = status.st_dev;
        segment->inode = status.st_ino;
        rc = check_file(request, &status);
    }
    if (rc == 0)
        rc = read_super(segment->fd, request->name, &segment->super);
    if (rc == UNFINISHED)
        return finish(segment, request, made);
    if (rc < 0 && made)
        discard(segment, request);
    if (rc != DONE)
        return rc;
    if (request->create && request->exclusive)
        return noria_fail(-EEXIST, "'%s:%s' exists, and NORIA_EXCL asks for a new one", request->backend->scheme,
                          request->name);
    rc = request->backend->seal(segment->fd); /* whoever made it may have died before */
    if (rc == 0)
        rc = check_extent(segment, request->name);
    if (rc == 0)
        rc = map(segment, segment->super.size, PROT_READ | PROT_WRITE, request->name);
    if (rc == 0 && request->backend->named && noria_segment_is_orphaned(segment))
        return VANISHED;
    return rc;
}

int noria_segment_open(struct noria_segment *segment, const struct noria_segment_request *request)
{
    int64_t creating_until = noria_deadline_ns(request->open_timeout_ns);
    int64_t appearing_until = noria_deadline_ns(request->wait_create_ns);

    for (;;) {
        int rc;
        memset(segment, 0, sizeof(*segment));
        segment->fd = -1;
        rc = try_open(segment, request);
        if (rc == DONE) {
            unpin_locks(segment);
            return 0;
        }
        noria_segment_close(segment);
        if (rc == UNFINISHED && noria_now_ns() >= creating_until)
            return noria_fail(-ETIMEDOUT, "'%s:%s' is being created by a process that does not get on; continue or "
                              "kill it, or remove the name", request->backend->scheme, request->name);
        if (rc == -ENOENT && noria_now_ns() >= appearing_until)
            return rc;
        if (rc == VANISHED && noria_now_ns() >= creating_until)
            return noria_fail(-EAGAIN, "'%s:%s' is removed again and again while it is opened",
                              request->backend->scheme, request->name);
        if (rc < 0 && rc != -ENOENT)
            return rc;
        if (rc != VANISHED)
            nap(); /* bounded by the deadlines above */
    }
}

int noria_segment_attach(struct noria_segment *segment, int fd)
{
    struct stat status;
    int rc;

    memset(segment, 0, sizeof(*segment));
    segment->fd = noria_lock_own_description(fd);
    if (segment->fd < 0)
        return noria_fail(segment->fd, "cannot reopen the segment through /proc/self/fd/%d: %s", fd,
                          noria_error_words(segment->fd));
    rc = look_at(segment->fd, "the inherited segment", &status);
    if (rc == 0)
        rc = read_super(segment->fd, "the inherited segment", &segment->super);
    if (rc == DONE) {
        segment->device = status.st_dev;
        segment->inode = status.st_ino;
        rc = map(segment, segment->super.size, PROT_READ | PROT_WRITE, "the inherited segment");
    } else if (rc == UNFINISHED) {
        rc = -EBADMSG;
    }
    if (rc != 0)
        noria_segment_close(segment);
    else
        unpin_locks(segment);
    return rc;
}

/* A private copy: another user could truncate the file under a mapping. */
static int copy(struct noria_segment *segment, uint64_t size, const char *name)
{
    uint64_t done = 0;

    segment->size = (size_t)size;
    segment->base = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment->base == MAP_FAILED) {
        segment->base = NULL;
        return noria_fail(-ENOMEM, "no memory for a copy of '%s'", name);
    }
    while (done < size) {
        off_t data = segment->super.solid != 0 ? lseek(segment->fd, (off_t)done, SEEK_DATA) : (off_t)done;
        off_t hole = segment->super.solid != 0 && data >= 0 ? lseek(segment->fd, data, SEEK_HOLE) : (off_t)size;
        ssize_t got;
        if (data < 0 || (uint64_t)data >= size)
            break; /* holes to the end, which read as the zeros that are there */
        done = (uint64_t)data;
        got = pread(segment->fd, (uint8_t *)segment->base + done,
                    (size_t)((hole > data && (uint64_t)hole < size ? (uint64_t)hole : size) - done), (off_t)done);
        if (got <= 0)
            return noria_fail(-EBADMSG, "'%s' shrank while it was read", name);
        done += (uint64_t)got;
    }
    return 0;
}

int noria_segment_inspect(struct noria_segment *segment, const struct noria_segment_backend *backend,
                          const char *name, bool *unfinished)
{
    struct stat status;
    int rc;

    memset(segment, 0, sizeof(*segment));
    *unfinished = false;
    segment->fd = shm_open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
    if (segment->fd < 0)
        return noria_fail(-errno, "cannot read '%s:%s': %s", backend->scheme, name, noria_error_words(errno));
    if (fstat(segment->fd, &status) != 0 || !S_ISREG(status.st_mode))
        rc = noria_fail(-EINVAL, "'%s:%s' is not a segment", backend->scheme, name);
    else
        rc = read_super(segment->fd, name, &segment->super);
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    if (rc == UNFINISHED) {
        *unfinished = true;
        return 0;
    }
    if (rc == DONE && status.st_uid == geteuid())
        rc = map(segment, segment->super.size, PROT_READ, name);
    else if (rc == DONE)
        rc = copy(segment, segment->super.size, name);
    if (rc != 0)
        noria_segment_close(segment);
    return rc;
}

void noria_segment_close(struct noria_segment *segment)
{
    if (segment->base != NULL)
        munmap(segment->base, segment->size);
    if (segment->fd >= 0)
        close(segment->fd);
    segment->base = NULL;
    segment->fd = -1;
}

int noria_segment_unlink(const struct noria_segment_backend *backend, const char *name)
{
    struct noria_segment segment;
    bool unfinished;
    int rc = backend->named ? noria_segment_inspect(&segment, backend, name, &unfinished) : 0;

    if (rc != 0 && rc != -EPROTO && rc != -EBADMSG)
        return rc; /* never remove what is not, or cannot be seen to be, a segment */
    if (backend->named && rc == 0)
        noria_segment_close(&segment);
    return backend->unlink(name);
}

int noria_segment_lock_name(struct noria_segment *segment, int64_t deadline_ns)
{
    while (noria_lock_try(segment->fd, NORIA_LOCK_CREATE) != 0) {
        if (noria_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        nap();
    }
    return 0;
}

void noria_segment_unlock_name(struct noria_segment *segment)
{
    noria_lock_free(segment->fd, NORIA_LOCK_CREATE);
}

bool noria_segment_is_orphaned(const struct noria_segment *segment)
{
    struct stat status;

    return fstat(segment->fd, &status) == 0 && status.st_nlink == 0;
}

/* With the lock held. 1 it is waste. */
static int judge(struct noria_segment *segment, const char *name,
                 bool (*is_waste)(const struct noria_segment *, enum noria_segment_waste, void *), void *context)
{
    struct stat status;
    int rc = look_at(segment->fd, name, &status);

    if (rc == 0 && (status.st_nlink != 1 || !S_ISREG(status.st_mode) ||
                    (status.st_size == 0 && (status.st_mode & NORIA_SEGMENT_NEW_MODE) == 0)))
        return 0; /* another was faster; or it is an empty file, which may be anybody's */
    if (rc == 0)
        rc = read_super(segment->fd, name, &segment->super);
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    if (rc == UNFINISHED)
        return is_waste(segment, NORIA_SEGMENT_IS_UNFINISHED, context);
    if (rc == DONE)
        rc = status.st_uid == geteuid() ? map(segment, segment->super.size, PROT_READ, name)
                                        : copy(segment, segment->super.size, name);
    return rc != 0 ? rc : is_waste(segment, NORIA_SEGMENT_IS_FINISHED, context);
}

int noria_segment_reap(const struct noria_segment_backend *backend, const char *name, bool dry_run,
                       bool (*is_waste)(const struct noria_segment *segment, enum noria_segment_waste found,
                                        void *context), void *context)
{
    struct noria_segment segment = {.fd = -1};
    bool made;
    int rc = backend->obtain(name, false, 0, &segment.fd, &made);

    if (rc != 0)
        return rc;
    rc = noria_lock_try(segment.fd, NORIA_LOCK_CREATE);
    if (rc == 0) {
        rc = judge(&segment, name, is_waste, context);
        if (rc == 1 && !dry_run)
            rc = backend->unlink(name) == 0 ? 1 : -EACCES;
        noria_lock_free(segment.fd, NORIA_LOCK_CREATE);
    } else {
        rc = noria_fail(-EBUSY, "'%s:%s' is just being created or closed", backend->scheme, name);
    }
    noria_segment_close(&segment);
    return rc;
}
