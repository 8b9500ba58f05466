/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Survivors: two processes (and victims that were resumed) that do what the driver asks, one job at a time.
 *
 * A job ends by itself when its party makes no progress for the patience; a call that does not return is
 * noticed by the driver, who kills the survivor and starts a new one.
 */
#ifndef STOPKILL_SURVIVORS_H
#define STOPKILL_SURVIVORS_H

#include "ledger.h"

enum job_kind {
    JOB_TRAFFIC, /* send `amount`, receive until everybody's are received */
    JOB_TRY,     /* `amount` tries in the party's roles: each must return; success is not asked for */
    JOB_JOIN,    /* as `role`, on behalf of party `amount` */
    JOB_LEAVE,
    JOB_SEND,    /* `amount` messages */
    JOB_HOLD,    /* take as `role` what can be had, and keep it */
    JOB_RECOVER, /* whatever dead parties hold */
    JOB_FILL,    /* send until full: value is how many */
    JOB_DRAIN,   /* receive until empty: value is how many */
    JOB_LAPS, /* fill and drain until `room` messages fitted, at most `amount` times: value is how many did at
                 last */
    JOB_REBORN, /* recover the corpse; somebody living takes over its number, and holds as `role` what it can
                 */
    JOB_FINISH  /* let go what party `amount` holds */
};

struct job {
    enum job_kind kind;
    uint32_t amount;
    int room;
    unsigned role;
    bool recover_first;
    bool join_first; /* as `role`: the survivor takes the place of a dead party */
};

struct job_result {
    int rc; /* 0, STUCK, HANGING, or what a call returned that it must not */
    int value;
};
enum { STUCK = 1, HANGING = 2, TOO_EARLY_EMPTY = 3 };

void survivors_start(void);
void survivors_stop(void);
/* What it was before. */
int survivors_set_patience(int ms);
/* One more process, for a party other than the two; and its end, for certain. */
void survivor_start(uint32_t id);
void survivor_stop(uint32_t id);
/* SIGSTOP and SIGCONT. Returns when it is so. */
void survivor_freeze(uint32_t id, bool freeze);

/* Gives the party a job, waits until every party in the set (bit per party) is done. */
void job_give(uint32_t party, const struct job *job);
int jobs_wait(uint32_t parties);
struct job_result job_result(uint32_t party);
/* Both in one for a single party. */
struct job_result job_do(uint32_t party, const struct job *job);

/* The life of a survivor; also of a victim after its operation. */
_Noreturn void survivor_life(struct party *me);

#endif
