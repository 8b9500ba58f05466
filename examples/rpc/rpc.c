/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bank: clients that deposit, which must not be done twice, and ask for sums, which may; servers that die at the worst
 * moments, stop, or are not there. Every call has its own answer or a clear result, and nothing is done twice.
 *
 *     examples/rpc/rpc          the calls are in rpc.h
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc.h"

enum { SERVERS = 3, CLIENTS = 4, CALLS = 500, ALL = CLIENTS * CALLS, KILLS = 20, TRICK_EACH = 50 };
#define SECOND INT64_C(1000000000)

enum trick { NONE, DIE_BEFORE, DIE_AFTER, STOP };

struct question {
    int number; /* of all calls there are; even ones deposit */
    enum trick trick;
};

/* What really happened, for the check: no part of the service. */
static struct ledger {
    atomic_int tried[ALL], done[ALL], unknown;
} *ledger;
static char address[64];

static void require(int is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "rpc: %s (%s)\n", what, noria_detail());
    exit(1); /* children die with their parent */
}

static int deposits(int number)
{
    return number % 2 == 0;
}

static ssize_t bank(void *context, const void *data, size_t len, void *out)
{
    struct question question;
    int64_t sum;
    int is_first;

    (void)context;
    if (len != sizeof question)
        return -EINVAL;
    memcpy(&question, data, len);
    if (question.number < 0 || question.number >= ALL)
        return -ERANGE;
    is_first = atomic_fetch_add(&ledger->tried[question.number], 1) == 0;
    if (question.trick == DIE_BEFORE && is_first)
        raise(SIGKILL);
    if (question.trick == STOP && is_first)
        raise(SIGSTOP);
    atomic_fetch_add(&ledger->done[question.number], 1);
    if (question.trick == DIE_AFTER && is_first)
        raise(SIGKILL);
    sum = INT64_C(7) * question.number;
    memcpy(out, &sum, sizeof sum);
    return sizeof sum;
}

static pid_t start(void)
{
    pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

static pid_t start_server(void)
{
    pid_t child = start();
    if (child == 0)
        _exit(rpc_serve(address, bank, NULL) != 0);
    return child;
}

/* 0: its answer came. */
static int call(struct rpc_client *client, int number, enum trick trick, int64_t timeout_ns)
{
    struct question question = {number, trick};
    int64_t sum = 0;
    ssize_t rc = rpc_call(client, &question, sizeof question, &sum, sizeof sum, !deposits(number), timeout_ns);

    require(rc < 0 || (rc == sizeof sum && sum == INT64_C(7) * number), "a wrong answer");
    return rc < 0 ? (int)rc : 0;
}

/* In each fifty calls a server dies over a deposit and one over a sum, before or after it is done. */
static enum trick trick_of(int number)
{
    int place = number % TRICK_EACH;
    return place != 8 && place != 9 ? NONE : number / TRICK_EACH % 2 == 0 ? DIE_BEFORE : DIE_AFTER;
}

static int be_client(int first)
{
    struct rpc_client client;

    require(rpc_connect(&client, address) == 0, "connect");
    for (int number = first; number < ALL; number += CLIENTS) {
        int rc = call(&client, number, trick_of(number), 60 * SECOND);
        require(rc == 0 || (rc == -EOWNERDEAD && deposits(number)), "a call without a result");
        require(rc != 0 || trick_of(number) == NONE || !deposits(number), "a dead server's deposit has a result");
        require(rc != 0 || atomic_load(&ledger->done[number]) > 0, "an answer to what was not done");
        require(!deposits(number) || atomic_load(&ledger->tried[number]) <= 1, "a deposit was done twice");
        atomic_fetch_add(&ledger->unknown, rc != 0);
    }
    rpc_disconnect(&client);
    return 0;
}

static int is_of(const pid_t *crew, int n, pid_t child)
{
    for (int i = 0; i < n; i++)
        if (crew[i] == child)
            return i;
    return -1;
}

/* Servers that have died are replaced, and one more is killed each time, up to KILLS, until all clients have finished. */
static int serve_clients(pid_t *servers)
{
    int left = CLIENTS, deaths = 0, status;
    pid_t clients[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        if ((clients[i] = start()) == 0)
            _exit(be_client(i));
    while (left > 0) {
        pid_t child = wait(&status);
        int i = is_of(servers, SERVERS, child);
        if (i < 0) {
            require(is_of(clients, CLIENTS, child) >= 0 && status == 0, "a client has failed");
            left--;
            continue;
        }
        require(WIFSIGNALED(status), "a server has failed");
        servers[i] = start_server();
        if (++deaths <= KILLS)
            kill(servers[(i + 1) % SERVERS], SIGKILL);
    }
    return deaths;
}

/* With one server. It stops over a call, which times out; its late answer is in the way of the next call, and is not taken
 * for that one's. Then it is dead, and what was asked before the next one came is not done when nobody waits for it any more. */
static void time_out(pid_t server)
{
    struct noria_stat stat = {.size = sizeof stat};
    struct rpc_client client;

    require(rpc_connect(&client, address) == 0, "connect");
    require(call(&client, 1, NONE, 60 * SECOND) == 0, "a call");
    memset(ledger, 0, sizeof *ledger);
    do /* again, if it came to the question too late to answer it */
        require(call(&client, 2, STOP, SECOND / 5) == -ETIMEDOUT, "a stopped server answers");
    while (waitpid(server, NULL, WUNTRACED | WNOHANG) != server);
    kill(server, SIGCONT);
    while (stat.messages < 1)
        require(noria_stat(client.answers, &stat) == 0, "stat");
    require(call(&client, 3, NONE, 60 * SECOND) == 0, "the call after one that timed out");
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    require(call(&client, 4, NONE, SECOND / 20) == -ETIMEDOUT, "an answer without a server");
    server = start_server();
    require(call(&client, 5, NONE, 60 * SECOND) == 0, "the next server");
    require(atomic_load(&ledger->done[4]) == 0, "a call is done after its time");
    rpc_disconnect(&client);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

int main(void)
{
    pid_t servers[SERVERS];
    int deaths, unknown;

    snprintf(address, sizeof address, "shm:/bank-%d", (int)getpid());
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(ledger != MAP_FAILED, "mmap");
    for (int i = 0; i < SERVERS; i++)
        servers[i] = start_server();
    deaths = serve_clients(servers);
    unknown = atomic_load(&ledger->unknown);
    for (int i = 1; i < SERVERS; i++) {
        kill(servers[i], SIGKILL);
        waitpid(servers[i], NULL, 0);
    }
    time_out(servers[0]);
    printf("%d calls, %d dead servers: of %d deposits it is said that they may have been done, all else has its answer\n",
           ALL, deaths, unknown);
    return noria_unlink(address) != 0;
}
