/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads of the test that stand in a call on a shared handle. Included after ways_test.h. */
#ifndef NORIA_BLOCKED_H
#define NORIA_BLOCKED_H

#include <pthread.h>
#include <sys/syscall.h>

struct blocked {
    pthread_t thread;
    noria_channel *channel;
    ssize_t (*call)(noria_channel *channel);
    pid_t tid;
    ssize_t rc;
};

static inline ssize_t receive_blocking(noria_channel *channel)
{
    uint8_t bytes[64];

    return noria_recv(channel, bytes, sizeof(bytes), -1, NULL);
}

static inline ssize_t send_blocking(noria_channel *channel)
{
    static const uint8_t bytes[64];

    return noria_send(channel, bytes, sizeof(bytes), -1);
}

static inline void *block(void *argument)
{
    struct blocked *blocked = argument;

    __atomic_store_n(&blocked->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    blocked->rc = blocked->call(blocked->channel);
    return NULL;
}

/* One that never sleeps has used so much of a processor that it cannot be on its way into the call any
 * more. */
static inline bool has_spun(pthread_t thread)
{
    struct timespec used = {0, 0};
    clockid_t clock;

    assert_int_equal(pthread_getcpuclockid(thread, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return used.tv_sec > 0 || used.tv_nsec >= 10 * MS;
}

static inline void await_blocked_thread(const struct blocked *blocked, bool in_its_sleep)
{
    pid_t tid;

    do {
        sched_yield();
        tid = __atomic_load_n(&blocked->tid, __ATOMIC_ACQUIRE);
    } while (tid == 0 || !(in_its_sleep ? is_asleep(tid) : has_spun(blocked->thread)));
}

static inline void start_blocked(struct blocked *blocked, noria_channel *channel,
                                 ssize_t (*call)(noria_channel *))
{
    *blocked = (struct blocked){.channel = channel, .call = call};
    assert_int_equal(pthread_create(&blocked->thread, NULL, block, blocked), 0);
    await_blocked_thread(blocked, sleeps());
}

enum { CROWD_OF_THREADS = 3 };

/* One for SPSC, several for MPMC. How many. */
static inline int start_crowd(struct blocked *crowd, noria_channel *channel, ssize_t (*call)(noria_channel *))
{
    int n = is_spsc() ? 1 : CROWD_OF_THREADS;

    for (int i = 0; i < n; i++)
        start_blocked(&crowd[i], channel, call);
    return n;
}

static inline void expect_all_to_return(struct blocked *crowd, int n, ssize_t rc)
{
    for (int i = 0; i < n; i++) {
        assert_int_equal(pthread_join(crowd[i].thread, NULL), 0);
        assert_int_equal(crowd[i].rc, rc);
    }
}

#endif
