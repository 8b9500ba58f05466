/* SPDX-License-Identifier: BSD-2-Clause */
#include "nats_client.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"

/* The client's structs grow from one minor version to the next: what was compiled for is what is loaded. */
#define TEXT_OF(number) #number
#define SONAME(major, minor) "libnats.so." TEXT_OF(major) "." TEXT_OF(minor)
static const char soname[] = SONAME(NATS_VERSION_MAJOR, NATS_VERSION_MINOR);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct noria_nats_client client;
static char file[4096];  /* that it was loaded from */
static pid_t owner;     /* the process whose client it is; 0: nobody's */
static bool has_hooks;

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* Opens the file that is loaded already once more, under another name and number. A child's child that has the same
 * descriptor free would find its parent's copy under that name; so there is a slash more in it each time. */
static void *load_copy(void)
{
    int from = open(file, O_RDONLY | O_CLOEXEC), to = memfd_create("libnats", MFD_CLOEXEC);
    struct stat status;
    static const char slashes[] = "////////////////////////////////";
    static unsigned copies; /* that this process and its parents have made */
    char path[72];
    void *copy = NULL;

    snprintf(path, sizeof(path), "/proc/self/%.*sfd/%d", (int)(copies++ % sizeof(slashes)), slashes, to);
    if (from >= 0 && to >= 0 && fstat(from, &status) == 0 &&
        sendfile(to, from, NULL, (size_t)status.st_size) == status.st_size)
        copy = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return copy;
}

static int load(void)
{
    void *handle = file[0] == '\0' ? dlopen(soname, RTLD_NOW | RTLD_LOCAL) : load_copy();
    const char *why = handle == NULL ? dlerror() : NULL;
    struct link_map *map = NULL;

    if (handle == NULL)
        return noria_fail(-ENOTSUP, "nats: takes the NATS C client, %s (Debian: libnats3.4), which cannot be loaded: %s",
                          soname, why != NULL ? why : "it cannot be copied");
#define FIND(name) \
    *(void **)(void *)&client.name = dlsym(handle, #name); \
    if (client.name == NULL) \
        return noria_fail(-ENOTSUP, "nats: %s has no " #name, soname);
    NORIA_NATS_FUNCTIONS(FIND)
    if (file[0] == '\0' && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0)
        snprintf(file, sizeof(file), "%s", map->l_name);
    return 0;
}

/* It starts threads, which shall take nobody's signals, and switches SIGPIPE off for the whole process, which is not ours
 * to do: its sockets ask for none, and where TLS cannot ask we hold it back (nats_link.c). */
static int start(void)
{
    struct sigaction before;
    sigset_t all, mask;
    natsStatus status;

    sigfillset(&all);
    sigaction(SIGPIPE, NULL, &before);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    status = client.nats_Open(-1);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigaction(SIGPIPE, &before, NULL);
    return status == NATS_OK ? 0 : noria_nats_fail(&client, status, 0, "the NATS client does not start");
}

const struct noria_nats_client *noria_nats_client(int *rc)
{
    *rc = 0;
    pthread_mutex_lock(&lock);
    if (owner != getpid()) {
        if (!has_hooks)
            has_hooks = pthread_atfork(before_fork, after_fork, after_fork) == 0;
        *rc = load();
        if (*rc == 0)
            *rc = start();
        if (*rc == 0)
            owner = getpid();
    }
    pthread_mutex_unlock(&lock);
    return *rc == 0 ? &client : NULL;
}

/* ------------------------------------------------------------------------------------------------------------ errors */

static int error_of_code(jsErrCode code)
{
    switch ((int)code) {
    case JSStreamNotFoundErr:
    case JSConsumerNotFoundErr:
        return -ENOENT;
    case JSNotEnabledErr:
    case JSNotEnabledForAccountErr:
        return -ENOTSUP;
    case JSStreamNameExistErr:
    case JSStreamSubjectOverlapErr:
    case JSConsumerNameExistErr:
        return -EEXIST;
    case JSAccountResourcesExceededErr:
    case JSInsufficientResourcesErr:
    case JSMemoryResourcesExceededErr:
    case JSStorageResourcesExceededErr:
    case JSMaximumStreamsLimitErr:
    case JSMaximumConsumersLimitErr:
        return -ENOSPC;
    case JSClusterNoPeersErr:
    case JSClusterNotAvailErr:
    case JSClusterNotLeaderErr:
    case JSClusterIncompleteErr:
        return -ENOTCONN;
    case JSStreamMessageExceedsMaximumErr:
        return -EMSGSIZE;
    default:
        return -EINVAL;
    }
}

static int error_of_status(natsStatus status)
{
    switch (status) {
    case NATS_NO_SERVER:
        return -ECONNREFUSED;
    case NATS_TIMEOUT:
        return -ETIMEDOUT;
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
        return -EACCES;
    case NATS_SSL_ERROR:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_SECURE_CONNECTION_REQUIRED:
    case NATS_PROTOCOL_ERROR:
        return -EPROTO;
    case NATS_ADDRESS_MISSING:
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
        return -EINVAL;
    case NATS_NO_MEMORY:
        return -ENOMEM;
    case NATS_SYS_ERROR:
        return -EHOSTUNREACH; /* of getaddrinfo, above all */
    case NATS_NOT_FOUND:
        return -ENOENT;
    case NATS_NO_RESPONDERS:
    case NATS_NO_SERVER_SUPPORT:
        return -ENOTSUP;
    case NATS_MAX_PAYLOAD:
        return -EMSGSIZE;
    case NATS_CONNECTION_CLOSED:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_STALE_CONNECTION:
        return -ENOTCONN;
    default:
        return -EIO;
    }
}

int noria_nats_fail(const struct noria_nats_client *from, natsStatus status, jsErrCode code, const char *about)
{
    natsStatus last = NATS_OK;
    const char *words = from->nats_GetLastError(&last);
    int rc = code != 0 ? error_of_code(code) : error_of_status(status);

    if (words == NULL || words[0] == '\0' || last != status)
        words = from->natsStatus_GetText(status);
    if (rc == -ENOTSUP)
        words = "the server has no JetStream (nats-server -js), or not for this account";
    return noria_fail(rc, "%s: %s", about, words);
}
