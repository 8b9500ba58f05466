/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rendezvous (ring/rendezvous.h): senders offer messages in slots and may take them back at any time; receivers take, copy
 * in two steps, and finish; anybody may die before any change of shared memory; a settler mends what the dead left.
 *
 * Claims: a message is received at most once, whole, and never after its sender took it back; a sender is told "taken" if and only
 * if it was received, "lost" only if its receiver died without it. When nothing moves any more every slot is free.
 *
 * pass: -DDEATHS=0
 * pass: -DDEATHS=1
 * pass: -DDEATHS=2 -DSENDERS=1
 * pass: -DDEATHS=2 -DRECEIVERS=1
 * long: -DDEATHS=2
 * long: -DDEATHS=1 -DMESSAGES=3
 * reject: -DBROKEN=1 -DDEATHS=0 an offer taken back while it is copied frees its slot at once
 * reject: -DBROKEN=2 -DDEATHS=0 a receiver finishes without comparing
 * reject: -DBROKEN=3 -DDEATHS=0 a sender takes back without comparing
 * reject: -DBROKEN=4 -DDEATHS=0 a message is offered before it is written
 * reject: -DBROKEN=5 -DDEATHS=1 settling stores its word without comparing
 * reject: -DBROKEN=6 -DDEATHS=1 the slot of a dead sender is freed while a receiver copies from it
 * reject: -DBROKEN=7 -DDEATHS=0 a receiver that lives is taken for dead
 */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* in all */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
#define SLOTS 2
#define PEOPLE (SENDERS + RECEIVERS)

#define FREE 0
#define FILLING 1
#define OFFERED 2
#define TAKING 3
#define TAKEN 4
#define LOST 5
#define WITHDRAWN 6
#define make(generation, kind, owner, taker) ((generation) << 9 | (taker) << 6 | (owner) << 3 | (kind))
#define kind_in(w) ((w) & 7)
#define owner_in(w) (((w) >> 3) & 7)
#define taker_in(w) (((w) >> 6) & 7)
#define generation_in(w) ((w) >> 9)
#define become(w, kind, owner, taker) make(generation_in(w), kind, owner, taker)

short word[SLOTS];
byte first_half[SLOTS], second_half[SLOTS]; /* of the message: its number in both */

/* What the kernel knows. */
bool dead[PEOPLE + 1];

/* What the checks know. */
byte deaths = DEATHS, next_message = 1, ended;
bool received[MESSAGES + 1], taken_back[MESSAGES + 1];
byte copying[SLOTS]; /* who reads the bytes just now */

/* Every change of shared memory: whoever makes it may die just before. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; dead[me] = true; goto died \
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

inline finish_taking() {
    compare_and_swap(i, mine, become(mine, TAKEN, owner_in(mine), 0));
    if
    :: BROKEN == 2 && !won -> word[i] = become(mine, TAKEN, owner_in(mine), 0); won = true
    :: else
    fi;
    if
    :: won ->
        assert(a == b && a != 0);
        assert(!received[a] && !taken_back[a]);
        received[a] = true
    :: else
    fi
}

inline claim_offer() {
    compare_and_swap(i, seen, mine);
    if
    :: won -> copying[i] = me
    :: else
    fi
}

inline take_back() {
    if
    :: kind_in(seen) == TAKING && BROKEN != 1 -> next = become(seen, WITHDRAWN, 0, taker_in(seen))
    :: else -> next = become(seen, FREE, 0, 0)
    fi;
    compare_and_swap(i, seen, next);
    if
    :: BROKEN == 3 && !won -> word[i] = next; won = true
    :: else
    fi;
    if
    :: won -> assert(!received[message]); taken_back[message] = true
    :: else
    fi;
    next = 0
}

proctype sender(byte me) {
    byte i, message;
    short seen, next, mine;
    bool won;
    do
    :: atomic { next_message <= MESSAGES -> message = next_message; next_message++ };
        i = 0;
        do
        :: i == SLOTS -> i = 0 /* all in use: as a sender that waits */
        :: i < SLOTS ->
            seen = word[i];
            if
            :: kind_in(seen) == FREE ->
                mine = make(generation_in(seen) + 1, (BROKEN == 4 -> OFFERED : FILLING), me, 0);
                shared(compare_and_swap(i, seen, mine));
                if
                :: won -> break
                :: else -> i++
                fi
            :: else -> i++
            fi
        od;
        shared(assert(copying[i] == 0); first_half[i] = message);
        shared(assert(copying[i] == 0); second_half[i] = message);
        if
        :: BROKEN != 4 ->
            shared(compare_and_swap(i, mine, become(mine, OFFERED, me, 0)));
            assert(won)
        :: else
        fi;
        do
        :: seen = word[i];
            if
            :: kind_in(seen) == TAKEN ->
                assert(received[message]);
                shared(word[i] = become(seen, FREE, 0, 0));
                break
            :: kind_in(seen) == LOST ->
                assert(!received[message]);
                shared(word[i] = become(seen, FREE, 0, 0));
                break
            :: kind_in(seen) == OFFERED || kind_in(seen) == TAKING ->
                if
                :: shared(take_back());
                    if
                    :: won -> break
                    :: else
                    fi
                :: word[i] != seen /* it waits on */
                fi
            :: else -> assert(false)
            fi
        od
    :: next_message > MESSAGES -> break
    od;
died:
    ended++
}

proctype receiver(byte me) {
    byte i, a, b;
    short seen, mine;
    bool won;
end:
    do
    :: kind_in(word[0]) == OFFERED || kind_in(word[1]) == OFFERED ->
        if
        :: i = 0
        :: i = 1
        fi;
        seen = word[i];
        if
        :: kind_in(seen) == OFFERED ->
            mine = become(seen, TAKING, owner_in(seen), me);
            shared(claim_offer());
            if
            :: won ->
                a = first_half[i];
                atomic { b = second_half[i]; copying[i] = 0 };
                shared(finish_taking());
                if
                :: !won ->
                    seen = word[i];
                    if
                    :: seen == become(mine, WITHDRAWN, 0, me) ->
                        shared(compare_and_swap(i, seen, become(seen, FREE, 0, 0)))
                    :: else -> assert(BROKEN != 0)
                    fi
                :: else
                fi
            :: else
            fi
        :: else
        fi;
        i = 0; a = 0; b = 0; seen = 0; mine = 0; won = false
    od;
died:
    ended++
}

#define names(w, who) (kind_in(w) != FREE && (owner_in(w) == who || taker_in(w) == who))

inline without(w, who) {
    if
    :: kind_in(w) == TAKING && owner_in(w) != who -> next = become(w, LOST, owner_in(w), 0)
    :: kind_in(w) == TAKING && owner_in(w) == who && BROKEN != 6 -> next = become(w, WITHDRAWN, 0, taker_in(w))
    :: else -> next = become(w, FREE, 0, 0)
    fi
}

proctype settler() {
    byte i, who;
    short seen, next;
    bool won, certified;
end:
    do
    :: d_step {
           (dead[1] && (names(word[0], 1) || names(word[1], 1))) -> who = 1
       }
    :: d_step {
           (dead[2] && (names(word[0], 2) || names(word[1], 2))) -> who = 2
       }
#if PEOPLE > 2
    :: d_step {
           (dead[3] && (names(word[0], 3) || names(word[1], 3))) -> who = 3
       }
#endif
#if PEOPLE > 3
    :: d_step {
           (dead[4] && (names(word[0], 4) || names(word[1], 4))) -> who = 4
       }
#endif
#if BROKEN == 5 || BROKEN == 7 /* he looks at slots of the living, too */
    :: who = PEOPLE
#endif
    od unless { who != 0 };
    i = 0;
    do
    :: i < SLOTS ->
        certified = dead[who];
        seen = word[i];
        if
        :: BROKEN != 7 -> certified = dead[who]
        :: else -> certified = true /* of an earlier look, which was wrong */
        fi;
        if
        :: certified && names(seen, who) ->
            without(seen, who);
            atomic {
                compare_and_swap(i, seen, next);
                if
                :: BROKEN == 5 && !won -> word[i] = next
                :: else
                fi
            }
        :: else
        fi;
        i++
    :: else -> break
    od;
    who = 0; i = 0; seen = 0; next = 0; won = false; certified = false;
    goto end
}

/* When nothing moves any more. */
proctype last_look() {
    timeout;
    assert(kind_in(word[0]) == FREE && kind_in(word[1]) == FREE)
}

init {
    byte who;
    atomic {
        for (who : 1 .. SENDERS) {
            run sender(who)
        }
        for (who : SENDERS + 1 .. PEOPLE) {
            run receiver(who)
        }
        run settler();
        run last_look()
    }
}
