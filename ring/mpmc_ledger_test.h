/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ledger of an MPMC ring, kept by watching its words change (watched_test.h). At each change must hold:
 *
 *   - a word moves only as the header's picture says, (lap, kind) strictly forward (I1);
 *   - a record is committed at a position that no consumer has passed (I4);
 *   - records are taken in the order of their positions, none is left behind: strict FIFO;
 *   - a record is released once, and its bytes are the same from commit to release.
 *
 * Because each of these is one compare-and-swap, the ledger is exact whatever runs between the accesses of a
 * call. It also counts the instants at which the ring was empty or full, so that those answers can be judged.
 * The includer defines ledger_broken(), which does not return.
 */
#ifndef NORIA_MPMC_LEDGER_TEST_H
#define NORIA_MPMC_LEDGER_TEST_H

#include <stdlib.h>

#include <noria/mpmc.h>

static void ledger_broken(const char *claim);

enum ledger_state { LEDGER_FREE, LEDGER_COMMITTED, LEDGER_TAKEN, LEDGER_ORPHANED };

struct ledger_slot {
    enum ledger_state state;
    uint32_t holder;  /* TAKEN: by whom */
    bool seen_before; /* it was taken by somebody who died */
    uint64_t sequence;
    uint64_t digest;
    uint32_t count, done; /* records in it, records released */
};

struct ledger {
    struct noria_mpmc_handle view; /* geometry; nobody's handle */
    struct ledger_slot *slots;
    uint64_t committed; /* slots with a record that was never taken */
    uint64_t orphaned;
    bool any_taken;
    uint64_t last_taken; /* position */
    uint64_t times_empty, times_full;
    uint64_t commits, takes, releases, adoptions, steps, changes;
};

static struct ledger ledger;

static inline void ledger_check(bool holds, const char *claim)
{
    if (!holds)
        ledger_broken(claim);
}

static inline uint64_t ledger_mix(uint64_t digest, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3);
    return digest;
}

/* Everything in the slot that must not change from commit to release. */
static inline uint64_t ledger_digest(const struct noria_mpmc_slot *slot, uint32_t *count)
{
    const uint8_t *payload = noria_mpmc_payload(slot);
    uint64_t digest = ledger_mix(slot->sequence ^ slot->sender, (const uint8_t *)&slot->length, 4);
    uint32_t length = slot->length, offset = 0;

    *count = 1;
    if (ledger.view.pack == 1)
        return ledger_mix(digest, payload, length);
    memcpy(count, payload, 4);
    ledger_check(*count >= 1 && *count <= ledger.view.pack, "a committed group has 1..pack records");
    offset = sizeof(struct noria_mpmc_group);
    for (uint32_t i = 0; i < *count; i++) {
        memcpy(&length, payload + offset, 4);
        ledger_check(length <= ledger.view.max_message, "a committed record is at most max_message long");
        digest = ledger_mix(digest, payload + offset + 8, length);
        offset += 8 + (uint32_t)noria_mpmc_align(length, 8);
    }
    return digest;
}

/* Whether a sender that starts now finds a place: some EMPTY position less than a wheel beyond the first unclaimed
 * one and beyond the first record. Writers and readers in between are stepped over, records are not. */
static inline bool ledger_has_free_slot(void)
{
    const struct noria_mpmc_handle *view = &ledger.view;
    uint64_t base = view->ring->first_position & ~view->mask, far = base + (UINT64_C(1) << 40);
    uint64_t unclaimed = far, record = far, empty = far;

    for (uint64_t i = 0; i <= view->mask; i++) {
        uint64_t word = __atomic_load_n(noria_mpmc_state_at(view, i), __ATOMIC_RELAXED);
        uint64_t at = base + i + (uint64_t)noria_mpmc_ahead(view, word, base + i) * (view->mask + 1);
        unsigned kind = NORIA_MPMC_KIND(word);
        uint64_t next = kind >= NORIA_MPMC_WRITING ? at + view->mask + 1 : at;
        if (noria_mpmc_before(next, unclaimed))
            unclaimed = next;
        if (kind == NORIA_MPMC_FULL && noria_mpmc_before(at, record))
            record = at;
        if (kind == NORIA_MPMC_EMPTY && noria_mpmc_before(at, empty))
            empty = at;
    }
    return empty != far && empty - unclaimed <= view->mask && (record == far || empty - record <= view->mask);
}

static inline void ledger_count_instants(void)
{
    ledger.times_empty += ledger.committed == 0;
    ledger.times_full += ledger.committed >= ledger.view.capacity || !ledger_has_free_slot();
}

static inline void ledger_commit(uint64_t index, uint64_t word, uint32_t owner)
{
    struct noria_mpmc_slot *slot = noria_mpmc_slot_at(&ledger.view, index);
    struct ledger_slot *entry = &ledger.slots[index];

    ledger_check(entry->state == LEDGER_FREE, "a slot is filled while it is free");
    ledger_check((slot->sequence & ledger.view.mask) == index &&
                     noria_mpmc_ahead(&ledger.view, word, slot->sequence) == 0,
                 "the sequence of a committed record is its position");
    ledger_check(slot->sender == owner, "the sender of a record is the owner who committed it");
    ledger_check(!ledger.any_taken || noria_mpmc_before(ledger.last_taken, slot->sequence),
                 "I4: no consumer has passed the position of a commit");
    *entry = (struct ledger_slot){.state = LEDGER_COMMITTED, .sequence = slot->sequence};
    entry->digest = ledger_digest(slot, &entry->count);
    ledger.committed++;
    ledger.commits++;
}

static inline void ledger_take(uint64_t index, uint32_t taker)
{
    struct ledger_slot *entry = &ledger.slots[index];

    ledger_check(entry->state == LEDGER_COMMITTED, "what is taken was committed");
    for (uint64_t i = 0; i <= ledger.view.mask; i++)
        ledger_check(ledger.slots[i].state != LEDGER_COMMITTED ||
                         !noria_mpmc_before(ledger.slots[i].sequence, entry->sequence),
                     "FIFO: no committed record stands before the one that is taken");
    entry->state = LEDGER_TAKEN;
    entry->holder = taker;
    ledger.last_taken = entry->sequence;
    ledger.any_taken = true;
    ledger.committed--;
    ledger.takes++;
}

static inline void ledger_change_reading(uint64_t index, unsigned kind, uint32_t old_owner,
                                         uint32_t new_owner)
{
    struct ledger_slot *entry = &ledger.slots[index];

    ledger_check(entry->state == (old_owner != 0 ? LEDGER_TAKEN : LEDGER_ORPHANED),
                 "a READING slot is held or orphaned");
    ledger.orphaned -= old_owner == 0;
    if (kind == NORIA_MPMC_EMPTY) { /* released, or dropped */
        *entry = (struct ledger_slot){.state = LEDGER_FREE};
        ledger.releases++;
        return;
    }
    if (old_owner == new_owner)
        ledger.steps++;
    else if (new_owner == 0)
        entry->seen_before = true;
    else
        ledger.adoptions++;
    ledger_check(old_owner == new_owner || old_owner == 0 || new_owner == 0,
                 "nobody takes a slot from a living reader");
    entry->state = new_owner != 0 ? LEDGER_TAKEN : LEDGER_ORPHANED;
    entry->holder = new_owner;
    ledger.orphaned += new_owner == 0;
}

static inline void ledger_change_state(uint64_t index, uint64_t old_word, uint64_t new_word)
{
    unsigned from = NORIA_MPMC_KIND(old_word), to = NORIA_MPMC_KIND(new_word);
    uint32_t old_owner = NORIA_MPMC_OWNER(old_word), new_owner = NORIA_MPMC_OWNER(new_word);
    uint64_t position = index + ((old_word >> NORIA_MPMC_LAP_SHIFT) << ledger.view.lap_shift);
    int64_t laps = noria_mpmc_ahead(&ledger.view, new_word, position);

    if (from == NORIA_MPMC_EMPTY)
        ledger_check(to == NORIA_MPMC_WRITING && laps == 0 && new_owner != 0,
                     "EMPTY becomes WRITING of its lap");
    else if (from == NORIA_MPMC_WRITING && to == NORIA_MPMC_FULL)
        ledger_check(laps == 0 && new_owner == 0, "FULL of the writer's lap");
    else if (from == NORIA_MPMC_WRITING)
        ledger_check(laps == 1 && ((to == NORIA_MPMC_EMPTY && new_owner == 0) ||
                                   (to == NORIA_MPMC_WRITING && new_owner == old_owner)),
                     "a writer gives up or is stepped over by one lap");
    else if (from == NORIA_MPMC_FULL)
        ledger_check(to == NORIA_MPMC_READING && laps == 1 && new_owner != 0,
                     "FULL is taken, for the next lap");
    else
        ledger_check((to == NORIA_MPMC_READING && laps == 1) ||
                         (to == NORIA_MPMC_EMPTY && laps == 0 && new_owner == 0),
                     "a reader releases, or is stepped over, settled or adopted by one lap");
    ledger.steps += from == NORIA_MPMC_WRITING && to == NORIA_MPMC_WRITING;
    if (from == NORIA_MPMC_WRITING && to == NORIA_MPMC_FULL)
        ledger_commit(index, new_word, old_owner);
    else if (from == NORIA_MPMC_FULL)
        ledger_take(index, new_owner);
    else if (from == NORIA_MPMC_READING)
        ledger_change_reading(index, to, old_owner, new_owner);
}

/* The second callback of watched_test.h, for every store and successful compare-and-swap. */
static inline void ledger_changed(const void *word, uint64_t old_value, uint64_t new_value)
{
    const struct noria_mpmc_handle *view = &ledger.view;
    uintptr_t offset = (uintptr_t)word - (uintptr_t)view->slots;
    uint64_t index = offset / view->slot_size;

    if ((uintptr_t)word < (uintptr_t)view->slots || index > view->mask)
        return;
    offset -= index * view->slot_size;
    if (offset == 0) {
        ledger.changes++;
        ledger_change_state(index, old_value, new_value);
        ledger_count_instants();
    } else if (offset == sizeof(struct noria_mpmc_slot) + offsetof(struct noria_mpmc_group, done)) {
        ledger_check(ledger.slots[index].state == LEDGER_TAKEN && new_value == ledger.slots[index].done + 1 &&
                         new_value < ledger.slots[index].count,
                     "records of a group are released one by one by their holder, the last with the slot");
        ledger.slots[index].done++;
    }
}

/* What a peek returned must be what the ledger says its handle holds. */
static inline void ledger_check_peeked(const struct noria_mpmc_handle *h,
                                       const struct noria_mpmc_record *record)
{
    const struct ledger_slot *entry = &ledger.slots[record->position & ledger.view.mask];
    uint64_t sequence = h->pack == 1 ? entry->sequence : entry->sequence * h->pack + record->index;
    uint32_t count;

    ledger_check(entry->state == LEDGER_TAKEN && entry->holder == h->owner,
                 "a peeked record is held by its receiver");
    ledger_check(record->index >= entry->done && record->index < entry->count,
                 "released records do not come again");
    ledger_check(record->sequence == sequence, "a record keeps its sequence");
    ledger_check(((record->flags & NORIA_MPMC_REDELIVERED) != 0) == entry->seen_before,
                 "flagged if, and only if, seen");
    ledger_check(ledger_digest(noria_mpmc_slot_at(&ledger.view, record->position), &count) == entry->digest,
                 "bytes stay as they were committed");
}

static inline void ledger_open(void *memory, size_t size)
{
    free(ledger.slots);
    memset(&ledger, 0, sizeof(ledger));
    ledger_check(noria_mpmc_read_geometry(&ledger.view, (struct noria_mpmc *)memory, size) == 0,
                 "a formatted ring");
    ledger.slots = calloc(ledger.view.mask + 1, sizeof(*ledger.slots));
    ledger_check(ledger.slots != NULL, "memory for the ledger");
    ledger_count_instants();
}

static inline void ledger_close(void)
{
    free(ledger.slots);
    ledger.slots = NULL;
}

#endif
