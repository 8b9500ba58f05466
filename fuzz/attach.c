/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A segment as a stranger left it, opened. Claim: noria_open of anything ends with a documented result, and so does what is
 * called on the handle if there is one; nothing outside of the segment is touched.
 *
 * The input chooses the kind of channel, of which a sound one with messages is the beginning, how much of the file there is,
 * how it is opened, and words that are changed before; what else it has is written over the beginning of the file as it is.
 */
#include "forged_signals.h"
#include "input.h"
#include "target.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <noria/noria.h>

#include "documented.h"
#include "shapes.h"

enum { MOST_CHANGES = 16, PAGE = 4096, SIZES = 8 };

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static void check_result(ssize_t rc)
{
    check(is_documented(rc), "every call ends with a documented result");
    check(rc >= 0 || noria_detail()[0] != '\0', "a failure has a sentence");
}

/* --------------------------------------------------------------------------------------------------- sound channels */

static struct sound {
    uint8_t *bytes;
    size_t size;
} sound[SHAPES];

static int new_file(char *address, size_t size)
{
    int fd = memfd_create("attached", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    check(fd >= 0, "a memfd");
    snprintf(address, size, "memfd:%d", fd);
    return fd;
}

/* With two messages, and a sender who is no more. */
static void make_sound(const struct shape *shape, struct sound *made)
{
    struct noria_options options;
    noria_channel *tx, *rx;
    struct stat status;
    char address[32];
    int fd = new_file(address, sizeof(address));

    take_shape(shape, &options);
    check(noria_open(&tx, address, NORIA_SEND | NORIA_CREATE, &options) == 0, "a channel");
    check(noria_open(&rx, address, NORIA_RECV, NULL) == 0, "a receiver");
    (void)!noria_send(tx, "0123456789", 10, 0); /* a rendezvous takes none */
    (void)!noria_send(tx, "0123456789", 10, 0);
    check(fstat(fd, &status) == 0, "its size");
    made->size = (size_t)status.st_size;
    made->bytes = malloc(made->size);
    check(made->bytes != NULL && noria_close(tx) == 0 && noria_close(rx) == 0, "to close both");
    check(pread(fd, made->bytes, made->size, 0) == (ssize_t)made->size, "its bytes");
    close(fd);
}

/* ------------------------------------------------------------------------------------------------- unsound ones */

/* Rather where words are looked at: superblock, header, table, and the start of the ring. */
static size_t choose_place(struct fuzz_input *input, size_t size)
{
    static const size_t starts[] = {0, 256, 896, PAGE};
    uint32_t where = fuzz_byte(input);
    size_t word = (size_t)fuzz_byte(input) << 8 | fuzz_byte(input), offset = where < 224 ? starts[where % 4] : 0;

    offset += where < 224 ? word % 80 * 8 : word * 8;
    return offset % (size - 8) & ~(size_t)(where % 8 == 7 ? 3 : 7);
}

static uint64_t choose_value(struct fuzz_input *input, uint64_t old)
{
    switch (fuzz_below(input, 10)) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return old + 1;
    case 3: return old - 1;
    case 4: return old ^ UINT64_C(1) << fuzz_below(input, 64);
    case 5: return fuzz_byte(input);
    case 6: return old * 2;
    case 7: return UINT64_C(1) << fuzz_below(input, 64);
    case 8: return old + fuzz_byte(input) * UINT64_C(8);
    default: return fuzz_word(input);
    }
}

static void change(struct fuzz_input *input, uint8_t *bytes, size_t size)
{
    for (uint32_t n = fuzz_below(input, MOST_CHANGES); n > 0 && input->left != 0; n--) {
        size_t at = choose_place(input, size);
        uint64_t word;
        memcpy(&word, bytes + at, sizeof(word));
        word = choose_value(input, word);
        memcpy(bytes + at, &word, sizeof(word));
    }
    if (input->left > size)
        input->left = size;
    if (input->left > 0)
        memcpy(bytes, input->bytes, input->left);
}

static off_t choose_size(struct fuzz_input *input, size_t whole)
{
    uint32_t how = fuzz_byte(input);
    const off_t sizes[SIZES] = {0, 1, PAGE - 1, PAGE, (off_t)whole - 1, (off_t)whole + 1, 2 * (off_t)whole, how * 97};

    return how < 192 ? (off_t)whole : sizes[how % SIZES];
}

/* --------------------------------------------------------------------------------------------------------- attached */

static void use(noria_channel *channel)
{
    struct noria_stat stat = {.size = sizeof(stat)};
    struct noria_info info;
    struct noria_span span;
    uint8_t bytes[64] = {0};

    check_result(noria_stat(channel, &stat));
    check_result(noria_send(channel, bytes, 16, 0));
    check_result(noria_recv(channel, bytes, sizeof(bytes), 0, &info));
    if (noria_peek(channel, &span, 0, NULL) == 0) {
        for (size_t i = 0; i < span.len; i++) /* all of it is there to be read */
            bytes[i % 64] ^= ((const uint8_t *)span.data)[i];
        check_result(noria_release(channel, &span));
    }
    check(noria_close(channel) == 0, "handles can always be closed");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    uint32_t shape = fuzz_below(&input, SHAPES), how = fuzz_byte(&input);
    struct noria_options options;
    noria_channel *channel = NULL;
    off_t length;
    uint8_t *file;
    char address[32];
    int fd, rc;

    if (sound[shape].bytes == NULL)
        make_sound(&shapes[shape], &sound[shape]);
    length = choose_size(&input, sound[shape].size);
    file = malloc(sound[shape].size);
    check(file != NULL, "memory");
    memcpy(file, sound[shape].bytes, sound[shape].size);
    change(&input, file, sound[shape].size);
    fd = new_file(address, sizeof(address));
    check(pwrite(fd, file, sound[shape].size, 0) == (ssize_t)sound[shape].size && ftruncate(fd, length) == 0, "a file");
    free(file);
    take_shape(&shapes[shape], &options);
    options.open_timeout_ns = 0;
    options.trust = how >> 4 & 1;
    outlive_forged_signals(options.trust != NORIA_TRUST_NONE);
    rc = noria_open(&channel, address, (int)(how % 8), &options);
    check_result(rc);
    if (rc == 0)
        use(channel);
    close(fd);
    return 0;
}

void (*const fuzz_live)(unsigned seconds, uint64_t seed) = NULL;
