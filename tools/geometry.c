/* SPDX-License-Identifier: BSD-2-Clause */
#include "geometry.h"

#include <errno.h>
#include <string.h>

#include "quantity.h"
#include "words.h"

bool is_geometry_option(int option)
{
    return option >= OPTION_KIND && option <= OPTION_MODE;
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
    case OPTION_MODE:
        return parse_mode(argument, &options->mode);
    default:
        return -EINVAL;
    }
}

int open_as_it_is(noria_channel **channel, const char *address, int flags,
                  const struct noria_options *options)
{
    struct noria_options any = *options;
    any.max_message = 1;
    any.kind = NORIA_KIND_MPMC;
    int rc = noria_open(channel, address, flags, &any);
    if (rc != -EINVAL)
        return rc;
    any.kind = NORIA_KIND_SPSC;
    return noria_open(channel, address, flags, &any);
}
