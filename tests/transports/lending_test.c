/* SPDX-License-Identifier: BSD-2-Clause */
/* Batches whose pages are lent to a pipe: that the same messages come, whatever the kernel takes of them, and that no page is
 * written to while the pipe has it. */
#include "suite.h"

#include <pthread.h>
#include <sys/syscall.h>

enum { PAGE = 4096, IN_BATCH = 24, LONGEST = 30000 };

/* The kernel, as far as it lends. This takes the place of the C library's in the whole program. */
static struct {
    int calls;
    uint64_t pages;   /* pieces of pages taken */
    size_t most;      /* bytes of the next call; 0: as many as go */
    int until_refused; /* calls; -1: never */
    int error;
} kernel;

ssize_t vmsplice(int pipe, const struct iovec *pieces, size_t n, unsigned flags)
{
    struct iovec first = pieces[0];
    ssize_t rc;

    if (kernel.until_refused == 0) {
        errno = kernel.error;
        return -1;
    }
    kernel.until_refused--;
    kernel.calls++;
    if (kernel.most != 0 && first.iov_len >= kernel.most) {
        first.iov_len = kernel.most;
        pieces = &first;
        n = 1;
    }
    kernel.most = 0;
    rc = syscall(SYS_vmsplice, pipe, pieces, n, flags);
    kernel.pages += rc > 0 ? ((uint64_t)rc + PAGE - 1) / PAGE : 0;
    return rc;
}

static int begin_lending(const char *name)
{
    int rc = begin(name);

    kernel.calls = 0;
    kernel.pages = kernel.most = 0;
    kernel.until_refused = -1;
    it.options.reader_copies = 1;
    return rc;
}

static int setup_pipe(void **state)
{
    (void)state;
    return begin_lending("pipe, promised");
}

static int setup_fifo(void **state)
{
    (void)state;
    return begin_lending("fifo, promised");
}

/* A pipe as wide as it gets, whoever made it. */
static void open_wide(void)
{
    it.options.capacity = 1024;
    if (it.ends[1] >= 0)
        assert_true(fcntl(it.ends[1], F_SETPIPE_SZ, MIB) == MIB);
    open_pair();
}

/* SIGPIPE would end this process. */
static int setup_guarded(void **state)
{
    (void)state;
    return begin_lending("fifo");
}

static int setup_descriptor(void **state)
{
    (void)state;
    return begin_lending("fd of a pipe");
}

/* Of all kinds: none, less than a page, a page and a little, several pages. */
static uint32_t length_of(uint32_t number)
{
    static const uint32_t lengths[] = {4096, 64, 4064, 12, 4065, 1000, LONGEST, 4000, 8192, 511, 4096, 2048, 100, 9000};

    return number % 31 == 30 ? 0 : lengths[number % (sizeof(lengths) / sizeof(lengths[0]))];
}

static bool is_expected(const uint8_t *bytes, size_t size, uint32_t whose, uint32_t number)
{
    uint32_t len = length_of(number);

    return len < sizeof(struct stamp) ? size == len : is_message(bytes, size, whose, number, len);
}

/* Messages from that number on. */
static void make_batch(struct iovec *messages, uint32_t whose, uint32_t first)
{
    static uint8_t bytes[IN_BATCH][LONGEST];

    for (uint32_t i = 0; i < IN_BATCH; i++) {
        messages[i] = (struct iovec){bytes[i], length_of(first + i)};
        if (messages[i].iov_len >= sizeof(struct stamp))
            fill(bytes[i], whose, first + i, length_of(first + i));
    }
}

/* How many went. */
static int send_from(noria_channel *channel, uint32_t whose, uint32_t first, int64_t timeout_ns)
{
    struct iovec messages[IN_BATCH];

    make_batch(messages, whose, first);
    return noria_send_many(channel, messages, IN_BATCH, timeout_ns);
}

static void expect_number(uint32_t number)
{
    struct noria_info info = {0};
    ssize_t rc = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);

    assert_true(rc >= 0 && is_expected(received, (size_t)rc, 1, number));
    assert_int_equal(info.size, rc);
    assert_int_equal(info.flags, 0);
}

/* From `got` on, up to that one; which is then the next. */
static uint32_t expect_up_to(uint32_t got, uint32_t end)
{
    for (; got < end; got++)
        expect_number(got);
    return got;
}

/* Until nothing goes any more. The next number. */
static uint32_t fill_up(uint32_t number)
{
    int rc;

    while ((rc = send_from(it.tx, 1, number, 0)) > 0)
        number += (uint32_t)rc;
    assert_int_equal(rc, -EAGAIN);
    return number;
}

static void batches_come_whole(void **state)
{
    /* Claim: a batch of messages of all lengths goes out in one call that lends its pages, and comes in order by all verbs
     * that receive; a short batch is not lent. */
    static uint8_t bytes[5][LONGEST];
    uint32_t sent = 0, got = 0;
    struct noria_span span;
    struct noria_info infos[5];

    (void)state;
    open_wide();
    while (sent < 40 * IN_BATCH) {
        int calls = kernel.calls, rc = send_from(it.tx, 1, sent, A_WHILE);
        assert_true(rc > 0);
        assert_int_equal(kernel.calls, calls + 1);
        sent += (uint32_t)rc;
        while (got + 5 < sent) {
            struct iovec buffers[5];
            for (int i = 0; i < 5; i++)
                buffers[i] = (struct iovec){bytes[i], LONGEST};
            rc = noria_recv_many(it.rx, buffers, 5, A_WHILE, infos);
            assert_true(rc > 0);
            for (int i = 0; i < rc; i++, got++) {
                assert_true(is_expected(bytes[i], buffers[i].iov_len, 1, got));
                assert_int_equal(infos[i].flags, 0);
            }
            if (got == sent)
                break;
            assert_int_equal(noria_peek(it.rx, &span, A_WHILE, infos), 0);
            assert_true(is_expected(span.data, span.len, 1, got++));
            assert_int_equal(noria_release(it.rx, &span), 0);
        }
        got = expect_up_to(got, sent);
    }
    kernel.calls = 0;
    assert_int_equal(noria_send_many(it.tx, &(struct iovec){bytes, 1000}, 1, A_WHILE), 1);
    assert_int_equal(kernel.calls, 0);
}

static void what_the_pipe_has_stays(void **state)
{
    /* Claim: no page is filled anew while the pipe has it: filled up and emptied by halves again and again, also while it is
     * made wider and narrower, each message comes as it was sent. */
    static const int sizes[] = {1 << 16, 1 << 20, 1 << 18, 1 << 12};
    uint32_t sent = 0, got = 0;

    (void)state;
    open_pair();
    for (int round = 0; round < 200; round++) {
        sent = fill_up(sent);
        got = expect_up_to(got, got + (sent - got) / 2);
        if (round % 10 == 9) {
            got = expect_up_to(got, sent - 1); /* so that it may become narrower */
            fcntl(it.ends[1] >= 0 ? it.ends[1] : noria_fd(it.rx, NORIA_RECV), F_SETPIPE_SZ, sizes[round / 10 % 4]);
        }
    }
    assert_true(kernel.pages > 1000);
    assert_int_equal(noria_close(it.tx), 0); /* with the rest of the last one */
    it.tx = NULL;
    expect_up_to(got, sent);
}

enum { SENDERS = 3, EACH = 30 * IN_BATCH };
static uint32_t whose;

static int be_one_of_many(void)
{
    noria_channel *channel = open_handle(NORIA_SEND);

    for (uint32_t sent = 0; sent < EACH;) {
        int rc = send_from(channel, whose, sent, A_WHILE);
        CHILD_REQUIRES(rc > 0);
        sent += (uint32_t)rc;
    }
    CHILD_REQUIRES(kernel.pages > 100 && noria_close(channel) == 0);
    return 0;
}

static void senders_do_not_mix(void **state)
{
    /* Claim: of several processes that lend pages to one pipe that is mostly full, each message comes whole, each sender's
     * in order. */
    uint32_t next[SENDERS] = {0}, ended = 0;
    pid_t pids[SENDERS];

    (void)state;
    open_receiver();
    for (whose = 0; whose < SENDERS; whose++)
        pids[whose] = start(be_one_of_many);
    close_end(1);
    while (ended < SENDERS) {
        ssize_t rc = noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL);
        struct stamp stamp;
        uint32_t from = SENDERS;
        if (rc < (ssize_t)sizeof(stamp)) { /* whose it is it does not say */
            assert_int_equal(rc, 0);
            continue;
        }
        assert_true(is_sound(received, (size_t)rc, &stamp));
        from = stamp.whose;
        assert_true(from < SENDERS);
        while (length_of(next[from]) < sizeof(stamp))
            next[from]++;
        assert_int_equal(stamp.number, next[from]);
        for (next[from]++; next[from] < EACH && length_of(next[from]) < sizeof(stamp);)
            next[from]++;
        ended += next[from] == EACH;
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        expect_end(pids[i]);
}

static void each_cut_is_gone_on_from(void **state)
{
    /* Claim: whatever part of the pages the kernel takes, the rest follows. */
    uint32_t sent = 0, got = 0;

    (void)state;
    open_wide();
    for (size_t most = 1; most <= 3 * PAGE; most += most % PAGE > 70 && most % PAGE < PAGE - 40 ? 37 : 1) {
        int rc;
        kernel.most = most;
        rc = send_from(it.tx, 1, sent, A_WHILE);
        assert_true(rc > 0);
        assert_int_equal(kernel.most, 0);
        sent += (uint32_t)rc;
        got = expect_up_to(got, sent);
    }
}

static void who_may_not_lend_copies(void **state)
{
    /* Claim: where lending is refused, from the beginning or in the middle of a message, what is left is written. */
    static const int errors[] = {EPERM, ENOSYS, EINVAL, ENOMEM};
    uint32_t sent = 0, got = 0;

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(errors) / sizeof(errors[0]); i++) {
        it.options.capacity = 1024;
        open_pair();
        kernel.error = errors[i / 2];
        kernel.most = PAGE;
        kernel.until_refused = i % 2 == 0 ? 0 : 1;
        for (int calls = 0; calls < 3; calls++) {
            int rc = send_from(it.tx, 1, sent, A_WHILE);
            assert_true(rc > 0);
            sent += (uint32_t)rc;
            got = expect_up_to(got, sent);
        }
        assert_int_equal(kernel.until_refused, 0);
        close_handle(&it.tx);
        close_handle(&it.rx);
    }
}

static void a_receiver_goes_with_a_part(void **state)
{
    /* Claim: a receiver that goes while a message is half in the pipe is told of once, SIGPIPE ends nobody, and the next one
     * gets what is sent to it, whole. */
    uint32_t number = 0;
    sigset_t pending;
    ssize_t rc;

    (void)state;
    open_pair();
    for (int round = 0; round < 3; round++) {
        number = fill_up(number);
        close_handle(&it.rx);
        rc = send_from(it.tx, 1, number, A_WHILE);
        assert_int_equal(rc, -EPIPE);
        sigpending(&pending);
        assert_int_equal(sigismember(&pending, SIGPIPE), 0);
        it.rx = open_handle(NORIA_RECV);
        rc = send_from(it.tx, 1, number, A_WHILE);
        assert_true(rc > 0);
        for (uint32_t i = 0; i < (uint32_t)rc; i++) {
            assert_true(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL) == (ssize_t)length_of(number + i));
            assert_true(is_expected(received, length_of(number + i), 1, number + i));
        }
        number += (uint32_t)rc;
    }
    assert_true(kernel.pages > 0);
}

static void what_another_pipe_has_stays(void **state)
{
    /* Claim: what was lent to a FIFO whose receiver has gone is as it was, if somebody has kept that open, also when the
     * sender has gone on with another FIFO of that name. */
    static uint8_t first[4096], page[PAGE];
    const char *path = strchr(it.address, ':') + 1;
    char same[32];
    int keeper, reader;

    (void)state;
    open_pair();
    fill_up(0);
    keeper = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(keeper >= 0);
    close_handle(&it.rx);
    assert_int_equal(send_from(it.tx, 1, 1, A_WHILE), -EPIPE);
    assert_int_equal(noria_unlink(it.address), 0);
    it.rx = open_handle(NORIA_RECV);
    for (int batches = 0; batches < 10; batches++) /* so that all its pages are filled again */
        for (int sent = send_from(it.tx, 1, 1, 0); sent > 0; sent--)
            assert_true(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL) >= 0);
    assert_true(kernel.pages > 100);
    snprintf(same, sizeof(same), "/proc/self/fd/%d", keeper);
    reader = open(same, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(read(reader, page, PAGE), PAGE);
    fill(first, 1, 0, sizeof(first));
    assert_memory_equal(page + PAGE - 4064, first, 4064);
    close(reader);
    close(keeper);
}

static void children_disturb_nothing(void **state)
{
    /* Claim: a child that inherits the handle, and closes it or lives on, changes nothing of what its parent has lent. */
    uint32_t sent = 0, got = 0;

    (void)state;
    open_pair();
    for (int round = 0; round < 20; round++) {
        pid_t child;
        sent = fill_up(sent);
        fflush(NULL);
        child = fork();
        if (child == 0) {
            if (round % 2 == 0)
                noria_close(it.tx);
            _exit(0);
        }
        expect_end(child);
        got = expect_up_to(got, got + (sent - got) / 2);
    }
    noria_close(it.tx);
    it.tx = NULL;
    expect_up_to(got, sent);
}

static void others_stand_behind(void **state)
{
    /* Claim: what is gathered, or sent by itself, while a part of a lent message is left comes behind that. */
    uint32_t sent = 0, got = 0;

    (void)state;
    open_pair();
    for (int round = 0; round < 50; round++) {
        int rc;
        sent = fill_up(sent);
        got = expect_up_to(got, got + (sent - got) / 2);
        rc = round % 2 == 0 ? noria_gather(it.tx, "gathered", 8, 0, A_WHILE) : noria_send(it.tx, "gathered", 8, A_WHILE);
        assert_int_equal(rc, 0);
        assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
        got = expect_up_to(got, sent);
        assert_int_equal(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), 8);
        assert_memory_equal(received, "gathered", 8);
    }
}

enum { OF_THREAD = 3 };

/* A batch that is more than the pipe takes, on the test's handle. */
static void *send_as_thread(void *arguments)
{
    static uint8_t bytes[OF_THREAD][LONGEST];
    struct iovec messages[OF_THREAD];
    int *rc = arguments;

    for (uint32_t i = 0; i < OF_THREAD; i++) {
        fill(bytes[i], 1, i, LONGEST);
        messages[i] = (struct iovec){bytes[i], LONGEST};
    }
    __atomic_store_n(rc, noria_send_many(it.tx, messages, OF_THREAD, A_WHILE), __ATOMIC_SEQ_CST);
    return NULL;
}

/* Until it has counted so many, and waits with the rest of the last one. */
static pthread_t begin_thread(int *rc, uint64_t sent)
{
    struct noria_stat stat = {0};
    pthread_t thread;

    *rc = 0;
    assert_int_equal(pthread_create(&thread, NULL, send_as_thread, rc), 0);
    while (stat.sent < sent)
        assert_int_equal(noria_stat(it.tx, &stat), 0);
    return thread;
}

static void other_threads_change_no_count(void **state)
{
    /* Claim: who waits with the rest of his batch goes on waiting while another thread reserves; and if that finds the
     * receiver gone, the message that was cut is not counted as sent. */
    struct noria_ready side = {NULL, NORIA_SEND, 0, 0};
    struct noria_span span;
    struct noria_stat stat;
    pthread_t thread;
    int rc;

    (void)state;
    it.options.capacity = 1;
    it.options.max_message = LONGEST;
    open_pair();
    side.channel = it.tx;
    thread = begin_thread(&rc, OF_THREAD);
    assert_int_equal(noria_reserve(it.tx, 10, &span, 0), 0);
    assert_int_equal(__atomic_load_n(&rc, __ATOMIC_SEQ_CST), 0);
    for (uint32_t i = 0; i < OF_THREAD; i++)
        expect(1, i, LONGEST);
    pthread_join(thread, NULL);
    assert_int_equal(rc, OF_THREAD);
    assert_int_equal(noria_abort(it.tx, &span), 0);

    thread = begin_thread(&rc, 2 * OF_THREAD);
    close_handle(&it.rx);
    noria_wait_any(&side, 1, 0);
    pthread_join(thread, NULL);
    assert_int_equal(rc, OF_THREAD - 1);
    assert_int_equal(noria_stat(it.tx, &stat), 0);
    assert_int_equal(stat.sent, 2 * OF_THREAD - 1);
    assert_fails(noria_send(it.tx, "x", 1, 0), EPIPE);
}

static int teardown_kernel(void **state)
{
    kernel.until_refused = -1;
    kernel.most = 0;
    return teardown(state);
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, teardown_kernel)
#define WITH_ALL(test) WITH(setup_pipe, test), WITH(setup_fifo, test), WITH(setup_guarded, test), WITH(setup_descriptor, test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ALL(batches_come_whole),
        WITH_ALL(what_the_pipe_has_stays),
        WITH_ALL(senders_do_not_mix),
        WITH_ALL(each_cut_is_gone_on_from),
        WITH(setup_fifo, who_may_not_lend_copies),
        WITH(setup_guarded, who_may_not_lend_copies),
        WITH(setup_fifo, a_receiver_goes_with_a_part),
        WITH(setup_guarded, a_receiver_goes_with_a_part),
        WITH(setup_fifo, what_another_pipe_has_stays),
        WITH(setup_fifo, other_threads_change_no_count),
        WITH(setup_guarded, other_threads_change_no_count),
        WITH_ALL(children_disturb_nothing),
        WITH_ALL(others_stand_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
