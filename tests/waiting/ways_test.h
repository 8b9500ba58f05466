/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs each test on every kind of channel with every way of waiting that this library has. A test finds
 * `ch` as in api/variants_test.h, at an address in shm:, with the way of waiting chosen. Included by one
 * file per program. With arguments only the strategies named there are tried.
 */
#ifndef NORIA_WAYS_TEST_H
#define NORIA_WAYS_TEST_H

#include "variants_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/types.h>

#include "../channel/peers.h"

#define HOUR (3600 * SECOND)
/* What no test waits longer for: a machine may be slow, but whoever takes so long will never come. */
#define PATIENCE (20 * SECOND)

enum { STRATEGIES = 8, MOST_WAYS = 2 * STRATEGIES };

static const char *const strategy_names[STRATEGIES] = {"futex",   "mutex", "semaphore", "sysv-semaphore",
                                                       "eventfd", "fifo",  "spin",      "yield"};

struct way {
    struct variant variant; /* first: variants_test.h sees only this */
    uint32_t wait;
};

static struct way ways[MOST_WAYS];
static size_t way_count;

static inline uint32_t wait_of_test(void)
{
    return ((const struct way *)(const void *)ch.variant)->wait;
}

static inline bool is_sleeping_strategy(uint32_t wait)
{
    return wait != NORIA_WAIT_SPIN && wait != NORIA_WAIT_YIELD;
}

static inline bool sleeps(void)
{
    return is_sleeping_strategy(wait_of_test());
}

static inline bool is_long_form(void)
{
    const char *value = getenv("NORIA_LONG");

    return value != NULL && strcmp(value, "1") == 0;
}

/* Where a test that takes only every so many'th instruction begins: elsewhere each time it is run. */
static inline int first_position(int apart)
{
    return (int)getpid() % apart;
}

/* "mpmc futex" */
static inline const char *way_name(const struct way *way)
{
    static char name[64];

    snprintf(name, sizeof(name), "%s %s", way->variant.kind == NORIA_KIND_SPSC ? "spsc" : "mpmc",
             strategy_names[way->wait]);
    return name;
}

static inline const char *name_of_test(void)
{
    return way_name((const struct way *)(const void *)ch.variant);
}

/* ------------------------------------------------------------------------------------- which there are */

static inline bool library_has(uint32_t wait)
{
    struct noria_options options;
    noria_channel *channel;
    char address[64];
    int rc;

    noria_options_init(&options);
    options.wait = wait;
    snprintf(address, sizeof(address), "shm:/noria-ways-test-%d", (int)getpid());
    rc = noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &options);
    if (rc == 0)
        noria_close(channel);
    else
        print_message("skipped: %s: %s\n", strategy_names[wait], noria_detail());
    noria_unlink(address);
    return rc == 0;
}

static inline bool is_asked_for(uint32_t wait, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], strategy_names[wait]) == 0)
            return true;
    return argc < 2;
}

static inline void find_ways(int argc, char **argv)
{
    for (uint32_t wait = 0; wait < STRATEGIES; wait++) {
        if (!is_asked_for(wait, argc, argv) || !library_has(wait))
            continue;
        ways[way_count++] = (struct way){{NORIA_KIND_SPSC, "shm"}, wait};
        ways[way_count++] = (struct way){{NORIA_KIND_MPMC, "shm"}, wait};
    }
}

/* ------------------------------------------------------------------------------------------- the fixture */

static int with_peers(void **state)
{
    peers_begin();
    setup(state);
    ch.options.wait = wait_of_test();
    return 0;
}

static int without_peers(void **state)
{
    peers_end();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    close_handle(&ch.keeper);
    noria_unlink(ch.address); /* with the strategy's own names; -ENOENT if the test did it */
    return teardown(state);
}

static inline void await_asleep(pid_t pid)
{
    int64_t until = now_ns() + PATIENCE;

    while (!is_asleep(pid)) {
        sched_yield();
        assert_true(now_ns() < until);
    }
}

/* Until that process blocks in a call. Of one that never sleeps nobody knows: then others are let run. */
static inline void await_blocked(pid_t pid)
{
    for (int i = 0; i < 100 && !sleeps(); i++)
        sched_yield();
    if (sleeps())
        await_asleep(pid);
}

/* -------------------------------------------------------------------------------------------- the program */

enum { ALL_WAYS = 0, SLEEPING = 1, MPMC = 2, ONCE_PER_PROGRAM = 4, BY_FUTEX = 8 };

struct claim {
    const char *name;
    CMUnitTestFunction run;
    int where;
};
#define CLAIM(test, where) {#test, test, where}

static inline bool holds_for(const struct claim *claim, const struct way *way)
{
    if ((claim->where & SLEEPING) != 0 && !is_sleeping_strategy(way->wait))
        return false;
    if ((claim->where & MPMC) != 0 && way->variant.kind != NORIA_KIND_MPMC)
        return false;
    if ((claim->where & BY_FUTEX) != 0 && way->wait != NORIA_WAIT_FUTEX)
        return false;
    return (claim->where & ONCE_PER_PROGRAM) == 0 || way == ways;
}

static inline int run_ways(const char *group, const struct claim *claims, size_t n, int argc, char **argv)
{
    struct CMUnitTest *tests = calloc(n * MOST_WAYS, sizeof(*tests));
    char(*names)[128] = calloc(n * MOST_WAYS, sizeof(*names));
    size_t used = 0;
    int failed;

    find_ways(argc, argv);
    for (size_t i = 0; i < n; i++)
        for (size_t w = 0; w < way_count; w++) {
            if (!holds_for(&claims[i], &ways[w]))
                continue;
            snprintf(names[used], sizeof(names[used]), "%s%s%s", claims[i].name,
                     claims[i].where & ONCE_PER_PROGRAM ? "" : ", ",
                     claims[i].where & ONCE_PER_PROGRAM ? "" : way_name(&ways[w]));
            tests[used] =
                (struct CMUnitTest){names[used], claims[i].run, with_peers, without_peers, &ways[w]};
            used++;
        }
    failed = _cmocka_run_group_tests(group, tests, used, NULL, NULL);
    free(tests);
    free(names);
    return failed;
}

#endif
