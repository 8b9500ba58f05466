/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Real nats-servers with JetStream on the loopback: one, or a cluster of three, each with a folder of its own below one
 * that goes with them. Included by one file per program.
 */
#ifndef NORIA_NATS_SERVER_H
#define NORIA_NATS_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NATS_NODES = 3, NATS_SKIPPED = 77, NATS_STARTS = 5 };

static struct nats_node {
    pid_t pid;
    unsigned port, route;
} nats_nodes[NATS_NODES];
static char nats_folder[64];
static const char *nats_extra = ""; /* lines of every node's configuration */
static unsigned nats_count;

/* A port that nobody has just now, and nobody else gets as long as *fd is open. */
static inline unsigned nats_hold_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || bind(*fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(*fd, (struct sockaddr *)&address, &size) != 0) {
        perror("no free port");
        exit(1);
    }
    return ntohs(address.sin_port);
}

static inline unsigned nats_free_port(void)
{
    int fd;
    unsigned port = nats_hold_port(&fd);

    close(fd);
    return port;
}

/* Two for each node. The servers take them a little later; one that finds somebody was faster ends. */
static inline void nats_pick_ports(void)
{
    int held[2 * NATS_NODES];

    for (unsigned i = 0; i < nats_count; i++)
        nats_nodes[i] = (struct nats_node){.port = nats_hold_port(&held[2 * i]),
                                           .route = nats_hold_port(&held[2 * i + 1])};
    for (unsigned i = 0; i < 2 * nats_count; i++)
        close(held[i]);
}

static inline void nats_nap_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

static inline void nats_configure(unsigned node)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%u.conf", nats_folder, node);
    file = fopen(path, "we");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    fprintf(file, "listen: 127.0.0.1:%u\nserver_name: n%u\njetstream { store_dir: \"%s/%u\" }\n", nats_nodes[node].port, node,
            nats_folder, node);
    if (nats_count > 1) {
        fprintf(file, "cluster { name: c, listen: 127.0.0.1:%u, routes: [", nats_nodes[node].route);
        for (unsigned i = 0; i < nats_count; i++)
            fprintf(file, "%s\"nats://127.0.0.1:%u\"", i == 0 ? "" : ", ", nats_nodes[i].route);
        fprintf(file, "] }\n");
    }
    fprintf(file, "%s\n", nats_extra);
    fclose(file);
}

static inline void nats_run(unsigned node)
{
    char path[128], log[128];

    snprintf(path, sizeof(path), "%s/%u.conf", nats_folder, node);
    snprintf(log, sizeof(log), "%s/%u.log", nats_folder, node);
    fflush(NULL);
    nats_nodes[node].pid = fork();
    if (nats_nodes[node].pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fd, 1);
        dup2(fd, 2);
        for (int i = 3; i < 256; i++)
            close(i);
        execlp("nats-server", "nats-server", "-c", path, (char *)NULL);
        execl("/usr/sbin/nats-server", "nats-server", "-c", path, (char *)NULL);
        _exit(NATS_SKIPPED);
    }
}

/* A connection to it; -1: it does not answer. */
static inline int nats_connect(unsigned node)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port = htons((uint16_t)nats_nodes[node].port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static inline bool nats_listens(unsigned node)
{
    int fd = nats_connect(node);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static inline void nats_stop(void)
{
    char command[96];

    for (unsigned i = 0; i < nats_count; i++)
        if (nats_nodes[i].pid > 0) {
            kill(nats_nodes[i].pid, SIGKILL);
            waitpid(nats_nodes[i].pid, NULL, 0);
            nats_nodes[i].pid = 0;
        }
    snprintf(command, sizeof(command), "rm -rf '%s'", nats_folder);
    if (nats_folder[0] != '\0' && system(command) != 0)
        fprintf(stderr, "%s is left\n", nats_folder);
    nats_folder[0] = '\0';
}

/* Says why a node has ended, and stops the others. Ends this program, skipped, if there is no nats-server. */
static inline void nats_explain(unsigned node, int status)
{
    char command[160];

    nats_nodes[node].pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NATS_SKIPPED) {
        fprintf(stderr, "there is no nats-server here\n");
        nats_stop();
        exit(NATS_SKIPPED);
    }
    fprintf(stderr, "nats-server ended with status %x; its log:\n", (unsigned)status);
    snprintf(command, sizeof(command), "cat '%s/%u.log' >&2", nats_folder, node);
    if (system(command) != 0)
        fprintf(stderr, "cannot be read\n");
    nats_stop();
}

/* Whether it answers. False: it has ended, and so have the others. */
static inline bool nats_await(unsigned node)
{
    int status;

    while (!nats_listens(node)) {
        if (waitpid(nats_nodes[node].pid, &status, WNOHANG) == nats_nodes[node].pid) {
            nats_explain(node, status);
            return false;
        }
        nats_nap_ms(10);
    }
    return true;
}

static inline bool nats_try_to_start(void)
{
    char template[] = "/tmp/noria-nats-XXXXXX";

    if (mkdtemp(template) == NULL) {
        perror("mkdtemp");
        exit(1);
    }
    snprintf(nats_folder, sizeof(nats_folder), "%s", template);
    nats_pick_ports();
    for (unsigned i = 0; i < nats_count; i++)
        nats_configure(i);
    for (unsigned i = 0; i < nats_count; i++)
        nats_run(i);
    for (unsigned i = 0; i < nats_count; i++)
        if (!nats_await(i))
            return false;
    return true;
}

/* Ends this program, skipped, if there is no nats-server. */
static inline void nats_start(unsigned nodes)
{
    nats_count = nodes;
    for (int i = 0; i < NATS_STARTS; i++)
        if (nats_try_to_start())
            return;
    exit(1);
}

static inline void nats_kill(unsigned node)
{
    kill(nats_nodes[node].pid, SIGKILL);
    waitpid(nats_nodes[node].pid, NULL, 0);
    nats_nodes[node].pid = 0;
}

static inline void nats_restart(unsigned node)
{
    nats_run(node);
    if (!nats_await(node))
        exit(1);
}

/* Of all nodes, and a subject with options. */
static inline const char *nats_address(const char *subject)
{
    static char address[256];
    int length = snprintf(address, sizeof(address), "nats://");

    for (unsigned i = 0; i < nats_count; i++)
        length += snprintf(address + length, sizeof(address) - (size_t)length, "%s127.0.0.1:%u", i == 0 ? "" : ",",
                           nats_nodes[i].port);
    snprintf(address + length, sizeof(address) - (size_t)length, "/%s", subject);
    return address;
}

#endif
