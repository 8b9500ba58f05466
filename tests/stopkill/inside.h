/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that leaves a call in the middle and goes on outside: what others see of it is what they see of one that was
 * killed there. For calls in which nothing can be held on purpose. By the trap flag of x86; so the call may not block SIGTRAP.
 */
#ifndef NORIA_INSIDE_H
#define NORIA_INSIDE_H

#include <stdbool.h>
#include <sys/types.h>

typedef void call_body(void *argument);

/* Leaves it for good at that instruction; the library's private state is then of no more use. False: it ended before. */
bool call_left_inside(call_body *call, void *argument, long instruction);

/* The process stops there (SIGSTOP), again so many later (0: not again), and finishes the call when it is continued. False: it
 * ended before. */
bool call_stopped_inside(call_body *call, void *argument, long instruction, long more);

/* The parent waits for that. False: the process has ended instead. */
bool wait_until_it_stops(pid_t pid);

/* How many instructions it takes. */
long call_length(call_body *call, void *argument);

#endif
