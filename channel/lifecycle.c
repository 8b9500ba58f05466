/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening and closing channels in segments. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

/* Fills a new segment. */
static int format(void *content, size_t size, void *context)
{
    const struct noria_geometry *geometry = context;
    struct noria_header *header = content;
    uint8_t *table = (uint8_t *)content + geometry->table_offset;

    (void)size;
    memset(header, 0, sizeof(*header));
    memset(table, 0, (size_t)(geometry->ring_offset - geometry->table_offset)); /* with the bells behind it */
    header->geometry = *geometry;
    return noria_kind_of(geometry)->format((uint8_t *)content + geometry->ring_offset, (size_t)geometry->ring_size,
                                            geometry);
}

int noria_segment_channel_adopt(struct noria_segment_channel *channel)
{
    struct noria_header *header = noria_segment_content(&channel->segment);
    struct noria_geometry *geometry = &channel->geometry;
    uint64_t room = channel->segment.size - NORIA_SEGMENT_CONTENT;
    int rc;

    if (room < sizeof(*header))
        return noria_fail(-EBADMSG, "the segment is too small for a channel");
    *geometry = header->geometry; /* once: from here on only the copy counts */
    rc = noria_geometry_check(geometry, room);
    if (rc == 0 && ((channel->segment.super.features & NORIA_SEGMENT_CHECKSUMS) != 0) != (geometry->checksum != 0))
        rc = noria_fail(-EBADMSG, "superblock and header do not agree about checksums; remove the channel");
    if (rc != 0)
        return rc;
    channel->kind = noria_kind_of(geometry);
    channel->shared = header;
    channel->table = (struct noria_entry *)(void *)((uint8_t *)header + geometry->table_offset);
    channel->ring = (uint8_t *)header + geometry->ring_offset;
    return channel->kind->attach(channel);
}

/* --------------------------------------------------------------------------------------------------- open and close */

static struct noria_segment_channel *new_handle(void)
{
    struct noria_segment_channel *channel = aligned_alloc(NORIA_LINE_PAIR, (sizeof(*channel) + NORIA_LINE_PAIR - 1) &
                                                                               ~(size_t)(NORIA_LINE_PAIR - 1));

    if (channel == NULL) {
        noria_fail(-ENOMEM, "out of memory for a handle");
        return NULL;
    }
    memset(channel, 0, sizeof(*channel));
    channel->segment.fd = -1; /* of no backend yet */
    return channel;
}

static int refuse_to_leave_names(uint32_t wait)
{
    return noria_fail(-ENOTSUP, "a channel without a name goes with its last user, however he ends, and what %s waits with "
                      "would stay; wait by futex, mutex, eventfd, spin or yield", noria_strategy_find(wait)->name);
}

NORIA_STATIC_ASSERT((int)NORIA_WISH_HUGE_PAGES == NORIA_SEGMENT_HUGE_PAGES && (int)NORIA_WISH_NODE == NORIA_SEGMENT_NODE &&
                    (int)NORIA_WISH_POPULATED == NORIA_SEGMENT_POPULATED && (int)NORIA_WISH_LOCKED == NORIA_SEGMENT_LOCKED,
                    "the segment's wishes are those of noria.h");

/* Joins the mapped and checked channel. */
static int take_part(struct noria_segment_channel *channel, int flags, const struct noria_options *options)
{
    int rc;

    noria_process_self(&channel->self);
    channel->recheck_ns = options->recheck_ns;
    channel->need_receiver = options->need_receiver != 0;
    channel->sync = options->sync;
    channel->wishes = options->wishes;
    channel->node = options->node;
    channel->granted = noria_segment_wish(&channel->segment, channel->wishes, channel->node);
    channel->start = options->start;
    channel->start_position = options->start_position;
    channel->senders_at_open = noria_load_relaxed64(&channel->shared->senders_joined);
    noria_channel_init(&channel->base, channel->geometry.checksum != 0 ? channel->kind->sealed : &channel->kind->verbs,
                       flags, noria_geometry_longest(&channel->geometry), channel->geometry.full);
    channel->base.priorities = channel->geometry.priorities;
    channel->base.one_caller = channel->kind->one_caller;
    channel->base.returns_eintr = options->returns_eintr;
    noria_channel_limit_spins(&channel->base, options->most_spins);
    channel->base.never_sleeps = !noria_strategy_find(channel->geometry.wait)->sleeps;
    channel->base.pace = noria_strategy_find(channel->geometry.wait)->pace;
    channel->base.distrusts = channel->geometry.trust == NORIA_TRUST_NONE || options->trust == NORIA_TRUST_NONE;
    channel->base.watched = channel->base.distrusts != 0 || channel->segment.guarded;
    channel->base.looks_first = channel->need_receiver;
    channel->base.lane_suffices = channel->base.watched == 0 && channel->base.looks_first == 0;
    noria_guard_tell(&channel->segment.guard, &channel->base.state, NORIA_HANDLE_LOST);
    rc = channel->base.distrusts
             ? noria_geometry_check_trust(&channel->geometry, channel->segment.backend, channel->segment.guarded)
             : 0;
    if (rc != 0)
        return rc;
    if (!channel->segment.backend->named && noria_strategy_find(channel->geometry.wait)->remove != NULL)
        return refuse_to_leave_names(channel->geometry.wait);
    rc = noria_participant_join(channel, flags);
    if (rc != 0)
        return rc;
    rc = noria_waiting_open(channel);
    if (rc != 0) {
        noria_participant_leave(channel);
        return rc;
    }
    noria_participant_announce(channel, flags);
    noria_segment_wake(&channel->base); /* joining may have cleaned up after somebody before it could wake anybody */
    noria_recover_all(channel, true); /* the next open cleans up, too */
    rc = channel->kind->join(channel, flags);
    if (rc != 0) {
        noria_participant_leave(channel);
        noria_waiting_close(channel);
        return rc;
    }
    channel->seen_sender = noria_participants_live(channel, NORIA_SEND) != 0;
    if (channel->segment.fd >= 0)
        noria_fork_guard_add(&channel->fork_guard, channel->segment.fd);
    return 0;
}

static void free_handle(struct noria_segment_channel *channel)
{
    if (channel->kind != NULL)
        channel->kind->dispose(channel);
    noria_segment_close(&channel->segment);
    free(channel);
}

/* Joining and "I was the last, the name goes" exclude each other, if the name is to go with a participant. */
static bool name_may_go(const struct noria_segment_channel *channel)
{
    return channel->geometry.lifetime != NORIA_PERSIST && channel->segment.backend->named;
}

/* Joins. 0, -errno, or 1: the name was removed just before, so that newcomers would not find us. */
static int take_part_by_name(struct noria_segment_channel *channel, int flags, const struct noria_options *options)
{
    int64_t until = noria_deadline_ns(options->open_timeout_ns);
    int rc;

    if (name_may_go(channel) && noria_segment_lock_name(&channel->segment, until) != 0)
        return noria_fail(-ETIMEDOUT, "another process is opening or closing '%s' and does not get on", channel->name);
    rc = channel->segment.backend->named && noria_segment_is_orphaned(&channel->segment) ? 1
                                                                                 : take_part(channel, flags, options);
    if (name_may_go(channel))
        noria_segment_unlock_name(&channel->segment);
    return rc;
}

/* What happened in a segment that was truncated meanwhile did not happen. */
static int judge_loss(const struct noria_segment_channel *channel, int rc)
{
    if (noria_load_acquire32(&channel->segment.guard.lost) == 0) /* pairs with the guard's handler */
        return rc;
    return noria_fail(-EIO, "'%s' was truncated by another process while it was opened; remove it and find out who did",
                      channel->name);
}

static int open_in_segment(noria_channel **out, const struct noria_segment_request *request, int flags,
                           const struct noria_options *options, const struct noria_options *wanted)
{
    int64_t until = noria_deadline_ns(request->open_timeout_ns);
    struct noria_segment_channel *channel;
    int rc = noria_process_prepare();

    while (rc == 0) {
        channel = new_handle();
        if (channel == NULL)
            return -ENOMEM;
        snprintf(channel->name, sizeof(channel->name), "%s", request->name);
        rc = noria_segment_open(&channel->segment, request);
        if (rc == 0)
            rc = noria_segment_channel_adopt(channel);
        if (rc == 0 && request->create && !channel->segment.created)
            rc = noria_geometry_compare(&channel->geometry, wanted);
        if (rc == 0)
            rc = noria_settle_reboot(channel, until);
        if (rc == 0)
            rc = take_part_by_name(channel, flags, options);
        if (rc == 0 && judge_loss(channel, 0) != 0) {
            noria_segment_channel_close(&channel->base, false);
            return -EIO;
        }
        if (rc < 0)
            rc = judge_loss(channel, rc);
        if (rc == 0) {
            *out = &channel->base;
            return 0;
        }
        if (channel->segment.created && !channel->segment.backend->named)
            noria_segment_forget(&channel->segment);
        free_handle(channel);
        if (rc == 1)
            rc = noria_now_ns() < until ? 0
                                        : noria_fail(-EAGAIN, "'%s' is removed again and again while it is opened",
                                                     request->name);
    }
    return rc;
}

static int open_with(const struct noria_segment_backend *backend, noria_channel **out, const char *name, int flags,
                     const struct noria_options *given)
{
    struct noria_options defaults;
    const struct noria_options *options = given;
    struct noria_geometry geometry;
    struct noria_segment_request request;
    uint64_t size, solid;
    int rc;

    noria_options_init(&defaults);
    if (options == NULL)
        options = &defaults;
    rc = noria_geometry_make(options, &geometry);
    if (rc == 0 && options->trust == NORIA_TRUST_NONE)
        rc = noria_geometry_check_trust(&geometry, backend, options->guard != 0);
    if (rc == 0 && !backend->named && (flags & NORIA_CREATE) != 0 && noria_strategy_find(options->wait)->remove != NULL)
        rc = refuse_to_leave_names(options->wait);
    if (rc != 0)
        return rc;
    size = noria_geometry_size(&geometry, &solid);
    request = (struct noria_segment_request){
        .backend = backend, .name = name, .create = (flags & NORIA_CREATE) != 0,
        .exclusive = (flags & NORIA_EXCL) != 0, .foreign = options->foreign != 0, .guarded = options->guard != 0,
        .huge = (options->wishes & NORIA_WISH_HUGE_PAGES) != 0 && !noria_kind_of(&geometry)->reads_only,
        .mode = options->mode & 0777, .group = options->group, .memory = options->memory, .memory_size = options->memory_size,
        .size = size, .solid = solid, .features = geometry.checksum != 0 ? NORIA_SEGMENT_CHECKSUMS : 0,
        .locks = geometry.max_participants + 1, /* a guest's, too */
        .open_timeout_ns = options->open_timeout_ns, .wait_create_ns = options->wait_create_ns,
        .format = format, .context = &geometry};
    return open_in_segment(out, &request, flags, options, given);
}

int noria_segment_channel_reopen(noria_channel **mine, const noria_channel *inherited, int flags)
{
    const struct noria_segment_channel *theirs = (const struct noria_segment_channel *)(const void *)inherited;
    struct noria_segment_channel *channel;
    struct noria_options options;
    int rc = noria_process_prepare();

    if (rc != 0)
        return rc;
    channel = new_handle();
    if (channel == NULL)
        return -ENOMEM;
    memcpy(channel->name, theirs->name, sizeof(channel->name));
    noria_options_init(&options);
    options.recheck_ns = theirs->recheck_ns;
    options.need_receiver = theirs->need_receiver;
    options.trust = theirs->base.distrusts ? NORIA_TRUST_NONE : NORIA_TRUST_SAME_USER;
    options.sync = theirs->sync;
    options.wishes = theirs->wishes;
    options.node = theirs->node;
    options.returns_eintr = theirs->base.returns_eintr;
    options.most_spins = theirs->base.most_spins;
    options.start = theirs->start;
    options.start_position = theirs->start_position;
    rc = noria_segment_attach(&channel->segment, &theirs->segment);
    if (rc == 0)
        rc = noria_segment_channel_adopt(channel);
    if (rc == 0)
        rc = take_part_by_name(channel, flags, &options);
    if (rc == 1) /* nameless already: that is how the parent's other children know it, too */
        rc = take_part(channel, flags, &options);
    if (rc != 0) {
        free_handle(channel);
        return rc;
    }
    *mine = &channel->base;
    return 0;
}

/* Whether nobody is left, the dead not counted. */
static bool is_deserted(struct noria_segment_channel *channel)
{
    noria_recover_all(channel, true);
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++)
        if (NORIA_ENTRY_STATE(noria_load_acquire64(&channel->table[number - 1].word)) == NORIA_ENTRY_LIVE)
            return false;
    return true;
}

/* The last participant takes the name along, or the creator does. */
static void unlink_if_due(struct noria_segment_channel *channel)
{
    bool by_creator = channel->geometry.lifetime == NORIA_UNLINK_CREATOR && channel->segment.created;

    if ((by_creator || is_deserted(channel)) && !noria_segment_is_orphaned(&channel->segment))
        channel->segment.backend->unlink(&channel->segment, channel->name, noria_deadline_ns(NORIA_NS_PER_S));
}

void noria_segment_channel_close(noria_channel *base, bool stale)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(base);

    noria_fork_guard_remove(&channel->fork_guard);
    if (!stale) { /* an inherited handle's place in the channel is its parent's */
        bool locked = name_may_go(channel) &&
                      noria_segment_lock_name(&channel->segment, noria_deadline_ns(NORIA_NS_PER_S)) == 0;
        if (noria_participant_is_alive(channel)) /* else what bears our number is a successor's */
            channel->kind->leave(channel);
        noria_participant_leave(channel);
        if (locked) { /* if somebody stopped holds it, he or the next one will be the last */
            unlink_if_due(channel);
            noria_segment_unlock_name(&channel->segment);
        }
        /* Nobody can find the channel any more: what its waiting left outside of it goes with its last participant. */
        if (noria_segment_is_orphaned(&channel->segment) && is_deserted(channel)) {
            noria_waiting_remove(channel);
            noria_segment_forget(&channel->segment);
        }
    }
    noria_waiting_close(channel);
    if (!stale && channel->sync == NORIA_SYNC_CLOSE && channel->segment.backend->on_disk)
        noria_segment_sync(&channel->segment);
    free_handle(channel);
}

int noria_segment_channel_sync(noria_channel *base)
{
    return noria_segment_sync(&noria_segment_channel_of(base)->segment);
}

/* ------------------------------------------------------------------------------------------------------ transports */

static int open_shm(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    return open_with(&noria_segment_posix, out, name, flags, options);
}

static int unlink_by(const struct noria_segment_backend *backend, const char *name)
{
    struct noria_segment_channel channel;
    int looked = noria_segment_channel_peek(&channel, backend, name);
    int rc = noria_segment_unlink(backend, name);

    if (looked != 0)
        return rc;
    /* Otherwise the last participant removes it. */
    if (rc == 0 && channel.segment.backend->any_held(&channel.segment) == 0)
        noria_waiting_remove(&channel);
    noria_segment_close(&channel.segment);
    return rc;
}

static int unlink_shm(const char *name)
{
    return unlink_by(&noria_segment_posix, name);
}

static int open_file(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    return open_with(&noria_segment_file, out, name, flags, options);
}

static int unlink_file(const char *name)
{
    return unlink_by(&noria_segment_file, name);
}

static int open_sysv(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    if (name[0] == '\0')
        return open_with(&noria_segment_sysv_private, out, name, flags | NORIA_CREATE, options);
    if (strncmp(name, "id:", 3) == 0 && (flags & NORIA_CREATE) != 0)
        return noria_fail(-EINVAL, "'sysv:%s' can only be attached: the system gives out ids", name);
    return open_with(&noria_segment_sysv, out, name, flags, options);
}

static int unlink_sysv(const char *name)
{
    return unlink_by(&noria_segment_sysv, name);
}

static int open_memory(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    return open_with(&noria_segment_memory, out, name, flags, options);
}

static int unlink_memory(const char *name)
{
    return noria_segment_unlink(&noria_segment_memory, name);
}

static int open_memfd(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    if (name[0] == '\0')
        return noria_fail(-EINVAL, "'memfd:' needs a descriptor, as in memfd:3; new memory without a name is anon:");
    return open_with(&noria_segment_memfd, out, name, flags, options);
}

static int open_anon(noria_channel **out, const char *name, int flags, const struct noria_options *options)
{
    if (name[0] != '\0')
        return noria_fail(-EINVAL, "'anon:%s': memory without a name has no name; write anon:", name);
    return open_with(&noria_segment_memfd, out, name, flags | NORIA_CREATE, options);
}

static int unlink_nothing(const char *name)
{
    return noria_segment_unlink(&noria_segment_memfd, name);
}

const struct noria_transport noria_transport_shm = {"shm", open_shm, unlink_shm, NULL};
const struct noria_transport noria_transport_file = {"file", open_file, unlink_file, NULL};
const struct noria_transport noria_transport_sysv = {"sysv", open_sysv, unlink_sysv, NULL};
const struct noria_transport noria_transport_memory = {"memory", open_memory, unlink_memory, NULL};
const struct noria_transport noria_transport_memfd = {"memfd", open_memfd, unlink_nothing, NULL};
const struct noria_transport noria_transport_anon = {"anon", open_anon, unlink_nothing, NULL};
