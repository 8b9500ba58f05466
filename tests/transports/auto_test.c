/* SPDX-License-Identifier: BSD-2-Clause */
/* auto: takes the first transport that works, tells why not the others, and all who open a name agree. */
#include "suite.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "own_shm.h"

enum { SCHEMES = 5, SKIPPED = 77, LONGEST = 4000, MESSAGES = 200 };
static const char *const schemes[SCHEMES] = {"shm", "memfd", "unix", "fifo", "mq"};

static struct {
    char folder[64], name[64];
    struct noria_options options;
} here;

static int setup_auto(void **state)
{
    (void)state;
    snprintf(here.folder, sizeof(here.folder), "/tmp/noria-auto-XXXXXX");
    assert_non_null(mkdtemp(here.folder));
    assert_int_equal(setenv("NORIA_DIR", here.folder, 1), 0);
    assert_int_equal(unsetenv("NORIA_TRANSPORT"), 0);
    snprintf(here.name, sizeof(here.name), "auto:/noria-suite-%u", next_number());
    noria_options_init(&here.options);
    here.options.max_message = LONGEST;
    here.options.capacity = 8;
    here.options.open_timeout_ns = A_WHILE;
    it.descriptors = count_descriptors();
    return 0;
}

static int teardown_auto(void **state)
{
    char command[128];

    (void)state;
    unsetenv("NORIA_TRANSPORT");
    assert_int_equal(count_descriptors(), it.descriptors);
    noria_unlink(here.name);
    snprintf(command, sizeof(command), "rm -rf %s", here.folder);
    return system(command);
}

static int open_as(noria_channel **channel, int flags)
{
    *channel = NULL;
    return noria_open(channel, here.name, flags, &here.options);
}

static bool is_carried_by(noria_channel *channel, const char *scheme)
{
    const char *carrier = stat_of(channel).carrier;

    return carrier != NULL && strncmp(carrier, scheme, strlen(scheme)) == 0 && carrier[strlen(scheme)] == ':';
}

/* ------------------------------------------------------------------------------------- what a process may not */

static int deny(long call, unsigned argument)
{
    /* Denies the call, or, with an argument, the call with that first argument. */
    struct sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
                                   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
                                   BPF_JUMP(BPF_JMP | (argument != 0 ? BPF_JEQ : BPF_JGE) | BPF_K, argument, 0, 1),
                                   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
                                   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) : -1;
}

/* Takes the first `n` of the schemes away from this process and its children. False: the system does not let us. */
static bool take_away(int n)
{
    if (n >= 1 && (!have_own_shm("size=64k") || mount("none", "/dev/shm", NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0))
        return false;
    if (n >= 2 && deny(SYS_memfd_create, 0) != 0)
        return false;
    if (n >= 3 && deny(SYS_socket, AF_UNIX) != 0)
        return false;
#ifdef SYS_mknod
    if (n >= 4 && deny(SYS_mknod, 0) != 0)
        return false;
#endif
    if (n >= 4 && deny(SYS_mknodat, 0) != 0)
        return false;
    return n < 5 || deny(SYS_mq_open, 0) == 0;
}

/* Runs `life` in a child, of which nothing stays. */
static int life_of(int (*life)(int), int argument)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(life(argument));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static pid_t begin_life(int (*life)(int), int argument)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(life(argument));
    }
    return child;
}

/* ------------------------------------------------------------------------------------------ the flow of data */

static uint32_t length_of(uint32_t number)
{
    return number * 37 % (LONGEST + 1);
}

static int send_flow(int scheme)
{
    noria_channel *tx;

    CHILD_REQUIRES(open_as(&tx, NORIA_SEND | NORIA_CREATE) == 0);
    CHILD_REQUIRES(is_carried_by(tx, schemes[scheme]));
    for (uint32_t i = 0; i < MESSAGES; i++)
        CHILD_REQUIRES(send_numbered(tx, 1, i, length_of(i), A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(tx) == 0);
    return 0;
}

static int receive_flow(noria_channel *rx)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct noria_info info;
        ssize_t len = noria_recv(rx, received, sizeof(received), A_WHILE, &info);
        CHILD_REQUIRES(len == (ssize_t)length_of(i) && is_message(received, (size_t)len, 1, i, length_of(i)));
        CHILD_REQUIRES(info.flags == 0);
    }
    CHILD_REQUIRES(noria_recv(rx, received, sizeof(received), A_WHILE, NULL) == -EPIPE);
    return 0;
}

/* Whether the n first schemes are told with their reasons, one a line, and no other. */
static bool tells(const char *refused, int n)
{
    for (int i = 0; i < n; i++) {
        size_t length = strlen(schemes[i]);
        const char *end = strchr(refused, '\n');
        if (end == NULL || strncmp(refused, schemes[i], length) != 0 || refused[length] != ':' ||
            end - refused < (long)length + 10)
            return false;
        refused = end + 1;
    }
    return *refused == '\0';
}

static int live_with(int n)
{
    noria_channel *rx;
    int status;
    pid_t sender;

    if (!take_away(n))
        return SKIPPED;
    CHILD_REQUIRES(open_as(&rx, NORIA_RECV | NORIA_CREATE) == 0);
    CHILD_REQUIRES(is_carried_by(rx, schemes[n]));
    CHILD_REQUIRES(tells(stat_of(rx).refused, n));
    sender = begin_life(send_flow, n);
    CHILD_REQUIRES(receive_flow(rx) == 0);
    CHILD_REQUIRES(waitpid(sender, &status, 0) == sender && status == 0);
    CHILD_REQUIRES(noria_close(rx) == 0);
    CHILD_REQUIRES(noria_unlink(here.name) == 0);
    return 0;
}

static int live_without(int n)
{
    noria_channel *channel;
    int rc;

    if (!take_away(n))
        return SKIPPED;
    rc = open_as(&channel, NORIA_RECV | NORIA_CREATE);
    CHILD_REQUIRES(rc < 0 && rc != -ENOENT);
    for (int i = 0; i < SCHEMES; i++) {
        char word[16];
        snprintf(word, sizeof(word), "%s: ", schemes[i]);
        CHILD_REQUIRES(strstr(noria_detail(), word) != NULL);
    }
    return 0;
}

static void the_next_one_is_taken(void **state)
{
    /* Claim: with the first n ways made impossible the next one carries the channel, stat tells why of each, and the
     * same messages come through; with all of them impossible the error names them all. */
    (void)state;
    for (int n = 0; n <= SCHEMES; n++) {
        int rc = life_of(n < SCHEMES ? live_with : live_without, n);
        if (rc == SKIPPED) {
            print_message("%d ways cannot be taken away here: no namespaces, or no seccomp\n", n);
            skip();
        }
        assert_int_equal(rc, 0);
    }
}

/* ---------------------------------------------------------------------------------------------- who is first */

static int go[2];

static int send_first(int scheme)
{
    noria_channel *tx;

    setenv("NORIA_TRANSPORT", schemes[scheme], 1);
    CHILD_REQUIRES(open_as(&tx, NORIA_SEND | NORIA_CREATE) == 0);
    CHILD_REQUIRES(is_carried_by(tx, schemes[scheme]));
    CHILD_REQUIRES(write(go[1], "", 1) == 1);
    for (uint32_t i = 0; i < MESSAGES; i++)
        CHILD_REQUIRES(send_numbered(tx, 1, i, length_of(i), A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(tx) == 0);
    return 0;
}

static int send_to_what_is_there(int scheme)
{
    noria_channel *tx;

    here.options.wait_create_ns = A_WHILE;
    CHILD_REQUIRES(write(go[1], "", 1) == 1);
    CHILD_REQUIRES(open_as(&tx, NORIA_SEND) == 0); /* waits for the name */
    CHILD_REQUIRES(is_carried_by(tx, schemes[scheme]));
    for (uint32_t i = 0; i < MESSAGES; i++)
        CHILD_REQUIRES(send_numbered(tx, 1, i, length_of(i), A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(tx) == 0);
    return 0;
}

static void any_start_order(void **state)
{
    /* Claim: whoever comes first chooses, and the other one takes the same, whether it would have chosen it or not, or
     * waits for the name. */
    (void)state;
    for (int i = 0; i < 2 * SCHEMES; i++) {
        int scheme = i / 2, status;
        noria_channel *rx;
        char byte;
        pid_t sender;
        assert_int_equal(pipe2(go, O_CLOEXEC), 0);
        sender = begin_life(i % 2 == 0 ? send_first : send_to_what_is_there, scheme);
        assert_int_equal(read(go[0], &byte, 1), 1);
        if (i % 2 != 0)
            setenv("NORIA_TRANSPORT", schemes[scheme], 1);
        assert_int_equal(open_as(&rx, NORIA_RECV | NORIA_CREATE), 0);
        unsetenv("NORIA_TRANSPORT");
        assert_true(is_carried_by(rx, schemes[scheme]));
        assert_int_equal(receive_flow(rx), 0);
        assert_int_equal(waitpid(sender, &status, 0), sender);
        assert_int_equal(status, 0);
        assert_int_equal(noria_close(rx), 0);
        assert_int_equal(noria_unlink(here.name), 0);
        close(go[0]);
        close(go[1]);
    }
}

enum { STARTERS = 6, VICTIMS = 3 };

static struct {
    uint32_t opened, failed;
    char carriers[STARTERS][16];
} * race;

/* Each would choose another one first. */
static int start_in_race(int number)
{
    static const char *const orders[SCHEMES] = {"shm,memfd,unix,fifo,mq", "memfd,unix,fifo,mq,shm",
                                                "unix,fifo,mq,shm,memfd", "fifo,mq,shm,memfd,unix",
                                                "mq,shm,memfd,unix,fifo"};
    noria_channel *tx;
    char byte;

    setenv("NORIA_TRANSPORT", orders[number % SCHEMES], 1);
    close(go[1]);
    if (read(go[0], &byte, 1) != 0) /* all begin when the other end is closed */
        return 1;
    if (open_as(&tx, NORIA_SEND | NORIA_CREATE) != 0) {
        fprintf(stderr, "starter %d: %s\n", number, noria_detail());
        __atomic_add_fetch(&race->failed, 1, __ATOMIC_SEQ_CST);
        return 1;
    }
    if (number < STARTERS)
        snprintf(race->carriers[number], sizeof(race->carriers[0]), "%.*s", (int)strcspn(stat_of(tx).carrier, ":"),
                 stat_of(tx).carrier);
    if (number < STARTERS)
        __atomic_add_fetch(&race->opened, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause(); /* has it open until it is killed */
}

static void one_race(unsigned seed)
{
    pid_t starters[STARTERS + VICTIMS];
    int64_t until_ns = now_ns() + 2 * A_WHILE;

    memset(race, 0, sizeof(*race));
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    for (int i = 0; i < STARTERS + VICTIMS; i++)
        starters[i] = begin_life(start_in_race, (int)((unsigned)i + (i < STARTERS ? 0 : seed)) % 1000);
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < VICTIMS; i++) { /* in the middle of whatever they do */
        struct timespec moment = {0, (long)(seed * 7919 % 1000) * 1000};
        nanosleep(&moment, NULL);
        kill_child(starters[STARTERS + i]);
    }
    while (__atomic_load_n(&race->opened, __ATOMIC_SEQ_CST) < STARTERS &&
           __atomic_load_n(&race->failed, __ATOMIC_SEQ_CST) == 0) {
        assert_true(now_ns() < until_ns);
        sched_yield();
    }
    for (int i = 0; i < STARTERS; i++)
        kill_child(starters[i]);
    assert_int_equal(race->failed, 0);
    for (int i = 1; i < STARTERS; i++)
        assert_string_equal(race->carriers[i], race->carriers[0]);
}

static void many_starters_agree(void **state)
{
    /* Claim: of many who open a name at the same moment, each with another order, and some of them killed over it, all
     * that live agree; and when all are dead the next ones choose anew. */
    int rounds = is_long() ? 300 : 30;

    (void)state;
    race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(race != MAP_FAILED);
    for (int round = 0; round < rounds; round++)
        one_race((unsigned)round);
    munmap(race, sizeof(*race));
}

/* ---------------------------------------------------------------------------------------- killed over a choice */

static int open_traced(int scheme)
{
    noria_channel *channel;

    setenv("NORIA_TRANSPORT", schemes[scheme], 1);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return SKIPPED;
    raise(SIGSTOP);
    return open_as(&channel, NORIA_RECV | NORIA_CREATE) == 0 ? 0 : 1;
}

/* Kills a chooser before its k-th stop at a system call. False: it got through. */
static bool kill_at(int scheme, int k)
{
    pid_t child = begin_life(open_traced, scheme);
    int status, rc;

    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), SKIPPED);
        print_message("no ptrace here\n");
        skip();
    }
    for (int i = 0; i < k; i++) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
    }
    rc = kill(child, SIGKILL);
    assert_int_equal(rc, 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return true;
}

static void killed_at_any_call(void **state)
{
    /* Claim: whoever is killed before or after any system call of a choice leaves nothing that keeps the next ones from
     * agreeing and talking, or that unlink does not remove. */
    int stride = is_long() ? 1 : 7, kills = 0;

    (void)state;
    for (int scheme = 0; scheme < SCHEMES; scheme++)
        for (int k = 1 + scheme; kill_at(scheme, k); k += stride) {
            noria_channel *rx, *tx;
            int rc = open_as(&rx, NORIA_RECV | NORIA_CREATE);
            if (rc != 0)
                print_message("%s, call %d: %s\n", schemes[scheme], k, noria_detail());
            assert_int_equal(rc, 0);
            assert_int_equal(open_as(&tx, NORIA_SEND), 0);
            assert_string_equal(stat_of(rx).carrier, stat_of(tx).carrier);
            assert_int_equal(send_numbered(tx, 1, 0, 100, A_WHILE), 0);
            assert_int_equal(noria_recv(rx, received, sizeof(received), A_WHILE, NULL), 100);
            assert_int_equal(noria_close(tx), 0);
            assert_int_equal(noria_close(rx), 0);
            assert_int_equal(noria_unlink(here.name), 0);
            assert_int_equal(open_as(&rx, NORIA_RECV), -ENOENT);
            kills++;
        }
    print_message("%d choosers killed\n", kills);
    assert_true(kills > 3 * SCHEMES);
}

/* ----------------------------------------------------------------------------------- who cannot, and leftovers */

static int join_without_sockets(int unused)
{
    noria_channel *channel;

    (void)unused;
    if (deny(SYS_socket, AF_UNIX) != 0)
        return SKIPPED;
    CHILD_REQUIRES(open_as(&channel, NORIA_SEND | NORIA_CREATE) == -EACCES);
    CHILD_REQUIRES(strstr(noria_detail(), "carried by unix") != NULL);
    CHILD_REQUIRES(strstr(noria_detail(), "cannot be used here: ") != NULL); /* its own reason */
    CHILD_REQUIRES(strstr(noria_detail(), "There: memfd: ") != NULL);        /* and the others' */
    return 0;
}

static int choose_without_memory(int unused)
{
    noria_channel *rx;
    pid_t other;
    int status;

    (void)unused;
    if (deny(SYS_memfd_create, 0) != 0)
        return SKIPPED;
    setenv("NORIA_TRANSPORT", "memfd,unix,fifo", 1);
    CHILD_REQUIRES(open_as(&rx, NORIA_RECV | NORIA_CREATE) == 0);
    CHILD_REQUIRES(is_carried_by(rx, "unix"));
    other = begin_life(join_without_sockets, 0);
    CHILD_REQUIRES(waitpid(other, &status, 0) == other && WIFEXITED(status));
    if (WEXITSTATUS(status) != 0)
        return WEXITSTATUS(status);
    setenv("NORIA_TRANSPORT", "fifo", 1);
    CHILD_REQUIRES(open_as(&rx, NORIA_SEND | NORIA_CREATE) == -EBUSY);
    CHILD_REQUIRES(strstr(noria_detail(), "carried by unix") != NULL &&
                   strstr(noria_detail(), "NORIA_TRANSPORT") != NULL);
    return 0;
}

static void both_reasons_are_told(void **state)
{
    /* Claim: who cannot use what the others use, or may not, fails, and is told why here and why there. */
    int rc = life_of(choose_without_memory, 0);

    (void)state;
    if (rc == SKIPPED)
        skip();
    assert_int_equal(rc, 0);
}

static int open_and_die(int scheme)
{
    noria_channel *channel;

    setenv("NORIA_TRANSPORT", schemes[scheme], 1);
    CHILD_REQUIRES(open_as(&channel, NORIA_RECV | NORIA_CREATE) == 0);
    return 0; /* without closing it */
}

static void leftovers_of_the_dead(void **state)
{
    /* Claim: a choice whose users are dead binds nobody; but where messages wait for whoever comes, they are found. */
    noria_channel *tx, *rx;

    (void)state;
    for (int scheme = 1; scheme <= 3; scheme++) {
        assert_int_equal(life_of(open_and_die, scheme), 0);
        assert_int_equal(open_as(&rx, NORIA_RECV), -ENOENT);
        assert_int_equal(open_as(&rx, NORIA_RECV | NORIA_CREATE), 0);
        assert_true(is_carried_by(rx, "shm"));
        assert_int_equal(noria_close(rx), 0);
        assert_int_equal(noria_unlink(here.name), 0);
    }
    setenv("NORIA_TRANSPORT", "mq", 1);
    assert_int_equal(open_as(&tx, NORIA_SEND | NORIA_CREATE), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(send_numbered(tx, 1, i, 50, A_WHILE), 0);
    assert_int_equal(noria_close(tx), 0);
    unsetenv("NORIA_TRANSPORT");
    assert_int_equal(open_as(&rx, NORIA_RECV | NORIA_CREATE | NORIA_EXCL), -EEXIST);
    assert_int_equal(open_as(&rx, NORIA_RECV | NORIA_CREATE), 0);
    assert_true(is_carried_by(rx, "mq"));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(noria_recv(rx, received, sizeof(received), A_WHILE, NULL), 50);
        assert_true(is_message(received, 50, 1, i, 50));
    }
    assert_int_equal(open_as(&tx, NORIA_SEND | NORIA_CREATE | NORIA_EXCL), -EEXIST);
    assert_int_equal(noria_close(rx), 0);
}

static int go_on_alone(int unused)
{
    noria_channel *tx;
    char byte;

    (void)unused;
    CHILD_REQUIRES(noria_reopen(&tx, it.tx, NORIA_SEND) == 0);
    CHILD_REQUIRES(noria_send(it.tx, "", 0, 0) == -ESTALE);
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    CHILD_REQUIRES(noria_close(it.rx) == 0);
    CHILD_REQUIRES(is_carried_by(tx, "memfd"));
    CHILD_REQUIRES(write(go[1], "", 1) == 1);
    close(go[1]);
    CHILD_REQUIRES(read(go[0], &byte, 1) == 1); /* the parent has closed */
    CHILD_REQUIRES(send_numbered(tx, 1, 0, 77, A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(tx) == 0);
    return 0;
}

static void children_keep_the_choice(void **state)
{
    /* Claim: a child that reopens its parent's handle is a user of its own: when the parent leaves, others find the
     * same channel through the child. */
    int back[2], there[2], status;
    noria_channel *rx;
    char byte;
    pid_t child;

    (void)state;
    setenv("NORIA_TRANSPORT", "memfd", 1);
    assert_int_equal(open_as(&it.tx, NORIA_SEND | NORIA_CREATE), 0);
    assert_int_equal(open_as(&it.rx, NORIA_RECV), 0);
    unsetenv("NORIA_TRANSPORT");
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    go[0] = there[0];
    go[1] = back[1];
    child = begin_life(go_on_alone, 0);
    assert_int_equal(read(back[0], &byte, 1), 1);
    close_handle(&it.tx);
    close_handle(&it.rx);
    assert_int_equal(open_as(&rx, NORIA_RECV), 0);
    assert_true(is_carried_by(rx, "memfd"));
    assert_int_equal(write(there[1], "", 1), 1);
    assert_int_equal(noria_recv(rx, received, sizeof(received), A_WHILE, NULL), 77);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(noria_close(rx), 0);
    for (int i = 0; i < 2; i++) {
        close(back[i]);
        close(there[i]);
    }
}

/* ------------------------------------------------------------------------------------------- hostile folders */

static void plant(const char *bytes, size_t size)
{
    char path[400];
    int fd;

    snprintf(path, sizeof(path), "%s/auto-%s", here.folder, here.name + 6);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void folders_of_others(void **state)
{
    /* Claim: a folder that others may write into, another user's, or a symbolic link is refused with a sentence; so is
     * what is no file; and what is no choice binds nobody. */
    static const char *const rubbish[] = {"",
                                          "noria auto 1",
                                          "noria auto 1\ncarried by shm\n",
                                          "noria auto 2\ncarried by shm\nend\n",
                                          "noria auto 1\ncarried by nothing at all\nend\n",
                                          "noria auto 1\ncarried by abc\nend\n"};
    char link[80], path[400];
    noria_channel *channel;

    (void)state;
    assert_int_equal(chmod(here.folder, 0777), 0);
    assert_fails(open_as(&channel, NORIA_RECV | NORIA_CREATE), EACCES);
    assert_int_equal(chmod(here.folder, 0700), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(here.folder, 12345, 12345), 0);
        assert_fails(open_as(&channel, NORIA_RECV | NORIA_CREATE), EACCES);
        assert_int_equal(chown(here.folder, 0, 0), 0);
    }
    snprintf(link, sizeof(link), "%s-link", here.folder);
    assert_int_equal(symlink(here.folder, link), 0);
    setenv("NORIA_DIR", link, 1);
    assert_true(open_as(&channel, NORIA_RECV | NORIA_CREATE) < 0);
    setenv("NORIA_DIR", here.folder, 1);
    unlink(link);
    for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
        plant(rubbish[i], strlen(rubbish[i]));
        assert_int_equal(open_as(&channel, NORIA_RECV | NORIA_CREATE), 0);
        assert_true(is_carried_by(channel, "shm"));
        assert_int_equal(noria_close(channel), 0);
    }
    assert_int_equal(noria_unlink(here.name), 0);
    snprintf(path, sizeof(path), "%s/auto-%s", here.folder, here.name + 6);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_fails(open_as(&channel, NORIA_RECV | NORIA_CREATE), ELOOP);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(open_as(&channel, NORIA_RECV | NORIA_CREATE), EINVAL);
    unlink(path);
}

static void addresses_are_checked(void **state)
{
    /* Claim: what is no name, no option and no list is -EINVAL with a sentence, and a name that is not there -ENOENT.
     */
    static const char *const wrong[] = {"auto:",
                                        "auto:/",
                                        "auto:name",
                                        "auto:/a/b",
                                        "auto:/a?fast",
                                        "auto:/a?order=",
                                        "auto:/a?order=shm,tcp",
                                        "auto:/a?order=shm,shm",
                                        "auto:/a?order=shm,"};
    noria_channel *channel;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_fails(noria_open(&channel, wrong[i], NORIA_SEND | NORIA_CREATE, NULL), EINVAL);
    setenv("NORIA_TRANSPORT", "carrier pigeon", 1);
    assert_fails(open_as(&channel, NORIA_SEND | NORIA_CREATE), EINVAL);
    unsetenv("NORIA_TRANSPORT");
    assert_fails(open_as(&channel, NORIA_SEND), ENOENT);
    assert_fails(noria_unlink(here.name), ENOENT);
    here.options.kind = NORIA_KIND_BROADCAST; /* an order is a wish, and this one's first cannot do that */
    setenv("NORIA_TRANSPORT", "fifo,shm", 1);
    assert_int_equal(open_as(&channel, NORIA_SEND | NORIA_CREATE), 0);
    assert_true(is_carried_by(channel, "shm"));
    assert_int_equal(strncmp(stat_of(channel).refused, "fifo: ", 6), 0);
    assert_int_equal(noria_close(channel), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_next_one_is_taken, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(any_start_order, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(many_starters_agree, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(killed_at_any_call, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(both_reasons_are_told, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(leftovers_of_the_dead, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(children_keep_the_choice, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(folders_of_others, setup_auto, teardown_auto),
        cmocka_unit_test_setup_teardown(addresses_are_checked, setup_auto, teardown_auto),
    };

    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
