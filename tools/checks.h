/* SPDX-License-Identifier: BSD-2-Clause */
/* What doctor looks at: each check is a function that tries the thing itself. */
#ifndef NORIA_TOOLS_CHECKS_H
#define NORIA_TOOLS_CHECKS_H

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct finding {
    enum verdict verdict;
    char text[512]; /* what was found */
    char cure[512]; /* what to do about it; empty when all is well */
};

struct check {
    const char *name;
    void (*look)(struct finding *finding);
};

/* The checks of the machine, ended by one without a name. */
extern const struct check machine_checks[];

void found(struct finding *finding, enum verdict verdict, const char *cure, const char *text, ...)
    __attribute__((format(printf, 4, 5)));

#endif
