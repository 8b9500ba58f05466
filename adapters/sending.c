/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages into frames. A message is sent when all of its frames are out of this process, or, if its caller gathers, when
 * its frame stands behind what is owed. While the last one is not, the sender can give up, and the receiver drops what it
 * has when the same or the next sequence begins. Once a part of the last frame is out, which happens only where a put may
 * take a part, the message is sent: the rest is owed, and goes first.
 */
#include <errno.h>
#include <stdlib.h>

#include "adapter.h"
#include "call.h"
#include "detail.h"
#include "frame_making.h"
#include "lending.h"
#include "side.h"

enum { MOST_LAID_TOGETHER = 6 << 10 }; /* to go without a vector: 4 KiB gain 7 %, 8 KiB nothing */
enum { PIECES = 3, MOST_BATCH = NORIA_MOST_PIECE / NORIA_FRAME_HEADER };
enum { MOST_BATCH_PIECES = 2 * NORIA_MOST_TOGETHER / NORIA_MOST_COPIED + 1 };

/* Messages that have gone nowhere: their numbers are those of the next ones, or the next receiver would miss messages
 * that nobody was told are sent. */
static void uncount(struct noria_adapter *adapter, unsigned priority, uint32_t n)
{
    adapter->sequences[priority] -= n;
    adapter->sent -= n;
}

/* Of the gathered messages those that are not wholly out. */
static uint32_t count_gathered(const struct noria_adapter *adapter)
{
    uint32_t n = 0;

    for (size_t at = adapter->owed_to - adapter->gathered; at < adapter->owed_to;) {
        struct noria_frame frame;
        memcpy(&frame, adapter->frames + at, sizeof(frame));
        at += noria_frame_size(&frame);
        n += at > adapter->owed_from;
    }
    return n;
}

static void owe_nothing(struct noria_adapter *adapter)
{
    adapter->owes_pages = false;
    adapter->owed_from = adapter->owed_to = adapter->gathered = 0;
    adapter->gathered_priority = 0;
}

/* The receiver is gone, and what was under way to it; what was gathered for it is lost. */
static int lose_receiver(struct noria_adapter *adapter, int rc)
{
    uint32_t gathered = count_gathered(adapter);

    uncount(adapter, adapter->gathered_priority, gathered);
    adapter->lost += gathered;
    owe_nothing(adapter);
    adapter->under_way = NULL;
    if (adapter->mechanism->detach != NULL)
        adapter->mechanism->detach(adapter);
    return rc;
}

NORIA_FAST_PATH ssize_t put(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority)
{
    ssize_t rc = adapter->mechanism->put(adapter, pieces, n, priority);

    if (__builtin_expect(adapter->lends, 0) && rc > 0)
        adapter->pages.put += (uint64_t)rc;
    return __builtin_expect(rc == -EPIPE, 0) ? lose_receiver(adapter, -EPIPE) : rc;
}

/* The frame of a message. */
static ssize_t put_frame_of(struct noria_adapter *adapter, const struct noria_outgoing *message,
                            const struct iovec *pieces, int n)
{
    ssize_t rc;

    if (__builtin_expect(message->fds == NULL, 1))
        return put(adapter, pieces, n, message->priority);
    rc = noria_adapter_put_fds(adapter, message, pieces, n);
    return rc == -EPIPE ? lose_receiver(adapter, -EPIPE) : rc;
}

/* What is owed of pages. Where they cannot be lent any more, each is written, of which a pipe takes all or nothing. */
static ssize_t put_pages(struct noria_adapter *adapter)
{
    struct iovec rest = {adapter->pages.bytes + adapter->owed_from, adapter->owed_to - adapter->owed_from};
    size_t to_end = adapter->page - adapter->owed_from % adapter->page;
    ssize_t rc = noria_pages_put(&adapter->pages, &adapter->out, &rest, 1);

    if (rc == -EPIPE)
        return lose_receiver(adapter, -EPIPE);
    if (rc != -ENOTSUP)
        return rc;
    rest.iov_len = rest.iov_len < to_end ? rest.iov_len : to_end;
    return put(adapter, &rest, 1, 0);
}

static ssize_t put_owed(struct noria_adapter *adapter)
{
    struct iovec rest = {adapter->frames + adapter->owed_from, adapter->owed_to - adapter->owed_from};

    return adapter->owes_pages ? put_pages(adapter) : put(adapter, &rest, 1, adapter->gathered_priority);
}

int noria_adapter_flush(struct noria_adapter *adapter)
{
    while (adapter->owed_from < adapter->owed_to) {
        ssize_t rc = put_owed(adapter);
        if (rc < 0)
            return (int)rc;
        adapter->owed_from += (size_t)rc;
    }
    owe_nothing(adapter);
    return 0;
}

/* Whether the pipe took as much as it may take of a long frame: whole pages, or those behind its incomplete one. */
static bool is_cut(const struct noria_adapter *adapter, size_t taken, size_t length)
{
    size_t size = NORIA_FRAME_HEADER + length + NORIA_FRAME_TAIL_BYTES;

    return length > adapter->most_in_frame && taken < size &&
           (taken % adapter->page == 0 || (size - taken) % adapter->page == 0);
}

/* What a put did not take of `size` bytes of pieces is laid together where frames are made. How many bytes that are. */
static size_t lay_together(struct noria_adapter *adapter, const struct iovec *pieces, size_t taken, size_t size)
{
    size_t before = 0, to = 0; /* what stood in `frames` is out: noria_adapter_get_ready saw to it */

    for (; before < size; before += pieces->iov_len, pieces++) {
        size_t end = pieces->iov_len < size - before ? pieces->iov_len : size - before;
        size_t gone = taken <= before ? 0 : taken - before < end ? taken - before : end;
        memmove(adapter->frames + to, (uint8_t *)pieces->iov_base + gone, end - gone);
        to += end - gone;
    }
    return to;
}

/* That is owed. */
static void owe(struct noria_adapter *adapter, const struct iovec *pieces, size_t taken, size_t size)
{
    adapter->owed_to = lay_together(adapter, pieces, taken, size);
    adapter->owed_from = 0;
}

/* A frame whose bytes stand in up to three places; what a put does not take of them is copied, and owed, or, of a frame
 * that was cut, is none of its any more. How many bytes of the message are out or owed. */
static __attribute__((noinline)) ssize_t put_in_place(struct noria_adapter *adapter, const struct noria_outgoing *message,
                                                      size_t length)
{
    struct noria_frame frame = noria_frame_of(adapter, message, length, adapter->sequences[message->priority]);
    uint8_t header[NORIA_FRAME_HEADER];
    uint32_t tail;
    struct iovec pieces[PIECES] = {{header, sizeof(header)},
                                   {(void *)(uintptr_t)(message->data + message->offset), length},
                                   {&tail, noria_frame_has_tail(&frame) ? sizeof(tail) : 0}};
    size_t size = noria_frame_size(&frame);
    int n = noria_frame_has_tail(&frame) ? PIECES : PIECES - 1;
    ssize_t taken;

    noria_frame_seal(&frame, header);
    tail = (frame.flags & NORIA_FRAME_CRC) != 0 ? noria_frame_crc_of(header, pieces[1].iov_base, length) : noria_frame_tail(&frame);
    if (adapter->out.is_promised && size <= MOST_LAID_TOGETHER) {
        pieces[0] = (struct iovec){adapter->frames, lay_together(adapter, pieces, 0, size)};
        n = 1;
    }
    taken = put_frame_of(adapter, message, pieces, n);
    if (taken < 0)
        return taken;
    if (is_cut(adapter, (size_t)taken, length))
        return taken - NORIA_FRAME_HEADER;
    owe(adapter, pieces, (size_t)taken, size);
    return (ssize_t)length;
}

NORIA_FAST_PATH ssize_t put_copied(struct noria_adapter *adapter, const struct noria_outgoing *message, size_t length)
{
    struct iovec piece = {adapter->frames,
                          noria_frame_make(adapter, message, length, adapter->sequences[message->priority], adapter->frames)};
    ssize_t taken = put_frame_of(adapter, message, &piece, 1);

    if (taken < 0)
        return taken;
    adapter->owed_from = (size_t)taken;
    adapter->owed_to = piece.iov_len;
    return (ssize_t)length;
}

/* How many bytes of the message the next frame takes: into a pipe a long one goes in one write, unless a part of it
 * could be taken for something else. */
static size_t length_of_frame(struct noria_adapter *adapter, const struct noria_outgoing *message)
{
    size_t left = message->len - message->offset, most = adapter->most_in_frame, stretched;
    struct noria_frame frame;

    if (left <= most || adapter->stretch == 0)
        return left < most ? left : most;
    stretched = adapter->stretch - NORIA_FRAME_HEADER - NORIA_FRAME_TAIL_BYTES;
    stretched = left < stretched ? left : stretched;
    frame = noria_frame_of(adapter, message, stretched, 0);
    return noria_frame_is_ambiguous(&frame, message->data + message->offset, adapter->page) ? most : stretched;
}

/* So much of the message has gone in the frame that was put; or why it has not. */
NORIA_FAST_PATH int note_gone(struct noria_adapter *adapter, struct noria_outgoing *message, ssize_t gone)
{
    if (__builtin_expect(gone < 0, 0))
        return (int)gone;
    message->offset += (size_t)gone;
    message->last_is_out = message->offset == message->len;
    if (message->last_is_out) {
        message->sequence = adapter->sequences[message->priority]++;
        noria_adapter_count(adapter, NORIA_SIDE_SEND, 1);
    }
    adapter->under_way = message->last_is_out ? NULL : message;
    return 0;
}

/* The next frame of a message. 0: it is out, as much of it as fits, or the rest of it is owed. */
static int put_frame(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    size_t length = length_of_frame(adapter, message);
    ssize_t gone = length <= adapter->most_copied ? put_copied(adapter, message, length)
                                                  : put_in_place(adapter, message, length);

    return note_gone(adapter, message, gone);
}

/* Whether a message goes in one frame that is copied, and nothing is to be seen to before: most do. */
NORIA_FAST_PATH bool goes_at_once(const struct noria_adapter *adapter, const struct noria_outgoing *message)
{
    return message->len <= adapter->most_copied && message->offset == 0 && !message->last_is_out && adapter->attached &&
           !adapter->owes_news && adapter->under_way == NULL && adapter->owed_from == adapter->owed_to &&
           adapter->mechanism->give == NULL && adapter->mechanism->deal == NULL && message->fds == NULL;
}

/* Who connects says at once that he is no stranger: his first message may come much later. It is owed as the rest of a
 * message would be. */
static void introduce(struct noria_adapter *adapter)
{
    noria_frame_greet(adapter->sender, NORIA_FRAME_SENDER, 0, adapter->frames);
    adapter->owed_from = 0;
    adapter->owed_to = NORIA_FRAME_HELLO_BYTES;
}

static int attach(struct noria_adapter *adapter)
{
    int rc = adapter->mechanism->attach(adapter);

    if (rc != 0)
        return rc;
    adapter->attached = adapter->was_attached = true;
    if (adapter->mechanism->drops_strangers)
        introduce(adapter);
    return 0;
}

int noria_adapter_get_ready(struct noria_adapter *adapter)
{
    int rc = adapter->attached ? 0 : attach(adapter);

    return rc == 0 && adapter->owed_from < adapter->owed_to ? noria_adapter_flush(adapter) : rc;
}

/* A receiver that has gone is told of once: by the next call, if it went when one had sent a part of its messages. */
static int begin_to_send(struct noria_adapter *adapter)
{
    int rc = adapter->owes_news ? -EPIPE : noria_adapter_get_ready(adapter);

    adapter->owes_news = false;
    return rc;
}

static int give(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    int rc = adapter->mechanism->give(adapter, message);

    adapter->under_way = rc == -EAGAIN ? message : NULL;
    message->last_is_out = rc == 0;
    noria_adapter_count(adapter, NORIA_SIDE_SEND, rc == 0);
    return rc;
}

int noria_adapter_put_message(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    int rc = 0;

    while (rc == 0 && !message->last_is_out) {
        rc = put_frame(adapter, message);
        if (rc == 0 && adapter->owed_from < adapter->owed_to)
            rc = noria_adapter_flush(adapter);
    }
    return rc;
}

static __attribute__((noinline)) int send_all_frames(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    int rc;

    if (adapter->mechanism->deal != NULL)
        return adapter->mechanism->deal(adapter, message);
    if (adapter->under_way != NULL && adapter->under_way != message)
        return -EAGAIN; /* another thread's */
    if (adapter->mechanism->give != NULL)
        return give(adapter, message);
    rc = begin_to_send(adapter);
    if (rc == 0 && message->offset != 0 && adapter->under_way == NULL && !message->last_is_out)
        message->offset = 0; /* its receiver was lost: from the beginning, for another one */
    return rc == 0 ? noria_adapter_put_message(adapter, message) : rc;
}

NORIA_FAST_PATH int send_frames(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    int rc;

    if (__builtin_expect(!goes_at_once(adapter, message), 0))
        return send_all_frames(adapter, message);
    rc = note_gone(adapter, message, put_copied(adapter, message, message->len));
    if (rc == 0 && __builtin_expect(adapter->owed_from < adapter->owed_to, 0))
        rc = noria_adapter_flush(adapter);
    return rc;
}

/* The last message's receiver has gone with a part of it. Not if another thread has sent one behind it: then all of it was
 * out. */
static void take_back(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    if (adapter->sequences[message->priority] != message->sequence + 1)
        return;
    uncount(adapter, message->priority, 1);
    message->last_is_out = false;
}

/* The call is over: what is begun and not to be finished is given up. What is wholly out, or owed, is sent, whatever
 * the last step met; only if its receiver has gone it is not. */
static int finish(struct noria_adapter *adapter, struct noria_outgoing *message, int rc)
{
    if (adapter->under_way == message && adapter->mechanism->give_up != NULL)
        rc = adapter->mechanism->give_up(adapter, message, rc);
    if (adapter->under_way == message)
        adapter->under_way = NULL;
    if (message->last_is_out && rc == -EPIPE)
        take_back(adapter, message);
    return message->last_is_out ? 0 : rc;
}

/* -------------------------------------------------------------------------------------------------------- the verbs */

NORIA_FAST_PATH ssize_t try_to_send(noria_channel *channel, struct noria_outgoing *message)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc, cancels;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    rc = noria_adapter_hold(adapter, NORIA_SIDE_SEND);
    if (__builtin_expect(rc == 0, 1)) {
        rc = adapter->is_reserved ? -EBUSY : send_frames(adapter, message);
        if (__builtin_expect(rc != 0 && rc != -EAGAIN, 0)) /* a call that ends in its first try has no other end */
            rc = finish(adapter, message, rc);
        noria_adapter_let_go(adapter, NORIA_SIDE_SEND);
    }
    pthread_setcancelstate(cancels, NULL);
    return rc;
}

static ssize_t try_message(noria_channel *channel, void *arguments)
{
    return try_to_send(channel, arguments);
}

static ssize_t end_message(noria_channel *channel, void *arguments, ssize_t rc)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);

    if (noria_adapter_lock(adapter, NORIA_SIDE_SEND) != 0)
        return rc;
    rc = finish(adapter, arguments, (int)rc);
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}

int noria_adapter_send_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    return noria_adapter_send_origin(channel, data, len, priority, NULL, timeout_ns);
}

static __attribute__((noinline)) int send_on(noria_channel *channel, struct noria_outgoing *message, int64_t timeout_ns,
                                             uint32_t *mark)
{
    ssize_t rc = noria_call_on(channel, NORIA_SIDE_SEND, timeout_ns,
                               &(struct noria_attempt){try_message, message, true, 1, end_message}, mark);

    return rc < 0 ? (int)rc : 0; /* sent, or dropped */
}

NORIA_FAST_PATH int send_message(noria_channel *channel, struct noria_outgoing *message, int64_t timeout_ns)
{
    uint32_t *mark;
    ssize_t rc = noria_call_begin(channel, NORIA_SIDE_SEND, false, true, &mark);

    if (__builtin_expect(rc != 0, 0))
        return (int)rc;
    rc = try_to_send(channel, message);
    if (__builtin_expect(rc == -EAGAIN, 0))
        return send_on(channel, message, timeout_ns, mark);
    return (int)noria_call_end(channel, mark, rc);
}

int noria_adapter_send_origin(noria_channel *channel, const void *data, size_t len, unsigned priority,
                              const struct noria_origin *origin, int64_t timeout_ns)
{
    struct noria_outgoing message = {.data = data, .len = len, .priority = priority, .origin = origin};

    return send_message(channel, &message, timeout_ns);
}

int noria_adapter_send_fds(noria_channel *channel, const void *data, size_t len, const int *fds, int n,
                           int64_t timeout_ns)
{
    struct noria_outgoing message = {.data = data, .len = len, .fds = fds, .fd_count = n};

    if (noria_adapter_of(channel)->most_fds == 0)
        return noria_adapter_refuse_fds(noria_adapter_of(channel));
    if (len > noria_adapter_of(channel)->most_in_frame)
        return noria_fail(-EMSGSIZE, "a message with descriptors goes in one frame, of up to %llu bytes here; this one has %zu",
                          (unsigned long long)noria_adapter_of(channel)->most_in_frame, len);
    return send_message(channel, &message, timeout_ns);
}

int noria_adapter_send(noria_channel *channel, const void *data, size_t len, unsigned priority)
{
    struct noria_outgoing message = {.data = data, .len = len, .priority = priority};
    ssize_t rc = try_message(channel, &message);

    return (int)(rc != 0 ? end_message(channel, &message, rc) : rc);
}

/* ------------------------------------------------------------------------------------------------ gathering, flushing */

/* Whether something is owed, and the message can stand behind it: all of that is one put. */
static bool goes_behind(const struct noria_adapter *adapter, const struct noria_outgoing *message)
{
    return adapter->owed_from < adapter->owed_to && !adapter->owes_pages &&
           message->len + adapter->owed_to <= adapter->most_in_frame &&
           message->priority == adapter->gathered_priority;
}

static void append(struct noria_adapter *adapter, const struct noria_outgoing *message)
{
    size_t size = noria_frame_make(adapter, message, message->len, adapter->sequences[message->priority]++,
                             adapter->frames + adapter->owed_to);

    adapter->owed_to += size;
    adapter->gathered += size;
    adapter->gathered_priority = message->priority;
    noria_adapter_count(adapter, NORIA_SIDE_SEND, 1);
}

static int gather(struct noria_adapter *adapter, struct noria_outgoing *message)
{
    int rc = 0;

    if (adapter->under_way != NULL)
        return -EAGAIN; /* another thread's, of which more frames come */
    if (adapter->owes_news || !adapter->attached)
        rc = begin_to_send(adapter);
    if (rc == 0 && !goes_behind(adapter, message))
        rc = noria_adapter_flush(adapter); /* and it stands at the beginning */
    if (rc == 0)
        append(adapter, message);
    return rc;
}

static ssize_t try_gather(noria_channel *channel, void *arguments)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc != 0)
        return rc;
    rc = adapter->is_reserved ? -EBUSY : gather(adapter, arguments);
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}

int noria_adapter_gather_call(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns)
{
    struct noria_outgoing message = {.data = data, .len = len, .priority = priority};
    ssize_t rc;

    if (len > noria_adapter_of(channel)->most_in_frame || noria_adapter_of(channel)->mechanism->deal != NULL)
        return noria_adapter_send_call(channel, data, len, priority, timeout_ns);
    rc = noria_call(channel, NORIA_SIDE_SEND, timeout_ns, &(struct noria_attempt){try_gather, &message, true, 1, NULL});
    return rc < 0 ? (int)rc : 0;
}

/* What an earlier call has left, of whatever it was. */
static int flush(struct noria_adapter *adapter)
{
    if (adapter->owes_news)
        return begin_to_send(adapter);
    if (adapter->mechanism->settle != NULL)
        return adapter->mechanism->settle(adapter);
    return noria_adapter_flush(adapter);
}

static ssize_t try_flush(noria_channel *channel, void *arguments)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    (void)arguments;
    if (rc != 0)
        return rc;
    rc = flush(adapter);
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}

int noria_adapter_flush_call(noria_channel *channel, int64_t timeout_ns)
{
    return (int)noria_call(channel, NORIA_SIDE_SEND, timeout_ns,
                           &(struct noria_attempt){try_flush, NULL, false, 0, NULL});
}

/* ----------------------------------------------------------------------------------------------------------- batches */

/* Messages that go out in one put. Headers, tails and short messages stand in `frames`, behind where what is owed will
 * stand; long ones where they are. */
struct batch {
    int count, n; /* messages, pieces */
    size_t size, copied;
    struct iovec pieces[MOST_BATCH_PIECES];
};

static void add_piece(struct batch *batch, const uint8_t *bytes, size_t len)
{
    batch->size += len;
    noria_piece_add(batch->pieces, &batch->n, bytes, len);
}

/* The message's frame, with its payload where it lies. How many bytes of it are made. */
static size_t add_in_place(struct noria_adapter *adapter, struct batch *batch, const struct noria_outgoing *message,
                           uint64_t sequence, uint8_t *to)
{
    uint32_t crc;

    noria_frame_head(adapter, message, message->len, sequence, to);
    add_piece(batch, to, NORIA_FRAME_HEADER);
    add_piece(batch, message->data, message->len);
    if (adapter->crc == 0)
        return NORIA_FRAME_HEADER;
    crc = noria_frame_crc_of(to, message->data, message->len);
    memcpy(to + NORIA_FRAME_HEADER, &crc, sizeof(crc));
    add_piece(batch, to + NORIA_FRAME_HEADER, sizeof(crc));
    return NORIA_FRAME_HEADER + sizeof(crc);
}

/* Into a pipe a write without a vector is the cheaper one, also for what goes alone: as of a single message. */
static bool copies_in_batch(const struct noria_adapter *adapter, size_t len)
{
    return adapter->mechanism->in_one_piece || len <= NORIA_MOST_COPIED ||
           (adapter->stretch != 0 && len <= adapter->most_copied);
}

/* Where a batch's frames are made. What goes in one piece leaves nothing owed, and may have to stand at the beginning. */
static uint8_t *place_of_batch(const struct noria_adapter *adapter)
{
    return adapter->frames + (adapter->mechanism->in_one_piece ? 0 : NORIA_MOST_PIECE);
}

static void add_message(struct noria_adapter *adapter, struct batch *batch, const struct noria_outgoing *message)
{
    uint64_t sequence = adapter->sequences[0] + (uint64_t)batch->count;
    uint8_t *to = place_of_batch(adapter) + batch->copied;

    if (copies_in_batch(adapter, message->len)) {
        size_t made = noria_frame_make(adapter, message, message->len, sequence, to);
        add_piece(batch, to, made);
        batch->copied += made;
    } else {
        batch->copied += add_in_place(adapter, batch, message, sequence, to);
    }
    batch->count++;
}

/* As many of the messages as fit into one put. */
static void make_batch(struct noria_adapter *adapter, struct batch *batch, const struct iovec *messages, int n)
{
    size_t around = noria_frame_around(adapter);

    batch->count = batch->n = 0;
    batch->size = batch->copied = 0;
    while (batch->count < n && batch->count < MOST_BATCH) {
        const struct iovec *each = &messages[batch->count];
        size_t made = around + (copies_in_batch(adapter, each->iov_len) ? each->iov_len : 0);
        if (each->iov_len > adapter->most_in_frame || batch->size + around + each->iov_len > adapter->together ||
            batch->copied + made > NORIA_MOST_PIECE)
            break;
        add_message(adapter, batch, &(struct noria_outgoing){.data = each->iov_base, .len = each->iov_len});
    }
}

/* The same by pages. -ENOTSUP: as if there were none. */
static int lend_batch(struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    int gone = noria_adapter_lend(adapter, messages, n);

    return gone == -EPIPE ? lose_receiver(adapter, -EPIPE) : gone;
}

/* One put of a batch. How many messages went, of the last one perhaps a part. */
static int put_batch(struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    struct batch batch;
    size_t end = 0; /* of the frames that went */
    ssize_t taken;
    int gone = 0;

    make_batch(adapter, &batch, messages, n);
    if (batch.count == 0)
        return 0;
    taken = put(adapter, batch.pieces, batch.n, 0);
    if (taken < 0)
        return (int)taken;
    while (gone < batch.count && end < (size_t)taken)
        end += noria_frame_around(adapter) + messages[gone++].iov_len;
    owe(adapter, batch.pieces, (size_t)taken, end);
    return gone;
}

int noria_adapter_put_batch(struct noria_adapter *adapter, const struct iovec *messages, int n, int *sent)
{
    int rc = adapter->lends ? lend_batch(adapter, messages, n) : -ENOTSUP;

    if (rc == -ENOTSUP)
        rc = put_batch(adapter, messages, n);
    if (rc <= 0)
        return rc < 0 ? rc : -EMSGSIZE; /* the next one goes by itself */
    adapter->sequences[0] += (uint64_t)rc;
    noria_adapter_count(adapter, NORIA_SIDE_SEND, (uint32_t)rc);
    *sent += rc;
    rc = adapter->owed_from < adapter->owed_to ? noria_adapter_flush(adapter) : 0;
    if (rc == -EPIPE) {
        uncount(adapter, 0, 1);
        (*sent)--;
    }
    return rc;
}

/* A batch whose receiver goes in the middle tells first how many went. */
static int end_batches(struct noria_adapter *adapter, int sent, int rc)
{
    adapter->owes_news = sent > 0 && rc == -EPIPE;
    return sent > 0 ? sent : rc;
}

static int send_batches(struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    int sent = 0, rc;

    if (adapter->mechanism->deal_many != NULL)
        return adapter->mechanism->deal_many(adapter, messages, n);
    if (adapter->under_way != NULL)
        return -EAGAIN;
    rc = begin_to_send(adapter);
    while (rc == 0 && sent < n)
        rc = noria_adapter_put_batch(adapter, messages + sent, n - sent, &sent);
    return end_batches(adapter, sent, rc);
}

/* A call that sends a batch; once some of it is sent, only the rest of the last one of these may be left to do. */
struct batch_call {
    const struct iovec *messages;
    int n, sent;
    uint64_t next; /* sequence, behind those */
    bool goes_alone; /* the first one does */
    struct noria_outgoing message;
};

/* Whether nothing is left of the last one: something of others' has gone behind it, or nothing is owed. Gathered messages
 * may stand behind what is. */
static bool is_out(const struct noria_adapter *adapter, const struct batch_call *call)
{
    return adapter->owed_from == adapter->owed_to || adapter->under_way != NULL ||
           (adapter->gathered == 0 && adapter->sequences[0] != call->next);
}

/* If another thread has found the receiver gone, the last one is not sent either. */
static int send_rest(struct noria_adapter *adapter, struct batch_call *call)
{
    int rc = adapter->owes_news ? -EPIPE : is_out(adapter, call) ? 0 : noria_adapter_flush(adapter);

    if (rc == -EPIPE && adapter->sequences[0] == call->next) {
        uncount(adapter, 0, 1);
        call->sent--;
    }
    if (rc == -EPIPE)
        return end_batches(adapter, call->sent, rc);
    return rc == -EAGAIN ? rc : call->sent;
}

static int send_batch(struct noria_adapter *adapter, struct batch_call *call)
{
    int rc;

    if (call->sent > 0)
        return send_rest(adapter, call);
    if (adapter->is_reserved)
        return -EBUSY;
    rc = send_batches(adapter, call->messages, call->n);
    if (rc <= 0 || adapter->mechanism->deal_many != NULL || adapter->owes_news || adapter->owed_from == adapter->owed_to)
        return rc;
    call->sent = rc;
    call->next = adapter->sequences[0];
    return -EAGAIN;
}

static ssize_t try_batch(noria_channel *channel, void *arguments)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    struct batch_call *call = arguments;
    ssize_t rc = call->goes_alone ? -EMSGSIZE : noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc == 0) {
        rc = send_batch(adapter, call);
        noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    }
    if (rc != -EMSGSIZE)
        return rc;
    call->goes_alone = true;
    rc = try_to_send(channel, &call->message);
    return rc == 0 ? 1 : rc;
}

/* The rest of the last one, if there is time no more, is owed. */
static ssize_t end_batch(noria_channel *channel, void *arguments, ssize_t rc)
{
    struct batch_call *call = arguments;

    if (call->sent > 0)
        return call->sent;
    if (!call->goes_alone)
        return rc;
    rc = end_message(channel, &call->message, rc);
    return rc == 0 ? 1 : rc;
}

int noria_adapter_send_many_call(noria_channel *channel, const struct iovec *messages, int n, int drops, int64_t timeout_ns)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    struct batch_call call = {
        .messages = messages, .n = n, .message = {.data = messages[0].iov_base, .len = messages[0].iov_len}};

    call.goes_alone = messages[0].iov_len > adapter->most_in_frame && !noria_adapter_lends(adapter, messages, n);
    return (int)noria_call(channel, NORIA_SIDE_SEND, timeout_ns,
                           &(struct noria_attempt){try_batch, &call, true, call.goes_alone ? 1 : drops, end_batch});
}

/* ------------------------------------------------------------------- zero copy as it looks, with one copy as it is */

static bool is_ours(const struct noria_adapter *adapter, const struct noria_span *span)
{
    return adapter->is_reserved && span->token[0] == adapter->reservation;
}

static int make_reservation(struct noria_adapter *adapter, size_t max_len, struct noria_span *span)
{
    if (adapter->is_reserved)
        return -EBUSY;
    if (adapter->reserved == NULL)
        adapter->reserved = malloc(adapter->base.max_message != 0 ? adapter->base.max_message : 1);
    if (adapter->reserved == NULL)
        return noria_fail(-ENOMEM, "out of memory for a message of %llu bytes",
                          (unsigned long long)adapter->base.max_message);
    adapter->is_reserved = true;
    adapter->committing = (struct noria_outgoing){.data = adapter->reserved};
    *span = (struct noria_span){adapter->reserved, max_len, {++adapter->reservation, 0}};
    return 0;
}

int noria_adapter_reserve(noria_channel *channel, size_t max_len, struct noria_span *span)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc != 0)
        return rc;
    rc = make_reservation(adapter, max_len, span);
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}

/* A commit that found no room may be tried again, and goes on where it was. */
static int commit(struct noria_adapter *adapter, size_t len)
{
    struct noria_outgoing *message = &adapter->committing;
    int rc;

    if (message->offset != 0 && message->len != len)
        return noria_fail(-EINVAL, "%zu bytes of the message were to be committed, now %zu", message->len, len);
    message->len = len;
    rc = send_frames(adapter, message);
    if (message->last_is_out)
        rc = finish(adapter, message, rc);
    if (rc == 0)
        adapter->is_reserved = false;
    if (rc == -EPIPE) { /* for the next receiver it begins anew, also if all of it was out */
        message->offset = 0;
        message->last_is_out = false;
    }
    return rc;
}

int noria_adapter_commit(noria_channel *channel, struct noria_span *span, size_t len)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc != 0)
        return rc;
    rc = is_ours(adapter, span) ? commit(adapter, len) : -EINVAL;
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}

int noria_adapter_abort(noria_channel *channel, struct noria_span *span)
{
    struct noria_adapter *adapter = noria_adapter_of(channel);
    int rc = noria_adapter_lock(adapter, NORIA_SIDE_SEND);

    if (rc != 0)
        return rc;
    rc = is_ours(adapter, span) ? 0 : -EINVAL;
    if (rc == 0) {
        finish(adapter, &adapter->committing, 0);
        adapter->is_reserved = false;
    }
    noria_adapter_unlock(adapter, NORIA_SIDE_SEND);
    return rc;
}
