/* SPDX-License-Identifier: BSD-2-Clause */
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"

static void name_folder(char *path, size_t size)
{
    const char *given = getenv("NORIA_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");

    if (given != NULL && given[0] != '\0')
        snprintf(path, size, "%s", given);
    else if (runtime != NULL && runtime[0] != '\0')
        snprintf(path, size, "%s/noria", runtime);
    else
        snprintf(path, size, "/tmp/noria-%u", geteuid());
}

/* The folder, made if it is missing; nobody else's. */
static int open_folder(void)
{
    char path[256];
    struct stat status;
    int fd;

    name_folder(path, sizeof(path));
    mkdir(path, 0700);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return noria_fail(-errno, "the folder '%s' (NORIA_DIR names another one) cannot be opened: %s", path,
                          strerror(errno));
    if (fstat(fd, &status) == 0 && (status.st_uid == geteuid() || status.st_uid == 0))
        return fd;
    close(fd);
    return noria_fail(-EACCES, "the folder '%s' is another user's; NORIA_DIR names another one", path);
}

int noria_place_open(const char *name)
{
    int folder = open_folder(), fd, rc;

    if (folder < 0)
        return folder;
    fd = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    rc = fd < 0 ? noria_fail(-errno, "'%s' in noria's folder cannot be opened: %s", name, strerror(errno)) : 0;
    close(folder);
    return rc != 0 ? rc : fd;
}

void noria_place_remove(const char *name)
{
    int folder = open_folder();

    if (folder < 0)
        return;
    unlinkat(folder, name, 0);
    close(folder);
}
