/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "auto:/name": the first of several ways to carry a channel that this process can use, and then the same one for all
 * who open the name. The handle is that of the transport that was chosen; beside it stands what follows.
 */
#ifndef NORIA_AUTO_H
#define NORIA_AUTO_H

#include "transport.h"

extern const struct noria_transport noria_transport_auto;

/* For noria_stat: the address of what carries the channel, and a line for each that was refused. */
const char *noria_auto_carrier(const struct noria_auto *chosen);
const char *noria_auto_refused(const struct noria_auto *chosen);

/* As the verbs, for a handle with such a choice. */
int noria_auto_reopen(noria_channel **mine, const noria_channel *inherited, int flags);
/* The handle has gone. `stale`: it was one that this process had inherited. */
void noria_auto_leave(struct noria_auto *chosen, bool stale);

#endif
