// SPDX-License-Identifier: BSD-2-Clause
// A message as a type, for rivals whose queues are templates over it, and the way from a size to that type.
#ifndef BENCH_PAYLOAD_HPP
#define BENCH_PAYLOAD_HPP

#include <cstddef>
#include <cstdint>
#include <type_traits>

template <std::size_t Size> struct payload {
    std::uint64_t word[Size / 8];
};

// Calls function(integral_constant<size>). After inlining the size is a constant and one case is left.
template <class Function>
static inline __attribute__((always_inline)) auto by_size(std::size_t size, Function function)
{
    switch (size) {
    case 8: return function(std::integral_constant<std::size_t, 8>{});
    case 64: return function(std::integral_constant<std::size_t, 64>{});
    case 256: return function(std::integral_constant<std::size_t, 256>{});
    case 1024: return function(std::integral_constant<std::size_t, 1024>{});
    case 4096: return function(std::integral_constant<std::size_t, 4096>{});
    default: return function(std::integral_constant<std::size_t, 65536>{});
    }
}

#endif
