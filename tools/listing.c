/* SPDX-License-Identifier: BSD-2-Clause */
#include "listing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "words.h"

const char *state_of(const struct noria_listing *listing)
{
    if (listing->condition != NORIA_CONDITION_OK)
        return word_of(condition_words, listing->condition);
    const struct noria_stat *stat = &listing->stat;
    return stat->senders + stat->receivers + stat->observers > 0 ? "live" : "idle";
}

bool is_copy(const char *address)
{
    return address[0] == '/' || address[0] == '.';
}

const char *backend_of(const struct noria_listing *listing, char *text, size_t size)
{
    const char *scheme = is_copy(listing->address) ? "copy" : listing->address;
    snprintf(text, size, "%.*s", (int)strcspn(scheme, ":"), scheme);
    return text;
}

int look_at(const char *address, struct noria_listing *listing)
{
    static char carrier[512], refused[4096]; /* the handle's, which goes */
    noria_channel *channel;
    int rc = noria_inspect(address, listing);
    if (rc != -EINVAL || is_copy(address)) /* it has no memory that could be looked at from outside */
        return rc;
    rc = noria_open(&channel, address, 0, NULL);
    if (rc != 0)
        return rc;
    memset(listing, 0, sizeof *listing);
    snprintf(listing->address, sizeof listing->address, "%s", address);
    rc = noria_stat(channel, &listing->stat);
    if (listing->stat.carrier != NULL) {
        snprintf(carrier, sizeof carrier, "%s", listing->stat.carrier);
        snprintf(refused, sizeof refused, "%s", listing->stat.refused);
        listing->stat.carrier = carrier;
        listing->stat.refused = refused;
    }
    noria_close(channel);
    listing->created_ns = listing->stat.created_ns;
    listing->mode = listing->stat.mode;
    return rc;
}

void print_abilities(const struct noria_stat *stat)
{
    static const struct {
        uint32_t ability;
        const char *can, *cannot;
    } words[] = {{NORIA_CAN_MANY_SENDERS, "many senders", "one sender"},
                 {NORIA_CAN_MANY_RECEIVERS, "many receivers", "one receiver"},
                 {NORIA_CAN_BOUNDARIES, "boundaries", NULL},
                 {NORIA_CAN_PRIORITY, "priorities", NULL},
                 {NORIA_CAN_REDELIVER, "redeliver", "at most once"},
                 {NORIA_CAN_POLL, "poll", NULL},
                 {NORIA_CAN_OUTLIVE, "outlives processes", NULL},
                 {NORIA_CAN_ZERO_COPY, "zero copy", NULL},
                 {NORIA_CAN_FDS, "descriptors", NULL}};
    const char *between = "";
    printf("abilities         ");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const char *word = stat->abilities & words[i].ability ? words[i].can : words[i].cannot;
        if (word == NULL)
            continue;
        printf("%s%s", between, word);
        between = ", ";
    }
    printf("\n");
}

static void json_count(struct json *json, const char *key, int64_t count)
{
    if (count < 0)
        json_null(json, key);
    else
        json_number(json, key, count);
}

static void json_choices(struct json *json, const struct noria_stat *stat)
{
    json_string(json, "kind", word_of(kind_words, stat->kind));
    json_string(json, "order", word_of(order_words, stat->order));
    json_string(json, "full", word_of(full_words, stat->full));
    json_string(json, "wait", word_of(wait_words, stat->wait));
    json_string(json, "orphans", word_of(orphans_words, stat->orphans));
    json_string(json, "lifetime", word_of(lifetime_words, stat->lifetime));
    json_string(json, "trust", word_of(trust_words, stat->trust));
}

static void json_numbers(struct json *json, const struct noria_stat *stat)
{
    json_unsigned(json, "capacity", stat->capacity);
    json_unsigned(json, "max_message", stat->max_message);
    json_unsigned(json, "max_held", stat->max_held);
    json_unsigned(json, "max_participants", stat->max_participants);
    json_unsigned(json, "pack", stat->pack);
    json_unsigned(json, "priorities", stat->priorities);
    json_unsigned(json, "max_bytes", stat->max_bytes);
    json_number(json, "evict_ns", stat->evict_ns);
    json_count(json, "messages", stat->messages);
    json_count(json, "message_bytes", stat->bytes);
    json_unsigned(json, "held", stat->held);
    json_unsigned(json, "senders", stat->senders);
    json_unsigned(json, "receivers", stat->receivers);
    json_unsigned(json, "observers", stat->observers);
    json_unsigned(json, "sent", stat->sent);
    json_unsigned(json, "received", stat->received);
    json_unsigned(json, "redelivered", stat->redelivered);
    json_unsigned(json, "lost", stat->lost);
    json_unsigned(json, "torn", stat->torn);
    json_unsigned(json, "deaths", stat->deaths);
}

void json_listing(struct json *json, const struct noria_listing *listing)
{
    char text[64];
    json_begin_object(json, NULL);
    json_string(json, "name", listing->address);
    json_string(json, "backend", backend_of(listing, text, sizeof text));
    json_string(json, "state", state_of(listing));
    json_string(json, "owner", user_name(listing->uid, text, sizeof text));
    json_unsigned(json, "uid", listing->uid);
    json_unsigned(json, "gid", listing->gid);
    snprintf(text, sizeof text, "%04o", listing->mode & 07777);
    json_string(json, "mode", text);
    json_unsigned(json, "bytes", listing->footprint);
    json_string(json, "created", utc_time(listing->created_ns, text, sizeof text));
    if (listing->stat.carrier != NULL) {
        json_string(json, "carrier", listing->stat.carrier);
        json_string(json, "refused", listing->stat.refused);
    }
    if (listing->condition == NORIA_CONDITION_OK) {
        json_choices(json, &listing->stat);
        json_numbers(json, &listing->stat);
        json_bool(json, "nameless", listing->stat.nameless != 0);
    }
    json_end_object(json);
}
