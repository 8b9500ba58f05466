/* SPDX-License-Identifier: BSD-2-Clause */
#include "words.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <time.h>

#include <noria/noria.h>

const char *const kind_words[] = {"", "spsc", "mpmc", "broadcast", NULL};
const char *const order_words[] = {"strict", "producer", NULL};
const char *const full_words[] = {"block", "fail", "drop-newest", "overwrite-oldest", NULL};
const char *const wait_words[] = {"futex", "mutex", "semaphore", "sysv-semaphore", "eventfd", "fifo", "spin",
                                  "yield", NULL};
const char *const orphans_words[] = {"redeliver", "drop", NULL};
const char *const lifetime_words[] = {"persist", "unlink-last", "unlink-creator", NULL};
const char *const trust_words[] = {"same-user", "none", NULL};
const char *const condition_words[] = {"ok", "unfinished", "version", "corrupt", "no-access", "too-large", NULL};

const char *word_of(const char *const *words, uint32_t number)
{
    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (i == number)
            return words[i];
    }
    return "?";
}

const char *user_name(uint32_t uid, char *text, size_t size)
{
    const struct passwd *entry = getpwuid(uid);
    if (entry != NULL)
        snprintf(text, size, "%s", entry->pw_name);
    else
        snprintf(text, size, "%" PRIu32, uid);
    return text;
}

const char *utc_time(int64_t realtime_ns, char *text, size_t size)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, size, "?");
    return text;
}

const char *age_words(int64_t realtime_ns, char *text, size_t size)
{
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t seconds = now.tv_sec - realtime_ns / 1000000000;
    size_t i = 0;
    while (units[i].seconds > 1 && seconds < 2 * units[i].seconds)
        i++;
    snprintf(text, size, "%" PRId64 "%c", seconds > 0 ? seconds / units[i].seconds : 0, units[i].unit);
    return text;
}

const char *role_words(uint32_t flags)
{
    static const char *const roles[] = {"observer", "sender", "receiver", "both"};
    return roles[flags & (NORIA_SEND | NORIA_RECV)];
}

const char *count_or_dash(int64_t count, char *text, size_t size)
{
    if (count < 0)
        snprintf(text, size, "-");
    else
        snprintf(text, size, "%" PRId64, count);
    return text;
}
