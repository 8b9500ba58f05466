/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pipe by hand: bytes in order, without boundaries, between processes of which one is the other's child. The kernel
 * holds 64 KiB; a writer that is ahead waits (bounded buffering), and both learn when the other has gone.
 *
 *     pipe 1000
 *
 * What "pipe:" of noria adds: messages of any length that never mix, whoever writes; time-outs; noria_fd; how many
 * messages of whom a dead reader took with it. Here a child that is killed looks like one that has finished.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Blocks while the pipe is full. At most PIPE_BUF (4096) bytes go in as a whole or not at all; a signal handler that ran
 * before that makes it EINTR. */
static int send_numbers(int fd, uint64_t n)
{
    signal(SIGPIPE, SIG_IGN); /* or a reader that goes away would end us */
    for (uint64_t i = 0; i < n; i++) {
        ssize_t done;
        while ((done = write(fd, &i, sizeof i)) < 0 && errno == EINTR)
            ;
        if (done != sizeof i)
            return perror("pipe: write"), 1;
    }
    return 0;
}

/* Until nobody has the writing end open any more. A read may end in the middle of a number. */
static int receive_numbers(int fd)
{
    uint64_t number, count = 0, sum = 0;
    size_t have = 0;
    ssize_t got;

    while ((got = read(fd, (char *)&number + have, sizeof number - have)) > 0 || (got < 0 && errno == EINTR)) {
        have += got > 0 ? (size_t)got : 0;
        if (have < sizeof number)
            continue;
        count++;
        sum += number;
        have = 0;
    }
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return got < 0 || have > 0 ? fprintf(stderr, "pipe: it ended in the middle\n"), 1 : 0;
}

int main(int argc, char **argv)
{
    int ends[2], status = 1, rc;
    pid_t child;

    if (argc != 2)
        return fprintf(stderr, "usage: pipe COUNT\n"), 2;
    if (pipe(ends) != 0 || (child = fork()) < 0)
        return perror("pipe"), 1;
    if (child == 0) {
        close(ends[0]); /* or we would be a reader ourselves, and never be told that there is none */
        _exit(send_numbers(ends[1], strtoull(argv[1], NULL, 10)));
    }
    close(ends[1]); /* or the end would never come: we could still write ourselves */
    rc = receive_numbers(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return rc != 0 || status != 0;
}
