/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: memory that processes share, with a life. A segment is made by whoever comes first, attached by the
 * others, detached at close and removed by unlink. It knows nothing of what is put into it.
 *
 * The first 256 bytes are the superblock. Its magic is stored last, with release: who sees it sees a finished segment.
 * It never changes afterwards and is copied out once. Before it has grown the file, a creator marks it as unfinished; one
 * that died half-way leaves an empty or marked file and a free lock byte, and the next one that may create takes over.
 * Any other file at the name is somebody else's and is not touched. The lock bytes (OFD locks) lie far beyond the end of the file.
 *
 * A backend says how the memory is had (posix.c by name, memfd.c by descriptor); everything else is here, once.
 */
#ifndef NORIA_SEGMENT_H
#define NORIA_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "atomic.h"

#define NORIA_SEGMENT_MAGIC UINT64_C(0x31474553616e6f4e) /* "NonaSEG1" */
#define NORIA_SEGMENT_UNFINISHED UINT64_C(0x3047455361697230) /* "0riaSEG0": a creator is at work, or died */
#define NORIA_SEGMENT_VERSION 3u
#define NORIA_SEGMENT_CONTENT 256u /* where the content starts */
#define NORIA_SEGMENT_MAX_SIZE (UINT64_C(1) << 46)

/* Until it is marked as unfinished, an empty file is told from somebody else's by this bit of its mode, which means nothing
 * on files. */
#define NORIA_SEGMENT_NEW_MODE S_ISVTX

/* Lock bytes of a segment's file. */
#define NORIA_LOCK_CREATE (INT64_C(1) << 61)
#define NORIA_LOCK_PARTICIPANTS (INT64_C(1) << 60)

struct noria_superblock {
    uint64_t magic;
    uint32_t version;
    uint32_t features; /* bits an older library must refuse; none yet */
    uint64_t size;     /* of the segment, this block included */
    uint64_t id[2];    /* random */
    uint64_t boot;     /* hash of the boot id of the machine that made it */
    int64_t created_ns; /* CLOCK_REALTIME */
    uint64_t solid;    /* bytes from the start that have their pages for good; what follows may have holes. 0: all */
    uint64_t reserved[24];
};
NORIA_STATIC_ASSERT(offsetof(struct noria_superblock, version) == 8, "the version stands right after the magic");
NORIA_STATIC_ASSERT(sizeof(struct noria_superblock) == NORIA_SEGMENT_CONTENT, "the content follows");

struct noria_segment {
    void *base;
    size_t size;
    int fd; /* an open file description of this handle's own, not the mapped one: its locks are the handle's */
    bool created;
    dev_t device;
    ino_t inode;
    struct noria_superblock super; /* private copy */
};

/* What differs between backends. All return 0 or a count, or -errno with a sentence. */
struct noria_segment_backend {
    const char *scheme;
    /* Opens what `name` names, or, with `create`, makes it. *made says which. The description is the caller's own. */
    int (*obtain)(const char *name, bool create, mode_t mode, int *fd, bool *made);
    /* Called when the size is final. */
    int (*seal)(int fd);
    int (*unlink)(const char *name);
    bool named; /* the name can vanish while we open it */
};

extern const struct noria_segment_backend noria_segment_posix; /* "/name" */
extern const struct noria_segment_backend noria_segment_memfd; /* "FD"; "" makes an anonymous one */

struct noria_segment_request {
    const struct noria_segment_backend *backend;
    const char *name;
    bool create, exclusive;
    bool foreign; /* attach also if another user, not root, owns it; root needs it too */
    mode_t mode;
    uint64_t size; /* when created */
    uint64_t solid; /* bytes from the start that get their pages now; 0: all. The content's owner sees to the others */
    int64_t open_timeout_ns;
    int64_t wait_create_ns;
    /* Fills the content of a new segment. */
    int (*format)(void *content, size_t size, void *context);
    void *context;
};

/* Creates or attaches. Bounded by the two timeouts. -ENOENT, -EEXIST, -EACCES, -ENOSPC, -EINVAL not a segment,
 * -EPROTO, -EBADMSG truncated, -ETIMEDOUT its creator does not get on; each with a sentence. */
int noria_segment_open(struct noria_segment *segment, const struct noria_segment_request *request);

/* Maps an existing segment read-only, for tools. Also without the right to write. *unfinished: no magic yet. */
int noria_segment_inspect(struct noria_segment *segment, const struct noria_segment_backend *backend,
                          const char *name, bool *unfinished);

/* Reads a file, a copied segment for instance, into memory of its own (snapshot.c). */
int noria_segment_read(struct noria_segment *segment, const char *path);

void noria_segment_close(struct noria_segment *segment);

/* Removes the name, if a segment stands there. -ENOENT, -EINVAL. */
int noria_segment_unlink(const struct noria_segment_backend *backend, const char *name);

/* What is found at a name that somebody may have left. */
enum noria_segment_waste { NORIA_SEGMENT_IS_UNFINISHED, NORIA_SEGMENT_IS_FINISHED };

/* Removes the name of a segment that is unfinished, its creator being dead, or of a finished one that `is_waste` says is
 * none any more, both under the lock that creators and those who decide about the name hold. `is_waste` sees it mapped
 * to read. 1 removed (or would be: `dry_run`), 0 it stays, -EBUSY somebody is just creating or closing it, -errno. */
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

/* Attaches to the segment behind a descriptor of this process, with a description of its own. */
int noria_segment_attach(struct noria_segment *segment, int fd);

#endif
