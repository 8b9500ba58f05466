/* SPDX-License-Identifier: BSD-2-Clause */
/* A /dev/shm, and System V memory, of this process' own: what it finds and removes there is nobody else's. */
#ifndef NORIA_OWN_SHM_H
#define NORIA_OWN_SHM_H

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "other_user_test.h"

static inline bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return written;
}

/* Without root: root of a user namespace of its own, which the system may refuse. */
static inline bool become_root_of_namespace(void)
{
    char uid_map[64], gid_map[64];

    snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC) == 0 && write_file("/proc/self/setgroups", "deny") &&
           write_file("/proc/self/uid_map", uid_map) && write_file("/proc/self/gid_map", gid_map);
}

/* `options` as of mount: "size=64k". False: the system does not let us. */
static inline bool have_own_shm(const char *options)
{
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0 && !become_root_of_namespace())
        return false;
    /* In a changed root "/" is no mount. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 && mount(NULL, "/dev/shm", NULL, MS_PRIVATE, NULL) != 0)
        return false;
    return mount("noria-test", "/dev/shm", "tmpfs", 0, options) == 0;
}

#endif
