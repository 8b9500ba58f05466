/* SPDX-License-Identifier: BSD-2-Clause */
#include "survivors.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

/* One desk per party: the driver raises `asked`, the party raises `done`. */
struct desk {
    _Alignas(128) uint32_t asked;
    struct job job;
    _Alignas(128) uint32_t done;
    struct job_result result;
};

static struct desk *desks; /* [PARTIES], shared */
static int *patience_ms;   /* shared */
static pid_t pids[PARTIES];
static cpu_set_t all_cpus;

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------------------------------- the wait */

static void futex_wait(uint32_t *word, uint32_t while_value, int ms)
{
    struct timespec limit = {ms / 1000, ms % 1000 * 1000000L};

    syscall(SYS_futex, word, FUTEX_WAIT, while_value, ms < 0 ? NULL : &limit, NULL, 0);
}

static void raise_word(uint32_t *word)
{
    __atomic_fetch_add(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint32_t look(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* What a survivor does between two tries. */
struct waiting {
    int64_t since_ms; /* last progress, 0 not measured yet */
    uint32_t tries;
    uint32_t progress;
};

/* After a failed try; true when the patience is over. `progress` is whatever shows that things move. */
static bool out_of_patience(struct party *me, struct waiting *waiting, unsigned role, uint32_t progress)
{
    if (contestant.wait != NULL)
        contestant.wait(me, role);
    if (waiting->tries == 0 || progress != waiting->progress) {
        waiting->since_ms = now_ms();
        waiting->progress = progress;
    }
    if (++waiting->tries % 4 != 0)
        return false;
    sched_yield();
    return now_ms() - waiting->since_ms > *patience_ms;
}

/* -------------------------------------------------------------------------------------------- jobs */

static int recover_the_dead(struct party *me)
{
    if (contestant.recover == NULL)
        return 0;
    for (uint32_t id = 1; id < PARTIES; id++)
        if (id != me->id && party_is_dead(party_of(id))) {
            int rc = contestant.recover(me, party_of(id));
            if (rc < 0)
                return rc;
        }
    return 0;
}

static int join_as(struct party *me, unsigned role)
{
    struct waiting waiting = {0, 0, 0};
    int rc;

    do
        rc = contestant.join(me, role);
    while (rc == -EBUSY && !out_of_patience(me, &waiting, role, 0));
    return rc == -EBUSY ? STUCK : rc;
}

static uint32_t fitting_len(void)
{
    return contestant.max_message < 24 ? contestant.max_message : 24;
}

static int traffic(struct party *me, uint32_t amount)
{
    struct books *books = &arena->books;
    struct waiting sending = {0, 0, 0}, receiving = {0, 0, 0};
    uint32_t sent = 0;
    int rc;

    if ((me->roles & SENDS) == 0)
        amount = 0;
    for (;;) {
        bool all_received = (me->roles & RECEIVES) == 0 ||
                            look(&books->traffic_received) >= books->traffic_goal;
        if (sent == amount && all_received)
            return 0;
        if (sent < amount) {
            rc = ledger_send(me, ledger_next_len(me));
            sent += rc == 0;
            if (rc != 0 && rc != -EAGAIN)
                return rc;
            if (rc != 0 && out_of_patience(me, &sending, SENDS, sent))
                return STUCK;
        }
        if (!all_received) {
            rc = ledger_receive(me);
            if (rc != 0 && rc != -EAGAIN)
                return rc;
            if (rc != 0 && out_of_patience(me, &receiving, RECEIVES, look(&books->progress)))
                return STUCK;
        }
    }
}

static int try_roles(struct party *me, uint32_t amount)
{
    for (uint32_t i = 0; i < amount; i++) {
        int rc = 0;
        if ((me->roles & SENDS) != 0)
            rc = ledger_send(me, ledger_next_len(me));
        if ((rc == 0 || rc == -EAGAIN) && (me->roles & RECEIVES) != 0)
            rc = ledger_receive(me);
        if (rc != 0 && rc != -EAGAIN)
            return rc;
    }
    return 0;
}

static int fill(struct party *me, int *count)
{
    int rc;

    *count = 0;
    while ((rc = ledger_send(me, fitting_len())) == 0)
        ++*count;
    return rc == -EAGAIN ? 0 : rc;
}

/* Nobody else moves: the first "empty" must be true, so what comes after it was said too early. */
static int drain(struct party *me, int *count)
{
    enum { LOOKS_AFTER_EMPTY = 4 };
    int rc = 0, early = 0;

    *count = 0;
    for (int looks = 0; looks < LOOKS_AFTER_EMPTY; looks++) {
        while ((rc = ledger_receive(me)) == 0) {
            ++*count;
            early |= looks;
        }
        if (rc != -EAGAIN)
            return rc;
    }
    return early != 0 ? TOO_EARLY_EMPTY : 0;
}

static int laps(struct party *me, uint32_t amount, int room, int *sent)
{
    *sent = 0;
    for (uint32_t i = 0; i < amount && *sent < room; i++) {
        int received = 0;
        int rc = fill(me, sent);
        if (rc == 0)
            rc = drain(me, &received);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The corpse's number is given to the living. With one partner that is this survivor, who takes the role;
 * otherwise a newcomer, who holds what it can get while the victim goes on. */
static int reborn(struct party *me, unsigned role)
{
    struct party *corpse = party_of(CORPSE);
    int rc = recover_the_dead(me);

    if (rc < 0)
        return rc;
    arena->books.receivers_died |= corpse->receives;
    __atomic_fetch_and(&arena->books.dead, ~(1u << CORPSE), __ATOMIC_RELEASE);
    ledger_settle_accounts(corpse); /* closes the dead one's: whatever it had is for others now */
    if (contestant.one_partner) {
        me->owner = CORPSE;
        return contestant.join(me, role);
    }
    rc = contestant.join(corpse, role);
    if (rc != 0)
        return rc;
    ledger_prepare(corpse, 1, 1);
    rc = ledger_hold(corpse, SENDS);
    return rc == 0 ? ledger_hold(corpse, RECEIVES) : rc;
}

static int finish_party(uint32_t id)
{
    struct party *party = party_of(id);
    int rc = 0, count;

    if (party_is_dead(party) || party->roles == 0)
        return 0;
    if (party->sends != 0)
        rc = contestant.finish(party, SENDS);
    if (rc == 0 && party->receives != 0)
        rc = contestant.finish(party, RECEIVES);
    ledger_settle_accounts(party);
    return rc == 0 ? drain(party, &count) : rc; /* it may have a group open */
}

static int send_some(struct party *me, uint32_t amount)
{
    int rc = 0;

    for (uint32_t i = 0; i < amount && rc == 0; i++)
        rc = ledger_send(me, fitting_len());
    return rc;
}

static int hold_some(struct party *me, unsigned role)
{
    int rc = 0;

    ledger_prepare(me, (role & SENDS) != 0, (role & RECEIVES) != 0);
    if ((role & RECEIVES) != 0)
        rc = ledger_hold(me, RECEIVES);
    if (rc == 0 && (role & SENDS) != 0)
        rc = ledger_hold(me, SENDS);
    return rc;
}

static int job_body(struct party *me, const struct job *job, int *value)
{
    switch (job->kind) {
    case JOB_TRAFFIC:
        return traffic(me, job->amount);
    case JOB_TRY:
        return try_roles(me, job->amount);
    case JOB_JOIN:
        return contestant.join(party_of(job->amount), job->role);
    case JOB_LEAVE:
        return contestant.leave(me);
    case JOB_SEND:
        return send_some(me, job->amount);
    case JOB_HOLD:
        return hold_some(me, job->role);
    case JOB_RECOVER:
        return recover_the_dead(me);
    case JOB_FILL:
        return fill(me, value);
    case JOB_DRAIN:
        return drain(me, value);
    case JOB_LAPS:
        return laps(me, job->amount, job->room, value);
    case JOB_REBORN:
        return reborn(me, job->role);
    case JOB_FINISH:
        return finish_party(job->amount);
    }
    return -EINVAL;
}

static int job_run(struct party *me, const struct job *job, int *value)
{
    int rc = 0;

    if (job->recover_first)
        rc = recover_the_dead(me);
    if (rc >= 0 && job->join_first)
        rc = join_as(me, job->role);
    return rc != 0 ? rc : job_body(me, job, value);
}

/* ------------------------------------------------------------------------------------------- lives */

_Noreturn void survivor_life(struct party *me)
{
    struct desk *desk =
        &desks[me - arena->books.party]; /* not me->id: the driver may be writing the books anew */

    for (;;) {
        uint32_t done = look(&desk->done);
        struct job_result result = {0, 0};

        while (look(&desk->asked) == done)
            futex_wait(&desk->asked, done, -1);
        result.rc = job_run(me, &desk->job, &result.value);
        desk->result = result;
        raise_word(&desk->done);
    }
}

void victim_afterlife(struct party *me)
{
    sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
    __atomic_fetch_or(&arena->books.finished, 1u << me->id, __ATOMIC_RELEASE);
    survivor_life(me);
}

void survivor_start(uint32_t id)
{
    desks[id].done = desks[id].asked;
    pids[id] = fork();
    if (pids[id] < 0) {
        perror("stopkill: fork");
        exit(2);
    }
    if (pids[id] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
        survivor_life(party_of(id));
    }
}

void survivor_stop(uint32_t id)
{
    if (pids[id] <= 0)
        return;
    kill(pids[id], SIGKILL);
    waitpid(pids[id], NULL, 0);
    pids[id] = 0;
}

void survivor_freeze(uint32_t id, bool freeze)
{
    if (pids[id] <= 0)
        return;
    kill(pids[id], freeze ? SIGSTOP : SIGCONT);
    waitpid(pids[id], NULL, freeze ? WUNTRACED : WCONTINUED);
}

/* The driver and its victims share one processor: a switch between them then needs no interrupt. */
static void pin_the_driver(void)
{
    cpu_set_t one;

    sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
}

void survivors_start(void)
{
    size_t size = PARTIES * sizeof(struct desk) + sizeof(int);

    desks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (desks == MAP_FAILED) {
        perror("stopkill: desks");
        exit(2);
    }
    patience_ms = (int *)(void *)(desks + PARTIES);
    *patience_ms = contestant.patience_ms;
    pin_the_driver();
    survivor_start(FIRST_SURVIVOR);
    survivor_start(SECOND_SURVIVOR);
}

void survivors_stop(void)
{
    survivor_stop(FIRST_SURVIVOR);
    survivor_stop(SECOND_SURVIVOR);
}

int survivors_set_patience(int ms)
{
    int before = *patience_ms;

    *patience_ms = ms;
    victim_set_patience(4 * ms);
    return before;
}

/* ------------------------------------------------------------------------------- the driver's side */

void job_give(uint32_t party, const struct job *job)
{
    desks[party].job = *job;
    desks[party].result.rc = 0;
    raise_word(&desks[party].asked);
}

/* A survivor whose call does not return is replaced; a resumed victim is left to the driver. */
static void replace_if_hanging(uint32_t id)
{
    if (look(&desks[id].done) == look(&desks[id].asked))
        return;
    if (id == FIRST_SURVIVOR || id == SECOND_SURVIVOR) {
        survivor_stop(id);
        if (contestant.joins_each_time)
            party_of(id)->roles = 0; /* its handle went with it, and is not the next one's to close */
        survivor_start(id);
    }
    desks[id].done = desks[id].asked;
    desks[id].result.rc = HANGING;
}

int jobs_wait(uint32_t parties)
{
    int64_t since = now_ms();
    uint32_t progress = look(&arena->books.progress);
    int rc = 0;

    for (uint32_t id = 1; id < PARTIES; id++) {
        uint32_t done;
        while ((parties >> id & 1) != 0 && (done = look(&desks[id].done)) != look(&desks[id].asked)) {
            futex_wait(&desks[id].done, done, *patience_ms);
            if (look(&arena->books.progress) != progress) {
                progress = look(&arena->books.progress);
                since = now_ms();
            } else if (now_ms() - since > 2 * *patience_ms) {
                replace_if_hanging(id);
            }
        }
    }
    for (uint32_t id = 1; id < PARTIES; id++)
        if ((parties >> id & 1) != 0 && rc == 0)
            rc = desks[id].result.rc;
    return rc;
}

struct job_result job_result(uint32_t party)
{
    return desks[party].result;
}

struct job_result job_do(uint32_t party, const struct job *job)
{
    job_give(party, job);
    jobs_wait(1u << party);
    return job_result(party);
}
