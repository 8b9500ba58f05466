/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: each message that was lost is told of once, by one receiver, also if another one tells at the
 * same time. */
#include <watched_test.h>

#include "stat.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PARTICIPANTS = 2 };

static struct noria_header header;
static struct noria_entry table[PARTICIPANTS];
static struct noria_segment_channel receiver;

static int begin(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof(watch));
    memset(&header, 0, sizeof(header));
    memset(table, 0, sizeof(table));
    memset(&receiver, 0, sizeof(receiver));
    receiver.shared = &header;
    receiver.table = table;
    receiver.geometry.max_participants = PARTICIPANTS;
    return 0;
}

/* What the next message tells. */
static uint64_t tell(void)
{
    struct noria_info info;

    noria_fill_info(&receiver, &info, 8, 1, 0, false);
    assert_int_equal((info.flags & NORIA_LOST) != 0, info.lost != 0);
    return info.lost;
}

static void losses_are_told_once(void **state)
{
    /* Claim: what was counted in common and by those who made room is told together, and then no more. */
    (void)state;
    assert_int_equal(tell(), 0);
    noria_segment_count_lost(&receiver.base, 3);
    table[0].dropped = 2 << 1;
    table[1].dropped = 1 << 1 | 1; /* it is just dropping another one */
    noria_losses_changed(&receiver);
    assert_int_equal(tell(), 6);
    assert_int_equal(tell(), 0);
}

/* -------------------------------------------------------------------------------- while another one tells */

static int looks; /* at what was told */
static uint64_t told_by_the_other, most_at_once;

/* Another receiver, who has counted one message, is a step ahead of us each time. */
static void overtake(const void *word)
{
    if (word != &header.lost_told || looks++ == 0 || told_by_the_other == most_at_once)
        return;
    header.lost_told++;
    told_by_the_other++;
}

static void the_rest_is_told_when_another_was_faster(void **state)
{
    /* Claim: who loses against a receiver that had counted fewer tells what that one did not; in this
     * call, or, if he loses again and again, in the next. */
    static const uint64_t contention[] = {1, 2, 63, 64, 70};

    for (size_t i = 0; i < sizeof(contention) / sizeof(contention[0]); i++) {
        uint64_t told;
        begin(state);
        noria_segment_count_lost(&receiver.base, 100);
        looks = 0;
        told_by_the_other = 0;
        most_at_once = contention[i];
        watch.before = overtake;
        told = tell();
        assert_true(contention[i] >= 64 || told != 0);
        watch.before = NULL;
        told += tell();
        assert_int_equal(told + told_by_the_other, 100);
        assert_int_equal(tell(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(losses_are_told_once, begin),
        cmocka_unit_test_setup(the_rest_is_told_when_another_was_faster, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
