/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tools need: which channels there are, who is attached, what is wrong. Read-only, without taking part: nothing
 * here claims a role, settles a death or changes a byte, except noria_remove.
 */
#ifndef NORIA_INSPECT_H
#define NORIA_INSPECT_H

#include <noria/noria.h>

#ifdef __cplusplus
extern "C" {
#endif

enum noria_condition {
    NORIA_CONDITION_OK = 0,
    NORIA_CONDITION_UNFINISHED = 1, /* a creator died or is at work */
    NORIA_CONDITION_VERSION = 2,    /* layout of another version */
    NORIA_CONDITION_CORRUPT = 3,
    NORIA_CONDITION_NO_ACCESS = 4,
    NORIA_CONDITION_TOO_LARGE = 5   /* another user's, which is looked at in a copy: more than a quarter of the free memory */
};

struct noria_listing {
    char address[264];      /* "shm:/name", "sysv:0x12345678", "sysv:id:N" without a key, "file:/path" */
    uint32_t condition;     /* enum noria_condition */
    uint32_t uid, gid, mode;
    uint64_t footprint;     /* bytes */
    int64_t created_ns;     /* CLOCK_REALTIME */
    struct noria_stat stat; /* valid with CONDITION_OK */
};

struct noria_participant {
    uint32_t number;
    uint32_t flags;     /* NORIA_SEND, NORIA_RECV */
    uint32_t alive;     /* 1 alive, 0 dead and not yet settled */
    int32_t pid;        /* as its own pid namespace numbers it */
    uint32_t foreign;   /* 1: of another pid namespace */
    uint32_t held;      /* slots that name it */
    int64_t joined_ns;  /* CLOCK_REALTIME */
    uint64_t sent, received;
};

/* A word of a channel's memory, or a piece of its ring. */
struct noria_dumped {
    const char *part;  /* "superblock", "geometry", "waiting", "header", "participant", "ring", or a piece: "slot" ... */
    uint64_t number;   /* which of them */
    const char *field; /* "" for a piece */
    uint64_t offset;   /* from the start of the segment */
    uint64_t value;
    char text[96];     /* what a piece says; "" for a field */
};

/* What is in order with a channel, and what is not. */
struct noria_health {
    uint32_t condition; /* enum noria_condition */
    uint32_t live;      /* participants */
    uint32_t dead;      /* participants that died and nobody has cleaned up after */
    uint32_t held;      /* slots and roles that still name them */
    uint32_t broken;    /* 1: the words of the ring contradict each other */
    uint32_t repaired;  /* how many of the dead were cleaned up after */
};

enum noria_leftover_kind {
    NORIA_LEFTOVER_UNKNOWN = 0,    /* no right to look, or another user's and too large to be copied */
    NORIA_LEFTOVER_UNFINISHED = 1, /* a channel whose creator died over it */
    NORIA_LEFTOVER_DESERTED = 2,   /* a channel that was to go with its last user, who died */
    NORIA_LEFTOVER_FIFO = 3,       /* by which participants of a channel waited that is gone */
    NORIA_LEFTOVER_SEMAPHORE = 4   /* the same, or a System V channel's locks */
};

struct noria_leftover {
    char name[264];   /* an address, or a path */
    uint32_t kind;    /* enum noria_leftover_kind */
    int32_t result;   /* 0 removed, or would be; -errno why it stays */
};

/* Calls `each` for every channel that this user can see: in POSIX shared memory, in order of name, then in System V shared
 * memory, in order of id; stops when it returns non-zero, and returns that. */
NORIA_API int noria_list(int (*each)(const struct noria_listing *, void *context), void *context);
/* The same for channels in the files of one directory, in order of name. -ENOENT and the like. */
NORIA_API int noria_list_folder(const char *folder, int (*each)(const struct noria_listing *, void *context),
                                void *context);

/* The participants of a channel, or of the copied file of one (see noria_dump), up to `n`. Returns how many there are. */
NORIA_API int noria_who(const char *address, struct noria_participant *participants, int n);

/* One channel's listing, or that of the copied file of one. -ENOENT and so on as noria_open. */
NORIA_API int noria_inspect(const char *address, struct noria_listing *listing);

/* Shows the words of a channel, its participants and the pieces of its ring, as far as they go together. The address may
 * also be the path of a file, with a slash: the copied file of a crashed system, for instance. Stops when `each` returns
 * non-zero, and returns that; -errno as noria_inspect. What does not go together ends it with -EBADMSG and a sentence,
 * after the words in front of it. */
NORIA_API int noria_dump(const char *address, int (*each)(const struct noria_dumped *, void *context), void *context);

/* Checks a channel, or the copied file of one. With `repair` (not for files) also cleans up after the dead, as every
 * open does; nothing else is changed (what a dead creator left unfinished goes with noria_gc; a channel that was to go with
 * its last user, who is dead, goes). The findings stand in *health; -errno if it cannot be looked at. */
NORIA_API int noria_fsck(const char *address, int repair, struct noria_health *health);

/* Removes what nobody holds and nobody can want: channels whose creator died over them, channels with lifetime
 * UNLINK_LAST whose last user died, FIFOs and semaphores of channels that are gone; of all users, if the caller is root.
 * Others may open and close all the time: nothing that is in use, or just comes into use, is touched. With `dry_run`
 * only tells. Calls `each`, which may be NULL, for each of them. How many were removed, or would be; -errno. */
NORIA_API int noria_gc(int dry_run, void (*each)(const struct noria_leftover *, void *context), void *context);
/* The same, and of channels in the files of `n` directories as well; and FIFOs and semaphores of channels in files that are
 * in none of these and that nobody has open or mapped, as far as this pid namespace sees: if the file is elsewhere after
 * all, the next one to open it makes them again. A copy of a channel that was to go with its last user is a channel that nobody
 * uses, and goes. Opens and closes every file there: not for programs that hold fcntl locks on one of them. -ENOENT and the like, before anything is removed. */
NORIA_API int noria_gc_folders(const char *const *folders, int n, int dry_run,
                               void (*each)(const struct noria_leftover *, void *context), void *context);

/* Removes a name as noria_unlink does, but refuses with -EBUSY while live handles are attached, unless `force`. */
NORIA_API int noria_remove(const char *address, int force);

#ifdef __cplusplus
}
#endif

#endif
