/* SPDX-License-Identifier: BSD-2-Clause */
/* How tests ask for a failure: the code, and a sentence that is about this one. After cmocka.h. */
#ifndef NORIA_FAILS_TEST_H
#define NORIA_FAILS_TEST_H

#include <errno.h>
#include <string.h>

#include <noria/noria.h>

/* So that a sentence that an earlier failure has left is not taken for a later one's. */
static inline void fail_in_a_known_way(const char *address)
{
    noria_channel *none = NULL;

    assert_int_equal(noria_open(&none, address, 0, NULL), -EINVAL);
    assert_non_null(strstr(noria_detail(), address));
}

#define assert_fails(call, error)                                             \
    do {                                                                      \
        long fails_rc;                                                        \
        fail_in_a_known_way("known-failure:");                                \
        fails_rc = (long)(call);                                              \
        if (fails_rc != -(error))                                             \
            print_message("%ld: %s\n", fails_rc, noria_detail());             \
        assert_int_equal(fails_rc, -(error));                                 \
        assert_true(strlen(noria_detail()) > 3);                              \
        assert_null(strstr(noria_detail(), "known-failure:"));                \
    } while (0)

#endif
