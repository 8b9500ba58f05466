/* SPDX-License-Identifier: BSD-2-Clause */
#include "ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct arena *arena;

void arena_create(void)
{
    int fd = memfd_create(ARENA_NAME, MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, sizeof(*arena)) != 0) {
        perror("stopkill: arena");
        exit(2);
    }
    arena = mmap(NULL, sizeof(*arena), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (arena == MAP_FAILED) {
        perror("stopkill: arena");
        exit(2);
    }
    books_clear();
}

void books_clear(void)
{
    memset(&arena->books, 0, sizeof(arena->books));
    for (uint32_t id = 0; id < PARTIES; id++) {
        struct party *party = party_of(id);
        party->id = id;
        party->owner = id;
        party->memory = arena->ring;
        party->corpse = party_of(CORPSE);
        arena->books.next_sequence[id] = 1;
        arena->books.mark[id] = UINT32_MAX;
        arena->books.last[id] = UINT32_MAX;
    }
}

bool party_is_dead(const struct party *party)
{
    return (__atomic_load_n(&arena->books.dead, __ATOMIC_ACQUIRE) >> party->id & 1) != 0;
}

/* ---------------------------------------------------------------------------------------- messages */

/* First word of a message: check (16 bits) | length (8) | sender (8) | sequence (32). */
static uint64_t message_head(uint32_t sender, uint32_t sequence, uint32_t len)
{
    uint64_t body = (uint64_t)len << 40 | (uint64_t)sender << 32 | sequence;

    return (body * UINT64_C(0x9e3779b97f4a7c15) & UINT64_C(0xffff000000000000)) | body;
}

static void message_write(unsigned char *data, uint32_t sender, uint32_t sequence, uint32_t len)
{
    uint64_t head = message_head(sender, sequence, len);

    memcpy(data, &head, sizeof(head));
    for (uint32_t i = sizeof(head); i < len; i++)
        data[i] = (unsigned char)(head * (i + 1) >> 8);
}

bool ledger_read(const unsigned char *data, size_t len, struct receipt *receipt)
{
    unsigned char expected[MESSAGE_MAX];
    uint64_t head;

    if (len < sizeof(head) || len > MESSAGE_MAX)
        return false;
    memcpy(&head, data, sizeof(head));
    receipt->sender = (uint32_t)(head >> 32 & 0xff);
    receipt->sequence = (uint32_t)head;
    if ((head >> 40 & 0xff) != len || receipt->sender >= PARTIES || receipt->sequence >= SEQUENCES)
        return false;
    message_write(expected, receipt->sender, receipt->sequence, (uint32_t)len);
    return memcmp(expected, data, len) == 0 &&
           arena->books.sent[receipt->sender][receipt->sequence] != NOT_SENT;
}

uint32_t ledger_next_len(const struct party *me)
{
    uint32_t spread = contestant.max_message - 7;

    return 8 + arena->books.next_sequence[me->id] * 11 % spread;
}

static void count_progress(void)
{
    __atomic_fetch_add(&arena->books.progress, 1, __ATOMIC_RELAXED);
}

int ledger_send(struct party *me, uint32_t len)
{
    uint32_t sequence = arena->books.next_sequence[me->id];
    unsigned char data[MESSAGE_MAX];
    int rc;

    if (sequence >= SEQUENCES)
        return -EOVERFLOW;
    message_write(data, me->id, sequence, len);
    arena->books.sent[me->id][sequence] = IN_SEND;
    rc = contestant.send(me, data, len);
    if (rc != 0)
        return rc;
    arena->books.sent[me->id][sequence] = COMMITTED;
    arena->books.next_sequence[me->id] = sequence + 1;
    count_progress();
    return 0;
}

static bool counts_as_traffic(const struct receipt *receipt)
{
    if (contestant.broadcasts)
        return receipt->sequence == arena->books.last[receipt->sender];
    return receipt->sequence >= arena->books.mark[receipt->sender];
}

static void enter_receipt(struct party *me, const unsigned char *data, size_t len, uint32_t flags)
{
    uint32_t n = arena->books.receipts[me->id]++;
    struct receipt *receipt = &arena->receipts[me->id][n];

    if (n >= RECEIPTS)
        abort();
    receipt->flags = flags;
    receipt->garbage = !ledger_read(data, len, receipt);
    receipt->place = me->place;
    receipt->lost = me->lost;
    if (!receipt->garbage && counts_as_traffic(receipt))
        __atomic_fetch_add(&arena->books.traffic_received, 1, __ATOMIC_RELAXED);
    count_progress();
}

int ledger_receive(struct party *me)
{
    unsigned char data[MESSAGE_MAX];
    uint32_t flags = 0;
    size_t len = 0;
    int rc;

    if (arena->books.receipts[me->id] >= RECEIPTS)
        return -EOVERFLOW;
    rc = contestant.receive(me, data, sizeof(data), &len, &flags);
    if (rc == 0)
        enter_receipt(me, data, len, flags);
    return rc;
}

/* ------------------------------------------------------------------------ the operation under test */

void ledger_prepare(struct party *me, uint32_t sends, uint32_t receives)
{
    uint32_t len = contestant.max_message < 24 ? contestant.max_message : 24;

    me->sends = sends;
    me->receives = receives;
    me->result = UNTRIED;
    for (uint32_t i = 0; i < sends; i++) {
        struct outgoing *out = &me->out[i];
        out->sequence = arena->books.next_sequence[me->id]++;
        out->len = len;
        out->result = UNTRIED;
        message_write(out->data, me->id, out->sequence, len);
        arena->books.sent[me->id][out->sequence] = IN_SEND;
    }
    memset(me->in, 0, sizeof(me->in));
}

int ledger_hold(struct party *me, unsigned role)
{
    int rc = contestant.hold(me, role);

    if (rc != 0 && role == SENDS)
        me->sends = 0;
    if (rc != 0 && role == RECEIVES)
        me->receives = 0;
    return rc == -EAGAIN ? 0 : rc;
}

void ledger_settle_accounts(struct party *me)
{
    bool dead = party_is_dead(me);

    for (uint32_t i = 0; i < me->sends; i++) {
        uint8_t *sent = &arena->books.sent[me->id][me->out[i].sequence];
        if (me->out[i].result == 0)
            *sent = COMMITTED;
        else if (me->out[i].result < 0 || !dead)
            *sent = REFUSED;
    }
    if (dead)
        return; /* what it had received is looked at message by message */
    for (uint32_t i = 0; i < me->receives; i++)
        if (me->in[i].stage == RELEASED) {
            me->place = me->in[i].place;
            me->lost = me->in[i].lost;
            enter_receipt(me, me->in[i].data, me->in[i].len, me->in[i].flags);
        }
    me->sends = 0;
    me->receives = 0;
}

/* ------------------------------------------------------------------------------------------- audit */

/* What became of one message. */
struct fate {
    uint8_t views;    /* how often an application saw it */
    uint8_t released; /* how often it was released */
    bool maybe_gone;  /* its holder died while it released it, or with all of it copied out */
};

static struct fate fates[PARTIES][SEQUENCES];
static char sentence[160];

const char *ledger_complaint(const char *what, uint32_t sender, uint32_t sequence)
{
    snprintf(sentence, sizeof(sentence), "%s (message %u of party %u)", what, sequence, sender);
    return sentence;
}

static const char *view(const struct receipt *receipt, bool released, bool receiver_died)
{
    struct fate *fate = &fates[receipt->sender][receipt->sequence];
    const char *bad = NULL;

    if (fate->released != 0)
        bad = "a released message came again";
    else if (fate->views != 0 && receipt->flags == 0)
        bad = "a message came again without its flag";
    else if ((receipt->flags & REDELIVERED) != 0 && !receiver_died)
        bad = "flagged as redelivered although no receiver died";
    if (bad != NULL)
        return ledger_complaint(bad, receipt->sender, receipt->sequence);
    fate->views++;
    fate->released = (uint8_t)(fate->released + (released ? 1 : 0));
    return NULL;
}

/* What a dead party had in its hands. */
static const char *audit_dead(const struct party *dead)
{
    for (uint32_t i = 0; i < dead->receives; i++) {
        const struct incoming *in = &dead->in[i];
        struct receipt receipt = {.flags = in->flags};
        bool whole = ledger_read(in->data, in->len != 0 ? in->len : in->data[5], &receipt);
        const char *bad;

        if (in->stage == IN_CALL) { /* in->data[5]: the length that the message itself names */
            if (whole)
                fates[receipt.sender][receipt.sequence].maybe_gone = true;
            continue;
        }
        if (!whole)
            return ledger_complaint("a receiver that died had seen garbage", dead->id, i);
        bad = view(&receipt, in->stage == RELEASED, true);
        if (bad != NULL)
            return bad;
        if (in->stage == RELEASING)
            fates[receipt.sender][receipt.sequence].maybe_gone = true;
    }
    return NULL;
}

static const char *audit_receipts(uint32_t receiver, bool receiver_died)
{
    uint32_t last[PARTIES] = {0};

    for (uint32_t i = 0; i < arena->books.receipts[receiver]; i++) {
        const struct receipt *receipt = &arena->receipts[receiver][i];
        const char *bad;

        if (receipt->garbage)
            return ledger_complaint("garbage received", receiver, i);
        bad = view(receipt, true, receiver_died);
        if (bad != NULL)
            return bad;
        if (receipt->flags != 0)
            continue;
        if (receipt->sequence < last[receipt->sender])
            return ledger_complaint("order of one sender broken", receipt->sender, receipt->sequence);
        last[receipt->sender] = receipt->sequence;
    }
    return NULL;
}

static const char *audit_senders(uint32_t *lost, uint32_t *in_doubt, bool lossy)
{
    *lost = *in_doubt = 0;
    for (uint32_t sender = 0; sender < PARTIES; sender++)
        for (uint32_t i = 1; i < arena->books.next_sequence[sender]; i++) {
            const struct fate *fate = &fates[sender][i];
            uint8_t sent = arena->books.sent[sender][i];

            if (sent == REFUSED && fate->views != 0)
                return ledger_complaint("a refused or aborted message was delivered", sender, i);
            *in_doubt += fate->released == 0 && (sent == IN_SEND || fate->maybe_gone) ? 1 : 0;
            if (sent != COMMITTED || fate->released != 0 || fate->maybe_gone)
                continue;
            if (!lossy)
                return ledger_complaint("a committed message is lost", sender, i);
            ++*lost;
        }
    return NULL;
}

/* Every message that was dropped must be counted, and no other. Of those in doubt only the ring knows. */
static const char *audit_losses(uint32_t lost, uint32_t in_doubt)
{
    uint64_t reported = contestant.lost(arena->ring);

    if (reported >= lost && reported <= (uint64_t)lost + in_doubt)
        return NULL;
    snprintf(sentence, sizeof(sentence), "%u messages are lost and %u in doubt, %u are reported", lost, in_doubt,
             (unsigned)reported);
    return sentence;
}

const char *ledger_audit(bool lossy, bool any_flag)
{
    const struct books *books = &arena->books;
    bool receiver_died = any_flag || books->receivers_died != 0;
    uint32_t lost, in_doubt, may_lose = 0;
    const char *bad;

    memset(fates, 0, sizeof(fates));
    for (uint32_t id = 1; id < PARTIES; id++)
        if (party_is_dead(&books->party[id])) {
            receiver_died |= books->party[id].receives != 0;
            may_lose += books->party[id].receives;
        }
    for (uint32_t id = 1; id < PARTIES; id++)
        if (party_is_dead(&books->party[id]) && (bad = audit_dead(&books->party[id])) != NULL)
            return bad;
    for (uint32_t id = 1; id < PARTIES; id++)
        if ((bad = audit_receipts(id, receiver_died)) != NULL)
            return bad;
    bad = audit_senders(&lost, &in_doubt, lossy || contestant.lost != NULL);
    if (bad == NULL && contestant.lost != NULL)
        return audit_losses(lost, in_doubt);
    if (bad == NULL && lost > may_lose)
        return "more messages are lost than dead receivers held";
    return bad;
}
