/* SPDX-License-Identifier: BSD-2-Clause */
#include "transports.h"

#include <errno.h>
#include <string.h>

#include "adapters.h"
#include "auto.h"
#include "detail.h"
#include "segment_channel.h"

static const struct noria_transport *const transports[] = {
    &noria_transport_shm,  &noria_transport_file, &noria_transport_sysv, &noria_transport_memfd, &noria_transport_memory,
    &noria_transport_anon, &noria_transport_pipe, &noria_transport_fifo, &noria_transport_fd,    &noria_transport_unix,
    &noria_transport_tcp,  &noria_transport_mq,   &noria_transport_svmq, &noria_transport_nats,
    &noria_transport_auto};

static const char forms[] = "shm:/name, file:/path, sysv:KEY, memfd:FD, memory:, anon:, pipe:, fifo:/path, fd:N, "
                            "unix:/path, tcp:host:port, mq:/name, svmq:KEY, nats://host:port/subject and auto:/name";

const struct noria_transport *noria_transport_of(const char *address, const char **rest)
{
    const char *colon = address != NULL ? strchr(address, ':') : NULL;

    if (colon == NULL) {
        noria_fail(-EINVAL, "'%s' is not an address: there are %s",
                   address != NULL ? address : "(null)", forms);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
        size_t length = strlen(transports[i]->scheme);
        if (length == (size_t)(colon - address) && strncmp(transports[i]->scheme, address, length) == 0) {
            *rest = colon + 1;
            return transports[i];
        }
    }
    noria_fail(-EINVAL, "'%s': no transport of that name; there are %s", address, forms);
    return NULL;
}
