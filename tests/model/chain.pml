/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chain of links (ring/chain.h): senders put links behind the tail when it is full, receivers close and
 * retire the links that are empty, and so do senders without room; whoever comes by gives the pages of a
 * retired range back, a settler takes over what the dead were building or closing. A link is a ring of one
 * slot; its own protocol is checked elsewhere (slots.pml).
 *
 * Claims: nobody touches a link whose pages are given back, or that has become another; pages are got and
 * given back by one at a time; each message comes once, and those of one sender in order. (That nothing leaks
 * is for api/unbounded_test.c and tests/stopkill to show.) Deaths are as many as said or fewer.
 *
 * pass: -DDEATHS=1 -DLAST=1
 * pass: -DDEATHS=2 -DMESSAGES=1
 * pass: -DDEATHS=0 -DLAST=1 -DRANGES=3
 * pass: -DDEATHS=0 -DMESSAGES=1 -DRECEIVERS=2
 * long: -DDEATHS=0
 * long: -DDEATHS=0 -DRANGES=3
 * long: -DDEATHS=1 -DLAST=1 -DRANGES=3
 * reject: -DBROKEN=1 -DDEATHS=0 a range is reclaimed without looking who is in
 * reject: -DBROKEN=2 -DDEATHS=0 a visitor looks at the range before he counts himself in
 * reject: -DBROKEN=3 -DDEATHS=0 a record behind a link in use is taken without a second look at that link
 * reject: -DBROKEN=4 -DDEATHS=0 a link is retired before its slot is closed
 * reject: -DBROKEN=5 -DDEATHS=0 -DRANGES=3 the tail is stored, not swapped
 * reject: -DBROKEN=6 -DDEATHS=0 -DRANGES=3 a link is taken for gone as the tail moved on between two looks
 * reject: -DBROKEN=7 -DDEATHS=0 a sender without room takes out a link that holds a record
 * reject: -DBROKEN=8 -DDEATHS=1 -DMESSAGES=1 a settler takes back a range that the tail names, without comparing
 * reject: -DBROKEN=9 -DDEATHS=1 -DLAST=1 a settler forgets the visits of the living, too
 * reject: -DBROKEN=10 -DDEATHS=1 a settler has the record received that a dead sender had not written
 */
#ifndef RANGES
#define RANGES 2
#endif
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 1
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* of each sender */
#endif
#ifndef LAST
#define LAST MESSAGES /* of the last sender */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef BROKEN
#define BROKEN 0
#endif
#define PEOPLE (SENDERS + RECEIVERS)
#define SETTLER (PEOPLE + 1)

/* A range: generation, owner, kind. */
#define FREE 0
#define BUILDING 1
#define LIVE 2
#define RETIRED 3
#define CLOSING 4
#define make(generation, owner, kind) ((generation) << 6 | (owner) << 3 | (kind))
#define kind_in(w) ((w) & 7)
#define owner_in(w) (((w) >> 3) & 7)
#define generation_in(w) ((w) >> 6)
#define tail_of(generation, range) ((generation) << 2 | (range))
#define range_in(t) ((t) & 3)
#define tail_generation(t) ((t) >> 2)

/* The slot of a link: lap, owner, state. */
#define EMPTY 0
#define WRITING 1
#define FULL 2
#define READING 3
#define CLOSED 4

short range[RANGES];
short tail;
short slot[RANGES];
byte message_in[RANGES];
byte visits[(SETTLER + 1) * RANGES];
#define inside(who, r) visits[(who) * RANGES + (r)]

/* What is so. */
bool pages[RANGES];
bool dead[SETTLER + 1];
byte deaths = DEATHS;
bool taken[SENDERS * MESSAGES + 1];

/* Senders that send the same are alike: if one dies, it is the first. */
#define may_die(me) (me != SETTLER && (DEATHS > 1 || LAST < MESSAGES || me == 1 || me > SENDERS))
#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 && may_die(me) -> deaths--; dead[me] = true; goto died \
        :: true -> change \
        fi \
    }

inline compare_and_swap(cell, expected, desired) {
    won = cell == (expected);
    if
    :: won -> cell = desired
    :: else
    fi
}

/* Every touch of a link's memory. */
#define touch(r) assert(pages[r] && (BROKEN == 5 || generation_in(range[r]) == g))

/* Goes into link (g, r); `in` says whether it is one. */
inline enter(r) {
    in = false; won = false;
    if
    :: BROKEN == 2 -> word = range[r]; shared(inside(me, r)++)
    :: BROKEN != 2 -> shared(inside(me, r)++); word = range[r]
    fi;
    if
    :: kind_in(word) == LIVE && generation_in(word) == g -> in = true
    :: kind_in(word) == BUILDING && generation_in(word) == g ->
        if
        :: tail == tail_of(g, r) -> shared(compare_and_swap(range[r], word, make(g, 0, LIVE)))
        :: else /* it may have moved on between the two looks */
        fi;
        if
        :: BROKEN != 6 || won -> in = (range[r] == make(g, 0, LIVE))
        :: else
        fi
    :: else
    fi;
    if
    :: !in -> shared(inside(me, r)--)
    :: else
    fi
}

inline give_pages_back(r, mine) {
    shared(assert(range[r] == mine && pages[r] || dead[owner_in(mine)]); pages[r] = false);
    shared(compare_and_swap(range[r], mine, make(generation_in(mine), 0, FREE)))
}

/* Reclaims retired ranges. */
inline reclaim() {
    r = 0;
    do
    :: r < RANGES ->
        word = range[r];
        if
        :: kind_in(word) == RETIRED ->
            i = 1;
            do
            :: i <= PEOPLE && (BROKEN == 1 || i == me || inside(i, r) == 0) -> i++ /* I am not inside */
            :: else -> break
            od;
            if
            :: i > PEOPLE ->
                mine = make(generation_in(word), me, CLOSING);
                shared(compare_and_swap(range[r], word, mine));
                if
                :: won -> give_pages_back(r, mine)
                :: else
                fi
            :: else
            fi
        :: else
        fi;
        r++; word = 0; mine = 0; won = false; i = 0
    :: else -> break
    od;
    r = 0
}

/* A sender without room takes out old links that are empty, as a receiver does. */
inline retire_empty() {
    r = 0;
    do
    :: r < RANGES ->
        word = range[r];
        g = generation_in(word);
        if
        :: kind_in(word) == LIVE && g < tail_generation(tail) ->
            enter(r);
            if
            :: in ->
                atomic { touch(r); w = slot[r] };
                won = ((w & 7) == CLOSED || BROKEN == 7);
                if
                :: (w & 7) == EMPTY -> shared(touch(r); compare_and_swap(slot[r], w, (w & ~63) | CLOSED))
                :: else
                fi;
                if
                :: won -> shared(compare_and_swap(range[r], make(g, 0, LIVE), make(g, 0, RETIRED)))
                :: else
                fi;
                shared(inside(me, r)--)
            :: else
            fi
        :: else
        fi;
        r++; g = 0; w = 0; word = 0; in = false; won = false
    :: else -> break
    od;
    r = 0
}

inline grow() {
    r = 0;
    do
    :: r < RANGES ->
        word = range[r];
        if
        :: kind_in(word) == FREE ->
            g = generation_in(word);
            g = (g > tail_generation(seen) -> g : tail_generation(seen)) + 1;
            mine = make(g, me, BUILDING);
            shared(compare_and_swap(range[r], word, mine));
            if
            :: won -> break
            :: else -> r++
            fi
        :: else -> r++
        fi
    :: else -> break
    od;
    if
    :: r < RANGES ->
        shared(assert(!pages[r]); pages[r] = true; slot[r] = EMPTY); /* nobody looks in between */
        if
        :: BROKEN == 5 -> shared(tail = tail_of(g, r); won = true)
        :: BROKEN != 5 -> shared(compare_and_swap(tail, seen, tail_of(g, r)))
        fi;
        if
        :: won -> shared(compare_and_swap(range[r], mine, make(g, 0, LIVE)))
        :: else -> give_pages_back(r, mine)
        fi
    :: else -> retire_empty(); reclaim()
    fi;
    mine = 0
}

proctype sender(byte me) {
    byte n, r, i;
    short seen, word, mine, g, w;
    bool won, in;
    do
    :: n < (me == SENDERS -> LAST : MESSAGES) ->
        do
        :: seen = tail;
            r = range_in(seen); g = tail_generation(seen);
            enter(r);
            won = false;
            if
            :: in ->
                atomic { touch(r); w = slot[r] };
                if
                :: (w & 7) == EMPTY ->
                    shared(touch(r); compare_and_swap(slot[r], w, (w & ~63) | me << 3 | WRITING));
                    if
                    :: won ->
                        w = (w & ~63) | me << 3 | WRITING;
                        shared(touch(r); assert(slot[r] == w); 
                               message_in[r] = (me - 1) * MESSAGES + n + 1; slot[r] = (w & ~63) | FULL)
                    :: else
                    fi
                :: else
                fi;
                shared(inside(me, r)--)
            :: else
            fi;
            w = 0; word = 0; in = false; /* so that states differ only in what matters */
            if
            :: won -> break
            :: !won && tail == seen -> grow()
            :: else
            fi;
            r = 0; g = 0; word = 0; seen = 0; won = false
        od;
        r = 0; g = 0; seen = 0; won = false;
        n++
    :: else -> break
    od;
died:
    n = 0; r = 0; i = 0; seen = 0; word = 0; mine = 0; g = 0; w = 0; won = false; in = false
}

inline note_taken(m) {
    assert(!taken[m]); /* a settler puts back what a dead receiver was at */
    assert(((m - 1) % MESSAGES == 0) || taken[m - 1]);
    taken[m] = true
}

/* One look at link (g, r): takes its message, or closes and retires it, or finds it in use. */
inline take_from(is_tail) {
    enter(r);
    if
    :: in ->
        atomic { touch(r); w = slot[r] };
        if
        :: (w & 7) == FULL ->
            if
            :: in_use && BROKEN != 3 ->
                /* The links before this one: is there a message by now? */
                i = 0;
                do
                :: i < RANGES && !again ->
                    if
                    :: old_g[i] != 0 ->
                        shared(inside(me, i)++);
                        if
                        :: range[i] == make(old_g[i], 0, LIVE) -> again = ((slot[i] & 7) == FULL)
                        :: else
                        fi;
                        shared(inside(me, i)--)
                    :: else
                    fi;
                    i++
                :: else -> break
                od;
                i = 0
            :: else
            fi;
            if
            :: !again ->
                shared(touch(r); compare_and_swap(slot[r], w, (w & ~63) + 64 | me << 3 | READING);
                       if
                       :: won -> note_taken(message_in[r])
                       :: else
                       fi);
                if
                :: won ->
                    w = (w & ~63) + 64 | me << 3 | READING;
                    shared(touch(r); assert(slot[r] == w); slot[r] = (w & ~63) | EMPTY);
                    again = true
                :: else -> again = true
                fi
            :: else
            fi
        :: (w & 7) == EMPTY && !is_tail && BROKEN != 4 ->
            shared(touch(r); compare_and_swap(slot[r], w, (w & ~63) | CLOSED));
            if
            :: won -> shared(compare_and_swap(range[r], make(g, 0, LIVE), make(g, 0, RETIRED)))
            :: else -> again = true
            fi
        :: (w & 7) == EMPTY && !is_tail && BROKEN == 4 ->
            shared(compare_and_swap(range[r], make(g, 0, LIVE), make(g, 0, RETIRED)))
        :: (w & 7) == CLOSED -> shared(compare_and_swap(range[r], make(g, 0, LIVE), make(g, 0, RETIRED)))
        :: else -> in_use = true; old_g[r] = g
        fi;
        shared(inside(me, r)--)
    :: else
    fi;
    w = 0; word = 0; won = false; in = false; i = 0
}

#define is_link(r) (kind_in(range[r]) == LIVE || \
                    (kind_in(range[r]) == BUILDING && tail == tail_of(generation_in(range[r]), r)))

proctype receiver(byte me) {
    byte i, r;
    short seen, word, mine, g, w, last;
    short old_g[RANGES]; /* the links that were found in use */
    bool won, in, in_use, again;
end:
    do
    :: (is_link(0) && (slot[0] & 7) != READING) || is_link(1) || kind_in(range[0]) == RETIRED ||
       kind_in(range[1]) == RETIRED ->
        last = 0; again = false; in_use = false;
        do
        :: !again ->
            /* The next link after `last`, as one step: the header makes the list consistent by a second look
             * at the tail. */
            d_step {
                g = 0; seen = tail; i = 0;
                do
                :: i < RANGES ->
                    if
                    :: is_link(i) && generation_in(range[i]) > last &&
                       (g == 0 || generation_in(range[i]) < g) ->
                        g = generation_in(range[i]); r = i
                    :: else
                    fi;
                    i++
                :: else -> break
                od
            };
            if
            :: g == 0 -> break
            :: else
            fi;
            last = g;
            take_from((g == tail_generation(seen)))
        :: else -> break
        od;
        reclaim();
        atomic {
            i = 0;
            do
            :: i < RANGES -> old_g[i] = 0; i++
            :: else -> break
            od
        };
        last = 0; again = false; in_use = false; g = 0; r = 0; w = 0; word = 0; mine = 0; seen = 0;
        won = false; in = false; i = 0
    od;
died:
    i = 0; r = 0; seen = 0; word = 0; mine = 0; g = 0; w = 0; last = 0; won = false; in = false;
    in_use = false; again = false
}

proctype settler() {
    byte i, r, who;
    byte me = SETTLER;
    short word, mine, w, g;
    bool won;
end:
    do
    :: d_step {
           (dead[1] || (PEOPLE > 1 && dead[2]) || (PEOPLE > 2 && dead[3])) ->
           if
           :: dead[1] -> who = 1
           :: !dead[1] && dead[2] -> who = 2
           :: else -> who = 3
           fi
       };
        r = 0;
        do
        :: r < RANGES ->
            word = range[r];
            g = generation_in(word);
            if
            :: owner_in(word) == who && kind_in(word) == BUILDING && tail == tail_of(g, r) && BROKEN != 8 ->
                shared(compare_and_swap(range[r], word, make(g, 0, LIVE)))
            :: owner_in(word) == who && kind_in(word) != FREE &&
               (tail != tail_of(g, r) || BROKEN == 8) ->
                mine = make(g + 1, SETTLER, CLOSING);
                if
                :: BROKEN == 8 -> shared(range[r] = mine; won = true)
                :: BROKEN != 8 -> shared(compare_and_swap(range[r], word, mine))
                fi;
                if
                :: won -> pages[r] = false; shared(compare_and_swap(range[r], mine, make(g + 1, 0, FREE)))
                :: else
                fi
            :: else
            fi;
            /* Its slot, if it is in this link. */
            atomic {
                if
                :: kind_in(range[r]) == LIVE && ((slot[r] >> 3) & 7) == who ->
                    if
                    :: (slot[r] & 7) == WRITING && BROKEN == 10 -> slot[r] = (slot[r] & ~63) | FULL
                    :: (slot[r] & 7) == WRITING && BROKEN != 10 -> slot[r] = (slot[r] & ~63) + 64 | EMPTY
                    :: (slot[r] & 7) == READING ->
                        slot[r] = (slot[r] & ~63) + 64 | FULL;
                        taken[message_in[r]] = false
                    :: else
                    fi
                :: else
                fi
            };
            r++
        :: else -> break
        od;
        atomic {
            r = 0;
            do
            :: r < RANGES ->
                inside(who, r) = 0;
                i = 1;
                do
                :: BROKEN == 9 && i <= PEOPLE -> inside(i, r) = 0; i++
                :: else -> break
                od;
                i = 0;
                r++
            :: else -> break
            od;
            dead[who] = false;
            who = 0; r = 0; word = 0; mine = 0; g = 0; won = false
        }
    od;
died:
    skip
}

init {
    byte who;
    atomic {
        range[0] = make(1, 0, LIVE);
        tail = tail_of(1, 0);
        pages[0] = true;
        for (who : 1 .. SENDERS) {
            run sender(who)
        }
        for (who : SENDERS + 1 .. PEOPLE) {
            run receiver(who)
        }
        run settler()
    }
}
