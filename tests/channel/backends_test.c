/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whatever a channel's memory is, its life is the same: any order of start, the same three ways for a name to
 * go, permissions and owners as asked for, plants refused and left alone, too little space an error code that says
 * what to do, and a process killed before or after any system call of create, attach, close and unlink holds up
 * nobody for a second and leaves nothing.
 *
 * At every third of them (with another user every seventh), or at all with NORIA_LONG. With NORIA_TEST_USER=N in the
 * environment, root becomes that user before it begins.
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "keyless"}, \
    {NORIA_KIND_MPMC, "memfd"}, {NORIA_KIND_MPMC, "anon"}, {NORIA_KIND_MPMC, "memory"}, {NORIA_KIND_SPSC, "sysv"}, \
    {NORIA_KIND_SPSC, "keyless"}
#include "stepped_clock_test.h"
#include "variants_test.h"

#include <grp.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "peers.h"

enum { STRANGER = 65533, MISSING_RIGHTS = 77 };

/* Whether /dev/shm and the System V ids are this program's alone, so that all that is there can be counted. */
static bool is_alone;

static int count_names(const char *folder, const char *start)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    int count = 0;

    while (directory != NULL && (entry = readdir(directory)) != NULL)
        count += entry->d_name[0] != '.' && strncmp(entry->d_name, start, strlen(start)) == 0;
    closedir(directory);
    return count;
}

static int count_ids(const char *list)
{
    FILE *file = fopen(list, "re");
    char line[512];
    int count = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        unsigned uid;
        bool is_shm = strstr(list, "shm") != NULL;
        count += sscanf(line, is_shm ? "%*d %*d %*o %*u %*d %*d %*u %u" : "%*d %*d %*o %*u %u", &uid) == 1 &&
                 uid == geteuid();
    }
    fclose(file);
    return count;
}

/* Outside of processes: names, and ids of System V. */
static int count_objects(void)
{
    char start[64];

    if (!is_alone)
        return name_exists();
    snprintf(start, sizeof(start), "noria-api-test-%d", (int)getpid());
    return count_names("/dev/shm", "") + count_names("/var/tmp", start) + count_ids("/proc/sysvipc/shm") +
           count_ids("/proc/sysvipc/sem");
}

static int objects_before;

static int with_peers(void **state)
{
    int rc;

    peers_begin();
    rc = setup(state);
    objects_before = count_objects();
    return rc;
}

static int without_peers(void **state)
{
    int rc;

    peers_end();
    rc = teardown(state);
    assert_int_equal(count_objects(), objects_before);
    return rc;
}

static void works(noria_channel *channel)
{
    uint8_t bytes[8] = {0};

    PEER_REQUIRES(noria_send(channel, "12345678", 8, 0) == 0);
    PEER_REQUIRES(noria_recv(channel, bytes, 8, 60 * SECOND, NULL) == 8);
    PEER_REQUIRES(memcmp(bytes, "12345678", 8) == 0);
}

/* ------------------------------------------------------------------------------------------------ order of start */

static void receive_when_it_is_there(void)
{
    noria_channel *mine = NULL;
    uint8_t bytes[64];

    ch.options.wait_create_ns = 60 * SECOND;
    say();
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV, &ch.options) == 0);
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 60 * SECOND, NULL) == 10);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void attachers_may_come_first(void **state)
{
    /* Claim: who waits for a channel that is not there yet attaches when it is; who does not wait long is told in
     * time. */
    noria_channel *early = NULL;
    int64_t start = now_ns();
    pid_t peer;

    (void)state;
    ch.options.wait_create_ns = 20 * MS;
    assert_fails(noria_open(&early, ch.address, NORIA_RECV, &ch.options), ENOENT);
    assert_true(now_ns() - start >= 20 * MS && now_ns() - start < 60 * SECOND);
    peer = start_peer(receive_when_it_is_there);
    await_peer();
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 10);
    expect_end(peer);
}

static void send_and_leave(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);

    PEER_REQUIRES(noria_send(mine, "0123456789", 10, 60 * SECOND) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void creators_may_come_together(void **state)
{
    /* Claim: four that create at once, many times, end up in one channel. */
    enum { PEERS = 4, ROUNDS = 10 };
    uint8_t bytes[64];

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[PEERS];
        for (int i = 0; i < PEERS; i++)
            pids[i] = start_peer(send_and_leave);
        for (int i = 0; i < PEERS; i++)
            expect_end(pids[i]);
        ch.rx = open_handle(NORIA_RECV);
        for (int i = 0; i < PEERS; i++)
            assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), 10);
        close_handle(&ch.rx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static uint64_t locked_kilobytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    unsigned long long locked = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL && sscanf(line, "VmLck: %llu", &locked) != 1)
        continue;
    fclose(file);
    return locked;
}

/* A sanitizer's mlock says yes and does nothing. */
static bool locking_is_real(void)
{
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool real = mlock(page, 4096) != 0 || locked_kilobytes() > 0;

    munmap(page, 4096);
    return real;
}

static void wishes_are_granted_or_not(void **state)
{
    /* Claim: no wish fails an open; what stat says was granted is so, and what cannot be is not. */
    struct noria_stat stat;

    (void)state;
    ch.options.wishes = NORIA_WISH_POPULATED | NORIA_WISH_LOCKED | NORIA_WISH_HUGE_PAGES | NORIA_WISH_NODE;
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    stat = stat_of(ch.tx);
    works(ch.tx);
    assert_int_equal(stat.granted & ~ch.options.wishes, 0);
    if (locking_is_real())
        assert_int_equal((stat.granted & NORIA_WISH_LOCKED) != 0, locked_kilobytes() > 0);
    close_handle(&ch.tx);
    if (is_at("memory")) /* the mapping is the caller's, and stays */
        munlock(ch.options.memory, ch.options.memory_size);
    assert_int_equal(locked_kilobytes(), 0);
    ch.options.node = 1000;
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(stat_of(ch.tx).granted & NORIA_WISH_NODE, 0);
    ch.options.wishes = 0;
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(stat_of(ch.rx).granted, is_at("anon") || is_at("keyless") ? stat_of(ch.tx).granted : 0);
}

static long huge_pages(const char *which)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    size_t length = strlen(which);
    long count = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, which, length) == 0)
            count = strtol(line + length, NULL, 10);
    fclose(file);
    return count;
}

static void reserve_huge_pages(long count)
{
    FILE *file = fopen("/proc/sys/vm/nr_hugepages", "we");

    if (file == NULL)
        return; /* not ours to say */
    fprintf(file, "%ld", count);
    fclose(file);
}

static void huge_pages_are_had_or_not(void **state)
{
    /* Claim: a channel in System V memory whose creator wishes for huge pages is made of reserved ones if there are enough,
     * and says so to all who wish for them; otherwise it is made all the same, and says so, too. */
    long before = huge_pages("HugePages_Total:");
    bool had;

    (void)state;
    reserve_huge_pages(before + 16);
    had = geteuid() == 0 && huge_pages("HugePages_Free:") >= 16;
    ch.options.wishes = NORIA_WISH_HUGE_PAGES | NORIA_WISH_LOCKED | NORIA_WISH_POPULATED;
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    ch.rx = is_spsc() ? NULL : open_handle(NORIA_RECV);
    works(ch.tx);
    if (had)
        assert_int_equal(stat_of(ch.tx).granted, ch.options.wishes);
    if (had && ch.rx != NULL)
        assert_int_equal(stat_of(ch.rx).granted, ch.options.wishes);
    close_handle(&ch.rx);
    close_handle(&ch.tx);
    remove_name();
    reserve_huge_pages(before);
    if (huge_pages("HugePages_Free:") == 0) {
        ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
        works(ch.tx);
        close_handle(&ch.tx);
    }
    print_message("huge pages: %s\n", had ? "had" : "none to be had here");
}

static void lossy_receivers_read_ordinary_pages(void **state)
{
    /* Claim: a channel whose receivers make their pages read-only is not made of reserved huge pages, which is not
     * possible with those, even if there are enough: and says so. */
    long before = huge_pages("HugePages_Total:"), left;
    bool had;
    int rc;

    (void)state;
    reserve_huge_pages(before + 16);
    had = geteuid() == 0 && huge_pages("HugePages_Free:") >= 16;
    ch.options.kind = NORIA_KIND_BROADCAST;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.options.max_held = 1;
    ch.options.wishes = NORIA_WISH_HUGE_PAGES;
    ch.tx = open_handle(NORIA_SEND);
    rc = try_open(&ch.rx, NORIA_RECV);
    left = huge_pages("HugePages_Free:");
    reserve_huge_pages(before);
    assert_int_equal(rc, 0);
    send_numbered(1, 10);
    expect(1, 10);
    if (had)
        assert_true(left >= 16);
    print_message("huge pages: %s\n", had ? "left alone" : "none to be had here");
}

/* ------------------------------------------------------------------------------------------------- how a name goes */

static void names_stay(void **state)
{
    /* Claim: by default a name goes only when it is unlinked. */
    (void)state;
    open_pair();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_true(name_exists());
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_false(name_exists());
    assert_fails(noria_unlink(ch.address), ENOENT);
}

static void names_go_with_the_creator(void **state)
{
    /* Claim: with UNLINK_CREATOR the name goes when the creator closes, and not before; the others go on; a new
     * channel of that name is another one. */
    noria_channel *fresh = NULL;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_CREATOR;
    ch.keeper = open_handle(0);
    open_pair();
    close_handle(&ch.rx);
    assert_true(name_exists());
    ch.rx = open_handle(NORIA_RECV);
    close_handle(&ch.keeper);
    assert_false(name_exists());
    send_numbered(1, 10);
    expect(1, 10);
    assert_int_equal(noria_open(&fresh, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    assert_int_equal(stat_of(fresh).sent, 0);
    close_handle(&fresh);
    assert_false(name_exists());
}

static void create_and_wait(void)
{
    open_handle(NORIA_SEND);
    say();
    await_end();
}

static void names_of_killed_creators_go_with_the_last(void **state)
{
    /* Claim: a creator who was killed does not keep the name for ever: with both lifetimes the last one removes it. */
    (void)state;
    for (uint32_t lifetime = NORIA_UNLINK_LAST; lifetime <= NORIA_UNLINK_CREATOR; lifetime++) {
        pid_t peer;
        ch.options.lifetime = lifetime;
        peer = start_peer(create_and_wait);
        await_peer();
        ch.rx = open_handle(NORIA_RECV);
        kill_peer(peer);
        assert_true(name_exists());
        close_handle(&ch.rx);
        assert_false(name_exists());
    }
}

static void unlinked_channels_are_noticed(void **state)
{
    /* Claim: who has a channel open whose name was removed is told so by stat, and goes on with those who have it, too; the
     * name is free at once, and whoever opens it has nothing to do with them. When they are gone nothing is left. */
    noria_channel *fresh = NULL;

    (void)state;
    open_pair();
    assert_int_equal(stat_of(ch.rx).nameless, 0);
    assert_true((stat_of(ch.rx).abilities & NORIA_CAN_OUTLIVE) != 0);
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(stat_of(ch.rx).nameless, 1);
    assert_int_equal(stat_of(ch.tx).abilities & NORIA_CAN_OUTLIVE, 0);
    assert_false(name_exists());
    assert_fails(noria_open(&fresh, ch.address, NORIA_RECV, NULL), ENOENT);
    assert_int_equal(noria_open(&fresh, ch.address, NORIA_RECV | NORIA_CREATE | NORIA_EXCL, &ch.options), 0);
    send_numbered(1, 10);
    assert_int_equal(stat_of(fresh).messages, 0);
    assert_int_equal(stat_of(fresh).nameless, 0);
    expect(1, 10);
    assert_true(noria_fd(ch.rx, NORIA_RECV) >= 0);
    close_handle(&fresh);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void reopen_and_use(void)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_reopen(&mine, ch.tx, NORIA_SEND) == 0);
    PEER_REQUIRES(noria_close(ch.tx) == 0);
    PEER_REQUIRES(noria_send(mine, "0123456789", 10, 60 * SECOND) == 0);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void children_share_it(void **state)
{
    /* Claim: a forked child becomes a participant of its own, also when the name is gone, and of memory that never
     * had one. Whether it ends or is killed, the parent stays. */
    uint8_t bytes[64];

    (void)state;
    ch.options.kind = NORIA_KIND_MPMC;
    open_pair();
    for (int round = 0; round < 2; round++) {
        expect_end(start_peer(reopen_and_use));
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), 10);
        if (has_name() && round == 0)
            assert_int_equal(noria_unlink(ch.address), 0);
    }
    assert_int_equal(stat_of(ch.rx).senders, 1);
    assert_int_equal(stat_of(ch.rx).deaths, 0);
}

static void outlive_the_parent(void)
{
    noria_channel *mine = NULL;

    say();
    await_order();
    PEER_REQUIRES(noria_reopen(&mine, ch.tx, NORIA_SEND | NORIA_RECV) == 0);
    works(mine);
    PEER_REQUIRES(noria_close(mine) == 0);
    PEER_REQUIRES(noria_close(ch.tx) == 0);
}

static void children_may_come_late(void **state)
{
    /* Claim: a child that reopens after all others have closed has the channel to itself; nothing is left of it. */
    pid_t peer;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    peer = start_peer(outlive_the_parent);
    await_peer();
    close_handle(&ch.tx);
    tell_peer();
    expect_end(peer);
}

/* -------------------------------------------------------------------------------------------------- who may, and
 * who not */

/* The body runs in a child, as the user. */
static void run_as(uid_t user, void (*body)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        be_child();
        if (user != geteuid() && (setgroups(0, NULL) != 0 || setresgid(user, user, user) != 0 ||
                                  setresuid(user, user, user) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0))
            _exit(MISSING_RIGHTS);
        body();
        exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == MISSING_RIGHTS) {
        print_message("skipped: this needs root\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void find_it_closed(void)
{
    noria_channel *mine = NULL;
    struct noria_listing listing;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV, &ch.options) == -EACCES);
    PEER_REQUIRES(strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options) == -EACCES);
    ch.options.foreign = 1;
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV, &ch.options) == -EACCES);
    PEER_REQUIRES(noria_inspect(ch.address, &listing) == 0);
    PEER_REQUIRES(listing.condition == NORIA_CONDITION_NO_ACCESS && listing.mode == 0600 && listing.uid != geteuid());
    PEER_REQUIRES(noria_unlink(ch.address) < 0);
}

static void private_channels_are_closed_to_others(void **state)
{
    /* Claim: with mode 0600 another user can neither open nor remove a channel, and is told why; who owns it is
     * listed. */
    (void)state;
    open_pair();
    run_as(STRANGER, find_it_closed);
    send_numbered(1, 10);
    expect(1, 10);
}

static void make_it_open_to_all(void)
{
    ch.options.mode = 0666;
    works(open_handle(NORIA_SEND | NORIA_RECV)); /* and leaves it */
}

static void remove_it(void)
{
    noria_unlink(ch.address);
}

static void channels_of_others_need_consent(void **state)
{
    /* Claim: what another user has made, open to all, is refused until options.foreign says that he is trusted; then
     * its users notice each other's deaths like those of one user. */
    noria_channel *channel = NULL;
    int rc, refused;

    (void)state;
    ch.options.kind = NORIA_KIND_MPMC;
    run_as(STRANGER, make_it_open_to_all);
    refused = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, &ch.options);
    ch.options.foreign = 1;
    rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, &ch.options);
    if (rc == 0) {
        works(channel);
        assert_int_equal(stat_of(channel).deaths, 1); /* the maker's, who did not close */
        close_handle(&channel);
    }
    run_as(STRANGER, remove_it);
    assert_int_equal(refused, -EACCES);
    assert_int_equal(rc, 0);
}

static key_t key_of_test(void)
{
    return (key_t)strtoul(ch.address + strlen("sysv:"), NULL, 16);
}

static void removed_memory_is_found_by_its_id(void **state)
{
    /* Claim: System V memory whose key was removed can be attached by its id as long as somebody has it; and what is told
     * of a channel is its own, beside whichever other. */
    struct noria_listing listing, other;
    noria_channel *another = NULL;
    char address[32], beside[32];

    (void)state;
    snprintf(beside, sizeof(beside), "sysv:0x%08x", 0x75000000u + (unsigned)getpid());
    assert_int_equal(noria_open(&another, beside, NORIA_SEND | NORIA_CREATE, NULL), 0);
    ch.tx = open_handle(NORIA_SEND);
    snprintf(address, sizeof(address), "sysv:id:%d", shmget(key_of_test(), 0, 0));
    assert_int_equal(noria_inspect(ch.address, &listing), 0);
    assert_int_equal(noria_inspect(beside, &other), 0);
    assert_int_equal(listing.footprint, stat_of(ch.tx).footprint);
    assert_int_equal(other.footprint, stat_of(another).footprint);
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(noria_open(&ch.rx, address, NORIA_RECV, NULL), 0);
    send_numbered(1, 8);
    expect(1, 8);
    close_handle(&another);
    assert_int_equal(noria_unlink(beside), 0);
}

static void locks_of_others_are_theirs(void **state)
{
    /* Claim: a set of locks that root made for another user's channel, and was killed before he gave it to him, is given to
     * him by root when he opens the channel. */
    struct semid_ds status;
    union semun {
        struct semid_ds *buf;
    } argument = {&status};
    int id, set;

    (void)state;
    if (geteuid() != 0)
        skip();
    run_as(STRANGER, make_it_open_to_all);
    id = shmget(key_of_test(), 0, 0);
    set = semget((key_t)((uint32_t)id ^ 0xee6f7261u), 0, 0);
    assert_int_equal(semctl(set, 0, IPC_STAT, argument), 0);
    assert_int_equal(status.sem_perm.uid, STRANGER);
    status.sem_perm.uid = 0;
    assert_int_equal(semctl(set, 0, IPC_SET, argument), 0);
    ch.options.foreign = 1;
    ch.options.kind = NORIA_KIND_MPMC;
    assert_int_equal(noria_open(&ch.tx, ch.address, NORIA_SEND, &ch.options), 0);
    close_handle(&ch.tx);
    assert_int_equal(semctl(set, 0, IPC_STAT, argument), 0);
    run_as(STRANGER, remove_it);
    assert_int_equal(status.sem_perm.uid, STRANGER);
}

static void expect_refusals(int expected)
{
    for (int create = 0; create <= NORIA_CREATE; create += NORIA_CREATE) {
        noria_channel *channel = NULL;
        assert_fails(noria_open(&channel, ch.address, NORIA_RECV | create, &ch.options), expected);
    }
    assert_true(noria_unlink(ch.address) < 0);
}

static void plants_among_files(void **state)
{
    /* Claim: a symbolic or hard link, FIFO or directory at the name is refused, and neither followed nor removed. */
    char target[100];
    struct stat status;

    (void)state;
    snprintf(target, sizeof(target), "%s-target", ch.path);
    assert_int_equal(symlink(target, ch.path), 0);
    expect_refusals(ELOOP);
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(unlink(ch.path), 0);
    assert_int_equal(mkfifo(ch.path, 0600), 0);
    expect_refusals(EINVAL);
    assert_int_equal(unlink(ch.path), 0);
    assert_int_equal(mkdir(ch.path, 0700), 0);
    expect_refusals(EINVAL);
    assert_int_equal(rmdir(ch.path), 0);
    ch.tx = open_handle(NORIA_SEND);
    close_handle(&ch.tx);
    assert_int_equal(link(ch.path, target), 0);
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND, &ch.options), EACCES);
    assert_int_equal(unlink(target), 0);
    assert_int_equal(stat(ch.path, &status), 0);
    assert_int_equal(truncate(ch.path, 300), 0);
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND, &ch.options), EBADMSG);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void plants_among_keys(void **state)
{
    /* Claim: another program's memory under the key, used or of zeros, is refused and not changed; so is its set of
     * semaphores under the key of our locks. Memory that nobody has attached yet is anybody's. */
    int id = shmget(key_of_test(), 8192, IPC_CREAT | IPC_EXCL | 0600), set;
    uint8_t *memory = shmat(id, NULL, 0), zeros[8192] = {0};
    struct semid_ds status;
    noria_channel *channel = NULL;

    (void)state;
    assert_true(id >= 0 && memory != (void *)-1);
    expect_refusals(EINVAL);
    assert_memory_equal(memory, zeros, sizeof(zeros));
    memset(memory, 0x5a, 8192);
    expect_refusals(EINVAL);
    assert_int_equal(memory[0] + memory[8191], 2 * 0x5a);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    shmdt(memory);

    id = shmget(key_of_test(), 8192, IPC_CREAT | IPC_EXCL | 0600);
    set = semget((key_t)((uint32_t)id ^ 0xee6f7261u), 3, IPC_CREAT | IPC_EXCL | 0600);
    assert_int_equal(semctl(set, 1, SETVAL, 7), 0);
    assert_int_equal(semctl(set, 2, SETVAL, 9), 0);
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EEXIST);
    assert_non_null(strstr(noria_detail(), "ipcrm"));
    assert_int_equal(semctl(set, 1, GETVAL), 7);
    assert_int_equal(semctl(set, 0, IPC_STAT, &status), 0);
    assert_int_equal(semctl(set, 0, IPC_RMID), 0);
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV); /* of another size, and all the same */
    works(ch.tx);
    assert_true(shmget(key_of_test(), 0, 0) != id);
}

static void make_and_remove(void)
{
    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    close_handle(&ch.tx);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void what_is_not_left_over_stays(void **state)
{
    /* Claim: what creating and removing sweeps away is our own leftovers: another program's set of semaphores whose key
     * happens to look like one of ours stays, and no channel gets a key that is swept. */
    unsigned short values[3] = {1, 1, 0}, now[3] = {0};
    int set = semget((key_t)0xcafebabeu, 3, IPC_CREAT | IPC_EXCL | 0600);
    noria_channel *lone = NULL;

    (void)state;
    assert_true(set >= 0);
    assert_int_equal(semctl(set, 0, SETALL, values), 0);
    make_and_remove();
    make_and_remove();
    assert_int_equal(semctl(set, 0, GETALL, now), 0);
    assert_memory_equal(now, values, sizeof(values));
    assert_int_equal(semctl(set, 0, IPC_RMID), 0);
    assert_fails(noria_open(&lone, "sysv:0x6e6f0001", NORIA_SEND | NORIA_CREATE, NULL), EINVAL);
}

/* ----------------------------------------------------------------------------------------------- too little of it */

static void write_limit(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    PEER_REQUIRES(fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value));
    close(fd);
}

static void expect_limit(int expected, const char *word)
{
    noria_channel *mine = NULL;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == -expected);
    PEER_REQUIRES(strstr(noria_detail(), word) != NULL);
    PEER_REQUIRES(count_ids("/proc/sysvipc/shm") + count_ids("/proc/sysvipc/sem") == 0);
}

static void meet_limits_of_ids(void)
{
    noria_channel *mine;

    if (unshare(CLONE_NEWIPC) != 0)
        _exit(MISSING_RIGHTS);
    write_limit("/proc/sys/kernel/shmmax", "4096");
    expect_limit(EINVAL, "shmmax");
    write_limit("/proc/sys/kernel/shmmax", "1000000000");
    write_limit("/proc/sys/kernel/shmmni", "0");
    expect_limit(ENOSPC, "shmmni");
    write_limit("/proc/sys/kernel/shmmni", "4096");
    write_limit("/proc/sys/kernel/shmall", "1");
    expect_limit(ENOSPC, "shmall");
    write_limit("/proc/sys/kernel/shmall", "1000000");
    write_limit("/proc/sys/kernel/sem", "4 32000 500 32000");
    expect_limit(EINVAL, "kernel.sem");
    write_limit("/proc/sys/kernel/sem", "32000 32000 500 0");
    expect_limit(ENOSPC, "kernel.sem");
    write_limit("/proc/sys/kernel/sem", "32000 32000 500 100");
    mine = open_handle(NORIA_SEND | NORIA_RECV);
    works(mine);
    PEER_REQUIRES(noria_close(mine) == 0);
    noria_unlink(ch.address);
    PEER_REQUIRES(count_ids("/proc/sysvipc/shm") + count_ids("/proc/sysvipc/sem") == 0);
}

static void limits_of_ids_are_told(void **state)
{
    /* Claim: each limit of System V is an error code and a sentence with its name; nothing is left, and the next try
     * succeeds. */
    (void)state;
    run_as(geteuid(), meet_limits_of_ids);
}

static void meet_a_full_disk(void)
{
    noria_channel *mine = NULL;

    const char *folder = is_at("shm") ? "/dev/shm" : "/var/tmp";

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "nr_inodes=1") != 0)
        _exit(MISSING_RIGHTS);
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == -ENOSPC);
    PEER_REQUIRES(strstr(noria_detail(), "df -i") != NULL);
    PEER_REQUIRES(mount("tmpfs", folder, "tmpfs", 0, "size=64k") == 0);
    ch.options.capacity = 1000;
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == -ENOSPC);
    PEER_REQUIRES(strstr(noria_detail(), "free") != NULL);
    PEER_REQUIRES(access(ch.path, F_OK) != 0);
    ch.options.capacity = 8;
    mine = open_handle(NORIA_SEND | NORIA_RECV);
    works(mine);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void full_disks_are_told(void **state)
{
    /* Claim: a file system of 64 KiB is -ENOSPC with the figures, no signal; nothing is left, and less fits. One
     * without room for a name says where to look. */
    (void)state;
    run_as(geteuid(), meet_a_full_disk);
}

/* ----------------------------------------------------------------------------------- killed at every system call */

static noria_channel *mine;

static void have_nothing(void)
{
}

static void create(void)
{
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options) == 0);
}

static void have_a_channel(void)
{
    create();
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void attach(void)
{
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV, &ch.options) == 0);
}

static void close_it(void)
{
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void unlink_it(void)
{
    PEER_REQUIRES(noria_unlink(ch.address) == 0);
}

/* A participant who died with a message in his hand. */
static void have_a_dead_one(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct noria_span span;
        be_child();
        create();
        PEER_REQUIRES(noria_send(mine, "x", 1, 0) == 0 && noria_peek(mine, &span, 0, NULL) == 0);
        _exit(0);
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && status == 0);
}

/* The same, of a channel that was to go with its last user. */
static void have_a_deserted_one(void)
{
    ch.options.lifetime = NORIA_UNLINK_LAST;
    have_a_dead_one();
}

static void repair(void)
{
    struct noria_health health;

    PEER_REQUIRES(noria_fsck(ch.address, 1, &health) == 0 && health.repaired == 1);
}

static void collect(void)
{
    PEER_REQUIRES(noria_gc(0, NULL, NULL) == 1);
}

/* The others may have done it meanwhile. */
static void repair_what_is_left(void)
{
    struct noria_health health;

    PEER_REQUIRES(noria_fsck(ch.address, 1, &health) == 0);
}

static void collect_what_is_left(void)
{
    PEER_REQUIRES(noria_gc(0, NULL, NULL) >= 0);
}

enum needs { NOTHING, A_NAME, A_LIST };

struct operation {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
    enum needs needs; /* of the address */
    int rarely; /* at so many times fewer stops: it has many */
    void (*run_beside_others)(void); /* who may have done it meanwhile; NULL: run */
};

static const struct operation operations[] = {{"create", have_nothing, create, NOTHING, 1, NULL},
                                              {"attach", have_a_channel, attach, A_NAME, 1, NULL},
                                              {"close", create, close_it, NOTHING, 1, NULL},
                                              {"unlink", have_a_channel, unlink_it, A_NAME, 1, NULL},
                                              {"unlink in use", create, unlink_it, A_NAME, 1, NULL},
                                              {"fsck", have_a_dead_one, repair, A_NAME, 3, repair_what_is_left},
                                              {"gc", have_a_deserted_one, collect, A_LIST, 3, collect_what_is_left}};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

static bool may_be_run(const struct operation *operation)
{
    return operation->needs == NOTHING || (operation->needs == A_NAME && has_name()) ||
           (operation->needs == A_LIST && is_alone && (is_at("shm") || is_at("sysv")));
}

#define END_OF_WINDOW (-4242) /* getpgid(this): the operation is over */

/* Lets the child run to the next side of a system call. False: it has come to the end of the operation. */
static bool go_to_call(pid_t pid, struct __ptrace_syscall_info *call)
{
    int status;

    assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
        fail_msg("the child ended by itself, with status 0x%x", (unsigned)status);
    assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(*call), call) > 0);
    return call->op != PTRACE_SYSCALL_INFO_ENTRY || call->entry.nr != SYS_getpgid ||
           (int)call->entry.args[0] != END_OF_WINDOW;
}

static pid_t start_victim(const struct operation *operation, void (*run)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        be_child();
        operation->prepare();
        PEER_REQUIRES(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        run();
        syscall(SYS_getpgid, END_OF_WINDOW);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    if (!WIFSTOPPED(status))
        fail_msg("%s: the child did not get to the operation: 0x%x", operation->name, (unsigned)status);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    return pid;
}

static void kill_victim(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* Kills the victim at its k-th stop: odd before a system call, even after it. False: it was over before. */
static bool try_death(const struct operation *operation, int k)
{
    struct __ptrace_syscall_info call;
    pid_t pid = start_victim(operation, operation->run);
    int stops = 0;

    while (stops < k && go_to_call(pid, &call))
        stops++;
    kill_victim(pid);
    return stops == k;
}

static void renew_memfd(void)
{
    int fresh = memfd_create("variant", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_int_equal(dup3(fresh, ch.memfd, O_CLOEXEC), ch.memfd);
    close(fresh);
}

static int64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void works_after(noria_channel *channel)
{
    uint8_t bytes[8];

    if (stat_of(channel).messages > 0) /* what a dead one held */
        assert_int_equal(noria_recv(channel, bytes, sizeof(bytes), 0, NULL), 1);
    works(channel);
}

/* What must hold whatever somebody was killed over. False: but for the time that the next open may take, a second. */
static bool is_no_obstacle(const char *what, int at)
{
    int64_t start = now_ns(), used = cpu_ns(), took;

    ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
    took = now_ns() - start;
    if (cpu_ns() - used > SECOND)
        fail_msg("%s, stop %d: the next open took %lld ns, and was at work all the time", what, at, (long long)took);
    works_after(ch.tx);
    close_handle(&ch.tx);
    if (name_exists())
        assert_int_equal(noria_unlink(ch.address), 0);
    if (ch.memfd >= 0)
        renew_memfd();
    if (is_at("memory"))
        memset(ch.options.memory, 0, ch.options.memory_size);
    if (count_objects() != objects_before)
        fail_msg("%s, stop %d: %d objects are left", what, at, count_objects() - objects_before);
    return took <= SECOND;
}

/* A busy machine holds up one open or another, an obstacle each. */
enum { SLOW_OPENS = 5 };

static void fail_slow(const char *what, int at)
{
    fail_msg("%s, stop %d: %d times in a row the next open took more than a second", what, at, SLOW_OPENS);
}

/* False: it was over before its k-th stop. */
static bool die_without_obstacle(const struct operation *operation, int k)
{
    for (int slow = 0; slow < SLOW_OPENS; slow++) {
        bool died = try_death(operation, k);
        if (is_no_obstacle(operation->name, k))
            return died;
    }
    fail_slow(operation->name, k);
    return false;
}

static void death_anywhere_is_no_obstacle(void **state)
{
    /* Claim: killed before or after any system call of any operation, the next one that creates has a working channel
     * within a second, and when that is removed nothing is left. */
    /* Odd, so that there are stops before and after calls. */
    const int some = getenv("NORIA_TEST_USER") != NULL ? 7 : 3;

    (void)state;
    ch.options.open_timeout_ns = 60 * SECOND;
    for (int i = 0; i < OPERATIONS; i++) {
        int k = 1, stride = getenv("NORIA_LONG") != NULL ? 1 : some * operations[i].rarely;
        if (!may_be_run(&operations[i]))
            continue;
        while (die_without_obstacle(&operations[i], k))
            k += stride;
        k += stride;
        print_message("%s: %d stops, each %d\n", operations[i].name, k - stride, stride);
        assert_true(k > 4);
    }
}

/* A call that waits for the stopped one longer than it may ends the test: nobody would go on otherwise. */
static void give_up(int signo)
{
    static const char why[] = "a call waits for somebody who is stopped\n";

    (void)signo;
    (void)!write(STDERR_FILENO, why, sizeof(why) - 1);
    abort();
}

/* Beside somebody who stands still. True: the channel could be had. */
static bool can_be_had(const char *what, int at)
{
    noria_channel *channel = NULL;
    int rc;

    alarm(60);
    rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options);
    if (rc != 0 && rc != -ETIMEDOUT)
        fail_msg("%s, stop %d: %d (%s)", what, at, rc, noria_detail());
    if (rc == 0)
        works_after(channel);
    if (rc == 0)
        assert_int_equal(noria_close(channel), 0);
    alarm(0);
    return rc == 0;
}

/* Stops at the k-th stop, goes on when the others have tried. False: it was over before. */
static bool stop_without_obstacle(const struct operation *operation, int k, int *had)
{
    struct __ptrace_syscall_info call;
    pid_t pid = start_victim(operation, operation->run_beside_others != NULL ? operation->run_beside_others : operation->run);
    int stops = 0, status;

    while (stops < k && go_to_call(pid, &call))
        stops++;
    if (stops == k)
        *had += can_be_had(operation->name, k);
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0)
        fail_msg("%s, stop %d: when it went on it failed: 0x%x", operation->name, k, (unsigned)status);
    is_no_obstacle(operation->name, k);
    return stops == k;
}

static void a_stop_anywhere_bounds_the_wait(void **state)
{
    /* Claim: stopped before or after any system call of any operation, nobody keeps the others from opening the channel
     * and passing messages, or they are told -ETIMEDOUT after open_timeout_ns; when the stopped one goes on, it succeeds
     * and the channel works. */
    const int some = getenv("NORIA_TEST_USER") != NULL ? 7 : 3;

    (void)state;
    ch.options.open_timeout_ns = 50 * 1000 * 1000;
    signal(SIGALRM, give_up);
    for (int i = 0; i < OPERATIONS; i++) {
        const struct operation *operation = &operations[i];
        int k = 1, tried = 0, had = 0, stride = getenv("NORIA_LONG") != NULL ? 1 : some * operation->rarely;
        if (!may_be_run(operation))
            continue;
        for (; stop_without_obstacle(operation, k, &had); k += stride)
            tried++;
        print_message("%s: stopped at %d places, the channel could be had at %d\n", operation->name, tried, had);
        assert_true(tried > 0 && had > 0);
    }
    signal(SIGALRM, SIG_DFL);
}

static const struct operation of_the_last[] = {{"create for the last", have_nothing, create, A_LIST, 1, NULL},
                                               {"attach as the last", have_a_deserted_one, attach, A_LIST, 1, NULL},
                                               {"close as the last", create, close_it, A_LIST, 1, NULL},
                                               {"unlink the last's", have_a_deserted_one, unlink_it, A_LIST, 1, NULL},
                                               {"fsck of the last's", have_a_deserted_one, repair, A_LIST, 3, NULL},
                                               {"gc of the last's", have_a_deserted_one, collect, A_LIST, 3, NULL}};
enum { OF_THE_LAST = sizeof(of_the_last) / sizeof(of_the_last[0]) };

/* Memory under the key that has no locks yet, which may be anybody's: who creates next takes it over. */
static bool is_not_yet_marked(void)
{
    int id = is_at("sysv") ? shmget(key_of_test(), 0, 0) : -1;

    return id >= 0 && semget((key_t)((uint32_t)id ^ 0xee6f7261u), 0, 0) < 0 && shmctl(id, IPC_RMID, NULL) == 0;
}

static void gc_leaves_nothing_of_the_dead(void **state)
{
    /* Claim: killed before or after any system call of creating, attaching, closing, unlinking, mending or collecting a
     * channel that goes with its last user: nobody opens it again, but gc, once, leaves nothing. Only System V memory that has no locks yet, for a few
     * system calls, is not known to be ours. */
    const int some = getenv("NORIA_LONG") != NULL ? 1 : 5;

    (void)state;
    if (!is_alone)
        skip();
    ch.options.lifetime = NORIA_UNLINK_LAST;
    for (int i = 0; i < OF_THE_LAST; i++) {
        int k = 1, unmarked = 0, stride = some > 1 ? some * of_the_last[i].rarely : 1;
        for (bool more = true; more; k += stride) {
            more = try_death(&of_the_last[i], k);
            assert_true(noria_gc(0, NULL, NULL) >= 0);
            unmarked += is_not_yet_marked();
            if (count_objects() != objects_before)
                fail_msg("%s, stop %d: gc leaves %d objects", of_the_last[i].name, k, count_objects() - objects_before);
        }
        print_message("%s: %d stops, each %d; %d too early to tell whose\n", of_the_last[i].name, k - stride, stride,
                      unmarked);
        assert_true(k > 4 && unmarked <= (i == 0 ? 10 / stride : 0));
    }
}

static void gc_sweeps_memory_without_a_key(void **state)
{
    /* Claim: memory without a key that its creator was killed over before he had attached it is told by a dry run of gc, and
     * goes with a real one. */
    int stop = 0;

    (void)state;
    if (!is_alone)
        skip();
    while (count_objects() < objects_before + 2) /* memory and locks */
        assert_true(try_death(&operations[0], ++stop));
    assert_int_equal(noria_gc(1, NULL, NULL), 1);
    assert_int_equal(count_objects(), objects_before + 2);
    assert_int_equal(noria_gc(0, NULL, NULL), 1);
    assert_int_equal(count_objects(), objects_before);
}

/* ------------------------------------------------------------ killed at every instruction, from memory to the magic */

#define MAGIC UINT64_C(0x31474553616e6f4e)

/* Where the segment gets its memory: instructions are counted from the entry of this call. (Of System V memory it is not
 * the first; but in between lists are read, and the one word that is stored stands before it.) */
static bool is_allocation(const struct __ptrace_syscall_info *call)
{
    return call->op == PTRACE_SYSCALL_INFO_ENTRY && call->entry.nr == (is_at("sysv") ? SYS_madvise : SYS_fallocate);
}

static bool go_to_allocation(pid_t pid)
{
    struct __ptrace_syscall_info call = {0};

    while (!is_allocation(&call))
        if (!go_to_call(pid, &call))
            return false;
    return true;
}

/* One instruction, a system call being one. False: the child has come to its end. */
static bool step(pid_t pid)
{
    int status;

    assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status) && status != 0)
        fail_msg("the child ended by itself, with status 0x%x", (unsigned)status);
    return WIFSTOPPED(status);
}

static uint64_t read_pc(pid_t pid)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), NULL);
}

static void write_register(pid_t pid, size_t offset, uint64_t value)
{
    assert_int_equal(ptrace(PTRACE_POKEUSER, pid, offset, value), 0);
}

/* Goes on until the instruction at `pc` is to be executed the next time, by an int3 in the child's own copy of the code.
 * False: the child has come to its end. */
static bool proceed_to(pid_t pid, uint64_t pc)
{
    long code;
    int status;

    if (read_pc(pid) == pc && !step(pid))
        return false;
    if (read_pc(pid) == pc)
        return true;
    code = ptrace(PTRACE_PEEKTEXT, pid, pc, NULL);
    assert_int_equal(ptrace(PTRACE_POKETEXT, pid, pc, (code & ~0xffL) | 0xcc), 0);
    assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        fail_msg("the child ended by itself, with status 0x%x", (unsigned)status);
    assert_int_equal(ptrace(PTRACE_POKETEXT, pid, pc, code), 0);
    write_register(pid, offsetof(struct user_regs_struct, rip), pc);
    return true;
}

/* A look at the victim's segment, from outside; -1 or NULL: not yet. */
struct view {
    int fd;
    const uint64_t *memory;
};

static void look_for_segment(struct view *view)
{
    int id;

    if (!is_at("sysv")) {
        view->fd = ch.memfd >= 0 ? ch.memfd : open(ch.path, O_RDONLY | O_CLOEXEC);
        return;
    }
    id = shmget(key_of_test(), 0, 0);
    view->memory = id >= 0 ? shmat(id, NULL, SHM_RDONLY) : NULL;
}

static bool is_published(struct view *view)
{
    uint64_t word = 0;

    if (view->fd < 0 && view->memory == NULL)
        look_for_segment(view);
    if (view->memory != NULL)
        word = *(const volatile uint64_t *)view->memory;
    else if (view->fd >= 0 && pread(view->fd, &word, sizeof(word), 0) < 0)
        word = 0;
    return word == MAGIC;
}

static void end_view(const struct view *view)
{
    if (view->memory != NULL)
        shmdt(view->memory);
    if (view->fd >= 0 && view->fd != ch.memfd)
        close(view->fd);
}

/* The way from the allocation to the magic. A string instruction is one for each of its rounds. */
enum { MOST_INSTRUCTIONS = 100000 };
static struct way {
    int instructions;
    uint64_t pc[MOST_INSTRUCTIONS];  /* where the child is after so many */
    uint32_t hits[MOST_INSTRUCTIONS]; /* how often it has come there by then, not counting rounds */
} way;

static bool is_in_string(int position)
{
    return position > 0 && way.pc[position] == way.pc[position - 1];
}

static void count_hits(int position)
{
    int before = position - 1;

    while (before >= 0 && way.pc[before] != way.pc[position])
        before--;
    way.hits[position] = (before >= 0 ? way.hits[before] : 0) + !is_in_string(position);
}

static void find_way(void)
{
    struct view view = {-1, NULL};
    pid_t pid = start_victim(&operations[0], operations[0].run);

    assert_true(go_to_allocation(pid));
    way.pc[0] = read_pc(pid) - 2; /* of the `syscall` itself */
    way.hits[0] = 1;
    for (way.instructions = 0; !is_published(&view) && way.instructions + 1 < MOST_INSTRUCTIONS;) {
        assert_true(step(pid));
        way.pc[++way.instructions] = read_pc(pid);
        count_hits(way.instructions);
    }
    kill_victim(pid);
    end_view(&view);
    is_no_obstacle("published", way.instructions);
}

/* Where to put the breakpoint for a position: the fewest stops at it and single steps after it. */
static int cheapest_anchor(int position)
{
    enum { STOPS_OF_A_HIT = 2 };
    int best = position, cost = INT32_MAX;

    for (int at = position; at >= 0 && position - at < cost; at--) {
        int stops = STOPS_OF_A_HIT * (int)way.hits[at] + position - at;
        if (!is_in_string(at) && stops < cost) {
            best = at;
            cost = stops;
        }
    }
    return best;
}

/* From the beginning of a string instruction: so many rounds of it, as if it had no more. */
static bool go_rounds(pid_t pid, int rounds, int position)
{
    int after = position;

    while (after < way.instructions && way.pc[after] == way.pc[position])
        after++;
    write_register(pid, offsetof(struct user_regs_struct, rcx), (uint64_t)rounds);
    return proceed_to(pid, way.pc[after]);
}

/* What is read on the way is not always as long: who has come to his end before has done all of it. */
static bool walk(pid_t pid, int position)
{
    int begin = position, anchor;
    bool there = proceed_to(pid, way.pc[0]);

    while (is_in_string(begin))
        begin--;
    anchor = cheapest_anchor(begin);
    for (uint32_t hit = anchor == 0 || way.pc[anchor] == way.pc[0]; hit < way.hits[anchor] && there; hit++)
        there = proceed_to(pid, way.pc[anchor]);
    for (int at = anchor; at < begin && there; at++)
        there = step(pid);
    return there && begin < position ? go_rounds(pid, position - begin, position) : there;
}

/* Whether it came there. */
static bool die_after(int instructions)
{
    for (int slow = 0; slow < SLOW_OPENS; slow++) {
        pid_t pid = start_victim(&operations[0], operations[0].run);
        bool there = walk(pid, instructions);
        if (there)
            kill_victim(pid);
        if (is_no_obstacle("instruction", instructions))
            return there;
    }
    fail_slow("instruction", instructions);
    return false;
}

static void death_at_any_instruction_is_no_obstacle(void **state)
{
    /* Claim: the same, killed after any instruction from the one that gets the memory to the one that publishes the
     * segment: a tenth of them, spread evenly, and the last five, or all with NORIA_LONG. */
    enum { LAST = 5 };
    int stride = getenv("NORIA_LONG") != NULL ? 1 : 10, tried = 0, killed = 0;

    (void)state;
    is_no_obstacle("before", 0); /* what the linker looks up at a first call is then known, here and in children */
    find_way();
    assert_true(way.instructions > 100);
    for (int k = 0; k <= way.instructions - LAST; k += stride, tried++)
        killed += die_after(k);
    for (int k = way.instructions - LAST + 1; k <= way.instructions; k++, tried++)
        killed += die_after(k);
    print_message("killed after %d of %d instructions\n", killed, way.instructions);
    assert_true(killed > tried * 9 / 10); /* the others were not on the way this time */
}

static int become_user(const char *number)
{
    uid_t user = (uid_t)strtoul(number, NULL, 10);

    if (geteuid() != 0)
        return 0; /* unprivileged anyway */
    return setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0 &&
                   prctl(PR_SET_DUMPABLE, 1) == 0 ? 0 : -1;
}

int main(void)
{
    static const struct named_test tests[] = {
        BY_NAME(attachers_may_come_first),
        {"creators_may_come_together", creators_may_come_together, NORIA_KIND_MPMC, "shm, sysv, file"},
        EVERYWHERE(wishes_are_granted_or_not),
        {"huge_pages_are_had_or_not", huge_pages_are_had_or_not, 0, "sysv, keyless"},
        {"lossy_receivers_read_ordinary_pages", lossy_receivers_read_ordinary_pages, NORIA_KIND_MPMC, "sysv, keyless"},
        BY_NAME(names_stay),
        BY_NAME(names_go_with_the_creator),
        BY_NAME(names_of_killed_creators_go_with_the_last),
        BY_NAME(unlinked_channels_are_noticed),
        ONLY_MPMC(children_share_it),
        EVERYWHERE(children_may_come_late),
        {"removed_memory_is_found_by_its_id", removed_memory_is_found_by_its_id, NORIA_KIND_MPMC, "sysv"},
        BY_NAME(private_channels_are_closed_to_others),
        BY_NAME(channels_of_others_need_consent),
        {"locks_of_others_are_theirs", locks_of_others_are_theirs, NORIA_KIND_MPMC, "sysv"},
        {"plants_among_files", plants_among_files, 0, "shm, file"},
        AT("sysv", plants_among_keys),
        AT("sysv", what_is_not_left_over_stays),
        {"limits_of_ids_are_told", limits_of_ids_are_told, NORIA_KIND_MPMC, "sysv, keyless"},
        {"full_disks_are_told", full_disks_are_told, 0, "shm, file"},
        ONLY_MPMC(death_anywhere_is_no_obstacle),
        ONLY_MPMC(a_stop_anywhere_bounds_the_wait),
        {"gc_leaves_nothing_of_the_dead", gc_leaves_nothing_of_the_dead, NORIA_KIND_MPMC, "shm, sysv"},
        {"gc_sweeps_memory_without_a_key", gc_sweeps_memory_without_a_key, NORIA_KIND_MPMC, "keyless"},
    };
    static const struct named_test stepping[] = {
        {"death_at_any_instruction_is_no_obstacle", death_at_any_instruction_is_no_obstacle, NORIA_KIND_MPMC,
         "shm, file, sysv, memfd"},
    };
    const char *user = getenv("NORIA_TEST_USER");

    is_alone = unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777") == 0;
    if (user != NULL && become_user(user) != 0)
        return 1;
    if (getenv("NORIA_TEST_INSTRUCTIONS") != NULL)
        return run_variants_with("backends, instructions", stepping, 1, with_peers, without_peers);
    return run_variants_with("backends", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
