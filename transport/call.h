/* SPDX-License-Identifier: BSD-2-Clause */
/* A whole call: enter, try, and if that was nothing wait as long as the timeout allows, leave. Inlined, with its attempt. */
#ifndef NORIA_CALL_H
#define NORIA_CALL_H

#include "detail.h"
#include "section.h"

/* The try has found nothing: waits, if there is time to, and ends the call. */
ssize_t noria_call_on(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                      const struct noria_attempt *attempt, uint32_t *mark);
int noria_send_on(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns,
                  uint32_t *mark);
ssize_t noria_recv_on(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                      int64_t timeout_ns, uint32_t *mark);

/* Leaves, and returns what the call comes to; a failure has its sentence then. */
static inline ssize_t noria_call_end(noria_channel *channel, uint32_t *mark, ssize_t rc)
{
    if (__builtin_expect(channel->watched != 0, 0))
        rc = noria_call_judge(channel, rc);
    if (__builtin_expect(rc < 0, 0))
        noria_call_explain(channel, rc);
    if (mark != NULL)
        noria_role_leave(mark);
    noria_section_leave();
    return rc;
}

/* Enters. 0, or why not, with a sentence; `begins` something: see noria_attempt. `mark`: of the role, where it takes one caller. */
static inline ssize_t noria_call_begin(noria_channel *channel, enum noria_side side, bool one_caller, bool begins,
                                       uint32_t **mark)
{
    ssize_t rc = noria_section_enter(channel);

    *mark = NULL;
    if (__builtin_expect(rc != 0, 0))
        return noria_fail_plain((int)rc);
    if (one_caller) {
        *mark = noria_role_enter(&channel->roles[side], noria_section_thread());
        if (__builtin_expect(*mark == NULL, 0)) {
            noria_section_leave();
            return noria_fail_plain(-EDEADLK);
        }
    }
    if (begins && side == NORIA_SIDE_SEND && __builtin_expect(channel->looks_first != 0, 0) &&
        channel->verbs->look_round(channel, side) == -EPIPE) {
        return noria_call_end(channel, *mark, -EPIPE);
    }
    return 0;
}

/* What the attempt returned; or -EAGAIN (with timeout 0, without sleeping), -ETIMEDOUT, -EPIPE, -ECANCELED, -ESTALE,
 * -EDEADLK, -EINTR; all with a sentence. */
static inline ssize_t noria_call(noria_channel *channel, enum noria_side side, int64_t timeout_ns,
                                 const struct noria_attempt *attempt)
{
    uint32_t *mark;
    ssize_t rc = noria_call_begin(channel, side, channel->one_caller != 0, attempt->begins, &mark);

    if (__builtin_expect(rc != 0, 0))
        return rc;
    rc = attempt->run(channel, attempt->arguments);
    if (__builtin_expect(rc == -EAGAIN, 0))
        return noria_call_on(channel, side, timeout_ns, attempt, mark);
    return noria_call_end(channel, mark, rc);
}

/* The verbs send_call and recv_call of a kind: whole calls, with its tries inlined, and of an answer that is just coming the
 * first looks, too: the fewer instructions lie between them, the sooner it is seen. */
#define NORIA_WHOLE_CALLS(try_send, try_recv, back_off, one_caller) \
    static int send_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns) \
    { \
        uint32_t *mark; \
        int rc = (int)noria_call_begin(channel, NORIA_SIDE_SEND, one_caller, true, &mark); \
        if (__builtin_expect(rc != 0, 0)) \
            return rc; \
        rc = try_send(channel, data, len, priority); \
        if (__builtin_expect(rc == -EAGAIN, 0)) \
            return noria_send_on(channel, data, len, priority, timeout_ns, mark); \
        return (int)noria_call_end(channel, mark, rc); \
    } \
    static __attribute__((noinline)) ssize_t recv_again(noria_channel *channel, void *buffer, size_t capacity, \
                                                        struct noria_info *info, int64_t timeout_ns, uint32_t *mark) \
    { \
        ssize_t rc = -EAGAIN; \
        for (uint32_t i = timeout_ns != 0 ? channel->quick_tries : 0; rc == -EAGAIN && i > 0; i--) { \
            back_off(channel, NORIA_SIDE_RECV); \
            rc = try_recv(channel, buffer, capacity, info); \
        } \
        if (__builtin_expect(rc == -EAGAIN, 0)) \
            return noria_recv_on(channel, buffer, capacity, info, timeout_ns, mark); \
        return noria_call_end(channel, mark, rc); \
    } \
    static ssize_t recv_call(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info, \
                             int64_t timeout_ns) \
    { \
        uint32_t *mark; \
        ssize_t rc = noria_call_begin(channel, NORIA_SIDE_RECV, one_caller, true, &mark); \
        if (__builtin_expect(rc != 0, 0)) \
            return rc; \
        rc = try_recv(channel, buffer, capacity, info); \
        if (__builtin_expect(rc == -EAGAIN, 0)) \
            return recv_again(channel, buffer, capacity, info, timeout_ns, mark); \
        return noria_call_end(channel, mark, rc); \
    }

#endif
