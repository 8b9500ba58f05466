/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What was sent and what was received, in memory that outlives whoever is killed. Each process writes down
 * what it is about to do and what it has done, so that after a death exactly the calls in progress are in
 * doubt and nothing else:
 *
 *     sender     attempted = n | send | committed = n        dead in between: n may be there or not, and is
 * not sent again receiver   peek | taken + 1 | release | released       dead before the release is over: it
 * may come back, flagged copying    window = k | recv | taken + 1 | window = 0   dead in between: up to k
 * messages were taken and not noted
 *
 * A message is a stream (the sender's seat) and a number in it; a number is used once. Memory is had as it is
 * touched.
 */
#ifndef NORIA_SOAK_LEDGER_H
#define NORIA_SOAK_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <noria/noria.h>

enum { STREAMS = 2, LEVELS = 4, SEATS = 4, MOST_MESSAGES = 1 << 27, MOST_LENGTH = 200 };

struct message {
    uint16_t stream;
    uint16_t level;  /* priority */
    uint32_t length; /* of the whole */
    uint64_t number;
    uint64_t checksum; /* of all of it, this word taken as 0 */
    uint8_t filler[MOST_LENGTH - 24];
};

struct stream {
    uint64_t attempted; /* the last number tried */
    uint64_t committed; /* the last number known to be sent */
    uint64_t last_taken_in_order; /* the last one received without the flag, where there is one receiver */
    uint8_t taken[MOST_MESSAGES];   /* how often it was received */
    uint8_t released[MOST_MESSAGES];
    uint8_t in_doubt[MOST_MESSAGES];
    uint8_t sequence[MOST_MESSAGES]; /* the low byte of its sequence */
};

struct seat_record {
    uint64_t opened;    /* the incarnation that has its handle */
    uint64_t window;    /* messages that a copying receive in progress may take */
    uint64_t sent, received, redelivered; /* progress, over all incarnations */
};

struct ledger {
    uint32_t ending; /* senders stop, receivers stop at the end of the stream */
    uint32_t failed;
    char failure[400];
    struct seat_record seats[SEATS];
    struct stream streams[STREAMS];
};
extern struct ledger *ledger;

void ledger_begin(void);
void ledger_end(void);

/* Says what is wrong; the first one counts. Ends the process that says it. */
__attribute__((format(printf, 1, 2), noreturn)) void accuse(const char *sentence, ...);

/* Makes the stream's message of that number, for that priority. Its length. */
size_t make_message(struct message *message, uint32_t stream, uint64_t number, uint32_t level);

/* A sender's side. */
uint64_t next_number(uint32_t stream); /* also puts in doubt what the last incarnation was at */
void note_attempt(uint32_t stream, uint64_t last);
void note_committed(uint32_t stream,
                    uint64_t last); /* those behind it were not sent, and their numbers are free again */

/* A receiver's side: checks the message and notes it. `last` is this process' own, per stream and level; with
 * `alone` the order holds over all receivers of the stream. */
void note_taken(const void *data, size_t length, const struct noria_info *info,
                uint64_t last[STREAMS][LEVELS], bool alone);
void note_released(const void *data);

/* When everybody is gone. What is missing, and what was said to be in doubt. */
struct balance {
    uint64_t sent, in_doubt, doubtful_arrived, missing, taken_again;
    uint64_t in_hands; /* taken, and not known to be released */
};
void strike_balance(uint32_t stream, struct balance *balance);

#endif
