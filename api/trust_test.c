/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: with trust NONE nothing can be had that a peer could crash us with, a handle that has met what cannot be
 * answers -EBADMSG for good, and where nothing of that kind happens all is as ever. With options.guard a segment
 * that is truncated makes calls -EIO, whoever else handles SIGBUS is still asked, and the handler goes with the last
 * handle.
 */
#include "signals_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "layout.h"
#include "segment.h"

/* cmocka puts its own handlers in place of ours when a test is over, so what is truncated is closed in the test. */
static void close_both(void)
{
    close_handle(&ch.tx);
    close_handle(&ch.rx);
}

static bool can_shrink(void)
{
    return strcmp(ch.variant->scheme, "shm") == 0;
}

static void trust_nobody(void)
{
    ch.options.trust = NORIA_TRUST_NONE;
    ch.options.guard = can_shrink();
}

static void trust_none_works(void **state)
{
    /* Claim: messages pass, stat says so, and an opener that did not ask for it has it all the same. */
    struct noria_stat stat = {0};

    (void)state;
    trust_nobody();
    open_pair();
    for (unsigned i = 0; i < 20; i++) {
        send_numbered(i, 20);
        expect(i, 20);
    }
    assert_int_equal(noria_stat(ch.tx, &stat), 0);
    assert_int_equal(stat.trust, NORIA_TRUST_NONE);
}

static void what_can_crash_is_refused(void **state)
{
    /* Claim: pthread objects, semaphores in files, eventfds and segments that can be truncated are -ENOTSUP, and no channel
     * is made; nor does an opener who asks for trust NONE get into one that has them. */
    static const uint32_t waits[] = {NORIA_WAIT_MUTEX, NORIA_WAIT_SEMAPHORE, NORIA_WAIT_EVENTFD};
    noria_channel *channel = NULL;

    (void)state;
    trust_nobody();
    for (int i = 0; i < 3; i++) {
        ch.options.wait = waits[i];
        assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), ENOTSUP);
        assert_null(channel);
    }
    ch.options.wait = NORIA_WAIT_FUTEX;
    if (!can_shrink())
        return;
    ch.options.guard = 0;
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), ENOTSUP);
    assert_int_equal(access(ch.path, F_OK), -1);
    ch.options.trust = NORIA_TRUST_SAME_USER;
    ch.options.wait = NORIA_WAIT_MUTEX;
    open_pair();
    ch.options.trust = NORIA_TRUST_NONE;
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND, &ch.options), ENOTSUP);
    ch.options.guard = 1;
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND, &ch.options), ENOTSUP);
    send_numbered(1, 8);
    expect(1, 8);
}

/* The channel's own bytes, as a peer has them. */
static uint8_t *map_as_peer(size_t *size)
{
    struct stat status;
    uint8_t *bytes;
    int fd = can_shrink() ? open(ch.path, O_RDWR | O_CLOEXEC) : dup(ch.memfd);

    assert_int_equal(fstat(fd, &status), 0);
    *size = (size_t)status.st_size;
    bytes = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    close(fd);
    return bytes;
}

static void a_poisoned_ring_stays_poisoned(void **state)
{
    /* Claim: once a receive has met words that cannot be, every call is -EBADMSG, also when the words are mended;
     * another handle, which has not met them, goes on. */
    struct noria_header *header;
    uint8_t *bytes, *saved, buffer[64];
    struct noria_stat stat = {0};
    noria_channel *other;
    size_t size;

    (void)state;
    trust_nobody();
    open_pair();
    other = is_spsc() ? NULL : open_handle(NORIA_RECV);
    send_numbered(1, 20);
    bytes = map_as_peer(&size);
    saved = malloc(size);
    memcpy(saved, bytes, size);
    header = (struct noria_header *)(void *)(bytes + NORIA_SEGMENT_CONTENT);
    memset(bytes + NORIA_SEGMENT_CONTENT + header->geometry.ring_offset + (is_spsc() ? 256 : 512), 0xff,
           size - NORIA_SEGMENT_CONTENT - header->geometry.ring_offset - (is_spsc() ? 256 : 512));
    assert_fails((int)noria_recv(ch.rx, buffer, 64, 0, NULL), EBADMSG);
    memcpy(bytes, saved, size);
    assert_fails((int)noria_recv(ch.rx, buffer, 64, 0, NULL), EBADMSG);
    assert_fails((int)noria_recv(ch.rx, buffer, 64, -1, NULL), EBADMSG);
    assert_fails(noria_stat(ch.rx, &stat), EBADMSG);
    assert_fails(noria_fd(ch.rx, NORIA_RECV), EBADMSG);
    if (other != NULL) {
        expect_on(other, 1, 20);
        close_handle(&other);
    }
    close_handle(&ch.rx);
    ch.rx = open_handle(NORIA_RECV);
    if (is_spsc())
        expect(1, 20);
    munmap(bytes, size);
    free(saved);
}

/* -------------------------------------------------------------------------------------- what a peer could make us do */

enum { ARMED = 0x200 }; /* in noria_entry.signal, see channel/notify.c */

/* Of receivers, as one who wants to be woken leaves it. */
static struct noria_waiting_room *room_in(uint8_t *bytes)
{
    struct noria_header *header = (struct noria_header *)(void *)(bytes + NORIA_SEGMENT_CONTENT);

    header->rooms[1].count |= UINT32_C(1) << 31;
    return &header->rooms[1];
}

/* How often a send queues a signal that nobody asked for. */
static int send_with_forged_registration(void)
{
    struct noria_header *header;
    struct noria_entry *table;
    uint8_t *bytes;
    size_t size;
    int count;

    open_pair();
    bytes = map_as_peer(&size);
    header = (struct noria_header *)(void *)(bytes + NORIA_SEGMENT_CONTENT);
    table = (struct noria_entry *)(void *)((uint8_t *)header + header->geometry.table_offset);
    for (int i = 0; i < 2; i++)
        table[i].signal = SIGUSR1 | ARMED;
    room_in(bytes)->signals = 1;
    send_numbered(1, 8);
    count = count_signals(SIGUSR1);
    if (ch.options.trust == NORIA_TRUST_NONE) /* a sender who trusts them is to find it */
        assert_true((header->rooms[1].count >> 31) != 0);
    munmap(bytes, size);
    close_both();
    return count;
}

static void forged_registrations_send_nothing(void **state)
{
    /* Claim: whatever a peer writes into the table, a handle that trusts nobody sends no signal, not even to its own
     * process; it registers for none either. (With trust SAME_USER the same words are a registration.) */
    (void)state;
    assert_int_not_equal(send_with_forged_registration(), 0);
    if (ch.memfd >= 0) { /* one channel to a descriptor */
        close(ch.memfd);
        ch.memfd = memfd_create("variant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        snprintf(ch.address, sizeof(ch.address), "memfd:%d", ch.memfd);
    }
    remove_name();
    trust_nobody();
    assert_int_equal(send_with_forged_registration(), 0);
    open_pair();
    assert_fails(noria_notify_signal(ch.rx, SIGUSR1, NORIA_NOTIFY_ONCE), ENOTSUP);
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ONCE), 0);
}

/* A number that /proc tells about a descriptor of ours; -1: it does not. */
static long long told_of(int fd, const char *what, int base)
{
    char path[64], line[128];
    long long number = -1;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, what, strlen(what)) == 0)
            number = strtoll(line + strlen(what), NULL, base);
    fclose(file);
    return number;
}

/* As sync/eventfd.c lays out what it keeps in the segment. */
struct claim {
    uint32_t number, pid, identity, unused;
};

/* As if everybody had that descriptor open as the channel's eventfd for receivers. */
static void forge_claims(uint8_t *bytes, int fd)
{
    struct noria_header *header = (struct noria_header *)(void *)(bytes + NORIA_SEGMENT_CONTENT);
    struct claim *claims = (struct claim *)(void *)((uint8_t *)header + header->geometry.poll_offset);
    struct noria_waiting_room *room = room_in(bytes);
    uint32_t identity = (uint32_t)told_of(fd, "eventfd-id:", 10) + 1;

    for (uint32_t i = 0; i < header->geometry.max_participants; i++)
        claims[2 * i + 1] = (struct claim){(uint32_t)fd + 1, (uint32_t)getpid(), identity, 0};
    room->poll[0] = identity;
    room->polled = NORIA_POLL_EVENTFD;
}

static void forged_claims_ring_and_drain_nothing(void **state)
{
    /* Claim: an eventfd of ours that a peer names as the channel's is neither rung by a send nor drained by a receive that
     * finds nothing. With a name noria_fd is a FIFO, whatever stands in the segment; without one it is -ENOTSUP. */
    int mine = eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK);
    uint8_t *bytes, buffer[64];
    size_t size;

    (void)state;
    trust_nobody();
    open_pair();
    assert_int_equal((stat_of(ch.rx).abilities & NORIA_CAN_POLL) != 0, can_shrink());
    if (can_shrink())
        assert_true(noria_fd(ch.rx, NORIA_RECV) >= 0);
    else
        assert_fails(noria_fd(ch.rx, NORIA_RECV), ENOTSUP);
    bytes = map_as_peer(&size);
    forge_claims(bytes, mine);
    send_numbered(1, 8);
    assert_int_equal(told_of(mine, "eventfd-count:", 16), 5);
    expect(1, 8);
    assert_fails((int)noria_recv(ch.rx, buffer, 64, 0, NULL), EAGAIN);
    assert_int_equal(told_of(mine, "eventfd-count:", 16), 5);
    munmap(bytes, size);
    close_both();
    assert_int_equal(told_of(mine, "eventfd-count:", 16), 5);
    close(mine);
    if (can_shrink())
        noria_unlink(ch.address); /* with the FIFO */
}

/* ------------------------------------------------------------------------------------------------------ the guard */

static void truncated_segment_is_an_error(void **state)
{
    /* Claim (guard): after a truncation every call on the handles is -EIO, at once and for good, peeked messages can
     * still be read, and closing works. */
    struct noria_span span = {NULL, 0, {0, 0}};
    struct noria_stat stat = {0};
    uint8_t buffer[64] = {0}, sum = 0;

    (void)state;
    ch.options.guard = 1;
    open_pair();
    send_numbered(1, 20);
    send_numbered(2, 20);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    assert_int_equal(truncate(ch.path, 0), 0);
    for (size_t i = 0; i < span.len; i++)
        sum |= ((const uint8_t *)span.data)[i];
    assert_int_equal(sum, 0); /* zeros, and no signal */
    assert_fails((int)noria_recv(ch.rx, buffer, 64, -1, NULL), EIO);
    assert_fails(noria_release(ch.rx, &span), EIO);
    assert_fails(noria_send(ch.tx, "x", 1, -1), EIO);
    assert_fails(noria_send(ch.tx, "x", 1, 0), EIO);
    assert_fails(noria_stat(ch.tx, &stat), EIO);
    assert_int_equal(truncate(ch.path, 1 << 20), 0); /* it is another one now */
    assert_fails(noria_send(ch.tx, "x", 1, 0), EIO);
    close_both();
}

static uint8_t received[64];

static void *receive_for_ever(void *context)
{
    return (void *)(intptr_t)noria_recv(context, received, 64, -1, NULL);
}

static void truncated_while_a_receiver_sleeps(void **state)
{
    /* Claim (guard): a receiver that waits for ever ends with -EIO within its re-check. */
    const struct noria_header *header;
    uint8_t *bytes;
    pthread_t thread;
    size_t size;
    void *rc;

    (void)state;
    ch.options.guard = 1;
    open_pair();
    bytes = map_as_peer(&size);
    header = (const struct noria_header *)(const void *)(bytes + NORIA_SEGMENT_CONTENT);
    assert_int_equal(pthread_create(&thread, NULL, receive_for_ever, ch.rx), 0);
    while ((noria_load_acquire32(&header->rooms[1].count) >> 31) == 0)
        sched_yield(); /* until it sleeps */
    munmap(bytes, size);
    assert_int_equal(truncate(ch.path, 0), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, -EIO);
    close_both();
}

static volatile sig_atomic_t asked;
static sigjmp_buf way_out;

static void own_handler(int number)
{
    asked = number;
    siglongjmp(way_out, 1);
}

static void the_programs_handler_is_asked(void **state)
{
    /* Claim (guard): a SIGBUS that is not ours goes to the handler that was there before, and when the last guarded
     * handle is closed that one is in place again. */
    struct sigaction own = {.sa_handler = own_handler, .sa_flags = SA_NODEFER}, now;
    int fd = memfd_create("unguarded", MFD_CLOEXEC);
    volatile uint8_t *bytes;

    (void)state;
    assert_int_equal(sigaction(SIGBUS, &own, NULL), 0);
    ch.options.guard = 1;
    open_pair();
    assert_int_equal(ftruncate(fd, 4096), 0);
    bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    assert_int_equal(ftruncate(fd, 0), 0);
    asked = 0;
    if (sigsetjmp(way_out, 1) == 0) {
        bytes[0] = 1;
        fail_msg("a truncated page could be written");
    }
    assert_int_equal(asked, SIGBUS);
    asked = 0;
    if (sigsetjmp(way_out, 1) == 0)
        raise(SIGBUS); /* sent, without a fault */
    assert_int_equal(asked, SIGBUS);
    send_numbered(1, 8);
    expect(1, 8);
    close_handle(&ch.tx);
    assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
    assert_true(now.sa_handler != own_handler);
    close_handle(&ch.rx);
    assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
    assert_true(now.sa_handler == own_handler);
    signal(SIGBUS, SIG_DFL);
    munmap((void *)(uintptr_t)bytes, 4096);
    close(fd);
}

static void a_memfd_cannot_be_truncated(void **state)
{
    /* Claim: the memory behind a channel at memfd: cannot be made smaller, nor larger, by anybody. */
    (void)state;
    open_pair();
    assert_int_equal(ftruncate(ch.memfd, 0), -1);
    assert_int_equal(ftruncate(ch.memfd, 4096), -1);
    assert_int_equal(ftruncate(ch.memfd, 1 << 24), -1);
    send_numbered(1, 8);
    expect(1, 8);
}

/* Of the memory behind the channel. */
static int find_memory(void)
{
    char path[64], target[64];

    for (int fd = 3; fd < 256; fd++) {
        ssize_t length;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        length = readlink(path, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        if (strncmp(target, "/memfd:noria", 12) == 0 || strncmp(target, "/memfd:variant", 14) == 0)
            return fd;
    }
    return -1;
}

static void the_size_is_sealed(void **state)
{
    /* Claim: so it is whoever trusts whom, and nobody can take the seals away. */
    const int final = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    (void)state;
    if (strcmp(ch.variant->scheme, "anon") == 0)
        trust_nobody();
    open_pair();
    assert_true(find_memory() >= 0);
    assert_int_equal(fcntl(find_memory(), F_GET_SEALS) & final, final);
}

static void a_memfd_that_may_grow_is_refused(void **state)
{
    /* Claim: somebody's memory that only cannot shrink, and takes no more seals, is refused, with a sentence. */
    int fd = memfd_create("grows", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    noria_channel *channel = NULL;
    char address[32];
    uint8_t *bytes;
    size_t size;

    (void)state;
    open_pair();
    bytes = map_as_peer(&size);
    assert_int_equal(write(fd, bytes, size), size);
    munmap(bytes, size);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    snprintf(address, sizeof(address), "memfd:%d", fd);
    assert_fails(noria_open(&channel, address, 0, NULL), EPERM);
    assert_non_null(strstr(noria_detail(), "grows"));
    close(fd);
}

static void a_memfd_that_cannot_be_sealed_is_refused(void **state)
{
    /* Claim: memory that its owner has kept from being sealed is refused, with a sentence. */
    noria_channel *channel = NULL;
    char address[32];
    int fd = memfd_create("open", MFD_CLOEXEC);

    (void)state;
    snprintf(address, sizeof(address), "memfd:%d", fd);
    assert_true(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &ch.options) < 0);
    assert_non_null(strstr(noria_detail(), "MFD_ALLOW_SEALING"));
    close(fd);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(trust_none_works),
        EVERYWHERE(what_can_crash_is_refused),
        AT("shm", a_poisoned_ring_stays_poisoned),
        AT("memfd", a_poisoned_ring_stays_poisoned),
        AT("shm, memfd", forged_registrations_send_nothing),
        AT("shm, memfd", forged_claims_ring_and_drain_nothing),
        AT("shm", truncated_segment_is_an_error),
        AT("shm", truncated_while_a_receiver_sleeps),
        AT("shm", the_programs_handler_is_asked),
        AT("memfd", a_memfd_cannot_be_truncated),
        AT("memfd, anon", the_size_is_sealed),
        AT("memfd", a_memfd_that_may_grow_is_refused),
        ONCE(a_memfd_that_cannot_be_sealed_is_refused),
    };

    block_signals();
    return run_variants("trust", tests, sizeof(tests) / sizeof(tests[0]));
}
