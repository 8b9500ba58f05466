/* SPDX-License-Identifier: BSD-2-Clause */
#include "detail.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

/* Initial-exec: the usual model allocates in a thread's first use, which a signal handler must not. */
#define OF_THREAD static _Thread_local __attribute__((tls_model("initial-exec")))
OF_THREAD char sentence_of_thread[512];
OF_THREAD const char *last = "";
OF_THREAD bool muted;

int noria_fail(int rc, const char *sentence, ...)
{
    va_list arguments;

    if (muted)
        return rc;
    va_start(arguments, sentence);
    vsnprintf(sentence_of_thread, sizeof(sentence_of_thread), sentence, arguments);
    va_end(arguments);
    last = sentence_of_thread;
    return rc;
}

bool noria_detail_mute(bool mute)
{
    bool before = muted;

    muted = mute;
    return before;
}

int noria_fail_plain(int rc)
{
    if (!muted)
        last = noria_error_words(rc);
    return rc;
}

const char *noria_last_detail(void)
{
    return last;
}

/* Errors that have a meaning of their own here; the rest are the system's. */
static const struct {
    int error;
    const char *words;
} meanings[] = {
    {0, "done"},
    {EAGAIN, "the channel is full or empty"},
    {ETIMEDOUT, "the channel stayed full or empty until the deadline"},
    {EMSGSIZE, "the message does not fit"},
    {EPIPE, "end of stream: the other side has left"},
    {EBUSY, "the role or quota is taken"},
    {ECANCELED, "the handle was shut down"},
    {ESTALE, "the handle was inherited over fork; use noria_reopen"},
    {EBADMSG, "the segment is corrupt"},
    {EIO, "the segment is lost: another process has truncated it, or its device fails"},
    {EPROTO, "the segment has another layout version"},
    {ENOTSUP, "not supported by this transport"},
    {EOWNERDEAD, "the receiver died while it was taking the message; or this handle was taken for dead"},
    {EDEADLK, "another call is running in the same role of this handle"},
    {ENOENT, "there is no channel of that name"},
    {EEXIST, "the name is taken"},
    {EINVAL, "an argument or option is not valid"},
    {EACCES, "permission denied"},
    {ENOSPC, "no space left for the segment"},
    {ENOMEM, "out of memory"},
    {EMFILE, "too many open files"},
    {EINTR, "a signal handler interrupted the wait"},
};

const char *noria_error_words(int rc)
{
    long error = rc < 0 ? -(long)rc : rc;

    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
        if (meanings[i].error == error)
            return meanings[i].words;
    return "an unexpected error of the system";
}
