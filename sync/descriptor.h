/* SPDX-License-Identifier: BSD-2-Clause */
/* What the bells with a descriptor share (fifo.c, eventfd.c). All of it is async-signal-safe: no memory is
 * allocated. */
#ifndef NORIA_DESCRIPTOR_H
#define NORIA_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

/* bell->state while one thread changes the bell's descriptor. No identity has this value. */
#define NORIA_DESCRIPTOR_CHANGING UINT32_MAX

struct noria_bell;

/* A path in the making: snprintf may not be called in a signal handler. Too long a text is cut. */
struct noria_path {
    char text[96];
    uint32_t length;
};

void noria_path_add(struct noria_path *path, const char *text);
void noria_path_add_number(struct noria_path *path, uint64_t number, unsigned base, unsigned digits);

/* Waits until the descriptor is readable, until `until_ns` at the latest. 0, or -EINTR if a signal handler
 * ran. */
int noria_descriptor_wait(int fd, int64_t until_ns);

/* Writes, without ever blocking: all who share the description may have switched O_NONBLOCK off, by
 * mistake or to hold us up. */
void noria_descriptor_ring(int fd, const void *ring, uint32_t ring_bytes);

/* Puts `newer` behind the number of the bell's descriptor, which users have in their poll sets, and closes
 * `newer`. Whoever sleeps at the old one is woken. 0, or -errno. */
int noria_descriptor_adopt(struct noria_bell *bell, int newer, const void *ring, uint32_t ring_bytes);

/* Whether the bell's descriptor is the one that `word` names. */
bool noria_descriptor_is_current(struct noria_bell *bell, const uint32_t *word);

/* Lets one thread at a time run settle(bell, &identity), which makes the bell's descriptor the one that
 * the shared word names, or the other way round. 1: the descriptor is another one now; 0; or -errno. */
int noria_descriptor_agree(struct noria_bell *bell,
                           int (*settle)(struct noria_bell *bell, uint32_t *identity));

#endif
