/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames are laid into pages so that none reaches over a page's end: a message goes on in the next page with its next
 * frame. A pipe takes whole pages, so it takes whole frames, and other writers' never come into the middle of one.
 */
#include "lending.h"

#include <errno.h>

#include "frame_making.h"

enum { LEAST_LENT = 16 << 10 }; /* bytes of a batch: less is as soon written */
enum { LEAST_PART = 512 };      /* of a message: a shorter rest of a page is left empty */
enum { MOST_OF_MESSAGE = 128 << 10, MOST_MESSAGES = 512 };

struct layout {
    uint8_t *at, *end; /* where the next frame is laid; the first message up to here, */
    uint8_t *soft_end; /* others up to here */
    int count, n; /* messages, pieces */
    size_t size;  /* of all frames */
    struct iovec pieces[NORIA_MOST_LENT];
    struct {
        uint8_t *end; /* where its last frame ends, */
        size_t size;  /* and of all frames up to that */
    } laid[MOST_MESSAGES];
};

static size_t room_in_page(const struct noria_adapter *adapter, const struct layout *layout)
{
    return adapter->page - (size_t)((uintptr_t)layout->at % adapter->page);
}

/* Whether the message fits for certain: of each page a header goes off, of the first one perhaps all. */
static bool fits(const struct noria_adapter *adapter, const struct layout *layout, size_t len)
{
    size_t around = noria_frame_around(adapter), most = adapter->most_in_frame;
    const uint8_t *end = layout->count == 0 ? layout->end : layout->soft_end;

    return len <= MOST_OF_MESSAGE && layout->at < end &&
           (len / most + 2) * around + len + LEAST_PART + around <= (size_t)(end - layout->at);
}

static void add_frame(struct layout *layout, size_t size)
{
    noria_piece_add(layout->pieces, &layout->n, layout->at, size);
    layout->at += size;
    layout->size += size;
}

static void lay(const struct noria_adapter *adapter, struct layout *layout, const struct iovec *each)
{
    struct noria_outgoing message = {.data = each->iov_base, .len = each->iov_len};
    uint64_t sequence = adapter->sequences[0] + (uint64_t)layout->count;
    size_t around = noria_frame_around(adapter), most = adapter->most_in_frame;

    do {
        size_t left = message.len - message.offset, room = room_in_page(adapter, layout);
        size_t length;
        if (around + left > room && room < around + LEAST_PART) {
            layout->at += room;
            room = adapter->page;
        }
        length = room - around < most ? room - around : most;
        length = left < length ? left : length;
        add_frame(layout, noria_frame_make(adapter, &message, length, sequence, layout->at));
        message.offset += length;
    } while (message.offset < message.len);
    layout->laid[layout->count].end = layout->at;
    layout->laid[layout->count++].size = layout->size;
}

bool noria_adapter_lends(const struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    size_t size = 0;

    if (adapter->options.reader_copies == 0 || !adapter->mechanism->may_lend)
        return false;
    for (int i = 0; i < n && size < LEAST_LENT && messages[i].iov_len <= MOST_OF_MESSAGE; i++)
        size += messages[i].iov_len;
    return size >= LEAST_LENT;
}

int noria_adapter_lend(struct noria_adapter *adapter, const struct iovec *messages, int n)
{
    struct layout layout;
    ssize_t taken;
    int gone = 0, room;

    layout.count = layout.n = 0;
    layout.size = 0;
    room = noria_adapter_lends(adapter, messages, n) ? noria_pages_take(&adapter->pages, &adapter->out, &layout.at)
                                                     : -ENOTSUP;
    if (room < 0)
        return room;
    layout.end = layout.at + (size_t)NORIA_MOST_LENT * adapter->page;
    layout.soft_end = layout.at + (size_t)room * adapter->page;
    while (layout.count < n && layout.count < MOST_MESSAGES && fits(adapter, &layout, messages[layout.count].iov_len))
        lay(adapter, &layout, &messages[layout.count]);
    if (layout.count == 0)
        return -ENOTSUP;
    taken = noria_pages_put(&adapter->pages, &adapter->out, layout.pieces, layout.n);
    if (taken < 0) {
        adapter->lends = taken != -ENOTSUP;
        return (int)taken;
    }
    while (gone < layout.count && (gone == 0 || layout.laid[gone - 1].size < (size_t)taken))
        gone++;
    adapter->owed_to = (size_t)(layout.laid[gone - 1].end - adapter->pages.bytes);
    adapter->owed_from = adapter->owed_to - (layout.laid[gone - 1].size - (size_t)taken);
    adapter->owes_pages = adapter->owed_from < adapter->owed_to;
    return gone;
}
