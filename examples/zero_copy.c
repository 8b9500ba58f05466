/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pictures from a camera process to a display process, without one copy: the camera draws straight into the
 * channel's memory (reserve, commit), the display looks at them there (peek, release). The channel has no
 * name (anon:); the camera is a child, which becomes a participant of its own with noria_reopen.
 *
 *     examples/zero_copy [FRAMES]
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

enum { WIDTH = 640, HEIGHT = 480 };

struct frame {
    uint32_t number;
    uint8_t pixels[HEIGHT][WIDTH];
};

static int fail(const char *who)
{
    fprintf(stderr, "%s: %s\n", who, noria_detail());
    return 1;
}

/* A picture whose every pixel follows from the frame's number. */
static uint8_t pixel_at(uint32_t number, uint32_t x, uint32_t y)
{
    return (uint8_t)(x + y + number);
}

static void draw(struct frame *frame, uint32_t number)
{
    frame->number = number;
    for (uint32_t y = 0; y < HEIGHT; y++) {
        for (uint32_t x = 0; x < WIDTH; x++)
            frame->pixels[y][x] = pixel_at(number, x, y);
    }
}

static int is_right(const struct frame *frame, uint32_t number)
{
    if (frame->number != number)
        return 0;
    for (uint32_t y = 0; y < HEIGHT; y++) {
        for (uint32_t x = 0; x < WIDTH; x++) {
            if (frame->pixels[y][x] != pixel_at(number, x, y))
                return 0;
        }
    }
    return 1;
}

static int camera(const noria_channel *inherited, uint32_t frames)
{
    noria_channel *channel;
    if (noria_reopen(&channel, inherited, NORIA_SEND) != 0)
        return fail("camera");
    for (uint32_t number = 0; number < frames; number++) {
        struct noria_span span;
        if (noria_reserve(channel, sizeof(struct frame), &span, -1) < 0)
            return fail("camera");
        draw(span.data, number); /* nobody sees it before commit; if we die here, nobody ever does */
        if (noria_commit(channel, &span, sizeof(struct frame), -1) < 0)
            return fail("camera");
    }
    noria_close(channel);
    return 0;
}

static int display(noria_channel *channel, uint32_t *shown)
{
    for (;;) {
        struct noria_span span;
        int rc = noria_peek(channel, &span, -1, NULL);
        if (rc == -EPIPE)
            return 0;
        if (rc < 0)
            return fail("display");
        if (span.len != sizeof(struct frame) || !is_right(span.data, *shown)) {
            fprintf(stderr, "display: frame %u is not as it was drawn\n", *shown);
            return 1;
        }
        ++*shown;
        noria_release(channel, &span);
    }
}

int main(int argc, char **argv)
{
    uint32_t frames = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 300, shown = 0;
    struct noria_options options;
    noria_options_init(&options);
    options.kind = NORIA_KIND_SPSC;
    options.max_message = sizeof(struct frame);
    options.capacity = 4;

    noria_channel *channel;
    if (noria_open(&channel, "anon:", NORIA_RECV | NORIA_CREATE, &options) != 0)
        return fail(argv[0]);
    pid_t child = fork();
    if (child == 0)
        _exit(camera(channel, frames));

    int status = child < 0 ? 1 : display(channel, &shown), camera_status = 1;
    noria_close(channel);
    if (child > 0)
        waitpid(child, &camera_status, 0);
    printf("%u frames of %zu bytes drawn and shown in place\n", shown, sizeof(struct frame));
    return status != 0 || camera_status != 0 || shown != frames;
}
