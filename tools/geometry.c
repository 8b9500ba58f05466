/* SPDX-License-Identifier: BSD-2-Clause */
#include "geometry.h"

#include <errno.h>
#include <string.h>

#include "command.h"
#include "quantity.h"
#include "words.h"

bool is_geometry_option(int option)
{
    return option >= OPTION_KIND && option <= OPTION_GROUP;
}

int set_geometry(struct noria_options *options, int option, const char *argument)
{
    switch (option) {
    case OPTION_KIND:
        return parse_word(argument, kind_words, &options->kind);
    case OPTION_ORDER:
        return parse_word(argument, order_words, &options->order);
    case OPTION_CAPACITY:
        return parse_size(argument, &options->capacity);
    case OPTION_MAX_MESSAGE:
        return parse_size32(argument, &options->max_message);
    case OPTION_MAX_HELD:
        return parse_size32(argument, &options->max_held);
    case OPTION_MAX_PARTICIPANTS:
        return parse_size32(argument, &options->max_participants);
    case OPTION_PACK:
        return parse_size32(argument, &options->pack);
    case OPTION_FULL:
        return parse_word(argument, full_words, &options->full);
    case OPTION_WAIT:
        return parse_word(strcmp(argument, "adaptive") == 0 ? "futex" : argument, wait_words, &options->wait);
    case OPTION_ORPHANS:
        return parse_word(argument, orphans_words, &options->orphans);
    case OPTION_TRUST:
        return parse_word(argument, trust_words, &options->trust);
    case OPTION_PRIORITIES:
        return parse_size32(argument, &options->priorities);
    case OPTION_MAX_BYTES:
        return parse_size(argument, &options->max_bytes);
    case OPTION_EVICT:
        return parse_duration_ns(argument, &options->evict_ns);
    case OPTION_CHECKSUM:
        options->checksum = 1;
        return 0;
    case OPTION_MODE:
        return parse_mode(argument, &options->mode);
    case OPTION_GROUP:
        return parse_group(argument, &options->group);
    default:
        return -EINVAL;
    }
}

int check_address(const char *address)
{
    if (strncmp(address, "anon:", 5) == 0 || strcmp(address, "sysv:") == 0 ||
        strncmp(address, "memory:", 7) == 0)
        return fail("'%s' is memory without a name, which goes with this command: write shm:/name", address);
    if (strcmp(address, "pipe:") == 0)
        return fail("'%s' is a pipe without a name, which goes with this command: write fifo:/path, or fd:0 and fd:1", address);
    return DONE;
}

void ask_for_no_more(struct noria_options *options, unsigned asked, const struct noria_stat *stat)
{
    if ((asked & ASKED(OPTION_KIND)) == 0)
        options->kind = stat->kind;
    if ((asked & ASKED(OPTION_ORDER)) == 0)
        options->order = stat->order;
    if ((asked & ASKED(OPTION_TRUST)) == 0)
        options->trust = stat->trust;
    if ((asked & ASKED(OPTION_MAX_MESSAGE)) == 0)
        options->max_message = (uint32_t)stat->max_message;
    /* The rest is the channel's own, and is not compared; but options must not contradict each other. */
    if (stat->kind != NORIA_KIND_MPMC) {
        options->pack = stat->pack;
        options->priorities = stat->priorities;
    }
}

int open_as_it_is(noria_channel **channel, const char *address, int flags,
                  const struct noria_options *options)
{
    struct noria_options any = *options;

    any.max_message = 1;
    any.guard = 1; /* whoever truncates it ends the command with a sentence */
    return noria_open(channel, address, flags, &any); /* without CREATE the channel is what it is */
}
