/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: 32- and 64-bit processes see the same bytes. Every field of every shared struct stands at the same place, and
 * a peer that was built for the other word size from the headers alone exchanges messages with a handle of the
 * library through an SPSC and an MPMC channel, both ways.
 *
 * The arguments: the peer's program and, where the kernel runs no 32-bit programs, an emulator of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

#include "numbered.h"
#include "print_bytes.h"

#define SECOND INT64_C(1000000000)
enum { CANNOT_RUN = 126 };

static const char *peer_program, *emulator; /* NULL: the kernel runs it */
static char name[64], address[72];

static int how_many(void)
{
    return getenv("NORIA_LONG") != NULL ? 1000000 : 100000;
}

static pid_t start(int out, const char *const arguments[4])
{
    pid_t pid = fork();

    if (pid == 0) {
        const char *all[8] = {emulator != NULL ? emulator : peer_program};
        int n = 1;
        if (emulator != NULL)
            all[n++] = peer_program;
        for (int i = 0; i < 4 && arguments[i] != NULL; i++)
            all[n++] = arguments[i];
        if (out >= 0)
            dup2(out, STDOUT_FILENO);
        execv(all[0], (char *const *)all);
        _exit(CANNOT_RUN);
    }
    return pid;
}

static int end_of(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What `peer layout` prints; NULL if it cannot be run. */
static char *layout_of_peer(void)
{
    static const char *const arguments[4] = {"layout"};
    char *text = calloc(1, 1 << 16);
    int ends[2], rc = pipe(ends);
    size_t len = 0;
    ssize_t got;
    pid_t pid;

    if (text == NULL || rc != 0)
        abort();
    pid = start(ends[1], arguments);
    close(ends[1]);
    while ((got = read(ends[0], text + len, (1 << 16) - 1 - len)) > 0)
        len += (size_t)got;
    close(ends[0]);
    if (end_of(pid) == 0)
        return text;
    free(text);
    return NULL;
}

static void every_field_is_at_the_same_place(void **state)
{
    char *theirs = layout_of_peer(), *ours = NULL;
    size_t size;
    FILE *out = open_memstream(&ours, &size);

    (void)state;
    print_bytes(out);
    fclose(out);
    assert_non_null(theirs);
    assert_string_equal(theirs, ours);
    assert_non_null(strstr(ours, "noria_broadcast_cursor")); /* to the last one */
    free(theirs);
    free(ours);
}

static void receive_all(noria_channel *channel, int n)
{
    uint8_t bytes[LONGEST];

    for (int i = 0; i < n; i++) {
        ssize_t len = noria_recv(channel, bytes, sizeof(bytes), 20 * SECOND, NULL);
        if (len < 0)
            fail_msg("message %d does not come: %s", i, noria_detail());
        if (!is_numbered(bytes, (size_t)len, (uint64_t)i))
            fail_msg("message %d is another than was sent", i);
    }
}

static void send_all(noria_channel *channel, int n)
{
    uint8_t bytes[LONGEST];

    for (int i = 0; i < n; i++) {
        size_t len = fill_numbered(bytes, (uint64_t)i);
        if (noria_send(channel, bytes, len, 20 * SECOND) != 0)
            fail_msg("message %d cannot be sent: %s", i, noria_detail());
    }
}

static void exchange(uint32_t kind, bool peer_sends)
{
    struct noria_options options;
    struct noria_stat stat = {0};
    noria_channel *channel;
    char count[16];
    const char *arguments[4] = {kind == NORIA_KIND_SPSC ? "spsc" : "mpmc", peer_sends ? "send" : "recv", name, count};
    pid_t pid;

    snprintf(count, sizeof(count), "%d", how_many());
    noria_options_init(&options);
    options.kind = kind;
    options.wait = NORIA_WAIT_YIELD;
    options.capacity = 256;
    options.max_message = LONGEST;
    noria_unlink(address);
    assert_int_equal(noria_open(&channel, address, (peer_sends ? NORIA_RECV : NORIA_SEND) | NORIA_CREATE | NORIA_EXCL,
                                &options), 0);
    pid = start(-1, arguments);
    if (peer_sends)
        receive_all(channel, how_many());
    else
        send_all(channel, how_many());
    assert_int_equal(end_of(pid), 0);
    assert_int_equal(noria_stat(channel, &stat), 0);
    assert_int_equal(stat.sent, how_many());
    assert_int_equal(stat.received, how_many());
    assert_int_equal(stat.deaths, 0);
    assert_int_equal(stat.messages, 0);
    assert_int_equal(noria_close(channel), 0);
    assert_int_equal(noria_unlink(address), 0);
}

static void spsc_from_peer(void **state)
{
    (void)state;
    exchange(NORIA_KIND_SPSC, true);
}

static void spsc_to_peer(void **state)
{
    (void)state;
    exchange(NORIA_KIND_SPSC, false);
}

static void mpmc_from_peer(void **state)
{
    (void)state;
    exchange(NORIA_KIND_MPMC, true);
}

static void mpmc_to_peer(void **state)
{
    (void)state;
    exchange(NORIA_KIND_MPMC, false);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_at_the_same_place),
        cmocka_unit_test(spsc_from_peer),
        cmocka_unit_test(spsc_to_peer),
        cmocka_unit_test(mpmc_from_peer),
        cmocka_unit_test(mpmc_to_peer),
    };
    char *layout;

    if (argc < 2)
        return 2;
    peer_program = argv[1];
    snprintf(name, sizeof(name), "/noria-wordsize-%d", (int)getpid());
    snprintf(address, sizeof(address), "shm:%s", name);
    layout = layout_of_peer();
    if (layout == NULL && argc > 2) {
        emulator = argv[2];
        layout = layout_of_peer();
    }
    if (layout == NULL) {
        fprintf(stderr, "this machine runs no programs of that word size, nor an emulator of them\n");
        return 77; /* skipped */
    }
    free(layout);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
