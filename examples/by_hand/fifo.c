/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A FIFO by hand: a pipe with a name in the file system. Many may write, and what is at most PIPE_BUF bytes is never mixed.
 *
 *     fifo recv /tmp/numbers &
 *     fifo send /tmp/numbers 10
 *
 * What "fifo:" of noria adds: longer messages that do not mix either, telling senders apart, time-outs, a second reader
 * is refused instead of taking bytes away, saying what was lost when a reader died, going on with the next reader.
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
    for (uint64_t i = 0; i < n; i++) {
        ssize_t done;
        while ((done = write(fd, &i, sizeof i)) < 0 && errno == EINTR)
            ;
        if (done != sizeof i)
            return perror("fifo: write"), 1;
    }
    close(fd);
    return 0;
}

/* Until the last writer has left. A read may end in the middle of a number. */
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
    return got < 0 || have > 0 ? fprintf(stderr, "fifo: it ended in the middle\n"), 1 : 0;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0;

    if (!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: fifo send PATH COUNT | fifo recv PATH\n"), 2;
    if (mkfifo(argv[2], 0600) != 0 && errno != EEXIST)
        return perror(argv[2]), 1;
    return sends ? send_numbers(argv[2], strtoull(argv[3], NULL, 10)) : receive_numbers(argv[2]);
}
