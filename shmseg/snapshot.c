/* SPDX-License-Identifier: BSD-2-Clause */
/* A segment in a file that is nobody's memory: one that was copied from a crashed system, say. It is read, not
 * mapped. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "segment.h"

static int read_whole(int fd, const char *path, void *to, uint64_t size)
{
    uint64_t done = 0;

    while (done < size) {
        ssize_t got = pread(fd, (uint8_t *)to + done, (size_t)(size - done), (off_t)done);
        if (got < 0 && errno != EINTR)
            return noria_fail(-errno, "cannot read '%s': %s", path, noria_error_words(errno));
        if (got == 0)
            return noria_fail(-EBADMSG, "'%s' ends after %llu bytes", path, (unsigned long long)done);
        done += got > 0 ? (uint64_t)got : 0;
    }
    return 0;
}

static int check_super(const struct noria_superblock *super, const char *path, uint64_t file_size)
{
    if (super->magic == NORIA_SEGMENT_UNFINISHED)
        return noria_fail(-EBADMSG, "'%s' is a channel that its creator has not finished", path);
    if (super->magic != NORIA_SEGMENT_MAGIC)
        return noria_fail(-EINVAL, "'%s' holds something else than a noria segment", path);
    if (super->version != NORIA_SEGMENT_VERSION || super->features != 0)
        return noria_fail(-EPROTO, "'%s' has layout version %u with features 0x%x, this library speaks %u with 0x0", path,
                          super->version, super->features, NORIA_SEGMENT_VERSION);
    if (super->size < sizeof(*super) || super->size > file_size)
        return noria_fail(-EBADMSG, "'%s' is truncated: %llu of %llu bytes are there", path, (unsigned long long)file_size,
                          (unsigned long long)super->size);
    return 0;
}

static int read_from(struct noria_segment *segment, const char *path)
{
    struct stat status;
    int rc;

    if (fstat(segment->fd, &status) != 0 || !S_ISREG(status.st_mode))
        return noria_fail(-EINVAL, "'%s' is not a file", path);
    if ((uint64_t)status.st_size < sizeof(segment->super))
        return noria_fail(-EINVAL, "'%s' is too short for a noria segment", path);
    rc = read_whole(segment->fd, path, &segment->super, sizeof(segment->super));
    if (rc == 0)
        rc = check_super(&segment->super, path, (uint64_t)status.st_size);
    if (rc != 0)
        return rc;
    segment->size = (size_t)segment->super.size;
    segment->base = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (segment->base == MAP_FAILED) {
        segment->base = NULL;
        return noria_fail(-ENOMEM, "no memory for the %llu bytes of '%s'", (unsigned long long)segment->super.size, path);
    }
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    return read_whole(segment->fd, path, segment->base, segment->super.size);
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
