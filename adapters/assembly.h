/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a receiver remembers of each sender: which message comes next, and the message that is just coming in several
 * frames. Of bounded size, whatever comes in: so many senders, so many bytes of unfinished messages; what is over is
 * forgotten, the oldest first.
 */
#ifndef NORIA_ASSEMBLY_H
#define NORIA_ASSEMBLY_H

#include "frame.h"

enum { NORIA_MOST_SENDERS = 1024 };

struct noria_assembly_sender {
    uint32_t number;
    uint8_t priority; /* each level of a sender counts for itself: a queue gives a higher one first */
    bool known;
    uint64_t next;    /* sequence of the message after the last one that came */
    uint64_t coming;  /* sequence of the one that is just coming */
    uint64_t used;    /* when, by the assembly's clock */
    uint8_t *message; /* NULL: none is coming */
    uint32_t total, got;
    const void *source; /* through which it comes */
};

struct noria_assembly {
    struct noria_assembly_sender *senders; /* a table by hash, grown up to NORIA_MOST_SENDERS */
    uint32_t size, count;
    uint64_t clock;
    uint64_t bytes, most_bytes;         /* of unfinished messages */
    struct noria_assembly_sender *last; /* the sender of the last frame: most often of the next one, too */
};

/* What a frame did. */
enum noria_assembly_result {
    NORIA_ASSEMBLY_MORE,  /* the message goes on, or the frame was of one that is given up */
    NORIA_ASSEMBLY_WHOLE, /* the message is the frame itself */
    NORIA_ASSEMBLY_DONE,  /* the message is complete: *message, which is now the caller's to free */
};

/*
 * Takes a frame that was parsed. *lost: messages of the sender that are missing before this one, told with WHOLE and
 * DONE. -EBADMSG: the frame comes twice or late. -ENOMEM, after which the frame may come again.
 */
int noria_assembly_take(struct noria_assembly *assembly, const struct noria_frame *frame, const uint8_t *payload,
                        const void *source, uint8_t **message, uint64_t *lost);

/* Takes a message that is whole in the frame, or in it and those behind it, if it is the one that is expected, as take would:
 * most are. Whether it is that. */
static inline bool noria_assembly_take_expected(struct noria_assembly *assembly, const struct noria_frame *frame)
{
    struct noria_assembly_sender *sender = assembly->last;

    if (sender == NULL || sender->number != frame->sender || sender->priority != frame->priority ||
        sender->next != frame->sequence || sender->message != NULL)
        return false;
    sender->used = ++assembly->clock;
    sender->next++;
    return true;
}

/* Nothing more comes from there: gives up what was unfinished. How many messages. */
uint32_t noria_assembly_end_source(struct noria_assembly *assembly, const void *source);

void noria_assembly_free(struct noria_assembly *assembly);

#endif
