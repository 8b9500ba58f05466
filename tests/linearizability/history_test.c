/* SPDX-License-Identifier: BSD-2-Clause */
/* The judge of histories is right: it rejects each kind of bad history and agrees with a search over all
 * orders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "history.h"

enum { MOST_CALLS = 7 };

#define SEND(value, start, end)         \
    {                                   \
        start, end, value, HISTORY_SEND \
    }
#define RECV(value, start, end)         \
    {                                   \
        start, end, value, HISTORY_RECV \
    }
#define EMPTY(start, end)            \
    {                                \
        start, end, 0, HISTORY_EMPTY \
    }
#define FULL(start, end)            \
    {                               \
        start, end, 0, HISTORY_FULL \
    }
#define VERDICT(capacity, expected, ...)                                                             \
    do {                                                                                             \
        const struct history_event history[] = {__VA_ARGS__};                                        \
        struct history_verdict verdict =                                                             \
            history_check(history, sizeof(history) / sizeof(history[0]), capacity);                  \
        if (verdict.fault != (expected))                                                             \
            fail_msg("%s, not %s", history_fault_name(verdict.fault), history_fault_name(expected)); \
    } while (0)

static void good_histories_are_accepted(void **state)
{
    /* Claim: in order, overlapping, empty at one instant and full at one instant are all good. */
    (void)state;
    VERDICT(1, HISTORY_GOOD, EMPTY(1, 2));
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 2), SEND(8, 3, 4), RECV(7, 5, 6), RECV(8, 7, 8), EMPTY(9, 9));
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 4), SEND(8, 2, 3), RECV(8, 5, 6), RECV(7, 7, 8)); /* sends overlap */
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 2), SEND(8, 3, 4), RECV(8, 5, 8),
            RECV(7, 6, 7));                                 /* receives overlap */
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 9), RECV(7, 2, 3)); /* received while the send goes on */
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 2), EMPTY(3, 9), RECV(7, 4, 5), SEND(8, 6, 7), RECV(8, 10, 11));
    VERDICT(1, HISTORY_GOOD, SEND(7, 1, 2), FULL(3, 4), RECV(7, 5, 6));
    VERDICT(1, HISTORY_GOOD, FULL(3, 4), SEND(7, 4, 9), RECV(7, 8, 9));
    VERDICT(2, HISTORY_GOOD, SEND(7, 1, 2), SEND(8, 5, 9), FULL(4, 5), RECV(7, 3, 5), RECV(8, 8, 9));
}

static void bad_recordings_are_rejected(void **state)
{
    /* Claim: a call that ends before it begins and a value sent twice are the recorder's fault, and said so.
     */
    (void)state;
    VERDICT(0, HISTORY_ENDS_BEFORE_START, SEND(7, 2, 1));
    VERDICT(0, HISTORY_SENT_TWICE, SEND(7, 1, 2), SEND(7, 3, 4), RECV(7, 5, 6));
}

static void invented_values_are_rejected(void **state)
{
    /* Claim: a value nobody sent, or received before its send began, is rejected. */
    (void)state;
    VERDICT(0, HISTORY_NEVER_SENT, SEND(7, 1, 2), RECV(7, 3, 4), RECV(8, 5, 6));
    VERDICT(0, HISTORY_NEVER_SENT, RECV(7, 1, 2));
    VERDICT(0, HISTORY_NEVER_SENT, RECV(7, 1, 2), SEND(7, 3, 4));
}

static void doubled_and_lost_values_are_rejected(void **state)
{
    /* Claim: a value received twice, by whomever, and a value that never came out are rejected. */
    (void)state;
    VERDICT(0, HISTORY_RECEIVED_TWICE, SEND(7, 1, 2), RECV(7, 3, 4), RECV(7, 3, 4));
    VERDICT(0, HISTORY_RECEIVED_TWICE, SEND(7, 1, 9), RECV(7, 2, 4), SEND(8, 1, 9), RECV(8, 5, 6),
            RECV(7, 7, 8));
    VERDICT(0, HISTORY_LOST, SEND(7, 1, 2), SEND(8, 1, 2), RECV(8, 3, 4));
}

static void overtaking_is_rejected(void **state)
{
    /* Claim: a value sent after another had been sent must not be received before the other's receive begins.
     */
    (void)state;
    VERDICT(0, HISTORY_OVERTAKEN, SEND(7, 1, 2), SEND(8, 3, 4), RECV(8, 5, 6), RECV(7, 7, 8));
    VERDICT(0, HISTORY_OVERTAKEN, SEND(7, 1, 2), SEND(8, 3, 4),
            RECV(8, 5, 6)); /* the other one never comes */
    VERDICT(0, HISTORY_OVERTAKEN, SEND(9, 1, 20), SEND(7, 1, 2), SEND(8, 3, 9), RECV(8, 5, 6), RECV(9, 5, 30),
            RECV(7, 7, 8)); /* among others */
}

static void false_empty_is_rejected(void **state)
{
    /* Claim: "empty" is rejected if one value, or several in a chain, were there at all of its instants. */
    (void)state;
    VERDICT(0, HISTORY_FALSE_EMPTY, SEND(7, 1, 2), EMPTY(3, 4), RECV(7, 5, 6));
    VERDICT(0, HISTORY_FALSE_EMPTY, SEND(7, 1, 2), SEND(8, 3, 4), RECV(7, 5, 6), EMPTY(3, 8), RECV(8, 9, 10));
    VERDICT(0, HISTORY_GOOD, SEND(7, 1, 2), SEND(8, 3, 5), RECV(7, 5, 6), EMPTY(3, 8),
            RECV(8, 9, 10));                                             /* a gap */
    VERDICT(0, HISTORY_GOOD, SEND(7, 1, 3), EMPTY(3, 4), RECV(7, 5, 6)); /* at 3 */
}

static void false_full_is_rejected(void **state)
{
    /* Claim: "full" is rejected if at no instant of it so many values can have been there. */
    (void)state;
    VERDICT(1, HISTORY_FALSE_FULL, FULL(1, 2));
    VERDICT(2, HISTORY_FALSE_FULL, SEND(7, 1, 2), FULL(3, 4), RECV(7, 5, 6), SEND(8, 5, 6), RECV(8, 7, 9));
    VERDICT(1, HISTORY_FALSE_FULL, SEND(7, 1, 2), RECV(7, 3, 4), FULL(5, 6), SEND(8, 7, 8), RECV(8, 9, 9));
    VERDICT(0, HISTORY_GOOD, FULL(1, 2));
}

/* ------------------------------------------------------------------------------ against a search over all
 * orders */

struct search {
    const struct history_event *calls;
    int n;
    uint64_t capacity; /* 0: "full" is never asked for */
    uint64_t levels;   /* value % levels goes before what is lower */
    bool overwrites;   /* a full queue drops what would come next, within a send that goes in later */
    uint64_t lost;     /* so many are still to be dropped */
    uint64_t queue[MOST_CALLS];
    int length;
    bool done[MOST_CALLS];
};

/* Where what comes out next stands: the first of the highest level. */
static int next_out(const struct search *search)
{
    int next = 0;

    for (int i = 1; i < search->length; i++)
        if (search->queue[i] % search->levels > search->queue[next] % search->levels)
            next = i;
    return next;
}

static void take_out(struct search *search)
{
    int from = next_out(search);

    search->length--;
    for (int i = from; i < search->length; i++)
        search->queue[i] = search->queue[i + 1];
}

static bool can_take_effect(const struct search *search, int call)
{
    const struct history_event *event = &search->calls[call];

    switch (event->kind) {
    case HISTORY_SEND:
        return true; /* `capacity` is a lower bound: a ring may take more while senders race */
    case HISTORY_RECV:
        return search->length > 0 && search->queue[next_out(search)] == event->value;
    case HISTORY_EMPTY:
        return search->length == 0;
    default:
        return (uint64_t)search->length >= search->capacity;
    }
}

static bool may_drop(const struct search *search, int call)
{
    return search->overwrites && search->lost > 0 && search->calls[call].kind == HISTORY_SEND &&
           (uint64_t)search->length >= search->capacity;
}

static bool has_an_order(const struct search *search, int left);

static bool goes_on_with_a_drop(const struct search *search, int left)
{
    struct search next = *search;

    take_out(&next);
    next.lost--;
    return has_an_order(&next, left);
}

static bool goes_on_with(const struct search *search, int call, int left)
{
    struct search next = *search;

    next.done[call] = true;
    if (search->calls[call].kind == HISTORY_SEND)
        next.queue[next.length++] = search->calls[call].value;
    if (search->calls[call].kind == HISTORY_RECV)
        take_out(&next);
    return has_an_order(&next, left - 1);
}

/* Tries every order that respects real time. Exponential, and obviously right. */
static bool has_an_order(const struct search *search, int left)
{
    if (left == 0)
        return search->length == 0 && search->lost == 0; /* nothing lost that is not counted */
    for (int i = 0; i < search->n; i++) {
        bool first = !search->done[i];
        for (int j = 0; j < search->n && first; j++)
            first = search->done[j] || j == i || search->calls[j].end >= search->calls[i].start;
        if (first && may_drop(search, i) && goes_on_with_a_drop(search, left))
            return true;
        if (first && can_take_effect(search, i) && goes_on_with(search, i, left))
            return true;
    }
    return false;
}

static uint64_t random_number(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state >> 11) % below;
}

/* One value in `unreceived` does not come out. */
static int make_calls(struct history_event *calls, uint64_t *random, bool with_full, uint64_t unreceived)
{
    int n = 0, values = 1 + (int)random_number(random, 3), others = MOST_CALLS - 2 * values;

    for (int i = 0; i < values; i++) {
        calls[n++] = (struct history_event){.value = (uint64_t)i, .kind = HISTORY_SEND};
        if (random_number(random, unreceived) != 0)
            calls[n++] = (struct history_event){.value = (uint64_t)i, .kind = HISTORY_RECV};
    }
    for (int i = (int)random_number(random, (uint64_t)others + 1); i > 0; i--)
        calls[n++].kind = with_full && random_number(random, 2) == 0 ? HISTORY_FULL : HISTORY_EMPTY;
    for (int i = 0; i < n; i++) {
        calls[i].start = 1 + random_number(random, 20);
        calls[i].end = calls[i].start + random_number(random, 8);
    }
    return n;
}

static void judge_agrees_with_the_search(void **state)
{
    /* Claim: on random histories of up to 7 calls the verdict is "good" exactly if some order explains them.
     */
    uint64_t random = 88172645463325252u;
    int good = 0, bad = 0;

    (void)state;
    for (int i = 0; i < 60000; i++) {
        struct history_event calls[MOST_CALLS] = {{0}};
        struct search search = {.calls = calls, .n = make_calls(calls, &random, false, 16), .levels = 1};
        bool explained = has_an_order(&search, search.n);
        enum history_fault fault = history_check(calls, (size_t)search.n, 0).fault;
        assert_int_equal(explained, fault == HISTORY_GOOD);
        good += explained;
        bad += !explained;
    }
    assert_true(good > 1000 && bad > 1000);
}

static void full_is_never_rejected_wrongly(void **state)
{
    /* Claim: what some order explains is accepted with "full" among the calls too, and some of the rest is
     * rejected. */
    uint64_t random = 88172645463325252u;
    int good = 0, rejected = 0;

    (void)state;
    for (int i = 0; i < 60000; i++) {
        struct history_event calls[MOST_CALLS] = {{0}};
        uint64_t capacity = 1 + random_number(&random, 2);
        struct search search = {
            .calls = calls, .n = make_calls(calls, &random, true, 16), .capacity = capacity, .levels = 1};
        enum history_fault fault = history_check(calls, (size_t)search.n, capacity).fault;
        bool explained = has_an_order(&search, search.n);
        assert_true(!explained || fault == HISTORY_GOOD);
        good += explained;
        rejected += fault == HISTORY_FALSE_FULL;
    }
    assert_true(good > 1000 && rejected > 1000);
}

static void histories_of_overwriting_are_judged(void **state)
{
    /* Claim: losses that are counted and were the oldest are good; one too many, one too few, one before
     * an older one that came out after all sends are not; the rest is judged as a queue. */
    static const struct history_event two_lost[] = {SEND(1, 1, 2), SEND(2, 3, 4), SEND(3, 5, 6),
                                                    RECV(3, 7, 8)};
    static const struct history_event wrong_one_lost[] = {SEND(1, 1, 2), SEND(2, 3, 4), RECV(1, 7, 8)};
    static const struct history_event late[] = {SEND(1, 1, 2), SEND(2, 3, 4), RECV(1, 4, 8)};
    static const struct history_event overtaken[] = {SEND(1, 1, 2), SEND(2, 3, 4), SEND(3, 5, 6),
                                                     RECV(3, 7, 8), RECV(2, 9, 10)};

    (void)state;
    assert_int_equal(history_check_overwriting(two_lost, 4, 2, 0).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(two_lost, 4, 1, 0).fault, HISTORY_LOST_UNCOUNTED);
    assert_int_equal(history_check_overwriting(two_lost, 4, 3, 0).fault, HISTORY_LOST_UNCOUNTED);
    assert_int_equal(history_check_overwriting(wrong_one_lost, 3, 1, 0).fault, HISTORY_LOST_TOO_EARLY);
    assert_int_equal(history_check_overwriting(late, 3, 1, 0).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(overtaken, 5, 1, 0).fault, HISTORY_OVERTAKEN);
}

static void losses_need_a_full_queue(void **state)
{
    /* Claim: with a capacity of 2 a loss is good if two values were there when it can have gone: not before what is older
     * came out, not after what is younger did, nor after the last send. */
    static const struct history_event needed[] = {SEND(1, 1, 2), SEND(2, 3, 4), SEND(3, 5, 6), RECV(2, 7, 8), RECV(3, 9, 10)};
    static const struct history_event alone[] = {SEND(1, 1, 2), SEND(2, 3, 4), RECV(2, 5, 6)};
    static const struct history_event overlapping[] = {SEND(1, 1, 3), SEND(2, 3, 4), RECV(2, 5, 6)};
    static const struct history_event room_by_then[] = {SEND(1, 1, 2), SEND(2, 3, 4), SEND(3, 5, 20), RECV(1, 6, 7),
                                                        RECV(3, 21, 22)};
    static const struct history_event just_before[] = {SEND(1, 1, 2), SEND(2, 3, 4), SEND(3, 5, 20), RECV(1, 4, 7),
                                                       SEND(4, 6, 8),  RECV(3, 21, 22), RECV(4, 23, 24)};
    static const struct history_event younger_first[] = {SEND(1, 1, 2), SEND(2, 3, 4), RECV(2, 5, 6),
                                                         SEND(3, 7, 8), SEND(4, 9, 10), RECV(3, 11, 12), RECV(4, 13, 14)};

    (void)state;
    assert_int_equal(history_check_overwriting(needed, 5, 1, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(needed, 5, 1, 3).fault, HISTORY_GOOD); /* the third may be in by then */
    assert_int_equal(history_check_overwriting(needed, 5, 1, 4).fault, HISTORY_LOST_WITHOUT_NEED);
    assert_int_equal(history_check_overwriting(alone, 3, 1, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(alone, 3, 1, 3).fault, HISTORY_LOST_WITHOUT_NEED);
    assert_int_equal(history_check_overwriting(overlapping, 3, 1, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(room_by_then, 5, 1, 3).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(room_by_then, 5, 1, 4).fault, HISTORY_LOST_WITHOUT_NEED);
    assert_int_equal(history_check_overwriting(just_before, 7, 1, 4).fault, HISTORY_GOOD);
    assert_int_equal(history_check_overwriting(younger_first, 7, 1, 3).fault, HISTORY_LOST_WITHOUT_NEED);
}

static uint64_t count_unreceived(const struct history_event *calls, int n)
{
    uint64_t unreceived = 0;

    for (int i = 0; i < n; i++)
        unreceived += (uint64_t)(calls[i].kind == HISTORY_SEND) - (calls[i].kind == HISTORY_RECV);
    return unreceived;
}

static void overwriting_is_never_rejected_wrongly(void **state)
{
    /* Claim: what some order explains, in which a full queue drops its oldest value within a send, is accepted, and
     * some of the rest is rejected; now and then one loss more is counted than there is. */
    uint64_t random = 88172645463325252u;
    int good = 0, rejected = 0;

    (void)state;
    for (int i = 0; i < 60000; i++) {
        struct history_event calls[MOST_CALLS] = {{0}};
        struct search search = {.calls = calls, .n = make_calls(calls, &random, false, 3), .levels = 1, .overwrites = true};
        enum history_fault fault;
        bool explained;
        search.capacity = 1 + random_number(&random, 2);
        search.lost = count_unreceived(calls, search.n) + (random_number(&random, 16) == 0);
        explained = has_an_order(&search, search.n);
        fault = history_check_overwriting(calls, (size_t)search.n, search.lost, search.capacity).fault;
        assert_true(!explained || fault == HISTORY_GOOD);
        good += explained;
        rejected += fault != HISTORY_GOOD;
    }
    assert_true(good > 1000 && rejected > 1000);
}

static void levels_are_never_rejected_wrongly(void **state)
{
    /* Claim: what some order explains, in which the highest level comes first, is accepted, and some of the rest is
     * rejected. */
    uint64_t random = 88172645463325252u;
    int good = 0, rejected = 0;

    (void)state;
    for (int i = 0; i < 60000; i++) {
        struct history_event calls[MOST_CALLS] = {{0}};
        struct search search = {.calls = calls, .n = make_calls(calls, &random, false, 16), .levels = 2};
        enum history_fault fault = history_check_levels(calls, (size_t)search.n, 2).fault;
        bool explained = has_an_order(&search, search.n);
        assert_true(!explained || fault == HISTORY_GOOD);
        good += explained;
        rejected += fault != HISTORY_GOOD;
    }
    assert_true(good > 1000 && rejected > 1000);
}

static void levels_may_be_looked_at_in_turn(void **state)
{
    /* Claim: one history that no order explains is accepted on purpose. A receive goes on while a value is sent at the
     * higher level and then one at the lower, and gives the lower. It looks at one level after the other, and had looked at
     * the higher one before. Promised is an order for receives that start when the send has returned; that is rejected. */
    static const struct history_event in_turn[] = {RECV(2, 1, 8), SEND(1, 2, 3), SEND(2, 4, 5), RECV(1, 9, 10)};
    static const struct history_event after[] = {SEND(1, 2, 3), RECV(2, 4, 8), SEND(2, 4, 5), RECV(1, 9, 10)};
    const struct search search = {.calls = in_turn, .n = 4, .levels = 2};

    (void)state;
    assert_false(has_an_order(&search, search.n));
    assert_int_equal(history_check_levels(in_turn, 4, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_levels(after, 4, 2).fault, HISTORY_LOWER_FIRST);
}

static void histories_of_levels_are_judged(void **state)
{
    /* Claim: with two levels (odd values are higher) the higher one first is good; a lower one while a
     * higher one is there for certain is not; where calls overlap both are; within a level it is a queue.
     * "Empty" speaks of all levels at once. */
    static const struct history_event good[] = {SEND(2, 1, 2), SEND(1, 3, 4), RECV(1, 5, 6), RECV(2, 7, 8)};
    static const struct history_event lower[] = {SEND(2, 1, 2), SEND(1, 3, 4), RECV(2, 5, 6), RECV(1, 7, 8)};
    static const struct history_event overlapping[] = {SEND(2, 1, 2), SEND(1, 3, 5), RECV(2, 5, 6),
                                                       RECV(1, 7, 8)};
    static const struct history_event overtaken[] = {SEND(2, 1, 2), SEND(4, 3, 4), RECV(4, 5, 6),
                                                     RECV(2, 7, 8)};
    static const struct history_event not_empty[] = {SEND(2, 1, 2), EMPTY(3, 4), RECV(2, 5, 6)};
    static const struct history_event in_turn[] = {SEND(2, 1, 2), SEND(1, 5, 6), RECV(2, 7, 12),
                                                   RECV(1, 10, 11), EMPTY(3, 9)};
    static const struct history_event empty_between[] = {SEND(2, 1, 2), RECV(2, 4, 5), SEND(1, 6, 7),
                                                         RECV(1, 10, 11), EMPTY(3, 9)};

    (void)state;
    assert_int_equal(history_check_levels(good, 4, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_levels(lower, 4, 2).fault, HISTORY_LOWER_FIRST);
    assert_int_equal(history_check_levels(overlapping, 4, 2).fault, HISTORY_GOOD);
    assert_int_equal(history_check_levels(overtaken, 4, 2).fault, HISTORY_OVERTAKEN);
    assert_int_equal(history_check_levels(not_empty, 3, 2).fault, HISTORY_FALSE_EMPTY);
    assert_int_equal(history_check_levels(in_turn, 5, 2).fault, HISTORY_FALSE_EMPTY);
    assert_int_equal(history_check_levels(empty_between, 5, 2).fault, HISTORY_GOOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_histories_are_accepted),
        cmocka_unit_test(bad_recordings_are_rejected),
        cmocka_unit_test(invented_values_are_rejected),
        cmocka_unit_test(doubled_and_lost_values_are_rejected),
        cmocka_unit_test(overtaking_is_rejected),
        cmocka_unit_test(false_empty_is_rejected),
        cmocka_unit_test(false_full_is_rejected),
        cmocka_unit_test(judge_agrees_with_the_search),
        cmocka_unit_test(full_is_never_rejected_wrongly),
        cmocka_unit_test(histories_of_overwriting_are_judged),
        cmocka_unit_test(losses_need_a_full_queue),
        cmocka_unit_test(overwriting_is_never_rejected_wrongly),
        cmocka_unit_test(histories_of_levels_are_judged),
        cmocka_unit_test(levels_are_never_rejected_wrongly),
        cmocka_unit_test(levels_may_be_looked_at_in_turn),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
