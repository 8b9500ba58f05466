/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One position: victims are brought to an instruction, stopped or killed there, and the survivors show that
 * it did no harm.
 */
#ifndef STOPKILL_POSITION_H
#define STOPKILL_POSITION_H

#include "victim.h"

/* What is done to the victim when it has arrived. */
enum mode {
    KILLED,       /* SIGKILL; survivors recover, move messages */
    STOPPED,      /* left stopped while survivors move messages; killed then */
    RESUMED,      /* the same, but it goes on and must find everything in order */
    RESUMED_FULL, /* it goes on while the ring is full */
    MODES
};

/* What another process does in the middle of the operation. */
enum foreign { NO_ROUND, ONE_ROUND, MANY_LAPS, REBIRTH, ROUNDS };

struct position {
    enum mode mode;
    enum foreign round;
    int at;            /* instructions before the stop, or before the foreign round */
    int more;          /* instructions after it */
    int repeats;       /* victims brought to the same instruction */
    bool recover_each; /* killed ones are recovered one by one, not all at the end */
};

/* Steps a fresh victim through the operation, or through what is left of it after `at` and a foreign round.
 * ENDED, or why not. */
enum arrival position_trace(const struct position *position, const struct trace *whole, struct trace *trace);

/* NULL if the position is good, or what went wrong. `whole`: of the operation; `rest`: after the round. */
const char *position_run(const struct position *position, const struct trace *whole,
                         const struct trace *rest);
/* Whether that could have been a slow machine. */
bool position_is_about_time(void);
/* How many positions could only be reached by single steps. */
int position_detours(void);
/* After a bad position: the words of the ring as they are now. */
void position_describe(FILE *out);

extern const char *const mode_names[MODES], *const round_names[ROUNDS];

#endif
