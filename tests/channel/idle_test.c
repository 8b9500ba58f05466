/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: waiting costs next to nothing, waking never fails, and sending and receiving with nobody asleep
 * makes no system call at all. */
#include "variants_test.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peers.h"

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

/* --------------------------------------------------------------------------------------------------- idle */

static int64_t processor_time_of(pid_t pid)
{
    clockid_t clock;
    struct timespec used;

    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return used.tv_sec * SECOND + used.tv_nsec;
}

static void receive_for_ever(void)
{
    noria_channel *mine = open_handle(NORIA_RECV);

    say();
    (void)!noria_recv(mine, NULL, 0, -1, NULL);
}

static void send_for_ever(void)
{
    noria_channel *mine = open_handle(NORIA_SEND);
    uint8_t bytes[64] = {0};

    say();
    while (noria_send(mine, bytes, 64, -1) == 0)
        continue;
}

static void expect_idle(void (*body)(void), int seconds)
{
    const struct timespec while_idle = {.tv_sec = seconds};
    pid_t peer = start_peer(body);
    int64_t used = INT64_MAX;

    await_peer();
    /* Once more if it is too much: it may have slept on its way here already, or the machine was slow. */
    for (int tries = 0; tries < 3 && used >= seconds * SECOND / 100; tries++) {
        while (!is_asleep(peer))
            sched_yield();
        used = processor_time_of(peer);
        nanosleep(&while_idle, NULL); /* the time that is measured */
        used = processor_time_of(peer) - used;
        print_message("%.2f %% of a core while blocked\n", (double)used / (double)(seconds * SECOND) * 100);
    }
    assert_true(used < seconds * SECOND / 100);
    kill_peer(peer);
}

static void blocked_receiver_idles(void **state)
{
    /* Claim: a receiver blocked for two seconds with the default re-check uses less than 1 % of a core. */
    (void)state;
    ch.options.recheck_ns = 25 * MS;
    ch.tx = open_handle(NORIA_SEND);
    expect_idle(receive_for_ever, 2);
}

static void blocked_sender_idles(void **state)
{
    /* Claim: so does a sender blocked on a full channel. */
    (void)state;
    ch.options.recheck_ns = 25 * MS;
    ch.rx = open_handle(NORIA_RECV);
    expect_idle(send_for_ever, 1);
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

static bool pass_messages(noria_channel *tx, noria_channel *rx, int64_t timeout_ns)
{
    uint8_t bytes[4][64] = {{0}};
    struct iovec vectors[4] = {{bytes[0], 64}, {bytes[1], 64}, {bytes[2], 64}, {bytes[3], 64}};
    struct noria_span span;
    struct noria_info info;

    for (int i = 0; i < 10000; i++)
        if (noria_send(tx, bytes[0], 64, timeout_ns) != 0 ||
            noria_recv(rx, bytes[0], 64, timeout_ns, &info) != 64)
            return false;
    for (int i = 0; i < 1000; i++) {
        if (noria_send_many(tx, vectors, 4, timeout_ns) != 4 ||
            noria_recv_many(rx, vectors, 4, timeout_ns, NULL) != 4)
            return false;
        if (noria_reserve(tx, 64, &span, timeout_ns) != 0 || noria_commit(tx, &span, 64, timeout_ns) != 0)
            return false;
        if (noria_peek(rx, &span, timeout_ns, &info) != 0 || noria_release(rx, &span) != 0)
            return false;
    }
    return true;
}

static int64_t timeout_of_test;

static void pass_without_system_calls(void)
{
    noria_channel *tx = open_handle(NORIA_SEND), *rx;

    ch.tx = tx;
    rx = open_handle(NORIA_RECV);
    PEER_REQUIRES(
        pass_messages(tx, rx, timeout_of_test)); /* a thread's first call makes it known to liburcu */
    allow_no_system_call();
    syscall(SYS_exit_group,
            pass_messages(tx, rx, timeout_of_test) ? 0 : 1); /* and nothing that a sanitizer hooks */
}

static void nobody_asleep_no_system_call(void **state)
{
    /* Claim: 10,000 messages sent and received, and every other form, with any timeout: no system call. (A
     * call that finds the channel full or empty may ask whether its peers live, now and then.) */
    static const int64_t timeouts[] = {0, SECOND, -1};
    int status;

    (void)state;
    for (int i = 0; i < 3; i++) {
        pid_t pid;
        timeout_of_test = timeouts[i];
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
        if (ch.memfd >= 0)
            return;
        remove_name();
    }
}

static void send_beside_a_descriptor(void)
{
    noria_channel *tx = open_handle(NORIA_SEND), *rx;
    uint8_t bytes[64] = {0};
    int sent = 1;

    ch.tx = tx;
    rx = open_handle(NORIA_RECV);
    PEER_REQUIRES(pass_messages(tx, rx, 0));
    PEER_REQUIRES(noria_fd(rx, NORIA_RECV) >= 0);
    PEER_REQUIRES(noria_send(tx, bytes, sizeof(bytes), 0) == 0); /* rings: asking for it was a try that found nothing */
    allow_no_system_call();
    while (sent < 8 && noria_send(tx, bytes, sizeof(bytes), 0) == 0)
        sent++;
    syscall(SYS_exit_group, sent == 8 ? 0 : 1);
}

static void receive_beside_a_descriptor(void)
{
    noria_channel *tx = open_handle(NORIA_SEND), *rx;
    uint8_t bytes[64] = {0};
    int received = 1;

    ch.tx = tx;
    rx = open_handle(NORIA_RECV);
    PEER_REQUIRES(pass_messages(tx, rx, 0));
    PEER_REQUIRES(noria_fd(tx, NORIA_SEND) >= 0);
    while (noria_send(tx, bytes, sizeof(bytes), 0) == 0)
        continue;
    PEER_REQUIRES(noria_recv(rx, bytes, sizeof(bytes), 0, NULL) == sizeof(bytes)); /* rings: the last send was in vain */
    allow_no_system_call();
    while (received < 8 && noria_recv(rx, bytes, sizeof(bytes), 0, NULL) == sizeof(bytes))
        received++;
    syscall(SYS_exit_group, received == 8 ? 0 : 1);
}

static void a_descriptor_nobody_waits_at_costs_nothing(void **state)
{
    /* Claim: where a receiver has asked for its descriptor, one send rings, and those after it make no system call until
     * somebody tries again in vain; so it is with receives where a sender has asked. */
    void (*const lives[])(void) = {send_beside_a_descriptor, receive_beside_a_descriptor};

    (void)state;
    for (int i = 0; i < 2; i++) {
        int status;
        pid_t pid;
        fflush(NULL);
        pid = fork();
        if (pid == 0)
            lives[i]();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            print_message("skipped: no seccomp filters here\n");
            skip();
        }
        assert_false(WIFSIGNALED(status)); /* SIGSYS: a system call was made */
        assert_int_equal(WEXITSTATUS(status), 0);
        if (ch.memfd >= 0)
            return; /* its messages are still there */
        if (has_name())
            assert_int_equal(noria_unlink(ch.address), 0); /* with the descriptor's own name */
    }
}

/* ------------------------------------------------------------------------------------------- conversation */

enum { ROUNDS = 5000 };
static char back_address[80];

static void answer_each(void)
{
    noria_channel *mine = open_handle(NORIA_RECV), *back = NULL;
    uint32_t number;

    PEER_REQUIRES(noria_open(&back, back_address, NORIA_SEND, &ch.options) == 0);
    say();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        PEER_REQUIRES(noria_recv(mine, &number, sizeof(number), -1, NULL) == sizeof(number) && number == i);
        PEER_REQUIRES(noria_send(back, &number, sizeof(number), -1) == 0);
    }
    PEER_REQUIRES(noria_close(back) == 0 && noria_close(mine) == 0);
}

static void conversation_needs_no_recheck(void **state)
{
    /* Claim: two processes that answer each other, asleep most of the time and with no re-check to save them,
     * get on. */
    noria_channel *back = NULL;
    pid_t peer;

    (void)state;
    ch.options.recheck_ns = 3600 * SECOND;
    snprintf(back_address, sizeof(back_address), "%s-back", ch.address);
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_open(&back, back_address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    peer = start_peer(answer_each);
    await_peer();
    alarm(60); /* a lost wake-up would sleep for an hour */
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t number = i;
        assert_int_equal(noria_send(ch.tx, &number, sizeof(number), -1), 0);
        assert_int_equal(noria_recv(back, &number, sizeof(number), -1, NULL), sizeof(number));
        assert_int_equal(number, i);
    }
    alarm(0);
    expect_end(peer);
    close_handle(&back);
    assert_int_equal(noria_unlink(back_address), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONCE(blocked_receiver_idles),
        ONCE(blocked_sender_idles),
        EVERYWHERE(nobody_asleep_no_system_call),
        EVERYWHERE(a_descriptor_nobody_waits_at_costs_nothing),
        AT("shm", conversation_needs_no_recheck),
    };

    return run_variants_with("idle", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
