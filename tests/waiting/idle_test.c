/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: with every way of waiting that sleeps, waiting costs less than 1 % of a core; and with every way,
 * sending with nobody asleep makes no system call. */
#include "ways_test.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --------------------------------------------------------------------------------------------------- idle */

static int64_t processor_time_of(pid_t pid)
{
    clockid_t clock;
    struct timespec used;

    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return used.tv_sec * SECOND + used.tv_nsec;
}

static const struct way *way_of_sleeper;

static noria_channel *open_for_sleeper(int flags)
{
    struct noria_options options = ch.options;
    noria_channel *channel = NULL;
    char address[96];

    options.kind = way_of_sleeper->variant.kind;
    options.wait = way_of_sleeper->wait;
    options.recheck_ns = 25 * MS;
    snprintf(address, sizeof(address), "%s-%d%s", ch.address, (int)(way_of_sleeper - ways),
             flags & NORIA_SEND ? "-full" : "");
    PEER_REQUIRES(noria_open(&channel, address, flags | NORIA_CREATE, &options) == 0);
    return channel;
}

static void receive_for_ever(void)
{
    noria_channel *mine = open_for_sleeper(NORIA_RECV);

    say();
    (void)!noria_recv(mine, NULL, 0, -1, NULL);
}

static void send_for_ever(void)
{
    noria_channel *mine = open_for_sleeper(NORIA_SEND);
    uint8_t bytes[64] = {0};

    say();
    while (noria_send(mine, bytes, sizeof(bytes), -1) == 0)
        continue;
}

static void remove_channels_of_sleepers(void)
{
    char address[96];

    for (size_t i = 0; i < way_count; i++) {
        snprintf(address, sizeof(address), "%s-%d", ch.address, (int)i);
        noria_unlink(address);
        snprintf(address, sizeof(address), "%s-%d-full", ch.address, (int)i);
        noria_unlink(address);
    }
}

/* Ten seconds where the build is that which users have; builds that only look for errors are measured in passing. */
#ifdef __OPTIMIZE__
enum { IDLE_S = 10 };
#else
enum { IDLE_S = 2 };
#endif

static void the_blocked_idle(void **state)
{
    /* Claim: a blocked receiver and a blocked sender of each strategy and kind, all at once, each use less
     * than 1 % of a core over ten seconds with the default re-check. */
    const struct timespec while_idle = {.tv_sec = is_long_form() ? 10 : IDLE_S};
    pid_t sleepers[2 * MOST_WAYS];
    int64_t used[2 * MOST_WAYS];
    bool all_idle = true;

    (void)state;
    for (size_t i = 0; i < 2 * way_count; i++) {
        way_of_sleeper = &ways[i / 2];
        sleepers[i] = 0;
        if (!is_sleeping_strategy(way_of_sleeper->wait))
            continue;
        sleepers[i] = start_peer(i % 2 == 0 ? receive_for_ever : send_for_ever);
        await_peer();
        await_asleep(sleepers[i]);
    }
    for (size_t i = 0; i < 2 * way_count; i++)
        used[i] = sleepers[i] != 0 ? processor_time_of(sleepers[i]) : 0;
    nanosleep(&while_idle, NULL); /* the time that is measured */
    for (size_t i = 0; i < 2 * way_count; i++) {
        double share;
        if (sleepers[i] == 0)
            continue;
        share = (double)(processor_time_of(sleepers[i]) - used[i]) / ((double)while_idle.tv_sec * SECOND);
        print_message("%s: blocked %s uses %.3f %% of a core\n", way_name(&ways[i / 2]),
                      i % 2 == 0 ? "receiver" : "sender", share * 100);
        all_idle = all_idle && share < 0.01;
    }
    peers_end();
    peers_begin();
    remove_channels_of_sleepers();
    assert_true(all_idle);
}

/* ------------------------------------------------------------------------------------------- system calls */

/* From here on any system call but exit ends the process with SIGSYS. */
static void allow_no_system_call(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof(rules) / sizeof(rules[0]), rules};

    PEER_REQUIRES(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
}

static bool pass_messages(noria_channel *tx, noria_channel *rx)
{
    uint8_t bytes[64] = {0};
    struct iovec vectors[2] = {{bytes, 32}, {bytes + 32, 32}};
    struct noria_span span;

    for (int i = 0; i < 10000; i++)
        if (noria_send(tx, bytes, 64, -1) != 0 || noria_recv(rx, bytes, 64, -1, NULL) != 64)
            return false;
    for (int i = 0; i < 1000; i++) {
        if (noria_send_many(tx, vectors, 2, SECOND) != 2 ||
            noria_recv_many(rx, vectors, 2, SECOND, NULL) != 2)
            return false;
        if (noria_reserve(tx, 64, &span, 0) != 0 || noria_commit(tx, &span, 64, 0) != 0 ||
            noria_peek(rx, &span, 0, NULL) != 0 || noria_release(rx, &span) != 0)
            return false;
    }
    return true;
}

static void pass_without_system_calls(void)
{
    noria_channel *tx = open_handle(NORIA_SEND), *rx = open_handle(NORIA_RECV);

    /* A thread's first call makes it known to liburcu; and whoever slept here before costs the first one a
     * wake. */
    PEER_REQUIRES(pass_messages(tx, rx));
    allow_no_system_call();
    syscall(SYS_exit_group, pass_messages(tx, rx) ? 0 : 1);
}

static void receive_one(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);
    uint8_t byte;

    say();
    PEER_REQUIRES(noria_recv(mine, &byte, 1, -1, NULL) == 1);
    PEER_REQUIRES(noria_close(mine) == 0);
}

static void nobody_asleep_no_system_call(void **state)
{
    /* Claim: thousands of messages, in every form: no system call. Also when somebody slept there before,
     * woken or killed. */
    pid_t sleeper;
    int status;

    (void)state;
    ch.keeper = open_handle(0);
    for (int before = 0; before < 3; before++) { /* nobody, somebody woken, somebody killed */
        pid_t pid;
        if (before != 0) {
            sleeper = start_peer(receive_one);
            await_peer();
            await_blocked(sleeper);
            if (before == 1) {
                ch.tx = open_handle(NORIA_SEND);
                assert_int_equal(noria_send(ch.tx, "", 1, PATIENCE), 0);
                expect_end(sleeper);
                close_handle(&ch.tx);
            } else {
                kill_peer(sleeper);
            }
        }
        fflush(NULL);
        pid = fork();
        if (pid == 0)
            pass_without_system_calls();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            print_message("skipped: no seccomp filters here\n");
            skip();
        }
        assert_false(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS); /* a system call was made */
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(int argc, char **argv)
{
    static const struct claim claims[] = {
        CLAIM(the_blocked_idle, ONCE_PER_PROGRAM),
        CLAIM(nobody_asleep_no_system_call, ALL_WAYS),
    };

    return run_ways("waiting idle", claims, sizeof(claims) / sizeof(claims[0]), argc, argv);
}
