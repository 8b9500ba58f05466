/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages that bring descriptors (SCM_RIGHTS), over Unix sockets alone. The kernel gives descriptors with the read that
 * takes the first byte of the write they went with, and that read ends with that write: so a frame that says it brings some
 * is the last one to begin in its read, and the first byte of it is where they are.
 *
 * Asking for descriptors (recvmsg) costs each read a tenth more than recv. So a receiver asks only where somebody has said
 * that he will send some: a greeting with NORIA_FRAME_FDS, which brings one itself. The kernel throws that one away, as any
 * that nobody asks for, and ends the read there, before what follows; from then on that inlet is asked. A read that has
 * filled its room may have cut the greeting and taken its descriptor away, so the one after it asks, too.
 *
 * An inlet holds one set at most: while one waits for the rest of its frame nothing but that is read.
 */
#ifndef NORIA_DESCRIPTORS_H
#define NORIA_DESCRIPTORS_H

#include <noria/noria.h>

#include "ends.h"
#include "frame.h"
#include "transport.h"

struct noria_adapter;
struct noria_inlet;
struct noria_outgoing;

/* What a read brought, from there until its frame is received. */
struct noria_brought {
    bool held;
    bool cut; /* there were more than this process could take */
    int count; /* above NORIA_MOST_FDS: more than any frame brings; they are closed */
    size_t from, to; /* where in the inlet's bytes the read stands */
    int fds[NORIA_MOST_FDS];
    struct noria_fork_guard guards[NORIA_MOST_FDS]; /* a child has none of them */
};

/* ---------------------------------------------------------------------------------------------------------- sending */

/* Puts a frame together with its message's descriptors, which go with the first byte; before the first such frame, that
 * there will be some. As a mechanism's put. */
ssize_t noria_adapter_put_fds(struct noria_adapter *adapter, const struct noria_outgoing *message,
                              const struct iovec *pieces, int n);

/* -------------------------------------------------------------------------------------------------------- receiving */

/* As noria_end_read, into the inlet's bytes; what comes with them is held. */
ssize_t noria_adapter_read_fds(struct noria_adapter *adapter, struct noria_inlet *inlet, void *bytes, size_t room);
/* Holds what came with `len` bytes at `at` of the inlet's: `count` descriptors, of which up to NORIA_MOST_FDS are here. */
void noria_adapter_hold_fds(struct noria_adapter *adapter, struct noria_inlet *inlet, const int *fds, int count, bool cut,
                            size_t at, size_t len);

/* For a frame that stands at the inlet's beginning and says that it brings descriptors: 0 they are there, or would be if
 * this process could take them; -EBADMSG they are not. */
int noria_inlet_find_fds(const struct noria_inlet *inlet, const struct noria_frame *frame);
/* That frame is the message that comes next. */
void noria_adapter_announce_fds(struct noria_adapter *adapter, const struct noria_frame *frame);
/* That frame is the greeting of who will send some. */
void noria_inlet_expect_fds(struct noria_inlet *inlet, const struct noria_frame *frame);
/* Nobody takes what the inlet holds, if it holds any. */
void noria_adapter_drop_fds(struct noria_adapter *adapter, struct noria_inlet *inlet);

/* Before a read of an inlet that holds some, of which all whole frames are taken. 0: they wait for the frame that has begun;
 * -EBADMSG: a stranger's; they are closed if no frame of the bytes they came with can want them. */
int noria_adapter_keep_fds(struct noria_adapter *adapter, struct noria_inlet *inlet);
/* `by` bytes at the beginning of the inlet's have gone. */
void noria_brought_move(struct noria_brought *brought, size_t by);
/* How many bytes are missing of the frame at the inlet's beginning, or of its header. */
size_t noria_inlet_missing(const struct noria_inlet *inlet);

/* -ENOTSUP, with a sentence. */
int noria_adapter_refuse_fds(const struct noria_adapter *adapter);

ssize_t noria_adapter_recv_fds(noria_channel *channel, void *buffer, size_t capacity, int *fds, int *n,
                               int64_t timeout_ns, struct noria_info *info);

#endif
