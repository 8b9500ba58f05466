/* SPDX-License-Identifier: BSD-2-Clause */
/* The geometry of a channel: made of options, checked when found in a segment, compared with what an opener wants. */
#include <errno.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

/* Rings start on a page, so that huge pages and read-only views stay possible. */
#define RING_ALIGNMENT UINT64_C(4096)

enum { MOST_NUMBERED = 0xffff };

static const struct noria_kind_table *kind_of_queue(const struct noria_geometry *geometry)
{
    if (geometry->capacity == 0)
        return &noria_rendezvous_kind;
    if (geometry->max_bytes != 0)
        return &noria_unbounded_kind;
    if (geometry->priorities > 1)
        return &noria_priority_kind;
    if (geometry->full != NORIA_FULL_OVERWRITE_OLDEST)
        return &noria_mpmc_kind;
    return geometry->capacity == 1 ? &noria_latest_kind : &noria_overwrite_kind;
}

static const struct noria_kind_table *kind_of_broadcast(const struct noria_geometry *geometry)
{
    if (geometry->full == NORIA_FULL_OVERWRITE_OLDEST)
        return geometry->capacity == 1 ? &noria_latest_kind : &noria_lossy_kind;
    return geometry->evict_ns != 0 ? &noria_evicting_kind : &noria_broadcast_kind;
}

const struct noria_kind_table *noria_kind_of(const struct noria_geometry *geometry)
{
    switch (geometry->kind) {
    case NORIA_KIND_SPSC: return &noria_spsc_kind;
    case NORIA_KIND_MPMC: return kind_of_queue(geometry);
    case NORIA_KIND_BROADCAST: return kind_of_broadcast(geometry);
    default: return NULL;
    }
}

/* ----------------------------------------------------------------------------------------- what a kind cannot do */

static uint32_t asked_for(const struct noria_geometry *geometry)
{
    return (geometry->pack > 1 ? NORIA_TAKES_PACK : 0u) | (geometry->max_held > 1 ? NORIA_TAKES_MANY_HELD : 0u) |
           (geometry->orphans == NORIA_ORPHANS_DROP ? NORIA_TAKES_ORPHANS_DROP : 0u) |
           (geometry->full == NORIA_FULL_DROP_NEWEST ? NORIA_TAKES_DROP_NEWEST : 0u) |
           (geometry->full == NORIA_FULL_OVERWRITE_OLDEST ? NORIA_TAKES_OVERWRITE : 0u) |
           (geometry->priorities > 1 ? NORIA_TAKES_PRIORITIES : 0u) |
           (geometry->max_bytes != 0 ? NORIA_TAKES_GROWTH : 0u) |
           (geometry->evict_ns != 0 ? NORIA_TAKES_EVICTION : 0u) |
           (geometry->capacity == 0 ? NORIA_TAKES_NO_CAPACITY : 0u);
}

static bool may_have_checksums(const struct noria_kind_table *kind, const struct noria_geometry *geometry)
{
    return kind->sealed != NULL && geometry->pack == 1 && geometry->max_message >= NORIA_SEAL;
}

/* 0, or -EINVAL with the first thing that the kind does not take. */
static int check_demands(const struct noria_kind_table *kind, const struct noria_geometry *geometry)
{
    static const char *const demands[] = {"pack messages (pack is 1)", "let more than one be held (max_held is 1)",
                                          "drop orphans (it redelivers)", "drop the newest message when full",
                                          "overwrite the oldest message", "have priorities (priorities is 1)",
                                          "grow (max_bytes is 0)", "evict receivers (evict_ns is 0)",
                                          "have no capacity (1 is the least)"};
    uint32_t refused = asked_for(geometry) & ~kind->takes;

    for (unsigned i = 0; i < sizeof(demands) / sizeof(demands[0]); i++)
        if ((refused >> i & 1) != 0)
            return noria_fail(-EINVAL, "a channel of kind %s cannot %s", kind->name, demands[i]);
    if (geometry->checksum != 0 && !may_have_checksums(kind, geometry))
        return noria_fail(-EINVAL, "a channel of kind %s%s cannot have checksums; spsc can, and mpmc with pack 1",
                          kind->name, geometry->pack > 1 ? " with pack above 1" : "");
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ of options */

static int check_values(const struct noria_options *options)
{
    if (options->kind < NORIA_KIND_SPSC || options->kind > NORIA_KIND_BROADCAST)
        return noria_fail(-EINVAL, "kind %u is unknown: SPSC is 1, MPMC 2, BROADCAST 3", options->kind);
    if (options->order == NORIA_ORDER_PRODUCER)
        return noria_fail(-ENOTSUP, "order `producer` is not there yet; use strict order");
    if (noria_strategy_find(options->wait) == NULL)
        return noria_fail(-EINVAL, "wait %u is no way to wait that this library knows: 0 futex, 1 mutex, 2 semaphore, "
                          "3 sysv-semaphore, 4 eventfd, 5 fifo, 6 spin, 7 yield", options->wait);
    if (options->order != NORIA_ORDER_STRICT || options->full > NORIA_FULL_OVERWRITE_OLDEST ||
        options->orphans > NORIA_ORPHANS_DROP || options->lifetime > NORIA_UNLINK_CREATOR ||
        options->start > NORIA_START_POSITION || options->sync > NORIA_SYNC_CLOSE)
        return noria_fail(-EINVAL, "order, full, wait, orphans, lifetime, start or sync has a value this library does not know");
    if (options->checksum > 1)
        return noria_fail(-EINVAL, "checksum is 0 or 1");
    if (options->max_message > UINT32_MAX - NORIA_SEAL)
        return noria_fail(-EINVAL, "max_message %u is more than a ring can have", options->max_message);
    if (options->trust > NORIA_TRUST_NONE)
        return noria_fail(-EINVAL, "trust %u is unknown: SAME_USER is 0, NONE 1", options->trust);
    if (options->max_held == 0 || options->max_participants == 0 || options->pack == 0)
        return noria_fail(-EINVAL, "max_held, max_participants and pack are at least 1");
    if (options->max_participants > MOST_NUMBERED || options->max_held > MOST_NUMBERED)
        return noria_fail(-EINVAL, "max_participants is %u and max_held %u; 65535 are possible",
                          options->max_participants, options->max_held);
    if (options->priorities > NORIA_MOST_PRIORITIES)
        return noria_fail(-EINVAL, "priorities is %u; there are at most %d levels", options->priorities,
                          NORIA_MOST_PRIORITIES);
    return options->evict_ns >= 0 ? 0 : noria_fail(-EINVAL, "evict_ns is a time in nanoseconds, or 0");
}

/* Where everything stands behind the header. */
static void lay_out(struct noria_geometry *geometry)
{
    geometry->table_offset = sizeof(struct noria_header);
    geometry->bell_offset = geometry->table_offset + geometry->max_participants * sizeof(struct noria_entry);
    geometry->bell_size = noria_waiting_bell_size(geometry);
    geometry->poll_offset = geometry->bell_offset + geometry->bell_size;
    geometry->poll_size = noria_waiting_poll_size(geometry);
    geometry->ring_offset = geometry->poll_offset + geometry->poll_size;
    /* From the start of the file, not of the content. */
    geometry->ring_offset += NORIA_SEGMENT_CONTENT + RING_ALIGNMENT - 1;
    geometry->ring_offset = (geometry->ring_offset & ~(RING_ALIGNMENT - 1)) - NORIA_SEGMENT_CONTENT;
}

int noria_geometry_make(const struct noria_options *options, struct noria_geometry *geometry)
{
    const struct noria_kind_table *kind;
    int rc = check_values(options);

    if (rc != 0)
        return rc;
    *geometry = (struct noria_geometry){
        .kind = options->kind, .order = options->order, .pack = options->pack, .full = options->full,
        .wait = options->wait, .orphans = options->orphans, .lifetime = options->lifetime, .mode = options->mode,
        .trust = options->trust,
        .max_message = options->max_message + (options->checksum != 0 ? (uint32_t)NORIA_SEAL : 0),
        .checksum = options->checksum, .max_held = options->max_held,
        .max_participants = options->max_participants, .capacity = options->capacity,
        .first_position = options->first_position, .max_bytes = options->max_bytes, .evict_ns = options->evict_ns,
        .priorities = options->priorities > 1 ? options->priorities : 1};
    kind = noria_kind_of(geometry);
    if (kind == NULL)
        return noria_fail(-ENOTSUP, "this kind of channel is not there yet");
    rc = check_demands(kind, geometry);
    if (rc != 0)
        return rc;
    lay_out(geometry);
    geometry->ring_size = kind->footprint(geometry);
    if (geometry->ring_size == 0 && geometry->max_bytes != 0)
        return noria_fail(-EINVAL, "max_bytes %llu is less than a channel needs that starts with %llu messages of %u bytes, or "
                          "they are more than a ring can have", (unsigned long long)geometry->max_bytes,
                          (unsigned long long)options->capacity, options->max_message);
    if (geometry->ring_size == 0 ||
        geometry->ring_size > NORIA_SEGMENT_MAX_SIZE - NORIA_SEGMENT_CONTENT - geometry->ring_offset)
        return noria_fail(-EINVAL, "capacity %llu of messages of %u bytes is more than a ring can have",
                          (unsigned long long)options->capacity, options->max_message);
    return 0;
}

int noria_geometry_check_trust(const struct noria_geometry *geometry, const struct noria_segment_backend *backend,
                               bool guarded)
{
    const struct noria_strategy *strategy = noria_strategy_find(geometry->wait);

    if (strategy->trusting)
        return noria_fail(-ENOTSUP, "with trust `none` nobody waits by %s, whose objects a peer could crash us with or turn on "
                          "others of ours; wait by futex", strategy->name);
    if (backend->can_shrink && !guarded)
        return noria_fail(-ENOTSUP, "with trust `none` a segment must be sealed, and '%s:' cannot be: use memfd: or anon:, "
                          "or set options.guard", backend->scheme);
    return 0;
}

uint64_t noria_geometry_size(const struct noria_geometry *geometry, uint64_t *solid)
{
    const struct noria_kind_table *kind = noria_kind_of(geometry);
    uint64_t ring = NORIA_SEGMENT_CONTENT + geometry->ring_offset;

    *solid = ring + (kind->initial != NULL ? kind->initial(geometry) : geometry->ring_size);
    return ring + geometry->ring_size;
}

/* ------------------------------------------------------------------------------------------------ found in a segment */

static bool is_possible(const struct noria_geometry *geometry, uint64_t room)
{
    if (geometry->max_participants == 0 || geometry->max_participants > MOST_NUMBERED || geometry->max_held == 0 ||
        geometry->max_held > MOST_NUMBERED || geometry->pack == 0 || geometry->priorities == 0 ||
        geometry->priorities > NORIA_MOST_PRIORITIES || geometry->table_offset != sizeof(struct noria_header) ||
        geometry->bell_offset != geometry->table_offset + geometry->max_participants * sizeof(struct noria_entry))
        return false;
    return geometry->poll_offset >= geometry->bell_offset && geometry->poll_offset <= room &&
           geometry->bell_size <= geometry->poll_offset - geometry->bell_offset &&
           (geometry->poll_offset + NORIA_SEGMENT_CONTENT) % NORIA_CACHE_LINE == 0 &&
           geometry->poll_size == noria_waiting_poll_size(geometry) &&
           geometry->ring_offset >= geometry->poll_offset + geometry->poll_size && geometry->ring_offset <= room &&
           geometry->ring_size <= room - geometry->ring_offset &&
           (geometry->ring_offset + NORIA_SEGMENT_CONTENT) % NORIA_CACHE_LINE == 0;
}

static bool is_known(const struct noria_geometry *geometry)
{
    const struct noria_kind_table *kind = noria_kind_of(geometry);

    return kind != NULL && geometry->order == NORIA_ORDER_STRICT && geometry->full <= NORIA_FULL_OVERWRITE_OLDEST &&
           geometry->orphans <= NORIA_ORPHANS_DROP && geometry->lifetime <= NORIA_UNLINK_CREATOR &&
           geometry->trust <= NORIA_TRUST_NONE && (asked_for(geometry) & ~kind->takes) == 0 &&
           (geometry->checksum == 0 || (geometry->checksum == 1 && may_have_checksums(kind, geometry)));
}

int noria_geometry_check(const struct noria_geometry *geometry, uint64_t room)
{
    const struct noria_kind_table *kind = noria_kind_of(geometry);
    size_t ring;

    if (!is_known(geometry))
        return noria_fail(-ENOTSUP, "the channel is of a kind or has a policy that this library does not know; update it");
    if (noria_strategy_find(geometry->wait) == NULL)
        return noria_fail(-ENOTSUP, "the channel's participants wait in a way (%u) that this library does not know; "
                          "update it", geometry->wait);
    ring = is_possible(geometry, room) ? kind->footprint(geometry) : 0;
    if (ring == 0 || ring > geometry->ring_size)
        return noria_fail(-EBADMSG, "the channel's geometry contradicts itself; remove the channel");
    if (geometry->bell_size != noria_waiting_bell_size(geometry))
        return noria_fail(-ENOTSUP, "what the channel's participants wait with has another size in this program: 32 and "
                          "64 bits, or two C libraries, cannot share it; create the channel with wait = futex");
    return 0;
}

int noria_geometry_compare(const struct noria_geometry *geometry, const struct noria_options *wanted)
{
    static const char *const names[] = {"?", "spsc", "mpmc", "broadcast"};

    if (wanted == NULL)
        return 0;
    if (wanted->kind != geometry->kind)
        return noria_fail(-EINVAL, "the channel is of kind %s, you ask for %s", names[geometry->kind & 3],
                          names[wanted->kind & 3]);
    if (wanted->order != geometry->order || wanted->trust != geometry->trust)
        return noria_fail(-EINVAL, "the channel has order %u and trust %u, you ask for %u and %u", geometry->order,
                          geometry->trust, wanted->order, wanted->trust);
    if (wanted->max_message > noria_geometry_longest(geometry))
        return noria_fail(-EINVAL, "the channel takes messages of up to %u bytes, you ask for %u",
                          noria_geometry_longest(geometry), wanted->max_message);
    return 0;
}
