/* SPDX-License-Identifier: BSD-2-Clause */
#include "checks.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SHM "/dev/shm"
enum { LITTLE_SPACE = 64 << 20, FEW_DESCRIPTORS = 256 };

void found(struct finding *finding, enum verdict verdict, const char *cure, const char *text, ...)
{
    va_list arguments;
    va_start(arguments, text);
    finding->verdict = verdict;
    vsnprintf(finding->text, sizeof finding->text, text, arguments);
    snprintf(finding->cure, sizeof finding->cure, "%s", cure);
    va_end(arguments);
}

/* A file in shared memory without a name, or -errno. */
static int scratch_file(void)
{
    char name[64];
    snprintf(name, sizeof name, "/noria-doctor-%ld", (long)getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    shm_unlink(name);
    return fd;
}

static void look_at_shm(struct finding *finding)
{
    struct statfs fs;
    if (statfs(SHM, &fs) != 0)
        found(finding, VERDICT_FAIL, "Mount it: mount -t tmpfs -o mode=1777 tmpfs " SHM ".",
              SHM " cannot be looked at: %s", strerror(errno));
    else if (fs.f_type != TMPFS_MAGIC)
        found(finding, VERDICT_WARN, "Mount it: mount -t tmpfs -o mode=1777 tmpfs " SHM ".",
              SHM " is not a tmpfs: channels there are written to a disk and survive a reboot");
    else
        found(finding, VERDICT_OK, "", SHM " is a tmpfs");
}

static void look_at_writing(struct finding *finding)
{
    int fd = scratch_file();
    if (fd < 0) {
        found(finding, VERDICT_FAIL,
              "Its permissions should be 1777 (chmod 1777 " SHM "); a container must not mount it read-only.",
              "No file can be made in " SHM ": %s", strerror(-fd));
        return;
    }
    int error = posix_fallocate(fd, 0, 4096);
    if (error != 0)
        found(finding, VERDICT_FAIL, "Free some with `noria rm`, or enlarge it (see the size).",
              "No space can be had in " SHM ": %s", strerror(error));
    else
        found(finding, VERDICT_OK, "", "Files can be made and filled in " SHM);
    close(fd);
}

static void look_at_size(struct finding *finding)
{
    struct statvfs fs;
    if (statvfs(SHM, &fs) != 0) {
        found(finding, VERDICT_FAIL, "See the first line.", SHM " cannot be looked at: %s", strerror(errno));
        return;
    }
    uint64_t size = (uint64_t)fs.f_blocks * fs.f_frsize, free = (uint64_t)fs.f_bavail * fs.f_frsize;
    bool little = free < LITTLE_SPACE || size <= LITTLE_SPACE; /* 64 MiB is what docker gives */
    found(finding, little ? VERDICT_WARN : VERDICT_OK,
          little ? "Enlarge it: mount -o remount,size=1G " SHM "; in Docker: docker run --shm-size=1g, or --ipc=host; "
                   "remove old channels with noria rm; noria size tells what one takes."
                 : "",
          "%" PRIu64 " MiB free of %" PRIu64 " MiB", free >> 20, size >> 20);
}

static void look_at_membarrier(struct finding *finding)
{
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    if (commands < 0)
        found(finding, VERDICT_WARN, "Allow membarrier in the seccomp filter, or use Linux 4.16 or later.",
              "membarrier is not there (%s): senders pay for a fence", strerror(errno));
    else if (!(commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED))
        found(finding, VERDICT_WARN, "Use Linux 4.16 or later.",
              "membarrier has no GLOBAL_EXPEDITED: senders pay for a fence");
    else
        found(finding, VERDICT_OK, "", "membarrier has GLOBAL_EXPEDITED");
}

static void look_at_futex(struct finding *finding)
{
    uint32_t word = 1;
    long woken = syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
    long waited = syscall(SYS_futex, &word, FUTEX_WAIT, 2, NULL, NULL, 0);
    if (woken == 0 && waited < 0 && errno == EAGAIN)
        found(finding, VERDICT_OK, "", "futex works");
    else
        found(finding, VERDICT_FAIL, "Allow futex in the seccomp filter.", "futex does not work: %s",
              strerror(errno));
}

/* Whether two open descriptions of one file exclude each other: 0 if so, else an error number. */
static int try_locks(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int other = open(path, O_RDWR | O_CLOEXEC);
    if (other < 0)
        return errno;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)1 << 60, .l_len = 1};
    int error = 0;
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        error = errno;
    else if (fcntl(other, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES))
        error = ENOLCK;
    close(other);
    return error;
}

static void look_at_locks(struct finding *finding)
{
    int fd = scratch_file();
    int error = fd < 0 ? -fd : try_locks(fd);
    if (error != 0)
        found(finding, VERDICT_FAIL,
              "They need Linux 3.15, a " SHM " that is writable, and /proc mounted in the container.",
              "Locks of open file descriptions, which tell the living from the dead, do not work: %s",
              strerror(error));
    else
        found(finding, VERDICT_OK, "", "Locks of open file descriptions work in " SHM);
    if (fd >= 0)
        close(fd);
}

static void look_at_memfd(struct finding *finding)
{
    int fd = memfd_create("noria-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        found(finding, VERDICT_WARN, "Only anon: and memfd: need it. It came with Linux 3.17.",
              "memfd_create does not work: %s", strerror(errno));
        return;
    }
    bool sealed =
        ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && ftruncate(fd, 0) != 0;
    if (sealed)
        found(finding, VERDICT_OK, "", "memfd_create and its seals work");
    else
        found(finding, VERDICT_WARN, "Only anon: and memfd: need them.", "A memfd cannot be sealed");
    close(fd);
}

static void look_at_descriptors(struct finding *finding)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        found(finding, VERDICT_WARN, "", "The limit of open files cannot be read: %s", strerror(errno));
        return;
    }
    bool few = limit.rlim_cur < FEW_DESCRIPTORS;
    found(finding, few ? VERDICT_WARN : VERDICT_OK, few ? "Raise it: ulimit -n 1024." : "",
          "A process may open %ju files, and every open channel takes at least one",
          (uintmax_t)limit.rlim_cur);
}

/* The namespace of that kind, as "pid:[4026531836]". False: it cannot be read. */
static bool read_namespace(const char *path, char name[64])
{
    ssize_t len = readlink(path, name, 63);
    name[len < 0 ? 0 : len] = '\0';
    return len >= 0;
}

static void look_at_ipc(struct finding *finding)
{
    static const char first[] =
        "ipc:[4026531839]"; /* the number the kernel gives the machine's own namespace */
    char name[64];
    if (!read_namespace("/proc/self/ns/ipc", name))
        found(finding, VERDICT_WARN, "Mount /proc: mount -t proc proc /proc.",
              "The ipc namespace cannot be read (%s)", strerror(errno));
    else if (strcmp(name, first) == 0)
        found(finding, VERDICT_OK, "", "The ipc namespace is the machine's own");
    else
        found(finding, VERDICT_WARN,
              "If they are to be shared: docker run --ipc=host, or --ipc=container:NAME (started with --ipc=shareable); or mount one directory at " SHM
              " in both, for shm:, and name channels in it, not System V ones.",
              "The ipc namespace is a container's, %s: channels of others on System V are not there, and mostly neither are "
              "those in their " SHM, name);
}

static void look_at_pids(struct finding *finding)
{
    static const char first[] =
        "pid:[4026531836]"; /* the same for these */
    char name[64];
    if (!read_namespace("/proc/self/ns/pid", name))
        found(finding, VERDICT_WARN, "Mount /proc: mount -t proc proc /proc.",
              "The pid namespace cannot be read (%s): deaths are told by locks alone", strerror(errno));
    else if (strcmp(name, first) == 0)
        found(finding, VERDICT_OK, "", "The pid namespace is the machine's own");
    else
        found(finding, VERDICT_OK, "",
              "The pid namespace is a container's, %s: peers in others are told dead by their locks alone",
              name);
}

/* How many users of the machine this namespace knows, all of them being 2^32 - 1. */
static uint64_t mapped_users(void)
{
    FILE *map = fopen("/proc/self/uid_map", "re");
    uint64_t inside, outside, count, users = 0;
    while (map != NULL && fscanf(map, "%" SCNu64 " %" SCNu64 " %" SCNu64, &inside, &outside, &count) == 3)
        users += count;
    if (map != NULL)
        fclose(map);
    return users;
}

static void look_at_users(struct finding *finding)
{
    uint64_t users = mapped_users();
    if (users == 0)
        found(finding, VERDICT_WARN, "Mount /proc: mount -t proc proc /proc.", "The user namespace cannot be read");
    else if (users == UINT32_MAX)
        found(finding, VERDICT_OK, "", "The user namespace is the machine's own");
    else
        found(finding, VERDICT_WARN,
              "Share channels within one user namespace (docker run --userns=host), or open with options.foreign (noria "
              "send and recv --foreign) and a mode that lets others in (noria create --mode 0666).",
              "The user namespace is a container's with %" PRIu64 " user%s: channels of all others seem to be nobody's, and "
              "are refused", users, users == 1 ? "" : "s");
}

/* What the file says on RemoveIPC: 0 no, 1 yes, else as it was before. */
static int removes_by(const char *path, int before)
{
    char line[256], value[8];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, " RemoveIPC = %7[a-z0-9]", value) == 1)
            before = strchr("nf0", value[0]) == NULL && strcmp(value, "off") != 0;
    }
    if (file != NULL)
        fclose(file);
    return before;
}

/* By name, whatever the directory; of one name what stands in /etc comes last, that in /usr/lib first. */
static int in_order(const void *a, const void *b)
{
    const char *one = *(const char *const *)a, *other = *(const char *const *)b;
    int order = strcmp(strrchr(one, '/'), strrchr(other, '/'));
    return order != 0 ? order : strcmp(other, one);
}

/* As logind(8) reads it: the file of the first directory that has one, then the additions of all of them in order of name,
 * those of one name being one: the first directory's. */
static bool logind_removes(void)
{
    static const char *const folders[] = {"/etc/systemd", "/run/systemd", "/usr/lib/systemd"};
    glob_t more = {0};
    char path[64];
    int removes = -1;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s/logind.conf", folders[i]);
        if (removes < 0 && access(path, R_OK) == 0)
            removes = removes_by(path, 1);
        snprintf(path, sizeof path, "%s/logind.conf.d/*.conf", folders[i]);
        glob(path, i > 0 ? GLOB_APPEND : 0, NULL, &more);
    }
    if (more.gl_pathc > 0)
        qsort(more.gl_pathv, more.gl_pathc, sizeof *more.gl_pathv, in_order);
    for (size_t i = 0; i < more.gl_pathc; i++)
        if (i + 1 == more.gl_pathc || strcmp(strrchr(more.gl_pathv[i], '/'), strrchr(more.gl_pathv[i + 1], '/')) != 0)
            removes = removes_by(more.gl_pathv[i], removes);
    globfree(&more);
    return removes != 0;
}

static void look_at_logout(struct finding *finding)
{
    const uid_t first_of_people = 1000;
    bool systemd = access("/run/systemd/system", F_OK) == 0;
    if (systemd && getuid() >= first_of_people && logind_removes())
        found(finding, VERDICT_WARN,
              "If they are to stay: RemoveIPC=no in /etc/systemd/logind.conf, or in the file of its logind.conf.d that comes last.",
              "systemd removes your channels when you log out everywhere");
    else
        found(finding, VERDICT_OK, "", "Nobody removes your channels when you log out");
}

/* clang-format off */
const struct check machine_checks[] = {
    {"shared memory", look_at_shm},
    {"writable", look_at_writing},
    {"size", look_at_size},
    {"locks", look_at_locks},
    {"futex", look_at_futex},
    {"membarrier", look_at_membarrier},
    {"memfd", look_at_memfd},
    {"open files", look_at_descriptors},
    {"ipc namespace", look_at_ipc},
    {"pid namespace", look_at_pids},
    {"user namespace", look_at_users},
    {"logout", look_at_logout},
    {NULL, NULL}
};
/* clang-format on */
