/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One producer and one consumer, whatever carries their messages: the address is the only thing that changes.
 *
 *     anywhere recv shm:/numbers &       anywhere recv tcp::7777 &       anywhere recv mq:/numbers &
 *     anywhere send shm:/numbers 10      anywhere send tcp::7777 10      anywhere send mq:/numbers 10
 *     anywhere send fd:1 10 | anywhere recv fd:0
 *     anywhere recv nats://localhost/numbers 10       (there nobody knows when the last sender has left)
 *
 * What each of these mechanisms is without noria, and what noria adds to it, is in by_hand/.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <noria/noria.h>

static int fail(void)
{
    fprintf(stderr, "anywhere: %s\n", noria_detail());
    return 1;
}

/* A sender whose receiver went away is told so once, and may send again: the next one gets it. */
static int send_numbers(noria_channel *channel, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        int rc;
        while ((rc = noria_send(channel, &i, sizeof i, -1)) == -EPIPE)
            fprintf(stderr, "anywhere: the receiver has gone; waiting for the next one\n");
        if (rc != 0)
            return fail();
    }
    return 0;
}

/* Until the last sender has left, or so many have come. */
static int receive_numbers(noria_channel *channel, uint64_t n)
{
    uint64_t number, count = 0, sum = 0, lost = 0;
    struct noria_info info;
    ssize_t len = sizeof number;

    while (count < n && (len = noria_recv(channel, &number, sizeof number, -1, &info)) == sizeof number) {
        count++;
        sum += number;
        lost += info.lost;
    }
    if (len >= 0 && len != sizeof number)
        return fprintf(stderr, "anywhere: a message of %zd bytes is not one of ours\n", len), 1;
    if (len < 0 && len != -EPIPE)
        return fail();
    printf("%" PRIu64 " numbers, sum %" PRIu64 ", %" PRIu64 " missed\n", count, sum, lost);
    return 0;
}

int main(int argc, char **argv)
{
    struct noria_options options;
    noria_channel *channel;
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, rc;
    uint64_t n = argc == 4 ? strtoull(argv[3], NULL, 10) : UINT64_MAX;

    if (!sends && !((argc == 3 || argc == 4) && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: anywhere send ADDRESS COUNT | anywhere recv ADDRESS [COUNT]\n"), 2;
    noria_options_init(&options);
    options.max_message = sizeof(uint64_t);
    if (noria_open(&channel, argv[2], (sends ? NORIA_SEND : NORIA_RECV) | NORIA_CREATE, &options) != 0)
        return fail();
    rc = sends ? send_numbers(channel, n) : receive_numbers(channel, n);
    noria_close(channel);
    return rc;
}
