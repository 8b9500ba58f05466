/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of signals share. Included by one file per program. */
#ifndef NORIA_SIGNALS_TEST_H
#define NORIA_SIGNALS_TEST_H

#include "stepping_test.h"

#define SIGNAL (SIGRTMIN + 3)

/* The next pending signal of that number within the time. False: none. */
static inline bool take_signal(int signo, int64_t timeout_ns, siginfo_t *info)
{
    struct timespec timeout = {timeout_ns / SECOND, timeout_ns % SECOND};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    for (;;) {
        int taken = sigtimedwait(&set, info, &timeout);
        if (taken == signo)
            return true;
        if (errno != EINTR)
            return false;
    }
}

static inline int count_signals(int signo)
{
    siginfo_t info;
    int count = 0;

    while (take_signal(signo, 0, &info))
        count++;
    return count;
}

static inline void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    sigaddset(&set, SIGNAL + 1);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Receives until the channel is empty, which arms. How many. */
static inline uint32_t drain(noria_channel *channel)
{
    uint8_t bytes[64];
    uint32_t count = 0;
    ssize_t rc;

    while ((rc = noria_recv(channel, bytes, sizeof(bytes), 0, NULL)) >= 0)
        count++;
    assert_true(rc == -EAGAIN || rc == -EPIPE);
    return count;
}

static noria_channel *known; /* a handle from before the fork */

static inline noria_channel *open_in_child(int flags)
{
    noria_channel *channel = NULL;
    int rc = strcmp(ch.variant->scheme, "anon") == 0 ? noria_reopen(&channel, known, flags)
                                                     : noria_open(&channel, ch.address, flags, &ch.options);

    if (rc != 0)
        _exit(1);
    return channel;
}

static inline void reap(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Whoever closes rings, too: what earlier tests left is taken away. */
static inline int setup_signals(void **state)
{
    count_signals(SIGNAL);
    count_signals(SIGNAL + 1);
    count_signals(SIGUSR1);
    return setup(state);
}

#endif
