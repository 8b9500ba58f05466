/* SPDX-License-Identifier: BSD-2-Clause */
/* noria fsck: do a channel's words go together, and is everybody in it alive? */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include <noria/inspect.h>

#include "command.h"
#include "json.h"
#include "listing.h"
#include "words.h"

static bool is_healthy(const struct noria_health *health)
{
    return health->condition == NORIA_CONDITION_OK && health->dead == 0 && health->broken == 0;
}

static void print_json(const char *address, const struct noria_health *health)
{
    struct json json = {0};
    json_begin_object(&json, NULL);
    json_string(&json, "name", address);
    json_bool(&json, "healthy", is_healthy(health));
    json_string(&json, "condition", word_of(condition_words, health->condition));
    json_unsigned(&json, "live", health->live);
    json_unsigned(&json, "dead", health->dead);
    json_unsigned(&json, "held", health->held);
    json_bool(&json, "broken", health->broken != 0);
    json_unsigned(&json, "repaired", health->repaired);
    json_end_object(&json);
}

static void print_lines(const char *address, const struct noria_health *health)
{
    if (health->condition != NORIA_CONDITION_OK) {
        printf("%s: %s\n", address, word_of(condition_words, health->condition));
        return;
    }
    printf("%s: %" PRIu32 " live, %" PRIu32 " dead, which hold %" PRIu32 ", %" PRIu32 " cleaned up after; the ring %s\n",
           address, health->live, health->dead, health->held, health->repaired,
           health->broken ? "contradicts itself" : "is in order");
}

/* The sentence about what is wrong, and the cure. */
static int judge(const char *address, const struct noria_health *health)
{
    if (is_healthy(health))
        return DONE;
    if (health->condition == NORIA_CONDITION_UNFINISHED)
        return fail("%s is not finished: if its creator is dead, `noria gc` removes it", address);
    if (health->condition == NORIA_CONDITION_NO_ACCESS)
        return fail("%s may not be read by this user: ask its owner or root", address);
    if (health->condition == NORIA_CONDITION_TOO_LARGE)
        return fail("%s is another user's and too large to be copied: look at it as that user, or with more memory free",
                    address);
    if (health->condition == NORIA_CONDITION_VERSION)
        return fail("%s was made by another version of noria: use the one that made it", address);
    if (health->condition != NORIA_CONDITION_OK || health->broken)
        return fail("%s is corrupt and cannot be mended: keep a copy for `noria dump`, stop its users, and remove it with "
                    "`noria rm`", address);
    if (is_copy(address))
        return fail("%s: %" PRIu32 " participants were dead, or are by now, that nobody had cleaned up after when it was copied; "
                    "nothing is to be done about a copy", address, health->dead);
    return fail("%s: %" PRIu32 " participants died and nobody has cleaned up after them: the next one to open it does, or "
                "`noria fsck --repair`", address, health->dead);
}

static int run_fsck(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {{"json", no_argument, NULL, 'j'},
                                          {"repair", no_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct noria_health health;
    bool json = false, repair = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j' && option != 'r')
            return other_option(self, option);
        json = json || option == 'j';
        repair = repair || option == 'r';
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address, or file with a slash in its name, is needed");
    if (noria_fsck(argv[optind], repair, &health) != 0)
        return fail_detail();
    if (json)
        print_json(argv[optind], &health);
    else
        print_lines(argv[optind], &health);
    return judge(argv[optind], &health);
}

const struct command fsck_command = {
    .name = "fsck",
    .synopsis = "fsck ADDR|FILE [--repair] [--json]",
    .summary = "Checks whether a channel is in order; live ones are not disturbed",
    .options = "  --repair                  clean up after the dead, as every open does\n"
               "  --json                    as a JSON object\n",
    .run = run_fsck,
};
