/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: memory that processes share, with a life. A segment is made by whoever comes first, attached by the
 * others, detached at close and removed by unlink. It knows nothing of what is put into it.
 *
 * The first 256 bytes are the superblock. Its magic is stored last, with release: who sees it sees a finished segment.
 * It is copied out once, and never changes afterwards but for `boot`. Before it gets its size, a creator marks a
 * segment as unfinished; one that died half-way leaves an empty or marked one and a free lock, and the next one that
 * may create takes over. Anything else at the name is somebody else's and is not touched.
 *
 * Locks are numbered: 0 is that of creation, n that of participant n. The kernel frees them when their holder dies,
 * wherever it can (files: OFD locks; System V: semaphores with SEM_UNDO).
 *
 * A name is taken away from the very segment that was looked at: System V does so by id; of a file one who holds an
 * flock on it, so that the name cannot come to mean another one between his last look and the removal.
 *
 * A backend says how memory, size and locks are had; everything else is in segment.c, once:
 *
 *     posix.c   "/name"   POSIX shared memory             memfd.c   "FD", "" new memory without a name
 *     file.c    "/path"   a file on disk              memory.c  memory that the caller owns
 *     sysv.c    KEY, "/path:PROJ", "id:N", "" new memory without a key: System V
 */
#ifndef NORIA_SEGMENT_H
#define NORIA_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "atomic.h"
#include "guard.h"
#include "liveness.h"

#define NORIA_SEGMENT_MAGIC UINT64_C(0x31474553616e6f4e) /* "NonaSEG1" */
#define NORIA_SEGMENT_UNFINISHED UINT64_C(0x3047455361697230) /* "0riaSEG0": a creator is at work, or died */
#define NORIA_SEGMENT_VERSION 4u
/* Features: what the content has, for those who put it there. */
#define NORIA_SEGMENT_CHECKSUMS 1u /* records have checksums */
#define NORIA_SEGMENT_CONTENT 256u /* where the content starts */
#define NORIA_SEGMENT_MAX_SIZE (UINT64_C(1) << 46)

/* Until it is marked as unfinished, an empty file is told from somebody else's by this bit of its mode, which means
 * nothing on files. */
#define NORIA_SEGMENT_NEW_MODE S_ISVTX

/* The lock whose holder creates the segment, or decides that its name goes. */
#define NORIA_SEGMENT_CREATION 0u
/* Lock bytes of segments that are files: creation, and what participants' numbers are added to. */
#define NORIA_LOCK_CREATE (INT64_C(1) << 61)
#define NORIA_LOCK_PARTICIPANTS (INT64_C(1) << 60)

/* In id[0]: made as a file on disk, which may be anywhere, whatever address it is opened by. */
#define NORIA_SEGMENT_ID_OF_FILE (UINT64_C(1) << 63)

struct noria_superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t features; /* bits an older library must refuse */
    uint64_t size;     /* of the segment, this block included */
    uint64_t id[2];    /* random */
    uint64_t boot;     /* hash of the boot id of the machine when it was last opened for the first time */
    int64_t created_ns; /* CLOCK_REALTIME */
    uint64_t solid;    /* bytes from the start that have their pages for good; what follows may have holes. 0: all */
    uint64_t reserved[24];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_superblock, version) == 8, "the version stands right after the magic");
NORIA_STATIC_ASSERT(sizeof(struct noria_superblock) == NORIA_SEGMENT_CONTENT, "the content follows");

struct noria_segment {
    const struct noria_segment_backend *backend;
    void *base;
    size_t size;
    int fd; /* of a file: a description of this handle's own, not the mapped one: its locks are the handle's */
    int id;  /* System V: of the segment */
    int set; /* and of the set of its locks; -1: none */
    uint32_t locks; /* participants' */
    void *memory;   /* of the caller; the segment lies in it */
    uint64_t memory_size;
    struct noria_process self; /* whose locks are in it */
    bool created;
    bool guarded; /* a peer may truncate it: guard.h */
    struct noria_guard guard;
    dev_t device; /* as /proc/PID/maps tells it, like the inode */
    ino_t inode;  /* 0: not known */
    struct noria_superblock super; /* private copy */
};

struct noria_segment_request {
    const struct noria_segment_backend *backend;
    const char *name;
    bool create, exclusive;
    bool foreign; /* attach also if another user, not root, owns it; root needs it too */
    bool guarded; /* if it can be truncated */
    bool huge;    /* made of reserved huge pages, if there are some (System V) */
    mode_t mode;
    gid_t group;   /* (gid_t)-1: as the system has it */
    void *memory;  /* of the caller, and how much of it, for the backend that is made of it */
    uint64_t memory_size;
    uint64_t size; /* when created */
    uint32_t features; /* when created */
    uint64_t solid; /* bytes from the start that get their pages now; 0: all. The content's owner sees to the others */
    uint32_t locks; /* when created: participants' locks, 1 to this */
    int64_t open_timeout_ns;
    int64_t wait_create_ns;
    /* Fills the content of a new segment. */
    int (*format)(void *content, size_t size, void *context);
    void *context;
};

/* What the system says of a segment. */
struct noria_segment_facts {
    uint64_t size;
    uint64_t filled; /* bytes of it that have memory, or a place on the disk */
    uid_t owner;
    gid_t group;
    mode_t mode;     /* permissions */
    uint32_t names;  /* 0: nobody can find it (any more); more than 1: it has been given another one */
    bool possible;   /* false: a file that cannot be a segment */
};

/* What a step may answer besides 0 and -errno. */
enum noria_segment_answer {
    NORIA_SEGMENT_BUSY = 1,    /* another process is creating it */
    NORIA_SEGMENT_VANISHED = 2 /* it is not, or no longer, what the name means: look again */
};

/* Told of what was left without a name, and of 0 or plain -errno. */
typedef void noria_segment_remnant(const char *what, bool is_memory, int result, void *context);

/* What differs between backends. All return 0 or a count, or -errno with a sentence, if nothing else is said. */
struct noria_segment_backend {
    const char *scheme;
    bool named;   /* the name can vanish while we open it */
    bool can_shrink; /* whoever may write it can truncate it under our mapping */
    bool on_disk; /* not limited by memory */
    bool fills_holes; /* what has no memory behind it gets some from an attacher; otherwise he refuses it */
    bool locks_survive_exec;
    bool is_shared_in_process; /* handles of one process have no mapping of their own */

    /* Opens what the name means, or, with request->create, makes it: fd and the like, device, inode. *made says which.
     * Nothing is mapped that others could take away. Locks are the handle's own. 0, or an answer. */
    int (*obtain)(struct noria_segment *segment, const struct noria_segment_request *request, bool *made);
    /* Opens it to look at it, also without the right to write. */
    int (*obtain_view)(struct noria_segment *segment, const char *name);
    /* Opens what another handle of this process, or of the one it was forked from, has open. */
    int (*obtain_again)(struct noria_segment *segment, const struct noria_segment *other);
    int (*look)(const struct noria_segment *segment, struct noria_segment_facts *facts);
    ssize_t (*read)(const struct noria_segment *segment, void *to, size_t size, uint64_t offset); /* plain -errno */

    /* With the creation lock held: mode and group as asked for, whatever the umask. 0, or an answer. */
    int (*set_mode)(struct noria_segment *segment, const struct noria_segment_request *request);
    /* With the creation lock held: marks it as unfinished, clears what a dead creator did, gets the size and memory for
     * what is solid. 0, or an answer. */
    int (*reserve)(struct noria_segment *segment, const struct noria_segment_request *request);
    /* Called when the size is final, by all. */
    int (*seal)(struct noria_segment *segment);
    /* Sets base and size. */
    int (*map)(struct noria_segment *segment, uint64_t size);
    /* The same to read only; safe even if its owner makes the object smaller. */
    int (*map_view)(struct noria_segment *segment, uint64_t size);
    /* After mapping: the locks are to be independent of the mapping. May be NULL. */
    void (*settle)(struct noria_segment *segment);
    /* Unmaps and closes. */
    void (*close)(struct noria_segment *segment);
    /* Takes the name away, if it still means this segment. Others who do that wait for us, and we for them, at most until
     * then. 0, or an answer: VANISHED, or -EBUSY one of them does not get on. */
    int (*unlink)(struct noria_segment *segment, const char *name, int64_t until_ns);
    /* Nobody can find it and nobody is left: removes what would stay. May be NULL. */
    void (*forget)(struct noria_segment *segment);

    int (*lock)(const struct noria_segment *segment, uint32_t lock);   /* plain: 0, -EAGAIN, -errno */
    void (*unlock)(const struct noria_segment *segment, uint32_t lock);
    int (*held)(const struct noria_segment *segment, uint32_t lock);   /* by another: 1, 0, plain -errno */
    int (*any_held)(const struct noria_segment *segment);              /* the same for all participants' */

    /* Memory for a range, and none for it any more. Plain -errno. */
    int (*fill)(const struct noria_segment *segment, uint64_t offset, uint64_t size);
    int (*drop)(const struct noria_segment *segment, uint64_t offset, uint64_t size);

    /* Facts of what stands at the name, also if it cannot be opened; NULL without names. Plain -errno. */
    int (*describe)(const char *name, struct noria_segment_facts *facts);
    /* Calls `each` with every name at which a segment may stand, in order, until it returns non-zero, and returns that;
     * NULL: there is no list. */
    int (*list)(int (*each)(const char *name, void *context), void *context);
    /* Removes what the killed left and no name leads to: memory that was just being made, locks of segments that are gone.
     * `dry_run`: only tells. Calls `each`, which may be NULL, with what it is and 0 or plain -errno. NULL: nothing stays. */
    void (*sweep)(bool dry_run, noria_segment_remnant *each, void *context);
};

extern const struct noria_segment_backend noria_segment_posix; /* "/name" */
extern const struct noria_segment_backend noria_segment_memfd; /* "FD"; "" makes an anonymous one */
extern const struct noria_segment_backend noria_segment_file;  /* "/path" */
extern const struct noria_segment_backend noria_segment_memory; /* "" */
extern const struct noria_segment_backend noria_segment_sysv;  /* see sysv.c */
extern const struct noria_segment_backend noria_segment_sysv_private; /* "": always new */

/* Creates or attaches. Bounded by the two timeouts. -ENOENT, -EEXIST, -EACCES, -ENOSPC, -EINVAL not a segment,
 * -EPROTO, -EBADMSG truncated, -ETIMEDOUT its creator does not get on; each with a sentence. */
int noria_segment_open(struct noria_segment *segment, const struct noria_segment_request *request);

/* Maps an existing segment read-only, for tools. Also without the right to write. *unfinished: no magic yet. */
int noria_segment_inspect(struct noria_segment *segment, const struct noria_segment_backend *backend,
                          const char *name, bool *unfinished);

/* Opens it to look at it, and reads its superblock, but copies nothing else. 0, 1 unfinished, -errno. To be closed in any case. */
int noria_segment_peek(struct noria_segment *segment, const struct noria_segment_backend *backend, const char *name);

/* Reads a file, a copied segment for instance, into memory of its own (snapshot.c). */
int noria_segment_read(struct noria_segment *segment, const char *path);
/* Whether anybody lives in, or just creates, what stands at the name; whatever is in it. 1, 0, -errno. */
int noria_segment_in_use(const struct noria_segment_backend *backend, const char *name);

void noria_segment_close(struct noria_segment *segment);

/* After the last participant of an orphaned segment has left. */
void noria_segment_forget(struct noria_segment *segment);

/* Removes the name, if a segment stands there. -ENOENT, -EINVAL, -EBUSY another one removes it and does not get on. */
int noria_segment_unlink(const struct noria_segment_backend *backend, const char *name);

/* What is found at a name that somebody may have left. */
enum noria_segment_waste { NORIA_SEGMENT_IS_UNFINISHED, NORIA_SEGMENT_IS_FINISHED };

/* Removes the name of a segment that is unfinished, its creator being dead, or of a finished one that `is_waste`
 * says is none any more, both under the lock that creators and those who decide about the name hold. `is_waste` sees
 * it mapped to read. 1 removed (or would be: `dry_run`), 0 it stays, -EBUSY somebody is just creating or closing it,
 * -errno. */
int noria_segment_reap(const struct noria_segment_backend *backend, const char *name, bool dry_run,
                       bool (*is_waste)(const struct noria_segment *segment, enum noria_segment_waste found,
                                        void *context), void *context);

static inline void *noria_segment_content(const struct noria_segment *segment)
{
    return (uint8_t *)segment->base + NORIA_SEGMENT_CONTENT;
}

/* Whether the name was removed, or never was (memfd), so that newcomers cannot find the segment. */
bool noria_segment_is_orphaned(const struct noria_segment *segment);

/* Excludes others who join, or remove the name, under the same lock. 0, -ETIMEDOUT. */
int noria_segment_lock_name(struct noria_segment *segment, int64_t deadline_ns);
void noria_segment_unlock_name(struct noria_segment *segment);

/* Whether the machine was booted since somebody last had it open: of those who are named in it nobody lives. */
bool noria_segment_is_of_earlier_boot(const struct noria_segment *segment);
/* With the creation lock held: it is of this boot now. */
void noria_segment_note_boot(struct noria_segment *segment);

/* Waits until the disk has all that was written so far. 0, -ENOTSUP it is not on one, -EIO ... */
int noria_segment_sync(const struct noria_segment *segment);

/* What is nice to have, of this handle's mapping: the bits that were granted. */
enum {
    NORIA_SEGMENT_HUGE_PAGES = 1,
    NORIA_SEGMENT_POPULATED = 2, /* the page tables, so that no access faults */
    NORIA_SEGMENT_LOCKED = 4,    /* in memory */
    NORIA_SEGMENT_NODE = 8       /* memory of that NUMA node */
};
uint32_t noria_segment_wish(const struct noria_segment *segment, uint32_t wishes, int node);

/* Attaches to the segment that another handle has open, or had before this process was forked. */
int noria_segment_attach(struct noria_segment *segment, const struct noria_segment *other);

/* Whether what was copied of a superblock, `got` bytes, is one. 0, BUSY it is not finished, -EINVAL, -EPROTO. */
int noria_superblock_check(const struct noria_superblock *super, size_t got, const char *name);
/* And whether the segment can be as large, if so much is there. 0, -EBADMSG, -ENOMEM. */
int noria_superblock_check_size(const struct noria_superblock *super, size_t got, uint64_t there, const char *name);

/* For backends: whether the part that is to have its place for good may have holes. `filled` counts the part that grew,
 * too, so it can reach that much although there are some. Only a copy has such, and nobody is attached to one yet. */
bool noria_segment_may_have_holes(const struct noria_segment *segment, uint64_t filled);
/* For backends: that there is no descriptor left, error being EMFILE or ENFILE. Negative, with a sentence. */
int noria_segment_refuse_descriptor(const char *scheme, const char *name, int error);
/* For backends: that what stands at the name, or may not be made there, is not for us. -EACCES with a sentence. */
int noria_segment_refuse_access(const struct noria_segment_backend *backend, const char *name);
/* For backends: that the system does not give it to the group that was asked for. -EPERM with a sentence. */
int noria_segment_refuse_group(const struct noria_segment_request *request);
/* For backends: memory the machine has. 0: not known. */
uint64_t noria_segment_memory_available(void);
/* The same, whether it has so much. 0, -ENOMEM with a sentence. */
int noria_segment_check_memory(const struct noria_segment_backend *backend, const char *name, uint64_t bytes);
/* Bytes that must not have holes. */
static inline uint64_t noria_segment_solid(const struct noria_segment_request *request)
{
    return request->solid != 0 ? request->solid : request->size;
}

#endif
