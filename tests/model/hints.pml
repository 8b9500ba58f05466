/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hint of one level of a channel with priorities (channel/priority_kind.c). Below it lies a level that always has a
 * message. Memory is sequentially consistent: the two fences of the algorithm stand for that; variant 3 is what a
 * sender without its fence may do, variant 1 what a receiver without his.
 *
 *     sender                           receiver
 *     M commit                         hinted, or just being taken back: look into the ring; take what is there
 *     P set the hint if it is away     else take from the level below, and perhaps take the hint back:
 *     returned                         N hint away, "taken back by me" there   O look: something there: hint
 *                                      Q "taken back" away, if it is mine
 *     settler: hint, and "taken back" by the dead away, in one change; then the number is free, and may be reborn
 *
 * A process may die before any change of shared memory, or stop there for ever, which is the same but for settling:
 * STOPS of them are never settled.
 *
 * Claim: a receive that starts after a send has returned gives no message of the level below while that one is there.
 * And when all have come to rest, whatever was sent and not taken is hinted.
 *
 * pass: -DSTOPS=0
 * pass: -DSTOPS=1
 * pass: -DRECEIVERS=3 -DSENDERS=1 -DDEATHS=0 -DROUNDS=2
 * pass: -DSETTLERS=2 -DREBIRTHS=1 -DSENDERS=1 -DROUNDS=2
 * long: -DRECEIVERS=3 -DSENDERS=2 -DROUNDS=2
 * long: -DSETTLERS=2 -DREBIRTHS=1
 * reject: -DBROKEN=1 no second look into the ring
 * reject: -DBROKEN=2 nothing says that a hint is just being taken back
 * reject: -DBROKEN=3 the sender looks at the hint before it commits
 * reject: -DBROKEN=4 who settles does not set the hint
 * reject: -DBROKEN=5 -DRECEIVERS=3 "taken back" names nobody: a second one ends the first one's
 * reject: -DBROKEN=6 who settles sets the hint last
 * reject: -DBROKEN=7 "taken back" goes before the second look
 * reject: -DBROKEN=8 -DSETTLERS=2 -DREBIRTHS=1 -DSENDERS=1 -DROUNDS=2 who settles does it in two changes
 */
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef SETTLERS
#define SETTLERS 1
#endif
#ifndef REBIRTHS
#define REBIRTHS 0
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

/* Shared memory. A message is committed and taken once; the ring gives the first one. */
bool committed[SENDERS], taken[SENDERS];
bool hint;
byte taker; /* 0: nobody takes the hint back */

/* What the checks know. */
bool returned[SENDERS];
byte deaths = DEATHS, stops = STOPS, rebirths = REBIRTHS, members = RECEIVERS + SENDERS, resting;
byte dead; /* receiver to be settled */

#define THERE(i) (committed[i] && !taken[i])
#define ANY_THERE (THERE(0) || THERE(SENDERS - 1))

#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 && dead == 0 -> deaths--; dead = me; goto died \
        :: stops > 0 -> stops--; goto died \
        :: true -> change \
        fi \
    }

/* At the start of a receive: what must not be passed over while it is there. */
#define CERTAIN(i) (returned[i] && THERE(i))

proctype receiver(byte me) {
    byte round;
    bool must0, must1, look, found;
    for (round : 1 .. ROUNDS) {
        atomic { must0 = CERTAIN(0); must1 = CERTAIN(SENDERS - 1); look = hint || (BROKEN != 2 && taker != 0) }
        found = false;
        if
        :: look ->
            shared(
                if
                :: THERE(0) -> taken[0] = true; found = true
                :: !THERE(0) && THERE(SENDERS - 1) -> taken[SENDERS - 1] = true; found = true
                :: else
                fi)
        :: else
        fi;
        if
        :: !found -> atomic { assert(!(must0 && THERE(0)) && !(must1 && THERE(SENDERS - 1))); must0 = 0; must1 = 0 }
        :: else -> atomic { must0 = 0; must1 = 0 }
        fi;
        if
        :: look && !found -> /* N */
            shared(
                if
                :: hint && (taker == 0 || BROKEN == 5) -> hint = false; taker = me; look = true
                :: else -> look = false
                fi);
            if
            :: look && BROKEN == 7 -> shared(taker = 0)
            :: else
            fi;
            if
            :: look && BROKEN != 1 -> atomic { found = ANY_THERE }; /* O */
                if
                :: found -> shared(hint = true)
                :: else
                fi
            :: else
            fi;
            if
            :: look -> shared(taker = ((taker == me || BROKEN == 5) -> 0 : taker)) /* Q */
            :: else
            fi
        :: true
        fi;
        atomic { look = false; found = false }
    }
died:
    resting++
}

proctype sender(byte me; byte i) {
    bool away;
    if
    :: BROKEN == 3 -> away = !hint
    :: else
    fi;
    shared(committed[i] = true); /* M */
    if
    :: BROKEN != 3 -> away = !hint /* P */
    :: else
    fi;
    if
    :: away -> shared(hint = true)
    :: else
    fi;
    atomic { returned[i] = true; away = false }
died:
    resting++
}

proctype settler() {
    byte victim;
    do
    :: atomic { dead != 0 -> victim = dead };
        if
        :: BROKEN == 8 -> hint = true
        :: else
        fi;
        atomic {
            if
            :: BROKEN != 4 && BROKEN != 6 && BROKEN != 8 -> hint = true
            :: else
            fi;
            if
            :: taker == victim -> taker = 0
            :: else
            fi
        }
        if
        :: BROKEN == 6 -> hint = true
        :: else
        fi;
        atomic {
            if
            :: dead == victim && victim <= RECEIVERS && rebirths > 0 ->
                rebirths--; members++; run receiver(victim); dead = 0
            :: dead == victim && (victim > RECEIVERS || rebirths == 0) -> dead = 0
            :: else
            fi;
            victim = 0
        }
    :: atomic { resting == members && dead == 0 -> break }
    od;
    atomic {
        assert(hint || taker != 0 || !(CERTAIN(0) || CERTAIN(SENDERS - 1)))
    }
}

init {
    byte i;
    atomic {
        hint = true;
        for (i : 1 .. RECEIVERS) { run receiver(i) }
        for (i : 1 .. SENDERS) { run sender(RECEIVERS + i, i - 1) }
        for (i : 1 .. SETTLERS) { run settler() }
        i = 0
    }
}
