/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: every failure leaves one sentence, in its own thread only, and every error number has words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "clock.h"
#include "detail.h"

static void sentence_is_kept_until_the_next_failure(void **state)
{
    /* Claim: noria_fail returns its code and keeps the formatted sentence; the next failure replaces it. */
    (void)state;
    assert_int_equal(noria_fail(-ENOSPC, "%d bytes for '%s'", 7, "x"), -ENOSPC);
    assert_string_equal(noria_last_detail(), "7 bytes for 'x'");
    assert_int_equal(noria_fail_plain(-EAGAIN), -EAGAIN);
    assert_string_equal(noria_last_detail(), noria_error_words(EAGAIN));
}

static void long_sentences_are_cut(void **state)
{
    /* Claim: a sentence longer than its place is cut, not written beyond it. */
    char long_name[4096];

    (void)state;
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    noria_fail(-EINVAL, "'%s'", long_name);
    assert_true(strlen(noria_last_detail()) > 100);
    assert_true(strlen(noria_last_detail()) < sizeof(long_name) - 1);
}

static void *look_and_fail(void *seen)
{
    *(size_t *)seen = strlen(noria_last_detail());
    noria_fail(-EINVAL, "of the other thread");
    return NULL;
}

static void threads_do_not_mix_their_sentences(void **state)
{
    /* Claim: a thread starts with no failure, and its failures do not replace another thread's sentence. */
    pthread_t thread;
    size_t seen = 1;

    (void)state;
    noria_fail(-EINVAL, "of this thread");
    assert_int_equal(pthread_create(&thread, NULL, look_and_fail, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen, 0);
    assert_string_equal(noria_last_detail(), "of this thread");
}

static void every_error_has_words(void **state)
{
    /* Claim: each code of the contract has words of its own, by either sign, and any other number
     * has some. */
    static const int codes[] = {0,      EAGAIN,  ETIMEDOUT, EMSGSIZE, EPIPE,      EBUSY,   ECANCELED,
                                ESTALE, EBADMSG, EPROTO,    ENOTSUP,  EOWNERDEAD, EDEADLK, ENOENT,
                                EEXIST, EINVAL,  EACCES,    ENOSPC,   ENOMEM,     EMFILE};
    static const int strange[] = {INT_MAX, -INT_MAX, INT_MIN, 4095, -1000000};

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_string_equal(noria_error_words(codes[i]), noria_error_words(-codes[i]));
        assert_string_not_equal(noria_error_words(codes[i]), noria_error_words(INT_MAX));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(noria_error_words(codes[i]), noria_error_words(codes[j]));
    }
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
        assert_true(strlen(noria_error_words(strange[i])) > 0);
}

static void deadlines_do_not_overflow(void **state)
{
    /* Claim: a negative timeout never ends, one beyond the end of time neither, any other ends that far from
     * now. */
    int64_t before, deadline;

    (void)state;
    assert_true(noria_deadline_ns(-1) == NORIA_FOREVER);
    assert_true(noria_deadline_ns(INT64_MIN) == NORIA_FOREVER);
    assert_true(noria_deadline_ns(INT64_MAX) == NORIA_FOREVER);
    before = noria_now_ns();
    deadline = noria_deadline_ns(NORIA_NS_PER_S);
    assert_true(deadline >= before + NORIA_NS_PER_S);
    assert_true(deadline <= noria_now_ns() + NORIA_NS_PER_S);
    assert_true(noria_deadline_ns(0) >= before);
}

static void muting_nests(void **state)
{
    /* Claim: muted, a failure leaves no sentence; who mutes inside of that, as a handler may, puts back
     * what was. */
    bool outer, inner;

    (void)state;
    noria_fail(-EIO, "before");
    outer = noria_detail_mute(true);
    assert_int_equal(noria_fail(-EIO, "outer"), -EIO);
    inner = noria_detail_mute(true);
    noria_fail(-EIO, "inner");
    noria_detail_mute(inner);
    noria_fail(-EIO, "outer again");
    assert_string_equal(noria_last_detail(), "before");
    noria_detail_mute(outer);
    noria_fail(-EIO, "after");
    assert_string_equal(noria_last_detail(), "after");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentence_is_kept_until_the_next_failure),
        cmocka_unit_test(long_sentences_are_cut),
        cmocka_unit_test(threads_do_not_mix_their_sentences),
        cmocka_unit_test(muting_nests),
        cmocka_unit_test(every_error_has_words),
        cmocka_unit_test(deadlines_do_not_overflow),
    };

    return cmocka_run_group_tests_name("detail", tests, NULL, NULL);
}
