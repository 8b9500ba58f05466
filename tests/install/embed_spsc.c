/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: with nothing but noria/spsc.h and noria/atomic.h beside it a program has a working ring in its own memory. */
#include <noria/spsc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_BYTES = 256, MESSAGES = 1000 };

static int failed(const char *what)
{
    fprintf(stderr, "embed_spsc: %s\n", what);
    return 1;
}

int main(void)
{
    size_t size = (noria_spsc_footprint(CAPACITY_BYTES) + 63) & ~(size_t)63;
    void *memory = aligned_alloc(64, size);
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    unsigned sent = 0, received = 0;

    if (memory == NULL || noria_spsc_format(memory, size, CAPACITY_BYTES, 0) != 0)
        return failed("format");
    if (noria_spsc_join_producer(&producer, memory, size, 1) != 0 ||
        noria_spsc_join_consumer(&consumer, memory, size, 2) != 0)
        return failed("join");

    /* Fill the ring to the brim, then empty it, again and again: every wrap and both "no" answers are met. */
    while (received < MESSAGES) {
        struct noria_spsc_record record;

        while (sent < MESSAGES && noria_spsc_reserve(&producer, sizeof(sent), &record) == 0) {
            memcpy(record.data, &sent, sizeof(sent));
            if (noria_spsc_commit(&producer, &record, sizeof(sent)) != 0)
                return failed("commit");
            sent++;
        }
        while (noria_spsc_peek(&consumer, &record) == 0) {
            if (record.len != sizeof(received) || memcmp(record.data, &received, sizeof(received)) != 0)
                return failed("another message than the one sent");
            if (noria_spsc_release(&consumer, &record) != 0)
                return failed("release");
            received++;
        }
        if (sent != received)
            return failed("messages lost or invented");
    }
    free(memory);
    return 0;
}
