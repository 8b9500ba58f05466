/* SPDX-License-Identifier: BSD-2-Clause */
/* A segment in a file that is nobody's memory: one that was copied from a crashed system, say. It is read, not
 * mapped. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "mapped_file.h"

static int read_super(struct noria_segment *segment, const char *path, uint64_t there)
{
    ssize_t got = pread(segment->fd, &segment->super, sizeof(segment->super), 0);
    int rc;

    if (got < 0)
        return noria_fail(-errno, "cannot read '%s': %s", path, noria_error_words(errno));
    rc = got == 0 ? noria_fail(-EINVAL, "'%s' is empty", path)
                  : noria_superblock_check(&segment->super, (size_t)got, path);
    if (rc == NORIA_SEGMENT_BUSY)
        return noria_fail(-EBADMSG, "'%s' is a channel that its creator has not finished", path);
    return rc == 0 ? noria_superblock_check_size(&segment->super, (size_t)got, there, path) : rc;
}

static int read_from(struct noria_segment *segment, const char *path)
{
    struct stat status;
    int rc;

    if (fstat(segment->fd, &status) != 0 || !S_ISREG(status.st_mode))
        return noria_fail(-EINVAL, "'%s' is not a file", path);
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    rc = read_super(segment, path, (uint64_t)status.st_size);
    if (rc != 0)
        return rc;
    rc = noria_file_copy(segment, segment->super.size);
    if (rc == -EFBIG)
        return noria_fail(rc, "'%s' has more data than a quarter of the memory that is free; look at it on a larger "
                          "machine", path);
    return rc == 0 ? 0 : noria_fail(rc, "cannot read the %llu bytes of '%s': %s", (unsigned long long)segment->super.size,
                                    path, noria_error_words(rc));
}

int noria_segment_read(struct noria_segment *segment, const char *path)
{
    int rc;

    memset(segment, 0, sizeof(*segment));
    segment->backend = &noria_segment_posix; /* for how it is closed, and its locks, which nobody holds */
    segment->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (segment->fd < 0)
        return noria_fail(-errno, "cannot read '%s': %s", path, noria_error_words(errno));
    rc = read_from(segment, path);
    if (rc != 0)
        noria_segment_close(segment);
    return rc;
}
