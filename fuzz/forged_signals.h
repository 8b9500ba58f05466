/* SPDX-License-Identifier: BSD-2-Clause */
/* Words of a segment are registrations for signals, too, unless the handle trusts nobody. */
#ifndef NORIA_FORGED_SIGNALS_H
#define NORIA_FORGED_SIGNALS_H

#include <stdbool.h>

/* From now on what such a word makes this process send to itself is let go, if `may_come`; else it ends the process. */
void outlive_forged_signals(bool may_come);

#endif
