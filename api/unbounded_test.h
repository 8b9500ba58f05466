/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of growing channels share. Included by one file per program. */
#ifndef NORIA_UNBOUNDED_TEST_H
#define NORIA_UNBOUNDED_TEST_H

#include "stepping_test.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

enum { LEN = 64 };

static inline int setup_unbounded(void **state)
{
    int rc = setup(state);

    ch.options.max_held = 1;
    ch.options.max_bytes = 1 * MIB;
    return rc;
}

static inline unsigned send_from(unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(try_send(from + i, LEN), 0);
    return from + n;
}

static inline unsigned send_until_full(unsigned from)
{
    int rc;

    while ((rc = try_send(from, LEN)) == 0)
        from++;
    assert_int_equal(rc, -EAGAIN);
    return from;
}

/* Looks until it is as small as it was; a receiver that finds nothing gives memory back. The later looks
 * wait, so that the dead are noticed. */
static inline void expect_footprint_to_fall(uint64_t to)
{
    to += is_at("file") ? 65536 : 0; /* where the file's pieces are is counted, too */
    uint8_t bytes[LEN];

    for (int i = 0; i < 1000 && stat_of(ch.rx).footprint > to; i++)
        assert_true(noria_recv(ch.rx, bytes, sizeof(bytes), i < 100 ? 0 : 1 * MS, NULL) < 0);
    assert_true(stat_of(ch.rx).footprint <= to);
}

#endif
