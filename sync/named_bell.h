/* SPDX-License-Identifier: BSD-2-Clause */
/* What bells with a name share: objects that outlive their makers, whose they are and may be, and that they have been
 * removed for good. */
#ifndef NORIA_NAMED_BELL_H
#define NORIA_NAMED_BELL_H

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "strategy.h"

enum { NORIA_BELL_REMOVED = 1 }; /* place->words[0][0] */

/* Relaxed: a hint against litter; who makes an object puts a fence before. */
static inline bool noria_bell_is_removed(const struct noria_bell_place *place)
{
    return place->words[0] != NULL && noria_load_relaxed32(place->words[0]) == NORIA_BELL_REMOVED;
}

/* Says so, if the place is given its words, before the objects are looked for. */
static inline void noria_bell_mark_removed(const struct noria_bell_place *place)
{
    if (place->words[0] != NULL)
        noria_store_relaxed32(place->words[0], NORIA_BELL_REMOVED);
    noria_fence_seq_cst(); /* remove() marks, then looks; who makes one links it, then looks for the mark */
}

/* sysv_semaphore.c: a set of ours that nobody has open, and the id of its channel (noria_bell_place). */
struct noria_unused_set {
    int set;
    uint32_t key;
    uint64_t id[2];
};
/* All there are of this user, or of anybody if it is root. How many. */
size_t noria_sysv_semaphore_find_unused(struct noria_unused_set *sets, size_t room);
/* If it still is unused. 1 removed (or would be), 0 it is not, or not any more, -errno. */
int noria_sysv_semaphore_remove_unused(const struct noria_unused_set *unused, bool dry_run);

/* Gives a file that we own to the channel's group, and as root to its owner. 0 or errno. A group that we are not in (EPERM),
 * or that our user namespace does not know (EINVAL), is no error. */
static inline int noria_bell_give(const struct noria_bell_place *place, int fd)
{
    if (fchown(fd, geteuid() == 0 ? place->owner : (uid_t)-1, place->group) == 0 || errno == EPERM || errno == EINVAL)
        return 0;
    return errno;
}

/* Whose objects we use: our own, root's, those of the channel's owner, and anybody's if the channel is open to others. */
static inline bool noria_bell_is_trusted(const struct noria_bell_place *place, uid_t owner)
{
    return owner == geteuid() || owner == 0 || owner == place->owner ||
           (place->mode & (S_IWGRP | S_IWOTH)) != 0;
}

#endif
