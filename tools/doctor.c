/* SPDX-License-Identifier: BSD-2-Clause */
/* noria doctor: is the machine fit for noria, and has anything been left behind? Cleans up after dead
 * participants, as every open does; changes nothing else. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include <noria/inspect.h>

#include "checks.h"
#include "command.h"
#include "json.h"

enum { FIRST_PARTICIPANTS = 1024 };

struct report {
    struct json *json; /* NULL: lines for people */
    int warnings, failures, channels, leftovers;
};

static void report_finding(struct report *report, const char *name, const struct finding *finding)
{
    static const char *const words[] = {"ok", "warn", "fail"};
    report->warnings += finding->verdict == VERDICT_WARN;
    report->failures += finding->verdict == VERDICT_FAIL;
    if (report->json == NULL) {
        printf("%-4s  %-14s %s.%s%s\n", words[finding->verdict], name, finding->text,
               finding->cure[0] != '\0' ? "\n                     Cure: " : "", finding->cure);
        return;
    }
    json_begin_object(report->json, NULL);
    json_string(report->json, "check", name);
    json_string(report->json, "status", words[finding->verdict]);
    json_string(report->json, "found", finding->text);
    if (finding->cure[0] != '\0')
        json_string(report->json, "cure", finding->cure);
    json_end_object(report->json);
}

/* Of the channel's participants, those who are dead and not cleaned up after, or live in other pid namespaces. */
struct crowd {
    int dead, foreign;
};

static struct crowd look_at_crowd(const char *address)
{
    struct noria_participant *participants = calloc(FIRST_PARTICIPANTS, sizeof *participants);
    struct crowd crowd = {0};
    if (participants == NULL)
        return crowd;
    int n = noria_who(address, participants, FIRST_PARTICIPANTS);
    for (int i = 0; i < n && i < FIRST_PARTICIPANTS; i++) {
        crowd.dead += participants[i].alive == 0;
        crowd.foreign += participants[i].alive != 0 && participants[i].foreign != 0;
    }
    free(participants);
    return crowd;
}

static void report_channel(struct report *report, const char *address, enum verdict verdict, const char *what,
                           const char *cure)
{
    struct finding finding;
    found(&finding, verdict, "", "%s %s", address, what);
    snprintf(finding.cure, sizeof finding.cure, "%s: noria rm %s", cure, address);
    report->leftovers++;
    report_finding(report, "leftover", &finding);
}

/* Every open cleans up after the dead, so one is enough; live participants are not touched. */
static void clean_up(struct report *report, const char *address)
{
    noria_channel *observer;
    struct finding finding;
    int dead = look_at_crowd(address).dead;
    if (noria_open(&observer, address, 0, NULL) != 0) {
        report_channel(report, address, VERDICT_WARN,
                       "was left by processes that died, and cannot be opened to clean up",
                       "The next open by its owner does; if none is to come");
        return;
    }
    noria_close(observer);
    found(&finding, VERDICT_OK, "", "%s: cleaned up after %d dead participant%s", address, dead,
          dead == 1 ? "" : "s");
    report->leftovers++;
    report_finding(report, "leftover", &finding);
}

static void look_at_participants(struct report *report, const char *address)
{
    struct crowd crowd = look_at_crowd(address);
    struct finding finding;
    if (crowd.dead > 0)
        clean_up(report, address);
    if (crowd.foreign == 0)
        return;
    found(&finding, VERDICT_WARN,
          "Nothing, if they wait by futex. For wait = eventfd and noria_notify_signal run them in one pid namespace: docker "
          "run --pid=host, or --pid=container:NAME.",
          "%s: %d participant%s in another pid namespace, told dead by locks alone and out of reach of signals", address,
          crowd.foreign, crowd.foreign == 1 ? " is" : "s are");
    report_finding(report, "namespaces", &finding);
}

static void report_no_access(struct report *report, const struct noria_listing *listing)
{
    struct finding finding;
    found(&finding, VERDICT_OK, "", "%s is of user %u and mode %04o, and %s", listing->address, listing->uid, listing->mode,
          listing->condition == NORIA_CONDITION_TOO_LARGE ? "too large to be copied, which others than he have to"
                                                          : "not for this user to look at");
    report_finding(report, "no access", &finding);
}

static int look_at_channel(const struct noria_listing *listing, void *context)
{
    struct report *report = context;
    const char *address = listing->address;
    report->channels++;
    if (listing->condition == NORIA_CONDITION_UNFINISHED)
        report_channel(report, address, VERDICT_WARN, "was never finished: its creator died, or is at work",
                       "The next open with the right to create mends it, noria gc takes it away if its creator is dead; or");
    else if (listing->condition == NORIA_CONDITION_VERSION)
        report_channel(report, address, VERDICT_WARN, "has the layout of another version of noria",
                       "Use the noria that made it, or");
    else if (listing->condition == NORIA_CONDITION_CORRUPT)
        report_channel(report, address, VERDICT_FAIL, "is corrupt", "Stop its users, then");
    else if (listing->condition == NORIA_CONDITION_NO_ACCESS || listing->condition == NORIA_CONDITION_TOO_LARGE)
        report_no_access(report, listing);
    else if (listing->condition == NORIA_CONDITION_OK)
        look_at_participants(report, address);
    return 0;
}

static void look_for_leftovers(struct report *report)
{
    struct finding finding;
    int rc = noria_list(look_at_channel, report);
    if (rc < 0)
        found(&finding, VERDICT_FAIL, "See the lines above.", "The channels cannot be listed: %s",
              noria_detail());
    else if (report->leftovers == 0)
        found(&finding, VERDICT_OK, "", "%d channel%s, none left behind by the dead", report->channels,
              report->channels == 1 ? "" : "s");
    if (rc < 0 || report->leftovers == 0)
        report_finding(report, "leftovers", &finding);
}

static void examine(struct report *report)
{
    for (const struct check *check = machine_checks; check->name != NULL; check++) {
        struct finding finding;
        check->look(&finding);
        report_finding(report, check->name, &finding);
    }
    look_for_leftovers(report);
}

static int run_doctor(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct json json = {0};
    struct report report = {0};
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j')
            return other_option(self, option);
        report.json = &json;
    }
    if (argc != optind)
        return wrong_usage(self, "it takes no address");
    if (report.json != NULL)
        json_begin_array(report.json, NULL);
    examine(&report);
    if (report.json != NULL)
        json_end_array(report.json);
    if (report.failures > 0)
        return fail("%d of the checks failed; each line says what to do", report.failures);
    return DONE;
}

const struct command doctor_command = {
    .name = "doctor",
    .synopsis = "doctor [--json]",
    .summary = "Checks whether the machine is fit for noria, and cleans up after dead processes",
    .options = "  --json                    as a JSON array\n",
    .run = run_doctor,
};
