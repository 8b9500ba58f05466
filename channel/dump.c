/* SPDX-License-Identifier: BSD-2-Clause */
/* Every word of a channel that is not a message: `noria dump`. Works with what the segment's superblock says only,
 * as far as it goes, so that a channel that cannot be opened can be looked at. */
#include <noria/inspect.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

struct dump {
    const uint8_t *base;
    int (*each)(const struct noria_dumped *, void *);
    void *context;
    int rc; /* what `each` returned, if not 0 */
};

static uint64_t word_at(const uint8_t *at, uint32_t size)
{
    /* Relaxed: to be shown. */
    return size == sizeof(uint32_t) ? noria_load_relaxed32((const uint32_t *)(const void *)at)
                                    : noria_load_relaxed64((const uint64_t *)(const void *)at);
}

static void emit(struct dump *dump, const struct noria_dumped *dumped)
{
    if (dump->rc == 0)
        dump->rc = dump->each(dumped, dump->context);
}

/* A field; of an array each word, of a reserved one only those that should be 0 and are not. */
static void dump_field(struct dump *dump, const char *part, uint64_t number, uint64_t offset,
                       const struct noria_field *field)
{
    uint32_t width = field->size == sizeof(uint32_t) ? sizeof(uint32_t) : sizeof(uint64_t);
    bool reserved = strncmp(field->name, "reserved", 8) == 0;

    for (uint32_t at = 0; at < field->size && dump->rc == 0; at += width) {
        struct noria_dumped dumped = {.part = part, .number = number, .offset = offset + field->offset + at};
        char name[64];
        snprintf(name, sizeof(name), field->size == width ? "%s" : "%s[%u]", field->name, at / width);
        dumped.field = name;
        dumped.value = word_at(dump->base + dumped.offset, width);
        if (!reserved || dumped.value != 0)
            emit(dump, &dumped);
    }
}

static void dump_struct(struct dump *dump, const char *part, uint64_t number, uint64_t offset,
                        const struct noria_field *fields)
{
    for (; fields->name != NULL; fields++)
        dump_field(dump, part, number, offset, fields);
}

static void dump_superblock(struct dump *dump)
{
    NORIA_FIELDS_OF(noria_superblock, SUPERBLOCK);
    dump_struct(dump, "superblock", 0, 0, fields);
}

static void dump_geometry(struct dump *dump)
{
    NORIA_FIELDS_OF(noria_geometry, GEOMETRY);
    dump_struct(dump, "geometry", 0, NORIA_SEGMENT_CONTENT, fields);
}

static void dump_rooms(struct dump *dump)
{
    NORIA_FIELDS_OF(noria_waiting_room, WAITING_ROOM);
    for (unsigned side = 0; side < 2; side++)
        dump_struct(dump, side == 0 ? "senders wait" : "receivers wait", side,
                    NORIA_SEGMENT_CONTENT + offsetof(struct noria_header, rooms) +
                        side * sizeof(struct noria_waiting_room), fields);
}

static void dump_header(struct dump *dump)
{
    NORIA_FIELDS_OF(noria_header, HEADER);
    for (const struct noria_field *field = fields; field->name != NULL; field++)
        if (field->offset >= offsetof(struct noria_header, roster)) /* geometry and rooms are parts of their own */
            dump_field(dump, "header", 0, NORIA_SEGMENT_CONTENT, field);
}

static void dump_participants(struct dump *dump, const struct noria_segment_channel *channel)
{
    NORIA_FIELDS_OF(noria_entry, ENTRY);
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        if (noria_load_relaxed64(&channel->table[number - 1].word) != 0) /* never used */
            dump_struct(dump, "participant", number, NORIA_SEGMENT_CONTENT + channel->geometry.table_offset +
                            (number - 1) * sizeof(struct noria_entry), fields);
}

static void dump_ring(struct dump *dump, const struct noria_segment_channel *channel)
{
    uint64_t offset = NORIA_SEGMENT_CONTENT + channel->geometry.ring_offset;
    struct noria_piece piece;

    dump_struct(dump, "ring", 0, offset, channel->kind->anatomy->header());
    for (uint64_t i = 0; dump->rc == 0 && channel->kind->anatomy->piece(channel, i, &piece); i++) {
        struct noria_dumped dumped = {.part = piece.part, .number = piece.number, .field = "",
                                      .offset = offset + piece.offset, .value = piece.word};
        memcpy(dumped.text, piece.text, sizeof(dumped.text));
        emit(dump, &dumped);
    }
}

/* Maps or reads the segment, whatever its content is. 0, -errno. */
static int find_segment(struct noria_segment *segment, const char *address)
{
    const struct noria_segment_backend *backend;
    const char *name;
    bool unfinished;
    int rc;

    if (noria_is_path(address))
        return noria_segment_read(segment, address);
    backend = noria_backend_of(address, &name);
    if (backend == NULL)
        return -EINVAL;
    rc = noria_segment_inspect(segment, backend, name, &unfinished);
    if (rc == 0 && unfinished) {
        noria_segment_close(segment);
        return noria_fail(-EBADMSG, "'%s' is not finished: its creator is at work, or dead", address);
    }
    return rc;
}

int noria_dump(const char *address, int (*each)(const struct noria_dumped *, void *context), void *context)
{
    struct noria_segment_channel channel;
    struct dump dump = {.each = each, .context = context};
    int rc;

    if (address == NULL || each == NULL)
        return noria_fail(-EINVAL, "noria_dump takes an address and a function to call");
    memset(&channel, 0, sizeof(channel));
    rc = find_segment(&channel.segment, address);
    if (rc != 0)
        return rc;
    dump.base = channel.segment.base;
    dump_superblock(&dump);
    if (channel.segment.size >= NORIA_SEGMENT_CONTENT + sizeof(struct noria_header)) {
        dump_geometry(&dump);
        dump_rooms(&dump);
        dump_header(&dump);
    }
    rc = noria_segment_channel_adopt(&channel);
    if (rc == 0) {
        dump_participants(&dump, &channel);
        dump_ring(&dump, &channel);
    }
    noria_segment_close(&channel.segment);
    return dump.rc != 0 ? dump.rc : rc;
}
