/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For --selftest: a correct little queue behind a spin lock, which commits exactly one fault at message
 * number FAULT_AT of producer 0. The harness must find each of them, and pass the queue when it has none.
 */
#include <signal.h>
#include <string.h>

#include "../participant.h"
#include "../selftest.h"

enum fault broken_fault; /* participants inherit it */

struct locked_queue {
    uint32_t lock;
    uint32_t slots;
    uint64_t written, read;
    uint8_t data[] __attribute__((aligned(64)));
};

struct locked_side {
    struct locked_queue *queue;
    uint8_t *scratch;
    uint8_t late[65536]; /* the message that reorder holds back */
    uint64_t count;
    bool guilty;
};

static size_t locked_footprint(const struct cell *cell)
{
    return sizeof(struct locked_queue) + (size_t)cell_slots(cell) * cell->size;
}

static int locked_format(void *memory, const struct cell *cell)
{
    ((struct locked_queue *)memory)->slots = cell_slots(cell);
    return 0;
}

static int locked_join(struct locked_side *side, const struct seat *seat)
{
    side->queue = seat->memory;
    side->scratch = seat->scratch;
    side->guilty = seat->role == ROLE_PRODUCER && seat->index == 0;
    return 0;
}

static void locked_enter(struct locked_queue *queue)
{
    while (__atomic_exchange_n(&queue->lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void locked_leave(struct locked_queue *queue)
{
    __atomic_store_n(&queue->lock, 0, __ATOMIC_RELEASE);
}

static bool locked_write(struct locked_queue *queue, const void *message, size_t size)
{
    bool room;

    locked_enter(queue);
    room = queue->written - queue->read < queue->slots;
    if (room)
        memcpy(queue->data + queue->written++ % queue->slots * size, message, size);
    locked_leave(queue);
    return room;
}

static bool locked_read(struct locked_queue *queue, void *message, size_t size)
{
    bool any;

    locked_enter(queue);
    any = queue->read < queue->written;
    if (any)
        memcpy(message, queue->data + queue->read++ % queue->slots * size, size);
    locked_leave(queue);
    return any;
}

static void locked_write_surely(struct locked_queue *queue, const void *message, size_t size)
{
    while (!locked_write(queue, message, size))
        sched_yield();
}

/* Message number FAULT_AT of the guilty producer, or its late echo. True: the message is dealt with. */
static bool locked_commit_crime(struct locked_side *side, uint8_t *message, size_t size)
{
    if (side->count == FAULT_AT + DELAY && broken_fault == FAULT_REORDER) {
        locked_write_surely(side->queue, side->late, size);
        side->guilty = false; /* once, though the message behind it may find no room and come again */
    }
    if (side->count != FAULT_AT)
        return false;
    switch (broken_fault) {
    case FAULT_DROP: return true;
    case FAULT_REORDER: memcpy(side->late, message, size); return true;
    case FAULT_DUPLICATE:
        locked_write_surely(side->queue, message, size);
        locked_write_surely(side->queue, message, size);
        return true;
    case FAULT_TEAR:
        message[size - 1] ^= 0x40;
        locked_write_surely(side->queue, message, size);
        return true;
    case FAULT_STALL:
        for (;;)
            sched_yield();
    case FAULT_CRASH: raise(SIGSEGV); return false;
    default: return false;
    }
}

static inline uint32_t locked_publish(struct locked_side *side, uint32_t from, uint32_t to, size_t size,
                                      uint32_t batch)
{
    uint32_t i = from;

    (void)batch;
    while (i < to) {
        uint8_t *message = side->scratch + i * size;

        if (!(side->guilty && locked_commit_crime(side, message, size)) &&
            !locked_write(side->queue, message, size))
            break;
        side->count++;
        i++;
    }
    return i - from;
}

static inline uint8_t *locked_place(struct locked_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return side->scratch + i * size;
}

static inline const uint8_t *locked_arrived(struct locked_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)batch;
    return locked_read(side->queue, side->scratch + i * size, size) ? side->scratch + i * size : NULL;
}

static inline void locked_release(struct locked_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

#define CONTESTANT locked
#define CONTESTANT_NAME "selftest"
#define CONTESTANT_CALLS "a queue behind a spin lock, with the fault that the self test chose"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC | BROKEN_ON_PURPOSE)
#include "../traffic.h"
