/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments with a name: POSIX shared memory. They outlive every process until somebody unlinks them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "mapped_file.h"

#define FOLDER "/dev/shm"

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
    if (error == ENOENT && access(FOLDER, F_OK) != 0)
        return noria_fail(-ENOENT, "there is no " FOLDER " for 'shm:%s': mount -t tmpfs -o mode=1777 tmpfs " FOLDER ", or "
                          "choose memory that needs none (file:, sysv:, anon:)", name);
    if (error == EROFS)
        return noria_fail(-EROFS, FOLDER " is mounted read-only, so 'shm:%s' cannot be made or written: mount -o "
                          "remount,rw " FOLDER, name);
    if (error == ENOENT)
        return noria_fail(-ENOENT, "there is no channel 'shm:%s'; create it with NORIA_CREATE or `noria create`", name);
    if (error == EACCES || error == EPERM)
        return noria_segment_refuse_access(&noria_segment_posix, name);
    if (error == ELOOP)
        return noria_fail(-ELOOP, "'shm:%s' is a symbolic link, which is refused: somebody planted it", name);
    if (error == EMFILE || error == ENFILE)
        return noria_segment_refuse_descriptor("shm", name, error);
    if (error == ENOSPC)
        return noria_fail(-ENOSPC, "there is no room for one more name at 'shm:%s': see `df -i /dev/shm`", name);
    return noria_fail(-error, "cannot open 'shm:%s': %s", name, noria_error_words(error));
}

static int obtain(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    int rc = check_name(request->name);

    if (rc != 0)
        return rc;
    segment->fd = noria_file_open_or_make(shm_open, request, made);
    if (segment->fd < 0 && errno == EAGAIN)
        return noria_fail(-EAGAIN, "'shm:%s' appears and vanishes all the time", request->name);
    return segment->fd >= 0 ? noria_file_obtained(segment, segment->fd) : report(request->name, errno);
}

static int obtain_view(struct noria_segment *segment, const char *name)
{
    int rc = check_name(name);

    if (rc != 0)
        return rc;
    segment->fd = shm_open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
    return segment->fd >= 0 ? noria_file_obtained(segment, segment->fd) : report(name, errno);
}

static int remove_name(struct noria_segment *segment, const char *name, int64_t until_ns)
{
    char path[300];

    snprintf(path, sizeof(path), FOLDER "%s", name);
    return noria_file_unlink(segment, name, path, until_ns);
}

static int describe(const char *name, struct noria_segment_facts *facts)
{
    char path[300];
    struct stat status;

    snprintf(path, sizeof(path), FOLDER "%s", name);
    if (lstat(path, &status) != 0)
        return -errno;
    noria_file_facts_of(&status, facts);
    return 0;
}

/* Channels are regular files; bells that wait by FIFO or semaphore have their names there, too. */
static int may_be_channel(const struct dirent *entry)
{
    return (entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN) && entry->d_name[0] != '.' &&
           strncmp(entry->d_name, "sem.noria-", 10) != 0 && strlen(entry->d_name) <= 250;
}

static int list(int (*each)(const char *name, void *context), void *context)
{
    struct dirent **names;
    int n = scandir(FOLDER, &names, may_be_channel, alphasort), rc = 0;

    if (n < 0)
        return noria_fail(-errno, "cannot list " FOLDER ": %s", noria_error_words(errno));
    for (int i = 0; i < n; i++) {
        char name[264];
        snprintf(name, sizeof(name), "/%.250s", names[i]->d_name);
        if (rc == 0)
            rc = each(name, context);
        free(names[i]);
    }
    free(names);
    return rc;
}

const struct noria_segment_backend noria_segment_posix = {
    .scheme = "shm", .named = true, .can_shrink = true, .fills_holes = true, .obtain = obtain,
    .obtain_view = obtain_view, .seal = noria_file_leave_unsealed, .unlink = remove_name, .describe = describe, .list = list, NORIA_FILE_VERBS};
