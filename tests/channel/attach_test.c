/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: every field of the superblock, the geometry, the header, the table's first entry and the ring's header, with each
 * of a list of values that cannot be or nearly can, in a file of each of five sizes, is refused by an open with one error
 * code and a sentence, or the channel is safe to use; for every kind of channel. Never a signal, and no open, with the use
 * of what it opened, takes 150 ms of processor time.
 */
#define KINDS_TO_TEST {NORIA_KIND_MPMC, "shm"}
#include "variants_test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "segment_channel.h"

#include "fenced_map.h"
#include "shapes.h"

enum { HANG_NS = 150000000 };

static uint8_t *image; /* as its creator left it, with a message in it */
static size_t image_size;
static int opened, refused; /* of all opens in one child */

static void write_file(size_t size)
{
    int fd = open(ch.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t kept = size < image_size ? size : image_size;

    if (fd < 0 || pwrite(fd, image, kept, 0) != (ssize_t)kept || ftruncate(fd, (off_t)size) != 0)
        _exit(2);
    close(fd);
}

static int64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void use(noria_channel *channel)
{
    uint8_t bytes[64] = {0};
    struct noria_stat stat = {0};

    for (int i = 0; i < 3; i++) {
        (void)!noria_send(channel, bytes, 20, 0);
        (void)!noria_recv(channel, bytes, sizeof(bytes), 0, NULL);
    }
    (void)!noria_stat(channel, &stat);
}

/* One open of what is in the file. */
static void open_and_use(void)
{
    struct noria_listing listing;
    noria_channel *channel = NULL;
    int64_t start = cpu_ns();
    int rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, NULL);

    if (rc < 0 && strlen(noria_detail()) < 4)
        _exit(3);
    if (rc == 0) {
        use(channel);
        noria_close(channel);
    }
    opened += rc == 0;
    refused += rc != 0;
    (void)!noria_inspect(ch.address, &listing);
    if (cpu_ns() - start > HANG_NS)
        _exit(4);
}

/* The value, and whether it fits into the field. */
static bool pick(int which, uint64_t old, uint32_t width, uint64_t *value)
{
    const uint64_t values[] = {0, 1, UINT64_MAX, INT64_MAX, UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 63, image_size + 1,
                               image_size - 1, image_size, old + 4, old + 1, old - 1, old * 2, old ^ 3};

    if (which >= (int)(sizeof(values) / sizeof(values[0])))
        return false;
    *value = width == 4 ? (uint32_t)values[which] : values[which];
    return true;
}

/* In a child. */
static void try_word(size_t offset, uint32_t width)
{
    const size_t sizes[] = {image_size, image_size + 1, 0, 1, 4095};
    const int every = getenv("NORIA_LONG") != NULL ? 1 : 5;
    uint64_t old = 0, value;

    memcpy(&old, image + offset, width);
    for (int which = 0; pick(which, old, width, &value); which++)
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            if (s >= 2 && which % every != 0) /* what is left of such a file is refused before the field is looked at */
                continue;
            memcpy(image + offset, &value, width);
            write_file(sizes[s]);
            open_and_use();
        }
    memcpy(image + offset, &old, width);
}

static void try_struct(const char *shape, const char *name, size_t at, const struct noria_field *fields)
{
    for (; fields->name != NULL; fields++) {
        uint32_t width = fields->size == 4 ? 4 : 8;
        int status;
        pid_t pid;
        if (strncmp(fields->name, "reserved", 8) == 0)
            continue;
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            signal(SIGFPE, SIG_DFL);
            signal(SIGABRT, SIG_DFL);
            for (uint32_t word = 0; word < fields->size && word < 32; word += width)
                try_word(at + fields->offset + word, width);
            _exit(refused > 0 || opened > 0 ? 0 : 5);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
            fail_msg("%s: %s.%s has felled a process, status %#x", shape, name, fields->name, (unsigned)status);
    }
}

static const struct noria_field *superblock_fields(void)
{
    NORIA_FIELDS_OF(noria_superblock, SUPERBLOCK);
    return fields;
}

static const struct noria_field *header_fields(void)
{
    NORIA_FIELDS_OF(noria_header, HEADER);
    return fields + 2; /* geometry and waiting rooms are structs themselves */
}

static const struct noria_field *room_fields(void)
{
    NORIA_FIELDS_OF(noria_waiting_room, WAITING_ROOM);
    return fields;
}

static const struct noria_field *entry_fields(void)
{
    NORIA_FIELDS_OF(noria_entry, ENTRY);
    return fields;
}

static const struct noria_field *priority_fields(void)
{
    NORIA_FIELDS_OF(noria_priority, PRIORITY);
    return fields;
}

static const struct noria_field *geometry_fields(void)
{
    NORIA_FIELDS_OF(noria_geometry, GEOMETRY);
    return fields;
}

/* By the first word of the ring: which header it has. */
static const struct noria_field *ring_fields(const struct shape *shape)
{
    NORIA_FIELDS_OF(noria_mpmc, MPMC);
    if (shape->kind == NORIA_KIND_SPSC) {
        NORIA_FIELDS_OF(noria_spsc, SPSC);
        return fields;
    }
    if (shape->capacity == 0) {
        NORIA_FIELDS_OF(noria_rendezvous, RENDEZVOUS);
        return fields;
    }
    if (shape->capacity == 1) {
        NORIA_FIELDS_OF(noria_latest, LATEST);
        return fields;
    }
    if (shape->max_bytes != 0) {
        NORIA_FIELDS_OF(noria_chain, CHAIN);
        return fields;
    }
    if (shape->kind == NORIA_KIND_BROADCAST) {
        NORIA_FIELDS_OF(noria_broadcast, BROADCAST);
        return fields;
    }
    return fields;
}

static void make_image(const struct shape *shape)
{
    noria_channel *channel;
    int fd;

    take_shape(shape, &ch.options);
    unlink(ch.path);
    assert_int_equal(noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    (void)!noria_send(channel, "message", 7, 0);
    assert_int_equal(noria_close(channel), 0);
    fd = open(ch.path, O_RDONLY | O_CLOEXEC);
    image_size = (size_t)lseek(fd, 0, SEEK_END);
    image = malloc(image_size);
    assert_int_equal(pread(fd, image, image_size, 0), image_size);
    close(fd);
}

static void every_field_is_checked(void **state)
{
    /* Claim: see above. */
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        const struct noria_geometry *geometry;
        size_t ring;
        make_image(&shapes[i]);
        geometry = (const struct noria_geometry *)(const void *)(image + NORIA_SEGMENT_CONTENT);
        ring = NORIA_SEGMENT_CONTENT + (size_t)geometry->ring_offset;
        if (shapes[i].priorities > 1) {
            try_struct(shapes[i].name, "priority", ring, priority_fields());
            ring += sizeof(struct noria_priority); /* the first level's */
        }
        if (i == 0)
            try_struct(shapes[i].name, "superblock", 0, superblock_fields());
        try_struct(shapes[i].name, "geometry", NORIA_SEGMENT_CONTENT, geometry_fields());
        try_struct(shapes[i].name, "header", NORIA_SEGMENT_CONTENT, header_fields());
        for (int side = 0; side < 2; side++)
            try_struct(shapes[i].name, "waiting room",
                       NORIA_SEGMENT_CONTENT + offsetof(struct noria_header, rooms[side]), room_fields());
        try_struct(shapes[i].name, "entry", NORIA_SEGMENT_CONTENT + (size_t)geometry->table_offset, entry_fields());
        try_struct(shapes[i].name, "ring", ring, ring_fields(&shapes[i]));
        free(image);
    }
}

static void an_untouched_image_opens(void **state)
{
    /* Claim: what the other test refuses is refused for what was changed. */
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        make_image(&shapes[i]);
        write_file(image_size + 1);
        opened = 0;
        open_and_use();
        /* A growing channel's file has holes, which a copy of it fills: that is as good. */
        assert_int_equal(opened, 1);
        free(image);
    }
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("shm", an_untouched_image_opens),
        AT("shm", every_field_is_checked),
    };

    return run_variants("attach", tests, sizeof(tests) / sizeof(tests[0]));
}
