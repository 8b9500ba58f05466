/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments with a name: POSIX shared memory. They outlive every process until somebody unlinks them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "segment.h"

static int check_name(const char *name)
{
    size_t length = strlen(name);

    if (name[0] != '/' || length < 2 || strchr(name + 1, '/') != NULL || strcmp(name, "/.") == 0 ||
        strcmp(name, "/..") == 0)
        return noria_fail(-EINVAL, "'shm:%s' is not a name: write shm:/name, with one slash, at the start", name);
    if (length > 250)
        return noria_fail(-ENAMETOOLONG, "the name 'shm:%.40s...' has %zu characters; 250 are possible", name, length);
    return 0;
}

static int report(const char *name, int error)
{
    if (error == ENOENT)
        return noria_fail(-ENOENT, "there is no channel 'shm:%s'; create it with NORIA_CREATE or `noria create`", name);
    if (error == EACCES || error == EPERM)
        return noria_fail(-EACCES, "no permission for 'shm:%s': see its owner and mode with `ls -l /dev/shm%s`", name,
                          name);
    if (error == ELOOP)
        return noria_fail(-ELOOP, "'shm:%s' is a symbolic link, which is refused: somebody planted it", name);
    if (error == EMFILE || error == ENFILE)
        return noria_fail(-error, "too many open files for 'shm:%s'; raise `ulimit -n`", name);
    return noria_fail(-error, "cannot open 'shm:%s': %s", name, noria_error_words(error));
}

static int obtain(const char *name, bool create, mode_t mode, int *fd, bool *made)
{
    int rc = check_name(name);

    if (rc != 0)
        return rc;
    for (int tries = 0; tries < 100; tries++) {
        /* shm_open adds O_CLOEXEC and, in glibc, O_NOFOLLOW; O_NONBLOCK, lest a planted FIFO holds us up. */
        *made = false;
        *fd = shm_open(name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
        if (*fd >= 0)
            return 0;
        if (errno != ENOENT || !create)
            return report(name, errno);
        *fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                       (mode & S_IRWXU) | NORIA_SEGMENT_NEW_MODE);
        if (*fd >= 0) {
            *made = true;
            return 0;
        }
        if (errno != EEXIST)
            return report(name, errno);
    }
    return noria_fail(-EAGAIN, "'shm:%s' appears and vanishes all the time", name);
}

static int leave_unsealed(int fd)
{
    (void)fd; /* only memfds can be sealed */
    return 0;
}

static int remove_name(const char *name)
{
    return shm_unlink(name) == 0 ? 0 : report(name, errno);
}

const struct noria_segment_backend noria_segment_posix = {
    .scheme = "shm", .obtain = obtain, .seal = leave_unsealed, .unlink = remove_name, .named = true};
