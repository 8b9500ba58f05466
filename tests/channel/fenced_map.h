/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments between guard pages: every shared mapping that the library makes has a stretch on both sides that nobody may
 * touch, so that an access outside is a signal. Takes the C library's place in the whole program; once per program.
 */
#ifndef NORIA_FENCED_MAP_H
#define NORIA_FENCED_MAP_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FENCE ((size_t)1 << 20)

static struct {
    uint8_t *base; /* of the last segment that was mapped */
    size_t size;
} fenced;

static inline size_t in_pages(size_t size)
{
    return (size + 4095) & ~(size_t)4095;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    uint8_t *all, *base;

    if ((flags & MAP_SHARED) == 0 || fd < 0 || at != NULL)
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    all = (uint8_t *)syscall(SYS_mmap, NULL, in_pages(size) + 2 * FENCE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return MAP_FAILED;
    base = (uint8_t *)syscall(SYS_mmap, all + FENCE, size, protection, flags | MAP_FIXED, fd, offset);
    if (base != MAP_FAILED) {
        fenced.base = base;
        fenced.size = size;
    }
    return base;
}

/* The fences of what is unmapped stay: a later access there is a fault, too. */
int munmap(void *at, size_t size)
{
    return (int)syscall(SYS_munmap, at, size);
}

#endif
