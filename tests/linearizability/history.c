/* SPDX-License-Identifier: BSD-2-Clause */
#include "history.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A value's life. It is in the queue for certain between, but not including, sent.end and received.start. */
struct message {
    struct history_event sent, received; /* never received: start and end UINT64_MAX */
};

/* A stretch of time in which the queue was never empty, ends not included. */
struct stretch {
    uint64_t from, to;
};

/* The number of values that may be in the queue changes at `when`. */
struct change {
    uint64_t when;
    int64_t by;
    int64_t most; /* from here to the next change */
};

struct history {
    const struct history_event *events;
    size_t n;
    struct history_event *sorted; /* sends and receives, by value, the send first */
    struct message *messages;
    size_t count;
    struct history_verdict verdict;
};

static const char *const fault_names[] = {
    "good",
    "a call ended before it began",
    "a value was sent twice",
    "a value was received that had not been sent",
    "a value was received twice",
    "a value was lost",
    "a value was overtaken by one sent after it",
    "empty, though a value was there at every instant of the call",
    "full, though at no instant so many values could be there",
    "as many are missing as are not counted as lost",
    "a value was lost before one that was sent before it",
    "a value was lost, though at no instant so many could be there that it had to go",
    "a value came while one of a higher level was there all the time",
    "no memory to judge",
};

const char *history_fault_name(enum history_fault fault)
{
    return fault_names[fault];
}

static bool blame(struct history *history, enum history_fault fault, const struct history_event *witness,
                  const struct history_event *other)
{
    history->verdict.fault = fault;
    if (witness != NULL)
        history->verdict.witness = *witness;
    if (other != NULL)
        history->verdict.other = *other;
    return false;
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_value(const void *a, const void *b)
{
    const struct history_event *x = a, *y = b;
    int by = compare(x->value, y->value);

    return by != 0 ? by : (int)x->kind - (int)y->kind;
}

static int by_send_start(const void *a, const void *b)
{
    return compare(((const struct message *)a)->sent.start, ((const struct message *)b)->sent.start);
}

static int by_send_end(const void *a, const void *b)
{
    return compare(((const struct message *)a)->sent.end, ((const struct message *)b)->sent.end);
}

static int by_when(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    int by = compare(x->when, y->when);

    return by != 0 ? by : (x->by < y->by) - (x->by > y->by); /* both ends belong to a call: first what adds */
}

/* Puts each send and its receive together. */
static bool match(struct history *history)
{
    size_t calls = 0;

    for (size_t i = 0; i < history->n; i++) {
        const struct history_event *event = &history->events[i];
        if (event->end < event->start)
            return blame(history, HISTORY_ENDS_BEFORE_START, event, NULL);
        if (event->kind == HISTORY_SEND || event->kind == HISTORY_RECV)
            history->sorted[calls++] = *event;
    }
    qsort(history->sorted, calls, sizeof(*history->sorted), by_value);
    for (size_t i = 0; i < calls; i++) {
        const struct history_event *event = &history->sorted[i];
        struct message *last = history->count == 0 ? NULL : &history->messages[history->count - 1];
        bool known = last != NULL && last->sent.value == event->value;
        if (event->kind == HISTORY_SEND) {
            if (known)
                return blame(history, HISTORY_SENT_TWICE, event, &last->sent);
            history->messages[history->count].received = (struct history_event){
                .start = UINT64_MAX, .end = UINT64_MAX, .value = event->value, .kind = HISTORY_RECV};
            history->messages[history->count++].sent = *event;
        } else {
            if (!known || event->end < last->sent.start)
                return blame(history, HISTORY_NEVER_SENT, event, known ? &last->sent : NULL);
            if (last->received.end != UINT64_MAX)
                return blame(history, HISTORY_RECEIVED_TWICE, event, &last->received);
            last->received = *event;
        }
    }
    return true;
}

/* b was sent after a was, and received before a: for each b it is enough to know the latest receive of all
 * such a. */
static bool check_order(struct history *history)
{
    size_t n = history->count, done = 0;
    struct message *by_end = malloc((n + 1) * sizeof(*by_end));
    const struct message *latest = NULL;
    bool good = true;

    if (by_end == NULL)
        return blame(history, HISTORY_NO_MEMORY, NULL, NULL);
    memcpy(by_end, history->messages, n * sizeof(*by_end));
    qsort(by_end, n, sizeof(*by_end), by_send_end);
    qsort(history->messages, n, sizeof(*history->messages), by_send_start);
    for (size_t i = 0; i < n && good; i++) {
        const struct message *b = &history->messages[i];
        for (; done < n && by_end[done].sent.end < b->sent.start; done++)
            if (latest == NULL || by_end[done].received.start > latest->received.start)
                latest = &by_end[done];
        if (latest != NULL && b->received.end < latest->received.start)
            good = blame(history, HISTORY_OVERTAKEN, &latest->sent, &b->received);
    }
    free(by_end);
    return good;
}

static bool check_loss(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        if (history->messages[i].received.end == UINT64_MAX)
            return blame(history, HISTORY_LOST, &history->messages[i].sent, NULL);
    return true;
}

/* Joins the certain stays of all values into stretches of "never empty", ascending. How many there are. */
static size_t join_stays(struct history *history, struct stretch *stretches)
{
    size_t n = 0;

    qsort(history->messages, history->count, sizeof(*history->messages), by_send_end);
    for (size_t i = 0; i < history->count; i++) {
        uint64_t from = history->messages[i].sent.end, to = history->messages[i].received.start;
        if (from >= to)
            continue;
        if (n != 0 && from < stretches[n - 1].to) {
            if (to > stretches[n - 1].to)
                stretches[n - 1].to = to;
        } else {
            stretches[n++] = (struct stretch){from, to};
        }
    }
    return n;
}

static bool check_empty(struct history *history)
{
    struct stretch *stretches = malloc((history->count + 1) * sizeof(*stretches));
    bool good = true;
    size_t n;

    if (stretches == NULL)
        return blame(history, HISTORY_NO_MEMORY, NULL, NULL);
    n = join_stays(history, stretches);
    for (size_t i = 0; i < history->n && good; i++) {
        const struct history_event *event = &history->events[i];
        size_t low = 0, high = n;
        if (event->kind != HISTORY_EMPTY)
            continue;
        while (low < high) { /* the first stretch that ends after the call does */
            size_t middle = (low + high) / 2;
            if (stretches[middle].to > event->end)
                high = middle;
            else
                low = middle + 1;
        }
        if (low < n && stretches[low].from < event->start)
            good = blame(history, HISTORY_FALSE_EMPTY, event, NULL);
    }
    free(stretches);
    return good;
}

/* The most values that may be there from one change to the next: sends count from their start, receives at
 * their end only. tree[] holds the largest of each subtree, its leaves stand from `leaves` on. */
static void build_tree(struct change *changes, size_t n, int64_t *tree, size_t leaves)
{
    int64_t now = 0;

    for (size_t i = 0; i < n; i++)
        changes[i].most = now += changes[i].by;
    for (size_t i = 0; i < leaves; i++)
        tree[leaves + i] = i < n ? changes[i].most : INT64_MIN;
    for (size_t i = leaves - 1; i > 0; i--)
        tree[i] = tree[2 * i] > tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
}

static int64_t largest_between(const int64_t *tree, size_t leaves, size_t from, size_t to)
{
    int64_t most = INT64_MIN;

    for (from += leaves, to += leaves + 1; from < to; from /= 2, to /= 2) {
        if (from % 2 == 1 && tree[from] > most)
            most = tree[from];
        from += from % 2;
        if (to % 2 == 1 && tree[to - 1] > most)
            most = tree[to - 1];
    }
    return most;
}

/* How many changes come before `when`; with `included`, or at it. */
static size_t changes_before(const struct change *changes, size_t n, uint64_t when, bool included)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (changes[middle].when < when || (included && changes[middle].when == when))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool judge_full(struct history *history, const struct change *changes, size_t n, const int64_t *tree,
                       size_t leaves, uint64_t capacity)
{
    for (size_t i = 0; i < history->n; i++) {
        const struct history_event *event = &history->events[i];
        size_t first, last;
        int64_t most;
        if (event->kind != HISTORY_FULL)
            continue;
        first = changes_before(changes, n, event->start, false); /* changes in the call: [first, last) */
        last = changes_before(changes, n, event->end, true);
        most = first == 0 ? 0 : changes[first - 1].most;
        if (first < last && largest_between(tree, leaves, first, last - 1) > most)
            most = largest_between(tree, leaves, first, last - 1);
        if (most < (int64_t)capacity)
            return blame(history, HISTORY_FALSE_FULL, event, NULL);
    }
    return true;
}

static bool check_full(struct history *history, uint64_t capacity)
{
    size_t n = 2 * history->count, leaves = 1;
    struct change *changes = malloc((n + 1) * sizeof(*changes));
    int64_t *tree;
    bool good;

    while (leaves < n)
        leaves *= 2;
    tree = malloc(2 * leaves * sizeof(*tree));
    if (changes == NULL || tree == NULL) {
        free(changes);
        free(tree);
        return blame(history, HISTORY_NO_MEMORY, NULL, NULL);
    }
    for (size_t i = 0; i < history->count; i++) {
        changes[2 * i] = (struct change){history->messages[i].sent.start, 1, 0};
        changes[2 * i + 1] = (struct change){history->messages[i].received.end, -1, 0};
    }
    qsort(changes, n, sizeof(*changes), by_when);
    build_tree(changes, n, tree, leaves);
    good = judge_full(history, changes, n, tree, leaves, capacity);
    free(changes);
    free(tree);
    return good;
}

struct history_verdict history_check(const struct history_event *events, size_t n, uint64_t capacity)
{
    struct history history = {.events = events, .n = n};

    history.sorted = malloc((n + 1) * sizeof(*history.sorted));
    history.messages = malloc((n + 1) * sizeof(*history.messages));
    if (history.sorted == NULL || history.messages == NULL)
        blame(&history, HISTORY_NO_MEMORY, NULL, NULL);
    else if (match(&history) && check_order(&history) && check_loss(&history) && check_empty(&history) &&
             capacity != 0)
        check_full(&history, capacity);
    free(history.sorted);
    free(history.messages);
    return history.verdict;
}

/* -------------------------------------------------------------------------------------------- overwriting */

/* Takes lost values out of history->messages: the others are judged as a queue. */
static bool set_losses_apart(struct history *history, uint64_t lost)
{
    const struct history_event *last_out = NULL, *last_lost = NULL;
    uint64_t sends_end = 0;
    size_t kept = 0;

    for (size_t i = 0; i < history->count; i++)
        if (history->messages[i].sent.end > sends_end)
            sends_end = history->messages[i].sent.end;
    for (size_t i = 0; i < history->count; i++) { /* what came out late, and was sent first */
        const struct message *message = &history->messages[i];
        if (message->received.end != UINT64_MAX && message->received.start > sends_end &&
            (last_out == NULL || message->sent.end < last_out->end))
            last_out = &message->sent;
    }
    for (size_t i = 0; i < history->count && last_out != NULL; i++)
        if (history->messages[i].received.end == UINT64_MAX &&
            history->messages[i].sent.start > last_out->end)
            return blame(history, HISTORY_LOST_TOO_EARLY, &history->messages[i].sent, last_out);
    for (size_t i = 0; i < history->count; i++)
        if (history->messages[i].received.end != UINT64_MAX)
            history->messages[kept++] = history->messages[i];
        else
            last_lost = &history->messages[i].sent;
    if (history->count - kept != lost)
        return blame(history, HISTORY_LOST_UNCOUNTED, last_lost, NULL);
    history->count = kept;
    return true;
}

/* The latest start of a receive among values sent before each of `lost` was: it goes after they have gone. Both sorted. */
static void bound_from_below(const struct message *received, size_t n, struct message *lost, size_t losses)
{
    uint64_t latest = 0;
    size_t done = 0;

    for (size_t i = 0; i < losses; i++) { /* received: by sent.end; lost: by sent.start */
        for (; done < n && received[done].sent.end < lost[i].sent.start; done++)
            if (received[done].received.start > latest)
                latest = received[done].received.start;
        lost[i].received.start = latest > lost[i].sent.start ? latest : lost[i].sent.start;
    }
}

/* The earliest end of a receive among values sent after each of `lost` was: it goes before they do. */
static void bound_from_above(const struct message *received, size_t n, struct message *lost, size_t losses,
                             uint64_t sends_end)
{
    uint64_t earliest = sends_end;
    size_t left = n;

    for (size_t i = losses; i-- > 0;) { /* received: by sent.start; lost: by sent.end */
        for (; left > 0 && received[left - 1].sent.start > lost[i].sent.end; left--)
            if (received[left - 1].received.end < earliest)
                earliest = received[left - 1].received.end;
        lost[i].received.end = earliest;
    }
}

/* Each lost value can have gone from received.start to received.end, which are set here; at some instant of that there
 * must have been room for so many values that it had to. */
static bool check_need(struct history *history, struct message *all, size_t n, size_t losses, uint64_t sends_end,
                       uint64_t capacity)
{
    struct message *received = all, *lost = all + n;
    struct history_event *gone = malloc((losses + 1) * sizeof(*gone));
    struct history judged = {.events = gone, .n = losses, .messages = all, .count = n + losses};

    if (gone == NULL)
        return blame(history, HISTORY_NO_MEMORY, NULL, NULL);
    qsort(received, n, sizeof(*received), by_send_end);
    qsort(lost, losses, sizeof(*lost), by_send_start);
    bound_from_below(received, n, lost, losses);
    qsort(received, n, sizeof(*received), by_send_start);
    qsort(lost, losses, sizeof(*lost), by_send_end);
    bound_from_above(received, n, lost, losses, sends_end);
    for (size_t i = 0; i < losses; i++) {
        gone[i] = (struct history_event){lost[i].received.start, lost[i].received.end, lost[i].sent.value, HISTORY_FULL};
        if (gone[i].end < gone[i].start)
            blame(history, HISTORY_LOST_TOO_EARLY, &lost[i].sent, NULL);
    }
    if (history->verdict.fault == HISTORY_GOOD && !check_full(&judged, capacity)) {
        bool false_full = judged.verdict.fault == HISTORY_FALSE_FULL;
        blame(history, false_full ? HISTORY_LOST_WITHOUT_NEED : judged.verdict.fault, &judged.verdict.witness, NULL);
    }
    free(gone);
    return history->verdict.fault == HISTORY_GOOD;
}

/* Judges the losses by the capacity. */
static bool check_losses(struct history *history, uint64_t capacity)
{
    struct message *all = malloc((history->count + 1) * sizeof(*all));
    size_t n = 0, losses = 0;
    uint64_t sends_end = 0;
    bool good;

    if (all == NULL)
        return blame(history, HISTORY_NO_MEMORY, NULL, NULL);
    for (size_t i = 0; i < history->count; i++) {
        const struct message *message = &history->messages[i];
        if (message->sent.end > sends_end)
            sends_end = message->sent.end;
        if (message->received.end != UINT64_MAX)
            all[n++] = *message;
        else
            all[history->count - ++losses] = *message;
    }
    good = check_need(history, all, n, losses, sends_end, capacity);
    free(all);
    return good;
}

struct history_verdict history_check_overwriting(const struct history_event *events, size_t n, uint64_t lost,
                                                 uint64_t capacity)
{
    struct history history = {.events = events, .n = n};

    history.sorted = malloc((n + 1) * sizeof(*history.sorted));
    history.messages = malloc((n + 1) * sizeof(*history.messages));
    if (history.sorted == NULL || history.messages == NULL)
        blame(&history, HISTORY_NO_MEMORY, NULL, NULL);
    else if (match(&history) && (capacity == 0 || check_losses(&history, capacity)) &&
             set_losses_apart(&history, lost) && check_order(&history))
        check_empty(&history);
    free(history.sorted);
    free(history.messages);
    return history.verdict;
}

/* ------------------------------------------------------------------------------------------------- levels */

static int by_receive_start(const void *a, const void *b)
{
    return compare(((const struct message *)a)->received.start, ((const struct message *)b)->received.start);
}

/* Whether a receive at `level` passed over a value of a higher one: for each it is enough to know the
 * latest to come out of those that were sent before it began. */
static bool check_level(struct history *history, struct message *higher, uint64_t level, uint64_t levels)
{
    size_t n = 0, done = 0;
    const struct message *latest = NULL;

    for (size_t i = 0; i < history->count; i++)
        if (history->messages[i].sent.value % levels > level)
            higher[n++] = history->messages[i];
    qsort(higher, n, sizeof(*higher), by_send_end);
    for (size_t i = 0; i < history->count; i++) {
        const struct message *here = &history->messages[i];
        if (here->sent.value % levels != level)
            continue;
        for (; done < n && higher[done].sent.end < here->received.start; done++)
            if (latest == NULL || higher[done].received.start > latest->received.start)
                latest = &higher[done];
        if (latest != NULL && latest->received.start > here->received.end)
            return blame(history, HISTORY_LOWER_FIRST, &here->received, &latest->sent);
    }
    return true;
}

static bool check_between_levels(struct history *history, uint64_t levels)
{
    struct message *higher = malloc((history->count + 1) * sizeof(*higher));
    bool good = higher != NULL || blame(history, HISTORY_NO_MEMORY, NULL, NULL);

    qsort(history->messages, history->count, sizeof(*history->messages), by_receive_start);
    for (uint64_t level = 0; good && level < levels; level++)
        good = check_level(history, higher, level, levels);
    free(higher);
    return good;
}

/* A level by itself, with every "empty". */
static struct history_verdict check_one_level(const struct history_event *events, size_t n,
                                              struct history_event *own, uint64_t level, uint64_t levels)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++)
        if (events[i].kind == HISTORY_EMPTY || events[i].value % levels == level)
            own[used++] = events[i];
    return history_check(own, used, 0);
}

struct history_verdict history_check_levels(const struct history_event *events, size_t n, uint64_t levels)
{
    struct history history = {.events = events, .n = n};

    history.sorted = malloc((n + 1) * sizeof(*history.sorted));
    history.messages = malloc((n + 1) * sizeof(*history.messages));
    if (history.sorted == NULL || history.messages == NULL)
        blame(&history, HISTORY_NO_MEMORY, NULL, NULL);
    else if (match(&history) && check_between_levels(&history, levels))
        check_empty(&history); /* of all levels at once */
    for (uint64_t level = 0; history.verdict.fault == HISTORY_GOOD && level < levels; level++)
        history.verdict = check_one_level(events, n, history.sorted, level, levels);
    free(history.sorted);
    free(history.messages);
    return history.verdict;
}
