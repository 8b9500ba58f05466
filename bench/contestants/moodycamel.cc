// SPDX-License-Identifier: BSD-2-Clause
// moodycamel::ConcurrentQueue: its blocks are on the heap, so it is measured between threads. One token per
// participant, try_enqueue within the memory it started with. Order is kept per producer.
#include <concurrentqueue/concurrentqueue.h>

#include <new>

#include "../contestant.h"
#include "payload.hpp"

// A producer keeps the blocks it once got. So that one does not get them all and starve the others, each
// claims its share of the slots before the run; blocks are small enough for a share to be at least two.
template <std::size_t Size> struct camel_traits : moodycamel::ConcurrentQueueDefaultTraits {
    static const std::size_t BLOCK_SIZE = BENCH_SLOTS_FOR(Size) < BENCH_SLOTS ? 8 : 32;
};

template <std::size_t Size> using camel_of = moodycamel::ConcurrentQueue<payload<Size>, camel_traits<Size>>;

struct camel_side {
    void *queue;
    void *token; // ProducerToken or ConsumerToken of camel_of<size>; lives as long as the run
    std::uint8_t *scratch;
    std::uint32_t share; // slots of this producer
    std::uint32_t ready;
};

static std::size_t camel_footprint(const struct cell *cell)
{
    return by_size(cell->size, [](auto size) { return sizeof(camel_of<size>); });
}

static int camel_format(void *memory, const struct cell *cell)
{
    by_size(cell->size, [=](auto size) { new (memory) camel_of<size>(1); });
    return 0;
}

// enqueue allocates, which try_enqueue does not: after this the producer owns its share and never gets more.
template <class Queue, class Message> static void
camel_claim_share(Queue &queue, moodycamel::ProducerToken &token, Message &message, std::uint32_t share)
{
    for (std::uint32_t i = 0; i < share; i++)
        queue.enqueue(token, message);
    while (queue.try_dequeue_from_producer(token, message))
        continue;
}

static int camel_join(camel_side *side, const struct seat *seat)
{
    side->queue = seat->memory;
    side->scratch = static_cast<std::uint8_t *>(seat->scratch);
    side->share = cell_slots(seat->cell) / seat->cell->producers;
    side->token = by_size(seat->cell->size, [=](auto size) -> void * {
        auto &queue = *static_cast<camel_of<size> *>(seat->memory);

        if (seat->role == ROLE_CONSUMER)
            return new moodycamel::ConsumerToken(queue);
        auto *token = new moodycamel::ProducerToken(queue);
        camel_claim_share(queue, *token, *reinterpret_cast<payload<size> *>(side->scratch), side->share);
        return token;
    });
    return 0;
}

static inline std::uint8_t *camel_place(camel_side *side, std::uint32_t i, std::size_t size, std::uint32_t)
{
    return side->scratch + i * size;
}

BENCH_INLINE std::uint32_t camel_publish(camel_side *side, std::uint32_t from, std::uint32_t to,
                                         std::size_t bytes, std::uint32_t batch)
{
    return by_size(bytes, [=](auto size) -> std::uint32_t {
        auto *queue = static_cast<camel_of<size> *>(side->queue);
        auto &token = *static_cast<moodycamel::ProducerToken *>(side->token);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch) + from;

        if (batch == 1)
            return queue->try_enqueue(token, *message);
        // All or nothing, so no more at a time than there can be room for.
        std::uint32_t count = to - from <= side->share / 2 ? to - from : side->share / 2;
        return queue->try_enqueue_bulk(token, message, count) ? count : 0;
    });
}

BENCH_INLINE const std::uint8_t *camel_arrived(camel_side *side, std::uint32_t i, std::size_t bytes,
                                               std::uint32_t batch)
{
    return by_size(bytes, [=](auto size) -> const std::uint8_t * {
        auto *queue = static_cast<camel_of<size> *>(side->queue);
        auto &token = *static_cast<moodycamel::ConsumerToken *>(side->token);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch);

        if (i == 0)
            side->ready = batch == 1
                              ? static_cast<std::uint32_t>(queue->try_dequeue(token, *message))
                              : static_cast<std::uint32_t>(queue->try_dequeue_bulk(token, message, batch));
        return i < side->ready ? reinterpret_cast<const std::uint8_t *>(message + i) : nullptr;
    });
}

static inline void camel_release(camel_side *, std::uint32_t, std::size_t, std::uint32_t)
{
}

#define CONTESTANT camel
#define CONTESTANT_NAME "moodycamel"
#define CONTESTANT_CALLS \
    "ConcurrentQueue with tokens: try_enqueue, try_dequeue and their bulk forms; order per producer"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC | NEEDS_THREADS)
#include "../traffic.h"
