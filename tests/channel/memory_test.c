/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: if any one allocation of any call of the library fails, the call still succeeds, or fails with a code and a
 * sentence, leaves no descriptor, mapping or name behind, and succeeds when it is tried again; for every allocation
 * until the call makes no more, and for every kind of channel.
 */
#define KINDS_TO_TEST {NORIA_KIND_MPMC, "shm"}
#include "variants_test.h"

#include <malloc.h>

#include "own_shm.h"
#include "shapes.h"

/* ---------------------------------------------------------------------------------- the C library's, one fails */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static int countdown; /* the allocation after so many fails; negative: none */
static bool failed;

static bool fails_now(void)
{
    bool now = countdown == 0;

    if (countdown >= 0)
        countdown--;
    failed = failed || now;
    if (now)
        errno = ENOMEM;
    return now;
}

void *malloc(size_t size)
{
    return fails_now() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return fails_now() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __libc_memalign(alignment, size);
}

/* --------------------------------------------------------------------------------------------------- operations */

static noria_channel *mine, *other;

static int create(void)
{
    return noria_open(&mine, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options);
}

static int attach(void)
{
    return noria_open(&mine, ch.address, 0, NULL);
}

static int reopen(void)
{
    return noria_reopen(&mine, other, 0);
}

static int note(const struct noria_listing *listing, void *context)
{
    return listing == NULL || context != NULL;
}

static int list(void)
{
    return noria_list(note, NULL);
}

static int inspect(void)
{
    struct noria_listing listing;
    struct noria_participant who[4];
    int rc = noria_inspect(ch.address, &listing);

    if (rc == 0)
        rc = noria_who(ch.address, who, 4);
    return rc < 0 ? rc : 0;
}

static int check(void)
{
    struct noria_health health;

    return noria_fsck(ch.address, 1, &health);
}

static int see(const struct noria_dumped *dumped, void *context)
{
    return dumped == NULL || context != NULL;
}

static int dump(void)
{
    return noria_dump(ch.address, see, NULL);
}

static int collect(void)
{
    int rc = noria_gc(1, NULL, NULL);

    return rc < 0 ? rc : 0;
}

static int descriptor(void)
{
    int fd = noria_fd(other, NORIA_SEND);

    return fd < 0 ? fd : 0;
}

static int talk(void)
{
    uint8_t bytes[64];
    ssize_t rc = noria_send(other, "x", 1, 0);

    if (rc == 0 || rc == -EAGAIN)
        rc = noria_recv(other, bytes, sizeof(bytes), 0, NULL);
    return rc >= 0 || rc == -EAGAIN ? 0 : (int)rc;
}

static const struct operation {
    const char *name;
    int (*run)(void);
    bool creates; /* there is no channel before */
} operations[] = {
    {"create", create, true},        {"attach", attach, false}, {"reopen", reopen, false}, {"list", list, false},
    {"inspect and who", inspect, false}, {"fsck", check, false},    {"dump", dump, false},     {"gc", collect, false},
    {"descriptor", descriptor, false},   {"send and receive", talk, false},
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

static void close_mine(void)
{
    if (mine != NULL)
        assert_int_equal(noria_close(mine), 0);
    mine = NULL;
}

/* With allocation k failing. False: there is none. */
static bool try_without(const struct operation *operation, int k)
{
    int before = count_descriptors(), rc;
    bool reached;

    failed = false;
    countdown = k;
    rc = operation->run();
    countdown = -1;
    reached = failed;
    if (rc != 0) {
        assert_true(reached);
        assert_int_equal(rc, -ENOMEM);
        assert_true(strlen(noria_detail()) > 3);
        assert_null(mine);
        assert_int_equal(count_descriptors(), before);
        assert_int_equal(operation->run(), 0); /* the second try */
    }
    close_mine();
    if (operation->creates)
        assert_int_equal(noria_unlink(ch.address), 0);
    return reached;
}

static void any_allocation_may_fail(void **state)
{
    /* Claim: see above. */
    int all = 0;

    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int o = 0; o < OPERATIONS; o++) {
            int k = 0;
            take_shape(&shapes[i], &ch.options);
            if (!operations[o].creates) {
                assert_int_equal(noria_open(&other, ch.address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &ch.options), 0);
                assert_int_equal(talk(), 0); /* a thread's first call makes it known to liburcu */
            }
            while (k < 10000 && try_without(&operations[o], k))
                k++;
            all += k;
            assert_true(k < 10000);
            if (other != NULL) {
                assert_int_equal(noria_close(other), 0);
                assert_int_equal(noria_unlink(ch.address), 0);
            }
            other = NULL;
        }
    print_message("%d allocations were refused\n", all);
    assert_true(all > 30);
}

int main(void)
{
    static const struct named_test tests[] = {AT("shm", any_allocation_may_fail)};

    countdown = -1;
    if (!have_own_shm("size=16m")) { /* what is listed there is to be little */
        fprintf(stderr, "this user may not have a /dev/shm of its own\n");
        return 77; /* skipped */
    }
    return run_variants("memory", tests, sizeof(tests) / sizeof(tests[0]));
}
