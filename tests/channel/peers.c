/* SPDX-License-Identifier: BSD-2-Clause */
#include "peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

/* Asked by a leak checker at exit. It cannot work in children, who may have no descriptors, or threads that
 * are not theirs; leaks are found in the test itself. */
static int is_child;
int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return is_child;
}

void be_child(void)
{
    is_child = 1;
}

enum { MOST_PEERS = 64, PATIENCE_S = 60 };

struct peers_page *peers;
static pid_t alive[MOST_PEERS];

void peers_begin(void)
{
    peers = mmap(NULL, sizeof(*peers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(peers != MAP_FAILED);
    assert_int_equal(sem_init(&peers->said, 1, 0), 0);
    assert_int_equal(sem_init(&peers->told, 1, 0), 0);
    assert_int_equal(sem_init(&peers->told_to_end, 1, 0), 0);
}

static void forget(pid_t pid)
{
    for (int i = 0; i < MOST_PEERS; i++)
        if (alive[i] == pid)
            alive[i] = 0;
}

void peers_end(void)
{
    for (int i = 0; i < MOST_PEERS; i++)
        if (alive[i] != 0)
            kill_peer(alive[i]);
    munmap(peers, sizeof(*peers));
}

pid_t start_peer(void (*body)(void))
{
    pid_t pid;
    int place = 0;

    while (place < MOST_PEERS && alive[place] != 0)
        place++;
    assert_true(place < MOST_PEERS);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that a watchdog ends leaves nobody */
        be_child();
        body();
        exit(0);
    }
    assert_true(pid > 0);
    alive[place] = pid;
    return pid;
}

static bool wait_on(sem_t *semaphore)
{
    struct timespec until;
    int rc;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    do
        rc = sem_timedwait(semaphore, &until);
    while (rc != 0 && errno == EINTR);
    return rc == 0;
}

void await_peer(void)
{
    assert_true(wait_on(&peers->said));
}

void tell_peer(void)
{
    sem_post(&peers->told);
}

void tell_peer_to_end(void)
{
    sem_post(&peers->told_to_end);
}

void stop_peer(pid_t pid)
{
    int status;

    kill(pid, SIGSTOP);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

void continue_peer(pid_t pid)
{
    kill(pid, SIGCONT);
}

void kill_peer(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    forget(pid);
}

void kill_unreaped(pid_t pid)
{
    siginfo_t info;

    kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

void expect_end(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    forget(pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

void say(void)
{
    sem_post(&peers->said);
}

void await_order(void)
{
    if (!wait_on(&peers->told))
        exit(3);
}

void await_end(void)
{
    if (!wait_on(&peers->told_to_end))
        exit(3);
}

void peer_requires(bool condition, const char *file, int line)
{
    if (condition)
        return;
    fprintf(stderr, "%s:%d: does not hold in process %d; last failure there: %s\n", file, line, (int)getpid(),
            noria_detail());
    exit(1);
}

bool is_asleep(pid_t pid)
{
    char path[32], state = '?';
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = '?';
    fclose(file);
    return state == 'S';
}
