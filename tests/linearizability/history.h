/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Judges a recorded history of a queue: who called what, from when to when, with which value and answer.
 *
 * For a FIFO queue with unique values a history is linearizable exactly if it shows none of four things
 * (Henzinger, Sezgin, Vafeiadis: Aspect-Oriented Linearizability Proofs, CONCUR 2013): a value out of
 * nowhere, a value twice, a value overtaken by one that was sent after it, and an "empty" although at each
 * instant of that call some value was there for certain. That is decided by sorting, where a search over all
 * orders is not feasible. A value that never came out, and a "full" that no instant can explain, are faults
 * here as well.
 *
 * Times are any clock that all participants share. A call lasts from `start` to `end`, both included.
 */
#ifndef NORIA_TESTS_HISTORY_H
#define NORIA_TESTS_HISTORY_H

#include <stddef.h>
#include <stdint.h>

enum history_kind { HISTORY_SEND, HISTORY_RECV, HISTORY_EMPTY, HISTORY_FULL };

struct history_event {
    uint64_t start, end;
    uint64_t value; /* SEND, RECV */
    enum history_kind kind;
};

enum history_fault {
    HISTORY_GOOD,
    HISTORY_ENDS_BEFORE_START, /* the recording itself is wrong, like a value sent twice */
    HISTORY_SENT_TWICE,
    HISTORY_NEVER_SENT, /* or received before it was sent */
    HISTORY_RECEIVED_TWICE,
    HISTORY_LOST,
    HISTORY_OVERTAKEN,
    HISTORY_FALSE_EMPTY,
    HISTORY_FALSE_FULL,
    HISTORY_LOST_UNCOUNTED, /* or counted and not lost */
    HISTORY_LOST_TOO_EARLY, /* before an older one */
    HISTORY_LOST_WITHOUT_NEED, /* at no instant it can have gone were there so many */
    HISTORY_LOWER_FIRST,
    HISTORY_NO_MEMORY,
};

struct history_verdict {
    enum history_fault fault;
    struct history_event witness; /* a call that shows it */
    struct history_event other;   /* OVERTAKEN: the one that came too early */
};

/* `capacity`: a "full" needs an instant at which so many values may have been there; 0: "full" is not judged.
 */
struct history_verdict history_check(const struct history_event *events, size_t n, uint64_t capacity);

/* The same for a queue that drops its oldest value when it is full and says how many it dropped. A drop
 * takes place within some send; so a value that has not come out when the last send ends, although an
 * older one is still to come, was not dropped as the oldest. It goes after all that were sent before it, before all that
 * were sent after it, and then so many as `capacity` may have been there, or it went without need. */
struct history_verdict history_check_overwriting(const struct history_event *events, size_t n, uint64_t lost,
                                                 uint64_t capacity);

/* The same for a queue with levels, where value % levels is the level: each level is a queue; and no
 * receive gives a value while one of a higher level is there that was sent before the receive began and
 * taken after it ended. */
struct history_verdict history_check_levels(const struct history_event *events, size_t n, uint64_t levels);

const char *history_fault_name(enum history_fault fault);

#endif
