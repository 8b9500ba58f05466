/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: on a channel with checksums every call does what it does without, and a message of which any byte was changed in the
 * file, by hand or by a power loss that left some sectors of an earlier time, is never received: it is passed over, counted,
 * and the receiver is told with the next one.
 */
#define KINDS_TO_TEST {NORIA_KIND_SPSC, "file"}, {NORIA_KIND_MPMC, "file"}
#include "variants_test.h"

enum { LENGTH = 40, SEAL = 8 };

static uint8_t *file; /* the channel's, as anybody may map it */
static size_t file_size;

static void map_file(void)
{
    int fd = open(ch.path, O_RDWR | O_CLOEXEC);

    file_size = (size_t)lseek(fd, 0, SEEK_END);
    file = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
}

static void open_sealed(void)
{
    ch.options.checksum = 1;
    open_pair();
    map_file();
}

/* Message `n`, which no other looks like. */
static void compose(uint8_t *message, unsigned n)
{
    for (unsigned i = 0; i < LENGTH; i += 8) {
        uint64_t word = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ i;
        memcpy(message + i, &word, sizeof(word));
    }
}

static void send_message(unsigned n)
{
    uint8_t message[LENGTH];

    compose(message, n);
    assert_int_equal(noria_send(ch.tx, message, LENGTH, 0), 0);
}

static void expect_message(noria_channel *channel, unsigned n, uint64_t lost)
{
    uint8_t message[LENGTH], got[64];
    struct noria_info info;

    compose(message, n);
    assert_int_equal(noria_recv(channel, got, sizeof(got), 0, &info), LENGTH);
    assert_memory_equal(got, message, LENGTH);
    assert_int_equal(info.size, LENGTH);
    assert_int_equal((info.flags & NORIA_LOST) != 0, lost != 0);
    assert_int_equal(info.lost, lost);
}

/* Where message `n` stands in the file. */
static uint8_t *place_of(unsigned n)
{
    uint8_t message[LENGTH], *at;

    compose(message, n);
    at = memmem(file, file_size, message, LENGTH);
    assert_non_null(at);
    return at;
}

/* ------------------------------------------------------------------------------------------------- as without them */

static void lengths_and_counts_are_the_messages(void **state)
{
    /* Claim: messages of every length pass, max_message is what was asked for, and stat counts their bytes only. */
    uint8_t out[64], in[65];

    (void)state;
    open_sealed();
    memset(out, 0x5a, sizeof(out));
    assert_int_equal(stat_of(ch.tx).max_message, 64);
    assert_int_equal(stat_of(ch.tx).checksum, 1);
    for (size_t len = 0; len <= 64; len++) {
        struct noria_info info;
        assert_int_equal(noria_send(ch.tx, out, len, 0), 0);
        assert_int_equal(stat_of(ch.tx).messages, 1);
        assert_int_equal(stat_of(ch.tx).bytes, len);
        if (len > 0) {
            assert_fails((int)noria_recv(ch.rx, in, len - 1, 0, NULL), EMSGSIZE);
            assert_non_null(strstr(noria_detail(), "; it stays first"));
        }
        assert_int_equal(noria_recv(ch.rx, in, len, 0, &info), len);
        assert_int_equal(info.size, len);
        assert_memory_equal(in, out, len);
    }
    assert_fails(noria_send(ch.tx, in, 65, 0), EMSGSIZE);
    assert_int_equal(stat_of(ch.rx).torn, 0);
}

static void spans_and_batches_work(void **state)
{
    /* Claim: so do messages in place, shortened and given up, batches, and as many messages as the capacity says. */
    struct iovec out[8], in[8];
    uint8_t bytes[8][64];
    struct noria_span span, second;

    (void)state;
    open_sealed();
    assert_int_equal(noria_reserve(ch.tx, 64, &span, 0), 0);
    assert_int_equal(span.len, 64);
    memset(span.data, 0x11, 64);
    assert_fails(noria_commit(ch.tx, &span, 65, 0), EINVAL);
    assert_int_equal(noria_commit(ch.tx, &span, 9, 0), 0);
    assert_fails(noria_commit(ch.tx, &span, 9, 0), EINVAL);
    assert_int_equal(noria_reserve(ch.tx, 10, &span, 0), 0);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    send_message(1);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    assert_int_equal(span.len, 9);
    assert_int_equal(((uint8_t *)span.data)[8], 0x11);
    assert_int_equal(noria_peek(ch.rx, &second, 0, NULL), 0);
    assert_int_equal(second.len, LENGTH);
    assert_int_equal(noria_release(ch.rx, &span), 0);
    assert_int_equal(noria_release(ch.rx, &second), 0);
    for (int i = 0; i < 8; i++) {
        memset(bytes[i], i, 64);
        out[i] = (struct iovec){bytes[i], 64};
        in[i] = (struct iovec){bytes[i], 64};
    }
    assert_int_equal(noria_send_many(ch.tx, out, 8, 0), 8);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(noria_recv_many(ch.rx, in, 8, 0, NULL), 8);
    for (int i = 0; i < 8; i++)
        assert_true(in[i].iov_len == 64 && bytes[i][0] == i && bytes[i][63] == i);
}

static void spans_of_nobody_change_nothing(void **state)
{
    /* Claim: while a place is reserved nothing else is sent; spans that are not the handle's, or not any more, are -EINVAL
     * and leave what there is; a message too long for the buffer stays first. */
    static const uint64_t forged[] = {0, 1000, UINT64_C(5) << 32 | 1};
    struct noria_span span, other;
    uint8_t bytes[64] = {0};
    struct iovec one = {bytes, 8}, small = {bytes, 4};

    (void)state;
    open_sealed();
    assert_int_equal(noria_reserve(ch.tx, 10, &span, 0), 0);
    assert_fails(noria_send(ch.tx, bytes, 8, 0), EBUSY);
    assert_fails(noria_send_many(ch.tx, &one, 1, 0), EBUSY);
    assert_fails(noria_reserve(ch.tx, 10, &other, 0), EBUSY);
    other = span;
    other.token[0] += 8;
    assert_fails(noria_commit(ch.tx, &other, 5, 0), EINVAL);
    assert_fails(noria_abort(ch.tx, &other), EINVAL);
    assert_int_equal(noria_abort(ch.tx, &span), 0);
    assert_fails(noria_commit(ch.tx, &span, 5, 0), EINVAL);
    assert_fails(noria_abort(ch.tx, &span), EINVAL);
    send_message(1);
    assert_fails(noria_recv(ch.rx, bytes, 4, 0, NULL), EMSGSIZE);
    assert_fails(noria_recv_many(ch.rx, &small, 1, 0, NULL), EMSGSIZE);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        other = span;
        other.token[1] = forged[i];
        assert_fails(noria_release(ch.rx, &other), EINVAL);
    }
    assert_int_equal(noria_release(ch.rx, &span), 0);
    assert_fails(noria_release(ch.rx, &span), EINVAL);
    assert_fails(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EAGAIN);
    send_message(2);
    expect_message(ch.rx, 2, 0);
}

static void not_every_kind_has_them(void **state)
{
    /* Claim: what cannot have checksums says so; an attacher need not know that a channel has them. */
    (void)state;
    ch.options.checksum = 2;
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);
    ch.options.checksum = 1;
    ch.options.kind = NORIA_KIND_MPMC;
    ch.options.pack = 4;
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);
    ch.options.pack = 1;
    ch.options.priorities = 2;
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);
    assert_non_null(strstr(noria_detail(), "checksum"));
    ch.options.priorities = 1;
    ch.options.kind = ch.variant->kind;
    ch.tx = open_handle(NORIA_SEND);
    assert_int_equal(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), 0);
    send_message(1);
    expect_message(ch.rx, 1, 0);
}

static void both_headers_must_agree(void **state)
{
    /* Claim: the superblock's feature tells libraries that do not know checksums; a channel that has it and no checksums, or
     * the other way round, is refused. */
    uint32_t one = 1;

    (void)state;
    open_sealed();
    assert_memory_equal(file + 12, &one, sizeof(one));
    file[12] = 0;
    close_handle(&ch.rx);
    assert_fails(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), EBADMSG);
    file[12] = 3;
    assert_fails(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), EPROTO);
    file[12] = 1;
    ch.rx = open_handle(NORIA_RECV);
}

/* ------------------------------------------------------------------------------------------------------- what is torn */

static void any_damaged_byte_is_found(void **state)
{
    /* Claim: see above; the second of three, one bit in each byte of the message and of the seal in turn, with recv. */
    unsigned n = 0;

    (void)state;
    open_sealed();
    for (int at = -SEAL; at < LENGTH; at++, n += 3) {
        for (unsigned i = 0; i < 3; i++)
            send_message(n + i);
        place_of(n + 1)[at] ^= (uint8_t)(1u << (unsigned)(at + SEAL) % 8);
        expect_message(ch.rx, n, 0);
        expect_message(ch.rx, n + 2, 1);
        assert_int_equal(stat_of(ch.rx).torn, n / 3 + 1);
        assert_int_equal(stat_of(ch.rx).lost, n / 3 + 1);
    }
    assert_fails((int)noria_recv(ch.rx, &n, 0, 0, NULL), EAGAIN);
}

static void peeks_pass_over_them_too(void **state)
{
    /* Claim: so do peek and recv_many. On an SPSC channel, where releases are in order, a peek beside a held message is
     * refused until that is released. */
    struct noria_span first, third;
    struct noria_info info;
    uint8_t bytes[2][64];
    struct iovec in[2] = {{bytes[0], 64}, {bytes[1], 64}};

    (void)state;
    open_sealed();
    for (unsigned i = 0; i < 5; i++)
        send_message(i);
    place_of(1)[0] ^= 1;
    place_of(3)[0] ^= 1;
    assert_int_equal(noria_peek(ch.rx, &first, 0, NULL), 0);
    if (is_spsc()) {
        assert_fails(noria_peek(ch.rx, &third, 0, &info), EBUSY);
        assert_int_equal(noria_release(ch.rx, &first), 0);
    }
    assert_int_equal(noria_peek(ch.rx, &third, 0, &info), 0);
    assert_int_equal(info.lost, 1);
    if (!is_spsc())
        assert_int_equal(noria_release(ch.rx, &first), 0);
    assert_int_equal(noria_release(ch.rx, &third), 0);
    assert_int_equal(noria_recv_many(ch.rx, in, 2, 0, NULL), 1);
    assert_int_equal(in[0].iov_len, LENGTH);
    assert_int_equal(stat_of(ch.rx).torn, 2);
}

static void all_may_be_torn(void **state)
{
    /* Claim: a channel full of torn messages is an empty one, at once, and has its whole capacity again. */
    uint8_t bytes[64];

    (void)state;
    open_sealed();
    for (unsigned i = 0; i < 8; i++)
        send_message(i);
    for (unsigned i = 0; i < 8; i++)
        place_of(i)[i] ^= 0x80;
    assert_fails((int)noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL), EAGAIN);
    assert_int_equal(stat_of(ch.rx).torn, 8);
    for (unsigned i = 8; i < 16; i++)
        send_message(i);
    for (unsigned i = 8; i < 16; i++)
        expect_message(ch.rx, i, i == 8 ? 8 : 0);
}

static void bytes_of_an_earlier_lap_are_found(void **state)
{
    /* Claim: where the disk has a new header and, in the next sector, a message of an earlier lap with its seal, that one is
     * not received. (SPSC: a header may be the last word of a sector. An MPMC slot's words and its seal are in one.) */
    uint8_t message[LENGTH], old[SEAL + LENGTH];
    uint8_t *first;
    unsigned n = 1;

    (void)state;
    open_sealed();
    send_message(0);
    first = place_of(0);
    memcpy(old, first - SEAL, sizeof(old));
    expect_message(ch.rx, 0, 0);
    do { /* until one stands at the same place */
        send_message(n);
        if (place_of(n) == first)
            break;
        expect_message(ch.rx, n++, 0);
        assert_true(n < 10000);
    } while (true);
    memcpy(first - SEAL, old, sizeof(old));
    assert_fails((int)noria_recv(ch.rx, message, LENGTH, 0, NULL), EAGAIN);
    assert_int_equal(stat_of(ch.rx).torn, 1);
}

/* The file as a power loss leaves it: a copy, with damage. */
static void copy_to(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, file, file_size, 0), (ssize_t)file_size);
    munmap(file, file_size);
    file = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(file != MAP_FAILED);
    close(fd);
}

static void copied_files_are_checked(void **state)
{
    /* Claim: of a copy of the file with one damaged message all the others come. */
    char path[90], address[100];
    noria_channel *receiver = NULL;

    (void)state;
    open_sealed();
    for (unsigned i = 0; i < 6; i++)
        send_message(i);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    snprintf(path, sizeof(path), "%s-copy", ch.path);
    snprintf(address, sizeof(address), "file:%s", path);
    unlink(path);
    copy_to(path);
    place_of(4)[LENGTH - 1] ^= 0x10;
    assert_int_equal(noria_open(&receiver, address, NORIA_RECV, NULL), 0);
    for (unsigned i = 0; i < 4; i++)
        expect_message(receiver, i, 0);
    expect_message(receiver, 5, 1);
    assert_int_equal(stat_of(receiver).torn, 1);
    close_handle(&receiver);
    assert_int_equal(noria_unlink(address), 0);
}

static int unmap_and_teardown(void **state)
{
    if (file != NULL)
        munmap(file, file_size);
    file = NULL;
    return teardown(state);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(lengths_and_counts_are_the_messages),
        EVERYWHERE(spans_and_batches_work),
        EVERYWHERE(not_every_kind_has_them),
        EVERYWHERE(both_headers_must_agree),
        EVERYWHERE(any_damaged_byte_is_found),
        EVERYWHERE(peeks_pass_over_them_too),
        EVERYWHERE(all_may_be_torn),
        EVERYWHERE(spans_of_nobody_change_nothing),
        ONLY_SPSC(bytes_of_an_earlier_lap_are_found),
        EVERYWHERE(copied_files_are_checked),
    };

    return run_variants_with("checksum", tests, sizeof(tests) / sizeof(tests[0]), setup, unmap_and_teardown);
}
