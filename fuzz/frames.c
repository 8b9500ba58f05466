/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a receiver (adapters/receiving.c, over a mechanism that is this file) makes of a byte stream: frames, some of them
 * cut, damaged, doubled or out of place, and rubbish between them, cut into reads at any place. Claim: nothing outside of
 * the bytes that came is read, nothing that does not keep to the bounds is taken, memory is bounded, and a message that
 * comes out whole is the one that its sender put in. Some writes bring descriptors, of which the frames say the truth or
 * not: each is given out once, with a message that came with it, or closed once, and an inlet holds one set at most.
 */
#include "input.h"
#include "target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapter.h"
#include "crc32c.h"

void (*const fuzz_live)(unsigned, uint64_t) = NULL;

enum { PAGE = 64 }; /* where a pipe may cut */
enum { MOST_STREAM = 1 << 12, MOST_LENGTH = 300, MOST_TOTAL = 900, MOST_UNFINISHED = 6000, SENDERS = 5 };

static uint8_t stream[MOST_STREAM];
static size_t stream_size, stream_read;
static struct fuzz_input *reads; /* how long each is */

enum { MOST_SETS = 64, FIRST_FD = 1 << 20, OF_SET = 32 }; /* numbers that no descriptor has */

/* Descriptors that come with a write. */
static struct {
    size_t from, to;           /* of the stream */
    size_t read_from, read_to; /* that brought them */
    int count;
    bool is_out; /* of the socket */
} sets[MOST_SETS];
static int set_count;
static uint8_t ends[MOST_SETS * OF_SET]; /* of each descriptor that was brought, how often it was given out or closed */

static void check(bool holds, const char *claim)
{
    if (!holds)
        fuzz_broken(claim);
}

static void end_descriptor(int fd)
{
    check(fd < FIRST_FD + MOST_SETS * OF_SET && ends[fd - FIRST_FD] == 1, "a descriptor is given out or closed once");
    ends[fd - FIRST_FD]++;
}

int close(int fd)
{
    if (fd < FIRST_FD)
        return (int)syscall(SYS_close, fd);
    end_descriptor(fd);
    return 0;
}

static uint8_t byte_of(uint32_t sender, uint64_t sequence, uint32_t at)
{
    return (uint8_t)(sender * 31 + sequence * 7 + at);
}

/* What is written from there on brings descriptors: as many as it says, or others. */
static void bring(struct fuzz_input *input, size_t from, uint32_t claimed)
{
    uint8_t what = fuzz_byte(input);

    if (set_count == MOST_SETS || what % 8 == 0 || stream_size == from)
        return;
    sets[set_count].from = from;
    sets[set_count].to = stream_size;
    sets[set_count++].count = what % 8 == 1 ? (int)fuzz_below(input, OF_SET) : (int)(claimed % OF_SET);
}

/* A frame as a sender makes it, of any sender, message and place. */
static void append_frame(struct fuzz_input *input, uint8_t fds)
{
    struct noria_frame frame = {.flags = (uint8_t)(fuzz_below(input, NORIA_FRAME_TAIL + 1) | fds),
                                .sender = fuzz_below(input, SENDERS),
                                .sequence = fuzz_below(input, 8),
                                .total = (uint32_t)(fuzz_word(input) % (MOST_TOTAL + 50))};
    uint8_t *to = stream + stream_size;
    uint32_t crc;

    if (fuzz_byte(input) % (fds != 0 ? 4 : 16) == 0) {
        frame.flags = NORIA_FRAME_HELLO | fds;
        frame.total = frame.sequence == 0; /* which makes it none */
    }
    frame.offset = frame.total != 0 && fuzz_byte(input) % 2 == 0
                       ? (uint32_t)(fuzz_word(input) % frame.total) / 100 * 100
                       : 0;
    frame.length = frame.total - frame.offset;
    frame.length = frame.length < 100 || fuzz_byte(input) % 4 == 0 ? frame.length : 100;
    frame.length = frame.length < MOST_LENGTH + 10 ? frame.length : MOST_LENGTH + 10;
    if (fds != 0) {
        frame.total = frame.length;
        frame.offset = fuzz_below(input, NORIA_MOST_FDS + 3);
    }
    if (stream_size + noria_frame_size(&frame) > MOST_STREAM)
        return;
    noria_frame_seal(&frame, to);
    for (uint32_t i = 0; i < frame.length; i++)
        to[NORIA_FRAME_HEADER + i] = byte_of(frame.sender, frame.sequence, (fds != 0 ? 0 : frame.offset) + i);
    crc = (frame.flags & NORIA_FRAME_CRC) != 0 ? noria_crc32c(0, to, NORIA_FRAME_HEADER + frame.length)
                                        : noria_frame_tail(&frame);
    if (noria_frame_has_tail(&frame))
        memcpy(to + NORIA_FRAME_HEADER + frame.length, &crc, sizeof(crc));
    stream_size += noria_frame_size(&frame);
    if (fds != 0)
        bring(input, (size_t)(to - stream), frame.offset);
}

/* A frame that is cut where a pipe does that, if it is one that may be. */
static void append_cut_frame(struct fuzz_input *input)
{
    size_t before = stream_size, size, at;

    append_frame(input, 0);
    size = stream_size - before;
    if (size == 0 || stream[before + 4] == 0)
        return;
    at = fuzz_below(input, 8) * (size_t)PAGE + (fuzz_byte(input) % 2 == 0 ? size % PAGE : 0);
    if (at < size)
        stream_size = before + at;
}

static void append_rubbish(struct fuzz_input *input)
{
    for (uint32_t n = fuzz_below(input, 80); n > 0 && stream_size < MOST_STREAM; n--)
        stream[stream_size++] = fuzz_byte(input);
}

/* Damage inside of frames makes messages whose bytes are not to be compared. */
static bool damage(struct fuzz_input *input)
{
    if (stream_size == 0)
        return false;
    stream[fuzz_word(input) % stream_size] ^= (uint8_t)(1u << fuzz_below(input, 8));
    return true;
}

/* ------------------------------------------------------------------------------------------------- the mechanism */

/* As the kernel does it: a read that takes the first byte of what descriptors went with brings them, if it is asked to, and
 * ends with that. How many bytes it takes. */
static size_t bring_set(struct noria_adapter *adapter, struct noria_inlet *inlet, size_t more)
{
    int fds[NORIA_MOST_FDS], i = 0;

    while (i < set_count && (sets[i].is_out || sets[i].from < stream_read || sets[i].from >= stream_read + more))
        i++;
    if (i == set_count)
        return more;
    more = sets[i].to - stream_read < more ? sets[i].to - stream_read : more;
    sets[i].is_out = true;
    sets[i].read_from = stream_read;
    sets[i].read_to = stream_read + more;
    if (!inlet->asks || sets[i].count == 0)
        return more;
    for (int each = 0; each < sets[i].count; each++) {
        int fd = FIRST_FD + i * OF_SET + each;
        ends[fd - FIRST_FD] = 1;
        if (each < NORIA_MOST_FDS)
            fds[each] = fd;
        else
            close(fd);
    }
    noria_adapter_hold_fds(adapter, inlet, fds, sets[i].count, sets[i].count > NORIA_MOST_FDS, inlet->to, more);
    return more;
}

/* The next read, of any size, into memory in which nothing stands behind it. */
static ssize_t get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    size_t more = reads->left > 0 ? 1 + fuzz_byte(reads) * (size_t)(1 + fuzz_below(reads, 9)) : MOST_STREAM;
    uint8_t *exact;

    check((uint8_t *)bytes == inlet->bytes + inlet->to && room <= inlet->room - inlet->to, "a read goes behind the last one");
    check(room == inlet->room - inlet->to || (inlet->brought.held && room > 0), "and takes what there is");
    if (more > stream_size - stream_read)
        more = stream_size - stream_read;
    if (more > room)
        more = room;
    if (more == 0)
        return 0;
    more = bring_set(adapter, inlet, more);
    exact = malloc(inlet->to + more);
    memcpy(exact, inlet->bytes, inlet->to);
    memcpy(exact + inlet->to, stream + stream_read, more);
    free(inlet->bytes);
    inlet->bytes = exact;
    stream_read += more;
    return (ssize_t)more;
}

static int end(struct noria_adapter *adapter)
{
    (void)adapter;
    return -EPIPE;
}

/* A pipe, or packets, or a connection. */
static const struct noria_mechanism skips = {.scheme = "skips", .get = get, .end = end};
static const struct noria_mechanism drops = {.scheme = "drops", .get = get, .end = end, .drops_strangers = true};

/* With an inlet whose bytes are exactly those that came. */
static struct noria_adapter *make_receiver(struct fuzz_input *input)
{
    struct noria_inlet *inlet = calloc(1, sizeof(*inlet));
    uint8_t *nothing = malloc(1);
    uint8_t what = fuzz_byte(input);
    struct noria_adapter *adapter = NULL;

    if (inlet == NULL || nothing == NULL ||
        noria_adapter_make(&adapter, what % 8 == 0 ? &drops : &skips, sizeof(*adapter), "", NORIA_RECV, NULL) != 0)
        abort();
    noria_adapter_shape(adapter, MOST_TOTAL, NORIA_MOST_PIECE);
    adapter->assembly.most_bytes = MOST_UNFINISHED;
    inlet->bytes = nothing;
    inlet->end.fd = -1;
    inlet->page = what % 8 == 0 ? 0 : PAGE;
    inlet->keeps_boundaries = what % 8 == 1;
    adapter->most_fds = what >= 128 ? NORIA_MOST_FDS : 0;
    if (adapter->most_fds != 0)
        inlet->page = 0;
    inlet->takes_fds = inlet->asks = adapter->most_fds != 0 && what % 4 == 2; /* somebody has said so before */
    inlet->room = NORIA_MOST_PIECE + (size_t)fuzz_byte(input) * 8; /* behind which the rest is moved to its beginning */
    adapter->inlets = adapter->inlet = inlet;
    adapter->inlet_count = 1;
    return adapter;
}

/* The message that was received last, of `len` bytes, has brought these. */
static void check_set(const struct noria_adapter *adapter, size_t len, int fd, int n)
{
    const struct noria_inlet *inlet = adapter->inlet;
    size_t end = stream_read - (inlet->to - inlet->from); /* of its frame */
    int set = (fd - FIRST_FD) / OF_SET;

    check(n == sets[set].count, "all of them");
    check(end - len >= sets[set].read_from + NORIA_FRAME_HEADER &&
              end - len < sets[set].read_to + NORIA_FRAME_HEADER + NORIA_FRAME_TAIL_BYTES,
          "and they came when its frame began");
}

/* One message, and what it brought. */
static ssize_t receive(struct noria_adapter *adapter, uint8_t *message, struct noria_info *info, bool takes_fds)
{
    int fds[NORIA_MOST_FDS], n = NORIA_MOST_FDS;
    ssize_t len;

    if (!takes_fds || adapter->most_fds == 0)
        return noria_adapter_recv(&adapter->base, message, MOST_TOTAL, info);
    len = noria_adapter_recv_fds(&adapter->base, message, MOST_TOTAL, fds, &n, 0, info);
    for (int i = 0; len >= 0 && i < n; i++) {
        check(fds[i] == fds[0] + i && (i > 0 || fds[0] % OF_SET == 0), "descriptors are those of one write, in order");
        end_descriptor(fds[i]);
    }
    if (len >= 0 && n > 0)
        check_set(adapter, (size_t)len, fds[0], n);
    check(len < 0 || (n != 0) == ((info->flags & NORIA_FDS) != 0), "and are told");
    return len;
}

/* Receives until the end. */
static void receive_all(struct noria_adapter *adapter, bool compare)
{
    uint8_t *message = malloc(MOST_TOTAL); /* nothing stands behind it */
    struct noria_info info;
    ssize_t len;

    while ((len = receive(adapter, message, &info, stream_read % 3 != 0)) >= 0 || len == -EAGAIN) {
        check(len <= MOST_TOTAL && (len < 0 || len == (ssize_t)info.size), "a message is as long as it may be, and says so");
        check(adapter->assembly.bytes <= MOST_UNFINISHED && adapter->assembly.count <= NORIA_MOST_SENDERS,
              "memory is bounded");
        for (ssize_t i = 0; i < len && compare; i++)
            check(message[i] == byte_of(info.sender, info.sequence, (uint32_t)i), "a message is the one that was sent");
    }
    check(len == -EPIPE || len == -EBADMSG, "a stream ends, and says so");
    free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct fuzz_input input = {bytes, size};
    struct noria_adapter *adapter = make_receiver(&input);
    bool compare = true;

    stream_size = stream_read = 0;
    set_count = 0;
    memset(sets, 0, sizeof(sets));
    memset(ends, 0, sizeof(ends));
    reads = &input;
    for (uint32_t steps = 0; steps < 60 && input.left > 0; steps++) {
        uint32_t what = fuzz_below(&input, 16);
        if (what < 9)
            append_frame(&input, adapter->most_fds != 0 && fuzz_byte(&input) % 2 == 0 ? NORIA_FRAME_FDS : 0);
        else if (what < 11)
            append_cut_frame(&input);
        else if (what < 14)
            append_rubbish(&input);
        else
            compare &= !damage(&input);
    }
    receive_all(adapter, compare);
    check(adapter->assembly.bytes == 0, "what has ended leaves nothing");
    noria_adapter_free(adapter);
    for (size_t i = 0; i < sizeof(ends); i++)
        check(ends[i] != 1, "no descriptor is left");
    return 0;
}
