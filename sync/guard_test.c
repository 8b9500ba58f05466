/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a guard turns the loss of its range into zeros, and gives every other SIGBUS to whom it belongs, each once, in
 * whatever order guards and handlers of the program come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomic.h"
#include "detail.h"
#include "guard.h"

enum { PAGE = 4096, DISPLACEMENTS = 20 };

static struct {
    uint32_t calls;    /* of the program's handlers */
    uint32_t survived; /* the guarded access */
} *seen;

/* A page whose file is gone. */
static volatile uint8_t *lost_page(void)
{
    int fd = memfd_create("guard", MFD_CLOEXEC);
    uint8_t *page;

    if (fd < 0 || ftruncate(fd, PAGE) != 0)
        _exit(1);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || ftruncate(fd, 0) != 0)
        _exit(1);
    close(fd);
    return page;
}

/* The body runs in a child, whose end is returned. */
static int end_of(void (*body)(void))
{
    int status;
    pid_t pid;

    seen->calls = seen->survived = 0;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        signal(SIGBUS, SIG_DFL); /* the test's framework has one */
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* -------------------------------------------------------------------------- a program that installs handlers of its own */

static struct sigaction below[DISPLACEMENTS];
static int level; /* how many the program has installed, and below which one the next call is */

static void chain(int number, siginfo_t *info, void *context)
{
    const struct sigaction *next;

    noria_add_relaxed32(&seen->calls, 1);
    if (seen->calls > 1000)
        _exit(2); /* it goes round and round */
    next = &below[--level];
    if ((next->sa_flags & SA_SIGINFO) != 0)
        next->sa_sigaction(number, info, context);
    else if (next->sa_handler == SIG_DFL)
        signal(SIGBUS, SIG_DFL);
    level++;
}

static void install_one(void)
{
    struct sigaction action = {.sa_sigaction = chain, .sa_flags = SA_SIGINFO};

    if (sigaction(SIGBUS, &action, &below[level]) != 0)
        _exit(1);
    level++;
}

static void touch_guarded(void)
{
    struct noria_guard guard;
    volatile uint8_t *page = lost_page();

    if (noria_guard_add(&guard, (void *)(uintptr_t)page, PAGE) != 0)
        _exit(1);
    page[10] = 7;
    if (page[10] == 7 && page[11] == 0 && noria_load_acquire32(&guard.lost) == 1)
        seen->survived++;
    noria_guard_remove(&guard);
}

static void displace(int times)
{
    static uint8_t innocent[PAGE];

    for (int i = 0; i < times; i++) {
        struct noria_guard guard;
        if (noria_guard_add(&guard, innocent, PAGE) != 0)
            _exit(1);
        install_one();
        noria_guard_remove(&guard);
    }
}

static void touch_beside(void)
{
    static uint8_t innocent[PAGE];
    struct noria_guard guard;

    if (noria_guard_add(&guard, innocent, PAGE) != 0)
        _exit(1);
    *lost_page() = 1;
    _exit(3);
}

static void only_a_guard(void)
{
    touch_guarded();
    touch_beside();
}

static void loss_is_told_and_other_signals_end_the_process(void **state)
{
    /* Claim: a guarded access goes on, on zeros; one beside it ends the process as without us. */
    int status = end_of(only_a_guard);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_int_equal(seen->survived, 1);
}

static void displaced_once(void)
{
    displace(1);
    touch_guarded();
    touch_beside();
}

static void displaced_often(void)
{
    displace(DISPLACEMENTS);
    touch_guarded();
    touch_beside();
}

static void handlers_of_the_program_come_between(void **state)
{
    /* Claim: a program's handler that was installed over a guard, and calls it for what it does not know, gets each
     * signal that is not the guards' once, also when that guard has gone and another one has come since; and so do
     * any number of them. */
    int status = end_of(displaced_once);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_int_equal(seen->survived, 1);
    assert_int_equal(seen->calls, 1);
    status = end_of(displaced_often);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_int_equal(seen->survived, 1);
    assert_true(seen->calls >= DISPLACEMENTS);
}

static void put_back(void)
{
    displace(1);
    if (sigaction(SIGBUS, &below[--level], NULL) != 0) /* the guard's, which has gone */
        _exit(1);
    touch_guarded();
    touch_beside();
}

static void handlers_may_be_put_back(void **state)
{
    /* Claim: a program that puts back what it found, a guard's, after that guard has gone, does no harm. */
    int status = end_of(put_back);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_int_equal(seen->survived, 1);
    assert_int_equal(seen->calls, 0);
}

/* ------------------------------------------------------------------------------------------------------ sent by somebody */

static void ignore(int number)
{
    (void)number;
    noria_add_relaxed32(&seen->calls, 1);
}

static void raise_under(void (*handler)(int))
{
    static uint8_t innocent[PAGE];
    struct noria_guard guard;

    signal(SIGBUS, handler);
    if (noria_guard_add(&guard, innocent, PAGE) != 0)
        _exit(1);
    raise(SIGBUS);
    seen->survived++;
}

static void raise_ignored(void)
{
    raise_under(SIG_IGN);
}

static void raise_handled(void)
{
    raise_under(ignore);
}

static void raise_default(void)
{
    raise_under(SIG_DFL);
}

static void fault_ignored(void)
{
    signal(SIGBUS, SIG_IGN);
    touch_beside();
}

static void sent_signals_are_the_programs(void **state)
{
    /* Claim: a SIGBUS that somebody sends does what it would do without us; a fault cannot be ignored. */
    int status;

    (void)state;
    assert_int_equal(end_of(raise_ignored), 0);
    assert_int_equal(seen->survived, 1);
    assert_int_equal(end_of(raise_handled), 0);
    assert_int_equal(seen->calls, 1);
    status = end_of(raise_default);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    status = end_of(fault_ignored);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_told_and_other_signals_end_the_process),
        cmocka_unit_test(handlers_of_the_program_come_between),
        cmocka_unit_test(handlers_may_be_put_back),
        cmocka_unit_test(sent_signals_are_the_programs),
    };

    seen = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return seen == MAP_FAILED ? 1 : cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
