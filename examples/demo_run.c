/* SPDX-License-Identifier: BSD-2-Clause */
#include "demo.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STALL_SECONDS = 30, LONGEST_PAUSE_NS = 300 * 1000 };
static const int64_t glance_ns =
    50 * 1000 * 1000; /* how long we wait without looking at signals and children */

volatile sig_atomic_t stop_signal;

struct foreman {
    struct pass *pass;
    noria_channel *channels[CHANNELS]; /* sends orders, observes the data, receives what is done */
    pid_t crew[CREW_MAX];              /* producers, then consumers; 0: not there */
    bool *written;
    pid_t stopped; /* 0: nobody */
    uint64_t ordered, written_count, next_kill;
};

static int crew_size(const struct pass *pass)
{
    return pass->producers + pass->consumers;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "demo: %s: %s\n", what, why);
    return 1;
}

/* ----------------------------------------------------------------------------------------------- the crew */

static int start(struct foreman *foreman, int i)
{
    const struct pass *pass = foreman->pass;
    pid_t child = fork();
    if (child < 0)
        return fail("fork", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGINT, SIG_IGN); /* Ctrl-C reaches all; the foreman decides */
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        _exit(i < pass->producers ? produce(pass) : consume(pass));
    }
    foreman->crew[i] = child;
    return 0;
}

/* Somebody else than we ended it. */
static int fail_member(const struct foreman *foreman, int i, int status)
{
    fprintf(stderr, "demo: %s %d ended by itself: %s %d\n",
            i < foreman->pass->producers ? "producer" : "consumer", i,
            WIFSIGNALED(status) ? "signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return 1;
}

static int look_after_crew(struct foreman *foreman)
{
    for (int i = 0; i < crew_size(foreman->pass); i++) {
        int status;
        if (waitpid(foreman->crew[i], &status, WNOHANG) == foreman->crew[i]) {
            foreman->crew[i] = 0;
            return fail_member(foreman, i, status);
        }
    }
    return 0;
}

/* One of the crew stands still until the next kill, or until the others have nothing left to do. */
static void stop_one(struct foreman *foreman)
{
    if (foreman->pass->producers == 1)
        return; /* nobody else could do the work */
    foreman->stopped = foreman->crew[random() % crew_size(foreman->pass)];
    kill(foreman->stopped, SIGSTOP);
    foreman->pass->stops++;
}

static void go_on(struct foreman *foreman)
{
    if (foreman->stopped != 0)
        kill(foreman->stopped, SIGCONT);
    foreman->stopped = 0;
}

/* The moment is left to chance, so that every instruction of theirs may be the last. */
static int kill_one(struct foreman *foreman)
{
    struct pass *pass = foreman->pass;
    int i = (int)(random() % crew_size(pass)), status;
    struct timespec pause = {.tv_nsec = random() % LONGEST_PAUSE_NS};
    nanosleep(&pause, NULL);
    kill(foreman->crew[i], SIGKILL);
    if (waitpid(foreman->crew[i], &status, 0) != foreman->crew[i])
        return fail("waitpid", strerror(errno));
    foreman->crew[i] = 0;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        return fail_member(foreman, i, status);
    if (i < pass->producers)
        pass->producers_killed++;
    else
        pass->consumers_killed++;
    return start(foreman, i);
}

static int kill_if_due(struct foreman *foreman)
{
    const struct pass *pass = foreman->pass;
    if (pass->kills_wanted == 0 || foreman->written_count < foreman->next_kill)
        return 0;
    uint64_t mean = pass->chunks / pass->kills_wanted; /* chunks between two kills */
    foreman->next_kill += 1 + (uint64_t)random() % (2 * mean + 1);
    go_on(foreman);
    int status = kill_one(foreman);
    if (status == 0)
        stop_one(foreman);
    return status;
}

static void dismiss(struct foreman *foreman)
{
    for (int i = 0; i < crew_size(foreman->pass); i++) {
        if (foreman->crew[i] > 0) {
            kill(foreman->crew[i], SIGKILL);
            waitpid(foreman->crew[i], NULL, 0);
        }
    }
}

/* ----------------------------------------------------------------------------------------------- the work */

static int give_orders(struct foreman *foreman)
{
    while (foreman->ordered < foreman->pass->chunks) {
        int rc = noria_send(foreman->channels[ORDERS], &foreman->ordered, sizeof foreman->ordered, 0);
        if (rc == -EAGAIN)
            return 0;
        if (rc < 0)
            return fail("orders", noria_detail());
        foreman->ordered++;
    }
    return 0;
}

static int note_done(struct foreman *foreman, uint64_t number)
{
    struct pass *pass = foreman->pass;
    if (number >= foreman->ordered)
        return fail("done", "a chunk that was not ordered");
    pass->reports++;
    pass->repeats += foreman->written[number];
    foreman->written_count += !foreman->written[number];
    foreman->written[number] = true;
    return 0;
}

/* Takes all reports there are, and waits a little for the first. */
static int hear_reports(struct foreman *foreman)
{
    int64_t timeout_ns = glance_ns;
    for (;;) {
        uint64_t number;
        ssize_t len = noria_recv(foreman->channels[DONE], &number, sizeof number, timeout_ns, NULL);
        if (len == -ETIMEDOUT)
            go_on(foreman);
        if (len == -ETIMEDOUT ||
            len == -EPIPE) /* nobody there: the one we killed has a successor on the way */
            return look_after_crew(foreman);
        if (len == -EAGAIN)
            return 0;
        if (len < 0)
            return fail("done", noria_detail());
        if (note_done(foreman, number) != 0)
            return 1;
        alarm(STALL_SECONDS);
        timeout_ns = 0;
    }
}

static int work(struct foreman *foreman)
{
    while (foreman->written_count < foreman->pass->chunks) {
        if (stop_signal != 0)
            return fail("stopped",
                        stop_signal == SIGALRM ? "nothing got on for 30 seconds" : strsignal(stop_signal));
        if (give_orders(foreman) != 0 || hear_reports(foreman) != 0 || kill_if_due(foreman) != 0)
            return 1;
    }
    return 0;
}

/* One order to go home for each producer; he passes it on to a consumer. Nobody is killed any more. */
static int send_home(struct foreman *foreman)
{
    const struct pass *pass = foreman->pass;
    uint64_t go_home = GO_HOME;
    alarm(STALL_SECONDS);
    go_on(foreman);
    for (int i = 0; i < pass->producers; i++) {
        if (noria_send(foreman->channels[ORDERS], &go_home, sizeof go_home, -1) < 0)
            return fail("orders", noria_detail());
    }
    for (int i = 0; i < crew_size(pass); i++) {
        int status;
        if (waitpid(foreman->crew[i], &status, 0) != foreman->crew[i])
            return fail("the crew", "does not go home");
        foreman->crew[i] = 0;
        if (status != 0)
            return fail_member(foreman, i, status);
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- the frame */

static int open_channels(struct foreman *foreman)
{
    static const char *const names[] = {"orders", "data", "done"};
    static const int flags[] = {NORIA_SEND, 0, NORIA_RECV};
    struct pass *pass = foreman->pass;
    for (int which = 0; which < CHANNELS; which++) {
        struct noria_options options;
        channel_options(pass, which, &options);
        char *name = pass->names[which];
        snprintf(name, sizeof pass->names[which], "shm:/noria-demo-%ld-%s", (long)getpid(), names[which]);
        if (noria_open(&foreman->channels[which], name, flags[which] | NORIA_CREATE | NORIA_EXCL, &options) !=
            0) {
            foreman->channels[which] = NULL;
            return fail(name, noria_detail());
        }
    }
    return 0;
}

static void count_deaths(const struct foreman *foreman)
{
    for (int which = 0; which < CHANNELS; which++) {
        struct noria_stat stat = {.size = sizeof stat};
        if (noria_stat(foreman->channels[which], &stat) != 0)
            continue;
        foreman->pass->deaths += stat.deaths;
        foreman->pass->redelivered += stat.redelivered;
    }
}

static void close_channels(struct foreman *foreman)
{
    for (int which = 0; which < CHANNELS; which++) {
        if (foreman->channels[which] == NULL)
            continue;
        noria_close(foreman->channels[which]);
        noria_unlink(foreman->pass->names[which]);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int run_pass(struct pass *pass)
{
    struct foreman foreman = {.pass = pass, .next_kill = 1};
    foreman.written = calloc(pass->chunks + 1, sizeof *foreman.written);
    if (foreman.written == NULL)
        return fail("memory", strerror(errno));
    double started = now();
    alarm(STALL_SECONDS);
    int status = open_channels(&foreman);
    for (int i = 0; i < crew_size(pass) && status == 0; i++)
        status = start(&foreman, i);
    if (status == 0)
        status = work(&foreman);
    pass->seconds = now() - started;
    if (status == 0)
        status = send_home(&foreman);
    dismiss(&foreman);
    if (status == 0)
        count_deaths(&foreman);
    close_channels(&foreman);
    alarm(0);
    free(foreman.written);
    return status;
}
