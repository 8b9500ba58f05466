/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "unix:/path" Unix domain sockets, "unix:/path?seqpacket" with packets. The receiver's open makes the name, with "?deal"
 * (dealing.h) the sender's, also over that of one who has died; peers of other users are strangers to who listens, and
 * refused by who connects, unless options.foreign.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "adapters.h"
#include "dealing.h"
#include "detail.h"
#include "nap.h"
#include "path.h"

static const char *path_of(const struct noria_socket *of)
{
    return ((const struct sockaddr_un *)&of->address)->sun_path;
}

/* Listeners that come at the same time take turns: a lock on the folder, which goes with us. Somebody who holds it for
 * no good does not hold us up for long. -1: without. */
static int lock_folder(const struct noria_socket *of)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char *slash;
    int64_t until_ns = noria_deadline_ns(of->adapter.options.open_timeout_ns);
    int fd;

    strcpy(folder, path_of(of));
    slash = strrchr(folder, '/');
    if (slash == NULL)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && noria_now_ns() < until_ns)
        noria_nap(until_ns);
    return fd;
}

static int try_bind(const struct noria_socket *of, int fd)
{
    fchmod(fd, of->adapter.options.mode & 0777); /* the umask may take away from it, until chmod */
    if (bind(fd, (const struct sockaddr *)&of->address, of->address_size) != 0)
        return -errno;
    return chmod(path_of(of), of->adapter.options.mode & 0777) == 0 ? 0 : -errno;
}

/* With the folder locked. */
static int take_name(struct noria_socket *of, int fd, int flags)
{
    const char *path = path_of(of);
    int rc = try_bind(of, fd);
    struct stat status;

    if (rc != -EADDRINUSE)
        return rc != 0 ? noria_path_fail(rc, "unix", path) : 0;
    if (lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
        return noria_fail(-EINVAL, "'%s' is there and is not a socket", path);
    if ((flags & NORIA_EXCL) != 0)
        return noria_path_fail(-EEXIST, "unix", path);
    rc = noria_socket_is_served(of);
    if (rc < 0)
        return rc;
    if (rc == 1)
        return noria_fail(-EBUSY, "'unix:%s' has a %s, and can have one only", of->adapter.rest,
                          noria_socket_listener(of->deals));
    if (unlink(path) != 0) /* of somebody who has died */
        return noria_path_fail(-errno, "unix", path);
    rc = try_bind(of, fd);
    return rc != 0 ? noria_path_fail(rc, "unix", path) : 0;
}

static int serve(struct noria_socket *of, int flags)
{
    int fd = noria_socket_make(of), folder, rc;

    if (fd < 0)
        return fd;
    folder = lock_folder(of);
    rc = take_name(of, fd, flags);
    if (rc == 0)
        rc = noria_socket_listen(of, fd);
    else
        close(fd);
    if (folder >= 0)
        close(folder);
    return rc;
}

/* Who connects does so later. Whether it may have sockets at all it learns here. */
static int may_have_sockets(const struct noria_socket *of)
{
    int fd = noria_socket_make(of);

    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

/* Who connects and is not to make anything waits for the name. */
static int await_name(const struct noria_socket *of)
{
    int64_t until_ns = noria_deadline_ns(of->adapter.options.wait_create_ns);

    while (access(path_of(of), F_OK) != 0 && errno == ENOENT && noria_now_ns() < until_ns)
        noria_nap(until_ns);
    return access(path_of(of), F_OK) == 0 ? 0 : noria_path_fail(-errno, "unix", path_of(of));
}

static int make_address(struct noria_socket *of, const char *rest)
{
    static const char *const known[] = {"seqpacket", "stream", "deal", NULL};
    struct sockaddr_un *address = (struct sockaddr_un *)&of->address;
    int rc = noria_address_check("unix", rest, known);

    of->type = noria_address_has(rest, "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
    of->asks_who = true;
    address->sun_family = AF_UNIX;
    of->address_size = sizeof(*address);
    if (rc == 0)
        rc = noria_address_name(rest, address->sun_path, sizeof(address->sun_path));
    return rc == 0 && address->sun_path[0] == '\0' ? noria_path_fail(-EINVAL, "unix", "") : rc;
}

static int take_role(struct noria_socket *of, int flags)
{
    int rc;

    if (noria_socket_listens(of))
        return serve(of, flags);
    rc = (flags & NORIA_CREATE) == 0 ? await_name(of) : 0;
    return rc == 0 ? may_have_sockets(of) : rc;
}

static const struct noria_socket_scheme scheme = {&noria_mechanism_unix, &noria_mechanism_unix_dealing, NORIA_MOST_FDS, make_address, take_role};

static int open_unix(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    return noria_socket_open(out, &scheme, rest, flags, options);
}

static int unlink_unix(const char *rest)
{
    struct noria_socket of = {.listener = -1};
    int rc = make_address(&of, rest);

    return rc == 0 ? noria_path_unlink(path_of(&of), S_IFSOCK, "unix", "socket") : rc;
}

static int in_use(const char *rest)
{
    struct noria_socket of = {.listener = -1,
                              .adapter = {.mechanism = &noria_mechanism_unix, .rest = (char *)(uintptr_t)rest}};
    int rc = make_address(&of, rest);

    return rc == 0 ? noria_socket_is_served(&of) : rc;
}

const struct noria_mechanism noria_mechanism_unix = {.scheme = "unix", NORIA_SOCKET_MECHANISM, .open = open_unix};
const struct noria_mechanism noria_mechanism_unix_dealing = {.scheme = "unix", NORIA_DEALING_MECHANISM, .open = open_unix};
const struct noria_transport noria_transport_unix = {"unix", open_unix, unlink_unix, in_use};
