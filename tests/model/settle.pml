/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Settling: what survivors do with the slots of the dead while owner numbers are used again (ring/mpmc.h
 * find, settle and announce; the channel's participant entries).
 *
 * A slot's word names an owner by number only; the entry of that number tells which incarnation uses it.
 * Participants claim slots for writing and give them back, adopt orphans and release them, and die before
 * any change of shared memory. When their entry has been freed they come back as its next incarnation.
 * Others step over any slot that is held. Two settlers sweep the dead, and may die too:
 *
 *     certify that the entry's incarnation is dead (before the scan: it claims nothing any more)
 *     for each slot: load the word; if it names the number: certify again, then compare-and-swap that word:
 *         WRITING -> EMPTY of the next lap; READING -> READING of the next lap, nobody's, and announce it
 *     announce once more, then free the entry by compare-and-swap from exactly that incarnation
 *
 * Claims: nobody is settled while he lives; the record that a dead receiver held is released once, by
 * somebody; an entry is free only when no slot names it. When nothing moves any more no slot names the
 * dead, no entry of the dead is taken, and the record does not wait beside a living receiver.
 *
 * pass: -DDEATHS=1 -DCLAIMS=1
 * pass: -DDEATHS=2 -DSTEPS=0 -DCLAIMS=0
 * pass: -DDEATHS=2 -DPARTICIPANTS=1
 * pass: -DDEATHS=1 -DSTEPS=0 -DSETTLER_DEATHS=1
 * long: -DDEATHS=2 -DCLAIMS=0
 * long: -DDEATHS=2 -DCLAIMS=1
 * long: -DDEATHS=3 -DCLAIMS=0 -DSTEPS=0 -DSETTLER_DEATHS=1
 * reject: -DBROKEN=1 -DDEATHS=2 -DSTEPS=0 no new certificate after a lost compare-and-swap
 * reject: -DBROKEN=2 -DDEATHS=2 the certificate is taken before the load of the word
 * reject: -DBROKEN=3 -DPARTICIPANTS=1 no certificate before the scan: a slot is claimed behind it
 * reject: -DBROKEN=4 -DDEATHS=2 the entry is freed without comparing its incarnation
 * reject: -DBROKEN=5 -DDEATHS=2 settling and adopting keep the lap, so that a word comes back
 * reject: -DBROKEN=6 -DDEATHS=2 the entry is freed before its slots are settled
 * reject: -DBROKEN=7 -DDEATHS=2 settling stores its word without comparing
 * reject: -DBROKEN=8 -DCLAIMS=0 an adopter that lost its compare-and-swap goes on to the next slot
 */
#ifndef PARTICIPANTS
#define PARTICIPANTS 2
#endif
#ifndef SETTLERS
#define SETTLERS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef SETTLER_DEATHS
#define SETTLER_DEATHS 0
#endif
#ifndef STEPS
#define STEPS 1
#endif
#ifndef CLAIMS
#define CLAIMS 2
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

#define SLOTS 2

/* A slot's word, as in slots.pml. */
#define READING 0
#define EMPTY 1
#define WRITING 2
#define make(lap, owner, kind) ((lap) << 6 | (owner) << 2 | (kind))
#define lap_in(w) ((w) >> 6)
#define owner_in(w) (((w) >> 2) & 15)
#define kind_in(w) ((w) & 3)
#define next_lap(w) (lap_in(w) + (BROKEN == 5 -> 0 : 1))

/* Shared memory: the slots, the announcements, and for each number which incarnation has its entry. */
short word[SLOTS];
byte orphans;
byte incarnation[PARTICIPANTS + 1];
bool taken[PARTICIPANTS + 1];

/* What the kernel knows: whether the process that has the entry lives. */
bool alive[PARTICIPANTS + 1];

/* What the checks know. */
byte deaths = DEATHS, settler_deaths = SETTLER_DEATHS, steps = STEPS, claims = CLAIMS;
byte held_by[SLOTS];
bool released;
byte settlers_alive = SETTLERS;

/* Every change of shared memory: the participant may die just before it. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; alive[me] = false; goto died \
        :: true -> change \
        fi \
    }

inline compare_and_swap(index, expected, desired) {
    won = word[index] == (expected);
    if
    :: won -> word[index] = desired
    :: else
    fi
}

inline claim_slot(index) {
    compare_and_swap(index, seen, make(lap_in(seen), me, WRITING));
    if
    :: won -> held_by[index] = incarnation[me]
    :: else
    fi
}

inline adopt_slot(index) {
    compare_and_swap(index, seen, make(next_lap(seen), me, READING));
    if
    :: won -> held_by[index] = incarnation[me]
    :: else
    fi
}

/* One step: it fails only when the slot was stepped over, and then it is tried again. */
inline give_back(index) {
    assert(owner_in(word[index]) == me && held_by[index] == incarnation[me]);
    if
    :: kind_in(word[index]) == READING ->
        assert(!released);
        released = true;
        word[index] = make(lap_in(word[index]), 0, EMPTY)
    :: kind_in(word[index]) == WRITING -> word[index] = make(lap_in(word[index]) + 1, 0, EMPTY)
    fi
}

/* Claims slots, adopts orphans when there is news of any, gives back; and for ever so. */
proctype participant(byte me) {
    byte i, announced, orphans_seen;
    short seen;
    bool won;
    if
    :: me == 1 -> i = 1; goto holds    /* the first has taken the record already */
    :: else
    fi;
born:
    orphans_seen = 255;
    do
    :: atomic { claims > 0 -> claims--; seen = word[0] };
        if
        :: kind_in(seen) == EMPTY -> shared(claim_slot(0))
        :: else
        fi;
        if
        :: won -> i = 0; goto holds
        :: else
        fi
    :: atomic { orphans != orphans_seen -> announced = orphans };
        i = 0;
        do
        :: i < SLOTS ->
            seen = word[i];
            if
            :: kind_in(seen) == READING && owner_in(seen) == 0 ->
                shared(adopt_slot(i));
                if
                :: won -> goto holds
                :: !won && BROKEN == 8 -> i++
                :: else    /* stepped over, perhaps: the same slot again */
                fi
            :: else -> i++
            fi
        :: i == SLOTS -> break
        od;
        atomic { orphans_seen = announced; i = 0; announced = 0 }
    od;
holds:
    atomic { won = false; seen = 0; announced = 0 };
    shared(give_back(i));
    i = 0;
    goto born;
died:
    atomic { i = 0; announced = 0; orphans_seen = 0; seen = 0; won = false };
    atomic {
        !taken[me];
        assert(owner_in(word[0]) != me && owner_in(word[1]) != me);
        taken[me] = true;
        incarnation[me]++;
        alive[me] = true;
        goto born
    }
}

/* Somebody in whose way a held slot stands. */
proctype stepper() {
    byte i;
    short seen;
    bool won;
    do
    :: atomic { steps > 0 ->
            steps--;
            if
            :: i = 0
            :: i = 1
            fi;
            seen = word[i]
        };
        if
        :: kind_in(seen) != EMPTY -> atomic { compare_and_swap(i, seen, seen + make(1, 0, 0)) }
        :: else
        fi;
        atomic { seen = 0; won = false; i = 0 }
    od
}

#define settler_step(change) \
    atomic { \
        if \
        :: settler_deaths > 0 -> settler_deaths--; settlers_alive--; goto out \
        :: true -> change \
        fi \
    }

/* The kernel's word that the incarnation which this sweep is about is dead. */
#define certified (incarnation[owner] != which || !alive[owner])

inline settle_word() {
    won = BROKEN == 7 || word[i] == seen;
    if
    :: won ->
        assert(!alive[owner] || held_by[i] != incarnation[owner]);
        if
        :: kind_in(seen) == READING -> word[i] = make(next_lap(seen), 0, READING)
        :: kind_in(seen) == WRITING -> word[i] = make(lap_in(seen) + 1, 0, EMPTY)
        fi
    :: else
    fi
}

/* A number that is used by somebody else again is no longer this sweep's business. */
inline free_entry() {
    if
    :: taken[owner] && (incarnation[owner] == which || BROKEN == 4) ->
        assert(owner_in(word[0]) != owner && owner_in(word[1]) != owner);
        taken[owner] = false
    :: else
    fi
}

inline sweep_slots() {
    do
    :: i < SLOTS ->
        if
        :: BROKEN == 2 -> sure = incarnation[owner] == which && certified
        :: else
        fi;
        seen = word[i];
        if
        :: owner_in(seen) != owner -> i++
        :: else ->
            if
            :: BROKEN == 2 || (BROKEN == 1 && lost) -> sure = sure || BROKEN == 1
            :: else -> sure = incarnation[owner] == which && certified
            fi;
            if
            :: sure -> settler_step(settle_word())
            :: else -> goto over
            fi;
            lost = !won;
            if
            :: won && kind_in(seen) == READING -> settler_step(orphans++)
            :: else
            fi
        fi;
        atomic { seen = 0; won = false; sure = false }
    :: i == SLOTS -> break
    od
}

proctype settler() {
    byte i, owner, which;
    short seen;
    bool won, lost, sure;
    do
    :: atomic {
            if
            :: taken[1] && (!alive[1] || BROKEN == 3) -> owner = 1
            :: taken[PARTICIPANTS] && (!alive[PARTICIPANTS] || BROKEN == 3) -> owner = PARTICIPANTS
            fi;
            which = incarnation[owner]
        };
        if
        :: BROKEN == 6 -> settler_step(taken[owner] = false)
        :: else
        fi;
        sweep_slots();
        if
        :: !certified -> goto over
        :: else
        fi;
        settler_step(orphans++);
        settler_step(free_entry());
over:
        atomic { i = 0; owner = 0; which = 0; seen = 0; won = false; lost = false; sure = false }
    od;
out:
    skip
}

inline assert_end() {
    i = 1;
    do
    :: i <= PARTICIPANTS ->
        anybody = anybody || alive[i];
        assert(alive[i] || settlers_alive == 0);
        assert(alive[i] || (owner_in(word[0]) != i && owner_in(word[1]) != i));
        i++
    :: else -> break
    od;
    assert(!anybody || released)
}

init {
    byte i;
    bool anybody;
    atomic {
        word[0] = make(1, 0, EMPTY);
        word[1] = make(1, 1, READING);
        held_by[1] = 1;
        i = 1;
        do
        :: i <= PARTICIPANTS -> taken[i] = true; alive[i] = true; incarnation[i] = 1; run participant(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < SETTLERS -> run settler(); i++
        :: else -> break
        od;
        i = 0;
        run stepper()
    };
    timeout;
    d_step { assert_end() }
}
