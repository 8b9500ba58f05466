/* SPDX-License-Identifier: BSD-2-Clause */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"

enum { DONE = 0, BUSY = NORIA_SEGMENT_BUSY, VANISHED = NORIA_SEGMENT_VANISHED };
enum { OVERFLOW_USER = 65534 }; /* shown for users that a namespace has no number for */

/* While another process holds a lock there is nothing to be woken by. */
static void nap(void)
{
    const struct timespec moment = {.tv_nsec = NORIA_NS_PER_MS};

    nanosleep(&moment, NULL);
}

static void start(struct noria_segment *segment, const struct noria_segment_backend *backend)
{
    memset(segment, 0, sizeof(*segment));
    segment->backend = backend;
    segment->fd = -1;
    segment->set = -1;
}

void noria_segment_close(struct noria_segment *segment)
{
    noria_guard_remove(&segment->guard);
    if (segment->backend != NULL)
        segment->backend->close(segment);
    segment->base = NULL;
    segment->fd = -1;
}

void noria_segment_forget(struct noria_segment *segment)
{
    if (segment->backend->forget != NULL)
        segment->backend->forget(segment);
}

/* ------------------------------------------------------------------------------------------------------ checking */

static int look_at(const struct noria_segment *segment, const char *name, struct noria_segment_facts *facts)
{
    int rc = segment->backend->look(segment, facts);

    return rc == 0 ? 0 : noria_fail(rc, "cannot look at '%s:%s': %s", segment->backend->scheme, name,
                                    noria_error_words(rc));
}

/* What a stranger could have planted at the name is refused before anything is read from it. */
static int check_owner(const struct noria_segment *segment, const struct noria_segment_request *request,
                       const struct noria_segment_facts *facts)
{
    if (!facts->possible)
        return noria_fail(-EINVAL, "'%s:%s' is not a segment but another kind of file", request->backend->scheme,
                          request->name);
    if (segment->backend->named && facts->names > 1)
        return noria_fail(-EACCES, "'%s:%s' has a second name (hard link), which is refused: somebody planted it",
                          request->backend->scheme, request->name);
    if (!request->foreign && facts->owner != geteuid() && facts->owner != 0)
        return noria_fail(-EACCES, "'%s:%s' belongs to user %u%s, you are %u; set options.foreign (noria --foreign) to trust it",
                          request->backend->scheme, request->name, (unsigned)facts->owner,
                          facts->owner == OVERFLOW_USER ? ", which in a user namespace is anybody outside of it" : "",
                          (unsigned)geteuid());
    return 0;
}

int noria_superblock_check(const struct noria_superblock *super, size_t got, const char *name)
{
    if (got == 0 || (got >= sizeof(super->magic) && super->magic == NORIA_SEGMENT_UNFINISHED))
        return BUSY;
    if (got < sizeof(super->magic) || super->magic != NORIA_SEGMENT_MAGIC)
        return noria_fail(-EINVAL, "'%s' holds something else than a noria segment; choose another name", name);
    if (got < offsetof(struct noria_superblock, size) || super->version != NORIA_SEGMENT_VERSION ||
        (super->features & ~NORIA_SEGMENT_CHECKSUMS) != 0)
        return noria_fail(-EPROTO, "'%s' has layout version %u with features 0x%x, this library speaks %u with 0x%x: "
                          "rebuild one side, or remove the channel", name, super->version, super->features,
                          NORIA_SEGMENT_VERSION, NORIA_SEGMENT_CHECKSUMS);
    return DONE;
}

int noria_superblock_check_size(const struct noria_superblock *super, size_t got, uint64_t there, const char *name)
{
    if (got < sizeof(*super) || super->size < sizeof(*super) || super->size > NORIA_SEGMENT_MAX_SIZE ||
        super->solid > super->size || super->size > there)
        return noria_fail(-EBADMSG, "'%s' is truncated: %llu of %llu bytes are there; remove it with `noria rm`", name,
                          (unsigned long long)there, (unsigned long long)super->size);
    if (super->size > SIZE_MAX)
        return noria_fail(-ENOMEM, "'%s' has %llu bytes, more than this process can address", name,
                          (unsigned long long)super->size);
    return DONE;
}

/* Copies the superblock out and checks it against the segment. BUSY: it is not finished. */
static int read_super(struct noria_segment *segment, const char *name)
{
    struct noria_superblock *super = &segment->super;
    ssize_t got = segment->backend->read(segment, super, sizeof(*super), 0);
    struct noria_segment_facts facts;
    int rc;

    if (got < 0)
        return noria_fail((int)got, "cannot read '%s': %s", name, noria_error_words((int)got));
    rc = noria_superblock_check(super, (size_t)got, name);
    if (rc != DONE)
        return rc;
    /* After the magic: a size from before it could be that of a file its creator was just growing. */
    rc = look_at(segment, name, &facts);
    if (rc != 0)
        return rc;
    return noria_superblock_check_size(super, (size_t)got, facts.size, name);
}

/* Bytes from the start that are to have their place for good. */
static uint64_t solid_of(const struct noria_superblock *super)
{
    return super->solid != 0 ? super->solid : super->size;
}

/* All that we touch of it: in the caller's memory the locks stand in front. */
static int guard(struct noria_segment *segment)
{
    uint8_t *start = segment->memory != NULL ? segment->memory : segment->base;
    uint8_t *end = (uint8_t *)segment->base + segment->size;

    return noria_guard_add(&segment->guard, start, (size_t)(end - start));
}

static int map(struct noria_segment *segment, const char *name, uint64_t size,
               int (*by)(struct noria_segment *segment, uint64_t size))
{
    int rc;

    if (size > SIZE_MAX) /* of a new one */
        return noria_fail(-ENOMEM, "'%s' needs %llu bytes, more than this process can address", name,
                          (unsigned long long)size);
    rc = by(segment, size);
    if (rc == -EBADMSG)
        return noria_fail(rc, "'%s' shrank while it was read", name);
    if (rc == -EFBIG)
        return noria_fail(rc, "'%s' belongs to another user or has holes, so that only a copy can be looked at, and has more "
                          "data than a quarter of the memory that is free; look at it as that user, or open it", name);
    if (rc != 0)
        return noria_fail(rc, "cannot map the %llu bytes of '%s': %s", (unsigned long long)size, name,
                          noria_error_words(rc));
    return segment->guarded ? guard(segment) : 0;
}

bool noria_segment_may_have_holes(const struct noria_segment *segment, uint64_t filled)
{
    uint64_t solid = solid_of(&segment->super);

    return filled < solid || (solid < segment->super.size && segment->backend->any_held(segment) == 0);
}

/* In memory only if the machine has as much: a file in /dev/shm may say that it is larger than that. */
static int fill_holes(const struct noria_segment *segment, uint64_t filled, const char *name)
{
    uint64_t solid = solid_of(&segment->super), missing = filled < solid ? solid - filled : 0;
    int rc = segment->backend->on_disk ? 0 : noria_segment_check_memory(segment->backend, name, missing);

    if (rc != 0)
        return rc;
    rc = segment->backend->fill(segment, 0, solid);
    return rc == 0 ? 0 : noria_fail(rc, "'%s' has holes, and the %llu bytes for them are not to be had: %s; remove old "
                                    "channels, or this one with `noria rm`", name, (unsigned long long)missing,
                                    noria_error_words(rc));
}

/* The segment as it is after sealing: all of it there, and without holes, which would be a SIGBUS at the first touch where
 * space is short. */
static int check_extent(const struct noria_segment *segment, const char *name)
{
    struct noria_segment_facts facts;
    int rc = look_at(segment, name, &facts);

    if (rc != 0)
        return rc;
    if (facts.size >= segment->super.size && segment->backend->fills_holes &&
        noria_segment_may_have_holes(segment, facts.filled))
        return fill_holes(segment, facts.filled, name);
    if (facts.size < segment->super.size || facts.filled < solid_of(&segment->super))
        return noria_fail(-EBADMSG, "'%s' is truncated or has holes; remove it with `noria rm`", name);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ creating */

/* A hash of the kernel's boot id: after a reboot nobody named in an old segment lives. 0: not known. */
static uint64_t boot_hash(void)
{
    char text[64] = "";
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return length > 0 ? hash : 0;
}

bool noria_segment_is_of_earlier_boot(const struct noria_segment *segment)
{
    const struct noria_superblock *super = segment->base;
    uint64_t now = boot_hash(), then = noria_load_acquire64(&super->boot); /* pairs with the store in note_boot */

    return now != 0 && then != 0 && then != now;
}

void noria_segment_note_boot(struct noria_segment *segment)
{
    struct noria_superblock *super = segment->base;

    segment->super.boot = boot_hash();
    noria_store_release64(&super->boot, segment->super.boot); /* what was settled stands before */
}

int noria_segment_sync(const struct noria_segment *segment)
{
    if (!segment->backend->on_disk)
        return noria_fail(-ENOTSUP, "the channel is not in a file on disk: nothing of it survives a power loss");
    if (msync(segment->base, segment->size, MS_SYNC) == 0)
        return 0;
    return noria_fail(-errno, "the disk does not take the channel: %s", noria_error_words(errno));
}

/* What the machine can give without killing somebody: a memfd has no other limit. 0: not known. */
uint64_t noria_segment_memory_available(void)
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

int noria_segment_check_memory(const struct noria_segment_backend *backend, const char *name, uint64_t bytes)
{
    uint64_t available = noria_segment_memory_available();

    if (available == 0 || bytes <= available - available / 16)
        return 0;
    return noria_fail(-ENOMEM, "'%s:%s' needs %llu bytes of memory, %llu are available: ask for less capacity or "
                      "a smaller max_message", backend->scheme, name, (unsigned long long)bytes,
                      (unsigned long long)available);
}

int noria_segment_refuse_descriptor(const char *scheme, const char *name, int error)
{
    struct rlimit limit;

    if (error == EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0)
        return noria_fail(-EMFILE, "'%s:%s' needs a descriptor, and this process has as many open as it may, %llu: close some "
                          "(ls -l /proc/%d/fd), or raise `ulimit -n`", scheme, name, (unsigned long long)limit.rlim_cur,
                          (int)getpid());
    return noria_fail(-error, "'%s:%s' needs a descriptor, and the machine has none left: close some (`lsof`), or raise "
                      "fs.file-max", scheme, name);
}

int noria_segment_refuse_access(const struct noria_segment_backend *backend, const char *name)
{
    struct noria_segment_facts facts;

    if (backend->describe(name, &facts) != 0)
        return noria_fail(-EACCES, "user %u has no permission for '%s:%s': see the owner and mode of its directory with `ls "
                          "-la`", (unsigned)geteuid(), backend->scheme, name);
    return noria_fail(-EACCES, "no permission for '%s:%s': it is of user %u, group %u and mode %04o, and you are user %u, group "
                      "%u; its creator gives the right (options.mode and group, noria create --mode --group)",
                      backend->scheme, name, (unsigned)facts.owner, (unsigned)facts.group, (unsigned)facts.mode,
                      (unsigned)geteuid(), (unsigned)getegid());
}

int noria_segment_refuse_group(const struct noria_segment_request *request)
{
    return noria_fail(-EPERM, "'%s:%s' cannot be given to group %u: only root may, or one who is in that group (see `id`), "
                      "and a user namespace has to know it", request->backend->scheme, request->name,
                      (unsigned)request->group);
}

/* Makes the segment, with the creation lock held and no magic there. */
static int initialise(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct noria_superblock *super;
    int rc = segment->backend->reserve(segment, request);

    /* Not a dead creator's. After the mark, which takes the place of NEW_MODE. */
    if (rc == 0)
        rc = segment->backend->set_mode(segment, request);
    if (rc == 0)
        rc = map(segment, request->name, request->size, segment->backend->map);
    if (rc == 0)
        rc = request->format(noria_segment_content(segment), segment->size - NORIA_SEGMENT_CONTENT, request->context);
    if (rc != 0)
        return rc;
    super = segment->base;
    super->version = NORIA_SEGMENT_VERSION;
    super->features = request->features;
    super->size = request->size;
    super->solid = noria_segment_solid(request) == request->size ? 0 : request->solid;
    super->boot = boot_hash();
    super->created_ns = noria_clock_read(CLOCK_REALTIME);
    if (getrandom(super->id, sizeof(super->id), GRND_NONBLOCK) != (ssize_t)sizeof(super->id))
        super->id[0] = (uint64_t)noria_now_ns();
    super->id[0] = (super->id[0] & ~NORIA_SEGMENT_ID_OF_FILE) | (segment->backend->on_disk ? NORIA_SEGMENT_ID_OF_FILE : 0);
    /* Release: who sees the magic sees all of the above, and the content. */
    noria_store_release64(&super->magic, NORIA_SEGMENT_MAGIC);
    segment->super = *super;
    segment->created = true;
    return segment->backend->seal(segment); /* after the magic: a sealed file without it could not be finished */
}

static int64_t until_removed(void)
{
    return noria_deadline_ns(NORIA_NS_PER_S);
}

static void unlink_own(struct noria_segment *segment, const struct noria_segment_request *request)
{
    if (!segment->backend->named)
        noria_segment_forget(segment);
    else
        segment->backend->unlink(segment, request->name, until_removed());
}

/* With the creation lock held, and no magic seen before. */
static int finish_locked(struct noria_segment *segment, const struct noria_segment_request *request, bool made)
{
    struct noria_segment_facts facts;
    int rc = look_at(segment, request->name, &facts);

    if (rc == 0)
        rc = read_super(segment, request->name);
    if (rc == BUSY && segment->backend->named && facts.names == 0)
        return VANISHED;
    if (rc == DONE)
        return VANISHED; /* somebody finished it between our look and our lock: look again from the start */
    if (rc == BUSY && !request->create)
        return noria_fail(-ENOENT, "'%s:%s' holds no channel, at most what a dead creator left; open it with "
                          "NORIA_CREATE", request->backend->scheme, request->name);
    if (rc == BUSY)
        rc = initialise(segment, request);
    if (rc < 0 && made)
        unlink_own(segment, request); /* ours, unfinished: leave nothing behind */
    return rc;
}

/* The segment has no magic. If its creator is dead or not there yet, the lock is free, and we may be the creator. */
static int finish(struct noria_segment *segment, const struct noria_segment_request *request, bool made)
{
    int rc;

    if (segment->backend->lock(segment, NORIA_SEGMENT_CREATION) != 0)
        return BUSY;
    rc = finish_locked(segment, request, made);
    segment->backend->unlock(segment, NORIA_SEGMENT_CREATION);
    return rc;
}

/* We made the name and cannot go on: takes it away, unless somebody else has begun to finish it. */
static void discard(struct noria_segment *segment, const struct noria_segment_request *request)
{
    uint64_t magic = 0;

    if (!segment->backend->named || segment->backend->lock(segment, NORIA_SEGMENT_CREATION) != 0)
        return;
    if (segment->backend->read(segment, &magic, sizeof(magic), 0) <= 0 || magic != NORIA_SEGMENT_MAGIC)
        segment->backend->unlink(segment, request->name, until_removed());
    segment->backend->unlock(segment, NORIA_SEGMENT_CREATION);
}

/* ------------------------------------------------------------------------------------------------------- opening */

static int attach(struct noria_segment *segment, const struct noria_segment_request *request)
{
    int rc = segment->backend->seal(segment); /* whoever made it may have died before */

    if (rc == 0)
        rc = check_extent(segment, request->name);
    if (rc == 0)
        rc = map(segment, request->name, segment->super.size, segment->backend->map);
    if (rc == 0 && segment->backend->named && noria_segment_is_orphaned(segment))
        return VANISHED;
    return rc;
}

/* One look at the name. DONE: attached or created. BUSY: another is creating it. VANISHED: look again. */
static int try_open(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct noria_segment_facts facts;
    bool made = false;
    int rc = request->backend->obtain(segment, request, &made);

    if (rc > 0 || (rc < 0 && !made))
        return rc;
    if (rc == 0)
        rc = look_at(segment, request->name, &facts);
    if (rc == 0)
        rc = check_owner(segment, request, &facts);
    if (rc == 0)
        rc = read_super(segment, request->name);
    if (rc == BUSY)
        return finish(segment, request, made);
    if (rc < 0 && made)
        discard(segment, request);
    if (rc != DONE)
        return rc;
    if (request->create && request->exclusive)
        return noria_fail(-EEXIST, "'%s:%s' exists, and NORIA_EXCL asks for a new one", request->backend->scheme,
                          request->name);
    return attach(segment, request);
}

static void settle(struct noria_segment *segment)
{
    if (segment->backend->settle != NULL)
        segment->backend->settle(segment);
}

int noria_segment_open(struct noria_segment *segment, const struct noria_segment_request *request)
{
    int64_t creating_until = noria_deadline_ns(request->open_timeout_ns);
    int64_t appearing_until = noria_deadline_ns(request->wait_create_ns);

    for (;;) {
        int rc;
        start(segment, request->backend);
        segment->guarded = request->guarded && request->backend->can_shrink;
        rc = try_open(segment, request);
        if (rc == DONE) {
            settle(segment);
            return 0;
        }
        noria_segment_close(segment);
        if (rc == BUSY && noria_now_ns() >= creating_until)
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

int noria_segment_attach(struct noria_segment *segment, const struct noria_segment *other)
{
    static const char name[] = "the inherited segment";
    int rc;

    start(segment, other->backend);
    segment->guarded = other->guarded;
    rc = other->backend->obtain_again(segment, other);
    if (rc == 0)
        rc = read_super(segment, name);
    if (rc == DONE)
        rc = map(segment, name, segment->super.size, segment->backend->map);
    else if (rc == BUSY)
        rc = -EBADMSG;
    if (rc != 0)
        noria_segment_close(segment);
    else
        settle(segment);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ looking, removing */

int noria_segment_peek(struct noria_segment *segment, const struct noria_segment_backend *backend, const char *name)
{
    struct noria_segment_facts facts;
    int rc;

    start(segment, backend);
    rc = backend->obtain_view(segment, name);
    if (rc == 0)
        rc = look_at(segment, name, &facts);
    if (rc == 0 && !facts.possible)
        rc = noria_fail(-EINVAL, "'%s:%s' is not a segment", backend->scheme, name);
    return rc == 0 ? read_super(segment, name) : rc;
}

int noria_segment_inspect(struct noria_segment *segment, const struct noria_segment_backend *backend,
                          const char *name, bool *unfinished)
{
    int rc = noria_segment_peek(segment, backend, name);

    *unfinished = rc == BUSY;
    if (rc == DONE)
        rc = map(segment, name, segment->super.size, backend->map_view);
    if (rc < 0)
        noria_segment_close(segment);
    return rc < 0 ? rc : 0;
}

int noria_segment_in_use(const struct noria_segment_backend *backend, const char *name)
{
    struct noria_segment segment;
    int participants, creator, rc;

    start(&segment, backend);
    rc = backend->obtain_view(&segment, name);
    if (rc == 0) {
        participants = backend->any_held(&segment);
        creator = backend->held(&segment, NORIA_SEGMENT_CREATION);
        rc = participants < 0 ? noria_fail(participants, "cannot tell whether '%s' is in use: %s", name,
                                           noria_error_words(participants))
                              : participants > 0 || creator > 0;
    }
    noria_segment_close(&segment);
    return rc;
}

int noria_segment_unlink(const struct noria_segment_backend *backend, const char *name)
{
    int64_t until = until_removed();
    struct noria_segment segment;
    int rc;

    do {
        rc = backend->named ? noria_segment_peek(&segment, backend, name) : (start(&segment, backend), 0);
        if (rc >= 0 && backend->named && noria_segment_is_orphaned(&segment))
            rc = noria_fail(-ENOENT, "'%s:%s' has been removed already", backend->scheme, name);
        /* Never what is not, or cannot be seen to be, a segment. */
        else if (rc >= 0 || rc == -EPROTO || rc == -EBADMSG)
            rc = backend->unlink(&segment, name, until);
        noria_segment_close(&segment);
    } while (rc == VANISHED && noria_now_ns() < until);
    return rc != VANISHED ? rc : noria_fail(-EAGAIN, "'%s:%s' is removed and made again and again", backend->scheme, name);
}

int noria_segment_lock_name(struct noria_segment *segment, int64_t deadline_ns)
{
    while (segment->backend->lock(segment, NORIA_SEGMENT_CREATION) != 0) {
        if (noria_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        nap();
    }
    return 0;
}

void noria_segment_unlock_name(struct noria_segment *segment)
{
    segment->backend->unlock(segment, NORIA_SEGMENT_CREATION);
}

bool noria_segment_is_orphaned(const struct noria_segment *segment)
{
    struct noria_segment_facts facts;

    return segment->backend->look(segment, &facts) == 0 && facts.names == 0;
}

/* With the lock held. 1 it is waste. */
static int judge(struct noria_segment *segment, const char *name,
                 bool (*is_waste)(const struct noria_segment *, enum noria_segment_waste, void *), void *context)
{
    struct noria_segment_facts facts;
    int rc = look_at(segment, name, &facts);

    if (rc == 0 && (facts.names != 1 || !facts.possible || (facts.size == 0 && (facts.mode & NORIA_SEGMENT_NEW_MODE) == 0)))
        return 0; /* another was faster; or it is an empty file, which may be anybody's */
    if (rc == 0)
        rc = read_super(segment, name);
    if (rc == BUSY)
        return is_waste(segment, NORIA_SEGMENT_IS_UNFINISHED, context);
    if (rc == DONE)
        rc = map(segment, name, segment->super.size, segment->backend->map_view);
    return rc != 0 ? rc : is_waste(segment, NORIA_SEGMENT_IS_FINISHED, context);
}

int noria_segment_reap(const struct noria_segment_backend *backend, const char *name, bool dry_run,
                       bool (*is_waste)(const struct noria_segment *segment, enum noria_segment_waste found,
                                        void *context), void *context)
{
    const struct noria_segment_request request = {.backend = backend, .name = name};
    struct noria_segment segment;
    bool made;
    int rc;

    start(&segment, backend);
    rc = backend->obtain(&segment, &request, &made);
    if (rc == 0 && backend->lock(&segment, NORIA_SEGMENT_CREATION) == 0) {
        rc = judge(&segment, name, is_waste, context);
        if (rc == 1 && !dry_run) {
            rc = backend->unlink(&segment, name, 0);
            rc = rc == 0 ? 1 : rc == VANISHED ? 0 : rc;
        }
        backend->unlock(&segment, NORIA_SEGMENT_CREATION);
    } else if (rc == 0) {
        rc = noria_fail(-EBUSY, "'%s:%s' is just being created or closed", backend->scheme, name);
    }
    noria_segment_close(&segment);
    return rc < 0 ? rc : rc == 1;
}
