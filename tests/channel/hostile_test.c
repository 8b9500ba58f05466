/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: whatever stands in the words of a segment, opening it and every call on it ends in a result or an
 * error code, soon, and never in a signal. Each word in turn, of superblock, geometry, counters, table and
 * ring, gets each of a list of evil values: before the channel is opened, and under the feet of handles that
 * are open.
 */
#include "variants_test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <noria/mpmc.h>
#include <noria/spsc.h>

#include "layout.h"
#include "peers.h"
#include "segment.h"

static uint8_t *image; /* a whole segment with some history, as its creator left it */
static size_t image_size;
static uint8_t *live; /* the same file, mapped */

/* The first SHORT of them are tried always, all with NORIA_LONG. */
static const uint64_t evil[] = {0,
                                1,
                                3,
                                0xffff,
                                0x10000,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                UINT64_C(1) << 33,
                                INT64_MAX,
                                UINT64_MAX - 7,
                                UINT64_MAX,
                                2,
                                7,
                                8,
                                0x7f,
                                0xff,
                                0x100,
                                0xfff,
                                0x1000,
                                UINT64_C(1) << 32,
                                UINT64_C(1) << 46,
                                UINT64_C(1) << 62,
                                UINT64_C(1) << 63};
enum { EVIL = sizeof(evil) / sizeof(evil[0]), SHORT = 12 };

static int evil_values(void)
{
    return getenv("NORIA_LONG") != NULL ? EVIL : SHORT;
}

static size_t ring_offset(void)
{
    struct noria_header *header = (struct noria_header *)(void *)(image + NORIA_SEGMENT_CONTENT);

    return NORIA_SEGMENT_CONTENT + (size_t)header->geometry.ring_offset;
}

/* A channel with messages in it, and some held: every kind of word is in use. */
static void make_image(void)
{
    struct stat status;
    int fd;

    ch.options.max_participants = 3;
    ch.options.capacity = 4;
    ch.keeper = open_handle(0);
    ch.tx = open_handle(NORIA_SEND);
    for (unsigned n = 0; n < 3; n++)
        send_numbered(n, 20);
    ch.rx = open_handle(NORIA_RECV);
    expect(0, 20);
    fd = open(ch.path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fstat(fd, &status), 0);
    image_size = (size_t)status.st_size;
    live = mmap(NULL, image_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(live != MAP_FAILED);
    close(fd);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    image = malloc(image_size);
    memcpy(image, live, image_size);
}

static void free_image(void)
{
    memcpy(live, image, image_size);
    munmap(live, image_size);
    free(image);
}

/* Every call there is, on whatever could be opened. Results do not matter, coming back does. */
static void use(noria_channel *channel)
{
    static uint8_t bytes[2][64];
    struct iovec out[2] = {{bytes[0], 64}, {bytes[1], 3}};
    struct noria_info infos[2];
    struct noria_span span;
    struct noria_stat stat = {0};

    (void)!noria_stat(channel, &stat);
    for (int i = 0; i < 3; i++) {
        struct iovec in[2] = {{bytes[0], 64}, {bytes[1], 64}};
        (void)!noria_send(channel, bytes[0], 20, 0);
        (void)!noria_send_many(channel, out, 2, 0);
        if (noria_reserve(channel, 64, &span, 0) == 0) {
            memset(span.data, 1, 64);
            (void)!(i == 0 ? noria_abort(channel, &span) : noria_commit(channel, &span, 5, 0));
        }
        (void)!noria_recv(channel, bytes[0], 4, 0, NULL);
        (void)!noria_recv(channel, bytes[0], 64, 100000, &infos[0]);
        (void)!noria_recv_many(channel, in, 2, 0, infos);
        if (noria_peek(channel, &span, 0, infos) == 0) {
            for (size_t at = 0; at < span.len; at++) /* all of it must be there to be read */
                bytes[1][at % 64] ^= ((const uint8_t *)span.data)[at];
            (void)!noria_release(channel, &span);
        }
    }
    (void)!noria_send(channel, bytes[0], 64, 100000);
}

static void open_and_use(void)
{
    struct noria_participant who[8];
    struct noria_listing listing;
    noria_channel *channel = NULL, *second = NULL;
    int rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, NULL);

    if (rc < 0 && strlen(noria_detail()) < 4)
        _exit(2);
    if (rc == 0) {
        use(channel);
        if (noria_open(&second, ch.address, 0, NULL) == 0)
            noria_close(second);
        noria_close(channel);
    }
    rc = noria_inspect(ch.address, &listing);
    if (rc < 0 && strlen(noria_detail()) < 4)
        _exit(3);
    (void)!noria_who(ch.address, who, 8);
}

/* Overwrites the open channel's words under its handle. */
static uint8_t *victim;
static size_t victim_size;
static uint64_t victim_value;

static void use_under_fire(void)
{
    noria_channel *channel = NULL;

    if (noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, NULL) != 0)
        _exit(4);
    (void)!noria_send(channel, "before", 6, 0);
    memcpy(victim, &victim_value, victim_size);
    use(channel);
    memcpy(victim, &victim_value, victim_size);
    noria_close(channel);
}

/* In a child of its own: a signal, or ten seconds, are failures of the library and not of this program. */
static bool survives(void (*body)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        be_child();
        alarm(10);
        body();
        exit(0);
    }
    if (waitpid(pid, &status, 0) != pid)
        return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static size_t field_offset;
static size_t field_size;

static void open_with_each_value(void)
{
    for (int i = 0; i < evil_values(); i++) {
        if (field_size == 4 && evil[i] > UINT32_MAX)
            continue;
        memcpy(live, image, image_size);
        memcpy(live + field_offset, &evil[i], field_size);
        open_and_use();
    }
}

static void use_with_each_value(void)
{
    for (int i = 0; i < evil_values(); i++) {
        if (field_size == 4 && evil[i] > UINT32_MAX)
            continue;
        memcpy(live, image, image_size);
        victim = live + field_offset;
        victim_size = field_size;
        victim_value = evil[i];
        use_under_fire();
    }
}

static void attack(size_t from, size_t to, size_t size, void (*body)(void))
{
    fflush(NULL);
    for (size_t offset = from; offset < to; offset += size) {
        field_offset = offset;
        field_size = size;
        if (!survives(body))
            fail_msg("the word of %zu bytes at offset %zu (ring at %zu) has felled a process", size, offset,
                     ring_offset());
    }
}

static void evil_superblocks_are_refused(void **state)
{
    /* Claim: any value in any word of the superblock. */
    (void)state;
    make_image();
    attack(0, NORIA_SEGMENT_CONTENT, 4, open_with_each_value);
    attack(0, NORIA_SEGMENT_CONTENT, 8, open_with_each_value);
    free_image();
}

static void evil_geometries_are_refused(void **state)
{
    /* Claim: any value in any word of geometry, event words and counters, before opening and after. */
    size_t end = NORIA_SEGMENT_CONTENT + sizeof(struct noria_header);

    (void)state;
    make_image();
    attack(NORIA_SEGMENT_CONTENT, NORIA_SEGMENT_CONTENT + sizeof(struct noria_geometry), 4,
           open_with_each_value);
    attack(NORIA_SEGMENT_CONTENT, end, 8, open_with_each_value);
    attack(NORIA_SEGMENT_CONTENT, end, 8, use_with_each_value);
    free_image();
}

static void evil_participants_are_refused(void **state)
{
    /* Claim: any value in any word of the table of participants, before opening and after. */
    size_t from = NORIA_SEGMENT_CONTENT + sizeof(struct noria_header),
           end = from + 3 * sizeof(struct noria_entry);

    (void)state;
    make_image();
    attack(from, end, 8, open_with_each_value);
    attack(from, end, 4, open_with_each_value);
    attack(from, end, 8, use_with_each_value);
    free_image();
}

static void evil_rings_are_refused(void **state)
{
    /* Claim: any value in any word of the ring's header, and of its first slots or records, before opening
     * and after. */
    size_t header = is_spsc() ? sizeof(struct noria_spsc) : sizeof(struct noria_mpmc);

    (void)state;
    ch.options.pack = is_spsc() ? 1 : 2;
    make_image();
    attack(ring_offset(), ring_offset() + header, 8, open_with_each_value);
    attack(ring_offset(), ring_offset() + 64, 4, open_with_each_value);
    attack(ring_offset(), ring_offset() + header, 8, use_with_each_value);
    attack(ring_offset() + header, ring_offset() + header + 512, 8, open_with_each_value);
    attack(ring_offset() + header, ring_offset() + header + 512, 8, use_with_each_value);
    free_image();
}

/* The words that can be anything: owners that are not in the table, laps from elsewhere, states nobody
 * writes. */
static void fill_with_noise(void)
{
    uint64_t random = 88172645463325252u + field_offset;

    memcpy(live, image, image_size);
    for (size_t at = field_offset; at + 8 <= image_size; at += 8) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        memcpy(live + at, &random, 8);
    }
    open_and_use();
}

static void noise_is_refused(void **state)
{
    /* Claim: a segment whose content is noise, from any point on. */
    (void)state;
    make_image();
    attack(0, 2048, 8, fill_with_noise);
    attack(ring_offset(), ring_offset() + 2048, 64, fill_with_noise);
    free_image();
}

static void truncated_after_the_table(void **state)
{
    /* Claim: a segment that ends anywhere in front of its ring's end is refused, with the superblock's size
     * or without. */
    (void)state;
    make_image();
    for (uint64_t size = NORIA_SEGMENT_CONTENT; size < image_size; size += 512 + 8) {
        noria_channel *channel = NULL;
        struct noria_listing listing;
        memcpy(live, image, image_size);
        memcpy(live + offsetof(struct noria_superblock, size), &size, 8); /* says so itself */
        assert_fails(noria_open(&channel, ch.address, NORIA_RECV, NULL), EBADMSG);
        assert_int_equal(noria_inspect(ch.address, &listing), 0);
        assert_int_equal(listing.condition, NORIA_CONDITION_CORRUPT);
        assert_true(noria_who(ch.address, NULL, 0) < 0);
    }
    free_image();
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("shm", evil_superblocks_are_refused),
        AT("shm", evil_geometries_are_refused),
        AT("shm", evil_participants_are_refused),
        AT("shm", evil_rings_are_refused),
        AT("shm", noise_is_refused),
        AT("shm", truncated_after_the_table),
    };

    return run_variants("hostile", tests, sizeof(tests) / sizeof(tests[0]));
}
