/* SPDX-License-Identifier: BSD-2-Clause */
/* "nats:" of a library that was built without the NATS C client. */
#include <errno.h>

#include "adapters.h"
#include "detail.h"

static int refuse(void)
{
    return noria_fail(-ENOTSUP, "nats: this library was built without the NATS C client (libnats; Debian: libnats-dev)");
}

static int open_nats(noria_channel **channel, const char *rest, int flags, const struct noria_options *options)
{
    (void)channel;
    (void)rest;
    (void)flags;
    (void)options;
    return refuse();
}

static int with_name(const char *rest)
{
    (void)rest;
    return refuse();
}

const struct noria_transport noria_transport_nats = {"nats", open_nats, with_name, with_name};
