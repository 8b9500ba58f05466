/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The clock of programs that step through their children. The kernel's code in a process, which reads it, begins anew when
 * it was set meanwhile, at every tick: who is stepped slowly may stay in there for long, and the way is another one each
 * time. As a system call it is one instruction. Takes the C library's place in the whole program; included by one file of it.
 */
#ifndef NORIA_STEPPED_CLOCK_TEST_H
#define NORIA_STEPPED_CLOCK_TEST_H

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    return (int)syscall(SYS_clock_gettime, clock, now);
}

#endif
