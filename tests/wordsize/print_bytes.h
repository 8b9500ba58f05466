/* SPDX-License-Identifier: BSD-2-Clause */
/* Prints every field of every shared struct, as this program's word size has it. */
#ifndef NORIA_PRINT_BYTES_H
#define NORIA_PRINT_BYTES_H

#include <stdio.h>

#include "bytes.h"

#define PRINT_STRUCT(tag, LIST) \
    do { \
        NORIA_FIELDS_OF(tag, LIST); \
        fprintf(out, "%zu %s\n", sizeof(struct_in_question), #tag); \
        for (const struct noria_field *field = fields; field->name != NULL; field++) \
            fprintf(out, "    %u %u %s\n", (unsigned)field->offset, (unsigned)field->size, field->name); \
    } while (0);

static inline void print_bytes(FILE *out)
{
    ALL_STRUCTS(PRINT_STRUCT)
}

#endif
