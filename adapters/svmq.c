/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "svmq:KEY" or "svmq:/path" (its ftok) a System V message queue (sysvipc(7)). A message's type is 32 less its
 * priority, and the lowest type comes first. Such a queue is no file: there is nothing to poll, so waiting is asking
 * again, more and more seldom; and who is there is told by locks on a file in noria's folder.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

#include "adapters.h"
#include "detail.h"
#include "nap.h"
#include "place.h"
#include "queue.h"

enum { TYPES = 32, LEAST_SIZE = 128, FTOK_PROJECT = 'n', SIGNATURES = 4096 };

struct message {
    long type;
    uint8_t bytes[NORIA_MOST_PIECE];
};

/* Frames are made, and taken apart, where the calls want them: behind their type. */
struct svmq_handle {
    struct noria_kernel_queue base;
    int id;
    uint64_t bytes; /* of the queue */
    struct message *out, *in;
};

static struct svmq_handle *svmq_of(struct noria_adapter *adapter)
{
    return (struct svmq_handle *)(void *)adapter;
}

static int fail_gone(const struct noria_adapter *adapter, int error)
{
    if (error == EIDRM || error == EINVAL)
        return noria_fail(-EIDRM, "the queue 'svmq:%s' was removed", adapter->rest);
    return noria_fail(-error, "'svmq:%s': %s", adapter->rest, strerror(error));
}

static ssize_t put(struct noria_adapter *adapter, const struct iovec *pieces, int n, unsigned priority)
{
    struct svmq_handle *handle = svmq_of(adapter);

    assert(n == 1 && pieces->iov_base == handle->out->bytes);
    (void)n;
    handle->out->type = TYPES - (long)priority;
    if (msgsnd(handle->id, handle->out, pieces->iov_len, IPC_NOWAIT) == 0)
        return (ssize_t)pieces->iov_len;
    return errno == EAGAIN || errno == EINTR ? -EAGAIN : fail_gone(adapter, errno);
}

static ssize_t get(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room)
{
    struct svmq_handle *handle = svmq_of(adapter);
    ssize_t got;

    assert(bytes == handle->in->bytes); /* of a message nothing is left over */
    (void)inlet, (void)bytes;
    got = msgrcv(handle->id, handle->in, room, -TYPES, IPC_NOWAIT);
    if (got > 0)
        return got;
    return got == 0 || errno == ENOMSG || errno == EINTR ? -EAGAIN : fail_gone(adapter, errno);
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

static long limit(const char *name)
{
    char path[64];
    FILE *file;
    long value = -1;

    snprintf(path, sizeof(path), "/proc/sys/kernel/%s", name);
    file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%ld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

static int parse_key(const char *rest, key_t *key)
{
    char *end;
    unsigned long number;

    if (rest[0] == '/') {
        *key = ftok(rest, FTOK_PROJECT);
        return *key != -1 ? 0
                          : noria_fail(-errno, "'svmq:%s': the file that gives the key is not there: %s", rest,
                                       strerror(errno));
    }
    errno = 0;
    number = strtoul(rest, &end, 0);
    if (rest[0] < '0' || rest[0] > '9' || *end != '\0' || errno != 0 || number > UINT_MAX || number == IPC_PRIVATE)
        return noria_fail(-EINVAL, "'svmq:%s': write svmq:KEY with a number that is not 0, or svmq:/path", rest);
    *key = (key_t)number;
    return 0;
}

static int fail_to_open(int rc, const char *rest)
{
    switch (rc) {
    case -ENOENT:
        return noria_fail(rc, "there is no queue 'svmq:%s'; NORIA_CREATE makes it", rest);
    case -EEXIST:
        return noria_fail(rc, "'svmq:%s' is there already", rest);
    case -ENOSPC:
        return noria_fail(
            rc,
            "'svmq:%s': there are as many queues as there may be, %ld (/proc/sys/kernel/msgmni); ipcs -q lists them",
            rest, limit("msgmni"));
    case -EACCES:
        return noria_fail(rc, "'svmq:%s': this user may not use the queue of that key", rest);
    default:
        return noria_fail(rc, "'svmq:%s': %s", rest, strerror(-rc));
    }
}

static int open_queue(const char *rest, int flags, const struct noria_options *options)
{
    int64_t until_ns = noria_deadline_ns(options->wait_create_ns);
    int how = ((flags & NORIA_CREATE) != 0 ? IPC_CREAT : 0) | ((flags & NORIA_EXCL) != 0 ? IPC_EXCL : 0) |
              ((flags & NORIA_CREATE) != 0 ? (int)options->mode & 0777 : 0);
    key_t key;
    int rc = parse_key(rest, &key), id;

    if (rc != 0)
        return rc;
    while ((id = msgget(key, how)) < 0 && errno == ENOENT && noria_now_ns() < until_ns)
        noria_nap(until_ns);
    return id >= 0 ? id : fail_to_open(-errno, rest);
}

static int open_locks(int id)
{
    char name[32];

    snprintf(name, sizeof(name), "svmq-%d", id);
    return noria_place_open(name, O_CREAT);
}

/* ------------------------------------------------------------------------------------------ senders from other folders */

/* Whoever sends signs the file of locks in his own folder with his number, at a place that follows from it. The queue says
 * who sent last: if that process lives and has not signed here, its locks are in a folder that is not ours. */
static off_t place_of(pid_t pid)
{
    return (off_t)((size_t)(unsigned)pid % SIGNATURES * sizeof(int32_t));
}

static int sign(int locks)
{
    int32_t own = (int32_t)getpid();

    if (pwrite(locks, &own, sizeof(own), place_of(own)) == sizeof(own))
        return 0;
    return noria_fail(-errno, "who sends cannot be noted in noria's folder: %s", strerror(errno));
}

static bool has_signed(int locks, pid_t pid)
{
    int32_t signature = 0;

    return pread(locks, &signature, sizeof(signature), place_of(pid)) == sizeof(signature) && signature == pid;
}

static bool has_sender_elsewhere(struct svmq_handle *handle)
{
    struct msqid_ds status;
    pid_t last;

    if (msgctl(handle->id, IPC_STAT, &status) != 0)
        return false;
    last = status.msg_lspid; /* 0 if it is of another pid namespace */
    return last > 0 && last != getpid() && !has_signed(handle->base.locks, last) &&
           (kill(last, 0) == 0 || errno == EPERM);
}

static int look_round(struct noria_adapter *adapter, enum noria_side side)
{
    int rc = noria_kernel_queue_look_round(adapter, side);

    return rc == -EPIPE && has_sender_elsewhere(svmq_of(adapter)) ? 0 : rc;
}

/* ------------------------------------------------------------------------------------------------------------- opening */

static int take_room(struct svmq_handle *handle)
{
    struct noria_adapter *adapter = &handle->base.adapter;
    struct noria_inlet *inlet = adapter->inlet;

    handle->out = adapter->frames != NULL ? malloc(sizeof(*handle->out)) : NULL;
    handle->in = inlet != NULL ? malloc(sizeof(*handle->in)) : NULL;
    if ((adapter->frames != NULL && handle->out == NULL) || (inlet != NULL && handle->in == NULL)) {
        free(handle->out);
        free(handle->in);
        handle->out = handle->in = NULL;
        return noria_fail(-ENOMEM, "out of memory for messages of 'svmq:%s'", adapter->rest);
    }
    if (handle->out != NULL) {
        free(adapter->frames);
        adapter->frames = handle->out->bytes;
    }
    if (handle->in != NULL) {
        free(inlet->bytes);
        inlet->bytes = handle->in->bytes;
        inlet->room = sizeof(handle->in->bytes);
    }
    return 0;
}

static int take_part(struct svmq_handle *handle, int flags)
{
    struct noria_adapter *adapter = &handle->base.adapter;
    struct msqid_ds status;
    long most = limit("msgmax");
    uint64_t piece;
    int rc = 0;

    if (msgctl(handle->id, IPC_STAT, &status) != 0)
        return fail_to_open(-errno, adapter->rest);
    if (status.msg_perm.uid != geteuid() && status.msg_perm.uid != 0 && adapter->options.foreign == 0)
        return noria_fail(-EACCES, "'svmq:%s' belongs to user %u; options.foreign (--foreign) says that this is meant",
                          adapter->rest, status.msg_perm.uid);
    handle->bytes = status.msg_qbytes;
    piece = most > 0 && (uint64_t)most < handle->bytes ? (uint64_t)most : handle->bytes;
    piece = piece < NORIA_MOST_PIECE ? piece : NORIA_MOST_PIECE;
    if (piece < LEAST_SIZE)
        return noria_fail(-EINVAL,
                          "'svmq:%s' takes %llu bytes, too few for noria's messages (/proc/sys/kernel/msgmax, msgmnb)",
                          adapter->rest, (unsigned long long)piece);
    if ((flags & NORIA_SEND) != 0)
        rc = sign(handle->base.locks);
    if (rc != 0)
        return rc;
    rc = noria_kernel_queue_take_part(&handle->base, (uint32_t)piece, flags);
    return rc == 0 ? take_room(handle) : rc;
}

static void close_svmq(struct noria_adapter *adapter, bool stale)
{
    struct svmq_handle *handle = svmq_of(adapter);

    (void)stale;
    noria_kernel_queue_leave(&handle->base);
    if (handle->out != NULL)
        adapter->frames = NULL;
    if (handle->in != NULL)
        adapter->inlet->bytes = NULL;
    free(handle->out);
    free(handle->in);
}

static int open_svmq(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    struct noria_adapter *adapter;
    int rc = noria_adapter_make(&adapter, &noria_mechanism_svmq, sizeof(struct svmq_handle), rest, flags, options),
        locks;

    if (rc != 0)
        return rc;
    svmq_of(adapter)->id = rc = open_queue(rest, flags, &adapter->options);
    locks = rc >= 0 ? open_locks(rc) : rc;
    rc = locks;
    if (locks >= 0) {
        noria_kernel_queue_begin(noria_kernel_queue_of(adapter), locks);
        rc = take_part(svmq_of(adapter), flags);
        if (rc != 0)
            close_svmq(adapter, false);
    }
    if (rc != 0)
        noria_adapter_free(adapter);
    else
        *out = &adapter->base;
    return rc;
}

static void stat_queue(struct noria_adapter *adapter, struct noria_stat *stat)
{
    noria_kernel_queue_stat(adapter, stat);
    stat->footprint = svmq_of(adapter)->bytes;
}

/* The queue's id, or -errno with a sentence. */
static int find(const char *rest)
{
    key_t key;
    int rc = parse_key(rest, &key), id;

    if (rc != 0)
        return rc;
    id = msgget(key, 0);
    return id >= 0 ? id : fail_to_open(-errno, rest);
}

static int unlink_svmq(const char *rest)
{
    char name[32];
    int id = find(rest);

    if (id < 0)
        return id;
    if (msgctl(id, IPC_RMID, NULL) != 0)
        return fail_to_open(-errno, rest);
    snprintf(name, sizeof(name), "svmq-%d", id);
    noria_place_remove(name);
    return 0;
}

static int in_use(const char *rest)
{
    int id = find(rest), locks = id >= 0 ? open_locks(id) : id, rc;

    if (locks < 0)
        return locks;
    rc = noria_kernel_queue_is_used(locks);
    close(locks);
    return rc;
}

const struct noria_mechanism noria_mechanism_svmq = {.scheme = "svmq",
                                                     NORIA_KERNEL_QUEUE_MECHANISM(0),
                                                     .put = put,
                                                     .get = get,
                                                     .look_round = look_round,
                                                     .stat = stat_queue,
                                                     .open = open_svmq,
                                                     .close = close_svmq};
const struct noria_transport noria_transport_svmq = {"svmq", open_svmq, unlink_svmq, in_use};
