/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: noria_gc removes what the dead have left and nobody can want, and never anything that is held, just comes
 * into use, persists, or is not noria's; also while processes open, close and are killed all the time.
 */
#define KINDS_TO_TEST {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "file"}
#include "variants_test.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "meminfo_test.h"
#include "own_shm.h"
#include "peers.h"
#include "segment.h"

enum { CROWD = 4 };

static int with_peers(void **state)
{
    peers_begin();
    return setup(state);
}

static int without_peers(void **state)
{
    peers_end();
    return teardown(state);
}

/* What one run of gc told. */
static struct noria_leftover told[16];
static int tellings;

static void note(const struct noria_leftover *leftover, void *context)
{
    assert_ptr_equal(context, told);
    if (tellings < 16)
        told[tellings++] = *leftover;
}

static int collect(int dry_run)
{
    tellings = 0;
    return noria_gc(dry_run, note, told);
}

static int files_in_shm(void)
{
    DIR *directory = opendir("/dev/shm");
    int count = -2; /* . and .. */

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Segments and sets of System V, of this process' own IPC namespace. */
static int rows_of_sysv(void)
{
    static const char *const paths[] = {"/proc/sysvipc/shm", "/proc/sysvipc/sem"};
    int rows = -2; /* the headings */

    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(paths[i], "re");
        char line[512];
        while (file != NULL && fgets(line, sizeof(line), file) != NULL)
            rows++;
        assert_int_equal(fclose(file), 0);
    }
    return rows;
}

static bool is_there(void)
{
    return access(ch.path, F_OK) == 0;
}

/* --------------------------------------------------------------------------------------------- unfinished channels */

static void lock_creation(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NORIA_LOCK_CREATE, .l_len = 1};

    PEER_REQUIRES(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

/* A creator that is stopped after it has marked its file. */
static void create_half(void)
{
    uint64_t mark = NORIA_SEGMENT_UNFINISHED;
    int fd = open(ch.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    lock_creation(fd);
    PEER_REQUIRES(write(fd, &mark, sizeof(mark)) == (ssize_t)sizeof(mark));
    PEER_REQUIRES(ftruncate(fd, 65536) == 0);
    say();
    await_end();
}

static void unfinished_goes_with_its_creator(void **state)
{
    /* Claim: what a creator is at work on stays, and goes when he has died; a dry run tells and leaves it. */
    pid_t peer;

    (void)state;
    peer = start_peer(create_half);
    await_peer();
    assert_int_equal(collect(0), 0);
    assert_true(is_there());
    kill_peer(peer);
    assert_int_equal(collect(1), 1);
    assert_true(is_there());
    assert_int_equal(collect(0), 1);
    assert_int_equal(tellings, 1);
    assert_string_equal(told[0].name, ch.address);
    assert_int_equal(told[0].kind, NORIA_LEFTOVER_UNFINISHED);
    assert_int_equal(told[0].result, 0);
    assert_false(is_there());
}

static void empty_files_are_told_apart(void **state)
{
    /* Claim: an empty file that a creator of ours has left at his first step goes, somebody else's stays; so does a
     * file with something else in it. */
    int fd;

    (void)state;
    fd = shm_open(ch.path + strlen("/dev/shm"), O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_int_equal(collect(0), 0);
    assert_true(is_there());
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(collect(0), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(fchmod(fd, 0600 | NORIA_SEGMENT_NEW_MODE), 0);
    assert_int_equal(collect(0), 1);
    assert_false(is_there());
    close(fd);
}

/* --------------------------------------------------------------------------------------------- deserted channels */

static void open_and_stay(void)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options) == 0);
    PEER_REQUIRES(noria_fd(mine, NORIA_RECV) >= 0); /* a FIFO beside it */
    say();
    await_end();
}

static void deserted_goes_and_persisting_stays(void **state)
{
    /* Claim: a channel that was to go with its last user goes, with its FIFO, when he was killed, and not before; one
     * that persists stays. */
    (void)state;
    for (int lifetime = NORIA_PERSIST; lifetime <= NORIA_UNLINK_LAST; lifetime++) {
        pid_t peer;
        ch.options.lifetime = (uint32_t)lifetime;
        peer = start_peer(open_and_stay);
        await_peer();
        assert_int_equal(files_in_shm(), 2);
        assert_int_equal(collect(0), 0);
        assert_int_equal(files_in_shm(), 2);
        stop_peer(peer); /* is alive, too */
        assert_int_equal(collect(0), 0);
        assert_int_equal(files_in_shm(), 2);
        kill_peer(peer);
        if (lifetime == NORIA_PERSIST) {
            assert_int_equal(collect(0), 0);
            assert_int_equal(files_in_shm(), 2);
            assert_int_equal(noria_unlink(ch.address), 0);
            continue;
        }
        assert_int_equal(collect(0), 1);
        assert_int_equal(told[0].kind, NORIA_LEFTOVER_DESERTED);
    }
    assert_int_equal(files_in_shm(), 0);
}

/* Closes all descriptors that it does not know, as daemons do, and lives on with the mapping. */
static void open_and_close_descriptors(void)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == 0);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    say();
    await_end();
}

static void who_closed_its_descriptors_lives(void **state)
{
    /* Claim: a participant that has lost its locks because it closed descriptors it did not know keeps the channel. */
    pid_t peer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    peer = start_peer(open_and_close_descriptors);
    await_peer();
    assert_int_equal(collect(0), 0);
    assert_true(is_there());
    kill_peer(peer);
    assert_int_equal(collect(0), 1);
    assert_false(is_there());
}

/* Becomes another program, with the same number and start time. */
static void open_and_exec(void)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == 0);
    say();
    execl("/bin/sleep", "sleep", "600", (char *)NULL);
    _exit(1);
}

static bool is_sleep(pid_t pid)
{
    char path[64], name[16] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    file = fopen(path, "re");
    if (file == NULL || fgets(name, sizeof(name), file) == NULL)
        name[0] = '\0';
    if (file != NULL)
        fclose(file);
    return strcmp(name, "sleep\n") == 0;
}

static void who_became_another_program_is_gone(void **state)
{
    /* Claim: exec ends a participant, although its process lives. */
    pid_t peer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    peer = start_peer(open_and_exec);
    await_peer();
    while (!is_sleep(peer))
        sched_yield();
    while (collect(0) == 0) /* its locks go when the kernel lets the new program run */
        sched_yield();
    assert_false(is_there());
    kill_peer(peer);
}

/* ------------------------------------------------------------------------------------------ FIFOs and semaphores */

static void objects_go_with_their_users(void **state)
{
    /* Claim: semaphores and FIFOs of an unlinked channel stay while somebody uses them, and go when he was killed. */
    pid_t peer;

    (void)state;
    ch.options.wait = NORIA_WAIT_SEMAPHORE;
    peer = start_peer(open_and_stay);
    await_peer();
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(files_in_shm(), 3); /* a FIFO for receivers, semaphores for both sides */
    assert_int_equal(collect(0), 0);
    assert_int_equal(files_in_shm(), 3);
    kill_peer(peer);
    assert_int_equal(collect(1), 3);
    assert_int_equal(files_in_shm(), 3);
    assert_int_equal(collect(0), 3);
    assert_int_equal(files_in_shm(), 0);
}

enum { SEMAPHORES_TO_WAIT_WITH = 13 };

/* Sets that are as large as those that a channel waits with. */
static int sets_of_semaphores(void)
{
    FILE *file = fopen("/proc/sysvipc/sem", "re");
    char line[256];
    int count = 0, size;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        count += sscanf(line, "%*d %*d %*o %d", &size) == 1 && size == SEMAPHORES_TO_WAIT_WITH;
    fclose(file);
    return count;
}

static void open_twice_and_stay(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);

    PEER_REQUIRES(mine != NULL && open_handle(NORIA_RECV) != NULL);
    say();
    await_end();
}

static void sets_go_with_their_users(void **state)
{
    /* Claim: the System V semaphores of an unlinked channel stay while somebody has them open, and go when the last one
     * was killed; those of a channel that is there stay, and so does another program's set. */
    int before = sets_of_semaphores(), theirs = semget(IPC_PRIVATE, SEMAPHORES_TO_WAIT_WITH, 0600);
    pid_t peer, other;

    (void)state;
    ch.options.wait = NORIA_WAIT_SYSV_SEMAPHORE;
    peer = start_peer(open_twice_and_stay);
    other = start_peer(open_twice_and_stay);
    await_peer();
    await_peer();
    assert_int_equal(collect(0), 0);
    kill_peer(other);
    assert_int_equal(collect(0), 0);
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(collect(0), 0);
    assert_int_equal(sets_of_semaphores(), before + 2);
    kill_peer(peer);
    assert_int_equal(collect(1), 1 + is_at("sysv")); /* its locks, too */
    assert_int_equal(told[0].kind, NORIA_LEFTOVER_SEMAPHORE);
    assert_int_equal(sets_of_semaphores(), before + 2);
    assert_int_equal(collect(0), 1 + is_at("sysv"));
    assert_int_equal(sets_of_semaphores(), before + 1);
    assert_int_equal(semctl(theirs, 0, IPC_RMID), 0);
    ch.tx = open_handle(NORIA_SEND); /* of a channel that nobody has open */
    close_handle(&ch.tx);
    assert_int_equal(collect(0), 0);
    assert_int_equal(sets_of_semaphores(), before + 1);
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(sets_of_semaphores(), before);
}

static void unlink_and_stay(void)
{
    PEER_REQUIRES(peers->numbers[0] == 0 || (setgid(65533) == 0 && setuid(65533) == 0));
    PEER_REQUIRES(open_handle(NORIA_SEND) != NULL && noria_unlink(ch.address) == 0);
    say();
    await_end();
}

static void locks_go_with_their_users(void **state)
{
    /* Claim: the locks of a System V channel that was unlinked stay while somebody has it open, and are told and go when he
     * was killed; if we are root, also those of another user. */
    int rows = rows_of_sysv();

    (void)state;
    for (int stranger = 0; stranger <= may_become(65533); stranger++) {
        pid_t peer;
        peers->numbers[0] = stranger;
        peer = start_peer(unlink_and_stay);
        await_peer();
        assert_int_equal(collect(0), 0);
        assert_int_equal(rows_of_sysv(), rows + 2);
        kill_peer(peer);
        assert_int_equal(collect(1), 1);
        assert_int_equal(rows_of_sysv(), rows + 1);
        assert_int_equal(collect(0), 1);
        assert_int_equal(told[0].kind, NORIA_LEFTOVER_SEMAPHORE);
        assert_int_equal(rows_of_sysv(), rows);
    }
}

/* In a pid namespace where nobody else is to be seen. */
static void collect_apart(void)
{
    int status;
    pid_t pid;

    PEER_REQUIRES(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
    pid = fork();
    if (pid == 0) {
        be_child();
        PEER_REQUIRES(mount("proc", "/proc", "proc", 0, NULL) == 0);
        exit(collect(0));
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    exit(WEXITSTATUS(status));
}

static void what_belongs_to_files_stays(void **state)
{
    /* Claim: files are not listed, so what waits for them outside stays: of a channel that is in use in a pid namespace
     * which gc does not see, and of one that nobody has open just now. */
    pid_t peer;

    (void)state;
    ch.options.wait = NORIA_WAIT_SEMAPHORE;
    peer = start_peer(open_and_stay);
    await_peer();
    assert_int_equal(files_in_shm(), 3);
    expect_end(start_peer(collect_apart));
    assert_int_equal(files_in_shm(), 3);
    assert_int_equal(collect(0), 0);
    kill_peer(peer);
    assert_int_equal(collect(0), 0);
    assert_int_equal(files_in_shm(), 3);
    ch.options.wait = NORIA_WAIT_SYSV_SEMAPHORE;
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(files_in_shm(), 0);
    peer = start_peer(open_twice_and_stay);
    await_peer();
    kill_peer(peer);
    assert_int_equal(collect(0), 0);
    assert_int_equal(noria_unlink(ch.address), 0);
}

/* The channel, in a directory where no other test has files. */
static void move_to_folder(char *folder)
{
    assert_non_null(mkdtemp(folder));
    snprintf(ch.path, sizeof(ch.path), "%s/file", folder);
    snprintf(ch.address, sizeof(ch.address), "file:%s/file", folder);
}

static int collect_in(const char *folder, int dry_run)
{
    tellings = 0;
    return noria_gc_folders(&folder, 1, dry_run, note, told);
}

static void what_belonged_to_files_goes(void **state)
{
    /* Claim: told where files are, gc removes what channels waited with whose file is gone, of each way to wait, if nobody
     * uses it any more; that of a file that is there stays, and so does all that is in use. */
    static const struct {
        uint32_t wait;
        int objects;
    } ways[] = {{NORIA_WAIT_FUTEX, 1}, {NORIA_WAIT_FIFO, 2}, {NORIA_WAIT_SEMAPHORE, 3}, {NORIA_WAIT_SYSV_SEMAPHORE, 2}};
    char folder[] = "/var/tmp/noria-gc-XXXXXX";
    int sets = sets_of_semaphores();
    pid_t peer;

    (void)state;
    move_to_folder(folder);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ch.options.wait = ways[i].wait;
        peer = start_peer(open_and_stay);
        await_peer();
        assert_int_equal(collect_in(folder, 0), 0);
        kill_peer(peer);
        assert_int_equal(collect_in(folder, 0), 0); /* it may be opened again */
        peer = start_peer(open_and_stay);
        await_peer();
        assert_int_equal(noria_unlink(ch.address), 0);
        assert_int_equal(collect_in(folder, 0), 0);
        kill_peer(peer);
        assert_int_equal(collect(0), 0); /* not told where files are */
        assert_int_equal(collect_in(folder, 1), ways[i].objects);
        assert_int_equal(files_in_shm() + sets_of_semaphores() - sets, ways[i].objects);
        assert_int_equal(collect_in(folder, 0), ways[i].objects);
        assert_int_equal(files_in_shm(), 0);
        assert_int_equal(sets_of_semaphores(), sets);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void unfinished_files_go(void **state)
{
    /* Claim: so do files that are channels whose creators died, or that were to go with their last user; other files of the
     * directory stay. A directory that is not there is an error, and nothing is removed. */
    const char *folders[] = {NULL, "/var/tmp/noria-is-not-there"};
    char folder[] = "/var/tmp/noria-gc-XXXXXX", other[80];
    pid_t peer;
    int fd;

    (void)state;
    move_to_folder(folder);
    folders[0] = folder;
    snprintf(other, sizeof(other), "%s/other", folder);
    fd = open(other, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
    peer = start_peer(create_half);
    await_peer();
    assert_int_equal(collect_in(folder, 0), 0);
    kill_peer(peer);
    assert_fails(noria_gc_folders(folders, 2, 0, note, told), ENOENT);
    assert_fails(noria_gc_folders(NULL, 1, 0, note, told), EINVAL);
    assert_fails(noria_gc_folders(folders, -1, 0, note, told), EINVAL);
    assert_true(is_there());
    assert_int_equal(collect_in(folder, 0), 1);
    assert_string_equal(told[0].name, ch.address);
    assert_false(is_there());
    ch.options.lifetime = NORIA_UNLINK_LAST;
    peer = start_peer(open_and_stay);
    await_peer();
    assert_int_equal(collect_in(folder, 0), 0);
    kill_peer(peer);
    assert_int_equal(collect_in(folder, 0), 1); /* with its FIFO */
    assert_false(is_there());
    assert_int_equal(files_in_shm(), 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void look_alikes_stay(void **state)
{
    /* Claim: what only looks like a channel's object stays: a directory of such a name, another user's FIFO, a name that is
     * too long or ends otherwise; and so do the FIFOs of more channels than a few. */
    enum { CHANNELS = 70 };
    static const char *const names[] = {
        "/dev/shm/noria-0123456789abcdef0123456789abcdef-x", "/dev/shm/noria-0123456789abcdef0123456789abcdeg-r",
        "/dev/shm/noria-0123456789abcdef0123456789abcdef0-r"};
    static const char folder[] = "/dev/shm/noria-0123456789abcdef0123456789abcdef-r";
    char address[80];
    int before = files_in_shm();

    (void)state;
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mkfifo(names[i], 0600), 0);
    for (int i = 0; i < CHANNELS; i++) {
        noria_channel *channel = NULL;
        snprintf(address, sizeof(address), "shm:/noria-gc-%d", i);
        assert_int_equal(noria_open(&channel, address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
        assert_true(noria_fd(channel, NORIA_RECV) >= 0);
        assert_int_equal(noria_close(channel), 0);
    }
    assert_int_equal(files_in_shm(), before + 4 + 2 * CHANNELS);
    assert_int_equal(collect(0), 0);
    assert_int_equal(noria_gc(0, NULL, NULL), 0); /* nobody has to be told */
    assert_int_equal(files_in_shm(), before + 4 + 2 * CHANNELS);
    for (int i = 0; i < CHANNELS; i++) {
        snprintf(address, sizeof(address), "shm:/noria-gc-%d", i);
        assert_int_equal(noria_unlink(address), 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(unlink(names[i]), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(files_in_shm(), before);
}

static void half_an_id_is_another(void **state)
{
    /* Claim: a FIFO whose name has only half of a channel's id is not that channel's, and goes. */
    uint64_t id;
    char name[80];
    int fd;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    assert_true(noria_fd(ch.tx, NORIA_SEND) >= 0);
    fd = open(ch.path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, &id, sizeof(id), (off_t)offsetof(struct noria_superblock, id)), sizeof(id));
    close(fd);
    snprintf(name, sizeof(name), "/dev/shm/noria-%016llx%016x-r", (unsigned long long)id, 0);
    assert_int_equal(mkfifo(name, 0600), 0);
    assert_int_equal(files_in_shm(), 3);
    assert_int_equal(collect(0), 1);
    assert_string_equal(told[0].name, name);
    assert_int_equal(files_in_shm(), 2);
    close_handle(&ch.tx);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void collect_as_a_stranger(void)
{
    static const char mine[] = "/dev/shm/noria-0123456789abcdef0123456789abcdef-s";

    PEER_REQUIRES(setgid(65533) == 0 && setuid(65533) == 0);
    PEER_REQUIRES(mkfifo(mine, 0000) == 0); /* which nobody can look at, so it may be in use */
    PEER_REQUIRES(collect(0) == 0);
    PEER_REQUIRES(tellings == 1 && told[0].kind == NORIA_LEFTOVER_UNKNOWN && told[0].result == -EACCES);
    PEER_REQUIRES(unlink(mine) == 0);
}

static void strangers_collect_nothing(void **state)
{
    /* Claim: who may not look at a channel is told that it stays, if its name says that it is noria's; what waits for it,
     * or for one that is gone, is left to its owner's gc. */
    static const char fifo[] = "/dev/shm/noria-0123456789abcdef0123456789abcdef-r", other[] = "/dev/shm/private";
    pid_t peer;

    (void)state;
    if (!may_become(65533))
        skip();
    ch.options.lifetime = NORIA_UNLINK_LAST;
    peer = start_peer(open_and_stay);
    await_peer();
    kill_peer(peer);
    assert_int_equal(files_in_shm(), 2);
    assert_int_equal(mkfifo(fifo, 0666), 0);
    close(open(other, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    expect_end(start_peer(collect_as_a_stranger));
    assert_int_equal(files_in_shm(), 4);
    assert_int_equal(chown(fifo, 65533, 65533), 0); /* root takes anybody's */
    assert_int_equal(collect(1), 2);
    assert_int_equal(collect(0), 2);
    assert_int_equal(files_in_shm(), 1);
    assert_int_equal(unlink(other), 0);
}

static void strangers_hear_of_system_v(void **state)
{
    /* Claim: the same in System V memory, where no name says so, but what has our locks is a channel. */
    (void)state;
    if (!may_become(65533))
        skip();
    ch.tx = open_handle(NORIA_SEND);
    expect_end(start_peer(collect_as_a_stranger));
    assert_true(name_exists());
}

static void open_large_as_a_stranger(void)
{
    PEER_REQUIRES(setgid(65533) == 0 && setuid(65533) == 0);
    ch.options.capacity = 4096;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    open_and_stay();
}

static int find_too_large(const struct noria_listing *listing, void *context)
{
    *(int *)context += strcmp(listing->address, ch.address) == 0 && listing->uid == 65533 &&
                       listing->condition == NORIA_CONDITION_TOO_LARGE;
    return 0;
}

static void what_is_too_large_to_copy_is_told(void **state)
{
    /* Claim: a channel of another user that has too much data to be copied is listed as such; gc tells that it stays, with
     * what waits for it, whatever its name; and it can be removed, with that, unless it is in use. */
    struct noria_listing listing;
    int listed = 0;
    pid_t peer;

    (void)state;
    if (!may_become(65533))
        skip();
    snprintf(ch.address, sizeof(ch.address), "shm:/queue-of-%d", (int)getpid());
    peer = start_peer(open_large_as_a_stranger);
    await_peer();
    meminfo = "MemAvailable: 100 kB\n";
    assert_int_equal(noria_inspect(ch.address, &listing), 0);
    assert_int_equal(listing.condition, NORIA_CONDITION_TOO_LARGE);
    assert_int_equal(noria_list(find_too_large, &listed), 0);
    assert_int_equal(listed, 1);
    assert_fails(noria_remove(ch.address, 0), EBUSY);
    kill_peer(peer);
    assert_int_equal(collect(0), 0);
    assert_int_equal(tellings, 1);
    assert_int_equal(told[0].result, -EFBIG);
    assert_int_equal(files_in_shm(), 2);
    assert_int_equal(noria_remove(ch.address, 0), 0);
    meminfo = NULL;
    assert_int_equal(files_in_shm(), 0);
}

/* ------------------------------------------------------------------------------------------ names that mean another one */

static void (*before_removal)(void); /* called once, when gc is about to take a name away */
static void (*after_lookup)(void);   /* and when it knows what a key means */
static int keys_looked_up, handed_over;

static void about_to_remove(void)
{
    void (*hook)(void) = before_removal;

    before_removal = NULL;
    if (hook != NULL)
        hook();
}

/* In place of the C library's, for the library under test, too. */
int unlink(const char *path)
{
    about_to_remove();
    return (int)syscall(SYS_unlink, path);
}

int shm_unlink(const char *name)
{
    char path[300];

    snprintf(path, sizeof(path), "/dev/shm%s", name);
    return unlink(path);
}

int shmget(key_t key, size_t size, int flags)
{
    void (*hook)(void) = after_lookup;
    int id;

    if (before_removal != NULL && ++keys_looked_up == 2) /* the first time it was to look at it */
        about_to_remove();
    after_lookup = NULL;
    id = (int)syscall(SYS_shmget, key, size, flags);
    if (hook != NULL)
        hook();
    return id;
}

/* Somebody else removes the name by hand, and a third one makes it anew; or the first one is kept from it. */
static void hand_over(void)
{
    if (noria_unlink(ch.address) != 0)
        return;
    ch.tx = open_handle(NORIA_SEND);
    handed_over = 1;
}

static void gc_removes_what_it_has_looked_at(void **state)
{
    /* Claim: what takes the place of a deserted channel between gc's last look and its removal is not removed. */
    struct noria_listing listing;
    pid_t peer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    peer = start_peer(open_twice_and_stay);
    await_peer();
    kill_peer(peer);
    ch.options.lifetime = NORIA_PERSIST;
    keys_looked_up = handed_over = 0;
    before_removal = hand_over;
    assert_true(collect(0) >= 0);
    before_removal = NULL;
    assert_int_equal(noria_inspect(ch.address, &listing) == 0, handed_over);
}

/* What the last user does in closing, before he detaches. */
static void take_name_and_locks(void)
{
    int id = (int)syscall(SYS_shmget, strtoul(ch.address + strlen("sysv:"), NULL, 16), 0, 0);
    int set = semget((key_t)((uint32_t)id ^ 0xee6f7261u), 0, 0);

    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    assert_int_equal(semctl(set, 0, IPC_RMID), 0);
}

static void gc_makes_no_locks(void **state)
{
    /* Claim: gc that meets a channel whose last user is half through with closing leaves no set of locks behind. */
    int rows = rows_of_sysv();

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.tx = open_handle(NORIA_SEND);
    after_lookup = take_name_and_locks;
    assert_int_equal(collect(0), 0);
    assert_null(after_lookup);
    close_handle(&ch.tx);
    assert_int_equal(rows_of_sysv(), rows);
}

static void leave_waste(void)
{
    int id, fd = is_at("shm") ? open(ch.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600 | NORIA_SEGMENT_NEW_MODE) : -1;

    if (is_at("shm")) {
        assert_true(fd >= 0);
        assert_int_equal(close(fd), 0);
        return;
    }
    /* A creator who was killed after he had made the locks. */
    id = shmget((key_t)strtoul(ch.address + strlen("sysv:"), NULL, 16), 8192, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(id >= 0);
    assert_true(semget((key_t)((uint32_t)id ^ 0xee6f7261u), 10, IPC_CREAT | IPC_EXCL | 0600) >= 0);
}

static void collect_for_ever(void);

static void persisting_names_stay(void **state)
{
    /* Claim: while two gc run all the time, and names of leftovers are removed by hand and made anew at once, no channel
     * that persists loses its name. */
    int rounds = getenv("NORIA_LONG") != NULL ? 20000 : 300, by_hand = 0;
    pid_t collectors[2];

    (void)state;
    ch.options.open_timeout_ns = 60 * SECOND;
    for (int i = 0; i < 2; i++)
        collectors[i] = start_peer(collect_for_ever);
    for (int round = 0; round < rounds; round++) {
        noria_channel *second = NULL;
        int rc;
        leave_waste();
        rc = noria_unlink(ch.address);
        if (rc != 0 && rc != -ENOENT && rc != -EBUSY)
            fail_msg("round %d: %s", round, noria_detail());
        by_hand += rc == 0;
        ch.tx = open_handle(NORIA_SEND);
        assert_int_equal(noria_open(&second, ch.address, NORIA_RECV, &ch.options), 0);
        close_handle(&second);
        close_handle(&ch.tx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
    print_message("%d of %d leftovers were removed by hand\n", by_hand, rounds);
    for (int i = 0; i < 2; i++)
        kill_peer(collectors[i]);
}

/* ---------------------------------------------------------------------------------------------------------- storm */

/* Two handles, one after the other: the second one must find the first one's channel. */
static void come_and_go_for_ever(void)
{
    for (;;) {
        noria_channel *first = NULL, *second = NULL;
        uint8_t byte;
        int rc = noria_open(&first, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
        PEER_REQUIRES(rc == 0 || rc == -EBUSY); /* the table may be full of the killed who are not yet reaped */
        if (rc != 0)
            continue;
        __atomic_fetch_add(&peers->numbers[1], 1, __ATOMIC_RELAXED);
        rc = noria_open(&second, ch.address, NORIA_RECV, &ch.options);
        PEER_REQUIRES(rc == 0 || rc == -EBUSY);
        if (rc == 0) {
            struct noria_stat one = {0}, two = {0};
            PEER_REQUIRES(noria_stat(first, &one) == 0 && noria_stat(second, &two) == 0);
            PEER_REQUIRES(one.created_ns == two.created_ns);
            PEER_REQUIRES(noria_send(first, "x", 1, SECOND) == 0);
            PEER_REQUIRES(noria_recv(second, &byte, 1, 20 * SECOND, NULL) == 1);
            PEER_REQUIRES(noria_close(second) == 0);
        }
        PEER_REQUIRES(noria_close(first) == 0);
        __atomic_fetch_add(&peers->numbers[0], 1, __ATOMIC_RELAXED);
    }
}

static void collect_for_ever(void)
{
    for (;;) {
        int removed = noria_gc(0, NULL, NULL);
        PEER_REQUIRES(removed >= 0);
        __atomic_fetch_add(&peers->numbers[2], removed, __ATOMIC_RELAXED);
    }
}

/* Kills one of the crowd after a few cycles of any of them, and starts another. */
static void kill_and_replace(pid_t *crowd, uint64_t *random)
{
    int64_t enough;
    unsigned who;

    *random = *random * 6364136223846793005u + 1442695040888963407u;
    enough = peers->numbers[0] + (int64_t)(*random >> 61);
    who = (unsigned)(*random >> 32) % CROWD;
    while (__atomic_load_n(&peers->numbers[0], __ATOMIC_RELAXED) < enough)
        sched_yield();
    for (uint64_t spin = *random >> 46; spin > 0; spin--)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    kill_peer(crowd[who]);
    crowd[who] = start_peer(come_and_go_for_ever);
}

static void storm(void **state)
{
    /* Claim: while four processes open, close and are killed, and gc runs all the time, nobody's channel is taken
     * away, every open succeeds, and afterwards nothing is left. (UNLINK_LAST) */
    int64_t cycles = getenv("NORIA_LONG") != NULL ? 10000 : 1000;
    uint64_t random = 4711;
    pid_t crowd[CROWD], collector;
    int rows = rows_of_sysv();

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    ch.options.max_participants = 32;
    ch.options.open_timeout_ns = 20 * SECOND; /* the machine may be busy */
    collector = start_peer(collect_for_ever);
    for (int i = 0; i < CROWD; i++)
        crowd[i] = start_peer(come_and_go_for_ever);
    while (__atomic_load_n(&peers->numbers[0], __ATOMIC_RELAXED) < cycles)
        kill_and_replace(crowd, &random);
    for (int i = 0; i < CROWD; i++)
        kill_peer(crowd[i]);
    kill_peer(collector);
    print_message("%lld of %lld opened cycles ended, gc removed %lld names meanwhile\n", (long long)peers->numbers[0],
                  (long long)peers->numbers[1], (long long)peers->numbers[2]);
    assert_true(collect(0) >= 0);
    assert_int_equal(files_in_shm(), 0);
    assert_int_equal(rows_of_sysv(), rows);
    assert_int_equal(collect(0), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("shm", unfinished_goes_with_its_creator),
        AT("shm", empty_files_are_told_apart),
        AT("shm", deserted_goes_and_persisting_stays),
        AT("shm", who_closed_its_descriptors_lives),
        AT("shm", who_became_another_program_is_gone),
        AT("shm", objects_go_with_their_users),
        {"sets_go_with_their_users", sets_go_with_their_users, 0, "shm, sysv"},
        AT("sysv", locks_go_with_their_users),
        AT("file", what_belongs_to_files_stays),
        AT("file", what_belonged_to_files_goes),
        AT("file", unfinished_files_go),
        AT("shm", look_alikes_stay),
        AT("shm", half_an_id_is_another),
        AT("shm", strangers_collect_nothing),
        AT("sysv", strangers_hear_of_system_v),
        AT("shm", what_is_too_large_to_copy_is_told),
        {"gc_removes_what_it_has_looked_at", gc_removes_what_it_has_looked_at, 0, "shm, sysv"},
        AT("sysv", gc_makes_no_locks),
        {"persisting_names_stay", persisting_names_stay, 0, "shm, sysv"},
        {"storm", storm, 0, "shm, sysv"},
    };

    if (!have_own_shm("size=16m")) {
        fprintf(stderr, "this user may not have a /dev/shm of its own\n");
        return 77; /* skipped */
    }
    return run_variants_with("gc", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
