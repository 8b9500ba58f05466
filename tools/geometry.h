/* SPDX-License-Identifier: BSD-2-Clause */
/* The options that say what a channel is created with, for every subcommand that may create one. */
#ifndef NORIA_TOOLS_GEOMETRY_H
#define NORIA_TOOLS_GEOMETRY_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include <noria/noria.h>

/* Entries of a getopt_long table; their values are above every character's. */
enum {
    OPTION_KIND = 256,
    OPTION_ORDER,
    OPTION_CAPACITY,
    OPTION_MAX_MESSAGE,
    OPTION_MAX_HELD,
    OPTION_MAX_PARTICIPANTS,
    OPTION_PACK,
    OPTION_FULL,
    OPTION_WAIT,
    OPTION_ORPHANS,
    OPTION_TRUST,
    OPTION_PRIORITIES,
    OPTION_MAX_BYTES,
    OPTION_EVICT,
    OPTION_CHECKSUM,
    OPTION_MODE,
    OPTION_GROUP
};

/* clang-format off */
#define GEOMETRY_OPTIONS                                                   \
    {"kind", required_argument, NULL, OPTION_KIND},                        \
    {"order", required_argument, NULL, OPTION_ORDER},                      \
    {"capacity", required_argument, NULL, OPTION_CAPACITY},                \
    {"max-message", required_argument, NULL, OPTION_MAX_MESSAGE},          \
    {"max-held", required_argument, NULL, OPTION_MAX_HELD},                \
    {"max-participants", required_argument, NULL, OPTION_MAX_PARTICIPANTS},\
    {"pack", required_argument, NULL, OPTION_PACK},                        \
    {"full", required_argument, NULL, OPTION_FULL},                        \
    {"wait", required_argument, NULL, OPTION_WAIT},                        \
    {"orphans", required_argument, NULL, OPTION_ORPHANS},                  \
    {"trust", required_argument, NULL, OPTION_TRUST},                      \
    {"priorities", required_argument, NULL, OPTION_PRIORITIES},            \
    {"max-bytes", required_argument, NULL, OPTION_MAX_BYTES},              \
    {"evict", required_argument, NULL, OPTION_EVICT},                      \
    {"checksum", no_argument, NULL, OPTION_CHECKSUM},                      \
    {"mode", required_argument, NULL, OPTION_MODE},                        \
    {"group", required_argument, NULL, OPTION_GROUP}
/* clang-format on */

/* The two defaults that differ between subcommands are given as string literals. */
#define GEOMETRY_HELP(capacity, max_message)                                                                 \
    "  --kind WHAT               spsc: one sender and one receiver at a time; mpmc: many; broadcast: one\n"  \
    "                            sender whose messages go to every receiver (mpmc)\n"                       \
    "  --order strict|producer   first in, first out over all senders, or per sender (strict)\n"             \
    "  --capacity N              messages of the largest size that fit for certain; 0: a send returns\n"     \
    "                            when a receiver has the message (" capacity ")\n"                           \
    "  --max-message BYTES       the largest message (" max_message ")\n"                                    \
    "  --max-held N              messages a receiver may hold unreleased (1)\n"                              \
    "  --max-participants N      handles open at a time (64)\n"                                              \
    "  --pack N                  messages of a batch that may share a slot (1)\n"                            \
    "  --full WHAT               a send to a full channel: block, fail, drop-newest or overwrite-oldest;\n"  \
    "                            the last with --capacity 1: only the newest message is kept (block)\n"      \
    "  --priorities N            levels of noria send --priority, up to 32 (1)\n"                            \
    "  --evict DURATION          leave behind a broadcast receiver that holds the sender so long (never)\n"  \
    "  --max-bytes BYTES         let the channel grow up to so many bytes (does not grow)  \n"              \
    "  --wait NAME               how to wait: futex (also called adaptive), mutex, semaphore,\n"             \
    "                            sysv-semaphore, eventfd, fifo, spin or yield (futex)\n"                     \
    "  --orphans redeliver|drop  what becomes of messages a dead receiver held (redeliver)\n"                \
    "  --trust same-user|none    whom the memory is shared with (same-user)\n"                               \
    "  --checksum                give each message a checksum; torn ones are passed over and counted\n"      \
    "  --mode OCTAL              permissions (0600)\n"                                                       \
    "  --group NAME|NUMBER       group of a channel in shm:, sysv: or file: (one's own)\n"

/* Is it one of the above? */
bool is_geometry_option(int option);
/* Sets what the option says. 0, or -EINVAL if its argument does not parse. */
int set_geometry(struct noria_options *options, int option, const char *argument);

/* DONE, or FAILED with a sentence: memory without a name would be gone with the command. */
int check_address(const char *address);

/* For options on the command line, a bit each. */
#define ASKED(option) (1u << ((option) - OPTION_KIND))

/* What was not asked for is taken from the channel that is there. */
void ask_for_no_more(struct noria_options *options, unsigned asked, const struct noria_stat *stat);

/* A command has time for a server, or another process, that is slow and there. */
#define OPEN_PATIENCE_NS INT64_C(20000000000)

/* Opens a channel that exists, whatever it was created with; of the options only the handle's own count. */
int open_as_it_is(noria_channel **channel, const char *address, int flags,
                  const struct noria_options *options);

#endif
