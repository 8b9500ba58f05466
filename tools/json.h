/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes JSON to standard output, one call per value. The key is NULL inside an array and at the top. */
#ifndef NORIA_TOOLS_JSON_H
#define NORIA_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>

enum { JSON_DEPTH = 8 };

struct json {
    int depth;
    bool filled[JSON_DEPTH]; /* by depth: there is a value already, so the next one follows a comma */
};

void json_begin_object(struct json *json, const char *key);
void json_end_object(struct json *json);
void json_begin_array(struct json *json, const char *key);
void json_end_array(struct json *json);

/* Any bytes: what is not UTF-8 becomes U+FFFD, because JSON cannot say it. */
void json_string(struct json *json, const char *key, const char *value);
void json_number(struct json *json, const char *key, int64_t value);
void json_unsigned(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

#endif
