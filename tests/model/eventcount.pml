/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The futex event count: how a receiver sleeps beside a ring and a sender wakes it with one load when
 * nobody sleeps. (A sender that sleeps beside a full ring is the same with the parts exchanged.)
 *
 * The futex word: bit 0 = somebody sleeps or is about to; the bits above count the wake-ups.
 *
 *     receiver                                        sender
 *     try the ring: empty                             commit
 *     seen = word | 1 by fetch_or                     barrier
 *     barrier                                         load the word; bit 0 clear: done
 *     try the ring again                              compare-and-swap: word -> (word & ~1) + 2
 *     futex_wait(while word == seen, re-check time)   won: futex_wake(all)
 *
 * The barrier is the two-variable story "I store mine, then look at yours". The sender's commit goes
 * through a store buffer of one entry here, so that a missing barrier shows. Either the sender has a full
 * fence (or commits by a read-modify-write), or, with -DMEMBARRIER=1, the receiver empties everybody's
 * buffer and the sender pays nothing.
 *
 * A process may die before any change of shared memory; what its store buffer holds still arrives.
 *
 * Claim: no receiver sleeps for ever beside a committed message. Without deaths the bounded re-check is not
 * needed for that; with deaths it is, and suffices.
 *
 * pass: -DDEATHS=0 -DRECHECK=0
 * pass: -DDEATHS=0 -DRECHECK=0 -DMEMBARRIER=1
 * pass: -DDEATHS=2
 * pass: -DDEATHS=2 -DMEMBARRIER=1
 * pass: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DSENDERS=1 -DMESSAGES=3
 * long: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DSENDERS=2 -DMESSAGES=4
 * long: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DSENDERS=2 -DMESSAGES=4 -DMEMBARRIER=1
 * long: -DDEATHS=2 -DRECEIVERS=3 -DSENDERS=2 -DMESSAGES=4 -DMEMBARRIER=1
 * reject: -DBROKEN=1 -DDEATHS=1 -DRECHECK=0 no bounded re-check: a waker that dies strands a sleeper
 * reject: -DBROKEN=2 -DDEATHS=0 -DRECHECK=0 the ring is not tried again after arming
 * reject: -DBROKEN=3 -DDEATHS=0 -DRECHECK=0 no barrier: the sender looks before its commit is seen
 * reject: -DBROKEN=4 -DDEATHS=0 -DRECHECK=0 no count in the word: an old wait sleeps on a newer bit
 * reject: -DBROKEN=5 -DDEATHS=0 -DRECHECK=0 one sleeper is woken while the bit of all is cleared
 * reject: -DBROKEN=6 -DDEATHS=0 -DRECHECK=0 the sender looks at the word before it commits
 * reject: -DBROKEN=7 -DDEATHS=0 -DRECHECK=0 the wait does not compare the word
 * reject: -DBROKEN=8 -DDEATHS=0 -DRECHECK=0 -DMEMBARRIER=1 the barrier stands before arming
 */
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef RECHECK
#define RECHECK 1
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef MEMBARRIER
#define MEMBARRIER 0
#endif
#define SENDER_FENCES (!MEMBARRIER && BROKEN != 3)

/* Shared memory: committed messages in the ring, and the futex word. */
byte ring;
bool armed;
byte wakes;

/* The machine: each sender's store buffer, and who is on the kernel's queue. */
bool buffered[SENDERS];
bool asleep[RECEIVERS];

/* What the checks know. */
byte deaths = DEATHS, unsent = MESSAGES;
byte idle_rechecks = RECHECK;

/* Every change of shared memory: the process may die just before it. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; goto died \
        :: true -> change \
        fi \
    }

inline drain(who) {
    ring = ring + (buffered[who] -> 1 : 0);
    buffered[who] = false
}

/* The processor empties the store buffers when it likes, also those of the dead. */
active proctype processor() {
    byte i;
    do
    :: atomic { buffered[0] -> drain(0) }
    :: atomic { buffered[SENDERS - 1] -> drain(SENDERS - 1) }
    od
}

/* Runs a full fence on every processor, ours included. */
inline membarrier() {
    if
    :: MEMBARRIER -> atomic { drain(0); drain(SENDERS - 1) }
    :: else
    fi
}

inline try_ring() {
    shared(got = ring > 0; ring = ring - (got -> 1 : 0))
}

inline arm() {
    seen = wakes;
    armed = true
}

inline futex_wait() {
    asleep[me] = BROKEN == 7 || (armed && (wakes == seen || BROKEN == 4))
}

/* Takes one message and goes. */
proctype receiver(byte me) {
    byte seen;
    bool got;
    do
    :: try_ring();
        if
        :: got -> break
        :: else
        fi;
        if
        :: BROKEN == 8 -> membarrier()
        :: else
        fi;
        shared(arm());
        if
        :: BROKEN != 8 -> membarrier()
        :: else
        fi;
        if
        :: BROKEN != 2 -> try_ring()
        :: else
        fi;
        if
        :: got -> break
        :: else
        fi;
        shared(futex_wait());
        if
        :: !asleep[me]
        :: atomic { asleep[me] && RECHECK && ring > 0 -> asleep[me] = false }
        :: atomic { asleep[me] && idle_rechecks > 0 -> idle_rechecks--; asleep[me] = false }
        fi;
        seen = 0
    od;
died:
    seen = 0
}

/* Into the store buffer, which has to be empty: it has one entry. */
inline commit() {
    buffered[me] = true
}

inline look() {
    atomic { sleepers = armed; seen = wakes }
}

inline disarm() {
    won = armed && wakes == seen;
    armed = armed && !won;
    wakes = wakes + (won -> 1 : 0)
}

inline futex_wake() {
    i = 0;
    do
    :: i < RECEIVERS ->
        if
        :: asleep[i] ->
            asleep[i] = false;
            if
            :: BROKEN == 5 -> break
            :: else
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

proctype sender(byte me) {
    byte seen, i;
    bool sleepers, won;
    do
    :: atomic { unsent > 0 -> unsent-- };
        if
        :: BROKEN == 6 -> look()
        :: else
        fi;
        !buffered[me];
        shared(commit());
        if
        :: SENDER_FENCES -> !buffered[me]
        :: else
        fi;
        if
        :: BROKEN != 6 -> look()
        :: else
        fi;
        if
        :: sleepers -> shared(disarm())
        :: else
        fi;
        if
        :: won -> shared(futex_wake())
        :: else
        fi;
        atomic { sleepers = false; won = false; seen = 0 }
    :: unsent == 0 -> break
    od;
died:
    skip
}

/* When nothing moves any more: nobody sleeps beside a message. */
init {
    byte i;
    bool anybody;
    atomic {
        do
        :: i < RECEIVERS -> run receiver(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < SENDERS -> run sender(i); i++
        :: else -> break
        od;
        i = 0
    };
    timeout;
    d_step {
        do
        :: i < RECEIVERS -> anybody = anybody || asleep[i]; i++
        :: else -> break
        od;
        assert(!anybody || ring == 0)
    }
}
