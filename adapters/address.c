/* SPDX-License-Identifier: BSD-2-Clause */
#include "address.h"

#include <errno.h>
#include <string.h>

#include "detail.h"

static size_t name_length(const char *rest)
{
    return strcspn(rest, "?");
}

/* The next option behind `at`, or NULL; its length. */
static const char *next_option(const char *at, size_t *length)
{
    if (*at == '\0')
        return NULL;
    at++;
    *length = strcspn(at, "&");
    return at;
}

static bool is(const char *option, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(option, word, length) == 0;
}

int noria_address_name(const char *rest, char *name, size_t size)
{
    size_t length = name_length(rest);

    if (length >= size)
        return noria_fail(-ENAMETOOLONG, "'%.32s…' is longer than the %zu bytes a name may have", rest, size - 1);
    memcpy(name, rest, length);
    name[length] = '\0';
    return 0;
}

bool noria_address_has(const char *rest, const char *word)
{
    const char *option = rest + name_length(rest);
    size_t length;

    while ((option = next_option(option, &length)) != NULL) {
        if (is(option, length, word))
            return true;
        option += length;
    }
    return false;
}

int noria_address_check(const char *scheme, const char *rest, const char *const *known)
{
    const char *option = rest + name_length(rest);
    size_t length;

    while ((option = next_option(option, &length)) != NULL) {
        int i = 0;
        while (known[i] != NULL && !is(option, length, known[i]))
            i++;
        if (known[i] == NULL)
            return noria_fail(-EINVAL, "'%.*s' is no option of %s:", (int)length, option, scheme);
        option += length;
    }
    return 0;
}
