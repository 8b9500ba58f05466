// SPDX-License-Identifier: BSD-2-Clause
// boost::lockfree with compile-time capacity: no allocator, so both queues stand in shared memory as they
// are.
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>

#include <new>

#include "../contestant.h"
#include "payload.hpp"

namespace lockfree = boost::lockfree;

template <std::size_t Size> using spsc_of =
    lockfree::spsc_queue<payload<Size>, lockfree::capacity<BENCH_SLOTS_FOR(Size) - 1>>;
template <std::size_t Size> using queue_of =
    lockfree::queue<payload<Size>, lockfree::capacity<BENCH_SLOTS_FOR(Size)>>;

struct boost_side {
    void *queue;
    std::uint8_t *scratch;
    std::uint32_t ready;
};

static int boost_join(boost_side *side, const struct seat *seat)
{
    side->queue = seat->memory;
    side->scratch = static_cast<std::uint8_t *>(seat->scratch);
    return 0;
}

static inline std::uint8_t *boost_place(boost_side *side, std::uint32_t i, std::size_t size, std::uint32_t)
{
    return side->scratch + i * size;
}

// ---------------------------------------------------------------------------------------- one to one

struct boost_spsc_side : boost_side {
};
#define boost_spsc_join boost_join
#define boost_spsc_place boost_place

static std::size_t boost_spsc_footprint(const struct cell *cell)
{
    return by_size(cell->size, [](auto size) { return sizeof(spsc_of<size>); });
}

static int boost_spsc_format(void *memory, const struct cell *cell)
{
    by_size(cell->size, [=](auto size) { new (memory) spsc_of<size>; });
    return 0;
}

BENCH_INLINE std::uint32_t boost_spsc_publish(boost_side *side, std::uint32_t from, std::uint32_t to,
                                              std::size_t bytes, std::uint32_t batch)
{
    return by_size(bytes, [=](auto size) {
        auto *queue = static_cast<spsc_of<size> *>(side->queue);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch) + from;

        return batch == 1 ? static_cast<std::uint32_t>(queue->push(*message))
                          : static_cast<std::uint32_t>(queue->push(message, to - from));
    });
}

// One by one in place by front(), a batch by pop(array, n).
BENCH_INLINE const std::uint8_t *boost_spsc_arrived(boost_side *side, std::uint32_t i, std::size_t bytes,
                                                    std::uint32_t batch)
{
    return by_size(bytes, [=](auto size) -> const std::uint8_t * {
        auto *queue = static_cast<spsc_of<size> *>(side->queue);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch);

        if (batch == 1)
            return queue->read_available() > 0 ? reinterpret_cast<const std::uint8_t *>(&queue->front())
                                               : nullptr;
        if (i == 0)
            side->ready = static_cast<std::uint32_t>(queue->pop(message, batch));
        return i < side->ready ? reinterpret_cast<const std::uint8_t *>(message + i) : nullptr;
    });
}

BENCH_INLINE void boost_spsc_release(boost_side *side, std::uint32_t, std::size_t bytes, std::uint32_t batch)
{
    if (batch == 1)
        by_size(bytes, [=](auto size) { static_cast<spsc_of<size> *>(side->queue)->pop(); });
}

#define CONTESTANT boost_spsc
#define CONTESTANT_NAME "boost spsc_queue"
#define CONTESTANT_CALLS "boost::lockfree::spsc_queue push; front and pop; push and pop of arrays"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"

// -------------------------------------------------------------------------------------- many to many

struct boost_queue_side : boost_side {
};
#define boost_queue_join boost_join
#define boost_queue_place boost_place

static std::size_t boost_queue_footprint(const struct cell *cell)
{
    return by_size(cell->size, [](auto size) { return sizeof(queue_of<size>); });
}

static int boost_queue_format(void *memory, const struct cell *cell)
{
    by_size(cell->size, [=](auto size) { new (memory) queue_of<size>; });
    return 0;
}

BENCH_INLINE std::uint32_t boost_queue_publish(boost_side *side, std::uint32_t from, std::uint32_t to,
                                               std::size_t bytes, std::uint32_t)
{
    return by_size(bytes, [=](auto size) {
        auto *queue = static_cast<queue_of<size> *>(side->queue);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch);
        std::uint32_t i = from;

        while (i < to && queue->bounded_push(message[i]))
            i++;
        return i - from;
    });
}

BENCH_INLINE const std::uint8_t *boost_queue_arrived(boost_side *side, std::uint32_t i, std::size_t bytes,
                                                     std::uint32_t)
{
    return by_size(bytes, [=](auto size) -> const std::uint8_t * {
        auto *queue = static_cast<queue_of<size> *>(side->queue);
        auto *message = reinterpret_cast<payload<size> *>(side->scratch) + i;

        return queue->pop(*message) ? reinterpret_cast<const std::uint8_t *>(message) : nullptr;
    });
}

static inline void boost_queue_release(boost_side *, std::uint32_t, std::size_t, std::uint32_t)
{
}

#define CONTESTANT boost_queue
#define CONTESTANT_NAME "boost queue"
#define CONTESTANT_CALLS "boost::lockfree::queue bounded_push, pop"
#define CONTESTANT_TRAITS TAKES_MPMC
#include "../traffic.h"
