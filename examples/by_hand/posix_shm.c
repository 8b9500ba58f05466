/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * POSIX shared memory by hand: a bounded buffer that two processes have mapped, a mutex, and two condition variables.
 *
 *     posix_shm recv /numbers &
 *     posix_shm send /numbers 10
 *     posix_shm die /numbers            takes the mutex and dies with it
 *
 * What "shm:" of noria adds: no lock that a stopped process could hold (this mutex comes back when its owner dies, but not
 * when it is stopped), and no condition variable, whose signaller may block for ever behind a waiter that was killed; a
 * creator that dies half-way is replaced; an end of the stream, also when the sender is killed; no system call per message.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 16 };

struct buffer { /* no pointers: it lies at another address in each process */
    atomic_int is_ready;
    pthread_mutex_t mutex;
    pthread_cond_t not_empty, not_full;
    uint64_t written, read, ended, numbers[ROOM];
};

static void initialise(struct buffer *buffer)
{
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;

    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST); /* the kernel unlocks it when its owner dies */
    pthread_mutex_init(&buffer->mutex, &mutex);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&buffer->not_empty, &condition);
    pthread_cond_init(&buffer->not_full, &condition);
    atomic_store(&buffer->is_ready, 1); /* last: whoever sees it sees all of the above */
}

/* One makes it, the others wait until it is ready. If the one dies in between, they wait for ever. */
static struct buffer *attach(const char *name)
{
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600), is_new = fd >= 0;
    struct buffer *buffer;
    off_t size = 0;

    if (!is_new && (errno != EEXIST || (fd = shm_open(name, O_RDWR, 0)) < 0))
        return NULL;
    if (is_new && posix_fallocate(fd, 0, sizeof *buffer) != 0) /* ftruncate promises room; SIGBUS if there is none */
        return NULL;
    while ((size = lseek(fd, 0, SEEK_END)) < (off_t)sizeof *buffer && size >= 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    buffer = mmap(NULL, sizeof *buffer, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (buffer == MAP_FAILED)
        return NULL;
    if (is_new)
        initialise(buffer);
    while (!atomic_load(&buffer->is_ready))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return buffer;
}

/* EOWNERDEAD: its owner died inside; the lock is ours, and what it guards may be half done. Here it never is: a number is
 * stored before it is counted. */
static void own(struct buffer *buffer, int rc)
{
    if (rc == EOWNERDEAD) {
        fprintf(stderr, "posix_shm: the owner of the mutex died\n");
        rc = pthread_mutex_consistent(&buffer->mutex);
    }
    if (rc != 0)
        exit((fprintf(stderr, "posix_shm: %s\n", strerror(rc)), 1));
}

static void put(struct buffer *buffer, const uint64_t *number)
{
    own(buffer, pthread_mutex_lock(&buffer->mutex));
    while (buffer->written - buffer->read == ROOM) /* again: others may have been faster, and waits end without reason */
        own(buffer, pthread_cond_wait(&buffer->not_full, &buffer->mutex));
    if (number != NULL)
        buffer->numbers[buffer->written % ROOM] = *number;
    buffer->written += number != NULL;
    buffer->ended = number == NULL;
    pthread_cond_signal(&buffer->not_empty);
    pthread_mutex_unlock(&buffer->mutex);
}

static int take(struct buffer *buffer, uint64_t *number)
{
    int is_there;

    own(buffer, pthread_mutex_lock(&buffer->mutex));
    while (buffer->written == buffer->read && !buffer->ended)
        own(buffer, pthread_cond_wait(&buffer->not_empty, &buffer->mutex));
    is_there = buffer->written != buffer->read;
    if (is_there)
        *number = buffer->numbers[buffer->read++ % ROOM];
    pthread_cond_signal(&buffer->not_full);
    pthread_mutex_unlock(&buffer->mutex);
    return is_there;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, dies = argc == 3 && strcmp(argv[1], "die") == 0;
    uint64_t number = 0, count = 0, sum = 0, n = sends ? strtoull(argv[3], NULL, 10) : 0;
    struct buffer *buffer;

    if (!sends && !dies && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: posix_shm send /NAME COUNT | posix_shm recv|die /NAME\n"), 2;
    buffer = attach(argv[2]);
    if (buffer == NULL)
        return perror(argv[2]), 1;
    if (dies)
        return pthread_mutex_lock(&buffer->mutex) == 0 && raise(SIGKILL);
    for (; number < n; number++)
        put(buffer, &number);
    if (sends)
        return put(buffer, NULL), 0;
    for (; take(buffer, &number); count++)
        sum += number;
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return shm_unlink(argv[2]) != 0;
}
