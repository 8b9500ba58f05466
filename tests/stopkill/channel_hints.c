/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: a receiver that takes the hint of a level back, and is stopped or killed at any instruction of that receive, hides the
 * level from nobody: what was sent at it comes before what waits below, while the receiver stands, when it has gone on or is
 * dead, and when it has been cleared away. So does what was sent while it stood at an earlier instruction. The message that it
 * was about to receive comes once, flagged if it had taken it and died. (NORIA_LONG=1: each later instruction.) */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

#include "inside.h"

enum { LOW, HIGH, LEVELS };
/* A hint goes after so many vain looks in a row (channel/priority_kind.c): the last one is the victim's. */
enum { VAIN_LOOKS = 64 };
enum { CAPACITY = 8, POSITIONS_MAX = 5000, FEWER = 4 /* one in so many */, COMPLAINTS = 20 };
enum { NOTHING, FIRST = 10, LEFT = 15, SECOND = 20, VICTIMS_OWN = 1000 }; /* what is sent */

/* What is done to the victim where it stands; the latter two are led on from there first. */
enum fate { GOES_ON, DIES, GOES_ON_LATER, DIES_LATER, FATES };
static const char *const fates[FATES] = {"stopped", "killed", "stopped later", "killed later"};

static struct report {
    int over;      /* the call has returned */
    uint64_t got;  /* the message, or NOTHING */
    long ordinary; /* instructions of a receive that takes nothing back */
} *report;
static char address[64];
static noria_channel *channel, *victims_own;
static enum fate fate;
static pid_t victim;
static int position, more, bad;

static uint64_t receive(noria_channel *from, uint32_t *flags)
{
    struct noria_info info = {0};
    uint64_t number;
    bool got = noria_recv(from, &number, sizeof(number), 0, &info) == (ssize_t)sizeof(number);

    *flags = info.flags;
    return got ? number : NOTHING;
}

static bool put(noria_channel *to, unsigned level, uint64_t number)
{
    return noria_send_prio(to, &number, sizeof(number), level, 0) == 0;
}

static void require(bool holds, const char *claim)
{
    if (!holds && bad++ < COMPLAINTS)
        printf("BAD %s, instruction %d, then %d: %s\n", fates[fate], position, more, claim);
}

static void expect(uint64_t number, const char *claim)
{
    uint32_t flags;

    require(receive(channel, &flags) == number && flags == 0, claim);
}

/* One below, and one above, which must come first. */
static void send_at_both_levels(uint64_t low, const char *claim)
{
    require(put(channel, LOW, low) && put(channel, HIGH, low + 1), "others send");
    expect(low + 1, claim);
}

/* ---------------------------------------------------------------------------------------------- the victim */

static void receive_of_victim(void *unused)
{
    uint32_t flags;

    (void)unused;
    report->got = receive(victims_own, &flags);
}

static void pass_one(unsigned level)
{
    uint32_t flags;

    if (!put(victims_own, level, VICTIMS_OWN) || receive(victims_own, &flags) != VICTIMS_OWN)
        _exit(1);
}

/* Three at the high level, so that neither the receive under test nor the one before looks at all levels whatever the hints
 * say: one in 64 does. */
static _Noreturn void be_victim(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (noria_open(&victims_own, address, NORIA_SEND | NORIA_RECV, NULL) != 0)
        _exit(1);
    for (int i = 0; i < 3; i++)
        pass_one(HIGH);
    for (int looks = 1; looks < VAIN_LOOKS - 1; looks++)
        pass_one(LOW);
    put(victims_own, LOW, VICTIMS_OWN);
    report->ordinary = call_length(receive_of_victim, NULL);
    report->got = NOTHING;
    put(victims_own, LOW, VICTIMS_OWN);
    call_stopped_inside(receive_of_victim, NULL, position, more);
    report->over = 1;
    raise(SIGSTOP);
    _exit(0);
}

/* ------------------------------------------------------------------------------------------------ judgement */

static struct noria_stat stat_of_channel(void)
{
    struct noria_stat stat = {0};

    noria_stat(channel, &stat);
    return stat;
}

/* What is left: of the low ones each, in their order, and the victim's own so many times. */
static void drain(int own, bool redelivered)
{
    uint64_t number, next = FIRST;
    uint32_t flags;

    while ((number = receive(channel, &flags)) != NOTHING) {
        if (number == VICTIMS_OWN) {
            require(((flags & NORIA_REDELIVERED) != 0) == redelivered, "its own is flagged if it had been taken");
            own--;
            continue;
        }
        require(number == next && flags == 0, "those below come in order");
        next += SECOND - FIRST;
    }
    require(own == 0, "its own message comes once");
    require(next == SECOND + SECOND - FIRST, "those below come");
}

static void go_on(void)
{
    kill(victim, SIGCONT);
    require(wait_until_it_stops(victim) && report->over == 1, "it goes on");
    require(report->got == VICTIMS_OWN || report->got == LEFT, "it gets a message");
    if (report->got != LEFT)
        expect(LEFT, "what was sent above while it stood comes first");
    send_at_both_levels(SECOND, "above comes first when it has gone on");
    drain(report->got != VICTIMS_OWN, false);
}

static void end_victim(void)
{
    if (victim > 0) {
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
    }
    victim = 0;
}

static void clean_up(void)
{
    noria_channel *newcomer;

    require(noria_open(&newcomer, address, 0, NULL) == 0 && noria_close(newcomer) == 0, "others clean up");
}

/* What is left of its own. 0: it has let it go. */
static int count_own(const struct noria_stat *stat)
{
    int own = (int)stat->messages + (int)stat->held;

    require(own == 0 || own == 1, "its own is there, once, or gone");
    return own;
}

static void judge(void)
{
    struct noria_stat stat = stat_of_channel();
    int own = count_own(&stat);

    send_at_both_levels(FIRST, "above comes first while it stands");
    require(put(channel, HIGH, LEFT), "others send");
    if (fate == GOES_ON) {
        go_on();
        return;
    }
    end_victim();
    expect(LEFT, "above comes first when it is dead");
    clean_up();
    send_at_both_levels(SECOND, "above comes first when it is cleared away");
    drain(own, stat.held != 0);
}

/* It stands at `position`. False: and has not taken its own, or does not stop a second time. */
static bool judge_later(void)
{
    struct noria_stat stat = stat_of_channel();

    if (stat.held == 0 || !put(channel, LOW, FIRST) || !put(channel, HIGH, FIRST + 1))
        return false;
    kill(victim, SIGCONT);
    if (!wait_until_it_stops(victim) || report->over != 0)
        return false;
    if (fate == GOES_ON_LATER) {
        expect(FIRST + 1, "above, sent before, comes first while it stands again");
        require(put(channel, HIGH, LEFT), "others send");
        go_on();
        return true;
    }
    stat = stat_of_channel();
    end_victim();
    clean_up();
    expect(FIRST + 1, "above, sent before, comes first when it is cleared away");
    send_at_both_levels(SECOND, "above comes first when it is cleared away");
    drain((int)stat.held, stat.held != 0);
    return true;
}

/* False: the receive has fewer instructions, or cannot be judged there. */
static bool try_position(void)
{
    struct noria_options options;
    bool inside;

    noria_options_init(&options);
    options.priorities = LEVELS;
    options.capacity = CAPACITY;
    options.max_message = sizeof(uint64_t);
    options.max_participants = 4;
    noria_unlink(address);
    report->over = 0;
    if (noria_open(&channel, address, NORIA_SEND | NORIA_RECV | NORIA_CREATE | NORIA_EXCL, &options) != 0)
        exit(2);
    require(put(channel, LOW, FIRST), "others send");
    expect(FIRST, "others receive"); /* the first of a handle looks at all levels */
    victim = fork();
    if (victim == 0)
        be_victim();
    inside = wait_until_it_stops(victim) && report->over == 0;
    if (inside && more == 0)
        judge();
    else if (inside)
        inside = judge_later();
    end_victim();
    noria_close(channel);
    return inside;
}

/* Stops it where it holds its own, and stops or kills it later. How many pairs of places there were. */
static int try_pairs(int instructions)
{
    const char *long_form = getenv("NORIA_LONG");
    int step = long_form != NULL && strcmp(long_form, "1") == 0 ? 1 : FEWER, pairs = 0;

    for (position = 1; position < instructions; position += FEWER * step)
        for (more = 1; try_position(); more += step)
            pairs++;
    return pairs;
}

int main(void)
{
    int instructions = 0, pairs = 0;

    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 1;
    snprintf(address, sizeof(address), "shm:/noria-stopkill-hints-%d", (int)getpid());
    for (fate = GOES_ON; fate <= DIES; fate++)
        for (position = 1; position < POSITIONS_MAX && try_position(); position++)
            instructions = position;
    for (fate = GOES_ON_LATER; fate <= DIES_LATER; fate++)
        pairs += try_pairs(instructions);
    noria_unlink(address);
    printf("%d instructions of a receive that takes a hint back (%ld of one that does not), %d pairs, %d bad\n", instructions,
           report->ordinary, pairs, bad);
    /* Or it takes none back. */
    return bad != 0 || instructions <= report->ordinary || pairs == 0;
}
