/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory the caller owns: he says where it is, keeps it mapped while a handle is open, and gives it back. Whoever
 * has it mapped shares the channel: threads, children of a fork (if it is MAP_SHARED), any processes with a mapping
 * of their own.
 *
 *     block: magic, pid namespace, locks | lock words, 8 bytes each | to a multiple of 4096 | segment
 *
 * There is nothing to hold a lock of the kernel on. A lock is a word that names its holder, by pid and start time:
 *
 *     lock word = pid (22 bits), start time (28), program (14), 0: free
 *
 *   taken by compare-and-swap from 0, or from a word whose process is gone, or has become another program. So whoever is
 *   killed frees his locks, as soon as somebody asks; but only within one pid namespace, and others are refused. Where
 *   nobody may look into /proc/PID/auxv, a process that becomes another program without closing its handles keeps its places
 *   until it opens the memory again, or ends.
 *
 * Fresh memory is zero. The first one takes the creation lock, which has its place from the start, and says how many
 * there are. Two mappings of one memory in a process are two handles like any.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "detail.h"
#include "liveness.h"
#include "segment.h"

#define BLOCK_MAGIC UINT64_C(0x324d454d61697230) /* "0riaMEM2" */
#define ALIGNMENT UINT64_C(4096)

struct block {
    uint64_t magic;         /* stored last, with the creation lock held */
    uint64_t pid_namespace; /* 0: not known, to nobody */
    uint32_t locks;
    uint32_t reserved0;
    uint64_t reserved1[5];
    uint64_t words[]; /* creation, participants' */
};
NORIA_STATIC_ASSERT(sizeof(struct block) == 64, "lock words begin on a line");

static struct block *block_of(const struct noria_segment *segment)
{
    return segment->memory;
}

static uint64_t block_size(uint64_t locks)
{
    return (sizeof(struct block) + (locks + 1) * sizeof(uint64_t) + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

/* Where the segment is, and how much there is of it. */
static uint8_t *segment_start(const struct noria_segment *segment)
{
    return (uint8_t *)segment->memory + block_size(segment->locks);
}

static uint64_t segment_room(const struct noria_segment *segment)
{
    uint64_t before = block_size(segment->locks);

    return segment->memory_size > before ? segment->memory_size - before : 0;
}

/* ---------------------------------------------------------------------------------------------------------- locks */

enum { START_AT = NORIA_PROCESS_PROGRAM_BITS, PID_AT = START_AT + NORIA_PROCESS_START_BITS };
NORIA_STATIC_ASSERT(64 - PID_AT >= 22, "the kernel has no more than 2^22 processes");

static uint64_t lower_bits(uint64_t word, int count)
{
    return word & ((UINT64_C(1) << count) - 1);
}

static uint64_t word_of_self(const struct noria_segment *segment)
{
    return (uint64_t)segment->self.pid << PID_AT |
           lower_bits(segment->self.start_time, NORIA_PROCESS_START_BITS) << START_AT | segment->self.program;
}

/* Whether the process that a word names is certainly gone, or what it was then. */
static bool is_gone(const struct noria_segment *segment, uint64_t word)
{
    const struct noria_process named = {.pid = (int32_t)(word >> PID_AT),
                                        .start_time = lower_bits(word >> START_AT, NORIA_PROCESS_START_BITS),
                                        .program = (uint32_t)lower_bits(word, NORIA_PROCESS_PROGRAM_BITS),
                                        .pid_namespace = segment->self.pid_namespace};

    return named.pid > 0 && word != word_of_self(segment) &&
           noria_process_look(&segment->self, &named, true) == NORIA_PROCESS_GONE;
}

static int lock(const struct noria_segment *segment, uint32_t lock)
{
    uint64_t *word = &block_of(segment)->words[lock], holder;

    if (lock > segment->locks)
        return -ENOLCK;
    holder = noria_load_acquire64(word);
    if (holder != 0 && !is_gone(segment, holder))
        return -EAGAIN;
    /* Lost: another one has it now. */
    return noria_cas_acq_rel64(word, &holder, word_of_self(segment)) ? 0 : -EAGAIN;
}

static void unlock(const struct noria_segment *segment, uint32_t lock)
{
    uint64_t *word = &block_of(segment)->words[lock];
    uint64_t mine = noria_load_relaxed64(word); /* the swap checks it */

    if ((mine ^ word_of_self(segment)) >> START_AT == 0) /* whichever program we were when we took it */
        noria_cas_acq_rel64(word, &mine, 0);
}

static int held(const struct noria_segment *segment, uint32_t lock)
{
    uint64_t holder = noria_load_acquire64(&block_of(segment)->words[lock]);

    return holder != 0 && !is_gone(segment, holder);
}

static int any_held(const struct noria_segment *segment)
{
    int any = 0;

    for (uint32_t number = 1; any == 0 && number <= segment->locks; number++)
        any = held(segment, number);
    return any;
}

/* ------------------------------------------------------------------------------------------------------ obtaining */

static int check_memory(const struct noria_segment_request *request)
{
    if (request->memory == NULL || request->memory_size == 0)
        return noria_fail(-EINVAL, "'memory:' is memory that you own: say where in options.memory and "
                          "options.memory_size");
    if (((uintptr_t)request->memory & (ALIGNMENT - 1)) != 0)
        return noria_fail(-EINVAL, "options.memory %p is not aligned to %u bytes, as mmap and aligned_alloc can "
                          "give it", request->memory, (unsigned)ALIGNMENT);
    if (request->name[0] != '\0')
        return noria_fail(-EINVAL, "'memory:%s': the memory is named by the options; write memory:", request->name);
    return 0;
}

/* With the creation lock held, on fresh memory. */
static void begin(struct noria_segment *segment, const struct noria_segment_request *request)
{
    struct block *block = block_of(segment);

    segment->locks = request->locks;
    block->pid_namespace = segment->self.pid_namespace;
    block->locks = request->locks;
    noria_store_release64(&block->magic, BLOCK_MAGIC); /* pairs with the load in obtain: the two above */
}

static int no_room(const struct noria_segment_request *request)
{
    return noria_fail(-ENOSPC, "options.memory_size is %llu, and the channel needs %llu: give more, or ask for less "
                      "capacity",
                      (unsigned long long)request->memory_size,
                      (unsigned long long)(block_size(request->locks) + request->size));
}

/* Nothing is there: all zero. */
static int obtain_fresh(struct noria_segment *segment, const struct noria_segment_request *request)
{
    if (!request->create)
        return noria_fail(-ENOENT, "there is no channel in that memory; create it with NORIA_CREATE");
    if (request->memory_size < block_size(request->locks) ||
        request->memory_size - block_size(request->locks) < request->size)
        return no_room(request);
    segment->locks = 0; /* only creation's is sure to have its place */
    if (lock(segment, NORIA_SEGMENT_CREATION) != 0)
        return NORIA_SEGMENT_BUSY;
    if (noria_load_acquire64(&block_of(segment)->magic) == 0)
        begin(segment, request);
    unlock(segment, NORIA_SEGMENT_CREATION);
    return 0;
}

static int obtain(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    struct block *block = request->memory;
    uint64_t magic;
    int rc = check_memory(request);

    *made = false;
    if (rc != 0)
        return rc;
    if (request->memory_size < ALIGNMENT)
        return no_room(request);
    segment->memory = request->memory;
    segment->memory_size = request->memory_size;
    noria_process_self(&segment->self);
    if (segment->self.pid_namespace == 0 || segment->self.start_time == 0)
        return noria_fail(-ENOTSUP, "'memory:' needs /proc, to tell the dead from the living");
    magic = noria_load_acquire64(&block->magic);
    if (magic == 0) {
        rc = obtain_fresh(segment, request);
        if (rc != 0)
            return rc;
        magic = noria_load_acquire64(&block->magic);
    }
    if (magic != BLOCK_MAGIC)
        return noria_fail(-EINVAL, "that memory holds something else than a channel: it has to be zero at first");
    if (block->pid_namespace != segment->self.pid_namespace)
        return noria_fail(-ENOTSUP, "the channel in that memory is of another pid namespace, where the dead could not "
                          "be told from the living; use shm: or memfd:");
    segment->locks = noria_load_relaxed32(&block->locks); /* once: a peer may write there */
    if (segment->locks > 0x10000 || segment_room(segment) == 0)
        return noria_fail(-EBADMSG, "the channel in that memory contradicts itself");
    return 0;
}

static int obtain_again(struct noria_segment *segment, const struct noria_segment *other)
{
    segment->memory = other->memory;
    segment->memory_size = other->memory_size;
    segment->locks = other->locks;
    noria_process_self(&segment->self);
    return 0;
}

static int obtain_view(struct noria_segment *segment, const char *name)
{
    (void)segment;
    return noria_fail(-ENOTSUP, "'memory:%s' can only be looked at by those who have it mapped", name);
}

static void let_go(struct noria_segment *segment)
{
    (void)segment; /* it is the caller's */
}

/* --------------------------------------------------------------------------------------------------- the segment */

static int look(const struct noria_segment *segment, struct noria_segment_facts *facts)
{
    *facts = (struct noria_segment_facts){.size = segment_room(segment), .filled = segment_room(segment),
                                          .owner = geteuid(), .group = getegid(), .mode = 0600, .possible = true};
    return 0;
}

static ssize_t read_bytes(const struct noria_segment *segment, void *to, size_t size, uint64_t offset)
{
    uint64_t room = segment_room(segment), there = room > offset ? room - offset : 0;

    if (there < sizeof(uint64_t) || noria_load_acquire64((const uint64_t *)(const void *)segment_start(segment)) == 0)
        return 0; /* nothing yet; otherwise the load pairs with the release of the magic */
    if (size > there)
        size = (size_t)there;
    memcpy(to, segment_start(segment) + offset, size);
    return (ssize_t)size;
}

static int keep_mode(struct noria_segment *segment, const struct noria_segment_request *request)
{
    (void)segment;
    (void)request; /* whose mapping it is decides */
    return 0;
}

static int reserve(struct noria_segment *segment, const struct noria_segment_request *request)
{
    uint64_t *mark = (uint64_t *)(void *)segment_start(segment);

    if (segment->locks < request->locks || segment_room(segment) < request->size)
        return no_room(request);
    noria_store_release64(mark, NORIA_SEGMENT_UNFINISHED);
    memset(mark + 1, 0, (size_t)(request->size - sizeof(*mark)));
    return 0;
}

static int leave_unsealed(struct noria_segment *segment)
{
    (void)segment;
    return 0;
}

static int map(struct noria_segment *segment, uint64_t size)
{
    if (size > segment_room(segment))
        return -EBADMSG;
    segment->base = segment_start(segment);
    segment->size = (size_t)size;
    return 0;
}

static int keep_pages(const struct noria_segment *segment, uint64_t offset, uint64_t size)
{
    (void)segment;
    (void)offset;
    (void)size;
    return 0;
}

static int remove_name(struct noria_segment *segment, const char *name, int64_t until_ns)
{
    (void)segment;
    (void)until_ns;
    return noria_fail(-ENOTSUP, "'memory:%s': the memory is yours; there is nothing to unlink", name);
}

const struct noria_segment_backend noria_segment_memory = {
    .scheme = "memory", .named = false, .can_shrink = true, .locks_survive_exec = true, .is_shared_in_process = true, .obtain = obtain,
    .obtain_view = obtain_view,
    .obtain_again = obtain_again, .look = look, .read = read_bytes, .set_mode = keep_mode, .reserve = reserve,
    .seal = leave_unsealed, .map = map, .map_view = map, .close = let_go, .unlink = remove_name, .lock = lock,
    .unlock = unlock, .held = held, .any_held = any_held, .fill = keep_pages, .drop = keep_pages};
