/* SPDX-License-Identifier: BSD-2-Clause */
/* Words of a segment are registrations for signals, too. */
#ifndef NORIA_FORGED_SIGNALS_H
#define NORIA_FORGED_SIGNALS_H

/* From now on what such a word makes this process send to itself is let go. */
void outlive_forged_signals(void);

#endif
