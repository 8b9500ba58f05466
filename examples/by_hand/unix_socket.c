/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Unix domain socket by hand: a connection between two processes of one machine, under a name in the file system. The
 * kernel says who is at the other end, and it could pass descriptors, too.
 *
 *     unix_socket recv /tmp/numbers &
 *     unix_socket send /tmp/numbers 10
 *
 * What "unix:" of noria adds: many senders at once, strangers who disturb nobody, messages of any length, time-outs, going
 * on with the next receiver. (noria_share sends a descriptor: memory, in which there is no socket in the way any more.)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int send_numbers(int fd, const struct sockaddr_un *name, uint64_t n)
{
    while (connect(fd, (const struct sockaddr *)name, sizeof *name) != 0) { /* nobody tells when somebody listens */
        if (errno != ENOENT && errno != ECONNREFUSED && errno != EINTR)
            return perror(name->sun_path), 1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    for (uint64_t i = 0; i < n; i++)
        for (size_t at = 0; at < sizeof i;) { /* a socket may take a part */
            ssize_t done = send(fd, (const char *)&i + at, sizeof i - at, MSG_NOSIGNAL);
            if (done < 0 && errno != EINTR)
                return perror("unix_socket: send"), 1;
            at += done > 0 ? (size_t)done : 0;
        }
    return 0;
}

/* The name stays behind when its process dies, and bind refuses it: if nobody answers there, it may go. */
static int take_name(int fd, const struct sockaddr_un *name)
{
    if (bind(fd, (const struct sockaddr *)name, sizeof *name) == 0)
        return 0;
    if (errno != EADDRINUSE || connect(fd, (const struct sockaddr *)name, sizeof *name) == 0 || errno != ECONNREFUSED)
        return -1;
    return unlink(name->sun_path) == 0 ? bind(fd, (const struct sockaddr *)name, sizeof *name) : -1;
}

static int receive_numbers(int fd, const struct sockaddr_un *name)
{
    uint64_t number, count = 0, sum = 0;
    struct ucred who;
    socklen_t size = sizeof who;
    size_t have = 0;
    ssize_t got;
    int peer;

    if (take_name(fd, name) != 0 || listen(fd, 1) != 0)
        return perror(name->sun_path), 1;
    while ((peer = accept(fd, NULL, NULL)) < 0 && errno == EINTR)
        ;
    if (peer < 0 || getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != geteuid())
        return fprintf(stderr, "unix_socket: nobody of this user\n"), 1;
    while ((got = recv(peer, (char *)&number + have, sizeof number - have, 0)) > 0 || (got < 0 && errno == EINTR)) {
        have += got > 0 ? (size_t)got : 0;
        if (have < sizeof number) /* a read may end in the middle of a number */
            continue;
        count++;
        sum += number;
        have = 0;
    }
    unlink(name->sun_path);
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", count, sum);
    return got < 0 || have > 0 ? fprintf(stderr, "unix_socket: it ended in the middle\n"), 1 : 0;
}

int main(int argc, char **argv)
{
    int sends = argc == 4 && strcmp(argv[1], "send") == 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if ((!sends && !(argc == 3 && strcmp(argv[1], "recv") == 0)) || strlen(argv[2]) >= sizeof name.sun_path)
        return fprintf(stderr, "usage: unix_socket send PATH COUNT | unix_socket recv PATH\n"), 2;
    strcpy(name.sun_path, argv[2]);
    return sends ? send_numbers(fd, &name, strtoull(argv[3], NULL, 10)) : receive_numbers(fd, &name);
}
