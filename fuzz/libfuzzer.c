/* SPDX-License-Identifier: BSD-2-Clause */
/* With libFuzzer, which brings main() and keeps the input. */
#include "target.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void fuzz_broken(const char *claim)
{
    fprintf(stderr, "broken: %s\n", claim);
    abort();
}

void fuzz_still_alive(void)
{
}
