/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames into messages. One get brings as many frames as there are; a message of one frame is handed out from where it
 * lies. Nothing that comes in is believed: a frame is bounded before anything is waited for or allocated.
 *
 * What is no frame: a connection that brings it is closed, for a stranger is at its other end. In a pipe, a file or a
 * queue it is skipped up to the next frame, and counted; what was lost by it, the sequence numbers tell.
 */
#include <errno.h>
#include <stdlib.h>

#include "adapter.h"
#include "call.h"
#include "detail.h"
#include "side.h"

enum { ENOUGH_BROUGHT = 4096, MOST_BROUGHT = 2 * ENOUGH_BROUGHT }; /* bytes, by one look into a pipe */
enum { LEAST_PATIENCE = 16, PROBE_PATIENCE = 64, MOST_PATIENCE = 256, PROBE_EVERY = 16 };
enum { MOST_GETS = 64 }; /* of one try, that bring no message: then it says "not yet", and comes back */

static struct noria_frame_limits limits_of(const struct noria_adapter *adapter)
{
    return (struct noria_frame_limits){NORIA_MOST_PIECE, (uint32_t)adapter->base.max_message,
                                       adapter->most_fds};
}

static int tell_taken(struct noria_adapter *adapter, bool surely)
{
    int cancels, rc;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = adapter->mechanism->taken(adapter, surely);
    pthread_setcancelstate(cancels, NULL);
    return rc;
}

int noria_adapter_release_incoming(struct noria_adapter *adapter, bool surely)
{
    struct noria_incoming *incoming = &adapter->incoming;
    int rc = 0;

    if (adapter->mechanism->taken != NULL)
        rc = tell_taken(adapter, surely);
    else if (incoming->owned == NULL)
        incoming->inlet->from += incoming->frame_size;
    if (__builtin_expect((incoming->info.flags & NORIA_FDS) != 0, 0))
        noria_adapter_drop_fds(adapter, incoming->inlet);
    free(incoming->owned);
    *incoming = (struct noria_incoming){0};
    noria_adapter_count(adapter, NORIA_SIDE_RECV, rc == 0);
    return rc;
}

static void announce(struct noria_adapter *adapter, struct noria_inlet *inlet, const struct noria_frame *frame,
                     uint8_t *owned, uint64_t lost)
{
    bool tells = lost != 0 && (adapter->mechanism->is_loss == NULL || adapter->mechanism->is_loss(adapter));

    adapter->incoming = (struct noria_incoming){.there = true,
                                                .data = owned != NULL ? owned
                                                                      : inlet->bytes + inlet->from + NORIA_FRAME_HEADER,
                                                .owned = owned,
                                                .frame_size = noria_frame_size(frame),
                                                .inlet = inlet,
                                                .info = {.size = frame->total,
                                                         .flags = tells ? NORIA_LOST : 0,
                                                         .priority = frame->priority,
                                                         .sender = frame->sender,
                                                         .sequence = frame->sequence,
                                                         .lost = tells ? lost : 0}};
    if (tells)
        adapter->lost += lost;
}

/* A frame that stands whole at the beginning of the inlet's bytes. 1: it brought a message; 0: go on; -errno. */
static int take_frame(struct noria_adapter *adapter, struct noria_inlet *inlet, const struct noria_frame *frame)
{
    const uint8_t *payload = inlet->bytes + inlet->from + NORIA_FRAME_HEADER;
    uint8_t *message = NULL;
    uint64_t lost = 0;
    int rc = noria_assembly_take(&adapter->assembly, frame, payload, inlet, &message, &lost);

    if (rc == -ENOMEM)
        return noria_fail(rc, "out of memory for a message of %u bytes", frame->total);
    if (rc < 0)
        return rc;
    inlet->speaks = adapter->seen_sender = true;
    if (rc != NORIA_ASSEMBLY_MORE)
        announce(adapter, inlet, frame, message, lost);
    if (rc != NORIA_ASSEMBLY_WHOLE)
        inlet->from += noria_frame_size(frame);
    return rc != NORIA_ASSEMBLY_MORE;
}

/* A sender is there, and has no message yet. Another receiver has nothing to say here. */
static int greet(struct noria_adapter *adapter, struct noria_inlet *inlet, const struct noria_frame *frame)
{
    if (frame->sequence != NORIA_FRAME_SENDER)
        return -EBADMSG;
    inlet->speaks = adapter->seen_sender = true;
    if ((frame->flags & NORIA_FRAME_FDS) != 0)
        noria_inlet_expect_fds(inlet, frame);
    inlet->from += noria_frame_size(frame);
    return 0;
}

/* The same, of any frame. */
static __attribute__((noinline)) int take_special(struct noria_adapter *adapter, struct noria_inlet *inlet,
                                                  const struct noria_frame *frame)
{
    int rc;

    if ((frame->flags & NORIA_FRAME_HELLO) != 0)
        return greet(adapter, inlet, frame);
    rc = noria_inlet_find_fds(inlet, frame);
    if (rc == 0)
        rc = take_frame(adapter, inlet, frame);
    if (rc == 1)
        noria_adapter_announce_fds(adapter, frame);
    return rc;
}

/* Bytes that are no frame. 0: skipped; -EBADMSG: whoever sends them is not listened to any longer. */
static int take_rubbish(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    size_t skip = noria_frame_skip(inlet->bytes + inlet->from, inlet->to - inlet->from);

    if (adapter->mechanism->drops_strangers)
        return -EBADMSG;
    inlet->from += skip;
    inlet->skipped += skip;
    adapter->skipped += skip;
    return 0;
}

/* From what has come. 1: a message; 0: there is no whole frame any more; -EBADMSG, -ENOMEM. */
static int take_frames(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    struct noria_frame_limits limits = limits_of(adapter);
    int rc = 0;

    while (rc == 0 && inlet->from < inlet->to) {
        struct noria_frame frame;
        const uint8_t *bytes = inlet->bytes + inlet->from;
        size_t len = inlet->to - inlet->from, cut = 0;
        if (inlet->page != 0 && noria_frame_may_be_cut(bytes, len))
            cut = noria_frame_find_cut(bytes, len, &limits, inlet->page, &frame);
        rc = cut != 0 ? (int)cut : noria_frame_parse(bytes, len, &limits, &frame);
        if (rc == 0 && !inlet->keeps_boundaries)
            return 0;
        if (rc == 0) { /* the rest of it does not come; what comes next is not of it */
            rc = -EBADMSG;
        } else if (cut == NORIA_FRAME_HEADER) { /* nothing of the message is left */
            inlet->from += cut;
            rc = 0;
        } else if (rc > 0) {
            rc = noria_frame_is_plain(&frame) ? take_frame(adapter, inlet, &frame)
                                              : take_special(adapter, inlet, &frame);
        }
        if (rc == -EBADMSG)
            rc = take_rubbish(adapter, inlet);
    }
    return rc;
}

/* Of packets nothing is left over; of a stream the beginning of a frame may be. */
static ssize_t get_more(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    size_t room;
    ssize_t got;

    if (__builtin_expect(inlet->brought.held, 0) && noria_adapter_keep_fds(adapter, inlet) != 0)
        return -EBADMSG;
    if (inlet->from == inlet->to)
        inlet->from = inlet->to = 0;
    if (inlet->from != 0 && inlet->room - inlet->to < NORIA_MOST_PIECE) {
        memmove(inlet->bytes, inlet->bytes + inlet->from, inlet->to - inlet->from);
        noria_brought_move(&inlet->brought, inlet->from);
        inlet->to -= inlet->from;
        inlet->from = 0;
    }
    room = inlet->room - inlet->to;
    if (__builtin_expect(inlet->brought.held, 0))
        room = noria_inlet_missing(inlet);
    got = adapter->mechanism->get(adapter, inlet, inlet->bytes + inlet->to, room);
    if (__builtin_expect(got <= 0, 0))
        return got;
    inlet->to += (size_t)got;
    adapter->bytes_brought += (size_t)got;
    if (__builtin_expect((size_t)got == room || inlet->asks, 0))
        inlet->asks = inlet->takes_fds || (adapter->most_fds != 0 && (size_t)got == room);
    return got;
}

/* Nothing more comes from the inlet, or it is not listened to any longer. */
static int end_inlet(struct noria_adapter *adapter, struct noria_inlet *inlet, bool is_stranger)
{
    uint64_t skipped = inlet->skipped + (inlet->to - inlet->from);
    bool spoke = inlet->speaks;

    noria_assembly_end_source(&adapter->assembly, inlet);
    noria_adapter_drop_fds(adapter, inlet);
    inlet->from = inlet->to = 0;
    if (adapter->mechanism->drops_strangers) {
        adapter->strangers += is_stranger;
        noria_adapter_remove_inlet(adapter, inlet);
    } else if (!spoke && skipped != 0) {
        inlet->skipped = 0; /* told once: who comes later may be a sender */
        return noria_fail(-EBADMSG, "'%s:%s' ended, and what came from it, %llu bytes, was no message of noria's",
                          adapter->mechanism->scheme, adapter->rest, (unsigned long long)skipped);
    }
    return adapter->mechanism->end(adapter);
}

/* 1: bytes, or another inlet; 0: this one has ended; -EAGAIN: nothing anywhere. */
static int refill(struct noria_adapter *adapter)
{
    ssize_t got = adapter->inlet != NULL ? get_more(adapter, adapter->inlet) : -EAGAIN;

    if (got == -EAGAIN && adapter->mechanism->choose != NULL) {
        int rc = adapter->mechanism->choose(adapter);
        return rc == 0 ? 1 : rc;
    }
    return got > 0 ? 1 : (int)got;
}

/* The inlet has ended in the middle of a frame: behind what was cut there may stand whole ones. Whether to go on. */
static bool skip_cut(struct noria_adapter *adapter, struct noria_inlet *inlet)
{
    return inlet->from < inlet->to && take_rubbish(adapter, inlet) == 0;
}

/* Until there is a message, or, if they suffice, bytes. 0 a message, 1 bytes, or why not. */
static int look(struct noria_adapter *adapter, bool bytes_suffice)
{
    int rc = 1;

    if (adapter->mechanism->take != NULL)
        return adapter->incoming.there ? 0 : adapter->mechanism->take(adapter);
    for (int gets = 0; rc == 1 && !adapter->incoming.there && gets < MOST_GETS; gets++) {
        struct noria_inlet *inlet = adapter->inlet;
        rc = inlet != NULL ? take_frames(adapter, inlet) : 0;
        if (rc == 0)
            rc = refill(adapter);
        if (rc == 1 && bytes_suffice && !adapter->incoming.there)
            return 1;
        if (rc == 0 && skip_cut(adapter, inlet))
            rc = 1;
        if (rc == 0 || rc == -EBADMSG || rc == -ECONNRESET)
            rc = end_inlet(adapter, inlet, rc == -EBADMSG);
    }
    if (rc == 1 && !adapter->incoming.there && adapter->inlet != NULL) { /* "not yet" only if nothing has come */
        int last = take_frames(adapter, adapter->inlet);
        rc = last == -ENOMEM ? last : 1; /* what is no frame the next try finds again */
    }
    return adapter->incoming.there ? 0 : rc == 1 ? -EAGAIN : rc;
}

static int look_uncancelled(struct noria_adapter *adapter, bool bytes_suffice)
{
    int cancels, rc;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = look(adapter, bytes_suffice);
    pthread_setcancelstate(cancels, NULL);
    return rc;
}

int noria_adapter_next(struct noria_adapter *adapter)
{
    return look_uncancelled(adapter, false);
}

/* -------------------------------------------------------------------------------------------------------- the verbs */

ssize_t noria_adapter_copy_out(struct noria_adapter *adapter, void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_incoming *incoming = &adapter->incoming;
    size_t len = incoming->info.size;

    if (incoming->held)
        return -EBUSY;
    if (len > capacity)
        return noria_fail(-EMSGSIZE, "the next message has %zu bytes, the buffer %zu; it stays", len, capacity);
    if (len != 0)
        memcpy(buffer, incoming->data, len);
    if (info != NULL)
        *info = incoming->info;
    return (ssize_t)len;
}

/* With the side taken. */
static ssize_t receive(struct noria_adapter *adapter, void *buffer, size_t capacity, struct noria_info *info)
{
    ssize_t len = noria_adapter_copy_out(adapter, buffer, capacity, info);

    if (len >= 0)
        noria_adapter_release_incoming(adapter, false);
    return len;
}

/* Whether `frame` is where the message that `first` begins goes on. */
static bool goes_on(const struct noria_frame *first, const struct noria_frame *frame, size_t offset)
{
    return frame->flags == 0 && frame->sender == first->sender && frame->sequence == first->sequence &&
           frame->priority == first->priority && frame->total == first->total && frame->offset == offset;
}

/* The frames of a message that stand there, one behind the other: their size; 0: not all do. */
static size_t find_parts(const struct noria_inlet *inlet, const struct noria_frame *first,
                         const struct noria_frame_limits *limits)
{
    size_t at = inlet->from, offset = 0;

    while (offset < first->total) {
        struct noria_frame frame;
        if (inlet->to - at < NORIA_FRAME_HEADER)
            return 0;
        memcpy(&frame, inlet->bytes + at, sizeof(frame));
        if (!goes_on(first, &frame, offset) || !noria_frame_is_plausible(&frame, limits) ||
            frame.length > inlet->to - at - NORIA_FRAME_HEADER)
            return 0;
        at += NORIA_FRAME_HEADER + frame.length;
        offset += frame.length;
    }
    return at - inlet->from;
}

static void copy_parts(const uint8_t *from, size_t size, uint8_t *to)
{
    const uint8_t *end = from + size;

    while (from < end) {
        struct noria_frame frame;
        memcpy(&frame, from, sizeof(frame));
        memcpy(to, from + NORIA_FRAME_HEADER, frame.length);
        from += NORIA_FRAME_HEADER + frame.length;
        to += frame.length;
    }
}

/* The expected message, which begins with that frame, is copied; its frames were so many bytes. Its length. */
NORIA_FAST_PATH ssize_t note_received(struct noria_adapter *adapter, const struct noria_frame *frame, size_t size,
                                      struct noria_info *info)
{
    if (info != NULL)
        *info = (struct noria_info){
            .size = frame->total, .priority = frame->priority, .sender = frame->sender, .sequence = frame->sequence};
    adapter->inlet->speaks = adapter->seen_sender = true;
    adapter->inlet->from += size;
    noria_adapter_count(adapter, NORIA_SIDE_RECV, 1);
    return (ssize_t)frame->total;
}

/* A message of several frames that all stand there goes into the buffer, and nowhere else before. -EAGAIN: it is none. */
static __attribute__((noinline)) ssize_t receive_parts(struct noria_adapter *adapter, const struct noria_frame *first,
                                                       void *buffer, size_t capacity, struct noria_info *info)
{
    struct noria_frame_limits limits = limits_of(adapter);
    struct noria_inlet *inlet = adapter->inlet;
    size_t size = first->total <= capacity ? find_parts(inlet, first, &limits) : 0;

    if (size == 0 || !noria_assembly_take_expected(&adapter->assembly, first))
        return -EAGAIN;
    copy_parts(inlet->bytes + inlet->from, size, buffer);
    return note_received(adapter, first, size, info);
}

/* What most receives are: the next frame stands there, is a whole message, and the one that is expected. It goes into the
 * buffer without the steps between, which are for all others. -EAGAIN: it is another. */
NORIA_FAST_PATH ssize_t receive_expected(struct noria_adapter *adapter, void *buffer, size_t capacity,
                                         struct noria_info *info)
{
    struct noria_frame_limits limits = limits_of(adapter);
    struct noria_inlet *inlet = adapter->inlet;
    struct noria_frame frame;
    const uint8_t *bytes;
    size_t there;

    if (adapter->incoming.there || inlet == NULL || inlet->to - inlet->from < NORIA_FRAME_HEADER)
        return -EAGAIN;
    bytes = inlet->bytes + inlet->from;
    there = inlet->to - inlet->from - NORIA_FRAME_HEADER;
    memcpy(&frame, bytes, sizeof(frame));
    if (frame.flags != 0 || frame.length > there || frame.length > capacity ||
        !noria_frame_is_plausible(&frame, &limits))
        return -EAGAIN;
    if (__builtin_expect(!noria_frame_is_whole(&frame), 0))
        return receive_parts(adapter, &frame, buffer, capacity, info);
    if (!noria_assembly_take_expected(&adapter->assembly, &frame))
        return -EAGAIN;
    if (frame.length != 0)
        memcpy(buffer, bytes + NORIA_FRAME_HEADER, frame.length);
    return note_received(adapter, &frame, NORIA_FRAME_HEADER + frame.length, info);
}

/*
 * A look takes the pipe's lock from who writes. One that comes too soon finds a single message, and takes its page away,
 * so that the next write begins a new one: a writer who is looked at after each of his messages takes half as long again.
 * One that comes late finds several pages, of which a pipe keeps but two for its writer. So while messages stream the next
 * look is put off until there is a page or two of them; and longer only as long as that brings more: a burst that is there
 * is not waited for. Where each look brings one message, and at once, either they come so, or they are looked for too soon:
 * which of both it is a late look tells now and then. One that finds its message only when others have failed is soon
 * enough.
 */
static void learn(struct noria_adapter *adapter)
{
    uint64_t messages = adapter->received - adapter->before_look, before = adapter->messages_brought;
    size_t bytes = adapter->bytes_brought;
    uint32_t patience = adapter->patience;
    bool raised = adapter->was_raised;

    if (messages == 0)
        return;
    adapter->before_look += messages;
    adapter->bytes_brought = 0;
    adapter->was_raised = false;
    if (messages == 1) {
        bool is_lone = bytes < ENOUGH_BROUGHT && !adapter->missed;
        patience = is_lone && ++adapter->lone_looks % PROBE_EVERY == 0 ? PROBE_PATIENCE : 0;
    } else if (raised ? messages <= before : 2 * messages < before) {
        patience /= 4;
    } else if (bytes > MOST_BROUGHT) {
        patience /= 2;
    } else if (bytes < ENOUGH_BROUGHT && patience < MOST_PATIENCE) {
        patience = patience != 0 ? 2 * patience : LEAST_PATIENCE;
        adapter->was_raised = true;
    }
    adapter->messages_brought = patience < adapter->patience ? 0 : messages; /* less is to be expected then */
    adapter->patience = patience < LEAST_PATIENCE ? 0 : patience;
}

/* With the side taken. */
static ssize_t receive_next(struct noria_adapter *adapter, void *buffer, size_t capacity, struct noria_info *info)
{
    int rc;

    learn(adapter);
    rc = look_uncancelled(adapter, true);
    if (rc == -EAGAIN) {
        adapter->misses = true;
    } else {
        adapter->missed = adapter->misses;
        adapter->misses = false;
    }
    if (rc == 1) {
        ssize_t len = receive_expected(adapter, buffer, capacity, info);
        if (len != -EAGAIN)
            return len;
        rc = noria_adapter_next(adapter);
    }
    return rc == 0 ? receive(adapter, buffer, capacity, info) : rc;
}

/* Whether a look is next, and put off. */
static bool is_early(const struct noria_adapter *adapter)
{
    const struct noria_inlet *inlet = adapter->inlet;

    return adapter->patience != 0 && !adapter->incoming.there && inlet != NULL && inlet->from == inlet->to &&
           inlet->end.kind == NORIA_END_PIPE && !inlet->keeps_boundaries;
}

NORIA_FAST_PATH ssize_t try_receive(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                                    bool waits)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    ssize_t rc = noria_adapter_hold(adapter, NORIA_SIDE_RECV);

    if (rc != 0)
        return rc;
    rc = receive_expected(adapter, buffer, capacity, info);
    if (rc == -EAGAIN && waits && is_early(adapter)) {
        uint32_t pauses = adapter->patience;
        noria_adapter_let_go(adapter, NORIA_SIDE_RECV);
        noria_adapter_pause(pauses);
        rc = noria_adapter_hold(adapter, NORIA_SIDE_RECV);
        if (rc != 0)
            return rc;
        rc = receive_expected(adapter, buffer, capacity, info); /* of another thread's look */
    }
    if (rc == -EAGAIN)
        rc = receive_next(adapter, buffer, capacity, info);
    noria_adapter_let_go(adapter, NORIA_SIDE_RECV);
    return rc;
}

ssize_t noria_adapter_recv(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info)
{
    return try_receive(channel, buffer, capacity, info, false);
}

ssize_t noria_adapter_recv_call(noria_channel *channel, void *buffer, size_t capacity, struct noria_info *info,
                                int64_t timeout_ns)
{
    uint32_t *mark;
    ssize_t rc = noria_call_begin(channel, NORIA_SIDE_RECV, false, true, &mark);

    if (__builtin_expect(rc != 0, 0))
        return rc;
    rc = try_receive(channel, buffer, capacity, info, timeout_ns != 0);
    if (__builtin_expect(rc == -EAGAIN, 0))
        return noria_recv_on(channel, buffer, capacity, info, timeout_ns, mark);
    return noria_call_end(channel, mark, rc);
}

/* Whether there is one more without a system call but those that close what an unwanted frame brought. */
static bool has_another(struct noria_adapter *adapter)
{
    if (adapter->mechanism->take != NULL)
        return noria_adapter_next(adapter) == 0;
    return adapter->incoming.there || (adapter->inlet != NULL && take_frames(adapter, adapter->inlet) == 1);
}

static int receive_many(struct noria_adapter *adapter, struct iovec *buffers, int n, struct noria_info *info)
{
    ssize_t len = 0;
    int count = 0;

    while (count < n && len >= 0) {
        struct iovec *buffer = &buffers[count];
        struct noria_info *about = info != NULL ? info + count : NULL;
        adapter->wanted = count == 0 ? (uint32_t)n : 0;
        len = receive_expected(adapter, buffer->iov_base, buffer->iov_len, about);
        if (len == -EAGAIN && count == 0)
            len = receive_next(adapter, buffer->iov_base, buffer->iov_len, about);
        else if (len == -EAGAIN && has_another(adapter))
            len = receive(adapter, buffer->iov_base, buffer->iov_len, about);
        if (len >= 0)
            buffers[count++].iov_len = (size_t)len;
    }
    if (count > 1 && adapter->mechanism->taken_many != NULL)
        adapter->mechanism->taken_many(adapter);
    adapter->wanted = 1;
    return count > 0 ? count : (int)len;
}

int noria_adapter_recv_many(noria_channel *channel, struct iovec *buffers, int n, struct noria_info *info)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_hold(adapter, NORIA_SIDE_RECV);

    if (rc != 0)
        return rc;
    rc = receive_many(adapter, buffers, n, info);
    noria_adapter_let_go(adapter, NORIA_SIDE_RECV);
    return rc;
}

/* The message stays where it lies until it is released; so only one is out. */
static int peek(struct noria_adapter *adapter, struct noria_span *span, struct noria_info *info)
{
    struct noria_incoming *incoming = &adapter->incoming;
    int rc = incoming->held ? -EBUSY : noria_adapter_next(adapter);

    if (rc != 0)
        return rc;
    incoming->held = true;
    *span = (struct noria_span){(void *)(uintptr_t)incoming->data, incoming->info.size, {++adapter->peeks, 0}};
    if (info != NULL)
        *info = incoming->info;
    return 0;
}

int noria_adapter_peek(noria_channel *channel, struct noria_span *span, struct noria_info *info)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_RECV);

    if (rc != 0)
        return rc;
    rc = peek(adapter, span, info);
    noria_adapter_unlock(adapter, NORIA_SIDE_RECV);
    return rc;
}

/* The span is over: the message is taken, or the next one again. */
static int end_peek(struct noria_adapter *adapter, const struct noria_span *span, bool taken)
{
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_RECV);

    if (rc != 0)
        return rc;
    rc = adapter->incoming.held && span->token[0] == adapter->peeks ? 0 : -EINVAL;
    if (rc == 0 && taken)
        rc = noria_adapter_release_incoming(adapter, true);
    else if (rc == 0)
        adapter->incoming.held = false;
    noria_adapter_unlock(adapter, NORIA_SIDE_RECV);
    return rc;
}

int noria_adapter_release(noria_channel *channel, struct noria_span *span)
{
    return end_peek(noria_adapter_of(channel), span, true);
}

int noria_adapter_put_back(noria_channel *channel, struct noria_span *span)
{
    return end_peek(noria_adapter_of(channel), span, false);
}
