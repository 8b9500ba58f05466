/* SPDX-License-Identifier: BSD-2-Clause */
#include "path.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"

int noria_path_check(int fd, const char *path, mode_t type, const char *what, const struct noria_options *options)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return noria_fail(-errno, "'%s' cannot be looked at: %s", path, strerror(errno));
    if ((status.st_mode & S_IFMT) != type)
        return noria_fail(-EINVAL, "'%s' is there and is not a %s", path, what);
    if (status.st_uid != geteuid() && status.st_uid != 0 && options->foreign == 0)
        return noria_fail(-EACCES, "'%s' belongs to user %u; options.foreign (--foreign) says that this is meant", path,
                          status.st_uid);
    return 0;
}

int noria_path_unlink(const char *path, mode_t type, const char *scheme, const char *what)
{
    struct stat status;

    if (lstat(path, &status) != 0)
        return noria_path_fail(-errno, scheme, path);
    if ((status.st_mode & S_IFMT) != type)
        return noria_fail(-EINVAL, "'%s' is not a %s; it stays", path, what);
    return unlink(path) == 0 ? 0 : noria_path_fail(-errno, scheme, path);
}

int noria_path_fail(int rc, const char *scheme, const char *path)
{
    if (path[0] == '\0')
        return noria_fail(-EINVAL, "'%s:' needs a path, as in %s:/tmp/name", scheme, scheme);
    switch (rc) {
    case -ENOENT:
        return noria_fail(rc, "'%s:%s': there is no such name; NORIA_CREATE makes it, if its folder is there", scheme,
                          path);
    case -EEXIST:
        return noria_fail(rc, "'%s:%s' is there already", scheme, path);
    case -ELOOP:
        return noria_fail(rc, "'%s:%s' is a symbolic link, which is not followed", scheme, path);
    default:
        return noria_fail(rc, "'%s:%s': %s", scheme, path, strerror(-rc));
    }
}
