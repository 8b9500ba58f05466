/* SPDX-License-Identifier: BSD-2-Clause */
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "number.h"
#include "strategy.h"

void noria_path_add(struct noria_path *path, const char *text)
{
    while (*text != '\0' && path->length < sizeof(path->text) - 1)
        path->text[path->length++] = *text++;
    path->text[path->length] = '\0';
}

void noria_path_add_number(struct noria_path *path, uint64_t number, unsigned base, unsigned digits)
{
    char text[NORIA_NUMBER_BYTES];

    noria_number_print(text, number, base, digits);
    noria_path_add(path, text);
}

int noria_descriptor_wait(int fd, int64_t until_ns)
{
    struct pollfd poll = {.fd = fd, .events = POLLIN};
    int64_t left_ns = until_ns - noria_now_ns();
    struct timespec left;
    int count;

    if (left_ns < 0)
        left_ns = 0;
    left = noria_timespec_of(left_ns);
    count = ppoll(&poll, 1, &left, NULL);
    if (count > 0 && (poll.revents & POLLIN) == 0)
        count = ppoll(NULL, 0, &left, NULL); /* not a descriptor any more: no reason to burn a core */
    return count < 0 && errno == EINTR ? -EINTR : 0;
}

void noria_descriptor_ring(int fd, const void *ring, uint32_t ring_bytes)
{
    struct pollfd poll_room = {.fd = fd, .events = POLLOUT};
    const struct timespec at_once = {0, 0};
    int flags;

    if (ppoll(&poll_room, 1, &at_once, NULL) == 0)
        return; /* full: it has rung enough */
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) == 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    (void)!write(fd, ring, ring_bytes); /* full meanwhile: as above */
}

int noria_descriptor_adopt(struct noria_bell *bell, int newer, const void *ring, uint32_t ring_bytes)
{
    int rc = 0;

    if (bell->fd < 0) {
        bell->fd = newer;
        return 0;
    }
    noria_descriptor_ring(bell->fd, ring, ring_bytes);
    if (dup3(newer, bell->fd, O_CLOEXEC) < 0)
        rc = -errno;
    close(newer);
    return rc;
}

bool noria_descriptor_is_current(struct noria_bell *bell, const uint32_t *word)
{
    /* Acquire: whoever changed the word has published before where the new object is to be found. */
    return noria_load_acquire32(&bell->state) == noria_load_acquire32(word);
}

int noria_descriptor_agree(struct noria_bell *bell,
                           int (*settle)(struct noria_bell *bell, uint32_t *identity))
{
    uint32_t before = noria_load_acquire32(&bell->state), identity;
    int rc;

    /* Another thread, or the call that this signal handler interrupted, is at it: what there is has to do. */
    if (before == NORIA_DESCRIPTOR_CHANGING ||
        !noria_cas_acq_rel32(&bell->state, &before, NORIA_DESCRIPTOR_CHANGING))
        return 0;
    identity = before;
    rc = settle(bell, &identity);
    noria_store_release32(&bell->state, identity);
    if (rc < 0)
        return rc;
    return identity != before ? 1 : 0;
}
