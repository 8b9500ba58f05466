// SPDX-License-Identifier: BSD-2-Clause
// atomic_queue: AtomicQueue for 8-byte values (0 means empty), AtomicQueue2 for larger ones. In SPSC mode by
// its try calls and by its blocking ones ("optimist": no shared index is read at all); in MPMC mode by its
// try calls.
#include <atomic_queue/atomic_queue.h>

#include <new>

#include "../contestant.h"
#include "payload.hpp"

template <std::size_t Size, bool Spsc> struct atomic_queue_for {
    using value = payload<Size>;
    using type = atomic_queue::AtomicQueue2<value, BENCH_SLOTS_FOR(Size), true, true, false, Spsc>;
};

template <bool Spsc> struct atomic_queue_for<8, Spsc> {
    using value = std::uint64_t;
    using type = atomic_queue::AtomicQueue<value, BENCH_SLOTS_FOR(8), 0, true, true, false, Spsc>;
};

template <std::size_t Size, bool Spsc> using atomic_queue_of = typename atomic_queue_for<Size, Spsc>::type;
template <std::size_t Size> using atomic_value = typename atomic_queue_for<Size, true>::value;

struct atomic_side {
    void *queue;
    std::uint8_t *scratch;
};

static int atomic_join(atomic_side *side, const struct seat *seat)
{
    side->queue = seat->memory;
    side->scratch = static_cast<std::uint8_t *>(seat->scratch);
    return 0;
}

template <bool Spsc> static std::size_t atomic_bytes(const struct cell *cell)
{
    return by_size(cell->size, [](auto size) { return sizeof(atomic_queue_of<size, Spsc>); });
}

template <bool Spsc> static int atomic_make(void *memory, const struct cell *cell)
{
    by_size(cell->size, [=](auto size) { new (memory) atomic_queue_of<size, Spsc>; });
    return 0;
}

static inline std::uint8_t *atomic_place(atomic_side *side, std::uint32_t i, std::size_t size, std::uint32_t)
{
    return side->scratch + i * size;
}

static inline void atomic_release(atomic_side *, std::uint32_t, std::size_t, std::uint32_t)
{
}

template <bool Spsc> BENCH_INLINE std::uint32_t atomic_try_push(atomic_side *side, std::uint32_t from,
                                                                std::uint32_t to, std::size_t bytes)
{
    return by_size(bytes, [=](auto size) {
        auto *queue = static_cast<atomic_queue_of<size, Spsc> *>(side->queue);
        auto *message = reinterpret_cast<atomic_value<size> *>(side->scratch);
        std::uint32_t i = from;

        while (i < to && queue->try_push(message[i]))
            i++;
        return i - from;
    });
}

template <bool Spsc>
BENCH_INLINE const std::uint8_t *atomic_try_pop(atomic_side *side, std::uint32_t i, std::size_t bytes)
{
    return by_size(bytes, [=](auto size) -> const std::uint8_t * {
        auto *queue = static_cast<atomic_queue_of<size, Spsc> *>(side->queue);
        auto *message = reinterpret_cast<atomic_value<size> *>(side->scratch) + i;

        return queue->try_pop(*message) ? reinterpret_cast<const std::uint8_t *>(message) : nullptr;
    });
}

// ---------------------------------------------------------------------------------------- one to one

struct atomic_spsc_side : atomic_side {
};
#define atomic_spsc_footprint atomic_bytes<true>
#define atomic_spsc_format atomic_make<true>
#define atomic_spsc_join atomic_join
#define atomic_spsc_place atomic_place
#define atomic_spsc_publish(side, from, to, size, batch) atomic_try_push<true>(side, from, to, size)
#define atomic_spsc_arrived(side, i, size, batch) atomic_try_pop<true>(side, i, size)
#define atomic_spsc_release atomic_release

#define CONTESTANT atomic_spsc
#define CONTESTANT_NAME "atomic_queue spsc"
#define CONTESTANT_CALLS "SPSC mode: try_push, try_pop"
#define CONTESTANT_TRAITS TAKES_SPSC
#include "../traffic.h"

// ------------------------------------------------------------------------- one to one, blocking calls

struct optimist_side : atomic_side {
};
#define optimist_footprint atomic_bytes<true>
#define optimist_format atomic_make<true>
#define optimist_join atomic_join
#define optimist_place atomic_place
#define optimist_release atomic_release

BENCH_INLINE std::uint32_t optimist_publish(atomic_side *side, std::uint32_t from, std::uint32_t to,
                                            std::size_t bytes, std::uint32_t)
{
    by_size(bytes, [=](auto size) {
        auto *queue = static_cast<atomic_queue_of<size, true> *>(side->queue);
        auto *message = reinterpret_cast<atomic_value<size> *>(side->scratch);

        for (std::uint32_t i = from; i < to; i++)
            queue->push(message[i]);
    });
    return to - from;
}

BENCH_INLINE const std::uint8_t *optimist_arrived(atomic_side *side, std::uint32_t i, std::size_t bytes,
                                                  std::uint32_t)
{
    return by_size(bytes, [=](auto size) -> const std::uint8_t * {
        auto *queue = static_cast<atomic_queue_of<size, true> *>(side->queue);
        auto *message = reinterpret_cast<atomic_value<size> *>(side->scratch) + i;

        *message = queue->pop();
        return reinterpret_cast<const std::uint8_t *>(message);
    });
}

#define CONTESTANT optimist
#define CONTESTANT_NAME "atomic_queue optimist"
#define CONTESTANT_CALLS "SPSC mode: push, pop, which block and pause by themselves"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF)
#include "../traffic.h"

// -------------------------------------------------------------------------------------- many to many

struct atomic_mpmc_side : atomic_side {
};
#define atomic_mpmc_footprint atomic_bytes<false>
#define atomic_mpmc_format atomic_make<false>
#define atomic_mpmc_join atomic_join
#define atomic_mpmc_place atomic_place
#define atomic_mpmc_publish(side, from, to, size, batch) atomic_try_push<false>(side, from, to, size)
#define atomic_mpmc_arrived(side, i, size, batch) atomic_try_pop<false>(side, i, size)
#define atomic_mpmc_release atomic_release

#define CONTESTANT atomic_mpmc
#define CONTESTANT_NAME "atomic_queue mpmc"
#define CONTESTANT_CALLS "MPMC mode: try_push, try_pop; known to break order with more than two participants"
#define CONTESTANT_TRAITS TAKES_MPMC
#include "../traffic.h"
