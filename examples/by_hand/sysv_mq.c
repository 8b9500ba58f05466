/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A System V message queue by hand: each message has a type, and a receiver says which it wants. So one queue is many
 * mailboxes: here even numbers go to 1 and odd ones to 2.
 *
 *     sysv_mq recv . 1 &  sysv_mq recv . 2 &         the path and a letter make the key (ftok)
 *     sysv_mq send . 10
 *     ipcs -q; ipcrm -q ID                           it stays until somebody removes it
 *
 * What "svmq:" of noria adds: an end of the stream, also when the sender is killed (here the receiver then waits for
 * ever); time-outs, which msgrcv has none of; types used as priorities; who uses the queue (`noria stat`).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

enum { BOXES = 2 };

struct letter {
    long type; /* from 1; not counted in the length */
    uint64_t number;
};
#define LAST UINT64_MAX

static int send_one(int queue, long type, uint64_t number)
{
    struct letter letter = {type, number};
    int rc;
    while ((rc = msgsnd(queue, &letter, sizeof letter.number, 0)) != 0 && errno == EINTR) /* waits while it is full */
        ;
    return rc;
}

static int send_numbers(int queue, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (send_one(queue, 1 + (long)(i % BOXES), i) != 0)
            return perror("sysv_mq: msgsnd"), 1;
    for (long type = 1; type <= BOXES; type++)
        if (send_one(queue, type, LAST) != 0)
            return perror("sysv_mq: msgsnd"), 1;
    return 0;
}

/* First in, first out within a type. Type 0 would take whatever comes, -2 the lowest of 1 and 2. */
static int receive_numbers(int queue, long type)
{
    uint64_t count = 0, sum = 0;
    struct letter letter;
    ssize_t len;

    for (;;) {
        while ((len = msgrcv(queue, &letter, sizeof letter.number, type, 0)) < 0 && errno == EINTR)
            ;
        if (len != sizeof letter.number)
            return perror("sysv_mq: msgrcv"), 1; /* EIDRM: somebody has removed the queue */
        if (letter.number == LAST)
            break;
        count++;
        sum += letter.number;
    }
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return 0;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, queue;
    key_t key;

    if (!sends && !(argc == 4 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: sysv_mq send PATH COUNT | sysv_mq recv PATH TYPE\n"), 2;
    key = ftok(argv[2], 'n'); /* of device and inode number: two paths may share a key */
    if (key == -1 || (queue = msgget(key, IPC_CREAT | 0600)) < 0)
        return perror(argv[2]), 1;
    return sends ? send_numbers(queue, strtoull(argv[3], NULL, 10)) : receive_numbers(queue, strtol(argv[3], NULL, 10));
}
