/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A renderer in a sandbox, in the manner of a browser: a process that works on what strangers have written, and may crash,
 * loop, or be taken over, without harm to its parent. It is given two channels over a socket (noria_share,
 * noria_accept), then shuts itself in: from then on there is memory and a futex, and no file, socket or process any more.
 *
 *     examples/sandbox ["draw TEXT" | crash | spin | open | scribble]...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

enum { MOST = 128, SOCKET = 3, NO_SANDBOX = 77, PAGE_SECONDS = 2, LOOKS = 600 };
static const int64_t look_ns = 100000000;

static void require(int is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "sandbox: %s: %s\n", what, noria_detail());
    exit(1);
}

/* ------------------------------------------------------------------------------------------- inside: the renderer */

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define ON(call, what) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), RETURN(what)
/* Only with that argument; its lower half says it all. */
#define ON_WITH(call, argument, value, what)                                                                           \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), LOAD(args[argument]),                                       \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), RETURN(what), LOAD(nr)

/* What sending and receiving need: to sleep and to wake. The rest is asked only when a peer has been silent for a while:
 * whether it still lives. noria does without what is refused with an error. Anything else ends the process. */
static const struct sock_filter rules[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    ON(futex, SECCOMP_RET_ALLOW),
    ON(membarrier, SECCOMP_RET_ALLOW),
    ON(clock_gettime, SECCOMP_RET_ALLOW),
    ON(exit_group, SECCOMP_RET_ALLOW),
    ON_WITH(kill, 1, 0, SECCOMP_RET_ALLOW),
    ON_WITH(fcntl, 1, F_OFD_GETLK, SECCOMP_RET_ALLOW),
    ON(openat, SECCOMP_RET_ERRNO | EACCES),
    RETURN(SECCOMP_RET_KILL_PROCESS),
};

static void shut_in(void)
{
    struct sock_fprog program = {sizeof rules / sizeof rules[0], (struct sock_filter *)(uintptr_t)rules};
    struct rlimit no_core = {0, 0};

    close(SOCKET);
    if (MACHINE == 0 || setrlimit(RLIMIT_CORE, &no_core) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(NO_SANDBOX);
}

/* Stands for a decoder with bugs, which a stranger's page knows how to use. The length of the picture. */
static size_t render(const char *page, size_t len, char *picture)
{
    volatile char *wild = NULL;

    if (len > 5 && memcmp(page, "draw ", 5) == 0) {
        for (size_t i = 5; i < len; i++)
            picture[i - 5] = page[i] >= 'a' && page[i] <= 'z' ? (char)(page[i] - 'a' + 'A') : page[i];
        return len - 5;
    }
    if (len == 5 && memcmp(page, "crash", 5) == 0)
        *wild = 1;
    while (len == 4 && memcmp(page, "spin", 4) == 0)
        ;
    if (len == 4 && memcmp(page, "open", 4) == 0 && open("/etc/passwd", O_RDONLY) < 0)
        socket(AF_INET, SOCK_STREAM, 0); /* refused; the second try ends it */
    if (len == 8 && memcmp(page, "scribble", 8) == 0) /* over what noria keeps there, too */
        memset((void *)((uintptr_t)picture & ~(uintptr_t)4095), 0xa5, 4096);
    return 0;
}

static int be_renderer(void)
{
    struct noria_stat stat = {.size = sizeof stat};
    noria_channel *pages, *pictures;
    struct noria_span picture;
    char page[MOST];
    ssize_t len;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    require(noria_accept(&pages, SOCKET, NORIA_RECV, NULL) == 0, "pages");
    require(noria_accept(&pictures, SOCKET, NORIA_SEND, NULL) == 0, "pictures");
    require(noria_stat(pages, &stat) == 0, "stat"); /* a thread's first call takes memory, later ones none */
    shut_in();
    while ((len = noria_recv(pages, page, sizeof page, -1, NULL)) >= 0 &&
           noria_reserve(pictures, MOST, &picture, -1) == 0)
        noria_commit(pictures, &picture, render(page, (size_t)len, picture.data), -1);
    _exit(0);
}

/* -------------------------------------------------------------------------------------------- outside: the parent */

struct renderer {
    pid_t pid;
    noria_channel *pages, *pictures;
};

/* Channels of its own for each: what one that was taken over has left in memory concerns nobody any more. */
static void start(struct renderer *renderer)
{
    struct noria_options options;
    int pair[2];

    noria_options_init(&options);
    options.trust = NORIA_TRUST_NONE; /* sealed memory, and no way to wait that a peer could make crash */
    options.max_message = MOST;
    options.capacity = 8;
    require(noria_open(&renderer->pages, "anon:", NORIA_SEND, &options) == 0, "pages");
    require(noria_open(&renderer->pictures, "anon:", NORIA_RECV, &options) == 0, "pictures");
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
    renderer->pid = fork();
    require(renderer->pid >= 0, "fork");
    if (renderer->pid == 0) {
        dup2(pair[1] == SOCKET ? dup(SOCKET) : pair[1], SOCKET); /* dup2 takes CLOEXEC off, unless it is the same */
        execl("/proc/self/exe", "sandbox", "--renderer", NULL); /* nothing of ours is in its memory */
        _exit(1);
    }
    close(pair[1]);
    require(noria_share(renderer->pages, pair[0]) == 0 && noria_share(renderer->pictures, pair[0]) == 0, "share");
    close(pair[0]);
}

/* How it ended. */
static int stop(struct renderer *renderer)
{
    int status;

    kill(renderer->pid, SIGKILL); /* it may be dead already, and then died of something else */
    waitpid(renderer->pid, &status, 0);
    noria_close(renderer->pages);
    noria_close(renderer->pictures);
    return status;
}

/* Processor time for one more page: what loops is ended by the kernel, and a machine that is busy elsewhere ends nobody. */
static void grant_time(pid_t renderer)
{
    struct rlimit seconds = {.rlim_max = RLIM_INFINITY};
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(renderer, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return; /* dead already */
    seconds.rlim_cur = (rlim_t)used.tv_sec + PAGE_SECONDS;
    prlimit(renderer, RLIMIT_CPU, &seconds, NULL);
}

/* The length of the picture, or why there is none: -EPIPE, it died; -EBADMSG, it wrote what cannot be; -ETIMEDOUT. */
static ssize_t show(struct renderer *renderer, const char *page, char *picture)
{
    siginfo_t info = {.si_pid = 0};
    ssize_t rc;

    grant_time(renderer->pid);
    rc = noria_send(renderer->pages, page, strlen(page), look_ns * LOOKS);
    for (int looks = 0; rc == 0 && looks < LOOKS; looks++) {
        rc = noria_recv(renderer->pictures, picture, MOST, look_ns, NULL);
        if (rc != -ETIMEDOUT)
            return rc;
        /* One that died before it had opened the channel is missed by nobody but its parent. */
        waitid(P_PID, (id_t)renderer->pid, &info, WEXITED | WNOHANG | WNOWAIT);
        rc = info.si_pid == 0 ? 0 : -EPIPE;
    }
    return rc != 0 ? rc : -ETIMEDOUT;
}

int main(int argc, char **argv)
{
    static const char *const examples[] = {"draw one", "crash", "draw two", "open", "spin", "scribble", "draw three"};
    int own = argc > 1, n = own ? argc - 1 : (int)(sizeof examples / sizeof examples[0]);
    struct renderer renderer;
    char picture[MOST];

    if (own && strcmp(argv[1], "--renderer") == 0)
        return be_renderer();
    setlinebuf(stdout);
    start(&renderer);
    for (int i = 0; i < n; i++) {
        const char *page = own ? argv[i + 1] : examples[i];
        ssize_t len = show(&renderer, page, picture);
        if (len > 0) {
            for (ssize_t at = 0; at < len; at++) /* a stranger's, still */
                picture[at] = picture[at] >= ' ' && picture[at] <= '~' ? picture[at] : '?';
            printf("%s: %.*s\n", page, (int)len, picture);
            continue;
        }
        int status = stop(&renderer);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SANDBOX)
            return fprintf(stderr, "sandbox: no seccomp here\n"), NO_SANDBOX;
        printf("%s: no picture (%s); %s\n", page, noria_strerror((int)len),
               WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "it left");
        start(&renderer);
    }
    stop(&renderer);
    return 0;
}
