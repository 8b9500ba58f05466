// SPDX-License-Identifier: BSD-2-Clause
// boost::interprocess::message_queue: a priority queue behind a process-shared mutex, by its try calls.
#include <boost/interprocess/ipc/message_queue.hpp>

#include <string>

#include <unistd.h>

#include "../contestant.h"

namespace interprocess = boost::interprocess;

struct message_queue_side {
    interprocess::message_queue *queue;
    std::uint8_t *scratch;
};

static std::size_t message_queue_footprint(const struct cell *)
{
    return sizeof(interprocess::message_queue *); // it maps memory of its own, which participants inherit
}

static int message_queue_format(void *memory, const struct cell *cell)
{
    static int made;
    std::string name = "noria-bench-" + std::to_string(getpid()) + "-" + std::to_string(made++);

    try {
        auto *queue = new interprocess::message_queue(interprocess::create_only, name.c_str(),
                                                      cell_slots(cell), cell->size);

        *static_cast<interprocess::message_queue **>(memory) = queue;
        interprocess::message_queue::remove(name.c_str());
        return 0;
    } catch (const interprocess::interprocess_exception &) {
        return -EIO;
    }
}

static int message_queue_join(message_queue_side *side, const struct seat *seat)
{
    side->queue = *static_cast<interprocess::message_queue **>(seat->memory);
    side->scratch = static_cast<std::uint8_t *>(seat->scratch);
    return 0;
}

static inline std::uint8_t *message_queue_place(message_queue_side *side, std::uint32_t i, std::size_t size,
                                                std::uint32_t)
{
    return side->scratch + i * size;
}

static inline std::uint32_t message_queue_publish(message_queue_side *side, std::uint32_t from,
                                                  std::uint32_t to, std::size_t size, std::uint32_t)
{
    std::uint32_t i = from;

    while (i < to && side->queue->try_send(side->scratch + i * size, size, 0))
        i++;
    return i - from;
}

static inline const std::uint8_t *message_queue_arrived(message_queue_side *side, std::uint32_t i,
                                                        std::size_t size, std::uint32_t)
{
    interprocess::message_queue::size_type received;
    unsigned priority;
    std::uint8_t *message = side->scratch + i * size;

    return side->queue->try_receive(message, size, received, priority) ? message : nullptr;
}

static inline void message_queue_release(message_queue_side *, std::uint32_t, std::size_t, std::uint32_t)
{
}

#define CONTESTANT message_queue
#define CONTESTANT_NAME "boost message_queue"
#define CONTESTANT_CALLS "boost::interprocess::message_queue try_send, try_receive"
#define CONTESTANT_TRAITS (TAKES_SPSC | TAKES_MPMC)
#include "../traffic.h"
