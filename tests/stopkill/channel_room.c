/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a sender that overwrites the oldest message does so only while the channel is full. Stopped at any instruction of a
 * send to a full channel that is emptied meanwhile, it drops no message that came after: there is room by then. Killed at any
 * instruction, it leaves each message received or counted as lost, and the whole capacity. */
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
static bool dies;
static pid_t victim;
static int position, bad;

/* What was received: of what filled the channel, of what came later, of the victim's. */
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
        counts.later += number >= CAPACITY && number < 2 * CAPACITY;
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
        printf("BAD %s at instruction %d: %s: received %d of the first %d, %d later ones, %d of the victim's\n",
               dies ? "killed" : "stopped", position, claim, counts.first, CAPACITY, counts.later, counts.victims);
}

static uint64_t count_lost(void)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    return stat.lost;
}

static void end_victim(void)
{
    if (victim > 0) {
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
    }
    victim = 0;
}

/* To the emptied channel. */
static void send_later_ones(int n)
{
    for (int i = 0; i < n; i++)
        require(put(channel, CAPACITY + (uint64_t)i) == 0, "others send");
}

/* The victim has been stopped inside of its call. */
static void judge_stopped(void)
{
    receive_all();
    send_later_ones(LATER);
    kill(victim, SIGCONT);
    require(wait_until_it_stops(victim) && report->over == 1 && report->result == 0, "it goes on and has sent");
    receive_all();
    require(counts.victims == 1, "its message comes, once");
    require(counts.later == LATER, "what came when there was room is not lost");
    require(counts.first + (int)count_lost() == CAPACITY, "what is lost is counted");
}

static void judge_killed(void)
{
    noria_channel *newcomer;
    uint64_t lost;

    end_victim();
    require(noria_open(&newcomer, address, 0, NULL) == 0 && noria_close(newcomer) == 0, "others clean up");
    lost = count_lost();
    receive_all();
    require(counts.first + (int)lost == CAPACITY, "what is lost is counted");
    require(counts.victims <= 1, "its message comes once, or not");
    send_later_ones(CAPACITY);
    require(count_lost() == lost, "the whole capacity is there");
    receive_all();
    require(counts.later == CAPACITY, "later ones come");
}

static bool try_position(void)
{
    struct noria_options options;
    bool inside;

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
    victim = fork();
    if (victim == 0)
        be_victim();
    inside = wait_until_it_stops(victim) && report->over == 0;
    if (inside && dies)
        judge_killed();
    else if (inside)
        judge_stopped();
    end_victim();
    noria_close(channel);
    return inside;
}

/* How many instructions the send has. */
static int try_all(bool victim_dies)
{
    dies = victim_dies;
    for (position = 1; position < POSITIONS_MAX && try_position(); position++)
        continue;
    return position - 1;
}

int main(void)
{
    int stopped, killed;

    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 1;
    snprintf(address, sizeof(address), "shm:/noria-stopkill-room-%d", (int)getpid());
    stopped = try_all(false);
    killed = try_all(true);
    noria_unlink(address);
    printf("a send that overwrites stopped at %d instructions, killed at %d, %d bad\n", stopped, killed, bad);
    return bad != 0 || stopped == 0 || killed == 0;
}
