/* SPDX-License-Identifier: BSD-2-Clause */
/* The public functions of a channel's life. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <noria/inspect.h>

#include "auto.h"
#include "detail.h"
#include "segment_channel.h"
#include "transports.h"

/* Options of an older program are shorter; what it does not know keeps its default. */
static int complete_options(const struct noria_options *given, struct noria_options *all)
{
    noria_options_init(all);
    if (given->size < sizeof(uint32_t) || given->size > 4096)
        return noria_fail(-EINVAL, "options.size is %u: use noria_options_init", given->size);
    memcpy(all, given, given->size < sizeof(*all) ? given->size : sizeof(*all));
    if (all->sigpipe_ignored > 1)
        return noria_fail(-EINVAL, "options.sigpipe_ignored is %u and has to be 0 or 1", all->sigpipe_ignored);
    if (all->reader_copies > 1)
        return noria_fail(-EINVAL, "options.reader_copies is %u and has to be 0 or 1", all->reader_copies);
    if (all->recheck_ns <= 0)
        return noria_fail(-EINVAL, "recheck_ns must be positive: it bounds how long a lost wake-up can last");
    if (all->recheck_ns > NORIA_NS_PER_S * 3600)
        all->recheck_ns = NORIA_NS_PER_S * 3600; /* longer is as good as never, and would overflow clocks */
    if (all->open_timeout_ns < -1 || all->wait_create_ns < -1)
        return noria_fail(-EINVAL, "open_timeout_ns and wait_create_ns are -1 (for ever), 0 or nanoseconds");
    return 0;
}

int64_t noria_footprint(const struct noria_options *options)
{
    struct noria_geometry geometry;
    struct noria_options all;
    uint64_t solid;
    int rc;

    noria_options_init(&all);
    rc = options != NULL ? complete_options(options, &all) : 0;
    if (rc == 0)
        rc = noria_geometry_make(&all, &geometry);
    if (rc != 0)
        return rc;
    noria_geometry_size(&geometry, &solid);
    return (int64_t)solid;
}

int noria_open(noria_channel **channel, const char *address, int flags, const struct noria_options *options)
{
    const struct noria_transport *transport;
    struct noria_options all;
    const char *rest;
    int rc = 0;

    if (channel == NULL)
        return noria_fail(-EINVAL, "noria_open needs a place for the handle");
    if ((flags & ~(NORIA_SEND | NORIA_RECV | NORIA_CREATE | NORIA_EXCL)) != 0 ||
        (flags & (NORIA_CREATE | NORIA_EXCL)) == NORIA_EXCL)
        return noria_fail(-EINVAL, "flags 0x%x: NORIA_SEND, NORIA_RECV, NORIA_CREATE, and NORIA_EXCL with CREATE",
                          (unsigned)flags);
    transport = noria_transport_of(address, &rest);
    if (transport == NULL)
        return -EINVAL;
    if (options != NULL)
        rc = complete_options(options, &all);
    if (rc == 0 && options != NULL)
        rc = noria_options_check_promise(&all);
    return rc != 0 ? rc : transport->open(channel, rest, flags, options != NULL ? &all : NULL);
}

int noria_reopen(noria_channel **mine, const noria_channel *inherited, int flags)
{
    if (mine == NULL || inherited == NULL || (flags & ~(NORIA_SEND | NORIA_RECV)) != 0)
        return noria_fail(-EINVAL, "noria_reopen takes a place, an inherited handle, and NORIA_SEND or NORIA_RECV");
    return inherited->chosen != NULL ? noria_auto_reopen(mine, inherited, flags)
                                     : inherited->verbs->reopen(mine, inherited, flags);
}

int noria_shutdown(noria_channel *channel)
{
    bool stale;

    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    noria_rejoin(); /* a read section, so that close in another thread waits for us */
    stale = noria_is_stale(channel);
    if (!stale)
        noria_channel_shut(channel);
    noria_leave();
    return stale ? noria_fail(-ESTALE, "the handle was inherited over fork; use noria_reopen") : 0;
}

int noria_close(noria_channel *channel)
{
    struct noria_auto *chosen;
    bool stale;

    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    stale = noria_is_stale(channel);
    if (!stale) {
        noria_channel_shut(channel);
        noria_channel_drain(channel);
    }
    chosen = channel->chosen;
    channel->verbs->close(channel, stale);
    if (chosen != NULL)
        noria_auto_leave(chosen, stale);
    return 0;
}

int noria_unlink(const char *address)
{
    const char *rest;
    const struct noria_transport *transport = noria_transport_of(address, &rest);

    return transport != NULL ? transport->unlink(rest) : -EINVAL;
}

static int is_in_use(const struct noria_transport *transport, const char *address, const char *rest)
{
    return transport->in_use != NULL ? transport->in_use(rest) : noria_name_in_use(address);
}

int noria_remove(const char *address, int force)
{
    const char *rest;
    const struct noria_transport *transport = noria_transport_of(address, &rest);
    int rc = 0;

    if (transport == NULL)
        return -EINVAL;
    if (!force || transport->in_use == NULL) /* of a segment force asks, too: whether it is one, and may be looked at */
        rc = is_in_use(transport, address, rest);
    if (rc < 0)
        return rc;
    if (rc > 0 && !force)
        return noria_fail(-EBUSY, "'%s' is in use (see `noria who`); force removes the name all the same, and its users go "
                          "on without it", address);
    return noria_unlink(address);
}

int noria_stat(noria_channel *channel, struct noria_stat *stat)
{
    struct noria_stat all;
    uint32_t size;
    int rc;

    if (channel == NULL || stat == NULL)
        return noria_fail(-EINVAL, "noria_stat takes a handle and a place for the answer");
    size = stat->size == 0 || stat->size > sizeof(all) ? (uint32_t)sizeof(all) : stat->size;
    rc = noria_enter(channel);
    if (rc != 0)
        return noria_fail(rc, "%s", noria_error_words(rc));
    rc = channel->verbs->stat(channel, &all);
    if (channel->watched)
        rc = (int)noria_call_judge(channel, rc);
    noria_leave();
    if (rc == -EIO)
        return noria_fail_plain(rc);
    if (rc == 0) {
        all.size = size;
        all.abilities |= NORIA_CAN_BOUNDARIES; /* frames and records see to it, whatever carries them */
        all.carrier = channel->chosen != NULL ? noria_auto_carrier(channel->chosen) : NULL;
        all.refused = channel->chosen != NULL ? noria_auto_refused(channel->chosen) : NULL;
        memcpy(stat, &all, size);
    }
    return rc;
}

int noria_sync(noria_channel *channel)
{
    int rc;

    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    rc = noria_enter(channel);
    if (rc != 0)
        return noria_fail(rc, "%s", noria_error_words(rc));
    noria_step_out(channel); /* a disk takes its time */
    rc = channel->verbs->sync != NULL ? channel->verbs->sync(channel)
                                      : noria_fail(-ENOTSUP, "nothing of this channel is on a disk");
    noria_step_in(channel);
    noria_leave();
    return rc;
}

int noria_share(noria_channel *channel, int socket)
{
    int rc;

    if (channel == NULL)
        return noria_fail(-EINVAL, "no handle");
    rc = noria_enter(channel);
    if (rc != 0)
        return noria_fail(rc, "%s", noria_error_words(rc));
    rc = channel->verbs->share != NULL ? channel->verbs->share(channel, socket)
                                       : noria_fail(-ENOTSUP, "this channel is not memory that could be handed over");
    noria_leave();
    return rc;
}

int noria_accept(noria_channel **channel, int socket, int flags, const struct noria_options *options)
{
    struct noria_options all;
    char address[32];
    int rc = 0, fd;

    noria_options_init(&all);
    if (channel == NULL || (flags & ~(NORIA_SEND | NORIA_RECV)) != 0)
        return noria_fail(-EINVAL, "noria_accept takes a place for the handle, and NORIA_SEND or NORIA_RECV");
    if (options != NULL)
        rc = complete_options(options, &all);
    fd = rc == 0 ? noria_receive_descriptor(socket, all.foreign != 0, all.open_timeout_ns) : rc;
    if (fd < 0)
        return fd;
    snprintf(address, sizeof(address), "memfd:%d", fd);
    rc = noria_open(channel, address, flags, options);
    close(fd);
    return rc;
}

const char *noria_strerror(int error)
{
    return noria_error_words(error);
}

const char *noria_detail(void)
{
    return noria_last_detail();
}
