/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * anywhere.c at fifo:/path by hand, with plain system calls, for those who learn. What it does not do is why there is a
 * library: messages of other than 8 bytes, more than PIPE_BUF at once, telling senders apart, a time-out, saying what was lost.
 *
 *     plain_fifo recv /tmp/numbers &
 *     plain_fifo send /tmp/numbers 10
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Eight bytes are far below PIPE_BUF: they go in as a whole, whoever else writes. */
static int send_numbers(const char *path, uint64_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC); /* waits for a reader */

    signal(SIGPIPE, SIG_IGN); /* or a reader that goes away would end us */
    if (fd < 0)
        return perror(path), 1;
    for (uint64_t i = 0; i < n; i++)
        if (write(fd, &i, sizeof i) != sizeof i)
            return perror("write"), 1;
    close(fd);
    return 0;
}

/* A read may end in the middle of a number. */
static int receive_numbers(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* waits for a writer */
    uint64_t number, count = 0, sum = 0;
    size_t have = 0;
    ssize_t got;

    if (fd < 0)
        return perror(path), 1;
    while ((got = read(fd, (char *)&number + have, sizeof number - have)) > 0 || (got < 0 && errno == EINTR)) {
        have += got > 0 ? (size_t)got : 0;
        if (have < sizeof number)
            continue;
        count++;
        sum += number;
        have = 0;
    }
    close(fd);
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return got < 0;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0;

    if (!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: plain_fifo send PATH COUNT | plain_fifo recv PATH\n"), 2;
    if (mkfifo(argv[2], 0600) != 0 && errno != EEXIST)
        return perror(argv[2]), 1;
    return sends ? send_numbers(argv[2], strtoull(argv[3], NULL, 10)) : receive_numbers(argv[2]);
}
