/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An eventfd per side, shared by processes that are not related: for poll and epoll, without a name anywhere.
 *
 * Cost: ring is one write and a look at the flags before it, quiet one read, a sleep one ppoll. One
 * descriptor per handle and side. Nothing is left behind: the kernel frees an eventfd with its last user.
 *
 * Whoever opens first makes it; everybody else takes it from a live participant (pidfd_getfd, Linux 5.6),
 * which needs the permission to ptrace that participant: same user and dumpable, same pid namespace, Yama's
 * ptrace_scope 0 or a descendant. A forked child has its parent's descriptors anyway and needs no permission. Without
 * permission opening fails: the FIFO is for that.
 *
 *     word     of the side: identity of the channel's eventfd, 0 = none yet
 *     claim    of each participant and side: under which number it has open which eventfd
 *
 * The identity is the kernel's eventfd-id + 1 (/proc/PID/fdinfo/N, Linux 5.2). The kernel gives an id to
 * another eventfd once the first is freed, so it identifies as long as somebody has that one open, and
 * that is all we need: I hold mine, so word == mine means that mine is the channel's; and what a peer has
 * open under the wanted id is the wanted one.
 *
 *     open: word names one that a peer claims?   take it
 *           any peer claims any?                 take that (the word was lost)
 *           else                                 make one
 *           publish the claim, then compare-and-swap the word from what it was; if lost, start over
 *
 *   A loser of the race takes the winner's. Killed before the swap: nothing happened. Killed after it: no
 *   live peer claims what the word names, and the next one replaces it. Claims carry the pid: one that a
 *   dead predecessor left under the same number is not believed.
 *   A word that is not mine later on (tampering): if a peer has what it names I take that, under the same
 *   descriptor number and after a ring of the old one; else I put mine back. After such a change a poll set
 *   sees the new one, an epoll set keeps watching the old one until it is given noria_fd() again.
 *
 * Numbers and ids from the segment are looked up before anything is taken and checked again afterwards;
 * what does not fit is left alone. Any level is harmless. If the permission goes away later, the sleepers'
 * re-checks remain. What no look can tell is whether an eventfd is the channel's: forged claims may name
 * any other one of a process that we may trace, ourselves too, and we would ring and drain that one. So it
 * is for peers that are trusted so far (`trusting`).
 *
 * ring is async-signal-safe if the place's find_peer is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "descriptor.h"
#include "detail.h"
#include "number.h"
#include "strategy.h"

enum { ANY = 0, TRIES = 16 };

static const uint64_t one = 1;

/* In place->memory: two per participant. */
struct claim {
    uint32_t number; /* the descriptor + 1; 0: none. Written last, cleared first */
    uint32_t pid;
    uint32_t identity;
    uint32_t unused;
};
_Static_assert(sizeof(struct claim) == 16, "layout of the segment");

static uint32_t *word_of(const struct noria_bell *bell)
{
    return &bell->place->words[bell->side][0];
}

static struct claim *claim_of(const struct noria_bell *bell, uint32_t number)
{
    const struct noria_bell_place *place = bell->place;

    if (place->memory == NULL || number == 0 || number > place->participants)
        return NULL;
    return (struct claim *)place->memory + 2 * (size_t)(number - 1) + bell->side;
}

static void withdraw(const struct noria_bell *bell)
{
    struct claim *claim = claim_of(bell, bell->place->number);

    /* A forked child that closes what it inherited must leave its parent's alone, and a second bell of the
     * same handle the first one's. */
    if (claim != NULL && noria_load_relaxed32(&claim->pid) == (uint32_t)getpid() &&
        noria_load_relaxed32(&claim->number) == (uint32_t)bell->fd + 1)
        noria_store_release32(&claim->number, 0);
}

/* The number behind "eventfd-id:" + 1. */
static int parse_identity(const char *text)
{
    const char *at = strstr(text, "\neventfd-id:");
    uint64_t id;

    if (at == NULL)
        return strstr(text, "\neventfd-count:") != NULL ? -ENOTSUP : -ENOENT;
    at += strlen("\neventfd-id:");
    if (noria_number_parse(at + strspn(at, " \t"), 10, &id) == NULL || id >= INT_MAX)
        return -ENOTSUP;
    return (int)id + 1;
}

/* Which eventfd a process has open under a number; pid 0: this one. Positive, -ENOENT: none, -EACCES: not
 * for us to know, -ENOTSUP: the kernel does not say. */
static int identity_of(pid_t pid, int fd)
{
    struct noria_path path = {.length = 0};
    char text[1024];
    ssize_t got;
    int info;

    noria_path_add(&path, "/proc/");
    if (pid == 0)
        noria_path_add(&path, "self");
    else
        noria_path_add_number(&path, (uint64_t)pid, 10, 1);
    noria_path_add(&path, "/fdinfo/");
    noria_path_add_number(&path, (uint64_t)fd, 10, 1);
    info = open(path.text, O_RDONLY | O_CLOEXEC);
    if (info < 0)
        return errno == EPERM ? -EACCES : -errno;
    got = read(info, text, sizeof(text) - 1);
    close(info);
    if (got < 0)
        return errno == EPERM || errno == EACCES ? -EACCES : -ENOENT;
    text[got] = '\0';
    return parse_identity(text);
}

static void publish(const struct noria_bell *bell, uint32_t identity)
{
    struct claim *claim = claim_of(bell, bell->place->number);
    uint32_t number;

    if (claim == NULL)
        return;
    number = noria_load_relaxed32(&claim->number);
    if (number != 0 && number <= INT_MAX && noria_load_relaxed32(&claim->pid) == (uint32_t)getpid() &&
        noria_load_relaxed32(&claim->identity) == identity &&
        identity_of(0, (int)number - 1) == (int)identity)
        return; /* by another bell of this handle, or by this one before */
    noria_store_relaxed32(&claim->number, 0);
    noria_store_release32(&claim->pid, (uint32_t)getpid());
    noria_store_release32(&claim->identity, identity);
    noria_store_release32(&claim->number, (uint32_t)bell->fd + 1); /* pairs with the acquire in take_from */
}

static int copy_from(pid_t pid, int number)
{
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    int fd, error;

    if (process < 0)
        return -errno;
    fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);
    error = errno;
    close(process);
    return fd >= 0 ? fd : -error;
}

/* A copy of that descriptor if it is that eventfd. */
static int obtain(pid_t pid, int number, int identity)
{
    int theirs = identity_of(pid, number);
    int fd;

    if (theirs == -EMFILE || theirs == -ENFILE)
        return theirs;
    /* Looked at first: to take and close a copy of some files has effects. */
    if (theirs != identity && theirs != -EACCES)
        return -ENOENT;
    if (identity_of(0, number) == identity) { /* inherited over fork, or another handle of this process */
        fd = fcntl(number, F_DUPFD_CLOEXEC, 0);
        fd = fd >= 0 ? fd : -errno;
    } else {
        fd = theirs == identity ? copy_from(pid, number) : -EPERM;
    }
    if (fd == -EBADF || fd == -ESRCH || fd == -EINVAL)
        return -ENOENT; /* gone meanwhile */
    if (fd >= 0 && identity_of(0, fd) != identity) {
        close(fd);
        return -ENOENT;
    }
    return fd;
}

struct search {
    const struct noria_bell *bell;
    uint32_t wanted; /* or ANY */
    uint32_t found;
    int fd; /* or why there is none */
    bool out_of_reach; /* somebody of another pid namespace has one */
};

static bool take_from(void *mine, uint32_t number, pid_t pid)
{
    struct search *search = mine;
    const struct claim *claim = claim_of(search->bell, number);
    uint32_t identity, at;
    int fd;

    if (claim == NULL)
        return false;
    at = noria_load_acquire32(&claim->number); /* pairs with publish */
    identity = noria_load_relaxed32(&claim->identity);
    if (at == 0 || at > INT_MAX || identity == 0 || identity > INT_MAX || pid == 0 ||
        noria_load_relaxed32(&claim->pid) != (uint32_t)(pid < 0 ? -pid : pid))
        return false;
    if (search->wanted != ANY && identity != search->wanted)
        return false;
    if (pid < 0 && identity_of(0, (int)at - 1) != (int)identity) { /* nor inherited from there */
        search->out_of_reach = true;
        return false;
    }
    fd = obtain(pid < 0 ? getpid() : pid, (int)at - 1, (int)identity);
    if (fd != -ENOENT)
        search->fd = fd;
    search->found = identity;
    return fd >= 0;
}

/* 0, -ENOENT: nobody has it, or why it cannot be had. */
static int take(struct noria_bell *bell, uint32_t wanted, uint32_t *identity)
{
    struct search search = {.bell = bell, .wanted = wanted, .fd = -ENOENT};
    int rc;

    if (bell->place->find_peer != NULL)
        bell->place->find_peer(bell->place->context, take_from, &search);
    if (search.fd < 0)
        take_from(&search, bell->place->number, getpid()); /* another bell of this handle */
    if (search.fd == -ENOENT && search.out_of_reach)
        return -EPERM;
    if (search.fd < 0)
        return search.fd;
    rc = noria_descriptor_adopt(bell, search.fd, &one, sizeof(one));
    if (rc == 0)
        *identity = search.found;
    return rc;
}

static int make(struct noria_bell *bell, uint32_t *identity)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int made;

    if (fd < 0)
        return -errno;
    made = identity_of(0, fd);
    if (made < 0) {
        close(fd);
        return made == -EMFILE || made == -ENFILE ? made : -ENOTSUP;
    }
    bell->fd = fd;
    *identity = (uint32_t)made;
    return 0;
}

/* See the head of the file. */
static int settle(struct noria_bell *bell, uint32_t *identity)
{
    uint32_t *word = word_of(bell);

    for (int tries = 0; tries < TRIES; tries++) {
        uint32_t wanted = noria_load_acquire32(word);
        int rc = -ENOENT, any;

        if (bell->fd >= 0 && *identity == wanted)
            return 0;
        if (wanted != 0)
            rc = take(bell, wanted, identity);
        if ((rc == -ENOENT || rc == -EPERM) && bell->fd < 0) {
            any = take(bell, ANY, identity);
            rc = any == -ENOENT ? rc : any;
        }
        if (rc == -ENOENT && bell->fd < 0)
            rc = make(bell, identity);
        if (rc != 0 && rc != -ENOENT)
            return rc;
        publish(bell, *identity);
        noria_cas_acq_rel32(word, &wanted, *identity); /* lost: the next round sees whose it is */
    }
    return 0; /* somebody plays with the word; the next ring, quiet or wait tries again */
}

static bool renew(struct noria_bell *bell)
{
    const struct claim *claim = claim_of(bell, bell->place->number);
    uint32_t identity = noria_load_acquire32(&bell->state);

    /* Wiped, or withdrawn by another bell of this handle that closed. */
    if (claim != NULL && noria_load_relaxed32(&claim->number) == 0 && identity != NORIA_DESCRIPTOR_CHANGING)
        publish(bell, identity);
    return !noria_descriptor_is_current(bell, word_of(bell)) && noria_descriptor_agree(bell, settle) == 1;
}

static int refuse(int rc)
{
    switch (-rc) {
    case EPERM:
    case EACCES:
        return noria_fail(-EPERM, "the channel's eventfd has to be taken from another participant, and the "
                          "permission to trace it is missing (same user and pid namespace, kernel.yama.ptrace_scope 0): "
                          "choose wait = fifo, on a channel with a name");
    case ENOTSUP:
    case ENOSYS:
        return noria_fail(-ENOTSUP, "eventfds of unrelated processes need Linux 5.6 and /proc: choose wait = "
                          "fifo");
    case EMFILE:
    case ENFILE:
        return noria_fail(rc, "too many open files for the channel's eventfd; raise `ulimit -n`");
    default:
        return noria_fail(rc, "cannot make the channel's eventfd: %s", noria_error_words(rc));
    }
}

static size_t footprint(uint32_t participants)
{
    return 2 * (size_t)participants * sizeof(struct claim);
}

static void close_bell(struct noria_bell *bell)
{
    withdraw(bell);
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
    bell->state = 0;
}

static int open_bell(struct noria_bell *bell)
{
    int rc;

    bell->fd = -1;
    bell->state = 0;
    rc = noria_descriptor_agree(bell, settle);
    if (rc >= 0)
        return 0;
    close_bell(bell);
    return refuse(rc);
}

static void ring(struct noria_bell *bell)
{
    renew(bell);
    noria_descriptor_ring(bell->fd, &one, sizeof(one));
}

static bool quiet(struct noria_bell *bell)
{
    bool renewed = renew(bell); /* then a ring of the old one may have been for us */
    uint64_t count;
    struct iovec into = {&count, sizeof(count)};
    /* NOWAIT: all share the description, and somebody might have switched O_NONBLOCK off. */
    ssize_t got = preadv2(bell->fd, &into, 1, -1, RWF_NOWAIT);

    if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        got = read(bell->fd, &count, sizeof(count));
    return got > 0 || renewed;
}

static int wait_at(struct noria_bell *bell, uint32_t expected, int64_t until_ns)
{
    if (renew(bell) || noria_load_relaxed32(bell->word) != expected) /* relaxed: only a hint */
        return 0;
    return noria_descriptor_wait(bell->fd, until_ns);
}

const struct noria_strategy noria_strategy_eventfd = {
    .name = "eventfd", .sleeps = true, .pollable = true, .trusting = true, .footprint = footprint, .open = open_bell,
    .close = close_bell, .ring = ring, .quiet = quiet, .renew = renew, .wait = wait_at};
