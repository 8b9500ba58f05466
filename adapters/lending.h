/* SPDX-License-Identifier: BSD-2-Clause */
/* Batches whose pages are lent to a pipe. */
#ifndef NORIA_LENDING_H
#define NORIA_LENDING_H

#include "adapter.h"

/* Whether they are to be lent, if that can be done: the first one is not too long, and all are enough. */
bool noria_adapter_lends(const struct noria_adapter *adapter, const struct iovec *messages, int n);
/*
 * Puts the first of the messages, as many as go. How many went; of the last one a part may be owed. -ENOTSUP: they are
 * not worth it, or it cannot be done now. -EAGAIN, -EPIPE. With the side taken, and nothing owed.
 */
int noria_adapter_lend(struct noria_adapter *adapter, const struct iovec *messages, int n);

#endif
