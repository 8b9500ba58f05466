/* SPDX-License-Identifier: BSD-2-Clause */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool read_fully(int fd, void *buffer, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (char *)buffer + done, len - done, (off_t)(offset + done));
        if (got == 0)
            errno = ENODATA;
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

bool write_fully(int fd, const void *data, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t put = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));
        if (put < 0 && errno != EINTR)
            return false;
        done += put > 0 ? (size_t)put : 0;
    }
    return true;
}

/* Without a name from the start, so that nothing is left behind however we end. */
int nameless_file(void)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/noria-demo-XXXXXX",
             folder != NULL && folder[0] != '\0' ? folder : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "demo: no file can be made in '%s': %s\n", folder != NULL ? folder : "/tmp",
                strerror(errno));
        return -1;
    }
    unlink(path);
    return fd;
}

/* ---------------------------------------------------------------------------- the machine's own libraries */

static struct {
    int fd;
    uint64_t size, wanted;
} collection; /* nftw passes no context on */

static bool is_library(const char *path)
{
    const char *name = strrchr(path, '/');
    const char *suffix = name == NULL ? NULL : strstr(name, ".so");
    return suffix != NULL && (suffix[3] == '\0' || suffix[3] == '.');
}

/* Files that cannot be read are left out. */
static int collect_file(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F || !S_ISREG(stat->st_mode) || !is_library(path))
        return 0;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    static char buffer[1 << 20];
    ssize_t got;
    while (from >= 0 && collection.size < collection.wanted &&
           (got = read(from, buffer, sizeof buffer)) > 0) {
        uint64_t left = collection.wanted - collection.size;
        size_t len = (uint64_t)got < left ? (size_t)got : (size_t)left;
        if (!write_fully(collection.fd, buffer, len, collection.size)) {
            close(from);
            return -1;
        }
        collection.size += len;
    }
    if (from >= 0)
        close(from);
    return collection.size >= collection.wanted ? 1 : 0;
}

/* Once over the machine's folders of libraries. */
static bool collect_once(void)
{
    static const char *const folders[] = {"/usr/lib", "/lib", "/usr/lib64"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (nftw(folders[i], collect_file, 32, FTW_PHYS) < 0 && errno != ENOENT) {
            fprintf(stderr, "demo: the input cannot be made: %s\n", strerror(errno));
            return false;
        }
    }
    return true;
}

/* Over and over, if the machine has fewer bytes of them. */
static bool collect_libraries(void)
{
    while (collection.size < collection.wanted) {
        uint64_t before = collection.size;
        if (!collect_once())
            return false;
        if (collection.size == before) {
            fputs("demo: no shared library was found in /usr/lib; name a file to send\n", stderr);
            return false;
        }
    }
    return true;
}

int real_input(uint64_t bytes)
{
    int fd = nameless_file();
    if (fd < 0)
        return -1;
    collection.fd = fd;
    collection.size = 0;
    collection.wanted = bytes;
    if (collect_libraries())
        return fd;
    close(fd);
    return -1;
}

/* ---------------------------------------------------------------------------------------------- checksums */

static pid_t start_sha256sum(int fd, int out)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    if (lseek(fd, 0, SEEK_SET) == 0 && dup2(fd, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0) {
        execlp("sha256sum", "sha256sum", (char *)NULL);
        execlp("shasum", "shasum", "-a", "256", (char *)NULL);
    }
    _exit(127);
}

int file_checksum(int fd, char checksum[CHECKSUM_DIGITS + 1])
{
    int ends[2], status = 1;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        fprintf(stderr, "demo: no pipe: %s\n", strerror(errno));
        return -1;
    }
    pid_t child = start_sha256sum(fd, ends[1]);
    close(ends[1]);
    size_t got = 0;
    ssize_t more;
    while (got < CHECKSUM_DIGITS && (more = read(ends[0], checksum + got, CHECKSUM_DIGITS - got)) > 0)
        got += (size_t)more;
    close(ends[0]);
    if (child > 0)
        waitpid(child, &status, 0);
    checksum[got] = '\0';
    if (got == CHECKSUM_DIGITS && (status == 0 || WIFSIGNALED(status)))
        return 0;
    fputs("demo: sha256sum, of coreutils, did not give a checksum\n", stderr);
    return -1;
}
