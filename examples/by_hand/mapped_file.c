/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mapped file by hand: a ring of numbers that outlives its processes, and a reboot. One sender, one receiver, no lock:
 * each writes one of two positions, and sleeps until the other has moved (futex).
 *
 *     mapped_file send /tmp/numbers 10      up to 16 wait there for a receiver
 *     mapped_file recv /tmp/numbers
 *
 * What "file:" of noria adds: many senders and receivers; messages of any length; an end of the stream, also when the
 * sender is killed; a second sender is refused; no system call when nobody sleeps; noria_sync against power loss. How
 * little a ring needs beyond this, and what order its accesses must have, is told in ring/spsc.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROOM = 16 };
#define LAST UINT64_MAX

struct ring { /* all zero is an empty one, so there is nothing to initialise, and nothing to wait for */
    _Atomic uint32_t written, read;
    uint64_t numbers[ROOM];
};

/* Sleeps unless the position has moved already; the kernel compares once more under its own lock. */
static void sleep_while(_Atomic uint32_t *position, uint32_t seen)
{
    syscall(SYS_futex, position, FUTEX_WAIT, seen, NULL, NULL, 0); /* EAGAIN, EINTR: the caller looks again */
}

/* Release: whoever sees the new position sees what was stored before it. */
static void move_on(_Atomic uint32_t *position, uint32_t to)
{
    atomic_store_explicit(position, to, memory_order_release);
    syscall(SYS_futex, position, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void put(struct ring *ring, uint64_t number)
{
    uint32_t at = atomic_load_explicit(&ring->written, memory_order_relaxed), read; /* only we write it */

    while (at - (read = atomic_load_explicit(&ring->read, memory_order_acquire)) == ROOM)
        sleep_while(&ring->read, read);
    ring->numbers[at % ROOM] = number; /* if we die before the next line, our successor writes here again */
    move_on(&ring->written, at + 1);
}

static uint64_t take(struct ring *ring)
{
    uint32_t at = atomic_load_explicit(&ring->read, memory_order_relaxed); /* only we write it */
    uint64_t number;

    while (atomic_load_explicit(&ring->written, memory_order_acquire) == at)
        sleep_while(&ring->written, at);
    number = ring->numbers[at % ROOM];
    move_on(&ring->read, at + 1);
    return number;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, fd, rc;
    uint64_t number, count = 0, sum = 0, n = sends ? strtoull(argv[3], NULL, 10) : 0;
    struct ring *ring;

    if (!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: mapped_file send PATH COUNT | mapped_file recv PATH\n"), 2;
    fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    rc = fd < 0 ? errno : posix_fallocate(fd, 0, sizeof *ring); /* a hole on a full disk would be SIGBUS later */
    ring = rc == 0 ? mmap(NULL, sizeof *ring, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (ring == MAP_FAILED)
        return fprintf(stderr, "%s: %s\n", argv[2], strerror(rc != 0 ? rc : errno)), 1;
    for (uint64_t i = 0; i < n; i++)
        put(ring, i);
    if (sends)
        return put(ring, LAST), 0;
    for (; (number = take(ring)) != LAST; count++)
        sum += number;
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return unlink(argv[2]) != 0;
}
