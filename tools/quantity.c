/* SPDX-License-Identifier: BSD-2-Clause */
#include "quantity.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool begins_with_digit(const char *text)
{
    return isdigit((unsigned char)text[0]); /* strtoull alone takes blanks and a sign */
}

static int size_shift(const char *suffix)
{
    static const char letters[] = "KMGT";
    if (suffix[0] == '\0')
        return 0;
    const char *letter = strchr(letters, toupper((unsigned char)suffix[0]));
    if (letter == NULL || suffix[1] != '\0')
        return -EINVAL;
    return 10 * (int)(letter - letters + 1);
}

int parse_size(const char *text, uint64_t *size)
{
    if (!begins_with_digit(text))
        return -EINVAL;
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    int shift = size_shift(end);
    if (errno != 0 || shift < 0 || value > UINT64_MAX >> shift)
        return -EINVAL;
    *size = value << shift;
    return 0;
}

int parse_size32(const char *text, uint32_t *size)
{
    uint64_t value;
    if (parse_size(text, &value) != 0 || value > UINT32_MAX)
        return -EINVAL;
    *size = (uint32_t)value;
    return 0;
}

static double unit_ns(const char *unit)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"m", 60e9}, {"h", 3600e9}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].name) == 0)
            return units[i].ns;
    }
    return 0;
}

int parse_duration_ns(const char *text, int64_t *duration_ns)
{
    if (!begins_with_digit(text))
        return -EINVAL;
    char *end;
    double value = strtod(text, &end);
    double unit = unit_ns(end);
    if (unit <= 0 || !isfinite(value) || value * unit > 9e18)
        return -EINVAL;
    *duration_ns = (int64_t)(value * unit);
    return 0;
}

int parse_mode(const char *text, uint32_t *mode)
{
    if (!begins_with_digit(text))
        return -EINVAL;
    char *end;
    unsigned long value = strtoul(text, &end, 8);
    if (*end != '\0' || value > 0777)
        return -EINVAL;
    *mode = (uint32_t)value;
    return 0;
}

int parse_group(const char *text, uint32_t *group)
{
    const struct group *known = getgrnam(text);
    if (known != NULL)
        *group = known->gr_gid;
    else if (text[strspn(text, "0123456789")] != '\0' || parse_size32(text, group) != 0)
        return -EINVAL;
    return *group != UINT32_MAX ? 0 : -EINVAL; /* which stands for none */
}

int parse_word(const char *text, const char *const *words, uint32_t *place)
{
    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (text[0] != '\0' && strcmp(words[i], text) == 0) { /* "" marks a number that is not used */
            *place = i;
            return 0;
        }
    }
    return -EINVAL;
}
