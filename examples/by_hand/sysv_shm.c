/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System V shared memory and semaphores by hand: the bounded buffer of the textbook, with three semaphores.
 *
 *     sysv_shm recv . &                   the path and a letter make the keys (ftok)
 *     sysv_shm send . 10
 *     sysv_shm die .                      takes the mutex and dies with it: the kernel gives it back (SEM_UNDO)
 *     ipcs -ms; ipcrm -m ID -s ID         they stay until somebody removes them; here the receiver does, at the end
 *
 * What "sysv:" of noria adds: an end of the stream, also when the sender is killed; messages of any length; a sender killed
 * between two of the three steps below takes no room with it (here it does: the counts are not undone); time-outs.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>

enum { ROOM = 16, MUTEX = 0, FULL = 1, EMPTY = 2, SEMAPHORES = 3 };
#define LAST UINT64_MAX

struct buffer {
    uint64_t written, read, numbers[ROOM];
};

union semun { /* the caller of semctl has to declare it */
    int value;
    struct semid_ds *state;
    unsigned short *values;
};

static void change(int set, unsigned short which, short by)
{
    struct sembuf op = {which, by, which == MUTEX ? SEM_UNDO : 0};
    while (semop(set, &op, 1) != 0)
        if (errno != EINTR)
            exit((perror("sysv_shm: semop"), 1));
}

/* New semaphores have no value, and are seen before they get one. Who made them gives it, and then makes one operation:
 * its time is what the others wait for. */
static int attach_semaphores(key_t key)
{
    static unsigned short values[SEMAPHORES] = {[MUTEX] = 1, [EMPTY] = ROOM};
    int set = semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600);
    struct semid_ds state = {.sem_otime = 0};

    if (set >= 0) {
        if (semctl(set, 0, SETALL, (union semun){.values = values}) != 0)
            return -1;
        change(set, MUTEX, -1);
        change(set, MUTEX, 1);
        return set;
    }
    if (errno != EEXIST || (set = semget(key, SEMAPHORES, 0)) < 0)
        return -1;
    while (state.sem_otime == 0) {
        if (semctl(set, 0, IPC_STAT, (union semun){.state = &state}) != 0)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return set;
}

static void put(struct buffer *buffer, int set, uint64_t number)
{
    change(set, EMPTY, -1); /* waits for room */
    change(set, MUTEX, -1);
    buffer->numbers[buffer->written++ % ROOM] = number;
    change(set, MUTEX, 1);
    change(set, FULL, 1);
}

static uint64_t take(struct buffer *buffer, int set)
{
    uint64_t number;

    change(set, FULL, -1);
    change(set, MUTEX, -1);
    number = buffer->numbers[buffer->read++ % ROOM];
    change(set, MUTEX, 1);
    change(set, EMPTY, 1);
    return number;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, dies = argc == 3 && strcmp(argv[1], "die") == 0, memory, set;
    uint64_t number, count = 0, sum = 0, n = sends ? strtoull(argv[3], NULL, 10) : 0;
    struct buffer *buffer;
    key_t key;

    if (!sends && !dies && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: sysv_shm send PATH COUNT | sysv_shm recv|die PATH\n"), 2;
    key = ftok(argv[2], 'n'); /* of device and inode number: two paths may share a key */
    if (key == -1)
        return perror(argv[2]), 1;
    memory = shmget(key, sizeof *buffer, IPC_CREAT | 0600); /* zero at first: an empty buffer */
    set = attach_semaphores(key);
    if (memory < 0 || set < 0 || (buffer = shmat(memory, NULL, 0)) == (void *)-1)
        return perror(argv[2]), 1;
    if (dies)
        return change(set, MUTEX, -1), raise(SIGKILL);
    for (uint64_t i = 0; i < n; i++)
        put(buffer, set, i);
    if (sends)
        return put(buffer, set, LAST), 0;
    for (; (number = take(buffer, set)) != LAST; count++)
        sum += number;
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return shmctl(memory, IPC_RMID, NULL) != 0 || semctl(set, 0, IPC_RMID) != 0;
}
