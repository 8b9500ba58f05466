/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: if any one allocation of any call of the library fails, the call still succeeds, or fails with a code and a
 * sentence, leaves no descriptor, mapping or name behind, and succeeds when it is tried again; for every allocation
 * until the call makes no more, for every kind of channel, and at every kind of address.
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_MPMC, "memfd"}
#include "variants_test.h"

#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "own_shm.h"
#include "shapes.h"

/* ---------------------------------------------------------------------------------- the C library's, one fails */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static int countdown; /* the allocation after so many fails; negative: none */
static bool failed;

static bool fails_now(void)
{
    bool now = countdown == 0;

    if (countdown >= 0)
        countdown--;
    failed = failed || now;
    if (now)
        errno = ENOMEM;
    return now;
}

void *malloc(size_t size)
{
    return fails_now() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return fails_now() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __libc_memalign(alignment, size);
}

/* --------------------------------------------------------------------------------------------------- operations */

static noria_channel *mine, *other;
static char folder[32]; /* of a channel in a file */
static int ends[2];

static int create(void)
{
    return noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options);
}

static int attach(void)
{
    return noria_open(&mine, ch.address, 0, NULL);
}

static int reopen(void)
{
    return noria_reopen(&mine, other, 0);
}

static int note(const struct noria_listing *listing, void *context)
{
    return listing == NULL || context != NULL;
}

static int list(void)
{
    return is_at("file") ? noria_list_folder(folder, note, NULL) : noria_list(note, NULL);
}

static int inspect(void)
{
    struct noria_listing listing;
    struct noria_participant who[4];
    int rc = noria_inspect(ch.address, &listing);

    if (rc == 0)
        rc = noria_who(ch.address, who, 4);
    return rc < 0 ? rc : 0;
}

static int check(void)
{
    struct noria_health health;

    return noria_fsck(ch.address, 1, &health);
}

static int see(const struct noria_dumped *dumped, void *context)
{
    return dumped == NULL || context != NULL;
}

static int dump(void)
{
    return noria_dump(ch.address, see, NULL);
}

static int gc(int dry_run)
{
    const char *folders[] = {folder};
    int rc = noria_gc_folders(folders, is_at("file"), dry_run, NULL, NULL);

    return rc < 0 ? rc : 0;
}

static int look_for_waste(void)
{
    return gc(1);
}

static int collect(void)
{
    return gc(0);
}

static int descriptor(void)
{
    int fd = noria_fd(other, NORIA_SEND);

    return fd < 0 ? fd : 0;
}

static int talk(void)
{
    uint8_t bytes[64];
    ssize_t rc = noria_send(other, "x", 1, 0);

    if (rc == 0 || rc == -EAGAIN)
        rc = noria_recv(other, bytes, sizeof(bytes), 0, NULL);
    return rc >= 0 || rc == -EAGAIN ? 0 : (int)rc;
}

static int wait_for_any(void)
{
    struct noria_ready waits[] = {{.channel = other, .side = NORIA_RECV}, {.channel = other, .side = NORIA_SEND}};
    int rc = noria_wait_any(waits, 2, 0);

    return rc < 0 ? rc : 0;
}

static int ask_for_signals(void)
{
    return noria_notify_signal(other, SIGURG, NORIA_NOTIFY_ALWAYS); /* which is ignored */
}

static int hand_over(void)
{
    noria_channel *theirs = NULL;
    int rc = noria_share(other, ends[0]);

    if (rc == 0)
        rc = noria_accept(&theirs, ends[1], 0, NULL);
    return rc == 0 ? noria_close(theirs) : rc;
}

static int sync_it(void)
{
    return noria_sync(other);
}

/* Done by the first try, if that has failed afterwards. */
static int gone_or(int rc)
{
    return rc == -ENOENT ? 0 : rc;
}

static int unlink_name(void)
{
    return gone_or(noria_unlink(ch.address));
}

static int remove_idle(void)
{
    return gone_or(noria_remove(ch.address, 0));
}

static int close_mine(void)
{
    noria_channel *closed = mine;

    mine = NULL;
    return closed != NULL ? noria_close(closed) : 0;
}

/* What is there before: nothing, a channel that is open, one that nobody has open, one that `mine` is open on, one whose
 * last user was killed. */
enum scene { NOTHING, OPEN, IDLE, MINE, DESERTED };

#define NAMED "shm, sysv, file"

static const struct operation {
    const char *name;
    int (*run)(void);
    enum scene scene;
    const char *at; /* these schemes; NULL: all */
} operations[] = {
    {"create", create, NOTHING, NULL},
    {"attach", attach, OPEN, NULL},
    {"reopen", reopen, OPEN, NULL},
    {"list", list, OPEN, NAMED},
    {"inspect and who", inspect, OPEN, NAMED},
    {"fsck", check, OPEN, NAMED},
    {"dump", dump, OPEN, NAMED},
    {"look for waste", look_for_waste, OPEN, NAMED},
    {"gc", collect, DESERTED, NAMED},
    {"descriptor", descriptor, OPEN, NULL},
    {"send and receive", talk, OPEN, NULL},
    {"wait for any", wait_for_any, OPEN, NULL},
    {"signals", ask_for_signals, OPEN, NULL},
    {"share and accept", hand_over, OPEN, "memfd"},
    {"sync", sync_it, OPEN, "file"},
    {"unlink", unlink_name, IDLE, NAMED},
    {"remove", remove_idle, IDLE, NAMED},
    {"close", close_mine, MINE, NULL},
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

/* ------------------------------------------------------------------------------------------------------- the scenes */

static int count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    int count = 0;

    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "/dev/shm/noria") != NULL || strstr(line, "memfd:") != NULL || strstr(line, "/SYSV") != NULL ||
                 strstr(line, "/var/tmp/noria") != NULL;
    fclose(maps);
    return count;
}

/* In /dev/shm, which is this program's own. */
static int count_names(void)
{
    DIR *directory = opendir("/dev/shm");
    int count = -2; /* . and .. */

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void leave_deserted(void)
{
    pid_t pid;
    int status;

    ch.options.lifetime = NORIA_UNLINK_LAST;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        if (create() != 0)
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void set_scene(enum scene scene)
{
    if (scene == IDLE || scene == MINE)
        assert_int_equal(create(), 0);
    if (scene == IDLE)
        assert_int_equal(close_mine(), 0);
    if (scene == DESERTED)
        leave_deserted();
}

static void clear_scene(enum scene scene)
{
    int fresh;

    assert_int_equal(close_mine(), 0);
    if (scene == DESERTED && has_name()) {
        assert_int_equal(gc(0), 0);
        assert_false(name_exists());
    }
    if (scene == OPEN)
        return;
    if (has_name())
        assert_int_equal(unlink_name(), 0);
    if (ch.memfd < 0)
        return;
    fresh = memfd_create("variant", MFD_CLOEXEC | MFD_ALLOW_SEALING); /* a memfd is one channel for good */
    assert_int_equal(dup3(fresh, ch.memfd, O_CLOEXEC), ch.memfd);
    close(fresh);
}

/* With allocation k failing. False: there is none. */
static bool try_without(const struct operation *operation, int k)
{
    int before = count_descriptors(), mapped = count_mappings(), inside, mapped_inside, rc;
    bool reached;

    set_scene(operation->scene);
    inside = count_descriptors();
    mapped_inside = count_mappings();
    failed = false;
    countdown = k;
    rc = operation->run();
    countdown = -1;
    reached = failed;
    if (rc != 0) {
        assert_true(reached);
        assert_int_equal(rc, -ENOMEM);
        assert_true(strlen(noria_detail()) > 3);
        assert_null(mine);
        assert_int_equal(count_descriptors(), inside);
        assert_int_equal(count_mappings(), mapped_inside);
        assert_int_equal(operation->run(), 0); /* the second try */
    }
    clear_scene(operation->scene);
    if (operation->run != descriptor) /* which is the handle's from then on */
        assert_int_equal(count_descriptors(), before);
    assert_int_equal(count_mappings(), mapped);
    return reached;
}

/* How many allocations it makes. */
static int try_operation(const struct operation *operation, const struct shape *shape)
{
    int k = 0;

    take_shape(shape, &ch.options);
    if (operation->scene == OPEN) {
        assert_int_equal(noria_open(&other, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options), 0);
        assert_int_equal(talk(), 0); /* a thread's first call makes it known to liburcu */
        /* Descriptors of noria_fd are the handle's from then on. */
        assert_true(operation->run != wait_for_any || (descriptor() == 0 && noria_fd(other, NORIA_RECV) >= 0));
    }
    while (k < 10000 && try_without(operation, k))
        k++;
    assert_true(k < 10000);
    if (other != NULL)
        assert_int_equal(noria_close(other), 0);
    other = NULL;
    clear_scene(NOTHING);
    assert_int_equal(count_names(), 0);
    return k;
}

static void any_allocation_may_fail(void **state)
{
    /* Claim: see above. */
    int all = 0;

    (void)state;
    if (is_at("file")) {
        snprintf(folder, sizeof(folder), "/var/tmp/noria-memory-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(ch.path, sizeof(ch.path), "%s/file", folder);
        snprintf(ch.address, sizeof(ch.address), "file:%s/file", folder);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    for (int i = 0; i < SHAPES; i++)
        for (int o = 0; o < OPERATIONS; o++)
            if (operations[o].at == NULL || strstr(operations[o].at, ch.variant->scheme) != NULL)
                all += try_operation(&operations[o], &shapes[i]);
    close(ends[0]);
    close(ends[1]);
    if (is_at("file"))
        assert_int_equal(rmdir(folder), 0);
    print_message("%d allocations were refused\n", all);
    assert_true(all > 30);
}

int main(void)
{
    static const struct named_test tests[] = {EVERYWHERE(any_allocation_may_fail)};

    countdown = -1;
    if (!have_own_shm("size=16m")) { /* what is listed there is to be little */
        fprintf(stderr, "this user may not have a /dev/shm of its own\n");
        return 77; /* skipped */
    }
    return run_variants("memory", tests, sizeof(tests) / sizeof(tests[0]));
}
