/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that run beside each other in one thread, and change over only where they are told to: an
 * interleaving that an input describes is the same every time. A fiber that is never continued again is a
 * stopped process; one that is killed makes no further access.
 */
#ifndef NORIA_FUZZ_FIBER_H
#define NORIA_FUZZ_FIBER_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

enum { FIBER_STACK = 128 * 1024 };

struct fiber {
    ucontext_t context;
    jmp_buf beginning;
    void (*call)(void *);
    void *argument;
    void *sanitizer_stack; /* AddressSanitizer's own, while the fiber is not running */
    bool made;             /* it has a stack and stands at its beginning or in a call */
    bool busy;             /* in a call */
    bool killed;
    _Alignas(64) unsigned char stack[FIBER_STACK];
};

/* Gives an idle fiber a call; fiber_continue runs it. */
void fiber_start(struct fiber *fiber, void (*call)(void *), void *argument);

/* Runs the fiber until it pauses or its call is done. True if it is done. */
bool fiber_continue(struct fiber *fiber);

/* Called inside a fiber: back to whoever continued it. Does not return if the fiber is killed. */
void fiber_pause(void);

/* Ends the call where it stands. Nothing of it runs any more. */
void fiber_kill(struct fiber *fiber);

/* The fiber that runs now, or NULL. */
struct fiber *fiber_current(void);

#endif
