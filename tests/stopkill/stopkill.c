/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a process stopped or killed at any instruction of any operation does no harm to the others (P1 to
 * P3).
 *
 * Goes through the contestant's operations and situations, each position of each, and prints how many
 * positions were tried and how many were bad. Exit status 0 if none was bad (for a rival that is known to
 * wedge: if some were).
 *
 * Short run: in one situation every instruction, in the others those that touch the ring and the ones after
 * them. Foreign rounds come right before instructions that touch the ring, and so do the stop after them and
 * twelve victims at once or in turn: between two such instructions the victim is alone with itself, so one
 * position stands for all. A contestant that shares most of its code with another goes through every
 * instruction in the long run only. Where not every instruction has its turn, batches take one position in FEWER;
 * so do contestants that share code and long calls of those with twelve victims, and all of those after a foreign
 * round.
 * NORIA_LONG=1: every instruction everywhere, foreign rounds in all situations and modes. Of long calls, as in the short run,
 * each instruction that accesses the segment or is a system call, and the one after; here in every situation and mode, each
 * time it is come by, and with twelve victims the first times and the last. After foreign rounds one pair of places in 64.
 *
 *     stopkill [--operation NAME] [--situation NAME] [--mode NAME]
 *              [--at N [--round NAME --more N] [--repeats N]] [--verbose]
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "image.h"
#include "position.h"
#include "survivors.h"

enum { COMPLAINTS_SHOWN = 6, BAD_ENOUGH = 60, SLOW_MACHINE_FACTOR = 25, FEWER = 4 };

/* What the command line narrows the run to. */
static struct {
    const char *operation, *situation, *mode, *round;
    int at, more, repeats;
    bool verbose, long_run;
} wanted = {.at = -1, .more = -1};

struct tally {
    int tried, bad;
};

/* The sweeps through one operation in one situation. */
enum sweep { EACH, TWELVE, TWELVE_AT_ONCE, CONTENDED, SWEEPS };
static const char *const sweep_names[SWEEPS] = {"once: ", "12 in turn: ", "12 at once: ", "foreign round: "};

static const struct operation *operation;
static const struct situation *situation;
static struct tally tallies[SWEEPS][MODES];
static struct tally all;
static int complaints, retries;

static struct trace whole, rest;

/* ------------------------------------------------------------------------------------ one position */

static const struct trace *trace_of(const struct position *position, int *index)
{
    *index = position->round == NO_ROUND ? position->at : position->more;
    return position->round == NO_ROUND ? &whole : &rest;
}

static void complain(const struct position *position, const char *what)
{
    const struct trace *trace;
    Dl_info info;
    int index;

    if (complaints++ >= COMPLAINTS_SHOWN && !wanted.verbose)
        return;
    trace = trace_of(position, &index);
    memset(&info, 0, sizeof(info));
    dladdr((void *)(uintptr_t)trace->pc[index], &info);
    printf("    BAD %s | %s | %s at %d, round %s, more %d, victims %d | before the instruction at %#lx: %s\n",
           operation->name, situation->name, mode_names[position->mode], position->at,
           round_names[position->round], position->more, position->repeats,
           (unsigned long)(trace->pc[index] - (uintptr_t)info.dli_fbase), what);
    if (wanted.verbose)
        position_describe(stdout);
}

/* One of ours that is this bad need not go on: each wedge costs its patience. */
static bool bad_enough(void)
{
    return !contestant.expected_bad && all.bad >= BAD_ENOUGH;
}

/* A slow machine may look like a wedge; so what is about time is tried again with more patience. */
static void try_position(const struct position *position, struct tally *tally)
{
    const char *bad;

    if (bad_enough())
        return;
    bad = position_run(position, &whole, &rest);
    if (bad != NULL && position_is_about_time()) {
        retries++;
        survivors_set_patience(contestant.patience_ms * (contestant.expected_bad ? 1 : SLOW_MACHINE_FACTOR));
        bad = position_run(position, &whole, &rest);
        survivors_set_patience(contestant.patience_ms);
    }
    tally->tried++;
    all.tried++;
    if (bad == NULL)
        return;
    tally->bad++;
    all.bad++;
    complain(position, bad);
}

/* -------------------------------------------------------------------------------------- which ones */

/* Which positions of a trace. Loops come by the same instruction again and again: the first times and the
 * last count. Not so system calls: libc has one instruction for many of them. */
struct choice {
    bool every;     /* all instructions, not only those that touch the ring */
    bool and_after; /* also right after those */
    int same_place; /* how often an instruction counts, not counting the last time; 0: always */
};

static bool seen_often(const struct trace *trace, int at, int same_place)
{
    int before = 0;
    bool last = true;

    if (same_place == 0 || trace->calls[at])
        return false;
    for (int i = 0; i < trace->length; i++) {
        before += i < at && trace->pc[i] == trace->pc[at];
        last = last && (i <= at || trace->pc[i] != trace->pc[at]);
    }
    return before >= same_place && !last;
}

/* Marks the positions of a trace to be tried; the end of the operation is always one. */
static void choose(const struct trace *trace, struct choice choice, bool chosen[TRACE_MAX + 2])
{
    memset(chosen, 0, (TRACE_MAX + 2) * sizeof(*chosen));
    for (int i = 0; i < trace->length; i++)
        if ((choice.every || trace->touches[i]) && !seen_often(trace, i, choice.same_place)) {
            chosen[i] = true;
            chosen[i + 1] |= choice.and_after;
        }
    chosen[trace->length] = true;
}

static bool every_instruction(void)
{
    return wanted.long_run || (situation->every_instruction && !contestant.shares_code);
}

static bool mode_makes_sense(enum mode mode, enum sweep sweep)
{
    if (wanted.mode != NULL && strcmp(wanted.mode, mode_names[mode]) != 0)
        return false;
    if (contestant.expected_bad && mode >= RESUMED)
        return false; /* each wedge costs its patience, and these two show enough */
    if (mode == RESUMED_FULL && tried.full == 0)
        return false; /* nothing can be filled: as RESUMED */
    if (contestant.one_partner && (mode == RESUMED_FULL || (sweep == TWELVE_AT_ONCE)))
        return false;
    if (sweep == TWELVE)
        return mode == KILLED;
    if (sweep == TWELVE_AT_ONCE)
        return mode != RESUMED_FULL && contestant.room(situation, VICTIMS + 1, VICTIMS) > VICTIMS;
    if (sweep == CONTENDED && !wanted.long_run && wanted.mode == NULL)
        return mode == KILLED || mode == RESUMED;
    return true;
}

static bool round_makes_sense(enum foreign round)
{
    if (wanted.round != NULL && strcmp(wanted.round, round_names[round]) != 0)
        return false;
    if (round == REBIRTH)
        return operation->repairs && !contestant.joins_each_time;
    return round != NO_ROUND;
}

/* ------------------------------------------------------------------------------------------ sweeps */

/* In a short run some operations take one position in so many; batches have many, and twelve victims in a long call take
 * long. */
static bool is_its_turn(int n, int repeats, bool every)
{
    bool batch = !operation->every_turn && (operation->sends > 1 || operation->receives > 1);
    bool dear = (batch && !every) || (repeats > 1 && (operation->is_long || contestant.shares_code));
    int stride = (operation->stride != 0 ? operation->stride : 1) * (dear ? FEWER : 1);

    return wanted.long_run || n % stride == 0;
}

/* How often an instruction counts. In a long call twelve victims come by each only so often, as one does in a short run. */
static int same_place(int repeats)
{
    enum { FEW_TIMES = 3 };

    if (wanted.long_run)
        return operation->is_long && repeats > 1 ? FEW_TIMES : 0;
    return repeats == 1 ? FEW_TIMES : 1;
}

static void sweep_plain(enum sweep sweep, int repeats, bool every)
{
    static bool chosen[TRACE_MAX + 2];
    int passed = 0;
    struct position position = {KILLED, NO_ROUND, 0, 0, repeats, sweep == TWELVE};
    struct choice choice = {every, repeats == 1 || wanted.long_run, same_place(repeats)};

    choose(&whole, choice, chosen);
    for (position.at = 0; position.at <= whole.length; position.at++) {
        if (wanted.at >= 0 ? position.at != wanted.at : !chosen[position.at] || !is_its_turn(passed++, repeats, every))
            continue;
        for (position.mode = KILLED; position.mode < MODES; position.mode++)
            if (mode_makes_sense(position.mode, sweep))
                try_position(&position, &tallies[sweep][position.mode]);
    }
}

static struct choice contended_choice(void)
{
    struct choice choice = {false, wanted.long_run, wanted.long_run ? 3 : 1};

    return choice;
}

/* One in how many: pairs of places are many, in a long call tens of thousands. */
static int contended_stride(void)
{
    if (wanted.more >= 0)
        return 1;
    return operation->is_long ? FEWER * FEWER * FEWER : wanted.long_run ? 1 : FEWER;
}

/* `turn` counts all pairs, so that all places have their turn after one place or another. */
static void sweep_after_round(struct position *position, int *turn)
{
    static bool chosen[TRACE_MAX + 2];

    choose(&rest, contended_choice(), chosen);
    chosen[0] = true;
    for (position->more = 0; position->more <= rest.length; position->more++) {
        if (wanted.more >= 0 ? position->more != wanted.more : !chosen[position->more])
            continue;
        if ((*turn)++ % contended_stride() != 0)
            continue;
        for (position->mode = KILLED; position->mode < MODES; position->mode++)
            if (mode_makes_sense(position->mode, CONTENDED))
                try_position(position, &tallies[CONTENDED][position->mode]);
    }
}

static void sweep_contended(void)
{
    static bool chosen[TRACE_MAX + 2];
    struct position position = {KILLED, NO_ROUND, 0, 0, 1, false};
    int turn = 0;

    choose(&whole, contended_choice(), chosen);
    for (position.round = ONE_ROUND; position.round < ROUNDS; position.round++)
        for (position.at = 0; position.at <= whole.length && round_makes_sense(position.round);
             position.at++) {
            if (wanted.at >= 0 ? position.at != wanted.at : !chosen[position.at])
                continue;
            position.more = 0;
            rest.length = 0;
            rest.pc[0] = whole.pc[position.at];
            if (position_trace(&position, &whole, &rest) == ENDED)
                sweep_after_round(&position, &turn);
            else
                try_position(&position, &tallies[CONTENDED][KILLED]);
        }
}

static int count_touches(void)
{
    int n = 0;

    for (int i = 0; i < whole.length; i++)
        n += whole.touches[i];
    return n;
}

static void print_tallies(void)
{
    printf("  %-20s %-24s %5d instructions, %4d touch the ring:", operation->name, situation->name,
           whole.length, count_touches());
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        bool named = false;
        for (int mode = 0; mode < MODES; mode++) {
            const struct tally *tally = &tallies[sweep][mode];
            if (tally->tried == 0)
                continue;
            printf("%s%s%s %d/%d", named ? ", " : " | ", named ? "" : sweep_names[sweep], mode_names[mode],
                   tally->bad, tally->tried);
            named = true;
        }
    }
    printf("\n");
}

static bool contended_wanted(void)
{
    if (wanted.at >= 0)
        return wanted.round != NULL;
    return wanted.long_run || (situation->contended && !operation->is_long);
}

static void try_operation(void)
{
    static const struct position start = {KILLED, NO_ROUND, 0, 0, 1, false};
    bool single = wanted.at >= 0;
    enum arrival arrival;

    image_build(operation, situation);
    memset(tallies, 0, sizeof(tallies));
    arrival = position_trace(&start, NULL, &whole);
    if (arrival != ENDED) {
        printf("  %s, %s: the operation does not end (%d)\n", operation->name, situation->name, (int)arrival);
        all.bad++;
        return;
    }
    if (!single || (wanted.round == NULL && wanted.repeats == 0))
        sweep_plain(EACH, 1, !operation->is_long && every_instruction());
    if (!contestant.expected_bad && (!single || wanted.repeats != 0)) {
        sweep_plain(TWELVE, VICTIMS, !operation->is_long && wanted.long_run);
        sweep_plain(TWELVE_AT_ONCE, VICTIMS, !operation->is_long && wanted.long_run);
    }
    if (!contestant.expected_bad && contended_wanted())
        sweep_contended();
    print_tallies();
}

static bool is_wanted(const char *filter, const char *name)
{
    return filter == NULL || strcmp(filter, name) == 0;
}

static bool makes_sense(void)
{
    if (situation->brief && operation->is_long && !wanted.long_run && wanted.situation == NULL)
        return false;
    if (operation->fill != 0 && operation->fill != situation->fill)
        return false;
    if (operation->repairs && operation->depth != 0 && situation->still != 0)
        return false; /* nobody is in the way of one who shall die at a place that was measured */
    return !(operation->repairs && situation->dead != 0) && (operation->still & ~situation->still) == 0;
}

static void sweep_all(void)
{
    for (operation = contestant.operations; operation->name != NULL; operation++)
        for (situation = contestant.situations; situation->name != NULL; situation++)
            if (is_wanted(wanted.operation, operation->name) &&
                is_wanted(wanted.situation, situation->name) && makes_sense() && !bad_enough())
                try_operation();
}

/* -------------------------------------------------------------------------------------------- main */

static bool read_arguments(int argc, char **argv)
{
    const char *long_run = getenv("NORIA_LONG");

    wanted.long_run = long_run != NULL && strcmp(long_run, "1") == 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            wanted.verbose = true;
            continue;
        }
        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--operation") == 0)
            wanted.operation = value;
        else if (strcmp(argv[i], "--situation") == 0)
            wanted.situation = value;
        else if (strcmp(argv[i], "--mode") == 0)
            wanted.mode = value;
        else if (strcmp(argv[i], "--round") == 0)
            wanted.round = value;
        else if (strcmp(argv[i], "--at") == 0)
            wanted.at = atoi(value);
        else if (strcmp(argv[i], "--more") == 0)
            wanted.more = atoi(value);
        else if (strcmp(argv[i], "--repeats") == 0)
            wanted.repeats = atoi(value);
        else
            return false;
        i++;
    }
    return true;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    double start = seconds(), took;

    if (!read_arguments(argc, argv)) {
        fprintf(stderr,
                "usage: %s [--operation NAME] [--situation NAME] [--mode NAME] [--at N] [--round NAME] "
                "[--more N] [--repeats N] [--verbose]\n",
                argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    arena_create();
    survivors_start();
    survivors_set_patience(contestant.patience_ms);
    printf("%s: bad / tried positions\n", contestant.name);
    sweep_all();
    survivors_stop();
    if (contestant.remove != NULL)
        contestant.remove(arena->ring);
    if (bad_enough())
        printf("%s: given up after %d bad positions\n", contestant.name, all.bad);
    took = seconds() - start;
    printf("%s: %d positions tried, %d bad, %.1f s, %.0f positions/s, %d tried again with more patience, "
           "%d reached by single steps only\n",
           contestant.name, all.tried, all.bad, took, all.tried / took, retries, position_detours());
    if (contestant.expected_bad)
        return all.bad > 0 ? 0 : 1;
    return all.bad == 0 && all.tried > 0 ? 0 : 1;
}
