/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only doors to words that two processes share.
 *
 * A shared word is a plain, naturally aligned uint32_t or uint64_t. Nobody touches it except through the functions
 * below, and the name of the function is the memory order. That keeps the layout the same for every compiler, lets
 * C11 and C++17 include the same header (no _Atomic in a struct), and shows every access to ThreadSanitizer and to
 * model checkers. At most 8 bytes wide, so that 32-bit peers and checkers can follow.
 *
 * A compare-and-swap that fails has reloaded *expected with acquire in every form: whoever loses goes on with a word
 * he may trust as much as one he loaded himself.
 *
 * No system calls, no dependencies. Part of the public interface as <noria/atomic.h>, because the rings need it.
 */
#ifndef NORIA_ATOMIC_H
#define NORIA_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The layout is shared between processes, so both must agree on it: little-endian, lock-free 8-byte words. */
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "noria: shared segments are little-endian; big-endian machines are not supported"
#endif
#if !defined(__GCC_ATOMIC_LLONG_LOCK_FREE) || __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "noria: 64-bit words must be lock-free on this machine"
#endif

#ifdef __cplusplus
#define NORIA_STATIC_ASSERT static_assert
#else
#define NORIA_STATIC_ASSERT _Static_assert
#endif

#define NORIA_CACHE_LINE 64
/* Processors fetch lines in pairs, so words that two sides write stand two lines apart. */
#define NORIA_LINE_PAIR 128

static inline uint64_t noria_load_relaxed64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t noria_load_acquire64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void noria_store_relaxed64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void noria_store_release64(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline bool noria_cas_acq_rel64(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint64_t noria_add_release64(uint64_t *word, uint64_t value)
{
    return __atomic_fetch_add(word, value, __ATOMIC_RELEASE);
}

static inline uint64_t noria_add_acquire64(uint64_t *word, uint64_t value)
{
    return __atomic_fetch_add(word, value, __ATOMIC_ACQUIRE);
}

static inline uint64_t noria_add_relaxed64(uint64_t *word, uint64_t value)
{
    return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

static inline uint64_t noria_or_acq_rel64(uint64_t *word, uint64_t bits)
{
    return __atomic_fetch_or(word, bits, __ATOMIC_ACQ_REL);
}

static inline uint32_t noria_load_relaxed32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint32_t noria_load_acquire32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void noria_store_relaxed32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void noria_store_release32(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline bool noria_cas_acq_rel32(uint32_t *word, uint32_t *expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint32_t noria_exchange_acquire32(uint32_t *word, uint32_t value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_ACQUIRE);
}

static inline uint32_t noria_or_acq_rel32(uint32_t *word, uint32_t bits)
{
    return __atomic_fetch_or(word, bits, __ATOMIC_ACQ_REL);
}

static inline uint32_t noria_and_acq_rel32(uint32_t *word, uint32_t bits)
{
    return __atomic_fetch_and(word, bits, __ATOMIC_ACQ_REL);
}

static inline uint32_t noria_add_relaxed32(uint32_t *word, uint32_t value)
{
    return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

static inline uint32_t noria_sub_release32(uint32_t *word, uint32_t value)
{
    return __atomic_fetch_sub(word, value, __ATOMIC_RELEASE);
}

static inline uint64_t noria_sub_release64(uint64_t *word, uint64_t value)
{
    return __atomic_fetch_sub(word, value, __ATOMIC_RELEASE);
}

/* Full fence, for the two-variable story "I store mine, then look at yours" on both sides. */
static inline void noria_fence_seq_cst(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* The same, where our own store was a compare-and-swap: on x86 that was a full fence itself. */
static inline void noria_fence_after_swap(void)
{
#if (defined(__x86_64__) || defined(__i386__)) && !defined(NORIA_NO_MACHINE_CODE)
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
#else
    noria_fence_seq_cst();
#endif
}

/* For words that are read first and asked about afterwards: had they been given away meanwhile? The reader loads them, fences
 * with acquire, and loads the word that gives away; the writer stores that word, fences with release, and writes. */
static inline void noria_fence_acquire(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static inline void noria_fence_release(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

/* Orders the compiler only. The processor's part is done by the other side (membarrier, see event.h). */
static inline void noria_fence_compiler(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void noria_pause(void)
{
#if defined(NORIA_NO_MACHINE_CODE)
    noria_fence_compiler();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    noria_fence_compiler();
#endif
}

/* Copies a message. One word, the commonest short one, goes without a call: 1.5 ns less on either side. */
static inline void noria_copy(void *to, const void *from, size_t len)
{
    if (len == sizeof(uint64_t)) {
#if !defined(NORIA_NO_MACHINE_CODE)
        __asm__("" : "+r"(to), "+r"(from)); /* or compilers warn of callers whose own buffers are smaller */
#endif
        memcpy(to, from, sizeof(uint64_t));
    } else if (len != 0) { /* a message of no bytes may come without an address */
        memcpy(to, from, len);
    }
}

/* Asks for a line that we are about to write. A hint: nothing is read, nothing ordered. */
static inline void noria_prefetch_write(const void *address)
{
#if defined(NORIA_NO_MACHINE_CODE) /* for checkers that read C only */
    (void)address;
#elif defined(__x86_64__) || defined(__i386__)
    /* Not __builtin_prefetch, which asks for a shared copy unless the compiler is told that the processor has this. */
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

/* A path that is rarely taken stands apart: inlined, it would take registers from the loop around it (up to a quarter of
 * what spsc.h moves). */
#define NORIA_SLOW_PATH static __attribute__((noinline, cold, unused))
/* And one that every message takes stands in its caller, whatever the compiler thinks of its size: each frame costs a dozen
 * instructions. */
#if defined(__OPTIMIZE__)
#define NORIA_FAST_PATH static inline __attribute__((always_inline))
#else
#define NORIA_FAST_PATH static inline /* one copy, whose branches can be counted and stepped through */
#endif

/*
 * Adaptive back-off: how long to stay away from the other side's cache line after a failed try.
 *
 * One pause is best for latency: the next look comes at once. While messages stream it is the worst choice, because
 * each look takes the line away from the side that is filling it. What tells the two apart is how far we came since
 * the last failed try: one step is a conversation, several may be a stream. So the pause is at least 8 after several
 * steps, and doubles up to `most` as long as the more came in the longer we stayed away; it halves when less or nothing
 * came. (Without that last condition two who say several things at a time keep each other waiting for ever longer.)
 *
 * `position` is any count that grows with our successes, by `step` or less with each; relaxed, because threads may share
 * a handle and a lost update only makes one pause too short.
 */
struct noria_backoff {
    uint64_t position;
    uint64_t pauses;
};

enum { NORIA_BACKOFF_STREAM = 8 };

NORIA_SLOW_PATH void noria_backoff_wait(struct noria_backoff *backoff, uint64_t position, uint64_t step, uint64_t most)
{
    uint64_t moved = position - noria_load_relaxed64(&backoff->position);
    uint64_t pauses = noria_load_relaxed64(&backoff->pauses);

    if (moved <= step)
        pauses = moved != 0 ? 1 : pauses / 2;
    else if (pauses < NORIA_BACKOFF_STREAM)
        pauses = NORIA_BACKOFF_STREAM;
    else
        pauses = moved > (pauses / 8 + 1) * step ? pauses * 2 : pauses / 2;
    if (pauses > most)
        pauses = most;
    if (pauses == 0)
        pauses = 1;
    noria_store_relaxed64(&backoff->position, position);
    noria_store_relaxed64(&backoff->pauses, pauses);
    for (uint64_t i = 0; i < pauses; i++)
        noria_pause();
}

#endif
