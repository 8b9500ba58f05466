/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Zero, bounded and unbounded buffering: how far a sender gets while nobody receives. The calls are the same; who
 * creates the channel decides.
 *
 *     examples/buffering
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

enum { ENOUGH = 100000 };

static void check(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "buffering: %s\n", noria_detail());
        exit(1);
    }
}

/* Not blocking: timeout 0 tries once, and -EAGAIN says that there is no room. */
static int send_until_full(noria_channel *channel)
{
    int n = 0, rc = 0;

    while (n < ENOUGH && (rc = noria_send(channel, &n, sizeof n, 0)) == 0)
        n++;
    check(rc == -EAGAIN ? 0 : rc);
    return n;
}

/* Blocking: timeout -1 waits for the other side as long as it takes. A rendezvous is over when both have met. */
static int receive_in_order(const noria_channel *inherited, int n)
{
    noria_channel *channel;
    int number;

    check(noria_reopen(&channel, inherited, NORIA_RECV));
    for (int i = 0; i < n; i++) {
        check((int)noria_recv(channel, &number, sizeof number, -1, NULL));
        if (number != i)
            return 1;
    }
    noria_close(channel);
    return 0;
}

static int show(const char *name, uint64_t capacity, uint64_t max_bytes)
{
    struct noria_options options;
    noria_channel *channel;
    int n, status;
    pid_t child;

    noria_options_init(&options);
    options.capacity = capacity;
    options.max_bytes = max_bytes;
    options.max_message = sizeof n;
    check(noria_open(&channel, "anon:", NORIA_SEND, &options));
    n = send_until_full(channel);
    printf("%s: the sender is %d ahead%s\n", name, n, n == ENOUGH ? ", and could go on" : "");
    fflush(stdout); /* or the child prints it once more */
    child = fork();
    if (child == 0)
        exit(receive_in_order(channel, n + 3));
    for (int i = n; i < n + 3; i++)
        check(noria_send(channel, &i, sizeof i, -1));
    noria_close(channel);
    return waitpid(child, &status, 0) != child || status != 0;
}

int main(void)
{
    return show("zero", 0, 0) | show("bounded", 8, 0) | show("unbounded", 8, UINT64_C(256) << 20);
}
