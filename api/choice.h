/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What carries the channel of an "auto:" address, written down in noria's folder (adapters/place.h): one file per name.
 *
 *     bytes 0 to 4095     text: "noria auto 1", "carried by SCHEME", "refused SCHEME: SENTENCE"…, "end"
 *     from 4096 on        places of 24 bytes: process, descriptor and inode of a memory without a name
 *
 * Whoever opens or removes the name has byte 0 locked for himself while he does; whoever has the channel open has
 * byte 1 locked with the others. Both are locks of open file descriptions, so the kernel gives back what a dead one
 * held. The text is written when nobody uses the channel, and counts only if it is whole: of a chooser that was killed
 * nothing is left.
 */
#ifndef NORIA_CHOICE_H
#define NORIA_CHOICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport.h"

struct noria_choice {
    char scheme[8];     /* what carries the channel; "": nothing is written there */
    char refused[3072]; /* a line for each that was tried before: SCHEME: sentence */
};

struct noria_choice_file {
    int fd;
    struct noria_fork_guard guard;
    dev_t device;
    ino_t inode;
};

/* Opens the file of a name, makes it if `create`, and locks it until noria_choice_unlock. 0, -ENOENT, -ETIMEDOUT,
 * -errno with a sentence. */
int noria_choice_lock(struct noria_choice_file *file, const char *name, bool create, int64_t deadline_ns);
void noria_choice_unlock(struct noria_choice_file *file);
void noria_choice_close(struct noria_choice_file *file);
/* Removes the locked file. */
int noria_choice_remove(const char *name);

/* What is written there. */
void noria_choice_read(const struct noria_choice_file *file, struct noria_choice *choice);
/* Writes it, over whatever is there. 0, -errno with a sentence. */
int noria_choice_write(const struct noria_choice_file *file, const struct noria_choice *choice);

/* Whether others have the channel open. */
bool noria_choice_is_used(const struct noria_choice_file *file);
/* From now on this one has. 0, -errno with a sentence. */
int noria_choice_use(const struct noria_choice_file *file);

/* Memory without a name, for those who come later: they open it through the process that has it. `memory` stays open as
 * long as the place is taken. Returns the place, -1: all are taken. */
int noria_choice_lend(const struct noria_choice_file *file, int memory);
/* Without the lock, so only what is still there of it. */
void noria_choice_take_back(const struct noria_choice_file *file, int place, int memory);
/* A description of one's own of the memory that somebody lends. -ENOENT: nobody does, -errno: it cannot be opened. */
int noria_choice_borrow(const struct noria_choice_file *file);

#endif
