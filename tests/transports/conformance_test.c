/* SPDX-License-Identifier: BSD-2-Clause */
/* What every transport promises, asked of each: order, boundaries, sizes, waiting, ends. */
#include "suite.h"

static const uint32_t sizes[] = {0,    1,    31,   32,    33,    64,    4000,   4063, 4064,
                                 4065, 4096, 8100, 65535, 65536, 65537, 200000, MIB};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), ROUNDS = 3 };

static uint32_t size_of(uint32_t number)
{
    uint32_t size = sizes[number % SIZES];

    return size < it.transport->longest ? size : it.transport->longest;
}

static int send_all_sizes(void)
{
    open_sender();
    close_end(0);
    for (uint32_t i = 0; i < ROUNDS * SIZES; i++)
        CHILD_REQUIRES(send_numbered(it.tx, 1, i, size_of(i), A_WHILE) == 0);
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void sizes_order_and_boundaries(void **state)
{
    /* Claim: messages of 0 bytes to 1 MiB come whole, in order, once, with sequences that grow; then the stream ends,
     * and nothing is said to be lost. */
    uint64_t last = 0;
    pid_t child;

    (void)state;
    open_receiver();
    child = start(send_all_sizes);
    close_end(1);
    for (uint32_t i = 0; i < ROUNDS * SIZES; i++) {
        struct noria_info info = expect(1, i, size_of(i));
        assert_true(i == 0 || info.sequence > last);
        assert_int_equal(info.flags, 0);
        last = info.sequence;
    }
    expect_stream_end(A_WHILE);
    expect_end(child);
}

static void empty_is_told_in_time(void **state)
{
    /* Claim: a receive on an empty channel is -EAGAIN with timeout 0, and otherwise -ETIMEDOUT, not before its time. */
    int64_t start_ns;

    (void)state;
    open_pair();
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EAGAIN);
    start_ns = now_ns();
    assert_fails(noria_recv(it.rx, received, sizeof(received), 20 * MS, NULL), ETIMEDOUT);
    assert_true(now_ns() - start_ns >= 20 * MS);
    assert_true(now_ns() - start_ns < 20 * SECOND);
    assert_int_equal(send_numbered(it.tx, 1, 0, 20, A_WHILE), 0);
    expect(1, 0, 20);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EAGAIN);
}

/* The rest of a message that was cut goes with any call of its sender, which waits for nothing here. */
static struct noria_info expect_with_sender(uint32_t number)
{
    struct noria_ready side = {it.tx, NORIA_SEND, 0, 0}, news = {it.rx, NORIA_RECV, 0, 0};

    while (!it.transport->has_no_descriptor && noria_wait_any(&news, 1, 10 * MS) == 0)
        noria_wait_any(&side, 1, 0);
    return expect(1, number, 500);
}

/* How long it takes to know whether there is room, or a message: no time, unless somebody else is to be asked. */
static int64_t a_look(void)
{
    return it.transport->is_served ? 2 * SECOND : 0;
}

static void full_is_told_in_time(void **state)
{
    /* Claim: a full channel refuses at once (-EAGAIN) or at the deadline (-ETIMEDOUT), also a message in several
     * pieces; what was taken comes out, all of it and nothing else; then there is room again. */
    uint32_t sent = 0, taken;
    int64_t start_ns;
    int rc;

    (void)state;
    open_pair();
    /* The first one connects. A TCP that is full may have more room a moment later, so it is given that. */
    do {
        while ((rc = send_numbered(it.tx, 1, sent, 500, sent == 0 ? A_WHILE : 50 * MS + a_look())) == 0)
            sent++;
        assert_int_equal(rc, -ETIMEDOUT);
        rc = send_numbered(it.tx, 1, sent, 500, a_look());
        sent += rc == 0;
    } while (rc == 0);
    assert_int_equal(rc, it.transport->is_served ? -ETIMEDOUT : -EAGAIN);
    start_ns = now_ns();
    assert_fails(send_numbered(it.tx, 1, 1000000, it.transport->longest, 20 * MS), ETIMEDOUT);
    assert_true(now_ns() - start_ns >= 20 * MS);
    for (taken = 0; taken < sent / 2; taken++)
        expect_with_sender(taken);
    rc = send_numbered(it.tx, 1, 1000000, it.transport->longest, 10 * MS + a_look()); /* perhaps some pieces */
    for (; taken < sent; taken++)
        expect_with_sender(taken);
    if (rc == 0)
        expect(1, 1000000, it.transport->longest);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL),
                 EAGAIN); /* pieces of what was given up go, too */
    assert_int_equal(send_numbered(it.tx, 1, sent, 500, A_WHILE), 0);
    assert_int_equal(expect(1, sent, 500).flags, 0);
}

static void short_buffers_lose_nothing(void **state)
{
    /* Claim: a message that is longer than the buffer is -EMSGSIZE, touches nothing and stays the first. */
    uint8_t small[10] = {42};
    struct noria_info info = {.size = 42};

    (void)state;
    open_pair();
    assert_int_equal(send_numbered(it.tx, 1, 0, 600, A_WHILE), 0);
    assert_int_equal(send_numbered(it.tx, 1, 1, 30, A_WHILE), 0);
    for (int i = 0; i < 3; i++)
        assert_fails(noria_recv(it.rx, small, sizeof(small), A_WHILE, &info), EMSGSIZE);
    assert_int_equal(small[0], 42);
    assert_int_equal(info.size, 42);
    expect(1, 0, 600);
    expect(1, 1, 30);
}

static void too_long_is_refused(void **state)
{
    /* Claim: a message above max_message is -EMSGSIZE, and the channel goes on. */
    size_t len;
    uint8_t *bytes;

    (void)state;
    open_pair();
    len = stat_of(it.tx).max_message + 1ul;
    bytes = calloc(1, len);
    assert_non_null(bytes);
    assert_fails(noria_send(it.tx, bytes, len, 0), EMSGSIZE);
    free(bytes);
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
}

static void zero_copy_is_real_or_emulated(void **state)
{
    /* Claim: reserve, commit, abort, peek and release do what they say, with the bytes that were written, also of a
     * length that takes several pieces; a second reservation or receive meanwhile is -EBUSY. */
    struct noria_span out, in;
    struct noria_info info;

    (void)state;
    open_pair();
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t len = i == 1 ? 3000 : 100 * i;
        assert_int_equal(noria_reserve(it.tx, 5000, &out, 0), 0);
        assert_fails(noria_reserve(it.tx, 10, &in, 0), EBUSY);
        assert_int_equal(noria_abort(it.tx, &out), 0);
        assert_int_equal(noria_reserve(it.tx, 5000, &out, 0), 0);
        fill(out.data, 1, i, len);
        assert_int_equal(noria_commit(it.tx, &out, len, A_WHILE), 0);
        assert_fails(noria_commit(it.tx, &out, len, 0), EINVAL);
        assert_int_equal(noria_peek(it.rx, &in, A_WHILE, &info), 0);
        assert_true(is_message(in.data, in.len, 1, i, len));
        assert_int_equal(info.size, len);
        assert_fails(noria_peek(it.rx, &out, 0, NULL), EBUSY);
        assert_int_equal(noria_release(it.rx, &in), 0);
        assert_fails(noria_release(it.rx, &in), EINVAL);
    }
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EAGAIN);
}

enum { MANY = 100, BATCH = 16 };

static int send_batches(void)
{
    static uint8_t bytes[BATCH][200];
    uint32_t sent = 0;

    open_sender();
    close_end(0);
    while (sent < MANY) {
        struct iovec messages[BATCH];
        int n = 0, rc;
        for (; n < BATCH && sent + (uint32_t)n < MANY; n++) {
            fill(bytes[n], 1, sent + (uint32_t)n, (sent + (uint32_t)n) % 200);
            messages[n] = (struct iovec){bytes[n], (sent + (uint32_t)n) % 200};
        }
        rc = noria_send_many(it.tx, messages, n, A_WHILE);
        CHILD_REQUIRES(rc > 0 && rc <= n);
        sent += (uint32_t)rc;
    }
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void many_at_once(void **state)
{
    /* Claim: send_many and recv_many move the same messages, in order, however they are cut into calls. */
    static uint8_t bytes[7][200];
    uint32_t got = 0;
    pid_t child;

    (void)state;
    open_receiver();
    child = start(send_batches);
    close_end(1);
    while (got < MANY) {
        struct iovec buffers[7];
        struct noria_info infos[7];
        int rc;
        for (int i = 0; i < 7; i++)
            buffers[i] = (struct iovec){bytes[i], sizeof(bytes[i])};
        rc = noria_recv_many(it.rx, buffers, 7, A_WHILE, infos);
        assert_true(rc > 0 && rc <= 7);
        for (int i = 0; i < rc; i++, got++) {
            assert_true(is_message(buffers[i].iov_base, buffers[i].iov_len, 1, got, got % 200));
            assert_int_equal(infos[i].size, got % 200);
        }
    }
    expect_stream_end(A_WHILE);
    expect_end(child);
}

enum { SENDS = 12, IN_ROUND = 16, OF_ROUND = 20000 };
static struct rounds {
    uint32_t sent, received; /* messages */
} * rounds;

/* Batches that are more than goes in at once; after each this process does nothing until all has come. */
static int send_in_rounds(void)
{
    static uint8_t bytes[IN_ROUND][OF_ROUND];
    uint32_t len = it.transport->longest < OF_ROUND ? it.transport->longest : OF_ROUND, sent = 0;

    open_sender();
    close_end(0);
    for (int round = 0; round < SENDS; round++) {
        struct iovec messages[IN_ROUND];
        int rc;
        for (uint32_t i = 0; i < IN_ROUND; i++) {
            fill(bytes[i], 1, sent + i, len);
            messages[i] = (struct iovec){bytes[i], len};
        }
        rc = noria_send_many(it.tx, messages, IN_ROUND, A_WHILE);
        CHILD_REQUIRES(rc > 0);
        sent += (uint32_t)rc;
        __atomic_store_n(&rounds->sent, sent, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&rounds->received, __ATOMIC_SEQ_CST) < sent)
            sched_yield();
    }
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void what_is_counted_is_out(void **state)
{
    /* Claim: what a batch that had time says is sent comes without another call of the sender. */
    uint32_t len = it.transport->longest < OF_ROUND ? it.transport->longest : OF_ROUND, got = 0;
    pid_t child;
    int status;

    (void)state;
    rounds = mmap(NULL, sizeof(*rounds), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(rounds != MAP_FAILED);
    open_receiver();
    child = start(send_in_rounds);
    close_end(1);
    while (waitpid(child, &status, WNOHANG) == 0) {
        ssize_t rc = noria_recv(it.rx, received, sizeof(received), 10 * MS, NULL);
        if (rc == -EPIPE || (rc == -ETIMEDOUT && __atomic_load_n(&rounds->sent, __ATOMIC_SEQ_CST) <= got))
            continue;
        if (rc == -ETIMEDOUT) /* it is on its way */
            rc = noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL);
        assert_true(rc >= 0 && is_message(received, (size_t)rc, 1, got, len));
        __atomic_store_n(&rounds->received, ++got, __ATOMIC_SEQ_CST);
    }
    assert_int_equal(status, 0);
    munmap(rounds, sizeof(*rounds));
}

/* --------------------------------------------------------------------------------------------------- many processes */

enum { SENDERS = 4, EACH = 120 };
static uint32_t whose;

static int be_one_of_many(void)
{
    noria_channel *channel = open_handle(NORIA_SEND);

    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t len = 12 + (i % 10 == 0 ? 9000 + whose * 1000 : i * 13 % 700);
        CHILD_REQUIRES(
            send_numbered(channel, whose, i, len < it.transport->longest ? len : it.transport->longest, A_WHILE) == 0);
    }
    CHILD_REQUIRES(noria_close(channel) == 0);
    return 0;
}

static void many_senders_do_not_mix(void **state)
{
    /* Claim: messages of several senders, many longer than a pipe writes at once, come whole, each sender's in order,
     * each once; info.sender tells them apart; and nothing is said to be lost. */
    uint32_t next[SENDERS] = {0}, numbers[SENDERS] = {0};
    pid_t pids[SENDERS];
    struct noria_info info;
    struct stamp stamp;

    (void)state;
    open_receiver();
    if (!can(it.rx, NORIA_CAN_MANY_SENDERS))
        skip();
    it.tx = open_handle(NORIA_SEND); /* the stream does not end before all have come */
    assert_int_equal(send_numbered(it.tx, SENDERS, 0, 100, A_WHILE), 0);
    expect(SENDERS, 0, 100);
    for (whose = 0; whose < SENDERS; whose++)
        pids[whose] = start(be_one_of_many);
    for (uint32_t i = 0; i < SENDERS * EACH; i++) {
        ssize_t len = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);
        assert_true(len >= 0);
        assert_true(is_sound(received, (size_t)len, &stamp));
        assert_in_range(stamp.whose, 0, SENDERS - 1);
        assert_int_equal(stamp.number, next[stamp.whose]++);
        assert_true(stamp.number == 0 || numbers[stamp.whose] == info.sender);
        numbers[stamp.whose] = info.sender;
        assert_int_equal(info.flags, 0);
    }
    for (int i = 0; i < SENDERS; i++)
        expect_end(pids[i]);
    close_end(1);
    close_handle(&it.tx);
    expect_stream_end(A_WHILE);
}

static void second_receivers_are_refused_or_served(void **state)
{
    /* Claim: where several may receive, each message goes to exactly one of them; elsewhere the second is -EBUSY,
     * whether it asks for the same name or for the same descriptor, and the first goes on undisturbed. */
    int64_t until_ns = now_ns() + 2 * A_WHILE;
    noria_channel *second = NULL;
    uint32_t got = 0;
    int rc;

    (void)state;
    it.options.max_message = it.transport->longest < 1000 ? it.transport->longest : 1000;
    it.rx = open_handle(NORIA_RECV);
    rc = try_open(&second, NORIA_RECV);
    open_sender();
    if (!can(it.rx, NORIA_CAN_MANY_RECEIVERS)) {
        if (it.transport->cannot_be_claimed)
            close_handle(&second);
        else
            assert_int_equal(rc, -EBUSY);
        assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
        expect(1, 0, 100);
        return;
    }
    assert_int_equal(rc, 0);
    look_for_sender(second, 2);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
    for (uint32_t turn = 0; got < 6; turn++) {
        struct stamp stamp;
        ssize_t len = noria_recv(turn % 2 == 0 ? it.rx : second, received, sizeof(received), 0, NULL);
        assert_true(len == -EAGAIN || is_sound(received, (size_t)len, &stamp));
        got += len >= 0;
        assert_true(now_ns() < until_ns);
    }
    assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
    assert_int_equal(noria_recv(second, received, sizeof(received), 0, NULL), -EAGAIN);
    close_handle(&second);
}

enum { THREADS = 3, OF_THREAD = 60 };

static void *send_in_thread(void *number)
{
    uint8_t bytes[9000];
    uint32_t mine = *(uint32_t *)number;

    for (uint32_t i = 0; i < OF_THREAD; i++) {
        uint32_t len = i % 8 == 0 ? 9000 : 20 + i;
        len = len < it.transport->longest ? len : it.transport->longest;
        fill(bytes, mine, i, len);
        if (noria_send(it.tx, bytes, len, A_WHILE) != 0)
            return number;
    }
    return NULL;
}

static void threads_share_a_handle(void **state)
{
    /* Claim: threads that send by one handle at the same time do not mix their messages, long ones among them, nor lose
     * any, and each one's come in order. */
    uint32_t numbers[THREADS] = {0, 1, 2}, next[THREADS] = {0};
    pthread_t threads[THREADS];
    struct stamp stamp = {0};
    void *failed;

    (void)state;
    open_pair();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_thread, &numbers[i]), 0);
    for (int i = 0; i < THREADS * OF_THREAD; i++) {
        struct noria_info info;
        ssize_t len = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);
        assert_true(len >= 0 && is_sound(received, (size_t)len, &stamp) && stamp.whose < THREADS);
        assert_int_equal(stamp.number, next[stamp.whose]++);
        assert_int_equal(info.flags, 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

/* -------------------------------------------------------------------------------------------------- ends of streams */

static void streams_end_and_go_on(void **state)
{
    /* Claim: when the last sender has left, what it sent is received, then -EPIPE comes whatever the timeout; where
     * names can be opened again a new sender makes the stream go on. */
    (void)state;
    open_pair();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    close_handle(&it.tx);
    expect(1, 0, 100);
    for (int i = 0; i < 3; i++)
        expect_stream_end(i == 0 ? -1 : 0);
    if (!it.transport->renews)
        return;
    open_sender();
    assert_int_equal(send_numbered(it.tx, 1, 1, 100, A_WHILE), 0);
    expect_of_new(1, 1, 100);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EAGAIN);
}

static void a_receiver_that_has_gone_is_told(void **state)
{
    /* Claim: SIGPIPE, at its default (but where it is promised to be ignored), never ends a sender: where messages do not stay for the next receiver it gets
     * -EPIPE, once, and then waits for that one, or is told so again. */
    int64_t until_ns = now_ns() + A_WHILE;
    int rc = 0;

    (void)state;
    open_pair();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
    close_handle(&it.rx);
    if (it.transport->keeps_for_nobody) {
        assert_int_equal(send_numbered(it.tx, 1, 1, 100, 0), 0);
        return;
    }
    while (rc == 0 && now_ns() < until_ns) /* with TCP the word of it may be under way, and the channel fill up meanwhile */
        rc = send_numbered(it.tx, 1, 1, 100, A_WHILE);
    assert_int_equal(rc, -EPIPE);
    rc = send_numbered(it.tx, 1, 1, 100, 0);
    assert_int_equal(rc, it.transport->renews ? -EAGAIN : -EPIPE);
    if (!it.transport->renews)
        return;
    open_receiver();
    assert_int_equal(send_numbered(it.tx, 1, 1, 100, A_WHILE), 0);
    expect(1, 1, 100);
}

static void any_start_order(void **state)
{
    /* Claim: where channels have names the sender may come first, and its message waits, or it does. */
    pid_t child;

    (void)state;
    if (it.transport->by_descriptors)
        return;
    child = start(send_all_sizes);
    while (noria_open(&it.rx, it.address, NORIA_RECV, &it.options) == -ENOENT)
        sched_yield();
    assert_non_null(it.rx);
    for (uint32_t i = 0; i < ROUNDS * SIZES; i++)
        expect(1, i, size_of(i));
    expect_end(child);
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

static bool is_asleep(pid_t pid, pid_t thread)
{
    char path[64], line[256] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, thread);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = '\0';
    fclose(file);
    state = strrchr(line, ')');
    return state != NULL && state[2] == 'S';
}

struct blocked {
    pthread_t thread;
    pid_t id;
    noria_channel *channel;
    bool sends, done;
    ssize_t rc;
};

static void *block(void *context)
{
    struct blocked *blocked = context;
    uint8_t bytes[500] = {0};

    __atomic_store_n(&blocked->id, gettid(), __ATOMIC_SEQ_CST);
    blocked->rc = blocked->sends ? noria_send(blocked->channel, bytes, sizeof(bytes), -1)
                                 : noria_recv(blocked->channel, bytes, sizeof(bytes), -1, NULL);
    __atomic_store_n(&blocked->done, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* A thread in a call that waits. False: it did not have to. */
static bool start_call(struct blocked *blocked, noria_channel *channel, bool sends)
{
    *blocked = (struct blocked){.channel = channel, .sends = sends};
    assert_int_equal(pthread_create(&blocked->thread, NULL, block, blocked), 0);
    while (!__atomic_load_n(&blocked->done, __ATOMIC_SEQ_CST)) {
        pid_t id = __atomic_load_n(&blocked->id, __ATOMIC_SEQ_CST);
        if (id != 0 && is_asleep(getpid(), id))
            return true;
        sched_yield();
    }
    pthread_join(blocked->thread, NULL);
    return false;
}

static void start_blocked_receiver(struct blocked *blocked)
{
    assert_true(start_call(blocked, it.rx, false));
}

/* Fills the channel, and a sender waits. What TCP has on its way makes room a little later, so more than once perhaps.
 * How many messages are there. */
static int start_blocked_sender(struct blocked *blocked)
{
    int sent = 0;

    do {
        while (send_numbered(it.tx, 1, 0, 500, 20 * MS + a_look()) == 0)
            sent++;
    } while (!start_call(blocked, it.tx, true) && ++sent);
    return sent;
}

static void shutdown_ends_waits(void **state)
{
    /* Claim: noria_shutdown makes a receiver that waits, and a sender that waits for room, return -ECANCELED, as every
     * later call; noria_close after it leaves nothing behind. */
    struct blocked receiver, sender;

    (void)state;
    open_pair();
    start_blocked_receiver(&receiver);
    assert_int_equal(noria_shutdown(it.rx), 0);
    pthread_join(receiver.thread, NULL);
    assert_int_equal(receiver.rc, -ECANCELED);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), ECANCELED);
    for (;;) {
        start_blocked_sender(&sender);
        assert_int_equal(noria_shutdown(it.tx), 0);
        pthread_join(sender.thread, NULL);
        if (sender.rc != 0 || it.transport->by_descriptors)
            break;
        close_handle(&it.tx); /* there was room after all, before the shutdown: once more */
        open_sender();
    }
    assert_int_equal(sender.rc, -ECANCELED);
}

static void close_ends_receivers_wait(void **state)
{
    /* Claim: noria_close of a handle by which another thread waits for a message makes that call return -ECANCELED. */
    struct blocked receiver;

    (void)state;
    open_pair();
    start_blocked_receiver(&receiver);
    close_handle(&it.rx);
    pthread_join(receiver.thread, NULL);
    assert_int_equal(receiver.rc, -ECANCELED);
}

static void close_ends_senders_wait(void **state)
{
    /* Claim: the same of one that waits for room. */
    struct blocked sender;

    (void)state;
    open_pair();
    for (;;) {
        start_blocked_sender(&sender);
        close_handle(&it.tx);
        pthread_join(sender.thread, NULL);
        if (sender.rc != 0 || it.transport->by_descriptors)
            break;
        open_sender(); /* there was room after all, before the close: once more */
    }
    assert_int_equal(sender.rc, -ECANCELED);
}

static void sleepers_are_woken(void **state)
{
    /* Claim: a receiver that sleeps gets what is sent then, and a sender that waits for room gets on when there is
     * some. */
    struct blocked receiver, sender;
    int there;

    (void)state;
    open_pair();
    start_blocked_receiver(&receiver);
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    pthread_join(receiver.thread, NULL);
    assert_int_equal(receiver.rc, 100);
    there = start_blocked_sender(&sender);
    while (there-- > 0)
        assert_int_equal(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), 500);
    pthread_join(sender.thread, NULL);
    assert_int_equal(sender.rc, 0);
}

static void descriptors_tell(void **state)
{
    /* Claim: the descriptor of a side is quiet while a try would fail and becomes readable when it would not; where
     * there is none, that is said. */
    struct pollfd rx = {.events = POLLIN}, tx = {.events = POLLIN};
    int64_t until_ns;

    (void)state;
    open_pair();
    if (it.transport->has_no_descriptor) {
        assert_fails(noria_fd(it.rx, NORIA_RECV), ENOTSUP);
        assert_false(can(it.rx, NORIA_CAN_POLL));
        return;
    }
    assert_true(can(it.rx, NORIA_CAN_POLL));
    rx.fd = noria_fd(it.rx, NORIA_RECV);
    tx.fd = noria_fd(it.tx, NORIA_SEND);
    assert_true(rx.fd >= 0 && tx.fd >= 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(noria_recv(it.rx, received, sizeof(received), 0, NULL), -EAGAIN);
        assert_int_equal(poll(&rx, 1, 0), 0);
        assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
        assert_int_equal(poll(&rx, 1, 60000), 1);
        expect(1, 0, 100);
    }
    until_ns = now_ns() + A_WHILE;
    do { /* what TCP has on its way makes room a little later */
        while (send_numbered(it.tx, 1, 0, 500, 20 * MS + a_look()) == 0)
            ;
        assert_true(now_ns() < until_ns);
    } while (poll(&tx, 1, 0) != 0);
    while (noria_recv(it.rx, received, sizeof(received), a_look(), NULL) >= 0)
        ;
    assert_int_equal(poll(&tx, 1, 60000), 1);
    assert_int_equal(send_numbered(it.tx, 1, 0, 500, A_WHILE), 0);
}

/* ------------------------------------------------------------------------------------------------ forks, statistics */

static int stale_life(void)
{
    return 0;
}

static void inherited_handles_are_stale(void **state)
{
    /* Claim: in a child every call on an inherited handle is -ESTALE, closing it disturbs nobody, and the parent goes
     * on; a child that lives on keeps nobody else's role. */
    int status;
    pid_t child;

    (void)state;
    open_pair();
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct noria_stat stat;
        if (noria_send(it.tx, "x", 1, 0) != -ESTALE || noria_recv(it.rx, received, 10, 0, NULL) != -ESTALE ||
            noria_stat(it.rx, &stat) != -ESTALE || noria_shutdown(it.tx) != -ESTALE)
            _exit(1);
        noria_close(it.tx);
        noria_close(it.rx);
        _exit(stale_life());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect(1, 0, 100);
    if (it.transport->by_descriptors)
        return;
    child = fork();
    if (child == 0) { /* holds what it inherited, and its parent's role is free all the same */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    close_handle(&it.rx);
    it.rx = open_handle(NORIA_RECV);
    close_handle(&it.tx);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static int reopened_life(void)
{
    return 0;
}

static void children_reopen(void **state)
{
    /* Claim: noria_reopen gives a child a handle of its own, where a name or kept ends lead back to the channel. */
    noria_channel *mine = NULL, *keeper = NULL;
    int status;
    pid_t child;

    (void)state;
    if (it.transport->by_descriptors && strcmp(it.transport->name, "pipe") != 0)
        return;
    if (strcmp(it.transport->name, "pipe") == 0) {
        assert_int_equal(noria_open(&keeper, "pipe:", 0, NULL), 0);
        assert_int_equal(noria_reopen(&it.rx, keeper, NORIA_RECV), 0);
    } else {
        open_receiver();
        assert_int_equal(noria_open(&keeper, it.address, it.transport->deals ? NORIA_CREATE : 0, &it.options), 0);
    }
    fflush(NULL);
    child = fork();
    if (child == 0) {
        if (noria_reopen(&mine, keeper, NORIA_SEND) != 0)
            _exit(1);
        noria_close(keeper);
        noria_close(it.rx);
        if (send_numbered(mine, 1, 0, 100, A_WHILE) != 0 || noria_close(mine) != 0)
            _exit(2);
        _exit(reopened_life());
    }
    close_handle(&keeper);
    expect(1, 0, 100);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    expect_stream_end(A_WHILE);
}

static void capabilities_are_true(void **state)
{
    /* Claim: what stat says a transport cannot do is -ENOTSUP with a sentence, at open or in the call. Each can keep
     * boundaries, as sizes_order_and_boundaries shows. */
    noria_channel *channel = NULL;
    struct noria_stat stat;

    (void)state;
    open_pair();
    stat = stat_of(it.tx);
    assert_true(stat.max_message >= it.transport->longest);
    assert_true((stat.abilities & NORIA_CAN_BOUNDARIES) != 0);
    if ((stat.abilities & NORIA_CAN_PRIORITY) == 0)
        assert_fails(noria_send_prio(it.tx, "x", 1, 1, 0), ENOTSUP);
    /* What a process had read when it dies only they can give to another one. */
    assert_int_equal((stat.abilities & NORIA_CAN_REDELIVER) != 0,
                     strcmp(it.transport->name, "shm") == 0 || it.transport->is_served);
    assert_int_equal((stat.abilities & NORIA_CAN_OUTLIVE) != 0, it.transport->keeps_for_nobody);
    assert_int_equal((stat.abilities & NORIA_CAN_ZERO_COPY) != 0, strcmp(it.transport->name, "shm") == 0);
    if (strcmp(it.transport->name, "shm") == 0)
        return;
    if (strncmp(it.transport->name, "mq", 2) != 0)
        assert_fails(noria_notify_signal(it.rx, SIGRTMIN, NORIA_NOTIFY_ONCE), ENOTSUP);
    it.options.kind = NORIA_KIND_BROADCAST;
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.kind = NORIA_KIND_MPMC;
    it.options.capacity = 0;
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.capacity = 8;
    it.options.full = NORIA_FULL_OVERWRITE_OLDEST;
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.full = NORIA_FULL_BLOCK;
    for (uint32_t lifetime = NORIA_UNLINK_LAST; lifetime <= NORIA_UNLINK_CREATOR; lifetime++) {
        it.options.lifetime = lifetime;
        assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    }
    it.options.lifetime = NORIA_PERSIST;
    it.options.max_held = 2;
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.max_held = 1;
    it.options.need_receiver = 1;
    if ((stat.abilities & NORIA_CAN_OUTLIVE) != 0)
        assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.need_receiver = 0;
    it.options.group = getegid();
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.group = UINT32_MAX;
    it.options.checksum = it.transport->is_served ? 1 : 2;
    assert_fails(try_open(&channel, NORIA_SEND), it.transport->is_served ? ENOTSUP : EINVAL);
}

/* Whether there was no room for that one. */
static bool is_dropped(uint32_t number)
{
    uint64_t before = stat_of(it.tx).lost;

    assert_int_equal(send_numbered(it.tx, 1, number, 500, -1), 0);
    return stat_of(it.tx).lost != before;
}

static void dropping_is_told(void **state)
{
    /* Claim: with DROP_NEWEST a full channel takes no time and loses its newest messages, and the next one received
     * tells how many, exactly. */
    bool is_tcp = strncmp(it.transport->name, "tcp", 3) == 0; /* it connects, and makes room, a little later */
    bool is_shm = strcmp(it.transport->name, "shm") == 0;     /* there the flag may come with any message */
    int64_t until_ns = now_ns() + 2 * A_WHILE;
    uint32_t sent = 0, full;
    struct noria_info info;
    uint64_t told = 0;

    (void)state;
    it.options.full = NORIA_FULL_DROP_NEWEST;
    if (it.transport->is_served) {
        assert_fails(try_open(&it.tx, NORIA_SEND), ENOTSUP);
        return;
    }
    open_pair();
    while (is_dropped(0))
        assert_true(is_tcp && now_ns() < until_ns);
    for (sent = 1; !is_dropped(sent); sent++)
        ;
    full = sent;
    for (int i = 0; i < 9; i++)
        sent += !is_dropped(sent);
    assert_true(is_tcp || sent == full);
    for (uint32_t i = 0; i < sent; i++) {
        uint64_t lost = expect_with_sender(i).lost;
        assert_true(lost == 0 || is_shm || (is_tcp && (i == 0 || i >= full)));
        told += lost;
    }
    while (is_dropped(sent))
        assert_true(is_tcp && now_ns() < until_ns);
    info = expect(1, sent, 500);
    assert_int_equal(info.flags & ~(uint32_t)NORIA_LOST, 0);
    if (is_shm)
        return;
    assert_int_equal(info.flags, info.lost != 0 ? NORIA_LOST : 0);
    assert_int_equal(told + info.lost, stat_of(it.tx).lost);
}

int main(void)
{
#define TEST(name) \
    { \
#name, name \
    }
    static const struct named_test tests[] = {
        TEST(sizes_order_and_boundaries),
        TEST(empty_is_told_in_time),
        TEST(full_is_told_in_time),
        TEST(short_buffers_lose_nothing),
        TEST(too_long_is_refused),
        TEST(zero_copy_is_real_or_emulated),
        TEST(many_at_once),
        TEST(what_is_counted_is_out),
        TEST(many_senders_do_not_mix),
        TEST(second_receivers_are_refused_or_served),
        TEST(threads_share_a_handle),
        TEST(streams_end_and_go_on),
        TEST(a_receiver_that_has_gone_is_told),
        TEST(any_start_order),
        TEST(shutdown_ends_waits),
        TEST(close_ends_receivers_wait),
        TEST(close_ends_senders_wait),
        TEST(sleepers_are_woken),
        TEST(descriptors_tell),
        TEST(inherited_handles_are_stale),
        TEST(children_reopen),
        TEST(capabilities_are_true),
        TEST(dropping_is_told),
    };
    return run_suite("transports", tests, sizeof(tests) / sizeof(tests[0]));
}
