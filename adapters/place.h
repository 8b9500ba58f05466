/* SPDX-License-Identifier: BSD-2-Clause */
/* The folder of small files that this user's processes agree by: $NORIA_DIR, else $XDG_RUNTIME_DIR/noria, else
 * /tmp/noria-UID. */
#ifndef NORIA_PLACE_H
#define NORIA_PLACE_H

/* Opens a file there, made if it is missing, to be locked. -errno with a sentence. */
int noria_place_open(const char *name);
/* Removes it. */
void noria_place_remove(const char *name);

#endif
