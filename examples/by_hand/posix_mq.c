/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A POSIX message queue by hand: messages with boundaries and priorities, highest first, in a queue that has a name and
 * outlives its processes (ls /dev/mqueue, if that is mounted). Waiting with mq_notify instead of in mq_receive.
 *
 *     posix_mq recv /numbers &
 *     posix_mq send /numbers 10
 *
 * What "mq:" of noria adds: an end of the stream, also when the sender is killed (here the receiver then waits for ever:
 * the queue has no idea who uses it); longer messages; several receivers that do not take each other's pieces.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int send_one(mqd_t queue, const void *data, size_t len, unsigned priority)
{
    int rc;
    while ((rc = mq_send(queue, data, len, priority)) != 0 && errno == EINTR) /* waits while the queue is full */
        ;
    return rc;
}

/* An empty message says that it was the last one: lower than all, it comes after all, whenever it was sent. */
static int send_numbers(mqd_t queue, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (send_one(queue, (const char *)&i, sizeof i, 1 + (unsigned)(i % 3)) != 0)
            return perror("posix_mq: mq_send"), 1;
    return send_one(queue, "", 0, 0) == 0 ? 0 : (perror("posix_mq: mq_send"), 1);
}

/* The kernel sends a signal when a message comes into an EMPTY queue, and forgets the registration with it. So: register,
 * take all there is, wait. In any other order a message comes in between and nobody is told. */
static int receive_numbers(mqd_t queue)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    uint64_t number, count = 0, sum = 0, highest = 0, overtaken = 0;
    ssize_t len = -1;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL); /* taken with sigwaitinfo: no handler, and none can be missed */
    while (len != 0) {
        if (mq_notify(queue, &event) != 0)
            return perror("posix_mq: mq_notify"), 1; /* EBUSY: one process at a time */
        while ((len = mq_receive(queue, (char *)&number, sizeof number, NULL)) > 0 || (len < 0 && errno == EINTR)) {
            if (len < 0)
                continue;
            count++;
            sum += number;
            overtaken += number < highest;
            highest = number > highest ? number : highest;
        }
        if (len < 0 && errno != EAGAIN)
            return perror("posix_mq: mq_receive"), 1;
        while (len < 0 && sigwaitinfo(&set, NULL) < 0 && errno == EINTR)
            ;
    }
    printf("%" PRIu64 " numbers, sum %" PRIu64 ", %" PRIu64 " of them overtaken\n", count, sum, overtaken);
    return 0;
}

int main(int argc, char **argv)
{
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = sizeof(uint64_t)}; /* /proc/sys/fs/mqueue has the limits */
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, rc;
    mqd_t queue;

    if (!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: posix_mq send /NAME COUNT | posix_mq recv /NAME\n"), 2;
    queue = mq_open(argv[2], (sends ? O_WRONLY : O_RDONLY | O_NONBLOCK) | O_CREAT, S_IRUSR | S_IWUSR, &attr);
    if (queue == (mqd_t)-1)
        return perror(argv[2]), 1;
    rc = sends ? send_numbers(queue, strtoull(argv[3], NULL, 10)) : receive_numbers(queue);
    return !sends && rc == 0 && mq_unlink(argv[2]) != 0 ? 1 : rc;
}
