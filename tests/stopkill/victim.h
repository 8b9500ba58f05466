/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A victim: a process that is led through one operation instruction by instruction (ptrace; x86-64 only).
 *
 * Single-stepping costs two process switches per instruction. So an operation is stepped once, which gives a
 * trace, and later victims of the same kind are brought to their position by a hardware breakpoint on an
 * instruction near it and single steps for the rest.
 */
#ifndef STOPKILL_VICTIM_H
#define STOPKILL_VICTIM_H

#include <sys/types.h>

#include "contestant.h"

struct victim {
    struct party *party;
    pid_t pid; /* 0: none */
    uint64_t pc;
};

enum { TRACE_MAX = 120000 };

/* Position i lies before instruction i; position `length` is the end of the operation. */
struct trace {
    int length;
    uint64_t pc[TRACE_MAX + 1];
    bool touches[TRACE_MAX + 1]; /* instruction i reads or writes the ring, or is a system call */
    bool calls[TRACE_MAX + 1];   /* is a system call: libc has one instruction for many of them */
};

/* ENDED: the operation was over first. HUNG: not there within the time. CRASHED: by a signal of its own. */
enum arrival { ARRIVED, ENDED, HUNG, CRASHED };

/* Forks a victim that stands before the first instruction of the operation. */
enum arrival victim_start(struct victim *victim, const struct operation *operation, struct party *party);
/* Single-steps to the end of the operation and records. HUNG if it does not end within TRACE_MAX
 * instructions. */
enum arrival victim_trace(struct victim *victim, struct trace *trace);
/* From the start of the trace to position `to`. The victim's pc tells whether it came that way. */
enum arrival victim_advance(struct victim *victim, const struct trace *trace, int to);
/* `n` single steps, whatever they lead over. */
enum arrival victim_step(struct victim *victim, int n);
/* Lets it run to the end of the operation, then on as a survivor. */
enum arrival victim_resume(struct victim *victim);
/* Kills it for good and waits until it is dead. */
void victim_kill(struct victim *victim);

/* What a victim does after its operation: serves jobs like a survivor. */
void victim_afterlife(struct party *me);

/* How long a victim may take to a place it must reach, from now on. */
void victim_set_patience(int ms);
int victim_signal(void); /* of the last CRASHED */

#endif
