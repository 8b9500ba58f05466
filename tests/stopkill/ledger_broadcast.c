/* SPDX-License-Identifier: BSD-2-Clause */
/* The audit where each receiver gets every message: all receivers must have seen one and the same stream,
 * each from its own beginning to the end, except for what it was told that it missed. */
#include <string.h>

#include "ledger.h"

enum { STREAM_MAX = PARTIES * SEQUENCES };

/* What stood at each place of the stream, as far as anybody has seen it. */
static struct {
    uint32_t sender, sequence; /* sequence 0: not seen */
} stream[STREAM_MAX];

static const char *see(uint64_t place, const struct receipt *receipt)
{
    if (place >= STREAM_MAX)
        return ledger_complaint("told a place where nothing was sent", receipt->sender, receipt->sequence);
    if (stream[place].sequence == 0) {
        stream[place].sender = receipt->sender;
        stream[place].sequence = receipt->sequence;
    }
    if (stream[place].sender == receipt->sender && stream[place].sequence == receipt->sequence)
        return NULL;
    return ledger_complaint("two saw different messages in one place", receipt->sender, receipt->sequence);
}

/* The survivors were there when the stream began; others learn their first place from their first message. */
static const char *audit_receiver(uint32_t id, uint64_t first, uint64_t *end)
{
    bool placed = id == FIRST_SURVIVOR || id == SECOND_SURVIVOR;
    uint64_t next = 0;

    for (uint32_t i = 0; i < arena->books.receipts[id]; i++) {
        const struct receipt *receipt = &arena->receipts[id][i];
        uint64_t place = receipt->place - first;
        const char *bad;

        if (receipt->garbage)
            return ledger_complaint("garbage received", id, i);
        if (receipt->flags != 0)
            return ledger_complaint("flagged as received by another", id, i);
        if (placed && place != next + receipt->lost)
            return ledger_complaint("a gap that was not told so", receipt->sender, receipt->sequence);
        if (receipt->lost != 0 && !contestant.overtakes)
            return ledger_complaint("a reliable channel has lost some", receipt->sender, receipt->sequence);
        bad = see(place, receipt);
        if (bad != NULL)
            return bad;
        next = place + 1;
        placed = true;
    }
    *end = next;
    return NULL;
}

/* What a dead receiver had certainly been given. */
static const char *audit_dead(const struct party *dead, uint64_t first)
{
    for (uint32_t i = 0; i < dead->receives; i++) {
        const struct incoming *in = &dead->in[i];
        struct receipt receipt = {.flags = 0};
        const char *bad;

        if (in->stage == IN_CALL)
            continue;
        if (!ledger_read(in->data, in->len, &receipt))
            return ledger_complaint("a receiver that died had seen garbage", dead->id, i);
        bad = see(in->place - first, &receipt);
        if (bad != NULL)
            return bad;
    }
    return NULL;
}

/* Each sender's messages in their order, none that was refused. How many of them were certainly sent. */
static const char *audit_stream(uint64_t end, uint64_t *committed, uint64_t *unseen)
{
    uint32_t last[PARTIES] = {0};

    *committed = *unseen = 0;
    for (uint64_t place = 0; place < end; place++) {
        uint32_t sender = stream[place].sender, sequence = stream[place].sequence;
        if (sequence == 0) {
            ++*unseen;
            continue;
        }
        *committed += arena->books.sent[sender][sequence] == COMMITTED;
        if (sequence <= last[sender])
            return ledger_complaint("order of one sender broken, or once more", sender, sequence);
        if (arena->books.sent[sender][sequence] == REFUSED)
            return ledger_complaint("a refused or aborted message was delivered", sender, sequence);
        last[sender] = sequence;
    }
    return NULL;
}

/* As many places as messages: what nobody saw is what all missed. `seen`: of those certainly sent. */
static const char *audit_senders(uint64_t end, uint64_t seen, uint64_t unseen)
{
    uint64_t committed = 0, in_doubt = 0;

    for (uint32_t sender = 0; sender < PARTIES; sender++)
        for (uint32_t i = 1; i < arena->books.next_sequence[sender]; i++) {
            committed += arena->books.sent[sender][i] == COMMITTED;
            in_doubt += arena->books.sent[sender][i] == IN_SEND;
        }
    if (committed > seen + (contestant.overtakes ? unseen : 0))
        return "a committed message is lost";
    return committed <= end && end <= committed + in_doubt ? NULL
                                                           : "the stream is not as long as what was sent";
}

static bool is_there_to_the_end(uint32_t id)
{
    const struct party *party = party_of(id);

    return id != STILL && id != CORPSE && (party->roles & RECEIVES) != 0 && !party_is_dead(party);
}

const char *ledger_audit_broadcast(uint64_t first)
{
    uint64_t ends[PARTIES] = {0}, end = 0, seen, unseen;
    const char *bad = NULL;

    memset(stream, 0, sizeof(stream));
    for (uint32_t id = 1; id < PARTIES && bad == NULL; id++) {
        bad = audit_receiver(id, first, &ends[id]);
        if (bad == NULL && party_is_dead(party_of(id)))
            bad = audit_dead(party_of(id), first);
        end = ends[id] > end ? ends[id] : end;
    }
    for (uint32_t id = 1; id < PARTIES && bad == NULL; id++)
        if (is_there_to_the_end(id) && ends[id] != end)
            bad = ledger_complaint("a receiver has not got the last ones", id, 0);
    if (bad == NULL)
        bad = audit_stream(end, &seen, &unseen);
    return bad == NULL ? audit_senders(end, seen, unseen) : bad;
}
