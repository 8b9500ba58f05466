/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One process receives from a hundred channels with epoll; five senders in other processes serve twenty each.
 *
 * The contract of noria_fd: receive until there is nothing more, which arms the descriptor; wait; receive again.
 * What came before the arming the receive finds, what comes after it makes the descriptor readable.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <noria/noria.h>

enum { CHANNELS = 100, SENDERS = 5, EACH = 1000 };

/* A sender that is killed between its message and its ring leaves nobody told: so nobody waits for ever. */
enum { LOOK_MS = 100 };

static noria_channel *channels[CHANNELS];
static int left = CHANNELS;
static long received;

static void check(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "epoll: %s\n", noria_detail());
        exit(1);
    }
}

/* Sends to each channel of its share in turn. */
static void send_all(int sender)
{
    noria_channel *mine[CHANNELS];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = sender; i < CHANNELS; i += SENDERS)
        check(noria_reopen(&mine[i], channels[i], NORIA_SEND));
    for (int n = 0; n < EACH; n++)
        for (int i = sender; i < CHANNELS; i += SENDERS)
            check(noria_send(mine[i], &n, sizeof(n), -1));
    for (int i = sender; i < CHANNELS; i += SENDERS)
        check(noria_close(mine[i]));
}

/* Takes all there is, and leaves at the end of the stream. */
static void serve(int set, noria_channel **channel)
{
    ssize_t rc;
    int n;

    while ((rc = noria_recv(*channel, &n, sizeof(n), 0, NULL)) >= 0)
        received++;
    if (rc == -EAGAIN)
        return;
    check(rc == -EPIPE ? 0 : (int)rc);
    /* Closing alone does not take it out of the set: other processes have the same file open. */
    epoll_ctl(set, EPOLL_CTL_DEL, noria_fd(*channel, NORIA_RECV), NULL);
    check(noria_close(*channel));
    *channel = NULL;
    left--;
}

int main(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    for (int i = 0; i < CHANNELS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &channels[i]};
        check(noria_open(&channels[i], "anon:", NORIA_RECV, NULL));
        check(epoll_ctl(set, EPOLL_CTL_ADD, noria_fd(channels[i], NORIA_RECV), &event));
    }
    for (int sender = 0; sender < SENDERS; sender++)
        if (fork() == 0) {
            send_all(sender);
            return 0;
        }
    while (left > 0) {
        struct epoll_event events[CHANNELS];
        int ready = epoll_wait(set, events, CHANNELS, LOOK_MS);
        for (int i = 0; i < ready; i++)
            serve(set, events[i].data.ptr);
        for (int i = 0; i < CHANNELS && ready == 0; i++)
            if (channels[i] != NULL)
                serve(set, &channels[i]);
    }
    printf("%ld messages from %d channels\n", received, CHANNELS);
    return received == (long)CHANNELS * EACH ? 0 : 1;
}
