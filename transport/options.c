/* SPDX-License-Identifier: BSD-2-Clause */
/* The defaults of what a channel is opened with, and what a program promises by them. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "clock.h"
#include "detail.h"
#include "transport.h"

void noria_options_init(struct noria_options *options)
{
    if (options == NULL)
        return;
    memset(options, 0, sizeof(*options));
    options->size = sizeof(*options);
    options->kind = NORIA_KIND_MPMC;
    options->order = NORIA_ORDER_STRICT;
    options->pack = 1;
    options->capacity = 1024;
    options->max_message = 256;
    options->max_held = 1;
    options->max_participants = 64;
    options->full = NORIA_FULL_BLOCK;
    options->wait = NORIA_WAIT_FUTEX;
    options->orphans = NORIA_ORPHANS_REDELIVER;
    options->lifetime = NORIA_PERSIST;
    options->mode = 0600;
    options->group = UINT32_MAX;
    options->trust = NORIA_TRUST_SAME_USER;
    options->recheck_ns = 25 * NORIA_NS_PER_MS;
    options->most_spins = 1000;
    options->priorities = 1;
    options->open_timeout_ns = NORIA_NS_PER_S;
}

int noria_options_check_promise(const struct noria_options *options)
{
    struct sigaction now;

    if (options->sigpipe_ignored == 0 ||
        (sigaction(SIGPIPE, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_IGN))
        return 0;
    return noria_fail(-EINVAL, "options.sigpipe_ignored is 1, and this process does not ignore SIGPIPE: "
                               "signal(SIGPIPE, SIG_IGN) first");
}
