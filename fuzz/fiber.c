/* SPDX-License-Identifier: BSD-2-Clause */
#include "fiber.h"

#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_SANITIZED 1
#endif

#ifdef FIBER_SANITIZED
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size)
{
    (void)save, (void)bottom, (void)size;
}
static void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size)
{
    (void)save, (void)bottom, (void)size;
}
#endif

static struct fiber *current;
static ucontext_t outside;
static const void *outside_bottom;
static size_t outside_size;

/* Back to whoever continued us. */
static void leave(struct fiber *fiber)
{
    __sanitizer_start_switch_fiber(&fiber->sanitizer_stack, outside_bottom, outside_size);
    swapcontext(&fiber->context, &outside);
    __sanitizer_finish_switch_fiber(fiber->sanitizer_stack, &outside_bottom, &outside_size);
}

/* The life of a fiber: one call after the other. Each call ends here, by itself or killed. */
static void live(void)
{
    struct fiber *const fiber = current;

    __sanitizer_finish_switch_fiber(NULL, &outside_bottom, &outside_size);
    for (;;) {
        if (setjmp(fiber->beginning) == 0 && !fiber->killed)
            fiber->call(fiber->argument);
        fiber->busy = false;
        leave(fiber);
    }
}

static void enter(struct fiber *fiber)
{
    void *save = NULL;

    current = fiber;
    __sanitizer_start_switch_fiber(&save, fiber->stack, sizeof(fiber->stack));
    swapcontext(&outside, &fiber->context);
    __sanitizer_finish_switch_fiber(save, NULL, NULL);
    current = NULL;
}

void fiber_start(struct fiber *fiber, void (*call)(void *), void *argument)
{
    fiber->call = call;
    fiber->argument = argument;
    fiber->killed = false;
    fiber->busy = true;
    if (fiber->made)
        return;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = sizeof(fiber->stack);
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, live, 0);
    fiber->made = true;
}

bool fiber_continue(struct fiber *fiber)
{
    enter(fiber);
    return !fiber->busy;
}

void fiber_pause(void)
{
    struct fiber *fiber = current;

    leave(fiber);
    if (fiber->killed)
        longjmp(fiber->beginning, 1);
}

void fiber_kill(struct fiber *fiber)
{
    if (!fiber->busy)
        return;
    fiber->killed = true;
    enter(fiber);
}

struct fiber *fiber_current(void)
{
    return current;
}
