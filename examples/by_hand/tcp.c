/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP by hand: a stream of bytes to a port, also of another machine; so numbers have a byte order on the way.
 *
 *     tcp recv 7777 &
 *     tcp send 7777 10                 both on this machine (127.0.0.1)
 *
 * What "tcp:" of noria adds: many senders at once, strangers and half messages that disturb nobody, messages of any
 * length, time-outs, connecting again, IPv6, host names.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Who has no listener yet asks again, each time with a new socket: a failed one may not be used again. */
static int connect_to(const struct sockaddr_in *where)
{
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)where, sizeof *where) == 0)
            return fd;
        close(fd);
        if (errno != ECONNREFUSED && errno != EINTR)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static int send_numbers(const struct sockaddr_in *where, uint64_t n)
{
    int fd = connect_to(where);

    if (fd < 0)
        return perror("tcp: connect"), 1;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t sent = htobe64(i);
        for (size_t at = 0; at < sizeof sent;) { /* a socket may take a part */
            ssize_t done = send(fd, (const char *)&sent + at, sizeof sent - at, MSG_NOSIGNAL);
            if (done < 0 && errno != EINTR)
                return perror("tcp: send"), 1;
            at += done > 0 ? (size_t)done : 0;
        }
    }
    return close(fd) != 0; /* that all has arrived this does not say: a receiver that answers would */
}

/* A killed sender's kernel closes as one that has finished; a machine that is switched off says nothing at all. */
static int receive_numbers(const struct sockaddr_in *where)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, peer;
    uint64_t number, count = 0, sum = 0;
    size_t have = 0;
    ssize_t got;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* or the last connection keeps the port for a minute */
    if (bind(fd, (const struct sockaddr *)where, sizeof *where) != 0 || listen(fd, 1) != 0)
        return perror("tcp: listen"), 1;
    while ((peer = accept(fd, NULL, NULL)) < 0 && errno == EINTR)
        ;
    while ((got = recv(peer, (char *)&number + have, sizeof number - have, 0)) > 0 || (got < 0 && errno == EINTR)) {
        have += got > 0 ? (size_t)got : 0;
        if (have < sizeof number) /* a read may end in the middle of a number */
            continue;
        count++;
        sum += be64toh(number);
        have = 0;
    }
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return got < 0 || have > 0 ? fprintf(stderr, "tcp: it ended in the middle\n"), 1 : 0;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0))
        return fprintf(stderr, "usage: tcp send PORT COUNT | tcp recv PORT\n"), 2;
    where.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    return sends ? send_numbers(&where, strtoull(argv[3], NULL, 10)) : receive_numbers(&where);
}
