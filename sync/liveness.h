/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is alive. The kernel says so: a lock byte held on an open file description is freed when its last holder dies,
 * be it a zombie, and is held while it is stopped. Never a timeout, never kill(pid, 0) alone (zombies answer, pids are
 * reused, numbers mean nothing in another pid namespace).
 */
#ifndef NORIA_LIVENESS_H
#define NORIA_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* OFD locks, one byte each. */
int noria_lock_try(int fd, int64_t byte); /* 0, -EAGAIN held by another description, or -errno */
void noria_lock_free(int fd, int64_t byte);
/* Whether another open file description holds it: 1, 0, or -errno. */
int noria_lock_held(int fd, int64_t byte);
int noria_lock_any_held(int fd, int64_t byte, int64_t count);

/* Opens what fd refers to once more, so that locks are not shared with whoever else has fd. Async-signal-safe, as a
 * forked child needs it. -errno, for instance without /proc. */
int noria_lock_own_description(int fd);

/* A process for good: numbers are reused, a number with its start time is not. */
struct noria_process {
    uint64_t start_time; /* clock ticks after boot; 0: /proc could not be read */
    uint64_t pid_namespace; /* inode, and that of the time namespace in the upper half; 0: unknown */
    uint64_t image;         /* which of the programs that it has been, one exec after the other; 0: unknown */
    uint32_t program;       /* the same as far as others can tell it; 0: unknown */
    int32_t pid;
};

enum { NORIA_PROCESS_PROGRAM_BITS = 14, NORIA_PROCESS_START_BITS = 28 };

void noria_process_self(struct noria_process *self);

/* A number of the program that runs in this process, the same for all of it and those it forks, and another one after
 * exec. 0: unknown. */
uint64_t noria_process_image(void);

/* A number of the program that runs in that process, for all who may look at it; most likely another one after exec. 0: unknown,
 * or they may not. */
uint32_t noria_process_program(int32_t pid);

enum noria_process_state {
    NORIA_PROCESS_GONE,   /* certainly: no such process, nothing of it left but a zombie, or it has become another program */
    NORIA_PROCESS_EXISTS, /* the number is there and, if it could be read, with that start time */
    NORIA_PROCESS_UNKNOWN /* of another pid namespace */
};

/* `thorough` reads /proc; without it only a missing number counts as gone. */
enum noria_process_state noria_process_look(const struct noria_process *self, const struct noria_process *other,
                                            bool thorough);

/* Whether the process maps the file: 1, 0, or -errno if its maps cannot be read. */
int noria_process_maps(int32_t pid, dev_t device, ino_t inode);
/* What this process has mapped at that place, for the others' lists. 0, or -errno. */
int noria_process_mapping(const void *place, dev_t *device, ino_t *inode);

#endif
