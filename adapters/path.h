/* SPDX-License-Identifier: BSD-2-Clause */
/* Names in the file system: whose they are, and what stands there. */
#ifndef NORIA_PATH_H
#define NORIA_PATH_H

#include <sys/types.h>

#include <noria/noria.h>

/* Whether the open file is of that type, and the caller's, root's, or allowed to be another's. 0, -EINVAL, -EACCES with
 * a sentence. */
int noria_path_check(int fd, const char *path, mode_t type, const char *what, const struct noria_options *options);
/* Removes a name of that type. */
int noria_path_unlink(const char *path, mode_t type, const char *scheme, const char *what);
/* A sentence for an error of the system. Returns rc. */
int noria_path_fail(int rc, const char *scheme, const char *path);

#endif
