/* SPDX-License-Identifier: BSD-2-Clause */
#include "assembly.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_SIZE = 16 };

/* Linear probing; the table is at most half full, so there is always a free place. */
static struct noria_assembly_sender *place_of(struct noria_assembly_sender *table, uint32_t size, uint32_t number,
                                              uint8_t priority)
{
    uint32_t at = (number + priority) * UINT32_C(0x9e3779b1) & (size - 1);

    while (table[at].known && (table[at].number != number || table[at].priority != priority))
        at = (at + 1) & (size - 1);
    return &table[at];
}

static void give_up(struct noria_assembly *assembly, struct noria_assembly_sender *sender)
{
    if (sender->message == NULL)
        return;
    assembly->bytes -= sender->total;
    free(sender->message);
    sender->message = NULL;
}

/* Puts all but `without` into a table of the given size. 0, -ENOMEM. */
static int rebuild(struct noria_assembly *assembly, uint32_t size, const struct noria_assembly_sender *without)
{
    struct noria_assembly_sender *table = calloc(size, sizeof(*table));

    if (table == NULL)
        return -ENOMEM;
    assembly->count = 0;
    for (uint32_t i = 0; i < assembly->size; i++)
        if (assembly->senders[i].known && &assembly->senders[i] != without) {
            *place_of(table, size, assembly->senders[i].number, assembly->senders[i].priority) = assembly->senders[i];
            assembly->count++;
        }
    free(assembly->senders);
    assembly->senders = table;
    assembly->size = size;
    assembly->last = NULL;
    return 0;
}

static struct noria_assembly_sender *oldest(struct noria_assembly *assembly, bool unfinished)
{
    struct noria_assembly_sender *found = NULL;

    for (uint32_t i = 0; i < assembly->size; i++) {
        struct noria_assembly_sender *each = &assembly->senders[i];
        if (each->known && (!unfinished || each->message != NULL) && (found == NULL || each->used < found->used))
            found = each;
    }
    return found;
}

static int make_room(struct noria_assembly *assembly)
{
    struct noria_assembly_sender *old = NULL;

    if (assembly->size == 0)
        return rebuild(assembly, FIRST_SIZE, NULL);
    if (assembly->count * 2 < assembly->size)
        return 0;
    if (assembly->size < 2 * NORIA_MOST_SENDERS)
        return rebuild(assembly, assembly->size * 2, NULL);
    old = oldest(assembly, false);
    give_up(assembly, old);
    return rebuild(assembly, assembly->size, old);
}

/* The sender's place; made if it is new. NULL: no memory. */
static struct noria_assembly_sender *find(struct noria_assembly *assembly, uint32_t number, uint8_t priority)
{
    struct noria_assembly_sender *sender = assembly->last;

    if (sender != NULL && sender->number == number && sender->priority == priority)
        return sender;
    sender = assembly->size != 0 ? place_of(assembly->senders, assembly->size, number, priority) : NULL;
    if (sender == NULL || !sender->known) {
        if (make_room(assembly) != 0)
            return NULL;
        sender = place_of(assembly->senders, assembly->size, number, priority);
        *sender = (struct noria_assembly_sender){.number = number, .priority = priority, .known = true};
        assembly->count++;
    }
    assembly->last = sender;
    return sender;
}

/* The message is complete: the next one is expected. How many were missing before it. */
static uint64_t advance(struct noria_assembly_sender *sender, uint64_t sequence)
{
    uint64_t lost = sequence - sender->next;

    sender->next = sequence + 1;
    return lost;
}

static int begin(struct noria_assembly *assembly, struct noria_assembly_sender *sender, const struct noria_frame *frame,
                 const void *source)
{
    while (assembly->bytes != 0 && assembly->bytes + frame->total > assembly->most_bytes)
        give_up(assembly, oldest(assembly, true));
    sender->message = malloc(frame->total);
    if (sender->message == NULL)
        return -ENOMEM;
    assembly->bytes += frame->total;
    sender->total = frame->total;
    sender->source = source;
    sender->got = 0;
    return 0;
}

/* A piece of a message. Pieces come in order; a message whose first piece was missed is not put together. */
static int add(struct noria_assembly *assembly, struct noria_assembly_sender *sender, const struct noria_frame *frame,
               const uint8_t *payload, const void *source, uint8_t **message)
{
    int rc = 0;

    if (frame->offset == 0) {
        give_up(assembly, sender); /* its sender gave it up, too, and begins it, or another one, anew */
        rc = begin(assembly, sender, frame, source);
    }
    if (rc != 0 || sender->message == NULL)
        return rc != 0 ? rc : NORIA_ASSEMBLY_MORE;
    if (frame->offset != sender->got || frame->total != sender->total || source != sender->source) {
        give_up(assembly, sender);
        return NORIA_ASSEMBLY_MORE;
    }
    memcpy(sender->message + sender->got, payload, frame->length);
    sender->got += frame->length;
    if (sender->got < sender->total)
        return NORIA_ASSEMBLY_MORE;
    *message = sender->message;
    sender->message = NULL;
    assembly->bytes -= sender->total;
    return NORIA_ASSEMBLY_DONE;
}

int noria_assembly_take(struct noria_assembly *assembly, const struct noria_frame *frame, const uint8_t *payload,
                        const void *source, uint8_t **message, uint64_t *lost)
{
    struct noria_assembly_sender *sender = find(assembly, frame->sender, frame->priority);
    int rc;

    if (sender == NULL)
        return -ENOMEM;
    if (frame->sequence < sender->next)
        return -EBADMSG;
    sender->used = ++assembly->clock;
    if (noria_frame_is_whole(frame)) {
        give_up(assembly, sender);
        *lost = advance(sender, frame->sequence);
        return NORIA_ASSEMBLY_WHOLE;
    }
    if (sender->message != NULL && frame->sequence != sender->coming)
        give_up(assembly, sender);
    rc = add(assembly, sender, frame, payload, source, message);
    sender->coming = frame->sequence;
    if (rc == NORIA_ASSEMBLY_DONE)
        *lost = advance(sender, frame->sequence);
    return rc;
}

uint32_t noria_assembly_end_source(struct noria_assembly *assembly, const void *source)
{
    uint32_t given_up = 0;

    for (uint32_t i = 0; i < assembly->size; i++)
        if (assembly->senders[i].message != NULL && assembly->senders[i].source == source) {
            give_up(assembly, &assembly->senders[i]);
            given_up++;
        }
    return given_up;
}

void noria_assembly_free(struct noria_assembly *assembly)
{
    for (uint32_t i = 0; i < assembly->size; i++)
        free(assembly->senders[i].message);
    free(assembly->senders);
    *assembly = (struct noria_assembly){.most_bytes = assembly->most_bytes};
}
