/* SPDX-License-Identifier: BSD-2-Clause */
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"

enum { LONGEST = 4096 };

int noria_place_path(char *path, size_t size, const char *name)
{
    const char *given = getenv("NORIA_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
    const char *between = name[0] != '\0' ? "/" : "";
    int length;

    if (given != NULL && given[0] != '\0')
        length = snprintf(path, size, "%s%s%s", given, between, name);
    else if (runtime != NULL && runtime[0] != '\0')
        length = snprintf(path, size, "%s/noria%s%s", runtime, between, name);
    else
        length = snprintf(path, size, "/tmp/noria-%u%s%s", geteuid(), between, name);
    return length >= 0 && (size_t)length < size
               ? 0
               : noria_fail(-ENAMETOOLONG,
                            "the path of '%s' in noria's folder is longer than %zu bytes; NORIA_DIR names "
                            "a shorter one",
                            name, size - 1);
}

static bool is_ours(const struct stat *status)
{
    return status->st_uid == geteuid() || status->st_uid == 0;
}

/* The folder; nobody else's. */
static int open_folder(int how)
{
    char path[LONGEST];
    struct stat status;
    int fd = noria_place_path(path, sizeof(path), "");

    if (fd != 0)
        return fd;
    if ((how & O_CREAT) != 0)
        mkdir(path, 0700);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return noria_fail(-errno, "the folder '%.200s' (NORIA_DIR names another one) cannot be opened: %s", path,
                          errno == ENOTDIR || errno == ELOOP ? "it is no folder, or a symbolic link" : strerror(errno));
    if (fstat(fd, &status) == 0 && is_ours(&status) && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return fd;
    close(fd);
    if (!is_ours(&status))
        return noria_fail(-EACCES, "the folder '%.200s' is another user's; NORIA_DIR names another one", path);
    return noria_fail(
        -EACCES, "other users may write into the folder '%.200s'; chmod go-w, or let NORIA_DIR name another one", path);
}

/* What stands there may be anything. */
static int check_file(int fd, const char *name)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return noria_fail(-EINVAL, "'%s' in noria's folder is not a file", name);
    return is_ours(&status) ? 0 : noria_fail(-EACCES, "'%s' in noria's folder is another user's", name);
}

int noria_place_open(const char *name, int how)
{
    int folder = open_folder(how), fd, rc;

    if (folder < 0)
        return folder;
    fd = openat(folder, name, O_RDWR | (how & O_CREAT) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    rc = fd < 0 ? noria_fail(-errno, "'%s' in noria's folder cannot be opened: %s", name, strerror(errno))
                : check_file(fd, name);
    close(folder);
    if (rc != 0 && fd >= 0)
        close(fd);
    return rc != 0 ? rc : fd;
}

int noria_place_remove(const char *name)
{
    int folder = open_folder(0), rc;

    if (folder < 0)
        return folder;
    rc = unlinkat(folder, name, 0) == 0 ? 0 : -errno;
    close(folder);
    return rc;
}
