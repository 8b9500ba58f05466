/* SPDX-License-Identifier: BSD-2-Clause */
/* Which transports there are, and how an address names one. */
#ifndef NORIA_TRANSPORTS_H
#define NORIA_TRANSPORTS_H

#include "transport.h"

/* Splits SCHEME:REST. NULL, with a sentence, if no transport has that scheme. */
const struct noria_transport *noria_transport_of(const char *address, const char **rest);

#endif
