/* SPDX-License-Identifier: BSD-2-Clause */
/* The folder of small files that this user's processes agree by: $NORIA_DIR, else $XDG_RUNTIME_DIR/noria, else
 * /tmp/noria-UID. It is the caller's or root's, nobody else may write into it, and it is no symbolic link. */
#ifndef NORIA_PLACE_H
#define NORIA_PLACE_H

#include <stddef.h>

/* Opens a file there that is a plain file of the caller's or root's, to be locked; `how` O_CREAT makes it if it is
 * missing, and the folder, too. -errno with a sentence. */
int noria_place_open(const char *name, int how);
/* Removes it. 0, -errno. */
int noria_place_remove(const char *name);
/* Its path. 0, -ENAMETOOLONG. */
int noria_place_path(char *path, size_t size, const char *name);

#endif
