/* SPDX-License-Identifier: BSD-2-Clause */
/* The default: sleep on the event word itself. Nothing to make, nothing to clean up, nothing to tamper with. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "strategy.h"

static void ring(struct noria_bell *bell)
{
    syscall(SYS_futex, bell->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    struct timespec until = noria_timespec_of(until_ns);

    /* BITSET, because its timeout is an absolute instant of CLOCK_MONOTONIC. */
    if (syscall(SYS_futex, bell->word, FUTEX_WAIT_BITSET, expected, &until, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    return errno == EINTR ? -EINTR : 0;
}

const struct noria_strategy noria_strategy_futex = {.name = "futex", .sleeps = true, .ring = ring, .wait = wait_at};
