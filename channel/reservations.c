/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread may have one reservation at a time on a handle: two would commit in either order and break FIFO. The list
 * is the thread's own; handles are known by a number that is never used twice, so one that was closed with a
 * reservation out does no harm but to occupy a line.
 */
#include <errno.h>

#include "segment_channel.h"

enum { MOST_RESERVATIONS = 64 };
static _Thread_local uint64_t reserved_on[MOST_RESERVATIONS];

int noria_reservation_begin(uint64_t handle_id)
{
    uint64_t *free_line = NULL;

    for (int i = 0; i < MOST_RESERVATIONS; i++) {
        if (reserved_on[i] == handle_id)
            return -EBUSY;
        if (reserved_on[i] == 0 && free_line == NULL)
            free_line = &reserved_on[i];
    }
    if (free_line == NULL)
        return -EBUSY;
    *free_line = handle_id;
    return 0;
}

void noria_reservation_end(uint64_t handle_id)
{
    for (int i = 0; i < MOST_RESERVATIONS; i++)
        if (reserved_on[i] == handle_id)
            reserved_on[i] = 0;
}
