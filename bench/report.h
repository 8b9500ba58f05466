/* SPDX-License-Identifier: BSD-2-Clause */
/* What is printed: tables for people, or one JSON document. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "goals.h"
#include "options.h"
#include "result.h"

void report_machine(const struct options *options);
void report_result(const struct result *result);
void report_goals(const struct goal *goals, uint32_t count);
void report_list(void);

void json_begin(const struct options *options);
void json_result(const struct result *result, bool first);
void json_end(const struct goal *goals, uint32_t count);

#endif
