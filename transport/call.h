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
NORIA_FAST_PATH ssize_t noria_call_end(noria_channel *channel, uint32_t *mark, ssize_t rc)
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
NORIA_FAST_PATH ssize_t noria_call_begin(noria_channel *channel, enum noria_side side, bool one_caller, bool begins,
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

/*
 * The verbs send_call and recv_call of a kind: whole calls, with its tries inlined, and of an answer that is just coming the
 * first looks, too: the fewer instructions lie between them, the sooner it is seen. (They back off by the
 * verb: the function is cold, and seen to be called it would make the looks cold, too, which are then laid out for size, with a
 * jump at each step.)
 */
#define NORIA_WHOLE_CALLS(try_send, try_recv) \
    NORIA_CALLS_IN_SECTION(send_call, recv_call, recv_again, try_send, try_recv, false)

#define NORIA_CALLS_IN_SECTION(send_name, recv_name, again_name, try_send, try_recv, one_caller) \
    static __attribute__((noinline)) int send_name(noria_channel *channel, const void *data, size_t len, unsigned priority, \
                                                   int64_t timeout_ns) \
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
    static __attribute__((noinline)) ssize_t again_name(noria_channel *channel, void *buffer, size_t capacity, \
                                                             struct noria_info *info, int64_t timeout_ns, \
                                                             uint32_t *mark) \
    { \
        for (uint32_t i = timeout_ns != 0 ? channel->quick_tries : 0; i > 0; i--) { \
            ssize_t rc; \
            channel->verbs->back_off(channel, NORIA_SIDE_RECV); \
            rc = try_recv(channel, buffer, capacity, info); \
            if (__builtin_expect(rc != -EAGAIN, 1)) \
                return noria_call_end(channel, mark, rc); \
        } \
        return noria_recv_on(channel, buffer, capacity, info, timeout_ns, mark); \
    } \
    static __attribute__((noinline)) ssize_t recv_name(noria_channel *channel, void *buffer, size_t capacity, \
                                                       struct noria_info *info, int64_t timeout_ns) \
    { \
        uint32_t *mark; \
        ssize_t rc = noria_call_begin(channel, NORIA_SIDE_RECV, one_caller, true, &mark); \
        if (__builtin_expect(rc != 0, 0)) \
            return rc; \
        rc = try_recv(channel, buffer, capacity, info); \
        if (__builtin_expect(rc == -EAGAIN, 0)) \
            return again_name(channel, buffer, capacity, info, timeout_ns, mark); \
        return noria_call_end(channel, mark, rc); \
    }

/*
 * The same for kinds that take one caller per role. The thread that has the role's lane is marked by that alone, and no read
 * section is needed: close closes the lanes and waits until nobody is in them. A call that has to wait, or has failed, begins a
 * section then; all others do from the start.
 */
NORIA_FAST_PATH bool noria_lane_enter(noria_channel *channel, struct noria_role *role)
{
    uint64_t self = noria_section_thread();

    return __builtin_expect(channel->lane_suffices != 0 && !noria_is_stale(channel) &&
                                noria_load_relaxed64(&role->owner) == self && noria_load_relaxed32(&role->in_lane) == 0, 1) &&
           noria_role_enter_lane(role, self);
}

/* A try in the lane has failed, with `rc`. */
int noria_send_on_from_lane(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns,
                            int rc);
ssize_t noria_recv_on_from_lane(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                                int64_t timeout_ns, ssize_t rc);

#define NORIA_LANE_CALLS(try_send, try_recv) \
    NORIA_CALLS_IN_SECTION(send_in_section, recv_in_section, recv_again_in_section, try_send, try_recv, true) \
    static int send_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns) \
    { \
        int rc; \
        if (!noria_lane_enter(channel, &channel->roles[NORIA_SIDE_SEND])) \
            return send_in_section(channel, data, len, priority, timeout_ns); \
        rc = try_send(channel, data, len, priority); \
        if (__builtin_expect(rc < 0, 0)) \
            return noria_send_on_from_lane(channel, data, len, priority, timeout_ns, rc); \
        noria_role_leave(&channel->roles[NORIA_SIDE_SEND].in_lane); \
        return rc; \
    } \
    static __attribute__((noinline)) ssize_t recv_again(noria_channel *channel, void *buffer, size_t capacity, \
                                                             struct noria_info *info, int64_t timeout_ns, ssize_t rc) \
    { \
        for (uint32_t i = timeout_ns != 0 ? channel->quick_tries : 0; rc == -EAGAIN && i > 0; i--) { \
            channel->verbs->back_off(channel, NORIA_SIDE_RECV); \
            rc = try_recv(channel, buffer, capacity, info); \
            if (__builtin_expect(rc >= 0, 1)) { \
                noria_role_leave(&channel->roles[NORIA_SIDE_RECV].in_lane); \
                return rc; \
            } \
        } \
        return noria_recv_on_from_lane(channel, buffer, capacity, info, timeout_ns, rc); \
    } \
    static ssize_t recv_call(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info, \
                             int64_t timeout_ns) \
    { \
        ssize_t rc; \
        if (!noria_lane_enter(channel, &channel->roles[NORIA_SIDE_RECV])) \
            return recv_in_section(channel, buffer, capacity, info, timeout_ns); \
        rc = try_recv(channel, buffer, capacity, info); \
        if (__builtin_expect(rc < 0, 0)) \
            return recv_again(channel, buffer, capacity, info, timeout_ns, rc); \
        noria_role_leave(&channel->roles[NORIA_SIDE_RECV].in_lane); \
        return rc; \
    }

#endif
