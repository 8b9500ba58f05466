/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Senders and receivers killed at random points, over every transport, with a ledger. Claim: no message comes twice,
 * mixed or cut; as long as no receiver dies none that a sender was told is sent gets lost; when one dies, the next one
 * is told exactly how many it did not see, or the sender gets -EPIPE. 100 kills a transport, NORIA_LONG 1000.
 */
#include "suite.h"

enum { MOST_LIVES = 1200, LONGEST = 20000 };

/* What happened, in shared memory, so that a death takes nothing of it along. */
static struct ledger {
    uint32_t sent[MOST_LIVES];     /* by each life of the sender: told that so many are sent */
    uint32_t received[MOST_LIVES]; /* of it: next number expected */
    uint64_t total, gaps, refused, ready, current;
} * ledger;

static uint32_t life_number;

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
    setup(state);
    it.options.orphans = NORIA_ORPHANS_DROP; /* of the segment: here nothing comes twice */
    return 0;
}

static int teardown_ledger(void **state)
{
    munmap(ledger, sizeof(*ledger));
    return teardown(state);
}

/* Sends until it is killed. */
static int send_for_ever(void)
{
    noria_channel *channel = open_handle(NORIA_SEND);

    for (uint32_t i = 0;; i++) {
        int rc = send_numbered(channel, life_number, i, length_of(i), A_WHILE);
        if (rc == -EPIPE)
            ledger->refused++;
        CHILD_REQUIRES(rc == 0 || rc == -EPIPE);
        if (rc == -EPIPE)
            i--;
        else
            __atomic_store_n(&ledger->sent[life_number], i + 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    }
}

/* Enters a message. Numbers of a life only grow, and a jump is what info.lost says. */
static bool enter(const uint8_t *bytes, ssize_t len, const struct noria_info *info, bool may_jump)
{
    struct stamp stamp;

    if (len < 0 || !is_sound(bytes, (size_t)len, &stamp) || stamp.whose >= MOST_LIVES)
        return false;
    if (stamp.number < ledger->received[stamp.whose]) /* twice, or out of order */
        return false;
    if (stamp.number > ledger->received[stamp.whose]) {
        if (!may_jump || (info->flags & NORIA_LOST) == 0 || info->lost < stamp.number - ledger->received[stamp.whose])
            return false;
        ledger->gaps += stamp.number - ledger->received[stamp.whose];
    }
    __atomic_store_n(&ledger->received[stamp.whose], stamp.number + 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&ledger->total, 1, __ATOMIC_SEQ_CST);
    return true;
}

static void senders_die(void **state)
{
    uint32_t lives = (uint32_t)kills();

    (void)state;
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
        ssize_t len = noria_recv(channel, received, sizeof(received), A_WHILE, &info);
        CHILD_REQUIRES(enter(received, len, &info, true));
        __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    }
}

static void receivers_die(void **state)
{
    pid_t sender, receiver;
    uint64_t in_hands = 0;

    (void)state;
    if (strcmp(it.transport->name, "shm") == 0)
        return; /* tests/stopkill does that, at every instruction */
    it.rx = open_handle(NORIA_RECV);
    it.tx = it.transport->by_descriptors ? NULL : open_handle(NORIA_SEND);
    life_number = 0;
    sender = start(send_for_ever);
    while (__atomic_load_n(&ledger->ready, __ATOMIC_SEQ_CST) == 0) /* until it has sent something to somebody */
        sched_yield();
    close_handle(&it.rx); /* as if it had died: what it had not read */
    for (int i = 0; i < kills(); i++) {
        int status;
        ledger->ready = 0;
        receiver = start(receive_for_ever);
        for (int64_t until_ns = now_ns() + A_WHILE; __atomic_load_n(&ledger->ready, __ATOMIC_SEQ_CST) == 0;
             sched_yield())
            assert_true(now_ns() < until_ns && waitpid(receiver, &status, WNOHANG) == 0);
        nap_us(next_random(1000));
        assert_int_equal(waitpid(receiver, &status, WNOHANG), 0); /* it found nothing wrong */
        kill_child(receiver);
        in_hands++;
    }
    assert_int_equal(waitpid(sender, NULL, WNOHANG), 0);
    kill_child(sender);
    print_message("%s: %llu receivers killed, %llu messages, %llu missed and told, %llu sends refused\n",
                  it.transport->name, (unsigned long long)in_hands, (unsigned long long)ledger->total,
                  (unsigned long long)ledger->gaps, (unsigned long long)ledger->refused);
}

int main(void)
{
#define TEST(name) \
    { \
#name, name \
    }
    static const struct named_test tests[] = {TEST(senders_die), TEST(receivers_die)};
    return run_suite_with("kills", tests, sizeof(tests) / sizeof(tests[0]), setup_ledger, teardown_ledger);
}
