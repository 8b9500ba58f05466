/* SPDX-License-Identifier: BSD-2-Clause */
/* A channel as ls and stat show it. */
#ifndef NORIA_TOOLS_LISTING_H
#define NORIA_TOOLS_LISTING_H

#include <stdbool.h>
#include <stddef.h>

#include <noria/inspect.h>

#include "json.h"

/* noria_inspect, and for what has no segment the statistics of an observer. */
int look_at(const char *address, struct noria_listing *listing);
void print_abilities(const struct noria_stat *stat);
/* "live": somebody is attached; "idle": nobody is; else what is wrong. */
const char *state_of(const struct noria_listing *listing);
/* Whether that is a file that is nobody's memory: the copy of a channel. */
bool is_copy(const char *address);
/* Where the memory is: the scheme of its address; or "copy". */
const char *backend_of(const struct noria_listing *listing, char *text, size_t size);
void json_listing(struct json *json, const struct noria_listing *listing);

#endif
