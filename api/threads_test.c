/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: threads may share handles; blocked calls are woken, timed ones end in time, shutdown and close end
 * all. */
#include "variants_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/time.h>

#include "nap.h"
#include "transport.h"

#define HOUR (3600 * SECOND)

/* Until `n` calls on the handle have stopped trying and wait. */
static void await_waiting(noria_channel *channel, uint32_t n)
{
    while (noria_calls_waiting(channel) < n)
        sched_yield();
}

/* A call that a thread makes, and what came of it. */
struct call {
    ssize_t (*make)(noria_channel *channel, int64_t timeout_ns);
    noria_channel *channel;
    int64_t timeout_ns;
    bool called_before; /* a thread's first call does not go by its role's lane */
    ssize_t rc;
    bool has_detail;
    pthread_t thread;
};

static void *make_call(void *context)
{
    struct call *call = context;

    if (call->called_before)
        call->make(call->channel, 0);
    call->rc = call->make(call->channel, call->timeout_ns);
    call->has_detail = strlen(noria_detail()) > 3;
    return NULL;
}

static void start_call(struct call *call, ssize_t (*make)(noria_channel *, int64_t), noria_channel *channel)
{
    *call = (struct call){.make = make, .channel = channel, .timeout_ns = -1};
    assert_int_equal(pthread_create(&call->thread, NULL, make_call, call), 0);
}

/* By a thread that has tried, in vain, before. */
static void start_second_call(struct call *call, ssize_t (*make)(noria_channel *, int64_t), noria_channel *channel)
{
    *call = (struct call){.make = make, .channel = channel, .timeout_ns = -1, .called_before = true};
    assert_int_equal(pthread_create(&call->thread, NULL, make_call, call), 0);
}

static ssize_t finish_call(struct call *call)
{
    assert_int_equal(pthread_join(call->thread, NULL), 0);
    assert_true(call->rc >= 0 || call->has_detail);
    return call->rc;
}

static ssize_t make_recv(noria_channel *channel, int64_t timeout_ns)
{
    uint8_t bytes[64];

    return noria_recv(channel, bytes, sizeof(bytes), timeout_ns, NULL);
}

static ssize_t make_recv_many(noria_channel *channel, int64_t timeout_ns)
{
    uint8_t bytes[2][64];
    struct iovec buffers[2] = {{bytes[0], 64}, {bytes[1], 64}};

    return noria_recv_many(channel, buffers, 2, timeout_ns, NULL);
}

static ssize_t make_peek(noria_channel *channel, int64_t timeout_ns)
{
    struct noria_span span;

    return noria_peek(channel, &span, timeout_ns, NULL);
}

static ssize_t make_send(noria_channel *channel, int64_t timeout_ns)
{
    uint8_t bytes[64] = {0};

    return noria_send(channel, bytes, sizeof(bytes), timeout_ns);
}

static ssize_t make_send_many(noria_channel *channel, int64_t timeout_ns)
{
    uint8_t bytes[64] = {0};
    struct iovec messages[2] = {{bytes, 64}, {bytes, 64}};

    return noria_send_many(channel, messages, 2, timeout_ns);
}

static ssize_t make_reserve(noria_channel *channel, int64_t timeout_ns)
{
    struct noria_span span;

    return noria_reserve(channel, 64, &span, timeout_ns);
}

static const struct {
    ssize_t (*make)(noria_channel *, int64_t);
    bool sends;
} forms[] = {{make_recv, false}, {make_recv_many, false}, {make_peek, false},
             {make_send, true},  {make_send_many, true},  {make_reserve, true}};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static void fill_up(void)
{
    while (try_send(0, 64) == 0)
        continue;
}

static void drain(void)
{
    while (make_recv(ch.rx, 0) >= 0)
        continue;
}

/* ------------------------------------------------------------------------------------- shutdown and close */

static void shutdown_ends_every_call(void **state)
{
    /* Claim: shutdown makes a blocked call of any form return -ECANCELED, and every later call too; a second
     * shutdown is as good as one; the other handles go on. */
    (void)state;
    ch.options.recheck_ns = HOUR;
    for (int form = 0; form < FORMS; form++) {
        struct call call;
        noria_channel **mine = forms[form].sends ? &ch.tx : &ch.rx;
        struct noria_stat stat = {0};
        open_pair();
        if (forms[form].sends)
            fill_up();
        else
            drain();
        start_second_call(&call, forms[form].make, *mine);
        await_waiting(*mine, 1);
        assert_int_equal(noria_shutdown(*mine), 0);
        assert_int_equal(finish_call(&call), -ECANCELED);
        for (int later = 0; later < FORMS; later++)
            if (forms[later].sends == forms[form].sends) {
                assert_fails(forms[later].make(*mine, 0), ECANCELED);
                assert_fails(forms[later].make(*mine, -1), ECANCELED);
            }
        assert_fails(noria_stat(*mine, &stat), ECANCELED);
        assert_int_equal(noria_shutdown(*mine), 0);
        assert_int_equal(stat_of(forms[form].sends ? ch.rx : ch.tx).senders, 1);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
    }
}

static void close_ends_every_call(void **state)
{
    /* Claim: close makes a blocked call of any form return -ECANCELED, and returns itself. */
    (void)state;
    ch.options.recheck_ns = HOUR;
    for (int form = 0; form < FORMS; form++) {
        struct call call;
        open_pair();
        if (forms[form].sends)
            fill_up();
        else
            drain();
        start_second_call(&call, forms[form].make, forms[form].sends ? ch.tx : ch.rx);
        await_waiting(call.channel, 1);
        close_handle(forms[form].sends ? &ch.tx : &ch.rx);
        assert_int_equal(finish_call(&call), -ECANCELED);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
    }
}

static void close_ends_many_calls(void **state)
{
    /* Claim (MPMC): several threads blocked on one handle, some to send and some to receive, all end with its
     * close. */
    struct call senders[4], receivers[4];
    noria_channel *empty = NULL;
    struct noria_options options = ch.options;

    (void)state;
    ch.options.recheck_ns = options.recheck_ns = HOUR;
    for (int round = 0; round < 20; round++) {
        ch.tx = open_handle(NORIA_SEND | NORIA_RECV);
        fill_up();
        assert_int_equal(noria_open(&empty, "anon:", NORIA_SEND | NORIA_RECV, &options), 0);
        for (int i = 0; i < 4; i++) {
            start_call(&senders[i], forms[3 + i % 3].make, ch.tx);
            start_call(&receivers[i], forms[i % 3].make, empty);
        }
        await_waiting(ch.tx, 4);
        await_waiting(empty, 4);
        close_handle(&ch.tx);
        close_handle(&empty);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(finish_call(&senders[i]), -ECANCELED);
            assert_int_equal(finish_call(&receivers[i]), -ECANCELED);
        }
        remove_name();
        if (ch.memfd >= 0)
            return;
    }
}

static void *close_now(void *closed)
{
    close_handle(&ch.tx);
    noria_store_release32(closed, 1);
    return NULL;
}

static void close_waits_for_a_call_in_its_lane(void **state)
{
    /* Claim: a call by which nothing is marked but its role's lane is waited for like any other. */
    uint32_t closed, *in_lane;
    pthread_t closer;

    (void)state;
    for (int side = 0; side < 2; side++) {
        noria_channel *tx;
        open_pair();
        tx = ch.tx;
        in_lane = &tx->roles[side].in_lane;
        noria_store_relaxed32(in_lane, 1); /* as the lane's owner would */
        noria_store_relaxed32(&closed, 0);
        assert_int_equal(pthread_create(&closer, NULL, close_now, &closed), 0);
        while (noria_load_acquire32(&tx->state) == NORIA_HANDLE_OPEN)
            sched_yield();
        for (int i = 0; i < 10; i++)
            noria_nap(NORIA_FOREVER);
        assert_int_equal(noria_load_acquire32(&closed), 0);
        noria_store_release32(in_lane, 0);
        assert_int_equal(pthread_join(closer, NULL), 0);
        close_handle(&ch.rx);
    }
}

static void *send_until_shut(void *channel)
{
    ssize_t rc;

    do
        rc = make_send(channel, MS);
    while (rc == 0 || rc == -ETIMEDOUT || rc == -EDEADLK);
    return (void *)(intptr_t)rc;
}

static void *receive_until_shut(void *channel)
{
    ssize_t rc;

    do
        rc = make_recv(channel, MS);
    while (rc >= 0 || rc == -ETIMEDOUT || rc == -EDEADLK);
    return (void *)(intptr_t)rc;
}

static void a_spinner_holds_up_nobody(void **state)
{
    /* Claim: a call that spins for ever, and never sleeps, does not keep other channels of its process from closing, and
     * shutdown ends it. */
    static const uint32_t ways[] = {NORIA_WAIT_SPIN, NORIA_WAIT_YIELD};

    (void)state;
    for (int way = 0; way < 2; way++) {
        struct call call;
        ch.options.wait = ways[way];
        open_pair();
        start_call(&call, make_recv, ch.rx);
        await_waiting(ch.rx, 1); /* it looks up now and then, and we have seen it */
        for (int i = 0; i < 20; i++) {
            noria_channel *other = NULL;
            assert_int_equal(noria_open(&other, "anon:", NORIA_SEND | NORIA_RECV | NORIA_CREATE, NULL), 0);
            assert_int_equal(noria_close(other), 0);
        }
        assert_int_equal(noria_shutdown(ch.rx), 0);
        assert_int_equal(finish_call(&call), -ECANCELED);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        noria_unlink(ch.address);
    }
}

static void shutdown_meets_calls_anywhere(void **state)
{
    /* Claim: a shutdown at any moment of busy threads ends each of them with -ECANCELED; then close
     * is safe. */
    (void)state;
    for (int round = 0; round < 30; round++) {
        pthread_t threads[2];
        void *rc;
        open_pair();
        assert_int_equal(pthread_create(&threads[0], NULL, send_until_shut, ch.tx), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, receive_until_shut, ch.rx), 0);
        while (stat_of(ch.tx).received < 20)
            sched_yield();
        assert_int_equal(noria_shutdown(ch.tx), 0);
        assert_int_equal(noria_shutdown(ch.rx), 0);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_join(threads[i], &rc), 0);
            assert_int_equal((intptr_t)rc, -ECANCELED);
        }
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        remove_name();
    }
}

/* ------------------------------------------------------------------------------------------------- waking */

static void blocked_receiver_is_woken(void **state)
{
    /* Claim: a send wakes a blocked receiver of any form, with no re-check to save it. */
    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    for (int i = 0; i < 60; i++) {
        struct call call;
        start_call(&call, forms[i % 3].make, ch.rx);
        if (i % 2 == 0)
            await_waiting(ch.rx, 1);
        send_numbered(1, 10);
        assert_true(finish_call(&call) >= 0);
        if (i % 3 == 2) { /* peeked: give it back by closing */
            close_handle(&ch.rx);
            ch.rx = open_handle(NORIA_RECV);
            drain();
            ch.options.recheck_ns = HOUR;
        }
    }
}

static void blocked_sender_is_woken(void **state)
{
    /* Claim: a receive, a release and an aborted reservation wake a blocked sender. */
    struct noria_span span;

    (void)state;
    ch.options.recheck_ns = HOUR;
    open_pair();
    for (int i = 0; i < 40; i++) {
        struct call call;
        fill_up();
        start_call(&call, i % 2 == 0 ? make_send : make_send_many, ch.tx);
        if (i % 3 != 0)
            await_waiting(ch.tx, 1);
        for (int n = 0; n < 3; n++) { /* SPSC may need more than one for the place to be in one piece */
            if (i % 4 < 2) {
                assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
                assert_int_equal(noria_release(ch.rx, &span), 0);
            } else {
                assert_true(make_recv(ch.rx, 0) >= 0);
            }
        }
        assert_true(finish_call(&call) >= 0);
    }
}

static void end_of_stream_wakes(void **state)
{
    /* Claim: when the last sender closes, a blocked receiver gets -EPIPE; when the last receiver closes, so
     * does a blocked sender with need_receiver. No re-check helps. */
    struct call call;

    (void)state;
    ch.options.recheck_ns = HOUR;
    ch.options.need_receiver = 1;
    for (int i = 0; i < 10; i++) {
        open_pair();
        drain();
        start_call(&call, make_recv, ch.rx);
        await_waiting(ch.rx, 1);
        close_handle(&ch.tx);
        assert_int_equal(finish_call(&call), -EPIPE);
        ch.tx = open_handle(NORIA_SEND);
        fill_up();
        start_call(&call, make_send, ch.tx);
        await_waiting(ch.tx, 1);
        close_handle(&ch.rx);
        assert_int_equal(finish_call(&call), -EPIPE);
        close_handle(&ch.tx);
        if (ch.path[0] == '\0')
            return;
    }
}

/* The best of some tries: a loaded machine makes single ones late, never all of them. */
static int64_t best_overshoot(int form, int64_t timeout_ns)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < 5; i++) {
        int64_t start = now_ns(), took;
        assert_fails(forms[form].make(forms[form].sends ? ch.tx : ch.rx, timeout_ns), ETIMEDOUT);
        took = now_ns() - start;
        assert_true(took >= timeout_ns);
        best = took - timeout_ns < best ? took - timeout_ns : best;
    }
    return best;
}

static void timeouts_are_kept(void **state)
{
    /* Claim: a timed call of any form ends with -ETIMEDOUT, not before its time and at most 10 ms after. */
    static const int64_t timeouts[] = {1, 100000, 3 * MS, 20 * MS};

    (void)state;
    open_pair();
    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++)
        for (int form = 0; form < FORMS; form++) {
            if (forms[form].sends)
                fill_up();
            else
                drain();
            assert_true(best_overshoot(form, timeouts[i]) < 10 * MS);
        }
}

static void tick(int signal)
{
    (void)signal;
}

static void signals_do_not_shorten_a_wait(void **state)
{
    /* Claim: a waiting call that signals interrupt all the time (no SA_RESTART) goes on to its deadline. */
    struct sigaction action = {.sa_handler = tick}, old;
    const struct itimerval often = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};

    (void)state;
    open_pair();
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int form = 0; form < FORMS; form++) {
        if (forms[form].sends)
            fill_up();
        else
            drain();
        assert_true(best_overshoot(form, 20 * MS) < 10 * MS);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
}

/* ----------------------------------------------------------------------------------------- shared handles */

enum { CREW = 3, EACH = 4000 };

struct note {
    uint32_t sender, number;
};

struct crew_member {
    pthread_t thread;
    uint32_t id;
    uint32_t taken;
    bool in_order;
    uint8_t *seen; /* [CREW][EACH] */
};

static void *send_share(void *context)
{
    const struct crew_member *me = context;

    for (uint32_t i = 0; i < EACH; i++) {
        struct note note = {me->id, i};
        struct noria_span span;
        int rc;
        if (i % 4 == 0) {
            rc = noria_reserve(ch.tx, sizeof(note), &span, -1);
            if (rc == 0) {
                memcpy(span.data, &note, sizeof(note));
                rc = noria_commit(ch.tx, &span, sizeof(note), -1);
            }
        } else {
            rc = noria_send(ch.tx, &note, sizeof(note), -1);
        }
        if (rc != 0)
            return (void *)(intptr_t)rc;
    }
    return NULL;
}

static void *receive_share(void *context)
{
    struct crew_member *me = context;
    int64_t last[CREW] = {-1, -1, -1};
    struct note note;
    ssize_t rc;

    me->in_order = true;
    while ((rc = noria_recv(ch.rx, &note, sizeof(note), -1, NULL)) == sizeof(note)) {
        me->in_order =
            me->in_order && note.sender < CREW && note.number < EACH && last[note.sender] < note.number;
        if (!me->in_order)
            break;
        last[note.sender] = note.number;
        __atomic_add_fetch(&me->seen[note.sender * EACH + note.number], 1, __ATOMIC_RELAXED);
        me->taken++;
    }
    return (void *)(intptr_t)rc;
}

static void threads_share_a_handle(void **state)
{
    /* Claim (MPMC): threads that send through one handle and threads that receive through another pass every
     * message once, each sender's in order, down to the end of the stream. */
    struct crew_member senders[CREW], receivers[CREW];
    uint8_t *seen = calloc(CREW, EACH);
    uint32_t taken = 0;
    void *rc;

    (void)state;
    open_pair();
    for (uint32_t i = 0; i < CREW; i++) {
        senders[i] = (struct crew_member){.id = i};
        receivers[i] = (struct crew_member){.seen = seen};
        assert_int_equal(pthread_create(&receivers[i].thread, NULL, receive_share, &receivers[i]), 0);
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_share, &senders[i]), 0);
    }
    for (int i = 0; i < CREW; i++) {
        assert_int_equal(pthread_join(senders[i].thread, &rc), 0);
        assert_null(rc);
    }
    close_handle(&ch.tx);
    for (int i = 0; i < CREW; i++) {
        assert_int_equal(pthread_join(receivers[i].thread, &rc), 0);
        assert_int_equal((intptr_t)rc, -EPIPE);
        assert_true(receivers[i].in_order);
        taken += receivers[i].taken;
    }
    assert_int_equal(taken, CREW * EACH);
    for (int i = 0; i < CREW * EACH; i++)
        assert_int_equal(seen[i], 1);
    free(seen);
}

static void *send_groups(void *context)
{
    const struct crew_member *me = context;

    for (uint32_t next = 0; next < EACH;) {
        struct note notes[7];
        struct iovec vectors[7];
        int n = 0, rc;
        for (; n < 7 && next + (uint32_t)n < EACH; n++) {
            notes[n] = (struct note){me->id, next + (uint32_t)n};
            vectors[n] = (struct iovec){&notes[n], sizeof(notes[n])};
        }
        rc = noria_send_many(ch.tx, vectors, n, -1);
        if (rc < 0)
            return (void *)(intptr_t)rc;
        next += (uint32_t)rc;
    }
    return NULL;
}

static void threads_share_groups(void **state)
{
    /* Claim (MPMC, pack 4): threads of one handle that receive from the same group get each message once. */
    struct crew_member senders[CREW], receivers[CREW];
    uint8_t *seen = calloc(CREW, EACH);
    void *rc;

    (void)state;
    ch.options.pack = 4;
    open_pair();
    for (uint32_t i = 0; i < CREW; i++) {
        senders[i] = (struct crew_member){.id = i};
        receivers[i] = (struct crew_member){.seen = seen};
        assert_int_equal(pthread_create(&receivers[i].thread, NULL, receive_share, &receivers[i]), 0);
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_groups, &senders[i]), 0);
    }
    for (int i = 0; i < CREW; i++) {
        assert_int_equal(pthread_join(senders[i].thread, &rc), 0);
        assert_null(rc);
    }
    close_handle(&ch.tx);
    for (int i = 0; i < CREW; i++) {
        assert_int_equal(pthread_join(receivers[i].thread, &rc), 0);
        assert_int_equal((intptr_t)rc, -EPIPE);
    }
    for (int i = 0; i < CREW * EACH; i++)
        assert_int_equal(seen[i], 1);
    free(seen);
}

static void *send_all(void *unused)
{
    struct crew_member me = {.id = 0};

    (void)unused;
    return send_share(&me);
}

static void one_thread_per_role(void **state)
{
    /* Claim: one thread that sends and one that receives, with a handle each, need nothing else; a third that
     * asks for statistics does not disturb them. */
    struct crew_member receiver = {.seen = calloc(CREW, EACH)};
    pthread_t sender;
    uint64_t last = 0;
    void *rc;

    (void)state;
    open_pair();
    assert_int_equal(pthread_create(&receiver.thread, NULL, receive_share, &receiver), 0);
    assert_int_equal(pthread_create(&sender, NULL, send_all, NULL), 0);
    while (last < EACH) {
        struct noria_stat stat = stat_of(ch.rx);
        assert_true(stat.received >= last && stat.sent <= EACH);
        last = stat.received;
        assert_true(stat.held <= 1);
    }
    assert_int_equal(pthread_join(sender, &rc), 0);
    assert_null(rc);
    close_handle(&ch.tx);
    assert_int_equal(pthread_join(receiver.thread, &rc), 0);
    assert_true(receiver.in_order);
    assert_int_equal(receiver.taken, EACH);
    free(receiver.seen);
}

static ssize_t reserve_and_commit(noria_channel *channel, int64_t timeout_ns)
{
    struct noria_span span, second;
    int rc = noria_reserve(channel, 8, &span, timeout_ns);

    if (rc == 0 && noria_reserve(channel, 8, &second, 0) != -EBUSY)
        rc = -EPROTO;
    return rc == 0 ? noria_commit(channel, &span, 8, timeout_ns) : rc;
}

static void each_thread_has_its_reservation(void **state)
{
    /* Claim (MPMC): a reservation of one thread does not stand in the way of the others'; nobody can finish
     * another's. */
    enum { THREADS = 48 };
    struct call calls[THREADS];
    struct noria_span span, copy;

    (void)state;
    ch.options.capacity = 2 * THREADS;
    open_pair();
    assert_int_equal(noria_reserve(ch.tx, 8, &span, 0), 0);
    for (int i = 0; i < THREADS; i++)
        start_call(&calls[i], reserve_and_commit, ch.tx);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(finish_call(&calls[i]), 0);
    copy = span;
    assert_int_equal(noria_commit(ch.tx, &span, 8, 0), 0);
    assert_fails(noria_commit(ch.tx, &copy, 8, 0), EINVAL);
    for (int i = 0; i < THREADS + 1; i++)
        assert_int_equal(make_recv(ch.rx, 0), 8);
}

static pthread_barrier_t all_reserved, all_seen;

static ssize_t reserve_together(noria_channel *channel, int64_t timeout_ns)
{
    struct noria_span span;
    int rc = noria_reserve(channel, 8, &span, timeout_ns);

    pthread_barrier_wait(&all_reserved);
    pthread_barrier_wait(&all_seen);
    return rc == 0 ? noria_commit(channel, &span, 8, timeout_ns) : rc;
}

static void many_threads_reserve_at_once(void **state)
{
    /* Claim (MPMC): 64 threads may have their reservation at the same time on one handle; the next one gets
     * -EBUSY until one has committed. */
    enum { THREADS = 64 };
    struct call calls[THREADS];
    struct noria_span span;
    int rc;

    (void)state;
    ch.options.capacity = 2 * THREADS;
    open_pair();
    assert_int_equal(pthread_barrier_init(&all_reserved, NULL, THREADS + 1), 0);
    assert_int_equal(pthread_barrier_init(&all_seen, NULL, THREADS + 1), 0);
    for (int i = 0; i < THREADS; i++)
        start_call(&calls[i], reserve_together, ch.tx);
    pthread_barrier_wait(&all_reserved);
    rc = noria_reserve(ch.tx, 8, &span, 0);
    pthread_barrier_wait(&all_seen);
    for (int i = 0; i < THREADS; i++)
        finish_call(&calls[i]);
    pthread_barrier_destroy(&all_reserved);
    pthread_barrier_destroy(&all_seen);
    assert_int_equal(rc, -EBUSY);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(calls[i].rc, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(make_recv(ch.rx, 0), 8);
    assert_int_equal(noria_reserve(ch.tx, 8, &span, 0), 0);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
}

/* ------------------------------------------------------------------------------- one caller per SPSC role */

static void second_caller_of_a_role_is_refused(void **state)
{
    /* Claim (SPSC): while a thread is in a call of a role, waiting included, another thread's call in that
     * role is -EDEADLK, at once; the first one is not disturbed; the other role is free. */
    struct call call;

    (void)state;
    open_pair();
    start_call(&call, make_recv, ch.rx);
    await_waiting(ch.rx, 1);
    for (int form = 0; form < 3; form++) {
        assert_fails(forms[form].make(ch.rx, 0), EDEADLK);
        assert_fails(forms[form].make(ch.rx, -1), EDEADLK);
    }
    send_numbered(1, 10);
    assert_int_equal(finish_call(&call), 10);
    fill_up();
    start_call(&call, make_send, ch.tx);
    await_waiting(ch.tx, 1);
    for (int form = 3; form < FORMS; form++)
        assert_fails(forms[form].make(ch.tx, -1), EDEADLK);
    drain();
    assert_int_equal(finish_call(&call), 0);
    drain();
    send_numbered(2, 2);
    expect(2, 2);
}

static noria_channel *of_the_handler;
static ssize_t rc_of_the_handler;

static void call_again(int signal)
{
    (void)signal;
    __atomic_store_n(&rc_of_the_handler, make_recv(of_the_handler, 0), __ATOMIC_RELEASE);
}

static void reentrant_caller_is_refused(void **state)
{
    /* Claim (SPSC): a signal handler that interrupts a receive and receives gets -EDEADLK, and the receive
     * goes on. */
    struct sigaction action = {.sa_handler = call_again}, old;
    struct call call;

    (void)state;
    open_pair();
    of_the_handler = ch.rx;
    rc_of_the_handler = 1;
    sigaction(SIGUSR1, &action, &old);
    start_call(&call, make_recv, ch.rx);
    await_waiting(ch.rx, 1);
    pthread_kill(call.thread, SIGUSR1);
    while (__atomic_load_n(&rc_of_the_handler, __ATOMIC_ACQUIRE) == 1)
        sched_yield();
    send_numbered(1, 7);
    assert_int_equal(finish_call(&call), 7);
    assert_int_equal(rc_of_the_handler, -EDEADLK);
    sigaction(SIGUSR1, &old, NULL);
}

static unsigned sent_by_handler;

static void send_from_handler(int signal)
{
    (void)signal;
    if (noria_send(of_the_handler, "handler", 7, 0) == 0)
        __atomic_add_fetch(&sent_by_handler, 1, __ATOMIC_RELAXED);
}

static void handlers_may_send(void **state)
{
    /* Claim (MPMC): a signal handler may send with timeout 0, whatever call it interrupts, and nothing is
     * lost. */
    struct sigaction action = {.sa_handler = send_from_handler}, old;
    const struct itimerval often = {{0, 100}, {0, 100}}, off = {{0, 0}, {0, 0}};
    unsigned of_main = 0, of_handler = 0, sent = 0;
    uint8_t bytes[64];
    ssize_t rc;

    (void)state;
    ch.options.capacity = 64;
    open_pair();
    of_the_handler = ch.tx;
    sent_by_handler = 0;
    assert_int_equal(make_send(ch.tx, 0), 0); /* the thread has been inside before */
    drain();
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    while (sent < 20000 || __atomic_load_n(&sent_by_handler, __ATOMIC_RELAXED) < 20) {
        if (noria_send(ch.tx, "main", 4, 0) == 0)
            sent++;
        rc = noria_recv(ch.rx, bytes, 64, 0, NULL);
        of_main += rc == 4;
        of_handler += rc == 7;
    }
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
    while ((rc = noria_recv(ch.rx, bytes, 64, 0, NULL)) >= 0) {
        of_main += rc == 4;
        of_handler += rc == 7;
    }
    assert_int_equal(of_main, sent);
    assert_int_equal(of_handler, sent_by_handler);
}

/* ------------------------------------------------------------------------------------ handles come and go */

static void *open_send_close(void *context)
{
    struct crew_member *me = context;

    for (uint32_t i = 0; i < 60; i++) {
        noria_channel *mine = NULL;
        struct note note = {me->id, i};
        int rc = try_open(&mine, NORIA_SEND);
        if (rc == 0)
            rc = noria_send(mine, &note, sizeof(note), -1);
        if (mine != NULL)
            noria_close(mine);
        if (rc != 0)
            return (void *)(intptr_t)rc;
    }
    return NULL;
}

static void handles_come_and_go(void **state)
{
    /* Claim (MPMC): threads that open, send and close on a channel in use disturb nobody and lose nothing. */
    struct crew_member senders[CREW];
    uint32_t taken = 0;
    void *rc;

    (void)state;
    ch.rx = open_handle(NORIA_RECV);
    for (uint32_t i = 0; i < CREW; i++) {
        senders[i] = (struct crew_member){.id = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, open_send_close, &senders[i]), 0);
    }
    while (taken < CREW * 60) {
        ssize_t got = make_recv(ch.rx, -1);
        assert_true(got == sizeof(struct note) || got == -EPIPE); /* between two senders nobody is there */
        taken += got > 0;
    }
    for (int i = 0; i < CREW; i++) {
        assert_int_equal(pthread_join(senders[i].thread, &rc), 0);
        assert_null(rc);
    }
    assert_fails(make_recv(ch.rx, 0), EPIPE);
    assert_int_equal(stat_of(ch.rx).received, CREW * 60);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONCE(shutdown_ends_every_call),
        ONCE(close_ends_every_call),
        ONCE(close_waits_for_a_call_in_its_lane),
        ONLY_MPMC(close_ends_many_calls),
        ONCE(a_spinner_holds_up_nobody),
        ONCE(shutdown_meets_calls_anywhere),
        ONCE(blocked_receiver_is_woken),
        ONCE(blocked_sender_is_woken),
        AT("shm", end_of_stream_wakes),
        ONCE(timeouts_are_kept),
        ONCE(signals_do_not_shorten_a_wait),
        ONLY_MPMC(threads_share_a_handle),
        {"threads_share_groups", threads_share_groups, NORIA_KIND_MPMC, "anon"},
        ONCE(one_thread_per_role),
        ONLY_MPMC(each_thread_has_its_reservation),
        ONLY_MPMC(many_threads_reserve_at_once),
        ONLY_SPSC(second_caller_of_a_role_is_refused),
        ONLY_SPSC(reentrant_caller_is_refused),
        ONLY_MPMC(handlers_may_send),
        ONLY_MPMC(handles_come_and_go),
    };

    return run_variants("threads", tests, sizeof(tests) / sizeof(tests[0]));
}
