/* SPDX-License-Identifier: BSD-2-Clause */
/* All of this is async-signal-safe, for who tries to send may be a signal handler: no stdio. */
#include "liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "number.h"

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
    int rc;

    do
        rc = fcntl(fd, F_OFD_SETLK, &lock);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : errno == EACCES ? -EAGAIN : -errno;
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

/* ----------------------------------------------------------------------------------------- paths of /proc */

/* The text `n` fields on, or NULL if it ends before. */
static const char *skip_fields(const char *text, int n)
{
    for (; n > 0 && (text = strchr(text, ' ')) != NULL; n--)
        text += strspn(text, " ");
    return text;
}

/* Opens /proc/PID/NAME to read. The descriptor, or -errno. */
static int open_of_process(int32_t pid, const char *name)
{
    char path[32];
    int fd;

    stpcpy(noria_number_print(stpcpy(path, "/proc/"), (unsigned)pid, 10, 1), name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

int noria_lock_own_description(int fd)
{
    char path[32];
    int own;

    noria_number_print(stpcpy(path, "/proc/self/fd/"), (unsigned)fd, 10, 1);
    own = open(path, O_RDWR | O_CLOEXEC);
    return own >= 0 ? own : -errno;
}

/* ---------------------------------------------------------------------------------------------- processes */

struct stat_line {
    char state;
    uint64_t threads;
    uint64_t start_time;
};

/* Fields 3, 20 and 22; the name before them may hold anything, brackets and blanks included. */
static int parse_stat(const char *text, struct stat_line *line)
{
    const char *state = strrchr(text, ')'), *threads, *start_time;

    state = state != NULL ? skip_fields(state, 1) : NULL;
    threads = state != NULL ? skip_fields(state, 17) : NULL;
    start_time = threads != NULL ? skip_fields(threads, 2) : NULL;
    if (start_time == NULL || noria_number_parse(threads, 10, &line->threads) == NULL ||
        noria_number_parse(start_time, 10, &line->start_time) == NULL)
        return -EIO;
    line->state = *state;
    return 0;
}

static int read_stat(int32_t pid, struct stat_line *line)
{
    char text[1024];
    int fd = open_of_process(pid, "/stat");
    ssize_t length;

    if (fd < 0)
        return fd;
    length = read(fd, text, sizeof(text) - 1);
    if (length < 0)
        length = -errno;
    close(fd);
    if (length < 0)
        return (int)length;
    text[length] = '\0';
    return parse_stat(text, line);
}

/* Whether /proc is of our pid namespace; after unshare it may be of the one outside. */
static bool proc_is_ours(int32_t pid)
{
    char text[16];
    ssize_t length = readlink("/proc/self", text, sizeof(text) - 1);
    uint64_t seen;

    if (length <= 0)
        return false;
    text[length] = '\0';
    return noria_number_parse(text, 10, &seen) != NULL && seen == (uint64_t)pid;
}

static uint64_t rotated(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    for (; rounds > 0; rounds--) {
        v[0] += v[1], v[1] = rotated(v[1], 13) ^ v[0], v[0] = rotated(v[0], 32);
        v[2] += v[3], v[3] = rotated(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = rotated(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = rotated(v[1], 17) ^ v[2], v[2] = rotated(v[2], 32);
    }
}

/* The kernel gives each program 16 random bytes. The C library's stack guard is made of them, so what others get to see
 * is a hash that does not lead back: SipHash-2-4 of nothing, with them as its key. A program may wipe them once it
 * has used them; then nothing is known. */
uint64_t noria_process_image(void)
{
    const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);
    uint64_t key[2] = {0, 0}, v[4];

    if (random != NULL)
        memcpy(key, random, sizeof(key));
    if (key[0] == 0 && key[1] == 0)
        return 0;
    v[0] = key[0] ^ UINT64_C(0x736f6d6570736575);
    v[1] = key[1] ^ UINT64_C(0x646f72616e646f6d);
    v[2] = key[0] ^ UINT64_C(0x6c7967656e657261);
    v[3] = key[1] ^ UINT64_C(0x7465646279746573);
    sip_rounds(v, 2);
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    v[0] ^= v[1] ^ v[2] ^ v[3];
    memset(key, 0, sizeof(key));
    return v[0];
}

/* Where the kernel has put a program and what it told it at its start: with addresses that are random, the same for
 * nobody, and for ever the same until exec. Few bits, lest those who may not look learn an address. */
uint32_t noria_process_program(int32_t pid)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    uint8_t told[1024];
    int fd = open_of_process(pid, "/auxv");
    ssize_t length = fd >= 0 ? read(fd, told, sizeof(told)) : -1;

    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < length; i++)
        hash = (hash ^ told[i]) * UINT64_C(0x100000001b3);
    return length > 0 ? 1 + (uint32_t)((hash ^ hash >> 32) % ((1u << NORIA_PROCESS_PROGRAM_BITS) - 1)) : 0;
}

static bool is_another_program(const struct noria_process *other)
{
    uint32_t now = other->program != 0 ? noria_process_program(other->pid) : 0;

    return now != 0 && now != other->program;
}

void noria_process_self(struct noria_process *self)
{
    struct stat_line line;
    struct stat status;

    self->pid = getpid();
    self->image = noria_process_image();
    self->program = noria_process_program(self->pid);
    self->start_time = read_stat(self->pid, &line) == 0 ? line.start_time : 0;
    self->pid_namespace = stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
    if (!proc_is_ours(self->pid)) /* /proc/NUMBER is somebody else there: only locks count */
        self->start_time = self->pid_namespace = self->program = 0;
    /* Start times are told in the reader's time namespace, so another one is as foreign as another pid namespace. */
    if (self->pid_namespace != 0 && stat("/proc/self/ns/time", &status) == 0)
        self->pid_namespace ^= (uint64_t)status.st_ino << 32;
}

enum noria_process_state noria_process_look(const struct noria_process *self, const struct noria_process *other,
                                            bool thorough)
{
    struct stat_line line;
    int rc;

    if (other->pid <= 0 || self->pid_namespace == 0 || self->pid_namespace != other->pid_namespace)
        return NORIA_PROCESS_UNKNOWN;
    if (other->pid == self->pid && other->image != 0 && self->image != 0 && other->image != self->image)
        return NORIA_PROCESS_GONE; /* an earlier program of ours, or of somebody who had our number */
    if (kill(other->pid, 0) != 0 && errno == ESRCH)
        return NORIA_PROCESS_GONE;
    if (!thorough || self->start_time == 0 || other->start_time == 0)
        return NORIA_PROCESS_EXISTS;
    rc = read_stat(other->pid, &line);
    if (rc == -ENOENT || rc == -ESRCH)
        return kill(other->pid, 0) != 0 && errno == ESRCH ? NORIA_PROCESS_GONE : NORIA_PROCESS_EXISTS;
    if (rc != 0)
        return NORIA_PROCESS_EXISTS;
    /* Of start times the lower bits are enough, which somebody may have kept: two processes of one number are not 31 days
     * apart to the tick. A leader may be a zombie while its threads run. */
    if (((line.start_time ^ other->start_time) & ((1u << NORIA_PROCESS_START_BITS) - 1)) != 0 ||
        (line.state == 'Z' && line.threads <= 1) || line.state == 'X')
        return NORIA_PROCESS_GONE;
    return is_another_program(other) ? NORIA_PROCESS_GONE : NORIA_PROCESS_EXISTS;
}

/* A line of maps: range, rights, offset, device as major:minor, inode, path. */
struct map_line {
    uint64_t start, end;
    dev_t device;
    ino_t inode;
};

static bool parse_map(const char *text, struct map_line *line)
{
    const char *at = skip_fields(text, 3), *end = noria_number_parse(text, 16, &line->start);
    uint64_t major_number, minor_number, inode;

    if (at == NULL || end == NULL || *end != '-' || noria_number_parse(end + 1, 16, &line->end) == NULL ||
        (at = noria_number_parse(at, 16, &major_number)) == NULL || *at != ':' ||
        (at = noria_number_parse(at + 1, 16, &minor_number)) == NULL || (at = skip_fields(at, 1)) == NULL ||
        noria_number_parse(at, 10, &inode) == NULL)
        return false;
    line->device = makedev((unsigned)major_number, (unsigned)minor_number);
    line->inode = (ino_t)inode;
    return true;
}

/* Looks for a line that `is_it` likes: 1 and the line, 0, or -errno. */
static int find_map(int32_t pid, bool (*is_it)(const struct map_line *line, const struct map_line *wanted),
                    const struct map_line *wanted, struct map_line *found)
{
    char chunk[1024], text[128]; /* the start of a line: what is left out is of its path */
    int fd = open_of_process(pid, "/maps"), rc = 0;
    bool any = false;
    size_t used = 0;
    ssize_t length;

    if (fd < 0)
        return fd;
    while (rc == 0 && (length = read(fd, chunk, sizeof(chunk))) != 0) {
        any = true;
        if (length < 0)
            rc = -errno;
        for (ssize_t i = 0; i < length && rc == 0; i++) {
            if (chunk[i] != '\n') {
                text[used] = chunk[i];
                used += used < sizeof(text) - 1;
                continue;
            }
            text[used] = '\0';
            rc = parse_map(text, found) && is_it(found, wanted);
            used = 0;
        }
    }
    close(fd);
    return any ? rc : -ESRCH; /* the memory of a process whose first thread has ended is not shown, and no answer */
}

static bool is_of_file(const struct map_line *line, const struct map_line *wanted)
{
    return line->inode == wanted->inode && line->device == wanted->device;
}

static bool is_around(const struct map_line *line, const struct map_line *wanted)
{
    return line->start <= wanted->start && wanted->start < line->end;
}

int noria_process_maps(int32_t pid, dev_t device, ino_t inode)
{
    const struct map_line wanted = {.device = device, .inode = inode};
    struct map_line found;

    return find_map(pid, is_of_file, &wanted, &found);
}

int noria_process_mapping(const void *place, dev_t *device, ino_t *inode)
{
    const struct map_line wanted = {.start = (uintptr_t)place};
    struct map_line found;
    int rc = find_map((int32_t)getpid(), is_around, &wanted, &found);

    if (rc != 1)
        return rc < 0 ? rc : -ENOENT;
    *device = found.device;
    *inode = found.inode;
    return 0;
}
