/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of mechanisms, and what files on the way to them share. */
#ifndef NORIA_ADAPTERS_H
#define NORIA_ADAPTERS_H

#include "transport.h"

struct noria_mechanism;
extern const struct noria_mechanism noria_mechanism_pipe, noria_mechanism_fifo, noria_mechanism_fd,
    noria_mechanism_unix, noria_mechanism_unix_dealing, noria_mechanism_tcp, noria_mechanism_tcp_dealing,
    noria_mechanism_mq, noria_mechanism_svmq,
    noria_mechanism_nats;
extern const struct noria_transport noria_transport_pipe, noria_transport_fifo, noria_transport_fd,
    noria_transport_unix, noria_transport_tcp, noria_transport_mq, noria_transport_svmq,
    noria_transport_nats;

/* The longest message of a byte stream: what is asked for, and a mebibyte at least. */
uint64_t noria_adapter_bound(const struct noria_options *options);
/* Room in a pipe for so many messages as are asked for, as far as the system lets us. */
void noria_adapter_widen(int pipe, const struct noria_options *options);

#endif
