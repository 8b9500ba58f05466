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
    NORIA_CONDITION_NO_ACCESS = 4
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

/* Calls `each` for every channel that this user can see: in POSIX shared memory, in order of name, then in System V shared
 * memory, in order of id; stops when it returns non-zero, and returns that. */
NORIA_API int noria_list(int (*each)(const struct noria_listing *, void *context), void *context);
/* The same for channels in the files of one directory, in order of name. -ENOENT and the like. */
NORIA_API int noria_list_folder(const char *folder, int (*each)(const struct noria_listing *, void *context),
                                void *context);

/* The participants of a channel, up to `n`. Returns how many there are. */
NORIA_API int noria_who(const char *address, struct noria_participant *participants, int n);

/* One channel's listing. -ENOENT and so on as noria_open. */
NORIA_API int noria_inspect(const char *address, struct noria_listing *listing);

/* Removes a name as noria_unlink does, but refuses with -EBUSY while live handles are attached, unless `force`. */
NORIA_API int noria_remove(const char *address, int force);

#ifdef __cplusplus
}
#endif

#endif
