/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "pipe:" an anonymous pipe for a process and its children (noria_reopen), "pipe:R,W" one whose ends are there already;
 * one of them may be left out. A handle on "pipe:" keeps both ends for children until its first call: fork before that.
 * As with every pipe, nobody sees its end as long as somebody has the other one open: a child closes the handle it
 * inherited.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapter.h"
#include "adapters.h"
#include "detail.h"

struct pipe_handle {
    struct noria_adapter adapter;
    int kept[2]; /* for children, to read and to write; -1 */
    uint32_t keeps;
};

static struct pipe_handle *pipe_of(struct noria_adapter *adapter)
{
    return (struct pipe_handle *)(void *)adapter;
}

/* The first call: from now on only our own ends are open. */
static void close_kept(struct pipe_handle *handle)
{
    if (noria_load_relaxed32(&handle->keeps) == 0 || noria_exchange_acquire32(&handle->keeps, 0) == 0)
        return;
    for (int i = 0; i < 2; i++)
        if (handle->kept[i] >= 0)
            close(handle->kept[i]);
}

static int attach(struct noria_adapter *adapter)
{
    close_kept(pipe_of(adapter));
    return 0;
}

static ssize_t get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    close_kept(pipe_of(adapter));
    return noria_end_read(&inlet->end, bytes, room);
}

static int end(struct noria_adapter *adapter)
{
    (void)adapter;
    return -EPIPE;
}

static void close_pipe(struct noria_adapter *adapter, bool stale)
{
    (void)stale; /* the inherited ends are this process' own copies */
    close_kept(pipe_of(adapter));
}

/* Own ends for the roles of the handle. */
static int take_roles(struct noria_adapter *adapter, const int ends[2])
{
    struct noria_end own;
    int rc = 0;

    if ((adapter->base.flags & NORIA_RECV) != 0) {
        rc = noria_end_open(&own, ends[0], O_RDONLY);
        if (rc == 0 && noria_adapter_add_inlet(adapter, &own) == NULL)
            rc = -ENOMEM;
        if (rc == 0)
            rc = noria_end_claim(&own, "pipe", adapter->rest);
        adapter->seen_sender = true; /* a pipe without writers stays so */
    }
    if (rc == 0 && (adapter->base.flags & NORIA_SEND) != 0) {
        rc = noria_end_open(&own, ends[1], O_WRONLY);
        if (rc == 0)
            noria_adapter_set_out(adapter, &own);
    }
    return rc;
}

static int open_on(noria_channel **out, const char *rest, int flags, const struct noria_options *options,
                   const int ends[2], bool keeps)
{
    struct noria_adapter *adapter;
    int rc = noria_adapter_make(&adapter, &noria_mechanism_pipe, sizeof(struct pipe_handle), rest, flags, options);

    if (rc != 0)
        return rc;
    pipe_of(adapter)->kept[0] = pipe_of(adapter)->kept[1] = -1;
    for (int i = 0; i < 2 && keeps; i++)
        pipe_of(adapter)->kept[i] = ends[i] >= 0 ? fcntl(ends[i], F_DUPFD_CLOEXEC, 0) : -1;
    pipe_of(adapter)->keeps = keeps;
    rc = noria_adapter_shape(adapter, noria_adapter_bound(&adapter->options), PIPE_BUF);
    if (rc == 0)
        rc = take_roles(adapter, ends);
    if (rc != 0) {
        close_kept(pipe_of(adapter));
        noria_adapter_free(adapter);
        return rc;
    }
    *out = &adapter->base;
    return 0;
}

static int parse_ends(const char *rest, int ends[2])
{
    char *end;
    long number = *rest != ',' ? strtol(rest, &end, 10) : (end = (char *)(uintptr_t)rest, -1);

    ends[0] = (int)number;
    if (*end != ',' || number > INT_MAX || number < -1)
        return noria_fail(-EINVAL,
                          "'pipe:%s': write pipe: for a new one, or pipe:R,W with the ends to read and to write", rest);
    number = end[1] != '\0' ? strtol(end + 1, &end, 10) : (end++, -1);
    ends[1] = (int)number;
    if (*end != '\0' || number > INT_MAX || number < -1)
        return noria_fail(-EINVAL, "'pipe:%s': a descriptor is a number", rest);
    return 0;
}

static int open_new(noria_channel **out, int flags, const struct noria_options *options)
{
    int ends[2], rc;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return noria_fail(-errno, "no pipe: %s", strerror(errno));
    noria_adapter_widen(ends[1], options);
    rc = open_on(out, "", flags, options, ends, true);
    close(ends[0]);
    close(ends[1]);
    return rc;
}

static int open_pipe(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    int ends[2], rc;

    if (*rest == '\0')
        return open_new(out, flags, options);
    rc = parse_ends(rest, ends);
    return rc == 0 ? open_on(out, rest, flags, options, ends, (flags & (NORIA_SEND | NORIA_RECV)) == 0) : rc;
}

static int reopen(noria_channel **mine, const noria_channel *inherited, int flags)
{
    const struct pipe_handle *theirs = (const struct pipe_handle *)(const void *)inherited;

    if (noria_load_acquire32(&theirs->keeps) == 0 && *theirs->adapter.rest != '\0')
        return open_pipe(mine, theirs->adapter.rest, flags, &theirs->adapter.options);
    if (noria_load_acquire32(&theirs->keeps) == 0)
        return noria_fail(-EINVAL, "the pipe's handle was used before: it keeps ends for others until its first call");
    return open_on(mine, "", flags, &theirs->adapter.options, theirs->kept, (flags & (NORIA_SEND | NORIA_RECV)) == 0);
}

static int unlink_pipe(const char *rest)
{
    return noria_fail(-EINVAL, "'pipe:%s' has no name that could be removed", rest);
}

const struct noria_mechanism noria_mechanism_pipe = {.scheme = "pipe",
                                                     .may_lend = true,
                                                     .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_POLL,
                                                     .attach = attach,
                                                     .put = noria_adapter_put_out,
                                                     .get = get,
                                                     .end = end,
                                                     .watch = noria_adapter_watch_ends,
                                                     .open = open_pipe,
                                                     .reopen = reopen,
                                                     .close = close_pipe};
const struct noria_transport noria_transport_pipe = {"pipe", open_pipe, unlink_pipe, unlink_pipe};
