/* SPDX-License-Identifier: BSD-2-Clause */
/* What is nice to have of a mapping, and what there is of it on this machine. Nothing here fails: it is granted or
 * not. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "segment.h"

#ifndef MADV_POPULATE_WRITE /* newer than Debian 12's headers */
#define MADV_POPULATE_WRITE 23
#endif

enum { NODES = 1024, BITS = 8 * sizeof(unsigned long) };

/* The kernel takes the advice also where it never follows it. */
static bool has_huge_shared_pages(void)
{
    char text[128] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0)
        close(fd);
    return length > 0 && strstr(text, "[never]") == NULL && strstr(text, "[deny]") == NULL;
}

/* Of the pages that a mapping is made of. 0: not known. */
static size_t page_size_at(uintptr_t base)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    unsigned long kilobytes = 0;
    bool is_ours = false;
    char line[512]; /* of a longer one the rest is read as another, which matches nothing */

    while (file != NULL && kilobytes == 0 && fgets(line, sizeof(line), file) != NULL) {
        uintptr_t start, end;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            is_ours = base >= start && base < end;
        else if (is_ours)
            (void)!sscanf(line, "KernelPageSize: %lu kB", &kilobytes);
    }
    if (file != NULL)
        fclose(file);
    return (size_t)kilobytes * 1024;
}

static bool prefer_node(void *start, size_t size, int node)
{
    unsigned long nodes[NODES / BITS] = {0};

    if (node < 0 || node >= NODES)
        return false;
    nodes[(size_t)node / BITS] = 1UL << ((size_t)node % BITS);
    return syscall(SYS_mbind, start, size, MPOL_PREFERRED, nodes, (unsigned long)NODES, MPOL_MF_MOVE) == 0;
}

uint32_t noria_segment_wish(const struct noria_segment *segment, uint32_t wishes, int node)
{
    /* Of what has holes only the solid part: filling the rest would take memory that nobody asked for yet. */
    size_t size = segment->super.solid != 0 ? (size_t)segment->super.solid : segment->size;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), base = (uintptr_t)segment->base & ~(page - 1);
    void *start = (void *)base;
    uint32_t granted = 0;
    size_t made_of = (wishes & NORIA_SEGMENT_HUGE_PAGES) != 0 ? page_size_at(base) : 0;

    size += (size_t)((uintptr_t)segment->base - base);
    if (made_of > page) { /* reserved ones, which are in memory for good, and whole */
        granted |= NORIA_SEGMENT_HUGE_PAGES | (wishes & NORIA_SEGMENT_LOCKED);
        size = (size + made_of - 1) & ~(made_of - 1);
        wishes &= ~granted;
    }
    if ((wishes & NORIA_SEGMENT_NODE) != 0 && prefer_node(start, size, node)) /* before pages are touched */
        granted |= NORIA_SEGMENT_NODE;
    if ((wishes & NORIA_SEGMENT_HUGE_PAGES) != 0 && has_huge_shared_pages() && madvise(start, size, MADV_HUGEPAGE) == 0)
        granted |= NORIA_SEGMENT_HUGE_PAGES;
    if ((wishes & NORIA_SEGMENT_POPULATED) != 0 && madvise(start, size, MADV_POPULATE_WRITE) == 0)
        granted |= NORIA_SEGMENT_POPULATED;
    if ((wishes & NORIA_SEGMENT_LOCKED) != 0 && mlock(start, size) == 0)
        granted |= NORIA_SEGMENT_LOCKED;
    return granted;
}
