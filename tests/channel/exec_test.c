/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a process that becomes another program and opens the channel again takes part once: what it was before has
 * died, although its number, its start time and its mapping of the memory are there. What that held comes back, its
 * role and its place are free, as often as one likes, whatever the memory is. So has one that does not open it again.
 */
#define KINDS_TO_TEST \
    {NORIA_KIND_SPSC, "shm"}, {NORIA_KIND_MPMC, "shm"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_SPSC, "sysv"}, \
    {NORIA_KIND_MPMC, "sysv"}, {NORIA_KIND_MPMC, "memfd"}, {NORIA_KIND_SPSC, "memory"}, {NORIA_KIND_MPMC, "memory"}
#include "variants_test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peers.h"

enum { MEMORY = 1 << 20, PROGRAMS = 5 }; /* more of them than the table has places */
static int memory_file = -1;

static int with_peers(void **state)
{
    peers_begin();
    setup(state);
    ch.options.max_participants = 2;
    memory_file = is_at("memory") ? memfd_create("memory", 0) : -1;
    if (memory_file >= 0) {
        assert_int_equal(ftruncate(memory_file, MEMORY), 0);
        ch.options.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memory_file, 0);
        ch.options.memory_size = MEMORY;
        assert_true(ch.options.memory != MAP_FAILED);
    }
    return 0;
}

static int without_peers(void **state)
{
    peers_end();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    if (memory_file >= 0) {
        munmap(ch.options.memory, MEMORY);
        close(memory_file);
    }
    return teardown(state);
}

/* Becomes this very program again, which goes on in main. `left`: how many times more. */
static void become(const char *address, int file, int left, pid_t holder)
{
    char file_text[16], left_text[16], holder_text[16];

    snprintf(file_text, sizeof(file_text), "%d", file);
    snprintf(left_text, sizeof(left_text), "%d", left);
    snprintf(holder_text, sizeof(holder_text), "%d", (int)holder);
    execl("/proc/self/exe", "again", address, file_text, left_text, holder_text, (char *)NULL);
    _exit(1);
}

/* Takes the message and keeps it, as the programs before did. */
static int live_again(const char *address, int file, int left, pid_t holder)
{
    struct noria_options options;
    struct noria_span span;
    struct noria_info info;
    struct noria_stat stat = {0};
    noria_channel *mine = NULL;

    noria_options_init(&options);
    if (strcmp(address, "memory:") == 0) {
        options.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        options.memory_size = MEMORY;
    }
    PEER_REQUIRES(noria_open(&mine, address, NORIA_RECV, &options) == 0);
    PEER_REQUIRES(noria_stat(mine, &stat) == 0);
    PEER_REQUIRES(stat.receivers == 1 && stat.senders == 1 && stat.deaths == (uint64_t)(PROGRAMS - left));
    PEER_REQUIRES(noria_peek(mine, &span, 0, &info) == 0);
    PEER_REQUIRES(span.len == 10 && info.flags == NORIA_REDELIVERED);
    if (left > 0)
        become(address, file, left - 1, holder);
    PEER_REQUIRES(noria_release(mine, &span) == 0);
    if (holder > 0)
        kill(holder, SIGKILL);
    return noria_close(mine) == 0 ? 0 : 1;
}

static void hold_one(void)
{
    struct noria_span span;

    PEER_REQUIRES(noria_peek(open_handle(NORIA_RECV), &span, 0, NULL) == 0);
}

static void take_and_become_another(void)
{
    hold_one();
    become(ch.address, memory_file, PROGRAMS - 1, 0);
}

static void each_program_takes_part_once(void **state)
{
    /* Claim: see above. */
    (void)state;
    if (is_at("memfd"))
        assert_int_equal(fcntl(ch.memfd, F_SETFD, 0), 0);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 10);
    expect_end(start_peer(take_and_become_another));
    assert_int_equal(stat_of(ch.tx).receivers, 0);
    assert_int_equal(stat_of(ch.tx).deaths, PROGRAMS);
}

/* Becomes a program that knows nothing of channels, and says that it is there by stopping. */
static void become_a_stranger(void)
{
    hold_one();
    execl("/bin/sh", "sh", "-c", "kill -STOP $$", (char *)NULL);
    _exit(1);
}

static pid_t start_a_stranger(void (*body)(void))
{
    int status;
    pid_t pid;

    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 10);
    pid = start_peer(body);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    return pid;
}

static void expect_redelivered(void)
{
    uint8_t bytes[64];
    struct noria_info info;

    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 20 * SECOND, &info), 10);
    verify_message(bytes, 1, 10);
    assert_int_equal(info.flags, NORIA_REDELIVERED);
    assert_int_equal(stat_of(ch.tx).deaths, 1);
}

static void programs_that_do_not_come_back_are_noticed(void **state)
{
    /* Claim: what a process held that became another program, and lives on as that without opening the channel again, comes to
     * another one, with role and place; in System V memory the place only when the process ends, as -EBUSY says. */
    pid_t pid = start_a_stranger(become_a_stranger);

    (void)state;
    if (is_at("sysv")) {
        assert_fails(try_open(&ch.rx, NORIA_RECV), EBUSY);
        assert_non_null(strstr(noria_detail(), "1 by processes that became another program"));
        assert_int_equal(stat_of(ch.tx).deaths, 1);
        kill_peer(pid);
    }
    ch.rx = open_handle(NORIA_RECV);
    expect_redelivered();
    if (!is_at("sysv"))
        kill_peer(pid);
}

/* Becomes a program that opens the channel only when it is told to. */
static void become_a_late_one(void)
{
    hold_one();
    execl("/proc/self/exe", "later", ch.address, (char *)NULL);
    _exit(1);
}

static int live_later(const char *address)
{
    struct noria_options options;
    noria_channel *mine = NULL;
    uint8_t bytes[64];

    raise(SIGSTOP);
    noria_options_init(&options);
    PEER_REQUIRES(noria_open(&mine, address, NORIA_RECV, &options) == 0);
    PEER_REQUIRES(noria_recv(mine, bytes, sizeof(bytes), 0, NULL) == 10);
    return noria_close(mine) == 0 ? 0 : 1;
}

static void places_are_given_back_later(void **state)
{
    /* Claim: a place that exec has kept locked, and which others have seen to be a dead one's, is given back when the process opens
     * the channel again, to itself and others. */
    pid_t pid = start_a_stranger(become_a_late_one);

    (void)state;
    assert_fails(try_open(&ch.rx, NORIA_RECV), EBUSY);
    assert_int_equal(stat_of(ch.tx).deaths, 1);
    kill(pid, SIGCONT);
    expect_end(pid);
    assert_int_equal(stat_of(ch.tx).deaths, 1);
    ch.rx = open_handle(NORIA_RECV);
}

/* A child that no fork handler knows of keeps the descriptors, and with them the locks, as long as its parent lives. */
static pid_t have_a_child_that_keeps_all(void)
{
    pid_t parent = getpid(), child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    PEER_REQUIRES(child >= 0);
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) /* it may have died before that */
        pause();
    _exit(0);
}

static void hold_one_with_a_child(void)
{
    hold_one();
    have_a_child_that_keeps_all();
    execl("/bin/sh", "sh", "-c", "kill -STOP $$", (char *)NULL);
    _exit(1);
}

static void a_childs_lock_does_not_hide_that(void **state)
{
    /* Claim: the same if a child that no fork handler knows of still holds what the earlier program has locked. */
    pid_t pid;

    (void)state;
    ch.options.max_participants = 3; /* a place is lost */
    pid = start_a_stranger(hold_one_with_a_child);
    ch.rx = open_handle(NORIA_RECV);
    expect_redelivered();
    kill_peer(pid);
}

static void leave_the_lock_to_a_child(void)
{
    hold_one();
    become(ch.address, memory_file, PROGRAMS - 1, have_a_child_that_keeps_all());
}

static void locks_may_be_held_by_a_child(void **state)
{
    /* Claim: nor does it matter that somebody still holds what the earlier program has locked; it costs the place. */
    (void)state;
    ch.options.max_participants = 3;
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 10);
    expect_end(start_peer(leave_the_lock_to_a_child));
    assert_int_equal(stat_of(ch.tx).receivers, 0);
    assert_int_equal(stat_of(ch.tx).deaths, PROGRAMS);
}

int main(int argc, char **argv)
{
    static const struct named_test tests[] = {
        EVERYWHERE(each_program_takes_part_once),
        EVERYWHERE(programs_that_do_not_come_back_are_noticed),
        AT("sysv", places_are_given_back_later),
        AT("shm", a_childs_lock_does_not_hide_that),
        AT("shm", locks_may_be_held_by_a_child),
    };

    if (argc == 2)
        return live_later(argv[1]);
    if (argc == 5)
        return live_again(argv[1], atoi(argv[2]), atoi(argv[3]), (pid_t)atoi(argv[4]));
    return run_variants_with("exec", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
