/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleeping at a bell with a level: what sync/event.c and sync/strategy.h do for semaphores, eventfd, FIFO and mutex, and
 * polling its descriptor (noria_segment_arm in channel/waiting.c and the try in transport/wait.c around it).
 * The barrier between flag and look is eventcount.pml's; here memory is sequentially consistent.
 *
 *     receiver                                        sender
 *     seen = count                                    commit
 *     flag up, unless count moved                     flag down: done
 *     quiet: had = level; level = 0                   flag down and count + 1, in one step
 *     try the ring again; got and had: ring           ring: level = 1
 *     flag and count as they were?
 *         no: had: ring; again
 *     wait for the level, and leave it
 *
 *     poller: tries until it finds nothing, in each try:
 *     flag up (for the others, if it dies here)
 *     quiet: had = level; level = 0
 *     flag up
 *     try the ring again; got and had: ring
 *     nothing: wait for the level, and leave it
 *
 * Each receiver takes one message and goes, which is the worst it can do to the others. A process may die before any
 * change of shared memory.
 *
 * Claim: no receiver sleeps for ever beside a committed message. Without deaths the bounded re-check is not needed
 * for that; with deaths it is, and suffices.
 *
 * pass: -DDEATHS=0 -DRECHECK=0
 * pass: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DMESSAGES=3
 * pass: -DDEATHS=2
 * pass: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=1 -DPOLLERS=1
 * pass: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=0 -DPOLLERS=2
 * pass: -DDEATHS=2 -DRECEIVERS=1 -DPOLLERS=1
 * long: -DDEATHS=2 -DRECEIVERS=3 -DMESSAGES=3
 * long: -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=1 -DPOLLERS=2 -DMESSAGES=3
 * long: -DDEATHS=2 -DRECEIVERS=0 -DPOLLERS=2
 * reject: -DBROKEN=1 -DDEATHS=1 -DRECHECK=0 no bounded re-check: a waker that dies strands a sleeper
 * reject: -DBROKEN=2 -DDEATHS=0 -DRECHECK=0 who took a ring back and found a message does not ring again
 * reject: -DBROKEN=3 -DDEATHS=0 -DRECHECK=0 a sleeper takes the level with it
 * reject: -DBROKEN=4 -DDEATHS=0 -DRECHECK=0 the bell is rung before the flag is taken down
 * reject: -DBROKEN=5 -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DMESSAGES=3 who took a ring back and starts over does not ring again
 * reject: -DBROKEN=6 -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=3 -DMESSAGES=3 count and flag change in two steps
 * reject: -DBROKEN=7 -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=0 -DPOLLERS=2 a poller raises the flag before it takes the ring back, and not after
 * reject: -DBROKEN=8 -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=0 -DPOLLERS=2 a poller that took a ring back and found a message does not ring again
 * reject: -DBROKEN=9 -DDEATHS=0 -DRECHECK=0 -DRECEIVERS=0 -DPOLLERS=2 a poller takes the ring back after its look
 */
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef POLLERS
#define POLLERS 0
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

/* Shared memory: committed messages, the event word, the bell. */
byte ring, count;
bool flag, level;

/* What the checks know. */
bool asleep[RECEIVERS + POLLERS];
byte deaths = DEATHS, unsent = MESSAGES;

/* Every change of shared memory: the process may die just before it. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; goto died \
        :: true -> change \
        fi \
    }

inline try_ring() {
    shared(got = ring > 0; ring = ring - (got -> 1 : 0))
}

inline quiet() {
    shared(had = level; level = false)
}

proctype receiver(byte me) {
    byte seen;
    bool got, had, moved;
    do
    :: try_ring();
        if
        :: got -> break
        :: else
        fi;
        seen = count;
        shared(moved = count != seen; flag = flag || !moved);
        if
        :: moved -> atomic { seen = 0; moved = false }; goto again
        :: else
        fi;
        quiet();
        try_ring();
        if
        :: got && had && BROKEN != 2 -> shared(level = true)
        :: else
        fi;
        if
        :: got -> break
        :: else
        fi;
        moved = !(flag && count == seen);
        if
        :: moved && had && BROKEN != 5 -> shared(level = true)
        :: else
        fi;
        if
        :: moved -> atomic { seen = 0; moved = false; had = false }; goto again
        :: else
        fi;
        asleep[me] = true;
        if
        :: atomic { level -> asleep[me] = false; level = (BROKEN == 3 -> false : level) }
        :: atomic { RECHECK && ring > 0 -> asleep[me] = false }
        fi;
again:
        atomic { seen = 0; had = false }
    od;
died:
    asleep[me] = false
}

proctype poller(byte me) {
    bool got, had;
    do
    :: try_ring();
        if
        :: got -> break
        :: else
        fi;
        shared(flag = true);
        if
        :: BROKEN != 9 -> quiet()
        :: else
        fi;
        if
        :: BROKEN != 7 -> shared(flag = true)
        :: else
        fi;
        try_ring();
        if
        :: got && had && BROKEN != 8 ->
            shared(count = count + (flag -> 1 : 0); flag = false);
            shared(level = true)
        :: else
        fi;
        if
        :: got -> break
        :: else
        fi;
        if
        :: BROKEN == 9 -> quiet()
        :: else
        fi;
        asleep[me] = true;
        if
        :: atomic { level -> asleep[me] = false }
        :: atomic { RECHECK && ring > 0 -> asleep[me] = false }
        fi;
        had = false
    od;
died:
    asleep[me] = false
}

proctype sender() {
    bool sleepers;
    do
    :: atomic { unsent > 0 -> unsent-- };
        shared(ring++);
        sleepers = flag;
        if
        :: sleepers ->
            if
            :: BROKEN == 4 -> shared(level = true)
            :: else
            fi;
            if
            :: BROKEN == 6 -> shared(count++); shared(flag = false)
            :: else -> shared(sleepers = flag; count = count + (flag -> 1 : 0); flag = false)
            fi;
            if
            :: sleepers && BROKEN != 4 -> shared(level = true)
            :: else
            fi
        :: else
        fi;
        sleepers = false
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
        :: i >= RECEIVERS && i < RECEIVERS + POLLERS -> run poller(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < SENDERS -> run sender(); i++
        :: else -> break
        od;
        i = 0
    };
    timeout;
    d_step {
        do
        :: i < RECEIVERS + POLLERS -> anybody = anybody || asleep[i]; i++
        :: else -> break
        od;
        assert(!anybody || ring == 0)
    }
}
