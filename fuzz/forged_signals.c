/* SPDX-License-Identifier: BSD-2-Clause */
#include "forged_signals.h"

#include <signal.h>
#include <stddef.h>

static struct sigaction before[NSIG];
static bool are_let_go;

/* Words of the segment are registrations for signals, too, and a peer with our own rights may kill us without
 * them: what such a word made us send to ourselves is let go. Everything else is as it was. */
static void on_signal(int signo, siginfo_t *info, void *context)
{
    const struct sigaction *old = &before[signo];

    if (info->si_code == SI_QUEUE && are_let_go)
        return;
    if ((old->sa_flags & SA_SIGINFO) != 0)
        old->sa_sigaction(signo, info, context);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
        old->sa_handler(signo);
    else if (old->sa_handler == SIG_DFL && sigaction(signo, old, NULL) == 0)
        raise(signo); /* comes when we return */
}

/* A default that neither ends nor stops a process. */
static bool is_harmless(int signo)
{
    return signo == SIGCHLD || signo == SIGURG || signo == SIGWINCH || signo == SIGCONT;
}

void outlive_forged_signals(bool may_come)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    static bool done;

    are_let_go = may_come;

    for (int signo = 1; signo < NSIG && !done; signo++)
        if (!is_harmless(signo) && sigaction(signo, NULL, &before[signo]) == 0)
            sigaction(signo, &action, NULL); /* fails for those that cannot be sent either */
    done = true;
}
