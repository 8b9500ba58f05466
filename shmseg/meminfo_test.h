/* SPDX-License-Identifier: BSD-2-Clause */
/* What the kernel says of the machine's memory, in its place. To be included once in a program. */
#ifndef NORIA_MEMINFO_TEST_H
#define NORIA_MEMINFO_TEST_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char *meminfo; /* NULL: the true one */

/* In place of the C library's, for the library under test, too. */
FILE *fopen(const char *file, const char *mode)
{
    static FILE *(*real)(const char *, const char *);

    if (meminfo != NULL && strcmp(file, "/proc/meminfo") == 0)
        return fmemopen((void *)(uintptr_t)meminfo, strlen(meminfo), "r");
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    return real(file, mode);
}

#endif
