/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A participant made of the headers alone: it knows the bytes of docs/LAYOUT.md and the ring algorithms, nothing of
 * the library. Built with another word size than the library, it shows that both see the same.
 *
 *     peer layout                      prints every field of every shared struct
 *     peer spsc|mpmc send|recv NAME N  takes part in the channel /dev/shm/NAME for N numbered messages
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "numbered.h"
#include "print_bytes.h"

static struct {
    int fd;
    struct noria_superblock super;
    struct noria_geometry geometry;
    struct noria_header *header;
    struct noria_entry *entry;
    uint32_t number;
    void *ring;
} channel;

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "peer of %zu bits: %s (%s)\n", 8 * sizeof(void *), what, strerror(errno));
    exit(1);
}

/* Maps the channel and finds its parts. */
static void attach(const char *name)
{
    uint8_t *base;

    channel.fd = shm_open(name, O_RDWR | O_CLOEXEC, 0);
    if (channel.fd < 0 || pread(channel.fd, &channel.super, sizeof(channel.super), 0) != (ssize_t)sizeof(channel.super))
        give_up("cannot read the segment");
    if (channel.super.magic != NORIA_SEGMENT_MAGIC || channel.super.version != NORIA_SEGMENT_VERSION)
        give_up("not a segment of this layout");
    base = mmap(NULL, (size_t)channel.super.size, PROT_READ | PROT_WRITE, MAP_SHARED, channel.fd, 0);
    close(channel.fd);
    channel.fd = shm_open(name, O_RDWR | O_CLOEXEC, 0); /* its locks are not those of the mapping */
    if (base == MAP_FAILED || channel.fd < 0)
        give_up("cannot map the segment");
    channel.header = (struct noria_header *)(void *)(base + NORIA_SEGMENT_CONTENT);
    channel.geometry = channel.header->geometry;
    channel.ring = base + NORIA_SEGMENT_CONTENT + channel.geometry.ring_offset;
}

/* Claims a place in the table: its lock byte, then its word. Of its identity it says nothing, so the lock alone tells
 * whether it lives. */
static void join(unsigned role)
{
    struct noria_entry *table =
        (struct noria_entry *)(void *)((uint8_t *)channel.header + channel.geometry.table_offset);

    for (uint32_t number = 1; number <= channel.geometry.max_participants; number++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1,
                             .l_start = (off_t)(NORIA_LOCK_PARTICIPANTS + number)};
        struct noria_entry *entry = &table[number - 1];
        uint64_t word = noria_load_acquire64(&entry->word);
        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_FREE || fcntl(channel.fd, F_OFD_SETLK, &lock) != 0)
            continue;
        noria_store_relaxed64(&entry->start_time, 0);
        noria_store_relaxed64(&entry->pid_namespace, 0);
        noria_store_relaxed64(&entry->image, 0);
        noria_store_relaxed32(&entry->program, 0);
        if (noria_cas_acq_rel64(&entry->word, &word,
                                (word & ~(NORIA_ENTRY_INCARNATION - 1)) + NORIA_ENTRY_INCARNATION + (role << 2) +
                                    NORIA_ENTRY_LIVE)) {
            channel.number = number;
            channel.entry = entry;
            noria_add_release64(&channel.header->roster, 1);
            noria_add_release64(role == 1 ? &channel.header->senders_joined : &channel.header->receivers_joined, 1);
            return;
        }
    }
    give_up("no place is free");
}

static void leave(void)
{
    noria_store_release64(&channel.entry->word, noria_load_relaxed64(&channel.entry->word) & ~(uint64_t)3);
    noria_add_release64(&channel.header->roster, 1);
}

/* The waiting of this peer; its partner's strategy is `yield`, so nobody has to be woken. */
static void require_progress(int rc)
{
    if (rc != 0 && rc != -EAGAIN) {
        errno = -rc;
        give_up("a call of the ring fails");
    }
    if (rc == -EAGAIN)
        sched_yield();
}

static void count_sent(int rc, uint64_t *i)
{
    require_progress(rc);
    *i += rc == 0;
    if (rc == 0)
        noria_add_relaxed64(&channel.entry->sent, 1);
}

static void count_received(int rc, uint64_t *i, const uint8_t *bytes, size_t len)
{
    require_progress(rc);
    if (rc == 0 && !is_numbered(bytes, len, *i))
        give_up("a message is another than was sent");
    *i += rc == 0;
    if (rc == 0)
        noria_add_relaxed64(&channel.entry->received, 1);
}

static void spsc_send(uint64_t n)
{
    struct noria_spsc_producer producer;
    uint8_t bytes[LONGEST];

    if (noria_spsc_join_producer(&producer, channel.ring, (size_t)channel.geometry.ring_size, channel.number) != 0)
        give_up("cannot become the producer");
    for (uint64_t i = 0; i < n;)
        count_sent(noria_spsc_send(&producer, bytes, fill_numbered(bytes, i)), &i);
    noria_spsc_leave_producer(&producer);
}

static void spsc_recv(uint64_t n)
{
    struct noria_spsc_consumer consumer;
    uint8_t bytes[LONGEST];
    size_t len = 0;

    if (noria_spsc_join_consumer(&consumer, channel.ring, (size_t)channel.geometry.ring_size, channel.number) != 0)
        give_up("cannot become the consumer");
    for (uint64_t i = 0; i < n;) {
        int rc = noria_spsc_recv(&consumer, bytes, sizeof(bytes), &len);
        count_received(rc, &i, bytes, len);
    }
    noria_spsc_leave_consumer(&consumer);
}

static void join_mpmc(struct noria_mpmc_handle *ring)
{
    if (noria_mpmc_join(ring, channel.ring, (size_t)channel.geometry.ring_size, channel.number) != 0)
        give_up("cannot join the ring");
}

static void mpmc_send(uint64_t n)
{
    struct noria_mpmc_handle ring;
    uint8_t bytes[LONGEST];

    join_mpmc(&ring);
    for (uint64_t i = 0; i < n;)
        count_sent(noria_mpmc_send(&ring, bytes, fill_numbered(bytes, i)), &i);
}

static void mpmc_recv(uint64_t n)
{
    struct noria_mpmc_handle ring;
    uint8_t bytes[LONGEST];
    size_t len = 0;

    join_mpmc(&ring);
    for (uint64_t i = 0; i < n;) {
        int rc = noria_mpmc_recv(&ring, bytes, sizeof(bytes), &len);
        count_received(rc, &i, bytes, len);
    }
}

int main(int argc, char **argv)
{
    bool sends, spsc;
    uint64_t n;

    if (argc == 2 && strcmp(argv[1], "layout") == 0)
        return print_bytes(stdout), 0;
    if (argc != 5)
        return 2;
    spsc = strcmp(argv[1], "spsc") == 0;
    sends = strcmp(argv[2], "send") == 0;
    n = strtoull(argv[4], NULL, 10);
    attach(argv[3]);
    join(sends ? 1 : 2);
    if (spsc)
        sends ? spsc_send(n) : spsc_recv(n);
    else
        sends ? mpmc_send(n) : mpmc_recv(n);
    leave();
    return 0;
}
