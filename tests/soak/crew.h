/* SPDX-License-Identifier: BSD-2-Clause */
/* What the processes of a soak do in their seats until they are killed or told to end. */
#ifndef NORIA_SOAK_CREW_H
#define NORIA_SOAK_CREW_H

#include <stdbool.h>
#include <stdint.h>

struct seat {
    const char *address;
    bool sends;
    bool copies;     /* a receiver that copies out, instead of peeking and releasing */
    bool alone;      /* the channel's only receiver */
    bool hurries;    /* a sender who is never held up */
    uint32_t levels; /* priorities */
    uint32_t stream; /* of a sender */
};

/* Opens the seat's handle, and works. Does not return. */
_Noreturn void work(const struct seat *seat, uint32_t number, uint64_t incarnation);

#endif
