/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Senders and receivers killed at random points, over every transport, with a ledger. Claim: no message comes twice,
 * mixed or cut; as long as no receiver dies none that a sender was told is sent gets lost; when one dies, the next one
 * is told exactly how many it did not see, or the sender gets -EPIPE; where several receive and one dies, only what it
 * had read is missing. A server (NATS) delivers again: there nothing is lost at all, and what comes twice is flagged. 100
 * kills a transport, NORIA_LONG 1000.
 */
#include "suite.h"

enum { MOST_LIVES = 1200, LONGEST = 20000, IN_SENT_BATCH = 8 };
enum { CREW = 3, FOR_CREW = 400, IN_BATCH = 10, OF_CREW = 100, MOST_SERVED = 1 << 20 };

/* What happened, in shared memory, so that a death takes nothing of it along. */
static struct ledger {
    uint32_t sent[MOST_LIVES];     /* by each life of the sender: told that so many are sent */
    uint32_t received[MOST_LIVES]; /* of it: next number expected */
    uint64_t total, gaps, refused, ready, current;
    uint32_t taken[FOR_CREW]; /* by any of several receivers: how often each message */
    uint8_t served[MOST_SERVED]; /* of the only sender: whether it was received */
    uint64_t again, unflagged;   /* how many came again, and of these how many were not flagged */
} * ledger;

static uint32_t life_number;

/* Of each life: the number that this process' handle expects next. */
static uint32_t expected_here[MOST_LIVES];

static uint32_t length_of(uint32_t number)
{
    uint32_t length = number % 7 == 0 ? number * 997 % LONGEST : number * 31 % 300;

    length += (uint32_t)sizeof(struct stamp);
    return length < it.transport->longest ? length : it.transport->longest;
}

static int kills(void)
{
    return is_long() ? 1000 : 100;
}

static void nap_us(uint64_t us)
{
    struct timespec time = {0, (long)us * 1000};

    nanosleep(&time, NULL);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static int setup_ledger(void **state)
{
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    memset(expected_here, 0, sizeof(expected_here));
    setup(state);
    it.options.orphans = NORIA_ORPHANS_DROP; /* of the segment: here nothing comes twice */
    return 0;
}

static int teardown_ledger(void **state)
{
    munmap(ledger, sizeof(*ledger));
    return teardown(state);
}

/* A few at once. How many, -EPIPE. */
static int send_batch(noria_channel *channel, uint32_t first)
{
    static uint8_t bytes[IN_SENT_BATCH][LONGEST + sizeof(struct stamp)];
    struct iovec messages[IN_SENT_BATCH];

    for (uint32_t i = 0; i < IN_SENT_BATCH; i++) {
        messages[i] = (struct iovec){bytes[i], length_of(first + i)};
        fill(bytes[i], life_number, first + i, length_of(first + i));
    }
    return noria_send_many(channel, messages, IN_SENT_BATCH, A_WHILE);
}

static int send_one(noria_channel *channel, uint32_t number)
{
    int rc = send_numbered(channel, life_number, number, length_of(number), A_WHILE);

    return rc == 0 ? 1 : rc;
}

/* Sends until it is killed: one by one, or several at once. */
static int send_for_ever(void)
{
    noria_channel *channel = open_handle(NORIA_SEND);
    bool many = life_number % 2 == 1 || it.transport->promises;

    for (uint32_t i = 0;;) {
        int rc = many ? send_batch(channel, i) : send_one(channel, i);
        if (rc == -EPIPE)
            ledger->refused++;
        CHILD_REQUIRES(rc > 0 || rc == -EPIPE);
        if (rc > 0) {
            i += (uint32_t)rc;
            __atomic_store_n(&ledger->sent[life_number], i, __ATOMIC_SEQ_CST);
        }
        __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    }
}

/* Enters a message. Numbers of a life only grow, and what this handle has not seen before it is what info.lost says, no
 * more and no less. */
static bool enter(const uint8_t *bytes, ssize_t len, const struct noria_info *info, bool may_jump)
{
    struct stamp stamp;
    uint32_t missing;

    if (len < 0 || !is_sound(bytes, (size_t)len, &stamp) || stamp.whose >= MOST_LIVES)
        return false;
    if (stamp.number < ledger->received[stamp.whose]) /* twice, or out of order */
        return false;
    missing = stamp.number - expected_here[stamp.whose];
    if (info->lost != missing || ((info->flags & NORIA_LOST) != 0) != (missing != 0))
        return false;
    expected_here[stamp.whose] = stamp.number + 1;
    if (stamp.number > ledger->received[stamp.whose] && !may_jump)
        return false;
    ledger->gaps += stamp.number - ledger->received[stamp.whose];
    __atomic_store_n(&ledger->received[stamp.whose], stamp.number + 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&ledger->total, 1, __ATOMIC_SEQ_CST);
    return true;
}

static void senders_die(void **state)
{
    uint32_t lives = (uint32_t)kills();

    (void)state;
    if (it.transport->is_served)
        return; /* below */
    it.rx = open_handle(NORIA_RECV);
    for (life_number = 0; life_number < lives; life_number++) {
        struct noria_info info;
        pid_t child = start(send_for_ever);
        int64_t until_ns = now_ns() + (int64_t)next_random(3000000);
        ssize_t len;
        while ((len = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info)) == -EPIPE)
            sched_yield();                               /* the stream ended with the last life */
        assert_true(enter(received, len, &info, false)); /* it is there */
        while (now_ns() < until_ns) {
            len = noria_recv(it.rx, received, sizeof(received), 100000, &info);
            assert_true(len == -ETIMEDOUT || enter(received, len, &info, false));
        }
        kill_child(child);
        /* Here its end of passed descriptors is open, too, so there the stream goes on. */
        while ((len = noria_recv(it.rx, received, sizeof(received), it.transport->by_descriptors ? 0 : A_WHILE,
                                 &info)) >= 0)
            assert_true(enter(received, len, &info, false));
        assert_int_equal(len, it.transport->by_descriptors ? -EAGAIN : -EPIPE);
        assert_true(ledger->received[life_number] >= ledger->sent[life_number]); /* told that it is sent: it came */
    }
    print_message("%s: %u senders killed, %llu messages\n", it.transport->name, lives,
                  (unsigned long long)ledger->total);
}

/* Receives until it is killed. */
static int receive_for_ever(void)
{
    noria_channel *channel = NULL;
    int rc;

    while ((rc = try_open(&channel, NORIA_RECV)) == -EBUSY) /* the one before is just being taken away */
        nap_us(100);
    CHILD_REQUIRES(rc == 0);
    for (;;) {
        struct noria_info info;
        ssize_t len;
        /* A sender that hears of a dead one leaves the pipe and comes back: who comes between may see that. */
        while ((len = noria_recv(channel, received, sizeof(received), A_WHILE, &info)) == -EPIPE &&
               !it.transport->by_descriptors)
            sched_yield();
        CHILD_REQUIRES(enter(received, len, &info, true));
        __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    }
}

/* As soon as it has received something, and up to so long after. */
static void kill_when_it_has_received(pid_t receiver, uint64_t most_us)
{
    int status;

    for (int64_t until_ns = now_ns() + A_WHILE; __atomic_load_n(&ledger->ready, __ATOMIC_SEQ_CST) == 0; sched_yield())
        assert_true(now_ns() < until_ns && waitpid(receiver, &status, WNOHANG) == 0);
    nap_us(next_random(most_us));
    assert_int_equal(waitpid(receiver, &status, WNOHANG), 0); /* it found nothing wrong */
    kill_child(receiver);
}

static void receivers_die(void **state)
{
    pid_t sender, receiver;
    uint64_t in_hands = 0;

    (void)state;
    if (strcmp(it.transport->name, "shm") == 0 || it.transport->is_served || it.transport->deals)
        return; /* tests/stopkill does that, at every instruction; below; dealing_test.c */
    it.rx = open_handle(NORIA_RECV);
    it.tx = it.transport->by_descriptors ? NULL : open_handle(NORIA_SEND);
    life_number = 0;
    sender = start(send_for_ever);
    while (__atomic_load_n(&ledger->ready, __ATOMIC_SEQ_CST) == 0) /* until it has sent something to somebody */
        sched_yield();
    close_handle(&it.rx); /* as if it had died: what it had not read */
    for (int i = 0; i < kills(); i++) {
        ledger->ready = 0;
        receiver = start(receive_for_ever);
        kill_when_it_has_received(receiver, 1000);
        in_hands++;
    }
    assert_int_equal(waitpid(sender, NULL, WNOHANG), 0);
    kill_child(sender);
    print_message("%s: %llu receivers killed, %llu messages, %llu missed and told, %llu sends refused\n",
                  it.transport->name, (unsigned long long)in_hands, (unsigned long long)ledger->total,
                  (unsigned long long)ledger->gaps, (unsigned long long)ledger->refused);
}

/* One of several, until there is nothing more. */
static int receive_in_crew(void)
{
    noria_channel *channel = open_handle(NORIA_RECV);

    for (;;) {
        bool all_sent = __atomic_load_n(&ledger->ready, __ATOMIC_SEQ_CST) != 0;
        ssize_t len = noria_recv(channel, received, sizeof(received), 10 * MS, NULL);
        struct stamp stamp;
        if (len == -ETIMEDOUT && all_sent)
            return 0;
        if (len == -ETIMEDOUT)
            continue;
        CHILD_REQUIRES(len == OF_CREW && is_sound(received, (size_t)len, &stamp) && stamp.number < FOR_CREW);
        __atomic_fetch_add(&ledger->taken[stamp.number], 1, __ATOMIC_SEQ_CST);
    }
}

static void send_to_crew(pid_t victim, uint32_t kill_at)
{
    static uint8_t bytes[IN_BATCH][OF_CREW];

    for (uint32_t first = 0; first < FOR_CREW; first += IN_BATCH) {
        struct iovec batch[IN_BATCH];
        for (uint32_t i = 0; i < IN_BATCH; i++) {
            fill(bytes[i], 0, first + i, OF_CREW);
            batch[i] = (struct iovec){bytes[i], OF_CREW};
        }
        for (int sent = 0, rc; sent < IN_BATCH; sent += rc) {
            rc = noria_send_many(it.tx, batch + sent, IN_BATCH - sent, A_WHILE);
            assert_true(rc > 0);
        }
        if (first == kill_at) {
            nap_us(next_random(300));
            kill_child(victim);
        }
    }
    __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
}

/* All that is missing lies in one batch. */
static uint32_t check_crew(void)
{
    uint32_t missing = 0, first = 0;

    for (uint32_t i = 0; i < FOR_CREW; i++) {
        assert_true(ledger->taken[i] <= 1);
        if (ledger->taken[i] == 1)
            continue;
        first = missing++ == 0 ? i : first;
        assert_true(i - first < IN_BATCH);
    }
    return missing;
}

static void one_of_several_dies(void **state)
{
    /* Claim: where several receive and one of them is killed, no message goes to two, and none is missing but what the
     * dead one had read: of a queue one of its messages, in which there are as many as were sent at once. */
    uint32_t rounds = (uint32_t)kills(), missing = 0;

    (void)state;
    if (strcmp(it.transport->name, "mq, short") != 0 && strcmp(it.transport->name, "svmq, short") != 0)
        return; /* others have one receiver, or (shm, nats) deliver again */
    it.tx = open_handle(NORIA_SEND);
    for (uint32_t round = 0; round < rounds; round++) {
        pid_t crew[CREW];
        ledger->ready = 0;
        memset(ledger->taken, 0, sizeof(ledger->taken));
        for (int i = 0; i < CREW; i++)
            crew[i] = start(receive_in_crew);
        send_to_crew(crew[0], (uint32_t)next_random(FOR_CREW / IN_BATCH) * IN_BATCH);
        for (int i = 1; i < CREW; i++)
            expect_end(crew[i]);
        missing += check_crew();
    }
    print_message("%s: one of %d receivers killed %u times, %u messages missing\n", it.transport->name, (int)CREW,
                  rounds, missing);
}

/* --------------------------------------------------------------------------------------------------- with a server */

static void senders_of_a_server_die(void **state)
{
    /* Claim: of a sender that is killed each message that it was told is sent comes, in order, once, and at most one more:
     * the one that it was sending. */
    uint32_t lives = (uint32_t)kills();

    (void)state;
    if (!it.transport->is_served)
        return;
    it.rx = open_handle(NORIA_RECV);
    for (life_number = 0; life_number < lives; life_number++) {
        struct noria_info info;
        pid_t child = start(send_for_ever);
        uint64_t sent = 0;
        do {
            ssize_t len = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);
            assert_true(enter(received, len, &info, false));
        } while (ledger->received[life_number] == 0); /* another life's last one may come first */
        nap_us(next_random(20000));
        kill_child(child);
        sent = ledger->sent[life_number];
        while (ledger->received[life_number] < sent) {
            ssize_t len = noria_recv(it.rx, received, sizeof(received), A_WHILE, &info);
            assert_true(enter(received, len, &info, false));
        }
        assert_true(life_number == 0 || ledger->received[life_number - 1] <= ledger->sent[life_number - 1] + 1);
    }
    print_message("%s: %u senders killed, %llu messages\n", it.transport->name, lives,
                  (unsigned long long)ledger->total);
}

/* Enters the next message, and releases it then. What it returns but 0 is a failure; -ETIMEDOUT. */
static int receive_served(noria_channel *channel, int64_t timeout_ns)
{
    struct noria_span span;
    struct noria_info info;
    struct stamp stamp;
    int rc = noria_peek(channel, &span, timeout_ns, &info);

    if (rc != 0)
        return rc;
    if (!is_sound(span.data, span.len, &stamp) || stamp.number >= MOST_SERVED)
        return -EBADMSG;
    if (ledger->served[stamp.number] != 0) {
        if ((info.flags & NORIA_REDELIVERED) == 0)
            __atomic_fetch_add(&ledger->unflagged, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&ledger->again, 1, __ATOMIC_SEQ_CST);
    } else {
        ledger->served[stamp.number] = 1;
        __atomic_fetch_add(&ledger->total, 1, __ATOMIC_SEQ_CST);
    }
    nap_us(stamp.number % 3 * 2000); /* so that some die with one in their hands */
    return noria_release(channel, &span);
}

static int receive_served_for_ever(void)
{
    noria_channel *channel = open_handle(NORIA_RECV);

    for (;;) {
        int rc = receive_served(channel, A_WHILE);
        if (rc != 0)
            fprintf(stderr, "received: %d\n", rc);
        CHILD_REQUIRES(rc == 0);
        __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    }
}

static void expect_all_served(void)
{
    int64_t until_ns = now_ns() + 2 * A_WHILE; /* what the dead held comes when their time is over */
    uint32_t next = 0;

    while (next < ledger->sent[0]) {
        int rc = receive_served(it.rx, A_WHILE);
        assert_int_equal(rc, 0);
        while (next < ledger->sent[0] && ledger->served[next] != 0)
            next++;
        assert_true(now_ns() < until_ns || next == ledger->sent[0]);
    }
}

static void receivers_of_a_server_die(void **state)
{
    /* Claim: whatever a killed receiver had not released comes again, flagged: nothing is lost. */
    pid_t sender, receiver;

    (void)state;
    if (!it.transport->is_served)
        return;
    strcat(it.address, "&ack_wait=2");
    it.tx = open_handle(NORIA_SEND); /* makes the stream */
    close_handle(&it.tx);
    life_number = 0;
    sender = start(send_for_ever);
    for (int i = 0; i < kills(); i++) {
        ledger->ready = 0;
        receiver = start(receive_served_for_ever);
        kill_when_it_has_received(receiver, 20000);
    }
    assert_int_equal(waitpid(sender, NULL, WNOHANG), 0);
    kill_child(sender);
    it.rx = open_handle(NORIA_RECV);
    expect_all_served();
    print_message("%s: %d receivers killed, %llu messages, %llu came again, %llu not flagged\n", it.transport->name,
                  kills(), (unsigned long long)ledger->total, (unsigned long long)ledger->again,
                  (unsigned long long)ledger->unflagged);
    assert_int_equal(ledger->unflagged, 0);
}

int main(void)
{
#define TEST(name) \
    { \
#name, name \
    }
    static const struct named_test tests[] = {TEST(senders_die), TEST(receivers_die), TEST(one_of_several_dies),
                                              TEST(senders_of_a_server_die), TEST(receivers_of_a_server_die)};
    return run_suite_with("kills", tests, sizeof(tests) / sizeof(tests[0]), setup_ledger, teardown_ledger);
}
