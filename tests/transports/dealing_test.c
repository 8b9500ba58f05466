/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A sender that listens and deals its messages out to many receivers (?deal), beyond what the suite asks of every transport:
 * each message goes to one of them, in turn; who is stopped, dies, comes late or is a stranger holds up nobody.
 */
#include "suite.h"

#include <arpa/inet.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum { CREW = 3, MOST = 1 << 20, SENDERS = 4, FRAME_HEADER = 32, HELLO_BYTES = 36, STRANGER = 65533 };

/* What the receivers saw, in shared memory. */
static struct ledger {
    uint32_t taken[MOST]; /* by number: how often */
    uint32_t of[CREW];    /* how many each of the crew has */
    uint32_t tiny;        /* without a stamp */
    uint32_t sent, ready, stop;
} * ledger;

static int setup_dealing(void **state)
{
    ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    return setup(state);
}

static int teardown_dealing(void **state)
{
    munmap(ledger, sizeof(*ledger));
    return teardown(state);
}

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/* Until so many receivers are there. */
static void await_receivers(uint32_t wanted)
{
    struct noria_ready side = {it.tx, NORIA_SEND, 0, 0};
    int64_t until_ns = now_ns() + A_WHILE;

    while (stat_of(it.tx).receivers < wanted) {
        noria_wait_any(&side, 1, MS);
        assert_true(now_ns() < until_ns);
    }
}

static noria_channel *join(void)
{
    noria_channel *receiver = open_handle(NORIA_RECV);

    look_for_sender(receiver, stat_of(it.tx).receivers + 1);
    return receiver;
}

static void expect_at(noria_channel *receiver, uint32_t number, uint32_t len, uint64_t sequence)
{
    noria_channel *before = it.rx;
    struct noria_info info;

    it.rx = receiver;
    info = expect(1, number, len);
    it.rx = before;
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.sequence, sequence);
}

/* ----------------------------------------------------------------------------------------------------- one of a crew */

static uint32_t member;

/* Enters what comes until the stream ends. Each sending thread's numbers grow, and of what this one was sent nothing is
 * missing. */
static int receive_all(void)
{
    noria_channel *channel = open_handle(NORIA_RECV);
    uint32_t next[SENDERS] = {0};

    for (uint64_t sequence = 0;; sequence++) {
        struct noria_info info;
        struct stamp stamp;
        ssize_t len = noria_recv(channel, received, sizeof(received), A_WHILE, &info);
        if (len == -EPIPE)
            break;
        CHILD_REQUIRES(len >= 0 && info.flags == 0 && info.sequence == sequence);
        if (len < (ssize_t)sizeof(stamp)) {
            __atomic_fetch_add(&ledger->tiny, 1, __ATOMIC_SEQ_CST);
        } else {
            CHILD_REQUIRES(is_sound(received, (size_t)len, &stamp) && stamp.number < MOST && stamp.whose < SENDERS);
            CHILD_REQUIRES(stamp.number >= next[stamp.whose]);
            next[stamp.whose] = stamp.number + 1;
            __atomic_fetch_add(&ledger->taken[stamp.number], 1, __ATOMIC_SEQ_CST);
        }
        __atomic_fetch_add(&ledger->of[member], 1, __ATOMIC_SEQ_CST);
    }
    CHILD_REQUIRES(noria_close(channel) == 0);
    return 0;
}

static pid_t start_member(uint32_t number)
{
    member = number;
    return start(receive_all);
}

/* Members 0 to CREW - 1, all connected. */
static void start_crew(pid_t crew[CREW])
{
    for (uint32_t i = 0; i < CREW; i++)
        crew[i] = start_member(i);
    await_receivers(CREW);
}

static void each_goes_to_one(void **state)
{
    /* Claim: of three receivers each gets some of the messages, of 0 bytes to 1 MiB, in the order in which they were sent, with
     * sequences of its own; each message comes once; when the sender has closed all of them see the end. */
    static const uint32_t sizes[] = {0, 1, 12, 31, 100, 4096, 32700, 65504, 65505, 100000, 200000, MIB};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), ALL = 40 * SIZES };
    pid_t crew[CREW];

    (void)state;
    open_sender();
    start_crew(crew);
    for (uint32_t i = 0; i < ALL; i++)
        assert_int_equal(send_numbered(it.tx, 1, i, sizes[i % SIZES], A_WHILE), 0);
    assert_int_equal(stat_of(it.tx).sent, ALL);
    close_handle(&it.tx);
    for (uint32_t i = 0; i < CREW; i++) {
        expect_end(crew[i]);
        assert_true(ledger->of[i] > 0);
    }
    assert_int_equal(ledger->tiny, ALL / SIZES * 2);
    for (uint32_t i = 0; i < ALL; i++)
        assert_int_equal(ledger->taken[i], sizes[i % SIZES] >= sizeof(struct stamp));
}

static void it_is_their_turn(void **state)
{
    /* Claim: receivers that have room get one message each in turn, whether or not their sender asks for room first, and of
     * batches one each. */
    static uint8_t bytes[4][50];
    struct noria_ready side = {NULL, NORIA_SEND, 0, 0};
    noria_channel *crew[CREW];
    uint32_t number = 0, got[CREW] = {0}, tries = 0;
    struct stamp stamp;

    (void)state;
    open_sender();
    side.channel = it.tx;
    for (int i = 0; i < CREW; i++)
        crew[i] = join();
    for (; number < 4 * CREW; number++) {
        if (number >= 2 * CREW)
            assert_int_equal(noria_wait_any(&side, 1, A_WHILE), 1);
        assert_int_equal(send_numbered(it.tx, 1, number, 50, A_WHILE), 0);
    }
    for (int i = 0; i < CREW; i++)
        for (uint32_t before = 0; got[i] < 4; got[i]++, before = stamp.number) {
            assert_int_equal(noria_recv(crew[i], received, sizeof(received), A_WHILE, NULL), 50);
            assert_true(is_sound(received, 50, &stamp));
            assert_true(got[i] == 0 || stamp.number == before + CREW);
        }
    for (int batch = 0; batch < CREW; batch++, number += 4) {
        struct iovec messages[4];
        for (uint32_t i = 0; i < 4; i++) {
            fill(bytes[i], 1, number + i, 50);
            messages[i] = (struct iovec){bytes[i], 50};
        }
        assert_int_equal(noria_send_many(it.tx, messages, 4, A_WHILE), 4);
    }
    for (int i = 0; i < CREW; i++) {
        uint32_t first = 0;
        for (uint32_t j = 0; j < 4; j++) {
            assert_int_equal(noria_recv(crew[i], received, sizeof(received), A_WHILE, NULL), 50);
            assert_true(is_sound(received, 50, &stamp));
            first = j == 0 ? stamp.number : first;
            assert_int_equal(stamp.number, first + j);
        }
        tries += noria_recv(crew[i], received, sizeof(received), 0, NULL) == -EAGAIN;
        close_handle(&crew[i]);
    }
    assert_int_equal(tries, CREW);
}

static void a_stopped_one_holds_up_nobody(void **state)
{
    /* Claim: a receiver that is stopped gets what its socket takes, also if that ends in the middle of a message or of its last
     * frame; everything else goes to the others, without a wait worth mentioning, and what it was dealt it has when it goes
     * on. */
    enum { ALL = 400 };
    int64_t longest_ns = 0;
    pid_t crew[2];
    int status;

    (void)state;
    open_sender();
    for (uint32_t i = 0; i < 2; i++)
        crew[i] = start_member(i);
    await_receivers(2);
    kill(crew[0], SIGSTOP);
    assert_int_equal(waitpid(crew[0], &status, WUNTRACED), crew[0]);
    for (uint32_t i = 0; i < ALL; i++) {
        int64_t start_ns = now_ns();
        assert_int_equal(send_numbered(it.tx, 1, i, i % 10 == 9 ? MIB : 60000, A_WHILE), 0);
        longest_ns = now_ns() - start_ns > longest_ns ? now_ns() - start_ns : longest_ns;
    }
    assert_true(longest_ns < 5 * SECOND); /* a loaded machine's moments */
    assert_true(stat_of(it.tx).receivers == 2);
    while (noria_flush(it.tx, 0) == -EAGAIN && load(&ledger->of[0]) == 0)
        kill(crew[0], SIGCONT);
    kill(crew[0], SIGCONT);
    assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
    close_handle(&it.tx);
    for (int i = 0; i < 2; i++)
        expect_end(crew[i]);
    assert_true(ledger->of[0] > 0 && ledger->of[1] > ledger->of[0]);
    for (uint32_t i = 0; i < ALL; i++)
        assert_int_equal(ledger->taken[i], 1);
}

enum { OF_THREAD = 150 };

static void *send_in_thread(void *context)
{
    uint32_t mine = *(uint32_t *)context;
    uint8_t *bytes = malloc(MIB);

    for (uint32_t i = 0; i < OF_THREAD; i++) {
        uint32_t number = mine * OF_THREAD + i, len = i % 15 == 14 ? MIB / 2 : i % 3 == 0 ? 60000 : 100;
        int rc;
        fill(bytes, mine, number, len);
        rc = noria_send(it.tx, bytes, len, i % 4 == 3 ? MS : A_WHILE);
        if (rc == -ETIMEDOUT)
            i--;
        else if (rc != 0)
            break;
        __atomic_fetch_add(&ledger->sent, rc == 0, __ATOMIC_SEQ_CST);
    }
    free(bytes);
    return NULL;
}

static void threads_deal_together(void **state)
{
    /* Claim: threads that share the dealing handle do not mix their messages, long ones and ones that are given up among them,
     * also while one receiver is stopped; each comes once, each thread's in order at each receiver. */
    uint32_t numbers[CREW] = {1, 2, 3};
    pthread_t threads[CREW];
    pid_t crew[CREW];

    (void)state;
    open_sender();
    start_crew(crew);
    kill(crew[0], SIGSTOP);
    for (int i = 0; i < CREW; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_in_thread, &numbers[i]), 0);
    for (int i = 0; i < CREW; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ledger->sent, CREW * OF_THREAD);
    assert_int_equal(stat_of(it.tx).sent, CREW * OF_THREAD);
    kill(crew[0], SIGCONT);
    assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
    close_handle(&it.tx);
    for (int i = 0; i < CREW; i++)
        expect_end(crew[i]);
    for (uint32_t i = OF_THREAD; i < (CREW + 1) * OF_THREAD; i++)
        assert_int_equal(ledger->taken[i], 1);
}

/* Sends when there is room: the receiver has to read what it has of a message that went elsewhere. */
static int send_past(noria_channel *receiver, uint32_t number)
{
    int64_t until_ns = now_ns() + A_WHILE;
    int rc;

    while ((rc = send_numbered(it.tx, 1, number, 100, 0)) == -EAGAIN && now_ns() < until_ns)
        assert_int_equal(noria_recv(receiver, received, sizeof(received), 10 * MS, NULL), -ETIMEDOUT);
    return rc;
}

static void long_ones_begun_elsewhere(void **state)
{
    /* Claim: a message that is longer than what a receiver's socket takes, and that this one does not read, goes to another one;
     * what the first has of it is no message, and nothing is missing there. */
    noria_channel *silent;
    uint32_t number = 0;
    pid_t child;
    int rc;

    (void)state;
    open_sender();
    silent = join();
    child = start_member(1);
    await_receivers(2);
    for (; number < 20; number++)
        assert_int_equal(send_numbered(it.tx, 1, number, MIB, A_WHILE), 0);
    while (load(&ledger->of[1]) < number) { /* in TCP's socket there may be room for one or two */
        struct stamp stamp;
        ssize_t len = noria_recv(silent, received, sizeof(received), 10 * MS, NULL);
        assert_true(len == -ETIMEDOUT || (len == MIB && is_sound(received, MIB, &stamp)));
        if (len == MIB)
            __atomic_fetch_add(&ledger->of[1], 1, __ATOMIC_SEQ_CST);
        assert_true(noria_flush(it.tx, 0) <= 0);
    }
    kill_child(child);
    while ((rc = send_past(silent, number)) == 0)
        assert_int_equal(noria_recv(silent, received, sizeof(received), A_WHILE, NULL), 100);
    assert_int_equal(rc, -EPIPE);
    assert_int_equal(send_past(silent, number), 0);
    it.rx = silent;
    assert_int_equal(expect(1, number, 100).flags, 0);
}

/* ----------------------------------------------------------------------------------------------------- parts of messages */

/* The next write of this process into a socket takes so many bytes; then that socket is full, and after so many tries more,
 * if not 0, its peer has gone. */
static struct {
    size_t cut;
    int full, gone; /* descriptors */
    int tries;
} sends = {0, -1, -1, 0};

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static uint8_t bytes[128 * KIB];
    size_t len = 0;

    if (fd == sends.full && sends.tries > 0 && --sends.tries == 0)
        sends.gone = fd;
    if (fd == sends.full || fd == sends.gone) {
        errno = fd == sends.gone ? EPIPE : EAGAIN;
        return -1;
    }
    if (sends.cut == 0)
        return syscall(SYS_sendmsg, fd, message, flags);
    for (size_t i = 0; i < message->msg_iovlen; len += message->msg_iov[i++].iov_len)
        memcpy(bytes + len, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    assert_true(len > sends.cut);
    len = sends.cut;
    sends.cut = 0;
    sends.full = fd;
    return syscall(SYS_sendto, fd, bytes, len, flags, NULL, 0);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    struct iovec piece = {(void *)(uintptr_t)bytes, len};

    return sendmsg(fd, &(struct msghdr){.msg_iov = &piece, .msg_iovlen = 1}, flags);
}

static void parts_are_owed(void **state)
{
    /* Claim: a message of whose last frame a receiver has taken a part, wherever it is cut, counts as sent when another one has
     * room, in a batch, too; those behind it go to others; a flush says that something is left until its receiver has taken it;
     * then it comes, once and whole. */
    static uint8_t bytes[3][100];
    noria_channel *second;
    uint64_t dealt[2] = {0};

    (void)state;
    if (strstr(it.address, "seqpacket") != NULL)
        return; /* a packet goes in whole */
    open_sender();
    it.rx = join();
    second = join();
    for (size_t cut = 1; cut < FRAME_HEADER + 100; cut += 13) {
        struct noria_ready side = {it.tx, NORIA_SEND, 0, 0};
        noria_channel *cut_one;
        struct iovec batch[3];
        sends.cut = cut;
        assert_int_equal(send_numbered(it.tx, 1, 0, 100, cut % 2 == 0 ? 0 : A_WHILE), 0);
        for (uint32_t i = 1; i < 4; i++)
            assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
        assert_int_equal(noria_wait_any(&side, 1, 0), 1);
        assert_fails(noria_flush(it.tx, 0), EAGAIN);
        assert_fails(noria_flush(it.tx, 10 * MS), ETIMEDOUT);
        cut_one = noria_recv(it.rx, received, sizeof(received), 0, NULL) == -EAGAIN ? it.rx : second;
        if (cut_one == second) { /* the first message of the three is read already */
            assert_true(is_message(received, 100, 1, 1, 100));
            dealt[0]++;
        }
        for (uint32_t i = cut_one == second ? 2 : 1; i < 4; i++)
            expect_at(cut_one == second ? it.rx : second, i, 100, dealt[cut_one != second]++);
        sends.full = -1;
        assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
        expect_at(cut_one, 0, 100, dealt[cut_one == second]++);
        for (uint32_t i = 0; i < 3; i++) {
            fill(bytes[i], 1, i, 100);
            batch[i] = (struct iovec){bytes[i], 100};
        }
        sends.cut = FRAME_HEADER + 100 + cut;
        for (int sent = 0, rc; sent < 3; sent += rc) {
            rc = noria_send_many(it.tx, batch + sent, 3 - sent, A_WHILE);
            assert_true(rc > 0);
        }
        sends.full = -1;
        assert_int_equal(noria_flush(it.tx, A_WHILE), 0);
        cut_one = noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL) == 100 && received[4] == 0 ? it.rx : second;
        dealt[0]++;
        if (cut_one == it.rx) {
            assert_true(is_message(received, 100, 1, 0, 100));
            expect_at(it.rx, 1, 100, dealt[0]++);
            expect_at(second, 2, 100, dealt[1]++);
        } else {
            assert_true(is_message(received, 100, 1, 2, 100));
            expect_at(second, 0, 100, dealt[1]++);
            expect_at(second, 1, 100, dealt[1]++);
        }
    }
    close_handle(&second);
}

static void a_part_counts_at_the_deadline(void **state)
{
    /* Claim: with one receiver a message of which it has a part is waited for until the deadline, and counts as sent then; if the
     * receiver goes meanwhile it does not, the sender is told (-EPIPE), once, and the next receiver gets it. */
    int64_t start_ns;

    (void)state;
    if (strstr(it.address, "seqpacket") != NULL)
        return;
    open_sender();
    it.rx = join();
    sends.cut = 50;
    start_ns = now_ns();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, 60 * MS), 0);
    assert_true(now_ns() - start_ns >= 60 * MS);
    assert_fails(send_numbered(it.tx, 1, 1, 100, 0), EAGAIN);
    sends.full = -1;
    assert_int_equal(send_numbered(it.tx, 1, 1, 100, A_WHILE), 0);
    expect_at(it.rx, 0, 100, 0);
    expect_at(it.rx, 1, 100, 1);
    for (int i = 0; i < 2; i++) { /* in the call that has begun it, and in the one after */
        sends.cut = 50;
        if (i == 0) {
            struct noria_span span;
            assert_int_equal(noria_reserve(it.tx, 100, &span, 0), 0);
            fill(span.data, 1, 2, 100);
            assert_int_equal(noria_commit(it.tx, &span, 100, 0), 0);
        } else {
            assert_int_equal(send_numbered(it.tx, 1, 2, 100, 0), 0);
        }
        assert_int_equal(stat_of(it.tx).sent, 3 + 2 * i);
        sends.gone = sends.full;
        sends.full = -1;
        assert_fails(i == 0 ? send_numbered(it.tx, 1, 3, 100, A_WHILE) : noria_flush(it.tx, A_WHILE), EPIPE);
        sends.gone = -1;
        close_handle(&it.rx);
        assert_fails(send_numbered(it.tx, 1, 3, 100, 10 * MS), ETIMEDOUT);
        it.rx = join();
        assert_int_equal(send_numbered(it.tx, 1, 3, 100, 0), 0);
        expect_at(it.rx, 3, 100, 0);
    }
}

static void a_part_of_a_dead_one_is_sent_again(void **state)
{
    /* Claim: a send whose receiver goes with a part of the message is -EPIPE and not counted, and made again it goes to another
     * one, which gets it once. */
    (void)state;
    if (strstr(it.address, "seqpacket") != NULL)
        return;
    open_sender();
    it.rx = join();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect_at(it.rx, 0, 100, 0);
    sends.cut = 50;
    sends.tries = 100;
    assert_fails(send_numbered(it.tx, 1, 1, 100, A_WHILE), EPIPE);
    sends.full = sends.gone = -1;
    assert_int_equal(stat_of(it.tx).sent, 1);
    close_handle(&it.rx);
    it.rx = join();
    assert_int_equal(send_numbered(it.tx, 1, 1, 100, A_WHILE), 0);
    expect_at(it.rx, 1, 100, 0);
}

/* ----------------------------------------------------------------------------------------------------- ends and deaths */

/* Sends one after the other; how often somebody had gone. What is refused is sent again. */
static uint32_t send_until(uint32_t *number, const uint32_t *word, uint32_t value)
{
    uint32_t told = 0;

    while (load(word) != value || told == 0) {
        int rc = send_numbered(it.tx, 1, *number, *number % 50 == 0 ? 70000 : 20 + *number % 100, A_WHILE);
        assert_true(rc == 0 || rc == -EPIPE);
        *number += rc == 0;
        told += rc == -EPIPE;
        assert_true(*number < MOST);
        if (*number % 8 == 0)
            nanosleep(&(struct timespec){0, 100000}, NULL); /* the rhythm of a load */
    }
    return told;
}

static void *kill_soon(void *victim)
{
    pid_t pid = *(pid_t *)victim;
    int64_t until_ns = now_ns() + A_WHILE;

    while (load(&ledger->of[0]) == 0 && now_ns() < until_ns)
        sched_yield();
    nanosleep(&(struct timespec){0, (long)(pid % 10) * 200000}, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    __atomic_store_n(&ledger->stop, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void deaths_are_told_once(void **state)
{
    /* Claim: each time one of three receivers is killed the sender is told, once, and goes on with the others; what is missing
     * was dealt to the dead one, while it was there; nothing comes twice. 100 times, NORIA_LONG 1000. */
    uint32_t number = 1, deaths = is_long() ? 1000 : 100, missing = 0, first = 1;
    pid_t crew[2], victim;

    (void)state;
    open_sender();
    for (uint32_t i = 0; i < 2; i++)
        crew[i] = start_member(i + 1);
    await_receivers(2);
    for (uint32_t i = 0; i < deaths; i++) {
        uint32_t before = number;
        pthread_t killer;
        for (; first < before; first++)
            missing += load(&ledger->taken[first]) == 0;
        ledger->of[0] = ledger->stop = 0;
        victim = start_member(0);
        await_receivers(3);
        assert_int_equal(pthread_create(&killer, NULL, kill_soon, &victim), 0);
        assert_int_equal(send_until(&number, &ledger->stop, 1), 1);
        pthread_join(killer, NULL);
        for (uint32_t j = 0; j < 8; j++) /* when nobody dies, nothing is lost, and nobody is told anything */
            assert_int_equal(send_numbered(it.tx, 1, number++, 100, A_WHILE), 0);
        assert_int_equal(stat_of(it.tx).receivers, 2);
        while (load(&ledger->taken[number - 1]) == 0 || load(&ledger->taken[number - 2]) == 0)
            sched_yield();
        for (uint32_t j = number - 8; j < number; j++)
            assert_int_equal(load(&ledger->taken[j]), 1);
    }
    close_handle(&it.tx);
    for (int i = 0; i < 2; i++)
        expect_end(crew[i]); /* and found no gap */
    for (uint32_t i = 1; i < number; i++)
        assert_true(ledger->taken[i] <= 1);
    print_message("%s: %u of 3 receivers killed, %u messages, %u missing\n", it.transport->name, deaths, number, missing);
}

static void the_last_one_dies(void **state)
{
    /* Claim: when the last receiver is killed the sender is told once, and then waits; the next one, which comes late, misses
     * nothing that was not dealt to it. One that was given nothing is not missed. */
    uint32_t number = 1;
    pid_t child;
    int rc;

    (void)state;
    open_sender();
    assert_fails(send_numbered(it.tx, 1, number, 100, 0), EAGAIN);
    child = start_member(0);
    assert_int_equal(send_numbered(it.tx, 1, number++, 100, A_WHILE), 0);
    while (load(&ledger->of[0]) == 0)
        sched_yield();
    kill_child(child);
    while ((rc = send_numbered(it.tx, 1, number, 100, A_WHILE)) == 0) /* a network tells later */
        number++;
    assert_int_equal(rc, -EPIPE);
    assert_fails(send_numbered(it.tx, 1, number, 100, 0), EAGAIN);
    assert_fails(send_numbered(it.tx, 1, number, 100, 10 * MS), ETIMEDOUT);
    it.rx = join();
    close_handle(&it.rx);
    assert_fails(send_numbered(it.tx, 1, number, 100, 10 * MS), ETIMEDOUT);
    it.rx = join();
    assert_int_equal(send_numbered(it.tx, 1, number, 100, 0), 0);
    expect_at(it.rx, number, 100, 0);
}

static int send_some_and_stay(void)
{
    open_sender();
    for (uint32_t i = 0; i < 300; i++) {
        CHILD_REQUIRES(send_numbered(it.tx, 1, i, 100, A_WHILE) == 0);
        __atomic_store_n(&ledger->sent, i + 1, __ATOMIC_SEQ_CST);
        if (i % 10 == 0)
            nanosleep(&(struct timespec){0, MS}, NULL);
    }
    for (;;)
        pause();
}

static void a_killed_sender_ends_the_stream(void **state)
{
    /* Claim: when the sender is killed each receiver that has heard of it gets what it was dealt, and then the end; all that was
     * told to be sent arrives. */
    pid_t sender = start(send_some_and_stay), crew[CREW];

    (void)state;
    for (uint32_t i = 0; i < CREW; i++)
        crew[i] = start_member(i);
    while (load(&ledger->sent) < 150 || load(&ledger->of[0]) == 0 || load(&ledger->of[1]) == 0 || load(&ledger->of[2]) == 0)
        sched_yield();
    kill_child(sender);
    for (int i = 0; i < CREW; i++)
        expect_end(crew[i]);
    for (uint32_t i = 0; i < ledger->sent; i++)
        assert_int_equal(ledger->taken[i], 1);
}

static void who_came_last_sees_the_end(void **state)
{
    /* Claim: a receiver that has connected and been given nothing when the sender closes sees the end; one whose address nobody
     * serves waits. */
    (void)state;
    it.rx = open_handle(NORIA_RECV);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 10 * MS, NULL), ETIMEDOUT);
    open_sender();
    close_handle(&it.tx);
    assert_fails(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), EPIPE);
    assert_fails(noria_recv(it.rx, received, sizeof(received), 0, NULL), EPIPE);
}

/* ------------------------------------------------------------------------------------------------------- who takes part */

static void there_is_one_sender(void **state)
{
    /* Claim: a second sender is -EBUSY, as is a receiver that would listen there, with a sentence, and the first one goes on. */
    noria_channel *second = NULL;
    char plain[64];

    (void)state;
    open_pair();
    assert_fails(try_open(&second, NORIA_SEND), EBUSY);
    assert_non_null(strstr(noria_detail(), "sender"));
    snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(it.address, "?"), it.address);
    assert_fails(noria_open(&second, plain, NORIA_RECV | NORIA_CREATE, &it.options), EBUSY);
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect_at(it.rx, 0, 100, 0);
    assert_true(can(it.tx, NORIA_CAN_MANY_RECEIVERS) && !can(it.tx, NORIA_CAN_MANY_SENDERS));
    assert_true(can(it.rx, NORIA_CAN_MANY_RECEIVERS) && !can(it.rx, NORIA_CAN_MANY_SENDERS));
}

static void wrong_wishes_are_refused(void **state)
{
    /* Claim: one handle for both roles, a word that is no option, and priorities are refused with a sentence, and leave nothing. */
    noria_channel *channel = NULL;
    char wrong[160];

    (void)state;
    assert_fails(try_open(&channel, NORIA_SEND | NORIA_RECV), EINVAL);
    assert_non_null(strstr(noria_detail(), "each role"));
    snprintf(wrong, sizeof(wrong), "%s&deel", it.address);
    assert_fails(noria_open(&channel, wrong, NORIA_SEND | NORIA_CREATE, &it.options), EINVAL);
    assert_non_null(strstr(noria_detail(), "deel"));
    it.options.priorities = 2;
    assert_fails(try_open(&channel, NORIA_SEND), ENOTSUP);
    it.options.priorities = 1;
    open_pair();
    assert_fails(noria_recv(it.tx, received, sizeof(received), 0, NULL), EINVAL);
    assert_fails(noria_send(it.rx, "x", 1, 0), EINVAL);
}

static void more_receivers_than_places_wait(void **state)
{
    /* Claim: max_participants bounds the receivers; the next one waits in the listener until one goes. */
    noria_channel *crew[CREW];

    (void)state;
    it.options.max_participants = 2;
    open_sender();
    crew[0] = join();
    crew[1] = join();
    crew[2] = open_handle(NORIA_RECV);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
    assert_int_equal(stat_of(it.tx).receivers, 2);
    assert_int_equal(stat_of(it.tx).max_participants, 2);
    assert_fails(noria_recv(crew[2], received, sizeof(received), 20 * MS, NULL), ETIMEDOUT);
    close_handle(&crew[0]);
    while (send_numbered(it.tx, 1, 4, 100, A_WHILE) == 0)
        ;
    await_receivers(2);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(send_numbered(it.tx, 1, 5, 100, A_WHILE), 0);
    expect_at(crew[2], 5, 100, 0);
    close_handle(&crew[1]);
    close_handle(&crew[2]);
}

static int connect_stranger(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct sockaddr_in to_port = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bool is_tcp = strncmp(it.address, "tcp", 3) == 0, packets = strstr(it.address, "seqpacket") != NULL;
    int fd = socket(is_tcp ? AF_INET : AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    to_port.sin_port = htons((uint16_t)atoi(strrchr(it.address, ':') + 1));
    snprintf(to.sun_path, sizeof(to.sun_path), "%.*s", (int)strcspn(it.address, "?") - 5, it.address + 5);
    assert_int_equal(connect(fd, is_tcp ? (struct sockaddr *)&to_port : (struct sockaddr *)&to,
                             is_tcp ? sizeof(to_port) : sizeof(to)),
                     0);
    return fd;
}

/* A greeting as a receiver's, or as somebody's who sends. */
static void make_greeting(uint8_t *bytes, uint64_t who)
{
    uint64_t words[4] = {0}, sum = 0;
    uint32_t tail;

    words[0] = UINT64_C(0x3146524e) | UINT64_C(4) << 32;
    words[2] = UINT64_C(4711) << 32;
    words[3] = who;
    for (int i = 0; i < 4; i++) {
        sum = (sum ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 32;
    }
    words[0] |= (sum >> 16 & 0xffff) << 48;
    tail = (uint32_t)(sum >> 32);
    memcpy(bytes, words, sizeof(words));
    memcpy(bytes + sizeof(words), &tail, sizeof(tail));
}

static void say(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void strangers_get_nothing(void **state)
{
    /* Claim: who connects and says nothing, rubbish, half a greeting or a sender's is given no message, is dropped where he said
     * something wrong, and counted; more of them than places keep no receiver out. Who greets and then says something is dropped,
     * and what he was given is told to be lost. */
    enum { STRANGERS = 40 };
    int strangers[STRANGERS];
    uint8_t greeting[HELLO_BYTES], byte;

    (void)state;
    it.options.max_participants = 8;
    open_sender();
    it.rx = join();
    for (uint32_t i = 0; i < STRANGERS; i++) {
        strangers[i] = connect_stranger();
        make_greeting(greeting, i % 4 == 3 ? 0 : 1);
        if (i % 4 == 1)
            say(strangers[i], "GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n", 36);
        if (i % 4 >= 2)
            say(strangers[i], greeting, i % 4 == 2 ? 20 : HELLO_BYTES);
        assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
        expect_at(it.rx, i, 100, i);
        assert_int_equal(stat_of(it.tx).receivers, 1);
    }
    assert_true(stat_of(it.tx).strangers >= STRANGERS / 2 - 2 && stat_of(it.tx).strangers <= STRANGERS);
    for (int i = 0; i < STRANGERS; i++) {
        assert_true(recv(strangers[i], &byte, 1, MSG_DONTWAIT) <= 0);
        close(strangers[i]);
    }
    strangers[0] = connect_stranger();
    make_greeting(greeting, 1);
    say(strangers[0], greeting, HELLO_BYTES);
    await_receivers(2);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
    assert_true(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL) == 100);
    say(strangers[0], "and now?", 8);
    while (stat_of(it.tx).receivers == 2)
        await_receivers(0), noria_wait_any(&(struct noria_ready){it.tx, NORIA_SEND, 0, 0}, 1, 0);
    assert_fails(send_numbered(it.tx, 1, 2, 100, A_WHILE), EPIPE);
    assert_int_equal(send_numbered(it.tx, 1, 2, 100, A_WHILE), 0);
    expect_at(it.rx, 2, 100, STRANGERS + 1);
    close(strangers[0]);
}

static void others_who_do_not_deal(void **state)
{
    /* Claim: a plain sender that comes to one who deals is told that nobody takes its messages; a receiver that wants to be
     * dealt to disturbs no plain one, waits, and is served when somebody deals there. */
    noria_channel *plain_tx, *plain_rx;
    char plain[128];
    int rc = 0;

    (void)state;
    snprintf(plain, sizeof(plain), "%.*s%s", (int)strcspn(it.address, "?"), it.address,
             strstr(it.address, "seqpacket") != NULL ? "?seqpacket" : "");
    open_pair();
    assert_int_equal(noria_open(&plain_tx, plain, NORIA_SEND | NORIA_CREATE, &it.options), 0);
    for (uint32_t i = 0; i < 1000 && rc != -EPIPE; i++) {
        rc = send_numbered(plain_tx, 2, i, 100, 10 * MS);
        assert_int_equal(send_numbered(it.tx, 1, i, 100, A_WHILE), 0);
        expect_at(it.rx, i, 100, i);
    }
    assert_int_equal(rc, -EPIPE);
    assert_true(stat_of(it.tx).strangers > 0);
    close_handle(&plain_tx);
    close_handle(&it.tx);
    close_handle(&it.rx);
    assert_int_equal(noria_open(&plain_rx, plain, NORIA_RECV | NORIA_CREATE, &it.options), 0);
    assert_int_equal(noria_open(&plain_tx, plain, NORIA_SEND | NORIA_CREATE, &it.options), 0);
    it.rx = open_handle(NORIA_RECV);
    for (uint32_t i = 0; i < 20; i++) {
        struct noria_info info;
        assert_int_equal(noria_recv(it.rx, received, sizeof(received), i == 0 ? 30 * MS : 0, NULL), i == 0 ? -ETIMEDOUT : -EAGAIN);
        assert_int_equal(send_numbered(plain_tx, 1, i, 100, A_WHILE), 0);
        assert_int_equal(noria_recv(plain_rx, received, sizeof(received), A_WHILE, &info), 100);
        assert_int_equal(info.flags, 0);
    }
    assert_true(stat_of(plain_rx).strangers > 0);
    close_handle(&plain_tx);
    assert_fails(noria_recv(plain_rx, received, sizeof(received), A_WHILE, NULL), EPIPE);
    close_handle(&plain_rx);
    open_sender();
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect_at(it.rx, 0, 100, 0);
}

/* This process from now on. False: it takes root. */
static bool become_stranger(void)
{
    return setgroups(0, NULL) == 0 && setresgid(STRANGER, STRANGER, STRANGER) == 0 &&
           setresuid(STRANGER, STRANGER, STRANGER) == 0;
}

static int receive_as_stranger(void)
{
    noria_channel *channel;

    if (!become_stranger())
        return 77;
    it.options.foreign = 1; /* it believes the sender, who does not believe it */
    CHILD_REQUIRES(noria_open(&channel, it.address, NORIA_RECV, &it.options) == 0);
    CHILD_REQUIRES(noria_recv(channel, received, sizeof(received), 100 * MS, NULL) == -ETIMEDOUT);
    CHILD_REQUIRES(noria_close(channel) == 0);
    return 0;
}

static int deal_as_stranger(void)
{
    if (!become_stranger())
        return 77;
    open_sender();
    __atomic_store_n(&ledger->ready, 1, __ATOMIC_SEQ_CST);
    CHILD_REQUIRES(send_numbered(it.tx, 1, 0, 100, A_WHILE) == 0); /* to who says that it is meant */
    CHILD_REQUIRES(noria_close(it.tx) == 0);
    return 0;
}

static void other_users_get_nothing(void **state)
{
    /* Claim: over unix: a receiver of another user is given nothing, and one whose sender is another user is told so (-EACCES),
     * until options.foreign says that he is meant. */
    int status = 0;
    pid_t child;

    (void)state;
    if (strncmp(it.address, "unix", 4) != 0)
        return;
    it.options.mode = 0666;
    open_sender();
    child = start(receive_as_stranger);
    while (waitpid(child, &status, WNOHANG) == 0)
        assert_fails(send_numbered(it.tx, 1, 0, 100, 10 * MS), ETIMEDOUT);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
    assert_true(stat_of(it.tx).strangers > 0);
    assert_int_equal(stat_of(it.tx).receivers, 0);
    close_handle(&it.tx);
    noria_unlink(it.address);
    child = start(deal_as_stranger);
    while (load(&ledger->ready) == 0)
        sched_yield();
    it.options.foreign = 0;
    it.rx = open_handle(NORIA_RECV);
    it.options.foreign = 1;
    assert_fails(noria_recv(it.rx, received, sizeof(received), A_WHILE, NULL), EACCES);
    assert_non_null(strstr(noria_detail(), "--foreign"));
    close_handle(&it.rx);
    it.rx = open_handle(NORIA_RECV);
    expect_at(it.rx, 0, 100, 0);
    expect_end(child);
    expect_stream_end(A_WHILE);
}

/* --------------------------------------------------------------------------------------------------------- and besides */

static void drops_are_told_to_one(void **state)
{
    /* Claim: with DROP_NEWEST what is dropped while all are full is told to the receivers, each message once. */
    noria_channel *crew[2];
    uint64_t lost = 0, came = 0;
    uint32_t sent = 0;

    (void)state;
    it.options.full = NORIA_FULL_DROP_NEWEST;
    open_sender();
    for (int i = 0; i < 2; i++)
        crew[i] = join();
    for (int round = 0; round < 3; round++) {
        uint64_t before = stat_of(it.tx).lost;
        while (stat_of(it.tx).lost < before + 10)
            assert_int_equal(send_numbered(it.tx, 1, sent++, 500, -1), 0);
        for (int end = 0; end < 2; end++)
            for (int i = 0; i < 2; i++) {
                struct noria_info info;
                while (noria_recv(crew[i], received, sizeof(received), 20 * MS, &info) >= 0) {
                    came++;
                    lost += info.lost;
                    noria_flush(it.tx, 0);
                }
            }
    }
    while (lost < stat_of(it.tx).lost) { /* the last ones with the next message */
        struct noria_info info;
        ssize_t len = -EAGAIN;
        assert_int_equal(send_numbered(it.tx, 1, sent++, 500, A_WHILE), 0);
        for (int i = 0; len < 0; i++)
            len = noria_recv(crew[i % 2], received, sizeof(received), MS, &info);
        came++;
        lost += info.lost;
    }
    assert_int_equal(lost, stat_of(it.tx).lost);
    assert_int_equal(came + lost, sent);
    for (int i = 0; i < 2; i++)
        close_handle(&crew[i]);
}

static void no_descriptor_is_left(void **state)
{
    /* Claim: a sender whose process may open no more files sleeps while a receiver wants to connect, and takes it in when it
     * may. */
    struct rlimit before, limit;
    struct timespec used;
    int64_t used_ns;
    int next;

    (void)state;
    open_sender();
    assert_fails(send_numbered(it.tx, 1, 0, 100, MS), ETIMEDOUT);
    it.rx = open_handle(NORIA_RECV);
    next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = (struct rlimit){(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    used_ns = used.tv_sec * SECOND + used.tv_nsec;
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, 300 * MS), -ETIMEDOUT);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(used.tv_sec * SECOND + used.tv_nsec - used_ns < 100 * MS);
    assert_int_equal(send_numbered(it.tx, 1, 0, 100, A_WHILE), 0);
    expect_at(it.rx, 0, 100, 0);
}

static void *bridge_in_thread(void *ends)
{
    noria_channel **channels = ends;

    return (void *)(intptr_t)noria_bridge(channels[0], channels[1], NULL);
}

static void bridges_deal(void **state)
{
    /* Claim: a bridge from a segment deals to two receivers, one of which is a bridge into another segment: each message comes
     * out at one end or the other, and the stream ends at both. */
    enum { BRIDGED = 300 };
    noria_channel *first[2], *second[2], *tx, *rx;
    uint32_t came[2] = {0};
    pthread_t threads[2];
    struct stamp stamp = {0};
    bool seen[BRIDGED] = {false};
    void *rc;

    (void)state;
    it.options.capacity = BRIDGED;
    it.options.max_message = 300;
    assert_int_equal(noria_open(&tx, "anon:", NORIA_SEND, &it.options), 0);
    assert_int_equal(noria_reopen(&first[0], tx, NORIA_RECV), 0);
    assert_int_equal(noria_open(&second[1], "anon:", NORIA_SEND, &it.options), 0);
    assert_int_equal(noria_reopen(&rx, second[1], NORIA_RECV), 0);
    open_sender();
    first[1] = it.tx;
    second[0] = join();
    it.rx = join();
    assert_int_equal(pthread_create(&threads[0], NULL, bridge_in_thread, first), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, bridge_in_thread, second), 0);
    for (uint32_t i = 0; i < BRIDGED; i++)
        assert_int_equal(send_numbered(tx, 1, i, 300, A_WHILE), 0);
    close_handle(&tx);
    while (came[0] + came[1] < BRIDGED)
        for (int i = 0; i < 2; i++) {
            ssize_t len = noria_recv(i == 0 ? it.rx : rx, received, sizeof(received), MS, NULL);
            if (len == -ETIMEDOUT)
                continue;
            assert_true(len == 300 && is_sound(received, 300, &stamp) && stamp.number < BRIDGED && !seen[stamp.number]);
            seen[stamp.number] = true;
            came[i]++;
        }
    assert_true(came[0] > 0 && came[1] > 0);
    pthread_join(threads[0], &rc);
    assert_null(rc);
    close_handle(&it.tx);
    pthread_join(threads[1], &rc);
    assert_null(rc);
    expect_stream_end(A_WHILE);
    for (int i = 0; i < 2; i++)
        close_handle(i == 0 ? &first[0] : &second[0]);
    close_handle(&second[1]);
    assert_fails(noria_recv(rx, received, sizeof(received), A_WHILE, NULL), EPIPE);
    close_handle(&rx);
}

static bool is_dealing(const struct transport *transport)
{
    return transport->deals;
}

int main(void)
{
#define TEST(name) \
    { \
#name, name \
    }
    static const struct named_test tests[] = {
        TEST(each_goes_to_one),
        TEST(it_is_their_turn),
        TEST(a_stopped_one_holds_up_nobody),
        TEST(threads_deal_together),
        TEST(long_ones_begun_elsewhere),
        TEST(parts_are_owed),
        TEST(a_part_counts_at_the_deadline),
        TEST(a_part_of_a_dead_one_is_sent_again),
        TEST(deaths_are_told_once),
        TEST(the_last_one_dies),
        TEST(a_killed_sender_ends_the_stream),
        TEST(who_came_last_sees_the_end),
        TEST(there_is_one_sender),
        TEST(wrong_wishes_are_refused),
        TEST(more_receivers_than_places_wait),
        TEST(strangers_get_nothing),
        TEST(others_who_do_not_deal),
        TEST(other_users_get_nothing),
        TEST(drops_are_told_to_one),
        TEST(no_descriptor_is_left),
        TEST(bridges_deal),
    };
    return run_suite_of("dealing", is_dealing, tests, sizeof(tests) / sizeof(tests[0]), setup_dealing, teardown_dealing);
}
