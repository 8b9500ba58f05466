/* SPDX-License-Identifier: BSD-2-Clause */
/* What contestants that are channels share: the ring's memory in the arena holds the address, the channel has a segment of
 * its own, and who joins opens it. */
#ifndef NORIA_OF_CHANNEL_H
#define NORIA_OF_CHANNEL_H

#include <stdio.h>
#include <unistd.h>

#include <noria/noria.h>

#include "ledger.h"

enum { ADDRESS = 64 };

/* Makes it anew. How much of the memory is in use, or -errno. */
static inline int format_channel(void *memory, const struct noria_options *options)
{
    noria_channel *channel;
    int rc;

    snprintf(memory, ADDRESS, "shm:/noria-stopkill-%d", (int)getpid());
    noria_unlink(memory);
    rc = noria_open(&channel, memory, NORIA_CREATE | NORIA_EXCL, options);
    if (rc == 0)
        rc = noria_close(channel);
    return rc == 0 ? ADDRESS : rc;
}

static inline void remove_channel(void *memory)
{
    noria_unlink(memory);
}

static inline int join_channel(struct party *me, noria_channel **channel, unsigned roles, const struct noria_options *options)
{
    int flags = ((roles & SENDS) != 0 ? NORIA_SEND : 0) | ((roles & RECEIVES) != 0 ? NORIA_RECV : 0);
    int rc = noria_open(channel, me->memory, flags, options);

    if (rc == 0)
        me->roles |= roles;
    return rc;
}

static inline int leave_channel(struct party *me, noria_channel *channel)
{
    int rc = noria_close(channel);

    me->roles = 0;
    return rc;
}

/* A newcomer looks for the dead first. (How soon those present notice by themselves is another test's question.) */
static inline int recover_channel(struct party *me, const struct party *dead)
{
    noria_channel *observer;
    int rc = noria_open(&observer, me->memory, 0, NULL);

    (void)dead;
    return rc == 0 ? noria_close(observer) : rc;
}

#endif
