/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: at no moment are two callers inside a role, whichever threads come in whichever way, also while the first
 * thread's lane is being closed (without the barrier this fails on x86, too). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "barrier.h"
#include "role.h"

enum { ROUNDS = 150000, CALLS = 20, BALLAST = 40 };

static struct {
    struct noria_role role;
    uint32_t inside, ready;
    uint32_t entered[2], met; /* met: somebody was inside already */
    uint32_t round;
    struct {
        uint32_t word;
        uint8_t rest_of_line[60];
    } ballast[BALLAST];
} shared;

/* Stores to lines that the other processor has just written: until it has got them all, what is stored next waits. */
static void load_ballast(uint32_t value)
{
    for (int i = 0; i < BALLAST; i++)
        noria_store_relaxed32(&shared.ballast[i].word, value);
}

static bool call_once(uint64_t self)
{
    uint32_t *mark;

    load_ballast((uint32_t)self);
    mark = noria_role_enter(&shared.role, self);
    if (mark == NULL)
        return false;
    if (noria_add_relaxed32(&shared.inside, 1) != 0)
        noria_add_relaxed32(&shared.met, 1);
    noria_sub_release32(&shared.inside, 1);
    noria_role_leave(mark);
    return true;
}

/* One thread calls from the start of a round, the other comes in the middle. */
static void *take_part(void *number)
{
    uint32_t me = (uint32_t)(uintptr_t)number;

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        while (noria_load_acquire32(&shared.round) < round)
            noria_pause();
        for (uint32_t pause = me == 0 ? 0 : round % 97; pause > 0; pause--)
            noria_fence_compiler();
        for (int i = 0; i < CALLS; i++)
            noria_add_relaxed32(&shared.entered[me], call_once(me + 1) ? 1 : 0);
        noria_add_relaxed32(&shared.ready, 1);
        while (noria_load_acquire32(&shared.round) == round && noria_load_relaxed32(&shared.ready) != 0)
            sched_yield();
    }
    return NULL;
}

static void nobody_meets_anybody(void **state)
{
    pthread_t threads[2];

    (void)state;
    assert_true(noria_barrier_register());
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_part, (void *)i), 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        noria_store_release32(&shared.round, round);
        while (noria_load_relaxed32(&shared.ready) != 2)
            sched_yield();
        shared.role = (struct noria_role){0, 0, 0};
        noria_store_release32(&shared.ready, 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(shared.met, 0);
    assert_true(shared.entered[0] > ROUNDS && shared.entered[1] > ROUNDS);
}

static void own_lane_is_known(void **state)
{
    /* Claim: the first thread goes by the lane, is told so when it calls within its call, and others go by the flag. */
    struct noria_role role = {0, 0, 0};

    (void)state;
    assert_ptr_equal(noria_role_enter(&role, 7), &role.in_lane);
    assert_null(noria_role_enter(&role, 7));
    assert_null(noria_role_enter(&role, 8));
    noria_role_leave(&role.in_lane);
    assert_ptr_equal(noria_role_enter(&role, 8), &role.busy);
    assert_null(noria_role_enter(&role, 7));
    noria_role_leave(&role.busy);
    assert_ptr_equal(noria_role_enter(&role, 7), &role.busy);
    noria_role_leave(&role.busy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_lane_is_known),
        cmocka_unit_test(nobody_meets_anybody),
    };

    return cmocka_run_group_tests_name("role", tests, NULL, NULL);
}
