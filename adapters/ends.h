/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes into and out of a descriptor without waiting and without SIGPIPE, whatever it is a descriptor of. */
#ifndef NORIA_ENDS_H
#define NORIA_ENDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum noria_end_kind {
    NORIA_END_PIPE,   /* a description of our own, O_NONBLOCK */
    NORIA_END_SOCKET, /* asks with each call not to be made to wait */
    NORIA_END_FILE,   /* a regular file: never waits */
    NORIA_END_OTHER   /* a terminal, a device, or a pipe that could not be opened anew: asked before each call */
};

struct noria_end {
    int fd;
    enum noria_end_kind kind;
    bool is_promised; /* SIGPIPE is ignored: nothing is to be done about it */
    bool masks; /* the kernel (before Linux 6.18) cannot be asked to leave SIGPIPE away */
};

/* An end of our own on what `fd` is an end of, to read (O_RDONLY) or to write (O_WRONLY). 0, or -errno with a sentence.
 */
int noria_end_open(struct noria_end *end, int fd, int access);

/* A count, -EAGAIN, -EPIPE nobody is at the other end, or -errno with a sentence. */
ssize_t noria_end_write(struct noria_end *end, const struct iovec *pieces, int n);
/* The same of whole pages, which the pipe does not copy but keeps until they are read. -ENOTSUP: the system does not do it. */
ssize_t noria_end_lend(struct noria_end *end, const struct iovec *pieces, int n);
/* As a write; 0: the end of the stream. */
ssize_t noria_end_read(const struct noria_end *end, void *bytes, size_t room);

/* A number that a socket has (SO_TYPE, …); -1: it is none. */
int noria_end_ask(int fd, int what);

/* What a call comes to that the system refused with that error. */
ssize_t noria_end_refused_write(int error);
ssize_t noria_end_refused_read(const struct noria_end *end, int error);

/* Claims a pipe for one reader. 0, -EBUSY with a sentence. */
int noria_end_claim(const struct noria_end *end, const char *scheme, const char *name);

#endif
