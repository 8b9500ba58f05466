/* SPDX-License-Identifier: BSD-2-Clause */
#include "liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static struct flock byte_lock(short type, int64_t byte)
{
    struct flock lock;

    memset(&lock, 0, sizeof(lock));
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
}

int noria_lock_try(int fd, int64_t byte)
{
    struct flock lock = byte_lock(F_WRLCK, byte);

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

void noria_lock_free(int fd, int64_t byte)
{
    struct flock lock = byte_lock(F_UNLCK, byte);

    fcntl(fd, F_OFD_SETLK, &lock);
}

int noria_lock_held(int fd, int64_t byte)
{
    return noria_lock_any_held(fd, byte, 1);
}

int noria_lock_any_held(int fd, int64_t byte, int64_t count)
{
    struct flock lock = byte_lock(F_WRLCK, byte);

    lock.l_len = count;
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

int noria_lock_own_description(int fd)
{
    char path[32] = "/proc/self/fd/", digits[12];
    size_t length = 0, at = strlen(path);
    int own;

    do /* by hand: stdio is not async-signal-safe */
        digits[length++] = (char)('0' + fd % 10);
    while ((fd /= 10) != 0);
    while (length > 0)
        path[at++] = digits[--length];
    path[at] = '\0';
    own = open(path, O_RDWR | O_CLOEXEC);
    return own >= 0 ? own : -errno;
}

/* Reads a small file of /proc. Its length, or -errno. */
static ssize_t read_small(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length;

    if (fd < 0)
        return -errno;
    length = read(fd, buffer, size - 1);
    if (length < 0)
        length = -errno;
    else
        buffer[length] = '\0';
    close(fd);
    return length;
}

struct stat_line {
    char state;
    long threads;
    uint64_t start_time;
};

/* Fields 3, 20 and 22 of /proc/PID/stat; the name before them may hold anything, brackets included. */
static int read_stat(const char *path, struct stat_line *line)
{
    char text[1024];
    const char *rest;
    ssize_t length = read_small(path, text, sizeof(text));

    if (length < 0)
        return (int)length;
    rest = strrchr(text, ')');
    if (rest == NULL || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %" SCNu64,
                               &line->state, &line->threads, &line->start_time) != 3)
        return -EIO;
    return 0;
}

void noria_process_self(struct noria_process *self)
{
    struct stat_line line;
    struct stat status;

    self->pid = getpid();
    self->start_time = read_stat("/proc/self/stat", &line) == 0 ? line.start_time : 0;
    self->pid_namespace = stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
    /* Start times are told in the reader's time namespace, so another one is as foreign as another pid namespace. */
    if (self->pid_namespace != 0 && stat("/proc/self/ns/time", &status) == 0)
        self->pid_namespace ^= (uint64_t)status.st_ino << 32;
}

enum noria_process_state noria_process_look(const struct noria_process *self, const struct noria_process *other,
                                            bool thorough)
{
    struct stat_line line;
    char path[32];
    int rc;

    if (other->pid <= 0 || self->pid_namespace == 0 || self->pid_namespace != other->pid_namespace)
        return NORIA_PROCESS_UNKNOWN;
    if (kill(other->pid, 0) != 0 && errno == ESRCH)
        return NORIA_PROCESS_GONE;
    if (!thorough || self->start_time == 0 || other->start_time == 0)
        return NORIA_PROCESS_EXISTS;
    snprintf(path, sizeof(path), "/proc/%d/stat", other->pid);
    rc = read_stat(path, &line);
    if (rc == -ENOENT || rc == -ESRCH)
        return kill(other->pid, 0) != 0 && errno == ESRCH ? NORIA_PROCESS_GONE : NORIA_PROCESS_EXISTS;
    if (rc != 0)
        return NORIA_PROCESS_EXISTS;
    /* A leader may be a zombie while its threads run. */
    if (line.start_time != other->start_time || (line.state == 'Z' && line.threads <= 1) || line.state == 'X')
        return NORIA_PROCESS_GONE;
    return NORIA_PROCESS_EXISTS;
}

int noria_process_maps(int32_t pid, dev_t device, ino_t inode)
{
    char path[32], line[512];
    unsigned major_number, minor_number;
    unsigned long long number;
    int found = 0;
    FILE *maps;

    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    if (maps == NULL)
        return -errno;
    while (found == 0 && fgets(line, sizeof(line), maps) != NULL)
        if (sscanf(line, "%*s %*s %*s %x:%x %llu", &major_number, &minor_number, &number) == 3)
            found = number == inode && major_number == major(device) && minor_number == minor(device);
    fclose(maps);
    return found;
}
