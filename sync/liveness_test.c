/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the dead are told from the living by the kernel's word: locks of descriptions, pids with their start
 * time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "liveness.h"
#include "other_user_test.h"

#define BYTE (INT64_C(1) << 60)

static int file; /* a memfd */
static int said[2]; /* a pipe: children say that they are ready */

static int setup(void **state)
{
    (void)state;
    file = memfd_create("liveness_test", MFD_CLOEXEC);
    return file >= 0 && pipe2(said, O_CLOEXEC) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    close(said[0]);
    close(said[1]);
    return close(file);
}

static void say_ready(void)
{
    if (write(said[1], "r", 1) != 1)
        _exit(1);
}

static void await_ready(void)
{
    char byte;

    assert_int_equal(read(said[0], &byte, 1), 1);
}

/* A child that does `body`, says so, and lives until it is killed. */
static pid_t start_child(void (*body)(void))
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        body();
        say_ready();
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    await_ready();
    return pid;
}

static void do_nothing(void)
{
}

/* Kills the child and leaves it a zombie. */
static void make_zombie(pid_t pid)
{
    siginfo_t info;

    kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void reap(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* -------------------------------------------------------------------------------------------------- locks */

static void one_description_holds_a_byte(void **state)
{
    /* Claim: a byte is held by one description at a time; its holder may ask again; other bytes are free. */
    int other = noria_lock_own_description(file);

    (void)state;
    assert_true(other >= 0);
    assert_int_equal(noria_lock_held(other, BYTE), 0);
    assert_int_equal(noria_lock_try(file, BYTE), 0);
    assert_int_equal(noria_lock_try(file, BYTE), 0);
    assert_int_equal(noria_lock_try(other, BYTE), -EAGAIN);
    assert_int_equal(noria_lock_held(other, BYTE), 1);
    assert_int_equal(noria_lock_held(file, BYTE), 0); /* nobody else */
    assert_int_equal(noria_lock_try(other, BYTE + 1), 0);
    noria_lock_free(file, BYTE);
    assert_int_equal(noria_lock_held(other, BYTE), 0);
    assert_int_equal(noria_lock_try(other, BYTE), 0);
    assert_int_equal(noria_lock_try(file, BYTE), -EAGAIN);
    close(other);
    assert_int_equal(noria_lock_try(file, BYTE), 0);
}

static void closed_descriptors_are_errors(void **state)
{
    /* Claim: asking after a descriptor that is not open is an error code, not an answer. */
    int closed = dup(file);

    (void)state;
    close(closed);
    assert_int_equal(noria_lock_try(closed, BYTE), -EBADF);
    assert_int_equal(noria_lock_held(closed, BYTE), -EBADF);
    assert_int_equal(noria_lock_own_description(closed), -ENOENT);
}

static void own_description_of_any_number(void **state)
{
    /* Claim: descriptors of one digit and of many can be reopened, close-on-exec and on the same file. */
    struct stat mine, theirs;

    (void)state;
    for (int number = 9; number < 20000; number = number * 10 + 9) {
        int placed = fcntl(file, F_DUPFD_CLOEXEC, number), own;
        if (placed < 0)
            break; /* beyond the limit of this process */
        own = noria_lock_own_description(placed);
        assert_true(own >= 0);
        assert_true((fcntl(own, F_GETFD) & FD_CLOEXEC) != 0);
        assert_int_equal(fstat(file, &mine), 0);
        assert_int_equal(fstat(own, &theirs), 0);
        assert_true(mine.st_ino == theirs.st_ino && mine.st_dev == theirs.st_dev);
        assert_int_equal(noria_lock_try(file, BYTE), 0);
        assert_int_equal(noria_lock_try(placed, BYTE), 0); /* the same description */
        assert_int_equal(noria_lock_try(own, BYTE), -EAGAIN);
        close(own);
        close(placed);
    }
}

static void hold_the_byte(void)
{
    int own = noria_lock_own_description(file);

    if (own < 0 || noria_lock_try(own, BYTE) != 0)
        _exit(1);
}

static void stopped_holder_keeps_the_lock_and_zombie_does_not(void **state)
{
    /* Claim: a lock is held while its holder is stopped and free once it is killed, reaped or not. */
    pid_t child = start_child(hold_the_byte);
    int status;

    (void)state;
    assert_int_equal(noria_lock_held(file, BYTE), 1);
    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(noria_lock_held(file, BYTE), 1);
    make_zombie(child);
    assert_int_equal(noria_lock_held(file, BYTE), 0);
    reap(child);
}

static int released[2]; /* a pipe: the heir may go */

static void hold_and_bequeath(void)
{
    int inherited = noria_lock_own_description(file);

    if (inherited < 0 || noria_lock_try(inherited, BYTE) != 0)
        _exit(1);
    if (fork() == 0) { /* the heir lives on with the description, and ends with its input */
        char byte;
        say_ready();
        while (read(released[0], &byte, 1) < 0)
            continue;
        _exit(0);
    }
}

static void heir_of_a_description_holds_its_lock(void **state)
{
    /* Claim: a forked child that shares the description keeps its parent's lock: so locks alone do
     * not tell. */
    pid_t child;

    (void)state;
    assert_int_equal(pipe2(released, O_CLOEXEC), 0);
    child = start_child(hold_and_bequeath);
    await_ready(); /* the heir's word */
    make_zombie(child);
    assert_int_equal(noria_lock_held(file, BYTE), 1);
    reap(child);
    assert_int_equal(noria_lock_held(file, BYTE), 1);
    assert_int_equal(write(released[1], "q", 1), 1);
    while (noria_lock_held(file, BYTE) == 1)
        sched_yield();
    close(released[0]);
    close(released[1]);
}

/* ---------------------------------------------------------------------------------------------- processes */

static struct noria_process self;

static enum noria_process_state look(const struct noria_process *process, bool thorough)
{
    return noria_process_look(&self, process, thorough);
}

/* What a child says of itself. */
static struct noria_process *identity;

static void identify(void)
{
    noria_process_self(identity);
}

static int setup_identity(void **state)
{
    identity = mmap(NULL, sizeof(*identity), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    noria_process_self(&self);
    return identity == MAP_FAILED ? -1 : setup(state);
}

static int teardown_identity(void **state)
{
    munmap(identity, sizeof(*identity));
    return teardown(state);
}

static void self_is_known(void **state)
{
    /* Claim: a process knows its number, its start time and its pid namespace, and exists. */
    (void)state;
    assert_int_equal(self.pid, getpid());
    assert_true(self.start_time != 0);
    assert_true(self.pid_namespace != 0);
    assert_int_equal(look(&self, true), NORIA_PROCESS_EXISTS);
    assert_int_equal(look(&self, false), NORIA_PROCESS_EXISTS);
}

static void stopped_exists_and_zombie_is_gone(void **state)
{
    /* Claim: a stopped process exists; a zombie is gone for who looks closely, a reaped one for everybody. */
    pid_t child = start_child(identify);

    (void)state;
    assert_int_equal(identity->pid, child);
    assert_int_equal(look(identity, true), NORIA_PROCESS_EXISTS);
    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    assert_int_equal(look(identity, true), NORIA_PROCESS_EXISTS);
    make_zombie(child);
    assert_int_equal(look(identity, true), NORIA_PROCESS_GONE);
    assert_int_equal(look(identity, false), NORIA_PROCESS_EXISTS); /* zombies answer signals */
    reap(child);
    assert_int_equal(look(identity, true), NORIA_PROCESS_GONE);
    assert_int_equal(look(identity, false), NORIA_PROCESS_GONE);
}

static void another_start_time_is_another_process(void **state)
{
    /* Claim: a number whose process started at another time is somebody else: the one meant is gone. */
    struct noria_process earlier = self;

    (void)state;
    earlier.start_time--;
    assert_int_equal(look(&earlier, true), NORIA_PROCESS_GONE);
    assert_int_equal(look(&earlier, false), NORIA_PROCESS_EXISTS);
    earlier.start_time = 0; /* its own /proc could not be read */
    assert_int_equal(look(&earlier, true), NORIA_PROCESS_EXISTS);
}

static void foreign_numbers_mean_nothing(void **state)
{
    /* Claim: nothing is concluded from a pid of another namespace, of an unknown one, or from no pid
     * at all. */
    struct noria_process other = self, blind = self;

    (void)state;
    other.pid_namespace++;
    assert_int_equal(look(&other, true), NORIA_PROCESS_UNKNOWN);
    other = self;
    other.pid = 0; /* kill(0, 0) would ask after our own group */
    assert_int_equal(look(&other, true), NORIA_PROCESS_UNKNOWN);
    other.pid = -1;
    assert_int_equal(look(&other, true), NORIA_PROCESS_UNKNOWN);
    blind.pid_namespace = 0;
    assert_int_equal(noria_process_look(&blind, &self, true), NORIA_PROCESS_UNKNOWN);
}

static void *run_on(void *unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, 0);
    say_ready();
    for (;;)
        pause();
    return NULL;
}

static void leader_dies_thread_stays(void)
{
    pthread_t thread;

    noria_process_self(identity);
    if (pthread_create(&thread, NULL, run_on, NULL) != 0)
        _exit(1);
    syscall(SYS_exit, 0); /* this thread only */
}

static char state_of(pid_t pid)
{
    char path[32], state = '?';
    FILE *stat_file;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    stat_file = fopen(path, "re");
    assert_non_null(stat_file);
    assert_int_equal(fscanf(stat_file, "%*d (%*[^)]) %c", &state), 1);
    fclose(stat_file);
    return state;
}

static void zombie_leader_with_threads_exists(void **state)
{
    /* Claim: a process whose first thread has ended lives as long as another thread of it does. */
    pid_t child = start_child(leader_dies_thread_stays);

    (void)state;
    while (state_of(child) != 'Z')
        sched_yield();
    assert_int_equal(look(identity, true), NORIA_PROCESS_EXISTS);
    make_zombie(child);
    assert_int_equal(look(identity, true), NORIA_PROCESS_GONE);
    reap(child);
}

static const char *const *nasty_name;

static void take_a_nasty_name(void)
{
    prctl(PR_SET_NAME, *nasty_name);
    noria_process_self(identity);
}

static void names_do_not_confuse(void **state)
{
    /* Claim: a process may call itself anything, brackets, blanks, line ends and states included. */
    static const char *const names[] = {") Z 1 (2) X 3", ")", "(((", "Z) X (", "\n) Z 0\n", " ) Z 1 2 3 4 5",
                                        "", "\377\376)"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        pid_t child;
        struct noria_process earlier;
        nasty_name = &names[i];
        child = start_child(take_a_nasty_name);
        assert_true(identity->start_time >= self.start_time);
        assert_int_equal(look(identity, true), NORIA_PROCESS_EXISTS);
        earlier = *identity;
        earlier.start_time--;
        assert_int_equal(look(&earlier, true), NORIA_PROCESS_GONE);
        make_zombie(child);
        assert_int_equal(look(identity, true), NORIA_PROCESS_GONE);
        reap(child);
    }
}

static void look_as_nobody(void)
{
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        _exit(1);
    noria_process_self(identity);
    /* kill() says EPERM for the test, which is root's */
    identity->start_time = noria_process_look(identity, &self, false) == NORIA_PROCESS_EXISTS &&
                           noria_process_look(identity, &self, true) == NORIA_PROCESS_EXISTS;
}

static void others_processes_exist(void **state)
{
    /* Claim: a process that we may not signal exists. */
    pid_t child;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    child = start_child(look_as_nobody);
    assert_int_equal(identity->start_time, 1);
    reap(child);
}

/* Starts a child that has this number. */
static void be_born_again(pid_t number)
{
    FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "we");

    if (last == NULL || fprintf(last, "%d", number - 1) < 0 || fclose(last) != 0)
        _exit(77);
    if (start_child(identify) != number)
        _exit(3);
}

/* In a pid namespace of its own: a child dies and its number is born again. Exit status 0: told apart. */
static void rebirth(void)
{
    struct noria_process first;
    pid_t child;

    if (mount("proc", "/proc", "proc", 0, NULL) != 0)
        _exit(77);
    noria_process_self(&self);
    child = start_child(identify);
    first = *identity;
    if (look(&first, true) != NORIA_PROCESS_EXISTS)
        _exit(2);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    be_born_again(child);
    while (identity->start_time == first.start_time) { /* of the same tick: cannot be told apart */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        be_born_again(child);
    }
    _exit(look(&first, true) == NORIA_PROCESS_GONE && look(&first, false) == NORIA_PROCESS_EXISTS ? 0 : 4);
}

static void enter_namespaces(void)
{
    pid_t first;
    int status;

    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        _exit(77);
    first = fork();
    if (first == 0)
        rebirth();
    waitpid(first, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
}

static void reborn_number_is_another_process(void **state)
{
    /* Claim: when a pid is given to a new process, the old one is gone. */
    pid_t child;
    int status;

    (void)state;
    fflush(NULL);
    child = fork();
    if (child == 0)
        enter_namespaces();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no right to make a pid namespace\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void maps_tell_who_still_looks(void **state)
{
    /* Claim: whether a process maps a file is told from its maps; for a process that is not there it is an
     * error. */
    struct stat status;
    pid_t child;
    void *view;

    (void)state;
    assert_int_equal(ftruncate(file, 4096), 0);
    assert_int_equal(fstat(file, &status), 0);
    assert_int_equal(noria_process_maps(getpid(), status.st_dev, status.st_ino), 0);
    view = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    assert_int_equal(noria_process_maps(getpid(), status.st_dev, status.st_ino), 1);
    assert_int_equal(noria_process_maps(getpid(), status.st_dev, status.st_ino + 1), 0);
    child = start_child(do_nothing); /* inherits the mapping */
    assert_int_equal(noria_process_maps(child, status.st_dev, status.st_ino), 1);
    munmap(view, 4096);
    reap(child);
    assert_true(noria_process_maps(child, status.st_dev, status.st_ino) < 0);
}

/* Makes a file of our own below a path of some 3000 bytes, with a name that looks like other lines of maps. */
static int open_deep_file(char *path, size_t size)
{
    size_t length = (size_t)snprintf(path, size, "/tmp/liveness-test-XXXXXX");
    int deep;

    assert_non_null(mkdtemp(path));
    for (int i = 0; i < 12; i++) {
        length += (size_t)snprintf(path + length, size - length, "/%d%0240d", i, 0);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(path + length, size - length, "/ r--s 00000000 00:01 4123456789\n00-01 r--s 00000000 00:01 4123456789 ");
    deep = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(deep >= 0);
    assert_int_equal(ftruncate(deep, 4096), 0);
    return deep;
}

static void remove_deep_file(char *path)
{
    char *end;

    unlink(path);
    while ((end = strrchr(path, '/')) != NULL && end > path + strlen("/tmp")) {
        *end = '\0';
        rmdir(path);
    }
}

static void long_lines_do_not_hide_others(void **state)
{
    /* Claim: a line of maps that is longer than any buffer is read as one line, and the lines after it too. */
    static char path[4096];
    int deep = open_deep_file(path, sizeof(path));
    struct stat status, other;
    uint8_t *views;

    (void)state;
    assert_int_equal(fstat(deep, &status), 0);
    assert_int_equal(ftruncate(file, 4096), 0);
    assert_int_equal(fstat(file, &other), 0);
    views = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(views, MAP_FAILED);
    assert_int_equal(noria_process_maps(getpid(), status.st_dev, status.st_ino), 0);
    for (int i = 0; i < 2; i++) { /* two long lines, then the one looked for */
        int rights = i == 0 ? PROT_READ : PROT_WRITE;
        assert_ptr_not_equal(mmap(views + 4096 * i, 4096, rights, MAP_SHARED | MAP_FIXED, deep, 0), MAP_FAILED);
    }
    assert_int_equal(noria_process_maps(getpid(), other.st_dev, other.st_ino), 0);
    assert_ptr_not_equal(mmap(views + 4096 * 2, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0), MAP_FAILED);
    assert_int_equal(noria_process_maps(getpid(), status.st_dev, status.st_ino), 1);
    assert_int_equal(noria_process_maps(getpid(), other.st_dev, other.st_ino), 1);
    assert_int_equal(noria_process_maps(getpid(), makedev(0, 1), 4123456789), 0);
    munmap(views, 3 * 4096);
    close(deep);
    remove_deep_file(path);
}

static void one_process_may_be_several_programs(void **state)
{
    /* Claim: of a process that has been another program before, which ended with exec, that one is gone; who is not
     * known to have been another one exists. A child is of its parent's program. */
    struct noria_process self, other;
    pid_t child;

    (void)state;
    noria_process_self(&self);
    assert_true(self.image != 0 && self.image == noria_process_image());
    other = self;
    assert_int_equal(noria_process_look(&self, &other, true), NORIA_PROCESS_EXISTS);
    other.image = self.image + 1;
    assert_int_equal(noria_process_look(&self, &other, false), NORIA_PROCESS_GONE);
    other.image = 0;
    assert_int_equal(noria_process_look(&self, &other, true), NORIA_PROCESS_EXISTS);
    child = start_child(do_nothing);
    other = (struct noria_process){.pid = child, .pid_namespace = self.pid_namespace, .image = self.image + 1};
    assert_int_equal(noria_process_look(&self, &other, true), NORIA_PROCESS_EXISTS); /* it alone can tell */
    reap(child);
}

/* Becomes a program that says so and stays. */
static void become_another_program(void)
{
    noria_process_self(identity);
    dup2(said[1], STDOUT_FILENO); /* which exec does not close */
    execl("/bin/sh", "sh", "-c", "printf r; kill -STOP $$", (char *)NULL);
    _exit(1);
}

static void others_see_another_program(void **state)
{
    /* Claim: whoever may look into a process sees that it has become another program, and knows nothing of one he may not look
     * into. */
    struct noria_process earlier;
    pid_t child;

    (void)state;
    assert_true(self.program != 0 && self.program == noria_process_program(getpid()));
    child = start_child(become_another_program);
    assert_int_equal(look(identity, false), NORIA_PROCESS_EXISTS);
    assert_int_equal(look(identity, true), NORIA_PROCESS_GONE);
    earlier = *identity;
    earlier.program = noria_process_program(child);
    assert_int_equal(look(&earlier, true), NORIA_PROCESS_EXISTS);
    earlier.program = 0;
    assert_int_equal(look(&earlier, true), NORIA_PROCESS_EXISTS);
    reap(child);
    assert_int_equal(noria_process_program(child), 0);
}

int main(void)
{
#define LOCKS(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define PROCESSES(name) cmocka_unit_test_setup_teardown(name, setup_identity, teardown_identity)
    const struct CMUnitTest tests[] = {
        LOCKS(one_description_holds_a_byte),
        LOCKS(closed_descriptors_are_errors),
        LOCKS(own_description_of_any_number),
        LOCKS(stopped_holder_keeps_the_lock_and_zombie_does_not),
        LOCKS(heir_of_a_description_holds_its_lock),
        PROCESSES(self_is_known),
        PROCESSES(stopped_exists_and_zombie_is_gone),
        PROCESSES(another_start_time_is_another_process),
        PROCESSES(foreign_numbers_mean_nothing),
        PROCESSES(zombie_leader_with_threads_exists),
        PROCESSES(names_do_not_confuse),
        PROCESSES(others_processes_exist),
        PROCESSES(reborn_number_is_another_process),
        PROCESSES(maps_tell_who_still_looks),
        PROCESSES(long_lines_do_not_hide_others),
        PROCESSES(one_process_may_be_several_programs),
        PROCESSES(others_see_another_program),
    };
#undef LOCKS
#undef PROCESSES
    return cmocka_run_group_tests_name("liveness", tests, NULL, NULL);
}
