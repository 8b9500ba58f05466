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
#include <string.h>

#include "barrier.h"
#include "role.h"

enum { OWNER = 3 /* a name */, ROUNDS = 150000, CALLS = 20, BALLAST = 40 };

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
            noria_add_relaxed32(&shared.entered[me], call_once(OWNER + me) ? 1 : 0);
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
    shared.role.owner = NORIA_LANE_FREE;
    assert_true(noria_barrier_register());
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_part, (void *)i), 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        noria_store_release32(&shared.round, round);
        while (noria_load_relaxed32(&shared.ready) != 2)
            sched_yield();
        shared.role = (struct noria_role){NORIA_LANE_FREE, 0, 0};
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
    struct noria_role role = {NORIA_LANE_FREE, 0, 0};

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

/* Goes by the lane until it is closed, and looks each time whether it is taken to have gone. */
static void *use_the_lane(void *unused)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        while (noria_load_acquire32(&shared.round) < round)
            noria_pause();
        for (bool open = true; open;) {
            load_ballast(round);
            open = noria_load_relaxed64(&shared.role.owner) == OWNER && noria_role_enter_lane(&shared.role, OWNER);
            if (open) {
                noria_add_relaxed32(&shared.entered[0], 1);
                noria_add_relaxed32(&shared.met, noria_load_relaxed32(&shared.inside));
                noria_role_leave(&shared.role.in_lane);
            }
        }
        noria_store_release32(&shared.ready, 1);
    }
    return unused;
}

static void nobody_is_in_a_closed_lane(void **state)
{
    /* Claim: once the lane is closed, the barrier passed and in_lane seen to be 0, its owner is not inside, and does not come
     * back. */
    pthread_t owner;

    (void)state;
    memset(&shared, 0, sizeof(shared));
    assert_true(noria_barrier_register());
    assert_int_equal(pthread_create(&owner, NULL, use_the_lane, NULL), 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        uint32_t entered = noria_load_relaxed32(&shared.entered[0]);
        shared.role = (struct noria_role){OWNER, 0, 0};
        noria_store_relaxed32(&shared.inside, 0);
        noria_store_relaxed32(&shared.ready, 0);
        noria_store_release32(&shared.round, round);
        while (noria_load_relaxed32(&shared.entered[0]) == entered)
            sched_yield();
        for (uint32_t pause = round % 97; pause > 0; pause--)
            noria_fence_compiler();
        load_ballast(round);
        noria_role_close_lane(&shared.role);
        noria_barrier_heavy();
        while (noria_role_lane_is_used(&shared.role))
            noria_pause();
        noria_store_release32(&shared.inside, 1);
        while (noria_load_acquire32(&shared.ready) == 0)
            sched_yield();
    }
    assert_int_equal(pthread_join(owner, NULL), 0);
    assert_int_equal(shared.met, 0);
    assert_true(shared.entered[0] >= ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_lane_is_known),
        cmocka_unit_test(nobody_meets_anybody),
        cmocka_unit_test(nobody_is_in_a_closed_lane),
    };

    return cmocka_run_group_tests_name("role", tests, NULL, NULL);
}
