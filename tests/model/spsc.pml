/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SPSC ring (ring/spsc.h) with processes that die between any two stores.
 *
 * A ring of CAPACITY units. A record is one unit (a header with its bytes) or two (header, payload). The
 * header word is the flag: 0 means nothing here yet. Records are contiguous, so a pad may stand at the end
 * of a lap. A batch is staged behind its first header, which is withheld and stored last. Payloads look
 * like headers of older records: whoever takes stale bytes for a header delivers a wrong number and fails.
 *
 * Any process may die before any shared store and come back under the same number once no role word names
 * it. Role words are claimed by compare-and-swap and taken over from the dead: find, certify, settle.
 *
 * Claims: records come in order, each whole, none lost, none released twice, none before it is committed;
 * "empty" is true when it is said; one live process per role; a record that was handed out before comes
 * again only with the flag; nobody waits beside work that could be done.
 *
 * pass: -DMESSAGES=4 -DDEATHS=2 -DLEAVES=1
 * pass: -DPRODUCERS=2 -DMESSAGES=3 -DDEATHS=2
 * pass: -DCONSUMERS=2 -DMESSAGES=2 -DDEATHS=2 -DLEAVES=1
 * pass: -DPRODUCERS=3 -DMESSAGES=2 -DBATCH=1 -DDEATHS=1
 * long: -DMESSAGES=6 -DDEATHS=2 -DLEAVES=1
 * long: -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=2 -DLEAVES=1
 * long: -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=3 -DBATCH=1 -DDEATHS=2
 * long: -DPRODUCERS=3 -DMESSAGES=2 -DBATCH=1 -DDEATHS=3
 * long: -DMESSAGES=7 -DDEATHS=4 -DLEAVES=2 -DCAPACITY=6 -DBATCH=3
 * reject: -DBROKEN=1 the next header is not zeroed: bytes of an older lap pass for a header
 * reject: -DBROKEN=2 own header first, the next one zeroed after it
 * reject: -DBROKEN=3 a batch stores its first header first
 * reject: -DBROKEN=4 the successor of a producer starts at read_pos instead of walking to the zero header
 * reject: -DBROKEN=5 room is counted without the next header, so that zeroing it destroys the oldest record
 * reject: -DBROKEN=6 -DPRODUCERS=3 -DMESSAGES=2 -DBATCH=1 a role word recurs: a late settler evicts
 * reject: -DBROKEN=7 read_pos is stored when a record is handed out, not when it is released
 * reject: -DBROKEN=8 -DLEAVES=1 a consumer that took over and leaves at once drops the warning
 * reject: -DBROKEN=9 the zero behind a pad and its record is stored behind the pad only
 * reject: -DBROKEN=10 room is counted without the pad
 * reject: -DBROKEN=11 the consumer writes the header back after it has released the record
 */
#ifndef CAPACITY
#define CAPACITY 4
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef LEAVES
#define LEAVES 0
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

#define MAX_HELD 2
#define PRODUCER 0
#define CONSUMER 1
#define PROCESSES (PRODUCERS + CONSUMERS)

#define PAD 1
#define header(id, size) ((id) * 4 + (size))
#define payload(id) header(id, 1)
#define id_of(word) ((word) >> 2)
#define unit(position) ((position) % CAPACITY)
#define to_end(position) (CAPACITY - unit(position))
#define step_of(word, position) ((word) == PAD -> to_end(position) : ((word) & 3))

/* Shared memory. */
byte cell[CAPACITY];
byte read_pos;
byte role_owner[2], role_epoch[2];
bool role_unclean[2];

/* What the checks know: not part of the algorithm. alive[] is the kernel's certificate. */
bool alive[PROCESSES + 1];
byte deaths = DEATHS, leaves = LEAVES;
byte committed, released;
bool handed_out[MESSAGES + 2];

/* Every change of shared memory: the process may die just before it. */
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; alive[me] = false; goto died \
        :: true -> change \
        fi \
    }

/* Compare-and-swap of a role word from (epoch, owner). Each change is a new epoch: the word never recurs. */
inline swap_role(role, new_owner, new_unclean) {
    won = role_owner[role] == owner && (BROKEN == 6 || role_epoch[role] == epoch);
    if
    :: won ->
        was_unclean = role_unclean[role];
        role_owner[role] = new_owner;
        role_unclean[role] = new_unclean;
        role_epoch[role]++;
        epoch = role_epoch[role];
        owner = new_owner
    :: else
    fi
}

/* Claims the role; settles it first when its owner is dead, certified after the load of the word. */
inline join(role) {
    do
    :: atomic { epoch = role_epoch[role]; owner = role_owner[role] };
        if
        :: owner == 0 ->
            shared(swap_role(role, me, false));
            if
            :: won -> break
            :: else
            fi
        :: owner != 0 && !alive[owner] -> shared(swap_role(role, 0, true))
        :: owner != 0 && alive[owner] -> (role_owner[role] != owner || !alive[owner])
        fi
    od;
    won = false
}

/* Comes back under the same number when no role word names it: a rival settled it, or a bystander does. */
inline come_back(role) {
    atomic {
        if
        :: role_owner[role] != me
        :: role_owner[role] == me ->
            role_owner[role] = 0;
            role_unclean[role] = true;
            role_epoch[role]++
        fi;
        alive[me] = true
    }
}

inline store_payload() {
    assert(role_owner[PRODUCER] == me);
    cell[unit(write_pos + 1)] = payload(committed + staged + 1)
}

/* Writes the next record behind what is staged. A pad, if there must be one, stands at `start`. */
inline stage() {
    atomic {
        start = write_pos;
        word = header(committed + staged + 1, size);
        write_pos = write_pos + pad
    };
    if
    :: size == 2 -> shared(store_payload())
    :: else
    fi;
    if
    :: pad > 0 -> shared(cell[unit(write_pos)] = word; word = PAD)
    :: else
    fi;
    if
    :: start == first_staged && BROKEN != 3 -> first_header = word
    :: else -> shared(cell[unit(start)] = word; first_header = (start == first_staged -> word : first_header))
    fi;
    atomic {
        zero_pos = write_pos + (BROKEN == 9 && pad > 0 -> 0 : size);
        write_pos = write_pos + size;
        staged++;
        start = 0; word = 0; size = 0; pad = 0; need = 0
    }
}

inline store_zero() {
    assert(role_owner[PRODUCER] == me);
    cell[unit(zero_pos)] = 0
}

/* The commit is this one store: the first header. */
inline store_first_header() {
    assert(role_owner[PRODUCER] == me);
    cell[unit(first_staged)] = first_header;
    committed = committed + staged;
    first_staged = write_pos;
    first_header = 0;
    staged = 0
}

inline publish() {
    if
    :: BROKEN != 1 && BROKEN != 2 -> shared(store_zero())
    :: else
    fi;
    shared(store_first_header());
    if
    :: BROKEN == 2 -> shared(store_zero())
    :: else
    fi;
    zero_pos = 0
}

/* To the zero header: the write position of the last producer, dead or gone. */
inline walk() {
    do
    :: BROKEN == 4 -> break
    :: else ->
        word = cell[unit(write_pos)];
        if
        :: word == 0 -> break
        :: else -> write_pos = write_pos + step_of(word, write_pos)
        fi
    od;
    word = 0
}

proctype producer(byte me) {
    byte write_pos, first_staged, first_header, limit, start, zero_pos, word, size, pad, need, staged;
    byte epoch, owner;
    bool won, was_unclean;
born:
    join(PRODUCER);
    atomic { was_unclean = false; write_pos = read_pos; limit = write_pos + CAPACITY };
    walk();
    first_staged = write_pos;
    do
    :: atomic { staged < BATCH && committed + staged < MESSAGES ->
            if
            :: size = 1
            :: size = 2
            fi;
            pad = (size > to_end(write_pos) -> to_end(write_pos) : 0);
            need = (BROKEN == 10 -> 0 : pad) + size + (BROKEN == 5 -> 0 : 1)
        };
        if
        :: limit - write_pos < need -> limit = read_pos + CAPACITY
        :: else
        fi;
        if
        :: limit - write_pos >= need -> stage()
        :: limit - write_pos < need && staged > 0 -> publish()
        :: limit - write_pos < need && staged == 0 -> (read_pos + CAPACITY != limit)
        fi
    :: staged > 0 -> publish()
    :: staged == 0 && committed == MESSAGES -> break
    od;
    shared(swap_role(PRODUCER, 0, false));
    goto done;
died:
    atomic {
        write_pos = 0; first_staged = 0; first_header = 0; limit = 0; start = 0; zero_pos = 0; word = 0;
        size = 0; pad = 0; need = 0; staged = 0; epoch = 0; owner = 0
    };
    come_back(PRODUCER);
    goto born;
done:
    skip
}

/* A check, not a step: the held records still stand as they were handed out. */
inline assert_held_intact() {
    at = read_pos; i = 0;
    do
    :: i < held ->
        word = cell[unit(at)];
        at = at + (word == PAD -> to_end(at) : 0);
        word = cell[unit(at)];
        assert(id_of(word) == released + i + 1);
        assert((word & 3) == 1 || cell[unit(at + 1)] == payload(released + i + 1));
        at = at + (word & 3);
        i++
    :: else -> break
    od;
    at = 0; i = 0; word = 0
}

/* Gives back `count` of the held records, the oldest first, by one store of the position behind them. */
inline release(count, position) {
    assert(role_owner[CONSUMER] == me);
    if
    :: BROKEN == 11 -> old_at = read_pos; old_word = cell[unit(read_pos)]
    :: else
    fi;
    if
    :: BROKEN != 7 -> assert_held_intact(); read_pos = position
    :: else
    fi;
    released = released + count;
    released_here = released_here + count;
    held = held - count;
    first_end = (held > 0 -> peek_pos : 0)
}

/* The consumer stores the header it holds once more, unchanged, so that the line migrates. */
inline own_line() {
    assert(role_owner[CONSUMER] == me);
    cell[unit(peek_pos)] = word
}

inline hand_out() {
    if
    :: BROKEN != 11 -> shared(own_line())
    :: else
    fi;
    atomic {
        assert(id_of(word) == released + held + 1 && id_of(word) <= committed);
        assert(!handed_out[id_of(word)] || (taken_over && released_here + held < MAX_HELD));
        handed_out[id_of(word)] = true;
        peek_pos = peek_pos + (word & 3);
        held++;
        first_end = (held == 1 -> peek_pos : first_end);
        word = 0;
        read_pos = (BROKEN == 7 -> peek_pos : read_pos)
    }
}

/* A dead consumer's records come again; the warning stays until as many as it may have held are released. */
#define leaves_unclean (held > 0 || (taken_over && released_here < MAX_HELD && BROKEN != 8))

proctype consumer(byte me) {
    byte peek_pos, first_end, word, held, released_here, at, i;
    byte epoch, owner;
    bool won, was_unclean, taken_over;
    byte old_at, old_word;    /* BROKEN == 11 only */
born:
    join(CONSUMER);
    atomic { taken_over = was_unclean; was_unclean = false; peek_pos = read_pos };
    do
    :: atomic { held < MAX_HELD ->
            word = cell[unit(peek_pos)];
            assert(word != 0 || committed == released + held)
        };
        if
        :: BROKEN == 11 && old_word != 0 -> shared(cell[unit(old_at)] = old_word; old_word = 0; old_at = 0)
        :: else
        fi;
        if
        :: word == 0 && held == 0 ->
            (cell[unit(peek_pos)] != 0 || released == MESSAGES);
            if
            :: released == MESSAGES -> break
            :: else
            fi
        :: word == 0 && held > 0 -> shared(release(held, peek_pos))
        :: word == PAD ->
            atomic { peek_pos = peek_pos + to_end(peek_pos); word = cell[unit(peek_pos)] };
            hand_out()
        :: else -> hand_out()
        fi
    :: held == 2 -> shared(release(1, first_end))
    :: held > 0 -> shared(release(held, peek_pos))
    :: atomic { leaves > 0 -> leaves-- }; break
    od;
    shared(swap_role(CONSUMER, 0, leaves_unclean));
    if
    :: released == MESSAGES -> goto done
    :: else -> goto again
    fi;
died:
    atomic {
        peek_pos = 0; first_end = 0; word = 0; held = 0; released_here = 0; taken_over = false;
        epoch = 0; owner = 0
    };
    come_back(CONSUMER);
again:
    atomic {
        peek_pos = 0; first_end = 0; word = 0; held = 0; released_here = 0; taken_over = false;
        was_unclean = false;
        goto born
    };
done:
    skip
}

/* When nothing moves any more: who lives has nothing left to do, and the ring holds what was committed. */
inline assert_end() {
    d_step {
        i = 1;
        do
        :: i <= PROCESSES ->
            live[PRODUCER] = live[PRODUCER] || (alive[i] && i <= PRODUCERS);
            live[CONSUMER] = live[CONSUMER] || (alive[i] && i > PRODUCERS);
            i++
        :: else -> break
        od;
        assert(!live[CONSUMER] || committed == released);
        assert(!live[CONSUMER] || !live[PRODUCER] || committed == MESSAGES);
        at = read_pos; i = released;
        do
        :: cell[unit(at)] == 0 -> break
        :: cell[unit(at)] == PAD -> at = at + to_end(at)
        :: else -> i++; assert(id_of(cell[unit(at)]) == i); at = at + (cell[unit(at)] & 3)
        od;
        assert(i == committed)
    }
}

init {
    byte i, at;
    bool live[2];
    atomic {
        i = 1;
        do
        :: i <= PRODUCERS -> alive[i] = true; run producer(i); i++
        :: i > PRODUCERS && i <= PROCESSES -> alive[i] = true; run consumer(i); i++
        :: else -> break
        od
    };
    timeout;
    assert_end()
}
