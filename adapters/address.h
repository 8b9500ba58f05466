/* SPDX-License-Identifier: BSD-2-Clause */
/* What follows the scheme of an adapter's address: NAME[?OPTION[&OPTION]...]. */
#ifndef NORIA_ADDRESS_H
#define NORIA_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

/* Copies the name. 0, -ENAMETOOLONG with a sentence. */
int noria_address_name(const char *rest, char *name, size_t size);
/* Whether an option is there. */
bool noria_address_has(const char *rest, const char *option);
/* 0 if there are no options but those, a list that ends with NULL; otherwise -EINVAL with a sentence. */
int noria_address_check(const char *scheme, const char *rest, const char *const *known);

#endif
