/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions that move messages: a check, one verb, and the waiting loop if the verb says "not now". */
#include <errno.h>
#include <stdbool.h>

#include "call.h"
#include "detail.h"

static int explain_too_long(const noria_channel *channel, size_t size)
{
    return noria_fail(-EMSGSIZE, "the message has %zu bytes, the channel takes %llu; create it with a larger max_message",
                      size, (unsigned long long)channel->max_message);
}

static int explain_no_level(const noria_channel *channel, unsigned priority)
{
    if (channel->priorities <= 1)
        return noria_fail(-ENOTSUP, "the channel has no priorities; create it with options.priorities");
    return noria_fail(-EINVAL, "priority %u: the channel's levels are 0 to %u", priority, channel->priorities - 1);
}

static int check(const noria_channel *channel, unsigned side, bool arguments_valid)
{
    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    if ((channel->flags & side) == 0)
        return noria_fail(-EINVAL, "the handle was opened without %s", side == NORIA_SEND ? "NORIA_SEND" : "NORIA_RECV");
    return arguments_valid ? 0 : noria_fail(-EINVAL, "a pointer is missing or a count is not positive");
}

static int check_timeout(int64_t timeout_ns)
{
    return timeout_ns >= -1 ? 0 : noria_fail(-EINVAL, "a timeout is -1 (for ever), 0 (try once) or nanoseconds");
}

/* Begins something: a sender may be told that nobody is there. */
static inline ssize_t run(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                          ssize_t (*attempt)(noria_channel *, void *), void *arguments)
{
    return noria_call(channel, side, timeout_ns, &(struct noria_attempt){attempt, arguments, true, 0, NULL});
}

/* Finishes what was begun, whoever is there. */
static inline ssize_t finish(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                             ssize_t (*attempt)(noria_channel *, void *), void *arguments)
{
    return noria_call(channel, side, timeout_ns, &(struct noria_attempt){attempt, arguments, false, 0, NULL});
}

/* --------------------------------------------------------------------------------------------------------- sending */

/* What every send asks, in as few instructions as it takes; why not, refuse_to_send says. */
static inline bool may_send(const noria_channel *channel, const void *data, size_t len, int64_t timeout_ns)
{
    return channel != NULL && (channel->flags & NORIA_SEND) != 0 && (data != NULL || len == 0) && timeout_ns >= -1 &&
           len <= channel->max_message;
}

static __attribute__((noinline)) int refuse_to_send(const noria_channel *channel, const void *data, size_t len,
                                                    int64_t timeout_ns)
{
    int rc = check(channel, NORIA_SEND, data != NULL || len == 0);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    return rc != 0 ? rc : explain_too_long(channel, len);
}

/* 0, or why the message cannot be sent. */
NORIA_FAST_PATH int check_message(const noria_channel *channel, const void *data, size_t len, unsigned priority,
                                  int64_t timeout_ns)
{
    if (__builtin_expect(!may_send(channel, data, len, timeout_ns), 0))
        return refuse_to_send(channel, data, len, timeout_ns);
    return __builtin_expect(priority != 0, 0) && priority >= channel->priorities ? explain_no_level(channel, priority) : 0;
}

NORIA_FAST_PATH int send_one(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    int rc = check_message(channel, data, len, priority, timeout_ns);

    return __builtin_expect(rc != 0, 0) ? rc : channel->verbs->send_call(channel, data, len, priority, timeout_ns);
}

int noria_send_prio(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    return send_one(channel, data, len, priority, timeout_ns);
}

int noria_send(noria_channel *channel, const void *data, size_t len, int64_t timeout_ns)
{
    return send_one(channel, data, len, 0, timeout_ns);
}

int noria_gather(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    int rc = check_message(channel, data, len, priority, timeout_ns);

    if (rc != 0)
        return rc;
    return (channel->verbs->gather_call != NULL ? channel->verbs->gather_call : channel->verbs->send_call)(
        channel, data, len, priority, timeout_ns);
}

int noria_flush(noria_channel *channel, int64_t timeout_ns)
{
    uint32_t *mark;
    int rc = check(channel, NORIA_SEND, true);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    if (rc == 0 && channel->verbs->flush_call != NULL)
        return channel->verbs->flush_call(channel, timeout_ns);
    if (rc == 0)
        rc = (int)noria_call_begin(channel, NORIA_SIDE_SEND, false, false, &mark);
    return rc == 0 ? (int)noria_call_end(channel, mark, 0) : rc;
}

struct outgoing {
    const struct iovec *messages;
    int n;
};

static ssize_t try_send_many(noria_channel *channel, void *arguments)
{
    const struct outgoing *outgoing = arguments;

    return channel->verbs->send_many(channel, outgoing->messages, outgoing->n);
}

/* How many from the first on are not too long: only these may be dropped, the next call tells of the one behind them. */
static int count_valid(const noria_channel *channel, const struct iovec *messages, int n)
{
    int valid = 0;

    while (valid < n && messages[valid].iov_len <= channel->max_message)
        valid++;
    return valid;
}

int noria_send_many(noria_channel *channel, const struct iovec *messages, int n, int64_t timeout_ns)
{
    struct outgoing outgoing = {messages, n};
    int rc = check(channel, NORIA_SEND, messages != NULL && n > 0);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    for (int i = 0; rc == 0 && i < n; i++)
        if (messages[i].iov_base == NULL && messages[i].iov_len != 0)
            rc = noria_fail(-EINVAL, "message %d has a length and no data", i);
    if (rc != 0)
        return rc;
    if (messages[0].iov_len > channel->max_message)
        return explain_too_long(channel, messages[0].iov_len);
    if (channel->verbs->send_many_call != NULL)
        return channel->verbs->send_many_call(channel, messages, n, count_valid(channel, messages, n), timeout_ns);
    if (channel->verbs->send_many != NULL)
        return (int)noria_call(channel, NORIA_SIDE_SEND, timeout_ns,
                               &(struct noria_attempt){try_send_many, &outgoing, true, count_valid(channel, messages, n), NULL});
    rc = channel->verbs->send_call(channel, messages[0].iov_base, messages[0].iov_len, 0, timeout_ns);
    return rc == 0 ? 1 : rc;
}

struct space {
    size_t max_len;
    struct noria_span *span;
};

static ssize_t try_reserve(noria_channel *channel, void *arguments)
{
    const struct space *space = arguments;

    return channel->verbs->reserve(channel, space->max_len, space->span);
}

int noria_reserve(noria_channel *channel, size_t max_len, struct noria_span *span, int64_t timeout_ns)
{
    struct space space = {max_len, span};
    int rc = check(channel, NORIA_SEND, span != NULL);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    if (rc != 0)
        return rc;
    if (max_len > channel->max_message)
        return explain_too_long(channel, max_len);
    rc = (int)run(channel, NORIA_SIDE_SEND, timeout_ns, try_reserve, &space);
    return rc == -EBUSY ? noria_fail(rc, "this thread, or as many threads as can, have a reservation on the handle; commit or abort one") : rc;
}

struct filled {
    struct noria_span *span;
    size_t len;
};

static ssize_t try_commit(noria_channel *channel, void *arguments)
{
    const struct filled *filled = arguments;

    return channel->verbs->commit(channel, filled->span, filled->len);
}

int noria_commit(noria_channel *channel, struct noria_span *span, size_t len, int64_t timeout_ns)
{
    struct filled filled = {span, len};
    int rc = check(channel, NORIA_SEND, span != NULL);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    if (rc == 0 && len > span->len)
        rc = noria_fail(-EINVAL, "%zu bytes to commit, %zu were reserved", len, span->len);
    return rc != 0 ? rc : (int)finish(channel, NORIA_SIDE_SEND, timeout_ns, try_commit, &filled);
}

static ssize_t try_abort(noria_channel *channel, void *arguments)
{
    return channel->verbs->abort(channel, arguments);
}

int noria_abort(noria_channel *channel, struct noria_span *span)
{
    int rc = check(channel, NORIA_SEND, span != NULL);

    return rc != 0 ? rc : (int)finish(channel, NORIA_SIDE_SEND, 0, try_abort, span);
}

static int refuse_fds(void)
{
    return noria_fail(-ENOTSUP, "this channel carries no descriptors; unix:/path does, and fd:N of a Unix socket");
}

int noria_send_fds(noria_channel *channel, const void *data, size_t len, const int *fds, int n, int64_t timeout_ns)
{
    int rc = check_message(channel, data, len, 0, timeout_ns);

    if (rc != 0)
        return rc;
    if (fds == NULL || n < 1 || n > NORIA_MOST_FDS)
        return noria_fail(-EINVAL, "a message brings 1 to %d descriptors, not %d", NORIA_MOST_FDS, fds != NULL ? n : 0);
    if (channel->verbs->send_fds == NULL)
        return refuse_fds();
    return channel->verbs->send_fds(channel, data, len, fds, n, timeout_ns);
}

/* ------------------------------------------------------------------------------------------------------- receiving */

/* 0: there is no reason to. */
static __attribute__((noinline)) int refuse_to_receive(const noria_channel *channel, const void *data, size_t capacity,
                                                       int64_t timeout_ns)
{
    int rc = check(channel, NORIA_RECV, data != NULL || capacity == 0);

    return rc != 0 ? rc : check_timeout(timeout_ns);
}

ssize_t noria_recv(noria_channel *channel, void *data, size_t capacity, int64_t timeout_ns, struct noria_info *info)
{
    if (__builtin_expect(channel == NULL || (channel->flags & NORIA_RECV) == 0 || (data == NULL && capacity != 0) ||
                             timeout_ns < -1, 0))
        return refuse_to_receive(channel, data, capacity, timeout_ns);
    return channel->verbs->recv_call(channel, data, capacity, info, timeout_ns);
}

ssize_t noria_recv_fds(noria_channel *channel, void *data, size_t capacity, int *fds, int *n, int64_t timeout_ns,
                       struct noria_info *info)
{
    int rc = refuse_to_receive(channel, data, capacity, timeout_ns);

    if (rc != 0)
        return rc;
    if (n == NULL || *n < 0 || (fds == NULL && *n > 0))
        return noria_fail(-EINVAL, "noria_recv_fds takes a place for descriptors, and how many there is room for");
    if (channel->verbs->recv_fds == NULL)
        return refuse_fds();
    return channel->verbs->recv_fds(channel, data, capacity, fds, n, timeout_ns, info);
}

struct incoming {
    struct iovec *buffers;
    int n;
    struct noria_info *info;
};

static ssize_t try_recv_many(noria_channel *channel, void *arguments)
{
    const struct incoming *incoming = arguments;

    return channel->verbs->recv_many(channel, incoming->buffers, incoming->n, incoming->info);
}

int noria_recv_many(noria_channel *channel, struct iovec *buffers, int n, int64_t timeout_ns, struct noria_info *info)
{
    struct incoming incoming = {buffers, n, info};
    int rc = check(channel, NORIA_RECV, buffers != NULL && n > 0);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    for (int i = 0; rc == 0 && i < n; i++)
        if (buffers[i].iov_base == NULL && buffers[i].iov_len != 0)
            rc = noria_fail(-EINVAL, "buffer %d has a length and no memory", i);
    return rc != 0 ? rc : (int)run(channel, NORIA_SIDE_RECV, timeout_ns, try_recv_many, &incoming);
}

struct view {
    struct noria_span *span;
    struct noria_info *info;
};

static ssize_t try_peek(noria_channel *channel, void *arguments)
{
    const struct view *view = arguments;

    return channel->verbs->peek(channel, view->span, view->info);
}

int noria_peek(noria_channel *channel, struct noria_span *span, int64_t timeout_ns, struct noria_info *info)
{
    struct view view = {span, info};
    int rc = check(channel, NORIA_RECV, span != NULL);

    if (rc == 0)
        rc = check_timeout(timeout_ns);
    return rc != 0 ? rc : (int)run(channel, NORIA_SIDE_RECV, timeout_ns, try_peek, &view);
}

static ssize_t try_release(noria_channel *channel, void *arguments)
{
    return channel->verbs->release(channel, arguments);
}

int noria_release(noria_channel *channel, struct noria_span *span)
{
    int rc = check(channel, NORIA_RECV, span != NULL);

    return rc != 0 ? rc : (int)finish(channel, NORIA_SIDE_RECV, 0, try_release, span);
}
