/* SPDX-License-Identifier: BSD-2-Clause */
/* noria stat: everything about one channel, without taking part in it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "listing.h"
#include "words.h"

/* What carries an auto: channel, and why what was tried before does not. */
static void print_carrier(const struct noria_stat *stat)
{
    if (stat->carrier == NULL)
        return;
    printf("carried by        %s\n", stat->carrier);
    for (const char *at = stat->refused; *at != '\0'; at += strcspn(at, "\n") + 1)
        printf("refused           %.*s\n", (int)strcspn(at, "\n"), at);
}

static void print_file(const struct noria_listing *listing)
{
    char text[64];
    printf("name              %s\n", listing->address);
    print_carrier(&listing->stat);
    if (listing->footprint == 0) /* no segment: the kernel's, with nothing to be looked at from outside */
        return;
    printf("state             %s\n", state_of(listing));
    printf("owner             %s\n", user_name(listing->uid, text, sizeof text));
    printf("group             %" PRIu32 "\n", listing->gid);
    printf("mode              %04" PRIo32 "\n", listing->mode & 07777);
    printf("bytes             %" PRIu64 "\n", listing->footprint);
    printf("created           %s\n", utc_time(listing->created_ns, text, sizeof text));
    if (listing->stat.nameless != 0)
        printf("nameless          its name was removed, it goes with its last user\n");
}

static void print_choices(const struct noria_stat *stat)
{
    printf("kind              %s\n", word_of(kind_words, stat->kind));
    printf("order             %s\n", word_of(order_words, stat->order));
    printf("full              %s\n", word_of(full_words, stat->full));
    printf("wait              %s\n", word_of(wait_words, stat->wait));
    printf("orphans           %s\n", word_of(orphans_words, stat->orphans));
    printf("lifetime          %s\n", word_of(lifetime_words, stat->lifetime));
    printf("trust             %s\n", word_of(trust_words, stat->trust));
    printf("capacity          %" PRIu64 "\n", stat->capacity);
    printf("max message       %" PRIu32 "\n", stat->max_message);
    printf("max held          %" PRIu32 "\n", stat->max_held);
    printf("max participants  %" PRIu32 "\n", stat->max_participants);
    printf("pack              %" PRIu32 "\n", stat->pack);
    printf("priorities        %" PRIu32 "\n", stat->priorities);
    if (stat->checksum != 0)
        printf("checksums         yes\n");
    if (stat->max_bytes != 0)
        printf("max bytes         %" PRIu64 "\n", stat->max_bytes);
    if (stat->evict_ns != 0)
        printf("evicts after      %" PRId64 " ns\n", stat->evict_ns);
}

static void print_traffic(const struct noria_stat *stat)
{
    char text[24];
    printf("messages          %s\n", count_or_dash(stat->messages, text, sizeof text));
    printf("message bytes     %s\n", count_or_dash(stat->bytes, text, sizeof text));
    printf("held              %" PRIu64 "\n", stat->held);
    printf("senders           %" PRIu32 "\n", stat->senders);
    printf("receivers         %" PRIu32 "\n", stat->receivers);
    printf("observers         %" PRIu32 "\n", stat->observers);
    printf("sent              %" PRIu64 "\n", stat->sent);
    printf("received          %" PRIu64 "\n", stat->received);
    printf("redelivered       %" PRIu64 "\n", stat->redelivered);
    printf("lost              %" PRIu64 "\n", stat->lost);
    if (stat->checksum != 0)
        printf("torn              %" PRIu64 "\n", stat->torn);
    printf("deaths            %" PRIu64 "\n", stat->deaths);
}

static void print_listing(const struct noria_listing *listing)
{
    print_file(listing);
    if (listing->condition != NORIA_CONDITION_OK)
        return;
    print_abilities(&listing->stat);
    print_choices(&listing->stat);
    print_traffic(&listing->stat);
}

static int run_stat(const struct command *self, int argc, char **argv)
{
    static const struct option table[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct json json = {0};
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option != 'j')
            return other_option(self, option);
        as_json = true;
    }
    if (argc - optind != 1)
        return wrong_usage(self, "exactly one address, or file with a slash in its name, is needed");
    struct noria_listing listing;
    if (look_at(argv[optind], &listing) != 0)
        return fail_detail();
    if (as_json)
        json_listing(&json, &listing);
    else
        print_listing(&listing);
    return DONE;
}

const struct command stat_command = {
    .name = "stat",
    .synopsis = "stat ADDR|FILE [--json]",
    .summary = "Shows what a channel was created with, who is there and what went through it",
    .options = "  --json                    as a JSON object\n",
    .run = run_stat,
};
