/* SPDX-License-Identifier: BSD-2-Clause */
/* Which results a call may end with. */
#ifndef NORIA_DOCUMENTED_H
#define NORIA_DOCUMENTED_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* 0, a count, or an error that noria.h names: in its table, or where noria_open is declared. */
static inline bool is_documented(ssize_t rc)
{
    static const int known[] = {EAGAIN, ETIMEDOUT, EMSGSIZE, EBUSY, EINVAL, EPIPE, ECANCELED, ESTALE, EBADMSG, EPROTO, ENOTSUP,
                                EDEADLK, EIO, EOWNERDEAD, ENOENT, EEXIST, EACCES, EPERM, ENOSPC, EMFILE, ENFILE, ENOMEM, EFBIG,
                                ELOOP, ENAMETOOLONG, EROFS, ENOLCK, ENOSYS, EINTR};
    bool found = rc >= 0;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
        found = rc == -known[i];
    return found;
}

#endif
