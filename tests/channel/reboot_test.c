/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a channel in a file outlives a reboot: its messages are there, those who took part before count as dead
 * whatever their numbers mean now, what they held comes back, and what they waited with holds up nobody.
 *
 * The reboot: everybody is killed, or closes, and the superblock gets the boot of another machine.
 */
#define KINDS_TO_TEST {NORIA_KIND_SPSC, "file"}, {NORIA_KIND_MPMC, "file"}, {NORIA_KIND_MPMC, "shm"}
#include "variants_test.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "layout.h"
#include "peers.h"
#include "segment.h"

static int with_peers(void **state)
{
    peers_begin();
    return setup(state);
}

static int without_peers(void **state)
{
    peers_end();
    return teardown(state);
}

static void read_file(void *to, size_t size, size_t offset)
{
    int fd = open(ch.path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(pread(fd, to, size, (off_t)offset), size);
    close(fd);
}

static void write_file(const void *from, size_t size, size_t offset)
{
    int fd = open(ch.path, O_RDWR | O_CLOEXEC);

    assert_int_equal(pwrite(fd, from, size, (off_t)offset), size);
    close(fd);
}

static uint64_t boot_of_file(void)
{
    uint64_t boot;

    read_file(&boot, sizeof(boot), offsetof(struct noria_superblock, boot));
    return boot;
}

static void reboot(void)
{
    uint64_t boot = boot_of_file() + 1;

    write_file(&boot, sizeof(boot), offsetof(struct noria_superblock, boot));
}

static size_t entry_offset(uint32_t number)
{
    return NORIA_SEGMENT_CONTENT + sizeof(struct noria_header) + (number - 1) * sizeof(struct noria_entry);
}

static void hold(void)
{
    struct noria_span span;
    noria_channel *mine = open_handle(NORIA_RECV);

    PEER_REQUIRES(noria_peek(mine, &span, 0, NULL) == 0);
    say();
    await_end();
}

/* The entry of a dead participant gets the identity of this process, which lives and maps the file: as a number that is
 * given again, with the same start time. */
static void give_the_dead_our_name(uint32_t number, const struct noria_entry *ours)
{
    struct noria_entry entry;

    read_file(&entry, sizeof(entry), entry_offset(number));
    assert_int_equal(NORIA_ENTRY_STATE(entry.word), NORIA_ENTRY_LIVE);
    entry.pid = ours->pid;
    entry.start_time = ours->start_time;
    entry.pid_namespace = ours->pid_namespace;
    write_file(&entry, sizeof(entry), entry_offset(number));
}

static void the_dead_of_an_earlier_boot_are_dead(void **state)
{
    /* Claim: an entry of an earlier boot is settled although the process of that number lives and has the file mapped;
     * what it held comes back. In the same boot it would be taken for alive. */
    noria_channel *keeper;
    struct noria_entry ours;
    struct noria_participant who[8];
    struct noria_info info;
    uint8_t bytes[64];
    pid_t peer;
    void *mapped;
    int fd;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    read_file(&ours, sizeof(ours), entry_offset(1));
    send_numbered(1, 10);
    send_numbered(2, 10);
    peer = start_peer(hold);
    await_peer();
    close_handle(&ch.tx);
    kill_peer(peer);
    give_the_dead_our_name(2, &ours);
    fd = open(ch.path, O_RDWR | O_CLOEXEC);
    mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    assert_true(mapped != MAP_FAILED);
    keeper = open_handle(0); /* cleans up after the dead, and finds none */
    assert_int_equal(stat_of(keeper).deaths, 0);
    assert_int_equal(noria_who(ch.address, who, 8), 2);
    close_handle(&keeper);

    reboot();
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(stat_of(ch.rx).deaths, 1);
    for (unsigned n = 1; n <= 2; n++) {
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, &info), 10);
        verify_message(bytes, n, 10);
        if (n == 1)
            assert_int_equal(info.flags, NORIA_REDELIVERED);
    }
    munmap(mapped, 4096);
}

static void the_first_to_come_settles_once(void **state)
{
    /* Claim: the first one in a new boot stores it, and whoever comes later finds the channel of this boot. */
    uint64_t boot;

    (void)state;
    open_pair();
    boot = boot_of_file();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    reboot();
    assert_true(boot_of_file() != boot);
    ch.tx = open_handle(NORIA_SEND);
    assert_true(boot_of_file() == boot);
    ch.rx = open_handle(NORIA_RECV);
    send_numbered(1, 5);
    expect(1, 5);
}

static void waiting_begins_anew(void **state)
{
    /* Claim: flags of sleepers, mutexes held and descriptors given out in an earlier boot are gone. */
    static const uint32_t ways[] = {NORIA_WAIT_FUTEX, NORIA_WAIT_MUTEX, NORIA_WAIT_SEMAPHORE, NORIA_WAIT_FIFO};
    uint8_t noise[sizeof(struct noria_waiting_room)], bytes[8];
    struct noria_geometry geometry;

    (void)state;
    memset(noise, 0xa5, sizeof(noise));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ch.options.wait = ways[i];
        open_pair();
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        read_file(&geometry, sizeof(geometry), NORIA_SEGMENT_CONTENT);
        for (size_t side = 0; side < 2; side++)
            write_file(noise, sizeof(noise), NORIA_SEGMENT_CONTENT + offsetof(struct noria_header, rooms) +
                                                 side * sizeof(struct noria_waiting_room));
        for (size_t at = 0; at + 8 <= geometry.bell_size; at += 8)
            write_file(noise, 8, NORIA_SEGMENT_CONTENT + geometry.bell_offset + at);
        reboot();
        open_pair();
        send_numbered(1, 5);
        expect(1, 5);
        assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 20 * MS, NULL), -ETIMEDOUT);
        assert_true(noria_fd(ch.rx, NORIA_RECV) >= 0);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
}

static void whoever_lives_is_not_settled(void **state)
{
    /* Claim: a file that another machine has open (a boot that is not ours, and locks that are held) is refused, and
     * its users are left alone. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    reboot();
    assert_fails(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), EBUSY);
    send_numbered(1, 5);
    assert_int_equal(stat_of(ch.tx).deaths, 0);
}

static void settling_is_waited_for(void **state)
{
    /* Claim: who comes while another, who does not get on, settles what the last boot left waits for it as long as he may,
     * and no longer. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = NORIA_LOCK_CREATE, .l_len = 1};
    noria_channel *channel = NULL;
    int fd;

    (void)state;
    open_pair();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    reboot();
    fd = open(ch.path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    ch.options.open_timeout_ns = 20 * MS;
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND, &ch.options), ETIMEDOUT);
    close(fd);
    assert_int_equal(noria_open(&channel, ch.address, NORIA_SEND, &ch.options), 0);
    close_handle(&channel);
}

static void sync_is_for_disks(void **state)
{
    /* Claim: noria_sync succeeds on a file, with and without sync at close, and says -ENOTSUP where there is no
     * disk. */
    noria_channel *memory = NULL;

    (void)state;
    ch.options.sync = NORIA_SYNC_CLOSE;
    open_pair();
    send_numbered(1, 5);
    assert_int_equal(noria_sync(ch.tx), 0);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    ch.rx = open_handle(NORIA_RECV);
    expect(1, 5);
    assert_int_equal(noria_open(&memory, "anon:", NORIA_SEND, NULL), 0);
    assert_fails(noria_sync(memory), ENOTSUP);
    close_handle(&memory);
    assert_fails(noria_sync(NULL), EINVAL);
    ch.options.sync = 7;
    assert_fails(try_open(&memory, NORIA_SEND), EINVAL);
}

static void copies_with_holes_are_filled(void **state)
{
    /* Claim: a copy whose zeros became holes is given its place, on the disk or in /dev/shm, when it is opened, not refused,
     * and has what the original had. */
    char copy[160], command[700];
    struct stat before, after;

    (void)state;
    ch.options.max_message = 32768; /* so that there are pages of zeros */
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 5);
    close_handle(&ch.tx);
    snprintf(copy, sizeof(copy), "%s-copy", ch.path);
    snprintf(command, sizeof(command), "cp --sparse=always %s %s && mv %s %s", ch.path, copy, copy, ch.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(stat(ch.path, &before), 0);
    ch.rx = open_handle(NORIA_RECV);
    expect(1, 5);
    assert_int_equal(stat(ch.path, &after), 0);
    assert_true(after.st_blocks * 512 >= after.st_size);
    assert_true(before.st_blocks < after.st_blocks);
}

static void grown_copies_with_holes_are_filled(void **state)
{
    /* Claim: the same of a channel that has grown, although what it has grown by takes more place than the zeros do: what
     * is to have its place for good has it. */
    char copy[160], command[700];
    struct stat before, after;
    uint8_t bytes[4096];

    (void)state;
    ch.options.max_participants = 1000; /* so that there are pages of zeros */
    ch.options.max_held = 1;
    ch.options.max_message = sizeof(bytes);
    ch.options.max_bytes = UINT64_C(64) << 20;
    memset(bytes, 7, sizeof(bytes));
    ch.tx = open_handle(NORIA_SEND);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(noria_send(ch.tx, bytes, sizeof(bytes), 0), 0);
    close_handle(&ch.tx);
    snprintf(copy, sizeof(copy), "%s-copy", ch.path);
    snprintf(command, sizeof(command), "cp --sparse=always %s %s && mv %s %s", ch.path, copy, copy, ch.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(stat(ch.path, &before), 0);
    assert_true(before.st_blocks * 512 >= noria_footprint(&ch.options));
    ch.rx = open_handle(NORIA_RECV);
    assert_int_equal(stat(ch.path, &after), 0);
    assert_true(before.st_blocks < after.st_blocks);
    assert_int_equal(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), sizeof(bytes));
}

int main(void)
{
    static const struct named_test tests[] = {
        AT("file", the_dead_of_an_earlier_boot_are_dead),
        AT("file", the_first_to_come_settles_once),
        AT("file", waiting_begins_anew),
        AT("file", whoever_lives_is_not_settled),
        AT("file", settling_is_waited_for),
        AT("file", sync_is_for_disks),
        EVERYWHERE(copies_with_holes_are_filled),
        ONLY_MPMC(grown_copies_with_holes_are_filled),
    };

    return run_variants_with("reboot", tests, sizeof(tests) / sizeof(tests[0]), with_peers, without_peers);
}
