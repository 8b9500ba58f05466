/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "fifo:/path" a named pipe. A sender that comes before its receiver waits for it in its first send; one whose receiver
 * has gone is told so once (-EPIPE) and then waits for the next one. (One that comes just before the sender leaves the pipe
 * sees that as the end of a stream, and then the sender again.)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter.h"
#include "adapters.h"
#include "detail.h"
#include "nap.h"
#include "path.h"

/* Opens the FIFO if it is one, and may be trusted. -ENXIO: to write, and nobody reads. */
static int open_fifo(const char *path, int access, const struct noria_options *options)
{
    int fd = open(path, access | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd < 0 ? -errno : noria_path_check(fd, path, S_IFIFO, "FIFO", options);

    if (fd < 0 && rc != -ENXIO)
        return noria_path_fail(rc, "fifo", path);
    if (rc != 0 && fd >= 0)
        close(fd);
    return rc != 0 ? rc : fd;
}

static int attach(struct noria_adapter *adapter)
{
    struct noria_end end = {.fd = open_fifo(adapter->rest, O_WRONLY, &adapter->options), .kind = NORIA_END_PIPE};

    if (end.fd < 0)
        return end.fd == -ENXIO ? -EAGAIN : end.fd;
    noria_adapter_widen(end.fd, &adapter->options);
    noria_adapter_set_out(adapter, &end);
    return 0;
}

/* Nobody has it open to write, and nothing was in it when it was read. The first sender may have come and gone since
 * then, and left its messages: the second look sees them, for it comes after one that saw that he had gone (a look sees
 * first what is there and then who). */
static int end(struct noria_adapter *adapter)
{
    struct pollfd poll_set = {.fd = adapter->inlet->end.fd, .events = POLLIN};

    if (!adapter->seen_sender && poll(&poll_set, 1, 0) > 0 && (poll_set.revents & POLLHUP) != 0) {
        adapter->seen_sender = true;
        if (poll(&poll_set, 1, 0) > 0 && (poll_set.revents & POLLIN) != 0)
            return -EAGAIN;
    }
    return adapter->seen_sender ? -EPIPE : -EAGAIN;
}

/* Makes the name, or waits for it. */
static int provide(const char *path, int flags, const struct noria_options *options)
{
    int64_t until_ns = noria_deadline_ns(options->wait_create_ns);

    if ((flags & NORIA_CREATE) == 0) {
        while (access(path, F_OK) != 0 && errno == ENOENT && noria_now_ns() < until_ns)
            noria_nap(until_ns);
        return access(path, F_OK) == 0 ? 0 : noria_path_fail(-errno, "fifo", path);
    }
    if (mkfifo(path, options->mode & 0777) == 0)
        return chmod(path, options->mode & 0777) == 0 ? 0 : noria_path_fail(-errno, "fifo", path);
    return errno == EEXIST && (flags & NORIA_EXCL) == 0 ? 0 : noria_path_fail(-errno, "fifo", path);
}

static int take_roles(struct noria_adapter *adapter)
{
    struct noria_end end = {.kind = NORIA_END_PIPE};
    int rc = provide(adapter->rest, (int)adapter->base.flags, &adapter->options);

    if (rc == 0 && (adapter->base.flags & NORIA_RECV) == 0) {
        end.fd = open_fifo(adapter->rest, O_PATH, &adapter->options);
        if (end.fd >= 0)
            close(end.fd); /* only a look */
        return end.fd < 0 ? end.fd : 0;
    }
    if (rc == 0)
        end.fd = rc = open_fifo(adapter->rest, O_RDONLY, &adapter->options);
    if (rc < 0)
        return rc;
    noria_adapter_widen(end.fd, &adapter->options);
    if (noria_adapter_add_inlet(adapter, &end) == NULL)
        return -ENOMEM;
    return noria_end_claim(&end, "fifo", adapter->rest);
}

static int open_channel(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    int rc = noria_adapter_make(&adapter, &noria_mechanism_fifo, sizeof(*adapter), rest, flags, options);

    if (rc == 0)
        rc = noria_adapter_shape(adapter, noria_adapter_bound(&adapter->options), PIPE_BUF);
    else
        return rc;
    if (rc == 0)
        rc = take_roles(adapter);
    if (rc != 0)
        noria_adapter_free(adapter);
    else
        *out = &adapter->base;
    return rc;
}

static int unlink_channel(const char *rest)
{
    return noria_path_unlink(rest, S_IFIFO, "fifo", "FIFO");
}

/* Whether somebody has locked that inode for himself, as a receiver does. The device is not compared: a lock's and a
 * file's have different ones on some file systems. That of another file with the same number is a needless 1. */
static bool is_locked(FILE *locks, ino_t inode)
{
    char line[256], wanted[32];

    snprintf(wanted, sizeof(wanted), ":%llu 0 EOF", (unsigned long long)inode);
    while (fgets(line, sizeof(line), locks) != NULL)
        if (strstr(line, " FLOCK ") != NULL && strstr(line, " WRITE ") != NULL && strstr(line, wanted) != NULL)
            return true;
    return false;
}

/* Whether somebody has it open to read. A receiver that waits would see a sender come and go, so this is asked only if
 * none was found otherwise: it may be in a pid namespace whose locks are not shown here, or another program. */
static int has_reader(const char *path)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A receiver can be seen, a sender without one cannot. */
static int in_use(const char *rest)
{
    struct stat status;
    FILE *locks;
    int rc;

    if (lstat(rest, &status) != 0)
        return noria_path_fail(-errno, "fifo", rest);
    if (!S_ISFIFO(status.st_mode))
        return 0; /* unlink tells */
    locks = fopen("/proc/locks", "re");
    if (locks == NULL)
        return noria_fail(-errno, "'fifo:%s': /proc/locks, which tells whether it has a receiver, cannot be read: %s",
                          rest, strerror(errno));
    rc = is_locked(locks, status.st_ino);
    fclose(locks);
    return rc != 0 ? rc : has_reader(rest);
}

const struct noria_mechanism noria_mechanism_fifo = {.scheme = "fifo",
                                                     .may_lend = true,
                                                     .abilities = NORIA_CAN_MANY_SENDERS | NORIA_CAN_POLL,
                                                     .attach = attach,
                                                     .detach = noria_adapter_close_out,
                                                     .put = noria_adapter_put_out,
                                                     .get = noria_adapter_get_in,
                                                     .end = end,
                                                     .watch = noria_adapter_watch_ends,
                                                     .open = open_channel};
const struct noria_transport noria_transport_fifo = {"fifo", open_channel, unlink_channel, in_use};
