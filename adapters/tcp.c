/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "tcp:host:port", "tcp::port" (this machine only), "tcp:[::1]:port". The receiver listens at that address, with "?deal"
 * (dealing.h) the sender, and at no other; of a host with several who connects tries one after the other, and who listens takes
 * the first. Anybody who can reach it may take part: there is no proof of who he is. Put it behind a tunnel that asks for one.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "adapters.h"
#include "dealing.h"
#include "detail.h"

/* HOST:PORT, [HOST]:PORT, :PORT */
static int split(const char *rest, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(rest, ':');
    const char *from = rest;
    size_t length = colon != NULL ? (size_t)(colon - rest) : 0;

    if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return noria_fail(-EINVAL, "'tcp:%s': write tcp:host:port, tcp::port for this machine, or tcp:[::1]:port",
                          rest);
    if (length >= 2 && rest[0] == '[' && colon[-1] == ']') {
        from++;
        length -= 2;
    }
    if (length >= size)
        return noria_fail(-ENAMETOOLONG, "'tcp:%s': no host has so long a name", rest);
    memcpy(host, from, length);
    host[length] = '\0';
    *port = colon + 1;
    return 0;
}

static int make_address(struct noria_socket *of, const char *rest)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    static const char *const known[] = {"deal", NULL};
    char name[300], host[256];
    const char *port = NULL;
    int rc = noria_address_check("tcp", rest, known);

    if (rc == 0)
        rc = noria_address_name(rest, name, sizeof(name));
    if (rc == 0)
        rc = split(name, host, sizeof(host), &port);
    if (rc != 0)
        return rc;
    of->type = SOCK_STREAM;
    rc = getaddrinfo(host[0] != '\0' ? host : "127.0.0.1", port, &hints, &found);
    if (rc != 0)
        return noria_fail(-EINVAL, "'tcp:%s': %s", rest, gai_strerror(rc));
    noria_socket_take_addresses(of, found);
    return 0;
}

static int serve(struct noria_socket *of)
{
    int fd = noria_socket_make(of), rc, again = 1;

    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &again, sizeof(again)); /* old connections do not hold up a new listener */
    if (bind(fd, (struct sockaddr *)&of->address, of->address_size) == 0)
        return noria_socket_listen(of, fd);
    rc = -errno;
    close(fd);
    if (rc == -EADDRINUSE)
        return noria_fail(-EBUSY, "'tcp:%s': somebody listens there, and a channel has one %s only",
                          of->adapter.rest, noria_socket_listener(of->deals));
    return noria_fail(rc, "'tcp:%s': %s", of->adapter.rest, strerror(-rc));
}

static int take_role(struct noria_socket *of, int flags)
{
    (void)flags;
    return noria_socket_listens(of) ? serve(of) : 0;
}

static const struct noria_socket_scheme scheme = {&noria_mechanism_tcp, &noria_mechanism_tcp_dealing, 0, make_address, take_role};

static int open_tcp(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    return noria_socket_open(out, &scheme, rest, flags, options);
}

static int unlink_tcp(const char *rest)
{
    return noria_fail(-EINVAL, "'tcp:%s' has no name that could be removed", rest);
}

const struct noria_mechanism noria_mechanism_tcp = {.scheme = "tcp", NORIA_SOCKET_MECHANISM, .open = open_tcp};
const struct noria_mechanism noria_mechanism_tcp_dealing = {.scheme = "tcp", NORIA_DEALING_MECHANISM, .open = open_tcp};
const struct noria_transport noria_transport_tcp = {"tcp", open_tcp, unlink_tcp, unlink_tcp};
