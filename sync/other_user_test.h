/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests in which a process becomes another user. */
#ifndef NORIA_OTHER_USER_TEST_H
#define NORIA_OTHER_USER_TEST_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether this process may make another user's of itself: root of a container or of a namespace may be refused it. */
static inline bool may_become(uid_t user)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0 ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

#endif
