/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lets a test stand in front of every access of a ring to a shared word, with nothing built into the ring for
 * it: the functions of sync/atomic.h get other names here. Include this before the ring's header, in one file
 * only.
 *
 *   - watch.before is called in front of each access. It may change the memory, as another process could in
 *     between, run whole calls of other handles, or never return (longjmp): the caller is dead then.
 *   - watch.changed is called after each store or successful compare-and-swap, with the old and new value.
 *
 * Calls made from inside the two are not watched, unless they set watch.busy to false.
 */
#ifndef NORIA_WATCHED_TEST_H
#define NORIA_WATCHED_TEST_H

#include <noria/atomic.h>

struct noria_watch {
    void (*before)(const void *word);
    void (*changed)(const void *word, uint64_t old_value, uint64_t new_value);
    bool busy;
};

static struct noria_watch watch;

static inline void noria_watch_before(const void *word)
{
    if (watch.before == NULL || watch.busy)
        return;
    watch.busy = true;
    watch.before(word);
    watch.busy = false;
}

static inline void noria_watch_changed(const void *word, uint64_t old_value, uint64_t new_value)
{
    if (watch.changed == NULL || watch.busy)
        return;
    watch.busy = true;
    watch.changed(word, old_value, new_value);
    watch.busy = false;
}

static inline uint64_t watched_load_relaxed64(const uint64_t *word)
{
    noria_watch_before(word);
    return noria_load_relaxed64(word);
}

static inline uint64_t watched_load_acquire64(const uint64_t *word)
{
    noria_watch_before(word);
    return noria_load_acquire64(word);
}

static inline void watched_store_relaxed64(uint64_t *word, uint64_t value)
{
    uint64_t old_value;

    noria_watch_before(word);
    old_value = noria_load_relaxed64(word);
    noria_store_relaxed64(word, value);
    noria_watch_changed(word, old_value, value);
}

static inline void watched_store_release64(uint64_t *word, uint64_t value)
{
    uint64_t old_value;

    noria_watch_before(word);
    old_value = noria_load_relaxed64(word);
    noria_store_release64(word, value);
    noria_watch_changed(word, old_value, value);
}

static inline bool watched_cas_acq_rel64(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    uint64_t old_value = *expected;

    noria_watch_before(word);
    if (!noria_cas_acq_rel64(word, expected, desired))
        return false;
    noria_watch_changed(word, old_value, desired);
    return true;
}

static inline uint64_t watched_add_release64(uint64_t *word, uint64_t value)
{
    uint64_t old_value;

    noria_watch_before(word);
    old_value = noria_add_release64(word, value);
    noria_watch_changed(word, old_value, old_value + value);
    return old_value;
}

static inline uint64_t watched_add_acquire64(uint64_t *word, uint64_t value)
{
    uint64_t old_value;

    noria_watch_before(word);
    old_value = noria_add_acquire64(word, value);
    noria_watch_changed(word, old_value, old_value + value);
    return old_value;
}

static inline uint64_t watched_add_relaxed64(uint64_t *word, uint64_t value)
{
    uint64_t old_value;

    noria_watch_before(word);
    old_value = noria_add_relaxed64(word, value);
    noria_watch_changed(word, old_value, old_value + value);
    return old_value;
}

static inline uint32_t watched_load_relaxed32(const uint32_t *word)
{
    noria_watch_before(word);
    return noria_load_relaxed32(word);
}

static inline uint32_t watched_load_acquire32(const uint32_t *word)
{
    noria_watch_before(word);
    return noria_load_acquire32(word);
}

static inline void watched_store_relaxed32(uint32_t *word, uint32_t value)
{
    uint32_t old_value;

    noria_watch_before(word);
    old_value = noria_load_relaxed32(word);
    noria_store_relaxed32(word, value);
    noria_watch_changed(word, old_value, value);
}

static inline void watched_store_release32(uint32_t *word, uint32_t value)
{
    uint32_t old_value;

    noria_watch_before(word);
    old_value = noria_load_relaxed32(word);
    noria_store_release32(word, value);
    noria_watch_changed(word, old_value, value);
}

#define noria_load_relaxed64 watched_load_relaxed64
#define noria_load_acquire64 watched_load_acquire64
#define noria_store_relaxed64 watched_store_relaxed64
#define noria_store_release64 watched_store_release64
#define noria_cas_acq_rel64 watched_cas_acq_rel64
#define noria_add_release64 watched_add_release64
#define noria_add_acquire64 watched_add_acquire64
#define noria_add_relaxed64 watched_add_relaxed64
#define noria_load_relaxed32 watched_load_relaxed32
#define noria_load_acquire32 watched_load_acquire32
#define noria_store_relaxed32 watched_store_relaxed32
#define noria_store_release32 watched_store_release32

#endif
