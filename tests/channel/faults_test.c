/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: if the kernel refuses any one system call of any call of the library, that call still succeeds or
 * fails with a documented code and a sentence, leaves no descriptor, mapping, name or id behind, and succeeds
 * when it is tried again.
 *
 * Each operation runs in a child under ptrace, once for every k: its k-th system call is not made and returns
 * the error.
 */
#include "variants_test.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "documented.h"
#include "own_shm.h"
#include "peers.h"

static char folder[32]; /* of a channel in a file, where no other test has any */

static int with_peers(void **state)
{
    int rc = setup(state);

    peers_begin();
    if (rc != 0 || !is_at("file"))
        return rc;
    snprintf(folder, sizeof(folder), "/var/tmp/noria-faults-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(ch.path, sizeof(ch.path), "%s/file", folder);
    snprintf(ch.address, sizeof(ch.address), "file:%s/file", folder);
    return 0;
}

static int without_peers(void **state)
{
    int rc = teardown(state);

    peers_end();
    return is_at("file") && rmdir(folder) != 0 ? -1 : rc;
}

/* The library takes memory for handles with these two; here it can be refused. */
static bool out_of_memory, out_of_cleared_memory;
static int spared; /* takings of cleared memory that succeed all the same */

void *calloc(size_t n, size_t size)
{
    void *memory = NULL;

    if ((out_of_cleared_memory && spared-- <= 0) || (size != 0 && n > SIZE_MAX / size) ||
        posix_memalign(&memory, 16, n * size) != 0)
        return NULL;
    return memset(memory, 0, n * size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *memory = NULL;

    return out_of_memory || posix_memalign(&memory, alignment, size) != 0 ? NULL : memory;
}

/* And with these two it gets the pages of a growing channel's links, and gives them back. */
static int refusals, refusal; /* so many calls end with this error */

int posix_fallocate(int fd, off_t offset, off_t len)
{
    if (refusals > 0)
        return refusals--, refusal;
    return syscall(SYS_fallocate, fd, 0, offset, len) == 0 ? 0 : errno;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (refusals <= 0)
        return (int)syscall(SYS_fallocate, fd, mode, offset, len);
    refusals--;
    errno = refusal;
    return -1;
}

/* And with this one it takes the right to write the ring from itself, and gives it back. */
static bool out_of_rights;

int mprotect(void *start, size_t len, int protection)
{
    if (!out_of_rights)
        return (int)syscall(SYS_mprotect, start, len, protection);
    errno = ENOMEM;
    return -1;
}

/* --------------------------------------------------------------------------------------------- operations */

/* What is there before, what is tried (0 or -errno), and whether the channel is as it should
 * be afterwards. */
struct operation {
    const char *name;
    void (*prepare)(void);
    int (*run)(void);
    void (*verify)(int rc);
    bool creates; /* a failure must not leave the name */
    const char *at; /* these schemes; NULL: all */
    bool has_peer; /* the tracer has the channel open, too, and it is as good for him as before */
    bool goes_on;  /* when a signal interrupts it; what opens files may say so */
};

static noria_channel *mine;

static void works(noria_channel *channel)
{
    uint8_t bytes[8] = {0};

    PEER_REQUIRES(noria_send(channel, "12345678", 8, 0) == 0);
    PEER_REQUIRES(noria_recv(channel, bytes, 8, SECOND, NULL) == 8);
    PEER_REQUIRES(memcmp(bytes, "12345678", 8) == 0);
}

static int close_it(void)
{
    int rc = mine != NULL ? noria_close(mine) : 0;

    mine = NULL;
    return rc;
}

static void close_mine(int rc)
{
    if (rc == 0)
        works(mine);
    PEER_REQUIRES(close_it() == 0);
}

static void have_nothing(void)
{
}

static int create(void)
{
    return noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options);
}

static void have_a_channel(void)
{
    PEER_REQUIRES(create() == 0);
    PEER_REQUIRES(close_it() == 0);
}

static int attach(void)
{
    return noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV, NULL);
}

/* Somebody else takes the message and a role, and dies. */
static void let_another_die(void)
{
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct noria_span span;
        if (attach() != 0 || noria_peek(mine, &span, 0, NULL) != 0)
            _exit(1);
        raise(SIGKILL);
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static void have_a_dead_participant(void)
{
    PEER_REQUIRES(create() == 0);
    PEER_REQUIRES(noria_send(mine, "12345678", 8, 0) == 0);
    PEER_REQUIRES(close_it() == 0);
    let_another_die();
}

static int attach_and_receive(void)
{
    uint8_t bytes[8];
    ssize_t rc = attach();

    if (rc == 0) {
        rc = noria_recv(mine, bytes, 8, 20 * SECOND, NULL);
        close_it();
    }
    return rc == 8 ? 0 : rc < 0 ? (int)rc : -EPROTO;
}

static noria_channel *inherited; /* as if: reopening looks at its descriptor only */

static void have_a_handle(void)
{
    PEER_REQUIRES(noria_open(&inherited, ch.address, NORIA_CREATE, &ch.options) == 0);
}

static int reopen(void)
{
    return noria_reopen(&mine, inherited, NORIA_SEND | NORIA_RECV);
}

static int look(void)
{
    struct noria_participant who[4];
    struct noria_listing listing;
    int rc = noria_inspect(ch.address, &listing);

    if (rc == 0)
        rc = noria_who(ch.address, who, 4);
    return rc < 0 ? rc : 0;
}

static int note(const struct noria_listing *listing, void *context)
{
    (void)listing;
    (void)context;
    return 0;
}

static int list(void)
{
    return noria_list(note, NULL);
}

/* The dead are cleaned up after, now or by the second try. */
static int check_and_repair(void)
{
    struct noria_health health;
    int rc = noria_fsck(ch.address, 1, &health);

    if (rc != 0)
        return rc;
    return health.condition == NORIA_CONDITION_OK && health.broken == 0 ? 0 : -EPROTO;
}

static int count_words(const struct noria_dumped *dumped, void *context)
{
    PEER_REQUIRES(dumped->part != NULL && context == NULL);
    return 0;
}

static int dump(void)
{
    return noria_dump(ch.address, count_words, NULL);
}

static int collect(void)
{
    int rc = noria_gc(1, NULL, NULL);

    return rc < 0 ? rc : 0;
}

static int ask_for_descriptor(void)
{
    int fd = noria_fd(mine, NORIA_RECV);

    return fd < 0 ? fd : 0;
}

static int unlink_name(void)
{
    int rc = noria_unlink(ch.address);

    return rc == -ENOENT ? 0 : rc; /* done by the first try */
}

static void have_an_open_channel(void)
{
    PEER_REQUIRES(create() == 0);
    works(mine); /* a thread's first call makes it known to liburcu, which ends the program if there is no
                    memory */
}

/* Waiting: nothing comes, in time. */
static int wait_in_vain(void)
{
    uint8_t bytes[8];
    ssize_t rc = noria_recv(mine, bytes, 8, 12 * MS, NULL);

    return rc == -ETIMEDOUT ? 0 : rc < 0 ? (int)rc : -EPROTO;
}

static void have_a_death_to_notice(void)
{
    have_an_open_channel();
    if (is_spsc()) /* whose roles are ours */
        return;
    PEER_REQUIRES(noria_send(mine, "12345678", 8, 0) == 0);
    let_another_die();
}

static int notice_a_death(void)
{
    uint8_t bytes[8];
    ssize_t rc = is_spsc() ? 8 : noria_recv(mine, bytes, 8, 20 * SECOND, NULL);

    return rc == 8 ? wait_in_vain() : rc < 0 ? (int)rc : -EPROTO;
}

static void verify_open(int rc)
{
    (void)rc;
    works(mine);
    PEER_REQUIRES(close_it() == 0);
}

static void verify_closed(int rc)
{
    (void)rc;
    PEER_REQUIRES(close_it() == 0);
}

static void verify_nothing(int rc)
{
    (void)rc;
}

/* ------------------------------------------------------------------------------- and those of what is rarer */

static int ends[2];

static void have_a_socket(void)
{
    have_an_open_channel();
    PEER_REQUIRES(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
}

static int hand_over(void)
{
    noria_channel *theirs = NULL;
    int rc = noria_share(mine, ends[0]);

    if (rc == 0)
        rc = noria_accept(&theirs, ends[1], 0, NULL);
    if (rc == 0)
        rc = noria_close(theirs);
    return rc;
}

static void verify_handed_over(int rc)
{
    verify_open(rc);
    close(ends[0]);
    close(ends[1]);
}

static int remove_idle(void)
{
    int rc = noria_remove(ch.address, 0);

    return rc == -ENOENT ? 0 : rc; /* done by the first try */
}

static int list_folder(void)
{
    return noria_list_folder("/dev/shm", note, NULL);
}

static int sync_it(void)
{
    return noria_sync(mine);
}

static int ask_for_signals(void)
{
    return noria_notify_signal(mine, SIGURG, NORIA_NOTIFY_ALWAYS); /* which is ignored */
}

static void have_a_descriptor(void)
{
    have_an_open_channel();
    PEER_REQUIRES(noria_fd(mine, NORIA_RECV) >= 0); /* which it then keeps */
}

static int wait_for_any_in_vain(void)
{
    struct noria_ready wait = {.channel = mine, .side = NORIA_RECV};

    return noria_wait_any(&wait, 1, 12 * MS);
}

static void have_a_deserted_channel(void)
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
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static int collect_in_earnest(void)
{
    int rc = noria_gc(0, NULL, NULL);

    return rc < 0 ? rc : 0;
}

/* What could not be looked at stayed, and the next one takes it. */
static void verify_collected(int rc)
{
    PEER_REQUIRES(rc == 0 && noria_gc(0, NULL, NULL) >= 0);
    PEER_REQUIRES(!name_exists());
}

static void have_a_full_channel(void)
{
    have_an_open_channel();
    while (noria_send(mine, "12345678", 8, 0) == 0)
        continue;
}

static int send_in_vain(void)
{
    int rc = noria_send(mine, "12345678", 8, 12 * MS);

    return rc == -ETIMEDOUT ? 0 : rc == 0 ? -EPROTO : rc;
}

static void verify_full(int rc)
{
    uint8_t bytes[8];

    while (noria_recv(mine, bytes, 8, 0, NULL) == 8)
        continue;
    verify_open(rc);
}

static int ask(void)
{
    struct noria_stat stat = {.size = sizeof(stat)};

    return noria_stat(mine, &stat);
}

static int shut_down(void)
{
    return noria_shutdown(mine);
}

/* --------------------------------------------------------------------------------- and of what wakes a sleeper */

static pid_t sleeper;

static void await_sleep(void)
{
    await_peer();
    while (!is_asleep(sleeper))
        sched_yield();
}

static noria_channel *of_sleeper(int flags)
{
    noria_channel *channel = NULL;

    be_child();
    PEER_REQUIRES(noria_open(&channel, ch.address, flags, &ch.options) == 0);
    say();
    return channel;
}

/* Lets a handle make the thread's first call, see have_an_open_channel. */
static void make_a_call(noria_channel *channel)
{
    uint8_t bytes[8];

    PEER_REQUIRES(noria_recv(channel, bytes, 8, 0, NULL) == -EAGAIN);
}

/* A receiver that waits for its second message. */
static void have_a_sleeping_receiver(void)
{
    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) == 0);
    PEER_REQUIRES(noria_send(mine, "12345678", 8, 0) == 0);
    fflush(NULL);
    sleeper = fork();
    if (sleeper == 0) {
        uint8_t bytes[8];
        noria_channel *channel = of_sleeper(NORIA_RECV);
        _exit(noria_recv(channel, bytes, 8, 0, NULL) == 8 && noria_recv(channel, bytes, 8, 20 * SECOND, NULL) == 8 && noria_close(channel) == 0 ? 0 : 1);
    }
    await_sleep();
}

/* A sender that waits for room. */
static void have_a_sleeping_sender(void)
{
    noria_channel *tx = NULL;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options) == 0);
    make_a_call(mine);
    PEER_REQUIRES(noria_open(&tx, ch.address, NORIA_SEND, &ch.options) == 0);
    while (noria_send(tx, "12345678", 8, 0) == 0)
        continue;
    PEER_REQUIRES(noria_close(tx) == 0);
    fflush(NULL);
    sleeper = fork();
    if (sleeper == 0) {
        noria_channel *channel = of_sleeper(NORIA_SEND);
        _exit(noria_send(channel, "12345678", 8, 20 * SECOND) == 0 && noria_close(channel) == 0 ? 0 : 1);
    }
    await_sleep();
}

static int send_to_sleeper(void)
{
    return noria_send(mine, "12345678", 8, 0);
}

static int commit_for_sleeper(void)
{
    struct noria_span span;
    int rc = noria_reserve(mine, 8, &span, 0);

    if (rc == 0)
        memset(span.data, 'x', 8);
    return rc == 0 ? noria_commit(mine, &span, 8, 0) : rc;
}

static int release_for_sleeper(void)
{
    struct noria_span span;
    int rc = noria_peek(mine, &span, 0, NULL);

    return rc == 0 ? noria_release(mine, &span) : rc;
}

static void verify_awake(int rc)
{
    int status;

    PEER_REQUIRES(waitpid(sleeper, &status, 0) == sleeper && status == 0);
    verify_closed(rc);
}

static noria_channel *destination;

/* Three messages of a sender who was killed, and where they shall go. */
static void have_two_channels(void)
{
    pid_t pid;
    int status;

    PEER_REQUIRES(noria_open(&mine, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options) == 0);
    make_a_call(mine);
    PEER_REQUIRES(noria_open(&destination, "anon:", NORIA_SEND | NORIA_RECV | NORIA_CREATE, NULL) == 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        noria_channel *tx = NULL;
        PEER_REQUIRES(noria_open(&tx, ch.address, NORIA_SEND, &ch.options) == 0);
        for (int i = 0; i < 3; i++)
            PEER_REQUIRES(noria_send(tx, "12345678", 8, 0) == 0);
        raise(SIGKILL);
    }
    PEER_REQUIRES(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static int bridge(void)
{
    return noria_bridge(mine, destination, NULL);
}

static void verify_bridged(int rc)
{
    struct noria_stat stat = {.size = sizeof(stat)};

    PEER_REQUIRES(noria_stat(destination, &stat) == 0 && stat.messages == 3);
    PEER_REQUIRES(noria_close(destination) == 0);
    verify_closed(rc);
}

#define NAMED "shm, sysv, file"

static const struct operation operations[] = {
    {"create", have_nothing, create, close_mine, true, NULL, false, false},
    {"attach", have_a_channel, attach, close_mine, false, NULL, true, false},
    {"attach and recover", have_a_dead_participant, attach_and_receive, verify_nothing, false, NULL, false, false},
    {"reopen", have_a_handle, reopen, close_mine, false, NULL, true, false},
    {"inspect and who", have_a_dead_participant, look, verify_nothing, false, NAMED, false, false},
    {"list", have_a_channel, list, verify_nothing, false, NAMED, false, false},
    {"list folder", have_a_channel, list_folder, verify_nothing, false, NAMED, false, false},
    {"fsck", have_a_dead_participant, check_and_repair, verify_nothing, false, NAMED, false, false},
    {"dump", have_a_channel, dump, verify_nothing, false, NAMED, false, false},
    {"gc", have_a_channel, collect, verify_nothing, false, NAMED, true, false},
    {"gc in earnest", have_a_deserted_channel, collect_in_earnest, verify_collected, false, "shm, sysv", false, false},
    {"descriptor", have_an_open_channel, ask_for_descriptor, verify_open, false, NULL, true, false},
    {"signals", have_an_open_channel, ask_for_signals, verify_open, false, NULL, false, true},
    {"share", have_a_socket, hand_over, verify_handed_over, false, "memfd", true, false},
    {"sync", have_an_open_channel, sync_it, verify_open, false, "file", true, false},
    {"unlink", have_a_channel, unlink_name, verify_nothing, false, NAMED, true, false},
    {"remove", have_a_channel, remove_idle, verify_nothing, false, NAMED, false, false},
    {"wait", have_an_open_channel, wait_in_vain, verify_open, false, NULL, true, true},
    {"wait for any", have_a_descriptor, wait_for_any_in_vain, verify_open, false, NULL, true, true},
    {"send in vain", have_a_full_channel, send_in_vain, verify_full, false, NULL, false, true},
    {"notice", have_a_death_to_notice, notice_a_death, verify_open, false, NULL, false, true},
    {"stat", have_an_open_channel, ask, verify_open, false, NULL, true, true},
    {"send to a sleeper", have_a_sleeping_receiver, send_to_sleeper, verify_awake, false, NULL, false, true},
    {"commit for a sleeper", have_a_sleeping_receiver, commit_for_sleeper, verify_awake, false, NULL, false, true},
    {"release for a sleeper", have_a_sleeping_sender, release_for_sleeper, verify_awake, false, NULL, false, true},
    {"bridge", have_two_channels, bridge, verify_bridged, false, NAMED, false, true},
    {"shut down", have_an_open_channel, shut_down, verify_closed, false, NULL, true, true},
    {"close", have_an_open_channel, close_it, verify_nothing, false, NULL, true, true},
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

/* ------------------------------------------------------------------------------------------- in the child */

#define END_OF_WINDOW (-4242) /* getpgid(this): says to the tracer that the operation is over */

static bool maps_a_segment(void)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");

    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        found = found || strstr(line, "/dev/shm/noria") != NULL || strstr(line, "memfd:") != NULL ||
                strstr(line, "/SYSV") != NULL;
    fclose(maps);
    return found;
}

/* A creation that fails leaves no name, unless the channel was there already, whole and for all, and only
 * joining it has failed. */
static bool leaves_nothing_unfinished(void)
{
    struct noria_listing listing;

    return !name_exists() ||
           (noria_inspect(ch.address, &listing) == 0 && listing.condition == NORIA_CONDITION_OK);
}

static void run_traced(const struct operation *operation)
{
    int descriptors, at_start = count_descriptors(), rc;
    bool mapped;

    be_child();
    operation->prepare();
    descriptors = count_descriptors();
    mapped = maps_a_segment();
    PEER_REQUIRES(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    rc = operation->run();
    syscall(SYS_getpgid, END_OF_WINDOW);
    if (!is_documented(rc) || rc == -EINTR)
        fprintf(stderr, "%d: %s\n", rc, noria_detail());
    PEER_REQUIRES(is_documented(rc) && (rc != -EINTR || !operation->goes_on));
    if (rc < 0) {
        PEER_REQUIRES(strlen(noria_detail()) > 3);
        PEER_REQUIRES(mine == NULL || operation->verify != close_mine);
        PEER_REQUIRES(count_descriptors() == descriptors);
        PEER_REQUIRES(maps_a_segment() == mapped);
        PEER_REQUIRES(!operation->creates || leaves_nothing_unfinished());
        rc = operation->run(); /* the second try */
        for (int i = 0; i < 500 && rc == -EBUSY; i++) { /* somebody else's gc, where /dev/shm is everybody's */
            usleep(10000);
            rc = operation->run();
        }
        PEER_REQUIRES(rc == 0);
    }
    operation->verify(rc);
    if (inherited != NULL)
        PEER_REQUIRES(noria_close(inherited) == 0);
    PEER_REQUIRES(!maps_a_segment());
    PEER_REQUIRES(count_descriptors() == at_start);
    exit(0);
}

/* ------------------------------------------------------------------------------------------ in the tracer */

/* By their manual pages. */
static bool may_be_interrupted(long number)
{
    static const long calls[] = {SYS_read, SYS_pread64, SYS_pwrite64, SYS_openat, SYS_fcntl, SYS_flock, SYS_fallocate,
                                 SYS_ftruncate, SYS_sendmsg, SYS_recvmsg, SYS_semop, SYS_semtimedop, SYS_poll, SYS_ppoll,
                                 SYS_clock_nanosleep, SYS_futex, SYS_getrandom};
    bool found = false;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && !found; i++)
        found = number == calls[i];
    return found;
}

/* Calls that do not fail in earnest, or not in that way, and those whose failure ends the program by liburcu's decision. */
static bool is_spared(long number, unsigned long long argument, int error)
{
    if (number == SYS_membarrier)
        return argument == MEMBARRIER_CMD_PRIVATE_EXPEDITED;
    if (error == EINTR)
        return !may_be_interrupted(number);
    if (number == SYS_poll || number == SYS_clock_nanosleep)
        return true;
    if (number == SYS_write)
        return error != EAGAIN;
    return number == SYS_close || number == SYS_munmap || number == SYS_shmdt || number == SYS_exit_group ||
           number == SYS_brk || number == SYS_clone || number == SYS_wait4 || number == SYS_rt_sigprocmask ||
           number == SYS_sched_yield;
}

static long refused_call;

/* Follows the child to its k-th system call, and refuses that one. False: the operation was over before. */
static bool refuse_kth(pid_t pid, int k, int error)
{
    struct user_regs_struct registers;
    bool entering = true, refused = false;
    int seen = 0, status;

    for (;;) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD) /* a sleeper that woke has ended */
            continue;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
            fail_msg("the child was felled by status 0x%x with call %d refused", (unsigned)status, k);
        assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
        if (entering) {
            long number = (long)registers.orig_rax;
            if (number == SYS_getpgid && (int)registers.rdi == END_OF_WINDOW)
                return refused;
            if (!is_spared(number, registers.rdi, error) && ++seen == k) {
                registers.orig_rax = (unsigned long long)-1; /* no such call: it is not made */
                assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &registers), 0);
                refused = true;
                refused_call = number;
            }
        } else if (refused && seen == k) {
            registers.rax = (unsigned long long)-error;
            assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &registers), 0);
            seen++; /* once */
        }
        entering = !entering;
    }
}

/* A memfd is one channel for good, so each run needs a new one behind the number. */
static void renew_memfd(void)
{
    int fresh = memfd_create("variant", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_int_equal(dup3(fresh, ch.memfd, O_CLOEXEC), ch.memfd);
    close(fresh);
}

static int failures; /* counted, so that one run tells all of them */

static int count_names(const char *path)
{
    DIR *directory = opendir(path);
    int count = -2; /* . and .. */

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Ids of System V in this namespace, and names in this /dev/shm and in the channel's folder. */
static int count_left(void)
{
    static const char *const lists[] = {"/proc/sysvipc/shm", "/proc/sysvipc/sem"};
    int rows = count_names("/dev/shm") + (is_at("file") ? count_names(folder) : 0) - 2; /* the headings */

    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(lists[i], "re");
        char line[512];
        while (file != NULL && fgets(line, sizeof(line), file) != NULL)
            rows++;
        fclose(file);
    }
    return rows;
}

static bool is_alone; /* in an IPC namespace, where nobody else makes any */

/* What could not be removed is swept away by the next one to create or remove, or gc. */
static void expect_nothing_left(const struct operation *operation, int k)
{
    const char *folders[] = {folder};

    if (!is_alone || count_left() == 0)
        return;
    assert_true(noria_gc_folders(folders, is_at("file"), 0, NULL, NULL) >= 0);
    if (count_left() == 0)
        return;
    print_error("%s: %d ids or names are left when call %d of it, number %ld, is refused\n", operation->name, count_left(), k,
                refused_call);
    failures++;
}

/* One run. False: the operation makes fewer calls than k. */
static bool try_refusal(const struct operation *operation, int k, int error)
{
    int status;
    noria_channel *peer = NULL;
    bool refused;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0)
        run_traced(operation);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    if (operation->has_peer && !is_spsc()) /* whose roles are the child's */
        assert_int_equal(noria_open(&peer, ch.address, NORIA_SEND | NORIA_RECV, &ch.options), 0);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    refused = refuse_kth(pid, k, error);
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        print_error("%s: status 0x%x when call %d of it, number %ld, is refused with %s\n", operation->name,
                    (unsigned)status, k, refused_call, strerror(error));
        failures++;
    }
    if (peer != NULL)
        works(peer);
    close_handle(&peer);
    if (has_name())
        noria_unlink(ch.address); /* with what it is waited with */
    remove_name();
    if (ch.memfd >= 0)
        renew_memfd();
    expect_nothing_left(operation, k);
    return refused;
}

static void any_call_may_be_refused(void **state)
{
    /* Claim: see above, for creating, attaching, recovering, reopening, looking, listing, waiting, waking, closing,
     * unlinking. In the short form each operation meets some of the errors, and others on another kind or backend. */
    static const int errors[] = {ENOMEM, EACCES, EINTR, EMFILE, ENOSPC, EAGAIN, EINVAL, EPERM, ENOSYS, EIO, ENFILE};
    enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };
    size_t n = getenv("NORIA_LONG") != NULL ? ERRORS : getenv("NORIA_TEST_SCHEME") != NULL ? 1 : 3;
    static size_t turn;
    size_t first = n * turn++ + (is_at("sysv") ? 1 : 0) + (is_at("file") ? 6 : 0);

    (void)state;
    failures = 0;
    for (int i = 0; i < OPERATIONS; i++)
        for (size_t e = 0; e < n; e++) {
            int k = 1, error = errors[(first + (size_t)i + e) % ERRORS];
            if (operations[i].at != NULL && strstr(operations[i].at, ch.variant->scheme) == NULL)
                break;
            if (!is_alone && strncmp(operations[i].name, "gc", 2) == 0)
                break; /* it would look at what others leave, and there is no end of that */
            /* On a busy machine a wait's time may be over before it has asked for anything. */
            for (int tries = 0; k == 1 && tries < 50; tries++)
                while (try_refusal(&operations[i], k, error))
                    k++;
            if (e == 0)
                print_message("%s: %d system calls\n", operations[i].name, k - 1);
            /* Nobody else is there to be asked after, or woken, and what can be interrupted need not be called. */
            assert_true(k > 1 || operations[i].goes_on || error == EINTR);
        }
    assert_int_equal(failures, 0);
}

static void memory_may_be_refused(void **state)
{
    /* Claim: without memory for a handle opening and reopening are -ENOMEM with a sentence, and work again
     * later. */
    noria_channel *channel = NULL;

    (void)state;
    out_of_memory = true;
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), ENOMEM);
    out_of_memory = false;
    if (!is_spsc()) {
        out_of_cleared_memory = true;
        assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), ENOMEM);
        out_of_cleared_memory = false;
    }
    open_pair();
    out_of_memory = true;
    assert_fails(noria_reopen(&channel, ch.tx, 0), ENOMEM);
    out_of_memory = false;
    assert_null(channel);
    send_numbered(1, 1);
    expect(1, 1);
}

static void memory_of_kinds_may_be_refused(void **state)
{
    /* Claim: the same of what levels and links need, whichever piece of it there is none for. */
    noria_channel *channel = NULL;

    (void)state;
    if (is_spsc())
        return;
    for (int kind = 0; kind < 2; kind++) {
        ch.options.priorities = kind == 0 ? 4 : 1;
        ch.options.max_held = kind == 0 ? 3 : 1;
        ch.options.max_bytes = kind == 0 ? 0 : 1 << 20;
        for (int pieces = 0; pieces < (kind == 0 ? 2 : 1); pieces++) {
            out_of_cleared_memory = true;
            spared = pieces;
            assert_fails(noria_open(&channel, "anon:", NORIA_SEND, &ch.options), ENOMEM);
            out_of_cleared_memory = false;
        }
        assert_int_equal(noria_open(&channel, "anon:", NORIA_SEND | NORIA_RECV, &ch.options), 0);
        works(channel);
        assert_int_equal(noria_close(channel), 0);
        channel = NULL;
    }
}

/* A process that opens a handle, and is killed. */
static void die_with_handle(int flags)
{
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        open_handle(flags);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void cleaning_up_may_be_refused_memory(void **state)
{
    /* Claim: who opens a growing channel, has to clean up after a dead one, and is refused the memory for it,
     * whether there is a place for him (-ENOMEM) or not (-EBUSY), changes nothing, and can do it later. */
    noria_channel *channel = NULL;

    (void)state;
    if (is_spsc())
        return;
    ch.options.max_bytes = 1 << 20;
    ch.options.max_held = 1;
    for (ch.options.max_participants = 1; ch.options.max_participants <= 2; ch.options.max_participants++) {
        die_with_handle(NORIA_SEND);
        out_of_cleared_memory = true;
        spared = 0;
        assert_fails(try_open(&channel, NORIA_RECV), ch.options.max_participants == 1 ? EBUSY : ENOMEM);
        out_of_cleared_memory = false;
        ch.rx = open_handle(NORIA_RECV);
        assert_int_equal(stat_of(ch.rx).deaths, 1);
        close_handle(&ch.rx);
        remove_name();
    }
}

static void rights_may_be_refused(void **state)
{
    /* Claim: a lossy receiver that cannot make its view of the ring read-only is not opened (-ENOMEM), with a
     * sentence; one that cannot make it writable again leaves a dead sender's role where it is, and ends that
     * later. */
    uint8_t bytes[8];

    (void)state;
    if (is_spsc())
        return;
    ch.options.kind = NORIA_KIND_BROADCAST;
    ch.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    ch.options.max_held = 1;
    out_of_rights = true;
    assert_fails(try_open(&ch.rx, NORIA_RECV), ENOMEM);
    assert_non_null(strstr(noria_detail(), "read-only"));
    out_of_rights = false;
    ch.rx = open_handle(NORIA_RECV);
    die_with_handle(NORIA_SEND);
    out_of_rights = true;
    /* Who waits looks round. */
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 150 * MS, NULL), ETIMEDOUT);
    assert_int_equal(stat_of(ch.rx).deaths, 0);
    out_of_rights = false;
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 30 * SECOND, NULL), EPIPE);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
}

/* Sends until the channel is full: how many messages fitted. */
static unsigned fill_up(void)
{
    unsigned n = 0;

    while (try_send(n, 64) == 0)
        n++;
    assert_int_equal(try_send(n, 64), -EAGAIN);
    return n;
}

static void drain(unsigned n)
{
    uint8_t bytes[64];

    for (unsigned i = 0; i < n; i++)
        expect(i, 64);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), -EAGAIN);
}

static void pages_may_be_refused(void **state)
{
    /* Claim: a growing channel that is refused pages, whether the memory is used up or a signal comes each
     * time there is, is full, in bounded calls; a few signals it outlasts; pages that cannot be given back
     * stay, and the channel goes on; afterwards all the room there was is there again. */
    unsigned room, first;
    uint8_t bytes[64];

    (void)state;
    if (is_spsc())
        return;
    ch.options.max_bytes = 1 << 20;
    ch.options.max_held = 1;
    open_pair();
    room = fill_up();
    drain(room);
    refusal = ENOSPC;
    refusals = INT32_MAX;
    first = fill_up();
    assert_true(first < room / 2);
    refusal = EINTR;
    assert_int_equal(try_send(first, 64), -EAGAIN);
    refusals = 5;
    assert_int_equal(try_send(first, 64), 0);
    assert_int_equal(refusals, 0);
    refusals = 3;
    drain(first + 1);
    assert_int_equal(refusals, 0);
    assert_true(fill_up() > room / 2);
    refusal = EPERM;
    refusals = 3;
    for (unsigned n = 0; refusals > 0; n++)
        expect(n, 64);
    while (noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL) == 64)
        continue;
    assert_true(fill_up() + 100 > room / 2);
}

int main(void)
{
    static const struct named_test tests[] = {
        BY_NAME(any_call_may_be_refused),
        AT("memfd", any_call_may_be_refused),
        ONCE(memory_may_be_refused),
        ONCE(memory_of_kinds_may_be_refused),
        ONCE(pages_may_be_refused),
        BY_NAME(cleaning_up_may_be_refused_memory),
        AT("shm", rights_may_be_refused),
    };

    is_alone = have_own_shm("size=64m");
    if (!is_alone) /* with little in it to be listed; without, it takes longer */
        fprintf(stderr, "this user may not have a /dev/shm of its own\n");
    return run_variants_with("faults", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
