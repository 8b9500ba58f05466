/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments in a file on disk, "/path": they outlive a reboot. Otherwise like POSIX shared memory, whose files these are
 * on a tmpfs. Between machines there is no shared memory: files on network file systems are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "detail.h"
#include "mapped_file.h"

enum { LONGEST = 250 };

static int check_name(const char *name)
{
    size_t length = strlen(name);

    if (name[0] != '/' || name[length - 1] == '/')
        return noria_fail(-EINVAL, "'file:%s' is not the path of a file: write it from the root, as in "
                          "file:/var/lib/me/queue", name);
    if (length > LONGEST)
        return noria_fail(-ENAMETOOLONG, "the path 'file:%.40s...' has %zu characters; %d are possible", name, length,
                          LONGEST);
    return 0;
}

static int report(const char *name, int error)
{
    if (error == ENOENT)
        return noria_fail(-ENOENT, "there is no channel 'file:%s' (or no such directory); create it with NORIA_CREATE "
                          "or `noria create`", name);
    if (error == EACCES || error == EPERM)
        return noria_segment_refuse_access(&noria_segment_file, name);
    if (error == ELOOP)
        return noria_fail(-ELOOP, "'file:%s' is a symbolic link, which is refused: somebody planted it", name);
    if (error == EISDIR)
        return noria_fail(-EINVAL, "'file:%s' is a directory", name);
    if (error == EMFILE || error == ENFILE)
        return noria_segment_refuse_descriptor("file", name, error);
    if (error == ENOSPC)
        return noria_fail(-ENOSPC, "there is no room for one more file at 'file:%s': see `df -i` of its directory", name);
    return noria_fail(-error, "cannot open 'file:%s': %s", name, noria_error_words(error));
}

static int open_path(const char *name, int flags, mode_t mode)
{
    return open(name, flags, mode);
}

/* What two machines have mapped of such a file are two memories. */
static bool is_of_network(uint32_t file_system)
{
    static const uint32_t magics[] = {0x6969 /* NFS */, 0xff534d42 /* CIFS */, 0xfe534d42 /* SMB */, 0x517b,
                                      0x5346414f /* AFS */, 0x00c36400 /* Ceph */};

    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
        if (file_system == magics[i])
            return true;
    return false;
}

/* Where the file is, by the numbers of statfs(2). 0, -ENOTSUP with a sentence. */
static int check_place(int fd, const char *name)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return 0;
    if (is_of_network((uint32_t)fs.f_type))
        return noria_fail(-ENOTSUP, "'file:%s' is on a network file system, where machines do not share memory; use a "
                          "local one", name);
    if ((uint32_t)fs.f_type == HUGETLBFS_MAGIC)
        return noria_fail(-ENOTSUP, "'file:%s' is on hugetlbfs, whose files have only whole huge pages and cannot be written: "
                          "for reserved huge pages use sysv: with options.wishes, else another directory", name);
    return 0;
}

static int obtain(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    int rc = check_name(request->name);

    if (rc != 0)
        return rc;
    segment->fd = noria_file_open_or_make(open_path, request, made);
    if (segment->fd < 0 && errno == EAGAIN)
        return noria_fail(-EAGAIN, "'file:%s' appears and vanishes all the time", request->name);
    if (segment->fd < 0)
        return report(request->name, errno);
    rc = check_place(segment->fd, request->name);
    return rc == 0 ? noria_file_obtained(segment, segment->fd) : rc;
}

static int obtain_view(struct noria_segment *segment, const char *name)
{
    int rc = check_name(name);

    if (rc != 0)
        return rc;
    segment->fd = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return segment->fd >= 0 ? noria_file_obtained(segment, segment->fd) : report(name, errno);
}

static int remove_name(struct noria_segment *segment, const char *name, int64_t until_ns)
{
    return noria_file_unlink(segment, name, name, until_ns);
}

static int describe(const char *name, struct noria_segment_facts *facts)
{
    struct stat status;

    if (lstat(name, &status) != 0)
        return -errno;
    noria_file_facts_of(&status, facts);
    return 0;
}

const struct noria_segment_backend noria_segment_file = {
    .scheme = "file", .named = true, .can_shrink = true, .on_disk = true, .fills_holes = true, .obtain = obtain,
    .obtain_view = obtain_view, .seal = noria_file_leave_unsealed, .unlink = remove_name, .describe = describe,
    NORIA_FILE_VERBS};
