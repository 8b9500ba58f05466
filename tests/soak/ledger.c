/* SPDX-License-Identifier: BSD-2-Clause */
#include "ledger.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct ledger *ledger;

void ledger_begin(void)
{
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (ledger == MAP_FAILED) {
        perror("no memory for the ledger");
        exit(1);
    }
}

void ledger_end(void)
{
    munmap(ledger, sizeof(*ledger));
}

void accuse(const char *sentence, ...)
{
    va_list arguments;

    if (__atomic_exchange_n(&ledger->failed, 1, __ATOMIC_ACQ_REL) == 0) {
        va_start(arguments, sentence);
        vsnprintf(ledger->failure, sizeof(ledger->failure), sentence, arguments);
        va_end(arguments);
        __atomic_store_n(&ledger->failed, 2, __ATOMIC_RELEASE);
    }
    _exit(1);
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* ----------------------------------------------------------------------------------------------- messages */

static uint64_t checksum_of(const struct message *message)
{
    struct message copy;
    uint64_t sum = 14695981039346656037u; /* FNV-1a */

    memcpy(&copy, message, message->length);
    copy.checksum = 0;
    for (uint32_t i = 0; i < message->length; i++)
        sum = (sum ^ ((const uint8_t *)&copy)[i]) * 1099511628211u;
    return sum;
}

size_t make_message(struct message *message, uint32_t stream, uint64_t number, uint32_t level)
{
    size_t filler = (size_t)(number * 2654435761u >> 7) % (sizeof(message->filler) + 1);

    message->stream = (uint16_t)stream;
    message->level = (uint16_t)level;
    message->length = (uint32_t)(offsetof(struct message, filler) + filler);
    message->number = number;
    memset(message->filler, (int)(number & 0xff), filler);
    message->checksum = checksum_of(message);
    return message->length;
}

static void check_message(const struct message *message, size_t length)
{
    if (length < offsetof(struct message, filler) || length > sizeof(*message) || message->length != length)
        accuse("garbage: a message of %zu bytes", length);
    if (message->stream >= STREAMS || message->level >= LEVELS || message->number >= MOST_MESSAGES ||
        message->checksum != checksum_of(message))
        accuse("garbage: a message whose checksum is wrong");
}

/* ------------------------------------------------------------------------------------------------ sending */

uint64_t next_number(uint32_t stream)
{
    struct stream *mine = &ledger->streams[stream];
    uint64_t attempted = load(&mine->attempted);

    for (uint64_t number = load(&mine->committed) + 1; number <= attempted; number++)
        __atomic_store_n(&mine->in_doubt[number], 1, __ATOMIC_RELAXED);
    store(&mine->committed, attempted);
    return attempted + 1;
}

void note_attempt(uint32_t stream, uint64_t last)
{
    store(&ledger->streams[stream].attempted, last);
}

void note_committed(uint32_t stream, uint64_t last)
{
    store(&ledger->streams[stream].committed, last);
    store(&ledger->streams[stream].attempted, last);
}

/* ---------------------------------------------------------------------------------------------- receiving */

static void check_order(struct stream *stream, const struct message *message, uint64_t *last, bool alone)
{
    if (message->number <= *last)
        accuse("order: %u/%llu after %llu", message->stream, (unsigned long long)message->number,
               (unsigned long long)*last);
    *last = message->number;
    if (!alone)
        return;
    if (message->number <= load(&stream->last_taken_in_order))
        accuse("order: %u/%llu after %llu, taken by an earlier receiver", message->stream,
               (unsigned long long)message->number, (unsigned long long)load(&stream->last_taken_in_order));
    store(&stream->last_taken_in_order, message->number);
}

void note_taken(const void *data, size_t length, const struct noria_info *info,
                uint64_t last[STREAMS][LEVELS], bool alone)
{
    const struct message *message = data;
    bool redelivered = (info->flags & NORIA_REDELIVERED) != 0;
    struct stream *stream;
    uint8_t before;

    check_message(message, length);
    stream = &ledger->streams[message->stream];
    if (message->level != info->priority)
        accuse("%u/%llu was sent at level %u and came at level %u", message->stream,
               (unsigned long long)message->number, message->level, info->priority);
    if (message->number > load(&stream->attempted))
        accuse("invention: %u/%llu was never sent", message->stream, (unsigned long long)message->number);
    if (__atomic_load_n(&stream->released[message->number], __ATOMIC_ACQUIRE) != 0)
        accuse("a released message came back: %u/%llu", message->stream, (unsigned long long)message->number);
    before = __atomic_load_n(&stream->taken[message->number], __ATOMIC_ACQUIRE); /* nobody else has it */
    if (before != 0 && !redelivered)
        accuse("a duplicate without the flag: %u/%llu", message->stream, (unsigned long long)message->number);
    if (before != 0 && stream->sequence[message->number] != (uint8_t)info->sequence)
        accuse("%u/%llu came again with another sequence", message->stream,
               (unsigned long long)message->number);
    stream->sequence[message->number] = (uint8_t)info->sequence;
    if (!redelivered)
        check_order(stream, message, &last[message->stream][message->level], alone);
    if (before < UINT8_MAX)
        __atomic_store_n(&stream->taken[message->number], before + 1, __ATOMIC_RELEASE);
}

void note_released(const void *data)
{
    const struct message *message = data;

    __atomic_store_n(&ledger->streams[message->stream].released[message->number], 1, __ATOMIC_RELEASE);
}

void strike_balance(uint32_t number, struct balance *balance)
{
    const struct stream *stream = &ledger->streams[number];

    memset(balance, 0, sizeof(*balance));
    for (uint64_t i = 1; i <= stream->attempted; i++) {
        bool doubtful = stream->in_doubt[i] != 0 || i > stream->committed;
        balance->sent += !doubtful;
        balance->in_doubt += doubtful;
        balance->doubtful_arrived += doubtful && stream->taken[i] != 0;
        balance->missing += !doubtful && stream->taken[i] == 0;
        balance->taken_again += stream->taken[i] > 1;
        balance->in_hands += stream->taken[i] != 0 && stream->released[i] == 0;
    }
}
