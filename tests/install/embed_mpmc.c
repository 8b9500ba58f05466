/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: with nothing but noria/mpmc.h and noria/atomic.h beside it a program has a working ring in its own memory. */
#include <noria/mpmc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES = 1000 };

static int failed(const char *what)
{
    fprintf(stderr, "embed_mpmc: %s\n", what);
    return 1;
}

int main(void)
{
    struct noria_mpmc_config config;
    struct noria_mpmc_handle sender, receiver;
    unsigned sent = 0, received = 0;
    void *memory;
    size_t size;

    memset(&config, 0, sizeof(config));
    config.capacity = 16;
    config.max_message = 32;
    config.pack = 1;
    config.owners = 4;
    config.max_held = 1;

    size = (noria_mpmc_footprint(&config) + 63) & ~(size_t)63;
    memory = aligned_alloc(64, size);
    if (memory == NULL || noria_mpmc_format(memory, size, &config) != 0)
        return failed("format");
    if (noria_mpmc_join(&sender, memory, size, 1) != 0 || noria_mpmc_join(&receiver, memory, size, 2) != 0)
        return failed("join");

    /* Fill the ring to the brim, then empty it, again and again: every lap and both "no" answers are met. */
    while (received < MESSAGES) {
        unsigned value;
        size_t len = 0;

        while (sent < MESSAGES && noria_mpmc_send(&sender, &sent, sizeof(sent)) == 0)
            sent++;
        while (noria_mpmc_recv(&receiver, &value, sizeof(value), &len) >= 0) {
            if (len != sizeof(value) || value != received)
                return failed("another message than the one sent");
            received++;
        }
        if (sent != received)
            return failed("messages lost or invented");
    }
    free(memory);
    return 0;
}
