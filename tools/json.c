/* SPDX-License-Identifier: BSD-2-Clause */
#include "json.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* The length of the UTF-8 sequence at `text`, 0 if it is none: overlong forms, surrogates and half ones are
 * not. */
static size_t utf8_length(const unsigned char *text)
{
    static const unsigned char lead_min[] = {0xc2, 0xe0, 0xf0}, lead_max[] = {0xdf, 0xef, 0xf4};
    for (size_t extra = 1; extra <= 3; extra++) {
        if (text[0] < lead_min[extra - 1] || text[0] > lead_max[extra - 1])
            continue;
        for (size_t i = 1; i <= extra; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
        }
        bool overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
        bool surrogate = text[0] == 0xed && text[1] >= 0xa0;
        bool too_large = text[0] == 0xf4 && text[1] >= 0x90;
        return overlong || surrogate || too_large ? 0 : extra + 1;
    }
    return 0;
}

static size_t put_character(const unsigned char *text)
{
    if (text[0] == '"' || text[0] == '\\') {
        printf("\\%c", text[0]);
        return 1;
    }
    if (text[0] < 0x20 || text[0] == 0x7f) {
        printf("\\u%04x", text[0]);
        return 1;
    }
    size_t length = text[0] < 0x80 ? 1 : utf8_length(text);
    if (length == 0) {
        fputs("\\ufffd", stdout);
        return 1;
    }
    fwrite(text, 1, length, stdout);
    return length;
}

static void put_string(const char *value)
{
    putchar('"');
    for (const unsigned char *text = (const unsigned char *)value; *text != '\0';)
        text += put_character(text);
    putchar('"');
}

static void begin_value(struct json *json, const char *key)
{
    if (json->filled[json->depth])
        putchar(',');
    if (json->depth > 0)
        printf("\n%*s", 2 * json->depth, "");
    json->filled[json->depth] = true;
    if (key != NULL) {
        put_string(key);
        fputs(": ", stdout);
    }
}

static void begin_level(struct json *json, const char *key, char bracket)
{
    begin_value(json, key);
    putchar(bracket);
    json->filled[++json->depth] = false;
}

static void end_level(struct json *json, char bracket)
{
    bool filled = json->filled[json->depth--];
    if (filled)
        printf("\n%*s", 2 * json->depth, "");
    putchar(bracket);
    if (json->depth == 0)
        putchar('\n');
}

void json_begin_object(struct json *json, const char *key)
{
    begin_level(json, key, '{');
}

void json_end_object(struct json *json)
{
    end_level(json, '}');
}

void json_begin_array(struct json *json, const char *key)
{
    begin_level(json, key, '[');
}

void json_end_array(struct json *json)
{
    end_level(json, ']');
}

void json_string(struct json *json, const char *key, const char *value)
{
    begin_value(json, key);
    put_string(value);
}

void json_number(struct json *json, const char *key, int64_t value)
{
    begin_value(json, key);
    printf("%" PRId64, value);
}

void json_unsigned(struct json *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    printf("%" PRIu64, value);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin_value(json, key);
    fputs(value ? "true" : "false", stdout);
}

void json_null(struct json *json, const char *key)
{
    begin_value(json, key);
    fputs("null", stdout);
}
