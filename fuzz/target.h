/* SPDX-License-Identifier: BSD-2-Clause */
/* What a fuzz target defines, for libFuzzer and for plain/main.c alike. */
#ifndef NORIA_FUZZ_TARGET_H
#define NORIA_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Runs one input. Returns 0; a broken promise ends in abort(). */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Ends the process with a sentence. */
_Noreturn void fuzz_broken(const char *claim);

/* Called now and then by what runs long: the watchdog of a plain run begins anew. */
void fuzz_still_alive(void);

/* What is different in a plain run: seconds of something that no input can describe, or NULL. */
extern void (*const fuzz_live)(unsigned seconds, uint64_t seed);

#endif
