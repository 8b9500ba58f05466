/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reliable broadcast ring (ring/broadcast.h): how a sender that gives chunks away, receivers that join, receivers that are
 * evicted and settlers of the dead find each other, with a step between any two accesses.
 *
 * A ring of CAPACITY records, one unit each, in chunks of CHUNK. Record n stands in unit n mod CAPACITY: a header, which is
 * n + 1 when it is published and 0 where nothing is yet, and a payload. The sender announces `kept`, counts the cursors that
 * live, remembers them, and writes below min(kept, their positions) + CAPACITY; in between it looks at those it remembers only. A
 * receiver pins itself (position, life, look at kept again), reads header and payload, and with EVICTING looks at its life
 * again before it believes them. One receiver may die anywhere; then a settler frees the cursor, with a life it loaded before
 * the death was certain, and the place is born again. The sender may die anywhere but inside a record (that is spsc.pml's
 * question): its successor begins at the end, remembering nobody.
 *
 * Claims: what a receiver believes is the record it waits for, whole; received + missed = sent since it joined, and no
 * record comes twice; a live receiver that was not evicted misses nothing.
 *
 * pass: -DMESSAGES=6
 * pass: -DMESSAGES=5 -DEVICTING=1
 * pass: -DMESSAGES=5 -DRECEIVERS=1 -DDEATHS=1
 * pass: -DMESSAGES=5 -DRECEIVERS=1 -DEVICTING=1 -DDEATHS=1
 * pass: -DMESSAGES=5 -DRECEIVERS=1 -DEVICTING=1 -DSENDER_DEATHS=1
 * long: -DMESSAGES=6 -DEVICTING=1
 * long: -DMESSAGES=3 -DCAPACITY=2 -DCHUNK=1 -DDEATHS=1
 * long: -DMESSAGES=7 -DRECEIVERS=1 -DEVICTING=1 -DDEATHS=1
 * long: -DMESSAGES=2 -DCAPACITY=2 -DCHUNK=1 -DEVICTING=1 -DDEATHS=1
 * reject: -DBROKEN=1 the sender counts the cursors before it announces what it gives away
 * reject: -DBROKEN=2 a newcomer does not look at kept again
 * reject: -DBROKEN=3 -DEVICTING=1 an evicted receiver believes what it has read
 * reject: -DBROKEN=4 -DEVICTING=1 the sender writes on first and evicts afterwards
 * reject: -DBROKEN=5 -DRECEIVERS=1 -DDEATHS=1 a life recurs: a late settler frees the cursor of the next owner
 * reject: -DBROKEN=6 -DEVICTING=1 an evicted receiver goes to the oldest kept although its own position is still kept
 * reject: -DBROKEN=7 -DRECEIVERS=1 -DSENDER_DEATHS=1 the successor of a sender trusts kept and counts nobody
 */
#ifndef CAPACITY
#define CAPACITY 4
#endif
#ifndef CHUNK
#define CHUNK 2
#endif
#ifndef MESSAGES
#define MESSAGES 6
#endif
#ifndef EVICTING
#define EVICTING 0
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef SENDER_DEATHS
#define SENDER_DEATHS 0
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif

#define FREE 0
#define LIVE 1
#define EVICTED 2

byte header[CAPACITY], payload[CAPACITY];
byte kept;
byte life[RECEIVERS];  /* epoch * 4 + state */
byte position[RECEIVERS];
byte evictions = 2; /* or a life would grow without end */
byte deaths = DEATHS, sender_deaths = SENDER_DEATHS;
bool is_dead[RECEIVERS];
byte published; /* records; ghost */

inline count_listeners() {
    i = 0;
    do
    :: i < RECEIVERS -> known[i] = (life[i] % 4 == LIVE); i++
    :: else -> break
    od
}

/* limit = min(kept, positions of the known) + CAPACITY; who is slowest. */
inline look_at_cursors() {
    least = kept; slowest = RECEIVERS; i = 0;
    do
    :: i < RECEIVERS ->
        if
        :: known[i] ->
            seen = life[i];
            where = position[i];
            if
            :: seen % 4 == LIVE && where < least && where + CAPACITY >= limit ->
                least = where; slowest = i; slowest_life = seen
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    limit = least + CAPACITY
}

proctype Sender(byte n) {
    byte i, least, slowest, slowest_life, seen, where, wanted, limit = n + 1;
    bool known[RECEIVERS];

    if
    :: BROKEN == 7 -> limit = kept + CAPACITY
    :: else -> count_listeners()
    fi;
    do
    :: n == MESSAGES -> break
    :: n < MESSAGES && sender_deaths > 0 -> /* dies; its successor walks to the end */
        sender_deaths--;
        run Sender(n);
        break
    :: n < MESSAGES && n + 2 > limit ->
        wanted = (n + 2 > CAPACITY -> ((n + 2 - CAPACITY + CHUNK - 1) / CHUNK) * CHUNK : 0);
        if
        :: wanted > kept && BROKEN != 1 -> kept = wanted; count_listeners()
        :: wanted > kept && BROKEN == 1 -> count_listeners(); kept = wanted
        :: else
        fi;
        look_at_cursors();
        if
        :: n + 2 > limit && EVICTING && slowest < RECEIVERS && BROKEN != 4 && evictions > 0 ->
            if
            :: atomic { life[slowest] == slowest_life -> life[slowest] = slowest_life + EVICTED - LIVE; evictions-- }
            :: life[slowest] != slowest_life
            :: skip /* not yet due */
            fi
        :: n + 2 > limit && EVICTING && slowest < RECEIVERS && BROKEN == 4 -> limit = kept + CAPACITY
        :: n + 2 > limit && !EVICTING -> /* waits until somebody moves */
            (slowest == RECEIVERS || position[slowest] != where || life[slowest] != slowest_life || position[slowest] > least)
        :: else
        fi
    :: n < MESSAGES && n + 2 <= limit ->
        payload[n % CAPACITY] = n + 1;
        header[(n + 1) % CAPACITY] = 0;
        d_step { header[n % CAPACITY] = n + 1; published = n + 1 };
        n++;
        if
        :: BROKEN == 4 && slowest < RECEIVERS && life[slowest] == slowest_life && slowest_life % 4 == LIVE &&
           position[slowest] + CAPACITY < n + 1 ->
            life[slowest] = slowest_life + EVICTED - LIVE
        :: else
        fi
    od
}

/* Stays behind p, or the oldest kept. */
inline pin() {
    position[r] = p;
    atomic { mine = ((life[r] / 4) + (BROKEN == 5 -> 0 : 1)) * 4 + LIVE; life[r] = mine };
    do
    :: look = kept;
        if
        :: look <= p || BROKEN == 2 -> break
        :: else -> p = look; position[r] = p
        fi
    od
}

proctype Receiver(byte r) {
    byte p, mine, look, was, word, body, from, got, missed;
    bool died;

    p = kept;
    pin();
    from = p;
    do
    :: p == MESSAGES -> break
    :: p < MESSAGES && deaths > 0 && r == 0 -> died = true; atomic { deaths--; is_dead[r] = true }; break
    :: p < MESSAGES && (header[p % CAPACITY] != 0 || (EVICTING && life[r] != mine)) ->
        word = header[p % CAPACITY];
        body = payload[p % CAPACITY];
        if
        :: EVICTING && BROKEN != 3 && life[r] != mine -> /* evicted: what was read is not believed */
            was = p;
            if
            :: BROKEN == 6 -> p = kept
            :: else
            fi;
            pin();
            assert(p >= was);
            missed = missed + p - was
        :: else ->
            assert(word == 0 || word == p + 1);
            if
            :: word == p + 1 ->
                assert(body == p + 1);
                p++; got++;
                position[r] = p
            :: else
            fi
        fi
    od;
    if
    :: !died ->
        assert(from + got + missed == MESSAGES);
        assert(EVICTING || missed == 0)
    :: else
    fi
}

/* Loads the life, is certain of the death, frees; whoever frees lets the place be born again. Two of them, so that one may be late. */
proctype Settler(byte r) {
    byte old;
    bool mine;

    is_dead[r];
    old = life[r];
    is_dead[r]; /* the certificate, after the load; a settler that finds it alive goes home */
    atomic {
        mine = (life[r] == old && old % 4 != FREE);
        if
        :: mine -> life[r] = old - old % 4
        :: else
        fi
    };
    if
    :: mine && BROKEN != 5 -> is_dead[r] = false; run Receiver(r)
    :: mine && BROKEN == 5 ->
        if
        :: is_dead[r] -> is_dead[r] = false; run Receiver(r)
        :: else
        fi
    :: else
    fi
}

init {
    byte k;

    atomic {
        run Sender(0);
        run Receiver(0);
        if
        :: RECEIVERS > 1 -> run Receiver(1)
        :: else
        fi;
        if
        :: DEATHS > 0 -> run Settler(0); run Settler(0)
        :: else
        fi
    }
}
