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
    uint64_t queue[MOST_CALLS];
    int length;
    bool done[MOST_CALLS];
};

static bool can_take_effect(const struct search *search, int call)
{
    const struct history_event *event = &search->calls[call];

    switch (event->kind) {
    case HISTORY_SEND:
        return true; /* `capacity` is a lower bound: a ring may take more while senders race */
    case HISTORY_RECV:
        return search->length > 0 && search->queue[0] == event->value;
    case HISTORY_EMPTY:
        return search->length == 0;
    default:
        return (uint64_t)search->length >= search->capacity;
    }
}

/* Tries every order that respects real time. Exponential, and obviously right. */
static bool has_an_order(const struct search *search, int left)
{
    if (left == 0)
        return search->length == 0; /* nothing lost */
    for (int i = 0; i < search->n; i++) {
        struct search next = *search;
        bool first = !search->done[i];
        for (int j = 0; j < search->n && first; j++)
            first = search->done[j] || j == i || search->calls[j].end >= search->calls[i].start;
        if (!first || !can_take_effect(search, i))
            continue;
        next.done[i] = true;
        if (search->calls[i].kind == HISTORY_SEND)
            next.queue[next.length++] = search->calls[i].value;
        if (search->calls[i].kind == HISTORY_RECV) {
            next.length--;
            for (int j = 0; j < next.length; j++)
                next.queue[j] = search->queue[j + 1];
        }
        if (has_an_order(&next, left - 1))
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

static int make_calls(struct history_event *calls, uint64_t *random, bool with_full)
{
    int n = 0, values = 1 + (int)random_number(random, 3), others = MOST_CALLS - 2 * values;

    for (int i = 0; i < values; i++) {
        calls[n++] = (struct history_event){.value = (uint64_t)i, .kind = HISTORY_SEND};
        if (random_number(random, 16) != 0)
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
        struct search search = {.calls = calls, .n = make_calls(calls, &random, false)};
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
        struct search search = {.calls = calls, .n = make_calls(calls, &random, true), .capacity = capacity};
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
        cmocka_unit_test(histories_of_levels_are_judged),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
