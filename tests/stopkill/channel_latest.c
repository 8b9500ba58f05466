/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: no process stopped or killed at any instruction of a call on a latest-value channel harms the others: each send
 * returns, each receive gets the newest message, whole, and never an older one after a newer one; what a receiver got and
 * was told to have missed is all that was published; and each message sent was published or counted as lost. A dead one's
 * place is taken at once. A program of its own beside the harness of queues, whose ledger wants every message received. Each
 * position is a fresh channel with fresh victims, of which several stop at the same instruction. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

#include "inside.h"

enum { EARLIER = 1000, LATER = 2000 /* numbers of the victims' messages */ };
enum { MOST_VICTIMS = 3, LONGEST = 48, PREPARED = 3, BATCH = 3, MOST_BETWEEN = 3, POSITIONS_MAX = 5000, COMPLAINTS = 20, FEWER = 2 };

/* A message received, as its receiver was told. */
struct receipt {
    uint64_t number, sequence, lost;
};

/* What a victim says. */
struct report {
    uint32_t index;
    int inside; /* its call has been stopped in the middle */
    int over;   /* it has returned */
    int result;
    struct receipt first, then; /* by a receiving call; by the next one */
    int result_then;
};

static struct report *reports; /* [MOST_VICTIMS], shared */
static noria_channel *sender, *receiver;
static char address[64];
static pid_t victims[MOST_VICTIMS];

static char what[80];
static int position, bad, positions;

/* Of the channel under test. */
static uint64_t next_number, sent, received, missed, start, newest;

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            if (bad++ < COMPLAINTS) \
                printf("BAD %s, instruction %d: %s (line %d)\n", what, position, #condition, __LINE__); \
            return; \
        } \
    } while (0)

/* --------------------------------------------------------------------------------------------------- numbered messages */

static size_t write_message(unsigned char *bytes, uint64_t number)
{
    size_t len = sizeof(number) + number * 7 % (LONGEST - sizeof(number));

    memcpy(bytes, &number, sizeof(number));
    for (size_t i = sizeof(number); i < len; i++)
        bytes[i] = (unsigned char)(number * 31 + i);
    return len;
}

static int put(noria_channel *channel, uint64_t number)
{
    unsigned char bytes[LONGEST];

    return noria_send(channel, bytes, write_message(bytes, number), 0);
}

static int examine(const unsigned char *bytes, size_t len, const struct noria_info *info, struct receipt *receipt)
{
    unsigned char expected[LONGEST];

    memcpy(&receipt->number, bytes, sizeof(receipt->number));
    receipt->sequence = info->sequence;
    receipt->lost = info->lost;
    return len == write_message(expected, receipt->number) && memcmp(bytes, expected, len) == 0 ? 0 : -EPROTO;
}

/* 0 a whole message, -EPROTO another one. */
static int take(noria_channel *channel, struct receipt *receipt)
{
    unsigned char bytes[LONGEST] = {0};
    struct noria_info info;
    ssize_t len = noria_recv(channel, bytes, sizeof(bytes), 0, &info);

    return len < 0 ? (int)len : examine(bytes, (size_t)len, &info, receipt);
}

/* Our own receiver takes what is new. */
static int take_and_count(struct receipt *receipt)
{
    int rc = take(receiver, receipt);

    if (rc != 0)
        return rc;
    received++;
    missed += receipt->lost;
    if (receipt->sequence <= newest || received + missed != receipt->sequence - start)
        return -EPROTO;
    newest = receipt->sequence;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- victims */

static struct noria_options options_of(int count)
{
    struct noria_options options;

    noria_options_init(&options);
    options.capacity = 1;
    options.full = NORIA_FULL_OVERWRITE_OLDEST;
    options.max_message = LONGEST;
    options.max_participants = 2 + (uint32_t)count;
    return options;
}

static noria_channel *victims_own;
static struct report *report;

static void sends(void *argument)
{
    (void)argument;
    report->result = put(victims_own, LATER + report->index);
}

static void sends_many(void *argument)
{
    unsigned char bytes[BATCH][LONGEST];
    struct iovec messages[BATCH];

    (void)argument;
    for (unsigned i = 0; i < BATCH; i++)
        messages[i] = (struct iovec){bytes[i], write_message(bytes[i], LATER + BATCH * report->index + i)};
    report->result = noria_send_many(victims_own, messages, BATCH, 0) == BATCH ? 0 : -EPROTO;
}

/* What it got is looked at when it is over. */
static struct {
    unsigned char bytes[BATCH][LONGEST];
    struct iovec buffers[BATCH];
    struct noria_info infos[BATCH];
    ssize_t length;
} got;

static void receives(void *argument)
{
    (void)argument;
    got.length = noria_recv(victims_own, got.bytes[0], LONGEST, 0, &got.infos[0]);
}

static void receives_many(void *argument)
{
    (void)argument;
    got.length = -EPROTO;
    if (noria_recv_many(victims_own, got.buffers, BATCH, 0, got.infos) == 1)
        got.length = (ssize_t)got.buffers[0].iov_len;
}

static void look_at_what_was_received(void)
{
    report->result =
        got.length < 0 ? (int)got.length : examine(got.bytes[0], (size_t)got.length, &got.infos[0], &report->first);
    report->result_then = take(victims_own, &report->then);
}

static const struct call {
    const char *name;
    call_body *run;
    uint64_t messages; /* sent; 0: it receives */
    int stride;        /* short form: so many instructions at a time; with several victims FEWER times as many */
} calls[] = {{"send", sends, 1, 1},
             {"send many", sends_many, BATCH, 5},
             {"receive", receives, 0, 1},
             {"receive many", receives_many, 0, 5}};

/* The first call of a thread has things to find out, with all signals blocked; it is not this one. Who is to send has sent
 * what is current by then, and must leave it whole. */
static _Noreturn void be_victim(const struct call *call)
{
    struct noria_stat stat;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (noria_open(&victims_own, address, NORIA_SEND | NORIA_RECV, NULL) != 0 || noria_stat(victims_own, &stat) != 0 ||
        (call->messages != 0 && put(victims_own, EARLIER + report->index) != 0))
        _exit(1);
    for (int i = 0; i < BATCH; i++)
        got.buffers[i] = (struct iovec){got.bytes[i], LONGEST};
    report->inside = call_stopped_inside(call->run, NULL, position, 0);
    if (call->messages == 0)
        look_at_what_was_received();
    report->over = 1;
    raise(SIGSTOP);
    _exit(0);
}

static bool lead(const struct call *call, uint32_t index)
{
    report = &reports[index];
    memset(report, 0, sizeof(*report));
    report->index = index;
    report->result = report->result_then = -EINPROGRESS;
    victims[index] = fork();
    if (victims[index] == 0)
        be_victim(call);
    return victims[index] > 0 && wait_until_it_stops(victims[index]) && report->over == 0;
}

static void end(uint32_t index)
{
    if (victims[index] > 0) {
        kill(victims[index], SIGKILL);
        waitpid(victims[index], NULL, 0);
    }
    victims[index] = 0;
}

/* ------------------------------------------------------------------------------------------------- what must hold then */

/* Whoever is stopped or dead: what is sent is what comes. `new`: there is a message of a victim for certain. */
static void others_get_on(int messages, bool new)
{
    struct receipt receipt;
    int rc = take_and_count(&receipt);

    REQUIRE(rc == 0 || (rc == -EAGAIN && !new));
    for (int i = 0; i < messages; i++) {
        REQUIRE(put(sender, next_number) == 0);
        sent++;
        REQUIRE(take_and_count(&receipt) == 0);
        REQUIRE(receipt.number == next_number++);
        REQUIRE(take_and_count(&receipt) == -EAGAIN);
    }
}

/* Nobody but we has sent, so sequence and number go together. */
static void it_received_what_was_newest(const struct report *its)
{
    uint64_t seen = start + PREPARED;

    REQUIRE(its->result == 0);
    REQUIRE(its->first.sequence >= seen && its->first.sequence <= newest);
    REQUIRE(its->first.number == its->first.sequence - start);
    REQUIRE(its->first.lost == its->first.sequence - seen);
    REQUIRE(its->result_then == (its->first.sequence == newest ? -EAGAIN : 0));
    if (its->result_then != 0)
        return;
    REQUIRE(its->then.sequence == newest && its->then.number == newest - start);
    REQUIRE(its->then.lost == newest - its->first.sequence - 1);
}

static void victim_goes_on(const struct call *call, uint32_t index)
{
    const struct report *its = &reports[index];

    kill(victims[index], SIGCONT);
    REQUIRE(wait_until_it_stops(victims[index]));
    REQUIRE(its->over == 1 && its->inside == 1);
    if (call->messages == 0) {
        it_received_what_was_newest(its);
        return;
    }
    REQUIRE(its->result == 0);
    sent += call->messages;
}

/* Whose number is a dead one's, with its buffers. */
static void newcomers_take_their_places(int count)
{
    noria_channel *newcomers[MOST_VICTIMS];
    struct receipt receipt;

    for (int i = 0; i < count; i++) {
        REQUIRE(noria_open(&newcomers[i], address, NORIA_SEND | NORIA_RECV, NULL) == 0);
        for (int k = 0; k < 3; k++) {
            REQUIRE(put(newcomers[i], next_number) == 0);
            sent++;
            REQUIRE(take_and_count(&receipt) == 0 && receipt.number == next_number++);
        }
    }
    for (int i = 0; i < count; i++)
        REQUIRE(noria_close(newcomers[i]) == 0);
}

/* `in_doubt`: messages of the dead. */
static void all_adds_up(uint64_t in_doubt)
{
    struct noria_stat stat = {0};
    uint64_t accounted;

    REQUIRE(noria_stat(receiver, &stat) == 0);
    REQUIRE(received + missed == newest - start);
    accounted = newest - start + stat.lost;
    REQUIRE(accounted >= sent && accounted <= sent + in_doubt);
}

static void judge(const struct call *call, int count, int between, bool dies)
{
    int bad_before = bad;

    for (uint32_t i = 0; i < (uint32_t)count && dies; i++)
        end(i);
    if (call->messages != 0)
        sent += (uint64_t)count; /* before their call */
    others_get_on(between, call->messages != 0);
    for (uint32_t i = 0; i < (uint32_t)count && bad == bad_before && !dies; i++)
        victim_goes_on(call, i);
    if (bad == bad_before)
        others_get_on(2, false);
    if (bad == bad_before && dies)
        newcomers_take_their_places(count);
    if (bad == bad_before)
        all_adds_up(dies ? call->messages * (uint64_t)count : 0);
}

static bool prepare(int count)
{
    struct noria_options options = options_of(count);
    struct receipt receipt;

    options.first_position = start = 12345;
    noria_unlink(address);
    if (noria_open(&sender, address, NORIA_SEND | NORIA_CREATE | NORIA_EXCL, &options) != 0 ||
        noria_open(&receiver, address, NORIA_RECV, NULL) != 0)
        return false;
    next_number = 1;
    sent = received = missed = newest = 0;
    for (; sent < PREPARED; sent++)
        if (put(sender, next_number++) != 0)
            return false;
    return take_and_count(&receipt) == 0;
}

/* Whether the victims were still inside of their call. */
static bool try_position(const struct call *call, int count, int between, bool dies)
{
    bool inside = true;

    if (!prepare(count)) {
        printf("FAILED: %s, instruction %d: cannot prepare: %s\n", what, position, noria_detail());
        exit(2);
    }
    for (uint32_t i = 0; i < (uint32_t)count; i++)
        inside = lead(call, i) && inside;
    if (inside)
        judge(call, count, between, dies);
    for (uint32_t i = 0; i < (uint32_t)count; i++)
        end(i);
    noria_close(sender);
    noria_close(receiver);
    return inside;
}

/* How many messages overtake the victims, 0 to 2, goes round in the short form. */
static void try_call(const struct call *call, int count, bool dies, bool thorough)
{
    int stride = thorough ? 1 : call->stride * (count > 1 ? FEWER : 1);
    bool inside = true;

    snprintf(what, sizeof(what), "%s, %d victims, %s", call->name, count, dies ? "killed" : "stopped");
    for (position = 1; inside && position < POSITIONS_MAX; position += stride)
        for (int between = 0; inside && between < MOST_BETWEEN; between++) {
            if (!thorough && between != position / stride % MOST_BETWEEN)
                continue;
            inside = try_position(call, count, between, dies);
            positions += inside;
        }
    printf("%-40s %5d instructions\n", what, position);
}

int main(void)
{
    bool thorough = getenv("NORIA_LONG") != NULL && strcmp(getenv("NORIA_LONG"), "1") == 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    reports = mmap(NULL, MOST_VICTIMS * sizeof(*reports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reports == MAP_FAILED)
        return 1;
    snprintf(address, sizeof(address), "shm:/noria-stopkill-latest-%d", (int)getpid());
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        for (int count = 1; count <= MOST_VICTIMS; count += MOST_VICTIMS - 1)
            for (int dies = 0; dies < 2; dies++)
                try_call(&calls[i], count, dies != 0, thorough);
    noria_unlink(address);
    printf("%d positions, %d bad\n", positions, bad);
    return bad != 0 || positions == 0;
}
