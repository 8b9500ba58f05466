/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leads a process through one call instruction by instruction (ptrace; x86-64 only). The same process makes
 * the call again and again, so that only its steps cost time.
 *
 *     victim                                    test
 *     open its handle
 *     stepper_serve(call): again and again      stepper_await_call: it stands before the call
 *         call                                  stepper_step, ...
 *                                               stepper_finish: it runs to the end of the call
 */
#ifndef NORIA_STEPPER_H
#define NORIA_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* STANDS: before another instruction of the call. ENDED: the call has returned. SLEEPS: in a system call. */
enum whereabouts { STANDS, ENDED, SLEEPS, GONE };

/* In the victim: never returns. */
_Noreturn void stepper_serve(void (*call)(void));

void stepper_await_call(pid_t victim);
enum whereabouts stepper_step(pid_t victim);
/* Lets it run until it has returned or sleeps. */
enum whereabouts stepper_run(pid_t victim);
/* A call, stepped once from its start to where it ends or sleeps. Position k lies before instruction k. */
enum { TRACE_MAX = 8000 };
struct trace {
    int length;
    uint64_t pc[TRACE_MAX];
};
enum whereabouts stepper_trace(pid_t victim, struct trace *trace);
/* From the start of a call to position k of the trace, by a breakpoint and steps for the rest. A call that
 * runs another way may end or sleep before. */
enum whereabouts stepper_advance(pid_t victim, const struct trace *trace, int k);
/* After SLEEPS: waits until it wakes, on the instruction behind the system call. GONE if that takes too
 * long. */
enum whereabouts stepper_await_wake(pid_t victim);
/* From STANDS: lets it run to the end of the call. False if it does not arrive in time. From ENDED: at
 * once. */
bool stepper_finish(pid_t victim, enum whereabouts where);
/* From the end of one call to the start of the next. */
void stepper_next(pid_t victim);

#endif
