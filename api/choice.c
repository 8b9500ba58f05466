/* SPDX-License-Identifier: BSD-2-Clause */
#include "choice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "nap.h"
#include "place.h"

enum { CHOOSER = 0, USERS = 1 }; /* lock bytes */
enum { TEXT = 4096, PLACES = 256, LONGEST_NAME = 128 };
static const char first_line[] = "noria auto 1", last_line[] = "end";

struct loan {
    uint64_t pid, fd, inode;
};

static void name_file(char *file, size_t size, const char *name)
{
    snprintf(file, size, "auto-%s", name);
}

/* ---------------------------------------------------------------------------------------------------- locks */

static int lock(int fd, int64_t byte, short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

/* Whether the name still leads to the locked file: its remover may have been faster. */
static bool is_current(struct noria_choice_file *file, const char *name)
{
    struct stat own, named;
    int fd = noria_place_open(name, 0);
    bool same = fd >= 0 && fstat(fd, &named) == 0 && fstat(file->fd, &own) == 0 && own.st_ino == named.st_ino &&
                own.st_dev == named.st_dev;

    if (fd >= 0)
        close(fd);
    if (same) {
        file->device = own.st_dev;
        file->inode = own.st_ino;
    }
    return same;
}

/* 0, -EAGAIN: somebody else has it, or it was removed just then. */
static int try_lock(struct noria_choice_file *file, const char *name, bool create)
{
    int rc;

    file->fd = noria_place_open(name, create ? O_CREAT : 0);
    if (file->fd < 0)
        return file->fd;
    file->guard = (struct noria_fork_guard){.drops = true};
    noria_fork_guard_add(&file->guard, file->fd);
    rc = lock(file->fd, CHOOSER, F_WRLCK);
    if (rc == 0 && !is_current(file, name))
        rc = -EAGAIN;
    if (rc != 0) {
        noria_choice_close(file);
        return rc == -EAGAIN ? rc : noria_fail(rc, "'%s' in noria's folder cannot be locked: %s", name, strerror(-rc));
    }
    return 0;
}

int noria_choice_lock(struct noria_choice_file *file, const char *name, bool create, int64_t deadline_ns)
{
    char own[LONGEST_NAME];
    int rc;

    name_file(own, sizeof(own), name);
    while ((rc = try_lock(file, own, create)) == -EAGAIN && noria_now_ns() < deadline_ns)
        noria_nap(deadline_ns);
    return rc != -EAGAIN
               ? rc
               : noria_fail(-ETIMEDOUT, "another process is just opening or removing 'auto:/%s' and does not get on",
                            name);
}

void noria_choice_unlock(struct noria_choice_file *file)
{
    lock(file->fd, CHOOSER, F_UNLCK);
}

void noria_choice_close(struct noria_choice_file *file)
{
    if (file->fd < 0)
        return;
    noria_fork_guard_remove(&file->guard);
    close(file->fd);
    file->fd = -1;
}

int noria_choice_remove(const char *name)
{
    char own[LONGEST_NAME];

    name_file(own, sizeof(own), name);
    return noria_place_remove(own);
}

bool noria_choice_is_used(const struct noria_choice_file *file)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = USERS, .l_len = 1};

    return fcntl(file->fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

int noria_choice_use(const struct noria_choice_file *file)
{
    int rc = lock(file->fd, USERS, F_RDLCK);

    return rc == 0 ? 0 : noria_fail(rc, "a file in noria's folder cannot be locked: %s", strerror(-rc));
}

/* ----------------------------------------------------------------------------------------------------- text */

/* The next line, ended by 0 instead of its line break; NULL: no whole one. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');

    if (end == NULL)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return line;
}

void noria_choice_read(const struct noria_choice_file *file, struct noria_choice *choice)
{
    char text[TEXT + 1], *at = text, *line;
    ssize_t size = pread(file->fd, text, TEXT, 0);
    struct noria_choice found = {0};
    size_t used = 0;

    *choice = (struct noria_choice){0};
    text[size > 0 ? size : 0] = '\0';
    line = next_line(&at);
    if (line == NULL || strcmp(line, first_line) != 0)
        return;
    line = next_line(&at);
    if (line == NULL || sscanf(line, "carried by %7s", found.scheme) != 1)
        return;
    while ((line = next_line(&at)) != NULL && strncmp(line, "refused ", 8) == 0)
        if (used + strlen(line + 8) + 2 < sizeof(found.refused))
            used += (size_t)sprintf(found.refused + used, "%s\n", line + 8);
    if (line != NULL && strcmp(line, last_line) == 0)
        *choice = found;
}

int noria_choice_write(const struct noria_choice_file *file, const struct noria_choice *choice)
{
    char text[TEXT] = "", lines[sizeof(choice->refused)], *at = lines, *line;
    size_t size = (size_t)snprintf(text, sizeof(text), "%s\ncarried by %s\n", first_line, choice->scheme);

    memcpy(lines, choice->refused, sizeof(lines));
    while ((line = next_line(&at)) != NULL)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "refused %s\n", line);
    size += (size_t)snprintf(text + size, sizeof(text) - size, "%s\n", last_line);
    if (ftruncate(file->fd, 0) == 0 && pwrite(file->fd, text, size, 0) == (ssize_t)size)
        return 0;
    return noria_fail(errno != 0 ? -errno : -ENOSPC,
                      "what carries the channel cannot be written down in noria's folder: %s", strerror(errno));
}

/* --------------------------------------------------------------------------------------- memory without a name */

static bool read_loan(const struct noria_choice_file *file, int place, struct loan *loan)
{
    return pread(file->fd, loan, sizeof(*loan), TEXT + place * (off_t)sizeof(*loan)) == (ssize_t)sizeof(*loan);
}

static void write_loan(const struct noria_choice_file *file, int place, const struct loan *loan)
{
    if (pwrite(file->fd, loan, sizeof(*loan), TEXT + place * (off_t)sizeof(*loan)) < 0)
        return; /* nobody finds it: others may lend it, too */
}

/* The memory, if that process still has it: the inode is the only proof that counts, and it has no name. By now the
 * number may be that of something else, which is not even opened: for a device or a FIFO that is an event. -errno. */
static int open_loan(const struct loan *loan, int access)
{
    char path[64];
    struct stat status;
    int seen, fd;

    if (loan->pid == 0)
        return -ENOENT;
    snprintf(path, sizeof(path), "/proc/%llu/fd/%llu", (unsigned long long)loan->pid, (unsigned long long)loan->fd);
    seen = open(path, O_PATH | O_CLOEXEC);
    if (seen < 0)
        return -errno;
    if (fstat(seen, &status) != 0 || !S_ISREG(status.st_mode) || status.st_ino != loan->inode || status.st_nlink != 0) {
        close(seen);
        return -ENOENT;
    }
    if (access == O_PATH)
        return seen;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", seen);
    fd = open(path, access | O_CLOEXEC);
    fd = fd < 0 ? -errno : fd;
    close(seen);
    return fd;
}

/* Whether its borrowers would find nothing there. */
static bool is_over(const struct loan *loan)
{
    int fd = open_loan(loan, O_PATH);

    if (fd >= 0)
        close(fd);
    return fd == -ENOENT;
}

/* What this process writes down to lend it. */
static bool describe_loan(int memory, struct loan *own)
{
    struct stat status;

    if (memory < 0 || fstat(memory, &status) != 0)
        return false;
    *own = (struct loan){(uint64_t)getpid(), (uint64_t)memory, status.st_ino};
    return true;
}

int noria_choice_lend(const struct noria_choice_file *file, int memory)
{
    struct loan own, loan;

    if (!describe_loan(memory, &own))
        return -1;
    for (int place = 0; place < PLACES; place++)
        if (!read_loan(file, place, &loan) || is_over(&loan)) {
            write_loan(file, place, &own);
            return place;
        }
    return -1;
}

void noria_choice_take_back(const struct noria_choice_file *file, int place, int memory)
{
    const struct loan nothing = {0};
    struct loan own, loan;

    if (place >= 0 && describe_loan(memory, &own) && read_loan(file, place, &loan) &&
        memcmp(&own, &loan, sizeof(own)) == 0)
        write_loan(file, place, &nothing);
}

int noria_choice_borrow(const struct noria_choice_file *file)
{
    struct loan loan;
    int rc = -ENOENT;

    for (int place = 0; place < PLACES && read_loan(file, place, &loan); place++) {
        int fd = open_loan(&loan, O_RDWR);
        if (fd >= 0)
            return fd;
        if (fd != -ENOENT)
            rc = fd; /* it is there, and not for us */
    }
    return rc;
}
