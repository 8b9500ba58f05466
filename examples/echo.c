/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An echo server for strangers: what telnet, nc or a browser sends over TCP are bytes, not noria's messages. One
 * process talks to them all, makes lines of the bytes, and leaves the work to others, over two channels; sockets and
 * channels are waited for in one epoll set. A worker that dies takes no connection with it: its line goes to another one.
 *
 *     examples/echo 7777
 *     nc localhost 7777              each line comes back; "crash" is the death of a worker
 *
 *     strangers <--lines--> front --work--> workers --done--> front
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

enum { WORKERS = 3, CONNECTIONS = 200, LONGEST = 1024, LOOK_MS = 100 };

struct line {
    uint32_t connection;
    uint32_t length;
    uint64_t number; /* of all lines there were: what comes twice, or after its connection has gone, is not taken */
    char text[LONGEST];
};

/* One line at a time is with a worker, so lines come back in order, and who sends without reading waits in the kernel. */
struct connection {
    int fd; /* -1: free */
    int has_ended;
    uint64_t awaits; /* a line's number, or 0 */
    size_t in, out, out_from;
    char text[LONGEST], answer[LONGEST];
};

static struct connection connections[CONNECTIONS];
static noria_channel *work, *done;
static int set, listener;

static void require(int is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "echo: %s: %s\n", what, errno != 0 ? strerror(errno) : noria_detail());
    exit(1); /* workers die with their parent */
}

/* -------------------------------------------------------------------------------------------------------- a worker */

/* A line over which somebody has died may well be what killed him. */
static void be_worker(void)
{
    noria_channel *lines, *answers;
    struct noria_span span;
    struct noria_info info;
    struct line line;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    require(noria_reopen(&lines, work, NORIA_RECV) == 0 && noria_reopen(&answers, done, NORIA_SEND) == 0, "worker");
    while (noria_peek(lines, &span, -1, &info) == 0) {
        memcpy(&line, span.data, span.len);
        if ((info.flags & NORIA_REDELIVERED) != 0)
            line.length = (uint32_t)sprintf(line.text, "a worker died over this line\n");
        else if (line.length >= 5 && memcmp(line.text, "crash", 5) == 0)
            raise(SIGKILL);
        require(noria_send(answers, &line, offsetof(struct line, text) + line.length, -1) == 0, "worker");
        noria_release(lines, &span);
    }
}

static void start_worker(void)
{
    pid_t child = fork();

    require(child >= 0, "fork");
    if (child == 0) {
        be_worker();
        _exit(0);
    }
}

/* ------------------------------------------------------------------------------------------------------- the front */

/* What is waited for: room to write while there is something to write, else bytes, if no line is with a worker. */
static void watch(struct connection *connection)
{
    uint32_t what = connection->out > 0 ? EPOLLOUT : connection->awaits == 0 && !connection->has_ended ? EPOLLIN : 0;
    struct epoll_event event = {.events = what, .data.ptr = connection};

    epoll_ctl(set, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Workers that were started since have the socket open, too: shutdown ends it for all, close only for us. */
static void hang_up(struct connection *connection)
{
    epoll_ctl(set, EPOLL_CTL_DEL, connection->fd, NULL);
    shutdown(connection->fd, SHUT_RDWR);
    close(connection->fd);
    connection->fd = -1;
}

/* The first line that is there, or a piece of one that is too long, or what is left at the end, goes to a worker. 0, or
 * -EAGAIN: lines of connections that have gone stand in the way. */
static int hand_over(struct connection *connection)
{
    static uint64_t last_number;
    struct line line = {.connection = (uint32_t)(connection - connections), .number = ++last_number};
    char *end = memchr(connection->text, '\n', connection->in);

    if (end != NULL)
        line.length = (uint32_t)(end + 1 - connection->text);
    else if (connection->in == LONGEST || connection->has_ended)
        line.length = (uint32_t)connection->in;
    if (line.length == 0)
        return 0;
    memcpy(line.text, connection->text, line.length);
    connection->in -= line.length;
    memmove(connection->text, connection->text + line.length, connection->in);
    connection->awaits = line.number;
    return noria_send(work, &line, offsetof(struct line, text) + line.length, 0);
}

static void get_on(struct connection *connection)
{
    int rc = connection->awaits == 0 && connection->out == 0 ? hand_over(connection) : 0;

    if (rc != 0 || (connection->has_ended && connection->awaits == 0 && connection->out == 0))
        hang_up(connection);
    else
        watch(connection);
}

static void serve(struct connection *connection, uint32_t events)
{
    ssize_t got = 1;

    if (connection->out > 0) {
        got = send(connection->fd, connection->answer + connection->out_from, connection->out, MSG_NOSIGNAL);
        connection->out_from += got > 0 ? (size_t)got : 0;
        connection->out -= got > 0 ? (size_t)got : 0;
    } else if ((events & EPOLLIN) != 0 && connection->in < LONGEST) {
        got = recv(connection->fd, connection->text + connection->in, LONGEST - connection->in, 0);
        connection->in += got > 0 ? (size_t)got : 0;
        connection->has_ended = got == 0;
    }
    if ((got < 0 && errno != EAGAIN && errno != EINTR) || (events & (EPOLLERR | EPOLLHUP)) != 0)
        hang_up(connection); /* nobody will read an answer any more */
    else
        get_on(connection);
}

static void welcome(void)
{
    struct connection *connection = connections;
    struct epoll_event event = {.events = 0};
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    while (connection < connections + CONNECTIONS && connection->fd >= 0)
        connection++;
    if (fd >= 0 && connection == connections + CONNECTIONS)
        close(fd);
    if (fd < 0 || connection == connections + CONNECTIONS)
        return;
    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    event.data.ptr = connection;
    require(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0, "epoll");
    watch(connection);
}

/* Until there is nothing more, which arms the descriptor. */
static void take_done(void)
{
    struct line line;
    ssize_t len;

    while ((len = noria_recv(done, &line, sizeof line, 0, NULL)) >= 0) {
        struct connection *connection = &connections[line.connection % CONNECTIONS];
        if (connection->fd < 0 || connection->awaits != line.number)
            continue;
        connection->awaits = 0;
        connection->out = line.length;
        connection->out_from = 0;
        memcpy(connection->answer, line.text, line.length);
        watch(connection);
    }
    errno = 0;
    require(len == -EAGAIN || len == -EPIPE, "done"); /* EPIPE: all workers are dead just now */
}

/* A port of this machine only; 0: any that is free, and says which. */
static void listen_at(uint16_t port)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    socklen_t size = sizeof where;
    int on = 1;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    require(bind(listener, (struct sockaddr *)&where, size) == 0 && listen(listener, 128) == 0, "listen");
    require(getsockname(listener, (struct sockaddr *)&where, &size) == 0, "port");
    require(epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) == 0, "epoll");
    printf("%u\n", ntohs(where.sin_port));
    fflush(stdout);
}

static void open_channels(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &done};
    struct noria_options options;

    noria_options_init(&options);
    options.max_message = sizeof(struct line);
    options.capacity = CONNECTIONS;
    require(noria_open(&work, "anon:", NORIA_SEND, &options) == 0, "work");
    require(noria_open(&done, "anon:", NORIA_RECV, &options) == 0, "done");
    require(epoll_ctl(set, EPOLL_CTL_ADD, noria_fd(done, NORIA_RECV), &event) == 0, "epoll");
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: echo PORT\n"), 2;
    for (int i = 0; i < CONNECTIONS; i++)
        connections[i].fd = -1;
    set = epoll_create1(EPOLL_CLOEXEC);
    open_channels();
    for (int i = 0; i < WORKERS; i++)
        start_worker();
    listen_at((uint16_t)strtoul(argv[1], NULL, 10));
    for (;;) {
        struct epoll_event events[CONNECTIONS];
        int ready = epoll_wait(set, events, CONNECTIONS, LOOK_MS);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &listener)
                welcome();
            else if (events[i].data.ptr != &done && ((struct connection *)events[i].data.ptr)->fd >= 0)
                serve(events[i].data.ptr, events[i].events);
        }
        take_done(); /* also without its event: a worker that was killed before it rang has told nobody */
        while (waitpid(-1, NULL, WNOHANG) > 0)
            start_worker();
    }
}
