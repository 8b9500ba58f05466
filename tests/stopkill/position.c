/* SPDX-License-Identifier: BSD-2-Clause */
#include "position.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "survivors.h"

enum { TRAFFIC = 40, FOREIGN_LAPS = 40 };

const char *const mode_names[MODES] = {"killed", "stopped", "resumed", "resumed-full"};
const char *const round_names[ROUNDS] = {"none", "round", "laps", "rebirth"};

static struct victim victims[VICTIMS];
static int victims_brought;
static bool about_time;
static bool another_way, stepwise;
static int detours;
static char sentence[200];

static const char *failed(const char *what, int rc)
{
    about_time = rc == STUCK || rc == HANGING;
    if (rc == STUCK)
        snprintf(sentence, sizeof(sentence), "%s: no progress", what);
    else if (rc == HANGING)
        snprintf(sentence, sizeof(sentence), "%s: a call does not return", what);
    else if (rc == TOO_EARLY_EMPTY)
        snprintf(sentence, sizeof(sentence), "%s: said empty, then a message came", what);
    else
        snprintf(sentence, sizeof(sentence), "%s: %s (%d)", what, rc < 0 ? strerror(-rc) : "", rc);
    return sentence;
}

int position_detours(void)
{
    return detours;
}

bool position_is_about_time(void)
{
    return about_time;
}

/* ----------------------------------------------------------------------------------------- victims */

static const char *judge(enum arrival arrival, const char *who)
{
    about_time = arrival == HUNG;
    if (arrival == HUNG)
        snprintf(sentence, sizeof(sentence), "%s does not get on", who);
    else if (arrival == CRASHED)
        snprintf(sentence, sizeof(sentence), "%s died of signal %d", who, victim_signal());
    else
        return NULL;
    return sentence;
}

static uint32_t members(bool victims_too);
static const char *traffic(uint32_t set);

static const char *foreign_round(enum foreign round)
{
    struct job job = {.kind = JOB_TRY, .amount = 1};
    uint32_t who = contestant.one_partner ? FIRST_SURVIVOR : SECOND_SURVIVOR;
    struct job_result result;

    /* and past the victim */
    if (round == MANY_LAPS && contestant.overtakes && tried.operation->role == RECEIVES)
        return traffic(members(false));
    if (round == MANY_LAPS)
        job.amount = FOREIGN_LAPS;
    if (round == REBIRTH) {
        job.kind = JOB_REBORN;
        job.role = contestant.one_partner ? tried.operation->role : SENDS | RECEIVES;
        who = SECOND_SURVIVOR;
    }
    result = job_do(who, &job);
    return result.rc == 0 ? NULL : failed("the foreign round", result.rc);
}

static enum arrival start_victim(int i)
{
    struct victim *victim = &victims[i];
    struct party *party = party_of(FIRST_VICTIM + (uint32_t)i);

    ledger_prepare(party, tried.operation->sends, tried.operation->receives);
    victims_brought = i + 1;
    return victim_start(victim, tried.operation, party);
}

/* To a position of the trace. Later victims may come by another way: wherever they are is as good. */
static enum arrival lead(struct victim *victim, const struct trace *trace, int to, bool first)
{
    enum arrival arrival = stepwise ? victim_step(victim, to) : victim_advance(victim, trace, to);

    if (first && !stepwise && (arrival == ARRIVED || arrival == ENDED) && victim->pc != trace->pc[to])
        another_way = true;
    return arrival;
}

static const char *bring_victim(int i, const struct position *position, const struct trace *whole,
                                const struct trace *rest)
{
    struct victim *victim = &victims[i];
    enum arrival arrival = start_victim(i);
    const char *bad;

    if (arrival == ARRIVED)
        arrival = lead(victim, whole, position->at, i == 0);
    bad = judge(arrival, "the victim");
    if (bad != NULL || position->round == NO_ROUND)
        return bad;
    bad = foreign_round(position->round);
    if (bad == NULL && arrival == ARRIVED && rest != NULL)
        bad = judge(lead(victim, rest, position->more, i == 0), "the victim");
    return bad;
}

static void kill_victim(int i)
{
    victim_kill(&victims[i]);
    __atomic_fetch_or(&arena->books.dead, 1u << victims[i].party->id, __ATOMIC_RELEASE);
    ledger_settle_accounts(victims[i].party);
}

static const char *bring_all(const struct position *position, const struct trace *whole,
                             const struct trace *rest)
{
    static const struct job recover = {.kind = JOB_RECOVER};

    for (int i = 0; i < position->repeats; i++) {
        const char *bad = bring_victim(i, position, whole, rest);
        if (bad != NULL)
            return bad;
        if (position->mode != KILLED)
            continue;
        kill_victim(i);
        if (position->recover_each && i + 1 < position->repeats) {
            struct job_result result = job_do(FIRST_SURVIVOR, &recover);
            if (result.rc < 0 || result.rc == HANGING)
                return failed("recovery", result.rc);
        }
    }
    return NULL;
}

/* --------------------------------------------------------------------------------------- survivors */

/* The parties that live, have a role and are not stopped. */
static uint32_t members(bool victims_too)
{
    uint32_t set = 0;

    for (uint32_t id = 1; id < PARTIES; id++) {
        bool survivor = id == FIRST_SURVIVOR || id == SECOND_SURVIVOR;
        bool resumed = victims_too && id == FIRST_VICTIM && !party_is_dead(party_of(id));
        if ((survivor || resumed) && party_of(id)->roles != 0)
            set |= 1u << id;
    }
    return set;
}

static uint32_t count_with_role(uint32_t set, unsigned role)
{
    uint32_t n = 0;

    for (uint32_t id = 1; id < PARTIES; id++)
        n += (set >> id & 1) != 0 && (party_of(id)->roles & role) != 0;
    return n;
}

static uint32_t first_with_role(uint32_t set, unsigned role)
{
    for (uint32_t id = 1; id < PARTIES; id++)
        if ((set >> id & 1) != 0 && (party_of(id)->roles & role) != 0)
            return id;
    return 0;
}

/* 40 messages among the members. With one partner the second survivor takes a role that nobody has. */
static const char *traffic(uint32_t set)
{
    struct job job = {.kind = JOB_TRAFFIC, .role = tried.operation->role, .recover_first = true};
    bool take_place = contestant.one_partner && count_with_role(set, tried.operation->role) == 0;
    uint32_t senders = count_with_role(set, SENDS) + (take_place && tried.operation->role == SENDS ? 1 : 0);
    int rc;

    if (contestant.one_partner &&
        count_with_role(set, contestant.broadcasts ? SENDS : tried.operation->role) > 1)
        return "two living parties have the same role";
    if (take_place)
        set |= 1u << SECOND_SURVIVOR;
    job.amount = (TRAFFIC + senders - 1) / senders;
    arena->books.traffic_received = 0;
    arena->books.traffic_goal = contestant.broadcasts ? count_with_role(set, RECEIVES) : job.amount * senders;
    for (uint32_t id = 1; id < PARTIES; id++) {
        arena->books.mark[id] = (set >> id & 1) != 0 ? arena->books.next_sequence[id] : UINT32_MAX;
        arena->books.last[id] =
            (set >> id & 1) != 0 ? arena->books.next_sequence[id] + job.amount - 1 : UINT32_MAX;
    }
    for (uint32_t id = 1; id < PARTIES; id++)
        if ((set >> id & 1) != 0) {
            job.join_first = take_place && id == SECOND_SURVIVOR;
            job_give(id, &job);
        }
    rc = jobs_wait(set);
    return rc == 0 ? NULL : failed("traffic", rc);
}

static const char *drain(uint32_t set)
{
    static const struct job drain_job = {.kind = JOB_DRAIN};
    uint32_t first = first_with_role(set, RECEIVES);

    for (uint32_t id = first; id < PARTIES; id++) {
        bool each = tried.situation->groups || contestant.broadcasts;
        bool asked = id == first || (each && (set >> id & 1) != 0 && (party_of(id)->roles & RECEIVES) != 0);
        struct job_result result = {0, 0};
        if (asked)
            result = job_do(id, &drain_job);
        if (result.rc != 0)
            return failed("emptying the ring", result.rc);
    }
    return NULL;
}

/* Fills and empties the ring until as much as expected fitted. */
static const char *fill_and_drain(uint32_t set, int laps, int expected, int *room)
{
    static const struct job fill = {.kind = JOB_FILL};
    struct job both = {.kind = JOB_LAPS, .amount = (uint32_t)laps, .room = expected};
    uint32_t sender = first_with_role(set, SENDS);
    struct job_result result;

    if (sender == first_with_role(set, RECEIVES)) {
        result = job_do(sender, &both);
        *room = result.value;
        return result.rc == 0 ? NULL : failed("filling and emptying the ring", result.rc);
    }
    *room = 0;
    for (int lap = 0; lap < laps && *room + contestant.full_slack < expected; lap++) {
        const char *bad;
        result = job_do(sender, &fill);
        if (result.rc != 0)
            return failed("filling the ring", result.rc);
        *room = result.value;
        bad = drain(set);
        if (bad != NULL)
            return bad;
    }
    return NULL;
}

static const char *check_room(uint32_t set, int expected)
{
    int heal = contestant.laps_to_heal != NULL ? contestant.laps_to_heal(tried.situation) : 0, room;
    const char *bad = drain(set);

    if (bad == NULL)
        bad = fill_and_drain(set, 1 + heal * (victims_brought + 1), expected, &room);
    if (bad != NULL || room + contestant.full_slack >= expected)
        return bad;
    about_time = false;
    snprintf(sentence, sizeof(sentence), "only %d of %d messages fit", room, expected);
    return sentence;
}

/* With one partner, the role of the living must still be theirs. */
static const char *check_role_taken(void)
{
    struct job join = {.kind = JOB_JOIN, .amount = PARTIES - 1, .role = tried.operation->role};
    struct job_result result;

    if (!contestant.one_partner || (contestant.broadcasts && tried.operation->role == RECEIVES))
        return NULL;
    result = job_do(FIRST_SURVIVOR, &join);
    return result.rc == -EBUSY ? NULL : failed("a taken role was given away", result.rc);
}

/* The one who was away all the time goes on. */
static const char *finish_absent(uint32_t id)
{
    struct job finish = {.kind = JOB_FINISH, .amount = id};
    uint32_t who = SECOND_SURVIVOR;
    struct job_result result;

    if (party_of(id)->roles == 0 || party_is_dead(party_of(id)))
        return NULL;
    if (contestant.joins_each_time) {
        survivor_freeze(STILL, false);
        who = STILL;
    }
    result = job_do(who, &finish);
    return result.rc == 0 ? NULL : failed("going on after a long stop", result.rc);
}

/* Everybody is alive or dead and recovered: all must be as if nothing had happened. */
static const char *check_everything(uint32_t set, bool somebody_died)
{
    bool whole = contestant.recovers || !somebody_died;
    const struct party *corpse = party_of(CORPSE);
    bool reborn = corpse->sends + corpse->receives != 0 && !party_is_dead(corpse);
    int absent = (tried.situation->still != 0 ? 1 : 0) + (reborn ? 2 : 0);
    const char *bad = check_room(set, whole ? contestant.room(tried.situation, tried.full, absent) : 0);

    if (bad == NULL && absent != 0)
        bad = finish_absent(STILL);
    if (bad == NULL && absent != 0)
        bad = finish_absent(CORPSE);
    if (bad == NULL && absent != 0)
        bad = check_room(set,
                         contestant.overtakes ? contestant.room(tried.situation, tried.full, 0) : tried.full);
    if (bad == NULL)
        bad = check_role_taken();
    if (bad == NULL && whole && contestant.invariant != NULL && !contestant.invariant(arena->ring))
        bad = "the ring's invariant does not hold";
    if (bad == NULL && contestant.broadcasts)
        bad = ledger_audit_broadcast(tried.situation->first_position);
    else if (bad == NULL)
        bad = ledger_audit(!contestant.redelivers && somebody_died,
                           /* who makes room takes as a receiver does */
                           somebody_died && (contestant.lost != NULL ||
                                             (contestant.one_partner && tried.operation->role == RECEIVES)));
    return bad;
}

static const char *after_death(void)
{
    const char *bad = traffic(members(false));

    return bad != NULL ? bad : check_everything(members(false), true);
}

/* Broadcast: beside a stopped receiver all get on, or, where nobody may overtake it, all calls return. */
static const char *receiver_stopped(uint32_t set)
{
    struct job try = {.kind = JOB_TRY, .amount = TRAFFIC, .recover_first = true};
    const char *bad = NULL;

    if (contestant.overtakes) {
        bad = traffic(set);
        return bad != NULL ? bad : check_room(set, contestant.room(tried.situation, tried.full, 1));
    }
    for (uint32_t id = FIRST_SURVIVOR; id <= SECOND_SURVIVOR && bad == NULL; id++) {
        struct job_result result = job_do(id, &try);
        if (result.rc != 0)
            bad = failed("calls beside a stopped receiver", result.rc);
    }
    return bad;
}

/* One partner: the other one's calls return; nobody else can take the role of the living. */
static const char *partner_stopped(void)
{
    struct job join = {
        .kind = JOB_JOIN, .amount = SECOND_SURVIVOR, .role = tried.operation->role, .recover_first = true};
    struct job try = {.kind = JOB_TRY, .amount = TRAFFIC, .recover_first = true};
    struct job_result result;

    if (party_of(SECOND_SURVIVOR)->roles != 0)
        return traffic(members(false));
    result = job_do(SECOND_SURVIVOR, &join);
    if (result.rc == 0 && (tried.operation->joins || tried.operation->leaves || tried.operation->repairs))
        return traffic(members(false));
    if (result.rc != -EBUSY)
        return failed("taking the role of a stopped party", result.rc);
    result = job_do(FIRST_SURVIVOR, &try);
    return result.rc == 0 ? NULL : failed("calls beside a stopped partner", result.rc);
}

static const char *while_stopped(const struct position *position)
{
    int absent = position->repeats + (tried.situation->still != 0 ? 1 : 0) +
                 (position->round == REBIRTH ? 2 : 0);
    uint32_t set = members(false);
    const char *bad;

    if (contestant.broadcasts && tried.operation->role == RECEIVES)
        return receiver_stopped(set);
    if (contestant.one_partner)
        return partner_stopped();
    bad = traffic(set);
    if (bad == NULL)
        bad = check_room(set, contestant.room(tried.situation, tried.full, absent));
    if (bad == NULL && position->mode == RESUMED_FULL) {
        static const struct job fill = {.kind = JOB_FILL};
        struct job_result result = job_do(FIRST_SURVIVOR, &fill);
        bad = result.rc == 0 ? NULL : failed("filling the ring", result.rc);
    }
    return bad;
}

static const char *go_on(int i)
{
    static const struct job nothing = {.kind = JOB_TRY};
    const char *bad = judge(victim_resume(&victims[i]), "the resumed victim");
    struct party *party = victims[i].party;
    struct job_result result;

    if (bad != NULL)
        return bad;
    result = job_do(party->id, &nothing); /* so we know that its accounts are entered */
    if (result.rc != 0)
        return failed("the resumed victim", result.rc);
    if (party->result >= 0 || party->result == -EAGAIN || (tried.operation->joins && party->result == -EBUSY))
        return NULL;
    return failed("the call of the resumed victim", party->result);
}

static const char *after_resume(const struct position *position)
{
    const char *bad = NULL;

    for (int i = 0; i < position->repeats && bad == NULL; i++)
        bad = go_on(i);
    if (bad == NULL)
        bad = traffic(members(true));
    if (bad == NULL)
        bad = check_everything(members(true), tried.situation->dead != 0 || tried.operation->repairs);
    return bad;
}

/* ------------------------------------------------------------------------------------ one position */

static void end_victims(void)
{
    for (int i = 0; i < victims_brought; i++)
        victim_kill(&victims[i]);
    victims_brought = 0;
    image_end();
}

enum arrival position_trace(const struct position *position, const struct trace *whole, struct trace *trace)
{
    enum arrival arrival;

    image_restore();
    if (whole == NULL)
        arrival = start_victim(0);
    else
        arrival = bring_victim(0, position, whole, NULL) == NULL ? ARRIVED : HUNG;
    if (arrival == ARRIVED)
        arrival = victim_trace(&victims[0], trace);
    end_victims();
    return arrival;
}

static const char *run_once(const struct position *position, const struct trace *whole,
                            const struct trace *rest)
{
    const char *bad;

    about_time = another_way = false;
    image_restore();
    bad = bring_all(position, whole, rest);
    if (bad == NULL && position->mode == KILLED)
        bad = after_death();
    else if (bad == NULL)
        bad = while_stopped(position);
    if (bad == NULL && position->mode == STOPPED) {
        for (int i = 0; i < position->repeats; i++)
            kill_victim(i);
        bad = after_death();
    } else if (bad == NULL && position->mode != KILLED) {
        bad = after_resume(position);
    }
    end_victims();
    return bad;
}

const char *position_run(const struct position *position, const struct trace *whole, const struct trace *rest)
{
    const char *bad = run_once(position, whole, rest);

    if (another_way) { /* a process number with more digits will do: no short cuts then */
        stepwise = true;
        detours++;
        if (bad == NULL)
            bad = run_once(position, whole, rest);
        stepwise = false;
    }
    return bad;
}

void position_describe(FILE *out)
{
    if (contestant.describe != NULL)
        contestant.describe(arena->ring, out);
}
