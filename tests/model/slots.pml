/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MPMC slot ring (ring/mpmc.h): strict FIFO; a slot's word {lap, owner, kind} changed by one
 * compare-and-swap at a time, absent processes stepped over, the dead settled, their unreleased records
 * adopted.
 *
 * Producers send MESSAGES records each, consumers receive for ever, settlers settle whoever died. Before
 * any change of shared memory a process may die (DEATHS) or stop for ever (STOPS). ABORTS reservations are
 * given up. Patience is the scheduler's choice, so `late` needs no bit here. With -DPINNED=1 the last slot
 * is held from the lap before by a reader that never returns. A consumer that saw "empty" and a producer
 * that saw "full" wait until something changed (eventcount.pml tells how); so a cycle is a livelock: runs
 * with -DNP look for them.
 *
 * Claims: FIFO (whatever was committed before a send began is taken before that send's record); nothing is
 * lost, taken twice, or released twice; a record comes again only by adoption; "empty" is said only if no
 * committed record was there at some instant of the call; a commit never finds the ring full; the payload
 * is touched by the owner of the slot alone; every change moves a word forward (I1). When nothing moves any
 * more nobody who lives has work left, no slot names a dead owner, and what is not released stands in a
 * slot.
 *
 * pass: -DDEATHS=1 -DSTOPS=1 -DCONSUMERS=1
 * pass: -DSTOPS=1 -DHINTS=0
 * pass: -DDEATHS=2 -DPRODUCERS=1 -DSETTLERS=2
 * pass: -DDEATHS=1 -DSTOPS=1 -DPRODUCERS=1 -DMESSAGES=2
 * pass: -DSTOPS=1 -DABORTS=1 -DSLOTS=3 -DCONSUMERS=1
 * pass: -DSTOPS=1 -DPINNED=1 -DSLOTS=3 -DCONSUMERS=1
 * pass: -DDEATHS=1 -DSTOPS=1 -DPINNED=1 -DPRODUCERS=1 -DMESSAGES=3 -DCONSUMERS=1
 * pass: -DNP -DDEATHS=1 -DSTOPS=1 -DCONSUMERS=1
 * long: -DDEATHS=1 -DHINTS=0
 * long: -DDEATHS=1 -DSTOPS=1 -DHINTS=0
 * long: -DSTOPS=1
 * long: -DNP -DDEATHS=1 -DHINTS=0
 * long: -DDEATHS=1 -DSTOPS=1 -DABORTS=1 -DSLOTS=3 -DCONSUMERS=1
 * long: -DDEATHS=1 -DSTOPS=1 -DPRODUCERS=1 -DMESSAGES=3
 * long: -DDEATHS=2 -DPRODUCERS=1 -DMESSAGES=2 -DSETTLERS=2 -DHINTS=0
 * reject: -DBROKEN=1 -DDEATHS=1 a settled writer leaves its lap: the word comes back
 * reject: -DBROKEN=2 no second look at the word before "empty"
 * reject: -DBROKEN=3 -DNP -DCONSUMERS=1 -DDEATHS=1 -DSTOPS=1 looking further starts over at a passed position
 * reject: -DBROKEN=4 -DSTOPS=1 a receiver does not look beyond a writer
 * reject: -DBROKEN=5 -DCONSUMERS=1 -DPRODUCERS=1 -DMESSAGES=2 -DPINNED=1 -DSTOPS=1 steps without room beyond
 * reject: -DBROKEN=6 -DSLOTS=3 -DCONSUMERS=1 a commit that was stepped over commits in place at once
 * reject: -DBROKEN=7 -DSLOTS=3 -DCONSUMERS=1 -DPINNED=1 the sender's own stepped slot does not count as room
 * reject: -DBROKEN=8 -DCONSUMERS=1 -DMESSAGES=2 -DSETTLERS=2 -DDEATHS=1 settling does not compare
 * reject: -DBROKEN=9 -DPRODUCERS=1 -DDEATHS=1 settling gives READING back as EMPTY: the record is lost
 * reject: -DBROKEN=10 -DPRODUCERS=1 -DDEATHS=2 -DSETTLERS=2 orphans are announced only once
 * reject: -DBROKEN=11 -DPRODUCERS=3 -DCONSUMERS=1 the write hint is moved before the position is claimed
 * reject: -DBROKEN=12 the read hint is moved beyond the record before it is taken
 * reject: -DBROKEN=13 -DPRODUCERS=1 -DCONSUMERS=1 -DPINNED=1 -DMESSAGES=2 a sender waits for readers
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef SETTLERS
#define SETTLERS 1
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef PINNED
#define PINNED 0
#endif
#ifndef HINTS
#define HINTS 1
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

#define OWNERS (PRODUCERS + CONSUMERS)
#define ALL (OWNERS + SETTLERS)
#define RECORDS (PRODUCERS * MESSAGES)
#define STRANGER 15
#define MAX_LAP 12

/* A slot's word. The kinds stand in the order in which a word moves. */
#define READING 0
#define EMPTY 1
#define WRITING 2
#define FULL 3
#define make(lap, owner, kind) ((lap) << 6 | (owner) << 2 | (kind))
#define lap_in(w) ((w) >> 6)
#define owner_in(w) (((w) >> 2) & 15)
#define kind_in(w) ((w) & 3)
#define forward(w) (lap_in(w) * 4 + kind_in(w))
#define lap_of(position) ((position) / SLOTS)
#define slot(position) ((position) % SLOTS)

/* Shared memory. */
short word[SLOTS];
byte record[SLOTS];
byte write_pos, read_pos;
byte orphans;

/* What the checks know: not part of the algorithm. status[] is the kernel's certificate. */
#define LIVE 0
#define STOPPED 1
#define DEAD 2
#define SWEPT 3
#define DONE 4
byte status[ALL + 1];
byte deaths = DEATHS, stops = STOPS, aborts = ABORTS;
byte unsent = RECORDS;
bool committed[RECORDS + 1], taken[RECORDS + 1], released[RECORDS + 1];
byte before[RECORDS + 1];
byte waiting;
bool saw_empty[ALL + 1];

/* Every change of shared memory: the process may die or stop just before it. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; status[me] = DEAD; goto out \
        :: stops > 0 && me <= OWNERS -> stops--; status[me] = STOPPED; goto out \
        :: true -> change \
        fi \
    }

inline compare_and_swap(position, expected, desired) {
    won = word[slot(position)] == (expected);
    if
    :: won ->
        assert(BROKEN != 0 || forward(desired) > forward(expected));
        assert(lap_in(desired) < MAX_LAP);
        word[slot(position)] = desired
    :: else
    fi
}

#define step_over(position) compare_and_swap(position, seen, seen + make(1, 0, 0))

/* A hint moves forward only. It may lag: whoever could move it need not. */
inline move_hint(hint, position) {
    if
    :: atomic { HINTS && hint < position -> hint = position }
    :: true
    fi
}

/* How much all words have moved: it changes with every change. */
#if SLOTS == 2
#define moved (forward(word[0]) + forward(word[1]))
#else
#define moved (forward(word[0]) + forward(word[1]) + forward(word[2]))
#endif

/* ---- sender */

#define CLAIMED 0
#define PAST 1
#define NO_ROOM 2

#define my_place (j == mine && kind_in(beyond) == WRITING && owner_in(beyond) == me && BROKEN != 7)

/* Somebody is slow at t. With room beyond, t is stepped over; without, the ring is full if t is unchanged. */
inline step_sender() {
    room = BROKEN == 5;
    j = t + 1;
    do
    :: atomic { j < t + SLOTS && !room ->
            beyond = word[slot(j)];
            room = lap_in(beyond) == lap_of(j) && (kind_in(beyond) == EMPTY || my_place);
            if
            :: !room && lap_in(beyond) + 1 == lap_of(j) && kind_in(beyond) == FULL -> j = t + SLOTS
            :: else -> j++
            fi
        }
    :: atomic { else -> beyond = 0; j = 0 }; break
    od;
    if
    :: room && !(BROKEN == 13 && kind_in(seen) == READING) -> shared(step_over(t))
    :: else -> atomic { result = (word[slot(t)] == seen -> NO_ROOM : result) }
    fi;
    atomic { room = false; won = false }
}

/* Walks from t to the first unclaimed position and claims it; with mine != 0 only up to there. */
inline claim() {
    result = CLAIMED;
    do
    :: seen = word[slot(t)];
        if
        :: mine != 0 && t > mine -> result = PAST; break
        :: else
        fi;
        if
        :: lap_in(seen) > lap_of(t) || (lap_in(seen) == lap_of(t) && kind_in(seen) >= WRITING) ->
            t = (write_pos > t -> write_pos : t + 1)
        :: lap_in(seen) + 1 == lap_of(t) && kind_in(seen) == FULL -> result = NO_ROOM; break
        :: lap_in(seen) == lap_of(t) && kind_in(seen) == EMPTY ->
            if
            :: BROKEN == 11 -> move_hint(write_pos, t + 1)
            :: else
            fi;
            shared(compare_and_swap(t, seen, make(lap_of(t), me, WRITING)));
            if
            :: won -> t++; break
            :: else
            fi
        :: (lap_in(seen) == lap_of(t) && kind_in(seen) == READING) ||
           (lap_in(seen) + 1 == lap_of(t) && kind_in(seen) == WRITING) ->
            step_sender();
            if
            :: result == NO_ROOM -> break
            :: else
            fi
        :: else -> assert(false)
        fi
    od;
    atomic { won = false; seen = 0 };
    assert(result != NO_ROOM || mine == 0)
}

/* WRITING -> FULL at the lap of `position`, where the slot is mine. */
inline fill(position, id) {
    compare_and_swap(position, make(lap_of(position), me, WRITING), make(lap_of(position), 0, FULL));
    if
    :: won -> assert(!committed[id] && record[slot(position)] == id); committed[id] = true; waiting++
    :: else
    fi
}

/* WRITING(mine) -> EMPTY of the next lap. One step: it fails only when stepped over, and is tried again. */
inline give_up(position) {
    seen = word[slot(position)];
    assert(kind_in(seen) == WRITING && owner_in(seen) == me);
    word[slot(position)] = make(lap_in(seen) + 1, 0, EMPTY);
    seen = 0
}

inline write_record(position, id) {
    atomic {
        assert(kind_in(word[slot(position)]) == WRITING && owner_in(word[slot(position)]) == me);
        record[slot(position)] = id
    }
}

/* The commit found its slot stepped over: moves the record, or commits in place. */
inline recommit() {
    do
    :: atomic {
            seen = word[slot(old)];
            assert(kind_in(seen) == WRITING && owner_in(seen) == me);
            mine = lap_in(seen) * SLOTS + slot(old)
        };
        if
        :: BROKEN == 6 -> result = PAST
        :: else -> claim()
        fi;
        if
        :: result == PAST -> shared(fill(mine, id))
        :: else ->
            fresh = t - 1;
            write_record(fresh, record[slot(old)]);
            shared(fill(fresh, id));
            if
            :: won -> shared(give_up(old))
            :: else -> shared(give_up(fresh)); won = false
            fi;
            fresh = 0
        fi;
        if
        :: won -> break
        :: else
        fi
    od;
    mine = 0
}

/* The checks' view of a send that begins: all that is committed now must be taken before it. */
inline begin_send() {
    id = unsent;
    unsent--;
    h = 1;
    do
    :: h <= RECORDS -> before[id] = before[id] | (committed[h] << h); h++
    :: else -> break
    od;
    h = 0
}

proctype producer(byte me) {
    byte sent, id, t, mine, old, fresh, j, h, result, moved_then;
    short seen, beyond;
    bool won, room;
    do
    :: atomic { sent < MESSAGES -> begin_send() };
        do
        :: moved_then = moved;
            claim();
            if
            :: result == NO_ROOM -> atomic { moved != moved_then -> moved_then = 0 }
            :: result == CLAIMED ->
                moved_then = 0;
                move_hint(write_pos, t);
                old = t - 1;
                if
                :: atomic { aborts > 0 -> aborts-- }; shared(give_up(old))
                :: break
                fi
            fi
        od;
        write_record(old, id);
        shared(fill(old, id));
        if
        :: won
        :: else -> recommit()
        fi;
        atomic { won = false; id = 0; old = 0; result = 0; sent++ }
    :: sent == MESSAGES -> break
    od;
    status[me] = DONE;
out:
    skip
}

/* ---- receiver */

#define EMPTY_RING 1
#define TAKEN 2
#define ADOPTED 3

/* WRITING at h. Something later committed: step over it. Nothing, word unchanged: the ring is empty. */
#define careless (BROKEN == 2 || BROKEN == 4)

inline step_receiver() {
    found = false;
    j = h + 1;
    do
    :: atomic { j < h + SLOTS && !found ->
            beyond = word[slot(j)];
            found = lap_in(beyond) == lap_of(j) && kind_in(beyond) == FULL;
            again = again || (BROKEN == 3 && lap_in(beyond) > lap_of(j));
            if
            :: again || forward(beyond) < lap_of(j) * 4 + WRITING -> j = h + SLOTS
            :: else -> j++
            fi
        }
    :: atomic { else -> beyond = 0; j = 0 }; break
    od;
    if
    :: again -> again = false
    :: !again && found && BROKEN != 4 -> shared(step_over(h))
    :: else -> atomic { result = (word[slot(h)] == seen || careless -> EMPTY_RING : result) }
    fi;
    atomic { found = false; won = false }
}

/* The checks' view of a first delivery. */
inline note_taken(id) {
    assert(committed[id] && !taken[id]);
    i = 1;
    do
    :: i <= RECORDS -> assert(((before[id] >> i) & 1) == 0 || taken[i]); i++
    :: else -> break
    od;
    taken[id] = true;
    waiting--;
    i = 1;
    do
    :: i <= ALL -> saw_empty[i] = saw_empty[i] || waiting == 0; i++
    :: else -> break
    od;
    i = 0
}

inline take_full() {
    compare_and_swap(h, seen, make(lap_in(seen) + 1, me, READING));
    if
    :: won -> note_taken(record[slot(h)])
    :: else
    fi
}

/* Walks from h to the first committed record and takes it. */
inline take() {
    do
    :: seen = word[slot(h)];
        if
        :: lap_in(seen) == lap_of(h) && kind_in(seen) == FULL ->
            if
            :: BROKEN == 12 -> move_hint(read_pos, h + 2)
            :: else
            fi;
            shared(take_full());
            if
            :: won -> held = slot(h); h++; result = TAKEN
            :: else
            fi
        :: lap_in(seen) == lap_of(h) && kind_in(seen) == WRITING -> step_receiver()
        :: lap_in(seen) == lap_of(h) && kind_in(seen) < WRITING -> result = EMPTY_RING
        :: lap_in(seen) > lap_of(h) -> h = (read_pos > h -> read_pos : h + 1)
        :: else -> assert(BROKEN != 0)
        fi;
        if
        :: result != 0 -> break
        :: else
        fi
    od
}

/* Looks at every slot for a record that a dead receiver left; if none, not again before the next news. */
inline adopt() {
    i = 0;
    do
    :: i < SLOTS && result == 0 ->
        seen = word[i];
        if
        :: kind_in(seen) == READING && owner_in(seen) == 0 ->
            shared(compare_and_swap(i, seen, make(lap_in(seen) + 1, me, READING)));
            if
            :: won -> assert(taken[record[i]] && !released[record[i]]); held = i; result = ADOPTED
            :: else    /* stepped over, perhaps: the same slot again */
            fi
        :: else -> i++
        fi
    :: else -> break
    od;
    i = 0;
    if
    :: result == 0 -> orphans_seen = announced
    :: else
    fi
}

/* READING(mine) -> EMPTY of the lap it names by now. One step: it fails only when stepped over. */
inline release() {
    seen = word[held];
    assert(kind_in(seen) == READING && owner_in(seen) == me);
    assert(!released[record[held]]);
    released[record[held]] = true;
    word[held] = make(lap_in(seen), 0, EMPTY);
    seen = 0; held = 0
}

proctype consumer(byte me) {
    byte h, i, j, held, result, announced, orphans_seen;
    short seen, beyond;
    bool won, found, again;
    do
    :: atomic { saw_empty[me] = waiting == 0; announced = orphans };
        if
        :: announced != orphans_seen -> adopt()
        :: else
        fi;
        if
        :: result == 0 -> take()
        :: else
        fi;
        atomic { won = false; seen = 0; announced = 0 };
        if
        :: result == EMPTY_RING ->
            assert(saw_empty[me]);
            waiting > 0 || orphans != orphans_seen
        :: result == TAKEN -> move_hint(read_pos, h); shared(release())
        :: result == ADOPTED -> shared(release())
        fi;
        result = 0
    od;
out:
    skip
}

/* ---- settler */

inline settle_word() {
    if
    :: kind_in(seen) == WRITING -> desired = make(lap_in(seen) + (BROKEN == 1 -> 0 : 1), 0, EMPTY)
    :: kind_in(seen) == READING && BROKEN == 9 -> desired = make(lap_in(seen), 0, EMPTY)
    :: else -> desired = make(lap_in(seen) + 1, 0, READING)
    fi;
    if
    :: BROKEN == 8 -> won = true; word[i] = desired
    :: else -> compare_and_swap(i, seen, desired)
    fi;
    desired = 0
}

/* Owners are not reused here (see settle.pml), so one certificate holds for good. */
proctype settler(byte me) {
    byte i, owner;
    short seen, desired;
    bool won;
    do
    :: atomic {
            owner = 1;
            do
            :: owner <= OWNERS && status[owner] != DEAD -> owner++
            :: else -> break
            od
        };
        if
        :: owner > OWNERS ->
            status[1] == DEAD || status[2] == DEAD || status[OWNERS] == DEAD || status[OWNERS - 1] == DEAD
        :: else ->
            do
            :: i < SLOTS ->
                seen = word[i];
                if
                :: owner_in(seen) == owner ->
                    shared(settle_word());
                    if
                    :: won && kind_in(seen) == READING -> shared(orphans++)
                    :: else
                    fi
                :: else -> i++
                fi;
                atomic { won = false; seen = 0 }
            :: i == SLOTS -> break
            od;
            if
            :: BROKEN == 10
            :: else -> shared(orphans++)
            fi;
            atomic { status[owner] = SWEPT; i = 0 }
        fi
    od;
out:
    skip
}

/* ---- when nothing moves any more */

inline assert_end() {
    i = 1;
    do
    :: i <= ALL ->
        senders = senders || (i <= PRODUCERS && status[i] == LIVE);
        receivers = receivers || (i > PRODUCERS && i <= OWNERS && status[i] == LIVE);
        settlers = settlers || (i > OWNERS && status[i] == LIVE);
        i++
    :: else -> break
    od;
    assert(!receivers || waiting == 0);
    assert(!receivers || !senders);
    i = 0;
    do
    :: i < SLOTS ->
        owner = owner_in(word[i]);
        in_slot[record[i]] = in_slot[record[i]] || kind_in(word[i]) == FULL || kind_in(word[i]) == READING;
        assert(!settlers || owner == 0 || owner == STRANGER || status[owner] == STOPPED);
        assert(!settlers || !receivers || kind_in(word[i]) != READING || owner != 0);
        i++
    :: else -> break
    od;
    i = 1;
    do
    :: i <= RECORDS -> assert(!committed[i] || released[i] || in_slot[i]); i++
    :: else -> break
    od
}

init {
    byte i, owner;
    bool senders, receivers, settlers, in_slot[RECORDS + 1];
    atomic {
        do
        :: i < SLOTS - PINNED -> word[i] = make(0, 0, EMPTY); i++
        :: i >= SLOTS - PINNED && i < SLOTS -> word[i] = make(0, STRANGER, READING); i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= PRODUCERS -> run producer(i); i++
        :: i > PRODUCERS && i <= OWNERS -> run consumer(i); i++
        :: i > OWNERS && i <= ALL -> run settler(i); i++
        :: else -> break
        od;
        i = 0
    };
    timeout;
    d_step { assert_end() }
}
