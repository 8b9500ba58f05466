/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals by hand: real-time ones queue and carry a number. (The others do not: several of a kind at once are one.)
 *
 *     signals recv                      says its process number
 *     signals send PID 10
 *
 * What noria does with them: it sends none of its messages this way, as a signal carries four bytes, to a process that one
 * has to know by number, and nothing waits for its reader. noria_notify_signal lets one ring the bell when a message comes.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the signals that wait the one with the lowest number is given first: the end comes after all numbers. */
#define NUMBER SIGRTMIN
#define LAST (SIGRTMIN + 1)

static int send_one(pid_t receiver, int signo, int number)
{
    int rc;
    while ((rc = sigqueue(receiver, signo, (union sigval){.sival_int = number})) != 0 && errno == EAGAIN)
        sched_yield(); /* the user's queue is full (ulimit -i), and nobody tells when it is not */
    return rc;
}

static int send_numbers(pid_t receiver, int n)
{
    for (int i = 0; i < n; i++)
        if (send_one(receiver, NUMBER, i) != 0)
            return perror("signals: sigqueue"), 1; /* ESRCH: it has gone. Another may have its number by then! */
    return send_one(receiver, LAST, 0) == 0 ? 0 : (perror("signals: sigqueue"), 1);
}

/* Blocked, so that they wait in the kernel instead of interrupting; blocked before anybody can know our number. */
static int receive_numbers(void)
{
    uint64_t count = 0, sum = 0;
    sigset_t set;
    siginfo_t info;
    int signo;

    sigemptyset(&set);
    sigaddset(&set, NUMBER);
    sigaddset(&set, LAST);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("%d\n", (int)getpid());
    fflush(stdout);
    while ((signo = sigwaitinfo(&set, &info)) != LAST) {
        if (signo < 0 && errno != EINTR)
            return perror("signals: sigwaitinfo"), 1;
        if (signo < 0 || info.si_code != SI_QUEUE || info.si_uid != getuid()) /* somebody else's, or kill(1) */
            continue;
        count++;
        sum += (uint64_t)info.si_value.sival_int;
    }
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "send") == 0)
        return send_numbers((pid_t)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10));
    if (argc == 2 && strcmp(argv[1], "recv") == 0)
        return receive_numbers();
    return fprintf(stderr, "usage: signals recv | signals send PID COUNT\n"), 2;
}
