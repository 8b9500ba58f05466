/* SPDX-License-Identifier: BSD-2-Clause */
/* What backends share whose segments are files that are mapped: of POSIX shared memory, memfds, on disk. */
#ifndef NORIA_MAPPED_FILE_H
#define NORIA_MAPPED_FILE_H

#include <sys/stat.h>

#include "segment.h"

int noria_file_obtain_again(struct noria_segment *segment, const struct noria_segment *other);
int noria_file_look(const struct noria_segment *segment, struct noria_segment_facts *facts);
ssize_t noria_file_read(const struct noria_segment *segment, void *to, size_t size, uint64_t offset);
int noria_file_set_mode(struct noria_segment *segment, const struct noria_segment_request *request);
int noria_file_reserve(struct noria_segment *segment, const struct noria_segment_request *request);
int noria_file_map(struct noria_segment *segment, uint64_t size);
int noria_file_map_view(struct noria_segment *segment, uint64_t size);
void noria_file_settle(struct noria_segment *segment);
void noria_file_close(struct noria_segment *segment);
int noria_file_lock(const struct noria_segment *segment, uint32_t lock);
void noria_file_unlock(const struct noria_segment *segment, uint32_t lock);
int noria_file_held(const struct noria_segment *segment, uint32_t lock);
int noria_file_any_held(const struct noria_segment *segment);
int noria_file_fill(const struct noria_segment *segment, uint64_t offset, uint64_t size);
int noria_file_drop(const struct noria_segment *segment, uint64_t offset, uint64_t size);

/* The descriptor is obtained: notes which file it is. */
int noria_file_obtained(struct noria_segment *segment, int fd);
/* Reads what the file has of data into memory of our own, as base. -EBADMSG it shrank meanwhile, -EFBIG it is more than a
 * quarter of the memory that is free, -errno; plain. */
int noria_file_copy(struct noria_segment *segment, uint64_t size);
/* Nothing to seal: anybody with the rights can make the file smaller. */
int noria_file_leave_unsealed(struct noria_segment *segment);
/* What backends with paths do to unlink. */
int noria_file_unlink(struct noria_segment *segment, const char *name, const char *path, int64_t until_ns);
void noria_file_facts_of(const struct stat *status, struct noria_segment_facts *facts);
/* Opens NAME with the flags, in a way that a stranger's file there does no harm. -1 and errno. */
typedef int noria_file_opener(const char *name, int flags, mode_t mode);
/* Opens the name, or makes it if it is missing and that is asked for. The descriptor, or -1 and errno: EAGAIN if the
 * name appears and vanishes all the time. */
int noria_file_open_or_make(noria_file_opener *opener, const struct noria_segment_request *request, bool *made);

/* All but: scheme, named, on_disk, obtain, obtain_view, seal, unlink, describe, list. */
#define NORIA_FILE_VERBS \
    .obtain_again = noria_file_obtain_again, .look = noria_file_look, .read = noria_file_read, \
    .set_mode = noria_file_set_mode, .reserve = noria_file_reserve, .map = noria_file_map, \
    .map_view = noria_file_map_view, .settle = noria_file_settle, .close = noria_file_close, .lock = noria_file_lock, \
    .unlock = noria_file_unlock, .held = noria_file_held, .any_held = noria_file_any_held, .fill = noria_file_fill, \
    .drop = noria_file_drop

#endif
