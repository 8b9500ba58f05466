/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whichever one system call of creating, attaching, looking at, removing and collecting a segment the system
 * refuses, and for whatever reason, the call ends as if nothing had happened or with an error code and a sentence; no
 * descriptor, mapping, name or id is left, and the same call succeeds as soon as the system is itself again.
 *
 * The calls are refused here, in the functions of the C library that the code under test is linked with: one after the
 * other, until there is none left to be refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "detail.h"
#include "segment.h"

#define SIZE UINT64_C(20480)
enum { LOCKS = 3, MEMORY = 1 << 16 };

/* ---------------------------------------------------------------------------------------------------------- refusing */

static int countdown; /* the call that is refused; 0: none */
static int reason;
static const char *refused; /* which one it was */

static bool is_refused(const char *call)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    refused = call;
    errno = reason;
    return true;
}

/* The function that would be called without us. */
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) \
    *(void **)&real = dlsym(RTLD_NEXT, name)

int open(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;

    va_start(rest, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_refused("open") ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int shm_open(const char *name, int flags, mode_t mode)
{
    char path[300];

    snprintf(path, sizeof(path), "/dev/shm%s", name);
    return is_refused("shm_open") ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

int memfd_create(const char *name, unsigned flags)
{
    return is_refused("memfd_create") ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    return is_refused("pread") ? -1 : (ssize_t)syscall(SYS_pread64, fd, to, size, offset);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t offset)
{
    return is_refused("pwrite") ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, from, size, offset);
}

int fstat(int fd, struct stat *status)
{
    REAL(int, "fstat", int, struct stat *);
    return is_refused("fstat") ? -1 : real(fd, status);
}

int lstat(const char *path, struct stat *status)
{
    REAL(int, "lstat", const char *, struct stat *);
    return is_refused("lstat") ? -1 : real(path, status);
}

int ftruncate(int fd, off_t size)
{
    return is_refused("ftruncate") ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    REAL(int, "posix_fallocate", int, off_t, off_t);
    return is_refused("posix_fallocate") ? reason : real(fd, offset, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return is_refused("fallocate") ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

void *mmap(void *start, size_t size, int rights, int flags, int fd, off_t offset)
{
    return is_refused("mmap") ? MAP_FAILED : (void *)syscall(SYS_mmap, start, size, rights, flags, fd, offset);
}

int madvise(void *start, size_t size, int advice)
{
    return is_refused("madvise") ? -1 : (int)syscall(SYS_madvise, start, size, advice);
}

int fchmod(int fd, mode_t mode)
{
    return is_refused("fchmod") ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int fcntl(int fd, int command, ...)
{
    va_list rest;
    long argument;

    va_start(rest, command);
    argument = va_arg(rest, long);
    va_end(rest);
    return is_refused("fcntl") ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

int flock(int fd, int operation)
{
    return operation != LOCK_UN && is_refused("flock") ? -1 : (int)syscall(SYS_flock, fd, operation);
}

int unlink(const char *path)
{
    return is_refused("unlink") ? -1 : (int)syscall(SYS_unlink, path);
}

int shmget(key_t key, size_t size, int flags)
{
    return is_refused("shmget") ? -1 : (int)syscall(SYS_shmget, key, size, flags);
}

void *shmat(int id, const void *at, int flags)
{
    return is_refused("shmat") ? (void *)-1 : (void *)syscall(SYS_shmat, id, at, flags);
}

int shmctl(int id, int command, struct shmid_ds *status)
{
    return is_refused("shmctl") ? -1 : (int)syscall(SYS_shmctl, id, command, status);
}

int semget(key_t key, int count, int flags)
{
    return is_refused("semget") ? -1 : (int)syscall(SYS_semget, key, count, flags);
}

int semctl(int id, int number, int command, ...)
{
    va_list rest;
    void *argument;

    va_start(rest, command);
    argument = va_arg(rest, void *);
    va_end(rest);
    return is_refused("semctl") ? -1 : (int)syscall(SYS_semctl, id, number, command, argument);
}

int semop(int id, struct sembuf *steps, size_t count)
{
    /* Giving back what is held needs nothing that could be refused. */
    return steps[0].sem_op >= 0 && is_refused("semop") ? -1 : (int)syscall(SYS_semop, id, steps, count);
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(FILE *, "fopen", const char *, const char *);
    return is_refused("fopen") ? NULL : real(path, mode);
}

/* ------------------------------------------------------------------------------------------------------------ the cases */

static const struct place {
    const struct noria_segment_backend *backend;
    char name[64];
} *place;
static char path_of_place[96];
static void *memory;
static struct noria_segment keeper; /* who had it before; backend NULL: nobody */

static int fill(void *content, size_t size, void *context)
{
    (void)context;
    memset(content, 0x5a, size);
    return 0;
}

static struct noria_segment_request request_for(bool create)
{
    return (struct noria_segment_request){.backend = place->backend, .name = place->name, .create = create, .mode = 0600,
                                          .memory = memory, .memory_size = MEMORY, .size = SIZE, .locks = LOCKS,
                                          .open_timeout_ns = 20 * NORIA_NS_PER_MS, .format = fill};
}

static int open_and_close(bool create)
{
    const struct noria_segment_request request = request_for(create);
    struct noria_segment segment;
    int rc = noria_segment_open(&segment, &request);

    if (rc != 0)
        return rc;
    assert_int_equal(((uint8_t *)noria_segment_content(&segment))[SIZE - NORIA_SEGMENT_CONTENT - 1], 0x5a);
    rc = segment.backend->lock(&segment, 1); /* as a participant does */
    if (rc == 0)
        segment.backend->unlock(&segment, 1);
    else
        noria_fail(rc, "no lock is to be had");
    if (create && !place->backend->named)
        noria_segment_forget(&segment);
    noria_segment_close(&segment);
    return rc;
}

static int create(void)
{
    return open_and_close(true);
}

static int attach(void)
{
    return open_and_close(false);
}

static int look(void)
{
    struct noria_segment segment;
    bool unfinished;
    int rc = noria_segment_inspect(&segment, place->backend, place->name, &unfinished);

    if (rc == 0)
        noria_segment_close(&segment);
    return rc;
}

static int ask(void)
{
    return noria_segment_in_use(place->backend, place->name);
}

static int take_away(void)
{
    return noria_segment_unlink(place->backend, place->name);
}

static bool everything_is_waste(const struct noria_segment *segment, enum noria_segment_waste found, void *context)
{
    (void)segment;
    (void)found;
    (void)context;
    return true;
}

static int collect(void)
{
    int rc = noria_segment_reap(place->backend, place->name, false, everything_is_waste, NULL);

    return rc > 0 ? 0 : rc;
}

static int attach_again(void)
{
    struct noria_segment segment;
    int rc = noria_segment_attach(&segment, &keeper);

    if (rc != 0)
        return rc;
    rc = segment.backend->any_held(&segment);
    noria_segment_close(&segment);
    return rc >= 0 ? 0 : noria_fail(rc, "nobody can be told");
}

static int describe(void)
{
    struct noria_segment_facts facts;
    int rc = place->backend->describe(place->name, &facts);

    return rc == 0 ? 0 : noria_fail(rc, "it cannot be described");
}

static int one(const char *name, void *context)
{
    (void)name;
    (void)context;
    return 0;
}

static int list(void)
{
    return place->backend->list(one, NULL);
}

static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Lines of a list, our mappings of segments for instance. */
static int count_lines(const char *path, const char *with)
{
    FILE *file = fopen(path, "re");
    char line[512];
    int count = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, with) != NULL;
    if (file != NULL)
        fclose(file);
    return count;
}

static bool alone; /* nobody else's System V objects are in sight */

static int count_left(void)
{
    int objects = alone ? count_lines("/proc/sysvipc/shm", "") + count_lines("/proc/sysvipc/sem", "") : 0;

    return count_descriptors() + count_lines("/proc/self/maps", " rw-s ") + objects + (access(path_of_place, F_OK) == 0);
}

static void prepare(bool exists)
{
    if (place->backend == &noria_segment_memory)
        memset(memory, 0, MEMORY);
    if (exists) {
        const struct noria_segment_request request = request_for(true);
        assert_int_equal(noria_segment_open(&keeper, &request), 0);
    }
}

/* Sets of locks whose removal was refused go with the next segment that the user makes or removes. */
static void let_others_sweep(void)
{
    const struct noria_segment_request request = {.backend = &noria_segment_sysv, .name = "0x75999999", .create = true,
                                                  .mode = 0600, .size = SIZE, .locks = LOCKS, .format = fill};
    struct noria_segment segment;

    assert_int_equal(noria_segment_open(&segment, &request), 0);
    noria_segment_close(&segment);
    assert_int_equal(noria_segment_unlink(&noria_segment_sysv, "0x75999999"), 0);
}

static void clear(bool exists)
{
    if (exists) {
        if (!place->backend->named)
            noria_segment_forget(&keeper);
        noria_segment_close(&keeper);
    }
    if (place->backend->named)
        noria_segment_unlink(place->backend, place->name);
    if (strcmp(place->backend->scheme, "sysv") == 0)
        let_others_sweep();
    noria_fail(0, "%s", "");
}

static const struct scenario {
    const char *name;
    int (*run)(void);
    bool exists, by_name, listed;
} scenarios[] = {
    {"create", create, false, false, false},      {"attach", attach, true, true, false},
    {"look", look, true, true, false},            {"ask", ask, true, true, false},
    {"take away", take_away, true, true, false},  {"collect", collect, true, true, false},
    {"attach again", attach_again, true, false, false}, {"describe", describe, true, true, false},
    {"list", list, true, true, true},
};

/* What is not as claimed. */
static int failures;

static void complain(const struct scenario *scenario, int rc, const char *what)
{
    print_message("%s %s, %s refused for %s: %d (%s), %s\n", place->backend->scheme, scenario->name,
                  refused != NULL ? refused : "nothing", strerror(reason), rc, noria_last_detail(), what);
    failures++;
}

/* With the k-th call refused. False: there are not so many. */
static bool refuse_one(const struct scenario *scenario, int k)
{
    int before = count_left(), rc;
    bool was_refused;

    prepare(scenario->exists);
    refused = NULL;
    countdown = k;
    rc = scenario->run();
    was_refused = countdown == 0;
    countdown = 0;
    if (rc < 0 && strlen(noria_last_detail()) < 5)
        complain(scenario, rc, "without a sentence");
    if (!was_refused && rc < 0)
        complain(scenario, rc, "although nothing was");
    if (rc < 0 && (scenario->run == create || scenario->run == attach) && scenario->run() != 0)
        complain(scenario, rc, "and the next try fails, too");
    clear(scenario->exists);
    if (count_left() != before)
        complain(scenario, rc, "and something is left");
    return was_refused;
}

static void refuse_each_call(const struct scenario *scenario)
{
    int k = 1;

    while (refuse_one(scenario, k))
        k++;
    print_message("%s %s: %d calls, each refused for %s\n", place->backend->scheme, scenario->name, k - 1, strerror(reason));
}

static void calls_are_refused(void **state)
{
    static const int reasons[] = {ENOMEM, EACCES, EINVAL, ENOENT, ENOSPC, EMFILE, EIDRM, EINTR, EEXIST, ELOOP, EBUSY};
    enum { SHORT = 4, ALL = sizeof(reasons) / sizeof(reasons[0]) };
    const size_t most = getenv("NORIA_LONG") != NULL ? ALL : SHORT; /* but all of them where there are the most calls */

    failures = 0;
    place = *state;
    snprintf(path_of_place, sizeof(path_of_place), "%s%s", place->backend == &noria_segment_posix ? "/dev/shm" : "",
             place->name);
    for (size_t s = 0; s < sizeof(scenarios) / sizeof(scenarios[0]); s++) {
        if ((scenarios[s].by_name && !place->backend->named) || (scenarios[s].listed && place->backend->list == NULL))
            continue;
        for (size_t i = 0; i < (s < 2 ? (size_t)ALL : most); i++) {
            reason = reasons[i];
            refuse_each_call(&scenarios[s]);
        }
    }
    assert_int_equal(failures, 0);
}

int main(void)
{
    static struct place places[] = {{&noria_segment_posix, ""}, {&noria_segment_file, ""}, {&noria_segment_sysv, ""},
                                    {&noria_segment_sysv_private, ""}, {&noria_segment_memfd, ""},
                                    {&noria_segment_memory, ""}};
    static char names[6][128];
    struct CMUnitTest tests[6];

    alone = unshare(CLONE_NEWIPC) == 0;
    memory = (void *)syscall(SYS_mmap, NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(places[0].name, sizeof(places[0].name), "/noria-refusal-%d", (int)getpid());
    snprintf(places[1].name, sizeof(places[1].name), "/var/tmp/noria-refusal-%d", (int)getpid());
    snprintf(places[2].name, sizeof(places[2].name), "0x%08x", 0x75000000u + (unsigned)getpid());
    for (int i = 0; i < 6; i++) {
        snprintf(names[i], sizeof(names[i]), "calls_are_refused, %s:%s", places[i].backend->scheme, places[i].name);
        tests[i] = (struct CMUnitTest){names[i], calls_are_refused, NULL, NULL, &places[i]};
    }
    return cmocka_run_group_tests_name("refusal", tests, NULL, NULL);
}
