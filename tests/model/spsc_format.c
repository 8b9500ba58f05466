/* SPDX-License-Identifier: BSD-2-Clause */
/* Question: does whoever sees the magic see a whole ring, even if nothing but the magic orders him after
 * format? */
#include "checker.h"

#ifdef MODEL_CHECKER
#undef ZERO
#define ZERO(to) leave_zero /* it is, and format's plain zeroing may not run beside a look at the magic */
static inline void leave_zero(void *to, size_t size)
{
    (void)to, (void)size;
}
#endif

#include <noria/spsc.h>

#define CAPACITY 256

static _Alignas(64) uint64_t memory[(256 + CAPACITY) / 8];
static uint32_t formatted; /* relaxed, it orders nothing */

static void *format(void *unused)
{
    (void)unused;
    start_together(2);
    assert(noria_spsc_format(memory, sizeof(memory), CAPACITY, 64) == 0);
    noria_store_relaxed32(&formatted, 1);
    return NULL;
}

static void *join(void *unused)
{
    struct noria_spsc_producer producer;
    struct noria_spsc_consumer consumer;
    struct noria_spsc_record record;
    int rc;

    (void)unused;
    start_together(2);
    while (noria_load_relaxed32(&formatted) == 0)
        if (!try_again())
            return NULL;
    rc = noria_spsc_join_producer(&producer, memory, sizeof(memory), 1);
    if (rc == -EBADMSG && THREADS_OR_CHECKER(false, true))
        return NULL; /* it has not seen the magic yet */
    assert(rc == 0 && noria_spsc_join_consumer(&consumer, memory, sizeof(memory), 2) == 0);
    assert(producer.write_pos == 64 && consumer.peek_pos == 64);
    assert(noria_spsc_peek(&consumer, &record) == -EAGAIN);
    return NULL;
}

int main(void)
{
    void *(*const threads[])(void *) = {format, join};

    for (int round = 0; round < ROUNDS; round++) {
        noria_store_relaxed64(&memory[0], 0);
        noria_store_relaxed32(&formatted, 0);
        run_threads(threads, 2);
    }
    return 0;
}
