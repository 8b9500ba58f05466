/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a sender that overwrites the oldest message does so only while the channel is full. Stopped at any instruction of a
 * send to a full channel that is emptied meanwhile, it drops no message that came after: there is room by then. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

#include "inside.h"

enum { CAPACITY = 8, LATER = CAPACITY - 1, VICTIMS_OWN = 1000, POSITIONS_MAX = 5000, COMPLAINTS = 20 };

static struct report {
    int over;   /* the call has returned */
    int result;
} *report;
static char address[64];
static noria_channel *channel, *victims_own;
static int position, bad;

/* What was received: of what filled the channel, of what came later, of the victim. */
static struct counts {
    int first, later, victims;
} counts;

static int put(noria_channel *to, uint64_t number)
{
    return noria_send(to, &number, sizeof(number), 0);
}

static void receive_all(void)
{
    uint64_t number;

    while (noria_recv(channel, &number, sizeof(number), 0, NULL) == (ssize_t)sizeof(number)) {
        counts.first += number < CAPACITY;
        counts.later += number >= CAPACITY && number < CAPACITY + LATER;
        counts.victims += number == VICTIMS_OWN;
    }
}

static void send_of_victim(void *unused)
{
    (void)unused;
    report->result = put(victims_own, VICTIMS_OWN);
}

/* The first call of a thread has things to find out. */
static _Noreturn void be_victim(void)
{
    struct noria_stat stat;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (noria_open(&victims_own, address, NORIA_SEND, NULL) != 0 || noria_stat(victims_own, &stat) != 0)
        _exit(1);
    call_stopped_inside(send_of_victim, NULL, position, 0);
    report->over = 1;
    raise(SIGSTOP);
    _exit(0);
}

static void require(bool holds, const char *claim)
{
    if (!holds && bad++ < COMPLAINTS)
        printf("BAD instruction %d: %s: received %d of the first %d, %d of %d later ones, %d of the victim's\n", position,
               claim, counts.first, CAPACITY, counts.later, LATER, counts.victims);
}

static uint64_t count_lost(void)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    return stat.lost;
}

/* The victim has been stopped inside of its call. */
static void judge(pid_t pid)
{
    receive_all();
    for (uint64_t i = 0; i < LATER; i++)
        require(put(channel, CAPACITY + i) == 0, "others send");
    kill(pid, SIGCONT);
    require(wait_until_it_stops(pid) && report->over == 1 && report->result == 0, "it goes on and has sent");
    receive_all();
    require(counts.victims == 1, "its message comes, once");
    require(counts.later == LATER, "what came when there was room is not lost");
    require(counts.first + (int)count_lost() == CAPACITY, "what is lost is counted");
}

static bool try_position(void)
{
    struct noria_options options;
    bool inside;
    pid_t pid;

    noria_options_init(&options);
    options.full = NORIA_FULL_OVERWRITE_OLDEST;
    options.capacity = CAPACITY;
    options.max_message = sizeof(uint64_t);
    options.max_participants = 4;
    noria_unlink(address);
    counts = (struct counts){0, 0, 0};
    *report = (struct report){0, -EINPROGRESS};
    if (noria_open(&channel, address, NORIA_SEND | NORIA_RECV | NORIA_CREATE | NORIA_EXCL, &options) != 0)
        exit(2);
    for (uint64_t i = 0; i < CAPACITY; i++)
        require(put(channel, i) == 0, "filling the channel");
    pid = fork();
    if (pid == 0)
        be_victim();
    inside = wait_until_it_stops(pid) && report->over == 0;
    if (inside)
        judge(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    noria_close(channel);
    return inside;
}

int main(void)
{
    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 1;
    snprintf(address, sizeof(address), "shm:/noria-stopkill-room-%d", (int)getpid());
    for (position = 1; position < POSITIONS_MAX && try_position(); position++)
        continue;
    noria_unlink(address);
    printf("%d instructions of a send that overwrites, %d bad\n", position, bad);
    return bad != 0 || position == 1;
}
